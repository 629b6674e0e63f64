//! The settings of one identity provider.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Weak},
};

use aws_lc_rs::digest::{Context, SHA256};
use tokenward_core::{
    freshness::Settings,
    jose::{Key, KeySet},
    policy::{Policy, Rules},
};
use url::Url;

use crate::{
    acquire::{KeysAt, Target},
    discovery::Discovery,
    error::Error,
    fetch::Guards,
};

/// The tenant of identity providers that name none.
pub const DEFAULT_TENANT: &str = "default";

/// The longest name of a tenant or identity provider, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// One identity provider: where its keys come from, how they are kept, and what its tokens must satisfy.
///
/// ```
/// use tokenward::{Audiences, IdpConfig, Policy};
///
/// let audiences = Audiences::OneOf(vec!["my-api".to_owned()]);
/// let policy = Policy::builder("https://login.example.com", audiences).build().unwrap();
/// let config = IdpConfig::discovered("login", policy).unwrap().required(true);
/// assert_eq!(config.name(), "login");
/// ```
#[derive(Clone)]
pub struct IdpConfig {
    tenant: Arc<str>,
    name: Arc<str>,
    keys: Keys,
    settings: Arc<Settings>,
    guards: Arc<Guards>,
    policy: Option<Policy>,
    required: bool,
}

impl PartialEq for IdpConfig {
    fn eq(&self, other: &Self) -> bool {
        let same_keys = match (&self.keys, &other.keys) {
            (Keys::Url(one), Keys::Url(other)) => one == other,
            (Keys::Discovered(one), Keys::Discovered(other)) => one == other,
            // Of the same algorithms, since the policies are compared too.
            (Keys::Secret(one), Keys::Secret(other)) => one.thumbprint() == other.thumbprint(),
            (Keys::Given(one), Keys::Given(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        same_keys
            && self.tenant == other.tenant
            && self.name == other.name
            && self.settings == other.settings
            && self.guards == other.guards
            && self.policy == other.policy
            && self.required == other.required
    }
}

/// Where an identity provider's keys come from.
#[derive(Clone)]
pub(crate) enum Keys {
    /// Out of a set at this address.
    Url(Url),
    /// Out of a set that the issuer tells the address of.
    Discovered(Box<Discovery>),
    /// A shared secret, never shown.
    Secret(Arc<Key>),
    /// A set that whoever registers it keeps up to date.
    Given(Arc<KeySet>),
}

impl IdpConfig {
    /// An identity provider whose key set is found by OpenID Connect discovery from `policy`'s issuer.
    ///
    /// # Errors
    ///
    /// Where the name is not 1 to 64 of `A-Z a-z 0-9 _ -`, or the issuer is no URL.
    pub fn discovered(name: &str, policy: Policy) -> Result<Self, Error> {
        let mut config = Self::served_by_discovery(name, policy.issuer())?;
        config.policy = Some(policy);
        Ok(config)
    }

    /// As [`IdpConfig::discovered`], but only to serve the keys: its tokens are not accepted.
    ///
    /// # Errors
    ///
    /// As [`IdpConfig::discovered`].
    pub fn served_by_discovery(name: &str, issuer: &str) -> Result<Self, Error> {
        let discovery = Discovery::of(issuer)
            .map_err(|error| Error::invalid(format!("issuer of `{name}`: {error}")).caused_by(error))?;
        Self::new(name, Keys::Discovered(Box::new(discovery)))
    }

    /// An identity provider whose key set is at `url`; without a policy it is only served.
    ///
    /// # Errors
    ///
    /// Where the name is not 1 to 64 of `A-Z a-z 0-9 _ -`.
    pub fn at(name: &str, url: Url, policy: Option<Policy>) -> Result<Self, Error> {
        let mut config = Self::new(name, Keys::Url(url))?;
        config.policy = policy;
        Ok(config)
    }

    /// An identity provider whose tokens are authenticated with a shared secret (HS256, HS384, HS512).
    ///
    /// # Errors
    ///
    /// Where the name is not 1 to 64 of `A-Z a-z 0-9 _ -`, the policy allows an asymmetric algorithm, or the
    /// secret is shorter than the hash of an algorithm (RFC 7518 section 3.2).
    pub fn symmetric(name: &str, secret: &[u8], policy: Policy) -> Result<Self, Error> {
        let key = Key::symmetric(secret, policy.algorithms(), None).map_err(|reason| {
            Error::invalid(format!(
                "secret of `{name}`: {}; give it at least as many random bytes as the hash has, and HS algorithms only",
                reason.code()
            ))
        })?;
        let mut config = Self::new(name, Keys::Secret(Arc::new(key)))?;
        config.policy = Some(policy);
        Ok(config)
    }

    /// An issuer whose public keys are known already, such as the program's own: nothing is fetched, the keys are
    /// neither stored nor shown, and it is not among those that [`Registry::idps`](crate::Registry::idps) lists. Register
    /// it anew when they change.
    ///
    /// # Errors
    ///
    /// Where the name is not 1 to 64 of `A-Z a-z 0-9 _ -`.
    pub fn with_keys(name: &str, keys: impl Into<Arc<KeySet>>, policy: Policy) -> Result<Self, Error> {
        let mut config = Self::new(name, Keys::Given(keys.into()))?;
        config.policy = Some(policy);
        Ok(config)
    }

    fn new(name: &str, keys: Keys) -> Result<Self, Error> {
        Ok(Self {
            tenant: DEFAULT_TENANT.into(),
            name: checked_name("name", name)?,
            keys,
            settings: Arc::default(),
            guards: Arc::new(Guards::default()),
            policy: None,
            required: false,
        })
    }

    /// Puts it into another tenant than `default`.
    ///
    /// # Errors
    ///
    /// Where the name is not 1 to 64 of `A-Z a-z 0-9 _ -`.
    pub fn tenant_named(mut self, tenant: &str) -> Result<Self, Error> {
        self.tenant = checked_name("tenant", tenant)?;
        Ok(self)
    }

    /// How its keys are refreshed and kept.
    ///
    /// # Errors
    ///
    /// With every setting that is out of its range.
    pub fn with_settings(mut self, settings: impl Into<Arc<Settings>>) -> Result<Self, Error> {
        let settings = settings.into();
        all_good(&self.name, &settings.check())?;
        self.settings = settings;
        Ok(self)
    }

    /// What may be fetched, from where, how large and how long.
    ///
    /// # Errors
    ///
    /// With every guard that is out of its range.
    pub fn with_guards(mut self, guards: impl Into<Arc<Guards>>) -> Result<Self, Error> {
        let guards = guards.into();
        all_good(&self.name, &guards.check())?;
        self.guards = guards;
        Ok(self)
    }

    /// Demands that a discovered key set has the issuer's scheme, host and port. Off by default.
    #[must_use]
    pub fn strict_jwks_origin(mut self, strict: bool) -> Self {
        if let Keys::Discovered(discovery) = self.keys {
            self.keys = Keys::Discovered(Box::new(discovery.strict_origin(strict)));
        }
        self
    }

    /// Whether the process is only ready once its keys are there. Off by default.
    #[must_use]
    pub fn required(mut self, required: bool) -> Self {
        self.required = required;
        self
    }

    /// Its tenant.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The issuer its tokens carry, where it is known.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        match (&self.policy, &self.keys) {
            (Some(policy), _) => Some(policy.issuer()),
            (None, Keys::Discovered(discovery)) => Some(discovery.issuer()),
            (None, Keys::Url(_) | Keys::Secret(_) | Keys::Given(_)) => None,
        }
    }

    /// What its tokens must satisfy; none where it is only served.
    #[must_use]
    pub fn policy(&self) -> Option<&Policy> {
        self.policy.as_ref()
    }

    /// How its keys are refreshed and kept.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What may be fetched.
    #[must_use]
    pub fn guards(&self) -> &Arc<Guards> {
        &self.guards
    }

    /// Where its keys are, where that is configured.
    #[must_use]
    pub fn url(&self) -> Option<&Url> {
        match &self.keys {
            Keys::Url(url) => Some(url),
            Keys::Discovered(_) | Keys::Secret(_) | Keys::Given(_) => None,
        }
    }

    /// Whether readiness waits for its keys.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.required
    }

    pub(crate) fn shared_tenant(&self) -> Arc<str> {
        Arc::clone(&self.tenant)
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    pub(crate) fn shared_settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings)
    }

    /// Takes equal parts of others instead of its own: with many identity providers most of them are the same.
    pub(crate) fn share(&mut self, parts: &mut Parts) {
        parts.settings.share(&mut self.settings);
        parts.guards.share(&mut self.guards);
        parts.tenants.share(&mut self.tenant);
        if let Some(policy) = &mut self.policy {
            parts.rules.share(policy.rules_mut());
        }
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What a refresh asks, where the issuer said `known` the last time. None where there is nothing to fetch.
    pub(crate) fn target(&self, known: Option<Url>) -> Option<Target> {
        let keys_at = match &self.keys {
            Keys::Url(url) => KeysAt::Url(url.clone()),
            Keys::Discovered(discovery) => KeysAt::Issuer {
                discovery: Discovery::clone(discovery),
                known,
            },
            Keys::Secret(_) | Keys::Given(_) => return None,
        };
        Some(Target {
            guards: Arc::clone(&self.guards),
            keys_at,
        })
    }

    /// What a snapshot must have been taken from for its keys to be believed.
    pub(crate) fn source_hash(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        for part in &self.source_parts() {
            // Lengths first, so that no two lists of parts read the same.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }

    /// Whether keys that were fetched for `other` are the keys of this one.
    pub(crate) fn same_source(&self, other: &Self) -> bool {
        self.source_parts() == other.source_parts()
    }

    /// Where keys may come from: keys and addresses that were taken under other rules are not believed.
    fn source_parts(&self) -> Vec<String> {
        let parts = match &self.keys {
            Keys::Url(url) => ["url", url.as_str(), self.issuer().unwrap_or_default()],
            Keys::Discovered(discovery) if discovery.is_strict() => {
                ["discovery", "strict", discovery.issuer()]
            }
            Keys::Discovered(discovery) => ["discovery", "", discovery.issuer()],
            Keys::Secret(_) | Keys::Given(_) => ["secret", "", ""],
        };
        let guards = &self.guards;
        let pins = guards.pinned_spki.iter().map(|pin| format!("pin {pin}"));
        let own = guards.allowed_domains.iter().map(|host| format!("domain {host}"));
        let global = guards.global_domains.iter().map(|host| format!("global {host}"));
        let mut limits: Vec<String> = pins.chain(own).chain(global).collect();
        // In which order they are configured means nothing.
        limits.sort_unstable();
        parts.into_iter().map(str::to_owned).chain(limits).collect()
    }
}

/// Parts of configurations that were seen lately, for [`IdpConfig::share`].
#[derive(Default)]
pub(crate) struct Parts {
    settings: Recent<Settings>,
    guards: Recent<Guards>,
    tenants: Recent<str>,
    rules: Recent<Rules>,
}

/// How many different values [`Recent`] knows. More are simply not shared.
const RECENT: usize = 8;

/// The last few different values.
struct Recent<T: ?Sized>(VecDeque<Weak<T>>);

impl<T: ?Sized> Default for Recent<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: PartialEq + ?Sized> Recent<T> {
    fn share(&mut self, value: &mut Arc<T>) {
        let mut known = self.0.iter().filter_map(Weak::upgrade);
        if let Some(equal) = known.find(|known| **known == **value) {
            *value = equal;
            return;
        }
        if self.0.len() == RECENT {
            self.0.pop_front();
        }
        self.0.push_back(Arc::downgrade(value));
    }
}

/// The secret stays out of it.
impl fmt::Debug for IdpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdpConfig")
            .field("tenant", &self.tenant)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn checked_name(what: &str, name: &str) -> Result<Arc<str>, Error> {
    let good = (1..=MAX_NAME_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if good {
        Ok(name.into())
    } else {
        Err(Error::invalid(format!(
            "{what} `{}`: use 1 to 64 of A-Z a-z 0-9 _ -",
            name.escape_debug()
        )))
    }
}

fn all_good(name: &str, problems: &[(&'static str, String)]) -> Result<(), Error> {
    if problems.is_empty() {
        return Ok(());
    }
    let text: Vec<String> = problems
        .iter()
        .map(|(member, message)| format!("{member} {message}"))
        .collect();
    Err(Error::invalid(format!(
        "identity provider `{name}`: {}",
        text.join("; ")
    )))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokenward_core::policy::Audiences;

    use super::*;

    #[test]
    fn equal_parts_are_kept_once() {
        let mut parts = Parts::default();
        let mut config = |interval| {
            let settings = Settings {
                refresh_interval: Duration::from_secs(interval),
                ..Settings::default()
            };
            let url = Url::parse("https://a.example").unwrap();
            let policy = Policy::builder("https://a.example", Audiences::Any)
                .build()
                .unwrap();
            let config = IdpConfig::at("a", url, Some(policy)).unwrap();
            let mut config = config.with_settings(settings).unwrap();
            config.share(&mut parts);
            config
        };
        let first = config(7);
        let (other, same) = (config(8), config(7));
        assert!(Arc::ptr_eq(&first.settings, &same.settings));
        assert!(!Arc::ptr_eq(&first.settings, &other.settings));
        assert!(Arc::ptr_eq(&first.guards, &other.guards));
        assert!(Arc::ptr_eq(&first.tenant, &other.tenant));
        let rules = |config: &IdpConfig| Arc::clone(config.policy.clone().unwrap().rules_mut());
        assert!(Arc::ptr_eq(&rules(&first), &rules(&other)));
        drop((first, same));
        // Nothing is kept for nobody.
        assert_eq!(config(7).settings.refresh_interval, Duration::from_secs(7));
        assert!(
            (100..200)
                .map(&mut config)
                .all(|config| config.settings.refresh_interval.as_secs() >= 100)
        );
        assert_eq!(parts.settings.0.len(), RECENT);
    }
}
