//! The host that xtask runs on: paths, programs, privileges, and running commands.
//!
//! Every command is printed before it runs, and its output goes to standard error, so that
//! `cargo xtask run > alerts.json` holds alerts and nothing else. No command reads standard input:
//! what would ask a question fails instead of hanging in CI.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The repository's top folder.
pub(crate) fn repository() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Where cargo puts the workspace's results, honouring `CARGO_TARGET_DIR`.
pub(crate) fn target_directory() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => repository().join(folder),
        None => repository().join("target"),
    }
}

/// Where `cargo install` puts programs.
pub(crate) fn cargo_bin() -> PathBuf {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| {
        let home = env::var_os("HOME")?;
        Some(Path::new(&home).join(".cargo"))
    });
    home.unwrap_or_else(|| PathBuf::from("/root/.cargo"))
        .join("bin")
}

/// A cargo command that does not inherit what the outer `cargo run` says about xtask itself.
///
/// Build scripts watch variables such as `CARGO_MANIFEST_DIR`; left in place they would rebuild
/// crates each time `cargo build` and `cargo xtask build` take turns.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository());
    for (name, _) in env::vars_os() {
        if describes_outer_package(&name) {
            command.env_remove(name);
        }
    }
    command
}

fn describes_outer_package(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("CARGO_PKG_")
        || name.starts_with("CARGO_MANIFEST_")
        || name == "CARGO_PRIMARY_PACKAGE"
}

/// Runs a command and fails, naming it, when it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("+ {}", shown(command));
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::from(io::stderr()))
        .status()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

/// A command's standard output as text, or `None` where it cannot start or fails.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut words = vec![plain(command.get_program())];
    // A script is shown by its first line: the rest is in this repository to read.
    words.extend(
        command
            .get_args()
            .map(|word| match plain(word).split_once('\n') {
                Some((first, _)) => format!("'{first} ...'"),
                None => plain(word),
            }),
    );
    words.join(" ")
}

fn plain(word: &OsStr) -> String {
    word.to_string_lossy().replace('\x1f', " ")
}

/// Finds a program on `PATH`, in the folders that hold daemons, or among cargo's own.
///
/// `*` in the name stands for any text, so that `php-fpm*` finds `php-fpm8.2`.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(daemons)
        .chain([cargo_bin()])
        .find_map(|folder| find(&folder.join(name)))
}

/// The first file, by name, that matches a path whose last part may hold one `*`.
pub(crate) fn find(pattern: &Path) -> Option<PathBuf> {
    let name = pattern.file_name()?.to_str()?;
    let Some((start, end)) = name.split_once('*') else {
        return pattern.is_file().then(|| pattern.to_path_buf());
    };
    let matches = |file: &OsString| {
        file.to_str().is_some_and(|file| {
            file.len() >= start.len() + end.len() && file.starts_with(start) && file.ends_with(end)
        })
    };
    let mut files: Vec<OsString> = fs::read_dir(pattern.parent()?)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .filter(matches)
        .collect();
    files.sort();
    files.first().map(|file| pattern.with_file_name(file))
}

/// What this process may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// It is root.
    Root,
    /// sudo makes it root, without asking for a password.
    Sudo,
    /// sudo is there and would ask.
    SudoAsks,
    /// There is no way to become root.
    Plain,
}

/// Finds out what this process may do.
pub(crate) fn privilege() -> Privilege {
    if rustix::process::geteuid().is_root() {
        Privilege::Root
    } else if program("sudo").is_none() {
        Privilege::Plain
    } else if output(Command::new("sudo").args(["-n", "true"])).is_some() {
        Privilege::Sudo
    } else {
        Privilege::SudoAsks
    }
}

/// A command that runs as root: as it is where this process is root, else through sudo.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    match privilege() {
        Privilege::Root => Ok(Command::new(program)),
        Privilege::Sudo | Privilege::SudoAsks => {
            let mut command = Command::new("sudo");
            command.arg("--").arg(program);
            Ok(command)
        }
        Privilege::Plain => bail!(
            "`{}` must run as root, and there is no sudo: run this again as root",
            program.as_ref().to_string_lossy()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_typed_and_a_script_by_its_first_line() {
        let mut command = Command::new("sh");
        command.args(["-c", "set -e\ntrue", "x"]);
        assert_eq!(shown(&command), "sh -c 'set -e ...' x");
    }

    #[test]
    fn a_pattern_finds_the_first_match_and_a_plain_name_only_itself() {
        let sources = repository().join("xtask/src");
        assert_eq!(find(&sources.join("h*t.rs")), Some(sources.join("host.rs")));
        assert_eq!(
            find(&sources.join("host.rs")),
            Some(sources.join("host.rs"))
        );
        assert_eq!(find(&sources.join("host")), None);
        assert_eq!(
            find(&sources.join("host.rs*.rs")),
            None,
            "the ends may not overlap"
        );
    }

    #[test]
    fn only_what_describes_the_outer_package_is_dropped() {
        for (name, dropped) in [
            ("CARGO_PKG_NAME", true),
            ("CARGO_MANIFEST_DIR", true),
            ("CARGO_HOME", false),
            ("CARGO_TARGET_DIR", false),
            ("PATH", false),
        ] {
            assert_eq!(describes_outer_package(OsStr::new(name)), dropped, "{name}");
        }
    }
}
