//! Names of ATT&CK's tactics and of the techniques that server components come with (version 17, Enterprise).

use std::sync::Arc;

use super::{Entry, Technique};

/// Tactics by their word in a Sigma tag.
const TACTICS: &[(&str, &str, &str)] = &[
    ("reconnaissance", "TA0043", "Reconnaissance"),
    ("resource-development", "TA0042", "Resource Development"),
    ("initial-access", "TA0001", "Initial Access"),
    ("execution", "TA0002", "Execution"),
    ("persistence", "TA0003", "Persistence"),
    ("privilege-escalation", "TA0004", "Privilege Escalation"),
    ("defense-evasion", "TA0005", "Defense Evasion"),
    ("credential-access", "TA0006", "Credential Access"),
    ("discovery", "TA0007", "Discovery"),
    ("lateral-movement", "TA0008", "Lateral Movement"),
    ("collection", "TA0009", "Collection"),
    ("command-and-control", "TA0011", "Command and Control"),
    ("exfiltration", "TA0010", "Exfiltration"),
    ("impact", "TA0040", "Impact"),
];

#[rustfmt::skip]
const TECHNIQUES: &[(&str, &str)] = &[
    ("T1003", "OS Credential Dumping"), ("T1003.008", "/etc/passwd and /etc/shadow"),
    ("T1014", "Rootkit"),
    ("T1016", "System Network Configuration Discovery"),
    ("T1021", "Remote Services"), ("T1021.004", "SSH"),
    ("T1027", "Obfuscated Files or Information"), ("T1027.004", "Compile After Delivery"),
    ("T1033", "System Owner/User Discovery"),
    ("T1036", "Masquerading"), ("T1036.005", "Match Legitimate Resource Name or Location"),
    ("T1037", "Boot or Logon Initialization Scripts"), ("T1037.004", "RC Scripts"),
    ("T1041", "Exfiltration Over C2 Channel"),
    ("T1046", "Network Service Discovery"),
    ("T1049", "System Network Connections Discovery"),
    ("T1053", "Scheduled Task/Job"), ("T1053.002", "At"), ("T1053.003", "Cron"), ("T1053.006", "Systemd Timers"),
    ("T1055", "Process Injection"), ("T1055.008", "Ptrace System Calls"), ("T1055.009", "Proc Memory"),
    ("T1057", "Process Discovery"),
    ("T1059", "Command and Scripting Interpreter"), ("T1059.004", "Unix Shell"), ("T1059.006", "Python"),
    ("T1068", "Exploitation for Privilege Escalation"),
    ("T1070", "Indicator Removal"), ("T1070.002", "Clear Linux or Mac System Logs"), ("T1070.004", "File Deletion"),
    ("T1071", "Application Layer Protocol"), ("T1071.001", "Web Protocols"),
    ("T1078", "Valid Accounts"),
    ("T1082", "System Information Discovery"),
    ("T1083", "File and Directory Discovery"),
    ("T1087", "Account Discovery"), ("T1087.001", "Local Account"),
    ("T1090", "Proxy"),
    ("T1095", "Non-Application Layer Protocol"),
    ("T1098", "Account Manipulation"), ("T1098.004", "SSH Authorized Keys"),
    ("T1105", "Ingress Tool Transfer"),
    ("T1110", "Brute Force"),
    ("T1136", "Create Account"), ("T1136.001", "Local Account"),
    ("T1140", "Deobfuscate/Decode Files or Information"),
    ("T1190", "Exploit Public-Facing Application"),
    ("T1202", "Indirect Command Execution"),
    ("T1203", "Exploitation for Client Execution"),
    ("T1222", "File and Directory Permissions Modification"),
    ("T1505", "Server Software Component"), ("T1505.001", "SQL Stored Procedures"), ("T1505.002", "Transport Agent"),
    ("T1505.003", "Web Shell"), ("T1505.004", "IIS Components"), ("T1505.005", "Terminal Services DLL"), ("T1505.006", "vSphere Installation Bundles"),
    ("T1543", "Create or Modify System Process"), ("T1543.002", "Systemd Service"),
    ("T1546", "Event Triggered Execution"), ("T1546.004", "Unix Shell Configuration Modification"),
    ("T1547", "Boot or Logon Autostart Execution"), ("T1547.006", "Kernel Modules and Extensions"),
    ("T1548", "Abuse Elevation Control Mechanism"), ("T1548.001", "Setuid and Setgid"), ("T1548.003", "Sudo and Sudo Caching"),
    ("T1552", "Unsecured Credentials"), ("T1552.001", "Credentials In Files"),
    ("T1556", "Modify Authentication Process"), ("T1556.003", "Pluggable Authentication Modules"),
    ("T1562", "Impair Defenses"), ("T1562.001", "Disable or Modify Tools"),
    ("T1564", "Hide Artifacts"), ("T1564.001", "Hidden Files and Directories"),
    ("T1565", "Data Manipulation"), ("T1567", "Exfiltration Over Web Service"),
    ("T1572", "Protocol Tunneling"), ("T1573", "Encrypted Channel"),
    ("T1574", "Hijack Execution Flow"), ("T1574.006", "Dynamic Linker Hijacking"),
    ("T1609", "Container Administration Command"),
    ("T1611", "Escape to Host"), ("T1620", "Reflective Code Loading"),
];

/// What a rule's tags name, in their order: each technique with the tactic of the same place, the first tactic where
/// there are fewer.
#[must_use]
pub fn techniques(tags: &[String]) -> Vec<Technique> {
    let words = || tags.iter().filter_map(|tag| tag.strip_prefix("attack."));
    let tactics: Vec<Entry> = words().filter_map(tactic).collect();
    let ids = words().filter(|word| is_technique(word));
    ids.enumerate()
        .map(|(at, id)| {
            let id = id.to_ascii_uppercase();
            let tactic = tactics.get(at).or_else(|| tactics.first()).cloned();
            match id.split_once('.') {
                None => Technique {
                    tactic,
                    technique: entry(&id),
                    subtechnique: None,
                },
                Some((technique, _)) => Technique {
                    tactic,
                    technique: entry(technique),
                    subtechnique: Some(entry(&id)),
                },
            }
        })
        .collect()
}

/// The tactic that a tag's word names: with dashes or, in older rules, underlines.
fn tactic(word: &str) -> Option<Entry> {
    let word = word.replace('_', "-");
    let (_, id, name) = TACTICS.iter().find(|(known, ..)| *known == word)?;
    Some((Arc::from(*id), Arc::from(*name)))
}

/// `t1505` or `t1505.003`
fn is_technique(word: &str) -> bool {
    word.strip_prefix(['t', 'T']).is_some_and(|rest| {
        !rest.is_empty()
            && rest
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.')
    })
}

fn entry(id: &str) -> Entry {
    let name = TECHNIQUES.iter().find(|(known, _)| *known == id);
    (Arc::from(id), Arc::from(name.map_or(id, |(_, name)| *name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        let tags = [
            "attack.persistence",
            "attack.t1505.003",
            "attack.command_and_control",
            "attack.t1105",
            "cve.2021-1",
            "attack.t9999",
        ];
        let tags: Vec<String> = tags.map(str::to_owned).to_vec();
        let shown: Vec<String> = techniques(&tags)
            .iter()
            .map(|technique| {
                let (id, name) = technique.specific();
                let tactic = technique.tactic.as_ref().map_or("-", |(id, _)| id);
                format!("{tactic} {} {id} {name}", technique.technique.1)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "TA0003 Server Software Component T1505.003 Web Shell",
                "TA0011 Ingress Tool Transfer T1105 Ingress Tool Transfer",
                "TA0003 T9999 T9999 T9999",
            ]
        );
        assert_eq!(techniques(&["attack.persistence".to_owned()]), []);
    }
}
