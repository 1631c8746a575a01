//! One server's configuration, followed from its first file on, with what it names put together: bounded in
//! files, bytes, names, statements and time, and told where a bound was hit.

use std::collections::{HashMap, HashSet};
use std::io;
use std::rc::Rc;
use std::time::Instant;

use super::jail::Jail;
use super::plan::{Asked, Candidate, Plan, plan};
use super::{
    DiscoverRequest, Discovery, FILE_BYTES, FILES, Found, NAMES, PROBLEMS, Seen, TIME, canonical,
    shown,
};
use crate::enrich::docroot::directories::{Directories, too_wide};
use crate::enrich::docroot::parse::{self, Dialect, Statement, What, apache};
use crate::enrich::docroot::scope::{Scope, Shape};
use crate::enrich::docroot::{Kind, path};

/// Bytes at most of all of them.
const TOTAL_BYTES: usize = 16 * 1024 * 1024;
/// Levels of includes.
const LEVELS: usize = 8;
/// Statements at most that are followed: files that include each other multiply.
const STATEMENTS: usize = 262_144;
/// Directories at most that one server gives.
const DIRECTORIES: usize = 2048;
/// Things at most whose change is looked for.
const SEEN: usize = 2048;

/// One server's configuration, read from its first file on.
pub(super) struct Walk<'a> {
    jail: &'a Jail,
    discovery: &'a mut Discovery,
    scope: Scope,
    bases: Vec<Vec<u8>>,
    config_dir: Vec<u8>,
    /// The working directory of the server.
    cwd: Vec<u8>,
    /// Files by path: one that is included a hundred times (`fastcgi_params`) is read once.
    parsed: HashMap<Vec<u8>, Rc<Vec<Statement>>>,
    /// Directories named so far.
    named: HashSet<(Vec<u8>, Kind)>,
    /// Files of the configuration, and directories of which every file that fits a pattern is one.
    components: Vec<Vec<u8>>,
    pools: Vec<Vec<u8>>,
    bytes_left: usize,
    names_left: usize,
    statements_left: usize,
    deadline: Instant,
    /// A bound was hit and told: read no more.
    stopped: bool,
    /// The server is root's: nobody else says what its configuration means.
    of_root: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(jail: &'a Jail, discovery: &'a mut Discovery) -> Self {
        Self {
            jail,
            discovery,
            scope: Scope::default(),
            bases: Vec::new(),
            config_dir: Vec::new(),
            cwd: Vec::new(),
            parsed: HashMap::new(),
            named: HashSet::new(),
            components: Vec::new(),
            pools: Vec::new(),
            bytes_left: TOTAL_BYTES,
            names_left: NAMES,
            statements_left: STATEMENTS,
            deadline: Instant::now() + TIME,
            stopped: false,
            of_root: false,
        }
    }

    pub(super) fn server(&mut self, request: &DiscoverRequest, environ: &[u8]) {
        self.of_root = request.uid == 0;
        let args: Vec<&[u8]> = request.args.iter().map(Vec::as_slice).collect();
        let cwd = self.jail.inside(&request.cwd);
        let variables = environment(environ);
        let plan = plan(&Asked {
            server: request.server,
            args: &args,
            exe: self.jail.inside(&request.exe),
            cwd,
            environment: &variables,
        });
        for (name, value) in &variables {
            if *name == b"DOCUMENT_ROOT" && value.starts_with(b"/") {
                self.found(Kind::Served, value, "environment DOCUMENT_ROOT");
            }
        }
        for (kind, path, source) in &plan.directories {
            self.found(*kind, path, source);
        }
        self.cwd = cwd.to_vec();
        self.bases = vec![plan.base.clone().unwrap_or_else(|| cwd.to_vec())];
        self.config_dir = cwd.to_vec();
        self.scope = Scope::new(plan.dialect == Some(Dialect::Nginx));
        for (name, value) in &plan.variables {
            self.scope.define_literal(name, value);
        }
        if let Some((dialect, text)) = &plan.arguments {
            if *dialect == Dialect::Uwsgi {
                self.define(&variables);
            }
            let statements = Rc::new(dialect.parse(text));
            self.follow(*dialect, b"", "arguments of the server", &statements, 0);
        }
        if let Some(dialect) = plan.dialect
            && let Some(candidate) = self.choose(request, &plan)
        {
            // nginx and php-fpm do not fill in the environment; nor does Tomcat, without a property.
            if matches!(dialect, Dialect::Apache | Dialect::Caddy) {
                self.define(&variables);
            }
            if dialect == Dialect::Apache {
                self.envvars(&candidate, &variables);
            }
            for (name, value) in &plan.variables {
                self.scope.define_literal(name, value);
            }
            self.config_dir = path::parent(&candidate.file).to_vec();
            self.bases = candidate.bases;
            self.file(dialect, &candidate.file, 0, None);
        }
        for (dialect, pattern) in &plan.also {
            self.include(*dialect, pattern, 1, None);
        }
        self.applications(&plan);
        self.own_files();
    }

    fn define(&mut self, variables: &[(&[u8], &[u8])]) {
        for (name, value) in variables {
            self.scope.define_literal(name, value);
        }
    }

    /// Directories that are an application's because something of it is there.
    fn applications(&mut self, plan: &Plan) {
        for probe in &plan.probes {
            if probe
                .any
                .iter()
                .any(|file| self.jail.canonical(file).is_some())
            {
                self.found(Kind::Application, &probe.directory, probe.source);
            }
        }
        let mut modules = plan.modules.clone();
        for name in ["wsgi_app", "module", "wsgi"] {
            modules.extend(self.scope.get(name.as_bytes()).map(<[u8]>::to_vec));
        }
        let mut places = self.bases.clone();
        places.push(self.cwd.clone());
        for module in modules {
            let package = module
                .split(|byte| matches!(byte, b'.' | b':'))
                .next()
                .unwrap_or_default();
            let has = |place: &&Vec<u8>| {
                let directory = path::join(place, package);
                let file = [directory.as_slice(), b".py"].concat();
                !package.contains(&b'/')
                    && !package.is_empty()
                    && (self.jail.canonical(&file).is_some() || self.jail.is_dir(&directory))
            };
            // Of `/` it would be every directory of the host.
            let mut own = places.iter().filter(|place| !too_wide(place));
            if let Some(place) = own.find(has).cloned() {
                self.found(Kind::Application, &place, "directory of the module");
            }
        }
    }

    /// What the configuration consists of is a component of the server: whoever can write it says which
    /// modules are loaded and what is run.
    fn own_files(&mut self) {
        let mut known = Directories::default();
        known.add_defaults();
        let is_known = |path: &[u8]| {
            let found = known.lookup(0, path);
            found.is_some_and(|found| found.kind == Kind::Component)
        };
        for file in std::mem::take(&mut self.components) {
            // That file is the server's own note of what it runs, and not what somebody configured.
            if !is_known(&self.jail.outside(&file)) && path::name(&file) != b"autosave.json" {
                self.found(Kind::Component, &file, "a file of its configuration");
            }
        }
        let pools = std::mem::take(&mut self.pools);
        for directory in pools.iter().filter_map(|pool| path::normalise(pool)) {
            let outside = self.jail.outside(&directory);
            let holds = |found: &Found| {
                found.kind != Kind::Component && path::is_within(&found.path, &outside)
            };
            // Sites beside their configuration: then only what is there now counts.
            if !is_known(&outside) && !self.discovery.directories.iter().any(holds) {
                let source = "files of its configuration are taken from there";
                self.found(Kind::Component, &directory, source);
            }
        }
    }

    /// Notes what was looked at, so that its change is seen.
    fn see(&mut self, path: &[u8], by_content: bool) {
        if self.discovery.seen.len() < SEEN {
            self.discovery.seen.push(Seen {
                path: path.to_vec(),
                state: self.jail.state(path),
                by_content,
            });
        }
    }

    fn choose(&mut self, request: &DiscoverRequest, plan: &Plan) -> Option<Candidate> {
        let mut chosen = None;
        for candidate in &plan.candidates {
            if self.jail.canonical(&candidate.file).is_some() {
                chosen = Some(candidate.clone());
                break;
            }
            self.see(&candidate.file, true);
        }
        if chosen.is_none() && (plan.told || !(plan.optional || plan.candidates.is_empty())) {
            let files: Vec<_> = plan
                .candidates
                .iter()
                .take(3)
                .map(|c| shown(&c.file))
                .collect();
            let why = if plan.told {
                "which its arguments name, is not there"
            } else {
                "or where else it is usual: no configuration found"
            };
            let DiscoverRequest { server, tgid, .. } = request;
            self.problem(format!(
                "{server} (process {tgid}): {}, {why}; name its directories in `directories` of \
                 tracer's configuration",
                files.join(", ")
            ));
        }
        chosen
    }

    /// Debian's start script sets variables from this file; the environment, where it could be
    /// read, knows better.
    fn envvars(&mut self, candidate: &Candidate, environment: &[(&[u8], &[u8])]) {
        for base in &candidate.bases {
            let file = path::join(base, b"envvars");
            self.see(&file, true);
            let Ok(text) = self.jail.read(&file, FILE_BYTES) else {
                continue;
            };
            self.components.push(file);
            for (name, value) in apache::envvars(&text) {
                if !environment.iter().any(|(known, _)| *known == name) {
                    self.scope.define_literal(&name, &value);
                }
            }
        }
    }

    fn file(&mut self, dialect: Dialect, file: &[u8], level: usize, by: Option<&str>) {
        if self.stopped {
            return;
        }
        if level > LEVELS {
            let by = by.unwrap_or_default();
            self.problem(format!("{by}: includes are nested more than {LEVELS} deep"));
            return;
        }
        let statements = match self.statements(dialect, file) {
            Ok(statements) => statements,
            Err(error) => {
                let file = shown(&self.jail.outside(file));
                let by = by.map(|by| format!("{by}: ")).unwrap_or_default();
                self.problem(format!("{by}{file}: {error}"));
                return;
            }
        };
        let shown = shown(&self.jail.outside(file));
        self.follow(dialect, file, &shown, &statements, level);
    }

    /// What uwsgi's `%d` and its like are in this file.
    fn placeholders(&mut self, file: &[u8]) {
        let name = path::name(file);
        let end = name.iter().rposition(|&byte| byte == b'.');
        let stem = name.get(..end.unwrap_or(name.len())).unwrap_or_default();
        let directory = path::join(path::parent(file), b"");
        for (letter, value) in [
            (b"%d", directory.as_slice()),
            (b"%p", file),
            (b"%s", name),
            (b"%n", stem),
        ] {
            self.scope.define_literal(letter, value);
        }
    }

    fn follow(
        &mut self,
        dialect: Dialect,
        file: &[u8],
        shown: &str,
        statements: &[Statement],
        level: usize,
    ) {
        let of_root = self.of_root || (!file.is_empty() && self.jail.is_roots_alone(file));
        if dialect == Dialect::Uwsgi {
            self.placeholders(file);
        }
        for Statement { line, what } in statements {
            if self.statements_left == 0 {
                self.stop("its files include each other too often");
            }
            if self.stopped {
                return;
            }
            self.statements_left -= 1;
            let source = || format!("{shown}:{line}");
            match what {
                What::Define { name, value } => self.scope.define(name, value),
                What::Base { path } => match self.scope.directory(path, Shape::Directory) {
                    Ok(Some(base)) => self.bases = vec![base],
                    Ok(None) => {}
                    Err(name) => self.unknown(&source(), &name),
                },
                What::Directory { kind, path, shape } => match self.scope.directory(path, *shape) {
                    Ok(Some(real)) => {
                        // What a relative path and a variable mean is up to who started the server.
                        let certain = path.starts_with(b"/") && !path.contains(&b'$');
                        let of_root = of_root && (self.of_root || certain);
                        let kind = self.believed(*kind, of_root, &real, source);
                        self.directory(kind, &real, &source());
                    }
                    Ok(None) => {}
                    Err(name) => self.unknown(&source(), &name),
                },
                What::Include { pattern, required } => {
                    let pattern = match self.scope.expand(pattern) {
                        Ok(pattern) => pattern,
                        Err(name) => {
                            self.unknown(&source(), &name);
                            continue;
                        }
                    };
                    let base = match dialect {
                        Dialect::Caddy | Dialect::Postgres => path::parent(file),
                        Dialect::Uwsgi
                        | Dialect::Gunicorn
                        | Dialect::Mysql
                        | Dialect::Redis
                        | Dialect::PhpIni
                        | Dialect::Wildfly
                        | Dialect::Properties => &self.cwd,
                        Dialect::Apache | Dialect::PhpFpm => {
                            self.bases.first().map_or(b"/".as_slice(), Vec::as_slice)
                        }
                        Dialect::Nginx | Dialect::Lighttpd | Dialect::Tomcat => &self.config_dir,
                    };
                    let pattern = path::join(base, &pattern);
                    let by = required.then(source);
                    self.include(dialect, &pattern, level + 1, by.as_deref());
                    if dialect == Dialect::Uwsgi {
                        self.placeholders(file);
                    }
                }
            }
        }
    }

    fn include(&mut self, dialect: Dialect, pattern: &[u8], level: usize, by: Option<&str>) {
        let parent = path::parent(pattern);
        if path::is_glob(path::name(pattern)) && path::normalise(parent).is_some() {
            let is_plain = |segment: &[u8]| segment == b"*" || !path::is_glob(segment);
            if path::segments(parent).all(is_plain) && !self.pools.iter().any(|own| own == parent) {
                self.pools.push(parent.to_vec());
            }
        }
        for file in self.expand(pattern) {
            // Apache reads every file of a directory, at any depth.
            if dialect == Dialect::Apache && level <= LEVELS && self.jail.is_dir(&file) {
                self.include(dialect, &path::join(&file, b"*"), level + 1, None);
                continue;
            }
            // An optional include of nothing is no problem; of something unreadable it is.
            if by.is_none() && self.jail.canonical(&file).is_none() {
                continue;
            }
            self.file(dialect, &file, level, by);
        }
    }

    fn statements(&mut self, dialect: Dialect, file: &[u8]) -> io::Result<Rc<Vec<Statement>>> {
        if let Some(statements) = self.parsed.get(file) {
            return Ok(Rc::clone(statements));
        }
        if self.parsed.len() >= FILES {
            self.stop(&format!("has more than {FILES} files"));
        } else if Instant::now() > self.deadline {
            self.stop(&format!("took longer than {} s to read", TIME.as_secs()));
        } else if self.bytes_left == 0 {
            self.stop(&format!("has more than {TOTAL_BYTES} bytes"));
        }
        if self.stopped {
            return Err(io::Error::other("not read"));
        }
        self.see(file, true);
        let text = self.jail.read(file, FILE_BYTES.min(self.bytes_left))?;
        self.components.push(file.to_vec());
        self.bytes_left = self.bytes_left.saturating_sub(text.len());
        self.discovery.files += 1;
        let statements = Rc::new(dialect.parse(&text));
        if statements.len() >= parse::MAX_STATEMENTS {
            self.problem(format!("{}: cut, it is too long", shown(file)));
        }
        self.parsed.insert(file.to_vec(), Rc::clone(&statements));
        Ok(statements)
    }

    /// The files that a glob names, sorted.
    fn expand(&mut self, pattern: &[u8]) -> Vec<Vec<u8>> {
        let mut found = vec![Vec::new()];
        if !path::is_glob(pattern) {
            return path::normalise(pattern)
                .is_some()
                .then(|| pattern.to_vec())
                .into_iter()
                .collect();
        }
        for segment in path::segments(pattern) {
            if !path::is_glob(segment) {
                for prefix in &mut found {
                    prefix.push(b'/');
                    prefix.extend_from_slice(segment);
                }
                continue;
            }
            let mut next = Vec::new();
            for prefix in found {
                if Instant::now() > self.deadline || next.len() >= FILES {
                    break;
                }
                let directory = if prefix.is_empty() {
                    b"/"
                } else {
                    prefix.as_slice()
                };
                let directory = directory.to_vec();
                self.see(&directory, true);
                let Ok((names, more)) = self.jail.list(&directory, self.names_left) else {
                    continue;
                };
                self.names_left -= names.len();
                if more {
                    self.problem(format!("{}: too many names to look for", shown(pattern)));
                }
                let fit = names.iter().filter(|name| path::glob(segment, name));
                next.extend(fit.map(|name| [prefix.as_slice(), b"/", name.as_slice()].concat()));
            }
            found = next;
        }
        found
    }

    /// Programs of a `cgi` directory are let pass, so that counts only where root says so.
    fn believed(
        &mut self,
        kind: Kind,
        of_root: bool,
        path: &[u8],
        source: impl Fn() -> String,
    ) -> Kind {
        if kind != Kind::Cgi || of_root {
            return kind;
        }
        self.problem(format!(
            "{}: {} is taken for served, not for cgi: neither the server nor this file is root's alone",
            source(),
            shown(path)
        ));
        Kind::Served
    }

    /// A directory of a configuration, which may be relative.
    fn directory(&mut self, kind: Kind, path: &[u8], source: &str) {
        if path.starts_with(b"/") {
            self.found(kind, path, source);
            return;
        }
        let several = self.bases.len() > 1;
        for base in self.bases.clone() {
            let path = path::join(&base, path);
            if !several || self.jail.is_dir(&path) {
                self.found(kind, &path, source);
            }
        }
    }

    fn found(&mut self, kind: Kind, inside: &[u8], source: &str) {
        let named = path::normalise(inside).map(|path| self.jail.outside(&path));
        let led_to = canonical(self.jail, inside).filter(|path| Some(path) != named.as_ref());
        for path in [named, led_to].into_iter().flatten() {
            if too_wide(&path) {
                self.problem(format!(
                    "{source}: {} is too wide to watch, left out",
                    shown(&path)
                ));
                continue;
            }
            if self.named.len() >= DIRECTORIES {
                self.stop(&format!("names more than {DIRECTORIES} directories"));
                return;
            }
            if self.named.insert((path.clone(), kind)) {
                self.see(inside, false);
                self.discovery.directories.push(Found {
                    path,
                    kind,
                    source: source.to_owned(),
                });
            }
        }
    }

    fn unknown(&mut self, source: &str, name: &[u8]) {
        self.problem(format!(
            "{source}: the value of ${{{}}} is not known",
            shown(name)
        ));
    }

    fn problem(&mut self, problem: String) {
        match self.discovery.problems.len() {
            0..PROBLEMS => self.discovery.problems.push(problem),
            PROBLEMS => self
                .discovery
                .problems
                .push("and further problems".to_owned()),
            _ => {}
        }
    }

    fn stop(&mut self, why: &str) {
        if !self.stopped {
            self.stopped = true;
            self.problem(format!("its configuration {why}: the rest is left out"));
        }
    }
}

/// `NAME=value` strings of an environment.
fn environment(environ: &[u8]) -> Vec<(&[u8], &[u8])> {
    environ
        .split(|&byte| byte == 0)
        .filter_map(|variable| {
            let at = variable.iter().position(|&byte| byte == b'=')?;
            let (name, value) = variable.split_at_checked(at)?;
            Some((name, value.get(1..)?))
        })
        .take(1024)
        .collect()
}
