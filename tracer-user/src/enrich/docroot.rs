//! Which directories matter: those that servers serve, and those they load components from.
//!
//! Three origins, one set: the [`defaults()`] of distributions and official images, the user's
//! configuration, and what [`mod@discover`] reads from a running server's own configuration. A whole
//! tree such as `/var/www` or `/usr/share` is never taken for served: caches of compiled templates
//! and sessions live beside document roots, and writing them is a server's daily work.
//!
//! Pure, except for [`mod@discover`].

pub mod defaults;
pub mod directories;
pub mod discover;
pub mod parse;
pub mod path;
pub mod scope;
pub mod sources;

pub use defaults::{DefaultDirectory, defaults};
pub use directories::{Added, Directories, Entry, Match, Origin};
pub use discover::identity::{Located, identify};
pub use discover::{DiscoverRequest, Discovery, Found, Seen, discover, is_changed};

/// What a directory is to its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Its files are answers to requests, or are run to make them.
    Served,
    /// Its files are the program that the server runs: a directory of an application.
    Application,
    /// Its files become part of the server: modules, extensions, configuration.
    Component,
    /// Its files are run as programs for requests: interpreters start there by design.
    Cgi,
}

impl Kind {
    /// The word in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Application => "application",
            Self::Component => "component",
            Self::Cgi => "cgi",
        }
    }
}
