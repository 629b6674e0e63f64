//! Our own keys as a set, and what tells where they are.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};

use super::{
    metadata, not_loaded,
    prepared::{self, Media, Prepared},
};
use crate::signer::{Keys, Signer};

/// The published keys and the bodies that are made of them, once for each change.
pub(super) struct Own {
    signer: Signer,
    max_age: Duration,
    bodies: ArcSwapOption<Bodies>,
}

struct Bodies {
    keys: Arc<Keys>,
    set: Prepared,
    metadata: Prepared,
}

impl Own {
    /// Clients may keep the set for `max_age`: keys are published for longer than that before they sign.
    pub(super) fn new(signer: Signer, max_age: Duration) -> Self {
        Self {
            signer,
            max_age,
            bodies: ArcSwapOption::empty(),
        }
    }

    /// The issuer that the keys are of.
    pub(super) fn issuer(&self) -> &str {
        self.signer.issuer()
    }

    pub(super) fn answer(&self, headers: &HeaderMap) -> Response {
        let bodies = self.bodies();
        // An empty set would be kept for as long as the first keys are waited for.
        if bodies.keys.published.is_empty() {
            return not_loaded();
        }
        let count = HeaderValue::from(bodies.keys.published.len());
        let extra = [self.cache_control(), (prepared::KEY_COUNT, count)];
        bodies.set.answer(headers, Media::KeySet, &extra)
    }

    pub(super) fn metadata(&self, headers: &HeaderMap) -> Response {
        let extra = [self.cache_control()];
        let bodies = self.bodies();
        if bodies.keys.published.is_empty() {
            return not_loaded();
        }
        bodies.metadata.answer(headers, Media::Object, &extra)
    }

    fn cache_control(&self) -> (http::HeaderName, HeaderValue) {
        let value = prepared::cache_control(self.max_age.as_secs());
        (header::CACHE_CONTROL, value)
    }

    fn bodies(&self) -> Arc<Bodies> {
        let keys = self.signer.keys();
        let last = self.bodies.load_full();
        last.filter(|bodies| Arc::ptr_eq(&bodies.keys, &keys))
            .unwrap_or_else(|| {
                let algorithms = keys.published.iter().map(|key| key.algorithm);
                let metadata = metadata::document(self.issuer(), algorithms);
                let bodies = Arc::new(Bodies {
                    set: Prepared::new(String::from_utf8_lossy(&keys.document).into_owned()),
                    metadata: Prepared::new(metadata.to_string()),
                    keys,
                });
                self.bodies.store(Some(Arc::clone(&bodies)));
                bodies
            })
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::signer::{First, tests::World};

    #[tokio::test]
    async fn nobody_is_given_an_empty_set_to_keep() {
        let world = World::new();
        let signer = world.joined(First::Stored).await;
        let own = Own::new(signer.clone(), Duration::from_secs(60));
        for answer in [own.answer(&HeaderMap::new()), own.metadata(&HeaderMap::new())] {
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_ne!(
                answer.headers().get(header::CACHE_CONTROL),
                Some(&own.cache_control().1)
            );
        }
        signer.generate().await.unwrap();
        for answer in [own.answer(&HeaderMap::new()), own.metadata(&HeaderMap::new())] {
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(
                answer.headers().get(header::CACHE_CONTROL),
                Some(&own.cache_control().1)
            );
        }
    }
}
