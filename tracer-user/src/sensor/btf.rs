//! Reads the kernel's own type information (BTF) to find where structure members lie.
//!
//! Only what the offset table asks for: places of members, sizes, enumerators, arguments of
//! tracepoints. No type graph is built, nothing is relocated, split BTF of modules is not read and
//! nothing is fetched: the caller brings the bytes. They are an allegation, as `--btf FILE` can
//! name any file: each read is checked, and each walk has a limit.
//!
//! Format: the kernel's `Documentation/bpf/btf.rst` and `include/uapi/linux/btf.h` (read at 7.2:
//! kinds of 7 and lengths of 24 bits, and the layout section that lets a reader step over kinds it
//! does not know; older kernels leave those bits zero and that section out). Little-endian only,
//! like every architecture the agent is built for.

use std::fmt;
use std::ops::Range;

/// Numbers of the kinds that this reader tells apart, `BTF_KIND_*`.
pub mod kind {
    #![expect(missing_docs, reason = "the names are the kernel's")]
    pub const INT: u32 = 1;
    pub const PTR: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const FWD: u32 = 7;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

/// Bytes after the common head of a type, by kind: once, and for each of its elements.
const SIZES: [(usize, usize); 20] = [
    (0, 0),  // void is never written
    (4, 0),  // INT
    (0, 0),  // PTR
    (12, 0), // ARRAY
    (0, 12), // STRUCT
    (0, 12), // UNION
    (0, 8),  // ENUM
    (0, 0),  // FWD
    (0, 0),  // TYPEDEF
    (0, 0),  // VOLATILE
    (0, 0),  // CONST
    (0, 0),  // RESTRICT
    (0, 0),  // FUNC
    (0, 8),  // FUNC_PROTO
    (4, 0),  // VAR
    (0, 12), // DATASEC
    (0, 0),  // FLOAT
    (4, 0),  // DECL_TAG
    (0, 0),  // TYPE_TAG
    (0, 12), // ENUM64
];

/// Name, info, size or type: the head that every type has.
const HEAD: usize = 12;
/// The header of every version so far, without the layout section's two words of 7.2.
const HEADER: usize = 24;
/// The kernel refuses longer names (`KSYM_NAME_LEN`), so a string table without ends costs nothing.
const NAME_MAX: usize = 512;
/// Modifiers in a row (`const volatile typedef ...`); real chains have fewer than ten.
const PEEL_MAX: usize = 32;
/// Anonymous structures inside each other; the kernel's own limit is 32 (`MAX_RESOLVE_DEPTH`).
const NEST_MAX: u32 = 32;
/// Members visited for one name. The largest structure of a kernel has some 300.
const VISIT_MAX: u32 = 100_000;

/// Why bytes could not be read as BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BtfError {
    /// The magic number is missing.
    NotBtf,
    /// Written by a big-endian machine.
    ForeignEndian,
    /// A version of the format that is not known.
    Version(u8),
    /// The bytes end before this part of them does.
    Truncated(&'static str),
    /// A type's kind is unknown and the file does not say how long it is, so that nothing after it
    /// can be read either.
    UnknownKind {
        /// Number of the type.
        id: u32,
        /// Its kind.
        kind: u32,
    },
}

impl fmt::Display for BtfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotBtf => f.write_str(
                "not BTF: it must be raw BTF such as /sys/kernel/btf/vmlinux, not an ELF file or an archive",
            ),
            Self::ForeignEndian => f.write_str("big-endian BTF, of another kind of machine"),
            Self::Version(version) => write!(f, "BTF version {version}; version 1 is understood"),
            Self::Truncated(what) => write!(f, "BTF is cut off or damaged: it ends within {what}"),
            Self::UnknownKind { id, kind } => {
                write!(f, "BTF type {id} is of kind {kind}, which this version does not know")
            }
        }
    }
}

impl std::error::Error for BtfError {}

/// BTF that has been found to be well-formed as far as its type section's framing goes.
#[derive(Clone)]
pub struct Btf {
    bytes: Vec<u8>,
    strings: Range<usize>,
    /// Where in `bytes` each type starts, type 1 first, and where the last ends.
    starts: Vec<usize>,
    /// Hash of name and number of each named type that can be asked for, sorted.
    index: Vec<(u32, u32)>,
}

/// One type, as it is written.
#[derive(Clone, Copy, Debug)]
pub struct Type<'a> {
    /// Place of the name in the string section; 0 for none.
    pub name: u32,
    info: u32,
    /// Size in bytes or number of the type referred to, depending on the kind.
    pub size_or_type: u32,
    /// What follows the head: elements, or what else the kind has.
    pub body: &'a [u8],
}

impl<'a> Type<'a> {
    /// Its kind, one of [`kind`] or another.
    #[must_use]
    pub const fn kind(&self) -> u32 {
        self.info >> 24 & 0x7f
    }

    /// Kind, flag and number of elements, as written.
    #[must_use]
    pub const fn info(&self) -> u32 {
        self.info
    }

    /// Number of members, enumerators or parameters.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.info & 0x00ff_ffff
    }

    /// Whether it has no members, enumerators or parameters.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is a structure or a union.
    #[must_use]
    pub const fn is_composite(&self) -> bool {
        matches!(self.kind(), kind::STRUCT | kind::UNION)
    }

    const fn flag(&self) -> bool {
        self.info >> 31 == 1
    }

    /// Name, type and place of each member.
    fn members(self) -> impl Iterator<Item = Member> + 'a {
        let flag = self.flag();
        self.body.chunks_exact(12).filter_map(move |entry| {
            let offset = word(entry, 8)?;
            // With the flag, the upper 8 bits are the width of a bit-field.
            let (width, bits) = if flag {
                (offset >> 24, offset & 0x00ff_ffff)
            } else {
                (0, offset)
            };
            Some(Member {
                name: word(entry, 0)?,
                type_id: word(entry, 4)?,
                bits,
                bitfield: width != 0,
            })
        })
    }
}

#[derive(Clone, Copy)]
struct Member {
    name: u32,
    type_id: u32,
    bits: u32,
    bitfield: bool,
}

impl Btf {
    /// Checks the framing and indexes the names.
    ///
    /// # Errors
    ///
    /// Says why the bytes are not BTF that can be read.
    pub fn parse(bytes: impl Into<Vec<u8>>) -> Result<Self, BtfError> {
        let bytes = bytes.into();
        let header = Header::parse(&bytes)?;
        let mut starts = Vec::with_capacity(header.types.len() / HEAD / 2);
        let mut at = header.types.start;
        while at < header.types.end {
            starts.push(at);
            let info = word(&bytes, at.saturating_add(4)).ok_or(BtfError::Truncated("a type"))?;
            let (kind, len) = (info >> 24 & 0x7f, info & 0x00ff_ffff);
            let (once, each) =
                header
                    .size_of(&bytes, kind)
                    .ok_or_else(|| BtfError::UnknownKind {
                        id: u32::try_from(starts.len()).unwrap_or(u32::MAX),
                        kind,
                    })?;
            at = usize::try_from(len)
                .ok()
                .and_then(|len| each.checked_mul(len)?.checked_add(once)?.checked_add(HEAD))
                .and_then(|size| at.checked_add(size))
                .filter(|end| *end <= header.types.end)
                .ok_or(BtfError::Truncated("a type"))?;
        }
        starts.push(at);

        let mut btf = Self {
            bytes,
            strings: header.strings,
            starts,
            index: Vec::new(),
        };
        btf.index = btf
            .types()
            .filter(|(_, ty)| {
                ty.is_composite() || matches!(ty.kind(), kind::ENUM | kind::ENUM64 | kind::TYPEDEF)
            })
            .filter_map(|(id, ty)| {
                let name = btf.string(ty.name)?;
                (!name.is_empty()).then(|| (hash(name), id))
            })
            .collect();
        btf.index.sort_unstable();
        Ok(btf)
    }

    /// The value of one row of the offset table: `struct.member...`, `enum tag.value`,
    /// `sizeof struct` or `bit struct.member`.
    #[must_use]
    pub fn lookup(&self, row: &str) -> Option<u32> {
        if let Some(path) = row.strip_prefix("enum ") {
            self.enumerator(path)
        } else if let Some(tag) = row.strip_prefix("sizeof ") {
            self.size_of(tag)
        } else if let Some(path) = row.strip_prefix("bit ") {
            self.bit_offset(path)
        } else {
            self.member_offset(row)
        }
    }

    /// Bytes from the start of a structure to a member, by `struct.member.member`: members of
    /// embedded structures by their path, members of anonymous ones as if they were their parent's.
    ///
    /// `None` where there is none, for a bit-field, and for a path through a pointer or an array.
    /// Where several structures bear the name, the first that has the member answers.
    #[must_use]
    pub fn member_offset(&self, path: &str) -> Option<u32> {
        let (tag, path) = path.split_once('.')?;
        let mut visits = VISIT_MAX;
        let bits = self
            .named(tag)
            .filter(|(_, ty)| ty.is_composite())
            .find_map(|(_, ty)| self.walk(ty, path, &mut visits))?;
        (bits % 8 == 0).then_some(bits / 8)
    }

    /// Bits from the start of a structure to a bit-field of it, by `struct.member`; `None` for a
    /// member that is none.
    #[must_use]
    pub fn bit_offset(&self, path: &str) -> Option<u32> {
        let (tag, name) = path.split_once('.')?;
        self.named(tag)
            .filter(|(_, ty)| ty.is_composite())
            .find_map(|(_, ty)| {
                let named = |member: &Member| self.string(member.name) == Some(name.as_bytes());
                let member = ty.members().find(named)?;
                member.bitfield.then_some(member.bits)
            })
    }

    /// The value of an enumerator, by `tag.value`; `None` where it is negative or does not fit.
    #[must_use]
    pub fn enumerator(&self, path: &str) -> Option<u32> {
        let (tag, value) = path.split_once('.')?;
        let is_value = |entry: &[u8]| {
            word(entry, 0).and_then(|name| self.string(name)) == Some(value.as_bytes())
        };
        self.named(tag).find_map(|(_, ty)| match ty.kind() {
            kind::ENUM => {
                let entry = ty.body.chunks_exact(8).find(|entry| is_value(entry))?;
                word(entry, 4).filter(|value| *value <= i32::MAX.cast_unsigned())
            }
            kind::ENUM64 => {
                let entry = ty.body.chunks_exact(12).find(|entry| is_value(entry))?;
                (word(entry, 8)? == 0).then(|| word(entry, 4))?
            }
            _ => None,
        })
    }

    /// Size in bytes of a structure or union.
    #[must_use]
    pub fn size_of(&self, tag: &str) -> Option<u32> {
        let (_, ty) = self.named(tag).find(|(_, ty)| ty.is_composite())?;
        Some(ty.size_or_type)
    }

    /// How many arguments a tracepoint hands to its programs; `None` where the kernel lacks it.
    #[must_use]
    pub fn tracepoint_args(&self, name: &str) -> Option<usize> {
        let proto = self.tracepoint(name)?;
        usize::try_from(proto.len()).ok()?.checked_sub(1)
    }

    /// Which of the arguments that a tracepoint hands to its programs are pointers; `None` where the
    /// kernel lacks it.
    #[must_use]
    pub fn tracepoint_pointers(&self, name: &str) -> Option<Vec<bool>> {
        let proto = self.tracepoint(name)?;
        let is_pointer = |entry: &[u8]| {
            let ty = word(entry, 4).and_then(|id| self.peel(id));
            ty.is_some_and(|ty| ty.kind() == kind::PTR)
        };
        let arguments = proto.body.chunks_exact(8).skip(1);
        Some(arguments.map(is_pointer).collect())
    }

    /// The prototype of a tracepoint's programs.
    fn tracepoint(&self, name: &str) -> Option<Type<'_>> {
        // `typedef void (*btf_trace_NAME)(void *, ...)`: the first is the tracepoint's own.
        self.named(&format!("btf_trace_{name}"))
            .find_map(|(_, ty)| {
                if ty.kind() != kind::TYPEDEF {
                    return None;
                }
                let pointer = self.peel(ty.size_or_type)?;
                if pointer.kind() != kind::PTR {
                    return None;
                }
                let proto = self.peel(pointer.size_or_type)?;
                (proto.kind() == kind::FUNC_PROTO).then_some(proto)
            })
    }

    /// Which argument of a kernel function bears a name, counted from zero; `None` where the kernel
    /// lacks the function or it has no such argument.
    #[must_use]
    pub fn parameter(&self, function: &str, name: &str) -> Option<u32> {
        let is_name = |entry: &[u8]| {
            word(entry, 0).and_then(|name| self.string(name)) == Some(name.as_bytes())
        };
        let proto = self.prototype(function)?;
        let at = proto.body.chunks_exact(8).position(is_name)?;
        u32::try_from(at).ok()
    }

    /// How many arguments a kernel function takes; `None` where the kernel lacks it.
    #[must_use]
    pub fn arguments(&self, function: &str) -> Option<u32> {
        Some(self.prototype(function)?.len())
    }

    fn prototype(&self, function: &str) -> Option<Type<'_>> {
        // Functions are not in the index: they would double it for a handful of questions.
        let (_, found) = self.types().find(|(_, ty)| {
            ty.kind() == kind::FUNC && self.string(ty.name) == Some(function.as_bytes())
        })?;
        self.get(found.size_or_type)
            .filter(|proto| proto.kind() == kind::FUNC_PROTO)
    }

    /// The bytes that it was read from.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Every type with its number, in order.
    pub fn types(&self) -> impl Iterator<Item = (u32, Type<'_>)> {
        (1u32..).map_while(|id| Some((id, self.get(id)?)))
    }

    /// A type by its number; `None` for 0, which is void.
    #[must_use]
    pub fn get(&self, id: u32) -> Option<Type<'_>> {
        let at = usize::try_from(id).ok()?.checked_sub(1)?;
        let (start, end) = (*self.starts.get(at)?, *self.starts.get(at.checked_add(1)?)?);
        let (head, body) = self.bytes.get(start..end)?.split_at_checked(HEAD)?;
        Some(Type {
            name: word(head, 0)?,
            info: word(head, 4)?,
            size_or_type: word(head, 8)?,
            body,
        })
    }

    /// A string by its place in the string section.
    #[must_use]
    pub fn string(&self, offset: u32) -> Option<&[u8]> {
        let rest = self
            .bytes
            .get(self.strings.clone())?
            .get(usize::try_from(offset).ok()?..)?;
        let rest = rest.get(..NAME_MAX).unwrap_or(rest);
        rest.get(..rest.iter().position(|byte| *byte == 0)?)
    }

    /// Structures, unions, enumerations and typedefs of a name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (u32, Type<'a>)> {
        let name = name.as_bytes();
        let wanted = hash(name);
        let first = self.index.partition_point(|(hash, _)| *hash < wanted);
        let rest = self.index.get(first..).unwrap_or_default();
        rest.iter()
            .take_while(move |(hash, _)| *hash == wanted)
            .filter_map(|(_, id)| Some((*id, self.get(*id)?)))
            .filter(move |(_, ty)| self.string(ty.name) == Some(name))
    }

    /// Bits from the start of `outer` to the member at the end of `path`.
    fn walk(&self, outer: Type<'_>, path: &str, visits: &mut u32) -> Option<u32> {
        let mut outer = Some(outer);
        let mut total = 0u32;
        for name in path.split('.') {
            let member = self.member(outer?, name.as_bytes(), NEST_MAX, visits)?;
            total = total.checked_add(member.bits)?;
            outer = self.peel(member.type_id);
        }
        Some(total)
    }

    /// A member by name, with its place counted from the start of `outer`.
    fn member(&self, outer: Type<'_>, name: &[u8], nest: u32, visits: &mut u32) -> Option<Member> {
        if !outer.is_composite() || name.is_empty() {
            return None;
        }
        for member in outer.members() {
            *visits = visits.checked_sub(1)?;
            if member.name == 0 {
                let Some(nest) = nest.checked_sub(1) else {
                    continue;
                };
                let inner = self.peel(member.type_id);
                if let Some(found) = inner.and_then(|ty| self.member(ty, name, nest, visits)) {
                    return Some(Member {
                        bits: found.bits.checked_add(member.bits)?,
                        ..found
                    });
                }
            } else if self.string(member.name) == Some(name) {
                return (!member.bitfield && !self.is_bitfield(member.type_id)).then_some(member);
            }
        }
        None
    }

    /// Whether the type is an integer that fills only part of its bytes: how a bit-field is
    /// written where its structure lacks the flag.
    fn is_bitfield(&self, id: u32) -> bool {
        self.peel(id).is_some_and(|ty| {
            ty.kind() == kind::INT
                && word(ty.body, 0).is_some_and(|encoding| {
                    let (offset, bits) = (encoding >> 16 & 0xff, encoding & 0xff);
                    offset != 0 || ty.size_or_type.checked_mul(8) != Some(bits)
                })
        })
    }

    /// The type behind typedefs, qualifiers and tags.
    fn peel(&self, mut id: u32) -> Option<Type<'_>> {
        for _ in 0..PEEL_MAX {
            let ty = self.get(id)?;
            match ty.kind() {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = ty.size_or_type;
                }
                _ => return Some(ty),
            }
        }
        None
    }
}

impl fmt::Debug for Btf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Btf")
            .field("bytes", &self.bytes.len())
            .field("types", &self.starts.len().saturating_sub(1))
            .finish_non_exhaustive()
    }
}

/// Where the sections lie.
struct Header {
    types: Range<usize>,
    strings: Range<usize>,
    layout: Range<usize>,
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        const CUT: BtfError = BtfError::Truncated("the header");
        match bytes.get(..2) {
            Some([0x9f, 0xeb]) => {}
            Some([0xeb, 0x9f]) => return Err(BtfError::ForeignEndian),
            _ => return Err(BtfError::NotBtf),
        }
        match bytes.get(2) {
            Some(1) => {}
            Some(version) => return Err(BtfError::Version(*version)),
            None => return Err(CUT),
        }
        let field = |at| {
            word(bytes, at)
                .and_then(|word| usize::try_from(word).ok())
                .ok_or(CUT)
        };
        let length = field(4)?;
        if length < HEADER {
            return Err(CUT);
        }
        let section = |at: usize, what| {
            let start = length
                .checked_add(field(at)?)
                .ok_or(BtfError::Truncated(what))?;
            let end = start.checked_add(field(at.saturating_add(4))?);
            end.filter(|end| *end <= bytes.len())
                .map(|end| start..end)
                .ok_or(BtfError::Truncated(what))
        };
        Ok(Self {
            types: section(8, "the type section")?,
            strings: section(16, "the string section")?,
            layout: if length < 32 {
                0..0
            } else {
                section(24, "the layout section")?
            },
        })
    }

    /// Sizes of a kind: its own, or as the layout section has it for a kind that came later.
    fn size_of(&self, bytes: &[u8], kind: u32) -> Option<(usize, usize)> {
        if kind == 0 {
            return None;
        }
        let kind = usize::try_from(kind).ok()?;
        SIZES.get(kind).copied().or_else(|| {
            let layout = bytes
                .get(self.layout.clone())?
                .get(kind.checked_mul(4)?..)?;
            Some((usize::from(*layout.first()?), usize::from(*layout.get(1)?)))
        })
    }
}

/// The little-endian word at a place.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|word| u32::from_le_bytes(*word))
}

/// FNV-1a. Equal hashes are compared by name, so it need only spread.
fn hash(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests;
