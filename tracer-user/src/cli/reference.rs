//! `tracer reference`: the tables of the documentation, from the code they describe.

use std::process::ExitCode;

use clap::ValueEnum;
use tracer_common::probe::{Drop, PROBES};

use super::Failure;
use crate::enrich::docroot;
use crate::{detect, encode};

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Table {
    Coverage,
    Directories,
    Fields,
    Probes,
    Rules,
}

pub(super) fn reference(table: Table) -> Result<ExitCode, Failure> {
    let text = match table {
        Table::Coverage => detect::sigma::coverage::markdown(&detect::sigma::pack_sources()).0,
        Table::Directories => docroot::sources::reference_markdown(),
        Table::Fields => encode::fields::reference_markdown(),
        Table::Probes => probes(),
        Table::Rules => [
            detect::sigma::reference_markdown(),
            "\n## Fields\n\n".to_owned(),
            detect::case::fields::reference_markdown(),
            "\n## Severity\n\n".to_owned(),
            detect::severity::reference_markdown(),
        ]
        .concat(),
    };
    super::print(text.as_bytes())
}

fn probes() -> String {
    let mut out = String::from(
        "# Probes\n\nPrograms of every tier, of the tracepoint tier (raw tracepoints) and of the lsm tier \
         (trampolines at the kernel's own functions). One of the two tiers is in use: lsm where the \
         kernel takes it. A program that is *where present* has nothing to see on a kernel without its \
         hook. `tracer doctor` says which of them this host takes.\n\n\
         | probe | tier | need | not seen without it |\n| --- | --- | --- | --- |\n",
    );
    for probe in PROBES {
        out.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            probe.name,
            probe.tier_name(),
            probe.need.name(),
            probe.lost
        ));
    }
    out.push_str(
        "\n## Losses counted in the kernel\n\n| reason | loses an event |\n| --- | --- |\n",
    );
    for reason in Drop::ALL {
        let loses = if reason.loses_event() {
            "yes"
        } else {
            "no, one fact of it"
        };
        out.push_str(&format!("| `{}` | {loses} |\n", reason.name()));
    }
    for probe in PROBES {
        let loses = if probe.name == "sys_exit" {
            "may be: hardly any call is of interest, but it may be a server's"
        } else {
            "yes"
        };
        out.push_str(&format!("| `{}` | {loses} |\n", probe.missed));
    }
    out.push_str(
        "\nThe last ones are programs that the kernel left out because they were running on that CPU \
         already, which happens where tracepoints can be preempted.\n",
    );
    out
}
