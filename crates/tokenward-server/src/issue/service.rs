//! What the calls of the token service do, without HTTP.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokenward_core::{
    Clock, Denial, Timestamp,
    claims::Claims,
    jose::{AlgorithmSet, MAX_TOKEN_BYTES, SignError, SigningKey, Token},
    policy::{Audiences, Policy, PolicyError},
    revocation::{Index, MAX_AHEAD, Marks, Rule, subject_not_before},
    session::{
        Issued, Lifetimes, MAX_RENEWALS_PER_MINUTE, PairRequest, Profile, Renewal, Stamp, TokenId,
        TokenRequest, TokenType, first_renewal, next_renewal,
    },
    verify,
};
use tokenward_store::{Child, Family, Ledger, Recorded, Revocation, RevocationRule, StoreError};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    task::JoinSet,
};

use super::{
    hub::{Ending, Follower, Hub, News},
    stream::MAX_STREAMS,
};
use crate::{
    http::Drain,
    signer::{self, Signer, SignerError},
    telemetry,
};

/// Families whose renewals are counted. One that is pushed out begins anew, and none is refused for another.
const RENEWALS_KEPT: usize = 100_000;

/// How often a user's revocation is written where a second passes while it is: enough for a store that takes seconds.
const USER_ATTEMPTS: usize = 4;

/// Tokens of our own. Cheap to clone.
#[derive(Clone)]
pub(crate) struct TokenService(pub(super) Arc<Inner>);

pub(super) struct Inner {
    settings: Settings,
    /// Under which access tokens are accepted.
    access: Policy,
    /// Under which parents are.
    parents: Policy,
    signer: Signer,
    pub(super) ledger: Arc<dyn Ledger>,
    index: Arc<Index>,
    pub(super) clock: Arc<dyn Clock>,
    hub: Hub,
    /// When each of the families that were renewed of late has its whole allowance again.
    renewals: Cache<String, Timestamp>,
    /// Places for streams, and what ends them.
    streams: Arc<Semaphore>,
    drain: Drain,
    /// What is minted and stored is carried to its end, whether or not its caller waits.
    carried: Mutex<JoinSet<()>>,
    /// The renewal of each family that is under way, for all who ask for it meanwhile.
    renewing: Mutex<HashMap<String, Flight>>,
    /// A family may be due earlier than the worker knows.
    pub(super) wake: Notify,
    /// The latest second of the clock in which a token was issued: a revocation must not be dated before it, though the clock
    /// be set back.
    latest_issue: AtomicI64,
}

/// How tokens are made.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) issuer: String,
    pub(crate) audience: Vec<String>,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) renewal: Renewal,
}

/// One renewal under way.
type Flight = Shared<BoxFuture<'static, Result<Renewed, Failure>>>;

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

/// Why a call failed.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The token that the call goes by is not good.
    Denied(Denial),
    /// The token would be larger than verifiers accept.
    TooLarge,
    /// So many revocations of one subject in a few seconds that their times would run ahead of the clock.
    TooSoon,
    /// So many renewals of one family in a minute.
    TooMany {
        /// Until there is another.
        wait: Duration,
    },
    /// As many follow the family as may.
    TooManyStreams,
    /// The store did not take or give what it should. Nothing was changed.
    Store(StoreError),
    /// A fault of ours.
    Internal(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(denial) => denial.fmt(f),
            Self::TooLarge => f.write_str("the token would be too large"),
            Self::TooSoon => f.write_str("too many revocations of one subject"),
            Self::TooMany { .. } => f.write_str("too many renewals of one family"),
            Self::TooManyStreams => f.write_str("too many streams of one family"),
            Self::Store(error) => error.fmt(f),
            Self::Internal(text) => f.write_str(text),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Denial> for Failure {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl From<SignerError> for Failure {
    fn from(error: SignerError) -> Self {
        match error {
            SignerError::Store(error) => Self::Store(error),
            other => Self::Internal(other.to_string()),
        }
    }
}

/// What the children of a parent look like, as it is stored with the family.
#[derive(Serialize, Deserialize)]
struct Template {
    client: String,
    user_id: String,
    network: String,
    rate_limit: u32,
    scope: Option<String>,
    audience: Vec<String>,
    claims: Map<String, Value>,
    /// When the parent was issued, in seconds since the epoch, and by which key.
    issued_at: i64,
    kid: String,
    child_lifetime: u64,
    auto_renew: bool,
}

impl Template {
    fn of(client: &str, request: &PairRequest, stamp: Stamp, kid: &str) -> Self {
        let profile = request.profile.clone();
        Self {
            client: client.to_owned(),
            user_id: profile.user_id,
            network: profile.network,
            rate_limit: profile.rate_limit,
            scope: profile.scope,
            audience: profile.audience,
            claims: profile.claims,
            issued_at: stamp.issued_at().as_secs(),
            kid: kid.to_owned(),
            child_lifetime: request.child_lifetime,
            auto_renew: request.auto_renew,
        }
    }

    fn read(family: &Family) -> Result<Self, Failure> {
        serde_json::from_slice(&family.profile).map_err(|_| {
            Failure::Internal(format!(
                "the record of the family {} is damaged",
                family.parent_jti
            ))
        })
    }

    fn profile(&self) -> Profile {
        Profile {
            user_id: self.user_id.clone(),
            network: self.network.clone(),
            rate_limit: self.rate_limit,
            scope: self.scope.clone(),
            audience: self.audience.clone(),
            claims: self.claims.clone(),
        }
    }
}

fn purpose(jti: &str) -> String {
    format!("child token {jti}")
}

impl TokenService {
    /// A service over what the ledger holds, whose revocations are read into `index` beforehand. At `newest` a token may have
    /// been issued, by whatever process.
    pub(crate) fn new(
        settings: Settings,
        signer: Signer,
        ledger: Arc<dyn Ledger>,
        index: Arc<Index>,
        clock: Arc<dyn Clock>,
        drain: Drain,
        newest: Option<Timestamp>,
    ) -> Result<Self, PolicyError> {
        let policy = |audiences, token_type: TokenType| {
            let algorithms: AlgorithmSet = SigningKey::ALGORITHMS.into_iter().collect();
            Policy::builder(settings.issuer.clone(), Audiences::OneOf(audiences))
                .algorithms(algorithms)
                .typ(token_type.header_typ())
        };
        let access = policy(settings.audience.clone(), TokenType::Access).build()?;
        // One that was stamped after a revocation begins up to so much later; its end gets no leeway, see `check_parent`.
        let ahead = Duration::from_secs(MAX_AHEAD.unsigned_abs() + 1);
        let parents = policy(vec![settings.issuer.clone()], TokenType::Parent);
        let parents = parents.leeway(ahead).build()?;
        Ok(Self(Arc::new(Inner {
            access,
            parents,
            carried: Mutex::default(),
            renewing: Mutex::default(),
            renewals: Cache::new(RENEWALS_KEPT),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            drain,
            settings,
            signer,
            ledger,
            index,
            clock,
            hub: Hub::default(),
            wake: Notify::new(),
            latest_issue: AtomicI64::new(newest.map_or(i64::MIN, Timestamp::as_secs)),
        })))
    }

    /// What tokens are made by.
    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// A place for a stream, and what ends it; None where there is none left.
    pub(super) fn stream_place(&self) -> Option<(OwnedSemaphorePermit, Drain)> {
        let place = Arc::clone(&self.0.streams).try_acquire_owned().ok()?;
        Some((place, self.0.drain.clone()))
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
        self.sign(client, &request.profile, TokenType::Access, None, stamp)
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
    fn carry_out<T: Send + 'static>(
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

    async fn open_family(&self, client: &str, request: &PairRequest) -> Result<Pair, Failure> {
        let inner = &self.0;
        let profile = &request.profile;
        let stamp = self.stamp(&profile.user_id, request.parent_lifetime);
        let parent = self.sign(client, profile, TokenType::Parent, None, stamp)?;
        let child = match request.include_child {
            true => Some(self.child(
                client,
                profile,
                &parent.id,
                request.child_lifetime,
                parent.expires_at,
            )?),
            false => None,
        };
        let sealed = child
            .as_ref()
            .map(|(minted, stamp)| self.seal(minted, *stamp))
            .transpose()?;
        let renewal = &inner.settings.renewal;
        let times = child
            .as_ref()
            .map(|(_, stamp)| (stamp.issued_at(), stamp.expires_at()));
        let next_renewal = request
            .auto_renew
            .then(|| first_renewal(renewal, inner.clock.wall(), times, parent.expires_at))
            .flatten();
        let template = serde_json::to_vec(&Template::of(client, request, stamp, &parent.kid))
            .map_err(|error| Failure::Internal(error.to_string()))?;
        let family = Family {
            parent_jti: parent.id.clone(),
            user_id: profile.user_id.clone(),
            profile: template,
            expires_at: parent.expires_at,
            sequence: u64::from(sealed.is_some()),
            latest: sealed,
            next_renewal,
        };
        inner.ledger.open_family(&family).await?;
        if next_renewal.is_some() {
            inner.wake.notify_one();
        }
        Ok(Pair {
            parent,
            parent_lifetime: request.parent_lifetime,
            child: child
                .map(|(minted, stamp)| (minted, stamp.expires_at().since(stamp.issued_at()).as_secs())),
        })
    }

    /// The id of a parent token that is good now, its revocation included.
    pub(crate) fn check_parent(&self, token: &str) -> Result<TokenId, Failure> {
        let inner = &self.0;
        let keys = inner.signer.keys();
        let verified = verify(token, &keys.set, &inner.parents, inner.clock.wall())?;
        // Nothing is allowed to be late: its holder asks us, who issued it, and clocks cannot be apart.
        if verified
            .claims()
            .expires_at()
            .is_none_or(|end| end <= inner.clock.wall())
        {
            return Err(Denial::TokenExpired.into());
        }
        let marks = inner
            .index
            .marks(&inner.settings.issuer, verified.claims(), verified.kid());
        inner.index.check(&marks)?;
        let id = verified
            .claims()
            .token_id()
            .and_then(|id| inner.signer.ids().read(id));
        id.filter(|id| id.token_type() == TokenType::Parent)
            .ok_or_else(|| Denial::TypeRejected.into())
    }

    /// The family's next child, or the latest one where it was minted just now. For any number of parallel calls there
    /// is one.
    pub(crate) async fn renew(&self, parent_token: &str) -> Result<Renewed, Failure> {
        let parent = self.check_parent(parent_token)?;
        let renewed = self.flight(parent.as_str()).await?;
        // What was revoked while it was minted is not handed out.
        self.check_parent(parent_token)?;
        Ok(renewed)
    }

    /// The renewal of a family that is under way, or one that begins.
    fn flight(&self, parent: &str) -> Flight {
        let mut renewing = lock(&self.0.renewing);
        if let Some(flight) = renewing.get(parent) {
            return flight.clone();
        }
        let (service, name) = (self.clone(), parent.to_owned());
        let landed = self.carry_out(async move {
            let renewed = service.renew_family(&name).await;
            // Before it is told: who asks from now on finds the child in the store.
            lock(&service.0.renewing).remove(&name);
            renewed
        });
        let landed = landed.map(|landed| landed.unwrap_or_else(|_| Err(unanswered())));
        let flight = landed.boxed().shared();
        renewing.insert(parent.to_owned(), flight.clone());
        flight
    }

    async fn renew_family(&self, parent: &str) -> Result<Renewed, Failure> {
        let mut family = self.family(parent).await?;
        loop {
            let now = self.0.clock.wall();
            if let Some(latest) = &family.latest
                && self
                    .0
                    .settings
                    .renewal
                    .gives_again(latest.issued_at, latest.expires_at, now)
                && let Some(renewed) = self.given_again(&family, latest)?
            {
                return Ok(renewed);
            }
            self.admit_renewal(parent)?;
            match self.next_child(&family).await? {
                Next::Minted(renewed) => return Ok(renewed),
                Next::Behind(newer) => family = newer,
                Next::Over(denial) => return Err(denial.into()),
            }
        }
    }

    /// Takes one of the renewals that a family may have in a minute.
    fn admit_renewal(&self, parent: &str) -> Result<(), Failure> {
        let now = self.0.clock.steady();
        let minute = Duration::from_secs(60);
        let each = minute / MAX_RENEWALS_PER_MINUTE;
        let full_at = self.0.renewals.get(parent).unwrap_or(now).max(now) + each;
        let over = full_at.since(now + minute);
        if !over.is_zero() {
            return Err(Failure::TooMany { wait: over });
        }
        self.0.renewals.insert(parent.to_owned(), full_at);
        Ok(())
    }

    /// The latest child of a family, if there is one.
    pub(crate) async fn latest(&self, parent: &str) -> Result<Option<Renewed>, Failure> {
        let family = self.family(parent).await?;
        match &family.latest {
            Some(latest) => self.given_again(&family, latest),
            None => Ok(None),
        }
    }

    /// Follows a family.
    pub(crate) async fn follow(&self, parent: &str) -> Result<Follower, Failure> {
        let follower = self.0.hub.follow(parent).ok_or(Failure::TooManyStreams)?;
        // Looked at once the news is heard, so that nothing is missed between the two.
        let family = self.family(parent).await?;
        let marks = self.marks(&family)?;
        Ok(follower.of(family.sequence, family.expires_at, marks))
    }

    /// Whether a family that is followed has been revoked, by whatever rule.
    pub(crate) fn still_good(&self, follower: &Follower) -> bool {
        follower
            .marks()
            .is_none_or(|marks| self.0.index.check(marks).is_ok())
    }

    /// What a family's parent can be refused by.
    fn marks(&self, family: &Family) -> Result<Marks, Failure> {
        let template = Template::read(family)?;
        let claims = json!({ "jti": family.parent_jti, "sub": family.user_id, "iat": template.issued_at });
        let claims = Claims::parse(claims.to_string().as_bytes())?;
        Ok(self
            .0
            .index
            .marks(&self.0.settings.issuer, &claims, Some(&template.kid)))
    }

    /// Ends a token, and its children where it is a parent. `false`: the id is none of ours, and nothing was written.
    pub(crate) async fn revoke_token(&self, jti: &str) -> Result<bool, Failure> {
        let inner = &self.0;
        let Some(id) = inner.signer.ids().read(jti) else {
            return Ok(false);
        };
        let (rule, stored) = match id.token_type() {
            TokenType::Parent => (
                Rule::Family(jti.to_owned()),
                RevocationRule::Parent(jti.to_owned()),
            ),
            TokenType::Access | TokenType::Child => {
                (Rule::Token(jti.to_owned()), RevocationRule::Jti(jti.to_owned()))
            }
        };
        self.record(&rule, stored, Some(id.expires_at())).await?;
        inner.hub.tell(jti, News::Ended(Ending::Revoked));
        Ok(true)
    }

    /// Ends everything that was issued to a user until now, by one record.
    pub(crate) async fn revoke_user(&self, user_id: &str) -> Result<(), Failure> {
        let inner = &self.0;
        let issuer = &inner.settings.issuer;
        let latest = || Timestamp::from_secs(inner.latest_issue.load(Ordering::Acquire));
        for _ in 0..USER_ATTEMPTS {
            let now = inner.clock.wall().max(latest());
            let previous = inner.index.subject_not_before(issuer, user_id);
            let not_before = subject_not_before(now, previous).ok_or(Failure::TooSoon)?;
            let rule = Rule::Subject {
                sub: user_id.to_owned(),
                not_before,
            };
            let stored = RevocationRule::Subject {
                sub: user_id.to_owned(),
                not_before: Timestamp::from_secs(not_before),
            };
            self.record(&rule, stored, None).await?;
            // What was stamped in a later second, while that was written, is covered as well.
            if latest().as_secs() <= not_before {
                break;
            }
        }
        Ok(())
    }

    /// Durable first, then in force, then acknowledged.
    async fn record(
        &self,
        rule: &Rule,
        stored: RevocationRule,
        expires_at: Option<Timestamp>,
    ) -> Result<(), Failure> {
        let inner = &self.0;
        let now = inner.clock.wall();
        // Lifetimes may be shorter now than they were when a published key signed.
        let longest = inner
            .settings
            .lifetimes
            .max
            .max(inner.signer.keys().longest_token);
        let kept_until = rule.kept_until(expires_at, longest, now);
        let revocation = Revocation {
            id: signer_id()?,
            issuer: inner.settings.issuer.clone(),
            rule: stored,
            expires_at: kept_until,
            created_at: now,
            note: String::new(),
        };
        inner.ledger.revoke(&revocation).await?;
        inner.index.insert(&inner.settings.issuer, rule, kept_until);
        // A family is told by its name, and a single token is nobody's to follow.
        if !matches!(rule, Rule::Token(_) | Rule::Family(_)) {
            inner.hub.look_again();
        }
        telemetry::revocations(inner.index.len());
        Ok(())
    }

    async fn family(&self, parent: &str) -> Result<Family, Failure> {
        let family = self.0.ledger.family(parent).await?;
        // A family goes with its parent's revocation, and long after its parent's end.
        let family = family.ok_or(Denial::TokenRevoked)?;
        self.0.index.check(&self.marks(&family)?)?;
        Ok(family)
    }

    /// Mints and records the next child of a family.
    pub(super) async fn next_child(&self, family: &Family) -> Result<Next, Failure> {
        let inner = &self.0;
        let template = Template::read(family)?;
        if let Err(denial) = inner.index.check(&self.marks(family)?) {
            return Ok(Next::Over(denial));
        }
        let profile = template.profile();
        let minted = self.child(
            &template.client,
            &profile,
            &family.parent_jti,
            template.child_lifetime,
            family.expires_at,
        );
        let (minted, stamp) = match minted {
            Err(Failure::Denied(denial)) => return Ok(Next::Over(denial)),
            other => other?,
        };
        let next = next_renewal(
            &inner.settings.renewal,
            stamp.issued_at(),
            stamp.expires_at(),
            family.expires_at,
        );
        let next = next.filter(|_| template.auto_renew);
        let child = self.seal(&minted, stamp)?;
        let recorded = inner
            .ledger
            .record_child(&family.parent_jti, family.sequence, &child, next)
            .await?;
        match recorded {
            Recorded::Stored(sequence) => {
                inner.hub.tell(&family.parent_jti, News::Child(sequence));
                if next.is_some() {
                    inner.wake.notify_one();
                }
                Ok(Next::Minted(Renewed {
                    child: minted,
                    renewed_at: child.issued_at,
                    sequence,
                }))
            }
            Recorded::Behind(newer) => Ok(Next::Behind(*newer)),
            Recorded::Gone => Ok(Next::Over(Denial::TokenRevoked)),
        }
    }

    /// Drops revocations whose tokens have all expired.
    pub(super) fn prune_index(&self, now: Timestamp) {
        self.0.index.prune(now);
        telemetry::revocations(self.0.index.len());
    }

    /// Tells those who follow a family that its parent has expired.
    pub(super) fn expired(&self, parent: &str) {
        self.0.hub.tell(parent, News::Ended(Ending::Expired));
    }

    /// The latest child once more, unless it was revoked or cannot be read any more.
    fn given_again(&self, family: &Family, latest: &Child) -> Result<Option<Renewed>, Failure> {
        let Some(renewed) = self.renewed(family, latest) else {
            return Ok(None);
        };
        let token = Token::parse(&renewed.child.token, MAX_TOKEN_BYTES)?;
        let marks = self
            .0
            .index
            .marks(&self.0.settings.issuer, token.claims(), Some(&renewed.child.kid));
        Ok(self.0.index.check(&marks).is_ok().then_some(renewed))
    }

    /// A stored child. None where it does not open: its encryption key was taken away, and the next renewal replaces it.
    fn renewed(&self, family: &Family, latest: &Child) -> Option<Renewed> {
        let opened = signer::open(self.0.signer.sealer(), &purpose(&latest.jti), &latest.token);
        let token = opened
            .inspect_err(|error| tracing::warn!(jti = latest.jti, %error, "a stored child cannot be read"))
            .ok()?;
        let kid = Token::parse(&token, MAX_TOKEN_BYTES)
            .ok()?
            .header()
            .kid()?
            .to_owned();
        Some(Renewed {
            child: Minted {
                token,
                id: latest.jti.clone(),
                kid,
                expires_at: latest.expires_at,
            },
            renewed_at: latest.issued_at,
            sequence: family.sequence,
        })
    }

    fn child(
        &self,
        client: &str,
        profile: &Profile,
        parent: &str,
        lifetime: u64,
        parent_ends: Timestamp,
    ) -> Result<(Minted, Stamp), Failure> {
        let stamp = self
            .stamp(&profile.user_id, lifetime)
            .ending_by(parent_ends)
            .ok_or(Denial::TokenExpired)?;
        let minted = self.sign(client, profile, TokenType::Child, Some(parent), stamp)?;
        Ok((minted, stamp))
    }

    fn seal(&self, minted: &Minted, stamp: Stamp) -> Result<Child, Failure> {
        Ok(Child {
            jti: minted.id.clone(),
            token: signer::seal(self.0.signer.sealer(), &purpose(&minted.id), &minted.token)?,
            issued_at: stamp.issued_at(),
            expires_at: stamp.expires_at(),
        })
    }

    fn stamp(&self, user_id: &str, lifetime: u64) -> Stamp {
        let inner = &self.0;
        let not_before = inner.index.subject_not_before(&inner.settings.issuer, user_id);
        let now = inner.clock.wall();
        // The clock's second and not the stamp's, which one subject's revocations may have moved ahead.
        inner.latest_issue.fetch_max(now.as_secs(), Ordering::AcqRel);
        Stamp::new(now, not_before, lifetime)
    }

    fn sign(
        &self,
        client: &str,
        profile: &Profile,
        token_type: TokenType,
        parent: Option<&str>,
        stamp: Stamp,
    ) -> Result<Minted, Failure> {
        let inner = &self.0;
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| Failure::Internal("no randomness".into()))?;
        let id = inner.signer.ids().issue(token_type, stamp.expires_at(), random);
        let issued = Issued {
            issuer: &inner.settings.issuer,
            client,
            profile,
            id: &id,
            parent,
            stamp,
        };
        let keys = inner.signer.keys();
        let token = keys
            .signer
            .sign(token_type.header_typ(), &issued.claims())
            .map_err(|error| match error {
                SignError::TooLarge => Failure::TooLarge,
                SignError::Failed => Failure::Internal("the cryptographic library failed".into()),
            })?;
        telemetry::minted(token_type.name());
        Ok(Minted {
            token,
            id: id.as_str().to_owned(),
            kid: keys.signer.kid().to_owned(),
            expires_at: stamp.expires_at(),
        })
    }
}

/// What became of a renewal.
pub(super) enum Next {
    Minted(Renewed),
    /// Another child was minted in the meantime.
    Behind(Family),
    /// There can be no more.
    Over(Denial),
}

/// The work ended without an answer: its panic, or the end of the process.
fn unanswered() -> Failure {
    Failure::Internal("the call was not carried out to its end".into())
}

/// What a panicking holder left behind is still whole: every change under these locks is a single step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn signer_id() -> Result<String, Failure> {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Failure::Internal("no randomness".into()))?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}
