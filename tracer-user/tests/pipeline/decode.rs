//! The decoder, fed with records, with what is left of them, and with noise.

use std::mem::{offset_of, size_of};

use bytes::Bytes;
use tracer::config::Emit;
use tracer::event::{
    Change, DecodeError, Exec, FileAccess, Payload, ProcessKey, Socket, components, decode,
};
use tracer::memory::Budget;
use tracer::pipeline::Pipeline;
use tracer::source::Input;
use tracer_common::event::{
    ChangeBody, EventHeader, EventKind, ExecBody, ExecFailedBody, FileBody, Ids, NamespaceBody,
    SocketBody, VERSION, access, flag, namespace_call, trace_method,
};
use tracer_common::limits::{ARGS_HEAD_BYTES, ARGS_TAIL_BYTES, NAME_BYTES};
use tracer_common::probe::Tier;
use tracer_common::wire::{as_bytes, split};

use crate::random::Random;
use crate::story::{self, cut, json, preamble, records};

/// A record of every kind, with every section filled.
fn samples() -> Vec<Bytes> {
    let records = records(
        "fork 1>20\n\
         exec 20 :writer=11 :cwd=/srv/www :script=/srv/www/x.sh /usr/bin/dash sh /srv/www/x.sh a 'b c'\n\
         exit 20 256\n\
         open 20 created /srv/www/x.php\n\
         rename 20 :dir=/srv/www :early-new=d.php a b/../c.php\n\
         listen 20 80\n\
         observed 1 /sbin/init\n\
         wrote 20 :directory=5 /srv/www/x.php\n\
         map 20 exec /tmp/x\n\
         read 20 :writer=11 /srv/www/x.php\n\
         link 20 :resolved /tmp/x /srv/www/x.php\n\
         symlink 20 ../x /srv/www/y.php\n\
         unlink 20 /srv/www/x.php\n\
         mkdir 20 /srv/www/d\n\
         mknod 20 /srv/www/n\n\
         truncate 20 4096 /srv/www/x.php\n\
         chmod 20 4755 /tmp/x\n\
         chown 20 0:33 /tmp/x\n\
         setxattr 20 security.capability /tmp/x\n\
         mount 20 /tmp/www /srv/www\n\
         connect 20 192.0.2.7:443\n\
         bind 20 127.0.0.1:8080\n\
         accept 20 192.0.2.8:5000\n\
         send 20 /dev/log\n\
         redirect 20 0 192.0.2.7:443\n\
         exec_failed 20 2 /bin/nothing\n\
         credentials 20 0\n\
         namespace 20 chroot /mnt/a\n\
         trace 20 ptrace 7\n\
         comm 20 sh kworker",
    );
    let kinds: Vec<EventKind> = records.iter().map(|bytes| kind(bytes)).collect();
    assert_eq!(kinds, EventKind::ALL);
    records
}

fn header(bytes: &[u8]) -> EventHeader {
    split(bytes).unwrap().0
}

fn kind(bytes: &[u8]) -> EventKind {
    EventKind::from_raw(header(bytes).kind).unwrap()
}

fn sample(wanted: EventKind) -> Bytes {
    let mut samples = samples().into_iter();
    samples.find(|bytes| kind(bytes) == wanted).unwrap()
}

/// The record with these bytes at `at`.
fn with(bytes: &[u8], at: usize, new: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

#[test]
fn an_open_that_is_not_done_yet_has_its_callers_name() {
    for (line, path, missing) in [
        (
            "open 20 :name=../www/z.php created /srv/tmp",
            "/srv/www/z.php",
            0,
        ),
        ("open 20 :name=/etc/./x write ''", "/etc/x", 0),
        // Its directory is not known.
        (
            "open 20 :name=x.php write ''",
            "/x.php",
            flag::PATH_TRUNCATED,
        ),
    ] {
        let event = decode(&records(line)[0]).unwrap();
        let Payload::File(open) = event.payload else {
            panic!("{line}")
        };
        assert_eq!(String::from_utf8_lossy(&open.path), path, "{line}");
        assert_eq!(open.file, tracer::event::FileId::default());
        let told = event.meta.flags & !flag::CREATED;
        assert_eq!(told, flag::ATTEMPT | flag::URING | missing, "{line}");
    }
}

#[test]
fn every_kind_is_read_whole() {
    for bytes in samples() {
        let event = decode(&bytes).unwrap();
        let header = header(&bytes);
        assert_eq!(event.meta.subject.tgid, header.tgid);
        assert_eq!(event.meta.boot_ns, header.boot_ns);
        let known = match (kind(&bytes), &event.payload) {
            (EventKind::Fork, Payload::Fork(fork)) => {
                fork.child.tgid == 20 && fork.parent.tgid == 1
            }
            (EventKind::Exec, Payload::Exec(exec)) => {
                exec.exe == b"/usr/bin/dash"
                    && exec.cwd == b"/srv/www"
                    && exec.cgroup == b"/system.slice/web.service"
                    && exec.filename == b"/srv/www/x.sh"
                    && exec.interp == b"/usr/bin/dash"
                    && exec.args == [b"sh".as_slice(), b"/srv/www/x.sh", b"a", b"b c"]
                    && exec.args_len == 23
                    && exec.writer.is_some_and(|writer| writer.process.tgid == 11)
            }
            (EventKind::Exit, Payload::Exit(exit)) => exit.status == 256,
            (kind, Payload::File(file)) => kind == file.kind && is_whole_file(file),
            (kind, Payload::Change(change)) => kind == change.kind && is_whole_change(change),
            (kind, Payload::Socket(socket)) => kind == socket.kind && is_whole_socket(socket),
            (EventKind::ExecFailed, Payload::ExecFailed(failed)) => {
                failed.filename == b"/bin/nothing" && failed.error == 2
            }
            (EventKind::Credentials, Payload::Credentials(now)) => {
                now.ids == Ids::ZERO && now.cap_effective == (1 << 41) - 1
            }
            (EventKind::Namespace, Payload::Namespace(now)) => {
                now.call == namespace_call::CHROOT
                    && now.root == b"/mnt/a"
                    && now.ns.mnt == 4_026_532_001
            }
            (EventKind::Trace, Payload::Trace(trace)) => {
                trace.target == Some(ProcessKey::new(7, 70_000_000))
                    && trace.method == trace_method::PTRACE
            }
            (EventKind::Comm, Payload::Comm(comm)) => {
                comm.old.starts_with(b"sh\0") && comm.new.starts_with(b"kworker\0")
            }
            (EventKind::Observed, Payload::Observed(exec)) => {
                exec.exe == b"/sbin/init" && event.meta.tier == Tier::Snapshot
            }
            _ => false,
        };
        assert!(known, "{event:?}");
    }
}

/// What the samples say of files, by kind.
fn is_whole_file(file: &FileAccess) -> bool {
    let of_disk = file.file.dev == 8 << 20 | 1 && file.mnt_ns == 4_026_531_841;
    of_disk
        && match file.kind {
            EventKind::Open => file.path == b"/srv/www/x.php" && file.created,
            EventKind::Write => {
                let directory = file.directory.map(|directory| directory.inode);
                file.path == b"/srv/www/x.php" && !file.created && directory == Some(5)
            }
            EventKind::Map => file.path == b"/tmp/x" && file.access == access::EXEC,
            EventKind::Read => file
                .writer
                .is_some_and(|writer| writer.process == ProcessKey::new(11, 110_000_000)),
            _ => false,
        }
}

fn is_whole_change(change: &Change) -> bool {
    let names = |old: &str, new: &str, detail: &str| {
        change.old == old.as_bytes()
            && change.new == new.as_bytes()
            && change.detail == detail.as_bytes()
    };
    match change.kind {
        EventKind::Rename => {
            let early = (b"/srv/www/a".to_vec(), b"/srv/www/d.php".to_vec());
            names("/srv/www/a", "/srv/www/c.php", "") && change.early == Some(early)
        }
        EventKind::Link => names("/tmp/x", "/srv/www/x.php", "") && change.file.is_some(),
        EventKind::Symlink => names("", "/srv/www/y.php", "../x") && change.file.is_none(),
        EventKind::Unlink => names("", "/srv/www/x.php", ""),
        EventKind::Mkdir => names("", "/srv/www/d", ""),
        EventKind::Mknod => names("", "/srv/www/n", ""),
        EventKind::Truncate => names("", "/srv/www/x.php", "") && change.number == 4096,
        EventKind::Chmod => {
            names("", "/tmp/x", "") && (change.mode, change.new_mode) == (0o100_644, 0o4755)
        }
        EventKind::Chown => names("", "/tmp/x", "") && change.number == 33,
        EventKind::Setxattr => names("", "/tmp/x", "security.capability"),
        EventKind::Mount => names("", "/srv/www", "/tmp/www"),
        _ => false,
    }
}

fn is_whole_socket(socket: &Socket) -> bool {
    let (local, remote) = (socket.socket.local_port, socket.socket.remote_port);
    match socket.kind {
        EventKind::Listen => (local, remote) == (80, 0),
        EventKind::Connect => (local, remote) == (0, 443),
        EventKind::Bind => (local, remote) == (8080, 0),
        EventKind::Accept => (local, remote) == (0, 5000),
        EventKind::Send => socket.name == b"/dev/log" && socket.fd.is_none(),
        EventKind::Redirect => socket.fd == Some(0) && remote == 443,
        _ => false,
    }
}

#[test]
fn every_truncation_is_short_and_every_addition_long() {
    for bytes in samples() {
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), Err(DecodeError::Short), "{len}");
        }
        for more in [1, 7, 64] {
            let long = [&bytes[..], &vec![0; more]].concat();
            assert_eq!(decode(&long), Err(DecodeError::Long));
        }
    }
}

#[test]
fn the_header_says_what_can_be_read() {
    let bytes = &samples()[1];
    for version in 0..=u8::MAX {
        let changed = with(bytes, offset_of!(EventHeader, version), &[version]);
        let expected = (version != VERSION).then_some(DecodeError::Version(version));
        assert_eq!(decode(&changed).err(), expected);
    }
    for raw in 0..=u16::MAX {
        let changed = with(bytes, offset_of!(EventHeader, kind), &raw.to_ne_bytes());
        match EventKind::from_raw(raw) {
            None => assert_eq!(decode(&changed), Err(DecodeError::Kind(raw))),
            Some(EventKind::Exec | EventKind::Observed) => assert!(decode(&changed).is_ok()),
            // The body of another kind has another length.
            Some(_) => assert!(matches!(
                decode(&changed),
                Err(DecodeError::Short | DecodeError::Long)
            )),
        }
    }
    for raw in 0..=u8::MAX {
        let changed = with(bytes, offset_of!(EventHeader, tier), &[raw]);
        let expected = Tier::from_raw(raw)
            .is_none()
            .then_some(DecodeError::Tier(raw));
        assert_eq!(decode(&changed).err(), expected);
    }
}

#[test]
fn sections_must_add_up() {
    let body = size_of::<EventHeader>();
    let fields: &[(EventKind, usize)] = &[
        (EventKind::Exec, offset_of!(ExecBody, exe_len)),
        (EventKind::Exec, offset_of!(ExecBody, cwd_len)),
        (EventKind::Exec, offset_of!(ExecBody, cgroup_len)),
        (EventKind::Exec, offset_of!(ExecBody, filename_len)),
        (EventKind::Exec, offset_of!(ExecBody, interp_len)),
        (EventKind::Exec, offset_of!(ExecBody, args_head_len)),
        (EventKind::Exec, offset_of!(ExecBody, args_tail_len)),
        (EventKind::Observed, offset_of!(ExecBody, exe_len)),
        (EventKind::Open, offset_of!(FileBody, path_len)),
        (EventKind::Open, offset_of!(FileBody, name_len)),
        (EventKind::Write, offset_of!(FileBody, path_len)),
        (EventKind::Map, offset_of!(FileBody, path_len)),
        (EventKind::Read, offset_of!(FileBody, path_len)),
        (EventKind::Rename, offset_of!(ChangeBody, old_dir_len)),
        (EventKind::Rename, offset_of!(ChangeBody, old_len)),
        (EventKind::Rename, offset_of!(ChangeBody, new_dir_len)),
        (EventKind::Rename, offset_of!(ChangeBody, new_len)),
        (EventKind::Rename, offset_of!(ChangeBody, early_new_len)),
        (EventKind::Link, offset_of!(ChangeBody, old_dir_len)),
        (EventKind::Symlink, offset_of!(ChangeBody, detail_len)),
        (EventKind::Unlink, offset_of!(ChangeBody, early_old_len)),
        (EventKind::Mount, offset_of!(ChangeBody, detail_len)),
        (EventKind::Namespace, offset_of!(NamespaceBody, root_len)),
    ];
    let samples = samples();
    for (wanted, at) in fields {
        let bytes = samples.iter().find(|bytes| kind(bytes) == *wanted).unwrap();
        let at = body + at;
        let len = u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        for wrong in [len + 1, u16::MAX] {
            let changed = with(bytes, at, &wrong.to_ne_bytes());
            assert_eq!(decode(&changed), Err(DecodeError::Short), "{wanted:?} {at}");
        }
        if len > 0 {
            let changed = with(bytes, at, &(len - 1).to_ne_bytes());
            assert_eq!(decode(&changed), Err(DecodeError::Long), "{wanted:?} {at}");
        }
    }
    for bytes in &samples {
        let len = header(bytes).tail_len;
        let at = offset_of!(EventHeader, tail_len);
        for (wrong, error) in [
            (len + 1, DecodeError::Short),
            (u32::MAX, DecodeError::Short),
            (
                len.wrapping_sub(1),
                if len == 0 {
                    DecodeError::Short
                } else {
                    DecodeError::Long
                },
            ),
        ] {
            assert_eq!(decode(&with(bytes, at, &wrong.to_ne_bytes())), Err(error));
        }
    }
}

/// A name within a body: its length is the sender's word too.
#[test]
fn a_name_ends_within_its_place() {
    let socket = &sample(EventKind::Send);
    let at = size_of::<EventHeader>() + offset_of!(SocketBody, name_len);
    for (len, error) in [
        (0, None),
        (112, None),
        (113, Some(DecodeError::Short)),
        (u16::MAX, Some(DecodeError::Short)),
    ] {
        assert_eq!(decode(&with(socket, at, &len.to_ne_bytes())).err(), error);
    }
    let failed = &sample(EventKind::ExecFailed);
    let at = size_of::<EventHeader>() + offset_of!(ExecFailedBody, name);
    let Payload::ExecFailed(read) = decode(&with(failed, at, &[b'x'; NAME_BYTES]))
        .unwrap()
        .payload
    else {
        panic!("a failed exec")
    };
    assert_eq!(read.filename, [b'x'; NAME_BYTES]);
}

#[test]
fn names_of_a_change_are_the_kernel_s_or_the_caller_s() {
    let change = |line: &str| match decode(&records(line)[0]).unwrap() {
        event if event.meta.flags & flag::PATH_TRUNCATED != 0 => None,
        event => match event.payload {
            Payload::Change(change) => Some((change.old, change.new, change.early)),
            other => panic!("{other:?}"),
        },
    };
    let two = |old: &[u8], new: &[u8]| Some((old.to_vec(), new.to_vec(), None));
    // One component of the kernel's is not looked at: it cannot be a way elsewhere.
    assert_eq!(
        change("link 20 :resolved /tmp/a /srv/www/b"),
        two(b"/tmp/a", b"/srv/www/b")
    );
    assert_eq!(change("link 20 /tmp/../a /srv/./b"), two(b"/a", b"/srv/b"));
    assert_eq!(change("unlink 20 x"), None);
    // A name that was another when the call began; what was not read then says nothing.
    let early = change("rename 20 :early-old=/tmp/a :early-new=/tmp/b /tmp/a /srv/b");
    let before = (b"/tmp/a".to_vec(), b"/tmp/b".to_vec());
    assert_eq!(early.unwrap().2, Some(before));
    assert_eq!(
        change("rename 20 :early-old=/tmp/a /tmp/a /srv/b"),
        two(b"/tmp/a", b"/srv/b")
    );
    // What a name is relative to was another: it may be anywhere.
    assert_eq!(change("rename 20 :moved /tmp/a /srv/b"), None);
}

/// Whatever the bytes are, the pipeline takes them and writes whole lines of JSON.
fn digest(pipeline: &mut Pipeline, bytes: Vec<u8>) {
    pipeline.input(Input::Record(bytes.into()));
    pipeline.input(Input::Watermark(u64::MAX));
    let documents = pipeline.take_documents();
    pipeline.take_commands();
    for line in json(&documents).lines() {
        assert!(
            serde_json::from_str::<serde_json::Value>(line)
                .unwrap()
                .is_object()
        );
    }
}

fn pipeline() -> Pipeline {
    let mut pipeline = Pipeline::new(Emit::All, Budget::new(4 << 20));
    for input in preamble().into_iter().chain(story::told("served /srv/www")) {
        pipeline.input(input);
    }
    pipeline
}

#[test]
fn flipped_bits_are_survived() {
    let mut pipeline = pipeline();
    let (mut read, mut refused) = (0, 0);
    for bytes in samples() {
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match decode(&flipped) {
                Ok(_) => read += 1,
                Err(_) => refused += 1,
            }
            if bit % 5 == 0 {
                digest(&mut pipeline, flipped);
            }
        }
    }
    assert!(read > 1000 && refused > 500, "{read} {refused}");
}

#[test]
fn noise_is_survived() {
    let mut random = Random(0x7261_6365_7200_0001);
    let samples = samples();
    let mut pipeline = pipeline();
    let mut read = 0;
    for round in 0..30_000 {
        let len = random.below(1500);
        let noise = match round % 3 {
            0 => random.bytes(len),
            // A right header, then anything.
            1 => {
                let sample = &samples[random.below(samples.len())];
                let mut header = header(sample);
                header.tail_len = u32::try_from(len).unwrap();
                header.flags = random.byte().into();
                let body = sample.len() - size_of::<EventHeader>() - {
                    let (header, _): (EventHeader, _) = split(sample).unwrap();
                    header.tail_len as usize
                };
                [as_bytes(&header), &random.bytes(body + len)].concat()
            }
            // A right record with bytes changed.
            _ => {
                let mut bytes = samples[random.below(samples.len())].to_vec();
                for _ in 0..1 + random.below(8) {
                    let at = random.below(bytes.len());
                    bytes[at] = random.byte();
                }
                bytes
            }
        };
        if decode(&noise).is_ok() {
            read += 1;
            digest(&mut pipeline, noise);
        }
    }
    assert!(read > 5_000, "{read}");
    assert!(pipeline.held() <= Budget::new(4 << 20).store);
}

/// An exec record with these sections and nothing else of note.
fn exec(exe: &[u8], cwd: &[u8], area: &[u8]) -> Exec {
    let (exe, cwd) = (components(exe), components(cwd));
    let (head, end, cut) = cut(area);
    let header = EventHeader {
        kind: EventKind::Exec.raw(),
        version: VERSION,
        tier: Tier::Tracepoint as u8,
        flags: if cut { flag::ARGS_TRUNCATED } else { 0 },
        ..EventHeader::ZERO
    };
    let len = |section: &[u8]| u16::try_from(section.len()).unwrap();
    let body = ExecBody {
        exe_len: len(&exe),
        cwd_len: len(&cwd),
        args_head_len: len(head),
        args_tail_len: len(end),
        args_len: area.len() as u64,
        ..ExecBody::ZERO
    };
    let bytes = story::record(header, &body, &[&exe, &cwd, head, end].concat());
    let Payload::Exec(exec) = decode(&bytes).unwrap().payload else {
        panic!("an exec record is an exec")
    };
    *exec
}

#[test]
fn paths_come_back_as_they_went() {
    let mut random = Random(2);
    let name = |random: &mut Random| -> Vec<u8> {
        let len = 1 + random.below(40);
        let mut name = random.bytes(len);
        for byte in &mut name {
            if matches!(*byte, 0 | b'/') {
                *byte = b'.';
            }
        }
        name
    };
    for _ in 0..5_000 {
        let path: Vec<u8> = (0..random.below(20))
            .flat_map(|_| [vec![b'/'], name(&mut random)].concat())
            .collect();
        // No component at all is a path that is not known.
        assert_eq!(exec(&path, b"/", b"").exe, path);
        assert_eq!(exec(b"/", &path, b"").cwd, path);
    }
    assert_eq!(exec(b"/", b"", b"").exe, b"/");
    assert_eq!(exec(b"/a//b/", b"", b"").exe, b"/a/b");
}

#[test]
fn arguments_come_back_as_they_went_or_with_one_gap() {
    let mut random = Random(3);
    let gap = "…".as_bytes();
    let (mut whole, mut broken) = (0, 0);
    for _ in 0..3_000 {
        let longest = if random.below(2) == 0 { 30 } else { 2_000 };
        let args: Vec<Vec<u8>> = (0..1 + random.below(12))
            .map(|_| {
                let len = random.below(longest);
                let mut arg = random.bytes(len);
                arg.iter_mut()
                    .filter(|byte| **byte == 0)
                    .for_each(|byte| *byte = b'\n');
                arg
            })
            .collect();
        let area: Vec<u8> = args
            .iter()
            .flat_map(|arg| [arg, [0].as_slice()].concat())
            .collect();
        let read = exec(b"/x", b"/", &area);
        assert_eq!(read.args_len, area.len() as u64);
        if area.len() <= ARGS_HEAD_BYTES + ARGS_TAIL_BYTES {
            whole += 1;
            assert_eq!(read.args, args);
        } else {
            broken += 1;
            let mut joined = read.args.join(&0);
            joined.push(0);
            let (head, end) = (
                &area[..ARGS_HEAD_BYTES],
                &area[area.len() - ARGS_TAIL_BYTES..],
            );
            assert!(joined == [head, gap, end].concat());
            // One argument holds the gap: the others are arguments of the process.
            let strange = read.args.iter().filter(|arg| !args.contains(arg)).count();
            assert!(strange <= 1, "{strange}");
        }
    }
    assert!(whole > 500 && broken > 500, "{whole} {broken}");
    // To the byte where the middle is lost.
    for (len, lost) in [(6143, false), (6144, false), (6145, true)] {
        let area = [vec![b'a'; len - 1], vec![0]].concat();
        let read = exec(b"/x", b"/", &area);
        assert_eq!(read.args.len(), 1);
        assert_eq!(
            read.args[0].windows(3).any(|part| part == gap),
            lost,
            "{len}"
        );
    }
    assert_eq!(exec(b"/x", b"/", b"").args, Vec::<Vec<u8>>::new());
    assert_eq!(exec(b"/x", b"/", b"\0").args, [b""]);
    // A process that wrote its title over the area may leave no NUL.
    assert_eq!(exec(b"/x", b"/", b"a\0b").args, [b"a", b"b"]);
}

#[test]
fn a_rename_whose_new_name_is_not_whole_says_so() {
    let flags = |line: &str| decode(&records(line)[0]).unwrap().meta.flags;
    let whole = "rename 20 /tmp/x /srv/www/x.php";
    assert_eq!(flags(whole), 0);
    assert_eq!(flags("rename 20 :dir=/srv x y"), 0);
    assert_eq!(flags("rename 20 x /srv/y"), 0);
    assert_eq!(flags("rename 20 x y"), flag::PATH_TRUNCATED);
    let long = "a/".repeat(600);
    let both = flag::PATH_TRUNCATED | flag::STRING_TRUNCATED;
    assert_eq!(flags(&format!("rename 20 /tmp/x /srv/{long}")), both);
    // The old name cut is no harm.
    assert_eq!(
        flags(&format!("rename 20 /tmp/{long} /srv/x")),
        flag::STRING_TRUNCATED
    );
}
