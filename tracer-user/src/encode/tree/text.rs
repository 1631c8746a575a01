//! A tree for people: a line for a process, below it what it ran, wrote and raised.

use super::super::summary::path;
use super::super::text::visible_prose;
use super::{Style, container_words, cut, end, label, link, ran, role, user, wall};
use crate::alert::Severity;
use crate::lineage::tree::{TreeNode, TreeView};

/// Characters of a command. All of it is in JSON.
const COMMAND: usize = 300;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "1;31";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// Writes a tree.
pub fn tree(view: &TreeView, style: Style, out: &mut Vec<u8>) {
    let page = Page { view, style };
    let mut text = String::new();
    page.write(&mut text);
    let text = if style.ascii { ascii(&text) } else { text };
    out.extend_from_slice(text.as_bytes());
}

/// Spells out what is no ASCII: to a terminal that takes single bytes it may be anything.
pub(super) fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            out.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
        }
    }
    out
}

/// Paints a text that has no colours of its own.
pub(super) fn paint(style: Style, colour: &str, text: &str) -> String {
    if style.colour {
        format!("\x1b[{colour}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

struct Page<'a> {
    view: &'a TreeView,
    style: Style,
}

impl Page<'_> {
    fn write(&self, out: &mut String) {
        let nodes = &self.view.nodes;
        let last = last_siblings(nodes);
        // Of each process on the way down, whether another follows it.
        let mut goes_on: Vec<bool> = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let is_last = last.get(index).copied().unwrap_or(true);
            let has_children = nodes
                .get(index + 1)
                .is_some_and(|next| next.depth > node.depth);
            goes_on.truncate(node.depth);
            let margin = self.margin(&goes_on);
            let branch = match (node.depth, self.style.ascii) {
                (0, _) => "",
                (_, false) if is_last => "└─ ",
                (_, false) => "├─ ",
                (_, true) if is_last => "`- ",
                (_, true) => "|- ",
            };
            self.line(out, &format!("{margin}{branch}"), &self.head(node));
            goes_on.push(!is_last);
            let margin = self.margin(&goes_on);
            let own = match (has_children, self.style.ascii) {
                (false, _) => "   ",
                (true, false) => "│  ",
                (true, true) => "|  ",
            };
            for detail in self.details(node) {
                self.line(out, &format!("{margin}{own}"), &detail);
            }
        }
        out.push_str(&self.foot());
    }

    /// The lines that go past a process on its left. Nothing goes past at the top.
    fn margin(&self, goes_on: &[bool]) -> String {
        let column = |goes_on: &bool| match (goes_on, self.style.ascii) {
            (true, false) => "│  ",
            (true, true) => "|  ",
            (false, _) => "   ",
        };
        goes_on.iter().skip(1).map(column).collect()
    }

    fn line(&self, out: &mut String, margin: &str, text: &str) {
        out.push_str(&paint(self.style, DIM, margin));
        out.push_str(text);
        out.push('\n');
    }

    /// `sh(901)  www-data  2026-01-02T03:05:15.129Z  exit code 0  witnessed  below web`
    fn head(&self, node: &TreeNode) -> String {
        let process = &node.process;
        let mark = if node.chosen { "* " } else { "" };
        let mut text = String::new();
        if node.is_broken {
            text.push_str(if self.style.ascii { "... " } else { "… " });
        }
        text.push_str(&paint(
            self.style,
            BOLD,
            &format!("{mark}{}", label(process)),
        ));
        let mut facts: Vec<String> = user(process).into_iter().collect();
        facts.push(match process.ended {
            Some(ended) => format!(
                "{} to {}",
                self.at(process.start_boot_ns),
                self.at(ended.boot_ns)
            ),
            None => format!("since {}", self.at(process.start_boot_ns)),
        });
        facts.extend(process.ended.map(end));
        facts.push(process.origin.name().to_owned());
        facts.extend(container_words(process));
        text.push_str("  ");
        text.push_str(&paint(self.style, DIM, &facts.join("  ")));
        if let Some(role) = role(node) {
            text.push_str("  ");
            text.push_str(&paint(self.style, CYAN, &role));
        }
        text
    }

    fn details(&self, node: &TreeNode) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(parent) = node.parent.filter(|_| node.process.ended.is_none()) {
            lines.push(format!("its parent now is process {}", parent.tgid));
        }
        lines.extend(link(node));
        for image in &node.ran {
            let when = self.at(image.boot_ns);
            // What ran before the agent did was read at its start: that time says nothing.
            let when = (!image.observed).then(|| format!("  {}", paint(self.style, DIM, &when)));
            let command = cut(&ran(image), COMMAND);
            lines.push(format!("ran {command}{}", when.unwrap_or_default()));
        }
        for file in &node.wrote {
            let when = paint(self.style, DIM, &self.at(file.boot_ns));
            let name = paint(self.style, YELLOW, &path(&file.path));
            lines.push(format!("wrote {name}  {when}"));
        }
        if node.wrote_more > 0 {
            lines.push(format!("wrote {} more files", node.wrote_more));
        }
        for alert in &node.alerts {
            let colour = match alert.severity {
                Severity::Critical | Severity::High => RED,
                Severity::Medium => YELLOW,
                Severity::Low => CYAN,
            };
            let mut reason = String::new();
            visible_prose(&alert.reason, &mut reason);
            let head = format!("ALERT {}", alert.severity.name());
            lines.push(format!(
                "{} {}: {reason}  {}",
                paint(self.style, colour, &head),
                alert.rule.id,
                paint(self.style, DIM, &self.at(alert.boot_ns)),
            ));
        }
        if node.left_out > 0 {
            lines.push(format!("{} more below it, left out", node.left_out));
        }
        lines
    }

    /// What is not in the tree.
    fn foot(&self) -> String {
        let mut text = String::new();
        if self.view.nodes.is_empty() {
            text.push_str("no server runs here\n");
        }
        let left_out = self.view.left_out();
        if left_out > 0 {
            text.push_str(&format!(
                "{left_out} processes are left out, with all below them: ask for one of those above\n"
            ));
        }
        if self.view.lost > 0 {
            text.push_str(&format!(
                "{} events were lost so far: more may be missing\n",
                self.view.lost
            ));
        }
        text
    }

    fn at(&self, boot_ns: u64) -> String {
        wall(self.view.boot_wall_ns + i128::from(boot_ns))
    }
}

/// Of each node, whether none with the same node above follows.
fn last_siblings(nodes: &[TreeNode]) -> Vec<bool> {
    let mut follows: Vec<bool> = Vec::new();
    let mut last: Vec<bool> = nodes
        .iter()
        .rev()
        .map(|node| {
            let has_next = follows.get(node.depth).copied().unwrap_or(false);
            follows.resize(node.depth + 1, false);
            if let Some(here) = follows.last_mut() {
                *here = true;
            }
            !has_next
        })
        .collect();
    last.reverse();
    last
}
