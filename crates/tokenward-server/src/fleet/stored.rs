//! What other processes of the store have changed, worked out before anything is changed here.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokenward::{Changes, Registry};
use tokenward_store::StoredIdp;

use super::{Known, Name, Stored, plan};
use crate::config::Form;

/// The way from the stored identity providers that are known to those that there are.
pub(super) struct Newer {
    pub(super) changes: Changes,
    pub(super) stored: HashMap<Name, Stored>,
    /// Those that run no more, or not at first, and why.
    pub(super) idle: HashMap<Name, &'static str>,
}

impl Newer {
    /// The way from `known` to `stored`, which is in the order in which they came: of two with one issuer the first one runs, on
    /// every process.
    pub(super) fn of(stored: Vec<StoredIdp>, form: &Form, registry: &Registry, known: &Known) -> Self {
        let mut newer = Self {
            changes: Changes::default(),
            stored: HashMap::with_capacity(stored.len()),
            idle: HashMap::new(),
        };
        let mut issuers: HashSet<(Arc<str>, String)> = HashSet::new();
        let mut is_taken = |tenant: &Arc<str>, issuer: &str| {
            let running = registry.idp_by_issuer(tenant, issuer);
            // One that is not stored: of the configuration, or our own.
            let others = running.is_some_and(|idp| {
                let name: Name = (Arc::clone(tenant), idp.name().into());
                !known.stored.get(&name).is_some_and(|stored| stored.running)
            });
            others || !issuers.insert((Arc::clone(tenant), issuer.to_owned()))
        };
        for (order, idp) in stored.into_iter().enumerate() {
            let name: Name = (idp.tenant.into(), idp.name.into());
            let former = known.stored.get(&name);
            let same = former.filter(|former| *former.document == *idp.document);
            let document = match same {
                Some(former) => Arc::clone(&former.document),
                None => idp.document.into(),
            };
            let running = former.is_some_and(|former| former.running);
            let taken = "another one has its issuer";
            let idle = if known.file.contains(&name) {
                Some("the configuration has one of its name")
            } else if same.is_some() && running {
                let idp = registry.idp(&name.0, &name.1);
                let policy = idp.as_ref().and_then(|idp| idp.config().policy());
                policy
                    .is_some_and(|policy| is_taken(&name.0, policy.issuer()))
                    .then_some(taken)
            } else {
                match plan::idp(form, &name, document.as_bytes()) {
                    Err(_) => Some("its document is not valid under this configuration"),
                    Ok(config)
                        if config
                            .policy()
                            .is_some_and(|policy| is_taken(&name.0, policy.issuer())) =>
                    {
                        Some(taken)
                    }
                    Ok(config) => {
                        newer.changes.register.push(config);
                        None
                    }
                }
            };
            if let Some(why) = idle {
                newer.idle.insert(name.clone(), why);
                if running {
                    newer.unregister(&name);
                }
            }
            let stored = Stored {
                order: order as u64,
                document,
                running: idle.is_none(),
            };
            newer.stored.insert(name, stored);
        }
        for (name, former) in &known.stored {
            if former.running && !newer.stored.contains_key(name) {
                newer.unregister(name);
            }
        }
        newer
    }

    fn unregister(&mut self, (tenant, name): &Name) {
        self.changes
            .unregister
            .push((tenant.to_string(), name.to_string()));
    }
}
