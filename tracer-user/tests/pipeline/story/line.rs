//! One line of a story: its words, its options, and what they stand for.

use tracer_common::event::{FdInfo, fd_kind};
use tracer_common::tag::{Role, Tag, via};

/// `app/2`, or `app@10/2` of server 10, and `app/0/file` or `app/0/trace` where it came so.
pub(super) fn tag(text: &str) -> Tag {
    let mut parts = text.split('/');
    let role = parts.next().unwrap();
    let (role, server) = role.split_once('@').unwrap_or((role, "0"));
    let role = Role::ALL.iter().find(|known| known.name() == role).unwrap();
    Tag {
        roles: role.bit(),
        server: server.parse().unwrap(),
        distance: parts.next().unwrap().parse().unwrap(),
        via: match parts.next() {
            None => 0,
            Some("file") => via::FILE,
            Some("trace") => via::TRACE,
            Some(other) => panic!("no way {other:?} to a tag"),
        },
        ..Tag::ZERO
    }
}

pub(super) fn descriptor(word: &str) -> FdInfo {
    let socket = |family, state| FdInfo {
        kind: fd_kind::SOCKET,
        family,
        state,
        inode: 77,
        ..FdInfo::ZERO
    };
    match word {
        "connected" => FdInfo {
            remote_addr: *b"\xcb\x00\x71\x05\0\0\0\0\0\0\0\0\0\0\0\0",
            remote_port: 4444,
            ..socket(2, 1)
        },
        "listening" => FdInfo {
            local_port: 9000,
            ..socket(2, 10)
        },
        "unix" => socket(1, 1),
        "unix-listening" => socket(1, 10),
        "pipe" => FdInfo {
            kind: fd_kind::PIPE,
            ..FdInfo::ZERO
        },
        "tty" => FdInfo {
            kind: fd_kind::TTY,
            ..FdInfo::ZERO
        },
        other => panic!("no descriptor {other:?}"),
    }
}

/// A line's words, its options apart.
pub(super) struct Line {
    pub(super) words: Vec<String>,
    options: Vec<(String, String)>,
}

impl Line {
    pub(super) fn new(text: &str) -> Self {
        let (mut words, mut options): (Vec<String>, _) = (Vec::new(), Vec::new());
        for (word, quoted) in split(text) {
            match word.strip_prefix(':') {
                Some(option) if !quoted && words.len() == 2 => {
                    let (name, value) = option.split_once('=').unwrap_or((option, ""));
                    options.push((name.to_owned(), value.to_owned()));
                }
                _ => words.push(word),
            }
        }
        Self { words, options }
    }

    pub(super) fn word(&self, index: usize) -> &str {
        self.words
            .get(index)
            .unwrap_or_else(|| panic!("too few words: {:?}", self.words))
    }

    pub(super) fn number(&self, index: usize) -> u64 {
        self.word(index).parse().unwrap()
    }

    pub(super) fn pid(&self) -> u32 {
        self.word(1).parse().unwrap()
    }

    pub(super) fn option(&self, name: &str) -> Option<&str> {
        self.options
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Words and whether they were quoted.
fn split(text: &str) -> Vec<(String, bool)> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, after, quoted) = match rest.strip_prefix('\'') {
            Some(inner) => {
                let (word, after) = inner.split_once('\'').expect("an unclosed quote");
                (word.replace("\\n", "\n"), after, true)
            }
            None => {
                let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
                (word.to_owned(), after, false)
            }
        };
        words.push((word, quoted));
        rest = after.trim_start();
    }
    words
}
