//! Hashes of files and whose they are, on threads [apart](super::apart), two at a time of each. What was hashed
//! before and has not changed since is not read again. Bounded: where too many wait, the newest is answered by
//! nothing.
//!
//! A hash does not wait for the package: an executable is answered twice, first with what is in it. Packages of
//! one root directory are looked up in turn, as the first of them reads its database; that of the host is read
//! when the agent starts.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::apart::{Apart, Limits, Word};
use super::owner::{self, Owner};
use crate::enrich::content::package::Packages;
use crate::enrich::content::read::{Hashed, Stamp, content};
use crate::enrich::content::{Content, ContentAsked, HashLimits, Moment, Package};
use crate::enrich::docroot::discover::Entered;
use crate::event::ProcessKey;
use crate::source::{Input, snapshot};

/// Hashes kept.
const KNOWN: usize = 8192;

/// Files that wait for their turn.
const WAITING: usize = 1024;

/// Executables that wait for their package: each holds two descriptors.
const LOOKED_UP: usize = 128;

/// The number of what nobody asked for.
const UNASKED: u64 = 0;

const LIMITS: Limits = Limits {
    at_once: 2,
    stuck: 8,
    patience: Duration::from_secs(5),
};

pub(super) struct Contents {
    limits: HashLimits,
    hashing: Apart<Option<Hashed>>,
    asked: u64,
    waiting: HashMap<u64, ContentAsked>,
    refused: VecDeque<Moment>,
    known: Arc<Mutex<HashMap<Stamp, [u8; 32]>>>,
    packages: Arc<Packages>,
    looking: Apart<Package>,
    /// What was hashed and waits for its package.
    looked_up: HashMap<u64, (Moment, Content)>,
}

impl Contents {
    pub(super) fn new(limits: HashLimits) -> Self {
        Self {
            limits,
            hashing: Apart::new("tracer-hash", LIMITS),
            asked: UNASKED,
            waiting: HashMap::new(),
            refused: VecDeque::new(),
            known: Arc::default(),
            packages: Arc::default(),
            looking: Apart::new("tracer-package", LIMITS).in_turn(),
            looked_up: HashMap::new(),
        }
    }

    /// Begins to read the host's package database, where executables are hashed.
    pub(super) fn prepare(&mut self) {
        let Some(mnt_ns) = owner::host_mounts().filter(|_| self.limits.executable > 0) else {
            return;
        };
        let packages = Arc::clone(&self.packages);
        self.looking.ask(UNASKED, Owner::Root(mnt_ns), move |at| {
            let init = snapshot::started(Path::new("/proc"), 1).map(|start_ticks| ProcessKey {
                tgid: 1,
                start_ticks,
            });
            // Where that is not to be entered, the first who is asked for reads it.
            if let Some(Ok(init)) = init.map(|init| Entered::new(init, mnt_ns)) {
                packages.prepare(&init, mnt_ns, at);
            }
            Package::Unknown
        });
    }

    /// Begins to find out what is in a file. The answers come by [`Self::found`].
    pub(super) fn ask(&mut self, asked: ContentAsked) {
        if self.waiting.len() >= WAITING {
            self.refused.push_back(asked.moment);
            return;
        }
        self.asked += 1;
        self.waiting.insert(self.asked, asked.clone());
        let (limits, known) = (self.limits, Arc::clone(&self.known));
        self.hashing.ask(self.asked, owner(&asked), move |at| {
            let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
            let recall = |stamp: &Stamp| lock().get(stamp).copied();
            let hashed = content(&asked, limits, &recall, at)?;
            let mut known = lock();
            if known.len() >= KNOWN {
                known.clear();
            }
            known.insert(hashed.stamp, hashed.content.sha256);
            Some(hashed)
        });
    }

    /// Waits for the next answer. Cancel safe.
    pub(super) async fn found(&mut self) -> Input {
        if let Some(moment) = self.refused.pop_front() {
            return Input::Content {
                moment,
                content: None,
            };
        }
        // One that was given up has its answer already.
        loop {
            tokio::select! {
                (number, word) = self.hashing.told() => {
                    if let Some(asked) = self.waiting.remove(&number) {
                        let moment = asked.moment;
                        let content = done(word).flatten();
                        let content = content.map(|hashed| self.hashed(number, asked, hashed));
                        return Input::Content { moment, content };
                    }
                }
                (number, word) = self.looking.told() => {
                    if let Some((moment, content)) = self.looked_up.remove(&number) {
                        let package = done(word).unwrap_or_default();
                        let content = Some(Content { package, ..content });
                        return Input::Content { moment, content };
                    }
                }
            }
        }
    }

    /// Begins to look up the package, where that is to be.
    fn hashed(&mut self, number: u64, asked: ContentAsked, hashed: Hashed) -> Content {
        let Hashed {
            mut content,
            entered,
            ..
        } = hashed;
        if !content.package.is_pending() {
            return content;
        }
        if self.looked_up.len() >= LOOKED_UP {
            content.package = Package::Unknown;
            return content;
        }
        self.looked_up
            .insert(number, (asked.moment, content.clone()));
        let packages = Arc::clone(&self.packages);
        self.looking.ask(number, owner(&asked), move |at| {
            packages.owner(&entered, &asked, at)
        });
        content
    }
}

/// Whose it is is not known, but where: that is who can make it hang.
const fn owner(asked: &ContentAsked) -> Owner {
    Owner::Root(asked.mnt_ns)
}

fn done<T>(word: Word<T>) -> Option<T> {
    match word {
        Word::Done(value) => Some(value),
        Word::Stuck(_) | Word::Hopeless | Word::Refused(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::enrich::content::Is;
    use crate::enrich::docroot::discover::identity;

    const LIMITS: HashLimits = HashLimits {
        executable: 1 << 30,
        written: 1 << 30,
    };

    fn program() -> std::path::PathBuf {
        Path::new("/bin/sh").canonicalize().unwrap()
    }

    /// A program that this process sees, as a question of this number.
    fn own(number: u64) -> ContentAsked {
        let tgid = std::process::id();
        let started = snapshot::started(Path::new("/proc"), tgid);
        let link = std::fs::read_link("/proc/self/ns/mnt").unwrap();
        let mnt_ns = link.to_str().unwrap().trim_start_matches("mnt:[");
        let mnt_ns = mnt_ns.trim_end_matches(']').parse().unwrap();
        let start_ticks = started.unwrap();
        let key = ProcessKey { tgid, start_ticks };
        let entered = Entered::new(key, mnt_ns).unwrap();
        let path = program().as_os_str().as_encoded_bytes().to_vec();
        let place = entered.jail().place(&path).unwrap();
        let file = identity::of(entered.process(), &place).unwrap();
        ContentAsked {
            moment: Moment {
                file,
                boot_ns: number,
            },
            is: Is::Executable,
            path,
            mnt_ns,
            processes: vec![key],
        }
    }

    async fn found(contents: &mut Contents) -> (u64, Content) {
        let found = tokio::time::timeout(Duration::from_secs(60), contents.found());
        let Input::Content { moment, content } = found.await.unwrap() else {
            panic!("nothing else is told")
        };
        (moment.boot_ns, content.unwrap())
    }

    #[tokio::test]
    async fn the_hash_is_told_before_the_package_is_known() {
        let bytes = std::fs::read(program()).unwrap();
        let sha256: [u8; 32] = Sha256::digest(bytes).into();
        let mut contents = Contents::new(LIMITS);
        // Somebody's database of this root never comes to its end.
        let (end, hung) = std::sync::mpsc::channel::<()>();
        let asked = own(1);
        contents.looking.ask(UNASKED, owner(&asked), move |_| {
            let _ended = hung.recv();
            Package::Unknown
        });
        contents.ask(asked);
        let (number, first) = found(&mut contents).await;
        assert_eq!((number, first.sha256), (1, sha256));
        assert_eq!(first.package, Package::Pending);
        drop(end);
        let (number, second) = found(&mut contents).await;
        assert_eq!((number, second.sha256), (1, sha256));
        assert!(!second.package.is_pending());
        // Who asks for what is not to be looked up is answered once.
        let written = Is::Written;
        contents.ask(ContentAsked {
            is: written,
            ..own(2)
        });
        contents.ask(own(3));
        let mut answers = Vec::new();
        for _ in 0..3 {
            let (number, content) = found(&mut contents).await;
            answers.push((number, content.package.is_pending()));
        }
        answers.sort_unstable();
        assert_eq!(answers, [(2, false), (3, false), (3, true)]);
    }

    #[tokio::test]
    async fn too_many_that_wait_have_no_package() {
        let mut contents = Contents::new(LIMITS);
        let (end, hung) = std::sync::mpsc::channel::<()>();
        contents.looking.ask(UNASKED, owner(&own(0)), move |_| {
            let _ended = hung.recv();
            Package::Unknown
        });
        let all = LOOKED_UP as u64 + 3;
        for number in 0..all {
            contents.ask(own(number));
        }
        let mut unknown = 0;
        for _ in 0..all {
            let (_, content) = found(&mut contents).await;
            unknown += u32::from(content.package == Package::Unknown);
        }
        assert_eq!(unknown, 3);
        drop(end);
    }

    #[tokio::test]
    async fn the_database_of_the_host_is_read_at_the_start() {
        let mut contents = Contents::new(LIMITS);
        contents.prepare();
        let told = tokio::time::timeout(Duration::from_secs(60), contents.looking.told());
        let (number, word) = told.await.unwrap();
        assert_eq!((number, done(word)), (UNASKED, Some(Package::Unknown)));
        let has_dpkg = Path::new("/var/lib/dpkg/info").is_dir();
        let may = std::fs::read_dir("/proc/1/root/").is_ok();
        assert_eq!(contents.packages.is_prepared(), has_dpkg && may);
        let mut none = Contents::new(HashLimits {
            executable: 0,
            written: 0,
        });
        none.prepare();
        assert!(!none.looking.is_busy());
    }
}
