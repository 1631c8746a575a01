//! Which programs run: the ones of every tier, and those of the tier that this kernel takes.
//!
//! Decided by loading and attaching, never by versions, configuration files or lists of security
//! modules: there are kernels that name `bpf` among those and refuse its programs. Refuses to mix: the
//! programs of a tier that is not used are not in the kernel.

use std::fmt;
use std::io;

use aya::programs::{Program, ProgramError};
use aya::{BtfError, Ebpf, Endianness};
use clap::ValueEnum;
use serde::Deserialize;
use tracer_common::probe::{Attach, Need, PROBES, Probe, Tier};

use super::{SensorError, chain};

/// Which tier to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TierChoice {
    /// `lsm` where the kernel takes it, else `tracepoint`.
    #[default]
    Auto,
    /// The kernel's own functions: complete and resolved, needs BPF trampolines.
    Lsm,
    /// Raw tracepoints: every kernel with BTF.
    Tracepoint,
}

/// What became of one probe.
#[derive(Clone, Debug)]
pub struct ProbeReport {
    /// The probe.
    pub probe: &'static Probe,
    /// What it is attached to; `None` where it is not.
    pub hook: Option<&'static str>,
    /// Why it is not attached; `None` where it is.
    pub failure: Option<String>,
    /// Instructions that the verifier went through; kernels before 5.16 do not tell.
    pub verified_insns: Option<u32>,
}

/// What is attached.
#[derive(Debug)]
pub(super) struct Attached {
    /// The tier in use.
    pub(super) tier: Tier,
    /// Its probes and those of every tier.
    pub(super) reports: Vec<ProbeReport>,
    /// Why the preferred tier is not in use, where it was tried.
    pub(super) refusal: Option<String>,
}

/// Loads and attaches. `types` is the kernel's BTF, as bytes; `silent` is why the kernel's own functions
/// would not tell all, where it is so; `blind` are the slots of programs of the tracepoint tier whose hooks
/// do not have on this kernel what the program is for.
///
/// # Errors
///
/// A required probe of every tier is refused, or one of each tier that may be used.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    types: &[u8],
    choice: TierChoice,
    silent: Option<&'static str>,
    blind: &[u32],
) -> Result<Attached, SensorError> {
    let every = attach_tier(ebpf, None, None, &[]).map_err(Refusal::fatal)?;
    let mut refusal = None;
    if choice != TierChoice::Tracepoint {
        match attach_functions(ebpf, types, silent) {
            Ok(reports) => return Ok(Attached::new(Tier::Lsm, every, reports, None)),
            Err(error) if choice == TierChoice::Lsm => {
                return Err(SensorError::Tier {
                    tier: Tier::Lsm,
                    why: error.to_string(),
                });
            }
            Err(error) => refusal = Some(error.to_string()),
        }
    }
    let reports = attach_tier(ebpf, Some(Tier::Tracepoint), None, blind).map_err(Refusal::fatal)?;
    Ok(Attached::new(Tier::Tracepoint, every, reports, refusal))
}

impl Attached {
    fn new(
        tier: Tier,
        every: Vec<ProbeReport>,
        own: Vec<ProbeReport>,
        refusal: Option<String>,
    ) -> Self {
        Self {
            tier,
            reports: every.into_iter().chain(own).collect(),
            refusal,
        }
    }
}

fn attach_functions(
    ebpf: &mut Ebpf,
    types: &[u8],
    silent: Option<&'static str>,
) -> Result<Vec<ProbeReport>, Refusal> {
    if let Some(text) = silent {
        return Err(Refusal {
            probe: None,
            fault: Fault {
                text: text.to_owned(),
                kind: FaultKind::Unsupported,
            },
        });
    }
    // The numbers of the kernel's functions. A parser of its own: aya takes no other's word.
    let functions = aya::Btf::parse(types, Endianness::default()).map_err(|error| Refusal {
        probe: None,
        fault: Fault {
            text: format!("the kernel's functions cannot be looked up: {error}"),
            kind: FaultKind::Unsupported,
        },
    })?;
    attach_tier(ebpf, Some(Tier::Lsm), Some(&functions), &[])
}

/// Attaches the probes of one tier. Where a required one is refused, none of them stays.
fn attach_tier(
    ebpf: &mut Ebpf,
    tier: Option<Tier>,
    functions: Option<&aya::Btf>,
    blind: &[u32],
) -> Result<Vec<ProbeReport>, Refusal> {
    let mut reports = Vec::new();
    for probe in PROBES.iter().filter(|probe| probe.tier == tier) {
        let outcome = if blind.contains(&probe.slot) {
            Err(Fault {
                text: format!(
                    "the kernel has no {} that tells its request (Linux before 5.12)",
                    probe.hooks.join(" or ")
                ),
                kind: FaultKind::Absent,
            })
        } else {
            attach_probe(ebpf, probe, functions)
        };
        if outcome.is_err() {
            unload(ebpf, probe);
        }
        let (hook, failure) = match outcome {
            Ok(hook) => (Some(hook), None),
            Err(fault) if fault.kind == FaultKind::Absent && probe.need == Need::WherePresent => {
                continue;
            }
            Err(fault) if probe.need == Need::Required => {
                for ProbeReport { probe, .. } in &reports {
                    unload(ebpf, probe);
                }
                return Err(Refusal {
                    probe: Some(probe),
                    fault,
                });
            }
            Err(fault) => (None, Some(fault.text)),
        };
        let info = ebpf
            .program(probe.name)
            .and_then(|program| program.info().ok());
        reports.push(ProbeReport {
            probe,
            hook,
            failure,
            verified_insns: info.and_then(|info| info.verified_instruction_count()),
        });
    }
    Ok(reports)
}

/// Loads and attaches one probe to the first of its hooks that the kernel has and gives. Where there is
/// none, the reason is that of the first that it has.
fn attach_probe(
    ebpf: &mut Ebpf,
    probe: &Probe,
    functions: Option<&aya::Btf>,
) -> Result<&'static str, Fault> {
    let program = ebpf
        .program_mut(probe.name)
        .ok_or(ProgramError::UnexpectedProgramType)?;
    let mut fault = None;
    for hook in probe.hooks {
        match attach_hook(program, probe.attach, hook, functions) {
            Ok(true) => return Ok(hook),
            Ok(false) => {}
            Err(error) => fault = fault.or(Some(error)),
        }
    }
    Err(fault.map_or_else(
        || Fault {
            text: format!("the kernel has no {}", probe.hooks.join(" or ")),
            kind: FaultKind::Absent,
        },
        Fault::from,
    ))
}

/// Loads a program for one of the kernel's functions and attaches it. aya's types of programs at the begin
/// and at the end of a function have these calls, and no trait, in common.
macro_rules! attach_to_function {
    ($program:expr, $hook:expr, $functions:expr) => {{
        if !found($program.load($hook, $functions))? {
            return Ok(false);
        }
        let attached = $program.attach();
        if attached.is_err() {
            // So that it can be loaded for another hook.
            $program.unload()?;
        }
        attached.map(|_| true)
    }};
}

/// Loads and attaches a program; `false` where the kernel has no such hook.
fn attach_hook(
    program: &mut Program,
    attach: Attach,
    hook: &str,
    functions: Option<&aya::Btf>,
) -> Result<bool, ProgramError> {
    match (attach, program, functions) {
        (Attach::RawTracepoint, Program::RawTracePoint(program), _) => {
            match program.load() {
                Ok(()) | Err(ProgramError::AlreadyLoaded) => {}
                Err(error) => return Err(error),
            }
            match program.attach(hook) {
                Ok(_) => Ok(true),
                Err(error) if is_absent(&error) => Ok(false),
                Err(error) => Err(error),
            }
        }
        (Attach::Fentry, Program::FEntry(program), Some(functions)) => {
            attach_to_function!(program, hook, functions)
        }
        (Attach::Fexit, Program::FExit(program), Some(functions)) => {
            attach_to_function!(program, hook, functions)
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// Whether a program was loaded; not where the kernel has no such function.
fn found(loaded: Result<(), ProgramError>) -> Result<bool, ProgramError> {
    match loaded {
        Ok(()) => Ok(true),
        Err(ProgramError::Btf(BtfError::UnknownBtfTypeName { .. })) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Detaches a probe and takes it out of the kernel.
pub(super) fn unload(ebpf: &mut Ebpf, probe: &Probe) {
    // What is not loaded need not be unloaded; and closing a descriptor cannot fail in a way that
    // leaves the program there.
    let _not_loaded = match ebpf.program_mut(probe.name) {
        Some(Program::RawTracePoint(program)) => program.unload(),
        Some(Program::FEntry(program)) => program.unload(),
        Some(Program::FExit(program)) => program.unload(),
        _ => Ok(()),
    };
}

/// A required probe that the kernel does not take; or, without one, what kept all of them.
struct Refusal {
    probe: Option<&'static Probe>,
    fault: Fault,
}

impl Refusal {
    /// The error where nothing can be used in its place.
    fn fatal(self) -> SensorError {
        let what = self.to_string();
        if self.fault.kind == FaultKind::Refused {
            return SensorError::Refused(what);
        }
        SensorError::Unsupported(match self.probe {
            Some(probe) => format!("{what}; without it there is no {}", probe.lost),
            None => what,
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(probe) = self.probe {
            write!(f, "{}: ", probe.name)?;
        }
        f.write_str(&self.fault.text)
    }
}

/// Why a probe is not attached.
struct Fault {
    text: String,
    kind: FaultKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FaultKind {
    /// The kernel has no such hook.
    Absent,
    /// Rights are missing, to all that is known.
    Refused,
    /// The verifier's word, or another limit of the kernel's.
    Unsupported,
}

impl From<ProgramError> for Fault {
    fn from(error: ProgramError) -> Self {
        Self {
            kind: if is_refusal(&error) {
                FaultKind::Refused
            } else {
                FaultKind::Unsupported
            },
            text: describe(&error),
        }
    }
}

/// Whether the kernel said EPERM or EACCES, somewhere down the chain. A verifier rejection is
/// EACCES too, but carries a log.
pub(super) fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(ProgramError::LoadError { verifier_log, .. }) = error.downcast_ref()
            && !verifier_log.to_string().trim().is_empty()
        {
            return false;
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind() == io::ErrorKind::PermissionDenied;
        }
        next = error.source();
    }
    false
}

/// Whether the kernel said ENOENT: it has no such tracepoint.
fn is_absent(error: &ProgramError) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind() == io::ErrorKind::NotFound;
        }
        next = error.source();
    }
    false
}

/// A probe's error in one line: a verifier log keeps its last lines, which hold the reason.
fn describe(error: &ProgramError) -> String {
    if let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    {
        let log = verifier_log.to_string();
        if std::env::var_os("TRACER_VERIFIER_LOG").is_some() {
            return format!("{io_error}\n{log}");
        }
        let mut last: Vec<&str> = log
            .lines()
            .rev()
            .filter(|l| !l.is_empty())
            .take(3)
            .collect();
        last.reverse();
        if last.is_empty() {
            return io_error.to_string();
        }
        return format!("{io_error}; verifier: {}", last.join(" | "));
    }
    chain(error)
}
