//! What is judged and what is written, on plain values; the story itself is run by the tests of the whole node.

use kernel::Event;
use kernel::journal::{Boot, Journal};

use super::*;

const ADDRESS: &str = "127.0.0.1:9101";

fn about(endpoint: &str, event: fn(String, String, String) -> Event) -> Event {
    event("shop".to_owned(), endpoint.to_owned(), "because".to_owned())
}

fn ejected(endpoint: &str) -> Event {
    about(endpoint, |service, endpoint, reason| Event::EndpointEjected {
        service,
        endpoint,
        from: "closed".to_owned(),
        reason,
    })
}

fn returned(endpoint: &str) -> Event {
    about(endpoint, |service, endpoint, reason| Event::EndpointReturned { service, endpoint, reason })
}

/// As a journal tells them, in their order, a second apart.
fn records(events: Vec<Event>) -> Vec<Record> {
    let clock = Clock::manual(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000));
    let journal = Journal::unkept(clock.clone(), Boot::new(&mut Entropy::from_seed(1)));
    for event in events {
        journal.tell(event);
        clock.advance(Duration::from_secs(1));
    }
    let mut told = journal.recent(usize::MAX);
    told.reverse();
    told
}

fn chapter(name: &str) -> &'static Chapter {
    CHAPTERS.iter().find(|chapter| chapter.name == name).unwrap()
}

fn told(chapter: &Chapter, events: Vec<Event>) -> Told {
    let hurt = chapter.hurt().iter().map(|n| Hurt { replica: *n, address: format!("127.0.0.1:910{n}") }).collect();
    Told {
        chapter: chapter.name,
        began_unix_ms: 999_000,
        done_unix_ms: Some(999_500),
        undone_unix_ms: Some(1_004_000),
        ended_unix_ms: 1_006_000,
        hurt,
        clients: Seen { requests: 600, ok: 600, by_status: [(200, 600)].into(), slowest_ms: 41.26, ..Seen::default() },
        flood: None,
        second_tries: 3,
        records: records(events),
        path: Some(RequestTrace {
            id: "17".to_owned(),
            at_unix_us: 1_000_000_000,
            method: "GET".to_owned(),
            target: "/".to_owned(),
            host: "h".to_owned(),
            client: "127.0.0.1".to_owned(),
            route: "shop".to_owned(),
            service: "shop".to_owned(),
            worker: 0,
            kept: vec![kernel::trace::Kept::Retried],
            steps: Vec::new(),
            clipped: false,
            end: kernel::trace::TraceEnd { status: 200, whole: true, took_us: 900, ..Default::default() },
        }),
        recovered_after_ms: Some(1_230),
        problems: Vec::new(),
    }
}

fn judged(mut told: Told, chapter: &Chapter) -> Vec<String> {
    told.judge(chapter);
    told.problems
}

#[test]
fn everything_is_settled_once_who_went_is_back() {
    assert!(told::is_settled(&records(vec![ejected("a"), returned("a")])));
    assert!(!told::is_settled(&records(vec![ejected("a"), returned("b")])));
    assert!(!told::is_settled(&records(vec![returned("a"), ejected("a")])));
    // What was folded is told late, with the time at which it happened last.
    let mut folded = records(vec![returned("a"), ejected("a")]);
    folded[1].until_unix_ms = folded[0].until_unix_ms - 1;
    assert!(told::is_settled(&folded));
}

#[test]
fn a_sign_has_to_come_for_each_who_was_hurt_and_after_it_was_done() {
    let of_each = chapter("killed").sign.unwrap();
    let told = told(chapter("killed"), vec![ejected("127.0.0.1:9102"), ejected(ADDRESS)]);
    let found = of_each.found(&told.records, 0, &told.hurt).unwrap();
    assert_eq!(found.iter().map(|r| r.endpoint.as_str()).collect::<Vec<_>>(), [ADDRESS]);
    assert!(of_each.found(&told.records, told.records[1].at_unix_ms + 1, &told.hurt).is_none());
    let outage: Vec<Hurt> = [1, 2].map(|n| Hurt { replica: n, address: format!("127.0.0.1:910{n}") }).into();
    assert_eq!(of_each.found(&told.records, 0, &outage).map(|found| found.len()), Some(2));
    assert!(chapter("outage").sign.unwrap().found(&told.records, 0, &outage).is_none());
}

#[test]
fn a_chapter_is_judged_by_what_customers_saw_and_whom_the_gateway_blamed() {
    let killed = chapter("killed");
    let good = || told(killed, vec![ejected(ADDRESS), returned(ADDRESS)]);
    assert_eq!(judged(good(), killed), [""; 0]);
    let failed = |n: u64| {
        let mut told = good();
        (told.clients.failed, told.clients.first_failure) = (n, Some("status 502".to_owned()));
        judged(told, killed)
    };
    assert_eq!(failed(9), [""; 0]);
    assert_eq!(failed(10), ["10 requests failed; at most 9 may (status 502)"]);
    let blamed = judged(told(killed, vec![ejected(ADDRESS), ejected("127.0.0.1:9103")]), killed);
    assert_eq!(blamed, ["nothing was done to it, and yet 127.0.0.1:9103 of shop was taken out: because"]);
    let nothing_known = judged(Told { path: None, ..good() }, killed);
    assert_eq!(nothing_known, ["the gateway can tell of no request of this chapter"]);
}

#[test]
fn a_flood_is_answered_in_part_and_turned_away_in_part() {
    let flood = chapter("flood");
    let judge = |by_status: &[(u16, u64)]| {
        let requests = by_status.iter().map(|(_, n)| n).sum();
        let ok = by_status.iter().filter(|(status, _)| *status == 200).map(|(_, n)| n).sum();
        let by_status = by_status.iter().copied().collect();
        let seen = Seen { requests, ok, failed: requests - ok, by_status, ..Seen::default() };
        judged(Told { flood: Some(seen), ..told(flood, Vec::new()) }, flood).len()
    };
    assert_eq!(judge(&[(200, 100), (503, 900)]), 0);
    assert_eq!((judge(&[(200, 1_000)]), judge(&[(503, 1_000)]), judge(&[(200, 9), (503, 9), (504, 1)])), (1, 1, 1));
}

#[test]
fn the_table_at_the_end_is_aligned_and_says_what_went_wrong() {
    let good = told(chapter("killed"), vec![ejected(ADDRESS), returned(ADDRESS)]);
    let bad = Told { problems: vec!["it did not".to_owned()], ..told(chapter("flood"), Vec::new()) };
    let whole = Whole { seen: Vec::new(), counted: [0, 1_200, 0, 0, 7, 0], is_interrupted: true };
    let text = text::end(&[good.clone(), bad], &whole);
    let expected = "
chapter clients saw the gateway recovered after
killed 600 requests, 0 failed, slowest 41 ms took replica 1 out after 0.50 s, 3 second tries 1.23 s
flood 600 requests, 0 failed, slowest 41 ms 3 second tries 1.23 s (not as it should be)
clients counted 0 answers, 0 of them failures
the gateway 1207 answers, 7 of them failures
1 of 2 chapters did not go as they should
";
    let columns = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(columns(&text), columns(expected));
    let at = |line: &str, part: &str| text.lines().find(|l| l.starts_with(line)).unwrap().find(part).unwrap();
    assert_eq!(at("chapter", "recovered"), at("killed", "1.23 s"));
    assert_eq!(at("flood", "3 second"), at("killed", "took replica"));
    assert!(text::end(&[good], &whole).ends_with("\nended in the middle, after 1 of 7 chapters\n"));
}

#[test]
fn every_line_for_programs_is_one_document_that_says_what_it_is() {
    let told = told(chapter("killed"), vec![ejected(ADDRESS)]);
    let lines = [
        (lines::heading(2, chapter("killed"), 5).unwrap(), "chapter"),
        (lines::deed("killed", "done", 5, &told.hurt, "replica 1 is killed").unwrap(), "done"),
        (lines::told(&told).unwrap(), "told"),
    ];
    for (line, which) in lines {
        assert!(line.starts_with(&format!("{{\"line\":\"{which}\",")) && line.ends_with("}\n"), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["chapter"], "killed");
    }
}
