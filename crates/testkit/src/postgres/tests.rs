//! The two ends against each other, and a server that is not content.

use std::time::Duration;

use super::*;
use crate::poll::Gate;

const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_script_is_followed_to_its_end() {
    let (asked, go_on) = (Gate::new(), Gate::new());
    let script = PgScript::login(7)
        .expect_exactly(say::query("select 1"))
        .open(&asked)
        .wait(&go_on)
        .send([say::rows(&["1"]), say::complete("SELECT 1"), say::ready(b'I')].concat())
        .expect(b'P')
        .expect(b'S')
        .send([say::error("ERROR", "42601", "no"), say::ready(b'I')].concat())
        .end();
    let server = PgServer::start(vec![script]).unwrap();
    let mut client = PgClient::connect(server.addr()).unwrap();
    client.send(&message(0, &[0x04, 0xd2, 0x16, 0x2f])).unwrap();
    let mut answer = [0];
    assert!(fill(&mut client.stream().try_clone().unwrap(), &mut answer, &Deadline::after(SOON)).unwrap());
    assert_eq!(answer, *b"N");
    client.send(&say::startup(0, &[("user", "joe")])).unwrap();
    let tags = |came: Vec<PgMessage>| came.into_iter().map(|(tag, _)| tag as char).collect::<String>();
    assert_eq!(tags(client.until_ready(SOON).unwrap()), "RSSSKZ");
    client.send(&say::query("select 1")).unwrap();
    assert!(asked.wait(SOON));
    go_on.open();
    assert_eq!(tags(client.until_ready(SOON).unwrap()), "TDCZ");
    client.send(&[say::parse("", "selec"), say::sync()].concat()).unwrap();
    assert_eq!(tags(client.until_ready(SOON).unwrap()), "EZ");
    client.send(&message(b'X', b"")).unwrap();
    drop(client);
    let received = server.finish(SOON).unwrap();
    assert_eq!(tags(received[0].clone()), "\0\0QPSX");
}

#[test]
fn a_server_can_freeze_and_reset() {
    let server = PgServer::start(vec![PgScript::login(1).freeze(), PgScript::login(2).expect(b'Q').reset()]).unwrap();
    let (mut frozen, _) = PgClient::login(server.addr(), "joe", "d").unwrap();
    frozen.send(&say::query("select 1")).unwrap();
    assert!(frozen.receive(Duration::from_millis(50)).unwrap_err().to_string().contains("in time"));
    let (mut reset, _) = PgClient::login(server.addr(), "joe", "d").unwrap();
    let error = format!("{:#}", reset.query("select 1").unwrap_err());
    assert!(error.contains("reset") || error.contains("closed"), "{error}");
    server.finish(SOON).unwrap();
}

#[test]
fn a_script_that_is_not_met_is_told() {
    let server = PgServer::start(vec![PgScript::login(1).expect(b'P'), PgScript::login(2)]).unwrap();
    let (mut client, _) = PgClient::login(server.addr(), "joe", "d").unwrap();
    client.send(&say::query("select 1")).unwrap();
    let error = server.finish(SOON).unwrap_err().to_string();
    assert!(error.contains("there came Q(select 1\\x00)") && error.contains("connection 1 was never made"), "{error}");
    let server = PgServer::start(Vec::new()).unwrap();
    let mut client = PgClient::connect(server.addr()).unwrap();
    assert!(client.receive(SOON).is_ok_and(|message| message.is_none()));
    assert!(server.finish(SOON).unwrap_err().to_string().contains("1 connection(s) more"));
}
