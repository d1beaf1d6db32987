//! Deployments that the node is told of: `POST /v1/deploys`, on `[admin]` from operators and on `[api]` from whoever has
//! the scope `deploys:write`. What is told is kept in the journal before it is acknowledged, and charts show it.
//!
//! | body | known by | see |
//! | --- | --- | --- |
//! | JSON of our own: `service`, `version`, and if wanted `environment`, `status`, `url`, `actor`, `key` | neither header | [`Body`] |
//! | GitHub `deployment_status`, `deployment`; `ping` is answered | `X-GitHub-Event` | `github` |
//! | GitLab deployment events | `X-Gitlab-Event: Deployment Hook` | `gitlab` |
//!
//! The service is that of `?service=NAME`, else the one in the body, else the one that is called as the repository is.
//! What has a key is told once: keys of the last [`KEYS_MAX`] are remembered, and the journal is looked at for older ones.
//! Events of a webhook that are no change of what runs are answered with 200 and not kept, because senders turn off
//! webhooks that are refused. One mark is taken at a time.
//!
//! Limits: bodies of [`MAX_BODY_BYTES`], names of [`MAX_NAME_BYTES`], addresses of [`MAX_URL_BYTES`].

mod github;
mod gitlab;
mod signature;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use kernel::journal::{JournalQuery, LIMIT_MAX};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::problem::{Problem, ProblemCode};
use crate::query::{Params, wrong};
use crate::view::{DeployMark, Node};
use crate::words::{is_unruly, tame};

pub(crate) use signature::HEADER as SIGNATURE;
pub use signature::WebhookSecret;

/// Where it is.
pub(crate) const PATH: &str = "/v1/deploys";

/// The longest body: those of GitHub have some 30 KiB.
pub(crate) const MAX_BODY_BYTES: usize = 64 * 1024;

/// The longest name, version or key.
const MAX_NAME_BYTES: usize = 200;

/// The longest address.
const MAX_URL_BYTES: usize = 1_000;

/// Keys that are remembered: some days of a busy team.
const KEYS_MAX: usize = 1_024;

/// Where something is deployed to, and how it went, unless somebody says otherwise.
const PRODUCTION: &str = "production";
const SUCCEEDED: &str = "succeeded";

/// Whose turn it is to tell, and what was told. Both servers of a node share one.
#[derive(Debug)]
pub(crate) struct Told {
    turn: Arc<Semaphore>,
    keys: Arc<Mutex<VecDeque<Key>>>,
}

/// Source, and what the source calls it.
type Key = (String, String);

/// What a webhook means.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// A change of what runs. `service` is the name of the repository.
    Mark(DeployMark),
    /// Nothing of the kind, in words.
    Nothing(String),
}

/// The body of our own.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Body {
    service: String,
    version: String,
    environment: String,
    status: String,
    url: String,
    actor: String,
    key: String,
}

/// What came of a mark.
enum Outcome {
    Kept,
    Before,
}

impl Default for Told {
    fn default() -> Told {
        Told { turn: Arc::new(Semaphore::new(1)), keys: Arc::default() }
    }
}

/// Takes one call, of `caller`.
pub(crate) async fn take(
    node: &Arc<dyn Node>,
    told: &Told,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &[u8],
    caller: &str,
) -> Result<Response, Problem> {
    let named = Params::read(query, &["service"])?.text("service")?;
    let heard = hear(headers, body, caller)?;
    let mut mark = match heard {
        Heard::Mark(mark) => mark,
        Heard::Nothing(why) => {
            return Ok(Json(json!({ "message": format!("{why}; nothing was kept"), "kept": false })).into_response());
        }
    };
    if let Some(named) = named {
        mark.service = named;
    }
    check(&mark)?;
    let known = node.view().services.iter().any(|service| service.traffic.name == mark.service);
    let outcome = told.tell(node, mark.clone()).await?;
    let (status, mut message) = match outcome {
        Outcome::Kept => (StatusCode::CREATED, mark.event().sentence()),
        Outcome::Before => (StatusCode::OK, format!("{:?} was told before; it stands in the journal once", mark.key)),
    };
    if !known {
        message.push_str(&format!(". {:?} is no service of this node: it shows in the journal only", mark.service));
    }
    tracing::info!(
        caller,
        service = mark.service,
        version = mark.version,
        status = mark.status,
        "a deployment was told"
    );
    let document = json!({ "message": tame(&message), "kept": true, "deploy": document(&mark) });
    Ok((status, Json(document)).into_response())
}

fn document(mark: &DeployMark) -> Value {
    let DeployMark { service, version, environment, status, actor, url, source, key } = mark;
    json!({
        "service": service, "version": version, "environment": environment, "status": status, "actor": actor,
        "url": url, "source": source, "key": key,
    })
}

/// Who tells it, and what.
fn hear(headers: &HeaderMap, body: &[u8], caller: &str) -> Result<Heard, Problem> {
    let word = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind != "application/json" {
        let detail = "send the body as application/json; a webhook of GitHub has the setting \"Content type\" for it";
        return Err(Problem::new(ProblemCode::MalformedCall, detail));
    }
    match (word("x-github-event"), word("x-gitlab-event")) {
        (Some(event), None) => github::hear(event, body),
        (None, Some(event)) => gitlab::hear(event, body),
        (None, None) => own(body, caller).map(Heard::Mark),
        _ => Err(Problem::new(ProblemCode::MalformedCall, "X-GitHub-Event and X-Gitlab-Event cannot both be right")),
    }
}

fn own(body: &[u8], caller: &str) -> Result<DeployMark, Problem> {
    let body: Body = serde_json::from_slice(body).map_err(|error| {
        let example = "{\"service\": \"shop\", \"version\": \"4.2\"}";
        Problem::new(
            ProblemCode::MalformedCall,
            tame(&format!("the body is not {example} with more, if wanted: {error}")),
        )
    })?;
    let or = |text: String, usual: &str| if text.is_empty() { usual.to_owned() } else { text };
    Ok(DeployMark {
        service: body.service,
        version: body.version,
        environment: or(body.environment, PRODUCTION),
        status: or(body.status, SUCCEEDED),
        actor: or(body.actor, caller),
        url: body.url,
        source: "api".to_owned(),
        key: body.key,
    })
}

/// Refuses what cannot be shown as it is.
fn check(mark: &DeployMark) -> Result<(), Problem> {
    let DeployMark { service, version, environment, status, actor, url, key, source: _ } = mark;
    let fields = [
        ("service", service, MAX_NAME_BYTES),
        ("version", version, MAX_NAME_BYTES),
        ("environment", environment, MAX_NAME_BYTES),
        ("status", status, MAX_NAME_BYTES),
        ("actor", actor, MAX_NAME_BYTES),
        ("url", url, MAX_URL_BYTES),
        ("key", key, MAX_NAME_BYTES),
    ];
    for (name, text, most) in fields {
        if text.len() > most {
            return Err(wrong(name, format!("it has {} bytes, and may have {most}", text.len())));
        }
        if text.chars().any(is_unruly) {
            return Err(wrong(name, "it has a character that controls how text is shown; write one plain line"));
        }
        if text.trim().is_empty() && !matches!(name, "url" | "key") {
            return Err(wrong(
                name,
                "it is missing; say what was deployed: {\"service\": \"shop\", \"version\": \"4.2\"}",
            ));
        }
    }
    // Pages show it as a link.
    if !url.is_empty() && !is_web(url) {
        return Err(wrong("url", "it begins with neither https:// nor http://"));
    }
    Ok(())
}

fn is_web(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

impl Told {
    /// Has the node keep it, unless it was kept before. A caller who leaves does not end it.
    async fn tell(&self, node: &Arc<dyn Node>, mark: DeployMark) -> Result<Outcome, Problem> {
        // The semaphore is never closed.
        let turn = Arc::clone(&self.turn).acquire_owned().await.ok();
        let (node, keys) = (Arc::clone(node), Arc::clone(&self.keys));
        let kept = tokio::task::spawn_blocking(move || {
            let outcome = keep(node.as_ref(), &keys, &mark);
            drop(turn);
            outcome
        });
        kept.await.unwrap_or_else(|error| {
            tracing::error!(%error, "keeping a deployment did not end");
            Err(Problem::new(ProblemCode::CallFailed, "keeping it broke off; the log says where. Tell it again"))
        })
    }
}

fn keep(node: &dyn Node, keys: &Mutex<VecDeque<Key>>, mark: &DeployMark) -> Result<Outcome, Problem> {
    let key = (mark.source.clone(), mark.key.clone());
    let remembered = || keys.lock().unwrap_or_else(PoisonError::into_inner);
    if !mark.key.is_empty() && (remembered().contains(&key) || stands_in_journal(node, &key)) {
        return Ok(Outcome::Before);
    }
    let acted = node.deploy(mark)?;
    if !acted.kept {
        return Err(Problem::new(ProblemCode::NotKept, tame(&format!("{}; tell it again", acted.message))));
    }
    if !mark.key.is_empty() {
        let mut keys = remembered();
        if keys.len() == KEYS_MAX {
            keys.pop_front();
        }
        keys.push_back(key);
    }
    Ok(Outcome::Kept)
}

/// Whether it was told before this process began, or so long ago that it is remembered no more. If that cannot be read,
/// it is told again: twice is better than not at all.
fn stands_in_journal(node: &dyn Node, (source, key): &Key) -> bool {
    let query = JournalQuery { kinds: vec!["deploy.marked".to_owned()], limit: LIMIT_MAX, ..JournalQuery::default() };
    let records = node.journal().read(&query).map(|page| page.records).unwrap_or_default();
    records
        .iter()
        .any(|r| r.data.get("key").is_some_and(|k| k == key) && r.data.get("source").is_some_and(|s| s == source))
}

/// A text of a webhook as it is kept: one line, of bounded length.
fn line(text: &str, most: usize) -> String {
    let text: String = text.chars().map(|c| if is_unruly(c) { ' ' } else { c }).collect();
    text[..text.floor_char_boundary(most)].trim().to_owned()
}

/// What was deployed: the name that people gave it, and the commit.
fn version(reference: &str, sha: &str) -> String {
    let short = &sha[..sha.floor_char_boundary(8)];
    match reference {
        "" => short.to_owned(),
        reference if short.is_empty() || sha.starts_with(reference) || reference.starts_with(sha) => {
            line(reference, 40)
        }
        reference => format!("{} ({short})", line(reference, 100)),
    }
}

/// The first of these that can be a link.
fn link<'a>(candidates: impl IntoIterator<Item = Option<&'a str>>) -> String {
    let good = |url: &&str| is_web(url) && url.len() <= MAX_URL_BYTES && !url.chars().any(is_unruly);
    candidates.into_iter().flatten().find(good).unwrap_or_default().to_owned()
}

/// A webhook whose body is not what its sender documents.
fn not_understood(whose: &str, error: &serde_json::Error) -> Problem {
    Problem::new(ProblemCode::MalformedCall, tame(&format!("the body is not one of {whose}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_what_people_call_it_and_the_commit() {
        let sha = "91b829b3e42ddbb1ce1e213231ae353272c72d81";
        assert_eq!(version("v4.2", sha), "v4.2 (91b829b3)");
        assert_eq!(version(sha, sha), sha);
        assert_eq!(version("91b829b3", sha), "91b829b3");
        assert_eq!((version("", sha), version("main", "")), ("91b829b3".to_owned(), "main".to_owned()));
        assert_eq!(version("é\n", "é"), "é");
    }

    #[test]
    fn only_web_addresses_become_links() {
        assert_eq!(link([None, Some(""), Some("javascript:alert(1)"), Some("https://ci/7")]), "https://ci/7");
        assert_eq!(link([Some("ftp://x"), Some("https://a\nb")]), "");
    }
}
