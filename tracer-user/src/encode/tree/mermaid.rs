//! A tree as a flowchart for mermaid.

use super::{Look, above, brief, links};
use crate::lineage::tree::TreeView;

/// Writes a tree.
pub fn tree(view: &TreeView, out: &mut Vec<u8>) {
    let mut text = String::from("flowchart LR\n");
    for (index, node) in view.nodes.iter().enumerate() {
        let lines: Vec<String> = brief(node, view).iter().map(|line| escape(line)).collect();
        let class = match Look::of(node) {
            Look::Plain => "",
            Look::Ended => ":::ended",
            Look::Server => ":::server",
            Look::Wrote => ":::wrote",
            Look::Alert => ":::alert",
        };
        text.push_str(&format!("  n{index}[\"{}\"]{class}\n", lines.join("<br/>")));
    }
    for (index, above) in above(view).into_iter().enumerate() {
        if let Some(above) = above {
            text.push_str(&format!("  n{above} --> n{index}\n"));
        }
    }
    for (from, to, via) in links(view) {
        text.push_str(&format!("  n{from} -. {via} .-> n{to}\n"));
    }
    text.push_str(
        "  classDef ended fill:#ececec,stroke:#8a8a8a,color:#333\n  \
         classDef server fill:#cfe2ff,stroke:#084298,color:#000\n  \
         classDef wrote fill:#fff3cd,stroke:#997404,color:#000\n  \
         classDef alert fill:#f8d7da,stroke:#842029,color:#000\n",
    );
    out.extend_from_slice(text.as_bytes());
}

/// The inside of a quoted label: all but plain characters by their number, as mermaid takes them. So
/// nothing in a name is a quote, an arrow, a tag, an entity or markdown.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() || " /.,:-_()=+…".contains(c) {
            out.push(c);
        } else {
            out.push_str(&format!("#{};", u32::from(c)));
        }
    }
    out
}
