//! What kind of text a file is: its encoding and its delimiter.
//!
//! Stateless; reads a file once, in blocks. Knows nothing of records, columns or contacts.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};

/// Bytes read at a time.
const BLOCK_BYTES: usize = 256 * 1024;
/// Bytes at the start of a file in which delimiters are counted.
const DELIMITER_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    Utf8,
    Utf16Le,
    Utf16Be,
    /// ISO 8859-1; bytes 80–9F are read as windows-1252 has them, as every browser does.
    Latin1,
}

impl Encoding {
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Utf8 => "UTF-8",
            Encoding::Utf16Le => "UTF-16LE",
            Encoding::Utf16Be => "UTF-16BE",
            Encoding::Latin1 => "Latin-1",
        }
    }

    pub fn from_name(name: &str) -> Option<Encoding> {
        match name.to_ascii_lowercase().replace(['-', '_'], "").as_str() {
            "utf8" => Some(Encoding::Utf8),
            "utf16le" => Some(Encoding::Utf16Le),
            "utf16be" => Some(Encoding::Utf16Be),
            "latin1" | "iso88591" | "windows1252" => Some(Encoding::Latin1),
            _ => None,
        }
    }
}

/// How the text of a file is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextFormat {
    pub encoding: Encoding,
    /// Bytes of the byte order mark.
    pub bom: u8,
    /// The file has both valid multi-byte UTF-8 and bytes that are not UTF-8: rows with the latter are rejected.
    pub mixed: bool,
}

/// What a look over a whole file's bytes has seen.
#[derive(Default)]
struct Utf8Scan {
    /// Bytes of an incomplete sequence at the end of the last block.
    pending: Vec<u8>,
    valid_multibyte: bool,
    invalid: bool,
}

impl Utf8Scan {
    fn block(&mut self, block: &[u8]) {
        if self.pending.is_empty() && block.is_ascii() {
            return;
        }
        let mut bytes = std::mem::take(&mut self.pending);
        bytes.extend_from_slice(block);
        let mut rest = &bytes[..];
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.valid_multibyte |= !text.is_ascii();
                    return;
                }
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    self.valid_multibyte |= !good.is_ascii();
                    let Some(length) = error.error_len() else {
                        self.pending = bad.to_vec();
                        return;
                    };
                    self.invalid = true;
                    if self.valid_multibyte {
                        return;
                    }
                    rest = &bad[length..];
                }
            }
        }
    }
}

/// Detects the encoding by the whole file: a byte order mark, else zero bytes at every second place, else whether the
/// bytes are UTF-8.
pub fn detect_encoding(mut file: impl Read) -> io::Result<TextFormat> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut filled = read_block(&mut file, &mut block)?;
    let plain = |encoding, bom| Ok(TextFormat { encoding, bom, mixed: false });
    let head = &block[..filled];
    if head.starts_with(&[0xFF, 0xFE]) {
        return plain(Encoding::Utf16Le, 2);
    }
    if head.starts_with(&[0xFE, 0xFF]) {
        return plain(Encoding::Utf16Be, 2);
    }
    let bom = if head.starts_with(&[0xEF, 0xBB, 0xBF]) { 3 } else { 0 };
    // Latin letters in UTF-16 have a zero byte in every second place; nothing else has so many.
    let sample = &head[..head.len().min(4_096) & !1];
    let zeros = |odd: usize| sample.iter().skip(odd).step_by(2).filter(|b| **b == 0).count();
    let (even, odd, pairs) = (zeros(0), zeros(1), sample.len() / 2);
    if bom == 0 && pairs >= 4 {
        if odd * 10 >= pairs * 7 && even * 10 < pairs {
            return plain(Encoding::Utf16Le, 0);
        }
        if even * 10 >= pairs * 7 && odd * 10 < pairs {
            return plain(Encoding::Utf16Be, 0);
        }
    }
    let mut scan = Utf8Scan::default();
    while filled > 0 {
        scan.block(&block[..filled]);
        filled = read_block(&mut file, &mut block)?;
    }
    let invalid = scan.invalid || !scan.pending.is_empty();
    let encoding = if invalid && !scan.valid_multibyte && bom == 0 { Encoding::Latin1 } else { Encoding::Utf8 };
    Ok(TextFormat { encoding, bom, mixed: invalid && encoding == Encoding::Utf8 })
}

fn read_block(file: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match file.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The byte order mark of a file that is read in a given encoding.
pub fn bom_bytes(encoding: Encoding, head: &[u8]) -> u8 {
    match encoding {
        Encoding::Utf8 if head.starts_with(&[0xEF, 0xBB, 0xBF]) => 3,
        Encoding::Utf16Le if head.starts_with(&[0xFF, 0xFE]) => 2,
        Encoding::Utf16Be if head.starts_with(&[0xFE, 0xFF]) => 2,
        _ => 0,
    }
}

/// Detects the delimiter by the header line of decoded text: the one of `,` `;` tab that occurs most outside quotes;
/// a comma if none does.
pub fn detect_delimiter(text: &[u8]) -> u8 {
    let text = &text[..text.len().min(DELIMITER_BYTES)];
    let mut counts = [(b',', 0usize), (b';', 0), (b'\t', 0)];
    let mut quoted = false;
    let mut any = false;
    for byte in text {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' | b'\r' if !quoted && any => break,
            b'\n' | b'\r' => {}
            _ if !quoted => {
                for count in counts.iter_mut().filter(|c| c.0 == *byte) {
                    count.1 += 1;
                }
            }
            _ => {}
        }
        any |= !matches!(byte, b'\n' | b'\r');
    }
    let best = counts.iter().rev().max_by_key(|c| c.1).filter(|c| c.1 > 0);
    best.map_or(b',', |c| c.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(bytes: &[u8]) -> (Encoding, u8, bool) {
        let format = detect_encoding(bytes).expect("a slice reads");
        (format.encoding, format.bom, format.mixed)
    }

    fn utf16(text: &str, little: bool) -> Vec<u8> {
        text.encode_utf16().flat_map(|u| if little { u.to_le_bytes() } else { u.to_be_bytes() }).collect()
    }

    #[test]
    fn encodings_are_told_apart() {
        assert_eq!(detect(b"key,email\n1,a@b.de\n"), (Encoding::Utf8, 0, false), "ASCII");
        assert_eq!(detect("\u{feff}key,name\n1,né\n".as_bytes()), (Encoding::Utf8, 3, false), "byte order mark");
        assert_eq!(detect(b"key,name\n1,n\xe9\n"), (Encoding::Latin1, 0, false), "Latin-1");
        assert_eq!(detect(b"key,name\n1,n\xe9\n2,n\xc3\xa9\n"), (Encoding::Utf8, 0, true), "mixed");
        let text = "key,name\n1,né\n2,Łódź\n";
        assert_eq!(detect(&utf16(text, true)), (Encoding::Utf16Le, 0, false), "little endian");
        assert_eq!(detect(&utf16(text, false)), (Encoding::Utf16Be, 0, false), "big endian");
        assert_eq!(detect(&utf16(&format!("\u{feff}{text}"), true)), (Encoding::Utf16Le, 2, false), "with mark");
        assert_eq!(detect(b""), (Encoding::Utf8, 0, false), "empty");
        let mut split = vec![b'a'; BLOCK_BYTES - 1];
        split.extend_from_slice("é".as_bytes());
        assert_eq!(detect(&split), (Encoding::Utf8, 0, false), "a sequence over two blocks");
    }

    #[test]
    fn delimiters_are_told_apart_outside_quotes() {
        for (text, want) in [
            ("a,b;c,d\n", b','),
            ("a;b;c\n1,2;3,4;5,6", b';'),
            ("a\tb\n", b'\t'),
            ("\"a,b,c\";d\n", b';'),
            ("\n\nkey\n", b','),
            ("", b','),
        ] {
            assert_eq!(detect_delimiter(text.as_bytes()), want, "{text:?}");
        }
    }
}
