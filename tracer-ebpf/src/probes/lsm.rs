//! The tier of the kernel's own functions: what it has resolved and decided, whichever way a call came.
//!
//! Programs run at the begin (fentry) or the end (fexit) of functions, and only watch. To deny is another
//! matter and would have a program of its own at a `security_*` hook, which these need not know of: what
//! is told here is what came of the kernel's decision, whoever made it. Nothing is read from the
//! caller's memory but the name of an exec that failed, which no hook has
//! ([`execve`](crate::probes::privilege::execve)).

mod attribute;
mod file;
mod mount;
mod name;
mod note;

use core::ffi::c_void;
use core::ptr::read_volatile;

use aya_ebpf::EbpfContext;
use tracer_common::event::flag;
use tracer_common::probe::Tier;
use tracer_common::tag::Tag;

use crate::guard;
use crate::kernel::{self, Task, control};
use crate::output::Caller;

pub use note::forget;

/// The process and thread that a program runs for.
#[derive(Clone, Copy)]
pub struct Who {
    tgid: u32,
    tid: u32,
    tag: Tag,
}

impl Who {
    /// Whoever it is, with its tag; not the agent.
    #[inline(always)]
    pub fn anyone(ctx: &impl EbpfContext) -> Option<Self> {
        let tgid = ctx.tgid();
        if tgid == kernel::own_tgid() {
            return None;
        }
        Some(Self {
            tgid,
            tid: ctx.pid(),
            tag: guard::tag(tgid),
        })
    }

    /// The same, if it is of a server's lineage.
    #[inline(always)]
    pub fn tagged(ctx: &impl EbpfContext) -> Option<Self> {
        Self::anyone(ctx).filter(|who| who.is_tagged())
    }

    /// Whether it is of a server's lineage.
    #[inline(always)]
    pub fn is_tagged(&self) -> bool {
        self.tag.is_server_lineage()
    }

    /// The key of what is kept by thread.
    #[inline(always)]
    fn thread(&self) -> u64 {
        u64::from(self.tgid) << 32 | u64::from(self.tid)
    }

    /// As the subject of what the program in `slot` tells.
    #[inline(always)]
    pub fn caller(self, slot: u32) -> Option<Caller> {
        let task = Task::current()?;
        // A bit and not a branch: see `Abi::of` in `syscall`.
        let compat = (task.compat_word() >> control!(compat_shift)) as u16 & 1;
        let untagged = u16::from(!self.is_tagged());
        Some(Caller {
            task,
            tgid: self.tgid,
            tid: self.tid,
            tag: self.tag,
            slot,
            tier: Tier::Lsm,
            flags: (compat * flag::COMPAT) | (untagged * flag::UNTAGGED),
        })
    }
}

/// The result of a function whose number of arguments differs between kernels; `None` where the kernel
/// lacks it.
macro_rules! result {
    ($ctx:expr, $function:ident) => {{
        const AT: usize = tracer_common::control::Function::$function as usize;
        $crate::probes::lsm::word($ctx.as_ptr(), control!(arguments[AT]))
    }};
}
pub(crate) use result;

/// The dentry that such a function is about, as a number.
macro_rules! dentry {
    ($ctx:expr, $function:ident) => {{
        const AT: usize = tracer_common::control::Function::$function as usize;
        $crate::probes::lsm::word($ctx.as_ptr(), control!(dentries[AT]))
    }};
}
pub(crate) use dentry;

/// A word of what a function takes and gives: its arguments, then its result. Only the row of this kernel survives the verifier, which
/// knows `at`.
#[inline(always)]
fn word(ctx: *mut c_void, at: u32) -> Option<u64> {
    match at {
        0 => Some(fixed::<0>(ctx)),
        1 => Some(fixed::<1>(ctx)),
        2 => Some(fixed::<2>(ctx)),
        3 => Some(fixed::<3>(ctx)),
        4 => Some(fixed::<4>(ctx)),
        5 => Some(fixed::<5>(ctx)),
        6 => Some(fixed::<6>(ctx)),
        _ => None,
    }
}

/// A function of its own, so that the rows of `word` are not made one read at a computed place: the
/// verifier takes constant places only.
#[inline(never)]
fn fixed<const AT: usize>(ctx: *mut c_void) -> u64 {
    // SAFETY: the context has a word for each argument and one for the result, and the verifier
    // refuses any other. Volatile, so that the functions are not made one.
    unsafe { read_volatile(ctx.cast::<u64>().add(AT)) }
}
