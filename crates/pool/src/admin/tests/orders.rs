//! Orders, who may give them, and the simple protocol around them.

use super::*;

fn ordered(node: &Node) -> Vec<String> {
    std::mem::take(&mut *node.ordered.lock().unwrap())
}

/// Nobody has a connection.
fn at_rest(node: &Node) {
    node.pools.lock().unwrap().iter_mut().flat_map(|pool| &mut pool.groups).for_each(|group| group.servers_active = 0);
}

fn poll(session: &mut AdminSession, node: &Node) -> Vec<String> {
    let mut out = Vec::new();
    session.poll(node, &mut out);
    read(&out)
}

#[test]
fn a_pause_is_answered_when_nobody_has_a_connection() {
    let (node, mut session) = (node(), AdminSession::new(true));
    let said = exchange(&mut session, &node, |out| put::put_query(out, b"PAUSE; SHOW STATE"));
    assert!(said.is_empty() && session.is_waiting());
    assert_eq!(ordered(&node), ["main: pause"]);
    assert!(poll(&mut session, &node).is_empty());
    at_rest(&node);
    let said = poll(&mut session, &node);
    assert_eq!((said[0].as_str(), said[3].as_str()), ("done PAUSE", "row paused|yes"));
    assert!(!session.is_waiting() && said.last().unwrap() == "ready I");
    assert_eq!(ask(&node, "RESUME main"), ["done RESUME", "ready I"]);
    assert_eq!(ask(&node, "RESUME"), ["ERROR 55000 no pool is paused", "ready I"]);
    assert_eq!(ask(&node, "PAUSE"), ["done PAUSE", "ready I"]);
    assert_eq!(ordered(&node), ["main: resume", "main: pause"]);
}

#[test]
fn a_pause_that_somebody_takes_back_fails() {
    let (node, mut session) = (node(), AdminSession::new(true));
    exchange(&mut session, &node, |out| put::put_query(out, b"PAUSE main; RELOAD"));
    assert_eq!(ask(&node, "RESUME"), ["done RESUME", "ready I"]);
    let said = poll(&mut session, &node);
    assert_eq!(said, ["ERROR 57014 pool main was resumed before the pause was complete", "ready I"]);
    assert!(!session.is_waiting() && poll(&mut session, &node).is_empty());
}

#[test]
fn a_database_stands_for_its_pool_if_it_is_the_only_one() {
    let node = node();
    at_rest(&node);
    assert_eq!(ask(&node, "PAUSE shop"), ["done PAUSE", "ready I"]);
    assert_eq!(ordered(&node), ["main: pause"]);
    node.pools.lock().unwrap()[0].groups.push(group("reports", "app", 0));
    let shared = "ERROR 55000 shop shares pool main with other databases / RESUME main is for all of them.";
    assert_eq!(ask(&node, "RESUME shop"), [shared, "ready I"]);
    let unknown = "ERROR 3D000 there is no pool and no database named nope";
    for word in ["PAUSE", "RESUME", "KILL", "RECONNECT"] {
        assert_eq!(ask(&node, &format!("{word} nope")), [unknown, "ready I"]);
    }
    assert!(ordered(&node).is_empty());
}

#[test]
fn kill_pauses_sends_away_and_replaces() {
    let node = node();
    assert_eq!(ask(&node, "KILL main"), ["done KILL", "ready I"]);
    assert_eq!(ordered(&node), ["main: pause", "main: kill client 17", "main: reconnect"]);
    assert_eq!(ask(&node, "KILL_CLIENT 17; RECONNECT"), ["done KILL_CLIENT", "done RECONNECT", "ready I"]);
    assert_eq!(ordered(&node), ["main: kill client 17", "main: reconnect"]);
    assert_eq!(ask(&node, "KILL_CLIENT 18"), ["ERROR 42704 there is no client 18", "ready I"]);
}

#[test]
fn who_may_only_look_gives_no_orders() {
    let node = node();
    let mut session = AdminSession::new(false);
    for word in ["PAUSE", "RESUME", "KILL", "KILL_CLIENT 17", "RECONNECT", "RELOAD"] {
        let said = exchange(&mut session, &node, |out| put::put_query(out, word.as_bytes()));
        let name = word.split(' ').next().unwrap();
        let refusal =
            format!("ERROR 42501 {name} is for administrators / `admin_users` of the pool says who they are.");
        assert_eq!(said, [refusal.as_str(), "ready I"]);
    }
    assert!(ordered(&node).is_empty());
    let said = exchange(&mut session, &node, |out| put::put_query(out, b"SHOW VERSION"));
    assert_eq!(said.len(), 4);
}

#[test]
fn a_reload_says_what_is_wrong() {
    assert_eq!(ask(&node(), "reload"), ["done RELOAD", "ready I"]);
    let broken = Node { is_broken: true, ..Node::default() };
    let said = ask(&broken, "RELOAD");
    assert!(said[0].starts_with("ERROR F0000 the configuration is not taken over: line 3: no such key"), "{said:?}");
}

#[test]
fn an_error_ends_a_query_and_what_is_empty_is_said() {
    assert_eq!(ask(&node(), ""), ["I", "ready I"]);
    assert_eq!(ask(&node(), ";"), ["I", "ready I"]);
    let said = ask(&node(), "SHOW VERSION; SHOW BANANA; SHOW POOLS");
    assert_eq!(said, ["ERROR 42601 unknown command: SHOW BANANA / SHOW HELP lists what there is.", "ready I"]);
    let said = ask(&node(), "SHOW VERSION; RESUME; SHOW POOLS");
    assert_eq!(said[said.len() - 2..], ["ERROR 55000 no pool is paused", "ready I"]);
    assert!(!said.iter().any(|line| line.contains("cl_active")));
}

#[test]
fn what_drivers_say_of_themselves_is_taken() {
    let (node, mut session) = (node(), AdminSession::new(false));
    let mut say = |text: &str| exchange(&mut session, &node, |out| put::put_query(out, text.as_bytes()));
    assert_eq!(say("BEGIN"), ["done BEGIN", "ready T"]);
    assert_eq!(say("SELECT 1"), ["columns ?column?:int4", "row 1", "done SELECT 1", "ready T"]);
    assert_eq!(say("SHOW nothing").last().unwrap(), "ready E");
    assert_eq!(say("SHOW VERSION"), ["ERROR 25P02 an error came before: ROLLBACK first", "ready E"]);
    assert_eq!(say("COMMIT"), ["done ROLLBACK", "ready I"]);
    assert_eq!(say("SET extra_float_digits = 3"), ["NOTICE 00000 it has no effect here", "done SET", "ready I"]);
    assert_eq!(say("DISCARD ALL"), ["NOTICE 00000 it has no effect here", "done DISCARD ALL", "ready I"]);
    assert_eq!(say("SHOW timezone"), ["columns TimeZone", "row GMT", "done SHOW", "ready I"]);
    let said = say("SET default_pool_size = 5");
    assert!(said[0].starts_with("ERROR 55P02 default_pool_size is not changed by SET"), "{said:?}");
}
