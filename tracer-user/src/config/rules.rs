//! `rules`: which rules hold beside those that ship with the agent, and which do not.

use std::path::PathBuf;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::check::{Fault, line};
use crate::detect::sigma::{MAX_DISABLED, MAX_WORD};

/// Directories of rules at most.
const MAX_DIRECTORIES: usize = 64;

/// `rules`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileRules {
    /// Directories of Sigma rules, absolute paths, at most 64: none by default.
    pub directories: Option<Vec<Spanned<PathBuf>>>,
    /// Rules that are not evaluated, by id or by tag: none by default.
    pub disabled: Option<Vec<Spanned<String>>>,
}

/// The same, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Directories of Sigma rules.
    pub directories: Vec<PathBuf>,
    /// Ids and tags of rules that are not evaluated.
    pub disabled: Vec<String>,
}

impl FileRules {
    pub(super) fn settings(self) -> Rules {
        let paths = self.directories.into_iter().flatten();
        let words = self.disabled.into_iter().flatten();
        Rules {
            directories: paths.map(|path| path.value).collect(),
            disabled: words.map(|word| word.value).collect(),
        }
    }
}

impl Rules {
    /// Whether the pack alone holds, and all of it.
    #[must_use]
    pub const fn is_default(&self) -> bool {
        self.directories.is_empty() && self.disabled.is_empty()
    }
}

pub(super) fn check(config: &FileRules) -> Result<(), Fault> {
    for (index, path) in config.directories.iter().flatten().enumerate() {
        let key = "rules.directories";
        let fault = if index >= MAX_DIRECTORIES {
            format!("{key}: more than {MAX_DIRECTORIES} of them; put one below the other")
        } else if path.value.is_absolute() {
            continue;
        } else {
            let path = &path.value;
            format!("{key}: {path:?} is not an absolute path; begin it with /")
        };
        return Err((line(path), fault));
    }
    for (index, word) in config.disabled.iter().flatten().enumerate() {
        let key = "rules.disabled";
        let fault = if index >= MAX_DISABLED {
            format!("{key}: more than {MAX_DISABLED} of them; turn a tag off instead")
        } else if (1..=MAX_WORD).contains(&word.value.len()) {
            continue;
        } else {
            format!(
                "{key}: not the id or tag of a rule, which has 1 to {MAX_WORD} bytes; see `tracer rules list`"
            )
        };
        return Err((line(word), fault));
    }
    Ok(())
}
