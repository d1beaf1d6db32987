//! The style sheet and the one script, under names that hold a hash of their content, so that a browser keeps them for as
//! long as it likes. They hold nothing of the node and are given to anyone who can connect, so that a page that refuses
//! a caller looks like the others.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, HeaderValue};
use sha2::{Digest, Sha256};

use crate::admin::typed;
use crate::problem::{Problem, ProblemCode};

/// The style of every page.
const STYLE: &str = include_str!("style.css");

/// Swaps the parts of a page that changed; pages are whole without it.
const SCRIPT: &str = include_str!("live.js");

/// The icon: a hull on an even keel.
const ICON: &str = concat!(
    "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 24 24\" fill=\"none\" stroke=\"#2f7db0\" ",
    "stroke-width=\"2\" stroke-linecap=\"round\" stroke-linejoin=\"round\">",
    "<path d=\"M3 11h18l-3.2 6H6.2z\"/><path d=\"M12 11V3l5 5\"/><path d=\"M12 17v4\"/></svg>\n"
);

/// Where these files are.
pub(crate) const FOLDER: &str = "/assets/";

static STYLE_NAME: LazyLock<String> = LazyLock::new(|| named("style", STYLE, "css"));
static SCRIPT_NAME: LazyLock<String> = LazyLock::new(|| named("live", SCRIPT, "js"));

/// The first 48 bits of the hash: two versions of one file will not meet.
fn named(stem: &str, content: &str, kind: &str) -> String {
    let mut hash = String::new();
    for byte in &Sha256::digest(content.as_bytes())[..6] {
        // Writing to a String cannot fail.
        let _infallible = write!(hash, "{byte:02x}");
    }
    format!("{stem}-{hash}.{kind}")
}

/// The path of the style sheet.
pub(crate) fn style() -> String {
    format!("{FOLDER}{}", *STYLE_NAME)
}

/// The path of the script.
pub(crate) fn script() -> String {
    format!("{FOLDER}{}", *SCRIPT_NAME)
}

/// `GET /assets/{name}`.
pub(crate) async fn serve(Path(name): Path<String>) -> Response {
    let (kind, text) = match name.as_str() {
        name if name == *STYLE_NAME => ("text/css; charset=utf-8", STYLE),
        name if name == *SCRIPT_NAME => ("text/javascript; charset=utf-8", SCRIPT),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => {
            let detail = "there is no such file; a page of another version may have asked for it: load it again";
            return Problem::new(ProblemCode::NotFound, detail).into_response();
        }
    };
    let mut response = typed(kind, text.to_owned());
    // The icon's name stays the same when it changes.
    let keep = if name == "icon.svg" { "max-age=86400" } else { "max-age=31536000, immutable" };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(keep));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_small_and_the_style_brings_nothing_along() {
        assert!(SCRIPT.len() < 4_096, "{}", SCRIPT.len());
        for text in [STYLE, SCRIPT] {
            assert!(!text.contains("http:") && !text.contains("https:") && !text.contains("@import"));
        }
        assert!(style().starts_with("/assets/style-") && script().ends_with(".js"));
    }
}
