//! Files that server lineages wrote: what is known of them after changes of names.

use tracer_common::tag::{Role, Tag};

use super::*;

/// What the tests give it.
const BYTES: usize = 64 << 20;
use crate::event::ProcessKey;

fn file(inode: u64) -> FileId {
    FileId { dev: 1, inode }
}

fn by(tgid: u32) -> By {
    By {
        writer: Writer {
            process: ProcessKey::new(tgid, 0),
            boot_ns: 0,
            tag: Tag::ZERO,
        },
        server: Server {
            name: "nginx".into(),
            why: crate::lineage::process::Why::Named,
            role: Role::Web,
        },
        uid: Some(33),
        mnt_ns: 1,
        container: None,
    }
}

fn sure(file: Option<FileId>) -> Changed<'static> {
    Changed {
        file,
        perhaps: false,
        same: &|_, _| true,
    }
}

fn perhaps(file: Option<FileId>) -> Changed<'static> {
    Changed {
        perhaps: true,
        ..sure(file)
    }
}

impl Written {
    fn wrote(&mut self, inode: u64, path: &str) {
        self.insert(Some(file(inode)), Some(1), path.as_bytes(), by(1));
    }

    fn names(&self, inode: u64) -> &[Id] {
        &self.files[&file(inode)].names
    }

    fn moved(&mut self, old: &str, new: &str) {
        self.rename(old.as_bytes(), new.as_bytes(), &sure(None));
    }
}

fn holds(written: &Written, inode: u64, path: &str) -> bool {
    written.holds(file(inode), 0, path.as_bytes()).is_some()
}

fn has_module(written: &Written, dir: &str, name: &str) -> bool {
    written.module(dir.as_bytes(), name.as_bytes()).is_some()
}

#[test]
fn names_move_with_files_and_directories() {
    let mut written = Written::new(BYTES);
    written.wrote(1, "/tmp/a/x.php");
    written.wrote(2, "/tmp/a/sub/y");
    written.wrote(3, "/tmp/ab");
    written.moved("/tmp/a", "/srv/b");
    assert!(holds(&written, 1, "/srv/b/x.php"));
    assert!(holds(&written, 2, "/srv/b/sub/y"));
    assert!(holds(&written, 3, "/tmp/ab"));
    assert!(!written.has_path(b"/tmp/a/x.php"));
    assert_eq!(
        written.code_below(b"/srv/b"),
        Some(b"/srv/b/x.php".to_vec())
    );
    assert_eq!(written.code_below(b"/srv/b/sub"), None);
    written.moved("/tmp/ab", "/tmp/c.php");
    assert!(holds(&written, 3, "/tmp/c.php"));
}

#[test]
fn names_change_places() {
    let mut written = Written::new(BYTES);
    written.wrote(1, "/tmp/a");
    written.wrote(2, "/srv/b/x");
    written.exchange(b"/tmp/a", b"/srv/b", &sure(None));
    assert!(holds(&written, 1, "/srv/b"));
    assert!(holds(&written, 2, "/tmp/a/x"));
    written.exchange(b"/srv/b", b"/nothing", &sure(None));
    assert!(holds(&written, 1, "/nothing") && !written.has_path(b"/srv/b"));
}

#[test]
fn a_name_is_its_latest_file_s() {
    let mut written = Written::new(BYTES);
    written.wrote(1, "/tmp/x");
    written.wrote(2, "/tmp/x");
    // The first is written again under another name: the name stays the second's.
    written.wrote(1, "/tmp/y");
    assert!(written.has_path(b"/tmp/x") && written.has_path(b"/tmp/y"));
}

#[test]
fn hard_links_are_names_of_one_file() {
    let mut written = Written::new(BYTES);
    written.wrote(1, "/tmp/x");
    written.link(b"/tmp/x", b"/srv/x.php", &sure(None));
    // By its identity, whatever it was called.
    written.link(b"/proc/self/fd/3", b"/tmp/y", &sure(Some(file(1))));
    for path in ["/tmp/x", "/srv/x.php", "/tmp/y"] {
        assert!(holds(&written, 1, path), "{path}");
    }
    written.moved("/tmp/y", "/tmp/z");
    assert!(holds(&written, 1, "/tmp/z") && !holds(&written, 1, "/tmp/y"));
    // What was never written has no names here.
    written.link(b"/etc/passwd", b"/tmp/p", &sure(Some(file(2))));
    assert!(!written.has_path(b"/tmp/p"));
    for number in 0..20 {
        written.link(
            b"",
            format!("/tmp/{number}").as_bytes(),
            &sure(Some(file(1))),
        );
    }
    // The first stays.
    assert!(written.has_path(b"/tmp/x") && written.has_path(b"/tmp/19"));
    assert!(!written.has_path(b"/srv/x.php") && !written.has_path(b"/tmp/12"));
    assert_eq!(written.names(1).len(), NAMES);
    assert_eq!(written.forgotten(), 20 + 3 - NAMES as u64);
}

#[test]
fn the_latest_writer_counts() {
    let mut written = Written::new(BYTES);
    written.wrote(1, "/tmp/x");
    written.link(b"/tmp/x", b"/tmp/y", &sure(None));
    written.insert(Some(file(1)), Some(1), b"/tmp/y", by(2));
    for (file, path) in [(Some(file(1)), ""), (None, "/tmp/x"), (None, "/tmp/y")] {
        let by = written.by(file, path.as_bytes()).unwrap();
        assert_eq!(by.writer.process.tgid, 2);
    }
    written.privilege(None, b"/tmp/x");
    assert!(written.is_privileged(file(1)) && !written.is_privileged(file(2)));
}

#[test]
fn modules() {
    let mut written = Written::new(BYTES);
    written.wrote(1, "/tmp/multiprocessing/__init__.py");
    written.wrote(2, "/x.so");
    assert!(has_module(&written, "/tmp", "multiprocessing"));
    assert!(has_module(&written, "/", "x"));
    assert!(!has_module(&written, "/tmp", "multi"));
    assert!(!has_module(&written, "/srv", "multiprocessing"));
}

#[test]
fn bounded() {
    let mut written = Written::new(BYTES);
    for inode in 0..WRITTEN as u64 + 10 {
        written.wrote(inode, &format!("/tmp/{inode}"));
    }
    assert_eq!(
        (written.files.len(), written.order.len()),
        (WRITTEN, WRITTEN)
    );
    assert_eq!(written.forgotten(), 10);
    assert!(!written.has_path(b"/tmp/9") && written.has_path(b"/tmp/10"));
}

#[test]
fn bounded_by_bytes() {
    let mut written = Written::new(BYTES);
    let long = "/a".repeat(MAX_BYTES / 2 - 8);
    for inode in 0..60 {
        written.wrote(inode, &format!("/{inode}{long}"));
    }
    assert!(written.bytes() <= BYTES && written.files.len() < 50);
    assert_eq!(written.forgotten() + written.files.len() as u64, 60);
    assert!(written.has_path(format!("/59{long}").as_bytes()));
    for inode in 0..60 {
        let changed = sure(Some(file(inode)));
        written.unlink(format!("/{inode}{long}").as_bytes(), &changed);
    }
    assert_eq!((written.bytes(), written.order.len()), (0, 0));
}

#[test]
fn what_was_only_tried_takes_nothing_away() {
    let mut written = Written::new(BYTES);
    written.wrote(1, "/tmp/x");
    written.wrote(2, "/tmp/d/y");
    written.wrote(3, "/tmp/z");
    written.rename(b"/tmp/x", b"/tmp/z", &perhaps(None));
    written.rename(b"/tmp/x", b"/none/x", &perhaps(None));
    written.rename(b"/tmp/d", b"/none/d", &perhaps(None));
    written.unlink(b"/tmp/x", &perhaps(None));
    written.exchange(b"/tmp/d", b"/tmp/nothing", &perhaps(None));
    for (inode, path) in [
        (1, "/tmp/x"),
        (1, "/none/x"),
        (2, "/tmp/d/y"),
        (2, "/none/d/y"),
        (2, "/tmp/nothing/y"),
        (3, "/tmp/z"),
    ] {
        assert!(holds(&written, inode, path), "{path}");
    }
}

#[test]
fn names_that_cannot_be_are_refused() {
    let mut written = Written::new(BYTES);
    written.wrote(1, "/x/a");
    let long = "b".repeat(MAX_BYTES);
    for changed in [sure(None), perhaps(None)] {
        written.rename(b"/x/a", format!("/x/a/{long}").as_bytes(), &changed);
        written.rename(b"/x/a", b"/x/a/b", &changed);
        written.rename(b"/x/a", b"/x", &changed);
        written.rename(b"/x/a", format!("/{long}").as_bytes(), &changed);
        written.link(b"/x/a", format!("/{long}").as_bytes(), &changed);
        written.rename(b"", b"/y", &changed);
        written.unlink(b"", &changed);
    }
    assert!(holds(&written, 1, "/x/a") && written.names(1).len() == 1);
}

#[test]
fn a_generation_says_whether_it_is_the_same_file() {
    let mut written = Written::new(BYTES);
    written.wrote(1, "/tmp/x");
    written.wrote(1, "/mnt/x");
    assert!(holds(&written, 1, "/tmp/x") && holds(&written, 1, "/mnt/x"));
    written.insert(Some(file(1)), Some(2), b"/tmp/y", by(1));
    assert!(holds(&written, 1, "/tmp/y") && !written.has_path(b"/tmp/x"));
    // The name that is linked again is no other.
    for _ in 0..NAMES {
        written.link(b"/tmp/y", b"/tmp/z", &sure(None));
    }
    assert_eq!(written.names(1).len(), 2);
}

#[test]
fn files_without_identity_are_their_names() {
    let mut written = Written::new(BYTES);
    for path in [b"/tmp/a", b"/tmp/b"] {
        written.insert(None, None, path, by(u32::from(path[5])));
    }
    let writer = |written: &Written, path: &[u8]| {
        written.by(Some(file(9)), path).unwrap().writer.process.tgid
    };
    assert_eq!(writer(&written, b"/tmp/a"), u32::from(b'a'));
    assert_eq!(writer(&written, b"/tmp/b"), u32::from(b'b'));
    written.link(b"/tmp/a", b"/tmp/c", &sure(None));
    // Told by its identity at last, with all names it has by now.
    written.wrote(7, "/tmp/a");
    assert!(holds(&written, 7, "/tmp/c") && written.files.len() == 2);
    written.rename(b"/tmp/b", b"/tmp/d", &sure(Some(file(8))));
    assert!(holds(&written, 8, "/tmp/d"));
}

#[test]
fn a_name_that_another_file_has_is_forgotten() {
    let mut written = Written::new(BYTES);
    written.wrote(1, "/srv/index.php");
    written.wrote(2, "/srv/d/x.php");
    assert!(written.by(Some(file(5)), b"/srv/index.php").is_none());
    written.rename(b"/build/i", b"/srv/index.php", &sure(Some(file(5))));
    assert!(!written.has_path(b"/srv/index.php") && !written.knows(file(1)));
    written.unlink(b"/srv/d/x.php", &sure(None));
    assert!(written.code_below(b"/srv").is_none() && !written.knows(file(2)));
    // A hard link stays the file.
    written.wrote(3, "/srv/a");
    written.link(b"/srv/a", b"/srv/b", &sure(None));
    written.rename(b"/srv/a", b"/srv/b", &sure(Some(file(3))));
    assert!(holds(&written, 3, "/srv/a") && holds(&written, 3, "/srv/b"));
    written.unlink(b"/srv/a", &sure(None));
    assert!(holds(&written, 3, "/srv/b"));
}

#[test]
fn a_name_elsewhere_is_not_taken_away() {
    let mut written = Written::new(BYTES);
    let elsewhere = Changed {
        same: &|_, _| false,
        ..sure(None)
    };
    written.wrote(1, "/tmp/x");
    written.unlink(b"/tmp/x", &elsewhere);
    written.rename(b"/build/x", b"/tmp/x", &elsewhere);
    written.rename(b"/tmp/x", b"/tmp/y", &elsewhere);
    written.exchange(b"/tmp/x", b"/tmp/z", &elsewhere);
    assert!(holds(&written, 1, "/tmp/x"));
    // Unless it is that very file.
    let itself = Changed {
        file: Some(file(1)),
        ..elsewhere
    };
    written.unlink(b"/tmp/x", &itself);
    assert!(!written.has_path(b"/tmp/x"));
}

#[test]
fn overlayfs_changes_numbers() {
    let at = |inode| FileId { dev: 42, inode };
    let mut written = Written::new(BYTES);
    written.insert(Some(at(1)), Some(0), b"/app/x", by(1));
    written.insert(Some(at(2)), Some(5), b"/app/y", by(1));
    assert!(written.by(Some(at(3)), b"/app/x").is_some());
    assert!(written.by(Some(at(3)), b"/app/y").is_none());
    written.rename(b"/app/x", b"/app/z", &sure(Some(at(3))));
    assert!(written.has_path(b"/app/z"));
}

#[test]
fn a_name_that_a_file_had_already_is_given_back() {
    let mut written = Written::new(BYTES);
    written.wrote(1, "/srv/a");
    written.link(b"/proc/self/fd/3", b"/srv/a", &sure(Some(file(1))));
    assert!(holds(&written, 1, "/srv/a"));
    written.rename(b"/srv/unseen", b"/srv/a", &sure(Some(file(1))));
    assert!(holds(&written, 1, "/srv/a"));
}

#[test]
fn a_file_of_a_name_too_long_is_known_by_its_identity() {
    let mut written = Written::new(BYTES);
    written.wrote(1, &"/long".repeat(MAX_BYTES));
    assert!(written.knows(file(1)) && written.names(1).is_empty());
    written.link(b"", b"/tmp/x", &sure(Some(file(1))));
    assert!(holds(&written, 1, "/tmp/x"));
}

/// Everything, as the next agent has it.
fn recalled(written: &Written) -> Written {
    let mut past: Vec<_> = written.remember().collect();
    past.reverse();
    let mut again = Written::new(BYTES);
    for one in past {
        again.recall(&one, None);
    }
    again
}

#[test]
fn the_next_agent_knows_the_same() {
    let mut written = Written::new(BYTES);
    written.wrote(1, "/srv/a");
    written.wrote(2, "/srv/b");
    written.link(b"/srv/a", b"/srv/c", &sure(Some(file(1))));
    written.insert(None, None, b"/srv/named", by(7));
    written.privilege(Some(file(2)), b"/srv/b");
    // Written once more: the latest.
    written.wrote(1, "/srv/a");
    let again = recalled(&written);
    let past = |written: &Written| written.remember().collect::<Vec<_>>();
    assert_eq!(past(&again), past(&written));
    let first: Vec<_> = again.all().map(|(_, path)| path).collect();
    assert_eq!(
        first,
        [b"/srv/a".as_slice(), b"/srv/named", b"/srv/b"],
        "in their order"
    );
    assert!(again.is_privileged(file(2)) && !again.is_privileged(file(1)));
    assert_eq!(again.names(1).len(), 2);
    assert_eq!(again.by_path(b"/srv/named").unwrap().writer.process.tgid, 7);
    assert!(again.holds(file(1), 1, b"/srv/c").is_some());
    assert!(
        again.holds(file(1), 2, b"/srv/c").is_none(),
        "the number is another file's by now"
    );
    assert!(again.holds(file(1), 0, b"/srv/c").is_some(), "not told");
    // What is learned from now on.
    let mut again = again;
    again.moved("/srv", "/opt");
    assert_eq!(again.by_path(b"/opt/c").unwrap().writer.process.tgid, 1);
}

#[test]
fn what_makes_no_sense_is_taken_up_within_the_bounds() {
    let sane = {
        let mut written = Written::new(BYTES);
        written.wrote(1, "/srv/a");
        written.remember().next().unwrap()
    };
    let mut written = Written::new(BYTES);
    let names = |count: u32| {
        (0..count)
            .map(|at| format!("/n/{at}").into_bytes())
            .collect()
    };
    for past in [
        PastFile {
            names: Vec::new(),
            ..sane.clone()
        },
        PastFile {
            file: None,
            names: Vec::new(),
            ..sane.clone()
        },
        PastFile {
            names: vec![vec![b'/'; MAX_BYTES + 1]; 3],
            ..sane.clone()
        },
        PastFile {
            file: Some(made_up(5)),
            names: vec![b"/srv/a".to_vec(), b"/srv/a".to_vec(), Vec::new()],
            ..sane.clone()
        },
        PastFile {
            names: names(500),
            ..sane.clone()
        },
    ] {
        written.recall(&past, None);
        assert!(written.len() <= 2);
    }
    assert!(written.names(1).len() <= NAMES);
    // More than there is room for: what was written last stays.
    let mut small = Written::new(64 << 10);
    for inode in 0..1000_u32 {
        let past = PastFile {
            file: Some(file(inode.into())),
            names: vec![format!("/n/{inode}").into_bytes()],
            ..sane.clone()
        };
        small.recall(&past, None);
    }
    assert!(small.bytes() <= 64 << 10);
    assert!(small.has_path(b"/n/999") && !small.has_path(b"/n/0"));
}
