//! Shells and interpreters by their files, whatever names those are executed by: who may mount can give
//! a shell the name of any other program. Pure.
//!
//! A file is learned whenever anybody executes it by a name of the tables, or runs it when the agent
//! reads `/proc`. It is known by each mount namespace and path that it was found at, and forgotten when
//! the last of those is found to be another file: an upgrade gives inode numbers to other programs.
//! Refuses to learn from a file with more than [`LINKS`] names (busybox's, where applets are hard links):
//! that is many programs, and which of them runs is said by the name. Bounded: the oldest go, and are
//! learned again when they are executed the next time.

use std::collections::{HashMap, VecDeque};

use super::roles::{self, Program};
use crate::event::{Exec, FileId};

/// Paths remembered.
const PATHS: usize = 4096;

/// Names that one program may have: `perl` and `perl5.36.0` are one file.
const LINKS: u32 = 4;

/// A mount namespace and a path.
type Place = (u32, Vec<u8>);

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Program(Program),
    /// Many programs: the word that it is called by says which.
    MultiCall,
}

struct File {
    is: Is,
    places: usize,
}

/// See the module.
#[derive(Default)]
pub(super) struct Shells {
    places: HashMap<Place, FileId>,
    order: VecDeque<Place>,
    files: HashMap<FileId, File>,
}

impl Shells {
    /// Learns from what is executed.
    pub(super) fn learn(&mut self, exec: &Exec) {
        let name = roles::base(&exec.exe);
        let is = if roles::is_multi_call(name) {
            Is::MultiCall
        } else if let Some(program) = roles::program_named(name)
            && exec.nlink <= LINKS
        {
            Is::Program(program)
        } else {
            return;
        };
        if exec.file.inode == 0 || exec.nlink == 0 {
            return;
        }
        let place = (exec.ns.mnt, exec.exe.clone());
        match self.places.insert(place.clone(), exec.file) {
            Some(known) if known == exec.file => return,
            Some(other) => self.forget(other),
            None => self.order.push_back(place),
        }
        let file = self
            .files
            .entry(exec.file)
            .or_insert(File { is, places: 0 });
        file.places += 1;
        if self.order.len() > PATHS
            && let Some(oldest) = self.order.pop_front()
            && let Some(file) = self.places.remove(&oldest)
        {
            self.forget(file);
        }
    }

    /// What an exec runs, by the name of its file or by what that file was known as.
    pub(super) fn program(&self, exec: &Exec) -> Option<Program> {
        roles::program(exec).or_else(|| match self.files.get(&exec.file)?.is {
            Is::Program(program) => Some(program),
            Is::MultiCall => roles::program_named(roles::applet(&exec.args)),
        })
    }

    /// What a file is that is loaded into another program.
    pub(super) fn loaded(&self, file: FileId, path: &[u8]) -> Option<Program> {
        roles::program_named(roles::base(path)).or_else(|| match self.files.get(&file)?.is {
            Is::Program(program) => Some(program),
            Is::MultiCall => None,
        })
    }

    fn forget(&mut self, file: FileId) {
        if let Some(known) = self.files.get_mut(&file) {
            known.places -= 1;
            if known.places == 0 {
                self.files.remove(&file);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::exec;

    fn run(inode: u64, mnt: u32, exe: &str, args: &[&str]) -> Exec {
        let mut exec = exec(exe, args);
        exec.file = FileId { dev: 1, inode };
        exec.ns.mnt = mnt;
        exec.nlink = 1;
        exec
    }

    #[test]
    fn a_file_is_what_it_was_known_as() {
        let mut shells = Shells::default();
        let other = run(7, 2, "/usr/bin/id", &["id", "-c", "id"]);
        assert_eq!(shells.program(&other), None);
        shells.learn(&run(7, 1, "/usr/bin/dash", &["sh"]));
        assert_eq!(shells.program(&other), Some(Program::Shell));
        assert_eq!(
            shells.loaded(other.file, b"/usr/bin/id"),
            Some(Program::Shell)
        );
        // Another file of that name is its own.
        assert_eq!(shells.program(&run(8, 1, "/usr/bin/id", &["id"])), None);
        // What has no inode number, or no name, is nobody's.
        shells.learn(&run(0, 1, "/usr/bin/bash", &["bash"]));
        assert_eq!(shells.program(&run(0, 1, "/usr/bin/id", &["id"])), None);
    }

    #[test]
    fn what_is_many_programs_is_told_by_its_words() {
        let mut shells = Shells::default();
        let mut hard_links = run(7, 1, "/bin/sh", &["sh"]);
        hard_links.nlink = 400;
        shells.learn(&hard_links);
        assert_eq!(shells.program(&run(7, 1, "/bin/ls", &["ls"])), None);
        shells.learn(&run(9, 1, "/bin/busybox", &["busybox", "ls"]));
        for (args, expected) in [
            (&["id"][..], None),
            (&["sh"], Some(Program::Shell)),
            (&["-sh"], Some(Program::Shell)),
            (&["busybox", "ash"], Some(Program::Shell)),
            (&["busybox", "ls"], None),
        ] {
            let exec = run(9, 2, "/usr/bin/id", args);
            assert_eq!(shells.program(&exec), expected, "{args:?}");
        }
    }

    #[test]
    fn an_upgrade_gives_the_number_to_another() {
        let mut shells = Shells::default();
        shells.learn(&run(7, 1, "/usr/bin/bash", &["bash"]));
        shells.learn(&run(7, 1, "/usr/bin/rbash", &["rbash"]));
        let curl = run(7, 1, "/usr/bin/curl", &["curl"]);
        assert_eq!(shells.program(&curl), Some(Program::Shell));
        // In another namespace the name is another file anyhow.
        shells.learn(&run(8, 2, "/usr/bin/bash", &["bash"]));
        shells.learn(&run(9, 1, "/usr/bin/bash", &["bash"]));
        assert_eq!(shells.program(&curl), Some(Program::Shell));
        shells.learn(&run(9, 1, "/usr/bin/rbash", &["rbash"]));
        assert_eq!(shells.program(&curl), None);
    }

    #[test]
    fn bounded() {
        let mut shells = Shells::default();
        for inode in 1..=PATHS as u64 + 10 {
            shells.learn(&run(inode, 1, &format!("/{inode}/sh"), &["sh"]));
        }
        let held = (shells.places.len(), shells.order.len(), shells.files.len());
        assert_eq!(held, (PATHS, PATHS, PATHS));
        assert!(
            shells
                .program(&run(10, 1, "/usr/bin/id", &["id"]))
                .is_none()
        );
        assert!(
            shells
                .program(&run(11, 1, "/usr/bin/id", &["id"]))
                .is_some()
        );
    }
}
