//! A file of the guest on its way here: a checksum and hexadecimal digits on the serial line.
//!
//! Whole or not at all: kernel messages, a lost byte or a cut leave an error and no file.

use anyhow::{Context as _, bail};

/// The guest's side: a shell function's body that prints the file `$1`, of applets of busybox.
pub(super) const SCRIPT: &str = r#"crc32 "$1" && xxd -p "$1""#;

/// The file in what [`SCRIPT`] printed.
pub(super) fn decode(output: &str) -> anyhow::Result<Vec<u8>> {
    let (head, digits) = output.split_once('\n').context("there is no checksum")?;
    let sum = head.split(' ').next().unwrap_or_default();
    let sum = u32::from_str_radix(sum, 16)
        .with_context(|| format!("`{head}` begins with no checksum"))?;
    let digits: String = digits.lines().collect();
    let bytes = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair)
                .ok()
                .filter(|pair| pair.len() == 2);
            pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())
        })
        .collect::<Option<Vec<u8>>>()
        .context("what follows the checksum is not hexadecimal")?;
    let found = crc32(&bytes);
    if found != sum {
        bail!("the checksum of what came is {found:08x}, that of the file {sum:08x}");
    }
    Ok(bytes)
}

/// The CRC-32 of gzip and Ethernet.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    !bytes.iter().fold(u32::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            let carry = if sum & 1 == 1 { POLYNOMIAL } else { 0 };
            (sum >> 1) ^ carry
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by busybox 1.35 for a file of the digits 1 to 9.
    const PRINTED: &str = "cbf43926 /out/file\n313233343536373839\n";

    #[test]
    fn a_file_comes_back_whole() {
        assert_eq!(decode(PRINTED).unwrap(), b"123456789");
        assert_eq!(decode("00000000 /out/empty\n").unwrap(), b"");
        let wrapped = "cbf43926 /out/file\n3132333435\n36373839\n";
        assert_eq!(decode(wrapped).unwrap(), b"123456789");
    }

    #[test]
    fn what_is_not_whole_is_an_error() {
        let rows = [
            ("", "no checksum"),
            ("crc32: /out/file: No such file\n", "no checksum"),
            ("cbf43926 /out/file\n3132333435363738\n", "the checksum"),
            ("cbf43926 /out/file\n31323334353637383\n", "hexadecimal"),
            ("cbf43926 /out/file\n[ 1.0] oops\n", "hexadecimal"),
        ];
        for (output, expected) in rows {
            let error = decode(output).unwrap_err().to_string();
            assert!(error.contains(expected), "{output:?}: {error}");
        }
    }
}
