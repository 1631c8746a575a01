//! Who listens, and what connections server lineages begin, take and make their standard input.
//!
//! Listening is told of any process, as it makes one a server; all else of tagged ones only. What a
//! connection carries is not looked at. [`call`] is the tracepoint tier, [`lsm`] the other; what
//! both tell is here.

pub mod call;
pub mod lsm;

use core::ptr::{read_volatile, write_volatile};

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
use call::{Fresh, Operation};

/// Whom a process sent datagrams to. The least recently used goes first, and is told again when it
/// is sent to again.
#[map(name = "PEERS")]
static PEER_MAP: LruHashMap<Peer, u64> = LruHashMap::with_max_entries(PEERS, 0);

/// Threads whose listen(2) was told without a port.
#[map(name = "PORTLESS")]
static PORTLESS_MAP: LruHashMap<u32, u64> = LruHashMap::with_max_entries(CALLS, 0);

/// Room to put together what is told, one a program, as for [`output::Record`]. What is in a map is any
/// number to the verifier: a value that may be missing, kept in a register or on the stack, would have
/// it walk all that follows twice.
#[map(name = "ROOM")]
static ROOM_MAP: PerCpuArray<Room> = PerCpuArray::with_max_entries(SLOTS, 0);

/// See [`ROOM_MAP`].
#[repr(C)]
struct Room {
    caller: Caller,
    operation: Operation,
    more: More,
    peer: Peer,
    fresh: Fresh,
}

// SAFETY: each CPU has its own, and a kernel address is the same number everywhere.
unsafe impl Sync for Room {}

/// A process and one end of a socket, mostly the other.
#[derive(Clone, Copy)]
#[repr(C)]
struct Peer {
    start_boot_ns: u64,
    tgid: u32,
    reserved: u32,
    to: Endpoint,
}

/// What is told beyond what the socket itself says.
#[derive(Clone, Copy)]
#[repr(C)]
struct More {
    /// Inode number, where the socket does not know its file yet.
    inode: u64,
    /// [`EventKind`]
    kind: u16,
    /// Bits of [`flag`].
    flags: u16,
    /// Which end of the socket the room's peer is: [`NO_END`] …
    end: u32,
    /// Descriptor that it became.
    fd: u32,
    /// Result of the call.
    result: u32,
}

/// Values of [`More::end`].
const NO_END: u32 = 0;
const LOCAL_END: u32 = 1;
const REMOTE_END: u32 = 2;

impl More {
    #[inline(always)]
    const fn of(kind: EventKind) -> Self {
        Self {
            inode: 0,
            kind: kind.raw(),
            flags: flag::RESOLVED,
            end: NO_END,
            fd: u32::MAX,
            result: 0,
        }
    }
}

/// The room of a program: valid for the program's run, and written by it alone, as a program is not run
/// twice at once on one CPU (see `output::SCRATCH_MAP`).
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Desk(*mut Room);

impl Desk {
    /// The room of the caller's program, for the caller.
    #[inline(always)]
    fn of(caller: &Caller) -> Option<Self> {
        let desk = Self::at(caller.slot.into())?;
        // SAFETY: a part of the room (see `Desk`).
        unsafe { (&raw mut (*desk.0).caller).write(*caller) };
        Some(desk)
    }

    /// The room of a program, in a function that takes no pointers.
    #[inline(always)]
    fn at(slot: u64) -> Option<Self> {
        match ROOM_MAP.get_ptr_mut(slot as u32) {
            Some(room) => Some(Self(room)),
            None => {
                output::dropped(Drop::NoScratch);
                None
            }
        }
    }

    /// Whom [`Desk::of`] put there, before anything else is asked.
    #[inline(always)]
    fn caller(self) -> &'static Caller {
        // SAFETY: a part of the room (see `Desk`), which nobody writes to from then on.
        unsafe { &(*self.0).caller }
    }

    /// Notes what is told next.
    #[inline(always)]
    fn note(self, more: More) {
        // SAFETY: a part of the room (see `Desk`). Volatile, so that it stays out of registers (see
        // `ROOM_MAP`).
        unsafe { write_volatile(&raw mut (*self.0).more, more) };
    }

    #[inline(always)]
    fn more(self) -> More {
        // SAFETY: as in `note`.
        unsafe { read_volatile(&raw const (*self.0).more) }
    }

    /// The caller and nobody yet.
    #[inline(always)]
    fn peer(self) -> &'static mut Peer {
        let caller = self.caller();
        // SAFETY: a part of the room (see `Desk`), asked for once at a time. Zero is a valid value.
        unsafe {
            let peer = &raw mut (*self.0).peer;
            output::zero(peer);
            (*peer).start_boot_ns = caller.task.start_boot_ns();
            (*peer).tgid = caller.tgid;
            &mut *peer
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
    Desk::of(&caller)?.tell_listening(sock);
    Some(())
}

/// Whether a thread's listen(2) was told without a port.
#[inline(always)]
fn was_portless(caller: &Caller) -> bool {
    PORTLESS_MAP.remove(&caller.tid).is_ok()
}

impl Desk {
    /// Tells of a socket what the socket says and what was noted.
    #[inline(always)]
    fn tell(self, sock: Sock) {
        let slot = self.caller().slot;
        tell_socket(slot.into(), sock.number());
    }

    /// Tells of listening, which goes with process life, as it may make a server.
    #[inline(always)]
    fn tell_listening(self, sock: Sock) {
        self.note(More::of(EventKind::Listen));
        let slot = self.caller().slot;
        tell_listener(slot.into(), sock.number());
    }

    #[inline(always)]
    fn send(self, sock: Sock, ring: Ring) {
        let more = self.more();
        let caller = Caller {
            flags: self.caller().flags | more.flags,
            ..*self.caller()
        };
        output::send_filled(ring, more.kind, &caller, |body: &mut SocketBody| {
            sock.fill(body);
            caller.task.ids(&mut body.ids);
            body.net_ns = caller.task.net_ns();
            body.fd = more.fd;
            body.result = more.result;
            if more.inode != 0 {
                body.socket.inode = more.inode;
            }
            // SAFETY: a part of the room (see `Desk`); who notes an end has put it there.
            let end = unsafe { &(*self.0).peer.to };
            if more.end == LOCAL_END {
                end.local(body);
            } else if more.end == REMOTE_END {
                end.remote(body);
            }
        });
    }
}

/// A global function, which the verifier goes through once however often it is called: see
/// `output::walk`. It takes the slot of the program and the address of a `struct sock`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tell_socket(slot: u64, sock: u64) -> u64 {
    if let (Some(desk), Some(sock)) = (Desk::at(slot), Sock::new(sock as *const u8)) {
        desk.send(sock, Ring::Files);
    }
    0
}

/// The same of a listener.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tell_listener(slot: u64, sock: u64) -> u64 {
    if let (Some(desk), Some(sock)) = (Desk::at(slot), Sock::new(sock as *const u8)) {
        desk.send(sock, Ring::Life);
    }
    0
}

/// Notes that the socket of the caller became a standard descriptor.
#[inline(always)]
fn note_redirect(desk: Desk, fd: u32) {
    desk.note(More {
        fd,
        ..More::of(EventKind::Redirect)
    });
}

/// Whether a message that was sent or is about to be is told: the first datagram of the process to its
/// peer, and a connection that is made by sending. If so, it is noted.
#[inline(always)]
fn note_message<const USER: bool>(
    desk: Desk,
    sock: Sock,
    address: Option<Address<USER>>,
    flags: u32,
) -> bool {
    let kind = match sock.socket_type() {
        SOCK_DGRAM | SOCK_RAW => EventKind::Send,
        SOCK_STREAM if flags & MSG_FASTOPEN != 0 && address.is_some() => EventKind::Connect,
        _ => return false,
    };
    let peer = desk.peer();
    let named = match address {
        Some(address) => peer.to.set_address(sock, address, true),
        None => false,
    };
    if !named && !peer.to.set_remote(sock) {
        return false;
    }
    let caller_says = named && USER;
    desk.note(More {
        flags: if caller_says { 0 } else { flag::RESOLVED },
        end: REMOTE_END,
        ..More::of(kind)
    });
    // Connections are told each time.
    !matches!(kind, EventKind::Send) || is_fresh(peer)
}

/// Whether the process has not sent to this peer yet. From now on it has.
#[inline(always)]
fn is_fresh(peer: &Peer) -> bool {
    // SAFETY: only whether there is one is asked.
    if unsafe { PEER_MAP.get(peer) }.is_some() {
        return false;
    }
    // Where it cannot be noted it is told again.
    let _told_again = PEER_MAP.insert(peer, 0, 0);
    true
}

/// Takes back what [`is_fresh`] noted.
#[inline(always)]
fn forget(peer: &Peer) {
    let _not_there = PEER_MAP.remove(peer);
}
