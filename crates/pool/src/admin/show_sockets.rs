//! `SHOW CLIENTS`, `SHOW SERVERS` and `SHOW SOCKETS`. Addresses of this host and places in buffers are not told.

use super::AdminNode;
use super::show::host_and_port;
use super::table::Value;
use crate::view::{ClientView, ConnectionView};

/// Columns that only `SHOW SOCKETS` has.
const PLACES: usize = 7;

/// `2026-03-01 12:00:00 UTC`, from seconds since the Unix epoch.
fn time(unix: u64) -> String {
    let (days, second) = (unix / 86_400, unix % 86_400);
    // Days to a date of the proleptic Gregorian calendar, in eras of 400 years that begin on a first of March
    // (H. Hinnant, "chrono-compatible low-level date algorithms").
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// What stands for another connection: its number, as the console shows it.
fn pointer(id: u64) -> String {
    format!("0x{id:x}")
}

fn tls(is_tls: bool) -> Value {
    if is_tls { "TLS".into() } else { "".into() }
}

fn client(client: ClientView, now: u64) -> Vec<Value> {
    let (host, port) = host_and_port(&client.address);
    vec![
        "C".into(),
        client.user.into(),
        client.database.into(),
        "none".into(),
        // PgBouncer knows no pinned clients: they are active ones.
        if client.state == "pinned" { "active" } else { client.state }.into(),
        host.into(),
        port.into(),
        "".into(),
        0u32.into(),
        time(client.connected_unix).into(),
        time(now.saturating_sub(client.since_request.as_secs())).into(),
        client.waiting.as_secs().into(),
        client.waiting.subsec_micros().into(),
        0u32.into(),
        pointer(client.id).into(),
        client.server.map_or(String::new(), pointer).into(),
        0u32.into(),
        tls(client.is_tls),
        client.application.into(),
        client.prepared.into(),
        client.id.into(),
    ]
}

fn server(connection: ConnectionView, now: u64, clients: &[ClientView]) -> Vec<Value> {
    let (host, port) = host_and_port(&connection.server);
    let linked = connection.client.and_then(|id| clients.iter().find(|client| client.id == id));
    let state = match connection.state {
        "pinned" => "active",
        "cleaning" => "tested",
        state => state,
    };
    vec![
        "S".into(),
        connection.user.into(),
        connection.database.into(),
        "none".into(),
        state.into(),
        host.into(),
        port.into(),
        "".into(),
        0u32.into(),
        time(connection.connected_unix).into(),
        time(now.saturating_sub(connection.since_request.as_secs())).into(),
        0u32.into(),
        0u32.into(),
        0u32.into(),
        pointer(connection.id).into(),
        connection.client.map_or(String::new(), pointer).into(),
        connection.remote_pid.into(),
        tls(connection.is_tls),
        linked.map_or("", |client| client.application.as_str()).into(),
        connection.prepared.into(),
        connection.id.into(),
    ]
}

pub(super) fn clients(node: &dyn AdminNode) -> Vec<Vec<Value>> {
    let now = node.now_unix();
    node.clients().into_iter().map(|one| client(one, now)).collect()
}

pub(super) fn servers(node: &dyn AdminNode) -> Vec<Vec<Value>> {
    let (now, clients) = (node.now_unix(), node.clients());
    node.connections().into_iter().map(|one| server(one, now, &clients)).collect()
}

pub(super) fn sockets(node: &dyn AdminNode) -> Vec<Vec<Value>> {
    let mut rows = clients(node);
    rows.extend(servers(node));
    rows.iter_mut().for_each(|row| row.extend(std::iter::repeat_n(Value::from(0u32), PLACES)));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates() {
        for (unix, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_709_164_800, "2024-02-29 00:00:00 UTC"),
            (1_772_366_400, "2026-03-01 12:00:00 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(time(unix), text);
        }
    }
}
