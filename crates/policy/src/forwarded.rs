//! The client's address behind proxies: which address of `X-Forwarded-For` can be believed.
//!
//! Each proxy appends the address that it was called from, so the list is to be read from its right end, and only as
//! far as every writer is trusted. The client is the rightmost address that is not a trusted proxy; what stands further
//! left was written by somebody untrusted and may be anything.
//!
//! | peer | list | client | why |
//! | --- | --- | --- | --- |
//! | untrusted | anything | the peer | whoever calls us directly may write what it likes |
//! | trusted | none, or empty | the peer | it passed nothing on: it is the client |
//! | trusted | `C, T` | `C` | rightmost untrusted |
//! | trusted | `X, C, T` | `C` | X was written by C |
//! | trusted | `T1, T2` | `T1` | all are trusted: the leftmost began it |
//! | trusted | `C, junk, T` | `T` | the walk stops at what is no address |
//! | trusted | `C, junk` | the peer | the same |
//!
//! Source: the practice of nginx's `real_ip_recursive` and Envoy's trusted hops; RFC 9110, 5.6.1 (empty list elements
//! count for nothing). An element may carry a port, and an IPv6 address may stand in brackets. Several header lines are
//! one list. `Forwarded` (RFC 7239) is not read.

use std::net::{IpAddr, SocketAddr};

use crate::net::CidrSet;

/// The address of the client that `peer` speaks for. `forwarded_for` are the values of all `X-Forwarded-For` lines in
/// the order in which they were sent. Allocates nothing; the lists are not read unless the peer is trusted.
pub fn client_address<'a>(peer: IpAddr, forwarded_for: impl Iterator<Item = &'a [u8]>, trusted: &CidrSet) -> IpAddr {
    let peer = peer.to_canonical();
    if !trusted.contains(peer) {
        return peer;
    }
    // From left to right, keeping what the walk from the right would end at if the list ended here.
    let mut client = None;
    for element in forwarded_for.flat_map(|value| value.split(|b| *b == b',')) {
        let element = element.trim_ascii();
        if element.is_empty() {
            continue;
        }
        match address(element) {
            None => client = None,
            Some(ip) if !trusted.contains(ip) => client = Some(ip),
            Some(ip) => client = client.or(Some(ip)),
        }
    }
    client.unwrap_or(peer)
}

/// An address with or without a port, IPv6 with or without brackets.
fn address(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?;
    let ip = text.parse::<IpAddr>().ok();
    let ip = ip.or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().filter(IpAddr::is_ipv6));
    let ip = ip.or_else(|| text.parse::<SocketAddr>().ok().map(|a| a.ip()))?;
    Some(ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(peer: &str, lists: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "fd00::/8"].iter().map(|c| c.parse().unwrap()).collect();
        client_address(peer.parse().unwrap(), lists.iter().map(|l| l.as_bytes()), &trusted).to_string()
    }

    #[test]
    fn the_table_holds() {
        for (peer, lists, expected) in [
            ("192.0.2.1", &["203.0.113.9"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["", " , "], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["198.51.100.1, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["203.0.113.9, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["203.0.113.9, _hidden"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9", "10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("10.0.0.1", &["[2001:db8::7]:4711"], "2001:db8::7"),
            ("10.0.0.1", &["[2001:db8::7]"], "2001:db8::7"),
            ("10.0.0.1", &["[203.0.113.9]"], "10.0.0.1"),
            ("10.0.0.1", &["2001:db8::7,fd00::1"], "2001:db8::7"),
            ("::ffff:10.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
            ("::ffff:192.0.2.1", &["203.0.113.9"], "192.0.2.1"),
        ] {
            assert_eq!(client(peer, lists), expected, "{peer} {lists:?}");
        }
    }

    proptest! {
        /// The forward walk against the definition, a walk from the right.
        #[test]
        fn it_is_the_walk_from_the_right(elements in prop::collection::vec(0..6usize, 0..8)) {
            let words = ["10.0.0.2", "10.0.0.3", "203.0.113.9", "198.51.100.1", "junk", ""];
            let list: Vec<_> = elements.iter().map(|i| words[*i]).collect();
            let mut expected = "10.0.0.1";
            for word in list.iter().rev().filter(|w| !w.is_empty()) {
                if *word == "junk" { break; }
                expected = word;
                if !word.starts_with("10.") { break; }
            }
            prop_assert_eq!(client("10.0.0.1", &[&list.join(", ")]), expected);
        }
    }
}
