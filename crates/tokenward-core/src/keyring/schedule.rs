//! When keys change, and which settings would break a verifier.

use std::{fmt, time::Duration};

/// Keys that are published at the same time, at most: as many as verifiers keep of a set by default.
pub const MAX_PUBLISHED: usize = 10;

/// Verifiers may accept a token for this much longer than it lives.
pub(super) const LONGEST_LEEWAY: Duration = Duration::from_secs(300);

/// For how long one of several processes goes on signing with what it knows of the keys while it does not hear of the
/// others: each key is published for so much longer after it has signed.
pub const HELD: Duration = Duration::from_secs(3_600);

/// How much longer a key is published before it signs where several processes publish it: they hear of it one after the
/// other, and whoever made it says that it is published while it is still being stored.
const SPREADING: Duration = Duration::from_secs(60);

/// The times in the life of a signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How long a key signs; 90 days by default.
    pub rotation_interval: Duration,
    /// How long a key is published before it signs; 24 hours by default.
    pub publish_ahead: Duration,
    /// How long verifiers are told to keep the set.
    pub advertised_max_age: Duration,
    /// The longest that a token which is signed now may live.
    pub longest_token: Duration,
}

/// Why a schedule would make verifiers refuse good tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScheduleFault {
    /// A verifier that holds an older set would meet tokens of a key that it does not know.
    PublishAheadTooShort {
        /// The advertised max-age.
        least: Duration,
    },
    /// A key would have to sign before it was published for long enough.
    RotationTooFast {
        /// `publish_ahead`.
        least: Duration,
    },
    /// More than [`MAX_PUBLISHED`] keys would be published at the same time, and verifiers cut sets off.
    TooManyKeys {
        /// The shortest interval that these lifetimes allow.
        least: Duration,
    },
}

impl fmt::Display for ScheduleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PublishAheadTooShort { least } => write!(
                f,
                "`publish_ahead` must be at least {} s: for so long verifiers keep a set without the new key",
                least.as_secs()
            ),
            Self::RotationTooFast { least } => write!(
                f,
                "`rotation_interval` must be at least `publish_ahead`, which is {} s",
                least.as_secs()
            ),
            Self::TooManyKeys { least } => write!(
                f,
                "`rotation_interval` must be at least {} s: a key stays published until its longest token has ended, and \
                 verifiers keep {MAX_PUBLISHED} keys of a set",
                least.as_secs()
            ),
        }
    }
}

impl std::error::Error for ScheduleFault {}

impl Schedule {
    /// Whether verifiers that do what the set's headers say never meet an unknown key.
    ///
    /// # Errors
    /// The first fault.
    pub fn check(&self) -> Result<(), ScheduleFault> {
        if self.publish_ahead < self.advertised_max_age {
            return Err(ScheduleFault::PublishAheadTooShort {
                least: self.advertised_max_age,
            });
        }
        if self.rotation_interval < self.publish_ahead {
            return Err(ScheduleFault::RotationTooFast {
                least: self.publish_ahead,
            });
        }
        // One signs and one is pending; of the others each is retiring for `retention`.
        let others = u32::try_from(MAX_PUBLISHED - 2).unwrap_or(u32::MAX);
        let least = self.retention().div_f64(f64::from(others));
        if self.rotation_interval < least {
            return Err(ScheduleFault::TooManyKeys {
                least: Duration::from_secs(least.as_secs() + 1),
            });
        }
        Ok(())
    }

    /// The same for keys that several processes of one store publish and sign with: none of their verifiers refuses a token,
    /// whichever of them it asks for keys.
    #[must_use]
    pub fn shared(self) -> Self {
        Self {
            publish_ahead: self.publish_ahead + SPREADING,
            longest_token: self.longest_token + HELD,
            ..self
        }
    }

    /// How long a key that signs no more must be known.
    pub(super) fn retention(&self) -> Duration {
        self.longest_token + LONGEST_LEEWAY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn schedule() -> Schedule {
        Schedule {
            rotation_interval: HOUR * 24 * 90,
            publish_ahead: HOUR * 24,
            advertised_max_age: HOUR / 4,
            longest_token: HOUR * 24 * 30,
        }
    }

    #[test]
    fn the_defaults_are_sound() {
        assert_eq!(schedule().check(), Ok(()));
    }

    #[test]
    fn what_would_break_a_verifier_is_refused_at_its_bound() {
        let ahead = |publish_ahead| Schedule {
            publish_ahead,
            ..schedule()
        };
        assert_eq!(ahead(HOUR / 4).check(), Ok(()));
        assert_eq!(
            ahead(HOUR / 4 - Duration::from_millis(1)).check(),
            Err(ScheduleFault::PublishAheadTooShort { least: HOUR / 4 })
        );
        let fast = |rotation_interval| Schedule {
            rotation_interval,
            longest_token: HOUR,
            ..schedule()
        };
        assert_eq!(fast(HOUR * 24).check(), Ok(()));
        assert_eq!(
            fast(HOUR * 23).check(),
            Err(ScheduleFault::RotationTooFast { least: HOUR * 24 })
        );
        // 30 days and 5 minutes over 8 keys.
        let crowded = |rotation_interval| Schedule {
            rotation_interval,
            ..schedule()
        };
        assert_eq!(crowded(HOUR * 91).check(), Ok(()));
        assert!(matches!(
            crowded(HOUR * 89).check(),
            Err(ScheduleFault::TooManyKeys { least }) if least > HOUR * 90 && least < HOUR * 91
        ));
    }
}
