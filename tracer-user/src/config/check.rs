//! What of a configuration file is wrong, and what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_saphyr::Spanned;

use super::{ConfigError, FileConfig, exceptions, explain, incidents, kubernetes, rules};
use crate::enrich::docroot::{directories::too_wide, path};

/// Largest ring: beyond it a full ring is not a burst but an agent that does not keep up.
const MAX_RING_BYTES: u32 = 1 << 30;
/// Largest quota of file records a second: more than any host makes, so more is a slip for "no limit".
const MAX_QUOTA: u32 = 1_000_000;
/// Smallest memory budget: the processes of a small host and their recent past.
const MIN_BUDGET: u64 = 16 << 20;
/// Largest: pids that a kernel can have (`PID_MAX_LIMIT`, linux/threads.h), with a long argument list each.
const MAX_BUDGET: u64 = 64 << 30;
/// Longest wait of an event: an alert that is later than this helps nobody.
const MAX_ORDER_WINDOW_MS: u32 = 5000;
/// Longest time between two states that are written, seconds: what is older is of little use.
const MAX_STATE_SECONDS: u32 = 3600;
/// Longest wait of an alert for facts.
const MAX_ENRICHMENT_WAIT_MS: u32 = 10_000;
/// Longest file that is hashed: seconds of a CPU.
const MAX_HASHED: u32 = 1 << 30;
/// Sockets of container runtimes at most.
const MAX_SOCKETS: usize = 16;
/// Directories at most in each list.
const MAX_DIRECTORIES: usize = 4096;

/// Reads and checks a text.
pub(super) fn parse(file: &Path, text: &[u8]) -> Result<FileConfig, ConfigError> {
    let error = |(line, message)| ConfigError {
        file: file.to_owned(),
        line,
        message,
    };
    let text = str::from_utf8(text).map_err(|invalid| {
        let before = text.get(..invalid.valid_up_to()).unwrap_or_default();
        let line = before
            .iter()
            .map(|byte| u64::from(*byte == b'\n'))
            .sum::<u64>()
            + 1;
        error((
            Some(line),
            "not UTF-8 text; save the file as UTF-8".to_owned(),
        ))
    })?;
    // A file with all its lines commented out is a valid choice of every default.
    let said = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let mut config = if text.lines().any(said) {
        serde_saphyr::from_str(text).map_err(|e| error(explain::yaml(text, &e)))?
    } else {
        FileConfig::default()
    };
    check(&config).map_err(error)?;
    config.path = Some(file.to_owned());
    Ok(config)
}

pub(super) type Fault = (Option<u64>, String);

fn check(config: &FileConfig) -> Result<(), Fault> {
    for (key, path) in [("output", &config.output), ("btf", &config.btf)] {
        if let Some(path) = path
            .as_ref()
            .filter(|path| path.value.as_os_str().is_empty())
        {
            let message = format!("{key}: an empty path; name a file, or leave the key out");
            return Err((line(path), message));
        }
    }
    let control = config.control.clone().unwrap_or_default().socket.flatten();
    if let Some(path) = control.filter(|path| !path.value.is_absolute()) {
        let message = format!(
            "control.socket: {:?} is not an absolute path; begin it with /, or write null for no socket",
            path.value
        );
        return Err((line(&path), message));
    }
    let rings = config.rings.clone().unwrap_or_default();
    ring("rings.life_bytes", rings.life_bytes.as_ref())?;
    ring("rings.file_bytes", rings.file_bytes.as_ref())?;
    let quota = config.file_quota_per_second.as_ref();
    range("file_quota_per_second", quota, 0, MAX_QUOTA)?;
    let budget = config.memory.clone().unwrap_or_default().budget_bytes;
    range(
        "memory.budget_bytes",
        budget.as_ref(),
        MIN_BUDGET,
        MAX_BUDGET,
    )?;
    exceptions::check(&config.exceptions.clone().unwrap_or_default())?;
    let state = config.state.clone().unwrap_or_default();
    range(
        "state.seconds",
        state.seconds.as_ref(),
        1,
        MAX_STATE_SECONDS,
    )?;
    if let Some(file) = state.file.flatten()
        && (!file.value.is_absolute() || file.value.file_name().is_none())
    {
        let message = "state.file: not an absolute path of a file; name one, or null for none";
        return Err((line(&file), message.to_owned()));
    }
    let window = config.order_window_ms.as_ref();
    range("order_window_ms", window, 0, MAX_ORDER_WINDOW_MS)?;
    let enrichment = config.enrichment.clone().unwrap_or_default();
    sockets(&enrichment.container_sockets.unwrap_or_default())?;
    let wait = enrichment.wait_ms;
    range(
        "enrichment.wait_ms",
        wait.as_ref(),
        0,
        MAX_ENRICHMENT_WAIT_MS,
    )?;
    incidents::check(&config.incidents.clone().unwrap_or_default())?;
    kubernetes::check(&config.kubernetes.clone().unwrap_or_default())?;
    rules::check(&config.rules.clone().unwrap_or_default())?;
    let hash = config.hash.clone().unwrap_or_default();
    range("hash.max_bytes", hash.max_bytes.as_ref(), 0, MAX_HASHED)?;
    let written = hash.max_written_bytes.as_ref();
    range("hash.max_written_bytes", written, 0, MAX_HASHED)?;
    for (kind, list) in config.directories.clone().unwrap_or_default().lists() {
        let key = kind.name();
        for (index, pattern) in list.iter().enumerate() {
            let fault = if index >= MAX_DIRECTORIES {
                Some(format!("more than {MAX_DIRECTORIES} of them"))
            } else {
                directory_fault(&pattern.value)
            };
            if let Some(fault) = fault {
                return Err((line(pattern), format!("directories.{key}: {fault}")));
            }
        }
    }
    Ok(())
}

pub(super) fn line<T>(value: &Spanned<T>) -> Option<u64> {
    Some(value.referenced.line()).filter(|line| *line > 0)
}

fn ring(key: &str, value: Option<&Spanned<u32>>) -> Result<(), Fault> {
    let Some(spanned) = value else {
        return Ok(());
    };
    let bytes = spanned.value;
    let page = u32::try_from(rustix::param::page_size()).unwrap_or(4096);
    if bytes.is_power_of_two() && (page..=MAX_RING_BYTES).contains(&bytes) {
        return Ok(());
    }
    let nearest = bytes
        .clamp(page, MAX_RING_BYTES)
        .checked_next_power_of_two()
        .unwrap_or(MAX_RING_BYTES);
    Err((
        line(spanned),
        format!(
            "{key}: {bytes} is not a power of two from {page} (one page) to {MAX_RING_BYTES}; \
             {nearest} is"
        ),
    ))
}

fn sockets(sockets: &[Spanned<PathBuf>]) -> Result<(), Fault> {
    for (index, socket) in sockets.iter().enumerate() {
        let key = "enrichment.container_sockets";
        let path = &socket.value;
        if !path.is_absolute() {
            let message = format!("{key}: {path:?} is not an absolute path; begin it with /");
            return Err((line(socket), message));
        }
        if index >= MAX_SOCKETS {
            return Err((
                line(socket),
                format!("{key}: more than {MAX_SOCKETS} of them"),
            ));
        }
    }
    Ok(())
}

pub(super) fn range<T: Copy + PartialOrd + fmt::Display>(
    key: &str,
    value: Option<&Spanned<T>>,
    min: T,
    max: T,
) -> Result<(), Fault> {
    match value {
        Some(spanned) if !(min..=max).contains(&spanned.value) => Err((
            line(spanned),
            format!("{key}: {} is not from {min} to {max}", spanned.value),
        )),
        _ => Ok(()),
    }
}

/// What is wrong with a directory pattern.
fn directory_fault(pattern: &str) -> Option<String> {
    let bytes = pattern.as_bytes();
    if !pattern.starts_with('/') {
        return Some(format!(
            "{pattern:?} is not an absolute path; begin it with /"
        ));
    }
    for segment in path::segments(bytes) {
        if segment == b".." || segment == b"." {
            return Some(format!(
                "{pattern:?} has a . or .. in it; write the path without"
            ));
        }
        if segment.contains(&b'*') && segment != b"*" {
            return Some(format!(
                "in {pattern:?}, * has to be a whole segment, as in /home/*/www"
            ));
        }
    }
    if path::segments(bytes).next() == Some(b"*") {
        return Some(format!(
            "{pattern:?} begins with *; name its first directory"
        ));
    }
    match path::normalise(bytes) {
        None => Some(format!("{pattern:?} is too long or has a NUL in it")),
        Some(path) if too_wide(&path) => Some(format!(
            "{pattern:?} is a whole system directory; name the directory in it that is meant"
        )),
        Some(_) => None,
    }
}
