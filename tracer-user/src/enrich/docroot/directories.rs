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

/// Directories that may have been forgotten before the tree is made anew, beside as many as there are.
const SPARE: usize = 64;

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
    /// A running server's own configuration, which may be anybody's.
    Discovered,
    /// The table of defaults.
    Default,
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
    /// See [`Match::weakens`].
    fn weakens(&self, other: &Self) -> bool {
        self.found().weakens(&other.found())
    }

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

impl Match<'_> {
    /// Whether to follow this one, which a server names, in the place of `other`, which the table or the
    /// user do, would let more pass: any file may be written where files are only served, and programs
    /// are started where they are run on request.
    #[must_use]
    pub fn weakens(&self, other: &Match<'_>) -> bool {
        self.origin == Origin::Discovered
            && other.origin != Origin::Discovered
            && match other.kind {
                Kind::Component => self.kind != Kind::Component,
                Kind::Cgi => matches!(self.kind, Kind::Served | Kind::Application),
                Kind::Served | Kind::Application => false,
            }
    }
}

/// The set. Owned by the pipeline; fillers send it [`Entry`]s.
#[derive(Debug)]
pub struct Directories {
    entries: Vec<Option<Entry>>,
    /// Entries that were forgotten: their places in `entries` are empty.
    gone: usize,
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
            gone: 0,
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
        if let Some(known) = self.known(&entry) {
            let is_new = known.kind != entry.kind && entry.origin == Origin::Discovered;
            if entry.origin == Origin::Discovered {
                // A server may have another word for it by now.
                *known = entry;
            }
            return if is_new { Added::New } else { Added::Known };
        }
        if self.len() >= self.max {
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

    /// The innermost directory that `path` lies in, or is; but one that a server names never weakens one
    /// of the table or of the user's ([`Match::weakens`]).
    ///
    /// A named segment wins over `*`, and of two that name the same directory the one of the
    /// higher [`Origin`]. `path` is absolute and free of `.` and `..`, as the kernel gives it.
    #[must_use]
    pub fn lookup(&self, mnt_ns: u32, path: &[u8]) -> Option<Match<'_>> {
        if !path.starts_with(b"/") {
            return None;
        }
        let is_true = |entry: &Entry| entry.mnt_ns.is_none_or(|own| own == mnt_ns);
        let (_, best) = self.innermost(0, path, &is_true, 0)?;
        if best.origin != Origin::Discovered {
            return Some(best.found());
        }
        let is_certain = |entry: &Entry| entry.origin != Origin::Discovered && is_true(entry);
        let certain = self.innermost(0, path, &is_certain, 0);
        let certain = certain.map(|(_, entry)| entry);
        let stays = certain.filter(|certain| best.weakens(certain));
        Some(stays.unwrap_or(best).found())
    }

    /// Notes which directory of the kernel's an entry is. Who resolves names has the last word: an
    /// identity that is known already is from now on this entry's.
    pub fn place(&mut self, file: FileId, entry: Entry) -> Added {
        if !self.places.contains_key(&file) && self.places.len() >= self.max {
            self.refused = self.refused.saturating_add(1);
            return Added::Full;
        }
        // By its name it may lie in a directory that it must not weaken.
        let stays = self.lookup(entry.mnt_ns.unwrap_or(0), &entry.pattern);
        let stays = stays.filter(|known| entry.found().weakens(known));
        let entry = match stays {
            Some(known) => Entry {
                pattern: known.path.to_vec(),
                kind: known.kind,
                origin: known.origin,
                source: known.source.to_owned(),
                mnt_ns: entry.mnt_ns,
            },
            None => entry,
        };
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
        let entry = self.entries.iter().flatten().find(is_below)?;
        Some(entry.found())
    }

    /// Forgets what servers named by this pattern.
    pub fn forget(&mut self, pattern: &[u8]) {
        let Some(at) = path::normalise(pattern).and_then(|pattern| self.node(&pattern)) else {
            return;
        };
        let Self {
            nodes,
            entries,
            per_namespace,
            ..
        } = self;
        let Some(node) = nodes.get_mut(at) else {
            return;
        };
        let before = node.here.len();
        node.here.retain(|&index| {
            let entry = entries.get_mut(index);
            let gone = entry.and_then(|entry| entry.take_if(|e| e.origin == Origin::Discovered));
            if let Some(count) = gone
                .as_ref()
                .and_then(|entry| per_namespace.get_mut(&entry.mnt_ns?))
            {
                *count = count.saturating_sub(1);
            }
            gone.is_none()
        });
        self.gone += before - node.here.len();
        // Now and then the tree is made anew, so that what has come and gone takes no room.
        if self.gone > SPARE + self.len() {
            let entries = std::mem::take(&mut self.entries);
            self.nodes = vec![Node::default()];
            self.gone = 0;
            self.per_namespace.retain(|_, count| *count > 0);
            for entry in entries.into_iter().flatten() {
                self.hang(entry);
            }
        }
    }

    /// Directories in the set.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len() - self.gone
    }

    /// Whether nothing is looked for.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
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
            self.entries.push(Some(entry));
        }
    }

    /// Where a pattern hangs.
    fn node(&self, pattern: &[u8]) -> Option<usize> {
        path::segments(pattern).try_fold(0, |at, segment| {
            let node = self.nodes.get(at)?;
            if segment == b"*" {
                node.any
            } else {
                node.children.get(segment).copied()
            }
        })
    }

    /// What the same origin says of the same directory.
    fn known(&mut self, entry: &Entry) -> Option<&mut Entry> {
        let node = self.nodes.get(self.node(&entry.pattern)?)?;
        let is = |known: &Entry| known.mnt_ns == entry.mnt_ns && known.origin == entry.origin;
        let mut here = node.here.iter();
        let index = here.find(|&&index| {
            let known = self.entries.get(index).and_then(Option::as_ref);
            known.is_some_and(is)
        })?;
        self.entries.get_mut(*index)?.as_mut()
    }

    /// Depth and the best of the entries that `counts`, at or below `at`. Each node is seen at most once,
    /// and no deeper than the deepest pattern ([`path::MAX_SEGMENTS`]).
    fn innermost(
        &self,
        at: usize,
        rest: &[u8],
        counts: &dyn Fn(&Entry) -> bool,
        depth: usize,
    ) -> Option<(usize, &Entry)> {
        let node = self.nodes.get(at)?;
        let mut best = node
            .here
            .iter()
            .filter_map(|&index| self.entries.get(index)?.as_ref())
            .filter(|entry| counts(entry))
            .max_by_key(|entry| entry.origin)
            .map(|entry| (depth, entry));
        let start = rest.iter().position(|&byte| byte != b'/');
        let Some(rest) = start.and_then(|start| rest.get(start..)) else {
            return best;
        };
        let end = rest.iter().position(|&byte| byte == b'/');
        let (segment, rest) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
        for next in [node.children.get(segment).copied(), node.any] {
            let found = next.and_then(|next| self.innermost(next, rest, counts, depth + 1));
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
        for mnt_ns in [7, 8] {
            assert_eq!(
                found(&set, mnt_ns, "/srv/other/x").map(|m| m.1),
                Some(Cgi),
                "the table wins"
            );
        }
        for _ in 0..2 {
            for pattern in ["/srv/app/", "/srv/all", "/srv/other", "/srv/none", "srv"] {
                set.forget(pattern.as_bytes());
            }
            assert_eq!(set.len(), 2);
            assert_eq!(found(&set, 7, "/srv/app/x"), None);
            assert_eq!(found(&set, 7, "/srv/all/x").map(|m| m.1), Some(Served));
            assert_eq!(found(&set, 7, "/srv/other/x").map(|m| m.1), Some(Cgi));
        }
    }

    #[test]
    fn what_anybodys_server_names_weakens_nothing() {
        use {Kind::*, Origin::*};
        let mut set = set(&[
            ("/etc/nginx", Component, Default, None),
            ("/usr/lib/php/*", Component, Default, None),
            ("/usr/lib/cgi-bin", Cgi, Default, None),
            ("/srv/plugins", Component, Config, None),
            ("/var/www/html", Served, Default, None),
        ]);
        let names = [
            "/etc/nginx",
            "/etc/nginx/modules-enabled",
            "/usr/lib/php/20220829",
            "/usr/lib/cgi-bin",
            "/usr/lib/cgi-bin/below",
            "/srv/plugins/x",
            "/var/www/html",
            "/var/www/html/sub",
        ];
        let mut inode = 0;
        for (kind, expected) in [
            (
                Served,
                [
                    Component, Component, Component, Cgi, Cgi, Component, Served, Served,
                ],
            ),
            (
                Cgi,
                [
                    Component, Component, Component, Cgi, Cgi, Component, Served, Cgi,
                ],
            ),
            (
                Component,
                [
                    Component, Component, Component, Cgi, Component, Component, Served, Component,
                ],
            ),
        ] {
            for (name, expected) in names.into_iter().zip(expected) {
                let named = entry(name, kind, Discovered, None);
                assert_eq!(set.add(named.clone()), Added::New);
                let below = format!("{name}/file");
                let shown = format!("{name} {kind:?}");
                assert_eq!(
                    found(&set, 1, &below).map(|m| m.1),
                    Some(expected),
                    "{shown}"
                );
                // By identity it says no less than by its name.
                inode += 1;
                let file = FileId { dev: 1, inode };
                set.place(file, named);
                let placed = set.by_file(file).unwrap();
                let by_name = set.lookup(1, below.as_bytes()).unwrap();
                assert!(!placed.weakens(&by_name), "{shown}: {placed:?} {by_name:?}");
            }
        }
        // The last word of the same directory holds.
        assert_eq!(set.len(), 5 + names.len());
    }

    #[test]
    fn what_comes_and_goes_takes_no_room() {
        let mut set = set(&[("/srv/app", Kind::Served, Origin::Config, None)]);
        for i in 0..10_000 {
            let name = format!("/home/u{i}/www");
            let named = entry(&name, Kind::Served, Origin::Discovered, Some(7));
            assert_eq!(set.add(named), Added::New, "{name}");
            set.forget(name.as_bytes());
        }
        assert_eq!(set.len(), 1);
        assert!(set.nodes.len() < 4 * SPARE && set.entries.len() < 4 * SPARE);
        assert!(found(&set, 7, "/srv/app/x").is_some());
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
        set.forget(b"/srv/a");
        set.forget(b"/srv/b");
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
