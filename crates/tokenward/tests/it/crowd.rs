//! Many providers at once, of which some are dead.

use std::{collections::HashMap, time::Duration};

use tokenward::{Clock, Settings, Timestamp};
use tokenward_testkit::{TestKey, key_set};

use crate::world::{Site, World};

const INTERVAL: Duration = Duration::from_secs(60);
/// How long a healthy one takes to answer.
const ANSWER: Duration = Duration::from_millis(20);
const HEALTHY: usize = 900;

fn settings() -> Settings {
    Settings {
        refresh_interval: INTERVAL,
        ..Settings::default()
    }
}

/// Registers `dead` ones first and then the healthy ones, all at one moment, lets ten minutes pass, and gives the times
/// at which each healthy one was asked, since the beginning.
async fn history(dead: &[Site]) -> Vec<Vec<Duration>> {
    let world = World::new();
    let body = key_set(&[&TestKey::es256(0)]).to_string().into_bytes();
    for (n, site) in dead.iter().enumerate() {
        world.set(&format!("bad{n}"), site.clone());
        world.register(&format!("bad{n}"), settings());
    }
    for n in 0..HEALTHY {
        world.set(&format!("good{n}"), Site::Slow(ANSWER, body.clone()));
        world.register(&format!("good{n}"), settings());
    }
    let began = world.clock.steady();
    world.clock.run_for(10 * INTERVAL).await;
    let mut asked: HashMap<String, Vec<Timestamp>> = world.asked_all();
    let mut history = Vec::new();
    for n in 0..HEALTHY {
        let times = asked.remove(&format!("good{n}")).unwrap_or_default();
        history.push(times.iter().map(|at| at.since(began)).collect());
    }
    history
}

/// The latest first fetch of all.
fn first_round(history: &[Vec<Duration>]) -> Duration {
    history.iter().map(|times| times[0]).max().unwrap()
}

/// From one fetch of a provider to its next, for all of them.
fn pauses(history: &[Vec<Duration>]) -> Vec<Duration> {
    let each = history
        .iter()
        .flat_map(|times| times.windows(2).map(|pair| pair[1] - pair[0]));
    each.collect()
}

#[tokio::test]
async fn a_hundred_dead_among_a_thousand_change_nothing_for_the_others() {
    let alone = history(&[]).await;
    let down = std::iter::repeat_n(Site::Down, 50);
    let mixed: Vec<Site> = down.chain(std::iter::repeat_n(Site::Hangs, 50)).collect();
    let hanging = vec![Site::Hangs; 100];
    for dead in [mixed, hanging] {
        let beside = history(&dead).await;
        // Cold, nobody knows which ones are dead. A dead one holds its place for a fifth of a second.
        let (without, with) = (first_round(&alone), first_round(&beside));
        assert!(
            with <= without + Duration::from_millis(250),
            "first round: {without:?}, then {with:?}"
        );
        let (without, with) = (pauses(&alone), pauses(&beside));
        assert_eq!(without.len(), with.len(), "as many refreshes");
        for (without, with) in without.iter().zip(&with) {
            let change = without.abs_diff(*with);
            assert!(
                change < INTERVAL / 100,
                "{without:?} between refreshes, then {with:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_cold_start_is_not_held_up_by_more_hanging_ones_than_there_are_places() {
    let alone = first_round(&history(&[]).await);
    let beside = first_round(&history(&vec![Site::Hangs; 400]).await);
    // Each hangs for eight seconds. In places that are held as long, they would take half a minute.
    assert!(
        beside < alone + Duration::from_secs(2),
        "{alone:?}, then {beside:?}"
    );
}

#[tokio::test]
async fn providers_that_answer_do_not_wait_for_hundreds_of_new_ones_that_hang() {
    let world = World::new();
    let body = key_set(&[&TestKey::es256(0)]).to_string().into_bytes();
    for n in 0..20 {
        world.set(&format!("good{n}"), Site::Slow(ANSWER, body.clone()));
        world.register(&format!("good{n}"), settings());
    }
    world.clock.run_for(INTERVAL / 2).await;
    for n in 0..2_000 {
        world.set(&format!("bad{n}"), Site::Hangs);
        world.register(&format!("bad{n}"), settings());
    }
    world.clock.run_for(INTERVAL).await;
    for n in 0..20 {
        let asked = world.asked(&format!("good{n}"));
        let due = asked[0] + ANSWER + INTERVAL;
        // The jitter of a refresh comes before it is due.
        assert!(asked.len() == 2 && asked[1] <= due, "{asked:?}");
    }
}
