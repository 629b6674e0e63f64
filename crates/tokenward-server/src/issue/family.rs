//! A parent and its children: opened, renewed, read and followed.

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokenward_core::{
    Denial, Timestamp, Verified,
    claims::{Claim, Claims},
    jose::{MAX_TOKEN_BYTES, Token},
    revocation::Marks,
    session::{Kin, PairRequest, Profile, RENEWALS, Stamp, TokenId, first_renewal, next_renewal},
};
use tokenward_store::{Child, Family, Origin, Recorded};

use super::{
    allowed,
    failure::Failure,
    hub::{Ending, Follower, News},
    service::{Minted, Pair, Renewed, TokenService, lock, unanswered},
};
use crate::{config::Credential, signer, telemetry::Parent};

/// A parent token that was shown, and is good.
pub(crate) type Shown = (Verified, TokenId);

/// A family that somebody asks about.
pub(super) struct Asked {
    pub(super) parent: String,
    /// By what the holder shows.
    pub(super) shown: Option<Shown>,
}

/// One renewal under way.
pub(super) type Flight = Shared<BoxFuture<'static, Result<Renewed, Failure>>>;

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
    fn of(client: &str, request: &PairRequest, issued_at: Timestamp, kid: &str) -> Self {
        let profile = request.profile.clone();
        Self {
            client: client.to_owned(),
            user_id: profile.user_id,
            network: profile.network,
            rate_limit: profile.rate_limit,
            scope: profile.scope,
            audience: profile.audience,
            claims: profile.claims,
            issued_at: issued_at.as_secs(),
            kid: kid.to_owned(),
            child_lifetime: request.child_lifetime,
            auto_renew: request.auto_renew,
        }
    }

    fn write(&self) -> Result<Vec<u8>, Failure> {
        serde_json::to_vec(self).map_err(|error| Failure::Internal(error.to_string()))
    }

    fn read(family: &Family) -> Result<Self, Failure> {
        serde_json::from_slice(&family.profile).map_err(|_| {
            Failure::Internal(format!(
                "the record of the family {} is damaged",
                family.parent_jti
            ))
        })
    }

    /// What the parent can be revoked by.
    fn origin(&self, issuer: &str) -> Origin {
        Origin {
            issuer: issuer.to_owned(),
            issued_at: Timestamp::from_secs(self.issued_at),
            kid: self.kid.clone(),
        }
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
    pub(super) async fn open_family(&self, client: &str, request: &PairRequest) -> Result<Pair, Failure> {
        let inner = &self.0;
        let profile = &request.profile;
        let stamp = self.stamp(&profile.user_id, request.parent_lifetime);
        let kin = Kin::Parent {
            child_lifetime: request.child_lifetime,
            auto_renew: request.auto_renew,
        };
        let parent = self.sign(client, profile, kin, stamp)?;
        let child = match request.include_child {
            true => Some(self.child(
                client,
                profile,
                &parent.id,
                request.child_lifetime,
                parent.expires_at,
            )?),
            false => {
                // Or nobody would hear that there cannot be one until the first is due.
                self.child_fits(client, profile, &parent.id, stamp)?;
                None
            }
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
        let template = Template::of(client, request, stamp.issued_at(), &parent.kid).write()?;
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

    /// The next child of the family of a parent that is good, whose token is `parent_token`, or the latest one where it was
    /// minted just now. For any number of parallel calls there is one.
    pub(crate) async fn renew_by(&self, parent_token: &str, parent: &Shown) -> Result<Renewed, Failure> {
        let id = parent.1.as_str();
        let mut renewed = self.flight(id).await;
        if is_lost(&renewed) && self.reopen(parent).await? {
            renewed = self.flight(id).await;
        }
        let renewed = renewed?;
        // What was revoked while it was minted is not handed out.
        self.parent(parent_token)?;
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
        let mut limit = self.0.renewals.get(parent).unwrap_or_default();
        let taken = limit.take(RENEWALS, self.0.clock.steady());
        taken.map_err(Failure::TooMany)?;
        self.0.renewals.insert(parent.to_owned(), limit);
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

    /// The latest child of a family that somebody asks about, if there is one.
    pub(super) async fn latest_of(&self, asked: &Asked) -> Result<Option<Renewed>, Failure> {
        let latest = self.latest(&asked.parent).await;
        match &asked.shown {
            Some(parent) if is_lost(&latest) && self.reopen(parent).await? => {
                self.latest(&asked.parent).await
            }
            _ => latest,
        }
    }

    /// Follows a family that somebody asks about.
    pub(super) async fn follow_of(&self, asked: &Asked) -> Result<Follower, Failure> {
        let follower = self.follow(&asked.parent).await;
        match &asked.shown {
            Some(parent) if is_lost(&follower) && self.reopen(parent).await? => {
                self.follow(&asked.parent).await
            }
            _ => follower,
        }
    }

    /// Opens the family of a parent that is good anew, where a store that several processes share has lost it. `false`: there is
    /// none, since the parent is revoked or the store loses nothing.
    async fn reopen(&self, (parent, id): &Shown) -> Result<bool, Failure> {
        let inner = &self.0;
        // Until the store is known to be complete, what is not revoked in it may be.
        if !inner.signer.is_joined() {
            return Err(Failure::Joining);
        }
        let claims = parent.claims();
        let (Some(request), Some(issued_at), Some(ends)) = (
            PairRequest::of_parent(claims),
            claims.issued_at(),
            claims.expires_at(),
        ) else {
            return Ok(false);
        };
        let client = claims.get("client_id").and_then(Claim::as_str);
        let template = Template::of(
            client.unwrap_or_default(),
            &request,
            issued_at,
            parent.kid().unwrap_or_default(),
        );
        let now = inner.clock.wall();
        let first = first_renewal(&inner.settings.renewal, now, None, ends);
        let family = Family {
            parent_jti: id.as_str().to_owned(),
            user_id: request.profile.user_id,
            profile: template.write()?,
            expires_at: ends,
            // Those who follow have seen children of the lost one: it had fewer of them than milliseconds have passed.
            sequence: u64::try_from(now.as_millis()).unwrap_or(0),
            latest: None,
            next_renewal: first.filter(|_| request.auto_renew),
        };
        let reopened = inner
            .ledger
            .reopen_family(&inner.settings.issuer, &family)
            .await?;
        if reopened {
            tracing::info!(
                parent_jti = family.parent_jti,
                "a family that the store had lost is there again"
            );
            inner.wake.notify_one();
        }
        Ok(reopened)
    }

    /// Lets `credential` read a family that it may read.
    ///
    /// # Errors
    ///
    /// For any other the same as where there is none.
    pub(super) async fn let_read(&self, credential: &Credential, parent: &str) -> Result<(), Failure> {
        if credential.allow.is_open() {
            return Ok(());
        }
        let family = self.0.ledger.family(parent).await?;
        let family = family.ok_or(Denial::TokenRevoked)?;
        let template = Template::read(&family)?;
        let lifetime = family.expires_at.since(Timestamp::from_secs(template.issued_at));
        let lifetimes = [
            ("parent_expires_in", lifetime.as_secs()),
            ("child_expires_in", template.child_lifetime),
        ];
        match allowed::may_read(credential, &template.client, &template.profile(), &lifetimes) {
            true => Ok(()),
            false => Err(Denial::TokenRevoked.into()),
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
    pub(super) fn marks(&self, family: &Family) -> Result<Marks, Failure> {
        let template = Template::read(family)?;
        let claims = json!({ "jti": family.parent_jti, "sub": family.user_id, "iat": template.issued_at });
        let claims = Claims::parse(claims.to_string().as_bytes())?;
        Ok(self
            .0
            .index
            .marks(&self.0.settings.issuer, &claims, Some(&template.kid)))
    }

    /// Whether a family's children are renewed without being asked for.
    pub(super) fn is_renewed(family: &Family) -> bool {
        Template::read(family).is_ok_and(|template| template.auto_renew)
    }

    /// What the metrics show of a family's parent.
    pub(super) fn shown(&self, family: &Family) -> Result<Parent, Failure> {
        let template = Template::read(family)?;
        Ok(Parent {
            parent_jti: family.parent_jti.clone(),
            user_id: template.user_id,
            network: template.network,
            issued_at: Timestamp::from_secs(template.issued_at),
            expires_at: family.expires_at,
        })
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
        match inner.index.admit(&self.marks(family)?, inner.clock.steady()) {
            // Nobody knows here whether it may go on.
            Err(denial) if denial.is_outage() => return Err(denial.into()),
            Err(denial) => return Ok(Next::Over(denial)),
            Ok(()) => {}
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
        let origin = template.origin(&inner.settings.issuer);
        let recorded = inner
            .ledger
            .record_child(&family.parent_jti, &origin, family.sequence, &child, next)
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
            Recorded::Revoked(id) => {
                // By another process, and not heard of here yet.
                inner.revocations.notice(&id).await?;
                Ok(match inner.index.check(&self.marks(family)?) {
                    Err(denial) => Next::Over(denial),
                    // It was taken back meanwhile.
                    Ok(()) => Next::Behind(family.clone()),
                })
            }
        }
    }

    /// Hears that other processes of the store may have recorded children that nobody told of: asks for each family that
    /// somebody follows.
    pub(crate) async fn missed_children(&self) -> Result<(), Failure> {
        for parent in self.0.hub.followed() {
            if let Some(family) = self.0.ledger.family(&parent).await? {
                self.heard_child(&parent, family.sequence);
            }
        }
        Ok(())
    }

    /// Hears that another process of the store has recorded a child: so many has its family had.
    pub(crate) fn heard_child(&self, parent: &str, sequence: u64) {
        self.0.hub.tell(parent, News::Child(sequence));
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
        let minted = self.sign(client, profile, Kin::ChildOf(parent), stamp)?;
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
}

/// Whether a family was not found; its parent may be revoked, too.
fn is_lost<T>(found: &Result<T, Failure>) -> bool {
    matches!(found, Err(Failure::Denied(Denial::TokenRevoked)))
}

/// What became of a renewal.
pub(super) enum Next {
    Minted(Renewed),
    /// Another child was minted in the meantime.
    Behind(Family),
    /// There can be no more.
    Over(Denial),
}
