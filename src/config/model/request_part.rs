//! Texts that name a part of a request: the header with a client's deadline, and the key by which an endpoint is chosen.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use super::scalar::{HeaderName, MAX_TEXT, is_token, text};

/// The longest name of a cookie or header.
const MAX_NAME: usize = 256;

text!(
    /// The name of a header, or nothing.
    HeaderNameOrNone, "evenkeel-header-name-or-none", "a header name such as \"x-team\", or \"\" for none", |text| {
        if text.is_empty() { Ok(String::new()) } else { HeaderName::parse(text).map(|name| name.to_string()) }
    }
);

impl HeaderNameOrNone {
    /// The default of `deadline_header`.
    pub(super) fn deadline() -> HeaderNameOrNone {
        HeaderNameOrNone("X-Request-Timeout-Ms".to_owned())
    }

    /// The name in lower case; `None` if there is none.
    pub fn lower_case(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.to_ascii_lowercase())
    }
}

text!(
    /// What of a request is hashed to choose an endpoint.
    HashKey, "evenkeel-hash-key", "a key such as \"header:X-User\", \"cookie:sid\" or \"address\"", |text| {
        let (kind, name) = text.split_once(':').unwrap_or((text, ""));
        let why = match kind {
            "address" if text == kind => return Ok(text.to_owned()),
            "header" | "cookie" if is_token(name) && name.len() <= MAX_NAME => return Ok(text.to_owned()),
            "header" => "write the name of a header behind the colon, such as `header:X-User`",
            "cookie" => "write the name of a cookie behind the colon, such as `cookie:sid`",
            "address" => "write `address` alone, for the address of the client",
            _ => "write `header:NAME`, `cookie:NAME` or `address`",
        };
        Err(format!("`{text}` is no key to choose by: {why}"))
    }
);

/// What of a request a [`HashKey`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashSource<'a> {
    /// The value of this header, as it is written in the configuration.
    Header(&'a str),
    /// The value of this cookie.
    Cookie(&'a str),
    /// The client's address.
    Address,
}

impl HashKey {
    /// What it names.
    pub fn source(&self) -> HashSource<'_> {
        match self.0.split_once(':') {
            Some(("header", name)) => HashSource::Header(name),
            Some((_, name)) => HashSource::Cookie(name),
            None => HashSource::Address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_may_be_none() {
        assert_eq!(HeaderNameOrNone::parse("").unwrap().lower_case(), None);
        assert_eq!(HeaderNameOrNone::parse("X-Wait").unwrap().lower_case().as_deref(), Some("x-wait"));
        assert!([" ", "X Wait"].iter().all(|t| HeaderNameOrNone::parse(t).is_err()));
    }

    #[test]
    fn a_key_to_choose_by_says_what_of_the_request_it_is() {
        let key = |text: &str| HashKey::parse(text).unwrap();
        assert_eq!(key("header:X-User").source(), HashSource::Header("X-User"));
        assert_eq!(key("cookie:sid").source(), HashSource::Cookie("sid"));
        assert_eq!(key("address").source(), HashSource::Address);
        for text in [
            "",
            "X-User",
            "header",
            "header:",
            "header:X User",
            "cookie:a=b",
            "address:",
            "address:x",
            "Address",
            "query:q",
        ] {
            assert!(HashKey::parse(text).is_err(), "{text}");
        }
    }
}
