//! The identity providers of each tenant, in their two orders.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::Idp;

/// Places of identity providers that were never arranged begin here, so that all arranged ones stand before them.
pub(super) const UNARRANGED: u64 = 1 << 32;

/// The tenants that have an identity provider. A change costs a walk down two trees and copies nothing.
///
/// Writers must be serialised by the owner. Readers hold a lock for as long as it takes to copy what they ask for;
/// nothing that judges a token is among them.
#[derive(Default)]
pub(super) struct Tenants(RwLock<HashMap<Arc<str>, Arc<Tenant>>>);

#[derive(Default)]
pub(super) struct Tenant {
    generation: Generation,
    idps: RwLock<Orders>,
}

/// A number that moves with every change of a tenant, shared by those who change it.
pub(super) type Generation = Arc<AtomicU64>;

#[derive(Default)]
struct Orders {
    by_place: BTreeMap<u64, Arc<Idp>>,
    by_name: BTreeMap<Arc<str>, Arc<Idp>>,
}

impl Tenants {
    pub(super) fn get(&self, tenant: &str) -> Option<Arc<Tenant>> {
        let tenants = self.0.read().unwrap_or_else(PoisonError::into_inner);
        tenants.get(tenant).cloned()
    }

    pub(super) fn names(&self) -> Vec<Arc<str>> {
        let tenants = self.0.read().unwrap_or_else(PoisonError::into_inner);
        tenants.keys().cloned().collect()
    }

    /// The tenant of this name, made where there is none. The caller puts an identity provider into it.
    pub(super) fn open(&self, tenant: &Arc<str>) -> Arc<Tenant> {
        let mut tenants = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(tenants.entry(Arc::clone(tenant)).or_default())
    }

    /// Forgets a tenant without identity providers.
    pub(super) fn close(&self, tenant: &str) {
        let mut tenants = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if tenants.get(tenant).is_some_and(|tenant| tenant.is_empty()) {
            tenants.remove(tenant);
        }
    }
}

impl Tenant {
    pub(super) fn generation(&self) -> &Generation {
        &self.generation
    }

    pub(super) fn all(&self) -> Vec<Arc<Idp>> {
        self.read(|orders| orders.by_place.values().cloned().collect())
    }

    /// At most `limit` of them by name, from the first whose name comes after `after`.
    pub(super) fn page(&self, after: Option<&str>, limit: usize) -> Vec<Arc<Idp>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.read(|orders| {
            let rest = orders.by_name.range::<str, _>((from, Bound::Unbounded));
            rest.take(limit).map(|(_, idp)| Arc::clone(idp)).collect()
        })
    }

    pub(super) fn len(&self) -> usize {
        self.read(|orders| orders.by_name.len())
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts `idp` in, in place of the one of the same name.
    pub(super) fn insert(&self, idp: &Arc<Idp>) {
        self.write(|orders| {
            orders.by_place.insert(idp.place(), Arc::clone(idp));
            orders.by_name.insert(idp.config.shared_name(), Arc::clone(idp));
        });
    }

    pub(super) fn remove(&self, idp: &Idp) {
        self.write(|orders| {
            orders.by_place.remove(&idp.place());
            orders.by_name.remove(idp.name());
        });
    }

    /// Gives the first places to those of these names, in this order. Those that had one and are not named stand
    /// behind all others from now on, at places that `next` gives.
    pub(super) fn arrange<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        mut next: impl FnMut() -> u64,
    ) -> bool {
        self.write(|orders| {
            let mut before: BTreeMap<u64, Arc<Idp>> = orders.by_place.split_off(&UNARRANGED);
            std::mem::swap(&mut orders.by_place, &mut before);
            let mut moved = false;
            for (place, name) in (0..).zip(names) {
                let Some(idp) = orders.by_name.get(name) else {
                    continue;
                };
                let old = idp.place.swap(place, Ordering::AcqRel);
                before.remove(&old);
                // Those that were not arranged before stand in the other map.
                if old >= UNARRANGED {
                    orders.by_place.remove(&old);
                }
                moved |= old != place;
                orders.by_place.insert(place, Arc::clone(idp));
            }
            for idp in before.into_values() {
                let place = next();
                idp.place.store(place, Ordering::Release);
                orders.by_place.insert(place, idp);
                moved = true;
            }
            moved
        })
    }

    fn read<T>(&self, read: impl FnOnce(&Orders) -> T) -> T {
        read(&self.idps.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, write: impl FnOnce(&mut Orders) -> T) -> T {
        write(&mut self.idps.write().unwrap_or_else(PoisonError::into_inner))
    }
}
