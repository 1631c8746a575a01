//! The kernel side as the agent sees it: load, attach, report per probe, write tags.
//!
//! With `source::ring` the only module that names aya. What a kernel can do is decided by trying:
//! each probe is loaded and attached for itself, and one that the kernel refuses is reported with
//! the reason and what is lost with it.

pub mod account;
pub mod attach;
pub mod btf;
pub mod calls;
pub mod machine;
pub mod offsets;
mod written;

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aya::maps::{HashMap, MapData, MapError, PerCpuArray, RingBuf};
use aya::{Ebpf, EbpfError, EbpfLoader};
use aya_log::EbpfLogger;
use tracer_common::control::Control;
use tracer_common::ledger::Ledger;
use tracer_common::probe::{Probe, Tier};
use tracer_common::tag::{InodeKey, Serves, Tag, Writer};
use tracer_common::wire::as_bytes;

use self::account::Counters;
use self::attach::{Attached, is_refusal};
pub use self::attach::{ProbeReport, TierChoice};
use self::btf::Btf;
use self::machine::Sizes;
use self::written::Written;

/// Where the kernel gives its own types.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Part of a ring that may fill before its reader is woken for records that no alert hangs on. At
/// the highest rate that two cores produce, the rest of the default ring lasts a second.
const WAKE_PART: u32 = 8;

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("TRACER_EBPF_OBJECT"));

/// Why nothing could be loaded. Each says what to do.
#[derive(Debug)]
pub enum SensorError {
    /// The kernel's types cannot be read.
    NoBtf {
        /// The file.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// The kernel lacks something that the agent cannot do without.
    Unsupported(String),
    /// The kernel refuses BPF to this process.
    Refused(String),
    /// The kernel is locked down so far that programs may not read its memory.
    Lockdown,
    /// The tier that was asked for does not load here.
    Tier {
        /// The tier.
        tier: Tier,
        /// What does not load, and why.
        why: String,
    },
    /// Anything else: a fault of this program or its build.
    Object(String),
}

impl fmt::Display for SensorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBtf { path, error } => write!(
                f,
                "{}: {error}; tracer needs the kernel's BTF: use a kernel built with \
                 CONFIG_DEBUG_INFO_BTF=y (all current distributions), or give the file with --btf",
                path.display()
            ),
            Self::Unsupported(what) => {
                write!(
                    f,
                    "this kernel is not supported: {what}; tracer needs Linux 5.10 or later"
                )
            }
            Self::Refused(what) => write!(
                f,
                "the kernel refuses BPF to this process: {what}; run as root on the host, or with \
                 CAP_BPF and CAP_PERFMON (a container also needs a seccomp profile that allows \
                 bpf(2)); `tracer doctor` tells more"
            ),
            Self::Lockdown => f.write_str(
                "the kernel is in lockdown mode `confidentiality`, in which eBPF programs cannot read \
                 its memory; boot with lockdown=integrity",
            ),
            Self::Tier { tier, why } => write!(
                f,
                "tier {} does not load on this kernel: {why}; use --tier auto, which takes the best \
                 tier that loads",
                tier.name()
            ),
            Self::Object(what) => write!(f, "cannot load the eBPF object: {what}"),
        }
    }
}

impl std::error::Error for SensorError {}

/// How to load.
#[derive(Clone, Debug)]
pub struct SensorOptions {
    /// BTF of the running kernel; [`KERNEL_BTF`] where `None`.
    pub btf: Option<PathBuf>,
    /// Which family of hooks.
    pub tier: TierChoice,
    /// Size of the life ring, bytes: a power of two, a multiple of the page size.
    pub life_ring_bytes: u32,
    /// Size of the file ring, the same way.
    pub file_ring_bytes: u32,
    /// File records that one server's lineage may make a second outside watched directories; zero is no
    /// limit.
    pub quota_per_second: u32,
    /// Tell what any process writes in watched directories, not only servers' lineages.
    pub any_writer: bool,
}

/// What a probe has cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// How often it ran.
    pub runs: u64,
    /// How long that took.
    pub nanoseconds: u64,
}

/// What `/proc/self/fdinfo` says of a program.
struct ProgramInfo {
    misses: Option<u64>,
    cost: Cost,
}

/// The loaded programs. Dropping it detaches them all: nothing is pinned.
pub struct Sensor {
    ebpf: Ebpf,
    attached: Attached,
    tags: HashMap<MapData, u32, Plain<Tag>>,
    roles: HashMap<MapData, Plain<InodeKey>, Plain<Serves>>,
    directories: HashMap<MapData, Plain<InodeKey>, u32>,
    written: Written,
    drops: PerCpuArray<MapData, u64>,
    ledger: PerCpuArray<MapData, Plain<Ledger>>,
    /// The numbers of the CPUs, in the order of the ledger's.
    cpus: Vec<u32>,
    counters: Arc<Counters>,
    shared_tags: MapData,
    missing: Vec<&'static str>,
    diagnostics: Option<EbpfLogger<StderrLog>>,
}

/// Diagnostics of the kernel side, as lines on standard error.
struct StderrLog;

impl log::Log for StderrLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("tracer: kernel side: {}", record.args());
    }

    fn flush(&self) {}
}

/// A record of the contract as a map key or value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Plain<T>(T);

#[expect(
    unsafe_code,
    reason = "aya asks for a promise that the contract's types keep"
)]
// SAFETY: `Tag` is `repr(C)`, integers only, without padding: `tracer_common::wire!` checks it.
unsafe impl aya::Pod for Plain<Tag> {}

#[expect(
    unsafe_code,
    reason = "aya asks for a promise that the contract's types keep"
)]
// SAFETY: as for `Plain<Tag>`.
unsafe impl aya::Pod for Plain<InodeKey> {}

#[expect(
    unsafe_code,
    reason = "aya asks for a promise that the contract's types keep"
)]
// SAFETY: as for `Plain<Tag>`.
unsafe impl aya::Pod for Plain<Serves> {}

impl Sensor {
    /// Loads and attaches every probe that this kernel takes.
    ///
    /// # Errors
    ///
    /// [`SensorError`] where the kernel's types are missing or a required probe is refused; then
    /// nothing stays in the kernel.
    pub fn load(options: &SensorOptions) -> Result<Self, SensorError> {
        // How a kernel that is locked down refuses differs from version to version.
        Self::try_load(options).map_err(|error| {
            if lockdown_mode().as_deref() == Some(CONFIDENTIALITY) {
                SensorError::Lockdown
            } else {
                error
            }
        })
    }

    fn try_load(options: &SensorOptions) -> Result<Self, SensorError> {
        let types = read_btf(options.btf.as_deref())?;
        let resolved = offsets::resolve(&types)
            .map_err(|error| SensorError::Unsupported(error.to_string()))?;
        let control = offsets::control(&types, std::env::consts::ARCH, std::process::id())
            .map_err(|error| SensorError::Unsupported(error.to_string()))?;
        let control = Control {
            wake_bytes: options.life_ring_bytes.min(options.file_ring_bytes) / WAKE_PART,
            quota_per_second: options.quota_per_second,
            any_writer: options.any_writer.into(),
            ..control
        };
        let silent = offsets::refusal(&resolved.offsets, &control);
        raise_memlock();
        let sizes = Sizes::of_this_machine();
        let mut loader = EbpfLoader::new();
        loader
            .btf(None)
            .override_global("OFFSETS", as_bytes(&resolved.offsets), true)
            .override_global("CONTROL", as_bytes(&control), true)
            .map_max_entries("LIFE", options.life_ring_bytes)
            .map_max_entries("FILES", options.file_ring_bytes)
            .map_max_entries("TAGS", sizes.tags)
            .map_max_entries("WRITTEN", sizes.written)
            .map_max_entries("QUOTA", sizes.quotas)
            .map_max_entries("PEERS", sizes.peers)
            .map_max_entries("NOTES", sizes.notes);
        let mut ebpf = loader.load(OBJECT).map_err(|error| load_error(&error))?;
        let attached = attach::attach(
            &mut ebpf,
            types.bytes(),
            options.tier,
            silent,
            offsets::blind(&control),
        )?;
        // Absent unless the object was built with them.
        let diagnostics = EbpfLogger::init_with_logger(&mut ebpf, StderrLog).ok();
        let counters = account::counters(&ebpf)?;
        let shared_tags = account::share(&ebpf, "TAGS")?;
        let tags = take(&mut ebpf, "TAGS")?
            .try_into()
            .map_err(|error| map_error(&error))?;
        let roles = take(&mut ebpf, "ROLE_INODES")?
            .try_into()
            .map_err(|error| map_error(&error))?;
        let directories = take(&mut ebpf, "DIRECTORIES")?
            .try_into()
            .map_err(|error| map_error(&error))?;
        let written = Written::take(&mut ebpf)?;
        let drops = take(&mut ebpf, "DROPS")?
            .try_into()
            .map_err(|error| map_error(&error))?;
        let ledger = take(&mut ebpf, "LEDGER")?
            .try_into()
            .map_err(|error| map_error(&error))?;
        Ok(Self {
            ebpf,
            attached,
            tags,
            roles,
            directories,
            written,
            drops,
            ledger,
            cpus: machine::possible_cpus(),
            counters,
            shared_tags,
            missing: resolved.missing.iter().map(|member| member.field).collect(),
            diagnostics,
        })
    }

    /// What became of each probe.
    #[must_use]
    pub fn reports(&self) -> &[ProbeReport] {
        &self.attached.reports
    }

    /// The tier in use.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.attached.tier
    }

    /// Why the preferred tier is not in use, where it was tried.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.attached.refusal.as_deref()
    }

    /// Optional kernel members that this kernel lacks: the facts read from them are absent.
    #[must_use]
    pub fn missing_members(&self) -> &[&'static str] {
        &self.missing
    }

    /// Takes the ring of process life and the ring of file events, once.
    ///
    /// # Errors
    ///
    /// [`SensorError::Object`] where they were taken already.
    pub fn take_rings(&mut self) -> Result<(RingBuf<MapData>, RingBuf<MapData>), SensorError> {
        let life = take(&mut self.ebpf, "LIFE")?
            .try_into()
            .map_err(|error| map_error(&error))?;
        let files = take(&mut self.ebpf, "FILES")?
            .try_into()
            .map_err(|error| map_error(&error))?;
        Ok((life, files))
    }

    /// Says what the kernel side's diagnostics hold, where it was built with them
    /// (`cargo xtask build --kernel-log`).
    pub fn diagnose(&mut self) {
        if let Some(diagnostics) = &mut self.diagnostics {
            diagnostics.flush();
        }
    }

    /// Tags a process in the kernel.
    ///
    /// # Errors
    ///
    /// The map is full, or the kernel refused.
    pub fn set_tag(&mut self, tgid: u32, tag: Tag) -> Result<(), SensorError> {
        self.tags
            .insert(tgid, Plain(tag), 0)
            .map_err(|error| map_error(&error))
    }

    /// Removes a process's tag; absent is not an error.
    pub fn clear_tag(&mut self, tgid: u32) {
        let _absent = self.tags.remove(&tgid);
    }

    /// The tag that the kernel holds for a process.
    #[must_use]
    pub fn tag(&self, tgid: u32) -> Option<Tag> {
        self.tags.get(&tgid, 0).ok().map(|Plain(tag)| tag)
    }

    /// Makes an executable give roles at exec, where it has this generation; any, where that is zero.
    ///
    /// # Errors
    ///
    /// The map is full, or the kernel refused.
    pub fn set_role(&mut self, exe: InodeKey, serves: Serves) -> Result<(), SensorError> {
        self.roles
            .insert(Plain(exe), Plain(serves), 0)
            .map_err(|error| map_error(&error))
    }

    /// Has the kernel side know a file that a server's lineage wrote, unless it knows of a later writer.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn set_written(&mut self, file: InodeKey, writer: Writer) -> Result<(), SensorError> {
        self.written.set(file, writer)
    }

    /// Has it know the last component of a name of such a file.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn set_written_name(&mut self, name: &[u8]) -> Result<(), SensorError> {
        self.written.name(name)
    }

    /// Makes a directory a watched one, where it has this generation; any, where that is zero.
    ///
    /// # Errors
    ///
    /// The map is full, or the kernel refused.
    pub fn watch_directory(
        &mut self,
        directory: InodeKey,
        generation: u32,
    ) -> Result<(), SensorError> {
        self.directories
            .insert(Plain(directory), generation, 0)
            .map_err(|error| map_error(&error))
    }

    /// Makes a directory one like any other again; absent is not an error.
    pub fn unwatch_directory(&mut self, directory: InodeKey) {
        let _absent = self.directories.remove(&Plain(directory));
    }

    /// How often the kernel left a probe out, by probe, since load: a program that is running on a
    /// CPU is not run there again. That happens where programs can be preempted: those of functions on
    /// preemptible kernels, those of tracepoints on kernels newer than 6.18 (`recursion_misses` of
    /// `bpf_prog_show_fdinfo`, kernel/bpf/syscall.c, 5.12 and later; older kernels do not tell).
    #[must_use]
    pub fn misses(&self) -> Vec<(&'static str, u64)> {
        self.probes()
            .filter_map(|probe| Some((probe.missed, self.info(probe)?.misses?)))
            .collect()
    }

    /// What each probe has cost since load, where the kernel keeps account of it
    /// (`kernel.bpf_stats_enabled`).
    #[must_use]
    pub fn costs(&self) -> Vec<(&'static Probe, Cost)> {
        self.probes()
            .filter_map(|probe| Some((probe, self.info(probe)?.cost)))
            .filter(|(_, cost)| cost.runs > 0)
            .collect()
    }

    fn probes(&self) -> impl Iterator<Item = &'static Probe> {
        self.reports().iter().map(|report| report.probe)
    }

    /// What the kernel says of a program that is loaded.
    fn info(&self, probe: &Probe) -> Option<ProgramInfo> {
        let fd = self
            .ebpf
            .program(probe.name)?
            .fd()
            .ok()?
            .as_fd()
            .as_raw_fd();
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        let number = |key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key))?;
            value.trim().parse().ok()
        };
        Some(ProgramInfo {
            misses: number("recursion_misses:"),
            cost: Cost {
                runs: number("run_cnt:").unwrap_or(0),
                nanoseconds: number("run_time_ns:").unwrap_or(0),
            },
        })
    }
}

/// Reads and parses the kernel's types.
///
/// # Errors
///
/// [`SensorError::NoBtf`] where the file cannot be read or is not BTF.
pub fn read_btf(path: Option<&Path>) -> Result<Btf, SensorError> {
    let path = path.unwrap_or(Path::new(KERNEL_BTF));
    let fail = |error: String| SensorError::NoBtf {
        path: path.to_owned(),
        error,
    };
    let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
    Btf::parse(bytes).map_err(|error| fail(error.to_string()))
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map, SensorError> {
    ebpf.take_map(name)
        .ok_or_else(|| SensorError::Object(format!("no map {name}")))
}

fn map_error(error: &MapError) -> SensorError {
    SensorError::Object(chain(error))
}

/// Kernels before 5.11 count BPF memory against this limit (97306be45fbe); from then on it is
/// charged to the cgroup, so being refused here is no reason to stop.
fn raise_memlock() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    let _refused = setrlimit(Resource::Memlock, unlimited);
}

/// The lockdown mode in which nothing can be loaded (security/lockdown/lockdown.c).
pub const CONFIDENTIALITY: &str = "confidentiality";

/// The kernel's lockdown mode: `none`, `integrity` or [`CONFIDENTIALITY`]. `None` where the kernel does
/// not say, as it does in securityfs.
#[must_use]
pub fn lockdown_mode() -> Option<String> {
    let text = std::fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    text.split(['[', ']']).nth(1).map(str::to_owned)
}

fn load_error(error: &EbpfError) -> SensorError {
    if is_refusal(error) {
        SensorError::Refused(chain(error))
    } else {
        SensorError::Object(chain(error))
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = error.source();
    }
    text
}
