//! One module per family of hooks.
pub mod change;
pub mod file;
pub mod lsm;
pub mod network;
pub mod privilege;
pub mod process;
pub mod syscall;
pub mod uring;
