//! The SMTP dialogue as a plain state machine: which commands to write, which replies are due, what each one ends.
//!
//! Owns the state of one session and does no input or output. Sources: RFC 5321, RFC 2920 (groups: body N first, then
//! MAIL, RCPT, DATA of N+1), RFC 3030 (BDAT), RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8).
//!
//! Invariants: SE-1 every command that is written has exactly one expected reply, in order; SE-2 after a refused envelope
//! the next one begins with RSET; SE-3 if DATA is open though the envelope was refused, a lone dot ends it, which
//! cannot deliver anything as no recipient was accepted (RFC 2920 3.1); SE-4 nothing from a message enters a command line
//! that could end it.
//!
//! Must not know sockets, feeds, time.

use std::collections::VecDeque;

use super::classify::{ForMessage, Stage, Verdict, classify, out_of_step};
use super::reply::Reply;
use crate::channels::OutMessage;
use crate::limits::REPLY_SAMPLE_BYTES;

/// What EHLO offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    pub pipelining: bool,
    pub chunking: bool,
    pub eight_bit: bool,
    pub smtputf8: bool,
    pub enhanced: bool,
    pub starttls: bool,
    pub auth_plain: bool,
    pub auth_login: bool,
    /// SIZE was offered; with a number if there is a limit, bytes.
    pub size_offered: bool,
    pub size_max: Option<u64>,
}

impl Capabilities {
    /// From the text of an EHLO reply, one keyword a line; the first line is the greeting.
    pub fn parse(text: &str) -> Capabilities {
        let mut caps = Capabilities::default();
        for line in text.lines().skip(1) {
            let mut words = line.split([' ', '=']).filter(|w| !w.is_empty());
            let keyword = words.next().unwrap_or("").to_ascii_uppercase();
            match keyword.as_str() {
                "PIPELINING" => caps.pipelining = true,
                "CHUNKING" => caps.chunking = true,
                "8BITMIME" => caps.eight_bit = true,
                "SMTPUTF8" => caps.smtputf8 = true,
                "ENHANCEDSTATUSCODES" => caps.enhanced = true,
                "STARTTLS" => caps.starttls = true,
                "SIZE" => {
                    caps.size_offered = true;
                    caps.size_max = words.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                }
                "AUTH" => words.for_each(|mechanism| {
                    caps.auth_plain |= mechanism.eq_ignore_ascii_case("PLAIN");
                    caps.auth_login |= mechanism.eq_ignore_ascii_case("LOGIN");
                }),
                _ => {}
            }
        }
        caps
    }
}

/// Place of a message in the lane.
pub type SlotId = usize;

/// A reply that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Rset,
    Mail(SlotId),
    Rcpt(SlotId),
    Data(SlotId),
    Body(SlotId),
    /// The only and last chunk of a message.
    Bdat(SlotId),
    /// The lone dot of SE-3.
    Cancelled,
}

/// Why an envelope or a message was not taken, or that it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    pub verdict: Verdict,
    /// The reply makes no sense for what was asked.
    pub out_of_step: bool,
    /// Empty if accepted.
    pub sample: String,
}

impl Ruling {
    fn on(stage: Stage, reply: &Reply) -> Ruling {
        let verdict = classify(stage, reply);
        let sample = if verdict.message == ForMessage::Good { String::new() } else { reply.sample(REPLY_SAMPLE_BYTES) };
        Ruling { verdict, out_of_step: out_of_step(stage, reply), sample }
    }
}

/// What a reply leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    More,
    /// Without pipelining: the next command of this envelope may be written now.
    Next(SlotId),
    /// DATA is open for this message.
    Open(SlotId),
    /// The envelope was refused; with `cancel` a lone dot must be written now.
    Refused {
        slot: SlotId,
        ruling: Ruling,
        cancel: bool,
    },
    /// The word about a message whose last byte was sent.
    Answered {
        slot: SlotId,
        ruling: Ruling,
    },
    /// A reply that nothing had asked for, or a refused RSET.
    OutOfStep,
}

/// See the module's docs.
#[derive(Debug)]
pub struct Session {
    caps: Capabilities,
    pipelining: bool,
    chunking: bool,
    expects: VecDeque<Expect>,
    /// First refusal of the envelope in each slot.
    refusals: Vec<Option<Ruling>>,
    needs_reset: bool,
    started: u64,
}

impl Session {
    /// `slots`: messages that may be in the dialogue at a time.
    pub fn new(caps: Capabilities, allow_pipelining: bool, allow_chunking: bool, slots: usize) -> Session {
        Session {
            pipelining: allow_pipelining && caps.pipelining,
            chunking: allow_chunking && allow_pipelining && caps.chunking && caps.pipelining,
            caps,
            expects: VecDeque::with_capacity(4 * slots),
            refusals: vec![None; slots],
            needs_reset: false,
            started: 0,
        }
    }

    pub fn pipelining(&self) -> bool {
        self.pipelining
    }

    pub fn chunking(&self) -> bool {
        self.chunking
    }

    /// Transactions begun in this session.
    pub fn started(&self) -> u64 {
        self.started
    }

    pub fn expects(&self) -> Option<Expect> {
        self.expects.front().copied()
    }

    /// Whether a message of this size may be attached: a larger one would be refused with its envelope open.
    pub fn fits(&self, bytes: usize) -> bool {
        self.caps.size_max.is_none_or(|max| bytes as u64 <= max)
    }

    /// Why this relay cannot take this message at all, by what EHLO offered; `None` if it can.
    pub fn unsendable(&self, message: &OutMessage) -> Option<&'static str> {
        if !is_line_safe(&message.return_path) || !is_line_safe(&message.recipient) || message.recipient.is_empty() {
            return Some("envelope address cannot be written in a command line");
        }
        if message.needs_smtputf8 && !self.caps.smtputf8 {
            return Some("relay does not offer SMTPUTF8");
        }
        if message.needs_8bit && !self.caps.eight_bit {
            return Some("relay does not offer 8BITMIME");
        }
        None
    }

    /// Begins an envelope: the whole group with pipelining, else its first command. `bytes` is the size of the message.
    pub fn begin(&mut self, slot: SlotId, message: &OutMessage, bytes: usize, out: &mut Vec<u8>) {
        self.started += 1;
        self.refusals[slot] = None;
        self.reset(out);
        if !self.pipelining {
            if self.expects.is_empty() {
                self.mail(slot, message, bytes, out);
            }
            return;
        }
        self.mail(slot, message, bytes, out);
        self.rcpt(slot, message, out);
        out.extend_from_slice(b"DATA\r\n");
        self.expects.push_back(Expect::Data(slot));
    }

    /// Without pipelining: the command after the one that was just accepted.
    pub fn next(&mut self, slot: SlotId, after: Expect, message: &OutMessage, bytes: usize, out: &mut Vec<u8>) {
        match after {
            Expect::Rset => self.mail(slot, message, bytes, out),
            Expect::Mail(_) => self.rcpt(slot, message, out),
            _ => {
                out.extend_from_slice(b"DATA\r\n");
                self.expects.push_back(Expect::Data(slot));
            }
        }
    }

    /// The final dot of the message in `slot` is about to be written.
    pub fn end_of_data(&mut self, slot: SlotId, ends_in_crlf: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(if ends_in_crlf { b".\r\n" } else { b"\r\n.\r\n" });
        self.expects.push_back(Expect::Body(slot));
    }

    /// A whole transaction but for its bytes: MAIL, RCPT, BDAT. RSET goes in front of every one but the first of a
    /// window, as a failed BDAT leaves the state undefined (RFC 3030 2).
    pub fn chunk(&mut self, slot: SlotId, message: &OutMessage, bytes: usize, out: &mut Vec<u8>) {
        self.started += 1;
        self.refusals[slot] = None;
        self.needs_reset |= !self.expects.is_empty();
        self.reset(out);
        self.mail(slot, message, bytes, out);
        self.rcpt(slot, message, out);
        out.extend_from_slice(b"BDAT ");
        put_number(out, bytes);
        out.extend_from_slice(b" LAST\r\n");
        self.expects.push_back(Expect::Bdat(slot));
    }

    /// The next reply, in order.
    pub fn on_reply(&mut self, reply: &Reply) -> (Option<Expect>, Step) {
        let Some(expect) = self.expects.pop_front() else {
            return (None, Step::OutOfStep);
        };
        let step = match expect {
            Expect::Rset if reply.is_positive() => self.accepted(None),
            Expect::Rset => Step::OutOfStep,
            Expect::Cancelled => Step::More,
            Expect::Mail(slot) => self.envelope_reply(slot, Ruling::on(Stage::Mail, reply)),
            Expect::Rcpt(slot) => self.envelope_reply(slot, Ruling::on(Stage::Rcpt, reply)),
            Expect::Data(slot) => self.data_reply(slot, reply),
            Expect::Body(slot) => Step::Answered { slot, ruling: Ruling::on(Stage::Body, reply) },
            Expect::Bdat(slot) => {
                let ruling = self.refusals[slot].take().unwrap_or_else(|| Ruling::on(Stage::Body, reply));
                self.needs_reset |= ruling.verdict.message != ForMessage::Good;
                Step::Answered { slot, ruling }
            }
        };
        (Some(expect), step)
    }

    /// The refusal of an envelope whose group was not answered to its end.
    pub fn take_refusal(&mut self, slot: SlotId) -> Option<Ruling> {
        self.refusals[slot].take()
    }

    fn accepted(&self, slot: Option<SlotId>) -> Step {
        match slot {
            Some(slot) if !self.pipelining => Step::Next(slot),
            _ => Step::More,
        }
    }

    fn envelope_reply(&mut self, slot: SlotId, ruling: Ruling) -> Step {
        if ruling.verdict.message == ForMessage::Good {
            return self.accepted(Some(slot));
        }
        // What follows a refusal in a group only echoes it.
        if self.refusals[slot].is_some() {
            return Step::More;
        }
        self.needs_reset = true;
        if !self.pipelining || (ruling.verdict.close && !self.chunking) {
            return Step::Refused { slot, ruling, cancel: false };
        }
        self.refusals[slot] = Some(ruling);
        Step::More
    }

    fn data_reply(&mut self, slot: SlotId, reply: &Reply) -> Step {
        let open = reply.code == 354;
        match self.refusals[slot].take() {
            None if open => Step::Open(slot),
            None => {
                self.needs_reset = true;
                Step::Refused { slot, ruling: Ruling::on(Stage::Data, reply), cancel: false }
            }
            Some(ruling) => {
                if open {
                    self.expects.push_back(Expect::Cancelled);
                }
                Step::Refused { slot, ruling, cancel: open }
            }
        }
    }

    fn reset(&mut self, out: &mut Vec<u8>) {
        if self.needs_reset {
            self.needs_reset = false;
            out.extend_from_slice(b"RSET\r\n");
            self.expects.push_back(Expect::Rset);
        }
    }

    fn mail(&mut self, slot: SlotId, message: &OutMessage, bytes: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b"MAIL FROM:<");
        out.extend_from_slice(message.return_path.as_bytes());
        out.push(b'>');
        if self.caps.size_offered {
            out.extend_from_slice(b" SIZE=");
            put_number(out, bytes);
        }
        if message.needs_8bit && self.caps.eight_bit {
            out.extend_from_slice(b" BODY=8BITMIME");
        }
        if message.needs_smtputf8 {
            out.extend_from_slice(b" SMTPUTF8");
        }
        out.extend_from_slice(b"\r\n");
        self.expects.push_back(Expect::Mail(slot));
    }

    fn rcpt(&mut self, slot: SlotId, message: &OutMessage, out: &mut Vec<u8>) {
        out.extend_from_slice(b"RCPT TO:<");
        out.extend_from_slice(message.recipient.as_bytes());
        out.extend_from_slice(b">\r\n");
        self.expects.push_back(Expect::Rcpt(slot));
    }
}

/// SE-4: no control character, blank or angle bracket, and within RFC 5321 4.5.3.1.3 (256 octets of path).
fn is_line_safe(address: &str) -> bool {
    address.len() <= 320 && !address.bytes().any(|b| b <= b' ' || b == b'<' || b == b'>' || b == 0x7f)
}

/// Appends a number in decimal: the formatting of the standard library costs more than the rest of an envelope.
fn put_number(out: &mut Vec<u8>, mut number: usize) {
    let from = out.len();
    loop {
        out.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out[from..].reverse();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::RejectClass;

    fn caps(text: &str) -> Capabilities {
        Capabilities::parse(&format!("relay.test\n{text}"))
    }

    fn message() -> OutMessage {
        OutMessage { return_path: "b@x.test".into(), recipient: "a@y.test".into(), ..OutMessage::default() }
    }

    fn reply(code: u16) -> Reply {
        Reply { code, ..Reply::default() }
    }

    fn text(out: &[u8]) -> String {
        String::from_utf8_lossy(out).into_owned()
    }

    #[test]
    fn capabilities_are_read_as_offered() {
        let caps = caps(
            "PIPELINING\nsize 1000\n8BITMIME\nAUTH PLAIN LOGIN\nAUTH=LOGIN\nCHUNKING\nSTARTTLS\nSMTPUTF8\nX-OTHER",
        );
        assert!(
            caps.pipelining && caps.eight_bit && caps.chunking && caps.starttls && caps.smtputf8,
            "flags: {caps:?}"
        );
        assert!(caps.auth_plain && caps.auth_login && !caps.enhanced, "mechanisms");
        assert_eq!(caps.size_max, Some(1_000), "limit");
        assert_eq!(Capabilities::parse("relay\nSIZE 0").size_max, None, "zero is no limit");
        assert!(!Capabilities::parse("PIPELINING").pipelining, "the first line is the greeting");
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 9, 10, 77, 104_857_600, usize::MAX] {
            let mut out = b"x".to_vec();
            put_number(&mut out, number);
            assert_eq!(text(&out), format!("x{number}"));
        }
    }

    #[test]
    fn a_group_is_one_write_and_opens_data() {
        let mut session = Session::new(caps("PIPELINING\nSIZE"), true, false, 2);
        let mut out = Vec::new();
        session.begin(0, &message(), 77, &mut out);
        assert_eq!(text(&out), "MAIL FROM:<b@x.test> SIZE=77\r\nRCPT TO:<a@y.test>\r\nDATA\r\n", "the group");
        assert_eq!(session.on_reply(&reply(250)).1, Step::More, "MAIL");
        assert_eq!(session.on_reply(&reply(250)).1, Step::More, "RCPT");
        assert_eq!(session.on_reply(&reply(354)).1, Step::Open(0), "DATA");
        out.clear();
        session.end_of_data(0, true, &mut out);
        session.begin(1, &message(), 5, &mut out);
        assert!(text(&out).starts_with(".\r\nMAIL"), "the dot and the next envelope together");
        assert!(matches!(session.on_reply(&reply(250)).1, Step::Answered { slot: 0, .. }), "the answer comes first");
    }

    #[test]
    fn a_refused_recipient_leads_to_rset() {
        let mut session = Session::new(caps("PIPELINING"), true, false, 2);
        let mut out = Vec::new();
        session.begin(0, &message(), 1, &mut out);
        session.on_reply(&reply(250));
        assert_eq!(session.on_reply(&reply(550)).1, Step::More, "told when the group is over");
        let (_, step) = session.on_reply(&reply(554));
        let Step::Refused { slot: 0, ruling, cancel: false } = step else { panic!("{step:?}") };
        assert_eq!(
            ruling.verdict.message,
            ForMessage::Reject(RejectClass::HardBounce),
            "RCPT's word counts, not DATA's"
        );
        out.clear();
        session.begin(1, &message(), 1, &mut out);
        assert!(text(&out).starts_with("RSET\r\nMAIL"), "the next one starts afresh");
        assert_eq!(session.expects(), Some(Expect::Rset), "and its reply is due");
    }

    #[test]
    fn an_open_data_without_recipients_is_cancelled() {
        let mut session = Session::new(caps("PIPELINING"), true, false, 2);
        session.begin(0, &message(), 1, &mut Vec::new());
        session.on_reply(&reply(250));
        session.on_reply(&reply(550));
        assert!(matches!(session.on_reply(&reply(354)).1, Step::Refused { cancel: true, .. }), "a dot is to be sent");
        assert_eq!(session.expects(), Some(Expect::Cancelled), "and answered");
        assert_eq!(session.on_reply(&reply(554)).1, Step::More, "whatever it says");
    }

    #[test]
    fn without_pipelining_one_command_at_a_time() {
        let mut session = Session::new(caps("SIZE"), true, true, 2);
        assert!(!session.pipelining() && !session.chunking(), "not offered");
        let mut out = Vec::new();
        session.begin(0, &message(), 1, &mut out);
        assert_eq!(text(&out), "MAIL FROM:<b@x.test> SIZE=1\r\n", "MAIL alone");
        for wanted in ["RCPT TO:<a@y.test>\r\n", "DATA\r\n"] {
            let (after, step) = session.on_reply(&reply(250));
            assert_eq!(step, Step::Next(0), "accepted");
            out.clear();
            session.next(0, after.expect("asked"), &message(), 1, &mut out);
            assert_eq!(text(&out), wanted, "then the next");
        }
        assert_eq!(session.on_reply(&reply(354)).1, Step::Open(0), "open");
        session.begin(1, &message(), 1, &mut Vec::new());
        assert!(matches!(session.on_reply(&reply(450)).1, Step::Refused { cancel: false, .. }), "refused at MAIL");
        out.clear();
        session.begin(0, &message(), 1, &mut out);
        assert_eq!(text(&out), "RSET\r\n", "RSET alone, then MAIL");
        let (after, step) = session.on_reply(&reply(250));
        assert_eq!((after, step), (Some(Expect::Rset), Step::More), "RSET done");
    }

    #[test]
    fn chunks_are_independent_of_each_other() {
        let mut session = Session::new(caps("PIPELINING\nCHUNKING"), true, true, 3);
        let mut out = Vec::new();
        session.chunk(0, &message(), 3, &mut out);
        session.chunk(1, &message(), 4, &mut out);
        assert_eq!(text(&out).matches("RSET").count(), 1, "RSET between the two");
        for code in [250, 550, 503] {
            session.on_reply(&reply(code));
        }
        let answers: Vec<Step> = [250, 250, 250, 250].into_iter().map(|c| session.on_reply(&reply(c)).1).collect();
        assert!(
            matches!(&answers[3], Step::Answered { slot: 1, ruling } if ruling.verdict.message == ForMessage::Good),
            "{answers:?}"
        );
    }

    #[test]
    fn what_could_end_a_command_line_is_never_written() {
        let session = Session::new(caps("SMTPUTF8"), true, false, 1);
        for bad in ["a@b\r\nRCPT TO:<x@y>", "a b@c", "<a@b>", "a@b\0", ""] {
            let message = OutMessage { recipient: bad.into(), ..message() };
            assert!(session.unsendable(&message).is_some(), "{bad:?}");
        }
        assert!(session.unsendable(&OutMessage { needs_8bit: true, ..message() }).is_some(), "8BITMIME not offered");
        assert!(session.unsendable(&OutMessage { needs_smtputf8: true, ..message() }).is_none(), "SMTPUTF8 offered");
        assert!(session.unsendable(&OutMessage { return_path: String::new(), ..message() }).is_none(), "null sender");
    }

    #[test]
    fn a_reply_nobody_asked_for_is_out_of_step() {
        assert_eq!(
            Session::new(caps(""), true, false, 1).on_reply(&reply(250)).1,
            Step::OutOfStep,
            "nothing was asked"
        );
    }
}
