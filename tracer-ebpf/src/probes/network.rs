//! Who listens, and what connections server lineages begin, take and make their standard input.
//!
//! Listening is told of any process, and so is the first connection that a program takes, as either makes one a
//! server: the socket may have been handed to it. All else is told of tagged ones only. What a
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
use tracer_common::limits::{ACCEPTING, CALLS, PEERS};
use tracer_common::probe::{Drop, SLOT_LISTEN, SLOTS, Tier};

use crate::guard;
use crate::kernel::{Address, Endpoint, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM, Sock, Task};
use crate::output::{self, Caller, Ring};
use call::Operation;

/// Whom a process sent datagrams to. The least recently used goes first, and is told again when it
/// is sent to again.
#[map(name = "PEERS")]
static PEER_MAP: LruHashMap<Peer, u64> = LruHashMap::with_max_entries(PEERS, 0);

/// Threads whose listen(2) was told without a port.
#[map(name = "PORTLESS")]
static PORTLESS_MAP: LruHashMap<u32, u64> = LruHashMap::with_max_entries(CALLS, 0);

/// How many connections a process has handed to rings that have not begun. One that never begins has a
/// later one told twice.
#[map(name = "CONNECTING")]
static CONNECTING_MAP: LruHashMap<u32, u32> = LruHashMap::with_max_entries(CALLS, 0);

/// Processes without a tag that took a connection with the program that they run, and when they started.
#[map(name = "ACCEPTED")]
static ACCEPTED_MAP: LruHashMap<u32, u64> = LruHashMap::with_max_entries(ACCEPTING, 0);

/// Room to put together what is told, one a program, as for [`output::Record`]. What is in a map is any
/// number to the verifier: a value that may be missing, kept in a register or on the stack, would have
/// it walk all that follows twice. And it is no stack, of which a chain of functions has 512 bytes.
#[map(name = "ROOM")]
static ROOM_MAP: PerCpuArray<Room> = PerCpuArray::with_max_entries(SLOTS, 0);

/// Sockets that one call may have told: those of a sendmmsg(2) have a new peer each.
const QUEUE: usize = 4;

/// See [`ROOM_MAP`].
#[repr(C)]
struct Room {
    caller: Caller,
    operation: Operation,
    /// See [`Desk::number`].
    number: u64,
    /// How many of the queue are to be told.
    count: u64,
    queue: [Telling; QUEUE],
}

// SAFETY: each CPU has its own, and a kernel address is the same number everywhere.
unsafe impl Sync for Room {}

/// A socket and what is told of it beyond what it says itself.
#[repr(C)]
struct Telling {
    /// Address of the `struct sock`.
    sock: u64,
    more: More,
    peer: Peer,
}

/// A process and one end of a socket, mostly the other.
#[repr(C)]
struct Peer {
    start_boot_ns: u64,
    tgid: u32,
    reserved: u32,
    to: Endpoint,
}

/// See [`Telling`].
#[derive(Clone, Copy)]
#[repr(C)]
struct More {
    /// Inode number, where the socket does not know its file yet.
    inode: u64,
    /// [`EventKind`]
    kind: u16,
    /// Bits of [`flag`].
    flags: u16,
    /// Which end of the socket the peer is: [`NO_END`] …
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
/// twice at once on one CPU (see `output::SCRATCH_MAP`). What is read from it is read by volatile reads,
/// so that it does not stay in registers (see [`ROOM_MAP`]).
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Desk(*mut Room);

impl Desk {
    /// The room of the caller's program, for the caller, with nothing to tell.
    #[inline(always)]
    fn of(caller: &Caller) -> Option<Self> {
        let desk = Self::at(caller.slot.into())?;
        // SAFETY: parts of the room (see `Desk`).
        unsafe {
            (&raw mut (*desk.0).caller).write(*caller);
            write_volatile(&raw mut (*desk.0).count, 0);
        }
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

    /// An address of a program's context as a number, which it is to the verifier once it was in memory;
    /// before it is a pointer, which a global function does not take.
    #[inline(always)]
    fn number(self, address: u64) -> u64 {
        // SAFETY: a part of the room (see `Desk`).
        unsafe {
            write_volatile(&raw mut (*self.0).number, address);
            read_volatile(&raw const (*self.0).number)
        }
    }

    #[inline(always)]
    fn count(self) -> u64 {
        // SAFETY: a part of the room (see `Desk`).
        unsafe { read_volatile(&raw const (*self.0).count) }
    }

    #[inline(always)]
    fn telling(self, index: u64) -> *mut Telling {
        // SAFETY: a part of the room (see `Desk`); the masked index is one of the queue.
        unsafe {
            (&raw mut (*self.0).queue)
                .cast::<Telling>()
                .add(index as usize & (QUEUE - 1))
        }
    }

    /// The next of the queue, with the caller and nobody yet; `None` where it is full.
    #[inline(always)]
    fn draft(self) -> Option<&'static mut Telling> {
        let count = self.count();
        if count >= QUEUE as u64 {
            return None;
        }
        let telling = self.telling(count);
        // SAFETY: as in `telling`, asked for once at a time. Zero is a valid value.
        unsafe {
            output::zero(telling);
            (*telling).peer.start_boot_ns = self.caller().task.start_boot_ns();
            (*telling).peer.tgid = self.caller().tgid;
            Some(&mut *telling)
        }
    }

    /// Puts a draft to what is told.
    #[inline(always)]
    fn keep(self, draft: &mut Telling, sock: Sock, more: More) {
        draft.sock = sock.number();
        draft.more = more;
        // SAFETY: a part of the room (see `Desk`).
        unsafe { write_volatile(&raw mut (*self.0).count, self.count() + 1) };
    }

    /// Puts a socket to what is told, of which no end is known but from itself.
    #[inline(always)]
    fn note(self, sock: Sock, more: More) {
        match self.draft() {
            Some(draft) => self.keep(draft, sock, more),
            None => output::dropped(Drop::SocketFault),
        }
    }

    /// Tells all.
    #[inline(always)]
    fn tell(self) {
        let slot = self.caller().slot.into();
        for index in 0..QUEUE as u64 {
            if index >= self.count() {
                break;
            }
            tell_socket(slot, index);
        }
    }
}

/// Tells one of the queue. What may make a server goes with process life.
///
/// A global function, which the verifier goes through once however often it is called: see
/// `output::walk`. It takes the slot of the program and the place in the queue.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tell_socket(slot: u64, index: u64) -> u64 {
    let Some(desk) = Desk::at(slot) else {
        return 0;
    };
    let telling = desk.telling(index);
    // SAFETY: as in `Desk::telling`.
    let (sock, more, end) = unsafe {
        (
            read_volatile(&raw const (*telling).sock),
            read_volatile(&raw const (*telling).more),
            &(*telling).peer.to,
        )
    };
    let Some(sock) = Sock::new(sock as *const u8) else {
        return 0;
    };
    let caller = desk.caller();
    let begins = more.kind == EventKind::Accept.raw() && !caller.tag.is_server_lineage();
    let ring = if begins || more.kind == EventKind::Listen.raw() {
        Ring::Bounded
    } else {
        Ring::Files
    };
    output::send_filled(
        ring,
        more.kind,
        more.flags,
        caller,
        |body: &mut SocketBody| {
            sock.fill(body);
            caller.task.ids(&mut body.ids);
            body.net_ns = caller.task.net_ns();
            body.fd = more.fd;
            body.result = more.result;
            if more.inode != 0 {
                body.socket.inode = more.inode;
            }
            if more.end == LOCAL_END {
                end.local(body);
            } else if more.end == REMOTE_END {
                end.remote(body);
            }
        },
    );
    0
}

/// `TCP_SYN_SENT` and `TCP_LISTEN`, include/net/tcp_states.h
const TCP_SYN_SENT: u32 = 2;
const TCP_LISTEN: u32 = 10;

/// `MSG_FASTOPEN`, include/linux/socket.h: send, and connect before.
const MSG_FASTOPEN: u32 = 0x2000_0000;

/// `trace_inet_sock_set_state(sk, oldstate, newstate)` from `inet_sk_state_store`,
/// net/ipv4/af_inet.c. The change to LISTEN happens inside listen(2), so the current task is the
/// one that called it, and that to SYN_SENT inside what begins a connection, when the peer is known
/// (`tcp_v4_connect`); other changes may run in interrupts and are left at once. A socket that was
/// not bound gets its port only after this (`inet_csk_listen_start`,
/// net/ipv4/inet_connection_sock.c): the tracepoint tier tells it again when the call is done, and
/// every connection that is taken tells it.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: RawTracePointContext) -> i32 {
    let state: u32 = ctx.arg(2);
    let kind = match state {
        TCP_LISTEN => EventKind::Listen,
        TCP_SYN_SENT if connects(ctx.tgid()) => EventKind::Connect,
        _ => return 0,
    };
    if change_of_state(&ctx, kind).is_none() {
        output::dropped(Drop::TaskFault);
    }
    0
}

#[inline(always)]
fn change_of_state(ctx: &RawTracePointContext, kind: EventKind) -> Option<()> {
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
    let mut more = More::of(kind);
    if matches!(kind, EventKind::Connect) {
        more.flags |= flag::ATTEMPT | flag::URING;
    } else if sock.local_port() == 0 {
        // Only to tell it with its port too: where it cannot be noted, nothing is lost but that.
        let _told_once = PORTLESS_MAP.insert(caller.tid, output::now(), 0);
    }
    let desk = Desk::of(&caller)?;
    desk.note(sock, more);
    desk.tell();
    Some(())
}

/// Notes that a process of a server's lineage handed a connection to a ring: no call will tell it.
#[inline(always)]
pub fn will_connect(tgid: u32) {
    let Some(count) = CONNECTING_MAP.get_ptr_mut(tgid) else {
        if CONNECTING_MAP.insert(tgid, 1, 0).is_err() {
            output::dropped(Drop::CallMapFull);
        }
        return;
    };
    // SAFETY: the pointer is to a value of the map, valid for the program's run and aligned. Volatile, as
    // another thread of the process may write to it: then one connection may be told too often, or none.
    unsafe { write_volatile(count, read_volatile(count) + 1) };
}

/// Whether a connection that begins is one of those.
#[inline(always)]
fn connects(tgid: u32) -> bool {
    let Some(count) = CONNECTING_MAP.get_ptr_mut(tgid) else {
        return false;
    };
    // SAFETY: as in `will_connect`.
    let left = unsafe { read_volatile(count) };
    if left > 1 {
        // SAFETY: as above.
        unsafe { write_volatile(count, left - 1) };
    } else {
        let _ended_meanwhile = CONNECTING_MAP.remove(tgid);
    }
    true
}

/// Whether a process without a tag was told to have taken a connection with the program that it runs.
#[inline(always)]
fn has_accepted(caller: &Caller) -> bool {
    // SAFETY: the value is copied at once; who wrote it is the process itself, one of its threads.
    let known = unsafe { ACCEPTED_MAP.get(caller.tgid) };
    known.is_some_and(|start| *start == caller.task.start_boot_ns())
}

/// Whether a connection that a process took is told: each of a server's lineage, of any other the first on an
/// internet socket.
#[inline(always)]
fn is_told_accepting(caller: &Caller, sock: Sock) -> bool {
    if caller.tag.is_server_lineage() {
        return true;
    }
    if !sock.is_inet() || has_accepted(caller) {
        return false;
    }
    // Where it cannot be noted it is told again.
    let _told_again = ACCEPTED_MAP.insert(caller.tgid, caller.task.start_boot_ns(), 0);
    true
}

/// A process runs another program, which has taken no connection yet.
#[inline(always)]
pub fn executes(tgid: u32) {
    let _had_none = ACCEPTED_MAP.remove(tgid);
}

/// Whether a thread's listen(2) was told without a port.
#[inline(always)]
fn was_portless(caller: &Caller) -> bool {
    PORTLESS_MAP.remove(caller.tid).is_ok()
}

/// Notes that a socket of the caller became a standard descriptor.
#[inline(always)]
fn note_redirect(desk: Desk, sock: Sock, fd: u32) {
    desk.note(
        sock,
        More {
            fd,
            ..More::of(EventKind::Redirect)
        },
    );
}

/// Notes a message that was sent or is about to be, if it is told: the first datagram of the process to
/// its peer, and a connection that is made by sending.
#[inline(always)]
fn note_message<const USER: bool>(
    desk: Desk,
    sock: Sock,
    address: Option<Address<USER>>,
    flags: u32,
) {
    let kind = match sock.socket_type() {
        SOCK_DGRAM | SOCK_RAW => EventKind::Send,
        SOCK_STREAM if flags & MSG_FASTOPEN != 0 && address.is_some() => EventKind::Connect,
        _ => return,
    };
    let Some(draft) = desk.draft() else {
        output::dropped(Drop::SocketFault);
        return;
    };
    let named = match address {
        Some(address) => draft.peer.to.set_address(sock, address, true),
        None => false,
    };
    if !named && !draft.peer.to.set_remote(sock) {
        return;
    }
    // Connections are told each time.
    if matches!(kind, EventKind::Send) && !is_fresh(&draft.peer) {
        return;
    }
    let caller_says = named && USER;
    let more = More {
        flags: if caller_says { 0 } else { flag::RESOLVED },
        end: REMOTE_END,
        ..More::of(kind)
    };
    desk.keep(draft, sock, more);
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
