//! One JWK (RFC 7517): what it is, and whether it may verify signatures.

use std::{fmt, sync::Arc};

use serde_json::{Map, Value};

use super::{
    algorithm::{Algorithm, AlgorithmSet},
    base64url,
    header::MAX_KID_BYTES,
    json::{self, Fault},
    key::{self, Key},
    rsa,
    thumbprint::Thumbprint,
};

/// Members that hold private or symmetric key material: RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1, RFC 8037
/// section 2, and `priv` of the post-quantum key types.
const PRIVATE_MEMBERS: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];

/// Why a key is not used to verify signatures. A closed list; the codes are metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SkipReason {
    /// An element of `keys` is not an object.
    NotAnObject,
    /// Not strict JSON: nested too deeply, a lone surrogate, a number out of range.
    Malformed,
    /// A member occurs twice.
    DuplicateMember,
    /// A member that its type needs is absent.
    MemberMissing,
    /// A member has the wrong JSON type.
    MemberInvalid,
    /// `kid` is not a string, or over 256 bytes.
    KidInvalid,
    /// It came with private members: compromised.
    PrivateMaterial,
    /// It is a symmetric key in a public place: compromised.
    SymmetricMaterial,
    /// A key type that is not supported.
    UnsupportedKty,
    /// A curve that is not supported.
    UnsupportedCrv,
    /// An algorithm that is not supported, or is for encryption.
    UnsupportedAlg,
    /// `use` says that it is not for signatures.
    UseNotSig,
    /// `key_ops` does not list `verify`.
    KeyOpsWithoutVerify,
    /// `alg` does not go with the key's type or curve.
    AlgorithmMismatch,
    /// A member is not base64url in its canonical spelling.
    Base64urlInvalid,
    /// RSA modulus under 2048 bits.
    RsaTooSmall,
    /// RSA modulus over 8192 bits.
    RsaTooLarge,
    /// RSA modulus that is no product of two odd primes.
    RsaModulus,
    /// RSA exponent that is even, under 3, or 2^33 and more.
    RsaExponent,
    /// RSA modulus of the faulty generator of CVE-2017-15361.
    RsaRoca,
    /// A coordinate or key of another length than its curve's.
    CoordinateLength,
    /// The point is not on its curve.
    PointNotOnCurve,
    /// An Ed25519 point of small order, under which signatures mean nothing.
    SmallOrderPoint,
    /// A secret shorter than the hash it is used with.
    SecretTooShort,
    /// The set holds more keys than are examined.
    OverLimit,
}

impl SkipReason {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotAnObject => "not_an_object",
            Self::Malformed => "malformed",
            Self::DuplicateMember => "duplicate_member",
            Self::MemberMissing => "member_missing",
            Self::MemberInvalid => "member_invalid",
            Self::KidInvalid => "kid_invalid",
            Self::PrivateMaterial => "private_material",
            Self::SymmetricMaterial => "symmetric_material",
            Self::UnsupportedKty => "unsupported_kty",
            Self::UnsupportedCrv => "unsupported_crv",
            Self::UnsupportedAlg => "unsupported_alg",
            Self::UseNotSig => "use_not_sig",
            Self::KeyOpsWithoutVerify => "key_ops_without_verify",
            Self::AlgorithmMismatch => "algorithm_mismatch",
            Self::Base64urlInvalid => "base64url_invalid",
            Self::RsaTooSmall => "rsa_too_small",
            Self::RsaTooLarge => "rsa_too_large",
            Self::RsaModulus => "rsa_modulus",
            Self::RsaExponent => "rsa_exponent",
            Self::RsaRoca => "rsa_roca",
            Self::CoordinateLength => "coordinate_length",
            Self::PointNotOnCurve => "point_not_on_curve",
            Self::SmallOrderPoint => "small_order_point",
            Self::SecretTooShort => "secret_too_short",
            Self::OverLimit => "over_limit",
        }
    }

    /// Whether the issuer has published what it must keep secret. Worth an alarm: the key can sign for anyone.
    #[must_use]
    pub const fn is_compromise(self) -> bool {
        matches!(self, Self::PrivateMaterial | Self::SymmetricMaterial)
    }

    /// Whether the key is sound but of no use to this verifier, so that it is still served to others.
    #[must_use]
    pub const fn is_served(self) -> bool {
        matches!(
            self,
            Self::UnsupportedKty
                | Self::UnsupportedCrv
                | Self::UnsupportedAlg
                | Self::UseNotSig
                | Self::KeyOpsWithoutVerify
        )
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl std::error::Error for SkipReason {}

impl From<Fault> for SkipReason {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Duplicate => Self::DuplicateMember,
            Fault::Malformed => Self::Malformed,
        }
    }
}

/// How many keys of one set may still have their material examined. Arithmetic on hostile numbers is the only part
/// of parsing whose cost is not proportional to the text.
pub(super) enum Budget {
    /// So many.
    Keys(usize),
    /// None needs to be, since all of them were before.
    Examined,
}

/// One element of a fetched set.
pub(super) struct Element {
    /// Its kid, where it has a sound one.
    pub(super) kid: Option<String>,
    /// The key, or why it is not used.
    pub(super) outcome: Result<Key, SkipReason>,
    /// Which public key it has given the private half of.
    pub(super) leaked: Option<Thumbprint>,
}

/// Reads one element of a fetched set.
pub(super) fn read(text: &Arc<str>, budget: &mut Budget) -> Element {
    let unreadable = |reason| Element {
        kid: None,
        outcome: Err(reason),
        leaked: None,
    };
    if !text.starts_with('{') {
        return unreadable(SkipReason::NotAnObject);
    }
    let members = match json::object(text.as_bytes()) {
        Ok(members) => members,
        // A private member is out in the open, however often it stands there.
        Err(Fault::Duplicate) => match serde_json::from_str(text) {
            Ok(members) if Jwk(&members).is_private() => members,
            _ => return unreadable(SkipReason::DuplicateMember),
        },
        Err(fault) => return unreadable(fault.into()),
    };
    let jwk = Jwk(&members);
    let outcome = jwk.key(text, budget);
    let leaked = match outcome {
        Err(SkipReason::PrivateMaterial) => jwk.examined(budget).ok(),
        _ => None,
    };
    Element {
        kid: jwk.kid().ok().flatten().map(str::to_owned),
        outcome,
        leaked: leaked.map(|material| material.thumbprint()),
    }
}

/// The material of a public key that was found good before, as the verifier takes it.
pub(super) fn material(text: &str) -> Option<Vec<u8>> {
    let members = json::object(text.as_bytes()).ok()?;
    Some(Jwk(&members).material().ok()?.bytes())
}

/// Reads a JWK that may be symmetric, since it does not come from a fetched set.
pub(super) fn trusted(text: &[u8]) -> Result<Key, SkipReason> {
    let members = json::object(text)?;
    let jwk = Jwk(&members);
    if jwk.text("kty")? != Some("oct") {
        let text = str::from_utf8(text).map_err(|_| SkipReason::Malformed)?;
        return jwk.key(&text.into(), &mut Budget::Keys(1));
    }
    jwk.check_use()?;
    let algorithm = jwk.text("alg")?.ok_or(SkipReason::MemberMissing)?;
    let algorithm = Algorithm::parse(algorithm).ok_or(SkipReason::UnsupportedAlg)?;
    Key::symmetric(&jwk.bytes("k")?, AlgorithmSet::only(algorithm), jwk.kid()?)
}

/// Reads the JWK of someone who is not known: a public one, or none.
pub(super) fn foreign(jwk: &Value) -> Result<Key, SkipReason> {
    let members = jwk.as_object().ok_or(SkipReason::NotAnObject)?;
    Jwk(members).key(&jwk.to_string().into(), &mut Budget::Keys(1))
}

pub(super) fn checked_kid(kid: Option<&str>) -> Result<Option<Box<str>>, SkipReason> {
    match kid {
        Some(kid) if kid.len() > MAX_KID_BYTES => Err(SkipReason::KidInvalid),
        kid => Ok(kid.map(Into::into)),
    }
}

/// The members of a key.
struct Jwk<'a>(&'a Map<String, Value>);

impl<'a> Jwk<'a> {
    /// The public key. Material is judged before purpose, so that a weak key for encryption is not served either.
    fn key(&self, text: &Arc<str>, budget: &mut Budget) -> Result<Key, SkipReason> {
        if self.0.get("kty").is_some_and(|kty| kty == "oct") {
            return Err(SkipReason::SymmetricMaterial);
        }
        if self.is_private() {
            return Err(SkipReason::PrivateMaterial);
        }
        let kid = checked_kid(self.kid()?)?;
        let alg = self.text("alg")?;
        let material = self.examined(budget)?;
        let permitted = match alg {
            None => material.permitted(),
            Some(name) => {
                let alg = Algorithm::parse(name).ok_or(SkipReason::UnsupportedAlg)?;
                let pinned = AlgorithmSet::only(alg);
                if !pinned.is_subset(material.permitted()) {
                    return Err(SkipReason::AlgorithmMismatch);
                }
                pinned
            }
        };
        self.check_use()?;
        Ok(Key::public(
            kid,
            permitted,
            material.thumbprint(),
            Arc::clone(text),
            material.signature_len(),
        ))
    }

    fn is_private(&self) -> bool {
        PRIVATE_MEMBERS.iter().any(|name| self.0.contains_key(*name))
    }

    /// The public half, with its arithmetic checked as far as `budget` wants it.
    fn examined(&self, budget: &mut Budget) -> Result<Material, SkipReason> {
        let material = self.material()?;
        budget.examine(&material)?;
        Ok(material)
    }

    /// The public half.
    fn material(&self) -> Result<Material, SkipReason> {
        match self.text("kty")?.ok_or(SkipReason::MemberMissing)? {
            "RSA" => self.rsa(),
            "EC" => self.ec(),
            "OKP" => self.okp(),
            _ => Err(SkipReason::UnsupportedKty),
        }
    }

    fn rsa(&self) -> Result<Material, SkipReason> {
        if self.text("n")?.is_some_and(|n| n.len() > rsa::MAX_MODULUS_TEXT) {
            return Err(SkipReason::RsaTooLarge);
        }
        Ok(Material::Rsa(rsa::PublicKey::new(
            self.bytes("n")?,
            self.bytes("e")?,
        )?))
    }

    fn ec(&self) -> Result<Material, SkipReason> {
        let crv = self.text("crv")?.ok_or(SkipReason::MemberMissing)?;
        let (crv, algorithm, len) = match crv {
            "P-256" => ("P-256", Algorithm::Es256, 32),
            "P-384" => ("P-384", Algorithm::Es384, 48),
            "P-521" => ("P-521", Algorithm::Es512, 66),
            "secp256k1" => ("secp256k1", Algorithm::Es256K, 32),
            _ => return Err(SkipReason::UnsupportedCrv),
        };
        let (x, y) = (self.bytes("x")?, self.bytes("y")?);
        // Full length, leading zeros included: RFC 7518 section 6.2.1.2.
        if x.len() != len || y.len() != len {
            return Err(SkipReason::CoordinateLength);
        }
        Ok(Material::Ec { crv, algorithm, x, y })
    }

    fn okp(&self) -> Result<Material, SkipReason> {
        if self.text("crv")?.ok_or(SkipReason::MemberMissing)? != "Ed25519" {
            return Err(SkipReason::UnsupportedCrv);
        }
        let x = self.bytes("x")?;
        if x.len() != 32 {
            return Err(SkipReason::CoordinateLength);
        }
        if is_small_order(&x) {
            return Err(SkipReason::SmallOrderPoint);
        }
        Ok(Material::Ed25519(x))
    }

    /// `use` and `key_ops`, each of which alone can rule verification out (RFC 7517 sections 4.2 and 4.3).
    fn check_use(&self) -> Result<(), SkipReason> {
        if self.text("use")?.is_some_and(|usage| usage != "sig") {
            return Err(SkipReason::UseNotSig);
        }
        match self.0.get("key_ops") {
            None => Ok(()),
            Some(Value::Array(operations)) => {
                if !operations.iter().all(Value::is_string) {
                    return Err(SkipReason::MemberInvalid);
                }
                if !operations.iter().any(|operation| operation == "verify") {
                    return Err(SkipReason::KeyOpsWithoutVerify);
                }
                Ok(())
            }
            Some(_) => Err(SkipReason::MemberInvalid),
        }
    }

    fn kid(&self) -> Result<Option<&'a str>, SkipReason> {
        match self.0.get("kid") {
            None => Ok(None),
            Some(Value::String(kid)) if kid.len() <= MAX_KID_BYTES => Ok(Some(kid)),
            Some(_) => Err(SkipReason::KidInvalid),
        }
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, SkipReason> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(SkipReason::MemberInvalid),
        }
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, SkipReason> {
        let text = self.text(name)?.ok_or(SkipReason::MemberMissing)?;
        base64url::decode(text.as_bytes()).ok_or(SkipReason::Base64urlInvalid)
    }
}

/// Key material of the right form and size. What follows from it is worked out where it is needed.
enum Material {
    Rsa(rsa::PublicKey),
    Ec {
        crv: &'static str,
        algorithm: Algorithm,
        x: Vec<u8>,
        y: Vec<u8>,
    },
    Ed25519(Vec<u8>),
}

impl Material {
    /// The algorithms of its type and curve.
    fn permitted(&self) -> AlgorithmSet {
        match self {
            Self::Rsa(_) => AlgorithmSet::RSA,
            Self::Ec { algorithm, .. } => AlgorithmSet::only(*algorithm),
            Self::Ed25519(_) => AlgorithmSet::only(Algorithm::EdDsa),
        }
    }

    /// The one length that a signature can have, in bytes.
    fn signature_len(&self) -> usize {
        match self {
            Self::Rsa(key) => key.modulus().len(),
            Self::Ec { x, y, .. } => x.len() + y.len(),
            Self::Ed25519(_) => 64,
        }
    }

    fn thumbprint(&self) -> Thumbprint {
        let text = base64url::encode;
        // Put together in one piece: a start does it for very many keys.
        Thumbprint::of(&match self {
            Self::Rsa(key) => [
                r#"{"e":""#,
                &text(key.exponent()),
                r#"","kty":"RSA","n":""#,
                &text(key.modulus()),
                r#""}"#,
            ]
            .concat(),
            Self::Ec { crv, x, y, .. } => [
                r#"{"crv":""#,
                *crv,
                r#"","kty":"EC","x":""#,
                &text(x),
                r#"","y":""#,
                &text(y),
                r#""}"#,
            ]
            .concat(),
            Self::Ed25519(x) => [r#"{"crv":"Ed25519","kty":"OKP","x":""#, &text(x), r#""}"#].concat(),
        })
    }

    /// As the verifier takes it.
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Rsa(key) => key.to_der(),
            Self::Ec { x, y, .. } => [&[4], x.as_slice(), y].concat(),
            Self::Ed25519(x) => x.clone(),
        }
    }
}

impl Budget {
    /// Whether `material` is a key.
    fn examine(&mut self, material: &Material) -> Result<(), SkipReason> {
        let Self::Keys(left) = self else { return Ok(()) };
        *left = left.checked_sub(1).ok_or(SkipReason::OverLimit)?;
        let (algorithm, fault) = match material {
            Material::Rsa(_) => (Algorithm::Rs256, SkipReason::RsaModulus),
            Material::Ec { algorithm, .. } => (*algorithm, SkipReason::PointNotOnCurve),
            Material::Ed25519(_) => (Algorithm::EdDsa, SkipReason::PointNotOnCurve),
        };
        key::parse(algorithm, &material.bytes()).map(|_| ()).ok_or(fault)
    }
}

/// Whether an encoded Ed25519 point has an order that divides 8, in any of its encodings: with such a key a
/// signature can be made that holds for many messages, by anyone.
fn is_small_order(point: &[u8]) -> bool {
    /// The y coordinates, little-endian: 0, 1, the two of order 8, and p - 1, p, p + 1.
    const SMALL: [[u8; 32]; 7] = [
        [0; 32],
        edge(1, 0, 0),
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
            0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
            0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ],
        edge(0xec, 0xff, 0x7f),
        edge(0xed, 0xff, 0x7f),
        edge(0xee, 0xff, 0x7f),
    ];
    const fn edge(first: u8, middle: u8, last: u8) -> [u8; 32] {
        let mut bytes = [middle; 32];
        bytes[0] = first;
        bytes[31] = last;
        bytes
    }
    // The top bit is the sign of x.
    SMALL.iter().any(|small| {
        let (Some((last, head)), Some((small_last, small_head))) = (point.split_last(), small.split_last())
        else {
            return false;
        };
        head == small_head && last & 0x7f == *small_last
    })
}
