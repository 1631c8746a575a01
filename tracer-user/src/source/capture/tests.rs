//! Frames: written, read, cut, broken.

use std::collections::BTreeSet;

use super::*;

/// Every frame that is read is in the table of the documentation, and no other.
#[test]
fn frames_are_documented() {
    let text = include_str!("../../../../docs/captures.md");
    let rows = text.lines().filter_map(|line| {
        let (number, _) = line.strip_prefix("| ")?.split_once(" | ")?;
        number.parse::<u8>().ok()
    });
    let known =
        |kind: &u8| parse(*kind, Vec::new(), &mut Parts::default()) != Err("unknown frame type");
    let read: BTreeSet<u8> = (0..=u8::MAX).filter(known).collect();
    assert_eq!(rows.collect::<BTreeSet<u8>>(), read);
}

fn inputs() -> Vec<Input> {
    let mut inputs: Vec<Input> = remembered::samples()
        .into_iter()
        .map(Input::Remembered)
        .collect();
    inputs.extend(content::samples());
    inputs.extend([
        Input::Host(HostFacts {
            hostname: "h".into(),
            kernel: "6.1".into(),
            ..HostFacts::default()
        }),
        Input::Clock(1_700_000_000_123_456_789),
        Input::Names(Names {
            whose: Whose {
                mnt_ns: 4_026_531_841,
                user_ns: 4_026_532_000,
            },
            step: NamesStep::Replace,
            more: true,
            names: vec![(true, 33, "www-data".into()), (false, 0, "root".into())],
        }),
        Input::Names(Names {
            whose: Whose::default(),
            step: NamesStep::Fail,
            more: false,
            names: Vec::new(),
        }),
        Input::Directory(Entry {
            mnt_ns: Some(4_026_531_841),
            kind: Kind::Component,
            origin: Origin::Discovered,
            pattern: b"/srv/\xff".to_vec(),
            source: "/etc/nginx/nginx.conf:3".into(),
        }),
        Input::DirectoryUnnamed(b"/srv/\xff".to_vec()),
        Input::DirectoryAt {
            file: FileId {
                dev: 8 << 20 | 1,
                inode: 1 << 40,
            },
            entry: Entry {
                mnt_ns: None,
                kind: Kind::Served,
                origin: Origin::Config,
                pattern: b"/home/*/public_html".to_vec(),
                source: "default".into(),
            },
        },
        Input::DirectoryLeft(FileId { dev: 1, inode: 2 }),
        Input::Resolved(Resolved {
            mnt_ns: 4_026_531_841,
            directory: b"/tmp/\xff".to_vec(),
            real: b"/srv/www".to_vec(),
        }),
        Input::Record(Bytes::from_static(&[1, 2, 3])),
        Input::SnapshotEnd,
        Input::Watermark(u64::MAX),
        Input::Loss(Loss {
            reason: "life_ring_full".into(),
            stream: Some(Stream { cpu: 300, slot: 7 }),
            count: 5,
            since_boot_ns: 8,
            boot_ns: 9,
        }),
        Input::Loss(Loss {
            reason: "tag_map_full".into(),
            stream: None,
            count: 5,
            since_boot_ns: 8,
            boot_ns: 9,
        }),
        Input::HealBegin(10),
        Input::HealEnd,
        Input::Blind(remembered::Blind {
            since_boot_ns: 11,
            until_boot_ns: 12,
        }),
        Input::Enrichment(Enrichment {
            wait_ms: 250,
            containers: true,
            pods: false,
            files: true,
        }),
        Input::Container {
            id: "ab".into(),
            facts: None,
        },
        Input::Exceptions(crate::source::ExceptionPart::End),
        Input::Fold(0),
        Input::Pod {
            uid: "v".into(),
            facts: facts::sample().pod.map(Box::new),
        },
        Input::Container {
            id: "cd".into(),
            facts: Some(Box::new(facts::sample())),
        },
    ]);
    inputs
}

fn written() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    for input in inputs() {
        writer.write(&input).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn what_is_written_is_read() {
    let read: Vec<Input> = Reader::new(written().as_slice())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(read, inputs());
}

#[test]
fn every_cut_is_an_error_or_a_shorter_capture() {
    let whole = written();
    for len in 0..whole.len() {
        match Reader::new(&whole[..len]) {
            Err(CaptureError::Magic) => assert!(len < 8),
            Err(error) => panic!("{error}"),
            Ok(reader) => {
                let read: Vec<_> = reader.collect();
                let whole_frames = read.iter().filter(|input| input.is_ok()).count();
                assert!(whole_frames < inputs().len());
                if let Some(Err(error)) = read.last() {
                    assert!(matches!(error, CaptureError::Cut { .. }), "{error}");
                }
            }
        }
    }
}

#[test]
fn names_of_old_captures_hold_everywhere() {
    let mut capture = [&MAGIC[..], &[VERSION]].concat();
    capture.extend_from_slice(&[NAME, 9, 0, 0, 0, 1, 33, 0, 0, 0, 2, 0, b'w', b'w']);
    let read: Vec<_> = Reader::new(capture.as_slice())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let names = Names {
        whose: Whose::default(),
        step: NamesStep::Add,
        more: false,
        names: vec![(true, 33, "ww".into())],
    };
    assert_eq!(read, [Input::Names(names)]);
}

#[test]
fn errors_say_where_and_what() {
    let mut broken = written();
    broken[8] = 99;
    let error = Reader::new(broken.as_slice())
        .unwrap()
        .next()
        .unwrap()
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("broken frame at byte 8: unknown frame type")
    );
    let mut other = written();
    other[7] = 9;
    assert!(matches!(
        Reader::new(other.as_slice()),
        Err(CaptureError::Version(9))
    ));
}

/// Apart from the others: each is compiled when it is read.
#[test]
fn rules_are_read_whole_or_not_at_all() {
    let inputs = rules::samples();
    let mut writer = Writer::new(Vec::new()).unwrap();
    for input in &inputs {
        writer.write(input).unwrap();
    }
    let whole = writer.finish().unwrap();
    let read: Vec<Input> = Reader::new(whole.as_slice())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(read, inputs);
    // The first piece of the longer text is there, the second is not.
    let read: Vec<_> = Reader::new(&whole[..40_000]).unwrap().collect();
    assert!(matches!(read[..], [Err(CaptureError::Cut { .. })]));
}
