//! How the servers of a pool are reached: what one plan says, and what stands before each server from plan to plan.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use policy::primary::PrimaryRule;
use rustls::ClientConfig;
use tokio::sync::{Notify, Semaphore};

use super::{ClusterError, opening};
use crate::connect::Security;
use crate::plan::{PoolPlan, ServerPlan};

/// Nothing is decided on a shorter silence of the primary.
const SUSPECT_AFTER_MIN: Duration = Duration::from_millis(250);
/// A silent primary is given up after this, where there is somebody else who may be promoted.
const GIVE_UP_AFTER: Duration = Duration::from_secs(1);
/// And after this where there is nobody else: closing its connections would help nobody.
const GIVE_UP_ALONE_AFTER: Duration = Duration::from_secs(10);
/// After a start, servers that do not answer are waited for so long.
const SETTLE: Duration = Duration::from_secs(1);

/// How servers are reached: changes as a whole, with a reload.
pub(super) struct Reach {
    pub(super) plan: Arc<PoolPlan>,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) doors: Vec<Arc<Door>>,
}

/// What stands before one server.
pub(super) struct Door {
    pub(super) server: ServerPlan,
    /// Logins at once.
    pub(super) logins: Semaphore,
    /// Wakes its probe.
    pub(super) wake: Notify,
    /// When an attempt last failed, as [`Moment::as_nanos`]; 0: never.
    pub(super) failed: AtomicU64,
}

impl Reach {
    pub(super) fn new(plan: Arc<PoolPlan>, before: Option<&Reach>) -> Result<Reach, ClusterError> {
        let tls = crate::tls::connect_config(&plan.server_tls)
            .map_err(|error| ClusterError::Tls { pool: plan.name.clone(), error: error.to_string() })?;
        let known = |server: &ServerPlan| before?.doors.iter().find(|door| door.server == *server).cloned();
        let doors = plan.servers.iter().map(|server| known(server).unwrap_or_else(|| Arc::new(Door::new(server))));
        Ok(Reach { doors: doors.collect(), tls, plan })
    }

    pub(super) fn security(&self) -> Security<'_> {
        Security { plan: &self.plan.server_tls, config: &self.tls }
    }

    pub(super) fn rule(&self) -> PrimaryRule {
        let suspect_after = self.plan.probe_interval.max(SUSPECT_AFTER_MIN);
        let give_up_after = if self.doors.len() > 1 { GIVE_UP_AFTER } else { GIVE_UP_ALONE_AFTER };
        PrimaryRule { suspect_after, give_up_after: give_up_after.max(suspect_after * 2), settle: SETTLE }
    }

    /// For each server, where it stood before.
    pub(super) fn places_in(&self, before: &Reach) -> Vec<Option<usize>> {
        let place = |door: &Arc<Door>| before.doors.iter().position(|old| old.server == door.server);
        self.doors.iter().map(place).collect()
    }
}

impl Door {
    pub(super) fn new(server: &ServerPlan) -> Door {
        Door {
            server: server.clone(),
            logins: Semaphore::new(opening::AT_ONCE),
            wake: Notify::new(),
            failed: AtomicU64::new(0),
        }
    }
}
