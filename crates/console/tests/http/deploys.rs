//! Deployments that the node is told of, by operators, by pipelines and by webhooks: who may, what is kept, and that it
//! is kept once.

#![expect(clippy::unwrap_used, reason = "only tests use this module; a failure here is a test's failure")]

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::kit::{
    Admin, Answer, Api, DEPLOY_TOKEN, GITHUB_SECRET, OPERATOR_TOKEN, READER_TOKEN, ask, ask_raw, csrf, get,
};
use crate::problem;

const STATUS: &str = include_str!("webhooks/github_deployment_status.json");
const DEPLOYMENT: &str = include_str!("webhooks/github_deployment.json");
const PING: &str = include_str!("webhooks/github_ping.json");
const GITLAB: &str = include_str!("webhooks/gitlab_deployment.json");

const SHOP: &str = r#"{"service": "shop", "version": "4.2"}"#;

async fn post(addr: std::net::SocketAddr, query: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!("POST /v1/deploys{query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{headers}");
    let head = match headers.contains("Content-Type") {
        true => head,
        false => format!("{head}Content-Type: application/json\r\n"),
    };
    ask_raw(addr, format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).await
}

async fn tell(api: &Api, body: &str) -> Answer {
    post(api.addr, "", &format!("Authorization: Bearer {DEPLOY_TOKEN}\r\n"), body).await
}

fn signed(event: &str, body: &str, secret: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let signature: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("X-GitHub-Event: {event}\r\nX-Hub-Signature-256: sha256={signature}\r\n")
}

async fn github(api: &Api, event: &str, body: &str) -> Answer {
    post(api.addr, "", &signed(event, body, GITHUB_SECRET), body).await
}

async fn gitlab(api: &Api, body: &str) -> Answer {
    let headers = format!("X-Gitlab-Event: Deployment Hook\r\nX-Gitlab-Token: {DEPLOY_TOKEN}\r\n");
    post(api.addr, "", &headers, body).await
}

/// A body with one field changed.
fn with(body: &str, pointer: &str, value: Value) -> String {
    let mut body: Value = serde_json::from_str(body).unwrap();
    *body.pointer_mut(pointer).unwrap() = value;
    body.to_string()
}

fn kept(answer: &Answer) -> Value {
    assert_eq!((answer.status, &answer.json()["kept"]), (201, &json!(true)), "{answer:?}");
    answer.json()["deploy"].clone()
}

#[tokio::test]
async fn an_operator_tells_of_a_deployment_and_the_journal_has_it() {
    let admin = Admin::start(false).await;
    let proof = format!("X-CSRF-Token: {}\r\n", csrf(admin.addr, "Host: localhost\r\n").await);
    problem(&post(admin.addr, "", "", SHOP).await, 403, "csrf-refused");
    let answer = post(admin.addr, "", &proof, SHOP).await;
    assert_eq!(answer.json()["message"], "shop 4.2 was deployed to production (succeeded) by loopback");
    let wanted = json!({
        "service": "shop", "version": "4.2", "environment": "production", "status": "succeeded", "actor": "loopback",
        "url": "", "source": "api", "key": "",
    });
    assert_eq!(kept(&answer), wanted);
    let record = get(admin.addr, "/v1/journal?kind=deploy.marked").await.json()["records"][0].clone();
    assert_eq!((&record["data"], &record["mark"]), (&wanted, &json!(true)));
    // As long as those of webhooks may be, and one byte beyond.
    let long = |n: usize| format!("{SHOP}{}", " ".repeat(n - SHOP.len()));
    assert_eq!(post(admin.addr, "", &proof, &long(65_536)).await.status, 201);
    problem(&post(admin.addr, "", &proof, &long(65_537)).await, 413, "call-too-large");
    let strict = Admin::start(true).await;
    problem(&post(strict.addr, "", "", SHOP).await, 401, "token-required");
}

#[tokio::test]
async fn what_has_a_key_is_told_once() {
    let api = Api::start().await;
    let body = r#"{"service": "shop", "version": "4.2", "status": "started", "actor": "ann", "key": "run-7"}"#;
    let first = kept(&tell(&api, body).await);
    assert_eq!((&first["actor"], &first["status"]), (&json!("ann"), &json!("started")));
    let again = tell(&api, body).await;
    assert_eq!((again.status, &again.json()["kept"]), (200, &json!(true)), "{again:?}");
    assert!(again.json()["message"].as_str().unwrap().contains("was told before"), "{again:?}");
    kept(&tell(&api, &body.replace("run-7", "run-8")).await);
    // Without a key each call is one of its own.
    kept(&tell(&api, SHOP).await);
    kept(&tell(&api, SHOP).await);
    assert_eq!(api.node.past.deploys.lock().unwrap().len(), 4);
    // What another process was told stands in the journal.
    let mut mark = api.node.past.deploys.lock().unwrap()[0].clone();
    mark.key = "run-6".into();
    api.node.past.elsewhere.tell(mark.event());
    assert_eq!(tell(&api, &body.replace("run-7", "run-6")).await.status, 200);
    // The same key of another source is another one.
    mark.source = "github".into();
    mark.key = "run-5".into();
    api.node.past.elsewhere.tell(mark.event());
    kept(&tell(&api, &body.replace("run-7", "run-5")).await);
}

#[tokio::test]
async fn deliveries_at_the_same_time_are_kept_once() {
    let api = Api::start().await;
    let mut statuses = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    let addr = api.addr;
    for _ in 0..8 {
        tasks.spawn(
            async move { post(addr, "", &signed("deployment_status", STATUS, GITHUB_SECRET), STATUS).await.status },
        );
    }
    while let Some(status) = tasks.join_next().await {
        statuses.push(status.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 201]);
    assert_eq!(api.node.past.deploys.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_not_kept_is_not_acknowledged() {
    let api = Api::start().await;
    let body = r#"{"service": "shop", "version": "4.2", "key": "run-7"}"#;
    *api.node.past.disk_is_lost.lock().unwrap() = true;
    let answer = tell(&api, body).await;
    problem(&answer, 503, "not-kept");
    assert!(answer.json()["detail"].as_str().unwrap().contains("the disk is away"), "{answer:?}");
    *api.node.past.disk_is_lost.lock().unwrap() = false;
    kept(&tell(&api, body).await);
}

#[tokio::test]
async fn who_may_tell_is_known_by_token_or_signature() {
    let api = Api::start().await;
    let call = async |headers: &str| post(api.addr, "", headers, SHOP).await;
    let none = call("").await;
    problem(&none, 401, "token-required");
    assert_eq!(none.header("www-authenticate"), "Bearer realm=\"evenkeel\"");
    for token in [READER_TOKEN, OPERATOR_TOKEN] {
        let refused = call(&format!("Authorization: Bearer {token}\r\n")).await;
        problem(&refused, 403, "scope-missing");
        assert_eq!(refused.json()["scope"], "deploys:write");
        assert!(refused.header("www-authenticate").ends_with("scope=\"deploys:write\""));
    }
    problem(&call("X-Gitlab-Token: evk_nobody\r\n").await, 401, "token-required");
    problem(&call(&format!("X-Gitlab-Token: {DEPLOY_TOKEN}\r\nX-Gitlab-Token: x\r\n")).await, 401, "token-required");
    assert_eq!(call(&format!("X-Gitlab-Token: {DEPLOY_TOKEN}\r\n")).await.status, 201);
    assert_eq!(call(&format!("Authorization: bearer {DEPLOY_TOKEN}\r\n")).await.status, 201);
    // A token counts where it says, and nowhere else by the header of a webhook.
    let elsewhere = format!("GET /v1/token HTTP/1.1\r\nHost: x\r\nX-Gitlab-Token: {DEPLOY_TOKEN}\r\n");
    problem(&ask(api.addr, &elsewhere).await, 401, "token-required");
    let deploys = api.node.past.deploys.lock().unwrap().len();
    for (event, body, secret) in
        [("deployment_status", STATUS, "another"), ("deployment_status", DEPLOYMENT, GITHUB_SECRET)]
    {
        let headers = signed(event, body, secret);
        let refused = post(api.addr, "", &headers, STATUS).await;
        problem(&refused, 401, "token-required");
        assert!(!refused.body.contains(GITHUB_SECRET));
    }
    let bad = "X-GitHub-Event: deployment_status\r\nX-Hub-Signature-256: sha256=00\r\n";
    problem(&post(api.addr, "", bad, STATUS).await, 401, "token-required");
    // With the older signature alone nobody is known.
    let old = "X-GitHub-Event: deployment_status\r\nX-Hub-Signature: sha1=00\r\n";
    problem(&post(api.addr, "", old, STATUS).await, 401, "token-required");
    assert_eq!(api.node.past.deploys.lock().unwrap().len(), deploys);
    assert_eq!(github(&api, "deployment_status", STATUS).await.status, 201);
    // Without a shared secret a signature is nothing.
    api.server.update(console::ApiSettings::default());
    problem(&github(&api, "deployment_status", STATUS).await, 401, "token-required");
}

#[tokio::test]
async fn deployments_of_github_become_marks() {
    let api = Api::start().await;
    let mark = kept(&github(&api, "deployment_status", STATUS).await);
    let wanted = json!({
        "service": "shop", "version": "v4.2 (91b829b3)", "environment": "production", "status": "succeeded",
        "actor": "ann", "url": "https://github.example/acme/shop/actions/runs/77/job/9", "source": "github",
        "key": "1180023:succeeded:acme/shop",
    });
    assert_eq!(mark, wanted);
    assert_eq!(github(&api, "deployment_status", STATUS).await.status, 200, "the same delivery again");
    for (state, status) in [("in_progress", "started"), ("failure", "failed")] {
        let mark =
            kept(&github(&api, "deployment_status", &with(STATUS, "/deployment_status/state", state.into())).await);
        assert_eq!(mark["status"], status);
    }
    // An error after a failure is the same to those who look at a chart.
    let error = with(STATUS, "/deployment_status/state", "error".into());
    assert_eq!(github(&api, "deployment_status", &error).await.status, 200);
    let requested = kept(&github(&api, "deployment", DEPLOYMENT).await);
    assert_eq!((&requested["status"], &requested["actor"]), (&json!("requested"), &json!("bob")));
    assert_eq!(requested["url"], "https://github.example/acme/shop");
    let told = api.node.past.deploys.lock().unwrap().len();
    for (event, body) in [
        ("ping", PING.to_owned()),
        ("push", "{}".to_owned()),
        ("workflow_run", "{}".to_owned()),
        ("deployment_status", with(STATUS, "/deployment_status/state", "inactive".into())),
        ("deployment_status", with(STATUS, "/deployment_status/state", "queued".into())),
    ] {
        let answer = github(&api, event, &body).await;
        assert_eq!((answer.status, &answer.json()["kept"]), (200, &json!(false)), "{event}: {answer:?}");
    }
    problem(&github(&api, "deployment_status", "{}").await, 400, "malformed-call");
    problem(&github(&api, "deployment_status", "").await, 400, "malformed-call");
    assert_eq!(api.node.past.deploys.lock().unwrap().len(), told);
}

#[tokio::test]
async fn deployments_of_gitlab_become_marks() {
    let api = Api::start().await;
    let mark = kept(&gitlab(&api, GITLAB).await);
    let wanted = json!({
        "service": "shop", "version": "main (91b829b3)", "environment": "production", "status": "succeeded",
        "actor": "ann", "url": "https://gitlab.example/acme/web/shop/-/jobs/302172", "source": "gitlab",
        "key": "5200:succeeded:acme/web/shop",
    });
    assert_eq!(mark, wanted);
    assert_eq!(gitlab(&api, GITLAB).await.status, 200, "the same delivery again");
    for (state, status) in [("running", "started"), ("failed", "failed"), ("canceled", "canceled")] {
        assert_eq!(kept(&gitlab(&api, &with(GITLAB, "/status", state.into())).await)["status"], status);
    }
    let created = gitlab(&api, &with(GITLAB, "/status", "created".into())).await;
    assert_eq!((created.status, &created.json()["kept"]), (200, &json!(false)));
    let headers = format!("X-Gitlab-Event: Push Hook\r\nX-Gitlab-Token: {DEPLOY_TOKEN}\r\n");
    assert_eq!(post(api.addr, "", &headers, "{}").await.json()["kept"], false);
}

#[tokio::test]
async fn the_address_says_for_which_service_it_is() {
    let api = Api::start().await;
    let signed = signed("deployment_status", STATUS, GITHUB_SECRET);
    let mark = kept(&post(api.addr, "?service=checkout", &signed, STATUS).await);
    assert_eq!((&mark["service"], &mark["key"]), (&json!("checkout"), &json!("1180023:succeeded:acme/shop")));
    let bearer = format!("Authorization: Bearer {DEPLOY_TOKEN}\r\n");
    let answer = post(api.addr, "?service=checkout", &bearer, SHOP).await;
    assert!(answer.json()["message"].as_str().unwrap().ends_with("it shows in the journal only"), "{answer:?}");
    problem(&post(api.addr, "?srv=checkout", &bearer, SHOP).await, 400, "malformed-call");
    problem(&post(api.addr, "?service=a%0Ab", &bearer, SHOP).await, 400, "malformed-call");
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_by_its_name() {
    let api = Api::start().await;
    let long = "x".repeat(201);
    for (body, name) in [
        (json!({ "service": "shop" }), "version"),
        (json!({ "version": "4.2" }), "service"),
        (json!({ "service": " ", "version": "4.2" }), "service"),
        (json!({ "service": "shop", "version": long }), "version"),
        (json!({ "service": "shop", "version": "4.2\n" }), "version"),
        (json!({ "service": "shop", "version": "4.2", "url": "javascript:alert(1)" }), "url"),
        (json!({ "service": "shop", "version": "4.2", "actor": "\u{1b}[31m" }), "actor"),
        (json!({ "service": "shop", "version": "\u{202e}2.4" }), "version"),
    ] {
        let answer = tell(&api, &body.to_string()).await;
        problem(&answer, 400, "malformed-call");
        assert_eq!(answer.json()["parameter"], name, "{body}");
    }
    for body in ["", "shop", "[]", r#"{"service": "shop", "version": 4}"#, r#"{"service": "shop", "verion": "4"}"#] {
        problem(&tell(&api, body).await, 400, "malformed-call");
    }
    let form = format!("Authorization: Bearer {DEPLOY_TOKEN}\r\nContent-Type: application/x-www-form-urlencoded\r\n");
    let answer = post(api.addr, "", &form, "payload=%7B%7D").await;
    problem(&answer, 400, "malformed-call");
    assert!(answer.json()["detail"].as_str().unwrap().contains("Content type"), "{answer:?}");
    let both = format!("Authorization: Bearer {DEPLOY_TOKEN}\r\nX-GitHub-Event: ping\r\nX-Gitlab-Event: Push Hook\r\n");
    problem(&post(api.addr, "", &both, "{}").await, 400, "malformed-call");
    let most = "x".repeat(200);
    kept(&tell(&api, &json!({ "service": "shop", "version": most }).to_string()).await);
    assert_eq!(api.node.past.deploys.lock().unwrap().len(), 1);
}
