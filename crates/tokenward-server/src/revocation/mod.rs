//! What is refused although its signature is good: kept in the ledger, asked of the index, forgotten once it is over.
//!
//! Whoever ends tokens or keys comes here, so that ledger and index never say different things. It needs no token service:
//! tokens of every trusted issuer can be refused.

mod elsewhere;
mod past;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    hash::RandomState,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokenward::Registry;
use tokenward_core::{
    Clock, Timestamp,
    revocation::{Index, LONGEST_LEEWAY, Rule, subject_not_before},
    session::{TokenId, TokenType},
};
use tokenward_store::{Ledger, Replicated, Revocation, RevocationRule, StoreError};
use tokio::sync::RwLock;

pub(crate) use self::elsewhere::Bounds;
use self::past::Past;
use crate::telemetry;

/// Records that are read at once.
const PAGE: usize = 10_000;
/// How often what has ended is forgotten.
const PRUNING: Duration = Duration::from_secs(600);
/// How often the revocation of one of our users is written where a second passes while it is: enough for a store that takes
/// seconds.
const USER_ATTEMPTS: usize = 4;

/// The revocations. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Revocations(Arc<Inner>);

struct Inner {
    ledger: Arc<dyn Ledger>,
    index: Arc<Index>,
    clock: Arc<dyn Clock>,
    /// Those who record go together, and share the commits of the store. Who deletes is alone: a record that is made anew
    /// meanwhile would be in the ledger and not in the index.
    turn: RwLock<()>,
    own: OnceLock<Weak<dyn Issuer>>,
    /// Where those are found who trust an issuer.
    registry: OnceLock<Registry>,
    past: Past,
    /// How far the clocks of those who mint our tokens may be apart.
    margin: Duration,
    /// Whether `past` goes on from something that was stored here.
    is_dated: bool,
}

/// How far the times that two replicas take for the store's may be apart.
const MARGIN: Duration = Duration::from_millis(250);

/// What the one who issues tokens here knows of them.
pub(crate) trait Issuer: Send + Sync {
    /// Their `iss`.
    fn name(&self) -> &str;
    /// The longest that one of them may live.
    fn longest(&self) -> Duration;
    /// What an id says, if it is one of ours.
    ///
    /// # Errors
    ///
    /// [`Failed::NoKeys`] where nobody can know yet.
    fn read(&self, jti: &str) -> Result<Option<TokenId>, Failed>;
    /// The latest second in which one was issued: a revocation must not be dated before it, though the clock be set back.
    fn latest_issue(&self) -> Timestamp;
    /// Hears of each revocation among them, once it is in force.
    fn revoked(&self, rule: &Rule);
}

/// What is to be refused from now on.
#[derive(Debug)]
pub(crate) struct Order {
    /// Whose tokens: the exact `iss`.
    pub(crate) issuer: String,
    pub(crate) target: Target,
    /// When what is named ends, where somebody knows.
    pub(crate) expires_at: Option<Timestamp>,
    /// The longest that a token of the issuer may live; none where there is no limit. Of our own tokens it is known better here.
    pub(crate) longest: Option<Duration>,
    /// How far ahead the clock of another issuer may be by its policy.
    pub(crate) leeway: Duration,
    pub(crate) note: String,
}

/// What is named.
#[derive(Debug)]
pub(crate) enum Target {
    /// The token of this id and, where it is a parent of ours, its children.
    Token(String),
    /// What was issued to this subject until now, by its issuer's clock.
    Subject(String),
    /// The tokens of this session.
    Session(String),
    /// What this key signed.
    Key(String),
    /// What was issued before this time.
    IssuedBefore(Timestamp),
}

impl Target {
    /// The member of a request that names it.
    pub(crate) const fn member(&self) -> &'static str {
        match self {
            Self::Token(_) => "jti",
            Self::Subject(_) => "sub",
            Self::Session(_) => "sid",
            Self::Key(_) => "kid",
            Self::IssuedBefore(_) => "issued_before",
        }
    }
}

impl Order {
    /// One of our own issuer's, about which nothing else is known.
    pub(crate) fn own(issuer: &str, target: Target) -> Self {
        Self {
            issuer: issuer.to_owned(),
            target,
            expires_at: None,
            longest: None,
            leeway: Duration::ZERO,
            note: String::new(),
        }
    }
}

/// Why nothing was revoked.
#[derive(Debug)]
pub(crate) enum Failed {
    /// So many revocations of one of our users in a few seconds that their times would run ahead of the clock.
    TooSoon,
    /// Each time it was written another second had begun, in which tokens were issued that it does not cover.
    Overtaken,
    /// The store did not take it.
    Store(StoreError),
    /// The system has no randomness to give.
    NoRandomness,
    /// Which ids are ours is not known yet: there are no keys.
    NoKeys,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSoon => f.write_str("too many revocations of one subject"),
            Self::Overtaken => f.write_str("tokens were issued while the revocation was stored"),
            Self::Store(error) => error.fmt(f),
            Self::NoRandomness => f.write_str("no randomness"),
            Self::NoKeys => f.write_str("there are no keys yet"),
        }
    }
}

impl std::error::Error for Failed {}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Revocations {
    /// What the ledger holds, in force.
    ///
    /// # Errors
    ///
    /// If it cannot be read: without it what was revoked would be accepted.
    pub(crate) async fn load(ledger: Arc<dyn Ledger>, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let (index, newest) = read(&*ledger).await?;
        let pruned_at = ledger.pruned_at().await?;
        let past = Past::new(pruned_at.or(newest), &*clock);
        if pruned_at.is_none() {
            // So that the next process goes on from here, even if this one ends before it forgets anything.
            let written = ledger.prune(past.look(&*clock)).await;
            let _ = written
                .inspect_err(|error| tracing::warn!(%error, "the time of the store cannot be written"));
        }
        Ok(Self::new(ledger, index, clock, (past, true), Duration::ZERO))
    }

    /// What a replica knows by itself, in force: the rest is heard later. `clock` is the store's.
    ///
    /// # Errors
    ///
    /// If its journal cannot be read.
    pub(crate) async fn replica(
        ledger: Arc<dyn Ledger>,
        journal: &dyn Ledger,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let (index, newest) = read(journal).await?;
        // Until the store says what may be forgotten, nothing else than what this replica forgot itself.
        let last = journal.pruned_at().await?.or(newest);
        let past = Past::new(Some(last.unwrap_or_default()), &*clock);
        Ok(Self::new(ledger, index, clock, (past, last.is_some()), MARGIN))
    }

    fn new(
        ledger: Arc<dyn Ledger>,
        index: Arc<Index>,
        clock: Arc<dyn Clock>,
        (past, is_dated): (Past, bool),
        margin: Duration,
    ) -> Self {
        Self(Arc::new(Inner {
            ledger,
            index,
            clock,
            turn: RwLock::default(),
            own: OnceLock::new(),
            registry: OnceLock::new(),
            past,
            margin,
            is_dated,
        }))
    }

    /// What was over may be forgotten from now on: where the store forgot something last, at `pruned_at`, or, where nobody ever
    /// forgot anything, now, at `time` by the store's clock. A store that lost what it had, with a clock that is ahead, is no
    /// reason to forget.
    pub(crate) fn resume(&self, pruned_at: Option<Timestamp>, time: Timestamp) {
        let inner = &self.0;
        if let Some(past) = pruned_at.or((!inner.is_dated).then_some(time)) {
            inner.past.raise(past, &*inner.clock);
        }
    }

    /// Refuses what another replica has revoked: it is durable already.
    pub(crate) fn heard(&self, records: &[Revocation]) {
        let own = self.own();
        for record in records {
            let rule = rule_of(&record.rule);
            let wider = self.0.index.insert(&record.issuer, &rule, record.expires_at);
            if let Some(own) = own.as_ref().filter(|own| wider && own.name() == record.issuer) {
                own.revoked(&rule);
            }
        }
        telemetry::revocations(self.0.index.len());
    }

    /// Refuses at once what another process has revoked, by the record of this id, and is not heard of yet.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub(crate) async fn notice(&self, id: &str) -> Result<(), StoreError> {
        // Who takes it back at this moment comes before or after.
        let _together = self.0.turn.read().await;
        if let Some(record) = self.0.ledger.revocation(id).await? {
            self.heard(&[record]);
        }
        Ok(())
    }

    /// Takes back what another replica has deleted, unless it was revoked again.
    pub(crate) async fn forget(
        &self,
        store: &Replicated,
        issuer: &str,
        rule: &RevocationRule,
    ) -> Result<(), StoreError> {
        let inner = &self.0;
        // Who revokes it again at this moment would be forgotten with it.
        let _alone = inner.turn.write().await;
        match store.forget(issuer, rule).await? {
            None => {
                inner.index.remove(issuer, &rule_of(rule));
                telemetry::revocations(inner.index.len());
            }
            // It may have come while it was deleted here, and have been taken back with what it came after.
            Some(record) => self.heard(&[record]),
        }
        Ok(())
    }

    /// What is asked at every use of a token.
    pub(crate) fn index(&self) -> &Arc<Index> {
        &self.0.index
    }

    /// Makes known who issues tokens here. Only the first is taken.
    pub(crate) fn issued_by(&self, own: Weak<dyn Issuer>) {
        // There is one token service in a process.
        let _ = self.0.own.set(own);
    }

    /// Whether this is the id of a token of ours.
    pub(crate) fn is_own(&self, jti: &str) -> bool {
        self.own()
            .is_some_and(|own| own.read(jti).is_ok_and(|id| id.is_some()))
    }

    /// Makes known who trusts which issuer. Only the first is taken.
    pub(crate) fn trusted_by(&self, registry: Registry) {
        let _ = self.0.registry.set(registry);
    }

    /// What those allow who trust `issuer`, us aside. None: nobody does.
    pub(crate) fn elsewhere(&self, issuer: &str) -> Option<Bounds> {
        elsewhere::bounds(self.0.registry.get()?, issuer)
    }

    /// The longest that a token may live that bears the name of our own issuer: of those that we signed, and of those that another
    /// tenant accepts by that name.
    fn longest(&self, own: &dyn Issuer) -> Option<Duration> {
        let signed = Some(own.longest());
        match self.elsewhere(own.name()) {
            Some(bounds) => elsewhere::longest(signed, bounds.longest),
            None => signed,
        }
    }

    /// The issuer of our own tokens, where there are any.
    pub(crate) fn own_issuer(&self) -> Option<String> {
        self.own().map(|own| own.name().to_owned())
    }

    fn own(&self) -> Option<Arc<dyn Issuer>> {
        self.0.own.get()?.upgrade()
    }

    /// Refuses what `order` names: durably, then in force, then acknowledged. Where there is a record of it already that one
    /// grows, and keeps its id.
    pub(crate) async fn revoke(&self, order: Order) -> Result<Revocation, Failed> {
        let Order {
            issuer,
            target,
            mut expires_at,
            mut longest,
            leeway,
            note,
        } = order;
        let own = self.own().filter(|own| own.name() == issuer);
        if let Some(own) = &own {
            longest = self.longest(&**own);
        }
        let rule = match (target, own) {
            (Target::Subject(sub), Some(own)) => {
                return self.revoke_user(&*own, &sub, expires_at, &note).await;
            }
            (Target::Subject(sub), None) => Rule::Subject {
                sub,
                not_before: (self.0.clock.wall() + leeway).as_secs(),
            },
            (Target::Token(jti), own) => match own.map(|own| own.read(&jti)).transpose()?.flatten() {
                Some(id) => {
                    expires_at = expires_at.max(Some(id.expires_at()));
                    match id.token_type() {
                        TokenType::Parent => Rule::Family(jti),
                        TokenType::Access | TokenType::Child => Rule::Token(jti),
                    }
                }
                None => Rule::Token(jti),
            },
            (Target::Session(sid), _) => Rule::Session(sid),
            (Target::Key(kid), _) => Rule::Key(kid),
            (Target::IssuedBefore(time), _) => Rule::IssuedBefore(time),
        };
        self.record(&issuer, &rule, (expires_at, longest), &note).await
    }

    /// Ends everything that was issued to a user of ours until now, by one record.
    async fn revoke_user(
        &self,
        own: &dyn Issuer,
        user_id: &str,
        expires_at: Option<Timestamp>,
        note: &str,
    ) -> Result<Revocation, Failed> {
        for _ in 0..USER_ATTEMPTS {
            let now = self.latest_accepted(own);
            let previous = self.0.index.subject_not_before(own.name(), user_id);
            let not_before = subject_not_before(now, previous).ok_or(Failed::TooSoon)?;
            let rule = Rule::Subject {
                sub: user_id.to_owned(),
                not_before,
            };
            let life = (expires_at, self.longest(own));
            let record = self.record(own.name(), &rule, life, note).await?;
            // What was stamped in a later second, while that was written, must be covered as well.
            if self.latest_accepted(own).as_secs() <= not_before {
                return Ok(record);
            }
        }
        Err(Failed::Overtaken)
    }

    /// The latest time at which a token that anybody accepts by now may have been issued. What a clock dated that was further
    /// ahead than verifiers forgive is not waited for: its users would be locked out until then.
    fn latest_accepted(&self, own: &dyn Issuer) -> Timestamp {
        let wall = self.0.clock.wall() + self.0.margin;
        wall.max(own.latest_issue().min(wall + LONGEST_LEEWAY))
    }

    async fn record(
        &self,
        issuer: &str,
        rule: &Rule,
        (expires_at, longest): (Option<Timestamp>, Option<Duration>),
        note: &str,
    ) -> Result<Revocation, Failed> {
        let inner = &self.0;
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| Failed::NoRandomness)?;
        let now = inner.clock.wall();
        // By a clock that is behind a record would be short-lived.
        let kept_from = now.max(inner.past.look(&*inner.clock));
        let revocation = Revocation {
            id: URL_SAFE_NO_PAD.encode(random),
            issuer: issuer.to_owned(),
            rule: stored(rule),
            expires_at: rule.kept_until(expires_at, longest, kept_from),
            created_at: now,
            note: note.to_owned(),
        };
        let effective = {
            let _together = inner.turn.read().await;
            let effective = inner.ledger.revoke(&revocation).await?.effective;
            inner
                .index
                .insert(issuer, &rule_of(&effective.rule), effective.expires_at);
            effective
        };
        if let Some(own) = self.own().filter(|own| own.name() == issuer) {
            own.revoked(rule);
        }
        telemetry::revocations(inner.index.len());
        Ok(effective)
    }

    /// At most `limit` records whose sequence is over `after`, those first that changed longest ago.
    pub(crate) async fn page(&self, after: u64, limit: usize) -> Result<Vec<(u64, Revocation)>, StoreError> {
        self.0.ledger.revocations(after, limit).await
    }

    /// The record of this id.
    pub(crate) async fn get(&self, id: &str) -> Result<Option<Revocation>, StoreError> {
        self.0.ledger.revocation(id).await
    }

    /// Takes a revocation back: what has not ended otherwise is accepted again. `false` where there is none of this id.
    pub(crate) async fn delete(&self, id: &str) -> Result<bool, StoreError> {
        let inner = &self.0;
        let _alone = inner.turn.write().await;
        let Some(record) = inner.ledger.revocation(id).await? else {
            return Ok(false);
        };
        let deleted = inner.ledger.delete_revocation(id).await?;
        inner.index.remove(&record.issuer, &rule_of(&record.rule));
        telemetry::revocations(inner.index.len());
        Ok(deleted)
    }

    /// Forgets revocations, and families, that have ended, for ever.
    pub(crate) async fn keep_pruning(self) {
        loop {
            self.0.clock.sleep(PRUNING).await;
            self.prune().await;
        }
    }

    async fn prune(&self) {
        let inner = &self.0;
        let past = inner.past.look(&*inner.clock);
        if past > inner.clock.wall() {
            // What the clock says is not over yet is accepted, unless it is refused.
            return;
        }
        inner.index.prune(past);
        telemetry::revocations(inner.index.len());
        // Each call removes so many at most, so that others get their turn between two.
        loop {
            match inner.ledger.prune(past).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "what has ended cannot be removed from the store");
                    break;
                }
            }
        }
    }
}

/// An index of all that a ledger holds, and when the newest of it was made.
async fn read(ledger: &dyn Ledger) -> Result<(Arc<Index>, Option<Timestamp>), StoreError> {
    // The index is keyed by a secret of this process.
    let index = Arc::new(Index::new(RandomState::new()));
    let mut newest = None;
    let mut page = ledger.revocations(0, PAGE).await?;
    while let Some((last, _)) = page.last() {
        // The store reads the next ones while these are put in force.
        let (next, ()) = tokio::join!(ledger.revocations(*last, PAGE), async {
            for (_, record) in &page {
                index.insert(&record.issuer, &rule_of(&record.rule), record.expires_at);
                newest = newest.max(Some(record.created_at));
            }
        });
        page = next?;
    }
    telemetry::revocations(index.len());
    Ok((index, newest))
}

/// The first time that a rule of the store does not refuse, which is how it is said outside.
pub(crate) fn issued_before(latest_refused: Timestamp) -> Timestamp {
    latest_refused + Duration::from_millis(1)
}

/// What a stored rule means to the index.
fn rule_of(stored: &RevocationRule) -> Rule {
    match stored {
        RevocationRule::Jti(jti) => Rule::Token(jti.clone()),
        RevocationRule::Parent(jti) => Rule::Family(jti.clone()),
        RevocationRule::Subject { sub, not_before } => Rule::Subject {
            sub: sub.clone(),
            not_before: not_before.as_secs(),
        },
        RevocationRule::Session(sid) => Rule::Session(sid.clone()),
        RevocationRule::Kid(kid) => Rule::Key(kid.clone()),
        RevocationRule::IssuedBefore(latest) => Rule::IssuedBefore(issued_before(*latest)),
    }
}

/// A rule as the store keeps it.
fn stored(rule: &Rule) -> RevocationRule {
    match rule {
        Rule::Token(jti) => RevocationRule::Jti(jti.clone()),
        Rule::Family(jti) => RevocationRule::Parent(jti.clone()),
        Rule::Subject { sub, not_before } => RevocationRule::Subject {
            sub: sub.clone(),
            not_before: Timestamp::from_secs(*not_before),
        },
        Rule::Session(sid) => RevocationRule::Session(sid.clone()),
        Rule::Key(kid) => RevocationRule::Kid(kid.clone()),
        Rule::IssuedBefore(time) => RevocationRule::IssuedBefore(*time - Duration::from_millis(1)),
    }
}
