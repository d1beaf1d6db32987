//! What probes, workers and operators bring, made into a decision, and the decision put where all see it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use kernel::{Entropy, Moment};
use policy::primary::{Change, Failure, Primary};

use super::{ClusterError, Shared, Standing, State, probe, tell};

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets something change the decision, and says what changed to all whom it concerns.
    pub(super) fn decide(&self, how: impl FnOnce(&mut Primary, Moment) -> Vec<Change>) {
        let mut state = self.lock();
        let changes = how(&mut state.primary, self.clock.now());
        self.tell(&mut state, &changes, &self.reach.load());
        let is_changed = self.publish(&state);
        self.tell_missing(&mut state);
        drop(state);
        self.after(is_changed);
    }

    /// A server is being asked, as the probe of this generation says.
    pub(super) fn asked(&self, generation: u64, server: usize) {
        let mut state = self.lock();
        if state.generation == generation {
            let now = self.clock.now();
            state.primary.asked(server, now);
        }
    }

    /// A server answered.
    pub(super) fn answered(&self, generation: u64, server: usize, answer: probe::Answer) {
        let now = self.clock.now();
        let mut state = self.lock();
        if state.generation != generation {
            return;
        }
        let note = &mut state.notes[server];
        (note.error, note.told_denied, note.answered) = (None, None, Some(now));
        (note.version, note.max_connections) = (answer.version, answer.max_connections);
        note.parameters = answer.parameters;
        let changes = state.primary.answered(server, answer.facts, now);
        self.tell(&mut state, &changes, &self.reach.load());
        self.check_cap(&mut state);
        let is_changed = self.publish(&state);
        drop(state);
        self.after(is_changed);
    }

    /// A server did not answer.
    pub(super) fn failed(&self, generation: u64, server: usize, failure: Failure, error: String) {
        let mut state = self.lock();
        if state.generation != generation {
            return;
        }
        if failure == Failure::Denied {
            self.tell_denied(&mut state, server, &error);
        }
        state.notes[server].error = Some(error);
        let changes = state.primary.failed(server, failure, self.clock.now());
        self.tell(&mut state, &changes, &self.reach.load());
        let is_changed = self.publish(&state);
        drop(state);
        self.after(is_changed);
    }

    /// Puts the decision where workers see it. Whether it is another than before.
    pub(super) fn publish(&self, state: &State) -> bool {
        let decided = state.primary.standing();
        let reach = self.reach.load();
        let trouble = tell::trouble(state, &reach);
        let before = self.standing.load();
        if (decided.server, decided.epoch, decided.is_suspect) == (before.server, before.epoch, before.is_suspect)
            && trouble.as_deref() == before.trouble.as_deref()
        {
            return false;
        }
        if let Some(note) = decided.server.and_then(|server| state.notes.get(server))
            && !note.parameters.is_empty()
        {
            self.welcome.store(Some(Arc::clone(&note.parameters)));
        }
        let trouble = trouble.map(Arc::from);
        let standing =
            Standing { server: decided.server, epoch: decided.epoch, is_suspect: decided.is_suspect, trouble };
        if let Some(door) = standing.server.filter(|_| before.server.is_none()).and_then(|s| reach.doors.get(s)) {
            // Many may have waited for it: as after a failed attempt.
            door.failed.store(self.clock.now().as_nanos(), Ordering::Relaxed);
        }
        let has_closed = before.is_open() && !standing.is_open();
        self.standing.store(Arc::new(standing));
        self.version.fetch_add(1, Ordering::Release);
        self.epoch.send_if_modified(|epoch| std::mem::replace(epoch, decided.epoch) != decided.epoch);
        if has_closed {
            self.wake_probes();
        }
        true
    }

    /// What has to be done when the lock is free again.
    pub(super) fn after(&self, is_changed: bool) {
        if is_changed {
            (self.changed)();
        }
    }

    pub(super) fn wake_probes(&self) {
        self.reach.load().doors.iter().for_each(|door| door.wake.notify_one());
    }

    /// Ends all probes and begins one for each server.
    pub(super) fn probe_all(self: &Arc<Self>, state: &mut State) {
        state.probes.drain(..).for_each(|probe| probe.abort());
        state.generation += 1;
        let reach = self.reach.load_full();
        for server in 0..reach.doors.len() {
            let entropy = Entropy::from_seed(state.entropy.next_u64());
            let probe = probe::Probe::new(Arc::clone(self), Arc::clone(&reach), server, state.generation, entropy);
            state.probes.push(self.control.spawn(Box::pin(probe.run())));
        }
    }

    /// The place of a server, by its name.
    pub(super) fn place(&self, name: &str) -> Result<usize, ClusterError> {
        let reach = self.reach.load();
        let place = reach.doors.iter().position(|door| door.server.name == name);
        place.ok_or_else(|| ClusterError::NoServer {
            pool: reach.plan.name.clone(),
            server: name.to_owned(),
            known: reach.doors.iter().map(|door| door.server.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }
}
