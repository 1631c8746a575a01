//! What the pipeline says when it is asked: trees, servers, counts. Views of its own, so that who asked
//! may take its time with them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Pipeline, Totals};
use crate::alert::{Directory, HostFacts, ProcessView};
use crate::event::ProcessKey;
use crate::lineage::process::{Image, Process};
use crate::lineage::servers::{ServerView, servers};
use crate::lineage::tree::{Candidate, NoTree, Place, Selector, TreeNode, TreeView, Wrote, grow};

/// Files shown of one process, and of all.
const WROTE: usize = 32;
const WROTE_BY_ALL: usize = 4096;

/// Paths of files shown, bytes.
const WROTE_BYTES: usize = 1 << 20;

/// Servers that are listed: those that have been there longest, which no flood of others takes out.
pub const SERVERS: usize = 1024;

/// Names of servers that are given to who asked for another.
const NAMES: usize = 32;

/// Processes of one number that are named.
const CANDIDATES: usize = 32;

/// What runs on a host that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServersView {
    /// The host.
    pub host: Arc<HostFacts>,
    /// Wall time of boot, nanoseconds since the Unix epoch.
    pub boot_wall_ns: i128,
    /// The servers, in the order in which they were started.
    pub servers: Vec<Listed>,
    /// How many more there are.
    pub left_out: usize,
}

/// A server with what is known around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The server.
    pub server: ServerView,
    /// Its process.
    pub process: ProcessView,
    /// Directories that its configuration names. Who reads that adds them: not known to the pipeline.
    pub directories: Vec<Directory>,
}

/// How the pipeline stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusView {
    /// What happened so far.
    pub totals: Totals,
    /// Counts by name.
    pub counts: Vec<(String, u64)>,
}

/// What a process wrote, and how many files more.
type Written = HashMap<ProcessKey, (Vec<Wrote>, usize)>;

impl Pipeline {
    /// The tree of some processes.
    ///
    /// # Errors
    ///
    /// [`NoTree`] where none or more than one is meant.
    pub fn tree(&self, selector: &Selector) -> Result<TreeView, NoTree> {
        let chosen = self.chosen(selector)?;
        let written = self.written();
        let alerts = self.raised.all().map(|raised| raised.process);
        let marked: HashSet<ProcessKey> = written.keys().copied().chain(alerts).collect();
        let mut room = (WROTE_BY_ALL, WROTE_BYTES);
        let is_special = !matches!(selector, Selector::Servers | Selector::All);
        let places = grow(&self.store, &chosen, &marked).into_iter();
        let nodes = places
            .map(|place| Place {
                chosen: place.chosen && is_special,
                ..place
            })
            .filter_map(|place| self.node(place, &written, &mut room))
            .collect();
        Ok(TreeView {
            host: Arc::clone(&self.host),
            boot_wall_ns: self.boot_wall_ns,
            lost: self.totals.lost,
            nodes,
        })
    }

    /// The servers that run.
    #[must_use]
    pub fn servers(&self) -> ServersView {
        let listed = |server: ServerView| {
            Some(Listed {
                process: self.view(self.store.get(server.key)?),
                server,
                directories: Vec::new(),
            })
        };
        let servers = servers(&self.store);
        ServersView {
            host: Arc::clone(&self.host),
            boot_wall_ns: self.boot_wall_ns,
            left_out: servers.len().saturating_sub(SERVERS),
            servers: servers
                .into_iter()
                .take(SERVERS)
                .filter_map(listed)
                .collect(),
        }
    }

    /// How the pipeline stands.
    #[must_use]
    pub fn status(&self) -> StatusView {
        let counts = self.counts().into_iter();
        let counts = counts.map(|(name, count)| (name.to_owned(), count));
        StatusView {
            totals: self.totals(),
            counts: counts.chain(self.exceptions_needed()).collect(),
        }
    }

    /// How often each exception was needed, of those that were.
    #[must_use]
    pub fn exceptions_needed(&self) -> Vec<(String, u64)> {
        let all = self.detector.exceptions().hits();
        let needed = all.filter(|(_, hits)| *hits > 0);
        needed
            .map(|(exception, hits)| (format!("exception_{}", exception.id), hits))
            .collect()
    }

    fn chosen(&self, selector: &Selector) -> Result<HashSet<ProcessKey>, NoTree> {
        let all = |is_meant: &dyn Fn(&Process) -> bool| -> HashSet<ProcessKey> {
            let processes = self.store.all().filter(|process| is_meant(process));
            processes.map(|process| process.key).collect()
        };
        let some = |found: HashSet<ProcessKey>, none: &dyn Fn() -> NoTree| {
            if found.is_empty() {
                Err(none())
            } else {
                Ok(found)
            }
        };
        match selector {
            Selector::Servers => Ok(all(&|process| has_server(process))),
            Selector::All => Ok(all(&|_| true)),
            Selector::Process(tgid) => {
                let found = all(&|process| process.key.tgid == *tgid);
                if found.len() > 1 {
                    return Err(NoTree::Ambiguous(*tgid, self.candidates(&found)));
                }
                some(found, &|| NoTree::Process(*tgid))
            }
            Selector::Entity(id) => {
                some(all(&|process| self.entity_id(process.key) == *id), &|| {
                    NoTree::Entity(*id)
                })
            }
            Selector::Container(prefix) => {
                let is_in = |process: &Process| {
                    let place = self.store.place(process);
                    place.is_some_and(|place| place.id.starts_with(prefix.as_str()))
                };
                some(all(&is_in), &|| NoTree::Container(prefix.clone()))
            }
            Selector::Server(name) => some(all(&|process| is_server(process, name)), &|| {
                NoTree::Server(name.clone(), self.names_of_servers())
            }),
        }
    }

    fn candidates(&self, found: &HashSet<ProcessKey>) -> Vec<Candidate> {
        let mut keys: Vec<ProcessKey> = found.iter().copied().collect();
        // The latest first: it is mostly the one that is meant.
        keys.sort_unstable_by_key(|key| std::cmp::Reverse(key.start_ticks));
        let processes = keys.iter().filter_map(|key| self.store.get(*key));
        let candidate = |process: &Process| Candidate {
            entity_id: self.entity_id(process.key),
            image: process.image().cloned(),
            started: self.boot_wall_ns + i128::from(process.start_boot_ns),
            ended: process.ended,
        };
        processes.take(CANDIDATES).map(candidate).collect()
    }

    fn names_of_servers(&self) -> Vec<String> {
        let servers = servers(&self.store).into_iter();
        let mut names: Vec<String> = servers.map(|server| server.name).collect();
        names.sort_unstable();
        names.dedup();
        names.truncate(NAMES);
        names
    }

    /// Files by who was the last to write them, the latest first.
    fn written(&self) -> Written {
        let mut written = Written::new();
        for (writer, path) in self.detector.written() {
            let (files, more) = written.entry(writer.process).or_default();
            if files.len() < WROTE {
                let boot_ns = writer.boot_ns;
                files.push(Wrote { path, boot_ns });
            } else {
                *more += 1;
            }
        }
        written
    }

    fn node(&self, place: Place, written: &Written, room: &mut (usize, usize)) -> Option<TreeNode> {
        let Place {
            key,
            depth,
            chosen,
            left_out,
        } = place;
        let process = self.store.get(key)?;
        let (files, more) = written.get(&key).cloned().unwrap_or_default();
        let all = files.len();
        let mut wrote = files;
        wrote.retain(|file| {
            let fits = room.0 > 0 && room.1 >= file.path.len();
            if fits {
                *room = (room.0 - 1, room.1 - file.path.len());
            }
            fits
        });
        wrote.reverse();
        Some(TreeNode {
            depth,
            creator: process
                .creator
                .filter(|_| depth > 0)
                .map(|creator| self.entity_id(creator)),
            parent: process
                .parent
                .filter(|parent| Some(*parent) != process.creator),
            ran: own_images(process),
            tag: process.tag,
            link: process.link,
            chosen,
            // PID 1, or the parent of kernel threads (2), or what the kernel itself started (0).
            is_broken: depth == 0 && key.tgid > 2,
            wrote_more: more + all - wrote.len(),
            wrote,
            alerts: self.raised.of(key).cloned().collect(),
            left_out,
            process: self.view(process),
        })
    }
}

/// Whether a process is a server by what it runs.
fn has_server(process: &Process) -> bool {
    process.image().is_some_and(|image| image.server.is_some())
}

fn own_images(process: &Process) -> Vec<Image> {
    let own = process.images.get(process.inherited..);
    own.unwrap_or_default().to_vec()
}

/// Whether a process is the server of this name, or runs an executable of this name as one.
fn is_server(process: &Process, name: &str) -> bool {
    let Some(image) = process.image() else {
        return false;
    };
    let base = image.exec.exe.rsplit(|&byte| byte == b'/').next();
    image
        .server
        .as_ref()
        .is_some_and(|server| server.name == name || base == Some(name.as_bytes()))
}
