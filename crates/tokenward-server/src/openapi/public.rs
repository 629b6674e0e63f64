//! What is mounted beside the admin API: keys, statuses, health, decisions and metrics.

use http::StatusCode;
use utoipa::openapi::{HttpMethod, ObjectBuilder, RefOr, Schema, Type};

use super::operation::{Operation, Parameter, any_object};

/// Every operation that needs no credential, save for the document itself.
pub(crate) fn operations() -> Vec<Operation> {
    let mut all = Vec::new();
    for (prefix, tenant) in [("", false), ("/tenants/{tenant}", true)] {
        for (path, id, summary) in [
            (
                "/jwks.json",
                "jwks.merged",
                "The keys of all identity providers in one set",
            ),
            (
                "/jwks/all",
                "jwks.all",
                "The keys of all identity providers in one set",
            ),
        ] {
            all.push(keys(format!("{prefix}{path}"), id, summary));
        }
        if !tenant {
            let summary = "The own keys, or those of all identity providers in one set";
            all.push(keys("/.well-known/jwks.json".into(), "jwks.well_known", summary));
            let own = keys(
                "/jwks/self".into(),
                "jwks.self",
                "The keys that our own tokens are signed with",
            );
            all.push(own.problem(StatusCode::NOT_FOUND, "No tokens are issued here."));
            all.extend(metadata());
        }
        let summary = "The key sets of all identity providers, by name";
        all.push(key_answers(
            operation(format!("{prefix}/jwks"), "jwks.by_name", summary).tag("keys"),
            &["application/json"],
        ));
        let summary = "The key set of one identity provider";
        all.push(keys(format!("{prefix}/jwks/{{idp}}"), "jwks.one", summary));
        all.push(
            operation(
                format!("{prefix}/status"),
                "status.all",
                "How the identity providers are, by name",
            )
            .tag("status")
            .query(Parameter::name("after", "The name that the page goes on after."))
            .answers_as(
                StatusCode::OK,
                "Records by name.",
                &["application/json"],
                Some(&any_object()),
            )
            .problem(StatusCode::NOT_FOUND, "There is no such tenant."),
        );
        all.push(
            operation(
                format!("{prefix}/status/{{idp}}"),
                "status.one",
                "How one identity provider is, with its keys",
            )
            .tag("status")
            .answers_as(
                StatusCode::OK,
                "The record.",
                &["application/json"],
                Some(&any_object()),
            )
            .problem(StatusCode::NOT_FOUND, "There is no such identity provider."),
        );
    }
    for (path, id) in [
        ("/health", "health"),
        ("/healthz", "healthz"),
        ("/livez", "livez"),
    ] {
        all.push(
            operation(path.into(), id, "Whether the process answers")
                .tag("health")
                .answers_as(
                    StatusCode::OK,
                    "It does.",
                    &["application/json"],
                    Some(&any_object()),
                ),
        );
    }
    all.push(
        operation("/readyz".into(), "readyz", "Whether requests should be sent here")
            .tag("health")
            .query(Parameter::text("verbose", "Each check is listed."))
            .answers_as(StatusCode::OK, "They should.", READINESS, Some(&any_object()))
            .answers_as(
                StatusCode::SERVICE_UNAVAILABLE,
                "Not now.",
                READINESS,
                Some(&any_object()),
            ),
    );
    for (method, id) in [
        (HttpMethod::Get, "authorize"),
        (HttpMethod::Post, "authorize.post"),
    ] {
        all.push(
            Operation::new(
                method,
                "/authorize",
                id,
                "Whether a request's token lets it through",
            )
            .tag("authorize")
            .answers_as(StatusCode::OK, "It does; headers say who it is from.", &[], None)
            .problem(StatusCode::BAD_REQUEST, "The request is malformed.")
            .problem(StatusCode::UNAUTHORIZED, "The token is missing or not good.")
            .problem(StatusCode::FORBIDDEN, "The rules deny the request.")
            .problem(StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than 64 KiB.")
            .problem(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "The token is too large.",
            )
            .problem(StatusCode::TOO_MANY_REQUESTS, "The token is used up for now.")
            .problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "The issuer's keys cannot be obtained.",
            ),
        );
    }
    all.extend(doors());
    let text: RefOr<Schema> = ObjectBuilder::new().schema_type(Type::String).build().into();
    all.push(
        operation("/metrics".into(), "metrics", "Prometheus metrics")
            .tag("admin")
            .answers_as(StatusCode::OK, "The metrics.", &["text/plain"], Some(&text)),
    );
    all
}

/// Where proxies ask. The document knows no word for every method, which is what they answer.
fn doors() -> Vec<Operation> {
    let doors = [
        (
            "/authorize/envoy",
            "authorize.envoy.root",
            "Envoy's HTTP ext_authz, for the root path; every method is answered alike",
        ),
        (
            "/authorize/envoy/{path}",
            "authorize.envoy",
            "Envoy's HTTP ext_authz: the original path is appended, with as many segments as it has; every method is the \
             request's own",
        ),
        (
            "/authorize/nginx",
            "authorize.nginx",
            "nginx's auth_request, with X-Original-URI and X-Original-Method; every method is answered alike",
        ),
        (
            "/authorize/forward",
            "authorize.forward",
            "Traefik's ForwardAuth and Caddy's forward_auth, with X-Forwarded-Method, -Host and -Uri; every method is \
             answered alike",
        ),
    ];
    let doors = doors.into_iter().map(|(path, id, summary)| {
        let door = operation(path.into(), id, summary)
            .tag("authorize")
            .answers_as(
                StatusCode::OK,
                "It goes through; headers say who it is from.",
                &[],
                None,
            )
            .problem(
                StatusCode::UNAUTHORIZED,
                "The token is missing or not good, or the request is malformed.",
            )
            .problem(StatusCode::FORBIDDEN, "The rules deny the request.")
            .problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "The issuer's keys cannot be obtained.",
            );
        match id {
            // nginx knows no such status.
            "authorize.nginx" => door,
            _ => door.problem(StatusCode::TOO_MANY_REQUESTS, "The token is used up for now."),
        }
    });
    doors.collect()
}

const READINESS: &[&str] = &["application/json"];

fn operation(path: String, id: &'static str, summary: &str) -> Operation {
    Operation::new(HttpMethod::Get, path, id, summary)
}

fn keys(path: String, id: &'static str, summary: &str) -> Operation {
    let types = &["application/json", "application/jwk-set+json"];
    key_answers(operation(path, id, summary).tag("keys"), types)
}

/// The metadata of the own issuer, at the places of both specifications, and where a path of the issuer follows.
fn metadata() -> impl Iterator<Item = Operation> {
    let places = [
        ("openid-configuration", "", "metadata.openid"),
        ("openid-configuration", "/{path}", "metadata.openid.of_path"),
        ("oauth-authorization-server", "", "metadata.oauth"),
        ("oauth-authorization-server", "/{path}", "metadata.oauth.of_path"),
    ];
    places.into_iter().map(|(name, path, id)| {
        let path = format!("/.well-known/{name}{path}");
        operation(
            path,
            id,
            "The metadata of our own issuer: where its keys and endpoints are",
        )
        .tag("keys")
        .answers_as(
            StatusCode::OK,
            "The metadata.",
            &["application/json"],
            Some(&any_object()),
        )
        .answers_as(StatusCode::NOT_MODIFIED, "The client has it already.", &[], None)
        .problem(
            StatusCode::NOT_FOUND,
            "No tokens are issued here, or the issuer has another path.",
        )
    })
}

fn key_answers(operation: Operation, types: &[&str]) -> Operation {
    operation
        .answers_as(StatusCode::OK, "The keys.", types, Some(&any_object()))
        .answers_as(
            StatusCode::NOT_MODIFIED,
            "The client has them already.",
            &[],
            None,
        )
        .problem(
            StatusCode::NOT_FOUND,
            "There is no such tenant or identity provider.",
        )
        .problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "No keys are loaded yet, or they have expired.",
        )
}
