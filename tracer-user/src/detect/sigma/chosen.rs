//! Which rules hold: the pack, what the user added to it, and what the user turned off.
//!
//! The texts are kept beside the rules that they give, so that a recording holds them. Refuses nothing: what is wrong
//! with a rule is told to who made the choice, and the others hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{RuleError, RuleSet, Source, pack_sources};

/// Files of rules at most.
pub const MAX_FILES: usize = 5000;
/// Bytes of all of them.
pub const MAX_TOTAL: usize = 32 * 1024 * 1024;
/// Ids and tags that can be turned off.
pub const MAX_DISABLED: usize = 4096;
/// Longest of these.
pub const MAX_WORD: usize = 256;

/// See the module.
#[derive(Clone, Debug)]
pub struct Chosen {
    sources: Vec<Source>,
    disabled: Vec<String>,
    set: Arc<RuleSet>,
    unsupported: usize,
    wrong: Vec<RuleError>,
}

/// Two that are given the same are the same.
impl PartialEq for Chosen {
    fn eq(&self, other: &Self) -> bool {
        (&self.sources, &self.disabled) == (&other.sources, &other.disabled)
    }
}

impl Eq for Chosen {}

impl Chosen {
    /// The pack and these rules, without those whose id or tag is `disabled`; and what is wrong with any.
    #[must_use]
    pub fn new(sources: Vec<Source>, disabled: Vec<String>) -> (Self, Vec<RuleError>) {
        let mut all = pack_sources();
        all.extend(sources.iter().cloned());
        let (set, errors) = RuleSet::load_without(&all, &disabled);
        let (unsupported, wrong): (Vec<_>, Vec<_>) =
            errors.iter().cloned().partition(|error| error.unsupported);
        let chosen = Self {
            sources,
            disabled,
            set: Arc::new(set),
            unsupported: unsupported.len(),
            wrong,
        };
        (chosen, errors)
    }

    /// What the user added.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Ids and tags of what the user turned off.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.disabled
    }

    /// The rules that hold.
    #[must_use]
    pub const fn set(&self) -> &Arc<RuleSet> {
        &self.set
    }

    /// Rules that are about what this agent does not tell.
    #[must_use]
    pub const fn unsupported(&self) -> usize {
        self.unsupported
    }

    /// What is wrong with others.
    #[must_use]
    pub fn wrong(&self) -> &[RuleError] {
        &self.wrong
    }

    /// Words that turn nothing off: no rule is called so or has such a tag.
    #[must_use]
    pub fn idle_words(&self) -> Vec<&str> {
        let used = self.set.disabled_by();
        let idle = self.disabled.iter().map(String::as_str);
        idle.filter(|word| !used.contains(*word)).collect()
    }
}

/// How many rules are not supported, by what they lack.
#[must_use]
pub fn reasons(errors: &[RuleError]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for error in errors.iter().filter(|error| error.unsupported) {
        *counts.entry(error.lacks.clone()).or_default() += 1;
    }
    counts
}
