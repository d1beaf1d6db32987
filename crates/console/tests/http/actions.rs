//! What operators do: calls that are read strictly, handed to the node as they were meant, and answered in the caller's
//! shape.

use crate::kit::{Admin, Answer, OPERATOR_TOKEN, ask, ask_raw, csrf, get};
use crate::{BROWSER, problem};

const JSON: &str = "Content-Type: application/json\r\n";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

struct Operator {
    admin: Admin,
    csrf: String,
}

impl Operator {
    async fn new() -> Operator {
        let admin = Admin::start(false).await;
        let csrf = csrf(admin.addr, "Host: localhost\r\n").await;
        Operator { admin, csrf }
    }

    /// With the token in a header.
    async fn post(&self, path: &str, headers: &str, body: &str) -> Answer {
        self.bare(path, &format!("X-CSRF-Token: {}\r\n{headers}", self.csrf), body).await
    }

    async fn bare(&self, path: &str, headers: &str, body: &str) -> Answer {
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{headers}", body.len());
        ask_raw(self.admin.addr, format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).await
    }
}

const DRAIN: &str = "/v1/services/shop/endpoints/a:1/drain";

#[tokio::test]
async fn an_action_reaches_the_node_as_it_was_meant() {
    let operator = Operator::new().await;
    let answer = operator.post(DRAIN, JSON, r#"{"reason":"  a new disk "}"#).await;
    assert_eq!((answer.status, answer.json()["kept"].as_bool()), (200, Some(true)), "{answer:?}");
    assert_eq!(answer.json()["message"], "it is done");
    operator.post("/v1/services/shop/endpoints/a:1/down", JSON, r#"{"reason":"x","force":true}"#).await;
    operator.post("/v1/services/shop/endpoints/%5B::1%5D:80%2Fx%20y/resume", "", "").await;
    operator.post("/v1/services/shop/failover", JSON, r#"{"reason":"rack","tier":1}"#).await;
    operator.post("/v1/services/shop/failover", JSON, r#"{"reason":"rack"}"#).await;
    operator.post("/v1/services/shop/failback", JSON, "{}").await;
    assert_eq!(
        operator.admin.node.acts(),
        [
            "shop a:1 Drain \"a new disk\" by loopback",
            "shop a:1 Down \"x\" by loopback, force",
            "shop [::1]:80/x y Resume \"\" by loopback",
            "shop Failover { tier: Some(1) } \"rack\" by loopback",
            "shop Failover { tier: None } \"rack\" by loopback",
            "shop Failback \"\" by loopback",
        ]
    );
    let text = operator.post(DRAIN, &format!("{JSON}Accept: text/plain\r\n"), r#"{"reason":"x"}"#).await;
    assert_eq!((text.status, &*text.body), (200, "it is done\n"));
}

#[tokio::test]
async fn a_form_of_the_page_leads_back_to_it() {
    let operator = Operator::new().await;
    let browser = format!("{FORM}{BROWSER}");
    let body = format!("csrf={}&reason=a+new+disk%21", operator.csrf);
    let answer = operator.bare(DRAIN, &browser, &body).await;
    assert_eq!((answer.status, answer.header("location")), (303, "/services/shop"), "{answer:?}");
    let body = format!("csrf={}&reason=x&force=true&tier=", operator.csrf);
    assert_eq!(operator.bare("/v1/services/shop/failover", &browser, &body).await.status, 303);
    assert_eq!(
        operator.admin.node.acts(),
        ["shop a:1 Drain \"a new disk!\" by loopback", "shop Failover { tier: None } \"x\" by loopback, force"]
    );
    // What was not done has a page of its own, which says why.
    let body = format!("csrf={}&reason=x", operator.csrf);
    let refused = operator.bare("/v1/services/shop/endpoints/b:2/drain", &browser, &body).await;
    assert_eq!((refused.status, refused.header("content-type")), (409, "text/html; charset=utf-8"));
    assert!(refused.body.contains("b:2 is the last one"), "{}", refused.body);
}

#[tokio::test]
async fn what_is_not_understood_reaches_no_node() {
    let operator = Operator::new().await;
    let bodies = [
        (JSON, ""),
        (JSON, "reason"),
        (JSON, r#"{"reason":"x","forced":true}"#),
        (JSON, r#"{"reason":7}"#),
        (JSON, r#"{"reason":"x","force":"yes"}"#),
        (JSON, r#"{"reason":"x","tier":1}"#),
        ("", r#"{"reason":"x"}"#),
        ("Content-Type: text/plain\r\n", "reason"),
        (FORM, "reason=x&other=1"),
        (FORM, "reason=x&reason=y"),
        (FORM, "reason=x&force=maybe"),
        (FORM, "reason=x&tier=second"),
    ];
    for (kind, body) in bodies {
        problem(&operator.post(DRAIN, kind, body).await, 400, "malformed-call");
    }
    problem(&operator.post("/v1/services/shop/failback", JSON, r#"{"tier":1}"#).await, 400, "malformed-call");
    problem(&operator.post("/v1/services/shop/failover", JSON, r#"{"tier":256}"#).await, 400, "malformed-call");
    for path in [
        "/v1/services/shop/endpoints/a:1/explode",
        "/v1/services/shop/explode",
        "/v1/services/shop/endpoints/%ff/drain",
        "/v1/services/%ff/failover",
    ] {
        problem(&operator.post(path, "", "").await, 404, "not-found");
    }
    problem(&get(operator.admin.addr, DRAIN).await, 405, "method-not-allowed");
    // Without proof that it was meant, and without a token where one is needed.
    problem(&operator.bare(DRAIN, JSON, r#"{"reason":"x"}"#).await, 403, "csrf-refused");
    problem(&operator.bare(DRAIN, FORM, "reason=x&csrf=0000").await, 403, "csrf-refused");
    assert_eq!(operator.admin.node.acts(), [""; 0]);
    let strict = Admin::start(true).await;
    let head = format!("POST {DRAIN} HTTP/1.1\r\nHost: keel.example\r\nContent-Length: 0\r\n");
    problem(&ask(strict.addr, &head).await, 401, "token-required");
    let head = format!("{head}Authorization: Bearer {OPERATOR_TOKEN}\r\n");
    problem(&ask(strict.addr, &head).await, 403, "csrf-refused");
    let bearer = format!("Host: keel.example\r\nAuthorization: Bearer {OPERATOR_TOKEN}\r\n");
    let csrf = csrf(strict.addr, &bearer).await;
    let head = format!("POST {DRAIN} HTTP/1.1\r\n{bearer}X-CSRF-Token: {csrf}\r\nContent-Length: 0\r\n");
    assert_eq!(ask(strict.addr, &head).await.status, 200);
    // The log and the decision name the token.
    assert_eq!(strict.node.acts(), ["shop a:1 Drain \"\" by ops"]);
}

#[tokio::test]
async fn what_the_node_does_not_do_is_told_with_the_names_that_it_knows() {
    let operator = Operator::new().await;
    let answer = operator.post("/v1/services/shop/endpoints/c:3/drain", JSON, r#"{"reason":"x"}"#).await;
    problem(&answer, 404, "name-unknown");
    assert_eq!(answer.json()["known"], serde_json::json!(["a:1", "b:2"]));
    assert!(answer.json()["detail"].as_str().unwrap().contains("it has a:1, b:2"), "{answer:?}");
    let answer = operator.post("/v1/services/shpo/endpoints/a:1/drain", JSON, r#"{"reason":"x"}"#).await;
    problem(&answer, 404, "name-unknown");
    assert_eq!(answer.json()["known"], serde_json::json!(["shop"]));
    let answer = operator.post("/v1/services/shop/endpoints/b:2/drain", JSON, r#"{"reason":"x"}"#).await;
    problem(&answer, 409, "last-endpoint");
    let answer = operator.post("/v1/services/shop/failover", JSON, r#"{"reason":"x","tier":7}"#).await;
    problem(&answer, 422, "action-refused");
}

#[tokio::test]
async fn a_service_has_a_page_with_what_can_be_done_and_its_forms_are_not_replaced() {
    let admin = Admin::start(false).await;
    let page = ask(admin.addr, &format!("GET /services/shop HTTP/1.1\r\nHost: localhost\r\n{BROWSER}")).await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    for part in [
        "formaction=\"/v1/services/shop/endpoints/a:1/drain\"",
        "formaction=\"/v1/services/shop/endpoints/b:2/down\"",
        "action=\"/v1/services/shop/failover\"",
        "name=\"csrf\"",
        "name=\"reason\" required",
        "<option value=\"1\" selected>",
    ] {
        assert!(page.body.contains(part), "no {part} in {}", page.body);
    }
    for part in ["http-equiv=\"refresh\"", "style=\"", "/resume", "/failback", "name=\"force\""] {
        assert!(!page.body.contains(part), "{part} in {}", page.body);
    }
    // What is sent anew while the page is open holds no form, in which somebody may be typing.
    let at = |text: &str| page.body.find(text).unwrap_or_else(|| panic!("no {text} in {}", page.body));
    assert!(at("id=\"charts\"") < at("<form") && at("</form>") < at("<div id=\"events\""));
    let home = ask(admin.addr, &format!("GET / HTTP/1.1\r\nHost: localhost\r\n{BROWSER}")).await;
    assert!(home.body.contains("href=\"/services/shop\"") && home.body.contains("2 of 2 healthy"));
    let text = get(admin.addr, "/services/shop").await;
    assert!(text.body.starts_with("SERVICE") && text.body.contains("TIER"), "{}", text.body);
    let json = ask(admin.addr, "GET /services/shop HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n").await;
    assert_eq!((json.json()["tiers"].as_u64(), json.json()["active_tier"].as_u64()), (Some(2), Some(0)));
    problem(&get(admin.addr, "/services/none").await, 404, "name-unknown");
    problem(&get(admin.addr, "/services/%ff").await, 404, "name-unknown");
}
