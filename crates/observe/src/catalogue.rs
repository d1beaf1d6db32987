//! What there is to scrape, for those who write about it: each family once, with the names of its labels, and the values of
//! those labels whose values do not come from a configuration. It is what a scrape meets, so it cannot be wrong about names;
//! a family without a sample has no labels here.

use std::collections::{BTreeMap, BTreeSet};

use kernel::metrics::{Family, Labels, LatencySum, MetricKind, Sink};

/// A family of samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The full name.
    pub name: &'static str,
    /// One sentence, without a full stop.
    pub help: &'static str,
    /// What it counts.
    pub kind: MetricKind,
    /// Names of its labels, in their order; empty also if it has no sample.
    pub labels: Vec<String>,
    /// Every value that was met, by label.
    pub values: BTreeMap<String, BTreeSet<String>>,
    /// Whether it has a sample.
    pub has_sample: bool,
}

/// Gathers families.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    families: Vec<Described>,
    /// Which of them samples belong to.
    at: usize,
}

impl Catalogue {
    pub(crate) fn finish(self) -> Vec<Described> {
        self.families
    }

    fn meet(&mut self, labels: Labels<'_>) {
        let Some(family) = self.families.get_mut(self.at) else { return };
        family.has_sample = true;
        for (name, value) in labels {
            if !family.labels.iter().any(|known| known == name) {
                family.labels.push((*name).to_owned());
            }
            family.values.entry((*name).to_owned()).or_default().insert((*value).to_owned());
        }
    }
}

impl Sink for Catalogue {
    fn family(&mut self, family: Family) {
        let Family { name, help, kind } = family;
        self.at = self.families.iter().position(|known| known.name == name).unwrap_or(self.families.len());
        if self.at == self.families.len() {
            let (labels, values) = (Vec::new(), BTreeMap::new());
            self.families.push(Described { name, help, kind, labels, values, has_sample: false });
        }
    }

    fn sample(&mut self, labels: Labels<'_>, _value: f64) {
        self.meet(labels);
    }

    fn latency(&mut self, labels: Labels<'_>, _sum: &LatencySum) {
        self.meet(labels);
    }
}
