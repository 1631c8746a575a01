//! The two ends of a guest's serial line: the `/init` script that runs commands there, and the
//! reader that takes its output apart here.
//!
//! The line carries what the commands print, and between that lines of the form `@TOKEN word ...`.
//! The token is new for each boot, so no command can print such a line by accident, and an output
//! that was shown once (a log printed in a guest) is never taken for a marker.
//!
//! A file is fetched over the same line, and not shown.
//!
//! A command has ended only when its end marker came: a panic, a hang or a poweroff from within
//! leaves the marker out, and the boot counts as failed.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::fetch;

/// Something that the guest is told to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Runs a command; what it prints is shown as it comes.
    Run(Vec<OsString>),
    /// Runs a command; what it prints is kept and not shown.
    Quiet(Vec<OsString>),
    /// Hands out the file of this path; [`Outcome::file`] has it.
    Fetch(&'static str),
}

impl Order {
    /// Runs a command of plain words.
    pub(crate) fn run(line: &str) -> Self {
        Self::Run(words(line))
    }

    /// The same for a command whose output is not for people.
    pub(crate) fn quiet(line: &str) -> Self {
        Self::Quiet(words(line))
    }

    /// Runs a script.
    pub(crate) fn script(script: &str) -> Self {
        Self::Run(["sh", "-c", script].map(OsString::from).into())
    }
}

fn words(line: &str) -> Vec<OsString> {
    line.split(' ').map(OsString::from).collect()
}

/// What a boot brought.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    /// `uname -r`, once the guest's userland is up.
    pub(super) release: Option<String>,
    /// From the start of the reader to that moment.
    pub(super) boot: Option<Duration>,
    /// Commands that ended, in order.
    pub(super) commands: Vec<Outcome>,
    /// All commands ended and the guest said good-bye.
    pub(super) complete: bool,
}

/// One command that ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// As a shell counts: 128 and more for a signal, 127 for not found.
    pub(crate) status: u8,
    /// Both streams, in the order they were written. Bytes that are no text are replaced.
    pub(crate) output: String,
}

impl Outcome {
    /// The file that was fetched.
    pub(crate) fn file(&self) -> anyhow::Result<Vec<u8>> {
        if self.status != 0 {
            bail!("fetching a file from the guest: {}", self.output.trim_end());
        }
        fetch::decode(&self.output).context("fetching a file from the guest")
    }
}

/// A word that marks the control lines of one boot.
pub(super) fn token() -> String {
    let since_epoch = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    format!(
        "vm-{:x}-{:x}",
        std::process::id(),
        since_epoch.as_nanos() & u128::from(u64::MAX)
    )
}

/// How long a guest that said good-bye waits to be ended, in seconds.
const FAREWELL: u32 = 10;

/// `/init` of a guest, on a disk or not: mounts what a Linux system has mounted, runs the commands one after the other
/// with both streams on the second serial line, `/dev/LINE`, and powers off.
///
/// Applets of busybox are hard links and not symbolic ones, so that a program that starts `/bin/sh`
/// gets a process whose executable is `/bin/sh`, as on a real host. (A busybox shell that is given a
/// name without a slash starts itself instead: its child's executable is the shell's.)
///
/// Marks are printed by a process of their own: the end of an orphan interrupts what the first
/// process of a system writes, and the shell does not write it again.
pub(super) fn init_script(token: &str, line: &str, orders: &[Order]) -> Vec<u8> {
    let mut script = format!(
        r#"#!/bin/busybox sh
# Written for one boot by `cargo xtask vm`.
export PATH=/bin HOME=/root LANG=C.UTF-8 TERM=dumb USER=root
/bin/busybox --install /bin
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t securityfs securityfs /sys/kernel/security
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
hostname guest
ip link set lo up
cd /root
exec </dev/null >/dev/{line} 2>&1
stty -F /dev/{line} raw -echo
run() {{
    env printf '\n@{token} begin\n'
    "$@"
    env printf '\n@{token} end %s\n' "$?"
}}
quiet() {{
    env printf '\n@{token} begin quiet\n'
    "$@"
    env printf '\n@{token} end %s\n' "$?"
}}
fetch() {{
    env printf '\n@{token} begin quiet\n'
    {fetch}
    env printf '\n@{token} end %s\n' "$?"
}}
printf '\n@{token} ready %s\n' "$(uname -r)"
"#,
        fetch = fetch::SCRIPT
    )
    .into_bytes();
    for order in orders {
        let (function, words) = match order {
            Order::Run(command) => ("run", command.clone()),
            Order::Quiet(command) => ("quiet", command.clone()),
            Order::Fetch(path) => ("fetch", vec![OsString::from(path)]),
        };
        script.extend_from_slice(function.as_bytes());
        script.push(b' ');
        script.extend_from_slice(&quoted(&words));
        script.push(b'\n');
    }
    // What was left in the background must not talk into the farewell. stty waits until the line has
    // sent everything. Whoever hears the farewell ends the machine; only if nobody does, it ends
    // itself.
    script.extend_from_slice(
        format!(
            "stty -F /dev/{line} raw\nkill -9 -1\nenv printf '\\n@{token} done\\n'\n\
             stty -F /dev/{line} raw\nsleep {FAREWELL}\nexec >/dev/console 2>&1\npoweroff -f\n"
        )
        .as_bytes(),
    );
    script
}

/// Words as a POSIX shell reads them.
pub(super) fn quoted(words: &[OsString]) -> Vec<u8> {
    let mut line = Vec::new();
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            line.push(b' ');
        }
        quote(word.as_bytes(), &mut line);
    }
    line
}

/// Quotes a word for a POSIX shell: between single quotes nothing is special but themselves.
fn quote(word: &[u8], out: &mut Vec<u8>) {
    out.push(b'\'');
    for &byte in word {
        if byte == b'\'' {
            out.extend_from_slice(br"'\''");
        } else {
            out.push(byte);
        }
    }
    out.push(b'\'');
}

/// Takes the bytes of the serial line in any portions, shows the commands' output as it comes, and
/// keeps it by command.
pub(super) struct Reader {
    marker: Vec<u8>,
    started: Instant,
    /// A line without its end yet.
    line: Vec<u8>,
    /// Output of the running command, if one runs.
    output: Option<Vec<u8>>,
    /// What runs is a command, whose output people want to see.
    shown: bool,
    /// The end of the last line, held back: a marker brings a line end of its own along, so that it
    /// stands alone behind output that does not end with one.
    line_end_due: bool,
    transcript: Transcript,
}

impl Reader {
    /// A reader for the boot that `token` marks, which starts now.
    pub(super) fn new(token: &str) -> Self {
        Self {
            marker: format!("@{token} ").into_bytes(),
            started: Instant::now(),
            line: Vec::new(),
            output: None,
            shown: true,
            line_end_due: false,
            transcript: Transcript::default(),
        }
    }

    /// Takes the next bytes, and shows output on `show`.
    pub(super) fn feed(&mut self, bytes: &[u8], show: &mut dyn Write) -> io::Result<()> {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            match part.strip_suffix(b"\n") {
                Some(end) => {
                    self.line.extend_from_slice(end);
                    let line = std::mem::take(&mut self.line);
                    self.take_line(&line, show)?;
                }
                None => self.line.extend_from_slice(part),
            }
        }
        show.flush()
    }

    /// The guest said good-bye: nothing of interest follows.
    pub(super) fn complete(&self) -> bool {
        self.transcript.complete
    }

    /// What came, after the last byte. Output of a command that did not end is shown, not kept.
    pub(super) fn finish(mut self, show: &mut dyn Write) -> io::Result<Transcript> {
        if !self.line.is_empty() {
            let line = std::mem::take(&mut self.line);
            self.take_line(&line, show)?;
        }
        if self.line_end_due && self.shown {
            show.write_all(b"\n")?;
        }
        show.flush()?;
        Ok(self.transcript)
    }

    fn take_line(&mut self, line: &[u8], show: &mut dyn Write) -> io::Result<()> {
        if let Some(rest) = line.strip_prefix(self.marker.as_slice()) {
            self.take_marker(&String::from_utf8_lossy(rest), show)
        } else if let Some(output) = &mut self.output {
            let before = output.len();
            if self.line_end_due {
                output.push(b'\n');
            }
            self.line_end_due = true;
            output.extend_from_slice(line);
            match output.get(before..) {
                Some(new) if self.shown => show.write_all(new),
                _ => Ok(()),
            }
        } else {
            Ok(())
        }
    }

    fn take_marker(&mut self, rest: &str, show: &mut dyn Write) -> io::Result<()> {
        let (word, value) = rest.split_once(' ').unwrap_or((rest, ""));
        self.line_end_due = false;
        match word {
            "ready" => {
                self.transcript.release = Some(value.to_owned());
                self.transcript.boot = Some(self.started.elapsed());
            }
            "begin" => {
                self.output = Some(Vec::new());
                self.shown = value != "quiet";
            }
            "end" => {
                let (Some(output), Ok(status)) = (self.output.take(), value.parse()) else {
                    return Ok(());
                };
                if self.shown && output.last().is_some_and(|&byte| byte != b'\n') {
                    show.write_all(b"\n")?;
                }
                self.transcript.commands.push(Outcome {
                    status,
                    output: String::from_utf8_lossy(&output).into_owned(),
                });
            }
            "done" => self.transcript.complete = true,
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(command: &[&str]) -> Order {
        Order::Run(command.iter().map(OsString::from).collect())
    }

    /// Feeds a line in portions of `size` bytes; gives the transcript and what was shown.
    fn read(bytes: &[u8], size: usize) -> (Transcript, String) {
        let mut reader = Reader::new("T");
        let mut shown = Vec::new();
        for portion in bytes.chunks(size) {
            reader.feed(portion, &mut shown).unwrap();
        }
        let transcript = reader.finish(&mut shown).unwrap();
        (transcript, String::from_utf8(shown).unwrap())
    }

    #[test]
    fn output_comes_back_exactly() {
        // What a command prints → what is kept, what is shown.
        let rows = [
            ("", "", ""),
            ("a\n", "a\n", "a\n"),
            ("a", "a", "a\n"),
            ("\n", "\n", "\n"),
            ("a\n\nb", "a\n\nb", "a\n\nb\n"),
            ("@other end 0\n", "@other end 0\n", "@other end 0\n"),
            ("see @T end 0\n", "see @T end 0\n", "see @T end 0\n"),
        ];
        for (printed, kept, shown) in rows {
            let line = format!(
                "noise\n\n@T ready 6.1.0\n\n@T begin\n{printed}\n@T end 3\n\n@T done\nnoise\n"
            );
            for size in [1, 2, 7, 4096] {
                let (transcript, seen) = read(line.as_bytes(), size);
                let expected = Outcome {
                    status: 3,
                    output: kept.to_owned(),
                };
                assert_eq!(transcript.commands, [expected], "{printed:?} by {size}");
                assert_eq!(seen, shown, "{printed:?} by {size}");
                assert_eq!(transcript.release.as_deref(), Some("6.1.0"));
                assert!(transcript.boot.is_some());
                assert!(transcript.complete);
            }
        }
    }

    #[test]
    fn several_commands_are_kept_apart() {
        let line = b"\n@T ready x\n\n@T begin\none\n\n@T end 0\n\n@T begin\ntwo\n\n@T end 137\n";
        let (transcript, _) = read(line, 5);
        let got: Vec<_> = transcript
            .commands
            .iter()
            .map(|command| (command.status, command.output.as_str()))
            .collect();
        assert_eq!(got, [(0, "one\n"), (137, "two\n")]);
        assert!(!transcript.complete, "the guest never said it was done");
    }

    #[test]
    fn a_fetched_file_is_kept_and_not_shown() {
        let line = b"\n@T begin quiet\ncbf43926 /f\n313233343536373839\n\n@T end 0\n\
                     \n@T begin\nseen\n\n@T end 0\n\n@T begin quiet\ncrc32: gone\n\n@T end 1\n";
        let (transcript, shown) = read(line, 9);
        assert_eq!(shown, "seen\n");
        let [whole, seen, gone] = transcript.commands.as_slice() else {
            panic!("{transcript:?}");
        };
        assert_eq!(whole.file().unwrap(), b"123456789");
        assert!(seen.file().is_err());
        let error = gone.file().unwrap_err().to_string();
        assert!(error.contains("crc32: gone"), "{error}");
    }

    #[test]
    fn a_command_without_an_end_has_no_outcome() {
        let (transcript, shown) = read(b"\n@T ready x\n\n@T begin\nhalf a li", 3);
        assert_eq!(transcript.commands, []);
        assert_eq!(shown, "half a li\n");
        assert!(!transcript.complete);
    }

    #[test]
    fn an_end_that_makes_no_sense_is_no_success() {
        for end in ["@T end\n", "@T end x\n", "@T end 999\n", "@T end -1\n"] {
            let (transcript, _) = read(format!("\n@T begin\n\n{end}").as_bytes(), 64);
            assert_eq!(transcript.commands, [], "{end:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_do_not_stop_the_reader() {
        let mut line = b"\n@T begin\n".to_vec();
        line.extend_from_slice(&[0xff, 0x00, b'\n']);
        line.extend_from_slice(b"\n@T end 0\n");
        let mut reader = Reader::new("T");
        reader.feed(&line, &mut Vec::new()).unwrap();
        let transcript = reader.finish(&mut Vec::new()).unwrap();
        assert_eq!(transcript.commands[0].output, "\u{fffd}\0\n");
    }

    #[test]
    fn the_script_quotes_every_word() {
        let command = order(&["sh", "-c", "echo 'it'; $HOME `id`", ""]);
        let script = init_script("T", "ttyS1", &[command, Order::Fetch("/a b")]);
        let script = String::from_utf8(script).unwrap();
        assert!(script.contains("\nfetch '/a b'\n"), "{script}");
        assert!(script.starts_with("#!/bin/busybox sh\n"));
        assert!(
            script.contains("\nrun 'sh' '-c' 'echo '\\''it'\\''; $HOME `id`' ''\n"),
            "{script}"
        );
    }

    /// The markers of the script are the ones the reader knows: both ends, joined by a real shell.
    #[test]
    fn script_and_reader_agree() {
        let commands = [
            order(&["printf", "no line end"]),
            order(&["sh", "-c", "echo out; echo err >&2; exit 7"]),
            order(&["sh", "-c", "kill -9 $$"]),
        ];
        let script = String::from_utf8(init_script("T", "ttyS1", &commands)).unwrap();
        // From the definition of `run` to before the farewell: nothing there touches the system.
        let from = script.find("run() {").unwrap();
        let to = script.rfind("stty -F /dev/ttyS1 raw\nkill").unwrap();
        let shell = std::process::Command::new("sh")
            .args(["-c", &format!("exec 2>&1\n{}", &script[from..to])])
            .output()
            .unwrap();
        let (transcript, _) = read(&shell.stdout, 16);
        let got: Vec<_> = transcript
            .commands
            .iter()
            .map(|command| (command.status, command.output.as_str()))
            .take(2)
            .collect();
        assert_eq!(got, [(0, "no line end"), (7, "out\nerr\n")]);
        assert_eq!(transcript.commands[2].status, 137);
        assert!(transcript.release.is_some());
    }

    #[test]
    fn the_farewell_is_understood() {
        let script = String::from_utf8(init_script("T", "ttyS1", &[])).unwrap();
        let words = script.lines().find(|line| line.contains(" done")).unwrap();
        let shell = std::process::Command::new("sh")
            .args(["-c", words])
            .output()
            .unwrap();
        let mut reader = Reader::new("T");
        assert!(!reader.complete());
        reader.feed(&shell.stdout, &mut Vec::new()).unwrap();
        assert!(reader.complete());
    }

    #[test]
    fn tokens_differ() {
        assert_ne!(token(), {
            std::thread::sleep(Duration::from_nanos(1));
            token()
        });
    }
}
