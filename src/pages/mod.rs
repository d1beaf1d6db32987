//! Pages of the documentation that are made from what runs: the kinds of events, and the metrics.

pub(crate) mod events;
pub(crate) mod metrics;
