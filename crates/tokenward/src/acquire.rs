//! One refresh of a key set: from where it is known to be, or from where its issuer says.

use std::sync::Arc;

use http::HeaderMap;
use tokenward_core::{Clock, Timestamp, jose::KeySet};
use url::Url;

use crate::{
    discovery::Discovery,
    fetch::{Attempts, Fetch, FetchError, FetchRequest, Guards},
    random::Random,
};

/// Whose keys are fetched, and under which guards.
#[derive(Clone, Debug)]
pub struct Target {
    /// Hold for discovery and for the key set alike.
    pub guards: Arc<Guards>,
    /// Where the keys are.
    pub keys_at: KeysAt,
}

/// Where keys are found.
#[derive(Clone, Debug)]
pub enum KeysAt {
    /// At this address. There is no discovery.
    Url(Url),
    /// Where the issuer says.
    Issuer {
        /// How it is asked.
        discovery: Discovery,
        /// What it said the last time. It is asked again only when this fails.
        known: Option<Url>,
    },
}

/// What the last answer with this key set told to ask with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// Its `ETag`.
    pub etag: Option<String>,
    /// Its `Last-Modified`.
    pub last_modified: Option<String>,
}

/// What a refresh came to.
#[derive(Clone, Debug)]
pub struct Acquired {
    /// The answer, or why there is none.
    pub result: Result<Answer, FetchError>,
    /// Where the issuer says that its keys are, to be [`KeysAt::Issuer`]'s `known` the next time.
    pub jwks_uri: Option<Url>,
}

/// What the server of a key set answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A key set, which may be one without a usable key.
    Fresh {
        /// The keys.
        keys: KeySet,
        /// The answer's headers, with its validators and its freshness.
        headers: HeaderMap,
    },
    /// What was asked with the validators of has not changed (RFC 9110 section 15.4.5).
    NotModified {
        /// The answer's headers. They replace the earlier ones (RFC 9111 section 4.3.4).
        headers: HeaderMap,
    },
}

impl Answer {
    fn is_of_use(&self) -> bool {
        match self {
            Self::Fresh { keys, .. } => !keys.usable().is_empty(),
            Self::NotModified { .. } => true,
        }
    }
}

/// How much may be done for a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// All attempts that the guards allow.
    Full,
    /// One request for the key set, and one for discovery only where the address was never known.
    Single,
}

/// Fetches a key set within [`Retry::deadline`](crate::fetch::Retry::deadline), discovery and further attempts included.
///
/// A discovered address that fails is not given up before the issuer has been asked again: it may have moved its
/// keys. The future may be dropped at any time.
pub async fn acquire(
    fetcher: &dyn Fetch,
    clock: &dyn Clock,
    random: &dyn Random,
    target: &Target,
    validators: Option<&Validators>,
    effort: Effort,
) -> Acquired {
    let mut retry = target.guards.retry;
    if effort == Effort::Single {
        retry.retries = 0;
    }
    let until = clock.steady() + retry.deadline;
    let refresh = Refresh {
        guards: &target.guards,
        discovery: match &target.keys_at {
            KeysAt::Issuer { discovery, .. } => Some(discovery),
            KeysAt::Url(_) => None,
        },
        attempts: Attempts {
            fetcher,
            clock,
            random,
            retry,
            until,
        },
    };
    match &target.keys_at {
        KeysAt::Url(url) => Acquired {
            result: refresh.keys(url, validators).await,
            jwks_uri: None,
        },
        KeysAt::Issuer {
            discovery,
            known: None,
        } => refresh.discover(discovery).await,
        KeysAt::Issuer {
            discovery,
            known: Some(known),
        } => {
            let earlier = match effort {
                // Time for the issuer to be asked, should this address only hang. One attempt may be as long as all of
                // it, and this address must not go without.
                Effort::Full => refresh.until(until - retry.attempt.min(retry.deadline / 2)),
                Effort::Single => refresh,
            };
            let result = earlier.keys(known, validators).await;
            let of_use = result.as_ref().is_ok_and(Answer::is_of_use);
            if !of_use && effort == Effort::Full {
                let moved = refresh.discover_elsewhere(discovery, known).await;
                if let Some(moved) = moved {
                    return moved;
                }
            }
            Acquired {
                result,
                jwks_uri: Some(known.clone()),
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Refresh<'a> {
    guards: &'a Arc<Guards>,
    discovery: Option<&'a Discovery>,
    attempts: Attempts<'a>,
}

impl Refresh<'_> {
    fn until(mut self, until: Timestamp) -> Self {
        self.attempts.until = until;
        self
    }

    async fn keys(&self, url: &Url, validators: Option<&Validators>) -> Result<Answer, FetchError> {
        let mut request = FetchRequest::key_set(url.clone(), Arc::clone(self.guards));
        if let Some(validators) = validators {
            request.etag.clone_from(&validators.etag);
            request.last_modified.clone_from(&validators.last_modified);
        }
        let response = self.attempts.fetch(&request).await?;
        if let Some(discovery) = self.discovery {
            // A redirect leads no further than the document itself may.
            discovery.admit_origin(&response.final_url)?;
        }
        let headers = response.headers;
        if response.status == 304 {
            return Ok(Answer::NotModified { headers });
        }
        let keys = KeySet::parse(&response.body)
            .map_err(|problem| FetchError::key_set_invalid(&response.final_url, problem))?;
        Ok(Answer::Fresh { keys, headers })
    }

    async fn discover(&self, discovery: &Discovery) -> Acquired {
        match discovery.resolve(&self.attempts, self.guards).await {
            Ok(url) => Acquired {
                result: self.keys(&url, None).await,
                jwks_uri: Some(url),
            },
            Err(error) => Acquired {
                result: Err(error),
                jwks_uri: None,
            },
        }
    }

    /// Nothing where the issuer cannot be asked or still names the address that failed.
    async fn discover_elsewhere(&self, discovery: &Discovery, failed: &Url) -> Option<Acquired> {
        let url = discovery
            .resolve(&self.attempts, self.guards)
            .await
            .ok()
            .filter(|url| url != failed)?;
        Some(Acquired {
            result: self.keys(&url, None).await,
            jwks_uri: Some(url),
        })
    }
}
