//! Of the rules of `authorize`.

use super::read;

/// Rules after two identity providers, in line 4.
fn rules(rules: &str) -> String {
    format!(
        "idps:\n- {{ name: okta, issuer: 'https://i.example', audiences: any }}\n- {{ name: keys, tenant: acme, url: 'https://a.example/k' }}\n\
         authorize: {{ rules: [{rules}] }}"
    )
}

refused! {
    a_rule_that_says_nothing: rules("{ host: a }") => [
        "4:22: authorize.rules[0]: needs one of `allow: true`, `deny: true` and `require`, and only one"
    ];
    a_rule_that_says_two_things: rules("{ allow: true, require: {} }") => [
        "4:22: authorize.rules[0]: needs one of `allow: true`, `deny: true` and `require`, and only one"
    ];
    an_unknown_member_of_a_rule: rules("{ hots: a, deny: true, path: { prefx: /a }, require: { scops: {} } }") => [
        "4:22: authorize.rules[0]: needs one of `allow: true`, `deny: true` and `require`, and only one",
        "4:24: authorize.rules[0].hots: unknown member (did you mean `host`?)",
        "4:51: authorize.rules[0].path: needs one of `exact`, `prefix` and `glob`, and only one",
        "4:53: authorize.rules[0].path.prefx: unknown member (did you mean `prefix`?)",
        "4:77: authorize.rules[0].require.scops: unknown member (did you mean `scopes`?)",
    ];
    a_host_with_a_port: rules("{ host: 'a.example:80', deny: true }") => [
        "4:30: authorize.rules[0].host: expected a host as `api.example.com` or `*.example.com`, without scheme and port"
    ];
    a_host_with_a_star_inside: rules("{ host: 'a.*.example', deny: true }") => [
        "4:30: authorize.rules[0].host: a wildcard stands for whole labels at the beginning, as `*.example.com`"
    ];
    a_path_that_is_not_normal: rules("{ path: { prefix: /a/../b }, deny: true }") => [
        "4:40: authorize.rules[0].path.prefix: expected a path in normal form: it begins with `/` and has no query, no `.`, `..` or \
         empty segments, no blanks, none of `;`, `\\` and `#`, and no needless escapes"
    ];
    stars_within_a_segment: rules("{ path: { glob: '/a**' }, deny: true }") => [
        "4:38: authorize.rules[0].path.glob: `**` stands for whole segments, as in `/a/**`"
    ];
    two_paths: rules("{ path: { exact: /a, glob: /b }, deny: true }") => [
        "4:30: authorize.rules[0].path: needs one of `exact`, `prefix` and `glob`, and only one"
    ];
    no_methods: rules("{ methods: [], deny: true }") => [
        "4:33: authorize.rules[0].methods: the list is empty; leave the member out to have its default"
    ];
    a_method_in_small_letters: rules("{ methods: [get, 'G T'], deny: true }") => [
        "4:34: authorize.rules[0].methods[0]: methods are told apart by their case; write `GET`",
        "4:39: authorize.rules[0].methods[1]: expected a method as `GET`",
    ];
    empty_requirements: rules("{ require: { idps: [], audiences: [], claims: [], token_types: [], scopes: {} } }") => [
        "4:41: authorize.rules[0].require.idps: the list is empty; leave the member out to have its default",
        "4:56: authorize.rules[0].require.audiences: the list is empty; leave the member out to have its default",
        "4:68: authorize.rules[0].require.claims: the list is empty; leave the member out to have its default",
        "4:85: authorize.rules[0].require.token_types: the list is empty; leave the member out to have its default",
        "4:97: authorize.rules[0].require.scopes: needs `all` or `any`, a list of scopes",
    ];
    scopes_in_one_text: rules("{ require: { scopes: { all: ['a b'] } } }") => [
        "4:51: authorize.rules[0].require.scopes.all[0]: a scope has no blanks; name each of them as an element"
    ];
    a_claim_without_a_value: rules("{ require: { claims: [{ name: a }, { equals: b }] } }") => [
        "4:44: authorize.rules[0].require.claims[0]: needs one of `equals`, `contains` and `any_of`, and only one",
        "4:57: authorize.rules[0].require.claims[1].name: the member is missing",
    ];
    a_claim_with_two_values: rules("{ require: { claims: [{ name: a, equals: b, any_of: [c] }, { name: a, any_of: [] }] } }") => [
        "4:44: authorize.rules[0].require.claims[0]: needs one of `equals`, `contains` and `any_of`, and only one",
        "4:100: authorize.rules[0].require.claims[1].any_of: the list is empty; leave the member out to have its default",
    ];
    values_of_other_types: rules("{ require: { claims: [{ name: a, equals: 1.5 }, { name: b, contains: [x] }, { name: c, any_of: x }, { name: d, any_of: [{}] }] } }") => [
        "4:63: authorize.rules[0].require.claims[0].equals: expected a whole number of at most 64 bits, or text in quotes",
        "4:91: authorize.rules[0].require.claims[1].contains: expected text, found a list",
        "4:117: authorize.rules[0].require.claims[2].any_of: expected a list of values, found text",
        "4:142: authorize.rules[0].require.claims[3].any_of[0]: expected text, found members",
    ];
    an_unknown_token_type: rules("{ require: { token_types: [parnet] } }") => [
        "4:49: authorize.rules[0].require.token_types[0]: must be one of `access`, `parent`, `child` (did you mean `parent`?)"
    ];
    token_types_without_tokens_of_our_own: rules("{ require: { token_types: [parent] } }") => [
        "4:48: authorize.rules[0].require.token_types: only tokens of our own are of these types, and none of them can meet this rule"
    ];
    proofs_for_any_host: rules("{ host: '*.a.example', require: { dpop: required } }, { path: { exact: /a }, require: { dpop: allowed } }, { require: { dpop: required } }") => [
        "4:148: authorize.rules[2].require.dpop: the rule needs a `host`: a proof is made for one, and a proxy may pass on whichever a client names"
    ];
    proofs_of_tokens_of_our_own: rules("{ host: a, require: { idps: [self], dpop: required } }") => [
        "4:50: authorize.rules[0].require.idps: no IdP is configured for `self`",
        "4:64: authorize.rules[0].require.dpop: tokens of our own are bound to no key: none can meet this rule",
    ];
    proofs_of_children: rules("{ host: a, require: { token_types: [child], dpop: required } }") => [
        "4:57: authorize.rules[0].require.token_types: only tokens of our own are of these types, and none of them can meet this rule",
        "4:72: authorize.rules[0].require.dpop: tokens of our own are bound to no key: none can meet this rule",
    ];
    an_unknown_idp_in_a_rule: rules("{ require: { idps: [okta, otka, self, keys] } }") => [
        "4:41: authorize.rules[0].require.idps: no IdP is configured for `keys`",
        "4:41: authorize.rules[0].require.idps: no IdP is configured for `otka` (did you mean `okta`?)",
        "4:41: authorize.rules[0].require.idps: no IdP is configured for `self`",
    ];
    an_unknown_tenant_in_a_rule: rules("{ require: { tenant: acne, idps: [x] } }") => [
        "4:43: authorize.rules[0].require.tenant: no IdP is configured for `acne` (did you mean `acme`?)"
    ];
    an_idp_whose_tokens_are_not_verified: rules("{ require: { tenant: acme, idps: [keys] } }") => [
        "4:55: authorize.rules[0].require.idps: `keys` has no `issuer` and `audiences`: none of its tokens is accepted"
    ];
    rules_that_are_never_asked: rules("{ path: { prefix: /a }, deny: true }, { path: { exact: /a/b }, allow: true }, { require: {} }, { deny: true }") => [
        "4:60: authorize.rules[1]: is never asked: `rules[0]` is for every request that it is for",
        "4:117: authorize.rules[3]: is never asked: `rules[2]` is for every request that it is for",
    ];
    too_many_rules: rules(&(0..1_001).map(|n| format!("{{ path: {{ exact: /{n} }}, deny: true }},")).collect::<String>()) => [
        "4:21: authorize.rules: there are more than 1000"
    ];
    a_kept_answer_of_part_of_a_second: "authorize: { cache_max_age: 1500ms }" => [
        "1:29: authorize.cache_max_age: nginx knows whole seconds only"
    ];
    an_answer_kept_for_long: "authorize: { cache_max_age: 2h }" => ["1:29: authorize.cache_max_age: must be from 0 to 1h"];
    a_claim_header_with_many_spellings: "authorize: { claim_headers: { X-A-B-C-D-E-F-G: a } }" => [
        "1:29: authorize.claim_headers: `x-a-b-c-d-e-f-g` has more than 6 hyphens: too many spellings to remove from requests"
    ];
}
