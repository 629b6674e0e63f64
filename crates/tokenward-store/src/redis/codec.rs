//! Values as they are kept: JSON of one version, bytes in base64, times in milliseconds since the Unix epoch.
//!
//! What cannot be read in full is damaged, or of a newer version: to guess would be to forget silently.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use tokenward_core::Timestamp;

use crate::{AuditRecord, Child, Family, Revocation, RevocationRule, StoredIdp};

/// The version of every value that this program writes and reads.
#[derive(Clone, Copy)]
struct V1;

impl Serialize for V1 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(1)
    }
}

impl<'de> Deserialize<'de> for V1 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            1 => Ok(Self),
            other => Err(serde::de::Error::custom(format_args!("version {other}"))),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdpValue {
    v: V1,
    tenant: String,
    name: String,
    document: String,
    changed_at: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditValue {
    v: V1,
    at: i64,
    who: String,
    address: String,
    action: String,
    target: String,
    outcome: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FamilyValue {
    v: V1,
    parent_jti: String,
    user_id: String,
    #[serde(with = "bytes")]
    profile: Vec<u8>,
    expires_at: i64,
    sequence: u64,
    latest: Option<ChildValue>,
    next_renewal: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChildValue {
    jti: String,
    #[serde(with = "bytes")]
    token: Vec<u8>,
    issued_at: i64,
    expires_at: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevocationValue {
    v: V1,
    id: String,
    issuer: String,
    kind: String,
    value: String,
    time: Option<i64>,
    expires_at: Option<i64>,
    created_at: i64,
    asked_at: i64,
    note: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TombstoneValue {
    v: V1,
    deleted_at: i64,
    record: RevocationValue,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyringValue {
    v: V1,
    version: u64,
    #[serde(with = "bytes")]
    bytes: Vec<u8>,
}

/// A revocation, with when it was asked for last: a deletion before that does not concern it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) revocation: Revocation,
    pub(super) at: Timestamp,
}

/// What stays of a revocation that was deleted, until its record would have ended, so that nobody who still knows the
/// record brings it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// Whose tokens it named.
    pub issuer: String,
    /// Which of them.
    pub rule: RevocationRule,
    /// When it was deleted. What is revoked later is revoked.
    pub deleted_at: Timestamp,
    /// When this may go; `None`: never.
    pub expires_at: Option<Timestamp>,
}

pub(super) fn write_idp(idp: &StoredIdp) -> Vec<u8> {
    write(&IdpValue {
        v: V1,
        tenant: idp.tenant.clone(),
        name: idp.name.clone(),
        document: idp.document.clone(),
        changed_at: idp.changed_at.as_millis(),
    })
}

/// The provider under this name.
pub(super) fn read_idp(name: &[u8], value: &[u8]) -> Option<StoredIdp> {
    let value: IdpValue = read(value)?;
    (idp_name(&value.tenant, &value.name).as_bytes() == name).then_some(StoredIdp {
        tenant: value.tenant,
        name: value.name,
        document: value.document,
        changed_at: Timestamp::from_millis(value.changed_at),
    })
}

/// What a provider is kept under: no two have the same.
pub(super) fn idp_name(tenant: &str, name: &str) -> String {
    format!("{}:{tenant}{name}", tenant.len())
}

/// The tenant and the name in what [`idp_name`] made.
pub(super) fn names_in(idp_name: &[u8]) -> Option<(String, String)> {
    let (length, names) = std::str::from_utf8(idp_name).ok()?.split_once(':')?;
    let (tenant, name) = names.split_at_checked(length.parse().ok()?)?;
    Some((tenant.to_owned(), name.to_owned()))
}

pub(super) fn write_audit(record: &AuditRecord) -> Vec<u8> {
    write(&AuditValue {
        v: V1,
        at: record.at.as_millis(),
        who: record.who.clone(),
        address: record.address.clone(),
        action: record.action.clone(),
        target: record.target.clone(),
        outcome: record.outcome.clone(),
    })
}

pub(super) fn read_audit(value: &[u8]) -> Option<AuditRecord> {
    let value: AuditValue = read(value)?;
    Some(AuditRecord {
        at: Timestamp::from_millis(value.at),
        who: value.who,
        address: value.address,
        action: value.action,
        target: value.target,
        outcome: value.outcome,
    })
}

pub(super) fn write_family(family: &Family) -> Vec<u8> {
    write(&FamilyValue {
        v: V1,
        parent_jti: family.parent_jti.clone(),
        user_id: family.user_id.clone(),
        profile: family.profile.clone(),
        expires_at: family.expires_at.as_millis(),
        sequence: family.sequence,
        latest: family.latest.as_ref().map(|child| ChildValue {
            jti: child.jti.clone(),
            token: child.token.clone(),
            issued_at: child.issued_at.as_millis(),
            expires_at: child.expires_at.as_millis(),
        }),
        next_renewal: family.next_renewal.map(Timestamp::as_millis),
    })
}

/// The family of this parent.
pub(super) fn read_family(parent_jti: &[u8], value: &[u8]) -> Option<Family> {
    let value: FamilyValue = read(value)?;
    (value.parent_jti.as_bytes() == parent_jti).then(|| Family {
        parent_jti: value.parent_jti,
        user_id: value.user_id,
        profile: value.profile,
        expires_at: Timestamp::from_millis(value.expires_at),
        sequence: value.sequence,
        latest: value.latest.map(|child| Child {
            jti: child.jti,
            token: child.token,
            issued_at: Timestamp::from_millis(child.issued_at),
            expires_at: Timestamp::from_millis(child.expires_at),
        }),
        next_renewal: value.next_renewal.map(Timestamp::from_millis),
    })
}

pub(super) fn write_revocation(asked: &Asked) -> Vec<u8> {
    write(&revocation_value(&asked.revocation, asked.at))
}

/// The revocation of what [`rule_name`] names.
pub(super) fn read_revocation(rule: &[u8], value: &[u8]) -> Option<Asked> {
    let asked = asked(read(value)?)?;
    (rule_name(&asked.revocation.issuer, &asked.revocation.rule).as_bytes() == rule).then_some(asked)
}

/// What a revocation is kept under: no two issuers and rules have the same.
pub(super) fn rule_name(issuer: &str, rule: &RevocationRule) -> String {
    let (kind, value) = rule.key();
    super::keys::hashed(&[issuer, kind, value])
}

/// Whom and what a record names, wherever it was found.
pub(super) fn read_rule(value: &[u8]) -> Option<(String, RevocationRule)> {
    let revocation = asked(read(value)?)?.revocation;
    Some((revocation.issuer, revocation.rule))
}

/// A tombstone, and the record that stands in it for the deleted one.
pub(super) fn write_tombstone(tombstone: &Tombstone) -> (Vec<u8>, Vec<u8>) {
    let deleted_at = tombstone.deleted_at;
    let record = || {
        let revocation = Revocation {
            id: String::new(),
            issuer: tombstone.issuer.clone(),
            rule: tombstone.rule.clone(),
            expires_at: tombstone.expires_at,
            created_at: deleted_at,
            note: String::new(),
        };
        revocation_value(&revocation, deleted_at)
    };
    let value = TombstoneValue {
        v: V1,
        deleted_at: deleted_at.as_millis(),
        record: record(),
    };
    (write(&value), write(&record()))
}

/// The tombstone of what [`rule_name`] names.
pub(super) fn read_tombstone(rule: &[u8], value: &[u8]) -> Option<Tombstone> {
    let value: TombstoneValue = read(value)?;
    let revocation = asked(value.record)?.revocation;
    (rule_name(&revocation.issuer, &revocation.rule).as_bytes() == rule).then(|| Tombstone {
        issuer: revocation.issuer,
        rule: revocation.rule,
        deleted_at: Timestamp::from_millis(value.deleted_at),
        expires_at: revocation.expires_at,
    })
}

pub(super) fn write_keyring(version: u64, bytes: &[u8]) -> Vec<u8> {
    write(&KeyringValue {
        v: V1,
        version,
        bytes: bytes.to_vec(),
    })
}

/// The keyring that is kept as this version.
pub(super) fn read_keyring(version: u64, value: &[u8]) -> Option<Vec<u8>> {
    let value: KeyringValue = read(value)?;
    (value.version == version).then_some(value.bytes)
}

fn revocation_value(revocation: &Revocation, asked_at: Timestamp) -> RevocationValue {
    let (kind, value) = revocation.rule.key();
    RevocationValue {
        v: V1,
        id: revocation.id.clone(),
        issuer: revocation.issuer.clone(),
        kind: kind.to_owned(),
        value: value.to_owned(),
        time: revocation.rule.time().map(Timestamp::as_millis),
        expires_at: revocation.expires_at.map(Timestamp::as_millis),
        created_at: revocation.created_at.as_millis(),
        asked_at: asked_at.as_millis(),
        note: revocation.note.clone(),
    }
}

fn asked(value: RevocationValue) -> Option<Asked> {
    let time = value.time.map(Timestamp::from_millis);
    Some(Asked {
        revocation: Revocation {
            id: value.id,
            issuer: value.issuer,
            rule: RevocationRule::from_parts(&value.kind, value.value, time)?,
            expires_at: value.expires_at.map(Timestamp::from_millis),
            created_at: Timestamp::from_millis(value.created_at),
            note: value.note,
        },
        at: Timestamp::from_millis(value.asked_at),
    })
}

fn write(value: &impl Serialize) -> Vec<u8> {
    // Nothing in these can fail to be written. An empty value would be read as a damaged one.
    serde_json::to_vec(value).unwrap_or_default()
}

fn read<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
    serde_json::from_slice(value).ok()
}

/// Bytes in base64.
mod bytes {
    use super::{Deserialize, Deserializer, Engine as _, STANDARD, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}
