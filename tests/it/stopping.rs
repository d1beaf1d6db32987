//! The end of a node: SIGTERM, Ctrl-C and a second signal, with requests, tunnels and load in flight.

use std::time::Duration;

use testkit::{
    Binary, Ending, Gate, Load, LoadOptions, LoadRequest, RawClient, Reply, Resend, Script, ServingUpstream, Signal,
    Upstream, eventually,
};

use crate::support::{Config, SOON, ask, saying};

/// What a node may take to end beyond its own times.
const END: Duration = Duration::from_secs(20);

/// Load of clients that send nothing twice: a connection that ends under a request is a failure.
fn strict_load(node: &Binary) -> Load {
    let requests = vec![LoadRequest::get("/"), LoadRequest::post("/", "abc")];
    let options = LoadOptions { resend: Resend::Never, ..LoadOptions::new(node.gateway(), 8).requests(requests) };
    let load = Load::start(options).unwrap();
    eventually(SOON, "load to flow", || (load.report().ok > 200).then_some(()));
    load
}

#[test]
fn a_stop_under_load_fails_nobody() {
    let shop = saying("x");
    let mut node = Config::new().gateway("drain_delay = \"300ms\"").service("shop", &[shop.addr()], "").up();
    assert_eq!(ask(node.console(), "GET /readyz").text(), "ready\n");
    let load = strict_load(&node);

    load.listener_goes();
    node.signal(Signal::Term).unwrap();
    let refusal = eventually(SOON, "/readyz to fail", || {
        let answer = ask(node.console(), "GET /readyz");
        (answer.status != 200).then_some(answer)
    });
    let at_refusal = load.report();
    assert_eq!((refusal.status, refusal.text()), (503, "not ready: stopping\n".to_owned()));
    assert_eq!(ask(node.console(), "GET /livez").status, 200);
    // Balancers have not noticed yet: who comes now is served.
    assert_eq!(ask(node.gateway(), "GET /late").status, 200);

    assert_eq!(node.wait_exit(END).unwrap(), Some(0), "{}", node.logs());
    eventually(SOON, "every client to end", || load.is_over().then_some(()));
    let report = load.stop();
    report.assert_clean();
    assert!(report.ok > at_refusal.ok, "nothing was served after /readyz failed: {at_refusal:?} {report:?}");
    assert_eq!(shop.problems(), Vec::<String>::new());
}

#[test]
fn ctrl_c_under_load_fails_nobody_and_does_not_wait() {
    let shop = saying("x");
    // A drain delay that would make this test fail if it were waited for.
    let mut node = Config::new().gateway("drain_delay = \"10m\"").service("shop", &[shop.addr()], "").up();
    let load = strict_load(&node);
    load.listener_goes();
    node.signal(Signal::Int).unwrap();
    assert_eq!(node.wait_exit(END).unwrap(), Some(0), "{}", node.logs());
    eventually(SOON, "every client to end", || load.is_over().then_some(()));
    load.stop().assert_clean();
}

/// A node with a request in flight that the upstream answers when the gate opens, and the client that sent it.
struct Held {
    node: Binary,
    client: RawClient,
    gate: Gate,
    _shop: ServingUpstream,
}

impl Held {
    fn up(config: Config) -> Held {
        let gate = Gate::new();
        let held = gate.clone();
        let shop = Upstream::serving(move |r| match r.path() {
            "/held" => Reply::ok("at last").wait(&held),
            _ => Reply::ok("x"),
        });
        let shop = shop.unwrap();
        let node = config.service("shop", &[shop.addr()], "").up();
        let mut client = RawClient::connect(node.gateway()).unwrap();
        client.send(format!("GET /held HTTP/1.1\r\nHost: {}\r\n\r\n", node.gateway())).unwrap();
        eventually(SOON, "the request to arrive", || (shop.requests() == 1).then_some(()));
        Held { node, client, gate, _shop: shop }
    }
}

impl Drop for Held {
    /// The upstream's thread waits at the gate.
    fn drop(&mut self) {
        self.gate.open();
    }
}

fn refuses_connections(node: &Binary) {
    eventually(SOON, "the listener to close", || RawClient::connect(node.gateway()).is_err().then_some(()));
}

#[test]
fn a_request_in_flight_is_answered_and_idle_connections_are_closed() {
    let mut held = Held::up(Config::new());
    let mut idle = RawClient::connect(held.node.gateway()).unwrap();
    assert_eq!(idle.get("/", SOON).unwrap().status, 200);
    held.node.signal(Signal::Term).unwrap();
    refuses_connections(&held.node);
    idle.expect_close(SOON).unwrap();
    // The console is what one looks at in such a moment.
    assert_eq!(ask(held.node.console(), "GET /readyz").status, 503);
    assert!(ask(held.node.console(), "GET /").text().contains("takes no new work"));
    assert!(held.node.is_running());

    held.gate.open();
    let answer = held.client.read_response(SOON).unwrap();
    assert_eq!((answer.status, answer.text()), (200, "at last".to_owned()));
    assert!(answer.closes(), "{answer:?}");
    held.client.expect_close(SOON).unwrap();
    assert_eq!(held.node.wait_exit(END).unwrap(), Some(0), "{}", held.node.logs());
}

#[test]
fn a_request_whose_head_came_slowly_is_answered() {
    let shop = saying("x");
    let mut node = Config::new().service("shop", &[shop.addr()], "").up();
    let mut client = RawClient::connect(node.gateway()).unwrap();
    client.send("GET /slow HTTP/1.1\r\nHost: sh").unwrap();
    // A request on another connection of the same kind shows that the gateway has had time to read the half head.
    assert_eq!(ask(node.gateway(), "GET /").status, 200);
    node.signal(Signal::Term).unwrap();
    refuses_connections(&node);
    client.send("op.example\r\n\r\n").unwrap();
    let answer = client.read_response(SOON).unwrap();
    assert_eq!((answer.status, answer.closes()), (200, true));
    assert_eq!(node.wait_exit(END).unwrap(), Some(0), "{}", node.logs());
}

#[test]
fn a_request_that_never_ends_is_cut_at_the_deadline() {
    let mut held = Held::up(Config::new().gateway("drain_timeout = \"500ms\""));
    held.node.signal(Signal::Term).unwrap();
    let (bytes, ending) = held.client.read_to_ending(SOON).unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), "", "an answer was made up; the connection ended {ending:?}");
    assert_eq!(held.node.wait_exit(END).unwrap(), Some(1), "{}", held.node.logs());
    assert!(held.node.logs().contains("drain_timeout has passed"), "{}", held.node.logs());
}

#[test]
fn a_stop_that_cuts_nothing_is_in_order_however_little_time_it_has() {
    let shop = saying("x");
    let mut node = Config::new().gateway("drain_timeout = \"0s\"").service("shop", &[shop.addr()], "").up();
    assert_eq!(ask(node.gateway(), "GET /").status, 200);
    crate::support::await_metric(&node, "evenkeel_gateway_connections_open", 0.0);
    node.signal(Signal::Term).unwrap();
    assert_eq!(node.wait_exit(END).unwrap(), Some(0), "{}", node.logs());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for second in [Signal::Term, Signal::Int] {
        let mut held = Held::up(Config::new().gateway("drain_delay = \"10m\""));
        held.node.signal(Signal::Term).unwrap();
        held.node.wait_log("stopping", SOON).unwrap();
        held.node.signal(second).unwrap();
        assert_eq!(held.node.wait_exit(END).unwrap(), Some(130), "{}", held.node.logs());
        let (bytes, _) = held.client.read_to_ending(SOON).unwrap();
        assert_eq!(bytes, b"");
    }
}

#[test]
fn a_second_signal_ends_a_drain_too() {
    let mut held = Held::up(Config::new().gateway("drain_timeout = \"1h\""));
    held.node.signal(Signal::Int).unwrap();
    refuses_connections(&held.node);
    held.node.signal(Signal::Int).unwrap();
    assert_eq!(held.node.wait_exit(END).unwrap(), Some(130), "{}", held.node.logs());
}

#[test]
fn a_tunnel_lasts_until_the_deadline() {
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    let script =
        Script::new().read_head().send(switched).read_until("ping").send("pong").read_until("again").send("yes");
    let echo = Upstream::script(vec![script.hold()]).unwrap();
    let config = Config::new().gateway("drain_timeout = \"700ms\"").service("echo", &[echo.addr()], "");
    let mut node = config.up();
    let mut client = RawClient::connect(node.gateway()).unwrap();
    client.send("GET /chat HTTP/1.1\r\nHost: echo\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nping").unwrap();
    let answer = client.read_response_head(SOON).unwrap();
    assert_eq!((answer.status, answer.header("upgrade")), (101, Some("echo")));
    assert_eq!(client.read_exact(4, SOON).unwrap(), b"pong");

    node.signal(Signal::Term).unwrap();
    node.wait_log("draining", SOON).unwrap();
    client.send("again").unwrap();
    assert_eq!(client.read_exact(3, SOON).unwrap(), b"yes");
    assert!(matches!(client.expect_end(SOON).unwrap(), Ending::Closed | Ending::Reset));
    assert_eq!(node.wait_exit(END).unwrap(), Some(1), "{}", node.logs());
    echo.finish(SOON).unwrap();
}

#[test]
fn the_last_lines_of_the_access_log_are_written() {
    let shop = saying("x");
    let log = "[access_log]\npath = \"access.log\"\n";
    let mut node = Config::new().service("shop", &[shop.addr()], "").with(log).up();
    let ids: Vec<String> =
        (0..50).map(|_| ask(node.gateway(), "GET /").header("x-request-id").unwrap().to_owned()).collect();
    node.signal(Signal::Term).unwrap();
    assert_eq!(node.wait_exit(END).unwrap(), Some(0), "{}", node.logs());
    let text = std::fs::read_to_string(node.directory().join("access.log")).unwrap();
    assert!(ids.iter().all(|id| text.contains(id)), "{text}");
}
