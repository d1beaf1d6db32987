//! Answers in gzip (RFC 1952) for callers that take it: pages shrink to a fifth. Only what is whole in memory and text is
//! compressed; a stream of events is not.
//!
//! A page that holds the secret of forms may show what somebody else chose, such as the version of a deployment, and its
//! length then says something about the secret. Whoever can see lengths sees the text as well, as long as it goes without
//! TLS; where another server adds TLS in front, that one should not pass on `Accept-Encoding`.

use std::io::Write as _;

use axum::body::{Body, HttpBody as _};
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http_body_util::BodyExt as _;

/// Below this the headers weigh more than what is saved.
const LEAST_BYTES: u64 = 1_024;

/// Beyond this it takes longer than a fast network does.
const MOST_BYTES: u64 = 8 * 1024 * 1024;

/// What is text.
const TEXTS: [&str; 5] = ["text/html", "text/plain", "text/css", "text/javascript", "application/json"];

/// Whether `Accept-Encoding` allows gzip (RFC 9110, 12.5.3).
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    let mut by_star = false;
    for coding in lines.flat_map(|line| line.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let is_refused = parts.any(|p| p.split_once('=').is_some_and(|(q, v)| q == "q" && v.parse() == Ok(0.0)));
        match name {
            name if name.eq_ignore_ascii_case("gzip") => return !is_refused,
            "*" => by_star = !is_refused,
            _ => {}
        }
    }
    by_star
}

/// The answer, compressed if it is worth it.
pub(crate) async fn gzip(response: Response) -> Response {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_text = TEXTS.iter().any(|text| kind.starts_with(text));
    let size = response.body().size_hint().exact();
    if !is_text || !size.is_some_and(|size| (LEAST_BYTES..=MOST_BYTES).contains(&size)) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // The body is in memory already, so it is there at once and cannot fail.
    let Ok(plain) = body.collect().await.map(|whole| whole.to_bytes()) else {
        return Response::from_parts(parts, Body::empty());
    };
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::new(5));
    let Ok(packed) = encoder.write_all(&plain).and_then(|()| encoder.finish()) else {
        return Response::from_parts(parts, Body::from(plain));
    };
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(packed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        let cases = [
            ("gzip, deflate, br", true),
            ("GZIP;q=0.2", true),
            ("*", true),
            ("gzip;q=0, *", false),
            ("br", false),
            ("identity", false),
            ("*;q=0", false),
        ];
        for (accept, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, accept.parse().unwrap());
            assert_eq!(is_wanted(&headers), expected, "{accept}");
        }
        assert!(!is_wanted(&HeaderMap::new()));
    }
}
