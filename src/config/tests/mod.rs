//! Tests of the whole way from text to plan, on a world of their own: no environment, no files but those that are given,
//! no resolver. Snapshots show findings as users see them.

mod documents;
mod findings;
mod fixtures;
mod plans;
mod pools;
mod resilience;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{Outcome, World, load};

/// Reads `text` as `evenkeel.toml` in the test world: `GOOD_HASH` and `SECRET` are set, `/run/secrets/team` and
/// `sorry.html` can be read, names below `.internal` resolve.
pub(super) fn read(text: &str) -> Outcome {
    let world = World { directory: PathBuf::new(), env: &env, read: &file, resolve: &resolve };
    load("evenkeel.toml", text.to_owned(), &world)
}

pub(super) const SECRET: &str = "hunter2-and-more";

fn env(name: &str) -> Option<String> {
    match name {
        "GOOD_HASH" => Some(format!("sha256:{}", "ab".repeat(32))),
        "SECRET" => Some(SECRET.to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn file(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let content = match path.to_str() {
        Some("/run/secrets/team") => format!("{SECRET}\n").into_bytes(),
        Some("/etc/evenkeel/pg") => b"of-the-pooler\n".to_vec(),
        Some("userlist.txt") => b"\"shop\" \"SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy\"\n".to_vec(),
        Some("md5.txt") => b"\"shop\" \"md5d41d8cd98f00b204e9800998ecf8427e\"\n\"blog\" \"hunter2\"\n".to_vec(),
        Some("wrong.txt") => b"\"shop\" \"x\"\nhunter2\n".to_vec(),
        Some("pool.pem") => include_bytes!("../../../examples/pool/server.pem").to_vec(),
        Some("pool.key") => include_bytes!("../../../examples/pool/server.key").to_vec(),
        Some("other.key") => include_bytes!("other.key").to_vec(),
        Some("sorry.html") => b"<h1>sorry</h1>".to_vec(),
        Some("binary") => vec![0xff, 0xfe],
        Some("huge.html") => vec![b'x'; 100_000],
        Some("logs" | "/var/log/evenkeel") => return Err(io::ErrorKind::IsADirectory.into()),
        Some("locked") => return Err(io::ErrorKind::PermissionDenied.into()),
        _ => return Err(io::ErrorKind::NotFound.into()),
    };
    if content.len() > most { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(content) }
}

fn resolve(name: &str) -> io::Result<Vec<SocketAddr>> {
    let (host, port) = name.rsplit_once(':').unwrap_or((name, "0"));
    let port = port.parse().unwrap_or(0);
    match host {
        "two.internal" => Ok(vec![SocketAddr::from(([10, 0, 0, 1], port)), SocketAddr::from(([10, 0, 0, 2], port))]),
        "localhost" => Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]),
        "empty.internal" => Ok(Vec::new()),
        _ if host.ends_with(".internal") => Ok(vec![SocketAddr::from(([10, 0, 0, 1], port))]),
        _ => Err(io::Error::other("failed to lookup address information: Name or service not known")),
    }
}

/// The ids of all findings, in order.
pub(super) fn ids(outcome: &Outcome) -> Vec<&'static str> {
    outcome.findings.iter().map(|finding| finding.id).collect()
}
