//! Answers that the gateway makes itself: problem documents (RFC 9457) with a stable code, error pages, redirects and
//! preflight answers. All are small, written whole, and never cached.

use kernel::ErrorCode;

use crate::forward::{add, write_number};
use crate::plan::{ErrorPage, RoutePlan};

/// How long a client should wait before it tries again after a 503 or 429, in seconds.
const RETRY_AFTER_SECONDS: u64 = 1;

/// The parts of an answer that do not depend on what it says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// Empty if the request had none yet.
    pub(crate) request_id: &'a [u8],
    /// Whether the connection is closed behind it.
    pub(crate) close: bool,
    /// Whether it answers a HEAD: no body then.
    pub(crate) to_head: bool,
    /// Whether the client speaks HTTP/1.0.
    pub(crate) http10: bool,
}

/// Writes the problem document for `code`. `detail` says what exactly; it must be safe to show to anyone.
pub(crate) fn write(out: &mut Vec<u8>, frame: Frame<'_>, code: ErrorCode, detail: &str) {
    let body = document(frame.request_id, code, detail);
    begin(out, frame, code.status());
    add(out, b"Content-Type", b"application/problem+json");
    end(out, frame, &body);
}

fn document(request_id: &[u8], code: ErrorCode, detail: &str) -> Vec<u8> {
    let mut map = serde_json::Map::new();
    map.insert("type".into(), format!("urn:evenkeel:problem:{}", code.code()).into());
    map.insert("title".into(), code.title().into());
    map.insert("status".into(), code.status().into());
    map.insert("detail".into(), detail.into());
    map.insert("code".into(), code.code().into());
    if !request_id.is_empty() {
        map.insert("request_id".into(), String::from_utf8_lossy(request_id).into());
    }
    let mut body = serde_json::Value::Object(map).to_string().into_bytes();
    body.push(b'\n');
    body
}

/// Writes a route's own page for an error, if the client takes HTML and the route has one. False: it has not.
pub(crate) fn write_page(out: &mut Vec<u8>, frame: Frame<'_>, code: ErrorCode, route: &RoutePlan) -> bool {
    let Some((_, page)) = route.error_pages.iter().find(|(status, _)| *status == code.status()) else { return false };
    let ErrorPage { content_type, body } = &**page;
    begin(out, frame, code.status());
    add(out, b"Content-Type", content_type.as_bytes());
    end(out, frame, body);
    true
}

/// Writes an answer without a body: a redirect or a preflight answer.
pub(crate) fn write_empty(out: &mut Vec<u8>, frame: Frame<'_>, status: u16, fields: &[(&str, &str)]) {
    begin(out, frame, status);
    for (name, value) in fields {
        add(out, name.as_bytes(), value.as_bytes());
    }
    if status == 204 {
        finish(out, frame);
    } else {
        end(out, frame, b"");
    }
}

fn begin(out: &mut Vec<u8>, frame: Frame<'_>, status: u16) {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_number(u64::from(status), out);
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    if status >= 400 {
        add(out, b"Cache-Control", b"no-store");
    }
    if matches!(status, 429 | 503) {
        out.extend_from_slice(b"Retry-After: ");
        write_number(RETRY_AFTER_SECONDS, out);
        out.extend_from_slice(b"\r\n");
    }
    if !frame.request_id.is_empty() {
        add(out, b"X-Request-Id", frame.request_id);
    }
}

fn end(out: &mut Vec<u8>, frame: Frame<'_>, body: &[u8]) {
    out.extend_from_slice(b"Content-Length: ");
    write_number(body.len() as u64, out);
    out.extend_from_slice(b"\r\n");
    finish(out, frame);
    if !frame.to_head {
        out.extend_from_slice(body);
    }
}

fn finish(out: &mut Vec<u8>, frame: Frame<'_>) {
    if frame.close {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if frame.http10 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn reason(status: u16) -> &'static str {
    match status {
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Frame<'static> = Frame { request_id: b"id-1", close: false, to_head: false, http10: false };

    #[test]
    fn a_problem_document_is_valid_and_its_length_is_right() {
        let mut out = Vec::new();
        write(&mut out, FRAME, ErrorCode::UpstreamUnreachable, "tried \"a\" and b");
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        assert!(head.contains("Retry-After: 1"), "{head}");
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(json["type"], "urn:evenkeel:problem:upstream-unreachable");
        assert_eq!(json["detail"], "tried \"a\" and b");
        assert_eq!(json["request_id"], "id-1");
    }

    #[test]
    fn head_gets_the_length_but_no_body() {
        let mut out = Vec::new();
        write(&mut out, Frame { to_head: true, ..FRAME }, ErrorCode::NoRoute, "nothing");
        assert!(out.ends_with(b"\r\n\r\n"));
    }

    #[test]
    fn every_code_that_is_sent_has_a_reason_phrase() {
        for code in ErrorCode::ALL.iter().filter(|c| c.status() != 499) {
            assert!(!reason(code.status()).is_empty(), "{}", code.code());
        }
    }
}
