//! Headers by which a client says who it is, what it asks for, or what a proxy should drop.

use super::{ANONYMOUS, ENVOYS, answered, refused, through};
use crate::proxies::cast::Cast;
use crate::proxies::door::Door;
use crate::proxies::row::{Request, Row, get};

pub(super) fn rows(cast: &Cast) -> Vec<Row> {
    let mut rows = spoofed(cast);
    rows.extend(connection(cast));
    rows.extend(families(cast));
    rows
}

fn spoofed(cast: &Cast) -> Vec<Row> {
    let mut rows = Vec::new();
    for name in [
        "X-Tokenward-Subject",
        "x-tokenward-subject",
        "X-TOKENWARD-SUBJECT",
        "X_Tokenward_Subject",
        "x_tokenward_subject",
        "X-Tokenward_Subject",
        "X_Tokenward-Subject",
        "X.Tokenward.Subject",
        "X-Tokenward-Issuer",
        "X_Tokenward_Issuer",
        "X-Tokenward-Token-Id",
        "X_Tokenward_Token_Id",
        "X-Tokenward-Token_Id",
        "X-Tokenward-Scope",
        "X_Tokenward_Scope",
        "X-User-Email",
        "X_User_Email",
        "X-User_Email",
        "X.User.Email",
        "X~User|Email",
    ] {
        let anonymous = format!("{name} of a client, nobody known");
        rows.push(Row::new(
            anonymous,
            get("/public/x").header(name, "root"),
            ANONYMOUS,
        ));
        // It sets two of the five names itself.
        let known = format!("{name} of a client, somebody known");
        let request = get("/hello").header(name, "root").bearer(&cast.bare.token);
        rows.push(Row::new(known, request, through(&cast.bare)));
    }
    for character in "!#$%&'*+.^_`|~".chars() {
        let name = format!("X{character}Tokenward{character}Scope");
        let request = get("/public/x").header(&name, "admin");
        rows.push(Row::new(format!("{name} of a client"), request, ANONYMOUS));
    }
    let all = |request: Request| {
        [
            "X-Tokenward-Subject",
            "X_Tokenward_Subject",
            "X-Tokenward-Issuer",
            "X-Tokenward-Token-Id",
            "X-Tokenward-Scope",
            "X-User-Email",
        ]
        .iter()
        .fold(request, |request, name| {
            request.header(name, "root").header(name, "admin")
        })
    };
    rows.push(Row::new(
        "all of them twice, nobody known",
        all(get("/public/x")),
        ANONYMOUS,
    ));
    rows.push(Row::new(
        "all of them twice, alice",
        all(get("/hello").bearer(&cast.alice.token)),
        through(&cast.alice),
    ));
    rows.push(Row::new(
        "all of them and no token",
        all(get("/hello")),
        refused("token_missing"),
    ));
    rows.push(Row::new(
        "all of them and a bad token where none is needed",
        all(get("/public/x").bearer("abc")),
        ANONYMOUS,
    ));
    // What the authorization service may tell Envoy, a client may not.
    for name in ["X-Envoy-Auth-Headers-To-Remove", "X-Accel-Expires"] {
        let request = get("/hello")
            .bearer(&cast.alice.token)
            .header(name, "authorization,x-tokenward-subject");
        rows.push(Row::new(
            format!("{name} of a client"),
            request,
            through(&cast.alice),
        ));
    }
    rows
}

fn connection(cast: &Cast) -> Vec<Row> {
    let alice = &cast.alice;
    let mut rows = Vec::new();
    for value in [
        "X-Tokenward-Subject",
        "x-tokenward-subject",
        "close, X-Tokenward-Subject",
        "keep-alive,X-Tokenward-Issuer, X-Tokenward-Scope",
        "X-Tokenward-Token-Id",
        "X_Tokenward_Subject",
        "X-User-Email",
        "X-Forwarded-Uri",
        "X-Original-URI, X-Original-Method",
    ] {
        let request = get("/hello").bearer(&alice.token).header("Connection", value);
        rows.push(
            Row::new(format!("Connection: {value}"), request, through(alice))
                .but(&[Door::Caddy], answered(400)),
        );
    }
    let value = "X-Forwarded-Method, X-Forwarded-Host";
    let request = get("/hello").bearer(&alice.token).header("Connection", value);
    rows.push(
        Row::new(format!("Connection: {value}"), request, through(alice))
            .but(ENVOYS, answered(400))
            .but(&[Door::Caddy], answered(400)),
    );
    let twice = get("/hello")
        .bearer(&alice.token)
        .header("Connection", "close")
        .header("Connection", "X-Tokenward-Subject");
    rows.push(Row::new("two Connection lines", twice, through(alice)).but(&[Door::Caddy], answered(400)));

    // Whoever drops its own token has none, except at nginx, which drops nothing.
    for (value, request) in [
        ("Authorization", get("/hello").bearer(&alice.token)),
        ("Cookie", get("/hello").cookie(&alice.token)),
    ] {
        rows.push(
            Row::new(
                format!("Connection: {value}, the carrier"),
                request.header("Connection", value),
                refused("token_missing"),
            )
            .but(&[Door::Nginx], through(alice))
            .but(&[Door::Caddy], answered(400)),
        );
    }
    // A good token that is dropped uncovers no bad one.
    let both = get("/hello")
        .bearer(&alice.token)
        .cookie(&cast.expired)
        .header("Connection", "Authorization");
    rows.push(
        Row::new(
            "Connection drops one of two carriers",
            both,
            refused("token_expired"),
        )
        .but(&[Door::Nginx], refused("request_malformed"))
        .but(&[Door::Caddy], answered(400)),
    );
    for value in ["close", "keep-alive", "TE", "Foo"] {
        let request = get("/hello")
            .bearer(&alice.token)
            .header("Foo", "1")
            .header("Connection", value);
        rows.push(Row::new(format!("Connection: {value}"), request, through(alice)));
    }
    rows
}

/// What other proxies, or the same ones at another door, would tell about a request.
fn families(cast: &Cast) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, value) in [
        ("X-Forwarded-Uri", "/public/x"),
        ("X-Forwarded-Path", "/public/x"),
        ("X-Forwarded-Prefix", "/public"),
        ("X-Original-URI", "/public/x"),
        ("X-Original-URL", "/public/x"),
        ("X-Rewrite-URL", "/public/x"),
        ("X-Envoy-Original-Path", "/public/x"),
        ("X-Forwarded-Host", "status.example.com"),
        ("X-Original-Host", "status.example.com"),
        ("X-Host", "status.example.com"),
        ("Forwarded", "host=status.example.com;proto=https"),
        ("X_Forwarded_Uri", "/public/x"),
        ("X_Original_URI", "/public/x"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Proto", "https"),
    ] {
        let denied = get("/internal/x").bearer(&cast.admin.token).header(name, value);
        rows.push(Row::new(
            format!("{name} where nobody may"),
            denied,
            refused("rule_denied"),
        ));
        let anonymous = get("/hello").header(name, value);
        rows.push(Row::new(
            format!("{name} without a token"),
            anonymous,
            refused("token_missing"),
        ));
    }
    for name in [
        "X-Forwarded-Method",
        "X-Original-Method",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X_Forwarded_Method",
        "X_Original_Method",
    ] {
        let delete = Request::new("DELETE", "/things/1")
            .bearer(&cast.alice.token)
            .header(name, "GET");
        rows.push(Row::new(
            format!("{name}: GET on a DELETE"),
            delete,
            refused("insufficient_scope"),
        ));
        let post = Request::new("POST", "/hello")
            .host("status.example.com")
            .header(name, "GET");
        rows.push(Row::new(
            format!("{name}: GET on a POST"),
            post,
            refused("token_missing"),
        ));
    }
    // The other way round: what is allowed stays so.
    for (name, value) in [
        ("X-Original-URI", "/internal/x"),
        ("X-Original-Method", "DELETE"),
        ("X-Rewrite-URL", "/internal/x"),
        ("X-Envoy-Original-Path", "/internal/x"),
        ("X-Envoy-Decorator-Operation", "DELETE"),
        ("X-Envoy-Upstream-Rq-Timeout-Ms", "1"),
        ("X-Envoy-Internal", "true"),
    ] {
        let request = get("/hello").bearer(&cast.alice.token).header(name, value);
        rows.push(Row::new(
            format!("{name} of something forbidden"),
            request,
            through(&cast.alice),
        ));
    }
    let upgrade = get("/hello")
        .bearer(&cast.alice.token)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket");
    // The example does not let Envoy upgrade connections.
    rows.push(Row::new("an upgrade", upgrade, through(&cast.alice)).but(ENVOYS, answered(403)));
    rows
}
