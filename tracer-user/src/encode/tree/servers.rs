//! The servers of a host: a list for people, or one JSON object (`docs/tree.md`).

use serde_json::{Value, json};

use super::super::json::{known, lossy, write};
use super::super::summary::path;
use super::super::text::visible_prose;
use super::json::{Clock, host, process};
use super::text::{ascii, paint};
use super::{Style, container_words, label, user, wall};
use crate::lineage::process::Why;
use crate::pipeline::query::{Listed, ServersView};

/// Writes the list for people.
pub fn text(view: &ServersView, style: Style, out: &mut Vec<u8>) {
    let mut text = String::new();
    for Listed {
        server,
        process,
        directories,
    } in &view.servers
    {
        let mut head = String::new();
        visible_prose(&server.name, &mut head);
        head.push_str(&format!(" ({})", server.role.name()));
        text.push_str(&paint(style, "1", &head));
        text.push_str(&format!("  {}", label(process)));
        if !server.ports.is_empty() {
            let word = if server.ports.len() == 1 {
                "port"
            } else {
                "ports"
            };
            let ports: Vec<String> = server.ports.iter().map(u16::to_string).collect();
            text.push_str(&format!("  {word} {}", ports.join(" ")));
        }
        text.push('\n');
        let mut facts: Vec<String> = user(process).into_iter().collect();
        let start = view.boot_wall_ns + i128::from(server.since_boot_ns);
        facts.push(format!("since {}", wall(start)));
        facts.push(known_by(server.why).to_owned());
        let (all, own) = (server.descendants, server.programs);
        facts.push(match (all, own) {
            (0, _) => "nothing below it".to_owned(),
            (_, 0) => format!("{all} below it"),
            (_, own) => format!("{all} below it, {own} of them programs of their own"),
        });
        facts.extend(
            server
                .below
                .map(|above| format!("below process {}", above.tgid)),
        );
        facts.extend(container_words(process));
        text.push_str(&format!("   {}\n", paint(style, "2", &facts.join("  "))));
        for directory in directories {
            let source = paint(style, "2", &path(directory.source.as_bytes()));
            text.push_str(&format!(
                "   {:<11} {}  {source}\n",
                directory.kind,
                path(&directory.path)
            ));
        }
    }
    if view.servers.is_empty() {
        text.push_str("no server runs here\n");
    }
    if view.left_out > 0 {
        text.push_str(&format!("{} more servers, left out\n", view.left_out));
    }
    let text = if style.ascii { ascii(&text) } else { text };
    out.extend_from_slice(text.as_bytes());
}

/// Writes them as one object, without a line's end.
pub fn json(view: &ServersView, out: &mut Vec<u8>) {
    let clock = Clock(view.boot_wall_ns);
    let servers: Vec<Value> = view.servers.iter().map(|one| server(one, clock)).collect();
    write(
        &json!({
            "tracer": env!("CARGO_PKG_VERSION"),
            "host": host(&view.host),
            "left_out": view.left_out,
            "servers": servers,
        }),
        out,
    );
}

fn server(listed: &Listed, clock: Clock) -> Value {
    let Listed {
        server,
        process: view,
        directories,
    } = listed;
    let mut object = process(view, clock);
    let directories = directories.iter().map(|directory| {
        json!({
            "path": lossy(&directory.path), "kind": directory.kind, "source": directory.source,
        })
    });
    let more = known(json!({
        "server": { "name": server.name, "role": server.role.name() },
        "why": server.why.name(),
        "serves_since": clock.at(server.since_boot_ns),
        "ports": server.ports,
        "directories": directories.collect::<Value>(),
        "descendants": server.descendants,
        "programs": server.programs,
        "below_pid": server.below.map(|above| above.tgid),
    }));
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object
}

const fn known_by(why: Why) -> &'static str {
    match why {
        Why::Named => "known by its program",
        Why::Listens => "known by its listening",
        Why::Accepts => "known by taking connections",
    }
}
