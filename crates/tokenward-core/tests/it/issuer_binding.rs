//! A token verifies only with a key of the issuer that its `iss` names, however kids and keys are shared and swapped.

use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;
use tokenward_core::{
    Denial,
    jose::{Algorithm, KeySet},
    policy::{Audiences, Policy},
    verify,
};

use crate::support::{NOW, Signer, now, set};

const KIDS: [&str; 3] = ["a", "b", "c"];
static POOL: LazyLock<Vec<Signer>> = LazyLock::new(|| {
    [
        Algorithm::EdDsa,
        Algorithm::Es256,
        Algorithm::EdDsa,
        Algorithm::Es256,
        Algorithm::EdDsa,
        Algorithm::Es256,
    ]
    .map(Signer::new)
    .into()
});

struct Issuer {
    policy: Policy,
    keys: KeySet,
    /// Which key of the pool each kid names.
    named: Vec<usize>,
}

fn issuer(number: usize, named: Vec<usize>) -> Issuer {
    let jwks: Vec<Value> = named
        .iter()
        .zip(KIDS)
        .map(|(key, kid)| POOL[*key].jwk_with(&json!({ "kid": kid })))
        .collect();
    Issuer {
        policy: Policy::builder(format!("https://{number}.example"), Audiences::Any)
            .build()
            .unwrap(),
        keys: set(&jwks),
        named,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_key_verifies_only_for_its_own_issuer(
        layout in proptest::collection::vec(proptest::collection::vec(0..6_usize, 3), 2..5),
    ) {
        let issuers: Vec<_> = layout.into_iter().enumerate().map(|(number, named)| issuer(number, named)).collect();
        for (claimed, _) in issuers.iter().enumerate() {
            for (signing, signer) in POOL.iter().enumerate() {
                for (place, kid) in KIDS.into_iter().enumerate() {
                    let claims = json!({"iss": format!("https://{claimed}.example"), "exp": NOW + 60});
                    let token = signer.token_with(&json!({ "kid": kid }), &claims);
                    for (number, issuer) in issuers.iter().enumerate() {
                        let outcome = verify(&token, &issuer.keys, &issuer.policy, now()).map(|_| ());
                        if number != claimed {
                            prop_assert_eq!(outcome, Err(Denial::IssuerUnknown));
                        } else if issuer.named[place] == signing {
                            prop_assert_eq!(outcome, Ok(()));
                        } else {
                            let refused = matches!(outcome, Err(Denial::KeyUnknown | Denial::SignatureInvalid));
                            prop_assert!(refused, "{:?}", outcome);
                        }
                    }
                }
            }
        }
    }
}
