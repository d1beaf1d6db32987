//! Twenty processes, one after the other, under load: nobody is refused, reset or left without an answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use testkit::{
    Binary, Load, LoadOptions, LoadRequest, RawClient, Reply, Resend, Script, ServingUpstream, Upstream, eventually,
};

use crate::handover::{ends, next, store, with_store};
use crate::support::{Config, SOON};

/// How many processes follow the first.
const HAND_OVERS: usize = 20;
/// Requests that a pipelining client sends in one piece.
const AHEAD: usize = 5;
/// How many such pieces it sends on one connection.
const PIECES: usize = 200;

/// Threads that do the same again and again and may not fail.
struct Clients {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Clients {
    fn start(n: usize, once: impl Fn() -> anyhow::Result<()> + Send + Sync + 'static) -> Clients {
        let (stop, rounds, once) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::new(once));
        let threads = (0..n).map(|_| {
            let (stop, rounds, once) = (stop.clone(), rounds.clone(), once.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    once()?;
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        });
        let threads = threads.collect();
        Clients { stop, rounds, threads }
    }

    fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    fn is_failing(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Every client has ended without a failure.
    #[track_caller]
    fn end(self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads {
            thread.join().unwrap().unwrap();
        }
    }
}

/// Five requests in one piece on one connection; an answer that says it is the last may be the last only if all were
/// answered.
fn pipeline(gateway: SocketAddr) -> anyhow::Result<()> {
    let mut client = RawClient::connect(gateway)?;
    for _ in 0..PIECES {
        let all: String = (0..AHEAD).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: shop\r\n\r\n")).collect();
        client.send(all)?;
        let answers = client.read_responses(AHEAD, SOON)?;
        let fine = answers.iter().enumerate().all(|(n, a)| a.status == 200 && a.text() == format!("/{n}"));
        anyhow::ensure!(fine, "{answers:?}");
        if answers.iter().any(|a| a.closes()) {
            break;
        }
    }
    Ok(())
}

/// A tunnel, some bytes there and back, and its end.
fn tunnel(gateway: SocketAddr) -> anyhow::Result<()> {
    let mut client = RawClient::connect(gateway)?;
    client.send("GET /chat HTTP/1.1\r\nHost: echo\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")?;
    let answer = client.read_response_head(SOON)?;
    anyhow::ensure!(answer.status == 101, "{answer:?}");
    for _ in 0..TALK {
        client.send("ping")?;
        anyhow::ensure!(client.read_exact(4, SOON)? == b"pong", "something else came back");
        testkit::pace(std::time::Duration::from_millis(25));
    }
    client.half_close()?;
    client.expect_close(SOON)
}

/// Words said in a tunnel; with the rests between them it outlives a hand-over or two.
const TALK: usize = 20;

/// A service for tunnels, each of which takes one of the scripts.
#[track_caller]
fn echo() -> testkit::ScriptedUpstream {
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    let script = (0..TALK)
        .fold(Script::new().read_head().send(switched), |script, _| script.read_until("ping").send("pong"))
        .read_end()
        .close();
    Upstream::script(vec![script; 400]).unwrap()
}

#[track_caller]
fn shop() -> ServingUpstream {
    Upstream::serving(|request| Reply::ok(request.path().to_owned())).unwrap()
}

#[test]
fn twenty_hand_overs_under_load_fail_nobody() {
    let (store, shop, echo) = (store(), shop(), echo());
    let config = Config::new()
        .service("shop", &[shop.addr()], "")
        .service("echo", &[echo.addr()], "")
        .with("[[route]]\npath = \"/chat\"\nservice = \"echo\"\n[[route]]\nname = \"all\"\nservice = \"shop\"");
    let config = with_store(&config, store.path());
    let mut nodes: Vec<Binary> = vec![config.up()];
    let gateway = nodes[0].gateway();

    let requests = vec![LoadRequest::get("/"), LoadRequest::post("/cart", "abc")];
    let options = LoadOptions { resend: Resend::Never, ..LoadOptions::new(gateway, 4).requests(requests) };
    let keeping = Load::start(options.clone()).unwrap();
    let resting = Load::start(LoadOptions { pause: std::time::Duration::from_millis(40), ..options.clone() }).unwrap();
    let changing = Load::start(LoadOptions { requests_per_connection: Some(1), ..options }).unwrap();
    let piping = Clients::start(2, move || pipeline(gateway));
    let talking = Clients::start(4, move || tunnel(gateway));

    for n in 1..=HAND_OVERS {
        let before = (keeping.report().ok, resting.report().ok, changing.report().ok);
        let workers = format!("workers = {}", 1 + n % 3);
        nodes.push(next(&config.clone().gateway(&workers)));
        assert_eq!(nodes[n].gateway(), gateway);
        eventually(SOON, "every kind of load to go on", || {
            let now = (keeping.report().ok, resting.report().ok, changing.report().ok);
            assert!(!piping.is_failing() && !talking.is_failing(), "a client has failed at hand-over {n}");
            (now.0 > before.0 && now.1 > before.1 && now.2 > before.2).then_some(())
        });
    }
    let reports = [keeping.stop(), resting.stop(), changing.stop()];
    assert!(piping.rounds() > 0 && talking.rounds() > 0);
    piping.end();
    talking.end();
    for report in &reports {
        report.assert_clean();
        assert!(report.connections >= HAND_OVERS as u64, "clients were not asked to come anew: {report:?}");
    }
    let last = nodes.pop().unwrap();
    for node in &mut nodes {
        ends(node);
    }
    assert_eq!(crate::support::ask(last.gateway(), "GET /").status, 200);
    assert_eq!(shop.problems(), Vec::<String>::new());
}
