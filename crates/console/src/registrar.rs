//! Endpoints that register themselves: what the API takes from them, and the seam to whoever keeps the register.
//!
//! | call | what |
//! | --- | --- |
//! | `PUT /v1/services/{service}/endpoints/{ip:port}` | registers, or renews; 201 if the endpoint is new, else 200 |
//! | `DELETE` of the same | leaves now; 204, or 404 if it was not there |
//!
//! The body of a PUT is JSON with any of `lease` (a duration such as `"10s"`), `weight` and `tier`, or nothing. Either call
//! may be repeated: a PUT is a heartbeat. Limits: a body of 16 KiB; weights from 1 to [`MAX_WEIGHT`], tiers to [`MAX_TIER`].

use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use kernel::Span;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::problem::{Problem, ProblemCode};
use crate::words;

/// The largest weight, as in the configuration: finer shares than a hundredth show in no traffic.
pub const MAX_WEIGHT: u32 = 100;
/// The highest tier.
pub const MAX_TIER: u8 = 9;

/// Keeps the register. Methods are called on the control plane, several at a time, and take no longer than a few
/// milliseconds.
pub trait Registrar: Debug + Send + Sync + 'static {
    /// An endpoint of `service` says that it is there.
    ///
    /// # Errors
    /// Why it is not taken.
    fn register(&self, service: &str, address: SocketAddr, wish: Wish) -> Result<Registered, RegisterError>;

    /// An endpoint of `service` leaves. False if it was not there.
    ///
    /// # Errors
    /// If there is no such service that endpoints register with.
    fn withdraw(&self, service: &str, address: SocketAddr) -> Result<bool, RegisterError>;
}

/// What an endpoint asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// How long it is to count as there without another call; `None`: what the register gives by itself.
    pub lease: Option<Duration>,
    /// Its share of the requests; at least 1.
    pub weight: u32,
    /// 0 is used first.
    pub tier: u8,
}

/// What an endpoint got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Whether it was not there before.
    pub is_new: bool,
    /// How long it counts as there from now on.
    pub lease: Duration,
    /// When it should call again.
    pub renew_in: Duration,
}

/// Why an endpoint is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// No service of this name that takes any.
    #[error("there is no service {0:?} with which endpoints register; it needs `register` in the configuration")]
    NotTaken(String),
    /// The wish cannot be granted, for this reason.
    #[error("{0}")]
    Refused(String),
    /// As many are registered as there can be.
    #[error("{0}")]
    Full(String),
}

/// The body of a PUT.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    lease: Option<Span>,
    #[serde(default = "one")]
    weight: u32,
    #[serde(default)]
    tier: u8,
}

const fn one() -> u32 {
    1
}

/// The address in the path.
pub(crate) fn address(text: &str) -> Result<SocketAddr, Problem> {
    let refused = |why: &str| {
        let detail =
            format!("{:?} {why}; write the IP address and port at which you serve: 10.0.0.7:8080", words::tame(text));
        Err(Problem::new(ProblemCode::RegistrationRefused, detail))
    };
    match text.parse::<SocketAddr>() {
        Err(_) => refused("is not an address"),
        Ok(address) if address.port() == 0 => refused("has no port"),
        Ok(address) if address.ip().is_unspecified() || address.ip().is_multicast() => {
            refused("is no address that anybody could connect to")
        }
        Ok(address) => Ok(address),
    }
}

/// What a body asks for.
pub(crate) fn wish(body: &[u8]) -> Result<Wish, Problem> {
    let body = if body.is_empty() { b"{}" } else { body };
    let body: Body = serde_json::from_slice(body).map_err(|error| {
        let detail = format!(
            "the body is not {{\"lease\": \"10s\", \"weight\": 1, \"tier\": 0}} or a part of it: {}",
            words::tame(&error.to_string())
        );
        Problem::new(ProblemCode::MalformedCall, detail)
    })?;
    if !(1..=MAX_WEIGHT).contains(&body.weight) || body.tier > MAX_TIER {
        let detail = format!(
            "a weight of {} and a tier of {}: weights are from 1 to {MAX_WEIGHT}, tiers from 0 to {MAX_TIER}",
            body.weight, body.tier
        );
        return Err(Problem::new(ProblemCode::RegistrationRefused, detail));
    }
    Ok(Wish { lease: body.lease.map(Duration::from), weight: body.weight, tier: body.tier })
}

/// Status and document of a registration.
pub(crate) fn granted(service: &str, address: SocketAddr, registered: Registered) -> (StatusCode, Value) {
    let status = if registered.is_new { StatusCode::CREATED } else { StatusCode::OK };
    let span = |time: Duration| Span::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let seconds = |time: Duration| span(time).as_millis() as f64 / 1000.0;
    let document = json!({
        "service": service,
        "endpoint": address.to_string(),
        "lease": span(registered.lease).to_string(),
        "expires_in_seconds": seconds(registered.lease),
        "renew_in_seconds": seconds(registered.renew_in),
    });
    (status, document)
}

impl From<RegisterError> for Problem {
    fn from(error: RegisterError) -> Problem {
        let code = match error {
            RegisterError::NotTaken(_) => ProblemCode::NotFound,
            RegisterError::Refused(_) => ProblemCode::RegistrationRefused,
            RegisterError::Full(_) => ProblemCode::RegistrationsFull,
        };
        Problem::new(code, error.to_string())
    }
}
