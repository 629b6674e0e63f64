//! What the fuzz targets reach of the program. Compiled for them and for the tests alone, so that the lints of every build
//! see it and no user of a release does.
//!
//! The targets link this library instead of taking in its sources by path: that costs them a longer build, and spares the
//! modules from knowing where else they are compiled.

use std::{net::IpAddr, sync::LazyLock};

use bytes::Bytes;

use crate::{
    authorize::grpc::question::Question,
    config::{self, Config, Environment, Form, Place},
    http::Members,
};

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line and column, both from 1; none for what stands in no file.
    pub place: Option<(usize, usize)>,
    /// The member and the message.
    pub text: String,
}

impl From<&config::Problem> for Problem {
    fn from(problem: &config::Problem) -> Self {
        Self {
            place: match problem.place {
                Place::File { line, column } => Some((line, column)),
                _ => None,
            },
            text: format!("{}: {}", problem.member, problem.message),
        }
    }
}

/// Reads a configuration file, where `environment` are all variables that are set. Gives for each of its identity
/// providers why the library does not take what was accepted here, which must be nothing.
///
/// # Errors
/// What is wrong with it.
pub fn configuration(
    text: &str,
    dev: bool,
    environment: &[(&str, &str)],
) -> Result<Vec<String>, Vec<Problem>> {
    let config = config::parse_text(text, dev, &Environment::of(environment))
        .map_err(|problems| problems.iter().map(Problem::from).collect::<Vec<_>>())?;
    let domains = config.form().allowed_domains;
    let outcomes = config.idps.iter().map(|idp| idp.to_library(&domains));
    Ok(outcomes
        .filter_map(|outcome| Some(outcome.err()?.to_string()))
        .collect())
}

/// What an identity provider's document says, as it was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// `issuer`.
    pub issuer: Option<String>,
    /// `url`, as it is normalized.
    pub url: Option<String>,
    /// `max_keys`.
    pub max_keys: usize,
    /// `required`.
    pub required: bool,
    /// Why the library does not take it, which must be nothing.
    pub unusable: Option<String>,
}

/// Reads the document of an identity provider, as it is put by the admin API, under a configuration of defaults.
///
/// # Errors
/// What is wrong with it, or with the defaults.
pub fn document(json: &[u8]) -> Result<Document, Vec<Problem>> {
    static FORM: LazyLock<Option<Form>> = LazyLock::new(|| {
        let config: Option<Config> = config::parse_text("", false, &Environment::default()).ok();
        Some(config?.form())
    });
    let form = FORM.as_ref().ok_or_else(Vec::new)?;
    let idp = form
        .read("tenant", "name", json)
        .map_err(|problems| problems.iter().map(Problem::from).collect::<Vec<_>>())?;
    Ok(Document {
        unusable: idp
            .to_library(&form.allowed_domains)
            .err()
            .map(|error| error.to_string()),
        url: idp.url.map(String::from),
        max_keys: idp.settings.max_keys,
        required: idp.settings.required,
        issuer: idp.issuer,
    })
}

/// The one member of the body of `POST /v1/explain` that must be there; nothing where the body is refused.
pub fn explained_token(json: &[u8]) -> Option<String> {
    let mut members = Members::parse(json, &["token", "tenant"]).ok()?;
    let (token, _) = (members.required_text("token"), members.text("tenant"));
    members.end().ok().map(|()| token)
}

/// What Envoy's question says, as it was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The address from which Envoy was asked.
    pub source: Option<IpAddr>,
    /// Method, path, host and scheme.
    pub texts: [String; 4],
    /// Names and values, those of one name in their order.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// Reads `envoy.service.auth.v3.CheckRequest`; nothing where it is refused.
pub fn question(message: &[u8]) -> Option<Told> {
    let message = Bytes::copy_from_slice(message);
    let (source, texts, headers) = Question::read(&message)?.told();
    let headers = headers.iter();
    Some(Told {
        source,
        texts,
        headers: headers
            .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
            .collect(),
    })
}
