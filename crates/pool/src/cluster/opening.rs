//! Connections to the primary. At most [`AT_ONCE`] logins go on at a server at once, and after a failed attempt the next
//! ones are spread over [`SPREAD`], so that a server that has just come back is not met by all who waited. An attempt ends
//! as soon as the epoch changes: what it leads to is not the primary any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kernel::Moment;

use super::reach::{Door, Reach};
use super::{APPLICATION, Shared};
use crate::aside::Aside;
use crate::auth::Secret;
use crate::connect::{self, Account, Live, OpenError, Opened};
use crate::plan::ServerPlan;

/// Logins at once at one server: forks of a server process are costly, and logins compete with those who work.
pub(super) const AT_ONCE: usize = 8;
/// After a failed attempt, the next ones begin within so long, at random.
const SPREAD: Duration = Duration::from_millis(60);
/// An attempt that failed so long ago is no reason to wait.
const FAILED_LATELY: Duration = Duration::from_millis(500);

impl Shared {
    pub(super) async fn open_at_primary(
        &self,
        database: &str,
        user: &str,
        secret: Secret,
    ) -> Result<(Opened, usize, u64), OpenError> {
        let reach = self.reach.load_full();
        let standing = self.standing.load_full();
        let Some((place, door)) =
            standing.server.filter(|_| !standing.is_suspect).and_then(|s| Some((s, reach.doors.get(s)?)))
        else {
            let unknown = || Arc::from("no server is primary");
            return Err(OpenError::NoPrimary(standing.trouble.clone().unwrap_or_else(unknown)));
        };
        let mut epoch = self.epoch.subscribe();
        let settings = [("application_name", APPLICATION)];
        let account = Account { database, user, secret, settings: &settings };
        let attempt = Box::pin(self.attempt(&reach, door, account));
        let opened = tokio::select! {
            opened = attempt => opened,
            _ = epoch.wait_for(|now| *now != standing.epoch) => Err(not_primary(&door.server)),
        };
        match opened {
            Ok(_) if self.standing.load().epoch != standing.epoch => Err(not_primary(&door.server)),
            Ok(opened) => Ok((opened, place, standing.epoch)),
            Err(error) => {
                if error.is_transient() {
                    door.failed.store(self.clock.now().as_nanos(), Ordering::Relaxed);
                    self.wake_probes();
                }
                Err(error)
            }
        }
    }

    async fn attempt(&self, reach: &Reach, door: &Door, account: Account<'_>) -> Result<Opened, OpenError> {
        let timeout = reach.plan.connect_timeout;
        let failed = door.failed.load(Ordering::Relaxed);
        if failed != 0 && self.clock.now().since(Moment::from_nanos(failed)) < FAILED_LATELY {
            let part = self.lock().entropy.unit();
            tokio::time::sleep(SPREAD.mul_f64(part)).await;
        }
        let late = |_| OpenError::Timeout { server: door.server.name.clone(), after: timeout };
        let permit = tokio::time::timeout(timeout, door.logins.acquire()).await.map_err(late)?;
        let live = connect::session(&door.server, reach.security(), account, timeout).await?;
        drop(permit);
        let live = at_primary(&door.server, live).await?;
        Opened::from_live(&door.server, live)
    }

    /// A session for the pooler's own questions: at the primary, else at any that answers.
    pub(super) async fn aside(&self, settings: &[(&str, &str)]) -> Result<Aside, OpenError> {
        let reach = self.reach.load_full();
        let standing = self.standing.load_full();
        let auth = &reach.plan.auth;
        let (mut order, current): (Vec<usize>, _) = ((0..reach.doors.len()).collect(), standing.server);
        order.sort_by_key(|server| (Some(*server) != current || standing.is_suspect, *server));
        let timeout = reach.plan.connect_timeout / u32::try_from(order.len()).unwrap_or(u32::MAX).max(1);
        let mut last = None;
        for server in order {
            let secret = Secret::Password(auth.password.clone());
            let account = Account { database: &auth.database, user: &auth.user, secret, settings };
            match Aside::open(&reach.doors[server].server, reach.security(), account, timeout).await {
                Ok(aside) => return Ok(aside),
                Err(error) => last = Some(last.filter(|_| Some(server) != current).unwrap_or(error)),
            }
        }
        Err(last.unwrap_or_else(|| OpenError::NoPrimary(Arc::from("no servers are known"))))
    }
}

/// Makes sure that a session is at a primary: by what the server reports (PostgreSQL 14 and later), or by asking.
async fn at_primary(server: &ServerPlan, live: Live) -> Result<Live, OpenError> {
    let reported = live.session.parameters.iter().find(|(name, _)| name == "in_hot_standby");
    let is_primary = match reported {
        Some((_, value)) => return if value == "off" { Ok(live) } else { Err(not_primary(server)) },
        None => {
            let session = live.session.clone();
            let address = live.address.clone();
            let mut aside = Aside::from_live(live);
            let rows = aside.query("SELECT pg_catalog.pg_is_in_recovery()").await;
            let rows = rows.map_err(|error| OpenError::Broke {
                server: server.name.clone(),
                source: std::io::Error::other(error),
            })?;
            let is_primary = rows.first().and_then(|row| row.first()).is_some_and(|v| v.as_deref() == Some("f"));
            is_primary.then(|| aside.into_live(session, address))
        }
    };
    is_primary.ok_or_else(|| not_primary(server))
}

fn not_primary(server: &ServerPlan) -> OpenError {
    OpenError::NotPrimary { server: server.name.clone() }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener};
    use std::thread::JoinHandle;

    use super::*;
    use crate::plan::{ServerAddress, ServerTlsMode, ServerTlsPlan};
    use crate::wire::backend;

    /// A server before PostgreSQL 14, which does not report `in_hot_standby`; asked, it answers `in_recovery`.
    fn old_server(in_recovery: &'static str) -> (SocketAddr, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut asked = [0; 1024];
            assert!(socket.read(&mut asked).unwrap() > 0);
            let mut out = Vec::new();
            backend::put_authentication_ok(&mut out);
            backend::put_parameter_status(&mut out, "server_version", "13.0");
            backend::put_ready(&mut out, b'I');
            socket.write_all(&out).unwrap();
            let count = socket.read(&mut asked).unwrap();
            out.clear();
            backend::put_row_description(&mut out, &[("pg_is_in_recovery", 16)]);
            backend::put_data_row(&mut out, &[Some(in_recovery)]);
            backend::put_command_complete(&mut out, "SELECT 1");
            backend::put_ready(&mut out, b'I');
            socket.write_all(&out).unwrap();
            String::from_utf8_lossy(&asked[..count]).into_owned()
        });
        (address, peer)
    }

    #[test]
    fn a_server_that_does_not_report_its_role_is_asked() {
        let tls = ServerTlsPlan { mode: ServerTlsMode::Disable, direct: false, ca: Vec::new() };
        let config = crate::tls::connect_config(&tls).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for (in_recovery, is_primary) in [("f", true), ("t", false)] {
            let (address, peer) = old_server(in_recovery);
            let host = ServerAddress::Tcp { host: address.ip().to_string(), port: address.port() };
            let server = ServerPlan { name: "old".into(), address: host };
            let checked = runtime.block_on(async {
                let security = connect::Security { plan: &tls, config: &config };
                let account = Account { database: "d", user: "u", secret: Secret::None, settings: &[] };
                let live = connect::session(&server, security, account, Duration::from_secs(20)).await.unwrap();
                at_primary(&server, live).await
            });
            assert!(peer.join().unwrap().contains("pg_is_in_recovery()"));
            match checked {
                Ok(live) => assert!(is_primary && live.rest.is_empty() && !live.session.parameters.is_empty()),
                Err(error) => assert!(!is_primary && matches!(error, OpenError::NotPrimary { .. }), "{error}"),
            }
        }
    }
}
