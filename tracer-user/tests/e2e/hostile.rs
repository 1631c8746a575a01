//! What any local user can do to the agent: flood its tables, and have it wait for an answer.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::agent::Agent;
use crate::fuse::{Answers, Silent};
use crate::host::{self, Outcome, TempDir};

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
fn count(stderr: &str, name: &str) -> u64 {
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

/// A process whose arguments are on a page that nobody gives does not keep the agent from its work, nor
/// from ending: it is told, and read without them.
pub(crate) fn arguments_without_an_answer() -> Outcome {
    let folder = TempDir::new("arguments");
    let silent = Silent::mount(&folder.dir("mount", None), Answers::AllButContent)?;
    let hung = Hung::new(&silent.file());
    let agent = Agent::start(&["--emit", "all", "--format", "json"])?;
    let stderr = agent.stderr();
    let expected = format!("cannot read the memory of process {}", hung.0);
    assert!(stderr.contains(&expected), "{stderr}");
    let found = agent.since(0).into_iter().find(|line| {
        let pid = line.document.pointer("/process/pid");
        pid.and_then(serde_json::Value::as_u64) == u64::try_from(hung.0).ok()
    });
    let found = found.expect("it is told none the less").document;
    assert!(found.pointer("/process/args").is_none(), "{found}");
    // The kernel does not let a thread go that waits for a page, so the answer comes before the end.
    drop(silent);
    let ended = agent.stop();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    Ok(())
}

/// Servers whose directories are on a file system that does not answer keep the agent neither from
/// looking at another's, nor from ending.
pub(crate) fn directories_without_an_answer() -> Outcome {
    let folder = TempDir::new("directories");
    let silent = Silent::mount(&folder.dir("mount", None), Answers::Nothing)?;
    let nginx = folder.join("nginx");
    fs::copy(host::real(host::program("sleep")?), &nginx).expect("copy of sleep");
    let serve = |root: &Path, seconds: &str| {
        let child = Command::new(&nginx)
            .arg(seconds)
            .env("DOCUMENT_ROOT", root)
            .stdin(Stdio::null())
            .spawn();
        Server(child.expect("a copy of sleep"))
    };
    let agent = Agent::start(&["--emit", "all", "--format", "json"])?;
    // All threads that look at directories, and more.
    let hung = ["1001", "1002", "1003", "1004"].map(|time| serve(&silent.file().join("x"), time));
    for server in hung.iter().take(2) {
        let told = format!("(process {}): no answer", server.0.id());
        host::wait_for("a word on who does not answer", || {
            agent.stderr().contains(&told).then_some(())
        });
    }
    let home = folder.dir("home", None);
    let good = serve(&home, "1005");
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

/// A process whose arguments are in a file that is mapped.
struct Hung(libc::pid_t);

impl Hung {
    #[expect(unsafe_code, reason = "prctl(2) and a bare fork")]
    fn new(file: &Path) -> Self {
        /// prctl(2)
        const ARG_START: libc::c_ulong = 8;
        const ARG_END: libc::c_ulong = 9;
        let file = File::open(file).expect("the file");
        // SAFETY: a new mapping, which nobody reads.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(page, libc::MAP_FAILED, "mmap");
        let start = page as libc::c_ulong;
        // SAFETY: what the child does until it ends are system calls on numbers only.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork");
        if pid == 0 {
            // SAFETY: as above; these set what /proc/PID/cmdline shows.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                let first = libc::prctl(libc::PR_SET_MM, ARG_START, start, 0, 0);
                let last = libc::prctl(libc::PR_SET_MM, ARG_END, start + 100, 0, 0);
                if first != 0 || last != 0 {
                    libc::_exit(1);
                }
                loop {
                    libc::pause();
                }
            }
        }
        // Its arguments are elsewhere when its statistics say so (field 48, arg_start).
        host::wait_for("a process with arguments of its own", || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let fields = stat.rsplit_once(')')?.1;
            let place: u64 = fields.split_whitespace().nth(45)?.parse().ok()?;
            let end: u64 = fields.split_whitespace().nth(46)?.parse().ok()?;
            (place == start && end == start + 100).then_some(())
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
