//! `/v1/keys`: the keys that our own tokens are signed with.

use axum::{
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokenward::Timestamp;
use tokenward_core::{
    jose::SigningKey,
    keyring::{Changes, RingFault, Stage},
};
use utoipa::{ToSchema, openapi::HttpMethod};

use super::{
    Admin,
    call::{Call, json},
};
use crate::{
    access::Need,
    config::Scope,
    http::{
        Fault, Members, Rejected, internal, not_found, problem, problem_with, read, store_unavailable,
        unavailable,
    },
    openapi::Operation,
    signer::{Published, Signer, SignerError},
};

pub(super) const WRITE: Need = Need::Scope(Scope::KeysWrite);

pub(super) fn calls() -> Vec<Call> {
    let absent = "No tokens are issued here.";
    let on = |method, path: &str, id, summary| {
        Operation::new(method, format!("/v1/keys{path}"), id, summary).problem(StatusCode::NOT_FOUND, absent)
    };
    let changes = |operation: Operation| {
        operation
            .answers::<Changed>(StatusCode::OK, "What changed.")
            .problem(
                StatusCode::CONFLICT,
                "The keys cannot be changed so as they stand.",
            )
    };
    vec![
        Call::reads(
            on(HttpMethod::Get, "", "keys.list", "The keys that are published")
                .answers::<Listed>(StatusCode::OK, "The one that signs first, then by age."),
            Need::Any,
            get(list),
        ),
        Call::changes(
            changes(on(
                HttpMethod::Post,
                "/generate",
                "keys.generate",
                "Make a key that signs after the active one",
            )),
            WRITE,
            post(generate),
        ),
        Call::changes(
            changes(on(
                HttpMethod::Post,
                "/rotate",
                "keys.rotate",
                "Let the next key sign",
            ))
            .takes_optionally::<Rotation>(),
            WRITE,
            post(rotate),
        ),
        Call::changes(
            changes(on(
                HttpMethod::Post,
                "/import",
                "keys.import",
                "Publish a key of yours that signs after the active one",
            ))
            .takes::<Import>(),
            WRITE,
            post(import),
        ),
        Call::changes(
            changes(on(
                HttpMethod::Post,
                "/{kid}/revoke",
                "keys.revoke",
                "End a key and its tokens at once",
            )),
            WRITE,
            post(revoke),
        ),
    ]
}

/// How to rotate.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used; Members reads it")]
struct Rotation {
    /// Also where verifiers may not know the next key yet. They refuse its tokens until they have fetched the keys anew.
    #[schema(nullable = false)]
    force: Option<bool>,
}

/// A key of the operator's.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used; Members reads it")]
struct Import {
    /// PEM: PKCS#8, PKCS#1 or SEC 1, for the configured algorithm.
    private_key: String,
}

#[derive(Serialize, ToSchema)]
struct Listed {
    keys: Vec<Listing>,
}

/// A published key.
#[derive(Serialize, ToSchema)]
struct Listing {
    kid: String,
    algorithm: &'static str,
    /// `pending`: published and not used yet; `active`: signs; `retiring`: published until its last token has ended.
    stage: &'static str,
    #[schema(value_type = String, format = DateTime)]
    published_at: Timestamp,
    /// Since when it signs.
    #[schema(value_type = Option<String>, format = DateTime)]
    active_since: Option<Timestamp>,
    /// Until when it is published.
    #[schema(value_type = Option<String>, format = DateTime)]
    published_until: Option<Timestamp>,
    /// Whether the private key is in a file of yours.
    in_file: bool,
    /// The public key, as verifiers fetch it.
    #[schema(value_type = Object)]
    jwk: Box<RawValue>,
}

/// Key ids.
#[derive(Serialize, ToSchema)]
struct Changed {
    /// Published from now on.
    added: Vec<String>,
    /// Signs from now on.
    activated: Option<String>,
    /// Published no longer.
    gone: Vec<String>,
}

async fn list(State(admin): State<Admin>) -> Response {
    let Some(signer) = &admin.0.signer else {
        return none();
    };
    let keys = signer.keys().published.iter().map(Listing::from).collect();
    json(&Listed { keys })
}

async fn generate(State(admin): State<Admin>) -> Response {
    match &admin.0.signer {
        Some(signer) => answer(signer.generate().await),
        None => none(),
    }
}

async fn rotate(State(admin): State<Admin>, request: Request) -> Result<Response, Rejected> {
    let body = read(request.into_body(), &*admin.0.registry.clock()).await?;
    let force = if body.is_empty() {
        false
    } else {
        let mut members = Members::parse(&body, &["force"])?;
        let force = members.boolean("force");
        members.end()?;
        force.unwrap_or(false)
    };
    Ok(match &admin.0.signer {
        Some(signer) => answer(signer.rotate(force).await),
        None => none(),
    })
}

async fn import(State(admin): State<Admin>, request: Request) -> Result<Response, Rejected> {
    let Some(signer) = &admin.0.signer else {
        return Ok(none());
    };
    let key = private_key(&admin, signer, request.into_body()).await?;
    Ok(answer(signer.import(key).await))
}

async fn private_key(admin: &Admin, signer: &Signer, body: Body) -> Result<SigningKey, Rejected> {
    let body = read(body, &*admin.0.registry.clock()).await?;
    let mut members = Members::parse(&body, &["private_key"])?;
    let pem = secrecy::SecretString::from(members.required_text("private_key"));
    members.end()?;
    SigningKey::from_pem(
        secrecy::ExposeSecret::expose_secret(&pem).as_bytes(),
        signer.algorithm(),
    )
    .map_err(|fault| Rejected::Members(vec![Fault::new("private_key", fault.to_string())]))
}

async fn revoke(State(admin): State<Admin>, kid: Result<Path<String>, PathRejection>) -> Response {
    match (&admin.0.signer, kid) {
        (Some(signer), Ok(Path(kid))) => answer(signer.revoke(kid).await),
        (Some(_), Err(_)) => unknown(),
        (None, _) => none(),
    }
}

/// What became of a change, as an answer.
pub(super) fn answer(changed: Result<Changes, SignerError>) -> Response {
    let conflict = |code, title, detail| problem(StatusCode::CONFLICT, code, title, detail);
    match changed {
        Ok(Changes {
            added,
            activated,
            gone,
        }) => json(&Changed {
            added,
            activated,
            gone,
        }),
        Err(SignerError::Ring(fault)) => match fault {
            RingFault::NotYet { until } => problem_with(
                StatusCode::CONFLICT,
                (
                    "key_not_published",
                    "Key not published for long enough",
                    "Verifiers may not know the next key yet; until says when they do. In an emergency, force it.",
                ),
                ("until", until.to_string().into()),
            ),
            RingFault::KeptInFile => conflict(
                "key_in_file",
                "Key kept in a file",
                "The signing key is in a file: it is changed there.",
            ),
            RingFault::TooMany => conflict(
                "too_many_keys",
                "Too many keys",
                "As many keys are published as verifiers keep; revoke one that is not needed.",
            ),
            RingFault::Known => conflict("key_known", "Key known", "The key is published already."),
            RingFault::Unknown => unknown(),
            _ => internal(),
        },
        Err(SignerError::Revoked) => conflict(
            "key_revoked",
            "Key revoked",
            "The key was revoked, and what was revoked stays so.",
        ),
        Err(SignerError::Raced) => conflict(
            "keys_changed",
            "Keys changed",
            "The keys were changed by somebody else at the same time.",
        ),
        Err(SignerError::Joining) => unavailable(
            "store_joining",
            "Store not complete yet",
            "The store may have lost its keys, and another replica is about to bring them back: try again in a few seconds.",
        ),
        Err(SignerError::Store(error)) => {
            tracing::warn!(%error, "the signing keys cannot be stored");
            store_unavailable()
        }
        Err(error) => {
            tracing::error!(%error, "the signing keys cannot be changed");
            internal()
        }
    }
}

fn none() -> Response {
    not_found("No tokens are issued here, so there are no own keys.").into_response()
}

fn unknown() -> Response {
    not_found("There is no published key of this id.")
}

impl From<&Published> for Listing {
    fn from(key: &Published) -> Self {
        let (active_since, published_until) = match key.stage {
            Stage::Pending => (None, None),
            Stage::Active { since } => (Some(since), None),
            Stage::Retiring { until } => (None, Some(until)),
        };
        Self {
            kid: key.kid.clone(),
            algorithm: key.algorithm.name(),
            stage: key.stage.name(),
            published_at: key.published_at,
            active_since,
            published_until,
            in_file: key.in_file,
            jwk: key.jwk.clone(),
        }
    }
}
