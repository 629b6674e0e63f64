//! `tokenward token mint | pair | renew | latest | watch | revoke` and `tokenward user revoke`: the tokens that a
//! running server issues.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};
use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Ending, Failure,
    answers::{done, record},
    api::{Client, ServerArgs},
    input,
    output::Output,
    watch,
};
use crate::config::{Environment, parse_duration};

/// What is asked of a server.
#[derive(Subcommand)]
pub(super) enum Call {
    /// Mint a single token
    Mint {
        #[command(flatten)]
        grant: Grant,
        /// How long it is good, as `90s`, `15m`, `1h`, `30d`; else as configured
        #[arg(long, value_name = "DURATION", value_parser = seconds)]
        expires_in: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
    /// Mint a parent token, and short-lived children from it
    Pair {
        #[command(flatten)]
        grant: Grant,
        #[command(flatten)]
        pair: PairArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Mint a new child; the parent token is the proof
    Renew {
        #[command(flatten)]
        parent: ParentFile,
        #[command(flatten)]
        common: Common,
    },
    /// Show the latest child of a parent
    Latest {
        #[command(flatten)]
        family: Family,
        #[command(flatten)]
        common: Common,
    },
    /// Follow the children of a parent as they are minted, until it is revoked or expires
    Watch {
        #[command(flatten)]
        family: Family,
        #[command(flatten)]
        common: Common,
    },
    /// Revoke a token by its id; a parent takes its children with it
    Revoke {
        /// Its `jti`
        #[arg(allow_hyphen_values = true, value_parser = NonEmptyStringValueParser::new())]
        jti: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Subcommand)]
pub(super) enum User {
    /// Revoke everything that was issued to a user until now
    Revoke {
        /// The user's id
        #[arg(allow_hyphen_values = true, value_parser = NonEmptyStringValueParser::new())]
        id: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Args)]
pub(super) struct Common {
    #[command(flatten)]
    server: ServerArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a token is for. What is not given is left to the server.
#[derive(Args, Serialize)]
pub(super) struct Grant {
    /// Whom it is for: its `sub`
    #[arg(long = "user", value_name = "ID", allow_hyphen_values = true)]
    user_id: String,
    /// The network
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<String>,
    /// Requests a minute
    #[arg(long, value_name = "NUMBER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit: Option<u64>,
    /// What it may be used for: words with one blank between them
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// An `aud`; may be repeated
    #[arg(long)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audience: Vec<String>,
    /// Custom claims: a JSON object, or a file that holds one
    #[arg(long, value_name = "JSON|@FILE", value_parser = claims)]
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<Box<RawValue>>,
}

/// How the parent and its children are.
#[derive(Args, Serialize)]
pub(super) struct PairArgs {
    /// How long the parent is good, as `12h`, `30d`; else as configured
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_expires_in: Option<u64>,
    /// How long each child is good, as `90s`, `15m`; else as configured
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    #[serde(skip_serializing_if = "Option::is_none")]
    child_expires_in: Option<u64>,
    /// Mint the first child too
    #[arg(long)]
    include_child: bool,
    /// Mint a child only when one is asked for, not whenever the last one is about to end
    #[arg(long = "no-auto-renew", action = clap::ArgAction::SetFalse)]
    auto_renew: bool,
}

/// Where the parent token is. It is never an argument itself.
#[derive(Args)]
pub(super) struct ParentFile {
    /// A file that holds the parent token; `-` or absent: standard input
    #[arg(value_name = "FILE")]
    parent: Option<PathBuf>,
}

/// Which family is asked about, and by whom.
#[derive(Args)]
pub(super) struct Family {
    #[command(flatten)]
    parent: ParentFile,
    /// The `jti` of the parent, for those who have a credential instead of the parent token
    #[arg(
        long,
        value_name = "JTI",
        conflicts_with = "parent",
        allow_hyphen_values = true
    )]
    parent_jti: Option<String>,
}

impl ParentFile {
    fn client(&self, common: &Common, environment: &Environment, output: &Output) -> Result<Client, Failure> {
        let token = input::parent_token(self.parent.as_deref())?;
        Client::of_holder(&common.server, &token, environment, output)
    }
}

impl Family {
    fn client(&self, common: &Common, environment: &Environment, output: &Output) -> Result<Client, Failure> {
        match &self.parent_jti {
            Some(_) => Client::new(&common.server, environment, output),
            None => self.parent.client(common, environment, output),
        }
    }

    fn query(&self) -> Vec<(&str, &str)> {
        self.parent_jti
            .iter()
            .map(|jti| ("parent_jti", jti.as_str()))
            .collect()
    }
}

pub(super) fn run(call: &Call, environment: &Environment, output: &Output) -> Result<Ending, Failure> {
    #[derive(Serialize)]
    struct Body<'a, T> {
        #[serde(flatten)]
        grant: &'a Grant,
        #[serde(flatten)]
        rest: T,
    }
    #[derive(Serialize)]
    struct Single {
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_in: Option<u64>,
    }
    let issue = |path, body: Vec<u8>, common: &Common| {
        let client = Client::new(&common.server, environment, output)?;
        let answer = client.ask(Method::POST, &[path], &[], Some(body))?;
        record(&answer, StatusCode::CREATED, common.json, output)
    };
    match call {
        Call::Mint {
            grant,
            expires_in,
            common,
        } => {
            let rest = Single {
                expires_in: *expires_in,
            };
            issue("tokens", json(&Body { grant, rest })?, common)
        }
        Call::Pair { grant, pair, common } => {
            issue("token-pairs", json(&Body { grant, rest: pair })?, common)
        }
        Call::Renew { parent, common } => {
            let client = parent.client(common, environment, output)?;
            let answer = client.ask(Method::POST, &["renew"], &[], None)?;
            record(&answer, StatusCode::OK, common.json, output)
        }
        Call::Latest { family, common } => {
            let client = family.client(common, environment, output)?;
            let answer = client.ask(Method::GET, &["tokens", "latest"], &family.query(), None)?;
            record(&answer, StatusCode::OK, common.json, output)
        }
        Call::Watch { family, common } => {
            let client = family.client(common, environment, output)?;
            watch::run(&client, &family.query(), common.json, output)
        }
        Call::Revoke { jti, common } => revoke(&["tokens", jti], common, environment, output),
    }
}

pub(super) fn run_user(
    command: &User,
    environment: &Environment,
    output: &Output,
) -> Result<Ending, Failure> {
    let User::Revoke { id, common } = command;
    revoke(&["users", id, "tokens"], common, environment, output)
}

fn revoke(
    path: &[&str],
    common: &Common,
    environment: &Environment,
    output: &Output,
) -> Result<Ending, Failure> {
    let client = Client::new(&common.server, environment, output)?;
    let answer = client.ask(Method::DELETE, path, &[], None)?;
    done(&answer, "revoked", common.json, output)
}

fn json(body: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(body).map_err(|error| Failure::usage(error.to_string()))
}

/// A duration in whole seconds, as the server counts lifetimes.
fn seconds(text: &str) -> Result<u64, String> {
    let duration = parse_duration(text)?;
    if duration.subsec_nanos() > 0 {
        return Err("lifetimes are whole seconds".to_owned());
    }
    Ok(duration.as_secs())
}

/// Custom claims as they are written, so that the server judges what was given: a member that is there twice, too.
fn claims(text: &str) -> Result<Box<RawValue>, String> {
    let text = match text.strip_prefix('@') {
        Some(path) => {
            let bytes = input::file(Path::new(path)).map_err(|failure| match failure {
                Failure::Usage(message) | Failure::Network(message) => message,
            })?;
            String::from_utf8(bytes).map_err(|_| "the file is not UTF-8".to_owned())?
        }
        None => text.to_owned(),
    };
    let value: Box<RawValue> =
        serde_json::from_str(text.trim()).map_err(|error| format!("not JSON: {error}"))?;
    if !value.get().starts_with('{') {
        return Err("must be a JSON object".to_owned());
    }
    Ok(value)
}
