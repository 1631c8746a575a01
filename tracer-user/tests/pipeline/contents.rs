//! Hashes: what is asked for, and what waits for it.

use tracer::config::Emit;
use tracer::enrich::content::{Content, ContentAsked, Is};
use tracer::memory::Budget;
use tracer::pipeline::{Command, Pipeline};
use tracer::source::{Enrichment, Input};

use crate::story::{MS, told};

const STORY: &str = "
    served /srv/www
    observed 1 /sbin/init
    observed 5 :parent=1 /usr/sbin/nginx nginx
    observed 9 :parent=1 /usr/bin/python3 python3
    end
    fork 1>10
    exec 10 /usr/bin/vim vim
    fork 5>6
    exec 6 /usr/bin/dash sh -c id
    open 5 created /srv/www/x.php
    now";

fn run(files: bool) -> Pipeline {
    let mut pipeline = Pipeline::new(Emit::Alerts, Budget::default());
    pipeline.input(Input::Enrichment(Enrichment {
        wait_ms: 250,
        files,
        ..Enrichment::default()
    }));
    for input in told(STORY) {
        pipeline.input(input);
    }
    pipeline
}

fn asked(pipeline: &mut Pipeline) -> Vec<ContentAsked> {
    let commands = pipeline.take_commands().into_iter();
    commands
        .filter_map(|command| match command {
            Command::Content(asked) => Some(asked),
            _ => None,
        })
        .collect()
}

fn content(byte: u8) -> Option<Content> {
    Some(Content {
        sha256: [byte; 32],
        size: 3,
        open: false,
    })
}

#[test]
fn files_of_servers_and_alerts_are_asked_for_once() {
    let mut pipeline = run(true);
    let asked: Vec<_> = asked(&mut pipeline)
        .into_iter()
        .map(|asked| (asked.path, asked.is, asked.processes[0].tgid))
        .collect();
    let expected = [
        ("/usr/sbin/nginx", Is::Executable, 5),
        ("/usr/bin/dash", Is::Executable, 6),
        ("/srv/www/x.php", Is::Written, 5),
    ];
    assert_eq!(
        asked,
        expected.map(|(path, is, pid)| (path.as_bytes().to_vec(), is, pid))
    );
}

#[test]
fn alerts_wait_for_hashes_and_go_without_in_time() {
    let mut pipeline = run(true);
    let asked = asked(&mut pipeline);
    assert!(pipeline.take_documents().is_empty());
    pipeline.input(Input::Content {
        moment: asked[0].moment,
        content: content(1),
    });
    assert!(pipeline.take_documents().is_empty(), "each lacks one");
    pipeline.input(Input::Content {
        moment: asked[1].moment,
        content: content(2),
    });
    let [shell] = &pipeline.take_documents()[..] else {
        panic!("the shell lacks nothing")
    };
    let hash = |process: &tracer::alert::ProcessView| process.content.found().map(|c| c.sha256[0]);
    assert_eq!(hash(&shell.event.process), Some(2));
    assert_eq!(hash(&shell.event.lineage[0]), Some(1));
    let raised = shell.event.event.meta.boot_ns;
    pipeline.input(Input::Watermark(raised + 1000 * MS));
    let [page] = &pipeline.take_documents()[..] else {
        panic!("the page has waited")
    };
    assert_eq!(page.event.pending(), ["hash"]);
    // What comes too late, or was never asked for, changes nothing.
    pipeline.input(Input::Content {
        moment: asked[2].moment,
        content: content(3),
    });
    pipeline.input(Input::Content {
        moment: tracer::enrich::content::Moment::default(),
        content: None,
    });
    assert!(pipeline.take_documents().is_empty());
}

#[test]
fn where_nobody_hashes_nothing_waits() {
    let mut pipeline = run(false);
    assert!(asked(&mut pipeline).is_empty());
    assert_eq!(pipeline.take_documents().len(), 2);
}
