//! Real servers on loopback, each with a configuration of its own in a folder of its own: what they
//! serve is in no default place, so the agent has to find it out from the running server.
//!
//! A new server is one function that gives a [`Site`].

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::host::{self, Daemon, Skip, TempDir, User, base_name, free_port, program, versioned};
use crate::http::{self, Response};
use crate::roles;

/// The user that web servers of Debian give their rights up to.
const WEB_USER: &str = "www-data";

/// A server, or a pair of them, that answers on a port. Ends with the value.
pub(crate) struct Site {
    // Fields are dropped in this order: servers end before their folder goes.
    daemons: Vec<Daemon>,
    dir: TempDir,
    docroot: PathBuf,
    pub(crate) port: u16,
    /// The agent's name of the server whose processes run the pages.
    pub(crate) server: &'static str,
    /// Names of the processes of a page's execution, nearest first.
    pub(crate) processes: Vec<String>,
    /// The executable of the first of them.
    pub(crate) executable: PathBuf,
    /// Who runs the pages.
    pub(crate) user: User,
}

impl Site {
    /// Writes a page, as the administrator.
    pub(crate) fn page(&self, name: &str, content: &str) -> PathBuf {
        let path = self.docroot.join(name);
        host::write(&path, content);
        path
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        http::get(self.port, path)
    }

    /// What the server serves.
    pub(crate) fn docroot(&self) -> &Path {
        &self.docroot
    }

    /// The folder around it, which is not served.
    pub(crate) fn dir(&self) -> &TempDir {
        &self.dir
    }

    /// The process of the `index`th server in it.
    pub(crate) fn pid(&self, index: usize) -> u32 {
        self.daemons[index].pid()
    }
}

/// A folder with what every site has: a document root with `uploads`, and `tmp` and `storage`
/// beside it, all the server's own.
fn folder(what: &str, user: &User) -> (TempDir, PathBuf) {
    let dir = TempDir::new(what);
    let docroot = dir.dir("public", Some(user));
    for name in [
        "public/uploads",
        "tmp",
        "storage",
        "storage/views",
        "storage/sessions",
    ] {
        dir.dir(name, Some(user));
    }
    (dir, docroot)
}

/// The pool of a PHP site, and the settings every PHP server here has.
const PHP_SETTINGS: &[(&str, &str)] = &[
    ("upload_tmp_dir", "tmp"),
    ("session.save_path", "storage/sessions"),
    ("opcache.file_cache", "storage"),
    ("error_log", "storage/php.log"),
];

/// nginx in front of php-fpm, the most common pair.
pub(crate) fn nginx_php_fpm() -> Result<Site, Skip> {
    let nginx = program("nginx")?;
    let fpm = versioned("php-fpm")?;
    let user = User::named(WEB_USER)?;
    let (dir, docroot) = folder("nginx-php", &user);
    let (root, web) = (dir.path().display(), docroot.display());
    let (name, port) = (&user.name, free_port());

    let settings: String = PHP_SETTINGS
        .iter()
        .map(|(key, path)| format!("php_admin_value[{key}] = {root}/{path}\n"))
        .collect();
    let fpm_config = dir.file(
        "php-fpm.conf",
        &format!(
            "[global]\nerror_log = {root}/php-fpm.log\npid = {root}/php-fpm.pid\n\
             [www]\nuser = {name}\ngroup = {name}\n\
             listen = {root}/php.sock\nlisten.owner = {name}\nlisten.group = {name}\n\
             pm = static\npm.max_children = 2\n{settings}\
             php_admin_flag[ffi.enable] = on\n"
        ),
    );
    let nginx_config = dir.file(
        "nginx.conf",
        &format!(
            "user {name};\nworker_processes 2;\ndaemon off;\npid {root}/nginx.pid;\n\
             error_log {root}/nginx.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{\n\
               access_log {root}/access.log;\n\
               client_body_temp_path {root}/nginx-body;\n\
               fastcgi_temp_path {root}/nginx-fastcgi;\n\
               proxy_temp_path {root}/nginx-proxy;\n\
               scgi_temp_path {root}/nginx-scgi;\n\
               uwsgi_temp_path {root}/nginx-uwsgi;\n\
               server {{\n\
                 listen 127.0.0.1:{port};\n\
                 root {web};\n\
                 location ~ \\.php$ {{\n\
                   include /etc/nginx/fastcgi_params;\n\
                   fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;\n\
                   fastcgi_pass unix:{root}/php.sock;\n\
                 }}\n\
               }}\n\
             }}\n"
        ),
    );

    let socket = dir.join("php.sock");
    let mut php = Daemon::start(
        Command::new(&fpm)
            .arg("--nodaemonize")
            .arg("--fpm-config")
            .arg(&fpm_config),
        dir.join("php-fpm.out"),
        Signal::QUIT,
    );
    php.ready("socket", || UnixStream::connect(&socket).is_ok());
    let mut web = Daemon::start(
        Command::new(&nginx)
            .arg("-p")
            .arg(dir.path())
            .arg("-c")
            .arg(&nginx_config),
        dir.join("nginx.out"),
        Signal::QUIT,
    );
    web.ready("port", || http::accepts(port));

    let fpm = host::real(fpm);
    Ok(Site {
        daemons: vec![web, php],
        dir,
        docroot,
        port,
        server: "php-fpm",
        processes: vec![base_name(&fpm); 2],
        executable: fpm,
        user,
    })
}

/// Apache with PHP in the same process, and with a CGI folder.
pub(crate) fn apache() -> Result<Site, Skip> {
    let apache = program("apache2")?;
    let modules = Path::new("/usr/lib/apache2/modules");
    let php_module = std::fs::read_dir(modules)
        .ok()
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| base_name(path).starts_with("libphp"))
        .ok_or_else(|| Skip("libapache2-mod-php is not installed".to_owned()))?;
    let user = User::named(WEB_USER)?;
    let (dir, docroot) = folder("apache", &user);
    dir.dir("cgi-bin", None);
    let shared = dir.dir("shared", Some(&user));
    dir.dir("sites", Some(&user));
    dir.file(
        "sites/alias.conf",
        &format!("Alias /shared {}\n", shared.display()),
    );
    let (root, web) = (dir.path().display(), docroot.display());
    let (name, port) = (&user.name, free_port());
    let load: String = [
        "mpm_prefork",
        "authz_core",
        "mime",
        "dir",
        "alias",
        "cgi",
        "env",
    ]
    .iter()
    .map(|module| {
        format!(
            "LoadModule {module}_module {}/mod_{module}.so\n",
            modules.display()
        )
    })
    .collect();
    let config = dir.file(
        "apache.conf",
        &format!(
            "ServerRoot {root}\nServerName localhost\nListen 127.0.0.1:{port}\n\
             PidFile {root}/apache.pid\nErrorLog {root}/apache.log\n\
             {load}LoadModule php_module {}\n\
             StartServers 2\nUser {name}\nGroup {name}\n\
             TypesConfig /etc/mime.types\nAddHandler application/x-httpd-php .php\n\
             DocumentRoot {web}\n<Directory {web}>\nRequire all granted\n</Directory>\n\
             ScriptAlias /cgi-bin/ {root}/cgi-bin/\n\
             IncludeOptional {root}/sites/*.conf\n\
             <Directory {root}/cgi-bin>\nRequire all granted\nOptions +ExecCGI\n</Directory>\n",
            php_module.display()
        ),
    );
    let mut daemon = Daemon::start(
        Command::new(&apache)
            .args(["-D", "FOREGROUND", "-f"])
            .arg(&config)
            // At its end Apache signals its whole process group, which must not be this test's.
            .process_group(0),
        dir.join("apache.out"),
        Signal::TERM,
    );
    daemon.ready("port", || http::accepts(port));
    let apache = host::real(apache);
    Ok(Site {
        daemons: vec![daemon],
        dir,
        docroot,
        port,
        server: "apache",
        processes: vec![base_name(&apache); 2],
        executable: apache,
        user,
    })
}

/// lighttpd, which starts php-cgi itself and speaks FastCGI with it.
pub(crate) fn lighttpd_php_cgi() -> Result<Site, Skip> {
    let lighttpd = program("lighttpd")?;
    let cgi = versioned("php-cgi")?;
    let user = User::named(WEB_USER)?;
    let (dir, docroot) = folder("lighttpd", &user);
    dir.dir("shared", Some(&user));
    let (root, web) = (dir.path().display(), docroot.display());
    let (name, port) = (&user.name, free_port());
    let config = dir.file(
        "lighttpd.conf",
        &format!(
            "server.modules = (\"mod_alias\", \"mod_fastcgi\")\n\
             server.document-root = \"{web}\"\n\
             var.root = \"{root}\"\nalias.url = (\"/shared/\" => var.root + \"/shared/\")\n\
             server.bind = \"127.0.0.1\"\nserver.port = {port}\n\
             server.username = \"{name}\"\nserver.groupname = \"{name}\"\n\
             server.errorlog = \"{root}/tmp/lighttpd.log\"\n\
             mimetype.assign = (\".html\" => \"text/html\")\n\
             static-file.exclude-extensions = (\".php\")\n\
             fastcgi.server = (\".php\" => ((\"bin-path\" => \"{}\", \
             \"socket\" => \"{root}/tmp/php.sock\", \"max-procs\" => 1, \
             \"bin-environment\" => (\"PHP_FCGI_CHILDREN\" => \"0\"))))\n",
            cgi.display()
        ),
    );
    let mut daemon = Daemon::start(
        Command::new(&lighttpd).arg("-D").arg("-f").arg(&config),
        dir.join("lighttpd.out"),
        Signal::INT,
    );
    daemon.ready("port", || http::accepts(port));
    let cgi = host::real(cgi);
    Ok(Site {
        daemons: vec![daemon],
        dir,
        docroot,
        port,
        server: "php-cgi",
        processes: vec![base_name(&cgi), base_name(&lighttpd)],
        executable: cgi,
        user,
    })
}

/// The server built into PHP's command line. A server because it listens, not by its name.
pub(crate) fn php_builtin() -> Result<Site, Skip> {
    host::outside_sessions()?;
    let php = versioned("php")?;
    let user = User::named(WEB_USER)?;
    let (dir, docroot) = folder("php", &user);
    let port = free_port();
    serve_alone(
        Command::new(&php)
            .arg("-S")
            .arg(format!("127.0.0.1:{port}"))
            .arg("-t")
            .arg(&docroot),
        (dir, docroot, port),
        user,
        "php",
    )
}

/// A web application on node that runs what it is asked to.
pub(crate) fn node() -> Result<Site, Skip> {
    host::outside_sessions()?;
    let node = program("node")?;
    let user = User::named(WEB_USER)?;
    let (dir, docroot) = folder("node", &user);
    let port = free_port();
    let app = dir.file(
        "app.js",
        "const { exec } = require('child_process');\n\
         require('http').createServer((request, response) => {\n\
           const command = new URL(request.url, 'http://localhost').searchParams.get('c');\n\
           if (command === null) { response.end('ok'); return; }\n\
           exec(command, (error, stdout) => response.end(error ? String(error) : stdout));\n\
         }).listen(Number(process.argv[2]), '127.0.0.1');\n",
    );
    serve_alone(
        Command::new(&node).arg(app).arg(port.to_string()),
        (dir, docroot, port),
        user,
        "node",
    )
}

/// A compiled program that no table names: a copy of this one.
pub(crate) fn own() -> Result<Site, Skip> {
    host::outside_sessions()?;
    let user = User::named(WEB_USER)?;
    let (dir, docroot) = folder("own", &user);
    let port = free_port();
    let program = dir.join("api-server");
    std::fs::copy(std::env::current_exe().expect("this program"), &program).expect("a copy");
    serve_alone(
        Command::new(program).env(roles::PORT, port.to_string()),
        (dir, docroot, port),
        user,
        "api-server",
    )
}

/// A web application on Python's own HTTP server.
pub(crate) fn python() -> Result<Site, Skip> {
    host::outside_sessions()?;
    let python = program("python3")?;
    let user = User::named(WEB_USER)?;
    let (dir, docroot) = folder("python", &user);
    let port = free_port();
    let app = dir.file(
        "app.py",
        "import http.server, os, sys, tempfile, urllib.parse\n\
         class App(http.server.BaseHTTPRequestHandler):\n\
        \x20   def do_GET(self):\n\
        \x20       query = urllib.parse.urlparse(self.path).query\n\
        \x20       command = urllib.parse.parse_qs(query).get('c', [None])[0]\n\
        \x20       body = b'ok'\n\
        \x20       if command:\n\
        \x20           path = os.path.join(sys.argv[2], 'out')\n\
        \x20           os.system(f'{command} > {path}')\n\
        \x20           body = open(path, 'rb').read()\n\
        \x20       self.send_response(200)\n\
        \x20       self.end_headers()\n\
        \x20       self.wfile.write(body)\n\
         http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), App).serve_forever()\n",
    );
    let tmp = dir.join("tmp");
    serve_alone(
        Command::new(&python)
            .arg(app)
            .arg(port.to_string())
            .arg(tmp),
        (dir, docroot, port),
        user,
        "python",
    )
}

/// A web application on the JDK's own HTTP server.
pub(crate) fn java() -> Result<Site, Skip> {
    host::outside_sessions()?;
    let java = program("java")?;
    program("javac")?;
    let user = User::named(WEB_USER)?;
    let (dir, docroot) = folder("java", &user);
    let port = free_port();
    let app = dir.file(
        "App.java",
        "import com.sun.net.httpserver.HttpServer;\n\
         import java.net.*;\n\
         import java.nio.charset.StandardCharsets;\n\
         public class App {\n\
           public static void main(String[] args) throws Exception {\n\
             var address = new InetSocketAddress(\"127.0.0.1\", Integer.parseInt(args[0]));\n\
             var server = HttpServer.create(address, 0);\n\
             server.createContext(\"/\", exchange -> {\n\
               byte[] body = \"ok\".getBytes();\n\
               String query = exchange.getRequestURI().getQuery();\n\
               if (query != null && query.startsWith(\"c=\")) {\n\
                 var process = Runtime.getRuntime().exec(\n\
                   new String[] {\"/bin/bash\", \"-c\", query.substring(2)});\n\
                 body = process.getInputStream().readAllBytes();\n\
               }\n\
               exchange.sendResponseHeaders(200, body.length);\n\
               exchange.getResponseBody().write(body);\n\
               exchange.close();\n\
             });\n\
             server.start();\n\
           }\n\
         }\n",
    );
    serve_alone(
        Command::new(&java)
            .arg("-XX:-UsePerfData")
            .arg(app)
            .arg(port.to_string()),
        (dir, docroot, port),
        user,
        "java",
    )
}

/// A cluster of PostgreSQL with a server of its own.
pub(crate) struct Postgres {
    // Dropped before its folder.
    daemon: Daemon,
    pub(crate) cluster: Cluster,
}

/// A cluster of PostgreSQL: its programs, folder and port.
pub(crate) struct Cluster {
    dir: TempDir,
    bin: PathBuf,
    pub(crate) port: u16,
    pub(crate) user: User,
}

impl Cluster {
    /// Makes one with `initdb`.
    pub(crate) fn new() -> Result<Self, Skip> {
        let bin = std::fs::read_dir("/usr/lib/postgresql")
            .ok()
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .map(|entry| entry.path().join("bin"))
            .filter(|bin| bin.join("initdb").is_file())
            .max()
            .ok_or_else(|| Skip("postgresql is not installed".to_owned()))?;
        let cluster = Self {
            dir: TempDir::new("postgres"),
            bin,
            port: free_port(),
            user: User::named("postgres")?,
        };
        let data = cluster.dir.dir("data", Some(&cluster.user));
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).expect("chmod");
        cluster.dir.dir("run", Some(&cluster.user));
        host::run(
            cluster
                .tool("initdb")
                .args(["--no-sync", "--auth=trust", "-D"])
                .arg(data),
        );
        Ok(cluster)
    }

    /// One of PostgreSQL's programs, as its user.
    pub(crate) fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command
            .uid(self.user.uid)
            .gid(self.user.gid)
            .current_dir(self.dir.path())
            .env("HOME", self.dir.path())
            .env("LC_ALL", "C");
        command
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Options of the server: nothing outside of the folder, loopback only.
    pub(crate) fn options(&self) -> String {
        format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 -c fsync=off",
            self.port,
            self.dir.join("run").display()
        )
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("data/server.log")
    }

    /// Runs a query and gives what it printed.
    pub(crate) fn query(&self, sql: &str) -> String {
        let output = host::run(&mut self.client(sql));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What runs a query.
    pub(crate) fn client(&self, sql: &str) -> Command {
        let mut command = self.tool("psql");
        command
            .args(["-X", "-A", "-t", "-h", "127.0.0.1", "-d", "postgres", "-p"])
            .arg(self.port.to_string())
            .arg("-c")
            .arg(sql);
        command
    }
}

impl Postgres {
    pub(crate) fn start() -> Result<Self, Skip> {
        let cluster = Cluster::new()?;
        let mut daemon = Daemon::start(
            cluster
                .tool("postgres")
                .arg("-D")
                .arg(cluster.data())
                .args(cluster.options().split(' ')),
            cluster.dir.join("postgres.out"),
            Signal::INT,
        );
        daemon.ready("port", || {
            cluster
                .tool("pg_isready")
                .args(["-q", "-h", "127.0.0.1", "-p"])
                .arg(cluster.port.to_string())
                .status()
                .is_ok_and(|status| status.success())
        });
        Ok(Self { daemon, cluster })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.daemon.pid()
    }
}

/// Starts a server that is one process and never was another user.
fn serve_alone(
    command: &mut Command,
    (dir, docroot, port): (TempDir, PathBuf, u16),
    user: User,
    server: &'static str,
) -> Result<Site, Skip> {
    let executable = host::real(command.get_program());
    let mut daemon = Daemon::start(
        command
            .uid(user.uid)
            .gid(user.gid)
            .current_dir(dir.path())
            .env("HOME", dir.join("tmp")),
        dir.join("server.out"),
        Signal::TERM,
    );
    daemon.ready("port", || http::accepts(port));
    Ok(Site {
        daemons: vec![daemon],
        dir,
        docroot,
        port,
        server,
        processes: vec![base_name(&executable)],
        executable,
        user,
    })
}
