//! Who calls: the peer's address or, behind proxies that are trusted, the one that they forward.

use std::net::{IpAddr, SocketAddr};

use http::{Extensions, HeaderMap};
use ipnet::IpNet;
use tokenward::client_behind;

/// The other end of the connection. The listener puts it into each request's extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

impl Peer {
    /// The address of it, where a listener put it there.
    pub(crate) fn of(extensions: &Extensions) -> Option<IpAddr> {
        extensions.get::<Self>().map(|peer| peer.0.ip())
    }
}

/// Networks whose `X-Forwarded-For` is believed. Empty: the peer is the caller.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    pub(crate) fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// The caller's address: the right-most one of the chain that no trusted proxy has. A client can write what
    /// it likes to the left of that one.
    pub(crate) fn caller(&self, extensions: &Extensions, headers: &HeaderMap) -> IpAddr {
        let peer = Peer::of(extensions).unwrap_or(IpAddr::from([0, 0, 0, 0]));
        self.behind(peer, None, headers)
    }

    /// The same for a request that `peer` only tells of, which it got from `source`.
    pub(crate) fn behind(&self, peer: IpAddr, source: Option<IpAddr>, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.0.iter().any(|network| network.contains(&peer)) {
            return peer;
        }
        client_behind(source.unwrap_or(peer), headers, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(trusted: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let proxies = TrustedProxies::new(trusted.iter().map(|network| network.parse().unwrap()).collect());
        let mut extensions = Extensions::new();
        extensions.insert(Peer(SocketAddr::new(peer.parse().unwrap(), 4711)));
        let headers = forwarded.iter().map(|value| {
            (
                http::HeaderName::from_static("x-forwarded-for"),
                value.parse().unwrap(),
            )
        });
        proxies.caller(&extensions, &headers.collect()).to_string()
    }

    #[test]
    fn only_trusted_proxies_name_the_caller() {
        let lan = &["10.0.0.0/8", "fd00::/8"][..];
        for (trusted, peer, forwarded, expected) in [
            (&[][..], "192.0.2.1", &["198.51.100.7"][..], "192.0.2.1"),
            (lan, "192.0.2.1", &["198.51.100.7"], "192.0.2.1"),
            (lan, "10.0.0.1", &[], "10.0.0.1"),
            (lan, "10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            (lan, "10.0.0.1", &["203.0.113.66, 198.51.100.7"], "198.51.100.7"),
            (
                lan,
                "10.0.0.1",
                &["203.0.113.66, 198.51.100.7, 10.1.2.3"],
                "198.51.100.7",
            ),
            (
                lan,
                "10.0.0.1",
                &["203.0.113.66", "198.51.100.7,10.1.2.3"],
                "198.51.100.7",
            ),
            (lan, "10.0.0.1", &["198.51.100.7:1234"], "198.51.100.7"),
            (lan, "fd00::1", &["[2001:db8::1]:443"], "2001:db8::1"),
            (lan, "fd00::1", &["[2001:db8::1]"], "2001:db8::1"),
            (lan, "::ffff:10.0.0.1", &["::ffff:198.51.100.7"], "198.51.100.7"),
            (lan, "10.0.0.1", &["198.51.100.7, unknown"], "10.0.0.1"),
            (lan, "10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ] {
            assert_eq!(caller(trusted, peer, forwarded), expected, "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn a_long_chain_is_not_followed_to_its_end() {
        let chain = format!("198.51.100.7{}", ", 10.0.0.2".repeat(32));
        assert_eq!(caller(&["10.0.0.0/8"], "10.0.0.1", &[&chain]), "10.0.0.2");
    }
}
