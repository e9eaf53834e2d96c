//! One SMTP session of the sink as a push parser: bytes in, replies out, no input or output of its own.
//!
//! Owns what one connection has said so far. Invariants: 1. however the bytes are cut into reads, the answers are the
//! same (property-tested); 2. a body byte is looked at by the terminator search alone and never copied, unless the record
//! needs the head; 3. an accepted message is in the recorder before its 250 is in the replies. RFC 5321, 2920, 3030.

use memchr::memchr;

use super::faults::Verdict;
use super::hub::Hub;
use super::replies::Meaning;

const LINE_BYTES_MAX: usize = 4_096;
const EHLO: &[u8] = b"250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n";
pub const GREETING: &[u8] = b"220 sink.test ESMTP\r\n";

/// What the connection does once the replies are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Continue,
    /// Close after the replies.
    Close,
    /// Reset at once: the replies of the dropped message were never made.
    Reset,
    /// Begin TLS after the replies; what came after the command is thrown away (RFC 3207 section 6).
    StartTls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Command,
    /// In DATA; the last bytes of the stream, which may begin the terminator.
    Body {
        tail: [u8; 4],
        kept: usize,
    },
    Chunk {
        left: u64,
        last: bool,
    },
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    state: State,
    line: Vec<u8>,
    recipient: Vec<u8>,
    head: Vec<u8>,
    has_sender: bool,
    recipients: u32,
    refused_at_dot: bool,
    messages: u64,
    secure: bool,
}

impl Default for Session {
    fn default() -> Session {
        Session {
            state: State::Command,
            line: Vec::new(),
            recipient: Vec::new(),
            head: Vec::new(),
            has_sender: false,
            recipients: 0,
            refused_at_dot: true,
            messages: 0,
            secure: false,
        }
    }
}

impl Session {
    /// A session that begins anew after STARTTLS.
    pub fn secured() -> Session {
        Session { secure: true, ..Session::default() }
    }

    /// Takes what was read and appends the answers.
    pub fn feed(&mut self, mut input: &[u8], hub: &mut Hub, replies: &mut Vec<u8>) -> Step {
        while !input.is_empty() {
            let (used, step) = match self.state {
                State::Command => self.take_line(input, hub, replies),
                State::Body { tail, kept } => self.take_body(input, tail, kept, hub, replies),
                State::Chunk { left, last } => self.take_chunk(input, left, last, hub, replies),
            };
            if step != Step::Continue {
                return step;
            }
            input = &input[used..];
        }
        Step::Continue
    }

    fn take_line(&mut self, input: &[u8], hub: &mut Hub, replies: &mut Vec<u8>) -> (usize, Step) {
        let Some(end) = memchr(b'\n', input) else {
            if self.line.len() + input.len() > LINE_BYTES_MAX {
                replies.extend_from_slice(b"500 5.5.2 line too long\r\n");
                return (input.len(), Step::Close);
            }
            self.line.extend_from_slice(input);
            return (input.len(), Step::Continue);
        };
        let step = if self.line.is_empty() {
            self.command(&input[..end], hub, replies)
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(&input[..end]);
            let step = self.command(&line, hub, replies);
            line.clear();
            self.line = line;
            step
        };
        (end + 1, step)
    }

    fn command(&mut self, line: &[u8], hub: &mut Hub, replies: &mut Vec<u8>) -> Step {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut verb = [0u8; 4];
        for (to, from) in verb.iter_mut().zip(line) {
            *to = from.to_ascii_uppercase();
        }
        match &verb {
            b"MAIL" => return self.mail(hub, replies),
            b"RCPT" => return self.rcpt(line, hub, replies),
            b"DATA" => return self.data(hub, replies),
            b"BDAT" => return self.bdat(line, hub, replies),
            b"EHLO" => {
                self.reset();
                replies.extend_from_slice(EHLO);
                if hub.offers.chunking {
                    replies.extend_from_slice(b"250-CHUNKING\r\n");
                }
                if hub.offers.starttls && !self.secure {
                    replies.extend_from_slice(b"250-STARTTLS\r\n");
                }
                replies.extend_from_slice(b"250 SIZE 104857600\r\n");
            }
            b"STAR" if hub.offers.starttls && !self.secure => {
                replies.extend_from_slice(b"220 2.0.0 go ahead\r\n");
                return Step::StartTls;
            }
            b"HELO" => {
                self.reset();
                replies.extend_from_slice(b"250 sink.test\r\n");
            }
            b"RSET" => {
                self.reset();
                replies.extend_from_slice(b"250 2.0.0 reset\r\n");
            }
            b"NOOP" => replies.extend_from_slice(b"250 2.0.0 nothing done\r\n"),
            b"QUIT" => {
                replies.extend_from_slice(b"221 2.0.0 bye\r\n");
                return Step::Close;
            }
            _ => replies.extend_from_slice(b"502 5.5.1 not implemented\r\n"),
        }
        Step::Continue
    }

    fn reset(&mut self) {
        self.has_sender = false;
        self.recipients = 0;
        self.refused_at_dot = true;
        self.head.clear();
    }

    fn mail(&mut self, hub: &mut Hub, replies: &mut Vec<u8>) -> Step {
        self.reset();
        if hub.offers.demands_tls && !self.secure {
            replies.extend_from_slice(b"530 5.7.0 Must issue a STARTTLS command first\r\n");
            return Step::Continue;
        }
        if hub.dice.faults.close_after.is_some_and(|n| self.messages >= n) {
            return hub.refuse(Meaning::Enough, b"", replies);
        }
        if hub.throttled() {
            return hub.refuse(Meaning::Throttle, b"", replies);
        }
        self.has_sender = true;
        replies.extend_from_slice(b"250 2.1.0 ok\r\n");
        Step::Continue
    }

    fn rcpt(&mut self, line: &[u8], hub: &mut Hub, replies: &mut Vec<u8>) -> Step {
        if !self.has_sender {
            replies.extend_from_slice(b"503 5.5.1 MAIL first\r\n");
            return Step::Continue;
        }
        let name = match (memchr(b'<', line), memchr::memrchr(b'>', line)) {
            (Some(from), Some(to)) if from < to => &line[from + 1..to],
            _ => {
                replies.extend_from_slice(b"501 5.1.3 no address\r\n");
                return Step::Continue;
            }
        };
        if hub.dice.refuses_at_rcpt() {
            self.refused_at_dot = false;
            if let Some(meaning) = hub.dice.judge(name).meaning() {
                return hub.refuse(meaning, name, replies);
            }
        }
        if hub.keeps() > 0 || !hub.dice.ignores_recipients() {
            self.recipient.clear();
            self.recipient.extend_from_slice(name);
        }
        self.recipients += 1;
        replies.extend_from_slice(b"250 2.1.5 ok\r\n");
        Step::Continue
    }

    fn data(&mut self, hub: &mut Hub, replies: &mut Vec<u8>) -> Step {
        if self.recipients == 0 {
            replies.extend_from_slice(b"554 5.5.1 no valid recipients\r\n");
            return Step::Continue;
        }
        if hub.dice.drops_before_body() {
            hub.counts.dropped_before_body += 1;
            return Step::Reset;
        }
        if hub.dice.drops_in_body() {
            hub.counts.dropped_in_body += 1;
            // The 354 goes out and the connection ends: whatever of the body is on its way is lost.
            replies.extend_from_slice(b"354 go on\r\n");
            return Step::Close;
        }
        // The empty line that would end an empty body is the one that ends the DATA command.
        self.state = State::Body { tail: *b"\r\n\0\0", kept: 2 };
        replies.extend_from_slice(b"354 go on\r\n");
        Step::Continue
    }

    fn take_body(
        &mut self,
        input: &[u8],
        tail: [u8; 4],
        kept: usize,
        hub: &mut Hub,
        replies: &mut Vec<u8>,
    ) -> (usize, Step) {
        // A terminator that lies across two reads ends within the first 4 bytes of this one.
        let mut seam = [0u8; 8];
        let ahead = input.len().min(4);
        seam[..kept].copy_from_slice(&tail[..kept]);
        seam[kept..kept + ahead].copy_from_slice(&input[..ahead]);
        let across = hub.terminator.find(&seam[..kept + ahead]).map(|at| at + 5 - kept);
        let end = across.or_else(|| hub.terminator.find(input).map(|at| at + 5));
        self.keep_head(&input[..end.unwrap_or(input.len())], hub);
        let Some(end) = end else {
            let mut last = [0u8; 4];
            let joined = &seam[..kept + ahead];
            let source =
                if input.len() >= 4 { &input[input.len() - 4..] } else { &joined[joined.len().saturating_sub(4)..] };
            last[..source.len()].copy_from_slice(source);
            self.state = State::Body { tail: last, kept: source.len() };
            return (input.len(), Step::Continue);
        };
        self.state = State::Command;
        (end, self.finish(true, hub, replies))
    }

    fn bdat(&mut self, line: &[u8], hub: &mut Hub, replies: &mut Vec<u8>) -> Step {
        let mut words = line.split(|b| *b == b' ').filter(|w| !w.is_empty()).skip(1);
        let size = words.next().and_then(|w| std::str::from_utf8(w).ok()).and_then(|w| w.parse::<u64>().ok());
        let last = words.next().is_some_and(|w| w.eq_ignore_ascii_case(b"LAST"));
        match size {
            Some(0) if last => {
                // A chunk of no bytes has no input to wait for. A drop is not drawn here: there is no body to lose.
                return self.accept_or_refuse(false, hub, replies);
            }
            Some(0) => replies.extend_from_slice(b"250 2.0.0 chunk\r\n"),
            Some(_) if hub.dice.drops_before_body() => {
                hub.counts.dropped_before_body += 1;
                return Step::Reset;
            }
            Some(_) if hub.dice.drops_in_body() => {
                hub.counts.dropped_in_body += 1;
                return Step::Close;
            }
            Some(left) => self.state = State::Chunk { left, last },
            None => replies.extend_from_slice(b"501 5.5.4 BDAT size [LAST]\r\n"),
        }
        Step::Continue
    }

    fn take_chunk(
        &mut self,
        input: &[u8],
        left: u64,
        last: bool,
        hub: &mut Hub,
        replies: &mut Vec<u8>,
    ) -> (usize, Step) {
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        self.keep_head(&input[..take], hub);
        let left = left - take as u64;
        if left > 0 {
            self.state = State::Chunk { left, last };
            return (take, Step::Continue);
        }
        self.state = State::Command;
        if last {
            return (take, self.finish(false, hub, replies));
        }
        replies.extend_from_slice(if self.recipients > 0 { b"250 2.0.0 chunk\r\n" } else { b"503 5.5.1 no rcpt\r\n" });
        (take, Step::Continue)
    }

    fn keep_head(&mut self, body: &[u8], hub: &mut Hub) {
        hub.counts.bytes += body.len() as u64;
        let keeps = hub.keeps();
        if self.head.len() < keeps {
            self.head.extend_from_slice(&body[..body.len().min(keeps - self.head.len())]);
        }
    }

    /// The whole message is here; `dotted` says that it came by DATA.
    fn finish(&mut self, dotted: bool, hub: &mut Hub, replies: &mut Vec<u8>) -> Step {
        let before = hub.counts.accepted;
        let answered_from = replies.len();
        let step = self.accept_or_refuse(dotted, hub, replies);
        if hub.counts.accepted > before && hub.dice.drops_after_dot() {
            hub.counts.dropped_after_dot += 1;
            replies.truncate(answered_from);
            return Step::Reset;
        }
        step
    }

    fn accept_or_refuse(&mut self, dotted: bool, hub: &mut Hub, replies: &mut Vec<u8>) -> Step {
        let (recipients, refused_at_dot) = (self.recipients, self.refused_at_dot);
        if recipients == 0 {
            self.reset();
            replies.extend_from_slice(b"554 5.5.1 no valid recipients\r\n");
            return Step::Continue;
        }
        let verdict = if refused_at_dot { hub.dice.judge(&self.recipient) } else { Verdict::Accept };
        let step = match verdict.meaning() {
            Some(meaning) => hub.refuse(meaning, &self.recipient, replies),
            None => {
                hub.counts.accepted += u64::from(recipients);
                self.messages += 1;
                hub.keep(&self.recipient, &self.head, dotted);
                replies.extend_from_slice(b"250 2.0.0 accepted\r\n");
                Step::Continue
            }
        };
        self.reset();
        step
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
