//! From a node that is built to one that serves: the workers accept, whoever was replaced hears it, console and API
//! answer, the service manager is told, and the next process may ask.
//!
//! A node that takes over waits first until every name in DNS was asked for once, so that its first request finds the
//! endpoints that the last one of the old node found. The console opens behind the gateway: who asks it may rely on the
//! node. Nothing before that is seen from outside.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use console::{AdminServer, ApiServer, Vitals};
use kernel::{Drain, DrainPhase, Event};
use tokio::task::JoinHandle;

use super::reloading::watch;
use super::{App, PoolAddress, Settable, Source, StartError, system};
use crate::handover::asking::{AskError, Asking};
use crate::service_manager::watchdog;

/// How often it is looked whether DNS has answered.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A worker that has not come round for so long does not turn: it does so each second, and may be late on a busy machine.
const ROUND: Duration = Duration::from_secs(3);

/// How often it is looked whether another process with the same store has taken an operator's decision.
const DECISIONS_EVERY: Duration = Duration::from_secs(1);

/// What waits to enter.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Whoever is to be replaced.
    pub(super) asking: Option<Asking>,
    pub(super) vitals: Vitals,
    pub(super) admin: (AdminServer, TcpListener),
    pub(super) api: Option<(ApiServer, TcpListener)>,
}

impl App {
    /// Begins to serve. Called once; a second call does nothing.
    ///
    /// # Errors
    /// If the node that was to be replaced goes on, or the system refuses. Nothing is served then, and what came in
    /// between is answered.
    pub async fn enter(&self) -> Result<(), StartError> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Waiting { asking, vitals, admin, api }) = waiting else { return Ok(()) };
        let in_place = asking.is_some();
        if in_place {
            let mut looks = tokio::time::interval(LOOK_EVERY);
            while !self.inner.discovery.has_looked() {
                looks.tick().await;
            }
            // What the node before was told meanwhile holds for the first request.
            self.inner.look_at_decisions().await;
        }
        self.control.spawn(self.inner.clone().follow_decisions(self.trigger.subscribe()));
        self.inner.gateway.open();
        self.inner.pools.open();
        self.unix.show().map_err(system("name the pools' sockets"))?;
        self.inner.serve(vitals, admin, api, &self.control, &self.trigger.subscribe())?;
        if let Some(asking) = asking {
            self.replace(asking).await?;
        }
        self.unix.keep();
        self.inner.journal.tell(Event::NodeStarted {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: u64::from(std::process::id()),
            config: self.inner.source.name(),
            took_over: in_place,
        });
        self.inner.manager.ready(&self.inner.status(), in_place);
        if let Some(interval) = watchdog() {
            self.control.spawn(self.inner.clone().prove_life(interval, self.trigger.subscribe()));
        }
        if let Source::File(path) = &self.inner.source {
            self.control.spawn(watch(self.inner.clone(), path.clone(), self.trigger.subscribe()));
            if let Some(listener) = self.giving.open(in_place) {
                self.control.spawn(self.giving.clone().listen(listener));
            }
        }
        Ok(())
    }

    /// Tells the node before that it may go. If it stays, this one goes.
    async fn replace(&self, asking: Asking) -> Result<(), StartError> {
        let addresses = &self.addresses;
        let pools = addresses.pools.iter().filter_map(|(_, address)| match address {
            PoolAddress::Tcp(address) => Some(address),
            PoolAddress::Unix(_) => None,
        });
        let keeps: Vec<SocketAddr> =
            addresses.gateway.iter().chain(&addresses.console).chain(&addresses.api).chain(pools).copied().collect();
        let (from_pid, to_pid) = (u64::from(asking.pid()), u64::from(std::process::id()));
        let told = tokio::task::spawn_blocking(move || asking.ready(keeps)).await;
        match told.unwrap_or_else(|error| Err(AskError::Io(std::io::Error::other(error)))) {
            Ok(()) => {
                self.inner.journal.tell(Event::NodeHandedOver { from_pid, to_pid });
                Ok(())
            }
            Err(error) => {
                // The sockets are still served by the other one.
                self.giving.leave();
                self.unix.remove();
                self.trigger.hand_over();
                self.trigger.hurry();
                let _whole = self.finish().await;
                Err(error.into())
            }
        }
    }
}

impl super::Inner {
    fn serve(
        &self,
        vitals: Vitals,
        (admin, at): (AdminServer, TcpListener),
        api: Option<(ApiServer, TcpListener)>,
        control: &tokio::runtime::Handle,
        drain: &Drain,
    ) -> Result<(), StartError> {
        let _context = control.enter();
        control.spawn(vitals.run(drain.clone()));
        let mut tasks: Vec<JoinHandle<()>> = Vec::new();
        let mut settable = Vec::new();
        let listener = tokio::net::TcpListener::from_std(at).map_err(system("serve the console"))?;
        tasks.push(control.spawn(admin.clone().serve(listener, drain.clone())));
        settable.push(Settable::Admin(admin));
        if let Some((api, at)) = api {
            let listener = tokio::net::TcpListener::from_std(at).map_err(system("serve the API"))?;
            tasks.push(control.spawn(api.clone().serve(listener, drain.clone())));
            settable.push(Settable::Api(api));
        }
        *self.servers.lock().unwrap_or_else(PoisonError::into_inner) = settable;
        *self.serving.lock().unwrap_or_else(PoisonError::into_inner) = tasks;
        Ok(())
    }

    /// Puts in force what another process with the same store has decided, to the end of this one: two of them have it
    /// open at a hand-over, and an operator may ask either.
    async fn follow_decisions(self: Arc<Self>, mut drain: Drain) {
        let mut looks = tokio::time::interval(DECISIONS_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = drain.reached(DrainPhase::Closed) => return,
                _ = looks.tick() => self.look_at_decisions().await,
            }
        }
    }

    async fn look_at_decisions(self: &Arc<Self>) {
        let inner = self.clone();
        let look = move || inner.store.is_some() && inner.operations.look(inner.gateway.as_ref());
        // It has said in the log what is different.
        let _different = tokio::task::spawn_blocking(look).await.is_ok();
    }

    /// What the service manager shows.
    pub(super) fn status(&self) -> String {
        let pools = self.addresses.pools.iter().map(|(_, address)| address.to_string());
        let mut places: Vec<String> = self.addresses.gateway.iter().map(SocketAddr::to_string).collect();
        for place in pools {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let valid = match self.reloads.valid.get() {
            1 => "",
            _ => "; the last configuration was refused, the one from before is in force",
        };
        format!("Serving on {}{valid}.", places.join(", "))
    }

    /// Lets the service manager know that this process turns, twice as often as it asks for: this task is part of the
    /// control plane, each worker has come round to its upkeep within the interval, and no worker of the pools has ended.
    /// While a node drains its workers end one by one, and the control plane alone counts.
    async fn prove_life(self: Arc<Self>, interval: Duration, drain: Drain) {
        let longest = interval.max(ROUND);
        let mut beats = tokio::time::interval(interval / 2);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            match self.gateway.silence() {
                Some(silence) if silence < longest && self.pools.is_whole() => self.manager.alive(),
                _ if drain.phase() >= DrainPhase::Draining => self.manager.alive(),
                silence => tracing::error!(?silence, "a worker does not turn; the service manager is told nothing"),
            }
        }
    }
}
