//! The contract between tracer's kernel side and its user side.
//!
//! Layout only: wire records, lineage tags, limits, the table of kernel structure members the
//! kernel side reads. No dependency, no `cfg`, no feature and no behaviour beyond layout, so both
//! sides compile exactly the same code and neither can see the other.
#![no_std]

pub mod control;
pub mod event;
pub mod ledger;
pub mod limits;
pub mod offsets;
pub mod probe;
pub mod tag;
pub mod wire;
