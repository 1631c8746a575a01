//! Sigma rules: which of them match a case.
//!
//! Rules are kept by the kind of event that they are about, so that an event visits no others; within a kind they are
//! indexed by `rsigma-eval`. All that match are told. Refuses rules that name what no event has: the error says where,
//! and what is called almost so.

mod load;
pub mod profile;
pub mod samples;

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, LazyLock};

use include_dir::{Dir, include_dir};
use rsigma_eval::{Engine, Event};
use rsigma_parser::SigmaRule;

pub use self::load::{RuleError, Source};
use crate::rule::Rule;

/// The rules that ship with the agent.
static PACK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/rules");

/// What the rules of the pack are said to be from.
pub const PACK_NAME: &str = "tracer";

/// The kinds of events that rules are about: the category of a Sigma rule's log source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Category {
    /// A process executed a program.
    ProcessCreation,
    /// A file got content or a name: created, opened for writing, written to, renamed, linked, mounted over.
    FileEvent,
    /// A file that was there got other content, rights or owners.
    FileChange,
    /// A file was renamed.
    FileRename,
    /// A name of a file was removed.
    FileDelete,
    /// A process connected to another, or took a connection.
    NetworkConnection,
    /// A program or library was mapped to be executed.
    ImageLoad,
    /// A process reached into another.
    ProcessAccess,
    /// A process got other users, groups or capabilities.
    PrivilegeChange,
}

impl Category {
    /// Every category.
    pub const ALL: &[Self] = &[
        Self::ProcessCreation,
        Self::FileEvent,
        Self::FileChange,
        Self::FileRename,
        Self::FileDelete,
        Self::NetworkConnection,
        Self::ImageLoad,
        Self::ProcessAccess,
        Self::PrivilegeChange,
    ];

    /// Its word in `logsource.category`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProcessCreation => "process_creation",
            Self::FileEvent => "file_event",
            Self::FileChange => "file_change",
            Self::FileRename => "file_rename",
            Self::FileDelete => "file_delete",
            Self::NetworkConnection => "network_connection",
            Self::ImageLoad => "image_load",
            Self::ProcessAccess => "process_access",
            Self::PrivilegeChange => "privilege_change",
        }
    }
}

/// Rules that were loaded together. They are replaced whole or not at all.
pub struct RuleSet {
    rules: Vec<Arc<Rule>>,
    /// By category, in the order of [`Category::ALL`].
    engines: Vec<Engine>,
    by_id: HashMap<String, Arc<Rule>>,
    /// Rules that are not evaluated: they, or one of their tags, were turned off.
    disabled: Vec<Arc<Rule>>,
}

impl fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.rules.iter().map(|rule| &rule.id);
        f.debug_list().entries(ids).finish()
    }
}

impl RuleSet {
    /// The pack alone.
    #[must_use]
    pub fn pack() -> Arc<Self> {
        static SET: LazyLock<Arc<RuleSet>> = LazyLock::new(|| {
            // What is wrong in the pack a test finds; at run time the others still hold.
            let (set, _errors) = RuleSet::load(&pack_sources());
            Arc::new(set)
        });
        Arc::clone(&SET)
    }

    /// Reads rules. Those with errors are left out and told.
    #[must_use]
    pub fn load(sources: &[Source]) -> (Self, Vec<RuleError>) {
        Self::load_without(sources, &[])
    }

    /// Reads rules. Those with errors are left out and told; so are those whose id or whose tag is one of `disabled`,
    /// which are not evaluated ([`Self::disabled`]).
    #[must_use]
    pub fn load_without(sources: &[Source], disabled: &[String]) -> (Self, Vec<RuleError>) {
        let mut set = Self::empty();
        let mut errors = Vec::new();
        for source in sources {
            for loaded in load::load(source, &mut errors) {
                if disabled.iter().any(|word| is_of(&loaded, word)) {
                    set.disabled.push(Arc::new(loaded.rule));
                } else if let Err(error) = set.add(source, loaded) {
                    errors.push(error);
                }
            }
        }
        set.index();
        (set, errors)
    }

    /// Rules that are added singly are looked at for each event until there are many of them: this puts all of them
    /// into the index.
    fn index(&mut self) {
        for engine in &mut self.engines {
            let none: [&SigmaRule; 0] = [];
            let _nothing_to_compile = engine.add_rules(none);
        }
    }

    /// No rule at all.
    fn empty() -> Self {
        Self {
            rules: Vec::new(),
            engines: Category::ALL.iter().map(|_| Engine::new()).collect(),
            by_id: HashMap::new(),
            disabled: Vec::new(),
        }
    }

    /// Adds a rule; `None` where it is about no kind of event that there is an engine for.
    fn add(
        &mut self,
        source: &Source,
        loaded: load::Loaded,
    ) -> Result<Option<Arc<Rule>>, RuleError> {
        let load::Loaded {
            rule,
            sigma,
            category,
            line,
            ..
        } = loaded;
        let key = rule.id.to_string();
        if let Some(other) = self.by_id.get(&key) {
            let message = format!(
                "there is a rule {key} already, in {}; give one of them another name",
                other.file
            );
            return Err(source.error(line, message));
        }
        let Some(engine) = self.engines.get_mut(category as usize) else {
            return Ok(None);
        };
        engine
            .add_rule(&sigma)
            .map_err(|error| source.error(line, error.to_string()))?;
        let rule = Arc::new(rule);
        self.by_id.insert(key, Arc::clone(&rule));
        self.rules.push(Arc::clone(&rule));
        Ok(Some(rule))
    }

    /// The rules that were turned off, in the order in which they were read.
    #[must_use]
    pub fn disabled(&self) -> &[Arc<Rule>] {
        &self.disabled
    }

    /// Every rule, in the order in which they were read.
    #[must_use]
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// A rule by its id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Arc<Rule>> {
        self.by_id.get(id)
    }

    /// The rules of a category that match, in the order in which they were read.
    pub fn matching<E: Event>(&self, category: Category, event: &E) -> Vec<Arc<Rule>> {
        let Some(engine) = self.engines.get(category as usize) else {
            return Vec::new();
        };
        let results = engine.evaluate(event);
        let ids = results
            .iter()
            .filter_map(|result| result.header.rule_id.as_ref());
        ids.filter_map(|id| self.by_id.get(id)).cloned().collect()
    }

    /// Whether any rule is about this category.
    #[must_use]
    pub fn has(&self, category: Category) -> bool {
        self.engines
            .get(category as usize)
            .is_some_and(|engine| engine.rule_count() > 0)
    }
}

/// Whether a rule is called so, or has this tag.
fn is_of(loaded: &load::Loaded, word: &str) -> bool {
    *loaded.rule.id == *word
        || loaded.rule.uuid.as_deref() == Some(word)
        || loaded.tags.iter().any(|tag| tag == word)
}

/// The pack as a table in markdown, for the documentation.
#[must_use]
pub fn reference_markdown() -> String {
    let mut out = String::from(
        "| rule | name | level | ATT&CK | data sources | `event.action` | known benign causes |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for rule in RuleSet::pack().rules() {
        let techniques: Vec<&str> = rule
            .techniques
            .iter()
            .map(|technique| &*technique.specific().0)
            .collect();
        let _infallible = writeln!(
            out,
            "| `{}` | {} | {} | {} | {} | `{}` | {} |",
            rule.id,
            rule.name,
            rule.level.name(),
            techniques.join(", "),
            rule.data_sources.join(", "),
            rule.action,
            rule.false_positives.join(" ")
        );
    }
    out
}

/// The files of the pack.
#[must_use]
pub fn pack_sources() -> Vec<Source> {
    let mut sources = Vec::new();
    let mut dirs = vec![&PACK];
    while let Some(dir) = dirs.pop() {
        dirs.extend(dir.dirs());
        for file in dir.files() {
            let path = file.path().to_string_lossy().into_owned();
            if let Some(text) = file.contents_utf8()
                && path.ends_with(".yml")
            {
                sources.push(Source::new(PACK_NAME, path, text));
            }
        }
    }
    sources.sort_by(|one, other| one.file.cmp(&other.file));
    sources
}

#[cfg(test)]
mod tests;
