//! Which route takes a request: by host, path, method and header; the first match in file order wins.
//!
//! | part | written | matches |
//! | --- | --- | --- |
//! | host | `shop.example.com` | that host, in any case; the request's port and a closing dot do not count |
//! | host | `*.example.com` | `a.example.com`, `a.b.example.com`; not `example.com` |
//! | path | `/a` | `/a` alone |
//! | path | `/a/*` | `/a` and all below it; not `/ab` |
//! | path | `/users/{id}/orders` | one segment that is not empty in place of `{id}` |
//! | path | `/*` | every path |
//! | method | `GET` | that method; `HEAD` has to be named itself |
//! | header | name, with or without a value | the header is there; its first value is exactly this |
//!
//! Several hosts or methods are alternatives; several headers must all match; what is left out matches everything.
//! Paths are matched in normal form ([`crate::path`]).
//!
//! A table of a few routes is walked. A longer one has an index by host and first path segment, so that a request looks
//! only at routes that have a chance; the index never decides, each candidate is matched in full. Nothing is allocated.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::pattern::starts_below;
pub use crate::pattern::{HostPattern, PathPattern, PatternError};
use crate::request::RequestView;

/// Tables up to this many routes are walked: that is as fast as one look into the index.
const WALKED: usize = 8;
/// The longest host name (RFC 1035, 2.3.4, and room for an address in brackets); a longer one is in no index.
const MAX_HOST: usize = 255;

/// What a request must have to take a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteMatch {
    /// Any of these hosts; empty: any host, even none.
    pub hosts: Vec<HostPattern>,
    /// This path; `None`: any.
    pub path: Option<PathPattern>,
    /// Any of these methods, in upper case; empty: any.
    pub methods: Vec<String>,
    /// All of these headers.
    pub headers: Vec<HeaderMatch>,
}

/// A header that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    /// Its name, in lower case.
    pub name: String,
    /// Its first value; `None`: any.
    pub value: Option<String>,
}

/// Routes in the order in which they are tried.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    routes: Vec<RouteMatch>,
    /// Whether any route asks for a host.
    by_host: bool,
    index: Option<Index>,
}

/// Which routes have a chance, by host and first path segment. Every list is in file order.
#[derive(Clone, Debug, Default)]
struct Index {
    /// By host, for routes with exact hosts.
    exact: Map<Paths>,
    /// By the part behind the star, with its dot, for routes with wildcards.
    below: Map<Paths>,
    /// Routes for any host.
    any: Paths,
}

#[derive(Clone, Debug, Default)]
struct Paths {
    by_segment: Map<Vec<u32>>,
    /// Routes whose first segment may be anything.
    rest: Vec<u32>,
}

type Map<V> = HashMap<Box<[u8]>, V, BuildHasherDefault<Fnv>>;

/// FNV-1a. The keys come from the configuration, so nobody can fill the table with collisions.
#[derive(Clone, Copy, Debug)]
struct Fnv(u64);

impl RouteMatch {
    /// Whether a request takes this route, its host and everything else looked at in full.
    #[inline]
    fn matches(&self, view: &impl RequestView, host: &[u8], normal_path: &[u8]) -> bool {
        self.path.as_ref().is_none_or(|p| p.matches(normal_path))
            && (self.hosts.is_empty() || self.hosts.iter().any(|h| h.matches(host)))
            && (self.methods.is_empty() || self.methods.iter().any(|m| m.as_bytes() == view.method()))
            && self.headers.iter().all(|h| h.matches(view))
    }

    /// Whether every request that takes `other` would take this one as well; `false` if that is not certain.
    fn covers(&self, other: &RouteMatch) -> bool {
        let hosts = self.hosts.is_empty()
            || (!other.hosts.is_empty() && other.hosts.iter().all(|o| self.hosts.iter().any(|h| h.covers(o))));
        let path = match (&self.path, &other.path) {
            (None, _) => true,
            (Some(path), None) => path.is_any(),
            (Some(path), Some(other)) => path.covers(other),
        };
        let methods = self.methods.is_empty()
            || (!other.methods.is_empty() && other.methods.iter().all(|m| self.methods.contains(m)));
        let header = |h: &HeaderMatch| {
            other.headers.iter().any(|o| o.name == h.name && (h.value.is_none() || h.value == o.value))
        };
        hosts && path && methods && self.headers.iter().all(header)
    }
}

impl HeaderMatch {
    #[inline]
    fn matches(&self, view: &impl RequestView) -> bool {
        match (view.header(&self.name), &self.value) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(found), Some(value)) => found == value.as_bytes(),
        }
    }
}

impl RouteTable {
    /// The table of these routes.
    pub fn new(routes: Vec<RouteMatch>) -> RouteTable {
        let index = (routes.len() > WALKED).then(|| Index::new(&routes));
        let by_host = routes.iter().any(|r| !r.hosts.is_empty());
        RouteTable { routes, by_host, index }
    }

    /// The first route that the request takes. `normal_path` is its path in normal form ([`crate::path::normalise`]).
    #[inline]
    pub fn find(&self, view: &impl RequestView, normal_path: &[u8]) -> Option<usize> {
        let host = if self.by_host { bare_host(view.host()) } else { b"" };
        match &self.index {
            None => self.routes.iter().position(|r| r.matches(view, host, normal_path)),
            Some(index) => self.find_by(index, view, host, normal_path),
        }
    }

    fn find_by(&self, index: &Index, view: &impl RequestView, host: &[u8], normal_path: &[u8]) -> Option<usize> {
        let segment = first_segment(normal_path);
        let mut best = usize::MAX;
        let mut look = |paths: &Paths| {
            for list in [paths.by_segment.get(segment), Some(&paths.rest)].into_iter().flatten() {
                let chances = list.iter().map(|i| *i as usize).take_while(|i| *i < best);
                let found = chances.into_iter().find(|i| self.routes[*i].matches(view, host, normal_path));
                best = found.unwrap_or(best);
            }
        };
        look(&index.any);
        if self.by_host && host.len() <= MAX_HOST {
            let mut lower = [0; MAX_HOST];
            let lower = &mut lower[..host.len()];
            lower.copy_from_slice(host);
            lower.make_ascii_lowercase();
            index.exact.get(&*lower).into_iter().for_each(&mut look);
            if !index.below.is_empty() {
                let dots = (0..lower.len()).filter(|i| lower[*i] == b'.');
                dots.filter_map(|i| index.below.get(&lower[i..])).for_each(&mut look);
            }
        }
        (best != usize::MAX).then_some(best)
    }

    /// Routes that can never be taken: (the route, the earlier route that takes all its requests). Only what is certain
    /// is reported: a route that several others cover together is not.
    pub fn shadowed(&self) -> Vec<(usize, usize)> {
        let cover = |(i, route): (usize, &RouteMatch)| {
            self.routes[..i].iter().position(|earlier| earlier.covers(route)).map(|by| (i, by))
        };
        self.routes.iter().enumerate().filter_map(cover).collect()
    }

    /// The routes, in order.
    pub fn routes(&self) -> &[RouteMatch] {
        &self.routes
    }
}

impl Index {
    fn new(routes: &[RouteMatch]) -> Index {
        let mut index = Index::default();
        for (i, route) in routes.iter().enumerate() {
            let segment = route.path.as_ref().and_then(PathPattern::first_literal);
            if route.hosts.is_empty() {
                index.any.add(segment, i as u32);
            }
            for host in &route.hosts {
                let paths = match host {
                    HostPattern::Exact(name) => index.exact.entry(name.as_bytes().into()),
                    HostPattern::Below(suffix) => index.below.entry(suffix.as_bytes().into()),
                };
                paths.or_default().add(segment, i as u32);
            }
        }
        index
    }
}

impl Paths {
    fn add(&mut self, segment: Option<&[u8]>, route: u32) {
        let list = match segment {
            Some(segment) => self.by_segment.entry(segment.into()).or_default(),
            None => &mut self.rest,
        };
        // A host may be named twice in one route.
        if list.last() != Some(&route) {
            list.push(route);
        }
    }
}

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// The host without port and closing dot.
#[inline]
fn bare_host(host: &[u8]) -> &[u8] {
    let end = match host.first() {
        Some(b'[') => host.iter().position(|b| *b == b']').map_or(host.len(), |i| i + 1),
        _ => host.iter().position(|b| *b == b':').unwrap_or(host.len()),
    };
    let host = &host[..end];
    host.strip_suffix(b".").unwrap_or(host)
}

/// What stands between the first slash and the next.
#[inline]
fn first_segment(path: &[u8]) -> &[u8] {
    let path = starts_below(path, b"").unwrap_or(path);
    &path[..path.iter().position(|b| *b == b'/').unwrap_or(path.len())]
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
