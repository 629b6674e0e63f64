//! Which addresses a fetch may connect to.
//!
//! Whoever can choose a URL, by configuration of a tenant, by a discovery document or by a redirect, must not be
//! able to reach what only this host can reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is, for a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Anyone on the Internet can reach it.
    Public,
    /// Loopback and private networks: reachable where an identity provider stands inside the same network, which
    /// the operator must say.
    Private,
    /// Link-local, cloud metadata, multicast, reserved: no identity provider lives there, whatever the operator
    /// says.
    Never,
}

pub(super) fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

/// The special-purpose registry of RFC 6890 and its updates, and the metadata services of clouds.
fn reach_v4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        // Metadata services that do not stand on a link-local address: Alibaba's and Azure's.
        [100, 100, 100, 200] | [168, 63, 129, 16] => Reach::Never,
        [10 | 127, ..] | [100, 64..=127, ..] | [172, 16..=31, ..] | [192, 168, ..] => Reach::Private,
        // "This network", link-local with most clouds' metadata, protocol assignments with Oracle's, examples,
        // 6to4 relays, benchmarks, multicast, reserved and broadcast.
        [0 | 224..=255, ..]
        | [169, 254, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => Reach::Never,
        _ => Reach::Public,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let segments = address.segments();
    if address == Ipv6Addr::LOCALHOST {
        return Reach::Private;
    }
    if address == Ipv6Addr::UNSPECIFIED {
        return Reach::Never;
    }
    if let Some(inner) = embedded(segments) {
        return reach_v4(inner);
    }
    match segments {
        // The metadata services of EC2 and Google's cloud, inside the unique-local range.
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254] | [0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254] => Reach::Never,
        // Unique-local (RFC 4193), and the site-local addresses that it replaced.
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Reach::Private,
        // Inside the global range: protocol assignments with Teredo and ORCHID, and examples.
        [0x2001, 0..=0x01ff, ..] | [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Reach::Never,
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Never,
    }
}

/// The IPv4 address that packets to this IPv6 address end at, where a mapping or a translator stands between.
fn embedded(segments: [u16; 8]) -> Option<Ipv4Addr> {
    let (high, low) = match segments {
        // IPv4-compatible, mapped and translated addresses (RFC 4291 section 2.5.5, RFC 2765), and NAT64
        // (RFC 6052).
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => (high, low),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
    Some(Ipv4Addr::new(a, b, c, d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_has_its_reach() {
        let cases = [
            (
                Reach::Public,
                "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255",
            ),
            (
                Reach::Public,
                "2606:4700:4700::1111 2001:4860:4860::8888 2a00:1450::1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::1",
            ),
            (
                Reach::Private,
                "10.0.0.1 127.0.0.1 127.255.255.254 100.64.0.1 100.127.255.255 172.16.0.1 172.31.255.255 192.168.0.1 ::1 fc00::1 fd12:3456::1 fec0::1",
            ),
            (
                Reach::Private,
                "::ffff:127.0.0.1 ::ffff:10.0.0.1 ::127.0.0.1 ::ffff:0:127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::7f00:1 2002:7f00:1::1 2002:a00:1::",
            ),
            (
                Reach::Never,
                "0.0.0.0 0.1.2.3 169.254.0.1 169.254.169.254 100.100.100.200 168.63.129.16 192.0.0.192 192.0.2.1 192.88.99.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255",
            ),
            (
                Reach::Never,
                ":: fe80::1 febf::1 ff02::1 fd00:ec2::254 fd20:ce::254 ::ffff:169.254.169.254 ::ffff:0.0.0.0 64:ff9b::169.254.169.254 2002:a9fe:a9fe::1 ::ffff:100.100.100.200 64:ff9b:1::1 2001::1 2001:db8::1 3fff::1 100::1 5f00::1 4000::1",
            ),
        ];
        for (expected, addresses) in cases {
            for address in addresses.split(' ') {
                assert_eq!(reach(address.parse().unwrap()), expected, "{address}");
            }
        }
    }
}
