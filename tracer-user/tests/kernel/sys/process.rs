//! Calls by which a process becomes something else, or reaches into another.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::AtomicU8;

use libc::{c_int, c_long, c_ulong, c_void};

use super::{Result, nothing, number, pointers};

fn done(result: c_long) -> Result<()> {
    number(result).map(|_| ())
}

/// prctl(2), `PR_SET_NAME`: the name of this thread.
pub(crate) fn set_name(name: &CStr) {
    // SAFETY: the name outlives the call.
    nothing(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }).unwrap();
}

/// A call that takes up to three users or groups. The kernel's own: the C library makes it for all
/// threads.
pub(crate) fn set_one(call: c_long, ids: [u32; 3]) -> Result<()> {
    let [a, b, c] = ids;
    // SAFETY: takes numbers only.
    done(unsafe { libc::syscall(call, a, b, c) })
}

/// capset(2): keeps only these capabilities, of the first 32.
pub(crate) fn set_capabilities(effective: u32, permitted: u32) -> Result<()> {
    // `struct __user_cap_header_struct`, version 3, this process; then two of
    // `struct __user_cap_data_struct` (include/uapi/linux/capability.h).
    let header = [0x2008_0522_u32, 0];
    let data = [effective, permitted, 0, 0, 0, 0];
    // SAFETY: both live through the call and are as large as version 3 says.
    done(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) })
}

/// setns(2)
pub(crate) fn setns(namespace: RawFd, kind: c_int) -> Result<()> {
    // SAFETY: takes numbers only.
    nothing(unsafe { libc::setns(namespace, kind) })
}

/// chroot(2)
pub(crate) fn chroot(path: &CStr) -> Result<()> {
    // SAFETY: the path outlives the call.
    nothing(unsafe { libc::chroot(path.as_ptr()) })
}

/// pivot_root(2)
pub(crate) fn pivot_root(new: &CStr, old: &CStr) -> Result<()> {
    // SAFETY: both paths outlive the call.
    done(unsafe { libc::syscall(libc::SYS_pivot_root, new.as_ptr(), old.as_ptr()) })
}

/// The number of a request of ptrace(2), as the C library has it.
#[cfg(target_env = "gnu")]
pub(crate) type Request = libc::c_uint;
#[cfg(not(target_env = "gnu"))]
pub(crate) type Request = libc::c_int;

/// A request of ptrace(2) that takes no memory: `PTRACE_ATTACH`, `PTRACE_SEIZE`.
pub(crate) fn ptrace(request: Request, target: u32) -> Result<()> {
    // SAFETY: these requests take numbers only.
    done(unsafe { libc::syscall(libc::SYS_ptrace, request as c_ulong, target, 0, 0) })
}

/// process_vm_writev(2) of one byte, onto the same address of another process, which must be a copy of
/// this one.
pub(crate) fn write_memory(target: u32, byte: &AtomicU8) -> Result<u32> {
    let here = libc::iovec {
        iov_base: ptr::from_ref(byte).cast_mut().cast::<c_void>(),
        iov_len: 1,
    };
    // SAFETY: reads a byte that lives through the call; what is written is another process's.
    let written = unsafe {
        libc::process_vm_writev(target as i32, &raw const here, 1, &raw const here, 1, 0)
    };
    number(written as c_long)
}

/// execveat(2) of a name; returns only where it fails.
pub(crate) fn execveat(dir: RawFd, path: &CStr, argv: &[CString]) -> io::Error {
    let (argv, env) = (pointers(argv), pointers(&[]));
    // SAFETY: null-ended lists of strings that live through the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            dir,
            path.as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
            0,
        )
    };
    io::Error::last_os_error()
}

/// A child on our memory that becomes a program, as vfork(2) and posix_spawn(3) make it. Returns when it
/// has.
pub(crate) fn vfork_and_exec(path: &CStr, argv: &[CString]) -> Result<u32> {
    struct Program {
        path: *const libc::c_char,
        argv: *const *const libc::c_char,
    }
    extern "C" fn child(program: *mut c_void) -> c_int {
        // SAFETY: the creator's, which sleeps until we have executed or ended.
        let program = unsafe { &*program.cast::<Program>() };
        // SAFETY: a null-ended list of strings, the creator's too.
        unsafe { libc::execve(program.path, program.argv, ptr::null()) };
        super::leave(1)
    }
    let argv = pointers(argv);
    let mut program = Program {
        path: path.as_ptr(),
        argv: argv.as_ptr(),
    };
    let mut stack = vec![0_u128; 4096];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the child has a stack of its own, which outlives its use: CLONE_VFORK holds us until it
    // has executed or ended. So does what it is handed.
    let pid = unsafe {
        libc::clone(
            child,
            stack.as_mut_ptr_range().end.cast(),
            flags,
            (&raw mut program).cast(),
        )
    };
    number(pid.into())
}

/// prctl(2), `PR_SET_CHILD_SUBREAPER`: orphans below become our children.
pub(crate) fn adopt_orphans() {
    // SAFETY: takes numbers only.
    nothing(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }).unwrap();
}

/// sched_setscheduler(2), `SCHED_IDLE`: runs when nobody else would.
pub(crate) fn yield_to_all() {
    let priority: c_int = 0;
    // SAFETY: `struct sched_param` is a number, which outlives the call.
    done(unsafe {
        libc::syscall(
            libc::SYS_sched_setscheduler,
            0,
            libc::SCHED_IDLE,
            &raw const priority,
        )
    })
    .unwrap();
}

/// Writes over the words that this process was given.
pub(crate) fn overwrite_arguments(byte: u8) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    // `arg_start` and `arg_end`, fields 48 and 49 of proc(5).
    let mut fields = fields.split_whitespace().skip(48 - 3);
    let mut next = || -> usize { fields.next().unwrap().parse().unwrap() };
    let (start, end) = (next(), next());
    // SAFETY: the words lie on our stack's end, which can be written, and nobody reads them meanwhile.
    unsafe {
        ptr::write_bytes(
            ptr::with_exposed_provenance_mut::<u8>(start),
            byte,
            end - start,
        )
    };
}

/// bpf(2), `BPF_MAP_UPDATE_ELEM`: zeroes the first value of an array.
pub(crate) fn change_map(map: RawFd, value_size: u64) -> io::Result<()> {
    const UPDATE: c_int = 2;
    let (key, value) = (0_u32, vec![0_u8; value_size as usize]);
    // `union bpf_attr`: map_fd, key, value, flags
    let attributes = [
        map as u64,
        (&raw const key) as u64,
        value.as_ptr() as u64,
        0,
    ];
    let size = size_of_val(&attributes);
    // SAFETY: the attributes, the key and the value outlive the call, the latter as long as the map says.
    done(unsafe { libc::syscall(libc::SYS_bpf, UPDATE, attributes.as_ptr(), size) })
}

/// mount(2) without options.
pub(crate) fn mount(from: &CStr, to: &CStr, kind: &CStr, flags: c_ulong) -> Result<()> {
    // SAFETY: strings that live through the call; no options.
    nothing(unsafe {
        libc::mount(
            from.as_ptr(),
            to.as_ptr(),
            kind.as_ptr(),
            flags,
            ptr::null(),
        )
    })
}

/// Numbers of arch/x86/entry/syscalls/syscall_32.tbl.
#[cfg(target_arch = "x86_64")]
pub(crate) mod compat {
    pub(crate) const EXECVE: u32 = 11;
    pub(crate) const SETUID16: u32 = 23;
    pub(crate) const PTRACE: u32 = 26;
    pub(crate) const SETGID16: u32 = 46;
    pub(crate) const SETRESUID16: u32 = 164;
    pub(crate) const SETRESUID: u32 = 208;
    pub(crate) const SETUID: u32 = 213;
    pub(crate) const SETGID: u32 = 214;
    pub(crate) const UNSHARE: u32 = 310;
    pub(crate) const EXECVEAT: u32 = 358;
}
