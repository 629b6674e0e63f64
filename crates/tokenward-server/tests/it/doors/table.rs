//! One table of requests, asked at every door.

use super::*;

#[tokio::test]
async fn every_door_decides_alike() {
    let (program, _upstreams) = start(RULES).await;
    let plain = bearer(&good());
    let admin = good()
        .claim("scope", "read admin")
        .claim("groups", json!(["ops", "dev"]));
    let (admin, no_scope, no_group, scope_alike) = (
        bearer(&admin),
        bearer(&admin.clone().claim("scope", "administrator")),
        bearer(&admin.clone().claim("groups", "ops")),
        bearer(
            &admin
                .clone()
                .claim("scope", "read")
                .claim("groups", json!(["ops"])),
        ),
    );
    let of_b = bearer(&good().issuer("https://b.test").claim("scope", "write"));
    let of_c = format!("Bearer {}", good().sign(&key(1)));
    let expired = bearer(&good().claim("exp", SystemClock::new().wall().as_secs() - 3_600));
    let large = bearer(&good().claim("pad", "x".repeat(17 * 1024)));
    let joined = format!("{plain}, {plain}");
    let (cookie, other_cookie) = (
        format!("session={}", &plain["Bearer ".len()..]),
        format!("session={}", &admin["Bearer ".len()..]),
    );
    let (none, bad) = (Vec::new(), auth("Bearer abc"));
    let www = "www.example";
    for (host, method, target, headers, proxies, direct) in [
        // Open to all, whatever they send.
        (www, "GET", "/public/x", &none, "allow", "token_missing"),
        (www, "HEAD", "/public/", &none, "allow", "token_missing"),
        (
            www,
            "GET",
            "/public/x?y=/admin/../",
            &none,
            "allow",
            "token_missing",
        ),
        (www, "GET", "/public/x", &bad, "allow", "token_malformed"),
        (
            "WWW.Example:8443",
            "GET",
            "/public/x",
            &none,
            "allow",
            "token_missing",
        ),
        (
            "www.example.",
            "GET",
            "/public/x",
            &none,
            "allow",
            "token_missing",
        ),
        // Not for other hosts, paths and methods.
        (
            "other.example",
            "GET",
            "/public/x",
            &none,
            "token_missing",
            "token_missing",
        ),
        (
            "xwww.example",
            "GET",
            "/public/x",
            &none,
            "token_missing",
            "token_missing",
        ),
        (www, "POST", "/public/x", &none, "token_missing", "token_missing"),
        (
            www,
            "OPTIONS",
            "/public/x",
            &none,
            "token_missing",
            "token_missing",
        ),
        (www, "get", "/public/x", &none, "token_missing", "token_missing"),
        (www, "GET", "/public", &none, "token_missing", "token_missing"),
        (www, "GET", "/publicx/", &none, "token_missing", "token_missing"),
        (www, "GET", "/PUBLIC/x", &none, "token_missing", "token_missing"),
        (www, "GET", "/", &none, "token_missing", "token_missing"),
        (www, "GET", "/?/public/", &none, "token_missing", "token_missing"),
        // The default.
        (www, "PATCH", "/x", &auth(&plain), "allow", "allow"),
        (
            www,
            "GET",
            "/x",
            &auth(&expired),
            "token_expired",
            "token_expired",
        ),
        (
            www,
            "GET",
            "/x",
            &auth(&of_c),
            "signature_invalid",
            "signature_invalid",
        ),
        (
            www,
            "GET",
            "/x",
            &vec![("cookie", cookie.as_str())],
            "allow",
            "allow",
        ),
        // Closed.
        (www, "GET", "/closed", &auth(&admin), "rule_denied", "allow"),
        (www, "PUT", "/closed/x/y", &none, "rule_denied", "token_missing"),
        (
            "closed.example",
            "GET",
            "/x",
            &auth(&admin),
            "rule_denied",
            "rule_denied",
        ),
        // What is required.
        (www, "GET", "/admin", &none, "token_missing", "token_missing"),
        (www, "GET", "/admin", &auth(&admin), "allow", "allow"),
        (www, "POST", "/admin/x/y", &auth(&admin), "allow", "allow"),
        (www, "GET", "/admin/x", &auth(&plain), "rule_denied", "allow"),
        (
            www,
            "GET",
            "/admin/x",
            &auth(&no_scope),
            "insufficient_scope",
            "allow",
        ),
        (
            www,
            "GET",
            "/admin/x",
            &auth(&scope_alike),
            "insufficient_scope",
            "allow",
        ),
        (www, "GET", "/admin/x", &auth(&no_group), "rule_denied", "allow"),
        (www, "GET", "/admin/x", &auth(&of_b), "rule_denied", "allow"),
        (www, "DELETE", "/admin/x", &auth(&plain), "allow", "allow"),
        (www, "GET", "/b", &auth(&of_b), "allow", "allow"),
        (www, "GET", "/b", &auth(&admin), "rule_denied", "allow"),
        (www, "GET", "/b/", &auth(&plain), "allow", "allow"),
        // Another tenant, with an issuer of the same name and other keys.
        ("x.acme.example", "GET", "/", &auth(&of_c), "allow", "allow"),
        (
            "x.acme.example",
            "GET",
            "/",
            &auth(&plain),
            "signature_invalid",
            "signature_invalid",
        ),
        (
            "x.acme.example",
            "GET",
            "/",
            &auth(&of_b),
            "issuer_unknown",
            "issuer_unknown",
        ),
        ("acme.example", "GET", "/", &auth(&plain), "allow", "allow"),
        // Paths that somebody may read in another way.
        (
            www,
            "GET",
            "/public/../admin",
            &auth(&admin),
            "rule_denied",
            "allow",
        ),
        (
            www,
            "GET",
            "/public/%2e%2e/admin",
            &none,
            "rule_denied",
            "token_missing",
        ),
        (
            www,
            "GET",
            "/public/..%2fadmin",
            &none,
            "rule_denied",
            "token_missing",
        ),
        (www, "GET", "/public/%2fx", &none, "rule_denied", "token_missing"),
        (www, "GET", "/public/x%5Cy", &none, "rule_denied", "token_missing"),
        (
            www,
            "GET",
            "/public/..;/admin",
            &none,
            "rule_denied",
            "token_missing",
        ),
        (www, "GET", "/public/x;y", &none, "rule_denied", "token_missing"),
        (
            www,
            "GET",
            "/public\\..\\admin",
            &none,
            "rule_denied",
            "token_missing",
        ),
        (www, "GET", "//public/x", &none, "rule_denied", "token_missing"),
        (www, "GET", "/public//x", &none, "rule_denied", "token_missing"),
        (www, "GET", "/%70ublic/x", &none, "rule_denied", "token_missing"),
        (www, "GET", "/public/%00", &none, "rule_denied", "token_missing"),
        (
            www,
            "GET",
            "/public/%c0%ae%c0%ae/admin",
            &none,
            "rule_denied",
            "token_missing",
        ),
        (
            www,
            "GET",
            "/public/%252e%252e/admin",
            &none,
            "rule_denied",
            "token_missing",
        ),
        (www, "GET", "/public/%", &none, "rule_denied", "token_missing"),
        (
            www,
            "GET",
            "/admin#/public/",
            &auth(&admin),
            "rule_denied",
            "allow",
        ),
        (
            www,
            "GET",
            "http://www.example/public/x",
            &none,
            "rule_denied",
            "token_missing",
        ),
        (www, "OPTIONS", "*", &auth(&plain), "rule_denied", "allow"),
        (www, "GET", "", &none, "rule_denied", "token_missing"),
        // Malformed requests.
        (
            www,
            "GET",
            "/x",
            &vec![("authorization", &*plain), ("authorization", &*plain)],
            "request_malformed",
            "request_malformed",
        ),
        (
            www,
            "GET",
            "/x",
            &auth(&joined),
            "request_malformed",
            "request_malformed",
        ),
        (www, "GET", "/x", &auth(""), "token_missing", "token_missing"),
        (
            www,
            "GET",
            "/x",
            &auth(&large),
            "token_too_large",
            "token_too_large",
        ),
        (
            www,
            "GET",
            "/public/x",
            &auth(&joined),
            "allow",
            "request_malformed",
        ),
        (
            "a b",
            "GET",
            "/x",
            &auth(&plain),
            "request_malformed",
            "request_malformed",
        ),
        (
            "www.example, other.example",
            "GET",
            "/x",
            &auth(&plain),
            "request_malformed",
            "request_malformed",
        ),
        (
            www,
            "GET",
            "/x",
            &vec![
                ("authorization", &*plain),
                ("connection", "close, X-Tokenward-Subject"),
            ],
            "request_malformed",
            "request_malformed",
        ),
        (
            www,
            "GET",
            "/public/x",
            &vec![("connection", "x_user_email")],
            "request_malformed",
            "request_malformed",
        ),
    ] {
        let client = Client {
            host,
            method,
            target,
            headers,
        };
        for door in PROXIES
            .into_iter()
            .filter(|door| door.can_say(target) && !(target.is_empty() && *door == Door::Envoy))
        {
            door.expect(&program, client, proxies).await;
        }
        Door::Direct.expect(&program, client, direct).await;
    }
    // The two differ: that is about the token, at every door.
    let headers = [("authorization", &*plain), ("cookie", &*other_cookie)];
    let client = Client {
        host: www,
        method: "GET",
        target: "/x",
        headers: &headers,
    };
    for door in [Door::Direct, Door::Envoy, Door::Nginx, Door::Forward] {
        let answer = door.ask(&program, client).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["error_code"].as_str()),
            (401, Some("request_malformed"))
        );
    }
    let metrics = program.admin("/metrics").await.text();
    for door in ["direct", "envoy", "nginx", "forward"] {
        for reason in [
            "allow",
            "rule_denied",
            "insufficient_scope",
            "request_malformed",
            "token_missing",
        ] {
            let series = format!("tokenward_decisions_total{{door=\"{door}\",reason=\"{reason}\"}}");
            assert!(
                metrics.contains(&series) || (door == "direct" && reason == "insufficient_scope"),
                "{series}"
            );
        }
    }
}
