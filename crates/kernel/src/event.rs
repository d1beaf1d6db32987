//! The closed vocabulary of what the journal tells. An event is declared once, below: its stored record, its metric
//! label, its log line and its row in the catalogue all come from that declaration.
//!
//! | part of a declaration | what it becomes |
//! | --- | --- |
//! | the name, such as `endpoint.ejected` | the `kind` of records, log lines and `evenkeel_events_total` |
//! | the version | rises when a field changes its meaning or goes; a field that is added changes nothing |
//! | the level | that of the log line, and the colour in the console |
//! | `mark` or `plain` | whether charts show it as a change |
//! | `once` or `often` | whether the journal may fold repetitions into one record with a count (`crate::journal`) |
//! | the fields | the record's `data`; `service`, `endpoint` and `actor` are also what the journal is searched by |
//! | the sentence | what people read; it may name any field in braces |
//!
//! A kind is never renamed or removed, and never means something else. Whoever reads records meets kinds of a newer
//! version, so what is read is a [`crate::journal::Record`], which needs no declaration.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

#[macro_use]
mod declare;
#[cfg(test)]
mod tests;

/// The longest text of one field that is kept, in bytes: a sentence or two from an operator, or an error.
pub const MAX_FIELD_BYTES: usize = 2_000;

/// How grave an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Somebody will want to know it later.
    Info,
    /// Something is not as it should be, and is being dealt with.
    Warn,
    /// Somebody has to look.
    Error,
}

/// What the declaration of an event says.
#[derive(Clone, Copy, Debug)]
pub struct Declared {
    /// The stable name.
    pub name: &'static str,
    /// Of the form of its fields.
    pub version: u8,
    /// How grave it is.
    pub level: Level,
    /// Whether charts show it as a change.
    pub is_mark: bool,
    /// Whether repetitions may be folded into one record.
    pub may_fold: bool,
    /// When it is told.
    pub meaning: &'static str,
    /// Names of its fields and what they are.
    pub fields: &'static [(&'static str, &'static str)],
    /// What people read, with fields in braces.
    pub sentence: &'static str,
}

/// A value that an event's field can have.
pub trait Field: Serialize {
    /// The text of it, if it is a text.
    fn as_text(&self) -> Option<&str> {
        None
    }
}

impl Field for String {
    fn as_text(&self) -> Option<&str> {
        Some(self)
    }
}
impl Field for u64 {}
impl Field for u8 {}
impl Field for bool {}

fn value(field: &impl Field) -> Value {
    match field.as_text() {
        Some(text) => Value::from(clip(text)),
        None => serde_json::to_value(field).unwrap_or(Value::Null),
    }
}

/// The part of `text` that is kept.
fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_FIELD_BYTES)]
}

events! {
    /// A node serves.
    NodeStarted "node.started" 1 Info mark once {
        /// Of the build
        version: String,
        /// Of the process
        pid: u64,
        /// Where the configuration was read from
        config: String,
        /// Whether it took the listening sockets over from a process before it
        took_over: bool,
    } "Evenkeel {version} serves (process {pid}, {config})"

    /// A node was told to stop.
    NodeStopping "node.stopping" 1 Info mark once {
        /// Of the process
        pid: u64,
        /// Who or what asked
        reason: String,
    } "process {pid} stops: {reason}"

    /// A node has stopped; a node that starts without one before it has crashed.
    NodeStopped "node.stopped" 1 Info plain once {
        /// Of the process
        pid: u64,
        /// Connections that were cut because their time was up
        cut: u64,
    } "process {pid} has stopped; {cut} connections were cut"

    /// A new process asked for the listening sockets and serves on them now; the old one finishes what it has.
    NodeHandedOver "node.handed_over" 1 Info mark once {
        /// The old process
        from_pid: u64,
        /// The new process
        to_pid: u64,
    } "process {from_pid} handed its sockets to process {to_pid}"

    /// A hand-over did not come about; the old process goes on.
    NodeHandOverFailed "node.hand_over_failed" 1 Warn plain often {
        /// Why
        reason: String,
    } "a hand-over did not come about: {reason}"

    /// Another configuration was put in force.
    ConfigApplied "config.applied" 1 Info mark once {
        /// Where it was read from
        config: String,
        /// Whether all of it is in force, or what only a restart will change
        outcome: String,
        /// What is different, in the words of the configuration
        changes: String,
    } "the configuration was reloaded and is {outcome}: {changes}"

    /// A configuration that was read cannot be used; the one before stays in force.
    ConfigRefused "config.refused" 1 Error plain once {
        /// Where it was read from
        config: String,
        /// The first thing that is wrong
        problem: String,
        /// How many things are wrong
        problems: u64,
    } "a configuration was refused, nothing has changed: {problem}"

    /// A version of something was deployed, by the word of whoever deployed it.
    DeployMarked "deploy.marked" 1 Info mark once {
        /// What was deployed: a service of the configuration, if it is one
        service: String,
        /// Which version
        version: String,
        /// Where to
        environment: String,
        /// What came of it: succeeded, failed, started or another word of the deployer's
        status: String,
        /// Who deployed it
        actor: String,
        /// Where more is to be read
        url: String,
        /// Who told it: api, github or gitlab
        source: String,
        /// What the deployer calls it, so that it is told once
        key: String,
    } "{service} {version} was deployed to {environment} ({status}) by {actor}"

    /// An endpoint is silent far beyond its usual; it gets one request at a time.
    EndpointSuspected "endpoint.suspected" 1 Warn plain often {
        /// Its service
        service: String,
        /// Its name
        endpoint: String,
        /// Why
        reason: String,
    } "{endpoint} of {service} is suspect: {reason}"

    /// An endpoint that was suspect answered.
    EndpointCleared "endpoint.cleared" 1 Info plain often {
        /// Its service
        service: String,
        /// Its name
        endpoint: String,
        /// Why
        reason: String,
    } "{endpoint} of {service} is no longer suspect: {reason}"

    /// An endpoint was taken out for what requests or checks met.
    EndpointEjected "endpoint.ejected" 1 Warn mark often {
        /// Its service
        service: String,
        /// Its name
        endpoint: String,
        /// What it was before
        from: String,
        /// Why
        reason: String,
    } "{endpoint} of {service} was taken out: {reason}"

    /// An endpoint that was taken out gets single requests on trial.
    EndpointOnProbation "endpoint.on_probation" 1 Info plain often {
        /// Its service
        service: String,
        /// Its name
        endpoint: String,
        /// Why
        reason: String,
    } "{endpoint} of {service} is on trial: {reason}"

    /// An endpoint that was taken out takes requests again.
    EndpointReturned "endpoint.returned" 1 Info mark often {
        /// Its service
        service: String,
        /// Its name
        endpoint: String,
        /// Why
        reason: String,
    } "{endpoint} of {service} is back: {reason}"

    /// An operator took an endpoint out in an orderly way.
    EndpointDrained "endpoint.drained" 1 Info mark once {
        /// Its service
        service: String,
        /// Its name
        endpoint: String,
        /// The operator
        actor: String,
        /// In the operator's words
        reason: String,
        /// Whether it holds after a restart
        kept: bool,
    } "{actor} drained {endpoint} of {service}: {reason}"

    /// An operator took an endpoint out as broken.
    EndpointTakenDown "endpoint.taken_down" 1 Warn mark once {
        /// Its service
        service: String,
        /// Its name
        endpoint: String,
        /// The operator
        actor: String,
        /// In the operator's words
        reason: String,
        /// Whether it holds after a restart
        kept: bool,
    } "{actor} took {endpoint} of {service} down: {reason}"

    /// An operator let an endpoint back in.
    EndpointResumed "endpoint.resumed" 1 Info mark once {
        /// Its service
        service: String,
        /// Its name
        endpoint: String,
        /// The operator
        actor: String,
        /// In the operator's words
        reason: String,
        /// Whether it holds after a restart
        kept: bool,
    } "{actor} let {endpoint} of {service} back in: {reason}"

    /// An endpoint came by heartbeat.
    EndpointRegistered "endpoint.registered" 1 Info plain often {
        /// Its service
        service: String,
        /// Its address
        endpoint: String,
    } "{endpoint} registered at {service}"

    /// An endpoint that came by heartbeat is gone.
    EndpointLeft "endpoint.left" 1 Info plain often {
        /// Its service
        service: String,
        /// Its address
        endpoint: String,
        /// Why
        reason: String,
    } "{endpoint} left {service}: {reason}"

    /// The endpoints of a service that are found in DNS are others than before.
    DnsChanged "dns.changed" 1 Info plain often {
        /// The service
        service: String,
        /// The name that was asked for
        name: String,
        /// How many endpoints there are now
        endpoints: u64,
        /// Those that came
        added: String,
        /// Those that went
        removed: String,
    } "{name} of {service} now has {endpoints} endpoints (new: {added}; gone: {removed})"

    /// DNS does not answer; what it said last counts.
    DnsLost "dns.lost" 1 Warn plain often {
        /// The service
        service: String,
        /// The name that was asked for
        name: String,
        /// What came instead
        error: String,
    } "DNS does not answer for {name} of {service}; what it said last counts: {error}"

    /// DNS answers again.
    DnsReturned "dns.returned" 1 Info plain often {
        /// The service
        service: String,
        /// The name that was asked for
        name: String,
    } "DNS answers again for {name} of {service}"

    /// Other tiers of a service take its requests than before.
    ServiceFailedOver "service.failed_over" 1 Warn mark often {
        /// The service
        service: String,
        /// Who took them
        from: String,
        /// Who takes them
        to: String,
        /// Why
        reason: String,
    } "requests to {service} go to {to} instead of {from}: {reason}"

    /// An operator sent a service's requests to one tier.
    ServiceSwitched "service.switched" 1 Info mark once {
        /// The service
        service: String,
        /// Which
        tier: u8,
        /// The operator
        actor: String,
        /// In the operator's words
        reason: String,
        /// Whether it holds after a restart
        kept: bool,
    } "{actor} sent the requests to {service} to tier {tier}: {reason}"

    /// An operator left the choice of the tier to the node again.
    ServiceReleased "service.released" 1 Info mark once {
        /// The service
        service: String,
        /// The operator
        actor: String,
        /// In the operator's words
        reason: String,
        /// Whether it holds after a restart
        kept: bool,
    } "{actor} left the tiers of {service} to themselves again: {reason}"

    /// A service's budget of second tries stands at another level.
    BudgetMoved "budget.moved" 1 Info plain often {
        /// The service
        service: String,
        /// Where it stood
        from: String,
        /// Where it stands: low, usual, pausing or raised
        to: String,
        /// Second tries for each 100 requests that are allowed now
        percent: u64,
    } "the budget of second tries of {service} is {to} now ({percent} % of its requests; it was {from})"

    /// Second tries were wanted that the budget did not pay for.
    BudgetExhausted "budget.exhausted" 1 Warn plain often {
        /// The service
        service: String,
        /// How many in this second
        refused: u64,
    } "the budget of second tries of {service} is used up"

    /// Nobody of a service can be reached: requests wait until somebody can.
    ParkingBegan "parking.began" 1 Warn plain often {
        /// The service
        service: String,
    } "no endpoint of {service} can be reached; requests wait for one"

    /// An endpoint can be reached again, or nobody waits any more.
    ParkingEnded "parking.ended" 1 Info plain often {
        /// The service
        service: String,
        /// Requests that waited
        parked: u64,
        /// How long it took, in milliseconds
        waited_ms: u64,
    } "requests to {service} wait no longer for an endpoint ({parked} had waited, {waited_ms} ms)"

    /// A limit turned requests or connections away.
    LimitReached "limit.reached" 1 Warn plain often {
        /// The service, if it is a service's limit
        service: String,
        /// Which limit, by its key in the configuration
        limit: String,
        /// How many were turned away in this second
        turned_away: u64,
    } "{limit} turned requests or connections away"

    /// Lines of the access log are dropped.
    AccessLogDropping "access_log.dropping" 1 Warn plain often {
        /// How many in this second
        lines: u64,
    } "lines of the access log are dropped: it cannot keep up"

    /// A worker ended that should not have.
    WorkerFailed "worker.failed" 1 Error mark once {
        /// What happened
        error: String,
    } "a worker has ended: {error}"

    /// A file of the store cannot be used; what it should keep waits in memory, up to a bound.
    StoreLost "store.lost" 1 Error plain often {
        /// Which: ledger, journal or series
        file: String,
        /// Why not
        error: String,
    } "the {file} cannot be used: {error}"

    /// A file of the store can be used again.
    StoreReturned "store.returned" 1 Info plain often {
        /// Which
        file: String,
        /// For how long it could not be used, in milliseconds
        lost_ms: u64,
        /// What waited and is kept now
        kept: u64,
        /// What did not fit in memory and is lost
        dropped: u64,
    } "the {file} is kept again after {lost_ms} ms: {kept} had waited, {dropped} were dropped"

    /// A file of the store was damaged; it was put aside and a new one begun.
    StoreDamaged "store.damaged" 1 Error mark once {
        /// Which
        file: String,
        /// What is wrong with it
        error: String,
        /// Where it was put
        aside: String,
    } "the {file} was damaged ({error}); it was put aside as {aside}"

    /// A file of the store is as large as it may be.
    StoreFull "store.full" 1 Warn plain often {
        /// Which
        file: String,
        /// How large it may be, in bytes
        cap_bytes: u64,
        /// What follows: the oldest is dropped, or nothing more is taken
        behaviour: String,
    } "the {file} has reached its size limit of {cap_bytes} bytes: {behaviour}"

    /// A pool has a primary: the first, or the one that is back.
    PoolPrimaryFound "pool.primary_found" 1 Info mark often {
        /// The pool
        service: String,
        /// The server
        endpoint: String,
        /// Its timeline
        timeline: u64,
        /// For how long there was none, in milliseconds
        without_ms: u64,
    } "{endpoint} is the primary of {service} (timeline {timeline}); there was none for {without_ms} ms"

    /// Another server was promoted, and a pool follows it.
    PoolPromoted "pool.promoted" 1 Warn mark often {
        /// The pool
        service: String,
        /// The server that is primary now
        endpoint: String,
        /// The one that was
        from: String,
        /// The new timeline
        timeline: u64,
        /// For how long there was no primary, in milliseconds
        without_ms: u64,
    } "{endpoint} was promoted (timeline {timeline}) and is the primary of {service} instead of {from}; there was none for \
       {without_ms} ms"

    /// A pool has found no primary since it began to look.
    PoolPrimaryMissing "pool.primary_missing" 1 Error mark once {
        /// The pool
        service: String,
        /// What its servers say, or do not
        reason: String,
    } "{service} has found no primary: {reason}"

    /// A pool has no primary any more: transactions that have not begun wait.
    PoolPrimaryLost "pool.primary_lost" 1 Error mark often {
        /// The pool
        service: String,
        /// The server that was
        endpoint: String,
        /// Why it is not
        reason: String,
    } "{service} has no primary: {endpoint} {reason}"

    /// The primary of a pool started anew while it was not looked at.
    PoolPrimaryRestarted "pool.primary_restarted" 1 Warn mark often {
        /// The pool
        service: String,
        /// The server
        endpoint: String,
    } "the primary of {service}, {endpoint}, was restarted"

    /// The primary of a pool is silent: nothing new is sent to it until it answers or is given up.
    PoolPrimarySuspected "pool.primary_suspected" 1 Warn plain often {
        /// The pool
        service: String,
        /// The server
        endpoint: String,
        /// Why
        reason: String,
    } "the primary of {service}, {endpoint}, is suspect: {reason}"

    /// A primary that was suspect answers.
    PoolPrimaryCleared "pool.primary_cleared" 1 Info plain often {
        /// The pool
        service: String,
        /// The server
        endpoint: String,
        /// For how long nothing new was sent to it, in milliseconds
        held_ms: u64,
    } "the primary of {service}, {endpoint}, answers again after {held_ms} ms"

    /// A server calls itself primary on a timeline that a pool has left: nothing is sent to it.
    PoolFenced "pool.fenced" 1 Warn mark often {
        /// The pool
        service: String,
        /// The server
        endpoint: String,
        /// Its timeline
        timeline: u64,
        /// The latest that was followed
        latest: u64,
    } "{endpoint} of {service} calls itself primary on timeline {timeline}, which was left for {latest}: nothing is sent to it"

    /// Two servers of a pool call themselves primary, and neither is later than the other.
    PoolConflict "pool.conflict" 1 Error mark often {
        /// The pool
        service: String,
        /// The server that is not followed
        endpoint: String,
        /// The other one
        with: String,
        /// What is known of the two
        reason: String,
    } "{endpoint} of {service} calls itself primary, and so does {with}: {reason}"

    /// A server of a pool does not let the pooler's own user in.
    PoolServerDenied "pool.server_denied" 1 Error plain often {
        /// The pool
        service: String,
        /// The server
        endpoint: String,
        /// What it said
        error: String,
    } "{endpoint} of {service} cannot be asked for its role: {error}"

    /// A pool may open more connections than its primary takes.
    PoolCapTooHigh "pool.cap_too_high" 1 Warn plain often {
        /// The pool
        service: String,
        /// The server
        endpoint: String,
        /// `max_connections` of the pool
        cap: u64,
        /// What the server has for users that are no superusers
        takes: u64,
    } "{service} may open {cap} connections, and {endpoint} takes {takes}"

    /// Clients of a pool were turned away because its connections are too few for what they do.
    PoolSaturated "pool.saturated" 1 Warn plain often {
        /// The pool
        service: String,
        /// The database
        database: String,
        /// The user
        user: String,
        /// How long they waited, or how many did
        reason: String,
    } "{service} turns clients of {user} in {database} away: {reason}"

    /// A statement of a client was refused because it would have kept its connection, and too many clients do already.
    PoolPinnedOut "pool.pinned_out" 1 Warn plain often {
        /// The pool
        service: String,
        /// The database
        database: String,
        /// The user
        user: String,
        /// How many may
        most: u64,
    } "{service} lets no more clients of {user} in {database} keep their connections: {most} do"

    /// An operator ordered something of a pool.
    PoolOrdered "pool.ordered" 1 Info mark once {
        /// The pool
        service: String,
        /// What
        order: String,
        /// Who
        actor: String,
        /// Why
        reason: String,
    } "pool {service}: {order}, by {actor}: {reason}"

    /// An operator told a pool which server to follow.
    PoolFailedOver "pool.failed_over" 1 Warn mark once {
        /// The pool
        service: String,
        /// The server, or any other than the present one
        endpoint: String,
        /// The operator
        actor: String,
        /// In the operator's words
        reason: String,
    } "{actor} told {service} to follow {endpoint}: {reason}"

    /// An operator took a server of a pool out.
    PoolServerDrained "pool.server_drained" 1 Info mark once {
        /// The pool
        service: String,
        /// The server
        endpoint: String,
        /// The operator
        actor: String,
        /// In the operator's words
        reason: String,
    } "{actor} drained {endpoint} of {service}: {reason}"

    /// An operator let a server of a pool back in.
    PoolServerResumed "pool.server_resumed" 1 Info mark once {
        /// The pool
        service: String,
        /// The server
        endpoint: String,
        /// The operator
        actor: String,
        /// In the operator's words
        reason: String,
    } "{actor} let {endpoint} of {service} back in: {reason}"
}

impl EventKind {
    /// Its place in [`EventKind::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The stable name.
    pub const fn name(self) -> &'static str {
        self.declared().name
    }

    /// The kind of this name, if this version knows it.
    pub fn from_name(name: &str) -> Option<EventKind> {
        EventKind::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

impl Level {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }

    /// The level of this word.
    pub fn from_word(word: &str) -> Option<Level> {
        [Level::Info, Level::Warn, Level::Error].into_iter().find(|level| level.word() == word)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}
