//! Who listens.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use tracer_common::event::{EventKind, ListenBody};
use tracer_common::probe::Drop;

use crate::guard;
use crate::kernel::{Sock, Task};
use crate::output;

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
    output::send(
        output::header(EventKind::Listen, task, tgid, ctx.pid(), guard::tag(tgid)),
        ListenBody {
            addr: sock.local_addr(),
            net_ns: task.net_ns(),
            port: sock.local_port(),
            family: sock.family(),
        },
    );
    Some(())
}
