//! The probe of one server: a session of the pooler's own that asks it, again and again, what it is.
//!
//! ```text
//! away  => there  a session came about; what does not change in it is asked once
//! there => there  asked each `probe_interval`, or more often while there is no primary; at once when somebody doubts
//! there => away   the session ended, or a question was not answered in time, or was refused: a new one at once
//! ```
//!
//! Between questions it listens, so a server that shuts down is noticed when it says so. A probe reports what it met and
//! decides nothing. At most one session per server; [`PAUSE_MIN`] lies between two questions, whoever asks for haste.
//!
//! The timeline is that of the file that is written (`pg_walfile_name`): unlike the one of the control file it is right
//! from the moment of a promotion.

use std::sync::Arc;
use std::time::Duration;

use kernel::Entropy;
use policy::primary::{Facts, Failure, Role};

use super::reach::{Door, Reach};
use super::{APPLICATION, Shared};
use crate::aside::{Aside, AsideError, Rows};
use crate::auth::Secret;
use crate::connect::{Account, OpenError};

/// A question that takes longer is given up, and the session with it.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// The server gives it up a little earlier, and says so.
const STATEMENT_TIMEOUT_MS: &str = "900";
/// A probe's login may not take longer, whatever others may take.
const LOGIN_MAX: Duration = Duration::from_secs(2);
/// Least time between two questions.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// While there is no primary, the pause is between half of this and all of it.
const PAUSE_URGENT: Duration = Duration::from_millis(100);
/// A server that does not answer, while another is primary, is asked ever less, up to this: each attempt may be a line in
/// its log.
const PAUSE_AWAY: Duration = Duration::from_secs(1);
/// So often in a row the pause is that short: about 10 s. A server that recovers for longer is asked in peace.
const URGENT_MAX: u32 = 130;
/// A server that does not let the pooler in is asked so often: each attempt is a line in its log.
const PAUSE_DENIED: Duration = Duration::from_secs(2);

/// What does not change during a session. Without the identity, where that must not be read.
const IDENTITY: [&str; 2] = [
    "SELECT pg_catalog.current_setting('max_connections'), \
     pg_catalog.current_setting('superuser_reserved_connections'), \
     pg_catalog.current_setting('reserved_connections', true), \
     pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()) * 1000000, \
     (SELECT system_identifier FROM pg_catalog.pg_control_system())",
    "SELECT pg_catalog.current_setting('max_connections'), \
     pg_catalog.current_setting('superuser_reserved_connections'), \
     pg_catalog.current_setting('reserved_connections', true), \
     pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()) * 1000000, NULL",
];

/// What does: whether it is in recovery, the file that it writes, and how far it has come.
const PULSE: &str = "SELECT pg_catalog.pg_is_in_recovery(), \
    CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL \
    ELSE pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()) END, \
    CASE WHEN pg_catalog.pg_is_in_recovery() \
    THEN COALESCE(pg_catalog.pg_last_wal_replay_lsn(), pg_catalog.pg_last_wal_receive_lsn()) \
    ELSE pg_catalog.pg_current_wal_lsn() END OPERATOR(pg_catalog.-) '0/0'::pg_catalog.pg_lsn";

/// Settings of a session that belong to its user, not to the server.
const PERSONAL: [&str; 3] = ["application_name", "is_superuser", "session_authorization"];

/// What a server said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) facts: Facts,
    pub(super) version: Option<String>,
    pub(super) max_connections: Option<u32>,
    pub(super) parameters: Arc<Vec<(String, String)>>,
}

/// What does not change during a session.
#[derive(Debug, Clone)]
struct Identity {
    max_connections: Option<u32>,
    started: Option<u64>,
    system: Option<u64>,
}

pub(super) struct Probe {
    shared: Arc<Shared>,
    reach: Arc<Reach>,
    server: usize,
    generation: u64,
    entropy: Entropy,
    /// Pauses in a row that were short.
    hurried: u32,
    /// Attempts in a row that led to no answer.
    missed: u32,
    /// Of the session that is open.
    identity: Option<Identity>,
    /// Whether the system's identity must not be read here.
    is_modest: bool,
}

/// How a session ended.
struct End {
    failure: Failure,
    error: String,
    /// How often it had answered.
    answers: u32,
    is_final: bool,
}

impl Probe {
    pub(super) fn new(
        shared: Arc<Shared>,
        reach: Arc<Reach>,
        server: usize,
        generation: u64,
        entropy: Entropy,
    ) -> Probe {
        Probe { shared, reach, server, generation, entropy, hurried: 0, missed: 0, identity: None, is_modest: false }
    }

    /// Until it is aborted.
    pub(super) async fn run(mut self) {
        loop {
            let end = self.session().await;
            self.missed = if end.answers > 0 { 0 } else { self.missed.saturating_add(1) };
            self.shared.failed(self.generation, self.server, end.failure, end.error);
            if end.answers > 1 {
                // At once: until then the primary is suspect.
            } else if end.answers == 1 {
                tokio::time::sleep(PAUSE_MIN).await;
            } else if end.is_final {
                tokio::time::sleep(PAUSE_DENIED).await;
            } else {
                let pause = self.pause();
                tokio::time::sleep(PAUSE_MIN).await;
                self.woken_within(pause).await;
            }
        }
    }

    /// One session, from its login to its end.
    async fn session(&mut self) -> End {
        self.shared.asked(self.generation, self.server);
        let was_modest = self.is_modest;
        let mut aside = match self.open().await {
            Ok(aside) => aside,
            Err(error) => return End::of_open(&error),
        };
        let mut answers = 0_u32;
        let error = loop {
            match tokio::time::timeout(ANSWER_MAX, self.ask(&mut aside, answers > 0)).await {
                Ok(Ok(answer)) => self.shared.answered(self.generation, self.server, answer),
                Ok(Err(error)) => break Some(error),
                Err(_late) => break None,
            }
            answers = answers.saturating_add(1);
            self.missed = 0;
            let pause = self.pause();
            let listened = tokio::select! {
                error = aside.idle() => Some(error),
                () = async { tokio::time::sleep(PAUSE_MIN).await; self.woken_within(pause).await } => None,
            };
            if let Some(error) = listened {
                break Some(error);
            }
            self.shared.asked(self.generation, self.server);
        };
        match error {
            Some(error @ AsideError::Refused { .. }) => {
                // What must not be read is not asked for again; other refusals stay.
                let end = End::denied(error.to_string(), answers, was_modest == self.is_modest);
                aside.close().await;
                end
            }
            Some(error) => End { failure: Failure::Broken, error: error.to_string(), answers, is_final: false },
            None => End {
                failure: Failure::Unclear,
                error: format!("no answer within {ANSWER_MAX:?}"),
                answers,
                is_final: false,
            },
        }
    }

    async fn open(&self) -> Result<Aside, OpenError> {
        let auth = &self.reach.plan.auth;
        let secret = Secret::Password(auth.password.clone());
        let settings = [("application_name", APPLICATION), ("statement_timeout", STATEMENT_TIMEOUT_MS)];
        let account = Account { database: &auth.database, user: &auth.user, secret, settings: &settings };
        let timeout = self.reach.plan.connect_timeout.min(LOGIN_MAX);
        Aside::open(&self.door().server, self.reach.security(), account, timeout).await
    }

    /// Asks for everything the first time, and then for what changes.
    async fn ask(&mut self, aside: &mut Aside, is_known: bool) -> Result<Answer, AsideError> {
        let rows = aside.query(PULSE).await?;
        let identity = match self.identity.clone().filter(|_| is_known) {
            Some(identity) => identity,
            None => {
                let rows = aside.query(IDENTITY[usize::from(self.is_modest)]).await;
                self.is_modest |= matches!(&rows, Err(error) if error.sqlstate() == Some("42501"));
                self.identity.insert(Identity::read(&rows?)).clone()
            }
        };
        Ok(answer(&rows, &identity, aside))
    }

    fn door(&self) -> &Door {
        &self.reach.doors[self.server]
    }

    /// How long to rest: short while there is no primary.
    fn pause(&mut self) -> Duration {
        let is_urgent = !self.shared.standing.load().is_open();
        self.hurried = if is_urgent { self.hurried.saturating_add(1) } else { 0 };
        let interval = self.reach.plan.probe_interval;
        if is_urgent && self.hurried <= URGENT_MAX {
            return interval.min(PAUSE_URGENT.mul_f64(0.5 + self.entropy.unit() / 2.0));
        }
        let longest = PAUSE_AWAY.max(interval);
        let pause = interval.saturating_mul(1 << self.missed.saturating_sub(1).min(4)).min(longest);
        pause.mul_f64(0.9 + self.entropy.unit() / 5.0)
    }

    async fn woken_within(&self, pause: Duration) {
        // Both ends are the same: it is time to ask.
        let _is_late = tokio::time::timeout(pause, self.door().wake.notified()).await;
    }
}

impl End {
    fn of_open(error: &OpenError) -> End {
        let is_denial = matches!(error, OpenError::Login { .. } | OpenError::NoTls { .. } | OpenError::Wire { .. });
        let failure = match () {
            () if error.is_gone() => Failure::Gone,
            () if is_denial => Failure::Denied,
            () => Failure::Unclear,
        };
        End { failure, error: error.to_string(), answers: 0, is_final: !error.is_transient() }
    }

    fn denied(error: String, answers: u32, is_final: bool) -> End {
        End { failure: Failure::Denied, error, answers, is_final }
    }
}

impl Identity {
    fn read(rows: &Rows) -> Identity {
        let number = |column: usize| value(rows, column).and_then(|text| text.parse::<u32>().ok());
        let reserved = number(1).unwrap_or(0).saturating_add(number(2).unwrap_or(0));
        Identity {
            max_connections: number(0).map(|all| all.saturating_sub(reserved)),
            started: value(rows, 3).and_then(|text| text.parse::<f64>().ok()).map(|us| us as u64),
            // Signed in SQL; only its identity counts.
            system: value(rows, 4).and_then(|text| text.parse::<i64>().ok()).map(i64::cast_unsigned),
        }
    }
}

fn value(rows: &Rows, column: usize) -> Option<&str> {
    rows.first()?.get(column)?.as_deref()
}

fn answer(rows: &Rows, identity: &Identity, aside: &Aside) -> Answer {
    let role = if value(rows, 0) == Some("f") { Role::Primary } else { Role::Standby };
    let timeline = value(rows, 1).and_then(|file| u32::from_str_radix(file.get(..8)?, 16).ok()).unwrap_or(0);
    let lsn = value(rows, 2).and_then(|text| text.parse::<u64>().ok());
    let facts = Facts { role, timeline, lsn, system: identity.system, started: identity.started };
    let shared = aside.parameters().iter().filter(|(name, _)| !PERSONAL.contains(&name.as_str()));
    Answer {
        facts,
        version: aside.parameter("server_version").map(str::to_owned),
        max_connections: identity.max_connections,
        parameters: Arc::new(shared.cloned().collect()),
    }
}
