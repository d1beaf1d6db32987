//! Metrics as text: Prometheus exposition 0.0.4 and OpenMetrics 1.0, from one [`Sink`].
//!
//! Both formats list each family once with its metadata before its samples; they differ in what a family is called
//! (OpenMetrics drops `_total` and `_info`), in escaping of HELP, in how a bucket bound is written (`1` against `1.0`),
//! in `# UNIT` and in the closing `# EOF`. Latencies are microseconds inside and seconds in the text.
//!
//! A scrape is valid whatever the parts do: a family started twice is continued, a family whose kind contradicts an
//! earlier one is refused (and panics in debug builds), a series given twice is kept once, and there is a limit on
//! series and on label values. What was left out is counted in [`Rendered::dropped`].
//!
//! Not written: timestamps, exemplars, `_created`.
//! Source: Prometheus "Exposition formats" (text 0.0.4); OpenMetrics 1.0.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use kernel::metrics::{Family, LATENCY_BOUNDS_US, Labels, LatencySum, MetricKind, Sink};

/// Series in one scrape (a histogram counts once): what a scraper with default limits can still take in.
pub const MAX_SERIES: usize = 100_000;

/// Bytes of one label value before escaping; the rest is cut at a character boundary.
pub const MAX_LABEL_BYTES: usize = 256;

/// Units that OpenMetrics wants named; a family ends in one of them or has none.
const UNITS: [&str; 3] = ["seconds", "bytes", "ratio"];

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4, which every scraper and every person reads.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// A finished scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text, complete with its end.
    pub text: String,
    /// Series that were left out: given twice, of a contradicting family, or beyond [`MAX_SERIES`].
    pub dropped: u64,
}

/// Writes the samples of one scrape. Make one for each scrape and call [`TextSink::finish`].
#[derive(Debug)]
pub struct TextSink {
    format: Format,
    blocks: Vec<Block>,
    by_name: HashMap<&'static str, usize>,
    /// Where samples go; `None` before the first family and while a refused one is current.
    current: Option<usize>,
    series: usize,
    dropped: u64,
}

/// One family: its metadata and the samples so far.
#[derive(Debug)]
struct Block {
    family: Family,
    samples: String,
    seen: HashSet<String>,
}

impl Format {
    /// Chooses by an `Accept` header: OpenMetrics only if 1.0 (or no version) is asked for by name and no less wanted
    /// than plain text. An empty header, `*/*` and anything unknown give Prometheus text.
    pub fn from_accept(accept: &str) -> Format {
        let (mut open, mut plain) = (0u16, 0u16);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut version) = (1000, None);
            for (name, value) in parts.filter_map(|p| p.split_once('=')) {
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => quality = parse_quality(value.trim()),
                    "version" => version = Some(value.trim().trim_matches('"').to_owned()),
                    _ => {}
                }
            }
            match media.as_str() {
                "application/openmetrics-text" if version.as_deref().is_none_or(|v| v == "1.0.0") => {
                    open = open.max(quality);
                }
                "text/plain" | "text/*" => plain = plain.max(quality),
                _ => {}
            }
        }
        if open > 0 && open >= plain { Format::OpenMetrics } else { Format::Prometheus }
    }

    /// The `Content-Type` of the text.
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A quality value (RFC 9110, 12.4.2) in thousandths; what is malformed counts as not wanted.
fn parse_quality(text: &str) -> u16 {
    text.parse::<f64>().ok().filter(|q| (0.0..=1.0).contains(q)).map_or(0, |q| (q * 1000.0) as u16)
}

impl TextSink {
    /// An empty scrape.
    pub fn new(format: Format) -> TextSink {
        TextSink { format, blocks: Vec::new(), by_name: HashMap::new(), current: None, series: 0, dropped: 0 }
    }

    /// Series left out so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The whole text. Families stand in the order in which they were first started; one without samples still shows
    /// its metadata.
    pub fn finish(self) -> Rendered {
        let mut text = String::with_capacity(self.blocks.iter().map(|b| b.samples.len() + 160).sum());
        for block in &self.blocks {
            write_metadata(&mut text, self.format, &block.family);
            text.push_str(&block.samples);
        }
        if self.format == Format::OpenMetrics {
            text.push_str("# EOF\n");
        }
        Rendered { text, dropped: self.dropped }
    }

    /// Makes room for one series with these labels; gives the block and the escaped labels, or counts a drop.
    fn admit(&mut self, labels: Labels<'_>, histogram: bool) -> Option<(&mut Block, String)> {
        let Some(block) = self.current.and_then(|at| self.blocks.get_mut(at)) else {
            self.dropped += 1;
            return None;
        };
        let fits = (block.family.kind == MetricKind::Histogram) == histogram;
        debug_assert!(fits, "family {} was given a sample of another kind", block.family.name);
        let text = label_text(labels);
        // A series without labels is admitted even when full: there is one per family, and families are named in code.
        let full = self.series >= MAX_SERIES && !labels.is_empty();
        if !fits || full || block.seen.contains(&text) {
            self.dropped += 1;
            return None;
        }
        self.series += 1;
        block.seen.insert(text.clone());
        Some((block, text))
    }
}

impl Sink for TextSink {
    fn family(&mut self, family: Family) {
        debug_assert!(is_family_name(&family), "{} is no name for a {:?}", family.name, family.kind);
        self.current = match self.by_name.get(family.name).copied() {
            Some(at) if self.blocks[at].family.kind == family.kind => Some(at),
            Some(_) => {
                debug_assert!(false, "family {} was started as two kinds of metric", family.name);
                None
            }
            None => {
                self.by_name.insert(family.name, self.blocks.len());
                self.blocks.push(Block { family, samples: String::new(), seen: HashSet::new() });
                Some(self.blocks.len() - 1)
            }
        };
    }

    fn sample(&mut self, labels: Labels<'_>, value: f64) {
        let Some((block, labels)) = self.admit(labels, false) else { return };
        let name = block.family.name;
        line(&mut block.samples, name, "", &labels, None, &number(value));
    }

    fn latency(&mut self, labels: Labels<'_>, sum: &LatencySum) {
        let format = self.format;
        let Some((block, labels)) = self.admit(labels, true) else { return };
        let (name, out) = (block.family.name, &mut block.samples);
        let mut cumulative = 0u64;
        for (count, bound) in sum.buckets.iter().zip(LATENCY_BOUNDS_US) {
            cumulative += count;
            line(out, name, "_bucket", &labels, Some(&bound_text(format, bound)), &cumulative.to_string());
        }
        let count = sum.count().to_string();
        line(out, name, "_bucket", &labels, Some("+Inf"), &count);
        line(out, name, "_sum", &labels, None, &seconds(sum.sum_us));
        line(out, name, "_count", &labels, None, &count);
    }
}

/// Whether the name is one both formats take, with the suffix that its kind demands.
fn is_family_name(family: &Family) -> bool {
    let name = family.name;
    let legal = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    let reserved = ["_total", "_info", "_bucket", "_count", "_sum", "_created"];
    legal
        && match family.kind {
            MetricKind::Counter => name.ends_with("_total"),
            MetricKind::Info => name.ends_with("_info"),
            MetricKind::Gauge | MetricKind::Histogram => !reserved.iter().any(|s| name.ends_with(s)),
        }
}

fn write_metadata(out: &mut String, format: Format, family: &Family) {
    let (name, kind) = (family.name, family.kind);
    let word = match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
        MetricKind::Info if format == Format::Prometheus => "gauge",
        MetricKind::Info => "info",
    };
    // Writing to a String cannot fail; the results below carry nothing.
    let _infallible = match format {
        Format::Prometheus => {
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
            write!(out, "# HELP {name} {help}\n# TYPE {name} {word}\n")
        }
        Format::OpenMetrics => {
            let stem = name.strip_suffix("_total").or_else(|| name.strip_suffix("_info")).unwrap_or(name);
            let unit = UNITS.iter().find(|unit| {
                kind != MetricKind::Info && stem.strip_suffix(**unit).is_some_and(|rest| rest.ends_with('_'))
            });
            let unit = unit.map(|unit| format!("# UNIT {stem} {unit}\n")).unwrap_or_default();
            write!(out, "# TYPE {stem} {word}\n{unit}# HELP {stem} {}\n", escape(family.help))
        }
    };
}

/// `name="value",…` with values cut and escaped; empty without labels.
fn label_text(labels: Labels<'_>) -> String {
    let mut out = String::new();
    for (name, value) in labels {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        out.push_str(&escape(cut(value)));
        out.push('"');
    }
    out
}

/// The longest prefix of at most [`MAX_LABEL_BYTES`] bytes that ends between characters.
fn cut(value: &str) -> &str {
    &value[..value.floor_char_boundary(MAX_LABEL_BYTES)]
}

/// Backslash, double quote and line feed, escaped alike in label values of both formats and in OpenMetrics' HELP.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out
}

fn line(out: &mut String, name: &str, suffix: &str, labels: &str, le: Option<&str>, value: &str) {
    out.push_str(name);
    out.push_str(suffix);
    if !labels.is_empty() || le.is_some() {
        out.push('{');
        out.push_str(labels);
        if let Some(le) = le {
            if !labels.is_empty() {
                out.push(',');
            }
            out.push_str("le=\"");
            out.push_str(le);
            out.push('"');
        }
        out.push('}');
    }
    out.push(' ');
    out.push_str(value);
    out.push('\n');
}

/// The shortest decimal that reads back as the same number; an exponent only where digits would run long.
fn number(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else if value == 0.0 {
        "0".to_owned()
    } else if (1e-5..1e15).contains(&size) {
        format!("{value}")
    } else {
        format!("{value:e}")
    }
}

/// Microseconds as seconds, exact: no float is involved.
fn seconds(us: u64) -> String {
    let (whole, rest) = (us / 1_000_000, us % 1_000_000);
    if rest == 0 {
        return whole.to_string();
    }
    format!("{whole}.{rest:06}").trim_end_matches('0').to_owned()
}

/// A bucket bound; OpenMetrics demands a fraction even on whole numbers.
fn bound_text(format: Format, us: u64) -> String {
    let text = seconds(us);
    if format == Format::OpenMetrics && !text.contains('.') { text + ".0" } else { text }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
