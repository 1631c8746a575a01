//! What alerts say of files and users beyond the kernel's records: hashes, and names where the process is.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::agent::Agent;
use crate::alert::{CODE_WRITE, DROPPED_EXEC, SHELL, text};
use crate::fuse::{Answers, Silent};
use crate::host::{self, Outcome, TempDir};
use crate::reach::visit;
use crate::scene::{Scene, Story};

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("content: a dropped page and who wrote it are hashed", page),
        Story::new("content: a dropped program is hashed", program),
    ]
}

fn hash(bytes: impl AsRef<[u8]>) -> String {
    let hash = Sha256::digest(bytes.as_ref());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash_of(path: impl AsRef<Path>) -> String {
    hash(fs::read(path).expect("a file"))
}

/// The version of an installed package.
fn version_of(package: &str) -> String {
    let mut query = Command::new("dpkg-query");
    let output = query.args(["-W", "-f", "${Version}", package]).output();
    String::from_utf8(output.expect("dpkg-query").stdout).expect("a version")
}

/// The only alert of a rule.
fn only(alerts: &[Value], rule: (&str, &str)) -> Value {
    let of_rule = |alert: &&Value| text(alert, "/rule/id") == rule.0;
    let mut found = alerts.iter().filter(of_rule).cloned();
    let first = found.next();
    assert!(found.next().is_none(), "{alerts:#?}");
    first.unwrap_or_else(|| panic!("no {} in {alerts:#?}", rule.0))
}

fn page(scene: &Scene) -> Outcome {
    let code = "<?php system($_GET['c']); // no other file has this";
    let put = format!(
        "file_put_contents('DIR/public/hashed.php', \"{}\");",
        code.replace('$', "\\$")
    );
    let alerts = scene.alerts_of(1, || visit(scene, &put));
    let alert = only(&alerts, CODE_WRITE);
    assert_eq!(text(&alert, "/file/hash/sha256"), hash(code), "{alert:#}");
    let size = alert.pointer("/tracer/file/hashed/size");
    assert_eq!(size.and_then(Value::as_u64), Some(code.len() as u64));
    let worker = hash_of(text(&alert, "/process/executable"));
    assert_eq!(text(&alert, "/process/hash/sha256"), worker, "{alert:#}");
    let owner = text(&alert, "/file/owner");
    assert_eq!(owner, scene.site.user.name, "{alert:#}");
    assert!(alert.pointer("/tracer/enrichment/pending").is_none());
    Ok(())
}

fn program(scene: &Scene) -> Outcome {
    let shell = host::real(host::program("dash")?);
    let program = host::real(host::program("true")?);
    let run = format!(
        "copy('{}', 'DIR/tmp/dropped'); chmod('DIR/tmp/dropped', 0755);\n\
         system('DIR/tmp/dropped; true');",
        program.display()
    );
    let alerts = scene.alerts_of(2, || visit(scene, &run));
    let dropped = only(&alerts, DROPPED_EXEC);
    assert_eq!(
        text(&dropped, "/process/hash/sha256"),
        hash_of(&program),
        "{dropped:#}"
    );
    assert_eq!(
        text(&dropped, "/process/parent/hash/sha256"),
        hash_of(&shell),
        "{dropped:#}"
    );
    let executed = only(&alerts, SHELL);
    assert_eq!(
        text(&executed, "/process/hash/sha256"),
        hash_of(&shell),
        "{executed:#}"
    );
    // No package has what was dropped; the shell is dpkg's.
    let told = |alert: &Value, path| alert.pointer(path).and_then(Value::as_bool);
    let packaged = "/tracer/executable/packaged";
    assert_eq!(told(&dropped, packaged), Some(false), "{dropped:#}");
    let above = "/tracer/lineage/0/packaged";
    assert_eq!(told(&dropped, above), Some(true), "{dropped:#}");
    assert_eq!(told(&executed, packaged), Some(true), "{executed:#}");
    let package = |field| text(&executed, &format!("/tracer/executable/package/{field}"));
    assert_eq!((package("name"), package("type")), ("dash", "deb"));
    assert_eq!(package("version"), version_of("dash"));
    Ok(())
}

/// A server of this name that does what a shell script says.
struct Server(Child);

impl Server {
    fn start(mut command: Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Self(child.expect("a program of the host"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A server with a user database of its own, as one in a container has it.
pub(crate) fn names_of_a_mount_namespace() -> Outcome {
    let folder = TempDir::new("names");
    let passwd = folder.file("passwd", "captain:x:0:0::/:/bin/sh\n");
    let home = folder.dir("home", None);
    let code = folder.file(
        "code.sh",
        "while :; do (: > \"$1/x.php\"; sleep 0.2); done\n",
    );
    let nginx = folder.join("nginx");
    fs::copy(host::real(host::program("dash")?), &nginx).expect("copy of dash");
    let agent = Agent::start(&["--emit", "alerts", "--format", "json"])?;
    let mut unshare = Command::new(host::program("unshare")?);
    let script = "mount --bind \"$1\" /etc/passwd && exec \"$2\" \"$3\" \"$4\"";
    unshare.args(["--mount", "/bin/sh", "-c", script, "sh"]);
    unshare.args([&passwd, &nginx, &code, &home]);
    unshare.env("DOCUMENT_ROOT", &home);
    let server = Server::start(unshare);
    let of_server = |document: &Value| {
        text(document, "/rule/id") == CODE_WRITE.0
            && text(document, "/process/executable") == nginx.to_string_lossy()
    };
    let told = agent.wait_for(0, host::DEADLINE, of_server);
    let told = told
        .unwrap_or_else(|| panic!("{}", agent.stderr()))
        .document;
    assert_eq!(text(&told, "/user/name"), "captain", "{told:#}");
    assert_eq!(text(&told, "/user/id"), "0");
    // Its ancestors outside of the namespace have the host's names.
    let lineage = told.pointer("/tracer/lineage").and_then(Value::as_array);
    let outside = |process: &&Value| {
        let executable = text(process, "/executable");
        !executable.is_empty() && executable != nginx.to_string_lossy()
    };
    let first = lineage.and_then(|lineage| lineage.iter().find(outside));
    let first = first.expect("who started the server");
    assert_eq!(text(first, "/user/name"), "root", "{told:#}");
    drop(server);
    let ended = agent.stop();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    Ok(())
}

/// The first alert of a root directory has its hashes, however much there is to be read of the packages there.
pub(crate) fn packages_that_take_long() -> Outcome {
    let folder = TempDir::new("packages");
    let info = folder.dir("info", None);
    let nginx = folder.join("nginx");
    // About what a root may have that is read to its end.
    for package in 0..4000 {
        let file = |file| format!("/usr/share/package-{package}/a-folder/another/file-{file}\n");
        let mut list: String = (0..100).map(file).collect();
        if package == 3999 {
            list += &format!("{}\n", nginx.display());
        }
        folder.file(&format!("info/package-{package}.list"), &list);
    }
    let home = folder.dir("home", None);
    let code = folder.file(
        "code.sh",
        "while :; do (: > \"$1/x.php\"; sleep 0.2); done\n",
    );
    fs::copy(host::real(host::program("dash")?), &nginx).expect("copy of dash");
    let agent = Agent::start(&["--emit", "alerts", "--format", "json"])?;
    let mut unshare = Command::new(host::program("unshare")?);
    let script = "mkdir -p /var/lib/dpkg/info && mount --bind \"$1\" /var/lib/dpkg/info && \
                  exec \"$2\" \"$3\" \"$4\"";
    unshare.args(["--mount", "/bin/sh", "-c", script, "sh"]);
    unshare.args([&info, &nginx, &code, &home]);
    unshare.env("DOCUMENT_ROOT", &home);
    let server = Server::start(unshare);
    let of_server = |document: &Value| {
        text(document, "/rule/id") == CODE_WRITE.0
            && text(document, "/process/executable") == nginx.to_string_lossy()
    };
    let wait = |matches: &dyn Fn(&Value) -> bool| {
        let told = agent.wait_for(0, host::DEADLINE, |document| {
            of_server(document) && matches(document)
        });
        let told = told.unwrap_or_else(|| panic!("{}", agent.stderr()));
        told.document
    };
    let first = wait(&|_| true);
    assert_eq!(
        text(&first, "/process/hash/sha256"),
        hash_of(&nginx),
        "{first:#}"
    );
    // And when that has been read, it is known whose the server is.
    let name = "/tracer/executable/package/name";
    let later = wait(&|document| !text(document, name).is_empty());
    assert_eq!(text(&later, name), "package-3999", "{later:#}");
    drop(server);
    let ended = agent.stop();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    Ok(())
}

/// What a file system does not answer for holds up neither an alert nor the agent's end: the shell's own
/// executable is there, but its content never comes.
pub(crate) fn files_without_an_answer() -> Outcome {
    let folder = TempDir::new("hashes");
    let silent = Silent::mount(&folder.dir("mount", None), Answers::AllButContent)?;
    let home = folder.dir("home", None);
    // Who looks at the page by its name is led to where nobody answers; and to a FIFO.
    let lower = folder.join("moved");
    let code = folder.file(
        "code.sh",
        "while :; do (: > \"$1/x.php\"; mv \"$1/x.php\" \"$2\"; ln -sf \"$3\" \"$1/x.php\"); \
         (: > \"$1/y.php\"; rm \"$1/y.php\"; mkfifo \"$1/y.php\"); sleep 0.3; \
         rm \"$1/x.php\" \"$1/y.php\"; done\n",
    );
    let nginx = folder.join("nginx");
    fs::copy(host::real(host::program("dash")?), &nginx).expect("copy of dash");
    let agent = Agent::start(&["--emit", "alerts", "--format", "json"])?;
    let mut command = Command::new(&nginx);
    command.arg(&code).args([&home, &lower, &silent.file()]);
    command.env("DOCUMENT_ROOT", &home);
    let server = Server::start(command);
    for name in ["x.php", "y.php"] {
        let told = agent.wait_for(0, host::DEADLINE, |document| {
            text(document, "/rule/id") == CODE_WRITE.0
                && text(document, "/file/path") == home.join(name).to_string_lossy()
        });
        let told = told.unwrap_or_else(|| panic!("{name}: {}", agent.stderr()));
        // Nothing, or the hash of nothing: never that of what was put in its place.
        let found = text(&told.document, "/file/hash/sha256").to_owned();
        assert!(found.is_empty() || found == hash(""), "{:#}", told.document);
    }
    drop(server);
    let ended = agent.stop();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    drop(silent);
    Ok(())
}
