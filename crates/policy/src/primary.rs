//! Which of several Postgres servers is the primary, by what each of them says of itself.
//!
//! Promotions are performed by others; this follows them. Each server is asked again and again for its role, its
//! timeline and the identity of its cluster, and this decides where transactions go:
//!
//! ```text
//! nobody  => primary   it calls itself primary, nobody else does on its timeline or a later one, and it is not fenced;
//!                      after a start not before all have been heard of, or `settle` has passed
//! primary => suspect   no answer for `suspect_after`, or its session broke: no new transaction is sent to it
//! suspect => primary   an answer, or another sign of life
//! any     => nobody    it cannot be reached; it is a standby now; no answer for `give_up_after`; an operator's word
//! any     => another   another server calls itself primary on a later timeline: at once
//! ```
//!
//! With each of these the epoch rises, but for suspicion, and a restart makes it rise too: connections of an older epoch
//! are never used again.
//!
//! **Fencing.** The latest timeline that was followed is remembered. A server that calls itself primary on an earlier one
//! has been left behind, frozen or cut off while another was promoted: what it was not told is lost there, so it is never
//! chosen, also if nobody else is left. An operator's word ([`Primary::failover`]) sets this aside.
//!
//! **Conflicts.** Two that call themselves primary on one timeline cannot be told apart: the current one stays, and without
//! a current one nobody is chosen, until one of them goes or an operator decides. Two names of one server (it started at
//! the same microsecond) are no conflict. A server of another cluster (by its
//! system identifier) is never followed, unless it stands where the last primary stood, or an operator says so.
//!
//! **Silence** is counted from the question, and not while this process itself stood still. Traffic from a server is a sign
//! of life as good as an answer ([`Primary::heard`]), so that one that is merely busy is not given up.
//!
//! Limits: as many servers as were given. Not decided here: how they are asked, and what becomes of transactions.

use std::time::Duration;

use kernel::Moment;

mod terms;
#[cfg(test)]
mod tests;

pub use terms::{Change, Facts, Failure, PrimaryRule, Role, Seat, Standing, Trouble, Why};

/// Between two ticks this much may pass; more is time in which this process stood still, and nobody's silence.
const TICK_GAP_MAX: Duration = Duration::from_millis(150);

/// The decision, for the servers of one pool.
#[derive(Clone, Debug)]
pub struct Primary {
    rule: PrimaryRule,
    servers: Vec<Seen>,
    current: Option<usize>,
    epoch: u64,
    is_suspect: bool,
    /// The last primary.
    last: Option<usize>,
    history: Option<History>,
    wanted: Option<usize>,
    started: Moment,
    ticked: Moment,
}

/// What was followed.
#[derive(Clone, Copy, Debug)]
struct History {
    system: Option<u64>,
    timeline: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    state: State,
    facts: Option<Facts>,
    /// Since when it owes an answer.
    asked: Option<Moment>,
    /// Its session broke, and it has not answered since.
    is_broken: bool,
    is_drained: bool,
    /// Up to this timeline it was left by an operator's word.
    left: Option<u32>,
    told_fenced: Option<u32>,
    told_conflict: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Unknown,
    Up,
    Down,
}

impl Primary {
    /// Nothing is known of `servers` servers.
    pub fn new(rule: PrimaryRule, servers: usize, now: Moment) -> Primary {
        Primary {
            rule,
            servers: vec![Seen::default(); servers],
            current: None,
            epoch: 0,
            is_suspect: false,
            last: None,
            history: None,
            wanted: None,
            started: now,
            ticked: now,
        }
    }

    /// Other servers, after a reload: `before` has, for each of them, its number before, if it was there.
    pub fn reload(&mut self, rule: PrimaryRule, before: &[Option<usize>], now: Moment) -> Vec<Change> {
        let mut changes = Vec::new();
        let after = |server: usize| before.iter().position(|b| *b == Some(server));
        self.rule = rule;
        if let Some(current) = self.current
            && after(current).is_none()
        {
            self.leave(Why::Removed, &mut changes);
        }
        self.servers =
            before.iter().map(|b| b.and_then(|b| self.servers.get(b).copied()).unwrap_or_default()).collect();
        self.current = self.current.and_then(after);
        self.last = self.last.and_then(after);
        self.wanted = self.wanted.and_then(after);
        self.decide(now, &mut changes);
        changes
    }

    /// A server is being asked; it owes an answer from now on, if it does not already.
    pub fn asked(&mut self, server: usize, now: Moment) {
        if let Some(seen) = self.servers.get_mut(server) {
            seen.asked.get_or_insert(now);
        }
    }

    /// A server answered.
    pub fn answered(&mut self, server: usize, facts: Facts, now: Moment) -> Vec<Change> {
        let mut changes = Vec::new();
        let Some(seen) = self.servers.get_mut(server) else { return changes };
        let before = seen.facts.replace(facts);
        (seen.state, seen.asked, seen.is_broken) = (State::Up, None, false);
        let has_restarted = before.is_some_and(|b| b.started.is_some() && b.started != facts.started);
        if self.current == Some(server) && has_restarted && facts.role == Role::Primary {
            self.epoch += 1;
            changes.push(Change::Restarted { server });
        }
        self.decide(now, &mut changes);
        changes
    }

    /// A server did not answer.
    pub fn failed(&mut self, server: usize, failure: Failure, now: Moment) -> Vec<Change> {
        let mut changes = Vec::new();
        let is_current = self.current == Some(server);
        let Some(seen) = self.servers.get_mut(server) else { return changes };
        match failure {
            Failure::Gone => (seen.state, seen.asked, seen.is_broken) = (State::Down, None, false),
            // Who lets nobody in is alive; what it said last is the best that is known of the primary.
            Failure::Denied if is_current => (seen.asked, seen.is_broken) = (None, false),
            Failure::Broken if is_current => {
                seen.is_broken = true;
                seen.asked.get_or_insert(now);
            }
            // Its silence goes on, and ends it.
            Failure::Unclear if is_current => {
                seen.asked.get_or_insert(now);
            }
            Failure::Denied | Failure::Broken | Failure::Unclear => {
                (seen.state, seen.asked, seen.is_broken) = (State::Down, None, false);
            }
        }
        self.decide(now, &mut changes);
        changes
    }

    /// A sign of life of the primary: it sent something to somebody at `at`.
    pub fn heard(&mut self, at: Moment) {
        if let Some(seen) = self.current.and_then(|current| self.servers.get_mut(current))
            && let Some(asked) = &mut seen.asked
        {
            *asked = at.max(*asked);
        }
    }

    /// Time has passed. To be called several times in `suspect_after`.
    pub fn tick(&mut self, now: Moment) -> Vec<Change> {
        let gap = now.since(self.ticked);
        if gap > TICK_GAP_MAX {
            self.servers.iter_mut().filter_map(|seen| seen.asked.as_mut()).for_each(|asked| *asked = *asked + gap);
        }
        self.ticked = now;
        let mut changes = Vec::new();
        self.decide(now, &mut changes);
        changes
    }

    /// An operator's word: follow `to` and nobody else until it is primary, also if it was fenced; without `to`, follow
    /// anybody but the present primary.
    pub fn failover(&mut self, to: Option<usize>, now: Moment) -> Vec<Change> {
        let mut changes = Vec::new();
        if to.is_some() && to == self.current {
            return changes;
        }
        let current = self.current;
        for (server, seen) in self.servers.iter_mut().enumerate() {
            let claims = seen.facts.filter(|facts| facts.role == Role::Primary);
            if Some(server) == to {
                seen.left = None;
                seen.is_drained = false;
            } else if to.is_some() || Some(server) == current {
                seen.left = claims.map(|facts| facts.timeline).or(seen.left);
            }
        }
        if current.is_some() {
            self.leave(Why::Ordered, &mut changes);
        }
        self.wanted = to;
        self.decide(now, &mut changes);
        changes
    }

    /// An operator's word: this server is never the primary, until [`Primary::undrain`].
    pub fn drain(&mut self, server: usize, now: Moment) -> Vec<Change> {
        self.order(server, now, |seen| seen.is_drained = true)
    }

    /// An operator's word: this server may be the primary again.
    pub fn undrain(&mut self, server: usize, now: Moment) -> Vec<Change> {
        self.wanted = None;
        self.order(server, now, |seen| (seen.is_drained, seen.left) = (false, None))
    }

    fn order(&mut self, server: usize, now: Moment, how: impl FnOnce(&mut Seen)) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(seen) = self.servers.get_mut(server) {
            how(seen);
        }
        self.decide(now, &mut changes);
        changes
    }

    /// Where transactions go.
    pub fn standing(&self) -> Standing {
        Standing { server: self.current, epoch: self.epoch, is_suspect: self.is_suspect }
    }

    /// Whether servers should be asked more often than usual.
    pub fn is_urgent(&self) -> bool {
        self.current.is_none() || self.is_suspect
    }

    /// What a server said last.
    pub fn facts(&self, server: usize) -> Option<Facts> {
        self.servers.get(server).and_then(|seen| seen.facts)
    }

    /// How a server is seen.
    pub fn seat(&self, server: usize) -> Seat {
        let Some(seen) = self.servers.get(server) else { return Seat::Unknown };
        match (seen.state, seen.facts.map(|facts| facts.role)) {
            _ if seen.is_drained => Seat::Drained,
            (State::Down, _) => Seat::Unreachable,
            (State::Unknown, _) | (State::Up, None) => Seat::Unknown,
            (State::Up, Some(Role::Standby)) => Seat::Standby,
            (State::Up, Some(Role::Primary)) if self.is_followed(server) => Seat::Primary,
            (State::Up, Some(Role::Primary)) => Seat::Fenced,
        }
    }

    /// Whether a server that calls itself primary is the one that is followed, or could be.
    fn is_followed(&self, server: usize) -> bool {
        let is_out = self.is_fenced(server) || self.is_stranger(server);
        !is_out && self.current.is_none_or(|current| current == server || self.are_one(current, server))
    }

    /// Whether two are names of one server.
    fn are_one(&self, one: usize, two: usize) -> bool {
        let identity = |server| self.claim(server).and_then(|f| Some((f.system?, f.started?, f.timeline)));
        identity(one).is_some_and(|it| identity(two) == Some(it))
    }

    /// Why there is no primary, if there is none.
    pub fn trouble(&self) -> Option<Trouble> {
        if self.current.is_some() {
            return None;
        }
        if let Some(wanted) = self.wanted {
            return Some(Trouble::Awaited(wanted));
        }
        let claimants: Vec<usize> = (0..self.servers.len()).filter(|s| self.claim(*s).is_some()).collect();
        let of = |seat: Seat| claimants.iter().copied().find(|server| self.seat(*server) == seat);
        let mut rivals = claimants.iter().copied().filter(|server| self.seat(*server) == Seat::Primary);
        let first = rivals.next();
        match (first, rivals.find(|other| first.is_some_and(|first| !self.are_one(first, *other)))) {
            (Some(one), Some(two)) => return Some(Trouble::Conflict(one, two)),
            (Some(_), None) => return Some(Trouble::Settling),
            _ => {}
        }
        if let Some(server) = of(Seat::Fenced) {
            return Some(Trouble::Fenced(server));
        }
        if let Some(server) = of(Seat::Drained) {
            return Some(Trouble::Drained(server));
        }
        match () {
            () if self.servers.iter().any(|seen| seen.state == State::Up) => Some(Trouble::Standbys),
            () if self.servers.iter().any(|seen| seen.state == State::Unknown) => Some(Trouble::Settling),
            () => Some(Trouble::Unreachable),
        }
    }

    /// What a server claims, if it answers and calls itself primary.
    fn claim(&self, server: usize) -> Option<Facts> {
        let seen = self.servers.get(server).filter(|seen| seen.state == State::Up)?;
        seen.facts.filter(|facts| facts.role == Role::Primary)
    }

    fn is_fenced(&self, server: usize) -> bool {
        let Some(facts) = self.claim(server) else { return false };
        let is_left = self.servers[server].left.is_some_and(|left| facts.timeline <= left);
        let is_old = self.history.is_some_and(|h| same(h.system, facts.system) && facts.timeline < h.timeline);
        is_left || (is_old && self.wanted != Some(server))
    }

    /// Whether it belongs to another cluster than the one that was followed, and does not stand in its place.
    fn is_stranger(&self, server: usize) -> bool {
        let Some(facts) = self.claim(server) else { return false };
        let is_other = self.history.is_some_and(|h| !same(h.system, facts.system));
        is_other && self.last != Some(server) && self.wanted != Some(server)
    }

    /// Whether it may be chosen.
    fn candidate(&self, server: usize) -> Option<Facts> {
        let may = self.wanted.is_none_or(|wanted| wanted == server);
        let open = may && !self.servers[server].is_drained && !self.is_fenced(server) && !self.is_stranger(server);
        self.claim(server).filter(|_| open)
    }

    fn silence(&self, server: usize, now: Moment) -> Duration {
        self.servers[server].asked.map_or(Duration::ZERO, |asked| now.since(asked))
    }

    fn leave(&mut self, why: Why, changes: &mut Vec<Change>) {
        if let Some(server) = self.current.take() {
            self.epoch += 1;
            self.is_suspect = false;
            changes.push(Change::Lost { server, why });
        }
    }

    fn decide(&mut self, now: Moment, changes: &mut Vec<Change>) {
        for server in 0..self.servers.len() {
            if self.silence(server, now) >= self.rule.give_up_after {
                let is_up = self.servers[server].state == State::Up;
                self.servers[server].state = State::Down;
                if self.current == Some(server) && is_up {
                    self.leave(Why::Silent, changes);
                }
            }
        }
        if let Some(current) = self.current {
            let seen = self.servers[current];
            let why = match self.claim(current) {
                _ if seen.is_drained => Some(Why::Ordered),
                None if seen.state == State::Up => Some(Why::Demoted),
                None => Some(Why::Gone),
                Some(_) if self.is_fenced(current) => Some(Why::Fenced),
                Some(_) => None,
            };
            if let Some(why) = why {
                self.leave(why, changes);
            }
        }
        self.choose(now, changes);
        self.tell_others(changes);
        self.suspect(now, changes);
    }

    /// Follows the latest timeline, if that is one server's.
    fn choose(&mut self, now: Moment, changes: &mut Vec<Change>) {
        let is_settled = self.history.is_some()
            || now.since(self.started) >= self.rule.settle
            || self.servers.iter().all(|seen| seen.state != State::Unknown);
        let candidates = (0..self.servers.len()).filter_map(|server| Some((server, self.candidate(server)?)));
        // One whose answer is overdue is not the one to go to.
        let fresh: Vec<(usize, Facts)> = candidates
            .filter(|(server, _)| Some(*server) == self.current || self.silence(*server, now) < self.rule.suspect_after)
            .collect();
        let Some(latest) = fresh.iter().map(|(_, facts)| facts.timeline).max().filter(|_| is_settled) else { return };
        let mut best = fresh.iter().filter(|(_, facts)| facts.timeline == latest);
        if let Some((_, facts)) = best.clone().find(|(server, _)| Some(*server) == self.current) {
            // A timeline can rise in place, by a recovery that ended between two answers.
            self.history = Some(History { system: facts.system, timeline: latest });
            return;
        }
        let Some((to, facts)) = best.next().copied() else { return };
        if best.any(|(other, _)| !self.are_one(to, *other)) {
            return;
        }
        let is_later = self.history.is_some_and(|h| latest > h.timeline);
        let from = self.last.filter(|last| *last != to && (self.current.is_some() || is_later));
        changes.push(from.map_or(Change::Found { server: to }, |from| Change::Promoted { from, to }));
        self.history = Some(History { system: facts.system, timeline: latest });
        (self.current, self.last, self.wanted) = (Some(to), Some(to), None);
        self.epoch += 1;
        self.is_suspect = false;
    }

    /// Says once who calls itself primary and is not.
    fn tell_others(&mut self, changes: &mut Vec<Change>) {
        for server in (0..self.servers.len()).filter(|server| Some(*server) != self.current) {
            let claim = self.claim(server).filter(|_| !self.servers[server].is_drained);
            let timeline = claim.map(|facts| facts.timeline).filter(|_| self.is_fenced(server));
            if let (Some(timeline), Some(history)) = (timeline, self.history)
                && self.servers[server].told_fenced != Some(timeline)
            {
                changes.push(Change::Fenced { server, timeline, latest: history.timeline });
            }
            self.servers[server].told_fenced = timeline;
            let rival = claim
                .filter(|_| timeline.is_none() && self.wanted.is_none())
                .and_then(|facts| self.rival(server, facts));
            if let Some(with) = rival
                && !self.servers[server].told_conflict
            {
                changes.push(Change::Conflict { server, with, is_stranger: self.is_stranger(server) });
            }
            self.servers[server].told_conflict = rival.is_some();
        }
    }

    /// Whom a claim is in conflict with: the primary; without one, another that claims the same, of a lower number.
    fn rival(&self, server: usize, facts: Facts) -> Option<usize> {
        let rival = self.current.or_else(|| {
            let same = |other: &usize| self.candidate(*other).is_some_and(|f| f.timeline == facts.timeline);
            (0..server).find(same).filter(|_| self.candidate(server).is_some())
        });
        rival.filter(|rival| !self.are_one(*rival, server))
    }

    fn suspect(&mut self, now: Moment, changes: &mut Vec<Change>) {
        let Some(server) = self.current else { return };
        let is_suspect = self.servers[server].is_broken || self.silence(server, now) >= self.rule.suspect_after;
        if is_suspect != self.is_suspect {
            self.is_suspect = is_suspect;
            changes.push(if is_suspect { Change::Suspected { server } } else { Change::Cleared { server } });
        }
    }
}

/// Whether two clusters may be one; what cannot be read is no reason to think otherwise.
fn same(one: Option<u64>, two: Option<u64>) -> bool {
    one.is_none() || two.is_none() || one == two
}
