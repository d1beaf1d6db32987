//! Tests of the text formats: golden texts, a strict line checker for both grammars, and properties of escaping.

use std::collections::HashSet;

use kernel::metrics::{Cell64, Latency};
use proptest::prelude::*;

use super::*;

const REQUESTS: Family =
    Family { name: "evenkeel_gateway_requests_total", help: "Requests by route", kind: MetricKind::Counter };
const DURATION: Family =
    Family { name: "evenkeel_gateway_duration_seconds", help: "Time to the end", kind: MetricKind::Histogram };
const CONNECTIONS: Family = Family {
    name: "evenkeel_gateway_connections",
    help: "Open \"connections\" in C:\\x\nnow",
    kind: MetricKind::Gauge,
};
const BUILD: Family = Family { name: "evenkeel_build_info", help: "The build", kind: MetricKind::Info };

fn sample_text(format: Format) -> String {
    let mut sink = TextSink::new(format);
    let (count, latency) = (Cell64::default(), Latency::default());
    count.add(3);
    [400, 900, 31_000_000].iter().for_each(|us| latency.observe(*us));
    let mut sum = LatencySum::default();
    latency.add_to(&mut sum);
    sink.family(BUILD);
    sink.sample(&[("version", "0.1.0")], 1.0);
    sink.family(REQUESTS);
    sink.sample(&[("route", "shop"), ("class", "2xx")], count.get() as f64);
    sink.sample(&[("route", "a\"b\\c\nd"), ("class", "5xx")], 0.0);
    sink.family(CONNECTIONS);
    sink.sample(&[], 12.5);
    sink.family(DURATION);
    sink.latency(&[("route", "shop")], &sum);
    sink.latency(&[], &LatencySum::default());
    sink.finish().text
}

#[test]
fn prometheus_text_is_as_documented() {
    let text = sample_text(Format::Prometheus);
    let head = "# HELP evenkeel_build_info The build\n# TYPE evenkeel_build_info gauge\n\
                evenkeel_build_info{version=\"0.1.0\"} 1\n\
                # HELP evenkeel_gateway_requests_total Requests by route\n\
                # TYPE evenkeel_gateway_requests_total counter\n\
                evenkeel_gateway_requests_total{route=\"shop\",class=\"2xx\"} 3\n\
                evenkeel_gateway_requests_total{route=\"a\\\"b\\\\c\\nd\",class=\"5xx\"} 0\n\
                # HELP evenkeel_gateway_connections Open \"connections\" in C:\\\\x\\nnow\n\
                # TYPE evenkeel_gateway_connections gauge\nevenkeel_gateway_connections 12.5\n\
                # HELP evenkeel_gateway_duration_seconds Time to the end\n\
                # TYPE evenkeel_gateway_duration_seconds histogram\n\
                evenkeel_gateway_duration_seconds_bucket{route=\"shop\",le=\"0.0005\"} 1\n\
                evenkeel_gateway_duration_seconds_bucket{route=\"shop\",le=\"0.001\"} 2\n";
    assert!(text.starts_with(head), "{text}");
    for line in [
        "evenkeel_gateway_duration_seconds_bucket{route=\"shop\",le=\"30\"} 2",
        "evenkeel_gateway_duration_seconds_bucket{route=\"shop\",le=\"+Inf\"} 3",
        "evenkeel_gateway_duration_seconds_sum{route=\"shop\"} 31.0013",
        "evenkeel_gateway_duration_seconds_count{route=\"shop\"} 3",
        "evenkeel_gateway_duration_seconds_bucket{le=\"0.0005\"} 0",
        "evenkeel_gateway_duration_seconds_sum 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line:?} is missing from:\n{text}");
    }
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
}

#[test]
fn openmetrics_drops_suffixes_and_adds_units_and_an_end() {
    let text = sample_text(Format::OpenMetrics);
    for line in [
        "# TYPE evenkeel_build info",
        "evenkeel_build_info{version=\"0.1.0\"} 1",
        "# TYPE evenkeel_gateway_requests counter",
        "evenkeel_gateway_requests_total{route=\"shop\",class=\"2xx\"} 3",
        "# HELP evenkeel_gateway_connections Open \\\"connections\\\" in C:\\\\x\\nnow",
        "# UNIT evenkeel_gateway_duration_seconds seconds",
        "evenkeel_gateway_duration_seconds_bucket{route=\"shop\",le=\"30.0\"} 2",
        "evenkeel_gateway_duration_seconds_bucket{route=\"shop\",le=\"0.0005\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line:?} is missing from:\n{text}");
    }
    assert!(text.ends_with("\n# EOF\n"));
}

#[test]
fn both_texts_pass_the_strict_checker() {
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let text = sample_text(format);
        if let Err(why) = check(format, &text) {
            panic!("{format:?}: {why}\n{text}");
        }
    }
}

#[test]
fn the_checker_itself_refuses_what_is_wrong() {
    let ok = "# HELP a_total x\n# TYPE a_total counter\na_total 1\n";
    assert_eq!(check(Format::Prometheus, ok), Ok(()));
    for wrong in [
        "a_total 1\n",
        "# HELP a_total x\n# TYPE a_total counter\na_total 1",
        "# HELP a_total x\n# TYPE a_total counter\na_total 1\na_total 2\n",
        "# HELP a_total x\n# TYPE a_total counter\na_total 1 \n",
        "# HELP a_total x\n# TYPE a_total counter\na_total{b=\"\\q\"} 1\n",
        "# HELP a_total x\n# TYPE a_total counter\na_total{b=\"c} 1\n",
        "# HELP a_total x\n# TYPE a_total counter\na_total one\n",
        "# HELP a x\n# TYPE a counter\na 1\n",
        "# HELP a x\n# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n",
        "# HELP a x\n# TYPE a histogram\na_bucket{le=\"1\"} 0\na_sum 1\na_count 1\n",
    ] {
        assert!(check(Format::Prometheus, wrong).is_err(), "accepted {wrong:?}");
    }
    assert!(check(Format::OpenMetrics, "# TYPE a counter\n# HELP a x\na_total 1\n").is_err(), "no EOF");
    assert!(check(Format::OpenMetrics, "# TYPE a_total counter\n# HELP a_total x\na_total 1\n# EOF\n").is_err());
}

#[test]
fn accept_headers_choose_a_format() {
    let open = [
        "application/openmetrics-text",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        "Application/OpenMetrics-Text;version=\"1.0.0\"",
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
         application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
    ];
    let plain = [
        "",
        "*/*",
        "text/plain",
        "text/html,application/xhtml+xml,*/*;q=0.8",
        "application/openmetrics-text;q=0",
        "application/openmetrics-text;q=0.3, text/plain;q=0.7",
        "application/openmetrics-text;version=0.0.1",
        "application/openmetrics-text;q=nonsense",
        ";;;,,,=",
    ];
    open.iter().for_each(|a| assert_eq!(Format::from_accept(a), Format::OpenMetrics, "{a}"));
    plain.iter().for_each(|a| assert_eq!(Format::from_accept(a), Format::Prometheus, "{a}"));
}

#[test]
fn numbers_are_written_shortest() {
    let cases = [
        (0.0, "0"),
        (-0.0, "0"),
        (3.0, "3"),
        (-2.5, "-2.5"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1_700_000_123.25, "1700000123.25"),
        (1e15, "1e15"),
        (1e-7, "1e-7"),
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
        (f64::NAN, "NaN"),
    ];
    cases.iter().for_each(|(value, text)| assert_eq!(number(*value), *text));
    assert_eq!(seconds(u64::MAX), "18446744073709.551615");
    assert_eq!((seconds(1_500_000), seconds(1), seconds(2_000_000)), ("1.5".into(), "0.000001".into(), "2".into()));
}

#[test]
fn series_and_label_values_are_bounded() {
    let mut sink = TextSink::new(Format::Prometheus);
    sink.family(REQUESTS);
    (0..MAX_SERIES + 5).for_each(|i| sink.sample(&[("route", &i.to_string())], 1.0));
    sink.sample(&[], 1.0);
    let done = sink.finish();
    assert_eq!((done.dropped, done.text.lines().count()), (5, MAX_SERIES + 3));

    let mut sink = TextSink::new(Format::Prometheus);
    sink.family(REQUESTS);
    sink.sample(&[("route", &("é".repeat(200) + "x"))], 1.0);
    let text = sink.finish().text;
    assert_eq!(text.matches('é').count(), MAX_LABEL_BYTES / 2);
}

#[test]
fn a_sample_before_any_family_is_dropped() {
    let mut sink = TextSink::new(Format::Prometheus);
    sink.sample(&[], 1.0);
    sink.latency(&[], &LatencySum::default());
    assert_eq!(sink.finish(), Rendered { text: String::new(), dropped: 2 });
}

#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "two kinds")]
fn a_contradicting_family_panics_in_debug() {
    let mut sink = TextSink::new(Format::Prometheus);
    sink.family(Family { name: "evenkeel_x", help: "", kind: MetricKind::Gauge });
    sink.family(Family { name: "evenkeel_x", help: "", kind: MetricKind::Histogram });
}

#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "is no name")]
fn a_counter_without_its_suffix_panics_in_debug() {
    TextSink::new(Format::Prometheus).family(Family { name: "evenkeel_x", help: "", kind: MetricKind::Counter });
}

proptest! {
    #[test]
    fn any_label_value_survives_the_way_there_and_back(value in any::<String>(), other in "[\\\\\"\n,{}= a]{0,12}") {
        for format in [Format::Prometheus, Format::OpenMetrics] {
            let mut sink = TextSink::new(format);
            sink.family(REQUESTS);
            sink.sample(&[("route", &value), ("other", &other)], 7.0);
            let text = sink.finish().text;
            prop_assert_eq!(check(format, &text), Ok(()), "{}", text);
            let row = text.split('\n').find(|l| !l.starts_with('#')).unwrap();
            let row = parse_row(row).unwrap();
            let expected = vec![("route".to_owned(), cut(&value).to_owned()), ("other".to_owned(), other.clone())];
            prop_assert_eq!((row.labels, row.value), (expected, 7.0));
        }
    }

    #[test]
    fn any_number_reads_back_the_same(value in any::<f64>()) {
        let text = number(value);
        let read: f64 = text.parse().unwrap();
        prop_assert!(read == value || (read.is_nan() && value.is_nan()), "{text}");
    }
}

/// A sample line, taken apart.
struct Row {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

fn parse_row(line: &str) -> Result<Row, String> {
    let fail = |why: &str| format!("{why}: {line:?}");
    let end = line.find(['{', ' ']).ok_or_else(|| fail("no value"))?;
    let (name, mut rest) = line.split_at(end);
    let ident = |s: &str| {
        s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && s.starts_with(|c: char| c.is_ascii_alphabetic())
    };
    if !ident(name) {
        return Err(fail("bad name"));
    }
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").ok_or_else(|| fail("no label value"))?;
            if !ident(label) || labels.iter().any(|(l, _)| l == label) {
                return Err(fail("bad or repeated label"));
            }
            let (mut value, mut chars) = (String::new(), after.chars());
            loop {
                match chars.next().ok_or_else(|| fail("unterminated label value"))? {
                    '"' => break,
                    '\\' => value.push(match chars.next() {
                        Some('n') => '\n',
                        Some(c @ ('\\' | '"')) => c,
                        _ => return Err(fail("bad escape")),
                    }),
                    c => value.push(c),
                }
            }
            labels.push((label.to_owned(), value));
            rest = chars.as_str();
            match rest.chars().next() {
                Some(',') => rest = &rest[1..],
                Some('}') => break,
                _ => return Err(fail("labels do not end")),
            }
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').ok_or_else(|| fail("no space before the value"))?;
    if !matches!(value, "NaN" | "+Inf" | "-Inf") && !value.bytes().all(|b| b"0123456789+-.e".contains(&b)) {
        return Err(fail("bad value"));
    }
    let value = value.parse().map_err(|_| fail("bad value"))?;
    Ok(Row { name: name.to_owned(), labels, value })
}

/// Checks a whole text against the grammar of `format` and the rules on families, series and histograms.
fn check(format: Format, text: &str) -> Result<(), String> {
    let body = match format {
        Format::OpenMetrics => text.strip_suffix("# EOF\n").ok_or("no # EOF at the end")?,
        Format::Prometheus => text,
    };
    if !body.is_empty() && !body.ends_with('\n') {
        return Err("the last line does not end".into());
    }
    let (mut families, mut series) = (HashSet::new(), HashSet::new());
    let mut current: Option<(String, String)> = None;
    let mut rows: Vec<Row> = Vec::new();
    let lines = body.split_terminator('\n');
    for line in lines {
        if let Some(meta) = line.strip_prefix("# TYPE ") {
            let (name, kind) = meta.split_once(' ').ok_or(format!("bad TYPE: {line:?}"))?;
            if !families.insert(name.to_owned()) {
                return Err(format!("family {name} appears twice"));
            }
            if format == Format::OpenMetrics && (name.ends_with("_total") || name.ends_with("_info")) {
                return Err(format!("family {name} keeps its suffix"));
            }
            check_histogram(&rows)?;
            rows.clear();
            current = Some((name.to_owned(), kind.to_owned()));
        } else if let Some(meta) = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# UNIT ")) {
            meta.split_once(' ').ok_or(format!("bad metadata: {line:?}"))?;
        } else {
            let row = parse_row(line)?;
            let (family, kind) = current.as_ref().ok_or(format!("a sample without a family: {line:?}"))?;
            let suffixes: &[&str] = match (kind.as_str(), format) {
                ("counter", Format::OpenMetrics) => &["_total"],
                ("counter", Format::Prometheus) if family.ends_with("_total") => &[""],
                ("gauge", _) => &[""],
                ("info", Format::OpenMetrics) => &["_info"],
                ("histogram", _) => &["_bucket", "_sum", "_count"],
                _ => return Err(format!("bad kind {kind} of {family}")),
            };
            if !suffixes.iter().any(|s| row.name == format!("{family}{s}")) {
                return Err(format!("{} does not belong to {family}", row.name));
            }
            if !series.insert((row.name.clone(), row.labels.clone())) {
                return Err(format!("a series appears twice: {line:?}"));
            }
            if kind == "histogram" {
                rows.push(row);
            }
        }
    }
    check_histogram(&rows)
}

/// Within each group of labels: bounds ascend to +Inf, counts do not fall, and the last equals `_count`.
fn check_histogram(rows: &[Row]) -> Result<(), String> {
    let mut previous: Option<(f64, f64)> = None;
    for row in rows {
        if row.name.ends_with("_bucket") {
            let (_, le) = row.labels.iter().find(|(l, _)| l == "le").ok_or("a bucket without le")?;
            let le: f64 = le.parse().map_err(|_| format!("bad le {le:?}"))?;
            if previous.is_some_and(|(bound, count)| le <= bound || row.value < count) {
                return Err(format!("buckets of {} are not cumulative", row.name));
            }
            previous = Some((le, row.value));
        } else if row.name.ends_with("_count") && previous.take() != Some((f64::INFINITY, row.value)) {
            return Err(format!("{} differs from the last bucket", row.name));
        }
    }
    Ok(())
}
