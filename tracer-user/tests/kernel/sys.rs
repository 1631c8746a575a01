//! The system calls of the tests, each behind a signature that cannot be used wrongly.
//!
//! Raw calls where the test is about the call itself: the C library has its own mind about which of
//! open, openat and openat2 it makes.

pub(crate) mod process;

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;
use std::time::Duration;

use libc::{c_char, c_int, c_long, c_void};

pub(crate) mod debug;
pub(crate) mod files;

type Result<T> = io::Result<T>;

/// A path or word as the kernel takes it.
pub(crate) fn c(text: impl AsRef<Path>) -> CString {
    CString::new(text.as_ref().as_os_str().as_bytes()).unwrap()
}

fn number(result: c_long) -> Result<u32> {
    u32::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn nothing(result: c_int) -> Result<()> {
    number(result.into()).map(|_| ())
}

fn descriptor(result: c_long) -> Result<OwnedFd> {
    let fd = number(result)? as RawFd;
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pointers of a list of words, with the null that ends it. They live as long as the words.
fn pointers(words: &[CString]) -> Vec<*const c_char> {
    let words = words.iter().map(|word| word.as_ptr());
    words.chain([ptr::null()]).collect()
}

/// Zero in the child. The test program has one thread, so the child may do anything.
pub(crate) fn fork() -> Result<u32> {
    // SAFETY: one thread, no lock is held.
    number(unsafe { libc::fork() }.into())
}

/// A copy of this process, by clone(2) with these flags; zero in the child.
pub(crate) fn clone(flags: c_int) -> Result<u32> {
    assert_eq!(
        flags & libc::CLONE_VM,
        0,
        "a shared memory needs a stack of its own"
    );
    // SAFETY: without CLONE_VM and with a null stack this is a fork.
    number(unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0) })
}

/// A copy of this process with a number of our choice, by clone3(2); zero in the child.
pub(crate) fn clone_with_number(pid: u32) -> Result<u32> {
    let set_tid = [pid as libc::pid_t];
    // `struct clone_args` of Linux 5.5 (include/uapi/linux/sched.h), in words.
    let mut arguments = [0_u64; 10];
    arguments[4] = libc::SIGCHLD as u64;
    arguments[8] = set_tid.as_ptr() as u64;
    arguments[9] = 1;
    // SAFETY: the arguments and the array they point to live through the call; a fork as above.
    number(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            arguments.as_ptr(),
            size_of_val(&arguments),
        )
    })
}

/// What vfork(2) does: a child on our memory, and us asleep until it has ended, which it does at
/// once.
pub(crate) fn vfork_and_leave() -> Result<u32> {
    extern "C" fn child(_: *mut c_void) -> c_int {
        leave(0)
    }
    let mut stack = vec![0_u128; 4096];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the child has a stack of its own, which outlives it: CLONE_VFORK holds us until it
    // has ended.
    let pid = unsafe {
        libc::clone(
            child,
            stack.as_mut_ptr_range().end.cast(),
            flags,
            ptr::null_mut(),
        )
    };
    number(pid.into())
}

/// posix_spawn(3) with an empty environment.
pub(crate) fn spawn(path: &CStr, argv: &[CString]) -> Result<u32> {
    let mut pid = 0;
    let (argv, env) = (pointers(argv), pointers(&[]));
    // SAFETY: null-ended lists of strings that live through the call.
    let error = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            path.as_ptr(),
            ptr::null(),
            ptr::null(),
            argv.as_ptr().cast(),
            env.as_ptr().cast(),
        )
    };
    if error == 0 {
        number(pid.into())
    } else {
        Err(io::Error::from_raw_os_error(error))
    }
}

/// Ends this process at once: no destructor, no flush.
pub(crate) fn leave(code: i32) -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(code) }
}

/// Ends this thread, and the process only where it is the last.
pub(crate) fn leave_thread(code: i32) -> ! {
    // SAFETY: does not return; what the thread owns stays allocated.
    unsafe { libc::syscall(libc::SYS_exit, code) };
    unreachable!("exit(2) returned")
}

/// execve(2); returns only where it fails.
pub(crate) fn execve(path: &CStr, argv: &[CString], env: &[CString]) -> io::Error {
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: null-ended lists of strings that live through the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// execveat(2) of an open file; returns only where it fails.
pub(crate) fn fexecve(file: RawFd, argv: &[CString], env: &[CString]) -> io::Error {
    let (argv, env) = (pointers(argv), pointers(env));
    let empty = c"".as_ptr();
    // SAFETY: as for `execve`.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file,
            empty,
            argv.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// The status of a child that has ended, taken from the kernel; `None` while it runs.
pub(crate) fn reap(pid: u32) -> Result<Option<i32>> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let ended = unsafe { libc::waitpid(pid as libc::pid_t, &raw mut status, libc::WNOHANG) };
    Ok((number(ended.into())? != 0).then_some(status))
}

/// Waits for the end of a child.
pub(crate) fn wait(pid: u32) {
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(pid as libc::pid_t, std::ptr::null_mut(), 0) };
}

/// Sends a signal.
pub(crate) fn kill(pid: u32, signal: c_int) {
    // SAFETY: takes numbers only.
    let _gone = unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// Takes a signal as the kernel does without our doing: Rust ignores some.
pub(crate) fn default_action(signal: c_int) {
    // SAFETY: no handler of ours is involved.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Have the kernel kill us when our creator ends: no test leaves a process behind.
pub(crate) fn die_with_parent() {
    // SAFETY: takes numbers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Waits until one of the files has something to read (or has come to its end), or time is up.
pub(crate) fn wait_readable(fds: &[RawFd], limit: Duration) -> bool {
    let mut fds: Vec<_> = fds
        .iter()
        .map(|&fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let limit = c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: the list outlives the call.
    unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, limit) > 0 }
}

/// A pipe: the end to read from, the end to write to. Neither survives an exec.
pub(crate) fn pipe() -> (File, File) {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two.
    nothing(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }).unwrap();
    // SAFETY: the kernel has just given them to us alone.
    ends.map(|fd| unsafe { File::from_raw_fd(fd) }).into()
}

/// Makes `to` the same file as `from`; it survives an exec.
pub(crate) fn dup2(from: RawFd, to: RawFd) {
    // SAFETY: takes numbers only; the tests use it on the standard descriptors of a child.
    nothing(unsafe { libc::dup2(from, to) }).unwrap();
}

/// fchdir(2)
pub(crate) fn chdir(folder: &File) {
    // SAFETY: takes a number only.
    nothing(unsafe { libc::fchdir(folder.as_raw_fd()) }).unwrap();
}

/// Closes a standard descriptor of a child.
pub(crate) fn close(fd: RawFd) {
    // SAFETY: nobody in the child owns its standard descriptors.
    nothing(unsafe { libc::close(fd) }).unwrap();
}

/// A socket pair of the unix family.
pub(crate) fn socketpair() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: `ends` has room for two.
    nothing(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) }).unwrap();
    // SAFETY: the kernel has just given them to us alone.
    ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).into()
}

/// An anonymous file in memory.
pub(crate) fn memfd(name: &CStr) -> Result<File> {
    // SAFETY: the name outlives the call.
    descriptor(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) }.into())
        .map(File::from)
}

/// A terminal's master side, and the path of its slave.
pub(crate) fn terminal() -> Result<(OwnedFd, CString)> {
    // SAFETY: takes numbers only.
    let master = descriptor(unsafe { libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY) }.into())?;
    let mut name = [0_u8; 64];
    // SAFETY: an open descriptor; the name has as much room as is said.
    unsafe {
        nothing(libc::grantpt(master.as_raw_fd()))?;
        nothing(libc::unlockpt(master.as_raw_fd()))?;
        nothing(libc::ptsname_r(
            master.as_raw_fd(),
            name.as_mut_ptr().cast(),
            name.len(),
        ))?;
    }
    Ok((
        master,
        CStr::from_bytes_until_nul(&name).unwrap().to_owned(),
    ))
}

/// Makes a terminal the controlling one of a session leader.
pub(crate) fn take_terminal(fd: RawFd) -> Result<()> {
    // SAFETY: takes numbers only.
    nothing(unsafe { libc::ioctl(fd, libc::TIOCSCTTY, 0) })
}

/// Begins a session.
pub(crate) fn setsid() {
    // SAFETY: takes nothing.
    nothing(unsafe { libc::setsid() }).unwrap();
}

/// Becomes the leader of a process group.
pub(crate) fn lead_group() {
    // SAFETY: takes numbers only.
    nothing(unsafe { libc::setpgid(0, 0) }).unwrap();
}

/// Our own number.
pub(crate) fn pid() -> u32 {
    std::process::id()
}

/// The parent's.
pub(crate) fn ppid() -> u32 {
    std::os::unix::process::parent_id()
}

/// This thread's number.
pub(crate) fn tid() -> u32 {
    // SAFETY: takes nothing.
    number(unsafe { libc::syscall(libc::SYS_gettid) }).unwrap()
}

/// Groups and users: real, effective, saved. No supplementary groups are kept.
pub(crate) fn set_ids(users: [u32; 3], groups: [u32; 3]) {
    let ([uid, euid, suid], [gid, egid, sgid]) = (users, groups);
    // SAFETY: takes numbers and an empty list.
    unsafe {
        nothing(libc::setgroups(0, ptr::null())).unwrap();
        nothing(libc::setresgid(gid, egid, sgid)).unwrap();
        nothing(libc::setresuid(uid, euid, suid)).unwrap();
    }
}

/// At most so many processes of our user.
pub(crate) fn limit_processes(most: u64) {
    let limit = libc::rlimit {
        rlim_cur: most,
        rlim_max: most,
    };
    // SAFETY: the limit outlives the call.
    nothing(unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit) }).unwrap();
}

/// Have the kernel reap our children.
pub(crate) fn reap_nobody() {
    // SAFETY: no handler of ours is involved.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// The CPUs that we may run on.
pub(crate) fn cpus() -> Vec<usize> {
    // SAFETY: an empty set is all zero.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set outlives the call, which is told its size.
    nothing(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) }).unwrap();
    let all = 0..libc::CPU_SETSIZE as usize;
    // SAFETY: the numbers are those of the set.
    all.filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect()
}

/// Runs on this CPU from now on.
pub(crate) fn stay_on(cpu: usize) {
    // SAFETY: an empty set is all zero.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the number is one of `cpus`.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set outlives the call, which is told its size.
    nothing(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) }).unwrap();
}

/// New namespaces.
pub(crate) fn unshare(flags: c_int) -> Result<()> {
    // SAFETY: takes numbers only.
    nothing(unsafe { libc::unshare(flags) })
}

/// Binds a directory to another place, in a mount namespace of our own.
pub(crate) fn bind_mount(from: &CStr, to: &CStr) -> Result<()> {
    unshare(libc::CLONE_NEWNS)?;
    mount(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE)?;
    mount(from, to, libc::MS_BIND)
}

/// Mounts something for this process and its children only.
pub(crate) fn own_mount(from: &CStr, to: &CStr, kind: &CStr, options: &CStr) -> Result<()> {
    unshare(libc::CLONE_NEWNS)?;
    mount(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE)?;
    let (kind, options) = (kind.as_ptr(), options.as_ptr().cast::<c_void>());
    // SAFETY: strings that live through the call.
    nothing(unsafe { libc::mount(from.as_ptr(), to.as_ptr(), kind, 0, options) })
}

pub(crate) fn mount(from: &CStr, to: &CStr, flags: libc::c_ulong) -> Result<()> {
    // SAFETY: strings that live through the call; no options.
    nothing(unsafe { libc::mount(from.as_ptr(), to.as_ptr(), ptr::null(), flags, ptr::null()) })
}

/// move_mount(2) of one mount to another place.
pub(crate) fn move_mount(from: &CStr, to: &CStr) -> Result<()> {
    let (here, flags) = (libc::AT_FDCWD, 0);
    // SAFETY: strings that live through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            here,
            from.as_ptr(),
            here,
            to.as_ptr(),
            flags,
        )
    };
    number(result).map(|_: u32| ())
}

/// truncate(2)
pub(crate) fn truncate(path: &CStr, size: i64) -> Result<()> {
    // SAFETY: the path outlives the call.
    nothing(unsafe { libc::truncate(path.as_ptr(), size) })
}

/// mknod(2)
pub(crate) fn mknod(path: &CStr, mode: u32, device: u64) -> Result<()> {
    // SAFETY: the path outlives the call.
    nothing(unsafe { libc::mknod(path.as_ptr(), mode, device) })
}

/// setxattr(2)
pub(crate) fn setxattr(path: &CStr, name: &CStr, value: &[u8]) -> Result<()> {
    let (value, len) = (value.as_ptr().cast::<c_void>(), value.len());
    // SAFETY: both strings and the value outlive the call.
    nothing(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value, len, 0) })
}

/// The clock that kernel times are in: nanoseconds since boot.
pub(crate) fn boot_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` outlives the call.
    nothing(unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) }).unwrap();
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A device number as `stat` gives it, in the kernel's own encoding.
pub(crate) fn kernel_dev(dev: u64) -> u32 {
    libc::major(dev) << 20 | libc::minor(dev)
}

/// The flags of an open file, as the kernel keeps them.
pub(crate) fn open_flags(fd: RawFd) -> u32 {
    // SAFETY: takes numbers only.
    number(unsafe { libc::fcntl(fd, libc::F_GETFL) }.into()).unwrap()
}

/// Bytes of a page of memory.
pub(crate) fn page_size() -> u32 {
    // SAFETY: takes numbers only.
    number(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap()
}

/// Makes a named pipe.
pub(crate) fn fifo(path: &CStr) {
    // SAFETY: the path outlives the call.
    nothing(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }).unwrap();
}

/// The mode bits that new files of ours do not get.
pub(crate) fn umask() -> u32 {
    // SAFETY: takes numbers only; one thread, so nobody sees it changed.
    unsafe {
        let mask = libc::umask(0);
        libc::umask(mask);
        mask
    }
}

/// lseek(2) from the start.
pub(crate) fn seek(fd: RawFd, to: i64) -> Result<u32> {
    // SAFETY: takes numbers only.
    number(unsafe { libc::lseek(fd, to, libc::SEEK_SET) })
}

/// open(2)
#[cfg(target_arch = "x86_64")]
pub(crate) fn open(path: &CStr, flags: c_int, mode: u32) -> Result<OwnedFd> {
    // SAFETY: the path outlives the call.
    descriptor(unsafe { libc::syscall(libc::SYS_open, path.as_ptr(), flags, mode) })
}

/// open(2), which this architecture makes with openat(2).
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn open(path: &CStr, flags: c_int, mode: u32) -> Result<OwnedFd> {
    openat(libc::AT_FDCWD, path, flags, mode)
}

/// creat(2)
#[cfg(target_arch = "x86_64")]
pub(crate) fn creat(path: &CStr, mode: u32) -> Result<OwnedFd> {
    // SAFETY: the path outlives the call.
    descriptor(unsafe { libc::syscall(libc::SYS_creat, path.as_ptr(), mode) })
}

/// creat(2), which this architecture makes with openat(2).
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn creat(path: &CStr, mode: u32) -> Result<OwnedFd> {
    open(path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode)
}

/// openat(2)
pub(crate) fn openat(dir: RawFd, path: &CStr, flags: c_int, mode: u32) -> Result<OwnedFd> {
    // SAFETY: the path outlives the call.
    descriptor(unsafe { libc::syscall(libc::SYS_openat, dir, path.as_ptr(), flags, mode) })
}

/// openat2(2)
pub(crate) fn openat2(dir: RawFd, path: &CStr, flags: c_int, mode: u32) -> Result<OwnedFd> {
    // `struct open_how` (include/uapi/linux/openat2.h): flags, mode, resolve.
    let how = [flags as u64, mode.into(), 0];
    // SAFETY: path and structure outlive the call.
    descriptor(unsafe {
        libc::syscall(
            libc::SYS_openat2,
            dir,
            path.as_ptr(),
            how.as_ptr(),
            size_of_val(&how),
        )
    })
}

/// rename(2)
#[cfg(target_arch = "x86_64")]
pub(crate) fn rename(old: &CStr, new: &CStr) -> Result<()> {
    // SAFETY: both names outlive the call.
    number(unsafe { libc::syscall(libc::SYS_rename, old.as_ptr(), new.as_ptr()) }).map(|_| ())
}

/// rename(2), which this architecture makes with renameat(2).
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn rename(old: &CStr, new: &CStr) -> Result<()> {
    renameat(libc::AT_FDCWD, old, libc::AT_FDCWD, new)
}

/// renameat(2)
pub(crate) fn renameat(old_dir: RawFd, old: &CStr, new_dir: RawFd, new: &CStr) -> Result<()> {
    let (old, new) = (old.as_ptr(), new.as_ptr());
    // SAFETY: both names outlive the call.
    number(unsafe { libc::syscall(libc::SYS_renameat, old_dir, old, new_dir, new) }).map(|_| ())
}

/// renameat2(2)
pub(crate) fn renameat2(
    old_dir: RawFd,
    old: &CStr,
    new_dir: RawFd,
    new: &CStr,
    flags: u32,
) -> Result<()> {
    let (old, new) = (old.as_ptr(), new.as_ptr());
    // SAFETY: both names outlive the call.
    number(unsafe { libc::syscall(libc::SYS_renameat2, old_dir, old, new_dir, new, flags) })
        .map(|_| ())
}

/// A TCP socket that is neither bound nor connected.
pub(crate) fn tcp_socket() -> OwnedFd {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: takes numbers only.
    descriptor(unsafe { libc::socket(libc::AF_INET, kind, 0) }.into()).unwrap()
}

/// listen(2)
pub(crate) fn listen(socket: RawFd) -> Result<()> {
    // SAFETY: takes numbers only.
    nothing(unsafe { libc::listen(socket, 1) })
}

/// The 32-bit convention from a 64-bit process.
#[cfg(target_arch = "x86_64")]
pub(crate) mod compat {
    use super::{CStr, Result, c_int, io, ptr};

    /// Numbers of arch/x86/entry/syscalls/syscall_32.tbl.
    pub(crate) const OPEN: u32 = 5;
    pub(crate) const CREAT: u32 = 8;
    pub(crate) const GETPID: u32 = 20;
    pub(crate) const RENAME: u32 = 38;
    pub(crate) const OPENAT: u32 = 295;
    pub(crate) const RENAMEAT2: u32 = 353;
    pub(crate) const OPENAT2: u32 = 437;

    /// Bytes at an address that has 32 bits. Never freed: a child's.
    pub(crate) fn low(bytes: &[u8]) -> u32 {
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a new mapping, large enough for what is copied to it.
        unsafe {
            let flags = flags | libc::MAP_32BIT;
            let at = libc::mmap(ptr::null_mut(), bytes.len(), protection, flags, -1, 0);
            assert_ne!(at, libc::MAP_FAILED, "{}", io::Error::last_os_error());
            ptr::copy_nonoverlapping(bytes.as_ptr(), at.cast(), bytes.len());
            u32::try_from(at as usize).unwrap()
        }
    }

    /// A string, as [`low`] puts it.
    pub(crate) fn low_string(text: &CStr) -> u32 {
        low(text.to_bytes_with_nul())
    }

    /// `int 0x80` with up to five arguments. Pointers among them come from [`low`].
    pub(crate) fn call(number: u32, [a, b, c, d, e]: [u32; 5]) -> Result<u32> {
        call_wide(number, a.into(), [b, c, d, e])
    }

    /// The same, where the first has more bits than the convention.
    pub(crate) fn call_wide(number: u32, first: u64, others: [u32; 4]) -> Result<u32> {
        let [b, c, d, e] = others;
        let result: u64;
        // SAFETY: a system call on numbers and on memory of `low`. rbx is the compiler's own and is
        // put back; the kernel may clear r8 to r11.
        unsafe {
            std::arch::asm!(
                "xchg {a}, rbx",
                "int 0x80",
                "xchg {a}, rbx",
                a = inout(reg) first => _,
                inlateout("rax") u64::from(number) => result,
                in("rcx") u64::from(b),
                in("rdx") u64::from(c),
                in("rsi") u64::from(d),
                in("rdi") u64::from(e),
                out("r8") _,
                out("r9") _,
                out("r10") _,
                out("r11") _,
            );
        }
        let result = result as u32 as c_int;
        u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
    }

    /// open(2) by the x32 convention.
    pub(crate) fn x32_open(path: &CStr, flags: c_int) -> Result<super::OwnedFd> {
        // SAFETY: the path outlives the call.
        super::descriptor(unsafe {
            libc::syscall(0x4000_0000 | libc::SYS_open, path.as_ptr(), flags, 0)
        })
    }
}
