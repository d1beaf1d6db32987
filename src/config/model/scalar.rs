//! The values that are written as texts: addresses, networks, names, paths, statuses. Each is checked when it is read, so
//! that a wrong one is found where it stands, and each error says what to write. What a value *means* is not decided
//! here: patterns of hosts and paths are those of `policy::route`, networks those of `policy::net`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// The longest text that is taken where a name, a path or a header value is expected.
pub const MAX_TEXT: usize = 8 * 1024;

/// Declares a checked text: the type, what is expected (for the error when something else stands there), its JSON schema
/// format, and the check, which says what is wrong and what to write.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $format:literal, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes a text that is right.
            ///
            /// # Errors
            /// What is wrong with it, and what to write.
            pub fn parse(text: &str) -> Result<$name, String> {
                if text.len() > MAX_TEXT {
                    return Err(format!("a text of {} bytes is longer than the {MAX_TEXT} that are taken", text.len()));
                }
                let check: fn(&str) -> Result<String, String> = $check;
                check(text).map($name)
            }

            /// As it is used.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::parse(text).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format, "x-expected": $expected })
            }
        }
    };
}

pub(super) use text;

text!(
    /// The name of a table: a metric label and a part of paths, so it is short and plain.
    Name, "evenkeel-name", "a name such as \"shop\"", |text| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        match starts && text.len() <= 63 && text.chars().all(plain) {
            true => Ok(text.to_owned()),
            false => Err(format!(
                "`{text}` is not a name: use 1 to 63 lower-case letters, digits, `-` and `_`, the first a letter or digit"
            )),
        }
    }
);

text!(
    /// An address to listen on: `IP:port`.
    Listen, "evenkeel-listen", "an address such as \"127.0.0.1:8080\"", |text| {
        if text.parse::<SocketAddr>().is_ok() {
            return Ok(text.to_owned());
        }
        let write = match text.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
            Some(("", Ok(port))) => format!("`0.0.0.0:{port}` for every interface or `127.0.0.1:{port}` for this machine"),
            Some(("*", Ok(port))) => format!("`0.0.0.0:{port}`"),
            Some(("localhost", Ok(port))) => format!("`127.0.0.1:{port}`"),
            Some((host, Ok(port))) if host.parse::<Ipv6Addr>().is_ok() => format!("`[{host}]:{port}`"),
            _ if text.parse::<IpAddr>().is_ok() => "the port too, such as `127.0.0.1:8080`".to_owned(),
            _ if text.parse::<u16>().is_ok() => format!("`127.0.0.1:{text}`"),
            _ => "an IP address and a port, such as `127.0.0.1:8080`".to_owned(),
        };
        Err(format!("`{text}` is not an address to listen on: write {write}"))
    }
);

impl Listen {
    /// The address. What cannot be read cannot be here, so the fallback is never taken.
    pub fn addr(&self) -> SocketAddr {
        self.0.parse().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)))
    }
}

impl From<SocketAddr> for Listen {
    fn from(addr: SocketAddr) -> Listen {
        Listen(addr.to_string())
    }
}

text!(
    /// Where a copy of a service is: `host:port`.
    Endpoint, "evenkeel-endpoint", "an endpoint such as \"127.0.0.1:9101\" or \"shop.internal:8080\"", |text| {
        if let Some((scheme, rest)) = text.split_once("://") {
            let host = rest.split('/').next().unwrap_or(rest);
            let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
            return Err(match scheme {
                "http" => format!("`{text}` is a URL: write `{host}`"),
                _ => format!("`{text}` is a URL of a kind that endpoints cannot have: write `host:port` of a plain HTTP server"),
            });
        }
        let wrong = |write: &str| Err(format!("`{text}` is not an endpoint: write {write}"));
        let Some((host, port)) = text.rsplit_once(':') else {
            return wrong(&format!("the port too, such as `{}:8080`", if text.is_empty() { "127.0.0.1" } else { text }));
        };
        if port.parse::<u16>().is_ok_and(|port| port == 0) || port.parse::<u16>().is_err() {
            return wrong("a port from 1 to 65535 behind the last colon");
        }
        if host.parse::<Ipv6Addr>().is_ok() {
            return wrong(&format!("`[{host}]:{port}`"));
        }
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        match bracketed.map_or_else(|| is_host(host), |v6| v6.parse::<Ipv6Addr>().is_ok()) {
            true => Ok(text.to_ascii_lowercase()),
            false => wrong("a host name or an address before the last colon, such as `shop.internal:8080`"),
        }
    }
);

impl Endpoint {
    /// The port. What cannot be read cannot be here, so the fallback is never taken.
    pub fn port(&self) -> u16 {
        self.0.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(0)
    }
}

text!(
    /// A name that DNS knows, and a port: `shop.internal:8080`. A dot at the end of the name keeps search domains away.
    HostAndPort, "evenkeel-host-and-port", "a name and port such as \"shop.internal:8080\"", |text| {
        let write = |write: &str| Err(format!("`{text}` is not a name to ask DNS for: write {write}"));
        let Some((host, port)) = text.rsplit_once(':') else {
            return write(&format!("the port too, such as `{}:8080`", if text.is_empty() { "shop.internal" } else { text }));
        };
        if host.parse::<IpAddr>().is_ok() || host.starts_with('[') {
            return write("a name; an address belongs in `endpoints`");
        }
        match is_host(host.strip_suffix('.').unwrap_or(host)) && port.parse::<u16>().is_ok_and(|port| port > 0) {
            true => Ok(text.to_ascii_lowercase()),
            false => write("a host name and a port from 1 to 65535, such as `shop.internal:8080`"),
        }
    }
);

impl HostAndPort {
    /// The name and the port. What cannot be read cannot be here, so the fallback is never taken.
    pub fn parts(&self) -> (&str, u16) {
        let (host, port) = self.0.rsplit_once(':').unwrap_or((&self.0, "0"));
        (host, port.parse().unwrap_or(0))
    }
}

text!(
    /// The name of SRV records: `_http._tcp.shop.internal`. A dot at its end keeps search domains away.
    SrvName, "evenkeel-srv-name", "a name such as \"_http._tcp.shop.internal\"", |text| {
        let name = text.strip_suffix('.').unwrap_or(text);
        match name.starts_with('_') && name.contains("._") && is_host(name) {
            true => Ok(text.to_ascii_lowercase()),
            false => Err(format!(
                "`{text}` is not the name of SRV records: write one such as `_http._tcp.shop.internal`, without a port"
            )),
        }
    }
);

text!(
    /// A host name, with a port if needed.
    HostName, "evenkeel-host", "a host name such as \"shop.example.com\"", |text| {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
            _ => (text, None),
        };
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let good = bracketed.map_or_else(|| is_host(host), |v6| v6.parse::<Ipv6Addr>().is_ok())
            && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
        match good {
            true => Ok(text.to_ascii_lowercase()),
            false => Err(format!("`{text}` is not a host: write a name such as `shop.example.com`, with `:port` if needed")),
        }
    }
);

text!(
    /// A host name without a port.
    BareHost, "evenkeel-bare-host", "a host name such as \"console.example.com\"", |text| {
        match is_host(text) {
            true => Ok(text.to_ascii_lowercase()),
            false => Err(format!("`{text}` is not a host name: write a name such as `console.example.com`, without a port")),
        }
    }
);

text!(
    /// The host a route is for: `shop.example.com` or `*.example.com`.
    HostPattern, "evenkeel-host-pattern", "a host such as \"shop.example.com\" or \"*.example.com\"", |text| {
        if text.parse::<policy::route::HostPattern>().is_ok() {
            return Ok(text.to_ascii_lowercase());
        }
        let host = text.strip_prefix("*.").unwrap_or(text);
        let why = match () {
            () if text == "*" => "leave `host` out to take every host",
            () if text.contains("://") || text.contains('/') => "write the host alone, without scheme and path",
            () if host.contains('*') => "write `*` as the whole first label only, as in `*.example.com`",
            () if host.rsplit_once(':').is_some_and(|(h, p)| is_host(h) && p.parse::<u16>().is_ok()) =>
                "leave out the port, for a route serves every port that is listened on",
            () => "write `shop.example.com` or `*.example.com`",
        };
        Err(format!("`{text}` is not a host pattern: {why}"))
    }
);

text!(
    /// The path a route is for: exact `/a`, prefix `/a/*`, parameter `/users/{id}`.
    PathPattern, "evenkeel-path-pattern", "a path such as \"/cart\", \"/cart/*\" or \"/users/{id}\"", |text| {
        text.parse::<policy::route::PathPattern>().map(|_| text.to_owned()).map_err(|e| in_ticks(&e, text))
    }
);

text!(
    /// A path that is asked for, with a query if needed.
    CheckPath, "evenkeel-check-path", "a path such as \"/healthz\"", |text| {
        let good = text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        match good {
            true => Ok(text.to_owned()),
            false => Err(format!("`{text}` is not a path to ask for: write one that begins with `/`, such as `/healthz`")),
        }
    }
);

text!(
    /// What stands before the rest of a path: `/shop`.
    PathPrefix, "evenkeel-path-prefix", "a path prefix such as \"/shop\"", |text| {
        let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'{' | b'}' | b'*' | b'\\');
        let dots = text.split('/').any(|s| s == "." || s == "..");
        match text.starts_with('/') && text.bytes().all(plain) && !text.contains("//") && !dots {
            true => Ok(text.to_owned()),
            false => Err(format!(
                "`{text}` is not a path prefix: write one that begins with `/`, such as `/shop`, without `*`, `?` or `..`"
            )),
        }
    }
);

text!(
    /// Where a redirect leads: a URL or path in which `{host}`, `{path}` and `{query}` are filled in.
    Location, "evenkeel-location", "a place such as \"https://{host}{path}{query}\"", |text| {
        let known = ["{host}", "{path}", "{query}"].iter().fold(text.to_owned(), |t, name| t.replace(name, ""));
        let begins = ["/", "http://", "https://"].iter().any(|start| text.starts_with(start));
        let why = match () {
            () if known.contains(['{', '}']) => "use `{host}`, `{path}` and `{query}` and no other braces",
            () if !text.bytes().all(|b| b.is_ascii_graphic()) => "write other characters percent-encoded",
            () if !begins => "write a path or a URL, such as `/new` or `https://{host}{path}{query}`",
            () => return Ok(text.to_owned()),
        };
        Err(format!("`{text}` is no place to redirect to: {why}"))
    }
);

text!(
    /// Some addresses: `10.0.0.0/8`, `192.0.2.7`, `fd00::/8`.
    Cidr, "evenkeel-cidr", "a network such as \"10.0.0.0/8\" or an address such as \"192.0.2.7\"", |text| {
        text.parse::<policy::net::Cidr>().map(|_| text.to_owned()).map_err(|e| in_ticks(&e, text))
    }
);

impl Cidr {
    /// The block. What cannot be read cannot be here.
    pub fn block(&self) -> Option<policy::net::Cidr> {
        self.0.parse().ok()
    }
}

text!(
    /// A request method, in capitals.
    Method, "evenkeel-method", "a method such as \"GET\"", |text| {
        let upper = text.to_ascii_uppercase();
        match is_token(text) && text.len() <= 32 {
            true if upper == text => Ok(upper),
            true => Err(format!("`{text}` is not a method that clients send, for methods are in capitals: write `{upper}`")),
            false => Err(format!("`{text}` is not a method: write one such as `GET`")),
        }
    }
);

text!(
    /// The name of a header.
    HeaderName, "evenkeel-header-name", "a header name such as \"x-team\"", |text| {
        match is_token(text) && text.len() <= 256 {
            true => Ok(text.to_owned()),
            false => Err(format!("`{text}` is not a header name: use letters, digits and `-`, such as `x-team`")),
        }
    }
);

text!(
    /// The value of a header.
    HeaderValue, "evenkeel-header-value", "the text of a header", |text| {
        let visible = text.bytes().all(|b| matches!(b, b' ' | b'\t' | 0x21..=0x7e));
        match visible && text.trim() == text {
            true => Ok(text.to_owned()),
            false => Err(format!(
                "`{}` is not a header value: use printable ASCII without line breaks and without blanks at the ends",
                text.escape_debug()
            )),
        }
    }
);

text!(
    /// An origin that may call from another site: `https://app.example.com`, or `*` for any.
    Origin, "evenkeel-origin", "an origin such as \"https://app.example.com\" or \"*\"", |text| {
        let config = policy::cors::CorsConfig { origins: vec![text.to_owned()], ..Default::default() };
        let errors = policy::cors::CorsPolicy::new(config).err().unwrap_or_default();
        errors.first().map_or_else(|| Ok(text.to_owned()), |error| Err(in_ticks(error, text)))
    }
);

text!(
    /// The hash of a token.
    StoredHash, "evenkeel-token-hash", "a hash such as \"sha256:…\" (64 hexadecimal digits)", |text| {
        console::token::TokenHash::parse(text).map(|hash| hash.to_string()).map_err(|_| match text.starts_with("evk_") {
            true => "this is a token, not its hash: write `sha256:` and the 64 hexadecimal digits of its SHA-256, and take the \
                     token out of this file".to_owned(),
            false => "this is not a token hash: write `sha256:` and 64 hexadecimal digits; `evenkeel token new` makes both"
                .to_owned(),
        })
    }
);

text!(
    /// A secret that another program has as well. What is wrong with it is said without showing it.
    SharedSecret, "evenkeel-shared-secret", "a secret such as \"${file:/run/secrets/github}\"", |text| {
        match text.len() {
            16..=256 => Ok(text.to_owned()),
            n => Err(format!("a secret of {n} bytes is not taken: write 16 to 256, such as `openssl rand -hex 32` prints")),
        }
    }
);

text!(
    /// A status whose page is replaced: a key of `error_pages`.
    ErrorStatus, "evenkeel-error-status", "a status such as \"503\"", |text| {
        match text.parse::<u16>().is_ok_and(|s| (400..600).contains(&s)) && text.len() == 3 {
            true => Ok(text.to_owned()),
            false => Err(format!("`{text}` is not the status of an error: write one from 400 to 599, such as `\"503\"`")),
        }
    }
);

/// Header names and what belongs to them.
pub type Headers<T> = BTreeMap<HeaderName, T>;

/// An error with the text it is about quoted as everywhere here.
fn in_ticks(error: &dyn fmt::Display, text: &str) -> String {
    error.to_string().replace(&format!("{text:?}"), &format!("`{text}`"))
}

/// Whether `text` can be a host: an IPv4 address or labels of letters, digits, `-` and `_`.
pub(super) fn is_host(text: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    (1..=253).contains(&text.len()) && text.split('.').all(label)
}

/// RFC 9110, 5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
#[path = "scalar_tests.rs"]
mod tests;
