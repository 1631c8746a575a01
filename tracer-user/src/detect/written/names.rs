//! Names of files, as a tree of path components: a directory that is renamed is one node that moves,
//! however much is known below it. Pure.
//!
//! Every step takes time by the length of one path and never by the number of names. What removes names
//! was paid for by who put them there.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use crate::detect::code::code;
use crate::enrich::docroot::path::MAX_BYTES;
use crate::event::FileId;

/// A node, as long as it is there. Never used again for another.
pub(super) type Id = u64;

/// The node that paths begin at.
const TOP: Id = 0;

/// What a node takes at most, besides the bytes of its name: itself in a table that is half empty, its
/// name's header, and its places in both maps of its directory where it is alone there.
const NODE: usize = 896;

/// The tree. A name has at most one file.
#[derive(Default)]
pub(super) struct Names {
    nodes: HashMap<Id, Node>,
    last: Id,
    bytes: usize,
}

/// A component. It is there for its own file or for what is below.
#[derive(Default)]
struct Node {
    name: Arc<[u8]>,
    parent: Id,
    children: BTreeMap<Arc<[u8]>, Id>,
    /// Those of them that are code by name, or lead to some.
    coded: BTreeMap<Arc<[u8]>, Id>,
    file: Option<FileId>,
}

impl Node {
    fn is_code(&self) -> bool {
        self.file.is_some() && code(&self.name).is_some()
    }
}

impl Names {
    /// What it takes, bytes.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The node of a path.
    pub(super) fn find(&self, path: &[u8]) -> Option<Id> {
        if path.is_empty() {
            return None;
        }
        components(path).try_fold(TOP, |at, name| {
            self.nodes.get(&at)?.children.get(name).copied()
        })
    }

    /// The file that a node stands for.
    pub(super) fn file(&self, id: Id) -> Option<FileId> {
        self.nodes.get(&id)?.file
    }

    /// The file of a path.
    pub(super) fn file_of(&self, path: &[u8]) -> Option<FileId> {
        self.file(self.find(path)?)
    }

    /// Gives a path this file, and says which one it had.
    pub(super) fn put(&mut self, path: &[u8], file: FileId) -> (Id, Option<FileId>) {
        let id = components(path).fold(TOP, |at, name| self.child(at, name));
        let before = self.file(id);
        self.set(id, Some(file));
        (id, before)
    }

    /// Gives a node this file; one that is left with nothing goes.
    pub(super) fn set(&mut self, id: Id, file: Option<FileId>) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.file = file;
            self.tell(id);
            self.prune(id);
        }
    }

    /// Moves a node, with all that is below it, to a path that nothing has and that is not below it.
    pub(super) fn move_to(&mut self, id: Id, path: &[u8]) {
        let mut parts: Vec<&[u8]> = components(path).collect();
        let name = parts.pop().unwrap_or_default();
        let parent = parts.into_iter().fold(TOP, |at, name| self.child(at, name));
        let from = self.detach(id);
        self.attach(id, parent, name.into());
        if let Some((parent, _)) = from {
            self.tell(parent);
            self.prune(parent);
        }
    }

    /// Two nodes change places. Neither is below the other.
    pub(super) fn exchange(&mut self, one: Id, other: Id) {
        let (place, second) = (self.detach(one), self.detach(other));
        if let (Some((parent, name)), Some((to, new))) = (place, second) {
            self.attach(one, to, new);
            self.attach(other, parent, name);
            self.tell(to);
            self.tell(parent);
        }
    }

    /// The first file at or below a node.
    pub(super) fn first(&self, id: Id) -> Option<FileId> {
        self.leaf(id, Vec::new()).map(|(_, file)| file)
    }

    /// The path of a node; its beginning is missing where it is longer than any path.
    pub(super) fn path(&self, mut id: Id) -> Vec<u8> {
        let (mut names, mut length) = (Vec::new(), 0);
        while id != TOP
            && length <= MAX_BYTES
            && let Some(node) = self.nodes.get(&id)
        {
            length += node.name.len() + 1;
            names.push(&*node.name);
            id = node.parent;
        }
        names.reverse();
        // Of `/` itself the only component is empty.
        if names == [b"".as_slice()] {
            return b"/".to_vec();
        }
        names.join(&b'/')
    }

    /// All files at and below a node.
    pub(super) fn all(&self, id: Id) -> Vec<(Id, FileId)> {
        let mut found = Vec::new();
        let mut rest = vec![id];
        while let Some(id) = rest.pop() {
            if let Some(node) = self.nodes.get(&id) {
                found.extend(node.file.map(|file| (id, file)));
                rest.extend(node.children.values());
            }
        }
        found
    }

    /// Files at and below a node, each with what its path has more than the node's. No more than `max`,
    /// nor of more than four times as many nodes.
    pub(super) fn some(&self, id: Id, max: usize) -> Vec<(Vec<u8>, FileId)> {
        let mut found = Vec::new();
        let mut rest = vec![(id, Vec::new())];
        for _ in 0..max.saturating_mul(4) {
            let Some((id, path)) = rest.pop() else {
                break;
            };
            let Some(node) = self.nodes.get(&id) else {
                continue;
            };
            if let Some(file) = node.file {
                found.push((path.clone(), file));
                if found.len() >= max {
                    break;
                }
            }
            // The first of them last, so that it comes next. What waits is bounded, too.
            let room = max.saturating_sub(rest.len());
            let children: Vec<_> = node.children.iter().take(room).collect();
            let children = children.into_iter().rev();
            rest.extend(children.map(|(name, id)| (*id, [path.as_slice(), b"/", name].concat())));
        }
        found
    }

    /// What the path of the first code below a node has more than the node's; its beginning only, where
    /// it is longer than any path.
    pub(super) fn code_below(&self, id: Id) -> Option<Vec<u8>> {
        let mut rest = Vec::new();
        let mut node = self.nodes.get(&id)?;
        while let Some((name, id)) = node.coded.first_key_value() {
            rest.extend_from_slice(b"/");
            rest.extend_from_slice(name);
            node = self.nodes.get(id)?;
            if node.is_code() || rest.len() > MAX_BYTES {
                return Some(rest);
            }
        }
        None
    }

    /// The first file in this directory by the name `name.…`, or below its directory `name`: what its
    /// path has more, and the file.
    pub(super) fn module(&self, id: Id, name: &[u8]) -> Option<(Vec<u8>, FileId)> {
        let node = self.nodes.get(&id)?;
        let dotted = [name, b"."].concat();
        let from = (Bound::Included(dotted.as_slice()), Bound::Unbounded);
        let mut after = node.children.range::<[u8], _>(from);
        let found = after.next().filter(|(name, _)| name.starts_with(&dotted));
        if let Some((name, id)) = found {
            return self.leaf(*id, [b"/", name.as_ref()].concat());
        }
        let directory = self.nodes.get(node.children.get(name)?)?;
        let (inside, id) = directory.children.first_key_value()?;
        self.leaf(*id, [b"/", name, b"/", inside].concat())
    }

    /// The first file at or below a node, and its path where that of the node is this.
    fn leaf(&self, mut id: Id, mut path: Vec<u8>) -> Option<(Vec<u8>, FileId)> {
        loop {
            let node = self.nodes.get(&id)?;
            if let Some(file) = node.file {
                return Some((path, file));
            }
            if path.len() > MAX_BYTES {
                return None;
            }
            let (name, child) = node.children.first_key_value()?;
            path.extend_from_slice(b"/");
            path.extend_from_slice(name);
            id = *child;
        }
    }

    fn child(&mut self, parent: Id, name: &[u8]) -> Id {
        let node = self.nodes.entry(parent).or_default();
        if let Some(known) = node.children.get(name) {
            return *known;
        }
        self.last += 1;
        let id = self.last;
        self.nodes.insert(id, Node::default());
        self.attach(id, parent, name.into());
        id
    }

    fn attach(&mut self, id: Id, parent: Id, name: Arc<[u8]>) {
        self.bytes += NODE + name.len();
        if let Some(node) = self.nodes.get_mut(&parent) {
            node.children.insert(name.clone(), id);
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            (node.parent, node.name) = (parent, name);
        }
        self.tell(id);
    }

    /// Takes a node out of its directory, which is left as it is.
    fn detach(&mut self, id: Id) -> Option<(Id, Arc<[u8]>)> {
        let node = self.nodes.get(&id)?;
        let (parent, name) = (node.parent, node.name.clone());
        let directory = self.nodes.get_mut(&parent)?;
        directory.coded.remove(&name);
        directory.children.remove(&name)?;
        self.bytes = self.bytes.saturating_sub(NODE + name.len());
        Some((parent, name))
    }

    /// Tells the directories above whether there is code here.
    fn tell(&mut self, mut id: Id) {
        while id != TOP
            && let Some(node) = self.nodes.get(&id)
        {
            let (parent, name) = (node.parent, node.name.clone());
            let is_coded = node.is_code() || !node.coded.is_empty();
            let Some(directory) = self.nodes.get_mut(&parent) else {
                return;
            };
            let is_news = if is_coded {
                directory.coded.insert(name, id).is_none()
            } else {
                directory.coded.remove(&name).is_some()
            };
            if !is_news {
                return;
            }
            id = parent;
        }
    }

    /// Removes a node that has nothing, and then perhaps its directory.
    fn prune(&mut self, mut id: Id) {
        while id != TOP
            && let Some(node) = self.nodes.get(&id)
            && node.file.is_none()
            && node.children.is_empty()
        {
            let Some((parent, _)) = self.detach(id) else {
                return;
            };
            self.nodes.remove(&id);
            self.tell(parent);
            id = parent;
        }
    }
}

/// The components of a path. A path that is not absolute is another than one that is: the first
/// component of that is empty.
fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    path.split(|&byte| byte == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(inode: u64) -> FileId {
        FileId { dev: 1, inode }
    }

    fn names(paths: &[&str]) -> Names {
        let mut names = Names::default();
        for (inode, path) in (1..).zip(paths) {
            names.put(path.as_bytes(), file(inode));
        }
        names
    }

    fn code_below(names: &Names, directory: &str) -> Option<String> {
        let rest = names.code_below(names.find(directory.as_bytes())?)?;
        Some(String::from_utf8(rest).unwrap())
    }

    #[test]
    fn nothing_is_left_of_what_went() {
        let mut names = names(&["/a/b/x.php", "/a/b", "relative", "/"]);
        assert_eq!(names.file_of(b"/"), Some(file(4)));
        assert_eq!(names.file_of(b"relative"), Some(file(3)));
        assert_eq!(names.file_of(b"/relative"), None);
        for path in ["/a/b/x.php", "/a/b", "relative", "/"] {
            let id = names.find(path.as_bytes()).unwrap();
            assert_eq!(names.path(id), path.as_bytes());
        }
        let b = names.find(b"/a/b").unwrap();
        names.set(b, None);
        assert_eq!(names.file_of(b"/a/b/x.php"), Some(file(1)));
        for path in ["/a/b/x.php", "relative", "/"] {
            let id = names.find(path.as_bytes()).unwrap();
            names.set(id, None);
        }
        assert_eq!((names.bytes(), names.nodes.len()), (0, 1));
        assert!(names.nodes.values().all(|top| top.coded.is_empty()));
    }

    #[test]
    fn code_is_found_where_it_moves() {
        let mut names = names(&["/a/b/c/x.php", "/a/b/c/x.txt", "/d/y.txt"]);
        assert_eq!(code_below(&names, "/").as_deref(), Some("/a/b/c/x.php"));
        assert_eq!(code_below(&names, "/d"), None);
        let moved = names.find(b"/a/b").unwrap();
        names.move_to(moved, b"/d/e");
        assert_eq!(code_below(&names, "/d").as_deref(), Some("/e/c/x.php"));
        assert_eq!(names.find(b"/a"), None, "an empty directory");
        // A name that becomes code, and one that is no more.
        let text = names.find(b"/d/y.txt").unwrap();
        names.move_to(text, b"/d/a.php");
        assert_eq!(code_below(&names, "/d").as_deref(), Some("/a.php"));
        names.move_to(text, b"/d/y.txt");
        let page = names.find(b"/d/e/c/x.php").unwrap();
        names.set(page, None);
        assert_eq!(code_below(&names, "/"), None);
        let (one, other) = (
            names.find(b"/d/e").unwrap(),
            names.find(b"/d/y.txt").unwrap(),
        );
        names.exchange(one, other);
        assert_eq!(names.file_of(b"/d/y.txt/c/x.txt"), Some(file(2)));
        assert_eq!(names.file_of(b"/d/e"), Some(file(3)));
    }

    #[test]
    fn a_path_that_became_too_long_is_told_by_its_beginning() {
        let mut names = names(&["/d/x.php"]);
        let long = "/a".repeat(MAX_BYTES / 2 - 4);
        for _ in 0..3 {
            let id = names.find(b"/d").unwrap();
            names.move_to(id, format!("{long}/d").as_bytes());
            let top = names.find(b"/a").unwrap();
            names.move_to(top, b"/d");
        }
        let found = code_below(&names, "/").unwrap();
        assert!(found.starts_with("/d/a/a") && found.len() > MAX_BYTES);
        assert_eq!(names.first(names.find(b"/").unwrap()), None);
        assert_eq!(names.all(names.find(b"/d").unwrap()).len(), 1);
    }

    #[test]
    fn some_are_the_first() {
        let names = names(&["/d/a/x", "/d/b", "/d/c", "/d/e"]);
        let some = names.some(names.find(b"/d").unwrap(), 3);
        let paths: Vec<&[u8]> = some.iter().map(|(path, _)| path.as_slice()).collect();
        assert_eq!(paths, [b"/a/x".as_slice(), b"/b", b"/c"]);
    }
}
