//! SMTP replies: a bounded, incremental parser over one reused buffer (RFC 5321 4.2, RFC 2034).
//!
//! Owns the bytes read and not yet parsed, and the newest reply. Invariants: RP-1 a line longer than
//! `SMTP_REPLY_LINE_BYTES_MAX` or a reply of more than `SMTP_REPLY_LINES_MAX` lines is an error, found before it is
//! stored; RP-2 the buffer never grows; RP-3 parsing does not depend on how the bytes were cut into reads.
//!
//! Must not know what was asked, nor what a reply means.

use memchr::memchr;

use crate::limits::{SMTP_REPLY_LINE_BYTES_MAX, SMTP_REPLY_LINES_MAX};

/// Bytes read from the peer and not yet parsed: more than one line, so that a group's replies come in one read.
const BUFFER_BYTES: usize = 8 * 1024;
/// Bytes of text that one reply keeps, over all its lines.
const TEXT_BYTES: usize = 8 * 1024;

const _: () = assert!(SMTP_REPLY_LINE_BYTES_MAX < BUFFER_BYTES, "a whole line must fit in the buffer");

/// RFC 3463: class, subject, detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enhanced(pub u8, pub u16, pub u16);

/// One whole reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// Of the last line that has one.
    pub enhanced: Option<Enhanced>,
    /// Text of all lines without codes, joined by line feeds.
    pub text: String,
}

impl Reply {
    pub fn is_positive(&self) -> bool {
        (200..300).contains(&self.code)
    }

    pub fn is_transient(&self) -> bool {
        (400..500).contains(&self.code)
    }

    pub fn is_permanent(&self) -> bool {
        self.code >= 500
    }

    /// Code and text in one line, at most `max` bytes, for reports.
    pub fn sample(&self, max: usize) -> String {
        let mut sample = format!("{} {}", self.code, self.text);
        if sample.len() > max {
            let cut = (0..=max).rev().find(|i| sample.is_char_boundary(*i)).unwrap_or(0);
            sample.truncate(cut);
        }
        sample.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    #[error("reply line longer than {SMTP_REPLY_LINE_BYTES_MAX} bytes")]
    LineTooLong,
    #[error("reply of more than {SMTP_REPLY_LINES_MAX} lines")]
    TooManyLines,
    #[error("reply line does not begin with a code")]
    NoCode,
    #[error("code changes within one reply")]
    CodeChanges,
}

/// See the module's docs.
#[derive(Debug)]
pub struct ReplyReader {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    reply: Reply,
    lines: usize,
    complete: bool,
}

impl Default for ReplyReader {
    fn default() -> ReplyReader {
        ReplyReader {
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            reply: Reply::default(),
            lines: 0,
            complete: true,
        }
    }
}

impl ReplyReader {
    /// Where the next read goes; never empty after [`ReplyReader::advance`] answered `false`.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.buffer[self.end..]
    }

    /// `n` bytes were read into [`ReplyReader::space`].
    pub fn filled(&mut self, n: usize) {
        self.end = (self.end + n).min(self.buffer.len());
    }

    /// Parses on; `true` when [`ReplyReader::reply`] is a new whole reply.
    pub fn advance(&mut self) -> Result<bool, ReplyError> {
        loop {
            let pending = &self.buffer[self.start..self.end];
            let Some(newline) = memchr(b'\n', pending) else {
                return if pending.len() > SMTP_REPLY_LINE_BYTES_MAX {
                    Err(ReplyError::LineTooLong)
                } else {
                    Ok(false)
                };
            };
            if newline > SMTP_REPLY_LINE_BYTES_MAX {
                return Err(ReplyError::LineTooLong);
            }
            let line = pending[..newline].strip_suffix(b"\r").unwrap_or(&pending[..newline]);
            let (code, more, text) = split(line).ok_or(ReplyError::NoCode)?;
            if self.complete {
                self.reply.text.clear();
                self.reply.enhanced = None;
                self.reply.code = code;
                self.lines = 0;
                self.complete = false;
            } else if self.reply.code != code {
                return Err(ReplyError::CodeChanges);
            }
            self.lines += 1;
            if self.lines > SMTP_REPLY_LINES_MAX {
                return Err(ReplyError::TooManyLines);
            }
            if let Some((enhanced, _)) = enhanced(text) {
                self.reply.enhanced = Some(enhanced);
            }
            push_text(&mut self.reply.text, text, self.lines > 1);
            self.start += newline + 1;
            if !more {
                self.complete = true;
                return Ok(true);
            }
        }
    }

    /// The newest whole reply.
    pub fn reply(&self) -> &Reply {
        &self.reply
    }

    /// Bytes that came beyond the newest reply: after STARTTLS there must be none.
    pub fn has_pending(&self) -> bool {
        self.start < self.end || !self.complete
    }
}

/// Code, whether more lines follow, and the text.
fn split(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let digits = line.get(..3)?;
    if !digits.iter().all(u8::is_ascii_digit) || !(b'2'..=b'5').contains(&digits[0]) {
        return None;
    }
    let code = digits.iter().fold(0u16, |code, digit| code * 10 + u16::from(digit - b'0'));
    match line.get(3) {
        None => Some((code, false, &[])),
        Some(b' ') => Some((code, false, &line[4..])),
        Some(b'-') => Some((code, true, &line[4..])),
        Some(_) => None,
    }
}

/// The enhanced status code at the start of a text, and what follows it.
fn enhanced(text: &[u8]) -> Option<(Enhanced, &[u8])> {
    let class = *text.first()?;
    if !matches!(class, b'2' | b'4' | b'5') || text.get(1) != Some(&b'.') {
        return None;
    }
    let (subject, rest) = number(&text[2..])?;
    let rest = rest.strip_prefix(b".")?;
    let (detail, rest) = number(rest)?;
    matches!(rest.first(), None | Some(b' ')).then_some((Enhanced(class - b'0', subject, detail), rest))
}

fn number(text: &[u8]) -> Option<(u16, &[u8])> {
    let digits = text.iter().take(3).take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    Some((text[..digits].iter().fold(0, |n, d| n * 10 + u16::from(d - b'0')), &text[digits..]))
}

fn push_text(into: &mut String, text: &[u8], separate: bool) {
    if into.len() + text.len() + 1 > TEXT_BYTES {
        return;
    }
    if separate {
        into.push('\n');
    }
    match std::str::from_utf8(text) {
        Ok(text) => into.push_str(text),
        Err(_) => into.push_str(&String::from_utf8_lossy(text)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds bytes in pieces of the given sizes; answers every reply and how it ended.
    fn feed(bytes: &[u8], sizes: &[usize]) -> (Vec<Reply>, Option<ReplyError>) {
        let mut reader = ReplyReader::default();
        let (mut replies, mut at, mut turn) = (Vec::new(), 0, 0);
        loop {
            match reader.advance() {
                Ok(true) => {
                    replies.push(reader.reply().clone());
                    continue;
                }
                Ok(false) => {}
                Err(error) => return (replies, Some(error)),
            }
            if at == bytes.len() {
                return (replies, None);
            }
            let space = reader.space();
            let n =
                sizes.get(turn % sizes.len().max(1)).copied().unwrap_or(1).clamp(1, space.len()).min(bytes.len() - at);
            space[..n].copy_from_slice(&bytes[at..at + n]);
            reader.filled(n);
            at += n;
            turn += 1;
        }
    }

    #[test]
    fn replies_of_a_group_come_apart() {
        let (replies, error) =
            feed(b"250 2.1.0 Ok\r\n250-first\r\n250 last\r\n354\r\n550 5.1.1 <x>: unknown\r\n", &[4_096]);
        assert_eq!(error, None, "all well formed");
        assert_eq!(replies.iter().map(|r| r.code).collect::<Vec<_>>(), [250, 250, 354, 550], "codes");
        assert_eq!(replies[0].enhanced, Some(Enhanced(2, 1, 0)), "enhanced code");
        assert_eq!(replies[1].text, "first\nlast", "lines joined");
        assert_eq!(replies[3].enhanced, Some(Enhanced(5, 1, 1)), "enhanced code of a refusal");
    }

    #[test]
    fn hostile_replies_are_refused_early() {
        let long = vec![b'2'; 10 * 1024 * 1024];
        assert_eq!(feed(&long, &[4_096]).1, Some(ReplyError::LineTooLong), "ten megabytes without a line end");
        let mut line = b"250 ".to_vec();
        line.resize(5_000, b'x');
        line.extend_from_slice(b"\r\n");
        assert_eq!(feed(&line, &[8_192]).1, Some(ReplyError::LineTooLong), "a long line that ends");
        assert_eq!(feed(&b"250-x\r\n".repeat(200), &[512]).1, Some(ReplyError::TooManyLines), "no end of lines");
        assert_eq!(feed(b"hello\r\n", &[9]).1, Some(ReplyError::NoCode), "not SMTP");
        assert_eq!(feed(b"250-a\r\n550 b\r\n", &[9]).1, Some(ReplyError::CodeChanges), "two codes");
        assert_eq!(feed(b"199 a\r\n", &[9]).1, Some(ReplyError::NoCode), "no such class");
        assert_eq!(feed(b"250_a\r\n", &[9]).1, Some(ReplyError::NoCode), "neither blank nor hyphen");
    }

    #[test]
    fn odd_but_harmless_replies_are_taken() {
        assert_eq!(feed(b"250\n", &[1]).0.len(), 1, "a bare line feed ends a line");
        let (replies, _) = feed(b"451 4.7.1x no\r\n550 \xff\xfe\r\n", &[3]);
        assert_eq!(replies[0].enhanced, None, "not an enhanced code");
        assert_eq!(replies[1].code, 550, "text that is not UTF-8");
        assert!(replies[1].sample(5).len() <= 5, "samples are cut at a character");
    }

    proptest! {
        #[test]
        fn cutting_does_not_matter(
            bytes in prop::collection::vec(prop_oneof![Just(b'2'), Just(b'5'), Just(b'0'), Just(b' '), Just(b'-'), Just(b'.'), Just(b'\r'), Just(b'\n'), any::<u8>()], 0..600),
            sizes in prop::collection::vec(1usize..50, 1..20),
        ) {
            prop_assert_eq!(feed(&bytes, &sizes), feed(&bytes, &[4_096]), "pieces or whole");
        }
    }
}
