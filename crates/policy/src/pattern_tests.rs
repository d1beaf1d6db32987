//! What patterns are read as, what they match, and what is refused.

use super::*;

fn path(text: &str) -> PathPattern {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn hosts_match_in_any_case_and_wildcards_match_one_label_or_more() {
    for (pattern, host, matches) in [
        ("shop.example.com", "shop.example.com", true),
        ("Shop.Example.com", "SHOP.example.COM", true),
        ("shop.example.com.", "shop.example.com", true),
        ("shop.example.com", "ashop.example.com", false),
        ("*.example.com", "a.example.com", true),
        ("*.example.com", "A.B.Example.com", true),
        ("*.example.com", "example.com", false),
        ("*.example.com", ".example.com", false),
        ("*.example.com", "aexample.com", false),
        ("127.0.0.1", "127.0.0.1", true),
        ("[::1]", "[::1]", true),
    ] {
        let read: HostPattern = pattern.parse().unwrap();
        assert_eq!(read.matches(host.as_bytes()), matches, "{pattern} {host}");
        assert_eq!(read.to_string().parse(), Ok(read), "{pattern}");
    }
}

#[test]
fn what_is_no_host_is_refused() {
    assert_eq!("*".parse::<HostPattern>(), Err(PatternError::AnyHost));
    for text in
        ["", "a:80", "https://a", "a..b", "*.", "a.*.b", "*a.b", "münchen.de", "[::1", "[x]", "a b", "a/b", ".a"]
    {
        assert!(matches!(text.parse::<HostPattern>(), Err(PatternError::BadHost { .. })), "{text}");
    }
    assert!(matches!("a".repeat(2000).parse::<HostPattern>(), Err(PatternError::TooLong { length: 2000 })));
}

#[test]
fn paths_match_as_the_table_says() {
    for (pattern, yes, no) in [
        ("/", &["/"][..], &["/a", "*"][..]),
        ("/a", &["/a"], &["/a/", "/ab", "/", "/A"]),
        ("/a/", &["/a/"], &["/a", "/a/b"]),
        ("/a/*", &["/a", "/a/", "/a/b", "/a/b/c"], &["/ab", "/", "/b/a"]),
        ("/*", &["/", "/a/b", "*"], &[]),
        ("/users/{id}", &["/users/7", "/users/%2F"], &["/users", "/users/", "/users/7/", "/users/7/x"]),
        ("/users/{id}/orders", &["/users/7/orders"], &["/users//orders", "/users/7/orders/", "/users/7"]),
        ("/users/{id}/*", &["/users/7", "/users/7/", "/users/7/a/b"], &["/users", "/users/"]),
        ("/{a}/{b}", &["/1/2"], &["/1", "/1/", "/1/2/3", "*"]),
        ("/{a}/", &["/1/"], &["/1"]),
        ("/caf%c3%a9", &["/caf%C3%A9"], &["/caf%c3%a9"]),
        ("/café", &["/caf%C3%A9"], &[]),
        ("/%61", &["/a"], &["/%61"]),
    ] {
        let read = path(pattern);
        assert_eq!(read.to_string(), pattern);
        yes.iter().for_each(|p| assert!(read.matches(p.as_bytes()), "{pattern} should match {p}"));
        no.iter().for_each(|p| assert!(!read.matches(p.as_bytes()), "{pattern} should not match {p}"));
    }
}

#[test]
fn what_is_no_path_is_refused_with_the_reason() {
    let error = |text: &str| text.parse::<PathPattern>().expect_err(text).to_string();
    for (text, part) in [
        ("a", "write \"/a\""),
        ("", "does not begin with a slash"),
        ("/a?x", "'?'"),
        ("/a b", "%20"),
        ("/a\\b", "'\\\\'"),
        ("/a/../b", "dot segment"),
        ("/a%00", "control character"),
        ("/a%", "percent sign"),
        ("//", "empty segment"),
        ("/a//b", "empty segment"),
        ("//*", "empty segment"),
        ("/a*", "not its last segment"),
        ("/*/b", "not its last segment"),
        ("/**", "not its last segment"),
        ("/a/**", "not its last segment"),
        ("/a{id}", "brace"),
        ("/{}", "brace"),
        ("/{Id}", "brace"),
        ("/{1}", "brace"),
        ("/{id", "brace"),
        ("/{id}/{id}", "brace"),
        ("/{id}{no}", "brace"),
    ] {
        assert!(error(text).contains(part), "{text}: {}", error(text));
    }
}

#[test]
fn the_literal_prefix_is_what_a_rewrite_strips() {
    for (pattern, prefix) in
        [("/*", ""), ("/", ""), ("/a", "/a"), ("/a/", "/a"), ("/a/b/*", "/a/b"), ("/a/{id}/b", "/a"), ("/{id}", "")]
    {
        assert_eq!(path(pattern).literal_prefix(), prefix, "{pattern}");
    }
}

#[test]
fn one_path_pattern_covers_another_only_if_that_is_certain() {
    for (a, b, covers) in [
        ("/*", "/a/{id}", true),
        ("/*", "/*", true),
        ("/a/*", "/*", false),
        ("/a/*", "/a", true),
        ("/a/*", "/a/", true),
        ("/a/*", "/a/b/*", true),
        ("/a/*", "/ab/*", false),
        ("/a/b/*", "/a/*", false),
        ("/a/{x}", "/a/b", true),
        ("/a/{x}", "/a/", false),
        ("/a/{x}", "/a/b/*", false),
        ("/a/{x}/*", "/a/b/*", true),
        ("/a/{x}", "/a/{y}", true),
        ("/a/b", "/a/{y}", false),
        ("/{x}/b", "/a/{y}", false),
        ("/{x}/*", "/a", true),
        ("/{x}/*", "/", false),
        ("/a/{x}/*", "/a/*", false),
    ] {
        assert_eq!(path(a).covers(&path(b)), covers, "{a} covers {b}");
    }
}
