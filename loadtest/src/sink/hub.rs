//! What all sessions of a sink share: the dice, the counts, the record, and the clock of the throttle.
//!
//! Owns them. Invariant: every refusal goes through `refuse` and is counted there, by meaning and by code.

use std::time::{Duration, Instant};

use memchr::memmem;

use super::faults::Dice;
use super::mails::MailWriter;
use super::record::Recorder;
use super::replies::{self, Meaning};
use super::session::Step;
use super::stats::Counts;

/// Shared by all sessions.
#[derive(Debug)]
pub struct Hub {
    pub dice: Dice,
    pub counts: Counts,
    /// Lines of who got what.
    pub recorder: Option<Recorder>,
    /// Whole mails.
    pub mails: Option<MailWriter>,
    pub offers: Offers,
    pub(super) terminator: memmem::Finder<'static>,
    second: Option<Instant>,
    used: u64,
}

/// What EHLO offers, and what is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    pub chunking: bool,
    pub starttls: bool,
    /// MAIL before STARTTLS is refused with 530 (RFC 3207 section 4).
    pub demands_tls: bool,
}

impl Hub {
    pub fn new(dice: Dice, recorder: Option<Recorder>, offers: Offers) -> Hub {
        let terminator = memmem::Finder::new(b"\r\n.\r\n");
        Hub { dice, counts: Counts::default(), recorder, mails: None, offers, terminator, second: None, used: 0 }
    }

    /// Whether this message is one too many in its second.
    pub(super) fn throttled(&mut self) -> bool {
        let Some(limit) = self.dice.faults.throttle_per_second else {
            return false;
        };
        let now = Instant::now();
        if self.second.is_none_or(|at| now.duration_since(at) >= Duration::from_secs(1)) {
            self.second = Some(now);
            self.used = 0;
        }
        self.used += 1;
        self.used > limit
    }

    /// Speaks a refusal and counts it.
    pub(super) fn refuse(&mut self, meaning: Meaning, recipient: &[u8], replies: &mut Vec<u8>) -> Step {
        let words = self.dice.words(meaning, recipient);
        let counts = &mut self.counts;
        *match meaning {
            Meaning::Later => &mut counts.refused_4xx,
            Meaning::Throttle => &mut counts.throttled,
            Meaning::NoSuchUser => &mut counts.refused_5xx,
            Meaning::Policy => &mut counts.refused_policy,
            Meaning::Enough => &mut counts.closed_421,
        } += 1;
        *counts.replies.entry(replies::short(words)).or_default() += 1;
        replies.extend_from_slice(words.as_bytes());
        if replies::closes(words) { Step::Close } else { Step::Continue }
    }

    /// Bytes of a body that are worth keeping.
    pub(super) fn keeps(&self) -> usize {
        match (&self.mails, &self.recorder) {
            (Some(_), _) => super::mails::MAIL_BYTES_MAX,
            (None, Some(_)) => super::record::HEAD_BYTES_MAX,
            (None, None) => 0,
        }
    }

    /// Takes an accepted message to the records; they are written by [`Hub::flush`].
    pub(super) fn keep(&mut self, recipient: &[u8], body: &[u8], dotted: bool) {
        if let Some(recorder) = &mut self.recorder {
            recorder.add(recipient, body);
        }
        if let Some(mails) = &mut self.mails {
            mails.add(recipient, body, dotted);
        }
    }

    /// Writes the records; must return before the answers leave.
    pub fn flush(&mut self) -> std::io::Result<()> {
        self.recorder.as_mut().map_or(Ok(()), Recorder::flush)?;
        self.mails.as_mut().map_or(Ok(()), MailWriter::flush)
    }
}
