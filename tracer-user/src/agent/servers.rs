//! Servers whose configuration is read for the directories they serve, and where those are.
//!
//! Read on threads [apart](super::apart), two at a time: once when a server is seen, and again while it
//! lives, as a reload gives it a new configuration without a new program: where a file of it changed,
//! which is looked for every few seconds, and every minute in any case. Servers that
//! run the same program with the same arguments as the same user are one. Bounded, and shared out by
//! [`Quota`]: a server beyond that keeps the default directories. A server where reading gets no answer
//! keeps what was known of it, which is told.
//!
//! Directories are identified as the server sees them, those of its configuration and, where it sees
//! other mounts or another root than the agent, the default and the user's ones too: again with each
//! reading, and soon after a server's lineage made or renamed something that may be one. What a server
//! named is known until it has ended, or names it no more.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracer_common::limits;

use super::apart::{Apart, Limits, Word};
use super::owner::{Owner, Quota, host_mounts};
use super::places::{Claims, View};
use crate::alert::{Directory, ProcessView};
use crate::enrich::docroot::{
    DiscoverRequest, Discovery, Entry, Located, Seen, discover, identify, is_changed,
};
use crate::event::FileId;
use crate::pipeline::ServerSeen;
use crate::source::snapshot;

/// Servers followed at once.
const SERVERS: usize = 1024;

/// How often a configuration is read again.
const AGAIN: Duration = Duration::from_secs(60);

/// How often it is looked whether a configuration changed, where servers are few; with many, each is
/// looked at more seldom.
const LOOK: Duration = Duration::from_secs(5);

/// Directories taken from one server: those of one host's sites, not room for a flood.
const DIRECTORIES: usize = 1024;

/// Directories of all servers, by name and by identity: what the kernel's map takes.
const ALL: usize = limits::DIRECTORIES as usize;

/// A reading ends by itself after two seconds where the kernel answers.
const LIMITS: Limits = Limits {
    at_once: 2,
    stuck: 16,
    patience: Duration::from_secs(10),
};

pub(super) struct Servers {
    known: HashMap<Kind, Known>,
    room: Quota,
    /// Servers that were not taken in.
    unknown: u64,
    /// Directories that hold whatever server is seen: the user's and the default ones.
    everywhere: Arc<[Entry]>,
    names: Claims<Vec<u8>, Entry>,
    places: Claims<FileId, Located>,
    views: View,
    host: Option<u32>,
    /// Something happened that may have moved directories.
    stale: bool,
    /// What was found and not asked for yet.
    waiting: VecDeque<Found>,
    apart: Apart<Told>,
}

/// What is found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A directory that a server names.
    Directory(Entry),
    /// No server names it any more.
    Unnamed(Vec<u8>),
    /// Where a directory is.
    At(FileId, Located),
    /// It is nobody's any more.
    Left(FileId),
}

/// What a configuration names, and what that hangs on.
type Named = (Arc<[Entry]>, Arc<[Seen]>);

/// What a reading tells.
struct Told {
    /// What the configuration names and what that hangs on, where it was read.
    named: Option<Named>,
    /// Nothing where nothing changed.
    places: Option<Vec<(FileId, Located)>>,
}

/// What makes two processes the same server.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Kind {
    server: &'static str,
    exe: Vec<u8>,
    args: Vec<Vec<u8>>,
    cwd: Vec<u8>,
    mnt_ns: u32,
    owner: Owner,
}

struct Known {
    request: DiscoverRequest,
    due: Instant,
    /// When to look whether its configuration changed.
    look: Instant,
    view: View,
    /// What its configuration named when it was read last, and what that hangs on.
    named: Arc<[Entry]>,
    seen: Arc<[Seen]>,
    /// A reading is asked for and not done.
    running: bool,
    /// Another has to follow, of places at least.
    again: bool,
}

impl Servers {
    /// No server yet; the directories that hold everywhere, as the agent itself sees them.
    pub(super) fn new(everywhere: Vec<Entry>) -> Self {
        let mut servers = Self {
            known: HashMap::new(),
            room: Quota::new(SERVERS),
            unknown: 0,
            everywhere: everywhere.into(),
            names: Claims::new(ALL, |entry: &Entry| entry.origin),
            places: Claims::new(ALL, |located: &Located| located.entry.origin),
            views: 0,
            host: host_mounts(),
            stale: false,
            waiting: VecDeque::new(),
            apart: Apart::new("tracer-servers", LIMITS),
        };
        match DiscoverRequest::own() {
            Ok(request) => servers.insert(Kind::own(), request),
            Err(error) => {
                eprintln!("tracer: directories are known by name only: /proc/self: {error}");
            }
        }
        servers
    }

    /// How many directories found no room, by name or by identity.
    pub(super) const fn refused(&self) -> u64 {
        self.names.refused() + self.places.refused()
    }

    /// How many servers found no room.
    pub(super) const fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Something that may be a directory was made, renamed or mounted: they are identified anew at the
    /// next [`Self::refresh`].
    pub(super) const fn moved(&mut self) {
        self.stale = true;
    }

    /// Takes a server in, where there is room.
    fn insert(&mut self, kind: Kind, request: DiscoverRequest) {
        if !self.room.take(kind.owner) {
            if self.unknown == 0 {
                eprintln!(
                    "tracer: too many servers of {}: what more there are of them is not asked for \
                     its directories",
                    kind.owner
                );
            }
            self.unknown = self.unknown.saturating_add(1);
            return;
        }
        let known = Known {
            request,
            due: Instant::now(),
            look: Instant::now(),
            view: self.views,
            named: Arc::new([]),
            seen: Arc::new([]),
            running: false,
            again: false,
        };
        self.views += 1;
        self.known.insert(kind, known);
    }

    /// Notes a server; its configuration is read at the next [`Self::refresh`].
    pub(super) fn seen(&mut self, seen: ServerSeen) {
        let ServerSeen { key, server, image } = seen;
        let exec = &image.exec;
        // Root only where it is all root's: a program that changes its user is who started it.
        let uid = if exec.ids.uid == 0 {
            exec.ids.euid
        } else {
            exec.ids.uid
        };
        let kind = Kind {
            server,
            exe: exec.exe.clone(),
            args: exec.args.clone(),
            cwd: exec.cwd.clone(),
            mnt_ns: exec.ns.mnt,
            owner: Owner::of(uid, exec.ns.mnt, self.host),
        };
        let request = DiscoverRequest {
            tgid: key.tgid,
            start_ticks: key.start_ticks,
            server,
            args: exec.args.clone(),
            exe: exec.exe.clone(),
            cwd: exec.cwd.clone(),
            mnt_ns: exec.ns.mnt,
            uid,
        };
        if let Some(known) = self.known.get_mut(&kind) {
            // The same server in another process: read through the one that lives.
            known.request = request;
        } else {
            self.insert(kind, request);
        }
    }

    /// Directories that the configuration of a server named when it was read last.
    pub(super) fn named(&self, process: &ProcessView) -> Vec<Directory> {
        let (Some(image), Some(server)) = (&process.image, &process.server) else {
            return Vec::new();
        };
        let exec = &image.exec;
        let is_it = |kind: &Kind| {
            kind.server == server.name
                && kind.mnt_ns == exec.ns.mnt
                && (&kind.exe, &kind.args, &kind.cwd) == (&exec.exe, &exec.args, &exec.cwd)
        };
        let known = self.known.iter().find(|(kind, _)| is_it(kind));
        let entries = known.into_iter().flat_map(|(_, known)| known.named.iter());
        entries
            .map(|entry| Directory {
                path: entry.pattern.clone(),
                kind: entry.kind.name(),
                source: entry.source.clone(),
            })
            .collect()
    }

    /// Reads what is due and gives what was found until all is read, or until `patience` is over:
    /// the rest comes by [`Self::found`].
    pub(super) async fn settle(&mut self, patience: Duration) -> Vec<Found> {
        self.refresh();
        let deadline = tokio::time::Instant::now() + patience;
        while self.apart.is_busy() {
            match tokio::time::timeout_at(deadline, self.apart.told()).await {
                Ok((view, word)) => self.hear(view, word),
                Err(_elapsed) => break,
            }
        }
        std::mem::take(&mut self.waiting).into()
    }

    /// Begins to read what is due, and forgets servers that have ended.
    pub(super) fn refresh(&mut self) {
        let now = Instant::now();
        self.forget_ended(now);
        let stale = std::mem::take(&mut self.stale);
        // All of them within the time in which each is read anew.
        let share = AGAIN / u32::try_from(SERVERS).unwrap_or(u32::MAX);
        let pause = LOOK.max(share * u32::try_from(self.known.len()).unwrap_or(u32::MAX));
        for (kind, known) in &mut self.known {
            let is_due = known.due <= now || stale;
            if !is_due && (known.look > now || known.seen.is_empty()) {
                continue;
            }
            if known.running {
                known.again |= is_due;
            } else {
                known.look = now + pause;
                let work = known.work(kind, &self.everywhere, now, stale);
                self.apart
                    .ask(known.view, kind.owner, move |_| work.perform());
            }
        }
    }

    fn forget_ended(&mut self, now: Instant) {
        let lives = |known: &Known| {
            let DiscoverRequest {
                tgid, start_ticks, ..
            } = known.request;
            snapshot::started(Path::new("/proc"), tgid) == Some(start_ticks)
        };
        let ended = self
            .known
            .extract_if(|_, known| known.due <= now && !lives(known));
        for (kind, known) in ended.collect::<Vec<_>>() {
            self.apart.withdraw(known.view);
            self.room.release(kind.owner);
            self.name(known.view, kind.owner, &[]);
            self.place(known.view, kind.owner, Vec::new());
        }
    }

    /// Waits for the next thing that was found. Cancel safe.
    pub(super) async fn found(&mut self) -> Found {
        loop {
            if let Some(found) = self.waiting.pop_front() {
                return found;
            }
            let (view, word) = self.apart.told().await;
            self.hear(view, word);
        }
    }

    fn hear(&mut self, view: View, word: Word<Told>) {
        // Nothing of a server that was forgotten meanwhile: nobody would take it back.
        let Some((kind, known)) = self.known.iter_mut().find(|(_, known)| known.view == view)
        else {
            return;
        };
        let Told { named, places } = match word {
            Word::Done(told) => told,
            Word::Stuck(_) => {
                // It stays as it is, and is not read again unless the answer comes after all.
                let DiscoverRequest { server, tgid, .. } = known.request;
                eprintln!(
                    "tracer: {server} (process {tgid}): no answer where its memory or its directories \
                     are looked at; it is passed over until there is one"
                );
                return;
            }
            // Asked for again when it is due.
            Word::Hopeless => {
                known.running = false;
                return;
            }
            Word::Refused(error) => {
                eprintln!("tracer: directories are not looked for: no thread: {error}");
                known.running = false;
                return;
            }
        };
        known.running = false;
        let owner = kind.owner;
        if let Some((named, seen)) = &named {
            known.named = Arc::clone(named);
            known.seen = Arc::clone(seen);
        }
        if std::mem::take(&mut known.again) {
            let work = known.work(kind, &self.everywhere, Instant::now(), true);
            self.apart.ask(view, owner, move |_| work.perform());
        }
        if let Some((named, _)) = named {
            self.name(view, owner, &named);
        }
        if let Some(places) = places {
            self.place(view, owner, places);
        }
    }

    fn name(&mut self, view: View, owner: Owner, named: &[Entry]) {
        // What is named twice is what it was named first.
        let mut seen = HashSet::new();
        let first = named.iter().filter(|entry| seen.insert(&entry.pattern));
        let named = first.map(|entry| (entry.pattern.clone(), entry.clone()));
        let moved = self.names.replace(view, owner, named.collect());
        self.waiting
            .extend(moved.into_iter().map(|(name, entry)| match entry {
                Some(entry) => Found::Directory(entry),
                None => Found::Unnamed(name),
            }));
        tell("known", self.names.poor());
    }

    fn place(&mut self, view: View, owner: Owner, places: Vec<(FileId, Located)>) {
        let moved = self.places.replace(view, owner, places);
        self.waiting
            .extend(moved.into_iter().map(|(file, located)| match located {
                Some(located) => Found::At(file, located),
                None => Found::Left(file),
            }));
        tell("watched by identity", self.places.poor());
    }
}

/// Says of whom directories were left out.
fn tell(what: &str, poor: Vec<Owner>) {
    for owner in poor {
        eprintln!(
            "tracer: servers of {owner} name too many directories: some are not {what}; name those \
             that matter in `directories` of tracer's configuration"
        );
    }
}

impl Known {
    /// The reading that is next.
    fn work(&mut self, kind: &Kind, everywhere: &Arc<[Entry]>, now: Instant, stale: bool) -> Work {
        let is_due = self.due <= now;
        if is_due {
            self.due = now + AGAIN;
        }
        self.running = true;
        Work {
            request: self.request.clone(),
            // The agent has no configuration of this kind.
            reads: is_due && !kind.server.is_empty(),
            locates: is_due || stale,
            named: Arc::clone(&self.named),
            seen: Arc::clone(&self.seen),
            everywhere: Arc::clone(everywhere),
        }
    }
}

impl Kind {
    /// The agent itself, which is no server.
    const fn own() -> Self {
        Self {
            server: "",
            exe: Vec::new(),
            args: Vec::new(),
            cwd: Vec::new(),
            mnt_ns: 0,
            owner: Owner::Host,
        }
    }
}

/// One reading.
struct Work {
    request: DiscoverRequest,
    /// Whether the configuration is read, or taken as it was where nothing of it changed.
    reads: bool,
    /// Whether directories are identified whatever changed.
    locates: bool,
    named: Arc<[Entry]>,
    seen: Arc<[Seen]>,
    everywhere: Arc<[Entry]>,
}

impl Work {
    fn perform(self) -> Told {
        let reads = self.reads || is_changed(&self.request, &self.seen);
        if !reads && !self.locates {
            return Told {
                named: None,
                places: None,
            };
        }
        let named = reads.then(|| read(&self.request));
        let entries = named.as_ref().map_or(&self.named, |(named, _)| named);
        let mut entries = entries.to_vec();
        // What the agent sees for itself it has asked for itself.
        if self.request.server.is_empty() || sees_otherwise(self.request.tgid) {
            entries.extend(self.everywhere.iter().cloned());
        }
        let places = Some(identify(&self.request, &entries));
        Told { named, places }
    }
}

/// Whether a process has other mounts or another root than the agent.
fn sees_otherwise(tgid: u32) -> bool {
    let view = |process: &str| {
        ["ns/mnt", "root"]
            .map(|link| std::fs::read_link(Path::new("/proc").join(process).join(link)))
    };
    let same = view(&tgid.to_string())
        .into_iter()
        .zip(view("self"))
        .all(|(theirs, own)| matches!((theirs, own), (Ok(theirs), Ok(own)) if theirs == own));
    !same
}

/// Directories hold in every mount namespace: nginx and php-fpm of one site often run in two
/// containers that share its files under one path.
fn read(request: &DiscoverRequest) -> Named {
    let Discovery {
        directories,
        problems,
        seen,
        ..
    } = discover(request);
    // A process that has ended meanwhile is no problem.
    if Path::new("/proc").join(request.tgid.to_string()).exists() {
        for problem in problems {
            eprintln!("tracer: {problem}");
        }
    }
    let named = directories
        .into_iter()
        .take(DIRECTORIES)
        .map(|found| Entry {
            mnt_ns: None,
            ..found.into_entry(request.mnt_ns)
        })
        .collect();
    (named, seen.into())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::enrich::docroot::{Kind as Use, Origin};
    use crate::event::{Exec, Payload, ProcessKey, decode};
    use crate::lineage::process::Image;

    /// Long enough for a reading on a machine that is busy.
    const SOON: Duration = Duration::from_secs(20);

    fn moved(found: Vec<Found>) -> Vec<(u64, bool)> {
        let moved = found.into_iter().filter_map(|found| match found {
            Found::At(file, _) => Some((file.inode, true)),
            Found::Left(file) => Some((file.inode, false)),
            Found::Directory(_) | Found::Unnamed(_) => None,
        });
        moved.collect()
    }

    #[tokio::test]
    async fn directories_are_followed_as_they_come_and_go() {
        let home = tempfile::tempdir().unwrap();
        let [site, other] = ["site", "other"].map(|name| home.path().join(name));
        let entry = Entry {
            pattern: site.as_os_str().as_encoded_bytes().to_vec(),
            kind: Use::Served,
            origin: Origin::Config,
            source: "test".to_owned(),
            mnt_ns: None,
        };
        let mut servers = Servers::new(vec![entry]);
        assert_eq!(moved(servers.settle(SOON).await), []);
        // Nothing is due, and nobody said that anything moved.
        fs::create_dir(&site).unwrap();
        assert_eq!(moved(servers.settle(SOON).await), []);
        servers.moved();
        let first = fs::metadata(&site).unwrap().ino();
        assert_eq!(moved(servers.settle(SOON).await), [(first, true)]);
        // Another in its place; the first still has its number.
        fs::rename(&site, &other).unwrap();
        fs::create_dir(&site).unwrap();
        let second = fs::metadata(&site).unwrap().ino();
        servers.moved();
        let expected = [(first, false), (second, true)];
        assert_eq!(moved(servers.settle(SOON).await), expected);
        fs::remove_dir(&site).unwrap();
        servers.moved();
        assert_eq!(moved(servers.settle(SOON).await), [(second, false)]);
        assert_eq!(servers.refused(), 0);
    }

    /// A server of this user, by a process that lives as long as the value.
    fn server(uid: u32, config: &Path) -> (Child, ServerSeen) {
        let child = Child(
            Command::new("/bin/cat")
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let tgid = child.0.id();
        let key = ProcessKey {
            tgid,
            start_ticks: snapshot::started(Path::new("/proc"), tgid).unwrap(),
        };
        let args = [
            b"nginx",
            b"-c".as_slice(),
            config.as_os_str().as_encoded_bytes(),
        ];
        let mut exec = exec_of(&child);
        exec.args = args.map(<[u8]>::to_vec).to_vec();
        exec.ids.uid = uid;
        exec.ids.euid = uid;
        let image = Image {
            exec: Arc::new(exec),
            boot_ns: 0,
            observed: true,
            server: None,
        };
        let seen = ServerSeen {
            key,
            server: "nginx",
            image,
        };
        (child, seen)
    }

    struct Child(std::process::Child);

    impl Drop for Child {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    /// What a snapshot of `/proc` says of it.
    fn exec_of(child: &Child) -> Exec {
        let mut found = None;
        snapshot::take(Path::new("/proc"), 1, |record| {
            let event = decode(&record).unwrap();
            if event.meta.subject.tgid == child.0.id()
                && let Payload::Observed(exec) = event.payload
            {
                found = Some(*exec);
            }
        })
        .unwrap();
        found.unwrap()
    }

    fn named(found: &[Found]) -> usize {
        let named = |found: &&Found| match found {
            Found::Directory(entry) => entry.pattern.starts_with(b"/srv"),
            Found::Unnamed(_) | Found::At(..) | Found::Left(_) => false,
        };
        found.iter().filter(named).count()
    }

    #[tokio::test]
    async fn one_users_servers_take_no_others_place() {
        let home = tempfile::tempdir().unwrap();
        let config = |name: &str, roots: std::ops::Range<usize>| {
            let lines = roots.map(|root| format!("server {{ root /srv/{name}/{root}; }}\n"));
            let file = home.path().join(name);
            fs::write(&file, lines.collect::<String>()).unwrap();
            file
        };
        let mut servers = Servers::new(Vec::new());
        let mut children = Vec::new();
        for number in 0..20 {
            let (child, seen) = server(1000, &config(&format!("n{number}"), 0..1024));
            children.push(child);
            servers.seen(seen);
        }
        let found = servers.settle(SOON).await;
        assert_eq!(named(&found), ALL / 8, "what one user may have");
        assert!(servers.refused() > 0);
        for (uid, roots) in [(1001, 7), (0, 9)] {
            let (child, seen) = server(uid, &config(&format!("u{uid}"), 0..roots));
            children.push(child);
            servers.seen(seen);
            assert_eq!(named(&servers.settle(SOON).await), roots);
        }
        // Servers themselves are shared out, too.
        let (child, seen) = server(1000, &home.path().join("n0"));
        for number in 0..2 * SERVERS {
            let mut seen = seen.clone();
            let mut exec = (*seen.image.exec).clone();
            exec.args.push(number.to_string().into_bytes());
            seen.image.exec = Arc::new(exec);
            servers.seen(seen);
        }
        children.push(child);
        assert!(servers.unknown() > 0);
        assert!(servers.known.len() < SERVERS / 4);
        // Who has ended takes its directories along.
        let mut left = 0;
        drop(children);
        for known in servers.known.values_mut() {
            known.due = Instant::now();
        }
        for found in servers.settle(SOON).await {
            let is_root = |name: &[u8]| name.starts_with(b"/srv");
            left += usize::from(matches!(found, Found::Unnamed(name) if is_root(&name)));
        }
        assert_eq!(left, ALL / 8 + 7 + 9);
        assert_eq!(servers.known.len(), 1, "the agent itself");
    }

    #[tokio::test]
    async fn what_a_reload_brings_is_known_soon() {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("n.conf");
        fs::write(&config, "root /srv/one;").unwrap();
        let mut servers = Servers::new(Vec::new());
        let (_child, seen) = server(0, &config);
        servers.seen(seen);
        let names = |found: Vec<Found>| -> Vec<(String, bool)> {
            let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
            let named = found.into_iter().filter_map(|found| match found {
                Found::Directory(entry) => Some((text(&entry.pattern), true)),
                Found::Unnamed(name) => Some((text(&name), false)),
                Found::At(..) | Found::Left(_) => None,
            });
            let mut named: Vec<_> = named.filter(|(name, _)| name.starts_with("/srv")).collect();
            named.sort();
            named
        };
        let one = |known| ("/srv/one".to_owned(), known);
        assert_eq!(names(servers.settle(SOON).await), [one(true)]);
        // Not due for a minute; nothing changed.
        let look = |servers: &mut Servers| {
            for known in servers.known.values_mut() {
                known.look = Instant::now();
            }
        };
        look(&mut servers);
        assert_eq!(names(servers.settle(SOON).await), []);
        fs::write(&config, "root /srv/two;").unwrap();
        look(&mut servers);
        let two = ("/srv/two".to_owned(), true);
        assert_eq!(names(servers.settle(SOON).await), [one(false), two]);
    }

    #[tokio::test]
    async fn one_reading_of_a_server_at_a_time() {
        let mut servers = Servers::new(Vec::new());
        servers.settle(SOON).await;
        for _ in 0..1000 {
            servers.moved();
            servers.refresh();
        }
        let own = servers.known.values().next().unwrap();
        assert!(own.running && own.again);
        let mut words = 0;
        while servers.apart.is_busy() {
            let told = tokio::time::timeout(SOON, servers.apart.told()).await;
            let (view, word) = told.unwrap();
            servers.hear(view, word);
            words += 1;
        }
        assert_eq!(
            words, 2,
            "the one that ran, and one for all that came meanwhile"
        );
    }
}
