//! The pages over a node with a past: that every link leads somewhere, that names cannot break out, that the three shapes
//! agree, and that the first page is light.

#![expect(clippy::unwrap_used, reason = "a failure here is a test's failure")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::net::SocketAddr;
use std::time::Duration;

use kernel::event::Event;
use kernel::store::{FileHealth, FileState};
use kernel::tally::{Counts, Period, Subject};
use kernel::trace::{Kept, RequestTrace, Step, TRANSACTION, TraceEnd, What};
use tokio::io::AsyncWriteExt as _;

use super::kit::{Admin, Answer, BEGIN_UNIX_S, ask, connect, get, in_time, read_to_end};
use super::{BROWSER, problem};

/// Names as an attacker would choose them, if names could be chosen.
const HOSTILE: &str = "\"><script>alert(1)</script>&amp;";
const ROUTE: &str = "shop<b>\u{1b}[31m";

async fn page(addr: SocketAddr, path: &str) -> Answer {
    ask(addr, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{BROWSER}")).await
}

async fn json(addr: SocketAddr, path: &str) -> serde_json::Value {
    ask(addr, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n")).await.json()
}

fn trace(id: &str, kept: Kept, status: u16) -> RequestTrace {
    let what = What::Failed { number: 1, reason: HOSTILE.into() };
    let first = What::Try {
        number: 1,
        endpoint: "a:1".into(),
        tier: 0,
        chosen: "the only one",
        cause: "first",
        charged: false,
    };
    RequestTrace {
        id: id.into(),
        at_unix_us: (BEGIN_UNIX_S - 30) * 1_000_000,
        method: "GET".into(),
        target: HOSTILE.into(),
        host: HOSTILE.into(),
        client: "10.0.0.9".into(),
        route: ROUTE.into(),
        service: "shop".into(),
        worker: 0,
        kept: vec![kept],
        steps: vec![Step { at_us: 10, what: first }, Step { at_us: 900, what }],
        clipped: false,
        end: TraceEnd { status, took_us: 1_000, detail: HOSTILE.into(), whole: true, ..TraceEnd::default() },
    }
}

/// A transaction of a pool.
fn transaction(id: &str, kept: Kept) -> RequestTrace {
    let began = What::Began {
        pool: "main".into(),
        database: HOSTILE.into(),
        user: HOSTILE.into(),
        application: HOSTILE.into(),
    };
    let statement = What::Statement { text: HOSTILE.into(), took_us: 5, rows: 1, error: Some("40001".into()) };
    RequestTrace {
        method: TRANSACTION.into(),
        route: String::new(),
        service: String::new(),
        steps: vec![Step { at_us: 0, what: began }, Step { at_us: 900, what: statement }],
        end: TraceEnd { took_us: 1_000, detail: HOSTILE.into(), ..TraceEnd::default() },
        ..trace(id, kept, 0)
    }
}

/// A node to which something happened.
async fn troubled() -> Admin {
    let admin = Admin::start(false).await;
    let past = &admin.node.past;
    let (service, endpoint) = ("shop".to_owned(), "a:1".to_owned());
    past.journal.tell(Event::NodeStarted { version: "1".into(), pid: 1, config: HOSTILE.into(), took_over: false });
    past.journal.tell(Event::EndpointEjected {
        service: service.clone(),
        endpoint: endpoint.clone(),
        from: "healthy".into(),
        reason: HOSTILE.into(),
    });
    past.journal.tell(Event::EndpointDrained {
        service: service.clone(),
        endpoint,
        actor: HOSTILE.into(),
        reason: "x\u{1b}[31m".into(),
        kept: true,
    });
    past.journal.tell(Event::DnsLost { service: "gone & away".into(), name: "n".into(), error: "e".into() });
    for at in 0..180 {
        past.journal.tell(Event::NodeStopped { pid: at, cut: 0 });
    }
    *past.traces.lock().unwrap() = vec![
        trace("0190abc", Kept::Failed, 502),
        trace(HOSTILE, Kept::Retried, 200),
        trace("plain", Kept::Sample, 200),
        transaction("tx-00000000000000aa", Kept::Failed),
    ];
    *past.files.lock().unwrap() = vec![FileHealth {
        file: "journal",
        path: HOSTILE.into(),
        state: FileState::Lost,
        trouble: HOSTILE.into(),
        since_ms: 9_000,
        bytes: 4_096,
        cap_bytes: 268_435_456,
        waiting: 3,
        dropped: 1,
    }];
    past.clock.advance(Duration::from_secs(15));
    let mut tallies = past.tallies.0.lock().unwrap();
    for subject in [
        Subject::Service { name: service.clone() },
        Subject::Route { name: ROUTE.into() },
        Subject::Endpoint { service: service.clone(), name: "a:1".into() },
    ] {
        // The last 50 minutes, without ten of them in which nobody ran.
        let periods = (0..=200u64).filter(|n| !(100..140).contains(n)).map(|n| {
            let mut counts = Counts { by_class: [0, 150, 0, 0, u64::from(n < 8), 0], ..Counts::default() };
            counts.latency.buckets[4] = counts.total();
            Period { start_unix_s: BEGIN_UNIX_S - n * 15, seconds: 15, covered_ms: 15_000, counts }
        });
        tallies.insert((subject, 15), periods.collect());
    }
    drop(tallies);
    admin
}

/// Values of these attributes, as a browser reads them.
fn links(html: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for attribute in [" href=\"", " src=\"", " action=\"", " formaction=\"", " data-live=\""] {
        for rest in html.split(attribute).skip(1) {
            let value = rest.split('"').next().unwrap_or_default();
            found.insert(value.replace("&amp;", "&").replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">"));
        }
    }
    found
}

#[tokio::test]
async fn every_link_leads_somewhere_and_none_leads_away() {
    let admin = troubled().await;
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let mut left = vec![("/".to_owned(), "here".to_owned())];
    while let Some((path, from)) = left.pop() {
        if path.starts_with('#') || seen.contains_key(&path) {
            continue;
        }
        assert!(path.starts_with('/') && !path.starts_with("//"), "{from} leads away, to {path}");
        seen.insert(path.clone(), from.clone());
        // A stream does not end by itself; its path is tried by what reads it.
        if path.starts_with("/live?") || path.starts_with("/v1/journal/follow") {
            continue;
        }
        let answer = page(admin.addr, &path).await;
        // What changes something is not there to be read.
        let expected = if path.starts_with("/v1/reload") || path.starts_with("/v1/services/") { 405 } else { 200 };
        assert_eq!(answer.status, expected, "{path}, from {from}: {}", answer.body);
        if answer.header("content-type").starts_with("text/html") {
            left.extend(links(&answer.body).into_iter().map(|link| (link, path.clone())));
        }
    }
    for expected in [
        "/services/shop?range=7d",
        "/routes/shop%3Cb%3E%1B%5B31m",
        "/why/0190abc",
        "/journal?kind=endpoint.ejected&service=shop&endpoint=a:1",
        "/why?service=shop",
        "/assets/icon.svg",
    ] {
        assert!(seen.contains_key(expected), "{expected} is not among {:?}", seen.keys());
    }
    assert!(seen.len() > 40, "{:?}", seen.keys());
    let tallies = seen.keys().find(|path| path.starts_with("/v1/tallies?scope=service")).expect("the data of charts");
    assert!(!json(admin.addr, tallies).await["periods"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn hostile_names_stay_text_on_every_page() {
    let admin = troubled().await;
    let hostile_id = "%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E%26amp%3B";
    for path in [
        "/".to_owned(),
        "/services/shop".to_owned(),
        "/routes/shop%3Cb%3E%1B%5B31m".to_owned(),
        "/journal?limit=500".to_owned(),
        format!("/journal?endpoint={hostile_id}&service={hostile_id}"),
        "/why".to_owned(),
        format!("/why?service={hostile_id}"),
        "/why/0190abc".to_owned(),
        "/why/tx-00000000000000aa".to_owned(),
        format!("/why/{hostile_id}"),
        format!("/why/no{hostile_id}"),
        format!("/services/{hostile_id}"),
        format!("/{hostile_id}"),
    ] {
        let html = page(admin.addr, &path).await;
        assert!(html.header("content-type").starts_with("text/html"), "{path}");
        assert!(!html.body.contains("<script>") && !html.body.contains("<b>"), "{path}: {}", html.body);
        assert!(html.body.chars().all(|c| c == '\n' || !c.is_control()), "{path}: {}", html.body);
        let text = get(admin.addr, &path).await;
        assert!(text.body.chars().all(|c| c == '\n' || !c.is_control()), "{path}: {}", text.body);
    }
}

#[tokio::test]
async fn a_transaction_is_told_by_its_pool_and_not_by_a_route() {
    let admin = troubled().await;
    let html = page(admin.addr, "/why/tx-00000000000000aa").await.body;
    for said in ["The transaction failed after", "<dt>Pool</dt><dd>main</dd>", "failed with 40001 after"] {
        assert!(html.contains(said), "no {said} in {html}");
    }
    assert!(!html.contains("none matched") && !html.contains("<dt>For</dt>"), "{html}");
    let list = page(admin.addr, "/why").await.body;
    assert!(list.contains("TRANSACTION ") && list.contains("an error"), "{list}");
}

#[tokio::test]
async fn home_says_what_changed_and_how_the_store_is_in_three_shapes() {
    let admin = troubled().await;
    let html = page(admin.addr, "/").await.body;
    let text = get(admin.addr, "/").await.body;
    for shape in [&html, &text] {
        for said in ["was taken out", "drained a:1 of shop", "journal"] {
            assert!(shape.contains(said), "no {said} in {shape}");
        }
    }
    assert!(html.contains("class=\"spark\"") && html.contains("30 min"), "{html}");
    assert!(html.contains("nothing was counted for"), "the spark says what it does not know");
    let home = json(admin.addr, "/").await;
    assert_eq!(home["headline"], home["summary"]);
    let doing = home["doing"][0].as_str().unwrap();
    assert!(doing.starts_with("Not kept on disk: journal is lost"), "{doing}");
    assert_eq!(home["store"][0]["state"], "lost");
    assert_eq!(home["changes"]["records"].as_array().unwrap().len(), 4, "{}", home["changes"]);
    let spark = &home["sparks"]["services"]["shop"];
    assert_eq!((spark["point_seconds"].as_f64(), spark["requests_per_second"][59].as_f64()), (Some(30.0), Some(10.1)));
    // Programs that ask for the state often are not sent charts.
    let status = json(admin.addr, "/v1/status").await;
    assert_eq!(
        (status["sparks"].is_null(), &status["level"], &status["store"]),
        (true, &home["level"], &home["store"])
    );
}

#[tokio::test]
async fn charts_show_the_range_with_what_changed_and_what_was_not_counted() {
    let admin = troubled().await;
    let html = page(admin.addr, "/services/shop").await.body;
    let columns = html.matches("class=\"hit\"").count();
    assert_eq!(columns, 2 * 120, "two charts of an hour in half minutes");
    assert_eq!(html.matches("fill=\"url(#hatch-rate)\"").count(), 2, "before it began, and the ten minutes");
    assert!(html.contains("nothing was counted, 19 min 30 s in all"), "{html}");
    assert!(
        html.contains("class=\"mark warn\"") && html.contains("12:00:00 to 12:00:30: 10 requests/s, 1 of 151 failed")
    );
    let facts = json(admin.addr, "/services/shop").await;
    assert_eq!(facts["series"]["columns"][119]["requests"], 151);
    assert_eq!(
        (facts["series"]["uncovered_seconds"].as_u64(), facts["range"]["name"].as_str()),
        (Some(1_170), Some("1h"))
    );
    assert_eq!(facts["troubled"].as_array().unwrap().len(), 2, "the sample is plain");
    assert_eq!(facts["events"]["records"].as_array().unwrap().len(), 2, "{}", facts["events"]);
    let text = get(admin.addr, "/services/shop").await.body;
    assert!(text.contains("nothing was counted for 19 min 30 s of it") && text.contains("0190abc"), "{text}");

    let day = page(admin.addr, "/services/shop?range=24h").await.body;
    assert!(day.contains("aria-current=\"true\">24h</a>") && day.contains("Nothing was counted in this time"), "{day}");
    let own = json(admin.addr, "/routes/shop%3Cb%3E%1B%5B31m?from=2026-03-01T11:30:00Z&to=2026-03-01T11:45:00Z").await;
    assert_eq!((own["range"]["name"].is_null(), own["series"]["columns"].as_array().unwrap().len()), (true, 60));
    problem(&get(admin.addr, "/services/shop?range=2h").await, 400, "malformed-call");
    problem(&get(admin.addr, "/routes/none").await, 404, "not-found");
}

#[tokio::test]
async fn the_journal_is_filtered_in_the_address_and_read_page_by_page() {
    let admin = troubled().await;
    let first = page(admin.addr, "/journal?level=info").await.body;
    assert_eq!(first.matches("<li class=\"event").count(), 100);
    assert!(first.contains("Sunday, 1 March 2026"), "{first}");
    let older = links(&first).into_iter().find(|link| link.contains("before=")).expect("a link to older records");
    let second = page(admin.addr, &older).await.body;
    assert_eq!(second.matches("<li class=\"event").count(), 84, "all of the others");
    assert!(second.contains(">Newest</a>") && !second.contains(">Older</a>") && !second.contains("data-live"));

    let warned = page(admin.addr, "/journal?level=warn&service=shop&kind=&since=&marks=true").await.body;
    assert_eq!(warned.matches("<li class=\"event").count(), 1);
    for kept in ["<option value=\"warn\" selected>", "<option value=\"shop\" selected>", " checked"] {
        assert!(warned.contains(kept), "no {kept} in {warned}");
    }
    let gone = page(admin.addr, "/journal?service=gone%20%26%20away").await.body;
    assert!(gone.contains("<option value=\"gone &amp; away\" selected>") && gone.contains("DNS does not answer"));
    let none = get(admin.addr, "/journal?kind=limit").await.body;
    assert!(none.starts_with("Nothing in the journal is like that."), "{none}");
    problem(&get(admin.addr, "/journal?since=soon").await, 400, "malformed-call");
    assert_eq!(json(admin.addr, "/journal?kind=deploy").await["records"], serde_json::json!([]));
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_does_not_take_the_pages_along() {
    let admin = troubled().await;
    admin.node.past.lose_journal(true);
    for path in ["/", "/services/shop", "/journal", "/why/0190abc"] {
        let html = page(admin.addr, path).await;
        assert_eq!(html.status, 200, "{path}");
        assert!(html.body.contains("The journal cannot be read now: the disk is away."), "{path}: {}", html.body);
    }
}

#[tokio::test]
async fn a_request_is_explained_and_one_that_is_not_kept_is_said_to_be_so() {
    let admin = troubled().await;
    let form = page(admin.addr, "/why?id=+0190abc+").await;
    assert_eq!((form.status, form.header("location")), (303, "/why/0190abc"));
    let html = page(admin.addr, "/why/0190abc").await.body;
    for said in
        ["The client got 502", "Step by step", "class=\"try bad\"", "The journal of those minutes", "was taken out"]
    {
        assert!(html.contains(said), "no {said} in {html}");
    }
    let text = get(admin.addr, "/why/0190abc").await.body;
    assert_eq!(text, get_text(admin.addr, "/v1/why/0190abc").await, "the same as what the command line prints");
    assert!(text.contains("try 1  failed: "), "{text}");
    assert_eq!(json(admin.addr, "/why/0190abc").await["why"]["found"][0]["id"], "0190abc");
    let unknown = page(admin.addr, "/why/unknown").await;
    assert_eq!(unknown.status, 404);
    for said in ["No trace of unknown is kept.", "Traces reach back to 2026-03-01 11:59:30 UTC", "one in 1\u{202f}000"]
    {
        assert!(unknown.body.contains(said), "no {said} in {}", unknown.body);
    }
    assert_eq!(get(admin.addr, "/why/unknown").await.status, 404);
}

async fn get_text(addr: SocketAddr, path: &str) -> String {
    ask(addr, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain\r\n")).await.body
}

/// Body as it came, and as it is read.
async fn packed(addr: SocketAddr, path: &str) -> (usize, String) {
    let mut stream = connect(addr).await;
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip, br\r\nConnection: close\r\n{BROWSER}\r\n"
    );
    in_time(stream.write_all(head.as_bytes())).await.unwrap();
    let bytes = read_to_end(stream).await;
    let at = bytes.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase();
    assert!(head.contains("\r\ncontent-encoding: gzip\r\n") && head.contains("accept-encoding"), "{head}");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&bytes[at..]).read_to_string(&mut text).unwrap();
    (bytes.len() - at, text)
}

#[tokio::test]
async fn the_first_page_is_light_and_what_may_be_kept_is_kept() {
    let admin = troubled().await;
    let (mut size, html) = packed(admin.addr, "/").await;
    assert_eq!(html.split("class=\"foot\"").count(), page(admin.addr, "/").await.body.split("class=\"foot\"").count());
    let assets: Vec<String> = links(&html).into_iter().filter(|link| link.starts_with("/assets/")).collect();
    assert_eq!(assets.len(), 3, "style, script and icon: {assets:?}");
    for asset in &assets {
        let answer = get(admin.addr, asset).await;
        assert!(answer.header("cache-control").starts_with("max-age="), "{asset}");
        size += if asset.ends_with(".svg") { answer.body.len() } else { packed(admin.addr, asset).await.0 };
    }
    assert!(size < 60_000, "{size} bytes");
    let (service, _) = packed(admin.addr, "/services/shop").await;
    assert!(service < 30_000, "{service} bytes");
    problem(&get(admin.addr, "/assets/style-000000000000.css").await, 404, "not-found");
    // Without a wish for it nothing is compressed, and what is small is not either.
    assert!(get(admin.addr, "/").await.header("content-encoding").is_empty());
}

#[tokio::test]
async fn a_refusal_has_the_style_of_the_other_pages() {
    let admin = Admin::start(true).await;
    let refused = ask(admin.addr, &format!("GET / HTTP/1.1\r\nHost: keel.example\r\n{BROWSER}")).await;
    assert_eq!(refused.status, 401);
    let style = links(&refused.body).into_iter().find(|link| link.ends_with(".css")).expect("a style sheet");
    assert_eq!(ask(admin.addr, &format!("GET {style} HTTP/1.1\r\nHost: keel.example\r\n")).await.status, 200);
}
