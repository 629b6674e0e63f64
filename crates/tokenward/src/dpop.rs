//! Whether requests have to come with a proof of possession, and checking it (DPoP, RFC 9449).

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use http::HeaderMap;
use tokenward_core::{
    Clock, Denial,
    claims::Confirmation,
    dpop::{Presented, Proof, Replays, Window, check},
};

use crate::{carrier::Scheme, verifier::VerifiedToken};

/// How many proofs are remembered by default.
pub const DEFAULT_REPLAY_CAPACITY: usize = 1_000_000;

/// Which requests need a proof of possession, how old one may be, and which were used.
///
/// | | a token bound to a key (`cnf.jkt`) | any other token |
/// |---|---|---|
/// | [`disabled`](Dpop::disabled) | refused | accepted, but not under the scheme `DPoP` |
/// | [`allowed`](Dpop::allowed), the default | with a proof of that key | accepted, but not under the scheme `DPoP` |
/// | [`required`](Dpop::required) | with a proof of that key | refused |
///
/// A bound token under the scheme `Bearer` is refused always, proof or not (RFC 9449 section 7.2). A carrier without
/// scheme, as a cookie, changes nothing: the proof stands in the header `DPoP`.
///
/// Used proofs are remembered in this process, up to a million, about 150 MB; when that is full, further ones are
/// [`Denial::RateLimited`], since one that was forgotten could be used again. Clones share what they remember. A proof can
/// be used once in each process that does not share it, and again after a restart, until it is too old.
#[derive(Clone)]
pub struct Dpop {
    mode: DpopMode,
    window: Window,
    capacity: usize,
    replays: Arc<Mutex<Replays>>,
}

/// Which requests need a proof of possession.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DpopMode {
    /// None, and none is taken.
    Disabled,
    /// Those whose token is bound to a key.
    Allowed,
    /// All, by whatever carrier their token comes.
    Required,
}

/// A request as its proof is checked against it.
pub struct DpopRequest<'a> {
    /// How the token was presented.
    pub scheme: Scheme,
    /// The token, as it was sent.
    pub token: &'a str,
    /// The request's method.
    pub method: &'a str,
    /// The absolute URL as the client wrote it; a query is passed over. None where it is not known: then no proof is valid.
    /// Scheme and host must not be the request's own word, or a proof that was made for another host is good here. Asked only
    /// where there is a proof to check.
    pub url: &'a dyn Fn() -> Option<String>,
    /// The request's headers.
    pub headers: &'a HeaderMap,
}

impl Dpop {
    /// No proofs are taken: a token that is bound to a key is refused, as is the scheme `DPoP`.
    #[must_use]
    pub fn disabled() -> Self {
        Self::new(DpopMode::Disabled)
    }

    /// Tokens that are bound to a key need a proof; others are bearer tokens.
    #[must_use]
    pub fn allowed() -> Self {
        Self::new(DpopMode::Allowed)
    }

    /// Every token needs a proof, and has to be bound to its key.
    #[must_use]
    pub fn required() -> Self {
        Self::new(DpopMode::Required)
    }

    fn new(mode: DpopMode) -> Self {
        let (window, capacity) = (Window::default(), DEFAULT_REPLAY_CAPACITY);
        Self {
            mode,
            window,
            capacity,
            replays: Self::replays(capacity, window),
        }
    }

    fn replays(capacity: usize, window: Window) -> Arc<Mutex<Replays>> {
        Arc::new(Mutex::new(Replays::new(capacity, window.memory())))
    }

    /// How old a proof may be, and how far ahead of our clock. Default 300 s and 30 s.
    #[must_use]
    pub fn window(mut self, window: Window) -> Self {
        self.window = window;
        self.replays = Self::replays(self.capacity, window);
        self
    }

    /// How many used proofs are remembered. Default [`DEFAULT_REPLAY_CAPACITY`]; one key has at most a quarter.
    #[must_use]
    pub fn replay_capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self.replays = Self::replays(capacity, self.window);
        self
    }

    /// The same with another mode. Both share what they remember, so no proof is taken under one of them that was used
    /// under the other.
    #[must_use]
    pub fn with_mode(&self, mode: DpopMode) -> Self {
        Self { mode, ..self.clone() }
    }

    /// Which requests need a proof.
    #[must_use]
    pub const fn mode(&self) -> DpopMode {
        self.mode
    }

    /// Whether bound tokens are accepted at all; then [`Dpop::check`] has to be asked about each token.
    #[must_use]
    pub fn takes_proofs(&self) -> bool {
        self.mode != DpopMode::Disabled
    }

    /// Checks the proof of a request whose token is `verified`, where it needs one, and remembers it. `None` where it
    /// needs none; a `DPoP` header is passed over then.
    ///
    /// # Errors
    ///
    /// [`Denial::DpopNotAllowed`], [`Denial::DpopMissing`], [`Denial::DpopInvalid`], also for several `DPoP` headers,
    /// [`Denial::DpopBindingMismatch`], [`Denial::DpopReplayed`], [`Denial::RateLimited`].
    pub fn check(
        &self,
        verified: &VerifiedToken,
        request: &DpopRequest<'_>,
        clock: &dyn Clock,
    ) -> Result<Option<Proof>, Denial> {
        let bound_to = verified.claims().confirmation();
        let bound = bound_to != Confirmation::None;
        if self.mode == DpopMode::Disabled {
            return match request.scheme {
                Scheme::Dpop => Err(Denial::DpopNotAllowed),
                _ if bound => Err(Denial::DpopMissing),
                _ => Ok(None),
            };
        }
        if !bound && self.mode == DpopMode::Allowed && request.scheme != Scheme::Dpop {
            return Ok(None);
        }
        if request.scheme == Scheme::Bearer {
            return Err(Denial::DpopMissing);
        }
        let mut proofs = request.headers.get_all("dpop").iter();
        let proof = proofs.next().ok_or(Denial::DpopMissing)?;
        if proofs.next().is_some() {
            return Err(Denial::DpopInvalid);
        }
        let url = (request.url)().ok_or(Denial::DpopInvalid)?;
        let presented = Presented {
            proof: proof.to_str().map_err(|_| Denial::DpopInvalid)?,
            method: request.method,
            url: &url,
            token: request.token,
        };
        let proof = check(&presented, bound_to, self.window, clock.wall())?;
        let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        replays.accept(&proof, clock.steady())?;
        Ok(Some(proof))
    }
}

impl Default for Dpop {
    fn default() -> Self {
        Self::allowed()
    }
}

impl fmt::Debug for Dpop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dpop")
            .field("mode", &self.mode)
            .field("window", &self.window)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
