//! The lineage tag: what the kernel knows of a process's descent from a server.
//!
//! Kept in a map by tgid. `sched_process_fork` copies the creator's tag to the child before the
//! child runs, so a double fork, `setsid`, re-parenting or a new name cannot shed it. Only the
//! exit of the last thread removes it.

wire! {
    /// Descent from a server process; all zero means none.
    pub struct Tag {
        /// Union of the [`Role`] bits of all servers in the lineage.
        pub roles: u32,
        /// The nearest server process: the thread group that got the role. Zero where unknown.
        pub server: u32,
        /// Forks between the nearest server process and this one, saturating.
        pub distance: u16,
        /// Bits of [`via`]: how else than by birth the tag came.
        pub via: u16,
        /// The server process whose quota it counts against, where that is not `server`: the first of a
        /// lineage pays for all servers that run below it. Zero where it is `server`.
        pub quota: u32,
    }

    /// A file's identity on this host.
    pub struct InodeKey {
        /// Inode number (`inode.i_ino`).
        pub inode: u64,
        /// Device, in the kernel's own encoding: major << 20 | minor (linux/kdev_t.h).
        pub dev: u32,
        /// Unused, zero: map keys are compared byte by byte.
        pub reserved: u32,
    }

    /// An executable that makes a process a server.
    pub struct Serves {
        /// Union of the [`Role`] bits that it gives.
        pub roles: u32,
        /// `inode.i_generation` of the file; zero for any.
        pub generation: u32,
    }

    /// Who wrote a file: the process of a server's lineage that last did. All zero means none.
    pub struct Writer {
        /// Start of the process, nanoseconds since boot.
        pub start_boot_ns: u64,
        /// When, nanoseconds since boot.
        pub boot_ns: u64,
        /// Its tag then.
        pub tag: Tag,
        /// The process: thread group id in the initial pid namespace.
        pub tgid: u32,
        /// `inode.i_generation` of the file: the number of a removed file is used again, mostly with
        /// another generation.
        pub generation: u32,
    }
}

use crate::wire;

impl Tag {
    /// Whether the process descends from a server.
    #[must_use]
    pub const fn is_server_lineage(self) -> bool {
        self.roles != 0
    }

    /// The server process whose quota it counts against.
    #[must_use]
    pub const fn payer(self) -> u32 {
        if self.quota == 0 {
            self.server
        } else {
            self.quota
        }
    }

    /// The tag of a process with this one that becomes a server itself. Who paid for it goes on to pay:
    /// an exec is no way to a quota of one's own.
    #[must_use]
    pub const fn serving(self, roles: u32, tgid: u32) -> Self {
        let payer = self.payer();
        Self {
            roles: self.roles | roles,
            server: tgid,
            distance: 0,
            quota: if payer == tgid { 0 } else { payer },
            ..self
        }
    }

    /// The tag of a child that a process with this tag creates.
    #[must_use]
    pub const fn child(self) -> Self {
        Self {
            distance: self.distance.saturating_add(1),
            ..self
        }
    }
}

/// Bits of [`Tag::via`]: how a process that no server created came to a server's tag.
pub mod via {
    /// It executed a file that a server's lineage wrote.
    pub const FILE: u16 = 1 << 0;
    /// A server's lineage reached into it: ptrace(2), process_vm_writev(2), `/proc/PID/mem`.
    pub const TRACE: u16 = 1 << 1;
    /// No tag, and never in a record: an entry of the kernel side's map for a process without a tag
    /// that executes a script and has yet to open it.
    pub const SCRIPT: u16 = 1 << 15;
}

macro_rules! roles {
    ($( $(#[$doc:meta])* $name:ident = $bit:literal, $text:literal; )+) => {
        /// What a server does. The discriminant is its bit in [`Tag::roles`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Role { $( $(#[$doc])* $name = 1 << $bit, )+ }

        impl Role {
            /// Every role.
            pub const ALL: &[Self] = &[ $( Self::$name, )+ ];

            /// The role's word in output and rules.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$name => $text, )+ }
            }

            /// The role's bit in [`Tag::roles`].
            #[must_use]
            pub const fn bit(self) -> u32 {
                self as u32
            }
        }
    };
}

roles! {
    /// Web servers and reverse proxies.
    Web = 0, "web";
    /// Application runtimes behind them: php-fpm, Tomcat, gunicorn, node.
    App = 1, "app";
    /// SQL and document databases.
    Database = 2, "database";
    /// Caches and key-value stores.
    Cache = 3, "cache";
    /// Mail transfer and delivery.
    Mail = 4, "mail";
    /// File transfer.
    Ftp = 5, "ftp";
    /// What builds and deploys on request.
    Ci = 6, "ci";
    /// Monitoring and management: runs commands for those who manage the host.
    Agent = 7, "agent";
    /// Any other program that takes connections.
    Service = 8, "service";
}
