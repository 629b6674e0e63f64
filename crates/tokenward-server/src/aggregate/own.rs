//! Our own keys, as a set.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};

use super::prepared::{self, Media, Prepared};
use crate::signer::{Keys, Signer};

/// The published keys and the body that is made of them, once for each change.
pub(super) struct Own {
    signer: Signer,
    max_age: Duration,
    body: ArcSwapOption<(Arc<Keys>, Prepared)>,
}

impl Own {
    /// Clients may keep the set for `max_age`: keys are published for longer than that before they sign.
    pub(super) fn new(signer: Signer, max_age: Duration) -> Self {
        Self {
            signer,
            max_age,
            body: ArcSwapOption::empty(),
        }
    }

    pub(super) fn answer(&self, headers: &HeaderMap) -> Response {
        let keys = self.signer.keys();
        let body = match self.body.load_full().filter(|body| Arc::ptr_eq(&body.0, &keys)) {
            Some(body) => body,
            None => {
                let text = String::from_utf8_lossy(&keys.document).into_owned();
                let body = Arc::new((Arc::clone(&keys), Prepared::new(text)));
                self.body.store(Some(Arc::clone(&body)));
                body
            }
        };
        let extra = [
            (
                header::CACHE_CONTROL,
                prepared::cache_control(self.max_age.as_secs()),
            ),
            (prepared::KEY_COUNT, HeaderValue::from(keys.published.len())),
        ];
        body.1.answer(headers, Media::KeySet, &extra)
    }
}
