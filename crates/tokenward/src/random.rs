//! Randomness for jitter, given from outside so that a test can choose it.

use std::sync::Arc;

/// Where jitter comes from.
pub trait Random: Send + Sync + 'static {
    /// A number from 0 up to but not including 1, all equally likely.
    fn unit(&self) -> f64;
}

impl<F: Fn() -> f64 + Send + Sync + 'static> Random for F {
    fn unit(&self) -> f64 {
        self()
    }
}

/// The system's randomness, through the cryptographic provider.
#[must_use]
pub fn system() -> Arc<dyn Random> {
    Arc::new(System)
}

struct System;

impl Random for System {
    fn unit(&self) -> f64 {
        let mut bytes = [0; 4];
        // The provider fails only where the system has no randomness at all. Jitter is no secret: the middle
        // of the range is better than no fetch.
        match aws_lc_rs::rand::fill(&mut bytes) {
            Ok(()) => f64::from(u32::from_ne_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
            Err(_) => 0.5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_the_unit_interval() {
        let random = system();
        let mut tenths = [0; 10];
        for _ in 0..10_000 {
            let number = random.unit();
            assert!((0.0..1.0).contains(&number));
            tenths[(number * 10.0) as usize] += 1;
        }
        // Six standard deviations around 1,000.
        assert!(
            tenths.iter().all(|count| (820..1_180).contains(count)),
            "{tenths:?}"
        );
    }
}
