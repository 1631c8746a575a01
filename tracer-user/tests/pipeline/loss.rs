//! What was lost is known exactly, told, and put right from `/proc`.

use tracer::alert::{Document, LossReport};
use tracer::config::Emit;
use tracer::encode::{ecs, pretty};
use tracer::memory::Budget;
use tracer::pipeline::{Command, Pipeline};
use tracer::source::Input;
use tracer::source::capture::{Reader, Writer};

use crate::story::{alerts, documents, inputs, json, room_for, run, tags};

/// A php-fpm with a worker, known before anything is lost.
const SERVER: &str = "
    observed 1 /sbin/init
    end
    fork 1>10
    exec 10 /usr/sbin/php-fpm8.2 php-fpm8.2
    fork 10>11
    now
    wait 90s";

fn after(story: &str) -> Vec<Input> {
    inputs(&format!("{SERVER}\n{story}"))
}

/// What the last document says was lost.
fn lost(story: &str) -> Vec<(String, u64)> {
    let documents = documents(Emit::Events, &after(story));
    documents.last().unwrap().event.integrity.lost.clone()
}

fn counted(lost: &[(&str, u64)]) -> Vec<(String, u64)> {
    lost.iter()
        .map(|(why, count)| ((*why).into(), *count))
        .collect()
}

#[test]
fn a_gap_in_the_numbers_is_a_loss() {
    let story = "
        fork 11>20 :seq=1
        fork 11>21 :seq=2
        exec 20 :seq=1 :cpu=1 /usr/bin/dash sh
        now";
    assert_eq!(lost(story), []);
    // The first two of CPU 1, and three of CPU 0.
    let story = story
        .replace(":seq=1 :cpu=1", ":seq=3 :cpu=1")
        .replace("11>21 :seq=2", "11>21 :seq=5");
    assert_eq!(lost(&story), counted(&[("records_missing", 5)]));
}

#[test]
fn what_was_counted_is_not_lost_twice() {
    let story = "
        fork 11>20 :seq=1
        lost file_quota :cpu=0 2
        lost life_ring_full :cpu=0 1
        exec 20 :seq=5 /usr/bin/dash sh
        now";
    let expected = counted(&[("file_quota", 2), ("life_ring_full", 1)]);
    assert_eq!(lost(story), expected);
    // One more than was counted.
    let story = story.replace(":seq=5", ":seq=6");
    let expected = [expected, counted(&[("records_missing", 1)])].concat();
    assert_eq!(lost(&story), expected);
}

#[test]
fn records_of_two_rings_may_come_in_any_order() {
    // The exec was made between the two forks.
    let story = "
        fork 11>20 :at=100 :seq=1
        fork 11>21 :at=102 :seq=3
        exec 20 :at=101 :seq=2 /usr/bin/dash sh
        now";
    assert_eq!(lost(story), []);
}

#[test]
fn a_lineage_is_complete_where_nothing_of_its_time_was_lost() {
    let integrity = |story: &str| {
        let documents = documents(Emit::Alerts, &after(story));
        assert_eq!(alerts(&documents), ["server-shell high 20"]);
        documents[0].event.integrity.lost.clone()
    };
    let shell = "fork 11>20\n wait 1s\n exec 20 /usr/bin/dash sh\n now";
    let during = format!("lost life_ring_full 3\n wait 1s\n {shell}");
    assert_eq!(integrity(&during), counted(&[("life_ring_full", 3)]));
    // Afterwards, though it is noticed before the alert is made.
    let after = shell.replace("now", "wait 1s\n lost life_ring_full 3\n now");
    assert_eq!(integrity(&after), []);
    // Documents that the output did not take were made all the same.
    let shed = format!("lost documents_shed 3\n {shell}");
    assert_eq!(integrity(&shed), []);
}

fn reports(inputs: &[Input]) -> Vec<LossReport> {
    run(Emit::Alerts, inputs).take_reports()
}

#[test]
fn losses_are_told_at_once_and_then_every_ten_seconds() {
    let story = "
        lost life_ring_full 1
        lost file_quota 5
        now
        wait 5s
        lost life_ring_full 2
        now
        wait 4s
        lost file_ring_full 3
        now
        wait 2s
        now
        wait 60s
        lost tag_map_full 1";
    let told: Vec<_> = reports(&after(story))
        .into_iter()
        .map(|report| report.lost)
        .collect();
    assert_eq!(
        told,
        [
            counted(&[("life_ring_full", 1), ("file_quota", 5)]),
            counted(&[("life_ring_full", 2), ("file_ring_full", 3)]),
            // At the end, whatever the time.
            counted(&[("tag_map_full", 1)]),
        ]
    );
}

#[test]
fn losses_are_told_while_records_never_cease() {
    let story = "
        lost life_ring_full 1
        lost life_ring_full 2
        wait 9s
        lost life_ring_full 4
        wait 9s
        lost life_ring_full 8
        wait 2s
        lost life_ring_full 16";
    let mut pipeline = Pipeline::new(Emit::Alerts, Budget::default());
    for input in after(story) {
        pipeline.input(input);
    }
    let told: Vec<_> = pipeline
        .take_reports()
        .into_iter()
        .map(|report| report.total())
        .collect();
    assert_eq!(told, [3, 12]);
}

#[test]
fn a_full_store_is_a_loss() {
    let mut pipeline = Pipeline::new(Emit::Alerts, room_for(&after("")));
    for input in after("fork 11>20\n fork 11>21\n now") {
        pipeline.input(input);
    }
    let lost = pipeline.take_reports().remove(0).lost;
    assert_eq!(lost, counted(&[("processes_refused", 2)]));
    assert_eq!(pipeline.totals().lost, 2);
}

#[test]
fn a_process_is_refused_once_and_healing_waits_for_room() {
    let story = format!(
        "fork 11>20\n open 20 :tag=app@10/2 write /tmp/a\n open 20 :tag=app@10/2 write /tmp/b\n now\n \
         wait 1s\n heal\n{READ}\n found 20 :parent=11 :tag=app@10/2 /usr/bin/convert convert\n healed\n now\n \
         exit 11 0\n wait 31s\n listen 1 22\n listen 1 22\n now"
    );
    let mut pipeline = Pipeline::new(Emit::Alerts, room_for(&after("")));
    let mut asked = Vec::new();
    for input in after(&story) {
        pipeline.input(input.clone());
        if pipeline.take_commands().contains(&Command::Heal) {
            asked.push(input);
        }
    }
    let counts = pipeline.counts();
    assert!(counts.contains(&("processes_refused", 1)), "{counts:?}");
    // When there is room, and once: at the last watermark.
    assert!(matches!(&*asked, [Input::Watermark(_)]), "{asked:?}");
    assert_eq!(pipeline.processes(), 2);
}

#[test]
fn a_report_is_the_same_on_replay_and_says_no_process() {
    let inputs = after("lost life_ring_full 3\n now\n wait 11s\n lost 'a\"\u{1b}[2J' 1\n now");
    let reports = reports(&inputs);
    let mut writer = Writer::new(Vec::new()).unwrap();
    inputs.iter().for_each(|input| writer.write(input).unwrap());
    let capture = writer.finish().unwrap();
    let replayed: Vec<_> = Reader::new(&*capture)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(run(Emit::Alerts, &replayed).take_reports(), reports);
    assert_ne!(reports[0].id, reports[1].id);
    let (mut line, mut text) = (Vec::new(), Vec::new());
    for report in &reports {
        ecs::loss(report, &mut line);
        pretty::loss(report, false, &mut text);
    }
    for out in [line, text] {
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out.lines().count(), 2, "{out}");
        assert!(
            !out.contains('\u{1b}') && !out.contains("\"process\""),
            "{out}"
        );
    }
}

/// A link to a served directory is used, and then others in great number before it is looked at.
fn flood(others: usize, other: impl Fn(usize) -> String) -> Pipeline {
    let served = "served /srv/www\n rename 11 /tmp/a /tmp/l/s.php";
    let mut story = format!("{SERVER}\n{served}\n");
    for number in 0..others {
        story.push_str(&other(number));
        story.push('\n');
    }
    story.push_str("now\n leads /tmp/l /srv/www/up\n");
    run(Emit::Alerts, &inputs(&story))
}

/// Code by its name, each in another directory.
fn elsewhere(number: usize) -> String {
    format!("symlink 11 /tmp/b /tmp/{number}/q.php")
}

#[test]
fn a_flood_does_not_hide_where_a_name_led() {
    for others in [256, 20_000] {
        let mut pipeline = flood(others, |_| "rename 11 /tmp/b /tmp/e/q.php".into());
        let documents = pipeline.take_documents();
        assert_eq!(alerts(&documents), ["server-code-write high 11"]);
        let commands = pipeline.take_commands();
        let asked = commands
            .iter()
            .filter(|command| matches!(command, Command::Resolve(_)));
        assert_eq!(asked.count(), 2, "one a directory");
    }
    let mut pipeline = flood(20_000, elsewhere);
    assert_eq!(
        alerts(&pipeline.take_documents()),
        ["server-code-write high 11"]
    );
}

#[test]
fn what_is_not_judged_again_is_a_loss() {
    let mut pipeline = flood(20_000, elsewhere);
    let document = pipeline.take_documents().remove(0);
    let lost: Vec<_> = pipeline
        .take_reports()
        .into_iter()
        .flat_map(|report| report.lost)
        .collect();
    let reasons: Vec<&str> = lost.iter().map(|(why, _)| why.as_str()).collect();
    assert!(reasons.contains(&"names_unasked"), "{lost:?}");
    assert!(reasons.contains(&"writes_undecided"), "{lost:?}");
    // Not of the time of the alert, which is about the begin.
    assert_eq!(document.event.integrity.lost, []);
    // Later ones know that something was missed.
    let more = "fork 11>20\n exec 20 /usr/bin/dash sh\n now";
    let story: String = (0..20_000).map(|number| elsewhere(number) + "\n").collect();
    let documents = documents(Emit::Alerts, &after(&format!("{story}{more}")));
    let lost = &documents[0].event.integrity.lost;
    let has = |why: &str| lost.iter().any(|(known, _)| known == why);
    assert!(has("names_unasked"), "{lost:?}");
}

/// Whether a story makes the pipeline ask for `/proc`.
fn heals(story: &str) -> bool {
    let commands = run(Emit::Alerts, &after(story)).take_commands();
    commands.contains(&Command::Heal)
}

#[test]
fn lost_process_life_asks_for_healing_and_lost_file_work_does_not() {
    for (story, expected) in [
        ("", false),
        ("lost life_ring_full 1", true),
        ("lost tag_map_full 1", true),
        ("lost exec_missed 1", true),
        ("lost tags_refused 1", false),
        ("lost processes_refused 1", false),
        ("lost file_ring_full 1", false),
        ("lost file_quota 1", false),
        ("lost file_fault 1", false),
        ("fork 11>20 :seq=2\n now", true),
        ("lost file_quota :cpu=0 1\n fork 11>20 :seq=2\n now", false),
        ("lost file_quota :cpu=1 1\n fork 11>20 :seq=2\n now", true),
    ] {
        assert_eq!(heals(story), expected, "{story}");
    }
}

/// `20 dash healed < 11 php-fpm8.2 witnessed < 1 init observed`
fn lineage(document: &Document) -> String {
    let event = &document.event;
    let chain = std::iter::once(&event.process).chain(&event.lineage);
    let name = |exe: &[u8]| {
        String::from_utf8_lossy(exe)
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned()
    };
    let links: Vec<String> = chain
        .map(|process| {
            let image = process.image.as_ref();
            let name = image.map_or("?".into(), |image| name(&image.exec.exe));
            format!("{} {name} {}", process.key.tgid, process.origin.name())
        })
        .collect();
    links.join(" < ")
}

/// The readings that follow are of a host with init, the server and its worker.
const READ: &str = "
    found 1 /sbin/init
    found 10 :parent=1 :tag=app@10/0 /usr/sbin/php-fpm8.2 php-fpm8.2
    found 11 :parent=10 :tag=app@10/1 /usr/sbin/php-fpm8.2 php-fpm8.2";

fn healed(found: &str, then: &str) -> Vec<Input> {
    after(&format!(
        "lost life_ring_full 9\n wait 1s\n heal\n{READ}\n{found}\n healed\n wait 1s\n{then}\n now"
    ))
}

#[test]
fn a_process_that_was_lost_is_found_with_its_tag() {
    // Worker 11 made 30, which executed something harmless; of both nothing came. Now it runs a shell.
    let then = "fork 30>31\n exec 31 /usr/bin/dash sh -c id";
    let unhealed = documents(
        Emit::Alerts,
        &after(&format!("lost life_ring_full 2\n{then}\n now")),
    );
    assert_eq!(alerts(&unhealed), [""; 0], "nobody knows 30");
    let found = "found 30 :parent=11 :start=1000100 :tag=app@10/2 /usr/bin/convert convert a b";
    let documents = documents(Emit::Alerts, &healed(found, then));
    assert_eq!(alerts(&documents), ["server-shell high 31"]);
    assert_eq!(
        lineage(&documents[0]),
        "31 dash witnessed < 30 convert healed < 11 php-fpm8.2 witnessed < 10 php-fpm8.2 witnessed < 1 \
         init observed"
    );
    let lost = &documents[0].event.integrity.lost;
    assert_eq!(
        *lost,
        counted(&[("life_ring_full", 9)]),
        "what was lost stays lost"
    );
    assert!(json(&documents).contains(r#""origin":"healed""#));
}

#[test]
fn a_process_that_a_reaper_adopted_leads_to_its_server() {
    let found = "found 30 :parent=1 :start=1000100 :tag=app@10/3 /usr/bin/convert convert a b";
    let documents = documents(Emit::Alerts, &healed(found, "exec 30 /usr/bin/dash sh"));
    assert_eq!(alerts(&documents), ["server-shell high 30"]);
    assert_eq!(
        lineage(&documents[0]),
        "30 dash healed < 10 php-fpm8.2 witnessed < 1 init observed"
    );
}

#[test]
fn a_shell_whose_exec_was_lost_is_alerted_when_it_is_found() {
    let unknown = "found 30 :parent=11 :start=1000100 :tag=app@10/2 /usr/bin/dash sh -i";
    let inputs = healed(
        unknown,
        "heal\n found 30 :parent=11 :tag=app@10/2 /usr/bin/dash sh -i\n healed",
    );
    assert_eq!(
        alerts(&documents(Emit::Alerts, &inputs)),
        ["server-shell high 30"],
        "once"
    );
    // The same of a process whose fork had been seen.
    let known = "
        fork 11>30
        now
        lost life_ring_full 1
        wait 1s
        heal
        found 1 /sbin/init
        found 10 :parent=1 :tag=app@10/0 /usr/sbin/php-fpm8.2 php-fpm8.2
        found 11 :parent=10 :tag=app@10/1 /usr/sbin/php-fpm8.2 php-fpm8.2
        found 30 :parent=11 :tag=app@10/2 /usr/bin/dash sh -i
        healed";
    let documents = documents(Emit::All, &after(known));
    assert_eq!(alerts(&documents), ["server-shell high 30"]);
    let last = documents.last().unwrap();
    assert_eq!(last.event.event.payload.kind().name(), "already_running");
    assert_eq!(
        lineage(last),
        "30 dash witnessed < 11 php-fpm8.2 witnessed < 10 php-fpm8.2 witnessed < 1 init observed"
    );
    assert!(last.event.process.image.as_ref().unwrap().observed);
}

#[test]
fn what_is_known_is_not_told_again() {
    let inputs = healed("", "");
    let before = documents(Emit::All, &after("now")).len();
    assert_eq!(documents(Emit::All, &inputs).len(), before);
    let pipeline = run(Emit::All, &inputs);
    let count = |name| {
        pipeline
            .counts()
            .into_iter()
            .find(|(known, _)| *known == name)
            .unwrap()
            .1
    };
    assert_eq!(
        (count("processes_healed"), count("processes_ended_unseen")),
        (0, 0)
    );
}

#[test]
fn another_title_or_device_is_no_other_program() {
    let story = "
        lost life_ring_full 1
        wait 1s
        heal
        found 1 /sbin/init
        found 10 :parent=1 :tag=app@10/0 /usr/sbin/php-fpm8.2 'php-fpm: master process'
        found 11 :parent=10 :tag=app@10/1 :ino=7 /usr/sbin/php-fpm8.2 'php-fpm: pool www'
        healed
        now";
    let before = documents(Emit::All, &after("now")).len();
    assert_eq!(documents(Emit::All, &after(story)).len(), before);
}

#[test]
fn what_is_gone_has_ended_and_how_is_not_known() {
    let story = format!(
        "fork 11>20\n exec 20 /usr/bin/convert convert\n fork 20>21\n now\n lost life_ring_full 1\n \
         wait 1s\n heal\n{READ}\n found 21 :parent=1 :tag=app@10/3 /usr/bin/convert convert\n healed\n \
         exec 21 /usr/bin/dash sh\n now"
    );
    let documents = documents(Emit::Alerts, &after(&story));
    assert_eq!(alerts(&documents), ["server-shell high 21"]);
    let creator = &documents[0].event.lineage[0];
    assert_eq!(creator.key.tgid, 20, "what was witnessed stays");
    assert_eq!(creator.ended.unwrap().status, None);
    let json = json(&documents);
    assert!(
        json.contains(r#""end":"#) && !json.contains("exit_code"),
        "{json}"
    );
}

#[test]
fn an_end_that_comes_after_all_is_told() {
    let story = format!(
        "fork 11>20\n now\n lost life_ring_full 1\n wait 1s\n heal\n{READ}\n healed\n exit 20 256\n \
         exit 20 256\n now"
    );
    let documents = documents(Emit::Events, &after(&story));
    let ends = documents
        .iter()
        .filter(|document| document.event.event.payload.kind().name() == "end");
    let ends: Vec<_> = ends
        .map(|document| document.event.process.ended.unwrap().status)
        .collect();
    assert_eq!(ends, [Some(256)]);
}

#[test]
fn what_came_while_proc_was_read_is_not_overruled() {
    // 20 was made before the reading and executes a shell during it: `/proc` still showed the worker's
    // program. 21 was made during it, and 22 ended during it.
    let story = format!(
        "fork 11>20\n fork 11>22\n now\n wait 1s\n lost life_ring_full 1\n heal\n exec 20 /usr/bin/dash sh\n \
         fork 20>21\n exit 22 0\n now\n{READ}\n \
         found 20 :parent=11 :tag=app@10/2 /usr/sbin/php-fpm8.2 php-fpm8.2\n \
         found 22 :parent=11 :tag=app@10/2 /usr/sbin/php-fpm8.2 php-fpm8.2\n healed\n \
         exec 21 /usr/bin/id id\n now"
    );
    let documents = documents(Emit::Events, &after(&story));
    assert_eq!(
        lineage(documents.last().unwrap()),
        "21 id witnessed < 20 dash witnessed < 11 php-fpm8.2 witnessed < 10 php-fpm8.2 witnessed < 1 \
         init observed"
    );
    let pipeline = run(Emit::Events, &after(&story));
    let counts = pipeline.counts();
    assert!(
        counts.contains(&("processes_ended_unseen", 0)),
        "{counts:?}"
    );
    assert!(counts.contains(&("processes_healed", 0)), "{counts:?}");
}

#[test]
fn the_kernel_gets_back_the_tags_that_it_had_no_room_for() {
    let story = "
        fork 11>20
        now
        lost tag_map_full 1
        wait 1s
        heal
        found 1 /sbin/init
        found 10 :parent=1 :tag=app@10/0 /usr/sbin/php-fpm8.2 php-fpm8.2
        found 11 :parent=10 :tag=app@10/1 /usr/sbin/php-fpm8.2 php-fpm8.2
        found 20 :parent=11 /usr/sbin/php-fpm8.2 php-fpm8.2
        healed";
    let tags = tags(&format!("{SERVER}\n{story}"));
    let (tgid, tag) = tags.last().unwrap();
    assert_eq!((*tgid, tag.is_server_lineage()), (20, true));
}
