//! The commands that end by themselves: what they print, and with which code they end.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Config, command, directory, new_token, run, run_in, saying};

const GOOD: &str = "[gateway]\nlisten = \"127.0.0.1:8080\"\n[service.shop]\nendpoints = [\"127.0.0.1:9101\", \"127.0.0.1:9102\"]\n\
                    health = { path = \"/healthz\" }\n";

/// Legal, and unwise.
const UNWISE: &str = "[gateway]\nlisten = \"127.0.0.1:8080\"\nmin_rate = \"0B/s\"\n\
                      [service.shop]\nendpoints = [\"127.0.0.1:9101\"]\nhealth = { path = \"/healthz\" }\n";

const BAD: &str =
    "[gateway]\nlisten = \"127.0.0.1:8080\"\n[service.shop]\nendpoints = [\"127.0.0.1:9101\"]\ntimeuot = \"5s\"\n";

#[test]
fn check_ends_with_the_code_that_its_findings_deserve() {
    for (text, args, code) in [
        (GOOD, &["check"][..], 0),
        (UNWISE, &["check"], 0),
        (UNWISE, &["check", "--deny", "warnings"], 1),
        (UNWISE, &["check", "--deny", "notes"], 1),
        (BAD, &["check"], 1),
        (BAD, &["check", "-c", "evenkeel.toml", "--format", "json"], 1),
        (BAD, &["check", "-c", "other.toml"], 1),
        (GOOD, &["check", "--deny", "nothing"], 2),
    ] {
        let ended = run_in(directory(text).path(), args);
        assert_eq!(ended.code, Some(code), "{args:?} of {text}: {ended:?}");
    }
    let good = run_in(directory(GOOD).path(), &["check"]);
    assert_eq!(good.stdout, "evenkeel.toml is in order: 1 listener, 1 route, 1 service, 2 endpoints\n");
    assert_eq!(good.stderr, "");
}

#[test]
fn check_speaks_to_programs() {
    let directory = directory(BAD);
    let json: Value = serde_json::from_str(&run_in(directory.path(), &["check", "--format", "json"]).stdout).unwrap();
    let finding = &json["findings"][0];
    assert_eq!((json["errors"].as_u64(), finding["id"].as_str()), (Some(1), Some("unknown-key")), "{json:#}");
    assert_eq!((finding["place"]["line"].as_u64(), finding["place"]["column"].as_u64()), (Some(5), Some(1)));
    assert_eq!(finding["remedy"], "did you mean `timeout`?");

    let sarif: Value = serde_json::from_str(&run_in(directory.path(), &["check", "--format", "sarif"]).stdout).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let driver = &sarif["runs"][0]["tool"]["driver"];
    assert_eq!(driver["name"], "evenkeel");
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!((result["ruleId"].as_str(), result["level"].as_str()), (Some("unknown-key"), Some("error")));
    assert_eq!(driver["rules"][result["ruleIndex"].as_u64().unwrap() as usize]["id"], "unknown-key");
    assert_eq!(result["locations"][0]["physicalLocation"]["region"]["startLine"], 5);
    assert_eq!(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "evenkeel.toml");

    // Nothing wrong is an answer in each form as well.
    let directory = crate::support::directory(GOOD);
    for (format, list) in [("json", "/findings"), ("sarif", "/runs/0/results")] {
        let ended = run_in(directory.path(), &["check", "--format", format]);
        let value: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!((ended.code, value.pointer(list)), (Some(0), Some(&Value::Array(Vec::new()))), "{value:#}");
    }
}

#[test]
fn the_effective_configuration_is_a_configuration_that_means_the_same() {
    let first = directory(GOOD);
    let ended = run_in(first.path(), &["check", "--effective"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stdout.contains("connect_timeout = \"1s\"") && ended.stdout.contains("max_headers = 100"),
        "{}",
        ended.stdout
    );
    // What is written out is no default any more; the values are the same.
    let again = run_in(directory(&ended.stdout).path(), &["check", "--effective"]);
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("# default").next().unwrap_or_default().trim_end().to_owned()).collect()
    };
    assert_eq!((again.code, values(&again.stdout)), (Some(0), values(&ended.stdout)), "{}", again.stderr);
    // Of a file that cannot be used there is none.
    let broken = run_in(directory(BAD).path(), &["check", "--effective"]);
    assert_eq!((broken.code, broken.stdout.as_str()), (Some(1), ""));
    assert!(broken.stderr.contains("error[unknown-key]"), "{}", broken.stderr);
}

/// The ids that `explain --list` shows.
fn listed() -> BTreeSet<String> {
    let ended = run(&["explain", "--list"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ids = ended.stdout.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    ids.map(ToOwned::to_owned).collect()
}

#[test]
fn everything_that_can_be_said_can_be_explained() {
    let known: BTreeSet<String> = evenkeel::config::catalogue::topics().map(|topic| topic.id().to_owned()).collect();
    assert_eq!(listed(), known);
    assert!(kernel::ErrorCode::ALL.iter().all(|code| known.contains(code.code())));
    assert!(known.len() > kernel::ErrorCode::ALL.len() + 40, "{known:?}");
    for id in &known {
        let ended = run(&["explain", id]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{id}");
        assert!(ended.stdout.starts_with(&format!("# {id}\n")) && ended.stdout.len() > 200, "{id}: {}", ended.stdout);
    }
}

#[test]
fn what_cannot_be_explained_names_what_could_be_meant() {
    let ended = run(&["explain", "unkown-key"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("did you mean unknown-key?"), "{}", ended.stderr);
    let ended = run(&["explain"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
}

#[test]
fn help_names_every_command() {
    let ended = run(&["--help"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    for command in ["up", "check", "explain", "endpoint", "service", "token", "demo", "schema", "reference"] {
        let line = ended.stdout.lines().find(|line| line.trim_start().starts_with(&format!("{command} ")));
        let line = line.unwrap_or_else(|| panic!("no {command} in {}", ended.stdout));
        assert!(line.split_whitespace().count() > 3, "a command without a word about it: {line}");
        let own = run(&[command, "--help"]);
        assert_eq!(own.code, Some(0), "{own:?}");
        assert!(own.stdout.contains(&format!("evenkeel {command}")), "{}", own.stdout);
    }
    let version = run(&["--version"]);
    assert_eq!((version.code, version.stdout), (Some(0), format!("evenkeel {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn what_is_not_understood_ends_with_2_and_a_hint() {
    for (args, hint) in [
        (&["upp"][..], "unrecognized subcommand 'upp'"),
        (&["up", "--confg", "x"], "--config"),
        (&["demo", "--for", "10"], "such as 10s"),
        (&["token", "new", "Ops!", "--scope", "operator"], "is not a name"),
        (&["token", "new", "ops", "--scope", "root"], "operator"),
        (&["token", "new", "ops"], "--scope"),
        (&["endpoint", "drain", "shop", "127.0.0.1:1"], "--reason"),
        (&["endpoint", "drain", "shop", "--reason", "x"], "ENDPOINT"),
        (&["endpoint", "list", "--admin", "https://127.0.0.1:1"], "a node speaks http"),
        (&["service", "failover", "shop", "--reason", "x", "--tier", "256"], "256"),
        (&["service", "list", "-c", "none.toml"], "cannot read none.toml"),
        (&["up", "--log", "info,[=debug"], "is not a level or a filter"),
    ] {
        let ended = run(args);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(hint), "{args:?}: no {hint:?} in {}", ended.stderr);
    }
    let ended = run(&[]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("Usage: evenkeel"), "{}", ended.stderr);
}

#[test]
fn who_has_read_enough_may_close_the_pipe() {
    let shop = saying("hello");
    let node = Config::new().service("shop", &[shop.addr()], "").up();
    let admin = format!("http://{}", node.console());
    let remote = |args: &[&'static str]| [args, &["--admin"]].concat();
    let cases = [
        (vec!["explain", "--list"], false),
        (vec!["schema"], false),
        (vec!["reference"], false),
        (remote(&["status"]), true),
        (remote(&["status", "--watch"]), true),
        (remote(&["journal"]), true),
        (remote(&["journal", "--follow"]), true),
        (remote(&["why"]), true),
        (remote(&["ready"]), true),
        (remote(&["endpoint", "list"]), true),
    ];
    for (args, is_remote) in cases {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = command().args(&args).args(is_remote.then_some(&admin)).stdout(writer).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.code() == Some(0) && said.is_empty(), "{args:?}: {:?} {said}", ended.status);
    }
}

#[test]
fn a_new_token_comes_with_the_stanza_that_lets_it_in() {
    let (one, two) = (new_token("ops", &["operator", "services:read"]), new_token("ops", &["operator"]));
    assert_ne!(one.text, two.text);
    assert_eq!(one.stanza.matches(&one.text).count(), 1);
    let config = format!("{GOOD}[api]\nlisten = \"127.0.0.1:7071\"\n{}", one.stanza);
    let ended = run_in(directory(&config).path(), &["check", "--deny", "notes"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
}

#[test]
fn the_schema_is_json_and_the_reference_names_every_table() {
    let schema: Value = serde_json::from_str(&run(&["schema"]).stdout).unwrap();
    assert!(schema["properties"]["gateway"].is_object(), "{schema:#}");
    let reference = run(&["reference"]).stdout;
    for table in schema["properties"].as_object().unwrap().keys() {
        assert!(reference.contains(&format!("[{table}")), "no [{table}] in the reference");
    }
}
