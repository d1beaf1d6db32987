//! What commands come to, and how that is said.

use super::command::Command;
use super::show;
use super::table::{Column, Table, Type};
use crate::wire::backend::{put_command_complete, put_notice};

const HELP: &str = "
\tSHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION
\tSHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS
\tSHOW STATEMENTS
\tSHOW SOCKETS|ACTIVE_SOCKETS|LISTS|MEM|STATE
\tSHOW PEERS|PEER_POOLS|DNS_HOSTS|DNS_ZONES
\tRELOAD
\tPAUSE [<pool or database>]
\tRESUME [<pool or database>]
\tRECONNECT [<pool or database>]
\tKILL [<pool or database>]
\tKILL_CLIENT <client id>";

/// What came of a command.
#[derive(Debug)]
pub(super) enum Done {
    Rows(Table),
    /// Nothing but a tag, and perhaps a notice.
    Tag(&'static str, Option<&'static str>),
    Help,
    /// These pools are being paused.
    Pausing(Vec<String>),
}

/// What a command returns; nothing, if it returns no rows.
pub(super) fn columns(command: &Command) -> &'static [Column] {
    const ISOLATION: &[Column] = &[("transaction_isolation", Type::Text)];
    match command {
        Command::Show(shown) => show::columns(*shown),
        Command::Setting(name, _) => match *name {
            "client_encoding" => &[("client_encoding", Type::Text)],
            "default_transaction_isolation" => &[("default_transaction_isolation", Type::Text)],
            "standard_conforming_strings" => &[("standard_conforming_strings", Type::Text)],
            "datestyle" => &[("DateStyle", Type::Text)],
            "timezone" => &[("TimeZone", Type::Text)],
            _ => ISOLATION,
        },
        Command::SelectOne => &[("?column?", Type::Int4)],
        _ => &[],
    }
}

/// The tag of a command that returns rows.
pub(super) const fn rows_tag(command: &Command) -> &'static str {
    if matches!(command, Command::SelectOne) { "SELECT 1" } else { "SHOW" }
}

/// Appends what came of a command that returns no rows.
pub(super) fn put_done(done: &Done, out: &mut Vec<u8>) {
    match done {
        Done::Tag(tag, notice) => {
            if let Some(notice) = notice {
                put_notice(out, "NOTICE", "00000", notice, None, None);
            }
            put_command_complete(out, tag);
        }
        Done::Help => {
            put_notice(out, "NOTICE", "00000", "Console usage", Some(HELP), None);
            put_command_complete(out, "SHOW");
        }
        Done::Rows(_) | Done::Pausing(_) => {}
    }
}
