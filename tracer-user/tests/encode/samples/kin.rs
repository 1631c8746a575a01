//! A process with everything that it belongs to, and all that it was before.

use tracer::alert::{Entry, Kin};
use tracer::event::Payload;
use tracer::lineage::process::RanAs;
use tracer_common::event::{FdInfo, Ids, fd_kind};

use super::Sample;
use super::parts::*;

/// A command of a login by ssh that had more than one program and ran as more than one user.
pub(super) fn sample_of_all() -> Sample {
    let bash = exec("/usr/bin/bash", &["-bash"]);
    let sudo = exec("/usr/bin/sudo", &["sudo", "id"]);
    let id = exec("/usr/bin/id", &["id"]);
    let mut shell = view(2000, 90 * SECOND, Some(image(&bash, 90 * SECOND)));
    shell.inferred_by = 1;
    let mut process = view(2001, 65 * SECOND, Some(image(&id, 69 * SECOND)));
    let mut observed = image(&sudo, 66 * SECOND);
    observed.observed = true;
    observed.server = Some(php());
    process.previous = vec![image(&bash, 60 * SECOND), observed];
    process.images_forgotten = 3;
    process.inferred_by = 0b11;
    process.ran_as = vec![
        RanAs {
            boot_ns: 65 * SECOND,
            ids: www(),
            capabilities: None,
        },
        RanAs {
            boot_ns: 66 * SECOND,
            ids: Ids::ZERO,
            capabilities: Some((1 << 21, 1 << 21 | 1 << 7)),
        },
    ];
    let mut document = document(Payload::Exec(Box::new(id)), process, vec![shell.clone()]);
    document.event.kin = Kin {
        parent: Some(systemd()),
        parent_inferred: true,
        group_leader: Some(shell.clone()),
        session_leader: Some(shell.clone()),
        entry: Some(Entry {
            leader: shell,
            kind: "sshd",
            socket: Some(FdInfo {
                kind: fd_kind::SOCKET,
                family: 2,
                state: 1,
                remote_addr: *b"\xc0\x00\x02\x07\0\0\0\0\0\0\0\0\0\0\0\0",
                remote_port: 50_000,
                ..FdInfo::ZERO
            }),
        }),
    };
    document.event.integrity.lineage_broken = true;
    document.event.integrity.ancestry_truncated = true;
    sample("kin", document)
}
