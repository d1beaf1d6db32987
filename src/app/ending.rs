//! The end of a node: in order, because it was told to stop; or seen off, because the next process serves in its place.

use std::sync::PoisonError;
use std::time::Duration;

use kernel::{DrainPhase, Event};

use super::App;

/// What a connection to the console may take to end after the drain.
const CONSOLE_GRACE: Duration = Duration::from_millis(500);

/// How often it is looked whether the pools' clients have left.
const CLIENTS_EVERY: Duration = Duration::from_millis(10);

fn pid() -> u64 {
    u64::from(std::process::id())
}

impl App {
    /// Ends in order, because of `why`: announces it, keeps serving for `delay`, or until somebody takes over, then drains
    /// for at most the configured time. True if nothing had to be cut.
    pub async fn stop(&self, delay: Duration, why: &str) -> bool {
        let mut drain = self.trigger.subscribe();
        self.inner.journal.tell(Event::NodeStopping { pid: pid(), reason: why.to_owned() });
        if drain.is_handed_over() {
            self.trigger.hurry();
            return self.finish().await;
        }
        self.inner.manager.stopping("Stopping: requests in flight are finished.");
        self.trigger.advance(DrainPhase::Announced);
        tracing::info!(?delay, "stopping: readiness fails, everything is still served");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = drain.handed_over() => {}
        }
        self.giving.close();
        self.trigger.advance(DrainPhase::Draining);
        let timeout = self.inner.stopping().timeout;
        tracing::info!(?timeout, "draining: listeners are closed, requests are finished");
        self.end(tokio::time::sleep(timeout), "drain_timeout").await
    }

    /// Waits until the next process serves in the place of this one; [`App::finish`] is what comes then. Cancel safe.
    pub async fn handed_over(&self) {
        self.trigger.subscribe().handed_over().await;
    }

    /// Ends after a hand-over: once the last connection from before has ended, or the configured time has passed. True if
    /// nothing had to be cut. [`App::hurry`] makes a usual drain of it.
    pub async fn finish(&self) -> bool {
        let timeout = self.inner.stopping().handover;
        let mut drain = self.trigger.subscribe();
        let hurried = async {
            drain.hurried().await;
            tokio::time::sleep(self.inner.stopping().timeout).await;
        };
        let limit = async {
            tokio::select! {
                () = tokio::time::sleep(timeout) => {}
                () = hurried => {}
            }
        };
        self.end(limit, "the time after a hand-over").await
    }

    /// A stop was asked for after a hand-over: idle connections end now, and the rest has `drain_timeout`.
    pub fn hurry(&self) {
        tracing::info!("told to stop after a hand-over: idle connections are closed, requests are finished");
        self.trigger.hurry();
    }

    /// Tells the journal that the process which was to take over does not. What was said of it already is not said again.
    pub fn hand_over_failed(&self) -> impl Fn(Option<u32>, &str) + Send + use<> {
        let (giving, journal) = (self.giving.clone(), self.inner.journal.clone());
        move |pid, why| {
            let reason = match pid {
                Some(pid) if giving.has_heard_of(pid) => return,
                Some(pid) => format!("process {pid} was to take over: {why}"),
                None => why.to_owned(),
            };
            journal.tell(Event::NodeHandOverFailed { reason });
        }
    }

    /// Puts the store away, as the end does: for whoever does not wait for it.
    pub fn put_away(&self) -> impl Future<Output = ()> + Send + use<> {
        let inner = self.inner.clone();
        async move { inner.close().await }
    }

    /// Waits for what is open, until `limit` is over, and cuts the rest.
    async fn end(&self, limit: impl Future<Output = ()>, what: &str) -> bool {
        let gateway = self.inner.gateway.clone();
        let mut joined = tokio::task::spawn_blocking(move || gateway.join());
        let serving = std::mem::take(&mut *self.inner.serving.lock().unwrap_or_else(PoisonError::into_inner));
        let handed_over = self.trigger.subscribe().is_handed_over();
        let pools = self.inner.pools.clone();
        let all = async {
            let _ended = (&mut joined).await.is_ok();
            while pools.client_count() > 0 {
                tokio::time::sleep(CLIENTS_EVERY).await;
            }
            if handed_over {
                // After a stop they answer to the end of the drain; here they have nobody left to tell.
                for server in serving {
                    let _ended = server.await.is_ok();
                }
            }
        };
        let ended = tokio::select! {
            () = all => true,
            () = limit => false,
        };
        // With nothing open there is nothing to cut, however little time there was.
        let pools = &self.inner.pools;
        let open = if ended { 0 } else { self.inner.gateway.view().connections + pools.client_count() };
        self.trigger.advance(DrainPhase::Closed);
        if open > 0 {
            tracing::warn!(open, "{what} has passed: what is left is cut");
        }
        if !joined.is_finished() {
            let _ended = joined.await.is_ok();
        }
        let pools = self.inner.pools.clone();
        let _ended = tokio::task::spawn_blocking(move || pools.join()).await.is_ok();
        if !handed_over || !ended {
            tokio::time::sleep(CONSOLE_GRACE.min(self.inner.stopping().timeout)).await;
        }
        self.unix.remove();
        self.inner.journal.tell(Event::NodeStopped { pid: pid(), cut: open });
        self.inner.close().await;
        open == 0
    }
}
