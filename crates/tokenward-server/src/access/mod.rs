//! Who may use the API: credentials, what they are good for, and how often a wrong one may be tried.

mod audit;
mod client;
mod failures;
mod guard;
mod origin;
mod refusal;

use std::{net::IpAddr, sync::Arc};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderMap;
use secrecy::{ExposeSecret as _, SecretString};
use tokenward::carrier;
use tokenward_core::{Clock, Timestamp};

use crate::config::{Allow, Credential, Scope, SecretDigest};

use client::Presented;

pub(crate) use audit::Audit;
pub(crate) use failures::Failures;
pub(crate) use guard::{
    About, Call, Effect, Guard, Holder, Reach, Who, guarded, guarded_by, recorded, same_site,
};
pub(crate) use refusal::Refusal;

/// Judges credentials. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Access(Arc<Inner>);

struct Inner {
    credentials: Vec<Arc<Credential>>,
    failures: Arc<Failures>,
    clock: Arc<dyn Clock>,
}

/// A credential of this process alone, for `--dev`.
pub(crate) struct Generated {
    pub(crate) secret: SecretString,
    pub(crate) credential: Credential,
}

impl Generated {
    /// 256 random bits that may do everything. None: the system has no randomness to give.
    pub(crate) fn new() -> Option<Self> {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).ok()?;
        let secret = SecretString::from(URL_SAFE_NO_PAD.encode(bytes));
        let credential = Credential {
            name: "dev".into(),
            digest: SecretDigest::of(secret.expose_secret().as_bytes()),
            scopes: vec![Scope::Admin],
            allow: Allow::default(),
        };
        Some(Self { secret, credential })
    }
}

/// What a call asks of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Any credential: the call only reads what is no secret.
    Any,
    /// One with this scope, or with [`Scope::Admin`].
    Scope(Scope),
    /// One with either scope, or with [`Scope::Admin`].
    Either(Scope, Scope),
}

impl Need {
    /// Whether a credential with these scopes meets it.
    pub(crate) fn is_met_by(self, scopes: &[Scope]) -> bool {
        let has = |scope| scopes.iter().any(|has| *has == scope || *has == Scope::Admin);
        match self {
            Self::Any => true,
            Self::Scope(scope) => has(scope),
            Self::Either(one, other) => has(one) || has(other),
        }
    }
}

impl Access {
    /// Knows `credentials`. Failures are counted in `failures`, which outlives a change of the credentials.
    pub(crate) fn new(
        credentials: impl IntoIterator<Item = Credential>,
        failures: Arc<Failures>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self(Arc::new(Inner {
            credentials: credentials.into_iter().map(Arc::new).collect(),
            failures,
            clock,
        }))
    }

    /// The credential that `headers` carry, if it meets `need`.
    ///
    /// A correct one is never refused for the failures of its address: whoever guesses must not be able to lock the
    /// operator out.
    ///
    /// # Errors
    ///
    /// Why the call must not be answered.
    pub(crate) fn check(
        &self,
        headers: &HeaderMap,
        caller: IpAddr,
        need: Need,
    ) -> Result<Arc<Credential>, Refusal> {
        let presented = carrier::bearer(headers).map_err(|_| Refusal::Malformed)?;
        let presented = presented.ok_or(Refusal::Missing)?;
        self.judge(self.find(presented), caller, need)
    }

    /// The same for a client of the OAuth endpoints, which may present its credential by the scheme Basic too.
    ///
    /// # Errors
    ///
    /// Why the call must not be answered.
    fn check_client(
        &self,
        headers: &HeaderMap,
        caller: IpAddr,
        need: Need,
    ) -> Result<Arc<Credential>, Refusal> {
        let found = match client::presented(headers)?.ok_or(Refusal::Missing)? {
            Presented::Bearer(secret) => self.find(secret),
            Presented::Basic { encoded, plain } => {
                let [encoded, plain] = [encoded, plain].map(|(name, secret)| {
                    let found = self.find(&secret);
                    found.filter(|credential| credential.name == name)
                });
                encoded.or(plain)
            }
        };
        self.judge(found, caller, need)
    }

    fn judge(
        &self,
        found: Option<Arc<Credential>>,
        caller: IpAddr,
        need: Need,
    ) -> Result<Arc<Credential>, Refusal> {
        let Some(credential) = found else {
            return Err(match self.0.failures.note(caller, self.0.clock.steady()) {
                Ok(()) => Refusal::Unknown,
                Err(wait) => Refusal::TooMany { wait },
            });
        };
        match need {
            Need::Scope(scope) | Need::Either(scope, _) if !need.is_met_by(&credential.scopes) => {
                Err(Refusal::Narrow {
                    scope,
                    name: credential.name.clone(),
                })
            }
            _ => Ok(credential),
        }
    }

    /// Whether `credential` is one of those that it knows, with all that it may do.
    pub(crate) fn knows(&self, credential: &Credential) -> bool {
        self.0.credentials.iter().any(|known| **known == *credential)
    }

    fn wall(&self) -> Timestamp {
        self.0.clock.wall()
    }

    /// Every credential is looked at, and each comparison takes the same time, so that neither the place nor the
    /// likeness of a guess shows. Digests are compared, so lengths do not show either.
    fn find(&self, presented: &str) -> Option<Arc<Credential>> {
        let presented = SecretDigest::of(presented.as_bytes());
        let mut found = None;
        for credential in &self.0.credentials {
            if verify_slices_are_equal(credential.digest.bytes(), presented.bytes()).is_ok() {
                found = Some(credential);
            }
        }
        found.cloned()
    }
}
