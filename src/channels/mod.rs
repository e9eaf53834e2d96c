//! Channels: the contract of a lane, limits and pacing, retries, and one connector kind a file or folder.
//!
//! A *connector* is one configured account at one provider; it opens *lanes* (one per connection). A lane is an async
//! task on a current-thread runtime that pulls rendered messages from its [`Feed`] and answers exactly one outcome each.
//!
//! # The contract: what every lane MUST do
//!
//! 1. It MUST call [`Feed::mark`] before the byte that completes a hand-over may leave (for SMTP DATA: the final dot;
//!    for BDAT: any byte of the last chunk; for HTTP: any byte of the body), and hand over only on [`Mark::Marked`].
//! 2. It MUST give every message that it pulled back exactly once: by [`Feed::answer`] or, if not marked, by
//!    [`Feed::hand_back`].
//! 3. After a mark it MUST answer: with the provider's word, or with [`Outcome::Unknown`] if none will come.
//! 4. It MUST answer `Rejected` and `Deferred` only on the provider's own word about this message, or if the message
//!    cannot be put on this provider's wire at all (an extension it does not offer, an address that would end a command).
//!    A lost connection, a refusal of the session, or a time-out before the mark is a `hand_back`, and costs the message
//!    nothing.
//! 5. On [`Mark::Withdrawn`] it MUST NOT hand over; if the transaction cannot be abandoned otherwise it MUST close the
//!    connection before the byte of MUST 1.
//! 6. On [`Mark::Hold`] it MAY keep an open transaction until then, at most `DATA_HOLD_MAX`, and then MUST act as in 5.
//! 7. It MUST report what says something about the provider and not the message ([`Feed::report`]), and MUST NOT turn a
//!    policy or authentication failure into a rejection that suppresses a contact.
//! 8. It MUST bound every wait by a time-out and every input by a limit, and MUST return from `run` soon after
//!    [`Feed::closing`] turns true, with nothing left unanswered.
//! 9. It MUST NOT hold a pulled message while it waits for another (no lane starves a row).
//!
//! What this module must not know: campaigns, segments, actors, HTTP.

pub mod ahead;
pub mod circuit;
pub mod connector;
#[doc(hidden)]
pub mod contract;
pub mod envelopes;
pub mod fair;
pub mod inbound;
pub mod inbox;
pub mod lane_budget;
pub mod limits_table;
pub mod null;
pub mod pacing;
pub mod retry;
pub mod simulated;
pub mod slowing;
pub mod smtp;

use std::time::Duration;

use crate::clock::Monotonic;
use crate::content::SharedSpans;

/// What a lane uses to name a message to its feed; meaningless to the lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// One rendered message, in buffers that the lane owns and reuses.
#[derive(Debug, Default)]
pub struct OutMessage {
    pub ticket: Ticket,
    /// Envelope sender (VERP), without angle brackets.
    pub return_path: String,
    /// Envelope recipient, or the channel's address.
    pub recipient: String,
    /// The message as it goes on the wire, CRLF line ends. Not dot-stuffed: a quoted-printable body never starts a line
    /// with a dot, which [`OutMessage::needs_dot_stuffing`] says.
    ///
    /// Where it shares its static text with all copies (`shared`), these are its own bytes only; see [`OutMessage::append_to`].
    pub body: Vec<u8>,
    pub shared: SharedSpans,
    /// Some line of `body` may begin with a dot.
    pub needs_dot_stuffing: bool,
    /// Headers hold raw UTF-8 or the addresses do (RFC 6531).
    pub needs_smtputf8: bool,
    /// The body holds bytes above 127 (RFC 6152).
    pub needs_8bit: bool,
}

impl OutMessage {
    pub fn clear(&mut self) {
        self.ticket = Ticket::default();
        self.return_path.clear();
        self.recipient.clear();
        self.body.clear();
        self.shared.clear();
        self.needs_dot_stuffing = false;
        self.needs_smtputf8 = false;
        self.needs_8bit = false;
    }

    /// Bytes of the whole message.
    pub fn bytes(&self) -> usize {
        self.body.len() + self.shared.len()
    }

    /// Appends the whole message.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        if self.shared.is_empty() {
            out.extend_from_slice(&self.body);
        } else {
            self.shared.write(&self.body, out);
        }
    }

    /// Puts the whole message into `body`.
    pub fn put_together(&mut self) {
        if !self.shared.is_empty() {
            let mut whole = Vec::with_capacity(self.bytes());
            self.append_to(&mut whole);
            self.body = whole;
            self.shared.clear();
        }
    }

    pub fn ends_in_crlf(&self) -> bool {
        if self.shared.is_empty() { self.body.ends_with(b"\r\n") } else { self.shared.ends_with(&self.body, b"\r\n") }
    }
}

/// Answer of [`Feed::pull`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// The message was filled in; the lane has it until it answers or hands it back.
    Filled,
    /// Nothing now: call [`Feed::wait`], with this time at the latest (a limit frees then).
    Idle { until: Option<Monotonic> },
}

/// Answer of [`Feed::mark`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The hand-over may complete now; every permit is taken.
    Marked,
    /// No permit now; ask again at this time.
    Hold { until: Monotonic },
    /// The row was taken back.
    Withdrawn,
}

pub use crate::ledger::RejectClass;

/// The one outcome of a message that was handed over, or that the provider refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Accepted,
    Rejected {
        class: RejectClass,
        reply: String,
    },
    /// The provider asked to come back; `after` if it said when.
    Deferred {
        after: Option<Duration>,
        reply: String,
    },
    /// Marked, and no answer will come.
    Unknown,
}

/// Something about the provider, not about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaneEvent {
    /// A session is ready for messages (greeting, TLS, AUTH done).
    Opened,
    /// Connecting or the session failed before it was ready.
    ConnectFailed { reason: String },
    /// The connection ended; with what was on it handled by MUST 2 and 3.
    Closed { reason: String },
    /// "Slow down": cut the rate of the connector.
    Throttled { reply: String },
    /// "Too many connections", 421: fewer lanes.
    TooManyConnections { reply: String },
    /// Authentication or policy refused the sender: open the circuit of the connector.
    SenderRefused { reply: String },
    /// One message was refused by policy. A single one may be a recipient's own rule, so it opens nothing; a large share
    /// of them is a sender's fault (`circuit::Circuit::answered`).
    PolicyRefused { reply: String },
    /// Round trip of one message, from its mark to its answer.
    RoundTrip { duration: Duration },
}

/// Why an unmarked message comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandBack {
    /// The connection was lost, refused or timed out before the mark.
    ConnectionLost,
    /// [`Mark::Withdrawn`] was answered, or the hold ran out.
    Withdrawn,
    /// The lane ends.
    Closing,
}

/// Where a lane gets messages and leaves answers. Implemented by the engine over claimed batches, and by tests.
#[allow(async_fn_in_trait, reason = "lanes run on current-thread runtimes and never need Send futures")]
pub trait Feed {
    /// The next released and rendered message of a class that has a permit now, or will have one when its envelope is open.
    fn pull(&mut self, into: &mut OutMessage, now: Monotonic) -> Pull;
    /// Resolves when [`Feed::pull`] may answer otherwise, or `until` has come, or the feed closes. At once if any of these
    /// happened since the last pull. May be dropped before it resolves (lanes watch their connection beside it).
    async fn wait(&mut self, until: Option<Monotonic>);
    /// Whether the envelope of a pulled `message` may go out behind another message's body: true if it was counted against the
    /// permits of its limit scopes when it was pulled, and for messages without limits.
    fn may_attach(&mut self, message: &OutMessage, now: Monotonic) -> bool;
    /// The arbiter: asks to complete the hand-over of `message`, takes its permits.
    fn mark(&mut self, message: &OutMessage, now: Monotonic) -> Mark;
    /// The outcome of a message.
    fn answer(&mut self, message: &OutMessage, outcome: Outcome);
    /// A message that was not marked comes back.
    fn hand_back(&mut self, message: &OutMessage, why: HandBack);
    fn report(&mut self, event: LaneEvent);
    /// Whether the lane should finish what it has and end.
    fn closing(&self) -> bool;
    fn now(&self) -> Monotonic;
}
