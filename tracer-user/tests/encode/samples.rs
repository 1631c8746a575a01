//! Documents of every kind, as the pipeline would make them.

mod connections;
mod containers;
mod kin;
mod rules;

use std::sync::Arc;

use tracer::alert::{
    Alert, Author, Directory, Document, Incident, Integrity, LossReport, Rollup, Severity,
};
use tracer::enrich::content::Content;
use tracer::enrich::facts::Fact;
use tracer::event::{
    Change, Comm, Credentials, ExecFailed, Exit, FileAccess, Fork, NamespaceChange, Payload,
    ProcessKey, Trace,
};
use tracer::lineage::process::{Ended, Origin, Server, Via, Why};
use tracer_common::event::{EventKind, FdInfo, Ids, fd_kind, flag};
use tracer_common::probe::Tier;
use tracer_common::tag::{Role, Tag, via};

use uuid::Uuid;

use self::parts::*;
use self::rules::{shell_rule, write_rule};

mod parts;

/// A name for the golden file and the document.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) document: Document,
}

pub(crate) fn all() -> Vec<Sample> {
    vec![
        shell(),
        creation(),
        rename_alert(),
        fork(),
        exit_code(),
        exit_signal(),
        listen(),
        listen6(),
        observed(),
        hostile(),
        hostile_path(),
        memfd(),
        sockets(),
        login(),
        modification(),
        truncated(),
        bare(),
        kin::sample_of_all(),
    ]
    .into_iter()
    .chain(file_uses())
    .chain(changes())
    .chain(of_processes())
    .chain(connections::all())
    .chain(containers::all())
    .collect()
}

/// Records were lost for two reasons.
pub(crate) fn loss() -> LossReport {
    LossReport {
        id: Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
        since_boot_ns: 61 * SECOND,
        until_boot_ns: 62 * SECOND + 20_000_000,
        boot_wall_ns: BOOT_WALL_NS,
        lost: vec![("life_ring_full".into(), 12), ("file_quota".into(), 3400)],
        is_blind: false,
        host: host(),
    }
}

/// php-fpm runs `sh -c id` in a container.
fn shell() -> Sample {
    let mut sh = exec("/usr/bin/dash", &["sh", "-c", "id"]);
    sh.filename = b"/bin/sh".to_vec();
    sh.interp = b"/bin/sh".to_vec();
    sh.stdio = [fd(fd_kind::NULL), pipe(7001), pipe(7002)];
    let worker = worker();
    let mut process = view(901, 62 * SECOND, Some(image(&sh, 62 * SECOND)));
    process.previous = worker.image.clone().into_iter().collect();
    process.container = worker.container.clone();
    process.vpid = 44;
    let mut document = document(
        Payload::Exec(Box::new(sh)),
        process,
        vec![worker, master(), systemd()],
    );
    document.event.event.meta.tag = Tag {
        roles: Role::App.bit(),
        distance: 1,
        ..Tag::ZERO
    };
    document.alert = Some(alert(
        shell_rule(),
        Severity::High,
        1,
        "php-fpm8.2 (815) executed dash: sh -c id",
    ));
    sample("shell_alert", document)
}

/// php-fpm creates a page.
fn creation() -> Sample {
    let mut document = document(
        Payload::File(Box::new(open("/var/www/html/uploads/shell.php"))),
        worker(),
        vec![master(), systemd()],
    );
    document.alert = Some(Alert {
        directory: Some(Directory {
            path: b"/var/www/html".to_vec(),
            kind: "served",
            source: "/etc/nginx/sites-enabled/default".to_owned(),
        }),
        ..alert(
            write_rule(),
            Severity::Critical,
            0,
            "php-fpm8.2 (815) created shell.php where nginx serves",
        )
    });
    let content = |byte| {
        Fact::Found(Content {
            sha256: [byte; 32],
            size: 29,
            open: true,
            package: package(),
        })
    };
    document.event.content = content(0x0a);
    document.event.process.content = content(0xbc);
    for ancestor in &mut document.event.lineage {
        ancestor.content = content(0xde);
    }
    sample("creation_alert", document)
}

/// php-fpm moves an upload into the served directory.
fn rename_alert() -> Sample {
    let mut document = document(
        Payload::Change(Box::new(Change {
            old: b"/tmp/phpA1b2C3".to_vec(),
            flags: 1,
            ..change(EventKind::Rename, b"/var/www/html/a.phtml".to_vec())
        })),
        worker(),
        vec![master(), systemd()],
    );
    document.alert = Some(Alert {
        directory: Some(Directory {
            path: b"/var/www/html".to_vec(),
            kind: "served",
            source: "default".to_owned(),
        }),
        incident: Incident {
            id: Uuid::from_u128(0xb2b2_0000_0000_5000_8000_0000_0000_0001),
            score: 512,
            alerts: 131,
            first_boot_ns: 95 * SECOND,
            tactics: vec!["Persistence".into(), "Execution".into()],
            related: vec![Uuid::from_u128(0xa1a1_0000_0000_5000_8000_0000_0000_0002)],
            rollup: Some(Rollup {
                count: 123,
                first_boot_ns: 96 * SECOND,
                last_boot_ns: 97 * SECOND,
                rules: vec![("server-code-write".to_owned(), 123)],
                examples: vec!["php-fpm (app server) created /var/www/html/\u{1b}.php".to_owned()],
            }),
        },
        ..alert(
            write_rule(),
            Severity::Medium,
            0,
            "php-fpm8.2 (815) renamed a file to a.phtml",
        )
    });
    sample("rename_alert", document)
}

/// php-fpm's worker creates a process.
fn fork() -> Sample {
    let worker = worker();
    let mut child = view(901, 62 * SECOND, worker.image.clone());
    child.inherited = true;
    child.vpid = 44;
    child.container = worker.container.clone();
    let mut document = document(
        Payload::Fork(Fork {
            child: child.key,
            child_start_boot_ns: child.start_boot_ns,
            ids: www(),
            child_tag: Tag {
                roles: Role::Web.bit() | Role::App.bit(),
                distance: 1,
                ..Tag::ZERO
            },
            parent: worker.key,
            vpid: 44,
            pid_ns: 4_026_531_836,
        }),
        worker,
        vec![master(), systemd()],
    );
    document.event.event.meta.tid = 816;
    document.event.child = Some(child);
    sample("fork", document)
}

fn exit_code() -> Sample {
    let sh = exec("/usr/bin/dash", &["sh", "-c", "exit 3"]);
    let process = view(901, 62 * SECOND, Some(image(&sh, 62 * SECOND)));
    let document = document(
        Payload::Exit(Exit { status: 3 << 8 }),
        process,
        vec![worker(), master(), systemd()],
    );
    sample("exit_code", document)
}

fn exit_signal() -> Sample {
    let crash = exec("/usr/local/bin/crash", &["crash"]);
    let process = view(902, 62 * SECOND, Some(image(&crash, 62 * SECOND)));
    let document = document(
        Payload::Exit(Exit { status: 11 | 0x80 }),
        process,
        vec![systemd()],
    );
    sample("exit_signal", document)
}

fn listen() -> Sample {
    let mut node = view(
        950,
        63 * SECOND,
        Some(image(
            &exec("/usr/bin/node", &["node", "app.js"]),
            63 * SECOND,
        )),
    );
    node.server = Some(Server {
        name: "node".into(),
        role: Role::App,
        why: Why::Listens,
    });
    node.ports = vec![3000, 8080];
    let document = document(
        Payload::Socket(Box::new(listening(2, four([127, 0, 0, 1]), 8080))),
        node,
        vec![systemd()],
    );
    sample("listen", document)
}

fn listen6() -> Sample {
    let java = exec("/usr/lib/jvm/bin/java", &["java", "-jar", "app.jar"]);
    let document = document(
        Payload::Socket(Box::new(listening(10, [0; 16], 8443))),
        view(951, 63 * SECOND, Some(image(&java, 63 * SECOND))),
        vec![systemd()],
    );
    sample("listen_ipv6", document)
}

/// nginx ran before the agent did.
fn observed() -> Sample {
    let nginx = exec(
        "/usr/sbin/nginx",
        &["nginx: master process /usr/sbin/nginx -g daemon on;"],
    );
    let mut process = view(700, 9 * SECOND, Some(image(&nginx, 60 * SECOND)));
    process.origin = Origin::Observed;
    process.ports = vec![80, 443];
    process.server = Some(Server {
        name: "nginx".into(),
        role: Role::Web,
        why: Why::Named,
    });
    if let Some(image) = &mut process.image {
        image.observed = true;
    }
    let mut document = document(Payload::Observed(Box::new(nginx)), process, vec![systemd()]);
    document.event.event.meta.tier = Tier::Snapshot;
    sample("observed", document)
}

/// Every string is hostile: not UTF-8, ends a line, steers a terminal, reorders text.
fn hostile() -> Sample {
    let mut evil = exec("/usr/bin/python3.11", &[]);
    evil.args = vec![
        b"python3".to_vec(),
        b"\xff\xfe\"quoted\" \\ \x00".to_vec(),
        b"line\nforged: {\"event\":{\"kind\":\"event\"}}\r\n".to_vec(),
        b"\x1b]0;title\x07\x1b[2J".to_vec(),
        "\u{202e}gnp.php\u{2028}\u{9b}31m".as_bytes().to_vec(),
        b"it's".to_vec(),
        Vec::new(),
    ];
    evil.filename = b"./\xc3(\n.py".to_vec();
    evil.interp = b"/usr/bin/\x1bpython3".to_vec();
    evil.cwd = b"/tmp/\x80\n\"".to_vec();
    evil.exe = b"/opt/\xf0\x28/a\tb".to_vec();
    let process = view(901, 62 * SECOND, Some(image(&evil, 62 * SECOND)));
    let mut parent = worker();
    parent.image = Some(image(&evil, 61 * SECOND));
    parent.previous = vec![image(&evil, 60 * SECOND)];
    let mut document = document(
        Payload::Exec(Box::new(evil)),
        process,
        vec![parent, systemd()],
    );
    document.alert = Some(alert(
        shell_rule(),
        Severity::Low,
        1,
        "a reason\nwith \x1b[31m colour and \u{202e} bidi",
    ));
    sample("hostile_alert", document)
}

/// A rename between hostile names: a plain event.
fn hostile_path() -> Sample {
    let document = document(
        Payload::Change(Box::new(Change {
            old: b"/tmp/\xe9\n2026-01-02T03:05:15.129Z  forged(1) line".to_vec(),
            flags: 2,
            ..change(EventKind::Rename, b"/var/www/\"\x1b[1A\\n.p\xfeh".to_vec())
        })),
        view(908, 62 * SECOND, None),
        vec![worker(), master(), systemd()],
    );
    sample("hostile_path", document)
}

/// A socket pair, as node gives its children, and a connection.
fn sockets() -> Sample {
    let mut child = exec("/usr/bin/node", &["node", "child.js"]);
    let pair = FdInfo {
        peer_tgid: 950,
        ..socket(1, &[], 0, &[], 0)
    };
    child.stdio = [
        pair,
        pair,
        socket(2, &[10, 0, 0, 5], 41_236, &[10, 0, 0, 9], 514),
    ];
    let process = view(952, 64 * SECOND, Some(image(&child, 64 * SECOND)));
    sample(
        "sockets",
        document(Payload::Exec(Box::new(child)), process, vec![systemd()]),
    )
}

/// A dropper: `sh -c 'exec …'` under a server, a double fork, then a memfd with a socket.
fn memfd() -> Sample {
    let mut payload = exec("/memfd:a/b", &["[kworker/0:1]"]);
    payload.nlink = 0;
    payload.stdio = [
        socket(2, &[10, 0, 0, 5], 41_234, &[203, 0, 113, 9], 4444),
        mapped([198, 51, 100, 7]),
        FdInfo {
            family: 1,
            peer_tgid: 815,
            ..socket(1, &[], 0, &[], 0)
        },
    ];
    let mut process = view(905, 64 * SECOND, Some(image(&payload, 64 * SECOND)));
    process.origin = Origin::Inferred;
    let shell = image(
        &exec("/usr/bin/dash", &["sh", "-c", "exec perl -e …"]),
        63 * SECOND,
    );
    let mut perl = view(
        904,
        63 * SECOND,
        Some(image(
            &exec("/usr/bin/perl", &["perl", "-e", "…"]),
            63 * SECOND,
        )),
    );
    perl.previous = worker().image.into_iter().chain([shell]).collect();
    perl.vpid = 47;
    perl.ended = Some(Ended {
        boot_ns: 64 * SECOND,
        status: Some(0),
    });
    let mut document = document(
        Payload::Exec(Box::new(payload)),
        process,
        vec![perl, worker(), master(), systemd()],
    );
    document.alert = Some(alert(
        shell_rule(),
        Severity::Critical,
        2,
        "php-fpm8.2 (815) runs code from memory",
    ));
    sample("memfd_alert", document)
}

/// Somebody at a terminal: no alert, but the fields of terminals, logins and other users.
fn login() -> Sample {
    let mut su = exec("/usr/bin/su", &["su", "-"]);
    let ids = Ids {
        uid: 1000,
        euid: 0,
        suid: 0,
        gid: 1000,
        egid: 1000,
        sgid: 1000,
    };
    su.tty = Some((136, 3));
    su.stdio = [terminal(), terminal(), terminal()];
    su.ids = ids;
    su.mode = 0o10_4755;
    su.nlink = 0;
    su.loginuid = Some(1000);
    su.sessionid = Some(7);
    su.cap_effective = 1 << 6 | 1 << 7;
    su.cap_permitted = 1 << 6 | 1 << 7 | 1 << 21;
    let mut bash = exec("/usr/bin/bash", &["-bash"]);
    bash.tty = Some((136, 3));
    bash.stdio = [terminal(), terminal(), terminal()];
    bash.ids = Ids {
        uid: 1000,
        euid: 1000,
        suid: 1000,
        gid: 1000,
        egid: 1000,
        sgid: 1000,
    };
    let mut process = view(2001, 100 * SECOND, Some(image(&su, 100 * SECOND)));
    let mut parent = view(2000, 90 * SECOND, Some(image(&bash, 90 * SECOND)));
    for view in [&mut process, &mut parent] {
        view.names = names(1000, "ada", "staff");
    }
    sample(
        "login",
        document(
            Payload::Exec(Box::new(su)),
            process,
            vec![parent, systemd()],
        ),
    )
}

/// A file without a name is written to, in a time of losses.
fn modification() -> Sample {
    let mut file = open("/tmp/.session");
    file.created = false;
    file.nlink = 0;
    file.f_flags = 0o1 | 0o2000 | 0o1000;
    let mut document = document(
        Payload::File(Box::new(file)),
        worker(),
        vec![master(), systemd()],
    );
    document.event.integrity = Integrity {
        lost: vec![
            ("life_ring_full".to_owned(), 12),
            ("tag_map_full".to_owned(), 1),
        ],
        lineage_broken: false,
        ancestry_truncated: false,
        blind_ns: 3_210_000_000,
    };
    sample("modification", document)
}

/// Arguments longer than what is kept, from a process whose creator nobody knows.
fn truncated() -> Sample {
    let mut long = exec("/usr/bin/env", &["env", "A=…B", "id"]);
    long.args_len = 2_000_000;
    let process = view(906, 65 * SECOND, Some(image(&long, 65 * SECOND)));
    let mut document = document(Payload::Exec(Box::new(long)), process, Vec::new());
    document.event.event.meta.flags = flag::ARGS_TRUNCATED | flag::CWD_TRUNCATED | flag::COMPAT;
    document.event.integrity.lineage_broken = true;
    sample("truncated", document)
}

/// Nothing is known but the record itself, about a file in memory.
fn bare() -> Sample {
    let mut file = open("/memfd:x");
    file.nlink = 0;
    let mut document = document(
        Payload::File(Box::new(file)),
        view(907, 66 * SECOND, None),
        Vec::new(),
    );
    document.event.process.names = Fact::Absent;
    document.event.host = Arc::default();
    document.event.integrity.lineage_broken = true;
    sample("bare", document)
}

/// A file is written through a descriptor, mapped, and served.
fn file_uses() -> Vec<Sample> {
    let told = |name, file| {
        let lineage = vec![master(), systemd()];
        sample(
            name,
            document(Payload::File(Box::new(file)), worker(), lineage),
        )
    };
    let existing = |kind, path| FileAccess {
        kind,
        created: false,
        f_flags: 1,
        ..open(path)
    };
    let mut uring = told("write", existing(EventKind::Write, "/var/www/html/a.php"));
    uring.document.event.event.meta.flags = flag::URING;
    let mut mapped = existing(EventKind::Map, "/usr/bin/dash");
    mapped.access = 4;
    let mut shared = existing(EventKind::Map, "/var/www/html/b.php");
    shared.access = 2 | 4;
    let mut read = told("read", existing(EventKind::Read, "/var/www/html/a.php"));
    read.document.event.writer = Some(author());
    vec![
        uring,
        told("map_execute", mapped),
        told("map_write", shared),
        read,
    ]
}

/// Names and attributes are changed.
fn changes() -> Vec<Sample> {
    let told = |name, change: Change| {
        let lineage = vec![master(), systemd()];
        sample(
            name,
            document(Payload::Change(Box::new(change)), worker(), lineage),
        )
    };
    let known = |kind, new: &str| Change {
        file: Some(open("").file),
        mode: 0o10_0644,
        uid: 33,
        gid: 33,
        ..change(kind, new)
    };
    let mut link = told(
        "link",
        Change {
            old: b"/tmp/phpA1b2C3".to_vec(),
            flags: 0x1000,
            ..known(EventKind::Link, "/var/www/html/a.php")
        },
    );
    link.document.event.event.meta.flags = flag::RESOLVED | flag::ATTEMPT;
    let mut toctou = told(
        "toctou",
        Change {
            old: b"/tmp/a.txt".to_vec(),
            early: Some((
                b"/tmp/\x1b]0;a".to_vec(),
                b"/var/www/html/\xff.php".to_vec(),
            )),
            ..change(EventKind::Rename, "/tmp/b.txt")
        },
    );
    toctou.document.event.event.meta.flags = flag::BASE_CHANGED | flag::UNVERIFIED;
    toctou.document.alert = Some(alert(write_rule(), Severity::High, 0, "two names"));
    // An administrator moves an upload.
    let mut moved = told(
        "moved_alert",
        Change {
            old: b"/var/www/up/x.txt".to_vec(),
            ..known(EventKind::Rename, "/var/www/html/x.php")
        },
    );
    let mut bash = view(
        2000,
        90 * SECOND,
        Some(image(&exec("/usr/bin/bash", &["-bash"]), 90 * SECOND)),
    );
    bash.ids = Some(Ids::ZERO);
    moved.document.event.process = bash;
    moved.document.event.lineage = vec![systemd()];
    moved.document.event.event.meta.flags = flag::UNTAGGED;
    moved.document.event.writer = Some(author());
    moved.document.alert = Some(Alert {
        server_depth: None,
        ..alert(
            write_rule(),
            Severity::Medium,
            0,
            "bash renamed what php-fpm wrote",
        )
    });
    vec![
        link,
        toctou,
        moved,
        told(
            "symlink",
            Change {
                detail: b"/tmp/\n\x9b".to_vec(),
                ..change(EventKind::Symlink, "/var/www/html/up")
            },
        ),
        told(
            "unlink",
            Change {
                flags: 0x200,
                ..change(EventKind::Unlink, "/var/www/html/up")
            },
        ),
        told(
            "mkdir",
            Change {
                new_mode: 0o1777,
                ..change(EventKind::Mkdir, "/var/www/html/up")
            },
        ),
        told("mknod", change(EventKind::Mknod, "/var/www/html/x.php")),
        told(
            "truncate",
            Change {
                number: 1 << 40,
                ..known(EventKind::Truncate, "/var/log/app.log")
            },
        ),
        told(
            "chmod",
            Change {
                new_mode: 0o4755,
                ..known(EventKind::Chmod, "/tmp/x")
            },
        ),
        told(
            "chown",
            Change {
                number: u64::from(u32::MAX) << 32 | 33,
                ..known(EventKind::Chown, "/tmp/x")
            },
        ),
        told(
            "chown_user",
            Change {
                number: u64::from(u32::MAX),
                ..known(EventKind::Chown, "/tmp/x")
            },
        ),
        told(
            "setxattr",
            Change {
                detail: b"security.capability".to_vec(),
                number: 20,
                ..known(EventKind::Setxattr, "/tmp/x")
            },
        ),
        told(
            "mount",
            Change {
                detail: b"/tmp/www".to_vec(),
                number: 4096 | 16384,
                ..change(EventKind::Mount, "/var/www")
            },
        ),
    ]
}

/// What a server's lineage does to itself and to others.
fn of_processes() -> Vec<Sample> {
    let told = |name, payload| sample(name, document(payload, worker(), vec![master(), systemd()]));
    let failed = |error| {
        Payload::ExecFailed(Box::new(ExecFailed {
            filename: b"/bin/\xfe\nsh".to_vec(),
            error,
            ids: www(),
        }))
    };
    let mut reached = told(
        "trace",
        Payload::Trace(Trace {
            target: Some(ProcessKey::new(2000, 90 * SECOND)),
            target_start_boot_ns: 90 * SECOND,
            target_tag: Tag::ZERO,
            target_vpid: 7,
            pid_ns: 4_026_531_836,
            method: 1,
            ids: www(),
        }),
    );
    let bash = image(&exec("/usr/bin/bash", &["-bash"]), 90 * SECOND);
    let mut target = view(2000, 90 * SECOND, Some(bash));
    target.container = Some(container());
    reached.document.event.target = Some(target);
    let mut name = [0; 16];
    name[..8].copy_from_slice(b"kworker\n");
    let mut tagged = told(
        "comm",
        Payload::Comm(Comm {
            old: *b"php-fpm8.2\0\0\0\0\0\0",
            new: name,
        }),
    );
    tagged.document.event.event.meta.tag = Tag {
        roles: Role::App.bit(),
        via: via::FILE | via::TRACE,
        ..Tag::ZERO
    };
    tagged.document.event.link = Some((Via::Trace, author()));
    let mut root = told(
        "credentials_root",
        Payload::Credentials(Credentials {
            ids: Ids::ZERO,
            cap_effective: (1 << 41) - 1,
            cap_permitted: (1 << 41) - 1,
            user_ns: 4_026_531_837,
        }),
    );
    root.document.event.process.names = names(0, "root", "root");
    vec![
        root,
        told("exec_failed", failed(2)),
        told("exec_failed_unknown", failed(4000)),
        told(
            "credentials",
            Payload::Credentials(Credentials {
                ids: Ids {
                    euid: 0,
                    suid: 0,
                    ..www()
                },
                cap_effective: 1 << 21,
                cap_permitted: 1 << 21 | 1 << 7,
                user_ns: 4_026_531_837,
            }),
        ),
        told(
            "namespace",
            Payload::Namespace(Box::new(NamespaceChange {
                call: 3,
                ns: exec("", &[]).ns,
                root: b"/srv/jail".to_vec(),
                ids: www(),
            })),
        ),
        reached,
        told(
            "trace_unknown",
            Payload::Trace(Trace {
                target: None,
                target_start_boot_ns: 0,
                target_tag: Tag::ZERO,
                target_vpid: 7,
                pid_ns: 4_026_531_836,
                method: 2,
                ids: www(),
            }),
        ),
        tagged,
    ]
}

/// php-fpm's worker wrote it a while ago.
fn author() -> Author {
    let mut process = worker();
    process.server = None;
    Author {
        process,
        lineage: vec![master(), systemd()],
        boot_ns: 61 * SECOND,
        tag: Tag {
            roles: Role::App.bit() | Role::Web.bit(),
            via: via::FILE,
            ..Tag::ZERO
        },
    }
}
