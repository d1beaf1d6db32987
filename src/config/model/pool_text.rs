//! The texts of `[pool.NAME]`: where clients and servers are, names of databases and users, and the password. TCP addresses
//! are written as everywhere; a Unix socket is `unix:` and a directory, as `psql -h` takes it, or the whole path of a socket
//! whose name begins with `.s.PGSQL.`: clients look for no other name.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use super::scalar::{MAX_TEXT, is_host, text};

/// The port of Postgres.
const POSTGRES_PORT: u16 = 5432;

/// The port of poolers: what a Unix socket is named by where no TCP address is listened on.
pub(super) const POOLER_PORT: u16 = 6432;

/// The longest path of a Unix socket, in bytes: `sun_path` holds 108 with the NUL at its end.
const MAX_SOCKET_PATH: usize = 107;

/// The longest name of a database or user: `NAMEDATALEN` of Postgres is 64 with the NUL at its end.
const MAX_IDENTIFIER: usize = 63;

/// The longest password, in bytes.
const MAX_PASSWORD: usize = 1024;

text!(
    /// Where clients connect: `IP:port`, or `unix:` and a path.
    PoolListen, "evenkeel-pool-listen", "an address such as \"127.0.0.1:6432\" or \"unix:/var/run/postgresql\"", |text| {
        if let Some(path) = text.strip_prefix("unix:") {
            return socket_path(path).map(|()| text.to_owned());
        }
        if text.starts_with('/') {
            return Err(format!("`{text}` is a path: write `unix:{text}`"));
        }
        super::scalar::Listen::parse(text).map(|address| address.to_string()).map_err(|error| match text.parse::<u16>() {
            Ok(port) => format!("`{text}` is not an address to listen on: write `127.0.0.1:{port}`"),
            Err(_) => error.replace("8080", "6432"),
        })
    }
);

impl PoolListen {
    /// The TCP address, if it is one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        self.as_str().parse().ok()
    }

    /// The path of the Unix socket, if it is one; a directory holds the socket of `port`.
    pub fn unix(&self, port: u16) -> Option<PathBuf> {
        self.as_str().strip_prefix("unix:").map(|path| socket_in(path, port))
    }
}

text!(
    /// Where a Postgres is: `host:port`, `host`, or `unix:` and a path.
    PoolServer, "evenkeel-pool-server", "a server such as \"127.0.0.1:5432\" or \"unix:/var/run/postgresql\"", |text| {
        if let Some(path) = text.strip_prefix("unix:") {
            return socket_path(path).map(|()| text.to_owned());
        }
        if text.starts_with('/') {
            return Err(format!("`{text}` is a path: write `unix:{text}`"));
        }
        if let Some((_, rest)) = text.split_once("://") {
            let authority = rest.split(['/', '?']).next().unwrap_or(rest);
            let host = authority.rsplit('@').next().unwrap_or(authority);
            return Err(format!("this is a URL: write `{host}`; user and password belong in `auth`"));
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(format!("`{text}` could be an address and a port: write `[{text}]:{POSTGRES_PORT}`"));
        }
        match server_parts(text) {
            Some(_) => Ok(text.to_ascii_lowercase()),
            None => Err(format!(
                "`{text}` is not a server: write a host with its port, such as `10.0.0.5:5432`, or `unix:/var/run/postgresql`"
            )),
        }
    }
);

impl PoolServer {
    /// The Unix socket, if it is one.
    pub fn unix(&self) -> Option<PathBuf> {
        self.as_str().strip_prefix("unix:").map(|path| socket_in(path, POSTGRES_PORT))
    }

    /// Host, without brackets, and port. What cannot be read cannot be here, so the fallback is taken for sockets alone.
    pub fn tcp(&self) -> (&str, u16) {
        server_parts(self.as_str()).unwrap_or((self.as_str(), POSTGRES_PORT))
    }

    /// Whether it is this machine, as far as the text tells.
    pub fn is_local(&self) -> bool {
        let (host, _) = self.tcp();
        self.unix().is_some() || host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

text!(
    /// The name of a database or user.
    Identifier, "evenkeel-identifier", "a name such as \"shop\"", |text| {
        match (1..=MAX_IDENTIFIER).contains(&text.len()) && !text.contains(char::is_control) {
            true => Ok(text.to_owned()),
            false => Err(format!(
                "`{}` cannot be the name of a database or user: write 1 to {MAX_IDENTIFIER} bytes without control characters",
                text.escape_debug()
            )),
        }
    }
);

impl Identifier {
    /// The database that every server has.
    pub(super) fn postgres() -> Identifier {
        Identifier("postgres".to_owned())
    }
}

text!(
    /// A query for a verifier.
    AuthQuery, "evenkeel-auth-query", "a query such as \"SELECT usename, passwd FROM evenkeel.user_lookup($1)\"", |text| {
        match text.contains("$1") && !text.contains("$2") && !text.contains('\0') {
            true => Ok(text.to_owned()),
            false => Err(format!(
                "`{}` cannot ask for a user: write a query with `$1` for the user's name and no other parameter",
                crate::config::shape::cut(text)
            )),
        }
    }
);

impl AuthQuery {
    /// The default.
    pub(super) fn user_lookup() -> AuthQuery {
        AuthQuery(pool::verifiers::DEFAULT_QUERY.to_owned())
    }
}

/// A password. What is wrong with it is said without showing it, and it is in no debug output.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// Itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Password, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Password;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(PASSWORD)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Password, E> {
                let what = match text.len() {
                    0 => "an empty password is not taken".to_owned(),
                    n if n > MAX_PASSWORD => format!("a password of {n} bytes is not taken"),
                    _ if text.contains('\0') => "a password cannot hold a NUL".to_owned(),
                    _ => return Ok(Password(text.to_owned())),
                };
                Err(E::custom(format!(
                    "{what}: write 1 to {MAX_PASSWORD} bytes, such as `${{file:/etc/evenkeel/pg}}` holds"
                )))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

const PASSWORD: &str = "a password such as \"${file:/etc/evenkeel/pg}\"";

impl JsonSchema for Password {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Password".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "evenkeel-password", "x-expected": PASSWORD })
    }
}

/// One address or several: `"127.0.0.1:6432"` or `["127.0.0.1:6432", "unix:/var/run/postgresql"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolListens(pub Vec<PoolListen>);

impl Serialize for PoolListens {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for PoolListens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PoolListens, D::Error> {
        struct OneOrMore;
        impl<'de> serde::de::Visitor<'de> for OneOrMore {
            type Value = PoolListens;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address or a list of addresses")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<PoolListens, E> {
                PoolListen::parse(text).map(|one| PoolListens(vec![one])).map_err(E::custom)
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<PoolListens, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = list.next_element()? {
                    all.push(one);
                }
                Ok(PoolListens(all))
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}

impl JsonSchema for PoolListens {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "PoolListens".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "array"],
            "items": PoolListen::json_schema(generator),
            "minItems": 1,
            "maxItems": 16,
            "x-expected": "an address such as \"127.0.0.1:6432\" or \"unix:/var/run/postgresql\", or a list of them",
        })
    }
}

/// The whole path of the socket that `path` names: itself, or the one of `port` in that directory.
fn socket_in(path: &str, port: u16) -> PathBuf {
    let path = Path::new(path);
    let is_socket = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(".s.PGSQL."));
    if is_socket { path.to_owned() } else { path.join(format!(".s.PGSQL.{port}")) }
}

fn socket_path(path: &str) -> Result<(), String> {
    let longest = socket_in(path, u16::MAX).as_os_str().len();
    match () {
        () if !path.starts_with('/') || path.contains('\0') => Err(format!(
            "`unix:{}` is not the path of a socket: write a whole one, such as `unix:/var/run/postgresql`",
            path.escape_debug()
        )),
        () if longest > MAX_SOCKET_PATH => Err(format!(
            "`unix:{path}` is longer than the {MAX_SOCKET_PATH} bytes that a socket's path may have: choose a shorter one"
        )),
        () => Ok(()),
    }
}

/// Host without brackets, and port.
fn server_parts(text: &str) -> Option<(&str, u16)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        return Some((host, if after.is_empty() { POSTGRES_PORT } else { port(after.strip_prefix(':')?)? }));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, written)) => (host, port(written)?),
        None => (text, POSTGRES_PORT),
    };
    is_host(host).then_some((host, port))
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_a_port_and_sockets_a_name() {
        let tcp = |text: &str| {
            let server = PoolServer::parse(text).unwrap();
            let (host, port) = server.tcp();
            (host.to_owned(), port)
        };
        assert_eq!(tcp("127.0.0.1:5433"), ("127.0.0.1".to_owned(), 5433));
        assert_eq!(tcp("DB.internal"), ("db.internal".to_owned(), 5432));
        assert_eq!(tcp("[::1]:5433"), ("::1".to_owned(), 5433));
        assert_eq!(tcp("[::1]"), ("::1".to_owned(), 5432));
        let unix = |text: &str| PoolServer::parse(text).unwrap().unix().unwrap().display().to_string();
        assert_eq!(unix("unix:/var/run/postgresql"), "/var/run/postgresql/.s.PGSQL.5432");
        assert_eq!(unix("unix:/tmp/.s.PGSQL.5433"), "/tmp/.s.PGSQL.5433");
        let local = |text: &str| PoolServer::parse(text).unwrap().is_local();
        assert!(local("127.0.0.2:1") && local("localhost") && local("[::1]") && local("unix:/tmp"));
        assert!(!local("10.0.0.5:5432") && !local("db.internal"));
    }

    #[test]
    fn texts_that_name_no_server_or_address_are_refused_with_what_to_write() {
        let server = |text: &str| PoolServer::parse(text).unwrap_err();
        assert!(server("postgres://me:secret@db:5433/shop").contains("write `db:5433`"));
        assert!(!server("postgres://me:secret@db:5433/shop").contains("secret"));
        assert!(server("/var/run/postgresql").contains("write `unix:/var/run/postgresql`"));
        assert!(server("::1").contains("write `[::1]:5432`"));
        for text in ["", "db:0", "db:x", "a b", "[::1", "[::1]x", "unix:tmp", "db:1:2"] {
            assert!(PoolServer::parse(text).is_err(), "{text}");
        }
        let listen = |text: &str| PoolListen::parse(text).unwrap_err();
        assert!(listen("6432").contains("write `127.0.0.1:6432`"));
        assert!(listen("127.0.0.1").contains("`127.0.0.1:6432`"));
        assert!(listen("/tmp").contains("write `unix:/tmp`"));
        assert!(listen(&format!("unix:/{}", "a".repeat(200))).contains("107 bytes"));
    }

    #[test]
    fn names_and_passwords_have_limits_and_passwords_are_not_shown() {
        assert!(Identifier::parse(&"a".repeat(63)).is_ok() && Identifier::parse("Ünïcode app").is_ok());
        assert!(Identifier::parse("").is_err() && Identifier::parse(&"a".repeat(64)).is_err());
        assert!(Identifier::parse("a\nb").is_err());
        #[derive(Debug, Deserialize)]
        struct Table {
            password: Password,
        }
        let read = |text: &str| toml::from_str::<Table>(&format!("password = \"{text}\""));
        assert_eq!(format!("{:?}", read("hunter2").unwrap().password), "Password");
        let error = read(&"x9".repeat(600)).unwrap_err();
        assert!(error.message().contains("1200 bytes") && !error.message().contains("x9"), "{error}");
        assert!(read("").is_err());
    }
}
