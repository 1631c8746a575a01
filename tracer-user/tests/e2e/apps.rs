//! Application servers whose applications run what they are asked to: Python behind gunicorn and uwsgi,
//! node, and pages of Tomcat.

use std::path::Path;
use std::process::Command;

use crate::host::{self, Daemon, Outcome, Skip, TempDir, User, free_port, program};
use crate::http;
use crate::scene::{Scene, Shared, Story};
use crate::served;
use crate::told::{self, CODE, DROPPED, JAVA, RUN, Told};

/// An application that runs code in the language it is written in.
pub(crate) struct App {
    // Dropped before its folder.
    pub(crate) daemon: Daemon,
    pub(crate) dir: TempDir,
    pub(crate) port: u16,
    server: &'static str,
}

/// `say` is what the code answers with.
const PYTHON: &str = "import urllib.parse\n\
    def app(environ, start):\n\
    \x20   asked = urllib.parse.parse_qs(environ['QUERY_STRING'])\n\
    \x20   out = []\n\
    \x20   exec(asked.get('e', ['say(\"ok\")'])[0], {'say': out.append})\n\
    \x20   start('200 OK', [('Content-Type', 'text/plain')])\n\
    \x20   return [''.join(out).encode()]\n\
    application = app\n";

const NODE: &str = "require('http').createServer((request, response) => {\n\
    \x20 const code = new URL(request.url, 'http://localhost').searchParams.get('e');\n\
    \x20 const say = text => response.end(String(text));\n\
    \x20 new Function('say', 'require', code || 'say(\"ok\")')(say, require);\n\
    }).listen(Number(process.argv[2]), '127.0.0.1');\n";

impl App {
    pub(crate) fn gunicorn() -> Result<Self, Skip> {
        let (python, gunicorn) = (program("python3")?, program("gunicorn")?);
        Self::start("gunicorn", ("shop.py", PYTHON), |dir, port| {
            let mut command = Command::new(python);
            command
                .arg(gunicorn)
                .args(["-w", "2", "--chdir"])
                .arg(dir.join("app"))
                .args(["-b", &format!("127.0.0.1:{port}"), "shop:app"]);
            command
        })
    }

    pub(crate) fn uwsgi() -> Result<Self, Skip> {
        told::need(&["/usr/lib/uwsgi/plugins/python3_plugin.so"])?;
        let uwsgi = program("uwsgi")?;
        Self::start("uwsgi", ("shop.py", PYTHON), |dir, port| {
            let mut command = Command::new(uwsgi);
            command
                .args(["--plugins", "http,python3", "--master", "--die-on-term"])
                .args(["--processes", "2", "--http-socket"])
                .arg(format!("127.0.0.1:{port}"))
                .arg("--chdir")
                .arg(dir.join("app"))
                .args(["--wsgi-file", "shop.py"]);
            command
        })
    }

    pub(crate) fn node() -> Result<Self, Skip> {
        host::outside_sessions()?;
        let node = program("node")?;
        Self::start("node", ("shop.js", NODE), |dir, port| {
            let mut command = Command::new(node);
            command.arg(dir.join("app/shop.js")).arg(port.to_string());
            command
        })
    }

    fn start(
        server: &'static str,
        (name, code): (&str, &str),
        command: impl FnOnce(&TempDir, u16) -> Command,
    ) -> Result<Self, Skip> {
        let user = User::named("www-data")?;
        let dir = TempDir::new(server);
        dir.dir("app", None);
        dir.dir("tmp", Some(&user));
        dir.file(&format!("app/{name}"), code);
        let port = free_port();
        let mut command = command(&dir, port);
        let daemon = served::start(&mut command, &dir, &user, port);
        Ok(Self {
            daemon,
            dir,
            port,
            server,
        })
    }

    /// Runs code and gives what it said.
    pub(crate) fn run(&self, code: &str) -> String {
        http::get(self.port, &format!("/?e={}", http::escaped(code))).body
    }
}

/// A technique in an application's own language: `TOKEN` is what it must say, `DIR` the application's
/// folder, `WEB` a document root.
struct Code {
    name: &'static str,
    rules: &'static [&'static str],
    needs: &'static [&'static str],
    code: &'static str,
    /// What is written below the document root.
    file: Option<&'static str>,
}

const fn code(name: &'static str, needs: &'static [&'static str], code: &'static str) -> Code {
    Code {
        name,
        rules: RUN,
        needs,
        code,
        file: None,
    }
}

const GUNICORN: &[Code] = &[
    code(
        "gunicorn: subprocess with a shell",
        &[],
        "import subprocess; say(subprocess.run('echo TOKEN', shell=True, capture_output=True, text=True).stdout)",
    ),
    code(
        "gunicorn: os.popen",
        &[],
        "import os; say(os.popen('echo TOKEN').read())",
    ),
    code(
        "gunicorn: a shell at a terminal",
        &["/bin/bash"],
        "import os, pty\npid, fd = pty.fork()\nif pid == 0: os.execv('/bin/bash', ['bash', '--norc'])\n\
         os.write(fd, b'echo TOK\"\"EN; exit\\n')\nout = b''\n\
         try:\n  while b := os.read(fd, 999): out += b\nexcept OSError: pass\n\
         os.waitpid(pid, 0); say(out.decode())",
    ),
    code(
        "gunicorn: perl without a shell",
        &["/usr/bin/perl"],
        "import subprocess; say(subprocess.run(['perl', '-e', 'print qq(TOKEN)'], capture_output=True, text=True).stdout)",
    ),
    Code {
        name: "gunicorn: a program in memory",
        rules: DROPPED,
        needs: &[],
        code: "import os, subprocess\nfd = os.memfd_create('x', 0)\nos.write(fd, open('/bin/echo', 'rb').read())\n\
         say(subprocess.run([f'/proc/self/fd/{fd}', 'TOKEN'], pass_fds=[fd], capture_output=True, text=True).stdout)",
        file: None,
    },
    Code {
        name: "gunicorn: a page into another server's root",
        rules: CODE,
        needs: &[],
        code: "open('WEB/uploads/gunicorn.php', 'w').write('<?php'); say('TOKEN')",
        file: Some("uploads/gunicorn.php"),
    },
];

const UWSGI: &[Code] = &[
    code(
        "uwsgi: os.system",
        &[],
        "import os; os.system('echo TOKEN > DIR/tmp/o'); say(open('DIR/tmp/o').read())",
    ),
    code(
        "uwsgi: posix_spawn of bash, double fork and setsid",
        &["/usr/bin/setsid", "/bin/bash"],
        "import os, time\nos.waitpid(os.posix_spawn('/usr/bin/setsid', ['setsid', '--fork', '/bin/bash', '-c', \
         'echo TOKEN > DIR/tmp/p'], {}), 0)\n\
         while not (os.path.exists('DIR/tmp/p') and open('DIR/tmp/p').read()): time.sleep(0.01)\n\
         say(open('DIR/tmp/p').read())",
    ),
    Code {
        name: "uwsgi: a dropped program",
        rules: DROPPED,
        needs: &[],
        code: "import shutil, subprocess; shutil.copy('/bin/echo', 'DIR/tmp/u')\n\
         say(subprocess.run(['DIR/tmp/u', 'TOKEN'], capture_output=True, text=True).stdout)",
        file: None,
    },
    Code {
        name: "uwsgi: copy_file_range into a page",
        rules: CODE,
        needs: &[],
        code: "import os; open('DIR/tmp/c', 'w').write('<?php echo 1;')\n\
         i = os.open('DIR/tmp/c', os.O_RDONLY); o = os.open('WEB/uploads/range.php', os.O_WRONLY | os.O_CREAT)\n\
         os.copy_file_range(i, o, 13); os.close(o); say('TOKEN')",
        file: Some("uploads/range.php"),
    },
];

const NODES: &[Code] = &[
    code(
        "node: execSync",
        &[],
        "say(require('child_process').execSync('echo TOKEN'))",
    ),
    code(
        "node: bash without -c on node's own sockets",
        &["/bin/bash"],
        "const c = require('child_process').spawn('/bin/bash'); let o = '';\n\
         c.stdout.on('data', d => o += d); c.on('close', () => say(o)); c.stdin.end('echo TOKEN\\n')",
    ),
    code(
        "node: python without a shell",
        &["/usr/bin/python3"],
        "require('child_process').execFile('/usr/bin/python3', ['-c', 'print(\"TOKEN\")'], (e, o) => say(o))",
    ),
    code(
        "node: a detached shell",
        &[],
        "const c = require('child_process').spawn('/bin/sh', ['-c', 'echo TOKEN > DIR/tmp/d'], \
         {detached: true, stdio: 'ignore'}); c.on('close', () => say(require('fs').readFileSync('DIR/tmp/d')))",
    ),
    Code {
        name: "node: a dropped script",
        rules: DROPPED,
        needs: &[],
        code: "require('fs').writeFileSync('DIR/tmp/s', '#!/bin/sh\\necho TOKEN\\n', {mode: 0o755});\n\
         require('child_process').execFile('DIR/tmp/s', (e, o) => say(o))",
        file: None,
    },
    Code {
        name: "node: a page into another server's root",
        rules: CODE,
        needs: &[],
        code: "require('fs').writeFileSync('WEB/uploads/node.php', '<?php'); say('TOKEN')",
        file: Some("uploads/node.php"),
    },
];

pub(crate) fn stories() -> Vec<Story> {
    let mut stories = Vec::new();
    for (start, codes) in [
        (App::gunicorn as fn() -> Result<App, Skip>, GUNICORN),
        (App::uwsgi, UWSGI),
        (App::node, NODES),
    ] {
        let shared = Shared::new(start);
        stories.extend(codes.iter().map(|code| {
            let shared = shared.clone();
            Story::new(code.name, move |scene| attack(scene, shared.get()?, code))
        }));
    }
    stories.extend(tomcat());
    stories
}

fn attack(scene: &Scene, app: &App, attack: &Code) -> Outcome {
    told::need(attack.needs)?;
    let token = host::token();
    let web = scene.site.docroot();
    let code = attack
        .code
        // A terminal echoes what is typed: the answer must not be found in the question.
        .replace("TOK\"\"EN", &format!("{}\"\"{}", &token[..3], &token[3..]))
        .replace("TOKEN", &token)
        .replace("DIR", &app.dir.path().display().to_string())
        .replace("WEB", &web.display().to_string());
    let file = attack.file.map(|name| web.join(name));
    let mut told = Told::of(attack.rules, app.server);
    told.file.clone_from(&file);
    told::expect(scene, attack.name, &[told], || {
        let said = app.run(&code);
        assert!(said.contains(&token), "{said:?}");
    });
    if let Some(file) = file {
        std::fs::remove_file(file).expect("what was written");
    }
    Ok(())
}

/// Tomcat that deploys what is put into its folder.
pub(crate) struct Tomcat {
    _daemon: Daemon,
    pub(crate) dir: TempDir,
    pub(crate) port: u16,
}

impl Tomcat {
    pub(crate) fn start() -> Result<Self, Skip> {
        let (daemon, dir, port) = served::tomcat_server(true)?;
        Ok(Self {
            _daemon: daemon,
            dir,
            port,
        })
    }

    /// Writes a page as the administrator, and asks for it.
    pub(crate) fn visit(&self, java: &str) -> String {
        let name = format!("{}.jsp", host::token());
        self.dir.file(&format!("apps/ROOT/{name}"), java);
        http::get(self.port, &format!("/{name}")).body
    }

    /// An archive of an application that says something, as its builder makes it.
    pub(crate) fn archive(&self, name: &str, says: &str) -> Result<std::path::PathBuf, Skip> {
        let jar = program("jar")?;
        let source = TempDir::new("war");
        source.file("index.jsp", &format!("<%= \"{says}\" %>\n"));
        let archive = self.dir.join(&format!("{name}.war"));
        host::run(
            Command::new(jar)
                .current_dir(source.path())
                .arg("cf")
                .arg(&archive)
                .arg("index.jsp"),
        );
        Ok(archive)
    }
}

/// A page that starts a program with words on standard input and says what it says.
fn starts(words: &[&str], input: &str) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    format!(
        "<% Process p = new ProcessBuilder({}).start(); p.getOutputStream().write(\"{input}\".getBytes());\n\
         p.getOutputStream().close(); %><%= new String(p.getInputStream().readAllBytes()) %>\n",
        words.join(", ")
    )
}

fn tomcat() -> Vec<Story> {
    let shared = Shared::new(Tomcat::start);
    let story = |name: &str, run: fn(&Scene, &Tomcat) -> Outcome| {
        let shared = shared.clone();
        Story::new(name, move |scene| run(scene, shared.get()?))
    };
    vec![
        story("tomcat: ProcessBuilder of sh -c", |scene, tomcat| {
            says(scene, tomcat, &["/bin/sh", "-c", "echo TOKEN"], "");
            Ok(())
        }),
        story(
            "tomcat: ProcessBuilder of bash without -c",
            |scene, tomcat| {
                told::need(&["/bin/bash"])?;
                says(scene, tomcat, &["/bin/bash"], "echo TOKEN\\n");
                Ok(())
            },
        ),
        story("tomcat: python without a shell", |scene, tomcat| {
            told::need(&["/usr/bin/python3"])?;
            says(scene, tomcat, &["python3", "-c", "print('TOKEN')"], "");
            Ok(())
        }),
        story("tomcat: a page writes a page", |scene, tomcat| {
            let file = tomcat.dir.join("apps/ROOT/shell.jsp");
            writes(scene, tomcat, CODE, &file);
            Ok(())
        }),
        story("tomcat: a page writes a class", |scene, tomcat| {
            let user = User::named("www-data")?;
            tomcat.dir.dir("apps/ROOT/WEB-INF/classes", Some(&user));
            let file = tomcat.dir.join("apps/ROOT/WEB-INF/classes/X.class");
            writes(scene, tomcat, JAVA, &file);
            Ok(())
        }),
        story(
            "tomcat: a page brings an archive that is deployed",
            |scene, tomcat| {
                let token = host::token();
                let archive = tomcat.archive("evil", &token)?;
                let file = tomcat.dir.join("apps/evil.war");
                let page = format!(
                    "<% java.nio.file.Files.copy(java.nio.file.Path.of(\"{}\"), java.nio.file.Path.of(\"{}\")); %>",
                    archive.display(),
                    file.display()
                );
                told::expect(scene, "WAR", &[Told::of(JAVA, "tomcat").file(file)], || {
                    tomcat.visit(&page);
                    host::wait_for("the application", || {
                        let answer = http::try_get(tomcat.port, "/evil/index.jsp").ok()?;
                        answer.body.contains(&token).then_some(())
                    });
                });
                Ok(())
            },
        ),
    ]
}

fn says(scene: &Scene, tomcat: &Tomcat, words: &[&str], input: &str) {
    let token = host::token();
    let words: Vec<String> = words
        .iter()
        .map(|word| word.replace("TOKEN", &token))
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let page = starts(&words, &input.replace("TOKEN", &token));
    told::expect(
        scene,
        "a page of Tomcat",
        &[Told::of(RUN, "tomcat")],
        || {
            let said = tomcat.visit(&page);
            assert!(said.contains(&token), "{said}");
        },
    );
}

fn writes(scene: &Scene, tomcat: &Tomcat, rules: &'static [&'static str], file: &Path) {
    let told = Told::of(rules, "tomcat").file(file.to_owned());
    told::expect(scene, "a page of Tomcat", &[told], || {
        let answer = http::get(tomcat.port, &format!("/w.jsp?w={}", file.display()));
        assert_eq!(answer.body.trim(), "done", "{answer:?}");
        assert!(file.is_file());
    });
}
