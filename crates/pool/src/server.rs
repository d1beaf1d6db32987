//! A connection to Postgres, as a worker holds it.

use std::sync::Arc;

use kernel::Moment;

use crate::backend::Backend;
use crate::connect::Address;
use crate::plan::ServerPlan;
use crate::shared::GroupShared;
use crate::transport::Transport;

/// A connection to Postgres. It can move to another worker while nobody has it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) transport: Transport,
    /// No other connection of the process has it.
    pub(crate) id: u64,
    /// Tells it apart from others that had its place.
    pub(crate) generation: u32,
    pub(crate) backend: Backend,
    pub(crate) shared: Arc<GroupShared>,
    /// Its group in the worker.
    pub(crate) group: usize,
    /// Which of the pool's servers it leads to, and as which of its primaries.
    pub(crate) plan: Arc<ServerPlan>,
    /// The server's name, once for each connection, so that workers do not share its count.
    pub(crate) name: Arc<str>,
    pub(crate) epoch: u64,
    /// Where cancels go, and what they say.
    pub(crate) address: Address,
    pub(crate) pid: i32,
    pub(crate) key: Vec<u8>,
    /// Who has it.
    pub(crate) client: Option<usize>,
    /// Whether it is in the list of free ones.
    pub(crate) is_free: bool,
    /// What the server sent and nobody has taken.
    pub(crate) pending: Vec<u8>,
    /// What the server has not taken yet.
    pub(crate) out: Vec<u8>,
    pub(crate) is_readable: bool,
    /// Whether the server has closed: it is read to the end, which no other event announces.
    pub(crate) is_closing: bool,
    pub(crate) opened: Moment,
    /// When it is too old.
    pub(crate) expires: Moment,
    /// When it was last given to a client, or came back.
    pub(crate) used: Moment,
    /// It is quiet after an error until its `ReadyForQuery`: then the transaction begins anew.
    pub(crate) is_rewinding: bool,
    /// How many cancels are on their way to it: it is given to nobody until they have arrived.
    pub(crate) cancels: u32,
    /// When the query began that was cancelled last for taking too long.
    pub(crate) cancelled: Option<Moment>,
}
