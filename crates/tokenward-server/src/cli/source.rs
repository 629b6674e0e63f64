//! Where a command's keys come from: a file, or an address that is fetched as the server fetches it.

use std::sync::Arc;

use http::HeaderMap;
use tokenward::{
    SystemClock,
    acquire::{Answer, Effort, KeysAt, Target, acquire},
    fetch::{ExtraRoots, FetchError, FetchErrorKind, Guards, HttpFetcher},
    random,
};
use tokenward_core::jose::KeySet;
use tokio::runtime::Builder;
use url::Url;

use super::{Failure, FetchArgs, input, runtime};

impl FetchArgs {
    pub(super) fn guards(&self) -> Result<Guards, Failure> {
        let extra_roots = match &self.ca_file {
            None => None,
            Some(path) => Some(
                ExtraRoots::from_pem(&input::file(path)?)
                    .map_err(|error| Failure::usage(format!("--ca-file {}: {error}", path.display())))?,
            ),
        };
        Ok(Guards {
            allow_http: self.allow_http,
            allow_private_addresses: self.allow_private_addresses,
            extra_roots,
            ..Guards::default()
        })
    }
}

/// The URL that `text` is, or nothing where it names a file.
pub(super) fn url(text: &str) -> Option<Url> {
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
}

/// A key set, where it was asked for, and the headers that it came with.
pub(super) struct Fetched {
    pub(super) url: String,
    pub(super) keys: KeySet,
    pub(super) headers: HeaderMap,
}

/// Fetches a key set once, with the retries that `guards` allow.
pub(super) fn fetch(guards: Guards, keys_at: KeysAt) -> Result<Fetched, Failure> {
    let clock = Arc::new(SystemClock::new());
    let asked = match &keys_at {
        KeysAt::Url(url) => url.to_string(),
        KeysAt::Issuer { discovery, .. } => discovery.issuer().to_owned(),
    };
    let target = Target {
        guards: Arc::new(guards),
        keys_at,
    };
    let acquired = runtime::run(Builder::new_current_thread(), async {
        let fetcher = HttpFetcher::new(clock.clone())?;
        acquire(&fetcher, &*clock, &*random::system(), &target, None, Effort::Full)
            .await
            .result
    });
    match acquired? {
        Ok(Answer::Fresh { keys, headers }) => Ok(Fetched {
            url: asked,
            keys,
            headers,
        }),
        // Nothing was asked with conditions, so this is a fault of the server's.
        Ok(Answer::NotModified { .. }) => Err(Failure::Network(
            "304 without a question that allows it".to_owned(),
        )),
        Err(error) => Err(Failure::Network(explain(&error))),
    }
}

/// What went wrong, and the flag that would allow it.
fn explain(error: &FetchError) -> String {
    let flag = match error.kind() {
        FetchErrorKind::SchemeForbidden => " (--allow-http allows plain http)",
        FetchErrorKind::AddressForbidden => {
            " (--allow-private-addresses allows loopback and private addresses)"
        }
        FetchErrorKind::Tls => " (--ca-file names certificates to trust)",
        _ => "",
    };
    format!("{}: {error}{flag}", error.code())
}

/// The key set in `body`, which came from `place`.
pub(super) fn key_set(place: &str, body: &[u8]) -> Result<KeySet, String> {
    KeySet::parse(body).map_err(|problem| format!("{place}: not a key set: {problem}"))
}
