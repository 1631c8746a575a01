//! A capture gives the documents of the run it was made of, to the byte, and a cut one gives those up
//! to the cut.

use std::fs;
use std::path::{Path, PathBuf};

use tracer::config::Emit;
use tracer::source::Input;
use tracer::source::capture::{CaptureError, Reader, Writer};

use crate::story::{alerts, documents, inputs, json, written};

/// A web server is attacked: one of each kind of record, input and alert.
pub(crate) const STORY: &str = "
    served /srv/www
    component /etc/php
    cgi /usr/lib/cgi-bin
    observed 1 /sbin/init
    observed 5 :parent=1 /usr/sbin/nginx 'nginx: master process /usr/sbin/nginx'
    observed 6 :parent=5 :uid=33 /usr/sbin/nginx 'nginx: worker process'
    observed 7 :parent=1 /usr/sbin/sshd 'sshd: /usr/sbin/sshd -D'
    end
    fork 1>10
    exec 10 /usr/sbin/php-fpm8.2 php-fpm8.2 --nodaemonize
    listen 10 9000
    fork 10>11
    now
    wait 90s
    # A session and a log: no alert.
    open 11 created /var/lib/php/sessions/sess_1
    open 11 append /var/log/app.log
    # A web shell.
    open 11 created /srv/www/uploads/x.php
    fork 11>20
    exec 20 :uid=33 :cwd=/srv/www :stdin=listening /usr/bin/dash sh -c 'id; uname -a'
    fork 20>21
    exec 21 :cwd=/srv/www /usr/bin/id id
    exit 21 0
    exit 20 0
    now
    # A program is dropped under another name, and run.
    open 11 created /tmp/.x.tmp
    rename 11 /tmp/.x.tmp /tmp/.x
    fork 11>30
    exec 30 :uid=33 /tmp/.x ./x -d
    fork 30>31
    exit 30 0
    lost life_ring_full 2
    now
    exec 31 :stdin=connected /usr/bin/bash bash -i
    rename 31 :dir=/etc/php/8.2 a.ini conf.d/b.ini
    # Meanwhile an administrator logs in.
    fork 7>40
    exec 40 /usr/bin/bash -bash
    fork 40>41
    exec 41 /usr/bin/vim vim /srv/www/index.php
    exit 41 0
    exit 40 9
    now";

fn capture(inputs: &[Input]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    for input in inputs {
        writer.write(input).unwrap();
    }
    writer.finish().unwrap()
}

fn read(bytes: &[u8]) -> Vec<Input> {
    Reader::new(bytes).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_capture_replays_to_the_same_bytes() {
    let direct = inputs(STORY);
    let replayed = read(&capture(&direct));
    assert_eq!(replayed, direct);
    for emit in [Emit::Alerts, Emit::Events, Emit::All] {
        let expected = json(&documents(emit, &direct));
        assert!(!expected.is_empty());
        assert!(json(&documents(emit, &replayed)) == expected);
    }
}

#[test]
fn a_cut_capture_replays_up_to_the_cut() {
    let inputs = inputs(STORY);
    let whole = capture(&inputs);
    for frames in 0..=inputs.len() {
        let len = capture(&inputs[..frames]).len();
        assert_eq!(read(&whole[..len]), inputs[..frames]);
        if frames == inputs.len() {
            break;
        }
        // Inside the next frame: its head, or what is after.
        let next = capture(&inputs[..=frames]).len();
        for cut in [len + 1, len + 4, next - 1] {
            let mut reader = Reader::new(&whole[..cut]).unwrap();
            let before: Vec<Input> = reader.by_ref().take(frames).map(Result::unwrap).collect();
            assert_eq!(before, inputs[..frames]);
            match reader.next() {
                Some(Err(CaptureError::Cut { at })) => assert_eq!(at, len as u64),
                other => panic!("{other:?}"),
            }
            assert!(reader.next().is_none());
        }
        // What was alerted so far does not change with what is missing.
        let all = alerts(&documents(Emit::Alerts, &inputs));
        let some = alerts(&documents(Emit::Alerts, &inputs[..frames]));
        assert_eq!(some, all[..some.len()]);
    }
}

pub(crate) fn golden(path: &str, now: &[u8]) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, now).unwrap();
        return;
    }
    assert!(
        fs::read(&path).unwrap_or_default() == now,
        "{} differs; UPDATE_GOLDEN=1 rewrites it",
        path.display()
    );
}

/// The layout of captures and the documents of a whole story, as they are on disk.
#[test]
fn golden_story() {
    let inputs = inputs(STORY);
    let documents = documents(Emit::All, &inputs);
    assert_eq!(
        alerts(&documents),
        [
            "server-code-write high 11",
            "server-shell high 20",
            "server-dropped-exec high 30",
            "server-reverse-shell critical 31",
            "server-component-write high 31",
        ]
    );
    golden("captures/story.tracer", &capture(&inputs));
    golden(
        "expected/story.json",
        written(Emit::All, &inputs).as_bytes(),
    );
}
