//! What the store says that processes take, held against an allocator that counts; and its bound under a fork
//! storm. A target of its own, as an allocator is everybody's, and one test, as all count together.
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Instant;

use tracer::detect::sigma::{RuleSet, pack_sources};
use tracer::enrich::content::package::Packages;
use tracer::enrich::docroot::discover::Entered;
use tracer::event::{Event, Exec, Exit, FileId, Fork, Meta, Payload, ProcessKey};
use tracer::lineage::Store;
use tracer::memory::{Budget, block};
use tracer::source::snapshot;
use tracer_common::event::{FdInfo, Ids, Namespaces};
use tracer_common::probe::Tier;
use tracer_common::tag::{Role, Tag};

#[path = "pipeline/speed/synthetic.rs"]
#[expect(clippy::unwrap_used, reason = "a panic is the report")]
mod synthetic;

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is left to the system's allocator, with the caller's own arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size = block(layout.size());
        let before = HELD.fetch_add(size, Ordering::Relaxed);
        PEAK.fetch_max(before + size, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.fetch_sub(block(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on; `alloc` gave what the system gave.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn held() -> usize {
    HELD.load(Ordering::Relaxed)
}

const MS: u64 = 1_000_000;

fn key(pid: u32) -> ProcessKey {
    ProcessKey::new(pid, u64::from(pid) * 10 * MS)
}

/// An event of a process, a millisecond after the last.
fn event(now: &mut u64, pid: u32, tag: Tag, payload: Payload) -> Event {
    *now += MS;
    Event {
        meta: Meta {
            boot_ns: *now,
            subject: key(pid),
            start_boot_ns: u64::from(pid) * 10 * MS,
            tid: pid,
            tag,
            tier: Tier::Tracepoint,
            flags: 0,
            cpu: 0,
            slot: 0,
            seq: 0,
        },
        payload,
    }
}

fn fork(now: &mut u64, pid: u32, child: u32, tag: Tag) -> Event {
    let fork = Fork {
        child: key(child),
        child_start_boot_ns: u64::from(child) * 10 * MS,
        child_tag: tag,
        ids: Ids::ZERO,
        parent: key(pid),
        vpid: child,
        pid_ns: 1,
    };
    event(now, pid, tag, Payload::Fork(fork))
}

/// An exec with so many bytes of arguments.
fn exec(now: &mut u64, pid: u32, tag: Tag, bytes: usize) -> Event {
    let exec = Exec {
        exe: format!("/usr/bin/program-{pid}").into_bytes(),
        file: FileId {
            dev: 1,
            inode: pid.into(),
        },
        nlink: 1,
        generation: 0,
        mode: 0o10_0755,
        cwd: b"/var/www/html".to_vec(),
        cgroup: b"/system.slice/some.service".to_vec(),
        cgroup_id: 1,
        filename: b"/usr/bin/program".to_vec(),
        interp: b"/usr/bin/program".to_vec(),
        args: vec![
            b"program".to_vec(),
            vec![b'x'; bytes / 2],
            vec![b'y'; bytes / 2],
        ],
        args_len: bytes as u64,
        ids: Ids::ZERO,
        cap_effective: 0,
        cap_permitted: 0,
        loginuid: None,
        sessionid: None,
        ns: Namespaces::ZERO,
        pgid: pid,
        sid: 1,
        tty: None,
        stdio: [FdInfo::ZERO; 3],
        parent: key(1),
        old_tid: pid,
        writer: None,
    };
    event(now, pid, tag, Payload::Exec(Box::new(exec)))
}

/// A store filled by `each` for `count` processes, with what it takes by the allocator.
fn filled(
    max: usize,
    count: u32,
    mut each: impl FnMut(&mut Store, &mut u64, u32),
) -> (Store, usize) {
    let before = held();
    let mut store = Store::new(max);
    let mut now = 1_000_000 * MS;
    store.apply(&exec(&mut now, 1, Tag::ZERO, 10), &mut Vec::new());
    for pid in 2..count + 2 {
        each(&mut store, &mut now, pid);
    }
    let taken = held() - before;
    (store, taken)
}

#[test]
fn the_count_of_bytes_is_near_and_bounds_a_storm() {
    const TAGGED: Tag = Tag {
        roles: Role::Web.bit(),
        ..Tag::ZERO
    };
    let apply = |store: &mut Store, event: Event| store.apply(&event, &mut Vec::new());
    // Estimates: processes that only forked, and such as executed with short and long arguments.
    let forked = |store: &mut Store, now: &mut u64, pid| apply(store, fork(now, 1, pid, Tag::ZERO));
    for (what, bytes) in [("forked", None), ("short", Some(20)), ("long", Some(4000))] {
        let (store, taken) = filled(usize::MAX, 5000, |store, now, pid| {
            forked(store, now, pid);
            if let Some(bytes) = bytes {
                apply(store, exec(now, pid, Tag::ZERO, bytes));
            }
        });
        assert_eq!(store.len(), 5001);
        let (said, each) = (store.held(), taken / 5000);
        eprintln!("{what}: {each} bytes each, counted {}", said / 5000);
        assert!(
            said * 10 >= taken * 9,
            "{what}: {said} of {taken} are counted"
        );
        assert!(
            said * 2 <= taken * 3,
            "{what}: {said} counted, {taken} taken"
        );
    }
    // What is gone leaves nothing but places in tables.
    let (mut store, _) = filled(usize::MAX, 1000, |store, now, pid| {
        forked(store, now, pid);
        apply(store, exec(now, pid, Tag::ZERO, 4000));
        apply(
            store,
            event(now, pid, Tag::ZERO, Payload::Exit(Exit { status: 0 })),
        );
    });
    let mut later = 2_000_000 * MS;
    apply(&mut store, exec(&mut later, 1, Tag::ZERO, 10));
    assert_eq!(store.len(), 1);
    assert!(store.held() < 5000, "{}", store.held());

    // A storm beyond the share of a budget of 64 MiB: all live, all have arguments of their own, and
    // some execute again and again; by a server's lineage too.
    let max = Budget::new(64 << 20).store;
    for tag in [Tag::ZERO, TAGGED] {
        let mut peak = 0;
        let before = held();
        let (store, taken) = filled(max, 12_000, |store, now, pid| {
            // Chains, so that there are ancestors to keep.
            let creator = if pid % 4 == 0 { 1 } else { pid - 1 };
            apply(store, fork(now, creator, pid, tag));
            apply(store, exec(now, pid, tag, 6000));
            apply(store, exec(now, creator, tag, 6000));
            assert!(store.held() <= max, "{}", store.held());
            peak = peak.max(held() - before);
        });
        let stats = store.stats();
        eprintln!(
            "storm: {} kept, {} refused, at most {peak} bytes",
            store.len(),
            stats.refused
        );
        assert!(stats.refused > 5000 && store.len() > 1000, "{stats:?}");
        assert!(
            peak <= max / 10 * 11 && taken <= max / 10 * 11,
            "{peak} of {max}"
        );
        // Nobody who is known lost an ancestor that was.
        let orphans = (2..12_002).filter_map(|pid| store.get(key(pid)));
        let broken =
            orphans.filter(|process| process.creator.is_some_and(|of| store.get(of).is_none()));
        assert_eq!(broken.count(), 0);
    }
}

/// Nanoseconds that one run takes, the least of several: others on the machine only make it more.
fn least(times: u32, mut run: impl FnMut(u32)) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..9 {
        let begin = Instant::now();
        for number in 0..times {
            run(number);
        }
        least = least.min(begin.elapsed().as_secs_f64() * 1e9 / f64::from(times));
    }
    least
}

/// What `cargo xtask bench` prints of the store. Times are ratios within one run: with 100,000 living
/// processes to with 1,000.
#[test]
#[ignore = "a benchmark, which `cargo xtask bench` runs"]
fn bench_store() {
    const MANY: u32 = 100_000;
    let apply = |store: &mut Store, event: Event| store.apply(&event, &mut Vec::new());
    // Creators of ten each, so that chains have several steps.
    let fill = |count: u32, bytes: Option<usize>| {
        filled(usize::MAX, count, |store, now, pid| {
            apply(store, fork(now, 1 + pid / 10, pid, Tag::ZERO));
            if let Some(bytes) = bytes {
                apply(store, exec(now, pid, Tag::ZERO, bytes));
            }
        })
    };
    for (what, bytes) in [
        ("forked only", None),
        ("executed, 200 bytes of arguments", Some(200)),
    ] {
        let (mut few, _) = fill(1000, bytes);
        let (mut many, taken) = fill(MANY, bytes);
        assert_eq!(many.len(), MANY as usize + 1);
        let look = |store: &Store, count: u32| {
            least(20_000, |number| {
                let pid = 2 + number.wrapping_mul(7919) % count;
                assert!(store.chain(key(pid)).count() > 1);
            })
        };
        let looked = look(&many, MANY) / look(&few, 1000);
        let live = |store: &mut Store| {
            let mut now = 3_000_000 * MS;
            least(2000, |number| {
                let pid = 1_000_000 + number;
                apply(store, fork(&mut now, 1, pid, Tag::ZERO));
                let exit = Payload::Exit(Exit { status: 0 });
                apply(store, event(&mut now, pid, Tag::ZERO, exit));
                now += 40_000 * MS;
            })
        };
        let lived = live(&mut many) / live(&mut few);
        println!(
            "| store of {MANY} living processes, {what} | {} bytes each | lineage looked up {looked:.2}, \
             fork and exit {lived:.2} times that of 1,000 |",
            taken / MANY as usize
        );
    }
}

/// What `cargo xtask bench` prints of the index of this host's packages.
#[test]
#[ignore = "a benchmark, which `cargo xtask bench` runs"]
fn bench_packages() {
    let tgid = std::process::id();
    let start_ticks = snapshot::started(Path::new("/proc"), tgid).expect("this process");
    let link = std::fs::read_link("/proc/self/ns/mnt").expect("a namespace");
    let number = link.to_str().and_then(|link| link.strip_prefix("mnt:["));
    let number = number.and_then(|number| number.strip_suffix(']')?.parse().ok());
    let mnt_ns = number.expect("a number");
    let entered = Entered::new(ProcessKey { tgid, start_ticks }, mnt_ns).expect("this process");
    let lists = std::fs::read_dir("/var/lib/dpkg/info").map_or(0, |names| {
        let names = names.flatten().map(|entry| entry.file_name());
        names
            .filter(|name| name.as_encoded_bytes().ends_with(b".list"))
            .count()
    });
    let (mut held_then, mut peak) = (0, 0);
    let nanoseconds = least(1, |_| {
        let before = held();
        PEAK.store(before, Ordering::Relaxed);
        let packages = Packages::default();
        packages.prepare(&entered, mnt_ns, &AtomicU32::new(0));
        held_then = held() - before;
        peak = PEAK.load(Ordering::Relaxed) - before;
    });
    println!(
        "index of {lists} packages of dpkg: {:.0} ms, {} KiB, {} KiB at most while it is built",
        nanoseconds / 1e6,
        held_then / 1024,
        peak / 1024
    );
}

/// What `cargo xtask bench` prints of rules in memory. `TRACER_SIGMAHQ` is as in the benchmark of their speed.
#[test]
#[ignore = "a benchmark, which `cargo xtask bench` runs"]
fn bench_rules_in_memory() {
    let pack = pack_sources();
    let mut sets = vec![
        ("the pack", pack.clone()),
        (
            "the pack and made-up ones",
            pack.iter().cloned().chain([synthetic::rules()]).collect(),
        ),
    ];
    let made_up = RuleSet::load(&[synthetic::rules()]).0;
    assert_eq!(made_up.rules().len(), synthetic::COUNT);
    if let Ok(path) = std::env::var("TRACER_SIGMAHQ") {
        sets.push(("the directory", synthetic::directory(Path::new(&path))));
    }
    for (name, sources) in sets {
        let text: usize = sources.iter().map(|source| source.text.len()).sum();
        let before = held();
        PEAK.store(before, Ordering::Relaxed);
        let (rules, _) = RuleSet::load(&sources);
        let (taken, peak) = (held() - before, PEAK.load(Ordering::Relaxed) - before);
        println!(
            "{name}: {} rules of {text} bytes take {} KiB, {} KiB at most while they are read",
            rules.rules().len(),
            taken / 1024,
            peak / 1024
        );
    }
}
