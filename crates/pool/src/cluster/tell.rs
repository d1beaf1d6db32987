//! What the journal is told of a cluster, and what people read while there is no primary.

use std::time::Duration;

use kernel::event::Event;
use policy::primary::{Change, Trouble, Why};

use super::reach::Reach;
use super::{Shared, State};

/// That no primary was found is told so long after a start: servers are settled on after one second.
const MISSING_AFTER: Duration = Duration::from_secs(2);

/// What an operator ordered.
pub(super) enum Order<'a> {
    FailOver(Option<&'a str>),
    Drain(&'a str),
    Resume(&'a str),
}

impl Shared {
    /// Tells changes, in their order. `reach` has the servers that they name.
    pub(super) fn tell(&self, state: &mut State, changes: &[Change], reach: &Reach) {
        for change in changes {
            let event = self.event(state, *change, reach);
            self.journal.tell(event);
        }
    }

    fn event(&self, state: &mut State, change: Change, reach: &Reach) -> Event {
        let service = reach.plan.name.clone();
        let now = self.clock.now();
        let name = |server: usize| name(reach, server);
        let timeline = |server| state.primary.facts(server).map_or(0, |facts| u64::from(facts.timeline));
        let without_ms = now.since(state.without_since).as_millis() as u64;
        match change {
            Change::Found { server } => {
                Event::PoolPrimaryFound { service, endpoint: name(server), timeline: timeline(server), without_ms }
            }
            Change::Promoted { from, to } => {
                // It may follow on a primary that was there until now.
                let without_ms = if self.standing.load().server.is_some() { 0 } else { without_ms };
                let (endpoint, from) = (name(to), name(from));
                Event::PoolPromoted { service, endpoint, from, timeline: timeline(to), without_ms }
            }
            Change::Lost { server, why } => {
                state.without_since = now;
                let error = state.notes.get(server).and_then(|note| note.error.as_deref());
                let reason = match (why, error) {
                    (Why::Gone, Some(error)) => format!("is gone: {error}"),
                    (Why::Gone, None) => "is gone".to_owned(),
                    (Why::Silent, _) => "does not answer".to_owned(),
                    (Why::Demoted, _) => "is a standby now".to_owned(),
                    (Why::Fenced, _) => "is back on a timeline that was left".to_owned(),
                    (Why::Ordered, _) => "was left, as an operator said".to_owned(),
                    (Why::Removed, _) => "is no longer in the configuration".to_owned(),
                };
                Event::PoolPrimaryLost { service, endpoint: name(server), reason }
            }
            Change::Restarted { server } => Event::PoolPrimaryRestarted { service, endpoint: name(server) },
            Change::Suspected { server } => {
                state.suspect_since = now;
                let error = state.notes.get(server).and_then(|note| note.error.clone());
                let reason = error.unwrap_or_else(|| "it does not answer".to_owned());
                Event::PoolPrimarySuspected { service, endpoint: name(server), reason }
            }
            Change::Cleared { server } => {
                let held_ms = now.since(state.suspect_since).as_millis() as u64;
                Event::PoolPrimaryCleared { service, endpoint: name(server), held_ms }
            }
            Change::Fenced { server, timeline, latest } => {
                let (timeline, latest) = (timeline.into(), latest.into());
                Event::PoolFenced { service, endpoint: name(server), timeline, latest }
            }
            Change::Conflict { server, with, is_stranger } => {
                let reason = if is_stranger {
                    "they are of different clusters; the first is not followed".to_owned()
                } else {
                    format!("both are on timeline {}", timeline(server))
                };
                Event::PoolConflict { service, endpoint: name(server), with: name(with), reason }
            }
        }
    }

    /// Tells what an operator ordered.
    pub(super) fn tell_order(&self, order: Order<'_>, actor: &str, reason: &str) {
        let service = self.reach.load().plan.name.clone();
        let (actor, reason) = (actor.to_owned(), reason.to_owned());
        self.journal.tell(match order {
            Order::FailOver(to) => {
                let endpoint = to.unwrap_or("any other server").to_owned();
                Event::PoolFailedOver { service, endpoint, actor, reason }
            }
            Order::Drain(server) => Event::PoolServerDrained { service, endpoint: server.to_owned(), actor, reason },
            Order::Resume(server) => Event::PoolServerResumed { service, endpoint: server.to_owned(), actor, reason },
        });
    }

    /// Tells that a server does not let the pooler in; once, until it does or says something else.
    pub(super) fn tell_denied(&self, state: &mut State, server: usize, error: &str) {
        let Some(note) = state.notes.get_mut(server).filter(|note| note.told_denied.as_deref() != Some(error)) else {
            return;
        };
        note.told_denied = Some(error.to_owned());
        let reach = self.reach.load();
        let (service, endpoint) = (reach.plan.name.clone(), name(&reach, server));
        self.journal.tell(Event::PoolServerDenied { service, endpoint, error: error.to_owned() });
    }

    /// Tells, once, that no primary was found after a start: whoever starts a node sees it before a client does.
    pub(super) fn tell_missing(&self, state: &mut State) {
        if state.has_looked {
            return;
        }
        let standing = self.standing.load();
        let has_waited = self.clock.now().since(state.without_since) >= MISSING_AFTER;
        state.has_looked = standing.server.is_some() || has_waited;
        if has_waited && standing.server.is_none() {
            let reason = standing.trouble.as_deref().unwrap_or("no server has answered").to_owned();
            self.journal.tell(Event::PoolPrimaryMissing { service: self.reach.load().plan.name.clone(), reason });
        }
    }

    /// Tells, once, that the pool may open more connections than its primary takes. The pooler's own sessions count.
    pub(super) fn check_cap(&self, state: &mut State) {
        const OWN: u32 = 2;
        let reach = self.reach.load();
        let Some(server) = state.primary.standing().server else { return };
        let Some(takes) = state.notes.get(server).and_then(|note| note.max_connections) else { return };
        let (cap, endpoint) = (reach.plan.max_connections, name(&reach, server));
        let told = (endpoint.clone(), takes, cap);
        if cap.saturating_add(OWN) <= takes {
            state.told_cap = None;
        } else if state.told_cap.as_ref() != Some(&told) {
            state.told_cap = Some(told);
            let service = reach.plan.name.clone();
            self.journal.tell(Event::PoolCapTooHigh { service, endpoint, cap: cap.into(), takes: takes.into() });
        }
    }
}

/// Why there is no primary, or why it is held back.
pub(super) fn trouble(state: &State, reach: &Reach) -> Option<String> {
    let error = |server: usize| state.notes.get(server).and_then(|note| note.error.as_deref());
    let standing = state.primary.standing();
    if let Some(server) = standing.server.filter(|_| standing.is_suspect) {
        return Some(format!("the primary {} does not answer", name(reach, server)));
    }
    let errors = || {
        let errors: Vec<&str> = (0..reach.doors.len()).filter_map(error).collect();
        errors.join("; ")
    };
    Some(match state.primary.trouble()? {
        Trouble::Settling => "the servers are being asked for their roles".to_owned(),
        Trouble::Awaited(server) => match error(server) {
            Some(error) => format!("{} is to be followed, as an operator said: {error}", name(reach, server)),
            None => format!("{} is to be followed, as an operator said, and is not primary yet", name(reach, server)),
        },
        Trouble::Conflict(one, two) => format!(
            "{} and {} both call themselves primary, on one timeline: drain one of them",
            name(reach, one),
            name(reach, two)
        ),
        Trouble::Fenced(server) => format!(
            "no server is primary but {}, which was left behind by a promotion or by an operator's word",
            name(reach, server)
        ),
        Trouble::Drained(server) => format!("{} is primary, and an operator has drained it", name(reach, server)),
        Trouble::Standbys => match errors() {
            errors if errors.is_empty() => "all servers are standbys".to_owned(),
            errors => format!("no server is primary: {errors}"),
        },
        Trouble::Unreachable => match errors() {
            errors if errors.is_empty() => "no server answers".to_owned(),
            errors => format!("no server can be reached: {errors}"),
        },
    })
}

fn name(reach: &Reach, server: usize) -> String {
    reach.doors.get(server).map_or_else(|| format!("server {server}"), |door| door.server.name.clone())
}
