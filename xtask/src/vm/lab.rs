//! Where guests are made: what goes into one, its boot, and what it brought.
//!
//! A guest's root is an initramfs, or a disk that is thrown away after the boot. The disk has ext4 on
//! NVMe, because Debian's cloud kernels have these two built in and virtio's disks as a module. It is
//! filled from this host's own packages: that needs neither root nor a mirror, and takes a second.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::disk;
use super::files::{Content, File};
use super::guest::{self, Order, Outcome, Transcript};
use super::initramfs::Image;
use super::kernels::{self, Arch, Kernel, X86_64};
use super::qemu::{self, Accelerator, Ended, Machine, Root};
use super::trial::{FORKS, Part, Tier};
use super::variants::{STOCK, Variant};
use crate::ebpf;
use crate::host;
use crate::site::guest::GuestSite;

/// One boot that went through.
pub(crate) struct Boot {
    pub(super) accelerator: Accelerator,
    pub(super) transcript: Transcript,
    pub(super) took: Duration,
}

impl Boot {
    /// What became of the orders, one by one.
    pub(crate) fn outcomes(&self) -> &[Outcome] {
        &self.transcript.commands
    }

    /// What `uname -r` says there.
    pub(super) fn release(&self) -> &str {
        self.transcript.release.as_deref().unwrap_or("unknown")
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Linux {} under {}, up in {:.1} s, done in {:.1} s",
            self.release(),
            self.accelerator.name(),
            self.transcript.boot.unwrap_or_default().as_secs_f32(),
            self.took.as_secs_f32()
        )
    }
}

/// Where guests are made.
pub(crate) struct Lab {
    /// `target/vm`.
    dir: PathBuf,
    limit: Duration,
    keep: bool,
    /// Guests that were started.
    boots: Cell<u32>,
}

impl Lab {
    /// A place for guests that may each take `limit`; `keep` their files.
    pub(crate) fn open(limit: Duration, keep: bool) -> anyhow::Result<Self> {
        if !cfg!(target_arch = "x86_64") {
            bail!("guests run programs of this host, and their kernels are for x86_64 only");
        }
        Ok(Self {
            dir: host::target_directory().join("vm"),
            limit,
            keep,
            boots: Cell::new(0),
        })
    }

    /// A file for the guests' makers, in the folder that all of theirs is in.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Builds the agent statically; it runs on this host as well.
    pub(crate) fn agent(&self) -> anyhow::Result<PathBuf> {
        self.agent_for(X86_64)
    }

    fn agent_for(&self, arch: &Arch) -> anyhow::Result<PathBuf> {
        let built = self.build(arch, &["build", "--bin", "tracer"])?;
        executable(&built, "bin", "tracer")
    }

    /// Builds what trials run in their guests.
    pub(super) fn programs(&self, arch: &Arch, parts: &[Part]) -> anyhow::Result<Programs> {
        let built = if parts.contains(&Part::Tests) {
            self.build(arch, &["test", "--test", "kernel", "--no-run"])?
        } else {
            self.build(arch, &["build", "--bin", "tracer"])?
        };
        let agent = executable(&built, "bin", "tracer")?;
        let tests = if parts.contains(&Part::Tests) {
            let tests = executable(&built, "test", "kernel")?;
            Some(File::program(&tests, TESTS.into())?)
        } else {
            None
        };
        let site = if parts.contains(&Part::Smoke) {
            Some(GuestSite::find()?)
        } else {
            None
        };
        // A program of another processor cannot be asked here; the guest tells.
        let foreign = arch.name != std::env::consts::ARCH;
        Ok(Programs {
            chooses_tier: foreign || chooses_tier(&agent)?,
            agent: agent_file(&agent)?,
            tests,
            site,
        })
    }

    /// What a command of the user needs in the guest, and the command as the guest knows it.
    ///
    /// The kernel tests are told the tier; whoever types another command can say so himself.
    pub(super) fn prepare(
        &self,
        arch: &Arch,
        mut command: Vec<OsString>,
        tier: Option<Tier>,
    ) -> anyhow::Result<(Vec<File>, Vec<OsString>)> {
        let Some(first) = command.first_mut() else {
            return Ok((Vec::new(), command));
        };
        if first == OsStr::new("tests") {
            let programs = self.programs(arch, &[Part::Tests])?;
            let mut words: Vec<OsString> = match tier {
                Some(tier) => vec![format!("TRACER_TIER={}", tier.name()).into()],
                None => Vec::new(),
            };
            words.splice(0..0, ["env", FORKS].map(OsString::from));
            words.extend([TESTS, "--test-threads=1", "--nocapture"].map(OsString::from));
            words.extend(command.into_iter().skip(1));
            let files = [programs.agent].into_iter().chain(programs.tests);
            return Ok((files.collect(), words));
        }
        if tier.is_some() {
            bail!("--tier is for the tests: give the command its own (`-- tracer run --tier ...`)");
        }
        if first == OsStr::new("tracer") {
            return Ok((vec![agent_file(&self.agent_for(arch)?)?], command));
        }
        if !first.as_bytes().contains(&b'/') {
            return Ok((Vec::new(), command));
        }
        let host = PathBuf::from(&*first);
        let name = host.file_name().and_then(OsStr::to_str);
        let Some(name) = name else {
            bail!("{} does not name a program", host.display());
        };
        let program = File::program(&host, format!("/root/{name}"))?;
        *first = OsString::from(&program.path);
        Ok((vec![program], command))
    }

    /// Compiles parts of the agent for a guest; gives cargo's messages.
    fn build(&self, arch: &Arch, arguments: &[&str]) -> anyhow::Result<String> {
        qemu::check_installed(arch)?;
        let (target, flags) = arch.target;
        let mut command = host::cargo();
        if arch.name != std::env::consts::ARCH {
            // The helpers of the kernel side know the registers of one processor.
            let object = self.dir.join("bpf").join(arch.name).join("tracer-ebpf");
            ebpf::object_for(arch.name, &object)?;
            command.env("TRACER_EBPF_OBJECT", object);
            let target = target.replace('-', "_");
            command.env(format!("CC_{target}"), "clang");
            command.env(format!("AR_{target}"), "ar");
        }
        eprintln!("vm: building statically linked programs");
        let output = command
            .args(arguments)
            .args(["--package", "tracer-user", "--target", target])
            .arg("--message-format=json-render-diagnostics")
            .arg("--target-dir")
            .arg(self.dir.join("static"))
            .env("CARGO_ENCODED_RUSTFLAGS", flags)
            // The guest holds the programs in memory, and nobody debugs them there.
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("starting cargo")?;
        if !output.status.success() {
            bail!(
                "cargo {}: {} (`rustup target add {target}` brings the target)",
                arguments.join(" "),
                output.status
            );
        }
        String::from_utf8(output.stdout).context("cargo's messages")
    }

    /// Boots a kernel as it is from an initramfs, carries the orders out, shows what commands print.
    /// An error means that they did not all come to an end, whatever that end was.
    pub(crate) fn boot<'a>(
        &self,
        kernel: &Kernel,
        files: impl IntoIterator<Item = &'a File>,
        orders: &[Order],
    ) -> anyhow::Result<Boot> {
        self.boot_variant(kernel, STOCK, Medium::Initramfs, files, orders)
    }

    /// Boots a variant of a kernel from this medium; else as [`Lab::boot`].
    pub(super) fn boot_variant<'a>(
        &self,
        kernel: &Kernel,
        variant: &Variant,
        medium: Medium,
        files: impl IntoIterator<Item = &'a File>,
        orders: &[Order],
    ) -> anyhow::Result<Boot> {
        qemu::check_installed(kernel.arch)?;
        let accelerator = Accelerator::detect(kernel.arch);
        let image = kernels::image(&self.dir, kernel)?;
        let busybox = File::program(
            &kernels::busybox(&self.dir, kernel.arch)?,
            "/bin/busybox".into(),
        )?;
        let count = self.boots.get();
        self.boots.set(count.saturating_add(1));
        // The files of a boot that failed stay, whatever is booted next.
        let name = format!("{}-{}-{count}", kernel.name, std::process::id());
        let dir = self.dir.join("run").join(name);
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        let token = guest::token();
        let mut all = vec![&busybox];
        for file in files {
            all.push(file);
        }
        let root = root(
            &guest::init_script(&token, kernel.arch.results, orders),
            all,
        )?;
        let root = medium.write(&root, &dir)?;

        eprintln!(
            "vm: booting kernel {}{} under {}",
            kernel.name,
            variant.label(),
            accelerator.name()
        );
        let machine = Machine {
            arch: kernel.arch,
            kernel: &image,
            root: &root,
            lsm: variant.lsm.or(kernel.lsm),
            parameters: variant.parameters,
            accelerator,
            logs: &dir,
        };
        let started = Instant::now();
        let attempt = || {
            let mut reader = guest::Reader::new(&token);
            let ended = machine.run(self.limit, |bytes| {
                reader.feed(bytes, &mut io::stdout())?;
                Ok(if reader.complete() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                })
            })?;
            let transcript = reader
                .finish(&mut io::stdout())
                .context("writing the guest's output")?;
            anyhow::Ok((ended, transcript))
        };
        let (mut ended, mut transcript) = attempt()?;
        if accelerator != Accelerator::Kvm && never_up(&ended, &transcript) {
            eprint!(
                "warning: the emulated kernel went down before anything of ours ran; once more\n{}",
                last_words(&dir)
            );
            (ended, transcript) = attempt()?;
        }
        if !self.keep {
            // Large, and made again from the same parts; the texts stay until the boot is judged.
            let root = root.path();
            fs::remove_file(root).with_context(|| format!("removing {}", root.display()))?;
        }
        let whole = transcript.complete && transcript.commands.len() == orders.len();
        if !whole {
            let problem = problem(&ended, &transcript, self.limit);
            bail!(
                "kernel {}: {problem}\n{}The console is in {}",
                kernel.name,
                last_words(&dir),
                dir.display()
            );
        }
        if self.keep {
            eprintln!("vm: kept {}", dir.display());
        } else {
            fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
        }
        Ok(Boot {
            accelerator,
            transcript,
            took: started.elapsed(),
        })
    }
}

/// Where the guest has the agent and its tests.
const AGENT: &str = "/bin/tracer";
const TESTS: &str = "/bin/kernel-tests";

/// Words as the guest's shell reads them; what is no text is replaced.
pub(crate) fn quoted(words: &[OsString]) -> String {
    String::from_utf8_lossy(&guest::quoted(words)).into_owned()
}

/// The agent as the guest has it: on its `PATH`.
pub(crate) fn agent_file(host: &Path) -> anyhow::Result<File> {
    File::program(host, AGENT.into())
}

/// What trials run in their guests.
pub(super) struct Programs {
    pub(super) agent: File,
    /// The kernel tests, where a trial runs them.
    pub(super) tests: Option<File>,
    /// nginx and php-fpm, where a trial attacks them.
    pub(super) site: Option<GuestSite>,
    /// The agent has an option that chooses the tier.
    pub(super) chooses_tier: bool,
}

/// Whether the agent, which runs on this host too, can be told which tier to load.
fn chooses_tier(agent: &Path) -> anyhow::Result<bool> {
    let help = host::output(Command::new(agent).args(["run", "--help"]))
        .with_context(|| format!("`{} run --help` failed", agent.display()))?;
    Ok(help.contains("--tier"))
}

/// What holds a guest's root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    /// Memory: ready in a moment.
    Initramfs,
    /// A disk with ext4, as servers have.
    Disk,
}

impl Medium {
    /// Writes the root for one boot into `dir`.
    fn write(self, image: &Image, dir: &Path) -> anyhow::Result<Root> {
        match self {
            Self::Initramfs => {
                let path = dir.join("initramfs.cpio");
                write_image(image, &path)?;
                Ok(Root::Initramfs(path))
            }
            Self::Disk => {
                let path = dir.join("root.ext4");
                disk::write(image, &dir.join("root"), &path)?;
                Ok(Root::Disk(path))
            }
        }
    }
}

/// Whether a guest went down by itself before its userland was up. Emulation that is short of
/// processor time lets a kernel do that now and then: it patches its code (an `int3` for a moment)
/// while another processor runs it, and QEMU 7.2 seems to run the old code too
/// long. Once anything of ours runs, a panic is taken for our fault.
pub(super) fn never_up(ended: &Ended, transcript: &Transcript) -> bool {
    matches!(ended, Ended::Exited(status) if status.success()) && transcript.release.is_none()
}

/// Why a boot did not go through.
pub(super) fn problem(ended: &Ended, transcript: &Transcript, limit: Duration) -> String {
    let stage = match &transcript.release {
        None => "before its userland was up".to_owned(),
        Some(_) => format!("after {} finished commands", transcript.commands.len()),
    };
    match ended {
        Ended::Done => format!("the guest said good-bye {stage}"),
        Ended::TimedOut => format!("no end within {} s, {stage}", limit.as_secs()),
        Ended::Exited(status) if status.success() => {
            format!("the guest went down {stage}: a panic, or a command that powered it off")
        }
        Ended::Exited(status) => format!("QEMU failed {stage}: {status}"),
    }
}

/// The end of what QEMU and the guest's kernel said.
pub(super) fn last_words(dir: &Path) -> String {
    const LINES: usize = 30;
    let mut words = String::new();
    for (who, file) in [("QEMU", "qemu.txt"), ("console", "console.txt")] {
        let text = fs::read(dir.join(file)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let tail = lines.len().saturating_sub(LINES);
        for line in lines.iter().skip(tail) {
            words.push_str(&format!("  {who}: {}\n", line.trim_end()));
        }
    }
    words
}

/// The guest's root file system.
pub(super) fn root<'a>(
    init: &[u8],
    files: impl IntoIterator<Item = &'a File>,
) -> anyhow::Result<Image> {
    let mut image = Image::default();
    for folder in ["dev", "proc", "sys", "tmp", "run", "etc", "root", "var"] {
        image.directory(folder)?;
    }
    image.character_device("dev/console", 5, 1)?;
    image.file("init", 0o755, init.to_vec())?;
    image.file("etc/passwd", 0o644, PASSWD.into())?;
    image.file("etc/group", 0o644, GROUP.into())?;
    image.file("etc/hosts", 0o644, "127.0.0.1 localhost guest\n".into())?;
    for File { path, content } in files {
        match content {
            Content::Program(bytes) => image.file(path, 0o755, bytes.clone())?,
            Content::Text(text) => image.file(path, 0o644, text.clone().into())?,
            Content::Link(target) => image.link(path, target)?,
        }
    }
    Ok(image)
}

/// Users that servers run as, with Debian's numbers.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                      www-data:x:33:33:www-data:/var/www:/bin/false\n\
                      nobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n";

fn write_image(image: &Image, path: &Path) -> anyhow::Result<()> {
    let writing = || format!("writing {}", path.display());
    let file = fs::File::create(path).with_context(writing)?;
    let mut file = io::BufWriter::new(file);
    image.write_to(&mut file)?;
    file.flush().with_context(writing)
}

/// Where cargo put an executable, from the messages of its build.
pub(super) fn executable(messages: &str, kind: &str, name: &str) -> anyhow::Result<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| {
            let is = |pointer: &str, value: &str| {
                message.pointer(pointer).and_then(|found| found.as_str()) == Some(value)
            };
            is("/target/name", name) && is("/target/kind/0", kind)
        })
        .filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
        .next_back()
        .with_context(|| format!("cargo built no {kind} `{name}`"))
}
