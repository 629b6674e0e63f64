//! Paths in every spelling.

use super::{ANONYMOUS, ENVOYS, answered, refused, rewritten, through};
use crate::proxies::cast::Cast;
use crate::proxies::door::Door::{Caddy, Envoy, Grpc, Istio, Nginx, Traefik};
use crate::proxies::row::{Outcome, Row, get};

pub(super) fn rows(cast: &Cast) -> Vec<Row> {
    let mut rows = normal(cast);
    rows.extend(odd(cast));
    rows
}

fn normal(cast: &Cast) -> Vec<Row> {
    let alice = &cast.alice;
    let mut rows = Vec::new();
    for target in [
        "/public/",
        "/public/x",
        "/public/x/y?z",
        "/public/x?../../internal/",
        "/public/?/../internal/x",
    ] {
        rows.push(Row::new(format!("{target} anonymous"), get(target), ANONYMOUS));
    }
    for target in [
        "/",
        "/?",
        "/public",
        "/publicx",
        "/PUBLIC/x",
        "/hello?/public/x",
        "/admin.html",
        "/authorize",
        "/authorize/nginx",
        "/authorize/forward",
        "/authorize/envoy/public/x",
        "/authorize/envoy",
        "/oauth/introspect",
        "/tokens",
        "/metrics",
        "/livez",
        "/a%20b",
        "/a:b@c!$&'()*+,=~-._",
    ] {
        rows.push(Row::new(
            format!("{target} without a token"),
            get(target),
            refused("token_missing"),
        ));
        rows.push(Row::new(
            format!("{target} alice"),
            get(target).bearer(&alice.token),
            through(alice),
        ));
    }
    // The place from where nginx asks. A client cannot go there.
    rows.push(
        Row::new(
            "/_tokenward without a token",
            get("/_tokenward"),
            refused("token_missing"),
        )
        .but(&[Nginx], answered(404)),
    );
    for target in ["/internal/", "/internal/x?/public/x"] {
        rows.push(Row::new(
            format!("{target} admin"),
            get(target).bearer(&cast.admin.token),
            refused("rule_denied"),
        ));
    }
    for target in ["/admin", "/admin/", "/admin/a/b?c"] {
        rows.push(Row::new(
            format!("{target} alice"),
            get(target).bearer(&alice.token),
            refused("insufficient_scope"),
        ));
        rows.push(Row::new(
            format!("{target} admin"),
            get(target).bearer(&cast.admin.token),
            through(&cast.admin),
        ));
    }
    let long = format!("/{}", "x".repeat(9000));
    rows.push(Row::new(
        "a path of 9 KB",
        get(&long).bearer(&alice.token),
        through(alice),
    ));
    rows.push(
        Row::new(
            "UTF-8 in escapes",
            get("/%c3%a9").bearer(&alice.token),
            through(alice),
        )
        .but(&[Traefik], rewritten(Some(alice), "/%C3%A9")),
    );
    let injected = "/public/x%0d%0aX-Admin:1";
    rows.push(
        Row::new("a line break in escapes", get(injected), ANONYMOUS)
            .but(&[Traefik], rewritten(None, "/public/x%0D%0AX-Admin:1")),
    );
    rows
}

/// What a proxy makes of a spelling by itself, where it does not leave it as it is.
enum Made {
    /// Into this, which is in normal form.
    Of(&'static str),
    /// Into an answer.
    Into(u16),
}

/// No rule is asked about a path that two could read in two ways: it is refused, whoever it is from. Each is tried without
/// a token, and by one who may do everything.
fn odd(cast: &Cast) -> Vec<Row> {
    use Made::{Into, Of};
    let spellings: &[(&str, &[(&[_], Made)])] = &[
        ("/public/../admin/x", &[(&[Traefik], Of("/admin/x"))]),
        ("/public/..", &[(&[Traefik], Of("/"))]),
        ("/public/./x", &[(&[Traefik], Of("/public/x"))]),
        ("/public/.", &[(&[Traefik], Of("/public"))]),
        ("/./public/x", &[(&[Traefik], Of("/public/x"))]),
        ("//public/x", &[(&[Traefik], Of("/public/x"))]),
        ("/public//x", &[(&[Traefik], Of("/public/x"))]),
        ("/public/x//", &[(&[Traefik], Of("/public/x/"))]),
        ("/public/%2e%2e/admin/x", &[(&[Traefik], Of("/admin/x"))]),
        ("/public/.%2E/admin/x", &[(&[Traefik], Of("/admin/x"))]),
        ("/public/%2e/x", &[(&[Traefik], Of("/public/x"))]),
        ("/public/%252e%252e/admin/x", &[]),
        ("/public%2fx", &[]),
        ("/public/x%2F..%2Fadmin", &[]),
        ("/public%5cx", &[]),
        ("/public/..%5Cadmin", &[]),
        ("/public/..\\admin", &[]),
        ("/public/x;y", &[]),
        ("/public;/x", &[]),
        ("/public/..;/admin/x", &[]),
        ("/public/x;/../../admin", &[(&[Traefik], Of("/admin"))]),
        ("/public/x%00", &[(&[Nginx], Into(400))]),
        ("/publi%63/x", &[(&[Traefik], Of("/public/x"))]),
        ("/%70ublic/x", &[(&[Traefik], Of("/public/x"))]),
        ("/public/%78", &[(&[Traefik], Of("/public/x"))]),
        ("/public/%ff", &[]),
        ("/public/%c0%ae%c0%ae/admin", &[]),
        ("/public/x%", &[(&[Nginx, Traefik, Caddy], Into(400))]),
        ("/public/x%zz", &[(&[Nginx, Traefik, Caddy], Into(400))]),
        (
            "/public/x#y",
            &[
                (&[Envoy, Grpc, Istio, Traefik], Into(400)),
                (&[Caddy], Of("/public/x%23y")),
            ],
        ),
        (
            "/admin/x#/../../public/x",
            &[(&[Envoy, Grpc, Istio, Traefik], Into(400))],
        ),
        ("/public/\u{ff}", &[(&[Envoy, Grpc, Istio], Into(400))]),
        (
            "*",
            &[(&[Envoy, Grpc, Istio, Nginx], Into(400)), (&[Traefik], Into(404))],
        ),
        (
            "public/x",
            &[(&[Envoy, Grpc, Istio, Nginx, Traefik, Caddy], Into(400))],
        ),
        ("", &[(&[Envoy, Grpc, Istio, Nginx, Traefik, Caddy], Into(400))]),
        (
            "/public/x y",
            &[(&[Envoy, Grpc, Istio, Nginx, Traefik, Caddy], Into(400))],
        ),
        (
            "/public/x\ty",
            &[(&[Envoy, Grpc, Istio, Nginx, Traefik, Caddy], Into(400))],
        ),
        (
            "/public/\u{7f}",
            &[(&[Envoy, Grpc, Istio, Nginx, Traefik, Caddy], Into(400))],
        ),
    ];
    let mut rows = Vec::new();
    for (target, made) in spellings {
        let mut anonymous = Row::new(
            format!("{target:?} without a token"),
            get(target),
            refused("rule_denied"),
        );
        let request = get(target).bearer(&cast.admin.token);
        let mut admin = Row::new(format!("{target:?} admin"), request, refused("rule_denied"));
        for (doors, made) in *made {
            let (of_anonymous, of_admin) = match made {
                Into(status) => (answered(*status), answered(*status)),
                Of(path) if path.starts_with("/public/") => (
                    rewritten(None, path),
                    // A token is not looked at there.
                    rewritten(None, path),
                ),
                Of(path) => (refused("token_missing"), rewritten(Some(&cast.admin), path)),
            };
            anonymous = anonymous.but(doors, of_anonymous);
            admin = admin.but(doors, of_admin);
        }
        rows.push(anonymous);
        rows.push(admin);
    }
    rows.push(absolute(cast, "http://api.example.com/hello", "api.example.com"));
    rows.push(absolute(
        cast,
        "http://other.example.com/hello",
        "other.example.com",
    ));
    rows.push(
        // The name in the target counts, whatever Host says: the rule of status.example.com does not apply.
        Row::new(
            "an absolute target, and the Host of another rule",
            get("http://api.example.com/hello").host("status.example.com"),
            refused("token_missing"),
        )
        .but(ENVOYS, refused("token_missing")),
    );
    rows
}

fn absolute(cast: &Cast, target: &'static str, host: &'static str) -> Row {
    let outcome = Outcome::Rewritten {
        identity: cast.alice.identity.clone(),
        target: "/hello".to_owned(),
        host: Some(host),
    };
    Row::new(
        format!("an absolute target, {target}"),
        get(target).bearer(&cast.alice.token),
        outcome,
    )
}
