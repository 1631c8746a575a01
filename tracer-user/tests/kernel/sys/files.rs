//! Calls on files that the C library has its own mind about, or that it does not have.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::AtomicU64;

use libc::{c_int, c_long, c_void};

use super::{Result, c, descriptor, number};

/// An argument of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg<'a> {
    /// A number, sign extended as C does it.
    Number(i64),
    /// A string.
    Text(&'a CStr),
    /// Bytes that the kernel reads.
    Bytes(&'a [u8]),
}

/// A call by its number. Which numbers, and with which arguments, the tests say: none that writes to our
/// memory or ends its life.
pub(crate) fn call(number_of: c_long, arguments: &[Arg<'_>]) -> Result<u32> {
    let mut words = [0_i64; 6];
    for (word, argument) in words.iter_mut().zip(arguments) {
        *word = match argument {
            Arg::Number(value) => *value,
            Arg::Text(text) => text.as_ptr() as i64,
            Arg::Bytes(bytes) => bytes.as_ptr() as i64,
        };
    }
    let [a, b, c, d, e, f] = words;
    // SAFETY: strings and bytes live through the call, and the calls of the tests only read them.
    number(unsafe { libc::syscall(number_of, a, b, c, d, e, f) })
}

/// The same by the 32-bit convention.
#[cfg(target_arch = "x86_64")]
pub(crate) fn compat_call(number_of: u32, arguments: &[Arg<'_>]) -> Result<u32> {
    use super::compat;

    let mut words = [0_u32; 5];
    assert!(arguments.len() <= words.len());
    for (word, argument) in words.iter_mut().zip(arguments) {
        *word = match argument {
            Arg::Number(value) => *value as u32,
            Arg::Text(text) => compat::low_string(text),
            Arg::Bytes(bytes) => compat::low(bytes),
        };
    }
    compat::call(number_of, words)
}

/// A mapping of a file that is never undone: a child's.
pub(crate) fn map(file: RawFd, bytes: usize, protection: c_int, flags: c_int) -> Result<()> {
    // SAFETY: a new mapping at an address of the kernel's choice, which nobody uses.
    let at = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, file, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sends a descriptor through a socket.
pub(crate) fn send_descriptor(socket: &OwnedFd, file: RawFd) -> Result<()> {
    with_message(|message, control| {
        // SAFETY: the header lies in `control`, which is large enough for one descriptor.
        unsafe {
            let header = control.cast::<libc::cmsghdr>();
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
            libc::CMSG_DATA(header)
                .cast::<RawFd>()
                .write_unaligned(file);
        }
        // SAFETY: the message lives through the call.
        number(unsafe { libc::sendmsg(socket.as_raw_fd(), message, 0) } as c_long).map(|_| ())
    })
}

/// Takes a descriptor out of a socket.
pub(crate) fn receive_descriptor(socket: &OwnedFd) -> Result<OwnedFd> {
    with_message(|message, control| {
        // SAFETY: the message lives through the call.
        number(unsafe { libc::recvmsg(socket.as_raw_fd(), message, 0) } as c_long)?;
        let header = control.cast::<libc::cmsghdr>();
        // SAFETY: the kernel has filled the header in; with a descriptor in it this one is ours alone.
        unsafe {
            assert_eq!((*header).cmsg_type, libc::SCM_RIGHTS);
            let file = libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned();
            Ok(OwnedFd::from_raw_fd(file))
        }
    })
}

/// A message of one byte with room for one descriptor.
fn with_message<T>(go: impl FnOnce(*mut libc::msghdr, *mut c_void) -> T) -> T {
    let mut byte = [0_u8];
    let mut control = [0_u64; 8];
    let mut part = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    // SAFETY: all zero is an empty message.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: takes a number only.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<RawFd>() as u32) } as _;
    go(&raw mut message, control.as_mut_ptr().cast())
}

/// A handle of a file, as open_by_handle_at(2) takes it, with the mount it is on.
pub(crate) struct Handle([u32; 34]);

/// name_to_handle_at(2)
pub(crate) fn handle(path: &CStr) -> Result<Handle> {
    // `struct file_handle` (include/linux/fs.h): bytes, type, then up to 128 of them.
    let mut handle = [0_u32; 34];
    handle[0] = 128;
    let mut mount: c_int = 0;
    // SAFETY: the path lives through the call; the handle has the room that it says.
    number(unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            path.as_ptr(),
            handle.as_mut_ptr(),
            &raw mut mount,
            0,
        )
    })?;
    Ok(Handle(handle))
}

/// open_by_handle_at(2), on the mount that a file is on.
pub(crate) fn open_handle(on: RawFd, handle: &Handle, flags: c_int) -> Result<OwnedFd> {
    // SAFETY: the handle lives through the call.
    descriptor(unsafe { libc::syscall(libc::SYS_open_by_handle_at, on, handle.0.as_ptr(), flags) })
}

/// Has the kernel tell of each open of a file, with a descriptor that it opens so (fanotify(7)).
pub(crate) fn listen_for_opens(path: &CStr, flags: c_int) -> Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let group = descriptor(unsafe {
        c_long::from(libc::fanotify_init(libc::FAN_CLASS_NOTIF, flags as u32))
    })?;
    // SAFETY: the path lives through the call.
    number(unsafe {
        c_long::from(libc::fanotify_mark(
            group.as_raw_fd(),
            libc::FAN_MARK_ADD,
            libc::FAN_OPEN,
            libc::AT_FDCWD,
            path.as_ptr(),
        ))
    })?;
    Ok(group)
}

/// Takes the next event's descriptor.
pub(crate) fn next_opened(group: OwnedFd) -> OwnedFd {
    // `struct fanotify_event_metadata` (include/uapi/linux/fanotify.h): 24 bytes, the descriptor at 16.
    let mut event = [0_u8; 24];
    io::Read::read_exact(&mut std::fs::File::from(group), &mut event).unwrap();
    let fd = RawFd::from_ne_bytes(event[16..20].try_into().unwrap());
    descriptor(fd.into()).unwrap()
}

/// A page that is not there until somebody gives it: a read of it by the kernel waits (userfaultfd(2)).
pub(crate) struct LatePage {
    faults: OwnedFd,
    at: usize,
    size: usize,
}

impl LatePage {
    /// A new one.
    pub(crate) fn new() -> Result<Self> {
        // include/uapi/linux/userfaultfd.h: `_IOWR(0xAA, ..)` of structures of 24 and 32 bytes.
        const API: u64 = 0xc018_aa3f;
        const REGISTER: u64 = 0xc020_aa00;
        let size = super::page_size() as usize;
        // Only what does not block can be waited for.
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        // SAFETY: takes numbers only.
        let faults = descriptor(unsafe { libc::syscall(libc::SYS_userfaultfd, flags) })?;
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a new mapping; the structures have the size that the requests say and outlive the calls.
        unsafe {
            let before = libc::mmap(ptr::null_mut(), 2 * size, protection, flags, -1, 0);
            assert_ne!(before, libc::MAP_FAILED);
            let at = before as usize + size;
            // version UFFD_API, features, ioctls
            let mut api = [0xaa_u64, 0, 0];
            number(libc::ioctl(faults.as_raw_fd(), API as _, api.as_mut_ptr()).into())?;
            // start, length, mode UFFDIO_REGISTER_MODE_MISSING, ioctls
            let mut register = [at as u64, size as u64, 1, 0];
            number(libc::ioctl(faults.as_raw_fd(), REGISTER as _, register.as_mut_ptr()).into())?;
            Ok(Self { faults, at, size })
        }
    }

    /// Its address, which nobody here reads.
    pub(crate) fn address(&self) -> i64 {
        self.at as i64
    }

    /// The word right before it, which is there.
    pub(crate) fn before(&self) -> &AtomicU64 {
        // SAFETY: the end of the page before, which is mapped as long as this process lives, aligned, and
        // ours; the kernel reads it, too.
        unsafe { AtomicU64::from_ptr((self.at - 8) as *mut u64) }
    }

    /// Waits until somebody wants the page.
    pub(crate) fn wait(&self) -> bool {
        super::wait_readable(&[self.faults.as_raw_fd()], crate::watch::DEADLINE)
    }

    /// Gives it, with this text.
    pub(crate) fn give(&self, text: &CStr) -> Result<()> {
        const COPY: u64 = 0xc028_aa03;
        let mut page = vec![0_u8; self.size];
        let text = text.to_bytes_with_nul();
        page[..text.len()].copy_from_slice(text);
        // destination, source, length, mode, copied
        let mut copy = [self.at as u64, page.as_ptr() as u64, self.size as u64, 0, 0];
        // SAFETY: the structure and the page outlive the call.
        number(unsafe { libc::ioctl(self.faults.as_raw_fd(), COPY as _, copy.as_mut_ptr()) }.into())
            .map(|_| ())
    }
}

/// mount(2) of a directory at another place.
pub(crate) fn bind(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    super::mount(&c(from), &c(to), libc::MS_BIND)
}

/// A mount namespace of its own, whose mounts nobody else sees.
pub(crate) fn part() {
    super::unshare(libc::CLONE_NEWNS).unwrap();
    super::mount(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE).unwrap();
}
