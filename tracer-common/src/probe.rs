//! The probes: where each program attaches and which tier it belongs to.

/// Which family of hooks produced a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tier {
    /// Raw and BTF tracepoints: every kernel with BTF.
    Tracepoint = 1,
    /// LSM, fentry and fexit: kernels where BPF trampolines work.
    Lsm = 2,
    /// Read from `/proc` by the agent, not seen by a hook.
    Snapshot = 3,
}

impl Tier {
    /// The tier with this wire number.
    #[must_use]
    pub const fn from_raw(raw: u8) -> Option<Self> {
        match raw {
            1 => Some(Self::Tracepoint),
            2 => Some(Self::Lsm),
            3 => Some(Self::Snapshot),
            _ => None,
        }
    }

    /// The tier's word in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tracepoint => "tracepoint",
            Self::Lsm => "lsm",
            Self::Snapshot => "snapshot",
        }
    }
}

/// One program of the object file.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Name of the program in the object, and of the raw tracepoint it attaches to.
    pub name: &'static str,
    /// Index of the program's scratch slot.
    pub slot: u32,
    /// Whether the agent is of no use without it.
    pub required: bool,
    /// What is not seen where the probe is missing.
    pub lost: &'static str,
    /// The word of its losses, where the kernel leaves it out.
    pub missed: &'static str,
}

/// Scratch slot of `sched_process_fork`.
pub const SLOT_FORK: u32 = 0;
/// Scratch slot of `sched_process_exec`.
pub const SLOT_EXEC: u32 = 1;
/// Scratch slot of `sched_process_exit`.
pub const SLOT_EXIT: u32 = 2;
/// Scratch slot of `sys_exit`.
pub const SLOT_SYSCALL: u32 = 3;
/// Scratch slot of `inet_sock_set_state`.
pub const SLOT_LISTEN: u32 = 4;

/// Every probe. Attached in this order: exits first, so that no tag outlives its process.
pub const PROBES: &[Probe] = &[
    Probe {
        name: "sched_process_exit",
        slot: SLOT_EXIT,
        required: true,
        lost: "process ends; the process store could not be kept bounded",
        missed: "exit_missed",
    },
    Probe {
        name: "sched_process_fork",
        slot: SLOT_FORK,
        required: true,
        lost: "process creation and with it all lineage",
        missed: "fork_missed",
    },
    Probe {
        name: "sched_process_exec",
        slot: SLOT_EXEC,
        required: true,
        lost: "programs run by servers: shells, interpreters",
        missed: "exec_missed",
    },
    Probe {
        name: "sys_exit",
        slot: SLOT_SYSCALL,
        required: false,
        lost: "files written, created or renamed by servers",
        missed: "sys_exit_missed",
    },
    Probe {
        name: "inet_sock_set_state",
        slot: SLOT_LISTEN,
        required: false,
        lost: "servers known only by listening (node, java -jar, python)",
        missed: "listen_missed",
    },
];

/// How many scratch slots there are: one per probe, so that a program interrupted by another on
/// the same CPU keeps its record.
pub const SLOTS: u32 = 5;

/// The slots of all probes, as bits.
const fn slots(probes: &[Probe]) -> u32 {
    match probes {
        [] => 0,
        [first, rest @ ..] => {
            let others = slots(rest);
            assert!(
                first.slot < SLOTS && others & (1 << first.slot) == 0,
                "slots are unique"
            );
            others | 1 << first.slot
        }
    }
}

const _: () = assert!(slots(PROBES) == (1 << SLOTS) - 1);

macro_rules! drops {
    ($( $(#[$doc:meta])* $name:ident = $index:literal, $text:literal, $lossy:literal; )+) => {
        /// Why the kernel side lost something or could not read it. The discriminant is the index
        /// of its per-CPU counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Drop { $( $(#[$doc])* $name = $index, )+ }

        impl Drop {
            /// Every reason, in the order of its counter.
            pub const ALL: &[Self] = &[ $( Self::$name, )+ ];

            /// The reason's word in metrics and output.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$name => $text, )+ }
            }

            /// Whether an event or a tag was lost, rather than one fact of an event.
            #[must_use]
            pub const fn loses_event(self) -> bool {
                match self { $( Self::$name => $lossy, )+ }
            }
        }
    };
}

drops! {
    /// The life ring was full.
    LifeRingFull = 0, "life_ring_full", true;
    /// The file ring was full.
    FileRingFull = 1, "file_ring_full", true;
    /// The map of tagged processes was full.
    TagMapFull = 2, "tag_map_full", true;
    /// The program's scratch slot could not be had.
    NoScratch = 3, "no_scratch", true;
    /// The argument area could not be read.
    ArgsFault = 4, "args_fault", false;
    /// A path walk met an unreadable pointer.
    PathFault = 5, "path_fault", false;
    /// A string of the caller could not be read.
    StringFault = 6, "string_fault", false;
    /// The descriptor of an open had no file: closed by another thread, or unreadable.
    FileFault = 7, "file_fault", true;
    /// A member of a task that its event rests on could not be read.
    TaskFault = 8, "task_fault", true;
}

/// How many drop counters there are.
#[expect(
    clippy::cast_possible_truncation,
    reason = "nine reasons fit in any integer"
)]
pub const DROPS: u32 = Drop::ALL.len() as u32;
