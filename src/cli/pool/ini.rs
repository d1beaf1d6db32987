//! PgBouncer's configuration file: sections of `key = value`, comments that begin a line with `;` or `#`, keys in any case,
//! and databases and users whose values are connection strings of their own. Semantics are those of its manual
//! (pgbouncer.ini(5), 1.25). Limits: what the caller reads.

/// A file, in its own order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ini {
    /// `[pgbouncer]`: keys in lower case.
    pub(super) settings: Vec<(String, String)>,
    /// `[databases]`.
    pub(super) databases: Vec<Entry>,
    /// `[users]`.
    pub(super) users: Vec<Entry>,
    /// Whether there is anything in `[peers]`.
    pub(super) has_peers: bool,
}

/// A database or a user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    /// Its connection string: keys in lower case.
    pub(super) values: Vec<(String, String)>,
}

impl Entry {
    /// What it says for a key; the last one counts.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.values.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }
}

impl Ini {
    /// What `[pgbouncer]` says for a key; the last one counts.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.settings.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }
}

/// Reads a file.
///
/// # Errors
/// Every line that cannot be taken, in words.
pub(super) fn parse(text: &str) -> Result<Ini, Vec<String>> {
    let mut ini = Ini::default();
    let mut wrong = Vec::new();
    let mut section = String::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let outcome = match line.as_bytes().first() {
            None | Some(b';' | b'#') => Ok(()),
            Some(b'[') => match line[1..].strip_suffix(']') {
                Some(name) => {
                    section = name.trim().to_ascii_lowercase();
                    match section.as_str() {
                        "pgbouncer" | "databases" | "users" | "peers" => Ok(()),
                        _ => Err(format!("`[{section}]` is no section of PgBouncer")),
                    }
                }
                None => Err("a section is written `[name]`".to_owned()),
            },
            Some(b'%') => {
                Err("`%include` is not followed: put the content of that file in its place, and import the whole"
                    .to_owned())
            }
            Some(_) => item(&mut ini, &section, line),
        };
        if let Err(error) = outcome {
            wrong.push(format!("line {}: {error}", number + 1));
        }
    }
    if wrong.is_empty() { Ok(ini) } else { Err(wrong) }
}

fn item(ini: &mut Ini, section: &str, line: &str) -> Result<(), String> {
    let (name, rest) = name(line)?;
    let value = rest.trim_start().strip_prefix('=').ok_or("a setting is written `key = value`")?.trim();
    match section {
        "pgbouncer" => ini.settings.push((name.to_ascii_lowercase(), value.to_owned())),
        "databases" => ini.databases.push(Entry { values: pairs(value)?, name }),
        "users" => ini.users.push(Entry { values: pairs(value)?, name }),
        "peers" => ini.has_peers = true,
        _ => return Err("there is a setting before the first section".to_owned()),
    }
    Ok(())
}

/// A key, which may be in double quotes, and what follows it.
fn name(line: &str) -> Result<(String, &str), String> {
    match line.strip_prefix('"') {
        Some(quoted) => unquoted(quoted, '"').ok_or_else(|| "a name in quotes does not end".to_owned()),
        None => {
            let end = line.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(line.len());
            Ok((line[..end].to_owned(), &line[end..]))
        }
    }
}

/// `key=value` pairs, blanks between them; a value may be in single quotes.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or("a connection string is made of `key=value`")?;
        let after = after.trim_start();
        let (value, after) = match after.strip_prefix('\'') {
            Some(quoted) => unquoted(quoted, '\'').ok_or("a value in quotes does not end")?,
            None => {
                let end = after.find(char::is_whitespace).unwrap_or(after.len());
                (after[..end].to_owned(), &after[end..])
            }
        };
        pairs.push((key.trim().to_ascii_lowercase(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// What stands before the closing quote, doubled ones made single, and what follows.
fn unquoted(text: &str, quote: char) -> Option<(String, &str)> {
    let (mut value, mut rest) = (String::new(), text);
    loop {
        let (before, after) = rest.split_once(quote)?;
        value.push_str(before);
        match after.strip_prefix(quote) {
            Some(more) => {
                value.push(quote);
                rest = more;
            }
            None => return Some((value, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_comments_and_quotes_are_read() {
        let text = "; a comment\n[databases]\n\"my \"\"db\"\"\" = host=a port=1 password='it''s' \nb=\n[pgbouncer]\nPool_Mode = transaction\n# more\nlisten_port=6432\n[users]\nu = pool_mode=session\n[peers]\n1 = host=/tmp\n";
        let ini = parse(text).unwrap();
        assert_eq!(ini.databases[0].name, "my \"db\"");
        assert_eq!(ini.databases[0].get("password"), Some("it's"));
        assert_eq!((ini.databases[1].name.as_str(), ini.databases[1].values.len()), ("b", 0));
        assert_eq!((ini.get("pool_mode"), ini.get("listen_port")), (Some("transaction"), Some("6432")));
        assert_eq!((ini.users[0].get("pool_mode"), ini.has_peers), (Some("session"), true));
    }

    #[test]
    fn all_that_is_wrong_is_said_with_its_line() {
        let wrong =
            parse("x = 1\n[database]\n[pgbouncer]\n%include other.ini\nlisten\n[databases]\na = host\nb = host='x\n")
                .unwrap_err();
        let lines: Vec<&str> = wrong.iter().filter_map(|w| w.split_once(':')).map(|(line, _)| line).collect();
        assert_eq!(lines, ["line 1", "line 2", "line 4", "line 5", "line 7", "line 8"]);
        assert!(wrong[2].contains("put the content of that file in its place"), "{}", wrong[2]);
    }
}
