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
use tracer_common::probe::{SLOT_SYS_ENTER, SLOT_SYS_EXIT, Tier};
use tracer_common::tag::Tag;

use super::network::call as network;
use super::{change, file, privilege, process};
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

/// `trace_sys_enter(regs, id)` (`syscall_trace_enter`, kernel/entry): ptrace(2) and seccomp(2) had
/// their say, the call has not begun. For calls with names by server lineages: their strings are kept to
/// be held against those after the call. The number is an argument, so that the cost to every other
/// call is a look into the table.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn sys_enter(ctx: RawTracePointContext) -> i32 {
    let number: u32 = ctx.arg(1);
    let number = number & !control!(x32_mask);
    let is_change = change::is_change(Abi(0).code(number));
    if number >= CALL_NUMBERS as u32 || !(is_change || change::is_change(Abi(1).code(number))) {
        return 0;
    }
    let Some(task) = Task::current() else {
        return 0;
    };
    // Before any map: what is a change by the 32-bit convention alone, hosts call all the time by the
    // other (mmap, munmap, mprotect, ioctl).
    if !is_change && Abi::of(task).is_native() {
        return 0;
    }
    let tgid = ctx.tgid();
    let tag = guard::tag(tgid);
    if !tag.is_server_lineage() || tgid == kernel::own_tgid() {
        return 0;
    }
    let abi = Abi::of(task);
    let call = Syscall {
        code: abi.code(number),
        abi,
        registers: Registers::new(ctx.arg(0)),
        result: 0,
    };
    if change::is_change(call.code) {
        let caller = caller(&ctx, task, tag, abi, SLOT_SYS_ENTER);
        change::begins(&caller, &call);
    }
    0
}

/// `trace_sys_exit(regs, ret)` (`syscall_exit_work`, kernel/entry): the call is done, its result is
/// known and a new descriptor is installed, but the caller has not seen it. The raw tracepoint
/// fires for every convention, 32-bit and x32 included, which the per-call ones do not.
///
/// The order of the tests is the cost of every system call on the host: number, convention, tag.
#[raw_tracepoint(tracepoint = "sys_exit")]
#[inline(always)]
pub fn sys_exit(ctx: RawTracePointContext) -> i32 {
    let mut sockets = false;
    call(&ctx, &mut sockets);
    if sockets {
        network::tell(SLOT_SYS_EXIT);
    }
    0
}

/// All but the telling of sockets, which has its own functions and needs the stack that this one gives
/// back. `sockets` is whether they have something to tell.
#[inline(never)]
fn call(ctx: &RawTracePointContext, sockets: &mut bool) {
    let registers = Registers::new(ctx.arg(0));
    let Some(number) = registers.number() else {
        return;
    };
    if !of_interest(number) {
        return;
    }
    let Some(task) = Task::current() else {
        return;
    };
    let native = Abi(0).code(number);
    // Before any map: what is of interest by the 32-bit convention alone, hosts call all the time by the
    // other (fstat, lseek, mprotect, munmap, getpid).
    if native == 0 && Abi::of(task).is_native() {
        return;
    }
    let tgid = ctx.tgid();
    let entry = guard::entry(tgid);
    let is_noted = entry != Tag::ZERO;
    let may_be_told = is_noted || of_anyone(native) || of_anyone(Abi(1).code(number));
    if !may_be_told || tgid == kernel::own_tgid() {
        return;
    }
    let abi = Abi::of(task);
    let code = abi.code(number);
    // By their own convention: mmap is link by the other.
    if !is_noted && !of_anyone(code) {
        return;
    }
    let call = Syscall {
        code,
        abi,
        registers,
        result: ctx.arg(1),
    };
    let mut tag = Tag::ZERO;
    if entry.is_server_lineage() {
        tag = entry;
    } else if is_noted && call.is(Call::Open) && !call.failed() {
        let caller = caller(ctx, task, tag, abi, SLOT_SYS_EXIT);
        tag = process::script(&caller, entry, call.result as u32);
    }
    if tag.is_server_lineage() || of_anyone(call.code) {
        let caller = caller(ctx, task, tag, abi, SLOT_SYS_EXIT);
        if network::is_network(&call) {
            // A connection that has begun is an error too.
            *sockets = network::done(&caller, &call);
        } else {
            dispatch(&caller, &call);
        }
    }
}

#[inline(always)]
fn caller(ctx: &RawTracePointContext, task: Task, tag: Tag, abi: Abi, slot: u32) -> Caller {
    Caller {
        task,
        tgid: ctx.tgid(),
        tid: ctx.pid(),
        // SAFETY: a live local. Volatile, so that what was found out about it is forgotten: the verifier
        // then sees what follows once, and not once with a tag and once without.
        tag: unsafe { read_volatile(&raw const tag) },
        slot,
        tier: Tier::Tracepoint,
        flags: abi.flags(),
    }
}

/// Whether a call is looked at whoever makes it: it may be about a file that a server's lineage wrote
/// or, where that was asked for, lie in a watched directory; or it may make the caller a server.
#[inline(always)]
fn of_anyone(code: u8) -> bool {
    change::is_change(code)
        || code == Call::Accept.code()
        || control!(any_writer) != 0 && code == Call::Open.code()
}

/// A call that begins or is done.
pub struct Syscall {
    /// [`Call::code`]
    pub code: u8,
    /// How it came.
    pub abi: Abi,
    /// What it came with.
    pub registers: Registers,
    /// What it returned: a negative error, else by call.
    pub result: i64,
}

impl Syscall {
    /// One of its six arguments, as the caller left it in the register.
    #[inline(always)]
    pub fn arg<const N: usize>(&self) -> u64 {
        self.registers.at(setting!(self.abi, arg[N])) & self.abi.mask()
    }

    /// The same by a number that is not known beforehand; zero where it has no such argument.
    #[inline(always)]
    pub fn arg_at(&self, at: u8) -> u64 {
        if at >= 6 {
            return 0;
        }
        let offsets = (&raw const kernel::CONTROL.abi).cast::<u32>();
        let at = self.abi.0 * 6 + at as usize;
        // SAFETY: the convention is 0 or 1 and the argument below 6, so the index lies in the two tables,
        // which are contiguous; volatile as in `setting!`.
        let offset = unsafe { read_volatile(offsets.add(at)) };
        self.registers.at(offset) & self.abi.mask()
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
        if privilege::is_exec(call) {
            privilege::exec_failed(caller, call);
        } else if change::is_change(call.code) {
            change::failed(caller);
        }
        return;
    }
    if privilege::is_privilege(call) {
        privilege::done(caller, call);
    } else if file::is_use(call) {
        file::done(caller, call);
    } else if change::is_change(call.code) {
        change::done(caller, call);
    }
}

/// Whether a number is one of ours in either convention: the caller's own is looked at next.
#[inline(always)]
fn of_interest(number: u32) -> bool {
    number < CALL_NUMBERS as u32 && Abi(0).code(number) | Abi(1).code(number) != 0
}

/// A convention: its index in [`Control::abi`](tracer_common::control::Control::abi), 0 or 1.
#[derive(Clone, Copy)]
pub struct Abi(usize);

impl Abi {
    /// The convention of the call that the task is in. The bit itself is the index, without a branch:
    /// the verifier then goes through what follows once, for any convention, and not once for each.
    #[inline(always)]
    pub fn of(task: Task) -> Self {
        Self((task.compat_word() >> control!(compat_shift)) as usize & 1)
    }

    /// Whether it is the kernel's own.
    #[inline(always)]
    fn is_native(self) -> bool {
        self.0 == 0
    }

    /// Flags of what came by it.
    #[inline(always)]
    pub fn flags(self) -> u16 {
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
