//! Rules for benchmarks: those of a directory, and made-up ones of the shapes that published rules for Linux have:
//! the ends of paths, words of command lines, all of several, regular expressions, filters, one of many selections, and some that ask for a server.

use std::fs;
use std::path::Path;

use tracer::detect::sigma::Source;

const NAMES: [&str; 50] = [
    "chmod",
    "curl",
    "wget",
    "base64",
    "crontab",
    "iptables",
    "rm",
    "nohup",
    "dd",
    "find",
    "python3",
    "perl",
    "nc",
    "gdb",
    "socat",
    "systemctl",
    "useradd",
    "cat",
    "grep",
    "ss",
    "netstat",
    "uname",
    "id",
    "whoami",
    "mount",
    "chattr",
    "chroot",
    "touch",
    "ufw",
    "setenforce",
    "at",
    "ip",
    "arp",
    "ping",
    "nmap",
    "git",
    "vim",
    "awk",
    "rsync",
    "ssh",
    "env",
    "flock",
    "xxd",
    "esxcli",
    "pkill",
    "kill",
    "mkfifo",
    "logname",
    "tcpdump",
    "unshare",
];

/// How many there are.
pub(crate) const COUNT: usize = 142;

/// They, in one text.
pub(crate) fn rules() -> Source {
    let mut text = String::new();
    let mut rule = |letter: char, number: usize, detection: String| {
        text.push_str(&format!(
            "title: {letter}{number}\nlogsource: {{product: linux, category: process_creation}}\n\
             level: low\ndetection:\n{detection}\n---\n"
        ));
    };
    for (i, name) in NAMES.iter().enumerate() {
        let words = format!("[' -x{i}', 'foo{i}', '--made-up-option-{i}=']");
        rule(
            'a',
            i,
            format!(
                "  sel:\n    Image|endswith: '/{name}'\n    CommandLine|contains: {words}\n  condition: sel"
            ),
        );
        rule(
            'b',
            i,
            format!(
                "  sel:\n    ParentImage|endswith: ['/{name}', '/x{name}']\n  \
                 sel2:\n    CommandLine|contains|all: ['bash{i}', '{name}']\n  \
                 filter:\n    Image|startswith: '/usr/{name}'\n  condition: sel and sel2 and not filter"
            ),
        );
        if i % 10 == 0 {
            rule(
                'c',
                i,
                format!(
                    "  sel:\n    CommandLine|re: '(?i)base{i}[0-9]+\\s+-d.*\\|'\n  \
                     sel3:\n    CommandLine|contains: ['/tmp/{name}.made-up', '/dev/tcp/{i}']\n  \
                     condition: 1 of sel*"
                ),
            );
        }
        if i % 4 == 0 && i < 48 {
            rule(
                'e',
                i,
                format!(
                    "  sel_tool:\n    Image|endswith: '/{name}'\n    CommandLine|contains|all: ['stop', 'agent{i}']\n  \
                     sel_other:\n    Image|endswith: ['/{name}-{i}', '/{name}{i}']\n  condition: 1 of sel_*"
                ),
            );
        }
        if i % 2 == 0 {
            rule(
                'd',
                i,
                format!(
                    "  sel:\n    Server.Role: [web, app]\n    Program.Kind: shell\n    \
                     Image|endswith: '/{name}'\n  condition: sel"
                ),
            );
        }
    }
    Source::new("synthetic", "synthetic.yml", &text)
}

/// Every rule of a directory and those below it.
pub(crate) fn directory(path: &Path) -> Vec<Source> {
    let mut all = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(directory(&path));
        } else if path.extension().is_some_and(|end| end == "yml") {
            let text = fs::read_to_string(&path).unwrap();
            all.push(Source::new("directory", path.to_string_lossy(), &text));
        }
    }
    all.sort_by(|one, other| one.file.cmp(&other.file));
    all
}
