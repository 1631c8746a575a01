//! `cargo xtask setup`: what building, running and testing need, and how to install it.
//!
//! The needs are one table. A survey says which are missing, the plan is announced, and only then
//! is anything installed. Test servers are installed without being started, and nothing here
//! removes or reconfigures what a host already has. Hosts without apt are told what to install.

mod install;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::host;

/// Installs what is missing to build, run or test tracer.
///
/// Says what it will install before it does. Packages come from the distribution's archive (apt,
/// through sudo where this is not root), Rust programs from the crate registry. Test servers are
/// not started.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Only report what is missing; exit with 1 when something is.
    #[arg(long)]
    check: bool,
    /// What to prepare for.
    #[arg(value_enum, default_value_t = Purpose::Test)]
    purpose: Purpose,
}

/// What the host is prepared for; each is a set of [`Group`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// Building and running the agent.
    Run,
    /// The demonstration: also nginx and php-fpm.
    Demo,
    /// Recording the demonstration: also a virtual machine.
    Record,
    /// Every test that needs no virtual machine.
    TestWithoutVm,
    /// Every test.
    Test,
}

impl Purpose {
    fn groups(self) -> &'static [Group] {
        match self {
            Purpose::Run => &[Group::Build],
            Purpose::Demo => &[Group::Build, Group::Demo],
            Purpose::Record => &[Group::Build, Group::Demo, Group::Vm],
            Purpose::TestWithoutVm => &[Group::Build, Group::Demo, Group::Test],
            Purpose::Test => &[Group::Build, Group::Demo, Group::Test, Group::Vm],
        }
    }
}

/// Why a need exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Build,
    Demo,
    Test,
    Vm,
}

/// A package of the distribution.
struct Package {
    /// Its name for apt.
    name: &'static str,
    group: Group,
    /// A file that is there when the package, or something as good, is.
    proof: Proof,
    why: &'static str,
}

/// What shows that something is installed; `*` stands for any text.
enum Proof {
    Program(&'static str),
    File(&'static str),
}

impl Proof {
    fn holds(&self) -> bool {
        match self {
            Proof::Program(name) => host::program(name).is_some(),
            Proof::File(path) => host::find(Path::new(path)).is_some(),
        }
    }
}

/// The packages: add a row, and `setup` installs it.
#[rustfmt::skip]
const PACKAGES: &[Package] = &[
    Package { name: "gcc", group: Group::Build, proof: Proof::Program("cc"), why: "links Rust programs" },
    Package { name: "libc6-dev", group: Group::Build, proof: Proof::File("/usr/include/stdio.h"), why: "links Rust programs" },
    Package { name: "nginx-light", group: Group::Demo, proof: Proof::Program("nginx"), why: "a server under attack" },
    Package { name: "php-fpm", group: Group::Demo, proof: Proof::Program("php-fpm*"), why: "a server under attack" },
    Package { name: "php-cli", group: Group::Test, proof: Proof::Program("php"), why: "a benign interpreter" },
    Package { name: "php-cgi", group: Group::Test, proof: Proof::Program("php-cgi"), why: "a server under attack" },
    Package { name: "apache2", group: Group::Test, proof: Proof::Program("apache2"), why: "a server under attack" },
    Package { name: "libapache2-mod-php", group: Group::Test, proof: Proof::File("/usr/lib/apache2/modules/libphp*.so"), why: "a server under attack" },
    Package { name: "lighttpd", group: Group::Test, proof: Proof::Program("lighttpd"), why: "a server under attack" },
    Package { name: "postgresql", group: Group::Test, proof: Proof::Program("pg_ctlcluster"), why: "a server under attack" },
    Package { name: "mariadb-server-core", group: Group::Test, proof: Proof::Program("mariadbd"), why: "a server at ordinary work" },
    Package { name: "mariadb-client-core", group: Group::Test, proof: Proof::Program("mariadb"), why: "a server at ordinary work" },
    Package { name: "mariadb-client", group: Group::Test, proof: Proof::Program("mariadb-dump"), why: "a backup" },
    Package { name: "redis-server", group: Group::Test, proof: Proof::Program("redis-server"), why: "a server under attack" },
    Package { name: "vsftpd", group: Group::Test, proof: Proof::Program("vsftpd"), why: "a server under attack" },
    Package { name: "curl", group: Group::Test, proof: Proof::Program("curl"), why: "a downloader, and a client of servers" },
    Package { name: "wget", group: Group::Test, proof: Proof::Program("wget"), why: "a downloader" },
    Package { name: "socat", group: Group::Test, proof: Proof::Program("socat"), why: "a shell behind a port" },
    Package { name: "zip", group: Group::Test, proof: Proof::Program("zip"), why: "archives of pages" },
    Package { name: "unzip", group: Group::Test, proof: Proof::Program("unzip"), why: "archives of pages" },
    Package { name: "rsync", group: Group::Test, proof: Proof::Program("rsync"), why: "deployments" },
    Package { name: "logrotate", group: Group::Test, proof: Proof::Program("logrotate"), why: "rotates logs" },
    Package { name: "imagemagick", group: Group::Test, proof: Proof::Program("convert"), why: "a tool that pages run" },
    Package { name: "nodejs", group: Group::Test, proof: Proof::Program("node"), why: "a server under attack" },
    Package { name: "default-jdk-headless", group: Group::Test, proof: Proof::Program("javac"), why: "a server under attack" },
    Package { name: "python3", group: Group::Test, proof: Proof::Program("python3"), why: "a server under attack" },
    Package { name: "gunicorn", group: Group::Test, proof: Proof::Program("gunicorn"), why: "a server under attack" },
    Package { name: "uwsgi-plugin-python3", group: Group::Test, proof: Proof::File("/usr/lib/uwsgi/plugins/python3_plugin.so"), why: "a server under attack" },
    Package { name: "tomcat10-common", group: Group::Test, proof: Proof::File("/usr/share/tomcat10/bin/bootstrap.jar"), why: "a server under attack" },
    Package { name: "busybox-static", group: Group::Test, proof: Proof::File("/var/lib/dpkg/info/busybox-static.list"), why: "a shell by another name, and all that an image holds" },
    Package { name: "podman", group: Group::Test, proof: Proof::Program("podman"), why: "containers under attack" },
    Package { name: "containerd", group: Group::Test, proof: Proof::Program("containerd"), why: "pods under attack" },
    Package { name: "docker.io", group: Group::Test, proof: Proof::Program("dockerd"), why: "containers at ordinary work" },
    Package { name: "runc", group: Group::Test, proof: Proof::Program("runc"), why: "makes containers, for all of them" },
    Package { name: "perl", group: Group::Test, proof: Proof::Program("perl"), why: "CGI scripts" },
    Package { name: "bsdutils", group: Group::Test, proof: Proof::Program("script"), why: "a login session with a terminal" },
    Package { name: "openssh-server", group: Group::Test, proof: Proof::Program("sshd"), why: "a login over the network" },
    Package { name: "graphviz", group: Group::Test, proof: Proof::Program("dot"), why: "draws trees" },
    Package { name: "git", group: Group::Test, proof: Proof::Program("git"), why: "lists the files to check" },
    Package { name: "qemu-system-x86", group: Group::Vm, proof: Proof::Program("qemu-system-x86_64"), why: "boots other kernels" },
    Package { name: "clang", group: Group::Vm, proof: Proof::Program("clang"), why: "compiles the assembly of TLS for other processors" },
    Package { name: "e2fsprogs", group: Group::Vm, proof: Proof::Program("mke2fs"), why: "makes their disks" },
];

/// rustup's components that only testing needs; its minimal profile leaves them out.
const COMPONENTS: &[(&str, &str)] = &[
    ("rustfmt", "checks the formatting"),
    ("clippy", "checks the lints"),
];

/// The linker that turns LLVM bitcode into a BPF object.
const BPF_LINKER: &str = "0.13.0";
/// LLVM majors that this bpf-linker can be built for.
const BPF_LINKER_LLVM: &[u32] = &[21, 22, 23];
/// The checker of licences and sources of dependencies.
const CARGO_DENY: &str = "0.20.2";

/// A compiler that can build `core` for the BPF target, as it has the sources of the library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compiler {
    /// `None` for the default `rustc`, else the one to name in `RUSTC`.
    pub(crate) rustc: Option<PathBuf>,
    llvm_major: u32,
}

/// Finds a compiler for the eBPF side: the default one, else the distribution's.
pub(crate) fn ebpf_compiler() -> Option<Compiler> {
    let distribution = PathBuf::from("/usr/bin/rustc");
    [None, Some(distribution)].into_iter().find_map(|rustc| {
        let sysroot = host::output(rustc_command(rustc.as_deref()).args(["--print", "sysroot"]))?;
        let core = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs");
        let llvm_major = llvm_major(rustc.as_deref())?;
        core.is_file().then_some(Compiler { rustc, llvm_major })
    })
}

fn rustc_command(rustc: Option<&Path>) -> Command {
    match rustc {
        Some(path) => Command::new(path),
        None => Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())),
    }
}

fn llvm_major(rustc: Option<&Path>) -> Option<u32> {
    parse_llvm_major(&host::output(rustc_command(rustc).arg("-vV"))?)
}

/// The target that the default compiler builds for unless told otherwise.
pub(crate) fn host_triple() -> Result<String> {
    let version = host::output(rustc_command(None).arg("-vV")).unwrap_or_default();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .context("`rustc -vV` names no host: is rustc installed and on PATH?")
}

/// The LLVM major in what `rustc -vV` prints.
fn parse_llvm_major(verbose_version: &str) -> Option<u32> {
    let line = verbose_version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.parse().ok()
}

/// The LLVM major in what `ldd bpf-linker` prints; `None` where LLVM is linked in.
fn parse_linked_llvm(ldd: &str) -> Option<u32> {
    let (_, rest) = ldd
        .split_once("libLLVM.so.")
        .or_else(|| ldd.split_once("libLLVM-"))?;
    rest.split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// The version in what `PROGRAM --version` prints: its last word.
fn parse_version(version: &str) -> Option<String> {
    version
        .lines()
        .next()?
        .split_whitespace()
        .last()
        .map(str::to_owned)
}

/// What a survey found on the host: plain data, so that the plan can be tested without one.
struct Facts {
    /// A compiler with the library's sources.
    compiler: Option<Compiler>,
    /// The LLVM major of the default compiler: what the linker must match until there is another.
    default_llvm: u32,
    /// Names of the rows of [`PACKAGES`] that are there.
    packages: Vec<&'static str>,
    /// Names of the rows of [`COMPONENTS`] that are there.
    components: Vec<&'static str>,
    /// Whether LLVM's development files of the right major are there.
    llvm: bool,
    /// bpf-linker's version, and the LLVM major it was linked with where that can be seen.
    linker: Option<(String, Option<u32>)>,
    cargo_deny: Option<String>,
}

impl Facts {
    fn survey() -> Result<Facts> {
        let compiler = ebpf_compiler();
        let default_llvm = llvm_major(None)
            .context("`rustc -vV` names no LLVM version: is rustc installed and on PATH?")?;
        let major = compiler
            .as_ref()
            .map_or(default_llvm, |compiler| compiler.llvm_major);
        let present = PACKAGES.iter().filter(|package| package.proof.holds());
        Ok(Facts {
            compiler,
            default_llvm,
            packages: present.map(|package| package.name).collect(),
            components: COMPONENTS
                .iter()
                .map(|(name, _)| *name)
                .filter(|name| component_works(name))
                .collect(),
            llvm: llvm_prefix(major).join("include/llvm-c/Core.h").is_file(),
            linker: host::program("bpf-linker").and_then(|path| {
                let version = parse_version(&host::output(Command::new(&path).arg("--version"))?)?;
                let linked = host::output(Command::new("ldd").arg(&path))?;
                Some((version, parse_linked_llvm(&linked)))
            }),
            cargo_deny: host::program("cargo-deny").and_then(|path| {
                parse_version(&host::output(Command::new(path).arg("--version"))?)
            }),
        })
    }

    fn llvm_major(&self) -> u32 {
        self.compiler
            .as_ref()
            .map_or(self.default_llvm, |compiler| compiler.llvm_major)
    }
}

/// Asks the component itself: rustup leaves a stand-in for each that is not installed.
fn component_works(name: &str) -> bool {
    let subcommand = if name == "rustfmt" { "fmt" } else { name };
    host::output(host::cargo().args([subcommand, "--version"])).is_some()
}

/// Where the distribution puts one LLVM major.
fn llvm_prefix(major: u32) -> PathBuf {
    PathBuf::from(format!("/usr/lib/llvm-{major}"))
}

/// Something that building, running or testing needs.
#[derive(Debug, PartialEq, Eq)]
struct Need {
    what: String,
    why: &'static str,
    /// How to get it; `None` where it is there.
    missing: Option<Remedy>,
}

/// How to get what is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Remedy {
    /// The sources of Rust's library: rustup's component, else the distribution's compiler.
    LibrarySources,
    /// Another component of the toolchain.
    Component(&'static str),
    /// A package of the distribution.
    Apt(String),
    /// bpf-linker, built for one LLVM major.
    BpfLinker {
        llvm_major: u32,
    },
    CargoDeny,
}

/// Every need of a purpose, in the order in which they are installed.
fn needs(purpose: Purpose, facts: &Facts) -> Vec<Need> {
    let major = facts.llvm_major();
    let mut needs = vec![Need {
        what: "the sources of Rust's library (rustup's rust-src, else the distribution's rustc-web and rust-web-src)"
            .into(),
        why: "builds core for BPF",
        missing: facts.compiler.is_none().then_some(Remedy::LibrarySources),
    }];
    for package in PACKAGES
        .iter()
        .filter(|row| purpose.groups().contains(&row.group))
    {
        needs.push(Need {
            what: package.name.into(),
            why: package.why,
            missing: (!facts.packages.contains(&package.name))
                .then(|| Remedy::Apt(package.name.into())),
        });
    }
    let right_linker = facts.linker.as_ref().is_some_and(|(version, linked)| {
        version == BPF_LINKER && linked.is_none_or(|linked| linked == major)
    });
    let llvm = format!("llvm-{major}-dev");
    needs.push(Need {
        what: llvm.clone(),
        why: "bpf-linker is linked with the compiler's LLVM",
        // A linker that works needs no development files any more.
        missing: (!facts.llvm && !right_linker).then_some(Remedy::Apt(llvm)),
    });
    needs.push(Need {
        what: format!("bpf-linker {BPF_LINKER} for LLVM {major}"),
        why: "links the eBPF object",
        missing: (!right_linker).then_some(Remedy::BpfLinker { llvm_major: major }),
    });
    if purpose.groups().contains(&Group::Test) {
        for (name, why) in COMPONENTS {
            needs.push(Need {
                what: format!("{name}, of the Rust toolchain"),
                why,
                missing: (!facts.components.contains(name)).then_some(Remedy::Component(name)),
            });
        }
        needs.push(Need {
            what: format!("cargo-deny {CARGO_DENY}"),
            why: "checks licences and sources of dependencies",
            missing: (facts.cargo_deny.as_deref() != Some(CARGO_DENY)).then_some(Remedy::CargoDeny),
        });
    }
    needs
}

/// `cargo xtask setup`.
pub(crate) fn main(arguments: &Arguments) -> Result<ExitCode> {
    if !arguments.check {
        setup(arguments.purpose)?;
        eprintln!("setup: everything is there");
        return Ok(ExitCode::SUCCESS);
    }
    let needs = needs(arguments.purpose, &Facts::survey()?);
    for need in &needs {
        let state = if need.missing.is_some() {
            "missing"
        } else {
            "ok"
        };
        eprintln!("{state:8} {}: {}", need.what, need.why);
    }
    let missing = needs.iter().filter(|need| need.missing.is_some()).count();
    if missing == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("setup: {missing} missing; `cargo xtask setup` installs them");
    Ok(ExitCode::FAILURE)
}

/// Installs what a purpose needs and says nothing where all of it is there.
pub(crate) fn setup(purpose: Purpose) -> Result<()> {
    let missing: Vec<Need> = missing(purpose)?;
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("setup will install:");
    for need in &missing {
        eprintln!("  {}: {}", need.what, need.why);
    }
    // What one step brings changes what the next one needs (the distribution's compiler may have
    // another LLVM), so the survey is repeated after each.
    if missing
        .iter()
        .any(|need| need.missing == Some(Remedy::LibrarySources))
    {
        install::library_sources()?;
    }
    install::packages(&packages_of(&self::missing(purpose)?))?;
    for need in self::missing(purpose)? {
        match need.missing {
            Some(Remedy::BpfLinker { llvm_major }) => install::bpf_linker(llvm_major)?,
            Some(Remedy::Component(name)) => install::component(name)?,
            Some(Remedy::CargoDeny) => install::cargo_deny()?,
            Some(Remedy::LibrarySources | Remedy::Apt(_)) | None => {}
        }
    }
    let left: Vec<String> = self::missing(purpose)?
        .into_iter()
        .map(|need| need.what)
        .collect();
    if !left.is_empty() {
        bail!(
            "installed everything, and still missing: {}",
            left.join(", ")
        );
    }
    Ok(())
}

fn missing(purpose: Purpose) -> Result<Vec<Need>> {
    let mut needs = needs(purpose, &Facts::survey()?);
    needs.retain(|need| need.missing.is_some());
    Ok(needs)
}

fn packages_of(needs: &[Need]) -> Vec<String> {
    let remedies = needs.iter().filter_map(|need| need.missing.as_ref());
    let packages = remedies.filter_map(|remedy| match remedy {
        Remedy::Apt(package) => Some(package.clone()),
        Remedy::LibrarySources
        | Remedy::Component(_)
        | Remedy::BpfLinker { .. }
        | Remedy::CargoDeny => None,
    });
    packages.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Facts {
        Facts {
            compiler: None,
            default_llvm: 22,
            packages: Vec::new(),
            components: Vec::new(),
            llvm: false,
            linker: None,
            cargo_deny: None,
        }
    }

    fn everything() -> Facts {
        Facts {
            compiler: Some(Compiler {
                rustc: None,
                llvm_major: 22,
            }),
            default_llvm: 22,
            packages: PACKAGES.iter().map(|package| package.name).collect(),
            components: COMPONENTS.iter().map(|(name, _)| *name).collect(),
            llvm: true,
            linker: Some((BPF_LINKER.into(), Some(22))),
            cargo_deny: Some(CARGO_DENY.into()),
        }
    }

    fn plan(purpose: Purpose, facts: &Facts) -> Vec<Remedy> {
        needs(purpose, facts)
            .into_iter()
            .filter_map(|need| need.missing)
            .collect()
    }

    #[test]
    fn a_complete_host_needs_nothing() {
        assert_eq!(plan(Purpose::Test, &everything()), []);
    }

    #[test]
    fn running_on_a_bare_host_brings_the_build_tools_and_no_server() {
        let plan = plan(Purpose::Run, &nothing());
        assert_eq!(
            plan,
            [
                Remedy::LibrarySources,
                Remedy::Apt("gcc".into()),
                Remedy::Apt("libc6-dev".into()),
                Remedy::Apt("llvm-22-dev".into()),
                Remedy::BpfLinker { llvm_major: 22 },
            ]
        );
    }

    #[test]
    fn each_purpose_needs_all_that_the_smaller_one_does() {
        let purposes = [
            Purpose::Run,
            Purpose::Demo,
            Purpose::TestWithoutVm,
            Purpose::Test,
        ];
        let sizes = purposes.map(|purpose| plan(purpose, &nothing()).len());
        assert!(sizes.is_sorted_by(|a, b| a < b), "{sizes:?}");
        assert!(
            !plan(Purpose::TestWithoutVm, &nothing())
                .contains(&Remedy::Apt("qemu-system-x86".into()))
        );
    }

    #[test]
    fn a_minimal_toolchain_gets_its_checkers_only_for_testing() {
        let facts = Facts {
            components: vec!["rustfmt"],
            ..everything()
        };
        assert_eq!(plan(Purpose::Test, &facts), [Remedy::Component("clippy")]);
        assert_eq!(plan(Purpose::Demo, &facts), []);
    }

    #[test]
    fn a_linker_for_another_llvm_or_of_another_version_is_replaced() {
        for linker in [(BPF_LINKER, Some(21)), ("0.12.0", Some(22))] {
            let facts = Facts {
                linker: Some((linker.0.into(), linker.1)),
                ..everything()
            };
            assert_eq!(
                plan(Purpose::Run, &facts),
                [Remedy::BpfLinker { llvm_major: 22 }],
                "{linker:?}"
            );
        }
    }

    #[test]
    fn the_linker_follows_the_llvm_of_the_compiler_that_builds_the_object() {
        let compiler = Compiler {
            rustc: Some("/usr/bin/rustc".into()),
            llvm_major: 21,
        };
        let facts = Facts {
            compiler: Some(compiler),
            llvm: false,
            ..everything()
        };
        assert_eq!(
            plan(Purpose::Run, &facts),
            [
                Remedy::Apt("llvm-21-dev".into()),
                Remedy::BpfLinker { llvm_major: 21 }
            ]
        );
    }

    #[test]
    fn a_linker_that_works_needs_no_development_files() {
        assert_eq!(
            plan(
                Purpose::Run,
                &Facts {
                    llvm: false,
                    ..everything()
                }
            ),
            []
        );
        let linked_in = Facts {
            linker: Some((BPF_LINKER.into(), None)),
            llvm: false,
            ..everything()
        };
        assert_eq!(plan(Purpose::Run, &linked_in), []);
    }

    #[test]
    fn versions_are_read_from_what_the_programs_print() {
        assert_eq!(
            parse_llvm_major("rustc 1.95.0\nLLVM version: 22.1.2\n"),
            Some(22)
        );
        assert_eq!(parse_llvm_major("rustc 1.95.0\n"), None);
        let ldd = "\tlibLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x00007fcafde00000)";
        assert_eq!(parse_linked_llvm(ldd), Some(22));
        assert_eq!(
            parse_linked_llvm("\tlibLLVM-14.so.1 => /usr/lib/libLLVM-14.so.1"),
            Some(14)
        );
        assert_eq!(parse_linked_llvm("\tlibc.so.6 => /lib/libc.so.6"), None);
        assert_eq!(
            parse_version("bpf-linker 0.13.0\n").as_deref(),
            Some("0.13.0")
        );
        assert_eq!(parse_version(""), None);
    }

    #[test]
    fn no_package_is_listed_twice() {
        let mut names: Vec<_> = PACKAGES.iter().map(|package| package.name).collect();
        names.sort_unstable();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }
}
