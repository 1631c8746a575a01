//! `cargo xtask tidy`: the invariants that can be checked by reading files.
//!
//! What a design leaves out cannot be seen in its code, so it is written here and checked: who may
//! name which crate, which stages do no I/O, what no file holds. Each violation is one line that
//! says where, what, and what to do instead. Checks read text and know no types; what the compiler
//! or clippy can check is left to them.

mod evasions;
mod manifest;
mod rules;
mod source;
mod text;

use std::fmt;
use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::host;

/// Checks the repository's invariants: layering, purity, file hygiene.
///
/// Reads the files that git tracks or would track. Prints one line per violation, with the remedy,
/// and exits with 1 when there is any. ARCHITECTURE.md explains the invariants.
#[derive(Args)]
pub(crate) struct Arguments {}

/// A broken invariant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    file: String,
    /// From 1; 0 where the file as a whole is meant.
    line: usize,
    what: String,
    remedy: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation {
            file,
            line,
            what,
            remedy,
        } = self;
        write!(f, "{file}:{}: {what}: {remedy}", (*line).max(1))
    }
}

/// A file of the repository.
struct File {
    /// Relative to the top folder, with `/`.
    path: String,
    /// `None` where it is not text.
    text: Option<String>,
}

/// `cargo xtask tidy`.
pub(crate) fn main(_: &Arguments) -> Result<ExitCode> {
    let violations = check()?;
    for violation in &violations {
        eprintln!("{violation}");
    }
    if !violations.is_empty() {
        bail!("{} broken invariants", violations.len());
    }
    eprintln!("tidy: every invariant holds");
    Ok(ExitCode::SUCCESS)
}

/// Every violation in the repository.
pub(crate) fn check() -> Result<Vec<Violation>> {
    Ok(violations(&files()?))
}

fn violations(files: &[File]) -> Vec<Violation> {
    let mut violations = text::missing_files(files);
    violations.extend(evasions::check(files));
    for file in files {
        violations.extend(text::path(&file.path));
        let Some(text) = &file.text else { continue };
        violations.extend(text::contents(&file.path, text));
        if file.path.ends_with(".rs") {
            violations.extend(rules::check(&file.path, text));
        }
        if file.path.ends_with("Cargo.toml") {
            violations.extend(manifest::check(&file.path, text));
        }
    }
    violations
}

/// The files that git tracks, and those it would: a violation is found before it is committed.
fn files() -> Result<Vec<File>> {
    let mut git = Command::new("git");
    git.current_dir(host::repository());
    git.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let list = host::output(&mut git)
        .with_context(|| format!("`{}` failed: is git installed?", host::shown(&git)))?;
    let mut files = Vec::new();
    for path in list.split('\0').filter(|path| !path.is_empty()) {
        let full = host::repository().join(path);
        // Git lists what was deleted and not yet committed, and links and submodules too.
        if !full
            .symlink_metadata()
            .is_ok_and(|metadata| metadata.is_file())
        {
            continue;
        }
        let bytes = fs::read(&full).with_context(|| format!("cannot read {path}"))?;
        let text = String::from_utf8(bytes)
            .ok()
            .filter(|text| !text.contains('\0'));
        files.push(File {
            path: path.to_owned(),
            text,
        });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_is_one_line_that_an_editor_can_jump_to() {
        let violation = Violation {
            file: "a/b.rs".into(),
            line: 3,
            what: "trailing whitespace".into(),
            remedy: "remove it".into(),
        };
        assert_eq!(
            violation.to_string(),
            "a/b.rs:3: trailing whitespace: remove it"
        );
    }

    #[test]
    fn each_kind_of_file_meets_its_checks() {
        let file = |path: &str, text: &str| File {
            path: path.into(),
            text: Some(text.into()),
        };
        let files = [
            file("LICENSE-MIT", "x\n"),
            file("LICENSE-APACHE", "x\n"),
            file("tracer-user/src/order.rs", "//! Doc.\nuse tokio::time;\n"),
            file(
                "tracer-common/Cargo.toml",
                "[dependencies]\nserde = \"1\"\n",
            ),
            file("docs/a.md", "end \n"),
            File {
                path: "tracer-user/testdata/x.bin".into(),
                text: None,
            },
        ];
        let found: Vec<String> = violations(&files)
            .into_iter()
            .map(|violation| format!("{}:{}", violation.file, violation.line))
            .collect();
        assert_eq!(
            found,
            [
                "tracer-user/src/order.rs:2",
                "tracer-common/Cargo.toml:2",
                "docs/a.md:1"
            ]
        );
    }
}
