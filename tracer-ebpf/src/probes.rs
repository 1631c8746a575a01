//! One module per family of hooks.
pub mod file;
pub mod network;
pub mod process;
