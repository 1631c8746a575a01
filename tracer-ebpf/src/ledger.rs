//! The books: how many records each program made on each CPU, and how many of them were lost, why.
//!
//! What it refuses: to share a line. A counter that two programs add to would lose a count where one
//! interrupts the other, and the compiler has no atomic addition for this target.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use tracer_common::ledger::{Ledger, Line, column};
use tracer_common::probe::{Drop, SLOTS};

/// How many records each program has made on each CPU, delivered or not, and how many of them it lost.
/// One value, so that user space reads it whole.
#[map(name = "LEDGER")]
static LEDGER_MAP: PerCpuArray<Ledger> = PerCpuArray::with_max_entries(1, 0);

/// The line of a program in this CPU's ledger. A program is not run twice at once on one CPU, so it
/// has one writer.
#[inline(always)]
fn line(slot: u32) -> Option<*mut Line> {
    let ledger = LEDGER_MAP.get_ptr_mut(0)?;
    // SAFETY: the pointer is this CPU's own ledger, valid for the program's run, and the masked slot is
    // one of its lines.
    Some(unsafe {
        (&raw mut (*ledger).lines)
            .cast::<Line>()
            .add((slot & (SLOTS - 1)) as usize)
    })
}

/// The number of a record that is about to be handed over.
#[inline(always)]
pub fn made(slot: u32) -> u64 {
    let Some(line) = line(slot) else {
        return 0;
    };
    // SAFETY: as `line` says.
    unsafe {
        (*line).made += 1;
        (*line).made
    }
}

/// Counts a record that is lost after it got its number, in the column of its reason.
#[inline(always)]
pub fn lost(slot: u32, reason: Drop) {
    let (Some(line), Some(column)) = (line(slot), column(reason)) else {
        return;
    };
    // SAFETY: as `line` says, and the column is one of the line's.
    unsafe { *(&raw mut (*line).lost).cast::<u64>().add(column) += 1 };
    #[cfg(feature = "log")]
    crate::output::diagnose(reason as u32);
}
