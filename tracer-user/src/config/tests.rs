//! The file: every key, every mistake.

use super::*;
use crate::enrich::docroot::Directories;

fn parsed(text: &str) -> Result<Config, String> {
    parse(Path::new("t.yaml"), text.as_bytes())
        .map(|file| Config::merge(file, Flags::default()))
        .map_err(|error| error.to_string())
}

#[test]
fn the_example_has_every_key_and_its_default() {
    let example = include_str!("../../../deploy/tracer.example.yaml");
    assert_eq!(parsed(example), Ok(Config::default()));

    // The keys that serde knows, from the errors that list them.
    for section in [
        "",
        "rings:\n  ",
        "memory:\n  ",
        "enrichment:\n  ",
        "kubernetes:\n  ",
        "hash:\n  ",
        "directories:\n  ",
        "rules:\n  ",
        "state:\n  ",
        "exceptions:\n  ",
    ] {
        let error = parsed(&format!("{section}qqqqqqqqqqqq: 1\n")).unwrap_err();
        let (_, known) = error.split_once("known keys: ").unwrap();
        for key in known.split(", ") {
            let indent = if section.is_empty() { "" } else { "  " };
            let there = example
                .lines()
                .any(|line| line.starts_with(&format!("{indent}{key}:")));
            assert!(there, "{section}{key} is not in the example");
        }
    }
}

#[test]
fn every_key_arrives() {
    let text = "emit: all\nformat: pretty\noutput: /var/log/t.json\nbtf: /b\ntier: lsm\nrings:\n  \
        life_bytes: 65536\n  file_bytes: 131072\nfile_quota_per_second: 9\nmemory: {budget_bytes: 33554432}\norder_window_ms: 0\nenrichment: {wait_ms: 9, container_sockets: [/r.sock]}\nhash: {max_bytes: 7, max_written_bytes: 8}\n\
        kubernetes: {enabled: never, node_name: n, cluster_name: c, kubeconfig: /k, annotations: [a/b]}\n\
        directories:\n  served:\n    - /srv/app\n    - /home/*/www\n  component: [/opt/x/modules]\n  \
        cgi:\n  - /srv/cgi\n  application: [/srv/a]\n  any_writer: true\nexclude_default_directories: true\nrules: {directories: [/etc/r], disabled: [attack.t1059]}\nstate: {file: /run/x/s, seconds: 9}\ncontrol: {socket: /run/t/c}\nexceptions: {files: [/e/a.yml], directories: [/e/d]}\nincidents: {at_once: 3}\n";
    let directory = |pattern: &str, kind, line| ConfiguredDirectory {
        pattern: pattern.into(),
        kind,
        source: format!("t.yaml:{line}"),
    };
    let expected = Config {
        emit: Emit::All,
        format: Format::Pretty,
        output: Some("/var/log/t.json".into()),
        btf: Some("/b".into()),
        tier: TierChoice::Lsm,
        life_ring_bytes: Some(65_536),
        file_ring_bytes: Some(131_072),
        file_quota_per_second: 9,
        budget: Budget::new(33_554_432),
        order_window: Duration::ZERO,
        enrichment_wait: Duration::from_millis(9),
        kubernetes: Kubernetes {
            enabled: Enabled::Never,
            node_name: Some("n".into()),
            cluster_name: Some("c".into()),
            kubeconfig: Some("/k".into()),
            annotations: vec!["a/b".into()],
        },
        hash: HashLimits {
            executable: 7,
            written: 8,
        },
        container_sockets: vec!["/r.sock".into()],
        directories: vec![
            directory("/srv/app", Kind::Served, 17),
            directory("/home/*/www", Kind::Served, 18),
            directory("/srv/a", Kind::Application, 22),
            directory("/opt/x/modules", Kind::Component, 19),
            directory("/srv/cgi", Kind::Cgi, 21),
        ],
        any_writer: true,
        exclude_default_directories: true,
        rules: Rules {
            directories: vec!["/etc/r".into()],
            disabled: vec!["attack.t1059".into()],
        },
        exceptions: ExceptionPaths {
            files: vec!["/e/a.yml".into()],
            directories: vec!["/e/d".into()],
        },
        at_once: 3,
        state_file: Some("/run/x/s".into()),
        state_every: Duration::from_secs(9),
        control: Control::at("/run/t/c".into()),
    };
    assert_eq!(parsed(text), Ok(expected.clone()));
    let mut set = Directories::default();
    for entry in expected.directories() {
        set.add(entry);
    }
    assert_eq!(set.len(), 5, "no defaults");
    let hit = set.lookup(1, b"/home/bob/www/x.php").unwrap();
    assert_eq!((hit.kind, hit.source), (Kind::Served, "t.yaml:18"));

    let flags = Flags {
        emit: Some(Emit::Events),
        format: Some(Format::Json),
        output: Some("/o".into()),
        btf: Some("/c".into()),
        tier: Some(TierChoice::Tracepoint),
    };
    let file = parse(Path::new("t.yaml"), text.as_bytes()).unwrap();
    let merged = Config::merge(file, flags);
    assert_eq!(
        merged,
        Config {
            emit: Emit::Events,
            format: Format::Json,
            output: Some("/o".into()),
            btf: Some("/c".into()),
            tier: TierChoice::Tracepoint,
            ..expected
        }
    );
}

#[test]
fn a_state_is_kept_unless_it_is_said_not_to_be() {
    let file = |text| parsed(text).map(|config| config.state_file);
    assert_eq!(file("state: {file: null}"), Ok(None));
    assert_eq!(file("state:\n  file:\n"), Ok(None));
    assert_eq!(file("state: {seconds: 7}"), Ok(Some(STATE_PATH.into())));
    for wrong in ["here", "/", "''"] {
        let text = format!("state:\n  file: {wrong}\n");
        let error = parsed(&text).unwrap_err();
        assert!(
            error.contains("t.yaml:2: state.file: not an absolute"),
            "{error}"
        );
    }
    assert!(
        file("state: {seconds: 0}")
            .unwrap_err()
            .contains("state.seconds")
    );
}

#[test]
fn nothing_said_is_every_default() {
    for text in [
        "",
        "\n",
        "# emit: all\n",
        "rings:\ndirectories:\n  served:\n",
        "{}",
    ] {
        assert_eq!(parsed(text), Ok(Config::default()), "{text:?}");
    }
    assert!(
        Config::default().directories().len() > 100,
        "the defaults are in"
    );
}

#[test]
fn mistakes_name_line_key_and_remedy() {
    let page = rustix::param::page_size();
    for (text, expected) in [
        ("emit: all\nemitt: all\n", "t.yaml:2: unknown key \"emitt\"; did you mean \"emit\"?".to_owned()),
        (
            "rings:\n  life_byte: 4096\n",
            "t.yaml:2: unknown key \"life_byte\"; did you mean \"life_bytes\"?".to_owned(),
        ),
        (
            "memory:\n  # bound\n  wibble: 3\n",
            "t.yaml:3: unknown key \"wibble\"; known keys: budget_bytes".to_owned(),
        ),
        ("qqqq: /x\n", "t.yaml:1: unknown key \"qqqq\"; known keys: emit, format, output, btf, tier, rings, file_quota_per_second, memory, \
             order_window_ms, enrichment, kubernetes, hash, directories, exclude_default_directories, rules, exceptions, incidents, state, control".to_owned()),
        ("emit: alert\n", "t.yaml:1: emit: \"alert\" is not possible; did you mean \"alerts\"?".to_owned()),
        (
            "format: xml-ish\n",
            "t.yaml:1: format: \"xml-ish\" is not possible; one of: auto, json, pretty".to_owned(),
        ),
        (
            "\norder_window_ms: soon\n",
            "t.yaml:2: order_window_ms: expected a whole number that is not negative and below 4294967296"
                .to_owned(),
        ),
        (
            "order_window_ms: -1\n",
            "t.yaml:1: order_window_ms: expected a whole number that is not negative and below 4294967296"
                .to_owned(),
        ),
        ("enrichment:\n  container_sockets:\n    - /a\n    - b\n", "t.yaml:4: enrichment.container_sockets: \"b\" is not an absolute path; begin it with /".to_owned()),
        ("enrichment: {wait_ms: 10001}\n", "t.yaml:1: enrichment.wait_ms: 10001 is not from 0 to 10000".to_owned()),
        ("hash: {max_bytes: 1073741825}\n", "t.yaml:1: hash.max_bytes: 1073741825 is not from 0 to 1073741824".to_owned()),
        ("order_window_ms: 5001\n", "t.yaml:1: order_window_ms: 5001 is not from 0 to 5000".to_owned()),
        ("exclude_default_directories: maybe\n",
            "t.yaml:1: exclude_default_directories: expected true or false".to_owned()),
        ("control:\n  socket: tracer.sock\n",
            "t.yaml:2: control.socket: \"tracer.sock\" is not an absolute path; begin it with /, or write null for no \
             socket".to_owned()),
        ("emit: all\nemit: alerts\n", "t.yaml:2: key \"emit\" is given twice; keep one".to_owned()),
        (
            "rings:\n  life_bytes: 100000\n",
            format!(
                "t.yaml:2: rings.life_bytes: 100000 is not a power of two from {page} (one page) to \
                 1073741824; 131072 is"
            ),
        ),
        (
            "rings: {file_bytes: 16}\n",
            format!(
                "t.yaml:1: rings.file_bytes: 16 is not a power of two from {page} (one page) to \
                 1073741824; {page} is"
            ),
        ),
        (
            "rings: {file_bytes: 2147483648}\n",
            format!(
                "t.yaml:1: rings.file_bytes: 2147483648 is not a power of two from {page} (one page) \
                 to 1073741824; 1073741824 is"
            ),
        ),
        (
            "file_quota_per_second: 1000001\n",
            "t.yaml:1: file_quota_per_second: 1000001 is not from 0 to 1000000".to_owned(),
        ),
        (
            "memory:\n  budget_bytes: 10\n",
            "t.yaml:2: memory.budget_bytes: 10 is not from 16777216 to 68719476736".to_owned(),
        ),
        ("output: \"\"\n", "t.yaml:1: output: an empty path; name a file, or leave the key out".to_owned()),
        (
            "directories:\n  served:\n    - /srv\n    - srv/app\n",
            "t.yaml:4: directories.served: \"srv/app\" is not an absolute path; begin it with /".to_owned(),
        ),
        (
            "directories:\n  cgi: [/home/*.d/x]\n",
            "t.yaml:2: directories.cgi: in \"/home/*.d/x\", * has to be a whole segment, as in /home/*/www"
                .to_owned(),
        ),
        (
            "directories:\n  component: [/*/x]\n",
            "t.yaml:2: directories.component: \"/*/x\" begins with *; name its first directory".to_owned(),
        ),
        (
            "directories:\n  served: [/srv/../x]\n",
            "t.yaml:2: directories.served: \"/srv/../x\" has a . or .. in it; write the path without"
                .to_owned(),
        ),
        (
            "directories:\n  served: [/var/]\n",
            "t.yaml:2: directories.served: \"/var/\" is a whole system directory; name the directory in it \
             that is meant"
                .to_owned(),
        ),
    ] {
        assert_eq!(parsed(text), Err(expected), "{text:?}");
    }
    // These messages are partly the YAML reader's own: line, key and one line are ours.
    for (text, start) in [
        ("emit: [a\n", "t.yaml:"),
        ("- a\n- b\n", "t.yaml:1:"),
        ("emit: all\n---\nemit: all\n", "t.yaml:"),
        (
            "directories:\n  served: /srv\n",
            "t.yaml:2: directories.served: expected ",
        ),
        ("rings: 5\n", "t.yaml:1: rings: expected "),
        ("output: [1]\n", "t.yaml:1: output: expected "),
        ("a: &a [*a]\n", "t.yaml:1: "),
    ] {
        let error = parsed(text).unwrap_err();
        assert!(error.starts_with(start), "{text:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let error = parse(Path::new("t.yaml"), b"emit: all\n# \xff\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "t.yaml:2: not UTF-8 text; save the file as UTF-8"
    );
}

#[test]
fn files_that_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let large = directory.path().join("large.yaml");
    std::fs::write(&large, vec![b'#'; MAX_BYTES + 1]).unwrap();
    for (file, expected) in [
        (large, "longer than 1048576 bytes"),
        (
            directory.path().join("none.yaml"),
            "No such file or directory (os error 2)",
        ),
        (directory.path().to_owned(), "not a regular file"),
        (PathBuf::from("/dev/zero"), "not a regular file"),
    ] {
        let error = Config::load(Some(&file)).unwrap_err();
        let expected = format!(
            "{}: cannot read the configuration: {expected}",
            file.display()
        );
        assert_eq!(error.to_string(), expected);
    }
    let good = directory.path().join("good.yaml");
    std::fs::write(&good, "emit: events\n").unwrap();
    let file = Config::load(Some(&good)).unwrap();
    assert_eq!((file.emit, file.path), (Some(Emit::Events), Some(good)));
}

#[test]
fn a_control_socket_is_named_or_turned_off() {
    let control = |text: &str| parsed(text).map(|config| config.control);
    let default = Control::default();
    assert!(!default.required);
    assert_eq!(control("control:\n"), Ok(default.clone()));
    assert_eq!(control("control: {socket: null}\n"), Ok(Control::off()));
    assert_eq!(
        control(&format!("control:\n  socket: {CONTROL_SOCKET}\n")),
        Ok(default)
    );
    assert_eq!(
        control("control:\n  socket: /x/y\n"),
        Ok(Control::at("/x/y".into()))
    );
}
