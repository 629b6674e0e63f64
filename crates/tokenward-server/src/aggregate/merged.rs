//! The sets of many identity providers in one body.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use http::{HeaderName, HeaderValue, header};
use tokenward::Idp;
use tokenward_core::{Timestamp, jose::KeySet};

use super::prepared::{self, Prepared};
use crate::config::{self, OnCollision};

/// One identity provider's part.
struct Part {
    name: Arc<str>,
    keys: Arc<KeySet>,
    max_age: u64,
}

/// What both kinds of body are made of.
struct Parts {
    list: Vec<Part>,
    /// Identity providers, those without keys included.
    idps: usize,
}

impl Parts {
    fn of(idps: &[Arc<Idp>], now: Timestamp) -> Self {
        let list = idps.iter().filter_map(|idp| {
            let view = idp.view()?;
            let keys = Arc::clone(view.keys(now)?);
            Some(Part {
                name: idp.name().into(),
                keys,
                max_age: view.advertised_max_age().as_secs(),
            })
        });
        Self {
            list: list.collect(),
            idps: idps.len(),
        }
    }

    fn max_age(&self, settings: &config::Merged) -> u64 {
        self.list
            .iter()
            .map(|part| part.max_age)
            .min()
            .unwrap_or(u64::MAX)
            .min(settings.max_age.as_secs())
    }

    /// Whether clients can be told anything. They would take an empty set for good and forget the keys that they
    /// have; only where no identity provider is configured at all it is the truth.
    fn is_loaded(&self) -> bool {
        self.idps == 0 || !self.list.is_empty()
    }

    /// Whether the body is the same as that of `other`. Refreshes that bring the same set keep it shared.
    fn same_sets(&self, other: &Self) -> bool {
        self.list.len() == other.list.len()
            && self
                .list
                .iter()
                .zip(&other.list)
                .all(|(a, b)| Arc::ptr_eq(&a.keys, &b.keys) && a.name == b.name)
    }
}

/// All keys of a tenant in one set.
pub(super) struct Merged {
    parts: Parts,
    body: Arc<Prepared>,
    keys: usize,
    collisions: usize,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Merged {
    pub(super) fn of(
        idps: &[Arc<Idp>],
        now: Timestamp,
        settings: &config::Merged,
        previous: Option<&Self>,
    ) -> Self {
        let parts = Parts::of(idps, now);
        let (body, keys, collisions) = match previous.filter(|previous| previous.parts.same_sets(&parts)) {
            Some(same) => (Arc::clone(&same.body), same.keys, same.collisions),
            None => {
                let sets = parts.list.iter().map(|part| part.keys.documents());
                let (body, keys, collisions) = merge(sets, settings.on_collision);
                (Arc::new(Prepared::new(body)), keys, collisions)
            }
        };
        let headers = vec![
            (prepared::TOTAL_KEYS, HeaderValue::from(keys)),
            (prepared::IDP_COUNT, HeaderValue::from(parts.idps)),
            (prepared::KEY_COLLISIONS, HeaderValue::from(collisions)),
            (
                header::CACHE_CONTROL,
                prepared::cache_control(parts.max_age(settings)),
            ),
        ];
        Self {
            parts,
            body,
            keys,
            collisions,
            headers,
        }
    }

    pub(super) fn body(&self) -> &Prepared {
        &self.body
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.parts.is_loaded()
    }

    /// Key ids that more than one identity provider uses.
    pub(super) fn collisions(&self) -> usize {
        self.collisions
    }

    pub(super) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// The headers that count, without the one that says how long the body holds.
    pub(super) fn headers_of_count(&self) -> &[(HeaderName, HeaderValue)] {
        self.headers.split_last().map_or(&[], |(_, counts)| counts)
    }
}

/// All sets of a tenant by the names of their identity providers.
pub(super) struct ByName {
    parts: Parts,
    body: Arc<Prepared>,
    headers: [(HeaderName, HeaderValue); 1],
}

impl ByName {
    pub(super) fn of(
        idps: &[Arc<Idp>],
        now: Timestamp,
        settings: &config::Merged,
        previous: Option<&Self>,
    ) -> Self {
        let parts = Parts::of(idps, now);
        let body = match previous.filter(|previous| previous.parts.same_sets(&parts)) {
            Some(same) => Arc::clone(&same.body),
            None => Arc::new(Prepared::new(by_name(&parts.list))),
        };
        let headers = [(
            header::CACHE_CONTROL,
            prepared::cache_control(parts.max_age(settings)),
        )];
        Self { parts, body, headers }
    }

    pub(super) fn body(&self) -> &Prepared {
        &self.body
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.parts.is_loaded()
    }

    pub(super) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }
}

/// The set of one identity provider.
pub(super) fn one(keys: &KeySet) -> Prepared {
    Prepared::new(text(keys))
}

/// The same as text.
pub(super) fn text(keys: &KeySet) -> String {
    set(keys.documents().map(|(_, document)| document))
}

/// The documents of all sets as one set, how many they are, and how many kids more than one set has.
///
/// A kid that stands twice in one set is that identity provider's own matter and no collision.
fn merge<'a, S, D>(sets: S, on_collision: OnCollision) -> (String, usize, usize)
where
    S: Iterator<Item = D> + Clone,
    D: Iterator<Item = (Option<&'a str>, &'a str)>,
{
    struct Use {
        first: usize,
        shared: bool,
    }
    let mut uses: HashMap<&str, Use> = HashMap::new();
    for (index, set) in sets.clone().enumerate() {
        for (kid, _) in set {
            let Some(kid) = kid else { continue };
            uses.entry(kid)
                .and_modify(|found| found.shared |= found.first != index)
                .or_insert(Use {
                    first: index,
                    shared: false,
                });
        }
    }
    let mut count = 0;
    let all = sets
        .enumerate()
        .flat_map(|(index, set)| set.map(move |(kid, document)| (index, kid, document)));
    let served = all.filter(|(index, kid, _)| {
        let Some(found) = kid.and_then(|kid| uses.get(kid)).filter(|found| found.shared) else {
            return true;
        };
        match on_collision {
            OnCollision::KeepAll => true,
            OnCollision::FirstWins => found.first == *index,
            OnCollision::DropBoth => false,
        }
    });
    let body = set(served.map(|(_, _, document)| document).inspect(|_| count += 1));
    (body, count, uses.values().filter(|found| found.shared).count())
}

fn by_name(parts: &[Part]) -> String {
    let mut body = String::from("{");
    for (index, part) in parts.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let name = serde_json::Value::from(&*part.name);
        let _ = write!(body, "{comma}{name}:{}", text(&part.keys));
    }
    body.push('}');
    body
}

/// The documents as they are, so that members which we do not know survive.
fn set<'a>(documents: impl Iterator<Item = &'a str>) -> String {
    let mut body = String::from("{\"keys\":[");
    for (index, document) in documents.enumerate() {
        if index > 0 {
            body.push(',');
        }
        body.push_str(document);
    }
    body.push_str("]}");
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &[(Option<&str>, &str)] = &[(Some("x"), "1"), (Some("a"), "2"), (None, "3"), (Some("a"), "4")];
    const B: &[(Option<&str>, &str)] = &[(Some("b"), "5"), (Some("x"), "6"), (None, "7")];
    const C: &[(Option<&str>, &str)] = &[(Some("x"), "8")];

    fn merged(on_collision: OnCollision) -> (String, usize, usize) {
        merge([A, B, C].iter().map(|set| set.iter().copied()), on_collision)
    }

    #[test]
    fn collisions_are_settled_by_order_and_counted() {
        assert_eq!(
            merged(OnCollision::KeepAll),
            ("{\"keys\":[1,2,3,4,5,6,7,8]}".to_owned(), 8, 1)
        );
        assert_eq!(
            merged(OnCollision::FirstWins),
            ("{\"keys\":[1,2,3,4,5,7]}".to_owned(), 6, 1)
        );
        assert_eq!(
            merged(OnCollision::DropBoth),
            ("{\"keys\":[2,3,4,5,7]}".to_owned(), 5, 1)
        );
    }

    #[test]
    fn nothing_to_merge_is_an_empty_set() {
        let none: [&[(Option<&str>, &str)]; 0] = [];
        let sets = none.iter().map(|set| set.iter().copied());
        assert_eq!(
            merge(sets, OnCollision::KeepAll),
            ("{\"keys\":[]}".to_owned(), 0, 0)
        );
    }
}
