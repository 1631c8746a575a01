//! Answers the table of kernel structure members for one kernel, from its BTF.
//!
//! Also where a system call's number and arguments lie on each architecture: the only module of
//! the user side that knows architectures apart. Reads no file and asks no kernel: it is handed
//! the [`Btf`], so that a fixture of any kernel and architecture can stand in for the live one.

use std::fmt;

use tracer_common::control::{ABSENT, Control, FUNCTIONS, Function, SyscallAbi};
use tracer_common::limits::QUOTA_PER_SECOND;
use tracer_common::offsets::{KernelOffsets, Member};
use tracer_common::probe::{SLOT_URING_COMPLETE, SLOT_URING_SUBMIT};

use super::btf::Btf;
use super::calls;

/// The table, as far as this kernel has it.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Offsets; [`ABSENT`] where the kernel lacks a member.
    pub offsets: KernelOffsets,
    /// The optional members that this kernel lacks.
    pub missing: Vec<&'static Member>,
}

/// Why the agent cannot work with this kernel's structures.
#[derive(Clone, Debug)]
pub enum OffsetsError {
    /// Required members that the BTF does not have.
    Missing(Vec<&'static Member>),
    /// A word that system calls are read from is not in the BTF.
    Syscall(&'static str),
    /// The architecture is not supported.
    Arch(String),
}

impl fmt::Display for OffsetsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const REMEDY: &str = "run a kernel from 5.10 to the newest that this version of tracer \
            knows, or if --btf was given, give the BTF of the running kernel";
        match self {
            Self::Missing(members) => {
                f.write_str("kernel not supported: its BTF has no ")?;
                for (at, member) in members.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{}", member.names.join(" or "))?;
                }
                write!(f, "; {REMEDY}")
            }
            Self::Syscall(name) => {
                write!(f, "kernel not supported: its BTF has no {name}; {REMEDY}")
            }
            Self::Arch(arch) => write!(
                f,
                "architecture {arch} is not supported; x86_64 and aarch64 are"
            ),
        }
    }
}

impl std::error::Error for OffsetsError {}

/// Answers every row of the table.
///
/// # Errors
///
/// Where a required member is missing: all of them are named.
pub fn resolve(btf: &Btf) -> Result<Resolved, OffsetsError> {
    let mut missing = Vec::new();
    let mut required = Vec::new();
    let offsets = KernelOffsets::resolve(|member| {
        let found = member.names.iter().find_map(|name| btf.lookup(name));
        found.unwrap_or_else(|| {
            if member.required {
                &mut required
            } else {
                &mut missing
            }
            .push(member);
            ABSENT
        })
    });
    if required.is_empty() {
        Ok(Resolved { offsets, missing })
    } else {
        Err(OffsetsError::Missing(required))
    }
}

/// Why this kernel's own functions would not tell all that they are to; `None` where they do. Known before
/// anything is loaded: the programs would attach and stay silent.
#[must_use]
pub fn refusal(offsets: &KernelOffsets, control: &Control) -> Option<&'static str> {
    let arguments = control.arguments.get(Function::Rename as usize);
    let is_told = offsets.rename_old_dentry != ABSENT
        && offsets.rename_new_dentry != ABSENT
        && arguments == Some(&1);
    (!is_told).then_some(
        "vfs_rename does not take a struct renamedata (5.12, and later versions of 5.10), so files \
         that are renamed would not be told",
    )
}

/// Where the tracepoints of io_uring have their arguments: they changed more often than any other's.
/// Known by which of them are pointers.
fn uring(btf: &Btf) -> Control {
    let pointers = |name| btf.tracepoint_pointers(name).unwrap_or_default();
    let submit = ["io_uring_submit_req", "io_uring_submit_sqe"].map(pointers);
    let submitted = submit.iter().find(|arguments| !arguments.is_empty());
    let request = match submitted.map(Vec::as_slice) {
        // The request alone since 6.3, with a flag since 6.0.
        Some([true] | [true, false]) => 0,
        // The ring before it; before 5.12 there is none.
        Some([true, true, ..]) => 1,
        _ => ABSENT,
    };
    let absent = Control {
        uring_submit_request: request,
        uring_complete_request: ABSENT,
        uring_complete_user_data: ABSENT,
        uring_complete_result: ABSENT,
        uring_complete_entry: ABSENT,
        ..Control::ZERO
    };
    match pointers("io_uring_complete").as_slice() {
        // Ring, request, completion entry since 6.15.
        [true, true, true, ..] => Control {
            uring_complete_request: 1,
            uring_complete_entry: 2,
            ..absent
        },
        // Ring, request, the caller's number, result since 5.17.
        [true, true, false, false, ..] => Control {
            uring_complete_request: 1,
            uring_complete_user_data: 2,
            uring_complete_result: 3,
            ..absent
        },
        // Ring, the caller's number, result.
        [true, false, false, ..] => Control {
            uring_complete_user_data: 1,
            uring_complete_result: 2,
            ..absent
        },
        _ => absent,
    }
}

/// The programs that see nothing on this kernel, by slot: those of io_uring, where neither tracepoint has
/// the request.
#[must_use]
pub const fn blind(control: &Control) -> &'static [u32] {
    if control.uring_submit_request == ABSENT {
        &[SLOT_URING_SUBMIT, SLOT_URING_COMPLETE]
    } else {
        &[]
    }
}

/// Settings of the kernel side: where system calls of `arch` (as in `std::env::consts::ARCH`) have
/// their number and arguments, and whose own work to pass over.
///
/// # Errors
///
/// Where the architecture is not supported, or its registers are not in the BTF.
pub fn control(btf: &Btf, arch: &str, own_tgid: u32) -> Result<Control, OffsetsError> {
    let at = |name: &'static str| btf.lookup(name).ok_or(OffsetsError::Syscall(name));
    let (mut arguments, mut dentries) = ([ABSENT; FUNCTIONS], [ABSENT; FUNCTIONS]);
    for (function, (arguments, dentry)) in Function::ALL
        .iter()
        .zip(arguments.iter_mut().zip(&mut dentries))
    {
        *arguments = btf.arguments(function.name()).unwrap_or(ABSENT);
        *dentry = btf
            .parameter(function.name(), function.dentry())
            .unwrap_or(ABSENT);
    }
    let base = Control {
        own_tgid,
        arguments,
        dentries,
        quota_per_second: QUOTA_PER_SECOND,
        ..uring(btf)
    };
    match arch {
        "x86_64" => Ok(Control {
            // The number at entry; `ax` holds the result at exit. Other registers are as the
            // caller left them: arch/x86/entry/calling.h, PUSH_REGS.
            nr_offset: at("pt_regs.orig_ax")?,
            // TS_COMPAT, set for the length of a 32-bit call (int 0x80, sysenter), also one made by
            // a 64-bit process: arch/x86/include/asm/thread_info.h, arch/x86/entry/syscall_32.c
            // (common.c on older kernels).
            compat_offset: at("task_struct.thread_info.status")?,
            compat_shift: 1,
            // __X32_SYSCALL_BIT: arch/x86/include/uapi/asm/unistd.h. The calls of the table have the
            // same numbers with and without it.
            x32_mask: 0x4000_0000,
            abi: [
                // arch/x86/include/asm/syscall_wrapper.h, SC_X86_64_REGS_TO_ARGS.
                SyscallAbi {
                    arg: [
                        at("pt_regs.di")?,
                        at("pt_regs.si")?,
                        at("pt_regs.dx")?,
                        at("pt_regs.r10")?,
                        at("pt_regs.r8")?,
                        at("pt_regs.r9")?,
                    ],
                },
                // The same file, SC_IA32_REGS_TO_ARGS.
                SyscallAbi {
                    arg: [
                        at("pt_regs.bx")?,
                        at("pt_regs.cx")?,
                        at("pt_regs.dx")?,
                        at("pt_regs.si")?,
                        at("pt_regs.di")?,
                        at("pt_regs.bp")?,
                    ],
                },
            ],
            calls: [calls::table(calls::X86_64), calls::table(calls::I386)],
            ..base
        }),
        "aarch64" => {
            let register = |number: u32| {
                let first = at("pt_regs.regs")?;
                first
                    .checked_add(8 * number)
                    .ok_or(OffsetsError::Syscall("pt_regs.regs"))
            };
            // regs[0] holds the result at exit, orig_x0 the argument, for 32-bit callers too:
            // arch/arm64/kernel/syscall.c, el0_svc_common.
            let arg = [
                at("pt_regs.orig_x0")?,
                register(1)?,
                register(2)?,
                register(3)?,
                register(4)?,
                register(5)?,
            ];
            Ok(Control {
                nr_offset: at("pt_regs.syscallno")?,
                // TIF_32BIT, a property of the process: arch/arm64/include/asm/thread_info.h. The
                // flags are 64 bits, and this is the lower half of them.
                compat_offset: at("task_struct.thread_info.flags")?,
                compat_shift: 22,
                abi: [SyscallAbi { arg }, SyscallAbi { arg }],
                calls: [calls::table(calls::AARCH64), calls::table(calls::ARM)],
                ..base
            })
        }
        other => Err(OffsetsError::Arch(other.to_owned())),
    }
}
