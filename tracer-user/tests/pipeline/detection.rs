//! What is an alert and what is not: one row a story. `;;` ends a line.

use crate::story::{alerts, documents, inputs, raised};
use tracer::config::Emit;

mod hosts;
mod programs;
mod reach;
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
}

#[test]
fn rows_that_must_not_alert() {
    check(silent::MUST_NOT);
    check(reach::MUST_NOT);
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
             connection",
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
