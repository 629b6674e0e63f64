//! The `tokenward` program and the core's verifier against real peers: oidc-provider issues the tokens, jose and PyJWT
//! read the key sets and judge the same tokens, schemathesis asks
//! the admin API all that its document allows, and more. `scripts/test` installs them; where they are missing the tests fail.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

mod authorize;
mod child;
mod clients;
mod cluster;
mod differential;
mod http;
mod judges;
mod openapi;
mod process;
mod provider;
mod proxies;
mod serving;
mod tokenward;
