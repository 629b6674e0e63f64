use std::ops::Bound;

use async_trait::async_trait;
use tokenward_core::Timestamp;

use super::{Memory, RuleKey, State};
use crate::{
    AUDIT_KEPT, AuditRecord, Child, Family, Ledger, Origin, PRUNED, PutIdp, Recorded, Revocation,
    RevocationRule, Revoked, StoreError, StoredIdp,
};

#[async_trait]
impl Ledger for Memory {
    async fn idps(&self) -> Result<Vec<StoredIdp>, StoreError> {
        let state = self.lock();
        let mut idps: Vec<_> = state.idps.values().collect();
        idps.sort_unstable_by_key(|(number, _)| *number);
        Ok(idps.into_iter().map(|(_, idp)| idp.clone()).collect())
    }

    async fn put_idp(&self, idp: &StoredIdp, max: usize) -> Result<PutIdp, StoreError> {
        let mut state = self.lock();
        let key = (idp.tenant.clone(), idp.name.clone());
        if let Some((_, former)) = state.idps.get_mut(&key) {
            *former = idp.clone();
            return Ok(PutIdp::Replaced);
        }
        if state.idps.len() >= max {
            return Ok(PutIdp::Full);
        }
        let number = state.next();
        state.idps.insert(key, (number, idp.clone()));
        Ok(PutIdp::Created)
    }

    async fn remove_idp(&self, tenant: &str, name: &str) -> Result<bool, StoreError> {
        let key = (tenant.to_owned(), name.to_owned());
        Ok(self.lock().idps.remove(&key).is_some())
    }

    async fn append_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        let mut state = self.lock();
        for record in records {
            let number = state.next();
            state.audit.insert(number, record.clone());
            let (action, succeeded) = record.kind();
            let kind = state.audit_kinds.entry((action.to_owned(), succeeded));
            let numbers = kind.or_default();
            numbers.push_back(number);
            let over = numbers.len().saturating_sub(AUDIT_KEPT);
            let oldest: Vec<u64> = numbers.drain(..over).collect();
            for number in oldest {
                state.audit.remove(&number);
            }
        }
        Ok(())
    }

    async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreError> {
        let state = self.lock();
        let newest_first = state.audit.range(..before.unwrap_or(u64::MAX)).rev();
        Ok(newest_first
            .take(limit)
            .map(|(number, record)| (*number, record.clone()))
            .collect())
    }

    async fn open_family(&self, family: &Family) -> Result<(), StoreError> {
        self.lock().open_family(family);
        Ok(())
    }

    async fn reopen_family(&self, issuer: &str, family: &Family) -> Result<bool, StoreError> {
        let parent = (issuer.to_owned(), family.parent_jti.clone());
        let mut state = self.lock();
        if state.ended.contains_key(&parent) {
            return Ok(false);
        }
        state.open_family(family);
        Ok(true)
    }

    async fn family(&self, parent_jti: &str) -> Result<Option<Family>, StoreError> {
        Ok(self.lock().families.get(parent_jti).cloned())
    }

    async fn families(&self, after: &str, limit: usize) -> Result<Vec<Family>, StoreError> {
        let state = self.lock();
        let range = (Bound::Excluded(after), Bound::Unbounded);
        let families = state.families.range::<str, _>(range);
        Ok(families.take(limit).map(|(_, family)| family.clone()).collect())
    }

    async fn active_families(&self, now: Timestamp) -> Result<usize, StoreError> {
        let state = self.lock();
        Ok(state
            .families
            .values()
            .filter(|family| family.expires_at > now)
            .count())
    }

    async fn record_child(
        &self,
        parent_jti: &str,
        origin: &Origin,
        after: u64,
        child: &Child,
        next_renewal: Option<Timestamp>,
    ) -> Result<Recorded, StoreError> {
        let mut state = self.lock();
        let Some(family) = state.families.get(parent_jti) else {
            return Ok(Recorded::Gone);
        };
        if family.sequence != after {
            return Ok(Recorded::Behind(Box::new(family.clone())));
        }
        let rules = origin.rules(parent_jti, &family.user_id);
        if let Some(id) = state.refuses(origin, &rules) {
            return Ok(Recorded::Revoked(id));
        }
        let Some(family) = state.families.get_mut(parent_jti) else {
            return Ok(Recorded::Gone);
        };
        let former = std::mem::replace(&mut family.next_renewal, next_renewal);
        family.latest = Some(child.clone());
        family.sequence += 1;
        let sequence = family.sequence;
        state.schedule(parent_jti, former, next_renewal);
        Ok(Recorded::Stored(sequence))
    }

    async fn due_families(&self, now: Timestamp, limit: usize) -> Result<Vec<Family>, StoreError> {
        let state = self.lock();
        let due = state.due.iter().take_while(|(time, _)| *time <= now).take(limit);
        Ok(due
            .filter_map(|(_, parent_jti)| state.families.get(parent_jti).cloned())
            .collect())
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.lock().due.first().map(|(time, _)| *time))
    }

    async fn postpone(
        &self,
        parent_jti: &str,
        after: u64,
        next_renewal: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let mut state = self.lock();
        let family = state.families.get_mut(parent_jti);
        if let Some(family) = family.filter(|family| family.sequence == after) {
            let former = std::mem::replace(&mut family.next_renewal, next_renewal);
            state.schedule(parent_jti, former, next_renewal);
        }
        Ok(())
    }

    async fn revoke(&self, revocation: &Revocation) -> Result<Revoked, StoreError> {
        let mut state = self.lock();
        if let RevocationRule::Parent(parent_jti) = &revocation.rule {
            state.remove_family(parent_jti);
            let parent = (revocation.issuer.clone(), parent_jti.clone());
            state.ended.insert(parent, revocation.expires_at);
        }
        let key = rule_key(&revocation.issuer, &revocation.rule);
        let former = state.rules.get(&key).copied();
        let former = former.and_then(|sequence| Some((sequence, state.revocations.get(&sequence)?)));
        let effective = match former {
            Some((sequence, former)) => {
                let grown = former.grown(revocation);
                if grown == *former {
                    return Ok(Revoked {
                        sequence,
                        effective: grown,
                    });
                }
                state.revocations.remove(&sequence);
                grown
            }
            None => revocation.clone(),
        };
        let sequence = state.next();
        state.rules.insert(key, sequence);
        state.revocations.insert(sequence, effective.clone());
        Ok(Revoked { sequence, effective })
    }

    async fn revocations(&self, after: u64, limit: usize) -> Result<Vec<(u64, Revocation)>, StoreError> {
        let state = self.lock();
        let later = state
            .revocations
            .range((Bound::Excluded(after), Bound::Unbounded));
        Ok(later
            .take(limit)
            .map(|(sequence, revocation)| (*sequence, revocation.clone()))
            .collect())
    }

    async fn revocation(&self, id: &str) -> Result<Option<Revocation>, StoreError> {
        let state = self.lock();
        Ok(state
            .revocations
            .values()
            .find(|revocation| revocation.id == id)
            .cloned())
    }

    async fn delete_revocation(&self, id: &str) -> Result<bool, StoreError> {
        let mut state = self.lock();
        let found = state
            .revocations
            .iter()
            .find(|(_, revocation)| revocation.id == id)
            .map(|(sequence, _)| *sequence);
        Ok(found.is_some_and(|sequence| state.remove_revocation(sequence)))
    }

    async fn keyring(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        Ok(self.lock().keyring.clone())
    }

    async fn put_keyring(&self, expected: u64, bytes: &[u8]) -> Result<bool, StoreError> {
        let mut state = self.lock();
        let version = state.keyring.as_ref().map_or(0, |(version, _)| *version);
        if version != expected {
            return Ok(false);
        }
        state.keyring = Some((expected + 1, bytes.to_vec()));
        Ok(true)
    }

    async fn prune(&self, now: Timestamp) -> Result<usize, StoreError> {
        let mut state = self.lock();
        state.pruned_at = Some(now);
        let families: Vec<String> = state
            .families
            .values()
            .filter(|family| family.expires_at <= now)
            .take(PRUNED)
            .map(|family| family.parent_jti.clone())
            .collect();
        let revocations: Vec<u64> = state
            .revocations
            .iter()
            .filter(|(_, revocation)| revocation.expires_at.is_some_and(|time| time <= now))
            .take(PRUNED)
            .map(|(sequence, _)| *sequence)
            .collect();
        for parent_jti in &families {
            state.remove_family(parent_jti);
        }
        state.ended.retain(|_, end| end.is_none_or(|end| end > now));
        for sequence in &revocations {
            state.remove_revocation(*sequence);
        }
        Ok(families.len() + revocations.len())
    }

    async fn pruned_at(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.lock().pruned_at)
    }

    fn healthy(&self) -> bool {
        true
    }
}

impl State {
    fn open_family(&mut self, family: &Family) {
        if !self.families.contains_key(&family.parent_jti) {
            self.schedule(&family.parent_jti, None, family.next_renewal);
            self.families.insert(family.parent_jti.clone(), family.clone());
        }
    }

    fn schedule(&mut self, parent_jti: &str, former: Option<Timestamp>, next: Option<Timestamp>) {
        if let Some(former) = former {
            self.due.remove(&(former, parent_jti.to_owned()));
        }
        if let Some(next) = next {
            self.due.insert((next, parent_jti.to_owned()));
        }
    }

    fn remove_family(&mut self, parent_jti: &str) {
        if let Some(family) = self.families.remove(parent_jti) {
            self.schedule(parent_jti, family.next_renewal, None);
        }
    }

    /// The id of a revocation by one of these rules that refuses a parent of this origin.
    fn refuses(&self, origin: &Origin, rules: &[RevocationRule]) -> Option<String> {
        rules.iter().find_map(|rule| {
            let sequence = self.rules.get(&rule_key(&origin.issuer, rule))?;
            let record = self.revocations.get(sequence)?;
            record.rule.refuses(origin.issued_at).then(|| record.id.clone())
        })
    }

    fn remove_revocation(&mut self, sequence: u64) -> bool {
        let removed = self.revocations.remove(&sequence);
        if let Some(revocation) = &removed {
            self.rules.remove(&rule_key(&revocation.issuer, &revocation.rule));
        }
        removed.is_some()
    }
}

fn rule_key(issuer: &str, rule: &RevocationRule) -> RuleKey {
    let (kind, value) = rule.key();
    (issuer.to_owned(), kind, value.to_owned())
}
