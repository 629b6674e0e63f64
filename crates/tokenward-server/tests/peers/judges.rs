//! jose and PyJWT as judges of tokens.

use serde_json::{Value, json};

use crate::process::{node_script, python_script, run_json};

/// Why a peer refuses a token; none where it accepts it.
pub(crate) type Verdict = Option<String>;

/// The real libraries, and how each one's verdicts are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Judge {
    Jose,
    PyJwt,
}

impl Judge {
    pub(crate) const ALL: [Self; 2] = [Self::Jose, Self::PyJwt];

    /// The verdicts on `tokens`, with the keys that `keys` names: `{"jwks": set}` or `{"jwks_url": url}`.
    pub(crate) fn verdicts<'a>(
        self,
        keys: &Value,
        issuer: &str,
        audience: &str,
        algorithms: &[&str],
        tokens: impl Iterator<Item = &'a str>,
    ) -> Vec<Verdict> {
        let mut request = json!({
            "issuer": issuer,
            "audience": audience,
            "algorithms": algorithms,
            "tokens": tokens.collect::<Vec<_>>(),
        });
        request
            .as_object_mut()
            .unwrap()
            .extend(keys.as_object().unwrap().clone());
        let script = match self {
            Self::Jose => node_script("judge.mjs"),
            Self::PyJwt => python_script("judge.py"),
        };
        serde_json::from_value(run_json(script, &request)).expect("a list of verdicts")
    }
}
