//! `cargo xtask vm`: the agent on other kernels than the one we sit on.
//!
//! Boots Debian's cloud kernels under QEMU, with an initramfs that holds busybox and our own
//! statically linked programs, runs commands in them and brings back their output and exit status.
//! It needs no root, no disk image and no network in the guest, and it is for x86_64 only. It
//! refuses to call anything a success that did not say so: a guest that panics, hangs or goes away
//! leaves an error with the end of its console.

mod fetch;
mod files;
mod guest;
mod initramfs;
pub(crate) mod kernels;
mod qemu;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use self::files::Content;
pub(crate) use self::files::File;
use self::guest::Transcript;
pub(crate) use self::guest::{Order, Outcome};
use self::initramfs::Image;
use self::kernels::Kernel;
use self::qemu::{Accelerator, Ended, Machine};
use crate::libtest::{self, Counts};

/// How long one boot may take with everything that runs in it, in seconds. Emulation is slow: what
/// takes a second here takes ten there.
const TIME_LIMIT: u64 = 180;

/// Boots other kernels in QEMU and runs the kernel tests there, or a command
///
/// Without COMMAND, builds the agent and its kernel tests statically, runs `tracer doctor` and the
/// tests on each kernel, and prints the counts. Kernels are fetched from Debian on first use and
/// kept in target/vm/kernels.
#[derive(clap::Args)]
pub(crate) struct VmArgs {
    /// Kernel to boot: 5.10, 6.1, 6.12, newest, or all; may be repeated
    #[arg(
        long,
        value_name = "KERNEL",
        default_value = kernels::DEFAULT.name,
        value_parser = kernel_names(),
        hide_possible_values = true
    )]
    kernel: Vec<String>,
    /// Seconds that one boot may take, all commands included
    #[arg(long, value_name = "SECONDS", default_value_t = TIME_LIMIT)]
    timeout: u64,
    /// Keep the files of each boot (initramfs, console), and say where they are
    #[arg(long)]
    keep: bool,
    /// Command to run instead of the tests
    ///
    /// The program is an applet of busybox (`-- uname -a`), `tracer` (built for the guest first),
    /// or, with a slash in its name, a statically linked program or a script of this host.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// `cargo xtask vm`.
pub(crate) fn run(args: VmArgs) -> anyhow::Result<()> {
    let VmArgs {
        kernel,
        timeout,
        keep,
        command,
    } = args;
    let lab = Lab::open(Duration::from_secs(timeout), keep)?;
    let kernels = select(&kernel);
    if command.is_empty() {
        let report = lab.test(&kernels)?;
        eprintln!("\n{report}");
        return report.verdict();
    }
    let (programs, command) = lab.prepare(command)?;
    let orders = [Order::Run(command)];
    let mut failed = Vec::new();
    for kernel in kernels {
        let status = match lab.boot(kernel, &programs, &orders) {
            Ok(boot) => {
                eprintln!("vm: {boot}");
                boot.transcript.commands.first().map_or(0, |one| one.status)
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                failed.push(format!("{} did not finish", kernel.name));
                continue;
            }
        };
        if status != 0 {
            failed.push(format!("{} ended with status {status}", kernel.name));
        }
    }
    if !failed.is_empty() {
        bail!("the command on kernel {}", failed.join(", on kernel "));
    }
    Ok(())
}

/// Runs the kernel tests on these kernels. An error means that nothing could be tested; a kernel
/// that fails is in the report, and the others are tested all the same.
pub(crate) fn test(kernels: &[&Kernel]) -> anyhow::Result<VmReport> {
    Lab::open(Duration::from_secs(TIME_LIMIT), false)?.test(kernels)
}

/// Results by kernel.
#[derive(Debug)]
pub(crate) struct VmReport {
    /// In the order in which they were asked for.
    pub(crate) kernels: Vec<KernelReport>,
}

/// What one kernel brought.
#[derive(Debug)]
pub(crate) struct KernelReport {
    /// Its name in the table.
    pub(crate) kernel: &'static str,
    /// Its release and how long it took, for people. Empty if it did not come up.
    pub(crate) boot: String,
    /// Results of the tests; zero if they were not reached.
    pub(crate) counts: Counts,
    /// Why this kernel did not pass; set whenever a test failed.
    pub(crate) failure: Option<String>,
}

impl VmReport {
    /// Results of all kernels together. A kernel that did not get as far as its tests counts as one
    /// failure.
    pub(crate) fn counts(&self) -> Counts {
        let mut total = Counts::default();
        for report in &self.kernels {
            total += report.counts;
            if report.failure.is_some() && report.counts.failed == 0 {
                total.failed = total.failed.saturating_add(1);
            }
        }
        total
    }

    /// An error that names the kernels that did not pass.
    pub(crate) fn verdict(&self) -> anyhow::Result<()> {
        let failed: Vec<_> = self
            .kernels
            .iter()
            .filter(|report| report.failure.is_some())
            .map(|report| report.kernel)
            .collect();
        if !failed.is_empty() {
            bail!("kernels that did not pass: {}", failed.join(", "));
        }
        Ok(())
    }
}

impl fmt::Display for VmReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for KernelReport {
            kernel,
            boot,
            counts,
            failure,
        } in &self.kernels
        {
            write!(f, "kernel {kernel}: {counts}")?;
            if !boot.is_empty() {
                write!(f, " ({boot})")?;
            }
            match failure {
                Some(failure) => writeln!(f, "\n  FAILED: {failure}")?,
                None => writeln!(f)?,
            }
        }
        write!(f, "{}", self.counts())
    }
}

fn kernel_names() -> clap::builder::PossibleValuesParser {
    let names = kernels::ALL.iter().map(|kernel| kernel.name);
    clap::builder::PossibleValuesParser::new(names.chain(["all"]))
}

/// The kernels that were named, oldest first, each once.
fn select(names: &[String]) -> Vec<&'static Kernel> {
    let named = |kernel: &&Kernel| {
        names
            .iter()
            .any(|name| name == "all" || name == kernel.name)
    };
    kernels::ALL.into_iter().filter(named).collect()
}

/// One boot that went through.
pub(crate) struct Boot {
    accelerator: Accelerator,
    transcript: Transcript,
    took: Duration,
}

impl Boot {
    /// What became of the orders, one by one.
    pub(crate) fn outcomes(&self) -> &[Outcome] {
        &self.transcript.commands
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Linux {} under {}, up in {:.1} s, done in {:.1} s",
            self.transcript.release.as_deref().unwrap_or("unknown"),
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
    accelerator: Accelerator,
    limit: Duration,
    keep: bool,
}

impl Lab {
    /// A place for guests that may each take `limit`; `keep` their files.
    pub(crate) fn open(limit: Duration, keep: bool) -> anyhow::Result<Self> {
        if !cfg!(target_arch = "x86_64") {
            bail!("guests run programs of this host, and their kernels are for x86_64 only");
        }
        qemu::check_installed()?;
        let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        Ok(Self {
            dir: workspace().join(target).join("vm"),
            accelerator: Accelerator::detect(),
            limit,
            keep,
        })
    }

    /// A file for the guests' makers, in the folder that all of theirs is in.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Builds the agent statically; it runs on this host as well.
    pub(crate) fn agent(&self) -> anyhow::Result<PathBuf> {
        executable(&self.build(&["build", "--bin", "tracer"])?, "bin", "tracer")
    }

    fn test(&self, kernels: &[&Kernel]) -> anyhow::Result<VmReport> {
        let built = self.build(&["test", "--test", "kernel", "--no-run"])?;
        let programs = [
            agent_file(&executable(&built, "bin", "tracer")?)?,
            File::program(&executable(&built, "test", "kernel")?, TESTS.into())?,
        ];
        let orders = [
            Order::run("tracer doctor"),
            // Uncaptured, so that a hang shows where it is, and one by one, because each test
            // watches the whole system.
            Order::run("kernel-tests --test-threads=1 --nocapture"),
        ];
        let mut reports = Vec::new();
        for kernel in kernels {
            let report = match self.boot(kernel, &programs, &orders) {
                Ok(boot) => judge(kernel, &boot),
                Err(error) => KernelReport {
                    kernel: kernel.name,
                    boot: String::new(),
                    counts: Counts::default(),
                    failure: Some(format!("{error:#}")),
                },
            };
            reports.push(report);
        }
        Ok(VmReport { kernels: reports })
    }

    /// What a command of the user needs in the guest, and the command as the guest knows it.
    fn prepare(&self, mut command: Vec<OsString>) -> anyhow::Result<(Vec<File>, Vec<OsString>)> {
        let Some(first) = command.first_mut() else {
            return Ok((Vec::new(), command));
        };
        if first == OsStr::new("tracer") {
            return Ok((vec![agent_file(&self.agent()?)?], command));
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
    fn build(&self, arguments: &[&str]) -> anyhow::Result<String> {
        eprintln!("vm: building statically linked programs");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .current_dir(workspace())
            .args(arguments)
            .args(["--package", "tracer-user", "--target", TARGET])
            .arg("--message-format=json-render-diagnostics")
            .arg("--target-dir")
            .arg(self.dir.join("static"))
            .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
            // The guest holds the programs in memory, and nobody debugs them there.
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("starting cargo")?;
        if !output.status.success() {
            bail!("cargo {}: {}", arguments.join(" "), output.status);
        }
        String::from_utf8(output.stdout).context("cargo's messages")
    }

    /// Boots a kernel, carries the orders out, shows what commands print. An error means that they
    /// did not all come to an end, whatever that end was.
    pub(crate) fn boot(
        &self,
        kernel: &Kernel,
        files: &[File],
        orders: &[Order],
    ) -> anyhow::Result<Boot> {
        let image = kernels::image(&self.dir, kernel)?;
        let busybox = File::program(&kernels::busybox(&self.dir)?, "/bin/busybox".into())?;
        let dir = self
            .dir
            .join("run")
            .join(format!("{}-{}", kernel.name, std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        let token = guest::token();
        let initramfs = dir.join("initramfs.cpio");
        let files = files.iter().chain([&busybox]);
        write_image(
            &root(&guest::init_script(&token, orders), files)?,
            &initramfs,
        )?;

        eprintln!(
            "vm: booting kernel {} under {}",
            kernel.name,
            self.accelerator.name()
        );
        let machine = Machine {
            kernel: &image,
            initramfs: &initramfs,
            lsm: kernel.lsm,
            accelerator: self.accelerator,
            logs: &dir,
        };
        let started = Instant::now();
        let mut reader = guest::Reader::new(&token);
        let ended = machine.run(self.limit, |bytes| reader.feed(bytes, &mut io::stdout()))?;
        let transcript = reader
            .finish(&mut io::stdout())
            .context("writing the guest's output")?;
        if !self.keep {
            // Large, and made again from the same parts; the texts stay until the boot is judged.
            fs::remove_file(&initramfs)
                .with_context(|| format!("removing {}", initramfs.display()))?;
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
            accelerator: self.accelerator,
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

/// The target of static programs. Naming it, though it is the host's own, keeps the flags away from
/// procedural macros, which cannot be linked statically.
const TARGET: &str = "x86_64-unknown-linux-gnu";

fn workspace() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Whether a test boot passed: the doctor may have findings (that is its job on an old kernel), the
/// tests may not fail.
fn judge(kernel: &Kernel, boot: &Boot) -> KernelReport {
    let mut commands = boot.transcript.commands.iter();
    let doctor = commands.next().map(|outcome| outcome.status);
    let tests = commands.next();
    let counts = tests.and_then(|outcome| libtest::counts(&outcome.output));
    let status = tests.map_or(0, |outcome| outcome.status);
    let failure = match counts {
        None => Some(format!(
            "the tests broke off without a result (status {status})"
        )),
        Some(counts) if counts.failed > 0 => Some(format!("{} tests failed", counts.failed)),
        Some(_) if status != 0 => Some(format!("the tests ended with status {status}")),
        Some(counts) if counts.passed == 0 => Some("no test ran".to_owned()),
        Some(_) if !matches!(doctor, Some(0 | 1)) => Some(format!(
            "`tracer doctor` ended with status {}",
            doctor.unwrap_or_default()
        )),
        Some(_) => None,
    };
    KernelReport {
        kernel: kernel.name,
        boot: boot.to_string(),
        counts: counts.unwrap_or_default(),
        failure,
    }
}

/// Why a boot did not go through.
fn problem(ended: &Ended, transcript: &Transcript, limit: Duration) -> String {
    let stage = match &transcript.release {
        None => "before its userland was up".to_owned(),
        Some(_) => format!("after {} finished commands", transcript.commands.len()),
    };
    match ended {
        Ended::TimedOut => format!("no end within {} s, {stage}", limit.as_secs()),
        Ended::Exited(status) if status.success() => {
            format!("the guest went down {stage}: a panic, or a command that powered it off")
        }
        Ended::Exited(status) => format!("QEMU failed {stage}: {status}"),
    }
}

/// The end of what QEMU and the guest's kernel said.
fn last_words(dir: &Path) -> String {
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
fn root<'a>(init: &[u8], files: impl IntoIterator<Item = &'a File>) -> anyhow::Result<Image> {
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
fn executable(messages: &str, kind: &str, name: &str) -> anyhow::Result<PathBuf> {
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

#[cfg(test)]
mod tests;
