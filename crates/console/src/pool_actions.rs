//! What operators do to pools over HTTP: `POST /v1/pools/{pool}/{action}`, read strictly and handed to the node. That the
//! caller may and meant it was decided before (`guard`).
//!
//! | action | body, beside `reason` |
//! | --- | --- |
//! | `pause`, `resume`, `reconnect` | |
//! | `failover` | `to`: the server; without it, any but the present one |
//! | `drain`, `undrain` | `server` |
//! | `kill` | one of `statement` (a fingerprint), `user`, `client` (a number) |
//!
//! Bodies are JSON objects, or forms as the page sends them. A field that is not known, or does not belong to the action, is
//! refused: it would be a wish that nobody hears.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Form, FromRequest as _, Path, Request, State};
use axum::response::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde_json::Value;

use crate::accept::{Shape, shape};
use crate::actions::{answer, run};
use crate::admin::{Caller, Shared};
use crate::guard::CSRF_FIELD;
use crate::problem::{Problem, ProblemCode};
use crate::view::{Order, PoolAction};
use crate::words;

/// `POST /v1/pools/{pool}/{action}`.
pub(crate) async fn pool(
    State(shared): State<Shared>,
    caller: axum::Extension<Caller>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let Ok(Path((pool, word))) = path else { return Err(no_such_action()) };
    let wanted = shape(request.headers(), Shape::Json);
    let mut fields = Fields::read(request).await?;
    let reason = fields.take("reason").unwrap_or_default().trim().to_owned();
    let action = action(&word, &mut fields)?;
    fields.finish(&word)?;
    let order = Order { actor: caller.0.0, reason, force: false };
    let page = page_of_pool(&pool);
    let acted = run(&shared, move |node| node.pool_action(&pool, &action, &order)).await?;
    Ok(answer(&acted, wanted, &page))
}

/// Where a pool has its page.
pub(crate) fn page_of_pool(pool: &str) -> String {
    format!("/pools/{}", words::path_segment(pool))
}

/// The path of an action on a pool.
pub fn pool_path(pool: &str, action: &str) -> String {
    format!("/v1/pools/{}/{action}", words::path_segment(pool))
}

fn action(word: &str, fields: &mut Fields) -> Result<PoolAction, Problem> {
    Ok(match word {
        "pause" => PoolAction::Pause,
        "resume" => PoolAction::Resume,
        "reconnect" => PoolAction::Reconnect,
        "failover" => PoolAction::Failover { to: fields.take("to") },
        "drain" => PoolAction::Drain { server: fields.need("server")? },
        "undrain" => PoolAction::Undrain { server: fields.need("server")? },
        "kill" => match (fields.take("statement"), fields.take("user"), fields.take("client")) {
            (Some(statement), None, None) => PoolAction::KillStatement(statement),
            (None, Some(user), None) => PoolAction::KillUser(user),
            (None, None, Some(client)) => {
                let number = client
                    .parse()
                    .map_err(|_| malformed("`client` is a number, as GET /v1/pools/…/clients shows it"))?;
                PoolAction::KillClient(number)
            }
            _ => return Err(malformed("say what to kill: one of `statement`, `user` and `client`")),
        },
        _ => return Err(no_such_action()),
    })
}

fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemCode::MalformedCall, detail)
}

fn no_such_action() -> Problem {
    let detail = "pools can be told to pause, resume, failover, drain, undrain, kill and reconnect";
    Problem::new(ProblemCode::NotFound, detail)
}

/// The fields of a body; an empty one counts as left out.
struct Fields(BTreeMap<String, String>);

impl Fields {
    /// The body, whose form its `Content-Type` names; without one it must be empty.
    async fn read(request: Request) -> Result<Fields, Problem> {
        let kind = request.headers().get(CONTENT_TYPE).map(HeaderValue::to_str).transpose();
        let kind = kind.map_err(|_| malformed("Content-Type is no text"))?.unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let pairs: Vec<(String, String)> = if kind == "application/x-www-form-urlencoded" {
            let form = Form::<Vec<(String, String)>>::from_request(request, &()).await;
            let Form(form) =
                form.map_err(|error| malformed(format!("the form cannot be read: {}", error.body_text())))?;
            form.into_iter().filter(|(name, _)| name != CSRF_FIELD).collect()
        } else {
            let body = Bytes::from_request(request, &()).await.map_err(|_| malformed("the body cannot be read"))?;
            match kind.as_str() {
                "" if body.is_empty() => Vec::new(),
                "application/json" => json_pairs(&body)?,
                _ => return Err(malformed("send the body as application/json, or as a form")),
            }
        };
        let mut fields = BTreeMap::new();
        for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
            if fields.insert(name.clone(), value).is_some() {
                return Err(malformed(format!("the field {:?} is there twice; send it once", words::tame(&name))));
            }
        }
        Ok(Fields(fields))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    fn need(&mut self, name: &str) -> Result<String, Problem> {
        self.take(name).ok_or_else(|| malformed(format!("`{name}` is missing; GET /v1/pools shows what there is")))
    }

    /// Refuses what is left.
    fn finish(self, word: &str) -> Result<(), Problem> {
        match self.0.into_keys().next() {
            Some(name) => Err(malformed(format!("{word} has no field {:?}; leave it out", words::tame(&name)))),
            None => Ok(()),
        }
    }
}

fn json_pairs(body: &[u8]) -> Result<Vec<(String, String)>, Problem> {
    let expected = "send an object such as {\"reason\": \"…\"}";
    let read: Result<serde_json::Map<String, Value>, _> = serde_json::from_slice(body);
    let object = read.map_err(|error| malformed(format!("the body is not what is expected: {error}; {expected}")))?;
    let pair = |(name, value): (String, Value)| match value {
        Value::String(text) => Ok((name, text)),
        Value::Number(number) => Ok((name, number.to_string())),
        Value::Null => Ok((name, String::new())),
        _ => Err(malformed(format!("the field {:?} is a text; {expected}", words::tame(&name)))),
    };
    object.into_iter().map(pair).collect()
}
