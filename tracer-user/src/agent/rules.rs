//! Rules that are taken anew while the agent runs: at SIGHUP, and when a file of theirs has changed.
//!
//! Every few seconds the directories are looked at, by names and times of their files, on a thread
//! [apart](super::apart): a change is found whatever made it, a link of a mounted ConfigMap too, that inotify would
//! have to be told of for each name. What has changed is read and compiled there. Rules are taken whole: where anything
//! is wrong, those before hold on, and that is told. Refuses to take what changed while it was read; it is read again.

use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::apart::{Apart, Limits, Word};
use super::host;
use super::owner::Owner;
use crate::config;
use crate::detect::sigma::RuleError;
use crate::source::rules::{Loaded, load, print};
use crate::source::{Input, RulesRejected};

/// How often directories are looked at.
const AGAIN: Duration = Duration::from_secs(5);

const LIMITS: Limits = Limits {
    at_once: 1,
    stuck: 1,
    patience: Duration::from_secs(60),
};

/// Longest text of an error that is told in a document.
const ERROR_BYTES: usize = 1024;

/// The rules to begin with, and where they are from.
pub struct RulesOptions {
    /// What the configuration says.
    pub config: config::Rules,
    /// What it came to; `None` where the pack alone holds.
    pub loaded: Option<Loaded>,
}

/// See the module.
pub(super) struct Rules {
    config: config::Rules,
    /// Of the files as they were read last, whether they could be taken or not.
    print: u64,
    hangup: Option<Signal>,
    apart: Apart<Looked>,
    is_looking: bool,
    /// Somebody asked, and will be told even where nothing has changed.
    is_asked: bool,
    due: Instant,
}

/// What a look came to.
enum Looked {
    /// All is as it was.
    Same,
    /// Something changed while it was read.
    Moving,
    /// Rules, whether right or wrong.
    Read(Box<Loaded>),
}

impl Rules {
    /// Begins with what was read, which is an input where the pack is not all.
    pub(super) fn new(options: RulesOptions) -> (Self, Option<Input>) {
        let RulesOptions { config, loaded } = options;
        let print = loaded.as_ref().map_or(0, |loaded| loaded.print);
        let first = loaded.map(|loaded| Input::Rules {
            boot_ns: host::boot_ns(),
            chosen: Arc::new(loaded.chosen),
        });
        let hangup = signal(SignalKind::hangup());
        if let Err(error) = &hangup {
            eprintln!("tracer: rules are not read again at SIGHUP: {error}");
        }
        let rules = Self {
            config,
            print,
            hangup: hangup.ok(),
            apart: Apart::new("tracer-rules", LIMITS),
            is_looking: false,
            is_asked: false,
            due: Instant::now() + AGAIN,
        };
        (rules, first)
    }

    /// Has the directories looked at, when it is time or somebody asked.
    pub(super) fn refresh(&mut self) {
        let now = Instant::now();
        let is_due = self.due <= now && !self.config.directories.is_empty();
        if self.is_looking || !(is_due || self.is_asked) {
            return;
        }
        self.due = now + AGAIN;
        self.is_looking = true;
        let config = self.config.clone();
        let known = (!self.is_asked).then_some(self.print);
        self.apart
            .ask(0, Owner::Host, move |_| look(&config, known));
    }

    /// Waits for rules to take, or for why not to. Cancel safe.
    pub(super) async fn found(&mut self) -> Input {
        loop {
            let hangup = async {
                match &mut self.hangup {
                    Some(hangup) => hangup.recv().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                _ = hangup => {
                    self.is_asked = true;
                    self.refresh();
                }
                (_, word) = self.apart.told() => {
                    if let Some(input) = self.heard(word) {
                        return input;
                    }
                }
            }
        }
    }

    fn heard(&mut self, word: Word<Looked>) -> Option<Input> {
        let looked = match word {
            Word::Done(looked) => looked,
            Word::Stuck(_) => {
                eprintln!(
                    "tracer: the directories of rules do not answer; the rules stay as they are"
                );
                return None; // looked at again when they do
            }
            Word::Hopeless | Word::Refused(_) => Looked::Moving,
        };
        self.is_looking = false;
        let Looked::Read(loaded) = looked else {
            return None;
        };
        self.is_asked = false;
        self.print = loaded.print;
        let boot_ns = host::boot_ns();
        let mut wrong = loaded.errors.iter().filter(|error| !error.unsupported);
        let Some(first) = wrong.next() else {
            return Some(Input::Rules {
                boot_ns,
                chosen: Arc::new(loaded.chosen),
            });
        };
        Some(Input::RulesRejected(RulesRejected {
            boot_ns,
            wrong: wrong.count() as u64 + 1,
            unsupported: loaded.chosen.unsupported() as u64,
            error: shortened(first),
        }))
    }
}

fn look(config: &config::Rules, known: Option<u64>) -> Looked {
    let directories: &[PathBuf] = &config.directories;
    let before = print(directories);
    if known == Some(before) {
        return Looked::Same;
    }
    let loaded = load(directories, config.disabled.clone());
    if loaded.print == before && print(directories) == before {
        Looked::Read(Box::new(loaded))
    } else {
        Looked::Moving
    }
}

fn shortened(error: &RuleError) -> String {
    let mut text = error.to_string();
    let end = (0..=ERROR_BYTES.min(text.len())).rev();
    let end = end.into_iter().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or_default());
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    const GOOD: &str = "title: A rule\nid: mine\nlogsource: {product: linux, category: process_creation}\n\
                        detection:\n  s:\n    Image|endswith: /sh\n  condition: s\n";

    fn read(config: &config::Rules, known: Option<u64>) -> Box<Loaded> {
        match look(config, known) {
            Looked::Read(loaded) => loaded,
            Looked::Same => panic!("nothing has changed"),
            Looked::Moving => panic!("nobody writes"),
        }
    }

    #[test]
    fn only_what_has_changed_is_read_unless_somebody_asks() {
        let home = TempDir::new().unwrap();
        fs::write(home.path().join("a.yml"), GOOD).unwrap();
        let config = config::Rules {
            directories: vec![home.path().to_owned()],
            disabled: vec!["server-shell".to_owned()],
        };
        let first = read(&config, None);
        let set = first.chosen.set();
        assert!(set.get("mine").is_some() && set.get("server-shell").is_none());
        assert!(matches!(look(&config, Some(first.print)), Looked::Same));
        assert_eq!(read(&config, None).print, first.print);
        fs::write(home.path().join("a.yml"), format!("{GOOD}level: high\n")).unwrap();
        assert_ne!(read(&config, Some(first.print)).print, first.print);
    }

    #[tokio::test]
    async fn rules_come_whole_or_are_rejected_with_the_reason() {
        let home = TempDir::new().unwrap();
        let file = home.path().join("a.yml");
        fs::write(&file, GOOD).unwrap();
        let config = config::Rules {
            directories: vec![home.path().to_owned()],
            disabled: Vec::new(),
        };
        let loaded = Some(*read(&config, None));
        let (mut rules, first) = Rules::new(RulesOptions { config, loaded });
        assert!(matches!(first, Some(Input::Rules { .. })));
        let mut next = async |text: &str| {
            fs::write(&file, text).unwrap();
            rules.due = Instant::now();
            rules.refresh();
            let found = tokio::time::timeout(Duration::from_secs(60), rules.found());
            found.await.expect("a look at one file ends")
        };
        let Input::RulesRejected(rejected) = next("title: [\n").await else {
            panic!("it is no rule");
        };
        assert_eq!((rejected.wrong, rejected.unsupported), (1, 0));
        assert!(rejected.error.contains("a.yml:"), "{}", rejected.error);
        let Input::Rules { chosen, .. } = next(&GOOD.replace("mine", "other")).await else {
            panic!("it is a rule");
        };
        assert!(chosen.set().get("other").is_some() && chosen.set().get("mine").is_none());
    }
}
