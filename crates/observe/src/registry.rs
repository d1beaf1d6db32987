//! The registry: every part that has metrics, and one scrape over all of them. It is assembled once at start and then
//! read by any number of scrapes at a time; parts change their numbers, never their membership.

use std::sync::Arc;

use kernel::metrics::{Collect, Family, MetricKind, Sink};

use crate::catalogue::{Catalogue, Described};
use crate::text::{Format, Rendered, TextSink};

/// Says of the scrape itself whether anything is missing from it.
const DROPPED: Family = Family {
    name: "evenkeel_scrape_dropped_series",
    help: "Series left out of this scrape because they were repeated, contradictory or too many",
    kind: MetricKind::Gauge,
};

/// The parts that a scrape asks, in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    parts: Vec<Arc<dyn Collect>>,
}

impl Registry {
    /// A registry without parts.
    pub fn new() -> Registry {
        Registry::default()
    }

    /// Adds a part. Families that two parts share are merged in the scrape; their series must differ.
    #[must_use]
    pub fn with(mut self, part: Arc<dyn Collect>) -> Registry {
        self.parts.push(part);
        self
    }

    /// One scrape of every part.
    ///
    /// # Panics
    /// In debug builds, if a part breaks the rules of [`kernel::metrics::Sink`] (see [`crate::text`]).
    pub fn render(&self, format: Format) -> String {
        self.scrape(format).text
    }

    /// One scrape with the count of what was left out of it.
    ///
    /// # Panics
    /// As [`Registry::render`].
    pub fn scrape(&self, format: Format) -> Rendered {
        let mut sink = TextSink::new(format);
        for part in &self.parts {
            part.collect(&mut sink);
        }
        let dropped = sink.dropped();
        sink.family(DROPPED);
        sink.sample(&[], dropped as f64);
        sink.finish()
    }

    /// Every family of one scrape, in its order.
    pub fn describe(&self) -> Vec<Described> {
        let mut catalogue = Catalogue::default();
        self.parts.iter().for_each(|part| part.collect(&mut catalogue));
        catalogue.family(DROPPED);
        catalogue.sample(&[], 0.0);
        catalogue.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HITS: Family = Family { name: "evenkeel_test_hits_total", help: "Hits", kind: MetricKind::Counter };

    #[derive(Debug)]
    struct Part(&'static str);

    impl Collect for Part {
        fn collect(&self, sink: &mut dyn Sink) {
            sink.family(HITS);
            sink.sample(&[("part", self.0)], 1.0);
        }
    }

    #[test]
    fn a_family_of_two_parts_is_merged_under_one_head() {
        let registry = Registry::new().with(Arc::new(Part("a"))).with(Arc::new(Part("b")));
        assert_eq!(
            registry.render(Format::Prometheus),
            "# HELP evenkeel_test_hits_total Hits\n# TYPE evenkeel_test_hits_total counter\n\
             evenkeel_test_hits_total{part=\"a\"} 1\nevenkeel_test_hits_total{part=\"b\"} 1\n\
             # HELP evenkeel_scrape_dropped_series Series left out of this scrape because they were repeated, \
             contradictory or too many\n# TYPE evenkeel_scrape_dropped_series gauge\n\
             evenkeel_scrape_dropped_series 0\n"
        );
    }

    #[test]
    fn families_are_described_with_the_labels_that_they_have() {
        let described = Registry::new().with(Arc::new(Part("a"))).with(Arc::new(Part("b"))).describe();
        let names: Vec<_> = described.iter().map(|family| family.name).collect();
        assert_eq!(names, [HITS.name, DROPPED.name]);
        assert_eq!((&*described[0].labels, described[0].has_sample), (&["part".to_owned()][..], true));
        assert_eq!(described[0].values["part"].iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(described[1].labels.is_empty() && described[1].has_sample);
    }

    #[test]
    fn a_series_given_twice_is_written_once_and_counted() {
        let registry = Registry::new().with(Arc::new(Part("a"))).with(Arc::new(Part("a")));
        let scrape = registry.scrape(Format::OpenMetrics);
        assert_eq!(scrape.text.matches("part=\"a\"").count(), 1);
        assert_eq!(scrape.dropped, 1);
        assert!(scrape.text.contains("\nevenkeel_scrape_dropped_series 1\n"), "{}", scrape.text);
    }
}
