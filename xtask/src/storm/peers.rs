//! Who is put between clients and failing replicas: Evenkeel, its peers, and nobody (`direct`: clients that go round robin
//! and do not retry). Configurations are in `tools/storm/peers`; each has the same fixed ports, which is possible because each
//! run has a network of its own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::Scenario;
use crate::bench::{Kind, Proxy};
use crate::workspace::{Profile, Workspace};

/// The one that has to keep the bounds.
pub(super) const OWN: &str = "evenkeel";
/// The one without a proxy.
const DIRECT: &str = "direct";
/// All that there are.
pub(super) const NAMES: [&str; 5] = [OWN, DIRECT, "nginx", "haproxy", "envoy"];
/// Where the configurations are.
const FOLDER: &str = "tools/storm/peers";
const LISTEN: &str = "http://127.0.0.1:8080";
/// What nginx, HAProxy and Envoy have for this purpose.
const PEER_ADMIN: &str = "http://127.0.0.1:8081";
const OWN_ADMIN: &str = "http://127.0.0.1:7070";

/// One that can be run.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// `None`: nobody.
    proxy: Option<Proxy>,
    folder: PathBuf,
}

/// What a run has to know of it. The commands see `$STORM_DIR`, and `$LANE`, a number that no other run has at the same time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Commands {
    pub(super) url: &'static str,
    pub(super) start: Option<String>,
    pub(super) health: Option<String>,
    pub(super) reload: Option<String>,
    pub(super) admin: Option<&'static str>,
}

/// A path as one word of a shell command.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

impl Peer {
    /// Finds or installs it.
    pub(super) fn install(workspace: &Workspace, name: &str, profile: Profile) -> Result<Peer> {
        let folder = workspace.root.join(FOLDER);
        if name == DIRECT {
            return Ok(Peer { proxy: None, folder });
        }
        let kind = Kind::find(name).with_context(|| format!("there is no `{name}`"))?;
        let proxy = kind.install(workspace, || workspace.build(profile))?;
        let file = folder.join(kind.template());
        ensure!(file.is_file(), "there is no {}", file.display());
        Ok(Peer { proxy: Some(proxy), folder })
    }

    pub(super) fn is_direct(&self) -> bool {
        self.proxy.is_none()
    }

    pub(super) fn name(&self) -> &'static str {
        self.proxy.as_ref().map_or(DIRECT, |proxy| proxy.kind.name())
    }

    pub(super) fn version(&self) -> &str {
        self.proxy.as_ref().map_or("", |proxy| &proxy.version)
    }

    /// What runs it for a scenario. Evenkeel has a file of its own where a limit of 16 concurrent requests for each endpoint
    /// is wanted, which the peers always have, and where counts are compared.
    pub(super) fn commands(&self, scenario: &Scenario) -> Commands {
        let Some(proxy) = &self.proxy else { return Commands { url: DIRECT, ..Commands::default() } };
        let program = quoted(&proxy.program);
        let file = quoted(&self.folder.join(proxy.kind.template()));
        let health = |path: &str| Some(format!("{PEER_ADMIN}{path}"));
        let signal = |name: &str| Some(format!("kill -{name} $STORM_PROXY_PID"));
        match proxy.kind {
            Kind::Evenkeel | Kind::Bare => {
                let own_file = |name: &str| quoted(&self.folder.join(name));
                let from = match (scenario.is_exact, scenario.is_limited) {
                    (true, _) => own_file("evenkeel-counts.toml"),
                    (false, true) => own_file("evenkeel-limited.toml"),
                    (false, false) => file,
                };
                let own = "$STORM_DIR/evenkeel.toml";
                // A setting changes each time, so that there is something to reload.
                let change = format!(
                    "sed -i -e '/^idle_timeout/d' -e \"/^workers/a idle_timeout = \\\"6${{STORM_RELOAD}}s\\\"\" {own}"
                );
                Commands {
                    url: LISTEN,
                    start: Some(format!("cp {from} {own} && exec {program} up -c {own}")),
                    health: Some(format!("{OWN_ADMIN}/readyz")),
                    reload: Some(format!("{change} && kill -HUP $STORM_PROXY_PID")),
                    admin: Some(OWN_ADMIN),
                }
            }
            Kind::Nginx => Commands {
                url: LISTEN,
                start: Some(format!("exec {program} -p $STORM_DIR/ -c {file} -e stderr")),
                health: health("/up"),
                reload: signal("HUP"),
                admin: None,
            },
            Kind::Haproxy => Commands {
                url: LISTEN,
                start: Some(format!("cd $STORM_DIR && exec {program} -W -f {file}")),
                health: health("/up"),
                reload: signal("USR2"),
                admin: None,
            },
            Kind::Envoy => {
                let run = format!(
                    "exec {program} -c {file} --concurrency 1 --base-id $((700 + LANE)) --drain-time-s 2 \
                     --parent-shutdown-time-s 4 -l warning --restart-epoch"
                );
                Commands {
                    url: LISTEN,
                    start: Some(format!("{run} 0")),
                    health: health("/ready"),
                    // A new process takes the sockets over; the old one drains and leaves.
                    reload: Some(format!("{run} $STORM_RELOAD")),
                    admin: None,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(kind: Kind) -> Peer {
        let proxy = Proxy { kind, program: "it's/here".into(), version: String::new() };
        Peer { proxy: Some(proxy), folder: "peers".into() }
    }

    fn scenario(is_limited: bool, is_exact: bool) -> Scenario {
        Scenario { key: String::new(), is_limited, is_heavy: false, has_reload: false, is_exact }
    }

    #[test]
    fn each_peer_has_its_configuration_and_commands() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(FOLDER);
        for kind in [Kind::Evenkeel, Kind::Nginx, Kind::Haproxy, Kind::Envoy] {
            assert!(folder.join(kind.template()).is_file(), "{kind:?}");
            let commands = peer(kind).commands(&scenario(false, false));
            let start = commands.start.unwrap();
            assert!(start.contains("exec 'it'\\''s/here'"), "{start}");
            assert!(commands.health.is_some() && commands.reload.is_some(), "{kind:?}");
            assert!(NAMES.contains(&kind.name()));
        }
        let nobody = Peer { proxy: None, folder: PathBuf::new() };
        assert_eq!(nobody.commands(&scenario(true, false)), Commands { url: DIRECT, ..Commands::default() });
    }

    #[test]
    fn only_evenkeel_gets_another_file_where_a_limit_is_wanted_or_counts_are_compared() {
        let start =
            |kind: Kind, is_limited, is_exact| peer(kind).commands(&scenario(is_limited, is_exact)).start.unwrap();
        assert!(start(Kind::Evenkeel, true, false).contains("evenkeel-limited.toml"));
        assert!(start(Kind::Evenkeel, false, true).contains("evenkeel-counts.toml"));
        assert!(start(Kind::Evenkeel, false, false).contains("/evenkeel.toml"));
        assert_eq!(start(Kind::Nginx, true, false), start(Kind::Nginx, false, false));
    }
}
