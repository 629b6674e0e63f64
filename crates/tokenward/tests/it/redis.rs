//! Registries that share a real Redis, on the real clock.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use tokenward::{
    Audiences, BoxFuture, CallerId, Clock as _, ErrorKind, IdpConfig, Policy, Registry, Settings,
    Snapshots as _, State, SystemClock, Verifier,
    fetch::{Fetch, FetchError, FetchErrorKind, FetchRequest, FetchResponse},
    redis::{CACHE_TTL, Redis, RedisOptions, cache},
};
use tokenward_testkit::{Program, RedisServer, TestKey, TokenBuilder, key_set};
use url::Url;

#[expect(dead_code, reason = "its `main` is run by hand")]
#[path = "../../../../examples/redis/main.rs"]
mod example;

const ISSUER: &str = "https://a.example/";
const CALLER: CallerId = CallerId::new(1);

/// One provider of all registries.
#[derive(Default)]
struct Provider {
    body: Mutex<Option<String>>,
    takes: Mutex<Duration>,
    asked: AtomicUsize,
}

impl Provider {
    fn with(keys: &[&TestKey]) -> Arc<Self> {
        let provider = Arc::new(Self::default());
        provider.serve(keys);
        provider
    }

    fn serve(&self, keys: &[&TestKey]) {
        *self.body.lock().unwrap() = Some(key_set(keys).to_string());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

struct Asks(Arc<Provider>);

impl Fetch for Asks {
    fn fetch<'a>(&'a self, request: &'a FetchRequest) -> BoxFuture<'a, Result<FetchResponse, FetchError>> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        let takes = *self.0.takes.lock().unwrap();
        Box::pin(async move {
            if !takes.is_zero() {
                pause(takes).await;
            }
            let body = self.0.body.lock().unwrap().clone();
            let body = body.ok_or_else(|| FetchError::new(FetchErrorKind::Connect, "down"))?;
            Ok(FetchResponse {
                status: 200,
                headers: HeaderMap::new(),
                body: Bytes::from(body),
                final_url: request.url.clone(),
            })
        })
    }
}

async fn pause(time: Duration) {
    SystemClock::new().sleep(time).await;
}

/// Waits until it is so, for as long as a slow machine may need.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if is_so() {
            return;
        }
        pause(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

fn join(options: RedisOptions, provider: &Arc<Provider>, settings: &Settings) -> Registry {
    let store = Redis::new(options, Arc::new(SystemClock::new())).unwrap();
    let registry = Registry::builder()
        .fetcher(Arc::new(Asks(Arc::clone(provider))))
        .snapshots(Arc::new(store))
        .build()
        .unwrap();
    register(&registry, settings);
    registry
}

fn register(registry: &Registry, settings: &Settings) {
    let policy = Policy::builder(ISSUER, Audiences::Any).build().unwrap();
    let url = Url::parse("https://a.example/jwks").unwrap();
    let config = IdpConfig::at("a", url, Some(policy)).unwrap();
    registry
        .register(config.with_settings(settings.clone()).unwrap())
        .unwrap();
}

fn has_keys(registry: &Registry) -> bool {
    registry.idp("default", "a").unwrap().has_keys()
}

fn token(key: &TestKey) -> String {
    TokenBuilder::new(SystemClock::new().wall())
        .issuer(ISSUER)
        .audience("api")
        .subject("sub")
        .sign(key)
}

fn snapshot_key(server: &RedisServer) -> String {
    server.text(&["KEYS", "*:snapshot:*"])
}

fn ttl(server: &RedisServer) -> Duration {
    let left: u64 = server.text(&["PTTL", &snapshot_key(server)]).parse().unwrap();
    Duration::from_millis(left)
}

#[tokio::test]
async fn a_second_instance_asks_nobody_until_the_snapshot_has_ended() {
    for program in [Program::Redis, Program::Valkey] {
        let server = RedisServer::with(program, &[]);
        let provider = Provider::with(&[&TestKey::es256(0)]);
        let builder = || Registry::builder().fetcher(Arc::new(Asks(Arc::clone(&provider))));
        let first = example::sharing(builder(), &server.url()).unwrap();
        register(&first, &Settings::default());
        until("stored", || !snapshot_key(&server).is_empty()).await;
        assert!(ttl(&server) <= CACHE_TTL && ttl(&server) > CACHE_TTL / 2);
        let second = example::sharing(builder(), &server.url()).unwrap();
        register(&second, &Settings::default());
        let keys = second.resolve("default", "a", CALLER).await.unwrap();
        assert_eq!((keys.usable().len(), provider.asked()), (1, 1));
        // In another place it is kept as long as that says.
        let short = || RedisOptions {
            prefix: "short".to_owned(),
            snapshot_ttl: Some(Duration::from_secs(2)),
            ..cache(&server.url())
        };
        let _third = join(short(), &provider, &Settings::default());
        until("asked", || provider.asked() == 2).await;
        pause(Duration::from_secs(3)).await;
        let fourth = join(short(), &provider, &Settings::default());
        fourth.resolve("default", "a", CALLER).await.unwrap();
        assert_eq!(provider.asked(), 3);
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_fetched_and_replaced() {
    let server = RedisServer::start();
    let provider = Provider::with(&[&TestKey::es256(0)]);
    let _first = join(cache(&server.url()), &provider, &Settings::default());
    until("stored", || !snapshot_key(&server).is_empty()).await;
    let key = snapshot_key(&server);
    let good = server.text(&["GET", &key]);
    for garbage in ["garbage", "{}", &good.replace("a.example", "b.example")] {
        let before = provider.asked();
        server.ask(&["SET", &key, garbage]);
        let next = join(cache(&server.url()), &provider, &Settings::default());
        next.resolve("default", "a", CALLER).await.unwrap();
        assert_eq!(provider.asked(), before + 1);
        until("replaced", || server.text(&["GET", &key]) != garbage).await;
        let store = Redis::new(cache(&server.url()), Arc::new(SystemClock::new())).unwrap();
        assert!(store.get("default", "a").await.unwrap().is_some());
    }
}

#[tokio::test]
async fn three_on_one_redis_ask_as_often_as_one() {
    let server = RedisServer::start();
    let provider = Provider::with(&[&TestKey::es256(0)]);
    *provider.takes.lock().unwrap() = Duration::from_millis(50);
    let settings = Settings {
        refresh_interval: Duration::from_secs(1),
        ..Settings::default()
    };
    let registries: Vec<_> = (0..3)
        .map(|_| join(cache(&server.url()), &provider, &settings))
        .collect();
    for registry in &registries {
        registry.resolve("default", "a", CALLER).await.unwrap();
    }
    assert_eq!(provider.asked(), 1);
    pause(Duration::from_secs(6)).await;
    let asked = provider.asked();
    assert!(
        (5..=8).contains(&asked),
        "{asked} in six seconds of refreshes every second"
    );
    for registry in &registries {
        let status = registry.idp("default", "a").unwrap().status().keys;
        assert!(
            status.state != State::Stale && status.update_count >= 4,
            "{status:?}"
        );
    }
    // A key that one of them looked for is there for all.
    let new = TestKey::es256(1);
    let hourly: Vec<_> = (0..3)
        .map(|_| {
            let options = RedisOptions {
                prefix: "hourly".to_owned(),
                ..cache(&server.url())
            };
            join(options, &provider, &Settings::default())
        })
        .collect();
    for registry in &hourly {
        registry.resolve("default", "a", CALLER).await.unwrap();
    }
    for registry in &registries {
        registry.shutdown().await;
    }
    provider.serve(&[&TestKey::es256(0), &new]);
    let before = provider.asked();
    for registry in &hourly {
        let verifier = Verifier::new(registry.clone());
        verifier.verify("default", &token(&new), CALLER).await.unwrap();
    }
    assert_eq!(provider.asked(), before + 1);
}

#[tokio::test]
async fn whoever_goes_while_it_fetches_is_replaced_within_ten_seconds() {
    let server = RedisServer::start();
    let provider = Provider::with(&[&TestKey::es256(0)]);
    *provider.takes.lock().unwrap() = Duration::from_secs(5);
    let first = join(cache(&server.url()), &provider, &Settings::default());
    until("asked", || provider.asked() == 1).await;
    let began = SystemClock::new().steady();
    first.shutdown().await;
    *provider.takes.lock().unwrap() = Duration::ZERO;
    let others = [1, 2].map(|_| join(cache(&server.url()), &provider, &Settings::default()));
    until("taken over", || others.iter().all(has_keys)).await;
    let took = SystemClock::new().steady().since(began);
    assert_eq!(provider.asked(), 2);
    assert!((8..13).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test]
async fn a_redis_that_stops_delays_nobody_who_has_keys_and_nobody_for_long() {
    let mut server = RedisServer::start();
    let (known, new) = (TestKey::es256(0), TestKey::es256(1));
    let provider = Provider::with(&[&known]);
    let registry = join(cache(&server.url()), &provider, &Settings::default());
    let verifier = Verifier::new(registry.clone());
    let clock = SystemClock::new();
    verifier.verify("default", &token(&known), CALLER).await.unwrap();
    server.pause();
    provider.serve(&[&known, &new]);
    let began = clock.steady();
    verifier.verify("default", &token(&new), CALLER).await.unwrap();
    assert!(clock.steady().since(began) < Duration::from_secs(2), "by oneself");
    let mut longest = Duration::ZERO;
    let refreshes = async {
        for _ in 0..8 {
            registry.refresh("default", "a").await.unwrap();
            pause(Duration::from_millis(400)).await;
        }
    };
    let verifications = async {
        for n in 0..300 {
            // Each is another token, so that nothing is remembered.
            let token = TokenBuilder::new(clock.wall())
                .issuer(ISSUER)
                .audience("api")
                .claim("n", n)
                .sign(&known);
            let began = clock.steady();
            verifier.verify("default", &token, CALLER).await.unwrap();
            longest = longest.max(clock.steady().since(began));
            pause(Duration::from_millis(10)).await;
        }
    };
    tokio::join!(refreshes, verifications);
    assert!(longest < Duration::from_millis(100), "{longest:?}");
    // By now it is known to be gone.
    let began = clock.steady();
    registry.refresh("default", "a").await.unwrap();
    assert!(clock.steady().since(began) < Duration::from_millis(300));
    let restored = registry.restore().await;
    assert_eq!(restored.unwrap_err().kind(), ErrorKind::Store);

    // It is back, and empty.
    server.go_on();
    server.kill();
    server.start_again();
    let store = Redis::new(cache(&server.url()), Arc::new(SystemClock::new())).unwrap();
    let before = provider.asked();
    for _ in 0..100 {
        registry.refresh("default", "a").await.unwrap();
        if store
            .get("default", "a")
            .await
            .is_ok_and(|stored| stored.is_some())
        {
            break;
        }
        pause(Duration::from_millis(100)).await;
    }
    assert!(provider.asked() > before);
    let after = provider.asked();
    let second = join(cache(&server.url()), &provider, &Settings::default());
    second.resolve("default", "a", CALLER).await.unwrap();
    assert_eq!(provider.asked(), after);
}

#[tokio::test]
async fn a_start_while_the_provider_is_down_serves_what_redis_has() {
    let server = RedisServer::start();
    let key = TestKey::es256(0);
    let provider = Provider::with(&[&key]);
    let first = join(cache(&server.url()), &provider, &Settings::default());
    until("stored", || !snapshot_key(&server).is_empty()).await;
    first.persist_all().await.unwrap();
    first.shutdown().await;
    *provider.body.lock().unwrap() = None;
    let second = Registry::builder()
        .fetcher(Arc::new(Asks(Arc::clone(&provider))))
        .snapshots(Arc::new(
            Redis::new(cache(&server.url()), Arc::new(SystemClock::new())).unwrap(),
        ))
        .build()
        .unwrap();
    assert_eq!(second.restore().await.unwrap(), 1);
    register(&second, &Settings::default());
    let verifier = Verifier::new(second.clone());
    verifier.verify("default", &token(&key), CALLER).await.unwrap();
    assert_eq!(provider.asked(), 1);
    second.unregister("default", "a").await.unwrap();
    assert_eq!(snapshot_key(&server), "");
}
