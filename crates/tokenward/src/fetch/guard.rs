//! What a fetch may do, judged for the first URL and for every one that it is redirected to.

use std::{fmt, net::IpAddr, sync::Arc};

use url::{Host, Url};

use super::{
    address::{Reach, reach},
    error::{FetchError, FetchErrorKind, place},
    retry::Retry,
    tls::{ExtraRoots, SpkiPin},
};

/// [`Guards::max_redirects`] at most.
const MOST_REDIRECTS: u8 = 10;

/// [`Guards::max_response_bytes`] at most.
const MOST_RESPONSE_BYTES: usize = 64 << 20;

/// What the fetches of one identity provider may do. Every hop of a redirect is held to all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guards {
    /// Plain `http` is allowed; by default only `https` is. A redirect from `https` to `http` is never followed.
    pub allow_http: bool,
    /// Loopback, private, unique-local and carrier-grade NAT addresses may be connected to; by default only
    /// public ones. Link-local addresses and those of cloud metadata services never are, nor multicast,
    /// unspecified, reserved and documentation ones. An IPv6 address that stands for an IPv4 one is judged as
    /// that.
    pub allow_private_addresses: bool,
    /// Hosts that may be asked; any by default.
    pub allowed_domains: Vec<AllowedHost>,
    /// A second such list, which stands for all identity providers. Where both lists have entries, both must
    /// admit the host.
    pub global_domains: Arc<[AllowedHost]>,
    /// Keys of which the certificate of the server, or one that vouches for it, must hold at least one; no
    /// demand by default. Where there are pins, `http` is refused.
    pub pinned_spki: Vec<SpkiPin>,
    /// Trusted besides the platform's own roots.
    pub extra_roots: Option<ExtraRoots>,
    /// The largest body that is read, in bytes, before and after decompression; 1 MiB by default, 64 MiB at most.
    pub max_response_bytes: usize,
    /// How many redirects are followed; 3 by default, 10 at most.
    pub max_redirects: u8,
    /// Time limits and further attempts.
    pub retry: Retry,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            allow_http: false,
            allow_private_addresses: false,
            allowed_domains: Vec::new(),
            global_domains: Arc::from([]),
            pinned_spki: Vec::new(),
            extra_roots: None,
            max_response_bytes: 1 << 20,
            max_redirects: 3,
            retry: Retry::default(),
        }
    }
}

impl Guards {
    /// Every value that is out of its range: the member's name, and what is wrong with it.
    #[must_use]
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let mut problems = self.retry.check();
        if self.max_redirects > MOST_REDIRECTS {
            problems.push(("max_redirects", format!("is from 0 to {MOST_REDIRECTS}")));
        }
        if !(1..=MOST_RESPONSE_BYTES).contains(&self.max_response_bytes) {
            problems.push((
                "max_response_bytes",
                format!("is from 1 to {MOST_RESPONSE_BYTES} bytes"),
            ));
        }
        if self.allow_http && !self.pinned_spki.is_empty() {
            problems.push((
                "pinned_spki",
                "cannot hold over plain http: leave allow_http off".to_owned(),
            ));
        }
        problems
    }

    /// Judges the URL of a hop; `from` is the hop that it came from.
    pub(super) fn admit(&self, url: &Url, from: Option<&Url>) -> Result<(), FetchError> {
        self.admit_scheme(url, from)?;
        if !url.username().is_empty() || url.password().is_some() {
            let message = format!(
                "{}: a URL with a user or password in it is not fetched",
                place(url)
            );
            return Err(FetchError::new(FetchErrorKind::UrlInvalid, message));
        }
        let Some(host) = url.host() else {
            return Err(FetchError::new(
                FetchErrorKind::UrlInvalid,
                format!("{}: no host", place(url)),
            ));
        };
        let admits = |list: &[AllowedHost]| list.is_empty() || list.iter().any(|entry| entry.admits(&host));
        if !admits(&self.allowed_domains) || !admits(&self.global_domains) {
            let message = format!("{}: the host is not one of the allowed domains", place(url));
            return Err(FetchError::new(FetchErrorKind::DomainForbidden, message));
        }
        Ok(())
    }

    fn admit_scheme(&self, url: &Url, from: Option<&Url>) -> Result<(), FetchError> {
        let why = match url.scheme() {
            "https" => return Ok(()),
            "http" if from.is_some_and(|from| from.scheme() == "https") => {
                "a redirect from https to http is not followed"
            }
            "http" if !self.pinned_spki.is_empty() => "pinned keys need https",
            "http" if self.allow_http => return Ok(()),
            "http" => "only https is fetched, unless allow_http is set",
            _ => "only https is fetched",
        };
        Err(FetchError::new(
            FetchErrorKind::SchemeForbidden,
            format!("{}: {why}", place(url)),
        ))
    }

    /// Judges the very address that is about to be connected to.
    pub(super) fn admits_address(&self, address: IpAddr) -> bool {
        match reach(address) {
            Reach::Public => true,
            Reach::Private => self.allow_private_addresses,
            Reach::Never => false,
        }
    }
}

/// A domain with all its subdomains, or one IP address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost(Host<String>);

impl AllowedHost {
    /// Reads a domain, as `example.com`, in any case, with a dot at its end or none, or an IP address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text.strip_suffix('.').unwrap_or(text);
        let whole = !bare.is_empty()
            && bare
                .split('.')
                .all(|label| !label.is_empty() && !label.contains('*'));
        match Host::parse(bare).ok()? {
            Host::Domain(domain) if whole => Some(Self(Host::Domain(domain))),
            Host::Domain(_) => None,
            address => Some(Self(address)),
        }
    }

    /// Whether `host` is the domain itself or ends with it after a dot: `evilexample.com` is no part of
    /// `example.com`.
    #[must_use]
    pub fn admits(&self, host: &Host<&str>) -> bool {
        match (&self.0, host) {
            (Host::Domain(domain), Host::Domain(host)) => {
                let host = host.strip_suffix('.').unwrap_or(host);
                host.strip_suffix(domain.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            (Host::Ipv4(allowed), Host::Ipv4(host)) => allowed == host,
            (Host::Ipv6(allowed), Host::Ipv6(host)) => allowed == host,
            _ => false,
        }
    }
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn code(guards: &Guards, text: &str) -> &'static str {
        guards
            .admit(&url(text), None)
            .map_or_else(|error| error.code(), |()| "ok")
    }

    #[test]
    fn https_alone_unless_http_is_allowed_and_nothing_else_ever() {
        let strict = Guards::default();
        let lax = Guards {
            allow_http: true,
            ..Guards::default()
        };
        assert_eq!(code(&strict, "https://idp.example/"), "ok");
        assert_eq!(code(&strict, "http://idp.example/"), "scheme_forbidden");
        assert_eq!(code(&lax, "http://idp.example/"), "ok");
        for other in [
            "file:///etc/passwd",
            "data:,x",
            "gopher://idp.example/",
            "unix:/run/x",
            "ftp://idp.example/",
            "ws://idp.example/",
        ] {
            assert_eq!(code(&lax, other), "scheme_forbidden", "{other}");
        }
        let from = url("https://idp.example/");
        let down = lax.admit(&url("http://idp.example/"), Some(&from)).unwrap_err();
        assert_eq!(down.code(), "scheme_forbidden");
        assert!(lax.admit(&from, Some(&url("http://idp.example/"))).is_ok());
    }

    #[test]
    fn pins_need_https() {
        let guards = Guards {
            allow_http: true,
            pinned_spki: vec![SpkiPin::parse("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap()],
            ..Guards::default()
        };
        assert_eq!(code(&guards, "http://idp.example/"), "scheme_forbidden");
        assert_eq!(
            guards.check().first().map(|(member, _)| *member),
            Some("pinned_spki")
        );
    }

    #[test]
    fn a_user_part_is_refused_and_not_shown() {
        let guards = Guards::default();
        let error = guards
            .admit(&url("https://good.example:secret@evil.example/"), None)
            .unwrap_err();
        assert_eq!(error.code(), "url_invalid");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(code(&guards, "https://good.example@evil.example/"), "url_invalid");
    }

    #[test]
    fn domains_match_whole_labels_from_the_end() {
        let allow = |entries: &[&str]| {
            entries
                .iter()
                .map(|entry| AllowedHost::parse(entry).unwrap())
                .collect::<Vec<_>>()
        };
        let guards = Guards {
            allowed_domains: allow(&["Example.COM", "127.0.0.1", "bücher.example."]),
            ..Guards::default()
        };
        for host in [
            "example.com",
            "EXAMPLE.com",
            "example.com.",
            "a.b.example.com",
            "127.0.0.1",
            "2130706433",
            "xn--bcher-kva.example",
        ] {
            assert_eq!(code(&guards, &format!("https://{host}/")), "ok", "{host}");
        }
        for host in [
            "evilexample.com",
            "example.com.evil.org",
            "com",
            "127.0.0.2",
            "1.127.0.0.1.example",
            "[::ffff:127.0.0.1]",
        ] {
            assert_eq!(
                code(&guards, &format!("https://{host}/")),
                "domain_forbidden",
                "{host}"
            );
        }
        for bad in [
            "",
            ".",
            "*.example.com",
            ".example.com",
            "a..b",
            "a b",
            "https://example.com",
            "example.com/x",
        ] {
            assert_eq!(AllowedHost::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn both_lists_must_admit() {
        let entry = |text| AllowedHost::parse(text).unwrap();
        let guards = Guards {
            allowed_domains: vec![entry("a.example"), entry("b.org")],
            global_domains: Arc::from([entry("example")]),
            ..Guards::default()
        };
        assert_eq!(code(&guards, "https://x.a.example/"), "ok");
        assert_eq!(code(&guards, "https://b.org/"), "domain_forbidden");
        assert_eq!(code(&guards, "https://c.example/"), "domain_forbidden");
    }

    #[test]
    fn values_out_of_range_are_named() {
        let guards = Guards {
            max_redirects: 11,
            max_response_bytes: 0,
            ..Guards::default()
        };
        let members: Vec<&str> = guards.check().iter().map(|(member, _)| *member).collect();
        assert_eq!(members, ["max_redirects", "max_response_bytes"]);
        assert!(Guards::default().check().is_empty());
    }
}
