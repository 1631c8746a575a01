//! What exceptions make of matches, and what of a match is remembered for who asks why. Pure.

use serde_json::Value;
use tracer_common::event::flag;

use super::case::{Case, Fact};
use super::exception::{Barrier, Barriers, Deed, Excuse, Verb};
use super::executing::is_told;
use super::nearest::Place;
use super::severity::because;
use super::{Detector, Matched};
use crate::event::{Event, Payload, is_inet};
use rsigma_eval::Event as _;

/// Longest text of a field that is remembered, bytes.
const TEXT: usize = 4096;

/// Longest list.
const LIST: usize = 64;

/// Argument bytes of a deed that is remembered.
const ARGUMENTS: usize = 16 * 1024;

/// What a rule saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The fields that the event had.
    pub fields: Value,
    /// It, as exceptions compare it.
    pub deed: Deed,
    /// Why the severity is another than the rule's, where it is.
    pub because: Vec<&'static str>,
}

impl Detector {
    /// The matches that no exception is about.
    pub(super) fn excuse(&mut self, case: &Case<'_>, matched: Vec<Matched>) -> Vec<Matched> {
        if matched.is_empty() {
            return matched;
        }
        let deed = self.deed(case);
        let boot_ns = case.event.meta.boot_ns;
        let mut alerts = Vec::with_capacity(matched.len());
        for mut matched in matched {
            match self.exceptions.excuse(&matched.rule.id, &deed, boot_ns) {
                Excuse::Now(verb) => {
                    let is_ignored = self.is_ignored.unwrap_or(true) && verb == Verb::Ignore;
                    self.is_ignored = Some(is_ignored);
                }
                Excuse::None => {
                    self.is_ignored = Some(false);
                    alerts.push(matched);
                }
                Excuse::Perhaps(exceptions) => {
                    self.is_ignored = Some(false);
                    matched.perhaps = exceptions;
                    alerts.push(matched);
                }
            }
        }
        alerts
    }

    /// Adds what each match saw, unless it is part of an alert that was raised before.
    pub(super) fn recall_why(
        &self,
        case: &Case<'_>,
        place: &Place,
        mut matched: Vec<Matched>,
    ) -> Vec<Matched> {
        let subject = case.event.meta.subject;
        for matched in &mut matched {
            if !is_told(
                case.store,
                subject,
                place,
                &matched.rule.id,
                matched.severity,
            ) {
                matched.told = Some(self.why(case));
            }
        }
        matched
    }

    /// What a rule saw.
    pub(super) fn why(&self, case: &Case<'_>) -> Box<Told> {
        let mut fields = case.to_json();
        if let Value::Object(fields) = &mut fields {
            fields.values_mut().for_each(bound);
        }
        let mut deed = self.deed(case);
        let bytes: usize = deed
            .argv
            .iter()
            .map(|word| word.len() + size_of::<Vec<u8>>())
            .sum();
        if bytes > ARGUMENTS {
            deed.argv = Vec::new();
            deed.barriers.set(Barrier::Unsure, true);
        }
        Box::new(Told {
            fields,
            deed,
            because: because(case),
        })
    }

    /// A case as exceptions compare it.
    fn deed(&self, case: &Case<'_>) -> Deed {
        let event = case.event;
        let file = case.file.as_ref();
        let executes = matches!(event.payload, Payload::Exec(_) | Payload::Observed(_));
        let mut barriers = Barriers::default();
        let has = |fact| case.facts.has(fact);
        barriers.set(Barrier::Written, executes && has(Fact::Written));
        barriers.set(
            Barrier::Written,
            file.is_some_and(|file| file.action == "loaded") && has(Fact::Written),
        );
        barriers.set(Barrier::GainsRights, has(Fact::GainsRights));
        barriers.set(Barrier::Outside, has(Fact::Outside) || has(Fact::Moved));
        barriers.set(Barrier::Apart, self.is_apart(case));
        barriers.set(
            Barrier::Unsure,
            is_unsure(case, executes) || file.is_some_and(|file| file.doubt.is_some()),
        );
        let mut deed = Deed {
            server: case
                .server
                .map(|server| (server.name.to_string(), server.role.name())),
            user: user(event).or_else(|| Some(case.process?.ids?.euid)),
            parent: case
                .parent()
                .map(|image| image.exec.exe.clone())
                .unwrap_or_default(),
            file: file.map(|file| (file.path.clone(), file.action.to_owned())),
            ..Deed::default()
        };
        if let Some(exec) = case.exec {
            let is_remote =
                has(Fact::RemoteStdio) || (file.is_none() && exec.stdio.iter().any(is_inet));
            barriers.set(Barrier::RemoteStdio, is_remote);
            barriers.set(
                Barrier::Fileless,
                has(Fact::Fileless) || (executes && exec.nlink == 0),
            );
            deed.executable = exec.exe.clone();
            deed.argv = Deed::words(&exec.exe, &exec.args);
            deed.directory = exec.cwd.clone();
        }
        deed.barriers = barriers;
        deed
    }

    /// Whether names may mean other files to the subject than to the server.
    fn is_apart(&self, case: &Case<'_>) -> bool {
        let Some(nearest) = case.nearest else {
            return false;
        };
        let spaces = |exec: &crate::event::Exec| (exec.ns.mnt, exec.ns.user);
        let same = nearest
            .image
            .zip(case.exec)
            .is_some_and(|(server, exec)| spaces(&server.exec) == spaces(exec));
        let mut between = case
            .store
            .chain(case.event.meta.subject)
            .take(nearest.depth.max(1));
        !same
            || self.rooted.len() >= super::ROOTED
            || between.any(|process| self.rooted.contains(&process.key))
    }
}

fn user(event: &Event) -> Option<u32> {
    Some(event.payload.ids()?.euid)
}

/// Whether what exceptions compare may have been other than it says.
fn is_unsure(case: &Case<'_>, executes: bool) -> bool {
    let flags = case.event.meta.flags;
    let cut =
        flag::PATH_TRUNCATED | flag::CWD_TRUNCATED | flag::ARGS_TRUNCATED | flag::STRING_TRUNCATED;
    let raced = flag::UNVERIFIED | flag::BASE_CHANGED;
    let short = case.exec.is_some_and(|exec| {
        let known: usize = exec.args.iter().map(|word| word.len() + 1).sum();
        exec.args_len > known as u64
    });
    let by_word = match &case.event.payload {
        Payload::Change(change) => flags & flag::RESOLVED == 0 || change.early.is_some(),
        Payload::File(_)
        | Payload::Fork(_)
        | Payload::Exec(_)
        | Payload::Exit(_)
        | Payload::Socket(_)
        | Payload::Observed(_)
        | Payload::ExecFailed(_)
        | Payload::Credentials(_)
        | Payload::Namespace(_)
        | Payload::Trace(_)
        | Payload::Comm(_) => false,
    };
    flags & cut != 0
        || (!executes && flags & raced != 0)
        || short
        || by_word
        || case.facts.has(Fact::NamesChanged)
}

/// Makes a field small enough to be remembered.
fn bound(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > TEXT => {
            text.truncate(text.floor_char_boundary(TEXT));
            text.shrink_to_fit();
        }
        Value::Array(all) => {
            all.truncate(LIST);
            all.iter_mut().for_each(bound);
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {}
    }
}
