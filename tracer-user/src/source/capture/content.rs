//! What is in a file, and whose it is, as bytes.
//!
//! Whose it is ends the frame, and only where it is known: captures of before there was any are read.

use std::sync::Arc;

use super::{Fields, put_text};
use crate::enrich::content::{Content, Owner, Package, PackageKind};

const NOBODY: u8 = 0;
const DEB: u8 = 1;
const APK: u8 = 2;
const PENDING: u8 = 3;

pub(super) fn put(payload: &mut Vec<u8>, content: &Content) {
    let Content {
        sha256,
        size,
        open,
        package,
    } = content;
    payload.extend_from_slice(sha256);
    payload.extend_from_slice(&size.to_le_bytes());
    payload.push(u8::from(*open));
    match package {
        Package::Unknown => {}
        Package::Pending => payload.push(PENDING),
        Package::Nobody => payload.push(NOBODY),
        Package::Owned(owner) => {
            payload.push(match owner.kind {
                PackageKind::Deb => DEB,
                PackageKind::Apk => APK,
            });
            put_text(payload, owner.name.as_bytes());
            let version = owner.version.as_deref().unwrap_or_default();
            put_text(payload, version.as_bytes());
        }
    }
}

impl Fields<'_> {
    /// What a frame may end with.
    pub(super) fn content(&mut self) -> Result<Option<Content>, &'static str> {
        if self.0.is_empty() {
            return Ok(None);
        }
        Ok(Some(Content {
            sha256: self.array()?,
            size: u64::from_le_bytes(self.array()?),
            open: self.flag()?,
            package: self.package()?,
        }))
    }

    fn package(&mut self) -> Result<Package, &'static str> {
        if self.0.is_empty() {
            return Ok(Package::Unknown);
        }
        let kind = match self.array()? {
            [NOBODY] => return Ok(Package::Nobody),
            [PENDING] => return Ok(Package::Pending),
            [DEB] => PackageKind::Deb,
            [APK] => PackageKind::Apk,
            _ => return Err("unknown kind of package"),
        };
        Ok(Package::Owned(Arc::new(Owner {
            kind,
            name: self.string()?,
            version: Some(self.string()?).filter(|version| !version.is_empty()),
        })))
    }
}

#[cfg(test)]
pub(super) fn samples() -> Vec<crate::source::Input> {
    use crate::enrich::content::Moment;
    use crate::event::FileId;
    use crate::source::Input;

    let owned = |kind, version: Option<&str>| {
        Package::Owned(Arc::new(Owner {
            kind,
            name: "dash".into(),
            version: version.map(Into::into),
        }))
    };
    let packages = [
        Package::Unknown,
        Package::Pending,
        Package::Nobody,
        owned(PackageKind::Deb, Some("1:2-3~a")),
        owned(PackageKind::Apk, None),
    ];
    let contents = packages.map(|package| {
        Some(Content {
            sha256: [7; 32],
            size: 1 << 40,
            open: true,
            package,
        })
    });
    let contents = contents.into_iter().chain([None]);
    let moment = Moment {
        file: FileId { dev: 1, inode: 2 },
        boot_ns: 3,
    };
    contents
        .map(|content| Input::Content { moment, content })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_without_a_package_are_read() {
        let mut old = vec![7; 32];
        old.extend_from_slice(&5_u64.to_le_bytes());
        old.push(1);
        let mut content = Content {
            sha256: [7; 32],
            size: 5,
            open: true,
            package: Package::Unknown,
        };
        assert_eq!(Fields(&old).content(), Ok(Some(content.clone())));
        let mut new = Vec::new();
        put(&mut new, &content);
        assert_eq!(new, old);
        content.package = Package::Nobody;
        new.clear();
        put(&mut new, &content);
        assert_eq!(Fields(&new).content(), Ok(Some(content)));
        new.pop();
        new.push(9);
        assert_eq!(Fields(&new).content(), Err("unknown kind of package"));
    }
}
