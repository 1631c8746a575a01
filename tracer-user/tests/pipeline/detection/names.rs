//! Written files and links through the names that they are given, keep and lose.

use std::fmt::Write as _;

use tracer::config::Emit;

use super::Row;
use super::hosts::FPM;
use crate::story::{alerts, inputs, raised, run};

/// php-fpm and its worker (11), another server (41), cron (8), and an administrator's shell (20).
const HOST: &str = "
    served /srv/www
    observed 1 /sbin/init
    observed 8 :parent=1 /usr/sbin/cron /usr/sbin/cron -f
    observed 10 :parent=1 /usr/sbin/php-fpm8.2 'php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)'
    observed 11 :parent=10 :uid=33 /usr/sbin/php-fpm8.2 'php-fpm: pool www'
    observed 20 :parent=1 /usr/bin/bash -bash
    observed 40 :parent=1 /usr/sbin/nginx 'nginx: master process /usr/sbin/nginx'
    observed 41 :parent=40 :uid=33 /usr/sbin/nginx 'nginx: worker process'
    end";

#[rustfmt::skip]
pub(super) const MUST: &[Row] = &[
    // What was only tried.
    ("a rename that may have failed", HOST, "open 11 created /opt/x.sh;;rename 11 :attempt :uring :no-file /opt/x.sh /nonexist/y;;fork 8>30;;exec 30 /usr/bin/dash sh /opt/x.sh", &["server-dropped-exec high 30"]),
    ("a rename that may have been done", HOST, "open 11 created /opt/x.sh;;rename 11 :attempt :uring :no-file /opt/x.sh /opt/y.sh;;fork 8>30;;exec 30 /usr/bin/dash sh /opt/y.sh", &["server-dropped-exec high 30"]),
    ("of its directory", HOST, "open 11 created /opt/d/x.sh;;rename 11 :attempt :uring :no-file /opt/d /nonexist/d;;fork 8>30;;exec 30 /usr/bin/dash sh /opt/d/x.sh", &["server-dropped-exec high 30"]),
    ("of its directory that may have been done", HOST, "open 11 created /opt/d/x.sh;;rename 11 :attempt :uring :no-file /opt/d /opt/e;;fork 8>30;;exec 30 /usr/bin/dash sh /opt/e/x.sh", &["server-dropped-exec high 30"]),
    ("moved for true after it was tried", HOST, "open 11 created /srv/www/up/x.txt;;rename 11 :attempt :uring :no-file /srv/www/up/x.txt /nonexist/y;;rename 20 :untagged :no-file /srv/www/up/x.txt /srv/www/x.php", &["server-code-write medium 20"]),
    ("an unlink that may have failed", HOST, "open 11 created /opt/x.sh;;unlink 11 :attempt :uring :no-file /opt/x.sh;;fork 8>30;;exec 30 /usr/bin/dash sh /opt/x.sh", &["server-dropped-exec high 30"]),
    ("a rename of another name", HOST, "open 11 created /opt/x.sh;;rename 11 :no-file :early-old=/opt/a :early-new=/opt/b /opt/x.sh /opt/c;;fork 8>30;;exec 30 /usr/bin/dash sh /opt/x.sh", &["server-name-race high 11", "server-dropped-exec critical 30"]),
    ("a directory below itself", HOST, "open 11 created /opt/x/a.sh;;rename 11 :attempt :uring :no-file /opt/x /opt/x/y;;rename 11 :attempt :uring :no-file /opt/x /opt/x/y;;fork 8>30;;exec 30 /usr/bin/dash sh /opt/x/a.sh", &["server-dropped-exec high 30"]),
    // What was only handed in has no identity.
    ("one of two files without identity", HOST, "open 11 :name=x.sh write /opt;;open 41 :name=y.sh write /opt;;fork 8>30;;exec 30 /usr/bin/dash sh /opt/x.sh", &["server-dropped-exec high 30"]),
    ("the other", HOST, "open 11 :name=x.sh write /opt;;open 41 :name=y.sh write /opt;;fork 8>30;;exec 30 /usr/bin/dash sh /opt/y.sh", &["server-dropped-exec high 30"]),
    ("one that is identified later", HOST, "open 11 :name=x.txt write /opt;;rename 20 :untagged /opt/x.txt /srv/www/x.php", &["server-code-write medium 20"]),
    // Names of one file.
    ("a file that has two names", HOST, "open 11 :ino=7 created /opt/x.sh;;open 11 :ino=7 write /mnt/x.sh;;fork 8>30;;exec 30 /usr/bin/dash sh /opt/x.sh", &["server-dropped-exec high 30"]),
    ("linked and unlinked again and again", HOST, "open 11 created /opt/x.sh;;link 11 /opt/x.sh /opt/y;;unlink 11 /opt/y;;link 11 /opt/x.sh /opt/y;;unlink 11 /opt/y;;link 11 /opt/x.sh /opt/y;;unlink 11 /opt/y;;link 11 /opt/x.sh /opt/y;;unlink 11 /opt/y;;link 11 /opt/x.sh /opt/y;;unlink 11 /opt/y;;link 11 /opt/x.sh /opt/y;;unlink 11 /opt/y;;link 11 /opt/x.sh /opt/y;;unlink 11 /opt/y;;link 11 /opt/x.sh /opt/y;;unlink 11 /opt/y;;fork 8>30;;exec 30 /usr/bin/dash sh /opt/x.sh", &["server-dropped-exec high 30"]),
    ("one of two hard links is removed", HOST, "open 11 created /opt/x.sh;;link 11 /opt/x.sh /opt/y.sh;;unlink 11 /opt/x.sh;;fork 8>30;;exec 30 /usr/bin/dash sh /opt/y.sh", &["server-dropped-exec high 30"]),
    ("a hard link renamed to the other, which does nothing", HOST, "open 11 created /opt/x.sh;;link 11 /opt/x.sh /opt/y.sh;;rename 11 /opt/x.sh /opt/y.sh;;fork 8>30;;exec 30 /usr/bin/dash sh /opt/x.sh", &["server-dropped-exec high 30"]),
    // A place of its own.
    ("removed where the name means another file", HOST, "open 11 created /opt/x.sh;;unlink 11 :mnt=7 :no-file /opt/x.sh;;fork 8>30;;exec 30 /usr/bin/dash sh /opt/x.sh", &["server-dropped-exec high 30"]),
    ("moved away there", HOST, "open 11 created /opt/x.sh;;rename 11 :mnt=7 :no-file /opt/x.sh /opt/y;;fork 8>30;;exec 30 /usr/bin/dash sh /opt/x.sh", &["server-dropped-exec high 30"]),
    ("removed under another root directory", HOST, "open 11 created /opt/x.sh;;fork 11>12;;namespace 12 chroot /tmp/jail;;fork 12>13;;unlink 13 :no-file /opt/x.sh;;fork 8>30;;exec 30 /usr/bin/dash sh /opt/x.sh", &["server-dropped-exec high 30"]),
    // Links.
    ("a link to the root directory", FPM, "symlink 11 / /srv/www/r;;open 11 created /tmp/x.php", &["server-code-write high 11"]),
    ("a link to it when there is code", FPM, "open 11 created /tmp/x.php;;symlink 11 / /srv/www/r", &["server-code-write high 11"]),
    ("other code where a link to code leads", FPM, "open 11 created /tmp/d/x.php;;symlink 11 /tmp/d /srv/www/d;;open 11 created /tmp/d/y.php", &["server-code-write high 11", "server-code-write high 11"]),
    ("a link moved in", FPM, "symlink 11 /tmp/d /tmp/l;;rename 11 :no-file /tmp/l /srv/www/l;;open 11 created /tmp/d/x.php", &["server-code-write high 11"]),
    ("a link moved in when there is code", FPM, "symlink 11 /tmp/d /tmp/l;;open 11 created /tmp/d/x.php;;rename 11 :no-file /tmp/l /srv/www/l", &["server-code-write high 11"]),
    ("a relative link moved in", FPM, "symlink 11 ../../tmp/d /opt/l;;rename 11 :no-file /opt/l /srv/www/l;;open 11 created /tmp/d/x.php", &["server-code-write high 11"]),
    ("a link in a directory that is moved in", FPM, "symlink 11 /tmp/d /tmp/e/l;;rename 11 :no-file /tmp/e /srv/www/e;;open 11 created /tmp/d/x.php", &["server-code-write high 11"]),
    ("a link linked in", FPM, "symlink 11 /tmp/d /tmp/l;;link 11 :no-file /tmp/l /srv/www/l;;open 11 created /tmp/d/x.php", &["server-code-write high 11"]),
    ("a link exchanged in", FPM, "symlink 11 /tmp/d /tmp/l;;rename 11 :exchange :no-file /srv/www/cache /tmp/l;;open 11 created /tmp/d/x.php", &["server-code-write high 11"]),
    ("a link that may have been moved in", FPM, "symlink 11 /tmp/d /tmp/l;;rename 11 :attempt :uring :no-file /tmp/l /srv/www/l;;open 11 created /tmp/d/x.php", &["server-code-write high 11"]),
    ("a link to a link", FPM, "symlink 11 /tmp/evil /tmp/m;;symlink 11 /tmp/m /srv/www/e;;open 11 created /tmp/evil/x.php", &["server-code-write high 11"]),
    ("a link to a link that comes later", FPM, "symlink 11 /tmp/m /srv/www/e;;symlink 11 /tmp/evil /tmp/m;;open 11 created /tmp/evil/x.php", &["server-code-write high 11"]),
    ("links in a circle", FPM, "symlink 11 /tmp/a /tmp/b;;symlink 11 /tmp/b /tmp/a;;symlink 11 /tmp/a /srv/www/e;;open 11 created /tmp/b/x.php", &["server-code-write high 11"]),
    ("a link that may be gone", FPM, "symlink 11 /tmp/d /srv/www/d;;unlink 11 :attempt :uring :no-file /srv/www/d;;open 11 created /tmp/d/x.php", &["server-code-write high 11"]),
];

#[rustfmt::skip]
pub(super) const MUST_NOT: &[Row] = &[
    ("a deployment over what was written", HOST, "open 11 :uring :attempt :ino=0 write /srv/www/index.php;;rename 20 :untagged /build/index.php /srv/www/index.php", &["server-code-write high 11"]),
    ("a deployment of a file that PHP updated", HOST, "open 11 created /srv/www/index.php;;rename 20 :untagged :no-file /build/index.php /srv/www/index.php", &["server-code-write high 11"]),
    ("a temporary file renamed, all told", HOST, "open 11 created /srv/www/index.php;;open 20 :untagged created /srv/www/.index.php.a;;rename 20 :untagged /srv/www/.index.php.a /srv/www/index.php", &["server-code-write high 11"]),
    ("a mode of another file by that name", HOST, "open 11 created /srv/www/index.php;;unlink 20 :untagged /srv/www/index.php;;chmod 20 :untagged :ino=9 755 /srv/www/index.php", &["server-code-write high 11"]),
    ("a replaced cron script", HOST, "open 11 created /opt/x.sh;;rename 20 :untagged :no-file /build/x.sh /opt/x.sh;;fork 8>30;;exec 30 /usr/bin/dash sh /opt/x.sh", &[]),
    ("a script that was removed and written anew", HOST, "open 11 created /opt/x.sh;;unlink 20 :untagged /opt/x.sh;;fork 8>30;;exec 30 /usr/bin/dash sh /opt/x.sh", &[]),
    ("removed by a service with a mount namespace of its own", HOST, "open 11 created /opt/x.sh;;unlink 20 :untagged :mnt=7 :no-file /opt/x.sh;;fork 8>30;;exec 30 /usr/bin/dash sh /opt/x.sh", &[]),
    ("a directory whose code was deleted", HOST, "open 11 created /tmp/d/x.php;;unlink 11 /tmp/d/x.php;;rename 11 /tmp/d /srv/www/d", &[]),
    ("a number that is used again", HOST, "open 11 :ino=7 created /tmp/x;;unlink 11 :ino=7 /tmp/x;;rename 20 :untagged :ino=7 /build/i.php /srv/www/i.php", &[]),
    ("another file of that number", HOST, "open 11 :ino=7 :gen=1 created /opt/x.sh;;open 11 :ino=7 :gen=2 created /tmp/y;;fork 8>30;;exec 30 /usr/bin/dash sh /opt/x.sh", &[]),
    ("what was tried with what was not written", HOST, "open 11 created /srv/www/index.php;;rename 20 :untagged :attempt :uring :no-file /build/index.php /srv/www/index.php", &["server-code-write high 11"]),
    ("removed after another has gone to another root directory", HOST, "open 11 created /opt/x.sh;;namespace 41 chroot /srv;;unlink 11 :no-file /opt/x.sh;;fork 8>30;;exec 30 /usr/bin/dash sh /opt/x.sh", &[]),
    ("a link that is gone", FPM, "symlink 11 /tmp/d /srv/www/d;;unlink 11 :no-file /srv/www/d;;open 11 created /tmp/d/x.php", &[]),
    ("a link moved out", FPM, "symlink 11 /tmp/d /srv/www/d;;rename 11 :no-file /srv/www/d /opt/d;;open 11 created /tmp/d/x.php", &[]),
    ("links that lead to each other only", FPM, "symlink 11 /tmp/a /tmp/b;;symlink 11 /tmp/b /tmp/a;;open 11 created /tmp/b/x.php", &[]),
];

/// The first link of a server stays known, however many it makes, and what is forgotten is counted.
#[test]
fn many_links_hide_none() {
    let mut story = format!("{FPM}\nsymlink 11 /tmp/d /srv/www/d");
    for number in 0..400 {
        write!(story, "\nsymlink 11 /tmp/t{number} /srv/www/l{number}").unwrap();
        write!(story, "\nsymlink 6 /tmp/t{number} /var/cache/l{number}").unwrap();
    }
    story.push_str("\nopen 11 created /tmp/d/x.php");
    let mut pipeline = run(Emit::Alerts, &inputs(&story));
    assert_eq!(
        alerts(&pipeline.take_documents()),
        ["server-code-write high 11"]
    );
    let counts = pipeline.counts();
    assert!(counts.contains(&("links_forgotten", 801 - 256)));
    assert!(counts.contains(&("written_forgotten", 0)));
}

/// What is renamed does not cost by what is below it: a directory of 10,000 files moves 2,000 times.
#[test]
fn a_crowded_directory_moves_at_once() {
    let mut story = HOST.to_owned();
    for number in 1..10_000 {
        write!(story, "\nopen 11 :ino={number} created /opt/a/{number}").unwrap();
    }
    story.push_str("\nopen 11 :ino=10000 created /opt/a/x.sh");
    for _ in 0..1_000 {
        story.push_str("\nrename 11 :no-file /opt/a /opt/b\nrename 11 :no-file /opt/b /opt/a");
    }
    story.push_str("\nfork 8>30\nexec 30 /usr/bin/dash sh /opt/a/x.sh");
    assert_eq!(raised(&story), ["server-dropped-exec high 30"]);
}

/// Renames that fail again and again make no name that grows.
#[test]
fn names_do_not_grow() {
    let long = "b".repeat(200);
    let mut story = format!("{HOST}\nopen 11 created /opt/x/a.sh");
    let mut name = "/opt/x".to_owned();
    for _ in 0..100 {
        let next = format!("/opt/x/{long}/{}", name.replace('/', "_"));
        write!(story, "\nrename 11 :attempt :no-file {name} {next}").unwrap();
        name = next.chars().take(700).collect();
    }
    story.push_str("\nfork 8>30\nexec 30 /usr/bin/dash sh /opt/x/a.sh");
    assert_eq!(raised(&story), ["server-dropped-exec high 30"]);
}

/// Of more files than are remembered the first go, and are counted.
#[test]
fn the_first_files_go_first() {
    let mut story = format!("{HOST}\nopen 11 :ino=1 created /opt/x.sh");
    for number in 2..=16_385 {
        write!(story, "\nopen 11 :ino={number} created /opt/{number}").unwrap();
    }
    story.push_str("\nfork 8>30\nexec 30 /usr/bin/dash sh /opt/x.sh");
    story.push_str("\nfork 8>31\nexec 31 /usr/bin/dash sh /opt/2");
    let mut pipeline = run(Emit::Alerts, &inputs(&story));
    assert_eq!(
        alerts(&pipeline.take_documents()),
        ["server-dropped-exec high 31"]
    );
    assert!(pipeline.counts().contains(&("written_forgotten", 1)));
}
