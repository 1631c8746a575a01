//! From the text of a file to its exceptions.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_saphyr::Spanned;
use tracer_common::tag::Role;

use super::template::Template;
use super::{Barrier, Barriers, Deed, Exception, Known, Place, Shape, Verb, Word, lint::lint};
use crate::detect::sigma::{RuleError, Source};

/// Largest file of exceptions that is read, bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// An exception as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: Spanned<String>,
    verb: VerbWord,
    owner: String,
    reason: String,
    expires: String,
    rules: Vec<String>,
    shape: WrittenShape,
    #[serde(default)]
    samples: Samples,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum VerbWord {
    Suppress,
    Ignore,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenShape {
    server: Option<ServerWords>,
    executable: Option<OneOrMore<String>>,
    argv: Vec<WrittenWord>,
    directory: Option<String>,
    directory_below: Option<String>,
    image: Option<String>,
    sha256: Option<String>,
    package: Option<String>,
    user: Option<UserWord>,
    parent: Option<String>,
    file: Option<String>,
    action: Option<OneOrMore<String>>,
    despite: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerWords {
    name: Option<String>,
    role: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum UserWord {
    Number(u32),
    Name(String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

impl<T> OneOrMore<T> {
    fn all(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::More(all) => all,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenWord {
    Text(String),
    Any(Vec<String>),
    Command(CommandWords),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandWords {
    command: OneOrMore<String>,
    #[serde(default)]
    options: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Samples {
    suppressed: Vec<Sample>,
    still_alerts: Vec<Sample>,
}

/// Something done, as samples have it.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Sample {
    server: Option<String>,
    role: Option<String>,
    executable: String,
    argv: Vec<String>,
    directory: String,
    user: Option<u32>,
    parent: String,
    file: Option<String>,
    action: Option<String>,
    facts: Vec<String>,
}

/// Reads the exceptions of a file, each with its line; what is wrong is added to `errors`.
pub fn load(source: &Source, errors: &mut Vec<RuleError>) -> Vec<(usize, Exception)> {
    if source.text.len() > MAX_BYTES {
        errors.push(source.error(0, format!("it is larger than {MAX_BYTES} bytes; split it")));
        return Vec::new();
    }
    // One after another, so that what is wrong with one takes none of the others.
    let mut all = Vec::new();
    for (first, text) in entries(&source.text) {
        let written: Vec<Written> = match serde_saphyr::from_str(&text) {
            Ok(written) => written,
            Err(error) => {
                let at = error
                    .location()
                    .map_or(1, |at| usize::try_from(at.line()).unwrap_or(1));
                let message = error.to_string();
                let message = message.lines().next().unwrap_or_default().to_owned();
                errors.push(source.error(first + at - 1, message));
                continue;
            }
        };
        for written in written {
            let id = written.id.value.clone();
            match exception(written) {
                Ok(exception) => all.push((first, exception)),
                Err(wrong) => {
                    let told = wrong
                        .into_iter()
                        .map(|message| format!("exception {id}: {message}"));
                    errors.extend(told.map(|message| source.error(first, message)));
                }
            }
        }
    }
    all
}

/// The entries of the list that a file is, each with its first line.
fn entries(text: &str) -> Vec<(usize, String)> {
    let mut all: Vec<(usize, String)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let begins = line.starts_with("- ") || line == "-";
        let is_nothing = line.trim().is_empty() || line.starts_with('#') || line == "---";
        if begins || (all.is_empty() && !is_nothing) {
            all.push((at + 1, String::new()));
        }
        if let Some((_, entry)) = all.last_mut()
            && line != "---"
        {
            entry.push_str(line);
            entry.push('\n');
        }
    }
    all
}

fn exception(written: Written) -> Result<Exception, Vec<String>> {
    let one = |message: String| vec![message];
    let Written {
        id,
        verb,
        owner,
        reason,
        expires,
        rules,
        shape,
        samples,
    } = written;
    let is_word = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if id.value.is_empty() || !id.value.chars().all(is_word) {
        return Err(one("`id` is letters, digits and `-_.`".to_owned()));
    }
    if owner.trim().is_empty() {
        return Err(one("`owner` is empty: say who answers for it".to_owned()));
    }
    if reason.trim().len() < 10 {
        return Err(one(
            "`reason` says too little: why is this no attack?".to_owned()
        ));
    }
    let sample = |sample: Sample| sample.deed().map_err(one);
    let exception = Exception {
        id: id.value,
        verb: match verb {
            VerbWord::Suppress => Verb::Suppress,
            VerbWord::Ignore => Verb::Ignore,
        },
        owner,
        reason,
        until: until(&expires).map_err(one)?,
        rules,
        shape: shape.shape().map_err(one)?,
        suppressed: samples
            .suppressed
            .into_iter()
            .map(sample)
            .collect::<Result<_, _>>()?,
        still_alerts: samples
            .still_alerts
            .into_iter()
            .map(sample)
            .collect::<Result<_, _>>()?,
    };
    let wrong = lint(&exception);
    if wrong.is_empty() {
        Ok(exception)
    } else {
        Err(wrong)
    }
}

/// The end of a day, in UTC.
fn until(text: &str) -> Result<Option<i128>, String> {
    if text == "never" {
        return Ok(None);
    }
    let wrong = |_| format!("`expires` is {text}: write the last day as 2027-01-31, or `never`");
    let day: Date = text.parse().map_err(wrong)?;
    let after = day.tomorrow().map_err(wrong)?;
    let at = after.to_zoned(TimeZone::UTC).map_err(wrong)?;
    Ok(Some(at.timestamp().as_nanosecond()))
}

fn role(name: &str) -> Result<&'static str, String> {
    let known = Role::ALL.iter().find(|role| role.name() == name);
    known.map(|role| role.name()).ok_or_else(|| {
        let names: Vec<&str> = Role::ALL.iter().map(|role| role.name()).collect();
        format!(
            "no server has the role {name}; there are {}",
            names.join(", ")
        )
    })
}

fn barriers(words: &[String]) -> Result<Barriers, String> {
    let mut barriers = Barriers::default();
    for word in words {
        let known = Barrier::ALL.iter().find(|barrier| barrier.name() == word);
        let Some(barrier) = known else {
            let names: Vec<&str> = Barrier::ALL.iter().map(|barrier| barrier.name()).collect();
            return Err(format!("{word} is none of {}", names.join(", ")));
        };
        barriers.set(*barrier, true);
    }
    Ok(barriers)
}

impl WrittenShape {
    fn shape(self) -> Result<Shape, String> {
        let (server, server_role) = self
            .server
            .map_or((None, None), |server| (server.name, server.role));
        if let Some(name) = &server_role {
            role(name)?;
        }
        let directory = match (self.directory, self.directory_below) {
            (Some(_), Some(_)) => {
                return Err("`directory` or `directory_below`, not both".to_owned());
            }
            (Some(dir), None) => Some(Place::Exactly(dir.into_bytes())),
            (None, Some(dir)) => Some(Place::Below(dir.into_bytes())),
            (None, None) => None,
        };
        let user = match self.user {
            None => None,
            Some(UserWord::Number(number)) => Some(number),
            Some(UserWord::Name(name)) if name == "root" => Some(0),
            Some(UserWord::Name(name)) => {
                return Err(format!(
                    "`user` is {name}: write root or the number of the user"
                ));
            }
        };
        if let Some(hash) = &self.sha256
            && (hash.len() != 64
                || !hash
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
        {
            return Err("`sha256` is not 64 lower-case hexadecimal digits".to_owned());
        }
        let all = |words: Option<OneOrMore<String>>| words.map(OneOrMore::all).unwrap_or_default();
        Ok(Shape {
            server,
            role: server_role,
            executables: all(self.executable)
                .into_iter()
                .map(String::into_bytes)
                .collect(),
            argv: self
                .argv
                .into_iter()
                .map(WrittenWord::word)
                .collect::<Result<_, _>>()?,
            directory,
            user,
            parent: self.parent.map(String::into_bytes),
            file: self.file.as_deref().map(Template::parse).transpose()?,
            actions: all(self.action),
            known: Known {
                image: self.image,
                sha256: self.sha256,
                package: self.package,
            },
            despite: barriers(&self.despite)?,
        })
    }
}

impl WrittenWord {
    fn word(self) -> Result<Word, String> {
        let all = |texts: Vec<String>| {
            texts
                .iter()
                .map(|text| Template::parse(text))
                .collect::<Result<_, _>>()
        };
        Ok(match self {
            Self::Text(text) => Word::One(vec![Template::parse(&text)?]),
            Self::Any(texts) => Word::One(all(texts)?),
            Self::Command(CommandWords { command, options }) => {
                let programs = command.all().into_iter().map(String::into_bytes);
                Word::Command(programs.collect(), all(options)?)
            }
        })
    }
}

impl Sample {
    fn deed(self) -> Result<Deed, String> {
        let role = role(self.role.as_deref().unwrap_or("app"))?;
        Ok(Deed {
            server: self.server.map(|name| (name, role)),
            argv: Deed::words(
                self.executable.as_bytes(),
                &self
                    .argv
                    .into_iter()
                    .map(String::into_bytes)
                    .collect::<Vec<_>>(),
            ),
            executable: self.executable.into_bytes(),
            directory: self.directory.into_bytes(),
            user: self.user,
            parent: self.parent.into_bytes(),
            file: self
                .file
                .map(|path| (path.into_bytes(), self.action.unwrap_or_default())),
            barriers: barriers(&self.facts)?,
        })
    }
}
