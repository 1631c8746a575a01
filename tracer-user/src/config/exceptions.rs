//! `exceptions`: files of exceptions beside those that ship with the agent, read once when it starts.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::check::{Fault, line};
use super::read;
use crate::detect::exception::{ExceptionSet, shipped_sources};
use crate::detect::sigma::Source;
use crate::source::{ExceptionPart, Input};

/// Files and directories at most.
const MOST: usize = 256;

/// Text of an input at most, bytes: less than a frame of a recording.
const PIECE: usize = 16 * 1024;

/// `exceptions`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileExceptions {
    /// Files of exceptions, absolute paths.
    pub files: Option<Vec<Spanned<PathBuf>>>,
    /// Directories whose `*.yml` and `*.yaml` are such files.
    pub directories: Option<Vec<Spanned<PathBuf>>>,
}

/// The same, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExceptionPaths {
    /// Files.
    pub files: Vec<PathBuf>,
    /// Directories.
    pub directories: Vec<PathBuf>,
}

impl FileExceptions {
    pub(super) fn settings(self) -> ExceptionPaths {
        let paths = |all: Option<Vec<Spanned<PathBuf>>>| {
            let all = all.into_iter().flatten();
            all.map(|path| path.value).collect()
        };
        ExceptionPaths {
            files: paths(self.files),
            directories: paths(self.directories),
        }
    }
}

pub(super) fn check(config: &FileExceptions) -> Result<(), Fault> {
    for (key, list) in [
        ("exceptions.files", &config.files),
        ("exceptions.directories", &config.directories),
    ] {
        for (index, path) in list.iter().flatten().enumerate() {
            if index >= MOST {
                let message = format!("{key}: more than {MOST}; put them into one directory");
                return Err((line(path), message));
            }
            if !path.value.is_absolute() {
                let message = format!(
                    "{key}: {:?} is not an absolute path; begin it with /",
                    path.value
                );
                return Err((line(path), message));
            }
        }
    }
    Ok(())
}

impl ExceptionPaths {
    /// Reads and checks them, as inputs; none where no file is named.
    ///
    /// # Errors
    ///
    /// What is wrong, a line each: nothing of them is taken then.
    pub fn inputs(&self) -> Result<Vec<Input>, String> {
        if self.files.is_empty() && self.directories.is_empty() {
            return Ok(Vec::new());
        }
        let mut files = self.files.clone();
        for directory in &self.directories {
            files.extend(listed(directory)?);
        }
        let mut sources = shipped_sources();
        for file in &files {
            let wrong = |why: String| format!("exceptions: {}: {why}", file.display());
            let text = read(file).map_err(|error| wrong(error.to_string()))?;
            let text = String::from_utf8(text)
                .map_err(|_| wrong("not UTF-8 text; save the file as UTF-8".to_owned()))?;
            sources.push(Source::new("", file.display().to_string(), &text));
        }
        let (_, errors) = ExceptionSet::load(&sources);
        if !errors.is_empty() {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            return Err(lines.join("\n"));
        }
        Ok(inputs(&sources))
    }
}

fn listed(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let wrong = |error: std::io::Error| format!("exceptions: {}: {error}", directory.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        let is_yaml = path
            .extension()
            .is_some_and(|extension| extension == "yml" || extension == "yaml");
        if is_yaml {
            files.push(path);
        }
        if files.len() > MOST {
            let directory = directory.display();
            return Err(format!("exceptions: {directory}: more than {MOST} files"));
        }
    }
    files.sort();
    Ok(files)
}

/// Texts as inputs that fit into frames.
fn inputs(sources: &[Source]) -> Vec<Input> {
    let mut all = Vec::new();
    for source in sources {
        let mut rest = source.text.as_str();
        loop {
            let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE));
            all.push(Input::Exceptions(ExceptionPart::Text {
                file: source.file.clone(),
                text: piece.to_owned(),
            }));
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
    }
    all.push(Input::Exceptions(ExceptionPart::End));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Emit;
    use crate::memory::Budget;
    use crate::pipeline::Pipeline;

    #[test]
    fn files_become_inputs_and_inputs_exceptions() {
        let dir = tempfile::tempdir().unwrap();
        let good = "- id: mine\n  verb: ignore\n  owner: me\n  reason: it is done every night\n  expires: never\n  rules: [server-shell]\n  shape: {executable: /usr/bin/dash, argv: [sh, -c, /usr/bin/uptime]}\n";
        let padded = format!("# {}\n{good}", "é".repeat(PIECE));
        std::fs::write(dir.path().join("a.yml"), padded).unwrap();
        std::fs::write(dir.path().join("README"), "nothing").unwrap();
        let paths = ExceptionPaths {
            files: Vec::new(),
            directories: vec![dir.path().to_owned()],
        };
        let mut pipeline = Pipeline::new(Emit::Alerts, Budget::default());
        let before = count(&pipeline);
        for input in paths.inputs().unwrap() {
            pipeline.input(input);
        }
        assert_eq!(count(&pipeline), before + 1);
        std::fs::write(
            dir.path().join("b.yaml"),
            good.replace("/usr/bin/uptime", "'<name>'"),
        )
        .unwrap();
        let error = paths.inputs().unwrap_err();
        assert!(error.contains("b.yaml:1: exception mine: "), "{error}");
        let none = ExceptionPaths {
            files: vec![dir.path().join("none.yml")],
            directories: Vec::new(),
        };
        assert!(none.inputs().unwrap_err().contains("none.yml"));
        assert_eq!(ExceptionPaths::default().inputs(), Ok(Vec::new()));
    }

    fn count(pipeline: &Pipeline) -> u64 {
        let counts = pipeline.counts();
        let exceptions = counts.iter().find(|(name, _)| *name == "exceptions");
        exceptions.unwrap().1
    }
}
