//! Which directories servers name, and for whose sake each is known.
//!
//! Several servers may name one directory, each as it sees it. The kernel side and the pipeline know one
//! entry a directory, by name and by identity; this keeps account of the others, so that a directory is
//! forgotten when the last that named it is. Bounded, and shared out by [`Quota`]: what is beyond that
//! is not known, and counted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;

use super::owner::{Owner, Quota};
use crate::enrich::docroot::Origin;

/// Whose view it is: a number that is not given twice.
pub(super) type View = u64;

/// Owners of whom it is told that there was no room for them.
const TOLD: usize = 64;

/// What has changed: what a directory is now, or `None` where it is nobody's any more.
pub(super) type Moved<K, V> = (K, Option<V>);

/// Directories by `K`, and what views say of them. See the module.
pub(super) struct Claims<K, V> {
    claims: HashMap<K, BTreeMap<View, V>>,
    /// Directories by view, to find what it no longer names.
    views: HashMap<View, (Owner, Vec<K>)>,
    quota: Quota,
    /// Who says so.
    origin: fn(&V) -> Origin,
    refused: u64,
    /// Owners there was no room for, those that were told first.
    poor: Vec<Owner>,
    told: usize,
}

impl<K: Clone + Eq + Hash, V: Clone + Eq> Claims<K, V> {
    pub(super) fn new(max: usize, origin: fn(&V) -> Origin) -> Self {
        Self {
            claims: HashMap::new(),
            views: HashMap::new(),
            quota: Quota::new(max),
            origin,
            refused: 0,
            poor: Vec::new(),
            told: 0,
        }
    }

    /// Takes what a view of this owner names now, in place of what it named before.
    pub(super) fn replace(
        &mut self,
        view: View,
        owner: Owner,
        now: Vec<(K, V)>,
    ) -> Vec<Moved<K, V>> {
        let before = self.views.remove(&view).map(|(_, keys)| keys);
        let named: HashSet<&K> = now.iter().map(|(key, _)| key).collect();
        let mut moved = Vec::new();
        for key in before.into_iter().flatten() {
            if !named.contains(&key) {
                moved.extend(self.drop_claim(view, owner, key));
            }
        }
        let mut kept = Vec::with_capacity(now.len());
        for (key, value) in now {
            if let Some(change) = self.claim(view, owner, &key, value) {
                moved.extend(change.map(|value| (key.clone(), Some(value))));
                kept.push(key);
            }
        }
        if !kept.is_empty() {
            self.views.insert(view, (owner, kept));
        }
        moved
    }

    /// How many were not taken since start, a refresh counting anew.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }

    /// Owners there was no room for, each once.
    pub(super) fn poor(&mut self) -> Vec<Owner> {
        let new = self.poor.get(self.told..).unwrap_or_default().to_vec();
        self.told = self.poor.len();
        new
    }

    /// `None` where there is no room.
    fn claim(&mut self, view: View, owner: Owner, key: &K, value: V) -> Option<Option<V>> {
        let before = self.best(key).cloned();
        let known = self.claims.get(key);
        let is_more = known.is_none_or(|claims| !claims.contains_key(&view));
        if is_more && !self.quota.take(owner) {
            self.refused = self.refused.saturating_add(1);
            if self.poor.len() < TOLD && !self.poor.contains(&owner) {
                self.poor.push(owner);
            }
            return None;
        }
        self.claims
            .entry(key.clone())
            .or_default()
            .insert(view, value);
        let now = self.best(key).filter(|now| before.as_ref() != Some(*now));
        Some(now.cloned())
    }

    fn drop_claim(&mut self, view: View, owner: Owner, key: K) -> Option<Moved<K, V>> {
        let before = self.best(&key).cloned();
        let claims = self.claims.get_mut(&key)?;
        if claims.remove(&view).is_some() {
            self.quota.release(owner);
        }
        if claims.is_empty() {
            self.claims.remove(&key);
            return Some((key, None));
        }
        let now = self.best(&key).filter(|now| before.as_ref() != Some(*now));
        let now = now.cloned();
        now.map(|value| (key, Some(value)))
    }

    /// What the highest origin says; of two that are alike, the older view.
    fn best(&self, key: &K) -> Option<&V> {
        let claims = self.claims.get(key)?;
        // The last of equals is taken: so backwards.
        claims
            .values()
            .rev()
            .max_by_key(|value| (self.origin)(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Said = (&'static str, Origin);

    fn claims(max: usize) -> Claims<u64, Said> {
        Claims::new(max, |(_, origin)| *origin)
    }

    #[test]
    fn a_directory_is_forgotten_with_the_last_that_named_it() {
        use Origin::{Config, Default, Discovered};
        let mut claims = claims(100);
        let (a, b, c, d) = (
            ("/a", Discovered),
            ("/b", Discovered),
            ("/c", Config),
            ("/d", Default),
        );
        let mut say = |view, said: &[(u64, Said)]| claims.replace(view, Owner::Host, said.to_vec());
        assert_eq!(say(1, &[(1, a), (2, a)]), [(1, Some(a)), (2, Some(a))]);
        assert_eq!(say(1, &[(1, a), (2, a)]), []);
        // Another says the same of one, and changes nothing; what the user or the table said does.
        assert_eq!(say(2, &[(1, b)]), []);
        assert_eq!(say(0, &[(1, c)]), [(1, Some(c))]);
        assert_eq!(say(0, &[(1, d)]), [(1, Some(d))]);
        assert_eq!(say(0, &[]), [(1, Some(a))]);
        assert_eq!(say(1, &[(2, a)]), [(1, Some(b))]);
        assert_eq!(say(2, &[]), [(1, None)]);
        assert_eq!(say(1, &[(2, b)]), [(2, Some(b))]);
        assert_eq!(say(1, &[]), [(2, None)]);
    }

    #[test]
    fn places_are_bounded_counted_and_given_back() {
        let mut claims = claims(64);
        let all = |from: u64| -> Vec<(u64, Said)> {
            (from..from + 100)
                .map(|inode| (inode, ("/x", Origin::Discovered)))
                .collect()
        };
        assert_eq!(claims.replace(1, Owner::User(5), all(0)).len(), 8);
        assert_eq!(claims.refused(), 92);
        assert_eq!(claims.replace(2, Owner::User(5), all(1000)), []);
        assert_eq!(claims.poor(), [Owner::User(5)]);
        assert_eq!(claims.poor(), []);
        // Others are none the poorer for it.
        assert_eq!(claims.replace(3, Owner::Host, all(2000)).len(), 56);
        assert_eq!(claims.poor(), [Owner::Host]);
        for view in 1..4 {
            let owner = if view == 3 {
                Owner::Host
            } else {
                Owner::User(5)
            };
            claims.replace(view, owner, Vec::new());
        }
        assert!(claims.claims.is_empty() && claims.views.is_empty());
        assert_eq!(claims.replace(4, Owner::Host, all(0)).len(), 64);
    }
}
