//! From documents to text: the only module that writes JSON.
//!
//! What a document shows is declared once, in [`fields`]; [`ecs`] writes it as JSON and
//! [`fields::reference_markdown`] as documentation. [`pretty`] is for people at a terminal.
//!
//! Refuses to do I/O, to read a clock, and to invent: a fact that is not known is left out, never
//! filled in with a placeholder. Bytes of the traced processes are hostile: in every format they stay
//! within their line and cannot steer a terminal.

pub mod control;
pub mod ecs;
mod facts;
pub mod fields;
mod json;
pub mod loss;
pub mod pretty;
pub mod report;
pub mod rules;
mod scope;
mod summary;
mod text;
pub mod tree;
mod value;
mod words;
