//! Pools: the same in three shapes, lists with a bound, and orders that reach the node as they were meant.

use crate::kit::{Admin, Answer, POOL_HOSTILE, ask, ask_raw, csrf, get};
use crate::{BROWSER, problem};

const JSON: &str = "Content-Type: application/json\r\n";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

async fn read(admin: &Admin, path: &str, headers: &str) -> Answer {
    ask(admin.addr, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}")).await
}

async fn post(admin: &Admin, path: &str, headers: &str, body: &str) -> Answer {
    let csrf = csrf(admin.addr, "Host: localhost\r\n").await;
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n", body.len());
    let request = format!("{head}X-CSRF-Token: {csrf}\r\n{headers}Connection: close\r\n\r\n{body}");
    ask_raw(admin.addr, request.as_bytes()).await
}

#[tokio::test]
async fn pools_and_what_is_in_them_are_read_as_json() {
    let admin = Admin::start(false).await;
    let all = get(admin.addr, "/v1/pools").await.json();
    assert_eq!((&all["pools"][0]["name"], &all["pools"][0]["primary"]), (&"main".into(), &"a:5432".into()), "{all}");
    let one = get(admin.addr, "/v1/pools/main").await.json();
    assert_eq!((&one["state"], &one["groups"][0]["transactions_total"]), (&"ok".into(), &50.into()), "{one}");
    let statements = get(admin.addr, "/v1/pools/main/statements?limit=3").await.json();
    assert_eq!((statements["statements"].as_array().map(Vec::len), &statements["more"]), (Some(3), &true.into()));
    let clients = get(admin.addr, "/v1/pools/main/clients").await.json();
    assert_eq!((&clients["clients"][0]["id"], &clients["more"]), (&7.into(), &false.into()));
    let servers = get(admin.addr, "/v1/pools/main/servers").await.json();
    assert_eq!((&servers["servers"][1]["role"], &servers["connections"][0]["id"]), (&"drained".into(), &8.into()));
    for (path, status, code) in [
        ("/v1/pools/other", 404, "name-unknown"),
        ("/v1/pools/other/clients", 404, "name-unknown"),
        ("/v1/pools/main/pause", 405, "method-not-allowed"),
        ("/v1/pools/main/clients?limit=0", 400, "malformed-call"),
        ("/pools/other", 404, "name-unknown"),
    ] {
        problem(&read(&admin, path, "").await, status, code);
    }
}

#[tokio::test]
async fn a_pool_has_a_page_and_text_in_which_names_stay_text() {
    let admin = Admin::start(false).await;
    let page = read(&admin, "/pools/main", BROWSER).await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(!page.body.contains("<script>alert") && !page.body.contains('\u{1b}'), "{}", page.body);
    for wanted in [
        "Pool main",
        "The primary of main is a:5432.",
        "Statements",
        "25 of 30",
        "Let it back in",
        "formaction=\"/v1/pools/main/pause\"",
    ] {
        assert!(page.body.contains(wanted), "{wanted}: {}", page.body);
    }
    let text = read(&admin, "/pools/main", "Accept: text/plain\r\n").await.body;
    assert!(text.contains("SERVER") && text.contains("b:5432") && text.contains("FINGERPRINT"), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains(POOL_HOSTILE), "{text}");
    let home = read(&admin, "/", BROWSER).await.body;
    assert!(home.contains("href=\"/pools/main\""), "{home}");
    let home = read(&admin, "/", "Accept: text/plain\r\n").await.body;
    assert!(home.contains("\nPOOL ") && home.contains("a:5432"), "{home}");
    let status = get(admin.addr, "/v1/status").await.json();
    assert_eq!(status["pools"][0]["clients_waiting"], 2, "{status}");
}

#[tokio::test]
async fn orders_reach_the_node_as_they_were_meant() {
    let admin = Admin::start(false).await;
    let answer = post(&admin, "/v1/pools/main/pause", JSON, r#"{"reason":" a new disk "}"#).await;
    assert_eq!((answer.status, &answer.json()["message"]), (200, &"it is done".into()), "{answer:?}");
    for (path, body) in [
        ("resume", "{}"),
        ("failover", r#"{"reason":"rack","to":"b:5432"}"#),
        ("failover", r#"{"reason":"rack"}"#),
        ("drain", r#"{"reason":"disk","server":"a:5432"}"#),
        ("undrain", r#"{"server":"a:5432"}"#),
        ("kill", r#"{"reason":"loops","statement":"00ff"}"#),
        ("kill", r#"{"reason":"loops","user":"batch"}"#),
        ("reconnect", ""),
    ] {
        let kind = if body.is_empty() { "" } else { JSON };
        assert_eq!(post(&admin, &format!("/v1/pools/main/{path}"), kind, body).await.status, 200, "{path} {body}");
    }
    assert_eq!(
        admin.node.acts(),
        [
            "main Pause \"a new disk\" by loopback",
            "main Resume \"\" by loopback",
            "main Failover { to: Some(\"b:5432\") } \"rack\" by loopback",
            "main Failover { to: None } \"rack\" by loopback",
            "main Drain { server: \"a:5432\" } \"disk\" by loopback",
            "main Undrain { server: \"a:5432\" } \"\" by loopback",
            "main KillStatement(\"00ff\") \"loops\" by loopback",
            "main KillUser(\"batch\") \"loops\" by loopback",
            "main Reconnect \"\" by loopback",
        ]
    );
    let form =
        post(&admin, "/v1/pools/main/drain", &format!("{FORM}{BROWSER}"), "csrf=x&server=a%3A5432&reason=disk").await;
    assert_eq!((form.status, form.header("location")), (303, "/pools/main"), "{form:?}");
    assert_eq!(admin.node.acts(), ["main Drain { server: \"a:5432\" } \"disk\" by loopback"]);
}

#[tokio::test]
async fn orders_that_cannot_be_meant_are_refused_and_none_reaches_the_node() {
    let admin = Admin::start(false).await;
    for (path, body, status, code) in [
        ("main/explode", "{}", 404, "not-found"),
        ("main/drain", r#"{"reason":"x"}"#, 400, "malformed-call"),
        ("main/pause", r#"{"reason":"x","server":"a"}"#, 400, "malformed-call"),
        ("main/kill", r#"{"reason":"x"}"#, 400, "malformed-call"),
        ("main/kill", r#"{"reason":"x","user":"a","statement":"b"}"#, 400, "malformed-call"),
        ("main/kill", r#"{"reason":"x","client":"seven"}"#, 400, "malformed-call"),
        ("main/pause", "[]", 400, "malformed-call"),
        ("main/pause", r#"{"reason":{}}"#, 400, "malformed-call"),
    ] {
        problem(&post(&admin, &format!("/v1/pools/{path}"), JSON, body).await, status, code);
    }
    let unmeant = ask_raw(
        admin.addr,
        b"POST /v1/pools/main/pause HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    )
    .await;
    problem(&unmeant, 403, "csrf-refused");
    assert_eq!(admin.node.acts(), [] as [&str; 0]);
    problem(&post(&admin, "/v1/pools/other/pause", JSON, r#"{"reason":"x"}"#).await, 404, "name-unknown");
    problem(&post(&admin, "/v1/pools/main/kill", JSON, r#"{"reason":"x","client":7}"#).await, 422, "action-refused");
}
