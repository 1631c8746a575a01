//! Podman's own files, where its service does not run: `containers.json`, in which `containers/storage` keeps names of
//! containers and of their images. Labels are not in it.
//!
//! Read when a container is asked for that nobody else knows, and only where root owns the file and no other may write
//! to it. Nothing is written, and no lock of podman's is taken: it replaces the file as a whole.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use serde_json::Value;

use crate::enrich::facts::{ContainerFacts, ImageFacts};

/// Where podman of root keeps it.
pub(super) const ROOT: &str = "/var/lib/containers/storage";

/// The drivers of storage, each of which has a list of its own.
const DRIVERS: [&str; 4] = ["overlay", "vfs", "btrfs", "zfs"];
/// Lists: of containers that stay, and of those that do not outlive the host.
const LISTS: [&str; 2] = ["containers.json", "volatile-containers.json"];
/// Largest list that is read: some eight thousand containers.
const LIST_BYTES: u64 = 4 * 1024 * 1024;

#[derive(Clone)]
pub(super) struct Storage {
    root: PathBuf,
}

impl Storage {
    /// Where such files may be.
    pub(super) fn at(path: &Path) -> Option<Self> {
        path.is_dir().then(|| Self {
            root: path.to_owned(),
        })
    }

    /// Whether the folder is still there.
    pub(super) fn lives(&self) -> bool {
        self.root.is_dir()
    }

    /// What is known of a container.
    pub(super) async fn find(&self, id: &str) -> Option<ContainerFacts> {
        let (storage, id) = (self.clone(), id.to_owned());
        let found = tokio::task::spawn_blocking(move || storage.read(&id));
        found.await.ok().flatten()
    }

    fn read(&self, id: &str) -> Option<ContainerFacts> {
        DRIVERS.iter().find_map(|driver| {
            let folder = self.root.join(format!("{driver}-containers"));
            LISTS.iter().find_map(|list| {
                let bytes = bytes(&folder.join(list)).ok()?;
                facts(&bytes, id)
            })
        })
    }
}

/// A list, where it is what podman of root writes.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty())?);
    let stat = fstat(&file)?;
    let others = Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH);
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !is_file || others || stat.st_uid != 0 {
        return Err(io::Error::other("not a file that root alone writes"));
    }
    let mut bytes = Vec::new();
    file.take(LIST_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a list says of a container. One that was cut is no JSON and says nothing.
fn facts(list: &[u8], id: &str) -> Option<ContainerFacts> {
    let list: Value = serde_json::from_slice(list).ok()?;
    let is_it = |entry: &&Value| entry.get("id").and_then(Value::as_str) == Some(id);
    let entry = list.as_array()?.iter().find(is_it)?;
    let metadata = entry.get("metadata").and_then(Value::as_str);
    let metadata: Value = serde_json::from_str(metadata?).ok()?;
    let text = |of: &Value, name: &str| {
        let text = of.get(name).and_then(Value::as_str);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    // CRI-O keeps its containers in the same files, and calls them otherwise than Kubernetes does.
    if text(&metadata, "pod-id").is_some() {
        return None;
    }
    let mut image = text(&metadata, "image-name")
        .map(|name| ImageFacts::parse(&name))
        .unwrap_or_default();
    image
        .digests
        .extend(text(entry, "image").map(|id| format!("sha256:{id}")));
    Some(ContainerFacts {
        // Buildah's are here too: the cgroup knows.
        runtime: None,
        name: text(&metadata, "name"),
        image,
        ..ContainerFacts::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As podman 4.3 writes it, but for what is not read.
    const LIST: &str = r#"[{"id":"bdbb","names":["shop-web"],"image":"c591",
        "metadata":"{\"image-name\":\"localhost/web:7\",\"image-id\":\"c591\",\"name\":\"shop-web\"}"},
        {"id":"0002","names":["k8s_web"],"image":"c591","metadata":"{\"pod-id\":\"p\",\"name\":\"k8s_web\"}"},
        {"id":"0003","metadata":"{"},{"id":"0004"},7]"#;

    #[test]
    fn a_list_names_containers() {
        let of = |id| facts(LIST.as_bytes(), id);
        let found = of("bdbb").expect("the first");
        assert_eq!(found.name.as_deref(), Some("shop-web"));
        assert_eq!(found.image.name.as_deref(), Some("localhost/web"));
        assert_eq!(found.image.tags, ["7"]);
        assert_eq!(found.image.digests, ["sha256:c591"]);
        for id in ["0002", "0003", "0004", "0005", ""] {
            assert_eq!(of(id), None, "{id}");
        }
        for cut in 0..LIST.len() {
            let cut = LIST.as_bytes().get(..cut).expect("a part");
            assert_eq!(facts(cut, "bdbb"), None);
        }
    }

    #[test]
    fn what_podman_did_not_write_is_not_read() {
        for path in ["/dev/null", "/proc/self/exe", "/", "/nowhere", "/dev/stdin"] {
            assert!(bytes(Path::new(path)).is_err(), "{path}");
        }
    }
}
