//! Identity providers and tenants that rules name: each must be there, or may come to be.

use tokenward::DEFAULT_TENANT;
use tokenward_core::session::TokenType;

use super::rules::Require;
use crate::config::{
    credential::Scope,
    idp::{Idp, OWN_IDP},
    model::Config,
    problem::suggestion,
    record::Section,
};

/// A name in a rule that nothing of the configuration has.
struct Unknown<'a> {
    rule: usize,
    tenant: &'a str,
    /// None: there is nothing in the tenant.
    idp: Option<&'a str>,
    near: String,
}

impl Config {
    /// Reports what rules require and no token can meet.
    pub(in crate::config) fn check_authorize(&self, section: &Section<'_>) {
        let dev = section.cx.dev;
        let authorize = section.child("authorize");
        let place = |rule: usize| Some(authorize.element("rules", rule, None)?.child("require"));
        for unknown in self.unknown_of_rules(dev) {
            let may_come = self.may_grow(dev) && unknown.idp != Some(OWN_IDP);
            if !may_come && let Some(place) = place(unknown.rule) {
                let (member, name) = unknown
                    .idp
                    .map_or(("tenant", unknown.tenant), |idp| ("idps", idp));
                place.report(
                    member,
                    format!("no IdP is configured for `{name}`{}", unknown.near),
                );
            }
        }
        for (index, require) in self.requirements() {
            let Some(place) = place(index) else { continue };
            for idp in self
                .idps_of(&require.tenant)
                .filter(|idp| require.idps.contains(&idp.name))
            {
                if idp.issuer.is_none() || idp.settings.audiences.is_none() {
                    let message = format!(
                        "`{}` has no `issuer` and `audiences`: none of its tokens is accepted",
                        idp.name
                    );
                    place.report("idps", message);
                }
            }
            let of_others =
                require.token_types.is_empty() || require.token_types.contains(&TokenType::Access);
            let own = self.has_own(dev) && require.takes_own();
            if !of_others && !own {
                place.report(
                    "token_types",
                    "only tokens of our own are of these types, and none of them can meet this rule",
                );
            }
        }
    }

    /// Rules that nothing can meet before an identity provider is added, each in words.
    pub(crate) fn unmet_rules(&self) -> impl Iterator<Item = String> {
        // That there are own tokens where a rule names them was seen to before.
        self.unknown_of_rules(true).into_iter().map(|unknown| {
            let Unknown { rule, tenant, idp, .. } = unknown;
            let what = idp.map_or("an IdP".to_owned(), |idp| format!("the IdP `{idp}`"));
            format!("authorize.rules[{rule}] waits for {what} of the tenant `{tenant}`: there is none in the configuration")
        })
    }

    /// Tenants and identity providers of rules that are not in the configuration.
    fn unknown_of_rules(&self, dev: bool) -> Vec<Unknown<'_>> {
        let mut unknown = Vec::new();
        for (rule, require) in self.requirements() {
            let tenant = require.tenant.as_str();
            let own = (tenant == DEFAULT_TENANT && self.has_own(dev)).then_some(OWN_IDP);
            let names: Vec<_> = self
                .idps_of(tenant)
                .map(|idp| idp.name.as_str())
                .chain(own)
                .collect();
            if names.is_empty() && tenant != DEFAULT_TENANT {
                let near = suggestion(tenant, self.idps.iter().map(|idp| idp.tenant.as_str()));
                unknown.push(Unknown {
                    rule,
                    tenant,
                    idp: None,
                    near,
                });
                continue;
            }
            for idp in require.idps.iter().filter(|idp| !names.contains(&idp.as_str())) {
                let near = suggestion(idp, names.iter().copied());
                unknown.push(Unknown {
                    rule,
                    tenant,
                    idp: Some(idp),
                    near,
                });
            }
        }
        unknown
    }

    /// What rules require, with their places.
    fn requirements(&self) -> impl Iterator<Item = (usize, &Require)> {
        let rules = self.authorize.rules.iter().enumerate();
        rules.filter_map(|(index, rule)| Some((index, rule.require.as_ref()?)))
    }

    fn idps_of(&self, tenant: &str) -> impl Iterator<Item = &Idp> {
        self.idps.iter().filter(move |idp| idp.tenant == tenant)
    }

    /// Whether there are tokens of our own.
    fn has_own(&self, dev: bool) -> bool {
        dev || self.token_service.is_some()
    }

    /// Whether somebody may add identity providers at run time, so that a name may come to mean something.
    fn may_grow(&self, dev: bool) -> bool {
        let mut scopes = self.credentials.iter().flat_map(|credential| &credential.scopes);
        let may_write = scopes.any(|scope| matches!(scope, Scope::IdpsWrite | Scope::Admin));
        self.max_dynamic_idps > 0 && (may_write || (dev && self.credentials.is_empty()))
    }
}
