//! Cuts a kernel's BTF down to what the offset table is resolved from, to keep as a test fixture.
//!
//! ```text
//! cargo run -p tracer-user --example reduce_btf -- /sys/kernel/btf/vmlinux tracer-user/testdata/btf/NAME.btf
//! ```
//!
//! Keeps the structures and enumerations that the table names with all their members, the
//! registers, and the prototypes of the probes' tracepoints and functions; types that those embed are kept too,
//! pointers become pointers to void. What comes out is valid BTF, and is written only if every
//! answer from it equals the answer from the whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use tracer::sensor::btf::{Btf, Type, kind};
use tracer::sensor::offsets;
use tracer_common::offsets::KernelOffsets;
use tracer_common::probe::{Attach, PROBES};

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(input), Some(output), None) = (args.next(), args.next(), args.next()) else {
        anyhow::bail!("usage: reduce_btf IN OUT (raw BTF, such as /sys/kernel/btf/vmlinux)");
    };
    let bytes =
        std::fs::read(&input).with_context(|| format!("cannot read {}", input.display()))?;
    let whole = Btf::parse(bytes).with_context(|| input.display().to_string())?;
    let reduced = reduce(&whole)?;
    same_answers(&whole, &Btf::parse(reduced.as_slice())?)?;
    std::fs::write(&output, &reduced)
        .with_context(|| format!("cannot write {}", output.display()))?;
    eprintln!("{}: {} bytes", output.display(), reduced.len());
    Ok(())
}

/// Names of the types to keep.
fn roots() -> BTreeSet<String> {
    let rows = KernelOffsets::MEMBERS
        .iter()
        .flat_map(|member| member.names);
    let tags = rows.map(|row| {
        let path = row
            .trim_start_matches("enum ")
            .trim_start_matches("sizeof ");
        path.split_once('.').map_or(path, |(tag, _)| tag).to_owned()
    });
    let traces =
        hooks(|attach| attach == Attach::RawTracepoint).map(|hook| format!("btf_trace_{hook}"));
    tags.chain(traces).chain(["pt_regs".to_owned()]).collect()
}

/// What probes attach to in this way.
fn hooks(way: impl Fn(Attach) -> bool) -> impl Iterator<Item = &'static str> {
    PROBES
        .iter()
        .filter(move |probe| way(probe.attach))
        .flat_map(|probe| probe.hooks)
        .copied()
}

fn reduce(btf: &Btf) -> Result<Vec<u8>> {
    let mut kept = BTreeSet::new();
    for root in roots() {
        for (id, ty) in btf.named(&root) {
            keep(btf, id, ty.kind() == kind::TYPEDEF, &mut kept)?;
        }
    }
    let functions: BTreeSet<&[u8]> = hooks(|attach| attach != Attach::RawTracepoint)
        .map(str::as_bytes)
        .collect();
    for (id, ty) in btf.types().filter(|(_, ty)| ty.kind() == kind::FUNC) {
        if btf
            .string(ty.name)
            .is_some_and(|name| functions.contains(name))
        {
            keep(btf, id, false, &mut kept)?;
        }
    }
    // Type 1 is the pointer to void that stands for all others.
    let ids: BTreeMap<u32, u32> = kept.iter().copied().zip(2..).collect();
    let new_id = |id: u32| match ids.get(&id) {
        Some(new) => *new,
        None if id == 0 => 0,
        None => 1,
    };

    let mut strings = Strings {
        bytes: vec![0],
        places: BTreeMap::from([(Vec::new(), 0)]),
    };
    let mut types = Vec::new();
    push(&mut types, [0, kind::PTR << 24, 0]);
    for id in &kept {
        let ty = btf.get(*id).context("a type that was there")?;
        let size_or_type = if refers(ty.kind()) {
            new_id(ty.size_or_type)
        } else {
            ty.size_or_type
        };
        push(
            &mut types,
            [strings.place(btf, ty.name)?, ty.info(), size_or_type],
        );
        for entry in entries(ty) {
            match (ty.kind(), entry.as_slice()) {
                (kind::ARRAY, [of, index, len]) => {
                    push(&mut types, [new_id(*of), new_id(*index), *len]);
                }
                (kind::STRUCT | kind::UNION, [name, of, offset]) => {
                    push(
                        &mut types,
                        [strings.place(btf, *name)?, new_id(*of), *offset],
                    );
                }
                (kind::FUNC_PROTO, [name, of]) => {
                    push(&mut types, [strings.place(btf, *name)?, new_id(*of)]);
                }
                (kind::ENUM | kind::ENUM64, [name, value @ ..]) => {
                    push(&mut types, [strings.place(btf, *name)?]);
                    push(&mut types, value.iter().copied());
                }
                (_, words) => push(&mut types, words.iter().copied()),
            }
        }
    }

    let (type_len, string_len) = (types.len().try_into()?, strings.bytes.len().try_into()?);
    let mut out = vec![0x9f, 0xeb, 1, 0];
    push(&mut out, [24, 0, type_len, type_len, string_len]);
    out.extend(types);
    out.extend(strings.bytes);
    Ok(out)
}

/// Marks a type and what it embeds. Pointers are left out, except for those `through` which a
/// tracepoint's typedef leads to its prototype.
fn keep(btf: &Btf, id: u32, through: bool, kept: &mut BTreeSet<u32>) -> Result<()> {
    let Some(ty) = btf.get(id) else { return Ok(()) };
    if ty.kind() == kind::PTR && !through || !kept.insert(id) {
        return Ok(());
    }
    if refers(ty.kind()) {
        keep(
            btf,
            ty.size_or_type,
            through && ty.kind() != kind::FUNC_PROTO,
            kept,
        )?;
    }
    for entry in entries(ty) {
        match (ty.kind(), entry.as_slice()) {
            (kind::ARRAY, [of, index, _]) => {
                keep(btf, *of, false, kept)?;
                keep(btf, *index, false, kept)?;
            }
            (kind::STRUCT | kind::UNION | kind::FUNC_PROTO, [_, of, ..]) => {
                keep(btf, *of, false, kept)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether the last word of the head is a type.
fn refers(kind: u32) -> bool {
    matches!(
        kind,
        kind::PTR
            | kind::TYPEDEF
            | kind::VOLATILE
            | kind::CONST
            | kind::RESTRICT
            | kind::FUNC
            | kind::FUNC_PROTO
            | kind::TYPE_TAG
    )
}

/// What follows the head, by element, in words.
fn entries(ty: Type<'_>) -> Vec<Vec<u32>> {
    let size = match ty.kind() {
        kind::ENUM | kind::FUNC_PROTO => 8,
        kind::INT => 4,
        _ => 12,
    };
    let words = |entry: &[u8]| {
        let (words, _) = entry.as_chunks();
        words.iter().map(|word| u32::from_le_bytes(*word)).collect()
    };
    ty.body.chunks(size).map(words).collect()
}

fn push(out: &mut Vec<u8>, words: impl IntoIterator<Item = u32>) {
    out.extend(words.into_iter().flat_map(u32::to_le_bytes));
}

/// The new string section.
struct Strings {
    bytes: Vec<u8>,
    places: BTreeMap<Vec<u8>, u32>,
}

impl Strings {
    /// Where a string of the old section lies in the new one.
    fn place(&mut self, btf: &Btf, old: u32) -> Result<u32> {
        let text = btf
            .string(old)
            .context("a name outside the string section")?;
        if let Some(place) = self.places.get(text) {
            return Ok(*place);
        }
        let place = u32::try_from(self.bytes.len())?;
        self.bytes.extend(text);
        self.bytes.push(0);
        self.places.insert(text.to_vec(), place);
        Ok(place)
    }
}

fn same_answers(whole: &Btf, reduced: &Btf) -> Result<()> {
    for row in KernelOffsets::MEMBERS
        .iter()
        .flat_map(|member| member.names)
    {
        ensure!(whole.lookup(row) == reduced.lookup(row), "{row} got lost");
    }
    for hook in hooks(|attach| attach == Attach::RawTracepoint) {
        ensure!(
            whole.tracepoint_pointers(hook) == reduced.tracepoint_pointers(hook),
            "the arguments of {hook} got lost"
        );
    }
    for arch in ["x86_64", "aarch64"] {
        let control = |btf| offsets::control(btf, arch, 0).ok();
        ensure!(
            control(whole) == control(reduced),
            "the registers of {arch} got lost"
        );
    }
    Ok(())
}
