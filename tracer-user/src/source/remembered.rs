//! What an agent leaves to the next one of the same boot, as inputs: the lineage of servers as far as
//! `/proc` cannot show it again, what it wrote, and what was told of it. Refuses to hold what can be read
//! anew: who lives is the snapshot's word.

mod incident;
mod written;

use std::sync::Arc;

use tracer_common::event::{FdInfo, Ids, Namespaces};
use tracer_common::tag::{Role, Tag};
use tracer_common::wire::{Wire, as_bytes, split};

pub use self::incident::PastIncident;
use self::incident::{incident, put_incident};
pub use self::written::{Author, PastFile, PastLink};
use self::written::{put_writer, writer};
use super::capture::{Fields, put_text};
use crate::alert::Severity;
use crate::event::{Exec, FileId, ProcessKey};
use crate::lineage::process::{Ended, Link, Server, Via, Why};

/// Ports, programs and arguments of one process at most: more is no file of ours.
const MANY: usize = 1 << 16;

/// One thing that an earlier agent of this boot knew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// A process. It comes after every process that is older.
    Process(Box<Past>),
    /// A program that a process ran. It comes after the process, and after its earlier programs.
    Image(Box<PastImage>),
    /// A time in which no agent ran, and which was told.
    Blind(Blind),
    /// An alert that was raised where an attack began. It comes after the process.
    Told(PastAlert),
    /// A file that a server's lineage wrote. It comes after those that were written before.
    File(Box<PastFile>),
    /// A symbolic link that one made. It comes after those that were made before.
    Link(Box<PastLink>),
    /// An incident that was open.
    Incident(Box<PastIncident>),
}

/// A time in which no agent ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blind {
    /// The last word of the agent before, nanoseconds since boot.
    pub since_boot_ns: u64,
    /// The hooks were attached by then.
    pub until_boot_ns: u64,
}

/// A process as an earlier agent knew it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// Who it is.
    pub key: ProcessKey,
    /// When it started, nanoseconds since boot.
    pub start_boot_ns: u64,
    /// Who created it.
    pub creator: Option<ProcessKey>,
    /// The kernel's parent when last told.
    pub parent: Option<ProcessKey>,
    /// Its pid in its own pid namespace.
    pub vpid: u32,
    /// That namespace.
    pub pid_ns: u32,
    /// Users and groups as last told.
    pub ids: Option<Ids>,
    /// Descent from a server.
    pub tag: Tag,
    /// What else than its birth the tag came by.
    pub link: Option<Link>,
    /// Whether it is kept beyond its end.
    pub kept: bool,
    /// What the server that it descends from was inferred by.
    pub inferred_by: u8,
    /// How many of its programs were inherited.
    pub inherited: u16,
    /// Ports it listens on.
    pub ports: Vec<u16>,
    /// How it ended; `None` where it lived.
    pub ended: Option<Ended>,
}

/// A program of such a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastImage {
    /// The process.
    pub key: ProcessKey,
    /// When it began, nanoseconds since boot.
    pub boot_ns: u64,
    /// Read from `/proc`, not witnessed.
    pub observed: bool,
    /// The server that it was.
    pub server: Option<Server>,
    /// The facts of the exec.
    pub exec: Arc<Exec>,
}

/// An alert: what else comes of the same attack is part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastAlert {
    /// The process that the attack began at.
    pub key: ProcessKey,
    /// The rule's id.
    pub rule: String,
    /// How bad it was.
    pub severity: Severity,
}

const PROCESS: u8 = 0;
const IMAGE: u8 = 1;
const BLIND: u8 = 2;
const TOLD: u8 = 3;
const FILE: u8 = 4;
const LINK: u8 = 5;
const INCIDENT: u8 = 6;

pub(super) fn put(payload: &mut Vec<u8>, remembered: &Remembered) {
    match remembered {
        Remembered::Process(past) => {
            payload.push(PROCESS);
            put_past(payload, past);
        }
        Remembered::Image(image) => {
            payload.push(IMAGE);
            put_image(payload, image);
        }
        Remembered::Blind(blind) => {
            payload.push(BLIND);
            put_blind(payload, *blind);
        }
        Remembered::Told(past) => {
            payload.push(TOLD);
            put_told(payload, past);
        }
        Remembered::File(past) => {
            payload.push(FILE);
            written::put_file(payload, past);
        }
        Remembered::Link(past) => {
            payload.push(LINK);
            written::put_link(payload, past);
        }
        Remembered::Incident(past) => {
            payload.push(INCIDENT);
            put_incident(payload, past);
        }
    }
}

pub(super) fn take(rest: &mut Fields<'_>) -> Result<Remembered, &'static str> {
    let [kind] = rest.array()?;
    match kind {
        PROCESS => Ok(Remembered::Process(Box::new(past(rest)?))),
        IMAGE => Ok(Remembered::Image(Box::new(image(rest)?))),
        BLIND => Ok(Remembered::Blind(blind(rest)?)),
        TOLD => Ok(Remembered::Told(told(rest)?)),
        FILE => Ok(Remembered::File(Box::new(written::file(rest)?))),
        LINK => Ok(Remembered::Link(Box::new(written::link(rest)?))),
        INCIDENT => Ok(Remembered::Incident(Box::new(incident(rest)?))),
        _ => Err("unknown kind of what was remembered"),
    }
}

pub(super) fn put_blind(payload: &mut Vec<u8>, blind: Blind) {
    put_u64(payload, blind.since_boot_ns);
    put_u64(payload, blind.until_boot_ns);
}

pub(super) fn blind(rest: &mut Fields<'_>) -> Result<Blind, &'static str> {
    Ok(Blind {
        since_boot_ns: u64(rest)?,
        until_boot_ns: u64(rest)?,
    })
}

fn put_told(payload: &mut Vec<u8>, past: &PastAlert) {
    let PastAlert {
        key,
        rule,
        severity,
    } = past;
    put_key(payload, *key);
    put_text(payload, rule.as_bytes());
    payload.push(match severity {
        Severity::Low => 0,
        Severity::Medium => 1,
        Severity::High => 2,
        Severity::Critical => 3,
    });
}

fn told(rest: &mut Fields<'_>) -> Result<PastAlert, &'static str> {
    Ok(PastAlert {
        key: key(rest)?,
        rule: rest.string()?,
        severity: match rest.array()? {
            [0] => Severity::Low,
            [1] => Severity::Medium,
            [2] => Severity::High,
            [3] => Severity::Critical,
            _ => return Err("unknown severity"),
        },
    })
}

fn put_past(payload: &mut Vec<u8>, past: &Past) {
    let Past {
        key,
        start_boot_ns,
        creator,
        parent,
        vpid,
        pid_ns,
        ids,
        tag,
        link,
        kept,
        inferred_by,
        inherited,
        ports,
        ended,
    } = past;
    put_key(payload, *key);
    put_u64(payload, *start_boot_ns);
    put_option(payload, creator.as_ref(), |payload, key| {
        put_key(payload, *key)
    });
    put_option(payload, parent.as_ref(), |payload, key| {
        put_key(payload, *key)
    });
    put_u32(payload, *vpid);
    put_u32(payload, *pid_ns);
    put_option(payload, ids.as_ref(), put_wire);
    put_wire(payload, tag);
    put_option(payload, link.as_ref(), |payload, link| {
        put_key(payload, link.from);
        payload.push(match link.via {
            Via::File => 0,
            Via::Trace => 1,
        });
        put_u64(payload, link.boot_ns);
    });
    payload.push(u8::from(*kept));
    payload.push(*inferred_by);
    put_u16(payload, *inherited);
    put_count(payload, ports.len());
    for port in ports.iter().take(MANY - 1) {
        put_u16(payload, *port);
    }
    put_option(payload, ended.as_ref(), |payload, ended| {
        put_u64(payload, ended.boot_ns);
        put_option(payload, ended.status.as_ref(), |payload, status| {
            put_u32(payload, *status);
        });
    });
}

fn past(rest: &mut Fields<'_>) -> Result<Past, &'static str> {
    Ok(Past {
        key: key(rest)?,
        start_boot_ns: u64(rest)?,
        creator: option(rest, key)?,
        parent: option(rest, key)?,
        vpid: u32(rest)?,
        pid_ns: u32(rest)?,
        ids: option(rest, wire::<Ids>)?,
        tag: wire(rest)?,
        link: option(rest, |rest| {
            Ok(Link {
                from: key(rest)?,
                via: match rest.array()? {
                    [0] => Via::File,
                    [1] => Via::Trace,
                    _ => return Err("unknown kind of link"),
                },
                boot_ns: u64(rest)?,
            })
        })?,
        kept: flag(rest)?,
        inferred_by: rest.array().map(|[bits]| bits)?,
        inherited: u16(rest)?,
        ports: list(rest, u16)?,
        ended: option(rest, |rest| {
            Ok(Ended {
                boot_ns: u64(rest)?,
                status: option(rest, u32)?,
            })
        })?,
    })
}

fn put_image(payload: &mut Vec<u8>, image: &PastImage) {
    let PastImage {
        key,
        boot_ns,
        observed,
        server,
        exec,
    } = image;
    put_key(payload, *key);
    put_u64(payload, *boot_ns);
    payload.push(u8::from(*observed));
    put_option(payload, server.as_ref(), put_server);
    put_exec(payload, exec);
}

fn image(rest: &mut Fields<'_>) -> Result<PastImage, &'static str> {
    Ok(PastImage {
        key: key(rest)?,
        boot_ns: u64(rest)?,
        observed: flag(rest)?,
        server: option(rest, server)?,
        exec: Arc::new(exec(rest)?),
    })
}

fn put_server(payload: &mut Vec<u8>, server: &Server) {
    put_text(payload, server.name.as_bytes());
    put_u32(payload, server.role.bit());
    payload.push(match server.why {
        Why::Named => 0,
        Why::Listens => 1,
        Why::Accepts => 2,
    });
}

fn server(rest: &mut Fields<'_>) -> Result<Server, &'static str> {
    let name = rest.string()?.into();
    let bit = u32(rest)?;
    let mut roles = Role::ALL.iter().copied();
    Ok(Server {
        name,
        role: roles.find(|role| role.bit() == bit).ok_or("unknown role")?,
        why: match rest.array()? {
            [0] => Why::Named,
            [1] => Why::Listens,
            [2] => Why::Accepts,
            _ => return Err("unknown reason of a server"),
        },
    })
}

fn put_exec(payload: &mut Vec<u8>, exec: &Exec) {
    let Exec {
        exe,
        file,
        nlink,
        generation,
        mode,
        cwd,
        cgroup,
        cgroup_id,
        filename,
        interp,
        args,
        args_len,
        ids,
        cap_effective,
        cap_permitted,
        loginuid,
        sessionid,
        ns,
        pgid,
        sid,
        tty,
        stdio,
        parent,
        old_tid,
        writer,
    } = exec;
    for text in [exe, cwd, cgroup, filename, interp] {
        put_text(payload, text);
    }
    put_count(payload, args.len());
    for arg in args.iter().take(MANY - 1) {
        put_text(payload, arg);
    }
    put_u32(payload, file.dev);
    put_u64(payload, file.inode);
    put_u16(payload, *mode);
    for number in [*nlink, *generation, *pgid, *sid, *old_tid] {
        put_u32(payload, number);
    }
    for number in [*cgroup_id, *args_len, *cap_effective, *cap_permitted] {
        put_u64(payload, number);
    }
    put_wire(payload, ids);
    put_wire(payload, ns);
    for info in stdio {
        put_wire(payload, info);
    }
    put_key(payload, *parent);
    for number in [loginuid, sessionid] {
        put_option(payload, number.as_ref(), |payload, number| {
            put_u32(payload, *number);
        });
    }
    put_option(payload, tty.as_ref(), |payload, (major, minor)| {
        put_u32(payload, *major);
        put_u32(payload, *minor);
    });
    put_option(payload, writer.as_ref(), put_writer);
}

fn exec(rest: &mut Fields<'_>) -> Result<Exec, &'static str> {
    let mut texts = || rest.text().map(<[u8]>::to_vec);
    let (exe, cwd, cgroup) = (texts()?, texts()?, texts()?);
    let (filename, interp) = (texts()?, texts()?);
    Ok(Exec {
        exe,
        cwd,
        cgroup,
        filename,
        interp,
        args: list(rest, |rest| rest.text().map(<[u8]>::to_vec))?,
        file: FileId {
            dev: u32(rest)?,
            inode: u64(rest)?,
        },
        mode: u16(rest)?,
        nlink: u32(rest)?,
        generation: u32(rest)?,
        pgid: u32(rest)?,
        sid: u32(rest)?,
        old_tid: u32(rest)?,
        cgroup_id: u64(rest)?,
        args_len: u64(rest)?,
        cap_effective: u64(rest)?,
        cap_permitted: u64(rest)?,
        ids: wire(rest)?,
        ns: wire::<Namespaces>(rest)?,
        stdio: [wire::<FdInfo>(rest)?, wire(rest)?, wire(rest)?],
        parent: key(rest)?,
        loginuid: option(rest, u32)?,
        sessionid: option(rest, u32)?,
        tty: option(rest, |rest| Ok((u32(rest)?, u32(rest)?)))?,
        writer: option(rest, writer)?,
    })
}

fn put_u16(payload: &mut Vec<u8>, number: u16) {
    payload.extend_from_slice(&number.to_le_bytes());
}

fn put_u32(payload: &mut Vec<u8>, number: u32) {
    payload.extend_from_slice(&number.to_le_bytes());
}

fn put_u64(payload: &mut Vec<u8>, number: u64) {
    payload.extend_from_slice(&number.to_le_bytes());
}

fn put_count(payload: &mut Vec<u8>, count: usize) {
    put_u16(payload, u16::try_from(count).unwrap_or(u16::MAX));
}

fn put_key(payload: &mut Vec<u8>, key: ProcessKey) {
    put_u32(payload, key.tgid);
    put_u64(payload, key.start_ticks);
}

fn put_wire<T: Wire>(payload: &mut Vec<u8>, value: &T) {
    payload.extend_from_slice(as_bytes(value));
}

fn put_option<T>(payload: &mut Vec<u8>, value: Option<&T>, put: impl FnOnce(&mut Vec<u8>, &T)) {
    payload.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(payload, value);
    }
}

fn u16(rest: &mut Fields<'_>) -> Result<u16, &'static str> {
    rest.array().map(u16::from_le_bytes)
}

fn u32(rest: &mut Fields<'_>) -> Result<u32, &'static str> {
    rest.array().map(u32::from_le_bytes)
}

fn u64(rest: &mut Fields<'_>) -> Result<u64, &'static str> {
    rest.array().map(u64::from_le_bytes)
}

fn key(rest: &mut Fields<'_>) -> Result<ProcessKey, &'static str> {
    Ok(ProcessKey {
        tgid: u32(rest)?,
        start_ticks: u64(rest)?,
    })
}

fn flag(rest: &mut Fields<'_>) -> Result<bool, &'static str> {
    match rest.array()? {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err("neither yes nor no"),
    }
}

fn wire<T: Wire>(rest: &mut Fields<'_>) -> Result<T, &'static str> {
    let (value, after) = split(rest.0).ok_or("too short")?;
    rest.0 = after;
    Ok(value)
}

fn option<'a, T>(
    rest: &mut Fields<'a>,
    take: impl FnOnce(&mut Fields<'a>) -> Result<T, &'static str>,
) -> Result<Option<T>, &'static str> {
    flag(rest)?.then(|| take(rest)).transpose()
}

/// As many as are told: each takes a byte at least, so a count that lies ends the frame.
fn list<'a, T>(
    rest: &mut Fields<'a>,
    mut take: impl FnMut(&mut Fields<'a>) -> Result<T, &'static str>,
) -> Result<Vec<T>, &'static str> {
    let count = u16(rest)?;
    (0..count).map(|_| take(rest)).collect()
}

#[cfg(test)]
pub(crate) use self::tests::samples;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Writer;

    pub(crate) fn samples() -> Vec<Remembered> {
        let key = ProcessKey {
            tgid: 7,
            start_ticks: 70,
        };
        let other = ProcessKey {
            tgid: 6,
            start_ticks: 60,
        };
        let tag = Tag {
            roles: 3,
            server: 6,
            distance: 2,
            via: 1,
            quota: 5,
        };
        let ids = Ids {
            uid: 33,
            ..Ids::ZERO
        };
        let past = Past {
            key,
            start_boot_ns: 700_000_001,
            creator: Some(other),
            parent: None,
            vpid: 2,
            pid_ns: 3,
            ids: Some(ids),
            tag,
            link: Some(Link {
                from: other,
                via: Via::Trace,
                boot_ns: 9,
            }),
            kept: true,
            inferred_by: 1,
            inherited: 1,
            ports: vec![80, 443],
            ended: Some(Ended {
                boot_ns: 10,
                status: Some(256),
            }),
        };
        let exec = Exec {
            exe: b"/usr/bin/\xff".to_vec(),
            file: FileId { dev: 1, inode: 2 },
            nlink: 1,
            generation: 4,
            mode: 0o100_755,
            cwd: b"/".to_vec(),
            cgroup: b"/system.slice/nginx.service".to_vec(),
            cgroup_id: 12,
            filename: b"x".to_vec(),
            interp: Vec::new(),
            args: vec![b"a".to_vec(), Vec::new(), b"\xfe".to_vec()],
            args_len: 5,
            ids,
            cap_effective: 1,
            cap_permitted: 2,
            loginuid: Some(1000),
            sessionid: None,
            ns: Namespaces {
                mnt: 9,
                ..Namespaces::ZERO
            },
            pgid: 7,
            sid: 6,
            tty: Some((136, 1)),
            stdio: [FdInfo {
                inode: 5,
                kind: 2,
                ..FdInfo::ZERO
            }; 3],
            parent: other,
            old_tid: 7,
            writer: Some(Writer {
                process: other,
                boot_ns: 8,
                tag,
            }),
        };
        let image = PastImage {
            key,
            boot_ns: 11,
            observed: true,
            server: Some(Server {
                name: "api".into(),
                role: Role::Service,
                why: Why::Accepts,
            }),
            exec: Arc::new(exec),
        };
        let author = Author {
            writer: Writer {
                process: other,
                boot_ns: 8,
                tag,
            },
            server: Server {
                name: "php-fpm".into(),
                role: Role::App,
                why: Why::Named,
            },
            uid: Some(33),
            mnt_ns: 9,
            container: Some("c".repeat(64)),
        };
        let file = PastFile {
            file: Some(FileId { dev: 1, inode: 2 }),
            generation: Some(3),
            privileged: true,
            names: vec![b"/srv/\xff".to_vec(), b"/srv/two".to_vec()],
            author: author.clone(),
        };
        let named = PastFile {
            file: None,
            generation: None,
            names: vec![b"/srv/named".to_vec()],
            ..file.clone()
        };
        let link = PastLink {
            path: b"/srv/link".to_vec(),
            says: b"../tmp".to_vec(),
            directory: Some(FileId { dev: 1, inode: 5 }),
            author: Author {
                uid: None,
                container: None,
                ..author
            },
        };
        vec![
            Remembered::Told(PastAlert {
                key,
                rule: "server-shell".to_owned(),
                severity: Severity::High,
            }),
            Remembered::Incident(Box::new(PastIncident {
                server: other,
                id: uuid::Uuid::from_u128(1),
                first_alert: uuid::Uuid::from_u128(2),
                first_boot_ns: 3,
                last_boot_ns: 4,
                score: 5,
                alerts: 6,
                tactics: vec!["Persistence".into()],
                used: vec![(uuid::Uuid::from_u128(7), uuid::Uuid::from_u128(8))],
            })),
            Remembered::File(Box::new(file)),
            Remembered::File(Box::new(named)),
            Remembered::Link(Box::new(link)),
            Remembered::Process(Box::new(past)),
            Remembered::Image(Box::new(image)),
            Remembered::Blind(Blind {
                since_boot_ns: 1,
                until_boot_ns: 2,
            }),
        ]
    }

    #[test]
    fn what_is_put_is_taken_and_any_other_bytes_are_an_error() {
        for sample in samples() {
            let mut bytes = Vec::new();
            put(&mut bytes, &sample);
            let mut rest = Fields(&bytes);
            assert_eq!(take(&mut rest).unwrap(), sample);
            assert!(rest.0.is_empty());
            for len in 0..bytes.len() {
                assert!(take(&mut Fields(&bytes[..len])).is_err(), "{len}");
            }
            // Any byte may be any other: that may have a meaning, and never panics.
            for at in 0..bytes.len() {
                for value in [0, 1, 2, 127, 255] {
                    let mut broken = bytes.clone();
                    broken[at] = value;
                    let _any = take(&mut Fields(&broken));
                }
            }
        }
    }
}
