//! The shipped exceptions against their own samples and against attacks, and what is said of exceptions that are wrong.

use super::*;

fn errors(sources: &[Source]) -> Vec<String> {
    let (_, errors) = ExceptionSet::load(sources);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn the_shipped_ones_are_whole() {
    assert_eq!(errors(&shipped_sources()), [""; 0]);
    let rules = crate::detect::sigma::RuleSet::pack();
    for exception in ExceptionSet::shipped().all() {
        let id = &exception.id;
        assert!(
            !exception.suppressed.is_empty() && !exception.still_alerts.is_empty(),
            "{id}"
        );
        for rule in &exception.rules {
            assert!(rules.get(rule).is_some(), "{id}: there is no rule {rule}");
        }
    }
}

fn covered(rule: &str, deed: &Deed) -> Vec<String> {
    let set = ExceptionSet::shipped();
    let all = set.covering(rule, deed);
    all.map(|(_, exception)| exception.id.clone()).collect()
}

#[test]
fn each_lets_its_samples_through_and_not_their_twins() {
    for exception in ExceptionSet::shipped().all() {
        for rule in &exception.rules {
            for deed in &exception.suppressed {
                assert_eq!(covered(rule, deed).join(" "), exception.id, "{deed:?}");
            }
            for deed in &exception.still_alerts {
                assert_eq!(covered(rule, deed), [""; 0], "{deed:?}");
            }
        }
    }
}

/// What an attacker can make of a command that is let through.
fn twists(deed: &Deed) -> Vec<Deed> {
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut Deed)| {
        let mut other = deed.clone();
        change(&mut other);
        all.push(other);
    };
    let tails: &[&str] = &[
        ";id",
        "; id",
        " #healthcheck",
        "\nid",
        "\tid",
        "|sh",
        " | sh",
        "&id",
        "&& id",
        "$(id)",
        " $(id)",
        "`id`",
        " >/srv/www/x.php",
        " <(id)",
        " -X/srv/www/x.php",
        " ..",
        "/../../../tmp/x",
        " /tmp/x",
        "'",
        "\"",
        "\\",
        "\0",
        "\u{e9}",
        "*",
        "?",
        "~",
        "{a,b}",
        " --exec=id",
    ];
    for at in 0..deed.argv.len() {
        for tail in tails {
            with(&|deed| deed.argv[at].extend_from_slice(tail.as_bytes()));
            with(&|deed| {
                deed.argv[at].splice(0..0, tail.bytes());
            });
        }
        with(&|deed| deed.argv.insert(at, b"-x".to_vec()));
        with(&|deed| deed.argv.insert(at, b"-i".to_vec()));
        with(&|deed| {
            deed.argv.remove(at);
        });
    }
    with(&|deed| deed.argv.push(b"id".to_vec()));
    with(&|deed| deed.executable = b"/tmp/sh".to_vec());
    with(&|deed| deed.executable = [b"/srv", deed.executable.as_slice()].concat());
    with(&|deed| deed.file = Some((b"/srv/www/x.php".to_vec(), "created".to_owned())));
    for barrier in Barrier::ALL {
        with(&|deed| deed.barriers.set(*barrier, true));
    }
    all
}

#[test]
fn nothing_can_be_added_to_what_is_let_through() {
    let shipped = ExceptionSet::shipped();
    let all = shipped.all().iter();
    let known: Vec<Deed> = all.flat_map(|known| known.suppressed.clone()).collect();
    for exception in ExceptionSet::shipped().all() {
        for (rule, deed) in exception
            .rules
            .iter()
            .flat_map(|rule| exception.suppressed.iter().map(move |deed| (rule, deed)))
        {
            for twisted in twists(deed) {
                // One shipped command may be the beginning of another.
                if known.contains(&twisted) {
                    continue;
                }
                assert_eq!(
                    covered(rule, &twisted),
                    [""; 0],
                    "{}: {twisted:?}",
                    exception.id
                );
            }
        }
    }
}

fn one(lines: &str) -> Vec<String> {
    let text = format!(
        "- id: x\n  verb: suppress\n  owner: me\n  reason: it is done every night\n  expires: 2027-01-31\n  rules: [server-shell]\n  shape: {lines}\n"
    );
    errors(&[Source::new("x", "x.yml", &text)])
}

#[test]
fn what_an_attacker_can_fill_is_refused() {
    for (shape, word) in [
        (
            "{server: {name: nginx}}",
            "a server, a user or a directory alone",
        ),
        (
            "{user: 33, directory: /srv}",
            "a server, a user or a directory alone",
        ),
        (
            "{executable: /usr/bin/dash}",
            "a program with all its words",
        ),
        (
            "{executable: dash, argv: [sh, -c, /bin/x]}",
            "not a whole path",
        ),
        ("{executable: /tmp/x, argv: [x]}", "name its `sha256`"),
        (
            "{executable: /usr/bin/dash, argv: [sh]}",
            "does whatever it is told on its input",
        ),
        (
            "{executable: /usr/bin/dash, argv: [sh, -i]}",
            "does whatever it is told on its input",
        ),
        (
            "{executable: /usr/bin/dash, argv: [sh, /srv/x.sh]}",
            "the script is where others may write",
        ),
        (
            "{executable: /usr/bin/dash, argv: [sh, '<path-below:/opt>']}",
            "does whatever it is told",
        ),
        (
            "{executable: /usr/bin/dash, argv: [sh, -c, '/bin/true #healthcheck']}",
            "has a comment",
        ),
        (
            "{executable: /usr/bin/dash, argv: [sh, -c, '<name>']}",
            "where the command's program does",
        ),
        (
            "{executable: /usr/bin/dash, argv: [sh, -c, '/bin/true; <name>']}",
            "where the command's program does",
        ),
        (
            "{executable: /usr/bin/dash, argv: [sh, -c, 'exec <path-below:/opt>']}",
            "where the command's program does",
        ),
        (
            "{executable: /usr/bin/dash, argv: [sh, -c, 'curl <name>']}",
            "does what its words say",
        ),
        (
            "{executable: /usr/bin/dash, argv: [sh, -c, 'sh <name>']}",
            "does what its words say",
        ),
        (
            "{executable: /usr/bin/dash, argv: [sh, -c, '/bin/x <path-below:/opt>']}",
            "name the path",
        ),
        (
            "{executable: /usr/bin/dash, argv: [sh, -c, '$PAGER x']}",
            "uses a variable",
        ),
        (
            "{executable: /usr/bin/dash, argv: [sh, -c, '\"$@\"', sh, '<name>']}",
            "the words after it say",
        ),
        (
            "{executable: /usr/bin/dash, argv: [sh, -c, /tmp/x.sh]}",
            "where others may write",
        ),
        (
            "{executable: /usr/bin/bash, argv: [bash, -c, /bin/x]}",
            "something else than sh",
        ),
        (
            "{executable: /usr/bin/bash, argv: [sh, -c, 'uptime']}",
            "by a bare name",
        ),
        (
            "{executable: /usr/bin/dash, argv: [sh, -c, {command: sendmail, options: [-t]}]}",
            "PATH",
        ),
        (
            "{executable: /usr/bin/python3, argv: [python3]}",
            "without a script",
        ),
        (
            "{executable: /usr/bin/python3, argv: [python3, '-']}",
            "without a script",
        ),
        (
            "{executable: /usr/bin/python3, argv: [python3, /tmp/x.py]}",
            "where others may write",
        ),
        (
            "{executable: /usr/bin/python3, argv: [python3, '<path-below:/opt>']}",
            "have to be exact",
        ),
        (
            "{executable: /usr/bin/python3, argv: [python3, manage.py]}",
            "relative",
        ),
        (
            "{executable: /usr/bin/python3, argv: [python3, -m, pip]}",
            "working directory first",
        ),
        (
            "{executable: /usr/bin/curl, argv: [curl, 'https://<name>']}",
            "does what its words say",
        ),
        (
            "{executable: /usr/bin/find, argv: [find, '<path-below:/srv/www>']}",
            "does what its words say",
        ),
        (
            "{executable: /lib64/ld-linux-x86-64.so.2, argv: [ld.so, /bin/x]}",
            "whatever it is given",
        ),
        ("{file: 'x.php'}", "not a whole path"),
        (
            "{file: '/srv/www/<name>.php'}",
            "what a web shell is called",
        ),
        ("{file: '/srv/www/<path-below:/x>'}", "any extension"),
        ("{file: '/srv/www/cache/<name>'}", "any extension"),
        (
            "{file: '/srv/www/cache/<hex>.php'}",
            "name `server`, `executable` and `action`",
        ),
        ("{file: '/srv/<name>.png'}", "name the directory"),
        (
            "{executable: /usr/bin/dash, argv: [sh, -c, /bin/x], despite: [written]}",
            "no everyday shape",
        ),
        (
            "{executable: /usr/bin/dash, argv: [sh, -c, /bin/x], despite: [remote-stdio]}",
            "reverse",
        ),
        (
            "{executable: /usr/bin/convert, argv: ['<any>']}",
            "is no placeholder",
        ),
        (
            "{executable: /usr/bin/x, argv: [x], despite: [all]}",
            "all is none of",
        ),
        (
            "{executable: /usr/bin/x, argv: [x], user: www-data}",
            "the number of the user",
        ),
        (
            "{executable: /usr/bin/x, argv: [x], server: {role: webb}}",
            "no server has the role webb",
        ),
    ] {
        let told = one(shape).join("\n");
        assert!(told.contains(word), "{shape}: {told}");
        assert!(told.starts_with("x.yml:"), "{told}");
    }
}

#[test]
fn what_a_site_has_is_taken() {
    for shape in [
        "{executable: /usr/bin/dash, argv: [sh, -c, 'test ! -f /mnt/wal/<hex> && cp pg_wal/<hex> /mnt/wal/0']}",
        "{executable: /usr/bin/dash, argv: [sh, -c, '/usr/bin/convert <name>.png <number>.jpg']}",
        "{executable: /usr/bin/python3.11, argv: [python3, /opt/app/manage.py, clearsessions]}",
        "{executable: /opt/app/bin/worker, argv: [worker, --id, '<number>'], directory_below: /opt/app}",
        "{server: {name: php-fpm}, executable: /usr/sbin/php-fpm8.2, file: '/srv/www/cache/<hex>.php', action: [created, renamed]}",
        "{file: /srv/www/app/config.php, server: {name: php-fpm}}",
    ] {
        let told = one(shape);
        let is_wal = shape.contains("pg_wal");
        // cp copies what its words say: the WAL's name is a number, and that is all that is open.
        assert_eq!(told.is_empty(), !is_wal, "{shape}: {told:?}");
    }
}

#[test]
fn errors_name_the_place() {
    let text = "# mine\n\n- id: a\n  verb: supress\n";
    let told = errors(&[Source::new("x", "x.yml", text)]);
    assert!(
        told[0].starts_with("x.yml:4: ") && told[0].contains("supress"),
        "{told:?}"
    );
    let text = "- id: a\n  verb: suppress\n  owner: x\n  reason: it is as it is\n  expires: soon\n  rules: [a]\n  shape: {file: /srv/www/a.php}\n";
    let told = errors(&[Source::new("x", "x.yml", text)]);
    assert!(
        told[0].contains("write the last day as 2027-01-31"),
        "{told:?}"
    );
    let good = text.replace("soon", "never");
    let told = errors(&[
        Source::new("x", "x.yml", &good),
        Source::new("x", "y.yml", &good),
    ]);
    assert_eq!(told, ["y.yml:1: there is an exception a already, in x.yml"]);
}

#[test]
fn it_ends_with_its_day_and_counts() {
    let text = "- id: a\n  verb: ignore\n  owner: x\n  reason: it is as it is\n  expires: 1970-01-01\n  rules: [r]\n  shape: {file: /srv/www/a.php}\n";
    let (set, errors) = ExceptionSet::load(&[Source::new("x", "x.yml", text)]);
    assert_eq!(errors, []);
    let mut exceptions = Exceptions::default();
    exceptions.replace(Arc::new(set));
    let deed = Deed {
        file: Some((b"/srv/www/a.php".to_vec(), "created".to_owned())),
        ..Deed::default()
    };
    let day = 24 * 60 * 60 * 1_000_000_000;
    assert_eq!(
        exceptions.excuse("r", &deed, day - 1),
        Excuse::Now(Verb::Ignore)
    );
    assert_eq!(
        exceptions.excuse("s", &deed, 0),
        Excuse::None,
        "another rule"
    );
    assert_eq!(exceptions.excuse("r", &deed, day), Excuse::None);
    let hits: Vec<u64> = exceptions.hits().map(|(_, hits)| hits).collect();
    assert_eq!(hits, [1]);
    assert_eq!(
        exceptions.counts(),
        [
            ("exceptions", 1),
            ("alerts_excepted", 1),
            ("alerts_ignored", 1),
            ("alerts_of_expired_exceptions", 1)
        ]
    );
    exceptions.replace(ExceptionSet::shipped());
    assert!(exceptions.hits().all(|(_, hits)| hits == 0));
}

/// What every rule of the pack has to match, with the words that its sample has, as they may have been given.
#[test]
fn none_hides_an_attack_of_the_pack() {
    let shipped = ExceptionSet::shipped();
    let rules = crate::detect::sigma::RuleSet::pack();
    let mut compared = 0;
    for source in crate::detect::sigma::pack_sources() {
        let rule: serde_json::Value = serde_saphyr::from_str(&source.text).unwrap();
        let samples = rule["tracer"]["samples"]["match"]
            .as_array()
            .unwrap()
            .clone();
        for sample in samples {
            let text = |name: &str| sample[name].as_str().unwrap_or_default().to_owned();
            let line = text("CommandLine");
            let words: Vec<Vec<u8>> = line
                .split(' ')
                .map(|word| word.as_bytes().to_vec())
                .collect();
            let command = line.split_once(" -c ").map_or("id", |(_, command)| command);
            let by_shell = ["sh", "-c", command].map(|word| word.as_bytes().to_vec());
            let file = (!text("TargetFilename").is_empty())
                .then(|| (text("TargetFilename").into_bytes(), text("File.Action")));
            for argv in [words.clone(), by_shell.to_vec()] {
                for server in [
                    "nginx",
                    "php-fpm",
                    "postgresql",
                    "nagios",
                    "munin",
                    "lighttpd",
                    "python",
                ] {
                    let deed = Deed {
                        server: Some((server.to_owned(), "app")),
                        executable: text("Image").into_bytes(),
                        argv: argv.clone(),
                        file: file.clone(),
                        ..Deed::default()
                    };
                    for rule in rules.rules() {
                        let covering = shipped.covering(&rule.id, &deed);
                        assert_eq!(covering.count(), 0, "{}: {deed:?}", source.file);
                        compared += 1;
                    }
                }
            }
        }
    }
    assert!(compared > 0);
}
