//! Identity providers that misbehave by a script.

mod answer;
mod fault;
mod keys;
mod script;
mod yaml;

use std::{
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustls::ServerConfig;
use serde_json::{Map, Value, json};
use tokenward_core::{Clock, Timestamp};

use self::{
    answer::{Asked, Which},
    script::{Certificate, Idp, Step},
};
pub use self::{script::Script, yaml::ScriptError};
use crate::{
    Behaviour, DISCOVERY_PATH, IdpServer, JWKS_PATH, Leaf, Request, TestPki, TokenBuilder,
    idp::{OAUTH_DISCOVERY_PATH, TlsNow},
};

/// How long a minted token lasts unless its `exp` is given.
const TOKEN_LIFETIME: Duration = Duration::from_mins(5);

/// The identity providers of a [`Script`], running.
///
/// One listener without TLS has all of them, each below its name: `/NAME/jwks`, the discovery document in both
/// of its places, and `POST /NAME/token`, which mints tokens. `GET /` tells where everything is. A provider with
/// `tls: true` has a listener of its own besides, which its issuer names. The script's faults touch key sets and
/// discovery alone; minting and telling always work.
pub struct Chaos {
    front: IdpServer,
    providers: Arc<[Arc<Provider>]>,
    /// They end with this.
    _secure: Vec<IdpServer>,
    pki: Arc<TestPki>,
}

/// What a provider is at which time.
struct Timeline {
    script: Idp,
    clock: Arc<dyn Clock>,
    began: Timestamp,
}

/// One provider, shared by the listeners that answer for it.
struct Provider {
    timeline: Arc<Timeline>,
    /// Scheme, address and port of the listener that its issuer names.
    base: String,
    /// The same of the listener without TLS.
    http_base: String,
    key_sets: AtomicUsize,
    discoveries: AtomicUsize,
}

impl Chaos {
    /// Starts everything at `listen`; the timelines begin now, by `clock`'s steady time.
    ///
    /// # Errors
    ///
    /// Where there is no such address or port to be had.
    pub fn start(script: Script, listen: SocketAddr, clock: &Arc<dyn Clock>) -> io::Result<Self> {
        let pki = Arc::new(TestPki::new());
        let front = IdpServer::listen(listen, None)?;
        let began = clock.steady();
        let mut secure = Vec::new();
        let mut providers = Vec::new();
        for script in script.idps {
            let timeline = Arc::new(Timeline {
                script,
                clock: Arc::clone(clock),
                began,
            });
            let own = timeline.script.tls.then(|| {
                let address = SocketAddr::new(front.address().ip(), 0);
                IdpServer::listen(address, Some(certificates(&timeline, &pki)))
            });
            let own = own.transpose()?;
            let provider = Arc::new(Provider {
                timeline,
                base: own.as_ref().unwrap_or(&front).base().to_owned(),
                http_base: front.base().to_owned(),
                key_sets: AtomicUsize::new(0),
                discoveries: AtomicUsize::new(0),
            });
            for server in std::iter::once(&front).chain(&own) {
                provider.serve_at(server);
            }
            front.behave(&provider.path("/token"), minting(Arc::clone(&provider)));
            secure.extend(own);
            providers.push(provider);
        }
        let chaos = Self {
            front,
            providers: providers.into(),
            _secure: secure,
            pki,
        };
        let (providers, ca) = (Arc::clone(&chaos.providers), chaos.ca_file().to_owned());
        chaos.front.behave(
            "/",
            Behaviour::decided(move |_| Behaviour::json(&description(&providers, &ca))),
        );
        Ok(chaos)
    }

    /// The address of the listener without TLS.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.front.address()
    }

    /// The certificate of the authority that good certificates are below, a PEM file that lives as long as this.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        self.pki.root_file()
    }

    /// What `GET /` tells: `ca_file`, and for each provider `name`, `issuer`, `discovery`, `jwks_uri`, `token`, the
    /// seconds of its timeline that have passed, when its present step began, and how often each document was
    /// asked for.
    #[must_use]
    pub fn describe(&self) -> Value {
        description(&self.providers, self.ca_file())
    }

    /// The issuer of the provider `name`.
    ///
    /// # Panics
    ///
    /// If the script has no such provider. So do the methods below.
    #[must_use]
    pub fn issuer(&self, name: &str) -> String {
        self.provider(name).issuer()
    }

    /// Where its key set is.
    #[must_use]
    pub fn jwks_url(&self, name: &str) -> String {
        self.provider(name).url(JWKS_PATH)
    }

    /// How often its key set was asked for.
    #[must_use]
    pub fn key_set_requests(&self, name: &str) -> usize {
        self.provider(name).key_sets.load(Ordering::Relaxed)
    }

    /// A token signed by the key that signs now, with `iss`, `sub: chaos`, `aud: api`, `iat`, and an `exp` five
    /// minutes later; `claims` are set over these, and a `null` takes a claim out.
    #[must_use]
    pub fn mint(&self, name: &str, claims: &Map<String, Value>) -> String {
        self.provider(name).mint(claims).0
    }

    fn provider(&self, name: &str) -> &Arc<Provider> {
        let mut providers = self.providers.iter();
        providers
            .find(|provider| provider.timeline.script.name == name)
            .unwrap_or_else(|| panic!("the script has no provider `{name}`"))
    }
}

impl fmt::Debug for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chaos")
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

impl Timeline {
    fn elapsed(&self) -> Duration {
        self.clock.steady().since(self.began)
    }

    /// The step of now, and how many have begun.
    fn now(&self) -> (&Step, usize) {
        let steps = &self.script.steps;
        let begun = steps.partition_point(|step| step.at <= self.elapsed());
        let step = steps.get(begun.saturating_sub(1));
        (step.expect("a timeline has a step at zero"), begun)
    }
}

impl Provider {
    fn path(&self, rest: &str) -> String {
        format!("/{}{rest}", self.timeline.script.name)
    }

    fn url(&self, rest: &str) -> String {
        format!("{}{}", self.base, self.path(rest))
    }

    fn issuer(&self) -> String {
        self.url("")
    }

    fn token_endpoint(&self) -> String {
        format!("{}{}", self.http_base, self.path("/token"))
    }

    fn serve_at(self: &Arc<Self>, server: &IdpServer) {
        let places = [
            (self.path(JWKS_PATH), Which::Jwks),
            (self.path(DISCOVERY_PATH), Which::Discovery),
            (
                format!("{OAUTH_DISCOVERY_PATH}{}", self.path("")),
                Which::Discovery,
            ),
        ];
        for (path, which) in places {
            let (provider, base) = (Arc::clone(self), server.base().to_owned());
            server.behave(
                &path,
                Behaviour::decided(move |request| provider.answer(which, request, &base)),
            );
        }
    }

    fn answer(&self, which: Which, request: &Request, base: &str) -> Behaviour {
        let (step, begun) = self.timeline.now();
        let counter = match which {
            Which::Jwks => &self.key_sets,
            Which::Discovery => &self.discoveries,
        };
        let asked = Asked {
            which,
            request,
            before: counter.fetch_add(1, Ordering::Relaxed),
            revision: begun as u64,
            base,
            http_base: &self.http_base,
        };
        let document = match which {
            Which::Jwks if step.flapping => step.keys.half(asked.before % 2 == 1),
            Which::Jwks => step.keys.document(),
            // OpenID Connect Discovery 1.0 section 3.
            Which::Discovery => json!({
                "issuer": step.issuer.clone().unwrap_or_else(|| self.issuer()),
                "jwks_uri": self.url(JWKS_PATH),
                "token_endpoint": self.token_endpoint(),
                "id_token_signing_alg_values_supported": [step.keys.signing().alg()],
            }),
        };
        answer::behaviour(step, &document, &asked)
    }

    /// A token, and the key id of the key that signed it.
    fn mint(&self, claims: &Map<String, Value>) -> (String, String) {
        let key = self.timeline.now().0.keys.signing();
        let token = TokenBuilder::new(self.timeline.clock.wall())
            .issuer(&self.issuer())
            .subject("chaos")
            .audience("api")
            .expires_in(TOKEN_LIFETIME);
        let token = claims.iter().fold(token, |token, (name, value)| match value {
            Value::Null => token.without_claim(name),
            value => token.claim(name, value.clone()),
        });
        (token.sign(key), key.kid().unwrap_or_default().to_owned())
    }

    fn describe(&self) -> Value {
        json!({
            "name": self.timeline.script.name,
            "issuer": self.issuer(),
            "discovery": self.url(DISCOVERY_PATH),
            "jwks_uri": self.url(JWKS_PATH),
            "token": self.token_endpoint(),
            "elapsed": self.timeline.elapsed().as_secs_f64(),
            "step_at": self.timeline.now().0.at.as_secs_f64(),
            "key_set_requests": self.key_sets.load(Ordering::Relaxed),
            "discovery_requests": self.discoveries.load(Ordering::Relaxed),
        })
    }
}

fn description(providers: &[Arc<Provider>], ca_file: &Path) -> Value {
    let providers: Vec<Value> = providers.iter().map(|provider| provider.describe()).collect();
    json!({ "ca_file": ca_file, "idps": providers })
}

/// `POST` with claims, or nothing, gets a token in the form of RFC 6749 section 5.1.
fn minting(provider: Arc<Provider>) -> Behaviour {
    Behaviour::decided(move |request| {
        if request.method != http::Method::POST {
            return Behaviour::reply(405, &[("allow", "POST")], "");
        }
        let claims = match request.body.is_empty() {
            true => Ok(Map::new()),
            false => serde_json::from_slice(&request.body),
        };
        match claims {
            Ok(claims) => {
                let (token, kid) = provider.mint(&claims);
                Behaviour::json(&json!({"access_token": token, "token_type": "Bearer", "kid": kid}))
            }
            Err(error) => {
                let sentence = format!("the body must be empty or the claims as a JSON object: {error}\n");
                Behaviour::reply(400, &[("content-type", "text/plain")], sentence)
            }
        }
    })
}

/// The certificate that a connection of now is shown.
fn certificates(timeline: &Arc<Timeline>, pki: &TestPki) -> TlsNow {
    let mut made: BTreeMap<Certificate, Arc<ServerConfig>> = BTreeMap::new();
    for step in &timeline.script.steps {
        made.entry(step.certificate).or_insert_with(|| {
            let (config, _) = match step.certificate {
                Certificate::Good => pki.server(Leaf::Good),
                Certificate::WrongName => pki.server(Leaf::WrongName),
                Certificate::Expired => pki.server(Leaf::Expired),
                Certificate::SelfSigned => pki.server(Leaf::SelfSigned),
                Certificate::UnknownCa => TestPki::named("unknown").server(Leaf::Good),
            };
            config
        });
    }
    let timeline = Arc::clone(timeline);
    Arc::new(move || {
        let certificate = timeline.now().0.certificate;
        Arc::clone(made.get(&certificate).expect("one was made for every step"))
    })
}
