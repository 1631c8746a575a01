//! Incidents: the alerts of one server and all that descends from it, with a running score. Pure.
//!
//! The first alert goes out at once, and so does whatever is a story of its own: another rule, another program, another
//! directory, other arguments, another file, a higher severity. What repeats itself within [`WINDOW_NS`], or is more
//! than [`AT_ONCE`] of one kind in that time, is folded: counted, and told by a roll-up when the time is over. Refuses
//! to lose anything silently: what is folded is counted in the incident, in the roll-up and in the summary.

mod used;

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

pub(crate) use self::used::{Use, of_file, of_writer};
use crate::alert::{Document, Incident, Rollup, Severity};
use crate::event::ProcessKey;
use crate::rule::Rule;
use crate::source::remembered::PastIncident;

/// How long what repeats itself is folded, nanoseconds of kernel time.
pub(crate) const WINDOW_NS: u64 = 60_000_000_000;

/// Alerts of one rule and one program or directory that go out at once in that time, where the configuration says
/// nothing else.
pub(crate) const AT_ONCE: u32 = 8;

/// An incident without an alert for so long is over, nanoseconds.
pub(crate) const IDLE_NS: u64 = 3_600_000_000_000;

/// Incidents that are open at most. With more, the one whose last alert is the oldest is closed.
pub(crate) const OPEN: usize = 1024;

/// Roll-ups that wait at most. With more, the one that is due first goes out early.
const WAITING: usize = 256;

/// Kinds that are told apart in one window. What is of more is folded.
const GROUPS: usize = 64;

/// Reasons that a roll-up shows, and how long each may be, bytes.
const EXAMPLES: usize = 8;
const EXAMPLE_BYTES: usize = 512;

/// Rules that a roll-up counts apart.
const RULES: usize = 64;

/// Tactics that are remembered of one incident: ATT&CK has 14.
const TACTICS: usize = 32;

/// What an alert adds to the score: its severity where it goes out at once, one where it is folded.
const FOLDED_SCORE: u64 = 1;

/// And where it uses what an earlier alert is about.
const USE_SCORE: u64 = 50;

/// An alert, as far as incidents are about it.
pub(crate) struct Sighting<'a> {
    /// Whose incident: the process that the server began with.
    pub(crate) server: ProcessKey,
    /// When, nanoseconds since boot.
    pub(crate) boot_ns: u64,
    pub(crate) rule: &'a Arc<Rule>,
    pub(crate) severity: Severity,
    pub(crate) alert: Uuid,
    pub(crate) reason: &'a str,
    /// The program that runs, or the directory that is written to.
    pub(crate) place: &'a [u8],
    /// What tells it from others there: the arguments, or the file.
    pub(crate) shape: &'a [u8],
    /// What it is about, as a later one may use it.
    pub(crate) about: Vec<Use>,
    /// Earlier alerts about what it uses.
    pub(crate) used: Vec<Uuid>,
}

/// What comes of an alert.
pub(crate) enum Verdict {
    /// It goes out, with this.
    AtOnce(Incident),
    /// It is counted. Where it is the first or the worst, the roll-up is to show it: give it to [`Incidents::show`].
    Folded(Option<Incident>),
}

/// The incidents that are open, and what is counted of them.
pub(crate) struct Incidents {
    /// See [`AT_ONCE`]; zero for all.
    at_once: usize,
    open: BTreeMap<ProcessKey, Open>,
    used: used::Used,
    /// Windows in which something is folded.
    waiting: usize,
    folded: u64,
    rollups: u64,
    closed_early: u64,
}

struct Open {
    id: Uuid,
    first_boot_ns: u64,
    last_boot_ns: u64,
    first_alert: Uuid,
    score: u64,
    alerts: u64,
    tactics: Vec<Arc<str>>,
    window: Option<Window>,
}

struct Window {
    until_boot_ns: u64,
    groups: Vec<Group>,
    worst: Severity,
    folded: Option<Box<Folded>>,
}

/// What is of one rule and one program or directory.
struct Group {
    rule: Arc<str>,
    place: Vec<u8>,
    worst: Severity,
    shapes: Vec<Uuid>,
}

/// What was folded in a window.
struct Folded {
    first_boot_ns: u64,
    last_boot_ns: u64,
    count: u64,
    rules: BTreeMap<String, u64>,
    examples: Vec<String>,
    worst: Severity,
    document: Option<Document>,
}

/// A place as it is kept: the beginning is enough, as what is folded by mistake is told a minute later.
fn kept(place: &[u8]) -> &[u8] {
    place.get(..256).unwrap_or(place)
}

impl Default for Incidents {
    fn default() -> Self {
        Self {
            at_once: AT_ONCE as usize,
            open: BTreeMap::new(),
            used: used::Used::default(),
            waiting: 0,
            folded: 0,
            rollups: 0,
            closed_early: 0,
        }
    }
}

impl Incidents {
    /// How many alerts of one kind go out at once in a minute; zero for all.
    pub(crate) const fn set_at_once(&mut self, at_once: u32) {
        self.at_once = at_once as usize;
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether something folded waits for its roll-up.
    pub(crate) const fn is_folding(&self) -> bool {
        self.waiting > 0
    }

    /// Alerts that were folded.
    pub(crate) const fn folded(&self) -> u64 {
        self.folded
    }

    /// Roll-ups that went out.
    pub(crate) const fn rollups(&self) -> u64 {
        self.rollups
    }

    /// Incidents that were closed because there were too many.
    pub(crate) const fn closed_early(&self) -> u64 {
        self.closed_early
    }

    /// Earlier alerts about what is used now, the oldest first.
    pub(crate) fn about(&self, uses: &[Use]) -> Vec<Uuid> {
        self.used.about(uses)
    }

    /// Takes an alert. `new_id` gives the id of the incident that it begins. Roll-ups that are due before it are added to
    /// `due`.
    pub(crate) fn take(
        &mut self,
        sighting: Sighting<'_>,
        new_id: impl FnOnce() -> Uuid,
        due: &mut Vec<Document>,
    ) -> Verdict {
        let now = sighting.boot_ns;
        self.pass(now, due);
        self.make_room(sighting.server, due);
        let Sighting {
            server,
            rule,
            severity,
            alert,
            used,
            about,
            ..
        } = &sighting;
        self.used.note(about, *alert, *server);
        let incident = self.open.entry(*server).or_insert_with(|| Open {
            id: new_id(),
            first_boot_ns: now,
            last_boot_ns: now,
            first_alert: *alert,
            score: 0,
            alerts: 0,
            tactics: Vec::new(),
            window: None,
        });
        incident.last_boot_ns = incident.last_boot_ns.max(now);
        incident.alerts += 1;
        for technique in &rule.techniques {
            if let Some((_, name)) = &technique.tactic
                && !incident.tactics.contains(name)
                && incident.tactics.len() < TACTICS
            {
                incident.tactics.push(Arc::clone(name));
            }
        }
        let window = incident.window.get_or_insert_with(|| Window {
            until_boot_ns: now.saturating_add(WINDOW_NS),
            groups: Vec::new(),
            worst: Severity::Low,
            folded: None,
        });
        let at_once = self.at_once == 0 || window.is_new(&sighting, self.at_once);
        let score = if at_once {
            u64::from(severity.number())
        } else {
            FOLDED_SCORE
        };
        let used_score = if used.is_empty() { 0 } else { USE_SCORE };
        incident.score = incident.score.saturating_add(score + used_score);
        let mut related = used.clone();
        if incident.first_alert != *alert && !related.contains(&incident.first_alert) {
            related.push(incident.first_alert);
        }
        let view = Incident {
            id: incident.id,
            score: incident.score,
            alerts: incident.alerts,
            first_boot_ns: incident.first_boot_ns,
            tactics: incident.tactics.clone(),
            related,
            rollup: None,
        };
        if at_once {
            return Verdict::AtOnce(view);
        }
        self.folded += 1;
        let is_first = window.folded.is_none();
        let shows = window.fold(&sighting);
        self.waiting += usize::from(is_first);
        if self.waiting > WAITING {
            self.roll_up_first(*server, due);
        }
        Verdict::Folded(shows.then_some(view))
    }

    /// Has the roll-up of an incident show this alert, that of a document.
    pub(crate) fn show(&mut self, server: ProcessKey, document: Document) {
        let window = self
            .open
            .get_mut(&server)
            .and_then(|open| open.window.as_mut());
        if let Some(folded) = window.and_then(|window| window.folded.as_mut()) {
            folded.document = Some(document);
        }
    }

    /// Time has passed: gives the roll-ups that are due, and closes what is over.
    pub(crate) fn pass(&mut self, now_boot_ns: u64, due: &mut Vec<Document>) {
        for incident in self.open.values_mut() {
            let is_over = |window: &mut Window| window.until_boot_ns <= now_boot_ns;
            if let Some(window) = incident.window.take_if(is_over) {
                self.waiting -= usize::from(window.folded.is_some());
                let rollup = incident.rolled_up(window);
                self.rollups += u64::from(rollup.is_some());
                due.extend(rollup);
            }
        }
        // At the end of all inputs it is not later, and the next agent takes them up.
        if now_boot_ns != u64::MAX {
            self.open
                .retain(|_, open| open.last_boot_ns.saturating_add(IDLE_NS) > now_boot_ns);
        }
    }

    /// Makes room for one more.
    fn make_room(&mut self, server: ProcessKey, due: &mut Vec<Document>) {
        if self.open.len() < OPEN || self.open.contains_key(&server) {
            return;
        }
        let oldest = self.open.iter().min_by_key(|(_, open)| open.last_boot_ns);
        if let Some(mut oldest) = oldest
            .map(|(key, _)| *key)
            .and_then(|key| self.open.remove(&key))
        {
            self.closed_early += 1;
            self.end_window(&mut oldest, due);
        }
    }

    /// The roll-up that is due first goes out, but not that of this server.
    fn roll_up_first(&mut self, but: ProcessKey, due: &mut Vec<Document>) {
        let folding = self.open.iter().filter_map(|(key, open)| {
            let window = open.window.as_ref()?;
            (*key != but && window.folded.is_some()).then_some((window.until_boot_ns, *key))
        });
        if let Some((_, key)) = folding.min()
            && let Some(mut open) = self.open.remove(&key)
        {
            self.end_window(&mut open, due);
            self.open.insert(key, open);
        }
    }

    fn end_window(&mut self, open: &mut Open, due: &mut Vec<Document>) {
        if let Some(window) = open.window.take() {
            self.waiting -= usize::from(window.folded.is_some());
            let rollup = open.rolled_up(window);
            self.rollups += u64::from(rollup.is_some());
            due.extend(rollup);
        }
    }

    /// What the next agent is to know.
    pub(crate) fn remember(&self) -> impl Iterator<Item = PastIncident> {
        self.open.iter().map(|(server, open)| PastIncident {
            server: *server,
            id: open.id,
            first_alert: open.first_alert,
            first_boot_ns: open.first_boot_ns,
            last_boot_ns: open.last_boot_ns,
            score: open.score,
            alerts: open.alerts,
            tactics: open.tactics.clone(),
            used: self.used.of(*server),
        })
    }

    /// Takes up what an agent before this one knew.
    pub(crate) fn recall(&mut self, past: PastIncident) {
        let PastIncident {
            server,
            id,
            first_alert,
            first_boot_ns,
            last_boot_ns,
            score,
            alerts,
            mut tactics,
            used,
        } = past;
        if self.open.len() >= OPEN {
            return;
        }
        for (about, alert) in used {
            self.used.note(&[about], alert, server);
        }
        tactics.truncate(TACTICS);
        self.open.insert(
            server,
            Open {
                id,
                first_boot_ns,
                last_boot_ns,
                first_alert,
                score,
                alerts,
                tactics,
                window: None,
            },
        );
    }
}

impl Open {
    /// The document of what was folded in a window; none where nothing was, or nobody wants documents.
    fn rolled_up(&self, window: Window) -> Option<Document> {
        let folded = *window.folded?;
        let mut document = folded.document?;
        let alert = document.alert.as_mut()?;
        let text = format!("rollup|{}", folded.first_boot_ns);
        alert.id = Uuid::new_v5(&self.id, text.as_bytes());
        let rules = folded.rules.iter();
        let rules: Vec<String> = rules
            .map(|(rule, count)| format!("{rule} {count}"))
            .collect();
        let first = std::mem::take(&mut alert.reason);
        alert.reason = format!(
            "{} more alerts of this incident within {} s ({}), such as: {first}",
            folded.count,
            WINDOW_NS / 1_000_000_000,
            rules.join(", "),
        );
        alert.incident = Incident {
            score: self.score,
            alerts: self.alerts,
            tactics: self.tactics.clone(),
            rollup: Some(Rollup {
                count: folded.count,
                first_boot_ns: folded.first_boot_ns,
                last_boot_ns: folded.last_boot_ns,
                rules: folded.rules.into_iter().collect(),
                examples: folded.examples,
            }),
            ..std::mem::take(&mut alert.incident)
        };
        Some(document)
    }
}

impl Window {
    /// Whether an alert is a story of its own.
    fn is_new(&mut self, sighting: &Sighting<'_>, at_once: usize) -> bool {
        let Sighting {
            rule,
            severity,
            place,
            ..
        } = sighting;
        let shape = Uuid::new_v5(&Uuid::nil(), sighting.shape);
        let worse = self.groups.is_empty() || *severity > self.worst;
        self.worst = self.worst.max(*severity);
        let known = self
            .groups
            .iter_mut()
            .find(|group| group.rule == rule.id && group.place == kept(place));
        let Some(group) = known else {
            if self.groups.len() >= GROUPS {
                return worse;
            }
            self.groups.push(Group {
                rule: Arc::clone(&rule.id),
                place: kept(place).to_vec(),
                worst: *severity,
                shapes: vec![shape],
            });
            return true;
        };
        if *severity > group.worst {
            group.worst = *severity;
            return true;
        }
        if group.shapes.contains(&shape) || group.shapes.len() >= at_once {
            return false;
        }
        group.shapes.push(shape);
        true
    }

    /// Counts what is folded; whether the roll-up is to show it.
    fn fold(&mut self, sighting: &Sighting<'_>) -> bool {
        let Sighting {
            boot_ns,
            rule,
            severity,
            reason,
            ..
        } = sighting;
        let is_first = self.folded.is_none();
        let folded = self.folded.get_or_insert_with(|| {
            Box::new(Folded {
                first_boot_ns: *boot_ns,
                last_boot_ns: *boot_ns,
                count: 0,
                rules: BTreeMap::new(),
                examples: Vec::new(),
                worst: *severity,
                document: None,
            })
        });
        folded.count += 1;
        folded.last_boot_ns = folded.last_boot_ns.max(*boot_ns);
        if let Some(count) = folded.rules.get_mut(&*rule.id) {
            *count += 1;
        } else {
            let name = if folded.rules.len() < RULES {
                &*rule.id
            } else {
                "other"
            };
            *folded.rules.entry(name.to_owned()).or_default() += 1;
        }
        let end = reason.floor_char_boundary(EXAMPLE_BYTES);
        let example = reason.get(..end).unwrap_or_default();
        if folded.examples.len() < EXAMPLES && !folded.examples.iter().any(|known| known == example)
        {
            folded.examples.push(example.to_owned());
        }
        let is_worse = *severity > folded.worst;
        folded.worst = folded.worst.max(*severity);
        is_first || is_worse
    }
}

#[cfg(test)]
mod tests;
