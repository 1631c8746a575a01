//! Files that server lineages wrote. Pure, and bounded: the latest [`WRITTEN`] of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;

use super::code::code;
use crate::event::{Exec, FileId, Writer};
use crate::lineage::process::Server;

/// Files remembered.
const WRITTEN: usize = 16_384;

/// Names of one file: hard links. The latest.
const NAMES: usize = 8;

/// The files, by identity and by name.
#[derive(Default)]
pub(super) struct Written {
    by_file: HashMap<FileId, File>,
    by_path: BTreeMap<Vec<u8>, FileId>,
    order: VecDeque<FileId>,
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
    /// Whether a path that the writer used means the same file to what an exec begins: in the same
    /// mount namespace, or in the same container or on the host, except for what services have a
    /// directory of their own for.
    pub(super) fn is_same_place(&self, exec: &Exec, path: &[u8]) -> bool {
        let private = |dir: &[u8]| path.starts_with(dir);
        (self.mnt_ns != 0 && self.mnt_ns == exec.ns.mnt)
            || (!private(b"/tmp/")
                && !private(b"/var/tmp/")
                && self.container == crate::enrich::container::container_id(&exec.cgroup))
    }
}

struct File {
    names: VecDeque<Vec<u8>>,
    by: By,
    /// It was given capabilities or a user to run as.
    privileged: bool,
}

impl Written {
    pub(super) fn insert(&mut self, file: FileId, path: &[u8], by: By) {
        match self.by_file.get_mut(&file) {
            Some(known) => {
                known.by = by;
                if !known.names.iter().any(|name| name == path) {
                    // Another file of that number, or this one under a name that was not told.
                    let old = std::mem::take(&mut known.names);
                    known.names.push_back(path.to_vec());
                    for name in old {
                        self.forget_path(&name, file);
                    }
                }
            }
            None => {
                let names = VecDeque::from([path.to_vec()]);
                let privileged = false;
                self.by_file.insert(
                    file,
                    File {
                        names,
                        by,
                        privileged,
                    },
                );
                self.order.push_back(file);
            }
        }
        self.by_path.insert(path.to_vec(), file);
        if self.order.len() > WRITTEN
            && let Some(oldest) = self.order.pop_front()
            && let Some(known) = self.by_file.remove(&oldest)
        {
            for name in known.names {
                self.forget_path(&name, oldest);
            }
        }
    }

    /// Follows a file, or all files of a directory, to a new name.
    pub(super) fn rename(&mut self, old: &[u8], new: &[u8]) {
        if let Some(file) = self.by_path.remove(old) {
            self.move_to(file, old, new.to_vec());
            return;
        }
        let moved: Vec<(Vec<u8>, FileId)> = self
            .below(old)
            .map(|(path, file)| (path.clone(), *file))
            .collect();
        for (path, file) in moved {
            self.by_path.remove(&path);
            let rest = path.get(old.len()..).unwrap_or_default();
            self.move_to(file, &path, [new, rest].concat());
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

    /// A file has one name more. By its identity where that is known: the old name may be a
    /// descriptor's.
    pub(super) fn link(&mut self, file: Option<FileId>, old: &[u8], new: &[u8]) {
        let known = file.filter(|file| self.by_file.contains_key(file));
        let Some(file) = known.or_else(|| self.by_path.get(old).copied()) else {
            return;
        };
        let Some(known) = self.by_file.get_mut(&file) else {
            return;
        };
        known.names.push_back(new.to_vec());
        let oldest = (known.names.len() > NAMES).then(|| known.names.pop_front());
        self.by_path.insert(new.to_vec(), file);
        if let Some(name) = oldest.flatten() {
            self.forget_path(&name, file);
        }
    }

    /// Notes that a file runs with more rights than who runs it.
    pub(super) fn privilege(&mut self, file: Option<FileId>, path: &[u8]) {
        let file = file.or_else(|| self.by_path.get(path).copied());
        if let Some(known) = file.and_then(|file| self.by_file.get_mut(&file)) {
            known.privileged = true;
        }
    }

    /// Whether it does.
    pub(super) fn is_privileged(&self, file: FileId) -> bool {
        self.by_file
            .get(&file)
            .is_some_and(|known| known.privileged)
    }

    /// Who wrote a file, by its identity, else by its name.
    pub(super) fn by(&self, file: Option<FileId>, path: &[u8]) -> Option<&By> {
        let known = file.and_then(|file| self.by_file.get(&file));
        known.map(|known| &known.by).or_else(|| self.by_path(path))
    }

    /// Who wrote the file of this name.
    pub(super) fn by_path(&self, path: &[u8]) -> Option<&By> {
        let file = self.by_path.get(path)?;
        self.by_file.get(file).map(|known| &known.by)
    }

    /// The first file of a directory that is code, by name.
    pub(super) fn code_below(&self, dir: &[u8]) -> Option<&[u8]> {
        self.below(dir)
            .map(|(path, _)| path.as_slice())
            .find(|path| code(path).is_some())
    }

    /// Who wrote this file, where it still has a name it had. An inode number alone is used again
    /// when the file is gone.
    pub(super) fn holds(&self, file: FileId, path: &[u8]) -> Option<&By> {
        (self.by_path.get(path) == Some(&file)).then(|| self.by_path(path))?
    }

    /// Whether a file of this name was written.
    pub(super) fn has_path(&self, path: &[u8]) -> bool {
        self.by_path.contains_key(path)
    }

    /// Who wrote what an interpreter in `dir` would take for the module `name`: `name.py`, `name.so`,
    /// `name/…`.
    pub(super) fn module(&self, dir: &[u8], name: &[u8]) -> Option<(&[u8], &By)> {
        let mut path = dir.to_vec();
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let len = path.len();
        let (path, file) = self.from(path).find(|(known, _)| {
            known
                .get(len..)
                .is_some_and(|rest| rest.starts_with(b".") || rest.starts_with(b"/"))
        })?;
        Some((path, &self.by_file.get(file)?.by))
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

    fn move_to(&mut self, file: FileId, old: &[u8], path: Vec<u8>) {
        if let Some(known) = self.by_file.get_mut(&file)
            && let Some(name) = known.names.iter_mut().find(|name| *name == old)
        {
            name.clone_from(&path);
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

    fn holds(written: &Written, inode: u64, path: &str) -> bool {
        written.holds(file(inode), path.as_bytes()).is_some()
    }

    fn has_module(written: &Written, dir: &str, name: &str) -> bool {
        written.module(dir.as_bytes(), name.as_bytes()).is_some()
    }

    #[test]
    fn names_move_with_files_and_directories() {
        let mut written = Written::default();
        written.insert(file(1), b"/tmp/a/x.php", by(1));
        written.insert(file(2), b"/tmp/a/sub/y", by(1));
        written.insert(file(3), b"/tmp/ab", by(1));
        written.rename(b"/tmp/a", b"/srv/b");
        assert!(holds(&written, 1, "/srv/b/x.php"));
        assert!(holds(&written, 2, "/srv/b/sub/y"));
        assert!(holds(&written, 3, "/tmp/ab"));
        assert!(!written.has_path(b"/tmp/a/x.php"));
        assert_eq!(
            written.code_below(b"/srv/b"),
            Some(b"/srv/b/x.php".as_slice())
        );
        assert_eq!(written.code_below(b"/srv/b/sub"), None);
        written.rename(b"/tmp/ab", b"/tmp/c.php");
        assert!(holds(&written, 3, "/tmp/c.php"));
    }

    #[test]
    fn names_change_places() {
        let mut written = Written::default();
        written.insert(file(1), b"/tmp/a", by(1));
        written.insert(file(2), b"/srv/b/x", by(1));
        written.exchange(b"/tmp/a", b"/srv/b");
        assert!(holds(&written, 1, "/srv/b"));
        assert!(holds(&written, 2, "/tmp/a/x"));
        written.exchange(b"/srv/b", b"/nothing");
        assert!(holds(&written, 1, "/nothing") && !written.has_path(b"/srv/b"));
    }

    #[test]
    fn a_name_is_its_latest_file_s() {
        let mut written = Written::default();
        written.insert(file(1), b"/tmp/x", by(1));
        written.insert(file(2), b"/tmp/x", by(1));
        // The first is written again under another name: the name stays the second's.
        written.insert(file(1), b"/tmp/y", by(1));
        assert!(written.has_path(b"/tmp/x") && written.has_path(b"/tmp/y"));
    }

    #[test]
    fn hard_links_are_names_of_one_file() {
        let mut written = Written::default();
        written.insert(file(1), b"/tmp/x", by(1));
        written.link(None, b"/tmp/x", b"/srv/x.php");
        // By its identity, whatever it was called.
        written.link(Some(file(1)), b"/proc/self/fd/3", b"/tmp/y");
        for path in ["/tmp/x", "/srv/x.php", "/tmp/y"] {
            assert!(holds(&written, 1, path), "{path}");
        }
        written.rename(b"/tmp/y", b"/tmp/z");
        assert!(holds(&written, 1, "/tmp/z") && !holds(&written, 1, "/tmp/y"));
        // What was never written has no names here.
        written.link(Some(file(2)), b"/etc/passwd", b"/tmp/p");
        assert!(!written.has_path(b"/tmp/p"));
        for number in 0..20 {
            written.link(Some(file(1)), b"", format!("/tmp/{number}").as_bytes());
        }
        assert!(!written.has_path(b"/tmp/x") && written.has_path(b"/tmp/19"));
        assert_eq!(written.by_path.len(), NAMES);
    }

    #[test]
    fn the_latest_writer_counts() {
        let mut written = Written::default();
        written.insert(file(1), b"/tmp/x", by(1));
        written.link(None, b"/tmp/x", b"/tmp/y");
        written.insert(file(1), b"/tmp/y", by(2));
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
        written.insert(file(1), b"/tmp/multiprocessing/__init__.py", by(1));
        written.insert(file(2), b"/x.so", by(1));
        assert!(has_module(&written, "/tmp", "multiprocessing"));
        assert!(has_module(&written, "/", "x"));
        assert!(!has_module(&written, "/tmp", "multi"));
        assert!(!has_module(&written, "/srv", "multiprocessing"));
    }

    #[test]
    fn bounded() {
        let mut written = Written::default();
        for inode in 0..WRITTEN as u64 + 10 {
            written.insert(file(inode), format!("/tmp/{inode}").as_bytes(), by(1));
        }
        assert_eq!(
            (written.by_file.len(), written.by_path.len()),
            (WRITTEN, WRITTEN)
        );
        assert!(!written.has_path(b"/tmp/9") && written.has_path(b"/tmp/10"));
    }
}
