//! Who may fetch now: bounded places, such that the slow and the dead do not keep the others waiting.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use tokenward_core::Timestamp;

/// A fetch that takes longer gives its place up. Most answers are there by then, and one that hangs would hold the place
/// until its deadline, forty times as long.
const SLOW_AFTER: Duration = Duration::from_millis(200);

/// How many fetches may be slow, as a multiple of the places. It bounds the sockets and the memory that dead providers
/// can hold.
const SLOW_SHARE: usize = 3;

/// What is known of one that wants to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its last attempt succeeded.
    Proven,
    /// It was not tried yet.
    New,
    /// Its last attempt failed.
    Failing,
}

/// Bounded places for fetches.
///
/// - Those that failed get at most a quarter of the places, and those that failed or are new at most three quarters
///   together, so that a quarter is left for those that are known to answer, whatever else is going on.
/// - The proven ones come first, but for a quarter of the places where new ones wait too.
/// - A fetch that turns out to be slow gives its place up, and goes on as one of the slow ones. Those are bounded too;
///   while there are too many of them, the next one keeps its place.
pub(super) struct Places<T> {
    max: usize,
    proven: VecDeque<T>,
    new: VecDeque<T>,
    failing: VecDeque<T>,
    /// What holds a place, by the order of beginning.
    running: BTreeMap<u64, Running>,
    /// Those of them that may become slow.
    prompt: BTreeSet<u64>,
    next_ticket: u64,
    counts: Counts,
}

#[derive(Clone, Copy)]
struct Running {
    since: Timestamp,
    holds: Holds,
}

/// What a fetch is counted as.
#[derive(Clone, Copy)]
enum Holds {
    Proven,
    New,
    Failing,
    Slow,
}

#[derive(Default)]
struct Counts {
    proven: usize,
    new: usize,
    failing: usize,
    slow: usize,
}

impl Counts {
    fn of(&mut self, holds: Holds) -> &mut usize {
        match holds {
            Holds::Proven => &mut self.proven,
            Holds::New => &mut self.new,
            Holds::Failing => &mut self.failing,
            Holds::Slow => &mut self.slow,
        }
    }
}

/// The right to fetch, to be handed back with [`Places::free`].
#[derive(Debug)]
pub(super) struct Ticket(u64);

impl<T> Places<T> {
    /// `max` places, of which there are at least 4.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max: max.max(4),
            proven: VecDeque::new(),
            new: VecDeque::new(),
            failing: VecDeque::new(),
            running: BTreeMap::new(),
            prompt: BTreeSet::new(),
            next_ticket: 0,
            counts: Counts::default(),
        }
    }

    pub(super) fn queue(&mut self, who: T, standing: Standing) {
        match standing {
            Standing::Proven => self.proven.push_back(who),
            Standing::New => self.new.push_back(who),
            Standing::Failing => self.failing.push_back(who),
        }
    }

    /// The next one that may begin, in the order of queueing among those of one standing.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<(T, Ticket)> {
        self.note_slow(now);
        let (who, holds) = self.choose()?;
        *self.counts.of(holds) += 1;
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.running.insert(ticket, Running { since: now, holds });
        if !matches!(holds, Holds::Failing) {
            self.prompt.insert(ticket);
        }
        Some((who, Ticket(ticket)))
    }

    pub(super) fn free(&mut self, ticket: &Ticket) {
        if let Some(running) = self.running.remove(&ticket.0) {
            *self.counts.of(running.holds) -= 1;
            self.prompt.remove(&ticket.0);
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.proven.len() + self.new.len() + self.failing.len()
    }

    /// When a place comes free by a fetch becoming slow, where somebody waits for it.
    pub(super) fn next_change(&self) -> Option<Timestamp> {
        if self.waiting() == 0 || self.counts.slow >= self.max * SLOW_SHARE {
            return None;
        }
        let oldest = self.prompt.first()?;
        self.running.get(oldest).map(|running| running.since + SLOW_AFTER)
    }

    fn choose(&mut self) -> Option<(T, Holds)> {
        let Counts {
            proven, new, failing, ..
        } = self.counts;
        let quarter = self.max / 4;
        if proven + new + failing >= self.max {
            return None;
        }
        let for_unproven = new + failing < self.max - quarter;
        if for_unproven
            && failing < quarter
            && let Some(who) = self.failing.pop_front()
        {
            return Some((who, Holds::Failing));
        }
        // Each of the two goes before the other up to three quarters of the places, if the other waits at all.
        let proven_first = proven < self.max - quarter || self.new.is_empty() || !for_unproven;
        if proven_first && let Some(who) = self.proven.pop_front() {
            return Some((who, Holds::Proven));
        }
        if !for_unproven {
            return None;
        }
        self.new.pop_front().map(|who| (who, Holds::New))
    }

    fn note_slow(&mut self, now: Timestamp) {
        while self.counts.slow < self.max * SLOW_SHARE
            && let Some(oldest) = self.prompt.first().copied()
            && let Some(running) = self.running.get_mut(&oldest)
            && running.since + SLOW_AFTER <= now
        {
            *self.counts.of(running.holds) -= 1;
            self.counts.slow += 1;
            running.holds = Holds::Slow;
            self.prompt.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn places(proven: usize, new: usize, failing: usize) -> Places<Standing> {
        let mut places = Places::new(8);
        for (count, standing) in [
            (proven, Standing::Proven),
            (new, Standing::New),
            (failing, Standing::Failing),
        ] {
            (0..count).for_each(|_| places.queue(standing, standing));
        }
        places
    }

    /// How many of each standing begin now: proven, new, failing.
    fn begin(places: &mut Places<Standing>, now: i64) -> ([usize; 3], Vec<Ticket>) {
        let (mut begun, mut tickets) = ([0; 3], Vec::new());
        while let Some((standing, ticket)) = places.next(at(now)) {
            begun[standing as usize] += 1;
            tickets.push(ticket);
        }
        (begun, tickets)
    }

    #[test]
    fn the_failing_get_a_quarter_and_a_quarter_is_kept_for_the_proven() {
        for (waiting, begun) in [
            ([20, 0, 0], [8, 0, 0]),
            ([0, 20, 0], [0, 6, 0]),
            ([0, 0, 20], [0, 0, 2]),
            ([20, 0, 20], [6, 0, 2]),
            ([0, 20, 20], [0, 4, 2]),
            ([20, 20, 0], [6, 2, 0]),
            ([1, 20, 20], [1, 4, 2]),
            ([20, 20, 20], [6, 0, 2]),
        ] {
            let mut places = places(waiting[0], waiting[1], waiting[2]);
            assert_eq!(begin(&mut places, 0).0, begun, "{waiting:?}");
            assert_eq!(
                places.waiting(),
                waiting.iter().sum::<usize>() - begun.iter().sum::<usize>()
            );
        }
    }

    #[test]
    fn a_slow_fetch_gives_its_place_up_until_too_many_are_slow() {
        let mut places = places(0, 100, 0);
        let mut tickets = Vec::new();
        for round in 0..4 {
            let now = 200 * round;
            let (begun, mut begun_tickets) = begin(&mut places, now);
            assert_eq!(begun, [0, 6, 0], "round {round}");
            assert_eq!(begin(&mut places, now + 199).0, [0; 3], "not slow yet");
            assert_eq!(places.next_change(), Some(at(now + 200)));
            tickets.append(&mut begun_tickets);
        }
        // 24 may be slow at a time, three for each place.
        let (begun, mut more) = begin(&mut places, 800);
        tickets.append(&mut more);
        assert_eq!(begun, [0, 6, 0]);
        assert_eq!(places.next_change(), None);
        assert_eq!(begin(&mut places, 60_000).0, [0; 3], "24 are slow, 6 hold places");
        places.free(&tickets[0]);
        assert_eq!(begin(&mut places, 60_000).0, [0, 1, 0]);
        places.queue(Standing::Proven, Standing::Proven);
        assert_eq!(begin(&mut places, 60_000).0, [1, 0, 0]);
    }

    #[test]
    fn failing_ones_never_become_slow_and_all_places_come_back() {
        let mut places = places(3, 3, 3);
        let (begun, tickets) = begin(&mut places, 0);
        assert_eq!(begun, [3, 3, 2]);
        assert_eq!(
            begin(&mut places, 10_000).0,
            [0; 3],
            "the failing one still waits"
        );
        tickets.iter().for_each(|ticket| places.free(ticket));
        assert_eq!(begin(&mut places, 10_000).0, [0, 0, 1]);
        assert_eq!(
            (places.waiting(), places.running.len(), places.prompt.len()),
            (0, 1, 0)
        );
    }

    #[test]
    fn among_equals_the_first_comes_first() {
        let mut places = Places::new(4);
        (0..20).for_each(|n| places.queue(n, Standing::Proven));
        let mut order = Vec::new();
        while let Some((n, ticket)) = places.next(at(0)) {
            order.push(n);
            places.free(&ticket);
        }
        assert_eq!(order, (0..20).collect::<Vec<_>>());
    }
}
