//! What servers wrote before the agent began, and what was told of an attack.

use tracer::alert::Document;
use tracer::config::Emit;
use tracer::pipeline::{Command, WrittenFile};
use tracer::source::Input;
use tracer::source::capture::{Reader, Writer};
use tracer::source::remembered::Remembered;
use tracer_common::tag::InodeKey;

use super::{left, taken_up};
use crate::story::{Teller, alerts, json, run};

/// php-fpm, cron (8) and an administrator's shell (9). 6 is a worker.
const HOST: &str = "
    served /srv/www
    observed 1 /sbin/init
    observed 5 :parent=1 /usr/sbin/php-fpm8.2 'php-fpm: master process (/etc/php-fpm.conf)'
    observed 6 :parent=5 :uid=33 /usr/sbin/php-fpm8.2 'php-fpm: pool www'
    observed 8 :parent=1 /usr/sbin/cron /usr/sbin/cron -f
    observed 9 :parent=1 /usr/bin/bash -bash
    end";

/// The same as `/proc` shows it later.
fn snapshot() -> String {
    HOST.replace(" :parent", " :at=60000 :parent")
        .replace("observed 1 ", "observed 1 :at=60000 ")
}

/// What a capture of these holds.
fn recorded(inputs: &[Input]) -> Vec<Input> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    for input in inputs {
        writer.write(input).unwrap();
    }
    let capture = writer.finish().unwrap();
    let reader = Reader::new(capture.as_slice()).unwrap();
    reader.map(Result::unwrap).collect()
}

/// The inputs of an agent that begins after a story.
fn again(before: &str, after: &str) -> Vec<Input> {
    let mut teller = Teller::default();
    let lines = |story: &str| story.replace(";;", "\n");
    let (remembered, _) = left(&mut teller, &format!("{HOST}\n{}\nnow", lines(before)));
    let mut inputs = taken_up(remembered);
    inputs.extend(teller.tell(&snapshot()));
    inputs.extend(teller.tell(&format!("wait 60s\n{}", lines(after))));
    inputs
}

fn second(before: &str, after: &str) -> Vec<Document> {
    let inputs = again(before, after);
    let replayed = recorded(&inputs);
    assert_eq!(replayed, inputs);
    let of = |inputs: &[Input]| run(Emit::Alerts, inputs).take_documents();
    assert_eq!(json(&of(&replayed)), json(&of(&inputs)));
    of(&inputs)
}

/// What a server wrote, who does what with it after the restart, and the alerts.
#[rustfmt::skip]
const STORIES: &[(&str, &str, &[&str])] = &[
    ("open 6 created /opt/job", "fork 8>40;;exec 40 /opt/job", &["server-dropped-exec high 40"]),
    ("open 6 created /opt/job.sh", "fork 8>40;;exec 40 /usr/bin/dash sh /opt/job.sh", &["server-dropped-exec high 40"]),
    ("open 6 created /opt/a;;rename 6 /opt/a /opt/b", "fork 8>40;;exec 40 /opt/b", &["server-dropped-exec high 40"]),
    ("open 6 created /opt/a;;link 6 /opt/a /opt/b;;unlink 6 /opt/a", "fork 8>40;;exec 40 /opt/b", &["server-dropped-exec high 40"]),
    ("open 6 created /opt/d/a", "rename 9 :untagged /opt/d /opt/e;;fork 8>40;;exec 40 /opt/e/a", &["server-dropped-exec high 40"]),
    ("open 6 created /opt/job;;setxattr 6 security.capability /opt/job", "fork 8>40;;exec 40 /opt/job", &["server-dropped-exec critical 40"]),
    ("open 6 created /srv/www/x.txt", "rename 9 :untagged /srv/www/x.txt /srv/www/x.php", &["server-code-write medium 9"]),
    ("open 6 created /opt/d/x.php", "rename 6 /opt/d /srv/www/d", &["server-code-write high 6"]),
    ("symlink 6 /opt/d /srv/www/d", "open 6 created /opt/d/x.php", &["server-code-write high 6"]),
    // What went is forgotten.
    ("open 6 created /opt/job;;unlink 6 /opt/job", "fork 8>40;;exec 40 :ino=77 /opt/job", &[]),
    ("symlink 6 /opt/d /srv/www/d;;unlink 6 /srv/www/d", "open 6 created /opt/d/x.php", &[]),
    // Nobody else's file.
    ("open 9 :untagged created /opt/job", "fork 8>40;;exec 40 /opt/job", &[]),
];

#[test]
fn what_servers_wrote_is_known_after_a_restart() {
    for (before, after, expected) in STORIES {
        let raised = second(before, after);
        assert_eq!(alerts(&raised), *expected, "{before} | {after}");
        let with_writer = raised.iter().filter(|document| {
            let rule = &document.alert.as_ref().unwrap().rule.id;
            **rule == *"server-dropped-exec" || document.event.process.key.tgid == 9
        });
        for document in with_writer {
            let writer = document.event.writer.as_ref().expect("a writer");
            assert_eq!(writer.process.key.tgid, 6, "{before} | {after}");
        }
    }
}

#[test]
fn the_kernel_side_is_told_before_the_snapshot() {
    let mut teller = Teller::default();
    let story = format!(
        "{HOST}\nopen 6 :gen=7 :ino=41 :tag=app/0 created /opt/a\nlink 6 :ino=41 /opt/a /opt/b\n\
         open 6 :name=c created /opt\nnow"
    );
    let (remembered, _) = left(&mut teller, &story);
    let mut pipeline = run(Emit::Alerts, &taken_up(remembered));
    let told: Vec<WrittenFile> = pipeline
        .take_commands()
        .into_iter()
        .filter_map(|command| match command {
            Command::Written(file) => Some(file),
            _ => None,
        })
        .collect();
    let [known, named] = told.as_slice() else {
        panic!("two files, not {told:?}");
    };
    let (inode, writer) = known.file.unwrap();
    assert!(matches!(inode, InodeKey { inode: 41, .. }), "{inode:?}");
    assert_eq!((writer.tgid, writer.generation), (6, 7));
    assert!(writer.tag.is_server_lineage());
    assert_eq!(known.names, [b"a".to_vec(), b"b".to_vec()]);
    // By its name only: there is no inode to tell.
    assert_eq!(
        (named.file, named.names.as_slice()),
        (None, [b"c".to_vec()].as_slice())
    );
}

#[test]
fn what_is_left_again_holds_the_files_once() {
    let before = "open 6 created /opt/a;;open 6 created /opt/b;;symlink 6 /opt/d /opt/l;;open 6 created /opt/a";
    let of = |all: &[Remembered]| -> Vec<Remembered> {
        let is_it = |one: &&Remembered| matches!(one, Remembered::File(_) | Remembered::Link(_));
        all.iter().filter(is_it).cloned().collect()
    };
    let mut teller = Teller::default();
    let story = before.replace(";;", "\n");
    let (first, _) = left(&mut teller, &format!("{HOST}\n{story}\nnow"));
    let second = run(Emit::Alerts, &again(before, "now")).remember();
    assert_eq!((of(&first).len(), second.left_out), (3, 0));
    assert_eq!(of(&second.remembered), of(&first));
}

/// The newest of more than there is room for, and how many were not.
#[test]
fn what_is_left_of_files_is_bounded() {
    let long = "d".repeat(200);
    let dir = format!("/opt/{}", [long.as_str(); 19].join("/"));
    let mut story = HOST.to_owned();
    for number in 0..3000 {
        story.push_str(&format!("\nopen 6 created {dir}/{number}"));
    }
    story.push_str("\nnow");
    let mut inputs = crate::story::preamble();
    inputs.extend(Teller::default().tell(&story));
    let left = run(Emit::Alerts, &inputs).remember();
    let files: Vec<&[u8]> = left
        .remembered
        .iter()
        .filter_map(|one| match one {
            Remembered::File(past) => past.names.first().map(Vec::as_slice),
            _ => None,
        })
        .collect();
    assert_eq!(files.len() + left.left_out, 3000);
    assert!((1500..2500).contains(&files.len()), "{}", files.len());
    assert!(files.last().unwrap().ends_with(b"/2999"));
    let bytes: usize = files.iter().map(|path| path.len()).sum();
    assert!(bytes <= 8 << 20);
}

/// An attack that was told before the restart is told once.
#[test]
fn an_attack_goes_on() {
    let before = "fork 6>20;;exec 20 :uid=33 /usr/bin/dash sh -i";
    let after = |severity: &str| format!("fork 20>40;;exec 40 {severity} /usr/bin/bash bash");
    let mut teller = Teller::default();
    let story = format!("{HOST}\n{}\nnow", before.replace(";;", "\n"));
    let (remembered, documents) = left(&mut teller, &story);
    assert_eq!(alerts(&documents), ["server-shell high 20"]);
    let went_on = |line: &str| {
        let mut inputs = taken_up(remembered.clone());
        let shell = "observed 20 :at=60000 :parent=6 :uid=33 /usr/bin/dash sh -i\n    end";
        let mut teller = Teller::default();
        teller.tell(&story);
        inputs.extend(teller.tell(&snapshot().replace("end", shell)));
        inputs.extend(teller.tell(&format!("wait 60s\n{}", line.replace(";;", "\n"))));
        run(Emit::Alerts, &inputs).take_documents()
    };
    assert_eq!(alerts(&went_on(&after(":uid=33"))), Vec::<String>::new());
    // What is worse is told.
    let worse = went_on(&after(":uid=33 :stdin=connected"));
    assert_eq!(alerts(&worse), ["server-reverse-shell critical 40"]);
    // Another attack is another.
    let other = went_on("fork 6>41;;exec 41 :uid=33 /usr/bin/dash sh -c id");
    assert_eq!(alerts(&other), ["server-shell high 41"]);
}
