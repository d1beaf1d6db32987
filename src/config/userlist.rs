//! Users and verifiers as PgBouncer's `userlist.txt` has them: a user and a verifier in quotes on each line, a quote within
//! quotes doubled, whatever follows them passed over, `;` before a comment. Limits: what the caller reads; 100,000 users.

/// Most users of a file.
const MAX_USERS: usize = 100_000;

/// Why a text is no list of users. No part of it is repeated, for it may be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UsersError {
    /// A line is not as it should be.
    #[error("line {0} is not `\"user\" \"verifier\"`")]
    Line(usize),
    /// There are too many.
    #[error("it has more than {MAX_USERS} users")]
    TooMany,
}

/// Every user with its verifier, in the order of the text; of several with one name the first counts.
///
/// # Errors
/// The first line that is wrong.
pub(crate) fn users(text: &str) -> Result<Vec<(String, String)>, UsersError> {
    let mut users = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with(';') {
            continue;
        }
        let pair = quoted(line).and_then(|(user, rest)| Some((user, quoted(rest.trim_start())?.0)));
        match pair {
            Some((user, _)) if user.is_empty() => return Err(UsersError::Line(i + 1)),
            Some(_) if users.len() == MAX_USERS => return Err(UsersError::TooMany),
            Some(pair) => users.push(pair),
            None => return Err(UsersError::Line(i + 1)),
        }
    }
    Ok(users)
}

/// A text in quotes, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut value = String::new();
    loop {
        let end = rest.find('"')?;
        value.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                value.push('"');
                rest = after;
            }
            None => return Some((value, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read_with_doubled_quotes_comments_and_what_follows() {
        let text = "; comment\n\"a\" \"md5x\"\n\n  \"b \"\"c\"\"\"   \"SCRAM-SHA-256$4096:x\" \"more\"\n\"d\" \"\"\n";
        let read = users(text).unwrap();
        let expected = [("a", "md5x"), ("b \"c\"", "SCRAM-SHA-256$4096:x"), ("d", "")];
        assert_eq!(read, expected.map(|(user, verifier)| (user.to_owned(), verifier.to_owned())));
    }

    #[test]
    fn a_line_that_is_wrong_is_named_and_not_repeated() {
        for (text, line) in [("a b", 1), ("\"a\" \"x\"\n\"b\"", 2), ("\"a\" \"x", 1), ("\"\" \"x\"", 1)] {
            assert_eq!(users(text), Err(UsersError::Line(line)), "{text}");
        }
    }
}
