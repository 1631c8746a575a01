//! What documents are made of: a host, its processes and programs, files and sockets.

use std::borrow::Cow;
use std::sync::Arc;

use tracer::alert::{
    Alert, ContainerView, Document, EnrichedEvent, HostFacts, Incident, Integrity, Kin,
    ProcessView, Severity,
};
use tracer::enrich::container::Place;
use tracer::enrich::content::{Owner, Package, PackageKind};
use tracer::enrich::facts::Fact;
use tracer::enrich::user::Users;
use tracer::event::{Change, Event, Exec, FileAccess, FileId, Meta, Payload, ProcessKey, Socket};
use tracer::lineage::process::{Image, Origin, Server, Why};
use tracer::rule::Rule;
use tracer_common::event::{EventKind, FdInfo, Ids, Namespaces, fd_kind};
use tracer_common::probe::Tier;
use tracer_common::tag::{Role, Tag};
use uuid::Uuid;

use super::Sample;

pub(super) const SECOND: u64 = 1_000_000_000;
/// 2026-01-02T03:04:05.006007008Z
pub(super) const BOOT_WALL_NS: i128 = 1_767_323_045_006_007_008;
pub(super) const CONTAINER: &str =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub(super) fn sample(name: &'static str, document: Document) -> Sample {
    Sample { name, document }
}

pub(super) fn document(
    payload: Payload,
    mut process: ProcessView,
    lineage: Vec<ProcessView>,
) -> Document {
    if !matches!(payload, Payload::Fork(_)) {
        process.ids = payload.ids().or(process.ids);
    }
    Document {
        event: EnrichedEvent {
            content: Fact::Absent,
            event: Event {
                meta: Meta {
                    boot_ns: 70 * SECOND + 123_456_789,
                    subject: process.key,
                    start_boot_ns: process.start_boot_ns,
                    tid: process.key.tgid,
                    tag: Tag::ZERO,
                    tier: Tier::Tracepoint,
                    flags: 0,
                    cpu: 1,
                    slot: 0,
                    seq: 0,
                },
                payload,
            },
            id: Uuid::from_u128(0xe0e0_0000_0000_5000_8000_0000_0000_0001),
            boot_wall_ns: BOOT_WALL_NS,
            process,
            lineage,
            child: None,
            target: None,
            writer: None,
            link: None,
            kin: Kin::default(),
            exec_session: false,
            integrity: Integrity::default(),
            host: host(),
        },
        alert: None,
    }
}

pub(super) fn host() -> Arc<HostFacts> {
    Arc::new(HostFacts {
        hostname: "web1".to_owned(),
        machine_id: "b08dfa6083e7567a1921a715000001fb".to_owned(),
        boot_id: "1e8f9a4c-3b0c-4b0e-9d5f-0c6d2f1f7a10".to_owned(),
        architecture: "x86_64".to_owned(),
        kernel: "6.1.0-28-amd64".to_owned(),
        os_platform: "debian".to_owned(),
        os_name: "Debian GNU/Linux".to_owned(),
        os_version: "12".to_owned(),
    })
}

pub(super) fn alert(
    rule: Arc<Rule>,
    severity: Severity,
    server_depth: usize,
    reason: &str,
) -> Alert {
    Alert {
        id: Uuid::from_u128(0xa1a1_0000_0000_5000_8000_0000_0000_0001),
        rule,
        severity,
        reason: reason.to_owned(),
        server_depth: Some(server_depth),
        server: Some(php()),
        directory: None,
        incident: Incident {
            id: Uuid::from_u128(0xb2b2_0000_0000_5000_8000_0000_0000_0001),
            score: 73,
            alerts: 1,
            first_boot_ns: 95 * SECOND,
            tactics: vec!["Persistence".into()],
            related: Vec::new(),
            rollup: None,
        },
    }
}

pub(super) fn view(pid: u32, start_boot_ns: u64, image: Option<Image>) -> ProcessView {
    ProcessView {
        key: ProcessKey::new(pid, start_boot_ns),
        entity_id: Uuid::from_u128(0xc0c0_0000_0000_5000_8000_0000_0000_0000 | u128::from(pid)),
        start_boot_ns,
        origin: Origin::Witnessed,
        inferred_by: 0,
        vpid: 0,
        ids: image.as_ref().map(|image| image.exec.ids),
        image,
        previous: Vec::new(),
        inherited: false,
        content: Fact::Absent,
        names: names(33, "www-data", "www-data"),
        server: None,
        ports: Vec::new(),
        container: None,
        ended: None,
        ran_as: Vec::new(),
        images_forgotten: 0,
    }
}

/// The names of a user and of a group with one number.
pub(super) fn names(id: u32, user: &str, group: &str) -> Fact<Users> {
    let mut names = Users::default();
    names.insert(false, id, user);
    names.insert(true, id, group);
    Fact::Found(names)
}

pub(super) fn worker() -> ProcessView {
    let mut worker = master();
    worker.key = ProcessKey::new(815, 11 * SECOND);
    worker.start_boot_ns = 11 * SECOND;
    worker.entity_id = Uuid::from_u128(0xc0c0_0000_0000_5000_8000_0000_0000_032f);
    worker.inherited = true;
    worker.vpid = 9;
    worker
}

pub(super) fn master() -> ProcessView {
    let fpm = exec("/usr/sbin/php-fpm8.2", &["php-fpm: pool www"]);
    let mut master = view(800, 10 * SECOND, Some(image(&fpm, 10 * SECOND)));
    master.origin = Origin::Observed;
    master.server = Some(php());
    master.ports = vec![9000];
    master.container = Some(container());
    master
}

/// A container of which nothing but its cgroup is known.
pub(super) fn container() -> ContainerView {
    ContainerView {
        place: Arc::new(Place {
            id: CONTAINER.to_owned(),
            runtime: None,
            pod_uid: None,
        }),
        facts: Fact::Absent,
        pod: Fact::Absent,
    }
}

pub(super) fn systemd() -> ProcessView {
    let mut init = exec("/usr/lib/systemd/systemd", &["/sbin/init"]);
    init.ids = Ids::ZERO;
    init.cwd = b"/".to_vec();
    init.cap_effective = (1 << 41) - 1;
    init.cap_permitted = (1 << 41) - 1;
    let mut systemd = view(1, SECOND, Some(image(&init, SECOND)));
    systemd.origin = Origin::Observed;
    systemd.names = names(0, "root", "root");
    systemd
}

pub(super) const fn php() -> Server {
    Server {
        name: Cow::Borrowed("php-fpm"),
        why: Why::Named,
        role: Role::App,
    }
}

pub(super) fn image(exec: &Exec, boot_ns: u64) -> Image {
    Image {
        exec: Arc::new(exec.clone()),
        boot_ns,
        observed: false,
        server: None,
    }
}

pub(super) const fn www() -> Ids {
    Ids {
        uid: 33,
        euid: 33,
        suid: 33,
        gid: 33,
        egid: 33,
        sgid: 33,
    }
}

pub(super) fn exec(exe: &str, args: &[&str]) -> Exec {
    Exec {
        exe: exe.as_bytes().to_vec(),
        file: FileId {
            dev: 8 << 20 | 1,
            inode: 131_077,
        },
        nlink: 1,
        generation: 0,
        mode: 0o10_0755,
        cwd: b"/var/www/html".to_vec(),
        cgroup: b"/system.slice/php8.2-fpm.service".to_vec(),
        cgroup_id: 4711,
        filename: exe.as_bytes().to_vec(),
        interp: exe.as_bytes().to_vec(),
        args: args.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
        args_len: args.iter().map(|arg| arg.len() as u64 + 1).sum(),
        ids: www(),
        cap_effective: 0,
        cap_permitted: 0,
        loginuid: None,
        sessionid: None,
        ns: Namespaces {
            mnt: 4_026_531_841,
            pid: 4_026_531_836,
            net: 4_026_531_840,
            user: 4_026_531_837,
            uts: 4_026_531_838,
            ipc: 4_026_531_839,
            cgroup: 4_026_531_835,
            vpid: 44,
        },
        pgid: 800,
        sid: 800,
        tty: None,
        stdio: [fd(fd_kind::NONE); 3],
        parent: ProcessKey::new(1, SECOND),
        old_tid: 901,
        writer: None,
    }
}

pub(super) fn open(path: &str) -> FileAccess {
    FileAccess {
        kind: EventKind::Open,
        path: path.as_bytes().to_vec(),
        file: FileId {
            dev: 8 << 20 | 1,
            inode: 262_145,
        },
        directory: None,
        writer: None,
        created: true,
        size: 0,
        f_flags: 0o1 | 0o100 | 0o200 | 0o1000,
        access: 0,
        ids: www(),
        uid: 33,
        gid: 33,
        mode: 0o10_0644,
        nlink: 1,
        generation: 7,
        mnt_ns: 4_026_531_841,
    }
}

pub(super) fn change(kind: EventKind, new: impl Into<Vec<u8>>) -> Change {
    Change {
        kind,
        old: Vec::new(),
        new: new.into(),
        detail: Vec::new(),
        early: None,
        file: None,
        directory: None,
        writer: None,
        number: 0,
        flags: 0,
        mode: 0,
        uid: 0,
        gid: 0,
        new_mode: 0,
        ids: www(),
        mnt_ns: 4_026_531_841,
    }
}

pub(super) fn listening(family: u16, addr: [u8; 16], port: u16) -> Socket {
    Socket {
        kind: EventKind::Listen,
        socket: FdInfo {
            state: 10,
            ..socket(family, &addr, port, &[], 0)
        },
        name: Vec::new(),
        socket_type: 1,
        protocol: 6,
        fd: None,
        result: 0,
        ids: None,
        net_ns: 4_026_531_840,
    }
}

pub(super) fn fd(kind: u8) -> FdInfo {
    FdInfo {
        kind,
        ..FdInfo::ZERO
    }
}

pub(super) fn pipe(inode: u64) -> FdInfo {
    FdInfo {
        inode,
        ..fd(fd_kind::PIPE)
    }
}

pub(super) fn terminal() -> FdInfo {
    FdInfo {
        inode: 6,
        rdev: 136 << 20 | 3,
        ..fd(fd_kind::TTY)
    }
}

pub(super) fn socket(
    family: u16,
    local: &[u8],
    local_port: u16,
    remote: &[u8],
    remote_port: u16,
) -> FdInfo {
    let mut fd = FdInfo {
        inode: 88_001,
        family,
        local_port,
        remote_port,
        state: 1,
        ..fd(fd_kind::SOCKET)
    };
    fd.local_addr[..local.len()].copy_from_slice(local);
    fd.remote_addr[..remote.len()].copy_from_slice(remote);
    fd
}

/// An IPv4 peer of an IPv6 socket.
pub(super) fn mapped(peer: [u8; 4]) -> FdInfo {
    let mut address = [0; 16];
    address[10] = 0xff;
    address[11] = 0xff;
    address[12..].copy_from_slice(&peer);
    socket(10, &address, 41_235, &address, 4445)
}

pub(super) fn four(address: [u8; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&address);
    bytes
}

/// A package that owns an executable.
pub(crate) fn package() -> Package {
    Package::Owned(Arc::new(Owner {
        kind: PackageKind::Deb,
        name: "php8.2-fpm".to_owned(),
        version: Some("8.2.29-1~deb12u1".to_owned()),
    }))
}
