//! Exceptions: shapes of what a host does every day, that rules match and that are no alerts.
//!
//! An exception binds to a shape, never to a server alone: which program with exactly which words, or which file. So an
//! attacker inside the excepted server gains nothing but that one command. What makes a match worse than its shape
//! tells (a server wrote the program, a connection is its input, it runs where names mean other files) puts it out of
//! every exception's reach; few of these a shape may name. Pure.

pub mod lint;
mod load;
pub mod template;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use include_dir::{Dir, include_dir};

pub use self::load::load;
use self::template::Template;
use super::roles::{self, Program};
use super::sigma::{RuleError, Source};
use crate::enrich::docroot::path;

/// The exceptions that ship with the agent.
static SHIPPED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/exceptions");

/// Exceptions at most. Beyond it none of a file is taken.
pub const MOST: usize = 4096;

/// What becomes of what an exception lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// No alert; the event is told as any other.
    Suppress,
    /// No alert, and no event either.
    Ignore,
}

/// What takes a match out of the reach of exceptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// A server's lineage wrote what runs.
    Written,
    /// What runs has no name.
    Fileless,
    /// Its input or output is a connected internet socket.
    RemoteStdio,
    /// It runs with more rights than who runs it, and a server wrote it.
    GainsRights,
    /// The process is not of the server's lineage.
    Outside,
    /// It is in other namespaces than the server, or below another root directory, or the server's are not known: names
    /// may mean other files.
    Apart,
    /// Words or names are not known whole, or changed while the call went on.
    Unsure,
}

impl Barrier {
    /// Every one.
    pub const ALL: &[Self] = &[
        Self::Written,
        Self::Fileless,
        Self::RemoteStdio,
        Self::GainsRights,
        Self::Outside,
        Self::Apart,
        Self::Unsure,
    ];

    /// Those that a shape may name.
    pub const NAMED: &[Self] = &[Self::RemoteStdio, Self::Outside, Self::Apart];

    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Fileless => "fileless",
            Self::RemoteStdio => "remote-stdio",
            Self::GainsRights => "gains-rights",
            Self::Outside => "outside",
            Self::Apart => "apart",
            Self::Unsure => "unsure",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Some of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Barriers(u8);

impl Barriers {
    /// Adds one where it holds.
    pub fn set(&mut self, barrier: Barrier, holds: bool) {
        if holds {
            self.0 |= barrier.bit();
        }
    }

    /// Those that hold.
    pub fn all(self) -> impl Iterator<Item = Barrier> {
        let has = move |barrier: &Barrier| self.0 & barrier.bit() != 0;
        Barrier::ALL.iter().copied().filter(has)
    }

    /// Whether all of them are among others.
    const fn within(self, others: Self) -> bool {
        self.0 & !others.0 == 0
    }
}

/// What was done, as far as exceptions compare it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deed {
    /// Name and role of the server.
    pub server: Option<(String, &'static str)>,
    /// What the process runs.
    pub executable: Vec<u8>,
    /// With which words.
    pub argv: Vec<Vec<u8>>,
    /// Where.
    pub directory: Vec<u8>,
    /// As which effective user.
    pub user: Option<u32>,
    /// What the creator of the process runs.
    pub parent: Vec<u8>,
    /// The file, and what was done to it.
    pub file: Option<(Vec<u8>, String)>,
    /// What no exception reaches past.
    pub barriers: Barriers,
}

impl Deed {
    /// Arguments as they are compared: of a shell without the `--` between `-c` and the command, that newer C libraries
    /// put there.
    #[must_use]
    pub fn words(executable: &[u8], args: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let is_shell = roles::program_named(roles::base(executable)) == Some(Program::Shell)
            || roles::is_multi_call(roles::base(executable));
        let mut words = args.to_vec();
        if is_shell && matches!(args, [_, flag, end, _, ..] if flag == b"-c" && end == b"--") {
            words.remove(2);
        }
        words
    }
}

/// A word of a command line, as an exception has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// One of these.
    One(Vec<Template>),
    /// A command in one word, as `sh -c` is given it: one of these programs, then any number of these words, with
    /// spaces between them.
    Command(Vec<Vec<u8>>, Vec<Template>),
}

impl Word {
    /// Whether it is this.
    #[must_use]
    pub fn matches(&self, word: &[u8]) -> bool {
        match self {
            Self::One(templates) => templates.iter().any(|template| template.matches(word)),
            Self::Command(programs, options) => {
                let mut words = word
                    .split(|&byte| byte == b' ')
                    .filter(|word| !word.is_empty());
                let program = words.next().unwrap_or_default();
                programs.iter().any(|known| known == program)
                    && words.all(|word| options.iter().any(|option| option.matches(word)))
            }
        }
    }
}

/// A directory, or all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It.
    Exactly(Vec<u8>),
    /// It or one below it.
    Below(Vec<u8>),
}

/// What is known of a process only after somebody outside has been asked. Where the answer does not come in time, the
/// alert goes out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The image of its container: `docker.io/library/nginx@sha256:…` or `docker.io/library/nginx:1.27`.
    pub image: Option<String>,
    /// SHA-256 of the executable, hexadecimal.
    pub sha256: Option<String>,
    /// The package that the executable is of, unchanged since.
    pub package: Option<String>,
}

impl Known {
    /// Whether there is anything.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.image.is_none() && self.sha256.is_none() && self.package.is_none()
    }
}

/// What an exception lets through. What is `None` or empty may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Name of the server.
    pub server: Option<String>,
    /// Its role.
    pub role: Option<String>,
    /// The program: one of these files.
    pub executables: Vec<Vec<u8>>,
    /// Its words, every one, `argv[0]` first.
    pub argv: Vec<Word>,
    /// Its working directory.
    pub directory: Option<Place>,
    /// Its effective user.
    pub user: Option<u32>,
    /// What its creator runs.
    pub parent: Option<Vec<u8>>,
    /// The file: its whole path.
    pub file: Option<Template>,
    /// What is done to the file: any of these.
    pub actions: Vec<String>,
    /// What else it has to be.
    pub known: Known,
    /// What else would take it out of reach.
    pub despite: Barriers,
}

impl Shape {
    /// Whether it is what was done.
    #[must_use]
    pub fn matches(&self, deed: &Deed) -> bool {
        let server = deed.server.as_ref();
        let file = match (&self.file, &deed.file) {
            (None, None) => true,
            (Some(template), Some((path, action))) => {
                template.matches(path) && (self.actions.is_empty() || self.actions.contains(action))
            }
            (None, Some(_)) | (Some(_), None) => false,
        };
        file && deed.barriers.within(self.despite)
            && is(self.server.as_ref(), server.map(|(name, _)| name))
            && is(self.role.as_deref().as_ref(), server.map(|(_, role)| role))
            && (self.executables.is_empty() || self.executables.contains(&deed.executable))
            && (self.argv.is_empty()
                || (self.argv.len() == deed.argv.len()
                    && self
                        .argv
                        .iter()
                        .zip(&deed.argv)
                        .all(|(word, given)| word.matches(given))))
            && self
                .directory
                .as_ref()
                .is_none_or(|place| place.holds(&deed.directory))
            && is(self.user.as_ref(), deed.user.as_ref())
            && is(self.parent.as_ref(), Some(&deed.parent))
    }
}

fn is<T: PartialEq + ?Sized>(wanted: Option<&T>, given: Option<&T>) -> bool {
    wanted.is_none() || wanted == given
}

impl Place {
    fn holds(&self, directory: &[u8]) -> bool {
        match self {
            Self::Exactly(path) => path == directory,
            Self::Below(path) => directory
                .strip_prefix(path.as_slice())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")),
        }
    }
}

/// An exception.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Its id.
    pub id: String,
    /// What becomes of what it lets through.
    pub verb: Verb,
    /// Who answers for it.
    pub owner: String,
    /// Why it is.
    pub reason: String,
    /// Up to when it holds, nanoseconds since the Unix epoch; `None` for ever.
    pub until: Option<i128>,
    /// The rules that it is about.
    pub rules: Vec<String>,
    /// What it lets through.
    pub shape: Shape,
    /// Deeds that it lets through, for who tests it.
    pub suppressed: Vec<Deed>,
    /// Deeds much like those that are alerts still.
    pub still_alerts: Vec<Deed>,
}

impl Exception {
    /// Whether it is about a deed that a rule matched.
    #[must_use]
    pub fn covers(&self, rule: &str, deed: &Deed) -> bool {
        self.rules.iter().any(|id| id == rule) && self.shape.matches(deed)
    }

    /// Whether it holds at a time, nanoseconds since the Unix epoch.
    #[must_use]
    pub fn holds(&self, wall_ns: i128) -> bool {
        self.until.is_none_or(|until| wall_ns < until)
    }
}

/// Exceptions that were loaded together. They are replaced whole.
#[derive(Default)]
pub struct ExceptionSet {
    all: Vec<Arc<Exception>>,
    /// Those of processes, by executable.
    by_executable: HashMap<Vec<u8>, Vec<usize>>,
    /// Those of files, by the directory that all their paths are below.
    by_directory: HashMap<Vec<u8>, Vec<usize>>,
}

impl fmt::Debug for ExceptionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.all.iter().map(|exception| &exception.id);
        f.debug_list().entries(ids).finish()
    }
}

impl ExceptionSet {
    /// Those that ship with the agent alone.
    #[must_use]
    pub fn shipped() -> Arc<Self> {
        static SET: LazyLock<Arc<ExceptionSet>> = LazyLock::new(|| {
            // What is wrong in them a test finds; at run time the others still hold.
            let (set, _errors) = ExceptionSet::load(&shipped_sources());
            Arc::new(set)
        });
        Arc::clone(&SET)
    }

    /// Reads exceptions. Those with errors are left out and told.
    #[must_use]
    pub fn load(sources: &[Source]) -> (Self, Vec<RuleError>) {
        let mut set = Self::default();
        let mut errors = Vec::new();
        let mut ids = HashMap::new();
        for source in sources {
            for (line, exception) in load(source, &mut errors) {
                if let Some(other) = ids.insert(exception.id.clone(), &source.file) {
                    let id = &exception.id;
                    let message = format!("there is an exception {id} already, in {other}");
                    errors.push(source.error(line, message));
                } else if set.all.len() >= MOST {
                    let message = format!("there are more than {MOST} exceptions");
                    errors.push(source.error(line, message));
                } else {
                    set.add(exception);
                }
            }
        }
        (set, errors)
    }

    fn add(&mut self, exception: Exception) {
        let at = self.all.len();
        let shape = &exception.shape;
        if let Some(file) = &shape.file {
            let directory = path::parent(file.beginning()).to_vec();
            self.by_directory.entry(directory).or_default().push(at);
        } else {
            for executable in &shape.executables {
                let known = self.by_executable.entry(executable.clone()).or_default();
                known.push(at);
            }
        }
        self.all.push(Arc::new(exception));
    }

    /// All of them, in the order in which they were read.
    #[must_use]
    pub fn all(&self) -> &[Arc<Exception>] {
        &self.all
    }

    /// Those that cover a deed, in the order in which they were read: each with its place among all.
    pub fn covering<'a>(
        &'a self,
        rule: &'a str,
        deed: &'a Deed,
    ) -> impl Iterator<Item = (usize, &'a Arc<Exception>)> {
        let mut places: Vec<usize> = Vec::new();
        if let Some((file, _)) = &deed.file {
            let mut directory = file.as_slice();
            while let Some(end) = directory.iter().rposition(|&byte| byte == b'/') {
                directory = directory.get(..end).unwrap_or_default();
                let key = if directory.is_empty() {
                    b"/"
                } else {
                    directory
                };
                places.extend(self.by_directory.get(key).into_iter().flatten());
            }
        } else {
            let known = self.by_executable.get(&deed.executable);
            places.extend(known.into_iter().flatten());
        }
        places.sort_unstable();
        let all = places
            .into_iter()
            .filter_map(|at| Some((at, self.all.get(at)?)));
        all.filter(move |(_, exception)| exception.covers(rule, deed))
    }
}

/// What exceptions make of a match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Excuse {
    /// It is an alert.
    None,
    /// It is none.
    Now(Verb),
    /// It is none, if what is asked for is as one of these says.
    Perhaps(Vec<Arc<Exception>>),
}

/// The exceptions in use, and how often each was needed.
pub struct Exceptions {
    set: Arc<ExceptionSet>,
    hits: Vec<u64>,
    /// Wall time of boot, nanoseconds since the Unix epoch.
    boot_wall_ns: i128,
    suppressed: u64,
    ignored: u64,
    expired: u64,
}

impl Default for Exceptions {
    fn default() -> Self {
        let mut all = Self {
            set: Arc::default(),
            hits: Vec::new(),
            boot_wall_ns: 0,
            suppressed: 0,
            ignored: 0,
            expired: 0,
        };
        all.replace(ExceptionSet::shipped());
        all
    }
}

impl Exceptions {
    /// Takes others. What has the same id keeps its count.
    pub fn replace(&mut self, set: Arc<ExceptionSet>) {
        let counts: HashMap<String, u64> = self
            .hits()
            .map(|(exception, hits)| (exception.id.clone(), hits))
            .collect();
        let count = |exception: &Arc<Exception>| counts.get(&exception.id).copied().unwrap_or(0);
        self.hits = set.all.iter().map(count).collect();
        self.set = set;
    }

    /// Learns the wall time of boot.
    pub const fn set_clock(&mut self, boot_wall_ns: i128) {
        self.boot_wall_ns = boot_wall_ns;
    }

    /// Those in use.
    #[must_use]
    pub const fn set(&self) -> &Arc<ExceptionSet> {
        &self.set
    }

    /// How often each was needed.
    pub fn hits(&self) -> impl Iterator<Item = (&Arc<Exception>, u64)> {
        self.set.all.iter().zip(self.hits.iter().copied())
    }

    /// Whether a deed that a rule matched is no alert, at a kernel time: counted, where it is not.
    pub fn excuse(&mut self, rule: &str, deed: &Deed, boot_ns: u64) -> Excuse {
        let now = self.boot_wall_ns + i128::from(boot_ns);
        let set = Arc::clone(&self.set);
        let mut is_expired = false;
        // One that need not ask anybody goes before.
        let held = set
            .covering(rule, deed)
            .filter(|(_, exception)| {
                let holds = exception.holds(now);
                is_expired |= !holds;
                holds
            })
            .min_by_key(|(at, exception)| (!exception.shape.known.is_empty(), *at));
        let Some((_, exception)) = held else {
            self.expired += u64::from(is_expired);
            return Excuse::None;
        };
        if exception.shape.known.is_empty() {
            let verb = exception.verb;
            self.count(&exception.id, verb);
            return Excuse::Now(verb);
        }
        let all = set.covering(rule, deed).map(|(_, exception)| exception);
        Excuse::Perhaps(
            all.filter(|exception| exception.holds(now))
                .cloned()
                .collect(),
        )
    }

    /// Counts what an exception let through.
    pub fn count(&mut self, id: &str, verb: Verb) {
        let at = self.set.all.iter().position(|known| known.id == id);
        if let Some(hits) = at.and_then(|at| self.hits.get_mut(at)) {
            *hits += 1;
        }
        match verb {
            Verb::Suppress => self.suppressed += 1,
            Verb::Ignore => self.ignored += 1,
        }
    }

    /// Counts by name.
    pub fn counts(&self) -> [(&'static str, u64); 4] {
        [
            ("exceptions", self.set.all.len() as u64),
            ("alerts_excepted", self.suppressed + self.ignored),
            ("alerts_ignored", self.ignored),
            ("alerts_of_expired_exceptions", self.expired),
        ]
    }
}

/// The files of those that ship with the agent.
#[must_use]
pub fn shipped_sources() -> Vec<Source> {
    let mut sources: Vec<Source> = SHIPPED
        .files()
        .filter_map(|file| {
            let name = file.path().to_string_lossy().into_owned();
            let text = file.contents_utf8().filter(|_| name.ends_with(".yml"))?;
            Some(Source::new(super::sigma::PACK_NAME, name, text))
        })
        .collect();
    sources.sort_by(|one, other| one.file.cmp(&other.file));
    sources
}

#[cfg(test)]
mod tests;
