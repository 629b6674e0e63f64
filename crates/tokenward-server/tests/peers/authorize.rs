//! Tokens of a real provider at the door for direct callers, through rotation and outage.

use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::http::Answer;
use crate::provider::Provider;
use crate::tokenward::Tokenward;

/// A provider, and a tokenward that found its keys by discovery.
fn pair() -> (Provider, Tokenward) {
    let provider = Provider::start();
    let tokenward = Tokenward::start(&format!(
        // A caller has half of the budget, and these tests are one caller that sees two rotations in a minute.
        "  - {{ name: provider, issuer: \"{}\", audiences: [my-api], unknown_kid: {{ budget: 4 }} }}\n",
        provider.issuer
    ));
    (provider, tokenward)
}

#[track_caller]
fn assert_denied(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.json()["error_code"], code, "{answer:?}");
    assert_eq!(
        answer.header("x-tokenward-subject"),
        None,
        "a denial names nobody"
    );
}

#[test]
fn a_providers_tokens_are_accepted_and_described() {
    let (provider, tokenward) = pair();
    for algorithm in ["RS256", "ES256"] {
        let answer = tokenward.authorize(&provider.token(algorithm, 300, "my-api"));
        assert_eq!(answer.status, 200, "{algorithm}: {answer:?}");
        assert_eq!(answer.header("x-tokenward-subject"), Some("svc"));
        assert_eq!(
            answer.header("x-tokenward-issuer"),
            Some(provider.issuer.as_str())
        );
        assert_eq!(answer.header("x-tokenward-scope"), Some("read write"));
        assert!(
            answer
                .header("x-tokenward-token-id")
                .is_some_and(|id| !id.is_empty())
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

#[test]
fn what_is_wrong_with_a_token_is_said() {
    let (provider, tokenward) = pair();
    let none = tokenward.get("/authorize", &[]);
    assert_denied(&none, 401, "token_missing");
    assert!(
        none.header("www-authenticate")
            .is_some_and(|challenge| challenge.starts_with("Bearer") && !challenge.contains("error"))
    );

    assert_denied(
        &tokenward.authorize(&provider.token("ES256", 300, "other-api")),
        401,
        "audience_mismatch",
    );

    let stranger = Provider::start();
    assert_denied(
        &tokenward.authorize(&stranger.token("ES256", 300, "my-api")),
        401,
        "issuer_unknown",
    );

    for algorithm in ["RS256", "ES256"] {
        let one = provider.token(algorithm, 300, "my-api");
        let other = provider.token(algorithm, 301, "my-api");
        let (signed, _) = one.rsplit_once('.').unwrap();
        let (_, signature) = other.rsplit_once('.').unwrap();
        assert_denied(
            &tokenward.authorize(&format!("{signed}.{signature}")),
            401,
            "signature_invalid",
        );
        assert_denied(&tokenward.authorize(signed), 401, "token_malformed");
    }
}

#[test]
fn a_token_ends_with_its_exp_although_it_was_accepted_before() {
    let (provider, tokenward) = pair();
    let token = provider.token("ES256", 2, "my-api");
    assert_eq!(tokenward.authorize(&token).status, 200);
    // The provider is a program of its own: its `exp` can only be waited for.
    thread::sleep(Duration::from_millis(2100));
    let answer = tokenward.authorize(&token);
    assert_denied(&answer, 401, "token_expired");
    assert!(
        answer
            .header("www-authenticate")
            .is_some_and(|challenge| challenge.contains("error=\"invalid_token\""))
    );
}

#[test]
fn a_rotation_is_followed_at_once_and_costs_no_old_token() {
    let (mut provider, tokenward) = pair();
    let before = provider.token("RS256", 300, "my-api");
    assert_eq!(tokenward.authorize(&before).status, 200);

    provider.rotate_and_keep();
    accepted_within_two_seconds(&tokenward, &provider.token("RS256", 300, "my-api"));
    let served = tokenward.get("/jwks/provider", &[]).json();
    let kids = served["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        provider.kids, kids,
        "the new keys are served, with the old ones that are still published"
    );
    assert_eq!(tokenward.authorize(&before).status, 200);
}

#[test]
fn keys_that_are_gone_at_once_verify_for_a_while() {
    let (mut provider, tokenward) = pair();
    let before = provider.token("RS256", 300, "my-api");
    assert_eq!(tokenward.authorize(&before).status, 200);
    let unseen = provider.token("RS256", 300, "my-api");

    provider.rotate_and_drop();
    accepted_within_two_seconds(&tokenward, &provider.token("ES256", 300, "my-api"));
    assert_eq!(
        tokenward.get("/jwks/provider", &[]).header("x-key-count"),
        Some("2")
    );
    for old in [&before, &unseen] {
        assert_eq!(
            tokenward.authorize(old).status,
            200,
            "in case the provider takes it back"
        );
    }
}

#[track_caller]
fn accepted_within_two_seconds(tokenward: &Tokenward, token: &str) {
    #[expect(clippy::disallowed_methods, reason = "the promise is about real time")]
    let start = Instant::now();
    let answer = tokenward.authorize(token);
    assert_eq!(
        answer.status, 200,
        "the first token with a new key is accepted: {answer:?}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "it took {:?}",
        start.elapsed()
    );
}

#[test]
fn an_outage_of_the_provider_refuses_no_token() {
    let provider = Provider::start();
    let idp = format!(
        "  - {{ name: provider, issuer: \"{}\", audiences: [my-api], refresh_interval: 1 }}\n",
        provider.issuer
    );
    let tokenward = Tokenward::start(&idp);
    let token = provider.token("ES256", 300, "my-api");
    let unseen = provider.token("RS256", 300, "my-api");
    assert_eq!(tokenward.authorize(&token).status, 200);

    drop(provider);
    crate::child::wait_for("a refresh fails", || {
        tokenward.get("/status/provider", &[]).json()["error_count"].as_u64() >= Some(1)
    });
    assert_eq!(tokenward.authorize(&token).status, 200, "a token seen before");
    assert_eq!(tokenward.authorize(&unseen).status, 200, "and one that was not");
    assert_eq!(
        tokenward.get("/jwks/provider", &[]).header("x-key-count"),
        Some("2"),
        "its keys are still served"
    );
}
