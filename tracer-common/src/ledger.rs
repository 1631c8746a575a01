//! The ledger: how many records each program made on a CPU, and how many of them were lost, why.
//!
//! What was made is what arrived and what was lost, for each program and CPU. Each line has one
//! writer: a program is not run twice at once on one CPU.

use crate::probe::{Drop, SLOTS};
use crate::wire;

/// Reasons that lose a record after it has its number.
pub const LOSSES: [Drop; 3] = [Drop::LifeRingFull, Drop::FileRingFull, Drop::FileQuota];

wire! {
    /// The line of one program.
    pub struct Line {
        /// Records made, lost ones included.
        pub made: u64,
        /// Lost ones, in the order of [`LOSSES`].
        pub lost: [u64; LOSSES.len()],
    }

    /// The ledger of one CPU.
    pub struct Ledger {
        /// A line a slot.
        pub lines: [Line; SLOTS as usize],
    }
}

/// The place of a reason in [`Line::lost`]; `None` where it loses no record.
#[must_use]
pub const fn column(reason: Drop) -> Option<usize> {
    match reason {
        Drop::LifeRingFull => Some(0),
        Drop::FileRingFull => Some(1),
        Drop::FileQuota => Some(2),
        Drop::TagMapFull
        | Drop::NoScratch
        | Drop::ArgsFault
        | Drop::PathFault
        | Drop::StringFault
        | Drop::FileFault
        | Drop::TaskFault
        | Drop::CallMapFull
        | Drop::SocketFault
        | Drop::WrittenMapFull
        | Drop::NoteLost => None,
    }
}

// Slots are masked where the ledger is written, and a column is the place in the list.
const _: () = assert!(SLOTS.is_power_of_two());
const _: () = assert!(columns_follow(&LOSSES, 0));

const fn columns_follow(reasons: &[Drop], at: usize) -> bool {
    match reasons {
        [] => true,
        [first, rest @ ..] => {
            matches!(column(*first), Some(place) if place == at) && columns_follow(rest, at + 1)
        }
    }
}
