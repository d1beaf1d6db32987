//! How the servers look at one moment.

use std::sync::Arc;

use policy::primary::Seat;

use super::reach::Door;
use super::{Note, Shared};
use crate::view::ServerView;

impl Shared {
    /// In the order of the plan.
    pub(super) fn views(&self) -> Vec<ServerView> {
        let now = self.clock.now();
        let state = self.lock();
        let reach = self.reach.load();
        let current = state.primary.standing().server;
        let head = current.and_then(|current| state.primary.facts(current)).and_then(|facts| facts.lsn);
        let view = |(server, (door, note)): (usize, (&Arc<Door>, &Note))| {
            let facts = state.primary.facts(server).filter(|_| note.answered.is_some());
            let role = match state.primary.seat(server) {
                Seat::Primary if current.is_some() => "primary",
                Seat::Primary | Seat::Unknown => "unknown",
                Seat::Standby => "standby",
                Seat::Fenced => "fenced",
                Seat::Drained => "drained",
                Seat::Unreachable => "unreachable",
            };
            let lsn = facts.and_then(|facts| facts.lsn);
            let lag = (Some(server) != current).then_some((head, lsn));
            ServerView {
                name: door.server.name.clone(),
                role,
                error: note.error.clone(),
                timeline: facts.map(|facts| facts.timeline).filter(|timeline| *timeline > 0),
                lsn,
                lag_bytes: lag.and_then(|(head, lsn)| Some(head?.saturating_sub(lsn?))),
                answered: note.answered.map(|at| now.since(at)),
                version: note.version.clone(),
                max_connections: note.max_connections,
            }
        };
        reach.doors.iter().zip(&state.notes).enumerate().map(view).collect()
    }
}
