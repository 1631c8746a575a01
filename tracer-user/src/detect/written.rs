//! Files that server lineages wrote. Pure, and bounded: the latest [`WRITTEN`] of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;

use super::code::code;
use crate::event::FileId;

/// Files remembered.
const WRITTEN: usize = 16_384;

/// The files, by identity and by name.
#[derive(Default)]
pub(super) struct Written {
    by_file: HashMap<FileId, Vec<u8>>,
    by_path: BTreeMap<Vec<u8>, FileId>,
    order: VecDeque<FileId>,
}

impl Written {
    pub(super) fn insert(&mut self, file: FileId, path: &[u8]) {
        match self.by_file.insert(file, path.to_vec()) {
            Some(old) => self.forget_path(&old, file),
            None => self.order.push_back(file),
        }
        self.by_path.insert(path.to_vec(), file);
        if self.order.len() > WRITTEN
            && let Some(oldest) = self.order.pop_front()
            && let Some(path) = self.by_file.remove(&oldest)
        {
            self.forget_path(&path, oldest);
        }
    }

    /// Follows a file, or all files of a directory, to a new name.
    pub(super) fn rename(&mut self, old: &[u8], new: &[u8]) {
        if let Some(file) = self.by_path.remove(old) {
            self.move_to(file, new.to_vec());
            return;
        }
        let moved: Vec<(Vec<u8>, FileId)> = self
            .below(old)
            .map(|(path, file)| (path.clone(), *file))
            .collect();
        for (path, file) in moved {
            self.by_path.remove(&path);
            let rest = path.get(old.len()..).unwrap_or_default();
            self.move_to(file, [new, rest].concat());
        }
    }

    /// Two names change places, with all that is below them.
    pub(super) fn exchange(&mut self, one: &[u8], other: &[u8]) {
        // No path of the kernel's begins so.
        const ASIDE: &[u8] = b"\0";
        self.rename(one, ASIDE);
        self.rename(other, one);
        self.rename(ASIDE, other);
    }

    /// The first file of a directory that is code, by name.
    pub(super) fn code_below(&self, dir: &[u8]) -> Option<&[u8]> {
        self.below(dir)
            .map(|(path, _)| path.as_slice())
            .find(|path| code(path).is_some())
    }

    /// Whether this file was written and still has the name it had. An inode number alone is used
    /// again when the file is gone.
    pub(super) fn holds(&self, file: FileId, path: &[u8]) -> bool {
        self.by_file.get(&file).is_some_and(|known| known == path)
    }

    /// Whether a file of this name was written.
    pub(super) fn has_path(&self, path: &[u8]) -> bool {
        self.by_path.contains_key(path)
    }

    /// Whether a file was written that an interpreter in `dir` would take for the module `name`:
    /// `name.py`, `name.so`, `name/…`.
    pub(super) fn has_module(&self, dir: &[u8], name: &[u8]) -> bool {
        let mut path = dir.to_vec();
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let len = path.len();
        self.from(path)
            .filter_map(|(known, _)| known.get(len..))
            .any(|rest| rest.starts_with(b".") || rest.starts_with(b"/"))
    }

    /// What is below a directory, in the order of names.
    fn below(&self, dir: &[u8]) -> impl Iterator<Item = (&Vec<u8>, &FileId)> + use<'_> {
        self.from([dir, b"/"].concat())
    }

    /// What begins with these bytes, in the order of names.
    fn from(&self, prefix: Vec<u8>) -> impl Iterator<Item = (&Vec<u8>, &FileId)> {
        self.by_path
            .range::<[u8], _>((Bound::Included(prefix.as_slice()), Bound::Unbounded))
            .take_while(move |(path, _)| path.starts_with(&prefix))
    }

    fn move_to(&mut self, file: FileId, path: Vec<u8>) {
        if let Some(known) = self.by_file.get_mut(&file) {
            known.clone_from(&path);
        }
        self.by_path.insert(path, file);
    }

    /// Another file may have the name by now.
    fn forget_path(&mut self, path: &[u8], file: FileId) {
        if self.by_path.get(path) == Some(&file) {
            self.by_path.remove(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(inode: u64) -> FileId {
        FileId { dev: 1, inode }
    }

    #[test]
    fn names_move_with_files_and_directories() {
        let mut written = Written::default();
        written.insert(file(1), b"/tmp/a/x.php");
        written.insert(file(2), b"/tmp/a/sub/y");
        written.insert(file(3), b"/tmp/ab");
        written.rename(b"/tmp/a", b"/srv/b");
        assert!(written.holds(file(1), b"/srv/b/x.php"));
        assert!(written.holds(file(2), b"/srv/b/sub/y"));
        assert!(written.holds(file(3), b"/tmp/ab"));
        assert!(!written.has_path(b"/tmp/a/x.php"));
        assert_eq!(
            written.code_below(b"/srv/b"),
            Some(b"/srv/b/x.php".as_slice())
        );
        assert_eq!(written.code_below(b"/srv/b/sub"), None);
        written.rename(b"/tmp/ab", b"/tmp/c.php");
        assert!(written.holds(file(3), b"/tmp/c.php"));
    }

    #[test]
    fn names_change_places() {
        let mut written = Written::default();
        written.insert(file(1), b"/tmp/a");
        written.insert(file(2), b"/srv/b/x");
        written.exchange(b"/tmp/a", b"/srv/b");
        assert!(written.holds(file(1), b"/srv/b"));
        assert!(written.holds(file(2), b"/tmp/a/x"));
        written.exchange(b"/srv/b", b"/nothing");
        assert!(written.holds(file(1), b"/nothing") && !written.has_path(b"/srv/b"));
    }

    #[test]
    fn a_name_is_its_latest_file_s() {
        let mut written = Written::default();
        written.insert(file(1), b"/tmp/x");
        written.insert(file(2), b"/tmp/x");
        // The first is written again under another name: the name stays the second's.
        written.insert(file(1), b"/tmp/y");
        assert!(written.has_path(b"/tmp/x") && written.has_path(b"/tmp/y"));
    }

    #[test]
    fn modules() {
        let mut written = Written::default();
        written.insert(file(1), b"/tmp/multiprocessing/__init__.py");
        written.insert(file(2), b"/x.so");
        assert!(written.has_module(b"/tmp", b"multiprocessing"));
        assert!(written.has_module(b"/", b"x"));
        assert!(!written.has_module(b"/tmp", b"multi"));
        assert!(!written.has_module(b"/srv", b"multiprocessing"));
    }

    #[test]
    fn bounded() {
        let mut written = Written::default();
        for inode in 0..WRITTEN as u64 + 10 {
            written.insert(file(inode), format!("/tmp/{inode}").as_bytes());
        }
        assert_eq!(
            (written.by_file.len(), written.by_path.len()),
            (WRITTEN, WRITTEN)
        );
        assert!(!written.has_path(b"/tmp/9") && written.has_path(b"/tmp/10"));
    }
}
