//! Invariants of any file: its name, and what no text holds.

use super::source::names;
use super::{File, Violation};

/// Files without which the repository may not be handed on.
const REQUIRED: &[&str] = &["LICENSE-MIT", "LICENSE-APACHE"];

/// Marks of unfinished work; built from parts so that this file passes its own check.
const UNFINISHED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME")];

/// A folder of one developer's machine, which means nothing to any other reader.
const MACHINE: &str = concat!("/", "work/");

/// Folders whose text is data: recorded, or expected byte for byte.
const DATA: &[&str] = &["/testdata/", "/snapshots/"];

/// Required files that are absent or empty.
pub(super) fn missing_files(files: &[File]) -> Vec<Violation> {
    let there = |name: &str| {
        let of_name = files.iter().find(|file| file.path == name);
        of_name
            .and_then(|file| file.text.as_ref())
            .is_some_and(|text| !text.is_empty())
    };
    let absent = REQUIRED.iter().filter(|name| !there(name));
    absent
        .map(|name| violation(name, 0, "the file is absent or empty", "restore it"))
        .collect()
}

/// Checks a file's name.
pub(super) fn path(path: &str) -> Option<Violation> {
    let is_mod = path.rsplit('/').next() == Some("mod.rs");
    is_mod.then(|| {
        violation(
            path,
            0,
            "a mod.rs",
            "name the module's file after the module",
        )
    })
}

/// Checks a text file's lines.
pub(super) fn contents(path: &str, text: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    let data = DATA.iter().any(|folder| path.contains(folder));
    for (index, line) in text.lines().enumerate() {
        let mut report = |what: &str, remedy: &str| {
            violations.push(violation(path, index + 1, what, remedy));
        };
        if names_machine(line) {
            report(
                "a path of one machine",
                "name the file relative to the repository",
            );
        }
        if data {
            continue;
        }
        if line.trim_end() != line {
            report("trailing whitespace", "remove it");
        }
        for mark in UNFINISHED.iter().filter(|mark| names(line, mark)) {
            report(&format!("`{mark}`"), "finish it, or file it as an issue");
        }
    }
    violations
}

/// Whether a line holds a path that begins with the machine's folder. `/var/lib/x/work/y` does not.
fn names_machine(line: &str) -> bool {
    line.match_indices(MACHINE).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || "._-/}*~$".contains(c))
    })
}

fn violation(file: &str, line: usize, what: &str, remedy: &str) -> Violation {
    Violation {
        file: file.into(),
        line,
        what: what.into(),
        remedy: remedy.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, line: &str) -> Vec<String> {
        contents(path, line)
            .into_iter()
            .map(|violation| violation.what)
            .collect()
    }

    #[test]
    fn lines_are_clean_everywhere_but_in_data() {
        assert_eq!(found("a.md", "fine"), Vec::<String>::new());
        assert_eq!(found("a.md", "end "), ["trailing whitespace"]);
        assert_eq!(found("a.md", "end\t"), ["trailing whitespace"]);
        assert_eq!(
            found("tracer-user/testdata/proc/status", "end \t"),
            Vec::<String>::new()
        );
        assert_eq!(found("a.rs", &format!("// {}: x", UNFINISHED[0])).len(), 1);
        assert_eq!(found("a.rs", &format!("// M{}S", UNFINISHED[0])).len(), 0);
    }

    #[test]
    fn a_path_of_this_machine_is_found_even_in_data() {
        assert_eq!(found("a.md", &format!("see {MACHINE}x")).len(), 1);
        assert_eq!(
            found("tracer-user/testdata/a", &format!("{MACHINE}x")).len(),
            1
        );
        assert_eq!(
            found("a.md", &format!("/var/lib/tomcat10{MACHINE}Catalina")).len(),
            0
        );
    }

    #[test]
    fn modules_are_named_files() {
        assert!(path("a/mod.rs").is_some());
        assert!(path("a/amod.rs").is_none());
    }

    #[test]
    fn licences_are_there_and_not_empty() {
        let file = |path: &str, text: &str| File {
            path: path.into(),
            text: Some(text.into()),
        };
        let complete = [file("LICENSE-MIT", "x"), file("LICENSE-APACHE", "x")];
        assert_eq!(missing_files(&complete), []);
        assert_eq!(
            missing_files(&[file("LICENSE-MIT", ""), file("LICENSE-APACHE", "x")]).len(),
            1
        );
        assert_eq!(missing_files(&[]).len(), 2);
    }
}
