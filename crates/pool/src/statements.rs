//! Prepared statements, shared by every client and connection that uses the same text with the same parameter types. A
//! statement is looked up by its whole text, never by a hash alone, and has one name at every server.
//!
//! Statements are held by the clients that prepared them and the connections that have them; nobody else keeps one alive.
//! What is kept in all is bounded ([`MAX_BYTES`]): beyond it a client's Parse is refused until others are given up.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use foldhash::fast::RandomState;

use crate::sql::{self, Scan};

/// All texts together, in bytes: some 100,000 statements of a usual size.
const MAX_BYTES: u64 = 256 << 20;
/// How many maps there are, so that workers seldom meet.
const SHARDS: usize = 16;
/// The first bytes of every statement's name at a server.
pub(crate) const PREFIX: &[u8] = b"_ek";

/// One text with parameter types.
#[derive(Debug)]
pub(crate) struct Statement {
    /// Unique in the process.
    pub(crate) id: u64,
    /// The text.
    pub(crate) text: Box<[u8]>,
    /// Number and oids of the parameter types, as in Parse.
    pub(crate) types: Box<[u8]>,
    /// What can be seen of the text.
    pub(crate) scan: Scan,
    _room: Room,
}

/// Every statement that somebody holds.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    next: AtomicU64,
    bytes: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Shard {
    by_hash: HashMap<u64, Vec<Weak<Statement>>, RandomState>,
    /// How many there were when the dead were last taken out.
    swept_at: usize,
}

/// A statement's share of what may be kept in all.
#[derive(Debug)]
struct Room {
    bytes: Arc<AtomicU64>,
    size: u64,
}

/// There is no room for another text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom;

impl Statements {
    /// The statement of this text and these types.
    pub(crate) fn intern(&self, text: &[u8], types: &[u8]) -> Result<Arc<Statement>, NoRoom> {
        let mut hasher = self.hasher.build_hasher();
        text.hash(&mut hasher);
        types.hash(&mut hasher);
        let hash = hasher.finish();
        let mut shard = self.shards[(hash >> 48) as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = shard.by_hash.get(&hash) {
            let found = same.iter().filter_map(Weak::upgrade).find(|s| *s.text == *text && *s.types == *types);
            if let Some(found) = found {
                return Ok(found);
            }
        }
        let room = Room::take(&self.bytes, (text.len() + types.len() + size_of::<Statement>()) as u64).ok_or(NoRoom)?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let scan = sql::scan(text);
        let statement = Arc::new(Statement { id, text: text.into(), types: types.into(), scan, _room: room });
        shard.by_hash.entry(hash).or_default().push(Arc::downgrade(&statement));
        if shard.by_hash.len() > 64 + 2 * shard.swept_at {
            shard.by_hash.retain(|_, same| {
                same.retain(|weak| weak.strong_count() > 0);
                !same.is_empty()
            });
            shard.swept_at = shard.by_hash.len();
        }
        Ok(statement)
    }
}

impl Room {
    fn take(bytes: &Arc<AtomicU64>, size: u64) -> Option<Room> {
        let more = |taken: u64| (taken + size <= MAX_BYTES).then_some(taken + size);
        bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Room { bytes: bytes.clone(), size })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.size, Ordering::Relaxed);
    }
}

impl Statement {
    /// Writes its name at every server into `room`.
    pub(crate) fn name<'a>(&self, room: &'a mut [u8; 24]) -> &'a [u8] {
        let mut rest = &mut room[..];
        // The prefix and at most 16 digits: there is always room.
        let _fits = write!(rest, "_ek{:x}", self.id);
        let len = 24 - rest.len();
        &room[..len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_and_types_are_one_statement_and_others_are_not() {
        let all = Statements::default();
        let a = all.intern(b"select $1", &[0, 1, 0, 0, 0, 23]).unwrap();
        let b = all.intern(b"select $1", &[0, 1, 0, 0, 0, 23]).unwrap();
        let c = all.intern(b"select $1", &[0, 0]).unwrap();
        assert!(Arc::ptr_eq(&a, &b));
        assert_ne!(a.id, c.id);
        let mut room = [0; 24];
        assert_eq!(c.name(&mut room), b"_ek1");
        assert!(c.name(&mut room).starts_with(PREFIX));
    }

    #[test]
    fn what_nobody_holds_is_forgotten_and_gives_its_room_back() {
        let all = Statements::default();
        for n in 0..10_000 {
            all.intern(format!("select {n}").as_bytes(), &[0, 0]).unwrap();
        }
        assert_eq!(all.bytes.load(Ordering::Relaxed), 0);
        let kept: usize = all.shards.iter().map(|s| s.lock().unwrap().by_hash.len()).sum();
        assert!(kept < 16 * 200, "{kept} are kept");
    }

    #[test]
    fn what_is_kept_in_all_is_bounded() {
        let all = Statements::default();
        let big = vec![b'x'; 64 << 20];
        let mut held = Vec::new();
        for n in 0..3_u8 {
            let mut text = big.clone();
            text[0] = n;
            held.push(all.intern(&text, &[0, 0]).unwrap());
        }
        assert_eq!(all.intern(&big, &[0, 0]).unwrap_err(), NoRoom);
        held.clear();
        assert!(all.intern(&big, &[0, 0]).is_ok());
    }
}
