//! What a script says.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::{
    fault::{Fault, Target, fault},
    keys::{Change, Keys},
    yaml::{Members, Node, ScriptError, Value, parse},
};

type Result<T> = std::result::Result<T, ScriptError>;

/// The most identity providers in a script.
const MAX_IDPS: usize = 1_000;
/// The most steps of a timeline.
const MAX_STEPS: usize = 1_000;
/// The most keys that a set begins with.
const MAX_KEYS: usize = 100;

const ALGORITHMS: [&str; 11] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "ES256K", "EdDSA",
];

/// Identity providers and what becomes of each as time goes on.
#[derive(Debug)]
pub struct Script {
    pub(super) idps: Vec<Idp>,
}

/// One identity provider.
#[derive(Debug)]
pub(super) struct Idp {
    pub(super) name: String,
    pub(super) tls: bool,
    /// In the order of their times; the first is at zero.
    pub(super) steps: Vec<Step>,
}

/// How a provider answers from a time on.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) at: Duration,
    /// Its keys once the step has changed them.
    pub(super) keys: Keys,
    pub(super) fault: Fault,
    pub(super) on: On,
    pub(super) headers: Vec<(String, String)>,
    pub(super) validators: Validity,
    /// In the discovery document, in place of the right one.
    pub(super) issuer: Option<String>,
    pub(super) flapping: bool,
    pub(super) certificate: Certificate,
}

/// Which documents a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    Both,
    Jwks,
    Discovery,
}

/// How validators and 304 are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Validity {
    Etag,
    LastModified,
    None,
    /// Another `ETag` with every answer.
    Changing,
    /// One `ETag` for ever: whoever has it is told that nothing has changed.
    Stuck,
    /// 304 whether or not that was asked for.
    Always304,
}

/// What the certificate is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Certificate {
    Good,
    WrongName,
    Expired,
    SelfSigned,
    UnknownCa,
}

impl Script {
    /// Reads a script, YAML or JSON.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its line and column.
    pub fn parse(text: &str) -> Result<Self> {
        let mut members = parse(text)?.members("the script")?;
        let list = members.required("idps")?;
        let place = list.place;
        let nodes = list.list("`idps`")?;
        members.end("`idps`")?;
        if nodes.is_empty() || nodes.len() > MAX_IDPS {
            return Err(place.error(format!("`idps` must have 1 to {MAX_IDPS} members")));
        }
        let mut idps: Vec<Idp> = Vec::new();
        for (index, node) in nodes.into_iter().enumerate() {
            let place = node.place;
            let idp = idp(node.members("an identity provider")?, index)?;
            if idps.iter().any(|other| other.name == idp.name) {
                return Err(place.error(format!("`{}` is the name of another one too", idp.name)));
            }
            idps.push(idp);
        }
        Ok(Self { idps })
    }
}

fn idp(mut members: Members, index: usize) -> Result<Idp> {
    let name = name(members.required("name")?)?;
    let alg = match members.take("alg") {
        Some(node) => node.one_of("`alg`", &ALGORITHMS.map(|alg| (alg, alg)))?,
        None => "ES256",
    };
    let count = match members.take("keys") {
        Some(node) => node.number("`keys`", &(1..=MAX_KEYS))?,
        None => 1,
    };
    let tls = members
        .take("tls")
        .map_or(Ok(false), |node| node.boolean("`tls`"))?;
    let timeline = members.take("timeline");
    members.end("`name`, `alg`, `keys`, `tls`, `timeline`")?;

    let mut keys = Keys::new(&name, alg, index, count);
    let mut steps: Vec<Step> = Vec::new();
    if let Some(timeline) = timeline {
        let place = timeline.place;
        let nodes = timeline.list("`timeline`")?;
        if nodes.len() > MAX_STEPS {
            return Err(place.error(format!("`timeline` must have {MAX_STEPS} steps at most")));
        }
        for node in nodes {
            let place = node.place;
            let step = step(node.members("a step")?, &mut keys, tls)?;
            match steps.last() {
                None if !step.at.is_zero() => steps.push(Step::normal(Keys::new(&name, alg, index, count))),
                Some(last) if last.at >= step.at => {
                    return Err(place.error("a step must be later than the one before it"));
                }
                _ => {}
            }
            steps.push(step);
        }
    }
    if steps.is_empty() {
        steps.push(Step::normal(keys));
    }
    Ok(Idp { name, tls, steps })
}

impl Step {
    fn normal(keys: Keys) -> Self {
        Self {
            at: Duration::ZERO,
            keys,
            fault: Fault::None,
            on: On::Both,
            headers: Vec::new(),
            validators: Validity::Etag,
            issuer: None,
            flapping: false,
            certificate: Certificate::Good,
        }
    }
}

fn step(mut members: Members, keys: &mut Keys, tls: bool) -> Result<Step> {
    let at = members.required("at")?.duration("`at`")?;
    if let Some(node) = members.take("keys") {
        for change in changes(node)? {
            keys.apply(change);
        }
    }
    let mut step = Step {
        at,
        ..Step::normal(keys.clone())
    };
    if let Some(node) = members.take("fault") {
        let place = node.place;
        step.fault = fault(node)?;
        if step.fault == Fault::Redirect(Target::Http) && !tls {
            return Err(place.error("a redirect to http needs `tls: true`"));
        }
    }
    if let Some(node) = members.take("on") {
        let words = [
            ("both", On::Both),
            ("jwks", On::Jwks),
            ("discovery", On::Discovery),
        ];
        step.on = node.one_of("`on`", &words)?;
    }
    if let Some(node) = members.take("headers") {
        step.headers = headers(node)?;
    }
    if let Some(node) = members.take("validators") {
        let words = [
            ("etag", Validity::Etag),
            ("last_modified", Validity::LastModified),
            ("none", Validity::None),
            ("changing", Validity::Changing),
            ("stuck", Validity::Stuck),
            ("always_304", Validity::Always304),
        ];
        let place = node.place;
        step.validators = node.one_of("`validators`", &words)?;
        if !step.fault.serves_the_document() {
            return Err(place.error("validators need a fault that serves the document: normal or slow"));
        }
    }
    if let Some(node) = members.take("issuer") {
        step.issuer = Some(node.text("`issuer`")?);
    }
    if let Some(node) = members.take("flapping") {
        let place = node.place;
        step.flapping = node.boolean("`flapping`")?;
        if step.flapping && step.keys.count() < 2 {
            return Err(place.error("flapping needs two keys at least"));
        }
    }
    if let Some(node) = members.take("certificate") {
        if !tls {
            return Err(node.place.error("a certificate needs `tls: true`"));
        }
        let words = [
            ("good", Certificate::Good),
            ("wrong_name", Certificate::WrongName),
            ("expired", Certificate::Expired),
            ("self_signed", Certificate::SelfSigned),
            ("unknown_ca", Certificate::UnknownCa),
        ];
        step.certificate = node.one_of("`certificate`", &words)?;
    }
    members
        .end("`at`, `keys`, `fault`, `on`, `headers`, `validators`, `issuer`, `flapping`, `certificate`")?;
    Ok(step)
}

fn name(node: Node) -> Result<String> {
    let place = node.place;
    let name = node.text("`name`")?;
    let good = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    match good {
        true => Ok(name),
        false => Err(place.error("`name` must be 1 to 64 of A-Z a-z 0-9 _ -")),
    }
}

fn changes(node: Node) -> Result<Vec<Change>> {
    let words = [
        ("add", Change::Add),
        ("switch", Change::Switch),
        ("drop", Change::Drop),
        ("rotate", Change::Rotate),
        ("replace", Change::Replace),
        ("reuse_kid", Change::ReuseKid),
    ];
    match node.value {
        Value::List(nodes) => nodes
            .into_iter()
            .map(|node| node.one_of("a change of keys", &words))
            .collect(),
        _ => Ok(vec![node.one_of("a change of keys", &words)?]),
    }
}

fn headers(node: Node) -> Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    for entry in node.map("`headers`")? {
        if HeaderName::try_from(&entry.name).is_err() {
            return Err(entry.place.error("not the name of a header"));
        }
        let place = entry.node.place;
        let value = entry.node.text("a header")?;
        if HeaderValue::try_from(&value).is_err() {
            return Err(place.error("not the value of a header"));
        }
        headers.push((entry.name.to_ascii_lowercase(), value));
    }
    Ok(headers)
}
