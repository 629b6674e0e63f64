//! Real clients verify a provider's tokens with the key sets that tokenward serves.

use serde_json::json;

use crate::judges::Judge;
use crate::provider::Provider;
use crate::tokenward::Tokenward;

#[test]
fn clients_verify_with_the_served_key_sets() {
    let provider = Provider::start();
    let other = Provider::start();
    let tokenward = Tokenward::start(&format!(
        "  - {{ name: provider, issuer: \"{}\" }}\n  - {{ name: other, issuer: \"{}\" }}\n",
        provider.issuer, other.issuer
    ));
    let good = ["RS256", "ES256"].map(|algorithm| provider.token(algorithm, 300, "my-api"));
    let foreign = ["RS256", "ES256"].map(|algorithm| other.token(algorithm, 300, "my-api"));
    let tokens = || good.iter().chain(&foreign).map(String::as_str);

    for judge in Judge::ALL {
        for path in [
            "/jwks/provider",
            "/tenants/default/jwks/provider",
            "/jwks.json",
            "/.well-known/jwks.json",
        ] {
            let keys = json!({"jwks_url": format!("{}{path}", tokenward.url)});
            let verdicts = judge.verdicts(&keys, &provider.issuer, "my-api", &["RS256", "ES256"], tokens());
            let accepted: Vec<_> = verdicts.iter().map(Option::is_none).collect();
            assert_eq!(
                accepted,
                [true, true, false, false],
                "{judge:?} with {path}: {verdicts:?}"
            );
        }
    }
}
