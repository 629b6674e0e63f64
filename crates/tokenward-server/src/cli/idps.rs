//! `tokenward idps`: the identity providers of a running server.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokenward::DEFAULT_TENANT;

use super::{
    Ending, Failure,
    answers::{done, record, text},
    api::{Answer, Client, ServerArgs},
    input,
    output::{Output, Tone},
};
use crate::config::Environment;

/// Identity providers that are asked for at once.
const PAGE: &str = "1000";

#[derive(Subcommand)]
pub(super) enum Idps {
    /// List them, by name
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Show one: how its keys stand and, where it was added at run time, its document
    Show {
        /// Its name
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Add one, or change one that was added
    Add {
        /// Its name
        name: String,
        #[command(flatten)]
        what: Document,
        #[command(flatten)]
        common: Common,
    },
    /// Remove one that was added
    Remove {
        /// Its name
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Fetch its keys now, fresh or not
    Refresh {
        /// Its name
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Drop its keys at once and fetch them anew
    Purge {
        /// Its name
        name: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Args)]
pub(super) struct Common {
    #[command(flatten)]
    server: ServerArgs,
    /// The tenant
    #[arg(long, value_name = "NAME", default_value = DEFAULT_TENANT)]
    tenant: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What an identity provider is like.
#[derive(Args)]
pub(super) struct Document {
    /// A JSON file with any of the members that one has in the configuration; `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["issuer", "url", "audience"], required_unless_present_any = ["issuer", "url"])]
    document: Option<PathBuf>,
    /// The exact `iss` of its tokens; without --url its keys are found by discovery
    #[arg(long)]
    issuer: Option<String>,
    /// Its key set
    #[arg(long)]
    url: Option<String>,
    /// An `aud` of which a token must have one; may be repeated
    #[arg(long, requires = "issuer")]
    audience: Vec<String>,
}

impl Document {
    fn body(&self) -> Result<Vec<u8>, Failure> {
        if let Some(path) = &self.document {
            return if path.as_os_str() == "-" {
                input::stdin()
            } else {
                input::file(path)
            };
        }
        let mut document = serde_json::Map::new();
        let text = [("issuer", &self.issuer), ("url", &self.url)];
        document.extend(
            text.into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?)))),
        );
        if !self.audience.is_empty() {
            document.insert("audiences".into(), json!(self.audience));
        }
        Ok(Value::Object(document).to_string().into_bytes())
    }
}

pub(super) fn run(command: &Idps, environment: &Environment, output: &Output) -> Result<Ending, Failure> {
    let (common, name) = match command {
        Idps::List { common } => (common, ""),
        Idps::Show { name, common }
        | Idps::Add { name, common, .. }
        | Idps::Remove { name, common }
        | Idps::Refresh { name, common }
        | Idps::Purge { name, common } => (common, name.as_str()),
    };
    let client = Client::new(&common.server, environment, output)?;
    let ask = |method, action: &[&str], body| {
        let path = ["v1", "tenants", &common.tenant, "idps", name];
        client.ask(method, &[&path, action].concat(), &[], body)
    };
    match command {
        Idps::List { common } => list(&client, common, output),
        Idps::Show { .. } => record(&ask(Method::GET, &[], None)?, StatusCode::OK, common.json, output),
        Idps::Add { what, .. } => {
            let answer = ask(Method::PUT, &[], Some(what.body()?))?;
            match answer.status {
                StatusCode::CREATED => told(&answer, common, "added", output),
                StatusCode::OK => told(&answer, common, "changed", output),
                _ => answer.refusal(output),
            }
        }
        Idps::Remove { .. } => done(&ask(Method::DELETE, &[], None)?, "removed", common.json, output),
        Idps::Purge { .. } => done(
            &ask(Method::POST, &["purge"], None)?,
            "purged",
            common.json,
            output,
        ),
        Idps::Refresh { .. } => {
            let answer = ask(Method::POST, &["refresh"], None)?;
            if answer.status != StatusCode::OK {
                return answer.refusal(output);
            }
            refreshed(&answer.json()?, common, output)
        }
    }
}

fn list(client: &Client, common: &Common, output: &Output) -> Result<Ending, Failure> {
    let (mut idps, mut after) = (Vec::new(), String::new());
    loop {
        let mut query = vec![("limit", PAGE)];
        if !after.is_empty() {
            query.push(("after", &after));
        }
        let answer = client.ask(
            Method::GET,
            &["v1", "tenants", &common.tenant, "idps"],
            &query,
            None,
        )?;
        if answer.status != StatusCode::OK {
            return answer.refusal(output);
        }
        let mut page = answer.json()?;
        if let Some(Value::Array(more)) = page.get_mut("idps").map(Value::take) {
            idps.extend(more);
        }
        match page.get("next").and_then(Value::as_str) {
            // Whatever a server says, it must lead on.
            Some(next) if next > after.as_str() => after = next.to_owned(),
            _ => break,
        }
    }
    if common.json {
        output.json(&Value::Array(idps));
        return Ok(Ending::Ok);
    }
    let rows = idps.iter().map(|idp| {
        let from = if idp.get("dynamic") == Some(&Value::Bool(true)) {
            "api"
        } else {
            "file"
        };
        [
            text(idp, "name"),
            text(idp, "state"),
            text(idp, "key_count"),
            text(idp, "last_updated"),
            from.to_owned(),
            text(idp, "issuer"),
        ]
    });
    let headings = ["name", "state", "keys", "last updated", "from", "issuer"];
    output.table(headings, &rows.collect::<Vec<_>>());
    Ok(Ending::Ok)
}

fn refreshed(answer: &Value, common: &Common, output: &Output) -> Result<Ending, Failure> {
    let ok = answer.get("refreshed") == Some(&Value::Bool(true));
    if common.json {
        output.json(answer);
    } else if ok {
        let keys = answer
            .get("idp")
            .map(|idp| text(idp, "key_count"))
            .unwrap_or_default();
        output.line(format_args!(
            "{}, {keys} keys",
            output.tint(Tone::Good, "refreshed")
        ));
    } else {
        let words = answer
            .get("idp")
            .map(|idp| text(idp, "last_error_text"))
            .unwrap_or_default();
        let failed = output.tint(Tone::Bad, "not refreshed");
        output.line(format_args!("{failed}: {}: {words}", text(answer, "error")));
    }
    Ok(if ok { Ending::Ok } else { Ending::No })
}

/// The end of a call that answers with a record.
fn told(answer: &Answer, common: &Common, what: &str, output: &Output) -> Result<Ending, Failure> {
    if common.json {
        output.json(&answer.json()?);
    } else {
        output.line(output.tint(Tone::Good, what));
    }
    Ok(Ending::Ok)
}
