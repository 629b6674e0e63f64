//! tokenward against real peers: oidc-provider issues the tokens, jose and PyJWT
//! read the key sets and judge the same tokens. `scripts/test` installs them; where they are missing the tests fail.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod differential;
mod judges;
mod process;
