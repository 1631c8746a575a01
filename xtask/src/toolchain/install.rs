//! Installing: the only module that changes the host, and only by adding to it.

use std::fs;
use std::process::Command;

use anyhow::{Result, bail};

use super::{BPF_LINKER, BPF_LINKER_LLVM, CARGO_DENY, ebpf_compiler, llvm_prefix};
use crate::host::{self, as_root, cargo, run};

/// Installs packages without starting the services they bring, and without asking.
///
/// Debian starts a service when its package is installed unless `policy-rc.d` says no. A policy
/// that the host has stays; ours is there only while apt runs. The first try uses the package
/// lists as they are: only where they are absent or out of date are they fetched.
const APT_INSTALL: &str = r#": install packages without starting services
set -eu
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
install() {
    apt-get install --yes --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
}
install "$@" || { apt-get update && install "$@"; }
"#;

/// Installs packages of the distribution.
pub(super) fn packages(packages: &[String]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let debian = fs::read_to_string("/etc/os-release").is_ok_and(|text| is_debian(&text));
    if !debian || host::program("apt-get").is_none() {
        bail!(
            "this host has no apt, and packages of other distributions are not known here: \
             install what Debian calls {}, then run this again",
            packages.join(", ")
        );
    }
    run(as_root("sh")?
        .arg("-c")
        .arg(APT_INSTALL)
        .arg("apt")
        .args(packages))
}

/// Whether `/etc/os-release` tells of Debian or something made from it.
fn is_debian(os_release: &str) -> bool {
    os_release
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(key, _)| matches!(*key, "ID" | "ID_LIKE"))
        .any(|(_, value)| value.trim_matches('"').split(' ').any(|id| id == "debian"))
}

/// Brings a compiler with the library's sources.
pub(super) fn library_sources() -> Result<()> {
    if let Some(rustup) = host::program("rustup") {
        match run(Command::new(rustup).args(["component", "add", "rust-src"])) {
            Ok(()) if ebpf_compiler().is_some() => return Ok(()),
            Ok(()) => eprintln!("rust-src is installed for another toolchain than this one's"),
            Err(error) => eprintln!("{error:#}"),
        }
        eprintln!("falling back on the distribution's compiler, for the eBPF side only");
    }
    packages(&["rustc-web".into(), "rust-web-src".into()])
}

/// Adds a component to the toolchain in use.
pub(super) fn component(name: &str) -> Result<()> {
    let Some(rustup) = host::program("rustup") else {
        bail!("this toolchain has no {name}, and there is no rustup to add it: install it");
    };
    run(Command::new(rustup).args(["component", "add", name]))
}

/// Builds bpf-linker for one LLVM major.
pub(super) fn bpf_linker(llvm_major: u32) -> Result<()> {
    if !BPF_LINKER_LLVM.contains(&llvm_major) {
        bail!(
            "the compiler has LLVM {llvm_major}, and bpf-linker {BPF_LINKER} knows only \
             {BPF_LINKER_LLVM:?}: use a Rust toolchain with one of these"
        );
    }
    let mut command = cargo();
    // Without the prefix the build finds whatever llvm-config comes first.
    command.env("LLVM_PREFIX", llvm_prefix(llvm_major));
    command.args(["install", "--locked", "--force", "--no-default-features"]);
    command.arg("--features").arg(format!("llvm-{llvm_major}"));
    command.arg(format!("bpf-linker@{BPF_LINKER}"));
    run(&mut command)
}

/// Builds cargo-deny, unoptimised: it reads a few hundred manifests once, and so takes a minute to
/// build instead of several.
pub(super) fn cargo_deny() -> Result<()> {
    let version = format!("cargo-deny@{CARGO_DENY}");
    run(cargo()
        .args(["install", "--locked", "--force", "--debug"])
        .arg(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_and_what_is_made_from_it_are_known() {
        assert!(is_debian("NAME=\"Debian\"\nID=debian\n"));
        assert!(is_debian("ID=ubuntu\nID_LIKE=debian\n"));
        assert!(is_debian("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_debian("ID=fedora\nHOME_URL=\"debian\"\n"));
        assert!(!is_debian(""));
    }

    #[test]
    fn the_apt_script_is_valid_shell() {
        let checked = host::output(Command::new("sh").args(["-n", "-c", APT_INSTALL]));
        assert!(checked.is_some(), "sh -n refuses the script");
    }
}
