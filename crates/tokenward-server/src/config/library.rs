//! An IdP as the library takes it.

use secrecy::ExposeSecret;
use tokenward::{
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

impl Idp {
    /// What its tokens must be like; nothing where they are not verified.
    pub(crate) fn policy(&self) -> Option<Result<Policy, PolicyError>> {
        let (issuer, settings) = (self.issuer.as_ref()?, &self.settings);
        let mut policy = Policy::builder(issuer, settings.audiences.clone()?)
            .leeway(settings.leeway)
            .max_token_lifetime(settings.max_token_lifetime)
            .required_claims(settings.required_claims.clone());
        if let Some(algorithms) = settings.algorithms {
            policy = policy.algorithms(algorithms);
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

    /// What its fetches may do; `global` is the list of domains that stands for all IdPs.
    pub(crate) fn guards(&self, global: &[AllowedHost]) -> Guards {
        let settings = &self.settings;
        Guards {
            // Under `--dev` it is on by default, which must not take the pins away.
            allow_http: settings.allow_http && settings.pinned_spki.is_empty(),
            allow_private_addresses: settings.allow_private_addresses,
            allowed_domains: settings.allowed_domains.clone(),
            global_domains: global.into(),
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

    /// Its shared secret as a key, where it has one.
    pub(crate) fn secret_key(&self) -> Option<Result<Key, SkipReason>> {
        let algorithms = self.settings.algorithms.unwrap_or_default();
        self.secret
            .as_ref()
            .map(|secret| Key::symmetric(secret.expose_secret(), algorithms, None))
    }
}
