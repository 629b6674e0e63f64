//! An IdP as the library takes it.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use secrecy::ExposeSecret;
use tokenward::{
    IdpConfig,
    acquire::KeysAt,
    discovery::Discovery,
    fetch::{AllowedHost, FetchError, Guards, Retry},
};
use tokenward_core::{
    freshness::{Settings, UnknownKid},
    jose::{Key, SkipReason},
    policy::{Policy, PolicyError},
};

use super::idp::Idp;

/// The longest lifetime of a token where nothing else is configured.
const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(30 * 86_400);

impl Idp {
    /// What its tokens must be like; nothing where they are not verified.
    pub(crate) fn policy(&self) -> Option<Result<Policy, PolicyError>> {
        let (issuer, settings) = (self.issuer.as_ref()?, &self.settings);
        let mut policy = Policy::builder(issuer, settings.audiences.clone()?)
            .leeway(settings.leeway)
            .required_claims(settings.required_claims.clone());
        if let Some(algorithms) = settings.algorithms {
            policy = policy.algorithms(algorithms);
        }
        // A limit would refuse tokens that never end, which `require_exp: false` is there to admit.
        let max_lifetime = settings
            .max_token_lifetime
            .or(settings.require_exp.then_some(MAX_TOKEN_LIFETIME));
        if let Some(max) = max_lifetime {
            policy = policy.max_token_lifetime(max);
        }
        if !settings.require_exp {
            policy = policy.allow_missing_exp();
        }
        if let Some(max) = settings.max_token_age {
            policy = policy.max_token_age(max);
        }
        if let Some(typ) = &settings.typ {
            policy = policy.typ(typ);
        }
        Some(policy.build())
    }

    /// How its keys are refreshed and kept.
    pub(crate) fn refresh_settings(&self) -> Settings {
        let settings = &self.settings;
        Settings {
            refresh_interval: settings.refresh_interval,
            refresh: settings.refresh,
            cache_duration: settings.cache_duration,
            cache_policy: settings.cache_policy,
            max_keys: settings.max_keys,
            truncation: settings.truncation,
            min_ttl: settings.min_ttl,
            max_ttl: settings.max_ttl,
            refresh_early: settings.refresh_early,
            min_refresh_interval: settings.min_refresh_interval,
            prefetch_jitter: settings.prefetch_jitter,
            stale_while_error: settings.stale_while_error,
            absent_key_grace: settings.absent_key_grace,
            negative_cache_ttl: settings.negative_cache_ttl,
            unknown_kid: UnknownKid {
                budget: settings.unknown_kid.budget,
                refill: settings.unknown_kid.refill,
                negative_ttl: settings.unknown_kid.negative_ttl,
            },
        }
    }

    /// The whole of it; `global` is the list of domains that stands for all IdPs.
    ///
    /// # Errors
    ///
    /// What the library does not take. The rules of the configuration are meant to leave nothing.
    pub(crate) fn to_library(
        &self,
        global: &Arc<[AllowedHost]>,
    ) -> Result<IdpConfig, Box<dyn StdError + Send + Sync>> {
        let policy = self.policy().transpose()?;
        let library = match (&self.secret, &self.url, policy) {
            (Some(secret), _, Some(policy)) => {
                IdpConfig::symmetric(&self.name, secret.expose_secret(), policy)?
            }
            (Some(_), _, None) => return Err("an identity provider with a secret needs `audiences`".into()),
            (None, Some(url), policy) => IdpConfig::at(&self.name, url.clone(), policy)?,
            (None, None, Some(policy)) => IdpConfig::discovered(&self.name, policy)?,
            (None, None, None) => {
                IdpConfig::served_by_discovery(&self.name, self.issuer.as_deref().unwrap_or_default())?
            }
        };
        Ok(library
            .tenant_named(&self.tenant)?
            .strict_jwks_origin(self.settings.strict_jwks_origin)
            .required(self.settings.required)
            .with_settings(self.refresh_settings())?
            .with_guards(self.guards(global))?)
    }

    /// What its fetches may do; `global` is the list of domains that stands for all IdPs.
    pub(crate) fn guards(&self, global: &Arc<[AllowedHost]>) -> Guards {
        let settings = &self.settings;
        Guards {
            // Under `--dev` it is on by default, which must not take the pins away.
            allow_http: settings.allow_http && settings.pinned_spki.is_empty(),
            allow_private_addresses: settings.allow_private_addresses,
            allowed_domains: settings.allowed_domains.clone(),
            global_domains: Arc::clone(global),
            pinned_spki: settings.pinned_spki.clone(),
            extra_roots: settings.ca_file.clone(),
            max_response_bytes: settings.max_response_bytes,
            max_redirects: settings.max_redirects,
            retry: Retry {
                retries: settings.retry.retries,
                initial: settings.retry.initial,
                max: settings.retry.max,
                attempt: settings.retry.attempt,
                deadline: settings.retry.deadline,
            },
        }
    }

    /// Where its keys are found.
    ///
    /// # Errors
    ///
    /// Where there is no URL and the issuer is none that can be asked.
    pub(crate) fn keys_at(&self) -> Result<KeysAt, FetchError> {
        match &self.url {
            Some(url) => Ok(KeysAt::Url(url.clone())),
            None => {
                let discovery = Discovery::of(self.issuer.clone().unwrap_or_default())?;
                let discovery = discovery.strict_origin(self.settings.strict_jwks_origin);
                Ok(KeysAt::Issuer {
                    discovery,
                    known: None,
                })
            }
        }
    }

    /// Its shared secret as a key, where it has one. The secret has no id of its own, so it takes the one that a
    /// token names.
    pub(crate) fn secret_key(&self, kid: Option<&str>) -> Option<Result<Key, SkipReason>> {
        let algorithms = self.settings.algorithms.unwrap_or_default();
        self.secret
            .as_ref()
            .map(|secret| Key::symmetric(secret.expose_secret(), algorithms, kid))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::read;

    use super::*;

    fn idp(members: &str) -> Idp {
        let text = format!("idps: [{{ name: a, issuer: 'https://i.example', {members} }}]");
        read(&text).unwrap().idps.remove(0)
    }

    #[test]
    fn every_rule_for_tokens_reaches_the_policy() {
        let policy = |members: &str| format!("{:?}", idp(members).policy().unwrap().unwrap());
        let plain = policy("audiences: any");
        assert!(plain.contains("max_token_lifetime: Some(2592000s)"), "{plain}");
        for (member, shows) in [
            ("audiences: [x]", r#"audiences: OneOf(["x"])"#),
            ("audiences: any, algorithms: [ES256]", "algorithms: {Es256}"),
            ("audiences: any, leeway: 7s", "leeway: 7s"),
            ("audiences: any, require_exp: false", "require_exp: false"),
            ("audiences: any, require_exp: false", "max_token_lifetime: None"),
            ("audiences: any, max_token_age: 7s", "max_token_age: Some(7s)"),
            (
                "audiences: any, max_token_lifetime: 7s",
                "max_token_lifetime: Some(7s)",
            ),
            (
                "audiences: any, required_claims: [sub]",
                r#"required_claims: ["sub"]"#,
            ),
            ("audiences: any, typ: at+jwt", r#"typ: Some("at+jwt")"#),
        ] {
            assert!(!plain.contains(shows), "{shows} shows without {member}");
            assert!(policy(member).contains(shows), "{member}: {}", policy(member));
        }
        assert!(idp("required: true").policy().is_none());
    }

    #[test]
    fn every_guard_and_setting_reaches_the_library() {
        let shown = |members: &str| {
            let idp = idp(members);
            format!(
                "{:?} {:?} {:?}",
                idp.guards(&Arc::from([])),
                idp.refresh_settings(),
                idp.keys_at()
            )
        };
        let plain = shown("required: false");
        assert!(idp("required: true").guards(&Arc::from([])).check().is_empty());
        assert!(idp("required: true").refresh_settings().check().is_empty());
        assert_eq!(
            idp("required: true").guards(&Arc::from([])),
            Guards::default(),
            "the defaults are the library's"
        );
        assert_eq!(idp("required: true").refresh_settings(), Settings::default());
        for (member, shows) in [
            ("allow_http: true", "allow_http: true"),
            ("allow_private_addresses: true", "allow_private_addresses: true"),
            (
                "allowed_domains: [i.example]",
                r#"allowed_domains: [AllowedHost(Domain("i.example"))]"#,
            ),
            (
                "pinned_spki: ['AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=']",
                "pinned_spki: [SpkiPin(AAEC",
            ),
            ("max_response_bytes: 2000", "max_response_bytes: 2000"),
            ("max_redirects: 1", "max_redirects: 1"),
            ("retry: { retries: 7 }", "retries: 7"),
            ("retry: { initial: 7ms }", "initial: 7ms"),
            ("retry: { max: 7s }", "max: 7s"),
            ("retry: { attempt: 7s }", "attempt: 7s"),
            ("retry: { deadline: 7s }", "deadline: 7s"),
            ("refresh_interval: 7s", "refresh_interval: 7s"),
            ("refresh: http", "refresh: Http"),
            ("cache_duration: 7s", "cache_duration: 7s"),
            ("cache_policy: upstream", "cache_policy: Upstream"),
            ("max_keys: 7", "max_keys: 7"),
            ("truncation: first_n", "truncation: FirstN"),
            ("min_ttl: 7s", "min_ttl: 7s"),
            ("max_ttl: 77s", "max_ttl: 77s"),
            ("refresh_early: 7s", "refresh_early: 7s"),
            ("min_refresh_interval: 7s", "min_refresh_interval: 7s"),
            ("prefetch_jitter: 7s", "prefetch_jitter: 7s"),
            ("stale_while_error: 7s", "stale_while_error: 7s"),
            ("absent_key_grace: 7s", "absent_key_grace: 7s"),
            ("negative_cache_ttl: 7s", "negative_cache_ttl: 7s"),
            ("unknown_kid: { budget: 7 }", "budget: 7"),
            ("unknown_kid: { refill: 7s }", "refill: 7s"),
            ("unknown_kid: { negative_ttl: 7s }", "negative_ttl: 7s"),
            ("strict_jwks_origin: true", "strict_origin: true"),
            ("audiences: any, url: 'https://k.example/k'", "k.example"),
        ] {
            assert!(!plain.contains(shows), "{shows} shows without {member}");
            assert!(shown(member).contains(shows), "{member}: {}", shown(member));
        }
        let global = AllowedHost::parse("g.example").unwrap();
        assert!(format!("{:?}", idp("required: true").guards(&Arc::from([global]))).contains("g.example"));
    }
}
