//! What is an alert and what is not: one row a story. `;;` ends a line.

use crate::story::{alerts, documents, inputs, raised, run};
use tracer::config::Emit;
use tracer::event::Payload;
use tracer::pipeline::Command;
use tracer::source::{ExceptionPart, Input};

mod hosts;
mod names;
mod pack;
mod programs;
mod reach;
mod roles;
mod silent;
mod writes;

/// What it is, what runs already, what happens, and the alerts: `rule severity pid`.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

fn check(rows: &[Row]) {
    let mut wrong = Vec::new();
    for (name, host, story, expected) in rows {
        let told = format!("{host}\n{}", story.replace(";;", "\n"));
        let raised = raised(&told);
        if raised != *expected {
            wrong.push(format!("{name}: raised {raised:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rows_that_must_alert() {
    check(programs::MUST);
    check(writes::MUST);
    check(reach::MUST);
    check(names::MUST);
    check(roles::MUST);
    check(pack::MUST);
}

#[test]
fn rows_that_must_not_alert() {
    check(silent::MUST_NOT);
    check(reach::MUST_NOT);
    check(names::MUST_NOT);
    check(roles::MUST_NOT);
    check(pack::MUST_NOT);
}

/// Where a directory leads is asked for only where the rules hang on it, through processes that live.
#[test]
fn names_are_looked_up_where_it_matters() {
    let asked = |story: &str| -> Vec<(Vec<u32>, Vec<u8>)> {
        let story = format!("{}\n{story}", hosts::FPM);
        run(Emit::Alerts, &inputs(&story))
            .take_commands()
            .into_iter()
            .filter_map(|command| match command {
                Command::Resolve(asked) => {
                    let pids = asked.processes.iter().map(|key| key.tgid).collect();
                    Some((pids, asked.directory))
                }
                Command::Tag(..)
                | Command::Role(..)
                | Command::Discover(_)
                | Command::Identify
                | Command::Heal
                | Command::Written(_)
                | Command::Names(_)
                | Command::Content(_)
                | Command::Container(_) => None,
            })
            .collect()
    };
    let one = |pids: &[u32], directory: &str| (pids.to_vec(), directory.as_bytes().to_vec());
    assert_eq!(
        asked("fork 11>20\nrename 20 /tmp/x /tmp/l/x.php"),
        [one(&[20, 11, 10, 1], "/tmp/l")]
    );
    assert_eq!(
        asked("rename 11 :early-new=/tmp/m/x.php /tmp/x /tmp/l/y"),
        [one(&[11, 10, 1], "/tmp/l"), one(&[11, 10, 1], "/tmp/m")]
    );
    for silent in [
        "rename 11 /tmp/x /tmp/l/cat.png",
        "rename 11 /tmp/x /srv/www/x.php",
        "rename 11 :resolved /tmp/x /tmp/l/x.php",
        "open 11 created /tmp/l/x.php",
        "rename 1 /tmp/x /tmp/l/x.php",
    ] {
        assert_eq!(asked(silent), [], "{silent}");
    }
}

/// What is missing of long arguments is nothing that may be let through.
#[test]
fn padding_opens_no_door() {
    let told = |address: usize, spaces: usize| {
        let (address, spaces) = ("a".repeat(address), " ".repeat(spaces));
        raised(&format!(
            "{}\nfork 11>20\nexec 20 /usr/bin/dash sh -c '{spaces}/usr/sbin/sendmail -t -i -f{address}'",
            hosts::FPM
        ))
    };
    assert_eq!(told(20, 5_000), [""; 0]);
    assert_eq!(told(20, 9_000), ["server-shell high 20"]);
    assert_eq!(told(9_000, 1), ["server-shell high 20"]);
}

/// A reason names the server, what ran and what made it worse.
#[test]
fn reasons_are_sentences() {
    let story = format!(
        "{}\nfork 11>20\nexec 20 :stdin=connected /usr/bin/dash sh -i\nopen 11 created /srv/www/x.php",
        hosts::FPM
    );
    let documents = documents(Emit::Alerts, &inputs(&story));
    let reasons: Vec<&str> = documents
        .iter()
        .map(|document| document.alert.as_ref().unwrap().reason.as_str())
        .collect();
    assert_eq!(
        reasons,
        [
            "php-fpm (app server) executed a shell: /usr/bin/dash, its input or output is a network \
             connection with 203.0.113.5:4444",
            "php-fpm (app server) created /srv/www/x.php: code where it is served",
        ]
    );
    assert_eq!(alerts(&documents).len(), 2);
    let depth = |index: usize| documents[index].alert.as_ref().unwrap().server_depth;
    assert_eq!((depth(0), depth(1)), (Some(1), Some(0)));
    let directory = documents[1]
        .alert
        .as_ref()
        .unwrap()
        .directory
        .as_ref()
        .unwrap();
    assert_eq!(
        (directory.path.as_slice(), directory.kind),
        (b"/srv/www".as_slice(), "served")
    );
}

/// Whether a story makes the pipeline ask where directories are.
fn identifies(line: &str) -> bool {
    let story = format!(
        "served /srv/app/current/public\nobserved 1 /sbin/init\nobserved 10 /usr/sbin/nginx\nend\n\
         {line}\nnow"
    );
    let mut pipeline = run(Emit::Alerts, &inputs(&story));
    pipeline.take_commands().contains(&Command::Identify)
}

#[test]
fn what_may_move_a_directory_has_it_identified_anew() {
    for (line, expected) in [
        ("mkdir 10 /srv/app", true),
        ("rename 10 /tmp/next /srv/app/current", true),
        ("rename 10 /srv/app/current /srv/app/old", true),
        ("symlink 10 releases/5 /srv/app/current", true),
        ("mount 10 /tmp/x /srv/app/current/public", true),
        ("unlink 10 /srv/app/current", true),
        ("mkdir 10 /srv/app/current/public/uploads", false),
        ("rename 10 /srv/app/next /srv/app/other", false),
        ("chmod 10 755 /srv/app/current", false),
        ("open 10 created /srv/app/current/public/x", false),
    ] {
        assert_eq!(identifies(line), expected, "{line}");
    }
}

/// How often a story makes the pipeline have a configuration read.
fn discoveries(line: &str) -> usize {
    let story = format!("{}\nnow\n{line}", hosts::NODE);
    let mut pipeline = run(Emit::Alerts, &inputs(&story));
    let is = |command: &&Command| matches!(command, Command::Discover(_));
    pipeline.take_commands().iter().filter(is).count()
}

#[test]
fn a_configuration_is_read_when_a_server_begins_and_not_with_every_connection() {
    let at_start = discoveries("");
    assert_eq!(at_start, 1, "when it listens");
    assert_eq!(discoveries("listen 10 3001"), at_start + 1);
    for used in [
        "accept 10 192.0.2.7:53",
        "connect 10 192.0.2.7:53",
        "send 10 192.0.2.7:53",
    ] {
        assert_eq!(discoveries(used), at_start, "{used}");
    }
}

/// What is suppressed is told as an event, what is ignored is not; an alert is neither.
#[test]
fn exceptions_of_a_site() {
    let told = |verb: &str, command: &str| {
        let exception = format!(
            "- id: mine\n  verb: {verb}\n  owner: me\n  reason: it is done every night\n  expires: never\n  \
             rules: [server-shell]\n  shape: {{executable: /usr/bin/dash, argv: [sh, -c, uptime]}}\n"
        );
        let story = format!(
            "{}\nfork 11>20\nexec 20 /usr/bin/dash sh -c {command}",
            hosts::FPM
        );
        let mut all = vec![
            Input::Exceptions(ExceptionPart::Text {
                file: "mine.yml".to_owned(),
                text: exception,
            }),
            Input::Exceptions(ExceptionPart::End),
        ];
        all.extend(inputs(&story));
        let documents = documents(Emit::All, &all);
        let (alerts, events): (Vec<_>, Vec<_>) = documents
            .iter()
            .filter(|document| matches!(&document.event.event.payload, Payload::Exec(exec) if exec.exe == b"/usr/bin/dash"))
            .partition(|document| document.alert.is_some());
        (alerts.len(), events.len())
    };
    assert_eq!(told("suppress", "uptime"), (0, 1));
    assert_eq!(told("ignore", "uptime"), (0, 0));
    assert_eq!(told("ignore", "id"), (1, 1));
}
