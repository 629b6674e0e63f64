//! Prints the key ids of an identity provider, whose keys all who run this share.
//!
//! ```sh
//! cargo run -p tokenward --example redis --features redis -- redis://127.0.0.1 https://www.googleapis.com/oauth2/v3/certs
//! ```
//!
//! Started again within a quarter of an hour, it finds what was fetched the first time.

use std::{error::Error, io::Write as _, sync::Arc};

use tokenward::{
    CallerId, IdpConfig, Registry, RegistryBuilder, SystemClock,
    redis::{Redis, cache},
};
use url::Url;

/// A registry that shares what it fetches, as long as the server at `redis` can be reached.
pub(crate) fn sharing(builder: RegistryBuilder, redis: &str) -> Result<Registry, Box<dyn Error>> {
    let store = Redis::new(cache(redis), Arc::new(SystemClock::new()))?;
    Ok(builder.snapshots(Arc::new(store)).build()?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let redis = arguments.next().ok_or("give the address of Redis or Valkey")?;
    let key_set = arguments.next().ok_or("give the address of a key set")?;

    let registry = sharing(Registry::builder(), &redis)?;
    let idp = registry.register(IdpConfig::at("login", Url::parse(&key_set)?, None)?)?;
    let keys = registry.resolve("default", "login", CallerId::default()).await?;
    let fetched = idp.status().keys.last_updated;
    let mut out = std::io::stdout().lock();
    for (kid, _) in keys.documents() {
        writeln!(out, "{}", kid.unwrap_or("(no id)"))?;
    }
    writeln!(out, "as of {}", fetched.unwrap_or_default())?;
    drop(out);
    registry.shutdown().await;
    Ok(())
}
