use std::{pin::Pin, sync::atomic::Ordering};

use futures_util::FutureExt as _;
use metrics::with_local_recorder;
use tokenward_store::Memory;
use tokenward_testkit::ManualClock;

use super::*;
use crate::{issue::tests::counted::Counted, telemetry::Recorder};

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

struct World {
    clock: ManualClock,
    ledger: Arc<Counted>,
    audit: Audit,
    writer: Running,
}

impl World {
    fn new() -> Self {
        let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
        let ledger = Counted::new(Arc::new(Memory::new()));
        let (audit, writer) = Audit::new(Arc::clone(&ledger) as _, Arc::new(clock.clone()));
        Self {
            clock,
            ledger,
            audit,
            writer: Box::pin(writer),
        }
    }

    /// Lets the writer do what it can now. Whether it has ended.
    fn turn(&mut self) -> bool {
        self.writer.as_mut().now_or_never().is_some()
    }

    /// How many writes there were since the last time, and the number of the newest record.
    fn written(&self) -> (usize, Option<u64>) {
        let writes = self.ledger.counts().1;
        let newest = self.ledger.audit(None, 1).now_or_never().unwrap().unwrap();
        (writes, newest.first().map(|(number, _)| *number))
    }
}

fn record(number: usize) -> AuditRecord {
    AuditRecord {
        at: Timestamp::from_secs(1_800_000_000),
        who: "ops".to_owned(),
        address: "192.0.2.1".to_owned(),
        action: "tokens.mint".to_owned(),
        target: number.to_string(),
        outcome: "ok".to_owned(),
    }
}

#[test]
fn records_of_a_moment_are_one_write_at_the_end_of_it() {
    let mut world = World::new();
    assert!(!world.turn());
    for number in 0..3 {
        world.audit.note(record(number));
        assert!(!world.turn());
        world.clock.advance(LINGER / 4);
    }
    assert_eq!((world.written(), world.audit.queued()), ((0, None), 3));
    // Of the first one, not of the last.
    world.clock.advance(LINGER / 4);
    assert!(!world.turn());
    assert_eq!((world.written(), world.audit.queued()), ((1, Some(3)), 0));
    // And the next one begins a moment of its own.
    world.audit.note(record(3));
    assert!(!world.turn());
    world.clock.advance(LINGER);
    assert!(!world.turn());
    assert_eq!(world.written(), (1, Some(4)));
}

#[test]
fn a_burst_is_written_as_soon_as_it_is_worth_a_write_and_wakes_the_writer_twice() {
    let mut world = World::new();
    let bell = world.audit.bell.clone();
    let free = || bell.capacity();
    world.audit.note(record(0));
    assert_eq!(free(), 0, "it rings");
    assert!(!world.turn());
    for number in 1..BATCH - 1 {
        world.audit.note(record(number));
    }
    assert_eq!(free(), 1, "nobody is woken for one more");
    world.audit.note(record(BATCH - 1));
    assert_eq!(free(), 0, "a whole write rings");
    assert!(!world.turn());
    assert_eq!((world.written(), world.audit.queued()), ((1, Some(512)), 0));
    // What came while nobody looked is as many writes as it takes.
    for number in 0..2 * BATCH + 1 {
        world.audit.note(record(number));
    }
    assert!(!world.turn());
    assert_eq!(world.written(), (3, Some(512 + 1_025)));
}

#[test]
fn what_is_waited_for_is_written_at_once_with_everything_before_it() {
    let mut world = World::new();
    world.audit.note(record(0));
    assert!(!world.turn());
    let audit = world.audit.clone();
    let mut kept = Box::pin(audit.keep(record(1)));
    assert!(kept.as_mut().now_or_never().is_none());
    assert!(!world.turn());
    assert!(matches!(kept.now_or_never(), Some(Ok(()))));
    assert_eq!(world.written(), (1, Some(2)));
    // Who waits for a record that is lost hears of it, and so does who waits for those before.
    world.ledger.audit_fails.store(true, Ordering::Relaxed);
    let (mut kept, mut flushed) = (Box::pin(audit.keep(record(2))), Box::pin(audit.flush()));
    assert!(kept.as_mut().now_or_never().is_none() && flushed.as_mut().now_or_never().is_none());
    assert!(!world.turn());
    assert!(matches!(kept.now_or_never(), Some(Err(Unavailable))));
    assert!(matches!(flushed.now_or_never(), Some(Err(Unavailable))));
}

#[test]
fn what_is_too_much_is_counted_and_what_is_waited_for_is_not_refused_for_it() {
    let mut world = World::new();
    let recorder = Recorder::default();
    with_local_recorder(&recorder, || {
        for number in 0..QUEUE + 3 {
            world.audit.note(record(number));
        }
    });
    assert_eq!(world.audit.queued(), QUEUE);
    let text = recorder.render();
    let line = "tokenward_audit_records_lost_total{reason=\"overflow\"} 3\n";
    assert!(text.contains(line), "{text}");
    let audit = world.audit.clone();
    let mut kept = Box::pin(audit.keep(record(0)));
    assert!(kept.as_mut().now_or_never().is_none());
    assert!(!world.turn());
    assert!(matches!(kept.now_or_never(), Some(Ok(()))));
    assert_eq!(world.written().1, Some(4_097));
}

#[test]
fn the_writer_writes_what_is_left_and_ends_with_the_last_who_could_write_more() {
    let mut world = World::new();
    let other = world.audit.clone();
    other.note(record(0));
    drop(other);
    assert!(!world.turn());
    assert_eq!(world.written(), (0, None));
    let World {
        ledger,
        audit,
        mut writer,
        ..
    } = world;
    drop(audit);
    assert!(writer.as_mut().now_or_never().is_some());
    assert_eq!(ledger.counts().1, 1);
    // Without a writer nobody waits for it.
    let (audit, writer) = Audit::new(ledger, Arc::new(ManualClock::default()));
    drop(writer);
    assert!(matches!(
        audit.keep(record(1)).now_or_never(),
        Some(Err(Unavailable))
    ));
}

#[test]
fn a_store_that_hangs_does_not_fill_the_memory_with_records_of_those_who_have_given_up() {
    let mut world = World::new();
    let recorder = Recorder::default();
    with_local_recorder(&recorder, || {
        // The writer does nothing meanwhile, as when it waits for the store, and nobody waits for long.
        for number in 0..3 * QUEUE {
            let _ = world.audit.keep(record(number)).now_or_never();
            let _ = world.audit.flush().now_or_never();
        }
        assert!(world.audit.queued() <= 2 * QUEUE);
        assert!(lock(&world.audit.pending).waiting.len() <= QUEUE);
        let late = world.audit.keep(record(0)).now_or_never();
        assert!(matches!(late, Some(Err(Unavailable))));
    });
    let lost = format!(
        "audit_records_lost_total{{reason=\"overflow\"}} {}",
        3 * QUEUE - world.audit.queued() + 1
    );
    assert!(recorder.render().contains(&lost), "{lost} {}", recorder.render());
    // And it goes on when the store does.
    assert!(!world.turn());
    assert!(world.written().0 > 0);
    assert_eq!(world.audit.queued(), 0);
}
