//! How often a wrong credential may be tried from one address.

use std::{net::IpAddr, num::NonZeroU32, time::Duration};

use tokenward_core::{Timestamp, limit::Rate};

use crate::{http::Caller, limits::Table, telemetry};

/// Failures that an address may cause.
const RATE: Rate = Rate::per_minute(NonZeroU32::MIN.saturating_add(29));

/// Addresses that are remembered. Those beyond share one allowance, so that many addresses buy no more guesses.
const MAX_ADDRESSES: usize = 10_000;

/// Counts failures by address. It is bounded, whoever calls.
pub(crate) struct Failures(Table<IpAddr>);

impl Default for Failures {
    fn default() -> Self {
        Self(Table::new(MAX_ADDRESSES))
    }
}

impl Failures {
    /// Counts a failure of `address`.
    ///
    /// # Errors
    ///
    /// How long to wait, where the address has used up its allowance. The failure does not count then.
    pub(super) fn note(&self, address: IpAddr, now: Timestamp) -> Result<(), Duration> {
        match self.0.take(Caller(address).network(), RATE, now) {
            Ok(_) => Ok(()),
            Err(exceeded) => {
                telemetry::limited("failures");
                Err(exceeded.0.next_in)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    const BURST: u32 = 30;
    const INTERVAL: Duration = Duration::from_secs(2);

    const START: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn thirty_failures_a_minute() {
        let failures = Failures::default();
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..BURST {
            assert_eq!(failures.note(one, START), Ok(()));
        }
        assert_eq!(failures.note(one, START), Err(INTERVAL));
        assert_eq!(
            failures.note(one, START),
            Err(INTERVAL),
            "what is refused costs nothing"
        );
        assert_eq!(failures.note(other, START), Ok(()), "others have their own");
        let later = START + INTERVAL;
        assert_eq!(failures.note(one, later), Ok(()));
        assert!(failures.note(one, later).is_err());
        let much_later = later + Duration::from_secs(60);
        let admitted = (0..100)
            .filter(|_| failures.note(one, much_later).is_ok())
            .count();
        assert_eq!(admitted, 30);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let failures = Failures::default();
        for host in 0..BURST {
            assert_eq!(
                failures.note(address(&format!("2001:db8:1:2::{host:x}")), START),
                Ok(())
            );
        }
        assert!(failures.note(address("2001:db8:1:2:ffff::1"), START).is_err());
        assert_eq!(failures.note(address("2001:db8:1:3::1"), START), Ok(()));
    }

    #[test]
    fn many_addresses_neither_grow_it_nor_buy_guesses() {
        let failures = Failures::default();
        let attacker = |n: usize| IpAddr::from(Ipv6Addr::from((n as u128) << 64));
        let admitted = (0..3 * MAX_ADDRESSES)
            .filter(|n| failures.note(attacker(*n), START).is_ok())
            .count();
        assert_eq!(admitted, MAX_ADDRESSES + BURST as usize);
        assert_eq!(
            failures.note(attacker(7), START),
            Ok(()),
            "who is known keeps the rest"
        );
        // What is over is forgotten, so that later ones have an allowance of their own.
        let later = START + Duration::from_secs(61);
        let admitted = (0..10).filter(|n| failures.note(attacker(4 * MAX_ADDRESSES + n), later).is_ok());
        assert_eq!(admitted.count(), 10);
    }
}
