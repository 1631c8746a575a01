//! The tracepoint tier: system calls that are done. Facts are the socket's own, found by the call's
//! descriptor; only the target of a datagram, which no socket keeps, is the caller's string, read
//! after the call. Where another thread replaced the descriptor meanwhile, another socket is told.

use core::ptr::{read_volatile, write_volatile};

use tracer_common::control::Call;
use tracer_common::event::{EventKind, flag};
use tracer_common::probe::Drop;

use super::{
    Desk, More, REMOTE_END, has_accepted, is_told_accepting, note_message, note_redirect,
    was_portless,
};
use crate::kernel::{self, AF_UNIX, Address, Sock};
use crate::output::{self, Caller};
use crate::probes::syscall::Syscall;

/// Errors of a connect(2) that goes on by itself (include/uapi/asm-generic/errno.h,
/// include/linux/errno.h): in the background, or because a signal ended the waiting.
const EINTR: i64 = 4;
const EINPROGRESS: i64 = 115;
const ERESTARTSYS: i64 = 512;

/// Messages of one sendmmsg(2) that are looked at, up to the fourth new peer. More are counted as a loss,
/// and their peers stay new.
const MESSAGES: u64 = 64;

/// Headers of control messages that are looked at. The kernel writes four kinds at most to the reader
/// of a unix socket (`scm_recv_unix`, include/net/scm.h).
const CONTROLS: u32 = 4;

/// `F_DUPFD` and `F_DUPFD_CLOEXEC`, include/uapi/linux/fcntl.h
const F_DUPFD: u32 = 0;
const F_DUPFD_CLOEXEC: u32 = 1030;

/// `SOL_SOCKET` and `SCM_RIGHTS`: level and type of a control message that holds descriptors.
const SOL_SOCKET: u32 = 1;
const SCM_RIGHTS: u32 = 1;

/// Standard input, output and error.
const STANDARD: u32 = 3;

/// A call, by whatever convention it came, and how far we are with it, in the program's room.
#[repr(C)]
pub(super) struct Operation {
    code: u64,
    result: i64,
    arg: [u64; 6],
    /// Whether structures in memory are those of 32 bits.
    narrow: u64,
    /// Standard descriptors that it gave, a bit each.
    given: u64,
    /// The control message that is looked at, and the end of them all.
    at: u64,
    end: u64,
    /// Messages that are to be looked at, and the address of the `struct sock` that they went through.
    messages: u64,
    sock: u64,
}

/// Whether a call is one of those below.
#[inline(always)]
pub fn is_network(call: &Syscall) -> bool {
    (call.code >= Call::Connect.code() && call.code <= Call::Fcntl.code())
        || (call.code >= Call::Sendmmsg.code() && call.code <= Call::RecvmsgX32.code())
}

/// Reads or writes a part of the operation.
macro_rules! operation {
    ($desk:expr, $($field:tt)+) => {{
        // SAFETY: a part of the room (see `Desk`). Volatile, so that it stays out of registers (see
        // `ROOM_MAP`).
        unsafe { read_volatile(&raw const (*$desk.0).operation.$($field)+) }
    }};
}
macro_rules! set_operation {
    ($desk:expr, $value:expr, $($field:tt)+) => {{
        let value = $value;
        // SAFETY: as in `operation!`.
        unsafe { write_volatile(&raw mut (*$desk.0).operation.$($field)+, value) }
    }};
}

/// Notes a call that is done; whether there may be something to tell of it. If so [`tell`] is next.
#[inline(always)]
pub fn done(caller: &Caller, call: &Syscall) -> bool {
    // Of one without a tag only the first connection is told, and nothing else comes here.
    if !caller.tag.is_server_lineage() && has_accepted(caller) {
        return false;
    }
    let Some(desk) = Desk::of(caller) else {
        return false;
    };
    desk.take(call);
    !desk.failed()
}

/// Tells what the call did that was noted last. The functions that it takes are called one after
/// another and not one by another, and from a program's own function, for the sake of the stack.
#[inline(always)]
pub fn tell(slot: u32) {
    let Some(desk) = Desk::at(slot.into()) else {
        return;
    };
    look_at_call(slot.into());
    for index in 0..MESSAGES {
        if index >= operation!(desk, messages) {
            break;
        }
        look_at_message(slot.into(), index);
    }
    desk.tell();
}

/// A global function: see [`super::tell_socket`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_at_call(slot: u64) -> u64 {
    let Some(desk) = Desk::at(slot) else {
        return 0;
    };
    if desk.is(Call::Recvmsg) {
        received(desk);
    } else if desk.is(Call::Descriptor) {
        desk.give(desk.result());
    } else if desk.is(Call::Fcntl) {
        if matches!(desk.arg::<1>() as u32, F_DUPFD | F_DUPFD_CLOEXEC) {
            desk.give(desk.result());
        }
    } else {
        used(desk);
    }
    standard(desk);
    0
}

impl Desk {
    /// Puts a call there.
    #[inline(always)]
    fn take(self, call: &Syscall) {
        let code = if call.is(Call::Socketcall) {
            let words = call.arg::<1>() as u32 as u64 as *const u32;
            set_operation!(self, word(words, 0), arg[0]);
            set_operation!(self, word(words, 1), arg[1]);
            set_operation!(self, word(words, 2), arg[2]);
            set_operation!(self, word(words, 3), arg[3]);
            set_operation!(self, word(words, 4), arg[4]);
            set_operation!(self, word(words, 5), arg[5]);
            multiplexed(call.arg::<0>() as u32)
        } else {
            set_operation!(self, call.arg::<0>(), arg[0]);
            set_operation!(self, call.arg::<1>(), arg[1]);
            set_operation!(self, call.arg::<2>(), arg[2]);
            set_operation!(self, call.arg::<3>(), arg[3]);
            set_operation!(self, call.arg::<4>(), arg[4]);
            set_operation!(self, call.arg::<5>(), arg[5]);
            call.code
        };
        let x32 = [
            (Call::SendmsgX32, Call::Sendmsg),
            (Call::SendmmsgX32, Call::Sendmmsg),
            (Call::RecvmsgX32, Call::Recvmsg),
        ];
        let narrow = u64::from(self.caller().flags & flag::COMPAT);
        set_operation!(self, narrow, narrow);
        set_operation!(self, code.into(), code);
        for (of_x32, same) in x32 {
            if code == of_x32.code() {
                set_operation!(self, 1, narrow);
                set_operation!(self, same.code().into(), code);
            }
        }
        set_operation!(self, call.result, result);
        set_operation!(self, 0, given);
        set_operation!(self, 0, messages);
    }

    #[inline(always)]
    fn arg<const N: usize>(self) -> u64 {
        operation!(self, arg[N])
    }

    #[inline(always)]
    fn result(self) -> i64 {
        operation!(self, result)
    }

    #[inline(always)]
    fn is(self, call: Call) -> bool {
        operation!(self, code) == u64::from(call.code())
    }

    /// Whether it failed, and has not begun a connection all the same.
    #[inline(always)]
    fn failed(self) -> bool {
        let result = self.result();
        result < 0
            && !(matches!(-result, EINTR | EINPROGRESS | ERESTARTSYS)
                && (self.is(Call::Connect) || self.is(Call::Sendto) || self.is(Call::Sendmsg)))
    }

    /// Notes a descriptor that the call gave, if it is a standard one.
    #[inline(always)]
    fn give(self, fd: i64) {
        if (0..STANDARD.into()).contains(&fd) {
            set_operation!(self, operation!(self, given) | 1 << fd, given);
        }
    }

    /// The socket that a descriptor is.
    #[inline(always)]
    fn sock(self, fd: u32) -> Option<Sock> {
        self.caller().task.file(fd)?.socket()?.sock()
    }

    /// The socket that a descriptor is; `None` where it is one of a family that is not told. A call that
    /// went well had a socket: where there is none now, another thread took it away.
    #[inline(always)]
    fn socket(self, fd: u32) -> Option<Sock> {
        match self.sock(fd) {
            Some(sock) if sock.is_told() => Some(sock),
            Some(_) => None,
            None => {
                output::dropped(Drop::SocketFault);
                None
            }
        }
    }
}

/// The call that a socketcall(2) is (`SYS_SOCKET` …, include/uapi/linux/net.h). Its arguments are words
/// in memory (`__sys_socketcall`, net/socket.c).
#[inline(always)]
fn multiplexed(number: u32) -> u8 {
    let call = match number {
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
        _ => return 0,
    };
    call.code()
}

/// A word of the caller's; zero where it is not there.
#[inline(always)]
fn word(words: *const u32, at: usize) -> u64 {
    kernel::user::<u32>(words.wrapping_add(at).cast())
        .unwrap_or(0)
        .into()
}

/// What was done with a socket.
#[inline(always)]
fn used(desk: Desk) {
    let fd = if desk.is(Call::Accept) {
        desk.give(desk.result());
        desk.result() as u32
    } else {
        desk.arg::<0>() as u32
    };
    let Some(sock) = desk.socket(fd) else {
        return;
    };
    if desk.is(Call::Connect) {
        note_connect(desk, sock);
    } else if desk.is(Call::Bind) {
        desk.note(sock, More::of(EventKind::Bind));
    } else if desk.is(Call::Accept) {
        if is_told_accepting(desk.caller(), sock) {
            desk.note(sock, More::of(EventKind::Accept));
        }
    } else if desk.is(Call::Listen) {
        // `inet_sock_set_state` has told the others.
        if sock.family() == AF_UNIX || was_portless(desk.caller()) {
            desk.note(sock, More::of(EventKind::Listen));
        }
    } else {
        let count = if desk.is(Call::Sendmmsg) {
            desk.result() as u64
        } else {
            1
        };
        if count > MESSAGES {
            output::dropped(Drop::SocketFault);
        }
        set_operation!(desk, count, messages);
        set_operation!(desk, sock.number(), sock);
    }
}

/// A connection, to the end that the socket has now. One that has none was given up (`AF_UNSPEC`), or
/// its protocol keeps it elsewhere; then the caller's address is what is known.
#[inline(always)]
fn note_connect(desk: Desk, sock: Sock) {
    let Some(draft) = desk.draft() else {
        return;
    };
    let mut flags = flag::RESOLVED;
    if !draft.peer.to.set_remote(sock) {
        let address = Address::<true>::new(desk.arg::<1>() as *const u8, desk.arg::<2>() as u32);
        let known = match address {
            Some(address) => draft.peer.to.set_address(sock, address, false),
            None => false,
        };
        if !known {
            return;
        }
        flags = 0;
    }
    let result = desk.result();
    if result < 0 {
        flags |= flag::ATTEMPT;
    }
    let more = More {
        flags,
        end: REMOTE_END,
        result: result as u32,
        ..More::of(EventKind::Connect)
    };
    desk.keep(draft, sock, more);
}

/// Looks at one of the messages that were sent. A global function: see [`super::tell_socket`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_at_message(slot: u64, index: u64) -> u64 {
    let Some(desk) = Desk::at(slot) else {
        return 0;
    };
    let Some(sock) = Sock::new(operation!(desk, sock) as *const u8) else {
        return 0;
    };
    // Chosen before the look, so that the look is there once.
    let (address, flags) = if desk.is(Call::Sendto) {
        (
            Address::new(desk.arg::<4>() as *const u8, desk.arg::<5>() as u32),
            desk.arg::<3>(),
        )
    } else if desk.is(Call::Send) {
        (None, 0)
    } else {
        let flags = if desk.is(Call::Sendmmsg) {
            desk.arg::<3>()
        } else {
            desk.arg::<2>()
        };
        (name_of(desk, index), flags)
    };
    note_message::<true>(desk, sock, address, flags as u32);
    0
}

/// `msg_name` and `msg_namelen` of a `struct user_msghdr` or `struct compat_msghdr`, one of an array of
/// `struct mmsghdr` or `struct compat_mmsghdr`, which have how much was sent behind it.
#[inline(always)]
fn name_of(desk: Desk, index: u64) -> Option<Address<true>> {
    let header = desk.arg::<1>();
    if operation!(desk, narrow) == 0 {
        let header = header.wrapping_add(index * 64) as *const u8;
        let [at, len] = kernel::user::<[u64; 2]>(header)?;
        Address::new(at as *const u8, len as u32)
    } else {
        let header = header.wrapping_add(index * 32) as *const u8;
        let [at, len] = kernel::user::<[u32; 2]>(header)?;
        Address::new(u64::from(at) as *const u8, len)
    }
}

/// Descriptors that came with a message: of the control messages that the kernel has written, the
/// one that holds descriptors, and of these the lowest, which the kernel gives first.
#[inline(always)]
fn received(desk: Desk) {
    let compat = operation!(desk, narrow) != 0;
    controls(desk, compat);
    // `struct cmsghdr`: length, level, type; the length is a word of the convention.
    let (word, header) = if compat { (4, 12) } else { (8, 16) };
    for _ in 0..CONTROLS {
        let at = operation!(desk, at);
        if at.wrapping_add(header) > operation!(desk, end) {
            return;
        }
        let Some(size) = kernel::user::<u32>(at as *const u8) else {
            return;
        };
        let size = u64::from(size);
        if size < header {
            return;
        }
        let kind = kernel::user::<[u32; 2]>(at.wrapping_add(word) as *const u8);
        if kind == Some([SOL_SOCKET, SCM_RIGHTS]) {
            for index in 0..u64::from(STANDARD) {
                let from = header + index * size_of::<u32>() as u64;
                if from + size_of::<u32>() as u64 > size {
                    return;
                }
                if let Some(fd) = kernel::user::<i32>(at.wrapping_add(from) as *const u8) {
                    desk.give(fd.into());
                }
            }
            return;
        }
        set_operation!(desk, at.wrapping_add((size + word - 1) & !(word - 1)), at);
    }
}

/// Notes `msg_control` and `msg_controllen`, as the kernel left them.
#[inline(always)]
fn controls(desk: Desk, compat: bool) {
    let message = desk.arg::<1>() as *const u8;
    set_operation!(desk, 0, at);
    set_operation!(desk, 0, end);
    if compat {
        if let Some([at, len]) = kernel::user::<[u32; 2]>(message.wrapping_add(16)) {
            set_operation!(desk, at.into(), at);
            set_operation!(desk, u64::from(at) + u64::from(len), end);
        }
    } else if let Some([at, len]) = kernel::user::<[u64; 2]>(message.wrapping_add(32)) {
        set_operation!(desk, at, at);
        set_operation!(desk, at.wrapping_add(len), end);
    }
}

/// Tells the standard descriptors that the call gave and that are sockets. Most calls gave none.
#[inline(always)]
fn standard(desk: Desk) {
    if !desk.caller().tag.is_server_lineage() {
        return;
    }
    for fd in 0..STANDARD {
        if operation!(desk, given) & 1 << fd == 0 {
            continue;
        }
        if let Some(sock) = desk.sock(fd).filter(|sock| sock.is_told()) {
            note_redirect(desk, sock, fd);
        }
    }
}
