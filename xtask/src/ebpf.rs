//! `cargo xtask build`: the eBPF object, then the agent that embeds it.
//!
//! The object is built by a cargo of its own, as `tracer-ebpf` is a workspace of its own: another
//! target, another linker, and flags that must not reach the host's crates. It lands in
//! `target/bpf/tracer-ebpf`, which is written only when its content changes, so that cargo does
//! not rebuild the agent for nothing.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::host::{self, cargo, run};
use crate::toolchain::{self, Compiler};

/// Builds the eBPF object and the agent.
///
/// The agent lands in target/debug/tracer or, with --release, in target/release/tracer. The eBPF
/// object is always optimised: the verifier refuses what is not. Installs nothing: `cargo xtask
/// setup` does.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Optimise the agent.
    #[arg(long)]
    release: bool,
    /// Build the kernel side's diagnostics in; the agent prints them. Costs time per event.
    #[arg(long)]
    kernel_log: bool,
}

/// How the agent is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to build: tests.
    Debug,
    /// What runs.
    Release,
}

/// The name of the object and of the crate that it is made from.
const OBJECT: &str = "tracer-ebpf";

/// `cargo xtask build`.
pub(crate) fn main(arguments: &Arguments) -> Result<ExitCode> {
    let profile = if arguments.release {
        Profile::Release
    } else {
        Profile::Debug
    };
    object(arguments.kernel_log)?;
    let agent = agent(profile)?;
    eprintln!("built {}", agent.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds both and returns the agent's path.
pub(crate) fn build(profile: Profile) -> Result<PathBuf> {
    object(false)?;
    agent(profile)
}

/// Builds the eBPF object into `target/bpf/`.
pub(crate) fn object(kernel_log: bool) -> Result<PathBuf> {
    let features: &[&str] = if kernel_log {
        &["--features", "log"]
    } else {
        &[]
    };
    let compiler = compiler()?;
    let mut command = bpf_cargo("build", &compiler, env::consts::ARCH)?;
    command.arg("--target-dir").arg(object_target_directory());
    run(command.args(features))?;
    let object = host::repository().join("target/bpf").join(OBJECT);
    copy_if_changed(&built(&object_target_directory()), &object)?;
    Ok(object)
}

/// Builds the eBPF object for kernels of another processor, as Rust calls it, into a file.
pub(crate) fn object_for(arch: &str, object: &Path) -> Result<()> {
    // A folder of its own, or the two would be built anew in turns.
    let folder = object.with_extension("target");
    let mut command = bpf_cargo("build", &compiler()?, arch)?;
    run(command.arg("--target-dir").arg(&folder))?;
    copy_if_changed(&built(&folder), object)?;
    Ok(())
}

/// Where cargo puts the object below its folder.
fn built(folder: &Path) -> PathBuf {
    folder.join(target()).join("release").join(OBJECT)
}

/// Builds the agent around the object that is there and returns its path.
pub(crate) fn agent(profile: Profile) -> Result<PathBuf> {
    let (flags, folder): (&[&str], _) = match profile {
        Profile::Debug => (&[], "debug"),
        Profile::Release => (&["--release"], "release"),
    };
    run(cargo()
        .args(["build", "--package", "tracer-user", "--bin", "tracer"])
        .args(flags))?;
    Ok(host::target_directory().join(folder).join("tracer"))
}

/// Runs clippy over the kernel side, for its own target.
///
/// `None` where it cannot be: the distribution's compiler comes without the matching clippy.
pub(crate) fn clippy() -> Result<Option<()>> {
    let compiler = compiler()?;
    if compiler.rustc.is_some() {
        return Ok(None);
    }
    let mut command = bpf_cargo("clippy", &compiler, env::consts::ARCH)?;
    command.arg("--target-dir").arg(object_target_directory());
    run(command.args(["--", "-D", "warnings"])).map(Some)
}

fn compiler() -> Result<Compiler> {
    match toolchain::ebpf_compiler() {
        Some(compiler) => Ok(compiler),
        None => bail!("no compiler with the sources of Rust's library: run `cargo xtask setup`"),
    }
}

/// A cargo command for the kernel side, of kernels for this processor; who calls it says where the
/// result goes.
fn bpf_cargo(subcommand: &str, compiler: &Compiler, arch: &str) -> Result<Command> {
    let Some(linker) = host::program("bpf-linker") else {
        bail!("there is no bpf-linker: run `cargo xtask setup`");
    };
    let mut command = cargo();
    command.current_dir(host::repository().join(OBJECT));
    // `core` is built from source: no toolchain ships it for BPF, and -Z is for nightly unless
    // the compiler is told otherwise.
    command.env("RUSTC_BOOTSTRAP", "1");
    command.env("CARGO_ENCODED_RUSTFLAGS", rustflags(&linker, arch));
    command.env_remove("RUSTC_WRAPPER");
    if let Some(rustc) = &compiler.rustc {
        command.env("RUSTC", rustc);
    }
    command.args([
        subcommand,
        "--release",
        "-Z",
        "build-std=core",
        "--target",
        target(),
    ]);
    Ok(command)
}

/// BPF of this host's byte order.
fn target() -> &'static str {
    if cfg!(target_endian = "big") {
        "bpfeb-unknown-none"
    } else {
        "bpfel-unknown-none"
    }
}

/// Beside the crate, whatever `CARGO_TARGET_DIR` says: the two workspaces share no artefact.
fn object_target_directory() -> PathBuf {
    host::repository().join(OBJECT).join("target")
}

/// The flags of the kernel side, separated as cargo wants them where a value may hold spaces.
fn rustflags(linker: &Path, arch: &str) -> String {
    let linker = format!("linker={}", linker.display());
    let arch = format!("bpf_target_arch=\"{arch}\"");
    [
        "--cfg",
        &arch, // whose registers and structures the helpers read
        "-C",
        "debuginfo=2", // what BTF is made from
        "-C",
        &linker,
        "-C",
        "link-arg=--btf",
    ]
    .join("\x1f")
}

/// Copies a file unless the copy has the same content.
fn copy_if_changed(from: &Path, to: &Path) -> Result<bool> {
    let new = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(false);
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    }
    fs::write(to, new).with_context(|| format!("cannot write {}", to.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_hold_the_architecture_and_the_linker_as_single_words() {
        let flags = rustflags(Path::new("/a folder/bpf-linker"), "aarch64");
        let words: Vec<_> = flags.split('\x1f').collect();
        assert!(words.contains(&"bpf_target_arch=\"aarch64\""), "{words:?}");
        assert!(words.contains(&"linker=/a folder/bpf-linker"), "{words:?}");
    }

    #[test]
    fn an_unchanged_object_is_not_written_again() {
        let folder = env::temp_dir().join(format!("tracer-xtask-copy-{}", std::process::id()));
        let (from, to) = (folder.join("built"), folder.join("bpf/object"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(&from, "one").unwrap();
        assert!(copy_if_changed(&from, &to).unwrap(), "the first copy");
        assert!(!copy_if_changed(&from, &to).unwrap(), "the same again");
        fs::write(&from, "two").unwrap();
        assert!(copy_if_changed(&from, &to).unwrap(), "another content");
        assert_eq!(fs::read_to_string(&to).unwrap(), "two");
        assert!(copy_if_changed(&folder.join("absent"), &to).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
