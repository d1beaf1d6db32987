//! `[admin]`, `[api]`, `[token.NAME]` and `[deploys]`: the node's own HTTP servers and who may call them; `[store]`: what it
//! keeps. What the scopes allow is decided by the `console` crate; here is the closed list of their names.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use console::token;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use kernel::{ByteSize, Span};

use super::scalar::{BareHost, Listen, Name, SharedSecret, StoredHash};

/// The console, the operator API, `/livez`, `/readyz` and `/metrics`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// The address to listen on, `IP:port`. Beyond loopback it demands a token with the scope `operator`.
    ///
    /// Default: `127.0.0.1:7070`. Range: any address; port `0` takes a free one. Reload: restart.
    ///
    /// Why: whoever is on the machine may look, nobody else.
    pub listen: Listen,
    /// Names without port under which browsers reach it, besides addresses and `localhost`. A request with another
    /// `Host` is refused, so that a foreign page cannot point its own name here. Beyond loopback, where a token is
    /// demanded anyway, any name will do.
    ///
    /// Default: `[]`. Range: `0` to `100` names. Reload: live.
    ///
    /// Why: on loopback no name is needed.
    pub hosts: Vec<BareHost>,
}

impl Default for Admin {
    fn default() -> Admin {
        let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7070);
        Admin { listen: Listen::from(loopback), hosts: Vec::new() }
    }
}

/// What the node keeps on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Whether anything is kept on disk. If not, what operators decided, the journal and the counts end with the process.
    ///
    /// Default: `true`. Range: `true` or `false`. Reload: restart.
    ///
    /// Why: what happened last night is asked for in the morning; a node that has no disk of its own can do without.
    pub enabled: bool,
    /// The directory for what must survive a restart: what operators decided (`ledger.db`), what happened (`journal.db`),
    /// and what flowed (`series.db`). It is made at the start, for the node's user alone; each node needs its own. A
    /// relative path counts from the directory of this file.
    ///
    /// Default: `evenkeel-data`. Range: a path. Reload: restart.
    ///
    /// Why: what belongs to a node lies beside its configuration, where it is found and moves along; a service manager's
    /// directory can be named, such as `/var/lib/evenkeel` or `${env:STATE_DIRECTORY}`.
    pub directory: PathBuf,
    /// How large the journal may be on disk. Beyond that its oldest records go.
    ///
    /// Default: `256MiB`. Range: `4MiB` to `64GiB`. Reload: restart.
    ///
    /// Why: about half a million events, which is years of a quiet node and weeks of a bad one.
    pub journal_max_size: ByteSize,
    /// How long records of the journal are kept.
    ///
    /// Default: `400d`. Range: `1d` to `3650d`. Reload: restart.
    ///
    /// Why: last year's incident can be laid beside this year's.
    pub journal_retention: Span,
    /// How large the counts may be on disk: minutes of 35 days, hours of 13 months, and 15 days in steps of 15 seconds.
    /// Beyond that the oldest of the 15 seconds go first, then of the minutes, then of the hours.
    ///
    /// Default: `512MiB`. Range: `4MiB` to `64GiB`. Reload: restart.
    ///
    /// Why: all of it fits for some hundred routes, services and endpoints.
    pub series_max_size: ByteSize,
}

impl Default for Store {
    fn default() -> Store {
        Store {
            enabled: true,
            directory: PathBuf::from("evenkeel-data"),
            journal_max_size: ByteSize::from_mib(256),
            journal_retention: Span::from_secs(400 * 86_400),
            series_max_size: ByteSize::from_mib(512),
        }
    }
}

/// The API that applications call. It never gives operator rights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// The address to listen on, `IP:port`.
    ///
    /// Default: none (required). Range: any address; port `0` takes a free one. Reload: restart.
    ///
    /// Why: who must reach it differs from network to network.
    pub listen: Listen,
}

/// A token that a caller presents as `Authorization: Bearer evk_…`. Only its hash is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// `sha256:` and the 64 hexadecimal digits of the token's SHA-256, or a `${env:NAME}` or `${file:/path}` that holds
    /// them. `evenkeel token new` prints both the token and its hash.
    ///
    /// Default: none (required). Range: `sha256:` and 64 digits. Reload: live.
    ///
    /// Why: whoever reads this file learns no token from it.
    pub hash: StoredHash,
    /// What it may do. No scope implies another.
    ///
    /// Default: none (required). Range: `1` to `16` of `operator`, `services:read`, `deploys:write`, `register:SERVICE` and
    /// `register:*`. Reload: live.
    ///
    /// Why: a token should open what its holder needs and nothing else.
    pub scopes: Vec<Scope>,
}

/// Webhooks that tell of deployments, at `POST /v1/deploys` of `[api]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deploys {
    /// What GitHub signs its webhooks with: the field `Secret` of the webhook has the same text. Name a variable or a file
    /// that holds it, `${env:NAME}` or `${file:/path}`. It is never shown.
    ///
    /// Default: none (required). Range: 16 to 256 bytes. Reload: live.
    ///
    /// Why: GitHub sends no token, and a signature can be checked only by whoever has the secret itself.
    pub github_secret: SharedSecret,
}

/// What a token may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything on the admin address.
    Operator,
    /// Read the state of services through the API.
    ServicesRead,
    /// Tell of deployments through the API.
    DeploysWrite,
    /// Register endpoints of this service through the API; `None`: of every service.
    Register(Option<Name>),
}

impl Scope {
    /// Takes a text that is right.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn parse(text: &str) -> Result<Scope, String> {
        let written = text.strip_prefix(token::REGISTER);
        match (text, written) {
            (token::OPERATOR, _) => Ok(Scope::Operator),
            (token::SERVICES_READ, _) => Ok(Scope::ServicesRead),
            (token::DEPLOYS_WRITE, _) => Ok(Scope::DeploysWrite),
            (_, Some(token::ANY_SERVICE)) => Ok(Scope::Register(None)),
            (_, Some(service)) => Name::parse(service).map(|name| Scope::Register(Some(name))),
            _ => {
                let shown = crate::config::shape::cut(text);
                let known = [token::OPERATOR, token::SERVICES_READ, token::DEPLOYS_WRITE, token::REGISTER];
                let why = match crate::config::shape::nearest(text, known.into_iter()) {
                    Some(token::REGISTER) => "write `register:SERVICE`, or `register:*` for every service".to_owned(),
                    Some(near) => format!("write `{near}`, if that was meant"),
                    None => "write `operator`, `services:read`, `deploys:write`, `register:SERVICE` or `register:*`"
                        .to_owned(),
                };
                Err(format!("`{shown}` is not a scope: {why}"))
            }
        }
    }

    /// Whether it counts at the API and not at the console.
    pub const fn is_for_api(&self) -> bool {
        !matches!(self, Scope::Operator)
    }

    /// Whether it lets endpoints of `service` register.
    pub fn registers(&self, service: &Name) -> bool {
        matches!(self, Scope::Register(name) if name.as_ref().is_none_or(|name| name == service))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Operator => f.write_str(token::OPERATOR),
            Scope::ServicesRead => f.write_str(token::SERVICES_READ),
            Scope::DeploysWrite => f.write_str(token::DEPLOYS_WRITE),
            Scope::Register(None) => write!(f, "{}{}", token::REGISTER, token::ANY_SERVICE),
            Scope::Register(Some(name)) => write!(f, "{}{name}", token::REGISTER),
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Scope, D::Error> {
        // A visitor, so that an error is about this scope and not about the list around it.
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Scope;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a scope such as \"operator\" or \"register:shop\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Scope, E> {
                Scope::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl JsonSchema for Scope {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Scope".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "evenkeel-scope",
            "x-expected": "a scope such as \"operator\" or \"register:shop\"",
        })
    }
}
