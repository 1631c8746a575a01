//! Tags that the agent gives to processes. Those of the kernel side come and go with the processes.
//!
//! A command is obeyed up to some ten milliseconds after the event that it comes of, and by then the
//! process may have ended. The kernel side removes the tag of a process when that ends and looks at it
//! no more: what is set later would stay, fill the map, and be the tag of whoever is given the number
//! next. So the process is looked at before and after, and only what was set here is taken back.

use crate::event::ProcessKey;
use crate::sensor::SensorError;
use tracer_common::tag::Tag;

/// How often a tag that changes under way is looked at anew.
const TRIES: usize = 4;

/// The kernel side's map of tags.
pub(super) trait TagMap {
    /// The tag of a process.
    fn get(&self, tgid: u32) -> Option<Tag>;

    /// Sets a tag where the process has one, or where it has none. False where that has changed.
    fn put(&mut self, tgid: u32, tag: Tag, has_one: bool) -> Result<bool, SensorError>;

    /// Removes a tag.
    fn remove(&mut self, tgid: u32);
}

impl TagMap for crate::sensor::account::Tags {
    fn get(&self, tgid: u32) -> Option<Tag> {
        Self::get(self, tgid)
    }

    fn put(&mut self, tgid: u32, tag: Tag, has_one: bool) -> Result<bool, SensorError> {
        Self::put(self, tgid, tag, has_one)
    }

    fn remove(&mut self, tgid: u32) {
        Self::remove(self, tgid);
    }
}

/// Tags a process that `lives`.
///
/// # Errors
///
/// The map is full, or the kernel refused.
pub(super) fn set(
    map: &mut impl TagMap,
    lives: impl Fn(ProcessKey) -> bool,
    key: ProcessKey,
    tag: Tag,
) -> Result<(), SensorError> {
    for _ in 0..TRIES {
        // Looked at before the process is: if that has ended and another, which inherited a tag, has its
        // number when the tag is set, then the entry has come or gone in between and stays as it is.
        let has_one = map.get(key.tgid).is_some();
        if !lives(key) {
            return Ok(());
        }
        if map.put(key.tgid, tag, has_one)? {
            if !lives(key) && map.get(key.tgid) == Some(tag) {
                map.remove(key.tgid);
            }
            return Ok(());
        }
    }
    // Whose tag keeps changing is being tagged by the kernel.
    Ok(())
}

/// Removes the tags that were there `before`, as the map was listed some time ago, of numbers that
/// nobody holds. How many.
pub(super) fn sweep(
    map: &mut impl TagMap,
    before: impl IntoIterator<Item = u32>,
    is_held: impl Fn(u32) -> bool,
) -> u64 {
    let mut removed = 0;
    for tgid in before {
        let Some(tag) = map.get(tgid) else { continue };
        // Who took the number meanwhile and inherited a tag has it from before it is seen.
        if !is_held(tgid) && map.get(tgid) == Some(tag) {
            map.remove(tgid);
            removed += 1;
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;
    use std::rc::Rc;

    use super::*;

    /// A map, and what happens when it is written.
    #[derive(Default)]
    struct Fake {
        tags: Rc<RefCell<BTreeMap<u32, Tag>>>,
        before_put: Option<Box<dyn FnMut()>>,
    }

    impl TagMap for Fake {
        fn get(&self, tgid: u32) -> Option<Tag> {
            self.tags.borrow().get(&tgid).copied()
        }

        fn put(&mut self, tgid: u32, tag: Tag, has_one: bool) -> Result<bool, SensorError> {
            if let Some(happens) = &mut self.before_put {
                happens();
            }
            let mut tags = self.tags.borrow_mut();
            let fits = tags.contains_key(&tgid) == has_one;
            if fits {
                tags.insert(tgid, tag);
            }
            Ok(fits)
        }

        fn remove(&mut self, tgid: u32) {
            self.tags.borrow_mut().remove(&tgid);
        }
    }

    const KEY: ProcessKey = ProcessKey {
        tgid: 7,
        start_ticks: 70,
    };

    const fn tag(server: u32) -> Tag {
        Tag {
            roles: 1,
            server,
            ..Tag::ZERO
        }
    }

    #[test]
    fn who_lives_is_tagged_and_tagged_again() {
        let mut map = Fake::default();
        for given in [tag(7), tag(8)] {
            set(&mut map, |key| key == KEY, KEY, given).unwrap();
            assert_eq!(map.get(7), Some(given));
        }
    }

    #[test]
    fn who_has_ended_leaves_no_tag() {
        let mut map = Fake::default();
        set(&mut map, |_| false, KEY, tag(7)).unwrap();
        assert_eq!(map.get(7), None);
        // It ends, and is forgotten by the kernel side, just before its tag is set.
        let lives = Rc::new(Cell::new(true));
        let ends = Rc::clone(&lives);
        map.before_put = Some(Box::new(move || ends.set(false)));
        set(&mut map, |_| lives.get(), KEY, tag(7)).unwrap();
        assert_eq!(map.get(7), None);
    }

    #[test]
    fn who_has_the_number_next_keeps_what_it_inherited() {
        for before in [None, Some(tag(9))] {
            let mut map = Fake::default();
            map.tags.borrow_mut().extend(before.map(|tag| (7, tag)));
            let lives = Rc::new(Cell::new(true));
            let (ends, tags) = (Rc::clone(&lives), Rc::clone(&map.tags));
            map.before_put = Some(Box::new(move || {
                ends.set(false);
                if before.is_some() {
                    tags.borrow_mut().remove(&7);
                } else {
                    tags.borrow_mut().insert(7, tag(3));
                }
            }));
            set(&mut map, |_| lives.get(), KEY, tag(7)).unwrap();
            assert_eq!(map.get(7), before.is_none().then_some(tag(3)));
        }
    }

    #[test]
    fn tags_of_nobody_are_swept() {
        let mut map = Fake::default();
        let all = [1, 2, 3];
        map.tags.borrow_mut().extend(all.map(|tgid| (tgid, tag(1))));
        assert_eq!(sweep(&mut map, [1, 2, 4], |tgid| tgid == 1), 1);
        assert_eq!(
            map.tags.borrow().keys().copied().collect::<Vec<_>>(),
            [1, 3]
        );
    }
}
