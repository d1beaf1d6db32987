//! Endpoints that nobody lists: those that register with heartbeats and leave when they fall silent, and those that DNS
//! knows. Leases and times to live are a second or two here, the shortest there are.

use std::net::SocketAddr;
use std::time::Duration;

use kernel::Clock;
use testkit::dns::{Answer, Mood};
use testkit::{Binary, DnsServer, RawResponse, Reply, ServingUpstream, Signal, Upstream, eventually, pace};

use crate::support::{Config, Metrics, NewToken, SOON, ask, ask_with, await_metric, json, new_token, saying};

/// A node with a service that endpoints register with, and no other endpoint.
struct Node {
    node: Binary,
    token: NewToken,
}

const SHOP: &str = "[service.shop]\nregister = {}\nconnect_timeout = \"500ms\"\n";

fn config(token: &NewToken) -> Config {
    Config::new().with("[api]\nlisten = \"127.0.0.1:0\"").with(&token.stanza)
}

impl Node {
    #[track_caller]
    fn up() -> Node {
        let token = new_token("shop", &["register:shop"]);
        Node { node: config(&token).with(SHOP).up(), token }
    }

    #[track_caller]
    fn call(&self, method: &str, service: &str, endpoint: SocketAddr, body: &str) -> RawResponse {
        let head =
            format!("{method} /v1/services/{service}/endpoints/{endpoint}\nAuthorization: Bearer {}", self.token.text);
        ask_with(self.node.api(), &head, body)
    }

    /// Each of these says that it is there.
    #[track_caller]
    fn beat(&self, endpoints: &[SocketAddr], lease: &str) {
        for endpoint in endpoints {
            let answer = self.call("PUT", "shop", *endpoint, &format!("{{\"lease\": \"{lease}\"}}"));
            assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        }
    }

    fn endpoints(&self) -> Vec<String> {
        endpoints(&self.node, "shop")
    }

    #[track_caller]
    fn metric(&self, series: &str) -> f64 {
        Metrics::of(&self.node).get(series).unwrap()
    }
}

/// The endpoints of a service, in order.
#[track_caller]
fn endpoints(node: &Binary, service: &str) -> Vec<String> {
    let status = json(&ask(node.console(), "GET /v1/status"));
    let services = status["services"].as_array().unwrap();
    let service = services.iter().find(|s| s["name"] == service).unwrap();
    service["endpoints"].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap().to_owned()).collect()
}

fn addrs(upstreams: &[ServingUpstream]) -> Vec<SocketAddr> {
    upstreams.iter().map(ServingUpstream::addr).collect()
}

fn sorted(addrs: &[SocketAddr]) -> Vec<String> {
    let mut addrs = addrs.to_vec();
    addrs.sort();
    addrs.iter().map(ToString::to_string).collect()
}

fn three() -> Vec<ServingUpstream> {
    (0..3).map(|_| Upstream::serving(|_| Reply::ok("shop")).unwrap()).collect()
}

const ENDED: &str = "evenkeel_registrations_ended_total";

#[test]
fn an_endpoint_registers_serves_and_leaves_within_its_lease_once_it_falls_silent() {
    let shop = Node::up();
    let upstreams = three();
    let all = addrs(&upstreams);
    let refused = ask(shop.node.gateway(), "GET /");
    assert_eq!((refused.status, json(&refused)["code"].as_str()), (503, Some("upstream-unreachable")));

    let first = shop.call("PUT", "shop", all[0], r#"{"lease": "2s", "weight": 2}"#);
    assert_eq!((first.status, json(&first)["renew_in_seconds"].as_f64()), (201, Some(0.666)), "{first:?}");
    // What was answered is in force.
    assert_eq!(ask(shop.node.gateway(), "GET /").text(), "shop");
    let again = shop.call("PUT", "shop", all[0], r#"{"lease": "2s", "weight": 2}"#);
    assert_eq!((again.status, json(&again)["lease"].as_str()), (200, Some("2s")));

    let clock = Clock::real();
    shop.beat(&all, "2s");
    let silent_since = clock.now();
    assert_eq!(shop.endpoints(), sorted(&all));
    eventually(SOON, "the silent one to leave", || {
        shop.beat(&all[1..], "2s");
        (shop.endpoints() == sorted(&all[1..])).then_some(())
    });
    let took = clock.now().since(silent_since);
    assert!(took >= Duration::from_millis(1900), "it left after {took:?}, before its lease had ended");
    assert_eq!(shop.metric(&format!("{ENDED}{{service=\"shop\",cause=\"expired\"}}")), 1.0);
    assert_eq!(shop.metric("evenkeel_registrations{service=\"shop\"}"), 2.0);

    // One that says that it leaves is out at once.
    assert_eq!(shop.call("DELETE", "shop", all[1], "").status, 204);
    assert_eq!(shop.endpoints(), sorted(&all[2..]));
    assert_eq!(shop.call("DELETE", "shop", all[1], "").status, 404);
}

#[test]
fn a_node_that_stood_still_does_not_drop_the_fleet() {
    let shop = Node::up();
    // Nobody answers there: were they asked, they would be dropped. So it is their leases that last.
    let refusing: Vec<_> = (0..3).map(|_| Upstream::refusing().unwrap()).collect();
    let all: Vec<SocketAddr> = refusing.iter().map(|r| r.addr()).collect();
    shop.beat(&all, "2s");
    shop.node.signal(Signal::Stop).unwrap();
    // The test is about standing still for longer than the leases.
    pace(Duration::from_millis(3500));
    shop.node.signal(Signal::Cont).unwrap();
    await_metric(&shop.node, "evenkeel_registration_stalls_total", 1.0);
    assert_eq!(shop.endpoints(), sorted(&all));
    shop.beat(&all, "2s");
    assert_eq!(shop.metric(&format!("{ENDED}{{service=\"shop\",cause=\"unanswered\"}}")), 0.0);
    assert_eq!(shop.metric(&format!("{ENDED}{{service=\"shop\",cause=\"expired\"}}")), 0.0);
    // One more term, and not for ever.
    await_metric(&shop.node, &format!("{ENDED}{{service=\"shop\",cause=\"unanswered\"}}"), 3.0);
    assert_eq!(shop.endpoints(), Vec::<String>::new());
}

#[test]
fn a_fleet_that_falls_silent_as_a_whole_is_kept_while_it_answers_and_dropped_once_it_does_not() {
    let shop = Node::up();
    let upstreams = three();
    let all = addrs(&upstreams);
    shop.beat(&all, "1s");
    let kept = "evenkeel_registrations_kept_total{service=\"shop\"}";
    eventually(SOON, "each to be kept", || {
        assert_eq!(ask(shop.node.gateway(), "GET /").text(), "shop");
        (shop.metric(kept) >= 3.0).then_some(())
    });
    assert_eq!(shop.endpoints(), sorted(&all));
    assert_eq!(shop.metric("evenkeel_registrations_silent{service=\"shop\"}"), 3.0);

    upstreams[0].down();
    eventually(SOON, "the dead one to leave", || (shop.endpoints() == sorted(&all[1..])).then_some(()));
    assert_eq!(shop.metric(&format!("{ENDED}{{service=\"shop\",cause=\"unanswered\"}}")), 1.0);
    // Those that beat again are as if nothing had been.
    shop.beat(&all[1..], "10s");
    assert_eq!(shop.metric("evenkeel_registrations_silent{service=\"shop\"}"), 0.0);
    assert_eq!(shop.metric(&format!("{ENDED}{{service=\"shop\",cause=\"expired\"}}")), 0.0);
}

#[test]
fn registrations_outlive_a_reload_and_what_may_not_register_does_not() {
    let shop = Node::up();
    let (listed, found) = (saying("listed"), saying("found"));
    shop.beat(&[found.addr()], "1m");
    let tables = format!(
        "{SHOP}endpoints = [\"{}\"]\n[service.cart]\nendpoints = [\"127.0.0.1:1\"]\n[[route]]\nservice = \"shop\"",
        listed.addr()
    );
    let other = config(&shop.token).with(&tables);
    shop.node.write_config(&other.text()).unwrap();
    shop.node.signal(Signal::Hup).unwrap();
    let both = vec![listed.addr().to_string(), found.addr().to_string()];
    eventually(SOON, "both endpoints", || (shop.endpoints() == both).then_some(()));

    assert_eq!(shop.call("PUT", "cart", found.addr(), "").status, 403, "the token is not for it");
    let itself = shop.call("PUT", "shop", shop.node.gateway(), "");
    assert_eq!((itself.status, json(&itself)["code"].as_str()), (422, Some("registration-refused")));
    let long = shop.call("PUT", "shop", found.addr(), r#"{"lease": "61s"}"#);
    assert_eq!(long.status, 422);
    assert!(json(&long)["detail"].as_str().unwrap().contains("60s"), "{long:?}");
    assert_eq!(shop.endpoints(), both);

    // Without `register` those that registered are out.
    shop.node.write_config(&other.text().replace("register = {}\n", "")).unwrap();
    shop.node.signal(Signal::Hup).unwrap();
    eventually(SOON, "the listed one alone", || (shop.endpoints() == both[..1]).then_some(()));
    assert_eq!(shop.call("PUT", "shop", found.addr(), "").status, 404);
}

fn asks(dns: &DnsServer) -> String {
    format!("[dns]\nservers = [\"{}\"]\n", dns.addr())
}

fn answers(outcome: &str) -> String {
    format!("evenkeel_dns_answers_total{{service=\"shop\",outcome=\"{outcome}\"}}")
}

#[test]
fn names_are_followed_and_the_last_good_answer_survives_whatever_dns_does() {
    let upstream = saying("shop");
    let port = upstream.addr().port();
    let dns = DnsServer::start().unwrap();
    dns.set("shop.example", 1, vec![Answer::address([127, 0, 0, 1])]);
    let config = Config::new().with(&asks(&dns)).with(&format!("[service.shop]\ndns = \"shop.example:{port}\""));
    let node = config.up();
    eventually(SOON, "the first answer", || (ask(node.gateway(), "GET /").status == 200).then_some(()));
    assert_eq!(endpoints(&node, "shop"), [format!("127.0.0.1:{port}")]);

    // Another answer counts within its time to live.
    let both = vec![format!("127.0.0.1:{port}"), format!("127.0.0.2:{port}")];
    dns.set("shop.example", 1, [[127, 0, 0, 2], [127, 0, 0, 1]].map(Answer::address).to_vec());
    eventually(SOON, "the other answer", || (endpoints(&node, "shop") == both).then_some(()));

    // It fails, it is empty, the name is gone: what was good goes on.
    let more = |outcome: &str| {
        let before = Metrics::of(&node).get(&answers(outcome)).unwrap();
        eventually(SOON, outcome, || (Metrics::of(&node).get(&answers(outcome)).unwrap() > before).then_some(()));
        assert_eq!(endpoints(&node, "shop"), both, "after one that {outcome}");
        assert_eq!(ask(node.gateway(), "GET /").text(), "shop");
    };
    dns.behave(Mood::Failing);
    more("failed");
    dns.behave(Mood::Answering);
    dns.set("shop.example", 1, Vec::new());
    more("empty");
    // A reload in the middle of it loses nothing.
    node.write_config(&config.gateway("max_headers = 90").text()).unwrap();
    node.signal(Signal::Hup).unwrap();
    await_metric(&node, "evenkeel_config_generation", 1.0);
    dns.remove("shop.example");
    more("empty");
    dns.set("shop.example", 1, vec![Answer::address([127, 0, 0, 1])]);
    eventually(SOON, "the answer that is back", || (endpoints(&node, "shop") == both[..1]).then_some(()));
}

#[test]
fn srv_records_bring_hosts_and_ports() {
    let upstreams = three();
    let ports: Vec<u16> = upstreams.iter().map(|u| u.addr().port()).collect();
    let dns = DnsServer::start().unwrap();
    let srv = |n: usize| Answer::srv(10, 10 + n as u16, &format!("{}.shop.example", ["a", "b", "c"][n]), ports[n]);
    for host in ["a.shop.example", "b.shop.example", "c.shop.example"] {
        dns.set(host, 1, vec![Answer::address([127, 0, 0, 1])]);
    }
    dns.set("_http._tcp.shop.example", 1, vec![srv(0), srv(1)]);
    let service = "[service.shop]\nsrv = \"_http._tcp.shop.example\"\nbalance = \"round_robin\"";
    let node = Config::new().with(&asks(&dns)).with(service).up();
    let named = |n: usize| format!("{}.shop.example:{}", ["a", "b", "c"][n], ports[n]);
    eventually(SOON, "two endpoints", || (endpoints(&node, "shop") == [named(0), named(1)]).then_some(()));
    dns.set("_http._tcp.shop.example", 1, vec![srv(2), srv(1)]);
    eventually(SOON, "the other two", || (endpoints(&node, "shop") == [named(1), named(2)]).then_some(()));
    let before = upstreams[0].requests();
    for _ in 0..6 {
        assert_eq!(ask(node.gateway(), "GET /").text(), "shop");
    }
    assert_eq!(upstreams[0].requests(), before, "one that is no endpoint any more is asked nothing");
    assert!(upstreams[1].requests() > 0 && upstreams[2].requests() > 0);
}

#[test]
fn a_node_is_not_ready_before_it_has_asked_for_every_name_once() {
    let dns = DnsServer::start().unwrap();
    dns.behave(Mood::Silent);
    let node = Config::new().with(&asks(&dns)).with("[service.shop]\ndns = \"shop.example:80\"").up();
    let ready = ask(node.console(), "GET /readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("DNS"), "{}", ready.text());
    // It does not wait for an answer that does not come.
    eventually(SOON, "readiness", || (ask(node.console(), "GET /readyz").status == 200).then_some(()));
    let answer = ask(node.gateway(), "GET /");
    assert_eq!((answer.status, json(&answer)["code"].as_str()), (503, Some("upstream-unreachable")));
}
