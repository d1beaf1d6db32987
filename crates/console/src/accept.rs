//! Content negotiation (RFC 9110, 12.5.1) among the three shapes of an answer. Browsers ask for HTML by name, programs
//! for JSON; what asks for nothing in particular gets the shape that the resource holds for natural.

use http::HeaderMap;
use http::header::ACCEPT;

/// The shape of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Html,
    Json,
    Text,
}

/// The most wanted shape; `natural` if several are wanted alike, nothing matches or nothing is asked for.
pub(crate) fn shape(headers: &HeaderMap, natural: Shape) -> Shape {
    let accept = accept_text(headers);
    let order = [natural, Shape::Html, Shape::Json, Shape::Text];
    let mut best = (natural, 0u16);
    for shape in order {
        let wanted = quality(&accept, shape);
        if wanted > best.1 {
            best = (shape, wanted);
        }
    }
    best.0
}

/// Every `Accept` line as one, bounded.
pub(crate) fn accept_text(headers: &HeaderMap) -> String {
    let lines: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
    let mut text = lines.join(",");
    text.truncate(1024);
    text
}

/// How much `shape` is wanted, in thousandths; the most specific range that matches it decides.
fn quality(accept: &str, shape: Shape) -> u16 {
    let (full, group) = match shape {
        Shape::Html => ("text/html", "text/*"),
        Shape::Json => ("application/json", "application/*"),
        Shape::Text => ("text/plain", "text/*"),
    };
    let mut found = (0u8, 0u16);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let specific = match media.as_str() {
            m if m == full => 3,
            "application/problem+json" if shape == Shape::Json => 3,
            m if m == group => 2,
            "*/*" => 1,
            _ => continue,
        };
        let q = parts.find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")));
        let q = q.map_or(1000, |q| q.parse::<f64>().map_or(0, |q| (q.clamp(0.0, 1.0) * 1000.0) as u16));
        if specific > found.0 || (specific == found.0 && q > found.1) {
            found = (specific, q);
        }
    }
    found.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_gets_its_shape() {
        let cases = [
            ("*/*", Shape::Text),
            ("", Shape::Text),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", Shape::Html),
            ("application/json", Shape::Json),
            ("application/json, text/plain, */*", Shape::Text),
            ("application/json, text/html;q=0.9", Shape::Json),
            ("application/problem+json", Shape::Json),
            ("TEXT/HTML", Shape::Html),
            ("text/*;q=0.5, application/json;q=0.4", Shape::Text),
            ("text/html;q=0, */*", Shape::Text),
            ("text/plain;q=0, */*;q=0.1", Shape::Html),
            ("image/png", Shape::Text),
            ("text/html;q=oops", Shape::Text),
        ];
        for (accept, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(shape(&headers, Shape::Text), expected, "{accept}");
        }
        assert_eq!(shape(&HeaderMap::new(), Shape::Json), Shape::Json);
    }
}
