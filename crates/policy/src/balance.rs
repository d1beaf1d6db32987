//! Which endpoint of a service takes a request.
//!
//! Endpoints are ranked first, and only the best rank that has anybody is looked at:
//!
//! | rank | who | why |
//! | --- | --- | --- |
//! | trial | stands at [`Standing::Trial`], for a request that can be repeated | an endpoint comes back only by being tried |
//! | good | stands at [`Standing::Good`] | |
//! | poor | trials and [`Standing::Poor`] | better than nobody; always by load, never by turn or hash |
//! | again | the two ranks before, tried by this request already; only if it asks for them | fewer endpoints than attempts |
//! | dead | [`Standing::Dead`], untried before tried; only if the service fails open | checks can be wrong about all |
//!
//! Within a rank one at its limit is passed over, and if all are, the request waits at the gate rather than go to a worse
//! rank: good endpoints that are busy are no reason to ask one that fails. A weight of 0 takes nothing.
//!
//! The way of balancing then chooses among the candidates: `turns`, `load` or `hash`. A turn is the caller's
//! counter; it counts among the candidates, not among all endpoints, so that the neighbour of a dead endpoint does not
//! get the dead one's share as well.
//!
//! The fleet's numbers may change while they are looked at (they are atomics of several workers); the choice is then
//! as good as what was seen, and never an endpoint that was tried, unless the request allows those.
//!
//! Cost: a few passes over the endpoints, nothing allocated. Not decided here: who is good, who holds the one trial of
//! an endpoint, and which tier is asked (`outlier`, the data plane, `failover`).

mod hash;
mod latency;
mod load;
mod slow_start;
mod turns;

#[cfg(test)]
mod tests;

use std::fmt;

use kernel::Entropy;

pub use hash::hash;
pub use latency::{PeakEwma, peak_ewma};
pub use slow_start::{WHOLE, slow_start};

/// How an endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Each in turn.
    RoundRobin,
    /// The one with the fewest requests in flight for its weight and speed; equals take turns.
    LeastOutstanding,
    /// Requests with the same key go to the same endpoint, within a bound on its load.
    Hash(HashKey),
}

/// What a request is hashed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The value of a header; the name in lower case.
    Header(String),
    /// The value of a cookie.
    Cookie(String),
    /// The client's address.
    Address,
}

/// The endpoints of a service as one request sees them.
pub trait Fleet {
    /// How many endpoints there are.
    fn len(&self) -> usize;
    /// Requests that endpoint `i` has been sent and has not answered.
    fn in_flight(&self, i: usize) -> u32;
    /// The configured weight of endpoint `i`, times its [`slow_start`] in permille; 0 takes nothing now.
    fn weight(&self, i: usize) -> u32;
    /// The peak of the answer times of endpoint `i`, as [`PeakEwma`] has it; 0 if unknown.
    fn latency_us(&self, i: usize) -> u64;
    /// How endpoint `i` stands.
    fn standing(&self, i: usize) -> Standing;
    /// Whether this request has been sent to endpoint `i` already. This must not change during a choice.
    fn tried(&self, i: usize) -> bool;
    /// Whether endpoint `i` works on as many requests as it may.
    fn full(&self, i: usize) -> bool;
    /// A number that endpoint `i` keeps while others come and go: the [`hash`] of its name.
    fn identity(&self, i: usize) -> u64;
    /// Whether there are no endpoints.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How an endpoint stands when a request looks for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is held against it.
    Good,
    /// Suspect or on probation, and no request is trying it now.
    Trial,
    /// Suspect or on probation with a request trying it, or open for what requests met.
    Poor,
    /// Active checks hold it for down.
    Dead,
    /// Drained or down by an operator's word, or of a tier that is not asked.
    Never,
}

/// What a request wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// It may be repeated and is at hand, so that an endpoint under suspicion can be tried with it.
    pub safe: bool,
    /// Endpoints that it has tried are better than none.
    pub again: bool,
    /// The [`hash`] of its key; `None` if it has no such header or cookie: it goes where the load is least.
    pub hash: Option<u64>,
    /// Endpoints that active checks hold for down are better than none.
    pub fail_open: bool,
}

/// The outcome of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// This endpoint takes the request.
    At(usize),
    /// All that could take it are at their limit: it waits at the gate.
    Full,
    /// Nobody is there to take it.
    None,
}

impl Pick {
    /// The endpoint that takes the request, if one does now.
    pub fn at(self) -> Option<usize> {
        match self {
            Pick::At(i) => Some(i),
            Pick::Full | Pick::None => None,
        }
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Balance::RoundRobin => f.pad("round_robin"),
            Balance::LeastOutstanding => f.pad("least_outstanding"),
            Balance::Hash(HashKey::Header(name)) => write!(f, "hash of header {name}"),
            Balance::Hash(HashKey::Cookie(name)) => write!(f, "hash of cookie {name}"),
            Balance::Hash(HashKey::Address) => f.pad("hash of address"),
        }
    }
}

/// Ranks, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    Trial,
    Good,
    Poor,
    GoodAgain,
    PoorAgain,
    Dead,
    DeadAgain,
}

impl Rank {
    const ALL: [Rank; 7] =
        [Rank::Trial, Rank::Good, Rank::Poor, Rank::GoodAgain, Rank::PoorAgain, Rank::Dead, Rank::DeadAgain];
}

/// The rank of an endpoint for a request; `None`: it is no candidate.
#[inline]
fn rank(fleet: &impl Fleet, i: usize, want: Want) -> Option<Rank> {
    let tried = fleet.tried(i);
    if tried && !want.again || fleet.weight(i) == 0 {
        return None;
    }
    match (fleet.standing(i), tried) {
        (Standing::Never, _) => None,
        (Standing::Dead, _) if !want.fail_open => None,
        (Standing::Good, false) => Some(Rank::Good),
        (Standing::Good, true) => Some(Rank::GoodAgain),
        // One at its limit cannot be tried, and must not keep the request from the good ones.
        (Standing::Trial, false) if want.safe && !fleet.full(i) => Some(Rank::Trial),
        (Standing::Trial | Standing::Poor, false) => Some(Rank::Poor),
        (Standing::Trial | Standing::Poor, true) => Some(Rank::PoorAgain),
        (Standing::Dead, false) => Some(Rank::Dead),
        (Standing::Dead, true) => Some(Rank::DeadAgain),
    }
}

/// What the first pass finds in one rank.
#[derive(Clone, Copy)]
struct Tally {
    /// Endpoints that could take the request.
    open: u64,
    /// Endpoints at their limit.
    full: u64,
    /// The first that could take it.
    first: usize,
    /// Sum of the weights of those that could.
    weight: u64,
    lightest: u32,
    heaviest: u32,
}

impl Tally {
    const NONE: Tally = Tally { open: 0, full: 0, first: 0, weight: 0, lightest: u32::MAX, heaviest: 0 };

    #[inline]
    fn count(&mut self, fleet: &impl Fleet, i: usize) {
        if fleet.full(i) {
            self.full += 1;
            return;
        }
        if self.open == 0 {
            self.first = i;
        }
        let weight = fleet.weight(i);
        self.open += 1;
        self.weight += u64::from(weight);
        self.lightest = self.lightest.min(weight);
        self.heaviest = self.heaviest.max(weight);
    }

    /// Whether all that could take the request weigh the same.
    fn is_even(&self) -> bool {
        self.lightest == self.heaviest
    }
}

/// The endpoint that takes the request. `turn` is a counter that the caller raises with each request.
#[inline]
pub fn choose(balance: &Balance, fleet: &impl Fleet, want: Want, turn: u64, entropy: &mut Entropy) -> Pick {
    let mut tallies = [Tally::NONE; Rank::ALL.len()];
    for i in 0..fleet.len() {
        if let Some(rank) = rank(fleet, i, want) {
            tallies[rank as usize].count(fleet, i);
        }
    }
    let best = Rank::ALL.into_iter().zip(&tallies).find(|(_, tally)| tally.open + tally.full > 0);
    let Some((best, tally)) = best else { return Pick::None };
    match tally.open {
        0 => return Pick::Full,
        1 => return Pick::At(tally.first),
        _ => {}
    }
    let candidates = (0..fleet.len()).filter(|i| rank(fleet, *i, want) == Some(best) && !fleet.full(*i));
    let chosen = match (best, balance, want.hash) {
        (Rank::Trial, _, _) => candidates.clone().nth((turn % tally.open) as usize),
        (Rank::Poor | Rank::PoorAgain, _, _) => load::choose(fleet, candidates, tally, turn, entropy),
        (_, Balance::RoundRobin, _) => turns::choose(fleet, candidates, tally, turn),
        (_, Balance::Hash(_), Some(key)) => hash::choose(fleet, candidates, tally, key),
        (_, Balance::LeastOutstanding | Balance::Hash(_), _) => load::choose(fleet, candidates, tally, turn, entropy),
    };
    // There is none if the numbers moved between the looks.
    Pick::At(chosen.unwrap_or(tally.first))
}
