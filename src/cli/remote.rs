//! How commands speak to a node that runs: over HTTP to its admin address, as any operator's program does.
//!
//! The address is that of `--admin`, else the one in the configuration, else the default. A token is needed beyond
//! loopback only; it comes from `--token-file` or `EVENKEEL_TOKEN`, never from an argument, which other users of the
//! machine could read. What a node did not do ends with 1, what did not reach it with 2.
//!
//! Limits: [`PATIENCE`] for each call, answers of [`MAX_ANSWER_BYTES`].

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use console::view::Acted;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::handshake;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use kernel::Severity;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::events::Events;
use crate::config::{self, World};

/// A little longer than a node takes at most (30 s).
const PATIENCE: Duration = Duration::from_secs(35);
/// The state of the largest node is a few MiB.
const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;
/// Where the configuration is looked for.
const CONFIG: &str = "evenkeel.toml";
/// The variable that may hold a token.
const TOKEN: &str = "EVENKEEL_TOKEN";

/// Which node, and how it answers
#[derive(Debug, clap::Args)]
pub struct RemoteArgs {
    /// The node's admin address, such as http://127.0.0.1:7070; without it, the one in the configuration
    #[arg(long, value_name = "URL", global = true)]
    admin: Option<String>,
    /// The configuration that holds the admin address; evenkeel.toml if it is there
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// A file with a token of the scope operator, needed beyond loopback; or the variable EVENKEEL_TOKEN
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// Why, and whether in any case
#[derive(Debug, clap::Args)]
pub struct WhyArgs {
    /// Why, in a sentence; the node keeps it and shows it
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Do it even if nothing that can take requests is left
    #[arg(long)]
    force: bool,
}

/// Why
#[derive(Debug, clap::Args)]
pub struct MaybeWhyArgs {
    /// Why, in a sentence; it goes to the node's log
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

impl WhyArgs {
    /// What is sent.
    pub(super) fn body(&self) -> Value {
        json!({ "reason": self.reason, "force": self.force })
    }
}

impl MaybeWhyArgs {
    /// What is sent.
    pub(super) fn body(&self) -> Value {
        json!({ "reason": self.reason })
    }
}

/// What stands behind the `?` of an address.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(Vec<(&'static str, String)>);

impl Query {
    /// With this value, if there is one.
    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: Option<&str>) -> Query {
        self.0.extend(value.map(|value| (name, value.to_owned())));
        self
    }

    /// The address as a whole.
    pub(super) fn path(&self, path: &str) -> String {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish();
        if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
    }
}

/// A node's answer in its own words.
#[derive(Debug)]
pub(super) enum Said {
    /// What was asked for.
    Yes(String),
    /// Why not.
    No {
        /// The stable code of the problem; empty if it is none of a node's.
        code: String,
        /// The problem in a sentence, with the remedy.
        detail: String,
        /// The whole document.
        body: Value,
    },
}

/// What ends a stream of events before it begins.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// A node that can be asked.
pub(super) struct Remote {
    host: String,
    port: u16,
    token: Option<String>,
}

/// What a node answered.
struct Answer {
    status: u16,
    body: Value,
}

impl Remote {
    /// The node that the arguments mean. Does not ask it yet.
    pub(super) fn of(args: &RemoteArgs) -> anyhow::Result<Remote> {
        let (host, port) = match &args.admin {
            Some(url) => from_url(url)?,
            None => from_config(args.config.as_deref())?,
        };
        let token = match &args.token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                Some(text.with_context(|| format!("cannot read the token in {}", path.display()))?)
            }
            None => std::env::var(TOKEN).ok(),
        };
        Ok(Remote { host, port, token: token.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()) })
    }

    /// The state of the node.
    pub(super) fn status(&self) -> anyhow::Result<Value> {
        let answer = self.run(self.call(Method::GET, "/v1/status", None, None))?;
        ensure!(answer.status == 200 && answer.body["services"].is_array(), "{}", self.refusal(&answer));
        Ok(answer.body)
    }

    /// What is at a path, as JSON.
    pub(super) fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.run(self.call(Method::GET, path, None, None))?;
        ensure!(answer.status == 200, "{}", self.refusal(&answer));
        Ok(answer.body)
    }

    /// What is at a path, as the node writes it for people, or as JSON.
    pub(super) fn text(&self, path: &str, json: bool) -> anyhow::Result<Said> {
        self.run(self.ask_text(path, json))
    }

    /// The same, for callers that run already.
    pub(super) async fn ask_text(&self, path: &str, json: bool) -> anyhow::Result<Said> {
        let authority = self.authority();
        let asked = async {
            let accept = if json { JSON } else { "text/plain" };
            let response = self.send(self.request(Method::GET, path, accept).body(Full::default())).await?;
            let status = response.status().as_u16();
            anyhow::Ok((status, whole(response, &authority).await?))
        };
        let (status, bytes) = in_time(&authority, asked).await?;
        if status != 200 {
            let answer = Answer { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) };
            let code = answer.body["code"].as_str().unwrap_or_default().to_owned();
            return Ok(Said::No { code, detail: self.refusal(&answer), body: answer.body });
        }
        if json {
            let body: Value = serde_json::from_slice(&bytes).with_context(|| format!("{authority} sent no JSON"))?;
            return Ok(Said::Yes(format!("{body:#}\n")));
        }
        let text = String::from_utf8_lossy(&bytes);
        // Nothing that a node sends moves a cursor here.
        Ok(Said::Yes(text.chars().map(|c| if console::words::is_unruly(c) && c != '\n' { ' ' } else { c }).collect()))
    }

    /// The events at a path, as they come.
    pub(super) async fn events(&self, path: &str) -> anyhow::Result<Events> {
        let authority = self.authority();
        let begun = self.send(self.request(Method::GET, path, "text/event-stream").body(Full::default()));
        let response = in_time(&authority, begun).await?;
        let status = response.status().as_u16();
        if status == 200 {
            return Ok(Events::new(response.into_body()));
        }
        let bytes = in_time(&authority, whole(response, &authority)).await?;
        let answer = Answer { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) };
        let refusal = self.refusal(&answer);
        // What the node cannot do now it may do later.
        if status >= 500 { Err(anyhow::anyhow!(refusal)) } else { Err(Refused(refusal).into()) }
    }

    /// Whether what went wrong may pass: the node is away, or busy. What it refuses it will refuse again.
    pub(super) fn may_come_back(&self, error: &anyhow::Error) -> bool {
        error.downcast_ref::<Refused>().is_none()
    }

    /// Whether the node is to be sent requests, and what it says about that. Needs no token.
    pub(super) fn readiness(&self) -> anyhow::Result<(bool, String)> {
        let answer = self.run(self.call(Method::GET, "/readyz", None, None))?;
        match (answer.status, answer.body.as_str()) {
            (status @ (200 | 503), Some(text)) => Ok((status == 200, console::words::tame(text.trim_end()))),
            _ => bail!("{}", self.refusal(&answer)),
        }
    }

    /// Has the node act, says what came of it, and gives the exit code that this deserves.
    pub(super) fn act(&self, path: &str, body: &Value, json: bool) -> anyhow::Result<ExitCode> {
        let answer = self.run(async {
            let csrf = self.call(Method::GET, "/v1/csrf", None, None).await?;
            match csrf.body["token"].as_str() {
                Some(token) if csrf.status == 200 => self.call(Method::POST, path, Some(body), Some(token)).await,
                _ => Ok(csrf),
            }
        })?;
        // The node understood, and says no: the command's answer, not its failure.
        let noes = ["name-unknown", "last-endpoint", "action-refused", "not-kept"];
        let is_no = answer.body["code"].as_str().is_some_and(|code| noes.contains(&code));
        ensure!(matches!(answer.status, 200 | 201) || is_no, "{}", self.refusal(&answer));
        if json {
            print(&format!("{:#}\n", answer.body))?;
        }
        if is_no {
            super::complain(&anyhow::anyhow!("{}", self.refusal(&answer)));
            return Ok(ExitCode::from(1));
        }
        let acted = Acted {
            message: answer.body["message"].as_str().unwrap_or("done").to_owned(),
            kept: answer.body["kept"].as_bool().unwrap_or_default(),
        };
        if !json {
            print(&format!("{}\n", console::words::tame(&acted.message)))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn refusal(&self, answer: &Answer) -> String {
        match answer.body["detail"].as_str() {
            Some(detail) if answer.status == 401 => {
                let detail = console::words::tame(detail);
                format!("{}: {detail} (here: --token-file FILE, or the variable {TOKEN})", self.authority())
            }
            Some(detail) => console::words::tame(detail),
            None => format!("{} answered {}; is that a node's admin address?", self.authority(), answer.status),
        }
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    pub(super) fn run<T>(&self, calls: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start a runtime for the call")?;
        runtime.block_on(calls)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        csrf: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let authority = self.authority();
        let exchange = async {
            let mut request = self.request(method, path, JSON);
            if let Some(csrf) = csrf {
                request = request.header("x-csrf-token", csrf);
            }
            if body.is_some() {
                request = request.header(CONTENT_TYPE, JSON);
            }
            let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
            let response = self.send(request.body(Full::new(body))).await?;
            let status = response.status().as_u16();
            let bytes = whole(response, &authority).await?;
            let body = serde_json::from_slice(&bytes);
            let body = body.unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
            Ok(Answer { status, body })
        };
        in_time(&authority, exchange).await
    }

    /// The head of a request, with the token.
    fn request(&self, method: Method, path: &str, accept: &str) -> hyper::http::request::Builder {
        let request = Request::builder().method(method).uri(path).header(HOST, self.authority()).header(ACCEPT, accept);
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    /// Sends it, and waits for the head of the answer.
    async fn send(&self, request: hyper::http::Result<Request<Full<Bytes>>>) -> anyhow::Result<Response<Incoming>> {
        let authority = self.authority();
        let unreachable =
            || format!("cannot reach a node at {authority}; is it running, and is that its admin address?");
        let request = request.context("the token has characters that no token has")?;
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.with_context(unreachable)?;
        let (mut connection, driver) = handshake(TokioIo::new(stream)).await.with_context(unreachable)?;
        // It ends with the connection; what goes wrong is told to whoever waits for the answer.
        tokio::spawn(driver);
        connection.send_request(request).await.with_context(unreachable)
    }
}

/// What is asked for unless it is to be read by people.
const JSON: &str = "application/json";

async fn in_time<T>(authority: &str, call: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let answer = tokio::time::timeout(PATIENCE, call).await;
    answer.with_context(|| format!("the node at {authority} did not answer within {} s", PATIENCE.as_secs()))?
}

/// The whole body of an answer.
async fn whole(response: Response<Incoming>, authority: &str) -> anyhow::Result<Bytes> {
    let read = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    Ok(read.map_err(|error| anyhow::anyhow!("the answer of {authority} broke off: {error}"))?.to_bytes())
}

/// Prints to standard output.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn from_url(url: &str) -> anyhow::Result<(String, u16)> {
    let wrong = || format!("--admin {url} is no address of a node; write http://127.0.0.1:7070");
    let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let uri: Uri = full.parse().with_context(wrong)?;
    ensure!(uri.scheme_str() == Some("http"), "--admin {url}: a node speaks http; write http://127.0.0.1:7070");
    ensure!(matches!(uri.path(), "" | "/") && uri.query().is_none(), wrong());
    let host = uri.host().with_context(wrong)?.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok((host, uri.port_u16().unwrap_or(80)))
}

/// The admin address in a configuration, whatever else is wrong with it: the node may run by an older one.
fn from_config(path: Option<&Path>) -> anyhow::Result<(String, u16)> {
    let path = match path {
        Some(path) => path,
        None if Path::new(CONFIG).exists() => Path::new(CONFIG),
        None => return Ok(reachable(config::model::Admin::default().listen.addr())),
    };
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    // Names of services are of no interest here, and looking them up would take time.
    let resolve = |_: &str| Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 1))]);
    let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let world = World { resolve: &resolve, ..World::real(directory) };
    let outcome = config::load(&path.display().to_string(), text, &world);
    let is_about_it = |f: &kernel::Finding| matches!(f.subject.as_deref(), Some("admin" | "admin.listen"));
    // That nobody could use the address is no reason not to try.
    let is_unread = |f: &kernel::Finding| f.severity == Severity::Error && f.id != "admin-exposed";
    let broken = outcome.findings.iter().any(|f| is_unread(f) && is_about_it(f));
    // There is no effective configuration where the text could not be read at all.
    if broken || outcome.effective.is_empty() {
        bail!("cannot tell the admin address from {}; name it with --admin, or see `evenkeel check`", path.display());
    }
    let address = outcome.config.admin.listen.addr();
    ensure!(
        address.port() != 0,
        "admin.listen in {} has port 0; name the address that the node printed with --admin",
        path.display()
    );
    Ok(reachable(address))
}

/// An address that is listened on, as one that can be connected to.
fn reachable(address: SocketAddr) -> (String, u16) {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    (ip.to_string(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_urls() {
        let known = [
            ("http://127.0.0.1:7070", "127.0.0.1", 7070),
            ("http://keel.internal/", "keel.internal", 80),
            ("localhost:7", "localhost", 7),
            ("http://[::1]:7070", "::1", 7070),
        ];
        for (url, host, port) in known {
            assert_eq!(from_url(url).unwrap(), (host.to_owned(), port), "{url}");
        }
        for wrong in ["https://127.0.0.1:7070", "http://127.0.0.1:7070/v1", "http://", "a b", "http://x/?y"] {
            assert!(from_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_address_is_found_in_a_configuration_that_is_otherwise_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("evenkeel.toml");
        let address = |text: &str| {
            std::fs::write(&path, text).unwrap();
            from_config(Some(&path)).map_err(|error| error.to_string())
        };
        assert_eq!(address("[gateway]\nlisten = \"127.0.0.1:80\"\n").unwrap(), ("127.0.0.1".to_owned(), 7070));
        let unwise = "[admin]\nlisten = \"0.0.0.0:71\"\nnonsense = 1\n";
        assert_eq!(address(unwise).unwrap(), ("127.0.0.1".to_owned(), 71));
        assert_eq!(address("[admin]\nlisten = \"0.0.0.0:71\"\n[x]").unwrap(), ("127.0.0.1".to_owned(), 71));
        assert_eq!(address("[admin]\nlisten = \"[::]:71\"\n").unwrap(), ("::1".to_owned(), 71));
        for wrong in ["[admin]\nlisten = \"x\"\n", "[admin", "[admin]\nlisten = \"127.0.0.1:0\"\n"] {
            assert!(address(wrong).unwrap_err().contains("--admin"), "{wrong}");
        }
        assert!(from_config(Some(Path::new("/nowhere/evenkeel.toml"))).is_err());
    }
}
