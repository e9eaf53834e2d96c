//! What a lane has in hand and what it is writing: message slots with their reused buffers, and a gathered write.
//!
//! Owns the buffers of one lane. Invariants: WI-1 a slot is free, held or marked, and only a free one is filled; WI-2 the
//! bytes of a message are copied once at most: to stuff dots, or to put shared text between its own; WI-3 nothing is allocated per message
//! once the buffers have grown.
//!
//! Must not know replies, feeds, or time-outs.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use memchr::memmem;
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::reply::ReplyReader;
use super::session::SlotId;
use crate::channels::OutMessage;
use crate::clock::Monotonic;

/// Pieces of one gathered write.
const SLICES: usize = 16;
/// Parts up to this are copied beside a message that is put together: a copy costs less than a piece more.
const SHORT_BYTES_MAX: usize = 1_024;
/// No further message is put together with what has this many bytes already.
const TOGETHER_BYTES_MAX: usize = 128 * 1_024;

thread_local! {
    /// Where messages that share text are put together, for one write: small enough to stay in the processor's cache, which
    /// the buffers of all lanes would not.
    static TOGETHER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlotState {
    #[default]
    Free,
    /// Pulled, not marked.
    Held,
    Marked,
}

/// One message in the lane.
#[derive(Debug, Default)]
pub struct Slot {
    pub message: OutMessage,
    pub state: SlotState,
    /// DATA is open for it.
    pub open: bool,
    /// Header that goes before the message (DKIM).
    pub prefix: Vec<u8>,
    /// The message with dots stuffed; empty if `message.body` goes as it is.
    stuffed: Vec<u8>,
    /// Signed and stuffed already.
    pub prepared: bool,
    pub pulled_at: Monotonic,
    pub marked_at: Monotonic,
}

impl Slot {
    /// Makes the bytes for DATA: stuffs dots if some line may begin with one (RFC 5321 4.5.2).
    pub fn stuff(&mut self) {
        self.stuffed.clear();
        if !self.message.needs_dot_stuffing {
            return;
        }
        self.message.put_together();
        let body = &self.message.body;
        if body.first() == Some(&b'.') {
            self.stuffed.push(b'.');
        }
        let mut from = 0;
        for at in memmem::find_iter(body, b"\r\n.") {
            self.stuffed.extend_from_slice(&body[from..at + 2]);
            self.stuffed.push(b'.');
            from = at + 2;
        }
        self.stuffed.extend_from_slice(&body[from..]);
    }

    /// The message as DATA carries it, if it shares nothing.
    pub fn data(&self) -> &[u8] {
        if self.stuffed.is_empty() { &self.message.body } else { &self.stuffed }
    }

    /// Its bytes as DATA carries it.
    fn data_bytes(&self) -> usize {
        if self.stuffed.is_empty() { self.message.bytes() } else { self.stuffed.len() }
    }

    pub fn ends_in_crlf(&self) -> bool {
        self.message.ends_in_crlf()
    }

    /// Bytes of the message, its prefix included and the line end that it may lack.
    pub fn bytes(&self) -> usize {
        self.prefix.len() + self.message.bytes() + if self.ends_in_crlf() { 0 } else { 2 }
    }

    pub fn free(&mut self) {
        self.state = SlotState::Free;
        self.open = false;
        self.prepared = false;
    }
}

/// A piece of a gathered write.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// Bytes of the command buffer.
    Commands {
        from: usize,
        to: usize,
    },
    Prefix(SlotId),
    /// As DATA carries it.
    Data(SlotId),
    /// As BDAT carries it.
    Body(SlotId),
}

/// What is being written, in order, and how far it is.
#[derive(Debug, Default)]
pub struct Outgoing {
    pub commands: Vec<u8>,
    parts: Vec<Part>,
    next: usize,
    /// Bytes of `parts[next]` that are written.
    offset: usize,
    unflushed: bool,
    written: u64,
    failed: Option<io::Error>,
}

impl Outgoing {
    pub fn is_empty(&self) -> bool {
        self.next == self.parts.len() && !self.unflushed
    }

    /// Bytes written in this connection; tells whether a write makes progress.
    pub fn written(&self) -> u64 {
        self.written
    }

    pub fn push(&mut self, part: Part) {
        self.parts.push(part);
    }

    /// Queues what was appended to `commands` since `from`.
    pub fn push_commands(&mut self, from: usize) {
        let to = self.commands.len();
        if to > from {
            self.parts.push(Part::Commands { from, to });
        }
    }

    /// Whether bytes of this message are still to be written.
    pub fn is_writing(&self, slot: SlotId) -> bool {
        self.parts[self.next..]
            .iter()
            .any(|part| matches!(part, Part::Prefix(s) | Part::Data(s) | Part::Body(s) if *s == slot))
    }

    /// Forgets what is written, so that the buffers can be reused.
    pub fn recycle(&mut self) {
        if self.is_empty() {
            self.clear();
        }
    }

    /// Forgets everything: the connection is gone.
    pub fn abandon(&mut self) {
        self.clear();
        self.written = 0;
        self.failed = None;
    }

    fn clear(&mut self) {
        self.parts.clear();
        self.commands.clear();
        (self.next, self.offset, self.unflushed) = (0, 0, false);
    }

    fn len_of(&self, part: Part, slots: &[Slot]) -> usize {
        match part {
            Part::Commands { from, to } => to - from,
            Part::Prefix(slot) => slots[slot].prefix.len(),
            Part::Data(slot) => slots[slot].data_bytes(),
            Part::Body(slot) => slots[slot].message.bytes(),
        }
    }

    /// The part as it lies in memory; `None` for a message that shares text.
    fn bytes<'a>(&'a self, part: Part, slots: &'a [Slot]) -> Option<&'a [u8]> {
        let whole = |slot: SlotId| slots[slot].message.shared.is_empty();
        match part {
            Part::Commands { from, to } => Some(&self.commands[from..to]),
            Part::Prefix(slot) => Some(&slots[slot].prefix),
            Part::Data(slot) => whole(slot).then(|| slots[slot].data()),
            Part::Body(slot) => whole(slot).then(|| slots[slot].message.body.as_slice()),
        }
    }

    /// Puts what is next together: messages that share text, and short parts beside them. Answers which bytes of `together`
    /// stand for how many parts; none if the next part goes as it lies.
    fn put_together(&self, slots: &[Slot], together: &mut Vec<u8>) -> usize {
        together.clear();
        let mut parts = 0;
        for part in self.parts.iter().skip(self.next) {
            match (*part, self.bytes(*part, slots)) {
                (_, Some(bytes)) if bytes.len() <= SHORT_BYTES_MAX => together.extend_from_slice(bytes),
                (Part::Data(slot) | Part::Body(slot), None) if together.len() < TOGETHER_BYTES_MAX => {
                    slots[slot].message.append_to(together);
                }
                _ => break,
            }
            parts += 1;
        }
        parts
    }

    fn advance(&mut self, mut n: usize, slots: &[Slot]) {
        self.written += n as u64;
        self.unflushed = true;
        while let Some(part) = self.parts.get(self.next) {
            let left = self.len_of(*part, slots) - self.offset;
            if n < left {
                self.offset += n;
                return;
            }
            n -= left;
            self.next += 1;
            self.offset = 0;
        }
    }

    /// Writes what is next, once.
    fn poll_write_some<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        slots: &[Slot],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        TOGETHER.with_borrow_mut(|together| {
            let parts = self.put_together(slots, together);
            let mut slices: SmallVec<[IoSlice<'_>; SLICES]> = SmallVec::new();
            let mut offset = self.offset;
            if parts > 0 {
                slices.push(IoSlice::new(together.get(offset..).unwrap_or(&[])));
                offset = 0;
            }
            let rest = self.parts.iter().skip(self.next + parts).map_while(|part| self.bytes(*part, slots));
            for bytes in rest.take(SLICES - slices.len()) {
                slices.push(IoSlice::new(bytes.get(offset..).unwrap_or(&[])));
                offset = 0;
            }
            if slices.iter().all(|s| s.is_empty()) {
                return Poll::Ready(Ok(0));
            }
            let written = match slices.as_slice() {
                // The kernel has less to do for one piece.
                [one] => Pin::new(stream).poll_write(cx, one),
                many => Pin::new(stream).poll_write_vectored(cx, many),
            };
            match written {
                Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                other => other,
            }
        })
    }

    /// Writes as much as the peer takes. `Ready(Ok)` when everything is written and flushed.
    fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        slots: &[Slot],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.next < self.parts.len() {
            let n = match self.poll_write_some(stream, slots, cx) {
                Poll::Ready(Ok(n)) => n,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            };
            self.advance(n, slots);
        }
        if self.unflushed {
            match Pin::new(stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                other => return other,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What a turn of input and output ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Bytes were read.
    Read,
    /// The peer closed its side.
    Eof,
    /// Everything is written (only if asked to stop there).
    Written,
}

/// Writes and reads at once, so that a group larger than the peer's window cannot deadlock (RFC 2920 3.1), until bytes
/// came or, with `until_written`, all is written. A failed write is told only after what the peer still said was read.
pub fn poll_turn<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    out: &mut Outgoing,
    slots: &[Slot],
    reader: &mut ReplyReader,
    until_written: bool,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Turn>> {
    if out.failed.is_none() {
        match out.poll_write(stream, slots, cx) {
            Poll::Ready(Ok(())) if until_written => return Poll::Ready(Ok(Turn::Written)),
            Poll::Ready(Err(error)) => {
                out.clear();
                out.failed = Some(error);
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
    }
    let mut buf = ReadBuf::new(reader.space());
    match Pin::new(stream).poll_read(cx, &mut buf) {
        Poll::Ready(Ok(())) => {
            let n = buf.filled().len();
            reader.filled(n);
            match (n, out.failed.take()) {
                (0, Some(error)) => Poll::Ready(Err(error)),
                (0, None) => Poll::Ready(Ok(Turn::Eof)),
                (_, failed) => {
                    out.failed = failed;
                    Poll::Ready(Ok(Turn::Read))
                }
            }
        }
        Poll::Ready(Err(error)) => Poll::Ready(Err(out.failed.take().unwrap_or(error))),
        Poll::Pending if out.failed.is_some() => {
            Poll::Ready(Err(out.failed.take().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())))
        }
        Poll::Pending => Poll::Pending,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::content::SharedSpans;

    fn stuffed(body: &[u8]) -> Vec<u8> {
        let message = OutMessage { body: body.to_vec(), needs_dot_stuffing: true, ..OutMessage::default() };
        let mut slot = Slot { message, ..Slot::default() };
        slot.stuff();
        slot.data().to_vec()
    }

    #[test]
    fn every_line_that_begins_with_a_dot_gets_another() {
        assert_eq!(stuffed(b".a\r\n.\r\n..b\r\nc.d\r\n"), b"..a\r\n..\r\n...b\r\nc.d\r\n", "first line and others");
        assert_eq!(stuffed(b"plain\r\n"), b"plain\r\n", "untouched");
    }

    proptest! {
        #[test]
        fn a_reader_gets_the_message_back(body in "[.a\r\n]{0,80}") {
            let body = body.replace('\r', "").replace('\n', "\r\n");
            let wire = String::from_utf8(stuffed(body.as_bytes())).expect("ASCII");
            let back: Vec<&str> = wire.split("\r\n").map(|l| l.strip_prefix('.').unwrap_or(l)).collect();
            prop_assert_eq!(back.join("\r\n"), body, "dots removed again");
            prop_assert!(!format!("\r\n{wire}").contains("\r\n.\r\n"), "no end of data inside");
        }
    }

    #[tokio::test]
    async fn messages_that_share_text_are_whole_whatever_the_peer_takes_at_a_time() {
        for window in [1, 3, 7, 64, 100_000] {
            let mut slots = vec![Slot::default(), Slot::default(), Slot::default()];
            slots[0].message.body = b"own bytes\r\n".to_vec();
            slots[0].message.shared = SharedSpans::of(&[(0, "shared "), (4, "more of it "), (11, "end\r\n")]);
            slots[1].message.body = b"second".to_vec();
            slots[1].message.shared = SharedSpans::of(&[(6, "\r\n")]);
            slots[2].message.body = vec![b'l'; 3 * SHORT_BYTES_MAX];
            let mut out = Outgoing::default();
            out.commands.extend_from_slice(b"MAIL\r\n");
            out.push_commands(0);
            out.push(Part::Prefix(0));
            out.push(Part::Data(0));
            let from = out.commands.len();
            out.commands.extend_from_slice(b".\r\n");
            out.push_commands(from);
            out.push(Part::Body(2));
            out.push(Part::Body(1));
            let mut wanted = b"MAIL\r\nshared own more of it bytes\r\nend\r\n.\r\n".to_vec();
            wanted.extend_from_slice(&slots[2].message.body);
            wanted.extend_from_slice(b"second\r\n");
            let (mut ours, mut theirs) = tokio::io::duplex(window);
            let mut reader = ReplyReader::default();
            let write = std::future::poll_fn(|cx| poll_turn(&mut ours, &mut out, &slots, &mut reader, true, cx));
            let read = async {
                let mut got = vec![0; wanted.len()];
                tokio::io::AsyncReadExt::read_exact(&mut theirs, &mut got).await.map(|_| got)
            };
            let (turn, got) = tokio::join!(write, read);
            assert_eq!(turn.expect("written"), Turn::Written, "all of it");
            assert_eq!(got.expect("read"), wanted, "in order, {window} bytes at a time");
            assert!(out.is_empty(), "nothing left");
        }
    }

    #[tokio::test]
    async fn gathered_writes_survive_a_slow_peer() {
        let (mut ours, mut theirs) = tokio::io::duplex(7);
        let mut slots = vec![Slot::default(), Slot::default()];
        slots[0].message.body = b"first body\r\n".to_vec();
        slots[1].prefix = b"Header: x\r\n".to_vec();
        let mut out = Outgoing::default();
        out.commands.extend_from_slice(b"MAIL\r\nRCPT\r\n");
        out.push_commands(0);
        out.push(Part::Body(0));
        out.push(Part::Prefix(0));
        out.push(Part::Prefix(1));
        let wanted = b"MAIL\r\nRCPT\r\nfirst body\r\nHeader: x\r\n".to_vec();
        let mut reader = ReplyReader::default();
        let write = std::future::poll_fn(|cx| poll_turn(&mut ours, &mut out, &slots, &mut reader, true, cx));
        let read = async {
            let mut got = vec![0; wanted.len()];
            tokio::io::AsyncReadExt::read_exact(&mut theirs, &mut got).await.map(|_| got)
        };
        let (turn, got) = tokio::join!(write, read);
        assert_eq!(turn.expect("written"), Turn::Written, "all of it");
        assert_eq!(got.expect("read"), wanted, "in order");
        assert!(out.is_empty(), "nothing left");
    }
}
