//! The rules of the pack against their own samples, and what is said of rules that are wrong.

use serde_json::Value;

use super::*;

#[test]
fn the_pack_is_whole() {
    let (set, errors) = RuleSet::load(&pack_sources());
    assert_eq!(errors, []);
    assert_eq!(set.rules().len(), pack_sources().len());
    for rule in set.rules() {
        assert!(
            rule.uuid.is_some() && !rule.techniques.is_empty(),
            "{}",
            rule.id
        );
        assert!(
            !rule.data_sources.is_empty() && !rule.false_positives.is_empty(),
            "{}",
            rule.id
        );
    }
}

fn rule(lines: &str) -> Vec<String> {
    let text = format!("title: A rule\nid: 1\n{lines}");
    let (_, errors) = RuleSet::load(&[Source::new("x", "x.yml", &text)]);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let detection = "detection:\n  s:\n    Imag|endswith: /sh\n  condition: s\n";
    let of = |source: &str| rule(&format!("logsource: {{{source}}}\n{detection}"));
    let linux = "product: linux, category: process_creation";
    assert_eq!(
        of(linux),
        ["x.yml:6: unknown field Imag; the nearest that events of process_creation have is Image"]
    );
    assert_eq!(
        of("product: windows, category: process_creation"),
        ["x.yml:3: logsource.product is windows, and this is a Linux host"]
    );
    let [error] = &of("product: linux, category: dns_query")[..] else {
        panic!("one error");
    };
    assert!(
        error.starts_with("x.yml:3: logsource.category dns_query is not told"),
        "{error}"
    );
    let [error] = &rule(&format!(
        "logsource: {{{linux}}}\ndetection:\n  s:\n    Image|ends: x\n  condition: s\n"
    ))[..] else {
        panic!("one error");
    };
    assert_eq!(
        error,
        "x.yml:6: unknown modifier ends; the nearest is endswith"
    );
    let [error] = &rule(&format!(
        "logsource: {{{linux}}}\ndetection:\n  s:\n    Image: x\n  condition: s and\n"
    ))[..] else {
        panic!("one error");
    };
    assert!(error.starts_with("x.yml:7: Condition parse"), "{error}");
    assert_eq!(
        rule(&format!(
            "logsource: {{{linux}}}\ndetection:\n  s:\n    User|expand: '%admins%'\n  condition: s\n"
        )),
        ["x.yml:6: the modifier expand is not supported: write the values themselves"]
    );
    let [error] = &rule("logsource: [\n")[..] else {
        panic!("one error");
    };
    assert!(error.starts_with("x.yml:"), "{error}");
}

#[test]
fn a_name_is_given_once() {
    let text = "title: A\nname: a\nlogsource: {product: linux, category: process_creation}\n\
                detection: {s: {Image: /x}, condition: s}\n";
    let sources = [
        Source::new("x", "1.yml", text),
        Source::new("x", "2.yml", text),
    ];
    let (set, errors) = RuleSet::load(&sources);
    assert_eq!(set.rules().len(), 1);
    let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["2.yml:1: there is a rule a already, in 1.yml; give one of them another name"]
    );
}

#[test]
fn any_ancestor() {
    let text = "title: A\nlogsource: {product: linux, category: process_creation}\n\
                detection: {s: {'Ancestor|any.Image|endswith': /nginx}, condition: s}\n";
    let (set, errors) = RuleSet::load(&[Source::new("x", "1.yml", text)]);
    assert_eq!(errors, []);
    let event = |images: Value| serde_json::json!({"Ancestor.Image": images});
    let hit = event(serde_json::json!(["/usr/bin/dash", "/usr/sbin/nginx"]));
    let miss = event(serde_json::json!(["/usr/bin/dash"]));
    let matching = |event: &Value| {
        let event = rsigma_eval::JsonEvent::borrow(event);
        set.matching(Category::ProcessCreation, &event).len()
    };
    assert_eq!((matching(&hit), matching(&miss)), (1, 0));
}
