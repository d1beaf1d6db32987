//! Following the journal over a real socket: everything comes once, in order, also from another process and after a
//! broken connection; and nobody holds the node up.

#![expect(clippy::unwrap_used, reason = "only tests use this module; a failure here is a test's failure")]

use std::net::SocketAddr;
use std::time::Duration;

use console::Limits;
use kernel::DrainPhase;
use kernel::event::Event;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::journal::{ejected, stopping};
use crate::kit::{Admin, ELSEWHERE, connect, get, in_time, settings};
use crate::problem;

const MAX_FOLLOWERS: usize = 64;

/// The end of what a stream begins with.
const RETRY: &str = "retry: 1000\n\n";

/// One who follows, and what it has read.
struct Follower {
    stream: TcpStream,
    text: String,
}

impl Follower {
    async fn new(addr: SocketAddr, query: &str, headers: &str) -> Follower {
        Follower::over(connect(addr).await, query, headers).await
    }

    async fn over(mut stream: TcpStream, query: &str, headers: &str) -> Follower {
        let head = format!("GET /v1/journal/follow{query} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        in_time(stream.write_all(head.as_bytes())).await.unwrap();
        let mut follower = Follower { stream, text: String::new() };
        // From here on everything that is told comes.
        follower.read_until(|text| text.contains("retry: ")).await;
        assert!(
            follower.text.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"),
            "{}",
            follower.text
        );
        follower
    }

    async fn read_until(&mut self, holds: impl Fn(&str) -> bool) {
        let mut bytes = vec![0; 16 * 1024];
        while !holds(&self.text) {
            let n = in_time(self.stream.read(&mut bytes)).await.unwrap();
            assert!(n > 0, "it has ended: {}", self.text);
            self.text.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
        }
    }

    async fn read_to_end(&mut self) {
        let mut bytes = Vec::new();
        in_time(self.stream.read_to_end(&mut bytes)).await.unwrap();
        self.text.push_str(std::str::from_utf8(&bytes).unwrap());
    }

    /// The next `n` records have come.
    async fn records(&mut self, n: usize) -> Vec<(u64, Value)> {
        let count = |text: &str| text.matches("\"sentence\":").count() >= n && text.ends_with("\n\n\r\n");
        self.read_until(count).await;
        self.told()
    }

    fn told(&self) -> Vec<(u64, Value)> {
        // The first id, if there is one, is the place at which it begins.
        let begun = self.text.find(RETRY).map_or(0, |at| at + RETRY.len());
        let of = |start: &'static str| self.text[begun..].lines().filter_map(move |line| line.strip_prefix(start));
        assert_eq!(of("event: record").count(), of("id: ").count());
        of("id: ")
            .zip(of("data: "))
            .map(|(id, data)| (id.parse().unwrap(), serde_json::from_str(data).unwrap()))
            .collect()
    }
}

fn places(records: &[(u64, Value)]) -> Vec<u64> {
    records.iter().map(|(id, _)| *id).collect()
}

#[tokio::test]
async fn records_come_as_they_are_told_and_once_after_a_broken_connection() {
    let admin = Admin::start(false).await;
    let journal = &admin.node.past.journal;
    journal.tell(stopping("before"));
    let mut all = Follower::new(admin.addr, "", "").await;
    // What was before is not told again, unless somebody asks.
    let mut asked = Follower::new(admin.addr, "?after=0", "").await;
    assert_eq!(places(&asked.records(1).await), [1]);
    journal.tell(stopping("two"));
    journal.tell(ejected("a:1"));
    let records = all.records(2).await;
    assert_eq!(places(&records), [2, 3]);
    assert_eq!((&records[1].1["kind"], &records[1].1["cursor"]), (&"endpoint.ejected".into(), &3.into()));
    drop(all);
    journal.tell(stopping("meanwhile"));
    let mut again = Follower::new(admin.addr, "", "Last-Event-ID: 3\r\n").await;
    journal.tell(stopping("after"));
    assert_eq!(places(&again.records(2).await), [4, 5]);
    // The id stands above where the address says to begin: a browser repeats the address as it is.
    let mut again = Follower::new(admin.addr, "?after=0", "Last-Event-ID: 4\r\n").await;
    assert_eq!(places(&again.records(1).await), [5]);
}

#[tokio::test]
async fn more_than_a_page_comes_whole_and_in_order() {
    let admin = Admin::start(false).await;
    (0..700).for_each(|n| admin.node.past.journal.tell(stopping(&n.to_string())));
    let mut all = Follower::new(admin.addr, "?after=0", "").await;
    assert_eq!(places(&all.records(700).await), (1..=700).collect::<Vec<_>>());
}

#[tokio::test]
async fn another_process_is_heard_though_nothing_is_told_here() {
    let admin = Admin::start(false).await;
    admin.node.past.journal.tell(stopping("here"));
    let mut all = Follower::new(admin.addr, "?after=1", "").await;
    admin.node.past.elsewhere.tell(stopping("there"));
    assert_eq!(places(&all.records(1).await), [ELSEWHERE + 1]);
}

#[tokio::test]
async fn only_what_is_wanted_comes() {
    let admin = Admin::start(false).await;
    let mut wanted = Follower::new(admin.addr, "?service=shop&level=warn&kind=endpoint", "").await;
    let cart = Event::EndpointCleared { service: "cart".into(), endpoint: "c:3".into(), reason: "it answered".into() };
    for event in [stopping("x"), cart, ejected("a:1")] {
        admin.node.past.journal.tell(event);
    }
    assert_eq!(places(&wanted.records(1).await), [3]);
}

#[tokio::test]
async fn a_place_in_a_journal_that_is_no_more_is_the_end_of_the_present_one() {
    let admin = Admin::start(false).await;
    admin.node.past.journal.tell(stopping("old"));
    let mut lost = Follower::new(admin.addr, "", "Last-Event-ID: 900\r\n").await;
    lost.read_until(|text| text.contains(": 900 is beyond the end of the journal, which is 1\n")).await;
    admin.node.past.journal.tell(stopping("new"));
    assert_eq!(places(&lost.records(1).await), [2]);
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_is_followed_again_once_it_can() {
    let admin = Admin::start(false).await;
    let mut follower = Follower::new(admin.addr, "?after=0", "").await;
    admin.node.past.lose_journal(true);
    admin.node.past.journal.tell(stopping("x"));
    follower.read_until(|text| text.contains(": the journal cannot be read now: the disk is away\n")).await;
    assert_eq!(places(&follower.told()), [0; 0]);
    admin.node.past.lose_journal(false);
    assert_eq!(places(&follower.records(1).await), [1]);
    assert_eq!(follower.text.matches("cannot be read now").count(), 1, "{}", follower.text);
}

#[tokio::test]
async fn who_comes_while_it_cannot_be_read_is_told_what_happens_from_then_on() {
    let admin = Admin::start(false).await;
    let past = &admin.node.past;
    past.journal.tell(stopping("before"));
    past.clock.advance(Duration::from_secs(1));
    past.lose_journal(true);
    let mut new = Follower::new(admin.addr, "", "").await;
    let mut old = Follower::new(admin.addr, "", "Last-Event-ID: 900\r\n").await;
    past.journal.tell(stopping("meanwhile"));
    past.lose_journal(false);
    assert_eq!(places(&new.records(1).await), [2]);
    past.elsewhere.tell(stopping("there"));
    // Its place may well be right: it is not told anything twice.
    assert_eq!(places(&old.records(1).await), [ELSEWHERE + 1]);
}

#[tokio::test]
async fn so_many_may_follow_and_no_more() {
    let admin = Admin::start(false).await;
    let mut followers = Vec::new();
    for _ in 0..MAX_FOLLOWERS {
        followers.push(Follower::new(admin.addr, "", "").await);
    }
    problem(&get(admin.addr, "/v1/journal/follow").await, 503, "followers-full");
    // The node notices that one left; then there is room for another.
    followers.pop();
    until_there_is_room(admin.addr).await;
}

async fn until_there_is_room(addr: SocketAddr) {
    in_time(async {
        loop {
            let mut stream = connect(addr).await;
            stream.write_all(b"GET /v1/journal/follow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
            let mut first = [0; 12];
            stream.read_exact(&mut first).await.unwrap();
            if first.ends_with(b"200") {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_ends_with_the_node_and_tells_the_last_that_was_told() {
    let admin = Admin::start(false).await;
    let mut follower = Follower::new(admin.addr, "", "").await;
    admin.trigger.advance(DrainPhase::Draining);
    admin.node.past.journal.tell(stopping("told to"));
    follower.records(1).await;
    admin.node.past.journal.tell(stopping("last"));
    admin.trigger.advance(DrainPhase::Closed);
    follower.read_to_end().await;
    assert_eq!(places(&follower.told()), [1, 2]);
    assert!(follower.text.ends_with("0\r\n\r\n"), "{}", follower.text);
    in_time(admin.serving).await.unwrap();
}

#[tokio::test]
async fn a_stream_ends_in_order_when_its_connection_has_lived_long_enough() {
    let limits = Limits { lifetime: Duration::from_millis(300), ..Limits::default() };
    let admin = Admin::start_with(settings(false), limits).await;
    let mut follower = Follower::new(admin.addr, "", "").await;
    follower.read_to_end().await;
    assert!(follower.text.ends_with("0\r\n\r\n"), "{}", follower.text);
}

#[tokio::test]
async fn who_takes_nothing_is_dropped_and_told_so() {
    let limits = Limits { request: Duration::from_millis(300), ..Limits::default() };
    let admin = Admin::start_with(settings(false), limits).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    let stream = in_time(socket.connect(admin.addr)).await.unwrap();
    let mut slow = Follower::over(stream, "", "").await;
    let mut others = Vec::new();
    for _ in 1..MAX_FOLLOWERS {
        others.push(Follower::new(admin.addr, "?level=error", "").await);
    }
    // Far more than all buffers between the two hold.
    let reason = "x".repeat(2_000);
    (0..1_000).for_each(|_| admin.node.past.journal.tell(stopping(&reason)));
    // Its place is free, though it has not left.
    until_there_is_room(admin.addr).await;
    slow.read_to_end().await;
    assert!(slow.text.contains(": nothing was taken for too long; come back with Last-Event-ID\n"));
    let place = slow.told().len() as u64;
    assert!(place < 1_000);
    let mut again = Follower::new(admin.addr, "", &format!("Last-Event-ID: {place}\r\n")).await;
    assert_eq!(places(&again.records(1_000 - place as usize).await), (place + 1..=1_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn at_a_hand_over_a_stream_ends_and_says_where_to_go_on() {
    let admin = Admin::start(false).await;
    admin.node.past.journal.tell(stopping("before"));
    let mut follower = Follower::new(admin.addr, "", "").await;
    admin.trigger.hand_over();
    follower.read_to_end().await;
    assert!(follower.text.contains("id: 1\nretry: "), "{}", follower.text);
    assert_eq!(places(&follower.told()), [0; 0]);
}
