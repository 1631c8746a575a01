//! The tracepoint tier's view of system calls: which call it is, by whom, and who tells of it.
//!
//! Only the dispatch is here; what a call means is in `file`, `change`, `network` and `privilege`.

use core::ptr::read_volatile;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use tracer_common::control::{Call, SyscallAbi};
use tracer_common::event::flag;
use tracer_common::limits::CALL_NUMBERS;
use tracer_common::probe::{SLOT_SYS_EXIT, Tier};

use super::{change, file};
use crate::guard;
use crate::kernel::{self, Registers, Task, control};
use crate::output::Caller;

/// Reads a setting of a convention.
macro_rules! setting {
    ($abi:expr, $($field:tt)+) => {{
        let table = (&raw const kernel::CONTROL.abi).cast::<SyscallAbi>();
        // SAFETY: the index is 0 or 1, of two; volatile, because user space sets the table after
        // compilation.
        unsafe { read_volatile(&raw const (*table.add($abi.0)).$($field)+) }
    }};
}

/// `trace_sys_exit(regs, ret)` (`syscall_exit_work`, kernel/entry): the call is done, its result is
/// known and a new descriptor is installed, but the caller has not seen it. The raw tracepoint
/// fires for every convention, 32-bit and x32 included, which the per-call ones do not.
///
/// The order of the tests is the cost of every system call on the host: number, tag.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit(ctx: RawTracePointContext) -> i32 {
    let registers = Registers::new(ctx.arg(0));
    let Some(number) = registers.number() else {
        return 0;
    };
    if !of_interest(number) {
        return 0;
    }
    let tgid = ctx.tgid();
    let tag = guard::tag(tgid);
    if !tag.is_server_lineage() || tgid == kernel::own_tgid() {
        return 0;
    }
    let Some(task) = Task::current() else {
        return 0;
    };
    let abi = Abi::of(task);
    let caller = Caller {
        task,
        tgid,
        tid: ctx.pid(),
        tag,
        slot: SLOT_SYS_EXIT,
        tier: Tier::Tracepoint,
        flags: abi.flags(),
    };
    let call = Syscall {
        code: abi.code(number),
        abi,
        registers,
        result: ctx.arg(1),
    };
    dispatch(&caller, &call);
    0
}

/// A call that is done.
pub struct Syscall {
    /// [`Call::code`]
    pub code: u8,
    abi: Abi,
    registers: Registers,
    /// What it returned: a negative error, else by call.
    pub result: i64,
}

impl Syscall {
    /// One of its six arguments, as the caller left it in the register.
    #[inline(always)]
    pub fn arg<const N: usize>(&self) -> u64 {
        self.registers.at(setting!(self.abi, arg[N])) & self.abi.mask()
    }

    /// Whether it returned an error (`IS_ERR_VALUE`, include/linux/err.h): the address that an mmap(2)
    /// gave may be negative as a number too.
    #[inline(always)]
    pub fn failed(&self) -> bool {
        self.result as u64 > -4096_i64 as u64
    }

    /// Whether it is this call.
    #[inline(always)]
    pub fn is(&self, call: Call) -> bool {
        self.code == call.code()
    }
}

/// Each family is asked once and knows its own calls, so that its body is there once.
#[inline(always)]
fn dispatch(caller: &Caller, call: &Syscall) {
    if call.failed() {
        return;
    }
    if file::is_use(call) {
        file::done(caller, call);
    } else if change::is_change(call) {
        change::done(caller, call);
    }
}

/// Whether a number is one of ours in either convention. A number that means something else in the
/// caller's own is sorted out after the tag test.
#[inline(always)]
fn of_interest(number: u32) -> bool {
    number < CALL_NUMBERS as u32 && Abi(0).code(number) | Abi(1).code(number) != 0
}

/// A convention: its index in [`Control::abi`](tracer_common::control::Control::abi), 0 or 1.
#[derive(Clone, Copy)]
struct Abi(usize);

impl Abi {
    /// The convention of the call that the task is in. The bit itself is the index, without a branch:
    /// the verifier then goes through what follows once, for any convention, and not once for each.
    #[inline(always)]
    fn of(task: Task) -> Self {
        Self((task.compat_word() >> control!(compat_shift)) as usize & 1)
    }

    #[inline(always)]
    fn flags(self) -> u16 {
        (self.0 as u16) * flag::COMPAT
    }

    /// The bits of a register that count: the kernel does not look at the upper half of one that came by
    /// the 32-bit convention, and neither may we (`SC_IA32_REGS_TO_ARGS`,
    /// arch/x86/include/asm/syscall_wrapper.h).
    #[inline(always)]
    fn mask(self) -> u64 {
        u64::MAX >> (self.0 * 32)
    }

    /// What a number means in this convention: a [`Call`], or zero.
    #[inline(always)]
    fn code(self, number: u32) -> u8 {
        let at = self.0 * CALL_NUMBERS + (number as usize & (CALL_NUMBERS - 1));
        let table = (&raw const kernel::CONTROL.calls).cast::<u8>();
        // SAFETY: the convention is 0 or 1 and the number below the table's length, so the index lies
        // in the two tables, which are contiguous; volatile as in `setting!`.
        unsafe { read_volatile(table.add(at)) }
    }
}
