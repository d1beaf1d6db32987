//! What every request passes before it reaches a handler, and every answer on its way out.
//!
//! * **Host** (admin on loopback): a page elsewhere can point its own name at 127.0.0.1 and so make a browser call this
//!   server with the page's origin (DNS rebinding). Only names that cannot be pointed anywhere, or that were
//!   configured, are answered.
//! * **Meaning** (every method that changes something): a secret of this process in a header or form field, which only a
//!   page served from here can know; and `Origin` and `Sec-Fetch-Site`, where present, must name this origin.
//! * **Answers** carry headers that forbid foreign scripts, frames, foreign requests, sniffing and caching, come in time, and are
//!   compressed for those who take it.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName, HeaderValue, ORIGIN, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use subtle::ConstantTimeEq;

use crate::accept::{Shape, shape};
use crate::compress;
use crate::deploys;
use crate::pages;
use crate::problem::{Problem, ProblemCode};
use crate::token::{self, Token, TokenStore};
use crate::words;

/// Bytes of a request body: the largest form has one field. What tells of a deployment may be longer.
pub(crate) const MAX_BODY_BYTES: usize = 16 * 1024;

/// The header that carries the CSRF token.
pub(crate) const CSRF_HEADER: &str = "x-csrf-token";

/// The form field that carries it.
pub(crate) const CSRF_FIELD: &str = "csrf";

/// Only the style sheet, the script and the icon of this server may load, and only this server may be called: nothing
/// within a page is executed or fetched from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The per-process secret that proves that a request was meant.
pub(crate) struct Csrf(String);

impl Csrf {
    /// A new secret from the operating system.
    pub(crate) fn generate() -> Result<Csrf, getrandom::Error> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        Ok(Csrf(secret.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Its text.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }
}

impl std::fmt::Debug for Csrf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Csrf(..)")
    }
}

/// The authority that a request was sent to: that of an absolute target, else the one `Host` line.
pub(crate) fn authority(parts: &Parts) -> Result<String, Problem> {
    let mut lines = parts.headers.get_all(HOST).iter();
    let line = match (lines.next(), lines.next()) {
        (Some(line), None) => line.to_str().unwrap_or_default(),
        (None, _) => "",
        _ => return Err(Problem::new(ProblemCode::MalformedCall, "there is more than one Host header; send one")),
    };
    Ok(parts.uri.authority().map_or(line, |authority| authority.as_str()).to_ascii_lowercase())
}

/// Refuses an authority whose name is neither loopback by nature nor one of `names`.
pub(crate) fn check_host(authority: &str, names: &[String]) -> Result<(), Problem> {
    let name = host_name(authority).unwrap_or_default();
    let address = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    let loopback = name == "localhost" || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if loopback || names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    let shown =
        if authority.is_empty() { "no Host".to_owned() } else { format!("the Host {:?}", words::tame(authority)) };
    Err(Problem::new(
        ProblemCode::HostRefused,
        format!(
            "{shown} was sent, but this server answers only to localhost, 127.0.0.1, [::1] and the names configured for \
             [admin]. Other names are refused because any web page can point its own name at this machine (DNS \
             rebinding) and would then read what you see here."
        ),
    ))
}

/// The name in `name:port` or `[v6]:port`; `None` if the port is no number.
fn host_name(authority: &str) -> Option<&str> {
    let end = match authority.strip_prefix('[') {
        Some(_) => authority.find(']')? + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (name, port) = authority.split_at(end);
    let port_is_number = port.strip_prefix(':').is_some_and(|p| p.parse::<u16>().is_ok());
    (port.is_empty() || port_is_number).then_some(name)
}

/// Refuses a request that changes something unless it proves that a person or program meant it. Reads the body, which
/// may hold the proof, and gives it back.
pub(crate) async fn check_meant(
    request: Request,
    csrf: &Csrf,
    authority: &str,
    time: Duration,
) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    let refused = |detail: &str| Err(Problem::new(ProblemCode::CsrfRefused, detail));
    if let Some(origin) = parts.headers.get(ORIGIN) {
        let origin = origin.to_str().unwrap_or_default().to_ascii_lowercase();
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if host != Some(authority) {
            return refused(
                "the Origin header names another origin than this server; send the request from its own page",
            );
        }
    }
    if parts.headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none") {
        return refused("the browser says that another site made this request; send it from this server's own page");
    }
    let most = if parts.uri.path() == deploys::PATH { deploys::MAX_BODY_BYTES } else { MAX_BODY_BYTES };
    let body = read_body_of(body, most, time).await?;
    let proof = match parts.headers.get(CSRF_HEADER) {
        Some(header) => Some(header.as_bytes()),
        None => form_field(&parts, &body, CSRF_FIELD),
    };
    match proof {
        Some(proof) if csrf.matches(proof) => Ok(Request::from_parts(parts, Body::from(body))),
        Some(_) => refused(
            "the node was restarted since: load the page again; a program gets the present token from GET /v1/csrf",
        ),
        None => refused("there is no CSRF token; get one from GET /v1/csrf and send it in the header x-csrf-token"),
    }
}

/// The whole body, within its bound and `time`.
pub(crate) async fn read_body(body: Body, time: Duration) -> Result<Bytes, Problem> {
    read_body_of(body, MAX_BODY_BYTES, time).await
}

/// The whole body of at most `most` bytes.
pub(crate) async fn read_body_of(body: Body, most: usize, time: Duration) -> Result<Bytes, Problem> {
    let limited = Limited::new(body, most).collect();
    match tokio::time::timeout(time, limited).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => {
            let detail = format!("the body may have {most} bytes at most");
            Err(Problem::new(ProblemCode::CallTooLarge, detail))
        }
        Ok(Err(_)) => Err(Problem::new(ProblemCode::MalformedCall, "the body broke off or is not framed correctly")),
        Err(_) => Err(Problem::new(ProblemCode::BodyTimeout, "the body took too long to arrive")),
    }
}

/// A field of a form, as it was sent: a CSRF token has no character that a form would encode.
fn form_field<'a>(parts: &Parts, body: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let kind = parts.headers.get(CONTENT_TYPE)?.to_str().ok()?.split(';').next()?.trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return None;
    }
    body.split(|b| *b == b'&').find_map(|field| field.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// The token that a request presents, if it is known.
///
/// # Errors
/// 401 with `challenges` if there is none or it is unknown.
pub(crate) fn check_token(parts: &Parts, tokens: &TokenStore, challenges: &[&'static str]) -> Result<Token, Problem> {
    let presented = token::presented(&parts.headers);
    if let Some(token) = presented.as_deref().and_then(|text| tokens.find(text)) {
        return Ok(token.clone());
    }
    let detail = match presented {
        Some(_) => "the token is not known here; it may have been removed from the configuration",
        None => "send a token as \"Authorization: Bearer evk_…\"",
    };
    let problem = Problem::new(ProblemCode::TokenRequired, detail);
    Err(challenges.iter().fold(problem, |problem, challenge| problem.challenge(challenge)))
}

/// Refuses a token without `scope`.
pub(crate) fn check_scope(token: &Token, scope: &'static str) -> Result<(), Problem> {
    if token.allows(scope) {
        return Ok(());
    }
    let detail = format!("the token {:?} lacks the scope {scope}; add it in the configuration", token.name);
    let challenge = match scope {
        token::OPERATOR => "Bearer realm=\"evenkeel\", error=\"insufficient_scope\", scope=\"operator\"",
        token::DEPLOYS_WRITE => "Bearer realm=\"evenkeel\", error=\"insufficient_scope\", scope=\"deploys:write\"",
        _ => "Bearer realm=\"evenkeel\", error=\"insufficient_scope\", scope=\"services:read\"",
    };
    Err(Problem::new(ProblemCode::ScopeMissing, detail).with("scope", scope.into()).challenge(challenge))
}

/// Refuses a token that may not register endpoints of `service`.
pub(crate) fn check_register(token: &Token, service: &str) -> Result<(), Problem> {
    if token.may_register(service) {
        return Ok(());
    }
    let scope = format!("{}{}", token::REGISTER, words::tame(service));
    let detail = format!("the token {:?} lacks the scope {scope}; add it in the configuration", token.name);
    // A header cannot hold what a caller wrote in the path, so the scope stands in the document alone.
    let challenge = "Bearer realm=\"evenkeel\", error=\"insufficient_scope\"";
    Err(Problem::new(ProblemCode::ScopeMissing, detail).with("scope", scope.into()).challenge(challenge))
}

/// The outermost layer: bounds the time, shows problems as pages to browsers, and adds the headers of every answer.
pub(crate) async fn finish(time: Duration, request: Request, next: Next) -> Response {
    let wanted = shape(request.headers(), Shape::Json);
    let packs = compress::is_wanted(request.headers());
    let mut response = match tokio::time::timeout(time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!("no answer within {} s; it may still take effect", time.as_secs());
            Problem::new(ProblemCode::CallTimeout, detail).into_response()
        }
    };
    if wanted == Shape::Html
        && let Some(problem) = response.extensions_mut().remove::<Problem>()
    {
        let page = pages::problem(&problem);
        *response.body_mut() = Body::from(page);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        response.headers_mut().remove(http::header::CONTENT_LENGTH);
    }
    let fixed = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        // Not "no-referrer": a form would then send "Origin: null", which is refused above.
        (REFERRER_POLICY, "same-origin"),
        (VARY, "accept, accept-encoding"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    let headers = response.headers_mut();
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // What may be kept says so itself.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if packs { compress::gzip(response).await } else { response }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_cannot_be_pointed_elsewhere_pass() {
        let names = ["keel.internal".to_owned()];
        for good in [
            "localhost",
            "localhost:7070",
            "127.0.0.1",
            "127.0.0.1:1",
            "127.0.0.53:7070",
            "[::1]",
            "[::1]:7070",
            "keel.internal",
            "keel.internal:443",
        ] {
            assert!(check_host(good, &names).is_ok(), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "localhost.evil.example",
            "localhost.",
            "127.0.0.1.nip.io:7070",
            "10.0.0.1",
            "[::2]",
            "localhost:port",
            "localhost:7070:1",
            "::1",
            "[::1",
            "127.1",
            "0.0.0.0",
            "keel.internal@evil.example",
        ] {
            assert!(check_host(bad, &names).is_err(), "{bad}");
        }
    }
}
