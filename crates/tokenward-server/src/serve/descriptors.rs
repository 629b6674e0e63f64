//! The process's file descriptors: how many there may be, and how many of them connections may take.
//!
//! Clients that keep connections open must not take the descriptors that fetches, the store and the other listener
//! need: a provider's keys would go stale for as long as the clients stay.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokenward::DEFAULT_MAX_CONCURRENT_FETCHES;

/// Descriptors for all but connections: two for each fetch (its socket, and that of a name lookup), and 64 for the
/// store, the listeners, the runtime and what it inherits.
const RESERVE: u64 = 2 * DEFAULT_MAX_CONCURRENT_FETCHES as u64 + 64;

/// How many connections each listener may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connections {
    /// Of the operators' listener.
    pub(super) admin: usize,
    /// Of each of the others.
    pub(super) others: usize,
}

/// What each listener may have of the `wanted` connections, where `others` listen besides the admin one. It raises the
/// soft limit of open files to the hard one first, and warns where that is not enough.
pub(super) fn connections(wanted: usize, others: u64) -> Connections {
    let limit = raised();
    let connections = share(limit, wanted, others);
    if connections.others < wanted {
        tracing::warn!(
            open_files = limit,
            max_connections = wanted,
            connections = connections.others,
            admin_connections = connections.admin,
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

/// All of `limit` but the reserve, and of a small limit half: at most a quarter is for the admin listener, whose callers
/// are few.
fn share(limit: Option<u64>, wanted: usize, others: u64) -> Connections {
    let Some(limit) = limit else {
        return Connections {
            admin: wanted,
            others: wanted,
        };
    };
    let spare = limit - RESERVE.min(limit / 2);
    let at_most = |most: u64| {
        usize::try_from(most)
            .unwrap_or(usize::MAX)
            .clamp(1, wanted.max(1))
    };
    let admin = at_most(spare / 4);
    Connections {
        admin,
        others: at_most((spare - spare.min(admin as u64)) / others.max(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_kept_of_every_limit() {
        for (limit, wanted, others, admin, each) in [
            (None, 10_000, 1, 10_000, 10_000),
            (Some(1_048_576), 10_000, 1, 10_000, 10_000),
            (Some(20_000), 10_000, 1, 4_920, 10_000),
            (Some(20_000), 20_000, 1, 4_920, 14_760),
            (Some(20_000), 10_000, 2, 4_920, 7_380),
            (Some(1_024), 10_000, 1, 176, 528),
            (Some(1_024), 10, 2, 10, 10),
            (Some(64), 10_000, 1, 8, 24),
            (Some(0), 10_000, 2, 1, 1),
        ] {
            let shared = Connections { admin, others: each };
            assert_eq!(
                share(limit, wanted, others),
                shared,
                "{limit:?} {wanted} {others}"
            );
            // Together they leave the reserve, whatever is wanted.
            let all = shared.admin as u64 + others * shared.others as u64;
            assert!(limit.is_none_or(|limit| limit < 8 || all <= limit - RESERVE.min(limit / 2)));
        }
    }
}
