//! Symbolic links that server lineages made: what is written where they lead may be served by their
//! name. Pure, and bounded: [`LINKS`] of them.
//!
//! They are followed as written files are when names change: one is believed gone only where that is
//! sure. No file system is asked what a link is.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::written::{By, Changed, is_possible};
use crate::enrich::container::Place;
use crate::enrich::docroot::path;
use crate::event::FileId;
use crate::source::remembered::{Author, PastLink};

/// Links remembered.
const LINKS: usize = 256;

/// The first ones of each server: they go last.
const FIRST: usize = 32;

/// The links.
#[derive(Default)]
pub(super) struct Aliases {
    links: Vec<Link>,
    /// Directories and where they lead, for now.
    lent: Vec<(Vec<u8>, Vec<u8>)>,
    forgotten: u64,
}

/// One of them.
#[derive(Clone)]
pub(super) struct Link {
    path: Vec<u8>,
    /// What it says.
    says: Vec<u8>,
    /// Where that leads. Links on the way are not followed.
    target: Vec<u8>,
    /// The nearest watched directory that the kernel found it in.
    directory: Option<FileId>,
    /// Who made it.
    by: By,
}

impl Link {
    /// None where it leads nowhere, or its name is longer than any path.
    pub(super) fn new(path: &[u8], says: &[u8], directory: Option<FileId>, by: By) -> Option<Self> {
        Some(Self {
            target: path::normalise(&path::join(path::parent(path), says))?,
            path: path.to_vec(),
            says: says.to_vec(),
            directory,
            by,
        })
    }

    /// The same link by another name.
    fn renamed(&self, path: &[u8], directory: Option<FileId>) -> Option<Self> {
        Self::new(path, &self.says, directory, self.by.clone())
    }
}

impl Aliases {
    /// Notes a link that was made. Those that `matters` says are kept the longest.
    pub(super) fn insert(
        &mut self,
        link: Link,
        changed: &Changed<'_>,
        matters: &dyn Fn(&[u8], Option<FileId>) -> bool,
    ) {
        self.unlink(&link.path, changed);
        self.add([link], matters);
    }

    /// Follows a link, or those below a directory, to a new name. What had that has it no more.
    pub(super) fn rename(
        &mut self,
        old: &[u8],
        new: &[u8],
        directory: Option<FileId>,
        changed: &Changed<'_>,
        matters: &dyn Fn(&[u8], Option<FileId>) -> bool,
    ) {
        if !is_possible(old, new) {
            return;
        }
        self.unlink(new, changed);
        let moved = self.moved(old, new, directory);
        self.unlink(old, changed);
        self.add(moved, matters);
    }

    /// Two names change places, with all that is below them.
    pub(super) fn exchange(
        &mut self,
        (one, other): (&[u8], &[u8]),
        directory: Option<FileId>,
        changed: &Changed<'_>,
        matters: &dyn Fn(&[u8], Option<FileId>) -> bool,
    ) {
        if !is_possible(one, other) {
            return;
        }
        let mut moved = self.moved(one, other, directory);
        moved.extend(self.moved(other, one, None));
        self.unlink(one, changed);
        self.unlink(other, changed);
        self.add(moved, matters);
    }

    /// A link has one name more.
    pub(super) fn link(
        &mut self,
        old: &[u8],
        new: &[u8],
        directory: Option<FileId>,
        matters: &dyn Fn(&[u8], Option<FileId>) -> bool,
    ) {
        let same = self.links.iter().filter(|link| link.path == old);
        let more: Vec<Link> = same
            .filter_map(|link| link.renamed(new, directory))
            .collect();
        self.add(more, matters);
    }

    /// A name is gone, with all below it.
    pub(super) fn unlink(&mut self, path: &[u8], changed: &Changed<'_>) {
        if !changed.perhaps && !path.is_empty() {
            self.links.retain(|link| {
                rest(&link.path, path).is_none() || !(changed.same)(&link.by, &link.path)
            });
        }
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.links.len()
    }

    /// What the next agent has to know of them, the one that was made last first.
    pub(super) fn remember(&self) -> impl Iterator<Item = PastLink> {
        self.links.iter().rev().map(|link| PastLink {
            path: link.path.clone(),
            says: link.says.clone(),
            directory: link.directory,
            author: Author::from(&link.by),
        })
    }

    /// Takes up a link that an earlier agent knew, as the one that was made last.
    pub(super) fn recall(&mut self, past: &PastLink, container: Option<Arc<Place>>) {
        let PastLink {
            path,
            says,
            directory,
            author,
        } = past;
        // Which directories matter is not known yet; of so many as are left none has to go.
        let link = Link::new(path, says, *directory, By::recalled(author, container));
        self.add(link, &|_, _| true);
    }

    /// Where the link of this name leads.
    pub(super) fn target(&self, path: &[u8]) -> Option<&[u8]> {
        let link = self.links.iter().rev().find(|link| link.path == path)?;
        Some(&link.target)
    }

    /// Links that were forgotten because there were too many.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Notes where a directory leads until [`Self::forget`].
    pub(super) fn lend(&mut self, directory: Vec<u8>, real: Vec<u8>) {
        self.lent.push((directory, real));
    }

    pub(super) fn forget(&mut self) {
        self.lent.pop();
    }

    /// What is found by another name that a file may have, and the watched directory of the link in it:
    /// along chains of links, each of them once.
    pub(super) fn find<T>(
        &self,
        path: &[u8],
        found: impl Fn(&[u8], Option<FileId>) -> Option<T>,
    ) -> Option<T> {
        let lent = self.lent.iter().map(|(from, to)| (from, to, None));
        let links = self.links.iter();
        let links = links.map(|link| (&link.target, &link.path, link.directory));
        let mut left: Vec<_> = lent.chain(links).collect();
        let mut names = VecDeque::from([path.to_vec()]);
        while let Some(name) = names.pop_front() {
            let mut unused = Vec::with_capacity(left.len());
            for (from, to, directory) in left {
                let Some(rest) = rest(&name, from).filter(|rest| !rest.is_empty()) else {
                    unused.push((from, to, directory));
                    continue;
                };
                let other = [to.as_slice(), rest].concat();
                let known = found(&other, directory);
                if known.is_some() {
                    return known;
                }
                if other.len() <= path::MAX_BYTES {
                    names.push_back(other);
                }
            }
            left = unused;
        }
        None
    }

    /// What links at and below one name are by another.
    fn moved(&self, old: &[u8], new: &[u8], directory: Option<FileId>) -> Vec<Link> {
        let moved = self.links.iter().filter_map(|link| {
            let path = [new, rest(&link.path, old)?].concat();
            link.renamed(&path, directory)
        });
        moved.collect()
    }

    /// Of the server that has the most goes one that does not matter, else the oldest; but none of its
    /// first ones while it has others.
    fn add(
        &mut self,
        links: impl IntoIterator<Item = Link>,
        matters: &dyn Fn(&[u8], Option<FileId>) -> bool,
    ) {
        for link in links {
            let is_it = |known: &Link| known.path == link.path && known.target == link.target;
            if self.links.iter().any(is_it) {
                continue;
            }
            self.links.push(link);
            if self.links.len() > LINKS {
                let at = self.victim(matters);
                self.links.remove(at);
                self.forgotten += 1;
            }
        }
    }

    fn victim(&self, matters: &dyn Fn(&[u8], Option<FileId>) -> bool) -> usize {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for link in &self.links {
            *counts.entry(&*link.by.server.name).or_default() += 1;
        }
        // By name where two have the same number: a replay has to choose as the run did.
        let most = counts
            .into_iter()
            .max_by_key(|&(name, count)| (count, name));
        let of_server =
            |(_, link): &(usize, &Link)| most.is_some_and(|(name, _)| link.by.server.name == name);
        let all = || self.links.iter().enumerate().filter(of_server);
        let mut later = all().skip(FIRST);
        let idle = later.find(|(_, link)| !matters(&link.path, link.directory));
        let oldest = || all().nth(FIRST).or_else(|| all().next());
        idle.or_else(oldest).map_or(0, |(at, _)| at)
    }
}

/// What a path has more than that of a directory that it is in, or is.
fn rest<'a>(path: &'a [u8], directory: &[u8]) -> Option<&'a [u8]> {
    let directory = directory.strip_suffix(b"/").unwrap_or(directory);
    let rest = path.strip_prefix(directory)?;
    (rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
}
