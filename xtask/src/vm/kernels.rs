//! Kernels to boot, and where they come from: Debian's cloud kernels, which have BTF, kprobes,
//! fentry and the BPF LSM, and need no module to run from an initramfs.
//!
//! Fetched with apt itself (signatures, mirrors, proxies are its business), but with lists, cache
//! and package status of our own under `target/vm/apt`: nothing on the host is installed, and its
//! lists are not touched. What was fetched is kept; delete `target/vm/kernels` to fetch newer ones.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

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

/// A suite of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Suite {
    name: &'static str,
    archive: Archive,
}

/// Debian's two archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Archive {
    Main,
    Security,
}

const BOOKWORM: Suite = Suite {
    name: "bookworm",
    archive: Archive::Main,
};

const TRIXIE: Suite = Suite {
    name: "trixie",
    archive: Archive::Main,
};

/// The kernel of Debian 12: what is tested when nothing else is asked for.
pub(crate) const DEFAULT: &Kernel = &Kernel {
    name: "6.1",
    arch: X86_64,
    suite: BOOKWORM,
    lsm: None,
};

/// The kernel of Debian's development suite: what the next release will bring.
pub(crate) const NEWEST: &Kernel = &Kernel {
    name: "newest",
    arch: X86_64,
    suite: Suite {
        name: "sid",
        archive: Archive::Main,
    },
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

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The kernel image, fetched on first use into `vm_dir`.
pub(super) fn image(vm_dir: &Path, kernel: &Kernel) -> anyhow::Result<PathBuf> {
    let home = vm_dir.join("kernels").join(kernel.name);
    let image = home.join("vmlinuz");
    fetched(&image, || {
        eprintln!(
            "vm: fetching the kernel of Debian {} ({})",
            kernel.suite.name, kernel.name
        );
        let apt = Apt::open(vm_dir, kernel.suite, kernel.arch)?;
        let package = apt.kernel_package()?;
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
        let apt = Apt::open(vm_dir, BOOKWORM, arch)?;
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

/// apt, turned away from the host's state.
struct Apt {
    dir: PathBuf,
    config: PathBuf,
    arch: &'static str,
}

impl Apt {
    /// An apt that knows one suite for one architecture, with fresh lists.
    fn open(vm_dir: &Path, suite: Suite, arch: &Arch) -> anyhow::Result<Self> {
        if !Path::new(KEYRING).is_file() {
            bail!("{KEYRING} is missing: install the package debian-archive-keyring");
        }
        let arch = arch.debian;
        let dir = vm_dir.join("apt").join(format!("{}-{arch}", suite.name));
        for part in ["lists/partial", "archives/partial"] {
            let part = dir.join(part);
            fs::create_dir_all(&part).with_context(|| format!("creating {}", part.display()))?;
        }
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
        };
        write("status", "")?;
        write(
            "sources.list",
            &sources(suite, arch, &mirror(suite.archive)?),
        )?;
        write("apt.conf", &configuration(&dir, arch)?)?;
        let apt = Self {
            config: dir.join("apt.conf"),
            dir,
            arch,
        };
        run(apt.command("apt-get").args(["--quiet", "update"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // On the command line and not in APT_CONFIG, which the host's own configuration is read
        // after and so would override.
        command.arg("--config-file").arg(&self.config);
        command
    }

    /// The package that holds the suite's current cloud kernel. Newer suites split the image off
    /// into a package that the old name depends on.
    fn kernel_package(&self) -> anyhow::Result<String> {
        let metapackage = format!("{METAPACKAGE}-{}", self.arch);
        let image = self
            .dependencies(&metapackage)?
            .into_iter()
            .find(|name| is_versioned(name, "linux-image-"))
            .with_context(|| format!("{metapackage} depends on no kernel image"))?;
        let split = self
            .dependencies(&image)?
            .into_iter()
            .find(|name| is_versioned(name, "linux-binary-"));
        Ok(split.unwrap_or(image))
    }

    fn dependencies(&self, package: &str) -> anyhow::Result<Vec<String>> {
        let shown = run(self
            .command("apt-cache")
            .args(["show", "--no-all-versions", package]))?;
        Ok(dependencies(&shown))
    }

    /// Downloads a package and moves one file of it to `home`, as `name`. The file is there whole or
    /// not at all, and nothing else stays.
    fn unpack(
        &self,
        package: &str,
        home: &Path,
        name: &str,
        find: impl FnOnce(&Path) -> anyhow::Result<PathBuf>,
    ) -> anyhow::Result<()> {
        let work = self.dir.join(format!("unpack-{}", std::process::id()));
        let moved = self.unpack_in(&work, package).and_then(|root| {
            let file = find(&root)?;
            fs::create_dir_all(home).with_context(|| format!("creating {}", home.display()))?;
            fs::write(home.join("package"), format!("{package}\n"))
                .with_context(|| format!("writing into {}", home.display()))?;
            fs::rename(&file, home.join(name))
                .with_context(|| format!("moving {} to {}", file.display(), home.display()))
        });
        let removed =
            fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()));
        moved.and(removed)
    }

    fn unpack_in(&self, work: &Path, package: &str) -> anyhow::Result<PathBuf> {
        let root = work.join("root");
        fs::create_dir_all(&root).with_context(|| format!("creating {}", root.display()))?;
        run(self
            .command("apt-get")
            .args(["--quiet", "download", package])
            .current_dir(work))?;
        let archive = files(work)?
            .into_iter()
            .find(|path| path.extension() == Some(OsStr::new("deb")))
            .with_context(|| format!("apt-get downloaded no {package}"))?;
        run(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&root))?;
        Ok(root)
    }
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

fn files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let reading = || format!("reading {}", dir.display());
    let mut paths = fs::read_dir(dir)
        .with_context(reading)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .with_context(reading)?;
    paths.sort();
    Ok(paths)
}

/// `sources.list` with one suite.
fn sources(suite: Suite, arch: &str, mirror: &str) -> String {
    format!(
        "deb [arch={arch} target=Packages lang=none signed-by={KEYRING}] {mirror} {} main\n",
        suite.name
    )
}

/// apt's configuration: state and cache of its own, none of the host's sources and pins, and none of
/// the host's hooks. Proxies and the like stay as the host has them.
fn configuration(dir: &Path, arch: &str) -> anyhow::Result<String> {
    let Some(dir) = dir.to_str().filter(|dir| !dir.contains(['"', '\n'])) else {
        bail!("apt cannot work in {}: rename the folder", dir.display());
    };
    Ok(format!(
        r#"#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Architecture "{arch}";
#clear APT::Architectures;
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "";
Dir::State "{dir}";
Dir::State::lists "{dir}/lists";
Dir::State::status "{dir}/status";
Dir::Cache "{dir}";
Dir::Cache::archives "{dir}/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Etc::sourcelist "{dir}/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "-";
"#
    ))
}

/// The mirror that the host's own apt uses for this archive. A host that has never fetched its lists
/// is asked to, once.
fn mirror(archive: Archive) -> anyhow::Result<String> {
    let label = match archive {
        Archive::Main => "Debian",
        Archive::Security => "Debian-Security",
    };
    let known = || -> anyhow::Result<Option<String>> {
        let format = ["--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"];
        let targets = run(Command::new("apt-get").arg("indextargets").args(format))?;
        Ok(labelled(&targets, label).map(str::to_owned))
    };
    if let Some(mirror) = known()? {
        return Ok(mirror);
    }
    run(Command::new("apt-get").arg("update"))?;
    known()?.with_context(|| {
        format!(
            "apt has no HTTP source of {label} here: add one to its sources, or leave the kernels \
             out with --no-vm"
        )
    })
}

/// The first mirror reached over HTTP among `LABEL URI` lines.
fn labelled<'a>(targets: &'a str, label: &str) -> Option<&'a str> {
    targets
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(of, uri)| *of == label && uri.starts_with("http"))
        .map(|(_, uri)| uri)
}

/// Names in the `Depends` fields of what `apt-cache show` prints.
fn dependencies(shown: &str) -> Vec<String> {
    shown
        .lines()
        .filter_map(|line| line.strip_prefix("Depends: "))
        .flat_map(|depends| depends.split([',', '|']))
        .filter_map(|one| one.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// Whether a name is `PREFIX` and a version: a package, not another metapackage.
fn is_versioned(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// Runs a command; gives its standard output, or an error with what it said.
fn run(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .env("LC_ALL", "C.UTF-8")
        .output()
        .with_context(|| format!("starting {program}: kernels are fetched on Debian and Ubuntu"))?;
    if !output.status.success() {
        let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        bail!(
            "{program} {}: {}\n{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
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
    fn dependencies_of_a_package() {
        let shown = "Package: linux-image-7.2.13+deb14-cloud-amd64\n\
             Depends: dracut | initramfs-tools (>= 0.120+deb8u2), linux-base-7.2.13 (= 7.2.13-1), \
             linux-binary-7.2.13+deb14-cloud-amd64 (= 7.2.13-1)\nRecommends: apparmor\n";
        let names = dependencies(shown);
        assert_eq!(
            names,
            [
                "dracut",
                "initramfs-tools",
                "linux-base-7.2.13",
                "linux-binary-7.2.13+deb14-cloud-amd64"
            ]
        );
        let of = |prefix| names.iter().find(|name| is_versioned(name, prefix));
        assert_eq!(of("linux-binary-"), names.last());
        assert_eq!(of("linux-image-"), None);
        assert!(!is_versioned("linux-image-cloud-amd64", "linux-image-"));
        assert_eq!(dependencies("Package: x\n"), Vec::<String>::new());
    }

    #[test]
    fn the_hosts_mirror_is_taken_by_its_label() {
        let targets = "Docker https://mirror.example/docker/\n\
             Debian cdrom://disc/\n\
             Debian http://mirror.example/debian/\n\
             Debian-Security https://mirror.example/security/\n";
        assert_eq!(
            labelled(targets, "Debian"),
            Some("http://mirror.example/debian/")
        );
        assert_eq!(
            labelled(targets, "Debian-Security"),
            Some("https://mirror.example/security/")
        );
        assert_eq!(labelled("", "Debian"), None);
        assert_eq!(labelled(" http://no.label/", "Debian"), None);
    }

    #[test]
    fn apt_is_told_about_one_suite_and_no_file_of_the_host() {
        assert_eq!(
            sources(BOOKWORM, "amd64", "http://mirror.example/debian"),
            "deb [arch=amd64 target=Packages lang=none \
             signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \
             http://mirror.example/debian bookworm main\n"
        );
        let text = configuration(Path::new("/t"), "arm64").unwrap();
        assert!(
            text.contains("APT::Architectures { \"arm64\"; };"),
            "{text}"
        );
        for line in text.lines().filter(|line| line.starts_with("Dir::")) {
            let value = line.split('"').nth(1).unwrap();
            assert!(
                value.is_empty() || value == "-" || value.starts_with("/t"),
                "{line}"
            );
        }
        assert!(configuration(Path::new("/a\"b"), "amd64").is_err());
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
