//! How long to pause after failures.

use std::time::Duration;

use super::settings::share;

/// The ceiling of the pause after the first failure. It doubles with every one that follows.
pub(super) const FIRST: Duration = Duration::from_secs(1);

/// The longest pause.
pub(super) const LONGEST: Duration = Duration::from_secs(300);

/// Full jitter may draw next to nothing; this keeps a failing fetch from being repeated on the spot.
pub(super) const LEAST: Duration = Duration::from_millis(250);

/// The pause after `failures` in a row that began `failing_for` ago: exponential with full jitter, and never longer
/// than `cadence`, which is what a success would have led to.
///
/// It is no longer than the failing has lasted, plus a second, whatever the dice say: a provider that was away
/// for a moment is back in a moment. What the upstream asks for (`Retry-After`) prolongs it, within the same bounds,
/// so that a hostile answer cannot put its keys off for ever.
pub(super) fn pause(
    failures: u32,
    failing_for: Duration,
    cadence: Duration,
    retry_after: Option<Duration>,
    unit: f64,
) -> Duration {
    let longest = LONGEST.min(cadence);
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let ceiling = doubled.min(failing_for.saturating_add(FIRST)).min(longest);
    let asked_for = retry_after.unwrap_or_default().min(longest);
    share(ceiling, unit).max(asked_for).max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const ALMOST: f64 = 1.0 - f64::EPSILON;

    fn ms(duration: Duration) -> u128 {
        // Rounded: jitter is drawn below its ceiling.
        (duration.as_micros() + 500) / 1_000
    }

    #[test]
    fn doubles_from_one_second_to_five_minutes() {
        let ceilings: Vec<_> = (1..=11)
            .map(|n| ms(pause(n, HOUR, HOUR, None, ALMOST)) / 1_000)
            .collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(ms(pause(u32::MAX, HOUR, HOUR, None, ALMOST)), 300_000);
    }

    #[test]
    fn jitter_is_full() {
        assert_eq!(ms(pause(9, HOUR, HOUR, None, 0.0)), 250);
        assert_eq!(ms(pause(9, HOUR, HOUR, None, 0.25)), 64_000);
        assert_eq!(ms(pause(9, HOUR, HOUR, None, 0.5)), 128_000);
    }

    #[test]
    fn never_longer_than_the_cadence_or_the_outage() {
        assert_eq!(ms(pause(9, HOUR, Duration::from_secs(10), None, ALMOST)), 10_000);
        assert_eq!(ms(pause(9, Duration::from_secs(4), HOUR, None, ALMOST)), 5_000);
    }

    #[test]
    fn retry_after_prolongs_within_bounds() {
        let asked = |secs, cadence| ms(pause(1, HOUR, cadence, Some(Duration::from_secs(secs)), 0.0));
        assert_eq!(asked(120, HOUR), 120_000);
        assert_eq!(asked(86_400, HOUR), 300_000);
        assert_eq!(asked(120, Duration::from_secs(10)), 10_000);
        assert_eq!(asked(0, HOUR), 250);
    }
}
