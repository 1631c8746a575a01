//! Who a server belongs to, and how much of what there is for all of them anybody may take.
//!
//! Any local user can run programs that look like servers, and root of a container is root of that only.
//! So what is bounded for the whole host is shared out: no user takes the place of another, all users
//! together not that of root, and nobody that of the host's own servers.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

/// Who a server belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// Root, in the mounts that the host itself sees.
    Host,
    /// Root in another mount namespace: of a container, or of a unit with mounts of its own.
    Root(u32),
    /// Another user, by number; in whatever namespace, as anybody may make those.
    User(u32),
}

impl Owner {
    /// Of a process of this user in this mount namespace.
    pub(super) const fn of(uid: u32, mnt_ns: u32, host: Option<u32>) -> Self {
        match (uid, host) {
            (0, Some(host)) if host == mnt_ns => Self::Host,
            (0, _) => Self::Root(mnt_ns),
            _ => Self::User(uid),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("root of this host"),
            Self::Root(mnt_ns) => write!(f, "root in mount namespace {mnt_ns}"),
            Self::User(uid) => write!(f, "user {uid}"),
        }
    }
}

/// The mount namespace of the host, which is that of its first process; that of the agent where this does
/// not tell.
pub(super) fn host_mounts() -> Option<u32> {
    let number = |process: &str| {
        let link = std::fs::read_link(Path::new("/proc").join(process).join("ns/mnt")).ok()?;
        let number = link.to_str()?.strip_prefix("mnt:[")?.strip_suffix(']')?;
        number.parse().ok()
    };
    number("1").or_else(|| number("self"))
}

/// A number of places, and who has how many of them.
#[derive(Debug)]
pub(super) struct Quota {
    max: usize,
    all: usize,
    users: usize,
    others: usize,
    taken: HashMap<Owner, usize>,
}

impl Quota {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            all: 0,
            users: 0,
            others: 0,
            taken: HashMap::new(),
        }
    }

    /// Whether there is a place for this owner: an eighth of all for one user, half for all of them; a
    /// quarter for root of one container; three quarters for whoever is not the host.
    pub(super) fn has_room(&self, owner: Owner) -> bool {
        let own = self.taken.get(&owner).copied().unwrap_or(0);
        let shared = self.others < self.max - self.max / 4;
        self.all < self.max
            && match owner {
                Owner::Host => true,
                Owner::Root(_) => shared && own < self.max / 4,
                Owner::User(_) => shared && own < self.max / 8 && self.users < self.max / 2,
            }
    }

    /// Takes a place. False where there is none for this owner.
    pub(super) fn take(&mut self, owner: Owner) -> bool {
        let fits = self.has_room(owner);
        if fits {
            self.all += 1;
            self.users += usize::from(matches!(owner, Owner::User(_)));
            self.others += usize::from(owner != Owner::Host);
            *self.taken.entry(owner).or_default() += 1;
        }
        fits
    }

    /// Gives back a place that was taken.
    pub(super) fn release(&mut self, owner: Owner) {
        let Some(own) = self.taken.get_mut(&owner) else {
            return;
        };
        *own -= 1;
        if *own == 0 {
            self.taken.remove(&owner);
        }
        self.all -= 1;
        self.users -= usize::from(matches!(owner, Owner::User(_)));
        self.others -= usize::from(owner != Owner::Host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many places this owner gets until there is no more.
    fn fill(quota: &mut Quota, owner: Owner) -> usize {
        std::iter::repeat_with(|| quota.take(owner))
            .take_while(|taken| *taken)
            .count()
    }

    #[test]
    fn nobody_takes_the_place_of_the_host() {
        let mut quota = Quota::new(64);
        let users: usize = (1..20).map(|uid| fill(&mut quota, Owner::User(uid))).sum();
        assert_eq!(users, 32);
        assert_eq!(fill(&mut quota, Owner::Root(7)), 16);
        assert_eq!(fill(&mut quota, Owner::Root(8)), 0);
        assert_eq!(fill(&mut quota, Owner::Host), 16);
        // What is given back is there again, for whom it was.
        quota.release(Owner::User(1));
        assert!(!quota.has_room(Owner::User(2)));
        assert_eq!(fill(&mut quota, Owner::User(1)), 1);
    }

    #[test]
    fn the_first_that_comes_does_not_take_all() {
        let mut quota = Quota::new(64);
        assert_eq!(fill(&mut quota, Owner::User(1)), 8);
        assert_eq!(fill(&mut quota, Owner::Root(1)), 16);
        assert_eq!(fill(&mut quota, Owner::User(2)), 8);
        assert_eq!(fill(&mut quota, Owner::Host), 32);
    }

    #[test]
    fn root_is_the_hosts_only_in_its_mounts() {
        assert_eq!(Owner::of(0, 5, Some(5)), Owner::Host);
        assert_eq!(Owner::of(0, 6, Some(5)), Owner::Root(6));
        assert_eq!(Owner::of(0, 5, None), Owner::Root(5));
        assert_eq!(Owner::of(33, 5, Some(5)), Owner::User(33));
    }
}
