//! The tracepoint tier: system calls that are done. Facts are the socket's own, found by the call's
//! descriptor; only the target of a datagram, which no socket keeps, is the caller's string, read
//! after the call. Another thread that replaced the descriptor meanwhile has another socket told.

use tracer_common::control::Call;
use tracer_common::event::{EventKind, flag};
use tracer_common::probe::Drop;

use super::{End, More, Peer, message, redirected, tell, was_portless};
use crate::kernel::{self, AF_UNIX, Address, Sock};
use crate::output::{self, Caller};
use crate::probes::syscall::Syscall;

/// Errors of a connect(2) that goes on by itself (include/uapi/asm-generic/errno.h,
/// include/linux/errno.h): in the background, or because a signal ended the waiting.
const EINTR: i64 = 4;
const EINPROGRESS: i64 = 115;
const ERESTARTSYS: i64 = 512;

/// Messages of one sendmmsg(2) that are looked at. More are counted as a loss.
const MESSAGES: u32 = 64;

/// Headers of control messages that are looked at. The kernel writes four kinds at most to the reader
/// of a unix socket (`scm_recv_unix`, net/core/scm.c).
const CONTROLS: usize = 4;

/// `F_DUPFD` and `F_DUPFD_CLOEXEC`, include/uapi/linux/fcntl.h
const F_DUPFD: u64 = 0;
const F_DUPFD_CLOEXEC: u64 = 1030;

/// `SOL_SOCKET` and `SCM_RIGHTS`: level and type of a control message that holds descriptors.
const SOL_SOCKET: u32 = 1;
const SCM_RIGHTS: u32 = 1;

/// Standard input, output and error.
const STANDARD: i64 = 3;

/// Whether a call is one of those below.
#[inline(always)]
pub fn is_network(call: &Syscall) -> bool {
    call.code >= Call::Sendmmsg.code() && call.code <= Call::Fcntl.code()
}

/// A call, by whatever convention it came.
struct Operation {
    code: u8,
    result: i64,
    arg: [u64; 6],
}

impl Operation {
    #[inline(always)]
    fn of(call: &Syscall) -> Option<Self> {
        if !call.is(Call::Socketcall) {
            return Some(Self {
                code: call.code,
                result: call.result,
                arg: [
                    call.arg::<0>(),
                    call.arg::<1>(),
                    call.arg::<2>(),
                    call.arg::<3>(),
                    call.arg::<4>(),
                    call.arg::<5>(),
                ],
            });
        }
        // `SYS_SOCKET` …, include/uapi/linux/net.h; the arguments are words in memory
        // (`__sys_socketcall`, net/socket.c).
        let code = match call.arg::<0>() as u32 {
            1 => Call::Descriptor,
            2 => Call::Bind,
            3 => Call::Connect,
            4 => Call::Listen,
            5 | 18 => Call::Accept,
            9 => Call::Send,
            11 => Call::Sendto,
            16 => Call::Sendmsg,
            17 => Call::Recvmsg,
            20 => Call::Sendmmsg,
            _ => return None,
        };
        let words = call.arg::<1>() as u32 as u64 as *const u32;
        Some(Self {
            code: code.code(),
            result: call.result,
            arg: [
                word(words, 0),
                word(words, 1),
                word(words, 2),
                word(words, 3),
                word(words, 4),
                word(words, 5),
            ],
        })
    }

    #[inline(always)]
    fn is(&self, call: Call) -> bool {
        self.code == call.code()
    }

    /// Whether the call that failed has begun a connection all the same.
    #[inline(always)]
    fn goes_on(&self) -> bool {
        (self.is(Call::Connect) || self.is(Call::Sendto) || self.is(Call::Sendmsg))
            && matches!(-self.result, EINTR | EINPROGRESS | ERESTARTSYS)
    }
}

/// A word of the caller's; zero where it is not there.
#[inline(always)]
fn word(words: *const u32, at: usize) -> u64 {
    kernel::user::<u32>(words.wrapping_add(at).cast())
        .unwrap_or(0)
        .into()
}

/// Tells what a call did.
#[inline(always)]
pub fn done(caller: &Caller, call: &Syscall) {
    let Some(call) = Operation::of(call) else {
        return;
    };
    if call.result < 0 && !call.goes_on() {
        return;
    }
    if call.is(Call::Descriptor) || (call.is(Call::Fcntl) && duplicates(&call)) {
        standard(caller, call.result);
    } else if call.is(Call::Fcntl) {
        // Any other of its commands.
    } else if call.is(Call::Recvmsg) {
        received(caller, &call);
    } else if call.is(Call::Accept) {
        if let Some(sock) = socket(caller, call.result as u32) {
            tell(caller, sock, &More::of(EventKind::Accept));
        }
        standard(caller, call.result);
    } else if let Some(sock) = socket(caller, call.arg[0] as u32) {
        used(caller, &call, sock);
    }
}

#[inline(always)]
fn duplicates(call: &Operation) -> bool {
    let command = call.arg[1] as u32;
    command == F_DUPFD as u32 || command == F_DUPFD_CLOEXEC as u32
}

/// The socket that a descriptor is; `None` where it is one of a family that is not told. A call that
/// went well had a socket: where there is none now, another thread took it away.
#[inline(always)]
fn socket(caller: &Caller, fd: u32) -> Option<Sock> {
    let sock = caller
        .task
        .file(fd)
        .and_then(|file| file.socket())
        .and_then(|socket| socket.sock());
    match sock {
        Some(sock) if sock.is_told() => Some(sock),
        Some(_) => None,
        None => {
            output::dropped(Drop::SocketFault);
            None
        }
    }
}

/// What was done with a socket that the caller had.
#[inline(always)]
fn used(caller: &Caller, call: &Operation, sock: Sock) {
    if call.is(Call::Connect) {
        connected(caller, call, sock);
    } else if call.is(Call::Bind) {
        tell(caller, sock, &More::of(EventKind::Bind));
    } else if call.is(Call::Listen) {
        // `inet_sock_set_state` has told the others.
        if sock.family() == AF_UNIX || was_portless(caller) {
            tell(caller, sock, &More::of(EventKind::Listen));
        }
    } else {
        sent(caller, call, sock);
    }
}

/// A connection, to the end that the socket has now. One that has none was given up (`AF_UNSPEC`), or
/// its protocol keeps it elsewhere; then the caller's address is what is known.
#[inline(always)]
fn connected(caller: &Caller, call: &Operation, sock: Sock) {
    let Some(Peer { to, .. }) = Peer::of(caller) else {
        return;
    };
    let resolved = to.set_remote(sock);
    if !resolved {
        let address = Address::<true>::new(call.arg[1] as *const u8, call.arg[2] as u32);
        let known = match address {
            Some(address) => to.set_address(sock, address, false),
            None => false,
        };
        if !known {
            return;
        }
    }
    let begun = call.result < 0;
    tell(
        caller,
        sock,
        &More {
            flags: if resolved { flag::RESOLVED } else { 0 }
                | if begun { flag::ATTEMPT } else { 0 },
            end: End::Remote,
            result: call.result as u32,
            ..More::of(EventKind::Connect)
        },
    );
}

/// Where the next message of a call has its address. In memory, not in registers, so that the
/// verifier sees the loop's body alike each time.
struct Messages {
    /// `struct msghdr` of the first; zero where the address is an argument of the call.
    header: u64,
    /// Bytes from one to the next.
    stride: u64,
    count: u32,
    flags: u32,
}

/// One or more messages that were sent.
#[inline(always)]
fn sent(caller: &Caller, call: &Operation, sock: Sock) {
    let compat = caller.flags & flag::COMPAT != 0;
    if call.is(Call::Sendto) || call.is(Call::Send) {
        let (at, len) = if call.is(Call::Sendto) {
            (call.arg[4], call.arg[5])
        } else {
            (0, 0)
        };
        one(caller, sock, at, len as u32, call.arg[3] as u32);
        return;
    }
    let several = call.is(Call::Sendmmsg);
    let messages = Messages {
        header: call.arg[1],
        // `struct mmsghdr`, `struct compat_mmsghdr`: a header and how much of it was sent.
        stride: if compat { 32 } else { 64 },
        count: if several { call.result as u32 } else { 1 },
        flags: if several { call.arg[3] } else { call.arg[2] } as u32,
    };
    if messages.count > MESSAGES {
        output::dropped(Drop::SocketFault);
    }
    for index in 0..MESSAGES {
        if index >= messages.count {
            break;
        }
        let header = messages.header + u64::from(index) * messages.stride;
        let (at, len) = name_of(header, compat);
        one(caller, sock, at, len, messages.flags);
    }
}

/// `msg_name` and `msg_namelen` of a `struct user_msghdr` or `struct compat_msghdr`.
#[inline(always)]
fn name_of(header: u64, compat: bool) -> (u64, u32) {
    let header = header as *const u8;
    if compat {
        let [at, len] = kernel::user::<[u32; 2]>(header).unwrap_or([0; 2]);
        (at.into(), len)
    } else {
        let [at, len] = kernel::user::<[u64; 2]>(header).unwrap_or([0; 2]);
        (at, len as u32)
    }
}

/// One message, in a function of its own, as there are two ways to it.
#[inline(never)]
fn one(caller: &Caller, sock: Sock, at: u64, len: u32, flags: u32) {
    message(
        caller,
        sock,
        Address::<true>::new(at as *const u8, len),
        flags,
    );
}

/// Descriptors that came with a message: of the control messages that the kernel has written, the
/// one that holds descriptors, and of these the lowest, which the kernel gives first.
#[inline(always)]
fn received(caller: &Caller, call: &Operation) {
    let compat = caller.flags & flag::COMPAT != 0;
    let (mut at, len) = controls_of(call.arg[1] as *const u8, compat);
    let end = at.wrapping_add(len);
    // `struct cmsghdr`: length, level, type; the length is a word of the convention.
    let (word, header) = if compat { (4, 12) } else { (8, 16) };
    for _ in 0..CONTROLS {
        if at.wrapping_add(header) > end {
            return;
        }
        let size: u64 = kernel::user::<u32>(at as *const u8).unwrap_or(0).into();
        let [level, kind] =
            kernel::user::<[u32; 2]>(at.wrapping_add(word) as *const u8).unwrap_or([0; 2]);
        if level == SOL_SOCKET && kind == SCM_RIGHTS {
            for index in 0..STANDARD as u64 {
                let from = header + index * size_of::<u32>() as u64;
                if from + size_of::<u32>() as u64 > size {
                    return;
                }
                let fd = kernel::user::<i32>(at.wrapping_add(from) as *const u8);
                standard(caller, fd.map_or(-1, Into::into));
            }
            return;
        }
        if size < header {
            return;
        }
        at = at.wrapping_add((size + word - 1) & !(word - 1));
    }
}

/// `msg_control` and `msg_controllen`, as the kernel left them.
#[inline(always)]
fn controls_of(header: *const u8, compat: bool) -> (u64, u64) {
    if compat {
        let [at, len] = kernel::user::<[u32; 2]>(header.wrapping_add(16)).unwrap_or([0; 2]);
        (at.into(), len.into())
    } else {
        let [at, len] = kernel::user::<[u64; 2]>(header.wrapping_add(32)).unwrap_or([0; 2]);
        (at, len)
    }
}

/// Tells a standard descriptor that is a socket now. Most are none.
#[inline(never)]
fn standard(caller: &Caller, fd: i64) {
    if !(0..STANDARD).contains(&fd) {
        return;
    }
    if let Some(sock) = caller
        .task
        .file(fd as u32)
        .and_then(|file| file.socket())
        .and_then(|socket| socket.sock())
        .filter(|sock| sock.is_told())
    {
        redirected(caller, sock, fd as u32);
    }
}
