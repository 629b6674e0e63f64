//! What trusted proxies say of the client's request: whom it is from, and to which origin.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;
use tokenward_core::Denial;

/// Hops of a forwarding chain that are looked at, from the right. No honest chain comes near it.
const MAX_HOPS: usize = 32;

/// Which headers the trusted proxies set. A family that they do not set is the client's word, so name no more than they do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyHeaders {
    /// `X-Forwarded-For`, `-Proto` and `-Host`. Of the latter two the right-most value counts.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// Either; where a request has both, `Forwarded`.
    Both,
}

/// The proxies that are believed: none by default.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    networks: Vec<IpNet>,
    headers: ProxyHeaders,
}

/// What is known of the client's request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Forwarded {
    /// The right-most address of the chain that no trusted proxy has.
    pub(super) client: Option<IpAddr>,
    /// The scheme that the client used.
    pub(super) scheme: Option<String>,
    /// The host that the client named, with its port.
    pub(super) host: Option<String>,
}

impl Proxies {
    pub(super) const fn new(networks: Vec<IpNet>, headers: ProxyHeaders) -> Self {
        Self { networks, headers }
    }

    /// What `headers` say, if `peer` is to be believed.
    ///
    /// # Errors
    ///
    /// [`Denial::RequestMalformed`] where a believed `Forwarded` is out of its grammar.
    pub(super) fn look(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Result<Forwarded, Denial> {
        let peer = peer.map(|peer| peer.to_canonical());
        let untouched = Forwarded {
            client: peer,
            ..Forwarded::default()
        };
        let Some(peer) = peer.filter(|peer| self.trusts(*peer)) else {
            return Ok(untouched);
        };
        let standard = self.headers != ProxyHeaders::XForwarded && headers.contains_key("forwarded");
        if standard {
            self.standard(peer, headers)
        } else if self.headers == ProxyHeaders::Forwarded {
            Ok(untouched)
        } else {
            Ok(self.customary(peer, headers))
        }
    }

    fn customary(&self, peer: IpAddr, headers: &HeaderMap) -> Forwarded {
        let client = client_behind(peer, headers, &self.networks);
        let last = |name| from_the_right(headers, name).next().map(str::to_owned);
        Forwarded {
            client: Some(client),
            scheme: last("x-forwarded-proto"),
            host: last("x-forwarded-host"),
        }
    }

    /// Each proxy adds an element about the request that it received. Those of trusted proxies stand at the right; the one
    /// that the outermost of them wrote is about the client's own request.
    fn standard(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Forwarded, Denial> {
        let mut elements = Vec::new();
        for value in headers.get_all("forwarded") {
            let value = value.to_str().map_err(|_| Denial::RequestMalformed)?;
            elements.extend(parse(value).ok_or(Denial::RequestMalformed)?);
        }
        let mut seen = Forwarded {
            client: Some(peer),
            ..Forwarded::default()
        };
        for element in elements.into_iter().rev().take(MAX_HOPS) {
            let client = element.node.as_deref().and_then(address);
            seen = Forwarded {
                client: client.or(seen.client),
                scheme: element.proto,
                host: element.host,
            };
            if client.is_none_or(|client| !self.trusts(client)) {
                break;
            }
        }
        Ok(seen)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        trusts(&self.networks, address)
    }
}

/// The address of the client that `peer` asks for, by `X-Forwarded-For`: the right-most one of the chain, `peer` included, that
/// no proxy of `trusted` has. A client can write what it likes to the left of that one. Where `peer` is not trusted it is the
/// client; of a chain 32 hops are looked at, and none beyond one that is no address.
///
/// ```
/// let trusted = ["10.0.0.0/8".parse().unwrap()];
/// let mut headers = http::HeaderMap::new();
/// headers.insert("x-forwarded-for", "203.0.113.66, 198.51.100.7, 10.1.2.3".parse().unwrap());
/// let client = tokenward::client_behind("10.0.0.1".parse().unwrap(), &headers, &trusted);
/// assert_eq!(client.to_string(), "198.51.100.7");
/// ```
#[must_use]
pub fn client_behind(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer.to_canonical();
    for hop in from_the_right(headers, "x-forwarded-for").take(MAX_HOPS) {
        if !trusts(trusted, client) {
            break;
        }
        // Beyond an entry that is no address nothing can be told, so the last known hop stands for all.
        let Some(address) = address(hop) else { break };
        client = address;
    }
    client
}

fn trusts(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// The elements of a list in all headers of that name, the last one first.
fn from_the_right<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .rev()
        .flat_map(|value| value.to_str().unwrap_or("").rsplit(','))
        .map(str::trim)
}

/// An address, or an address with a port as some proxies write it.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()))
        .ok()
        .map(|address| address.to_canonical())
}

/// One element of `Forwarded`, as far as it is of use.
#[derive(Debug, Default, PartialEq, Eq)]
struct Element {
    node: Option<String>,
    proto: Option<String>,
    host: Option<String>,
}

/// RFC 7239 section 4. Strict: what is out of the grammar may hide where one element ends.
fn parse(value: &str) -> Option<Vec<Element>> {
    let mut elements = vec![Element::default()];
    let mut rest = value.trim();
    let mut after_pair = false;
    while let Some(first) = rest.chars().next() {
        match first {
            ';' | ',' => {
                if first == ',' {
                    elements.push(Element::default());
                }
                after_pair = false;
                rest = rest.get(1..)?;
            }
            _ if after_pair => return None,
            _ => {
                let (name, after) = rest.split_once('=')?;
                let (text, after) = parameter(after)?;
                let element = elements.last_mut()?;
                let slot = match &*name.to_ascii_lowercase() {
                    "for" => Some(&mut element.node),
                    "proto" => Some(&mut element.proto),
                    "host" => Some(&mut element.host),
                    _ => None,
                };
                if !is_token(name) || slot.is_some_and(|slot| slot.replace(text).is_some()) {
                    return None;
                }
                after_pair = true;
                rest = after;
            }
        }
        rest = rest.trim_start();
    }
    Some(elements)
}

/// A token or quoted string, and what follows it.
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return is_token(value).then(|| (value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(chars.next()?.1),
            _ => value.push(char),
        }
    }
    None
}

fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn look(kind: ProxyHeaders, peer: &str, headers: &[(&str, &str)]) -> Result<[String; 3], Denial> {
        let networks = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                let name = HeaderName::try_from(*name).unwrap();
                (name, HeaderValue::from_str(value).unwrap())
            })
            .collect();
        let seen = Proxies::new(networks.to_vec(), kind).look(Some(peer.parse().unwrap()), &headers)?;
        Ok([
            seen.client.map(|client| client.to_string()).unwrap_or_default(),
            seen.scheme.unwrap_or_default(),
            seen.host.unwrap_or_default(),
        ])
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_only_in_their_own_headers() {
        let all = &[
            ("x-forwarded-for", "198.51.100.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "x.example"),
            ("forwarded", "for=198.51.100.8;proto=https;host=f.example"),
        ];
        let (x, f) = (
            ["198.51.100.7", "https", "x.example"],
            ["198.51.100.8", "https", "f.example"],
        );
        for (kind, peer, headers, expected) in [
            (ProxyHeaders::Both, "192.0.2.1", &all[..], ["192.0.2.1", "", ""]),
            (ProxyHeaders::Both, "10.0.0.1", all, f),
            (ProxyHeaders::Both, "10.0.0.1", &all[..3], x),
            (ProxyHeaders::Forwarded, "10.0.0.1", all, f),
            (
                ProxyHeaders::Forwarded,
                "10.0.0.1",
                &all[..3],
                ["10.0.0.1", "", ""],
            ),
            (ProxyHeaders::XForwarded, "10.0.0.1", all, x),
            (ProxyHeaders::XForwarded, "::ffff:10.0.0.1", all, x),
            (
                ProxyHeaders::XForwarded,
                "10.0.0.1",
                &all[3..],
                ["10.0.0.1", "", ""],
            ),
        ] {
            assert_eq!(
                look(kind, peer, headers).unwrap(),
                expected,
                "{kind:?} {peer} {headers:?}"
            );
        }
        assert_eq!(
            Proxies::default().look(None, &HeaderMap::new()),
            Ok(Forwarded::default())
        );
    }

    #[test]
    fn what_a_client_writes_stands_to_the_left_and_is_not_read() {
        for (headers, expected) in [
            (
                &[
                    ("x-forwarded-for", "203.0.113.66, 198.51.100.7, 10.1.2.3"),
                    ("x-forwarded-proto", "http, https"),
                    ("x-forwarded-host", "evil.example"),
                    ("x-forwarded-host", "api.example"),
                ][..],
                ["198.51.100.7", "https", "api.example"],
            ),
            (
                &[(
                    "forwarded",
                    "for=203.0.113.66;proto=http;host=evil.example, for=198.51.100.7;proto=https;host=api.example",
                )],
                ["198.51.100.7", "https", "api.example"],
            ),
            (
                &[
                    ("forwarded", "host=evil.example"),
                    (
                        "forwarded",
                        "For=198.51.100.7 ;  Proto=https;HOST=\"api.example:8443\"",
                    ),
                    ("forwarded", "for=10.0.0.2;proto=http;host=inner"),
                ],
                ["198.51.100.7", "https", "api.example:8443"],
            ),
            (
                &[("forwarded", "for=\"[2001:db8::1]:443\";by=x;ext=\"a,b;c\\\"d\"")],
                ["2001:db8::1", "", ""],
            ),
            (
                &[(
                    "forwarded",
                    "for=203.0.113.66;host=evil.example, for=_hidden;host=api.example",
                )],
                ["10.0.0.1", "", "api.example"],
            ),
        ] {
            assert_eq!(
                look(ProxyHeaders::Both, "10.0.0.1", headers).unwrap(),
                expected,
                "{headers:?}"
            );
        }
        let long = format!("for=198.51.100.7{}", ", for=10.0.0.2".repeat(MAX_HOPS));
        let seen = look(ProxyHeaders::Both, "10.0.0.1", &[("forwarded", &long)]).unwrap();
        assert_eq!(seen[0], "10.0.0.2", "a long chain is not followed to its end");
    }

    #[test]
    fn a_believed_header_out_of_its_grammar_is_a_malformed_request() {
        for value in [
            "for",
            "=x",
            "for=",
            "for=\"a",
            "for=\"a\\",
            "for=\"a\"b",
            "for=a proto=http",
            "for=a;for=b",
            "for=[::1]",
            "f or=a",
        ] {
            let seen = look(ProxyHeaders::Both, "10.0.0.1", &[("forwarded", value)]);
            assert_eq!(seen, Err(Denial::RequestMalformed), "{value:?}");
        }
        // Pairs and elements may be empty (RFC 7239 section 4).
        assert_eq!(parse("").map(|elements| elements.len()), Some(1));
        assert_eq!(
            parse(";for=a; ;proto=http;,").map(|elements| elements.len()),
            Some(2)
        );
    }
}
