//! Facts that events do not carry themselves: containers, names of users, directories that matter.
//!
//! The modules here are pure; what reads files lives apart, in [`mod@docroot::discover`] and
//! [`user::load`], and runs off the pipeline.
pub mod container;
pub mod content;
pub mod docroot;
pub mod facts;
pub mod kubernetes;
pub mod user;
