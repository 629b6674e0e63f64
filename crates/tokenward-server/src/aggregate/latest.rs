//! A value that is made from the registry, and made again when the registry changed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwap;
use tokio::{sync::OnceCell, task::spawn_blocking};

/// Holds the latest value that was made.
///
/// Making one may take long where there are many keys, so it happens beside the request threads, and one at a
/// time: whoever asks meanwhile gets the value before it, which was right when they asked or a moment earlier.
pub(super) struct Latest<T> {
    current: OnceCell<ArcSwap<Stamped<T>>>,
    making: AtomicBool,
}

struct Stamped<T> {
    generation: u64,
    value: Arc<T>,
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
    /// The value of `generation`, made by `make` from the previous one unless it is there. None where making it
    /// failed, which is a fault of ours.
    ///
    /// Cancel-safe: what is being made is finished and kept without its caller.
    pub(super) async fn at<F>(self: &Arc<Self>, generation: u64, make: F) -> Option<Arc<T>>
    where
        F: FnOnce(Option<&T>) -> T + Send + 'static,
    {
        let Some(current) = self.current.get() else {
            // All first callers wait for one of them.
            let made = self.current.get_or_try_init(|| async {
                let value = spawn_blocking(move || Arc::new(make(None))).await?;
                Ok::<_, tokio::task::JoinError>(ArcSwap::from_pointee(Stamped { generation, value }))
            });
            return made.await.ok().map(|made| Arc::clone(&made.load().value));
        };
        let latest = current.load_full();
        if latest.generation >= generation || self.making.swap(true, Ordering::AcqRel) {
            return Some(Arc::clone(&latest.value));
        }
        let making = Making(Arc::clone(self));
        spawn_blocking(move || {
            let value = Arc::new(make(Some(&latest.value)));
            if let Some(current) = making.0.current.get() {
                current.store(Arc::new(Stamped {
                    generation,
                    value: Arc::clone(&value),
                }));
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
    use super::*;

    #[tokio::test]
    async fn makes_a_value_once_for_each_generation() {
        let latest = Arc::new(Latest::<u32>::default());
        assert_eq!(
            latest
                .at(1, |previous| previous.map_or(10, |n| n + 1))
                .await
                .as_deref(),
            Some(&10)
        );
        assert_eq!(latest.at(1, |_| 99).await.as_deref(), Some(&10));
        assert_eq!(
            latest
                .at(3, |previous| previous.map_or(0, |n| n + 1))
                .await
                .as_deref(),
            Some(&11)
        );
        assert_eq!(
            latest.at(2, |_| 99).await.as_deref(),
            Some(&11),
            "it never goes back"
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn others_get_the_value_before_while_one_is_made() {
        let latest = Arc::new(Latest::<u32>::default());
        latest.at(1, |_| 1).await;
        let (begun, started) = tokio::sync::oneshot::channel();
        let (finish, gate) = std::sync::mpsc::channel();
        let slow = Arc::clone(&latest);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            slow.at(2, move |_| {
                begun.send(()).unwrap();
                gate.recv().unwrap();
                2
            })
            .await
        });
        started.await.unwrap();
        assert_eq!(latest.at(2, |_| 99).await.as_deref(), Some(&1));
        finish.send(()).unwrap();
        assert_eq!(tasks.join_next().await.unwrap().unwrap().as_deref(), Some(&2));
        assert_eq!(latest.at(2, |_| 99).await.as_deref(), Some(&2));
    }

    #[tokio::test]
    async fn a_panic_while_making_is_not_the_end() {
        let latest = Arc::new(Latest::<u32>::default());
        latest.at(1, |_| 1).await;
        assert!(latest.at(2, |_| panic!("as asked")).await.is_none());
        assert_eq!(latest.at(2, |_| 2).await.as_deref(), Some(&2));
    }
}
