//! What a data plane did with one request, or with one transaction of a pool, step by step: what `evenkeel why` shows. The data plane keeps the traces of
//! every request that was not plain (failed, tried again, held, parked, queued, shed, slow) and of a sample of the rest,
//! in memory, up to a bound; the types here are how one is read.

use serde::Serialize;

/// One request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequestTrace {
    /// Its id, as in the answer's `x-request-id` and in the access log.
    pub id: String,
    /// When its head was whole, in microseconds since the Unix epoch.
    pub at_unix_us: u64,
    /// Its method.
    pub method: String,
    /// Its target, without the query, clipped.
    pub target: String,
    /// The host it asked for.
    pub host: String,
    /// The client's address.
    pub client: String,
    /// The route that it matched; empty: none.
    pub route: String,
    /// The service that it was for; empty: none.
    pub service: String,
    /// The worker that served it.
    pub worker: usize,
    /// Why the trace was kept.
    pub kept: Vec<Kept>,
    /// What happened, in order.
    pub steps: Vec<Step>,
    /// Whether there were more steps than a trace has room for.
    pub clipped: bool,
    /// What the client got.
    pub end: TraceEnd,
}

/// Why a trace was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// It failed: 5xx, no whole answer, or an error of the gateway's own.
    Failed,
    /// It was sent more than once, one after the other.
    Retried,
    /// It was sent to a second endpoint beside the first, which was silent.
    SecondTried,
    /// A second try was wanted and not made.
    Refused,
    /// Its answer was held until it was whole.
    Held,
    /// It waited because nobody could be reached.
    Parked,
    /// It waited because every endpoint was busy.
    Queued,
    /// It was turned away because every endpoint was busy.
    Shed,
    /// It took longer than what counts as slow.
    Slow,
    /// It was the one trial of an endpoint in doubt.
    Trial,
    /// A transaction that waited long for a connection.
    Waited,
    /// A transaction that was begun anew at another connection.
    Moved,
    /// None of these: it belongs to the sample.
    Sample,
}

/// What the client got.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TraceEnd {
    /// The status; 0: no answer.
    pub status: u16,
    /// The gateway's stable error code, if it is an error of the gateway's.
    pub error: Option<&'static str>,
    /// In words, what was wrong; empty if nothing was.
    pub detail: String,
    /// Whether the client got all of it.
    pub whole: bool,
    /// From the head of the request to the end, in microseconds.
    pub took_us: u64,
    /// Bytes of the answer's body.
    pub bytes: u64,
}

/// One step, and when it happened: microseconds after the request's head.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Since the head of the request.
    pub at_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum What {
    /// It was for a service.
    Routed {
        /// The time that it has, in milliseconds.
        timeout_ms: u64,
        /// Whether it may be sent a second time if bytes of it may have reached an endpoint.
        repeatable: bool,
        /// The tier that its turn fell on.
        tier: u8,
    },
    /// Every endpoint worked on as many requests as it may: it stood in line.
    Queued,
    /// Its turn came.
    LetIn,
    /// Its turn did not come, or the line was full.
    TurnedAway,
    /// A try began.
    Try {
        /// Which, from 1.
        number: u32,
        /// At which endpoint.
        endpoint: String,
        /// In which tier.
        tier: u8,
        /// Why this endpoint, in words.
        chosen: &'static str,
        /// Why there is a try: `first`, or what happened to the one before.
        cause: &'static str,
        /// Whether the budget paid for it.
        charged: bool,
    },
    /// It has a connection.
    Connected {
        /// Which try.
        number: u32,
        /// `reused`, `new` or `waited` (it stood in line for one).
        connection: &'static str,
        /// How long that took, in microseconds.
        after_us: u64,
    },
    /// Its endpoint is silent far beyond the usual.
    Silent {
        /// Which try.
        number: u32,
    },
    /// A try was answered.
    Answered {
        /// Which try.
        number: u32,
        /// The status.
        status: u16,
        /// From sending to the first byte, in microseconds.
        after_us: u64,
    },
    /// The answer was held until it was whole.
    Held {
        /// Which try.
        number: u32,
    },
    /// A try failed.
    Failed {
        /// Which try.
        number: u32,
        /// How, in words.
        reason: String,
    },
    /// A try was given up because another was answered first.
    GivenUp {
        /// Which try.
        number: u32,
    },
    /// It is tried again.
    Again {
        /// Why, and why it may be.
        reason: &'static str,
        /// After a pause of so many milliseconds.
        pause_ms: u64,
        /// What the budget allowed in ten seconds, and what was spent.
        budget: Option<BudgetLeft>,
    },
    /// It is not tried again.
    NotAgain {
        /// Why.
        reason: &'static str,
        /// What the budget allowed in ten seconds, and what was spent, if that is the reason.
        budget: Option<BudgetLeft>,
    },
    /// Nobody could be reached: it waited for somebody.
    Parked,
    /// Somebody can be reached.
    Released,
    /// It was refused before it was for any service.
    Turned {
        /// The gateway's stable error code; empty if it was answered by the route itself.
        error: &'static str,
    },
    /// A transaction of a pool began. The first step of each of them, and of nothing else.
    Began {
        /// The pool.
        pool: String,
        /// The database.
        database: String,
        /// The user.
        user: String,
        /// What the client calls itself; empty if it does not say.
        application: String,
    },
    /// It waited for a connection.
    Waited {
        /// Why, in words.
        reason: &'static str,
        /// How long, in microseconds.
        after_us: u64,
    },
    /// It got a connection.
    Assigned {
        /// The server.
        server: String,
        /// The process at the server.
        process: u32,
    },
    /// Settings of its session were made on the connection.
    Replayed {
        /// How many.
        settings: u32,
    },
    /// Statements that its client has prepared were prepared on the connection.
    Prepared {
        /// How many.
        statements: u32,
    },
    /// A statement ended.
    Statement {
        /// Its text without literals, clipped.
        text: String,
        /// How long it took, in microseconds.
        took_us: u64,
        /// Rows that it returned or changed.
        rows: u64,
        /// The SQLSTATE, if it failed.
        error: Option<String>,
    },
    /// It was begun anew at another connection.
    Moved {
        /// Why, in words.
        reason: &'static str,
    },
    /// Its client keeps the connection from here on.
    Pinned {
        /// Why, in words.
        reason: &'static str,
    },
}

/// The method of a transaction, where a request has its own.
pub const TRANSACTION: &str = "TRANSACTION";

/// A budget of second tries at the moment of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BudgetLeft {
    /// Second tries that were paid for in the last ten seconds.
    pub spent: u64,
    /// How many may be.
    pub allowed: u64,
}

/// What is known of an id.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The request, or requests: an id that comes from a client may be used twice. Newest first.
    Found(Vec<RequestTrace>),
    /// It is not there.
    NotKept {
        /// How far back the traces reach, in milliseconds since the Unix epoch.
        oldest_unix_ms: Option<u64>,
        /// One of how many plain requests is kept.
        sample_one_in: u64,
        /// What counts as slow, in milliseconds.
        slow_ms: u64,
    },
}

/// A trace as it stands in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TraceLine {
    /// Its id.
    pub id: String,
    /// When its head was whole, in microseconds since the Unix epoch.
    pub at_unix_us: u64,
    /// Its method.
    pub method: String,
    /// Its target.
    pub target: String,
    /// Its service.
    pub service: String,
    /// Its route.
    pub route: String,
    /// What the client got.
    pub status: u16,
    /// The gateway's error code.
    pub error: Option<&'static str>,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// How many tries there were.
    pub tries: u32,
    /// Why it was kept.
    pub kept: Vec<Kept>,
}

impl RequestTrace {
    /// What events about it name as their service: its service, or a transaction's pool.
    pub fn subject(&self) -> &str {
        match self.steps.first() {
            Some(Step { what: What::Began { pool, .. }, .. }) => pool,
            _ => &self.service,
        }
    }

    /// Whether it is a transaction of a pool.
    pub fn is_transaction(&self) -> bool {
        matches!(self.steps.first(), Some(Step { what: What::Began { .. }, .. }))
    }
}

impl Kept {
    /// Every reason.
    pub const ALL: [Kept; 13] = [
        Kept::Failed,
        Kept::Retried,
        Kept::SecondTried,
        Kept::Refused,
        Kept::Held,
        Kept::Parked,
        Kept::Queued,
        Kept::Shed,
        Kept::Slow,
        Kept::Trial,
        Kept::Waited,
        Kept::Moved,
        Kept::Sample,
    ];

    /// The words for it.
    pub const fn words(self) -> &'static str {
        match self {
            Kept::Failed => "it failed",
            Kept::Retried => "it was tried again",
            Kept::SecondTried => "it was sent to a second endpoint beside a silent one",
            Kept::Refused => "a second try was wanted and not made",
            Kept::Held => "its answer was held until whole",
            Kept::Parked => "it waited because nobody could be reached",
            Kept::Queued => "it waited because every endpoint was busy",
            Kept::Shed => "it was turned away because every endpoint was busy",
            Kept::Slow => "it was slow",
            Kept::Trial => "it was the trial of an endpoint in doubt",
            Kept::Waited => "it waited long for a connection",
            Kept::Moved => "it was begun anew at another connection",
            Kept::Sample => "it belongs to the sample of plain requests",
        }
    }

    /// The bit that stands for it.
    pub const fn bit(self) -> u16 {
        1 << self as u16
    }

    /// The reasons whose bits are set.
    pub fn from_bits(bits: u16) -> Vec<Kept> {
        Kept::ALL.into_iter().filter(|kept| bits & kept.bit() != 0).collect()
    }
}
