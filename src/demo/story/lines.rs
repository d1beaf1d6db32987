//! The story as JSON, a document a line, for programs: `{"line":"begun",…}`, then for each chapter `chapter`, `done`,
//! `undone` and `told`, and `end` last.

use std::net::SocketAddr;

use serde::Serialize;
use serde_json::json;

use super::Whole;
use super::chapters::Chapter;
use super::told::{Hurt, Seen, Told};
use crate::demo::report::Replica;

/// A document, with what it is in front.
#[derive(Serialize)]
struct Line<'a, T> {
    line: &'a str,
    #[serde(flatten)]
    rest: &'a T,
}

fn line(which: &str, rest: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string(&Line { line: which, rest })? + "\n")
}

pub(super) fn begin(
    gateway: SocketAddr,
    console: SocketAddr,
    replicas: &[Replica],
    rate: u32,
) -> anyhow::Result<String> {
    let replicas: Vec<_> =
        replicas.iter().map(|replica| json!({ "address": replica.addr, "control": replica.control })).collect();
    line("begun", &json!({ "gateway": gateway, "console": console, "replicas": replicas, "rate": rate }))
}

pub(super) fn heading(number: usize, chapter: &Chapter, at_unix_ms: u64) -> anyhow::Result<String> {
    let Chapter { name, title, .. } = chapter;
    line("chapter", &json!({ "number": number, "chapter": name, "title": title, "at_unix_ms": at_unix_ms }))
}

/// `which` is `done` or `undone`.
pub(super) fn deed(chapter: &str, which: &str, at_unix_ms: u64, hurt: &[Hurt], what: &str) -> anyhow::Result<String> {
    line(which, &json!({ "chapter": chapter, "at_unix_ms": at_unix_ms, "hurt": hurt, "what": what }))
}

pub(super) fn told(told: &Told) -> anyhow::Result<String> {
    line("told", told)
}

/// `clients` and `gateway` have counted the same requests, each on its own, if nobody else has asked for anything.
pub(super) fn end(all: &[Told], whole: &Whole) -> anyhow::Result<String> {
    let clients: Vec<Seen> = whole.seen.iter().map(Seen::of).collect();
    let chapters: Vec<_> =
        all.iter().map(|told| json!({ "chapter": told.chapter, "problems": told.problems })).collect();
    let gateway = json!({ "by_class": whole.counted });
    let interrupted = whole.is_interrupted;
    line("end", &json!({ "chapters": chapters, "clients": clients, "gateway": gateway, "interrupted": interrupted }))
}
