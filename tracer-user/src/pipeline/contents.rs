//! What is in files: asked for when a server or its lineage executes one, and when an alert is about one;
//! kept by the moment, as the same file may hold something else later.

use std::collections::{HashMap, VecDeque};

use super::{ASKED, Command, Pipeline};
use crate::alert::EnrichedEvent;
use crate::enrich::content::{Content, ContentAsked, Is, Moment};
use crate::enrich::facts::Fact;
use crate::event::{Event, Payload, ProcessKey};
use crate::lineage::process::{Image, Process};

/// Files remembered; one that an alert needs again is asked for again.
const CONTENTS: usize = 16_384;

/// What is known of files.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Whether anybody answers.
    pub(super) answered: bool,
    known: HashMap<Moment, Fact<Content>>,
    /// In the order they were asked for.
    order: VecDeque<Moment>,
}

impl Contents {
    pub(super) fn get(&self, moment: Moment) -> Fact<Content> {
        self.known.get(&moment).cloned().unwrap_or_default()
    }

    pub(super) fn answer(&mut self, moment: Moment, content: Option<Content>) {
        if let Some(known) = self.known.get_mut(&moment) {
            *known = content.map_or(Fact::Absent, Fact::Found);
        }
    }

    /// Whether this has to be asked for; it is taken for asked then.
    fn ask(&mut self, moment: Moment) -> bool {
        if !self.answered || moment.file.inode == 0 || self.known.contains_key(&moment) {
            return false;
        }
        if self.order.len() >= CONTENTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(moment);
        self.known.insert(moment, Fact::Pending);
        true
    }
}

/// The executable of a program.
pub(super) fn executable(image: &Image) -> Moment {
    Moment {
        file: image.exec.file,
        boot_ns: image.boot_ns,
    }
}

/// The file that an event gave something to, by what name and where.
pub(super) fn written(event: &Event) -> Option<(Moment, &[u8], u32)> {
    let (file, path, mnt_ns) = match &event.payload {
        Payload::File(file) => (Some(file.file), &file.path, file.mnt_ns),
        Payload::Change(change) => (change.file, &change.new, change.mnt_ns),
        Payload::Fork(_)
        | Payload::Exec(_)
        | Payload::Exit(_)
        | Payload::Socket(_)
        | Payload::Observed(_)
        | Payload::ExecFailed(_)
        | Payload::Credentials(_)
        | Payload::Namespace(_)
        | Payload::Trace(_)
        | Payload::Comm(_) => return None,
    };
    let boot_ns = event.meta.boot_ns;
    let moment = file.map(|file| Moment { file, boot_ns })?;
    Some((moment, path, mnt_ns))
}

impl Pipeline {
    /// Asks for the program that a server, or who descends from one, has begun to run.
    pub(super) fn ask_program(&mut self, event: &Event) {
        if !matches!(event.payload, Payload::Exec(_) | Payload::Observed(_)) {
            return;
        }
        let of_server = self.store.get(event.meta.subject).is_some_and(|process| {
            let is_server = |image: &Image| image.server.is_some();
            process.tag.is_server_lineage() || process.image().is_some_and(is_server)
        });
        if of_server {
            self.ask_executable(event.meta.subject);
        }
    }

    /// Asks for all that an alert shows: the programs of the subject and of those above it, up to the server,
    /// and the file.
    pub(super) fn ask_contents(&mut self, event: &Event, server_depth: Option<usize>) {
        if !self.contents.answered {
            return;
        }
        let chain = self.store.chain(event.meta.subject);
        let chain: Vec<ProcessKey> = chain
            .take(server_depth.unwrap_or(0) + 1)
            .map(|process| process.key)
            .collect();
        for key in chain {
            self.ask_executable(key);
        }
        if let Some((moment, path, mnt_ns)) = written(event)
            && self.contents.ask(moment)
        {
            self.commands.push(Command::Content(ContentAsked {
                moment,
                is: Is::Written,
                path: path.to_vec(),
                mnt_ns,
                processes: self.those_of(event.meta.subject, mnt_ns),
            }));
        }
    }

    fn ask_executable(&mut self, key: ProcessKey) {
        let Some(image) = self.store.get(key).and_then(Process::image).cloned() else {
            return;
        };
        let moment = executable(&image);
        if self.contents.ask(moment) {
            self.commands.push(Command::Content(ContentAsked {
                moment,
                is: Is::Executable,
                path: image.exec.exe.clone(),
                mnt_ns: image.exec.ns.mnt,
                processes: self.those_of(key, image.exec.ns.mnt),
            }));
        }
    }

    /// A process, and those above it that live in the mount namespace.
    fn those_of(&self, key: ProcessKey, mnt_ns: u32) -> Vec<ProcessKey> {
        let lives = |process: &&Process| {
            let image = process.image();
            process.key == key
                || (process.ended.is_none()
                    && image.is_some_and(|image| image.exec.ns.mnt == mnt_ns))
        };
        let chain = self.store.chain(key).filter(lives).take(ASKED);
        chain.map(|process| process.key).collect()
    }
}

/// Puts into an event what is known by now of the files that it shows.
pub(super) fn complete_contents(contents: &Contents, event: &mut EnrichedEvent) {
    for process in event.processes_mut() {
        let lacks = match &process.content {
            Fact::Found(content) => content.package.is_pending(),
            Fact::Pending => true,
            Fact::Absent => false,
        };
        if lacks && let Some(image) = &process.image {
            process.content = contents.get(executable(image));
        }
    }
    if event.content.is_pending()
        && let Some((moment, ..)) = written(&event.event)
    {
        event.content = contents.get(moment);
    }
}
