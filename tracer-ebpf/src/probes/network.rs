//! Who listens.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use tracer_common::event::{EventKind, SocketBody, fd_kind};
use tracer_common::probe::{Drop, SLOT_LISTEN, Tier};

use crate::guard;
use crate::kernel::{Sock, Task};
use crate::output::{self, Caller};

/// `TCP_LISTEN`, include/net/tcp_states.h
const TCP_LISTEN: u32 = 10;

/// `trace_inet_sock_set_state(sk, oldstate, newstate)` from `inet_sk_state_store`,
/// net/ipv4/af_inet.c. The change to LISTEN happens inside listen(2), so the current task is the
/// one that called it; other changes may run in interrupts and are left at once.
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
    let mut body = SocketBody::ZERO;
    sock.describe(&mut body.socket);
    body.socket.kind = fd_kind::SOCKET;
    task.ids(&mut body.ids);
    body.net_ns = task.net_ns();
    body.socket_type = sock.socket_type();
    body.fd = u32::MAX;
    output::send(EventKind::Listen, &caller, body);
    Some(())
}
