//! Who listens, and what connections server lineages begin, take and make their standard input.
//!
//! Listening is told of any process, as it makes one a server; all else of tagged ones only. What a
//! connection carries is not looked at. [`call`] is the tracepoint tier, [`lsm`] the other; what
//! both tell is here.

pub mod call;
pub mod lsm;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::{LruHashMap, PerCpuArray};
use aya_ebpf::programs::RawTracePointContext;
use tracer_common::event::{EventKind, SocketBody, flag};
use tracer_common::limits::{CALLS, PEERS};
use tracer_common::probe::{Drop, SLOT_LISTEN, SLOTS, Tier};

use crate::guard;
use crate::kernel::{Address, Endpoint, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM, Sock, Task};
use crate::output::{self, Caller, Ring};

/// Whom a process sent datagrams to. The least recently used goes first, and is told again when it
/// is sent to again.
#[map(name = "PEERS")]
static PEER_MAP: LruHashMap<Peer, u64> = LruHashMap::with_max_entries(PEERS, 0);

/// Threads whose listen(2) was told without a port.
#[map(name = "PORTLESS")]
static PORTLESS_MAP: LruHashMap<u32, u64> = LruHashMap::with_max_entries(CALLS, 0);

/// Room to put an address together, one a program, as for [`output::Record`]: it is too large for the
/// stack.
#[map(name = "PEER")]
static SCRATCH_MAP: PerCpuArray<Peer> = PerCpuArray::with_max_entries(SLOTS, 0);

/// A process and one end of a socket, mostly the other.
#[repr(C)]
struct Peer {
    start_boot_ns: u64,
    tgid: u32,
    to: Endpoint,
}

impl Peer {
    /// Nobody yet, in the program's own room.
    #[inline(always)]
    fn of(caller: &Caller) -> Option<&'static mut Self> {
        let Some(room) = SCRATCH_MAP.get_ptr_mut(caller.slot) else {
            output::dropped(Drop::NoScratch);
            return None;
        };
        // SAFETY: the map's value, valid for the program's run; a program is not run twice at once on
        // one CPU (see `output::SCRATCH_MAP`), and takes this once at a time. Zero is a valid value.
        unsafe {
            room.write_bytes(0, 1);
            (*room).start_boot_ns = caller.task.start_boot_ns();
            (*room).tgid = caller.tgid;
            Some(&mut *room)
        }
    }
}

/// `TCP_LISTEN`, include/net/tcp_states.h
const TCP_LISTEN: u32 = 10;

/// `MSG_FASTOPEN`, include/linux/socket.h: send, and connect before.
const MSG_FASTOPEN: u32 = 0x2000_0000;

/// `trace_inet_sock_set_state(sk, oldstate, newstate)` from `inet_sk_state_store`,
/// net/ipv4/af_inet.c. The change to LISTEN happens inside listen(2), so the current task is the
/// one that called it; other changes may run in interrupts and are left at once. A socket that was
/// not bound gets its port only after this (`inet_csk_listen_start`,
/// net/ipv4/inet_connection_sock.c): the tracepoint tier tells it again when the call is done, and
/// every connection that is taken tells it.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: RawTracePointContext) -> i32 {
    let state: u32 = ctx.arg(2);
    if state == TCP_LISTEN && listen(&ctx).is_none() {
        output::dropped(Drop::TaskFault);
    }
    0
}

#[inline(always)]
fn listen(ctx: &RawTracePointContext) -> Option<()> {
    let sock = Sock::new(ctx.arg(0))?;
    let task = Task::current()?;
    let tgid = ctx.tgid();
    let caller = Caller {
        task,
        tgid,
        tid: ctx.pid(),
        tag: guard::tag(tgid),
        slot: SLOT_LISTEN,
        tier: Tier::Tracepoint,
        flags: 0,
    };
    if sock.local_port() == 0 {
        // Only to tell it with its port too: where it cannot be noted, nothing is lost but that.
        let _told_once = PORTLESS_MAP.insert(caller.tid, output::now(), 0);
    }
    tell(&caller, sock, &More::of(EventKind::Listen));
    Some(())
}

/// Whether a thread's listen(2) was told without a port.
#[inline(always)]
fn was_portless(caller: &Caller) -> bool {
    PORTLESS_MAP.remove(caller.tid).is_ok()
}

/// What is told beyond what the socket itself says.
#[derive(Clone, Copy)]
struct More {
    kind: EventKind,
    /// Bits of [`flag`].
    flags: u16,
    /// Whether the program's [`Peer`] is an end of the socket, and which.
    end: End,
    /// Descriptor that it became.
    fd: u32,
    /// Result of the call.
    result: u32,
    /// Inode number, where the socket does not know its file yet.
    inode: u64,
}

/// See [`More::end`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    No,
    Local,
    Remote,
}

impl More {
    #[inline(always)]
    const fn of(kind: EventKind) -> Self {
        Self {
            kind,
            flags: flag::RESOLVED,
            end: End::No,
            fd: u32::MAX,
            result: 0,
            inode: 0,
        }
    }
}

/// Tells of a socket. Listening goes with process life, as it may make a server. A function of its
/// own, as there are many ways to it.
#[inline(never)]
fn tell(caller: &Caller, sock: Sock, more: &More) {
    let caller = Caller {
        flags: caller.flags | more.flags,
        ..*caller
    };
    let fill = |body: &mut SocketBody| {
        sock.fill(body);
        caller.task.ids(&mut body.ids);
        body.net_ns = caller.task.net_ns();
        body.fd = more.fd;
        body.result = more.result;
        if more.inode != 0 {
            body.socket.inode = more.inode;
        }
        if more.end != End::No
            && let Some(peer) = SCRATCH_MAP.get_ptr(caller.slot)
        {
            // SAFETY: as in `Peer::of`; who asks for it has set it.
            let end = unsafe { &(*peer).to };
            if more.end == End::Local {
                end.local(body);
            } else {
                end.remote(body);
            }
        }
    };
    let ring = match more.kind {
        EventKind::Listen => Ring::Life,
        _ => Ring::Files,
    };
    output::send_filled(ring, more.kind, &caller, fill);
}

/// Tells that a standard descriptor became a socket.
#[inline(always)]
fn redirected(caller: &Caller, sock: Sock, fd: u32) {
    tell(
        caller,
        sock,
        &More {
            fd,
            ..More::of(EventKind::Redirect)
        },
    );
}

/// A message that was sent or is about to be: tells the peer of a datagram that the process has not
/// sent to, and a connection that was made by sending. A function of its own, which a call that
/// sends several messages comes to several times.
#[inline(always)]
fn message<const USER: bool>(
    caller: &Caller,
    sock: Sock,
    address: Option<Address<USER>>,
    flags: u32,
) {
    let kind = match sock.socket_type() {
        SOCK_DGRAM | SOCK_RAW => EventKind::Send,
        SOCK_STREAM if flags & MSG_FASTOPEN != 0 && address.is_some() => EventKind::Connect,
        _ => return,
    };
    let Some(peer) = Peer::of(caller) else {
        return;
    };
    let named = match address {
        Some(address) => peer.to.set_address(sock, address, true),
        None => false,
    };
    if !named && !peer.to.set_remote(sock) {
        return;
    }
    if matches!(kind, EventKind::Send) {
        // SAFETY: only whether there is one is asked.
        if unsafe { PEER_MAP.get(&*peer) }.is_some() {
            return;
        }
        // Where it cannot be noted it is told again.
        let _told_again = PEER_MAP.insert(&*peer, 0, 0);
    }
    let resolved = !(named && USER);
    tell(
        caller,
        sock,
        &More {
            flags: if resolved { flag::RESOLVED } else { 0 },
            end: End::Remote,
            ..More::of(kind)
        },
    );
}
