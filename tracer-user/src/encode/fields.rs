//! The field list: every field of every document, declared once. Encoders and the reference both
//! read it, so neither can know a field that the other does not.
//!
//! Fields of one object stand together, as encoders write in this order. Names are those of ECS 9.4
//! where it has one for the fact; `process.Ext` and `file.Ext` follow Elastic's own collector; all
//! else is under `tracer`.

use std::fmt::Write;

use tracer_common::event::{EventKind, flag};

use super::facts::{
    action, alert, arguments, arguments_count, attack, capability_masks, categories, change_of,
    changed, client, comm, command_line, contacted, container, container_id, container_runtime,
    credentials, dataset, direction, ended_by, entry_id, entry_name, exec_failed, executed,
    file_id, file_kind, file_owner, has_flag, hex, host, id, inferred_by, integrity, interactive,
    message, mount_namespace, names, namespace, namespaces, network_namespace, network_type,
    new_mode, new_owner, opened, original, os_full, other_container, other_pod, outcome, owner,
    parent_directory, peer, pod, pod_uid, protocol, redirected, related_hashes, related_ips,
    related_users, role_names, roles, server_end, socket, socket_error, socket_use, subtechniques,
    tactics, techniques, traced, types, unix_name, user_namespace,
};
use super::scope::{BESIDE, Scope};
use super::value::{
    Value, bytes, decimal, labels, nonzero, number, numbers, only, owned, strings, text, time,
    words,
};
use super::words::{
    Status, address, args_truncated, base_name, capabilities, change_flags, device, error,
    extension, is_memfd, mapping, mode, namespace_call, open_flags, signal, socket_state,
    socket_type, trace_method, transport, ways,
};
use crate::alert::Document;
use crate::event::{fd_type, missing, text as ended_by_nul};

use self::incident::INCIDENT;
use self::kin::{CREDENTIALS, IMAGES, LEADER, PACKAGE, TARGET};

mod incident;
mod kin;

/// The version of ECS that the names are from.
pub const ECS_VERSION: &str = "9.4.0";

/// What a field holds, in the words of Elasticsearch's mapping types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A string matched as a whole.
    Keyword,
    /// A string searched by its words.
    Text,
    /// A string searched by patterns.
    Wildcard,
    /// An integer.
    Long,
    /// RFC 3339 in UTC, nanoseconds.
    Date,
    /// `true` or `false`.
    Boolean,
    /// An IPv4 or IPv6 address.
    Ip,
    /// An object whose keys are not known before.
    Flattened,
    /// The same, where ECS has it so: a dot within a key is written `_`, as it would be a step.
    Object,
}

impl Type {
    /// The word in Elasticsearch's mapping.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keyword => "keyword",
            Self::Text => "match_only_text",
            Self::Wildcard => "wildcard",
            Self::Long => "long",
            Self::Date => "date",
            Self::Boolean => "boolean",
            Self::Ip => "ip",
            Self::Flattened => "flattened",
            Self::Object => "object",
        }
    }
}

/// Which documents can have a field: a set of event kinds, or alerts whatever their event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Docs(u64);

impl Docs {
    const EXEC: Self = Self::of(EventKind::Exec);
    const EXIT: Self = Self::of(EventKind::Exit);
    const OPEN: Self = Self::of(EventKind::Open)
        .or(Self::of(EventKind::Write))
        .or(Self::of(EventKind::Map))
        .or(Self::of(EventKind::Read));
    const MAP: Self = Self::of(EventKind::Map);
    const TWO_NAMES: Self = Self::of(EventKind::Rename).or(Self::of(EventKind::Link));
    const SYMLINK: Self = Self::of(EventKind::Symlink);
    const TRUNCATE: Self = Self::of(EventKind::Truncate);
    const CHOWN: Self = Self::of(EventKind::Chown);
    const SETXATTR: Self = Self::of(EventKind::Setxattr);
    const MOUNT: Self = Self::of(EventKind::Mount);
    const NEW_MODE: Self = Self::of(EventKind::Chmod)
        .or(Self::of(EventKind::Mkdir))
        .or(Self::of(EventKind::Mknod));
    const WITH_FLAGS: Self = Self::TWO_NAMES
        .or(Self::of(EventKind::Unlink))
        .or(Self::MOUNT);
    const CREDENTIALS: Self = Self::of(EventKind::Credentials);
    const EXEC_FAILED: Self = Self::of(EventKind::ExecFailed);
    const NAMESPACE: Self = Self::of(EventKind::Namespace);
    const TRACE: Self = Self::of(EventKind::Trace);
    const COMM: Self = Self::of(EventKind::Comm);
    const LISTEN: Self = Self::of(EventKind::Listen);
    const CONTACT: Self = Self::of(EventKind::Connect)
        .or(Self::of(EventKind::Accept))
        .or(Self::of(EventKind::Send));
    const NETWORK: Self = Self::CONTACT
        .or(Self::LISTEN)
        .or(Self::of(EventKind::Bind))
        .or(Self::of(EventKind::Redirect));
    const OBSERVED: Self = Self::of(EventKind::Observed);
    const ALERT: Self = Self(1 << 0);
    const ALL: Self = Self(u64::MAX);
    /// Neither an event nor an alert: a report of losses.
    pub(super) const NONE: Self = Self(0);
    const IMAGE: Self = Self::EXEC.or(Self::OBSERVED);
    const CHANGE: Self = Self::of(EventKind::Rename)
        .or(Self::of(EventKind::Link))
        .or(Self::of(EventKind::Symlink))
        .or(Self::of(EventKind::Unlink))
        .or(Self::of(EventKind::Mkdir))
        .or(Self::of(EventKind::Mknod))
        .or(Self::of(EventKind::Truncate))
        .or(Self::of(EventKind::Chmod))
        .or(Self::of(EventKind::Chown))
        .or(Self::of(EventKind::Setxattr))
        .or(Self::of(EventKind::Mount));
    const FILE: Self = Self::OPEN.or(Self::CHANGE);
    const WRITTEN: Self = Self::FILE.or(Self::EXEC).or(Self::ALERT);

    /// The documents of one kind of event: its number is the place of the bit.
    const fn of(kind: EventKind) -> Self {
        Self(1 << kind.raw())
    }

    const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the document is one of these.
    #[must_use]
    pub fn cover(self, document: &Document) -> bool {
        let kind = Self::of(document.event.event.payload.kind());
        self.0 & kind.0 != 0 || (document.alert.is_some() && self.0 & Self::ALERT.0 != 0)
    }

    /// The set in words, `all` for every document.
    #[must_use]
    pub fn words(self) -> String {
        if self == Self::ALL {
            return "all".to_owned();
        }
        let alert = (self.0 & Self::ALERT.0 != 0).then_some("alert");
        let kinds = EventKind::ALL
            .iter()
            .filter(|kind| self.0 & Self::of(**kind).0 != 0)
            .map(|kind| {
                if *kind == EventKind::Open {
                    "creation, modification"
                } else {
                    kind.name()
                }
            });
        let words: Vec<&str> = alert.into_iter().chain(kinds).collect();
        words.join(", ")
    }
}

/// A field as the reference shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Dotted name. A list of objects is marked by `[]`.
    pub name: String,
    /// What it holds.
    pub kind: Type,
    /// Whether it holds a list of these.
    pub list: bool,
    /// Which documents can have it.
    pub docs: Docs,
    /// One line.
    pub about: &'static str,
}

/// Every field, in the order of output.
#[must_use]
pub fn catalogue() -> Vec<Entry> {
    let mut entries = Vec::new();
    collect(FIELDS, "", Docs::ALL, &mut entries);
    entries
}

fn collect(table: &'static [Field], prefix: &str, docs: Docs, entries: &mut Vec<Entry>) {
    for field in table {
        let name = format!("{prefix}{}", field.name);
        let docs = Docs(docs.0 & field.docs.0);
        match field.get {
            Get::Value(_) | Get::Raw => entries.push(Entry {
                name,
                kind: field.kind,
                list: field.list,
                docs,
                about: field.about,
            }),
            Get::Group(fields, _) => collect(fields, &format!("{name}."), docs, entries),
            Get::Rows(fields, _) => collect(fields, &format!("{name}[]."), docs, entries),
        }
    }
}

/// The field list as a Markdown page.
#[must_use]
pub fn reference_markdown() -> String {
    let mut out = format!(
        "# Fields\n\
         \n\
         <!-- Written by `tracer reference fields`; edit tracer-user/src/encode/fields.rs. -->\n\
         \n\
         What a JSON document holds. One line is one document; objects are nested. Names outside \
         `tracer` are those of ECS {ECS_VERSION}, except that `process.Ext` and `file.Ext` follow \
         Elastic's own collector, and `kubernetes` its integration.\n\
         \n\
         - A fact that is not known is left out. There are no empty strings and no placeholders.\n\
         - `process` is what the document is about: for a fork the child, whose `parent` is its \
         true creator.\n\
         - Facts about a program (arguments, working directory, capabilities, descriptors) are from \
         the moment it was executed. Users and groups are as last told: by an exec, a write, a \
         rename, or when the process created another.\n\
         - Text that is not UTF-8 shows U+FFFD; its exact bytes are in `tracer.raw`.\n\
         - *In* names the documents that can have the field, by `event.action` of the plain event; \
         `alert` means every alert.\n\
         - `[]` after a type is a list of it, within a name a list of objects.\n"
    );
    let mut section = "";
    let entries = catalogue();
    for entry in &entries {
        let top = entry
            .name
            .split_once('.')
            .map_or("document", |(top, _)| top);
        let top = if top == "ecs" { "document" } else { top };
        if top != section {
            section = top;
            let _infallible = write!(
                out,
                "\n## {section}\n\n| Field | Type | In | Meaning |\n|---|---|---|---|\n"
            );
        }
        let _infallible = writeln!(
            out,
            "| `{}` | {}{} | {} | {} |",
            entry.name,
            entry.kind.name(),
            if entry.list { "[]" } else { "" },
            entry.docs.words(),
            entry.about.replace('|', "\\|"),
        );
    }
    out.push_str(
        "\n## Documents of losses\n\nA document with `event.action` `loss` is about no process and has \
         these fields and no others.\n\n| Field | Type | Meaning |\n|---|---|---|\n",
    );
    for entry in super::loss::catalogue() {
        let _infallible = writeln!(
            out,
            "| `{}` | {}{} | {} |",
            entry.name,
            entry.kind.name(),
            if entry.list { "[]" } else { "" },
            entry.about,
        );
    }
    out
}

/// One row of the list.
pub(super) struct Field {
    /// Dotted name, relative to the table's place.
    pub(super) name: &'static str,
    pub(super) docs: Docs,
    pub(super) get: Get,
    kind: Type,
    list: bool,
    about: &'static str,
}

type GetValue = for<'a> fn(Scope<'a>) -> Option<Value<'a>>;
type GetScope = for<'a> fn(Scope<'a>) -> Option<Scope<'a>>;
type GetRows = for<'a> fn(Scope<'a>) -> Vec<Scope<'a>>;

/// How to come to what a field holds.
pub(super) enum Get {
    /// A value.
    Value(GetValue),
    /// Fields of another table, about something else.
    Group(&'static [Field], GetScope),
    /// A list of objects with the fields of another table.
    Rows(&'static [Field], GetRows),
    /// Exact bytes of the text before that was not UTF-8; only the encoder knows them.
    Raw,
}

const fn one(
    name: &'static str,
    kind: Type,
    docs: Docs,
    about: &'static str,
    get: GetValue,
) -> Field {
    Field {
        name,
        docs,
        get: Get::Value(get),
        kind,
        list: false,
        about,
    }
}

const fn list(
    name: &'static str,
    kind: Type,
    docs: Docs,
    about: &'static str,
    get: GetValue,
) -> Field {
    Field {
        list: true,
        ..one(name, kind, docs, about, get)
    }
}

const fn group(name: &'static str, docs: Docs, fields: &'static [Field], get: GetScope) -> Field {
    Field {
        name,
        docs,
        get: Get::Group(fields, get),
        kind: Type::Flattened,
        list: false,
        about: "",
    }
}

const fn rows(name: &'static str, docs: Docs, fields: &'static [Field], get: GetRows) -> Field {
    Field {
        name,
        docs,
        get: Get::Rows(fields, get),
        kind: Type::Flattened,
        list: true,
        about: "",
    }
}

const fn raw(name: &'static str, about: &'static str) -> Field {
    Field {
        name,
        docs: Docs::ALL,
        get: Get::Raw,
        kind: Type::Flattened,
        list: false,
        about,
    }
}

use Type::{Boolean, Date, Flattened, Ip, Keyword, Long, Object, Text, Wildcard};

const ALL: Docs = Docs::ALL;
const ALERT: Docs = Docs::ALERT;
const EXIT: Docs = Docs::EXIT;
const IMAGE: Docs = Docs::IMAGE;
const NAMESPACES: Docs = Docs::IMAGE.or(Docs::NAMESPACE);
const FILE: Docs = Docs::FILE;
const OPEN: Docs = Docs::OPEN;
const CHANGE: Docs = Docs::CHANGE;
const NETWORK: Docs = Docs::NETWORK;
const CONTACT: Docs = Docs::CONTACT;
const SERVER: Docs = Docs::CONTACT.or(Docs::LISTEN);

/// A listener's port is a fact where the kernel has not chosen it yet, too.
fn server_port(scope: Scope<'_>) -> Option<Value<'_>> {
    let port = server_end(scope)?.port;
    if Docs::LISTEN.cover(scope.document) {
        number(port)
    } else {
        nonzero(port)
    }
}

/// The peer of the connection that a login came by.
fn entry_source(scope: Scope<'_>) -> Option<std::net::IpAddr> {
    let socket = scope.entry()?.socket?;
    address(socket.family, socket.remote_addr)
}

fn internet_state(scope: Scope<'_>) -> Option<Value<'_>> {
    let (fd, word) = socket(scope)?;
    if word == "unix" {
        return None;
    }
    text(socket_state(fd.state)?)
}

/// The document.
#[rustfmt::skip]
pub(super) static FIELDS: &[Field] = &[
    one("@timestamp", Date, ALL, "When it happened, by the kernel's clock.", |s| time(s, s.document.event.event.meta.boot_ns)),
    one("message", Text, ALL, "What happened, in one sentence that is safe to show.", |s| owned(message(s))),
    one("ecs.version", Keyword, ALL, "Version of ECS that the names are from.", |_| text(ECS_VERSION)),

    one("event.id", Keyword, ALL, "Id of the alert or the event; the same when a recording is replayed, so that it removes duplicates.", |s| owned(id(s))),
    one("event.kind", Keyword, ALL, "`alert` or `event`.", |s| text(if s.document.alert.is_some() { "alert" } else { "event" })),
    list("event.category", Keyword, ALL, "`process`, `file` or `network`; for alerts also `intrusion_detection`.", |s| words(categories(s))),
    list("event.type", Keyword, ALL, "`start`, `end`, `info`, `creation`, `change`, `access` or `deletion`; for alerts also `info`.", |s| words(types(s))),
    one("event.action", Keyword, ALL, "What was done: `fork`, `exec`, `end`, `already_running`, `creation`, `modification`, or the name of the kind as *In* has it; for alerts the action of the rule.", |s| text(action(s))),
    one("event.outcome", Keyword, ALL, "`success`, `failure`, or `unknown` for what was told before it was done. Not for ends and for processes that already ran.", |s| text(outcome(s))),
    one("event.severity", Long, ALERT, "21 low, 47 medium, 73 high, 99 critical.", |s| number(alert(s)?.severity.number())),
    one("event.code", Keyword, ALERT, "Id of the rule.", |s| text(&alert(s)?.rule.id)),
    one("event.reason", Keyword, ALERT, "Why this is an alert: who did what.", |s| text(&alert(s)?.reason)),
    one("event.module", Keyword, ALL, "`tracer`.", |_| text("tracer")),
    one("event.provider", Keyword, ALL, "`tracer`.", |_| text("tracer")),
    one("event.dataset", Keyword, ALL, "`tracer.alert`, `tracer.process`, `tracer.file` or `tracer.network`.", |s| text(dataset(s))),

    one("rule.id", Keyword, ALERT, "Stable id of the rule.", |s| text(&alert(s)?.rule.id)),
    one("rule.uuid", Keyword, ALERT, "The rule's Sigma `id`.", |s| text(alert(s)?.rule.uuid.as_ref()?)),
    one("rule.name", Keyword, ALERT, "The rule in one line.", |s| text(&alert(s)?.rule.name)),
    one("rule.version", Keyword, ALERT, "Raised when what the rule matches changes.", |s| text(&alert(s)?.rule.version)),
    one("rule.description", Keyword, ALERT, "What a match means and why.", |s| text(&alert(s)?.rule.description)),
    one("rule.category", Keyword, ALERT, "Name of the tactic that the rule is first about.", |s| text(&alert(s)?.rule.techniques.first()?.tactic.as_ref()?.1)),
    one("rule.reference", Keyword, ALERT, "Description of the technique that the rule is first about.", |s| owned(attack(alert(s)?.rule.techniques.first()?.specific()))),
    one("rule.ruleset", Keyword, ALERT, "The set of rules that it is from: `tracer` for those that ship with it, else the directory that they were read from.", |s| text(&alert(s)?.rule.ruleset)),

    one("threat.framework", Keyword, ALERT, "`MITRE ATT&CK`.", |s| alert(s)?.rule.techniques.first().and(text("MITRE ATT&CK"))),
    list("threat.tactic.id", Keyword, ALERT, "Tactics, most specific first; names and references in the same order.", |s| tactics(s, entry_id)),
    list("threat.tactic.name", Keyword, ALERT, "Names of the tactics.", |s| tactics(s, entry_name)),
    list("threat.tactic.reference", Keyword, ALERT, "Their descriptions.", |s| tactics(s, |t| format!("https://attack.mitre.org/tactics/{}/", t.0))),
    list("threat.technique.id", Keyword, ALERT, "Techniques, the same way.", |s| techniques(s, entry_id)),
    list("threat.technique.name", Keyword, ALERT, "Names of the techniques.", |s| techniques(s, entry_name)),
    list("threat.technique.reference", Keyword, ALERT, "Their descriptions.", |s| techniques(s, attack)),
    list("threat.technique.subtechnique.id", Keyword, ALERT, "Sub-techniques, the same way.", |s| subtechniques(s, entry_id)),
    list("threat.technique.subtechnique.name", Keyword, ALERT, "Names of the sub-techniques.", |s| subtechniques(s, entry_name)),
    list("threat.technique.subtechnique.reference", Keyword, ALERT, "Their descriptions.", |s| subtechniques(s, attack)),

    group("process", ALL, PROCESS, |s| Some(s)),
    rows("process.previous", ALL, PREVIOUS, |s| s.previous().collect()),
    group("process.parent", ALL, PROCESS, |s| s.ancestor(1)),
    one("process.group_leader.pid", Long, ALL, "Id of the process group when its program was executed: the pid of the process that began it.", |s| nonzero(s.exec()?.pgid)),
    group("process.group_leader", ALL, LEADER, |s| s.group_leader()),
    one("process.session_leader.pid", Long, ALL, "Id of the session, the same way.", |s| nonzero(s.exec()?.sid)),
    group("process.session_leader", ALL, LEADER, |s| s.session_leader()),
    one("process.entry_leader.entry_meta.type", Keyword, ALL, "How its lineage came onto the host: by a login (`sshd`, `console`), with a `container`, or as what `init` started.", |s| text(s.entry()?.kind)),
    one("process.entry_leader.entry_meta.source.ip", Ip, ALL, "Address that the login came from.", |s| owned(entry_source(s)?.to_string())),
    one("process.entry_leader.pid", Long, ALL, "Pid of the first process of that login, container or service.", |s| number(s.entry_leader()?.process.key.tgid)),
    group("process.entry_leader", ALL, LEADER, |s| s.entry_leader()),
    list("process.Ext.ancestry", Keyword, ALL, "Entity ids of all ancestors, nearest first.", |s| strings(s.ancestors().map(|a| a.process.entity_id.to_string()))),

    one("user.id", Keyword, ALL, "Effective user of the process.", |s| decimal(s.ids()?.euid)),
    one("user.name", Keyword, ALL, "Its name.", |s| text(s.user_name(s.ids()?.euid)?)),
    one("user.effective.id", Keyword, Docs::CREDENTIALS, "Effective user from now on.", |s| decimal(credentials(s)?.ids.euid)),
    one("user.effective.name", Keyword, Docs::CREDENTIALS, "Its name.", |s| text(s.user_name(credentials(s)?.ids.euid)?)),

    one("file.path", Keyword, FILE, "The file, absolute, as the process sees it. After a rename or link the new path, of a mount the place.", |s| bytes(s.path()?)),
    one("file.name", Keyword, FILE, "Last component of the path.", |s| bytes(base_name(s.path()?))),
    one("file.directory", Keyword, FILE, "The path without it.", |s| bytes(parent_directory(s)?)),
    one("file.extension", Keyword, FILE, "What follows the last dot of the name.", |s| bytes(extension(base_name(s.path()?)))),
    one("file.target_path", Keyword, Docs::SYMLINK, "Where a symbolic link points, as it was given.", |s| bytes(&change_of(s, EventKind::Symlink)?.detail)),
    one("file.type", Keyword, FILE, "`file`, `dir` or `symlink`.", |s| text(file_kind(s)?)),
    one("file.inode", Keyword, FILE, "Inode number.", |s| decimal(file_id(s)?.inode)),
    one("file.device", Keyword, FILE, "Device, `major:minor`.", |s| owned(device(file_id(s)?))),
    one("file.mode", Keyword, FILE, "Permission bits, octal; before a change of them.", |s| owned(mode(file_owner(s)?.0))),
    one("file.uid", Keyword, FILE, "Owner; before a change of it.", |s| decimal(file_owner(s)?.1)),
    one("file.owner", Keyword, FILE, "Name of the owner, where the process is.", |s| text(s.user_name(file_owner(s)?.1)?)),
    one("file.gid", Keyword, FILE, "Group; before a change of it.", |s| decimal(file_owner(s)?.2)),
    one("file.group", Keyword, FILE, "Name of the group, the same way.", |s| text(s.group_name(file_owner(s)?.2)?)),
    one("file.size", Long, OPEN, "Bytes when it was opened.", |s| number(opened(s)?.size)),
    one("file.hash.sha256", Keyword, FILE, "Of an alert: SHA-256 of the file when it was closed, or at most 150 ms after it was opened.", |s| owned(hex(&s.document.event.content.found()?.sha256))),
    one("file.Ext.original.path", Keyword, Docs::TWO_NAMES, "The path before the rename; of a link the name that the file has already.", |s| bytes(original(s)?)),

    one("error.code", Keyword, Docs::EXEC_FAILED, "Why it failed: `ENOENT`, `EACCES`, ...", |s| owned(error(exec_failed(s)?.error))),

    one("source.ip", Ip, CONTACT, "Who began the connection or sent the datagram, where its address is known.", |s| owned(client(s)?.ip.to_string())),
    one("source.port", Long, CONTACT, "Its port.", |s| nonzero(client(s)?.port)),
    one("destination.ip", Ip, CONTACT, "To whom.", |s| owned(contacted(s)?.ip.to_string())),
    one("destination.port", Long, CONTACT, "Its port.", |s| nonzero(contacted(s)?.port)),
    one("client.ip", Ip, CONTACT, "The same as `source.ip`.", |s| owned(client(s)?.ip.to_string())),
    one("client.port", Long, CONTACT, "The same as `source.port`.", |s| nonzero(client(s)?.port)),
    one("server.ip", Ip, SERVER, "Address that the process listens on; else the same as `destination.ip`.", |s| owned(server_end(s)?.ip.to_string())),
    one("server.port", Long, SERVER, "Port that the process listens on; else the same as `destination.port`.", server_port),
    one("network.direction", Keyword, CONTACT, "`ingress` for a connection that was taken, else `egress`.", |s| text(direction(s)?)),
    one("network.iana_number", Keyword, NETWORK, "Number of the protocol.", |s| decimal(protocol(s)?)),
    one("network.transport", Keyword, NETWORK, "`tcp`, `udp`, ...", |s| text(transport(protocol(s)?)?)),
    one("network.type", Keyword, NETWORK, "`ipv4` or `ipv6`.", |s| text(network_type(s)?)),

    one("container.id", Keyword, ALL, "Container of the process, from its cgroup.", |s| text(container_id(s)?)),
    one("container.runtime", Keyword, ALL, "What made it: `docker`, `containerd`, `cri-o` or `podman`.", |s| text(container_runtime(s)?)),
    one("container.name", Keyword, ALL, "Its name; of Kubernetes that within the pod.", |s| text(container(s)?.name.as_deref()?)),
    one("container.image.name", Keyword, ALL, "Its image, without tag.", |s| text(container(s)?.image.name.as_deref()?)),
    list("container.image.tag", Keyword, ALL, "Tags of the image.", |s| strings(container(s)?.image.tags.iter().cloned())),
    list("container.image.hash.all", Keyword, ALL, "Digests of the image.", |s| strings(container(s)?.image.digests.iter().cloned())),
    one("container.labels", Object, ALL, "Labels of the container; a dot in a name is written `_`.", |s| labels(&container(s)?.labels)),

    one("orchestrator.type", Keyword, ALL, "`kubernetes`, for a process of a pod.", |s| text(pod_uid(s).and(Some("kubernetes"))?)),
    one("orchestrator.cluster.name", Keyword, ALL, "Name of the cluster.", |s| text(pod(s)?.cluster.as_deref()?)),
    one("orchestrator.namespace", Keyword, ALL, "Namespace of the pod.", |s| text(pod(s)?.namespace.as_deref()?)),
    one("orchestrator.resource.id", Keyword, ALL, "Uid of the pod.", |s| text(pod_uid(s)?)),
    one("orchestrator.resource.name", Keyword, ALL, "Name of the pod.", |s| text(pod(s)?.name.as_deref()?)),
    one("orchestrator.resource.type", Keyword, ALL, "`pod`.", |s| text(pod_uid(s).and(Some("pod"))?)),
    one("orchestrator.resource.parent.type", Keyword, ALL, "Kind of what made the pod: `Deployment`, `DaemonSet`, ...", |s| text(&pod(s)?.owner.as_ref()?.kind)),
    list("orchestrator.resource.label", Keyword, ALL, "Labels of the pod, `name:value`.", |s| strings(pod(s)?.labels.iter().map(|(name, value)| format!("{name}:{value}")))),
    list("orchestrator.resource.annotation", Keyword, ALL, "Annotations of the pod, `name:value`.", |s| strings(pod(s)?.annotations.iter().map(|(name, value)| format!("{name}:{value}")))),

    one("kubernetes.namespace", Keyword, ALL, "Namespace of the pod.", |s| text(pod(s)?.namespace.as_deref()?)),
    one("kubernetes.pod.name", Keyword, ALL, "Name of the pod.", |s| text(pod(s)?.name.as_deref()?)),
    one("kubernetes.pod.uid", Keyword, ALL, "Uid of the pod, from the cgroup.", |s| text(pod_uid(s)?)),
    one("kubernetes.container.name", Keyword, ALL, "Name of the container within the pod.", |s| text(pod(s).and(container(s))?.name.as_deref()?)),
    one("kubernetes.node.name", Keyword, ALL, "Node that the pod runs on.", |s| text(pod(s)?.node.as_deref()?)),
    one("kubernetes.service_account.name", Keyword, ALL, "Account that the pod acts as.", |s| text(pod(s)?.service_account.as_deref()?)),
    one("kubernetes.owner.kind", Keyword, ALL, "Kind of what made the pod, of whatever kind: for a Deployment's pod that, not its ReplicaSet.", |s| text(&pod(s)?.owner.as_ref()?.kind)),
    one("kubernetes.owner.name", Keyword, ALL, "Its name.", |s| text(&pod(s)?.owner.as_ref()?.name)),
    one("kubernetes.deployment.name", Keyword, ALL, "The same, where it is a Deployment.", |s| text(owner(s, "Deployment")?)),
    one("kubernetes.labels", Object, ALL, "Labels of the pod; a dot in a name is written `_`.", |s| labels(&pod(s)?.labels)),
    one("kubernetes.annotations", Object, ALL, "Its annotations, the same way.", |s| labels(&pod(s)?.annotations)),

    one("host.id", Keyword, ALL, "`/etc/machine-id`.", |s| text(&host(s).machine_id)),
    one("host.hostname", Keyword, ALL, "Name of the host.", |s| text(&host(s).hostname)),
    one("host.name", Keyword, ALL, "The same.", |s| text(&host(s).hostname)),
    one("host.boot.id", Keyword, ALL, "Changes with every boot.", |s| text(&host(s).boot_id)),
    one("host.architecture", Keyword, ALL, "As `uname -m` says.", |s| text(&host(s).architecture)),
    one("host.os.type", Keyword, ALL, "`linux`.", |_| text("linux")),
    one("host.os.platform", Keyword, ALL, "`ID` of os-release.", |s| text(&host(s).os_platform)),
    one("host.os.name", Keyword, ALL, "`NAME` of os-release.", |s| text(&host(s).os_name)),
    one("host.os.version", Keyword, ALL, "`VERSION_ID` of os-release.", |s| text(&host(s).os_version)),
    one("host.os.full", Keyword, ALL, "Name and version.", |s| owned(os_full(host(s)))),
    one("host.os.kernel", Keyword, ALL, "As `uname -r` says.", |s| text(&host(s).kernel)),

    one("agent.type", Keyword, ALL, "`tracer`.", |_| text("tracer")),
    one("agent.name", Keyword, ALL, "Name of the host the agent runs on.", |s| text(&host(s).hostname)),
    one("agent.version", Keyword, ALL, "Version of the agent.", |_| text(env!("CARGO_PKG_VERSION"))),

    list("related.hash", Keyword, ALL, "Hashes of the process's and its parent's executables and of the file.", |s| strings(related_hashes(s))),
    list("related.user", Keyword, ALL, "Users of the process and its parent, by name where known, else by id.", |s| strings(related_users(s))),
    list("related.ip", Ip, IMAGE.or(NETWORK), "Every address in the document.", |s| strings(related_ips(s))),
    list("related.hosts", Keyword, ALL, "The host.", |s| strings(Some(host(s).hostname.clone()).filter(|name| !name.is_empty()))),

    one("tracer.severity", Keyword, ALERT, "`event.severity` as a word.", |s| text(alert(s)?.severity.name())),
    list("tracer.false_positives", Keyword, ALERT, "Known benign causes of such an alert.", |s| strings(alert(s)?.rule.false_positives.clone())),
    group("tracer", ALERT, INCIDENT, |s| Some(s)),
    one("tracer.server.name", Keyword, ALL, "Nearest server: `nginx`, `php-fpm`, `tomcat`.", |s| text(&s.server()?.1.name)),
    one("tracer.server.role", Keyword, ALL, "What it does: `web`, `app`, `database`, `cache`, `mail`, `ftp`, `ci` (builds on request), `agent` (monitoring, management) or `service` (any other).", |s| text(s.server()?.1.role.name())),
    one("tracer.server.why", Keyword, ALL, "What it is known by: `named` (its executable or arguments), `listens`, or `accepts` (takes connections from a socket that it was handed).", |s| text(s.server()?.1.why.name())),
    one("tracer.server.depth", Long, ALL, "Steps from the process to it; 0 is the process itself. Left out where the server is not that of the process but of the writer.", |s| { let depth = s.server()?.0.depth; if depth == BESIDE { None } else { number(depth as u64) } }),
    one("tracer.server.pid", Long, ALL, "Its pid.", |s| number(s.server()?.0.process.key.tgid)),
    one("tracer.server.entity_id", Keyword, ALL, "Its entity id.", |s| owned(s.server()?.0.process.entity_id.to_string())),
    list("tracer.server.ports", Long, ALL, "Ports that it listens on.", |s| numbers(&s.server()?.0.process.ports)),
    one("tracer.directory.path", Keyword, ALERT, "Served or component directory that the file is in.", |s| bytes(&alert(s)?.directory.as_ref()?.path)),
    one("tracer.directory.kind", Keyword, ALERT, "`served`; `application` for one whose files a server runs, `component` for one that it loads code from, `cgi` for one whose files are programs.", |s| text(alert(s)?.directory.as_ref()?.kind)),
    one("tracer.directory.source", Keyword, ALERT, "Where that is known from: `default`, or a configuration file.", |s| text(&alert(s)?.directory.as_ref()?.source)),
    one("tracer.container.exec_session", Boolean, ALL, "The process came into its container after that had begun, as `kubectl exec`, `docker exec` and probes of health do, or descends from one that did.", |s| only(s.document.event.exec_session)),
    list("tracer.enrichment.pending", Keyword, ALL, "Facts that were asked for and not answered in time: `container`, `pod`, `names` (of users and groups), `hash`, `package`.", |s| words(s.document.event.pending())),
    rows("tracer.lineage", ALL, LINEAGE, |s| s.ancestors().collect()),
    one("tracer.origin", Keyword, ALL, "How the process is known: `witnessed` (its creation was seen), `observed` (found in /proc at start), `inferred` (named by another record), `healed` (found in /proc after a loss) or `restored` (known from the agent before this one).", |s| text(s.process.origin.name())),
    list("tracer.inferred_by", Keyword, ALL, "What the server was inferred by, of a process older than the agent that lost its creator to a reaper: `cgroup`, `session`, `group`, `stdio`. Absent where it was not.", inferred_by),
    one("tracer.inherited", Boolean, ALL, "Whether the program came with the fork and was not executed by the process itself.", |s| s.process.image.as_ref().map(|_| Value::Bool(s.process.inherited))),
    rows("tracer.images", ALL, IMAGES, |s| s.programs().collect()),
    one("tracer.images_forgotten", Long, ALL, "Programs that it ran besides these: of many, the first and the latest are kept.", |s| nonzero(s.process.images_forgotten)),
    rows("tracer.credentials", ALL, CREDENTIALS, |s| s.history().collect()),
    one("tracer.parent.pid", Long, ALL, "Pid of the parent now: the creator, and after its end the reaper that the kernel gave the process to. `process.parent` is always the creator.", |s| number(s.current_parent()?.process.key.tgid)),
    one("tracer.parent.inferred", Boolean, ALL, "The kernel did not tell that parent: it follows from the end of the one before.", |s| only(s.document.event.kin.parent_inferred)),
    group("tracer.parent", ALL, LEADER, |s| s.current_parent()),
    list("tracer.tag.roles", Keyword, ALL, "Roles of all servers in the lineage, as the kernel side keeps them.", |s| words(roles(s))),
    one("tracer.tag.distance", Long, ALL, "Forks since the nearest of them, as the kernel side keeps it.", |s| s.tag().is_server_lineage().then(|| number(s.tag().distance))?),
    list("tracer.via", Keyword, ALL, "How else than by birth the process came to its tag: `file` (it executed what a server's lineage wrote), `trace` (a server's lineage reached into it).", |s| words(ways(s.tag().via))),
    one("tracer.link.how", Keyword, ALL, "By which of the two it is connected with the process below.", |s| text(s.document.event.link.as_ref()?.0.name())),
    group("tracer.link", ALL, WRITER, |s| s.link()),
    group("tracer.writer", Docs::WRITTEN, WRITER, |s| s.writer()),
    one("tracer.executable.inode", Keyword, IMAGE, "Inode number of the executable.", |s| decimal(executed(s)?.file.inode)),
    one("tracer.executable.device", Keyword, IMAGE, "Its device, `major:minor`.", |s| owned(device(executed(s)?.file))),
    one("tracer.executable.mode", Keyword, IMAGE, "Its permission bits, octal, setuid and setgid included.", |s| owned(mode(executed(s)?.mode))),
    one("tracer.executable.memfd", Boolean, IMAGE, "It has no file: it was executed from memory.", |s| { let exec = executed(s)?; only(is_memfd(exec.nlink, &exec.exe)) }),
    one("tracer.executable.deleted", Boolean, IMAGE, "Its file is deleted.", |s| { let exec = executed(s)?; only(exec.nlink == 0 && exec.file.inode != 0 && !is_memfd(exec.nlink, &exec.exe)) }),
    one("tracer.executable.called_as", Keyword, IMAGE, "The path it was executed by, where that is a link to it.", |s| bytes(s.called_as()?)),
    one("tracer.executable.packaged", Boolean, ALL, "Whether a package owns the executable's path, by dpkg's or apk's database in the root directory of the process. Absent where neither is there, or the file is another by now.", |s| s.process.content.found()?.package.is_owned().map(Value::Bool)),
    group("tracer.executable.package", ALL, PACKAGE, |s| Some(s)),
    one("tracer.script.path", Keyword, IMAGE, "The script that the executable interprets, as it was named.", |s| bytes(&s.script()?.filename)),
    one("tracer.script.interpreter", Keyword, IMAGE, "The interpreter that its first line names.", |s| bytes(&s.script()?.interp)),
    one("tracer.args.length", Long, IMAGE, "Bytes of the whole argument area.", |s| number(executed(s)?.args_len)),
    one("tracer.args.truncated", Boolean, IMAGE, "The middle of the arguments is missing.", |s| only(args_truncated(executed(s)?))),
    group("tracer.stdin", IMAGE, STDIO, |s| s.stdio(0)),
    group("tracer.stdout", IMAGE, STDIO, |s| s.stdio(1)),
    group("tracer.stderr", IMAGE, STDIO, |s| s.stdio(2)),
    group("tracer.socket", NETWORK, SOCKET, |s| s.event_socket()),
    one("tracer.login.user.id", Keyword, ALL, "The user who logged in (audit); stays through sudo and su.", |s| decimal(s.exec()?.loginuid?)),
    one("tracer.login.session", Keyword, ALL, "Audit session.", |s| decimal(s.exec()?.sessionid?)),
    one("tracer.cgroup.path", Keyword, IMAGE, "Cgroup of the process.", |s| bytes(&executed(s)?.cgroup)),
    one("tracer.cgroup.id", Keyword, IMAGE, "Its id.", |s| decimal(Some(executed(s)?.cgroup_id).filter(|id| *id != 0)?)),
    one("tracer.namespaces.mnt", Long, NAMESPACES.or(FILE), "Mount namespace, inode number.", |s| nonzero(mount_namespace(s)?)),
    one("tracer.namespaces.pid", Long, NAMESPACES, "PID namespace.", |s| nonzero(namespaces(s)?.pid)),
    one("tracer.namespaces.net", Long, NAMESPACES.or(NETWORK), "Network namespace.", |s| nonzero(network_namespace(s)?)),
    one("tracer.namespaces.user", Long, NAMESPACES.or(Docs::CREDENTIALS), "User namespace.", |s| nonzero(user_namespace(s)?)),
    one("tracer.namespaces.uts", Long, NAMESPACES, "UTS namespace.", |s| nonzero(namespaces(s)?.uts)),
    one("tracer.namespaces.ipc", Long, NAMESPACES, "IPC namespace.", |s| nonzero(namespaces(s)?.ipc)),
    one("tracer.namespaces.cgroup", Long, NAMESPACES, "Cgroup namespace.", |s| nonzero(namespaces(s)?.cgroup)),
    one("tracer.namespace.call", Keyword, Docs::NAMESPACE, "`setns`, `unshare`, `setns_or_unshare`, `chroot` or `pivot_root`.", |s| text(namespace_call(namespace(s)?.call)?)),
    one("tracer.namespace.root", Keyword, Docs::NAMESPACE, "Root directory from now on.", |s| bytes(&namespace(s)?.root)),
    list("tracer.file.flags", Keyword, OPEN, "How it was opened: `create`, `exclusive`, `truncate`, `append`.", |s| words(open_flags(opened(s)?.f_flags))),
    one("tracer.file.links", Long, OPEN, "Links to the file.", |s| number(opened(s)?.nlink)),
    one("tracer.file.hashed.size", Long, FILE, "Bytes that its hash is of.", |s| number(s.document.event.content.found()?.size)),
    one("tracer.file.hashed.open", Boolean, FILE, "Who wrote it had it still open then: what is in it now may be another.", |s| only(s.document.event.content.found()?.open)),
    one("tracer.file.memfd", Boolean, OPEN, "It is a file in memory only.", |s| { let open = opened(s)?; only(is_memfd(open.nlink, &open.path)) }),
    one("tracer.file.deleted", Boolean, OPEN, "It has no name any more, or never had one.", |s| { let open = opened(s)?; only(open.nlink == 0 && !is_memfd(open.nlink, &open.path)) }),
    list("tracer.map.access", Keyword, Docs::MAP, "What the mapping allows: `write` (and it reaches the file), `execute`.", |s| words(mapping(opened(s)?.access))),
    list("tracer.change.flags", Keyword, Docs::WITH_FLAGS, "Flags of the call. Rename: `no_replace`, `exchange` (both files changed places), `whiteout`. Link: `follow`, `empty_path`. Unlink: `directory`. Mount: `bind`, `move`, `recursive`, `remount`, `read_only`, `no_set_id`, `no_devices`, `no_exec`, `private`, `slave`, `shared`, `unbindable`.", |s| words(change_flags(changed(s)?))),
    one("tracer.change.mode", Keyword, Docs::NEW_MODE, "Permission bits that were asked for, octal.", |s| owned(mode(new_mode(s)?))),
    one("tracer.change.uid", Keyword, Docs::CHOWN, "New owner; left out where it stays.", |s| decimal(new_owner(s)?.0?)),
    one("tracer.change.gid", Keyword, Docs::CHOWN, "New group; left out where it stays.", |s| decimal(new_owner(s)?.1?)),
    one("tracer.change.size", Long, Docs::TRUNCATE, "New size, bytes.", |s| number(change_of(s, EventKind::Truncate)?.number)),
    one("tracer.change.attribute", Keyword, Docs::SETXATTR, "Name of the extended attribute; `security.capability` gives the file capabilities.", |s| bytes(&change_of(s, EventKind::Setxattr)?.detail)),
    one("tracer.change.source", Keyword, Docs::MOUNT, "What was mounted: a device, a directory, or a word.", |s| bytes(&change_of(s, EventKind::Mount)?.detail)),
    one("tracer.names", Keyword, CHANGE, "Whose the paths are: `resolved` by the kernel, or the `caller`'s strings, made absolute without following links.", |s| text(names(s)?)),
    one("tracer.toctou.old_path", Keyword, CHANGE, "The old path as it was when the call began, where the names were others then: another thread rewrote them.", |s| bytes(&changed(s)?.early.as_ref()?.0)),
    one("tracer.toctou.path", Keyword, CHANGE, "The new path as it was then.", |s| bytes(&changed(s)?.early.as_ref()?.1)),
    one("tracer.toctou.directory", Boolean, CHANGE, "What the name is relative to, or the descriptor's file, was another when the call began: the path may be anywhere.", |s| only(changed(s).is_some() && has_flag(s, flag::BASE_CHANGED))),
    one("tracer.toctou.unverified", Boolean, CHANGE, "The name could not be read when the call began: whether another thread rewrote it is not known.", |s| only(changed(s).is_some() && has_flag(s, flag::UNVERIFIED))),
    one("tracer.exec_failed.path", Keyword, Docs::EXEC_FAILED, "The name that could not be executed.", |s| bytes(&exec_failed(s)?.filename)),
    one("tracer.target.method", Keyword, Docs::TRACE, "How the process reached into the other: `ptrace`, `process_vm_writev`, `mem` (it opened `/proc/PID/mem` for writing), or `access` (it was given the right to do one of these).", |s| text(trace_method(traced(s)?.method)?)),
    one("tracer.target.pid", Long, Docs::TRACE, "Pid of the other.", |s| number(traced(s)?.target?.tgid)),
    one("tracer.target.vpid", Long, Docs::TRACE, "Its pid as the process gave it, in the namespace of that.", |s| nonzero(traced(s)?.target_vpid)),
    group("tracer.target", Docs::TRACE, TARGET, |s| s.target()),
    one("tracer.comm.old", Keyword, Docs::COMM, "Name of the thread before.", |s| bytes(ended_by_nul(&comm(s)?.old))),
    one("tracer.comm.new", Keyword, Docs::COMM, "Its name from now on.", |s| bytes(ended_by_nul(&comm(s)?.new))),
    one("tracer.exit.signal", Long, EXIT, "Signal that ended the process.", |s| number(ended_by(s)?)),
    one("tracer.exit.signal_name", Keyword, EXIT, "Its name.", |s| text(signal(ended_by(s)?)?)),
    one("tracer.exit.core_dumped", Boolean, EXIT, "It left a core dump.", |s| only(Status(s.ended()?.1?).dumped_core())),
    one("tracer.tier", Keyword, ALL, "Hooks that the event is from: `tracepoint`, `lsm`, or `snapshot` for /proc.", |s| text(s.document.event.event.meta.tier.name())),
    one("tracer.untagged", Boolean, ALL, "The process descends from no server: told because of what the file is, or where it lies.", |s| only(has_flag(s, flag::UNTAGGED))),
    one("tracer.attempt", Boolean, ALL, "Told when it was permitted or handed in: whether it succeeded is not known.", |s| only(has_flag(s, flag::ATTEMPT))),
    one("tracer.io_uring", Boolean, ALL, "It came through io_uring.", |s| only(has_flag(s, flag::URING))),
    list("tracer.missing", Keyword, ALL, "Facts that are missing or cut short: `path_truncated`, `working_directory_truncated`, `args_truncated`, `args_unreadable`, `name_truncated`.", |s| words(missing(s.document.event.event.meta.flags))),
    one("tracer.integrity.state", Keyword, ALL, "`complete`, or `incomplete` where something was lost in the time that the lineage rests on.", |s| text(integrity(s))),
    one("tracer.integrity.lineage_broken", Boolean, ALL, "The chain does not reach PID 1 of the host.", |s| only(s.document.event.integrity.lineage_broken)),
    one("tracer.integrity.ancestry_truncated", Boolean, ALL, "And that because it is too long to be followed, or because an ancestor left the store: somebody made the oldest one shown.", |s| only(s.document.event.integrity.ancestry_truncated)),
    one("tracer.integrity.depth", Long, ALL, "Ancestors that are shown.", |s| number(s.ancestors().count() as u64)),
    one("tracer.integrity.blind_ms", Long, ALL, "Milliseconds in which no agent ran, since the oldest process that the server made began. Absent where one always did.", |s| Some(s.document.event.integrity.blind_ns).filter(|ns| *ns > 0).and_then(|ns| number(ns.div_ceil(1_000_000)))),
    one("tracer.integrity.lost", Flattened, ALL, "Losses by reason since the oldest ancestor that started while the agent ran.", |s| Some(&*s.document.event.integrity.lost).filter(|lost| !lost.is_empty()).map(Value::Counts)),
    raw("tracer.raw", "Exact bytes, in hexadecimal, of each text above that is not UTF-8, by its dotted path; places in lists count from 0."),
];

/// `process` and `process.parent`.
#[rustfmt::skip]
static PROCESS: &[Field] = &[
    one("entity_id", Keyword, ALL, "Names the process for all time: made from boot id, pid and start.", |s| owned(s.process.entity_id.to_string())),
    one("pid", Long, ALL, "Pid in the host's namespace.", |s| number(s.process.key.tgid)),
    one("vpid", Long, ALL, "Pid in its own namespace.", |s| nonzero(s.process.vpid)),
    one("name", Keyword, ALL, "Last component of the executable.", |s| bytes(s.name())),
    one("executable", Keyword, ALL, "Executable, absolute, as the process sees it, links resolved.", |s| bytes(&s.exec()?.exe)),
    one("hash.sha256", Keyword, ALL, "SHA-256 of the executable when it was executed; of servers and their lineage, and of what alerts are about.", |s| owned(hex(&s.process.content.found()?.sha256))),
    list("args", Keyword, ALL, "Arguments, the program's name for itself first.", |s| arguments(s.exec()?)),
    one("args_count", Long, ALL, "How many; left out where the middle is missing.", |s| arguments_count(s.exec()?)),
    one("command_line", Wildcard, ALL, "The arguments, joined by spaces.", |s| command_line(s.exec()?)),
    one("working_directory", Keyword, ALL, "Working directory when it was executed.", |s| bytes(&s.exec()?.cwd)),
    one("start", Date, ALL, "When the process was created.", |s| time(s, s.process.start_boot_ns)),
    one("end", Date, ALL, "When it ended, where that was before or with this event.", |s| time(s, s.ended()?.0)),
    one("exit_code", Long, ALL, "Exit code; for an end by signal 128 + its number, as shells have it.", |s| number(Status(s.ended()?.1?).code())),
    one("interactive", Boolean, ALL, "Whether standard input and error are its controlling terminal.", |s| s.exec().map(|exec| Value::Bool(interactive(exec)))),
    one("tty.char_device.major", Long, ALL, "Controlling terminal, major number.", |s| number(s.exec()?.tty?.0)),
    one("tty.char_device.minor", Long, ALL, "Its minor number.", |s| number(s.exec()?.tty?.1)),
    one("user.id", Keyword, ALL, "Effective user.", |s| decimal(s.ids()?.euid)),
    one("user.name", Keyword, ALL, "Its name.", |s| text(s.user_name(s.ids()?.euid)?)),
    one("real_user.id", Keyword, ALL, "Real user.", |s| decimal(s.ids()?.uid)),
    one("real_user.name", Keyword, ALL, "Its name.", |s| text(s.user_name(s.ids()?.uid)?)),
    one("saved_user.id", Keyword, ALL, "Saved user.", |s| decimal(s.ids()?.suid)),
    one("saved_user.name", Keyword, ALL, "Its name.", |s| text(s.user_name(s.ids()?.suid)?)),
    one("group.id", Keyword, ALL, "Effective group.", |s| decimal(s.ids()?.egid)),
    one("group.name", Keyword, ALL, "Its name.", |s| text(s.group_name(s.ids()?.egid)?)),
    one("real_group.id", Keyword, ALL, "Real group.", |s| decimal(s.ids()?.gid)),
    one("real_group.name", Keyword, ALL, "Its name.", |s| text(s.group_name(s.ids()?.gid)?)),
    one("saved_group.id", Keyword, ALL, "Saved group.", |s| decimal(s.ids()?.sgid)),
    one("saved_group.name", Keyword, ALL, "Its name.", |s| text(s.group_name(s.ids()?.sgid)?)),
    one("thread.id", Long, ALL, "Thread that did it.", |s| number(s.tid()?)),
    list("thread.capabilities.effective", Keyword, ALL, "Effective capabilities when it was executed; of `credentials` those from now on.", |s| strings(capabilities(capability_masks(s)?.0))),
    list("thread.capabilities.permitted", Keyword, ALL, "Permitted capabilities, the same way.", |s| strings(capabilities(capability_masks(s)?.1))),
];

/// `tracer.writer`, who of a server's lineage wrote the file; and `tracer.link`, who the process came
/// to its tag by.
#[rustfmt::skip]
static WRITER: &[Field] = &[
    one("entity_id", Keyword, ALL, "Names the process of a server's lineage for all time.", |s| owned(s.process.entity_id.to_string())),
    one("pid", Long, ALL, "Its pid in the host's namespace.", |s| number(s.process.key.tgid)),
    one("name", Keyword, ALL, "Last component of the executable that it ran last.", |s| bytes(s.name())),
    one("executable", Keyword, ALL, "The executable.", |s| bytes(&s.exec()?.exe)),
    list("args", Keyword, ALL, "Its arguments.", |s| arguments(s.exec()?)),
    one("user.id", Keyword, ALL, "Its effective user.", |s| decimal(s.ids()?.euid)),
    one("user.name", Keyword, ALL, "Name of that user.", |s| text(s.user_name(s.ids()?.euid)?)),
    one("container.id", Keyword, ALL, "Its container.", |s| text(container_id(s)?)),
    one("container.name", Keyword, ALL, "Name of that, where it is another than the process's.", |s| text(other_container(s)?.name.as_deref()?)),
    one("container.image.name", Keyword, ALL, "Image of that, the same way.", |s| text(other_container(s)?.image.name.as_deref()?)),
    one("pod.namespace", Keyword, ALL, "Namespace of its pod, the same way.", |s| text(other_pod(s)?.namespace.as_deref()?)),
    one("pod.name", Keyword, ALL, "Name of its pod, the same way.", |s| text(other_pod(s)?.name.as_deref()?)),
    one("time", Date, ALL, "When it opened the file for writing last; of a link, when the process executed the file or was reached into.", |s| time(s, s.author()?.boot_ns)),
    list("roles", Keyword, ALL, "Roles of the servers that it descended from then.", |s| words(role_names(s.author()?.tag))),
    list("via", Keyword, ALL, "As `tracer.via`, of that process.", |s| words(ways(s.author()?.tag.via))),
    list("ancestry", Keyword, ALL, "Entity ids of its ancestors, nearest first.", |s| strings(s.author()?.lineage.iter().map(|process| process.entity_id.to_string()))),
];

/// `process.previous` and `tracer.lineage[].previous`.
#[rustfmt::skip]
static PREVIOUS: &[Field] = &[
    one("executable", Keyword, ALL, "Executable of a program that the process ran before, oldest first.", |s| bytes(&s.exec()?.exe)),
    list("args", Keyword, ALL, "Its arguments.", |s| arguments(s.exec()?)),
    one("args_count", Long, ALL, "How many; left out where the middle is missing.", |s| arguments_count(s.exec()?)),
];

/// `tracer.lineage`: the ancestors.
#[rustfmt::skip]
static LINEAGE: &[Field] = &[
    one("depth", Long, ALL, "Steps up from the process; 1 is its creator. The list is nearest first and ends with PID 1.", |s| number(s.depth as u64)),
    one("entity_id", Keyword, ALL, "Names the ancestor for all time.", |s| owned(s.process.entity_id.to_string())),
    one("pid", Long, ALL, "Pid in the host's namespace.", |s| number(s.process.key.tgid)),
    one("name", Keyword, ALL, "Last component of its executable.", |s| bytes(s.name())),
    one("executable", Keyword, ALL, "The program it ran at the time of the event.", |s| bytes(&s.exec()?.exe)),
    one("hash.sha256", Keyword, ALL, "SHA-256 of that, the same way.", |s| owned(hex(&s.process.content.found()?.sha256))),
    one("packaged", Boolean, ALL, "As `tracer.executable.packaged`.", |s| s.process.content.found()?.package.is_owned().map(Value::Bool)),
    group("package", ALL, PACKAGE, |s| Some(s)),
    list("args", Keyword, ALL, "Its arguments.", |s| arguments(s.exec()?)),
    one("working_directory", Keyword, ALL, "Working directory when it was executed.", |s| bytes(&s.exec()?.cwd)),
    one("start", Date, ALL, "When the ancestor was created.", |s| time(s, s.process.start_boot_ns)),
    one("end", Date, ALL, "When it ended, where that was before this event.", |s| time(s, s.ended()?.0)),
    one("exit_code", Long, ALL, "With which code, as `process.exit_code`.", |s| number(Status(s.ended()?.1?).code())),
    one("user.id", Keyword, ALL, "Its effective user.", |s| decimal(s.ids()?.euid)),
    one("user.name", Keyword, ALL, "Name of that user.", |s| text(s.user_name(s.ids()?.euid)?)),
    one("container.id", Keyword, ALL, "Its container.", |s| text(container_id(s)?)),
    one("container.name", Keyword, ALL, "Name of that, where it is another than the process's.", |s| text(other_container(s)?.name.as_deref()?)),
    one("container.image.name", Keyword, ALL, "Image of that, the same way.", |s| text(other_container(s)?.image.name.as_deref()?)),
    one("pod.namespace", Keyword, ALL, "Namespace of its pod, the same way.", |s| text(other_pod(s)?.namespace.as_deref()?)),
    one("pod.name", Keyword, ALL, "Name of its pod, the same way.", |s| text(other_pod(s)?.name.as_deref()?)),
    one("server", Keyword, ALL, "The server it is.", |s| text(&s.process.server.as_ref()?.name)),
    one("role", Keyword, ALL, "What that server does.", |s| text(s.process.server.as_ref()?.role.name())),
    list("ports", Long, ALL, "Ports that it listens on.", |s| numbers(&s.process.ports)),
    one("origin", Keyword, ALL, "How it is known: `witnessed`, `observed`, `inferred`, `healed` or `restored`.", |s| text(s.process.origin.name())),
    list("inferred_by", Keyword, ALL, "What its server was inferred by, where it lost its creator to a reaper.", inferred_by),
    one("inherited", Boolean, ALL, "Whether its program came with the fork.", |s| s.process.image.as_ref().map(|_| Value::Bool(s.process.inherited))),
    rows("previous", ALL, PREVIOUS, |s| s.previous().collect()),
];

/// `tracer.socket`: the socket of a network event.
#[rustfmt::skip]
static SOCKET: &[Field] = &[
    one("type", Keyword, ALL, "`stream`, `datagram`, `raw` or `seqpacket`.", |s| text(socket_type(socket_use(s)?.socket_type)?)),
    one("inode", Keyword, ALL, "Inode number: the same for every descriptor of the socket.", |s| decimal(Some(s.fd()?.inode).filter(|inode| *inode != 0)?)),
    one("family", Keyword, ALL, "`ipv4`, `ipv6` or `unix`.", |s| text(socket(s)?.1)),
    one("state", Keyword, ALL, "Of an internet socket: `established`, `syn_sent`, `close` (not connected), …", internet_state),
    one("local.ip", Ip, ALL, "Address of this end; an unspecified one where it is not chosen.", |s| { let (fd, _) = socket(s)?; owned(address(fd.family, fd.local_addr)?.to_string()) }),
    one("local.port", Long, ALL, "Port of this end.", |s| nonzero(socket(s)?.0.local_port)),
    one("peer.ip", Ip, ALL, "Address of the other end.", |s| owned(peer(s)?)),
    one("peer.port", Long, ALL, "Port of the other end.", |s| nonzero(socket(s)?.0.remote_port)),
    one("peer.pid", Long, ALL, "Process at the other end of a unix socket when it was connected; of a listener the one that listens.", |s| nonzero(socket(s)?.0.peer_tgid)),
    one("name", Keyword, ALL, "Name of a unix socket: of the peer for a connection and a datagram, else its own. `@` begins an abstract one.", unix_name),
    one("descriptor", Keyword, ALL, "What it was made: `stdin`, `stdout` or `stderr`.", |s| text(redirected(s)?)),
    one("error", Keyword, ALL, "Error of a connection that goes on all the same: `EINPROGRESS` or, where a signal ended the waiting, another.", |s| owned(error(socket_error(s)?))),
];

/// `tracer.stdin`, `tracer.stdout` and `tracer.stderr`: descriptors when the program was executed.
#[rustfmt::skip]
static STDIO: &[Field] = &[
    one("type", Keyword, ALL, "`file`, `pipe`, `tty`, `null`, `socket` or `other`.", |s| text(fd_type(s.fd()?)?)),
    one("inode", Keyword, ALL, "Inode number: equal at both ends of a pipe.", |s| decimal(Some(s.fd()?.inode).filter(|inode| *inode != 0)?)),
    one("family", Keyword, ALL, "Of a socket: `ipv4`, `ipv6` or `unix`.", |s| text(socket(s)?.1)),
    one("state", Keyword, ALL, "Of an internet socket: `established`, `listen`, …", internet_state),
    one("local.ip", Ip, ALL, "Address of this end.", |s| { let (fd, _) = socket(s)?; owned(address(fd.family, fd.local_addr)?.to_string()) }),
    one("local.port", Long, ALL, "Port of this end.", |s| nonzero(socket(s)?.0.local_port)),
    one("peer.ip", Ip, ALL, "Address of the other end.", |s| owned(peer(s)?)),
    one("peer.port", Long, ALL, "Port of the other end.", |s| nonzero(socket(s)?.0.remote_port)),
    one("peer.pid", Long, ALL, "Process at the other end of a unix socket.", |s| nonzero(socket(s)?.0.peer_tgid)),
];
