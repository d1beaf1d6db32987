//! What the demo stands on: the replicas of the sample shop, a directory for what the gateway keeps, and the gateway
//! itself, started from the text of a configuration. The directory is new, for this user alone, and goes when the stage
//! does.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use kernel::Entropy;
use tempfile::TempDir;

use super::report::Replica;
use super::shop::{Shop, ShopHandle};
use super::{Asked, DemoOptions, REPLICAS, Running};

/// How long the store may take to be put away once everything else has ended.
const PUT_AWAY: Duration = Duration::from_secs(1);

/// How long the gateway may take to stop.
const STOP: Duration = Duration::from_secs(5);
/// Reports that one replica works on at a time, in the story.
pub(super) const REPORTS_AT_A_TIME: u32 = 4;

/// Everything that runs but the traffic.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) running: Running,
    pub(super) replicas: Vec<Replica>,
    pub(super) handles: Vec<ShopHandle>,
    _shops: Vec<Shop>,
    /// Behind the gateway, so that it goes last.
    _directory: TempDir,
}

impl Stage {
    /// Starts it. `start` starts a gateway from the text of a configuration.
    pub(super) async fn set<S, F>(options: &DemoOptions, entropy: &mut Entropy, start: S) -> anyhow::Result<Stage>
    where
        S: FnOnce(String) -> F,
        F: Future<Output = anyhow::Result<Running>>,
    {
        let mut shops = Vec::new();
        for number in 1..=REPLICAS {
            let shop = Shop::start(number, entropy.next_u64()).await;
            shops.push(shop.with_context(|| format!("starting replica {number} of the sample shop on 127.0.0.1"))?);
        }
        let handles: Vec<ShopHandle> = shops.iter().map(Shop::handle).collect();
        let replicas: Vec<_> = handles.iter().map(|h| Replica { addr: h.addr(), control: h.control() }).collect();
        let directory = tempfile::Builder::new()
            .prefix("evenkeel-demo-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .context("making a directory for what the demo keeps")?;
        let text = configuration(options, &replicas, directory.path());
        let running = start(text).await.context("starting the demo's gateway")?;
        Ok(Stage { running, replicas, handles, _shops: shops, _directory: directory })
    }

    /// Stops the gateway, and clears up; at once, if somebody asks again. The store is put away in any case: else it would
    /// make its directory anew.
    pub(super) async fn clear(self, asked: &mut Asked) {
        tokio::select! {
            stopped = tokio::time::timeout(STOP, self.running.stop) => if stopped.is_err() {
                tracing::warn!(limit = ?STOP, "the demo's gateway did not stop in time; it ends with the process");
            },
            () = asked.again() => {}
        }
        let _put_away = tokio::time::timeout(PUT_AWAY, self.running.put_away).await.is_ok();
    }
}

/// The configuration that the demo's gateway runs by: one service, told apart by what customers do in it. In the story
/// reports are a service of their own, on the same replicas, with a limit.
fn configuration(options: &DemoOptions, replicas: &[Replica], directory: &Path) -> String {
    let endpoints: Vec<String> = replicas.iter().map(|replica| format!("\"{}\"", replica.addr)).collect();
    let endpoints = endpoints.join(", ");
    let (reports, reports_go_to) = match options.story {
        None => (String::new(), "shop"),
        Some(_) => {
            let table = "[service.reports]\nendpoints = [ENDPOINTS]\nhealth = { path = \"/healthz\" }\n";
            let limit = format!("max_requests = {REPORTS_AT_A_TIME}\n");
            (table.replace("ENDPOINTS", &endpoints) + &limit, "reports")
        }
    };
    format!(
        r#"[gateway]
listen = "127.0.0.1:{gateway_port}"
[admin]
listen = "127.0.0.1:{console_port}"
[store]
directory = {directory}
[trace]
sample = 1
[service.shop]
endpoints = [{endpoints}]
health = {{ path = "/healthz" }}
{reports}[[route]]
name = "catalog"
path = "/product/*"
service = "shop"
[[route]]
name = "checkout"
path = "/cart"
service = "shop"
[[route]]
name = "reports"
path = "/slow"
service = "{reports_go_to}"
[[route]]
name = "shop"
service = "shop"
"#,
        gateway_port = options.gateway_port,
        console_port = options.console_port,
        // A quoted text as TOML and JSON have it alike; a dollar sign would begin a reference.
        directory = serde_json::Value::from(directory.to_string_lossy().replace('$', "$$")),
    )
}
