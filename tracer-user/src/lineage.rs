//! Processes and their descent.
pub mod process;
