//! The parts of a page that are sent as they change.

#![expect(clippy::unwrap_used, reason = "a failure here is a test's failure")]

use std::net::SocketAddr;

use kernel::DrainPhase;
use kernel::event::Event;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::kit::{Admin, connect, get, in_time};
use super::problem;

/// One who looks at a page.
struct Reader {
    stream: TcpStream,
    text: String,
}

impl Reader {
    async fn of(addr: SocketAddr, of: &str) -> Reader {
        let mut stream = connect(addr).await;
        let head = format!("GET /live?of={of} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        in_time(stream.write_all(head.as_bytes())).await.unwrap();
        Reader { stream, text: String::new() }
    }

    /// Reads until `n` events have come; false if it has ended before.
    async fn has(&mut self, n: usize) -> bool {
        let mut bytes = vec![0; 16 * 1024];
        while self.events().len() < n {
            match in_time(self.stream.read(&mut bytes)).await.unwrap_or_default() {
                0 => return false,
                n => self.text.push_str(&String::from_utf8_lossy(&bytes[..n])),
            }
        }
        true
    }

    fn events(&self) -> Vec<Value> {
        let whole = self.text.split("\n\n").filter(|event| !event.is_empty());
        let data = whole.filter_map(|event| event.split_once("data: ").map(|(_, data)| data.trim()));
        data.filter_map(|data| serde_json::from_str(data).ok()).collect()
    }
}

#[tokio::test]
async fn a_page_gets_all_its_parts_and_then_those_that_changed() {
    let admin = Admin::start(false).await;
    let mut reader = Box::pin(Reader::of(admin.addr, "%2F")).await;
    assert!(reader.has(1).await);
    assert!(reader.text.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"), "{}", reader.text);
    let first = reader.events().remove(0);
    let mut parts: Vec<&String> = first.as_object().unwrap().keys().collect();
    parts.sort();
    assert_eq!(parts, ["changes", "facts", "golden", "pools", "state", "store", "trouble"]);
    assert!(first["state"].as_str().unwrap().contains("All 2 endpoints of 1 service are healthy"));

    admin.node.past.journal.tell(Event::NodeStopping { pid: 7, reason: "<b>told</b>".into() });
    assert!(reader.has(2).await);
    let second = reader.events().remove(1);
    assert_eq!(second.as_object().unwrap().keys().collect::<Vec<_>>(), ["changes"], "nothing else has changed");
    let html = second["changes"].as_str().unwrap();
    assert!(html.contains("process 7 stops: &lt;b&gt;told&lt;/b&gt;"), "{html}");

    admin.trigger.advance(DrainPhase::Closed);
    assert!(!reader.has(9).await, "it ends with the server");
}

#[tokio::test]
async fn every_page_that_changes_can_be_followed_and_no_other() {
    let admin = Admin::start(false).await;
    for of in [
        "%2Fservices%2Fshop%3Frange%3D6h",
        "%2Fjournal%3Flevel%3Dwarn",
        "%2Fwhy",
        "%2Froutes%2Fshop%253Cb%253E%251B%255B31m",
    ] {
        let mut reader = Box::pin(Reader::of(admin.addr, of)).await;
        assert!(reader.has(1).await, "{of}: {}", reader.text);
        assert!(reader.text.starts_with("HTTP/1.1 200 OK"), "{of}: {}", reader.text);
    }
    problem(&get(admin.addr, "/live?of=%2Fmetrics").await, 404, "not-found");
    problem(&get(admin.addr, "/live?of=%2Fservices%2Fshop%3Frange%3D1y").await, 400, "malformed-call");
    problem(&get(admin.addr, "/live?off=1").await, 400, "malformed-call");
}

#[tokio::test]
async fn there_is_room_for_so_many_readers() {
    let admin = Admin::start(false).await;
    let mut readers = Vec::new();
    for _ in 0..32 {
        let mut reader = Box::pin(Reader::of(admin.addr, "%2F")).await;
        assert!(reader.has(1).await);
        readers.push(reader);
    }
    assert_eq!(get(admin.addr, "/live").await.status, 204, "a browser does not try again then");
    assert_eq!(get(admin.addr, "/").await.status, 200);
    // Whoever leaves makes room, at the latest when the next event is due.
    readers.pop();
    in_time(async {
        loop {
            let mut reader = Box::pin(Reader::of(admin.addr, "%2F")).await;
            if reader.has(1).await {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}
