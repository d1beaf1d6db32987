//! The relay between a client and the connection that it has, sans I/O: [`up`] takes bytes of the client and makes those for
//! the server, [`down`] the other way. Most bytes pass as they are. What is understood is what has to be: where messages
//! end, which statements are prepared where, what answers what, and when a transaction is over.
//!
//! ```text
//! client                              server
//! Parse a "T"   ─► kept as a = T  ─►  Parse _ek7 "T", unless this connection has _ek7: then ParseComplete is made here
//! Bind a        ─► a is T         ─►  Bind _ek7, behind a Parse of it if this connection lacks it (its answer is swallowed)
//! Close a       ─► forgotten          CloseComplete is made here; _ek7 stays for others
//! Parse "" "T"  ─► remembered     ─►  Parse "" "T"; again before a Bind "" at another connection
//! ```
//! What is made here is told in its turn: each message that was sent, or answered here, has an entry in the list of
//! replies, and an entry that is answered here is told when those before it have been. After an error the server passes
//! over everything until Sync, and so do the entries up to it.
//!
//! Limits: a Parse of [`up::PARSE_MAX`] bytes; a simple query is looked through up to [`up::QUERY_MAX`] bytes; names of
//! [`up::NAMES_MAX`] bytes; [`crate::backend::MAX_REPLIES`] messages under way. Source of the semantics: PostgreSQL's
//! documentation of the protocol, and `PostgresMain`.

pub(crate) mod down;
pub(crate) mod tell;
pub(crate) mod up;

#[cfg(test)]
mod tests;

use kernel::Moment;

use crate::plan::SessionState;
use crate::session::Failure;
use crate::sql::Touches;
use crate::statements::Statements;
use crate::stats::{Failure as Counted, GroupCells, StatementTable};
use crate::wire::frontend;

/// What the relay needs beside the two ends.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// All prepared statements.
    pub(crate) statements: &'a Statements,
    /// Where statements are counted.
    pub(crate) table: &'a mut StatementTable,
    /// As whose.
    pub(crate) group: u32,
    /// Where all else is counted.
    pub(crate) cells: &'a GroupCells,
    /// The time.
    pub(crate) now: Moment,
    /// What becomes of the session's state.
    pub(crate) session_state: SessionState,
    /// Whether transactions of several statements are refused.
    pub(crate) is_statement_mode: bool,
    /// Whether nothing is rewritten or watched: the client has the connection until it leaves.
    pub(crate) is_session_mode: bool,
    /// Whether another client may be pinned.
    pub(crate) may_pin: bool,
    /// Most prepared statements at the connection.
    pub(crate) max_prepared: usize,
    /// Whether a statement was refused because too many clients keep their connections.
    pub(crate) was_pinned_out: bool,
}

/// State that cannot follow a client to another connection.
pub(crate) fn opaque() -> Touches {
    Touches::LISTEN | Touches::LOCK | Touches::TEMPORARY | Touches::HOLD | Touches::PREPARE | Touches::LOAD
}

/// State that settings make.
pub(crate) fn settings() -> Touches {
    Touches::SET | Touches::SET_CONFIG
}

/// Why a statement is refused that touches its session so; `None`: it is not. What is refused is counted.
fn refusal(touches: Touches, context: &mut Context<'_>) -> Option<Failure> {
    let failure = why_refused(touches, context)?;
    context.cells.fail(Counted::RefusedState);
    context.was_pinned_out |= &*failure.sqlstate == "53400";
    Some(failure)
}

fn why_refused(touches: Touches, context: &Context<'_>) -> Option<Failure> {
    if context.is_statement_mode && touches.has(Touches::BEGIN) {
        return Some(
            Failure::new("25000", "transactions of several statements are not allowed in statement mode")
                .hint("use autocommit, or `mode = \"transaction\"` for this pool"),
        );
    }
    let (what, instead) = named(touches)?;
    match context.session_state {
        SessionState::Error => Some(
            Failure::new("0A000", format!("{what} outlives its transaction, which this pool refuses"))
                .hint(format!("{instead}, or choose another `session_state` for this pool")),
        ),
        _ if context.may_pin || !(touches.has_any(opaque()) || context.session_state == SessionState::Pin) => None,
        SessionState::Reset => None,
        SessionState::Track | SessionState::Pin => Some(
            Failure::new(
                "53400",
                format!("{what} would keep its connection, and `max_pinned` clients keep one already"),
            )
            .hint(format!("{instead}, or raise `max_pinned` or `size` of this pool")),
        ),
    }
}

/// The first kind of state that is left behind, and what can be done instead.
fn named(touches: Touches) -> Option<(&'static str, &'static str)> {
    const KINDS: [(Touches, &str, &str); 7] = [
        (Touches::LISTEN, "LISTEN", "listen on a direct connection"),
        (Touches::LOCK, "a session's advisory lock", "use pg_advisory_xact_lock()"),
        (Touches::TEMPORARY, "a temporary table", "use ON COMMIT DROP"),
        (Touches::HOLD, "a cursor WITH HOLD", "use a cursor within the transaction"),
        (Touches::PREPARE, "PREPARE", "use the driver's prepared statements"),
        (Touches::LOAD, "LOAD", "use session_preload_libraries"),
        (Touches::SET, "SET", "use SET LOCAL, or ALTER ROLE ... SET"),
    ];
    let config = (Touches::SET_CONFIG, "set_config()", "set it for the transaction (is_local = true)");
    KINDS.into_iter().chain([config]).find(|(kind, ..)| touches.has(*kind)).map(|(_, what, instead)| (what, instead))
}

/// What a client is told that commits a transaction which was lost with its connection.
fn lost() -> Failure {
    Failure::new("08006", "the transaction was lost with its connection, and is rolled back")
}

/// A statement that fails with this at the server, so that its transaction fails as any does.
fn failing(failure: &Failure) -> Vec<u8> {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let hint = failure.hint.as_ref().map(|hint| format!(", HINT = {}", quoted(hint))).unwrap_or_default();
    let body = format!(
        "BEGIN RAISE EXCEPTION USING ERRCODE = {}, MESSAGE = {}{hint}; END",
        quoted(&failure.sqlstate),
        quoted(&failure.message)
    );
    format!("DO $evenkeel$ {body} $evenkeel$").into_bytes()
}

/// A message of the pooler's own that asks or orders.
pub(crate) fn query(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 6);
    frontend::put_query(&mut out, text.as_bytes());
    out
}
