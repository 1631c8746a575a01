//! `tracer rules`, and rules of a configuration.

use super::*;

const RULE: &str = "title: A server runs id\nname: mine\n\
    logsource: {product: linux, category: process_creation}\ndetection:\n  s:\n    Server.Role|exists: true\n    \
    Image|endswith: /id\n  condition: s\nlevel: low\ntags: [attack.discovery, attack.t1033]\n";
const SAMPLES: &str = "tracer:\n  samples:\n    match: [{Server.Role: web, Image: /usr/bin/id}]\n    \
    pass: [{Image: /usr/bin/id}]\n";
const NO_SUCH_FIELD: &str = "title: Other\nname: other\nlogsource: {product: linux, category: process_creation}\n\
    detection:\n  s:\n    Hashes|contains: abc\n  condition: s\n";

struct Home {
    dir: TempDir,
}

impl Home {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("rules")).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join("rules").join(name), text).unwrap();
        }
        Self { dir }
    }

    fn rules(&self) -> String {
        self.dir.path().join("rules").display().to_string()
    }

    /// A configuration with the directory, and these turned off.
    fn config(&self, disabled: &str) -> String {
        let path = self.dir.path().join("t.yaml");
        let rules = self.rules();
        let text = format!(
            "rules: {{directories: [{rules}], disabled: [{disabled}]}}\nstate: {{file: null}}\n"
        );
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// What a command prints, without the directory's name.
    fn said(&self, output: &Output) -> String {
        stdout(output).replace(&format!("{}/", self.rules()), "")
    }
}

#[test]
fn the_pack_keeps_its_samples() {
    let home = Home::new(&[]);
    let output = tracer(["rules", "test", "--config", &home.config("")]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("ok     server-shell: "), "{said}");
    assert!(
        said.trim_end()
            .ends_with(" 0 failed, 0 unsupported, 0 wrong"),
        "{said}"
    );
}

#[test]
fn a_rule_without_samples_is_untested() {
    let home = Home::new(&[("a.yml", RULE)]);
    let output = tracer(["rules", "test", &home.rules()]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        home.said(&output),
        "FAILED mine: 0 to match, 0 to pass\n       \
         a.yml:1: untested: add tracer.samples.match with an event that it has to match\n       \
         a.yml:1: untested: add tracer.samples.pass with an event that it must not match\n\
         1 rule tested, 1 failed, 0 unsupported, 0 wrong\n"
    );
}

#[test]
fn recordings_are_tests_too() {
    let home = Home::new(&[("a.yml", &[RULE, SAMPLES].concat())]);
    let capture = story().display().to_string();
    let args = ["rules", "test", &home.rules(), "--capture", &capture];
    let output = tracer(args);
    let said = home.said(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.starts_with("ok     mine: 1 to match, 1 to pass\n"),
        "{said}"
    );
    assert!(said.contains(" events: mine "), "{said}");
    let output = tracer(args.iter().chain(&["--expect", "mine"]));
    assert_eq!(output.status.code(), Some(0));
    let other = RULE.replace("/id", "/never");
    fs::write(
        home.dir.path().join("rules/a.yml"),
        [&other, SAMPLES].concat().replace("bin/id", "bin/never"),
    )
    .unwrap();
    let output = tracer(args.iter().chain(&["--expect", "mine"]));
    let said = home.said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.ends_with("FAILED mine: no recording makes it alert\n"),
        "{said}"
    );
    let output = tracer(args.iter().chain(&["--expect", "nobody"]));
    assert!(failed(&output, 2).contains("no rule that is tested is called so"));
}

#[test]
fn what_is_wrong_fails_and_what_is_unsupported_does_not() {
    let home = Home::new(&[
        ("a.yml", RULE),
        ("b.yml", NO_SUCH_FIELD),
        (
            "c.yml",
            "title: Windows\nlogsource: {product: windows, category: process_creation}\ndetection:\n  s: {Image: x}\n  condition: s\n",
        ),
    ]);
    let output = tracer(["rules", "check", &home.rules()]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        home.said(&output),
        "unsupported: b.yml:6: unknown field Hashes; the nearest that events of process_creation have is User\n\
         unsupported: c.yml:2: logsource.product is windows, and this is a Linux host\n\
         loaded 1, unsupported 2, wrong 0\n  \
         unsupported 1: field Hashes\n  \
         unsupported 1: logsource windows process_creation\n"
    );
    let output = tracer(["rules", "check", "--strict", &home.rules()]);
    assert_eq!(output.status.code(), Some(1));

    fs::write(home.dir.path().join("rules/d.yml"), RULE).unwrap();
    fs::write(
        home.dir.path().join("rules/e.yml"),
        RULE.replace("mine", "server-shell"),
    )
    .unwrap();
    let output = tracer(["rules", "check", &home.rules()]);
    assert_eq!(output.status.code(), Some(1));
    let said = home.said(&output);
    assert!(
        said.contains("\nd.yml:1: there is a rule mine already, in a.yml"),
        "{said}"
    );
    assert!(
        said.contains("\ne.yml:1: there is a rule server-shell already, in "),
        "{said}"
    );
    assert!(
        said.contains("\nloaded 1, unsupported 2, wrong 2\n"),
        "{said}"
    );
    let output = tracer(["rules", "check", "--without-pack", &home.rules()]);
    assert!(
        home.said(&output)
            .contains("\nloaded 2, unsupported 2, wrong 1\n")
    );
}

#[test]
fn the_list_says_what_is_turned_off() {
    let home = Home::new(&[("a.yml", RULE), ("b.yml", NO_SUCH_FIELD)]);
    let config = home.config("mine, attack.t1505.001, nobody");
    let output = tracer(["rules", "list", "--format", "json", "--config", &config]);
    assert_eq!(output.status.code(), Some(0));
    let rows: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let row = |id: &str| rows.iter().find(|row| row["id"] == id).unwrap();
    assert_eq!(row("mine")["enabled"], false);
    assert_eq!(row("mine")["techniques"], serde_json::json!(["T1033"]));
    assert_eq!(row("mine")["file"], format!("{}/a.yml", home.rules()));
    assert_eq!(row("database-shell")["enabled"], false);
    assert_eq!(row("server-shell")["enabled"], true);
    assert_eq!(row("server-shell")["ruleset"], "tracer");
    let said = stderr(&output);
    assert!(said.contains("1 rule not supported and left out"), "{said}");
    assert!(said.contains("no rule is called \"nobody\""), "{said}");
    let output = tracer(["rules", "list", "--config", &config]);
    let text = stdout(&output);
    let line = text.lines().find(|line| line.starts_with("mine ")).unwrap();
    assert!(
        line.contains(" disabled ") && line.contains(" T1033 "),
        "{line}"
    );
}

#[test]
fn coverage_has_a_row_of_each_technique() {
    let home = Home::new(&[("a.yml", &[RULE, SAMPLES].concat())]);
    let output = tracer(["rules", "coverage", &home.rules()]);
    assert_eq!(output.status.code(), Some(0));
    let row = "| T1033 System Owner/User Discovery | `mine` | 1 | 1 | samples alone |";
    assert!(stdout(&output).contains(row), "{}", stdout(&output));
}

#[test]
fn replay_takes_other_rules() {
    let home = Home::new(&[("a.yml", RULE)]);
    let capture = story().display().to_string();
    let args = [
        "replay",
        &capture,
        "--format",
        "json",
        "--rules",
        &home.rules(),
    ];
    let output = tracer(args);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains("\"id\":\"mine\""));
    fs::write(home.dir.path().join("rules/b.yml"), "title: [\n").unwrap();
    let output = tracer(args);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(said.contains("rules/b.yml:"), "{said}");
    assert!(
        said.contains("1 error in the rules of rules.directories"),
        "{said}"
    );
}

#[test]
fn an_agent_does_not_start_with_a_wrong_rule() {
    let home = Home::new(&[("a.yml", "title: Mine\nlogsource: [\n")]);
    let output = tracer(["run", "--config", &home.config("")]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(said.contains("rules/a.yml:"), "{said}");
    assert!(said.contains("see `tracer rules check`"), "{said}");
}
