//! The API for applications: scoped tokens as `evenkeel token new` makes them, and what they open.

use testkit::Binary;

use crate::support::{Config, NewToken, ask, directory, json, new_token, run_in, saying};

struct Api {
    node: Binary,
    _shop: testkit::ServingUpstream,
    reader: NewToken,
    operator: NewToken,
}

fn api() -> Api {
    let shop = saying("x");
    let (reader, operator) = (new_token("dashboard", &["services:read"]), new_token("ops", &["operator"]));
    let node = Config::new()
        .service("shop", &[shop.addr()], "")
        .with("[api]\nlisten = \"127.0.0.1:0\"")
        .with(&reader.stanza)
        .with(&operator.stanza)
        .up();
    Api { node, _shop: shop, reader, operator }
}

#[test]
fn a_token_opens_what_its_scopes_say_and_nothing_else() {
    let api = api();
    let addr = api.node.api();
    let get = |path: &str, token: &str| ask(addr, &format!("GET {path}\nAuthorization: Bearer {token}"));
    for path in ["/v1/services", "/v1/services/shop", "/v1/token", "/unknown"] {
        for answer in [ask(addr, &format!("GET {path}")), get(path, "evk_nonsense"), get(path, &api.reader.hash)] {
            assert_eq!((answer.status, json(&answer)["code"].as_str()), (401, Some("token-required")), "{path}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"evenkeel\""));
        }
    }
    let refused = get("/v1/services", &api.operator.text);
    assert_eq!((refused.status, json(&refused)["code"].as_str()), (403, Some("scope-missing")));
    assert!(json(&refused)["detail"].as_str().unwrap().contains("services:read"));

    let services = json(&get("/v1/services", &api.reader.text));
    assert_eq!(services["services"][0]["name"], "shop");
    let shop = get("/v1/services/shop", &api.reader.text);
    assert_eq!((shop.status, json(&shop)["healthy"].as_u64()), (200, Some(1)));
    assert_eq!(get("/v1/services/none", &api.reader.text).status, 404);
    let who = json(&get("/v1/token", &api.operator.text));
    assert_eq!((who["name"].as_str(), who["scopes"][0].as_str()), (Some("ops"), Some("operator")));
}

#[test]
fn it_gives_no_operator_rights_and_its_probes_are_free() {
    let api = api();
    let addr = api.node.api();
    for path in ["/", "/metrics", "/v1/status", "/v1/csrf", "/v1/reload"] {
        let answer = ask(addr, &format!("GET {path}\nAuthorization: Bearer {}", api.operator.text));
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(ask(addr, &format!("GET {path}")).status, 200);
    }
    // Nor does it listen where the console does.
    assert_eq!(ask(api.node.console(), "GET /v1/services").status, 404);
}

#[test]
fn secrets_stay_where_they_are() {
    let token = new_token("dashboard", &["services:read"]);
    let shop = saying("x");
    let config = Config::new()
        .service("shop", &[shop.addr()], "")
        .with("[api]\nlisten = \"127.0.0.1:0\"")
        .with("[token.dashboard]\nhash = \"${file:secrets/dashboard}\"\nscopes = [\"services:read\"]")
        .with("[[route]]\nservice = \"shop\"\nrequest_headers = { set = { x-key = \"${env:EVENKEEL_TEST_KEY}\" } }")
        .text();
    let directory = directory(&config);
    std::fs::create_dir(directory.path().join("secrets")).unwrap();
    std::fs::write(directory.path().join("secrets/dashboard"), format!("{}\n", token.hash)).unwrap();
    let secrets = ["correct-horse-battery", token.hash.as_str(), &token.hash["sha256:".len()..]];
    let hides = |what: &str, text: &str| {
        secrets.iter().for_each(|secret| assert!(!text.contains(secret), "{what} shows {secret}:\n{text}"));
    };

    // `check --effective` has the references in place of what they stand for.
    let check = |args: &[&str]| {
        let mut command = crate::support::command();
        command.args(args).env("EVENKEEL_TEST_KEY", secrets[0]).current_dir(directory.path());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    for args in
        [&["check"][..], &["check", "--effective"], &["check", "--format", "json"], &["check", "--format", "sarif"]]
    {
        let (out, err) = check(args);
        hides(&args.join(" "), &format!("{out}{err}"));
    }
    let (effective, _) = check(&["check", "--effective"]);
    assert!(
        effective.contains("${file:secrets/dashboard}") && effective.contains("${env:EVENKEEL_TEST_KEY}"),
        "{effective}"
    );

    // A value that is wrong is not shown in the complaint about it.
    std::fs::write(directory.path().join("secrets/dashboard"), "sha256:correct-horse-battery").unwrap();
    let ended = run_in(directory.path(), &["check"]);
    assert_eq!(ended.code, Some(1));
    hides("a complaint", &format!("{}{}", ended.stdout, ended.stderr));
    assert!(ended.stdout.contains("token.dashboard") || ended.stdout.contains("secrets/dashboard"), "{}", ended.stdout);

    // Nor does a running node tell, whatever is asked for.
    let absolute = directory.path().join("secrets/token");
    std::fs::write(&absolute, &token.hash).unwrap();
    let config = config.replace("${file:secrets/dashboard}", &format!("${{file:{}}}", absolute.display()));
    let node = Binary::up_with(&config, &["--log", "debug"], &[("EVENKEEL_TEST_KEY", secrets[0])]).unwrap();
    assert_eq!(ask(node.gateway(), "GET /").status, 200);
    assert_eq!(shop.received().last().unwrap().header("x-key"), Some(secrets[0]));
    assert_eq!(ask(node.api(), &format!("GET /v1/services\nAuthorization: Bearer {}", token.text)).status, 200);
    for path in ["/", "/v1/status", "/metrics"] {
        hides(path, &ask(node.console(), &format!("GET {path}")).text());
    }
    node.write_config(&config.replace("services:read", "services:raed")).unwrap();
    node.signal(testkit::Signal::Hup).unwrap();
    node.wait_log("configuration refused", crate::support::SOON).unwrap();
    hides("the log", &node.logs());
    assert!(!node.logs().contains(&token.text), "the token itself is in the log");
}
