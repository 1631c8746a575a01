//! What no exception may be: a shape that an attacker inside the server can fill with a command, a script or a page of
//! their own.
//!
//! It is asked of every exception that is loaded, the shipped ones too. It knows the words of shells and what common
//! programs do with their arguments; what it does not know it takes for a program that does what it is told and
//! no more.

use super::template::{Kind, Part, Template};
use super::{Barrier, Exception, Place, Shape, Word};
use crate::detect::code::{application, code};
use crate::detect::roles::{self, Program};
use crate::enrich::docroot::path;

/// Where others than administrators write, or nobody knows who does.
const WRITABLE: &[&str] = &[
    "/tmp",
    "/var/tmp",
    "/dev",
    "/run",
    "/var/run",
    "/proc",
    "/sys",
    "/home",
    "/root",
    "/var/www",
    "/srv",
    "/mnt",
    "/media",
    "/var/lib",
    "/var/cache",
    "/var/spool",
    "/var/log",
];

/// Programs that run or fetch what their words say, beside shells and interpreters: none of their words may be open.
const OBEDIENT: &[&str] = &[
    "env",
    "xargs",
    "find",
    "nohup",
    "timeout",
    "setsid",
    "nice",
    "ionice",
    "stdbuf",
    "script",
    "flock",
    "unshare",
    "nsenter",
    "chroot",
    "proot",
    "sudo",
    "su",
    "doas",
    "runuser",
    "setpriv",
    "taskset",
    "watch",
    "strace",
    "ltrace",
    "gdb",
    "parallel",
    "busybox",
    "toybox",
    "curl",
    "wget",
    "fetch",
    "aria2c",
    "axel",
    "ftp",
    "tftp",
    "lftp",
    "scp",
    "sftp",
    "rsync",
    "ssh",
    "socat",
    "nc",
    "ncat",
    "netcat",
    "nc.openbsd",
    "nc.traditional",
    "telnet",
    "openssl",
    "git",
    "tar",
    "zip",
    "make",
    "gcc",
    "cc",
    "tcc",
    "ld",
    "as",
    "go",
    "rustc",
    "ed",
    "vi",
    "vim",
    "vim.basic",
    "emacs",
    "sed",
    "systemctl",
    "systemd-run",
    "crontab",
    "at",
    "batch",
    "docker",
    "kubectl",
    "crictl",
    "ctr",
    "nerdctl",
    "runc",
    "podman",
    "tee",
    "dd",
    "cp",
    "mv",
    "ln",
    "install",
    "base64",
    "xxd",
    "tcpdump",
    "rm",
    "chmod",
    "chown",
];

/// Commands of a shell after which another command stands.
const PREFIXES: &[&[u8]] = &[
    b"then", b"do", b"else", b"elif", b"if", b"while", b"until", b"!", b"exec", b"eval",
    b"command", b"builtin", b"time", b"source", b".", b"env", b"sudo", b"nohup", b"nice", b"xargs",
    b"timeout", b"setsid", b"trap",
];

/// Commands that every shell has itself, and that no function of the environment takes the place of (special
/// built-in utilities, POSIX.1-2017, 2.14).
const SPECIAL: &[&[u8]] = &[
    b":",
    b"exec",
    b"eval",
    b"exit",
    b"export",
    b"readonly",
    b"return",
    b"set",
    b"shift",
    b"times",
    b"trap",
    b"unset",
    b"if",
    b"then",
    b"else",
    b"elif",
    b"fi",
    b"for",
    b"while",
    b"until",
    b"do",
    b"done",
    b"case",
    b"esac",
    b"!",
    b"{",
    b"}",
];

/// What is wrong with an exception: what an attacker would do with it.
#[must_use]
pub fn lint(exception: &Exception) -> Vec<String> {
    let shape = &exception.shape;
    let mut wrong = Vec::new();
    if exception.rules.is_empty() {
        wrong.push("`rules` names none: say which rules it is about".to_owned());
    }
    match &shape.file {
        Some(file) => of_file(shape, file, &mut wrong),
        None => of_program(shape, &mut wrong),
    }
    for barrier in shape.despite.all() {
        if !Barrier::NAMED.contains(&barrier) {
            wrong.push(format!(
                "`despite: {}` is no everyday shape of anything",
                barrier.name()
            ));
        }
    }
    let is_remote = shape
        .despite
        .all()
        .any(|barrier| barrier == Barrier::RemoteStdio);
    if is_remote && (shape.server.is_none() || kind(shape).is_some()) {
        wrong.push(
            "`despite: [remote-stdio]` wants a server, and neither a shell nor an interpreter: that is what a reverse \
             shell looks like"
                .to_owned(),
        );
    }
    wrong
}

fn kind(shape: &Shape) -> Option<Program> {
    let names = shape.executables.iter().map(|path| roles::base(path));
    names.filter_map(called).next()
}

/// What kind of program a file of this name may be.
fn called(name: &[u8]) -> Option<Program> {
    let many = roles::is_multi_call(name) || roles::is_loader(name);
    roles::program_named(name).or(many.then_some(Program::Shell))
}

fn is_writable(path: &[u8]) -> bool {
    WRITABLE
        .iter()
        .any(|dir| path::is_within(path, dir.as_bytes()))
}

fn show(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

fn of_program(shape: &Shape, wrong: &mut Vec<String>) {
    if shape.executables.is_empty() || shape.argv.is_empty() {
        wrong.push(
            "a shape is a program with all its words (`executable` and `argv`), or a file (`file`): a server, a user or \
             a directory alone would let an attacker inside do anything"
                .to_owned(),
        );
        return;
    }
    if !shape.actions.is_empty() {
        wrong.push("`action` belongs to `file`".to_owned());
    }
    for executable in &shape.executables {
        if !super::template::is_plain_path(executable) {
            wrong.push(format!(
                "executable {} is not a whole path",
                show(executable)
            ));
        } else if is_writable(executable) && shape.known.sha256.is_none() {
            wrong.push(format!(
                "executable {} is where others may write: name its `sha256`, or a program elsewhere",
                show(executable)
            ));
        }
        if roles::is_loader(roles::base(executable)) {
            wrong.push(format!("{} runs whatever it is given", show(executable)));
        }
        match called(roles::base(executable)) {
            Some(Program::Shell) => of_shell(executable, &shape.argv, wrong),
            Some(Program::Interpreter) => of_interpreter(&shape.argv, shape, wrong),
            None => of_other(executable, &shape.argv, wrong),
        }
    }
    for word in &shape.argv {
        if let Word::Command(programs, _) = word
            && programs
                .iter()
                .any(|path| !super::template::is_plain_path(path) || is_writable(path))
        {
            wrong.push(
                "the `command` of a word is not a whole path, or where others may write: a caller's PATH would say what \
                 runs"
                    .to_owned(),
            );
        }
    }
}

fn templates(word: &Word) -> &[Template] {
    match word {
        Word::One(templates) | Word::Command(_, templates) => templates,
    }
}

fn is_exact(word: &Word) -> bool {
    matches!(word, Word::One(templates) if templates.iter().all(|template| template.exact().is_some()))
}

/// Whether one of the texts of a word is like this.
fn some(word: &Word, is: impl Fn(&[u8]) -> bool) -> bool {
    templates(word)
        .iter()
        .any(|template| is(template.beginning()))
}

/// A shell: `sh -c COMMAND …`, or `sh SCRIPT …`.
fn of_shell(executable: &[u8], argv: &[Word], wrong: &mut Vec<String>) {
    let name = roles::base(executable);
    let is_multi = roles::is_multi_call(name);
    let Some((zero, words)) = argv.split_first() else {
        return;
    };
    let called_sh = matches!(zero, Word::One(names) if names.iter().all(|name| {
        name.exact().is_some_and(|name| roles::base(name) == b"sh")
    }));
    if !called_sh && (is_multi || name.starts_with(b"bash")) {
        wrong.push(format!(
            "`argv` of {} begins with something else than sh: by another name it reads files and functions of its \
             environment (BASH_ENV), or is another program",
            show(executable)
        ));
    }
    match words {
        [flag, command, rest @ ..] if matches!(flag, Word::One(_)) && some(flag, |text| text.starts_with(b"-") && text.ends_with(b"c")) => {
            if !is_exact(flag) {
                wrong.push("the option before the command is not exact".to_owned());
            }
            let is_plain = matches!(name, b"dash" | b"ash") || is_multi;
            match command {
                Word::Command(_, options) => {
                    if options.iter().flat_map(Template::kinds).any(|kind| matches!(kind, Kind::PathBelow(dir) if is_writable(dir))) {
                        wrong.push("an option of the command may be any path where others may write".to_owned());
                    }
                }
                Word::One(commands) => {
                    for command in commands {
                        of_command(command, is_plain, wrong);
                    }
                }
            }
            open_paths(rest, wrong);
        }
        [script, rest @ ..] if is_exact(script) && some(script, |text| text.starts_with(b"/")) => {
            if some(script, is_writable) {
                wrong.push("the script is where others may write".to_owned());
            }
            open_paths(rest, wrong);
        }
        _ => wrong.push(
            "a shell without `-c COMMAND` or an exact absolute script does whatever it is told on its input".to_owned(),
        ),
    }
}

/// Words of which one may be any path where others write.
fn open_paths(words: &[Word], wrong: &mut Vec<String>) {
    let kinds = words.iter().flat_map(templates).flat_map(Template::kinds);
    for kind in kinds {
        if let Kind::PathBelow(dir) = kind
            && is_writable(dir)
        {
            wrong.push(format!(
                "<path-below:{}> is where others may write",
                show(dir)
            ));
        }
    }
}

/// A command in one word: what may stand where the shell looks for a program.
fn of_command(command: &Template, is_plain: bool, wrong: &mut Vec<String>) {
    // Each placeholder as one byte that no text has, so that the command can be read as words.
    let mut text = Vec::new();
    for part in &command.parts {
        match part {
            Part::Exact(exact) => text.extend_from_slice(exact),
            Part::Any(Kind::PathBelow(_)) => text.push(2),
            Part::Any(_) => text.push(1),
        }
    }
    if text.iter().all(u8::is_ascii_whitespace) {
        wrong.push("the command is empty".to_owned());
    }
    if text == b"--" {
        wrong.push("leave out the `--` before the command: it is compared without".to_owned());
    }
    let is_variable = |pair: &[u8]| matches!(pair, [b'$', next] if next.is_ascii_alphabetic() || matches!(next, b'_' | b'{'));
    if text.windows(2).any(is_variable) {
        wrong.push(
            "the command uses a variable: who runs it sets the environment, and so the command"
                .to_owned(),
        );
    }
    let is_comment = |at: usize| {
        text.get(at) == Some(&b'#')
            && at
                .checked_sub(1)
                .and_then(|before| text.get(before))
                .is_none_or(|before| before.is_ascii_whitespace() || b";&|(".contains(before))
    };
    if (0..text.len()).any(is_comment) {
        wrong.push("the command has a comment: that says nothing of what runs".to_owned());
    }
    let open = |word: &[u8]| word.iter().any(|byte| matches!(byte, 1 | 2));
    // Apart where the shell takes them apart.
    let mut spaced = Vec::new();
    for &byte in &text {
        if b";|&(){}`\n".contains(&byte) {
            spaced.extend([b' ', byte, b' ']);
        } else {
            spaced.push(byte);
        }
    }
    let mut begins = true;
    let mut program: &[u8] = b"";
    for word in spaced
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
    {
        if matches!(word, b";" | b"|" | b"&" | b"(" | b"`" | b"{" | b"$") {
            begins = true;
            continue;
        }
        if begins {
            if open(word) {
                wrong.push("a placeholder stands where the command's program does".to_owned());
            }
            let given: &[u8] = if word.starts_with(b"\"") {
                b"\"$"
            } else {
                b"$"
            };
            let is_given = word.strip_prefix(given).and_then(|rest| rest.first());
            if is_given.is_some_and(|byte| byte.is_ascii_digit() || b"@*".contains(byte)) {
                wrong.push("the command runs what the words after it say".to_owned());
            }
            program = word;
            let is_whole = word.starts_with(b"/");
            if is_whole && is_writable(word) {
                wrong.push(format!(
                    "the command runs {}, where others may write",
                    show(word)
                ));
            }
            if !is_whole && !is_plain && !SPECIAL.contains(&word) {
                wrong.push(format!(
                    "the command runs {} by a bare name: in bash a function of the environment takes its place; write \
                     the whole path",
                    show(word)
                ));
            }
            begins = PREFIXES.contains(&word);
        } else if open(word) {
            let base = roles::base(program);
            if called(base).is_some() || OBEDIENT.iter().any(|name| name.as_bytes() == base) {
                wrong.push(format!(
                    "{} gets a word that is open, and does what its words say",
                    show(program)
                ));
            } else if word.contains(&2) {
                wrong.push("a <path-below:…> in a command: name the path".to_owned());
            }
        }
    }
}

/// An interpreter: `python3 SCRIPT …`, `perl -e CODE`.
fn of_interpreter(argv: &[Word], shape: &Shape, wrong: &mut Vec<String>) {
    let words = argv.get(1..).unwrap_or_default();
    // Options, up to the script or the code.
    let is_option = |word: &&Word| some(word, |text| text.starts_with(b"-") || text.is_empty());
    let options = words.iter().take_while(is_option).count();
    let (before, after) = words.split_at(options);
    let Some((main, rest)) = after.split_first() else {
        wrong.push(
            "an interpreter without a script does whatever it is told on its input".to_owned(),
        );
        return;
    };
    if !before.iter().all(is_exact) || !is_exact(main) {
        wrong.push("an interpreter's options and its script or code have to be exact".to_owned());
        return;
    }
    let is_bare = |option: &Word| some(option, |text| matches!(text, b"-i" | b"-" | b"-s"));
    if before.iter().any(is_bare) {
        wrong.push("an interpreter that reads its input does whatever it is told there".to_owned());
    }
    let is_script = before.is_empty();
    if is_script && some(main, |text| !text.starts_with(b"/")) && shape.directory.is_none() {
        wrong.push(
            "the script's name is relative: name `directory` too, or the whole path".to_owned(),
        );
    }
    if some(main, |text| text.starts_with(b"/") && is_writable(text)) {
        wrong.push("the script is where others may write".to_owned());
    }
    let is_module = before
        .last()
        .is_some_and(|option| some(option, |text| text.ends_with(b"m")));
    if is_module && !matches!(&shape.directory, Some(Place::Exactly(dir)) if !is_writable(dir)) {
        wrong.push(
            "a module is looked for in the working directory first: name `directory`, where nobody else may write"
                .to_owned(),
        );
    }
    open_paths(rest, wrong);
}

fn of_other(executable: &[u8], argv: &[Word], wrong: &mut Vec<String>) {
    let name = roles::base(executable);
    let is_obedient = OBEDIENT.iter().any(|known| known.as_bytes() == name);
    let open = |word: &Word| {
        let kinds = templates(word).iter().flat_map(Template::kinds);
        kinds
            .into_iter()
            .any(|kind| !matches!(kind, Kind::Number | Kind::Hex))
            || matches!(word, Word::Command(..))
    };
    if is_obedient && argv.iter().any(open) {
        wrong.push(format!(
            "{} does what its words say: only <number> and <hex> may be open in them",
            show(executable)
        ));
    }
    if argv.iter().any(|word| matches!(word, Word::Command(..))) {
        wrong.push("`command` is for the word after a shell's -c".to_owned());
    }
}

fn of_file(shape: &Shape, file: &Template, wrong: &mut Vec<String>) {
    if !file.beginning().starts_with(b"/") {
        wrong.push("`file` is not a whole path".to_owned());
        return;
    }
    if !shape.argv.is_empty() && shape.executables.is_empty() {
        wrong.push("`argv` without `executable`".to_owned());
    }
    let Some(exact) = file.exact() else {
        open_file(shape, file, wrong);
        return;
    };
    if !super::template::is_plain_path(exact) {
        wrong.push("`file` has `.`, `..` or a slash too many".to_owned());
    }
}

/// A file whose path is open in places.
fn open_file(shape: &Shape, file: &Template, wrong: &mut Vec<String>) {
    let beginning = file.beginning();
    let depth = |path: &[u8]| {
        path.split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty())
            .count()
    };
    let directory = match file.parts.first() {
        Some(Part::Any(_)) => beginning,
        Some(Part::Exact(_)) | None => path::parent(beginning),
    };
    if depth(directory) < 2 {
        wrong.push(
            "`file` is open below the root directory or one of its own: name the directory"
                .to_owned(),
        );
    }
    let end = match file.parts.last() {
        Some(Part::Exact(text)) => text.as_slice(),
        Some(Part::Any(_)) | None => b"",
    };
    let name = end.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    // The name that an attacker would choose, as far as it is fixed: `<hex>.php` is `x.php`.
    let is_whole_name = end.contains(&b'/');
    let sample = if is_whole_name {
        name.to_vec()
    } else {
        [b"x".as_slice(), name].concat()
    };
    let is_code = code(&sample).is_some() || application(&sample).is_some();
    if !is_whole_name && !name.contains(&b'.') {
        wrong.push(
            "the end of `file` is open, so that any extension fits: end it in what the files are called".to_owned(),
        );
    }
    let is_free = |kind: &Kind| matches!(kind, Kind::Name | Kind::Email | Kind::PathBelow(_));
    if is_code && file.kinds().any(is_free) {
        wrong.push(
            "`file` is code by any name: that is what a web shell is called; only <number> and <hex> may be open in the \
             path of code"
                .to_owned(),
        );
    }
    if is_code
        && (shape.server.is_none() || shape.actions.is_empty() || shape.executables.is_empty())
    {
        wrong.push(
            "`file` is code by an open name: name `server`, `executable` and `action` too"
                .to_owned(),
        );
    }
}
