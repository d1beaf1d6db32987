//! Configurations. No text makes reading, checking or reporting panic, whatever is wrong with it; there is something to run by
//! exactly if nothing is an error; and the effective configuration of a sound one is sound itself.
//!
//! The text sees no machine but a small one: two environment variables, two files, and names that all resolve to loopback.

#![no_main]

use std::io;
use std::path::{Path, PathBuf};

use evenkeel::config::{Outcome, World, catalogue, load, report};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let outcome = read(text);
    assert_eq!(outcome.compiled.is_some(), !outcome.has_errors(), "{}", outcome.text());
    for finding in &outcome.findings {
        assert!(!finding.message.is_empty() && !finding.remedy.is_empty(), "{finding:?}");
        if let Some(place) = &finding.place {
            assert!(place.line >= 1 && place.line <= text.split('\n').count(), "{finding:?}");
        }
    }
    let json = report::json::render(&outcome.findings);
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
    let sarif = report::sarif::render(&outcome.findings, catalogue::rules(), "0");
    assert!(serde_json::from_str::<serde_json::Value>(&sarif).is_ok());
    if outcome.compiled.is_some() {
        let again = read(&outcome.effective);
        assert!(again.compiled.is_some(), "{}\n{}", outcome.effective, again.text());
    }
});

fn read(text: &str) -> Outcome {
    let world = World {
        directory: PathBuf::from("/etc/evenkeel"),
        env: &|name| match name {
            "GOOD_HASH" => Some(format!("sha256:{}", "ab".repeat(32))),
            "SECRET" => Some("a-secret-of-the-environment".to_owned()),
            _ => None,
        },
        read: &|path: &Path, _| match path.file_name().and_then(|name| name.to_str()) {
            Some("secret") => Ok(b"a-secret-of-a-file\n".to_vec()),
            Some("sorry.html") => Ok(b"<h1>sorry</h1>".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        },
        resolve: &|name| {
            let port = name.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(80);
            Ok(vec![([127, 0, 0, 1], port).into()])
        },
    };
    load("fuzz.toml", text.to_owned(), &world)
}
