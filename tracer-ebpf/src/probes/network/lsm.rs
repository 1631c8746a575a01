//! The LSM tier: hooks that are asked with the kernel's own copies of addresses, whatever call or
//! ring the request came by.

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::{fentry, fexit};
use aya_ebpf::programs::{FEntryContext, FExitContext};
use tracer_common::event::{EventKind, flag};
use tracer_common::probe::{
    SLOT_COMPAT_DUP2, SLOT_DUP2, SLOT_DUP3, SLOT_FD_INSTALL, SLOT_SENDMSG, SLOT_SOCK_GRAFT,
    SLOT_SOCKET_BIND, SLOT_SOCKET_CONNECT, SLOT_SOCKET_LISTEN,
};

use super::{
    Desk, LOCAL_END, MSG_FASTOPEN, More, REMOTE_END, is_told_accepting, note_message, note_redirect,
};
use crate::kernel::{AF_UNIX, Address, File, Message, SOCK_STREAM, Sock, Socket};
use crate::output::Caller;
use crate::probes::lsm::Who;

/// The caller, where it is of a server lineage. `told_early` is for what has not happened yet.
#[inline(always)]
fn tagged(ctx: &impl EbpfContext, slot: u32, told_early: bool) -> Option<Caller> {
    let caller = Who::tagged(ctx)?.caller(slot)?;
    let more = if told_early { flag::ATTEMPT } else { 0 };
    Some(Caller {
        flags: caller.flags | more,
        ..caller
    })
}

/// The socket of a hook's first argument, if its family is told.
#[inline(always)]
fn first(ctx: &FExitContext) -> Option<Sock> {
    let socket = Socket::new(ctx.arg(0))?;
    socket.sock().filter(|sock| sock.is_told())
}

/// The address that is the second and third argument.
#[inline(always)]
fn address(ctx: &FExitContext) -> Option<Address<false>> {
    Address::new(ctx.arg(1), ctx.arg(2))
}

/// `security_socket_connect(sock, address, addrlen)`, security/security.c, from `__sys_connect_file`,
/// net/socket.c, and from io_uring: permitted, and not yet tried. The address is the kernel's copy.
/// What makes a connection by sending does not come here but to [`socket_sendmsg`].
#[fexit(function = "security_socket_connect")]
pub fn socket_connect(ctx: FExitContext) -> i32 {
    let refused: i32 = ctx.arg(3);
    if refused == 0 {
        let _not_told = connect(&ctx);
    }
    0
}

#[inline(always)]
fn connect(ctx: &FExitContext) -> Option<()> {
    let caller = tagged(ctx, SLOT_SOCKET_CONNECT, true)?;
    let sock = first(ctx)?;
    let desk = Desk::of(&caller)?;
    let draft = desk.draft()?;
    if draft.peer.to.set_address(sock, address(ctx)?, false) {
        let more = More {
            end: REMOTE_END,
            ..More::of(EventKind::Connect)
        };
        desk.keep(draft, sock, more);
        desk.tell();
    }
    Some(())
}

/// `security_socket_bind(sock, address, addrlen)` from `__sys_bind`, net/socket.c: permitted, and not
/// yet done. A port of zero is one that the kernel will choose.
#[fexit(function = "security_socket_bind")]
pub fn socket_bind(ctx: FExitContext) -> i32 {
    let refused: i32 = ctx.arg(3);
    if refused == 0 {
        let _not_told = bind(&ctx);
    }
    0
}

#[inline(always)]
fn bind(ctx: &FExitContext) -> Option<()> {
    let caller = tagged(ctx, SLOT_SOCKET_BIND, true)?;
    let sock = first(ctx)?;
    let desk = Desk::of(&caller)?;
    let draft = desk.draft()?;
    // A unix socket that asks the kernel for a name has none here.
    if draft.peer.to.set_address(sock, address(ctx)?, true) || sock.family() == AF_UNIX {
        let more = More {
            end: LOCAL_END,
            ..More::of(EventKind::Bind)
        };
        desk.keep(draft, sock, more);
        desk.tell();
    }
    Some(())
}

/// `security_socket_listen(sock, backlog)` from `__sys_listen`, net/socket.c: permitted, and not yet
/// done; the socket has its name. Internet sockets are told by `inet_sock_set_state`.
#[fexit(function = "security_socket_listen")]
pub fn socket_listen(ctx: FExitContext) -> i32 {
    let refused: i32 = ctx.arg(2);
    if refused == 0 {
        let _not_told = listen(&ctx);
    }
    0
}

#[inline(always)]
fn listen(ctx: &FExitContext) -> Option<()> {
    let caller = tagged(ctx, SLOT_SOCKET_LISTEN, true)?;
    let sock = first(ctx)?;
    if sock.family() == AF_UNIX {
        let desk = Desk::of(&caller)?;
        desk.note(sock, More::of(EventKind::Listen));
        desk.tell();
    }
    Some(())
}

/// `security_sock_graft(sk, parent)` from `sock_graft`, include/net/sock.h: accept(2) has taken a
/// connection, with both addresses, off the queue and gives it to the new descriptor's socket. The
/// descriptor is not installed yet, and the connection does not know its socket.
#[fentry(function = "security_sock_graft")]
pub fn sock_graft(ctx: FEntryContext) -> i32 {
    let _not_told = graft(&ctx);
    0
}

#[inline(always)]
fn graft(ctx: &FEntryContext) -> Option<()> {
    let caller = Who::anyone(ctx)?.caller(SLOT_SOCK_GRAFT)?;
    // Told for what it does, not for what a file is.
    let caller = Caller {
        flags: caller.flags & !flag::UNTAGGED,
        ..caller
    };
    let sock = Sock::new(ctx.arg(0))?;
    let parent = Socket::new(ctx.arg(1))?;
    if sock.is_told() && is_told_accepting(&caller, sock) {
        let desk = Desk::of(&caller)?;
        let more = More {
            inode: parent.inode(),
            ..More::of(EventKind::Accept)
        };
        desk.note(sock, more);
        desk.tell();
    }
    Some(())
}

/// `security_socket_sendmsg(sock, msg, size)` from `sock_sendmsg`, net/socket.c: permitted, and not
/// yet sent. write(2) comes here as well. Messages of a sendmmsg(2) to the address of the one before
/// do not.
#[fexit(function = "security_socket_sendmsg")]
pub fn socket_sendmsg(ctx: FExitContext) -> i32 {
    let refused: i32 = ctx.arg(3);
    if refused == 0 {
        let _not_told = send(&ctx);
    }
    0
}

#[inline(always)]
fn send(ctx: &FExitContext) -> Option<()> {
    Who::tagged(ctx)?;
    let sock = first(ctx)?;
    // Most of what is sent goes by a connection.
    let message = Message::new(ctx.arg(1))?;
    if sock.socket_type() == SOCK_STREAM && message.flags() & MSG_FASTOPEN == 0 {
        return None;
    }
    let caller = tagged(ctx, SLOT_SENDMSG, true)?;
    let desk = Desk::of(&caller)?;
    let message = desk.number(ctx.arg(1));
    look_at_sent(caller.slot.into(), sock.number(), message);
    desk.tell();
    Some(())
}

/// Looks at a message, a `struct msghdr`. A global function: see [`super::tell_socket`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_at_sent(slot: u64, sock: u64, message: u64) -> u64 {
    if let (Some(desk), Some(sock), Some(message)) = (
        Desk::at(slot),
        Sock::new(sock as *const u8),
        Message::new(message as *const u8),
    ) {
        note_message(desk, sock, message.address(), message.flags());
    }
    0
}

/// `fd_install(fd, file)`, fs/file.c: the descriptor is there. Every call that gives a new one comes
/// here: socket, accept, dup, fcntl, recvmsg; dup2 and dup3 do not.
#[fexit(function = "fd_install")]
pub fn fd_install(ctx: FExitContext) -> i32 {
    let fd: u32 = ctx.arg(0);
    if fd <= 2 {
        let _not_told = install(&ctx, fd);
    }
    0
}

#[inline(always)]
fn install(ctx: &FExitContext, fd: u32) -> Option<()> {
    let caller = tagged(ctx, SLOT_FD_INSTALL, false)?;
    standard(&caller, File::new(ctx.arg(1))?, fd)
}

/// `__do_sys_dup2`, fs/file.c, is done; its result is the descriptor, which another thread may have
/// replaced since.
#[fexit(function = "__x64_sys_dup2")]
pub fn dup2(ctx: FExitContext) -> i32 {
    duplicated(&ctx, SLOT_DUP2)
}

/// The same of dup3(2), which dup2(3) is on some architectures.
#[fexit(function = "__x64_sys_dup3")]
pub fn dup3(ctx: FExitContext) -> i32 {
    duplicated(&ctx, SLOT_DUP3)
}

/// The same of a 32-bit program's dup2(2).
#[fexit(function = "__ia32_sys_dup2")]
pub fn compat_dup2(ctx: FExitContext) -> i32 {
    duplicated(&ctx, SLOT_COMPAT_DUP2)
}

#[inline(always)]
fn duplicated(ctx: &FExitContext, slot: u32) -> i32 {
    let fd: i64 = ctx.arg(1);
    if (0..=2).contains(&fd)
        && let Some(caller) = tagged(ctx, slot, false)
        && let Some(file) = caller.task.file(fd as u32)
    {
        let _not_told = standard(&caller, file, fd as u32);
    }
    0
}

#[inline(always)]
fn standard(caller: &Caller, file: File, fd: u32) -> Option<()> {
    let sock = file.socket()?.sock()?;
    if sock.is_told() {
        let desk = Desk::of(caller)?;
        note_redirect(desk, sock, fd);
        desk.tell();
    }
    Some(())
}
