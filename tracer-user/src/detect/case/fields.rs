//! The fields that rules can compare: Sigma's own for Linux, and what the lineage adds.

use std::borrow::Cow;
use std::fmt::Write as _;

use rsigma_eval::EventValue;
use tracer_common::event::{EventKind, FdInfo, Ids, fd_kind, flag as event_flag};

use super::{Case, Doubt, Fact};
use crate::detect::code::code;
use crate::detect::reaching;
use crate::detect::roles;
use crate::detect::sigma::Category;
use crate::event::{Payload, Socket, fd_type, ip, is_inet};
use crate::lineage::process::Image;

/// A field.
pub struct Field {
    /// As rules name it.
    pub name: &'static str,
    /// The kinds of events that have it; empty for all.
    pub of: &'static [Category],
    /// What it says.
    pub doc: &'static str,
    pub(super) get: for<'c> fn(&'c Case<'_>) -> Option<EventValue<'c>>,
}

use Category::{
    FileChange, FileDelete, FileEvent, FileRename, ImageLoad, NetworkConnection, PrivilegeChange,
    ProcessAccess, ProcessCreation,
};

const EXEC: &[Category] = &[ProcessCreation];
const FILES: &[Category] = &[FileEvent, FileChange, FileRename, FileDelete, ImageLoad];
const NAMES: &[Category] = &[FileEvent, FileChange, FileRename, FileDelete];
const NET: &[Category] = &[NetworkConnection];
const LOAD: &[Category] = &[ImageLoad];
const ACCESS: &[Category] = &[ProcessAccess];
const RIGHTS: &[Category] = &[PrivilegeChange];

macro_rules! field {
    ($name:literal, $of:expr, $doc:literal, $get:expr) => {
        Field {
            name: $name,
            of: $of,
            doc: $doc,
            get: $get,
        }
    };
}

/// Every field, by name: [`get`] looks it up so.
#[rustfmt::skip]
pub static ALL: &[Field] = &[
    field!("Access.Method", ACCESS, "How the process reached into the other: `ptrace`, `process_vm_writev`, `mem` (it opened `/proc/PID/mem` for writing), or `access` (it was given the right to do one of these).", |c| word(reaching::method(reaching::trace(c)?))),
    field!("Ancestor.CommandLine", &[], "Command lines of all ancestors, nearest first. Any of them may match.", |c| array(c.ancestors().filter_map(|p| Some(line(p.image()?))))),
    field!("Ancestor.Image", &[], "Executables of all ancestors, nearest first: `Ancestor|any.Image` is the same.", |c| array(c.ancestors().filter_map(|p| Some(path(p.image()?))))),
    field!("CommandLine", &[], "Arguments, a space between them.", |c| string(Cow::Borrowed(c.line()?))),
    field!("CurrentDirectory", &[], "Working directory.", |c| bytes(&c.exec?.cwd)),
    field!("DestinationIp", NET, "Address of the peer; of an accepted connection its own.", |c| address(c, false)),
    field!("DestinationPort", NET, "Port of that address.", |c| port(c, false)),
    field!("Exec.Ordinary", EXEC, "The shape by which a shell or interpreter is a server's ordinary work: `start-up`, `cgi` or `own-program`. Exact words only; see docs/detection.md.", |c| word(c.ordinary?)),
    field!("File.Action", NAMES, "`created`, `opened`, `appended`, `written`, `mapped`, `renamed`, `linked`, `symlinked`, `mounted`, `executable` (made so), `capabilities` (given) or `other`.", |c| word(c.file.as_ref()?.action)),
    field!("File.Code", NAMES, "What the file is to a server by its name: `program` (it is run or loaded) or `control` (it says how others are run).", |c| word(c.file.as_ref()?.code?)),
    field!("File.Directory", NAMES, "What the directory of a server is for that the file is in: `served`, `application`, `cgi` or `component`.", |c| word(c.file.as_ref()?.directory.as_ref()?.kind)),
    field!("File.DirectoryPath", NAMES, "That directory.", |c| bytes(&c.file.as_ref()?.directory.as_ref()?.path)),
    field!("File.Doubt", NAMES, "`path` where the path is not known whole, `name` where the name is not known or may have been another.", |c| word(match c.file.as_ref()?.doubt? { Doubt::Path => "path", Doubt::Name => "name" })),
    field!("File.IsComponent", NAMES, "It is in a directory that servers load modules, extensions or configuration from.", |c| flag(c.file.as_ref()?.directory.as_ref()?.kind == "component")),
    field!("File.IsCreated", NAMES, "The call created it.", |c| flag(c.file.as_ref()?.action == "created")),
    field!("File.IsServed", NAMES, "It is in a directory whose files answer requests or are run for them.", |c| flag(c.file.as_ref()?.directory.as_ref()?.kind != "component")),
    field!("File.Race", NAMES, "What was another when the call began than when it was done: `names`; `code`, where one of the names is; or `base`, the directory that a name is relative to.", |c| word(race(c)?)),
    field!("File.WrittenByServer", FILES, "A server's lineage wrote the file before.", |c| flag(c.event.payload.writer().is_some() || c.facts.has(Fact::Written))),
    field!("Image", &[], "The executable, as the kernel resolved it.", |c| bytes(c.image.unwrap_or(&c.exec?.exe))),
    field!("Image.GainsRights", EXEC, "It runs with more rights than who runs it, and a server's lineage wrote it.", |c| flag(c.facts.has(Fact::GainsRights))),
    field!("Image.IsFileless", EXEC, "It has no name: a memfd, or a file that was removed.", |c| flag(c.facts.has(Fact::Fileless))),
    field!("Image.Previous", &[], "Executables that the process ran before this one.", |c| array(previous(c).map(path))),
    field!("Image.WrittenByServer", EXEC, "A server's lineage wrote the executable, or the script or module that it was given.", |c| flag(c.facts.has(Fact::Written))),
    field!("ImageLoaded", LOAD, "What was mapped to be executed.", |c| bytes(&c.file.as_ref()?.path)),
    field!("Initiated", NET, "`true` for a connection that the process made, `false` for one that it took.", |c| flag(socket(c)?.kind != EventKind::Accept)),
    field!("Lineage.Alerted", &[], "The worst severity of what was an alert already of the same child of the server and what it ran: `low` … `critical`. Nothing where there was none.", |c| word(c.alerted()?.name())),
    field!("Lineage.Depth", &[], "Ancestors that are known.", |c| number(c.ancestors().count())),
    field!("Lineage.ServerDepth", &[], "Steps up to the nearest server; zero where the process is one.", |c| number(c.nearest?.server_depth()?)),
    field!("Lineage.Via", &[], "How the process is connected with the server where it does not descend from it: `file` or `trace`.", |c| word(c.beside()?.name())),
    field!("LogonId", &[], "Number of the real user.", |c| number(ids(c)?.uid as usize)),
    field!("ParentCommandLine", &[], "Command line of who created the process.", |c| string(Cow::Borrowed(c.parent_line()?))),
    field!("ParentImage", &[], "Executable of who created the process.", |c| bytes(&c.parent()?.exec.exe)),
    field!("ParentProcessId", &[], "Its process id.", |c| number(c.ancestors().next()?.key.tgid as usize)),
    field!("Privilege.Gained", RIGHTS, "What the process got that nothing it had before explains: `user`, where it became root and was it in no role and had no right to become another user; `capabilities`, where it has some that it was not permitted before, in the same user namespace.", |c| word(reaching::gained(c)?)),
    field!("ProcessId", &[], "Process id.", |c| number(c.event.meta.subject.tgid as usize)),
    field!("Program.IsGivenWork", EXEC, "A shell or interpreter was given a command or a script.", |c| flag(c.facts.has(Fact::GivenWork))),
    field!("Program.IsLoaded", EXEC, "It is what a dynamic loader, that was called as a program, was given to run; told when that is mapped.", |c| flag(c.image.is_some() && roles::is_loader(roles::base(&c.exec?.exe)))),
    field!("Program.Kind", &[ProcessCreation, ImageLoad, NetworkConnection, ProcessAccess, PrivilegeChange], "What the program is, whatever its file is called: `shell` or `interpreter`; else by its name `downloader`, `network_tool`, `tunnel`, `discovery`, `encoder`, `builder`, `persistence`, `privilege`, `launcher`, `namespace`, `kubernetes` or `editor`.", |c| word(c.kind()?)),
    field!("Program.Name", EXEC, "Its name: of a multi-call binary the applet, of a dynamic loader what it was given.", |c| bytes(roles::effective_name(c.exec?))),
    field!("Protocol", NET, "`tcp`, `udp` …", |c| protocol(socket(c)?)),
    field!("Server.IsStarting", &[], "The nearest server is still starting: it does not serve yet.", |c| flag(c.is_starting)),
    field!("Server.ListenPort", &[], "Ports that the nearest server listens on.", |c| Some(EventValue::Array(c.nearest?.process?.ports.iter().map(|port| EventValue::Int(i64::from(*port))).collect()))),
    field!("Server.Name", &[], "Its name: `nginx`, `php-fpm`, `tomcat` …, else that of its executable.", |c| string(Cow::Borrowed(&*c.server?.name))),
    field!("Server.Role", &[], "What the nearest server is for: `web`, `app`, `database`, `cache`, `mail`, `ftp`, `ci`, `agent` or `service`. Only server lineages have it.", |c| word(c.role()?.name())),
    field!("Server.Why", &[], "What made it known as one: `named`, `listens` or `accepts`.", |c| word(c.server?.why.name())),
    field!("Socket.Action", NET, "`connect`, `accept`, or `listen`.", |c| word(reaching::action(socket(c)?)?)),
    field!("Socket.IsLocal", NET, "Nobody beyond this host is at the other end: a loopback address, or a unix socket. Of a socket that listens its own address says so.", |c| flag(reaching::is_local(socket(c)?))),
    field!("SourceFilename", NAMES, "The name before, of a rename or link.", |c| bytes(old(c)?)),
    field!("SourceIp", NET, "The process's own address; of an accepted connection the peer's.", |c| address(c, true)),
    field!("SourcePort", NET, "Port of that address.", |c| port(c, true)),
    field!("Stderr.Type", EXEC, "As `Stdin.Type`.", |c| stdio(c, 2)),
    field!("Stdin.Type", EXEC, "What standard input is: `file`, `pipe`, `tty`, `null`, `inet` (a connected internet socket), `socket` (any other) or `other`.", |c| stdio(c, 0)),
    field!("Stdio.IsRemote", EXEC, "Standard input, output or error is a connected internet socket.", |c| flag(c.facts.has(Fact::RemoteStdio))),
    field!("Stdout.Type", EXEC, "As `Stdin.Type`.", |c| stdio(c, 1)),
    field!("Target.Image", ACCESS, "Executable of the process that was reached into.", |c| bytes(&reaching::target(c)?.image()?.exec.exe)),
    field!("Target.IsOfServer", ACCESS, "It descends from the same outermost server. Nothing where it is not known.", |c| flag(reaching::is_of_server(c)?)),
    field!("Target.ProcessId", ACCESS, "Its process id.", |c| number(reaching::trace(c)?.target?.tgid as usize)),
    field!("TargetFilename", FILES, "The file: its name from now on.", |c| bytes(&c.file.as_ref()?.path)),
    field!("User", &[], "`root`, else the number of the effective user.", |c| Some(EventValue::Str(match uid(c)? { 0 => "root".into(), uid => uid.to_string().into() }))),
    field!("UserId", &[], "Number of the effective user.", |c| number(uid(c)? as usize)),
];

/// The fields in markdown, for the documentation.
#[must_use]
pub fn reference_markdown() -> String {
    let mut out = String::from("| field | of | what it says |\n| --- | --- | --- |\n");
    for field in ALL {
        let of: Vec<&str> = field.of.iter().map(|category| category.name()).collect();
        let of = if of.is_empty() {
            "all".to_owned()
        } else {
            of.join(", ")
        };
        let _infallible = writeln!(out, "| `{}` | {of} | {} |", field.name, field.doc);
    }
    out
}

/// A field by its name.
#[must_use]
pub fn get(name: &str) -> Option<&'static Field> {
    let at = ALL.binary_search_by(|field| field.name.cmp(name)).ok()?;
    ALL.get(at)
}

/// Whether events of a category have a field.
///
/// # Errors
///
/// They have not: what is called almost so, or who has it.
pub fn check(name: &str, category: Category) -> Result<(), String> {
    let has = |field: &&Field| field.of.is_empty() || field.of.contains(&category);
    match get(name) {
        Some(field) if has(&field) => Ok(()),
        Some(field) => {
            let of: Vec<&str> = field.of.iter().map(|category| category.name()).collect();
            Err(format!(
                "events of {} have no field {name}; those of {} have",
                category.name(),
                of.join(", ")
            ))
        }
        None => {
            let known = ALL.iter().filter(has).map(|field| field.name);
            let near = known.min_by_key(|known| {
                strsim::damerau_levenshtein(&known.to_ascii_lowercase(), &name.to_ascii_lowercase())
            });
            Err(format!(
                "unknown field {name}; the nearest that events of {} have is {}",
                category.name(),
                near.unwrap_or_default()
            ))
        }
    }
}

type Value<'c> = Option<EventValue<'c>>;

fn string(text: Cow<'_, str>) -> Value<'_> {
    Some(EventValue::Str(text))
}

fn word(text: &'static str) -> Value<'static> {
    string(Cow::Borrowed(text))
}

fn bytes(text: &[u8]) -> Value<'_> {
    (!text.is_empty()).then(|| EventValue::Str(String::from_utf8_lossy(text)))
}

fn array<'c>(texts: impl Iterator<Item = Cow<'c, str>>) -> Value<'c> {
    Some(EventValue::Array(texts.map(EventValue::Str).collect()))
}

const fn flag(holds: bool) -> Value<'static> {
    Some(EventValue::Bool(holds))
}

fn number(number: usize) -> Value<'static> {
    Some(EventValue::Int(i64::try_from(number).unwrap_or(i64::MAX)))
}

/// Arguments as one line. Of one alone the text itself.
pub(super) fn words(args: &[Vec<u8>]) -> Cow<'_, str> {
    match args {
        [one] => String::from_utf8_lossy(one),
        all => match String::from_utf8(all.join(&b' ')) {
            Ok(line) => line.into(),
            Err(error) => String::from_utf8_lossy(error.as_bytes())
                .into_owned()
                .into(),
        },
    }
}

pub(super) fn line(image: &Image) -> Cow<'_, str> {
    words(&image.exec.args)
}

fn path(image: &Image) -> Cow<'_, str> {
    String::from_utf8_lossy(&image.exec.exe)
}

fn previous<'c>(case: &Case<'c>) -> impl Iterator<Item = &'c Image> {
    let images = case.process.map_or(&[][..], |process| &process.images);
    images.iter().rev().skip(1)
}

fn uid(case: &Case<'_>) -> Option<u32> {
    Some(ids(case)?.euid)
}

fn ids(case: &Case<'_>) -> Option<Ids> {
    case.event.payload.ids().or_else(|| case.process?.ids)
}

fn stdio(case: &Case<'_>, fd: usize) -> Value<'static> {
    let fd = case.exec?.stdio.get(fd)?;
    word(if is_inet(fd) { "inet" } else { fd_type(fd)? })
}

fn old<'c>(case: &Case<'c>) -> Option<&'c [u8]> {
    let Payload::Change(change) = &case.event.payload else {
        return None;
    };
    Some(&change.old)
}

fn socket<'c>(case: &Case<'c>) -> Option<&'c Socket> {
    let Payload::Socket(socket) = &case.event.payload else {
        return None;
    };
    Some(socket)
}

/// What of a change's names was another when the call began.
fn race(case: &Case<'_>) -> Option<&'static str> {
    let Payload::Change(change) = &case.event.payload else {
        return None;
    };
    if let Some((_, early)) = &change.early {
        let is_code = [&change.new, early].iter().any(|name| code(name).is_some());
        return Some(if is_code { "code" } else { "names" });
    }
    (case.event.meta.flags & event_flag::BASE_CHANGED != 0).then_some("base")
}

/// One end of a connection: the one that began it, or the other.
fn end<'c>(case: &'c Case<'_>, begins: bool) -> Option<(&'c FdInfo, bool)> {
    let socket = socket(case)?;
    let is_local = begins == (socket.kind != EventKind::Accept);
    (socket.socket.kind == fd_kind::SOCKET).then_some((&socket.socket, is_local))
}

fn address<'c>(case: &'c Case<'_>, begins: bool) -> Value<'c> {
    let (socket, is_local) = end(case, begins)?;
    let bytes = if is_local {
        socket.local_addr
    } else {
        socket.remote_addr
    };
    string(ip(socket.family, bytes)?.to_string().into())
}

fn port<'c>(case: &'c Case<'_>, begins: bool) -> Value<'c> {
    let (socket, is_local) = end(case, begins)?;
    ip(socket.family, socket.local_addr)?;
    let port = if is_local {
        socket.local_port
    } else {
        socket.remote_port
    };
    Some(EventValue::Int(i64::from(port)))
}

fn protocol(socket: &Socket) -> Value<'static> {
    match socket.protocol {
        6 => word("tcp"),
        17 => word("udp"),
        0 => None,
        other => Some(EventValue::Int(i64::from(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found_by_its_name() {
        for field in ALL {
            assert_eq!(get(field.name).map(|found| found.name), Some(field.name));
        }
    }

    #[test]
    fn what_is_wrong_with_a_name() {
        assert_eq!(check("Image", Category::FileEvent), Ok(()));
        for (name, category, expected) in [
            (
                "CommandLin",
                Category::ProcessCreation,
                "unknown field CommandLin; the nearest that events of process_creation have is CommandLine",
            ),
            (
                "TargetFilename",
                Category::NetworkConnection,
                "events of network_connection have no field TargetFilename; those of file_event, file_change, \
                 file_rename, file_delete, image_load have",
            ),
        ] {
            assert_eq!(check(name, category), Err(expected.to_owned()));
        }
    }
}
