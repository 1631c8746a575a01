//! The smoke test of a guest: real servers are attacked, and two alerts have to come.
//!
//! In the guest: `tracer doctor`, then the agent, php-fpm and nginx, one request to a page that
//! starts a shell and one to a page that writes code where it is served. A variant on which the
//! agent has to refuse is asked for that first. Judged are exit codes, every probe that the doctor
//! names, and what the alerts say; the tier too, so that an agent that quietly fell back does not
//! pass.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::File;
use super::guest::{Order, Outcome};
use super::trial::Tier;
use super::variants::{Refusal, Variant};
use crate::site::guest::GuestSite;

/// Where the guest has the script and the alerts.
const SCRIPT: &str = "/root/smoke";
const ALERTS: &str = "/root/alerts.json";

/// How long the agent may take to refuse, in seconds.
const REFUSAL_LIMIT: u32 = 60;

/// The alerts that have to come: the rule, and where in the alert is what.
const EXPECTED: [(&str, &str, &str); 2] = [
    ("server-shell", "/process/args", r#"["sh","-c","id"]"#),
    ("server-code-write", "/file/path", "shell.php"),
];

/// What a smoke test brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Smoke {
    /// The agent refused as it has to.
    pub(super) refused: Option<String>,
    /// Alerts that came, by rule.
    pub(super) alerts: Vec<String>,
    /// How often the kernel left a program out, by the word for it.
    pub(super) left_out: BTreeMap<String, u64>,
    /// Probes that are attached.
    pub(super) attached: Vec<String>,
    /// Probes whose hook this kernel does not have.
    pub(super) absent: Vec<String>,
    /// Instructions that the verifier looked at, by program; where the kernel tells.
    pub(super) verified: BTreeMap<String, u64>,
}

/// What the guest needs besides the agent.
pub(super) fn files(site: &GuestSite, variant: &Variant, tier: Option<Tier>) -> Result<Vec<File>> {
    let mut files = site.files()?;
    let flags = flags(variant.works_with.unwrap_or_default(), tier);
    let script = [
        "set -e\n",
        &GuestSite::start_agent(&format!(
            "tracer run --format json --output {ALERTS}{flags}"
        )),
        &site.start_servers(),
        &GuestSite::attack(),
        GuestSite::stop_agent(),
    ]
    .concat();
    files.push(File::text(SCRIPT, script));
    Ok(files)
}

/// What the guest is told to do.
pub(super) fn orders(variant: &Variant, tier: Option<Tier>) -> Vec<Order> {
    let mut orders = Vec::new();
    if !variant.prepare.is_empty() {
        orders.push(Order::script(variant.prepare));
    }
    if variant.refusal.is_some() {
        let flags = flags(&[], tier);
        orders.push(Order::run(&format!(
            "timeout {REFUSAL_LIMIT} tracer run --format json --output /root/refused.json{flags}"
        )));
        orders.push(Order::quiet(&format!("tracer doctor --json{flags}")));
    }
    if let Some(more) = variant.works_with {
        let flags = flags(more, tier);
        orders.push(Order::quiet(&format!("tracer doctor --json{flags}")));
        orders.push(Order::run(&format!("/bin/sh {SCRIPT}")));
        orders.push(Order::Fetch(ALERTS));
    }
    orders
}

/// Flags of the agent, each with a blank before it.
fn flags(more: &[&str], tier: Option<Tier>) -> String {
    let tier = tier.map(|tier| format!(" --tier {}", tier.name()));
    let more = more.iter().map(|flag| format!(" {flag}"));
    more.chain(tier).collect()
}

/// What the orders brought; an error is why the test failed.
pub(super) fn judge(variant: &Variant, tier: Option<Tier>, outcomes: &[Outcome]) -> Result<Smoke> {
    let mut outcomes = outcomes.iter();
    let mut next = || {
        outcomes
            .next()
            .context("the guest did not do all it was told")
    };
    let mut smoke = Smoke::default();
    if !variant.prepare.is_empty() {
        let prepared = next()?;
        if prepared.status != 0 {
            bail!(
                "the kernel is not what {} says: {}",
                variant.name,
                prepared.output.trim()
            );
        }
    }
    if let Some(refusal) = &variant.refusal {
        let said = refused(refusal, next()?)?;
        let doctor = next()?;
        if doctor.status != refusal.status {
            bail!(
                "`tracer doctor` ended with status {} where `tracer run` refuses with {}",
                doctor.status,
                refusal.status
            );
        }
        smoke.refused = Some(said);
    }
    if variant.works_with.is_some() {
        let probes = probes(next()?)?;
        smoke.attached = probes.attached;
        smoke.absent = probes.absent;
        smoke.verified = probes.verified;
        let scene = next()?;
        if scene.status != 0 {
            bail!("the scene ended with status {}", scene.status);
        }
        let alerts = next()?.file()?;
        (smoke.alerts, smoke.left_out) = alerts_told(&String::from_utf8_lossy(&alerts), tier)?;
    }
    Ok(smoke)
}

/// The refusal in what the agent said, which has to be one line and to say what it has to.
fn refused(refusal: &Refusal, run: &Outcome) -> Result<String> {
    let Refusal { status, words } = refusal;
    let said = run.output.trim();
    if run.status != *status {
        bail!(
            "`tracer run` ended with status {} instead of {status}: {said}",
            run.status
        );
    }
    if said.lines().count() != 1 {
        bail!("`tracer run` refused with more or less than one line: {said}");
    }
    for word in *words {
        if !said.contains(word) {
            bail!("`tracer run` refused without a word on {word}: {said}");
        }
    }
    Ok(said.to_owned())
}

/// The probes that the doctor tells of.
#[derive(Debug, Default, PartialEq, Eq)]
struct Probes {
    attached: Vec<String>,
    absent: Vec<String>,
    verified: BTreeMap<String, u64>,
}

/// How the doctor begins the reason of a probe that has nothing to be attached to. Such a probe was
/// not refused: hooks come and go between kernels.
const ABSENT: &str = "the kernel has no ";

/// The probes of the doctor's document, none of which may have been refused.
fn probes(doctor: &Outcome) -> Result<Probes> {
    // What the agent says on standard error comes over the same line.
    let document = doctor.output.lines().find(|line| line.starts_with('{'));
    let document: Value = document
        .and_then(|line| serde_json::from_str(line).ok())
        .with_context(|| {
            format!(
                "`tracer doctor --json` printed no document (status {}): {}",
                doctor.status,
                doctor.output.trim()
            )
        })?;
    let checks = document.pointer("/checks").and_then(Value::as_array);
    let mut probes = Probes::default();
    let mut refused = Vec::new();
    for check in checks.into_iter().flatten() {
        let text = |field| check.get(field).and_then(Value::as_str).unwrap_or_default();
        let (name, state, found) = (text("check"), text("state"), text("found"));
        match name.strip_prefix("probe ") {
            Some(probe) if state == "ok" => {
                if let Some(count) = check.get("verified_insns").and_then(Value::as_u64) {
                    probes.verified.insert(probe.to_owned(), count);
                }
                probes.attached.push(probe.to_owned());
            }
            Some(probe) if found.starts_with(ABSENT) => probes.absent.push(probe.to_owned()),
            Some(_) => refused.push(format!("{name}: {found}")),
            None if name == "eBPF programs" && state != "ok" => {
                refused.push(format!("{name}: {found}"));
            }
            None => {}
        }
    }
    if !refused.is_empty() {
        bail!("`tracer doctor` says: {}", refused.join("; "));
    }
    if probes.attached.is_empty() {
        bail!("`tracer doctor` names no probe that is attached");
    }
    if doctor.status > 1 {
        bail!("`tracer doctor` ended with status {}", doctor.status);
    }
    Ok(probes)
}

/// How the words end for what a kernel leaves out, as it does where it preempts a program and another is
/// to run on that CPU. The agent can but tell.
const LEFT_OUT: &str = "_missed";

/// Adds up what a report of losses tells. None may be the agent's own.
fn losses(report: &Value, left_out: &mut BTreeMap<String, u64>) -> Result<()> {
    let losses = report.pointer("/tracer/loss").and_then(Value::as_array);
    for loss in losses.into_iter().flatten() {
        let reason = loss.get("reason").and_then(Value::as_str);
        let reason = reason.unwrap_or_default();
        let count = loss.get("count").and_then(Value::as_u64);
        if !reason.ends_with(LEFT_OUT) {
            bail!("the agent lost events: {loss}");
        }
        let sum = left_out.entry(reason.to_owned()).or_default();
        *sum = sum.saturating_add(count.unwrap_or_default());
    }
    Ok(())
}

/// The rules of the alerts, which have to be the expected ones and to come from this tier; and what the
/// kernel left out.
fn alerts_told(alerts: &str, tier: Option<Tier>) -> Result<(Vec<String>, BTreeMap<String, u64>)> {
    let documents = alerts
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<Vec<Value>, _>>()
        .context("an alert is no JSON")?;
    let is_loss = |document: &Value| {
        document.pointer("/event/dataset").and_then(Value::as_str) == Some("tracer.loss")
    };
    let (reports, alerts): (Vec<_>, Vec<_>) = documents.into_iter().partition(is_loss);
    let mut left_out = BTreeMap::new();
    for report in &reports {
        losses(report, &mut left_out)?;
    }
    let fact = |alert: &Value, pointer: &str| match alert.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let mut told: Vec<_> = alerts.iter().map(|alert| fact(alert, "/rule/id")).collect();
    told.sort();
    for (rule, pointer, what) in EXPECTED {
        let came = alerts
            .iter()
            .any(|alert| fact(alert, "/rule/id") == rule && fact(alert, pointer).ends_with(what));
        if !came {
            bail!("no alert {rule} of {what}; the alerts are {told:?}");
        }
    }
    if told.len() != EXPECTED.len() {
        bail!("other alerts than the two expected came: {told:?}");
    }
    let tiers: Vec<_> = alerts
        .iter()
        .map(|alert| fact(alert, "/tracer/tier"))
        .collect();
    let right = match tier {
        // Facts of process life are of one tier everywhere; those of files are not.
        Some(Tier::Lsm) => tiers.iter().any(|told| told == Tier::Lsm.name()),
        Some(Tier::Tracepoint) => tiers.iter().all(|told| told == Tier::Tracepoint.name()),
        Some(Tier::Auto) | None => true,
    };
    if !right {
        bail!("the alerts are of other tiers than the one asked for: {tiers:?}");
    }
    Ok((told, left_out))
}

#[cfg(test)]
mod tests {
    use super::super::variants::{self, STOCK};
    use super::*;

    fn variant(name: &str) -> &'static Variant {
        let mut all = variants::ALL.into_iter();
        all.find(|variant| variant.name == name).unwrap()
    }

    fn outcome(status: u8, output: &str) -> Outcome {
        Outcome {
            status,
            output: output.to_owned(),
        }
    }

    const SHELL: &str = r#"{"rule":{"id":"server-shell"},"process":{"args":["sh","-c","id"]},"tracer":{"tier":"tracepoint"}}"#;
    const WRITE: &str = r#"{"rule":{"id":"server-code-write"},"file":{"path":"/opt/demo/www/shell.php"},"tracer":{"tier":"lsm"}}"#;

    #[test]
    fn both_alerts_have_to_come_and_no_other() {
        let both = format!("{SHELL}\n{WRITE}\n");
        let (told, left_out) = alerts_told(&both, None).unwrap();
        assert_eq!(told, ["server-code-write", "server-shell"]);
        assert!(left_out.is_empty());
        let rows = [
            (String::new(), "no alert server-shell"),
            (format!("{SHELL}\n"), "no alert server-code-write"),
            (both.replace("\"id\"]", "\"ls\"]"), "no alert server-shell"),
            (format!("{both}{SHELL}\n"), "other alerts"),
            (format!("{both}x\n"), "no JSON"),
        ];
        for (alerts, expected) in rows {
            let error = alerts_told(&alerts, None).unwrap_err().to_string();
            assert!(error.contains(expected), "{alerts}: {error}");
        }
    }

    #[test]
    fn a_kernel_may_leave_out_and_the_agent_may_not_lose() {
        let loss = |reason: &str| {
            format!(
                r#"{{"event":{{"dataset":"tracer.loss"}},"tracer":{{"loss":[{{"reason":"{reason}","count":2}}]}}}}"#
            )
        };
        let missed = loss("file_open_missed");
        let documents = format!("{SHELL}\n{missed}\n{WRITE}\n{missed}\n");
        let (told, left_out) = alerts_told(&documents, None).unwrap();
        assert_eq!(told.len(), 2);
        assert_eq!(
            left_out,
            BTreeMap::from([("file_open_missed".to_owned(), 4)])
        );
        let documents = format!("{SHELL}\n{WRITE}\n{}\n", loss("file_ring_full"));
        let error = alerts_told(&documents, None).unwrap_err().to_string();
        assert!(error.contains("file_ring_full"), "{error}");
    }

    #[test]
    fn a_tier_that_was_asked_for_has_to_be_the_one() {
        let lsm = format!("{SHELL}\n{WRITE}\n");
        let plain = lsm.replace("\"lsm\"", "\"tracepoint\"");
        for (alerts, tier, passes) in [
            (&lsm, Tier::Lsm, true),
            (&lsm, Tier::Auto, true),
            (&lsm, Tier::Tracepoint, false),
            (&plain, Tier::Lsm, false),
            (&plain, Tier::Auto, true),
            (&plain, Tier::Tracepoint, true),
        ] {
            let judged = alerts_told(alerts, Some(tier));
            assert_eq!(judged.is_ok(), passes, "{tier:?}: {judged:?}");
        }
    }

    fn doctor(checks: &str) -> Outcome {
        outcome(1, &format!("a word\n{{\"checks\":[{checks}]}}\n"))
    }

    const LOCKDOWN: &str = r#"{"check":"lockdown","state":"FAIL","found":"x"}"#;
    const FORK: &str = r#"{"check":"probe sched_process_fork","state":"ok","found":"attached","verified_insns":812}"#;
    const EXIT: &str = r#"{"check":"probe sys_exit","state":"ok","found":"attached"}"#;

    #[test]
    fn every_probe_has_to_be_attached() {
        let absent = r#"{"check":"probe new","state":"FAIL","found":"the kernel has no new"}"#;
        let found = probes(&doctor(&[LOCKDOWN, FORK, EXIT, absent].join(","))).unwrap();
        assert_eq!(found.attached, ["sched_process_fork", "sys_exit"]);
        assert_eq!(found.absent, ["new"]);
        assert_eq!(
            found.verified,
            BTreeMap::from([("sched_process_fork".to_owned(), 812)]),
            "a figure that the doctor leaves out is none"
        );
        let refused = EXIT
            .replace("\"ok\"", "\"FAIL\"")
            .replace("attached", "EPERM");
        let rows = [
            (doctor(&[FORK, &refused].join(",")), "probe sys_exit: EPERM"),
            (doctor(LOCKDOWN), "no probe"),
            (doctor(absent), "no probe"),
            (
                doctor(&EXIT.replace("\"ok\"", "\"note\"")),
                "probe sys_exit: attached",
            ),
            (outcome(3, "tracer: no BTF\n"), "no document (status 3)"),
            (
                Outcome {
                    status: 5,
                    ..doctor(FORK)
                },
                "status 5",
            ),
        ];
        for (doctor, expected) in rows {
            let error = probes(&doctor).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_refusal_is_one_line_with_the_reason() {
        let refusal = variant("no-btf").refusal.as_ref().unwrap();
        let good = "tracer: /sys/kernel/btf/vmlinux: No such file; give the file with --btf\n";
        assert_eq!(
            refused(refusal, &outcome(3, good)).unwrap(),
            good.trim_end()
        );
        let rows = [
            (outcome(0, good), "status 0 instead of 3"),
            (outcome(3, "tracer: no\n"), "without a word on"),
            (outcome(3, &format!("{good}{good}")), "than one line"),
            (outcome(3, ""), "than one line"),
        ];
        for (run, expected) in rows {
            let error = refused(refusal, &run).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_is_ordered_is_what_is_judged() {
        let alerts = format!("{SHELL}\n{WRITE}\n");
        let alerts = alerts.replace("\"lsm\"", "\"tracepoint\"");
        let digits: String = alerts.bytes().map(|byte| format!("{byte:02x}")).collect();
        let sum = super::super::fetch::crc32(alerts.as_bytes());
        for variant in variants::ALL {
            let tier = Some(Tier::Tracepoint);
            let mut outcomes = Vec::new();
            for order in orders(variant, tier) {
                outcomes.push(match order {
                    Order::Fetch(_) => outcome(0, &format!("{sum:08x} {ALERTS}\n{digits}\n")),
                    Order::Quiet(words) if words.iter().any(|word| word == "--btf") => doctor(FORK),
                    Order::Quiet(_) => match (&variant.refusal, variant.works_with) {
                        (Some(refusal), _) => outcome(refusal.status, ""),
                        _ => doctor(FORK),
                    },
                    Order::Run(words) if words.first().is_some_and(|word| word == "timeout") => {
                        let refusal = variant.refusal.as_ref().unwrap();
                        outcome(
                            refusal.status,
                            &format!("tracer: {}\n", refusal.words.join(" ")),
                        )
                    }
                    Order::Run(_) => outcome(0, ""),
                });
            }
            let smoke = judge(variant, tier, &outcomes).unwrap();
            assert_eq!(smoke.refused.is_some(), variant.refusal.is_some());
            assert_eq!(smoke.alerts.len(), variant.works_with.map_or(0, |_| 2));
            if variant != STOCK {
                outcomes[0].status = 1;
                let error = judge(variant, tier, &outcomes).unwrap_err().to_string();
                assert!(error.contains("is not what"), "{error}");
            }
            outcomes.pop();
            assert!(judge(variant, tier, &outcomes).is_err(), "{variant:?}");
        }
    }

    #[test]
    fn flags_are_words_of_their_own() {
        assert_eq!(flags(&[], None), "");
        assert_eq!(
            flags(&["--btf", "/f"], Some(Tier::Lsm)),
            " --btf /f --tier lsm"
        );
    }
}
