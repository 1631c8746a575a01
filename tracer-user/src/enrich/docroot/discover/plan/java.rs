//! Servers in Java: what their properties and their environment say.

use super::{Asked, Candidate, Plan};
use crate::enrich::docroot::parse::Dialect;
use crate::enrich::docroot::parse::command::{properties, property};
use crate::enrich::docroot::{Kind, path};

/// A property that names a directory, and what is below it.
type Row = (&'static str, &'static [(Kind, &'static str)]);

/// Not the configuration of WildFly and what Jenkins keeps beside its plugins: they write that themselves.
const PROPERTIES: &[Row] = &[
    (
        "catalina.home",
        &[(Kind::Component, "lib"), (Kind::Component, "bin")],
    ),
    (
        "jetty.base",
        &[
            (Kind::Served, "webapps"),
            (Kind::Component, "lib"),
            (Kind::Component, "resources"),
            (Kind::Component, "modules"),
            (Kind::Component, "start.d"),
            (Kind::Component, "etc"),
        ],
    ),
    (
        "jetty.home",
        &[(Kind::Component, "lib"), (Kind::Component, "modules")],
    ),
    ("jboss.server.base.dir", &[(Kind::Served, "deployments")]),
    (
        "jboss.home.dir",
        &[
            (Kind::Served, "standalone/deployments"),
            (Kind::Component, "modules"),
        ],
    ),
    (
        "com.sun.aas.instanceRoot",
        &[(Kind::Served, "autodeploy"), (Kind::Component, "lib")],
    ),
    ("weblogic.RootDirectory", &[(Kind::Served, "autodeploy")]),
    (
        "JENKINS_HOME",
        &[
            (Kind::Component, "plugins"),
            (Kind::Component, "init.groovy.d"),
        ],
    ),
    (
        "es.path.home",
        &[(Kind::Component, "plugins"), (Kind::Component, "modules")],
    ),
    (
        "opensearch.path.home",
        &[(Kind::Component, "plugins"), (Kind::Component, "modules")],
    ),
    ("solr.solr.home", &[(Kind::Component, "lib")]),
    ("jira.home", &[(Kind::Component, "plugins")]),
];

pub(super) fn java(asked: &Asked<'_>) -> Plan {
    let Asked { args, cwd, .. } = *asked;
    let mut plan = Plan {
        variables: properties(args)
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect(),
        ..Plan::default()
    };
    let tomcat = property(args, b"catalina.base").or_else(|| property(args, b"catalina.home"));
    if let Some(base) = tomcat {
        let base = path::join(cwd, base);
        for below in ["lib", "bin", "conf"] {
            let directory = path::join(&base, below.as_bytes());
            let source = "argument -Dcatalina.base";
            plan.directories.push((Kind::Component, directory, source));
        }
        plan.dialect = Some(Dialect::Tomcat);
        plan.told = true;
        plan.also = vec![
            (Dialect::Tomcat, path::join(&base, b"conf/*/*/*.xml")),
            (
                Dialect::Properties,
                path::join(&base, b"conf/catalina.properties"),
            ),
        ];
        plan.candidates = vec![Candidate {
            file: path::join(&base, b"conf/server.xml"),
            bases: vec![base],
        }];
    }
    for (name, below) in PROPERTIES {
        // Jetty takes its properties as words, too.
        let word = args.iter().find_map(|word| {
            let word = word.strip_prefix(b"--").unwrap_or(word);
            word.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
        });
        let variable = name.replace('.', "_").to_ascii_uppercase();
        let value = property(args, name.as_bytes())
            .or(word)
            .or_else(|| asked.variable(variable.as_bytes()));
        let Some(value) = value else {
            continue;
        };
        let base = path::join(cwd, value);
        for (kind, below) in *below {
            let directory = path::join(&base, below.as_bytes());
            plan.directories.push((*kind, directory, name));
        }
        if *name == "jetty.base" {
            for file in ["start.ini", "start.d/*.ini"] {
                let file = path::join(&base, file.as_bytes());
                plan.also.push((Dialect::Properties, file));
            }
            if plan.candidates.is_empty() {
                plan.base = Some(base.clone());
            }
        }
        if *name == "jboss.server.base.dir" {
            let known = plan
                .variables
                .iter()
                .any(|(known, _)| known == name.as_bytes());
            if !known {
                let variable = (name.as_bytes().to_vec(), base.clone());
                plan.variables.push(variable);
            }
            let file = path::join(&base, b"configuration/standalone*.xml");
            plan.also.push((Dialect::Wildfly, file));
        }
    }
    loaded(asked, &mut plan);
    plan
}

/// What the command line loads: an agent, WildFly's modules, an application in one archive.
fn loaded(asked: &Asked<'_>, plan: &mut Plan) {
    let mut words = asked.args.iter().skip(1);
    while let Some(word) = words.next() {
        let (path, source): (&[u8], _) = if let Some(agent) = word.strip_prefix(b"-javaagent:") {
            let end = agent.iter().position(|&byte| byte == b'=');
            (
                agent.get(..end.unwrap_or(agent.len())).unwrap_or_default(),
                "argument -javaagent",
            )
        } else if *word == b"-jar" {
            (words.next().copied().unwrap_or_default(), "argument -jar")
        } else if matches!(*word, b"-mp" | b"--module-path") {
            (words.next().copied().unwrap_or_default(), "argument -mp")
        } else {
            continue;
        };
        for path in path
            .split(|&byte| byte == b':')
            .filter(|path| !path.is_empty())
        {
            let place = path::join(asked.cwd, path);
            plan.directories.push((Kind::Component, place, source));
        }
    }
}
