//! oidc-provider as a child. See `peers/node/provider.mjs` for what it understands.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::child::Talker;
use crate::http;
use crate::process::node_script;

pub(crate) struct Provider {
    talker: Talker,
    pub(crate) issuer: String,
    /// Of the keys that it publishes.
    pub(crate) kids: BTreeSet<String>,
}

impl Provider {
    pub(crate) fn start() -> Self {
        let talker = Talker::start(node_script("provider.mjs"));
        let hello = talker.hear();
        let issuer = hello["issuer"].as_str().unwrap().to_owned();
        Self {
            talker,
            issuer,
            kids: kids(&hello),
        }
    }

    /// Signs with new keys from now on, and publishes the old ones too.
    pub(crate) fn rotate_and_keep(&mut self) {
        self.kids = kids(&self.talker.ask(&json!({"rotate": "keep"})));
    }

    /// Signs with new keys from now on, and publishes nothing else.
    pub(crate) fn rotate_and_drop(&mut self) {
        self.kids = kids(&self.talker.ask(&json!({"rotate": "drop"})));
    }

    /// An access token of the client credentials grant, for `audience`, that lives for `lifetime` seconds.
    pub(crate) fn token(&self, algorithm: &str, lifetime: u32, audience: &str) -> String {
        let resource = format!("https://api.test/{algorithm}/{lifetime}/{audience}");
        let form = format!(
            "grant_type=client_credentials&client_id=svc&client_secret=svc-secret&scope=read%20write&resource={resource}"
        );
        let answer = http::post_form(&format!("{}/token", self.issuer), &form);
        assert_eq!(answer.status, 200, "the provider issues a token: {answer:?}");
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }
}

fn kids(answer: &Value) -> BTreeSet<String> {
    answer["kids"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kid| kid.as_str().unwrap().to_owned())
        .collect()
}
