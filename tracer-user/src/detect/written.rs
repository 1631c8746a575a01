//! Files that server lineages wrote. Pure, and bounded: the latest [`WRITTEN`] of them, as far as they
//! and their names take no more than [`BYTES`].
//!
//! A name is believed gone only where that is sure: not by what was tried only, and not by what a process
//! did to a name that may mean another file to it. What is refused: a name longer than any path, and one
//! below itself.

mod names;

use std::collections::{BTreeMap, HashMap};

use self::names::{Id, Names};
use crate::enrich::container::container_id;
use crate::enrich::docroot::path::MAX_BYTES;
use crate::event::{Exec, FileId, Writer};
use crate::lineage::process::Server;

/// Files remembered.
const WRITTEN: usize = 16_384;

/// What they may take with all names, bytes.
const BYTES: usize = 64 << 20;

/// What a file takes at most, besides its names: itself, and its places in two tables.
const FILE: usize = 512;

/// Names of one file: hard links. The first, as it is the likeliest to last, and the latest.
const NAMES: usize = 8;

/// Names that files are given below a directory that may have been renamed.
const PERHAPS: usize = 256;

/// The files, by identity and by name.
#[derive(Default)]
pub(super) struct Written {
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
    pub(super) container: Option<String>,
}

impl By {
    /// Whether a path that the writer used means the same file to what an exec begins: see
    /// [`Self::is_same_path`].
    pub(super) fn is_same_place(&self, exec: &Exec, path: &[u8]) -> bool {
        let container = container_id(&exec.cgroup);
        self.is_same_path(exec.ns.mnt, container.as_deref(), path)
    }

    /// Whether a path that the writer used means the same file elsewhere: in the same mount namespace,
    /// or in the same container or on the host, except for what services have a directory of their own
    /// for.
    pub(super) fn is_same_path(&self, mnt_ns: u32, container: Option<&str>, path: &[u8]) -> bool {
        let private = |dir: &[u8]| path.starts_with(dir);
        self.is_in(mnt_ns)
            || (!private(b"/tmp/")
                && !private(b"/var/tmp/")
                && self.container.as_deref() == container)
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
    /// Notes that a file was written. One that is not known by its identity is known by its name.
    pub(super) fn insert(
        &mut self,
        file: Option<FileId>,
        generation: Option<u32>,
        path: &[u8],
        by: By,
    ) {
        if path.len() > MAX_BYTES {
            return;
        }
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
        while self.files.len() > WRITTEN || self.bytes() > BYTES {
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
        if !changed.perhaps {
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
    /// when the file is gone.
    pub(super) fn holds(&self, file: FileId, path: &[u8]) -> Option<&By> {
        (self.names.file_of(path) == Some(file)).then(|| self.by_path(path))?
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

#[cfg(test)]
mod tests {
    use tracer_common::tag::{Role, Tag};

    use super::*;
    use crate::event::ProcessKey;

    fn file(inode: u64) -> FileId {
        FileId { dev: 1, inode }
    }

    fn by(tgid: u32) -> By {
        By {
            writer: Writer {
                process: ProcessKey::new(tgid, 0),
                boot_ns: 0,
                tag: Tag::ZERO,
            },
            server: Server {
                name: "nginx",
                role: Role::Web,
            },
            uid: Some(33),
            mnt_ns: 1,
            container: None,
        }
    }

    fn sure(file: Option<FileId>) -> Changed<'static> {
        Changed {
            file,
            perhaps: false,
            same: &|_, _| true,
        }
    }

    fn perhaps(file: Option<FileId>) -> Changed<'static> {
        Changed {
            perhaps: true,
            ..sure(file)
        }
    }

    impl Written {
        fn wrote(&mut self, inode: u64, path: &str) {
            self.insert(Some(file(inode)), Some(1), path.as_bytes(), by(1));
        }

        fn names(&self, inode: u64) -> &[Id] {
            &self.files[&file(inode)].names
        }

        fn moved(&mut self, old: &str, new: &str) {
            self.rename(old.as_bytes(), new.as_bytes(), &sure(None));
        }
    }

    fn holds(written: &Written, inode: u64, path: &str) -> bool {
        written.holds(file(inode), path.as_bytes()).is_some()
    }

    fn has_module(written: &Written, dir: &str, name: &str) -> bool {
        written.module(dir.as_bytes(), name.as_bytes()).is_some()
    }

    #[test]
    fn names_move_with_files_and_directories() {
        let mut written = Written::default();
        written.wrote(1, "/tmp/a/x.php");
        written.wrote(2, "/tmp/a/sub/y");
        written.wrote(3, "/tmp/ab");
        written.moved("/tmp/a", "/srv/b");
        assert!(holds(&written, 1, "/srv/b/x.php"));
        assert!(holds(&written, 2, "/srv/b/sub/y"));
        assert!(holds(&written, 3, "/tmp/ab"));
        assert!(!written.has_path(b"/tmp/a/x.php"));
        assert_eq!(
            written.code_below(b"/srv/b"),
            Some(b"/srv/b/x.php".to_vec())
        );
        assert_eq!(written.code_below(b"/srv/b/sub"), None);
        written.moved("/tmp/ab", "/tmp/c.php");
        assert!(holds(&written, 3, "/tmp/c.php"));
    }

    #[test]
    fn names_change_places() {
        let mut written = Written::default();
        written.wrote(1, "/tmp/a");
        written.wrote(2, "/srv/b/x");
        written.exchange(b"/tmp/a", b"/srv/b", &sure(None));
        assert!(holds(&written, 1, "/srv/b"));
        assert!(holds(&written, 2, "/tmp/a/x"));
        written.exchange(b"/srv/b", b"/nothing", &sure(None));
        assert!(holds(&written, 1, "/nothing") && !written.has_path(b"/srv/b"));
    }

    #[test]
    fn a_name_is_its_latest_file_s() {
        let mut written = Written::default();
        written.wrote(1, "/tmp/x");
        written.wrote(2, "/tmp/x");
        // The first is written again under another name: the name stays the second's.
        written.wrote(1, "/tmp/y");
        assert!(written.has_path(b"/tmp/x") && written.has_path(b"/tmp/y"));
    }

    #[test]
    fn hard_links_are_names_of_one_file() {
        let mut written = Written::default();
        written.wrote(1, "/tmp/x");
        written.link(b"/tmp/x", b"/srv/x.php", &sure(None));
        // By its identity, whatever it was called.
        written.link(b"/proc/self/fd/3", b"/tmp/y", &sure(Some(file(1))));
        for path in ["/tmp/x", "/srv/x.php", "/tmp/y"] {
            assert!(holds(&written, 1, path), "{path}");
        }
        written.moved("/tmp/y", "/tmp/z");
        assert!(holds(&written, 1, "/tmp/z") && !holds(&written, 1, "/tmp/y"));
        // What was never written has no names here.
        written.link(b"/etc/passwd", b"/tmp/p", &sure(Some(file(2))));
        assert!(!written.has_path(b"/tmp/p"));
        for number in 0..20 {
            written.link(
                b"",
                format!("/tmp/{number}").as_bytes(),
                &sure(Some(file(1))),
            );
        }
        // The first stays.
        assert!(written.has_path(b"/tmp/x") && written.has_path(b"/tmp/19"));
        assert!(!written.has_path(b"/srv/x.php") && !written.has_path(b"/tmp/12"));
        assert_eq!(written.names(1).len(), NAMES);
        assert_eq!(written.forgotten(), 20 + 3 - NAMES as u64);
    }

    #[test]
    fn the_latest_writer_counts() {
        let mut written = Written::default();
        written.wrote(1, "/tmp/x");
        written.link(b"/tmp/x", b"/tmp/y", &sure(None));
        written.insert(Some(file(1)), Some(1), b"/tmp/y", by(2));
        for (file, path) in [(Some(file(1)), ""), (None, "/tmp/x"), (None, "/tmp/y")] {
            let by = written.by(file, path.as_bytes()).unwrap();
            assert_eq!(by.writer.process.tgid, 2);
        }
        written.privilege(None, b"/tmp/x");
        assert!(written.is_privileged(file(1)) && !written.is_privileged(file(2)));
    }

    #[test]
    fn modules() {
        let mut written = Written::default();
        written.wrote(1, "/tmp/multiprocessing/__init__.py");
        written.wrote(2, "/x.so");
        assert!(has_module(&written, "/tmp", "multiprocessing"));
        assert!(has_module(&written, "/", "x"));
        assert!(!has_module(&written, "/tmp", "multi"));
        assert!(!has_module(&written, "/srv", "multiprocessing"));
    }

    #[test]
    fn bounded() {
        let mut written = Written::default();
        for inode in 0..WRITTEN as u64 + 10 {
            written.wrote(inode, &format!("/tmp/{inode}"));
        }
        assert_eq!(
            (written.files.len(), written.order.len()),
            (WRITTEN, WRITTEN)
        );
        assert_eq!(written.forgotten(), 10);
        assert!(!written.has_path(b"/tmp/9") && written.has_path(b"/tmp/10"));
    }

    #[test]
    fn bounded_by_bytes() {
        let mut written = Written::default();
        let long = "/a".repeat(MAX_BYTES / 2 - 8);
        for inode in 0..60 {
            written.wrote(inode, &format!("/{inode}{long}"));
        }
        assert!(written.bytes() <= BYTES && written.files.len() < 50);
        assert_eq!(written.forgotten() as usize + written.files.len(), 60);
        assert!(written.has_path(format!("/59{long}").as_bytes()));
        for inode in 0..60 {
            let changed = sure(Some(file(inode)));
            written.unlink(format!("/{inode}{long}").as_bytes(), &changed);
        }
        assert_eq!((written.bytes(), written.order.len()), (0, 0));
    }

    #[test]
    fn what_was_only_tried_takes_nothing_away() {
        let mut written = Written::default();
        written.wrote(1, "/tmp/x");
        written.wrote(2, "/tmp/d/y");
        written.wrote(3, "/tmp/z");
        written.rename(b"/tmp/x", b"/tmp/z", &perhaps(None));
        written.rename(b"/tmp/x", b"/none/x", &perhaps(None));
        written.rename(b"/tmp/d", b"/none/d", &perhaps(None));
        written.unlink(b"/tmp/x", &perhaps(None));
        written.exchange(b"/tmp/d", b"/tmp/nothing", &perhaps(None));
        for (inode, path) in [
            (1, "/tmp/x"),
            (1, "/none/x"),
            (2, "/tmp/d/y"),
            (2, "/none/d/y"),
            (2, "/tmp/nothing/y"),
            (3, "/tmp/z"),
        ] {
            assert!(holds(&written, inode, path), "{path}");
        }
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        let mut written = Written::default();
        written.wrote(1, "/x/a");
        let long = "b".repeat(MAX_BYTES);
        for changed in [sure(None), perhaps(None)] {
            written.rename(b"/x/a", format!("/x/a/{long}").as_bytes(), &changed);
            written.rename(b"/x/a", b"/x/a/b", &changed);
            written.rename(b"/x/a", b"/x", &changed);
            written.rename(b"/x/a", format!("/{long}").as_bytes(), &changed);
            written.link(b"/x/a", format!("/{long}").as_bytes(), &changed);
            written.rename(b"", b"/y", &changed);
            written.unlink(b"", &changed);
        }
        assert!(holds(&written, 1, "/x/a") && written.names(1).len() == 1);
    }

    #[test]
    fn a_generation_says_whether_it_is_the_same_file() {
        let mut written = Written::default();
        written.wrote(1, "/tmp/x");
        written.wrote(1, "/mnt/x");
        assert!(holds(&written, 1, "/tmp/x") && holds(&written, 1, "/mnt/x"));
        written.insert(Some(file(1)), Some(2), b"/tmp/y", by(1));
        assert!(holds(&written, 1, "/tmp/y") && !written.has_path(b"/tmp/x"));
        // The name that is linked again is no other.
        for _ in 0..NAMES {
            written.link(b"/tmp/y", b"/tmp/z", &sure(None));
        }
        assert_eq!(written.names(1).len(), 2);
    }

    #[test]
    fn files_without_identity_are_their_names() {
        let mut written = Written::default();
        for path in [b"/tmp/a", b"/tmp/b"] {
            written.insert(None, None, path, by(u32::from(path[5])));
        }
        let writer = |written: &Written, path: &[u8]| {
            written.by(Some(file(9)), path).unwrap().writer.process.tgid
        };
        assert_eq!(writer(&written, b"/tmp/a"), u32::from(b'a'));
        assert_eq!(writer(&written, b"/tmp/b"), u32::from(b'b'));
        written.link(b"/tmp/a", b"/tmp/c", &sure(None));
        // Told by its identity at last, with all names it has by now.
        written.wrote(7, "/tmp/a");
        assert!(holds(&written, 7, "/tmp/c") && written.files.len() == 2);
        written.rename(b"/tmp/b", b"/tmp/d", &sure(Some(file(8))));
        assert!(holds(&written, 8, "/tmp/d"));
    }

    #[test]
    fn a_name_that_another_file_has_is_forgotten() {
        let mut written = Written::default();
        written.wrote(1, "/srv/index.php");
        written.wrote(2, "/srv/d/x.php");
        assert!(written.by(Some(file(5)), b"/srv/index.php").is_none());
        written.rename(b"/build/i", b"/srv/index.php", &sure(Some(file(5))));
        assert!(!written.has_path(b"/srv/index.php") && !written.knows(file(1)));
        written.unlink(b"/srv/d/x.php", &sure(None));
        assert!(written.code_below(b"/srv").is_none() && !written.knows(file(2)));
        // A hard link stays the file.
        written.wrote(3, "/srv/a");
        written.link(b"/srv/a", b"/srv/b", &sure(None));
        written.rename(b"/srv/a", b"/srv/b", &sure(Some(file(3))));
        assert!(holds(&written, 3, "/srv/a") && holds(&written, 3, "/srv/b"));
        written.unlink(b"/srv/a", &sure(None));
        assert!(holds(&written, 3, "/srv/b"));
    }

    #[test]
    fn a_name_elsewhere_is_not_taken_away() {
        let mut written = Written::default();
        let elsewhere = Changed {
            same: &|_, _| false,
            ..sure(None)
        };
        written.wrote(1, "/tmp/x");
        written.unlink(b"/tmp/x", &elsewhere);
        written.rename(b"/build/x", b"/tmp/x", &elsewhere);
        written.rename(b"/tmp/x", b"/tmp/y", &elsewhere);
        written.exchange(b"/tmp/x", b"/tmp/z", &elsewhere);
        assert!(holds(&written, 1, "/tmp/x"));
        // Unless it is that very file.
        let itself = Changed {
            file: Some(file(1)),
            ..elsewhere
        };
        written.unlink(b"/tmp/x", &itself);
        assert!(!written.has_path(b"/tmp/x"));
    }

    #[test]
    fn overlayfs_changes_numbers() {
        let at = |inode| FileId { dev: 42, inode };
        let mut written = Written::default();
        written.insert(Some(at(1)), Some(0), b"/app/x", by(1));
        written.insert(Some(at(2)), Some(5), b"/app/y", by(1));
        assert!(written.by(Some(at(3)), b"/app/x").is_some());
        assert!(written.by(Some(at(3)), b"/app/y").is_none());
        written.rename(b"/app/x", b"/app/z", &sure(Some(at(3))));
        assert!(written.has_path(b"/app/z"));
    }
}
