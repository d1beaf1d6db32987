//! The console message by message: what each `SHOW` answers, both protocols, who may give which orders.

mod extended;
mod orders;
mod shown;

use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::plan::{AuthMethods, AuthPlan, Listen, Mode, ServerTlsMode, ServerTlsPlan, SessionState};
use crate::view::{GroupView, ServerView, Totals};
use crate::wire::{self, frontend as put, tag};

/// A node that writes down what it is ordered.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(super) pools: Mutex<Vec<PoolView>>,
    pub(super) ordered: Mutex<Vec<String>>,
    pub(super) is_broken: bool,
}

pub(crate) fn pool(name: &str) -> PoolView {
    PoolView {
        name: name.to_owned(),
        listen: vec!["127.0.0.1:6432".to_owned()],
        mode: "transaction",
        is_paused: false,
        servers: vec![server("10.0.0.1:5432", "standby"), server("10.0.0.2:5433", "primary")],
        primary: Some(1),
        trouble: None,
        max_connections: 80,
        connections: 9,
        clients: 30,
        max_clients: 10_000,
        groups: Vec::new(),
    }
}

fn server(name: &str, role: &'static str) -> ServerView {
    ServerView {
        name: name.to_owned(),
        role,
        error: None,
        timeline: None,
        lsn: None,
        lag_bytes: None,
        answered: None,
        version: None,
        max_connections: None,
    }
}

pub(crate) fn group(database: &str, user: &str, transactions: u64) -> GroupView {
    GroupView {
        database: database.to_owned(),
        user: user.to_owned(),
        mode: "transaction",
        size: 20,
        totals: Totals { transactions, ..Totals::default() },
        ..GroupView::default()
    }
}

fn plan(name: &str) -> PoolPlan {
    PoolPlan {
        name: name.to_owned(),
        listen: vec![Listen::Tcp(([127, 0, 0, 1], 6_432).into()), Listen::Unix("/run/evenkeel/.s.PGSQL.6432".into())],
        servers: Vec::new(),
        databases: Some(vec!["shop".to_owned(), "reports".to_owned()]),
        rules: vec![crate::plan::RulePlan {
            database: Some("reports".to_owned()),
            mode: Some(Mode::Session),
            size: Some(3),
            server_database: Some("reports_v2".to_owned()),
            ..crate::plan::RulePlan::default()
        }],
        auth: AuthPlan {
            user: "evenkeel".to_owned(),
            password: "secret".to_owned(),
            database: "postgres".to_owned(),
            query: "select 1".to_owned(),
            users: Vec::new(),
            methods: AuthMethods { certificate: false, peer: false },
        },
        mode: Mode::Transaction,
        session_state: SessionState::Track,
        size: 20,
        min_size: 1,
        reserve: 5,
        reserve_after: Duration::from_secs(3),
        max_connections: 80,
        max_clients: 10_000,
        max_waiting: 100,
        queue_timeout: Duration::from_secs(30),
        connect_timeout: Duration::from_millis(2_500),
        login_timeout: Duration::from_secs(15),
        lifetime: Some(Duration::from_secs(3_600)),
        idle_timeout: Some(Duration::from_secs(600)),
        client_idle_timeout: None,
        query_timeout: None,
        idle_in_transaction_timeout: None,
        transaction_timeout: None,
        max_prepared_statements: 200,
        max_pinned: 5,
        slow: None,
        statements: 1_000,
        probe_interval: Duration::from_millis(250),
        admin_users: vec!["adm".to_owned()],
        stats_users: vec!["look".to_owned()],
        tls: None,
        server_tls: ServerTlsPlan { mode: ServerTlsMode::Prefer, direct: false, ca: Vec::new() },
    }
}

pub(super) fn node() -> Node {
    let mut main = pool("main");
    let mut app = group("shop", "app", 1_000);
    (app.clients_active, app.clients_waiting, app.clients_idle, app.clients_pinned) = (4, 2, 20, 1);
    (app.servers_active, app.servers_idle, app.servers_busy) = (4, 3, 1);
    app.max_wait = Duration::from_micros(1_250_000);
    app.totals.queries = 3_000;
    app.totals.received = 7_000_000_000;
    app.totals.assignments = 1_000;
    app.totals.transaction.sum_us = 5_000_000;
    app.totals.wait.sum_us = 90_000;
    let mut other = group("shop", "it\u{fc}", 10);
    other.servers_idle = 1;
    main.groups = vec![app, other];
    Node { pools: Mutex::new(vec![main]), ..Node::default() }
}

impl AdminNode for Node {
    fn plans(&self) -> Vec<Arc<PoolPlan>> {
        vec![Arc::new(plan("main")), Arc::new(plan("second"))]
    }

    fn pools(&self) -> Vec<PoolView> {
        self.pools.lock().unwrap().clone()
    }

    fn clients(&self) -> Vec<ClientView> {
        vec![ClientView {
            id: 17,
            pool: "main".to_owned(),
            database: "shop".to_owned(),
            user: "app".to_owned(),
            application: "billing".to_owned(),
            state: "pinned",
            address: "[::1]:50123".to_owned(),
            server: Some(5),
            connected_unix: 1_772_366_400,
            waiting: Duration::ZERO,
            since_request: Duration::from_secs(2),
            prepared: 3,
            is_tls: true,
            query: "select 1".to_owned(),
            worker: 0,
        }]
    }

    fn connections(&self) -> Vec<ConnectionView> {
        vec![ConnectionView {
            id: 5,
            pool: "main".to_owned(),
            database: "shop".to_owned(),
            user: "app".to_owned(),
            state: "cleaning",
            server: "/run/postgresql/.s.PGSQL.5432".to_owned(),
            client: Some(17),
            remote_pid: 4_242,
            connected_unix: 1_772_366_400,
            since_request: Duration::from_secs(60),
            prepared: 9,
            is_tls: false,
            worker: 0,
        }]
    }

    fn statements(&self) -> Vec<StatementView> {
        vec![StatementView {
            pool: "main".to_owned(),
            database: "shop".to_owned(),
            user: "app".to_owned(),
            fingerprint: "00000000000000ab".to_owned(),
            text: "select ?".to_owned(),
            calls: 5,
            errors: 1,
            rows: 4,
            total_us: 500,
            p50_us: Some(90),
            p99_us: None,
        }]
    }

    fn earlier(&self) -> Earlier {
        let totals = Totals { transactions: 400, queries: 1_000, received: 1_000_000_000, ..Totals::default() };
        Earlier { age: Duration::from_secs(100), totals: [("shop".to_owned(), totals)].into() }
    }

    fn now_unix(&self) -> u64 {
        1_772_366_500
    }

    fn order(&self, pool: &str, order: &Order) -> Result<(), OrderError> {
        self.ordered.lock().unwrap().push(format!("{pool}: {order}"));
        for view in self.pools.lock().unwrap().iter_mut().filter(|view| view.name == pool) {
            match order {
                Order::Pause => view.is_paused = true,
                Order::Resume => view.is_paused = false,
                _ => {}
            }
        }
        Ok(())
    }

    fn reload(&self) -> Result<(), String> {
        if self.is_broken { Err("line 3: no such key".to_owned()) } else { Ok(()) }
    }
}

/// Messages as people read them.
pub(super) fn read(mut out: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(frame) = wire::frame(out).unwrap() {
        let (whole, rest) = out.split_at(frame.len);
        out = rest;
        all.push(one(frame.tag, &whole[5..]));
    }
    assert!(out.is_empty(), "a message is not whole");
    all
}

fn one(tag: u8, body: &[u8]) -> String {
    match tag {
        tag::ROW_DESCRIPTION => {
            let count = u16::from_be_bytes([body[0], body[1]]);
            let mut rest = &body[2..];
            let mut columns = Vec::new();
            for _ in 0..count {
                let end = rest.iter().position(|byte| *byte == 0).unwrap();
                let oid = u32::from_be_bytes(rest[end + 7..end + 11].try_into().unwrap());
                let format = rest[end + 18];
                let kind = match oid {
                    25 => "",
                    23 => ":int4",
                    20 => ":int8",
                    1700 => ":numeric",
                    _ => ":unknown",
                };
                let binary = if format == 1 { "*" } else { "" };
                columns.push(format!("{}{kind}{binary}", String::from_utf8_lossy(&rest[..end])));
                rest = &rest[end + 19..];
            }
            assert!(rest.is_empty());
            format!("columns {}", columns.join(" "))
        }
        tag::DATA_ROW => {
            let cell = |cell: Option<&[u8]>| match cell {
                None => "NULL".to_owned(),
                Some(bytes) if bytes.iter().any(|byte| *byte < 32) => format!("{bytes:?}"),
                Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            };
            let cells = wire::backend::data_row(body).unwrap();
            format!("row {}", cells.into_iter().map(cell).collect::<Vec<_>>().join("|"))
        }
        tag::ERROR | tag::NOTICE => {
            let fields = wire::backend::Fields::read(body).unwrap();
            let rest: Vec<_> = [b'M', b'H'].into_iter().filter_map(|code| fields.field(code)).collect();
            format!("{} {} {}", fields.severity(), fields.sqlstate(), rest.join(" / "))
        }
        tag::COMMAND_COMPLETE => format!("done {}", String::from_utf8_lossy(&body[..body.len() - 1])),
        tag::READY => format!("ready {}", char::from(body[0])),
        tag::PARAMETER_DESCRIPTION => format!("parameters {}", body.len()),
        tag => char::from(tag).to_string(),
    }
}

/// The answers to messages that were put together by `put`.
pub(super) fn exchange(session: &mut AdminSession, node: &Node, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
    let (mut sent, mut out) = (Vec::new(), Vec::new());
    fill(&mut sent);
    let mut rest = sent.as_slice();
    while let Some(frame) = wire::frame(rest).unwrap() {
        let (whole, after) = rest.split_at(frame.len);
        assert!(session.message(frame.tag, &whole[5..], node, &mut out), "{:?}", read(&out));
        rest = after;
    }
    read(&out)
}

/// The answer to a simple query of an administrator.
pub(super) fn ask(node: &Node, text: &str) -> Vec<String> {
    exchange(&mut AdminSession::new(true), node, |out| put::put_query(out, text.as_bytes()))
}
