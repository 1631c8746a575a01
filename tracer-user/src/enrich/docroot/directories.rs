//! The set that file events are looked up in: a tree of path segments.
//!
//! One look-up takes a hash per segment of the path that the tree still knows, and allocates
//! nothing: it is asked for every file event of a server's lineage. The set is bounded and counts
//! what it refused.

use std::collections::HashMap;

use super::{Kind, defaults::defaults, path};
use crate::event::FileId;

/// Directories at most. A shared hosting machine has some thousand virtual hosts.
pub const MAX_ENTRIES: usize = 16_384;

/// Directories at most that one mount namespace may bring, so that one crowded (or malicious)
/// container cannot use up the whole set.
pub const MAX_PER_NAMESPACE: usize = 4096;

/// Directories so wide that no server can mean them: taken at their word, every write of the host
/// would be one into a served directory.
pub(super) const TOO_WIDE: &[&[u8]] = &[
    b"/",
    b"/bin",
    b"/boot",
    b"/dev",
    b"/etc",
    b"/home",
    b"/lib",
    b"/lib64",
    b"/media",
    b"/mnt",
    b"/opt",
    b"/proc",
    b"/root",
    b"/run",
    b"/sbin",
    b"/sys",
    b"/tmp",
    b"/usr",
    b"/var",
    b"/var/lib",
    b"/var/log",
    b"/var/run",
    b"/var/tmp",
];

/// Who said so. Where one directory is named twice, the higher wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The table of defaults.
    Default,
    /// A running server's own configuration.
    Discovered,
    /// The user's configuration of this agent.
    Config,
}

/// A directory to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Absolute path; a segment that is exactly `*` stands for any one name.
    pub pattern: Vec<u8>,
    /// What it is to its server.
    pub kind: Kind,
    /// Who said so.
    pub origin: Origin,
    /// Where exactly: `default`, or `file:line` of a configuration.
    pub source: String,
    /// The mount namespace it is true in; `None` for all.
    pub mnt_ns: Option<u32>,
}

impl Entry {
    fn found(&self) -> Match<'_> {
        Match {
            path: &self.pattern,
            kind: self.kind,
            origin: self.origin,
            source: &self.source,
        }
    }
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is looked for from now on.
    New,
    /// It was there already.
    Known,
    /// The set is full. Counted.
    Full,
    /// Not an absolute path, too long, or its first segment is `*`. Counted.
    Malformed,
    /// It is a whole system directory. Counted.
    TooWide,
}

/// The directory that a path lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match<'a> {
    /// The directory as it was named, with its `*`.
    pub path: &'a [u8],
    /// What it is to its server.
    pub kind: Kind,
    /// Who said so.
    pub origin: Origin,
    /// Where exactly.
    pub source: &'a str,
}

/// The set. Owned by the pipeline; fillers send it [`Entry`]s.
#[derive(Debug)]
pub struct Directories {
    entries: Vec<Entry>,
    /// Where each entry hangs; index 0 is the root directory.
    nodes: Vec<Node>,
    per_namespace: HashMap<u32, usize>,
    /// Where directories are, as the kernel identifies them.
    places: HashMap<FileId, Entry>,
    max: usize,
    refused: u64,
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<[u8]>, usize>,
    any: Option<usize>,
    /// Indices into `entries`.
    here: Vec<usize>,
}

impl Default for Directories {
    fn default() -> Self {
        Self::with_capacity(MAX_ENTRIES)
    }
}

impl Directories {
    /// An empty set of at most `max` directories.
    #[must_use]
    pub fn with_capacity(max: usize) -> Self {
        Self {
            entries: Vec::new(),
            nodes: vec![Node::default()],
            per_namespace: HashMap::new(),
            places: HashMap::new(),
            max,
            refused: 0,
        }
    }

    /// Adds the table of defaults, in all mount namespaces.
    pub fn add_defaults(&mut self) {
        for row in defaults() {
            self.add(row.entry());
        }
    }

    /// Adds a directory.
    pub fn add(&mut self, entry: Entry) -> Added {
        let added = self.try_add(entry);
        if matches!(added, Added::Full | Added::Malformed | Added::TooWide) {
            self.refused = self.refused.saturating_add(1);
        }
        added
    }

    fn try_add(&mut self, mut entry: Entry) -> Added {
        let Some(pattern) = path::normalise(&entry.pattern) else {
            return Added::Malformed;
        };
        if too_wide(&pattern) {
            return Added::TooWide;
        }
        if path::segments(&pattern).next() == Some(b"*") {
            return Added::Malformed;
        }
        entry.pattern = pattern;
        if self.knows(&entry) {
            return Added::Known;
        }
        if self.entries.len() >= self.max {
            return Added::Full;
        }
        if let Some(mnt_ns) = entry.mnt_ns {
            let count = self.per_namespace.entry(mnt_ns).or_default();
            if *count >= MAX_PER_NAMESPACE {
                return Added::Full;
            }
            *count += 1;
        }
        self.hang(entry);
        Added::New
    }

    /// The innermost directory that `path` lies in, or is.
    ///
    /// A named segment wins over `*`, and of two that name the same directory the one of the
    /// higher [`Origin`]. `path` is absolute and free of `.` and `..`, as the kernel gives it.
    #[must_use]
    pub fn lookup(&self, mnt_ns: u32, path: &[u8]) -> Option<Match<'_>> {
        if !path.starts_with(b"/") {
            return None;
        }
        let (_, index) = self.innermost(0, path, mnt_ns, 0)?;
        self.entries.get(index).map(Entry::found)
    }

    /// Notes which directory of the kernel's an entry is. Who resolves names has the last word: an
    /// identity that is known already is from now on this entry's.
    pub fn place(&mut self, file: FileId, entry: Entry) -> Added {
        if !self.places.contains_key(&file) && self.places.len() >= self.max {
            self.refused = self.refused.saturating_add(1);
            return Added::Full;
        }
        match self.places.insert(file, entry.clone()) {
            Some(known) if known == entry => Added::Known,
            _ => Added::New,
        }
    }

    /// Forgets an identity that no entry has any more: the kernel gives its number to others.
    pub fn displace(&mut self, file: FileId) {
        self.places.remove(&file);
    }

    /// The entry that the kernel knows by this identity, in whatever mount namespace and by whatever
    /// name it was come to.
    #[must_use]
    pub fn by_file(&self, file: FileId) -> Option<Match<'_>> {
        self.places.get(&file).map(Entry::found)
    }

    /// How many identities are known.
    #[must_use]
    pub fn placed(&self) -> usize {
        self.places.len()
    }

    /// Whether `path` is a directory of the set or on the way to one, in whatever mount namespace: what
    /// is done to it may move the directory.
    #[must_use]
    pub fn touched(&self, path: &[u8]) -> bool {
        path.starts_with(b"/") && path != b"/" && self.is_on_the_way(0, path)
    }

    /// As deep as the deepest pattern, at most.
    fn is_on_the_way(&self, at: usize, rest: &[u8]) -> bool {
        let Some(node) = self.nodes.get(at) else {
            return false;
        };
        let start = rest.iter().position(|&byte| byte != b'/');
        let Some(rest) = start.and_then(|start| rest.get(start..)) else {
            return true;
        };
        let end = rest.iter().position(|&byte| byte == b'/');
        let Some((segment, rest)) = rest.split_at_checked(end.unwrap_or(rest.len())) else {
            return false;
        };
        [node.children.get(segment).copied(), node.any]
            .into_iter()
            .flatten()
            .any(|next| self.is_on_the_way(next, rest))
    }

    /// A directory that lies below `path`: what is put there hides it.
    #[must_use]
    pub fn below(&self, mnt_ns: u32, path: &[u8]) -> Option<Match<'_>> {
        let is_below = |entry: &&Entry| {
            let mut pattern = path::segments(&entry.pattern);
            path::segments(path).all(|name| {
                let known = pattern.next();
                known.is_some_and(|known| known == name || known == b"*")
            }) && pattern.next().is_some()
                && entry.mnt_ns.is_none_or(|only| only == mnt_ns)
        };
        let entry = self.entries.iter().find(is_below)?;
        Some(Match {
            path: &entry.pattern,
            kind: entry.kind,
            origin: entry.origin,
            source: &entry.source,
        })
    }

    /// Drops what was discovered in a mount namespace that is no more. Rebuilds the tree: rare.
    pub fn forget(&mut self, mnt_ns: u32) {
        if self.per_namespace.remove(&mnt_ns).is_none() {
            return;
        }
        let entries = std::mem::take(&mut self.entries);
        self.nodes = vec![Node::default()];
        for entry in entries {
            if entry.mnt_ns != Some(mnt_ns) {
                self.hang(entry);
            }
        }
    }

    /// Directories in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is looked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Directories that were not taken.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    fn hang(&mut self, entry: Entry) {
        let mut at = 0;
        for segment in path::segments(&entry.pattern) {
            let fresh = self.nodes.len();
            let Some(node) = self.nodes.get_mut(at) else {
                return;
            };
            at = if segment == b"*" {
                *node.any.get_or_insert(fresh)
            } else {
                *node.children.entry(segment.into()).or_insert(fresh)
            };
            if at == fresh {
                self.nodes.push(Node::default());
            }
        }
        let index = self.entries.len();
        if let Some(node) = self.nodes.get_mut(at) {
            node.here.push(index);
            self.entries.push(entry);
        }
    }

    fn knows(&self, entry: &Entry) -> bool {
        let mut at = 0;
        for segment in path::segments(&entry.pattern) {
            let next = self.nodes.get(at).and_then(|node| {
                if segment == b"*" {
                    node.any
                } else {
                    node.children.get(segment).copied()
                }
            });
            let Some(next) = next else {
                return false;
            };
            at = next;
        }
        self.nodes.get(at).is_some_and(|node| {
            node.here
                .iter()
                .filter_map(|&index| self.entries.get(index))
                .any(|known| known.mnt_ns == entry.mnt_ns && known.origin == entry.origin)
        })
    }

    /// Depth and index of the best entry at or below `at`. Each node is seen at most once, and no
    /// deeper than the deepest pattern ([`path::MAX_SEGMENTS`]).
    fn innermost(
        &self,
        at: usize,
        rest: &[u8],
        mnt_ns: u32,
        depth: usize,
    ) -> Option<(usize, usize)> {
        let node = self.nodes.get(at)?;
        let mut best = node
            .here
            .iter()
            .filter_map(|&index| Some((index, self.entries.get(index)?)))
            .filter(|(_, entry)| entry.mnt_ns.is_none_or(|own| own == mnt_ns))
            .max_by_key(|(_, entry)| entry.origin)
            .map(|(index, _)| (depth, index));
        let start = rest.iter().position(|&byte| byte != b'/');
        let Some(rest) = start.and_then(|start| rest.get(start..)) else {
            return best;
        };
        let end = rest.iter().position(|&byte| byte == b'/');
        let (segment, rest) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
        for next in [node.children.get(segment).copied(), node.any] {
            let found = next.and_then(|next| self.innermost(next, rest, mnt_ns, depth + 1));
            // Strictly deeper: at the same depth the named segment, tried first, stays.
            if found.map(|(depth, _)| depth) > best.map(|(depth, _)| depth) {
                best = found;
            }
        }
        best
    }
}

/// Whether a directory is a whole system directory.
#[must_use]
pub fn too_wide(normalised: &[u8]) -> bool {
    TOO_WIDE.contains(&normalised)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pattern: &str, kind: Kind, origin: Origin, mnt_ns: Option<u32>) -> Entry {
        Entry {
            pattern: pattern.into(),
            kind,
            origin,
            source: format!("{origin:?} {pattern}"),
            mnt_ns,
        }
    }

    fn set(rows: &[(&str, Kind, Origin, Option<u32>)]) -> Directories {
        let mut set = Directories::default();
        for &(pattern, kind, origin, mnt_ns) in rows {
            assert_eq!(set.add(entry(pattern, kind, origin, mnt_ns)), Added::New);
        }
        set
    }

    fn found(set: &Directories, mnt_ns: u32, path: &str) -> Option<(String, Kind)> {
        set.lookup(mnt_ns, path.as_bytes())
            .map(|m| (String::from_utf8_lossy(m.path).into_owned(), m.kind))
    }

    #[test]
    fn innermost_directory_wins_on_segment_boundaries() {
        use {Kind::*, Origin::Default};
        let set = set(&[
            ("/var/www/html", Served, Default, None),
            ("/var/www/html/cgi-bin", Cgi, Default, None),
            ("/home/*/public_html", Served, Default, None),
            (
                "/home/*/public_html/private/*/deep",
                Component,
                Default,
                None,
            ),
            ("/home/static/public_html", Component, Default, None),
        ]);
        for (path, expected) in [
            ("/var/www/html/a/b.php", Some(("/var/www/html", Served))),
            ("/var/www/html", Some(("/var/www/html", Served))),
            ("/var/www/html/", Some(("/var/www/html", Served))),
            ("/var/www//html/x", Some(("/var/www/html", Served))),
            ("/var/www/html2/x.php", None),
            ("/var/www/htm", None),
            ("/var/www/x", None),
            ("/", None),
            ("", None),
            ("var/www/html/x", None),
            (
                "/var/www/html/cgi-bin/x",
                Some(("/var/www/html/cgi-bin", Cgi)),
            ),
            (
                "/home/bob/public_html/i.php",
                Some(("/home/*/public_html", Served)),
            ),
            (
                "/home/static/public_html/i",
                Some(("/home/static/public_html", Component)),
            ),
            ("/home/public_html/x", None),
            ("/home/a/b/public_html/x", None),
            // The named branch is a dead end, the `*` one goes deeper.
            (
                "/home/static/public_html/private/x/deep/f",
                Some(("/home/*/public_html/private/*/deep", Component)),
            ),
        ] {
            let expected = expected.map(|(path, kind)| (path.to_owned(), kind));
            assert_eq!(found(&set, 1, path), expected, "{path}");
        }
    }

    #[test]
    fn discovered_directories_stay_in_their_namespace() {
        use {Kind::*, Origin::*};
        let mut set = set(&[
            ("/srv/app", Served, Discovered, Some(7)),
            ("/srv/all", Served, Config, None),
            ("/srv/all", Component, Discovered, Some(7)),
            ("/srv/other", Cgi, Default, None),
            ("/srv/other", Served, Discovered, Some(7)),
        ]);
        assert_eq!(found(&set, 7, "/srv/app/x").map(|m| m.1), Some(Served));
        assert_eq!(found(&set, 8, "/srv/app/x"), None);
        assert_eq!(
            found(&set, 7, "/srv/all/x").map(|m| m.1),
            Some(Served),
            "the user wins"
        );
        assert_eq!(found(&set, 7, "/srv/other/x").map(|m| m.1), Some(Served));
        assert_eq!(found(&set, 8, "/srv/other/x").map(|m| m.1), Some(Cgi));
        set.forget(7);
        assert_eq!(set.len(), 2);
        assert_eq!(found(&set, 7, "/srv/app/x"), None);
        assert_eq!(found(&set, 7, "/srv/other/x").map(|m| m.1), Some(Cgi));
        set.forget(7);
        assert_eq!(set.len(), 2);
    }

    #[test]
    fn the_set_is_bounded_and_counts() {
        use {Kind::Served, Origin::Discovered};
        let mut set = Directories::with_capacity(2);
        let mut add = |pattern: &str| set.add(entry(pattern, Served, Discovered, Some(1)));
        assert_eq!(add("/srv/a"), Added::New);
        assert_eq!(add("/srv//a/./"), Added::Known);
        assert_eq!(add("srv"), Added::Malformed);
        assert_eq!(add("/*/x"), Added::Malformed);
        assert_eq!(add("/"), Added::TooWide);
        assert_eq!(add("/srv/../var/"), Added::TooWide);
        assert_eq!(add("/srv/b"), Added::New);
        assert_eq!(add("/srv/c"), Added::Full);
        assert_eq!(set.refused(), 5);
        assert_eq!(set.len(), 2);
        set.forget(1);
        assert!(set.is_empty());
        assert_eq!(
            set.add(entry("/srv/c", Served, Discovered, Some(1))),
            Added::New
        );

        let mut set = Directories::default();
        for i in 0..MAX_PER_NAMESPACE {
            let new = set.add(entry(&format!("/srv/{i}"), Served, Discovered, Some(1)));
            assert_eq!(new, Added::New);
        }
        assert_eq!(
            set.add(entry("/srv/x", Served, Discovered, Some(1))),
            Added::Full
        );
        assert_eq!(
            set.add(entry("/srv/x", Served, Discovered, Some(2))),
            Added::New
        );
    }

    #[test]
    fn what_moves_a_directory_is_known() {
        use {Kind::Served, Origin::Config};
        let set = set(&[
            ("/srv/app/current/public", Served, Config, None),
            ("/home/*/www", Served, Config, Some(7)),
        ]);
        for (path, expected) in [
            ("/srv", true),
            ("/srv/app/current", true),
            ("/srv/app//current/public/", true),
            ("/srv/app/current/public/x", false),
            ("/srv/app/releases", false),
            ("/home/bob", true),
            ("/home/bob/www", true),
            ("/home/bob/web", false),
            ("/", false),
            ("", false),
            ("srv", false),
        ] {
            assert_eq!(set.touched(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn identities_are_found_whatever_the_name() {
        use {Kind::*, Origin::*};
        let at = |inode| FileId { dev: 1, inode };
        let served = entry("/srv/app", Served, Discovered, Some(7));
        let mut set = Directories::with_capacity(2);
        assert_eq!(set.by_file(at(1)), None);
        assert_eq!(set.place(at(1), served.clone()), Added::New);
        assert_eq!(set.place(at(1), served.clone()), Added::Known);
        assert_eq!(set.place(at(2), served.clone()), Added::New);
        assert_eq!(set.place(at(3), served.clone()), Added::Full);
        assert_eq!((set.placed(), set.refused()), (2, 1));
        let found = set.by_file(at(2)).unwrap();
        assert_eq!((found.path, found.kind), (b"/srv/app".as_slice(), Served));
        // The device counts, too.
        assert_eq!(set.by_file(FileId { dev: 2, inode: 1 }), None);
        // Another entry leads there now.
        let configured = entry("/srv/lib", Component, Config, None);
        assert_eq!(set.place(at(2), configured), Added::New);
        assert_eq!(set.by_file(at(2)).map(|found| found.kind), Some(Component));
        set.displace(at(1));
        set.displace(at(1));
        assert_eq!((set.by_file(at(1)), set.placed()), (None, 1));
        assert!(set.is_empty(), "identities are no names");
    }

    #[test]
    fn defaults_are_all_taken_and_none_is_wide() {
        let mut set = Directories::default();
        set.add_defaults();
        assert_eq!(
            set.len(),
            defaults().len(),
            "a row is malformed or twice in the table"
        );
        assert_eq!(set.refused(), 0);
        for (path, expected) in [
            ("/var/www/html/shell.php", Some(Kind::Served)),
            ("/usr/local/tomcat/webapps/ROOT/x.jsp", Some(Kind::Served)),
            ("/var/lib/tomcat10/webapps/x.war", Some(Kind::Served)),
            ("/usr/lib/cgi-bin/x", Some(Kind::Cgi)),
            (
                "/var/www/vhosts/example.org/httpdocs/x.php",
                Some(Kind::Served),
            ),
            ("/usr/lib/php/20220829/evil.so", Some(Kind::Component)),
            ("/usr/lib/mysql/plugin/udf.so", Some(Kind::Component)),
            ("/usr/lib/postgresql/15/lib/evil.so", Some(Kind::Component)),
            ("/etc/nginx/conf.d/x.conf", Some(Kind::Component)),
            // Beside document roots: a server's daily work.
            ("/var/www/storage/cache/x.php", None),
            ("/var/www/.cache/x", None),
            ("/usr/share/phpmyadmin/x.php", None),
            ("/var/lib/php/sessions/sess_1", None),
            ("/var/lib/nginx/body/0001", None),
            ("/var/cache/tomcat10/Catalina/x.java", None),
            ("/var/lib/mysql/ibdata1", None),
            ("/var/log/nginx/access.log", None),
        ] {
            assert_eq!(found(&set, 1, path).map(|m| m.1), expected, "{path}");
        }
    }
}
