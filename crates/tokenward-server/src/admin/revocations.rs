//! `/v1/revocations`: what is refused although nothing else is wrong with it, of any trusted issuer.

mod record;

use std::time::Duration;

use axum::{
    extract::{Path, RawQuery, Request, State, rejection::PathRejection},
    response::{IntoResponse as _, Response},
    routing::{delete, get, post},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokenward_core::{jose::MAX_TOKEN_BYTES, keyring::RingFault, revocation::LONGEST_LEEWAY};
use tokenward_store::{Revocation, StoreError};
use utoipa::{ToSchema, openapi::HttpMethod};

use self::record::Record;
use super::{
    Admin,
    call::{Call, json, no_content},
    keys, query,
};
use crate::{
    access::{About, Need, Refusal, Who},
    config::{Credential, Scope},
    http::{
        Members, Rejected, internal, not_found, overtaken, read, store_unavailable, too_many_requests,
        unavailable,
    },
    issue::narrow,
    openapi::{Operation, Parameter},
    revocation::{Bounds, Failed, Order, Target},
    signer::{SignerError, Unsigned},
};

/// Records on one page, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;

/// The longest note, in bytes.
const MAX_NOTE: usize = 1_024;

/// What can be named, one at a time.
const TARGETS: [&str; 5] = ["jti", "sub", "sid", "kid", "issued_before"];

const WRITE: Need = Need::Scope(Scope::TokensRevoke);
const READ: Need = Need::Either(Scope::TokensRead, Scope::TokensRevoke);

pub(super) fn calls() -> Vec<Call> {
    let on = |method, path: &str, id, summary| {
        Operation::new(method, format!("/v1/revocations{path}"), id, summary)
    };
    let unknown = "There is no such revocation.";
    let unread = "The store cannot be read.";
    vec![
        Call::reads(
            on(
                HttpMethod::Get,
                "",
                "revocations.list",
                "The revocations, those first that changed longest ago",
            )
            .query(Parameter::integer(
                "after",
                "`next` of the page before.",
                (0, i64::MAX),
            ))
            .query(Parameter::integer(
                "limit",
                "How many; 100.",
                (1, MAX_PAGE as i64),
            ))
            .answers::<Page>(StatusCode::OK, "Revocations, and where the next page begins.")
            .problem(StatusCode::SERVICE_UNAVAILABLE, unread),
            READ,
            get(list),
        ),
        Call::changes(
            on(
                HttpMethod::Post,
                "",
                "revocations.create",
                "Refuse tokens from now on",
            )
            .takes::<Wanted>()
            .answers::<Created>(
                StatusCode::CREATED,
                "They are refused. Where there was a record of the same already it has grown, and this is its id.",
            )
            .problem(
                StatusCode::CONFLICT,
                "The key cannot be taken out as the keys stand; nothing is refused.",
            ),
            WRITE,
            post(create),
        ),
        Call::reads(
            on(HttpMethod::Get, "/{id}", "revocations.get", "One revocation")
                .answers::<Record>(StatusCode::OK, "The revocation.")
                .problem(StatusCode::NOT_FOUND, unknown)
                .problem(StatusCode::SERVICE_UNAVAILABLE, unread),
            READ,
            get(show),
        ),
        Call::changes(
            on(
                HttpMethod::Delete,
                "/{id}",
                "revocations.delete",
                "Take a revocation back",
            )
            .answers_as(
                StatusCode::NO_CONTENT,
                "What has not ended otherwise is accepted again.",
                &[],
                None,
            )
            .problem(StatusCode::NOT_FOUND, unknown),
            WRITE,
            delete(remove),
        ),
    ]
}

/// What is to be refused: exactly one of `jti`, `sub`, `sid`, `kid` and `issued_before`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RevocationRequest)]
#[expect(dead_code, reason = "only its schema is used; Members reads it")]
struct Wanted {
    /// Whose tokens: the exact `iss`, of an identity provider of any tenant. The own issuer where it is absent.
    #[schema(nullable = false)]
    issuer: Option<String>,
    /// The token with this id; of a parent of ours its children too.
    #[schema(nullable = false)]
    jti: Option<String>,
    /// What was issued to this subject until now.
    #[schema(nullable = false)]
    sub: Option<String>,
    /// The tokens of this session.
    #[schema(nullable = false)]
    sid: Option<String>,
    /// What the key with this id signed.
    #[schema(nullable = false)]
    kid: Option<String>,
    /// What was issued before this time.
    #[schema(nullable = false, value_type = Option<String>, format = DateTime)]
    issued_before: Option<String>,
    /// When what is named ends, where that is known.
    #[schema(nullable = false, value_type = Option<String>, format = DateTime)]
    expires_at: Option<String>,
    /// At most 1024 bytes.
    #[schema(nullable = false)]
    note: Option<String>,
}

/// The revocation that is in force.
#[derive(Serialize, ToSchema)]
#[schema(as = RevocationCreated)]
struct Created {
    id: String,
}

/// Some of the revocations.
#[derive(Serialize, ToSchema)]
#[schema(as = RevocationPage)]
struct Page {
    revocations: Vec<Record>,
    /// `after` of the next page; nothing where there is none.
    next: Option<u64>,
}

async fn create(State(admin): State<Admin>, request: Request) -> Result<Response, Rejected> {
    let Some(Who(who)) = request.extensions().get().cloned() else {
        return Ok(internal());
    };
    let body = read(request.into_body(), &*admin.0.registry.clock()).await?;
    let order = admin.order(&body)?;
    if !admin.may_end(&order, &who) {
        return Ok(narrow(
            "The credential may end tokens of its own users only.",
            &[order.target.member()],
        ));
    }
    if let Err(refused) = admin.take_out(&order, &who).await {
        return Ok(refused);
    }
    Ok(match admin.0.revocations.revoke(order).await {
        Ok(Revocation { id, .. }) => {
            let about = About(format!("/v1/revocations/{id}"));
            let mut response = json(&Created { id });
            *response.status_mut() = StatusCode::CREATED;
            response.extensions_mut().insert(about);
            response
        }
        Err(Failed::TooSoon) => too_many_requests(Duration::from_secs(1)),
        Err(Failed::Overtaken) => overtaken(),
        Err(Failed::Store(error)) => failed(&error),
        Err(Failed::NoKeys) => {
            unavailable("keys_unavailable", "Keys unavailable", Unsigned::Missing.detail())
        }
        Err(error @ Failed::NoRandomness) => {
            tracing::error!(%error, "nothing can be revoked");
            internal()
        }
    })
}

async fn list(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Result<Response, Rejected> {
    let values = query::only(query.as_deref(), &["after", "limit"])?;
    let after = query::integer(&values, "after", (0, i64::MAX as u64), 0)?;
    let limit = query::integer(&values, "limit", (1, MAX_PAGE), PAGE)?;
    let mut records = match admin.0.revocations.page(after, limit + 1).await {
        Ok(records) => records,
        Err(error) => return Ok(failed(&error)),
    };
    let more = records.len() > limit;
    records.truncate(limit);
    let next = records.last().filter(|_| more).map(|(sequence, _)| *sequence);
    let revocations = records
        .into_iter()
        .map(|(_, record)| Record::from(record))
        .collect();
    Ok(json(&Page { revocations, next }))
}

async fn show(State(admin): State<Admin>, id: Result<Path<String>, PathRejection>) -> Response {
    let Ok(Path(id)) = id else { return unknown() };
    match admin.0.revocations.get(&id).await {
        Ok(Some(record)) => json(&Record::from(record)),
        Ok(None) => unknown(),
        Err(error) => failed(&error),
    }
}

async fn remove(
    State(admin): State<Admin>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let Some(Who(who)) = request.extensions().get().cloned() else {
        return internal();
    };
    if who.allow.users.is_some() {
        // An operator may have had it refused as well: there is one record.
        return narrow(
            "A credential that is bound to users takes no revocation back.",
            &["id"],
        );
    }
    let Ok(Path(id)) = id else { return unknown() };
    match admin.0.revocations.delete(&id).await {
        Ok(true) => no_content(),
        Ok(false) => unknown(),
        Err(error) => failed(&error),
    }
}

impl Admin {
    /// What a body asks for.
    fn order(&self, body: &[u8]) -> Result<Order, Rejected> {
        let known: Vec<&str> = ["issuer", "expires_at", "note"]
            .into_iter()
            .chain(TARGETS)
            .collect();
        let mut members = Members::parse(body, &known)?;
        let issuer = members.text("issuer");
        let (issuer, Bounds { longest, leeway }) = self.issuer(issuer, &mut members);
        let expires_at = members.time("expires_at");
        let now = self.0.registry.clock().wall();
        if expires_at.is_some_and(|end| end + LONGEST_LEEWAY <= now) {
            members.refuse("expires_at", "is over: there is nothing left to refuse");
        }
        let note = members.text("note").unwrap_or_default();
        if note.len() > MAX_NOTE {
            members.refuse("note", "is longer than 1024 bytes");
        }
        let target = target(&mut members);
        members.end()?;
        // What is missing was said.
        let target = target.ok_or(Rejected::NoObject)?;
        Ok(Order {
            issuer,
            target,
            expires_at,
            longest,
            leeway,
            note,
        })
    }

    /// The issuer that is meant, and what those allow who trust it. Of our own it is known elsewhere.
    fn issuer(&self, named: Option<String>, members: &mut Members) -> (String, Bounds) {
        let none = Bounds {
            longest: None,
            leeway: Duration::ZERO,
        };
        let own = self.0.revocations.own_issuer();
        let Some(issuer) = named.or_else(|| own.clone()) else {
            members.refuse("issuer", "the member is missing: no tokens are issued here");
            return (String::new(), none);
        };
        let bounds = self.0.revocations.elsewhere(&issuer);
        if bounds.is_none() && own.as_ref() != Some(&issuer) {
            members.refuse("issuer", "is trusted by no tenant");
        }
        (issuer, bounds.unwrap_or(none))
    }

    /// Whether a credential with `allow.users` may have this refused: what was issued to one of these users, and a token of ours by
    /// its id, which nobody has who was not told of it. All else reaches tokens of others.
    fn may_end(&self, order: &Order, who: &Credential) -> bool {
        let revocations = &self.0.revocations;
        who.allow.users.is_none()
            || (revocations.own_issuer().as_ref() == Some(&order.issuer)
                && match &order.target {
                    Target::Subject(user) => who.allow.user(user),
                    Target::Token(jti) => revocations.is_own(jti),
                    Target::Session(_) | Target::Key(_) | Target::IssuedBefore(_) => false,
                })
    }

    /// A published key of ours whose tokens are about to be refused signs no more. To take it out is for those who may change
    /// keys, and where it cannot be done nothing is refused either: the key would sign on.
    async fn take_out(&self, order: &Order, who: &Credential) -> Result<(), Response> {
        let Target::Key(kid) = &order.target else {
            return Ok(());
        };
        let Some(signer) = &self.0.signer else {
            return Ok(());
        };
        let is_own = self.0.revocations.own_issuer().as_ref() == Some(&order.issuer);
        if !is_own || !signer.keys().published.iter().any(|key| key.kid == *kid) {
            return Ok(());
        }
        if !keys::WRITE.is_met_by(&who.scopes) {
            let narrow = Refusal::Narrow {
                scope: Scope::KeysWrite,
                name: who.name.clone(),
            };
            return Err(narrow.into_response());
        }
        match signer.revoke(kid.clone()).await {
            // Somebody else has just taken it out.
            Ok(_) | Err(SignerError::Ring(RingFault::Unknown)) => Ok(()),
            Err(error) => Err(keys::answer(Err(error))),
        }
    }
}

/// The one thing that is named. None: `members` say what is wrong.
fn target(members: &mut Members) -> Option<Target> {
    let mut named = TARGETS.into_iter().filter(|name| members.has(name));
    let (first, second) = (named.next(), named.next());
    let Some(first) = first else {
        members.refuse(
            "jti",
            "one of jti, sub, sid, kid and issued_before has to be there",
        );
        return None;
    };
    if let Some(second) = second {
        members.refuse(
            second,
            "only one of jti, sub, sid, kid and issued_before may be there",
        );
        return None;
    }
    if first == "issued_before" {
        return members.time(first).map(Target::IssuedBefore);
    }
    let name = members.text(first)?;
    if name.is_empty() || name.len() > MAX_TOKEN_BYTES {
        members.refuse(first, "is empty, or longer than any token");
        return None;
    }
    Some(match first {
        "jti" => Target::Token(name),
        "sub" => Target::Subject(name),
        "sid" => Target::Session(name),
        _ => Target::Key(name),
    })
}

fn failed(error: &StoreError) -> Response {
    tracing::warn!(%error, "the store failed a call about revocations");
    store_unavailable()
}

fn unknown() -> Response {
    not_found("There is no revocation of this id.")
}
