//! Endpoints that register themselves, over a real socket: what is taken, from whom, and what they are told.

use std::time::Duration;

use crate::kit::{Answer, Api, OPERATOR_TOKEN, READER_TOKEN, SHOP_TOKEN, ask_raw};
use console::registrar::Wish;

const HERE: &str = "/v1/services/shop/endpoints/10.0.0.7:8080";

async fn call(api: &Api, method: &str, path: &str, token: &str, body: &str) -> Answer {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {token}\r\n{length}Connection: close");
    ask_raw(api.addr, format!("{head}\r\n\r\n{body}").as_bytes()).await
}

async fn put(api: &Api, path: &str, body: &str) -> Answer {
    call(api, "PUT", path, SHOP_TOKEN, body).await
}

fn problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.header("content-type")), (status, "application/problem+json"), "{answer:?}");
    assert_eq!(answer.json()["code"], code, "{answer:?}");
}

#[tokio::test]
async fn an_endpoint_registers_renews_and_leaves() {
    let api = Api::start().await;
    let first = put(&api, HERE, r#"{"lease": "3s", "weight": 2, "tier": 1}"#).await;
    assert_eq!(first.status, 201, "{first:?}");
    let said = first.json();
    assert_eq!((said["service"].as_str(), said["endpoint"].as_str()), (Some("shop"), Some("10.0.0.7:8080")));
    assert_eq!((said["lease"].as_str(), said["expires_in_seconds"].as_f64()), (Some("3s"), Some(3.0)));
    assert_eq!(said["renew_in_seconds"].as_f64(), Some(1.0));
    let wish = Wish { lease: Some(Duration::from_secs(3)), weight: 2, tier: 1 };
    assert_eq!(api.register.wishes(), [("10.0.0.7:8080".parse().unwrap(), wish)]);
    // Again, and without anything said: 200, with what the register gives by itself.
    let again = put(&api, HERE, "").await;
    assert_eq!((again.status, again.json()["lease"].as_str()), (200, Some("10s")));
    assert_eq!(api.register.wishes()[0].1, Wish { lease: None, weight: 1, tier: 0 });
    assert_eq!(put(&api, "/v1/services/shop/endpoints/[fd00::7]:8080", "{}").await.status, 201);
    problem(&put(&api, "/v1/services/shop/endpoints/10.0.0.9:8080", "").await, 409, "registrations-full");
    let gone = call(&api, "DELETE", HERE, SHOP_TOKEN, "").await;
    assert_eq!((gone.status, gone.body.as_str()), (204, ""));
    problem(&call(&api, "DELETE", HERE, SHOP_TOKEN, "").await, 404, "not-found");
    problem(&call(&api, "POST", HERE, SHOP_TOKEN, "").await, 405, "method-not-allowed");
}

#[tokio::test]
async fn a_token_speaks_for_its_service_alone() {
    let api = Api::start().await;
    for token in [OPERATOR_TOKEN, READER_TOKEN] {
        for method in ["PUT", "DELETE"] {
            let refused = call(&api, method, HERE, token, "").await;
            problem(&refused, 403, "scope-missing");
            assert_eq!(refused.json()["scope"], "register:shop");
            assert!(refused.header("www-authenticate").contains("insufficient_scope"));
        }
    }
    // Whether there is such a service is nothing that a token of another one learns.
    for other in ["cart", "shop2", "SHOP", "*", "%E2%98%83"] {
        problem(&put(&api, &format!("/v1/services/{other}/endpoints/10.0.0.7:8080"), "").await, 403, "scope-missing");
    }
    problem(&call(&api, "PUT", HERE, "evk_nobody", "").await, 401, "token-required");
    problem(&call(&api, "GET", "/v1/services", SHOP_TOKEN, "").await, 403, "scope-missing");
    assert!(api.register.wishes().is_empty());
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused() {
    let api = Api::start().await;
    for bad in ["shop", "10.0.0.7", "10.0.0.7:0", "10.0.0.7:99999", "0.0.0.0:80", "[::]:80", "224.0.0.1:80", "a:b"] {
        let answer = put(&api, &format!("/v1/services/shop/endpoints/{bad}"), "").await;
        problem(&answer, 422, "registration-refused");
        assert!(answer.json()["detail"].as_str().unwrap().contains("10.0.0.7:8080"), "{answer:?}");
    }
    for bad in [
        "{",
        "[]",
        "null",
        r#"{"leese": "10s"}"#,
        r#"{"lease": 10}"#,
        r#"{"lease": "10"}"#,
        r#"{"weight": -1}"#,
        r#"{"weight": 1.5}"#,
        r#"{"tier": 256}"#,
        r#"{"lease": "1s", "lease": "2s"}"#,
        r#"{} {}"#,
    ] {
        problem(&put(&api, HERE, bad).await, 400, "malformed-call");
    }
    for bad in [r#"{"weight": 0}"#, r#"{"weight": 101}"#, r#"{"tier": 10}"#, r#"{"lease": "1ms"}"#] {
        problem(&put(&api, HERE, bad).await, 422, "registration-refused");
    }
    problem(&put(&api, HERE, &" ".repeat(20_000)).await, 413, "call-too-large");
    assert!(api.register.wishes().is_empty());
}
