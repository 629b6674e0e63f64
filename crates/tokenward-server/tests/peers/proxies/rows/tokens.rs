//! What carries a token, and what it is worth.

use super::{ANONYMOUS, ENVOYS, ENVOYS_BY_HTTP, answered, refused, through};
use crate::proxies::cast::Cast;
use crate::proxies::door::Door;
use crate::proxies::row::{Row, get};

pub(super) fn rows(cast: &Cast) -> Vec<Row> {
    let mut rows = worth(cast);
    rows.extend(grammar(cast));
    rows.extend(carriers(cast));
    rows
}

fn worth(cast: &Cast) -> Vec<Row> {
    let mut rows = Vec::new();
    for (who, person) in [
        ("alice", &cast.alice),
        ("one without scopes", &cast.bare),
        ("one of another issuer", &cast.foreign),
    ] {
        rows.push(Row::new(
            who,
            get("/hello").bearer(&person.token),
            through(person),
        ));
    }
    for (index, person) in cast.odd.iter().enumerate() {
        let what = format!("claims no header can hold as they are, {index}");
        rows.push(Row::new(
            what,
            get("/hello").bearer(&person.token),
            through(person),
        ));
    }
    let alice = &cast.alice.token;
    let (signed, signature) = alice.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let (_, other_signature) = cast.bare.token.rsplit_once('.').unwrap();
    let (other_signed, _) = cast.bare.token.rsplit_once('.').unwrap();
    let none = "eyJhbGciOiJub25lIn0";
    let (_, payload) = signed.split_once('.').unwrap();
    // {"iss":"https://auth.example.org","exp":9999999999}
    let stranger = "eyJpc3MiOiJodHRwczovL2F1dGguZXhhbXBsZS5vcmciLCJleHAiOjk5OTk5OTk5OTl9";
    for (what, token, reason) in [
        ("expired", cast.expired.clone(), "token_expired"),
        (
            "of another audience",
            cast.other_audience.clone(),
            "audience_mismatch",
        ),
        ("revoked", cast.revoked.clone(), "token_revoked"),
        ("of a user who was revoked", cast.ended.clone(), "subject_revoked"),
        ("a parent", cast.parent.clone(), "type_rejected"),
        (
            "of a parent that was revoked",
            cast.orphan.clone(),
            "parent_revoked",
        ),
        (
            "a claim longer than a header",
            cast.too_long.clone(),
            "claim_rejected",
        ),
        (
            "another's signature",
            format!("{signed}.{other_signature}"),
            "signature_invalid",
        ),
        (
            "another's claims",
            format!("{other_signed}.{signature}"),
            "signature_invalid",
        ),
        ("without a signature", signed.to_owned(), "token_malformed"),
        (
            "with an empty signature",
            format!("{signed}."),
            "signature_invalid",
        ),
        ("alg none", format!("{none}.{payload}."), "alg_not_allowed"),
        (
            "of an unknown issuer",
            format!("{header}.{stranger}.{signature}"),
            "issuer_unknown",
        ),
        ("made up", "abc".to_owned(), "token_malformed"),
        ("four parts", format!("{alice}.e30"), "token_malformed"),
        ("over 16 KiB", "a".repeat(17 * 1024), "token_too_large"),
    ] {
        let here = format!("{what}, where a token is needed");
        rows.push(Row::new(here, get("/hello").bearer(&token), refused(reason)));
        let there = format!("{what}, where none is");
        rows.push(Row::new(there, get("/public/x").bearer(&token), ANONYMOUS));
    }
    rows
}

fn grammar(cast: &Cast) -> Vec<Row> {
    let alice = &cast.alice.token;
    let mut rows = vec![
        Row::new("no token", get("/hello"), refused("token_missing")),
        Row::new(
            "a token in the query",
            get(&format!("/hello?access_token={alice}")),
            refused("token_missing"),
        ),
        Row::new(
            "two Authorization lines, the same",
            get("/hello").bearer(alice).bearer(alice),
            refused("request_malformed"),
        )
        .but(&[Door::Nginx], answered(400)),
        Row::new(
            "two Authorization lines, another second",
            get("/hello").bearer(alice).bearer(&cast.admin.token),
            refused("request_malformed"),
        )
        .but(&[Door::Nginx], answered(400)),
        Row::new(
            "two Authorization lines, one empty",
            get("/hello").bearer(alice).header("Authorization", ""),
            refused("request_malformed"),
        )
        .but(&[Door::Nginx], answered(400))
        // It makes one of them for the authorization and the service alike.
        .but(ENVOYS, through(&cast.alice)),
        Row::new(
            "two Authorization lines, one of another scheme",
            get("/hello").bearer(alice).header("Authorization", "Basic eDp5"),
            refused("request_malformed"),
        )
        .but(&[Door::Nginx], answered(400)),
    ];
    for (what, value, outcome) in [
        (
            "scheme in lower case",
            format!("bearer {alice}"),
            through(&cast.alice),
        ),
        (
            "scheme in mixed case",
            format!("bEaReR {alice}"),
            through(&cast.alice),
        ),
        (
            "another scheme",
            format!("Basic {alice}"),
            refused("token_missing"),
        ),
        ("no scheme", alice.clone(), refused("token_missing")),
        ("scheme alone", "Bearer".to_owned(), refused("request_malformed")),
        ("empty", String::new(), refused("token_missing")),
        (
            "two tokens",
            format!("Bearer {alice} {alice}"),
            refused("request_malformed"),
        ),
        (
            "a comma",
            format!("Bearer {alice},"),
            refused("request_malformed"),
        ),
        (
            "two joined by a comma",
            format!("Bearer {alice}, Bearer {alice}"),
            refused("request_malformed"),
        ),
        (
            "in quotes",
            format!("Bearer \"{alice}\""),
            refused("request_malformed"),
        ),
        (
            "not ASCII",
            "Bearer \u{e4}".to_owned(),
            refused("request_malformed"),
        ),
    ] {
        let what = format!("Authorization: {what}");
        rows.push(Row::new(
            what,
            get("/hello").header("Authorization", &value),
            outcome,
        ));
    }
    rows
}

fn carriers(cast: &Cast) -> Vec<Row> {
    let alice = &cast.alice;
    let admin = &cast.admin.token;
    let token = &alice.token;
    vec![
        Row::new("a cookie", get("/hello").cookie(token), through(alice)),
        Row::new(
            "a cookie among others",
            get("/hello").header("Cookie", &format!("a=1; session_token={token}; b=2")),
            through(alice),
        ),
        Row::new(
            "a cookie in quotes",
            get("/hello").header("Cookie", &format!("session_token=\"{token}\"")),
            through(alice),
        ),
        Row::new(
            "a cookie that is expired",
            get("/hello").cookie(&cast.expired),
            refused("token_expired"),
        ),
        Row::new(
            "an empty cookie",
            get("/hello").cookie(""),
            refused("token_missing"),
        ),
        Row::new(
            "an empty cookie and a header",
            get("/hello").cookie("").bearer(token),
            through(alice),
        ),
        Row::new(
            "a cookie of a longer name",
            get("/hello").header("Cookie", &format!("xsession_token={token}")),
            refused("token_missing"),
        ),
        Row::new(
            "cookie and header alike",
            get("/hello").cookie(token).bearer(token),
            through(alice),
        ),
        Row::new(
            "cookie and header unlike",
            get("/hello").cookie(token).bearer(admin),
            refused("request_malformed"),
        ),
        Row::new(
            "header and cookie unlike",
            get("/hello").bearer(token).cookie(admin),
            refused("request_malformed"),
        ),
        Row::new(
            "a bad cookie beside a good header",
            get("/hello").bearer(token).cookie("abc"),
            refused("request_malformed"),
        ),
        Row::new(
            "an empty Authorization and a cookie",
            get("/hello").header("Authorization", "").cookie(token),
            refused("token_missing"),
        ),
        Row::new(
            "two cookies of the name, unlike",
            get("/hello").header("Cookie", &format!("session_token={token}; session_token={admin}")),
            refused("request_malformed"),
        ),
        // By HTTP, Envoy joins the lines of a header by commas for the authorization, so a cookie that is not in the first line is not
        // found there. It asks for less than it passes on, which refuses more and never less.
        Row::new(
            "two Cookie lines",
            get("/hello").header("Cookie", "a=1").cookie(token),
            through(alice),
        )
        .but(ENVOYS_BY_HTTP, refused("token_missing")),
        Row::new(
            "two Cookie lines, unlike",
            get("/hello").cookie(token).cookie(admin),
            refused("request_malformed"),
        )
        .but(ENVOYS_BY_HTTP, refused("token_malformed")),
        Row::new(
            "cookie and header unlike, where no token is needed",
            get("/public/x").cookie(token).bearer(admin),
            ANONYMOUS,
        ),
    ]
}
