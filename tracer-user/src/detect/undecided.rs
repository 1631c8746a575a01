//! Writes of code that match no rule as far as is known, kept in case more becomes known: that their
//! directory is one that servers use, or where the name leads that the caller gave it. Pure.
//!
//! A question is where a directory leads, in a mount namespace; many events hang on one, and it is asked
//! once for all of them. An event that came after its question was asked waits for the next answer, as
//! the directory may have been made to lead elsewhere in between. Events stay until all their questions
//! are answered, and [`KEPT_NS`] for the sake of directories. Bounded by bytes. Refuses to let what comes
//! later push out what waits for an answer: beyond the bound the new one is not kept. Either is counted.

use std::collections::{BTreeMap, VecDeque};

use crate::event::{Change, Event, FileAccess, Payload, ProcessKey};

/// How long events are kept in case their directory becomes known, nanoseconds: the configuration of a
/// server is read within a second of its start, however busy the host is.
const KEPT_NS: u64 = 10_000_000_000;

/// Bytes of such events. All are judged again for each new directory.
const KEPT_BYTES: usize = 2 * 1024 * 1024;

/// Bytes of events that wait for answers, and of their questions.
const WAITING_BYTES: usize = 8 * 1024 * 1024;

/// Questions that are asked at once; the others wait for their turn.
pub const QUESTIONS: usize = 64;

/// A mount namespace and a directory as it was named there.
pub(super) type Question = (u32, Vec<u8>);

/// A question, and whose events hang on it, the latest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The mount namespace, inode number.
    pub mnt_ns: u32,
    /// The directory, absolute.
    pub directory: Vec<u8>,
    /// Who gave names in it.
    pub subjects: Vec<ProcessKey>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Undecided {
    kept: VecDeque<Event>,
    kept_bytes: usize,
    /// By a number that is not given twice, in the order in which they came.
    waiting: BTreeMap<u64, Waiting>,
    waiting_bytes: usize,
    next: u64,
    questions: BTreeMap<Question, Open>,
    /// Those with events that no asked one is about, in the order in which they came up.
    turns: VecDeque<Question>,
    asked: usize,
    dropped: Dropped,
}

/// How many events are not judged again although they might have been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Their directory might still have become known.
    pub kept: u64,
    /// Where their names lead is not asked.
    pub unasked: u64,
}

/// An event that hangs on questions.
struct Waiting {
    event: Event,
    bytes: usize,
    questions: usize,
}

/// The events of a question.
#[derive(Default)]
struct Open {
    /// Those that it was asked for, while there is no answer.
    asked: Option<Vec<u64>>,
    /// Those that came since.
    next: Vec<u64>,
}

impl Undecided {
    /// Keeps an event, and asks the questions that it hangs on.
    pub(super) fn insert(&mut self, event: Event, mut questions: Vec<Question>) {
        questions.sort_unstable();
        questions.dedup();
        if questions.is_empty() {
            self.keep(event);
            return;
        }
        let named: usize = questions.iter().map(|(_, name)| 2 * name.len()).sum();
        let bytes = size(&event) + named + questions.len() * size_of::<(Question, Open)>();
        if self.waiting_bytes + bytes > WAITING_BYTES {
            self.dropped.unasked += 1;
            self.keep(event);
            return;
        }
        let number = self.next;
        self.next += 1;
        self.waiting_bytes += bytes;
        let waiting = Waiting {
            event,
            bytes,
            questions: questions.len(),
        };
        self.waiting.insert(number, waiting);
        for question in questions {
            let open = self.questions.entry(question.clone()).or_default();
            if open.next.is_empty() && open.asked.is_none() {
                self.turns.push_back(question);
            }
            open.next.push(number);
        }
    }

    /// Keeps an event in case its directory becomes known.
    pub(super) fn keep(&mut self, event: Event) {
        let oldest = event.meta.boot_ns.saturating_sub(KEPT_NS);
        while let Some(first) = self.kept.front() {
            let is_old = first.meta.boot_ns < oldest;
            if !is_old && self.kept_bytes + size(&event) <= KEPT_BYTES {
                break;
            }
            self.dropped.kept += u64::from(!is_old);
            self.kept_bytes -= size(first);
            self.kept.pop_front();
        }
        self.kept_bytes += size(&event);
        self.kept.push_back(event);
    }

    /// All events that are kept in case their directory becomes known: it has.
    pub(super) fn take_kept(&mut self) -> VecDeque<Event> {
        self.kept_bytes = 0;
        std::mem::take(&mut self.kept)
    }

    /// The questions whose turn it is.
    pub(super) fn take_questions(&mut self) -> Vec<Asked> {
        let mut all = Vec::new();
        while self.asked < QUESTIONS
            && let Some(question) = self.turns.pop_front()
        {
            let Some(open) = self.questions.get_mut(&question) else {
                continue;
            };
            let numbers = std::mem::take(&mut open.next);
            let events = numbers.iter().rev();
            let subjects = events.filter_map(|number| self.waiting.get(number));
            let subjects = subjects.map(|waiting| waiting.event.meta.subject).collect();
            open.asked = Some(numbers);
            self.asked += 1;
            let (mnt_ns, directory) = question;
            all.push(Asked {
                mnt_ns,
                directory,
                subjects,
            });
        }
        all
    }

    /// Takes an answer: the events that it is for. What each comes to is told by [`Self::settle`].
    pub(super) fn answered(&mut self, question: Question) -> Vec<(u64, Event)> {
        let Some(open) = self.questions.get_mut(&question) else {
            return Vec::new();
        };
        let Some(numbers) = open.asked.take() else {
            return Vec::new();
        };
        self.asked -= 1;
        if open.next.is_empty() {
            self.questions.remove(&question);
        } else {
            self.turns.push_back(question);
        }
        let event = |number| Some((number, self.waiting.get(&number)?.event.clone()));
        numbers.into_iter().filter_map(event).collect()
    }

    /// One of the questions of an event has been answered. It is done with where it matched a rule, and
    /// after the last one waits for its directory only.
    pub(super) fn settle(&mut self, number: u64, matched: bool) {
        let Some(waiting) = self.waiting.get_mut(&number) else {
            return;
        };
        waiting.questions -= 1;
        if (matched || waiting.questions == 0)
            && let Some(waiting) = self.waiting.remove(&number)
        {
            self.waiting_bytes -= waiting.bytes;
            if !matched {
                self.keep(waiting.event);
            }
        }
    }

    /// How many events were dropped since last asked.
    pub(super) const fn take_dropped(&mut self) -> Dropped {
        std::mem::replace(
            &mut self.dropped,
            Dropped {
                kept: 0,
                unasked: 0,
            },
        )
    }
}

/// What an event takes, bytes.
fn size(event: &Event) -> usize {
    let more = match &event.payload {
        Payload::File(file) => size_of::<FileAccess>() + file.path.len(),
        Payload::Change(change) => {
            let Change {
                old,
                new,
                detail,
                early,
                ..
            } = &**change;
            let early = early.as_ref().map_or(0, |(old, new)| old.len() + new.len());
            size_of::<Change>() + old.len() + new.len() + detail.len() + early
        }
        // Nothing else gives a file a name.
        Payload::Fork(_)
        | Payload::Exec(_)
        | Payload::Exit(_)
        | Payload::Socket(_)
        | Payload::Observed(_)
        | Payload::ExecFailed(_)
        | Payload::Credentials(_)
        | Payload::Namespace(_)
        | Payload::Trace(_)
        | Payload::Comm(_) => 0,
    };
    size_of::<Event>() + more
}

#[cfg(test)]
mod tests {
    use tracer_common::event::{EventKind, Ids};
    use tracer_common::probe::Tier;
    use tracer_common::tag::Tag;

    use super::*;
    use crate::event::Meta;

    /// A rename by a process.
    fn event(tgid: u32, boot_ns: u64, name: &str) -> Event {
        let change = Change {
            kind: EventKind::Rename,
            old: b"/tmp/x".to_vec(),
            new: name.into(),
            detail: Vec::new(),
            early: None,
            file: None,
            directory: None,
            writer: None,
            number: 0,
            flags: 0,
            mode: 0,
            uid: 0,
            gid: 0,
            new_mode: 0,
            ids: Ids::ZERO,
            mnt_ns: 1,
        };
        Event {
            meta: Meta {
                boot_ns,
                subject: ProcessKey::new(tgid, 0),
                start_boot_ns: 0,
                tid: tgid,
                tag: Tag::ZERO,
                tier: Tier::Tracepoint,
                flags: 0,
                cpu: 0,
                slot: 0,
                seq: 0,
            },
            payload: Payload::Change(Box::new(change)),
        }
    }

    fn question(directory: &str) -> Question {
        (1, directory.into())
    }

    fn asked(undecided: &mut Undecided) -> Vec<(String, usize)> {
        let asked = undecided.take_questions().into_iter();
        asked
            .map(|asked| {
                let name = String::from_utf8(asked.directory).unwrap();
                (name, asked.subjects.len())
            })
            .collect()
    }

    fn one(name: &str, events: usize) -> Vec<(String, usize)> {
        vec![(name.to_owned(), events)]
    }

    #[test]
    fn a_question_is_asked_once_for_all_and_again_for_what_came_since() {
        let mut undecided = Undecided::default();
        undecided.insert(event(1, 1, "/a/1.php"), vec![question("/a")]);
        undecided.insert(event(2, 2, "/a/2.php"), vec![question("/a")]);
        assert_eq!(asked(&mut undecided), one("/a", 2));
        assert_eq!(asked(&mut undecided), []);
        undecided.insert(event(3, 3, "/a/3.php"), vec![question("/a")]);
        assert_eq!(asked(&mut undecided), [], "one at a time");
        let about = undecided.answered(question("/a"));
        let subjects = about.iter().map(|(_, event)| event.meta.subject.tgid);
        assert_eq!(subjects.collect::<Vec<_>>(), [1, 2]);
        undecided.settle(about[0].0, true);
        undecided.settle(about[1].0, false);
        assert_eq!(undecided.take_kept().len(), 1, "what matched is done with");
        assert_eq!(asked(&mut undecided), one("/a", 1));
        assert_eq!(undecided.answered(question("/b")), []);
        let about = undecided.answered(question("/a"));
        undecided.settle(about[0].0, true);
        assert!(undecided.waiting.is_empty() && undecided.questions.is_empty());
        assert_eq!((undecided.waiting_bytes, undecided.asked), (0, 0));
    }

    #[test]
    fn an_event_waits_for_its_last_answer() {
        let mut undecided = Undecided::default();
        let two = vec![question("/a"), question("/b"), question("/a")];
        undecided.insert(event(1, 1, "/a/1.php"), two);
        assert_eq!(asked(&mut undecided).len(), 2);
        for (directory, left) in [("/a", 1), ("/b", 0)] {
            let about = undecided.answered(question(directory));
            undecided.settle(about[0].0, false);
            assert_eq!(undecided.waiting.len(), left, "{directory}");
        }
        assert_eq!(undecided.take_kept().len(), 1);
    }

    #[test]
    fn what_waits_for_an_answer_is_not_pushed_out() {
        let mut undecided = Undecided::default();
        undecided.insert(event(1, 1, "/tmp/l/s.php"), vec![question("/tmp/l")]);
        assert_eq!(asked(&mut undecided), one("/tmp/l", 1));
        for number in 0..100_000 {
            let directory = format!("/tmp/{number}");
            let name = format!("{directory}/q.php");
            undecided.insert(event(2, 2, &name), vec![question(&directory)]);
        }
        assert!(undecided.waiting_bytes <= WAITING_BYTES);
        assert!(undecided.kept_bytes <= KEPT_BYTES);
        let Dropped { kept, unasked } = undecided.take_dropped();
        assert_eq!(unasked + undecided.waiting.len() as u64, 100_001);
        assert_eq!(kept + undecided.kept.len() as u64, unasked);
        assert_eq!(undecided.take_dropped(), Dropped::default());
        assert_eq!(undecided.answered(question("/tmp/l")).len(), 1);
        // No more are asked than can be at once.
        assert_eq!(asked(&mut undecided).len(), QUESTIONS);
    }

    #[test]
    fn old_ones_go_without_a_word() {
        let mut undecided = Undecided::default();
        undecided.keep(event(1, 1, "/a/1.php"));
        undecided.keep(event(1, KEPT_NS + 2, "/a/2.php"));
        assert_eq!(undecided.take_dropped(), Dropped::default());
        assert_eq!(undecided.take_kept().len(), 1);
    }
}
