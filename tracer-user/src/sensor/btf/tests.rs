//! The parser against small hand-made types; real kernels are in `tests/btf.rs`.

use super::*;

/// Writes BTF by hand. Type numbers are the order of writing, from 1.
#[derive(Default)]
struct Writer {
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Writer {
    fn string(&mut self, text: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len();
        self.strings.extend(text.bytes());
        self.strings.push(0);
        u32::try_from(at).unwrap()
    }

    fn words(&mut self, words: &[u32]) {
        self.types
            .extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }

    fn ty(&mut self, name: &str, kind: u32, len: usize, size_or_type: u32) {
        let name = self.string(name);
        self.words(&[name, kind << 24 | u32::try_from(len).unwrap(), size_or_type]);
    }

    fn int(&mut self, name: &str, size: u32, bits: u32) {
        self.ty(name, kind::INT, 0, size);
        self.words(&[bits]);
    }

    /// Name, type and the offset word of each member.
    fn composite(&mut self, name: &str, kind: u32, size: u32, members: &[(&str, u32, u32)]) {
        self.ty(name, kind, members.len(), size);
        for (name, of, offset) in members {
            let name = self.string(name);
            self.words(&[name, *of, *offset]);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let (types, strings) = (self.types.len(), self.strings.len());
        let mut out = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types, types, strings] {
            out.extend(u32::try_from(word).unwrap().to_le_bytes());
        }
        out.extend(&self.types);
        out.extend(&self.strings);
        out
    }

    fn parse(&self) -> Btf {
        Btf::parse(self.bytes()).unwrap()
    }
}

const FLAGGED: u32 = kind::STRUCT | 0x80;

#[test]
fn members_are_found_through_anonymous_and_embedded_structures() {
    let mut w = Writer::default();
    w.int("int", 4, 32); // 1
    w.ty("", kind::PTR, 0, 7); // 2
    w.composite("", kind::UNION, 4, &[("either", 1, 0), ("or", 1, 0)]); // 3
    w.composite("", kind::STRUCT, 8, &[("first", 1, 0), ("", 3, 32)]); // 4
    w.ty("alias_t", kind::TYPEDEF, 0, 6); // 5
    w.ty("", kind::CONST, 0, 4); // 6
    w.composite(
        "outer",
        kind::STRUCT,
        64,
        &[
            ("plain", 1, 0),
            ("", 6, 64),
            ("named", 5, 128),
            ("list", 8, 192),
            ("next", 2, 448),
        ],
    ); // 7
    w.ty("", kind::ARRAY, 0, 0); // 8
    w.words(&[4, 1, 4]);
    let btf = w.parse();
    let cases = [
        ("outer.plain", Some(0)),
        ("outer.first", Some(8)),
        ("outer.either", Some(12)),
        ("outer.or", Some(12)),
        ("outer.named", Some(16)),
        ("outer.named.first", Some(16)),
        ("outer.named.or", Some(20)),
        ("outer.list", Some(24)),
        ("outer.next", Some(56)),
        ("sizeof outer", Some(64)),
        // Through an array, a pointer, an integer; and names that are not there.
        ("outer.list.first", None),
        ("outer.next.plain", None),
        ("outer.plain.x", None),
        ("outer.none", None),
        ("outer.", None),
        ("outer..first", None),
        ("outer", None),
        (".first", None),
        ("", None),
        ("none.plain", None),
        ("int.plain", None),
        ("sizeof none", None),
        ("sizeof int", None),
    ];
    for (row, expected) in cases {
        assert_eq!(btf.lookup(row), expected, "{row}");
    }
}

#[test]
fn bit_fields_have_no_byte_offset() {
    let mut w = Writer::default();
    w.int("int", 4, 32); // 1
    w.int("int", 4, 3); // 2, as compilers wrote bit-fields before the flag
    w.composite(
        "new",
        FLAGGED,
        8,
        &[("whole", 1, 0), ("bits", 1, 3 << 24 | 32)],
    ); // 3
    w.composite(
        "old",
        kind::STRUCT,
        8,
        &[("bits", 2, 32), ("odd", 1, 35), ("whole", 1, 32)],
    ); // 4
    let btf = w.parse();
    assert_eq!(btf.member_offset("new.whole"), Some(0));
    assert_eq!(btf.member_offset("new.bits"), None);
    assert_eq!(btf.member_offset("old.bits"), None);
    assert_eq!(btf.member_offset("old.odd"), None);
    assert_eq!(btf.member_offset("old.whole"), Some(4));
}

#[test]
fn of_structures_with_one_name_the_one_that_has_the_member_answers() {
    let mut w = Writer::default();
    w.int("int", 4, 32);
    w.composite("twin", kind::STRUCT, 4, &[("a", 1, 0)]);
    w.composite("twin", kind::STRUCT, 8, &[("a", 1, 32), ("b", 1, 0)]);
    let btf = w.parse();
    assert_eq!(btf.member_offset("twin.a"), Some(0));
    assert_eq!(btf.member_offset("twin.b"), Some(0));
}

#[test]
fn enumerators_are_values_that_fit() {
    let mut w = Writer::default();
    w.ty("small", kind::ENUM, 2, 4);
    let (five, minus) = (w.string("five"), w.string("minus"));
    w.words(&[five, 5, minus, u32::MAX]);
    w.ty("big", kind::ENUM64, 2, 8);
    let (seven, huge) = (w.string("seven"), w.string("huge"));
    w.words(&[seven, 7, 0, huge, 0, 1]);
    let btf = w.parse();
    assert_eq!(btf.lookup("enum small.five"), Some(5));
    assert_eq!(btf.lookup("enum small.minus"), None);
    assert_eq!(btf.lookup("enum big.seven"), Some(7));
    assert_eq!(btf.lookup("enum big.huge"), None);
    assert_eq!(btf.lookup("enum small.none"), None);
}

#[test]
fn tracepoints_lose_the_argument_that_is_their_own() {
    let mut w = Writer::default();
    w.ty("btf_trace_two", kind::TYPEDEF, 0, 2); // 1
    w.ty("", kind::PTR, 0, 3); // 2
    w.ty("", kind::FUNC_PROTO, 3, 0); // 3
    w.words(&[0, 2, 0, 2, 0, 2]);
    w.composite("btf_trace_not", kind::STRUCT, 0, &[]);
    let btf = w.parse();
    assert_eq!(btf.tracepoint_args("two"), Some(2));
    assert_eq!(btf.tracepoint_args("not"), None);
    assert_eq!(btf.tracepoint_args("none"), None);
}

#[test]
fn loops_and_fans_of_types_come_to_an_end() {
    let mut w = Writer::default();
    w.ty("loop_t", kind::TYPEDEF, 0, 2); // 1
    w.ty("", kind::CONST, 0, 1); // 2
    w.composite(
        "round",
        kind::STRUCT,
        4,
        &[("a", 1, 0), ("", 1, 0), ("", 3, 0)],
    ); // 3
    // Each holds 8 times the next: 8^32 members, were they all visited.
    for next in 5..40 {
        w.composite("fan", kind::STRUCT, 4, &[("", next, 0); 8]);
    }
    let btf = w.parse();
    assert_eq!(btf.member_offset("round.a.b"), None);
    assert_eq!(btf.member_offset("round.b"), None);
    assert_eq!(btf.member_offset("round.a"), Some(0));
    assert_eq!(btf.member_offset("fan.b"), None);
}

#[test]
fn kinds_from_the_future_are_stepped_over_if_the_file_says_how_long_they_are() {
    let mut w = Writer::default();
    w.ty("novelty", 20, 2, 0);
    w.words(&[1, 2, 3, 4, 5]); // 4 bytes once and 8 for each of 2
    w.composite("after", kind::STRUCT, 12, &[]);
    assert_eq!(
        Btf::parse(w.bytes()).unwrap_err(),
        BtfError::UnknownKind { id: 1, kind: 20 }
    );

    let mut bytes = w.bytes();
    let strings_end = u32::try_from(bytes.len() - 24).unwrap();
    bytes[4] = 32;
    let layout = [strings_end, 21 * 4];
    bytes.splice(24..24, layout.into_iter().flat_map(u32::to_le_bytes));
    bytes.extend([0; 20 * 4]);
    bytes.extend([4, 8, 0, 0]);
    assert_eq!(
        Btf::parse(bytes.clone()).unwrap().size_of("after"),
        Some(12)
    );

    bytes.truncate(bytes.len() - 1);
    assert_eq!(
        Btf::parse(bytes).unwrap_err(),
        BtfError::Truncated("the layout section")
    );
}

#[test]
fn each_fault_has_its_name() {
    let mut w = Writer::default();
    w.composite("s", kind::STRUCT, 4, &[("m", 1, 0)]);
    let good = w.bytes();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Btf::parse(bytes).unwrap_err()
    };
    assert_eq!(Btf::parse(Vec::new()).unwrap_err(), BtfError::NotBtf);
    assert_eq!(Btf::parse(&b"\x7fELF"[..]).unwrap_err(), BtfError::NotBtf);
    assert_eq!(
        Btf::parse(&[0xeb, 0x9f][..]).unwrap_err(),
        BtfError::ForeignEndian
    );
    assert_eq!(with(2, 2), BtfError::Version(2));
    assert_eq!(with(4, 20), BtfError::Truncated("the header"));
    assert_eq!(with(13, 1), BtfError::Truncated("the type section"));
    assert_eq!(with(23, 0xff), BtfError::Truncated("the string section"));
    assert_eq!(with(24 + 4, 2), BtfError::Truncated("a type")); // one member more than there is
    assert_eq!(with(24 + 7, 0), BtfError::UnknownKind { id: 1, kind: 0 });
    for len in 2..good.len() {
        let cut = Btf::parse(&good[..len]).unwrap_err();
        assert!(matches!(cut, BtfError::Truncated(_)), "{len}: {cut:?}");
    }
    assert_eq!(
        BtfError::Version(2).to_string(),
        "BTF version 2; version 1 is understood"
    );
}
