//! The scripts, and the keys that each of them may touch.

use super::script::Script;

/// What the keys are called, in the order in which every script gets all of them: they lie on one node.
pub(super) const KEYS: [&str; 19] = [
    "meta",
    "feed",
    "idps",
    "idps:order",
    "idps:removed",
    "audit",
    "audit:kinds",
    "families",
    "families:order",
    "families:due",
    "families:expiry",
    "families:claims",
    "revocations",
    "revocations:ids",
    "revocations:order",
    "revocations:expiry",
    "revocations:deleted",
    "revocations:deleted:expiry",
    "keyring",
];

macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {
        $(pub(super) static $name: Script =
            Script::new(concat!(include_str!("scripts/common.lua"), include_str!($file)));)*
    };
}

scripts! {
    AUDIT = "scripts/audit.lua";
    BURY = "scripts/bury.lua";
    CHANGES = "scripts/changes.lua";
    DUE = "scripts/due.lua";
    FAMILIES = "scripts/families.lua";
    FAMILY_OPEN = "scripts/family_open.lua";
    FAMILY_WRITE = "scripts/family_write.lua";
    GENERATION = "scripts/generation.lua";
    IDP_PUT = "scripts/idp_put.lua";
    IDP_REMOVE = "scripts/idp_remove.lua";
    KEYRING = "scripts/keyring.lua";
    NEXT_DUE = "scripts/next_due.lua";
    PAGE = "scripts/page.lua";
    PLACE = "scripts/place.lua";
    PRUNE = "scripts/prune.lua";
    REVOCATION = "scripts/revocation.lua";
    REVOKE = "scripts/revoke.lua";
    UNREVOKE = "scripts/unrevoke.lua";
    UNSCHEDULE = "scripts/unschedule.lua";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_call_the_keys_what_they_are_called() {
        let line = include_str!("scripts/common.lua").lines().next().unwrap();
        assert_eq!(
            line,
            format!("local {} = unpack(KEYS)", KEYS.join(", ").replace(':', "_"))
        );
    }
}
