//! Invariants of Rust code: the layers, and which of them may do what.

use super::Violation;
use super::source::{code_lines, names};

/// No file is longer: beyond this a file holds more than one subject.
const MAX_LINES: usize = 800;

/// A set of names that only some files of a crate may use.
struct Fence {
    /// Files under this folder are meant.
    folder: &'static str,
    /// Modules it applies to; empty for all of the folder's.
    within: &'static [&'static str],
    /// Modules it does not apply to.
    except: &'static [&'static str],
    /// Paths and identifiers that may not be named.
    forbidden: &'static [&'static str],
    /// Tests may do what the code may not: read samples, take the time.
    tests_too: bool,
    why: &'static str,
}

/// The walls of the house. A module is named by its path below the folder without `.rs`, and
/// stands for the modules inside it too.
#[rustfmt::skip]
const FENCES: &[Fence] = &[
    Fence {
        folder: "tracer-common/", within: &[], except: &[], tests_too: true,
        forbidden: &["cfg", "cfg_attr", "cfg_select"],
        why: "both sides compile exactly this code: put what differs into tracer-ebpf or tracer-user",
    },
    Fence {
        folder: "tracer-common/", within: &[], except: &[], tests_too: true,
        forbidden: &["std", "tracer_ebpf", "aya", "aya_ebpf"],
        why: "the contract runs in the kernel too and depends on nothing: use core",
    },
    Fence {
        folder: "tracer-ebpf/", within: &[], except: &[], tests_too: true,
        forbidden: &["tracer_user"],
        why: "the two sides meet only in tracer-common: put what both need there",
    },
    Fence {
        folder: "tracer-user/", within: &[], except: &[], tests_too: true,
        forbidden: &["tracer_ebpf"],
        why: "the two sides meet only in tracer-common: put what both need there",
    },
    Fence {
        folder: "tracer-user/src/", within: &[], except: &["sensor", "source/ring"], tests_too: true,
        forbidden: &["aya", "aya_log", "aya_obj"],
        why: "only sensor and source/ring talk to aya: give them a method instead",
    },
    Fence {
        folder: "tracer-user/src/", tests_too: false,
        within: &["event", "order", "lineage", "detect", "pipeline", "encode"], except: &[],
        forbidden: &[
            "tokio", "std::fs", "fs::File", "TcpStream", "TcpListener", "UdpSocket", "UnixStream",
            "UnixListener", "UnixDatagram", "ToSocketAddrs", "SystemTime", "Instant", "Timestamp::now",
            "Zoned::now",
        ],
        why: "this stage does no I/O and has no clock, so that replay gives the same bytes: pass the value in",
    },
    Fence {
        folder: "tracer-user/src/", within: &[], except: &["encode"], tests_too: false,
        forbidden: &[
            "json!", "serde_json::Map", "serde_json::to_string", "serde_json::to_string_pretty",
            "serde_json::to_vec", "serde_json::to_writer", "serde_json::to_value", "Serialize",
            "Serializer",
        ],
        why: "only encode writes JSON: add a function there",
    },
];

/// Macros that leave work for later; built from parts so that this file passes its own check.
const UNFINISHED: &[&str] = &[concat!("todo", "!"), concat!("unimplemented", "!")];

/// Checks one Rust file.
pub(super) fn check(path: &str, text: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut report = |line: usize, what: String, remedy: &str| {
        violations.push(Violation {
            file: path.into(),
            line,
            what,
            remedy: remedy.into(),
        });
    };
    if !text.starts_with("//!") {
        report(
            1,
            "no module doc".into(),
            "open the file with `//!` and its intent",
        );
    }
    let length = text.lines().count();
    if length > MAX_LINES {
        let what = format!("{length} lines, over {MAX_LINES}");
        report(MAX_LINES + 1, what, "split it by subject");
    }
    let code = code_lines(text);
    let tests_begin = tests_begin(path, &code);
    for (index, line) in code.iter().enumerate() {
        for name in UNFINISHED.iter().filter(|name| names(line, name)) {
            report(index + 1, format!("`{name}`"), "finish it");
        }
        for fence in FENCES.iter().filter(|fence| fence.applies(path)) {
            if index >= tests_begin && !fence.tests_too {
                continue;
            }
            for name in fence.forbidden.iter().filter(|name| names(line, name)) {
                report(index + 1, format!("names `{name}`"), fence.why);
            }
        }
    }
    violations
}

impl Fence {
    fn applies(&self, path: &str) -> bool {
        let Some(module) = path.strip_prefix(self.folder) else {
            return false;
        };
        let is_in = |name: &&str| {
            module
                .strip_prefix(*name)
                .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        (self.within.is_empty() || self.within.iter().any(is_in)) && !self.except.iter().any(is_in)
    }
}

/// The index of the line from which on a file holds tests: they stand at its end.
fn tests_begin(path: &str, code: &[String]) -> usize {
    if path.ends_with("/tests.rs") || path.contains("/tests/") {
        return 0;
    }
    code.iter()
        .position(|line| line.trim() == "#[cfg(test)]")
        .unwrap_or(code.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `line` names of what `check` finds, with the lines.
    fn found(path: &str, body: &str) -> Vec<(usize, String)> {
        let text = format!("//! Doc.\n{body}");
        check(path, &text)
            .into_iter()
            .map(|violation| (violation.line, violation.what))
            .collect()
    }

    #[test]
    fn fences_hold_where_they_stand_and_only_there() {
        #[rustfmt::skip]
        let rows: &[(&str, &str, bool)] = &[
            ("tracer-common/src/wire.rs", "#[cfg(test)]\nmod tests {}", true),
            ("tracer-common/src/wire.rs", "use std::mem;", true),
            ("tracer-common/src/wire.rs", "use core::mem; // never cfg", false),
            ("tracer-ebpf/src/main.rs", "use tracer_user::x;", true),
            ("tracer-ebpf/src/main.rs", "use aya_ebpf::maps;", false),
            ("tracer-user/src/agent.rs", "use tracer_ebpf::x;", true),
            ("tracer-user/build.rs", "let path = \"bpf/tracer-ebpf\";", false),
            ("tracer-user/src/agent.rs", "use aya::Ebpf;", true),
            ("tracer-user/src/agent.rs", "#[cfg(test)]\nuse aya::Ebpf;", true),
            ("tracer-user/src/sensor.rs", "use aya::Ebpf;", false),
            ("tracer-user/src/sensor/attach.rs", "use aya::Ebpf;", false),
            ("tracer-user/src/sensors.rs", "use aya::Ebpf;", true),
            ("tracer-user/src/source/ring.rs", "use aya::maps;", false),
            ("tracer-user/src/source/snapshot.rs", "use aya::maps;", true),
            ("tracer-user/src/lineage/process.rs", "std::fs::read(x)", true),
            ("tracer-user/src/lineage/process.rs", "use std::time::{Duration, Instant};", true),
            ("tracer-user/src/lineage/process.rs", "use std::time::Duration;", false),
            ("tracer-user/src/lineage.rs", "#[cfg(test)]\nmod tests { use std::fs; }", false),
            ("tracer-user/src/detect/tests.rs", "use std::fs;", false),
            ("tracer-user/src/event.rs", "use std::net::Ipv4Addr;", false),
            ("tracer-user/src/event.rs", "use std::net::TcpStream;", true),
            ("tracer-user/src/enrich/roots.rs", "use std::fs;", false),
            ("tracer-user/src/detect.rs", "let v = serde_json::json!({});", true),
            ("tracer-user/src/config.rs", "#[derive(Deserialize)]", false),
            ("tracer-user/src/event.rs", "#[derive(Serialize)]", true),
            ("tracer-user/src/encode/ecs.rs", "json!({})", false),
            ("xtask/src/main.rs", "use tracer_ebpf::x; use std::fs;", false),
        ];
        for (path, body, broken) in rows {
            assert_eq!(!found(path, body).is_empty(), *broken, "{path}: {body}");
        }
    }

    #[test]
    fn a_violation_points_at_its_line() {
        let what = found("tracer-user/src/order.rs", "fn a() {}\nuse tokio::sync;\n");
        assert_eq!(what, [(3, "names `tokio`".to_owned())]);
    }

    #[test]
    fn unfinished_work_is_found_in_code_and_not_in_strings() {
        let body = format!("fn a() {{ {}() }}", UNFINISHED[0]);
        assert_eq!(found("xtask/src/a.rs", &body).len(), 1);
        let body = format!("let a = \"{}\";", UNFINISHED[1]);
        assert_eq!(found("xtask/src/a.rs", &body), []);
    }

    #[test]
    fn a_file_opens_with_its_intent_and_stays_short() {
        assert_eq!(check("tracer-user/tests/e2e.rs", "fn a() {}\n").len(), 1);
        let long = "fn a() {}\n".repeat(MAX_LINES);
        assert_eq!(
            found("xtask/src/a.rs", &long),
            [(
                MAX_LINES + 1,
                format!("{} lines, over {MAX_LINES}", MAX_LINES + 1)
            )]
        );
    }
}
