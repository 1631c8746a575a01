//! What stands between the agent and the kernel: what this kernel looks like, and what it lets us load.

pub mod btf;
pub mod offsets;
