//! Methods, hosts and bodies.

use super::{ANONYMOUS, ENVOYS, answered, refused, through};
use crate::proxies::cast::Cast;
use crate::proxies::door::Door::{Caddy, Nginx, Traefik};
use crate::proxies::row::{Outcome, Request, Row, get};

pub(super) fn rows(cast: &Cast) -> Vec<Row> {
    let mut rows = methods(cast);
    rows.extend(hosts(cast));
    rows.extend(bodies(cast));
    rows
}

fn methods(cast: &Cast) -> Vec<Row> {
    let mut rows = Vec::new();
    for method in ["GET", "HEAD", "POST", "OPTIONS", "PROPFIND"] {
        let request = |target: &str| Request::new(method, target);
        rows.push(Row::new(
            format!("{method} alice"),
            request("/hello").bearer(&cast.alice.token),
            through(&cast.alice),
        ));
        rows.push(Row::new(
            format!("{method} without a token"),
            request("/hello"),
            refused("token_missing"),
        ));
        rows.push(Row::new(
            format!("{method} anonymous"),
            request("/public/x"),
            ANONYMOUS,
        ));
        rows.push(Row::new(
            format!("{method} where nobody may"),
            request("/internal/x").bearer(&cast.admin.token),
            refused("rule_denied"),
        ));
    }
    for method in ["PUT", "PATCH", "DELETE"] {
        let request = |target: &str| Request::new(method, target);
        rows.push(Row::new(
            format!("{method} alice"),
            request("/hello").bearer(&cast.alice.token),
            refused("insufficient_scope"),
        ));
        rows.push(Row::new(
            format!("{method} writer"),
            request("/hello").bearer(&cast.writer.token),
            through(&cast.writer),
        ));
        rows.push(Row::new(
            format!("{method} without a token"),
            request("/hello"),
            refused("token_missing"),
        ));
        rows.push(Row::new(
            format!("{method} anonymous"),
            request("/public/x"),
            ANONYMOUS,
        ));
    }
    // A method is what it is, letter by letter, so no rule for GET or DELETE is about these.
    for (method, envoy, nginx) in [
        ("get", 400, Some(400)),
        ("dELETE", 400, Some(400)),
        ("M-SEARCH", 400, None),
        ("FOO", 400, None),
    ] {
        let request = Request::new(method, "/hello").bearer(&cast.alice.token);
        let row =
            Row::new(format!("{method} alice"), request, through(&cast.alice)).but(ENVOYS, answered(envoy));
        rows.push(match nginx {
            Some(status) => row.but(&[Nginx], answered(status)),
            None => row,
        });
    }
    rows.push(
        Row::new(
            "TRACE alice",
            Request::new("TRACE", "/hello").bearer(&cast.alice.token),
            through(&cast.alice),
        )
        .but(&[Nginx], answered(405)),
    );
    for (who, token) in [("alice", cast.alice.token.as_str()), ("made up", "abc")] {
        let request = Request::new("CONNECT", "/hello").bearer(token);
        let outcome = if who == "alice" {
            through(&cast.alice)
        } else {
            refused("token_malformed")
        };
        rows.push(
            Row::new(format!("CONNECT {who}"), request, outcome)
                .but(ENVOYS, answered(400))
                .but(&[Nginx], answered(405))
                .but(&[Traefik], answered(501)),
        );
    }
    // Two of them answer this by themselves, as all Go programs do.
    rows.push(
        Row::new("OPTIONS *", Request::new("OPTIONS", "*"), refused("rule_denied"))
            .but(ENVOYS, answered(404))
            .but(&[Nginx], answered(400))
            .but(&[Traefik, Caddy], answered(200)),
    );
    rows
}

fn hosts(cast: &Cast) -> Vec<Row> {
    let mut rows = Vec::new();
    for host in [
        "status.example.com",
        "status.example.com:8443",
        "STATUS.example.com",
    ] {
        let plain = Outcome::Rewritten {
            identity: Vec::new(),
            target: "/hello".to_owned(),
            host: Some("status.example.com"),
        };
        // nginx passes on the name by which it chose a server, as the rule was asked with it.
        rows.push(
            Row::new(format!("{host} anonymous"), get("/hello").host(host), ANONYMOUS).but(&[Nginx], plain),
        );
    }
    for host in [
        "status.example.com.evil.example",
        "xstatus.example.com",
        "api.example.com",
        "127.0.0.1",
    ] {
        rows.push(Row::new(
            format!("{host} without a token"),
            get("/hello").host(host),
            refused("token_missing"),
        ));
    }
    let alice = &cast.alice.token;
    rows.push(
        Row::new(
            "two Host lines",
            get("/hello").bearer(alice).header("Host", "status.example.com"),
            refused("request_malformed"),
        )
        .but(&[Nginx, Traefik, Caddy], answered(400)),
    );
    rows
}

fn bodies(cast: &Cast) -> Vec<Row> {
    let mut rows = Vec::new();
    for length in [1, 70_000, 300_000] {
        let post = |target: &str| Request::new("POST", target).body(length);
        rows.push(Row::new(
            format!("{length} bytes alice"),
            post("/hello").bearer(&cast.alice.token),
            through(&cast.alice),
        ));
        rows.push(Row::new(
            format!("{length} bytes without a token"),
            post("/hello"),
            refused("token_missing"),
        ));
        rows.push(Row::new(
            format!("{length} bytes anonymous"),
            post("/public/x"),
            ANONYMOUS,
        ));
    }
    rows
}
