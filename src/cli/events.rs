//! A stream of events as a node sends it (HTML standard, 9.2), read for what it holds: the id and the data of each event.
//! Comments, the name and anything else are passed over; they show that the node is alive.
//!
//! Limits: lines of [`MAX_LINE_BYTES`]; a stream that is silent for [`SILENCE`] counts as broken.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// The longest line: a record of the journal is much shorter.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// Three times as long as a node is ever silent.
const SILENCE: Duration = Duration::from_secs(45);

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) data: String,
}

/// The events of an answer, as they come.
#[derive(Debug)]
pub(super) struct Events {
    body: Incoming,
    parser: Parser,
}

/// What has come and is no whole event yet.
#[derive(Debug, Default)]
struct Parser {
    bytes: Vec<u8>,
    event: Event,
}

impl Events {
    pub(super) fn new(body: Incoming) -> Events {
        Events { body, parser: Parser::default() }
    }

    /// The next event; `None` if the stream has ended, in order or not. Whoever wants more comes back.
    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.parser.next() {
                return Some(event);
            }
            if self.parser.bytes.len() > MAX_LINE_BYTES {
                return None;
            }
            let frame = tokio::time::timeout(SILENCE, self.body.frame()).await.ok()??.ok()?;
            if let Ok(data) = frame.into_data() {
                self.parser.bytes.extend_from_slice(&data);
            }
        }
    }
}

impl Parser {
    /// An event, if a whole one is there.
    fn next(&mut self) -> Option<Event> {
        while let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
            self.bytes.drain(..=end);
            match line.trim_end_matches('\r').split_once(':') {
                None if line.trim().is_empty() && !self.event.data.is_empty() => {
                    return Some(std::mem::take(&mut self.event));
                }
                Some(("id", id)) => self.event.id = id.trim_start().to_owned(),
                Some(("data", data)) => self.event.data.push_str(data.strip_prefix(' ').unwrap_or(data)),
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_wherever_the_stream_is_split() {
        let stream = b"retry: 1000\n\n: alive\n\nid: 7\nevent: record\ndata: {\"a\":\"x: y\"}\n\nid: 8\r\ndata: {}\r\n\r\nid: 9\n";
        let event = |id: &str, data: &str| Event { id: id.into(), data: data.into() };
        for at in 0..stream.len() {
            let (mut parser, mut events) = (Parser::default(), Vec::new());
            for part in [&stream[..at], &stream[at..]] {
                parser.bytes.extend_from_slice(part);
                events.extend(std::iter::from_fn(|| parser.next()));
            }
            assert_eq!(events, [event("7", "{\"a\":\"x: y\"}"), event("8", "{}")], "{at}");
        }
    }
}
