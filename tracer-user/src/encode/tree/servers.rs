//! The servers of a host: a list for people, or one JSON object (`docs/tree.md`).

use serde_json::{Value, json};

use super::super::json::{known, lossy, write};
use super::super::summary::path;
use super::json::{Clock, host, process};
use super::text::{ascii, paint};
use super::{Style, container_words, label, user, wall};
use crate::lineage::servers::ServerView;
use crate::pipeline::query::ServersView;

/// Writes the list for people.
pub fn text(view: &ServersView, style: Style, out: &mut Vec<u8>) {
    let mut text = String::new();
    for server in &view.servers {
        let head = format!("{} ({})", server.server.name, server.server.role.name());
        text.push_str(&paint(style, "1", &head));
        text.push_str(&format!("  {}", label(&server.process)));
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
        let mut facts: Vec<String> = user(&server.process).into_iter().collect();
        let start = view.boot_wall_ns + i128::from(server.process.start_boot_ns);
        facts.push(format!("since {}", wall(start)));
        facts.push(format!("known by {}", server.why));
        let processes = if server.descendants == 1 {
            "process"
        } else {
            "processes"
        };
        facts.push(format!("{} {processes} below it", server.descendants));
        facts.extend(container_words(&server.process));
        text.push_str(&format!("   {}\n", paint(style, "2", &facts.join("  "))));
        for directory in &server.directories {
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
            "servers": servers,
        }),
        out,
    );
}

fn server(server: &ServerView, clock: Clock) -> Value {
    let mut object = process(&server.process, clock);
    let directories = server.directories.iter().map(|directory| {
        json!({
            "path": lossy(&directory.path), "kind": directory.kind, "source": directory.source,
        })
    });
    let more = known(json!({
        "server": { "name": server.server.name, "role": server.server.role.name() },
        "why": server.why,
        "ports": server.ports,
        "directories": directories.collect::<Value>(),
        "descendants": server.descendants,
    }));
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object
}
