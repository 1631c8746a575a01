//! The names that are known, by the namespaces they hold in: a table each, bounded, of which the one
//! asked for longest ago goes first. Pure.

use std::collections::HashMap;

use super::{Users, Whose};
use crate::enrich::facts::Fact;
use crate::source::{Names, NamesStep};

/// Tables that are kept: a namespace beyond that is asked for again.
pub const TABLES: usize = 256;

/// Names in all tables but the host's.
const NAMES: usize = 65_536;

/// How long after a reading that failed there is none of the same namespace, nanoseconds.
const PAUSE_NS: u64 = 5_000_000_000;

/// Names by namespace.
#[derive(Debug, Default)]
pub struct Known {
    /// Those that hold where no other do: captures of before there was more than one table.
    everywhere: Users,
    /// The host's mount namespace, and its names.
    host: (u32, Users),
    tables: HashMap<Whose, Table>,
    /// Names in these.
    names: usize,
    asked: u64,
}

#[derive(Debug)]
struct Table {
    users: Users,
    /// The order of asking.
    asked: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Asked,
    Answered,
    /// Nobody could be looked at, the last time at this moment.
    Failed(u64),
}

impl Known {
    /// The names that hold for a process of these namespaces.
    #[must_use]
    pub fn users(&self, whose: Whose) -> Fact<&Users> {
        let (host, users) = &self.host;
        match self.tables.get(&whose).map(|table| (table.state, table)) {
            // What it was may be of another namespace that had this number.
            Some((State::Asked, _)) => Fact::Pending,
            Some((State::Answered, table)) => Fact::Found(&table.users),
            Some((State::Failed(_), _)) => Fact::Absent,
            None if *host != 0 && *host == whose.mnt_ns => Fact::Found(users),
            None => Fact::Found(&self.everywhere),
        }
    }

    /// Whether somebody has to ask for the names of these namespaces, which a process was seen in:
    /// where they are not known, or where the process entered them (a number of a namespace that has
    /// ended is used again). If so, it is taken for asked.
    pub fn ask(&mut self, whose: Whose, entered: bool, boot_ns: u64) -> bool {
        let Whose { mnt_ns, user_ns } = whose;
        if mnt_ns == 0 || user_ns == 0 || mnt_ns == self.host.0 || self.host.0 == 0 {
            return false;
        }
        self.asked += 1;
        let asked = self.asked;
        if let Some(table) = self.tables.get_mut(&whose) {
            table.asked = asked;
            let again = match table.state {
                State::Asked => false,
                State::Answered => entered,
                State::Failed(since) => boot_ns >= since.saturating_add(PAUSE_NS),
            };
            if again {
                table.state = State::Asked;
            }
            return again;
        }
        while self.tables.len() >= TABLES {
            self.forget_oldest(whose);
        }
        let table = Table {
            users: Users::default(),
            asked,
            state: State::Asked,
        };
        self.tables.insert(whose, table);
        true
    }

    /// Takes names in.
    pub fn tell(&mut self, names: &Names) {
        let whose = names.whose;
        let users = match whose {
            Whose { mnt_ns: 0, .. } => &mut self.everywhere,
            Whose { user_ns: 0, .. } => {
                self.host.0 = whose.mnt_ns;
                &mut self.host.1
            }
            Whose { .. } => {
                // One that nobody waits for any more was let go on purpose.
                let Some(table) = self.tables.get_mut(&whose) else {
                    return;
                };
                if !names.more {
                    table.state = State::Answered;
                }
                self.names -= table.users.len();
                &mut table.users
            }
        };
        if names.step == NamesStep::Replace {
            *users = Users::default();
        }
        for (group, id, name) in &names.names {
            users.insert(*group, *id, name);
        }
        if whose.mnt_ns != 0 && whose.user_ns != 0 {
            self.names += users.len();
            while self.names > NAMES && self.tables.len() > 1 {
                self.forget_oldest(whose);
            }
        }
    }

    /// No process of these namespaces could be looked at.
    pub fn fail(&mut self, whose: Whose, boot_ns: u64) {
        if let Some(table) = self.tables.get_mut(&whose) {
            self.names -= table.users.len();
            // Names of before may be those of another namespace with this number.
            table.users = Users::default();
            table.state = State::Failed(boot_ns);
        }
    }

    fn forget_oldest(&mut self, but: Whose) {
        let others = self.tables.iter().filter(|(whose, _)| **whose != but);
        let oldest = others.min_by_key(|(_, table)| table.asked);
        if let Some(table) = oldest
            .map(|(whose, _)| *whose)
            .and_then(|whose| self.tables.remove(&whose))
        {
            self.names -= table.users.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Whose = Whose {
        mnt_ns: 1,
        user_ns: 0,
    };

    fn of(mnt_ns: u32) -> Whose {
        Whose { mnt_ns, user_ns: 9 }
    }

    fn name(id: u32, name: &str) -> (bool, u32, String) {
        (false, id, name.to_owned())
    }

    fn tell(known: &mut Known, whose: Whose, fresh: bool, names: &[(bool, u32, String)]) {
        let step = if fresh {
            NamesStep::Replace
        } else {
            NamesStep::Add
        };
        known.tell(&Names {
            whose,
            step,
            more: false,
            names: names.to_vec(),
        });
    }

    fn users(known: &Known, whose: Whose) -> Users {
        known
            .users(whose)
            .found()
            .map(|users| (*users).clone())
            .unwrap_or_default()
    }

    #[test]
    fn names_hold_where_they_are_from() {
        let mut known = Known::default();
        // Without the host's nothing is known of namespaces: as in captures of before.
        assert!(!known.ask(of(2), true, 0));
        tell(&mut known, Whose::default(), false, &[name(0, "root")]);
        assert_eq!(users(&known, of(2)).user(0), Some("root"));

        let mut known = Known::default();
        tell(
            &mut known,
            HOST,
            true,
            &[name(33, "www-data"), name(5, "games")],
        );
        assert!(!known.ask(of(1), true, 0), "known already");
        assert_eq!(users(&known, of(1)).user(33), Some("www-data"));
        assert_eq!(users(&known, of(2)).user(33), None, "not the host's");
        assert!(known.ask(of(2), false, 0));
        assert!(!known.ask(of(2), true, 0), "asked already");
        assert_eq!(known.users(of(2)), Fact::Pending);
        tell(&mut known, of(2), true, &[name(33, "xfs")]);
        assert_eq!(users(&known, of(2)).user(33), Some("xfs"));
        assert_eq!(users(&known, of(1)).user(33), Some("www-data"));
        assert!(!known.ask(of(2), false, 0));
        assert!(known.ask(of(2), true, 0), "looked at again");
        assert_eq!(users(&known, of(2)).user(33), None, "perhaps another's");
        tell(&mut known, of(2), true, &[name(33, "xfs")]);
        tell(&mut known, of(2), false, &[name(34, "x")]);
        assert_eq!(users(&known, of(2)).user(33), Some("xfs"));
        tell(&mut known, HOST, true, &[name(33, "web")]);
        assert_eq!(users(&known, of(1)).user(5), None, "removed");
    }

    #[test]
    fn what_could_not_be_read_is_asked_again_later() {
        let mut known = Known::default();
        tell(&mut known, HOST, true, &[]);
        assert!(known.ask(of(2), false, 0));
        tell(&mut known, of(2), true, &[name(33, "xfs")]);
        assert!(known.ask(of(2), true, 7));
        known.fail(of(2), 7);
        assert_eq!(users(&known, of(2)).user(33), None);
        assert!(!known.ask(of(2), true, 8));
        assert!(known.ask(of(2), false, 7 + PAUSE_NS));
    }

    #[test]
    fn tables_and_names_are_bounded() {
        let mut known = Known::default();
        tell(&mut known, HOST, true, &[]);
        let names: Vec<_> = (0..1000).map(|id| name(id, "n")).collect();
        for mnt_ns in 2..1000 {
            assert!(known.ask(of(mnt_ns), false, 0));
            tell(&mut known, of(mnt_ns), true, &names);
            assert!(known.names <= NAMES && known.tables.len() <= TABLES);
        }
        assert_eq!(users(&known, of(999)).user(7), Some("n"));
        assert_eq!(users(&known, of(2)).user(7), None);
        assert_eq!(known.names, known.tables.len() * 1000);
        for mnt_ns in 2000..3000 {
            assert!(known.ask(of(mnt_ns), false, 0));
        }
        assert_eq!(known.tables.len(), TABLES);
    }
}
