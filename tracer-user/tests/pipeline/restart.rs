//! An agent ends, another of the same boot takes up what it knew.

mod written;

use tracer::alert::Document;
use tracer::config::Emit;
use tracer::memory::Budget;
use tracer::pipeline::{Command, Pipeline};
use tracer::source::Input;
use tracer::source::capture::{Reader, Writer};
use tracer::source::remembered::{Blind, Remembered};
use tracer_common::tag::{Role, Tag};

use crate::lineage::lineage;
use crate::story::{ATTACHED, SECOND, Teller, alerts, json, preamble, run};

/// When the second agent attached, and the first said its last word.
const AGAIN: u64 = ATTACHED + 60 * SECOND;
const LAST_WORD: u64 = ATTACHED + 50 * SECOND;

/// A request starts a process in the background, whose maker ends.
const BEFORE: &str = "
    observed 1 /sbin/init
    observed 5 :parent=1 /usr/sbin/php-fpm8.2 'php-fpm: master process (/etc/php-fpm.conf)'
    observed 6 :parent=5 :uid=33 /usr/sbin/php-fpm8.2 'php-fpm: pool www'
    end
    fork 6>20
    exec 20 :uid=33 /usr/bin/cat cat
    fork 20>21
    fork 21>22
    exec 22 :uid=33 /usr/bin/sleep sleep 600
    exit 21 0
    now";

/// What `/proc` shows to the second agent: the middle of the lineage is gone.
const SNAPSHOT: &str = "
    observed 1 :at=60000 /sbin/init
    observed 5 :at=60000 :parent=1 /usr/sbin/php-fpm8.2 'php-fpm: master process (/etc/php-fpm.conf)'
    observed 6 :at=60000 :parent=5 :uid=33 /usr/sbin/php-fpm8.2 'php-fpm: pool www'
    observed 22 :at=60000 :parent=1 :uid=33 /usr/bin/sleep sleep 600
    end";

/// What the first agent of these stories leaves.
fn left(teller: &mut Teller, before: &str) -> (Vec<Remembered>, Vec<Document>) {
    let mut first = run(Emit::All, &[preamble(), teller.tell(before)].concat());
    (first.remember().remembered, first.take_documents())
}

/// What the second begins with.
fn taken_up(remembered: Vec<Remembered>) -> Vec<Input> {
    let mut inputs = preamble();
    inputs.extend(remembered.into_iter().map(Input::Remembered));
    inputs.push(Input::Blind(Blind {
        since_boot_ns: LAST_WORD,
        until_boot_ns: AGAIN,
    }));
    inputs
}

fn tags(pipeline: &mut Pipeline) -> Vec<(u32, Tag)> {
    let commands = pipeline.take_commands().into_iter();
    commands
        .filter_map(|command| match command {
            Command::Tag(key, tag) => Some((key.tgid, tag)),
            _ => None,
        })
        .collect()
}

#[test]
fn an_orphan_keeps_its_lineage_and_its_ids() {
    let mut teller = Teller::default();
    let (remembered, documents) = left(&mut teller, BEFORE);
    let before = documents
        .iter()
        .rfind(|document| document.event.process.key.tgid == 22)
        .unwrap();
    assert!(documents.iter().all(|document| document.alert.is_none()));
    let mut inputs = taken_up(remembered);
    inputs.extend(teller.tell(SNAPSHOT));
    inputs.extend(teller.tell("wait 60s\nfork 22>30\nexec 30 :uid=33 /usr/bin/dash sh -i"));
    let mut second = run(Emit::Alerts, &inputs);
    let raised = second.take_documents();
    assert_eq!(alerts(&raised), ["server-shell high 30"]);
    assert_eq!(
        lineage(&raised[0]),
        "30 dash witnessed < 22 sleep restored < 21 cat restored < 20 cat restored \
         < 6 php-fpm8.2 restored < 5 php-fpm8.2 restored < 1 init restored"
    );
    let event = &raised[0].event;
    let ids = |document: &Document| -> Vec<_> {
        let ancestors = document.event.lineage.iter();
        ancestors.map(|process| process.entity_id).collect()
    };
    assert_eq!(event.lineage[0].entity_id, before.event.process.entity_id);
    assert_eq!(ids(&raised[0])[1..], ids(before));
    // Who ended is said to have.
    let ended: Vec<(u32, bool)> = event
        .lineage
        .iter()
        .map(|process| (process.key.tgid, process.ended.is_some()))
        .collect();
    assert_eq!(
        ended,
        [
            (22, false),
            (21, true),
            (20, true),
            (6, false),
            (5, false),
            (1, false)
        ]
    );
    // The time in which nobody looked is part of what it rests on.
    assert_eq!(event.integrity.blind_ns, AGAIN - LAST_WORD);
    assert!(!event.integrity.lineage_broken);

    let reports = second.take_reports();
    assert!(
        reports[0].is_blind && reports[0].total() == 0,
        "{reports:?}"
    );
    assert_eq!(
        (reports[0].since_boot_ns, reports[0].until_boot_ns),
        (LAST_WORD, AGAIN)
    );
    assert_eq!(second.restored(), 4);
}

#[test]
fn tags_are_in_the_kernel_before_the_snapshot_is() {
    let mut teller = Teller::default();
    let (remembered, _) = left(&mut teller, BEFORE);
    let mut second = Pipeline::new(Emit::Alerts, Budget::default());
    for input in taken_up(remembered) {
        second.input(input);
    }
    let orphan = Tag {
        roles: Role::App.bit(),
        server: 6,
        distance: 3,
        ..Tag::ZERO
    };
    let early = tags(&mut second);
    assert!(
        early
            .iter()
            .any(|(tgid, tag)| *tgid == 22 && tag.roles == orphan.roles)
    );
    assert!(early.iter().all(|(tgid, _)| *tgid != 21), "{early:?}");
    for input in teller.tell(SNAPSHOT) {
        second.input(input);
    }
    let late = tags(&mut second);
    assert_eq!(
        late.iter().map(|(tgid, _)| *tgid).collect::<Vec<_>>(),
        [5, 6, 22]
    );
}

/// Recorded, as it is in the state: the name that was read is the table's.
#[test]
fn configurations_of_servers_are_read_again() {
    let mut teller = Teller::default();
    let (remembered, _) = left(&mut teller, BEFORE);
    let mut inputs = taken_up(remembered);
    inputs.extend(teller.tell(SNAPSHOT));
    let mut writer = Writer::new(Vec::new()).unwrap();
    for input in &inputs {
        writer.write(input).unwrap();
    }
    let capture = writer.finish().unwrap();
    let replayed = Reader::new(capture.as_slice()).unwrap();
    let replayed: Vec<Input> = replayed.map(Result::unwrap).collect();
    let read: Vec<(u32, &str)> = run(Emit::Alerts, &replayed)
        .take_commands()
        .into_iter()
        .filter_map(|command| match command {
            Command::Discover(seen) => Some((seen.key.tgid, seen.server)),
            _ => None,
        })
        .collect();
    assert_eq!(read, [(5, "php-fpm")]);
}

#[test]
fn a_number_that_is_anothers_by_now_has_no_past() {
    let mut teller = Teller::default();
    let (remembered, _) = left(&mut teller, BEFORE);
    let mut inputs = taken_up(remembered);
    // 22 ended, and somebody's shell has its number.
    let mut other = Teller::default();
    inputs.extend(other.tell(
        "observed 1 :at=60000 /sbin/init\n\
         observed 5 :at=60000 :parent=1 /usr/sbin/php-fpm8.2 'php-fpm: master process (x)'\n\
         observed 22 :at=60000 :parent=1 :cgroup=/user.slice/user-1000.slice/session-3.scope /usr/bin/bash bash\nend\n\
         wait 99s\nfork 22>30\nexec 30 /usr/bin/dash sh",
    ));
    let mut second = run(Emit::All, &inputs);
    assert_eq!(alerts(&second.take_documents()), Vec::<String>::new());
}

#[test]
fn what_was_executed_meanwhile_is_seen() {
    let mut teller = Teller::default();
    let (remembered, _) = left(&mut teller, BEFORE);
    let mut inputs = taken_up(remembered);
    let snapshot = SNAPSHOT.replace("/usr/bin/sleep sleep 600", "/usr/bin/nc nc -l");
    inputs.extend(teller.tell(&snapshot));
    inputs.extend(teller.tell("wait 60s\nexec 22 :uid=33 /usr/bin/dash sh"));
    let raised = run(Emit::Alerts, &inputs).take_documents();
    assert_eq!(alerts(&raised), ["server-shell high 22"]);
    let process = &raised[0].event.process;
    let programs: Vec<_> = process
        .previous
        .iter()
        .map(|image| String::from_utf8_lossy(&image.exec.exe).into_owned())
        .collect();
    assert_eq!(programs, ["/usr/bin/cat", "/usr/bin/sleep", "/usr/bin/nc"]);
}

#[test]
fn a_shell_of_a_worker_does_not_hang_on_the_blind_time() {
    let mut teller = Teller::default();
    let (remembered, _) = left(&mut teller, BEFORE);
    let mut inputs = taken_up(remembered);
    inputs.extend(teller.tell(SNAPSHOT));
    inputs.extend(teller.tell("wait 60s\nfork 6>40\nexec 40 :uid=33 /usr/bin/dash sh -c id"));
    let raised = run(Emit::Alerts, &inputs).take_documents();
    assert_eq!(alerts(&raised), ["server-shell high 40"]);
    assert_eq!(raised[0].event.integrity.blind_ns, 0);
}

#[test]
fn what_is_left_again_is_the_same() {
    let mut teller = Teller::default();
    let (remembered, _) = left(&mut teller, BEFORE);
    let mut inputs = taken_up(remembered.clone());
    inputs.extend(teller.tell(SNAPSHOT));
    let second = run(Emit::Alerts, &inputs);
    let keys = |all: &[Remembered]| -> Vec<u32> {
        let processes = all.iter().filter_map(|one| match one {
            Remembered::Process(past) => Some(past.key.tgid),
            _ => None,
        });
        processes.collect()
    };
    let again = second.remember().remembered;
    assert_eq!(keys(&again), keys(&remembered));
    assert!(matches!(again[0], Remembered::Blind(_)));
    // Who has nobody left is left to nobody.
    let mut inputs = taken_up(again);
    inputs.extend(teller.tell("observed 1 :at=60000 /sbin/init\nend"));
    assert_eq!(
        keys(&run(Emit::Alerts, &inputs).remember().remembered),
        Vec::<u32>::new()
    );
}

#[test]
fn a_recording_of_a_restart_replays_to_the_same_bytes() {
    let mut teller = Teller::default();
    let (remembered, _) = left(&mut teller, BEFORE);
    let mut inputs = taken_up(remembered);
    inputs.extend(teller.tell(SNAPSHOT));
    inputs.extend(teller.tell("wait 60s\nfork 22>30\nexec 30 :uid=33 /usr/bin/dash sh -i"));
    let mut writer = Writer::new(Vec::new()).unwrap();
    for input in &inputs {
        writer.write(input).unwrap();
    }
    let capture = writer.finish().unwrap();
    let replayed: Vec<Input> = Reader::new(capture.as_slice())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(replayed, inputs);
    let of = |inputs: &[Input]| json(&run(Emit::All, inputs).take_documents());
    assert_eq!(of(&replayed), of(&inputs));
}

/// Whatever a state says, it is taken up or passed over.
#[test]
fn a_state_that_makes_no_sense_does_no_harm() {
    let mut teller = Teller::default();
    let (remembered, _) = left(&mut teller, BEFORE);
    let snapshot = teller.tell(SNAPSHOT);
    for seed in 0..200_u32 {
        let mut broken = remembered.clone();
        for (at, one) in broken.iter_mut().enumerate() {
            let salt = seed
                .wrapping_mul(2_654_435_761)
                .rotate_left(u32::try_from(at % 31).unwrap());
            if let Remembered::Process(past) = one {
                match salt % 5 {
                    0 => past.creator = Some(past.key),
                    1 => past.key.tgid = salt % 30,
                    2 => past.key.start_ticks = u64::from(salt),
                    3 => past.inherited = u16::MAX,
                    _ => past.start_boot_ns = u64::MAX,
                }
            }
        }
        if seed % 2 == 0 {
            broken.reverse();
        }
        let mut inputs = taken_up(broken);
        inputs.extend(snapshot.clone());
        inputs.extend(told_after(seed));
        let second = run(Emit::All, &inputs);
        assert!(second.remember().remembered.len() <= 100);
    }
}

fn told_after(seed: u32) -> Vec<Input> {
    let pid = 20 + seed % 4;
    Teller::default().tell(&format!(
        "wait 99s\nfork {pid}>50\nexec 50 /usr/bin/dash sh\nexit {pid} 0\nexit 50 0\nwait 99s\nfork 1>60"
    ))
}
