//! Dynamic identity providers.

use std::collections::HashMap;

use super::{
    Redis,
    call::{Args, Values, damaged, place, score},
    codec, scripts,
};
use crate::{StoreError, StoredIdp};

/// Providers that are read at once.
const PAGE: usize = 10_000;

/// Damaged values that one error names.
const NAMED: usize = 10;

impl Redis {
    /// All, in their order. What changes while more than one page is read may be seen as it was or as it is.
    pub(super) async fn all_idps(&self) -> Result<Vec<StoredIdp>, StoreError> {
        let (mut idps, mut damages) = (Vec::new(), Vec::new());
        let mut after = 0;
        loop {
            let args = Args::default().of("idps").of(place(after)).of(PAGE.to_string());
            let (numbers, values): (Vec<u64>, Values) = self.run(&scripts::PAGE, args).await?;
            for (name, value) in &values {
                match value.as_ref().and_then(|value| codec::read_idp(name, value)) {
                    Some(idp) => idps.push(idp),
                    None => damages.push(match codec::names_in(name) {
                        Some((tenant, name)) => format!("`{name}` of tenant `{tenant}`"),
                        None => format!("`{}`", String::from_utf8_lossy(name)),
                    }),
                }
            }
            match numbers.last() {
                Some(last) if numbers.len() == PAGE => after = *last,
                _ => break,
            }
        }
        if damages.is_empty() {
            return Ok(latest(idps));
        }
        let (count, of) = (damages.len(), idps.len() + damages.len());
        damages.truncate(NAMED);
        Err(damaged(format!(
            "{count} of {of} identity providers in the store's `idps` are not what was stored, or of a newer version: \
             {}{}. Remove them and add them again, or put a backup in the store's place",
            damages.join(", "),
            if count > NAMED { " and others" } else { "" },
        )))
    }

    /// Stores providers, in this order, and says what became of each.
    pub(super) async fn store_idps(
        &self,
        how: &str,
        idps: &[StoredIdp],
        max: usize,
    ) -> Result<Vec<String>, StoreError> {
        let mut args = Args::default().of(how).of(max.to_string());
        for idp in idps {
            args.add(codec::idp_name(&idp.tenant, &idp.name));
            args.add(codec::write_idp(idp));
            args.add(score(idp.changed_at));
        }
        self.run(&scripts::IDP_PUT, args).await
    }
}

/// Without those that were removed and added again between two pages.
fn latest(idps: Vec<StoredIdp>) -> Vec<StoredIdp> {
    let mut last = HashMap::new();
    for (at, idp) in idps.iter().enumerate() {
        last.insert((idp.tenant.clone(), idp.name.clone()), at);
    }
    if last.len() == idps.len() {
        return idps;
    }
    let mut kept: Vec<usize> = last.into_values().collect();
    kept.sort_unstable();
    kept.into_iter().filter_map(|at| idps.get(at).cloned()).collect()
}
