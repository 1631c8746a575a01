//! io_uring by its system calls alone: a ring, requests, what became of them.

use std::ffi::{CStr, c_void};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::child::until;
use crate::stage::Skip;

/// `IOSQE_*` (include/uapi/linux/io_uring.h).
pub(crate) const LINK: u8 = 1 << 2;
pub(crate) const ASYNC: u8 = 1 << 4;
pub(crate) const SILENT: u8 = 1 << 6;

/// `IORING_SETUP_SQPOLL`
pub(crate) const POLLED: u32 = 1 << 1;

/// `IORING_FILE_INDEX_ALLOC`
pub(crate) const ANY_SLOT: u32 = u32::MAX;

/// `IORING_OP_*`
pub(crate) mod operation {
    pub(crate) const NOP: u8 = 0;
    pub(crate) const SENDMSG: u8 = 9;
    pub(crate) const CONNECT: u8 = 16;
    pub(crate) const OPENAT: u8 = 18;
    pub(crate) const WRITE: u8 = 23;
    pub(crate) const OPENAT2: u8 = 28;
    pub(crate) const RENAMEAT: u8 = 35;
    pub(crate) const UNLINKAT: u8 = 36;
    pub(crate) const MKDIRAT: u8 = 37;
    pub(crate) const SYMLINKAT: u8 = 38;
    pub(crate) const LINKAT: u8 = 39;
    pub(crate) const FSETXATTR: u8 = 41;
    pub(crate) const SETXATTR: u8 = 42;
}

/// `struct io_uring_sqe`
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Request {
    pub(crate) operation: u8,
    pub(crate) flags: u8,
    pub(crate) priority: u16,
    pub(crate) fd: RawFd,
    /// An offset, or a second address.
    pub(crate) second: u64,
    pub(crate) address: u64,
    /// Or a second descriptor, or a mode.
    pub(crate) len: u32,
    pub(crate) call_flags: u32,
    pub(crate) user_data: u64,
    pub(crate) buffer: u16,
    pub(crate) personality: u16,
    /// Zero, or a place in the table of files and one.
    pub(crate) slot: u32,
    pub(crate) third: u64,
    pub(crate) pad: u64,
}

const _: () = assert!(size_of::<Request>() == 64);

impl Request {
    /// openat(2)
    pub(crate) fn open(dir: RawFd, path: &CStr, flags: i32, mode: u32) -> Self {
        Self {
            operation: operation::OPENAT,
            fd: dir,
            address: path.as_ptr() as u64,
            len: mode,
            call_flags: flags as u32,
            ..Self::default()
        }
    }

    /// A call with two directories and names.
    pub(crate) fn two(operation: u8, old: (RawFd, &CStr), new: (RawFd, &CStr), flags: u32) -> Self {
        Self {
            operation,
            fd: old.0,
            address: old.1.as_ptr() as u64,
            len: new.0 as u32,
            second: new.1.as_ptr() as u64,
            call_flags: flags,
            ..Self::default()
        }
    }

    /// A call with one.
    pub(crate) fn one(operation: u8, name: (RawFd, &CStr), len: u32, flags: u32) -> Self {
        Self {
            operation,
            fd: name.0,
            address: name.1.as_ptr() as u64,
            len,
            call_flags: flags,
            ..Self::default()
        }
    }
}

/// `struct io_uring_params`, with its two tables of offsets.
#[repr(C)]
#[derive(Default)]
struct Parameters {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    sq_thread_cpu: u32,
    sq_thread_idle: u32,
    features: u32,
    wq_fd: u32,
    reserved: [u32; 3],
    /// head, tail, mask, entries, flags, dropped, array, reserved, user address
    sq: [u32; 10],
    /// head, tail, mask, entries, overflow, entries, flags, reserved, user address
    cq: [u32; 10],
}

/// A ring, used by one thread. What is mapped stays until the process ends: a child's.
pub(crate) struct Ring {
    fd: OwnedFd,
    parameters: Parameters,
    submissions: *mut u8,
    completions: *mut u8,
    requests: *mut Request,
}

/// Whether this process may have a ring: not where the kernel is built without, or told not to.
pub(crate) fn needs_uring() -> Result<(), Skip> {
    match Ring::new(1, 0) {
        Ok(_) => Ok(()),
        Err(error) => Err(Skip(format!("the kernel gives no io_uring: {error}"))),
    }
}

impl Ring {
    /// io_uring_setup(2)
    pub(crate) fn new(entries: u32, flags: u32) -> io::Result<Self> {
        let mut parameters = Parameters {
            flags,
            sq_thread_idle: 1000,
            ..Parameters::default()
        };
        // SAFETY: the parameters outlive the call and are as long as the kernel takes them to be.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, &raw mut parameters) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given it to us alone.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
        let map = |bytes: u32, at: i64| {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
            // SAFETY: a new mapping, wherever the kernel likes.
            let mapped = unsafe {
                libc::mmap(
                    ptr::null_mut(),
                    bytes as usize,
                    protection,
                    flags,
                    fd.as_raw_fd(),
                    at,
                )
            };
            assert_ne!(mapped, libc::MAP_FAILED, "{}", io::Error::last_os_error());
            mapped.cast::<u8>()
        };
        // IORING_OFF_SQ_RING, IORING_OFF_CQ_RING, IORING_OFF_SQES
        let submissions = map(parameters.sq[6] + 4 * parameters.sq_entries, 0);
        let completions = map(parameters.cq[5] + 16 * parameters.cq_entries, 0x800_0000);
        let requests = map(64 * parameters.sq_entries, 0x1000_0000).cast();
        Ok(Self {
            fd,
            parameters,
            submissions,
            completions,
            requests,
        })
    }

    fn word(base: *mut u8, offset: u32) -> &'static AtomicU32 {
        // SAFETY: a word of the rings' header, aligned, mapped until the process ends; the kernel reads
        // and writes it atomically, too.
        unsafe { AtomicU32::from_ptr(base.add(offset as usize).cast()) }
    }

    /// Gives the ring a table of files, all empty.
    pub(crate) fn register_files(&self, count: u32) {
        let files = vec![-1_i32; count as usize];
        // SAFETY: IORING_REGISTER_FILES; the list outlives the call.
        let done = unsafe {
            libc::syscall(
                libc::SYS_io_uring_register,
                self.fd.as_raw_fd(),
                2,
                files.as_ptr(),
                count,
            )
        };
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
    }

    /// How many completions the ring has room for.
    pub(crate) fn room(&self) -> u32 {
        self.parameters.cq_entries
    }

    /// Hands requests in, all at once. What they point to has to live until they are done.
    pub(crate) fn submit(&mut self, requests: &[Request]) {
        let [_, tail, mask, _, flags, _, array, ..] = self.parameters.sq;
        let mask = Self::word(self.submissions, mask).load(Ordering::Relaxed);
        let tail = Self::word(self.submissions, tail);
        let mut at = tail.load(Ordering::Relaxed);
        for request in requests {
            let place = at & mask;
            // SAFETY: the place lies in the mapped list.
            unsafe { self.requests.add(place as usize).write(*request) };
            Self::word(self.submissions, array + 4 * place).store(place, Ordering::Relaxed);
            at = at.wrapping_add(1);
        }
        tail.store(at, Ordering::Release);
        if self.parameters.flags & POLLED == 0 {
            let taken = self.enter(requests.len() as u32, 0);
            assert_eq!(
                taken,
                requests.len() as i64,
                "{}",
                io::Error::last_os_error()
            );
            return;
        }
        // The kernel's thread takes them, once it is awake.
        std::sync::atomic::fence(Ordering::SeqCst);
        let flags = Self::word(self.submissions, flags);
        if flags.load(Ordering::Relaxed) & 1 != 0 {
            // IORING_SQ_NEED_WAKEUP, IORING_ENTER_SQ_WAKEUP
            assert!(self.enter(0, 1 << 1) >= 0, "{}", io::Error::last_os_error());
        }
    }

    fn enter(&self, count: u32, flags: u32) -> i64 {
        // SAFETY: numbers only; what the requests point to is the caller's to keep.
        unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.fd.as_raw_fd(),
                count,
                0,
                flags,
                ptr::null::<c_void>(),
                0,
            )
        }
    }

    /// The next completion: the number of the request, and its result.
    pub(crate) fn wait(&mut self) -> (u64, i32) {
        let [head, tail, mask, _, _, entries, ..] = self.parameters.cq;
        let [head, tail] = [head, tail].map(|offset| Self::word(self.completions, offset));
        let at = head.load(Ordering::Relaxed);
        // Work of the request that waits for this thread is done when it comes into the kernel; and
        // completions that had no room come then, with IORING_ENTER_GETEVENTS.
        until("a request is done", || {
            tail.load(Ordering::Acquire) != at || {
                self.enter(0, 1);
                false
            }
        });
        let place = at & Self::word(self.completions, mask).load(Ordering::Relaxed);
        // SAFETY: the entry lies in the mapped ring, and the kernel has written it.
        let (user_data, result) = unsafe {
            let entry = self.completions.add((entries + 16 * place) as usize);
            (
                entry.cast::<u64>().read(),
                entry.add(8).cast::<i32>().read(),
            )
        };
        head.store(at.wrapping_add(1), Ordering::Release);
        (user_data, result)
    }

    /// Hands one in and waits for it.
    pub(crate) fn perform(&mut self, request: Request) -> i32 {
        self.submit(&[request]);
        self.wait().1
    }
}
