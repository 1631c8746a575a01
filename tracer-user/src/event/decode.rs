//! From bytes to typed events. No panic on any input, and no trust in a length.

use std::fmt;

use tracer_common::event::{
    ChangeBody, CommBody, CredentialBody, EventHeader, EventKind, ExecBody, ExecFailedBody,
    ExitBody, FileBody, ForkBody, NamespaceBody, SocketBody, TraceBody, VERSION, flag, fmode,
};
use tracer_common::limits::STRING_BYTES;
use tracer_common::probe::Tier;
use tracer_common::tag::{self, InodeKey};
use tracer_common::wire::{Wire, split};

use super::{
    Change, Comm, Credentials, Event, Exec, ExecFailed, Exit, FileAccess, FileId, Fork, Meta,
    NamespaceChange, Payload, ProcessKey, Socket, Trace, Writer,
};

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Shorter than its header, its body or the sections it declares.
    Short,
    /// Longer than it declares.
    Long,
    /// A layout this agent does not know.
    Version(u8),
    /// A kind this agent does not know.
    Kind(u16),
    /// A tier this agent does not know.
    Tier(u8),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => write!(f, "record is shorter than it says"),
            Self::Long => write!(f, "record is longer than it says"),
            Self::Version(version) => {
                write!(f, "record layout {version}, this agent reads {VERSION}")
            }
            Self::Kind(kind) => write!(f, "unknown record kind {kind}"),
            Self::Tier(tier) => write!(f, "unknown tier {tier}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Decodes one record.
///
/// # Errors
///
/// [`DecodeError`] where the bytes are not exactly one record of this layout.
pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
    let (header, rest): (EventHeader, _) = split(bytes).ok_or(DecodeError::Short)?;
    if header.version != VERSION {
        return Err(DecodeError::Version(header.version));
    }
    let kind = EventKind::from_raw(header.kind).ok_or(DecodeError::Kind(header.kind))?;
    let tier = Tier::from_raw(header.tier).ok_or(DecodeError::Tier(header.tier))?;
    let mut meta = Meta {
        boot_ns: header.boot_ns,
        subject: ProcessKey::new(header.tgid, header.start_boot_ns),
        start_boot_ns: header.start_boot_ns,
        tid: header.tid,
        tag: header.tag,
        tier,
        flags: header.flags,
        cpu: header.cpu,
        slot: header.slot,
        seq: header.seq,
    };
    let payload = match kind {
        EventKind::Fork => {
            let (body, tail): (ForkBody, _) = body(rest, &header)?;
            tail.end()?;
            Payload::Fork(Fork {
                child: ProcessKey::new(body.child_tgid, body.child_start_boot_ns),
                child_start_boot_ns: body.child_start_boot_ns,
                child_tag: body.child_tag,
                ids: body.ids,
                parent: ProcessKey::new(body.parent_tgid, body.parent_start_boot_ns),
                vpid: body.child_vpid,
                pid_ns: body.child_pid_ns,
            })
        }
        EventKind::Exec => Payload::Exec(Box::new(exec(rest, &header)?)),
        EventKind::Observed => Payload::Observed(Box::new(exec(rest, &header)?)),
        EventKind::Exit => {
            let (body, tail): (ExitBody, _) = body(rest, &header)?;
            tail.end()?;
            Payload::Exit(Exit {
                status: body.status,
            })
        }
        EventKind::Open | EventKind::Write | EventKind::Map | EventKind::Read => {
            let (body, mut tail): (FileBody, _) = body(rest, &header)?;
            let path = path(tail.take(body.path_len)?);
            let name = text(tail.take(body.name_len)?);
            tail.end()?;
            let path = if name.is_empty() {
                path
            } else {
                // Relative to a directory that is not known, it may be anywhere.
                if path.is_empty() && !name.starts_with(b"/") {
                    meta.flags |= flag::PATH_TRUNCATED;
                }
                join(path, name)
            };
            Payload::File(Box::new(FileAccess {
                kind,
                path,
                file: FileId::from(body.file),
                directory: known(body.directory),
                writer: writer(&body.writer),
                created: body.f_mode & fmode::CREATED != 0,
                size: body.size,
                f_flags: body.f_flags,
                access: body.access,
                ids: body.ids,
                uid: body.uid,
                gid: body.gid,
                mode: body.mode,
                nlink: body.nlink,
                generation: body.generation,
                mnt_ns: body.mnt_ns,
            }))
        }
        EventKind::Rename
        | EventKind::Link
        | EventKind::Symlink
        | EventKind::Unlink
        | EventKind::Mkdir
        | EventKind::Mknod
        | EventKind::Truncate
        | EventKind::Chmod
        | EventKind::Chown
        | EventKind::Setxattr
        | EventKind::Mount => Payload::Change(Box::new(change(kind, rest, &header, &mut meta)?)),
        EventKind::Listen
        | EventKind::Connect
        | EventKind::Bind
        | EventKind::Accept
        | EventKind::Send
        | EventKind::Redirect => {
            let (body, tail): (SocketBody, _) = body(rest, &header)?;
            tail.end()?;
            let name = body.name.get(..usize::from(body.name_len));
            Payload::Socket(Box::new(Socket {
                kind,
                socket: body.socket,
                name: name.ok_or(DecodeError::Short)?.to_vec(),
                socket_type: body.socket_type,
                protocol: body.protocol,
                fd: set(body.fd),
                result: body.result.cast_signed(),
                // What the snapshot tells has none.
                ids: (tier != Tier::Snapshot).then_some(body.ids),
                net_ns: body.net_ns,
            }))
        }
        EventKind::ExecFailed => {
            let (body, tail): (ExecFailedBody, _) = body(rest, &header)?;
            tail.end()?;
            Payload::ExecFailed(Box::new(ExecFailed {
                filename: text(&body.name).to_vec(),
                error: body.error,
                ids: body.ids,
            }))
        }
        EventKind::Credentials => {
            let (body, tail): (CredentialBody, _) = body(rest, &header)?;
            tail.end()?;
            Payload::Credentials(Credentials {
                ids: body.ids,
                cap_effective: body.cap_effective,
                cap_permitted: body.cap_permitted,
                user_ns: body.user_ns,
            })
        }
        EventKind::Namespace => {
            let (body, mut tail): (NamespaceBody, _) = body(rest, &header)?;
            let root = path(tail.take(body.root_len)?);
            tail.end()?;
            Payload::Namespace(Box::new(NamespaceChange {
                call: body.call,
                ns: body.ns,
                root,
                ids: body.ids,
            }))
        }
        EventKind::Trace => {
            let (body, tail): (TraceBody, _) = body(rest, &header)?;
            tail.end()?;
            let target = ProcessKey::new(body.target_tgid, body.target_start_boot_ns);
            Payload::Trace(Trace {
                target: (body.target_tgid != 0).then_some(target),
                target_start_boot_ns: body.target_start_boot_ns,
                target_tag: body.target_tag,
                target_vpid: body.target_vpid,
                pid_ns: body.pid_ns,
                method: body.method,
                ids: body.ids,
            })
        }
        EventKind::Comm => {
            let (body, tail): (CommBody, _) = body(rest, &header)?;
            tail.end()?;
            Payload::Comm(Comm {
                old: body.old,
                new: body.new,
            })
        }
    };
    Ok(Event { meta, payload })
}

fn body<'a, T: Wire>(rest: &'a [u8], header: &EventHeader) -> Result<(T, Tail<'a>), DecodeError> {
    let (body, tail) = split(rest).ok_or(DecodeError::Short)?;
    match tail.len().cmp(&(header.tail_len as usize)) {
        std::cmp::Ordering::Less => Err(DecodeError::Short),
        std::cmp::Ordering::Greater => Err(DecodeError::Long),
        std::cmp::Ordering::Equal => Ok((body, Tail(tail))),
    }
}

/// The sections after a body, taken in order.
struct Tail<'a>(&'a [u8]);

impl<'a> Tail<'a> {
    fn take(&mut self, len: u16) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self
            .0
            .split_at_checked(len.into())
            .ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(head)
    }

    fn end(self) -> Result<(), DecodeError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Long)
        }
    }
}

fn change(
    kind: EventKind,
    rest: &[u8],
    header: &EventHeader,
    meta: &mut Meta,
) -> Result<Change, DecodeError> {
    let (body, mut tail): (ChangeBody, _) = body(rest, header)?;
    let old_dir = path(tail.take(body.old_dir_len)?);
    let old_name = text(tail.take(body.old_len)?);
    let new_dir = path(tail.take(body.new_dir_len)?);
    let new_name = text(tail.take(body.new_len)?);
    let detail = text(tail.take(body.detail_len)?).to_vec();
    let early_old = text(tail.take(body.early_old_len)?);
    let early_new = text(tail.take(body.early_new_len)?);
    tail.end()?;
    // The new name may be anywhere where its directory is not known, and is not whole where the
    // kernel side could not keep or read all of it.
    let lost = new_dir.is_empty() && !new_name.starts_with(b"/");
    let cut = header.flags & flag::STRING_TRUNCATED != 0
        && (new_name.is_empty() || new_name.len() + 1 >= STRING_BYTES);
    let resolved = header.flags & flag::RESOLVED != 0;
    // Nor does it say where it is what it was relative to, where that was changed during the call.
    let moved = header.flags & flag::BASE_CHANGED != 0;
    if lost || moved || (cut && !resolved) {
        meta.flags |= flag::PATH_TRUNCATED;
    }
    // No string at the begin is one whose page was not there: nothing is known then. Where the old name
    // was taken for a descriptor's, it has to have been one when the call began; whether it was the same
    // descriptor's the kernel side has told.
    let by_descriptor = kind == EventKind::Link && body.old_len == 0 && is_descriptor(early_old);
    let old_differs = body.early_old_len != 0 && early_old != old_name && !by_descriptor;
    let new_differs = body.early_new_len != 0 && early_new != new_name;
    let early = (old_differs || new_differs).then(|| {
        let begin = |early: &[u8], late: &[u8], dir: &[u8]| {
            join(dir.to_vec(), if early.is_empty() { late } else { early })
        };
        (
            begin(early_old, old_name, &old_dir),
            begin(early_new, new_name, &new_dir),
        )
    });
    // Where the directory's section is the whole path there is no name, and one that could not be read
    // is flagged.
    let unread = header.flags & flag::STRING_TRUNCATED != 0;
    let whole = |dir: Vec<u8>, name: &[u8]| {
        if name.is_empty() && (resolved || !unread) {
            dir
        } else {
            join(dir, name)
        }
    };
    Ok(Change {
        kind,
        old: whole(old_dir, old_name),
        new: whole(new_dir, new_name),
        detail,
        early,
        file: known(body.file),
        directory: known(body.directory),
        writer: writer(&body.writer),
        number: body.number,
        flags: body.call_flags,
        mode: body.mode,
        uid: body.uid,
        gid: body.gid,
        new_mode: body.new_mode,
        ids: body.ids,
        mnt_ns: body.mnt_ns,
    })
}

/// Whether a name is that of a descriptor, as the kernel side knows them.
fn is_descriptor(name: &[u8]) -> bool {
    [
        &b"/proc/self/fd/"[..],
        b"/proc/thread-self/fd/",
        b"/dev/fd/",
    ]
    .iter()
    .filter_map(|folder| name.strip_prefix(*folder))
    .any(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
}

fn known(key: InodeKey) -> Option<FileId> {
    (key != InodeKey::ZERO).then(|| FileId::from(key))
}

fn writer(writer: &tag::Writer) -> Option<Writer> {
    (writer.tgid != 0).then(|| Writer {
        process: ProcessKey::new(writer.tgid, writer.start_boot_ns),
        boot_ns: writer.boot_ns,
        tag: writer.tag,
    })
}

fn exec(rest: &[u8], header: &EventHeader) -> Result<Exec, DecodeError> {
    let (body, mut tail): (ExecBody, _) = body(rest, header)?;
    let exe = path(tail.take(body.exe_len)?);
    let cwd = path(tail.take(body.cwd_len)?);
    let cgroup = path(tail.take(body.cgroup_len)?);
    let filename = text(tail.take(body.filename_len)?).to_vec();
    let interp = text(tail.take(body.interp_len)?).to_vec();
    let head = tail.take(body.args_head_len)?;
    let end = tail.take(body.args_tail_len)?;
    tail.end()?;
    Ok(Exec {
        exe,
        file: FileId {
            dev: body.dev,
            inode: body.inode,
        },
        nlink: body.nlink,
        generation: body.generation,
        mode: body.mode,
        cwd,
        cgroup,
        cgroup_id: body.cgroup_id,
        filename,
        interp,
        args: args(head, end, body.args_len),
        args_len: body.args_len,
        ids: body.ids,
        cap_effective: body.cap_effective,
        cap_permitted: body.cap_permitted,
        loginuid: set(body.loginuid),
        sessionid: set(body.sessionid),
        ns: body.ns,
        pgid: body.pgid,
        sid: body.sid,
        tty: (body.tty != 0).then_some((body.tty >> 20, body.tty & 0xf_ffff)),
        stdio: body.stdio,
        parent: ProcessKey::new(body.parent_tgid, body.parent_start_boot_ns),
        old_tid: body.old_pid,
        writer: writer(&body.writer),
    })
}

const fn set(value: u32) -> Option<u32> {
    if value == u32::MAX { None } else { Some(value) }
}

/// Turns leaf-first, NUL-ended components into an absolute path. Empty stays empty: unknown.
fn path(components: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(components.len() + 1);
    if components.is_empty() {
        return path;
    }
    let components = components.strip_suffix(&[0]).unwrap_or(components);
    for name in components.rsplit(|&byte| byte == 0) {
        // The root's own name is "/" and adds nothing.
        if name != b"/" && !name.is_empty() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

/// Turns an absolute path into the components that [`decode`] turns back: for records that user
/// space writes itself.
#[must_use]
pub fn components(path: &[u8]) -> Vec<u8> {
    if path.is_empty() {
        return Vec::new();
    }
    let mut out = Vec::with_capacity(path.len() + 1);
    for name in path
        .rsplit(|&byte| byte == b'/')
        .filter(|name| !name.is_empty())
    {
        out.extend_from_slice(name);
        out.push(0);
    }
    if out.is_empty() {
        out.extend_from_slice(b"/\0");
    }
    out
}

/// A string of the kernel: up to its NUL.
#[must_use]
pub fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or(bytes)
}

/// Joins a name to the directory it is relative to and removes `.` and `..` without asking the
/// file system.
fn join(dir: Vec<u8>, name: &[u8]) -> Vec<u8> {
    if name.is_empty() {
        return Vec::new();
    }
    let base = if name.starts_with(b"/") {
        Vec::new()
    } else {
        dir
    };
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in base
        .split(|&byte| byte == b'/')
        .chain(name.split(|&byte| byte == b'/'))
    {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    let mut out = Vec::with_capacity(base.len() + name.len() + 1);
    for part in parts {
        out.push(b'/');
        out.extend_from_slice(part);
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

/// Splits the argument area. Where its middle is missing, one argument stands for the gap:
/// the cut one, with `…` between what is left of both ends.
fn args(head: &[u8], end: &[u8], total: u64) -> Vec<Vec<u8>> {
    let mut area = head.to_vec();
    let kept = (head.len() + end.len()) as u64;
    if !end.is_empty() {
        if total > kept {
            area.extend_from_slice("…".as_bytes());
        }
        area.extend_from_slice(end);
    }
    if area.is_empty() {
        return Vec::new();
    }
    let area = area.strip_suffix(&[0]).unwrap_or(&area);
    area.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect()
}
