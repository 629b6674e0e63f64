//! A revocation as it is answered.

use serde::Serialize;
use tokenward::Timestamp;
use tokenward_core::revocation::LONGEST_LEEWAY;
use tokenward_store::{Revocation, RevocationRule};
use utoipa::ToSchema;

use crate::revocation::issued_before;

/// One revocation, with one of `jti`, `sub`, `sid`, `kid` and `issued_before`.
#[derive(Serialize, ToSchema)]
#[schema(as = Revocation)]
pub(super) struct Record {
    id: String,
    issuer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    jti: Option<String>,
    /// With `jti`: whether it is a parent, whose children are refused too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    parent: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    sub: Option<String>,
    /// With `sub`: what was issued in this second, or earlier, is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<String>, format = DateTime)]
    not_before: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    sid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    kid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<String>, format = DateTime)]
    issued_before: Option<Timestamp>,
    /// When what is named has ended. The record is kept for five minutes more at least; nothing: until it is deleted.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    note: String,
}

impl From<Revocation> for Record {
    fn from(revocation: Revocation) -> Self {
        let Revocation {
            id,
            issuer,
            rule,
            expires_at,
            created_at,
            note,
        } = revocation;
        let mut record = Self {
            id,
            issuer,
            jti: None,
            parent: None,
            sub: None,
            not_before: None,
            sid: None,
            kid: None,
            issued_before: None,
            expires_at: expires_at.map(|time| time - LONGEST_LEEWAY),
            created_at,
            note,
        };
        match rule {
            RevocationRule::Jti(jti) => (record.jti, record.parent) = (Some(jti), Some(false)),
            RevocationRule::Parent(jti) => (record.jti, record.parent) = (Some(jti), Some(true)),
            RevocationRule::Subject { sub, not_before } => {
                (record.sub, record.not_before) = (Some(sub), Some(not_before));
            }
            RevocationRule::Session(sid) => record.sid = Some(sid),
            RevocationRule::Kid(kid) => record.kid = Some(kid),
            RevocationRule::IssuedBefore(latest) => record.issued_before = Some(issued_before(latest)),
        }
        record
    }
}
