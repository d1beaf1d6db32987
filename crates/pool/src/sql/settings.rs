//! Which settings a text changes for the rest of the session. A second pass, for texts of which [`Watch`](super::session::Watch)
//! has said that they change some.

use super::Settings;
use super::call::Call;
use super::lexer::{Class, Lexer, Token};
use super::session::is_of_transaction;

/// Most names that [`settings`] tells; a text with more is said to change others.
const NAMES_MAX: usize = 64;
/// Longest name that is told.
const NAME_MAX: usize = 255;
/// Tokens of `SET` that are looked at: a name of four parts behind `SESSION`.
const HEAD: usize = 10;

/// Which settings a text may change for the rest of the session.
pub(super) fn settings(text: &[u8]) -> Settings {
    let mut found = Settings::default();
    let mut lexer = Lexer::new(text);
    let mut head: Vec<Token> = Vec::with_capacity(HEAD);
    let (mut depth, mut has_update) = (0_u32, false);
    let mut call: Option<Call> = None;
    loop {
        let token = lexer.next();
        if let Some(ended) = call.as_mut().and_then(|call| call.token(text, &token)) {
            call = None;
            if let Some(called) = ended.filter(|called| !called.is_local) {
                found.add(called.name.and_then(|(start, end)| literal(&text[start..end])));
            }
        }
        match token.class {
            Class::Punct if token.key == u64::from(b'(') => depth += 1,
            Class::Punct if token.key == u64::from(b')') => depth = depth.saturating_sub(1),
            Class::Word | Class::Quoted => {
                let name = identifier(token.of(text)).unwrap_or_default();
                has_update |= name == "update";
                found.unknown |= has_update && name == "pg_settings";
                if name == "set_config" {
                    found.unknown |= call.is_some();
                    call.get_or_insert(Call::new());
                }
            }
            _ => {}
        }
        if token.class == Class::End || (token.is_punct(b';') && depth == 0) {
            statement(text, &head, &mut found);
            head.clear();
            has_update = false;
        } else if head.len() < HEAD && !(head.is_empty() && token.is_punct(b'(')) {
            head.push(token);
        }
        if token.class == Class::End {
            found.unknown |= lexer.is_doubtful();
            return found;
        }
    }
}

/// Adds what a statement changes, of which these are the first tokens.
fn statement(text: &[u8], head: &[Token], found: &mut Settings) {
    let is = |at: usize, word: &str| head.get(at).is_some_and(|token| token.is(text, word));
    let is_point = |at: usize| head.get(at).is_some_and(|token| token.is_punct(b'.'));
    let (is_set, is_reset) = (is(0, "set"), is(0, "reset"));
    if is(0, "discard") && is(1, "all") {
        found.all = true;
        ["role", "session_authorization"].into_iter().for_each(|name| found.add(Some(name.to_owned())));
    }
    if !is_set && !is_reset {
        return;
    }
    if is_reset && is(1, "all") && !is_point(2) {
        found.all = true;
        return;
    }
    if is_set && is(1, "local") && !is_point(2) {
        return;
    }
    let has_session = is_set && is(1, "session") && !is_point(2);
    // `SESSION` may be the first word of a name of two words.
    let at = if has_session && !is(2, "authorization") && !is(2, "characteristics") { 2 } else { 1 };
    let names: &[&str] = if is_point(at + 1) {
        &[]
    } else if is(at, "time") && is(at + 1, "zone") {
        &["timezone"]
    } else if is(at, "names") {
        &["client_encoding"]
    } else if is(at, "schema") {
        &["search_path"]
    } else if is(at, "xml") {
        &["xmloption"]
    } else if is(at, "session") && is(at + 1, "authorization") {
        &["session_authorization"]
    } else if is(at, "session") && is(at + 1, "characteristics") {
        &["default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable"]
    } else if is_set && head.get(at).is_some_and(|token| is_of_transaction(token.of(text))) {
        return;
    } else {
        &[]
    };
    if names.is_empty() {
        found.add(dotted(text, &head[at.min(head.len())..], head.len() == HEAD));
    }
    names.iter().for_each(|name| found.add(Some((*name).to_owned())));
}

/// A name of one or more parts at the start of `tokens`, in lower case; `is_cut`: there may be more of them.
fn dotted(text: &[u8], tokens: &[Token], is_cut: bool) -> Option<String> {
    let mut name = String::new();
    let mut at = 0;
    loop {
        let part = tokens.get(at).filter(|token| matches!(token.class, Class::Word | Class::Quoted))?;
        name.push_str(&identifier(part.of(text))?);
        match tokens.get(at + 1) {
            Some(token) if token.is_punct(b'.') => name.push('.'),
            None if is_cut => return None,
            _ => return Some(name.to_lowercase()),
        }
        at += 2;
    }
}

/// An identifier as PostgreSQL folds it; none if it has escapes or is not UTF-8.
pub(super) fn identifier(token: &[u8]) -> Option<String> {
    match token {
        [b'"', inner @ .., b'"'] => Some(std::str::from_utf8(inner).ok()?.replace("\"\"", "\"")),
        [b'"', ..] | [b'u' | b'U', b'&', ..] => None,
        word => Some(std::str::from_utf8(word).ok()?.to_ascii_lowercase()),
    }
}

/// The value of a string literal; none if it has escapes, goes on after a line break or is not UTF-8.
fn literal(token: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(token).ok()?;
    if let Some(inner) = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        let value = inner.replace("''", "\u{0}");
        return (!value.contains('\'')).then(|| value.replace('\u{0}', "'"));
    }
    let tag = text.strip_prefix('$')?.find('$')? + 2;
    text.get(tag..text.len().checked_sub(tag)?).map(str::to_owned)
}

impl Settings {
    /// Adds a name; none stands for one that cannot be told.
    fn add(&mut self, name: Option<String>) {
        match name.filter(|name| !name.is_empty() && name.len() <= NAME_MAX && self.names.len() < NAMES_MAX) {
            None => self.unknown = true,
            Some(name) => {
                let name = name.to_lowercase();
                if !self.names.contains(&name) {
                    self.names.push(name);
                }
            }
        }
    }
}
