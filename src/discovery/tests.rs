//! What is made of DNS answers, with a real server.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use gateway::plan::EndpointPlan;
use testkit::DnsServer;
use testkit::dns::{Answer, Mood};

use super::dns::{Dns, DnsError};
use super::is_same;

type Answered = Result<(Vec<EndpointPlan>, Duration), DnsError>;

fn ask(server: &DnsServer, question: impl AsyncFnOnce(&Dns) -> Answered) -> Answered {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { question(&Dns::new(Some(&[server.addr()])).unwrap()).await })
}

fn addresses(server: &DnsServer, host: &str) -> Answered {
    ask(server, async |dns| dns.addresses(host, 80).await)
}

fn records(server: &DnsServer) -> Answered {
    ask(server, async |dns| dns.records("_http._tcp.shop.example").await)
}

fn names(answered: &Answered) -> Vec<&str> {
    answered.as_ref().unwrap().0.iter().map(|e| e.name.as_str()).collect()
}

#[test]
fn each_address_is_an_endpoint_in_an_order_of_our_own() {
    let server = DnsServer::start().unwrap();
    let ips = [[10, 0, 0, 9], [10, 0, 0, 2], [10, 0, 0, 9]];
    server.set("shop.example", 30, ips.map(Answer::address).to_vec());
    let answered = addresses(&server, "shop.example");
    assert_eq!(names(&answered), ["10.0.0.2:80", "10.0.0.9:80"]);
    let (endpoints, ttl) = answered.unwrap();
    assert_eq!(ttl, Duration::from_secs(30));
    assert_eq!(endpoints[0].addresses, ["10.0.0.2:80".parse().unwrap()]);
    assert_eq!((endpoints[0].weight, endpoints[0].tier), (1, 0));
    // Nothing is remembered between questions.
    server.set("shop.example", 5, vec![Answer::address([10, 0, 0, 1])]);
    assert_eq!(names(&addresses(&server, "shop.example")), ["10.0.0.1:80"]);
}

#[test]
fn an_alias_is_followed_and_its_time_to_live_counts() {
    let server = DnsServer::start().unwrap();
    server.set("www.example", 7, vec![Answer::Alias("shop.example".to_owned())]);
    server.set("shop.example", 30, vec![Answer::address([10, 0, 0, 1])]);
    let answered = addresses(&server, "www.example");
    assert_eq!(names(&answered), ["10.0.0.1:80"]);
    assert_eq!(answered.unwrap().1, Duration::from_secs(7));
}

#[test]
fn ipv6_counts_where_there_is_no_ipv4() {
    let server = DnsServer::start().unwrap();
    let v6 = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7));
    server.set("both.example", 30, vec![Answer::address(v6), Answer::address([10, 0, 0, 1])]);
    server.set("six.example", 30, vec![Answer::address(v6)]);
    assert_eq!(names(&addresses(&server, "both.example")), ["10.0.0.1:80"]);
    assert_eq!(names(&addresses(&server, "six.example")), ["[fd00::7]:80"]);
}

#[test]
fn empty_is_not_failed_and_failed_is_not_empty() {
    let server = DnsServer::start().unwrap();
    server.set("empty.example", 30, Vec::new());
    for name in ["none.example", "empty.example"] {
        assert!(matches!(addresses(&server, name), Err(DnsError::Empty)), "{name}");
    }
    server.set("shop.example", 30, vec![Answer::address([10, 0, 0, 1])]);
    server.behave(Mood::Failing);
    assert!(matches!(addresses(&server, "shop.example"), Err(DnsError::Failed(_))));
}

#[test]
fn a_long_answer_comes_over_tcp() {
    let server = DnsServer::start().unwrap();
    server.behave(Mood::Truncating);
    server.set("shop.example", 30, (0..200).map(|n| Answer::address([10, 0, 1, n])).collect());
    assert_eq!(names(&addresses(&server, "shop.example")).len(), 200);
    assert!(server.asked_over_tcp() >= 1);
}

#[test]
fn srv_records_bring_ports_weights_and_tiers() {
    let server = DnsServer::start().unwrap();
    let srv = vec![
        Answer::srv(20, 0, "spare.example", 9000),
        Answer::srv(10, 30, "b.example", 8081),
        Answer::srv(10, 60, "a.example", 8080),
        Answer::srv(10, 10, "gone.example", 8082),
        Answer::srv(30, 1, ".", 1),
    ];
    server.set("_http._tcp.shop.example", 60, srv);
    server.set("a.example", 20, vec![Answer::address([10, 0, 0, 2]), Answer::address([10, 0, 0, 1])]);
    server.set("b.example", 50, vec![Answer::address([10, 0, 0, 3])]);
    server.set("spare.example", 50, vec![Answer::address([10, 0, 0, 4])]);
    let answered = records(&server);
    assert_eq!(names(&answered), ["a.example:8080", "b.example:8081", "spare.example:9000"]);
    let (endpoints, ttl) = answered.unwrap();
    let shares: Vec<(u32, u8)> = endpoints.iter().map(|e| (e.weight, e.tier)).collect();
    assert_eq!(shares, [(60, 0), (30, 0), (1, 1)]);
    assert_eq!(endpoints[0].addresses, ["10.0.0.1:8080".parse().unwrap(), "10.0.0.2:8080".parse().unwrap()]);
    assert_eq!(ttl, Duration::from_secs(20), "the shortest of all");
    // Targets that are all gone are an empty answer.
    for name in ["a.example", "b.example", "spare.example"] {
        server.remove(name);
    }
    assert!(matches!(records(&server), Err(DnsError::Empty)));
}

#[test]
fn the_gateway_itself_is_known() {
    let same = |own: &str, address: &str| is_same(own.parse().unwrap(), address.parse().unwrap());
    assert!(same("10.0.0.5:80", "10.0.0.5:80") && same("0.0.0.0:80", "127.0.0.1:80"));
    assert!(!same("10.0.0.5:80", "10.0.0.5:81") && !same("0.0.0.0:80", "10.0.0.9:80"));
}
