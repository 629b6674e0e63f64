//! What the calls of the token service do, without HTTP.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use quick_cache::sync::Cache;
use tokenward_core::{
    Clock, Denial, Timestamp,
    jose::{AlgorithmSet, SigningKey},
    limit::Limit,
    policy::{Audiences, Policy, PolicyError},
    revocation::{Index, MAX_AHEAD},
    session::{
        AccessTyp, Issued, Kin, Lifetimes, PairRequest, Profile, Renewal, Stamp, TokenId, TokenRequest,
        TokenType,
    },
    verify,
};
use tokenward_store::Ledger;
use tokio::{
    sync::{Notify, oneshot, watch},
    task::JoinSet,
};

use super::{
    failure::Failure,
    family::{Flight, Shown},
    hub::Hub,
    stream::Places,
};
use crate::{
    access::Access,
    http::Drain,
    revocation::{Issuer, Revocations},
    signer::{Signer, Unsigned},
    telemetry,
};

/// Families whose renewals are counted. One that is pushed out begins anew, and none is refused for another.
const RENEWALS_KEPT: usize = 100_000;

/// Tokens of our own. Cheap to clone.
#[derive(Clone)]
pub(crate) struct TokenService(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) settings: Settings,
    /// Under which access tokens are accepted.
    pub(super) access: Policy,
    /// The same for whomever they are.
    pub(super) own: Policy,
    /// Under which parents are.
    pub(super) parents: Policy,
    pub(super) signer: Signer,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) revocations: Revocations,
    pub(super) index: Arc<Index>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) hub: Hub,
    /// What the families that were renewed of late have used of their allowance.
    pub(super) renewals: Cache<String, Limit>,
    pub(super) streams: Places,
    /// Ends streams.
    pub(super) drain: Drain,
    /// The credentials that there are; none before there are routes.
    pub(super) known: watch::Sender<Option<Access>>,
    /// What is minted and stored is carried to its end, whether or not its caller waits.
    pub(super) carried: Mutex<JoinSet<()>>,
    /// The renewal of each family that is under way, for all who ask for it meanwhile.
    pub(super) renewing: Mutex<HashMap<String, Flight>>,
    /// A family may be due earlier than the worker knows.
    pub(super) wake: Notify,
    /// The latest second of the clock in which a token was issued: a revocation must not be dated before it, though the clock
    /// be set back.
    pub(super) latest_issue: AtomicI64,
}

/// How tokens are made.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) issuer: String,
    pub(crate) audience: Vec<String>,
    /// Of access tokens and children.
    pub(crate) typ: AccessTyp,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) renewal: Renewal,
    /// How many the listeners take at once.
    pub(crate) connections: usize,
}

/// A token that was just minted.
#[derive(Clone, Debug)]
pub(crate) struct Minted {
    pub(crate) token: String,
    pub(crate) id: String,
    pub(crate) kid: String,
    pub(crate) expires_at: Timestamp,
}

/// A parent and, where it was asked for, its first child.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) parent: Minted,
    pub(crate) parent_lifetime: u64,
    /// With its lifetime in seconds, which its parent's end may have cut.
    pub(crate) child: Option<(Minted, u64)>,
}

/// The latest child of a family.
#[derive(Clone, Debug)]
pub(crate) struct Renewed {
    pub(crate) child: Minted,
    pub(crate) renewed_at: Timestamp,
    pub(crate) sequence: u64,
}

impl TokenService {
    /// A service over what the ledger holds, whose revocations are loaded beforehand. At `newest` a token may have been issued,
    /// by whatever process.
    pub(crate) fn new(
        settings: Settings,
        signer: Signer,
        ledger: Arc<dyn Ledger>,
        revocations: Revocations,
        clock: Arc<dyn Clock>,
        drain: Drain,
        newest: Option<Timestamp>,
    ) -> Result<Self, PolicyError> {
        let policy = |audiences| {
            let algorithms: AlgorithmSet = SigningKey::ALGORITHMS.into_iter().collect();
            Policy::builder(settings.issuer.clone(), audiences).algorithms(algorithms)
        };
        let access = policy(Audiences::OneOf(settings.audience.clone()));
        let access = match settings.typ {
            AccessTyp::AtJwt => access.typ(settings.typ.name()),
            // Those that were minted before it was wanted are good too. A parent is not: its type is one of another use.
            AccessTyp::Jwt => access,
        };
        let access = access.build()?;
        // Whatever was wanted when they were minted: their ids say what they are.
        let own = policy(Audiences::Any).build()?;
        // One that was stamped after a revocation begins up to so much later; its end gets no leeway, see `check_parent`.
        let ahead = Duration::from_secs(MAX_AHEAD.unsigned_abs() + 1);
        let parents = Audiences::OneOf(vec![settings.issuer.clone()]);
        let parents = policy(parents).typ(TokenType::Parent.header_typ(settings.typ));
        let parents = parents.leeway(ahead).build()?;
        let inner = Arc::new(Inner {
            access,
            own,
            parents,
            carried: Mutex::default(),
            renewing: Mutex::default(),
            renewals: Cache::new(RENEWALS_KEPT),
            streams: Places::new(settings.connections),
            drain,
            known: watch::Sender::new(None),
            settings,
            signer,
            ledger,
            index: Arc::clone(revocations.index()),
            revocations,
            clock,
            hub: Hub::default(),
            wake: Notify::new(),
            latest_issue: AtomicI64::new(newest.map_or(i64::MIN, Timestamp::as_secs)),
        });
        let own = Arc::downgrade(&inner);
        inner.revocations.issued_by(own as Weak<dyn Issuer>);
        Ok(Self(inner))
    }

    /// What tokens are made by.
    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Places for streams.
    pub(super) fn streams(&self) -> &Places {
        &self.0.streams
    }

    /// What ends streams.
    pub(super) fn drain(&self) -> Drain {
        self.0.drain.clone()
    }

    /// Has streams end whose credentials are no more.
    pub(super) fn know(&self, access: Access) {
        self.0.known.send_replace(Some(access));
    }

    /// The credentials that there are.
    pub(super) fn known(&self) -> watch::Receiver<Option<Access>> {
        self.0.known.subscribe()
    }

    pub(super) fn shared_clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.0.clock)
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.0.clock
    }

    /// The keys.
    pub(crate) fn signer(&self) -> &Signer {
        &self.0.signer
    }

    /// The policy under which anybody accepts our access tokens.
    pub(crate) fn policy(&self) -> &Policy {
        &self.0.access
    }

    /// Mints a single token. Nothing of it is stored.
    pub(crate) fn mint(&self, client: &str, request: &TokenRequest) -> Result<Minted, Failure> {
        let stamp = self.stamp(&request.profile.user_id, request.lifetime);
        self.sign(client, &request.profile, Kin::Alone, stamp)
    }

    /// Opens a family: its parent and, if it is wanted, its first child. Durable when this returns.
    pub(crate) async fn pair(&self, client: &str, request: PairRequest) -> Result<Pair, Failure> {
        let (service, client) = (self.clone(), client.to_owned());
        let opening = async move { service.open_family(&client, &request).await };
        self.carry_out(opening)
            .await
            .unwrap_or_else(|_| Err(unanswered()))
    }

    /// Runs `work` to its end. What comes back may be dropped.
    pub(super) fn carry_out<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (done, answer) = oneshot::channel();
        let mut carried = lock(&self.0.carried);
        while carried.try_join_next().is_some() {}
        carried.spawn(async move {
            // Nobody may be there any more to be answered.
            let _ = done.send(work.await);
        });
        answer
    }

    /// A parent token that is good now, its revocation included, and its id.
    pub(crate) fn parent(&self, token: &str) -> Result<Shown, Denial> {
        let inner = &self.0;
        let keys = inner.signer.keys();
        let ids = keys.ids.as_ref().ok_or(Denial::IssuerUnavailable)?;
        let verified = verify(token, &keys.set, &inner.parents, inner.clock.wall())?;
        // Nothing is allowed to be late: its holder asks us, who issued it, and clocks cannot be apart.
        if verified
            .claims()
            .expires_at()
            .is_none_or(|end| end <= inner.clock.wall())
        {
            return Err(Denial::TokenExpired);
        }
        let marks = inner
            .index
            .marks(&inner.settings.issuer, verified.claims(), verified.kid());
        inner.index.admit(&marks, inner.clock.steady())?;
        let id = verified.claims().token_id();
        let id = id.and_then(|id| ids.read(id));
        let id = id.filter(|id| id.token_type() == TokenType::Parent);
        id.map(|id| (verified, id)).ok_or(Denial::TypeRejected)
    }

    pub(super) fn stamp(&self, user_id: &str, lifetime: u64) -> Stamp {
        let inner = &self.0;
        let issuer = &inner.settings.issuer;
        let now = inner.clock.wall();
        // Who refuses everything up to a time of the future means what is minted now as well.
        let of_all = inner.index.issuer_not_before(issuer);
        let of_all = of_all.filter(|time| *time <= now.as_secs() + MAX_AHEAD);
        let not_before = inner.index.subject_not_before(issuer, user_id).max(of_all);
        // The clock's second and not the stamp's, which one subject's revocations may have moved ahead.
        inner.latest_issue.fetch_max(now.as_secs(), Ordering::AcqRel);
        Stamp::new(now, not_before, lifetime)
    }

    pub(super) fn sign(
        &self,
        client: &str,
        profile: &Profile,
        kin: Kin<'_>,
        stamp: Stamp,
    ) -> Result<Minted, Failure> {
        let (inner, token_type) = (&self.0, kin.token_type());
        let keys = inner.signer.keys();
        let key = inner.signer.signing(&keys, stamp.expires_at())?;
        let ids = keys.ids.as_ref().ok_or(Unsigned::Missing)?;
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| Failure::Internal("no randomness".into()))?;
        let id = ids.issue(token_type, stamp.expires_at(), random);
        let claims = self.claims(client, profile, &id, kin, stamp);
        let typ = token_type.header_typ(inner.settings.typ);
        let token = key.sign(typ, &claims)?;
        telemetry::minted(token_type);
        Ok(Minted {
            token,
            id: id.as_str().to_owned(),
            kid: key.kid().to_owned(),
            expires_at: stamp.expires_at(),
        })
    }

    /// # Errors
    ///
    /// Where a child of `parent` would be too large to be signed.
    pub(super) fn child_fits(
        &self,
        client: &str,
        profile: &Profile,
        parent: &str,
        stamp: Stamp,
    ) -> Result<(), Failure> {
        let inner = &self.0;
        let keys = inner.signer.keys();
        let key = inner.signer.signing(&keys, stamp.expires_at())?;
        let ids = keys.ids.as_ref().ok_or(Unsigned::Missing)?;
        let id = ids.issue(TokenType::Child, stamp.expires_at(), [0; 16]);
        let claims = self.claims(client, profile, &id, Kin::ChildOf(parent), stamp);
        let typ = TokenType::Child.header_typ(inner.settings.typ);
        key.length(typ, &claims)?;
        Ok(())
    }

    fn claims(&self, client: &str, profile: &Profile, id: &TokenId, kin: Kin<'_>, stamp: Stamp) -> String {
        let issued = Issued {
            issuer: &self.0.settings.issuer,
            client,
            profile,
            id,
            kin,
            stamp,
        };
        issued.claims()
    }
}

/// The work ended without an answer: its panic, or the end of the process.
pub(super) fn unanswered() -> Failure {
    Failure::Internal("the call was not carried out to its end".into())
}

/// What a panicking holder left behind is still whole: every change under these locks is a single step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
