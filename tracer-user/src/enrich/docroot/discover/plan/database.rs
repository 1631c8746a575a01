//! Databases: where they load code from.

use super::{Asked, Candidate, Plan};
use crate::enrich::docroot::parse::command::Options;
use crate::enrich::docroot::parse::{Dialect, database::postgres_paths};
use crate::enrich::docroot::{Kind, path};

/// Read one after the other, as the server does.
const MYSQL: &[&str] = &["/etc/my.cnf", "/etc/mysql/my.cnf", "/usr/etc/my.cnf"];

const REDIS: &[&str] = &[
    "/etc/redis/redis.conf",
    "/etc/redis.conf",
    "/usr/local/etc/redis/redis.conf",
    "/etc/valkey/valkey.conf",
];

pub(super) fn mysql(asked: &Asked<'_>) -> Plan {
    let Asked { args, cwd, .. } = *asked;
    let options = Options::new(args, b"bChlPSTuW");
    let mut plan = Plan {
        base: Some(cwd.to_vec()),
        ..Plan::default()
    };
    for name in [b"plugin-dir".as_slice(), b"plugin_dir"] {
        if let Some(directory) = options.long(name) {
            let directory = path::join(cwd, directory);
            let source = "argument --plugin-dir";
            plan.directories.push((Kind::Component, directory, source));
        }
    }
    let extra = options.long(b"defaults-extra-file");
    let files: Vec<&[u8]> = match options.long(b"defaults-file") {
        Some(only) => vec![only],
        None if args.contains(&b"--no-defaults".as_slice()) => Vec::new(),
        None => {
            let usual = MYSQL.iter().map(|file| file.as_bytes());
            usual.chain(extra).collect()
        }
    };
    let files = files.into_iter().map(|file| path::join(cwd, file));
    plan.also = files.map(|file| (Dialect::Mysql, file)).collect();
    plan
}

pub(super) fn postgres(asked: &Asked<'_>) -> Plan {
    let Asked { args, cwd, .. } = *asked;
    let options = Options::new(args, b"BcCdDfhkNopPSstvWDi");
    // `-c name=value` and `--name=value`; the last one counts.
    let setting = |name: &[u8]| {
        let mut found = options.long(name);
        let mut words = args.iter();
        while let Some(word) = words.next() {
            if *word == b"-c" {
                let value = words.next().and_then(|pair| pair.strip_prefix(name));
                found = value.and_then(|value| value.strip_prefix(b"=")).or(found);
            }
        }
        found
    };
    let mut plan = Plan::default();
    let data = setting(b"data_directory")
        .or_else(|| options.short(b'D'))
        .or_else(|| asked.variable(b"PGDATA"));
    let data = data.map(|data| path::join(cwd, data));
    for path in setting(b"dynamic_library_path")
        .into_iter()
        .flat_map(postgres_paths)
    {
        let source = "argument dynamic_library_path";
        plan.directories
            .push((Kind::Component, path.to_vec(), source));
    }
    let config = setting(b"config_file").map(|file| path::join(cwd, file));
    let config = config.or_else(|| Some(path::join(data.as_ref()?, b"postgresql.conf")));
    if let Some(file) = config {
        // Debian's configuration is not beside the data, but names it.
        plan.also.push((Dialect::Postgres, file));
    }
    if let Some(data) = data {
        for (name, source) in [
            ("postgresql.auto.conf", "settings that ALTER SYSTEM keeps"),
            ("pg_hba.conf", "who may log in"),
        ] {
            let file = path::join(&data, name.as_bytes());
            plan.directories.push((Kind::Component, file, source));
        }
        plan.also.push((
            Dialect::Postgres,
            path::join(&data, b"postgresql.auto.conf"),
        ));
        plan.base = Some(data);
    }
    plan
}

pub(super) fn redis(asked: &Asked<'_>) -> Plan {
    let Asked { args, cwd, .. } = *asked;
    // A sentinel keeps what it learns in its configuration.
    if args.contains(&b"--sentinel".as_slice()) {
        return Plan::default();
    }
    let mut plan = Plan {
        dialect: Some(Dialect::Redis),
        optional: true,
        base: Some(cwd.to_vec()),
        ..Plan::default()
    };
    let candidate = |file: &[u8]| Candidate {
        file: path::join(cwd, file),
        bases: vec![cwd.to_vec()],
    };
    let told = args
        .get(1)
        .filter(|word| !word.starts_with(b"-") && word.contains(&b'/'));
    plan.candidates = match told {
        Some(file) => vec![candidate(file)],
        None => REDIS
            .iter()
            .map(|file| candidate(file.as_bytes()))
            .collect(),
    };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        if *word == b"--loadmodule"
            && let Some(module) = words.next()
        {
            let place = path::join(cwd, module);
            let source = "argument --loadmodule";
            plan.directories.push((Kind::Component, place, source));
        }
    }
    plan
}
