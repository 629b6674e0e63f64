//! `POST /v1/explain`: why is this token accepted, or not?

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
    routing::post,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokenward::{Check, DEFAULT_TENANT, Denial, Idp, State as KeyState, Timestamp, caller_of};
use tokenward_core::jose::{MAX_TOKEN_BYTES, Token};
use utoipa::{ToSchema, openapi::HttpMethod};

use super::{
    Admin,
    call::{Call, json},
};
use crate::{
    access::{Need, Who},
    config::{Credential, Scope},
    http::{Caller, Members, Rejected, internal, read},
    issue::{may_know, narrow},
    openapi::Operation,
};

pub(super) fn calls() -> Vec<Call> {
    let operation = Operation::new(
        HttpMethod::Post,
        "/v1/explain",
        "explain",
        "Every check of a token, in order",
    )
    .takes::<Question>()
    .answers::<Explained>(
        StatusCode::OK,
        "What became of each check. The token is not repeated.",
    );
    vec![Call::reads(
        operation,
        Need::Scope(Scope::TokensRead),
        post(explain),
    )]
}

/// What is asked.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used; Members reads it")]
struct Question {
    /// The token. It is verified as any other, without the cache of verified tokens.
    token: String,
    /// The tenant whose issuers may have signed it; `default` where it is absent.
    #[schema(nullable = false)]
    tenant: Option<String>,
}

/// Every check of a token in its order.
#[derive(Serialize, ToSchema)]
struct Explained {
    /// Whether it is accepted.
    valid: bool,
    /// The stable code of the first check that failed.
    reason: Option<&'static str>,
    /// The same in words.
    detail: Option<&'static str>,
    tenant: String,
    /// The civil time that its claims were compared with.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The id of the key that verified it.
    kid: Option<String>,
    /// Until when that key may be used if no fetch succeeds.
    #[schema(value_type = Option<String>, format = DateTime)]
    key_usable_until: Option<Timestamp>,
    /// The identity provider that its issuer selects.
    idp: Option<Selected>,
    checks: Vec<Checked>,
}

/// An identity provider, and how its keys stand.
#[derive(Serialize, ToSchema)]
struct Selected {
    name: String,
    issuer: Option<String>,
    #[schema(value_type = String)]
    state: KeyState,
    key_count: usize,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_updated: Option<Timestamp>,
    last_error: Option<&'static str>,
    #[schema(value_type = Option<String>, format = DateTime)]
    next_refresh: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    stale_until: Option<Timestamp>,
}

/// One check.
#[derive(Serialize, ToSchema)]
struct Checked {
    check: &'static str,
    passed: bool,
    reason: Option<&'static str>,
    /// What was compared with what. It holds no claim's value but times.
    note: String,
}

async fn explain(State(admin): State<Admin>, request: Request) -> Result<Response, Rejected> {
    let caller = request.extensions().get::<Caller>();
    let caller = caller.map(|caller| caller_of(caller.0)).unwrap_or_default();
    let Some(Who(who)) = request.extensions().get().cloned() else {
        return Ok(internal());
    };
    let (token, tenant) = question(&admin, request.into_body()).await?;
    if admin.withholds(&who, &token) {
        return Ok(narrow(
            "The credential may not be told of this token.",
            &["token"],
        ));
    }
    let explanation = admin.0.verifier.explain(&tenant, &token, caller).await;
    Ok(json(&Explained {
        valid: explanation.reason.is_none(),
        reason: explanation.reason.map(Denial::code),
        detail: explanation.reason.map(Denial::detail),
        at: explanation.wall,
        kid: explanation.kid,
        key_usable_until: explanation.key_usable_until,
        idp: admin.selected(&tenant, &token),
        checks: explanation.checks.into_iter().map(Checked::from).collect(),
        tenant,
    }))
}

async fn question(admin: &Admin, body: Body) -> Result<(String, String), Rejected> {
    let body = read(body, &*admin.0.registry.clock()).await?;
    let mut members = Members::parse(&body, &["token", "tenant"])?;
    let token = members.required_text("token");
    let tenant = members.text("tenant");
    members.end()?;
    Ok((token, tenant.unwrap_or_else(|| DEFAULT_TENANT.to_owned())))
}

impl Admin {
    /// Whether introspection would say nothing of a token of ours to this credential. It goes by what the token claims,
    /// verified or not, so that the refusal says nothing of the token.
    fn withholds(&self, who: &Credential, token: &str) -> bool {
        let Ok(token) = Token::parse(token, MAX_TOKEN_BYTES) else {
            return false;
        };
        let own = self.0.revocations.own_issuer();
        own.is_some() && own.as_deref() == token.claims().issuer() && !may_know(who, token.claims())
    }

    /// The identity provider that the token's issuer, unverified, selects.
    fn selected(&self, tenant: &str, token: &str) -> Option<Selected> {
        let token = Token::parse(token, MAX_TOKEN_BYTES).ok()?;
        let idp = self.0.registry.idp_by_issuer(tenant, token.claims().issuer()?)?;
        Some(Selected::from(&*idp))
    }
}

impl From<&Idp> for Selected {
    fn from(idp: &Idp) -> Self {
        let status = idp.status();
        Self {
            name: status.name,
            issuer: status.issuer,
            state: status.keys.state,
            key_count: status.keys.key_count,
            last_updated: status.keys.last_updated,
            last_error: status.keys.last_error,
            next_refresh: status.keys.next_refresh,
            stale_until: status.keys.stale_until,
        }
    }
}

impl From<Check> for Checked {
    fn from(check: Check) -> Self {
        let reason = check.outcome.err().map(Denial::code);
        Self {
            check: check.name,
            passed: reason.is_none(),
            reason,
            note: check.note,
        }
    }
}
