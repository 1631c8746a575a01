//! Whom a process belongs to beside its creators: who is its parent now, and who holds a number that it
//! named. Refuses to guess: a parent that was not told follows from ends that were seen, and says so.

use super::link::INITIAL_PID_NS;
use super::process::Process;
use super::{CHAIN, Store};
use crate::event::ProcessKey;

/// Who a process's parent is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// That process.
    pub key: ProcessKey,
    /// Not told by the kernel: it follows from the end of the one before.
    pub inferred: bool,
}

impl Store {
    /// The process that a number means, where that began at or before a time: the leader of a group or a
    /// session. The kernel gives no number away that a group or a session still has.
    #[must_use]
    pub fn holder(&self, number: u32, boot_ns: u64) -> Option<&Process> {
        let process = self.get(*self.current.get(&number)?)?;
        (process.start_boot_ns <= boot_ns).then_some(process)
    }

    /// The parent of a process: as last told, and where that one has ended since, who the kernel gives its
    /// children to (`find_new_reaper`, kernel/exit.c): the nearest reaper above it, else the first process of
    /// the pid namespace.
    #[must_use]
    pub fn parent(&self, process: &Process) -> Option<Parent> {
        let told = process.parent.filter(|parent| parent.tgid != 0)?;
        let mut next = Some(told);
        for step in 0..CHAIN {
            let key = next?;
            let Some(parent) = self.get(key) else {
                // Not known, so not known to have ended; further up it is not known who is a reaper.
                return (step == 0).then_some(Parent {
                    key,
                    inferred: false,
                });
            };
            let of_namespace =
                process.pid_ns == 0 || parent.pid_ns == 0 || parent.pid_ns == process.pid_ns;
            let takes = step == 0
                || parent.reaper
                || key.tgid == 1
                || (parent.vpid == 1 && parent.pid_ns != INITIAL_PID_NS);
            if step > 0 && !of_namespace {
                // Reapers of another namespace take no children of this one.
                return None;
            }
            if takes && parent.ended.is_none() {
                return Some(Parent {
                    key,
                    inferred: step > 0,
                });
            }
            next = parent.parent.or(parent.creator);
        }
        None
    }

    /// Notes that a process had one parent and has another now.
    pub(super) fn adopted(&mut self, before: Option<ProcessKey>, now: ProcessKey) {
        let moved = before.is_some_and(|before| before != now && before.tgid != 0);
        if moved
            && now.tgid > 1
            && let Some(parent) = self.get_mut(now)
        {
            parent.reaper = true;
        }
    }
}
