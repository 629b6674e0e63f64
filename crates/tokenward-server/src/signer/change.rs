//! What can be done to the keys, in a form that can be done again where somebody else was quicker.

use tokenward_core::{
    Timestamp,
    jose::{Algorithm, SigningKey},
    keyring::{Changes, Ring, RingFault, Stage},
};

/// One change.
#[derive(Clone)]
pub(super) enum Change {
    /// The operator's key signs from now on.
    KeepInFile(SigningKey),
    /// Keys of the store sign from now on; the first ones are made where there are none.
    KeepInStore,
    /// These go: they were revoked and are published still.
    TakeOut(Vec<String>),
    /// What is due by the schedule.
    Tick,
    /// The successor signs.
    Rotate { force: bool },
    /// A new successor is published, or the first keys are.
    Generate(Algorithm),
    /// The operator's key is published as the successor.
    Import(SigningKey),
    /// A key ends.
    Revoke(String),
}

impl Change {
    /// Does it. Nothing has changed where it fails.
    pub(super) fn apply(&self, ring: &mut Ring, now: Timestamp) -> Result<Changes, RingFault> {
        let generate = &SigningKey::generate;
        match self {
            Self::KeepInFile(key) => Ok(ring.keep_in_file(key, now)),
            Self::KeepInStore => Ok(ring.keep_in_store(now, generate)?),
            Self::TakeOut(kids) => {
                let mut changes = Changes::default();
                for kid in kids {
                    if has(ring, kid) {
                        add(&mut changes, ring.revoke(kid, now, generate)?);
                    }
                }
                Ok(changes)
            }
            Self::Tick => Ok(ring.tick(now, generate)?),
            Self::Rotate { force } => ring.rotate(*force, now, generate),
            Self::Generate(_) if active(ring).is_none() => Ok(ring.keep_in_store(now, generate)?),
            Self::Generate(algorithm) => ring.add(SigningKey::generate(*algorithm)?, now),
            Self::Import(key) => {
                let mut changes = ring.add(key.clone(), now)?;
                if active(ring).is_none() {
                    add(&mut changes, ring.keep_in_store(now, generate)?);
                }
                Ok(changes)
            }
            Self::Revoke(kid) => ring.revoke(kid, now, generate),
        }
    }

    /// Whether somebody else has done meanwhile what was to be done to `begun`.
    pub(super) fn is_done(&self, begun: &Ring, now: &Ring) -> bool {
        match self {
            Self::Rotate { .. } => active(begun) != active(now),
            Self::Generate(_) => active(begun).is_none() && active(now).is_some(),
            Self::Import(key) => has(now, key.kid()),
            Self::Revoke(kid) => !has(now, kid),
            // Done again they change nothing.
            Self::KeepInFile(_) | Self::KeepInStore | Self::TakeOut(_) | Self::Tick => false,
        }
    }
}

/// What leads from one ring to the other.
pub(super) fn between(begun: &Ring, now: &Ring) -> Changes {
    let only = |one: &Ring, other: &Ring| {
        let kids = one.published().map(|key| key.kid().to_owned());
        kids.filter(|kid| !has(other, kid)).collect()
    };
    Changes {
        added: only(now, begun),
        activated: active(now).filter(|_| active(begun) != active(now)),
        gone: only(begun, now),
    }
}

fn has(ring: &Ring, kid: &str) -> bool {
    ring.published().any(|key| key.kid() == kid)
}

fn active(ring: &Ring) -> Option<String> {
    let mut published = ring.published();
    let active = published.find(|key| matches!(key.stage(), Stage::Active { .. }))?;
    Some(active.kid().to_owned())
}

fn add(changes: &mut Changes, more: Changes) {
    changes.added.extend(more.added);
    changes.activated = more.activated.or(changes.activated.take());
    changes.gone.extend(more.gone);
}
