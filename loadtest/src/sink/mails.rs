//! Whole mails as the sink accepted them, in one file that may be read while it grows: what simulated readers read.
//!
//! Owns the file and, on the other side, the place up to which it was read. Invariants: 1. a mail is in the page cache before
//! the 250 of its message leaves; 2. a reader sees whole mails only; one that is being written waits for the next look;
//! 3. dots that SMTP doubled are single again, and the terminator is gone (RFC 5321 section 4.5.2).
//!
//! A mail is a line `MAIL recipient milliseconds length` (milliseconds: Unix time of the acceptance), then that many bytes,
//! then LF.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of a mail that are kept; what is longer is cut. Ten times what Gmail shows before it clips.
pub const MAIL_BYTES_MAX: usize = 1 << 20;
/// Bytes of one look at the file.
const LOOK_BYTES: u64 = 8 << 20;

/// Appends accepted mails to a file.
#[derive(Debug)]
pub struct MailWriter {
    file: File,
    pending: Vec<u8>,
}

impl MailWriter {
    pub fn open(path: &Path) -> io::Result<MailWriter> {
        Ok(MailWriter { file: OpenOptions::new().create(true).append(true).open(path)?, pending: Vec::new() })
    }

    /// Adds one mail; `dotted` says that it came by DATA. Nothing is written before [`MailWriter::flush`].
    pub fn add(&mut self, recipient: &[u8], body: &[u8], dotted: bool) {
        let plain = if dotted { without_dots(body) } else { body.to_vec() };
        let now = unix_ms();
        let recipient: String = String::from_utf8_lossy(recipient).chars().filter(|c| !c.is_whitespace()).collect();
        self.pending.extend_from_slice(format!("MAIL {recipient} {now} {}\n", plain.len()).as_bytes());
        self.pending.extend_from_slice(&plain);
        self.pending.push(b'\n');
    }

    /// Writes what was added.
    pub fn flush(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.file.write_all(&self.pending)?;
            self.pending.clear();
        }
        Ok(())
    }
}

/// Unix time in milliseconds: what the sink's process and the readers' have in common.
#[allow(clippy::disallowed_methods, reason = "two processes of the harness compare times, and neither is simulated")]
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The message without its terminator and doubled dots.
fn without_dots(body: &[u8]) -> Vec<u8> {
    let body = body.strip_suffix(b".\r\n").unwrap_or(body);
    let mut plain = Vec::with_capacity(body.len());
    let mut rest = body.strip_prefix(b".").unwrap_or(body);
    while let Some(at) = memchr::memmem::find(rest, b"\r\n.") {
        plain.extend_from_slice(&rest[..at + 2]);
        rest = &rest[at + 3..];
    }
    plain.extend_from_slice(rest);
    plain
}

/// One mail of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    pub recipient: String,
    /// Unix time of its acceptance, milliseconds.
    pub accepted_ms: u64,
    /// As it would lie in a mailbox.
    pub source: Vec<u8>,
}

/// Reads mails as they come.
#[derive(Debug)]
pub struct MailReader {
    file: File,
    at: u64,
}

impl MailReader {
    pub fn open(path: &Path) -> io::Result<MailReader> {
        Ok(MailReader { file: File::open(path)?, at: 0 })
    }

    /// Whole mails that came since the last call, at most some megabytes of them; empty when there is nothing new.
    pub fn next_mails(&mut self) -> io::Result<Vec<Mail>> {
        self.file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut self.file).take(LOOK_BYTES).read_to_end(&mut bytes)?;
        let (mut mails, mut rest) = (Vec::new(), &bytes[..]);
        while let Some((mail, used)) = parse(rest)? {
            rest = &rest[used..];
            self.at += used as u64;
            mails.push(mail);
        }
        Ok(mails)
    }
}

/// The first mail and the bytes that it takes, unless its end is still missing.
fn parse(bytes: &[u8]) -> io::Result<Option<(Mail, usize)>> {
    let Some(end) = memchr::memchr(b'\n', bytes) else { return Ok(None) };
    let line = String::from_utf8_lossy(&bytes[..end]);
    let fault = || io::Error::new(io::ErrorKind::InvalidData, format!("not a mail of the record: {line:?}"));
    let mut words = line.split(' ');
    let (Some("MAIL"), Some(recipient), Some(time), Some(length)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(fault());
    };
    let length: usize = length.parse().map_err(|_| fault())?;
    let accepted_ms = time.parse().map_err(|_| fault())?;
    let from = end + 1;
    let Some(source) = bytes.get(from..from + length).filter(|_| bytes.len() > from + length) else { return Ok(None) };
    let mail = Mail { recipient: recipient.to_owned(), accepted_ms, source: source.to_vec() };
    Ok(Some((mail, from + length + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_single_again() {
        assert_eq!(without_dots(b"a\r\n..b\r\n...\r\n.\r\n"), b"a\r\n.b\r\n..\r\n");
        assert_eq!(without_dots(b"..a\r\n.\r\n"), b".a\r\n", "in the first line, too");
        assert_eq!(without_dots(b".\r\n"), b"", "an empty mail");
    }

    #[test]
    fn mails_are_read_while_the_file_grows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mails");
        let mut writer = MailWriter::open(&path).unwrap();
        let mut reader = MailReader::open(&path).unwrap();
        assert_eq!(reader.next_mails().unwrap(), [], "nothing yet");
        writer.add(b"a@b.test", b"Subject: x\r\n\r\n..MAIL x 1 2\r\n.\r\n", true);
        writer.add(b"c@d.test", b"by chunks\r\n.\r\n", false);
        writer.flush().unwrap();
        let mails = reader.next_mails().unwrap();
        assert_eq!(mails.len(), 2);
        assert_eq!(mails[0].recipient, "a@b.test");
        assert_eq!(mails[0].source, b"Subject: x\r\n\r\n.MAIL x 1 2\r\n", "as it would lie in a mailbox");
        assert_eq!(mails[1].source, b"by chunks\r\n.\r\n", "chunks have no terminator");
        let mut raw = OpenOptions::new().append(true).open(&path).unwrap();
        raw.write_all(b"MAIL e@f.test 5 4\nab").unwrap();
        assert_eq!(reader.next_mails().unwrap(), [], "half a mail is none");
        raw.write_all(b"cd\n").unwrap();
        let late = Mail { recipient: "e@f.test".to_owned(), accepted_ms: 5, source: b"abcd".to_vec() };
        assert_eq!(reader.next_mails().unwrap(), [late], "and is one when it is whole");
    }
}
