//! `sched_process_exec`: the words that a program was given.

use std::fs;

use tracer_common::event::flag;
use tracer_common::limits::{ARGS_HEAD_BYTES, ARGS_TAIL_BYTES};
use tracer_common::probe::Drop as Lost;

use crate::child::Image;
use crate::exec::{check, check_child};
use crate::facts::bytes;
use crate::stage::{Outcome, Span, Stage, Test, tests};

pub(crate) const TESTS: &[Test] = tests!("arguments":
    words_as_they_were_given,
    none_at_all,
    more_than_is_kept,
    the_edges_of_what_is_kept,
    a_cleared_environment,
);

fn words_as_they_were_given(stage: &mut Stage) -> Outcome {
    let image = stage
        .helper("pause")
        .arg("")
        .arg(b"\xff\xfe\x80 not \xc3\x28 UTF-8")
        .arg("two words\nand \"lines\"")
        .arg("");
    let exec = check(stage, &image, 0, |_| ());
    let expected: [&[u8]; 5] = [
        b"helper-pause",
        b"",
        b"\xff\xfe\x80 not \xc3\x28 UTF-8",
        b"two words\nand \"lines\"",
        b"",
    ];
    assert_eq!(exec.args, expected);
    assert_eq!(exec.args_len, 13 + 1 + 17 + 22 + 1);
    Ok(())
}

fn none_at_all(stage: &mut Stage) -> Outcome {
    let image = Image {
        argv: Vec::new(),
        ..stage.helper("exit")
    };
    let (mut child, meta, exec) = stage.exec(&image);
    // Since 5.18 (dcd46d897adb) the kernel puts an empty word where there is none.
    if exec.args_len == 0 {
        assert_eq!(exec.args, Vec::<Vec<u8>>::new());
    } else {
        assert_eq!((exec.args, exec.args_len), (vec![Vec::new()], 1));
    }
    assert_eq!(meta.flags, 0);
    child.end_well();
    Ok(())
}

/// What is left of an argument area that is longer than both ends.
fn cut(area: &[u8]) -> Vec<Vec<u8>> {
    let (head, rest) = area.split_at(ARGS_HEAD_BYTES);
    let end = &rest[rest.len() - ARGS_TAIL_BYTES..];
    let kept = [head, "…".as_bytes(), end].concat();
    let kept = kept.strip_suffix(b"\0").unwrap();
    kept.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect()
}

/// Text in which every place looks different.
fn numbered(len: usize) -> Vec<u8> {
    let numbers = (0_u32..).flat_map(|number| format!("{number:05}.").into_bytes());
    numbers.take(len).collect()
}

fn more_than_is_kept(stage: &mut Stage) -> Outcome {
    // 200 KB in all; one word may have 128 KiB at most (MAX_ARG_STRLEN, include/uapi/linux/binfmts.h).
    let image = stage
        .helper("pause")
        .arg("-c")
        .arg(numbered(120_000))
        .arg(numbered(80_000))
        .arg("; payload");
    let area = image.area();
    let exec = check(stage, &image, flag::ARGS_TRUNCATED, |exec| {
        exec.args = cut(&area);
    });
    assert_eq!(exec.args_len, area.len() as u64);
    assert_eq!(exec.args[..2], [&b"helper-pause"[..], b"-c"]);
    assert!(exec.args[2].starts_with(b"00000.00001."));
    assert_eq!(exec.args[3..], [b"; payload"]);
    Ok(())
}

fn the_edges_of_what_is_kept(stage: &mut Stage) -> Outcome {
    let both = ARGS_HEAD_BYTES + ARGS_TAIL_BYTES;
    for len in [
        ARGS_HEAD_BYTES - 1,
        ARGS_HEAD_BYTES,
        ARGS_HEAD_BYTES + 1,
        both - 1,
        both,
        both + 1,
    ] {
        let image = stage.helper("pause");
        let room = len - image.area().len() - 1;
        let image = image.arg(numbered(room));
        let area = image.area();
        assert_eq!(area.len(), len);
        let flags = if len > both { flag::ARGS_TRUNCATED } else { 0 };
        check(stage, &image, flags, |exec| {
            if len > both {
                exec.args = cut(&area);
            }
        });
    }
    Ok(())
}

fn a_cleared_environment(stage: &mut Stage) -> Outcome {
    // Nothing but the program's own name lies between the arguments and the end of the stack, and
    // it is short: a read of a fixed length would run out of memory that is there.
    let folder = stage.folder();
    fs::hard_link(&stage.program, folder.join("p")).unwrap();
    let image = Image {
        path: c"p".into(),
        env: Vec::new(),
        ..stage.helper("pause").arg("-c").arg("id")
    };
    let before = stage.watch.drops(Lost::ArgsFault);
    let span = Span::begin();
    let (child, meta, exec) =
        stage.exec_after(&image, |_| std::env::set_current_dir(&folder).unwrap());
    check_child(span, &child, &image, 0, (&meta, &exec), |_| ());
    assert_eq!(exec.args, [&b"helper-pause"[..], b"-c", b"id"]);
    assert_eq!(exec.cwd, bytes(&folder));
    assert_eq!(exec.exe, bytes(folder.join("p")));
    assert_eq!(exec.filename, b"p");
    assert_eq!(stage.watch.drops(Lost::ArgsFault), before);
    Ok(())
}
