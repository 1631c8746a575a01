//! `docs/stories.md` is the list of all stories, made of their names: this keeps it so.

use std::fmt::Write as _;
use std::path::Path;

use crate::scene::Story;

const HEAD: &str = "# Stories

What the end-to-end tests do to real servers of Debian's packages, and with them. Each row is a story of
`tracer-user/tests/e2e`, which runs against one agent with the rules that are built in; each asserts that the attack or
the work did what it says. *An alert* is one with the facts or the rules that the story names, of this server and
through a whole chain of ancestors. `cargo test -p tracer-user --test e2e` refuses a table that is not the tests'
(`UPDATE_GOLDEN=1` writes it), `TRACER_E2E='word|another'` runs the stories with one of the words.
";

/// What is expected of a story, by its name.
const KINDS: &[(&str, &str, &str)] = &[
    (
        "missed: ",
        "Attacks that no rule tells yet",
        "Expected: an alert at most.",
    ),
    ("silent: ", "Ordinary work", "Expected: no alert at all."),
    (
        "noisy: ",
        "Ordinary work that is told",
        "Expected: at most an alert that is documented as a false one.",
    ),
];

/// Compares the table with the names, or writes it.
pub(crate) fn check(stories: &[Story]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/stories.md");
    let made = table(stories);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &made).expect("docs/stories.md");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == made,
        "docs/stories.md is not what the stories are: write it with UPDATE_GOLDEN=1"
    );
}

fn table(stories: &[Story]) -> String {
    let mut text = HEAD.to_owned();
    let kind = |name: &str| KINDS.iter().find(|(prefix, ..)| name.starts_with(prefix));
    let attacks: Vec<&str> = stories
        .iter()
        .map(|story| story.name.as_str())
        .filter(|name| kind(name).is_none())
        .collect();
    section(&mut text, "Attacks", "Expected: an alert.", &attacks);
    for (prefix, title, expected) in KINDS {
        let names: Vec<&str> = stories
            .iter()
            .filter_map(|story| story.name.strip_prefix(prefix))
            .collect();
        section(&mut text, title, expected, &names);
    }
    text
}

fn section(text: &mut String, title: &str, expected: &str, names: &[&str]) {
    let count = names.len();
    write!(
        text,
        "\n## {title}\n\n{count} stories. {expected}\n\n| server or host | what is done |\n| --- | --- |\n"
    )
    .expect("a text");
    for name in names {
        let (server, done) = name.split_once(": ").unwrap_or(("host", name));
        let done = done.replace('|', "\\|");
        writeln!(text, "| {server} | {done} |").expect("a text");
    }
}
