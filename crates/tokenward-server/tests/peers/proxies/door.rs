//! The proxies as their examples start them, and what each does to a request by itself.

use std::process::Command;

use super::place::{Place, Running};
use super::wire::Headers;
use crate::process::python_script;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Envoy,
    /// Envoy that asks by gRPC.
    Grpc,
    /// Envoy with the filters that the example for Istio puts into it.
    Istio,
    Nginx,
    Traefik,
    Caddy,
}

/// Whoever sees one of these, in whatever spelling, takes it for tokenward's word.
const IDENTITY: [&str; 5] = [
    "x-tokenward-subject",
    "x-tokenward-issuer",
    "x-tokenward-token-id",
    "x-tokenward-scope",
    "x-user-email",
];

impl Door {
    pub(super) const ALL: [Self; 6] = [
        Self::Envoy,
        Self::Grpc,
        Self::Istio,
        Self::Nginx,
        Self::Traefik,
        Self::Caddy,
    ];
    /// Those that ask by HTTP.
    pub(super) const BY_HTTP: [Self; 5] = [Self::Envoy, Self::Istio, Self::Nginx, Self::Traefik, Self::Caddy];

    /// Starts it by the command that its example's README gives.
    pub(super) fn start(self, place: &Place) -> Running {
        let (page, command) = match self {
            Self::Envoy | Self::Istio => ("examples/envoy/README.md", 0),
            Self::Grpc => ("examples/envoy/README.md", 1),
            Self::Nginx => ("examples/nginx/README.md", 0),
            Self::Traefik => ("examples/traefik/README.md", 0),
            Self::Caddy => ("examples/caddy/README.md", 0),
        };
        let page = place.read(page);
        let command = blocks(&page, "sh")
            .nth(command)
            .expect("a command to start it with");
        if self != Self::Istio {
            return place.start(command);
        }
        place.write("examples/istio/envoy.json", &istio(place));
        place.start(&command.replace("examples/envoy/envoy.yaml", "examples/istio/envoy.json"))
    }

    fn is_envoy(self) -> bool {
        matches!(self, Self::Envoy | Self::Grpc | Self::Istio)
    }

    /// The status that a client sees where tokenward refuses with `status`.
    pub(super) fn status(self, status: u16) -> u16 {
        match self {
            Self::Envoy | Self::Istio if status >= 500 => 503,
            Self::Nginx if !matches!(status, 401 | 403) => 500,
            _ => status,
        }
    }

    /// Whether a client gets to see tokenward's own answer, and with it the reason.
    pub(super) fn passes_answers_on(self, status: u16) -> bool {
        match self {
            Self::Envoy | Self::Istio => status < 500,
            Self::Nginx => false,
            Self::Grpc | Self::Traefik | Self::Caddy => true,
        }
    }

    /// The lines of a client's head that are to reach the service, of those that this proxy does not write itself.
    pub(super) fn passes(self, sent: &Headers) -> Headers {
        let dropped: Vec<String> = match self {
            // It writes Connection itself and does not care what the client's says.
            Self::Nginx => Vec::new(),
            _ => sent
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case("connection"))
                .flat_map(|(_, value)| value.split(','))
                .map(|name| name.trim().to_ascii_lowercase())
                .collect(),
        };
        let passed = |name: &str| {
            let odd = name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '-');
            let odd_ones_pass = self.is_envoy();
            // Those that would steer Envoy. What an authorization service may answer with is nothing to it in a request.
            let steers = name.starts_with("x-envoy-") && name != "x-envoy-auth-headers-to-remove";
            let envoys = steers && self.is_envoy();
            let te = name == "te" && self.is_envoy();
            !is_identity(name)
                && !envoys
                && (!odd || odd_ones_pass)
                && (te || !dropped.iter().any(|other| other == name))
        };
        // Envoy folds the lines of Authorization into one, and an empty one into nothing.
        let folded = |(name, value): &(String, String)| {
            self.is_envoy() && value.is_empty() && name.eq_ignore_ascii_case("authorization")
        };
        let sent = sent.iter().filter(|line| !folded(line));
        let mut passed = self.judged(sent.filter(|(name, _)| passed(&name.to_ascii_lowercase())));
        passed.sort();
        passed
    }

    /// The lines that count of those that reached the service, in the form of [`Self::passes`].
    pub(super) fn arrived(self, seen: &Headers) -> Headers {
        let mut arrived = self.judged(seen.iter());
        arrived.sort();
        arrived
    }

    /// Without what belongs to one connection, and what this proxy writes whatever a client sends.
    fn judged<'a>(self, headers: impl Iterator<Item = &'a (String, String)>) -> Headers {
        let own: &[&str] = match self {
            Self::Envoy | Self::Grpc | Self::Istio => &[
                "x-forwarded-for",
                "x-forwarded-proto",
                "x-request-id",
                "x-envoy-external-address",
                "x-envoy-expected-rq-timeout-ms",
            ],
            Self::Nginx => &[],
            Self::Traefik => &["x-real-ip", "accept-encoding"],
            Self::Caddy => &[
                "x-forwarded-for",
                "x-forwarded-host",
                "x-forwarded-proto",
                "via",
                "accept-encoding",
            ],
        };
        let family_is_own = |name: &str| self == Self::Traefik && name.starts_with("x-forwarded-");
        let hop = ["connection", "keep-alive", "transfer-encoding", "upgrade"];
        headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
            .filter(|(name, value)| {
                !hop.contains(&name.as_str())
                    && !own.contains(&name.as_str())
                    && !family_is_own(name)
                    && (name.as_str(), value.as_str()) != ("content-length", "0")
            })
            .collect()
    }
}

/// Whether a service that folds every odd character into one takes `name` for an identity header.
pub(super) fn is_identity(name: &str) -> bool {
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    IDENTITY.contains(&plain.as_str())
}

/// The configuration that Envoy gets where Istio applies the example.
pub(super) fn istio(place: &Place) -> String {
    let mut command: Command = python_script("istio.py");
    let output = command
        .args(["examples/istio/envoyfilter.yaml", "examples/envoy/envoy.yaml"])
        .current_dir(place.path())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The blocks of code in a page that are marked as `language`.
pub(super) fn blocks<'a>(page: &'a str, language: &str) -> impl Iterator<Item = &'a str> {
    let start = format!("```{language}\n");
    let mut rest = page;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(start.as_str())?;
        let (block, after) = after.split_once("```")?;
        rest = after;
        Some(block)
    })
}
