use std::{sync::Mutex, time::Duration};

use futures_util::FutureExt as _;
use tokenward_core::{Clock as _, Timestamp};
use tokenward_testkit::ManualClock;
use tokio::task::JoinSet;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn stands_still_until_told() {
    let clock = ManualClock::default();
    let start = clock.steady();
    assert_eq!(clock.wall(), start);
    clock.advance(SECOND);
    assert_eq!(clock.steady().since(start), SECOND);
    assert_eq!(clock.wall(), clock.steady());
    clock.set_wall(Timestamp::from_secs(0));
    assert_eq!(clock.steady().since(start), SECOND);
    assert_eq!(clock.wall(), Timestamp::from_secs(0));
}

#[test]
fn a_sleep_ends_at_its_time_and_leaves_nothing_behind() {
    let clock = ManualClock::default();
    let mut sleep = clock.sleep(SECOND * 2);
    assert_eq!(clock.sleepers(), 1);
    assert_eq!(clock.next_deadline(), Some(clock.steady() + SECOND * 2));
    clock.advance(SECOND);
    assert!((&mut sleep).now_or_never().is_none());
    clock.advance(SECOND);
    assert!((&mut sleep).now_or_never().is_some());
    assert!(clock.sleep(Duration::ZERO).now_or_never().is_some());
    let dropped = clock.sleep(SECOND);
    drop(dropped);
    assert_eq!(clock.sleepers(), 0);
}

#[tokio::test]
async fn run_for_serves_each_deadline_at_its_time_and_in_order() {
    static SEEN: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());
    let clock = ManualClock::default();
    let start = clock.steady();
    let mut tasks = JoinSet::new();
    for (id, every) in [(1, 3), (2, 2)] {
        let clock = clock.clone();
        tasks.spawn(async move {
            for _ in 0..2 {
                clock.sleep(SECOND * every).await;
                let passed = clock.steady().since(start).as_secs();
                SEEN.lock().unwrap().push((id, passed));
            }
        });
    }
    clock.run_for(SECOND * 5).await;
    assert_eq!(*SEEN.lock().unwrap(), [(2, 2), (1, 3), (2, 4)]);
    assert_eq!(clock.steady().since(start), SECOND * 5);
    clock.run_for(SECOND).await;
    assert_eq!(SEEN.lock().unwrap().last(), Some(&(1, 6)));
}
