//! A tree as a graph for graphviz.

use super::{Look, above, brief, links};
use crate::lineage::tree::TreeView;

/// Writes a tree.
pub fn tree(view: &TreeView, out: &mut Vec<u8>) {
    let mut text = String::from(
        "digraph tracer {\n  rankdir=LR;\n  node [shape=box, style=\"rounded,filled\", \
         fillcolor=white, fontname=\"monospace\", fontsize=10];\n",
    );
    for (index, node) in view.nodes.iter().enumerate() {
        let mut label = String::new();
        for line in brief(node, view) {
            escape(&line, &mut label);
            // Ends a line, to the left.
            label.push_str("\\l");
        }
        let look = match Look::of(node) {
            Look::Plain => "",
            Look::Ended => ", fillcolor=gray92",
            Look::Server => ", fillcolor=lightblue",
            Look::Wrote => ", fillcolor=khaki",
            Look::Alert => ", fillcolor=lightcoral",
        };
        let width = if node.chosen { ", penwidth=3" } else { "" };
        text.push_str(&format!("  n{index} [label=\"{label}\"{look}{width}];\n"));
    }
    for (index, above) in above(view).into_iter().enumerate() {
        if let Some(above) = above {
            text.push_str(&format!("  n{above} -> n{index};\n"));
        }
    }
    for (from, to, via) in links(view) {
        text.push_str(&format!(
            "  n{from} -> n{to} [style=dashed, label=\"{via}\", constraint=false];\n"
        ));
    }
    text.push_str("}\n");
    out.extend_from_slice(text.as_bytes());
}

/// The inside of a quoted string that is a label: quotes end it, backslashes begin escapes of the label,
/// and ampersands HTML entities.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '&' => out.push_str("&amp;"),
            c => out.push(c),
        }
    }
}
