//! Bytes of a file → bytes of UTF-8 text, streaming.
//!
//! Owns a block of undecoded bytes. UTF-8 passes through untouched (rows with invalid bytes are rejected later, one by
//! one); other encodings are converted, what is invalid in UTF-16 becoming U+FFFD. Positions count decoded bytes.

use std::io::{self, Read, Seek, SeekFrom};

use encoding_rs::Decoder;

use crate::contacts::csv_import::detect::{Encoding, TextFormat};

const BLOCK_BYTES: usize = 64 * 1024;

pub(crate) struct TextReader<R> {
    file: R,
    conversion: Option<Conversion>,
}

struct Conversion {
    decoder: Decoder,
    block: Vec<u8>,
    undecoded: std::ops::Range<usize>,
    text: Vec<u8>,
    unread: std::ops::Range<usize>,
    ended: bool,
}

impl Conversion {
    fn new(decoder: Decoder) -> Conversion {
        // A byte of Latin-1 becomes up to three of UTF-8, two bytes of UTF-16 too.
        Conversion {
            decoder,
            block: vec![0; BLOCK_BYTES],
            undecoded: 0..0,
            text: vec![0; 3 * BLOCK_BYTES],
            unread: 0..0,
            ended: false,
        }
    }

    /// Fills `unread`, unless the file has ended.
    fn fill(&mut self, file: &mut impl Read) -> io::Result<()> {
        while self.unread.is_empty() && !self.ended {
            let mut last = false;
            if self.undecoded.is_empty() {
                self.undecoded = 0..file.read(&mut self.block)?;
                last = self.undecoded.is_empty();
            }
            let (result, read, written, _) =
                self.decoder.decode_to_utf8(&self.block[self.undecoded.clone()], &mut self.text, last);
            self.undecoded.start += read;
            self.unread = 0..written;
            self.ended = last && result == encoding_rs::CoderResult::InputEmpty;
        }
        Ok(())
    }
}

impl<R: Read + Seek> TextReader<R> {
    /// Reads the text of `file` from the decoded position `from` on.
    pub(crate) fn open(mut file: R, format: TextFormat, from: u64) -> io::Result<TextReader<R>> {
        let decoder = match format.encoding {
            Encoding::Utf8 => None,
            Encoding::Utf16Le => Some(encoding_rs::UTF_16LE.new_decoder_without_bom_handling()),
            Encoding::Utf16Be => Some(encoding_rs::UTF_16BE.new_decoder_without_bom_handling()),
            Encoding::Latin1 => Some(encoding_rs::WINDOWS_1252.new_decoder_without_bom_handling()),
        };
        let skip = if decoder.is_none() { from } else { 0 };
        file.seek(SeekFrom::Start(u64::from(format.bom) + skip))?;
        let mut reader = TextReader { file, conversion: decoder.map(Conversion::new) };
        if reader.conversion.is_some() {
            // A decoded position has no place in the file, so what was read before is decoded again: some ns a byte.
            io::copy(&mut (&mut reader).take(from), &mut io::sink())?;
        }
        Ok(reader)
    }
}

impl<R: Read> Read for TextReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some(conversion) = &mut self.conversion else {
            return self.file.read(out);
        };
        conversion.fill(&mut self.file)?;
        let unread = &conversion.text[conversion.unread.clone()];
        let count = unread.len().min(out.len());
        out[..count].copy_from_slice(&unread[..count]);
        conversion.unread.start += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_reads_back_from_any_position(text in "[a-zé€\u{1F600}\n]{0,300}", encoding in 0u8..3, cut in any::<prop::sample::Index>()) {
            let (encoding, bytes): (_, Vec<u8>) = match encoding {
                0 => (Encoding::Utf8, text.clone().into_bytes()),
                1 => (Encoding::Utf16Le, text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
                _ => (Encoding::Utf16Be, text.encode_utf16().flat_map(u16::to_be_bytes).collect()),
            };
            let from = cut.index(text.len() + 1);
            let format = TextFormat { encoding, bom: 0, mixed: false };
            let mut got = Vec::new();
            TextReader::open(io::Cursor::new(bytes), format, from as u64).expect("opens").read_to_end(&mut got).expect("reads");
            prop_assert_eq!(&got, &text.as_bytes()[from..]);
        }
    }

    #[test]
    fn latin_1_and_broken_utf_16_become_text() {
        let read = |bytes: &[u8], encoding| {
            let mut got = String::new();
            let format = TextFormat { encoding, bom: 0, mixed: false };
            TextReader::open(io::Cursor::new(bytes.to_vec()), format, 0)
                .expect("opens")
                .read_to_string(&mut got)
                .expect("UTF-8");
            got
        };
        assert_eq!(read(b"n\xe9\x80", Encoding::Latin1), "né€", "windows-1252");
        let broken = read(&[0x61, 0, 0x00, 0xD8, 0x63, 0, 0x62], Encoding::Utf16Le);
        assert_eq!(broken, "a\u{fffd}c\u{fffd}", "lone surrogate, odd byte");
    }
}
