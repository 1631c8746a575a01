//! The pipeline from records to documents: pure, so no kernel, no root and no clock is needed.
//!
//! What happens on a host is told in a small language ([`story`]); every test is a story and what
//! must come of it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "test helpers: a panic is the report"
)]

mod containers;
mod contents;
mod decode;
mod detection;
mod identity;
mod incidents;
mod kin;
mod kubernetes;
mod lineage;
mod linked;
mod loss;
mod names;
mod query;
mod random;
mod replay;
mod restart;
mod speed;
mod story;
mod tree;
