//! One run of QEMU: from a kernel and a root to the bytes of the guest's second serial line.
//!
//! The guest has no network, and no disk but its root. Its console goes to a file, the second serial line to us.
//! Software emulation is the normal case, so nothing depends on speed; KVM is used where the host
//! has it. The process is ours: it is ended by its own handle, on every way out.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::ops::ControlFlow;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::kernels::Arch;

/// How the guest's instructions are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accelerator {
    /// By the processor.
    Kvm,
    /// By QEMU.
    Emulation {
        /// Frequency of the host's time stamp counter, which the guest sees as its own, in kHz. A
        /// guest that measures it while the host is busy gets it wrong, and its clock drifts. None:
        /// let it measure.
        tsc_khz: Option<u64>,
    },
}

impl Accelerator {
    /// The best that this host has for guests with this processor.
    pub(super) fn detect(arch: &Arch) -> Self {
        if arch.name != std::env::consts::ARCH {
            return Self::Emulation { tsc_khz: None };
        }
        // A host can have the device without the processor's support (a cloud machine that emulates
        // it); guests die there at the first instruction the emulation lacks.
        let cpu_can = fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| can_virtualise(&text));
        let device = File::options().read(true).write(true).open("/dev/kvm");
        if cpu_can && device.is_ok() {
            Self::Kvm
        } else {
            Self::Emulation { tsc_khz: tsc_khz() }
        }
    }

    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Emulation { .. } => "emulation",
        }
    }
}

/// Whether `/proc/cpuinfo` lists Intel's or AMD's extension.
fn can_virtualise(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .find(|line| line.starts_with("flags"))
        .is_some_and(|flags| {
            flags
                .split_whitespace()
                .any(|flag| flag == "vmx" || flag == "svm")
        })
}

/// A guest to start.
pub(super) struct Machine<'a> {
    /// Its processor.
    pub(super) arch: &'a Arch,
    /// `vmlinuz`.
    pub(super) kernel: &'a Path,
    /// What it starts from.
    pub(super) root: &'a Root,
    /// The list of security modules, if not the kernel's own.
    pub(super) lsm: Option<&'a str>,
    /// More words for the kernel's command line.
    pub(super) parameters: &'a [&'a str],
    /// How to run it.
    pub(super) accelerator: Accelerator,
    /// Folder for the console's text and QEMU's own messages.
    pub(super) logs: &'a Path,
}

/// The root file system of a guest.
#[derive(Debug)]
pub(super) enum Root {
    /// An archive that the kernel unpacks into memory.
    Initramfs(PathBuf),
    /// An ext4 file system.
    Disk(PathBuf),
}

impl Root {
    /// The file.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Initramfs(path) | Self::Disk(path) => path,
        }
    }
}

/// How a run ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// QEMU ended: the guest powered off or asked for a reboot, or QEMU failed.
    Exited(ExitStatus),
    /// It was ended because nothing more was expected of it.
    Done,
    /// It was ended because its time was up.
    TimedOut,
}

/// Says clearly that QEMU is missing, before anybody waits for a download or a build.
pub(super) fn check_installed(arch: &Arch) -> anyhow::Result<()> {
    let (program, package) = arch.qemu;
    let answer = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    match answer {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => bail!(
            "{program} --version: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
            "{program} is not installed: run `cargo xtask setup`, or install Debian's package {package}"
        ),
        Err(error) => Err(error).with_context(|| format!("starting {program}")),
    }
}

impl Machine<'_> {
    /// Runs the guest until it ends or `limit` is over, and hands out what its second serial line
    /// says as it says it. The guest is ended as soon as `take` says that this was all.
    pub(super) fn run(
        &self,
        limit: Duration,
        mut take: impl FnMut(&[u8]) -> io::Result<ControlFlow<()>>,
    ) -> anyhow::Result<Ended> {
        let deadline = Instant::now().checked_add(limit);
        let messages = self.logs.join("qemu.txt");
        let messages =
            File::create(&messages).with_context(|| format!("creating {}", messages.display()))?;
        let (program, _) = self.arch.qemu;
        let child = Command::new(program)
            .args(self.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(messages)
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        let mut guest = Guest(child);
        let mut line = guest.0.stdout.take().context("QEMU's output is a pipe")?;

        let (send, receive) = mpsc::sync_channel::<Vec<u8>>(16);
        // Ends when QEMU does, or when nobody listens any more.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = line.read(&mut buffer) {
                let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
                    break;
                };
                if send.send(bytes.to_vec()).is_err() {
                    break;
                }
            }
        });
        loop {
            let left = match deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => limit,
            };
            match receive.recv_timeout(left) {
                Ok(bytes) => {
                    if take(&bytes)
                        .context("writing the guest's output")?
                        .is_break()
                    {
                        return Ok(Ended::Done);
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Ok(Ended::TimedOut),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = guest.0.wait().context("waiting for QEMU")?;
                    return Ok(Ended::Exited(status));
                }
            }
        }
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        let mut add = |words: &[&OsStr]| {
            arguments.extend(words.iter().map(|word| OsString::from(*word)));
        };
        let word = OsStr::new;
        let (machine, emulated) = self.arch.machine;
        let (accelerator, processor) = match self.accelerator {
            Accelerator::Kvm => ("kvm", "host"),
            Accelerator::Emulation { .. } => ("tcg", emulated),
        };
        add(&[word("-accel"), word(accelerator)]);
        add(&[word("-cpu"), word(processor)]);
        // Two processors, because per-CPU state of the eBPF side must not look right by chance.
        // The tests copy programs of fifty megabytes into memory.
        add(&[word("-smp"), word("2"), word("-m"), word("2048")]);
        add(&[word("-machine"), word(machine), word("-nodefaults")]);
        add(&[word("-display"), word("none"), word("-no-reboot")]);
        let mut console = OsString::from("file,id=console,path=");
        console.push(escaped(&self.logs.join("console.txt")));
        add(&[word("-chardev"), &console]);
        add(&[word("-serial"), word("chardev:console")]);
        add(&[word("-chardev"), word("stdio,id=results,signal=off")]);
        match self.arch.serial {
            None => add(&[word("-serial"), word("chardev:results")]),
            Some(device) => {
                let device = format!("{device},chardev=results");
                add(&[word("-device"), word(&device)]);
            }
        }
        add(&[word("-kernel"), self.kernel.as_os_str()]);
        match self.root {
            Root::Initramfs(path) => add(&[word("-initrd"), path.as_os_str()]),
            Root::Disk(path) => {
                // The image is made for one boot: nobody reads what a crash would leave of it.
                let mut drive = OsString::from("if=none,id=root,format=raw,cache=unsafe,file=");
                drive.push(escaped(path));
                add(&[word("-drive"), &drive]);
                add(&[word("-device"), word("nvme,drive=root,serial=root")]);
            }
        }
        add(&[word("-append"), word(&self.kernel_command_line())]);
        arguments
    }

    /// `panic=-1` with `-no-reboot`: a guest that panics ends QEMU at once. An oops is one, because
    /// a kernel that our programs confused shall not pass.
    fn kernel_command_line(&self) -> String {
        let mut line = format!(
            "console={} quiet loglevel=4 panic=-1 oops=panic",
            self.arch.console
        );
        if let Accelerator::Emulation {
            tsc_khz: Some(frequency),
        } = self.accelerator
        {
            line.push_str(&format!(" tsc_early_khz={frequency}"));
        }
        if let Some(list) = self.lsm {
            line.push_str(" lsm=");
            line.push_str(list);
        }
        if let Root::Disk(_) = self.root {
            line.push_str(" root=/dev/nvme0n1 rootfstype=ext4 rootwait rw init=/init");
        }
        for parameter in self.parameters {
            line.push(' ');
            line.push_str(parameter);
        }
        line
    }
}

/// A path inside an option of QEMU, where a comma ends a value and two mean one.
fn escaped(path: &Path) -> OsString {
    let mut bytes = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        if byte == b',' {
            bytes.push(b',');
        }
        bytes.push(byte);
    }
    OsString::from_vec(bytes)
}

/// The running QEMU; dropping it ends it.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // Both fail only if it is gone already.
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}

/// The frequency of the time stamp counter, measured against the host's clock for 50 ms.
/// `/proc/cpuinfo` has only the frequency the processor runs at, which is another one on real
/// hardware.
#[cfg(target_arch = "x86_64")]
fn tsc_khz() -> Option<u64> {
    let (from, first) = stamp()?;
    std::thread::sleep(Duration::from_millis(50));
    let (to, second) = stamp()?;
    let nanoseconds = to.saturating_duration_since(from).as_nanos();
    let ticks = u128::from(second.checked_sub(first)?);
    let frequency = ticks.checked_mul(1_000_000)?.checked_div(nanoseconds)?;
    u64::try_from(frequency).ok().filter(|&khz| khz > 0)
}

#[cfg(not(target_arch = "x86_64"))]
fn tsc_khz() -> Option<u64> {
    None
}

/// Clock and counter of the same moment: read again if this thread was interrupted in between.
#[cfg(target_arch = "x86_64")]
fn stamp() -> Option<(Instant, u64)> {
    (0..1000).find_map(|_| {
        let before = Instant::now();
        // SAFETY: RDTSC reads a counter, touches no memory, and is part of every x86_64 processor.
        // Linux allows it to user space unless a process asked to have it forbidden
        // (PR_SET_TSC), which nothing here does.
        let ticks = unsafe { core::arch::x86_64::_rdtsc() };
        (before.elapsed() < Duration::from_micros(5)).then_some((before, ticks))
    })
}

#[cfg(test)]
mod tests {
    use super::super::kernels::{AARCH64, X86_64};
    use super::*;

    fn machine<'a>(accelerator: Accelerator, lsm: Option<&'a str>, root: &'a Root) -> Machine<'a> {
        Machine {
            arch: X86_64,
            kernel: Path::new("/k/vmlinuz"),
            root,
            lsm,
            parameters: &[],
            accelerator,
            logs: Path::new("/r/a,b"),
        }
    }

    /// The value after an option, for options that are there once.
    fn value<'a>(arguments: &'a [OsString], option: &str) -> &'a str {
        let at = arguments.iter().position(|word| word == option).unwrap();
        arguments[at + 1].to_str().unwrap()
    }

    #[test]
    fn command_line_under_emulation() {
        let accelerator = Accelerator::Emulation {
            tsc_khz: Some(2_600_000),
        };
        let root = Root::Initramfs("/r/initramfs.cpio".into());
        let arguments = machine(accelerator, Some("lockdown,bpf"), &root).arguments();
        assert_eq!(value(&arguments, "-accel"), "tcg");
        assert_eq!(value(&arguments, "-cpu"), "max,-cx16");
        assert_eq!(value(&arguments, "-kernel"), "/k/vmlinuz");
        assert_eq!(value(&arguments, "-initrd"), "/r/initramfs.cpio");
        assert_eq!(
            value(&arguments, "-chardev"),
            "file,id=console,path=/r/a,,b/console.txt"
        );
        assert_eq!(
            value(&arguments, "-append"),
            "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic tsc_early_khz=2600000 \
             lsm=lockdown,bpf"
        );
        assert!(arguments.iter().any(|word| word == "-no-reboot"));
        assert!(!arguments.iter().any(|word| word == "-netdev"));
    }

    #[test]
    fn command_line_under_kvm() {
        let root = Root::Initramfs("/r/initramfs.cpio".into());
        let arguments = machine(Accelerator::Kvm, None, &root).arguments();
        assert_eq!(value(&arguments, "-accel"), "kvm");
        assert_eq!(value(&arguments, "-cpu"), "host");
        assert_eq!(
            value(&arguments, "-append"),
            "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic"
        );
    }

    #[test]
    fn command_line_with_a_disk_and_parameters() {
        let root = Root::Disk("/r/a,b/root.ext4".into());
        let machine = Machine {
            parameters: &["lockdown=integrity", "quiet"],
            ..machine(Accelerator::Kvm, None, &root)
        };
        let arguments = machine.arguments();
        assert!(!arguments.iter().any(|word| word == "-initrd"));
        assert_eq!(
            value(&arguments, "-drive"),
            "if=none,id=root,format=raw,cache=unsafe,file=/r/a,,b/root.ext4"
        );
        assert!(
            value(&arguments, "-append").ends_with(
                " root=/dev/nvme0n1 rootfstype=ext4 rootwait rw init=/init lockdown=integrity quiet"
            ),
            "{arguments:?}"
        );
    }

    #[test]
    fn command_line_of_another_processor() {
        let root = Root::Initramfs("/r/initramfs.cpio".into());
        let machine = Machine {
            arch: AARCH64,
            ..machine(Accelerator::Emulation { tsc_khz: None }, None, &root)
        };
        let arguments = machine.arguments();
        assert_eq!(value(&arguments, "-machine"), "virt");
        assert_eq!(value(&arguments, "-cpu"), "cortex-a72");
        assert_eq!(value(&arguments, "-serial"), "chardev:console");
        assert_eq!(value(&arguments, "-device"), "pci-serial,chardev=results");
        assert!(value(&arguments, "-append").starts_with("console=ttyAMA0 "));
    }

    #[test]
    fn a_device_alone_is_no_kvm() {
        let rows = [
            ("processor: 0\nflags\t\t: fpu vme vmx sse2\n", true),
            ("flags\t\t: fpu svm\n", true),
            ("flags\t\t: fpu avx\nvmx flags\t: vnmi\n", false),
            ("flags\t\t: svm_lock\n", false),
            ("", false),
        ];
        for (cpuinfo, expected) in rows {
            assert_eq!(can_virtualise(cpuinfo), expected, "{cpuinfo:?}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_counter_has_a_plausible_frequency() {
        let khz = tsc_khz().unwrap();
        assert!((500_000..10_000_000).contains(&khz), "{khz} kHz");
    }
}
