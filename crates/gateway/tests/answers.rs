//! What services answer, and what of it clients get. An answer that two readers could take for two different things is
//! never passed on: the client gets 502, or, if the head has gone out already, an end that no client takes for the end
//! of the body (RFC 9112, 4 to 8; RFC 9110, 15).

use testkit::{RawResponse, Reply, ServingUpstream, Upstream, WireError};

use crate::support::{Running, SOON, Setup, code, get};

/// What the client must get.
enum Gets {
    /// 502 with this code, and a connection that lives on.
    Refused(&'static str),
    /// A head with this status, and then an end that shows that something is missing.
    Broken(u16),
    /// This status and body.
    Whole(u16, &'static str),
}

use Gets::{Broken, Refused, Whole};

const MALFORMED: Gets = Refused("upstream-malformed");
const CLOSED: Gets = Refused("upstream-closed");

/// What it is, what the service sends (and then closes), and what the client must get.
type Case = (&'static str, &'static str, Gets);

#[rustfmt::skip] // One case, one line.
const LENGTHS: &[Case] = &[
    ("length and coding", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", MALFORMED),
    ("coding and length", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n", MALFORMED),
    ("two equal lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("two different lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 2\r\n\r\nabc", MALFORMED),
    ("a list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc", MALFORMED),
    ("a length with a plus", "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc", MALFORMED),
    ("a negative length", "HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc", MALFORMED),
    ("a hexadecimal length", "HTTP/1.1 200 OK\r\nContent-Length: 0x3\r\n\r\nabc", MALFORMED),
    ("an empty length", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nabc", MALFORMED),
    ("a length beyond 64 bits", "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551619\r\n\r\nabc", MALFORMED),
    ("another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc", MALFORMED),
    ("chunked behind another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("chunked before another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", MALFORMED),
    ("chunked twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("an empty coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\nabc", MALFORMED),
    ("a coding in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("length and coding in a 204", "HTTP/1.1 204 No\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", MALFORMED),
    ("two lengths in a 304", "HTTP/1.1 304 No\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", MALFORMED),
    ("Connection: content-length", "HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("Connection: transfer-encoding", "HTTP/1.1 200 OK\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", MALFORMED),
];

#[rustfmt::skip] // One case, one line.
const HEADS: &[Case] = &[
    ("nothing", "", CLOSED),
    ("half a status line", "HTTP/1.1 200", CLOSED),
    ("half a head", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n", CLOSED),
    ("half an empty line", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r", CLOSED),
    ("an interim answer and nothing more", "HTTP/1.1 103 Early\r\nLink: <a>\r\n\r\n", CLOSED),
    ("garbage", "nonsense\r\n\r\n", MALFORMED),
    ("a page without a head", "<html>hello</html>\n", MALFORMED),
    ("an empty line first", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("version 2", "HTTP/2.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("version 2 without a dot", "HTTP/2 200 OK\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("version 0.9", "HTTP/0.9 200 OK\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("a version in lower case", "http/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("another protocol", "ICY 200 OK\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("a status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("a status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("a status with a letter", "HTTP/1.1 2x0 OK\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("status 099", "HTTP/1.1 099 OK\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("status 600", "HTTP/1.1 600 OK\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("two spaces before the status", "HTTP/1.1  200 OK\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("CR in the reason", "HTTP/1.1 200 O\rK\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("NUL in the reason", "HTTP/1.1 200 O\0K\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("LF behind the status line", "HTTP/1.1 200 OK\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("LF behind a header", "HTTP/1.1 200 OK\r\nX-A: b\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("LF as the empty line", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\nabc", MALFORMED),
    ("CR in a value", "HTTP/1.1 200 OK\r\nX-A: b\rSet-Cookie: c\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("NUL in a value", "HTTP/1.1 200 OK\r\nX-A: \0\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("a folded line", "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("a first line that begins with a space", "HTTP/1.1 200 OK\r\n X-A: b\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc", MALFORMED),
    ("a line without a colon", "HTTP/1.1 200 OK\r\nX-A\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("an empty name", "HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("a switch that nobody asked for", "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", MALFORMED),
    ("a bad interim answer", "HTTP/1.1 103 Early\r\nX-A : b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", MALFORMED),
];

#[rustfmt::skip] // One case, one line.
const BODIES: &[Case] = &[
    ("a short body", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", Broken(200)),
    ("no body at all", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", Broken(200)),
    ("chunks without an end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", Broken(200)),
    ("half a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nab", Broken(200)),
    ("no chunk at all", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Broken(200)),
    ("half an end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", Broken(200)),
    ("half a trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-A: b", Broken(200)),
    ("a size that is no number", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\nabc\r\n0\r\n\r\n", MALFORMED),
    ("a size with a prefix", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", MALFORMED),
    ("a negative size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n", MALFORMED),
    ("a size beyond 60 bits", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\nabc\r\n0\r\n\r\n", MALFORMED),
    ("LF behind a size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", MALFORMED),
    ("LF behind a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n", MALFORMED),
    ("a longer chunk than announced", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", MALFORMED),
    ("LF in an extension", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a\nabc\r\n0\r\n\r\n", MALFORMED),
    ("a bad trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-A : b\r\n\r\n", MALFORMED),
    ("an answer as a trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nHTTP/1.1 200 OK\r\n\r\n", MALFORMED),
    ("a length", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Whole(200, "abc")),
    ("a length of 0", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Whole(200, "")),
    ("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2;x=y\r\nbc\r\n0\r\n\r\n", Whole(200, "abc")),
    ("chunks without data", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Whole(200, "")),
    ("until the end", "HTTP/1.1 200 OK\r\n\r\nabc", Whole(200, "abc")),
    ("until the end, and empty", "HTTP/1.1 200 OK\r\n\r\n", Whole(200, "")),
    ("HTTP/1.0 with a length", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", Whole(200, "abc")),
    ("HTTP/1.0 until the end", "HTTP/1.0 200 OK\r\n\r\nabc", Whole(200, "abc")),
    ("no reason and no space", "HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nabc", Whole(200, "abc")),
    ("a reason beyond ASCII", "HTTP/1.1 200 \u{e9}\r\nContent-Length: 3\r\n\r\nabc", Whole(200, "abc")),
    ("a status of its own", "HTTP/1.1 299 Fine\r\nContent-Length: 3\r\n\r\nabc", Whole(299, "abc")),
    ("an error", "HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\nabc", Whole(500, "abc")),
    ("204", "HTTP/1.1 204 No Content\r\n\r\n", Whole(204, "")),
    ("204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Whole(204, "")),
    ("204 with a coding and its end", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Whole(204, "")),
    ("304 with the length of what it does not send", "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", Whole(304, "")),
    ("304 with a body all the same", "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\nabc", Whole(304, "")),
    ("bytes behind the answer", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", Whole(200, "abc")),
    ("a second answer behind the answer", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", Whole(200, "abc")),
    ("a second answer behind chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", Whole(200, "abc")),
    ("a second answer behind no body", "HTTP/1.1 204 No\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", Whole(204, "")),
];

/// How many cases there are.
pub(crate) fn count() -> usize {
    [LENGTHS, HEADS, BODIES].iter().map(|table| table.len()).sum()
}

/// A service that answers `/3` with the third case, and a gateway before it.
fn start(table: &'static [Case]) -> (ServingUpstream, Running) {
    let upstream = Upstream::serving(move |request| match request.path()[1..].parse::<usize>() {
        Ok(n) => Reply::raw(latin(table[n].1)),
        Err(_) => Reply::ok("fine"),
    })
    .unwrap();
    // A connection may end behind an answer without a word: what meets that is sent once more.
    let running = Setup::to(upstream.addr()).service(|s| s.retry.attempts = 2).start();
    (upstream, running)
}

/// One byte for each character, as HTTP has it.
fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(c).unwrap()).collect()
}

fn run(table: &'static [Case]) {
    let (upstream, running) = start(table);
    for (n, (name, _, gets)) in table.iter().enumerate() {
        let mut client = running.client();
        client.send(get(&format!("/{n}"))).unwrap();
        let head = client.read_response_head(SOON).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        let mut answer: RawResponse = head;
        let rest = client.read_rest(&mut answer, SOON);
        match (gets, rest) {
            (Refused(expected), Ok(())) => {
                assert_eq!((answer.status, code(&answer).as_str()), (502, *expected), "{name}: {}", answer.text());
            }
            (Whole(status, body), Ok(())) => {
                assert_eq!((answer.status, answer.text().as_str()), (*status, *body), "{name}");
            }
            (Broken(status), Err(error)) => {
                assert_eq!(answer.status, *status, "{name}");
                assert!(error.downcast_ref::<WireError>().is_some_and(WireError::is_gone), "{name}: {error:#}");
                continue;
            }
            (_, rest) => panic!("{name}: {answer:?}, then {rest:?}"),
        }
        // The next answer on this connection is the next request's: nothing is left over.
        assert!(!answer.closes(), "{name}: {:?}", answer.lines);
        client.send(get("/next")).unwrap();
        assert_eq!(client.read_response(SOON).unwrap().text(), "fine", "{name}");
    }
    let retried = running.metric("evenkeel_endpoint_connections_opened_total", &[]) as usize;
    assert_eq!(upstream.connections(), retried);
    assert_eq!(upstream.problems(), [""; 0]);
}

#[test]
fn ambiguous_answers_are_not_passed_on() {
    run(LENGTHS);
}

#[test]
fn bad_heads_of_answers_are_not_passed_on() {
    run(HEADS);
}

#[test]
fn bodies_of_answers_end_where_they_end_or_visibly_break_off() {
    run(BODIES);
}
