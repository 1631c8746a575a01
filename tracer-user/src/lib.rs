//! tracer: Linux process lineage, and alerts when servers spawn shells or write where they serve.
//!
//! Data flows one way: `source` (ring, snapshot, capture file) → `event` (decode) → `order` →
//! `lineage` → `enrich` → `detect` → `encode` → `sink`. `agent` wires the stages; `pipeline` owns
//! all state between decode and detect and does no I/O.

pub mod agent;
pub mod alert;
pub mod cli;
pub mod config;
pub mod control;
pub mod detect;
pub mod encode;
pub mod enrich;
pub mod event;
pub mod lineage;
pub mod memory;
pub mod order;
pub mod pipeline;
pub mod rule;
pub mod sensor;
pub mod sink;
pub mod source;
