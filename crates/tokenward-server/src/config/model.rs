//! The configuration as data: what each member means, its default and its limits.

use std::{collections::HashMap, net::IpAddr, net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use tokenward::{DEFAULT_TENANT, fetch::AllowedHost};
use tokenward_core::limit::Rate;

use super::{
    authorize::Authorize,
    credential::Credential,
    effective::{Effective, EverythingSoFar},
    fields::{list, optional, optional_section, records, required, scalar, section, sections},
    idp::{Defaults, DefaultsOfIdps, Idp},
    record::{Check, Section, record},
    rules::{self, address, any_case, boolean, domain, duration, file, integer, network, rate, socket, word},
    store::{Revocation, Store, StoreUrl},
    token_service::TokenService,
};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

record! {
    /// Everything that is configured, valid as a whole.
    pub(crate) struct Config {
        /// How many IdPs may be added at run time; one more is refused.
        max_dynamic_idps: usize = scalar("100000", integer(0, 1_000_000));
        /// The listeners.
        server: Server = section();
        /// Where state is kept.
        store: Store = section();
        /// What IdPs have in common: any member of an IdP but `name`, `tenant`, `issuer`, `url`, `secret` and `secret_file`.
        idp_defaults: Defaults = DefaultsOfIdps;
        /// The identity providers, in the order in which the merged set lists their keys.
        idps: Vec<Idp> = sections("idp_defaults");
        /// Domains, with their subdomains, that keys may be fetched from. An IdP's own list narrows it further.
        allowed_domains: Vec<AllowedHost> = list("any", domain());
        /// The key set of all IdPs together.
        merged: Merged = section();
        /// The issuer of our own tokens.
        token_service: Option<TokenService> = optional_section("no tokens are issued; `--dev` issues some to try out");
        /// How requests are authorized for proxies.
        authorize: Authorize = section();
        /// What holds where the store cannot be reached.
        revocation: Revocation = section();
        /// Who may use the API. Without any, every call of it is refused.
        credentials: Vec<Credential> = records();
        /// How much is answered.
        limits: Limits = section();
        /// What metrics show.
        metrics: Metrics = section();
        /// What is written to standard output.
        logging: Logging = section();
        /// All of it as it is shown. It stands last, since it takes what those before it were read as.
        effective: Effective = EverythingSoFar;
    }
}

impl Check for Config {
    fn look(section: &Section<'_>) {
        let mut seen = HashMap::new();
        for index in 0..section.count("idps") {
            let Some(idp) = section.element("idps", index, Some("idp_defaults")) else {
                continue;
            };
            let tenant = idp.text("tenant").unwrap_or(DEFAULT_TENANT);
            let within = match tenant {
                DEFAULT_TENANT => "",
                _ => " in its tenant",
            };
            for member in ["name", "issuer"] {
                if let Some(text) = idp.text(member)
                    && let Some(first) = seen.insert((member, tenant, text), index)
                {
                    idp.report(member, format!("`idps[{first}]` has the same {member}{within}"));
                }
            }
        }
        let mut names = HashMap::new();
        for index in 0..section.count("credentials") {
            if let Some(credential) = section.element("credentials", index, None)
                && let Some(name) = credential.text("name")
                && let Some(first) = names.insert(name, index)
            {
                credential.report("name", format!("`credentials[{first}]` has the same name"));
            }
        }
    }

    fn check(&self, section: &Section<'_>) {
        for (index, idp) in self.idps.iter().enumerate() {
            let Some(place) = section.element("idps", index, Some("idp_defaults")) else {
                continue;
            };
            if let Some((member, message)) = idp.outside(&self.allowed_domains) {
                place.report(member, message);
            }
        }
        if self.server.metrics_on_public && self.metrics.per_token {
            section.child("metrics").report(
                "per_token",
                "tells ids of users, which `server.metrics_on_public` would tell to everybody",
            );
        }
        self.check_credentials(section);
        self.check_token_service(section);
        self.check_authorize(section);
    }
}

impl Config {
    /// All but the identity providers, of which there may be very many.
    pub(crate) fn without_idps(self) -> Self {
        Self {
            idps: Vec::new(),
            ..self
        }
    }

    /// Reports what is not as in `running` and cannot be changed while the server runs.
    pub(super) fn check_restart(&self, running: &Self, section: &Section<'_>) {
        let (old, new) = (&running.server, &self.server);
        for (parent, member, is_same) in [
            ("server", "host", old.host == new.host),
            ("server", "port", old.port == new.port),
            ("server", "admin", old.admin == new.admin),
            ("server", "grpc", old.grpc == new.grpc),
            (
                "server",
                "max_connections",
                old.max_connections == new.max_connections,
            ),
        ] {
            if !is_same {
                section
                    .child(parent)
                    .report(member, "only a restart can change this member");
            }
        }
        for (inner, member) in self.store.changed(&running.store) {
            let store = section.child("store");
            let place = inner.map_or_else(|| section.child("store"), |inner| store.child(inner));
            place.report(member, "only a restart can change this member");
        }
        let same = match (&running.token_service, &self.token_service) {
            (Some(running), Some(new)) => running.is_same(new),
            (running, new) => running.is_none() && new.is_none(),
        };
        if !same {
            section.report("token_service", "only a restart can change this member");
        }
    }

    fn check_token_service(&self, section: &Section<'_>) {
        let Some(service) = &self.token_service else {
            if self.merged.well_known == WellKnown::Own && !section.cx.dev {
                section
                    .child("merged")
                    .report("well_known", "there are own keys with `token_service` only");
            }
            return;
        };
        let place = section.child("token_service");
        let shared = matches!(self.store.url, StoreUrl::Redis(_));
        if shared && service.generate_key && !section.cx.dev {
            // Replicas that start together, or after a loss of the store, would each make one.
            place.report(
                "generate_key",
                "is for a store of one process: with Redis run `tokenward keys generate` once, while the replicas run",
            );
        }
        if let Some((member, message)) = service.broken_schedule(self.merged.max_age, shared) {
            place.report(member, message);
        }
        let same = |idp: &&Idp| {
            idp.tenant == DEFAULT_TENANT && idp.issuer.as_deref() == Some(service.issuer.as_str())
        };
        if let Some(idp) = self.idps.iter().find(same) {
            place.report("issuer", format!("the IdP `{}` has the same issuer", idp.name));
        }
        if self.credentials.is_empty() && !section.cx.dev {
            place.report(
                "",
                "needs `credentials`: without one nobody could ask for a token; each is a name, scopes, and `secret_file` or \
                 `secret_sha256`",
            );
        }
    }

    fn check_credentials(&self, section: &Section<'_>) {
        let mut secrets = HashMap::new();
        for (index, credential) in self.credentials.iter().enumerate() {
            let Some(place) = section.element("credentials", index, None) else {
                continue;
            };
            // The audit log could not tell them apart, nor could scopes.
            if let Some(first) = secrets.insert(credential.digest.bytes(), &credential.name) {
                place.report("", format!("`{first}` has the same secret"));
            }
        }
        let open = !self.server.admin.ip().is_loopback();
        if open && section.cx.dev {
            section
                .child("server")
                .report("admin", "`--dev` listens on loopback only");
        } else if open && self.credentials.is_empty() {
            section.child("server").report(
                "admin",
                "beyond loopback the admin listener needs `credentials`; each is a name, scopes, and \
                 `secret_file` or `secret_sha256`",
            );
        }
    }
}

record! {
    /// The listeners.
    pub(crate) struct Server {
        /// Address of the public listener: keys and authorization. Under `--dev` loopback only.
        host: IpAddr = scalar("0.0.0.0", address()).in_dev("127.0.0.1");
        /// Port of the public listener. 0 takes a free one.
        port: u16 = scalar("8080", integer(0, 65_535));
        /// Address and port of the admin listener: metrics and the admin API. Beyond loopback it needs `credentials`.
        admin: SocketAddr = scalar("127.0.0.1:9090", socket());
        /// Address and port of the gRPC listener, where Envoy asks whether a request is allowed.
        grpc: Option<SocketAddr> = optional("off", socket());
        /// Whether `/metrics` is on the public listener too.
        metrics_on_public: bool = scalar("false", boolean());
        /// Proxies whose forwarded address is taken for the caller's.
        trusted_proxies: Vec<IpNet> = list("the peer is the caller", network());
        /// TLS on the public listener.
        tls: Option<Tls> = optional_section("plain HTTP");
        /// TLS on the admin listener.
        admin_tls: Option<Tls> = optional_section("plain HTTP");
        /// TLS on the gRPC listener.
        grpc_tls: Option<Tls> = optional_section("HTTP/2 in clear");
        /// Connections at the same time on each listener; more are closed at once.
        max_connections: usize = scalar("10000", integer(1, 1_000_000));
    }
}

impl Check for Server {
    fn check(&self, section: &Section<'_>) {
        if section.cx.dev && !self.host.is_loopback() {
            section.report(
                "host",
                "`--dev` listens on loopback only, as it needs no credentials",
            );
        }
        let public = SocketAddr::new(self.host, self.port);
        if clash(public, self.admin) {
            section.report("admin", "has the same port as the public listener");
        }
        match self.grpc {
            Some(grpc) if section.cx.dev && !grpc.ip().is_loopback() => {
                section.report(
                    "grpc",
                    "`--dev` listens on loopback only, as it needs no credentials",
                );
            }
            Some(grpc) if clash(public, grpc) => {
                section.report("grpc", "has the same port as the public listener");
            }
            Some(grpc) if clash(self.admin, grpc) => {
                section.report("grpc", "has the same port as the admin listener");
            }
            None if self.grpc_tls.is_some() => {
                section.report("grpc_tls", "there is no such listener without `grpc`");
            }
            _ => {}
        }
    }
}

/// Whether two listeners would want the same socket.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let same_host = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && same_host
}

record! {
    /// A certificate and its key.
    pub(crate) struct Tls {
        /// The certificate chain, PEM.
        cert: PathBuf = required(file());
        /// The private key, PEM; nobody but its owner may have access to the file.
        key: PathBuf = required(file());
    }
}

impl Check for Tls {
    fn check(&self, section: &Section<'_>) {
        if let Some(message) = rules::not_private(&self.key).filter(|_| !section.cx.dev) {
            section.report("key", message);
        }
    }
}

record! {
    /// The key set of all IdPs together.
    #[derive(PartialEq)]
    pub(crate) struct Merged {
        /// The longest `max-age` that clients are told for it.
        max_age: Duration = scalar("900", duration(SECOND, DAY * 30));
        /// What is served where two IdPs have the same kid: both keys, the first IdP's, or neither.
        on_collision: OnCollision = scalar("keep_all", word(&[
            ("keep_all", OnCollision::KeepAll),
            ("first_wins", OnCollision::FirstWins),
            ("drop_both", OnCollision::DropBoth),
        ]));
        /// What `/.well-known/jwks.json` serves: the own keys alone, or the merged set; `auto` is the own keys where there is a `token_service`.
        well_known: WellKnown = scalar("auto", word(&[
            ("auto", WellKnown::Auto),
            ("own", WellKnown::Own),
            ("merged", WellKnown::Merged),
        ]));
    }
}

impl Check for Merged {}

/// What is served where two IdPs have the same kid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnCollision {
    KeepAll,
    FirstWins,
    DropBoth,
}

/// What `/.well-known/jwks.json` serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WellKnown {
    Auto,
    Own,
    Merged,
}

record! {
    /// How much is answered.
    pub(crate) struct Limits {
        /// Limits of all calls that issue, renew, read and revoke tokens of our own, on both listeners together.
        token_api: TokenApiLimits = section();
    }
}

impl Check for Limits {}

record! {
    /// Limits of the token API.
    pub(crate) struct TokenApiLimits {
        /// Calls of one credential in a second, minute or hour, and as many at once; more are 429 `rate_limited`.
        per_credential: Option<Rate> = scalar("1000/s", rate());
        /// The same of one address (IPv6: one /64), with or without a good credential. A gateway in front that is none of `server.trusted_proxies` is one address for all, and a service that asks from one address gets no more than this of what its credential may.
        per_address: Option<Rate> = scalar("100/s", rate());
    }
}

impl Check for TokenApiLimits {}

record! {
    /// What metrics show.
    pub(crate) struct Metrics {
        /// Whether single parent tokens have series, with `user_id`, `network` and `parent_jti` as labels: when they were issued and when they expire, 1,000 of them at most.
        per_token: bool = scalar("false", boolean());
    }
}

impl Check for Metrics {}

record! {
    /// What is written to standard output.
    pub(crate) struct Logging {
        /// The least severe level that is written. Its letter case does not matter.
        level: Level = scalar("info", any_case(word(&[
            ("error", Level::Error),
            ("warn", Level::Warn),
            ("info", Level::Info),
            ("debug", Level::Debug),
        ])));
        /// One JSON object a line, or text for people.
        format: LogFormat = scalar("json", word(&[("json", LogFormat::Json), ("text", LogFormat::Text)]));
        /// Whether each request is logged.
        requests: bool = scalar("true", boolean());
    }
}

impl Check for Logging {}

/// How severe a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Json,
    Text,
}
