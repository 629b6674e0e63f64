//! Many families, many tokens, many streams: each happens, and what it costs does not grow with the others.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use axum::extract::{RawQuery, State};
use futures_util::future::join_all;
use http_body_util::BodyExt as _;
use tokenward_store::{Family, Sqlite};
use tokio::task::JoinSet;

use super::{super::stream::stream, counted::Counted, *};

async fn counted() -> (World, Arc<Counted>) {
    let clock = ManualClock::new(Timestamp::from_millis(1_800_000_000_700));
    let memory = Arc::new(Memory::new());
    let counted = Counted::new(Arc::clone(&memory) as _);
    let (index, service) = service(Arc::clone(&counted) as _, &clock).await;
    let world = World {
        clock,
        ledger: memory,
        index,
        service,
    };
    (world, counted)
}

/// The family of `pair` under another parent, with its next renewal then.
async fn copy(world: &World, pair: &Pair, parent: usize, due: Timestamp) -> Family {
    let family = world.ledger.family(&pair.parent.id).await.unwrap().unwrap();
    Family {
        parent_jti: format!("parent-{parent:06}"),
        next_renewal: Some(due),
        ..family
    }
}

#[tokio::test]
async fn each_of_100_000_families_has_one_child_when_it_is_due() {
    const FAMILIES: usize = 100_000;
    let (world, counted) = counted().await;
    let pair = world
        .pair(r#"{"user_id":"a","include_child":true,"auto_renew":true}"#)
        .await;
    // As many as are due in each second until the first ones are due for the second time.
    let due = |n: usize| Timestamp::from_secs(1_800_000_001 + i64::try_from(n % 780).unwrap());
    for n in 0..FAMILIES {
        let family = copy(&world, &pair, n, due(n)).await;
        world.ledger.open_family(&family).await.unwrap();
    }
    world.ledger.postpone(&pair.parent.id, 1, None).await.unwrap();
    counted.counts();
    let mut workers = JoinSet::new();
    workers.spawn(world.service.clone().keep_renewing(HOUR));
    world.clock.run_for(Duration::from_secs(780)).await;
    workers.shutdown().await;
    let (reads, writes) = counted.counts();
    assert_eq!(writes, FAMILIES, "one child for each, and nothing else");
    // A few looks in each second at what is due, in batches, and none at a family by itself.
    assert!(reads <= 8 * 780, "{reads}");
    let mut after = String::new();
    let mut seen = 0;
    loop {
        let families = world.ledger.families(&after, 1_000).await.unwrap();
        let Some(last) = families.last() else { break };
        after.clone_from(&last.parent_jti);
        for family in families {
            let Some(n) = family.parent_jti.strip_prefix("parent-") else {
                continue;
            };
            let due = due(n.parse().unwrap());
            let latest = family.latest.unwrap();
            assert_eq!((family.sequence, latest.issued_at), (2, due), "{n}");
            let next = due + Duration::from_secs(780);
            assert_eq!(family.next_renewal, Some(next), "{n}");
            seen += 1;
        }
    }
    assert_eq!(seen, FAMILIES);
    println!("{FAMILIES} families, {writes} children, {reads} reads of the ledger");
}

/// The quickest of many looks at what is due, with one family that is and `others` that are not.
#[expect(clippy::disallowed_methods, reason = "what is measured takes real time")]
async fn quickest(world: &World, ledger: &dyn Ledger, pair: &Pair, others: usize) -> Duration {
    let now = world.clock.wall();
    let families = (0..others).map(async |n| {
        let family = copy(world, pair, n, now + HOUR).await;
        ledger.open_family(&family).await.unwrap();
    });
    join_all(families).await;
    let due = copy(world, pair, 999_999, now).await;
    ledger.open_family(&due).await.unwrap();
    let mut quickest = Duration::MAX;
    for _ in 0..300 {
        let began = Instant::now();
        let due = ledger.due_families(now, 100).await.unwrap();
        ledger.next_due().await.unwrap();
        quickest = quickest.min(began.elapsed());
        assert_eq!(due.len(), 1);
    }
    quickest
}

#[tokio::test]
async fn what_renewal_costs_does_not_depend_on_those_that_are_not_due() {
    let world = World::new().await;
    let pair = world.pair(r#"{"user_id":"a","include_child":true}"#).await;
    let mut engines = Vec::new();
    for others in [100, 10_000] {
        let directory = tempfile::tempdir().unwrap();
        let sqlite = Sqlite::open(directory.path()).unwrap();
        let memory = quickest(&world, &Memory::new(), &pair, others).await;
        let sqlite = quickest(&world, &sqlite, &pair, others).await;
        engines.push((memory, sqlite));
    }
    println!("with 100 and with 10,000 not due: {engines:?}");
    // A scan would take 100 times as long.
    assert!(engines[1].0 < engines[0].0 * 10, "{engines:?}");
    assert!(engines[1].1 < engines[0].1 * 10, "{engines:?}");
}

#[tokio::test]
async fn a_parent_with_10_000_children_is_revoked_by_one_write() {
    let (world, counted) = counted().await;
    let body = r#"{"user_id":"a","child_expires_in":1000000,"auto_renew":false}"#;
    let pair = world.pair(body).await;
    let other = world.pair(r#"{"user_id":"a","include_child":true}"#).await;
    let mut children = Vec::new();
    for _ in 0..10_000 {
        children.push(world.renew(&pair.parent.token).await.unwrap().child.token);
        world.pass(Duration::from_secs(10));
    }
    let last = children.last().unwrap().clone();
    assert_eq!(world.judged(&last), Ok(()));
    assert_eq!(world.judged(&children[0]), Ok(()));
    counted.counts();
    assert!(world.service.revoke_token(&pair.parent.id).await.unwrap());
    assert_eq!(counted.counts(), (0, 1));
    for child in &children {
        assert_eq!(world.judged(child), Err(Denial::ParentRevoked));
    }
    assert!(world.renew(&pair.parent.token).await.is_err());
    assert!(world.renew(&other.parent.token).await.is_ok());
    println!("{} children refused after one write", children.len());
}

#[tokio::test]
async fn a_user_with_10_000_tokens_is_revoked_by_one_write() {
    let (world, counted) = counted().await;
    let tokens: Vec<_> = (0..10_000).map(|_| world.mint(r#"{"user_id":"a"}"#)).collect();
    assert_eq!(
        counted.counts().1,
        2,
        "the keyring and the time of the store: a single token is stored nowhere"
    );
    assert_eq!(world.judged(&tokens[9_999].token), Ok(()));
    world.service.revoke_user("a").await.unwrap();
    assert_eq!(counted.counts(), (0, 1));
    // The clock stands still.
    let new = world.mint(r#"{"user_id":"a"}"#);
    assert_eq!(world.judged(&new.token), Ok(()));
    for token in &tokens {
        assert_eq!(world.judged(&token.token), Err(Denial::SubjectRevoked));
    }
    println!("{} tokens refused after one write", tokens.len());
}

/// Bytes that this process keeps in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.unwrap().trim().trim_end_matches("kB").trim();
    1_024 * kilobytes.parse::<usize>().unwrap()
}

/// Lets others run until they have counted so far.
async fn counts_to(counter: &AtomicUsize, count: usize) {
    for _ in 0..100_000 {
        if counter.load(Ordering::Relaxed) >= count {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(counter.load(Ordering::Relaxed), count);
}

#[tokio::test]
async fn each_of_10_000_streams_is_woken_by_its_event_alone() {
    const STREAMS: usize = 10_000;
    // A page of headers and code that runs for the first time is not counted for the streams.
    const EACH: usize = 8 * 1_024;
    let (world, counted) = counted().await;
    let mut parents = Vec::new();
    for _ in 0..STREAMS {
        let pair = world.pair(r#"{"user_id":"a","auto_renew":false}"#).await;
        parents.push((pair.parent.token, pair.parent.id));
    }
    counted.counts();
    let names = ["connected", "heartbeat", "token", "revoked", "end"];
    let heard: Arc<[AtomicUsize; 5]> = Arc::default();
    let before = resident();
    let mut readers = JoinSet::new();
    for (token, _) in &parents {
        let request = ::http::Request::builder()
            .header("authorization", format!("Bearer {token}"))
            .body(axum::body::Body::empty())
            .unwrap();
        let response = stream(State(world.service.clone()), RawQuery(None), request).await;
        assert_eq!(response.status(), ::http::StatusCode::OK);
        let (mut body, heard) = (response.into_body(), Arc::clone(&heard));
        readers.spawn(async move {
            while let Some(frame) = body.frame().await {
                let text = String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap();
                let which = names
                    .iter()
                    .position(|name| text.contains(&format!("event: {name}\n")));
                heard[which.unwrap()].fetch_add(1, Ordering::Relaxed);
            }
            heard[4].fetch_add(1, Ordering::Relaxed);
        });
    }
    counts_to(&heard[0], STREAMS).await;
    let each = (resident() - before) / STREAMS;
    assert_eq!(counted.counts(), (STREAMS, 0), "each looks once");

    // An hour of nothing, which is heard of and never asked for.
    for beat in 1..=4 {
        world.pass(Duration::from_secs(15));
        counts_to(&heard[1], beat * STREAMS).await;
    }
    assert_eq!(counted.counts(), (0, 0), "nobody polls");

    // One event wakes one stream.
    world.renew(&parents[0].0).await.unwrap();
    counts_to(&heard[2], 1).await;
    assert_eq!(
        counted.counts(),
        (2, 1),
        "who renews looks, and the one that hears of it"
    );
    for (token, _) in &parents[1..] {
        world.renew(token).await.unwrap();
    }
    counts_to(&heard[2], STREAMS).await;
    assert_eq!(counted.counts(), (2 * (STREAMS - 1), STREAMS - 1));
    let after = resident().saturating_sub(before) / STREAMS;
    for (_, id) in &parents {
        world.service.revoke_token(id).await.unwrap();
    }
    counts_to(&heard[3], STREAMS).await;
    counts_to(&heard[4], STREAMS).await;
    assert_eq!(counted.counts(), (0, STREAMS));
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
    println!("{STREAMS} streams, {each} bytes for each at rest and {after} after an event, readers included");
    assert!(
        each < EACH && after < 2 * EACH,
        "{each} and {after} bytes for each stream"
    );
}
