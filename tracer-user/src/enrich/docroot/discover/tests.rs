//! Real files, real links, this process as the server.

use std::fmt::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::*;

mod found;

/// This test process, said to be a server with these arguments (separated by `|`).
fn request(server: &'static str, args: &str, cwd: &Path) -> DiscoverRequest {
    let stat = std::fs::read("/proc/self/stat").unwrap();
    let ns = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    let ns = ns
        .to_str()
        .unwrap()
        .trim_matches(|c: char| !c.is_ascii_digit());
    DiscoverRequest {
        tgid: std::process::id(),
        start_ticks: start_ticks(&stat).unwrap(),
        server,
        args: args.split('|').map(|arg| arg.as_bytes().to_vec()).collect(),
        exe: b"/usr/sbin/x".to_vec(),
        cwd: bytes(cwd),
        mnt_ns: ns.parse().unwrap(),
        uid: 0,
    }
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_encoded_bytes().to_vec()
}

/// A directory whose own path has no links, and files in it.
fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    for (name, text) in files {
        let file = root.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text.replace("{R}", root.to_str().unwrap())).unwrap();
    }
    (directory, root)
}

/// What was found, `{R}` for the root: `kind path source`. Without the files of the configuration, which
/// have tests of their own.
fn listed(discovery: &Discovery, root: &Path) -> Vec<String> {
    let mut all = everything(discovery, root);
    all.retain(|line| !line.contains("configuration"));
    all
}

fn everything(discovery: &Discovery, root: &Path) -> Vec<String> {
    let root = root.to_str().unwrap();
    discovery
        .directories
        .iter()
        .map(|found| {
            let Found { path, kind, source } = found;
            let path = String::from_utf8_lossy(path);
            format!("{} {path} {source}", kind.name()).replace(root, "{R}")
        })
        .collect()
}

#[test]
fn nginx_from_title_to_included_site_and_through_links() {
    let (_keep, root) = tree(&[
        (
            "conf/nginx.conf",
            "http {\n include mime.types;\n include sites/*.conf;\n root html;\n}\n",
        ),
        ("conf/mime.types", "types { text/html html; }"),
        (
            "conf/sites/b.conf",
            "server { root {R}/link/app; location /f { alias {R}/files/$1; } }",
        ),
        (
            "conf/sites/a.conf",
            "set $base {R}/a;\nserver { root $base/$host/www; include params; }",
        ),
        ("conf/params", "fastcgi_param DOCUMENT_ROOT $document_root;"),
        ("conf/sites/.hidden.conf", "root {R}/hidden;"),
        ("real/app/index.php", ""),
    ]);
    symlink("real", root.join("link")).unwrap();
    let title = format!(
        "nginx: master process nginx -p {0}/ -c conf/nginx.conf",
        root.display()
    );
    let discovery = discover(&request("nginx", &title, &root));
    assert_eq!(discovery.problems, [""; 0]);
    assert_eq!(
        listed(&discovery, &root),
        [
            "served {R}/a/*/www {R}/conf/sites/a.conf:2",
            "served {R}/link/app {R}/conf/sites/b.conf:1",
            "served {R}/real/app {R}/conf/sites/b.conf:1",
            "served {R}/files {R}/conf/sites/b.conf:1",
            "served {R}/html {R}/conf/nginx.conf:4",
        ]
    );
    assert_eq!(discovery.files, 5);
}

#[test]
fn apache_with_variables_and_a_directory_of_includes() {
    let (_keep, root) = tree(&[
        (
            "apache2.conf",
            "ServerRoot {R}\nDefine SITES {R}/sites\nIncludeOptional none/*.conf\n\
             Include mods\nInclude missing.conf\nDocumentRoot ${SITES}/main\n\
             DocumentRoot ${NOWHERE}/x\nDocumentRoot ${FROM_ENVVARS}/y\nDocumentRoot rel\n",
        ),
        ("envvars", "export FROM_ENVVARS={R}/env\n"),
        ("mods/10.conf", "ScriptAlias /cgi-bin/ {R}/cgi\n"),
        ("mods/deep/20.conf", "Alias /x {R}/alias\n"),
    ]);
    let args = format!("apache2|-d|{0}|-f|apache2.conf", root.display());
    let discovery = discover(&request("apache", &args, &root));
    assert_eq!(
        listed(&discovery, &root),
        [
            "cgi {R}/cgi {R}/mods/10.conf:1",
            "served {R}/alias {R}/mods/deep/20.conf:1",
            "served {R}/sites/main {R}/apache2.conf:6",
            "served {R}/env/y {R}/apache2.conf:8",
            "served {R}/rel {R}/apache2.conf:9",
        ]
    );
    let problems = discovery
        .problems
        .join("\n")
        .replace(root.to_str().unwrap(), "{R}");
    assert_eq!(
        problems,
        "{R}/apache2.conf:5: {R}/missing.conf: No such file or directory (os error 2)\n\
         {R}/apache2.conf:7: the value of ${NOWHERE} is not known"
    );
}

#[test]
fn cgi_is_what_root_says() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    let (_keep, root) = tree(&[
        (
            "root/main.conf",
            "ScriptAlias /a {R}/a\nScriptAlias /b rel\nScriptAlias /c ${X}/c\nInclude {R}/other/*\n",
        ),
        ("other/x.conf", "ScriptAlias /d {R}/d\nAlias /e {R}/e\n"),
    ]);
    if chown(&root, Some(0), Some(0)).is_err() {
        return; // not root: there is no file that is
    }
    let mode = |name: &str, mode| {
        std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for (name, bits) in [
        ("root", 0o755),
        ("root/main.conf", 0o644),
        ("other", 0o755),
        ("other/x.conf", 0o644),
    ] {
        mode(name, bits);
    }
    chown(root.join("other/x.conf"), Some(12_345), None).unwrap();
    let args = format!("apache2|-d|{0}|-D|X={0}|-f|root/main.conf", root.display());
    let found = |uid| {
        let request = DiscoverRequest {
            uid,
            ..request("apache", &args, &root)
        };
        let discovery = discover(&request);
        let kinds: Vec<String> = listed(&discovery, &root)
            .iter()
            .filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()))
            .collect();
        (kinds, discovery.problems.join("\n"))
    };
    let (kinds, _) = found(0);
    assert_eq!(
        kinds,
        ["cgi {R}/a", "cgi {R}/rel", "cgi {R}/d", "served {R}/e"]
    );
    // Of anybody's server only what root alone can have written, and nothing that hangs on the start.
    let (kinds, problems) = found(1000);
    assert_eq!(
        kinds,
        [
            "cgi {R}/a",
            "served {R}/rel",
            "served {R}/d",
            "served {R}/e"
        ]
    );
    assert!(problems.contains("other/x.conf:1: "), "{problems}");
    assert!(
        problems.contains("taken for served, not for cgi"),
        "{problems}"
    );
    for (name, open, shut) in [("root", 0o777, 0o755), ("root/main.conf", 0o664, 0o644)] {
        mode(name, open);
        assert_eq!(
            found(1000).0.first().map(String::as_str),
            Some("served {R}/a"),
            "{name}"
        );
        mode(name, shut);
    }
    // A link of another's directory is another's word.
    symlink(root.join("root/main.conf"), root.join("other/link.conf")).unwrap();
    chown(root.join("other"), Some(12_345), None).unwrap();
    let directory = rustix::fs::open(&root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
    let jail = Jail::new(directory.unwrap()).unwrap();
    assert!(jail.is_roots_alone(b"/root/main.conf"));
    assert!(!jail.is_roots_alone(b"/other/link.conf"));
    assert!(!jail.is_roots_alone(b"/root/none.conf"));
}

#[test]
fn tomcat_php_fpm_lighttpd_caddy_and_arguments() {
    let (_keep, root) = tree(&[
        (
            "base/conf/server.xml",
            "<Server><Host appBase='webapps'><Context docBase='${app.dir}/x'/></Host></Server>",
        ),
        (
            "base/conf/Catalina/localhost/shop.xml",
            "<Context docBase='{R}/shop'/>",
        ),
        ("etc/php-fpm.conf", "[global]\ninclude=etc/pool.d/*.conf\n"),
        ("etc/pool.d/www.conf", "[www]\nchdir = {R}/php/$pool\n"),
        (
            "l.conf",
            "server.document-root = \"{R}/light\"\ninclude \"l.d/*.conf\"\n",
        ),
        ("l.d/a.conf", "alias.url = ( \"/a\" => \"{R}/light-a\" )\n"),
        ("Caddyfile", ":80 {\n root * {R}/caddy\n}\nimport sites/*\n"),
        ("sites/a", "a.example {\n root * {$SITE:{R}/dflt}/pub\n}\n"),
        ("pub/index.php", ""),
    ]);
    let root_str = root.to_str().unwrap();
    for (server, args, expected) in [
        (
            "tomcat",
            "java|-Dcatalina.base={R}/base|-Dapp.dir={R}/apps|org.apache.catalina.startup.Bootstrap",
            vec![
                "component {R}/base/lib argument -Dcatalina.base",
                "component {R}/base/bin argument -Dcatalina.base",
                "component {R}/base/conf argument -Dcatalina.base",
                "served {R}/base/webapps {R}/base/conf/server.xml:1",
                "component {R}/base/webapps/*/WEB-INF/lib {R}/base/conf/server.xml:1",
                "component {R}/base/webapps/*/WEB-INF/classes {R}/base/conf/server.xml:1",
                "served {R}/apps/x {R}/base/conf/server.xml:1",
                "component {R}/apps/x/WEB-INF/lib {R}/base/conf/server.xml:1",
                "component {R}/apps/x/WEB-INF/classes {R}/base/conf/server.xml:1",
                "served {R}/shop {R}/base/conf/Catalina/localhost/shop.xml:1",
                "component {R}/shop/WEB-INF/lib {R}/base/conf/Catalina/localhost/shop.xml:1",
                "component {R}/shop/WEB-INF/classes {R}/base/conf/Catalina/localhost/shop.xml:1",
            ],
        ),
        (
            "php-fpm",
            "php-fpm: master process ({R}/etc/php-fpm.conf)",
            vec!["served {R}/php/www {R}/etc/pool.d/www.conf:2"],
        ),
        (
            "lighttpd",
            "lighttpd|-Df|l.conf",
            vec![
                "served {R}/light {R}/l.conf:1",
                "served {R}/light-a {R}/l.d/a.conf:1",
            ],
        ),
        (
            "caddy",
            "caddy|run",
            vec![
                "served {R}/caddy {R}/Caddyfile:2",
                "served {R}/dflt/pub {R}/sites/a:2",
            ],
        ),
        (
            "php",
            "php|-S|127.0.0.1:80|-t|pub",
            vec!["served {R}/pub arguments of php -S"],
        ),
        ("nginx", "nginx: worker process", vec![]),
    ] {
        let discovery = discover(&request(server, &args.replace("{R}", root_str), &root));
        assert_eq!(discovery.problems, [""; 0], "{server}");
        assert_eq!(listed(&discovery, &root), expected, "{server}");
    }
}

#[test]
fn a_name_leads_where_its_links_do() {
    let (_keep, root) = tree(&[("www/a/x", "")]);
    symlink("www/a", root.join("l")).unwrap();
    symlink(root.join("l"), root.join("m")).unwrap();
    let me = request("nginx", "nginx", &root);
    let key = |tgid, start_ticks| ProcessKey { tgid, start_ticks };
    let living = key(me.tgid, me.start_ticks);
    let (gone, other) = (key(u32::MAX, 1), key(me.tgid, me.start_ticks + 1));
    let real = Some(bytes(&root.join("www/a")));
    for name in ["l", "m", "www/a", "www/../m"] {
        let directory = bytes(&root.join(name));
        assert_eq!(
            resolve(&[gone, living], me.mnt_ns, &directory),
            real,
            "{name}"
        );
        assert_eq!(resolve(&[gone, other], me.mnt_ns, &directory), None);
        assert_eq!(resolve(&[living], 1, &directory), None);
    }
    assert_eq!(resolve(&[living], 0, &bytes(&root.join("none"))), None);
    // Through descriptors of others nothing is followed.
    assert_eq!(resolve(&[living], 0, b"/proc/self/cwd"), None);
}

#[test]
fn a_pid_that_is_used_again_gives_nothing() {
    let (_keep, root) = tree(&[("n.conf", "root {R}/a;")]);
    let args = format!("nginx|-c|{}/n.conf", root.display());
    let good = request("nginx", &args, &root);
    assert_eq!(discover(&good).directories.len(), 2, "and the file itself");
    for (bad, expected) in [
        (
            DiscoverRequest {
                start_ticks: good.start_ticks + 1,
                ..good.clone()
            },
            "ended before its configuration was read",
        ),
        (
            DiscoverRequest {
                tgid: u32::MAX,
                ..good.clone()
            },
            "ended before its configuration was read",
        ),
        (
            DiscoverRequest {
                mnt_ns: 1,
                ..good.clone()
            },
            "changed its mount namespace",
        ),
    ] {
        let tgid = bad.tgid;
        let discovery = discover(&bad);
        assert_eq!(discovery.directories, []);
        assert_eq!(
            discovery.problems,
            [format!("nginx (process {tgid}): {expected}")]
        );
    }
}

#[test]
fn start_ticks_survive_any_name() {
    let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
    for name in ["(x)", "(a) R 1 2 (b)", "(\n)) ("] {
        let stat = format!("12 ({name}) {rest}");
        assert_eq!(start_ticks(stat.as_bytes()), Some(4711), "{name}");
    }
    assert_eq!(start_ticks(b""), None);
    assert_eq!(start_ticks(b"1 (x) S 1"), None);
}

#[test]
fn hostile_configurations_are_bounded() {
    let mut wide = String::new();
    for i in 0..300 {
        let _ = writeln!(wide, "include many/{i:03};");
    }
    let (_keep, root) = tree(&[
        (
            "cycle.conf",
            "root {R}/before;\ninclude cycle.conf;\nroot {R}/after;",
        ),
        ("wide.conf", &wide),
        (
            "links.conf",
            "include {R}/fifo; include {R}/zero; include {R}/large; root /; root {R}/ok;",
        ),
        ("control.conf", "include \"{R}/a\nb\";"),
        (
            "broad.conf",
            "root {R}/etc-link; root /etc/; root {R}/x/../../../../../../tmp;",
        ),
    ]);
    for i in 0..300 {
        std::fs::create_dir_all(root.join("many")).unwrap();
        std::fs::write(root.join(format!("many/{i:03}")), format!("root /srv/{i};")).unwrap();
    }
    std::fs::write(root.join("large"), vec![b' '; FILE_BYTES + 1]).unwrap();
    symlink("/dev/zero", root.join("zero")).unwrap();
    symlink("/etc", root.join("etc-link")).unwrap();
    rustix::fs::mknodat(
        CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )
    .unwrap();
    let run = |file: &str| {
        let args = format!("nginx|-c|{}/{file}", root.display());
        let discovery = discover(&request("nginx", &args, &root));
        let problems: Vec<String> = discovery
            .problems
            .iter()
            .map(|problem| problem.replace(root.to_str().unwrap(), "{R}"))
            .collect();
        (listed(&discovery, &root), problems)
    };

    let (found, problems) = run("cycle.conf");
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(
        problems,
        ["{R}/cycle.conf:2: includes are nested more than 8 deep"]
    );

    let (found, problems) = run("wide.conf");
    assert_eq!(found.len(), FILES - 1);
    assert!(
        problems.contains(
            &"its configuration has more than 256 files: the rest is left out".to_owned()
        )
    );

    let (found, problems) = run("links.conf");
    assert_eq!(found, ["served {R}/ok {R}/links.conf:1"]);
    assert_eq!(
        problems,
        [
            "{R}/links.conf:1: {R}/fifo: not a regular file",
            "{R}/links.conf:1: {R}/zero: not a regular file",
            "{R}/links.conf:1: {R}/large: longer than 1048576 bytes",
            "{R}/links.conf:1: / is too wide to watch, left out",
        ]
    );

    let (_, problems) = run("control.conf");
    assert_eq!(
        problems,
        ["{R}/control.conf:1: {R}/a\\nb: No such file or directory (os error 2)"]
    );

    let (found, problems) = run("broad.conf");
    assert_eq!(
        found,
        ["served {R}/etc-link {R}/broad.conf:1"],
        "the link itself, not all of /etc"
    );
    assert_eq!(problems.len(), 3, "{problems:?}");

    let (found, problems) = run("nothing.conf");
    assert_eq!(found, [""; 0]);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].contains("{R}/nothing.conf, which its arguments name, is not there"));
}

#[test]
fn files_that_include_each_other_end() {
    // 8 levels of 60 includes each would be 10^14 statements.
    let fan: String = (0..60).map(|i| format!("include f{};", i % 20)).collect();
    let files: Vec<(String, String)> = (0..20).map(|i| (format!("f{i}"), fan.clone())).collect();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(n, t)| (n.as_str(), t.as_str()))
        .collect();
    let (_keep, root) = tree(&files);
    let args = format!("nginx|-c|{}/f0", root.display());
    let discovery = discover(&request("nginx", &args, &root));
    assert!(discovery.problems.len() <= PROBLEMS + 1);
    assert!(discovery.files <= 20);
}

#[test]
fn found_directories_are_looked_up_in_their_namespace() {
    use crate::enrich::docroot::{Added, Directories};
    let (_keep, root) = tree(&[("n.conf", "root {R}/site;"), ("site/x", "")]);
    let args = format!("nginx|-c|{}/n.conf", root.display());
    let request = request("nginx", &args, &root);
    let mut set = Directories::default();
    for found in discover(&request).directories {
        assert_eq!(set.add(found.into_entry(request.mnt_ns)), Added::New);
    }
    let written = bytes(&root.join("site/shell.php"));
    let hit = set.lookup(request.mnt_ns, &written).unwrap();
    assert_eq!(hit.source, format!("{}/n.conf:1", root.display()));
    assert_eq!(set.lookup(request.mnt_ns + 1, &written), None);
}

#[test]
fn host_paths_of_the_configuration_follow_links() {
    let (_keep, root) = tree(&[("real/www/x", "")]);
    symlink("real", root.join("link")).unwrap();
    let canonical = |path: &str| canonical_on_host(&bytes(&root.join(path)));
    assert_eq!(canonical("link/www"), Some(bytes(&root.join("real/www"))));
    assert_eq!(
        canonical("link/*/www"),
        Some(bytes(&root.join("real/*/www")))
    );
    assert_eq!(canonical("real/www"), None);
    assert_eq!(canonical("nothing"), None);
}

/// A child that is ended by its own pid when the test ends, however it ends.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM, not SIGKILL: php-fpm's master has workers to end. Again and again: nginx notes
        // one that comes before its first wait for events, and waits for ever.
        let pid = i32::try_from(self.0.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline && matches!(self.0.try_wait(), Ok(None)) {
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_real_nginx_and_a_real_php_fpm() {
    let (_keep, root) = tree(&[
        (
            "n.conf",
            "daemon off;\nmaster_process off;\npid {R}/n.pid;\nevents {}\nhttp {\n access_log off;\n \
             include sites/*.conf;\n}\n",
        ),
        (
            "sites/a.conf",
            "server {\n listen unix:{R}/n.sock;\n root {R}/site;\n}\n",
        ),
        (
            "fpm.conf",
            "[global]\ndaemonize = no\nerror_log = {R}/fpm.log\n[p]\nuser = nobody\n\
             listen = {R}/fpm.sock\npm = static\npm.max_children = 1\nchdir = {R}/site\n",
        ),
        ("site/index.php", ""),
    ]);
    let at = |name: &str| root.join(name).to_str().unwrap().to_owned();
    for (server, programs, args, ready, expected) in [
        (
            "nginx",
            ["/usr/sbin/nginx", "/usr/local/sbin/nginx"],
            vec!["-c".to_owned(), at("n.conf"), "-e".to_owned(), at("n.log")],
            "n.sock",
            "served {R}/site {R}/sites/a.conf:3",
        ),
        (
            "php-fpm",
            ["/usr/sbin/php-fpm8.2", "/usr/sbin/php-fpm8.4"],
            vec!["--fpm-config".to_owned(), at("fpm.conf")],
            "fpm.sock",
            "served {R}/site {R}/fpm.conf:9",
        ),
    ] {
        let Some(program) = programs
            .into_iter()
            .find(|program| Path::new(program).exists())
        else {
            eprintln!("skipped: {server} is not installed");
            continue;
        };
        let child = std::process::Command::new(program)
            .args(args)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut child = Server(child);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !root.join(ready).exists() {
            assert_eq!(child.0.try_wait().unwrap(), None, "{server} ended");
            assert!(Instant::now() < deadline, "{server} does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        // What a snapshot of /proc sees: php-fpm has written its title over its arguments.
        let pid = child.0.id();
        let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap();
        let discovery = discover(&DiscoverRequest {
            tgid: pid,
            start_ticks: start_ticks(&stat).unwrap(),
            args: cmdline
                .split(|&byte| byte == 0)
                .map(<[u8]>::to_vec)
                .collect(),
            exe: program.into(),
            ..request(server, "", &root)
        });
        assert_eq!(discovery.problems, [""; 0], "{server}");
        assert_eq!(listed(&discovery, &root), [expected], "{server}");
    }
}
