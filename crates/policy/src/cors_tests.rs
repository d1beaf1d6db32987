//! The cases of the Fetch standard's "CORS protocol" chapter, and what a policy may not say.

use super::*;

const APP: &[u8] = b"https://app.example.com";

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|v| (*v).to_owned()).collect()
}

fn config() -> CorsConfig {
    CorsConfig {
        origins: strings(&["https://app.example.com", "http://localhost:3000"]),
        methods: strings(&["PUT", "DELETE"]),
        headers: strings(&["X-Api-Key", "Authorization"]),
        expose: strings(&["X-Request-Id"]),
        credentials: true,
        max_age: Some(Duration::from_secs(600)),
    }
}

fn named() -> CorsPolicy {
    CorsPolicy::new(config()).unwrap()
}

fn any() -> CorsPolicy {
    let any = || strings(&["*"]);
    let config = CorsConfig { origins: any(), methods: any(), headers: any(), ..CorsConfig::default() };
    CorsPolicy::new(config).unwrap()
}

fn text(headers: &Headers) -> String {
    headers.iter().map(|(n, v)| format!("{n}: {v}\n")).collect()
}

#[test]
fn a_granted_preflight_says_all_that_is_allowed() {
    let asked = Some(&b"x-api-key, authorization,content-type"[..]);
    let CorsDecision::Preflight { headers } = named().decide(b"OPTIONS", Some(APP), Some(b"PUT"), asked) else {
        panic!("not granted");
    };
    assert_eq!(
        text(&headers),
        "Access-Control-Allow-Origin: https://app.example.com\n\
         Access-Control-Allow-Credentials: true\n\
         Access-Control-Allow-Methods: PUT, DELETE\n\
         Access-Control-Allow-Headers: X-Api-Key, Authorization\n\
         Access-Control-Max-Age: 600\n\
         Vary: Origin\n"
    );
}

#[test]
fn a_preflight_is_refused_for_its_origin_its_method_or_a_header() {
    let policy = named();
    let decide = |origin, method, headers| policy.decide(b"OPTIONS", Some(origin), Some(method), headers);
    let granted = |d| matches!(d, CorsDecision::Preflight { .. });
    assert!(granted(decide(APP, b"DELETE", None)));
    assert!(granted(decide(APP, b"POST", Some(b"content-type"))), "safelisted");
    assert!(granted(decide(APP, b"PUT", Some(b" , x-api-key,"))));
    assert_eq!(decide(b"https://evil.example", b"PUT", None), CorsDecision::Refused);
    assert_eq!(decide(b"null", b"PUT", None), CorsDecision::Refused);
    assert_eq!(decide(b"https://app.example.com.evil.example", b"PUT", None), CorsDecision::Refused);
    assert_eq!(decide(b"https://APP.example.com", b"PUT", None), CorsDecision::Refused);
    assert_eq!(decide(APP, b"PATCH", None), CorsDecision::Refused);
    assert_eq!(decide(APP, b"put", None), CorsDecision::Refused, "methods are case-sensitive");
    assert_eq!(decide(APP, b"PUT", Some(b"x-api-key, x-other")), CorsDecision::Refused);
}

#[test]
fn options_without_a_requested_method_is_a_request_like_any_other() {
    let decision = named().decide(b"OPTIONS", Some(APP), None, None);
    assert!(matches!(decision, CorsDecision::Simple { .. }), "{decision:?}");
    let decision = named().decide(b"GET", Some(APP), Some(b"PUT"), None);
    assert!(matches!(decision, CorsDecision::Simple { .. }), "{decision:?}");
}

#[test]
fn an_answer_names_the_origin_that_may_read_it_and_always_varies() {
    let headers = |origin| match named().decide(b"GET", origin, None, None) {
        CorsDecision::Simple { headers } => text(&headers),
        other => format!("{other:?}"),
    };
    assert_eq!(
        headers(Some(b"http://localhost:3000")),
        "Access-Control-Allow-Origin: http://localhost:3000\n\
         Access-Control-Allow-Credentials: true\n\
         Access-Control-Expose-Headers: X-Request-Id\n\
         Vary: Origin\n"
    );
    assert_eq!(headers(Some(b"https://evil.example")), "Vary: Origin\n");
    assert_eq!(headers(None), "Vary: Origin\n");
}

#[test]
fn any_origin_is_answered_with_a_star_and_does_not_vary() {
    let policy = any();
    assert_eq!(policy.decide(b"GET", None, None, None), CorsDecision::NotCors);
    let CorsDecision::Simple { headers } = policy.decide(b"GET", Some(b"https://x.example"), None, None) else {
        panic!("not simple");
    };
    assert_eq!(text(&headers), "Access-Control-Allow-Origin: *\n");
    let decide = |headers| policy.decide(b"OPTIONS", Some(APP), Some(b"PATCH"), Some(headers));
    assert!(matches!(decide(b"x-anything"), CorsDecision::Preflight { .. }));
    assert_eq!(decide(b"authorization"), CorsDecision::Refused, "a star does not cover it");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let wrong = CorsConfig {
        origins: strings(&["*", "https://app.example.com/", "null"]),
        methods: strings(&["PUT", "trace", "A B"]),
        headers: strings(&["*"]),
        expose: strings(&[""]),
        credentials: true,
        max_age: None,
    };
    let errors = CorsPolicy::new(wrong).unwrap_err();
    assert_eq!(errors.len(), 8, "{errors:#?}");
    for expected in [
        CorsError::AnyAmongOrigins,
        CorsError::BadOrigin { origin: "null".to_owned() },
        CorsError::BadName { field: "methods", value: "A B".to_owned() },
        CorsError::ForbiddenMethod { value: "trace".to_owned() },
        CorsError::AnyWithCredentials { field: "origins" },
        CorsError::AnyWithCredentials { field: "headers" },
    ] {
        assert!(errors.contains(&expected), "{expected:?}");
    }
    assert_eq!(CorsPolicy::new(CorsConfig::default()), Err(vec![CorsError::NoOrigin]));
}

#[test]
fn origins_are_those_that_a_browser_would_send() {
    for good in [
        "https://a.example",
        "http://localhost:3000",
        "http://127.0.0.1",
        "http://[::1]:8080",
        "http://[::1]",
        "chrome-extension://abc",
        "http://a.example:443",
    ] {
        assert!(is_origin(good), "{good}");
    }
    for bad in [
        "a.example",
        "https://",
        "https://A.example",
        "HTTPS://a.example",
        "https://a.example/",
        "https://a.example:443",
        "http://a.example:80",
        "http://a.example:080",
        "http://a.example:",
        "http://a.example:99999",
        "http://u@a.example",
        "http://*.example",
        "http://[::0001]",
        "null",
        "",
    ] {
        assert!(!is_origin(bad), "{bad}");
    }
}
