//! Trees and lists of servers, for people and for programs.
//!
//! Names, arguments and paths are any bytes: [`text`] spells out what steers a terminal, [`dot`] and
//! [`mermaid`] what ends a label, and none of them draws a line that a name asks for.

pub mod dot;
pub mod json;
pub mod mermaid;
pub mod servers;
pub mod text;

use jiff::Timestamp;

use super::summary::{command, path};
use super::text::{visible, visible_prose};
use super::words::{Status, program, signal};
use crate::alert::ProcessView;
use crate::lineage::process::{Ended, Image, Via};
use crate::lineage::tree::{Candidate, NoTree, TreeNode, TreeView};

/// How a tree is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    Text(Style),
    /// One JSON object.
    Json,
    /// A graph for graphviz.
    Dot,
    /// A flowchart for mermaid.
    Mermaid,
}

/// What a terminal can show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Colours.
    pub colour: bool,
    /// Nothing but ASCII.
    pub ascii: bool,
}

/// Writes a tree.
pub fn tree(view: &TreeView, format: Format, out: &mut Vec<u8>) {
    match format {
        Format::Text(style) => text::tree(view, style, out),
        Format::Json => json::tree(view, out),
        Format::Dot => dot::tree(view, out),
        Format::Mermaid => mermaid::tree(view, out),
    }
}

/// Characters of a name or a command in a graph.
const BRIEF: usize = 80;

/// Files of one process in a graph.
const BRIEF_FILES: usize = 5;

/// Says why there is no tree: the first line what is wrong, others what there is instead.
#[must_use]
pub fn no_tree(why: &NoTree) -> String {
    match why {
        NoTree::Process(tgid) => format!(
            "no process {tgid} is known: it never ran while the agent did, or is forgotten; \
             `tracer tree --all` shows every process that is"
        ),
        NoTree::Ambiguous(tgid, candidates) => {
            let mut said = format!(
                "{} processes had the number {tgid}; name one by its id:",
                candidates.len()
            );
            for candidate in candidates {
                said.push_str("\n  ");
                said.push_str(&line_of(candidate));
            }
            said
        }
        NoTree::Entity(id) => {
            format!("no process {id} is known: it is of another boot or host, or is forgotten")
        }
        NoTree::Container(prefix) => {
            let mut name = String::new();
            visible_prose(prefix, &mut name);
            format!(
                "no process is in a container whose id begins with {name}; `tracer tree --all` shows \
                 every process with its container"
            )
        }
        NoTree::Server(name, known) => {
            let mut shown = String::new();
            visible_prose(name, &mut shown);
            let mut names = String::new();
            visible_prose(&known.join(", "), &mut names);
            if known.is_empty() {
                format!("no server {shown} runs: none does")
            } else {
                format!("no server {shown} runs; these do: {names}")
            }
        }
    }
}

/// `ID  started TIME  nginx, ended TIME`
fn line_of(candidate: &Candidate) -> String {
    let Candidate {
        entity_id,
        image,
        started,
        ended,
    } = candidate;
    let started = wall(*started);
    let ended = if ended.is_some() { ", ended" } else { "" };
    format!(
        "{entity_id}  started {started}  {}{ended}",
        name(image.as_ref())
    )
}

/// A moment, in milliseconds.
fn wall(wall_ns: i128) -> String {
    Timestamp::from_nanosecond(wall_ns)
        .map_or_else(|_| wall_ns.to_string(), |time| format!("{time:.3}"))
}

/// The same, to the nanosecond.
fn exact(wall_ns: i128) -> Option<String> {
    Timestamp::from_nanosecond(wall_ns)
        .ok()
        .map(|time| time.to_string())
}

/// The name of a program, visible.
fn name(image: Option<&Image>) -> String {
    let mut out = String::new();
    visible(image.map_or(b"", |image| program(&image.exec)), &mut out);
    if out.is_empty() {
        out.push('?');
    }
    out
}

/// `sh(901)`
fn label(process: &ProcessView) -> String {
    format!("{}({})", name(process.image.as_ref()), process.key.tgid)
}

/// `/usr/bin/dash: sh -c 'id; ls'`
fn ran(image: &Image) -> String {
    let exec = &image.exec;
    let file = if exec.exe.is_empty() {
        &exec.filename
    } else {
        &exec.exe
    };
    let mut text = path(file);
    if !exec.args.is_empty() {
        text.push_str(": ");
        text.push_str(&command(exec));
    }
    if super::words::args_truncated(exec) {
        text.push_str(&format!(" ({} bytes in all)", exec.args_len));
    }
    text
}

/// `www-data`, or the number of the user; with the effective one where that is another.
fn user(process: &ProcessView) -> Option<String> {
    let ids = process.ids?;
    let mut text = String::new();
    match process.user_name(ids.uid) {
        Some(name) => visible_prose(name, &mut text),
        None => text.push_str(&format!("uid {}", ids.uid)),
    }
    if ids.euid != ids.uid {
        text.push_str(&format!(", effective uid {}", ids.euid));
    }
    Some(text)
}

/// `container web (4f0e9d0b1b2c), pod shop/web-1`
fn container_words(process: &ProcessView) -> Option<String> {
    let view = process.container.as_ref()?;
    let facts = view.facts.found();
    // As the tools of containers show it; all of it is in JSON.
    let id = &view.place.id;
    let short = id.get(..12).unwrap_or(id);
    let mut text = String::from("container ");
    match facts.and_then(|facts| facts.name.as_deref()) {
        Some(name) => visible_prose(&format!("{name} ({short})"), &mut text),
        None => visible_prose(short, &mut text),
    }
    let pod = view.pod.found();
    if let Some(name) = pod.and_then(|pod| pod.name.as_deref()) {
        text.push_str(", pod ");
        if let Some(namespace) = pod.and_then(|pod| pod.namespace.as_deref()) {
            visible_prose(&format!("{namespace}/"), &mut text);
        }
        visible_prose(name, &mut text);
    }
    Some(text)
}

/// `server nginx (web), ports 80 443`; of what is below a server, which kinds of servers these are.
fn role(node: &TreeNode) -> Option<String> {
    let process = &node.process;
    let Some(server) = &process.server else {
        let roles = roles(node);
        return (!roles.is_empty()).then(|| format!("below {}", roles.join(" and ")));
    };
    let mut text = String::from("server ");
    visible_prose(&server.name, &mut text);
    text.push_str(&format!(" ({})", server.role.name()));
    let ports: Vec<String> = process.ports.iter().map(u16::to_string).collect();
    if !ports.is_empty() {
        let word = if ports.len() == 1 { "port" } else { "ports" };
        text.push_str(&format!(", {word} {}", ports.join(" ")));
    }
    Some(text)
}

/// The roles of the servers that a process descends from or is.
fn roles(node: &TreeNode) -> Vec<&'static str> {
    tracer_common::tag::Role::ALL
        .iter()
        .filter(|role| node.tag.roles & role.bit() != 0)
        .map(|role| role.name())
        .collect()
}

/// `exit code 1`, `ended by SIGKILL`; that it ended where no more is known.
fn end(ended: Ended) -> String {
    let Some(status) = ended.status.map(Status) else {
        return "end not seen".to_owned();
    };
    match status.signal() {
        None => format!("exit code {}", status.code()),
        Some(number) => match signal(number) {
            Some(name) => format!("ended by {name}"),
            None => format!("ended by signal {number}"),
        },
    }
}

/// What else than birth connects it to a server.
fn link(node: &TreeNode) -> Option<String> {
    let link = node.link?;
    Some(match link.via {
        Via::File => format!("executed what process {} wrote", link.from.tgid),
        Via::Trace => format!("reached into by process {}", link.from.tgid),
    })
}

/// The lines of a node of a graph: few and short.
fn brief(node: &TreeNode, view: &TreeView) -> Vec<String> {
    let process = &node.process;
    let at = |boot_ns: u64| wall(view.boot_wall_ns + i128::from(boot_ns));
    let mut lines = vec![label(process)];
    lines.extend(role(node));
    let mut facts: Vec<String> = user(process).into_iter().collect();
    facts.push(at(process.start_boot_ns));
    facts.extend(process.ended.map(end));
    facts.push(process.origin.name().to_owned());
    lines.push(facts.join(", "));
    lines.extend(container_words(process));
    lines.extend(node.ran.iter().map(ran));
    lines.extend(link(node));
    for file in node.wrote.iter().take(BRIEF_FILES) {
        lines.push(format!("wrote {}", path(&file.path)));
    }
    let more = node.wrote.len().saturating_sub(BRIEF_FILES) + node.wrote_more;
    if more > 0 {
        lines.push(format!("wrote {more} more files"));
    }
    for alert in &node.alerts {
        lines.push(format!(
            "ALERT {}: {}",
            alert.severity.name(),
            alert.rule.id
        ));
    }
    if node.left_out > 0 {
        lines.push(format!("{} more below, left out", node.left_out));
    }
    lines.into_iter().map(|line| cut(&line, BRIEF)).collect()
}

/// The first characters of a text.
fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// What a graph shows of a node beside its text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Plain,
    Ended,
    Server,
    Wrote,
    Alert,
}

impl Look {
    const fn of(node: &TreeNode) -> Self {
        if !node.alerts.is_empty() {
            Self::Alert
        } else if !node.wrote.is_empty() {
            Self::Wrote
        } else if node.process.server.is_some() {
            Self::Server
        } else if node.process.ended.is_some() {
            Self::Ended
        } else {
            Self::Plain
        }
    }
}

/// Index of the node above each, `None` at the top.
fn above(view: &TreeView) -> Vec<Option<usize>> {
    let mut path: Vec<usize> = Vec::new();
    view.nodes
        .iter()
        .enumerate()
        .map(|(index, node)| {
            path.truncate(node.depth);
            let above = path.last().copied();
            path.push(index);
            above
        })
        .collect()
}

/// Edges of a graph that are no births: from whom a process is linked to, to it.
fn links(view: &TreeView) -> Vec<(usize, usize, &'static str)> {
    let place = |key| {
        let mut nodes = view.nodes.iter();
        nodes.position(|node| node.process.key == key)
    };
    let linked = view.nodes.iter().enumerate();
    linked
        .filter_map(|(index, node)| {
            let link = node.link?;
            Some((place(link.from)?, index, link.via.name()))
        })
        .collect()
}
