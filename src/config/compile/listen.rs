//! Addresses: where clients, operators and applications come in, each with its place in the file, so that an address that
//! turns out to be taken can be shown where it is written.

use std::io;
use std::net::SocketAddr;

use kernel::{Finding, Place, Rule, Severity};

use crate::config::context::Context;
use crate::config::document::Path;
use crate::path;

pub(crate) const NO_LISTENER: Rule = Rule {
    id: "no-listener",
    severity: Severity::Error,
    title: "The gateway listens nowhere",
    what: "There is neither `listen` in `[gateway]` nor a `[listener.NAME]`, and there are services or routes, or no \
           `[pool.NAME]` either.",
    why: "No request could come in. There is no default, because whether the gateway is open to the network or to \
          this machine only is a decision.",
    remedy: "Write `listen` in `[gateway]`: `127.0.0.1:8080` for this machine, `0.0.0.0:80` for everybody.",
    example: "[gateway]\nlisten = \"127.0.0.1:8080\"",
};

pub(crate) const SAME_ADDRESS: Rule = Rule {
    id: "same-address",
    severity: Severity::Error,
    title: "Two parts listen on one address",
    what: "The same address and port is given to two of gateway, listeners, admin, API and pools. An address for \
           every interface (`0.0.0.0`, `[::]`) takes the port of all of them. Two pools may share one, if each has \
           databases of its own.",
    why: "Only one can have it: the start would fail with the address taken.",
    remedy: "Give each its own port.",
    example: "[gateway]\nlisten = \"127.0.0.1:8080\"\n[admin]\nlisten = \"127.0.0.1:7070\"   # not 127.0.0.1:8080",
};

pub(crate) const ADDRESS_UNAVAILABLE: Rule = Rule {
    id: "address-unavailable",
    severity: Severity::Error,
    title: "An address cannot be listened on",
    what: "The operating system refuses the address: another process has the port, the port needs a right that the \
           process does not have, or the machine has no such address. It is found when the node starts, not by \
           `evenkeel check`.",
    why: "A node that listens on some of its addresses only would look healthy and be half unreachable, so it does \
          not start.",
    remedy: "For a taken port, find the process with `ss -ltnp 'sport = :8080'` and stop it, or choose another port. \
             If it is a node that this one is to replace, start this one with `--take-over`. For a port below 1024, give the binary the right (`setcap cap_net_bind_service=+ep`, or \
             `AmbientCapabilities=` in the unit file). For an address the machine does not have, write one that `ip \
             address` lists, or `0.0.0.0` for all.",
    example: "[gateway]\nlisten = \"127.0.0.1:8080\"",
};

/// An address to listen on, and where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// What listens: `gateway`, `admin`, `api`, the name of a listener, or `pool.` and the name of a pool.
    pub name: String,
    /// The address.
    pub address: SocketAddr,
    /// Where it is written; `None`: it is the default.
    pub place: Option<Place>,
    /// Its path in the configuration.
    pub subject: String,
}

/// All addresses.
pub(super) struct Listeners {
    pub(super) gateway: Vec<Listening>,
    pub(super) admin: Listening,
    pub(super) api: Option<Listening>,
    pub(super) pools: Vec<Listening>,
}

/// What to say of an address that the system refuses.
pub fn cannot_listen(listening: &Listening, error: &io::Error) -> Finding {
    let Listening { name, address, .. } = listening;
    let port = address.port();
    let (problem, remedy) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            "the port is taken by another process".to_owned(),
            format!("find it with `ss -ltnp 'sport = :{port}'` and stop it, or choose another port"),
        ),
        io::ErrorKind::PermissionDenied => (
            "the process may not take this port".to_owned(),
            "ports below 1024 need the capability CAP_NET_BIND_SERVICE; give it, or choose a higher port".to_owned(),
        ),
        io::ErrorKind::AddrNotAvailable => (
            "this machine has no such address".to_owned(),
            "write an address that `ip address` lists, or `0.0.0.0` for every interface".to_owned(),
        ),
        _ => (crate::config::plain(error), "choose another address".to_owned()),
    };
    let mut finding = ADDRESS_UNAVAILABLE.finding(format!("{name} cannot listen on {address}: {problem}"), remedy);
    finding.place.clone_from(&listening.place);
    finding.subject = Some(listening.subject.clone());
    finding
}

/// Finds them, and says so if there are none or two are the same.
pub(super) fn listeners(context: &Context<'_>) -> Listeners {
    let config = context.config;
    let at = |name: &str, address: SocketAddr, path: Path| {
        let written = context.document.says(&path);
        let span = context.document.span(&path).filter(|_| written);
        let place = span.map(|span| context.source.place(&span));
        (Listening { name: name.to_owned(), address, place, subject: path.to_string() }, path)
    };
    let lone = config.gateway.listen.as_ref().map(|listen| at("gateway", listen.addr(), path!["gateway", "listen"]));
    let named = config.listener.iter().map(|(name, listener)| {
        at(name.as_str(), listener.address.addr(), path!["listener", name.as_str(), "address"])
    });
    let gateway: Vec<_> = lone.into_iter().chain(named).collect();
    let only_pools = !config.pool.is_empty() && config.service.is_empty() && config.route.is_empty();
    if gateway.is_empty()
        && !only_pools
        && !context.is_damaged(&path!["pool"])
        && !context.is_damaged(&path!["gateway"])
        && !context.is_damaged(&path!["listener"])
    {
        let remedy = "add `listen = \"127.0.0.1:8080\"` to `[gateway]`, or `listen = \"0.0.0.0:80\"` to be reached from elsewhere";
        context.say(&NO_LISTENER, &path!["gateway"], "the gateway listens nowhere", remedy);
    }
    let admin = at("admin", config.admin.listen.addr(), path!["admin", "listen"]);
    let api = config.api.as_ref().map(|api| at("api", api.listen.addr(), path!["api", "listen"]));
    let pools: Vec<_> = pool_addresses(context).map(|(name, address, path)| at(&name, address, path)).collect();
    let all: Vec<_> = gateway.iter().chain([&admin]).chain(&api).chain(&pools).collect();
    let is_pool = |listening: &Listening| listening.subject.starts_with("pool.");
    for (i, (listening, path)) in all.iter().enumerate() {
        let clashes = |(other, _): &&&(Listening, Path)| {
            let is_shared = is_pool(other) && is_pool(listening) && other.name != listening.name;
            clash(other.address, listening.address) && !(is_shared && other.address == listening.address)
        };
        let Some((other, other_path)) = all[..i].iter().find(clashes) else { continue };
        // The one that is written is the one that can be changed.
        let (path, listening, other) =
            if listening.place.is_some() { (path, listening, other) } else { (other_path, other, listening) };
        let default = if other.place.is_none() { ", its default" } else { "" };
        let message = match other.address == listening.address {
            true => format!("`{}` is also the address of `{}`{default}", listening.address, other.subject),
            false => format!(
                "`{}` takes the same port as `{}` of `{}`{default}",
                listening.address, other.address, other.subject
            ),
        };
        context.say(&SAME_ADDRESS, path, message, "give each its own port");
    }
    let mut pools: Vec<Listening> = pools.into_iter().map(|(listening, _)| listening).collect();
    let mut seen = std::collections::HashSet::new();
    pools.retain(|listening| listening.address.port() == 0 || seen.insert(listening.address));
    Listeners {
        pools,
        gateway: gateway.into_iter().map(|(listening, _)| listening).collect(),
        admin: admin.0,
        api: api.map(|(listening, _)| listening),
    }
}

/// The name, the address and the place of each TCP address of a pool.
fn pool_addresses(context: &Context<'_>) -> impl Iterator<Item = (String, SocketAddr, Path)> {
    context.config.pool.iter().flat_map(move |(name, pool)| {
        pool.listen.0.iter().enumerate().filter_map(move |(i, listen)| {
            let at = path!["pool", name.as_str(), "listen"];
            let item = at.then(i);
            Some((format!("pool.{name}"), listen.tcp()?, if context.document.says(&item) { item } else { at }))
        })
    })
}

fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let any = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || (any && a.is_ipv4() == b.is_ipv4()))
}
