//! A DNS server for tests: answers A, AAAA and SRV questions over UDP and TCP on one port of loopback from what the test
//! has put there, with the times to live that it says; it can fail, be silent, or send long answers to TCP. It has a
//! grammar of its own (RFC 1035, RFC 2782) and knows nothing of zones: a name is there or is not.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::poll::lock;

/// How often the threads look whether they are still wanted.
const LOOK: Duration = Duration::from_millis(20);
/// Pairs of ports that are tried until UDP and TCP have the same one.
const TRIES: usize = 50;
/// The longest answer over UDP to a question that says nothing of longer ones.
const UDP_BYTES: usize = 512;

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const SRV: u16 = 33;

/// What a name holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An address: A or AAAA.
    Address(IpAddr),
    /// A service record.
    Srv {
        /// Lower is used first.
        priority: u16,
        /// Share among those of the same priority.
        weight: u16,
        /// The port.
        port: u16,
        /// The host.
        target: String,
    },
    /// Another name for which the question is answered.
    Alias(String),
}

/// How the server behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mood {
    /// It answers.
    #[default]
    Answering,
    /// It answers SERVFAIL.
    Failing,
    /// It does not answer.
    Silent,
    /// It says over UDP that the answer is too long, and gives it over TCP.
    Truncating,
}

/// A running server. It ends when dropped.
#[derive(Debug)]
pub struct DnsServer {
    addr: SocketAddr,
    zone: Arc<Zone>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Zone {
    names: Mutex<HashMap<String, (u32, Vec<Answer>)>>,
    mood: Mutex<Mood>,
    asked: AtomicU64,
    over_tcp: AtomicU64,
    ended: AtomicBool,
}

impl DnsServer {
    /// Starts one that knows no name.
    ///
    /// # Errors
    /// When sockets or threads cannot be had.
    pub fn start() -> io::Result<DnsServer> {
        let (udp, tcp) = bind()?;
        let addr = udp.local_addr()?;
        udp.set_read_timeout(Some(LOOK))?;
        tcp.set_nonblocking(true)?;
        let zone = Arc::new(Zone::default());
        let (of_udp, of_tcp) = (Arc::clone(&zone), Arc::clone(&zone));
        let spawn =
            |name: &str, run: Box<dyn FnOnce() + Send>| std::thread::Builder::new().name(name.to_owned()).spawn(run);
        let threads = vec![
            spawn("dns-udp", Box::new(move || serve_udp(&udp, &of_udp)))?,
            spawn("dns-tcp", Box::new(move || serve_tcp(&tcp, &of_tcp)))?,
        ];
        Ok(DnsServer { addr, zone, threads })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on `name` holds these, with this time to live in seconds. Nothing: the name is there and empty.
    pub fn set(&self, name: &str, ttl: u32, answers: Vec<Answer>) {
        lock(&self.zone.names).insert(name.to_ascii_lowercase(), (ttl, answers));
    }

    /// The name is not there any more.
    pub fn remove(&self, name: &str) {
        lock(&self.zone.names).remove(&name.to_ascii_lowercase());
    }

    /// Behaves like this from now on.
    pub fn behave(&self, mood: Mood) {
        *lock(&self.zone.mood) = mood;
    }

    /// Questions that came, answered or not.
    pub fn asked(&self) -> u64 {
        self.zone.asked.load(Ordering::SeqCst)
    }

    /// Those of them that came over TCP.
    pub fn asked_over_tcp(&self) -> u64 {
        self.zone.over_tcp.load(Ordering::SeqCst)
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.zone.ended.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _panicked = thread.join().is_err();
        }
    }
}

impl Answer {
    /// An address.
    pub fn address(ip: impl Into<IpAddr>) -> Answer {
        Answer::Address(ip.into())
    }

    /// A service record.
    pub fn srv(priority: u16, weight: u16, target: &str, port: u16) -> Answer {
        Answer::Srv { priority, weight, port, target: target.to_owned() }
    }

    const fn kind(&self) -> u16 {
        match self {
            Answer::Address(IpAddr::V4(_)) => A,
            Answer::Address(IpAddr::V6(_)) => AAAA,
            Answer::Srv { .. } => SRV,
            Answer::Alias(_) => CNAME,
        }
    }

    fn data(&self) -> Vec<u8> {
        match self {
            Answer::Address(IpAddr::V4(ip)) => ip.octets().to_vec(),
            Answer::Address(IpAddr::V6(ip)) => ip.octets().to_vec(),
            Answer::Alias(name) => wire_name(name),
            Answer::Srv { priority, weight, port, target } => {
                let mut data: Vec<u8> = [priority, weight, port].into_iter().flat_map(|n| n.to_be_bytes()).collect();
                data.extend(wire_name(target));
                data
            }
        }
    }
}

/// One port for both protocols.
fn bind() -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = None;
    for _ in 0..TRIES {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        match TcpListener::bind(udp.local_addr()?) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

fn serve_udp(socket: &UdpSocket, zone: &Zone) {
    let mut question = [0; 4096];
    while !zone.ended.load(Ordering::SeqCst) {
        let Ok((n, from)) = socket.recv_from(&mut question) else { continue };
        if let Some(answer) = zone.answer(&question[..n], false) {
            // Whoever asked may be gone.
            let _gone = socket.send_to(&answer, from).is_err();
        }
    }
}

fn serve_tcp(listener: &TcpListener, zone: &Zone) {
    while !zone.ended.load(Ordering::SeqCst) {
        match listener.accept() {
            // One after the other: tests ask little over TCP.
            Ok((stream, _)) => {
                let _broken = serve_stream(stream, zone).is_err();
            }
            Err(_) => std::thread::park_timeout(LOOK),
        }
    }
}

fn serve_stream(mut stream: TcpStream, zone: &Zone) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut question)?;
        if let Some(answer) = zone.answer(&question, true) {
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())?;
        }
    }
}

impl Zone {
    /// The answer to a question; `None` if there is to be none.
    fn answer(&self, question: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
        let (name, kind, end) = read_question(question)?;
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.over_tcp.fetch_add(u64::from(over_tcp), Ordering::SeqCst);
        let mood = *lock(&self.mood);
        let (code, records) = match mood {
            Mood::Silent => return None,
            Mood::Failing => (2, Vec::new()),
            Mood::Answering | Mood::Truncating => self.records(&name, kind),
        };
        let body: Vec<u8> = records.concat();
        let too_long = !over_tcp && (mood == Mood::Truncating || end + body.len() > UDP_BYTES);
        let mut answer = question[..2].to_vec();
        // An answer, recursion was available; with authority it would have to show a zone.
        answer.extend([0x81 | (u8::from(too_long) << 1), 0x80 | code]);
        let count = if too_long { 0 } else { records.len() as u16 };
        answer.extend([0, 1]);
        answer.extend(count.to_be_bytes());
        answer.extend([0; 4]);
        answer.extend(&question[12..end]);
        if !too_long {
            answer.extend(body);
        }
        Some(answer)
    }

    /// Response code and records, aliases first.
    fn records(&self, name: &str, kind: u16) -> (u8, Vec<Vec<u8>>) {
        let names = lock(&self.names);
        let (mut name, mut records) = (name.to_owned(), Vec::new());
        // As many aliases of aliases as anybody follows.
        for _ in 0..8 {
            let Some((ttl, answers)) = names.get(&name) else { return (3, records) };
            let alias = answers.iter().find_map(|answer| if let Answer::Alias(to) = answer { Some(to) } else { None });
            let here = answers.iter().filter(|answer| answer.kind() == kind || answer.kind() == CNAME);
            records.extend(here.map(|answer| record(&name, *ttl, answer)));
            match alias {
                Some(to) => name = to.to_ascii_lowercase(),
                None => break,
            }
        }
        (0, records)
    }
}

fn record(name: &str, ttl: u32, answer: &Answer) -> Vec<u8> {
    let data = answer.data();
    let mut record = wire_name(name);
    record.extend(answer.kind().to_be_bytes());
    record.extend([0, 1]);
    record.extend(ttl.to_be_bytes());
    record.extend((data.len() as u16).to_be_bytes());
    record.extend(data);
    record
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(label.len() as u8);
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// Name in lower case, type, and where the question ends; `None` if it is none.
fn read_question(message: &[u8]) -> Option<(String, u16, usize)> {
    let is_question = message.get(2)? & 0x80 == 0 && message.get(4..6)? == [0, 1];
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => break,
            // A question has nothing before it that it could point at.
            64.. => return None,
            _ => labels.push(std::str::from_utf8(message.get(at..at + length)?).ok()?.to_ascii_lowercase()),
        }
        at += length;
    }
    let kind = u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?);
    (is_question && message.len() >= at + 4).then(|| (labels.join("."), kind, at + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question as a resolver would send it: id 7, recursion desired.
    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(wire_name(name));
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    fn ask(server: &DnsServer, name: &str, kind: u16) -> Vec<u8> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.send_to(&question(name, kind), server.addr()).unwrap();
        let mut answer = [0; 4096];
        let n = socket.recv(&mut answer).unwrap();
        answer[..n].to_vec()
    }

    #[test]
    fn it_answers_what_it_was_told_and_fails_when_told_to() {
        let server = DnsServer::start().unwrap();
        server.set("Shop.test", 30, vec![Answer::address([10, 0, 0, 7])]);
        server.set("www.shop.test", 5, vec![Answer::Alias("shop.test".to_owned())]);
        let answer = ask(&server, "shop.TEST", A);
        assert_eq!((answer[0..4].to_vec(), answer[7]), (vec![0, 7, 0x81, 0x80], 1));
        assert!(answer.ends_with(&[0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 0, 0, 7]), "{answer:?}");
        assert_eq!(ask(&server, "shop.test", AAAA)[7], 0, "the name is there without such a record");
        assert_eq!(ask(&server, "www.shop.test", A)[7], 2, "the alias and what it stands for");
        assert_eq!(ask(&server, "none.test", A)[3] & 15, 3);
        server.behave(Mood::Failing);
        assert_eq!(ask(&server, "shop.test", A)[3] & 15, 2);
        server.behave(Mood::Truncating);
        let answer = ask(&server, "shop.test", A);
        assert_eq!((answer[2] & 2, answer[7]), (2, 0));
        assert_eq!((server.asked(), server.asked_over_tcp()), (6, 0));
    }

    #[test]
    fn a_service_record_is_written_as_rfc_2782_says() {
        let record = record("_a._b.c", 9, &Answer::srv(1, 2, "h.c", 258));
        let mut wanted = b"\x02_a\x02_b\x01c\0\0\x21\0\x01\0\0\0\x09\0\x0b".to_vec();
        wanted.extend(b"\0\x01\0\x02\x01\x02\x01h\x01c\0");
        assert_eq!(record, wanted);
    }

    #[test]
    fn what_is_no_question_is_not_answered() {
        let good = question("shop.test", A);
        assert_eq!(read_question(&good), Some(("shop.test".to_owned(), A, good.len())));
        assert!((0..good.len()).all(|n| read_question(&good[..n]).is_none()));
    }
}
