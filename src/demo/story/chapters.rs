//! The chapters of the story: what is done to whom, what the journal has to tell of it before it is undone and after, and
//! how many customers may have seen a failure. Plain values; [`super`] performs them.

use std::time::Duration;

use kernel::trace::Kept;

use crate::demo::REPLICAS;
use crate::demo::shop::Faults;

/// One chapter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chapter {
    pub(super) name: &'static str,
    /// In a few words, for the heading.
    pub(super) title: &'static str,
    pub(super) act: Act,
    /// How long it stays so at least, for people to look.
    pub(super) lasts: Duration,
    /// What the journal has to tell before it is undone.
    pub(super) sign: Option<Sign>,
    /// What it has to tell afterwards.
    pub(super) close: Option<Sign>,
    /// Whose path is told: the first of these kinds that there is.
    pub(super) paths: &'static [Kept],
    /// What a customer may have seen.
    pub(super) may_fail: MayFail,
}

/// What is done.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    /// Nothing.
    Nothing,
    /// Something is wrong with replicas.
    Hurt {
        /// Which, from 1.
        replicas: &'static [usize],
        faults: Faults,
        /// In words, without the replica.
        done: &'static str,
        undone: &'static str,
    },
    /// So many reports a second are asked for as well.
    Flood { rate: u32 },
}

/// A record of the journal that has to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sign {
    pub(super) kind: &'static str,
    pub(super) service: &'static str,
    /// Whether it has to come for each replica that was hurt.
    pub(super) of_each: bool,
}

/// How many customers of the shop may have seen a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MayFail {
    Nobody,
    /// Those whose request was being worked on when the replica died, and must not be sent twice.
    AFew,
    /// One in so many.
    OneIn(u64),
}

const NOTHING_WRONG: Faults = Faults { latency_ms: 0, error_rate: 0.0, down: false, freeze: false };

const EJECTED: Option<Sign> = Some(Sign { kind: "endpoint.ejected", service: "shop", of_each: true });
const RETURNED: Option<Sign> = Some(Sign { kind: "endpoint.returned", service: "shop", of_each: true });

/// The story, in its order.
pub(super) const CHAPTERS: [Chapter; 7] = [
    Chapter {
        name: "calm",
        title: "nothing is wrong",
        act: Act::Nothing,
        // At 100 requests a second 20 answers of each replica, from which all judgement begins, take less than a second.
        lasts: Duration::from_secs(5),
        sign: None,
        close: None,
        paths: &[Kept::Sample],
        may_fail: MayFail::Nobody,
    },
    Chapter {
        name: "killed",
        title: "replica 1 is killed, and started again",
        act: Act::Hurt {
            replicas: &[1],
            faults: Faults { down: true, ..NOTHING_WRONG },
            done: "is killed: its connections end, and new ones are refused",
            undone: "is started again",
        },
        lasts: Duration::from_secs(6),
        sign: EJECTED,
        close: RETURNED,
        paths: &[Kept::Retried],
        may_fail: MayFail::AFew,
    },
    Chapter {
        name: "frozen",
        title: "replica 2 hangs",
        act: Act::Hurt {
            replicas: &[2],
            faults: Faults { freeze: true, ..NOTHING_WRONG },
            done: "freezes: it takes requests and says nothing",
            undone: "thaws",
        },
        lasts: Duration::from_secs(6),
        sign: EJECTED,
        close: RETURNED,
        paths: &[Kept::SecondTried, Kept::Slow],
        may_fail: MayFail::Nobody,
    },
    Chapter {
        name: "slow",
        title: "replica 3 becomes slow",
        act: Act::Hurt {
            replicas: &[3],
            faults: Faults { latency_ms: 400, ..NOTHING_WRONG },
            done: "takes 400 ms longer for everything",
            undone: "is as quick as before",
        },
        lasts: Duration::from_secs(6),
        sign: EJECTED,
        close: RETURNED,
        paths: &[Kept::SecondTried, Kept::Slow, Kept::Sample],
        may_fail: MayFail::Nobody,
    },
    Chapter {
        name: "failing",
        title: "replica 1 answers with errors",
        act: Act::Hurt {
            replicas: &[1],
            faults: Faults { error_rate: 0.5, ..NOTHING_WRONG },
            done: "answers every second request with a 500; its health check is well",
            undone: "is well again",
        },
        lasts: Duration::from_secs(6),
        sign: EJECTED,
        close: RETURNED,
        // A 500 may be the answer to a request that must not be made twice, so it is passed on.
        paths: &[Kept::Failed],
        may_fail: MayFail::OneIn(3),
    },
    Chapter {
        name: "flood",
        title: "far more reports are asked for than can be made",
        act: Act::Flood { rate: 300 },
        lasts: Duration::from_secs(5),
        sign: Some(Sign { kind: "limit.reached", service: "reports", of_each: false }),
        close: None,
        paths: &[Kept::Shed, Kept::Queued],
        may_fail: MayFail::Nobody,
    },
    Chapter {
        name: "outage",
        title: "all replicas are down for a moment",
        act: Act::Hurt {
            replicas: &[1, 2, 3],
            faults: Faults { down: true, ..NOTHING_WRONG },
            done: "are killed, all at once",
            undone: "are started again",
        },
        // Requests wait for 2 s.
        lasts: Duration::from_millis(1_200),
        sign: Some(Sign { kind: "parking.began", service: "shop", of_each: false }),
        close: Some(Sign { kind: "parking.ended", service: "shop", of_each: false }),
        paths: &[Kept::Parked],
        may_fail: MayFail::AFew,
    },
];

impl Chapter {
    /// The replicas that are hurt, from 1.
    pub(super) fn hurt(&self) -> &'static [usize] {
        match self.act {
            Act::Hurt { replicas, .. } => replicas,
            Act::Nothing | Act::Flood { .. } => &[],
        }
    }

    /// Who is hurt, in words.
    pub(super) fn whom(&self) -> String {
        match self.hurt() {
            [] => String::new(),
            [one] => format!("replica {one}"),
            _ => format!("all {REPLICAS} replicas"),
        }
    }

    /// What is done, in words.
    pub(super) fn done(&self) -> Option<String> {
        match self.act {
            Act::Nothing => None,
            Act::Hurt { done, .. } => Some(format!("{} {done}", self.whom())),
            Act::Flood { rate } => {
                Some(format!("{rate} reports a second are asked for as well, some 300 ms of work each"))
            }
        }
    }

    /// What undoes it, in words.
    pub(super) fn undone(&self) -> Option<String> {
        match self.act {
            Act::Nothing => None,
            Act::Hurt { undone, .. } => Some(format!("{} {undone}", self.whom())),
            Act::Flood { .. } => Some("the flood ends".to_owned()),
        }
    }
}

impl MayFail {
    /// How many of so many requests.
    pub(super) fn most(self, requests: u64) -> u64 {
        match self {
            MayFail::Nobody => 0,
            // Of 100 requests a second, some 10 ms each, one is at a replica when it dies; 14.5 % of them must not be
            // repeated. Ten at once are out of the question.
            MayFail::AFew => 9,
            MayFail::OneIn(share) => requests / share,
        }
    }
}
