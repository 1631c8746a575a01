//! Where the control socket is: a file that nobody else could have put there, in a directory that nobody
//! else can change.
//!
//! Refuses abstract names, which everybody may take and no mode protects; places that a symbolic link
//! leads to; directories that others may write to; files that are no socket; and the socket of an agent
//! that lives. The socket of one that ended without removing it is replaced.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, ResolveFlags, Stat, chmodat, flock,
    fstat, mkdirat, openat2, statat, unlinkat,
};
use rustix::io::Errno;
use tokio::net::UnixStream;

/// How long it is tried whether anybody listens.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where the socket is. Dropped, its file is removed, if it is still the same.
pub(super) struct Place {
    directory: OwnedFd,
    name: OsString,
    file: (u64, u64),
}

impl Drop for Place {
    fn drop(&mut self) {
        let found = statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        if found.is_ok_and(|found| identity(&found) == self.file) {
            let _gone = unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
    }
}

/// Listens there.
///
/// # Errors
///
/// What is wrong with the place, and what to do about it.
pub(super) async fn listen(path: &Path) -> Result<(UnixListener, Place), String> {
    let shown = path.display();
    let (parent, name) = taken_apart(path)?;
    let directory = directory(parent).map_err(|error| explain(parent, error))?;
    is_ours(parent, &directory)?;
    // Two agents that start at one time do not both find a dead one's.
    flock(&directory, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| format!("{shown}: another agent is starting there"))?;
    // By the directory that was looked at, whatever its path means by now.
    let inside = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => {}
        Err(error) => return Err(format!("{shown}: {error}")),
        Ok(found) if FileType::from_raw_mode(found.st_mode) != FileType::Socket => {
            return Err(format!(
                "{shown} is there already and is no socket; remove it, or name another place"
            ));
        }
        Ok(_) if is_alive(&inside).await => {
            return Err(format!(
                "another agent listens at {shown}; end it, or name another place"
            ));
        }
        Ok(_) => unlinkat(&directory, name, AtFlags::empty())
            .map_err(|error| format!("{shown}: cannot remove what a dead agent left: {error}"))?,
    }
    let listener = UnixListener::bind(&inside).map_err(|error| format!("{shown}: {error}"))?;
    // Until now others may have connected where the directory lets them in: the peer's user is asked for.
    let found = chmodat(&directory, name, Mode::RUSR | Mode::WUSR, AtFlags::empty())
        .and_then(|()| statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW))
        .map_err(|error| format!("{shown}: {error}"))?;
    listener
        .set_nonblocking(true)
        .map_err(|error| format!("{shown}: {error}"))?;
    // The lock would last as long as the descriptor does.
    flock(&directory, FlockOperation::Unlock).map_err(|error| format!("{shown}: {error}"))?;
    let place = Place {
        directory,
        name: name.to_owned(),
        file: identity(&found),
    };
    Ok((listener, place))
}

/// The directory and the name in it.
fn taken_apart(path: &Path) -> Result<(&Path, &OsStr), String> {
    let shown = path.display();
    let is_plain = path.is_absolute()
        && path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if is_plain => Ok((parent, name)),
        _ => Err(format!(
            "{shown} is no place for a socket: name a file, by its absolute path"
        )),
    }
}

/// Opens the directory, made where it is not there. No part of its path is a link.
fn directory(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let open = |path: &Path| openat2(CWD, path, flags, Mode::empty(), resolve);
    match (open(path), path.parent(), path.file_name()) {
        (Err(Errno::NOENT), Some(above), Some(name)) => {
            let above = open(above)?;
            match mkdirat(&above, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            openat2(&above, name, flags, Mode::empty(), resolve)
        }
        (opened, ..) => opened,
    }
}

fn explain(path: &Path, error: Errno) -> String {
    let shown = path.display();
    match error {
        Errno::LOOP => format!(
            "{shown}: a symbolic link leads there; name the directory that is meant (`readlink -f {shown}`)"
        ),
        Errno::NOENT => format!("{shown}: neither it nor the directory above it is there; make it"),
        error => format!("{shown}: {}", io::Error::from(error)),
    }
}

/// Whether nobody but root and this user can put files there.
fn is_ours(path: &Path, directory: &OwnedFd) -> Result<(), String> {
    let shown = path.display();
    let found = fstat(directory).map_err(|error| explain(path, error))?;
    let own = rustix::process::geteuid().as_raw();
    if found.st_uid != 0 && found.st_uid != own {
        return Err(format!(
            "{shown} is a directory of user {}; name one of root's, or of the agent's own user",
            found.st_uid
        ));
    }
    if found.st_mode & 0o022 != 0 {
        return Err(format!(
            "{shown}: others may write there, and put a socket of theirs in place of the agent's; \
             name a directory that only its owner may write to"
        ));
    }
    Ok(())
}

/// Whether anybody listens. Only where it is refused, nobody does.
async fn is_alive(path: &Path) -> bool {
    match tokio::time::timeout(PATIENCE, UnixStream::connect(path)).await {
        Ok(Err(error)) => error.kind() != io::ErrorKind::ConnectionRefused,
        Ok(Ok(_)) | Err(_) => true,
    }
}

fn identity(found: &Stat) -> (u64, u64) {
    (found.st_dev, found.st_ino)
}
