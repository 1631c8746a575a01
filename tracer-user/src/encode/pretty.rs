//! Documents for people: an alert as a short block, a plain event as one line.
//!
//! Whatever comes from a traced process is shown with its control characters spelled out, so the
//! only escape sequences in the output are our own colours.

use jiff::Timestamp;

use super::facts::{peer, socket};
use super::loss::{seconds, sentence as sentence_of_loss, timestamp};
use super::scope::Scope;
use super::summary::{change_phrase, command, file_verb, label, path, sentence};
use super::text::{put, visible_prose};
use super::words::{args_truncated, is_memfd};
use crate::alert::{Alert, Document, LossReport, Severity};
use crate::event::{Payload, fd_type, missing};
use crate::lineage::process::Via;

/// Writes a document, its line ends included.
pub fn line(document: &Document, colour: bool, out: &mut Vec<u8>) {
    let page = Page {
        scope: Scope::new(document),
        colour,
    };
    match &document.alert {
        Some(alert) => page.alert(alert, out),
        None => page.event(out),
    }
}

/// Writes a report of losses as one line, its end included.
pub fn loss(report: &LossReport, colour: bool, out: &mut Vec<u8>) {
    let time = timestamp(report, report.until_boot_ns).map_or_else(
        || report.until_boot_ns.to_string(),
        |time| format!("{time:.3}"),
    );
    let (time, text) = (paint(colour, DIM, &time), sentence_of_loss(report));
    put(out, format_args!("{time}  {}\n", paint(colour, RED, &text)));
}

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "1;31";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// `6f1c…, score 146, 2 alerts`
fn incident(alert: &Alert) -> String {
    let incident = &alert.incident;
    if incident.id.is_nil() {
        return String::new();
    }
    let alerts = if incident.alerts == 1 {
        "alert"
    } else {
        "alerts"
    };
    format!(
        "{}, score {}, {} {alerts}",
        incident.id, incident.score, incident.alerts
    )
}

struct Page<'a> {
    scope: Scope<'a>,
    colour: bool,
}

impl Page<'_> {
    fn event(&self, out: &mut Vec<u8>) {
        let mut text = sentence(self.scope);
        if let Some(server) = self.server() {
            text.push_str(&format!("  [{server}]"));
        }
        let lost = self.lost();
        if !lost.is_empty() {
            text.push_str(&format!("  [{lost}]"));
        }
        put(
            out,
            format_args!("{}  {text}\n", self.paint(DIM, &self.time())),
        );
    }

    fn alert(&self, alert: &Alert, out: &mut Vec<u8>) {
        let colour = match alert.severity {
            Severity::Critical | Severity::High => RED,
            Severity::Medium => YELLOW,
            Severity::Low => CYAN,
        };
        let severity = alert.severity.name().to_uppercase();
        put(
            out,
            format_args!(
                "{}  {}  {}\n",
                self.paint(colour, &severity),
                self.paint(BOLD, &alert.rule.name),
                self.paint(DIM, &self.time()),
            ),
        );
        put(out, format_args!("  {}\n", self.chain()));
        for (name, text) in self.facts(alert) {
            if !text.is_empty() {
                put(
                    out,
                    format_args!("  {} {text}\n", self.paint(DIM, &format!("{name:<10}"))),
                );
            }
        }
    }

    /// What is known besides the chain: label and text, empty where there is nothing to say.
    fn facts(&self, alert: &Alert) -> Vec<(&'static str, String)> {
        let mut reason = String::new();
        visible_prose(&alert.reason, &mut reason);
        let techniques: Vec<String> = alert
            .rule
            .techniques
            .iter()
            .map(|technique| {
                let (id, name) = technique.specific();
                format!("{id} {name}")
            })
            .collect();
        let mut facts = vec![
            ("reason", reason),
            (
                "rule",
                format!("{} (version {})", alert.rule.id, alert.rule.version),
            ),
            ("technique", techniques.join(", ")),
            ("server", self.server().unwrap_or_default()),
            ("user", self.user()),
        ];
        facts.extend(self.file());
        facts.extend(self.program());
        facts.push(("written by", author(self.scope.writer(), self)));
        let linked = match self.scope.document.event.link {
            Some((Via::Trace, _)) => "traced by",
            Some((Via::File, _)) | None => "comes from",
        };
        facts.push((linked, author(self.scope.link(), self)));
        facts.push(("container", container(self.scope)));
        facts.push(("pending", self.scope.document.event.pending().join(", ")));
        facts.push((
            "cut short",
            missing(self.scope.document.event.event.meta.flags).join(", "),
        ));
        facts.push(("incomplete", self.lost()));
        facts.push(("incident", incident(alert)));
        facts.push(("id", alert.id.to_string()));
        facts
    }

    /// The story from the first ancestor to the process, each with the programs it ran in turn.
    fn chain(&self) -> String {
        let mut links: Vec<String> = self.scope.chain().map(link).collect();
        links.reverse();
        let mut text = links.join(" → ");
        if self.scope.document.event.integrity.lineage_broken {
            text.insert_str(0, "… → ");
        }
        if let Payload::Exec(exec) | Payload::Observed(exec) = self.scope.payload()
            && !exec.args.is_empty()
        {
            text.push_str(": ");
            text.push_str(&command(exec));
            if args_truncated(exec) {
                text.push_str(&format!(" ({} bytes in all)", exec.args_len));
            }
        }
        text
    }

    fn file(&self) -> Vec<(&'static str, String)> {
        let mut facts = match self.scope.payload() {
            Payload::File(file) => {
                let verb = file_verb(file);
                vec![(
                    "file",
                    format!("{} ({verb}, owner {})", path(&file.path), file.uid),
                )]
            }
            Payload::Change(change) => {
                let mut facts = vec![
                    ("file", path(&change.new)),
                    ("change", change_phrase(change)),
                ];
                if let Some((old, new)) = &change.early {
                    let early = [old, new].into_iter().filter(|name| !name.is_empty());
                    let early: Vec<String> = early.map(|name| path(name)).collect();
                    facts.push(("at first", early.join(" to ")));
                }
                facts
            }
            Payload::Fork(_)
            | Payload::Exec(_)
            | Payload::Observed(_)
            | Payload::Exit(_)
            | Payload::Socket(_)
            | Payload::ExecFailed(_)
            | Payload::Credentials(_)
            | Payload::Namespace(_)
            | Payload::Trace(_)
            | Payload::Comm(_) => Vec::new(),
        };
        let directory = self.scope.document.alert.as_ref();
        if let Some(directory) = directory.and_then(|alert| alert.directory.as_ref()) {
            let mut source = String::new();
            visible_prose(&directory.source, &mut source);
            facts.push((
                "in",
                format!("{} ({}, {source})", path(&directory.path), directory.kind),
            ));
        }
        facts
    }

    fn program(&self) -> Vec<(&'static str, String)> {
        let (Payload::Exec(exec) | Payload::Observed(exec)) = self.scope.payload() else {
            return Vec::new();
        };
        let mut executable = path(&exec.exe);
        if let Some(name) = self.scope.called_as().filter(|name| !name.is_empty()) {
            executable.push_str(&format!(", called as {}", path(name)));
        }
        if is_memfd(exec.nlink, &exec.exe) {
            executable.push_str(" (in memory only)");
        } else if exec.nlink == 0 && exec.file.inode != 0 {
            executable.push_str(" (deleted)");
        }
        let mut facts = vec![("executable", executable)];
        if let Some(script) = self.scope.script() {
            facts.push(("script", path(&script.filename)));
        }
        if !exec.cwd.is_empty() {
            facts.push(("directory", path(&exec.cwd)));
        }
        for (number, name) in ["stdin", "stdout", "stderr"].into_iter().enumerate() {
            if let Some(fd) = self.scope.stdio(number) {
                facts.push((name, descriptor(fd)));
            }
        }
        facts
    }

    fn user(&self) -> String {
        let Some(ids) = self.scope.ids() else {
            return String::new();
        };
        let show = |uid: u32| match self.scope.user_name(uid) {
            Some(name) => {
                let mut text = String::new();
                visible_prose(name, &mut text);
                format!("{text} ({uid})")
            }
            None => uid.to_string(),
        };
        if ids.uid == ids.euid {
            show(ids.uid)
        } else {
            format!("{}, effective {}", show(ids.uid), show(ids.euid))
        }
    }

    /// `php-fpm (app), pid 815, port 9000`
    fn server(&self) -> Option<String> {
        let (scope, server) = self.scope.server()?;
        let mut text = format!(
            "{} ({}), pid {}",
            server.name,
            server.role.name(),
            scope.process.key.tgid
        );
        let ports: Vec<String> = scope.process.ports.iter().map(u16::to_string).collect();
        if !ports.is_empty() {
            text.push_str(&format!(", port {}", ports.join(" ")));
        }
        Some(text)
    }

    fn lost(&self) -> String {
        let integrity = &self.scope.document.event.integrity;
        let mut words: Vec<String> = integrity
            .lost
            .iter()
            .map(|(reason, count)| format!("lost {reason} {count}"))
            .collect();
        if integrity.lineage_broken {
            words.push("lineage does not reach PID 1".to_owned());
        }
        if integrity.ancestry_truncated {
            words.push("more ancestors are not known any more".to_owned());
        }
        if integrity.blind_ns > 0 {
            words.push(format!("no agent ran for {}", seconds(integrity.blind_ns)));
        }
        words.join(", ")
    }

    fn time(&self) -> String {
        self.at(self.scope.document.event.event.meta.boot_ns)
    }

    fn at(&self, boot_ns: u64) -> String {
        let wall = self.scope.wall(boot_ns);
        Timestamp::from_nanosecond(wall).map_or_else(|_| wall.to_string(), |t| format!("{t:.3}"))
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        paint(self.colour, colour, text)
    }
}

fn paint(wanted: bool, colour: &str, text: &str) -> String {
    if wanted {
        format!("\x1b[{colour}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// `0e1d… web, docker.io/library/nginx:1.27, pod shop/web-0, exec session`
fn container(scope: Scope<'_>) -> String {
    let Some(view) = &scope.process.container else {
        return String::new();
    };
    let mut text = view.place.id.clone();
    if let Some(facts) = view.facts.found() {
        if let Some(name) = &facts.name {
            text.push_str(&format!(" {name}"));
        }
        if let Some(image) = &facts.image.name {
            text.push_str(&format!(", {image}"));
            if let Some(tag) = facts.image.tags.first() {
                text.push_str(&format!(":{tag}"));
            }
        }
    }
    if let Some(pod) = view.pod.found()
        && let Some(name) = &pod.name
    {
        let namespace = pod.namespace.as_deref().unwrap_or_default();
        text.push_str(&format!(", pod {namespace}/{name}"));
    }
    if scope.document.event.exec_session {
        text.push_str(", exec session");
    }
    let mut visible = String::new();
    visible_prose(&text, &mut visible);
    visible
}

/// `php-fpm8.2(815) ← 800 ← 1, 2026-01-02T03:05:15.129Z`
fn author(scope: Option<Scope<'_>>, page: &Page<'_>) -> String {
    let Some((scope, author)) = scope.and_then(|scope| Some((scope, scope.author()?))) else {
        return String::new();
    };
    let mut text = label(scope);
    for ancestor in &author.lineage {
        text.push_str(&format!(" ← {}", ancestor.key.tgid));
    }
    text.push_str(&format!(", {}", page.at(author.boot_ns)));
    text
}

/// A process with the programs it ran itself: `sh ⇒ python3(901)`. Programs that came with the
/// fork are its creator's story.
fn link(scope: Scope<'_>) -> String {
    let creator = scope.ancestor(scope.depth + 1);
    let mut text = String::new();
    for previous in scope.previous() {
        let inherited = creator.is_some_and(|creator| {
            creator
                .previous()
                .chain([creator])
                .any(|theirs| theirs.exec() == previous.exec())
        });
        if !inherited {
            text.push_str(&path(previous.name()));
            text.push_str(" ⇒ ");
        }
    }
    text.push_str(&label(scope));
    text
}

/// `socket 10.0.0.5:41234 → 203.0.113.9:4444`
fn descriptor(scope: Scope<'_>) -> String {
    let Some(fd) = scope.fd() else {
        return String::new();
    };
    let mut text = fd_type(fd).unwrap_or_default().to_owned();
    if let Some((_, family)) = socket(scope) {
        match peer(scope) {
            Some(ip) if ip.contains(':') => {
                text.push_str(&format!(" to [{ip}]:{}", fd.remote_port));
            }
            Some(ip) => text.push_str(&format!(" to {ip}:{}", fd.remote_port)),
            None => text.push_str(&format!(" {family}")),
        }
        if fd.peer_tgid != 0 {
            text.push_str(&format!(" to pid {}", fd.peer_tgid));
        }
    }
    text
}
