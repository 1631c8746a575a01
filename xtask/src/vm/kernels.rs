//! Kernels to boot, and where they come from: Debian's cloud kernels, which have BTF, kprobes,
//! fentry and the BPF LSM, and need no module to run from an initramfs.
//!
//! What was fetched is kept; delete `target/vm/kernels` to fetch newer ones.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::apt::{Apt, Archive, BOOKWORM, SID, Suite, TRIXIE, files};

/// A kernel that is tested.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    pub(super) arch: &'static Arch,
    suite: Suite,
    /// The list of security modules, where Debian's default leaves `bpf` out.
    pub(super) lsm: Option<&'static str>,
}

/// The kernel of Debian 12: what is tested when nothing else is asked for.
pub(crate) const DEFAULT: &Kernel = &Kernel {
    name: "6.1",
    arch: X86_64,
    suite: BOOKWORM,
    lsm: None,
};

/// The kernel of Debian's development suite.
pub(crate) const NEWEST: &Kernel = &Kernel {
    name: "newest",
    arch: X86_64,
    suite: SID,
    lsm: None,
};

/// Another processor, always emulated: for the kernel tests only, because servers are this host's.
pub(crate) const ARM64: &Kernel = &Kernel {
    name: "6.12-arm64",
    arch: AARCH64,
    suite: TRIXIE,
    lsm: None,
};

/// All kernels for x86_64, oldest first.
pub(crate) const ALL: [&Kernel; 4] = [
    &Kernel {
        name: "5.10",
        arch: X86_64,
        suite: Suite {
            // The suite itself is archived; its security updates are still served.
            name: "bullseye-security",
            archive: Archive::Security,
        },
        lsm: Some("landlock,lockdown,yama,integrity,apparmor,bpf"),
    },
    DEFAULT,
    &Kernel {
        name: "6.12",
        arch: X86_64,
        suite: TRIXIE,
        lsm: None,
    },
    NEWEST,
];

/// Depends, with an architecture behind it, on the current cloud kernel of whichever suite it is in.
const METAPACKAGE: &str = "linux-image-cloud";

/// A processor that guests have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arch {
    /// As Rust calls it.
    pub(super) name: &'static str,
    /// As Debian calls it.
    debian: &'static str,
    /// The emulator, and Debian's package of it.
    pub(super) qemu: (&'static str, &'static str),
    /// The machine and its processor under emulation.
    pub(super) machine: (&'static str, &'static str),
    /// The device of the second serial line, where the machine has none of itself.
    pub(super) serial: Option<&'static str>,
    /// What the guest calls its console and its second serial line.
    pub(super) console: &'static str,
    pub(super) results: &'static str,
    /// Rust's target and the flags of statically linked programs.
    pub(super) target: (&'static str, &'static str),
}

pub(super) const X86_64: &Arch = &Arch {
    name: "x86_64",
    debian: "amd64",
    qemu: ("qemu-system-x86_64", "qemu-system-x86"),
    // cmpxchg16b is emulated in a way that makes Linux 6.12 panic now and then; without the flag the
    // kernel does not use it.
    machine: ("pc", "max,-cx16"),
    serial: None,
    console: "ttyS0",
    results: "ttyS1",
    // Naming the target, though it is the host's own, keeps the flags away from procedural macros,
    // which cannot be linked statically.
    target: ("x86_64-unknown-linux-gnu", "-Ctarget-feature=+crt-static"),
};

pub(super) const AARCH64: &Arch = &Arch {
    name: "aarch64",
    debian: "arm64",
    qemu: ("qemu-system-aarch64", "qemu-system-arm"),
    machine: ("virt", "cortex-a72"),
    serial: Some("pci-serial"),
    console: "ttyAMA0",
    results: "ttyS0",
    // Rust's musl target brings the library and the start along. The C and assembly of TLS is compiled by clang, which
    // needs no headers of the target for it.
    target: ("aarch64-unknown-linux-musl", "-Clinker=rust-lld"),
};

/// The kernel image, fetched on first use into `vm_dir`.
pub(super) fn image(vm_dir: &Path, kernel: &Kernel) -> anyhow::Result<PathBuf> {
    let home = vm_dir.join("kernels").join(kernel.name);
    let image = home.join("vmlinuz");
    fetched(&image, || {
        eprintln!(
            "vm: fetching the kernel of Debian {} ({})",
            kernel.suite.name, kernel.name
        );
        let apt = Apt::open(&vm_dir.join("apt"), kernel.suite, kernel.arch.debian)?;
        let package = kernel_package(&apt, kernel.arch)?;
        apt.unpack(&package, &home, "vmlinuz", find_vmlinuz)
            .with_context(|| format!("unpacking Debian's {package}"))
    })
    .with_context(|| format!("fetching kernel {}", kernel.name))
}

/// A statically linked busybox, fetched on first use into `vm_dir`.
pub(super) fn busybox(vm_dir: &Path, arch: &Arch) -> anyhow::Result<PathBuf> {
    let home = vm_dir.join(if arch == X86_64 {
        "busybox".to_owned()
    } else {
        format!("busybox-{}", arch.debian)
    });
    let binary = home.join("busybox");
    fetched(&binary, || {
        eprintln!("vm: fetching busybox of Debian {}", BOOKWORM.name);
        let apt = Apt::open(&vm_dir.join("apt"), BOOKWORM, arch.debian)?;
        apt.unpack("busybox-static", &home, "busybox", |root| {
            Ok(root.join("bin/busybox"))
        })
    })
    .context("fetching busybox-static")
}

fn fetched(file: &Path, fetch: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
    if !file.is_file() {
        fetch()?;
    }
    Ok(file.to_owned())
}

/// The package that holds the suite's current cloud kernel. Newer suites split the image off into a package that the
/// old name depends on.
fn kernel_package(apt: &Apt, arch: &Arch) -> anyhow::Result<String> {
    let metapackage = format!("{METAPACKAGE}-{}", arch.debian);
    let image = apt
        .dependencies(&metapackage)?
        .into_iter()
        .find(|name| is_versioned(name, "linux-image-"))
        .with_context(|| format!("{metapackage} depends on no kernel image"))?;
    let split = apt
        .dependencies(&image)?
        .into_iter()
        .find(|name| is_versioned(name, "linux-binary-"));
    Ok(split.unwrap_or(image))
}

/// Where the kernel image is: `/boot/vmlinuz-VERSION`, or since Linux 7 in Debian
/// `/usr/lib/modules/VERSION/vmlinuz`.
fn find_vmlinuz(root: &Path) -> anyhow::Result<PathBuf> {
    let mut places = vec![root.join("boot")];
    let modules = root.join("usr/lib/modules");
    if modules.is_dir() {
        places.extend(files(&modules)?);
    }
    for place in places.iter().filter(|place| place.is_dir()) {
        if let Some(image) = files(place)?.into_iter().find(|path| is_vmlinuz(path)) {
            return Ok(image);
        }
    }
    bail!("it holds neither boot/vmlinuz-* nor usr/lib/modules/*/vmlinuz")
}

fn is_vmlinuz(path: &Path) -> bool {
    path.file_name()
        .and_then(OsStr::to_str)
        .is_some_and(|name| name == "vmlinuz" || name.starts_with("vmlinuz-"))
}

/// Whether a name is `PREFIX` and a version: a package, not another metapackage.
fn is_versioned(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_table_is_sound() {
        let mut names: Vec<_> = ALL.iter().map(|kernel| kernel.name).collect();
        assert_eq!(names, ["5.10", "6.1", "6.12", "newest"]);
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.contains(&DEFAULT) && !ALL.contains(&ARM64));
        assert!(ALL.iter().all(|kernel| kernel.arch == X86_64));
        for kernel in ALL {
            let security = kernel.suite.name.ends_with("-security");
            assert_eq!(
                security,
                kernel.suite.archive == Archive::Security,
                "{kernel:?}"
            );
            assert!(
                kernel
                    .lsm
                    .is_none_or(|list| list.split(',').any(|lsm| lsm == "bpf")),
                "{kernel:?}: a list that leaves bpf out has no use"
            );
        }
    }

    #[test]
    fn names_with_a_version() {
        let name = "linux-binary-7.2.13+deb14-cloud-amd64";
        assert!(is_versioned(name, "linux-binary-"));
        assert!(!is_versioned(name, "linux-image-"));
        assert!(!is_versioned("linux-image-cloud-amd64", "linux-image-"));
    }

    #[test]
    fn the_image_is_found_where_either_layout_has_it() {
        let base = std::env::temp_dir().join(format!("xtask-vmlinuz-{}", std::process::id()));
        let rows = [
            ("old", "boot/vmlinuz-6.1.0-50-cloud-amd64"),
            ("new", "usr/lib/modules/7.2.13+deb14-cloud-amd64/vmlinuz"),
        ];
        for (name, path) in rows {
            let root = base.join(name);
            let image = root.join(path);
            fs::create_dir_all(image.parent().unwrap()).unwrap();
            fs::write(image.with_file_name("config-6.1"), "").unwrap();
            fs::write(&image, "").unwrap();
            assert_eq!(find_vmlinuz(&root).unwrap(), image);
        }
        assert!(find_vmlinuz(&base).is_err());
        fs::remove_dir_all(&base).unwrap();
    }
}
