//! The process's file descriptors: how many there may be, and how many of them connections may take.
//!
//! Clients that keep connections open must not take the descriptors that fetches, the store and the other listener
//! need: a provider's keys would go stale for as long as the clients stay.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokenward::DEFAULT_MAX_CONCURRENT_FETCHES;

/// Descriptors for all but connections: two for each fetch (its socket, and that of a name lookup), and 64 for the
/// store, the listeners, the runtime and what it inherits.
const RESERVE: u64 = 2 * DEFAULT_MAX_CONCURRENT_FETCHES as u64 + 64;

/// How many of the `wanted` connections each of `listeners` may have. It raises the soft limit of open files to the
/// hard one first, and warns where that is not enough.
pub(super) fn connections(wanted: usize, listeners: u64) -> usize {
    let limit = raised();
    let connections = wanted.min(share(limit, listeners));
    if connections < wanted {
        tracing::warn!(
            open_files = limit,
            max_connections = wanted,
            connections,
            "the limit of open files allows fewer connections on each listener than server.max_connections; \
             raise it (`ulimit -n`, `LimitNOFILE=`)"
        );
    }
    connections
}

/// The limit of open files, as high as this process may set it. None: there is none.
fn raised() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let higher = Rlimit {
        current: maximum,
        maximum,
    };
    // Some systems refuse a limit that they advertise.
    match setrlimit(Resource::Nofile, higher) {
        Ok(()) => maximum,
        Err(_) => current,
    }
}

/// What each of `listeners` gets of `limit`: all but the reserve, and of a small limit half.
fn share(limit: Option<u64>, listeners: u64) -> usize {
    let Some(limit) = limit else { return usize::MAX };
    let spare = limit - RESERVE.min(limit / 2);
    usize::try_from(spare / listeners.max(1))
        .unwrap_or(usize::MAX)
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_kept_of_every_limit() {
        for (limit, each) in [
            (None, usize::MAX),
            (Some(1_048_576), 524_128),
            (Some(1_024), 352),
            (Some(640), 160),
            (Some(64), 16),
            (Some(0), 1),
        ] {
            assert_eq!(share(limit, 2), each, "{limit:?}");
        }
    }
}
