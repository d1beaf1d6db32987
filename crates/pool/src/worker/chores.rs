//! What the pooler itself has done on connections, while their clients wait: settings are replayed, transactions begun anew,
//! what was left behind is looked up or cleared. Each is one simple query.

use std::fmt::Write as _;

use super::Worker;
use crate::backend::{Chore, ChoreKind, Unnamed};
use crate::client::State;
use crate::pairs::Pairs;
use crate::plan::SessionState;
use crate::relay::{opaque, query, settings};
use crate::session::{Failure, Resume};
use crate::sql::Touches;
use crate::stats::story::Mark;

/// Brings a connection into a transaction that has failed. The words are seen in the server's log.
const FAILED: &str = "BEGIN; ROLLBACK TO SAVEPOINT \"the connection of this transaction was lost\"";
/// Settings that others depend on: set last, reset first.
const IDENTITY: [&str; 2] = ["session_authorization", "role"];
/// What a session may leave behind, with how to find out: texts that come back where something is there.
const LEFT: [(&str, &str); 5] = [
    ("LISTEN", "EXISTS (SELECT FROM pg_catalog.pg_listening_channels())"),
    (
        "an advisory lock",
        "EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid())",
    ),
    (
        "a temporary table",
        "EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema() \
         AND relkind IN ('r', 'p', 'v', 'S', 'f'))",
    ),
    ("a cursor WITH HOLD", "EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)"),
    ("PREPARE", "EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)"),
];

impl Worker {
    /// Has something done. The connection is the chore's until it is answered.
    fn have_done(&mut self, server: usize, kind: ChoreKind, text: &str) {
        let backend = &mut self.servers[server].backend;
        backend.chore = Some(Chore { kind, error: None, row: Vec::new() });
        // The server drops its unnamed statement with each simple query.
        backend.unnamed = Unnamed::Nothing;
        self.send_server(server, &query(text));
    }

    /// Sets what the client has set, and resets what others had.
    pub(super) fn replay_settings(&mut self, at: usize, server: usize) {
        let wanted = self.clients[at].session.settings.clone();
        let found = self.servers[server].backend.settings.clone();
        self.groups[self.clients[at].group].shared.cells.shard(self.index).replays.inc();
        let text = replay_text(&found, &wanted);
        // From now on: a client that leaves before the answer is dealt with must not leave its settings to the next.
        self.servers[server].backend.settings = wanted;
        self.have_done(server, ChoreKind::Replay { before: found }, &text);
    }

    /// Brings a connection to where a transaction was that has lost its own.
    pub(super) fn resume(&mut self, server: usize, resume: Resume) {
        // One that has failed was counted when it did.
        self.servers[server].backend.turn.is_counted = resume == Resume::Failed;
        let text = match &resume {
            Resume::Begin(text) => String::from_utf8_lossy(text).into_owned(),
            Resume::Failed => FAILED.to_owned(),
        };
        self.have_done(server, ChoreKind::Begin { resume }, &text);
    }

    /// Looks up what a client's transaction has left behind.
    pub(super) fn ask(&mut self, at: usize, server: usize) {
        let turn = &mut self.servers[server].backend.turn;
        let mut names = std::mem::take(&mut turn.names);
        let is_all = turn.all_names;
        let session = &self.clients[at].session;
        if is_all || turn.touches.has(Touches::DISCARD) {
            names.extend(session.settings.iter().map(|(name, _)| name.to_owned()));
            names.sort_unstable();
            names.dedup();
        }
        let mut text = "SELECT pg_catalog.concat_ws(', '".to_owned();
        for (what, found) in LEFT {
            let _infallible = write!(text, ", CASE WHEN {found} THEN '{what}' END");
        }
        text.push(')');
        for name in &names {
            let _infallible = write!(text, ", pg_catalog.current_setting({}, true)", quoted(name));
        }
        self.have_done(server, ChoreKind::Ask { names }, &text);
    }

    /// Clears what a transaction has left behind.
    pub(super) fn clean(&mut self, server: usize) {
        let backend = &mut self.servers[server].backend;
        let mut touches = backend.turn.touches;
        if touches.has(Touches::OPAQUE) {
            // What it did is not seen.
            touches = touches | opaque() | settings();
            touches = touches.without(Touches::LOAD);
        }
        let mut text = String::new();
        if touches.has_any(settings() | Touches::DISCARD) {
            text.push_str("RESET SESSION AUTHORIZATION; RESET ALL; ");
            backend.settings = self.nothing.clone();
        }
        for (touch, cleared) in [
            (Touches::LISTEN, "UNLISTEN *; "),
            (Touches::LOCK, "SELECT pg_catalog.pg_advisory_unlock_all(); "),
            (Touches::TEMPORARY, "DISCARD TEMP; "),
            (Touches::HOLD, "CLOSE ALL; "),
        ] {
            if touches.has(touch) {
                text.push_str(cleared);
            }
        }
        if touches.has_any(Touches::PREPARE | Touches::EXECUTE | Touches::DISCARD) || backend.is_stale {
            text.push_str("DEALLOCATE ALL; ");
            backend.known.clear();
            backend.litter.clear();
            backend.is_stale = false;
        }
        if touches.has(Touches::LOAD) {
            // A library cannot be unloaded.
            backend.is_spoilt = true;
        }
        self.have_done(server, ChoreKind::Clean, &text);
    }

    /// Everything that a session can have is cleared.
    pub(super) fn reset(&mut self, server: usize) {
        let backend = &mut self.servers[server].backend;
        backend.settings = self.nothing.clone();
        backend.known.clear();
        backend.litter.clear();
        backend.is_stale = false;
        self.have_done(server, ChoreKind::Clean, "DISCARD ALL");
    }

    /// A transaction that its client has left is ended.
    pub(super) fn roll_back(&mut self, server: usize) {
        self.have_done(server, ChoreKind::Clean, "ROLLBACK");
    }

    /// Gives up prepared statements that are not what they were.
    pub(super) fn tidy(&mut self, server: usize) {
        let backend = &mut self.servers[server].backend;
        backend.known.clear();
        backend.litter.clear();
        backend.is_stale = false;
        self.have_done(server, ChoreKind::Clean, "DEALLOCATE ALL");
    }

    /// Gives back a connection that nobody has, with what was prepared on it by accident given up first.
    pub(super) fn put_back(&mut self, server: usize) {
        let backend = &self.servers[server].backend;
        match backend.is_stale || !backend.litter.is_empty() {
            true => self.tidy(server),
            false => self.put_free(server),
        }
    }

    /// After a failure that does not count: the server is brought to its `ReadyForQuery`.
    pub(super) fn rewind(&mut self, server: usize) {
        if std::mem::take(&mut self.servers[server].backend.owes_sync) {
            let mut sync = Vec::new();
            crate::wire::frontend::put_sync(&mut sync);
            self.send_server(server, &sync);
        }
    }

    /// The transaction of a connection's client begins anew at the same connection, with its statements prepared again.
    pub(super) fn begin_again(&mut self, server: usize) {
        let Some(at) = self.servers[server].client else { return };
        let backend = &mut self.servers[server].backend;
        let mut replay = std::mem::take(&mut backend.turn.replay);
        let unnamed = backend.turn.unnamed.take();
        let since = backend.turn.since;
        backend.turn.begin(since, unnamed.clone());
        let client = &mut self.clients[at];
        client.session.unnamed = unnamed;
        super::lost::forget_names(&mut client.session, &replay);
        replay.extend_from_slice(&client.pending);
        client.pending = replay;
        self.tidy(server);
    }

    /// Something that the pooler had done is done.
    pub(super) fn chore_done(&mut self, server: usize, chore: Chore) {
        let client = self.servers[server].client;
        match (chore.kind, client) {
            (ChoreKind::Clean, Some(at)) => self.cleaned_for(at, server, chore.error),
            (ChoreKind::Clean, None) | (_, None) => {
                let is_clean = chore.error.is_none() && self.servers[server].backend.status == b'I';
                match is_clean {
                    true => self.put_back(server),
                    false => self.close_server(server),
                }
            }
            (ChoreKind::Replay { before }, Some(at)) => match chore.error {
                None => {
                    let now = self.now;
                    let backend = &mut self.servers[server].backend;
                    backend.story.mark(now, Mark::Replayed(differing(&before, &backend.settings)));
                    self.prepare(at, server);
                }
                Some(error) => {
                    self.servers[server].backend.settings = before;
                    // Its statements must not run with other settings than it wants.
                    let message = format!("the session's settings could not be set: {}", error.message);
                    self.dismiss(at, &Failure { message, ..error });
                }
            },
            (ChoreKind::Begin { resume }, Some(at)) => {
                let status = self.servers[server].backend.status;
                match (resume, status) {
                    (Resume::Begin(_), b'T') => self.prepare(at, server),
                    (Resume::Failed, b'E') => {
                        self.servers[server].backend.turn.is_lost = true;
                        self.prepare(at, server);
                    }
                    _ => {
                        let failure = Failure::new("08006", "a transaction that lost its connection could not go on");
                        self.dismiss(at, &failure);
                    }
                }
            }
            (ChoreKind::Ask { names }, Some(at)) => self.answered(at, server, &names, chore.error, &chore.row),
        }
    }

    /// The connection of a client that is about to begin again is clean.
    fn cleaned_for(&mut self, at: usize, server: usize, error: Option<Failure>) {
        match error {
            None => self.prepare(at, server),
            Some(error) => self.dismiss(at, &error),
        }
    }

    /// What was left behind is known.
    fn answered(&mut self, at: usize, server: usize, names: &[String], error: Option<Failure>, row: &[Option<String>]) {
        if let Some(error) = error {
            let message = format!("what the session has set could not be looked up: {}", error.message);
            self.servers[server].backend.is_spoilt = true;
            self.dismiss(at, &Failure { message, ..error });
            return;
        }
        let group = self.clients[at].group;
        let state = self.groups[group].rule.session_state;
        let turn = &self.servers[server].backend.turn;
        let (touches, is_unseen) = (turn.touches, turn.is_unseen);
        let mut kept: Vec<&str> =
            row.first().and_then(Option::as_deref).filter(|s| !s.is_empty()).into_iter().collect();
        if touches.has(Touches::LOAD) {
            kept.push("LOAD");
        }
        if is_unseen {
            kept.push("set_config() of a name that is not in the text");
        }
        match state {
            SessionState::Pin => {
                let was = self.clients[at].session.pinned.as_deref().is_some_and(|p| p.contains("SET"));
                if touches.has_any(settings()) && !names.is_empty() || was && !touches.has(Touches::DISCARD) {
                    kept.push("SET");
                }
            }
            _ => self.note_settings(at, server, names, row),
        }
        let kept = kept.join(", ");
        if kept.is_empty() {
            self.unpin(at);
            self.release(at, server);
            return;
        }
        match self.pin(at, &kept) {
            Ok(()) => self.next_turn(at, server),
            Err(failure) => self.dismiss(at, &failure),
        }
    }

    /// Takes down what a client has set, as the server says it.
    fn note_settings(&mut self, at: usize, server: usize, names: &[String], row: &[Option<String>]) {
        if names.is_empty() {
            return;
        }
        let mut settings = Pairs::clone(&self.clients[at].session.settings);
        for (name, value) in names.iter().zip(row.iter().skip(1)) {
            match value {
                Some(value) => settings.set(name, value),
                None => settings.remove(name),
            }
        }
        let settings = self.interner.intern(settings);
        self.clients[at].session.settings = settings.clone();
        self.servers[server].backend.settings = settings;
    }

    /// Ends what a connection runs for a client that is gone, and closes it.
    pub(super) fn cancel_and_close(&mut self, server: usize) {
        let held = &self.servers[server];
        if !held.backend.replies.is_empty() {
            self.send_cancel(server, None);
        }
        self.close_server(server);
    }

    /// A client that is drained leaves when it has nothing under way.
    pub(super) fn leave_if_at_rest(&mut self, at: usize) {
        let client = &self.clients[at];
        if client.state == State::Idle && client.session.resume.is_none() && client.pending.is_empty() {
            self.leave(at);
        }
    }
}

/// How many settings differ.
fn differing(found: &Pairs, wanted: &Pairs) -> u32 {
    let set = wanted.iter().filter(|(name, value)| found.get(name) != Some(value)).count();
    let reset = found.iter().filter(|(name, _)| wanted.get(name).is_none()).count();
    u32::try_from(set + reset).unwrap_or(u32::MAX)
}

/// What brings a connection from one set of settings to another.
fn replay_text(found: &Pairs, wanted: &Pairs) -> String {
    let mut text = String::new();
    let is_identity = |name: &str| IDENTITY.contains(&name);
    let gone = |name: &str| wanted.get(name).is_none();
    let resets_identity = IDENTITY.iter().any(|name| found.get(name).is_some() && found.get(name) != wanted.get(name));
    if resets_identity {
        text.push_str("RESET SESSION AUTHORIZATION; RESET ROLE; ");
    }
    for (name, _) in found.iter().filter(|(name, _)| gone(name) && !is_identity(name)) {
        let _infallible = write!(text, "RESET {}; ", identifier(name));
    }
    let differs = |name: &str, value: &str| found.get(name) != Some(value);
    let plain = wanted.iter().filter(|(name, value)| !is_identity(name) && differs(name, value));
    let identity = IDENTITY.iter().filter_map(|name| Some((*name, wanted.get(name)?)));
    let identity = identity.filter(|(name, value)| resets_identity || differs(name, value));
    let set: Vec<String> = plain
        .chain(identity)
        .map(|(name, value)| format!("pg_catalog.set_config({}, {}, false)", quoted(name), quoted(value)))
        .collect();
    if !set.is_empty() {
        let _infallible = write!(text, "SELECT {}", set.join(", "));
    }
    text
}

/// A literal, whatever `standard_conforming_strings` is.
fn quoted(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    match doubled.contains('\\') {
        true => format!("E'{}'", doubled.replace('\\', "\\\\")),
        false => format!("'{doubled}'"),
    }
}

/// The name of a setting, with each part quoted.
fn identifier(name: &str) -> String {
    let parts: Vec<String> = name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(all: &[(&str, &str)]) -> Pairs {
        let mut pairs = Pairs::default();
        all.iter().for_each(|(name, value)| pairs.set(name, value));
        pairs
    }

    #[test]
    fn only_what_differs_is_replayed_and_who_one_is_comes_last() {
        let found = pairs(&[("role", "a"), ("work_mem", "4MB"), ("timezone", "UTC"), ("app.user", "7")]);
        let wanted = pairs(&[("role", "b"), ("timezone", "UTC"), ("search_path", "\"x\", public")]);
        assert_eq!(
            replay_text(&found, &wanted),
            "RESET SESSION AUTHORIZATION; RESET ROLE; RESET \"app\".\"user\"; RESET \"work_mem\"; \
             SELECT pg_catalog.set_config('search_path', '\"x\", public', false), \
             pg_catalog.set_config('role', 'b', false)"
        );
        assert_eq!(replay_text(&pairs(&[("a", "1")]), &pairs(&[])), "RESET \"a\"; ");
    }

    #[test]
    fn literals_hold_quotes_and_backslashes() {
        assert_eq!(quoted("it's"), "'it''s'");
        assert_eq!(quoted("a\\'b"), "E'a\\\\''b'");
        assert_eq!(identifier("a\"b.c"), "\"a\"\"b\".\"c\"");
    }
}
