//! Endpoints that register themselves: which of them are in force.
//!
//! An endpoint says that it is there and for how long that holds (its lease), and says so again well before the time is
//! up ([`renew_in`]: a third of the lease). One that falls silent leaves when its lease ends. The registry that obeys
//! this blindly turns a fault of its own into an outage, so three things are set against it, after Netflix Eureka's
//! self-preservation and the advice of Consul's and etcd's documents on leases:
//!
//! ```text
//! unknown  => live      a beat
//! live     => live      a beat: the lease begins anew
//! live     => gone      the lease has ended, and most others still beat: believed at once
//! live     => doubtful  the lease has ended, and with it, or nearly, those of more than half, or of the last one:
//!                       the fault may be ours or the network's, so somebody has to knock
//! doubtful => live      a beat; or it answers the knock: it stays, a third of its lease at a time
//! doubtful => gone      it does not answer
//! any      => gone      it says that it leaves
//! ```
//! - **Nearly ended** counts for the share: beats of one fleet are spread over a third of the lease, so when a whole fleet
//!   falls silent its first lease ends that much before its last. An endpoint that has been silent for two thirds of its
//!   lease has missed a beat and is counted among the silent.
//! - **Time in which we did not run does not count.** [`Leases::tick`] sees from the time since the last tick that this
//!   process (or its whole machine) stood still. Where a beat may have been lost by that, a third of the lease or more,
//!   the lease begins anew; else it ends later by as much. A restart begins with nothing and learns from the next beats.
//!
//! Limits: [`MAX_REGISTRATIONS`] a service; leases from [`SHORTEST`] to [`LONGEST`]. Not decided here: how one knocks,
//! whose token may register what, and whether an endpoint that is in force is healthy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use kernel::Moment;

/// Registrations that one service can hold: each is an endpoint, and a request may look at all of them.
pub const MAX_REGISTRATIONS: usize = 1000;
/// The shortest lease: three beats in it are already three calls a second for each endpoint.
pub const SHORTEST: Duration = Duration::from_secs(1);
/// The longest lease: who dies with one is not missed before it ends.
pub const LONGEST: Duration = Duration::from_secs(60 * 60);
/// How often [`Leases::tick`] is to be called: a tenth of the shortest lease.
pub const TICK: Duration = Duration::from_millis(100);
/// A knock without a result in this time is repeated: whoever knocked has come to nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an endpoint registers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long it is in force without another beat.
    pub lease: Duration,
    /// Its share of the requests relative to the others of its tier; at least 1.
    pub weight: u32,
    /// 0 is used first.
    pub tier: u8,
}

/// The registrations of one service.
#[derive(Clone, Debug)]
pub struct Leases {
    longest: Duration,
    held: BTreeMap<SocketAddr, Held>,
    ticked: Option<Moment>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    terms: Terms,
    beat: Moment,
    /// When its lease, or the time that a knock bought it, ends.
    until: Moment,
    /// When somebody was last told to knock; `None`: there is no doubt.
    asked: Option<Moment>,
}

/// What a beat did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// The endpoint was not known.
    New,
    /// It was, with another weight or tier.
    Changed,
    /// It was, as it is.
    Renewed,
}

/// Why a beat is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// A lease out of range.
    #[error("a lease of {asked:?} is not given here: ask for {SHORTEST:?} to {longest:?}")]
    OutOfRange {
        /// What was asked for.
        asked: Duration,
        /// What the service gives at most.
        longest: Duration,
    },
    /// Too many.
    #[error("{MAX_REGISTRATIONS} endpoints are registered, which is the most: let those that are gone leave")]
    Full,
}

/// What a tick came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ticked {
    /// Those whose lease ended: they are out.
    pub expired: Vec<SocketAddr>,
    /// Those at whose door somebody has to knock; what comes of it goes to [`Leases::probed`].
    pub doubtful: Vec<SocketAddr>,
    /// For how long nothing ran here before this tick, if it was long enough to count.
    pub stalled: Option<Duration>,
}

/// What the result of a knock did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    /// It is alive and stays.
    Kept,
    /// It is not, and is out.
    Expired,
    /// Nothing: it has beaten, left, or was never in doubt.
    Settled,
}

/// When an endpoint should beat again: after a third of its lease, so that one lost beat costs nothing.
pub fn renew_in(lease: Duration) -> Duration {
    lease / 3
}

impl Leases {
    /// Nobody is registered; no lease will be longer than `longest` (which is held within [`SHORTEST`] and [`LONGEST`]).
    pub fn new(longest: Duration) -> Leases {
        Leases { longest: longest.clamp(SHORTEST, LONGEST), held: BTreeMap::new(), ticked: None }
    }

    /// The longest lease that is given.
    pub const fn longest(&self) -> Duration {
        self.longest
    }

    /// Gives no longer leases than this from now on; those that were given go on.
    pub fn set_longest(&mut self, longest: Duration) {
        self.longest = longest.clamp(SHORTEST, LONGEST);
    }

    /// An endpoint says that it is there.
    ///
    /// # Errors
    /// If its lease is out of range, or it is one too many.
    pub fn beat(&mut self, address: SocketAddr, terms: Terms, now: Moment) -> Result<Beat, LeaseError> {
        if !(SHORTEST..=self.longest).contains(&terms.lease) {
            return Err(LeaseError::OutOfRange { asked: terms.lease, longest: self.longest });
        }
        let terms = Terms { weight: terms.weight.max(1), ..terms };
        let known = self.held.get(&address).map(|held| held.terms);
        if known.is_none() && self.held.len() >= MAX_REGISTRATIONS {
            return Err(LeaseError::Full);
        }
        self.held.insert(address, Held { terms, beat: now, until: now + terms.lease, asked: None });
        Ok(match known {
            None => Beat::New,
            Some(before) if (before.weight, before.tier) != (terms.weight, terms.tier) => Beat::Changed,
            Some(_) => Beat::Renewed,
        })
    }

    /// An endpoint says that it leaves. False if it was not there.
    pub fn leave(&mut self, address: SocketAddr) -> bool {
        self.held.remove(&address).is_some()
    }

    /// Ends the leases whose time is up; call it every [`TICK`].
    pub fn tick(&mut self, now: Moment) -> Ticked {
        let mut ticked = Ticked { stalled: self.make_up_for_stall(now), ..Ticked::default() };
        let due: Vec<SocketAddr> = self.held.iter().filter(|(_, held)| held.until <= now).map(|(a, _)| *a).collect();
        if due.is_empty() {
            return ticked;
        }
        let silent = self.held.values().filter(|held| held.missed_a_beat(now)).count();
        let believed = silent * 2 <= self.held.len() && due.len() < self.held.len();
        for address in due {
            let Some(held) = self.held.get_mut(&address) else { continue };
            if believed {
                self.held.remove(&address);
                ticked.expired.push(address);
            } else if held.asked.is_none_or(|asked| now.since(asked) >= PATIENCE) {
                held.asked = Some(now);
                ticked.doubtful.push(address);
            }
        }
        ticked
    }

    /// Somebody knocked at the door of a doubtful endpoint.
    pub fn probed(&mut self, address: SocketAddr, alive: bool, now: Moment) -> Probed {
        match self.held.get_mut(&address) {
            Some(held) if held.asked.is_some() && alive => {
                held.asked = None;
                held.until = now + renew_in(held.terms.lease);
                Probed::Kept
            }
            Some(held) if held.asked.is_some() => {
                self.held.remove(&address);
                Probed::Expired
            }
            _ => Probed::Settled,
        }
    }

    /// Those in force, by address.
    pub fn in_force(&self) -> impl Iterator<Item = (SocketAddr, Terms)> + '_ {
        self.held.iter().map(|(address, held)| (*address, held.terms))
    }

    /// How many are in force.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// How many are in force although their lease has ended, because a knock is to decide or has decided so.
    pub fn silent(&self, now: Moment) -> usize {
        self.held.values().filter(|held| now.since(held.beat) >= held.terms.lease).count()
    }

    /// Leaves out of account the time in which nothing ran here.
    fn make_up_for_stall(&mut self, now: Moment) -> Option<Duration> {
        let last = self.ticked.replace(now)?;
        let lost = now.since(last).saturating_sub(TICK);
        // A late tick or two is a busy machine, and no beat waits for longer than that.
        if lost <= TICK {
            return None;
        }
        for held in self.held.values_mut() {
            if lost >= renew_in(held.terms.lease) {
                *held = Held { beat: now, until: now + held.terms.lease, asked: None, ..*held };
            } else if held.beat <= last {
                held.beat = held.beat + lost;
                held.until = held.until + lost;
            }
        }
        Some(lost)
    }
}

impl Held {
    /// Whether it has been silent for so long that a beat is overdue.
    fn missed_a_beat(&self, now: Moment) -> bool {
        now.since(self.beat) >= self.terms.lease * 2 / 3
    }
}

#[cfg(test)]
#[path = "leases_tests.rs"]
mod tests;
