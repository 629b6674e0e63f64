//! A value that is made from the registry, and made again when the registry changed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokenward_core::{Clock, Timestamp};
use tokio::{sync::OnceCell, task::spawn_blocking};

/// After a value was made, none is made for so many times as long as that took, so that no more than a tenth of a
/// core is spent however fast the registry changes.
const REST: u32 = 9;
/// But never for longer than this.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Holds the latest value that was made.
///
/// Making one may take long where there are many keys, so it happens beside the request threads, one at a time and
/// with a rest after it: whoever asks meanwhile gets the value before it, which was right a moment earlier.
pub(super) struct Latest<T> {
    current: OnceCell<ArcSwap<Stamped<T>>>,
    making: AtomicBool,
}

struct Stamped<T> {
    generation: u64,
    value: Arc<T>,
    /// Until when the next one is not made.
    rests_until: Timestamp,
}

impl<T> Stamped<T> {
    fn make(generation: u64, clock: &dyn Clock, make: impl FnOnce() -> T) -> Self {
        let began = clock.steady();
        let value = Arc::new(make());
        let ended = clock.steady();
        Self {
            generation,
            value,
            rests_until: ended + LONGEST_REST.min(ended.since(began) * REST),
        }
    }
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self {
            current: OnceCell::new(),
            making: AtomicBool::new(false),
        }
    }
}

impl<T: Send + Sync + 'static> Latest<T> {
    /// The value of `generation` or a moment earlier, made by `make` from the previous one where it is not there.
    /// None where making it failed, which is a fault of ours.
    ///
    /// Cancel-safe: what is being made is finished and kept without its caller.
    pub(super) async fn at<F>(
        self: &Arc<Self>,
        generation: u64,
        clock: Arc<dyn Clock>,
        make: F,
    ) -> Option<Arc<T>>
    where
        F: FnOnce(Option<&T>) -> T + Send + 'static,
    {
        let Some(current) = self.current.get() else {
            // All first callers wait for one of them.
            let made = self.current.get_or_try_init(|| async {
                let made = spawn_blocking(move || Stamped::make(generation, &*clock, || make(None))).await?;
                Ok::<_, tokio::task::JoinError>(ArcSwap::from_pointee(made))
            });
            return made.await.ok().map(|made| Arc::clone(&made.load().value));
        };
        let latest = current.load_full();
        if latest.generation >= generation
            || clock.steady() < latest.rests_until
            || self.making.swap(true, Ordering::AcqRel)
        {
            return Some(Arc::clone(&latest.value));
        }
        let making = Making(Arc::clone(self));
        spawn_blocking(move || {
            let made = Stamped::make(generation, &*clock, || make(Some(&latest.value)));
            let value = Arc::clone(&made.value);
            if let Some(current) = making.0.current.get() {
                current.store(Arc::new(made));
            }
            value
        })
        .await
        .ok()
    }
}

/// The right to make the next value; handed back on every way out, a panic's too.
struct Making<T>(Arc<Latest<T>>);

impl<T> Drop for Making<T> {
    fn drop(&mut self) {
        self.0.making.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use tokenward_testkit::ManualClock;

    use super::*;

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)))
    }

    #[tokio::test]
    async fn makes_a_value_once_for_each_generation() {
        let latest = Arc::new(Latest::<u32>::default());
        assert_eq!(
            latest
                .at(1, clock(), |previous| previous.map_or(10, |n| n + 1))
                .await
                .as_deref(),
            Some(&10)
        );
        assert_eq!(latest.at(1, clock(), |_| 99).await.as_deref(), Some(&10));
        assert_eq!(
            latest
                .at(3, clock(), |previous| previous.map_or(0, |n| n + 1))
                .await
                .as_deref(),
            Some(&11)
        );
        assert_eq!(
            latest.at(2, clock(), |_| 99).await.as_deref(),
            Some(&11),
            "it never goes back"
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn others_get_the_value_before_while_one_is_made() {
        let latest = Arc::new(Latest::<u32>::default());
        latest.at(1, clock(), |_| 1).await;
        let (begun, started) = tokio::sync::oneshot::channel();
        let (finish, gate) = std::sync::mpsc::channel();
        let slow = Arc::clone(&latest);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            slow.at(2, clock(), move |_| {
                begun.send(()).unwrap();
                gate.recv().unwrap();
                2
            })
            .await
        });
        started.await.unwrap();
        assert_eq!(latest.at(2, clock(), |_| 99).await.as_deref(), Some(&1));
        finish.send(()).unwrap();
        assert_eq!(tasks.join_next().await.unwrap().unwrap().as_deref(), Some(&2));
        assert_eq!(latest.at(2, clock(), |_| 99).await.as_deref(), Some(&2));
    }

    #[tokio::test]
    async fn a_panic_while_making_is_not_the_end() {
        let latest = Arc::new(Latest::<u32>::default());
        latest.at(1, clock(), |_| 1).await;
        assert!(latest.at(2, clock(), |_| panic!("as asked")).await.is_none());
        assert_eq!(latest.at(2, clock(), |_| 2).await.as_deref(), Some(&2));
    }

    #[tokio::test]
    async fn none_is_made_while_the_last_one_rests() {
        let (latest, clock) = (Arc::new(Latest::<u32>::default()), clock());
        let slow = Arc::clone(&clock);
        latest.at(1, Arc::clone(&clock) as _, |_| 1).await;
        let made = latest.at(2, Arc::clone(&clock) as _, move |_| {
            slow.advance(Duration::from_millis(20));
            2
        });
        assert_eq!(made.await.as_deref(), Some(&2), "what took no time needs no rest");
        let at = |generation| {
            latest.at(generation, Arc::clone(&clock) as _, |last| {
                last.map_or(0, |n| n + 1)
            })
        };
        clock.advance(Duration::from_millis(179));
        assert_eq!(at(3).await.as_deref(), Some(&2));
        clock.advance(Duration::from_millis(1));
        assert_eq!(at(3).await.as_deref(), Some(&3));
        let slow = Arc::clone(&clock);
        latest
            .at(4, Arc::clone(&clock) as _, move |_| {
                slow.advance(Duration::from_secs(10));
                4
            })
            .await;
        clock.advance(LONGEST_REST - Duration::from_millis(1));
        assert_eq!(at(5).await.as_deref(), Some(&4));
        clock.advance(Duration::from_millis(1));
        assert_eq!(at(5).await.as_deref(), Some(&5));
    }
}
