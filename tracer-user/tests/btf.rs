//! The offset table against the BTF of real kernels, and the reader against damaged ones.
//!
//! The fixtures are cut down by `examples/reduce_btf.rs`; `testdata/btf/README.md` says where each
//! comes from. The numbers below were taken from the whole BTF by a second, independent reader.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers may fail like the test itself"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracer::sensor::btf::{Btf, BtfError};
use tracer::sensor::offsets::{self, OffsetsError};
use tracer_common::control::{ABSENT, Call, Control, Function};
use tracer_common::offsets::KernelOffsets;
use tracer_common::probe::{Attach, Need, PROBES, Probe};

/// What is known of one kernel.
struct Kernel {
    fixture: &'static str,
    arch: &'static str,
    /// The optional rows that it lacks, by field.
    missing: &'static [&'static str],
    /// Offsets, in the order of [`sample`].
    offsets: [u32; 17],
    /// Offset of the word that tells 32-bit calls.
    compat_offset: u32,
    /// Arguments of `sched_process_exit`, which got a second one.
    exit_args: usize,
    uring: &'static Uring,
}

/// The tracepoints of io_uring.
struct Uring {
    submit_args: usize,
    complete_args: usize,
    overflow_args: Option<usize>,
    /// Which argument is what: of the first the request; of the second the request, the user's number,
    /// the result and the completion entry.
    places: [u32; 5],
}

const URING_5_10: Uring = Uring {
    submit_args: 7,
    complete_args: 4,
    overflow_args: None,
    places: [1, ABSENT, 1, 2, ABSENT],
};

const URING_6_1: Uring = Uring {
    submit_args: 2,
    complete_args: 7,
    overflow_args: Some(5),
    places: [0, 1, 2, 3, ABSENT],
};

const URING_6_12: Uring = Uring {
    submit_args: 1,
    ..URING_6_1
};

const URING_6_18: Uring = Uring {
    submit_args: 1,
    complete_args: 3,
    overflow_args: Some(5),
    places: [0, 1, ABSENT, ABSENT, 2],
};

/// What of io_uring came after 5.10.
const BEFORE_5_19: &[&str] = &[
    "kiocb_result",
    "kiocb_fd",
    "uring_node_file",
    "uring_xattr_name",
    "uring_xattr_attribute",
    "uring_xattr_size",
];
const BEFORE_6_13: &[&str] = &["uring_node_file"];

const KERNELS: &[Kernel] = &[
    Kernel {
        fixture: "debian-5.10-x86_64",
        arch: "x86_64",
        missing: BEFORE_5_19,
        offsets: [
            2236, 2544, 2720, 2832, 312, 928, 16, 68, 32, 16, 72, 8, 352, 96, 24, 8, 592,
        ],
        compat_offset: 8,
        exit_args: 1,
        uring: &URING_5_10,
    },
    Kernel {
        fixture: "debian-6.1-x86_64",
        arch: "x86_64",
        missing: BEFORE_6_13,
        offsets: [
            2420, 2784, 2960, 3072, 304, 936, 16, 68, 32, 16, 72, 8, 360, 96, 16, 8, 576,
        ],
        compat_offset: 16,
        exit_args: 1,
        uring: &URING_6_1,
    },
    Kernel {
        fixture: "debian-6.12-x86_64",
        arch: "x86_64",
        missing: BEFORE_6_13,
        offsets: [
            2436, 2784, 2960, 3072, 368, 1160, 64, 12, 32, 16, 72, 8, 352, 112, 16, 8, 624,
        ],
        compat_offset: 16,
        exit_args: 1,
        uring: &URING_6_12,
    },
    Kernel {
        fixture: "debian-6.12-aarch64",
        arch: "aarch64",
        missing: BEFORE_6_13,
        offsets: [
            1380, 1728, 1904, 2016, 352, 1040, 64, 12, 32, 16, 72, 8, 352, 112, 16, 8, 624,
        ],
        compat_offset: 0,
        exit_args: 1,
        uring: &URING_6_12,
    },
    Kernel {
        fixture: "firecracker-6.18-x86_64",
        arch: "x86_64",
        missing: &[],
        offsets: [
            1268, 1560, 1736, 1848, 480, 1312, 64, 4, 32, 16, 72, 8, 360, 144, 24, 8, 624,
        ],
        compat_offset: 16,
        exit_args: 2,
        uring: &URING_6_18,
    },
    Kernel {
        fixture: "debian-7.2-x86_64",
        arch: "x86_64",
        missing: &[],
        offsets: [
            2812, 3160, 3328, 3448, 728, 1536, 64, 4, 32, 16, 72, 8, 376, 128, 88, 8, 640,
        ],
        compat_offset: 16,
        exit_args: 2,
        uring: &URING_6_18,
    },
    Kernel {
        fixture: "debian-7.2-aarch64",
        arch: "aarch64",
        missing: &[],
        offsets: [
            1820, 2168, 2336, 2456, 632, 1344, 64, 4, 32, 16, 72, 8, 376, 128, 88, 8, 640,
        ],
        compat_offset: 0,
        exit_args: 2,
        uring: &URING_6_18,
    },
];

/// Members that moved between kernels, or that lie in anonymous or embedded structures.
fn sample(o: &KernelOffsets) -> [u32; 17] {
    [
        o.task_tgid,
        o.task_start_boottime,
        o.task_cred,
        o.task_signal,
        o.mm_arg_start,
        o.mm_exe_file,
        o.file_path,
        o.file_mode,
        o.dentry_name,
        o.mount_parent,
        o.inode_nlink,
        o.cred_uid,
        o.signal_pids,
        o.pid_numbers,
        o.mnt_ns_inum,
        o.kernfs_parent,
        o.sk_peer_pid,
    ]
}

fn path(fixture: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("testdata/btf/{fixture}.btf"))
}

fn bytes(fixture: &str) -> Vec<u8> {
    std::fs::read(path(fixture)).unwrap()
}

#[test]
fn every_kernel_resolves() {
    for kernel in KERNELS {
        let name = kernel.fixture;
        let btf = Btf::parse(bytes(name)).unwrap();
        let resolved = offsets::resolve(&btf).unwrap_or_else(|error| panic!("{name}: {error}"));
        let missing: Vec<_> = resolved.missing.iter().map(|member| member.field).collect();
        assert_eq!(missing, kernel.missing, "{name}");
        assert_eq!(sample(&resolved.offsets), kernel.offsets, "{name}");

        // The same on all of them: an ABI, or a structure that has not changed since.
        let o = resolved.offsets;
        assert_eq!(
            (
                o.qstr_name,
                o.path_mnt,
                o.path_dentry,
                o.upid_ns,
                o.upid_size,
                o.memory_cgrp_id
            ),
            (8, 0, 8, 8, 16, 4),
            "{name}"
        );
    }
}

#[test]
fn every_fixture_is_expected_and_small() {
    let mut found: Vec<_> = std::fs::read_dir(path("x").parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter_map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            let name = name.strip_suffix(".btf")?.to_owned();
            assert!(
                entry.metadata().unwrap().len() < 100_000,
                "{name}: reduce it"
            );
            Some(name)
        })
        .collect();
    found.sort();
    let mut known: Vec<_> = KERNELS.iter().map(|kernel| kernel.fixture).collect();
    known.sort_unstable();
    assert_eq!(found, known);
}

#[test]
fn every_probe_has_its_hook() {
    for kernel in KERNELS {
        let btf = Btf::parse(bytes(kernel.fixture)).unwrap();
        for probe in PROBES {
            let found = match probe.attach {
                Attach::RawTracepoint => {
                    let hooks = probe.hooks.iter();
                    hooks.filter_map(|hook| btf.tracepoint_args(hook)).next()
                }
                // Functions are asked for by name, and may be part of their callers.
                Attach::Fentry | Attach::Fexit => continue,
            };
            let expected = match probe.name {
                "sched_process_exit" => Some(kernel.exit_args),
                "sched_process_fork" | "sys_exit" | "sys_enter" | "task_rename" => Some(2),
                "sched_process_exec" | "inet_sock_set_state" => Some(3),
                "io_uring_submit" => Some(kernel.uring.submit_args),
                "io_uring_complete" => Some(kernel.uring.complete_args),
                "io_uring_overflow" => kernel.uring.overflow_args,
                other => panic!("the arguments of {other} are not known to this test"),
            };
            assert_eq!(found, expected, "{} on {}", probe.name, kernel.fixture);
        }
    }
}

#[test]
fn io_uring_is_read_from_the_right_arguments() {
    for kernel in KERNELS {
        let btf = Btf::parse(bytes(kernel.fixture)).unwrap();
        let control = offsets::control(&btf, kernel.arch, 42).unwrap();
        let found = [
            control.uring_submit_request,
            control.uring_complete_request,
            control.uring_complete_user_data,
            control.uring_complete_result,
            control.uring_complete_entry,
        ];
        assert_eq!(found, kernel.uring.places, "{}", kernel.fixture);
    }
    // A kernel without it.
    let control = offsets::control(
        &without("debian-6.1-x86_64", "btf_trace_io_uring_complete"),
        "x86_64",
        42,
    )
    .unwrap();
    assert_eq!(control.uring_submit_request, 0);
    assert_eq!(
        (
            control.uring_complete_request,
            control.uring_complete_result
        ),
        (ABSENT, ABSENT)
    );
}

#[test]
fn system_calls_are_read_from_the_right_registers() {
    for kernel in KERNELS {
        let btf = Btf::parse(bytes(kernel.fixture)).unwrap();
        let control = offsets::control(&btf, kernel.arch, 42).unwrap();
        assert_eq!(control.own_tgid, 42);
        assert_eq!(
            control.compat_offset, kernel.compat_offset,
            "{}",
            kernel.fixture
        );
        let Control {
            nr_offset,
            compat_shift,
            x32_mask,
            abi: [native, compat],
            calls,
            ..
        } = control;
        let open = Call::Open.code();
        let call = |(convention, number): (usize, usize)| calls[convention][number];
        match kernel.arch {
            "x86_64" => {
                assert_eq!((nr_offset, compat_shift, x32_mask), (120, 1, 0x4000_0000));
                assert_eq!(native.arg, [112, 104, 96, 56, 72, 64]); // di si dx r10 r8 r9
                assert_eq!(compat.arg, [40, 88, 96, 104, 112, 32]); // bx cx dx si di bp
                assert_eq!([(0, 2), (0, 257), (1, 295)].map(call), [open; 3]);
            }
            "aarch64" => {
                assert_eq!((nr_offset, compat_shift, x32_mask), (280, 22, 0));
                assert_eq!(native.arg, [272, 8, 16, 24, 32, 40]); // orig_x0, then x1 to x5
                assert_eq!(compat.arg, native.arg);
                assert_eq!([(0, 56), (1, 5), (1, 322)].map(call), [open; 3]);
                assert_ne!(call((0, 2)), open);
            }
            other => panic!("{other}"),
        }
    }
}

/// The fixture with a member's name spoilt, as if the kernel had renamed it.
fn without(fixture: &str, member: &str) -> Btf {
    let mut bytes = bytes(fixture);
    let name = format!("\0{member}\0");
    let at = bytes
        .windows(name.len())
        .position(|window| window == name.as_bytes());
    bytes[at.unwrap_or_else(|| panic!("{fixture} has no {member}")) + 1] = b'?';
    Btf::parse(bytes).unwrap()
}

#[test]
fn a_renamed_member_is_missed_by_name() {
    let fixture = "debian-6.12-x86_64";
    let resolved = offsets::resolve(&without(fixture, "sk_peer_pid")).unwrap();
    let missing: Vec<_> = resolved.missing.iter().map(|member| member.field).collect();
    assert_eq!(missing, ["sk_peer_pid", "uring_node_file"]);
    assert_eq!(resolved.offsets.sk_peer_pid, ABSENT);

    let error = offsets::resolve(&without(fixture, "mnt_mountpoint")).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("kernel not supported: its BTF has no mount.mnt_mountpoint; "),
        "{error}"
    );
}

/// Until 5.11 `vfs_rename` took its names one by one: its program would attach and tell nothing.
#[test]
fn a_kernel_whose_renames_would_not_be_told_has_the_other_tier() {
    for fixture in KERNELS.iter().map(|kernel| kernel.fixture) {
        let refusal = refusal(&Btf::parse(bytes(fixture)).unwrap());
        assert_eq!(refusal, None, "{fixture}");
    }
    let fixture = "debian-5.10-x86_64";
    for member in ["renamedata", "old_dentry", "vfs_rename"] {
        let refusal = refusal(&without(fixture, member));
        assert!(
            refusal.is_some_and(|text| text.starts_with("vfs_rename does not take")),
            "{member}: {refusal:?}"
        );
    }
    // The same structure, and one argument more.
    let mut control = control(&Btf::parse(bytes(fixture)).unwrap());
    control.arguments[Function::Rename as usize] = 6;
    let offsets = offsets::resolve(&Btf::parse(bytes(fixture)).unwrap()).unwrap();
    assert!(offsets::refusal(&offsets.offsets, &control).is_some());
}

fn control(btf: &Btf) -> Control {
    let arch = ["x86_64", "aarch64"].map(|arch| offsets::control(btf, arch, 1));
    arch.into_iter().find_map(Result::ok).unwrap()
}

fn refusal(btf: &Btf) -> Option<&'static str> {
    offsets::refusal(&offsets::resolve(btf).unwrap().offsets, &control(btf))
}

#[test]
fn a_kernel_that_cannot_serve_is_named_as_such() {
    let btf = Btf::parse(bytes("debian-6.12-x86_64")).unwrap();
    // An architecture's registers in another's BTF, and one that nobody has.
    let error = offsets::control(&btf, "aarch64", 1).unwrap_err();
    assert!(
        matches!(error, OffsetsError::Syscall("pt_regs.orig_x0")),
        "{error}"
    );
    let error = offsets::control(&btf, "vax", 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "architecture vax is not supported; x86_64 and aarch64 are"
    );

    // Well-formed, and empty but for the string section's first byte.
    let mut empty = vec![0x9f, 0xeb, 1, 0, 24, 0, 0, 0];
    empty.extend([0; 12]);
    empty.extend([1, 0, 0, 0, 0]);
    let error = offsets::resolve(&Btf::parse(empty).unwrap()).unwrap_err();
    let text = error.to_string();
    let OffsetsError::Missing(members) = error else {
        panic!("{text}")
    };
    let required = KernelOffsets::MEMBERS
        .iter()
        .filter(|member| member.required);
    assert_eq!(members.len(), required.count());
    assert!(
        text.starts_with(
            "kernel not supported: its BTF has no task_struct.tgid, task_struct.pid, "
        ),
        "{text}"
    );
    assert!(
        text.contains("task_struct.start_boottime or task_struct.real_start_time"),
        "{text}"
    );
}

/// splitmix64: the same noise on every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// Asks everything that the agent asks. Far above what a sound reader takes even here, where
/// nothing is optimised and the machine is busy; far below what a runaway walk does.
fn ask(bytes: Vec<u8>, what: &str) -> Result<(), BtfError> {
    let start = Instant::now();
    let outcome = Btf::parse(bytes).map(|btf| {
        let _resolved = offsets::resolve(&btf);
        for arch in ["x86_64", "aarch64"] {
            let _control = offsets::control(&btf, arch, 1);
        }
        for hook in PROBES.iter().flat_map(|probe| probe.hooks) {
            let _args = (btf.tracepoint_args(hook), btf.tracepoint_pointers(hook));
        }
    });
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{what} took {:?}",
        start.elapsed()
    );
    outcome
}

#[test]
fn damaged_btf_does_no_harm() {
    let mut noise = Noise(1505);
    let (mut read, mut refused) = (0, 0);
    for kernel in KERNELS {
        let whole = bytes(kernel.fixture);
        for round in 0..120 {
            let mut damaged = whole.clone();
            match round % 4 {
                // Single bytes, anywhere.
                0 => {
                    for _ in 0..=noise.below(8) {
                        let at = noise.below(damaged.len());
                        damaged[at] = noise.byte();
                    }
                }
                // Words of the type section become small numbers: plausible types and lengths.
                1 => {
                    for _ in 0..=noise.below(64) {
                        let at = 24 + 4 * noise.below(damaged.len() / 8);
                        let word = u32::try_from(noise.below(2000)).unwrap();
                        damaged[at..at + 4].copy_from_slice(&word.to_le_bytes());
                    }
                }
                // The header.
                2 => {
                    let at = 4 + noise.below(20);
                    damaged[at] = noise.byte();
                }
                _ => damaged.truncate(noise.below(whole.len())),
            }
            let what = format!("{} in round {round}", kernel.fixture);
            match ask(damaged, &what) {
                Ok(()) => read += 1,
                Err(_) => refused += 1,
            }
        }
    }
    // Both paths were walked.
    assert!(
        read > 100 && refused > 100,
        "{read} read, {refused} refused"
    );
}

#[test]
fn noise_does_no_harm() {
    let mut noise = Noise(7);
    for round in 0..500 {
        let mut bytes: Vec<u8> = (0..noise.below(4096)).map(|_| noise.byte()).collect();
        // Half of it with a sound header, or nothing but the magic number would be looked at.
        if round % 2 == 0 && bytes.len() > 24 {
            let body = u32::try_from(bytes.len() - 24).unwrap();
            let header = [0x0001_eb9f, 24, 0, body / 2, body / 2, body - body / 2];
            for (at, word) in header.into_iter().enumerate() {
                bytes[4 * at..4 * at + 4].copy_from_slice(&word.to_le_bytes());
            }
            // Kinds that exist, and short.
            for at in (28..bytes.len().saturating_sub(4)).step_by(12) {
                bytes[at + 1] = 0;
                bytes[at + 2] = 0;
                bytes[at] &= 3;
                bytes[at + 3] %= 20;
            }
        }
        let _outcome = ask(bytes, &format!("round {round}"));
    }
}

#[test]
fn the_running_kernel_resolves() {
    let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
        eprintln!("skipped: /sys/kernel/btf/vmlinux cannot be read");
        return;
    };
    let btf = Btf::parse(bytes).unwrap();
    let o = offsets::resolve(&btf)
        .unwrap_or_else(|error| panic!("{error}"))
        .offsets;
    offsets::control(&btf, std::env::consts::ARCH, std::process::id()).unwrap();

    // Members lie within their structures, and neighbours of old are neighbours.
    let size = |tag| btf.size_of(tag).unwrap();
    assert!(o.task_cgroups < size("task_struct") || o.task_cgroups == ABSENT);
    assert!(o.mm_exe_file < size("mm_struct"));
    assert!(o.file_path + size("path") <= size("file"));
    assert!(o.dentry_name + size("qstr") <= size("dentry"));
    assert!(o.mount_mnt + size("vfsmount") <= size("mount"));
    assert_eq!(o.task_tgid, o.task_pid + 4);
    assert_eq!(o.mm_arg_end, o.mm_arg_start + 8);
    assert_eq!(o.cred_gid, o.cred_uid + 4);
    let traced = |probe: &&Probe| probe.attach == Attach::RawTracepoint;
    let required = |probe: &&Probe| probe.need == Need::Required;
    for probe in PROBES.iter().filter(traced).filter(required) {
        let mut hooks = probe.hooks.iter();
        assert!(
            hooks.any(|hook| btf.tracepoint_args(hook).is_some()),
            "{}",
            probe.name
        );
    }
}
