//! The story of the demo beside what was done in it: the sentences of the console's home, the journal, the decision paths
//! and the counts have to agree with the timeline of what was injected, and nothing may be told of a replica to which
//! nothing was done.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use testkit::{Binary, Signal, eventually};

use crate::support::{SOON, ask, ask_with, json};

/// What one chapter may take on a machine that does other things as well: its own limits are 20 s and 40 s.
const CHAPTER: Duration = Duration::from_secs(90);

/// A story that is being told, as JSON.
struct Story {
    demo: Binary,
    console: SocketAddr,
    replicas: Vec<String>,
    controls: Vec<SocketAddr>,
}

impl Story {
    fn begin() -> Story {
        let demo = Binary::start(&["demo", "--story", "--json"]).unwrap();
        let begun = document(&demo, "{\"line\":\"begun\"");
        let of_each = |key: &str| -> Vec<String> {
            let replicas = begun["replicas"].as_array().unwrap().iter();
            replicas.map(|replica| replica[key].as_str().unwrap().to_owned()).collect()
        };
        let controls = of_each("control").iter().map(|address| address.parse().unwrap()).collect();
        let console = begun["console"].as_str().unwrap().parse().unwrap();
        Story { console, replicas: of_each("address"), controls, demo }
    }

    /// The document of a chapter: `done`, `undone` or `told`.
    #[track_caller]
    fn line(&self, which: &str, chapter: &str) -> Value {
        document(&self.demo, &format!("{{\"line\":\"{which}\",\"chapter\":\"{chapter}\""))
    }

    /// What the console's home says in words, above its tables: a sentence a line.
    fn home(&self) -> Vec<String> {
        let text = ask(self.console, "GET /\nAccept: text/plain").text();
        text.split("\n\n")
            .nth(1)
            .unwrap_or_else(|| panic!("no sentences in {text}"))
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Those to which nothing was done.
    fn others(&self, hurt: &[String]) -> Vec<String> {
        self.replicas.iter().filter(|replica| !hurt.contains(replica)).cloned().collect()
    }

    /// The record of the journal as the console gives it, by the process and the number in it.
    fn is_in_the_journal(&self, record: &Value, told: &Value) -> bool {
        let (since, until) = (&told["began_unix_ms"], &told["ended_unix_ms"]);
        let query = format!("since={since}&until={until}&order=oldest&limit=1000");
        let page = json(&ask(self.console, &format!("GET /v1/journal?{query}")));
        page["records"].as_array().unwrap().contains(record)
    }
}

#[track_caller]
fn document(demo: &Binary, beginning: &str) -> Value {
    let line = demo.wait_log(beginning, CHAPTER).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"))
}

fn hurt(line: &Value) -> Vec<String> {
    line["hurt"].as_array().unwrap().iter().map(|h| h["address"].as_str().unwrap().to_owned()).collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The records of this kind about a service.
fn records<'a>(told: &'a Value, kind: &str, service: &str) -> Vec<&'a Value> {
    let all = told["records"].as_array().unwrap().iter();
    all.filter(|record| record["kind"] == kind && record["service"] == service).collect()
}

/// The steps of the decision path, with the step's name.
fn steps<'a>(told: &'a Value, name: &str) -> Vec<&'a Value> {
    told["path"]["steps"].as_array().unwrap().iter().filter(|step| step["step"] == name).collect()
}

/// One replica is hurt: the home page, the journal and a decision path name it, with the right reason, at the right time.
fn one_is_hurt(story: &Story, chapter: &str, reasons: &[&str]) -> Value {
    let done = story.line("done", chapter);
    let who = hurt(&done);
    let (who, others) = (&who[0], story.others(&who));
    eventually(SOON, &format!("the home to tell that {who} of shop was taken out"), || {
        let home = story.home();
        for other in &others {
            let is_blamed = |line: &&String| line.contains(other.as_str()) && line.contains("taken out");
            assert_eq!(home.iter().find(is_blamed), None, "nothing was done to it");
        }
        home.iter().any(|line| line.contains(&format!("{who} of shop was taken out"))).then_some(())
    });
    let told = story.line("told", chapter);
    let undone = number(&story.line("undone", chapter)["at_unix_ms"]);
    let (done, ended) = (number(&done["at_unix_ms"]), number(&told["ended_unix_ms"]));
    assert_eq!(told["problems"].as_array().map(Vec::len), Some(0), "{told:#}");

    let ejected = records(&told, "endpoint.ejected", "shop");
    let at = number(&ejected[0]["at_unix_ms"]);
    assert!((done..undone).contains(&at), "done at {done}, undone at {undone}: {ejected:#?}");
    let reason = ejected[0]["data"]["reason"].as_str().unwrap();
    assert!(reasons.iter().any(|wanted| reason.contains(wanted)), "{chapter}: {reason}");
    let returned = records(&told, "endpoint.returned", "shop");
    let back = returned.last().unwrap_or_else(|| panic!("{who} is not back: {told:#}"));
    assert!((undone..=ended).contains(&number(&back["at_unix_ms"])), "undone at {undone}: {back:#}");
    for record in told["records"].as_array().unwrap() {
        let endpoint = record["endpoint"].as_str().unwrap();
        assert!(endpoint.is_empty() || record["kind"] != "endpoint.ejected" || endpoint == who, "{record:#}");
    }
    agrees_with_the_console(story, &told);
    assert_eq!(steps(&told, "try")[0]["endpoint"].as_str(), Some(who.as_str()), "{:#}", told["path"]);
    told
}

/// The console knows the same records, and the same path.
fn agrees_with_the_console(story: &Story, told: &Value) {
    for record in told["records"].as_array().unwrap() {
        assert!(story.is_in_the_journal(record, told), "the console does not know {record:#}");
    }
    let id = told["path"]["id"].as_str().unwrap();
    let why = json(&ask(story.console, &format!("GET /v1/why/{id}")));
    assert!(why.to_string().contains(&told["path"]["steps"].to_string()), "{why:#}\nis not {:#}", told["path"]);
    let text = ask(story.console, &format!("GET /why/{id}\nAccept: text/plain")).text();
    assert!(text.contains(id), "{text}");
}

/// How many were answered with a status of each class, or not at all, by what clients saw.
fn by_class(clients: &[Value]) -> [u64; 6] {
    let mut counts = [0; 6];
    for (status, n) in clients.iter().flat_map(|seen| seen["by_status"].as_object().unwrap()) {
        let class = match status.parse::<usize>().unwrap() {
            0 => 5,
            status => status / 100 - 1,
        };
        counts[class] += number(n);
    }
    counts
}

/// Whether the request whose path is told was answered well: a page, or an order that was placed.
fn is_good(told: &Value) -> bool {
    told["path"]["end"]["status"].as_u64().is_some_and(|status| (200..300).contains(&status))
}

#[test]
fn what_is_told_is_what_was_done() {
    let mut story = Story::begin();
    let calm = story.line("told", "calm");
    assert_eq!(number(&calm["clients"]["failed"]), 0, "{calm:#}");
    assert_eq!(records(&calm, "endpoint.ejected", "shop").len(), 0, "{calm:#}");
    let words = story.home().join(" ");
    assert!(!words.contains("taken out"), "{words}");

    let killed = one_is_hurt(&story, "killed", &["attempts to connect failed"]);
    assert!(steps(&killed, "failed")[0]["reason"].as_str().is_some_and(|r| r.contains("refused")), "{killed:#}");
    assert!(is_good(&killed), "{killed:#}");
    for chapter in ["frozen", "slow"] {
        let told = one_is_hurt(&story, chapter, &["silent", "ms"]);
        assert_eq!(number(&told["clients"]["failed"]), 0, "{told:#}");
        let tries = steps(&told, "try");
        assert!(!steps(&told, "silent").is_empty() && tries[1]["endpoint"] != tries[0]["endpoint"], "{told:#}");
        assert!(is_good(&told), "{told:#}");
    }
    let failing = one_is_hurt(&story, "failing", &["(500)"]);
    let clients = &failing["clients"];
    assert_eq!(clients["by_status"]["500"], clients["failed"], "{clients:#}");
    assert_eq!(failing["path"]["end"]["status"], 500);

    let flood = story.line("told", "flood");
    let reached = records(&flood, "limit.reached", "reports");
    let until = number(&flood["undone_unix_ms"]) + 1_500;
    assert!((number(&flood["done_unix_ms"])..until).contains(&number(&reached[0]["at_unix_ms"])), "{flood:#}");
    assert_eq!(
        (records(&flood, "limit.reached", "shop").len(), number(&flood["clients"]["failed"])),
        (0, 0),
        "{flood:#}"
    );
    assert_eq!(flood["path"]["end"]["error"], "service-overloaded");
    assert_eq!(steps(&flood, "turned_away").len(), 1, "{flood:#}");
    agrees_with_the_console(&story, &flood);

    let outage = story.line("told", "outage");
    let [done, undone, ended] = ["done_unix_ms", "undone_unix_ms", "ended_unix_ms"].map(|key| number(&outage[key]));
    let at = |kind: &str| number(&records(&outage, kind, "shop")[0]["at_unix_ms"]);
    assert!((done..undone).contains(&at("parking.began")), "{outage:#}");
    assert!((undone..=ended).contains(&at("parking.ended")), "{outage:#}");
    assert_eq!((steps(&outage, "parked").len(), steps(&outage, "released").len()), (1, 1), "{outage:#}");
    assert_eq!(outage["path"]["end"]["status"].as_u64().map(|status| status / 100), Some(2));

    let end = document(&story.demo, "{\"line\":\"end\"");
    assert_eq!(story.demo.wait_exit(SOON).unwrap(), Some(0), "{end:#}");
    let clients = end["clients"].as_array().unwrap();
    let gateway: Vec<u64> = end["gateway"]["by_class"].as_array().unwrap().iter().map(number).collect();
    assert_eq!(by_class(clients).to_vec(), gateway, "clients and gateway have not counted the same: {end:#}");
    let chapters = ["calm", "killed", "frozen", "slow", "failing", "flood", "outage"];
    let told: u64 = chapters.map(|name| number(&story.line("told", name)["clients"]["requests"])).iter().sum();
    let whole = number(&clients[0]["requests"]);
    // At the end a request or two are due that belong to no chapter: a second of them would be a gap.
    assert!((whole - 100..=whole).contains(&told), "{told} of {whole}");
}

/// Where the demo keeps its store, by the files that it has open.
fn store_of(demo: &Binary) -> PathBuf {
    let is_it = |path: &&Path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("evenkeel-demo-"));
    eventually(SOON, "the store to be open", || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", demo.pid())).ok()?;
        let mut paths = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        paths.find_map(|path| path.ancestors().find(is_it).map(Path::to_owned))
    })
}

#[test]
fn a_signal_ends_it_in_the_middle_and_nothing_is_left_behind() {
    let mut demo = Binary::start(&["demo", "--story"]).unwrap();
    demo.wait_log("replica 1 is killed: ", CHAPTER).unwrap();
    let store = store_of(&demo);
    assert_eq!(std::fs::metadata(&store).unwrap().permissions().mode() & 0o777, 0o700);
    demo.signal(Signal::Int).unwrap();
    assert_eq!(demo.wait_exit(SOON).unwrap(), Some(0), "{}", demo.logs());
    let text = demo.logs();
    assert!(text.contains("\nended in the middle, after 1 of 7 chapters\n"), "{text}");
    assert!(text.contains("\ncalm  ") && !text.contains("\nkilled "), "{text}");
    assert!(!store.exists(), "{} is left behind", store.display());
}

#[test]
fn told_twice_it_ends_at_once_and_nothing_is_left_behind() {
    let mut demo = Binary::start(&["demo"]).unwrap();
    demo.wait_log("Ctrl-C ends it.", SOON).unwrap();
    let store = store_of(&demo);
    for _ in 0..2 {
        demo.signal(Signal::Int).unwrap();
    }
    assert_eq!(demo.wait_exit(SOON).unwrap(), Some(0), "{}", demo.logs());
    assert!(!demo.logs().contains("ERROR"), "{}", demo.logs());
    assert!(!store.exists(), "{} is left behind", store.display());
}

#[test]
fn a_chapter_that_does_not_go_as_it_should_is_said() {
    let mut story = Story::begin();
    // The story knows nothing of it.
    assert_eq!(ask_with(story.controls[2], "POST /faults", "{\"down\":true}").status, 200);
    let store = &story.replicas[2];
    eventually(SOON, "the home to tell of it", || story.home().iter().any(|line| line.contains(store)).then_some(()));
    assert_eq!(ask_with(story.controls[2], "POST /faults", "{}").status, 200);
    let told = story.line("told", "calm");
    let problem = told["problems"][0].as_str().unwrap();
    assert!(problem.starts_with("nothing was done to it, and yet ") && problem.contains(store), "{problem}");
    story.demo.signal(Signal::Term).unwrap();
    assert_eq!(story.demo.wait_exit(SOON).unwrap(), Some(1), "{}", story.demo.logs());
}
