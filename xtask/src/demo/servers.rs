//! nginx and php-fpm for the demonstration, running on this host in one folder.
//!
//! The host's own configuration is not read, and no port is opened to the network.

use std::env;
use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::children::Child;
use crate::site::{READY_PAGE, Site, USER, find};

/// The two running servers. Dropping this stops them, then removes their folder.
pub(super) struct Servers {
    address: SocketAddr,
    // Fields are dropped in this order: the folder goes when nobody uses it any more.
    _nginx: Child,
    _php: Child,
    _folder: Folder,
}

impl Servers {
    /// Starts both and waits until a request gets through.
    pub(super) fn start(patience: Duration) -> Result<Servers> {
        let nginx = find("nginx")?;
        let php = find("php-fpm*")?;
        let folder = Folder::new()?;
        let port = free_port()?;
        let site = Site::new(&folder.path, port);
        let root = site.root();
        fs::create_dir(&root).with_context(|| format!("cannot create {}", root.display()))?;
        for (path, text) in site.files() {
            write(&path, &text)?;
        }
        let (uid, gid) = user_ids()?;
        chown(&root, Some(uid), Some(gid))
            .with_context(|| format!("cannot give {} to {USER}", root.display()))?;

        let mut command = Command::new(php);
        command.args(site.php_arguments());
        let mut php = Child::start(command, "php-fpm")?;
        let ready = php.wait_for(patience, |line| {
            line.contains("ready to handle connections")
        })?;
        if let Err(ended) = ready {
            bail!("php-fpm did not get ready: {ended}");
        }
        let mut command = Command::new(nginx);
        command.args(site.nginx_arguments());
        let nginx = Child::start(command, "nginx")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let servers = Servers {
            address,
            _nginx: nginx,
            _php: php,
            _folder: folder,
        };
        servers.wait_until_up(patience)?;
        Ok(servers)
    }

    fn wait_until_up(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            match self.get(READY_PAGE) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= deadline => {
                    return Err(error.context("nginx did not get ready"));
                }
                // A listening socket announces itself to nobody: ask again.
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// The body of a page; anything but 200 is an error.
    pub(super) fn get(&self, path: &str) -> Result<String> {
        let context = || format!("GET http://{}{path}", self.address);
        let limit = Some(Duration::from_secs(10));
        let exchange = || -> std::io::Result<Vec<u8>> {
            let mut stream = TcpStream::connect(self.address)?;
            stream.set_read_timeout(limit)?;
            stream
                .write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer)
        };
        let answer = exchange().with_context(context)?;
        body(&String::from_utf8_lossy(&answer)).with_context(context)
    }
}

/// The body of an HTTP/1 answer with status 200.
fn body(answer: &str) -> Result<String> {
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer is no HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("the answer is `{status}`");
    }
    Ok(body.to_owned())
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr().context("no free port")?.port())
}

fn user_ids() -> Result<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    parse_ids(&passwd, USER)
        .with_context(|| format!("/etc/passwd has no user {USER}, as which Debian's servers run"))
}

fn parse_ids(passwd: &str, user: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
        );
        (name == user).then_some(())?;
        Some((uid.parse().ok()?, gid.parse().ok()?))
    })
}

/// Writes a file that the servers' user can read, whatever the umask.
fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o644)))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// A folder of our own, which goes when this is dropped.
struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Creates it; the name is never one that another user made first.
    fn new() -> Result<Folder> {
        for attempt in 0..100 {
            let name = format!("tracer-demo-{}-{attempt}", process::id());
            let path = env::temp_dir().join(name);
            match fs::create_dir(&path) {
                Ok(()) => {
                    let folder = Folder { path };
                    // The servers' user has to get through, whatever the umask.
                    fs::set_permissions(&folder.path, Permissions::from_mode(0o755))
                        .with_context(|| format!("cannot open {}", folder.path.display()))?;
                    return Ok(folder);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot create {}", path.display()));
                }
            }
        }
        bail!(
            "{} is full of folders of this name",
            env::temp_dir().display()
        )
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_200_has_a_body() {
        assert_eq!(
            body("HTTP/1.1 200 OK\r\nA: b\r\n\r\nhello").unwrap(),
            "hello"
        );
        let error = body("HTTP/1.1 502 Bad Gateway\r\n\r\nx")
            .unwrap_err()
            .to_string();
        assert!(error.contains("502"), "{error}");
        assert!(body("garbage").is_err());
    }

    #[test]
    fn the_user_is_found_by_name_alone() {
        let passwd = "root:x:0:0::/:/bin/sh\nwww-data-2:x:1:1::/:\nwww-data:x:33:34::/var/www:\n";
        assert_eq!(parse_ids(passwd, "www-data"), Some((33, 34)));
        assert_eq!(parse_ids(passwd, "www"), None);
        assert_eq!(parse_ids("www-data:x:many:34::", "www-data"), None);
    }

    #[test]
    fn the_folder_goes_with_its_owner() {
        let folder = Folder::new().unwrap();
        let path = folder.path.clone();
        fs::write(path.join("a"), "x").unwrap();
        assert_ne!(Folder::new().unwrap().path, path);
        drop(folder);
        assert!(!path.exists());
    }
}
