//! Names of users and groups, by mount namespace: the host's own, and those of every other that a process
//! is seen in.
//!
//! The host's are read by this task, as nobody but root can put anything in their place. All others are
//! read through a process there, on threads [apart](super::apart), two at a time, and looked at again
//! every minute. Bounded: of the namespaces the one that was asked for longest ago is followed no more.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use super::apart::{Apart, Limits, Word};
use super::owner::{Owner, host_mounts};
use crate::enrich::user::known::TABLES;
use crate::enrich::user::load::{Look, Stamps, UserFiles, look};
use crate::enrich::user::{Users, Whose};
use crate::event::ProcessKey;
use crate::pipeline::NamesAsked;
use crate::source::{Names, NamesStep};

/// How often files are looked at again.
const AGAIN: Duration = Duration::from_secs(60);

/// Names of one input: what fits into a frame of a capture, whatever their length.
const AT_ONCE: usize = 128;

const LIMITS: Limits = Limits {
    at_once: 2,
    stuck: 8,
    patience: Duration::from_secs(5),
};

pub(super) struct NameSpaces {
    files: UserFiles,
    host: u32,
    /// Said that the host's database cannot be read.
    nameless: bool,
    known: HashMap<Whose, Known>,
    asked: u64,
    apart: Apart<Told>,
    waiting: VecDeque<Names>,
}

type Told = (Whose, Option<Look>);

struct Known {
    processes: Vec<ProcessKey>,
    stamps: Option<Stamps>,
    /// The order of asking.
    asked: u64,
    /// The number of the reading that is under way.
    reading: Option<u64>,
    /// Whether the pipeline waits for it.
    owed: bool,
    due: Instant,
}

impl NameSpaces {
    pub(super) fn new() -> Self {
        Self {
            files: UserFiles::new(Path::new("/")),
            host: host_mounts().unwrap_or(0),
            nameless: false,
            known: HashMap::new(),
            asked: 0,
            apart: Apart::new("tracer-users", LIMITS),
            waiting: VecDeque::new(),
        }
    }

    /// The host's names, where they are new or have changed; and has others looked at when it is time.
    pub(super) fn refresh(&mut self) -> Vec<Names> {
        let now = Instant::now();
        let due = |known: &Known| known.reading.is_none() && known.due <= now;
        let due = self.known.iter().filter(|(_, known)| due(known));
        let due: Vec<Whose> = due.map(|(whose, _)| *whose).collect();
        for whose in due {
            self.begin(whose);
        }
        match self.files.refresh() {
            Ok(false) => Vec::new(),
            Ok(true) => {
                let whose = Whose {
                    mnt_ns: self.host,
                    user_ns: 0,
                };
                pieces(whose, self.files.users())
            }
            // Said once: names are then absent, numbers are not.
            Err(error) => {
                if !std::mem::replace(&mut self.nameless, true) {
                    eprintln!("tracer: {error}");
                }
                Vec::new()
            }
        }
    }

    /// Begins to read the names of a namespace. The answer comes by [`Self::found`].
    pub(super) fn ask(&mut self, asked: NamesAsked) {
        let NamesAsked { whose, processes } = asked;
        self.asked += 1;
        if self.known.len() >= TABLES && !self.known.contains_key(&whose) {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.asked);
            if let Some(oldest) = oldest.map(|(whose, _)| *whose) {
                self.known.remove(&oldest);
            }
        }
        let known = self.known.entry(whose).or_insert_with(|| Known {
            processes: Vec::new(),
            stamps: None,
            asked: 0,
            reading: None,
            owed: true,
            due: Instant::now(),
        });
        known.asked = self.asked;
        known.processes = processes;
        // Who asks does not know them, or not any more.
        (known.stamps, known.owed) = (None, true);
        self.begin(whose);
    }

    fn begin(&mut self, whose: Whose) {
        self.asked += 1;
        let number = self.asked;
        let Some(known) = self.known.get_mut(&whose) else {
            return;
        };
        known.due = Instant::now() + AGAIN;
        if let Some(before) = known.reading.replace(number) {
            self.apart.withdraw(before);
        }
        let (processes, stamps) = (known.processes.clone(), known.stamps);
        // Whose it is is not known, but where: that is who can make it hang.
        let owner = Owner::Root(whose.mnt_ns);
        let read = move |_: &_| (whose, look(whose, &processes, stamps));
        self.apart.ask(number, owner, read);
    }

    /// Waits for the next names. Cancel safe.
    pub(super) async fn found(&mut self) -> Names {
        loop {
            if let Some(names) = self.waiting.pop_front() {
                return names;
            }
            let (number, word) = self.apart.told().await;
            let read = |(_, known): &(&Whose, &mut Known)| known.reading == Some(number);
            // One that was given up, or that nobody waits for any more, has its answer already.
            let Some((whose, known)) = self.known.iter_mut().find(read) else {
                continue;
            };
            let whose = *whose;
            known.reading = None;
            let owed = std::mem::take(&mut known.owed);
            match word {
                Word::Done((_, Some(Look::Same))) => {}
                Word::Done((_, Some(Look::Names(users, stamps)))) => {
                    known.stamps = Some(stamps);
                    self.waiting.extend(pieces(whose, &users));
                }
                Word::Done((_, None)) | Word::Stuck(_) | Word::Hopeless | Word::Refused(_) => {
                    // What was read before may still hold, for those that live on.
                    self.known.remove(&whose);
                    self.waiting.extend(owed.then_some(Names {
                        whose,
                        step: NamesStep::Fail,
                        more: false,
                        names: Vec::new(),
                    }));
                }
            }
        }
    }
}

/// All names of a namespace, in as many inputs as they need.
fn pieces(whose: Whose, users: &Users) -> Vec<Names> {
    let names = users.names();
    // One also where there are none: then there are none any more.
    let pieces = names.len().div_ceil(AT_ONCE).max(1);
    let mut rest = names.into_iter();
    (1..=pieces)
        .map(|piece| Names {
            whose,
            step: if piece == 1 {
                NamesStep::Replace
            } else {
                NamesStep::Add
            },
            more: piece < pieces,
            names: rest.by_ref().take(AT_ONCE).collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_come_in_pieces() {
        let whose = Whose {
            mnt_ns: 1,
            user_ns: 2,
        };
        let mut users = Users::default();
        assert_eq!(
            pieces(whose, &users),
            [Names {
                whose,
                step: NamesStep::Replace,
                more: false,
                names: Vec::new()
            }]
        );
        for id in 0..300 {
            users.insert(false, id, "x");
        }
        let pieces = pieces(whose, &users);
        let shape: Vec<_> = pieces
            .iter()
            .map(|names| (names.step, names.more, names.names.len()))
            .collect();
        let (replace, add) = (NamesStep::Replace, NamesStep::Add);
        assert_eq!(
            shape,
            [(replace, true, 128), (add, true, 128), (add, false, 44)]
        );
    }

    #[tokio::test]
    async fn names_are_read_through_a_process_that_lives() {
        let host = host_mounts().unwrap();
        let user_ns = link("self", "user");
        let tgid = std::process::id();
        let start = crate::source::snapshot::started(Path::new("/proc"), tgid).unwrap();
        let own = ProcessKey {
            tgid,
            start_ticks: start,
        };
        let another = ProcessKey {
            tgid,
            start_ticks: start + 1,
        };
        let whose = Whose {
            mnt_ns: link("self", "mnt"),
            user_ns,
        };
        assert!(host != 0);
        let mut spaces = NameSpaces::new();
        let asked = |whose, processes| NamesAsked { whose, processes };
        spaces.ask(asked(whose, vec![another, own]));
        let names = spaces.found().await;
        assert_eq!((names.whose, names.step), (whose, NamesStep::Replace));
        assert!(names.names.contains(&(false, 0, "root".to_owned())));
        spaces.waiting.clear();
        // Nobody to look through, or in another namespace than is asked for.
        let elsewhere = Whose {
            user_ns: user_ns - 1,
            ..whose
        };
        for (whose, process) in [(whose, another), (elsewhere, own)] {
            spaces.ask(asked(whose, vec![process]));
            assert_eq!(spaces.found().await.step, NamesStep::Fail);
        }
    }

    fn link(process: &str, kind: &str) -> u32 {
        let link = std::fs::read_link(format!("/proc/{process}/ns/{kind}")).unwrap();
        let text = link.to_str().unwrap();
        let number = text.trim_start_matches(&format!("{kind}:["));
        number.trim_end_matches(']').parse().unwrap()
    }
}
