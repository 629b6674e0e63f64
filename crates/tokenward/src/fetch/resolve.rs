//! From a host's name to its addresses.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, ToSocketAddrs},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokenward_core::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// The system's lookups block a thread, and one that a dead name server does not answer does so for long after
/// its fetch has been given up. More than these never run at once.
const MOST_LOOKUPS: usize = 128;

/// Of which hosts that were never found get so many, so that those which were always find a place.
const MOST_UNPROVEN: usize = 96;

/// Of which again hosts whose last lookup failed, or outlasted all who waited, get so many.
const MOST_FAILING: usize = 32;

/// Hosts whose standing is remembered; beyond that all are forgotten.
const MOST_STANDINGS: usize = 1 << 17;

/// Something that knows the addresses of hosts.
///
/// What it answers is not trusted: each address is judged before it is connected to, and nothing else is
/// connected to, so that a name which points elsewhere the next time gains nothing.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of `host`, which is a name in ASCII and never an IP address, best first.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The operating system's resolver.
///
/// A host is looked up once at a time, for all who ask, however often they give up and ask again.
#[derive(Clone, Debug)]
pub struct SystemResolver(Arc<Lookups>);

impl SystemResolver {
    /// A resolver that runs 128 lookups at once at most, a quarter of them for hosts that fail.
    #[must_use]
    pub fn new() -> Self {
        Self::with(|host| {
            let addresses = (host, 0).to_socket_addrs()?;
            Ok(addresses.map(|address| address.ip()).collect())
        })
    }

    fn with(lookup: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Lookups {
            lookup: Box::new(lookup),
            all: Arc::new(Semaphore::new(MOST_LOOKUPS)),
            unproven: Arc::new(Semaphore::new(MOST_UNPROVEN)),
            failing: Arc::new(Semaphore::new(MOST_FAILING)),
            hasher: RandomState::new(),
            hosts: Mutex::default(),
        }))
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
            let mut running = match self.0.running(host) {
                Some(running) => running,
                None => {
                    let places = self.0.places(host).await?;
                    self.0.begin(host, places)
                }
            };
            let answer = running.wait_for(Option::is_some).await;
            let answer = answer.map_err(io::Error::other)?.clone();
            answer
                .unwrap_or_else(|| Err(Arc::new(io::Error::other("no answer"))))
                .map_err(|error| {
                    // Many may have waited for it.
                    io::Error::new(error.kind(), error)
                })
        })
    }
}

type Lookup = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;
type Answer = Result<Vec<IpAddr>, Arc<io::Error>>;
type Running = watch::Receiver<Option<Answer>>;

struct Lookups {
    lookup: Box<Lookup>,
    all: Arc<Semaphore>,
    unproven: Arc<Semaphore>,
    failing: Arc<Semaphore>,
    hasher: RandomState,
    hosts: Mutex<Hosts>,
}

#[derive(Default)]
struct Hosts {
    /// Those that are looked up now.
    running: HashMap<String, Running>,
    /// Whether the last lookup went well, by the hash of the host.
    went_well: HashMap<u64, bool>,
}

impl Hosts {
    /// One whose thread is gone without an answer, with its runtime for example, is none.
    fn running(&self, host: &str) -> Option<Running> {
        let running = self.running.get(host)?;
        running.has_changed().is_ok().then(|| running.clone())
    }
}

impl Lookups {
    fn running(&self, host: &str) -> Option<Running> {
        self.hosts().running(host)
    }

    /// What a lookup of `host` has to hold until it ends, not only until its caller has stopped waiting.
    async fn places(&self, host: &str) -> io::Result<Vec<OwnedSemaphorePermit>> {
        let went_well = self.hosts().went_well.get(&self.hasher.hash_one(host)).copied();
        let pools: &[_] = match went_well {
            Some(true) => &[&self.all],
            None => &[&self.unproven, &self.all],
            Some(false) => &[&self.failing, &self.unproven, &self.all],
        };
        let mut places = Vec::with_capacity(pools.len());
        for pool in pools {
            places.push(Arc::clone(pool).acquire_owned().await.map_err(io::Error::other)?);
        }
        Ok(places)
    }

    /// Looks `host` up on a thread that may block, unless somebody has begun to meanwhile.
    fn begin(self: &Arc<Self>, host: &str, places: Vec<OwnedSemaphorePermit>) -> Running {
        let mut hosts = self.hosts();
        if let Some(running) = hosts.running(host) {
            return running;
        }
        let (tell, running) = watch::channel(None);
        hosts.running.insert(host.to_owned(), running.clone());
        drop(hosts);
        let (lookups, host) = (Arc::clone(self), host.to_owned());
        tokio::task::spawn_blocking(move || {
            let answer = (lookups.lookup)(&host).map_err(Arc::new);
            lookups.ended(&host, &tell, answer.is_ok());
            tell.send_replace(Some(answer));
            drop(places);
        });
        running
    }

    fn ended(&self, host: &str, tell: &watch::Sender<Option<Answer>>, found: bool) {
        let mut hosts = self.hosts();
        hosts.running.remove(host);
        // An answer that came too late for everybody is none.
        let waited_for = tell.receiver_count() > 0;
        if hosts.went_well.len() >= MOST_STANDINGS {
            hosts.went_well.clear();
        }
        hosts
            .went_well
            .insert(self.hasher.hash_one(host), found && waited_for);
    }

    fn hosts(&self) -> MutexGuard<'_, Hosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookups")
            .field("running", &self.hosts().running.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    use futures_util::{FutureExt, future::join_all};

    use super::*;

    const FOUND: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// Hosts whose name begins with `dead` are looked up until the sender is gone, and then not found.
    fn resolver() -> (SystemResolver, mpsc::SyncSender<()>, Arc<AtomicUsize>) {
        let (end, ended) = mpsc::sync_channel::<()>(0);
        let (ended, begun) = (Mutex::new(ended), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&begun);
        let resolver = SystemResolver::with(move |host| {
            count.fetch_add(1, Ordering::SeqCst);
            if host.starts_with("dead") {
                let _ = ended.lock().unwrap_or_else(PoisonError::into_inner).recv();
                return Err(io::Error::other("not found"));
            }
            Ok(vec![FOUND])
        });
        (resolver, end, begun)
    }

    #[tokio::test]
    async fn knows_the_local_host() {
        let addresses = SystemResolver::new().resolve("localhost").await.unwrap();
        assert!(
            !addresses.is_empty() && addresses.iter().all(IpAddr::is_loopback),
            "{addresses:?}"
        );
    }

    #[tokio::test]
    async fn a_host_is_looked_up_once_however_often_it_is_asked_for_and_given_up() {
        let (resolver, end, begun) = resolver();
        for _ in 0..1_000 {
            assert!(resolver.resolve("dead.example").now_or_never().is_none());
        }
        assert_eq!(
            resolver.0.all.available_permits(),
            MOST_LOOKUPS - 1,
            "held until it ends"
        );
        let waiting = (0..10).map(|_| resolver.resolve("dead.example"));
        let (outcomes, ()) = tokio::join!(join_all(waiting), async { drop(end) });
        assert!(
            outcomes
                .iter()
                .all(|outcome| outcome.as_ref().unwrap_err().to_string() == "not found")
        );
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        assert!(resolver.resolve("dead.example").await.is_err());
        assert_eq!(begun.load(Ordering::SeqCst), 2, "and anew after that");
        assert_eq!(resolver.resolve("live.example").await.unwrap(), [FOUND]);
    }

    #[tokio::test]
    async fn hosts_that_hang_leave_places_for_those_that_do_not() {
        let (resolver, end, _) = resolver();
        resolver.resolve("live.example").await.unwrap();
        for n in 0..1_000 {
            let host = format!("dead{n}.example");
            assert!(resolver.resolve(&host).now_or_never().is_none());
            // One task may do only so much at a time.
            tokio::task::yield_now().await;
        }
        assert_eq!(resolver.0.all.available_permits(), MOST_LOOKUPS - MOST_UNPROVEN);
        assert_eq!(resolver.resolve("live.example").await.unwrap(), [FOUND]);
        assert!(
            resolver.resolve("new.example").now_or_never().is_none(),
            "nobody knows it yet"
        );
        // Once they are known, they share a quarter, and there are places for new ones too.
        drop(end);
        while resolver.0.all.available_permits() < MOST_LOOKUPS {
            tokio::task::yield_now().await;
        }
        let marked = resolver
            .0
            .hosts()
            .went_well
            .values()
            .filter(|well| !**well)
            .count();
        assert_eq!(marked, MOST_UNPROVEN);
        let pool = |n: usize| resolver.0.places(&format!("dead{n}.example")).now_or_never();
        let held: Vec<_> = (0..MOST_UNPROVEN).map_while(pool).collect();
        assert_eq!(held.len(), MOST_FAILING);
        assert_eq!(resolver.resolve("new.example").await.unwrap(), [FOUND]);
    }
}
