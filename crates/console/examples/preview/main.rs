//! Serves the console over a made-up node, for working on the page: `cargo run -p evenkeel-console --example preview
//! -- calm|trouble|new`. Traffic is invented from the time that passes; nothing is proxied.

#![expect(clippy::print_stdout, reason = "an example tells its user where to look")]

mod past;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use console::view::{
    Acted, ActionError, BudgetView, ConfigView, DeployMark, EndpointAction, EndpointState, EndpointView, Node,
    NodeView, Order, PoolAction, PoolCounts, PoolGroup, PoolServer, PoolStatement, PoolView, ReloadView, ServiceAction,
    ServiceView, TrafficView,
};
use console::{AdminServer, AdminSettings, Limits, Readiness, Vitals};
use kernel::journal::JournalReader;
use kernel::metrics::{Latency, LatencySum};
use kernel::store::FileHealth;
use kernel::tally::TallyReader;
use kernel::trace::{TraceLine, Why};
use kernel::{Clock, DrainPhase, DrainTrigger, Entropy, Finding, Moment, Place, Severity};

use past::Past;

struct Made {
    clock: Clock,
    past: Arc<Past>,
    changes: tokio::sync::watch::Sender<u64>,
    scene: String,
    reloaded: Mutex<Option<Moment>>,
}

/// Requests per second, share that fails, and a typical latency in microseconds, grown over `seconds`.
fn traffic(name: &str, per_second: f64, failing: f64, typical_us: u64, seconds: f64) -> TrafficView {
    let wave = seconds + 3.0 * (seconds / 7.0).sin();
    let total = (per_second * wave) as u64;
    let failed = (total as f64 * failing) as u64;
    let (latency, mut sum) = (Latency::default(), LatencySum::default());
    let mut entropy = Entropy::from_seed(1);
    for _ in 0..1000 {
        let spread = 0.4 - (1.0 - entropy.unit()).ln();
        latency.observe((typical_us as f64 * spread) as u64);
    }
    latency.add_to(&mut sum);
    for n in &mut sum.buckets {
        *n = *n * total / 1000;
    }
    let by_class = [0, total - failed - total / 50, total / 100, total / 100, failed, 0];
    TrafficView {
        name: name.to_owned(),
        by_class,
        latency: sum,
        in_flight: if total == 0 { 0 } else { (per_second / 90.0) as u64 },
    }
}

impl Made {
    fn service(&self, name: &str, port: u16, per_second: f64, seconds: f64) -> ServiceView {
        let trouble = self.scene == "trouble";
        let lost = trouble && name == "shop";
        let endpoint = |n: u16| {
            let down = lost && n == 1;
            let (state, reason) = self.state(name, n);
            EndpointView {
                traffic: traffic(
                    &format!("127.0.0.1:{}", port + n),
                    if down { 0.0 } else { per_second / if lost { 2.0 } else { 3.0 } },
                    if lost { 0.02 } else { 0.0002 },
                    2_400,
                    seconds,
                ),
                state,
                reason: reason.to_owned(),
                connections: if down { 0 } else { 14 },
                idle: if down { 0 } else { 9 },
                connect_failures: if down { 212 } else { 0 },
                since: Some(Duration::from_secs(if state == EndpointState::Healthy { 8_000 } else { 312 })),
                tier: u8::from(name == "shop" && n > 2),
                weight: 1,
                ejections: u64::from(lost && n == 2),
                latency_us: Some(2_100),
            }
        };
        let used = self.scene != "new";
        ServiceView {
            traffic: traffic(name, per_second, if lost { 0.013 } else { 0.0002 }, 2_400, seconds),
            endpoints: (0..if name == "shop" { 5 } else { 3 }).map(endpoint).collect(),
            budget: BudgetView {
                share: if trouble { 0.28 } else { 0.2 },
                spent: if lost { 97 } else { 0 },
                allowed: 1_116,
                yields: lost.then_some(0.71),
            },
            queued: if lost { 3 } else { 0 },
            held: if lost { 1 } else { 0 },
            second_tries: match (used, lost) {
                (true, true) => vec![("connect".into(), 212), ("reset".into(), 31), ("silence".into(), 9)],
                (true, false) => vec![("stale".into(), 4)],
                _ => Vec::new(),
            },
            ..ServiceView::default()
        }
    }

    fn state(&self, service: &str, n: u16) -> (EndpointState, &'static str) {
        let calm = (EndpointState::Healthy, "passed the last 2 checks");
        match (self.scene.as_str(), service, n) {
            ("trouble", "shop", 1) => (EndpointState::Unhealthy, "connection refused by the last 2 checks"),
            ("trouble", "shop", 2) => (EndpointState::Ejected, "5 failures in a row; tried again in 6 s"),
            ("trouble", "shop", 4) => (EndpointState::Down, "taken down by ops: the disk reports bad sectors"),
            ("trouble", "images", 0) => (EndpointState::Probation, "one request at a time after an ejection of 4 s"),
            ("trouble", "images", 1) => (EndpointState::Suspect, "silent for 1.2 s where 45 ms are usual"),
            ("trouble", "images", 2) | ("drained", "images", 0) => {
                (EndpointState::Drained, "drained by deploy: release 4.2")
            }
            _ => calm,
        }
    }
}

impl Made {
    fn pool(&self, seconds: f64) -> PoolView {
        let is_lost = self.scene == "trouble";
        let server = |name: &str, role: &str, lag: Option<u64>| PoolServer {
            name: name.into(),
            role: role.into(),
            timeline: (role == "primary").then_some(3),
            lag_bytes: lag,
            answered_ms: Some(120),
            version: Some("17.2".into()),
            max_connections: Some(97),
            ..PoolServer::default()
        };
        let away =
            PoolServer { error: Some("connection refused".into()), ..server("10.0.0.5:5432", "unreachable", None) };
        let group = |database: &str, user: &str, per_second: f64| {
            let transactions = (per_second * seconds) as u64;
            let mut counts = PoolCounts { transactions, queries: transactions * 3, ..PoolCounts::default() };
            counts.transaction.buckets[4] = transactions;
            counts.query.buckets[2] = transactions * 3;
            counts.wait.buckets[3] = transactions / 50;
            PoolGroup {
                database: database.into(),
                user: user.into(),
                mode: "transaction".into(),
                size: 20,
                clients_active: 7,
                clients_waiting: if is_lost { 31 } else { 0 },
                clients_idle: 58,
                servers_active: 7,
                servers_idle: 4,
                max_wait: Duration::from_millis(if is_lost { 1_400 } else { 0 }),
                counts,
                ..PoolGroup::default()
            }
        };
        PoolView {
            name: "main".into(),
            listen: vec!["127.0.0.1:6432".into()],
            mode: "transaction".into(),
            servers: vec![
                if is_lost { away } else { server("10.0.0.5:5432", "primary", None) },
                server("10.0.0.6:5432", "standby", Some(16_384)),
            ],
            primary: (!is_lost).then_some(0),
            trouble: is_lost.then(|| "10.0.0.5:5432 refuses connections".into()),
            max_connections: 80,
            connections: 22,
            clients: 131,
            max_clients: 10_000,
            groups: vec![group("shop", "shop", 840.0), group("reports", "reporter", 2.5)],
            ..PoolView::default()
        }
    }
}

impl Node for Made {
    fn pool_statements(&self, _pool: &str) -> Vec<PoolStatement> {
        let statement = |text: &str, calls: u64, us: u64, n: u64| PoolStatement {
            database: "shop".into(),
            user: "shop".into(),
            fingerprint: format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            text: text.into(),
            calls,
            rows: calls,
            total_us: calls * us,
            p50_us: Some(us),
            p99_us: Some(us * 7),
            ..PoolStatement::default()
        };
        vec![
            statement("select * from orders where customer = $1 order by placed desc limit ?", 412_000, 410, 1),
            statement("update stock set left = left - ? where sku = $1", 96_000, 230, 2),
        ]
    }

    fn pool_action(&self, pool: &str, action: &PoolAction, order: &Order) -> Result<Acted, ActionError> {
        Ok(Acted { message: format!("{} {pool}: {}", action.word(), order.reason), kept: false })
    }

    fn view(&self) -> NodeView {
        let ran = self.clock.now().since(Moment::ZERO);
        let seconds = if self.scene == "new" { 0.0 } else { ran.as_secs_f64() + 8_100.0 };
        let reloaded = *self.reloaded.lock().unwrap_or_else(PoisonError::into_inner);
        let failing = if self.scene == "trouble" { 0.013 } else { 0.0002 };
        let last_reload = reloaded.map(|at| ReloadView {
            applied: self.scene != "trouble",
            message: if self.scene == "trouble" { "1 error".into() } else { "2 services, 3 routes".into() },
            findings: self.findings(),
            age: self.clock.now().since(at),
        });
        NodeView {
            version: "0.1.0".into(),
            uptime: Duration::from_secs_f64(ran.as_secs_f64() + if self.scene == "new" { 0.0 } else { 8_100.0 }),
            workers: 2,
            connections: if self.scene == "new" { 0 } else { 131 },
            listeners: vec!["http://127.0.0.1:8080".into()],
            routes: vec![
                traffic("shop", 412.0, failing, 2_400, seconds),
                traffic("/api/orders/{id}", 96.0, failing, 11_000, seconds),
                traffic("images", 3.2, 0.0, 45_000, seconds),
            ],
            services: vec![self.service("shop", 9101, 508.0, seconds), self.service("images", 9201, 3.2, seconds)],
            config: ConfigView {
                source: "/etc/evenkeel/evenkeel.toml".into(),
                reloads: u64::from(reloaded.is_some()),
                last_reload,
            },
            pools: vec![self.pool(seconds)],
            notices: Vec::new(),
        }
    }

    fn ready(&self) -> Readiness {
        Readiness::yes()
    }

    fn metrics(&self, _accept: &str) -> (String, String) {
        (
            "text/plain; version=0.0.4; charset=utf-8".into(),
            "# HELP made_up Nothing\n# TYPE made_up gauge\nmade_up 1\n".into(),
        )
    }

    fn reload(&self) -> Result<String, Vec<Finding>> {
        *self.reloaded.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.clock.now());
        let findings = self.findings();
        if findings.is_empty() { Ok("2 services, 3 routes".into()) } else { Err(findings) }
    }

    fn endpoint_action(
        &self,
        _service: &str,
        name: &str,
        action: EndpointAction,
        order: &Order,
    ) -> Result<Acted, ActionError> {
        Ok(Acted { message: format!("{} {name}: {}", action.word(), order.reason), kept: false })
    }

    fn service_action(&self, service: &str, _action: ServiceAction, order: &Order) -> Result<Acted, ActionError> {
        Ok(Acted { message: format!("{service}: {}", order.reason), kept: false })
    }

    fn journal(&self) -> Arc<dyn JournalReader> {
        self.past.clone()
    }

    fn journal_changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn tallies(&self) -> Arc<dyn TallyReader> {
        self.past.clone()
    }

    fn why(&self, id: &str) -> Why {
        self.past.why(id)
    }

    fn traces(&self, most: usize, service: Option<&str>) -> Vec<TraceLine> {
        self.past.lines(most, service)
    }

    fn store(&self) -> Vec<FileHealth> {
        self.past.files(&self.scene)
    }

    fn deploy(&self, mark: &DeployMark) -> Result<Acted, ActionError> {
        Ok(Acted { message: mark.event().sentence(), kept: false })
    }
}

impl Made {
    fn findings(&self) -> Vec<Finding> {
        if self.scene != "trouble" {
            return Vec::new();
        }
        vec![Finding {
            id: "unknown-key",
            severity: Severity::Error,
            message: "service.shop has no key \"endpoint\".".into(),
            remedy: "Did you mean \"endpoints\"?".into(),
            place: Some(Place { file: "/etc/evenkeel/evenkeel.toml".into(), line: 6, column: 1, length: 8 }),
            subject: Some("service.shop.endpoint".into()),
        }]
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clock = Clock::real();
    let scene = std::env::args().nth(1).unwrap_or_else(|| "calm".into());
    let (past, changes) = (Arc::new(Past::new(&clock, &scene)), tokio::sync::watch::Sender::new(0));
    let node = Made { clock: clock.clone(), past, changes, scene, reloaded: Mutex::new(None) };
    let vitals = Vitals::new(Arc::new(node), clock);
    let (trigger, drain) = DrainTrigger::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("console http://{}", listener.local_addr()?);
    tokio::spawn(vitals.clone().run(drain.clone()));
    let server = AdminServer::new(vitals, AdminSettings::default(), Limits::default())?;
    let serving = tokio::spawn(server.serve(listener, drain));
    tokio::signal::ctrl_c().await?;
    trigger.advance(DrainPhase::Closed);
    serving.await?;
    Ok(())
}
