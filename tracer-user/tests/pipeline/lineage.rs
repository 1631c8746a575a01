//! Who made whom, in whatever order it is learnt, and within what bounds.

use tracer::alert::{Document, ProcessView};
use tracer::config::Emit;
use tracer::event::{Exit, Payload, ProcessKey, decode};
use tracer::lineage::Store;
use tracer::lineage::process::Process;
use tracer::memory::Budget;
use tracer::order::CAPACITY;
use tracer::pipeline::{Command, Pipeline};
use tracer::source::Input;
use tracer_common::tag::Role;

use crate::story::{
    ATTACHED, MS, SECOND, Teller, alerts, documents, inputs, preamble, raised, records, run, tags,
    told,
};

/// `20 dash witnessed < 11 php-fpm8.2 witnessed < 1 init observed`
pub(crate) fn lineage(document: &Document) -> String {
    let event = &document.event;
    std::iter::once(&event.process)
        .chain(&event.lineage)
        .map(|process| {
            format!(
                "{} {} {}",
                process.key.tgid,
                name(process),
                process.origin.name()
            )
        })
        .collect::<Vec<_>>()
        .join(" < ")
}

fn name(process: &ProcessView) -> String {
    process.image.as_ref().map_or("?".into(), |image| {
        let exe = String::from_utf8_lossy(&image.exec.exe).into_owned();
        exe.rsplit('/').next().unwrap().to_owned()
    })
}

/// The lineage that the last event of a story shows.
fn last_lineage(story: &str) -> String {
    lineage(documents(Emit::Events, &inputs(story)).last().unwrap())
}

fn permutations<T: Clone>(items: &[T], visit: &mut impl FnMut(&[T])) {
    fn go<T: Clone>(items: &mut [T], from: usize, visit: &mut impl FnMut(&[T])) {
        if from + 1 >= items.len() {
            return visit(items);
        }
        for other in from..items.len() {
            items.swap(from, other);
            go(items, from + 1, visit);
            items.swap(from, other);
        }
    }
    go(&mut items.to_vec(), 0, visit);
}

const SHORT: &[&str] = &[
    "fork 1>10\nexec 10 /usr/sbin/php-fpm8.2\nfork 10>11\nfork 11>20\nexec 20 /usr/bin/dash sh -c id\nopen 20 created /srv/www/x.php\nexit 20 0",
    "fork 1>10\nexec 10 /usr/bin/node node server.js\nlisten 10 3000\nfork 10>20\nexec 20 /usr/bin/dash sh\nexit 10 9",
    "fork 1>10\nexec 10 /usr/sbin/nginx\nfork 10>20\nfork 20>30\nexit 20 0\nexec 30 /usr/bin/bash bash -i",
    "fork 1>10\nexec 10 /usr/bin/java java org.apache.catalina.startup.Bootstrap\nlisten 10 8080\nfork 10>20\nexec 20 /usr/lib/jspawnhelper\nexec 20 /usr/bin/dash sh",
];

const BEGIN: &str = "served /srv/www\nobserved 1 /sbin/init\nend";

#[test]
fn every_order_of_arrival_gives_the_same_documents() {
    for story in SHORT {
        let mut teller = Teller::default();
        let begin = [preamble(), teller.tell(BEGIN)].concat();
        let story = teller.tell(story);
        let expected = documents(Emit::All, &[begin.clone(), story.clone()].concat());
        assert!(!alerts(&expected).is_empty());
        let mut orders = 0;
        permutations(&story, &mut |story| {
            orders += 1;
            let shuffled = documents(Emit::All, &[begin.as_slice(), story].concat());
            assert!(shuffled == expected, "order {orders} differs");
        });
        assert_eq!(orders, (1..=story.len()).product::<usize>());
    }
}

#[test]
fn either_ring_may_come_first() {
    let story = format!(
        "{BEGIN}\nfork 1>10\nexec 10 /usr/sbin/nginx\nlisten 10 80\nfork 10>11\nopen 11 created \
         /srv/www/x.php\nfork 11>20\nexec 20 /usr/bin/cp cp\nrename 20 /srv/www/a /srv/www/b.php\n\
         exit 20 0"
    );
    let all = inputs(&story);
    let expected = documents(Emit::All, &all);
    assert_eq!(
        alerts(&expected),
        ["server-code-write high 11", "server-code-write high 20"]
    );
    let is_file = |input: &Input| {
        let Input::Record(bytes) = input else {
            return false;
        };
        matches!(
            decode(bytes).unwrap().payload,
            Payload::File(_) | Payload::Change(_)
        )
    };
    let at = all
        .iter()
        .position(|input| *input == Input::SnapshotEnd)
        .unwrap()
        + 1;
    let (begin, story) = all.split_at(at);
    let (files, life): (Vec<Input>, Vec<Input>) = story.iter().cloned().partition(is_file);
    assert_eq!(files.len(), 2);
    for order in [[&files, &life], [&life, &files]] {
        let story: Vec<Input> = order.into_iter().flatten().cloned().collect();
        assert!(documents(Emit::All, &[begin, &story].concat()) == expected);
    }
}

/// Records that come after their turn still give the true chain, and are counted.
#[test]
fn late_records_mend_the_chain() {
    let mut teller = Teller::default();
    let begin = [preamble(), teller.tell(BEGIN)].concat();
    let late = teller.tell("fork 1>10\nexec 10 /usr/sbin/php-fpm8.2\nfork 10>11\nfork 11>20");
    let then = teller.tell("wait 2s\nexec 20 /usr/bin/dash sh");
    let mut most = 0;
    permutations(&late, &mut |late| {
        let mut all = begin.clone();
        for record in late {
            all.extend([record.clone(), Input::Watermark(u64::MAX)]);
        }
        all.extend(then.clone());
        let mut pipeline = run(Emit::Alerts, &all);
        let raised = pipeline.take_documents();
        assert_eq!(alerts(&raised), ["server-shell high 20"]);
        let pids: Vec<u32> = raised[0]
            .event
            .lineage
            .iter()
            .map(|process| process.key.tgid)
            .collect();
        assert_eq!(pids, [11, 10, 1]);
        let late = pipeline
            .counts()
            .iter()
            .find(|(name, _)| *name == "records_late")
            .unwrap()
            .1;
        most = most.max(late);
    });
    assert_eq!(most, 3, "backwards, all but the first are late");
}

#[test]
fn snapshot_and_hooks_are_one() {
    for (what, story, expected) in [
        (
            "forked during the snapshot",
            "observed 1 /sbin/init\nobserved 10 :parent=1 /usr/sbin/nginx\nfork 10>20\nobserved 20 /usr/sbin/nginx\nend\nexec 20 /usr/bin/id",
            "20 id witnessed < 10 nginx observed < 1 init observed",
        ),
        (
            "forked and given to init before it was read",
            "observed 1 /sbin/init\nobserved 10 :parent=1 /usr/sbin/nginx\nfork 10>20\nobserved 20 :parent=1 /usr/bin/sleep\nend\nexit 20 0",
            "20 nginx witnessed < 10 nginx observed < 1 init observed",
        ),
        (
            "ran a program during the snapshot, read before",
            "observed 1 /sbin/init\nobserved 10 :parent=1 /usr/bin/bash bash\nexec 10 /usr/bin/vim vim\nend\nexit 10 0",
            "10 vim observed < 1 init observed",
        ),
        (
            "ran a program during the snapshot, read after",
            "observed 1 /sbin/init\nobserved 10 :parent=1 /usr/bin/vim vim\nexec 10 /usr/bin/vim vim\nend\nexit 10 0",
            "10 vim observed < 1 init observed",
        ),
        (
            "read before its parent: the numbers have wrapped",
            "observed 1 :start=5 /sbin/init\nobserved 900 :start=500 :parent=1 /usr/sbin/nginx\nobserved 20 :start=700 :parent=900 /usr/bin/id\nend\nexit 20 0",
            "20 id observed < 900 nginx observed < 1 init observed",
        ),
        (
            "its parent ended before it was read",
            "observed 1 /sbin/init\nobserved 20 :parent=77 /usr/bin/id\nend\nexit 20 0",
            "20 id observed",
        ),
        (
            "known by nothing but its exec",
            "observed 1 /sbin/init\nobserved 10 :parent=1 /usr/sbin/nginx\nend\nexec 20 :parent=10 /usr/bin/id",
            "20 id inferred < 10 nginx observed < 1 init observed",
        ),
        (
            "CLONE_PARENT: the creator counts",
            "observed 1 /sbin/init\nobserved 10 :parent=1 /usr/sbin/nginx\nend\nfork 10>20 :parent=1\nexec 20 :parent=1 /usr/bin/id",
            "20 id witnessed < 10 nginx observed < 1 init observed",
        ),
        (
            "a double fork, long ago",
            "observed 1 /sbin/init\nobserved 10 :parent=1 /usr/sbin/nginx\nend\nfork 10>20\nfork 20>30\nexit 20 0\nexit 10 0\nwait 3600s\nfork 1>40\nexec 30 :parent=1 /usr/bin/id",
            "30 id witnessed < 20 nginx witnessed < 10 nginx observed < 1 init observed",
        ),
        (
            "jspawnhelper in one pid",
            "observed 1 /sbin/init\nend\nfork 1>10\nexec 10 /usr/bin/java java x\nfork 10>20\nexec 20 /usr/lib/jspawnhelper\nexec 20 /usr/bin/dash sh",
            "20 dash witnessed < 10 java witnessed < 1 init observed",
        ),
        (
            "sh -c 'exec id'",
            "observed 1 /sbin/init\nend\nfork 1>10\nexec 10 /usr/bin/dash sh -c 'exec id'\nexec 10 /usr/bin/id",
            "10 id witnessed < 1 init observed",
        ),
    ] {
        assert_eq!(last_lineage(story), expected, "{what}");
    }
}

#[test]
fn a_broken_chain_says_so() {
    let broken = |story: &str| {
        documents(Emit::Events, &inputs(story))
            .last()
            .unwrap()
            .event
            .integrity
            .lineage_broken
    };
    assert!(broken("observed 20 :parent=77 /usr/bin/id\nend\nexit 20 0"));
    assert!(!broken(
        "observed 1 /sbin/init\nobserved 20 :parent=1 /usr/bin/id\nend\nexit 20 0"
    ));
}

#[test]
fn losses_since_the_lineage_began_are_told() {
    let lost = |story: &str| {
        let documents = documents(Emit::Events, &inputs(story));
        documents.last().unwrap().event.integrity.lost.clone()
    };
    let begin = "observed 1 /sbin/init\nend";
    let two = "lost life_ring_full 3\nlost life_ring_full 2\nlost task_fault 1";
    assert_eq!(
        lost(&format!("{begin}\nfork 1>10\n{two}\nexec 10 /usr/bin/id")),
        [
            ("life_ring_full".to_owned(), 5),
            ("task_fault".to_owned(), 1)
        ]
    );
    assert_eq!(
        lost(&format!("{begin}\n{two}\nfork 1>10\nexec 10 /usr/bin/id")),
        []
    );
}

#[test]
fn an_end_that_two_threads_told_is_one() {
    let story = "observed 1 /sbin/init\nend\nfork 1>20\nexit 20 256\nexit 20 256";
    let ends = documents(Emit::Events, &inputs(story))
        .iter()
        .filter(|document| matches!(document.event.event.payload, Payload::Exit(_)))
        .count();
    assert_eq!(ends, 1);
}

#[test]
fn a_pid_used_again_is_another_process() {
    // With its end seen, and with its end lost.
    for end in ["exit 20 0", "# its exit is lost"] {
        let story = format!(
            "observed 1 /sbin/init\nobserved 10 :parent=1 /usr/sbin/nginx\nend\nfork 10>20\n\
             exec 20 /usr/bin/convert\n{end}\nwait 1s\nfork 1>20\nexec 20 /usr/bin/dash sh"
        );
        assert_eq!(
            last_lineage(&story),
            "20 dash witnessed < 1 init observed",
            "{end}"
        );
        assert_eq!(raised(&story), Vec::<String>::new());
        let mut store = filled(&story, usize::MAX);
        let of = |store: &Store, pid| -> Vec<Process> {
            keys(&story)
                .iter()
                .filter(|key| key.tgid == pid)
                .filter_map(|key| store.get(*key))
                .cloned()
                .collect()
        };
        let ended: Vec<bool> = of(&store, 20)
            .iter()
            .map(|process| process.ended.is_some())
            .collect();
        assert_eq!(ended, [true, false], "{end}");
        // And the first is let go like any other.
        apply(&mut store, "wait 3600s\nfork 1>99");
        assert_eq!(of(&store, 20).len(), 1, "{end}");
    }
}

#[test]
fn programs_of_one_pid_keep_the_first_and_the_last() {
    let chain: Vec<String> = (0..20).map(|n| format!("exec 20 /usr/bin/p{n}")).collect();
    let images = |begin: &str| -> Vec<String> {
        let story = format!("observed 1 /sbin/init\nend\n{begin}\n{}", chain.join("\n"));
        let process = documents(Emit::Events, &inputs(&story))
            .pop()
            .unwrap()
            .event
            .process;
        process
            .previous
            .iter()
            .chain(&process.image)
            .map(|image| String::from_utf8_lossy(&image.exec.exe).into_owned())
            .collect()
    };
    let kept = images("fork 1>20");
    assert_eq!(kept.len(), 8);
    assert_eq!(
        (kept[0].as_str(), kept[7].as_str()),
        ("/sbin/init", "/usr/bin/p19")
    );
    // A server stays, wherever it stands.
    let kept = images("fork 1>20\nexec 20 /usr/bin/dash sh\nexec 20 /usr/sbin/nginx");
    assert_eq!(kept.len(), 8);
    assert!(kept.contains(&"/usr/sbin/nginx".to_owned()), "{kept:?}");
}

/// Reads a story into a store, nothing else.
fn filled(story: &str, max_bytes: usize) -> Store {
    let mut store = Store::new(max_bytes);
    apply(&mut store, story);
    store
}

fn apply(store: &mut Store, story: &str) {
    for bytes in records(story) {
        store.apply(&decode(&bytes).unwrap(), &mut Vec::new());
    }
}

/// Every process that a story names, in its order.
fn keys(story: &str) -> Vec<ProcessKey> {
    let mut keys = Vec::new();
    for bytes in records(story) {
        let event = decode(&bytes).unwrap();
        let mut note = |key| {
            if !keys.contains(&key) {
                keys.push(key);
            }
        };
        note(event.meta.subject);
        if let Payload::Fork(fork) = event.payload {
            note(fork.child);
        }
    }
    keys
}

#[test]
fn ancestors_stay_while_a_descendant_lives_and_a_little_longer() {
    let held = |story: &str| filled(story, usize::MAX).len();
    let chain = "observed 1 /sbin/init\nfork 1>10\nfork 10>11\nfork 11>12\nexit 10 0\nexit 11 0";
    assert_eq!(held(&format!("{chain}\nwait 3600s\nlisten 1 22")), 4);
    assert_eq!(
        held(&format!("{chain}\nwait 3600s\nexit 12 0\nlisten 1 22")),
        4
    );
    assert_eq!(
        held(&format!(
            "{chain}\nwait 3600s\nexit 12 0\nwait 29s\nlisten 1 22"
        )),
        4
    );
    assert_eq!(
        held(&format!(
            "{chain}\nwait 3600s\nexit 12 0\nwait 31s\nlisten 1 22"
        )),
        1
    );
    // Children that end before their creators, and at once.
    let down =
        "observed 1 /sbin/init\nfork 1>10\nfork 10>11\nfork 11>12\nexit 12 0\nexit 11 0\nexit 10 0";
    assert_eq!(held(&format!("{down}\nwait 31s\nlisten 1 22")), 1);
    // A creator that is known better later does not keep the other for ever.
    let mended = "observed 1 /sbin/init\nobserved 5 :parent=1 /usr/bin/bash\nobserved 20 :parent=5 /usr/bin/id\n\
                  exit 5 0\nwait 31s\nlisten 1 22";
    let story = format!("{mended}\nlisten 1 23");
    let mut store = filled(&story, usize::MAX);
    assert_eq!(store.len(), 3);
    let mut teller = Teller::default();
    let fork = teller.tell("observed 20 /usr/bin/id\nfork 1>21 :at=0");
    let Input::Record(bytes) = &fork[1] else {
        panic!("a record")
    };
    // The fork record of 20 itself, late: 1 made it.
    let mut event = decode(bytes).unwrap();
    if let Payload::Fork(fork) = &mut event.payload {
        fork.child = ProcessKey::new(20, 200 * MS);
    }
    store.apply(&event, &mut Vec::new());
    event.meta.boot_ns = ATTACHED + 3600 * SECOND;
    event.payload = Payload::Exit(Exit { status: 0 });
    event.meta.subject = ProcessKey::new(20, 200 * MS);
    store.apply(&event, &mut Vec::new());
    assert_eq!(store.len(), 2, "5 went when its last child was another's");
}

#[test]
fn a_storm_of_forks_stays_in_bounds() {
    const STORM: usize = 200;
    let mut story = String::from("observed 1 /sbin/init\n");
    for pid in 2..12 {
        story.push_str(&format!("fork {}>{pid}\n", pid - 1));
    }
    let ancestors = keys(&story);
    // Half of them ended: they stay for the living one.
    story.push_str("exit 3 0\nexit 5 0\nexit 7 0\n");
    let mut stormy = story.clone();
    for pid in 100..100 + STORM {
        stormy.push_str(&format!(
            "fork 11>{pid}\nexec {pid} /usr/bin/true\nexit {pid} 0\n"
        ));
    }
    let max = filled(&story, usize::MAX).held() + 20_000;
    let mut store = Store::new(max);
    for bytes in records(&stormy) {
        store.apply(&decode(&bytes).unwrap(), &mut Vec::new());
        assert!(store.held() <= max, "{}", store.held());
    }
    let stats = store.stats();
    assert_eq!(stats.refused, 0);
    assert_eq!(
        usize::try_from(stats.evicted).unwrap(),
        ancestors.len() + STORM - store.len()
    );
    assert!(store.len() > ancestors.len() && store.len() < ancestors.len() + 20);
    assert!(ancestors.iter().all(|key| store.get(*key).is_some()));

    // Where all live, the newest are refused.
    let mut living = story;
    for pid in 100..100 + STORM {
        living.push_str(&format!("fork 11>{pid}\n"));
    }
    let keys = keys(&living);
    let store = filled(&living, max);
    assert!(store.held() <= max);
    let (known, refused) = keys.split_at(store.len());
    assert_eq!(
        usize::try_from(store.stats().refused).unwrap(),
        refused.len()
    );
    assert!(known.iter().all(|key| store.get(*key).is_some()));
    // What a process of theirs executes finds no room either, and nobody loses an ancestor by it.
    let mut long = living;
    let argument = "x".repeat(3000);
    for pid in 100..110 {
        long.push_str(&format!("exec {pid} /usr/bin/true true {argument}\n"));
    }
    let store = filled(&long, max);
    assert!(store.held() <= max);
    assert!(ancestors.iter().all(|key| store.get(*key).is_some()));
}

/// Who floods the store with processes of no server's lineage does not push out one that is.
#[test]
fn a_storm_leaves_room_for_servers() {
    let mut story = String::from(
        "observed 1 /sbin/init\nfork 1>10\nexec 10 /usr/sbin/nginx\nfork 10>11\nfork 1>20\n",
    );
    for pid in 100..400 {
        story.push_str(&format!("fork 20>{pid}\n"));
    }
    let flood = filled(&story, usize::MAX).held() - 50_000;
    story.push_str(
        "fork 11>30 :tag=web/0 :child-tag=web/1\nexec 30 :tag=web/1 /usr/bin/dash sh -c id\n",
    );
    let store = filled(&story, flood);
    assert!(store.stats().refused > 0 && store.held() <= flood);
    let shell = *keys(&story).last().unwrap();
    let names: Vec<u32> = store.chain(shell).map(|process| process.key.tgid).collect();
    assert_eq!(names, [30, 11, 10, 1]);
}

/// A program counts once, however many inherited it, and nothing is left of who is gone.
#[test]
fn what_is_shared_counts_once() {
    let argument = "x".repeat(3000);
    let mut story = format!("observed 1 /sbin/init\nfork 1>10\nexec 10 /usr/bin/a a {argument}\n");
    let before = filled(&story, usize::MAX).held();
    assert!(before > 3000);
    for pid in 100..200 {
        story.push_str(&format!("fork 10>{pid}\n"));
    }
    let with = filled(&story, usize::MAX).held();
    assert!(with - before < 100 * 1500, "{} each", (with - before) / 100);
    for pid in 100..200 {
        story.push_str(&format!("exit {pid} 0\n"));
    }
    story.push_str("wait 31s\nlisten 1 22\nlisten 1 22");
    let alone =
        format!("observed 1 /sbin/init\nfork 1>10\nexec 10 /usr/bin/a a {argument}\nlisten 1 22");
    assert_eq!(
        filled(&story, usize::MAX).held(),
        filled(&alone, usize::MAX).held()
    );
}

/// A process that the store has no room for is judged by what the kernel says of it.
#[test]
fn a_full_store_hides_no_shell() {
    let begin = "observed 1 /sbin/init\nobserved 2 :parent=1 /usr/bin/a\nobserved 3 :parent=1 /usr/bin/b\n\
                 observed 4 :parent=1 /usr/bin/c\nend";
    let story = format!("{begin}\nfork 4>20\nexec 20 :tag=app/1 /usr/bin/dash sh");
    let budget = Budget {
        store: 1,
        ..Budget::default()
    };
    let mut pipeline = Pipeline::new(Emit::Alerts, budget);
    for input in inputs(&story) {
        pipeline.input(input);
    }
    pipeline.input(Input::Watermark(u64::MAX));
    assert_eq!(alerts(&pipeline.take_documents()), ["server-shell high 20"]);
    let counts = pipeline.counts();
    assert!(counts.contains(&("processes", 0)), "{counts:?}");
}

/// Without a watermark the pipeline holds no more than its bound; the earliest go on.
#[test]
fn the_order_is_bounded() {
    const MORE: u64 = 1000;
    let budget = Budget {
        order: usize::MAX,
        ..Budget::default()
    };
    let mut pipeline = Pipeline::new(Emit::Alerts, budget);
    let exit = &told("exit 10 0")[0];
    for _ in 0..CAPACITY as u64 + MORE {
        pipeline.input(exit.clone());
    }
    assert_eq!(pipeline.totals().events, MORE);
    assert!(pipeline.is_waiting());
    pipeline.input(Input::Watermark(u64::MAX));
    assert_eq!(pipeline.totals().events, CAPACITY as u64 + MORE);
    assert!(!pipeline.is_waiting());
}

#[test]
fn the_kernel_is_told_what_it_cannot_know() {
    let app = Role::App.bit();
    // What ran before the agent: the server, its workers, what they started.
    let story = "observed 1 /sbin/init\nobserved 10 :parent=1 /usr/sbin/php-fpm8.2\n\
                 observed 11 :parent=10 /usr/sbin/php-fpm8.2\nobserved 20 :parent=11 /usr/bin/curl\nend";
    let told: Vec<(u32, u32, u16)> = tags(story)
        .into_iter()
        .map(|(pid, tag)| (pid, tag.roles, tag.distance))
        .collect();
    assert_eq!(told, [(10, app, 0), (11, app, 0), (20, app, 1)]);
    // A server started by its name, and a child it made before the kernel was told.
    let story = "observed 1 /sbin/init\nend\nfork 1>10\nexec 10 /usr/sbin/php-fpm8.2\nfork 10>11";
    let told: Vec<(u32, u32)> = tags(story)
        .into_iter()
        .map(|(pid, tag)| (pid, tag.roles))
        .collect();
    assert_eq!(told, [(10, app), (11, app)]);
    // Nothing to tell where the kernel knows.
    let story = "observed 1 /sbin/init\nend\nfork 1>10\nexec 10 :tag=app/0 /usr/sbin/php-fpm8.2\n\
                 fork 10>11 :tag=app/0 :child-tag=app/1";
    assert_eq!(tags(story), []);
    // A runtime that listens.
    let story =
        "observed 1 /sbin/init\nend\nfork 1>10\nexec 10 /usr/bin/node node x.js\nlisten 10 80";
    let told: Vec<(u32, u32)> = tags(story)
        .into_iter()
        .map(|(pid, tag)| (pid, tag.roles))
        .collect();
    assert_eq!(told, [(10, app)]);
    // The executable of a server that runs already gives its role to the next that starts.
    for story in [
        "observed 10 /usr/sbin/nginx\nend",
        "observed 1 /sbin/init\nend\nfork 1>10\nexec 10 /usr/sbin/nginx",
    ] {
        let roles = run(Emit::Alerts, &inputs(story))
            .take_commands()
            .into_iter()
            .any(|command| matches!(command, Command::Role(_, serves) if serves.roles == Role::Web.bit()));
        assert!(roles, "{story}");
    }
}
