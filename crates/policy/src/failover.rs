//! Which tiers of a service take its requests.
//!
//! The lowest tier takes all requests as long as enough of it is usable, by weight. Each tier has a part of the requests
//! that it can take, 0 to 1: the usable share divided by `spill_below`, and 1 from there on. The lowest takes its part,
//! the next one up to its own of what is left, and so on; what is left at the end is divided in the same proportion.
//!
//! A part falls at once and rises late:
//!
//! ```text
//! full    => reduced  the usable share falls below spill_below: at once, in proportion; without anybody: nothing
//! reduced => reduced  it falls further: at once
//!                     it rises, and for fail_back_delay is never less: to the least seen in that time
//! reduced => full     at or above spill_below and a tenth for fail_back_delay without interruption
//! any     => forced   an operator's word: one tier takes all, whether it has anybody or not
//! forced  => any      an operator's word: back to what would have been without
//! ```
//!
//! So a tier that comes and goes in less than the delay takes nothing, and the margin keeps one that moves about the
//! limit where it is. A tier that waits is used all the same where the others' parts do not suffice: waiting protects
//! from bouncing, and is no reason to send requests to nobody. A tier that appears while others are known begins as
//! one that has just come back.
//!
//! When no tier has anybody, all stays as it is: a total loss is more often the gateway's network than every endpoint,
//! and whoever asks goes on from tier to tier, and fails open if it may.
//!
//! Limits: at most [`SHARING_MAX`] tiers share at a time; the last of them takes the rest. Proportional spill-over
//! follows Envoy's priority levels, whose factor of 1.4 is 1 / `spill_below` here; the delay and the pinning are not
//! there. Not decided here: who is usable.

use std::fmt;
use std::time::Duration;

use kernel::{Entropy, Moment};

#[cfg(test)]
mod tests;

/// Tiers that share requests at a time, at most. Each but the last is nearly gone when the next is asked.
pub const SHARING_MAX: usize = 4;

/// All requests, in permille.
const ALL: u16 = 1_000;

/// How far beyond `spill_below` a tier has to come before it counts as whole again.
const MARGIN: f64 = 0.1;

/// When a tier gives way to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FailoverRule {
    /// A tier whose share of usable endpoints (by weight) falls below this spills over to the next, in proportion.
    pub spill_below: f64,
    /// A tier takes its requests back once it has been whole enough for so long.
    pub fail_back_delay: Duration,
}

impl Default for FailoverRule {
    fn default() -> FailoverRule {
        FailoverRule { spill_below: 0.5, fail_back_delay: Duration::from_secs(10) }
    }
}

/// How a tier is now. Weights are the configured ones, without slow start; endpoints that an operator has drained or
/// taken down count in neither sum, so that maintenance moves no requests to another tier unless nobody is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierState {
    /// Its number; each once.
    pub tier: u8,
    /// Sum of the weights of endpoints that can take requests.
    pub usable_weight: u32,
    /// Sum of all weights.
    pub total_weight: u32,
}

/// Which tiers take which part of the requests, lowest tier first. Small and [`Copy`], and packed into one word for an
/// atomic ([`Shares::to_bits`]).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Tier and permille, above 0; beyond `len`, zeros.
    list: [(u8, u16); SHARING_MAX],
    len: u8,
}

/// A change of who takes the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What was.
    pub from: Shares,
    /// What is; the same if only the reason is another.
    pub to: Shares,
    /// Why.
    pub reason: Reason,
}

/// Why the tiers share as they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The lowest tier, this one, is whole enough.
    Whole(u8),
    /// It has nobody who is usable.
    Gone(u8),
    /// Too few of it are usable.
    Weak(u8),
    /// It has come back, in part or whole, and not for long enough.
    Returning(u8),
    /// No tier has anybody who is usable.
    Nobody,
    /// An operator has chosen the tier.
    Forced {
        /// The tier.
        tier: u8,
        /// Whether it has anybody who is usable.
        usable: bool,
    },
}

/// The tiers of one service.
#[derive(Clone, Debug)]
pub struct Failover {
    rule: FailoverRule,
    /// Lowest first.
    tiers: Vec<Tier>,
    forced: Option<u8>,
    shares: Shares,
    reason: Reason,
}

#[derive(Clone, Copy, Debug)]
struct Tier {
    state: TierState,
    /// The part that it may take.
    part: f64,
    /// Since when it could take more, and the least that it could since then.
    rising: Option<(Moment, f64)>,
}

impl Shares {
    /// All to one tier.
    pub fn only(tier: u8) -> Shares {
        let mut list = [(0, 0); SHARING_MAX];
        list[0] = (tier, ALL);
        Shares { list, len: 1 }
    }

    /// Tiers and their permille, lowest tier first. Never empty; the sum is 1000 and each is above 0.
    pub fn as_slice(&self) -> &[(u8, u16)] {
        &self.list[..usize::from(self.len)]
    }

    /// The lowest tier that takes requests.
    pub fn first(&self) -> u8 {
        self.list[0].0
    }

    /// The tier for one request. With one tier nothing is drawn.
    #[inline]
    pub fn pick(&self, entropy: &mut Entropy) -> u8 {
        if self.len == 1 {
            return self.first();
        }
        let mut drawn = entropy.below(u64::from(ALL)) as u16;
        for (tier, share) in self.as_slice() {
            if drawn < *share {
                return *tier;
            }
            drawn -= share;
        }
        self.first()
    }

    /// One word that says the same.
    pub fn to_bits(self) -> u64 {
        // Tiers in the low half; above them the shares of all but the last, ten bits each, which say the last as well.
        let tiers = (0..SHARING_MAX).map(|i| u64::from(self.list[i].0) << (8 * i));
        let shares = (0..SHARING_MAX - 1).map(|i| u64::from(self.list[i].1) << (32 + 10 * i));
        tiers.chain(shares).sum()
    }

    /// The shares that [`Shares::to_bits`] packed. Any other word gives some shares.
    pub fn from_bits(bits: u64) -> Shares {
        let mut shares = Shares { list: [(0, 0); SHARING_MAX], len: 0 };
        let mut left = ALL;
        for i in 0..SHARING_MAX {
            let share = if i + 1 < SHARING_MAX { (bits >> (32 + 10 * i)) as u16 & 0x3FF } else { left };
            let share = share.min(left);
            shares.push((bits >> (8 * i)) as u8, share);
            left -= share;
        }
        shares
    }

    fn push(&mut self, tier: u8, share: u16) {
        if share == 0 {
            return;
        }
        match self.list.get_mut(usize::from(self.len)) {
            Some(place) => {
                *place = (tier, share);
                self.len += 1;
            }
            None => self.list[SHARING_MAX - 1].1 += share,
        }
    }

    /// The shares of `parts`, whose sum is above 0. Running sums are rounded, so that the shares make up the whole.
    fn of(parts: impl Iterator<Item = (u8, f64)> + Clone) -> Shares {
        let total: f64 = parts.clone().map(|(_, part)| part).sum();
        let mut shares = Shares { list: [(0, 0); SHARING_MAX], len: 0 };
        let (mut sum, mut given) = (0.0, 0);
        for (tier, part) in parts {
            // The same additions as those of the total, so that the last quotient is exactly 1.
            sum += part;
            let upto = (f64::from(ALL) * sum / total).round() as u16;
            shares.push(tier, upto - given);
            given = upto;
        }
        shares
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (tier, share)) in self.as_slice().iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "tier {tier}")?;
            if *share < ALL {
                write!(f, ": {}.{} %", share / 10, share % 10)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Whole(tier) => write!(f, "enough of tier {tier} is usable"),
            Reason::Gone(tier) => write!(f, "nobody of tier {tier} is usable"),
            Reason::Weak(tier) => write!(f, "too few of tier {tier} are usable"),
            Reason::Returning(tier) => write!(f, "tier {tier} is back and has to stay so for a while"),
            Reason::Nobody => f.write_str("nobody of any tier is usable"),
            Reason::Forced { tier, usable: true } => write!(f, "tier {tier} was chosen by an operator"),
            Reason::Forced { tier, usable: false } => {
                write!(f, "tier {tier} was chosen by an operator, and nobody of it is usable")
            }
        }
    }
}

impl TierState {
    fn usable(&self) -> f64 {
        if self.total_weight == 0 { 0.0 } else { f64::from(self.usable_weight) / f64::from(self.total_weight) }
    }

    /// The part that it can take, if whole begins at `whole`.
    fn part(&self, whole: f64) -> f64 {
        let usable = self.usable();
        if usable >= whole && usable > 0.0 { 1.0 } else { usable / whole.max(f64::MIN_POSITIVE) }
    }
}

impl Tier {
    fn update(&mut self, rule: &FailoverRule, now: Moment) {
        let can = self.state.part(rule.spill_below);
        if can <= self.part {
            (self.part, self.rising) = (can, None);
        }
        let could = self.state.part((rule.spill_below + MARGIN).min(1.0));
        if could <= self.part {
            self.rising = None;
            return;
        }
        let (since, least) = self.rising.map_or((now, could), |(since, least)| (since, least.min(could)));
        self.rising = Some((since, least));
        if now.since(since) >= rule.fail_back_delay {
            self.part = least;
            self.rising = (could > least).then_some((now, could));
        }
    }
}

impl Failover {
    /// A service of which nothing is known: all to tier 0.
    pub fn new(rule: FailoverRule) -> Failover {
        Failover { rule, tiers: Vec::new(), forced: None, shares: Shares::only(0), reason: Reason::Whole(0) }
    }

    /// Takes into account how the tiers are. To be called every now and then, because delays end at a call.
    pub fn update(&mut self, tiers: &[TierState], now: Moment) -> Option<Change> {
        let first = self.tiers.is_empty();
        let known = std::mem::take(&mut self.tiers);
        self.tiers.extend(tiers.iter().map(|state| match known.iter().find(|t| t.state.tier == state.tier) {
            Some(tier) => Tier { state: *state, ..*tier },
            None => Tier { state: *state, part: f64::from(u8::from(first)), rising: None },
        }));
        self.tiers.sort_unstable_by_key(|t| t.state.tier);
        for tier in &mut self.tiers {
            tier.update(&self.rule, now);
        }
        self.settle()
    }

    /// Sends all requests to one tier, or with `None` back to where they go without an operator's word.
    pub fn force(&mut self, tier: Option<u8>) -> Option<Change> {
        self.forced = tier;
        self.settle()
    }

    /// Takes another rule, as after a reload, from the next update on.
    pub fn set_rule(&mut self, rule: FailoverRule) {
        self.rule = rule;
    }

    /// The tier that an operator chose.
    pub fn forced(&self) -> Option<u8> {
        self.forced
    }

    /// Who takes the requests.
    pub fn shares(&self) -> Shares {
        self.shares
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The tier for one request. Whoever finds nobody there goes on to the next of [`Failover::shares`], then to any.
    #[inline]
    pub fn pick(&self, entropy: &mut Entropy) -> u8 {
        self.shares.pick(entropy)
    }

    fn settle(&mut self) -> Option<Change> {
        let (from, before) = (self.shares, self.reason);
        (self.shares, self.reason) = match self.forced {
            Some(tier) => {
                let usable = self.tiers.iter().any(|t| t.state.tier == tier && t.state.usable() > 0.0);
                (Shares::only(tier), Reason::Forced { tier, usable })
            }
            None => match self.automatic() {
                Some(shares) => (shares, self.because()),
                None => (from, Reason::Nobody),
            },
        };
        let spoken = |reason: Reason| matches!(reason, Reason::Forced { .. } | Reason::Nobody);
        let told = from != self.shares || before != self.reason && (spoken(before) || spoken(self.reason));
        told.then_some(Change { from, to: self.shares, reason: self.reason })
    }

    /// Who takes the requests without an operator's word; `None`: nobody is usable.
    fn automatic(&self) -> Option<Shares> {
        let mut rest = 1.0;
        let mut take = |part: f64| {
            let taken = part.clamp(0.0, rest);
            rest -= taken;
            taken
        };
        // First what each may take, then what those who wait could take.
        let mut parts: Vec<(u8, f64)> = self.tiers.iter().map(|t| (t.state.tier, take(t.part))).collect();
        for (tier, part) in self.tiers.iter().zip(&mut parts) {
            part.1 += take(tier.state.part(self.rule.spill_below) - tier.part);
        }
        let any = parts.iter().any(|(_, part)| *part > 0.0);
        any.then(|| Shares::of(parts.into_iter()))
    }

    /// Why not everything goes to the lowest tier, or would not if there were others.
    fn because(&self) -> Reason {
        let Some(tier) = self.tiers.first() else { return Reason::Whole(0) };
        let at = tier.state.tier;
        match tier.state.part(self.rule.spill_below) {
            _ if tier.part >= 1.0 => Reason::Whole(at),
            0.0 => Reason::Gone(at),
            can if can > tier.part => Reason::Returning(at),
            _ => Reason::Weak(at),
        }
    }
}
