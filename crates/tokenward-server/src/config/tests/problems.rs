//! One test for each rule: what is refused, where, and in what words.

use super::{read, read_dev};

/// `name: text => lines`: reading `text` gives exactly `lines`.
macro_rules! refused {
    ($($name:ident: $text:expr => [$($line:expr),+ $(,)?];)+) => { $(
        #[test]
        fn $name() {
            let expected = [$($line),+].map(|line| format!("t.yaml:{line}")).join("\n");
            assert_eq!(read(&$text).map(|_| ()).unwrap_err(), expected);
        }
    )+ };
}

mod rules;

/// An IdP with `members` beside its name and URL.
fn idp(members: &str) -> String {
    format!("idps:\n- name: a\n  url: https://a.example/k\n  {members}")
}

/// An IdP with `members` beside its name and issuer.
fn symmetric(members: &str) -> String {
    format!("idps:\n- name: a\n  issuer: i\n  audiences: any\n  {members}")
}

/// The digest of a secret that nobody knows.
const DIGEST: &str = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

const SECRET: &str = "secret: qY9vK2mT4xW8zB6nL1pR5sD3fG7hJ0cV";

refused! {
    not_yaml: "server: [" => ["1:9: not YAML: unclosed bracket '['"];
    two_documents: "server:\n---\nserver:" => ["2:1: only one document is allowed in the file"];
    a_tag: "server: { port: !!int 80 }" => ["1:23: tags are not supported here"];
    an_unknown_alias: "server: *x" => ["1:9: not YAML: while parsing node, found unknown anchor"];
    an_unknown_member: "sever: {}" => ["1:1: sever: unknown member (did you mean `server`?)"];
    an_unknown_member_of_a_section: "server:\n  prot: 1\n  xyzzyx: 2" => [
        "2:3: server.prot: unknown member (did you mean `port`?)",
        "3:3: server.xyzzyx: unknown member",
    ];
    an_unknown_member_of_an_idp: idp("refresh_intervall: 3") => [
        "4:3: idps[0].refresh_intervall: unknown member (did you mean `refresh_interval`?)"
    ];
    an_unknown_member_deeper: idp("retry: { retrys: 3 }") => ["4:12: idps[0].retry.retrys: unknown member (did you mean `retries`?)"];
    an_identity_in_the_defaults: "idp_defaults: { name: a, secret: b }" => [
        "1:17: idp_defaults.name: unknown member",
        "1:26: idp_defaults.secret: unknown member",
    ];
    a_merge_key: "server: { <<: { port: 1 } }" => [
        "1:11: server.<<: merge keys are not supported; `idp_defaults` holds what IdPs share"
    ];
    a_duplicate_member: "server:\n  port: 1\n  port: 2" => ["3:3: port: the member is given twice; the first one is in line 2"];
    a_list_for_a_section: "server: [1]" => ["1:9: server: expected members, found a list"];
    text_for_a_section: "server: x" => ["1:9: server: expected members, found text"];
    a_list_for_the_file: "- server" => ["1:1: expected members, found a list"];
    members_for_a_list: "idps: { a: 1 }" => ["1:7: idps: expected a list, found members"];
    text_for_a_list: "allowed_domains: a.example" => ["1:18: allowed_domains: expected a list of texts, found text"];
    a_bare_idp: "idps: [x, null]" => [
        "1:8: idps[0]: expected members, found text",
        "1:11: idps[1]: expected members, found nothing",
    ];
    text_for_an_integer: "server: { port: x }" => ["1:17: server.port: expected an integer, found text"];
    a_quoted_integer: "server: { port: '80' }" => ["1:17: server.port: expected an integer, found text"];
    a_fraction: "server: { port: 1.5 }" => ["1:17: server.port: expected an integer"];
    nothing_for_a_value: "server:\n  port:\n" => [
        "2:7: server.port: expected an integer, found nothing; leave the member out to have its default"
    ];
    out_of_range: "server: { port: 65536, max_connections: 0 }" => [
        "1:17: server.port: must be from 0 to 65535",
        "1:41: server.max_connections: must be from 1 to 1000000",
    ];
    a_negative_number: "server: { port: -1 }" => ["1:17: server.port: must be from 0 to 65535"];
    yes_for_a_boolean: "logging: { requests: yes }" => ["1:22: logging.requests: expected `true` or `false`, found text"];
    a_number_for_text: "authorize: { cookie: 12 }" => ["1:22: authorize.cookie: expected text, found a number; put it in quotes"];
    an_empty_text: "authorize: { cookie: '' }" => ["1:22: authorize.cookie: must not be empty"];
    control_characters: "authorize: { cookie: \"a\\u0007\" }" => ["1:22: authorize.cookie: must not hold control characters"];
    an_unknown_word: "logging: { level: inof }" => [
        "1:19: logging.level: must be one of `error`, `warn`, `info`, `debug` (did you mean `info`?)"
    ];
    durations: "idp_defaults: { min_ttl: 10x, max_ttl: h, leeway: 1.5, refresh_early: -1, refresh_interval: 99999999999999999999d }" => [
        "1:26: idp_defaults.min_ttl: expected a duration (`90`, `250ms`, `90s`, `15m`, `1h`, `30d`)",
        "1:40: idp_defaults.max_ttl: expected a duration (`90`, `250ms`, `90s`, `15m`, `1h`, `30d`)",
        "1:51: idp_defaults.leeway: expected a duration (`90`, `250ms`, `90s`, `15m`, `1h`, `30d`)",
        "1:71: idp_defaults.refresh_early: expected a duration (`90`, `250ms`, `90s`, `15m`, `1h`, `30d`)",
        "1:93: idp_defaults.refresh_interval: the duration is too long",
    ];
    limits_behind_a_cache: "authorize: { enforce_rate_limit: true, cache_max_age: 1 }" => [
        "1:55: authorize.cache_max_age: must be 0 with `enforce_rate_limit`: what nginx answers by itself is not counted"
    ];
    rates: "limits: { token_api: { per_credential: 100, per_address: 0/s } }" => [
        "1:40: limits.token_api.per_credential: expected a rate (`100/s`, `6000/m`, `1000/h`), or `off`, of 1 to 1000000",
        "1:58: limits.token_api.per_address: expected a rate (`100/s`, `6000/m`, `1000/h`), or `off`, of 1 to 1000000",
    ];
    more_rates: "limits: { token_api: { per_credential: +1/s, per_address: 1000001/s } }" => [
        "1:40: limits.token_api.per_credential: expected a rate (`100/s`, `6000/m`, `1000/h`), or `off`, of 1 to 1000000",
        "1:59: limits.token_api.per_address: expected a rate (`100/s`, `6000/m`, `1000/h`), or `off`, of 1 to 1000000",
    ];
    a_refresh_interval_of_zero: idp("refresh_interval: 0") => ["4:21: idps[0].refresh_interval: must be from 1s to 30d"];
    a_leeway_of_hours: idp("leeway: 1h").replace("name: a", "name: a\n  issuer: i\n  audiences: any") => [
        "6:11: idps[0].leeway: must be from 0 to 5m"
    ];
    too_many_redirects: idp("max_redirects: 11") => ["4:18: idps[0].max_redirects: must be from 0 to 10"];
    a_bad_host: "server: { host: example.com }" => ["1:17: server.host: expected an IP address"];
    a_bad_admin: "server: { admin: '9090' }" => [
        "1:18: server.admin: expected an IP address and a port, as `127.0.0.1:9090`"
    ];
    an_admin_beyond_loopback: "server: { admin: '0.0.0.0:9090' }" => [
        "1:18: server.admin: beyond loopback the admin listener needs `credentials`; each is a name, scopes, and `secret_file` or `secret_sha256`"
    ];
    credentials_without_a_secret: "credentials: [{ name: a }, { scopes: [admni, admin, admin] }]" => [
        "1:15: credentials[0]: needs `secret_file` or `secret_sha256`",
        "1:28: credentials[1]: needs `secret_file` or `secret_sha256`",
        "1:28: credentials[1].name: the member is missing",
        "1:39: credentials[1].scopes[0]: must be one of `tokens:issue`, `tokens:read`, `tokens:revoke`, `idps:write`, `keys:write`, `admin` (did you mean `admin`?)",
    ];
    a_credential_with_two_secrets: format!("credentials: [{{ name: a, secret_sha256: {DIGEST}, secret_file: /etc/hosts }}]") => [
        "1:120: credentials[0].secret_file: `secret_sha256` and `secret_file` are both given; one is enough"
    ];
    a_digest_that_is_none: "credentials: [{ name: a b, secret_sha256: abc }]" => [
        "1:23: credentials[0].name: must be 1 to 64 letters, digits, `_`, `.` or `-`",
        "1:43: credentials[0].secret_sha256: expected a SHA-256: 64 hexadecimal digits",
    ];
    a_digest_of_nothing: "credentials: [{ name: a, secret_sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 }]" => [
        "1:41: credentials[0].secret_sha256: is the digest of a secret that everyone knows; make one with `openssl rand -base64 48`"
    ];
    credentials_that_are_alike: format!("credentials:\n- {{ name: a, secret_sha256: {DIGEST} }}\n- {{ name: a, secret_sha256: {DIGEST}, scopes: [admin, admin] }}") => [
        "3:3: credentials[1]: `a` has the same secret",
        "3:11: credentials[1].name: `credentials[0]` has the same name",
        "3:103: credentials[1].scopes: `admin` is listed twice",
    ];
    one_port_for_both: "server: { port: 9090 }" => ["1:9: server.admin: has the same port as the public listener"];
    networks: "server: { trusted_proxies: [10.0.0.1/8, x, 10.0.0.1] }" => [
        "1:29: server.trusted_proxies[0]: bits are set beyond the prefix; the network is `10.0.0.0/8`",
        "1:41: server.trusted_proxies[1]: expected a network, as `10.0.0.0/8`",
    ];
    grpc_on_a_port_that_is_taken: "server: { grpc: '127.0.0.1:9090' }" => [
        "1:17: server.grpc: has the same port as the admin listener"
    ];
    users_in_public_metrics: "server: { metrics_on_public: true }\nmetrics: { per_token: true }" => [
        "2:23: metrics.per_token: tells ids of users, which `server.metrics_on_public` would tell to everybody"
    ];
    grpc_on_the_public_port: "server: { grpc: '127.0.0.1:8080' }" => [
        "1:17: server.grpc: has the same port as the public listener"
    ];
    half_of_tls: "server: { tls: { cert: /etc/hosts } }" => ["1:16: server.tls.key: the member is missing"];
    a_missing_file: "server: { tls: { cert: /no/such, key: /etc } }" => [
        "1:24: server.tls.cert: cannot read the file: No such file or directory (os error 2)",
        "1:39: server.tls.key: expected a file, found something else",
    ];
    an_unknown_store: "store: { url: 'redis+srv://h' }" => ["1:15: store.url: must be `sqlite:DIRECTORY`, `memory:`, `redis://HOST:PORT`, `rediss://HOST:PORT`, `redis+sentinel://HOST:PORT,…/MASTER` or `redis+cluster://HOST:PORT,…`"];
    a_store_without_a_place: "store: { url: 'sqlite:' }" => ["1:15: store.url: must be `sqlite:DIRECTORY`, `memory:`, `redis://HOST:PORT`, `rediss://HOST:PORT`, `redis+sentinel://HOST:PORT,…/MASTER` or `redis+cluster://HOST:PORT,…`"];
    a_redis_without_a_host: "store: { url: 'redis://:s3cret@' }" => ["1:15: store.url: the URL of the store: a host is missing"];
    a_prefix_with_a_meaning_of_its_own: "store: { prefix: 'a:{b}' }" => ["1:18: store.prefix: must be 1 to 64 of `A-Z a-z 0-9 . _ -`"];
    an_idp_without_a_name: "idps:\n- url: https://a.example/k" => ["2:3: idps[0].name: the member is missing"];
    names: "idps:\n- { name: a.b, url: 'https://a.example/k' }\n- { name: a/b, url: 'https://a.example/k' }\n- { name: all, url: 'https://a.example/k' }\n- { name: self, url: 'https://a.example/k' }" => [
        "2:11: idps[0].name: must be 1 to 64 letters, digits, `_` or `-`",
        "3:11: idps[1].name: must be 1 to 64 letters, digits, `_` or `-`",
        "4:11: idps[2].name: `self` and `all` are reserved",
        "5:11: idps[3].name: `self` and `all` are reserved",
    ];
    a_name_of_65_characters: format!("idps: [{{ name: {}, url: 'https://a.example/k' }}]", "n".repeat(65)) => [
        "1:16: idps[0].name: must be 1 to 64 letters, digits, `_` or `-`"
    ];
    two_idps_with_one_name: "idps:\n- { name: a, url: 'https://a.example/k' }\n- { name: a, url: 'https://b.example/k' }" => [
        "3:11: idps[1].name: `idps[0]` has the same name"
    ];
    two_idps_with_one_issuer: "idps:\n- { name: a, issuer: 'https://i.example' }\n- { name: b, issuer: 'https://i.example' }" => [
        "3:22: idps[1].issuer: `idps[0]` has the same issuer"
    ];
    two_idps_of_one_tenant: "idps:\n- { name: a, tenant: t, issuer: 'https://i.example' }\n- { name: a, tenant: t, issuer: 'https://i.example' }" => [
        "3:11: idps[1].name: `idps[0]` has the same name in its tenant",
        "3:33: idps[1].issuer: `idps[0]` has the same issuer in its tenant",
    ];
    a_tenant_that_is_no_name: "idps:\n- { name: a, tenant: 'a/b', url: 'https://a.example/k' }" => [
        "2:22: idps[0].tenant: must be 1 to 64 letters, digits, `_` or `-`"
    ];
    two_idps_with_one_name_beside_a_member_that_cannot_be_read: "server: { port: x }\nidps:\n- { name: a, issuer: 'https://i.example', leeway: x }\n- { name: a, issuer: 'https://i.example' }" => [
        "1:17: server.port: expected an integer, found text",
        "3:51: idps[0].leeway: expected a duration (`90`, `250ms`, `90s`, `15m`, `1h`, `30d`)",
        "4:11: idps[1].name: `idps[0]` has the same name",
        "4:22: idps[1].issuer: `idps[0]` has the same issuer",
    ];
    an_http_url_without_audiences: "idps: [{ name: a, issuer: i, url: 'http://a.example/k' }]" => [
        "1:8: idps[0].audiences: needed to verify the tokens of `issuer`; `any` waives it",
        "1:35: idps[0].url: keys are fetched by https only; `allow_http: true` allows http",
    ];
    a_type_that_no_token_has: idp("typ: application/").replace("name: a", "name: a\n  issuer: i\n  audiences: any") => [
        "6:8: idps[0].typ: is empty; write a media type such as at+jwt, or leave it out"
    ];
    own_keys_before_there_are_any: "merged: { well_known: own }" => [
        "1:23: merged.well_known: there are own keys with `token_service` only"
    ];
    a_token_service_without_what_it_needs: "token_service: { issuer: 'http://a', child_lifetime: 40d, publish_ahead: 10, generate_key: true }" => [
        "1:16: token_service: needs `credentials`: without one nobody could ask for a token; each is a name, scopes, and `secret_file` or `secret_sha256`",
        "1:16: token_service.audience: is missing; name the services that the tokens are for",
        "1:16: token_service.key_encryption_keys: is missing: make one with `openssl rand -base64 32`, or write `allow_plaintext_keys: true` to keep keys and tokens in the store in the clear",
        "1:26: token_service.issuer: must be an https URL; http is for `--dev`",
        "1:54: token_service.child_lifetime: is longer than `max_lifetime`",
        "1:74: token_service.publish_ahead: `publish_ahead` must be at least 900 s: for so long verifiers keep a set without the new key"
    ];
    keys_that_replicas_publish_for_longer: "store: { url: 'redis://h' }\ncredentials: [{ name: a, secret_sha256: 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef }]\ntoken_service: { issuer: 'https://a.example', audience: [x], allow_plaintext_keys: true, max_lifetime: 1d, parent_lifetime: 1d, publish_ahead: 1h, rotation_interval: 10900 }" => [
        "3:167: token_service.rotation_interval: `rotation_interval` must be at least 11288 s: a key stays published until its longest token has ended, and verifiers keep 10 keys of a set"
    ];
    a_first_key_that_every_replica_would_make: "store: { url: 'redis://h' }\ncredentials: [{ name: a, secret_sha256: 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef }]\ntoken_service: { issuer: 'https://a.example', audience: [x], allow_plaintext_keys: true, generate_key: true }" => [
        "3:104: token_service.generate_key: is for a store of one process: with Redis run `tokenward keys generate` once, while the replicas run"
    ];
    an_issuer_that_an_idp_has: "credentials: [{ name: a, secret_sha256: 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef }]\ntoken_service: { issuer: 'https://a.example', audience: [x], allow_plaintext_keys: true }\nidps: [{ name: a, issuer: 'https://a.example', audiences: any }]" => [
        "2:26: token_service.issuer: the IdP `a` has the same issuer"
    ];
    encryption_keys_that_are_none: "credentials: [{ name: a, secret_sha256: 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef }]\ntoken_service: { issuer: 'https://a.example', audience: [x], key_encryption_keys: [c2hvcnQ=, AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=] }" => [
        "2:84: token_service.key_encryption_keys[0]: expected 32 bytes in base64, as `openssl rand -base64 32` prints them",
        "2:94: token_service.key_encryption_keys[1]: is the same byte 32 times; make one with `openssl rand -base64 32`"
    ];
    neither_url_nor_issuer: "idps:\n- name: a" => ["2:3: idps[0].url: needs `url`, or `issuer` for discovery"];
    a_relative_url: "idps: [{ name: a, url: /keys }]" => ["1:24: idps[0].url: expected an absolute URL: relative URL without a base"];
    a_url_of_another_scheme: "idps: [{ name: a, url: 'file:///etc/passwd' }]" => [
        "1:24: idps[0].url: the scheme must be https, or http with `allow_http: true`"
    ];
    a_url_with_a_password: "idps: [{ name: a, url: 'https://u:pw@a.example/k' }]" => [
        "1:24: idps[0].url: a user or a password in the URL is not supported"
    ];
    a_url_with_a_fragment: "idps: [{ name: a, url: 'https://a.example/k#f' }]" => [
        "1:24: idps[0].url: a URL that is fetched has no fragment (`#…`)"
    ];
    an_http_url: "idps: [{ name: a, url: 'http://a.example/k' }]" => [
        "1:24: idps[0].url: keys are fetched by https only; `allow_http: true` allows http"
    ];
    an_http_url_that_only_the_defaults_allow: "idp_defaults: { allow_http: true }\nidps: [{ name: a, url: 'http://a.example/k', allow_http: false }]" => [
        "2:24: idps[0].url: keys are fetched by https only; `allow_http: true` allows http"
    ];
    an_http_issuer: "idps: [{ name: a, issuer: 'http://a.example' }]" => [
        "1:27: idps[0].issuer: keys are fetched by https only; `allow_http: true` allows http"
    ];
    an_issuer_that_is_no_url: "idps: [{ name: a, issuer: accounts }]" => [
        "1:27: idps[0].issuer: discovery needs a URL: expected an absolute URL: relative URL without a base; or give `url`"
    ];
    an_issuer_with_a_query: "idps: [{ name: a, issuer: 'https://a.example/?t=1' }]" => [
        "1:27: idps[0].issuer: discovery needs an issuer without a query; give `url` instead"
    ];
    an_issuer_without_audiences: "idps: [{ name: a, issuer: i, url: 'https://a.example/k' }]" => [
        "1:8: idps[0].audiences: needed to verify the tokens of `issuer`; `any` waives it"
    ];
    audiences_without_an_issuer: idp("audiences: [x]") => [
        "4:14: idps[0].audiences: has no effect without `issuer`, the exact `iss` of the tokens to verify"
    ];
    audiences_in_one_text: idp("audiences: x").replace("name: a", "name: a\n  issuer: i") => [
        "5:14: idps[0].audiences: expected a list, or `any`"
    ];
    no_audiences: idp("audiences: []").replace("name: a", "name: a\n  issuer: i") => [
        "5:14: idps[0].audiences: the list is empty; leave the member out to have its default"
    ];
    algorithms: "idp_defaults: { algorithms: [none, RS265, rs256] }" => [
        "1:30: idp_defaults.algorithms[0]: must be one of `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `ES512`, `ES256K`, `EdDSA`, `HS256`, `HS384`, `HS512`",
        "1:36: idp_defaults.algorithms[1]: must be one of `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `ES512`, `ES256K`, `EdDSA`, `HS256`, `HS384`, `HS512` (did you mean `RS256`?)",
        "1:43: idp_defaults.algorithms[2]: must be one of `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `ES512`, `ES256K`, `EdDSA`, `HS256`, `HS384`, `HS512` (did you mean `RS256`?)",
    ];
    a_ttl_range_without_room: "idp_defaults: { min_ttl: 2h, max_ttl: 1h }\nidps: [{ name: a, url: 'https://a.example/k' }]" => [
        "1:26: idp_defaults.min_ttl: must not be longer than `max_ttl`"
    ];
    retries_that_do_not_fit: idp("retry: { initial: 3s, attempt: 9s }") => [
        "4:21: idps[0].retry.initial: must not be longer than `max`",
        "4:34: idps[0].retry.attempt: must not be longer than `deadline`",
    ];
    domains: "allowed_domains: ['*.example.com', 'https://a', a..b, 'b.example:443']" => [
        "1:19: allowed_domains[0]: expected a domain as `example.com`, without scheme, port and wildcard, or an IP address; subdomains are included",
        "1:36: allowed_domains[1]: expected a domain as `example.com`, without scheme, port and wildcard, or an IP address; subdomains are included",
        "1:49: allowed_domains[2]: expected a domain as `example.com`, without scheme, port and wildcard, or an IP address; subdomains are included",
        "1:55: allowed_domains[3]: expected a domain as `example.com`, without scheme, port and wildcard, or an IP address; subdomains are included",
    ];
    a_url_outside_the_domains: "allowed_domains: [b.example]\nidps:\n- { name: a, url: 'https://xb.example/k' }\n- { name: b, url: 'https://k.b.example/k', allowed_domains: [c.example] }" => [
        "3:19: idps[0].url: the host is not within the global `allowed_domains`",
        "4:19: idps[1].url: the host is not within `allowed_domains`",
    ];
    a_bad_pin: idp("pinned_spki: [AAAA]") => ["4:17: idps[0].pinned_spki[0]: expected the base64 of a SHA-256: 44 characters"];
    no_carrier: "authorize: { headers: [] }" => [
        "1:23: authorize.headers: without a header and without a `cookie` no request can carry a token"
    ];
    a_bad_header: "authorize: { headers: ['a b'] }" => ["1:24: authorize.headers[0]: expected the name of a header"];
    a_header_twice: "authorize: { headers: [X-A, x-a] }" => ["1:23: authorize.headers: `x-a` is listed twice"];
    the_cookie_header: "authorize: { headers: [Cookie] }" => [
        "1:23: authorize.headers: the member `cookie` names the cookie that carries a token"
    ];
    a_bad_cookie: "authorize: { cookie: 'a=b' }" => ["1:22: authorize.cookie: expected the name of a cookie"];
    claims_in_reserved_headers: "authorize: { claim_headers: { Host: a } }" => [
        "1:29: authorize.claim_headers: `host` cannot hold a claim: it has another meaning"
    ];
    claims_in_our_own_headers: "authorize: { claim_headers: { X_Tokenward_Subject: a } }" => [
        "1:29: authorize.claim_headers: `x_tokenward_subject` cannot hold a claim: it has another meaning"
    ];
    claims_in_headers_that_are_set_for_another_purpose: "authorize: { claim_headers: { Cache-Control: a, X-Request-Id: b, Traceparent: c, X-Accel-Expires: d, Via: e } }" => [
        "1:29: authorize.claim_headers: `cache-control` cannot hold a claim: it has another meaning",
        "1:29: authorize.claim_headers: `traceparent` cannot hold a claim: it has another meaning",
        "1:29: authorize.claim_headers: `via` cannot hold a claim: it has another meaning",
        "1:29: authorize.claim_headers: `x-accel-expires` cannot hold a claim: it has another meaning",
        "1:29: authorize.claim_headers: `x-request-id` cannot hold a claim: it has another meaning",
    ];
    claims_in_headers_on_which_proxies_act: "authorize: { claim_headers: { X-Forwarded-For: a, X-Original-URI: b, X-Envoy-Retry-On: c, X-Accel-Redirect: d, Forwarded: e, DPoP: f, Expires: g, X-Real-IP: h, Proxy-Connection: i, X-HTTP-Method-Override: j } }" => [
        "1:29: authorize.claim_headers: `dpop` cannot hold a claim: it has another meaning",
        "1:29: authorize.claim_headers: `expires` cannot hold a claim: it has another meaning",
        "1:29: authorize.claim_headers: `forwarded` cannot hold a claim: it has another meaning",
        "1:29: authorize.claim_headers: `proxy-connection` cannot hold a claim: it has another meaning",
        "1:29: authorize.claim_headers: `x-accel-redirect` cannot hold a claim: it has another meaning",
        "1:29: authorize.claim_headers: `x-envoy-retry-on` cannot hold a claim: it has another meaning",
        "1:29: authorize.claim_headers: `x-forwarded-for` cannot hold a claim: it has another meaning",
        "1:29: authorize.claim_headers: `x-http-method-override` cannot hold a claim: it has another meaning",
        "1:29: authorize.claim_headers: `x-original-uri` cannot hold a claim: it has another meaning",
        "1:29: authorize.claim_headers: `x-real-ip` cannot hold a claim: it has another meaning",
    ];
    claims_in_odd_spellings: "authorize: { claim_headers: { X.Tokenward~Subject: a, Cache.Control: b, X.A: c, X_A: d } }" => [
        "1:29: authorize.claim_headers: `cache.control` cannot hold a claim: it has another meaning",
        "1:29: authorize.claim_headers: `x.tokenward~subject` cannot hold a claim: it has another meaning",
        "1:29: authorize.claim_headers: `x_a` is named twice",
    ];
    too_many_claim_headers: format!("authorize: {{ claim_headers: {{ {} }} }}", (0..33).map(|n| format!("X-{n}: a, ")).collect::<String>()) => [
        "1:29: authorize.claim_headers: there are more than 32"
    ];
    a_claim_in_a_header_that_carries_the_token: "authorize: { headers: [X-Api_Token], claim_headers: { X_Api-Token: a } }" => [
        "1:53: authorize.claim_headers: `x_api-token` cannot hold a claim: it has another meaning"
    ];
    claims_in_one_header: "authorize: { claim_headers: { X-A: a, x_a: b } }" => [
        "1:29: authorize.claim_headers: `x_a` is named twice"
    ];

    // The combinations of a secret that are refused.
    a_secret_with_a_url: symmetric(&format!("{SECRET}\n  algorithms: [HS256]\n  url: https://a.example/k")) => [
        "7:8: idps[0].url: an IdP with a secret has no keys to fetch: leave `url` out"
    ];
    a_secret_without_an_issuer: format!("idps:\n- name: a\n  {SECRET}\n  algorithms: [HS256]\n") => [
        "2:3: idps[0].audiences: needed to verify tokens; `any` waives it",
        "2:3: idps[0].issuer: an IdP with a secret needs `issuer`",
        "4:15: idps[0].algorithms: has no effect without `issuer`, the exact `iss` of the tokens to verify",
    ];
    a_secret_without_algorithms: symmetric(SECRET) => [
        "2:3: idps[0].algorithms: an IdP with a secret names the HS algorithms of its tokens"
    ];
    a_secret_with_an_asymmetric_algorithm: symmetric(&format!("{SECRET}\n  algorithms: [HS256, RS256]")) => [
        "6:15: idps[0].algorithms: `RS256` cannot be used with a secret"
    ];
    a_symmetric_algorithm_without_a_secret: idp("algorithms: [HS256]").replace("name: a", "name: a\n  issuer: i\n  audiences: any") => [
        "6:15: idps[0].algorithms: `HS256` needs `secret` or `secret_file`"
    ];
    a_secret_shorter_than_the_hash: symmetric(&format!("{SECRET}\n  algorithms: [HS384]")) => [
        "5:11: idps[0].secret: must be at least 48 bytes long for these algorithms (RFC 7518 section 3.2)"
    ];
    an_empty_secret: symmetric("secret: ''\n  algorithms: [HS256]") => [
        "5:11: idps[0].secret: must be at least 32 bytes long for these algorithms (RFC 7518 section 3.2)"
    ];
    a_secret_out_of_a_tutorial: symmetric("secret: a-string-secret-at-least-256-bits-long\n  algorithms: [HS256]") => [
        "5:11: idps[0].secret: is a sample that everyone knows; make one with `openssl rand -base64 48`"
    ];
    a_secret_that_repeats_a_word: symmetric(&format!("secret: {}\n  algorithms: [HS256]", "secret".repeat(6))) => [
        "5:11: idps[0].secret: is a sample that everyone knows; make one with `openssl rand -base64 48`"
    ];
    two_secrets: symmetric(&format!("{SECRET}\n  algorithms: [HS256]\n  secret_file: /etc/hosts")) => [
        "7:16: idps[0].secret_file: `secret` and `secret_file` are both given; one is enough"
    ];
    a_secret_file_that_is_missing: symmetric("algorithms: [HS256]\n  secret_file: /no/such") => [
        "6:16: idps[0].secret_file: cannot read the file: No such file or directory (os error 2)"
    ];
    a_host_for_everyone_and_an_admin_for_no_one: "server: { host: '::', admin: '[2001:db8::1]:1' }" => [
        "1:30: server.admin: beyond loopback the admin listener needs `credentials`; each is a name, scopes, and `secret_file` or `secret_sha256`"
    ];
}

#[test]
fn everything_is_said_at_once_in_the_order_of_the_file() {
    let text =
        "logging: { level: loud }\nserver: { port: x }\nidps:\n- { url: 1, nmae: 2 }\n- 3\nserver: {}\n";
    let error = read(text).unwrap_err();
    let places: Vec<_> = error
        .lines()
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        places,
        [
            "t.yaml:1:19",
            "t.yaml:2:17",
            "t.yaml:4:3",
            "t.yaml:4:10",
            "t.yaml:4:13",
            "t.yaml:5:3",
            "t.yaml:6:1"
        ]
    );
}

#[test]
fn what_is_wrong_in_the_defaults_is_said_once() {
    let text = "idp_defaults: { leeway: 10m }\nidps: [{ name: a, url: 'https://a.example/k' }, { name: b, url: 'https://b.example/k' }]";
    assert_eq!(
        read(text).unwrap_err(),
        "t.yaml:1:25: idp_defaults.leeway: must be from 0 to 5m"
    );
}

#[test]
fn secrets_of_credentials_are_strong_and_private() {
    use std::{io::Write as _, os::unix::fs::PermissionsExt as _};

    for (secret, mode, complaint) in [
        ("Xb7-0123456789abcdefghijklmnopqrs", 0o600, None),
        ("Xb7-0123456789abcdefghijklmnop/=\n", 0o600, None),
        (
            "Xb7-0123456789abcdefghijklmnopqrs",
            0o640,
            Some("others than its owner have access"),
        ),
        (
            "Xb7-0123456789abcdefghijklmnopq",
            0o600,
            Some("must hold at least 32 characters"),
        ),
        ("", 0o600, Some("must hold at least 32 characters")),
        (
            "Xb7 0123456789abcdefghijklmnopqrs",
            0o600,
            Some("must be made of letters"),
        ),
        (
            "Xb7=0123456789abcdefghijklmnopqrs",
            0o600,
            Some("must be made of letters"),
        ),
        ("abababababababababababababababababab", 0o600, Some("is a sample")),
        (
            "changemechangemechangemechangemechangeme",
            0o600,
            Some("is a sample"),
        ),
    ] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(secret.as_bytes()).unwrap();
        file.as_file()
            .set_permissions(std::fs::Permissions::from_mode(mode))
            .unwrap();
        let text = format!(
            "credentials: [{{ name: a, secret_file: {} }}]",
            file.path().display()
        );
        let outcome = read(&text);
        match complaint {
            None => assert!(outcome.is_ok(), "{secret}: {outcome:?}"),
            Some(complaint) => {
                let error = outcome.unwrap_err();
                assert!(error.contains("credentials[0].secret_file: "), "{error}");
                assert!(error.contains(complaint), "{secret}: {error}");
            }
        }
    }
}

#[test]
fn an_idp_of_a_rule_may_be_added_later() {
    let rule =
        "authorize: { rules: [{ host: a, require: { idps: [later] } }, { require: { tenant: acme } }] }";
    let credential =
        |scope| format!("credentials: [{{ name: ops, secret_sha256: {DIGEST}, scopes: ['{scope}'] }}]");
    for scope in ["idps:write", "admin"] {
        let config = read(&format!("{rule}\n{}", credential(scope))).unwrap();
        assert_eq!(
            config.unmet_rules().collect::<Vec<_>>(),
            [
                "authorize.rules[0] waits for the IdP `later` of the tenant `default`: there is none in the configuration",
                "authorize.rules[1] waits for an IdP of the tenant `acme`: there is none in the configuration",
            ]
        );
        assert!(read(&format!("max_dynamic_idps: 0\n{rule}\n{}", credential(scope))).is_err());
    }
    assert!(read(&format!("{rule}\n{}", credential("tokens:read"))).is_err());
    assert!(read_dev(rule).is_ok(), "its credential may");
    let own = "authorize: { rules: [{ require: { idps: [self], token_types: [parent] } }] }";
    assert_eq!(read_dev(own).unwrap().unmet_rules().count(), 0);
    let own = "authorize: { rules: [{ require: { idps: [self] } }] }";
    let error = read(&format!("{own}\n{}", credential("admin"))).unwrap_err();
    assert!(
        error.contains("no IdP is configured for `self`"),
        "nobody can add it: {error}"
    );
}

#[test]
fn an_admin_beyond_loopback_is_fine_with_a_credential() {
    let text =
        format!("server: {{ admin: '0.0.0.0:9090' }}\ncredentials: [{{ name: a, secret_sha256: {DIGEST} }}]");
    assert!(read(&text).is_ok());
    let error = read_dev(&text).unwrap_err();
    assert_eq!(
        error,
        "t.yaml:1:18: server.admin: `--dev` listens on loopback only"
    );
}

#[test]
fn dev_listens_on_loopback_only() {
    let error = read_dev("server: { host: 0.0.0.0 }").unwrap_err();
    assert_eq!(
        error,
        "t.yaml:1:17: server.host: `--dev` listens on loopback only, as it needs no credentials"
    );
}

#[test]
fn aliases_cannot_grow_without_bound() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    let error = read(&text).unwrap_err();
    assert!(
        error.ends_with("anchors and aliases repeat more than 200000 values"),
        "{error}"
    );
}

#[test]
fn nesting_is_bounded() {
    assert!(read(&"[".repeat(100_000)).unwrap_err().contains("not YAML"));
    assert!(read(&"- ".repeat(100_000)).unwrap_err().contains("not YAML"));
    assert!(read("&a [*a]").unwrap_err().contains("1:5"));
}

#[test]
fn a_file_beyond_64_mib_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("big.yaml");
    let load = |path| crate::config::load(Some(path), false, &Default::default());
    let of_length = |length| {
        std::fs::File::create(&path).unwrap().set_len(length).unwrap();
        load(&path).unwrap_err().to_string()
    };
    let error = of_length((64 << 20) + 1);
    assert!(
        error.ends_with("big.yaml: the file is longer than 67108864 bytes"),
        "{error}"
    );
    let error = of_length(64 << 20);
    assert!(error.contains("not YAML"), "{error}");
    std::fs::write(&path, b"\n\n# \xff").unwrap();
    assert!(
        load(&path)
            .unwrap_err()
            .to_string()
            .ends_with("the file is not UTF-8, in line 3")
    );
}

#[test]
fn files_of_secrets_are_private_except_under_dev() {
    use std::os::unix::fs::PermissionsExt;

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "qY9vK2mT4xW8zB6nL1pR5sD3fG7hJ0cV").unwrap();
    let set_mode = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        file.as_file().set_permissions(permissions).unwrap();
    };
    let path = file.path().display();
    let text = format!(
        "server: {{ tls: {{ cert: /etc/hosts, key: {path} }} }}\nidps:\n- {{ name: a, issuer: i, audiences: any, \
         algorithms: [HS256], secret_file: {path} }}"
    );
    for open in [0o640, 0o604, 0o620] {
        set_mode(open);
        let message = format!(
            "others than its owner have access to the file (mode {open:04o}); run `chmod 600 {path}`"
        );
        assert_eq!(
            read(&text).unwrap_err(),
            format!("t.yaml:1:41: server.tls.key: {message}\nt.yaml:3:75: idps[0].secret_file: {message}")
        );
        assert!(read_dev(&text).is_ok());
    }
    set_mode(0o600);
    assert!(read(&text).is_ok());
}

#[test]
fn the_files_that_a_configuration_depends_on_are_told_good_or_bad() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.yaml");
    let text = "server: { tls: { cert: /no/cert, key: /no/key } }\n\
                idps: [{ name: a, issuer: i, audiences: any, secret_file: /no/secret }]\n\
                idp_defaults: { ca_file: /no/ca }\n";
    std::fs::write(&path, text).unwrap();
    let source = crate::config::Source::new(Some(&path), false, &Default::default());
    let reading = source.read(None);
    assert!(reading.config.is_err());
    let mut expected: Vec<_> = ["/no/cert", "/no/key", "/no/secret", "/no/ca"]
        .map(Into::into)
        .into();
    expected.push(path);
    expected.sort();
    assert_eq!(reading.files.into_iter().collect::<Vec<_>>(), expected);
    // The one that is looked for where none is named, and is not there yet.
    let files = crate::config::Source::new(None, true, &Default::default())
        .read(None)
        .files;
    assert_eq!(
        files.into_iter().collect::<Vec<_>>(),
        [std::path::PathBuf::from("tokenward.yaml")]
    );
}

#[test]
fn the_same_keys_of_one_process_are_published_for_long_enough() {
    let text = format!(
        "credentials: [{{ name: a, secret_sha256: {DIGEST} }}]\ntoken_service: {{ issuer: 'https://a.example', audience: [x], \
         allow_plaintext_keys: true, max_lifetime: 1d, parent_lifetime: 1d, publish_ahead: 1h, rotation_interval: 10900 }}"
    );
    assert!(read(&text).is_ok());
}
