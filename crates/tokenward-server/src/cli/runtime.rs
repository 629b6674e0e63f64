//! Where the asynchronous work of a command runs.

use tokio::runtime::Builder;

use super::Failure;

/// Runs `work` to its end, on the runtime that `builder` makes.
///
/// Blocking calls that it leaves behind are not waited for: the system's resolver asks a dead name server for as long
/// as it likes, and a process that is told to stop must be gone before that.
///
/// # Errors
///
/// If the system has no resources for a runtime.
pub(super) fn run<T>(mut builder: Builder, work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| Failure::Network(format!("cannot start the runtime: {error}")))?;
    let output = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(output)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
            mpsc,
        },
        time::Duration,
    };

    use super::*;

    #[test]
    fn what_blocks_is_not_waited_for() {
        for builder in [Builder::new_current_thread(), Builder::new_multi_thread()] {
            let (_held, release) = mpsc::channel::<()>();
            let waited = Arc::new(AtomicBool::new(false));
            let ended = Arc::clone(&waited);
            let (started, running) = mpsc::channel();
            let output = run(builder, async move {
                tokio::task::spawn_blocking(move || {
                    let _ = started.send(());
                    let _ = release.recv_timeout(Duration::from_secs(10));
                    ended.store(true, Ordering::Release);
                });
                running.recv().is_ok()
            });
            assert!(matches!(output, Ok(true)));
            assert!(!waited.load(Ordering::Acquire), "it was waited for");
        }
    }
}
