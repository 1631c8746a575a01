//! Hashes: what is asked for, and what waits for it.

use std::sync::Arc;

use tracer::config::Emit;
use tracer::enrich::content::{Content, ContentAsked, Is, Owner, Package, PackageKind};
use tracer::memory::Budget;
use tracer::pipeline::{Command, Pipeline};
use tracer::source::capture::{Reader, Writer};
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
        package: Package::Nobody,
    })
}

/// What the pipeline asked for goes into a capture with its answer, and out of it comes the same alert.
#[test]
fn packages_are_shown_and_replayed() {
    let mut inputs = vec![Input::Enrichment(Enrichment {
        wait_ms: 250,
        files: true,
        ..Enrichment::default()
    })];
    inputs.extend(told(STORY));
    let owned = Package::Owned(Arc::new(Owner {
        kind: PackageKind::Apk,
        name: "nginx".into(),
        version: Some("1.28.0-r3".into()),
    }));
    let [nginx, dash, _] = &asked(&mut run(true))[..] else {
        panic!("three files")
    };
    for (moment, package) in [(nginx.moment, owned), (dash.moment, Package::Nobody)] {
        let content = content(1).map(|content| Content { package, ..content });
        inputs.push(Input::Content { moment, content });
    }
    let shell = |inputs: Vec<Input>| {
        let mut pipeline = Pipeline::new(Emit::Alerts, Budget::default());
        inputs.into_iter().for_each(|input| pipeline.input(input));
        let mut documents = pipeline.take_documents();
        assert_eq!(documents.len(), 1);
        documents.remove(0)
    };
    let mut writer = Writer::new(Vec::new()).unwrap();
    inputs.iter().for_each(|input| writer.write(input).unwrap());
    let capture = writer.finish().unwrap();
    let replayed = Reader::new(capture.as_slice()).unwrap();
    let replayed = shell(replayed.map(Result::unwrap).collect());
    let package = |view: &tracer::alert::ProcessView| view.content.found().unwrap().package.clone();
    assert_eq!(package(&replayed.event.process), Package::Nobody);
    let nginx = package(&replayed.event.lineage[0]);
    let nginx = nginx.owner().unwrap();
    let version = nginx.version.as_deref();
    assert_eq!((nginx.name.as_str(), version), ("nginx", Some("1.28.0-r3")));
    assert_eq!(replayed.event, shell(inputs).event);
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

#[test]
fn a_hash_does_not_wait_for_its_package() {
    let mut pipeline = run(true);
    let asked = asked(&mut pipeline);
    let with = |package| content(1).map(|content| Content { package, ..content });
    for asked in &asked {
        let content = match asked.is {
            Is::Executable => with(Package::Pending),
            Is::Written => content(2),
        };
        let moment = asked.moment;
        pipeline.input(Input::Content { moment, content });
    }
    assert!(pipeline.take_documents().is_empty(), "packages may come");
    // That of the server comes: the page lacks nothing any more.
    let content = with(Package::Nobody);
    let moment = asked[0].moment;
    pipeline.input(Input::Content { moment, content });
    let [page] = &pipeline.take_documents()[..] else {
        panic!("the page lacks nothing")
    };
    let of = |view: &tracer::alert::ProcessView| {
        let content = view.content.found().unwrap();
        (content.sha256[0], content.package.is_owned())
    };
    assert_eq!(of(&page.event.process), (1, Some(false)));
    assert!(page.event.pending().is_empty());
    // That of the shell does not.
    let raised = page.event.event.meta.boot_ns;
    pipeline.input(Input::Watermark(raised + 1000 * MS));
    let [shell] = &pipeline.take_documents()[..] else {
        panic!("the shell has waited")
    };
    assert_eq!(of(&shell.event.process), (1, None));
    assert_eq!(of(&shell.event.lineage[0]), (1, Some(false)));
    assert_eq!(shell.event.pending(), ["package"]);
}
