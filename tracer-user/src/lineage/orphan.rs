//! Whom an orphan older than the agent descends from, where what is left of its birth allows one answer.
//! Pure.
//!
//! A process that a server's lineage made and left (double fork) has a reaper for a parent, and `/proc` does
//! not tell who made it. What it cannot have by chance is taken for evidence: a cgroup that is the service's
//! own, a session or process group that one of the lineage leads, a socket or pipe at its standard input and
//! output that the lineage made. Refuses to weigh: more than one lineage, or none, is no answer, and neither
//! a user nor a time proves anything; they only exclude.

use tracer_common::event::{FdInfo, fd_kind};

use super::process::{Origin, Process};
use super::{CHAIN, Store};
use crate::detect::roles::entry::{Entry, entry};
use crate::event::{Exec, ProcessKey};

/// Orphans that are looked at: on most hosts a few dozen processes have a reaper for a parent.
const ORPHANS: usize = 4096;

/// What an orphan's lineage was inferred by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// It is in a unit's own cgroup, with nobody but that server's lineage.
    Cgroup,
    /// One of the lineage leads its session.
    Session,
    /// One of the lineage leads its process group.
    Group,
    /// It has a socket or pipe at its standard input or output that the lineage made.
    Stdio,
}

impl By {
    /// Everything there is.
    pub const ALL: &[Self] = &[Self::Cgroup, Self::Session, Self::Group, Self::Stdio];

    /// Its bit in [`Process::inferred_by`].
    #[must_use]
    pub const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The word in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Session => "session",
            Self::Group => "group",
            Self::Stdio => "stdio",
        }
    }
}

/// The words of such bits.
pub fn names(bits: u8) -> Vec<&'static str> {
    let all = By::ALL.iter().filter(|by| bits & by.bit() != 0);
    all.map(|by| by.name()).collect()
}

/// What is looked at of a process.
#[derive(Clone, Copy, Debug)]
struct Facts<'a> {
    key: ProcessKey,
    exec: &'a Exec,
    uid: u32,
}

/// A server, and who descends from it.
struct Lineage<'a> {
    root: Facts<'a>,
    others: Vec<Facts<'a>>,
}

impl<'a> Lineage<'a> {
    fn members(&self) -> impl Iterator<Item = &Facts<'a>> {
        std::iter::once(&self.root).chain(&self.others)
    }

    /// Whether an orphan may be of this lineage at all: it is younger, and what is inherited and hard to
    /// change is the same.
    fn may_have(&self, orphan: &Facts<'_>) -> bool {
        let is_like = |member: &Facts<'_>| {
            let (ours, its) = (member.exec, orphan.exec);
            ours.cgroup == its.cgroup
                && ours.ns.pid == its.ns.pid
                && ours.ns.user == its.ns.user
                && ours.loginuid == its.loginuid
                && ours.sessionid == its.sessionid
                && (its.tty.is_none() || its.tty == ours.tty)
                && (member.uid == orphan.uid || member.uid == 0)
        };
        self.root.key.start_ticks <= orphan.key.start_ticks && self.members().any(is_like)
    }

    /// What speaks for it, besides the cgroup.
    fn evidence(&self, orphan: &Facts<'_>) -> u8 {
        let leads = |number: u32| {
            let mut members = self.members();
            // The leader's number is nobody else's for as long as the group lasts.
            number != orphan.key.tgid && members.any(|member| member.key.tgid == number)
        };
        let made = |info: &FdInfo| {
            // What the server itself began with, it has from who started it.
            is_channel(info)
                && !has(&self.root, info)
                && self.others.iter().any(|member| has(member, info))
        };
        let mut bits = 0;
        if leads(orphan.exec.sid) {
            bits |= By::Session.bit();
        }
        if leads(orphan.exec.pgid) {
            bits |= By::Group.bit();
        }
        if orphan.exec.stdio.iter().any(made) {
            bits |= By::Stdio.bit();
        }
        bits
    }
}

fn is_channel(info: &FdInfo) -> bool {
    matches!(info.kind, fd_kind::SOCKET | fd_kind::PIPE) && info.inode != 0
}

fn has(process: &Facts<'_>, info: &FdInfo) -> bool {
    let same = |own: &FdInfo| own.kind == info.kind && own.inode == info.inode;
    process.exec.stdio.iter().any(same)
}

/// Whether a cgroup is one of a service that a manager made for it alone.
fn is_unit(cgroup: &[u8]) -> bool {
    cgroup.ends_with(b".service") && !cgroup.starts_with(b"/user.slice/")
}

/// Whose lineage an orphan is of, and by what; `others` are of no lineage and no orphans.
fn decide(
    orphan: &Facts<'_>,
    lineages: &[Lineage<'_>],
    others: &[Facts<'_>],
) -> Option<(ProcessKey, u8)> {
    let in_it = |process: &Facts<'_>| process.exec.cgroup == orphan.exec.cgroup;
    let alone = |lineage: &Lineage<'_>| {
        let rest = lineages.iter().filter(|l| l.root.key != lineage.root.key);
        is_unit(&orphan.exec.cgroup)
            && lineage.members().any(in_it)
            && !others.iter().any(in_it)
            && !rest.flat_map(Lineage::members).any(in_it)
    };
    let mut answer = None;
    for lineage in lineages.iter().filter(|lineage| lineage.may_have(orphan)) {
        let cgroup = if alone(lineage) { By::Cgroup.bit() } else { 0 };
        let bits = lineage.evidence(orphan) | cgroup;
        if bits == 0 {
            continue;
        }
        if answer.is_some() {
            return None;
        }
        answer = Some((lineage.root.key, bits));
    }
    answer
}

impl Store {
    /// After the snapshot: makes orphans descendants of the servers that they certainly are of.
    pub(super) fn adopt_orphans(&mut self) {
        let mut found = Vec::new();
        {
            let mut lineages: Vec<Lineage<'_>> = Vec::new();
            let (mut orphans, mut others) = (Vec::new(), Vec::new());
            let mut living: Vec<&Process> = self.living().collect();
            // The server before who descends from it; and the same on replay.
            living.sort_unstable_by_key(|process| (process.key.start_ticks, process.key.tgid));
            let mut descend = Vec::new();
            for process in living {
                let Some(facts) = facts(process) else {
                    continue; // a thread of the kernel
                };
                match self.first_server(process) {
                    Some(root) if root == process.key => lineages.push(Lineage {
                        root: facts,
                        others: Vec::new(),
                    }),
                    Some(root) => descend.push((root, facts)),
                    None if self.is_orphan(process) => orphans.push(facts),
                    None if is_reaper(process) => {}
                    None => others.push(facts),
                }
            }
            for (root, facts) in descend {
                let mut known = lineages.iter_mut();
                if let Some(lineage) = known.find(|lineage| lineage.root.key == root) {
                    lineage.others.push(facts);
                }
            }
            for orphan in orphans.iter().take(ORPHANS) {
                let decided = decide(orphan, &lineages, &others);
                found.extend(decided.map(|(root, bits)| (orphan.key, root, bits)));
            }
        }
        for (key, root, bits) in found {
            self.set_creator(key, Some(root));
            if let Some(process) = self.get_mut(key) {
                process.origin = Origin::Orphan;
                process.inferred_by = bits;
            }
        }
    }

    /// The process that began the nearest server of a process's lineage: the one above its workers. What
    /// manages services may listen too, and is not meant.
    fn first_server(&self, process: &Process) -> Option<ProcessKey> {
        let name = |process: &Process| {
            let mut servers = process
                .images
                .iter()
                .rev()
                .filter_map(|i| i.server.as_ref());
            servers.next().map(|server| server.name.clone())
        };
        let mut chain = self.chain(process.key);
        let nearest = chain.find(|process| name(process).is_some())?;
        let same = chain.take_while(|above| name(above) == name(nearest));
        let first = same.last().unwrap_or(nearest);
        (!is_reaper(first)).then_some(first.key)
    }

    /// Whether a process was left to a reaper, as far as can be told: it is no way to the host itself, and
    /// nobody knows who made it.
    fn is_orphan(&self, process: &Process) -> bool {
        let parent = process.creator.and_then(|creator| self.get(creator));
        process.origin == Origin::Observed
            && !process.tag.is_server_lineage()
            && entry(process).is_none()
            && parent.is_some_and(is_reaper)
    }
}

/// Whether orphans fall to a process: the first of its pid namespace, or one that manages others.
fn is_reaper(process: &Process) -> bool {
    process.key.tgid == 1
        || process.vpid == 1
        || matches!(entry(process), Some(Entry::Manager | Entry::Runtime))
}

fn facts(process: &Process) -> Option<Facts<'_>> {
    let exec = &process.image()?.exec;
    (!exec.exe.is_empty()).then_some(Facts {
        key: process.key,
        exec,
        uid: process.ids.map_or(exec.ids.euid, |ids| ids.euid),
    })
}

const _: () = assert!(CHAIN >= 1 && By::ALL.len() <= 8);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::remembered::{Remembered, samples};

    const SLICE: &str = "/system.slice/php-fpm.service";

    fn exec(cgroup: &str) -> Exec {
        let image = samples().into_iter().find_map(|sample| match sample {
            Remembered::Image(image) => Some((*image.exec).clone()),
            Remembered::Process(_)
            | Remembered::Blind(_)
            | Remembered::Told(_)
            | Remembered::File(_)
            | Remembered::Link(_)
            | Remembered::Incident(_) => None,
        });
        Exec {
            cgroup: cgroup.into(),
            loginuid: None,
            tty: None,
            sid: 0,
            pgid: 0,
            stdio: [FdInfo::ZERO; 3],
            ..image.unwrap()
        }
    }

    fn of(tgid: u32, uid: u32, exec: &Exec) -> Facts<'_> {
        Facts {
            key: ProcessKey {
                tgid,
                start_ticks: u64::from(tgid),
            },
            exec,
            uid,
        }
    }

    fn socket(inode: u64) -> FdInfo {
        FdInfo {
            inode,
            kind: fd_kind::SOCKET,
            ..FdInfo::ZERO
        }
    }

    /// Each line: what the orphan is like, and what comes of it. There are two servers, 10 and 20, each with
    /// a worker (11, 21) that has a socket of its own (5, 6) as standard input and output, in one cgroup or
    /// in cgroups of their own.
    #[test]
    fn one_answer_or_none() {
        type Change = fn(&mut Exec);
        type Row<'a> = (&'a str, &'a str, u32, u32, Change, Option<(u32, u8)>);
        let none: Change = |_| {};
        let table: &[Row<'_>] = &[
            ("no evidence", "/", 30, 33, none, None),
            ("the user alone", "/x.scope", 30, 33, none, None),
            (
                "a unit's own cgroup",
                SLICE,
                30,
                33,
                none,
                Some((10, By::Cgroup.bit())),
            ),
            ("older than the server", SLICE, 9, 33, none, None),
            (
                "another user",
                SLICE,
                30,
                34,
                none,
                Some((10, By::Cgroup.bit())),
            ),
            (
                "who logged in",
                SLICE,
                30,
                33,
                |e| e.loginuid = Some(1000),
                None,
            ),
            (
                "of an audit session",
                SLICE,
                30,
                33,
                |e| e.sessionid = Some(4),
                None,
            ),
            (
                "at a terminal",
                SLICE,
                30,
                33,
                |e| e.tty = Some((136, 0)),
                None,
            ),
            (
                "in another pid namespace",
                SLICE,
                30,
                33,
                |e| e.ns.pid = 77,
                None,
            ),
            (
                "a session of the server",
                "/",
                30,
                33,
                |e| e.sid = 11,
                Some((10, By::Session.bit())),
            ),
            ("its own session", "/", 30, 33, |e| e.sid = 30, None),
            ("a session of nobody", "/", 30, 33, |e| e.sid = 29, None),
            (
                "a group of the other",
                "/",
                30,
                33,
                |e| e.pgid = 21,
                Some((20, By::Group.bit())),
            ),
            (
                "a socket of a worker",
                "/",
                30,
                33,
                |e| e.stdio[0] = socket(5),
                Some((10, By::Stdio.bit())),
            ),
            (
                "a socket of both servers",
                "/",
                30,
                33,
                |e| e.stdio[1] = socket(7),
                None,
            ),
            (
                "a file",
                "/",
                30,
                33,
                |e| e.stdio[0].kind = fd_kind::FILE,
                None,
            ),
            (
                "of one and of the other",
                "/",
                30,
                33,
                |e| {
                    e.sid = 11;
                    e.pgid = 20;
                },
                None,
            ),
            (
                "of one, twice",
                "/",
                30,
                33,
                |e| {
                    e.sid = 20;
                    e.stdio[2] = socket(6);
                },
                Some((20, By::Session.bit() | By::Stdio.bit())),
            ),
        ];
        for (what, cgroup, tgid, uid, change, expected) in table {
            let shared = if *cgroup == SLICE {
                "/system.slice/nginx.service"
            } else {
                *cgroup
            };
            let with = |cgroup: &str, inode: u64| Exec {
                stdio: [socket(inode), FdInfo::ZERO, FdInfo::ZERO],
                ..exec(cgroup)
            };
            let (root, other) = (with(cgroup, 7), with(shared, 7));
            let (worker, others) = (with(cgroup, 5), with(shared, 6));
            let lineages = [
                Lineage {
                    root: of(10, 0, &root),
                    others: vec![of(11, 33, &worker)],
                },
                Lineage {
                    root: of(20, 0, &other),
                    others: vec![of(21, 33, &others)],
                },
            ];
            let mut orphan = exec(cgroup);
            change(&mut orphan);
            let decided = decide(&of(*tgid, *uid, &orphan), &lineages, &[]);
            let decided = decided.map(|(key, bits)| (key.tgid, bits));
            assert_eq!(decided, *expected, "{what}");
        }
    }

    #[test]
    fn somebody_else_in_the_cgroup_is_a_doubt() {
        let (root, orphan) = (exec(SLICE), exec(SLICE));
        let lineages = [Lineage {
            root: of(10, 0, &root),
            others: Vec::new(),
        }];
        let orphan = of(30, 33, &orphan);
        assert!(decide(&orphan, &lineages, &[]).is_some());
        assert_eq!(decide(&orphan, &lineages, &[of(12, 0, &root)]), None);
        assert_eq!(decide(&orphan, &[], &[]), None);
        let session = exec("/user.slice/user-0.slice/user@0.service");
        let lineages = [Lineage {
            root: of(10, 0, &session),
            others: Vec::new(),
        }];
        assert_eq!(decide(&of(30, 0, &session), &lineages, &[]), None);
    }
}
