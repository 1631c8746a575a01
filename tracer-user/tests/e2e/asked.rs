//! A running agent is asked: by who may, by who may not, and by who means it no good.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::agent::{self, Agent};
use crate::alert::{self, text};
use crate::host::{self, DEADLINE, Outcome, Skip, TempDir, User};
use crate::server;

/// Clients that never read what they asked for.
const SILENT: usize = 12;

/// What a client sends that never ends its line.
const GARBAGE: u64 = 1 << 30;

fn tracer(args: &[&str]) -> Output {
    Command::new(agent::binary())
        .args(args)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .expect("tracer")
}

/// What a command prints; panics where it fails.
fn said(args: &[&str]) -> String {
    let output = tracer(args);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// An attack on a real site is drawn, and the site's servers are listed.
pub(crate) fn an_attack_is_drawn() -> Outcome {
    let site = server::nginx_php_fpm()?;
    site.page(
        "drop.php",
        "<?php\nfile_put_contents(__DIR__ . '/uploads/shell.php', '<?php');\n\
         system('id; echo dropped');\n",
    );
    let folder = TempDir::new("asked");
    // Made by the agent, with its directory.
    let socket = folder.join("run/control.sock");
    let socket = socket.to_string_lossy().into_owned();
    let agent = Agent::start(&["--format", "json", "--control", &socket])?;
    for (place, mode) in [(folder.join("run"), 0o700), (socket.clone().into(), 0o600)] {
        let found = fs::symlink_metadata(&place).expect("made by the agent");
        assert_eq!(
            found.permissions().mode() & 0o777,
            mode,
            "{}",
            place.display()
        );
    }

    let mark = agent.mark();
    assert!(site.get("/drop.php").body.contains("dropped"));
    for rule in [alert::CODE_WRITE, alert::SHELL] {
        let found = agent.wait_for(mark, DEADLINE, |document| {
            text(document, "/rule/id") == rule.0
        });
        found.expect("an alert");
    }
    let (nginx, master) = (site.pid(0), site.pid(1));
    let (nginx, master) = if comm(nginx) == "nginx" {
        (nginx, master)
    } else {
        (master, nginx)
    };

    // php-fpm with the shell, the file, the alerts, from PID 1 on.
    let drawn = said(&["tree", "--server", "php-fpm", "--control", &socket]);
    let dropped = site.docroot().join("uploads/shell.php");
    for word in [
        "(1)",
        &format!("* {}({master})", site.processes[0]),
        "server php-fpm (app)",
        "sh -c 'id; echo dropped'",
        "exit code 0",
        &format!("wrote {}", dropped.display()),
        &format!("ALERT high {}", alert::CODE_WRITE.0),
        &format!("ALERT high {}", alert::SHELL.0),
        "www-data",
        "witnessed",
        "/usr/bin/id: id",
    ] {
        assert!(drawn.contains(word), "{word}\n{drawn}");
    }
    assert!(!drawn.contains(&format!("nginx({nginx})")), "{drawn}");
    assert!(
        !drawn.contains('\x1b'),
        "colours where there is no terminal"
    );

    // All servers, as JSON; one of its processes by its id.
    let json = |args: &[&str]| -> Value { serde_json::from_str(&said(args)).expect("JSON") };
    let tree = json(&["tree", "--format", "json", "--control", &socket]);
    let processes = tree["processes"].as_array().expect("processes");
    let of = |pid: u32| processes.iter().find(|process| process["pid"] == pid);
    let (web, app) = (of(nginx).expect("nginx"), of(master).expect("php-fpm"));
    assert_eq!(web["server"]["name"], "nginx");
    let shell = processes
        .iter()
        .find(|process| process["ran"][0]["args"][2] == "id; echo dropped");
    let shell = shell.expect("the shell");
    let id = text(shell, "/entity_id").to_owned();
    let alone = json(&["tree", &id, "--format", "json", "--control", &socket]);
    let chain: Vec<&str> = alone["processes"]
        .as_array()
        .expect("processes")
        .iter()
        .map(|process| text(process, "/entity_id"))
        .collect();
    assert!(chain.contains(&text(app, "/entity_id")) && chain.contains(&id.as_str()));
    for (format, begin) in [("dot", "digraph"), ("mermaid", "flowchart")] {
        let graph = said(&["tree", "--format", format, "--control", &socket]);
        assert!(
            graph.starts_with(begin) && graph.contains("shell.php"),
            "{graph}"
        );
    }

    // The servers: one each, with its port and what it serves.
    let listed = json(&["servers", "--format", "json", "--control", &socket]);
    let servers = listed["servers"].as_array().expect("servers");
    let of = |pid: u32| servers.iter().filter(move |server| server["pid"] == pid);
    let web: Vec<&Value> = of(nginx).collect();
    assert_eq!(web.len(), 1, "{listed}");
    assert_eq!(web[0]["ports"], serde_json::json!([site.port]));
    let docroot = site.docroot().display().to_string();
    let directories = web[0]["directories"].as_array().expect("directories");
    let served = directories
        .iter()
        .find(|one| one["path"] == docroot.as_str());
    assert_eq!(served.expect("its root")["kind"], "served");
    assert_eq!(of(master).count(), 1, "{listed}");
    let workers = web[0]["descendants"].as_u64();
    assert_eq!(workers, Some(host::children(nginx).len() as u64));
    let list = said(&["servers", "--control", &socket]);
    for word in ["nginx (web)", &format!("port {}", site.port), &docroot] {
        assert!(list.contains(word), "{word}\n{list}");
    }

    // Nobody of that number.
    let nobody = tracer(&["tree", "4194304", "--control", &socket]);
    assert_eq!(nobody.status.code(), Some(1));
    let ended = agent.stop();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(!Path::new(&socket).exists(), "removed at the end");
    crate::assert_nothing_lost(&ended.stderr);
    Ok(())
}

fn comm(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

/// Two at once, many that never read, one that never ends, and another user: the agent goes on.
pub(crate) fn clients_cannot_harm() -> Outcome {
    let folder = TempDir::new("clients");
    let socket = folder.join("control.sock");
    let path = socket.to_string_lossy().into_owned();
    let agent = Agent::start(&["--format", "json", "--control", &path])?;
    let status = || {
        let mut stream = UnixStream::connect(&socket).expect("the socket");
        stream.set_read_timeout(Some(DEADLINE)).expect("deadline");
        stream
            .write_all(b"{\"tracer\":1,\"ask\":\"status\"}\n")
            .expect("asked");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("an answer");
        let reply: Value = serde_json::from_str(&reply).expect("JSON");
        reply["status"]["events"].as_u64().expect("events")
    };
    let before = status();

    std::thread::scope(|scope| {
        let asks = (0..2).map(|_| scope.spawn(|| said(&["tree", "--all", "--control", &path])));
        for ask in asks.collect::<Vec<_>>() {
            assert!(ask.join().expect("asked").contains("(1)"));
        }
    });

    // They ask for all that there is and hold the answer up.
    let silent: Vec<UnixStream> = (0..SILENT)
        .map(|_| {
            let mut stream = UnixStream::connect(&socket).expect("the socket");
            stream
                .write_all(b"{\"tracer\":1,\"ask\":\"tree\",\"all\":true}\n")
                .expect("asked");
            stream
        })
        .collect();
    // One sends garbage without an end, until it is sent away.
    let mut endless = UnixStream::connect(&socket).expect("the socket");
    let garbage = [b'x'; 1 << 16];
    let mut sent = 0;
    while sent < GARBAGE {
        match endless.write(&garbage) {
            Ok(written) => sent += written as u64,
            Err(_) => break,
        }
    }
    assert!(sent < GARBAGE, "it took all of it");
    // Words that are none, and a hasty one.
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\n",
        b"{}\n",
        b"\xff\x00\n",
        b"",
    ] {
        let mut stream = UnixStream::connect(&socket).expect("the socket");
        stream.write_all(garbage).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("end");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).ok();
        assert!(reply.contains("bad_request"), "{reply}");
    }
    // Meanwhile events are taken as ever, and told to who asks.
    host::run(&mut Command::new("/bin/true"));
    host::wait_for("events while clients are silent", || {
        (status() > before).then_some(())
    });
    drop(silent);
    another_user(&path)?;

    // Nobody takes a living agent's place.
    let other = tracer(&["run", "--control", &path]);
    let error = String::from_utf8_lossy(&other.stderr).into_owned();
    assert_eq!(other.status.code(), Some(5), "{error}");
    assert!(error.contains("another agent listens at"), "{error}");
    let rss = peak_kib(agent.pid());
    let ended = agent.stop();
    assert!(ended.status.success(), "{}", ended.stderr);
    crate::assert_nothing_lost(&ended.stderr);
    host::say(&format!(
        "asked: {SILENT} silent clients, {} KiB at most",
        rss
    ));

    places(folder.path())
}

/// Memory of a process at its most.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.expect("VmHWM")
}

/// Another user is not answered, also where the mode would let them.
fn another_user(path: &str) -> Outcome {
    let user = User::named("www-data")?;
    // Where that user can read it.
    let binaries = TempDir::new("binary");
    let binary = binaries.join("tracer");
    fs::copy(agent::binary(), &binary).expect("a copy");
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("chmod");
    let ask = || {
        let output = Command::new(&binary)
            .args(["servers", "--control", path])
            .uid(user.uid)
            .gid(user.gid)
            .stdin(Stdio::null())
            .output()
            .expect("tracer");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(4), "{error}");
        assert!(error.contains("sudo"), "{error}");
        assert!(output.stdout.is_empty());
    };
    ask();
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).expect("chmod");
    ask();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("chmod");
    Ok(())
}

/// Places that are refused, and what a dead agent left.
fn places(folder: &Path) -> Outcome {
    let at = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let open = folder.join("open");
    fs::create_dir(&open).expect("a directory");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("chmod");
    fs::create_dir(folder.join("real")).expect("a directory");
    std::os::unix::fs::symlink(folder.join("real"), folder.join("link")).expect("a link");
    fs::write(folder.join("file"), "mine").expect("a file");
    std::os::unix::fs::symlink(folder.join("file"), folder.join("to-file")).expect("a link");
    for (place, word) in [
        ("@tracer".to_owned(), "absolute"),
        ("control.sock".to_owned(), "absolute"),
        (at("../x/control.sock"), "absolute"),
        (at("open/control.sock"), "others may write"),
        (at("link/control.sock"), "symbolic link"),
        (at("none/none/control.sock"), "make it"),
        (at("file"), "no socket"),
        (at("to-file"), "no socket"),
    ] {
        let start = Instant::now();
        let output = tracer(&["run", "--control", &place]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(5), "{place}: {error}");
        assert!(error.contains(word), "{place}: {error}");
        assert!(start.elapsed() < DEADLINE + Duration::from_secs(10));
    }
    assert_eq!(
        fs::read_to_string(folder.join("file")).expect("a file"),
        "mine"
    );
    let dead = at("dead.sock");
    drop(UnixListener::bind(&dead).expect("a socket"));
    let agent = Agent::start(&["--format", "json", "--control", &dead])?;
    said(&["servers", "--control", &dead]);
    assert!(
        fs::symlink_metadata(&dead)
            .expect("there")
            .file_type()
            .is_socket()
    );
    let ended = agent.stop();
    assert!(ended.status.success(), "{}", ended.stderr);
    Ok::<(), Skip>(())
}
