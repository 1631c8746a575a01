//! Names of users and groups, as the mount namespace of a process has them.
//!
//! A number means what the `passwd` and `group` of the process's own files say, so a container's 33 is
//! not the host's. Records give the numbers of the initial user namespace: where a database belongs to
//! another one ([`IdMap`]), its numbers are translated first, and a number without a translation has no
//! name. No directory service (LDAP, SSSD) is asked, which could block. Pure; [`load`] reads the files.

use std::collections::HashMap;
use std::sync::Arc;

pub mod known;
pub mod load;

/// Names at most of each kind in the host's database. A larger one is cut, and [`Users::cut`] says so.
pub const MAX_NAMES: usize = 65_536;

/// Names at most of each kind in the database of any other mount namespace: an image has some fifty.
pub const MAX_FOREIGN_NAMES: usize = 1024;

/// Longest name that is kept; `useradd` allows 32 bytes (`LOGIN_NAME_MAX` is 256).
const MAX_NAME_BYTES: usize = 256;

/// Lines at most of a map of numbers (`UID_GID_MAP_MAX_EXTENTS`, include/linux/user_namespace.h).
const MAX_EXTENTS: usize = 340;

/// The user namespace that the host boots with (`PROC_USER_INIT_INO`, include/linux/proc_ns.h).
pub const INITIAL_USER_NS: u32 = 0xefff_fffd;

/// Whose names they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Whose {
    /// Mount namespace, inode number; zero for all, as captures have it that are older than this.
    pub mnt_ns: u32,
    /// User namespace; zero for all: the host's own names.
    pub user_ns: u32,
}

/// Names by number of the initial user namespace. Cheap to clone: documents hold them too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    users: Arc<Names>,
    groups: Arc<Names>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    by_id: HashMap<u32, Arc<str>>,
    cut: bool,
}

impl Users {
    /// Reads the texts of `passwd` and `group`, at most `max` names of each.
    #[must_use]
    pub fn parse(passwd: &[u8], group: &[u8], max: usize) -> Self {
        Self {
            users: Arc::new(Names::parse(passwd, max)),
            groups: Arc::new(Names::parse(group, max)),
        }
    }

    /// The name of a user.
    #[must_use]
    pub fn user(&self, uid: u32) -> Option<&str> {
        self.users.by_id.get(&uid).map(|name| &**name)
    }

    /// The name of a group.
    #[must_use]
    pub fn group(&self, gid: u32) -> Option<&str> {
        self.groups.by_id.get(&gid).map(|name| &**name)
    }

    /// Takes in a name, in the place of what the number was called before.
    pub fn insert(&mut self, group: bool, id: u32, name: &str) {
        let names = if group {
            &mut self.groups
        } else {
            &mut self.users
        };
        Arc::make_mut(names).by_id.insert(id, name.into());
    }

    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.by_id.len() + self.groups.by_id.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every name: whether it is a group's, its number, the name. In order of kind and number, so
    /// that the same database always gives the same list.
    #[must_use]
    pub fn names(&self) -> Vec<(bool, u32, String)> {
        let list = |names: &Names, group: bool| {
            let mut list: Vec<_> = names
                .by_id
                .iter()
                .map(|(id, name)| (group, *id, name.to_string()))
                .collect();
            list.sort_unstable_by_key(|(_, id, _)| *id);
            list
        };
        let mut all = list(&self.users, false);
        all.extend(list(&self.groups, true));
        all
    }

    /// The same names by numbers of the initial user namespace. Numbers that a map does not have are
    /// nobody's there.
    #[must_use]
    pub fn mapped(&self, users: Option<&IdMap>, groups: Option<&IdMap>) -> Self {
        Self {
            users: Names::mapped(&self.users, users),
            groups: Names::mapped(&self.groups, groups),
        }
    }

    /// Whether names were left out because there are too many.
    #[must_use]
    pub fn cut(&self) -> bool {
        self.users.cut || self.groups.cut
    }
}

impl Names {
    /// `name:password:id:…`, which both files have. As getpwuid(3) does, the first line of an id wins.
    fn parse(text: &[u8], max: usize) -> Self {
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
            if names.by_id.len() >= max {
                names.cut = true;
                break;
            }
            names.by_id.insert(id, name.into());
        }
        names
    }

    fn mapped(names: &Arc<Self>, map: Option<&IdMap>) -> Arc<Self> {
        let Some(map) = map else {
            return Arc::clone(names);
        };
        let outer = |(id, name): (&u32, &Arc<str>)| Some((map.outer(*id)?, Arc::clone(name)));
        Arc::new(Self {
            by_id: names.by_id.iter().filter_map(outer).collect(),
            cut: names.cut,
        })
    }
}

/// The map of a user namespace, as `/proc/PID/uid_map` shows it to who is in the initial one
/// (user_namespaces(7)): first number inside, first number outside, how many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMap(Vec<(u32, u32, u32)>);

impl IdMap {
    /// Reads a map. A line that is none is left out.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let extent = |line: &[u8]| {
            let mut numbers = line
                .split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty())
                .map(|word| str::from_utf8(word).ok()?.parse().ok());
            let extent = (numbers.next()??, numbers.next()??, numbers.next()??);
            numbers.next().is_none().then_some(extent)
        };
        let lines = text.split(|&byte| byte == b'\n');
        Self(lines.filter_map(extent).take(MAX_EXTENTS).collect())
    }

    /// What the initial user namespace calls a number of this one.
    #[must_use]
    pub fn outer(&self, inner: u32) -> Option<u32> {
        self.0.iter().find_map(|(inside, outside, count)| {
            let offset = inner.checked_sub(*inside).filter(|offset| offset < count)?;
            outside.checked_add(offset)
        })
    }

    /// Whether a number of the initial user namespace is one of this one, too.
    #[must_use]
    pub fn has(&self, outer: u32) -> bool {
        self.0.iter().any(|(_, outside, count)| {
            outer
                .checked_sub(*outside)
                .is_some_and(|offset| offset < *count)
        })
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
        let users = Users::parse(passwd, group, MAX_NAMES);
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
            assert_eq!(users.user(uid), expected, "{uid}");
        }
        assert_eq!(users.group(33), Some("www-data"));
        assert_eq!(users.group(1), None);
        assert!(!users.cut());
    }

    #[test]
    fn a_huge_database_is_cut() {
        let mut text = Vec::new();
        for id in 0..=MAX_NAMES {
            text.extend_from_slice(format!("u{id}:x:{id}:\n").as_bytes());
        }
        let users = Users::parse(&text, b"", MAX_NAMES);
        assert!(users.cut());
        assert_eq!(users.user(65_535), Some("u65535"));
        assert_eq!(users.user(65_536), None);
    }

    #[test]
    fn numbers_of_a_container_are_those_of_the_host() {
        // As podman makes it for a user with subordinate numbers, and lines that no kernel writes.
        let map = IdMap::parse(
            b"         0       1000          1\n         1     100000      65536\n\
            junk\n1 2\n1 2 3 4\n-1 5 6\n4294967295 4294967295 2\n",
        );
        for (inner, expected) in [
            (0, Some(1000)),
            (1, Some(100_000)),
            (33, Some(100_032)),
            (65_536, Some(165_535)),
            (65_537, None),
            (u32::MAX, Some(u32::MAX)),
        ] {
            assert_eq!(map.outer(inner), expected, "{inner}");
        }
        for (outer, expected) in [
            (0, false),
            (999, false),
            (1000, true),
            (1001, false),
            (99_999, false),
            (100_000, true),
            (165_535, true),
            (165_536, false),
        ] {
            assert_eq!(map.has(outer), expected, "{outer}");
        }
        assert_eq!(IdMap::parse(b"5 4294967290 10").outer(14), None);

        let passwd = b"root:x:0:0:::\nwww-data:x:33:33:::\nfar:x:70000:1:::\n";
        let inside = Users::parse(passwd, b"www-data:x:33:\n", MAX_FOREIGN_NAMES);
        let users = inside.mapped(Some(&map), Some(&map));
        assert_eq!(users.user(1000), Some("root"));
        assert_eq!(users.user(100_032), Some("www-data"));
        assert_eq!(users.group(100_032), Some("www-data"));
        for uid in [0, 33, 70_000] {
            assert_eq!(users.user(uid), None, "{uid}");
        }
        assert_eq!(inside.mapped(None, None), inside);
    }
}
