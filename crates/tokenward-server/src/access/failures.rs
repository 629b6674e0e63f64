//! How often a wrong credential may be tried from one address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokenward_core::Timestamp;

/// Failures that an address may cause at once; they come back one by one, [`BURST`] a minute.
const BURST: u32 = 30;
const INTERVAL: Duration = Duration::from_secs(2);
/// Addresses that are remembered. Those beyond share one allowance, so that many addresses buy no more guesses.
const MAX_ADDRESSES: usize = 10_000;
/// How often at most addresses are looked through for those that can be forgotten.
const SWEEP: Duration = Duration::from_secs(1);

/// Counts failures by address. It is bounded, whoever calls.
#[derive(Default)]
pub(crate) struct Failures(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// When each address would have its whole allowance again (the "theoretical arrival time" of the generic cell
    /// rate algorithm). Nothing else is needed: one in the past is as good as none.
    full_at: HashMap<IpAddr, Timestamp>,
    others: Timestamp,
    swept_at: Timestamp,
}

impl Failures {
    /// Counts a failure of `address`.
    ///
    /// # Errors
    ///
    /// How long to wait, where the address has used up its allowance. The failure does not count then.
    pub(super) fn note(&self, address: IpAddr, now: Timestamp) -> Result<(), Duration> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = network(address);
        if table.full_at.len() >= MAX_ADDRESSES && !table.full_at.contains_key(&address) {
            table.sweep(now);
        }
        let full_at = if table.full_at.len() < MAX_ADDRESSES {
            table.full_at.entry(address).or_default()
        } else {
            let Table { full_at, others, .. } = &mut *table;
            full_at.get_mut(&address).unwrap_or(others)
        };
        let next = (*full_at).max(now) + INTERVAL;
        let excess = next.since(now).saturating_sub(INTERVAL * BURST);
        if excess.is_zero() {
            *full_at = next;
            Ok(())
        } else {
            Err(excess)
        }
    }
}

impl Table {
    fn sweep(&mut self, now: Timestamp) {
        if now.since(self.swept_at) >= SWEEP {
            self.swept_at = now;
            self.full_at.retain(|_, full_at| *full_at > now);
        }
    }
}

/// What counts as one address. A host commands a whole /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(failures.0.lock().unwrap().full_at.len() <= MAX_ADDRESSES);
        assert_eq!(
            failures.note(attacker(7), START),
            Ok(()),
            "who is known keeps the rest"
        );
        // What is over is forgotten, so that later ones have an allowance of their own.
        let later = START + Duration::from_secs(61);
        let admitted = (0..10).filter(|n| failures.note(attacker(4 * MAX_ADDRESSES + n), later).is_ok());
        assert_eq!(admitted.count(), 10);
        assert!(failures.0.lock().unwrap().full_at.len() < 100);
    }
}
