//! What any local user can do to the agent: flood its tables, and have it wait for an answer.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::agent::Agent;
use crate::fuse::{Answers, Silent};
use crate::host::{self, Outcome, TempDir, User};

/// Short processes that look like a server by their arguments: the agent tags them, not the kernel.
const SHORT: usize = 300;

/// Who ends before its tag is set leaves none: a loop of such programs does not fill the map.
pub(crate) fn short_servers_leave_no_tags() -> Outcome {
    let folder = TempDir::new("tags");
    let java = folder.join("java");
    fs::copy(host::real(host::program("true")?), &java).expect("copy of true");
    let agent = Agent::start(&["--emit", "all", "--format", "json"])?;
    for _ in 0..SHORT {
        let mut child = Command::new(&java)
            .args(["-jar", "jenkins.war"])
            .stdin(Stdio::null())
            .spawn()
            .expect("a copy of true");
        child.wait().expect("wait");
    }
    let ended = agent.stop();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    let tags = count(&ended.stderr, "tags");
    // Those of other servers of the host.
    assert!(tags < SHORT as u64 / 3, "{tags} tags: {}", ended.stderr);
    host::say(&format!("hostile: {tags} tags after {SHORT} short servers"));
    Ok(())
}

/// A count of the summary; zero where it has none.
pub(crate) fn count(stderr: &str, name: &str) -> u64 {
    let summary = stderr
        .lines()
        .rev()
        .find(|line| line.contains("events seen"));
    let summary = summary.expect("a summary");
    let count = summary
        .split(", ")
        .find_map(|part| part.strip_prefix(name)?.strip_prefix(' '));
    count.map_or(0, |count| count.parse().expect("a number"))
}

/// A process whose arguments are on a page that nobody gives does not keep the agent from its work. The
/// kernel itself reads none of a file since Linux 4.17 (7f7ccc2ccc2e); should it, the agent sets the
/// process aside.
pub(crate) fn arguments_without_an_answer() -> Outcome {
    let folder = TempDir::new("arguments");
    let silent = Silent::mount(&folder.dir("mount", None), Answers::AllButContent)?;
    let hung = Hung::new(&silent.file());
    let agent = Agent::start(&["--emit", "all", "--format", "json"])?;
    let found = agent.wait_for(0, host::DEADLINE, |document| {
        let pid = document.pointer("/process/pid");
        pid.and_then(serde_json::Value::as_u64) == u64::try_from(hung.0).ok()
    });
    let found = found.expect("it is told").document;
    assert!(found.pointer("/process/args").is_none(), "{found}");
    // The kernel does not let a thread go that waits for a page, so the answer comes before the end.
    drop(silent);
    let ended = agent.stop();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    Ok(())
}

/// A user's servers whose directories are on a file system that does not answer keep the agent neither from
/// looking at another's, nor from ending.
pub(crate) fn directories_without_an_answer() -> Outcome {
    let folder = TempDir::new("directories");
    let silent = Silent::mount(&folder.dir("mount", None), Answers::Nothing)?;
    let nobody = User::named("nobody")?;
    let nginx = folder.join("nginx");
    fs::copy(host::real(host::program("sleep")?), &nginx).expect("copy of sleep");
    let serve = |root: &Path, seconds: &str, uid: u32| {
        let child = Command::new(&nginx)
            .arg(seconds)
            .uid(uid)
            .env("DOCUMENT_ROOT", root)
            .stdin(Stdio::null())
            .spawn();
        Server(child.expect("a copy of sleep"))
    };
    let agent = Agent::start(&["--emit", "all", "--format", "json"])?;
    // All threads that look at directories, and more.
    let hung = ["1001", "1002", "1003", "1004"]
        .map(|time| serve(&silent.file().join("x"), time, nobody.uid));
    host::wait_for("a word on those who do not answer", || {
        (agent.stderr().matches("): no answer").count() == 2).then_some(())
    });
    let home = folder.dir("home", None);
    let good = serve(&home, "1005", 0);
    let mark = agent.mark();
    // Only a directory that is known makes this an alert. By a child, as a server itself may while it
    // starts.
    let code = folder.file(
        "code.sh",
        "while :; do (: > \"$1/x.php\"; sleep 0.2); done\n",
    );
    let program = folder.dir("writer", None).join("nginx");
    fs::copy(host::real(host::program("dash")?), &program).expect("copy of dash");
    let writer = Command::new(&program)
        .arg(&code)
        .arg(&home)
        .stdin(Stdio::null())
        .spawn();
    let writer = Server(writer.expect("a copy of dash"));
    let told = agent.wait_for(mark, host::DEADLINE, |document| {
        crate::alert::text(document, "/rule/id") == crate::alert::CODE_WRITE.0
            && crate::alert::text(document, "/file/path").starts_with(&*home.to_string_lossy())
    });
    assert!(told.is_some(), "{}", agent.stderr());
    drop((writer, good));
    // While they hang.
    let ended = agent.stop();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    drop((silent, hung));
    Ok(())
}

/// A process that is ended with the value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A process whose arguments are a page of a file.
struct Hung(libc::pid_t);

impl Hung {
    #[expect(
        unsafe_code,
        reason = "a bare fork, and a mapping at a place of its own"
    )]
    fn new(path: &Path) -> Self {
        const PAGE: usize = 4096;
        let file = File::open(path).expect("the file");
        // Where the arguments are (field 48 of the line): the same in a child of a fork.
        let stat = fs::read_to_string("/proc/self/stat").expect("stat");
        let fields = stat.rsplit_once(')').expect("a name").1;
        let place = fields.split_whitespace().nth(45).expect("arg_start");
        let place: usize = place.parse().expect("a number");
        // SAFETY: what the child does until it ends are system calls on numbers only.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork");
        if pid == 0 {
            // SAFETY: as above. What the new mapping takes the place of are strings that the child does
            // not use.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                let (read, fixed) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_FIXED);
                let at = std::ptr::without_provenance_mut(place & !(PAGE - 1));
                if libc::mmap(at, PAGE, read, fixed, file.as_raw_fd(), 0) != at {
                    libc::_exit(1);
                }
                loop {
                    libc::pause();
                }
            }
        }
        let path = path.to_string_lossy();
        host::wait_for("a process whose arguments are in the file", || {
            let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
            maps.contains(&*path).then_some(())
        });
        Self(pid)
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        // SAFETY: our own child, which has not been waited for.
        #[expect(unsafe_code, reason = "a child of a bare fork")]
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}
