//! What a tree shows: the processes asked for, their ancestors and their descendants. Pure.
//!
//! Bounded by the number of processes, by the bytes of what they ran, and by depth. What is left out is
//! counted at the process that it is below. What counts is left out last: who was asked for with its
//! ancestors, then who wrote files or raised alerts, then workers of who was asked for, then the rest from the
//! top.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tracer_common::tag::Tag;
use uuid::Uuid;

use super::Store;
use super::process::{Ended, Image, Link, Process};
use crate::alert::{HostFacts, ProcessView, Rule, Severity};
use crate::event::ProcessKey;

/// Processes that a tree shows.
pub const NODES: usize = 4096;

/// Levels below a process that was asked for.
pub const DEPTH: usize = 128;

/// Programs and arguments that a tree shows, bytes.
pub const BYTES: usize = 4 << 20;

/// Whose tree is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Every server's.
    Servers,
    /// Every process that is known.
    All,
    /// The process of this number.
    Process(u32),
    /// The process of this `process.entity_id`.
    Entity(Uuid),
    /// Every process of the containers whose id begins like this.
    Container(String),
    /// The servers of this name, as the roles table or their executable has it.
    Server(String),
}

/// Why there is no such tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoTree {
    /// No process has or had that number, as far as it is remembered.
    Process(u32),
    /// Several had that number.
    Ambiguous(u32, Vec<Candidate>),
    /// No process has this id.
    Entity(Uuid),
    /// No process is in such a container.
    Container(String),
    /// No server has this name; these are known.
    Server(String, Vec<String>),
}

/// One of several processes of the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub entity_id: Uuid,
    /// What it runs or ran.
    pub image: Option<Image>,
    /// When it started, wall time in nanoseconds since the Unix epoch.
    pub started: i128,
    /// How it ended, where it has.
    pub ended: Option<Ended>,
}

/// A tree, from the first ancestors down, in the order in which it is drawn: a process is followed by all
/// below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeView {
    /// The host.
    pub host: Arc<HostFacts>,
    /// Wall time of boot, nanoseconds since the Unix epoch.
    pub boot_wall_ns: i128,
    /// Events lost so far: what is missing here may be among them.
    pub lost: u64,
    /// The processes.
    pub nodes: Vec<TreeNode>,
}

impl TreeView {
    /// How many processes were left out because there were too many.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.nodes.iter().map(|node| node.left_out).sum()
    }
}

/// A process of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeNode {
    /// How many of the tree are above it.
    pub depth: usize,
    /// The process.
    pub process: ProcessView,
    /// Id of the process above it; `None` at the top.
    pub creator: Option<Uuid>,
    /// The kernel's parent where that is another than the creator: the reaper of what was orphaned.
    pub parent: Option<ProcessKey>,
    /// Programs that it ran itself, in time order. Those it was born with are its creator's.
    pub ran: Vec<Image>,
    /// Its descent from servers.
    pub tag: Tag,
    /// What else than its birth that came by.
    pub link: Option<Link>,
    /// It was asked for by itself, rather than with all servers.
    pub chosen: bool,
    /// It is at the top, and is not where all processes begin: its creator is not known.
    pub is_broken: bool,
    /// Files that it was the last to write, in time order: the latest of them.
    pub wrote: Vec<Wrote>,
    /// How many more of them are known.
    pub wrote_more: usize,
    /// Alerts that it raised, in time order.
    pub alerts: Vec<Raised>,
    /// Processes below it that are not shown.
    pub left_out: usize,
}

/// A file that a server's lineage wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrote {
    /// Its name by now.
    pub path: Vec<u8>,
    /// When, nanoseconds since boot.
    pub boot_ns: u64,
}

/// An alert that was raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    /// Who did it.
    pub process: ProcessKey,
    /// When, nanoseconds since boot.
    pub boot_ns: u64,
    /// Its id.
    pub id: Uuid,
    /// The rule.
    pub rule: &'static Rule,
    /// How bad.
    pub severity: Severity,
    /// One sentence, perhaps only its beginning.
    pub reason: String,
}

/// Where a process is in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The process.
    pub key: ProcessKey,
    /// How many of the tree are above it.
    pub depth: usize,
    /// It was asked for.
    pub chosen: bool,
    /// Processes below it that are not shown, for want of room, nor is anybody in between.
    pub left_out: usize,
}

/// The tree of the processes chosen, in the order in which it is drawn. Of what has to be left out,
/// `marked` processes come last.
#[must_use]
pub fn grow(
    store: &Store,
    chosen: &HashSet<ProcessKey>,
    marked: &HashSet<ProcessKey>,
) -> Vec<Place> {
    let mut children: HashMap<ProcessKey, Vec<&Process>> = HashMap::new();
    for process in store.all() {
        if let Some(creator) = process.creator {
            children.entry(creator).or_default().push(process);
        }
    }
    for siblings in children.values_mut() {
        siblings.sort_unstable_by_key(|process| age(process));
    }
    let mut asked: Vec<&Process> = chosen.iter().filter_map(|key| store.get(*key)).collect();
    asked.sort_unstable_by_key(|process| age(process));
    let below = below(&asked, &children);
    let mut room = Room::default();
    // First those that are no workers of another that was asked for.
    let is_top = |process: &&&Process| process.creator.is_none_or(|key| !chosen.contains(&key));
    for process in asked.iter().filter(is_top) {
        room.take_with_ancestors(store, process.key);
    }
    let is_marked = |process: &&&Process| marked.contains(&process.key);
    for process in asked.iter().chain(&below).filter(is_marked) {
        room.take_with_ancestors(store, process.key);
    }
    for process in &asked {
        room.take_with_ancestors(store, process.key);
    }
    for process in &below {
        let creator = process.creator;
        if creator.is_none_or(|creator| room.taken.contains(&creator)) {
            room.take(process);
        }
    }
    let below: HashSet<ProcessKey> = below.iter().map(|process| process.key).collect();
    let is_whole = |key: ProcessKey| below.contains(&key) || chosen.contains(&key);
    // Each once, with all that is below it, at the nearest above it that is shown.
    let mut counted: HashSet<ProcessKey> = HashSet::new();
    let mut left_out = |key: ProcessKey| {
        let before = counted.len();
        let mut rest = vec![key];
        while let Some(key) = rest.pop() {
            let mine = children.get(&key).into_iter().flatten();
            let mine = mine.map(|child| child.key);
            rest.extend(mine.filter(|key| !room.taken.contains(key) && counted.insert(*key)));
        }
        counted.len() - before
    };
    draw(store, &children, &room.taken)
        .into_iter()
        .map(|(key, depth)| Place {
            key,
            depth,
            chosen: chosen.contains(&key),
            left_out: if is_whole(key) { left_out(key) } else { 0 },
        })
        .collect()
}

/// The order of siblings.
const fn age(process: &Process) -> (u64, u64, u32) {
    let ProcessKey { tgid, start_ticks } = process.key;
    (process.start_boot_ns, start_ticks, tgid)
}

/// Everything below these, level by level.
fn below<'a>(
    asked: &[&Process],
    children: &HashMap<ProcessKey, Vec<&'a Process>>,
) -> Vec<&'a Process> {
    let mut seen: HashSet<ProcessKey> = asked.iter().map(|process| process.key).collect();
    let mut found = Vec::new();
    let mut rest: VecDeque<_> = asked.iter().map(|process| (process.key, 0)).collect();
    while let Some((key, level)) = rest.pop_front() {
        if level >= DEPTH {
            continue;
        }
        for child in children.get(&key).into_iter().flatten() {
            if seen.insert(child.key) {
                found.push(*child);
                rest.push_back((child.key, level + 1));
            }
        }
    }
    found
}

/// The processes taken in the order in which they are drawn, each with how many are above it.
fn draw(
    store: &Store,
    children: &HashMap<ProcessKey, Vec<&Process>>,
    taken: &HashSet<ProcessKey>,
) -> Vec<(ProcessKey, usize)> {
    let mut tops: Vec<&Process> = taken
        .iter()
        .filter_map(|key| store.get(*key))
        .filter(|process| process.creator.is_none_or(|key| !taken.contains(&key)))
        .collect();
    tops.sort_unstable_by_key(|process| age(process));
    let mut rest: Vec<_> = tops.iter().rev().map(|top| (top.key, 0)).collect();
    let mut drawn = Vec::new();
    while let Some((key, depth)) = rest.pop() {
        drawn.push((key, depth));
        let mine = children.get(&key).into_iter().flatten().rev();
        let mine = mine.filter(|child| taken.contains(&child.key));
        rest.extend(mine.map(|child| (child.key, depth + 1)));
    }
    drawn
}

/// What there is room for.
#[derive(Default)]
struct Room {
    taken: HashSet<ProcessKey>,
    bytes: usize,
}

impl Room {
    fn take(&mut self, process: &Process) {
        let bytes = self.bytes + cost(process);
        if self.taken.len() < NODES && bytes <= BYTES && self.taken.insert(process.key) {
            self.bytes = bytes;
        }
    }

    /// From the first ancestor on, so that what is taken hangs together.
    fn take_with_ancestors(&mut self, store: &Store, key: ProcessKey) {
        let mut chain: Vec<&Process> = store
            .chain(key)
            .take_while(|process| !self.taken.contains(&process.key))
            .collect();
        let bytes: usize = chain.iter().map(|process| cost(process)).sum();
        if self.taken.len() + chain.len() > NODES || self.bytes + bytes > BYTES {
            return;
        }
        chain.reverse();
        for process in chain {
            self.take(process);
        }
    }
}

/// What a process has to show, bytes.
fn cost(process: &Process) -> usize {
    process
        .images
        .iter()
        .map(|image| {
            let args: usize = image
                .exec
                .args
                .iter()
                .map(|argument| argument.len() + 4)
                .sum();
            image.exec.exe.len() + image.exec.filename.len() + image.exec.cwd.len() + args
        })
        .sum()
}
