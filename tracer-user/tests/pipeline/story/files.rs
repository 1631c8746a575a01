//! Records about files: opened, mapped, renamed, changed.

use bytes::Bytes;
use tracer::event::components;
use tracer_common::event::{ChangeBody, EventKind, FileBody, access, flag, fmode};
use tracer_common::limits::STRING_BYTES;
use tracer_common::tag::InodeKey;

use super::line::Line;
use super::{Teller, ids, on_disk, record};

impl Teller {
    /// `:directory=5`: the watched directory that the kernel found it in.
    fn directory(line: &Line) -> InodeKey {
        line.option("directory")
            .map_or(InodeKey::ZERO, |inode| on_disk(inode.parse().unwrap()))
    }

    pub(super) fn file(&mut self, line: &Line) -> Bytes {
        let pid = line.pid();
        let uid = self.process(pid).uid;
        let mut body = FileBody {
            f_mode: fmode::WRITE,
            f_flags: 0o1,
            ..FileBody::ZERO
        };
        let (kind, path) = match (line.word(0), line.word(2)) {
            ("open", "created") => {
                body.f_mode |= fmode::CREATED;
                body.f_flags |= 0o100;
                (EventKind::Open, line.word(3))
            }
            ("open", "write") => (EventKind::Open, line.word(3)),
            ("open", "append") => {
                body.f_flags |= 0o2000;
                (EventKind::Open, line.word(3))
            }
            ("map", "write") => {
                body.access = access::WRITE;
                (EventKind::Map, line.word(3))
            }
            ("map", "exec") => {
                body.access = access::EXEC;
                (EventKind::Map, line.word(3))
            }
            ("wrote", path) => (EventKind::Write, path),
            ("read", path) => {
                body.f_mode = 0x1;
                body.f_flags = 0;
                (EventKind::Read, path)
            }
            (verb, how) => panic!("no way to {verb} {how:?}"),
        };
        let path = path.to_owned();
        let mut header = self.header(line, kind, pid);
        if body.f_mode & fmode::CREATED != 0 {
            header.flags |= flag::CREATED;
        }
        let mut tail = components(path.as_bytes());
        body.path_len = u16::try_from(tail.len()).unwrap();
        body.file = on_disk(self.inode(line, &path));
        // `:name=../x.php`: told before it is done, by a name that is relative to the path.
        if let Some(name) = line.option("name") {
            header.flags |= flag::ATTEMPT | flag::URING;
            body.file = InodeKey::ZERO;
            body.name_len = u16::try_from(name.len()).unwrap() + 1;
            tail.extend_from_slice(name.as_bytes());
            tail.push(0);
        }
        body.generation = line
            .option("gen")
            .map_or(0, |number| number.parse().unwrap());
        body.directory = Self::directory(line);
        body.writer = self.writer(line);
        body.mnt_ns = mnt_ns(line);
        body.ids = ids(uid);
        body.uid = uid;
        body.gid = uid;
        body.nlink = 1;
        body.mode = 0o100_644;
        record(header, &body, &tail)
    }

    pub(super) fn change(&mut self, line: &Line, kind: EventKind) -> Bytes {
        let pid = line.pid();
        let mut header = self.header(line, kind, pid);
        let uid = self.process(pid).uid;
        let mut body = ChangeBody {
            mnt_ns: mnt_ns(line),
            call_flags: if line.option("exchange").is_some() {
                2
            } else {
                0
            },
            uid,
            gid: uid,
            mode: 0o100_644,
            writer: self.writer(line),
            directory: Self::directory(line),
            ..ChangeBody::ZERO
        };
        body.ids = ids(uid);
        if let Some(number) = line.option("number") {
            body.number = number.parse().unwrap();
        }
        let (mut old, mut detail) = (String::new(), String::new());
        let new = match kind {
            EventKind::Rename | EventKind::Link => {
                line.word(2).clone_into(&mut old);
                line.word(3)
            }
            EventKind::Symlink | EventKind::Mount | EventKind::Setxattr => {
                line.word(2).clone_into(&mut detail);
                line.word(3)
            }
            EventKind::Chmod => {
                body.new_mode = u16::from_str_radix(line.word(2), 8).unwrap();
                line.word(3)
            }
            EventKind::Chown => {
                let (uid, gid) = line.word(2).split_once(':').unwrap();
                body.number = uid.parse::<u64>().unwrap() << 32 | gid.parse::<u64>().unwrap();
                line.word(3)
            }
            EventKind::Truncate => {
                body.number = line.number(2);
                line.word(3)
            }
            _ => line.word(2),
        }
        .to_owned();
        let known = if old.is_empty() { &new } else { &old }.clone();
        if line.option("no-file").is_none() && kind != EventKind::Symlink {
            body.file = on_disk(self.inode(line, &known));
        }
        self.follow(kind, &old, &new);
        // As `bpf_probe_read_user_str` does: cut, and always ended by NUL.
        let mut string = |name: &str| {
            let mut bytes = name.as_bytes().to_vec();
            if bytes.len() >= STRING_BYTES {
                bytes.truncate(STRING_BYTES - 1);
                header.flags |= flag::STRING_TRUNCATED;
            }
            if !bytes.is_empty() {
                bytes.push(0);
            }
            bytes
        };
        let resolved = line.option("resolved").is_some();
        let mut place = |name: &str| match name.rsplit_once('/') {
            // The kernel's own: the directory that it found, and one component.
            Some((dir, last)) if resolved => (components(dir.as_bytes()), string(last)),
            _ => {
                let dir = line.option("dir").unwrap_or("");
                (components(dir.as_bytes()), string(name))
            }
        };
        let (old_dir, old) = place(&old);
        let (new_dir, new) = place(&new);
        let sections = [
            old_dir,
            old,
            new_dir,
            new,
            string(&detail),
            string(line.option("early-old").unwrap_or("")),
            string(line.option("early-new").unwrap_or("")),
        ];
        let lengths = sections
            .each_ref()
            .map(|section| u16::try_from(section.len()).unwrap());
        [
            body.old_dir_len,
            body.old_len,
            body.new_dir_len,
            body.new_len,
            body.detail_len,
            body.early_old_len,
            body.early_new_len,
        ] = lengths;
        record(header, &body, &sections.concat())
    }

    /// Which file has the new name from now on.
    fn follow(&mut self, kind: EventKind, old: &str, new: &str) {
        if !matches!(kind, EventKind::Rename | EventKind::Link) {
            return;
        }
        let prefix = format!("{old}/");
        let moved: Vec<(String, u64)> = self
            .files
            .iter()
            .filter(|(name, _)| **name == old || name.starts_with(&prefix))
            .map(|(name, inode)| (name.replacen(old, new, 1), *inode))
            .collect();
        self.files.extend(moved);
    }
}

/// `:mnt=7`: the mount namespace that it was done in.
fn mnt_ns(line: &Line) -> u32 {
    line.option("mnt")
        .map_or(4_026_531_841, |number| number.parse().unwrap())
}
