//! Decoded text → CSV records, one at a time, with their place in the file.
//!
//! Owns the buffer of undivided text. Invariants: CR-1 memory is bounded by `limits::CSV_RECORD_BYTES_MAX`, whatever the
//! file; CR-2 every byte belongs to exactly one record, fault or blank line, so positions after a resume are those of one
//! pass; CR-3 a quote that is never closed costs the line it stands in, and nothing after it.
//!
//! The splitting itself is `csv-core`'s (RFC 4180, lenient inside unquoted fields). Knows nothing of columns.

use std::io::{self, Read};

use csv_core::ReadRecordResult;

use crate::limits;

/// Bytes read at a time.
const READ_BYTES: usize = 128 * 1024;

/// What the reader found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// [`Records::field`] gives its fields.
    Record,
    /// Something that is no record; [`Records::raw`] gives it, or its beginning.
    Fault(Fault),
    End,
}

/// Why a piece of a file is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("a quote is opened and not closed")]
    OpenQuote,
    #[error("the record is longer than {max} bytes", max = limits::CSV_RECORD_BYTES_MAX)]
    TooLong,
    #[error("the record has more than {max} columns", max = limits::CSV_COLUMNS_MAX)]
    TooManyColumns,
}

pub(crate) struct Records<R> {
    input: R,
    core: csv_core::Reader,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
    /// Decoded position and line of `buffer[start]`.
    position: u64,
    line: u64,
    fields: Vec<u8>,
    ends: Vec<usize>,
    count: usize,
    raw: std::ops::Range<usize>,
    record_line: u64,
}

impl<R: Read> Records<R> {
    /// Reads records from `input`, whose first byte has the given place.
    pub(crate) fn new(input: R, delimiter: u8, position: u64, line: u64) -> Records<R> {
        let core = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        Records {
            input,
            core,
            buffer: vec![0; 2 * READ_BYTES],
            start: 0,
            end: 0,
            ended: false,
            position,
            line,
            fields: vec![0; READ_BYTES],
            ends: vec![0; 64],
            count: 0,
            raw: 0..0,
            record_line: line,
        }
    }

    /// The decoded position and the line at which the next record begins.
    pub(crate) fn place(&self) -> (u64, u64) {
        (self.position, self.line)
    }

    /// The line on which the last record or fault began; the first is 1.
    pub(crate) fn record_line(&self) -> u64 {
        self.record_line
    }

    /// The text of the last record or fault as it stands in the file, or its beginning.
    pub(crate) fn raw(&self) -> &[u8] {
        self.buffer.get(self.raw.clone()).unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn field(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.fields[start..self.ends[index]]
    }

    pub(crate) fn next(&mut self) -> io::Result<Found> {
        self.skip_line_ends()?;
        self.record_line = self.line;
        self.core.reset();
        let (mut read, mut written, mut count) = (0usize, 0usize, 0usize);
        loop {
            if self.start + read == self.end && !self.ended {
                self.refill(read)?;
            }
            let input = &self.buffer[self.start + read..self.end];
            let at_end = input.is_empty();
            // At the end of the file a line end is fed first: where it ends no record, a quote is open.
            let input = if at_end { &b"\n"[..] } else { input };
            let (result, used, out, ends) =
                self.core.read_record(input, &mut self.fields[written..], &mut self.ends[count..]);
            if !at_end {
                read += used;
            }
            written += out;
            count += ends;
            match result {
                ReadRecordResult::Record if at_end && read == 0 => return Ok(Found::End),
                ReadRecordResult::Record if count > limits::CSV_COLUMNS_MAX => {
                    return self.fault(Fault::TooManyColumns);
                }
                ReadRecordResult::Record => {
                    self.count = count;
                    self.take(read);
                    return Ok(Found::Record);
                }
                ReadRecordResult::End => return Ok(Found::End),
                ReadRecordResult::InputEmpty if at_end && read == 0 => return Ok(Found::End),
                ReadRecordResult::InputEmpty if at_end => return self.fault(Fault::OpenQuote),
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.fields.resize(self.fields.len() * 2, 0),
                ReadRecordResult::OutputEndsFull if count > limits::CSV_COLUMNS_MAX => {
                    return self.fault(Fault::TooManyColumns);
                }
                ReadRecordResult::OutputEndsFull => {
                    self.ends.resize((self.ends.len() * 2).min(limits::CSV_COLUMNS_MAX + 2), 0);
                }
            }
            if read > limits::CSV_RECORD_BYTES_MAX {
                let lone_quote = memchr::memchr2(b'\n', b'\r', &self.buffer[self.start..self.start + read]).is_some();
                return self.fault(if lone_quote { Fault::OpenQuote } else { Fault::TooLong });
            }
        }
    }

    /// Ends the record that has the next `read` bytes.
    fn take(&mut self, read: usize) {
        self.raw = self.start..self.start + read;
        self.line += memchr::memchr_iter(b'\n', &self.buffer[self.raw.clone()]).count() as u64;
        self.start += read;
        self.position += read as u64;
    }

    /// Passes over the line ends between records. What is left of CR LF after a record counts its line here.
    fn skip_line_ends(&mut self) -> io::Result<()> {
        loop {
            while let Some(byte @ (b'\n' | b'\r')) = self.buffer[self.start..self.end].first() {
                self.line += u64::from(*byte == b'\n');
                self.start += 1;
                self.position += 1;
            }
            if self.start < self.end || self.ended {
                return Ok(());
            }
            self.refill(0)?;
        }
    }

    /// Gives up the record at hand and goes on after its first line.
    fn fault(&mut self, fault: Fault) -> io::Result<Found> {
        self.core.reset();
        self.count = 0;
        let mut kept = 0;
        loop {
            let unread = &self.buffer[self.start + kept..self.end];
            if let Some(at) = memchr::memchr2(b'\n', b'\r', unread) {
                self.take(kept + at);
                return Ok(Found::Fault(fault));
            }
            kept += unread.len();
            if self.ended {
                self.take(kept);
                return Ok(Found::Fault(fault));
            }
            if kept > limits::CSV_RECORD_BYTES_MAX {
                // A line without end: keep its beginning for the report, drop the rest block by block.
                let shown = self.start..self.start + limits::REJECTED_RECORD_BYTES_MAX;
                let beginning = self.buffer[shown.clone()].to_vec();
                self.drop_line(kept)?;
                let room = beginning.len();
                self.buffer.splice(0..0, beginning);
                self.start += room;
                self.end += room;
                self.raw = 0..room;
                return Ok(Found::Fault(fault));
            }
            self.refill(kept)?;
        }
    }

    /// Drops the next `read` bytes and everything up to the line's end.
    fn drop_line(&mut self, read: usize) -> io::Result<()> {
        self.start += read;
        self.position += read as u64;
        loop {
            let unread = &self.buffer[self.start..self.end];
            let at = memchr::memchr2(b'\n', b'\r', unread);
            let dropped = at.unwrap_or(unread.len());
            self.start += dropped;
            self.position += dropped as u64;
            if at.is_some() || self.ended {
                return Ok(());
            }
            self.refill(0)?;
        }
    }

    /// Reads more text behind the `kept` bytes at the front, which stay.
    fn refill(&mut self, kept: usize) -> io::Result<()> {
        if self.start > 0 && self.buffer.len() - self.end < READ_BYTES {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            // After a long record the buffer shrinks again.
            if self.buffer.len() > 8 * READ_BYTES && self.end < READ_BYTES {
                self.buffer.truncate(2 * READ_BYTES);
                self.buffer.shrink_to_fit();
            }
        }
        if self.buffer.len() - self.end < READ_BYTES {
            self.buffer.resize(self.start + kept + 2 * READ_BYTES, 0);
        }
        let read = loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.ended = read == 0;
        self.end += read;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All records and faults as text, with their lines.
    fn read(text: &[u8]) -> Vec<(u64, Result<Vec<String>, Fault>)> {
        let mut records = Records::new(text, b',', 0, 1);
        let mut out = Vec::new();
        loop {
            match records.next().expect("a slice reads") {
                Found::End => break,
                Found::Fault(fault) => out.push((records.record_line(), Err(fault))),
                Found::Record => {
                    let fields = (0..records.len()).map(|i| String::from_utf8_lossy(records.field(i)).into_owned());
                    out.push((records.record_line(), Ok(fields.collect())));
                }
            }
        }
        assert_eq!(records.place().0, text.len() as u64, "every byte is passed");
        out
    }

    fn ok(line: u64, fields: &[&str]) -> (u64, Result<Vec<String>, Fault>) {
        (line, Ok(fields.iter().map(|f| (*f).to_owned()).collect()))
    }

    #[test]
    fn records_come_with_their_lines() {
        let text = b"a,b\r\n\r\n1,\"x\ny\"\"z\"\n\n2,\n\"\",q";
        let want = [ok(1, &["a", "b"]), ok(3, &["1", "x\ny\"z"]), ok(6, &["2", ""]), ok(7, &["", "q"])];
        assert_eq!(read(text), want);
        assert_eq!(read(b""), [], "empty");
        assert_eq!(read(b"\n\r\n\n"), [], "blank");
        assert_eq!(read(b"a\rb\r"), [ok(1, &["a"]), ok(1, &["b"])], "old line ends");
        assert_eq!(read(b"a,b\"c\n"), [ok(1, &["a", "b\"c"])], "a quote within a field is text");
    }

    #[test]
    fn a_lone_quote_costs_its_own_line_only() {
        assert_eq!(
            read(b"1,a\n2,\"b\n3,c\n"),
            [ok(1, &["1", "a"]), (2, Err(Fault::OpenQuote)), ok(3, &["3", "c"])],
            "at the end"
        );
        assert_eq!(read(b"1,\"a"), [(1, Err(Fault::OpenQuote))], "in the last line");
        let mut long = b"1,\"a\n".to_vec();
        for _ in 0..200_000 {
            long.extend_from_slice(b"12345,abcde\n");
        }
        let got = read(&long);
        assert_eq!(got.len(), 200_001, "every other line is read");
        assert_eq!(got[0], (1, Err(Fault::OpenQuote)), "the line of the quote");
        assert_eq!(got[200_000], ok(200_001, &["12345", "abcde"]), "the last line");
    }

    #[test]
    fn endless_lines_and_thousands_of_columns_are_faults_and_memory_stays_flat() {
        let line = io::Read::chain(io::repeat(b'x').take(300_000_000), &b"\n1,2\n"[..]);
        let mut records = Records::new(line, b',', 0, 1);
        assert_eq!(records.next().expect("reads"), Found::Fault(Fault::TooLong), "too long");
        assert_eq!(records.raw().len(), limits::REJECTED_RECORD_BYTES_MAX, "the beginning is kept");
        assert!(records.buffer.len() < 4 * limits::CSV_RECORD_BYTES_MAX, "{} bytes", records.buffer.len());
        assert_eq!(records.next().expect("reads"), Found::Record, "and on");
        assert_eq!((records.record_line(), records.field(1)), (2, &b"2"[..]), "the next line");
        let wide = "x,".repeat(10_000) + "\n1,2\n";
        assert_eq!(read(wide.as_bytes()), [(1, Err(Fault::TooManyColumns)), ok(2, &["1", "2"])], "wide");
        let most = "x,".repeat(limits::CSV_COLUMNS_MAX - 1) + "x\n";
        assert_eq!(read(most.as_bytes())[0].1.as_ref().map(Vec::len), Ok(limits::CSV_COLUMNS_MAX), "as wide as may be");
    }

    #[test]
    fn reading_on_from_any_record_gives_the_same_rest() {
        let text = b"a,b\r\n1,\"x\ny\"\n\"open\n2,c\n\n3,\"d\"\r\n";
        let all = read(text);
        let mut records = Records::new(&text[..], b',', 0, 1);
        for passed in 1..=all.len() {
            records.next().expect("reads");
            let (position, line) = records.place();
            let mut rest = Records::new(&text[position as usize..], b',', position, line);
            let mut lines = Vec::new();
            while rest.next().expect("reads") != Found::End {
                lines.push(rest.record_line());
            }
            let want: Vec<u64> = all[passed..].iter().map(|r| r.0).collect();
            assert_eq!(lines, want, "after {passed}");
        }
    }
}
