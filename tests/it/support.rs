//! What the whole-node tests share: configurations with every port 0, questions to the console, metrics as numbers.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testkit::binary::{Ended, find};
use testkit::{Binary, RawClient, RawResponse, Reply, ServingUpstream, Upstream, eventually};

/// Nothing here takes longer than a moment; a test that waits this long has failed.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// How long commands that end by themselves may take.
pub(crate) const COMMAND: Duration = Duration::from_secs(30);

/// A configuration file in the making.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    gateway: String,
    rest: String,
}

impl Config {
    /// Gateway and console on free ports, two workers, no drain delay.
    pub(crate) fn new() -> Config {
        let gateway = "[gateway]\nlisten = \"127.0.0.1:0\"\nworkers = 2\ndrain_delay = \"0s\"\n".to_owned();
        Config { gateway, rest: "[admin]\nlisten = \"127.0.0.1:0\"\n".to_owned() }
    }

    /// With this line in `[gateway]`, in place of one for the same key.
    pub(crate) fn gateway(mut self, line: &str) -> Config {
        let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        let kept = self.gateway.lines().filter(|old| key(old) != key(line));
        self.gateway = kept.chain([line]).map(|line| format!("{line}\n")).collect();
        self
    }

    /// With these tables as well.
    pub(crate) fn with(mut self, tables: &str) -> Config {
        self.rest.push_str(tables);
        self.rest.push('\n');
        self
    }

    /// With a service that has these endpoints; `more` are lines of its table.
    pub(crate) fn service(self, name: &str, endpoints: &[SocketAddr], more: &str) -> Config {
        let endpoints: Vec<String> = endpoints.iter().map(|e| format!("\"{e}\"")).collect();
        self.with(&format!("[service.{name}]\nendpoints = [{}]\n{more}", endpoints.join(", ")))
    }

    /// As it is written into the file.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.gateway, self.rest)
    }

    /// A node that runs by it.
    #[track_caller]
    pub(crate) fn up(&self) -> Binary {
        Binary::up(&self.text()).unwrap()
    }
}

/// An upstream that answers every request with this text.
#[track_caller]
pub(crate) fn saying(text: &'static str) -> ServingUpstream {
    Upstream::serving(move |_| Reply::ok(text)).unwrap()
}

/// Asks `addr` on a connection of its own. `head` is the request line's first two parts and whatever header lines:
/// `GET /metrics` or `GET /\nAccept: text/html`. A Host is added if there is none.
#[track_caller]
pub(crate) fn ask(addr: SocketAddr, head: &str) -> RawResponse {
    ask_with(addr, head, "")
}

/// Like [`ask`], with a body.
#[track_caller]
pub(crate) fn ask_with(addr: SocketAddr, head: &str, body: &str) -> RawResponse {
    let mut lines = head.lines();
    let first = lines.next().unwrap();
    let mut text = format!("{first} HTTP/1.1\r\nConnection: close\r\n");
    let mut named = false;
    for line in lines {
        named |= line.to_ascii_lowercase().starts_with("host:");
        text.push_str(&format!("{line}\r\n"));
    }
    if !named {
        text.push_str(&format!("Host: {addr}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str(&format!("\r\n{body}"));
    let mut client = RawClient::connect(addr).unwrap();
    client.send(text).unwrap();
    client.read_response_to(first.split(' ').next().unwrap(), SOON).unwrap()
}

/// The body as JSON.
#[track_caller]
pub(crate) fn json(response: &RawResponse) -> serde_json::Value {
    match serde_json::from_slice(&response.body) {
        Ok(value) => value,
        Err(error) => panic!("no JSON ({error}): {response:?}"),
    }
}

/// Series and their values, from either text format.
#[derive(Debug)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// What the console shows now, as Prometheus text.
    #[track_caller]
    pub(crate) fn of(binary: &Binary) -> Metrics {
        Metrics::parse(&ask(binary.console(), "GET /metrics").text())
    }

    /// Reads lines of `name{labels} value`.
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Metrics {
        let series = |line: &str| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        };
        Metrics(text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).map(series).collect())
    }

    /// The value of a series, written as in the text.
    pub(crate) fn get(&self, series: &str) -> Option<f64> {
        self.0.get(series).copied()
    }

    /// All series whose name begins so.
    pub(crate) fn starting(&self, prefix: &str) -> Vec<(&str, f64)> {
        self.0
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(name, value)| (name.as_str(), *value))
            .collect()
    }

    /// The values of all series.
    pub(crate) fn all(&self) -> &BTreeMap<String, f64> {
        &self.0
    }
}

/// Waits until a metric has this value.
#[track_caller]
pub(crate) fn await_metric(binary: &Binary, series: &str, value: f64) {
    let mut last = None;
    let found = testkit::poll_until(SOON, || {
        last = Metrics::of(binary).get(series);
        (last == Some(value)).then_some(())
    });
    assert!(found.is_some(), "{series} was to become {value} and is {last:?}");
}

/// Waits until so many endpoints are held for healthy.
#[track_caller]
pub(crate) fn await_healthy(binary: &Binary, wanted: usize) {
    eventually(SOON, &format!("{wanted} healthy endpoints"), || {
        let metrics = Metrics::of(binary);
        let healthy = metrics.starting("evenkeel_endpoint_healthy{").iter().filter(|(_, v)| *v == 1.0).count();
        (healthy == wanted).then_some(())
    });
}

/// The text of a file, once `wanted` accepts it.
#[track_caller]
pub(crate) fn await_file(path: &Path, what: &str, wanted: impl Fn(&str) -> bool) -> String {
    let mut last = String::new();
    let found = testkit::poll_until(SOON, || {
        last = std::fs::read_to_string(path).unwrap_or_default();
        wanted(&last).then_some(())
    });
    assert!(found.is_some(), "waited in vain for {what} in {}:\n{last}", path.display());
    last
}

/// Runs a command of the binary in an empty directory.
#[track_caller]
pub(crate) fn run(args: &[&str]) -> Ended {
    Binary::run(args, None, COMMAND).unwrap()
}

/// A directory that holds `evenkeel.toml` with this text.
#[track_caller]
pub(crate) fn directory(config: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("evenkeel.toml"), config).unwrap();
    directory
}

/// Runs a command in `directory`.
#[track_caller]
pub(crate) fn run_in(directory: &Path, args: &[&str]) -> Ended {
    Binary::run(args, Some(directory), COMMAND).unwrap()
}

/// A token as `evenkeel token new` makes it.
#[derive(Debug)]
pub(crate) struct NewToken {
    /// What callers present.
    pub(crate) text: String,
    /// What the configuration keeps.
    pub(crate) hash: String,
    /// The stanza for the configuration, with the token in a comment.
    pub(crate) stanza: String,
}

/// Makes a token.
#[track_caller]
pub(crate) fn new_token(name: &str, scopes: &[&str]) -> NewToken {
    let mut args = vec!["token", "new", name];
    scopes.iter().for_each(|scope| args.extend(["--scope", scope]));
    let ended = run(&args);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let word = |start: &str| {
        let found = ended.stdout.split(|c: char| c.is_whitespace() || c == '"').find(|word| word.starts_with(start));
        found.unwrap_or_else(|| panic!("no {start} in {}", ended.stdout)).to_owned()
    };
    NewToken { text: word("evk_"), hash: word("sha256:"), stanza: ended.stdout.clone() }
}

/// An address with a free port, for what cannot take port 0.
#[track_caller]
pub(crate) fn taken_port() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// A command of the binary, for tests that need more than its output.
#[track_caller]
pub(crate) fn command() -> Command {
    Command::new(find().unwrap())
}
