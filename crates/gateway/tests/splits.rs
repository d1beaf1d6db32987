//! Exchanges cut at every byte, on both sides: however the network cuts a message up, its meaning is the same.
//!
//! A cut is two writes with a short pause. If both arrive as one all the same, the case is weaker and never wrong.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use testkit::{RawClient, RawResponse, Reply, Upstream};

use crate::support::{SOON, Setup, get};

const PAUSE: Duration = Duration::from_micros(300);

/// What a client sends, and what it must get: statuses, bodies, and whether the connection ends.
type Exchange = (&'static str, &'static str, &'static [(u16, &'static str)], bool);

#[rustfmt::skip] // One case, one line.
const REQUESTS: &[Exchange] = &[
    ("a plain request", "GET /a?b HTTP/1.1\r\nHost: a.test\r\nX-A: b\r\n\r\n", &[(200, "GET /a?b ")], false),
    ("a body with a length", "POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello", &[(200, "POST /a hello")], false),
    ("a chunked body", "PUT /a HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nX-B: c\r\n\r\n", &[(200, "PUT /a abcd")], false),
    ("two requests", "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nabGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &[(200, "POST /1 ab"), (200, "GET /2 ")], true),
    ("an ambiguous length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", &[(400, "ambiguous-framing")], true),
    ("a bare LF", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\n\r\n", &[(400, "malformed-request")], true),
    ("a bad chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX", &[(400, "malformed-request")], true),
];

fn judge(answers: &[RawResponse], expected: &[(u16, &str)], told: &str) {
    for (answer, (status, text)) in answers.iter().zip(expected) {
        let right = match status {
            200 => answer.text() == *text,
            _ => answer.text().contains(&format!("\"code\":\"{text}\"")),
        };
        assert!(answer.status == *status && right, "{told}: {} {}", answer.status, answer.text());
    }
}

fn exchange(client: &mut RawClient, expected: &[(u16, &str)], closes: bool, told: &str) {
    let answers = client.read_responses(expected.len(), SOON).unwrap_or_else(|e| panic!("{told}: {e:#}"));
    judge(&answers, expected, told);
    if closes {
        client.expect_end(SOON).unwrap_or_else(|e| panic!("{told}: {e:#}"));
    } else {
        assert!(!answers.iter().any(RawResponse::closes), "{told}");
    }
}

#[test]
fn requests_cut_at_every_byte() {
    let upstream = Upstream::serving(|r| Reply::ok(format!("{} {} {}", r.method, r.target, r.text()))).unwrap();
    let running = Setup::to(upstream.addr()).start();
    for (name, bytes, expected, closes) in REQUESTS {
        let mut kept = running.client();
        for at in 1..bytes.len() {
            let told = format!("{name}, cut at {at}");
            if *closes {
                kept = running.client();
            }
            kept.send(&bytes[..at]).unwrap();
            testkit::pace(PAUSE);
            // The rest may not be wanted any more.
            kept.send_until_refused(&bytes[at..], SOON).unwrap();
            exchange(&mut kept, expected, *closes, &told);
        }
        let mut client = running.client();
        for byte in bytes.as_bytes() {
            if client.send_until_refused([*byte], SOON).unwrap() == 0 {
                break;
            }
        }
        exchange(&mut client, expected, *closes, name);
    }
    assert_eq!(upstream.problems(), [""; 0]);
}

/// What a service sends, and what the client must get.
enum Gets {
    Whole(u16, &'static str),
    Refused(&'static str),
    /// 502, or, if the head had gone out already, an answer that breaks off.
    Broken,
}

#[rustfmt::skip] // One case, one line.
const ANSWERS: &[(&str, &str, Gets)] = &[
    ("a length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello", Gets::Whole(200, "hello")),
    ("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nX-B: c\r\n\r\n", Gets::Whole(200, "abcd")),
    ("an interim answer first", "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno", Gets::Whole(404, "no")),
    ("until the end", "HTTP/1.0 200 OK\r\nX-A: b\r\n\r\nhello", Gets::Whole(200, "hello")),
    ("nothing", "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n", Gets::Whole(204, "")),
    ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab", Gets::Refused("upstream-malformed")),
    ("a bare LF", "HTTP/1.1 200 OK\r\nX-A: b\nContent-Length: 2\r\n\r\nab", Gets::Refused("upstream-malformed")),
    ("half a head", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", Gets::Refused("upstream-closed")),
    ("a bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n", Gets::Broken),
    ("a short body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", Gets::Broken),
];

/// A service that answers `/3/17` with the third answer cut at byte 17 (0: byte by byte) and then closes.
fn cutting() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let answer = Arc::new(|mut stream: TcpStream| -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut numbers = head.split([' ', '/']).filter_map(|word| word.parse::<usize>().ok());
        let (Some(n), Some(at)) = (numbers.next(), numbers.next()) else { return Ok(()) };
        let bytes = ANSWERS[n].1.as_bytes();
        if at == 0 {
            return bytes.iter().try_for_each(|b| stream.write_all(&[*b]));
        }
        stream.write_all(&bytes[..at])?;
        testkit::pace(PAUSE);
        stream.write_all(&bytes[at..])
    });
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            // An answer that is refused half-way cannot be sent to its end.
            std::thread::spawn(move || answer(stream).is_ok());
        }
    });
    addr
}

#[test]
fn answers_cut_at_every_byte() {
    // Some connections end behind their answers without a word: the request is then sent again.
    let running = Setup::to(cutting()).service(|s| s.retry.attempts = 3).start();
    let mut client = running.client();
    for (n, (name, bytes, gets)) in ANSWERS.iter().enumerate() {
        for at in 0..bytes.len() {
            let told = format!("{name}, cut at {at}");
            client.send(get(&format!("/{n}/{at}"))).unwrap();
            let mut answer = client.read_response_head(SOON).unwrap_or_else(|e| panic!("{told}: {e:#}"));
            let rest = client.read_rest(&mut answer, SOON);
            match gets {
                Gets::Whole(status, body) => judge_whole(&answer, *status, body, &told),
                Gets::Refused(code) => judge(&[answer.clone()], &[(502, code)], &told),
                Gets::Broken if answer.status == 502 => judge(&[answer.clone()], &[(502, "upstream-malformed")], &told),
                Gets::Broken => {
                    assert!(rest.is_err(), "{told}: {}", answer.text());
                    client = running.client();
                    continue;
                }
            }
            rest.unwrap_or_else(|e| panic!("{told}: {e:#}"));
            assert!(!answer.closes(), "{told}");
        }
    }
}

fn judge_whole(answer: &RawResponse, status: u16, body: &str, told: &str) {
    assert_eq!((answer.status, answer.text().as_str()), (status, body), "{told}");
}
