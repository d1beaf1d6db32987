//! A made-up past: some hours of counts with a gap and a bad stretch, a journal that fits them, traces, and files.

use std::io;
use std::time::Duration;

use kernel::event::Event;
use kernel::journal::{Boot, Journal, JournalPage, JournalQuery, JournalReader, Record, unix_ms};
use kernel::store::{FileHealth, FileState};
use kernel::tally::{Counts, Period, Step, Subject, TallyReader};
use kernel::trace::{BudgetLeft, Kept, RequestTrace, Step as TraceStep, TraceEnd, TraceLine, What, Why};
use kernel::{Clock, Entropy};

/// When the made-up stretch of trouble was, in seconds before now.
const TROUBLE: (u64, u64) = (640, 400);
/// When no process ran.
const GAP: (u64, u64) = (2_400, 2_040);

#[derive(Debug)]
pub(crate) struct Past {
    pub(crate) records: Vec<Record>,
    now_unix_s: u64,
    is_new: bool,
}

fn events(trouble: bool) -> Vec<(u64, Event)> {
    let shop = || "shop".to_owned();
    let endpoint = || "127.0.0.1:9103".to_owned();
    let mut events = vec![
        (
            90_000,
            Event::NodeStarted {
                version: "0.1.0".into(),
                pid: 811,
                config: "/etc/evenkeel/evenkeel.toml".into(),
                took_over: false,
            },
        ),
        (2_400, Event::NodeStopping { pid: 811, reason: "SIGTERM".into() }),
        (2_400, Event::NodeStopped { pid: 811, cut: 0 }),
        (
            2_040,
            Event::NodeStarted {
                version: "0.1.0".into(),
                pid: 1_207,
                config: "/etc/evenkeel/evenkeel.toml".into(),
                took_over: false,
            },
        ),
        (
            1_900,
            Event::ConfigApplied {
                config: "/etc/evenkeel/evenkeel.toml".into(),
                changes: "route images added\nservice images added".into(),
                outcome: "in force".to_owned(),
            },
        ),
        (
            660,
            Event::DeployMarked {
                service: shop(),
                version: "4.2.0".into(),
                environment: "production".into(),
                status: "succeeded".into(),
                actor: "deploy-bot".into(),
                url: "https://ci.example/4711".into(),
                source: "github".into(),
                key: "4711".into(),
            },
        ),
        (
            640,
            Event::EndpointSuspected {
                service: shop(),
                endpoint: endpoint(),
                reason: "silent for 1.2 s where 45 ms are usual".into(),
            },
        ),
    ];
    for n in 0..6 {
        events.push((
            630 - n,
            Event::EndpointEjected {
                service: shop(),
                endpoint: endpoint(),
                from: "healthy".into(),
                reason: "5 failures in a row (connection refused)".into(),
            },
        ));
    }
    if trouble {
        events.push((
            40,
            Event::EndpointEjected {
                service: shop(),
                endpoint: endpoint(),
                from: "healthy".into(),
                reason: "5 failures in a row (connection refused)".into(),
            },
        ));
        events
            .push((38, Event::BudgetMoved { service: shop(), from: "usual".into(), to: "raised".into(), percent: 28 }));
    } else {
        events.push((
            405,
            Event::EndpointReturned { service: shop(), endpoint: endpoint(), reason: "3 requests passed".into() },
        ));
        events.push((
            300,
            Event::EndpointDrained {
                service: "images".into(),
                endpoint: "127.0.0.1:9201".into(),
                actor: "ops <b>".into(),
                reason: "new disk & \"cables\"".into(),
                kept: true,
            },
        ));
        events.push((
            120,
            Event::EndpointResumed {
                service: "images".into(),
                endpoint: "127.0.0.1:9201".into(),
                actor: "ops <b>".into(),
                reason: "done".into(),
                kept: true,
            },
        ));
    }
    events
}

impl Past {
    pub(crate) fn new(clock: &Clock, scene: &str) -> Past {
        let now = clock.wall();
        let is_new = scene == "new";
        let mut records: Vec<Record> = Vec::new();
        let all = if is_new { Vec::new() } else { events(scene == "trouble") };
        for (age, event) in all {
            let told_at = Clock::manual(now - Duration::from_secs(age));
            let journal = Journal::unkept(told_at, Boot::new(&mut Entropy::from_seed(1)));
            journal.tell(event);
            let place = records.len() as u64 + 1;
            let told = journal.recent(1).into_iter();
            records.extend(told.map(|r| Record { cursor: place, number: place, ..r }));
        }
        if let Some(last) = records.iter_mut().rfind(|r| r.kind == "endpoint.ejected") {
            last.count = 14;
            last.until_unix_ms += 9_000;
        }
        Past { records, now_unix_s: unix_ms(now) / 1_000, is_new }
    }

    pub(crate) fn files(&self, scene: &str) -> Vec<FileHealth> {
        let file = |file: &'static str, bytes: u64| FileHealth {
            file,
            path: format!("/var/lib/evenkeel/{file}.db"),
            state: FileState::Kept,
            trouble: String::new(),
            since_ms: 2_040_000,
            bytes,
            cap_bytes: 268_435_456,
            waiting: 0,
            dropped: 0,
        };
        match scene {
            "new" => Vec::new(),
            "trouble" => vec![
                file("ledger", 61_440),
                FileHealth {
                    state: FileState::Lost,
                    trouble: "no space left on device".into(),
                    since_ms: 92_000,
                    waiting: 12,
                    dropped: 3,
                    ..file("journal", 8_912_896)
                },
                file("series", 96_468_992),
            ],
            _ => vec![file("ledger", 61_440), file("journal", 8_912_896), file("series", 96_468_992)],
        }
    }

    pub(crate) fn traces(&self) -> Vec<RequestTrace> {
        if self.is_new {
            return Vec::new();
        }
        let budget = Some(BudgetLeft { spent: 31, allowed: 1_116 });
        let again = [
            (20, What::Routed { timeout_ms: 30_000, repeatable: true, tier: 0 }),
            (
                60,
                What::Try {
                    number: 1,
                    endpoint: "127.0.0.1:9103".into(),
                    tier: 0,
                    chosen: "the less busy of two",
                    cause: "first",
                    charged: false,
                },
            ),
            (310, What::Connected { number: 1, connection: "new", after_us: 250 }),
            (14_240, What::Failed { number: 1, reason: "it closed the connection before an answer".into() }),
            (
                14_250,
                What::Again {
                    reason: "nothing of an answer came and the request may be repeated",
                    pause_ms: 0,
                    budget,
                },
            ),
            (
                14_300,
                What::Try {
                    number: 2,
                    endpoint: "127.0.0.1:9101".into(),
                    tier: 0,
                    chosen: "not tried yet",
                    cause: "reset",
                    charged: true,
                },
            ),
            (14_310, What::Connected { number: 2, connection: "reused", after_us: 10 }),
            (46_900, What::Answered { number: 2, status: 200, after_us: 32_500 }),
        ];
        let failed = [
            (15, What::Routed { timeout_ms: 2_000, repeatable: false, tier: 0 }),
            (40, What::Queued),
            (180_000, What::LetIn),
            (
                180_020,
                What::Try {
                    number: 1,
                    endpoint: "127.0.0.1:9103".into(),
                    tier: 0,
                    chosen: "the only one with room",
                    cause: "first",
                    charged: false,
                },
            ),
            (180_900, What::Connected { number: 1, connection: "waited", after_us: 800 }),
            (1_400_000, What::Silent { number: 1 }),
            (2_000_000, What::Failed { number: 1, reason: "no answer in time".into() }),
            (2_000_010, What::NotAgain { reason: "the request may have had an effect", budget }),
        ];
        let end = TraceEnd { status: 200, whole: true, took_us: 48_200, bytes: 5_312, ..TraceEnd::default() };
        let bad = TraceEnd {
            status: 504,
            error: Some("upstream-timeout"),
            detail: "127.0.0.1:9103 did not answer in time".into(),
            whole: true,
            took_us: 2_000_400,
            bytes: 412,
        };
        vec![
            self.trace("0190c0ffee01", 21, "GET", "/orders/17", vec![Kept::Retried], &again, end),
            self.trace(
                "0190c0ffee02",
                33,
                "POST",
                "/orders",
                vec![Kept::Failed, Kept::Queued, Kept::Slow],
                &failed,
                bad,
            ),
            self.trace(
                "a<script>\"x",
                625,
                "GET",
                "/a?<b>&\"",
                vec![Kept::Sample],
                &[],
                TraceEnd { status: 200, whole: true, took_us: 900, bytes: 3, ..TraceEnd::default() },
            ),
        ]
    }

    #[expect(clippy::too_many_arguments, reason = "an example: each is one thing to show")]
    fn trace(
        &self,
        id: &str,
        age: u64,
        method: &str,
        target: &str,
        kept: Vec<Kept>,
        steps: &[(u64, What)],
        end: TraceEnd,
    ) -> RequestTrace {
        RequestTrace {
            id: id.into(),
            at_unix_us: (self.now_unix_s - age) * 1_000_000,
            method: method.into(),
            target: target.into(),
            host: "shop.example".into(),
            client: "10.1.0.7".into(),
            route: "shop".into(),
            service: "shop".into(),
            worker: 1,
            kept,
            steps: steps.iter().map(|(at_us, what)| TraceStep { at_us: *at_us, what: what.clone() }).collect(),
            clipped: false,
            end,
        }
    }

    pub(crate) fn lines(&self, most: usize, service: Option<&str>) -> Vec<TraceLine> {
        let wanted = self.traces().into_iter().filter(|t| service.is_none_or(|s| s == t.service)).take(most);
        let lines = wanted.map(|t| TraceLine {
            id: t.id,
            at_unix_us: t.at_unix_us,
            method: t.method,
            target: t.target,
            service: t.service,
            route: t.route,
            status: t.end.status,
            error: t.end.error,
            took_us: t.end.took_us,
            tries: t.steps.iter().filter(|s| matches!(s.what, What::Try { .. })).count() as u32,
            kept: t.kept,
        });
        lines.collect()
    }

    pub(crate) fn why(&self, id: &str) -> Why {
        let found: Vec<_> = self.traces().into_iter().filter(|t| t.id == id).collect();
        if found.is_empty() {
            return Why::NotKept {
                oldest_unix_ms: (!self.is_new).then_some((self.now_unix_s - 2_000) * 1_000),
                sample_one_in: 1_000,
                slow_ms: 1_000,
            };
        }
        Why::Found(found)
    }
}

impl JournalReader for Past {
    fn read(&self, query: &JournalQuery) -> io::Result<JournalPage> {
        Ok(query.answer_from(self.records.iter().cloned()))
    }
}

impl TallyReader for Past {
    fn read(&self, subject: &Subject, step: Step, from: u64, until: u64) -> io::Result<Vec<Period>> {
        if self.is_new {
            return Ok(Vec::new());
        }
        let length = u64::from(step.seconds());
        let per_second = match subject {
            Subject::Endpoint { .. } => 160.0,
            Subject::Route { name } | Subject::Service { name } if name == "images" => 3.2,
            Subject::Route { name } if name.starts_with('/') => 96.0,
            _ => 412.0,
        };
        let periods = (from / length..until.min(self.now_unix_s + 1).div_ceil(length)).map(|at| {
            let start = at * length;
            let age = self.now_unix_s.saturating_sub(start);
            let seconds = length.min(age.max(1)) as f64;
            let is_gap = age <= GAP.0 && age > GAP.1;
            let is_bad = age <= TROUBLE.0 && age > TROUBLE.1;
            let wave = 1.0 + 0.25 * (start as f64 / 700.0).sin() + 0.08 * (start as f64 / 61.0).sin();
            let total = (per_second * wave * seconds) as u64;
            let failed = if is_bad { total / 24 } else { 0 };
            let mut counts = Counts { by_class: [0, total - failed, 0, 0, failed, 0], ..Counts::default() };
            counts.latency.buckets[if is_bad { 5 } else { 2 }] = total * 6 / 10;
            counts.latency.buckets[if is_bad { 7 } else { 4 }] = total * 37 / 100;
            counts.latency.buckets[if is_bad { 9 } else { 6 }] = total - total * 6 / 10 - total * 37 / 100;
            Period {
                start_unix_s: start,
                seconds: step.seconds(),
                covered_ms: if is_gap { 0 } else { (seconds * 1_000.0) as u32 },
                counts: if is_gap { Counts::default() } else { counts },
            }
        });
        Ok(periods.filter(|p| p.covered_ms > 0).collect())
    }

    fn subjects(&self) -> io::Result<Vec<Subject>> {
        Ok(Vec::new())
    }
}
