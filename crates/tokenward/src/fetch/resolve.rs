//! From a host's name to its addresses.

use std::{
    io,
    net::{IpAddr, ToSocketAddrs},
    sync::Arc,
};

use tokenward_core::BoxFuture;
use tokio::sync::Semaphore;

/// The system's lookups block a thread, and one that a dead name server does not answer does so for long after
/// its fetch has been given up. More than these never run at once.
const MOST_LOOKUPS: usize = 128;

/// Something that knows the addresses of hosts.
///
/// What it answers is not trusted: each address is judged before it is connected to, and nothing else is
/// connected to, so that a name which points elsewhere the next time gains nothing.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of `host`, which is a name in ASCII and never an IP address, best first.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The operating system's resolver.
#[derive(Clone, Debug)]
pub struct SystemResolver {
    lookups: Arc<Semaphore>,
}

impl SystemResolver {
    /// A resolver that runs 128 lookups at once at most.
    #[must_use]
    pub fn new() -> Self {
        Self {
            lookups: Arc::new(Semaphore::new(MOST_LOOKUPS)),
        }
    }
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self::new()
    }
}

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let host = host.to_owned();
            let lookup = move || {
                let addresses = (host.as_str(), 0).to_socket_addrs()?;
                Ok(addresses.map(|address| address.ip()).collect())
            };
            blocking(&self.lookups, lookup).await
        })
    }
}

/// Runs `job` on a thread that may block, once one of `places` is free.
async fn blocking<T: Send + 'static>(
    places: &Arc<Semaphore>,
    job: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let running = tokio::task::spawn_blocking(move || {
        // Held until the job really ends, not until its caller has stopped waiting.
        let _place = place;
        job()
    });
    running.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn knows_the_local_host() {
        let addresses = SystemResolver::new().resolve("localhost").await.unwrap();
        assert!(
            !addresses.is_empty() && addresses.iter().all(IpAddr::is_loopback),
            "{addresses:?}"
        );
    }

    #[tokio::test]
    async fn a_lookup_that_nobody_waits_for_keeps_its_place_until_it_ends() {
        let places = Arc::new(Semaphore::new(1));
        let (end, ended) = mpsc::channel::<()>();
        let hung = blocking(&places, move || ended.recv().map_err(io::Error::other));
        // One poll starts it; then its caller goes away.
        assert!(hung.now_or_never().is_none());
        assert_eq!(places.available_permits(), 0);
        assert!(blocking(&places, || Ok(())).now_or_never().is_none());
        end.send(()).unwrap();
        blocking(&places, || Ok(())).await.unwrap();
    }
}
