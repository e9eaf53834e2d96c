//! The sink's record: one line per accepted message, written before the 250 leaves.
//!
//! Owns the file. Invariants: 1. a line is in the page cache before the answer to its message is written, so a kill of
//! the sender, or of the sink, loses no accepted message; 2. lines are appended whole, one write per batch of answers;
//! 3. a reader that comes in between sees whole lines and perhaps one unfinished line at the end, which it ignores.
//!
//! A line is `recipient TAB message-id TAB subject LF`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Bytes of a message's head that are searched for its headers.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Appends accepted messages to a file.
#[derive(Debug)]
pub struct Recorder {
    file: File,
    pending: Vec<u8>,
}

impl Recorder {
    pub fn open(path: &Path) -> io::Result<Recorder> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Recorder { file, pending: Vec::with_capacity(64 * 1024) })
    }

    /// Adds one message; nothing is written before [`Recorder::flush`].
    pub fn add(&mut self, recipient: &[u8], head: &[u8]) {
        push_field(&mut self.pending, recipient);
        self.pending.push(b'\t');
        push_field(&mut self.pending, &header(head, b"message-id"));
        self.pending.push(b'\t');
        push_field(&mut self.pending, &header(head, b"subject"));
        self.pending.push(b'\n');
    }

    /// Writes what was added; must return before the answers leave.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.file.write_all(&self.pending)?;
        self.pending.clear();
        Ok(())
    }
}

fn push_field(into: &mut Vec<u8>, field: &[u8]) {
    into.extend(field.iter().map(|b| if b.is_ascii_control() { b' ' } else { *b }));
}

/// The unfolded value of the first header of this name (lower case); empty when there is none.
pub fn header(head: &[u8], name: &[u8]) -> Vec<u8> {
    let mut lines = head.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l));
    while let Some(line) = lines.next() {
        if line.is_empty() {
            return Vec::new();
        }
        if line.len() <= name.len() || line[name.len()] != b':' || !line[..name.len()].eq_ignore_ascii_case(name) {
            continue;
        }
        let mut value = line[name.len() + 1..].trim_ascii().to_vec();
        for next in lines.by_ref() {
            if !matches!(next.first(), Some(b' ' | b'\t')) {
                break;
            }
            value.push(b' ');
            value.extend_from_slice(next.trim_ascii());
        }
        return value;
    }
    Vec::new()
}

/// One accepted message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub recipient: String,
    pub message_id: String,
    pub subject: String,
}

/// Reads a record; an unfinished last line (the sink was killed in its write) is left out.
pub fn read(path: &Path) -> io::Result<Vec<Accepted>> {
    let bytes = std::fs::read(path)?;
    parse(&bytes[..whole(&bytes)])
}

/// Bytes of whole lines.
pub fn whole(bytes: &[u8]) -> usize {
    memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1)
}

/// Messages of whole lines.
pub fn parse(lines: &[u8]) -> io::Result<Vec<Accepted>> {
    let text = String::from_utf8_lossy(lines);
    text.lines()
        .map(|line| {
            let mut fields = line.split('\t');
            match (fields.next(), fields.next(), fields.next(), fields.next()) {
                (Some(recipient), Some(message_id), Some(subject), None) => Ok(Accepted {
                    recipient: recipient.to_owned(),
                    message_id: message_id.to_owned(),
                    subject: subject.to_owned(),
                }),
                _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("not a record line: {line:?}"))),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_whatever_their_case_and_unfolded() {
        let head = b"From: a@b.c\r\nSUBJECT: one\r\n two\r\n\tthree\r\nmessage-id:<1@x>\r\n\r\nSubject: body\r\n";
        assert_eq!(header(head, b"subject"), b"one two three", "folded lines are joined");
        assert_eq!(header(head, b"message-id"), b"<1@x>", "no space after the colon is needed");
        assert_eq!(header(head, b"list-id"), b"", "what stands in the body or nowhere is not a header");
    }

    #[test]
    fn a_record_is_read_back_without_its_torn_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        let mut recorder = Recorder::open(&path).unwrap();
        recorder.add(b"a@b.c", b"Message-ID: <1@x>\r\nSubject: tab\there\r\n\r\n");
        recorder.flush().unwrap();
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"torn@b").unwrap();
        let read = read(&path).unwrap();
        assert_eq!(read.len(), 1, "the torn line does not count");
        assert_eq!((read[0].recipient.as_str(), read[0].subject.as_str()), ("a@b.c", "tab here"));
    }
}
