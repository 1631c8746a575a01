//! Files that server lineages wrote. Pure, and bounded: the latest [`WRITTEN`] of them, as far as they
//! and their names take no more than their share of the memory budget.
//!
//! A name is believed gone only where that is sure: not by what was tried only, and not by what a process
//! did to a name that may mean another file to it. What is refused: a name longer than any path, and one
//! below itself.

mod names;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use self::names::{Id, Names};
use crate::enrich::container::Place;
use crate::enrich::docroot::path::MAX_BYTES;
use crate::event::{FileId, Writer};
use crate::lineage::process::Server;
use crate::source::remembered::{Author, PastFile};

/// Files remembered.
const WRITTEN: usize = 16_384;

/// What a file takes at most, besides its names: itself, and its places in two tables.
const FILE: usize = 512;

/// Names of one file: hard links. The first, as it is the likeliest to last, and the latest.
const NAMES: usize = 8;

/// Names that files are given below a directory that may have been renamed.
const PERHAPS: usize = 256;

/// The files, by identity and by name.
#[derive(Default)]
pub(super) struct Written {
    /// What they may take with all names, bytes.
    max_bytes: usize,
    files: HashMap<FileId, File>,
    names: Names,
    /// By the time when they were written.
    order: BTreeMap<u64, FileId>,
    last: u64,
    forgotten: u64,
}

/// Who wrote a file, and where its name means it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct By {
    /// The process.
    pub(super) writer: Writer,
    /// The server that it descends from.
    pub(super) server: Server,
    /// Its effective user, where known.
    pub(super) uid: Option<u32>,
    /// Its mount namespace, inode number; zero where unknown.
    pub(super) mnt_ns: u32,
    /// The container it was in.
    pub(super) container: Option<Arc<Place>>,
}

impl From<&By> for Author {
    fn from(by: &By) -> Self {
        Self {
            writer: by.writer,
            server: by.server.clone(),
            uid: by.uid,
            mnt_ns: by.mnt_ns,
            container: by.container.as_ref().map(|place| place.id.clone()),
        }
    }
}

impl By {
    /// What an earlier agent knew, and the container that it says.
    pub(super) fn recalled(author: &Author, container: Option<Arc<Place>>) -> Self {
        Self {
            writer: author.writer,
            server: author.server.clone(),
            uid: author.uid,
            mnt_ns: author.mnt_ns,
            container,
        }
    }

    /// Whether a path that the writer used means the same file elsewhere: in the same mount namespace,
    /// or in the same container or on the host, except for what services have a directory of their own
    /// for.
    pub(super) fn is_same_path(
        &self,
        mnt_ns: u32,
        container: Option<&Arc<Place>>,
        path: &[u8],
    ) -> bool {
        let private = |dir: &[u8]| path.starts_with(dir);
        fn id(place: Option<&Arc<Place>>) -> Option<&str> {
            Some(&place?.id)
        }
        self.is_in(mnt_ns)
            || (!private(b"/tmp/")
                && !private(b"/var/tmp/")
                && id(self.container.as_ref()) == id(container))
    }

    /// Whether this is the writer's mount namespace.
    pub(super) const fn is_in(&self, mnt_ns: u32) -> bool {
        self.mnt_ns != 0 && self.mnt_ns == mnt_ns
    }
}

struct File {
    names: Vec<Id>,
    by: By,
    /// Place in the order.
    at: u64,
    /// `i_generation`, where known.
    generation: Option<u32>,
    /// It was given capabilities or a user to run as.
    privileged: bool,
}

/// A change of names, as far as it matters here.
pub(super) struct Changed<'a> {
    /// The file of the old name, where known.
    pub(super) file: Option<FileId>,
    /// It is not known whether it was done, or whether with these names.
    pub(super) perhaps: bool,
    /// Whether a name that this writer used means the same file to who changed it.
    pub(super) same: &'a dyn Fn(&By, &[u8]) -> bool,
}

impl Written {
    /// None, and they may take so many bytes.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            ..Self::default()
        }
    }

    /// Notes that a file was written. One that is not known by its identity is known by its name.
    pub(super) fn insert(
        &mut self,
        file: Option<FileId>,
        generation: Option<u32>,
        path: &[u8],
        by: By,
    ) {
        // A name that no call can use is none.
        let path = if path.len() > MAX_BYTES { b"" } else { path };
        self.last += 1;
        let named = self.names.file_of(path);
        let file = match (file, named) {
            (Some(file), _) => file,
            (None, Some(named)) => named,
            (None, None) if path.is_empty() => return,
            (None, None) => made_up(self.last),
        };
        if let Some(named) = named
            && self
                .files
                .get(&named)
                .is_some_and(|known| known.by.mnt_ns == by.mnt_ns)
        {
            self.identify(named, file);
        }
        let at = self.last;
        let known = self.files.entry(file).or_insert_with(|| File {
            names: Vec::new(),
            by: by.clone(),
            at,
            generation,
            privileged: false,
        });
        self.order.remove(&known.at);
        self.order.insert(at, file);
        (known.at, known.by) = (at, by);
        if let Some(generation) = generation
            && known
                .generation
                .replace(generation)
                .is_some_and(|old| old != generation)
        {
            // Another file of that number.
            known.privileged = false;
            for name in std::mem::take(&mut known.names) {
                self.names.set(name, None);
            }
        }
        self.name(file, path);
        while self.files.len() > WRITTEN || self.bytes() > self.max_bytes {
            let Some((_, oldest)) = self.order.pop_first() else {
                break;
            };
            self.remove(oldest);
            self.forgotten += 1;
        }
    }

    /// Files and names that were forgotten because there were too many.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Every file with a name, the one that was written last first: who wrote it, and its first name.
    pub(super) fn all(&self) -> impl Iterator<Item = (&By, Vec<u8>)> {
        self.order.values().rev().filter_map(|file| {
            let file = self.files.get(file)?;
            Some((&file.by, self.names.path(*file.names.first()?)))
        })
    }

    /// How many files are known.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// What the next agent has to know of them, the one that was written last first. One whose names are
    /// all longer than any path, and that has no identity, is left out.
    pub(super) fn remember(&self) -> impl Iterator<Item = PastFile> {
        self.order.values().rev().filter_map(|file| {
            let known = self.files.get(file)?;
            let names = known.names.iter().map(|name| self.names.path(*name));
            let past = PastFile {
                file: Some(*file).filter(|file| !is_made_up(*file)),
                generation: known.generation,
                privileged: known.privileged,
                names: names.filter(|name| name.len() <= MAX_BYTES).collect(),
                author: Author::from(&known.by),
            };
            (past.file.is_some() || !past.names.is_empty()).then_some(past)
        })
    }

    /// Takes up what an earlier agent knew of a file, as the one that was written last.
    pub(super) fn recall(&mut self, past: &PastFile, container: Option<Arc<Place>>) {
        let file = past.file.filter(|file| !is_made_up(*file));
        let generation = past.generation.filter(|_| file.is_some());
        let first = past.names.first().map_or(b"".as_slice(), Vec::as_slice);
        self.insert(
            file,
            generation,
            first,
            By::recalled(&past.author, container),
        );
        let Some(file) = file.or_else(|| self.names.file_of(first)) else {
            return;
        };
        for name in past.names.iter().take(NAMES).skip(1) {
            if name.len() <= MAX_BYTES && self.knows(file) {
                self.name(file, name);
            }
        }
        if let Some(known) = self.files.get_mut(&file) {
            known.privileged |= past.privileged;
        }
    }

    /// Whether a file is known by this identity.
    pub(super) fn knows(&self, file: FileId) -> bool {
        self.files.contains_key(&file)
    }

    /// Follows a file, or all files of a directory, to a new name. What had that has it no more.
    pub(super) fn rename(&mut self, old: &[u8], new: &[u8], changed: &Changed<'_>) {
        if !is_possible(old, new) {
            return;
        }
        if changed.perhaps {
            self.link(old, new, changed);
            return;
        }
        let Some(from) = self.mine(old, changed) else {
            // Under a name that is not known here, perhaps.
            self.link(old, new, changed);
            return;
        };
        if !self.is_same(from, old, changed) {
            self.copy(from, new);
            return;
        }
        let file = self.names.file(from);
        if file.is_some() && file == self.names.file_of(new) {
            return; // two names of one file stay (rename(2))
        }
        self.forget(new, changed);
        if self.names.find(new).is_some() {
            // To others that name means what is known by it.
            self.copy(from, new);
        } else {
            self.names.move_to(from, new);
        }
    }

    /// Two names change places, with all that is below them.
    pub(super) fn exchange(&mut self, one: &[u8], other: &[u8], changed: &Changed<'_>) {
        if !is_possible(one, other) {
            return;
        }
        let file = changed.file;
        let first = self.mine(one, changed);
        // The identity is that of the first.
        let second = self.names.find(other);
        let is_sure = |id: Option<Id>, path| {
            !changed.perhaps && id.is_none_or(|id| self.is_same(id, path, changed))
        };
        let is_foreign = first.is_none() && self.names.find(one).is_some();
        if is_foreign || !is_sure(first, one) || !is_sure(second, other) {
            if let Some(id) = first {
                self.copy(id, other);
            }
            if let Some(id) = second {
                self.copy(id, one);
            }
            return;
        }
        match (first, second) {
            (Some(first), Some(second)) => self.names.exchange(first, second),
            (Some(id), None) => self.names.move_to(id, other),
            (None, Some(id)) => self.names.move_to(id, one),
            (None, None) => {}
        }
        if let Some(file) = file.filter(|file| first.is_none() && self.knows(*file)) {
            self.name(file, other);
        }
    }

    /// A file has one name more. By its identity where that is known: the old name may be a
    /// descriptor's. Of a directory it may be so.
    pub(super) fn link(&mut self, old: &[u8], new: &[u8], changed: &Changed<'_>) {
        if !is_possible(old, new) {
            return;
        }
        let from = self.mine(old, changed);
        let is_its_own = changed.file.is_some() && self.names.file_of(new) == changed.file;
        if !changed.perhaps && !is_its_own {
            self.forget(new, changed);
        }
        let known = changed.file.filter(|file| self.knows(*file));
        if let Some(file) = known {
            if !changed.perhaps || self.names.file_of(new).is_none() {
                self.name(file, new);
            }
        } else if let Some(from) = from {
            self.copy(from, new);
        }
    }

    /// A name is gone, with all below it.
    pub(super) fn unlink(&mut self, path: &[u8], changed: &Changed<'_>) {
        if changed.perhaps {
            return;
        }
        match changed.file {
            // That one, whoever says so.
            Some(file) if self.names.file_of(path) == Some(file) => self.forget_all(path),
            Some(_) | None => self.forget(path, changed),
        }
    }

    /// Notes that a file runs with more rights than who runs it.
    pub(super) fn privilege(&mut self, file: Option<FileId>, path: &[u8]) {
        if let (Some(file), Some(named)) = (file, self.names.file_of(path)) {
            self.identify(named, file);
        }
        let named = self.names.file_of(path);
        let by_name = named.filter(|named| file.is_none_or(|file| !self.is_other(*named, file)));
        let file = file.filter(|file| self.knows(*file)).or(by_name);
        if let Some(known) = file.and_then(|file| self.files.get_mut(&file)) {
            known.privileged = true;
        }
    }

    /// Whether it does.
    pub(super) fn is_privileged(&self, file: FileId) -> bool {
        self.files.get(&file).is_some_and(|known| known.privileged)
    }

    /// Who wrote a file, by its identity, else by its name; not by a name that another file is known by.
    pub(super) fn by(&self, file: Option<FileId>, path: &[u8]) -> Option<&By> {
        let file = file.filter(|file| *file != FileId::default());
        if let Some(known) = file.and_then(|file| self.files.get(&file)) {
            return Some(&known.by);
        }
        let named = self.names.file_of(path)?;
        if file.is_some_and(|file| self.is_other(named, file)) {
            return None;
        }
        self.files.get(&named).map(|known| &known.by)
    }

    /// Who wrote the file of this name.
    pub(super) fn by_path(&self, path: &[u8]) -> Option<&By> {
        let file = self.names.file_of(path)?;
        self.files.get(&file).map(|known| &known.by)
    }

    /// The first file of a directory that is code, by name. Its path may be cut short.
    pub(super) fn code_below(&self, dir: &[u8]) -> Option<Vec<u8>> {
        let rest = self.names.code_below(self.names.find(dir)?)?;
        Some([dir.strip_suffix(b"/").unwrap_or(dir), &rest].concat())
    }

    /// Who wrote this file, where it still has a name it had. An inode number alone is used again
    /// when the file is gone; with a name too, where that went while no agent ran, but then mostly with
    /// another generation.
    pub(super) fn holds(&self, file: FileId, generation: u32, path: &[u8]) -> Option<&By> {
        let known = self.files.get(&file)?;
        let is_another = known
            .generation
            .is_some_and(|known| known != 0 && generation != 0 && known != generation);
        (!is_another && self.names.file_of(path) == Some(file)).then_some(&known.by)
    }

    /// Whether a file of this name was written.
    pub(super) fn has_path(&self, path: &[u8]) -> bool {
        self.names.file_of(path).is_some()
    }

    /// Who wrote what an interpreter in `dir` would take for the module `name`: `name.py`, `name.so`,
    /// `name/…`.
    pub(super) fn module(&self, dir: &[u8], name: &[u8]) -> Option<(Vec<u8>, &By)> {
        let (rest, file) = self.names.module(self.names.find(dir)?, name)?;
        let path = [dir.strip_suffix(b"/").unwrap_or(dir), &rest].concat();
        Some((path, &self.files.get(&file)?.by))
    }

    fn bytes(&self) -> usize {
        self.names.bytes() + self.files.len() * FILE
    }

    /// The node of a name, unless the file that was changed is another than is known by it.
    fn mine(&mut self, path: &[u8], changed: &Changed<'_>) -> Option<Id> {
        let id = self.names.find(path)?;
        if let (Some(file), Some(named)) = (changed.file, self.names.file(id)) {
            if self.is_other(named, file) {
                if !changed.perhaps {
                    self.forget(path, changed);
                }
                return None;
            }
            self.identify(named, file);
        }
        Some(id)
    }

    /// Whether a file is not that which is known by an identity. Inodes of file systems without a device
    /// of their own that tell no generation get other numbers when the kernel reads them again
    /// (overlayfs).
    fn is_other(&self, named: FileId, file: FileId) -> bool {
        let known = self.files.get(&named);
        let is_fixed = named.dev != file.dev
            || named.major() != 0
            || known.is_none_or(|known| known.generation.is_some_and(|generation| generation != 0));
        named != file && !is_made_up(named) && is_fixed
    }

    /// Gives a file that was known by its name only its identity.
    fn identify(&mut self, made_up: FileId, file: FileId) {
        if !is_made_up(made_up) || is_made_up(file) {
            return;
        }
        let Some(named) = self.remove_entry(made_up) else {
            return;
        };
        for name in &named.names {
            self.names.set(*name, Some(file));
        }
        match self.files.get_mut(&file) {
            Some(known) => {
                known.privileged |= named.privileged;
                let names = named.names;
                self.add_names(file, names);
            }
            None => {
                self.order.insert(named.at, file);
                self.files.insert(file, named);
            }
        }
    }

    /// Gives a file a name, that it may have already.
    fn name(&mut self, file: FileId, path: &[u8]) {
        if path.is_empty() {
            return;
        }
        let (id, before) = self.names.put(path, file);
        if before == Some(file) {
            return;
        }
        if let Some(before) = before {
            // By its identity it may be known yet, under names that were not told.
            self.unname(before, id, is_made_up(before));
        }
        self.add_names(file, vec![id]);
    }

    fn add_names(&mut self, file: FileId, names: Vec<Id>) {
        let Some(known) = self.files.get_mut(&file) else {
            return;
        };
        known.names.extend(names);
        while known.names.len() > NAMES {
            let name = known.names.remove(1);
            self.names.set(name, None);
            self.forgotten += 1;
        }
    }

    /// Gives files that may have been renamed, or are below a directory that may have been, these names,
    /// too, where they are free.
    fn copy(&mut self, from: Id, new: &[u8]) {
        for (rest, file) in self.names.some(from, PERHAPS) {
            let path = [new, &rest].concat();
            if path.len() <= MAX_BYTES && self.names.file_of(&path).is_none() {
                self.name(file, &path);
            }
        }
    }

    /// Whether the first file at or below a node is one whose name means the same to who changed it.
    fn is_same(&self, id: Id, path: &[u8], changed: &Changed<'_>) -> bool {
        let file = self.names.first(id);
        let known = file.and_then(|file| self.files.get(&file));
        known.is_none_or(|known| (changed.same)(&known.by, path))
    }

    /// Another file has the name by now, or none.
    fn forget(&mut self, path: &[u8], changed: &Changed<'_>) {
        if let Some(id) = self.names.find(path)
            && self.is_same(id, path, changed)
        {
            self.forget_all(path);
        }
    }

    /// The same of all below it. A file without a name is none.
    fn forget_all(&mut self, path: &[u8]) {
        let Some(id) = self.names.find(path) else {
            return;
        };
        for (id, file) in self.names.all(id) {
            self.names.set(id, None);
            self.unname(file, id, true);
        }
    }

    /// Takes a name from a file, and forgets it where it has no other and `ends` with that.
    fn unname(&mut self, file: FileId, name: Id, ends: bool) {
        if let Some(known) = self.files.get_mut(&file) {
            known.names.retain(|known| *known != name);
            if known.names.is_empty() && ends {
                self.remove_entry(file);
            }
        }
    }

    fn remove(&mut self, file: FileId) {
        for name in self
            .remove_entry(file)
            .into_iter()
            .flat_map(|known| known.names)
        {
            self.names.set(name, None);
        }
    }

    fn remove_entry(&mut self, file: FileId) -> Option<File> {
        let known = self.files.remove(&file)?;
        self.order.remove(&known.at);
        Some(known)
    }
}

/// An identity for a file that has a name only. No file system has device zero.
const fn made_up(number: u64) -> FileId {
    FileId {
        dev: 0,
        inode: number,
    }
}

const fn is_made_up(file: FileId) -> bool {
    file.dev == 0
}

/// Whether one of these can become the other: no directory goes below itself.
pub(super) fn is_possible(old: &[u8], new: &[u8]) -> bool {
    let is_in = |path: &[u8], dir: &[u8]| {
        path.strip_prefix(dir)
            .is_some_and(|rest| rest.is_empty() || (rest.starts_with(b"/") && !dir.is_empty()))
    };
    new.len() <= MAX_BYTES && !new.is_empty() && !is_in(new, old) && !is_in(old, new)
}
