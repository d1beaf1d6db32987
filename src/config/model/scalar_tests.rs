//! Texts that are right and texts that are not; the messages are in the snapshots of `config::tests`.

use super::*;

#[test]
fn right_texts_are_taken() {
    assert!(["shop", "shop-2", "0", "a_b"].iter().all(|t| Name::parse(t).is_ok()));
    assert!(["127.0.0.1:80", "[::1]:0", "0.0.0.0:65535"].iter().all(|t| Listen::parse(t).is_ok()));
    assert!(["127.0.0.1:80", "[::1]:80", "shop:1", "a_b.internal:8080"].iter().all(|t| Endpoint::parse(t).is_ok()));
    assert!(["a.example", "a.example:81", "[::1]", "[::1]:80"].iter().all(|t| HostName::parse(t).is_ok()));
    assert!(["a.example", "*.example", "[::1]"].iter().all(|t| HostPattern::parse(t).is_ok()));
    assert!(["/", "/up?full=1"].iter().all(|t| CheckPath::parse(t).is_ok()));
    assert!(["/", "/shop", "/shop/", "/a/b"].iter().all(|t| PathPrefix::parse(t).is_ok()));
    assert!(["/x", "https://{host}{path}{query}"].iter().all(|t| Location::parse(t).is_ok()));
    assert!(["GET", "PURGE", "M-SEARCH"].iter().all(|t| Method::parse(t).is_ok()));
    assert!(["", "text/html; charset=utf-8", "a\tb"].iter().all(|t| HeaderValue::parse(t).is_ok()));
}

#[test]
fn wrong_texts_are_refused() {
    let long = "a".repeat(64);
    assert!(["", "Shop", "-a", "a.b", "ä", &long].iter().all(|t| Name::parse(t).is_err()));
    assert!(
        ["", "80", ":80", "localhost:80", "127.0.0.1", "127.0.0.1:65536"].iter().all(|t| Listen::parse(t).is_err())
    );
    assert!(
        ["", "a", "a:0", "a:b", "::1:80", "a b:80", "-a:80", "http://a:80", "a:80/x"]
            .iter()
            .all(|t| Endpoint::parse(t).is_err())
    );
    assert!(["", "a:0", "a b", "a/b", "u@a"].iter().all(|t| HostName::parse(t).is_err()));
    assert!(["", "up", "/a b", "/a#b", "/ä", "/a\r\nX: y"].iter().all(|t| CheckPath::parse(t).is_err()));
    assert!(["", "a", "/a?b", "/a/../b", "/a//b", "/{id}", "/*"].iter().all(|t| PathPrefix::parse(t).is_err()));
    assert!(
        ["", "x", "ftp://a", "/{user}", "/a b", "/{host", "//{path}\n"].iter().all(|t| Location::parse(t).is_err())
    );
    assert!(["", "get", "G T", "GET\n"].iter().all(|t| Method::parse(t).is_err()));
    assert!([" a", "a ", "a\nb", "a\0", "ä"].iter().all(|t| HeaderValue::parse(t).is_err()));
    assert!(HeaderValue::parse(&"a".repeat(MAX_TEXT + 1)).is_err());
}
