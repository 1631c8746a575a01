//! Applications that a runtime runs: node, Python, Ruby, Perl, PHP, .NET; and gunicorn, uvicorn, uwsgi.
//!
//! An application is the directory of its script, or the working directory where that is shown to be
//! one: it has the module that is asked for, or the file that a project of its language begins with.

use super::{Asked, Candidate, Plan, Probe};
use crate::detect::roles;
use crate::enrich::docroot::parse::Dialect;
use crate::enrich::docroot::parse::command::{Options, Title, php_server};
use crate::enrich::docroot::{Kind, directories::too_wide, parse::uwsgi, path};

/// Files that are where an application begins.
const PROJECTS: &[&str] = &[
    "package.json",
    "manage.py",
    "pyproject.toml",
    "config.ru",
    "Gemfile",
    "composer.json",
    "artisan",
    "app.psgi",
    "deno.json",
];

/// Directories of programs and libraries that are no application's.
const SHARED: &[&[u8]] = &[
    b"/bin",
    b"/sbin",
    b"/lib",
    b"/usr/bin",
    b"/usr/sbin",
    b"/usr/lib",
    b"/usr/lib64",
    b"/usr/libexec",
    b"/usr/local/bin",
    b"/usr/local/sbin",
    b"/usr/local/lib",
    b"/snap",
];

/// Whatever a runtime runs.
pub(super) fn runtime(asked: &Asked<'_>) -> Plan {
    let mut plan = Plan::default();
    // What PHP's own server runs it serves.
    if php_server(asked.args).is_some() {
        return plan;
    }
    let args: Vec<Vec<u8>> = asked.args.iter().map(|arg| arg.to_vec()).collect();
    // PM2 runs a script in a script of its own.
    let script = asked
        .variable(b"pm_exec_path")
        .or_else(|| roles::script(&args));
    if let Some(script) = script.filter(|script| script.contains(&b'/') || script.contains(&b'.')) {
        let script = path::join(asked.cwd, script);
        let package = script
            .windows(b"/node_modules/".len())
            .position(|part| part == b"/node_modules/");
        let directory = match package {
            Some(at) => script.get(..at).unwrap_or_default(),
            None => path::parent(&script),
        };
        application(asked, directory, "directory of the script", &mut plan);
    }
    if is_own(asked, asked.cwd) {
        let files = PROJECTS.iter();
        plan.probes.push(Probe {
            any: files
                .map(|file| path::join(asked.cwd, file.as_bytes()))
                .collect(),
            directory: asked.cwd.to_vec(),
            source: "working directory of the application",
        });
    }
    // `python -m http.server -d DIRECTORY`
    if roles::script(&args) == Some(b"http.server") {
        let options = Options::new(asked.args, b"mbd");
        let told = options.short(b'd').or_else(|| options.long(b"directory"));
        let directory = path::join(asked.cwd, told.unwrap_or(b"."));
        let source = "arguments of http.server";
        plan.directories.push((Kind::Served, directory, source));
    }
    plan
}

fn application(asked: &Asked<'_>, directory: &[u8], source: &'static str, plan: &mut Plan) {
    if is_own(asked, directory) {
        let directory = directory.to_vec();
        plan.directories
            .push((Kind::Application, directory, source));
    }
}

/// Whether a directory is one application's: not a home, where everything else lies, too.
fn is_own(asked: &Asked<'_>, directory: &[u8]) -> bool {
    let Some(directory) = path::normalise(directory) else {
        return false;
    };
    let home = asked.variable(b"HOME").and_then(path::normalise);
    !too_wide(&directory)
        && home.as_ref() != Some(&directory)
        && path::parent(&directory) != b"/home"
        && !SHARED
            .iter()
            .any(|shared| path::is_within(&directory, shared))
}

/// gunicorn and the other servers of Python's interfaces, which import a module from a directory.
pub(super) fn python(asked: &Asked<'_>, title: &Title<'_>) -> Plan {
    let Asked { args, cwd, .. } = *asked;
    let of_environment = asked.variable(b"GUNICORN_CMD_ARGS").unwrap_or_default();
    let mut words: Vec<&[u8]> = args.iter().copied().skip(1).collect();
    words.extend(of_environment.split(|&byte| byte == b' '));
    let mut all: Vec<&[u8]> = vec![b"gunicorn"];
    all.extend(&words);
    let options = Options::new(&all, b"bwkcptugnDRe");
    let mut plan = Plan {
        base: Some(cwd.to_vec()),
        optional: true,
        ..Plan::default()
    };
    for (name, source) in [
        ("chdir", "argument --chdir"),
        ("app-dir", "argument --app-dir"),
        ("pythonpath", "argument --pythonpath"),
    ] {
        let list = options.long(name.as_bytes()).unwrap_or_default();
        for directory in list
            .split(|&byte| byte == b',')
            .filter(|path| !path.is_empty())
        {
            let directory = path::join(cwd, directory);
            application(asked, &directory, source, &mut plan);
        }
    }
    let told = options.long(b"config").or_else(|| options.short(b'c'));
    let told = told.map(|file| file.strip_prefix(b"file:").unwrap_or(file));
    if !told.is_some_and(|file| file.starts_with(b"python:")) {
        plan.dialect = Some(Dialect::Gunicorn);
        plan.told = told.is_some();
        plan.candidates = vec![Candidate {
            file: path::join(cwd, told.unwrap_or(b"gunicorn.conf.py")),
            bases: vec![cwd.to_vec()],
        }];
    }
    // Which of the words is the module, the file of that name tells.
    if let Title::Module(module) = title {
        words.push(module);
    }
    plan.modules = words
        .into_iter()
        .filter(|word| is_module(word))
        .map(<[u8]>::to_vec)
        .collect();
    plan
}

/// Whether a word can be `package.module:callable`.
fn is_module(word: &[u8]) -> bool {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.:()".contains(byte);
    word.first()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
        && word.iter().all(is_name)
        && word.len() < 256
}

/// uwsgi: every option may be an argument or in a file, and there may be many files.
pub(super) fn uwsgi(asked: &Asked<'_>) -> Plan {
    let Asked { args, cwd, .. } = *asked;
    let mut plan = Plan {
        base: Some(cwd.to_vec()),
        ..Plan::default()
    };
    let mut text = Vec::new();
    let mut words = args.iter().copied().skip(1).peekable();
    while let Some(word) = words.next() {
        let short: Option<&[u8]> = match word {
            b"-x" => Some(b"xml"),
            b"-y" => Some(b"yaml"),
            b"-j" => Some(b"json"),
            b"-w" => Some(b"module"),
            _ => None,
        };
        let Some(option) = word.strip_prefix(b"--").or(short) else {
            // A configuration may stand alone.
            let extension = path::name(word).rsplit(|&byte| byte == b'.').next();
            if matches!(
                extension,
                Some(b"ini" | b"xml" | b"yaml" | b"yml" | b"json")
            ) && !word.starts_with(b"-")
            {
                text.extend([b"ini=".as_slice(), word, b"\n"].concat());
            }
            continue;
        };
        let (name, value) = match option.iter().position(|&byte| byte == b'=') {
            Some(at) => (
                option.get(..at).unwrap_or_default(),
                option.get(at + 1..).unwrap_or_default(),
            ),
            None => {
                let value = words.next_if(|next| !next.starts_with(b"-"));
                (option, value.unwrap_or_default())
            }
        };
        if !value.contains(&b'\n') {
            text.extend([name, b"=", value, b"\n"].concat());
        }
    }
    plan.arguments = Some((Dialect::Uwsgi, text));
    if let Some(file) = asked.variable(b"UWSGI_INI").and_then(uwsgi::file) {
        plan.also.push((Dialect::Uwsgi, path::join(cwd, file)));
    }
    plan
}
