//! Networks: which addresses a list of CIDR blocks holds, and which key stands for a client.
//!
//! An IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) is the IPv4 address everywhere here: a dual-stack listener reports
//! IPv4 peers in that form, and a rule written for `10.0.0.0/8` has to hold for them. It follows that `::/0` holds no
//! IPv4 address: write `0.0.0.0/0` beside it.
//!
//! Source: RFC 4632 (prefix notation), RFC 4291, 2.5.5.2 (mapped addresses), RFC 6177 (an IPv6 site has at least a /64).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A block of addresses, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    address: IpAddr,
    length: u8,
}

/// Why a text is no [`Cidr`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// The part before the slash is no IP address.
    #[error("{text:?} is not an IP address or network; write one like 10.0.0.0/8, 192.168.1.7 or fd00::/8")]
    NotAnAddress {
        /// What was written.
        text: String,
    },
    /// The part behind the slash is no prefix length of this family.
    #[error("{text:?} has no valid prefix length; write a number from 0 to {max} behind the slash")]
    BadLength {
        /// What was written.
        text: String,
        /// The longest prefix of the address family.
        max: u8,
    },
    /// The address has bits set that the prefix leaves open.
    #[error(
        "{text:?} has bits set behind its prefix; write {network} for the network or {address} for the one address"
    )]
    HostBits {
        /// What was written.
        text: String,
        /// The network that the prefix names.
        network: Cidr,
        /// The address alone.
        address: IpAddr,
    },
}

/// A set of addresses made of blocks. Membership is a binary search over disjoint ranges, without allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CidrSet {
    /// Inclusive, sorted, neither overlapping nor adjacent.
    v4: Vec<(u32, u32)>,
    /// The same for IPv6.
    v6: Vec<(u128, u128)>,
}

impl Cidr {
    /// The network's first address.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// The length of the prefix in bits.
    pub const fn prefix_length(&self) -> u8 {
        self.length
    }

    /// Whether `ip` is in the block.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => ip.to_bits() & mask4(self.length) == net.to_bits(),
            (IpAddr::V6(net), IpAddr::V6(ip)) => ip.to_bits() & mask6(self.length) == net.to_bits(),
            _ => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Cidr, CidrError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| CidrError::NotAnAddress { text: text.to_owned() })?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let bad_length = || CidrError::BadLength { text: text.to_owned(), max };
        let length = match length {
            None => max,
            Some(digits) if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(bad_length());
            }
            Some(digits) => digits.parse().ok().filter(|n| *n <= max).ok_or_else(bad_length)?,
        };
        let network = match address {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask4(length))),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask6(length))),
        };
        let cidr = canonical(network, length);
        if network != address {
            return Err(CidrError::HostBits { text: text.to_owned(), network: cidr, address });
        }
        Ok(cidr)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl CidrSet {
    /// The set of all addresses in `blocks`.
    pub fn new(blocks: Vec<Cidr>) -> CidrSet {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for block in blocks {
            match block.address {
                IpAddr::V4(net) => v4.push((net.to_bits(), net.to_bits() | !mask4(block.length))),
                IpAddr::V6(net) => v6.push((net.to_bits(), net.to_bits() | !mask6(block.length))),
            }
        }
        CidrSet { v4: merge(v4, |n| n.checked_add(1)), v6: merge(v6, |n| n.checked_add(1)) }
    }

    /// Whether `ip` is in the set.
    #[inline]
    pub fn contains(&self, ip: IpAddr) -> bool {
        if self.is_empty() {
            return false;
        }
        match ip.to_canonical() {
            IpAddr::V4(ip) => holds(&self.v4, ip.to_bits()),
            IpAddr::V6(ip) => holds(&self.v6, ip.to_bits()),
        }
    }

    /// Whether no address is in the set.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

impl FromIterator<Cidr> for CidrSet {
    fn from_iter<I: IntoIterator<Item = Cidr>>(blocks: I) -> CidrSet {
        CidrSet::new(blocks.into_iter().collect())
    }
}

/// What stands for a client in per-client limits: its IPv4 address, or the /64 of its IPv6 address, because a single
/// IPv6 host commands a whole /64 and could otherwise be a new client with every connection.
#[inline]
pub fn client_key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask6(64))),
    }
}

/// A block of mapped addresses is the IPv4 block.
fn canonical(address: IpAddr, length: u8) -> Cidr {
    match address.to_canonical() {
        IpAddr::V4(v4) if address.is_ipv6() && length >= 96 => Cidr { address: IpAddr::V4(v4), length: length - 96 },
        _ => Cidr { address, length },
    }
}

const fn mask4(length: u8) -> u32 {
    if length == 0 { 0 } else { u32::MAX << (32 - length) }
}

const fn mask6(length: u8) -> u128 {
    if length == 0 { 0 } else { u128::MAX << (128 - length) }
}

/// Sorts ranges and joins those that overlap or touch.
fn merge<T: Ord + Copy>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match merged.last_mut() {
            Some(last) if next(last.1).is_none_or(|after| start <= after) => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

#[inline]
fn holds<T: Ord + Copy>(ranges: &[(T, T)], value: T) -> bool {
    let behind = ranges.partition_point(|(start, _)| *start <= value);
    behind > 0 && value <= ranges[behind - 1].1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_block_is_read_and_written() {
        for (text, written) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.168.1.7", "192.168.1.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("fd00::/8", "fd00::/8"),
            ("::1", "::1/128"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ] {
            assert_eq!(cidr(text).to_string(), written, "{text}");
        }
    }

    #[test]
    fn what_is_no_block_is_refused_with_the_remedy() {
        let error = |text: &str| text.parse::<Cidr>().unwrap_err().to_string();
        assert!(error("10.0.0.5/8").contains("10.0.0.0/8 for the network or 10.0.0.5 for"), "{}", error("10.0.0.5/8"));
        assert!(error("fd00::1/64").contains("fd00::/64"));
        for text in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/8/8", "::/129", "10.0.0.0/256"] {
            assert!(matches!(text.parse::<Cidr>(), Err(CidrError::BadLength { .. })), "{text}");
        }
        for text in ["", "example.com", "10.0.0/8", "/8", " 10.0.0.1", "[::1]"] {
            assert!(matches!(text.parse::<Cidr>(), Err(CidrError::NotAnAddress { .. })), "{text}");
        }
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let set = CidrSet::new(vec![cidr("10.0.0.0/8")]);
        assert!(set.contains(ip("::ffff:10.9.9.9")));
        assert!(!set.contains(ip("::10.9.9.9")));
        assert!(!CidrSet::new(vec![cidr("::/0")]).contains(ip("10.0.0.1")));
        assert!(CidrSet::default().is_empty());
        assert!(!CidrSet::default().contains(ip("10.0.0.1")));
    }

    #[test]
    fn whole_families_and_their_last_addresses_are_held() {
        let set = CidrSet::new(vec![cidr("0.0.0.0/0"), cidr("::/0"), cidr("255.255.255.255")]);
        for text in ["0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] {
            assert!(set.contains(ip(text)), "{text}");
        }
    }

    #[test]
    fn blocks_that_touch_or_overlap_are_one() {
        let set = |texts: &[&str]| texts.iter().map(|t| cidr(t)).collect::<CidrSet>();
        assert_eq!(set(&["10.0.0.128/25", "10.0.0.0/25", "10.0.0.7"]), set(&["10.0.0.0/24"]));
        assert_eq!(set(&["fd00::/9", "fd80::/9"]), set(&["fd00::/8"]));
    }

    #[test]
    fn a_client_is_its_ipv4_address_or_its_ipv6_slash_64() {
        assert_eq!(client_key(ip("::ffff:10.0.0.1")), ip("10.0.0.1"));
        assert_eq!(client_key(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1:2::"));
    }

    /// Blocks from a small corner of the address space, so that they overlap, touch and miss each other.
    fn block() -> impl Strategy<Value = Cidr> {
        prop_oneof![
            (any::<u8>(), 24..=32u8).prop_map(|(low, n)| Cidr {
                address: IpAddr::V4(Ipv4Addr::from_bits((0x0a00_0000 | u32::from(low)) & mask4(n))),
                length: n
            }),
            (any::<u8>(), 120..=128u8).prop_map(|(low, n)| Cidr {
                address: IpAddr::V6(Ipv6Addr::from_bits((0xfd << 120 | u128::from(low)) & mask6(n))),
                length: n
            }),
        ]
    }

    proptest! {
        #[test]
        fn the_set_holds_what_any_block_holds(blocks in prop::collection::vec(block(), 0..12)) {
            let set = CidrSet::new(blocks.clone());
            for low in 0..=255u8 {
                for ip in [
                    IpAddr::V4(Ipv4Addr::new(10, 0, 0, low)),
                    IpAddr::V6(Ipv4Addr::new(10, 0, 0, low).to_ipv6_mapped()),
                    IpAddr::V6(Ipv6Addr::from_bits(0xfd << 120 | u128::from(low))),
                    IpAddr::V4(Ipv4Addr::new(10, 0, 1, low)),
                ] {
                    prop_assert_eq!(set.contains(ip), blocks.iter().any(|b| b.contains(ip)), "{}", ip);
                }
            }
        }

        #[test]
        fn a_block_survives_being_written_and_read(block in block()) {
            prop_assert_eq!(block.to_string().parse::<Cidr>(), Ok(block));
        }
    }
}
