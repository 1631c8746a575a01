//! ptrace(2) as a debugger uses it: a child that is stopped at each of its calls, and its registers.

use std::io;
use std::ptr;

use libc::{c_int, c_long, c_void};

use super::{Result, kill, number, pid};

/// `NT_PRSTATUS`, include/uapi/linux/elf.h
const NT_PRSTATUS: usize = 1;
/// `NT_ARM_SYSTEM_CALL`, include/uapi/linux/elf.h
#[cfg(target_arch = "aarch64")]
const NT_ARM_SYSTEM_CALL: usize = 0x404;

fn request(request: impl Into<i64>, target: u32, address: usize, data: *mut c_void) -> Result<()> {
    // SAFETY: what `data` points to, where the request takes memory, is the caller's and outlives the
    // call; the target is a child that is stopped for us.
    number(unsafe { libc::syscall(libc::SYS_ptrace, request.into(), target, address, data) })
        .map(|_| ())
}

/// In a child: stops for its creator, who traces it from then on.
pub(crate) fn traced() {
    request(libc::PTRACE_TRACEME, 0, 0, ptr::null_mut()).unwrap();
    kill(pid(), libc::SIGSTOP);
}

/// Waits until a child stops; gives the signal that it stopped with, or `None` where it ended.
pub(crate) fn stopped(child: u32) -> Option<c_int> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let one = unsafe { libc::waitpid(child as libc::pid_t, &raw mut status, libc::__WALL) };
    assert_eq!(one, child as i32, "{}", io::Error::last_os_error());
    libc::WIFSTOPPED(status).then(|| libc::WSTOPSIG(status))
}

/// Lets it go on to the begin or the end of its next call.
pub(crate) fn to_next_call(child: u32) {
    request(libc::PTRACE_SYSCALL, child, 0, ptr::null_mut()).unwrap();
}

/// Makes stops at calls differ from signals (`SIGTRAP | 0x80`), and the child end with its tracer.
pub(crate) fn tell_calls(child: u32) {
    let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
    request(
        libc::PTRACE_SETOPTIONS,
        child,
        0,
        ptr::without_provenance_mut(options as usize),
    )
    .unwrap();
}

/// The registers of a child that is stopped.
pub(crate) struct Registers(libc::user_regs_struct);

impl Registers {
    /// Reads them.
    pub(crate) fn of(child: u32) -> Self {
        // SAFETY: numbers, for which zero is a value.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        let mut part = part(&mut registers);
        request(
            libc::PTRACE_GETREGSET,
            child,
            NT_PRSTATUS,
            (&raw mut part).cast(),
        )
        .unwrap();
        Self(registers)
    }

    /// Which call it begins.
    pub(crate) fn call(&self) -> c_long {
        #[cfg(target_arch = "x86_64")]
        return self.0.orig_rax as c_long;
        #[cfg(target_arch = "aarch64")]
        return self.0.regs[8] as c_long;
    }

    /// Has it make another call, with these first arguments.
    pub(crate) fn replace(mut self, child: u32, call: c_long, arguments: [u64; 4]) {
        let registers = &mut self.0;
        #[cfg(target_arch = "x86_64")]
        {
            registers.orig_rax = call as u64;
            [registers.rdi, registers.rsi, registers.rdx, registers.r10] = arguments;
        }
        #[cfg(target_arch = "aarch64")]
        {
            registers.regs[8] = call as u64;
            registers.regs[..4].copy_from_slice(&arguments);
            let mut call = call as c_int;
            let mut part = part(&mut call);
            request(
                libc::PTRACE_SETREGSET,
                child,
                NT_ARM_SYSTEM_CALL,
                (&raw mut part).cast(),
            )
            .unwrap();
        }
        let mut part = part(registers);
        request(
            libc::PTRACE_SETREGSET,
            child,
            NT_PRSTATUS,
            (&raw mut part).cast(),
        )
        .unwrap();
    }
}

fn part<T>(of: &mut T) -> libc::iovec {
    libc::iovec {
        iov_base: ptr::from_mut(of).cast(),
        iov_len: size_of::<T>(),
    }
}
