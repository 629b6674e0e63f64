//! How one scalar becomes a value of its type: parsed once, and right from then on.

use std::{
    fmt::{self, Debug},
    fs::File,
    io::Read,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use http::HeaderName;
use ipnet::IpNet;
use tokenward::fetch::{AllowedHost, ExtraRoots, SpkiPin};
use tokenward_core::limit::Rate;
use url::Url;

use super::{problem::suggestion, store::Pem, tree::Style};

/// The longest text that a member may hold, in bytes.
const MAX_TEXT: usize = 8 * 1_024;

/// The most that a rate may let through in its period.
const MAX_COUNT: u32 = 1_000_000;

/// The longest file of certificates, in bytes.
const MAX_CERTIFICATES: u64 = 4 * 1_024 * 1_024;

/// What a scalar may be, and how it is read. Messages never repeat the text, since it may be a secret.
pub(crate) struct Rule<T> {
    pub(super) kind: Kind,
    /// What it takes, for the reference.
    pub(super) takes: String,
    /// Whether the text is shown to nobody.
    pub(super) secret: bool,
    #[expect(clippy::type_complexity, reason = "written out once")]
    parse: Box<dyn Fn(&str) -> Result<T, String>>,
}

impl<T: 'static> Rule<T> {
    pub(super) fn new(
        kind: Kind,
        takes: impl Into<String>,
        parse: impl Fn(&str) -> Result<T, String> + 'static,
    ) -> Self {
        Self {
            kind,
            takes: takes.into(),
            secret: false,
            parse: Box::new(parse),
        }
    }

    /// The same for a text that is shown to nobody.
    pub(super) fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// The same with one more condition.
    pub(super) fn and<U>(self, next: impl Fn(T) -> Result<U, String> + 'static) -> Rule<U>
    where
        U: 'static,
    {
        let rule = Rule::new(self.kind, self.takes, move |text| next((self.parse)(text)?));
        Rule {
            secret: self.secret,
            ..rule
        }
    }
}

impl<T> Rule<T> {
    pub(super) fn parse(&self, text: &str) -> Result<T, String> {
        (self.parse)(text)
    }
}

/// What a scalar must be written as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// The path of a file that is read.
    File,
    Integer,
    Boolean,
    Duration,
    Rate,
}

impl Kind {
    /// Whether a scalar that YAML takes for `found` may be read as this.
    pub(super) fn admits(self, found: &str, style: Style) -> bool {
        match self {
            _ if style == Style::Environment => true,
            Self::Text | Self::File => found == "text",
            Self::Integer => found == "a number",
            Self::Boolean => found == "a boolean",
            Self::Duration | Self::Rate => matches!(found, "a number" | "text"),
        }
    }

    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::File)
    }

    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Text | Self::File => "texts",
            Self::Integer => "integers",
            Self::Boolean => "booleans",
            Self::Duration => "durations",
            Self::Rate => "rates",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text | Self::File => "text",
            Self::Integer => "an integer",
            Self::Boolean => "`true` or `false`",
            Self::Duration => "a duration (`90`, `250ms`, `90s`, `15m`, `1h`, `30d`)",
            Self::Rate => "a rate (`100/s`, `6000/m`, `1000/h`), or `off`",
        })
    }
}

/// Any text that is not empty.
pub(super) fn text() -> Rule<String> {
    Rule::new(Kind::Text, "text", |text| match text.len() {
        0 => Err("must not be empty".into()),
        length if length > MAX_TEXT => Err(format!("must not be longer than {MAX_TEXT} bytes")),
        _ if text.chars().any(char::is_control) => Err("must not hold control characters".into()),
        _ => Ok(text.to_owned()),
    })
}

/// One of a few words.
pub(super) fn word<T: Copy + 'static>(words: &'static [(&'static str, T)]) -> Rule<T> {
    let all = words
        .iter()
        .map(|(word, _)| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ");
    Rule::new(Kind::Text, all.clone(), move |text| {
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(*value),
            None => {
                let near = suggestion(text, words.iter().map(|(word, _)| *word));
                Err(format!("must be one of {all}{near}"))
            }
        }
    })
}

/// `rule`, whose words may be written in capitals too.
pub(super) fn any_case<T: 'static>(rule: Rule<T>) -> Rule<T> {
    Rule::new(rule.kind, rule.takes.clone(), move |text| {
        rule.parse(&text.to_ascii_lowercase())
    })
}

pub(super) fn boolean() -> Rule<bool> {
    Rule::new(Kind::Boolean, "`true`, `false`", |text| {
        text.parse().map_err(|_| "expected `true` or `false`".to_owned())
    })
}

/// An integer between two bounds, both included.
pub(super) fn integer<T: TryFrom<u64> + 'static>(min: u64, max: u64) -> Rule<T> {
    Rule::new(Kind::Integer, format!("{min} to {max}"), move |text| {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        if !plain {
            return Err("expected an integer".into());
        }
        let value = text.parse().ok().filter(|value| (min..=max).contains(value));
        value
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(|| format!("must be from {min} to {max}"))
    })
}

/// A duration between two bounds, both included.
pub(super) fn duration(min: Duration, max: Duration) -> Rule<Duration> {
    let range = format!("{} to {}", show(min), show(max));
    Rule::new(Kind::Duration, format!("duration, {range}"), move |text| {
        let value = parse_duration(text)?;
        let fits = (min..=max).contains(&value);
        if fits {
            Ok(value)
        } else {
            Err(format!("must be from {} to {}", show(min), show(max)))
        }
    })
}

/// Seconds without a unit, or an integer with `ms`, `s`, `m`, `h` or `d`.
///
/// # Errors
///
/// What was expected instead.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("expected {}", Kind::Duration);
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let millis: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(expected()),
    };
    if number.is_empty() {
        return Err(expected());
    }
    let number: u64 = number
        .parse()
        .map_err(|_| "the duration is too long".to_owned())?;
    let millis = number.checked_mul(millis).ok_or("the duration is too long")?;
    Ok(Duration::from_millis(millis))
}

/// A duration as it would be written in the file.
pub(super) fn show(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis.is_multiple_of(size) && millis > 0 {
            return format!("{}{unit}", millis / size);
        }
    }
    if millis == 0 {
        "0".to_owned()
    } else {
        format!("{millis}ms")
    }
}

/// So many in a second, minute or hour; `off` where there is no limit.
pub(super) fn rate() -> Rule<Option<Rate>> {
    let takes = format!("`N/s`, `N/m` or `N/h`, N from 1 to {MAX_COUNT}; `off`");
    Rule::new(Kind::Rate, takes, move |text| {
        if text == "off" {
            return Ok(None);
        }
        let rate = text.split_once('/').and_then(|(count, unit)| {
            let digits = count.bytes().all(|byte| byte.is_ascii_digit());
            let count: NonZeroU32 = count.parse().ok().filter(|_| digits)?;
            let rate: fn(NonZeroU32) -> Rate = match unit {
                "s" => Rate::per_second,
                "m" => Rate::per_minute,
                "h" => Rate::per_hour,
                _ => return None,
            };
            (count.get() <= MAX_COUNT).then(|| rate(count))
        });
        let expected = || format!("expected {}, of 1 to {MAX_COUNT}", Kind::Rate);
        rate.map(Some).ok_or_else(expected)
    })
}

/// An address, or `localhost`.
pub(super) fn address() -> Rule<IpAddr> {
    Rule::new(Kind::Text, "IP address or `localhost`", |text| match text {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        _ => text
            .trim_matches(['[', ']'])
            .parse()
            .map_err(|_| "expected an IP address".to_owned()),
    })
}

pub(super) fn socket() -> Rule<SocketAddr> {
    Rule::new(Kind::Text, "address and port", |text| {
        let text = text.replacen("localhost:", "127.0.0.1:", 1);
        text.parse()
            .map_err(|_| "expected an IP address and a port, as `127.0.0.1:9090`".to_owned())
    })
}

/// A network; a single address stands for itself alone.
pub(super) fn network() -> Rule<IpNet> {
    Rule::new(Kind::Text, "network, as `10.0.0.0/8`", |text| {
        let net = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let net = net.map_err(|_| "expected a network, as `10.0.0.0/8`".to_owned())?;
        if net.trunc() == net {
            Ok(net)
        } else {
            Err(format!(
                "bits are set beyond the prefix; the network is `{}`",
                net.trunc()
            ))
        }
    })
}

/// An absolute http or https URL of a key set.
pub(super) fn url() -> Rule<Url> {
    text()
        .and(|text| {
            let url = Url::parse(&text).map_err(|error| format!("expected an absolute URL: {error}"))?;
            match url.scheme() {
                "https" | "http" => {}
                _ => return Err("the scheme must be https, or http with `allow_http: true`".to_owned()),
            }
            if !url.username().is_empty() || url.password().is_some() {
                return Err("a user or a password in the URL is not supported".to_owned());
            }
            if url.fragment().is_some() {
                return Err("a URL that is fetched has no fragment (`#…`)".to_owned());
            }
            Ok(url)
        })
        .takes("absolute URL, http or https")
}

/// A domain, whose subdomains match too, or an address.
pub(super) fn domain() -> Rule<AllowedHost> {
    text()
        .and(|text| {
            AllowedHost::parse(&text).ok_or_else(|| {
                "expected a domain as `example.com`, without scheme, port and wildcard, or an IP address; \
                 subdomains are included"
                    .to_owned()
            })
        })
        .takes("domain or IP address")
}

/// The SHA-256 of a certificate's public key, in base64.
pub(super) fn pin() -> Rule<SpkiPin> {
    text()
        .and(|text| {
            SpkiPin::parse(&text).ok_or_else(|| "expected the base64 of a SHA-256: 44 characters".to_owned())
        })
        .takes("base64 SHA-256")
}

/// A PEM file of certificates to trust.
pub(super) fn certificates() -> Rule<ExtraRoots> {
    file()
        .and(|path| ExtraRoots::from_pem(&read_limited(&path, MAX_CERTIFICATES)?))
        .takes("path of a PEM file")
}

/// The same as text, for whoever makes a client of its own.
pub(super) fn certificates_text() -> Rule<Pem> {
    file()
        .and(|path| {
            let pem = read_limited(&path, MAX_CERTIFICATES)?;
            ExtraRoots::from_pem(&pem).map(|_| Pem(pem))
        })
        .takes("path of a PEM file")
}

pub(super) fn header() -> Rule<HeaderName> {
    text()
        .and(|text| {
            HeaderName::try_from(text.to_ascii_lowercase())
                .map_err(|_| "expected the name of a header".to_owned())
        })
        .takes("header name")
}

/// The name of a cookie (RFC 6265 section 4.1.1: a token).
pub(super) fn cookie() -> Rule<String> {
    text()
        .and(|text| {
            // The names of headers are tokens too.
            HeaderName::from_bytes(text.as_bytes())
                .map_err(|_| "expected the name of a cookie".to_owned())?;
            Ok(text)
        })
        .takes("cookie name")
}

/// A file that is there and can be read. A relative path starts in the working directory.
pub(super) fn file() -> Rule<PathBuf> {
    let rule = text().and(|text| {
        let path = PathBuf::from(text);
        let file = File::open(&path).map_err(|error| format!("cannot read the file: {error}"))?;
        let kind = file
            .metadata()
            .map_err(|error| format!("cannot read the file: {error}"))?;
        if kind.is_file() {
            Ok(path)
        } else {
            Err("expected a file, found something else".to_owned())
        }
    });
    Rule {
        kind: Kind::File,
        ..rule.takes("path of a file")
    }
}

/// Reads `path` up to `limit` bytes.
///
/// # Errors
///
/// A file that cannot be read or is longer, in words for a message.
pub(crate) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let cannot = |error| format!("cannot read the file: {error}");
    let file = File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > limit {
        Err(format!("the file is longer than {limit} bytes"))
    } else {
        Ok(bytes)
    }
}

/// Why the file at `path` is not private: others than its owner can read or write it.
pub(crate) fn not_private(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;

    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| {
        format!(
            "others than its owner have access to the file (mode {mode:04o}); run `chmod 600 {}`",
            path.display()
        )
    })
}

impl<T> Rule<T> {
    /// With other words for the reference.
    pub(super) fn takes(self, takes: &str) -> Self {
        Self {
            takes: takes.to_owned(),
            ..self
        }
    }
}

impl<T> Debug for Rule<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("takes", &self.takes)
            .finish_non_exhaustive()
    }
}
