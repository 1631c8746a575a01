//! A small language for what happens on a host, turned into the records the kernel would send.
//!
//! One line, one record, a millisecond after the line before. `#` begins a comment. Words are split
//! at spaces; `'…'` keeps them together, with `\n` for a newline. Words that begin with `:` are
//! options and come right after the pid.
//!
//! ```text
//! observed 1 /sbin/init                     ran before the agent; all such lines have one time
//! end                                       the snapshot is complete
//! fork 10>20                                10 creates 20
//! exec 20 :uid=33 /bin/sh sh -c 'id; ls'    executable, then argv (its name, where left out)
//! open 20 created /srv/www/x.php            or `write`, `append`; `:gen=2`: its inode's generation
//! wrote|read 20 /srv/www/x.php              by a descriptor it was given; for reading
//! map 20 write|exec /srv/www/x.php
//! rename|link 20 /srv/www/x.txt /srv/www/x  `:exchange`: RENAME_EXCHANGE
//! symlink 20 TARGET /srv/www/x              also `mount SOURCE`, `setxattr NAME`, `chmod 755`,
//!                                           `chown 33:33`, `truncate SIZE`
//! unlink|mkdir|mknod 20 /srv/www/x
//! listen 20 80
//! connect|bind|accept|send 20 192.0.2.7:53  or a path, for a unix socket; `redirect 20 0 …`
//! exec_failed 20 2 /bin/nothing             errno and name
//! credentials 20 0                          all users and groups
//! namespace 20 chroot /mnt                  the call and the root
//! trace 20 ptrace 7                         the method and the target
//! comm 20 sh kworker
//! exit 20 256                               status as wait(2) gives it
//! served|component|cgi /srv/www             a directory becomes known
//! placed 5 served /srv/www                  the kernel knows it by inode 5
//! leads /tmp/l /srv/www                     where a directory leads that was asked for
//! wait 61s                                  time passes; also `ms`
//! exit 20 :cpu=1 :seq=7 0                   the seventh record of its program on that CPU
//! lost life_ring_full 3                     `:cpu=1`: records of that CPU
//! asks 250                                  containers are answered, alerts wait so many milliseconds
//! container ID name image:tag pod           what a runtime says of it, or `container ID` for nothing
//! heal                                      /proc is read again from now on
//! found 20 :tag=app@10/1 /bin/sh            a process that it shows, with the kernel's tag
//! healed                                    it has been read
//! now                                       everything up to here has arrived
//! ```

use std::collections::HashMap;

use bytes::Bytes;
use tracer::alert::{Document, HostFacts};
use tracer::config::Emit;
use tracer::encode::ecs;
use tracer::enrich::docroot::{Entry, Kind, Origin};
use tracer::enrich::facts::{ContainerFacts, ImageFacts, PodFacts};
use tracer::enrich::user::Whose;
use tracer::event::{FileId, components};
use tracer::memory::Budget;
use tracer::pipeline::{Command, Pipeline};
use tracer::source::{Enrichment, Input, Loss, Names, NamesStep, Resolved, Stream};
use tracer_common::event::{
    EventHeader, EventKind, ExecBody, ExitBody, ForkBody, Ids, VERSION, fd_kind, flag,
};
use tracer_common::limits::{ARGS_HEAD_BYTES, ARGS_TAIL_BYTES};
use tracer_common::probe::Tier;
use tracer_common::tag::{InodeKey, Tag, Writer};
use tracer_common::wire::{Wire, as_bytes};

use self::line::{Line, descriptor, tag};

mod files;
mod line;
mod others;

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000 * MS;

/// When the agent attached: the time of every `observed` line.
pub(crate) const ATTACHED: u64 = 1_000 * SECOND;

/// The inputs that a story tells, in its order, after those every run begins with.
pub(crate) fn inputs(story: &str) -> Vec<Input> {
    let mut all = preamble();
    all.extend(told(story));
    all
}

/// Host, clock and names.
pub(crate) fn preamble() -> Vec<Input> {
    let names = [
        (false, 0, "root"),
        (false, 33, "www-data"),
        (true, 33, "www-data"),
    ];
    vec![
        Input::Host(HostFacts {
            hostname: "web-1".into(),
            machine_id: "0123456789abcdef0123456789abcdef".into(),
            boot_id: "6f1c5f0e-6b1a-4f0e-9d0b-1b2c3d4e5f60".into(),
            architecture: "x86_64".into(),
            kernel: "6.1.0-18-amd64".into(),
            os_platform: "debian".into(),
            os_name: "Debian GNU/Linux".into(),
            os_version: "12".into(),
        }),
        Input::Clock(1_767_323_045_006_007_008),
        Input::Names(Names {
            whose: Whose::default(),
            step: NamesStep::Add,
            more: false,
            names: names
                .map(|(group, id, name)| (group, id, name.into()))
                .to_vec(),
        }),
    ]
}

/// The inputs of the lines alone.
pub(crate) fn told(story: &str) -> Vec<Input> {
    Teller::default().tell(story)
}

/// The record of each line that is one.
pub(crate) fn records(story: &str) -> Vec<Bytes> {
    told(story)
        .into_iter()
        .filter_map(|input| match input {
            Input::Record(bytes) => Some(bytes),
            Input::Host(_)
            | Input::Clock(_)
            | Input::Names(_)
            | Input::Content { .. }
            | Input::Directory(_)
            | Input::DirectoryUnnamed(_)
            | Input::DirectoryAt { .. }
            | Input::DirectoryLeft(_)
            | Input::SnapshotEnd
            | Input::Watermark(_)
            | Input::Loss(_)
            | Input::HealBegin(_)
            | Input::HealEnd
            | Input::Resolved(_)
            | Input::Remembered(_)
            | Input::Blind(_)
            | Input::Enrichment(_)
            | Input::Exceptions(_)
            | Input::Fold(_)
            | Input::Container { .. }
            | Input::Pod { .. }
            | Input::Rules { .. }
            | Input::RulesRejected(_) => None,
        })
        .collect()
}

/// A pipeline that took these inputs and then everything that waited.
pub(crate) fn run(emit: Emit, inputs: &[Input]) -> Pipeline {
    let mut pipeline = Pipeline::new(emit, Budget::default());
    for input in inputs {
        pipeline.input(input.clone());
    }
    pipeline.input(Input::Watermark(u64::MAX));
    pipeline
}

/// A budget with room for the processes that these inputs leave, and no more.
pub(crate) fn room_for(inputs: &[Input]) -> Budget {
    Budget {
        store: run(Emit::Alerts, inputs).held(),
        ..Budget::default()
    }
}

/// The documents of these inputs.
pub(crate) fn documents(emit: Emit, inputs: &[Input]) -> Vec<Document> {
    run(emit, inputs).take_documents()
}

/// The commands that a story makes the pipeline give, discovery left out.
pub(crate) fn tags(story: &str) -> Vec<(u32, Tag)> {
    run(Emit::Alerts, &inputs(story))
        .take_commands()
        .into_iter()
        .filter_map(|command| match command {
            Command::Tag(key, tag) => Some((key.tgid, tag)),
            Command::Role(..)
            | Command::Discover(_)
            | Command::Identify
            | Command::Heal
            | Command::Written(_)
            | Command::Resolve(_)
            | Command::Names(_)
            | Command::Content(_)
            | Command::Container(_) => None,
        })
        .collect()
}

/// What is written of these inputs, reports of losses where they come.
pub(crate) fn written(emit: Emit, inputs: &[Input]) -> String {
    let mut pipeline = Pipeline::new(emit, Budget::default());
    let mut out = Vec::new();
    for input in inputs.iter().chain([&Input::Watermark(u64::MAX)]) {
        pipeline.input(input.clone());
        for document in pipeline.take_documents() {
            ecs::line(&document, &mut out);
        }
        for report in pipeline.take_reports() {
            ecs::loss(&report, &mut out);
        }
        for report in pipeline.take_rule_reports() {
            ecs::rules(&report, &mut out);
        }
    }
    String::from_utf8(out).unwrap()
}

/// Documents as they are written.
pub(crate) fn json(documents: &[Document]) -> String {
    let mut out = Vec::new();
    for document in documents {
        ecs::line(document, &mut out);
    }
    String::from_utf8(out).unwrap()
}

/// What was raised: `rule severity pid`, one a line.
pub(crate) fn alerts(documents: &[Document]) -> Vec<String> {
    documents
        .iter()
        .filter_map(|document| {
            let alert = document.alert.as_ref()?;
            Some(format!(
                "{} {} {}",
                alert.rule.id,
                alert.severity.name(),
                document.event.process.key.tgid
            ))
        })
        .collect()
}

/// Alerts of a story.
pub(crate) fn raised(story: &str) -> Vec<String> {
    alerts(&documents(Emit::Alerts, &inputs(story)))
}

/// `container ID name image:tag namespace/pod`
fn facts(line: &Line) -> ContainerFacts {
    let pod = line.words.get(4).map(|pod| {
        let (namespace, name) = pod.split_once('/').unwrap();
        PodFacts {
            namespace: Some(namespace.into()),
            name: Some(name.into()),
            ..PodFacts::default()
        }
    });
    ContainerFacts {
        name: Some(line.word(2).into()),
        image: ImageFacts::parse(line.word(3)),
        labels: vec![("app.kubernetes.io/name".into(), "shop".into())],
        pod,
        ..ContainerFacts::default()
    }
}

/// The kernel: who runs, as whom, and which name is which file.
pub(crate) struct Teller {
    now: u64,
    processes: HashMap<u32, Running>,
    files: HashMap<String, u64>,
    /// When `/proc` was last read again.
    healing: Option<u64>,
}

#[derive(Clone, Copy)]
struct Running {
    start: u64,
    parent: u32,
    uid: u32,
}

impl Default for Teller {
    fn default() -> Self {
        Self {
            now: ATTACHED + SECOND,
            processes: HashMap::new(),
            files: HashMap::new(),
            healing: None,
        }
    }
}

impl Teller {
    /// Every line, in order.
    pub(crate) fn tell(&mut self, story: &str) -> Vec<Input> {
        story
            .lines()
            .map(|line| line.split(" #").next().unwrap_or(line).trim())
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .filter_map(|line| {
                self.now += MS;
                self.line(&Line::new(line))
            })
            .collect()
    }

    fn line(&mut self, line: &Line) -> Option<Input> {
        let directory = |kind| {
            Some(Input::Directory(Entry {
                pattern: line.word(1).into(),
                kind,
                origin: Origin::Config,
                source: "tracer.yaml:1".into(),
                mnt_ns: None,
            }))
        };
        match line.word(0) {
            "end" => return Some(Input::SnapshotEnd),
            "heal" => {
                self.healing = Some(self.now);
                return Some(Input::HealBegin(self.now));
            }
            "healed" => return Some(Input::HealEnd),
            "now" => return Some(Input::Watermark(self.now)),
            "served" => return directory(Kind::Served),
            "component" => return directory(Kind::Component),
            "cgi" => return directory(Kind::Cgi),
            "leads" => {
                return Some(Input::Resolved(Resolved {
                    mnt_ns: 4_026_531_841,
                    directory: line.word(1).into(),
                    real: line.word(2).into(),
                }));
            }
            "placed" => {
                let entry = Entry {
                    pattern: line.word(3).into(),
                    kind: match line.word(2) {
                        "served" => Kind::Served,
                        "component" => Kind::Component,
                        other => panic!("no kind {other:?}"),
                    },
                    origin: Origin::Config,
                    source: "tracer.yaml:1".into(),
                    mnt_ns: None,
                };
                let file = FileId::from(on_disk(line.number(1)));
                return Some(Input::DirectoryAt { file, entry });
            }
            "asks" => {
                return Some(Input::Enrichment(Enrichment {
                    wait_ms: line.word(1).parse().unwrap(),
                    containers: true,
                    ..Enrichment::default()
                }));
            }
            "container" => {
                return Some(Input::Container {
                    id: line.word(1).into(),
                    facts: (line.words.len() > 2).then(|| Box::new(facts(line))),
                });
            }
            "wait" => {
                let word = line.word(1);
                self.now += match word.strip_suffix("ms") {
                    Some(ms) => ms.parse::<u64>().unwrap() * MS,
                    None => word.strip_suffix('s').unwrap().parse::<u64>().unwrap() * SECOND,
                };
                return None;
            }
            "lost" => {
                return Some(Input::Loss(Loss {
                    reason: line.word(1).into(),
                    stream: line.option("cpu").map(|cpu| Stream {
                        cpu: cpu.parse().unwrap(),
                        slot: 0,
                    }),
                    count: line.number(2),
                    since_boot_ns: self.now - MS,
                    boot_ns: self.now,
                }));
            }
            _ => {}
        }
        let record = match line.word(0) {
            "fork" => self.fork(line),
            "exec" => self.exec(line, EventKind::Exec),
            "observed" | "found" => self.exec(line, EventKind::Observed),
            "exit" => self.exit(line),
            "open" | "wrote" | "map" | "read" => self.file(line),
            verb => match EventKind::ALL.iter().find(|kind| kind.name() == verb) {
                Some(kind) if is_change(*kind) => self.change(line, *kind),
                Some(kind) => self.other(line, *kind),
                None => panic!("no verb {verb:?}"),
            },
        };
        Some(Input::Record(record))
    }

    /// The process, with a start of its own where the story never said how it began.
    fn process(&mut self, pid: u32) -> Running {
        *self.processes.entry(pid).or_insert(Running {
            start: u64::from(pid) * 10 * MS,
            parent: 0,
            uid: 0,
        })
    }

    fn inode(&mut self, line: &Line, path: &str) -> u64 {
        if let Some(given) = line.option("ino") {
            return given.parse().unwrap();
        }
        let fresh = path.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        *self.files.entry(path.to_owned()).or_insert(fresh)
    }

    fn header(&mut self, line: &Line, kind: EventKind, pid: u32) -> EventHeader {
        let observed = kind == EventKind::Observed;
        let mut flags = 0;
        for (option, bit) in [
            ("path-cut", flag::PATH_TRUNCATED),
            ("cwd-cut", flag::CWD_TRUNCATED),
            ("args-cut", flag::ARGS_TRUNCATED),
            ("args-unread", flag::ARGS_UNREADABLE),
            ("name-cut", flag::STRING_TRUNCATED),
            ("attempt", flag::ATTEMPT),
            ("uring", flag::URING),
            ("resolved", flag::RESOLVED),
            ("untagged", flag::UNTAGGED),
            ("moved", flag::BASE_CHANGED),
            ("unread", flag::UNVERIFIED),
        ] {
            if line.option(option).is_some() {
                flags |= bit;
            }
        }
        let now = match line.word(0) {
            "found" => self.healing.unwrap(),
            _ if observed => ATTACHED,
            _ => self.now,
        };
        EventHeader {
            boot_ns: line
                .option("at")
                .map_or(now, |at| ATTACHED + at.parse::<u64>().unwrap() * MS),
            start_boot_ns: self.process(pid).start,
            tag: line.option("tag").map_or(Tag::ZERO, tag),
            tgid: pid,
            tid: line.option("tid").map_or(pid, |tid| tid.parse().unwrap()),
            tail_len: 0,
            cpu: line.option("cpu").map_or(0, |cpu| cpu.parse().unwrap()),
            kind: kind.raw(),
            flags,
            tier: if observed {
                Tier::Snapshot
            } else {
                Tier::Tracepoint
            } as u8,
            version: VERSION,
            slot: 0,
            seq: line.option("seq").map_or(0, |seq| seq.parse().unwrap()),
        }
    }

    /// `:writer=20`: who of a server's lineage wrote the file, and a second ago.
    fn writer(&mut self, line: &Line) -> Writer {
        let Some(pid) = line.option("writer") else {
            return Writer::ZERO;
        };
        let tgid = pid.parse().unwrap();
        Writer {
            start_boot_ns: self.process(tgid).start,
            boot_ns: self.now - SECOND,
            tag: line.option("writer-tag").map_or(Tag::ZERO, tag),
            tgid,
            generation: 1,
        }
    }

    fn fork(&mut self, line: &Line) -> Bytes {
        let (creator, child) = line.word(1).split_once('>').unwrap();
        let (creator, child): (u32, u32) = (creator.parse().unwrap(), child.parse().unwrap());
        let uid = self.process(creator).uid;
        let header = self.header(line, EventKind::Fork, creator);
        // CLONE_PARENT and a reaper: the kernel's parent is another than the creator.
        let parent = line
            .option("parent")
            .map_or(creator, |pid| pid.parse().unwrap());
        let running = Running {
            start: header.boot_ns,
            parent,
            uid,
        };
        let parent_start_boot_ns = self.process(parent).start;
        self.processes.insert(child, running);
        let body = ForkBody {
            child_start_boot_ns: running.start,
            parent_start_boot_ns,
            child_tag: line.option("child-tag").map_or(header.tag, tag),
            ids: ids(uid),
            child_tgid: child,
            parent_tgid: parent,
            child_vpid: line
                .option("vpid")
                .map_or(child, |pid| pid.parse().unwrap()),
            child_pid_ns: line
                .option("pidns")
                .map_or(4_026_531_836, |ns| ns.parse().unwrap()),
        };
        record(header, &body, &[])
    }

    fn exec(&mut self, line: &Line, kind: EventKind) -> Bytes {
        let pid = line.pid();
        if let Some(start) = line.option("start") {
            let start = start.parse::<u64>().unwrap() * MS;
            self.processes.insert(
                pid,
                Running {
                    start,
                    parent: 0,
                    uid: 0,
                },
            );
        }
        let mut running = self.process(pid);
        if let Some(uid) = line.option("uid") {
            running.uid = uid.parse().unwrap();
        }
        if let Some(parent) = line.option("parent") {
            running.parent = parent.parse().unwrap();
        }
        self.processes.insert(pid, running);
        let mut header = self.header(line, kind, pid);
        let exe = line.word(2).to_owned();
        let mut body = ExecBody {
            inode: self.inode(line, &exe),
            dev: 8 << 20 | 1,
            nlink: line.option("nlink").map_or(1, |n| n.parse().unwrap()),
            mode: line
                .option("mode")
                .map_or(0o100_755, |mode| u16::from_str_radix(mode, 8).unwrap()),
            parent_tgid: running.parent,
            old_pid: header.tid,
            loginuid: u32::MAX,
            sessionid: u32::MAX,
            pgid: line.option("pgid").map_or(pid, |pid| pid.parse().unwrap()),
            sid: line.option("sid").map_or(pid, |pid| pid.parse().unwrap()),
            tty: line.option("tty").map_or(0, |tty| tty.parse().unwrap()),
            cgroup_id: 1,
            ..ExecBody::ZERO
        };
        if running.parent != 0 {
            body.parent_start_boot_ns = self.process(running.parent).start;
        }
        body.ids = ids(running.uid);
        body.ns.vpid = line.option("vpid").map_or(pid, |pid| pid.parse().unwrap());
        body.ns.pid = line.option("pidns").map_or(0, |ns| ns.parse().unwrap());
        body.ns.mnt = line
            .option("mnt")
            .map_or(4_026_531_841, |ns| ns.parse().unwrap());
        body.ns.user = line.option("userns").map_or(0, |ns| ns.parse().unwrap());
        for fd in &mut body.stdio {
            fd.kind = fd_kind::NULL;
        }
        body.writer = self.writer(line);
        body.stdio[0] = line.option("stdin").map_or(body.stdio[0], descriptor);
        let filename = line.option("script").unwrap_or(&exe).to_owned();
        let args = match line.words.get(3..) {
            Some([_, ..]) => line.words[3..].to_vec(),
            _ => vec![exe.rsplit('/').next().unwrap().to_owned()],
        };
        let mut area = args.join("\0").into_bytes();
        area.push(0);
        let (head, end, cut) = cut(&area);
        if cut {
            header.flags |= flag::ARGS_TRUNCATED;
        }
        body.args_len = area.len() as u64;
        let sections: [&[u8]; 7] = [
            &components(exe.as_bytes()),
            &components(line.option("cwd").unwrap_or("/").as_bytes()),
            &components(
                line.option("cgroup")
                    .unwrap_or("/system.slice/web.service")
                    .as_bytes(),
            ),
            &[filename.as_bytes(), &[0]].concat(),
            &[exe.as_bytes(), &[0]].concat(),
            head,
            end,
        ];
        let [exe, cwd, cgroup, filename, interp, head, end] =
            sections.map(|section| u16::try_from(section.len()).unwrap());
        body.exe_len = exe;
        body.cwd_len = cwd;
        body.cgroup_len = cgroup;
        body.filename_len = filename;
        body.interp_len = interp;
        body.args_head_len = head;
        body.args_tail_len = end;
        record(header, &body, &sections.concat())
    }

    fn exit(&mut self, line: &Line) -> Bytes {
        let header = self.header(line, EventKind::Exit, line.pid());
        let status = u32::try_from(line.number(2)).unwrap();
        record(
            header,
            &ExitBody {
                status,
                reserved: 0,
            },
            &[],
        )
    }
}

/// What is a record of names or attributes.
fn is_change(kind: EventKind) -> bool {
    kind == EventKind::Rename
        || (EventKind::Link.raw()..=EventKind::Mount.raw()).contains(&kind.raw())
}

/// A file of the one disk there is.
fn on_disk(inode: u64) -> InodeKey {
    InodeKey {
        inode,
        dev: 8 << 20 | 1,
        reserved: 0,
    }
}

/// Header, body and tail as they travel.
pub(crate) fn record<B: Wire>(mut header: EventHeader, body: &B, tail: &[u8]) -> Bytes {
    header.tail_len = u32::try_from(tail.len()).unwrap();
    [as_bytes(&header), as_bytes(body), tail].concat().into()
}

/// What the kernel side keeps of an argument area: head, end, whether the middle is missing.
pub(crate) fn cut(area: &[u8]) -> (&[u8], &[u8], bool) {
    let (head, rest) = area.split_at(area.len().min(ARGS_HEAD_BYTES));
    let end = &rest[rest.len().saturating_sub(ARGS_TAIL_BYTES)..];
    (head, end, end.len() < rest.len())
}

/// A user and the group of the same number, in every role.
fn ids(id: u32) -> Ids {
    Ids {
        uid: id,
        euid: id,
        suid: id,
        gid: id,
        egid: id,
        sgid: id,
    }
}
