//! Values that may be written in more than one way: a status or a range of them, a header's value or its presence, one
//! host or several.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use super::scalar::{HeaderValue, HostPattern};

/// Some statuses: `"200"` or `"200-399"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    first: u16,
    last: u16,
}

impl StatusRange {
    /// From `first` to `last`, both included.
    pub const fn new(first: u16, last: u16) -> StatusRange {
        StatusRange { first, last }
    }

    /// First and last status.
    pub const fn bounds(self) -> (u16, u16) {
        (self.first, self.last)
    }

    /// Takes a text that is right.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn parse(text: &str) -> Result<StatusRange, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let read = |s: &str| s.parse::<u16>().ok().filter(|n| (100..600).contains(n) && s.len() == 3);
        match (read(first), read(last)) {
            (Some(first), Some(last)) if first <= last => Ok(StatusRange { first, last }),
            (Some(first), Some(last)) => Err(format!("`{text}` ends before it begins: write `{last}-{first}`")),
            _ => Err(format!(
                "`{text}` is not a status: write one from 100 to 599, such as `200`, or a range, such as `200-399`"
            )),
        }
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl Serialize for StatusRange {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<StatusRange, D::Error> {
        let text = String::deserialize(deserializer)?;
        StatusRange::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for StatusRange {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "StatusRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "evenkeel-status-range",
            "x-expected": "a status such as \"200\" or a range such as \"200-399\"",
        })
    }
}

/// What a route wants of a header: this value, or that it is there (`true`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum HeaderWant {
    /// Exactly this value.
    Value(HeaderValue),
    /// Any value. Always `true`.
    Present(bool),
}

impl<'de> Deserialize<'de> for HeaderWant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HeaderWant, D::Error> {
        struct Want;
        impl serde::de::Visitor<'_> for Want {
            type Value = HeaderWant;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the value that the header must have, or true for any")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<HeaderWant, E> {
                HeaderValue::parse(text).map(HeaderWant::Value).map_err(E::custom)
            }

            fn visit_bool<E: serde::de::Error>(self, present: bool) -> Result<HeaderWant, E> {
                match present {
                    true => Ok(HeaderWant::Present(true)),
                    false => {
                        Err(E::custom("a route cannot want a header to be absent: put a route for it first instead"))
                    }
                }
            }
        }
        deserializer.deserialize_any(Want)
    }
}

impl JsonSchema for HeaderWant {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "HeaderWant".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "boolean"],
            "x-expected": "the value that the header must have, or true for any",
        })
    }
}

/// One host pattern or several: `"a.example"` or `["a.example", "b.example"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts(pub Vec<HostPattern>);

impl Serialize for Hosts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Hosts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hosts, D::Error> {
        struct OneOrMore;
        impl<'de> serde::de::Visitor<'de> for OneOrMore {
            type Value = Hosts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a host or a list of hosts")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Hosts, E> {
                HostPattern::parse(text).map(|host| Hosts(vec![host])).map_err(E::custom)
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Hosts, A::Error> {
                let mut hosts = Vec::new();
                while let Some(host) = list.next_element()? {
                    hosts.push(host);
                }
                Ok(Hosts(hosts))
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}

impl JsonSchema for Hosts {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Hosts".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "array"],
            "items": HostPattern::json_schema(generator),
            "minItems": 1,
            "maxItems": 100,
            "x-expected": "a host such as \"shop.example.com\", or a list of them",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::StatusRange;

    #[test]
    fn statuses_and_their_ranges() {
        assert_eq!(StatusRange::parse("204").unwrap().bounds(), (204, 204));
        assert_eq!(StatusRange::parse("200-399").unwrap().to_string(), "200-399");
        assert!(
            ["", "2xx", "99", "600", "399-200", "200-", "0200", "+200"].iter().all(|t| StatusRange::parse(t).is_err())
        );
    }
}
