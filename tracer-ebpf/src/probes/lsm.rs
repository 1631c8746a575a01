//! spike
use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::fexit;
use aya_ebpf::programs::FExitContext;
use tracer_common::probe::{SLOT_FILE_OPEN, Tier};

use super::file;
use crate::guard;
use crate::kernel::{self, File, Task};
use crate::output::Caller;

#[fexit(function = "security_file_open")]
pub fn file_open(ctx: FExitContext) -> i32 {
    let tgid = ctx.tgid();
    let tag = guard::tag(tgid);
    if !tag.is_server_lineage() || tgid == kernel::own_tgid() {
        return 0;
    }
    let result: i32 = ctx.arg(1);
    let (Some(task), Some(file)) = (Task::current(), File::new(ctx.arg(0))) else {
        return 0;
    };
    if result != 0 {
        return 0;
    }
    let caller = Caller {
        task,
        tgid,
        tid: ctx.pid(),
        tag,
        slot: SLOT_FILE_OPEN,
        tier: Tier::Lsm,
        flags: 0,
    };
    file::open(&caller, file);
    0
}
