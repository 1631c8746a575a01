//! Work that may have to wait for somebody else's program, on threads that can be left behind.
//!
//! To read a process's memory, or to follow a path as a process sees it, may be to ask a file system
//! that a user's program answers for (FUSE), and who asks can wait for ever: in the kernel, where no
//! time-out reaches. So each piece of work has a thread of its own. One that makes no progress for a
//! while is given up, which is told, and its thread is left behind; should it come back, it is heard.
//! Threads are bounded, those left behind too, and shared out: what a user's programs leave without an
//! answer does not end the reading of others.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::owner::Owner;

/// How much there may be.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Threads at work.
    pub(super) at_once: usize,
    /// Threads left behind: half of them by users' work, and [`PER_OWNER`] by one owner's.
    pub(super) stuck: usize,
    /// How long no progress is waited for.
    pub(super) patience: Duration,
}

/// Threads that may be left behind by the work of one owner other than the host.
const PER_OWNER: usize = 2;

/// What became of a piece of work.
#[derive(Debug)]
pub(super) enum Word<T> {
    /// It is done; it may have been given up before.
    Done(T),
    /// There is no progress from this point on: the work's own number, see [`Apart::ask`].
    Stuck(u32),
    /// It was not begun: too many threads of its owner's work were left behind, which has been told.
    Hopeless,
    /// It was not begun: there is no thread for it.
    Refused(io::Error),
}

/// Work on threads of their own. See the module.
pub(super) struct Apart<T> {
    name: &'static str,
    limits: Limits,
    waiting: VecDeque<Job<T>>,
    threads: Vec<Thread>,
    begun: u64,
    words: VecDeque<(u64, Word<T>)>,
    /// At most one message a thread.
    give: mpsc::UnboundedSender<(u64, T)>,
    found: mpsc::UnboundedReceiver<(u64, T)>,
    /// Said that work waits for threads that were left behind.
    told: bool,
    /// Of one owner, one piece of work at a time.
    in_turn: bool,
}

type Perform<T> = Box<dyn FnOnce(&AtomicU32) -> T + Send>;

struct Job<T> {
    id: u64,
    owner: Owner,
    perform: Perform<T>,
}

struct Thread {
    number: u64,
    id: u64,
    owner: Owner,
    at: Arc<AtomicU32>,
    seen: u32,
    since: Instant,
    stuck: bool,
}

impl<T: Send + 'static> Apart<T> {
    pub(super) fn new(name: &'static str, limits: Limits) -> Self {
        let (give, found) = mpsc::unbounded_channel();
        Self {
            name,
            limits,
            waiting: VecDeque::new(),
            threads: Vec::new(),
            begun: 0,
            words: VecDeque::new(),
            give,
            found,
            told: false,
            in_turn: false,
        }
    }

    /// The same, with one piece of work of one owner at a time, in the order they were asked for: what
    /// one finds out is there for the next. Who is left behind is not waited for.
    pub(super) const fn in_turn(mut self) -> Self {
        self.in_turn = true;
        self
    }

    /// Has work done as soon as there is a thread for it. What becomes of it comes by [`Self::told`],
    /// with this number. Long work writes what it is at, and progress is that this changes.
    pub(super) fn ask(
        &mut self,
        id: u64,
        owner: Owner,
        perform: impl FnOnce(&AtomicU32) -> T + Send + 'static,
    ) {
        let perform: Perform<T> = Box::new(perform);
        self.waiting.push_back(Job { id, owner, perform });
        self.step();
    }

    /// Takes back work that has not begun.
    pub(super) fn withdraw(&mut self, id: u64) {
        self.waiting.retain(|job| job.id != id);
    }

    /// Whether there is anything to wait for, but for what was given up.
    pub(super) fn is_busy(&self) -> bool {
        !self.words.is_empty()
            || !self.waiting.is_empty()
            || self.threads.iter().any(|thread| !thread.stuck)
    }

    /// Waits for the next word. Cancel safe.
    pub(super) async fn told(&mut self) -> (u64, Word<T>) {
        loop {
            self.step();
            if let Some(word) = self.words.pop_front() {
                return word;
            }
            let patience = self.limits.patience;
            let working = self.threads.iter().filter(|thread| !thread.stuck);
            let heard = match working.map(|thread| thread.since + patience).min() {
                Some(due) => tokio::time::timeout_at(due.into(), self.found.recv()).await,
                None => Ok(self.found.recv().await),
            };
            match heard {
                Ok(Some((number, value))) => {
                    let at = self
                        .threads
                        .iter()
                        .position(|thread| thread.number == number);
                    if let Some(at) = at {
                        let Thread { id, .. } = self.threads.swap_remove(at);
                        return (id, Word::Done(value));
                    }
                }
                // The agent holds a sender, so this does not happen while it runs.
                Ok(None) => std::future::pending().await,
                Err(_due) => {}
            }
        }
    }

    /// Gives up who makes no progress, and begins what there is room for.
    fn step(&mut self) {
        let now = Instant::now();
        for thread in self.threads.iter_mut().filter(|thread| !thread.stuck) {
            let at = thread.at.load(Ordering::Acquire);
            if at != thread.seen {
                (thread.seen, thread.since) = (at, now);
            } else if now >= thread.since + self.limits.patience {
                thread.stuck = true;
                self.words.push_back((thread.id, Word::Stuck(at)));
            }
        }
        while let Some(at) = self.waiting.iter().position(|job| self.has_room(job.owner)) {
            let Some(job) = self.waiting.remove(at) else {
                return;
            };
            self.begin(job, now);
        }
        while let Some(at) = self
            .waiting
            .iter()
            .position(|job| self.is_hopeless(job.owner))
        {
            let Some(Job { id, owner, .. }) = self.waiting.remove(at) else {
                return;
            };
            self.words.push_back((id, Word::Hopeless));
            if !self.told {
                self.told = true;
                eprintln!(
                    "tracer: too many programs of {owner} do not answer; what else there is of them is \
                     not looked at until they do"
                );
            }
        }
    }

    fn begin(&mut self, job: Job<T>, now: Instant) {
        let Job { id, owner, perform } = job;
        self.begun += 1;
        let (number, give) = (self.begun, self.give.clone());
        let at = Arc::new(AtomicU32::new(0));
        let shown = Arc::clone(&at);
        let work = move || {
            let value = perform(&shown);
            // Nobody listens where the agent has ended.
            let _ended = give.send((number, value));
        };
        match std::thread::Builder::new()
            .name(self.name.to_owned())
            .spawn(work)
        {
            Ok(_detached) => self.threads.push(Thread {
                number,
                id,
                owner,
                at,
                seen: 0,
                since: now,
                stuck: false,
            }),
            Err(error) => self.words.push_back((id, Word::Refused(error))),
        }
    }

    fn has_room(&self, owner: Owner) -> bool {
        let working = || self.threads.iter().filter(|thread| !thread.stuck);
        // One thread is always for who is root.
        let of_users = 1.max(self.limits.at_once.saturating_sub(1));
        let fits = match owner {
            Owner::Host | Owner::Root(_) => true,
            Owner::User(_) => working().filter(|thread| is_user(thread.owner)).count() < of_users,
        };
        let is_turn = !self.in_turn || working().all(|thread| thread.owner != owner);
        fits && is_turn && working().count() < self.limits.at_once && !self.is_hopeless(owner)
    }

    /// Whether so many threads were left behind that there is none for this owner.
    fn is_hopeless(&self, owner: Owner) -> bool {
        let stuck = || self.threads.iter().filter(|thread| thread.stuck);
        let own = || stuck().filter(|thread| thread.owner == owner).count();
        let users = || stuck().filter(|thread| is_user(thread.owner)).count();
        stuck().count() >= self.limits.stuck
            || (owner != Owner::Host && own() >= PER_OWNER)
            || (is_user(owner) && users() >= self.limits.stuck / 2)
    }
}

const fn is_user(owner: Owner) -> bool {
    matches!(owner, Owner::User(_))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as plain;

    use super::*;

    const LIMITS: Limits = Limits {
        at_once: 2,
        stuck: 8,
        patience: Duration::from_millis(300),
    };

    const HOPELESS: u32 = u32::MAX;

    /// Work that waits until it is answered, as who opens a FIFO does, and how to answer.
    fn hung() -> (plain::Sender<()>, impl FnOnce(&AtomicU32) -> u32 + Send) {
        let (answer, wait) = plain::channel::<()>();
        let work = move |at: &AtomicU32| {
            at.store(77, Ordering::Release);
            let _answered = wait.recv();
            1
        };
        (answer, work)
    }

    async fn next(apart: &mut Apart<u32>) -> (u64, Result<u32, u32>) {
        let told = tokio::time::timeout(Duration::from_secs(20), apart.told());
        match told.await.unwrap() {
            (id, Word::Done(value)) => (id, Ok(value)),
            (id, Word::Stuck(at)) => (id, Err(at)),
            (id, Word::Hopeless) => (id, Err(HOPELESS)),
            (_, Word::Refused(error)) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn who_never_answers_is_left_behind_and_others_go_on() {
        let mut apart = Apart::new("test", LIMITS);
        let mut answers = Vec::new();
        for id in 0..4 {
            let (answer, work) = hung();
            answers.push(answer);
            apart.ask(id, Owner::User(5), work);
        }
        for id in [0, 1] {
            assert_eq!(next(&mut apart).await, (id, Err(77)));
        }
        // No more of theirs is begun.
        for id in [2, 3] {
            assert_eq!(next(&mut apart).await, (id, Err(HOPELESS)));
        }
        assert!(!apart.is_busy());
        apart.ask(9, Owner::User(6), |_| 6);
        apart.ask(10, Owner::Host, |_| 10);
        let mut done = [next(&mut apart).await, next(&mut apart).await];
        done.sort_unstable();
        assert_eq!(done, [(9, Ok(6)), (10, Ok(10))]);
        // Who comes back is heard, and makes room.
        answers.swap_remove(0).send(()).unwrap();
        assert_eq!(next(&mut apart).await, (0, Ok(1)));
        apart.ask(11, Owner::User(5), |_| 11);
        assert_eq!(next(&mut apart).await, (11, Ok(11)));
    }

    #[tokio::test]
    async fn users_leave_room_for_root() {
        let mut apart = Apart::new("test", LIMITS);
        let mut answers = Vec::new();
        for uid in 1..20 {
            for id in 0..3 {
                let (answer, work) = hung();
                answers.push(answer);
                apart.ask(u64::from(uid) * 3 + id, Owner::User(uid), work);
            }
        }
        let mut stuck = 0;
        while apart.is_busy() {
            stuck += usize::from(next(&mut apart).await.1 != Err(HOPELESS));
        }
        assert_eq!(stuck, LIMITS.stuck / 2);
        apart.ask(1000, Owner::Root(3), |_| 3);
        assert_eq!(next(&mut apart).await, (1000, Ok(3)));
    }

    #[tokio::test]
    async fn in_turn_nobody_works_twice_at_once() {
        let mut apart = Apart::new("test", LIMITS).in_turn();
        let (answer, work) = hung();
        let (other, of_other) = hung();
        apart.ask(1, Owner::Root(1), work);
        apart.ask(2, Owner::Root(1), |_| 2);
        apart.ask(3, Owner::Root(2), of_other);
        assert_eq!(apart.threads.len(), 2);
        assert_eq!(apart.waiting.front().map(|job| job.id), Some(2));
        drop(other);
        assert_eq!(next(&mut apart).await, (3, Ok(1)));
        answer.send(()).unwrap();
        assert_eq!(next(&mut apart).await, (1, Ok(1)));
        assert_eq!(next(&mut apart).await, (2, Ok(2)));
        // One that hangs is left behind, and the next has its turn.
        let (_answer, work) = hung();
        apart.ask(4, Owner::Root(1), work);
        apart.ask(5, Owner::Root(1), |_| 5);
        assert_eq!(next(&mut apart).await, (4, Err(77)));
        assert_eq!(next(&mut apart).await, (5, Ok(5)));
    }

    #[tokio::test]
    async fn who_makes_progress_is_waited_for() {
        let mut apart = Apart::new("test", LIMITS);
        apart.ask(1, Owner::Host, |at| {
            for step in 1..=20 {
                at.store(step, Ordering::Release);
                std::thread::sleep(LIMITS.patience / 10);
            }
            20
        });
        assert_eq!(next(&mut apart).await, (1, Ok(20)));
    }
}
