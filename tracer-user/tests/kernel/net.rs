//! The socket calls of the tests, as `sys` has the others: raw where the test is about the call.

use std::io;
use std::mem::zeroed;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;

use libc::{c_int, c_void};

type Result<T> = io::Result<T>;

fn number(result: i64) -> Result<i64> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn descriptor(result: c_int) -> Result<OwnedFd> {
    let fd = number(result.into())? as RawFd;
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An address as the kernel takes it: `struct sockaddr_in`, `_in6` or `_un`, to its length.
pub(crate) type Address = Vec<u8>;

/// An internet address.
pub(crate) fn inet(address: SocketAddr) -> Address {
    let (family, port) = match address {
        SocketAddr::V4(_) => (libc::AF_INET, address.port()),
        SocketAddr::V6(_) => (libc::AF_INET6, address.port()),
    };
    let mut bytes = (family as u16).to_ne_bytes().to_vec();
    bytes.extend(port.to_be_bytes());
    match address {
        SocketAddr::V4(v4) => {
            bytes.extend(v4.ip().octets());
            bytes.extend([0; 8]);
        }
        SocketAddr::V6(v6) => {
            bytes.extend(v6.flowinfo().to_be_bytes());
            bytes.extend(v6.ip().octets());
            bytes.extend(v6.scope_id().to_ne_bytes());
        }
    }
    bytes
}

/// The name of a unix socket; an abstract one begins with NUL.
pub(crate) fn unix(name: &[u8]) -> Address {
    let mut bytes = (libc::AF_UNIX as u16).to_ne_bytes().to_vec();
    bytes.extend(name);
    bytes
}

/// `AF_UNSPEC`
pub(crate) fn nobody() -> Address {
    vec![0; 16]
}

/// socket(2)
pub(crate) fn socket(family: c_int, kind: c_int) -> OwnedFd {
    // SAFETY: takes numbers only.
    descriptor(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) }).unwrap()
}

/// connect(2)
pub(crate) fn connect(socket: &OwnedFd, to: &Address) -> Result<()> {
    // SAFETY: the address outlives the call.
    let result = unsafe { libc::connect(socket.as_raw_fd(), at(to), to.len() as u32) };
    number(result.into()).map(|_| ())
}

/// bind(2)
pub(crate) fn bind(socket: &OwnedFd, to: &Address) -> Result<()> {
    // SAFETY: the address outlives the call.
    let result = unsafe { libc::bind(socket.as_raw_fd(), at(to), to.len() as u32) };
    number(result.into()).map(|_| ())
}

/// accept(2)
pub(crate) fn accept(socket: &OwnedFd) -> Result<OwnedFd> {
    // SAFETY: no address is asked for.
    descriptor(unsafe { libc::accept(socket.as_raw_fd(), ptr::null_mut(), ptr::null_mut()) })
}

/// accept4(2)
pub(crate) fn accept4(socket: &OwnedFd) -> Result<OwnedFd> {
    let flags = libc::SOCK_CLOEXEC;
    // SAFETY: no address is asked for.
    descriptor(unsafe {
        libc::accept4(socket.as_raw_fd(), ptr::null_mut(), ptr::null_mut(), flags)
    })
}

/// sendto(2) of one byte
pub(crate) fn sendto(socket: &OwnedFd, to: &Address, flags: c_int) -> Result<()> {
    let byte = [b'x'];
    // SAFETY: byte and address outlive the call.
    let result = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            byte.as_ptr().cast(),
            byte.len(),
            flags,
            if to.is_empty() { ptr::null() } else { at(to) },
            to.len() as u32,
        )
    };
    number(result as i64).map(|_| ())
}

/// write(2) of one byte
pub(crate) fn write(socket: &OwnedFd) -> Result<()> {
    // SAFETY: the byte outlives the call.
    let result = unsafe { libc::write(socket.as_raw_fd(), [b'x'].as_ptr().cast(), 1) };
    number(result as i64).map(|_| ())
}

/// A `struct msghdr` of one byte to an address, which must outlive it.
fn header(to: &Address, byte: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: numbers and pointers, for which zero is a value.
    let mut header: libc::msghdr = unsafe { zeroed() };
    if !to.is_empty() {
        header.msg_name = to.as_ptr().cast_mut().cast();
        header.msg_namelen = to.len() as u32;
    }
    header.msg_iov = byte;
    header.msg_iovlen = 1;
    header
}

fn one_byte() -> libc::iovec {
    libc::iovec {
        iov_base: b"x".as_ptr().cast_mut().cast(),
        iov_len: 1,
    }
}

/// Something done with a `struct msghdr` of one byte to an address.
pub(crate) fn with_header<T>(to: &Address, act: impl FnOnce(*const libc::msghdr) -> T) -> T {
    let mut byte = one_byte();
    let header = header(to, &mut byte);
    act(&raw const header)
}

/// sendmsg(2) of one byte
pub(crate) fn sendmsg(socket: &OwnedFd, to: &Address) -> Result<()> {
    let mut byte = one_byte();
    let header = header(to, &mut byte);
    // SAFETY: everything that the header points to outlives the call.
    let result = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, 0) };
    number(result as i64).map(|_| ())
}

/// sendmmsg(2) of one byte to each; how many went.
pub(crate) fn sendmmsg(socket: &OwnedFd, to: &[Address]) -> Result<usize> {
    let mut byte = one_byte();
    let mut messages: Vec<_> = to
        .iter()
        .map(|to| libc::mmsghdr {
            msg_hdr: header(to, &mut byte),
            msg_len: 0,
        })
        .collect();
    // SAFETY: everything that the headers point to outlives the call.
    let result = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            messages.len() as u32,
            0,
        )
    };
    number(result.into()).map(|count| count as usize)
}

/// One control message with a descriptor, as the kernel has it (`struct cmsghdr`,
/// include/linux/socket.h): C libraries differ in how they part the length.
#[repr(C)]
struct Control {
    len: usize,
    level: c_int,
    kind: c_int,
    fd: c_int,
}

/// Sends a descriptor over a unix socket.
pub(crate) fn send_fd(through: &OwnedFd, fd: RawFd) {
    let mut byte = one_byte();
    let control = Control {
        len: std::mem::offset_of!(Control, fd) + size_of::<c_int>(),
        level: libc::SOL_SOCKET,
        kind: libc::SCM_RIGHTS,
        fd,
    };
    let mut header = header(&Vec::new(), &mut byte);
    header.msg_control = (&raw const control).cast_mut().cast();
    header.msg_controllen = size_of::<Control>() as _;
    // SAFETY: everything that the header points to outlives the call.
    let result = unsafe { libc::sendmsg(through.as_raw_fd(), &raw const header, 0) };
    number(result as i64).unwrap();
}

/// Takes a descriptor from a unix socket, by recvmsg(2); its number.
pub(crate) fn receive_fd(from: &OwnedFd) -> RawFd {
    let mut buffer = [0_u8; 1];
    let mut byte = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: 1,
    };
    let mut room = [0_u64; 16];
    let mut header = header(&Vec::new(), &mut byte);
    header.msg_control = room.as_mut_ptr().cast::<c_void>();
    header.msg_controllen = size_of_val(&room) as _;
    // SAFETY: everything that the header points to outlives the call, and what the kernel wrote to
    // the room is looked at by its own rules.
    unsafe {
        number(libc::recvmsg(from.as_raw_fd(), &raw mut header, 0) as i64).unwrap();
        let mut control = libc::CMSG_FIRSTHDR(&raw const header);
        while (*control).cmsg_type != libc::SCM_RIGHTS {
            control = libc::CMSG_NXTHDR(&raw const header, control);
        }
        libc::CMSG_DATA(control).cast::<c_int>().read_unaligned()
    }
}

/// Has messages say who sent them.
pub(crate) fn pass_credentials(socket: &OwnedFd) {
    set(socket, libc::SOL_SOCKET, libc::SO_PASSCRED, 1);
}

/// setsockopt(2) of a number.
pub(crate) fn set(socket: &OwnedFd, level: c_int, option: c_int, value: c_int) {
    // SAFETY: the value outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<c_int>() as u32,
        )
    };
    number(result.into()).unwrap();
}

/// dup(2)
pub(crate) fn dup(fd: RawFd) -> RawFd {
    // SAFETY: takes numbers only; the tests use it on the standard descriptors of a child.
    number(unsafe { libc::dup(fd) }.into()).unwrap() as RawFd
}

/// dup3(2)
pub(crate) fn dup3(from: RawFd, to: RawFd) {
    // SAFETY: as for `dup`.
    number(unsafe { libc::dup3(from, to, libc::O_CLOEXEC) }.into()).unwrap();
}

/// fcntl(2)
pub(crate) fn fcntl(fd: RawFd, command: c_int, argument: c_int) -> c_int {
    // SAFETY: as for `dup`.
    number(unsafe { libc::fcntl(fd, command, argument) }.into()).unwrap() as c_int
}

/// Brings the loopback interface of a new network namespace up.
pub(crate) fn loopback_up() {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM);
    // SAFETY: numbers and a union of them, for which zero is a value.
    let mut request: libc::ifreq = unsafe { zeroed() };
    request.ifr_name[0] = b'l' as _;
    request.ifr_name[1] = b'o' as _;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as i16;
    // SAFETY: the request outlives the call.
    let result = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw const request,
        )
    };
    number(result.into()).unwrap();
}

fn at(address: &Address) -> *const libc::sockaddr {
    address.as_ptr().cast()
}
