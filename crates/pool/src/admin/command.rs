//! What an administrator may say, read into a [`Command`]: words, names in double quotes, texts in single ones, commands
//! apart by semicolons, comments as in SQL. Keywords in any case; names as they are written.
//!
//! A text has at most [`TEXT_MAX`] bytes. The words are PgBouncer's (its manual, 1.25), with `SHOW STATEMENTS`, and with
//! what drivers say of themselves: `BEGIN`, `COMMIT`, `SET`, `SELECT 1`.

/// Bytes of a text.
pub(super) const TEXT_MAX: usize = 16 * 1024;

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Show(Shown),
    /// `SHOW` of a setting that drivers ask for: its name and its value.
    Setting(&'static str, &'static str),
    Help,
    /// Everything, or a pool or database.
    Pause(Option<String>),
    Resume(Option<String>),
    Kill(Option<String>),
    Reconnect(Option<String>),
    KillClient(u64),
    Reload,
    /// `SET`, of this setting; `RESET` and `DISCARD`, of none.
    Set(&'static str, Option<String>),
    Begin,
    /// `COMMIT` or `ROLLBACK`.
    End(&'static str),
    SelectOne,
}

/// What there is to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Pools,
    Clients,
    Servers,
    Sockets,
    Stats,
    StatsTotals,
    StatsAverages,
    Totals,
    Databases,
    Config,
    Lists,
    Users,
    Version,
    Mem,
    State,
    Peers,
    PeerPools,
    DnsHosts,
    DnsZones,
    Statements,
}

/// Why something is not done, for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) sqlstate: &'static str,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Refusal {
    pub(super) fn new(sqlstate: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { sqlstate, message: message.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Refusal {
        self.hint = Some(hint.into());
        self
    }
}

const SHOWN: [(&str, Shown); 21] = [
    ("pools", Shown::Pools),
    ("clients", Shown::Clients),
    ("servers", Shown::Servers),
    ("sockets", Shown::Sockets),
    ("active_sockets", Shown::Sockets),
    ("stats", Shown::Stats),
    ("stats_totals", Shown::StatsTotals),
    ("stats_averages", Shown::StatsAverages),
    ("totals", Shown::Totals),
    ("databases", Shown::Databases),
    ("config", Shown::Config),
    ("lists", Shown::Lists),
    ("users", Shown::Users),
    ("version", Shown::Version),
    ("mem", Shown::Mem),
    ("state", Shown::State),
    ("peers", Shown::Peers),
    ("peer_pools", Shown::PeerPools),
    ("dns_hosts", Shown::DnsHosts),
    ("dns_zones", Shown::DnsZones),
    ("statements", Shown::Statements),
];

/// Settings that drivers ask for, and what holds here.
const SETTINGS: [(&str, &str); 6] = [
    ("client_encoding", "UTF8"),
    ("default_transaction_isolation", "read committed"),
    ("transaction_isolation", "read committed"),
    ("standard_conforming_strings", "on"),
    ("datestyle", "ISO"),
    ("timezone", "GMT"),
];

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A keyword or a name without quotes.
    Word(String),
    /// A name or a text in quotes.
    Quoted(String),
    Other(char),
}

/// The commands of a text, in order. Empty ones are not there.
pub(super) fn read(text: &[u8]) -> Result<Vec<Command>, Refusal> {
    if text.len() > TEXT_MAX {
        return Err(Refusal::new("54000", format!("a command has at most {TEXT_MAX} bytes")));
    }
    let text = std::str::from_utf8(text).map_err(|_| Refusal::new("22021", "the command is not UTF-8"))?;
    let tokens = tokens(text)?;
    tokens.split(|token| *token == Token::Other(';')).filter(|one| !one.is_empty()).map(command).collect()
}

fn tokens(text: &str) -> Result<Vec<Token>, Refusal> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            rest = rest.trim_start();
        } else if rest.starts_with("--") {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map(|(_, after)| after).ok_or_else(unfinished)?;
        } else if first == '"' || first == '\'' {
            let (token, after) = quoted(&rest[1..], first)?;
            tokens.push(Token::Quoted(token));
            rest = after;
        } else if is_word(first) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        } else {
            tokens.push(Token::Other(first));
            rest = &rest[first.len_utf8()..];
        }
    }
    Ok(tokens)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '$')
}

fn unfinished() -> Refusal {
    Refusal::new("42601", "the command ends within a quote or a comment")
}

/// What stands up to the closing quote, which stands for itself when it is doubled, and what comes behind.
fn quoted(text: &str, quote: char) -> Result<(String, &str), Refusal> {
    let mut inside = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once(quote).ok_or_else(unfinished)?;
        inside.push_str(before);
        match after.strip_prefix(quote) {
            Some(after) => {
                inside.push(quote);
                rest = after;
            }
            None => return Ok((inside, after)),
        }
    }
}

fn unknown(tokens: &[Token]) -> Refusal {
    let mut said = String::new();
    for token in tokens {
        if !said.is_empty() {
            said.push(' ');
        }
        match token {
            Token::Word(word) => said.push_str(word),
            // Perhaps a secret in the wrong window.
            Token::Quoted(_) => said.push('…'),
            Token::Other(other) => said.push(*other),
        }
    }
    said.truncate(said.floor_char_boundary(60));
    Refusal::new("42601", format!("unknown command: {said}")).hint("SHOW HELP lists what there is.")
}

fn command(tokens: &[Token]) -> Result<Command, Refusal> {
    let words: Vec<String> = tokens
        .iter()
        .map(|token| match token {
            Token::Word(word) => word.to_ascii_lowercase(),
            _ => String::new(),
        })
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let name = || match tokens {
        [_] => Ok(None),
        [_, Token::Word(name) | Token::Quoted(name)] => Ok(Some(name.clone())),
        _ => Err(unknown(tokens)),
    };
    Ok(match words.as_slice() {
        ["show", "help"] => Command::Help,
        ["show", "transaction", "isolation", "level"] => Command::Setting("transaction_isolation", "read committed"),
        ["show", "fds"] => {
            return Err(Refusal::new("0A000", "sockets are not given away here")
                .hint("The next process takes them over when it is started with --take-over."));
        }
        ["show", what] => {
            let shown = SHOWN.iter().find(|(name, _)| name == what).map(|(_, shown)| Command::Show(*shown));
            let setting = || SETTINGS.iter().find(|(n, _)| n == what).map(|(n, value)| Command::Setting(n, value));
            shown.or_else(setting).ok_or_else(|| unknown(tokens))?
        }
        ["pause", ..] => Command::Pause(name()?),
        ["resume", ..] => Command::Resume(name()?),
        ["kill", ..] => Command::Kill(name()?),
        ["reconnect", ..] => Command::Reconnect(name()?),
        ["kill_client", number] => {
            let number = number.parse();
            Command::KillClient(number.map_err(|_| Refusal::new("22023", "KILL_CLIENT takes the id of a client"))?)
        }
        ["reload"] => Command::Reload,
        ["set", "session" | "local", name, _, ..] | ["set", name, _, ..] if !name.is_empty() => {
            Command::Set("SET", Some((*name).to_owned()))
        }
        ["reset", _] => Command::Set("RESET", None),
        ["discard", "all"] => Command::Set("DISCARD ALL", None),
        ["begin", ..] | ["start", "transaction", ..] => Command::Begin,
        ["commit" | "end", ..] => Command::End("COMMIT"),
        ["rollback" | "abort"] => Command::End("ROLLBACK"),
        ["select", "1"] => Command::SelectOne,
        ["disable" | "enable", _] => {
            return Err(Refusal::new("0A000", "databases are not disabled one by one here")
                .hint("PAUSE holds a pool back; `databases` in the configuration says which may be asked for."));
        }
        ["suspend"] | ["shutdown", ..] | ["wait_close", ..] => {
            return Err(Refusal::new("0A000", format!("{} is not known here", words[0].to_ascii_uppercase())).hint(
                "A signal stops the process, and `evenkeel up --take-over` replaces it, without losing clients.",
            ));
        }
        _ => return Err(unknown(tokens)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Command {
        let mut all = read(text.as_bytes()).unwrap();
        assert_eq!(all.len(), 1, "{text}");
        all.remove(0)
    }

    #[test]
    fn commands_are_read() {
        assert_eq!(one("SHOW POOLS"), Command::Show(Shown::Pools));
        assert_eq!(one(" show\tpools ; "), Command::Show(Shown::Pools));
        assert_eq!(one("/* exporter */ SHOW stats_totals; -- that is all"), Command::Show(Shown::StatsTotals));
        assert_eq!(one("PAUSE"), Command::Pause(None));
        assert_eq!(one("pause Shop"), Command::Pause(Some("Shop".into())));
        assert_eq!(one("RESUME \"a \"\"b\"\" c\";"), Command::Resume(Some("a \"b\" c".into())));
        assert_eq!(one("KILL_CLIENT 17"), Command::KillClient(17));
        assert_eq!(one("SET application_name = 'it''s'"), Command::Set("SET", Some("application_name".into())));
        assert_eq!(one("set session extra_float_digits to 3"), Command::Set("SET", Some("extra_float_digits".into())));
        assert_eq!(one("SHOW client_encoding"), Command::Setting("client_encoding", "UTF8"));
        assert_eq!(one("BEGIN TRANSACTION READ ONLY"), Command::Begin);
        assert_eq!(read(b"show pools; show clients;;").unwrap().len(), 2);
        assert_eq!(read(b"").unwrap(), []);
        assert_eq!(read(b" ; ;").unwrap(), []);
    }

    #[test]
    fn what_is_not_known_is_refused_with_a_hint() {
        for text in ["SHOW", "SHOW BANANA", "DROP TABLE x", "PAUSE a b", "SHOW POOLS now", "SELECT 2", "=", "RELOAD x"]
        {
            let refusal = read(text.as_bytes()).unwrap_err();
            assert_eq!(refusal.sqlstate, "42601", "{text}");
            assert_eq!(refusal.hint.as_deref(), Some("SHOW HELP lists what there is."), "{text}");
        }
        assert_eq!(read(b"SHOW BANANA").unwrap_err().message, "unknown command: SHOW BANANA");
        assert_eq!(read(b"alter user a password 'p'").unwrap_err().message, "unknown command: alter user a password …");
        for (text, sqlstate) in [
            ("SHOW FDS", "0A000"),
            ("SUSPEND", "0A000"),
            ("DISABLE x", "0A000"),
            ("PAUSE \"x", "42601"),
            ("/* x", "42601"),
        ] {
            assert_eq!(read(text.as_bytes()).unwrap_err().sqlstate, sqlstate, "{text}");
        }
        assert_eq!(read(&[0xff]).unwrap_err().sqlstate, "22021");
        assert_eq!(read(&[b' '; TEXT_MAX]).unwrap(), []);
        assert_eq!(read(&[b' '; TEXT_MAX + 1]).unwrap_err().sqlstate, "54000");
    }
}
