//! The store on real files: what is kept, what is lost when, and that nothing of it stops the node.
#![allow(clippy::unwrap_used, reason = "this is all test code; an unwrap that fails is a test that fails")]

mod backups;
mod child;
mod crash;
mod faults;
mod journal;
mod ledger;
mod series;
mod support;
