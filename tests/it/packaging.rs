//! What the examples for packages say is what the binary takes: unit files, the container's commands, the Debian package.

use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::{Binary, eventually};

use crate::support::{COMMAND, Config, SOON, directory, run, run_in, saying};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

#[track_caller]
fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The example with every address on a free port and the store in `store`; and what it is started with.
#[track_caller]
fn movable(path: &str, store: &Path) -> String {
    let text = read(path);
    let mut moved = String::new();
    for line in text.lines() {
        let line = match line.split_once(" = ") {
            Some(("listen", _)) => "listen = \"127.0.0.1:0\"".to_owned(),
            Some(("directory", value)) if value.contains("${env:") => line.to_owned(),
            Some(("directory", _)) => format!("directory = \"{}\"", store.display()),
            _ => line.to_owned(),
        };
        moved.push_str(&format!("{line}\n"));
    }
    moved
}

/// The value of `Key=` in a unit file; the last one counts.
#[track_caller]
fn setting(unit: &str, key: &str) -> String {
    let found = unit.lines().rev().find_map(|line| line.strip_prefix(&format!("{key}=")));
    found.unwrap_or_else(|| panic!("no {key}= in\n{unit}")).to_owned()
}

#[test]
fn the_unit_starts_the_binary_as_it_can_be_started() {
    let unit = read("examples/systemd/evenkeel.service");
    let start = setting(&unit, "ExecStart");
    let words: Vec<&str> = start.split_whitespace().collect();
    let ["/usr/bin/evenkeel", "up", "--config", "/etc/evenkeel/evenkeel.toml"] = words[..] else { panic!("{start}") };
    assert_eq!((setting(&unit, "Type").as_str(), setting(&unit, "NotifyAccess").as_str()), ("notify", "all"));
    // What the package puts there runs under what the unit gives.
    let store = tempfile::tempdir().unwrap();
    let config = movable("examples/systemd/evenkeel.toml", store.path());
    let state = ("STATE_DIRECTORY", store.path().to_str().unwrap());
    let node = Binary::up_with(&config, &[], &[state]).unwrap();
    assert!(store.path().join("handover.sock").exists(), "{}", node.logs());
    // The unit's time to stop is longer than the node's own.
    let stop = setting(&unit, "TimeoutStopSec");
    assert!(stop.trim_end_matches('s').parse::<u64>().unwrap() > 5 + 30, "{stop}");
}

/// Fails the test unless systemd takes the units, where there is a systemd to ask.
#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let place = tempfile::tempdir().unwrap();
    let binary = testkit::binary::find().unwrap();
    let unit = read("examples/systemd/evenkeel.service").replace("/usr/bin/evenkeel", binary.to_str().unwrap());
    let paths = ["evenkeel.service", "evenkeel.socket"].map(|name| place.path().join(name));
    std::fs::write(&paths[0], unit).unwrap();
    std::fs::write(&paths[1], read("examples/systemd/evenkeel.socket")).unwrap();
    let Ok(output) = Command::new("systemd-analyze").arg("verify").args(&paths).output() else {
        // Another system; its settings are looked at by the other tests.
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !said.contains("evenkeel."), "{said}");
}

#[test]
fn the_socket_unit_names_a_listener() {
    let unit = read("examples/systemd/evenkeel.socket");
    assert_eq!(setting(&unit, "FileDescriptorName"), "gateway");
    let config = read("examples/systemd/evenkeel.toml");
    let port = setting(&unit, "ListenStream");
    assert!(config.contains(&format!("listen = \"0.0.0.0:{port}\"")), "{config}");
}

/// The instructions of a container file, a line each.
#[track_caller]
fn instructions() -> Vec<(String, String)> {
    let text = read("examples/container/Containerfile").replace("\\\n", " ");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').unwrap()).map(|(k, v)| (k.to_owned(), v.trim().to_owned())).collect()
}

/// The arguments of an instruction in its JSON form.
#[track_caller]
fn words(instructions: &[(String, String)], name: &str) -> Vec<String> {
    let found = instructions.iter().find(|(instruction, _)| instruction == name);
    let text = &found.unwrap_or_else(|| panic!("no {name}")).1;
    serde_json::from_str(&text[text.find('[').unwrap()..]).unwrap()
}

#[test]
fn what_the_container_is_built_from_is_there_and_it_starts_as_nobody() {
    let instructions = instructions();
    let mut copied = Vec::new();
    for (_, what) in instructions.iter().filter(|(name, what)| name == "COPY" && !what.starts_with("--from")) {
        let mut paths: Vec<&str> = what.split_whitespace().collect();
        paths.pop();
        copied.extend(paths.iter().map(|path| (*path).to_owned()));
    }
    for path in &copied {
        assert!(root().join(path).exists(), "{path} is copied and is not there");
    }
    // Each member of the workspace is needed to build any of it.
    let manifest = read("Cargo.toml");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).unwrap();
    let members: Vec<String> = serde_json::from_str(members).unwrap();
    for member in members {
        let member = member.trim_end_matches("/*");
        assert!(copied.iter().any(|path| member.starts_with(path.as_str())), "{member} is not copied");
    }
    let user = &instructions.iter().find(|(name, _)| name == "USER").unwrap().1;
    assert!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)), "{user}");
}

#[test]
fn the_containers_commands_are_the_binarys() {
    let instructions = instructions();
    assert_eq!(words(&instructions, "ENTRYPOINT"), ["evenkeel"]);
    let up = words(&instructions, "CMD");
    assert_eq!(up, ["up", "--config", "/etc/evenkeel/evenkeel.toml"]);
    let health = words(&instructions, "HEALTHCHECK");
    assert_eq!(health, ["evenkeel", "ready", "--config", "/etc/evenkeel/evenkeel.toml"]);

    // The example's configuration runs, and the health check finds the node through such a file.
    let store = tempfile::tempdir().unwrap();
    let config = movable("examples/container/evenkeel.toml", store.path());
    let node = Binary::up_with(&config, &[], &[]).unwrap();
    let admin = format!("[gateway]\nlisten = \"127.0.0.1:1\"\n[admin]\nlisten = \"{}\"\n", node.console());
    let place = directory(&admin);
    // It becomes ready once DNS was asked.
    let ready = || run_in(place.path(), &["ready", "--config", "evenkeel.toml"]);
    let asked = eventually(SOON, "readiness", || Some(ready()).filter(|asked| asked.code == Some(0)));
    assert_eq!(asked.stdout, "ready\n");
    drop(node);
    assert_eq!(run_in(place.path(), &["ready", "--config", "evenkeel.toml"]).code, Some(2));
}

#[test]
fn a_node_that_stops_is_not_ready() {
    let shop = saying("x");
    let node = Config::new().gateway("drain_delay = \"10m\"").service("shop", &[shop.addr()], "").up();
    let admin = format!("http://{}", node.console());
    assert_eq!(run(&["ready", "--admin", &admin]).code, Some(0));
    node.signal(testkit::Signal::Term).unwrap();
    node.wait_log("stopping", SOON).unwrap();
    let asked = Binary::run(&["ready", "--admin", &admin, "--json"], None, COMMAND).unwrap();
    assert_eq!(asked.code, Some(1), "{asked:?}");
    let json: serde_json::Value = serde_json::from_str(&asked.stdout).unwrap();
    assert_eq!((json["ready"].as_bool(), json["message"].as_str()), (Some(false), Some("not ready: stopping")));
}

#[test]
fn the_compose_file_fits_the_container() {
    let compose = read("examples/container/compose.yaml");
    let config = read("examples/container/evenkeel.toml");
    for needed in [
        "dockerfile: examples/container/Containerfile",
        "./evenkeel.toml:/etc/evenkeel/evenkeel.toml:ro",
        "state:/var/lib/evenkeel",
        "\"8080:8080\"",
        "\n  shop:\n",
    ] {
        assert!(compose.contains(needed), "{needed} is not in\n{compose}");
    }
    assert!(config.contains("dns = \"shop:8000\"") && compose.contains("\"8000\""));
    assert!(config.contains("directory = \"/var/lib/evenkeel\"") && config.contains("listen = \"0.0.0.0:8080\""));
}

#[test]
fn what_the_debian_package_holds_is_there() {
    let manifest = read("Cargo.toml");
    let (_, deb) = manifest.split_once("[package.metadata.deb]").unwrap();
    let (_, assets) = deb.split_once("assets = [").unwrap();
    let (assets, _) = assets.split_once("\n]").unwrap();
    let mut paths = Vec::new();
    for line in assets.lines().map(|line| line.trim().trim_end_matches(',')).filter(|line| !line.is_empty()) {
        let asset: Vec<String> = serde_json::from_str(line).unwrap();
        let [source, target, mode] = &asset[..] else { panic!("{line}") };
        assert!(source == "target/release/evenkeel" || root().join(source).exists(), "{source} is not there");
        assert!(["644", "755"].contains(&mode.as_str()) && target.ends_with('/'), "{line}");
        paths.push(format!("/{target}{}", source.rsplit('/').next().unwrap()));
    }
    // What the unit starts and reads is what the package puts there.
    for needed in ["/usr/bin/evenkeel", "/etc/evenkeel/evenkeel.toml"] {
        assert!(paths.iter().any(|path| path == needed), "{needed} is not in {paths:?}");
    }
    assert!(deb.contains("conf-files = [\"/etc/evenkeel/evenkeel.toml\"]"));
}
