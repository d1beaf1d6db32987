//! The extended protocol, as drivers use it, and hostile messages.

use super::*;
use crate::admin::session::PREPARED_MAX;

/// Bind of the unnamed statement to the unnamed portal, with formats for the results.
fn put_bind(out: &mut Vec<u8>, formats: &[u16]) {
    let mut body = vec![0, 0, 0, 0, 0, 0];
    body.extend((formats.len() as u16).to_be_bytes());
    formats.iter().for_each(|format| body.extend(format.to_be_bytes()));
    out.push(b'B');
    out.extend((body.len() as u32 + 4).to_be_bytes());
    out.extend(body);
}

#[test]
fn a_batch_is_answered_in_order() {
    let said = exchange(&mut AdminSession::new(true), &node(), |out| {
        put::put_parse(out, b"", b"SHOW STATE", &[0, 0]);
        put::put_describe(out, b'S', b"");
        put_bind(out, &[]);
        put::put_describe(out, b'P', b"");
        put::put_execute(out, b"", 0);
        put::put_close(out, b'P', b"");
        put::put_sync(out);
    });
    let rows = ["row active|yes", "row paused|no", "row suspended|no"];
    let expected = ["1", "parameters 2", "columns key value", "2", "columns key value"];
    let expected: Vec<&str> = expected.into_iter().chain(rows).chain(["done SHOW", "3", "ready I"]).collect();
    assert_eq!(said, expected);
}

#[test]
fn numbers_come_in_binary_if_they_are_wanted_so() {
    let said = exchange(&mut AdminSession::new(true), &node(), |out| {
        put::put_parse(out, b"", b"SHOW STATS_TOTALS", &[0, 0]);
        put_bind(out, &[1]);
        put::put_describe(out, b'P', b"");
        put::put_execute(out, b"", 0);
        put::put_parse(out, b"", b"SHOW LISTS", &[0, 0]);
        put_bind(out, &[0, 1]);
        put::put_execute(out, b"", 1);
        put::put_sync(out);
    });
    assert!(said[2].starts_with("columns database* server_assignment_count:numeric*"), "{said:?}");
    assert!(said[3].starts_with("row shop|[0, 1, 0, 0, 0, 0, 0, 0, 3, 232]|"), "{said:?}");
    assert!(said.contains(&"row databases|[0, 0, 0, 2]".to_owned()), "{said:?}");
}

#[test]
fn a_portal_gives_as_many_rows_as_are_asked_for() {
    let said = exchange(&mut AdminSession::new(true), &node(), |out| {
        put::put_parse(out, b"", b"SHOW STATE", &[0, 0]);
        put_bind(out, &[]);
        put::put_execute(out, b"", 2);
        put::put_execute(out, b"", 2);
        put::put_sync(out);
        put::put_execute(out, b"", 0);
        put::put_sync(out);
    });
    let expected = ["1", "2", "row active|yes", "row paused|no", "s", "row suspended|no", "done SHOW", "ready I"];
    assert_eq!(said[..8], expected);
    assert_eq!(said[8..], ["ERROR 34000 there is no portal of that name", "ready I"], "Sync ends portals");
}

#[test]
fn an_error_skips_up_to_sync() {
    let said = exchange(&mut AdminSession::new(true), &node(), |out| {
        put::put_parse(out, b"a", b"SHOW BANANA", &[0, 0]);
        put_bind(out, &[]);
        put::put_execute(out, b"", 0);
        put::put_query(out, b"SHOW VERSION");
        put::put_sync(out);
        put::put_parse(out, b"a", b"", &[0, 0]);
        put::put_describe(out, b'S', b"a");
        put::put_parse(out, b"a", b"", &[0, 0]);
        put::put_sync(out);
        put::put_describe(out, b'S', b"b");
        put::put_sync(out);
        put::put_parse(out, b"", b"SHOW VERSION; SHOW POOLS", &[0, 0]);
        put::put_sync(out);
        put::put_parse(out, b"", b"SHOW VERSION", &[0, 0]);
        put_bind(out, &[1, 1]);
        put::put_sync(out);
    });
    assert_eq!(
        said,
        [
            "ERROR 42601 unknown command: SHOW BANANA / SHOW HELP lists what there is.",
            "ready I",
            "1",
            "parameters 2",
            "n",
            "ERROR 42P05 there is a prepared statement of that name",
            "ready I",
            "ERROR 26000 there is no prepared statement of that name",
            "ready I",
            "ERROR 42601 a prepared statement is one command",
            "ready I",
            "1",
            "ERROR 08P01 the formats do not fit the columns",
            "ready I",
        ]
    );
}

#[test]
fn a_pause_by_execute_waits_as_well() {
    let (node, mut session) = (node(), AdminSession::new(true));
    let said = exchange(&mut session, &node, |out| {
        put::put_parse(out, b"", b"PAUSE", &[0, 0]);
        put_bind(out, &[]);
        put::put_describe(out, b'P', b"");
        put::put_execute(out, b"", 0);
    });
    assert_eq!(said, ["1", "2", "n"]);
    assert!(session.is_waiting());
    node.pools.lock().unwrap()[0].groups[0].servers_active = 0;
    let mut out = Vec::new();
    session.poll(&node, &mut out);
    assert_eq!(read(&out), ["done PAUSE"]);
    assert_eq!(exchange(&mut session, &node, put::put_sync), ["ready I"]);
}

#[test]
fn a_session_keeps_a_bounded_number_of_statements() {
    let (node, mut session) = (node(), AdminSession::new(true));
    let said = exchange(&mut session, &node, |out| {
        (0..PREPARED_MAX + 1).for_each(|n| put::put_parse(out, n.to_string().as_bytes(), b"SHOW STATE", &[0, 0]));
        put::put_sync(out);
    });
    assert_eq!(said.iter().filter(|line| *line == "1").count(), PREPARED_MAX);
    assert_eq!(said[PREPARED_MAX], "ERROR 54000 a session has at most 256 prepared statements");
    let said = exchange(&mut session, &node, |out| {
        put::put_close(out, b'S', b"7");
        put::put_parse(out, b"7", b"SHOW STATE", &[0, 0]);
        put::put_sync(out);
    });
    assert_eq!(said, ["3", "1", "ready I"]);
}

#[test]
fn hostile_messages_end_the_session_and_nothing_else() {
    let node = node();
    let bodies: [&[u8]; 8] =
        [b"", b"\0", b"abc", b"\0\0", b"\0\0\0\0", b"\0\0\0\x01\0\0", b"\0\0\0\0\0\0\xff\xff", b"\0\0\0\0\0\0\0\0x"];
    for tag in 0..=255u8 {
        for body in bodies {
            let (mut session, mut out) = (AdminSession::new(true), Vec::new());
            let goes_on = session.message(tag, body, &node, &mut out);
            let said = read(&out);
            let is_fatal = said.last().is_some_and(|line| line.starts_with("FATAL 08P01"));
            assert_eq!(goes_on, !is_fatal && tag != b'X', "{tag} {body:?}: {said:?}");
        }
    }
}
