//! Verifiers of users: from the plan's file, else asked of Postgres (`auth.query`) and remembered.
//!
//! | what was found | is remembered for |
//! | --- | --- |
//! | a verifier | [`KNOWN_FOR`]; longer while no server answers |
//! | nobody of this name | [`UNKNOWN_FOR`] |
//!
//! A login that fails against a remembered verifier may fail because the password was changed a moment ago:
//! [`Verifiers::doubt`] makes the next login ask again, if what is remembered is older than [`DOUBT_AFTER`] (so that wrong
//! passwords do not turn into questions). At most [`REMEMBERED_MAX`] users are remembered; the oldest are forgotten.
//!
//! One session asks one question at a time; whoever waits looks first whether the one before was for the same user. Names
//! travel as parameters.
//!
//! **What Postgres needs.** Verifiers stand in `pg_authid`, which only superusers read. [`CREATE_FUNCTION`] makes a function
//! that gives the pooler's user this one column and no more: it runs with its owner's rights on a fixed `search_path`, is
//! nobody's else to call, and gives nothing for superusers and for roles that may bypass row security or replicate, so that
//! a stolen password of the pooler's is no way to become one of them; nothing for roles that cannot log in or whose
//! password has expired. Whoever had made a schema or function of this name before owns them no longer.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kernel::{Clock, Moment};

use crate::aside::{Aside, AsideError};
use crate::auth::Verifier;
use crate::cluster::Cluster;
use crate::connect::OpenError;

/// What is asked unless the configuration says otherwise.
pub const DEFAULT_QUERY: &str = "SELECT usename, passwd FROM evenkeel.user_lookup($1)";

/// What makes [`DEFAULT_QUERY`] work: to be run once, by a superuser, in the database of `auth.database`. `{user}` stands
/// for the pooler's user; see [`create_function`].
pub const CREATE_FUNCTION: &str = r"CREATE SCHEMA IF NOT EXISTS evenkeel;
ALTER SCHEMA evenkeel OWNER TO CURRENT_USER;
REVOKE ALL ON SCHEMA evenkeel FROM PUBLIC;
GRANT USAGE ON SCHEMA evenkeel TO {user};
CREATE OR REPLACE FUNCTION evenkeel.user_lookup(name text, OUT usename text, OUT passwd text)
RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT rolname::text, rolpassword
  FROM pg_catalog.pg_authid
  WHERE rolname::text = $1
    AND rolcanlogin AND NOT rolsuper AND NOT rolreplication AND NOT rolbypassrls
    AND (rolvaliduntil IS NULL OR rolvaliduntil > now())
$$;
ALTER FUNCTION evenkeel.user_lookup(text) OWNER TO CURRENT_USER;
REVOKE ALL ON FUNCTION evenkeel.user_lookup(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION evenkeel.user_lookup(text) TO {user};
";

/// A verifier that was found is good for so long.
pub const KNOWN_FOR: Duration = Duration::from_secs(60);
/// That there is nobody of a name is believed for so long.
pub const UNKNOWN_FOR: Duration = Duration::from_secs(5);
/// A doubt counts if the verifier was asked for so long ago or longer.
pub const DOUBT_AFTER: Duration = Duration::from_secs(1);
/// Users that are remembered at most.
pub const REMEMBERED_MAX: usize = 10_000;
/// A question that takes longer has no answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Postgres knows no longer names: nobody has one, and it need not be asked.
const NAME_MAX: usize = 63;

/// Why a user could not be looked up. Texts are fit to be shown to people.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// No server could be asked.
    #[error("no server can be asked for the user's verifier: {0}")]
    Open(#[from] OpenError),
    /// The function is not there, or not for the pooler's user.
    #[error("the server refuses auth.query: {0}; `evenkeel check` prints what makes it work")]
    Refused(AsideError),
    /// The answer is not what was asked for.
    #[error("auth.query has to give rows of a name and a verifier, and gave {0}")]
    Shape(String),
    /// The question had no answer.
    #[error("auth.query: {0}")]
    Broke(AsideError),
    /// The question took too long.
    #[error("auth.query was not answered within {ANSWER_MAX:?}")]
    Timeout,
}

impl LookupError {
    /// The SQLSTATE that a client is told.
    pub fn sqlstate(&self) -> &str {
        match self {
            LookupError::Open(error) => error.sqlstate(),
            LookupError::Refused(_) | LookupError::Shape(_) => "28000",
            LookupError::Broke(_) | LookupError::Timeout => "08006",
        }
    }

    /// Whether a later attempt may well succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            LookupError::Open(error) => error.is_transient(),
            LookupError::Refused(_) | LookupError::Shape(_) => false,
            LookupError::Broke(_) | LookupError::Timeout => true,
        }
    }
}

/// The verifiers of one pool.
pub struct Verifiers {
    cluster: Arc<Cluster>,
    clock: Clock,
    file: HashMap<String, Arc<Verifier>>,
    remembered: Mutex<HashMap<String, Remembered>>,
    /// With the epoch that it belongs to.
    session: tokio::sync::Mutex<Option<(Aside, u64)>>,
}

#[derive(Clone)]
struct Remembered {
    verifier: Option<Arc<Verifier>>,
    at: Moment,
    is_doubted: bool,
}

/// The text of [`CREATE_FUNCTION`] for a user.
pub fn create_function(user: &str) -> String {
    CREATE_FUNCTION.replace("{user}", &format!("\"{}\"", user.replace('"', "\"\"")))
}

impl Verifiers {
    /// Of the pool whose plan `cluster` has now. A reload makes new ones.
    pub fn new(cluster: Arc<Cluster>, clock: Clock) -> Verifiers {
        let plan = cluster.plan();
        let file = plan.auth.users.iter().map(|(user, text)| (user.clone(), Arc::new(Verifier::parse(text)))).collect();
        Verifiers { cluster, clock, file, remembered: Mutex::default(), session: tokio::sync::Mutex::default() }
    }

    /// The verifier of a user, if it is known without asking.
    pub fn known(&self, user: &str) -> Option<Option<Arc<Verifier>>> {
        if let Some(verifier) = self.file.get(user) {
            return Some(Some(Arc::clone(verifier)));
        }
        if user.is_empty() || user.len() > NAME_MAX || user.contains('\0') {
            return Some(None);
        }
        let now = self.clock.now();
        self.lock().get(user).filter(|entry| entry.is_good(now)).map(|entry| entry.verifier.clone())
    }

    /// The verifier of a user; `None`: there is nobody of this name, or nobody who may log in here.
    ///
    /// # Errors
    /// [`LookupError`], when it is not known and cannot be asked for. While no server answers, what was known is good
    /// enough.
    pub async fn lookup(&self, user: &str) -> Result<Option<Arc<Verifier>>, LookupError> {
        if let Some(known) = self.known(user) {
            return Ok(known);
        }
        let mut session = self.session.lock().await;
        if let Some(known) = self.known(user) {
            return Ok(known);
        }
        match Box::pin(self.ask(&mut session, user)).await {
            Ok(verifier) => {
                self.remember(user, verifier.clone());
                Ok(verifier)
            }
            Err(error) => {
                let stale = self.lock().get(user).cloned().and_then(|entry| entry.verifier);
                match stale.filter(|_| error.is_transient()) {
                    Some(verifier) => Ok(Some(verifier)),
                    None => Err(error),
                }
            }
        }
    }

    /// A login failed against what is remembered: the next one asks again.
    pub fn doubt(&self, user: &str) {
        let now = self.clock.now();
        if let Some(entry) = self.lock().get_mut(user) {
            entry.is_doubted |= now.since(entry.at) >= DOUBT_AFTER;
        }
    }

    /// Asks, at a session that is kept; a session that has ended meanwhile is replaced once.
    async fn ask(&self, session: &mut Option<(Aside, u64)>, user: &str) -> Result<Option<Arc<Verifier>>, LookupError> {
        let query = &self.cluster.plan().auth.query;
        for is_last in [false, true] {
            // Taken out: a future that is dropped here leaves none behind that is in the middle of an answer.
            let epoch = self.cluster.primary().epoch;
            let kept = session.take().filter(|(aside, of)| aside.is_usable() && *of == epoch);
            let is_new = kept.is_none();
            let mut aside = match kept {
                Some((aside, _)) => aside,
                None => self.cluster.aside(&SETTINGS).await?,
            };
            match tokio::time::timeout(ANSWER_MAX, aside.ask(query, &[user])).await {
                Ok(Ok(rows)) => {
                    *session = Some((aside, epoch));
                    return read(&rows);
                }
                Ok(Err(error @ AsideError::Refused { .. })) => return Err(LookupError::Refused(error)),
                Ok(Err(error)) if is_new || is_last => return Err(LookupError::Broke(error)),
                Ok(Err(_ended_meanwhile)) => {}
                Err(_late) => return Err(LookupError::Timeout),
            }
        }
        Err(LookupError::Timeout)
    }

    fn remember(&self, user: &str, verifier: Option<Arc<Verifier>>) {
        let now = self.clock.now();
        let mut remembered = self.lock();
        if remembered.len() >= REMEMBERED_MAX && !remembered.contains_key(user) {
            make_room(&mut remembered, now);
        }
        remembered.insert(user.to_owned(), Remembered { verifier, at: now, is_doubted: false });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names are sent as UTF-8, whatever the database's encoding.
const SETTINGS: [(&str, &str); 3] =
    [("application_name", crate::cluster::APPLICATION), ("client_encoding", "UTF8"), ("statement_timeout", "5000")];

impl Remembered {
    fn is_good(&self, now: Moment) -> bool {
        let good_for = if self.verifier.is_some() { KNOWN_FOR } else { UNKNOWN_FOR };
        !self.is_doubted && now.since(self.at) < good_for
    }
}

/// Forgets what is no longer good; if that is nothing, the oldest half.
fn make_room(remembered: &mut HashMap<String, Remembered>, now: Moment) {
    remembered.retain(|_, entry| entry.is_good(now));
    if remembered.len() >= REMEMBERED_MAX {
        let mut ages: Vec<Moment> = remembered.values().map(|entry| entry.at).collect();
        let (_, middle, _) = ages.select_nth_unstable(REMEMBERED_MAX / 2);
        let middle = *middle;
        remembered.retain(|_, entry| entry.at > middle);
    }
}

/// The verifier in an answer: the second column of its one row. A row without a verifier is a user whom no password fits.
fn read(rows: &[Vec<Option<String>>]) -> Result<Option<Arc<Verifier>>, LookupError> {
    match rows {
        [] => Ok(None),
        [row] if row.len() >= 2 => Ok(Some(Arc::new(row[1].as_deref().map_or(Verifier::None, Verifier::parse)))),
        [row] => Err(LookupError::Shape(format!("{} columns", row.len()))),
        rows => Err(LookupError::Shape(format!("{} rows", rows.len()))),
    }
}

impl fmt::Debug for Verifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remembered = self.lock().len();
        f.debug_struct("Verifiers")
            .field("file", &self.file.len())
            .field("remembered", &remembered)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    #[test]
    fn the_benchmark_and_the_tests_against_drivers_use_the_same_function() {
        let theirs = include_str!("../../../tools/bench/peers/pool-auth.sql");
        assert_eq!(theirs.split_once('\n').unwrap().1, create_function("evenkeel"));
    }

    #[test]
    fn an_answer_is_a_row_of_name_and_verifier_or_none() {
        let row = |values: &[Option<&str>]| values.iter().map(|v| v.map(str::to_owned)).collect::<Vec<_>>();
        assert!(read(&[]).unwrap().is_none());
        assert!(matches!(*read(&[row(&[Some("a"), Some("x")])]).unwrap().unwrap(), Verifier::Plain(_)));
        assert!(matches!(*read(&[row(&[Some("a"), None])]).unwrap().unwrap(), Verifier::None));
        assert!(read(&[row(&[Some("a")])]).is_err());
        assert!(read(&[row(&[None, None]), row(&[None, None])]).is_err());
    }

    #[test]
    fn what_is_remembered_has_its_time() {
        let known = Remembered { verifier: Some(Arc::new(Verifier::None)), at: at(0), is_doubted: false };
        let unknown = Remembered { verifier: None, ..known.clone() };
        assert!(known.is_good(at(59_999)) && !known.is_good(at(60_000)));
        assert!(unknown.is_good(at(4_999)) && !unknown.is_good(at(5_000)));
        assert!(!Remembered { is_doubted: true, ..known }.is_good(at(1)));
    }

    #[test]
    fn the_memory_is_bounded_and_forgets_the_oldest() {
        let verifier = Some(Arc::new(Verifier::None));
        let entry = |i: usize| Remembered { verifier: verifier.clone(), at: at(i as u64), is_doubted: false };
        let mut remembered: HashMap<_, _> = (0..REMEMBERED_MAX).map(|i| (format!("u{i}"), entry(i))).collect();
        make_room(&mut remembered, at(20_000));
        assert_eq!(remembered.len(), REMEMBERED_MAX / 2 - 1);
        assert!(remembered.contains_key("u9999") && !remembered.contains_key("u0"));
    }

    #[test]
    fn the_user_is_quoted() {
        assert!(create_function("a\"b").contains("TO \"a\"\"b\";"));
    }
}
