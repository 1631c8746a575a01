//! Facts that the field list shows, derived from a document.

use std::borrow::Cow;
use std::net::IpAddr;

use tracer_common::event::{EventKind, FdInfo, Namespaces, access, fd_kind, flag};
use tracer_common::tag::{Role, Tag};

use super::scope::Scope;
use super::summary::sentence;
use super::text::visible_prose;
use super::value::{Value, list, number, strings, words};
use super::words::{
    Status, address, args_truncated, directory, family, file_type, is_memfd, socket_name,
};
use crate::alert::{Alert, HostFacts, Technique};
use crate::enrich::facts::{ContainerFacts, PodFacts};
use crate::event::{
    Change, Comm, Credentials, Exec, ExecFailed, FileAccess, FileId, NamespaceChange, Payload,
    Socket, Trace,
};
use crate::lineage::orphan;

pub(super) fn alert(scope: Scope<'_>) -> Option<&Alert> {
    scope.document.alert.as_ref()
}

pub(super) fn host(scope: Scope<'_>) -> &HostFacts {
    &scope.document.event.host
}

pub(super) fn container_id(scope: Scope<'_>) -> Option<&str> {
    Some(&scope.process.container.as_ref()?.place.id)
}

/// What made the container: itself says it better than the cgroup.
pub(super) fn container_runtime(scope: Scope<'_>) -> Option<&str> {
    let told = container(scope).and_then(|facts| facts.runtime.as_deref());
    told.or_else(|| scope.process.container.as_ref()?.place.runtime)
}

pub(super) fn container(scope: Scope<'_>) -> Option<&ContainerFacts> {
    let facts = scope.process.container.as_ref()?.facts.found()?;
    Some(facts)
}

pub(super) fn pod(scope: Scope<'_>) -> Option<&PodFacts> {
    let facts = scope.process.container.as_ref()?.pod.found()?;
    Some(facts)
}

/// What made the pod, where it is of this kind.
pub(super) fn owner<'a>(scope: Scope<'a>, kind: &str) -> Option<&'a str> {
    let owner = pod(scope)?.owner.as_ref()?;
    (owner.kind == kind).then_some(&*owner.name)
}

pub(super) fn pod_uid(scope: Scope<'_>) -> Option<&str> {
    let told = pod(scope).and_then(|pod| pod.uid.as_deref());
    told.or_else(|| scope.process.container.as_ref()?.place.pod_uid.as_deref())
}

/// The container of a process beside the one that the document is about, where it is another.
pub(super) fn other_container(scope: Scope<'_>) -> Option<&ContainerFacts> {
    is_elsewhere(scope).then(|| container(scope))?
}

/// Its pod, the same way.
pub(super) fn other_pod(scope: Scope<'_>) -> Option<&PodFacts> {
    is_elsewhere(scope).then(|| pod(scope))?
}

fn is_elsewhere(scope: Scope<'_>) -> bool {
    container_id(scope) != container_id(Scope::new(scope.document))
}

pub(super) fn opened(scope: Scope<'_>) -> Option<&FileAccess> {
    let Payload::File(open) = scope.payload() else {
        return None;
    };
    Some(open)
}

pub(super) fn changed(scope: Scope<'_>) -> Option<&Change> {
    let Payload::Change(change) = scope.payload() else {
        return None;
    };
    Some(change)
}

/// A change of this kind.
pub(super) fn change_of(scope: Scope<'_>, kind: EventKind) -> Option<&Change> {
    changed(scope).filter(|change| change.kind == kind)
}

/// The name that a file had before, or has besides.
pub(super) fn original(scope: Scope<'_>) -> Option<&[u8]> {
    let change = changed(scope)?;
    (change.kind == EventKind::Rename || change.kind == EventKind::Link).then_some(&change.old)
}

/// The file that an event is about, where the kernel told it.
pub(super) fn file_id(scope: Scope<'_>) -> Option<FileId> {
    opened(scope).map_or_else(|| changed(scope)?.file, |open| Some(open.file))
}

/// Its mode, and with it its owner and group; before a change of those.
pub(super) fn file_owner(scope: Scope<'_>) -> Option<(u16, u32, u32)> {
    if let Some(file) = opened(scope) {
        return Some((file.mode, file.uid, file.gid));
    }
    let change = changed(scope).filter(|change| change.mode != 0)?;
    Some((change.mode, change.uid, change.gid))
}

/// The word for what it is: what a call makes is known by the call.
pub(super) fn file_kind(scope: Scope<'_>) -> Option<&'static str> {
    let kind = changed(scope).map(|change| change.kind);
    if kind == Some(EventKind::Mkdir) {
        return Some("dir");
    }
    if kind == Some(EventKind::Symlink) {
        return Some("symlink");
    }
    file_type(file_owner(scope)?.0)
}

/// The mode that was asked for.
pub(super) fn new_mode(scope: Scope<'_>) -> Option<u16> {
    let change = changed(scope)?;
    [EventKind::Chmod, EventKind::Mkdir, EventKind::Mknod]
        .contains(&change.kind)
        .then_some(change.new_mode)
}

/// The owner and group that were asked for; `None` of one that stays.
pub(super) fn new_owner(scope: Scope<'_>) -> Option<(Option<u32>, Option<u32>)> {
    let change = change_of(scope, EventKind::Chown)?;
    let half = |number: u64| {
        u32::try_from(number & 0xffff_ffff)
            .ok()
            .filter(|id| *id != u32::MAX)
    };
    Some((half(change.number >> 32), half(change.number)))
}

pub(super) fn credentials(scope: Scope<'_>) -> Option<&Credentials> {
    let Payload::Credentials(credentials) = scope.payload() else {
        return None;
    };
    Some(credentials)
}

pub(super) fn namespace(scope: Scope<'_>) -> Option<&NamespaceChange> {
    let Payload::Namespace(namespace) = scope.payload() else {
        return None;
    };
    Some(namespace)
}

pub(super) fn traced(scope: Scope<'_>) -> Option<&Trace> {
    let Payload::Trace(trace) = scope.payload() else {
        return None;
    };
    Some(trace)
}

pub(super) fn comm(scope: Scope<'_>) -> Option<&Comm> {
    let Payload::Comm(comm) = scope.payload() else {
        return None;
    };
    Some(comm)
}

pub(super) fn exec_failed(scope: Scope<'_>) -> Option<&ExecFailed> {
    let Payload::ExecFailed(failed) = scope.payload() else {
        return None;
    };
    Some(failed)
}

/// Namespaces of the process, where the event tells all of them.
pub(super) fn namespaces(scope: Scope<'_>) -> Option<&Namespaces> {
    namespace(scope)
        .map(|change| &change.ns)
        .or_else(|| executed(scope).map(|exec| &exec.ns))
}

pub(super) fn user_namespace(scope: Scope<'_>) -> Option<u32> {
    let now = credentials(scope).map(|credentials| credentials.user_ns);
    now.or_else(|| namespaces(scope).map(|ns| ns.user))
}

/// Effective and permitted capabilities: those of the event, else those when the program was
/// executed.
pub(super) fn capability_masks(scope: Scope<'_>) -> Option<(u64, u64)> {
    if scope.depth == 0
        && let Some(now) = credentials(scope)
    {
        return Some((now.cap_effective, now.cap_permitted));
    }
    let exec = scope.exec()?;
    Some((exec.cap_effective, exec.cap_permitted))
}

/// Whether names are the kernel's own or the caller's words.
pub(super) fn names(scope: Scope<'_>) -> Option<&'static str> {
    changed(scope)?;
    Some(if has_flag(scope, flag::RESOLVED) {
        "resolved"
    } else {
        "caller"
    })
}

pub(super) fn has_flag(scope: Scope<'_>, bit: u16) -> bool {
    scope.document.event.event.meta.flags & bit != 0
}

pub(super) fn socket_use(scope: Scope<'_>) -> Option<&Socket> {
    let Payload::Socket(socket) = scope.payload() else {
        return None;
    };
    Some(socket)
}

/// An end of a connection.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) ip: IpAddr,
    /// Zero where it has none, or the kernel has not chosen it yet.
    pub(super) port: u16,
}

fn local_end(info: &FdInfo) -> Option<End> {
    let ip = address(info.family, info.local_addr)?;
    let port = info.local_port;
    Some(End { ip, port })
}

fn remote_end(info: &FdInfo) -> Option<End> {
    let ip = address(info.family, info.remote_addr)?;
    let port = info.remote_port;
    (!ip.is_unspecified() || port != 0).then_some(End { ip, port })
}

/// Who began the connection, or sent the datagram. The own address of what is not connected is not
/// known: any.
pub(super) fn client(scope: Scope<'_>) -> Option<End> {
    let socket = socket_use(scope)?;
    if socket.kind == EventKind::Accept {
        return remote_end(&socket.socket);
    }
    let begins = [EventKind::Connect, EventKind::Send].contains(&socket.kind);
    let own = local_end(&socket.socket).filter(|end| !end.ip.is_unspecified());
    own.filter(|_| begins)
}

/// To whom.
pub(super) fn contacted(scope: Scope<'_>) -> Option<End> {
    let socket = socket_use(scope)?;
    if socket.kind == EventKind::Accept {
        return local_end(&socket.socket);
    }
    let begins = [EventKind::Connect, EventKind::Send].contains(&socket.kind);
    remote_end(&socket.socket).filter(|_| begins)
}

/// The server: who is contacted, or listens.
pub(super) fn server_end(scope: Scope<'_>) -> Option<End> {
    let socket = socket_use(scope)?;
    if socket.kind == EventKind::Listen {
        return local_end(&socket.socket);
    }
    contacted(scope)
}

/// From the host's point of view, as ECS has it for what a host tells of itself.
pub(super) fn direction(scope: Scope<'_>) -> Option<&'static str> {
    let socket = socket_use(scope)?;
    local_end(&socket.socket)?;
    if socket.kind == EventKind::Accept {
        return Some("ingress");
    }
    let begins = [EventKind::Connect, EventKind::Send].contains(&socket.kind);
    begins.then_some("egress")
}

/// The version of the protocol that goes over the wire: one end of an IPv6 socket may be an IPv4
/// address.
pub(super) fn network_type(scope: Scope<'_>) -> Option<&'static str> {
    let socket = &socket_use(scope)?.socket;
    let end = remote_end(socket).or_else(|| local_end(socket))?;
    Some(if end.ip.is_ipv4() { "ipv4" } else { "ipv6" })
}

/// Number of the protocol of an internet socket.
pub(super) fn protocol(scope: Scope<'_>) -> Option<u8> {
    let socket = socket_use(scope)?;
    local_end(&socket.socket)?;
    (socket.protocol != 0).then_some(socket.protocol)
}

/// Name of a unix socket: of the peer for a connection and a datagram, else its own.
pub(super) fn unix_name(scope: Scope<'_>) -> Option<Value<'_>> {
    let name = &socket_use(scope)?.name;
    (!name.is_empty()).then(|| Value::Bytes(Cow::Owned(socket_name(name))))
}

/// Which standard descriptor the socket became.
pub(super) fn redirected(scope: Scope<'_>) -> Option<&'static str> {
    match socket_use(scope)?.fd? {
        0 => Some("stdin"),
        1 => Some("stdout"),
        2 => Some("stderr"),
        _ => None,
    }
}

/// The error of a connection that goes on all the same.
pub(super) fn socket_error(scope: Scope<'_>) -> Option<u32> {
    let result = socket_use(scope)?.result;
    (result < 0).then(|| result.unsigned_abs())
}

pub(super) fn executed(scope: Scope<'_>) -> Option<&Exec> {
    let (Payload::Exec(exec) | Payload::Observed(exec)) = scope.payload() else {
        return None;
    };
    Some(exec)
}

pub(super) fn message(scope: Scope<'_>) -> String {
    match alert(scope) {
        Some(alert) => {
            let mut out = format!("{}: ", alert.rule.name);
            visible_prose(&alert.reason, &mut out);
            out
        }
        None => sentence(scope),
    }
}

pub(super) fn id(scope: Scope<'_>) -> String {
    alert(scope)
        .map_or(scope.document.event.id, |alert| alert.id)
        .to_string()
}

/// What ECS says of an event: category, type, action, outcome, data set. The pairs of category and
/// type are those that ECS allows.
struct Class {
    category: &'static str,
    kind: &'static str,
    action: &'static str,
    outcome: &'static str,
    dataset: &'static str,
}

fn class(scope: Scope<'_>) -> Class {
    let (category, kind, action, outcome) = match scope.payload() {
        Payload::Fork(_) => ("process", "start", "fork", "success"),
        Payload::Exec(_) => ("process", "start", "exec", "success"),
        Payload::Exit(_) => ("process", "end", "end", ""),
        Payload::Observed(_) => ("process", "info", "already_running", ""),
        Payload::File(file) => {
            let action = match (file.kind == EventKind::Open, file.created) {
                (true, true) => "creation",
                (true, false) => "modification",
                (false, _) => file.kind.name(),
            };
            let writes = [EventKind::Open, EventKind::Write].contains(&file.kind)
                || file.access & access::WRITE != 0;
            let kind = match (action, writes) {
                ("creation", _) => "creation",
                (_, true) => "change",
                (_, false) => "access",
            };
            ("file", kind, action, outcome_of(scope))
        }
        Payload::Change(change) => {
            let made = [
                EventKind::Link,
                EventKind::Symlink,
                EventKind::Mkdir,
                EventKind::Mknod,
            ];
            let kind = if made.contains(&change.kind) {
                "creation"
            } else if change.kind == EventKind::Unlink {
                "deletion"
            } else {
                "change"
            };
            ("file", kind, change.kind.name(), outcome_of(scope))
        }
        Payload::Socket(socket) => {
            let begins = [EventKind::Listen, EventKind::Connect, EventKind::Accept];
            let kind = if begins.contains(&socket.kind) {
                "start"
            } else if socket.kind == EventKind::Send {
                "connection"
            } else {
                "info"
            };
            ("network", kind, socket.kind.name(), outcome_of(scope))
        }
        Payload::ExecFailed(_) => ("process", "info", "exec_failed", "failure"),
        Payload::Credentials(_) | Payload::Namespace(_) | Payload::Trace(_) | Payload::Comm(_) => (
            "process",
            "change",
            scope.payload().kind().name(),
            outcome_of(scope),
        ),
    };
    Class {
        category,
        kind,
        action,
        outcome,
        dataset: match category {
            "process" => "tracer.process",
            "file" => "tracer.file",
            _ => "tracer.network",
        },
    }
}

/// What is told before it is done may still fail.
fn outcome_of(scope: Scope<'_>) -> &'static str {
    if scope.document.event.event.meta.flags & flag::ATTEMPT == 0 {
        "success"
    } else {
        "unknown"
    }
}

pub(super) fn categories(scope: Scope<'_>) -> Vec<&'static str> {
    let mut categories = vec![class(scope).category];
    if alert(scope).is_some() {
        categories.push("intrusion_detection");
    }
    categories
}

pub(super) fn types(scope: Scope<'_>) -> Vec<&'static str> {
    let mut types = vec![class(scope).kind];
    if socket_use(scope)
        .is_some_and(|socket| socket.kind == EventKind::Connect || socket.kind == EventKind::Accept)
    {
        types.push("connection");
    }
    if alert(scope).is_some() && !types.contains(&"info") {
        types.push("info");
    }
    types
}

pub(super) fn action(scope: Scope<'_>) -> &str {
    alert(scope).map_or_else(|| class(scope).action, |alert| alert.rule.action)
}

pub(super) fn outcome(scope: Scope<'_>) -> &'static str {
    class(scope).outcome
}

pub(super) fn dataset(scope: Scope<'_>) -> &'static str {
    match alert(scope) {
        Some(_) => "tracer.alert",
        None => class(scope).dataset,
    }
}

/// One string of each tactic of an alert. Equal ones once; as tactics differ in every one of their
/// strings, the lists of ids, names and references stay parallel.
pub(super) fn tactics(scope: Scope<'_>, of: fn(&Technique) -> String) -> Option<Value<'_>> {
    strings(distinct(alert(scope)?.rule.techniques.iter().map(of)))
}

/// The same of each technique.
pub(super) fn techniques(scope: Scope<'_>, of: fn(&Technique) -> String) -> Option<Value<'_>> {
    tactics(scope, of)
}

/// The same of each sub-technique.
pub(super) fn subtechniques(
    scope: Scope<'_>,
    of: fn((&'static str, &'static str)) -> String,
) -> Option<Value<'_>> {
    let techniques = alert(scope)?.rule.techniques.iter();
    strings(distinct(
        techniques.filter_map(|technique| technique.subtechnique.map(of)),
    ))
}

/// The most specific id of a technique.
pub(super) fn technique_id(technique: &Technique) -> &'static str {
    technique.subtechnique.unwrap_or(technique.technique).0
}

/// Where ATT&CK describes a technique or sub-technique.
pub(super) fn attack(id: &str) -> String {
    format!(
        "https://attack.mitre.org/techniques/{}/",
        id.replace('.', "/")
    )
}

fn distinct(items: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

pub(super) fn arguments(exec: &Exec) -> Option<Value<'_>> {
    list(
        exec.args
            .iter()
            .map(|argument| Value::Bytes(Cow::Borrowed(argument))),
    )
}

pub(super) fn arguments_count<'a>(exec: &Exec) -> Option<Value<'a>> {
    if exec.args.is_empty() || args_truncated(exec) {
        return None;
    }
    number(exec.args.len() as u64)
}

pub(super) fn command_line(exec: &Exec) -> Option<Value<'_>> {
    let line = exec.args.join(&b' ');
    (!line.is_empty()).then_some(Value::Bytes(Cow::Owned(line)))
}

/// ECS: the controlling terminal is the same as standard input and error.
pub(super) fn interactive(exec: &Exec) -> bool {
    let [input, _, error] = &exec.stdio;
    exec.tty.is_some_and(|(major, minor)| {
        [input, error]
            .iter()
            .all(|fd| fd.kind == fd_kind::TTY && fd.rdev == (major << 20 | minor))
    })
}

/// The directory of a file event. A memfd has none.
pub(super) fn parent_directory(scope: Scope<'_>) -> Option<&[u8]> {
    if opened(scope).is_some_and(|open| is_memfd(open.nlink, &open.path)) {
        return None;
    }
    scope.path().map(directory)
}

pub(super) fn os_full(host: &HostFacts) -> String {
    format!("{} {}", host.os_name, host.os_version)
        .trim()
        .to_owned()
}

pub(super) fn roles(scope: Scope<'_>) -> Vec<&'static str> {
    role_names(scope.tag())
}

pub(super) fn role_names(tag: Tag) -> Vec<&'static str> {
    let bits = tag.roles;
    Role::ALL
        .iter()
        .filter(|role| bits & role.bit() != 0)
        .map(|role| role.name())
        .collect()
}

pub(super) fn related_users(scope: Scope<'_>) -> Vec<String> {
    let users = scope.chain().take(2).flat_map(|process| {
        let ids = process.ids().map(|ids| [ids.euid, ids.uid, ids.suid]);
        ids.into_iter().flatten().map(move |uid| {
            process
                .user_name(uid)
                .map_or_else(|| uid.to_string(), ToOwned::to_owned)
        })
    });
    distinct(users)
}

pub(super) fn related_hashes(scope: Scope<'_>) -> Vec<String> {
    let processes = scope.chain().take(2).map(|scope| &scope.process.content);
    let contents = processes.chain([&scope.document.event.content]);
    distinct(contents.filter_map(|content| Some(hex(&content.found()?.sha256))))
}

/// A hash as it is written everywhere.
pub(super) fn hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn related_ips(scope: Scope<'_>) -> Vec<String> {
    let descriptors = (0..3)
        .filter_map(|number| scope.stdio(number))
        .flat_map(|fd| {
            let local = socket(fd).and_then(|(fd, _)| address(fd.family, fd.local_addr));
            [local.map(|ip| ip.to_string()), peer(fd)]
        });
    let ends = socket_use(scope).into_iter().flat_map(|socket| {
        let ends = [local_end(&socket.socket), remote_end(&socket.socket)];
        let listens = socket.kind == EventKind::Listen;
        let ends = ends.into_iter().flatten();
        ends.filter(move |end| listens || !end.ip.is_unspecified())
    });
    distinct(
        descriptors
            .flatten()
            .chain(ends.map(|end| end.ip.to_string())),
    )
}

/// The descriptor of the scope where it is a socket, and the word for its family.
pub(super) fn socket(scope: Scope<'_>) -> Option<(&FdInfo, &'static str)> {
    let fd = scope.fd()?;
    if fd.kind != fd_kind::SOCKET {
        return None;
    }
    Some((fd, family(fd.family)?))
}

/// Address of the other end, where the socket is connected.
pub(super) fn peer(scope: Scope<'_>) -> Option<String> {
    let (fd, _) = socket(scope)?;
    let ip = address(fd.family, fd.remote_addr)?;
    (!ip.is_unspecified()).then(|| ip.to_string())
}

pub(super) fn mount_namespace(scope: Scope<'_>) -> Option<u32> {
    let ours = opened(scope).map(|open| open.mnt_ns);
    ours.or_else(|| changed(scope).map(|change| change.mnt_ns))
        .or_else(|| namespaces(scope).map(|ns| ns.mnt))
}

pub(super) fn network_namespace(scope: Scope<'_>) -> Option<u32> {
    let ours = socket_use(scope).map(|socket| socket.net_ns);
    ours.or_else(|| namespaces(scope).map(|ns| ns.net))
}

pub(super) fn ended_by(scope: Scope<'_>) -> Option<u32> {
    Status(scope.ended()?.1?).signal()
}

pub(super) fn inferred_by(scope: Scope<'_>) -> Option<Value<'_>> {
    let bits = scope.process.inferred_by;
    words(orphan::names(bits))
}

pub(super) fn integrity(scope: Scope<'_>) -> &'static str {
    let integrity = &scope.document.event.integrity;
    if integrity.lost.is_empty() && !integrity.lineage_broken && integrity.blind_ns == 0 {
        "complete"
    } else {
        "incomplete"
    }
}
