//! Which directories the kernel side watches, by identity, and for whose sake.
//!
//! Several servers may name one directory, each as it sees it. The kernel side and the pipeline know one
//! entry a directory; this keeps account of the others, so that a directory is forgotten when the last
//! that named it is. Bounded: what is beyond the bound is not watched by identity, and counted.

use std::collections::{BTreeMap, HashMap, HashSet};

use tracer_common::limits;

use crate::enrich::docroot::Entry;
use crate::event::FileId;

/// Directories at most: what the kernel's map takes.
const DIRECTORIES: usize = limits::DIRECTORIES as usize;

/// Servers' words on directories at most: of the same site there are a few.
const CLAIMS: usize = 4 * DIRECTORIES;

/// Whose view it is: a number that is not given twice.
pub(super) type View = u64;

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// A directory is this entry's.
    At(FileId, Entry),
    /// It is nobody's any more.
    Left(FileId),
}

/// See the module.
#[derive(Default)]
pub(super) struct Places {
    claims: HashMap<FileId, BTreeMap<View, Entry>>,
    /// Directories by view, to find what it no longer names.
    views: HashMap<View, Vec<FileId>>,
    count: usize,
    refused: u64,
}

impl Places {
    /// Takes what a view names now, in place of what it named before.
    pub(super) fn replace(&mut self, view: View, places: Vec<(FileId, Entry)>) -> Vec<Moved> {
        let before = self.views.remove(&view).unwrap_or_default();
        let now: HashSet<FileId> = places.iter().map(|(file, _)| *file).collect();
        let mut moved = Vec::new();
        for file in before.into_iter().filter(|file| !now.contains(file)) {
            moved.extend(self.drop_claim(view, file));
        }
        let mut kept = Vec::with_capacity(places.len());
        for (file, entry) in places {
            if let Some(change) = self.claim(view, file, entry) {
                kept.push(file);
                moved.extend(change);
            }
        }
        if !kept.is_empty() {
            self.views.insert(view, kept);
        }
        moved
    }

    /// How many were not taken since start, a refresh counting anew.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }

    /// `None` where there is no room.
    fn claim(&mut self, view: View, file: FileId, entry: Entry) -> Option<Option<Moved>> {
        let before = self.owner(file).cloned();
        let known = self.claims.get(&file);
        let is_more = known.is_none_or(|claims| !claims.contains_key(&view));
        let is_full = self.count >= CLAIMS || (known.is_none() && self.claims.len() >= DIRECTORIES);
        if is_more && is_full {
            self.refused = self.refused.saturating_add(1);
            return None;
        }
        self.count += usize::from(is_more);
        self.claims.entry(file).or_default().insert(view, entry);
        let now = self.owner(file).filter(|now| before.as_ref() != Some(*now));
        Some(now.map(|entry| Moved::At(file, entry.clone())))
    }

    fn drop_claim(&mut self, view: View, file: FileId) -> Option<Moved> {
        let before = self.owner(file).cloned();
        let claims = self.claims.get_mut(&file)?;
        self.count -= usize::from(claims.remove(&view).is_some());
        if claims.is_empty() {
            self.claims.remove(&file);
            return Some(Moved::Left(file));
        }
        let now = self.owner(file).filter(|now| before.as_ref() != Some(*now));
        now.map(|entry| Moved::At(file, entry.clone()))
    }

    /// The entry of the highest origin; of two that are alike, that of the older view.
    fn owner(&self, file: FileId) -> Option<&Entry> {
        let claims = self.claims.get(&file)?;
        // The last of equals is taken: so backwards.
        claims.values().rev().max_by_key(|entry| entry.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::docroot::{Kind, Origin};

    fn entry(name: &str, origin: Origin) -> Entry {
        Entry {
            pattern: name.into(),
            kind: Kind::Served,
            origin,
            source: "test".into(),
            mnt_ns: None,
        }
    }

    fn at(inode: u64) -> FileId {
        FileId { dev: 1, inode }
    }

    #[test]
    fn a_directory_is_forgotten_with_the_last_that_named_it() {
        use Origin::{Config, Discovered};
        let mut places = Places::default();
        let (a, b, c) = (
            entry("/a", Discovered),
            entry("/b", Discovered),
            entry("/c", Config),
        );
        let two = vec![(at(1), a.clone()), (at(2), a.clone())];
        let expected = [Moved::At(at(1), a.clone()), Moved::At(at(2), a.clone())];
        assert_eq!(places.replace(1, two.clone()), expected);
        assert_eq!(places.replace(1, two), []);
        // Another says the same of one, and changes nothing; what the user said does.
        assert_eq!(places.replace(2, vec![(at(1), b.clone())]), []);
        assert_eq!(
            places.replace(0, vec![(at(1), c.clone())]),
            [Moved::At(at(1), c)]
        );
        assert_eq!(places.replace(0, Vec::new()), [Moved::At(at(1), a.clone())]);
        assert_eq!(
            places.replace(1, vec![(at(3), a.clone())]),
            [Moved::At(at(1), b), Moved::Left(at(2)), Moved::At(at(3), a)]
        );
        assert_eq!(places.replace(2, Vec::new()), [Moved::Left(at(1))]);
        assert_eq!(places.replace(2, Vec::new()), []);
        assert_eq!(places.replace(1, Vec::new()), [Moved::Left(at(3))]);
        assert_eq!(
            (places.count, places.claims.len(), places.views.len()),
            (0, 0, 0)
        );
    }

    #[test]
    fn places_are_bounded_and_counted() {
        let mut places = Places::default();
        let all = |from: u64| -> Vec<(FileId, Entry)> {
            let last = from + DIRECTORIES as u64;
            (from..last)
                .map(|inode| (at(inode), entry("/x", Origin::Discovered)))
                .collect()
        };
        assert_eq!(places.replace(1, all(0)).len(), DIRECTORIES);
        assert_eq!(places.replace(2, all(1)), []);
        assert_eq!(places.refused(), 1);
        for view in 3..10 {
            places.replace(view, all(0));
        }
        assert!(places.count <= CLAIMS);
        for view in 0..10 {
            places.replace(view, Vec::new());
        }
        assert_eq!((places.count, places.claims.len()), (0, 0));
    }
}
