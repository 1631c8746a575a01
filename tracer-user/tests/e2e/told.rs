//! What must be told where a story is about a technique and not about each fact of the alert: by which
//! rules it may be, of which server, and about which program or file.
//!
//! [`crate::alert::Expected`] asserts the facts of one alert to the last. Here as many alerts may come as
//! rules match, and none of another server or of another lineage than these tests' own.

use std::path::PathBuf;

use serde_json::Value;

use crate::alert::{self, text};
use crate::host::{self, Outcome, Skip};
use crate::scene::Scene;
use crate::server::Site;

/// A program of a server's lineage that nobody should run.
pub(crate) const RUN: &[&str] = &["server-shell", "server-dropped-exec"];
/// A program or library that a server's lineage wrote or has in memory, run or mapped.
pub(crate) const DROPPED: &[&str] = &[
    "server-dropped-exec",
    "server-fileless-exec",
    "server-library-load",
];
/// Code where it is served or where an application is, and what says how it is run.
pub(crate) const CODE: &[&str] = &[
    "server-code-write",
    "server-control-write",
    "database-code-write",
    "ftp-code-write",
];
/// A module, extension or configuration of a server.
pub(crate) const COMPONENT: &[&str] = &[
    "server-component-write",
    "server-plugin-write",
    "database-library-write",
];
/// Of Java's archives and classes it may be either.
pub(crate) const JAVA: &[&str] = &[
    "server-code-write",
    "server-component-write",
    "server-archive-write",
];
/// A program of a database server's lineage.
pub(crate) const DATABASE: &[&str] = &["database-shell"];

/// What at least one alert must say.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// Any of these rules.
    pub(crate) rules: &'static [&'static str],
    /// What `tracer.server.name` begins with: Debian's `redis-server` is a link to `redis-check-rdb`.
    pub(crate) server: &'static str,
    /// `file.path`
    pub(crate) file: Option<PathBuf>,
}

impl Told {
    pub(crate) fn of(rules: &'static [&'static str], server: &'static str) -> Self {
        Self {
            rules,
            server,
            file: None,
        }
    }

    pub(crate) fn file(mut self, file: PathBuf) -> Self {
        self.file = Some(file);
        self
    }

    fn says(&self, document: &Value) -> bool {
        let file = self.file.as_ref().map(|file| file.display().to_string());
        self.rules.contains(&text(document, "/rule/id"))
            && text(document, "/tracer/server/name").starts_with(self.server)
            && file.is_none_or(|file| text(document, "/file/path") == file)
    }
}

/// Does something and asserts that all of it is told, and nothing of another server.
pub(crate) fn expect(scene: &Scene, story: &str, told: &[Told], act: impl FnOnce()) {
    let alerts = scene.alerts_of(told.len(), act);
    let came: Vec<String> = alerts.iter().map(alert::brief).collect();
    for one in told {
        assert!(
            alerts.iter().any(|document| one.says(document)),
            "{story}: nothing says {one:?}; came: {came:#?}"
        );
    }
    let own = u64::from(std::process::id());
    for document in &alerts {
        let server = text(document, "/tracer/server/name");
        let named = told.iter().any(|one| server.starts_with(one.server));
        assert!(named, "{story}: of another server: {came:#?}");
        let pids = alert::lineage_pids(document);
        let whole = pids.contains(&own) && pids.last() == Some(&1);
        assert!(whole, "{story}: the chain {pids:?} of {document:#}");
        assert_eq!(
            text(document, "/tracer/integrity/state"),
            "complete",
            "{story}: {document:#}"
        );
    }
}

/// Does something that may be told or not, as documented: nothing else comes of it.
pub(crate) fn expect_at_most(scene: &Scene, story: &str, told: &Told, act: impl FnOnce()) {
    let alerts = scene.alerts_of(1, act);
    for document in &alerts {
        assert!(told.says(document), "{story}: {}", alert::brief(document));
    }
    host::say(&format!("{story}: told {} times", alerts.len()));
}

/// A technique by a page of PHP, which may be any text of it with these words:
/// `TOKEN` is what the answer must hold, `DIR` the site's folder, `PORT` its port.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) name: &'static str,
    pub(crate) rules: &'static [&'static str],
    /// What must be installed, by its path.
    pub(crate) needs: &'static [&'static str],
    pub(crate) php: &'static str,
    /// What is written, below the site's folder, and removed afterwards.
    pub(crate) file: Option<&'static str>,
}

/// What every page begins with: how to run a program without a shell and print what it says.
const PRELUDE: &str = "<?php
function run($argv, $input = '', $env = null) {
    $p = proc_open($argv, [['pipe', 'r'], ['pipe', 'w'], ['file', '/dev/null', 'w']], $io, null, $env);
    fwrite($io[0], $input); fclose($io[0]);
    echo stream_get_contents($io[1]); proc_close($p);
}
";

/// Puts a page into a site and gives its path and the word that its answer must hold.
pub(crate) fn put(site: &Site, php: &str) -> (String, String) {
    let token = host::token();
    let php = php
        .replace("TOKEN", &token)
        .replace("DIR", &site.dir().path().display().to_string())
        .replace("PORT", &site.port.to_string());
    let page = format!("{token}.php");
    site.page(&page, &format!("{PRELUDE}{php}\n"));
    (format!("/{page}"), token)
}

/// Skips where a program is missing.
pub(crate) fn need(paths: &[&str]) -> Outcome {
    match paths
        .iter()
        .find(|path| !std::path::Path::new(path).exists())
    {
        Some(path) => Err(Skip(format!("{path} is not installed"))),
        None => Ok(()),
    }
}

/// An attack by a page: it is told, and did what it claims.
pub(crate) fn attack(scene: &Scene, site: &Site, page: &Page) -> Outcome {
    need(page.needs)?;
    let (path, token) = put(site, page.php);
    let file = page.file.map(|name| site.dir().join(name));
    let mut told = Told::of(page.rules, site.server);
    told.file.clone_from(&file);
    expect(scene, page.name, &[told], || {
        let response = site.get(&path);
        assert!(response.body.contains(&token), "{path}: {response:?}");
        if let Some(file) = &file {
            assert!(file.is_file(), "{} was written", file.display());
        }
    });
    if let Some(file) = file {
        std::fs::remove_file(file).expect("what was written");
    }
    Ok(())
}

/// Ordinary work by a page: it did what it claims, and nothing is told.
pub(crate) fn ordinary(scene: &Scene, site: &Site, page: &Page) -> Outcome {
    need(page.needs)?;
    let (path, token) = put(site, page.php);
    scene.expect_silence(page.name, || {
        let response = site.get(&path);
        assert!(response.body.contains(&token), "{path}: {response:?}");
        if let Some(file) = page.file {
            assert!(site.dir().join(file).is_file(), "{file} was written");
        }
    });
    Ok(())
}
