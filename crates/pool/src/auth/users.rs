//! A file of users, in the format of PgBouncer's `userlist.txt`: a line for each user, `"name" "verifier"`, a quote within
//! quotes doubled; whatever follows on the line is ignored, as are empty lines and lines that begin with `;` or `#`.
//!
//! Stricter than PgBouncer, which skips lines that it cannot read: here they are errors, since a user who is silently
//! missing is found at the worst of times. The file's size is bounded by who reads it.

/// What is wrong with a file of users.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsersError {
    /// A line is not two quoted words.
    #[error("line {line} is not a user and a verifier in double quotes: \"name\" \"verifier\"")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// A user's name is empty, or longer than PostgreSQL allows.
    #[error("line {line}: a user's name has 1 to 63 bytes")]
    Name {
        /// Counted from 1.
        line: usize,
    },
    /// A user is there twice.
    #[error("line {line}: user {user:?} is there twice")]
    Twice {
        /// Counted from 1.
        line: usize,
        /// Who.
        user: String,
    },
}

/// Longest name: `NAMEDATALEN - 1`.
const MOST_NAME: usize = 63;

/// Users and verifiers, in the order of the file.
///
/// # Errors
///
/// The first line that cannot be read.
pub fn users_file(text: &str) -> Result<Vec<(String, String)>, UsersError> {
    let mut users = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (at, content) in text.lines().enumerate() {
        let line = at + 1;
        let content = content.trim();
        if content.is_empty() || content.starts_with([';', '#']) {
            continue;
        }
        let (user, rest) = quoted(content).ok_or(UsersError::Line { line })?;
        let (verifier, rest) = quoted(rest.trim_start()).ok_or(UsersError::Line { line })?;
        if !(rest.is_empty() || rest.starts_with(char::is_whitespace)) {
            return Err(UsersError::Line { line });
        }
        if user.is_empty() || user.len() > MOST_NAME {
            return Err(UsersError::Name { line });
        }
        if !seen.insert(user.clone()) {
            return Err(UsersError::Twice { line, user });
        }
        users.push((user, verifier));
    }
    Ok(users)
}

/// A quoted word at the beginning, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut word = String::new();
    loop {
        let (before, after) = rest.split_once('"')?;
        word.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                word.push('"');
                rest = more;
            }
            None => return Some((word, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        users_file(text).unwrap()
    }

    #[test]
    fn lines_are_two_quoted_words() {
        let text =
            "; a comment\n\n\"ada\" \"secret\"\r\n# another\n  \"bob\"\t\"md5abc\" \"and\" more\n\"no\"\"one\" \"\"\n";
        let expected =
            [("ada", "secret"), ("bob", "md5abc"), ("no\"one", "")].map(|(user, v)| (user.to_owned(), v.to_owned()));
        assert_eq!(pairs(text), expected);
        assert_eq!(pairs("\"a\"\"\" \"b\"\"\""), [("a\"".to_owned(), "b\"".to_owned())]);
        assert_eq!(pairs(""), []);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_with_its_line() {
        for broken in ["ada secret", "\"ada\"", "\"ada\" secret", "\"ada\" \"secret", "\"ada\" \"s\"x", "\"a"] {
            let text = format!("\"ok\" \"ok\"\n{broken}\n");
            assert_eq!(users_file(&text), Err(UsersError::Line { line: 2 }), "{broken}");
        }
        assert_eq!(users_file("\"\" \"x\""), Err(UsersError::Name { line: 1 }));
        assert!(users_file(&format!("\"{}\" \"x\"", "a".repeat(63))).is_ok());
        assert_eq!(users_file(&format!("\"{}\" \"x\"", "a".repeat(64))), Err(UsersError::Name { line: 1 }));
        let twice = UsersError::Twice { line: 2, user: "a".into() };
        assert_eq!(users_file("\"a\" \"x\"\n\"a\" \"y\""), Err(twice));
    }
}
