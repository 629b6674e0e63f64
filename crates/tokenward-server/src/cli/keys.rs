//! `tokenward keys`: the signing keys of a running server.

use std::path::PathBuf;

use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};
use http::{Method, StatusCode};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{
    Ending, Failure,
    answers::text,
    api::{Answer, Client, ServerArgs},
    input,
    output::{Output, harmless},
};
use crate::config::Environment;

#[derive(Subcommand)]
pub(super) enum Keys {
    /// List those that are published: the one that signs, those that will, and those that did
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Make a key that signs after the active one
    Generate {
        #[command(flatten)]
        common: Common,
    },
    /// Let the next key sign
    Rotate {
        /// Also where verifiers may not know the next key yet; they refuse its tokens until they have fetched it
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        common: Common,
    },
    /// End a key, and every token that it signed, at once
    Revoke {
        /// Its id
        #[arg(allow_hyphen_values = true, value_parser = NonEmptyStringValueParser::new())]
        kid: String,
        #[command(flatten)]
        common: Common,
    },
    /// Publish a key of yours that signs after the active one
    Import {
        /// The private key in PEM (PKCS#8, PKCS#1, SEC 1); nobody but its owner may have access to the file
        file: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Print the public keys as a JWK set
    Export {
        #[command(flatten)]
        server: ServerArgs,
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

pub(super) fn run(command: &Keys, environment: &Environment, output: &Output) -> Result<Ending, Failure> {
    let (server, json) = match command {
        Keys::List { common }
        | Keys::Generate { common }
        | Keys::Rotate { common, .. }
        | Keys::Revoke { common, .. }
        | Keys::Import { common, .. } => (&common.server, common.json),
        Keys::Export { server } => (server, true),
    };
    let client = Client::new(server, environment, output)?;
    let list = || client.ask(Method::GET, &["v1", "keys"], &[], None);
    let change = |action: &[&str], body| {
        let path = [&["v1", "keys"], action].concat();
        changed(&client.ask(Method::POST, &path, &[], body)?, json, output)
    };
    match command {
        Keys::List { .. } => listed(&list()?, json, output),
        Keys::Export { .. } => exported(&list()?, output),
        Keys::Generate { .. } => change(&["generate"], None),
        Keys::Rotate { force, .. } => {
            let body = json!({ "force": force }).to_string();
            change(&["rotate"], Some(body.into_bytes()))
        }
        Keys::Revoke { kid, .. } => change(&[kid, "revoke"], None),
        Keys::Import { file, .. } => {
            let key = input::private_key(file)?;
            let body = json!({ "private_key": key.expose_secret() }).to_string();
            change(&["import"], Some(body.into_bytes()))
        }
    }
}

/// The keys of an answer.
fn keys(answer: &Answer) -> Result<Vec<Value>, Failure> {
    match answer.json()?.get_mut("keys").map(Value::take) {
        Some(Value::Array(keys)) => Ok(keys),
        _ => Err(Failure::Network("the answer holds no keys".into())),
    }
}

fn listed(answer: &Answer, json: bool, output: &Output) -> Result<Ending, Failure> {
    if answer.status != StatusCode::OK {
        return answer.refusal(output);
    }
    let keys = keys(answer)?;
    if json {
        output.json(&Value::Array(keys));
        return Ok(Ending::Ok);
    }
    let members = [
        "kid",
        "algorithm",
        "stage",
        "published_at",
        "active_since",
        "published_until",
    ];
    let rows = keys.iter().map(|key| members.map(|member| text(key, member)));
    let headings = members.map(|member| member.replace('_', " "));
    output.table(headings.each_ref().map(String::as_str), &rows.collect::<Vec<_>>());
    Ok(Ending::Ok)
}

fn exported(answer: &Answer, output: &Output) -> Result<Ending, Failure> {
    if answer.status != StatusCode::OK {
        return answer.refusal(output);
    }
    let public = keys(answer)?
        .into_iter()
        .filter_map(|mut key| Some(key.get_mut("jwk")?.take()));
    output.json(&json!({ "keys": public.collect::<Vec<_>>() }));
    Ok(Ending::Ok)
}

/// The end of a call that changes the keys: which are new, which one signs, and which are gone.
fn changed(answer: &Answer, json: bool, output: &Output) -> Result<Ending, Failure> {
    if answer.status != StatusCode::OK {
        return answer.refusal(output);
    }
    let changes = answer.json()?;
    if json {
        output.json(&changes);
        return Ok(Ending::Ok);
    }
    let kids = |member: &str| match changes.get(member) {
        Some(Value::Array(kids)) => kids.clone(),
        Some(kid @ Value::String(_)) => vec![kid.clone()],
        _ => Vec::new(),
    };
    let rows: Vec<_> = ["added", "activated", "gone"]
        .into_iter()
        .flat_map(|member| {
            kids(member)
                .into_iter()
                .map(move |kid| [member.to_owned(), harmless(kid.as_str().unwrap_or_default())])
        })
        .collect();
    output.table(["change", "kid"], &rows);
    Ok(Ending::Ok)
}
