//! What a configuration changes, worked out before anything is changed.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use serde::Serialize;
use tokenward::{Changes, IdpConfig, Registry};
use utoipa::ToSchema;

use super::{Known, Name};
use crate::config::{Config, Form, Problem};

/// How many identity providers of the configuration a reload touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Changed {
    pub(crate) added: usize,
    pub(crate) changed: usize,
    pub(crate) removed: usize,
    pub(crate) unchanged: usize,
}

/// The way from what runs to what is configured.
pub(super) struct Plan {
    pub(super) changes: Changes,
    pub(super) changed: Changed,
    /// Those of the configuration.
    pub(super) file: HashSet<Name>,
    /// The same by tenant and in their order, with the tenants that have none any more.
    pub(super) order: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    /// Stored ones that do not run, and why.
    pub(super) idle: HashMap<Name, &'static str>,
}

impl Plan {
    /// The way from `known` under `form` to `config`.
    ///
    /// # Errors
    ///
    /// What is wrong with identity providers of the configuration, and with stored ones that run now and could not
    /// under the new defaults.
    pub(super) fn of(
        config: &Config,
        form: &Form,
        registry: &Registry,
        known: &Known,
    ) -> Result<Self, Vec<Problem>> {
        let next = config.form();
        let mut problems = Vec::new();
        let mut plan = Self {
            changes: Changes::default(),
            changed: Changed::default(),
            file: HashSet::with_capacity(config.idps.len()),
            order: known
                .file
                .iter()
                .map(|(tenant, _)| (Arc::clone(tenant), Vec::new()))
                .collect(),
            idle: HashMap::new(),
        };
        for (index, idp) in config.idps.iter().enumerate() {
            // One text for all of a tenant.
            let tenant = plan.order.get_key_value(idp.tenant.as_str());
            let tenant = tenant.map_or_else(|| idp.tenant.as_str().into(), |(tenant, _)| Arc::clone(tenant));
            let name: Name = (tenant, idp.name.as_str().into());
            match idp.to_library(&next.allowed_domains) {
                Ok(idp) => plan.changes.register.push(idp),
                Err(error) => problems.push(Problem::of_whole(format!("idps[{index}]"), error.to_string())),
            }
            plan.order
                .entry(Arc::clone(&name.0))
                .or_default()
                .push(Arc::clone(&name.1));
            plan.file.insert(name);
        }
        plan.count(registry);
        let file = &plan.file;
        let issuers: HashSet<(&str, &str)> = plan
            .changes
            .register
            .iter()
            .filter_map(|idp| Some((idp.tenant(), idp.policy()?.issuer())))
            .collect();
        let taken = |idp: &IdpConfig| {
            idp.policy()
                .is_some_and(|policy| issuers.contains(&(idp.tenant(), policy.issuer())))
        };
        let mut idle = HashMap::new();
        let mut revived = Vec::new();
        let mut gone: HashSet<&Name> = known.file.iter().filter(|name| !file.contains(name)).collect();
        for (name, stored) in &known.stored {
            if file.contains(name) {
                idle.insert(name.clone(), "the configuration has one of its name");
                continue;
            }
            if stored.running && next == *form {
                let running = registry.idp(&name.0, &name.1);
                if running.is_some_and(|idp| taken(idp.config())) {
                    idle.insert(name.clone(), "one of the configuration has its issuer");
                    gone.insert(name);
                }
                continue;
            }
            match idp(&next, name, stored.document.as_bytes()) {
                Ok(idp) if taken(&idp) => {
                    idle.insert(name.clone(), "one of the configuration has its issuer");
                    gone.extend(stored.running.then_some(name));
                }
                Ok(idp) => {
                    gone.remove(name);
                    revived.push((stored.order, idp));
                }
                Err(found) if stored.running => {
                    problems.extend(
                        found
                            .into_iter()
                            .map(|problem| problem.within(&format!("{}/{}", name.0, name.1))),
                    );
                }
                Err(_) => {
                    idle.insert(name.clone(), "its document is not valid under this configuration");
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let gone = gone
            .into_iter()
            .map(|(tenant, name)| (tenant.to_string(), name.to_string()));
        plan.changes.unregister = gone.collect();
        plan.changed.removed = known.file.iter().filter(|name| !file.contains(name)).count();
        plan.idle = idle;
        // In the order in which they were added.
        revived.sort_unstable_by_key(|(order, _)| *order);
        plan.changes
            .register
            .extend(revived.into_iter().map(|(_, idp)| idp));
        Ok(plan)
    }

    fn count(&mut self, registry: &Registry) {
        for idp in &self.changes.register {
            let count = match registry.idp(idp.tenant(), idp.name()) {
                None => &mut self.changed.added,
                Some(old) if old.config() == idp => &mut self.changed.unchanged,
                Some(_) => &mut self.changed.changed,
            };
            *count += 1;
        }
    }
}

/// A document as the library takes it.
pub(super) fn idp(form: &Form, name: &Name, document: &[u8]) -> Result<IdpConfig, Vec<Problem>> {
    let idp = form.read(&name.0, &name.1, document)?;
    idp.to_library(&form.allowed_domains)
        .map_err(|error| vec![Problem::of_whole("", error.to_string())])
}
