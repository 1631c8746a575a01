//! tracer: Linux process lineage, and alerts when servers spawn shells or write where they serve.
//!
//! Data flows one way: `source` (ring, snapshot, capture file) → `event` (decode) → `order` →
//! `lineage` → `enrich` → `detect` → `encode` → `sink`. `agent` wires the stages; `pipeline` owns
//! all state between decode and detect and does no I/O.

pub mod alert;
pub mod config;
pub mod enrich;
pub mod event;
pub mod lineage;
