//! What was made is what arrived and what was counted as lost, under fire too; and a server that is
//! noisy does not hide another.
//!
//! `TRACER_STORM=60` has the fire last so many seconds.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use tracer::event::Payload;
use tracer_common::ledger::LOSSES;
use tracer_common::probe::Drop as Lost;
use tracer_common::tag::{InodeKey, Serves, Tag};

use crate::child::{Child, Image, until};
use crate::stage::{Outcome, Stage, TAG, Test, tests};
use crate::sys;
use crate::watch::Watch;

pub(crate) const TESTS: &[Test] = tests!("ledger":
    a_noisy_server_hides_no_other,
    failed_execs_hide_no_life,
    a_server_of_a_server_has_no_quota_of_its_own,
    the_books_balance_under_fire,
);

/// How often the rings are looked at under fire.
const LOOK: Duration = Duration::from_millis(20);

/// The tag of a server's lineage.
fn of(server: u32) -> Tag {
    Tag { server, ..TAG }
}

fn a_noisy_server_hides_no_other(stage: &mut Stage) -> Outcome {
    const NOISE: u64 = 600;
    const QUOTA: u32 = 10;
    let page = sys::page_size();
    let mut watch = Watch::with_quota(64 * page, 64 * page, QUOTA).unwrap();
    let folder = stage.folder();
    let served = folder.join("served/uploads");
    fs::create_dir_all(&served).unwrap();
    let meta = fs::metadata(folder.join("served")).unwrap();
    let directory = InodeKey {
        inode: meta.ino(),
        dev: sys::kernel_dev(meta.dev()),
        reserved: 0,
    };
    watch.sensor.watch_directory(directory, 0).unwrap();
    let path = |name: &str| sys::c(folder.join(name));
    let (noise, quiet) = (path("noise"), path("quiet"));
    let shells: Vec<CString> = (0..20)
        .map(|n| sys::c(served.join(n.to_string())))
        .collect();

    let mut noisy = Child::hold(|talk| {
        for _ in 0..NOISE {
            sys::creat(&noise, 0o600).unwrap();
        }
        for shell in &shells {
            sys::creat(shell, 0o600).unwrap();
        }
        talk.done();
        talk.wait();
        0
    });
    watch.sensor.set_tag(noisy.pid, of(1001)).unwrap();
    let mut other = Child::hold(|_| {
        sys::creat(&quiet, 0o600).unwrap();
        0
    });
    watch.sensor.set_tag(other.pid, of(1002)).unwrap();
    noisy.go();
    noisy.hear();
    // The quota of the one is used up; the other has one of its own.
    other.go();
    other.end_well();
    noisy.go();
    noisy.end_well();

    let mut opened: BTreeMap<(u32, bool), u64> = BTreeMap::new();
    for pid in [noisy.pid, other.pid] {
        for event in watch.rest(pid) {
            if let Payload::File(open) = event.payload {
                let there = open.directory.is_some();
                *opened.entry((pid, there)).or_default() += 1;
            }
        }
    }
    let count = |pid, there| opened.get(&(pid, there)).copied().unwrap_or(0);
    let lost = watch.drops(Lost::FileQuota);
    assert_eq!(count(other.pid, false), 1, "{opened:?}");
    assert_eq!(count(noisy.pid, true), shells.len() as u64, "{opened:?}");
    let noise = count(noisy.pid, false);
    assert_eq!(noise + lost, NOISE, "{opened:?}");
    // Two seconds' worth at once, and a little more while it lasted.
    assert!(
        (20..NOISE / 2).contains(&noise),
        "{noise} of {NOISE} came through"
    );
    assert_eq!(watch.drops(Lost::FileRingFull), 0);
    Ok(())
}

/// What a process can do as often as it likes, and is told with process life: what others do there is not
/// lost by it, and each that is not told is counted.
fn failed_execs_hide_no_life(_: &mut Stage) -> Outcome {
    const NOISE: u64 = 20_000;
    const LIVES: usize = 40;
    let page = sys::page_size();
    // The ring takes what a quota lets through, and not all of them. So small that this holds where each of
    // them takes a millisecond, too.
    let mut watch = Watch::with_quota(512 * page, 64 * page, 200).unwrap();
    let mut noisy = Child::hold(|talk| {
        for _ in 0..NOISE {
            let _fails = sys::execve(c"/", &[], &[]);
        }
        talk.done();
        talk.wait();
        0
    });
    let mut other = Child::hold(|talk| {
        talk.wait();
        for _ in 0..LIVES {
            let pid = sys::fork().unwrap();
            if pid == 0 {
                sys::leave(0);
            }
            until("it ends", || sys::reap(pid).unwrap().is_some());
        }
        talk.done();
        talk.wait();
        0
    });
    watch.sensor.set_tag(noisy.pid, of(1001)).unwrap();
    watch.sensor.set_tag(other.pid, of(1001)).unwrap();
    noisy.go();
    other.go();
    // Nobody reads while both are at it.
    noisy.hear();
    other.go();
    other.hear();
    noisy.go();
    other.go();
    noisy.end_well();
    other.end_well();
    let (noisy, other) = (watch.rest(noisy.pid), watch.rest(other.pid));
    let failed = |event: &&tracer::event::Event| matches!(event.payload, Payload::ExecFailed(_));
    let told = noisy.iter().filter(failed).count() as u64;
    let forks = other.iter();
    let forks = forks.filter(|event| matches!(event.payload, Payload::Fork(_)));
    assert_eq!(forks.count(), LIVES);
    assert_eq!(watch.drops(Lost::LifeRingFull), 0);
    let lost = watch.drops(Lost::FileQuota);
    print!("({told} told, {lost} not) ");
    assert_eq!(told + lost, NOISE);
    assert!(lost > 0, "the quota held nothing back");
    Ok(())
}

/// An exec of what makes a server is no way to a quota of one's own.
fn a_server_of_a_server_has_no_quota_of_its_own(stage: &mut Stage) -> Outcome {
    let server = stage.folder().join("server");
    fs::copy(&stage.program, &server).unwrap();
    let file = crate::facts::file(&server);
    let key = InodeKey {
        inode: file.inode,
        dev: file.dev,
        reserved: 0,
    };
    let serves = Serves {
        roles: TAG.roles,
        generation: 0,
    };
    stage.watch.sensor.set_role(key, serves).unwrap();
    let mut child = Child::hold(|_| Image::helper(&server, "pause").exec());
    stage.watch.sensor.set_tag(child.pid, of(1001)).unwrap();
    child.go();
    let (meta, _) = stage.watch.exec(child.pid);
    assert_eq!((meta.tag.server, meta.tag.payer()), (child.pid, 1001));
    assert_eq!(meta.tag.child().payer(), 1001);
    child.kill();
    // Its own where nobody is above it.
    let mut child = Child::hold(|_| Image::helper(&server, "pause").exec());
    child.go();
    let (meta, _) = stage.watch.exec(child.pid);
    assert_eq!((meta.tag.server, meta.tag.payer()), (child.pid, child.pid));
    child.kill();
    Ok(())
}

/// What arrived of one program on one CPU.
#[derive(Default)]
struct Arrived {
    count: u64,
    /// The latest number by ring: a program may use both.
    last: [u64; 2],
}

#[derive(Default)]
struct Books {
    arrived: BTreeMap<(u32, u16), Arrived>,
    life: u64,
    files: u64,
}

impl Books {
    /// Takes what is there; how much.
    fn take(&mut self, watch: &mut Watch) -> u64 {
        watch.headers(|ring, header| {
            let arrived = self.arrived.entry((header.cpu, header.slot)).or_default();
            arrived.count += 1;
            let last = &mut arrived.last[ring];
            assert!(header.seq > *last, "{header:?} after number {last}");
            *last = header.seq;
            *[&mut self.life, &mut self.files][ring] += 1;
        })
    }
}

fn the_books_balance_under_fire(stage: &mut Stage) -> Outcome {
    // Rings small enough that they overflow, and a quota that is used up, on a busy machine too.
    let page = sys::page_size();
    let (life_ring, file_ring, quota) = (4 * page, 16 * page, 500);
    let seconds = std::env::var("TRACER_STORM").map_or(5, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("TRACER_STORM={text}: a number of seconds"))
    });
    let mut watch = Watch::with_quota(life_ring, file_ring, quota).unwrap();
    let folder = stage.folder();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let mut fire = vec![bomb()];
    for cpu in sys::cpus() {
        fire.push(opener(&folder, cpu));
    }
    for (server, child) in (2001..).zip(&mut fire) {
        watch.sensor.set_tag(child.pid, of(server)).unwrap();
        child.go();
    }
    let lost = |watch: &Watch| -> u64 {
        let lost = watch.sensor.lost_records();
        lost.iter().map(|(_, count)| *count).sum()
    };
    let mut books = Books::default();
    // On a slow machine nothing overflows that is read.
    until("a ring is full", || lost(&watch) > 0);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(seconds) {
        books.take(&mut watch);
        // A reader who is not woken, so that rings overflow.
        std::thread::sleep(LOOK);
    }
    fire.iter_mut().for_each(Child::kill);
    watch.sensor.detach();
    // A program that was running when it was unloaded may still hand its record over.
    until("the books balance", || {
        books.take(&mut watch);
        watch.sensor.made() == books.life + books.files + lost(&watch)
    });

    let (made, missing) = (watch.sensor.made(), lost(&watch));
    let reasons: Vec<String> = LOSSES
        .iter()
        .map(|reason| format!("{} {}", reason.name(), watch.drops(*reason)))
        .collect();
    print!(
        "({seconds} s: {made} records made = {} of life and {} of files arrived + {missing} lost: {}) ",
        books.life,
        books.files,
        reasons.join(", ")
    );
    // To the record, for each program on each CPU.
    let accounts = watch.sensor.accounts();
    for account in &accounts {
        let nothing = Arrived::default();
        let arrived = books
            .arrived
            .get(&(account.cpu, account.slot))
            .unwrap_or(&nothing);
        assert_eq!(arrived.count + account.lost, account.made, "{account:?}");
        assert!(
            arrived.last.iter().all(|last| *last <= account.made),
            "{account:?}"
        );
    }
    for key in books.arrived.keys() {
        let known = accounts
            .iter()
            .any(|account| (account.cpu, account.slot) == *key);
        assert!(known, "{key:?} has no account");
    }
    let cpus: Vec<u32> = books.arrived.keys().map(|(cpu, _)| *cpu).collect();
    for cpu in sys::cpus() {
        assert!(cpus.contains(&(cpu as u32)), "CPU {cpu} took no part");
    }
    assert!(
        missing > 0 && missing < made,
        "there was no fire, or only ashes"
    );
    Ok(())
}

/// Processes that double eight times and end, over and over, as many at once as there may be; in a pid
/// namespace of their own, so that they end with the child that this gives.
fn bomb() -> Child {
    const USER: u32 = 54_321;
    const MOST: u64 = 100;
    Child::hold_by(
        || sys::clone(libc::CLONE_NEWPID),
        |_| {
            sys::limit_processes(MOST);
            sys::set_ids([USER; 3], [USER; 3]);
            // The kernel forgets it with the user.
            sys::die_with_parent();
            sys::reap_nobody();
            loop {
                if let Ok(0) = sys::fork() {
                    for _ in 0..8 {
                        // Where there may be no more, this one goes on alone.
                        let _half_of_them = sys::fork();
                    }
                    sys::leave(0);
                }
            }
        },
    )
}

/// Writes files and renames them without a pause.
fn opener(folder: &Path, cpu: usize) -> Child {
    let name = |name: &str| sys::c(folder.join(format!("{name}-{cpu}")));
    let (from, to) = (name("from"), name("to"));
    Child::hold(move |_| {
        sys::stay_on(cpu);
        loop {
            for _ in 0..16 {
                sys::creat(&from, 0o600).unwrap();
            }
            sys::rename(&from, &to).unwrap();
        }
    })
}
