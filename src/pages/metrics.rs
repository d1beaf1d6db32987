//! The page on metrics: every family that a node has, from a node that is started for it: one with a service that has
//! endpoints of each kind, so that each part has something to count. It serves nobody.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use kernel::metrics::MetricKind;
use observe::Described;

use crate::app::{App, Source, Start, StartError};
use crate::config::reference::cell;

/// Labels whose values come from a configuration or a build: they are not listed.
const OPEN: [&str; 7] = ["route", "service", "endpoint", "version", "arch", "os", "limit"];

/// More values than these have a page of their own.
const MOST_VALUES: usize = 16;

/// Labels of families that have no sample before something has happened.
const SILENT: &[(&str, &[&str])] = &[
    ("evenkeel_endpoint_suspect_after_seconds", &["service", "endpoint"]),
    ("evenkeel_pool_assignments_total", &["pool", "database", "user"]),
    ("evenkeel_pool_clients", &["pool", "database", "user", "state"]),
    ("evenkeel_pool_clients_max", &["pool"]),
    ("evenkeel_pool_connections", &["pool", "database", "user", "state"]),
    ("evenkeel_pool_connections_max", &["pool"]),
    ("evenkeel_pool_connections_opened_total", &["pool", "database", "user"]),
    ("evenkeel_pool_failures_total", &["pool", "database", "user", "kind"]),
    ("evenkeel_pool_groups", &["pool"]),
    ("evenkeel_pool_has_primary", &["pool"]),
    ("evenkeel_pool_paused", &["pool"]),
    ("evenkeel_pool_pins_total", &["pool", "database", "user"]),
    ("evenkeel_pool_prepared_total", &["pool", "database", "user"]),
    ("evenkeel_pool_queries_total", &["pool", "database", "user"]),
    ("evenkeel_pool_query_duration_seconds", &["pool", "database", "user"]),
    ("evenkeel_pool_received_bytes_total", &["pool", "database", "user"]),
    ("evenkeel_pool_sent_bytes_total", &["pool", "database", "user"]),
    ("evenkeel_pool_server_answered_seconds", &["pool", "server"]),
    ("evenkeel_pool_server_errors_total", &["pool", "database", "user"]),
    ("evenkeel_pool_server_lag_bytes", &["pool", "server"]),
    ("evenkeel_pool_server_role", &["pool", "server", "role"]),
    ("evenkeel_pool_settings_replayed_total", &["pool", "database", "user"]),
    ("evenkeel_pool_transaction_duration_seconds", &["pool", "database", "user"]),
    ("evenkeel_pool_transactions_moved_total", &["pool", "database", "user"]),
    ("evenkeel_pool_transactions_total", &["pool", "database", "user", "outcome"]),
    ("evenkeel_pool_wait_longest_seconds", &["pool", "database", "user"]),
    ("evenkeel_pool_wait_seconds", &["pool", "database", "user"]),
    ("evenkeel_service_retry_yield", &["service"]),
];

/// The page, in Markdown.
///
/// # Errors
/// When the node cannot be started.
pub(crate) fn page() -> anyhow::Result<String> {
    let mut families = families()?;
    families.sort_by_key(|family| family.name);
    let mut page = String::from(
        "# Metrics\n\nEvery family of `GET /metrics` on `[admin]`, as Prometheus text or OpenMetrics. This page is generated from \
         the program.\n\nLabel values come from the configuration or from the closed lists below, so a client cannot make series. \
         Counters begin at 0 with the process. Histograms have buckets from 0.5 ms to 30 s. A family without a sample has \
         nothing to tell yet.\n",
    );
    let is_own = |family: &&Described| family.name.starts_with("evenkeel_");
    let (own, usual): (Vec<&Described>, Vec<&Described>) = families.iter().partition(is_own);
    table(&mut page, "Of the gateway, the pools and the node", &own);
    table(&mut page, "Of the process, under the names that Prometheus clients share", &usual);
    Ok(page)
}

fn table(page: &mut String, title: &str, families: &[&Described]) {
    // Writing to a String cannot fail.
    let _infallible =
        write!(page, "\n## {title}\n\n| Name | Type | Labels | What it tells |\n| --- | --- | --- | --- |\n");
    for family in families {
        let _infallible = writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            family.name,
            word(family.kind),
            cell(&labels(family)),
            cell(family.help)
        );
    }
}

fn word(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
        MetricKind::Info => "info",
    }
}

fn labels(family: &Described) -> String {
    let silent = SILENT.iter().find(|(name, _)| *name == family.name).map(|(_, labels)| *labels).unwrap_or_default();
    let names = if family.has_sample { family.labels.iter().map(String::as_str).collect() } else { silent.to_vec() };
    let shown = |name: &str| {
        let values = family.values.get(name).filter(|_| !OPEN.contains(&name));
        match values {
            Some(values) if name == "kind" && family.name == "evenkeel_events_total" => {
                format!("`{name}` ([{} kinds](events.md))", values.len())
            }
            Some(values) if name == "code" => format!("`{name}` ([{} codes](../errors/README.md))", values.len()),
            Some(values) if values.len() <= MOST_VALUES => format!("`{name}` ({})", listed(values)),
            _ => format!("`{name}`"),
        }
    };
    names.into_iter().map(shown).collect::<Vec<_>>().join(", ")
}

fn listed(values: &BTreeSet<String>) -> String {
    values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ")
}

/// The families of a node. Blocks.
fn families() -> anyhow::Result<Vec<Described>> {
    let store = tempfile::tempdir().context("cannot make a directory for a store")?;
    let text = format!(
        "[gateway]\nlisten = \"127.0.0.1:0\"\nworkers = 1\ndrain_delay = \"0s\"\ndrain_timeout = \"1s\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n[api]\nlisten = \"127.0.0.1:0\"\n[store]\ndirectory = \"{}\"\n\
         [dns]\nservers = [\"127.0.0.1:9\"]\n\
         [service.shop]\nendpoints = [\"127.0.0.1:9\", {{ address = \"127.0.0.2:9\", tier = 1 }}]\ndns = \"shop.invalid:9\"\n\
         register = {{}}\n",
        store.path().display()
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.context("cannot start a runtime")?;
    let start = Start { source: Source::Text(text), take_over: false, passed: Vec::new() };
    let app = match App::build(start, runtime.handle()) {
        Ok(app) => app,
        Err(StartError::Config { text, .. }) => anyhow::bail!("{text}"),
        Err(error) => return Err(error.into()),
    };
    let families = app.describe_metrics();
    runtime.block_on(async {
        app.enter().await?;
        // Nothing is open, so nothing has to be cut.
        let _in_order = app.stop(Duration::ZERO, "its metrics are known").await;
        anyhow::Ok(())
    })?;
    Ok(families)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_labels_of_every_family_are_known() {
        let families = families().unwrap();
        let mut silent: Vec<_> =
            families.iter().filter(|family| !family.has_sample).map(|family| family.name).collect();
        silent.sort_unstable();
        let told: Vec<_> = SILENT.iter().map(|(name, _)| *name).collect();
        assert_eq!(silent, told);
        assert!(families.len() > 60, "{}", families.len());
    }

    #[test]
    fn the_page_is_the_same_each_time() {
        assert_eq!(page().unwrap(), page().unwrap());
    }
}
