//! What of a service is mostly a text and may be a table where there is more to say: an endpoint and how one is chosen.
//! Each keeps the form it was written in, so that the effective configuration shows it in that form.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::request_part::HashKey;
use super::scalar::Endpoint;

/// An endpoint as it is listed: `"127.0.0.1:9101"`, or a table with weight and tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum EndpointEntry {
    /// Its address alone.
    Text(Endpoint),
    /// More than that.
    Table(EndpointTable),
}

/// An endpoint with its share and its tier. One that is written as a text has the defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointTable {
    /// Where it is: `host:port`.
    ///
    /// Default: none (required). Range: `host:port`, the host being a name or an address. Reload: live.
    ///
    /// Why: only you know it.
    pub address: Endpoint,
    /// Its share of the requests, relative to the other endpoints of its tier.
    ///
    /// Default: `1`. Range: `1` to `100`. Reload: live.
    ///
    /// Why: copies of one application mostly run on machines of one kind.
    #[serde(default = "one")]
    pub weight: u32,
    /// The lowest tier takes the requests; the next one takes what those below it cannot.
    ///
    /// Default: `0`. Range: `0` to `9`. Reload: live.
    ///
    /// Why: an endpoint that only waits is one that nobody knows to work.
    #[serde(default)]
    pub tier: u8,
}

impl EndpointEntry {
    /// Where it is.
    pub const fn address(&self) -> &Endpoint {
        match self {
            EndpointEntry::Text(address) => address,
            EndpointEntry::Table(table) => &table.address,
        }
    }

    /// Its share relative to the others of its tier.
    pub const fn weight(&self) -> u32 {
        match self {
            EndpointEntry::Text(_) => one(),
            EndpointEntry::Table(table) => table.weight,
        }
    }

    /// 0 is used first.
    pub const fn tier(&self) -> u8 {
        match self {
            EndpointEntry::Text(_) => 0,
            EndpointEntry::Table(table) => table.tier,
        }
    }
}

const fn one() -> u32 {
    1
}

const ENDPOINT: &str = "an endpoint such as \"127.0.0.1:9101\" or { address = \"127.0.0.1:9101\", weight = 2 }";

impl<'de> Deserialize<'de> for EndpointEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<EndpointEntry, D::Error> {
        struct TextOrTable;
        impl<'de> Visitor<'de> for TextOrTable {
            type Value = EndpointEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(ENDPOINT)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<EndpointEntry, E> {
                Endpoint::parse(text).map(EndpointEntry::Text).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EndpointEntry, A::Error> {
                EndpointTable::deserialize(MapAccessDeserializer::new(map)).map(EndpointEntry::Table)
            }
        }
        deserializer.deserialize_any(TextOrTable)
    }
}

impl JsonSchema for EndpointEntry {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "EndpointEntry".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = or_text(EndpointTable::json_schema(generator), ENDPOINT);
        schema.insert("format".to_owned(), "evenkeel-endpoint".into());
        schema
    }
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BalanceKind {
    /// The one with the fewest requests in flight.
    #[default]
    LeastOutstanding,
    /// One after the other.
    RoundRobin,
    /// The same one for the same key.
    Hash(HashKey),
}

/// Requests with the same key go to the same endpoint, as long as it is usable and not overloaded. When endpoints come
/// and go, only the keys of those move.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BalanceTable {
    /// What of a request is its key: `header:NAME`, `cookie:NAME`, or `address` for the client's. A request without it
    /// goes to the endpoint with the fewest requests in flight.
    ///
    /// Default: none (required). Range: `header:NAME`, `cookie:NAME` or `address`. Reload: live.
    ///
    /// Why: only you know what the service keeps in its memory, and for whom.
    hash: HashKey,
}

/// The ways to choose that are texts.
const TEXTS: [(&str, BalanceKind); 2] =
    [("least_outstanding", BalanceKind::LeastOutstanding), ("round_robin", BalanceKind::RoundRobin)];

const BALANCE: &str = "`least_outstanding`, `round_robin` or a table such as `{ hash = \"header:X-User\" }`";

impl Serialize for BalanceKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            BalanceKind::LeastOutstanding => serializer.serialize_str(TEXTS[0].0),
            BalanceKind::RoundRobin => serializer.serialize_str(TEXTS[1].0),
            BalanceKind::Hash(key) => BalanceTable { hash: key.clone() }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for BalanceKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<BalanceKind, D::Error> {
        struct TextOrTable;
        impl<'de> Visitor<'de> for TextOrTable {
            type Value = BalanceKind;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(BALANCE)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<BalanceKind, E> {
                let known = TEXTS.into_iter().find(|(name, _)| *name == text).map(|(_, kind)| kind);
                known.ok_or_else(|| E::custom(format!("`{text}` is no way to choose an endpoint: write {BALANCE}")))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BalanceKind, A::Error> {
                BalanceTable::deserialize(MapAccessDeserializer::new(map)).map(|table| BalanceKind::Hash(table.hash))
            }
        }
        deserializer.deserialize_any(TextOrTable)
    }
}

impl JsonSchema for BalanceKind {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "BalanceKind".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let texts = TEXTS.map(|(name, _)| name);
        let mut schema = or_text(BalanceTable::json_schema(generator), BALANCE);
        // `enum` would forbid the table too; a pattern is about texts alone.
        schema.insert("pattern".to_owned(), format!("^({})$", texts.join("|")).into());
        schema.insert("x-choices".to_owned(), json!(texts));
        schema
    }
}

/// The schema of a table that may also be written as a text.
fn or_text(mut table: Schema, expected: &str) -> Schema {
    table.insert("type".to_owned(), json!(["string", "object"]));
    table.insert("x-expected".to_owned(), Value::from(expected));
    table
}
