//! Connections for readers: opened when somebody reads, kept for the next, and let go when the file is another by then.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use crate::shelf::{Identity, Shelf};

/// Connections that are kept for the next reader.
const IDLE_MAX: usize = 4;

/// Connections to one file.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) shelf: Arc<Shelf>,
    idle: Mutex<Vec<(Connection, Identity)>>,
}

impl Pool {
    pub(crate) fn new(shelf: Arc<Shelf>) -> Pool {
        Pool { shelf, idle: Mutex::default() }
    }

    /// Reads with a connection that sees one state of the file from beginning to end.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> io::Result<T> {
        let is_same = |identity: &Identity| self.shelf.identity().as_ref() == Some(identity);
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (db, identity) = match idle.filter(|(_, identity)| is_same(identity)) {
            Some(connection) => connection,
            None => self.shelf.open_to_read()?,
        };
        let seen = || -> rusqlite::Result<T> {
            let whole = db.unchecked_transaction()?;
            let result = read(&whole)?;
            whole.commit()?;
            Ok(result)
        };
        // A connection that met an error is not used again.
        let result = seen().map_err(io::Error::other)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push((db, identity));
        }
        Ok(result)
    }

    /// Lets the connections go.
    pub(crate) fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
