//! Cross-origin rules: what to add to an answer so that a browser lets a page of another origin read it, and which
//! preflights to answer.
//!
//! - A request without `Origin` is not cross-origin. If the policy names origins, its answer still says `Vary: Origin`,
//!   so that a cache does not hand it to a page of another origin.
//! - A preflight is `OPTIONS` with `Origin` and `Access-Control-Request-Method`. It is granted if the origin, the method
//!   and every header are allowed; methods and headers that are safelisted always are, because browsers do not ask.
//! - Any other request goes to the service whatever its origin: CORS says who may read an answer, it guards no service.
//!   The answer to an origin that is not allowed says only `Vary: Origin`.
//! - Origins are compared byte by byte with their serialised form, `scheme://host` and a port if it is not the usual one.
//! - With credentials nothing may be `*`: the standard gives it no meaning there, so a policy that says so is refused.
//!
//! Source: the Fetch standard (WHATWG), "CORS protocol" and "CORS-preflight fetch". `Access-Control-Allow-Private-Network`
//! is not covered.

use std::time::Duration;

/// A policy as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsConfig {
    /// Origins that may read answers, such as `https://app.example.com`; `*` alone: any.
    pub origins: Vec<String>,
    /// Methods that may be used beyond GET, HEAD and POST; `*`: any.
    pub methods: Vec<String>,
    /// Request headers that may be sent beyond the safelisted; `*`: any but `Authorization`, which has to be named.
    pub headers: Vec<String>,
    /// Headers of the answer that the page may read beyond the safelisted; `*`: any.
    pub expose: Vec<String>,
    /// Whether cookies and other credentials may be sent along.
    pub credentials: bool,
    /// How long a browser may remember the answer to a preflight; `None`: its own default (5 s in the standard).
    pub max_age: Option<Duration>,
}

/// What is wrong with a [`CorsConfig`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CorsError {
    /// No origin is allowed.
    #[error("no origin is allowed; name at least one such as https://app.example.com, or \"*\" for any")]
    NoOrigin,
    /// It is not the serialised form of an origin.
    #[error(
        "{origin:?} is not an origin; write scheme://host or scheme://host:port, lower case, without path, usual port or closing slash"
    )]
    BadOrigin {
        /// What was written.
        origin: String,
    },
    /// `*` stands beside named origins.
    #[error("\"*\" allows every origin, so the others are of no use; name origins or write \"*\" alone")]
    AnyAmongOrigins,
    /// `*` together with credentials.
    #[error("\"*\" in {field} has no effect together with credentials; name what is allowed, or leave credentials off")]
    AnyWithCredentials {
        /// The field that says `*`.
        field: &'static str,
    },
    /// It is no token.
    #[error("{value:?} in {field} is not a name that HTTP allows")]
    BadName {
        /// The field it stands in.
        field: &'static str,
        /// What was written.
        value: String,
    },
    /// Browsers never send it.
    #[error("browsers do not let pages use {value}; remove it from methods")]
    ForbiddenMethod {
        /// The method.
        value: String,
    },
}

/// A policy that is in force. Headers for each outcome are made once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsPolicy {
    config: CorsConfig,
    any_origin: bool,
    /// Headers of a granted preflight, but for the origin's.
    preflight: Headers,
    /// Headers of any other answer, but for the origin's.
    simple: Headers,
}

/// What to do about a request's origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsDecision {
    /// Nothing: the request is not cross-origin, and the answer depends on no origin.
    NotCors,
    /// A preflight that is granted: the gateway answers it with 204 and these headers; the service never sees it.
    Preflight {
        /// Headers of the answer.
        headers: Headers,
    },
    /// A preflight that is not granted: the gateway answers it without any of these headers but `Vary: Origin`.
    Refused,
    /// A request for the service: its answer gets these headers in place of the service's own of these names; `Vary` is
    /// added to what is there.
    Simple {
        /// Headers of the answer.
        headers: Headers,
    },
}

/// Names and values of headers to add.
pub type Headers = Vec<(&'static str, String)>;

/// Methods that need no permission.
const SAFE_METHODS: [&str; 3] = ["GET", "HEAD", "POST"];
/// Headers that need no permission. A browser asks for one of them only if its value is unusual.
const SAFE_HEADERS: [&str; 4] = ["accept", "accept-language", "content-language", "content-type"];
/// Methods that no page can use.
const FORBIDDEN_METHODS: [&str; 3] = ["CONNECT", "TRACE", "TRACK"];

impl CorsPolicy {
    /// The policy that `config` describes.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn new(config: CorsConfig) -> Result<CorsPolicy, Vec<CorsError>> {
        let problems = problems(&config);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut common = Vec::new();
        if config.credentials {
            common.push(("Access-Control-Allow-Credentials", "true".to_owned()));
        }
        let mut preflight = common.clone();
        let mut allow = |name, values: &[String]| {
            if !values.is_empty() {
                preflight.push((name, values.join(", ")));
            }
        };
        allow("Access-Control-Allow-Methods", &config.methods);
        allow("Access-Control-Allow-Headers", &config.headers);
        if let Some(age) = config.max_age {
            preflight.push(("Access-Control-Max-Age", age.as_secs().to_string()));
        }
        let mut simple = common;
        if !config.expose.is_empty() {
            simple.push(("Access-Control-Expose-Headers", config.expose.join(", ")));
        }
        let any_origin = config.origins == ["*"];
        Ok(CorsPolicy { config, any_origin, preflight, simple })
    }

    /// The policy as it was written.
    pub const fn config(&self) -> &CorsConfig {
        &self.config
    }

    /// What to do about a request with this method and these values of `Origin`, `Access-Control-Request-Method` and
    /// `Access-Control-Request-Headers`.
    pub fn decide(
        &self,
        method: &[u8],
        origin: Option<&[u8]>,
        request_method: Option<&[u8]>,
        request_headers: Option<&[u8]>,
    ) -> CorsDecision {
        let allowed = origin.and_then(|o| self.allowed_origin(o));
        if let (b"OPTIONS", Some(_), Some(asked)) = (method, origin, request_method) {
            return match allowed {
                Some(origin) if self.allows_method(asked) && self.allows_headers(request_headers.unwrap_or(b"")) => {
                    CorsDecision::Preflight { headers: self.with_origin(origin, &self.preflight) }
                }
                _ => CorsDecision::Refused,
            };
        }
        match (origin, allowed) {
            (_, Some(origin)) => CorsDecision::Simple { headers: self.with_origin(origin, &self.simple) },
            // Every origin gets the same answer, and so does none.
            (_, None) if self.any_origin => CorsDecision::NotCors,
            (_, None) => CorsDecision::Simple { headers: vec![("Vary", "Origin".to_owned())] },
        }
    }

    /// What `Access-Control-Allow-Origin` says to this origin, if it is allowed.
    fn allowed_origin(&self, origin: &[u8]) -> Option<&str> {
        if self.any_origin {
            return Some("*");
        }
        self.config.origins.iter().find(|o| o.as_bytes() == origin).map(String::as_str)
    }

    fn allows_method(&self, asked: &[u8]) -> bool {
        let named = |m: &str| m.as_bytes() == asked;
        SAFE_METHODS.into_iter().any(named) || self.config.methods.iter().any(|m| m == "*" || named(m))
    }

    fn allows_headers(&self, asked: &[u8]) -> bool {
        asked.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|name| !name.is_empty()).all(|name| {
            let named = |h: &str| name.eq_ignore_ascii_case(h.as_bytes());
            let any = |h: &str| h == "*" && !named("authorization");
            SAFE_HEADERS.into_iter().any(named) || self.config.headers.iter().any(|h| named(h) || any(h))
        })
    }

    fn with_origin(&self, origin: &str, rest: &Headers) -> Headers {
        let mut headers = Vec::with_capacity(rest.len() + 2);
        headers.push(("Access-Control-Allow-Origin", origin.to_owned()));
        headers.extend_from_slice(rest);
        if !self.any_origin {
            headers.push(("Vary", "Origin".to_owned()));
        }
        headers
    }
}

fn problems(config: &CorsConfig) -> Vec<CorsError> {
    let mut problems = Vec::new();
    if config.origins.is_empty() {
        problems.push(CorsError::NoOrigin);
    }
    if config.origins.len() > 1 && config.origins.iter().any(|o| o == "*") {
        problems.push(CorsError::AnyAmongOrigins);
    }
    let bad = config.origins.iter().filter(|o| *o != "*" && !is_origin(o));
    problems.extend(bad.map(|o| CorsError::BadOrigin { origin: o.clone() }));
    let lists: [(&'static str, &[String]); 3] =
        [("methods", &config.methods), ("headers", &config.headers), ("expose", &config.expose)];
    for (field, values) in lists {
        let bad = values.iter().filter(|v| !is_token(v));
        problems.extend(bad.map(|v| CorsError::BadName { field, value: v.clone() }));
    }
    let forbidden = config.methods.iter().filter(|m| FORBIDDEN_METHODS.iter().any(|f| m.eq_ignore_ascii_case(f)));
    problems.extend(forbidden.map(|m| CorsError::ForbiddenMethod { value: m.clone() }));
    if config.credentials {
        let all: [(&'static str, &[String]); 1] = [("origins", &config.origins)];
        let any = all.into_iter().chain(lists).filter(|(_, values)| values.iter().any(|v| v == "*"));
        problems.extend(any.map(|(field, _)| CorsError::AnyWithCredentials { field }));
    }
    problems
}

/// Whether `text` is an origin as browsers write it. `null` is none: every sandboxed page has it.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.'));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let host_ok = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok_and(|ip| ip.to_string() == v6),
        None => {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_'))
        }
    };
    let usual = match scheme {
        "http" => Some("80"),
        "https" => Some("443"),
        _ => None,
    };
    let port_ok = port.is_none_or(|p| Some(p) != usual && p.parse::<u16>().is_ok_and(|n| n.to_string() == p));
    scheme_ok && host_ok && port_ok
}

/// RFC 9110, 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
#[path = "cors_tests.rs"]
mod tests;
