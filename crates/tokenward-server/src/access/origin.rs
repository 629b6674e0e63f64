//! Keeps pages of other sites from using an operator's browser against the admin API.
//!
//! A credential is never sent by a browser on its own, so this is a second line: it also keeps what answers without a
//! credential from being read, and a console, where there is one, from being driven.

use std::net::IpAddr;

use http::{HeaderMap, header, uri::Authority};

use super::Refusal;

/// Where the admin listener can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// From this machine only.
    Loopback,
    /// From others too.
    Beyond,
}

/// Refuses what a page of another origin asks for, and names that are not this machine's where only this machine is
/// meant.
pub(super) fn check(headers: &HeaderMap, authority: Option<&Authority>, reach: Reach) -> Result<(), Refusal> {
    let text = |name: &http::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    // HTTP/2 says in the target what HTTP/1.1 says in `Host`.
    let host = authority
        .map(Authority::as_str)
        .or(text(&header::HOST))
        .unwrap_or_default();
    // Of two names only one would be judged (RFC 9112 section 3.2).
    let one = headers.get_all(header::HOST).iter().count() <= 1;
    if !one || (reach == Reach::Loopback && !is_of_this_machine(host)) {
        return Err(Refusal::Host);
    }
    // Fetch Metadata: browsers set it, and no script can.
    let site = headers
        .get("sec-fetch-site")
        .map(|value| value.to_str().unwrap_or_default());
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return Err(Refusal::CrossSite);
    }
    let origin = text(&header::ORIGIN);
    let same = |origin: &str| {
        origin
            .split_once("://")
            .is_some_and(|(_, of)| of.eq_ignore_ascii_case(host))
    };
    if origin.is_some_and(|origin| !same(origin)) {
        return Err(Refusal::CrossSite);
    }
    Ok(())
}

/// A name that an attacker's DNS can point here would make a page of the attacker's the same origin.
fn is_of_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let host = authority.host();
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        // RFC 6761 section 6.3: names below `localhost` never leave the machine.
        Err(_) => {
            let name = bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(reach: Reach, pairs: &[(&'static str, &str)]) -> Result<(), Refusal> {
        let headers = pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
        check(&headers.collect::<HeaderMap>(), None, reach)
    }

    #[test]
    fn names_that_others_can_point_here_are_refused_on_loopback() {
        for host in [
            "localhost",
            "LOCALHOST:9090",
            "127.0.0.1:9090",
            "127.8.9.1",
            "[::1]:9090",
            "a.localhost:1",
            "localhost.",
        ] {
            assert_eq!(outcome(Reach::Loopback, &[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "192.0.2.1",
            "10.0.0.1:9090",
            "",
            "notlocalhost",
            "a@localhost@evil",
            "[::2]",
        ] {
            assert_eq!(
                outcome(Reach::Loopback, &[("host", host)]),
                Err(Refusal::Host),
                "{host}"
            );
        }
        assert_eq!(outcome(Reach::Loopback, &[]), Err(Refusal::Host));
        assert_eq!(outcome(Reach::Beyond, &[("host", "tokenward.internal")]), Ok(()));
        for reach in [Reach::Loopback, Reach::Beyond] {
            let two = [("host", "localhost"), ("host", "evil.example")];
            assert_eq!(outcome(reach, &two), Err(Refusal::Host));
        }
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let with = |pairs: &[(&'static str, &str)]| {
            outcome(Reach::Beyond, &[&[("host", "a.example:9090")], pairs].concat())
        };
        for fine in [
            &[][..],
            &[("origin", "http://a.example:9090")],
            &[
                ("origin", "https://A.example:9090"),
                ("sec-fetch-site", "same-origin"),
            ],
            &[("sec-fetch-site", "none")],
        ] {
            assert_eq!(with(fine), Ok(()), "{fine:?}");
        }
        for foreign in [
            &[("origin", "http://evil.example")][..],
            &[("origin", "null")],
            &[("origin", "http://a.example")],
            &[("origin", "")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[
                ("origin", "http://a.example:9090"),
                ("sec-fetch-site", "cross-site"),
            ],
        ] {
            assert_eq!(with(foreign), Err(Refusal::CrossSite), "{foreign:?}");
        }
    }
}
