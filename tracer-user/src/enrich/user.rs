//! Names of the host's users and groups.
//!
//! Only the host's own `passwd` and `group`: a uid of a container means what the container says, and
//! no directory service (LDAP, SSSD) is asked, which could block. Pure; [`load`] reads the files.

use std::collections::HashMap;
use std::sync::Arc;

pub mod load;

/// Names at most of each kind. A larger database is cut, and [`Users::cut`] says so.
pub const MAX_NAMES: usize = 65_536;

/// Longest name that is kept; `useradd` allows 32 bytes (`LOGIN_NAME_MAX` is 256).
const MAX_NAME_BYTES: usize = 256;

/// Names by number. Cheap to clone: snapshots go from the filler to the pipeline.
#[derive(Clone, Debug, Default)]
pub struct Users {
    users: Arc<Names>,
    groups: Arc<Names>,
}

#[derive(Debug, Default)]
struct Names {
    by_id: HashMap<u32, Arc<str>>,
    cut: bool,
}

impl Users {
    /// Reads the texts of `passwd` and `group`.
    #[must_use]
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        Self {
            users: Arc::new(Names::parse(passwd)),
            groups: Arc::new(Names::parse(group)),
        }
    }

    /// The name of a user.
    #[must_use]
    pub fn user(&self, uid: u32) -> Option<Arc<str>> {
        self.users.by_id.get(&uid).cloned()
    }

    /// The name of a group.
    #[must_use]
    pub fn group(&self, gid: u32) -> Option<Arc<str>> {
        self.groups.by_id.get(&gid).cloned()
    }

    /// Every name: whether it is a group's, its number, the name. In order of kind and number, so
    /// that the same database always gives the same list.
    #[must_use]
    pub fn names(&self) -> Vec<(bool, u32, Arc<str>)> {
        let list = |names: &Names, group: bool| {
            let mut list: Vec<_> = names
                .by_id
                .iter()
                .map(|(id, name)| (group, *id, Arc::clone(name)))
                .collect();
            list.sort_unstable_by_key(|(_, id, _)| *id);
            list
        };
        let mut all = list(&self.users, false);
        all.extend(list(&self.groups, true));
        all
    }

    /// Whether names were left out because there are too many.
    #[must_use]
    pub fn cut(&self) -> bool {
        self.users.cut || self.groups.cut
    }
}

impl Names {
    /// `name:password:id:…`, which both files have. As getpwuid(3) does, the first line of an id wins.
    fn parse(text: &[u8]) -> Self {
        let mut names = Self::default();
        for line in text.split(|&byte| byte == b'\n') {
            let mut fields = line.split(|&byte| byte == b':');
            let (Some(name), Some(_), Some(id)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let Some((name, id)) = valid(name, id) else {
                continue;
            };
            if names.by_id.contains_key(&id) {
                continue;
            }
            if names.by_id.len() >= MAX_NAMES {
                names.cut = true;
                break;
            }
            names.by_id.insert(id, name.into());
        }
        names
    }
}

fn valid<'a>(name: &'a [u8], id: &[u8]) -> Option<(&'a str, u32)> {
    // `+` and `-` lines belong to NIS, and comments are no users.
    if name.is_empty()
        || name.len() > MAX_NAME_BYTES
        || matches!(name.first(), Some(b'+' | b'-' | b'#'))
    {
        return None;
    }
    let name = str::from_utf8(name).ok()?;
    if name.chars().any(char::is_control) || !id.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some((name, str::from_utf8(id).ok()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_host() {
        let passwd = b"root:x:0:0:root:/root:/bin/bash\n\
            daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
            toor:x:0:0:second name of root:/root:/bin/sh\n\
            # comment:x:5:5\n+nis:x:6:6\n:x:7:7\nshort:x\nbig:x:4294967296:1\nneg:x:-1:1\n\
            tab\there:x:8:8\nbad\xff:x:9:9\nplus:x:+10:1\nlast:x:33:33";
        let group = b"root:x:0:\nwww-data:x:33:alice,bob\n";
        let users = Users::parse(passwd, group);
        for (uid, expected) in [
            (0, Some("root")),
            (1, Some("daemon")),
            (33, Some("last")),
            (5, None),
            (6, None),
            (7, None),
            (8, None),
            (9, None),
            (10, None),
            (u32::MAX, None),
        ] {
            assert_eq!(users.user(uid).as_deref(), expected, "{uid}");
        }
        assert_eq!(users.group(33).as_deref(), Some("www-data"));
        assert_eq!(users.group(1).as_deref(), None);
        assert!(!users.cut());
    }

    #[test]
    fn a_huge_database_is_cut() {
        let mut text = Vec::new();
        for id in 0..=MAX_NAMES {
            text.extend_from_slice(format!("u{id}:x:{id}:\n").as_bytes());
        }
        let users = Users::parse(&text, b"");
        assert!(users.cut());
        assert_eq!(users.user(65_535).as_deref(), Some("u65535"));
        assert_eq!(users.user(65_536), None);
    }
}
