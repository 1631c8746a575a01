//! Sizes, each with why this number. A record that hits one of them says so in its flags.

/// Bytes kept of one resolved path, as NUL-ended components. `PATH_MAX` (linux/limits.h): a longer
/// path cannot be named in one call, only reached step by step.
pub const PATH_BYTES: usize = 4096;

/// Steps of one path walk; a mount crossing is a step too. Bounded for the 5.10 verifier, which has
/// no `bpf_loop`; ordinary hosts stay below 20.
pub const PATH_STEPS: usize = 64;

/// Longest name of one path component with its NUL (`NAME_MAX` + 1, linux/limits.h).
pub const NAME_BYTES: usize = 256;

/// Bytes kept of a cgroup path: a Kubernetes pod cgroup with a container id is below 300.
pub const CGROUP_BYTES: usize = 1024;

/// Steps of a cgroup walk: the deepest layouts seen (nested kind clusters) have 12.
pub const CGROUP_STEPS: usize = 16;

/// Bytes kept of a path string that the caller gave (script name, rename operands).
pub const STRING_BYTES: usize = 1024;

/// Bytes kept from the start of the argument area.
pub const ARGS_HEAD_BYTES: usize = 4096;

/// Bytes kept from the end of an argument area longer than the head: `sh -c '<padding> payload'`
/// has its payload there.
pub const ARGS_TAIL_BYTES: usize = 2048;

/// Descriptors described at exec: standard input, output and error.
pub const STDIO: usize = 3;

/// One probe's scratch space per CPU: the largest record (an exec) with every section full, below
/// the 32 KiB that a per-CPU map value may have (`PCPU_MIN_UNIT_SIZE`, linux/percpu.h).
pub const SCRATCH_BYTES: usize = 20 * 1024;

/// Default size of the ring that carries process life (fork, exec, exit, listen).
pub const LIFE_RING_BYTES: u32 = 8 * 1024 * 1024;

/// Default size of the ring that carries file events; apart from the life ring, so that noisy file
/// work can never push out lineage.
pub const FILE_RING_BYTES: u32 = 4 * 1024 * 1024;

/// Tagged processes at once where the machine does not say (`kernel.pid_max` does). A full map is
/// counted (`Drop::TagMapFull`), and user space still knows the lineage from fork records.
pub const TAGS: u32 = 65_536;

/// Executables known by inode to give a server role at exec.
pub const ROLE_INODES: u32 = 4096;

/// Files that server lineages wrote, remembered by inode; the least recently used goes first. As
/// many as user space remembers.
pub const WRITTEN: u32 = 16_384;

/// Served and component directories known by inode.
pub const DIRECTORIES: u32 = 16_384;

/// Threads that are inside a call whose names or paths were noted at its begin.
pub const CALLS: u32 = 4096;

/// Threads that are inside a change of a name, or were and left it undone; the least recently used goes
/// first. There from the start: some 4 MiB.
pub const NOTES: u32 = 4096;

/// Bytes of what is kept of each: the record, its two names, and nine words.
pub const NOTE_BYTES: usize = size_of::<crate::event::ChangeBody>() + 2 * NAME_BYTES + 9 * 8;

/// Mounts of one file system that are looked at for the thread's own.
pub const MOUNTS: usize = 16;

/// Files that an interpreter opens before its script, at most: PHP with every extension there is opens
/// some two hundred.
pub const SCRIPT_OPENS: u16 = 512;

/// Requests of io_uring that were handed in and are not done.
pub const REQUESTS: u32 = 8192;

/// Processes without a tag that took a connection, each of which is told once; the least recently used goes
/// first, and is told again.
pub const ACCEPTING: u32 = 8192;

/// Peers that a process sent a datagram to, of all processes; the least recently used goes first.
pub const PEERS: u32 = 8192;

/// Buckets of quotas at once, up to three a server process; the least recently used begins anew.
pub const QUOTAS: u32 = 1024;

/// File records that one server's lineage may make a second, outside watched directories, before
/// more are dropped (`Drop::FileQuota`): a tenth of what the file ring and the agent take.
pub const QUOTA_PER_SECOND: u32 = 20_000;

/// Seconds' worth of that which may be made at once: the start of a server writes its caches and
/// sessions in one go.
pub const QUOTA_BURST_SECONDS: u64 = 2;

/// How many times as many in watched directories: alerts hang on what happens there, and yet one server
/// must not take the whole ring.
pub const WATCHED_QUOTA_TIMES: u64 = 4;

/// The part of that quota that holds for what is told with process life and costs a process nothing: an
/// exec that fails, another name, the same user once more. No server does that often.
pub const LIFE_QUOTA_PART: u64 = 10;

/// What that part is at most: a burst of it (of records below half a kilobyte) is a quarter of the
/// default ring.
pub const LIFE_QUOTA_PER_SECOND: u64 = 2_000;

/// Processes whose last credentials are remembered; the least recently used goes first.
pub const CREDENTIALS: u32 = 4096;

/// Numbers of system calls that are looked at. The highest is below 480 on every architecture, but
/// those that x32 has for itself reach to 547 (arch/x86/entry/syscalls/syscall_64.tbl).
pub const CALL_NUMBERS: usize = 1024;
