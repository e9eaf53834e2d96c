//! Networks that a setting names: of proxies that are believed, of machines that follow links.
//!
//! Owns no state. Invariant: an IPv4 address mapped into IPv6 matches what its IPv4 form matches.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks in CIDR notation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    networks: Vec<(IpAddr, u8)>,
}

impl Networks {
    pub fn none() -> Networks {
        Networks::default()
    }

    /// Adds an address, or a network as `10.0.0.0/8`. Answers what is wrong with it.
    pub fn add(&mut self, text: &str) -> Result<(), &'static str> {
        const WANTED: &str = "must be an IP address or a network, as \"10.0.0.0/8\" or \"fd00::/8\"";
        let (address, bits) = match text.split_once('/') {
            None => (text, None),
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| WANTED)?)),
        };
        let address: IpAddr = address.parse().map_err(|_| WANTED)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        if bits > width {
            return Err("the prefix is longer than the address");
        }
        self.networks.push((address, bits));
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Each network as [`Networks::add`] takes it, a single address without its length.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.networks.iter().map(|(address, bits)| match (address, bits) {
            (IpAddr::V4(_), 32) | (IpAddr::V6(_), 128) => address.to_string(),
            _ => format!("{address}/{bits}"),
        })
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|(network, bits)| match (network, address) {
            (IpAddr::V4(n), IpAddr::V4(a)) => same_prefix_v4(*n, a, *bits),
            (IpAddr::V6(n), IpAddr::V6(a)) => same_prefix_v6(*n, a, *bits),
            _ => false,
        })
    }
}

fn same_prefix_v4(one: Ipv4Addr, other: Ipv4Addr, bits: u8) -> bool {
    bits == 0 || (one.to_bits() ^ other.to_bits()) >> (32 - bits) == 0
}

fn same_prefix_v6(one: Ipv6Addr, other: Ipv6Addr, bits: u8) -> bool {
    bits == 0 || (one.to_bits() ^ other.to_bits()) >> (128 - bits) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        let mut proxies = Networks::none();
        let written = ["10.0.0.0/8", "192.0.2.7", "fd00::/8"];
        for network in written {
            proxies.add(network).unwrap();
        }
        assert_eq!(proxies.texts().collect::<Vec<_>>(), written, "shown as written");
        let check = |address: &str, expected: bool| {
            assert_eq!(proxies.contains(address.parse().unwrap()), expected, "{address}");
        };
        check("10.255.1.2", true);
        check("11.0.0.1", false);
        check("192.0.2.7", true);
        check("192.0.2.8", false);
        check("fd12::1", true);
        check("fe80::1", false);
        check("::ffff:10.0.0.1", true);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "::/129", "example.test", "10.0.0.0/x"] {
            assert!(Networks::none().add(text).is_err(), "{text:?} was taken");
        }
        let mut all = Networks::none();
        all.add("0.0.0.0/0").unwrap();
        assert!(all.contains("203.0.113.9".parse().unwrap()), "a prefix of no bits holds every address");
    }
}
