//! One SMTP session over a [`Feed`]: pipelined DATA (body N and the envelope of N+1 in one write), BDAT windows, and the
//! plain dialogue for relays that offer neither.
//!
//! Owns the buffers and the messages in hand. Invariants: LA-1 every pulled message is given back exactly once, whatever
//! ends the session ([`Lane::give_back`]); LA-2 the final dot (or any byte of a BDAT window) is written only after the
//! mark; LA-3 an envelope that cannot go on to its message ends the connection, never in a lone dot; LA-4 no message is
//! held longer than `DATA_HOLD_MAX` for anything but its own answer; LA-5 every wait has a time-out.
//!
//! Must not know campaigns, limits, or how the connection was made.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::classify::{ForMessage, ForProvider, Verdict};
use super::connect::Connection;
use super::dkim::Signer;
use super::reply::{ReplyError, ReplyReader};
use super::session::{Expect, Ruling, Session, SlotId, Step};
use super::transport::Transport;
use super::wire::{Outgoing, Part, Slot, SlotState, Turn, poll_turn};
use crate::channels::{Feed, HandBack, LaneEvent, Mark, Outcome, Pull, RejectClass};
use crate::config::connectors::SmtpSettings;
use crate::limits::{
    BDAT_WINDOW_MESSAGES, BODY_AT_ONCE_BYTES_MAX, DATA_HOLD_MAX, LANE_CLOSING_MAX, LANE_TICK, QUIT_MAX,
};

/// Messages in hand: a BDAT window and the one that is next.
const SLOTS: usize = BDAT_WINDOW_MESSAGES + 1;
/// Wait after a fault of the dialogue, before the message comes again without pipelining.
const PROTOCOL_WAIT: Duration = Duration::from_secs(60);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    #[error("connection lost")]
    Io(#[from] io::Error),
    #[error("relay closed the connection")]
    Eof,
    #[error("relay's reply is not SMTP: {0}")]
    Reply(#[from] ReplyError),
    #[error("no answer to {step} within {seconds} s")]
    TimedOut { step: &'static str, seconds: u64 },
    #[error("relay's replies are out of step")]
    OutOfStep,
    #[error("relay ended the session: {reply}")]
    Refused { reply: String },
    #[error("a message was taken back while its DATA was open")]
    Withdrawn,
    #[error("the lane ends")]
    Closing,
}

/// How a session ended.
#[derive(Debug)]
pub struct Ended {
    pub error: Option<LaneError>,
    /// Messages that got an answer.
    pub answered: u64,
    /// The relay stumbled over pipelining: the next session goes without.
    pub avoid_pipelining: bool,
}

/// Buffers that outlive a session.
#[derive(Debug)]
pub struct Hand {
    slots: Vec<Slot>,
    out: Outgoing,
    /// Pulled and not begun: the next to go.
    waiting: Option<SlotId>,
}

impl Default for Hand {
    fn default() -> Hand {
        let slots = (0..SLOTS).map(|_| Slot::default()).collect();
        Hand {
            slots,
            out: Outgoing::default(),
            waiting: None,
        }
    }
}

impl Hand {
    /// Pulls a message if there is none; `Err` is when to ask again.
    pub fn pull<F: Feed>(&mut self, feed: &mut F) -> Result<(), Option<crate::clock::Monotonic>> {
        if self.waiting.is_some() {
            return Ok(());
        }
        let id = self.slots.iter().position(|s| s.state == SlotState::Free).unwrap_or(0);
        let now = feed.now();
        let slot = &mut self.slots[id];
        slot.message.clear();
        match feed.pull(&mut slot.message, now) {
            Pull::Idle { until } => Err(until),
            Pull::Filled => {
                slot.state = SlotState::Held;
                slot.pulled_at = now;
                self.waiting = Some(id);
                Ok(())
            }
        }
    }

    /// Gives everything back that is still here (LA-1): what was marked is unknown, the rest untouched.
    pub fn give_back<F: Feed>(&mut self, feed: &mut F, why: HandBack) {
        for slot in &mut self.slots {
            match slot.state {
                SlotState::Free => {}
                SlotState::Held => feed.hand_back(&slot.message, why),
                SlotState::Marked => feed.answer(&slot.message, Outcome::Unknown),
            }
            slot.free();
        }
        self.waiting = None;
        self.out.abandon();
    }
}

/// See the module's docs.
pub struct Lane<'a, F: Feed> {
    feed: &'a mut F,
    hand: &'a mut Hand,
    settings: &'a SmtpSettings,
    signer: Option<&'a Signer>,
    transport: Transport,
    reader: ReplyReader,
    session: Session,
    answered: u64,
    avoid_pipelining: bool,
    closing_since: Option<Instant>,
    /// The envelope of this slot is out, ahead of the answer that is awaited.
    attached: Option<SlotId>,
    /// An attached message was given back: the connection is of no more use after the answer that is due.
    close_after_answer: bool,
}

impl<'a, F: Feed> Lane<'a, F> {
    pub fn new(
        connection: Connection,
        settings: &'a SmtpSettings,
        signer: Option<&'a Signer>,
        feed: &'a mut F,
        hand: &'a mut Hand,
        pipelining: bool,
    ) -> Lane<'a, F> {
        let pipelining = pipelining && settings.pipelining;
        Lane {
            session: Session::new(connection.caps, pipelining, settings.chunking, SLOTS),
            transport: connection.transport,
            reader: connection.reader,
            feed,
            hand,
            settings,
            signer,
            answered: 0,
            avoid_pipelining: false,
            closing_since: None,
            attached: None,
            close_after_answer: false,
        }
    }

    /// Serves messages until the feed closes, the session is idle for long, its quota is used up, or it breaks.
    pub async fn run(mut self) -> Ended {
        let error = self.serve().await.err();
        let why = match &error {
            Some(LaneError::Withdrawn) => HandBack::Withdrawn,
            _ if self.feed.closing() => HandBack::Closing,
            _ => HandBack::ConnectionLost,
        };
        if error.is_none() {
            self.quit().await;
        }
        // A clean end leaves nothing in hand but a message that was pulled for the next session.
        if error.is_some() || self.feed.closing() {
            self.hand.give_back(self.feed, why);
        }
        Ended {
            error,
            answered: self.answered,
            avoid_pipelining: self.avoid_pipelining,
        }
    }

    async fn serve(&mut self) -> Result<(), LaneError> {
        while self.quota_left() {
            let Some(first) = self.acquire().await? else {
                return Ok(());
            };
            if self.session.chunking() {
                self.window(first).await?;
            } else if self.open(first).await? {
                self.chain(first).await?;
            }
        }
        Ok(())
    }

    fn quota_left(&self) -> bool {
        self.settings
            .messages_per_connection_max
            .is_none_or(|max| self.session.started() < max)
    }

    /// The next message that can be sent, ready to be written; `None` if the session should end.
    async fn acquire(&mut self) -> Result<Option<SlotId>, LaneError> {
        let idle_since = Instant::now();
        loop {
            if self.feed.closing() {
                return Ok(None);
            }
            match self.hand.pull(self.feed) {
                Ok(()) => {
                    if let Some(id) = self.hand.waiting.take()
                        && self.prepare(id)
                    {
                        return Ok(Some(id));
                    }
                }
                Err(until) => {
                    let left = self.settings.timeouts.idle.saturating_sub(idle_since.elapsed());
                    if left.is_zero() || !self.wait_idle(until, left).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Waits for the feed while watching the connection; `false` when idle for too long.
    async fn wait_idle(&mut self, until: Option<crate::clock::Monotonic>, left: Duration) -> Result<bool, LaneError> {
        let Lane {
            feed,
            hand,
            transport,
            reader,
            ..
        } = self;
        let peer = std::future::poll_fn(|cx| poll_turn(transport, &mut hand.out, &hand.slots, reader, false, cx));
        tokio::select! {
            biased;
            () = feed.wait(until) => Ok(true),
            turn = peer => match turn? {
                Turn::Eof => Err(LaneError::Eof),
                // Whatever a relay says unasked, it is a farewell.
                Turn::Read | Turn::Written => match reader.advance()? {
                    true => Err(LaneError::Refused { reply: reader.reply().sample(crate::limits::REPLY_SAMPLE_BYTES) }),
                    false => Ok(true),
                },
            },
            () = sleep(left) => Ok(false),
        }
    }

    /// Signs and stuffs; `false` if this relay cannot take the message, which is then answered.
    fn prepare(&mut self, id: SlotId) -> bool {
        let slot = &mut self.hand.slots[id];
        let mut refusal = self.session.unsendable(&slot.message).map(str::to_owned);
        slot.prefix.clear();
        if let (Some(signer), None) = (self.signer, &refusal) {
            refusal = signer
                .sign(&slot.message.body, &mut slot.prefix)
                .err()
                .map(|e| format!("DKIM: {e}"));
        }
        if let Some(reply) = refusal {
            self.answer(
                id,
                Outcome::Rejected {
                    class: RejectClass::Other,
                    reply,
                },
            );
            return false;
        }
        slot.stuff();
        true
    }

    /// Sends the envelope alone; `true` if DATA is open.
    async fn open(&mut self, id: SlotId) -> Result<bool, LaneError> {
        let from = self.hand.out.commands.len();
        let slot = &self.hand.slots[id];
        self.session
            .begin(id, &slot.message, slot.bytes(), &mut self.hand.out.commands);
        self.hand.out.push_commands(from);
        self.drain().await?;
        if !self.session.pipelining() && !self.is_settled(id) && !self.hand.slots[id].open {
            // Only RSET was answered.
            self.next_command(id, Expect::Rset);
            self.drain().await?;
        }
        Ok(self.hand.slots[id].open)
    }

    fn is_settled(&self, id: SlotId) -> bool {
        self.hand.slots[id].state == SlotState::Free
    }

    /// From an open DATA on: mark, body, and the next envelope with it, for as long as envelopes can be attached.
    async fn chain(&mut self, first: SlotId) -> Result<(), LaneError> {
        let mut current = first;
        loop {
            let large = self.hand.slots[current].bytes() > BODY_AT_ONCE_BYTES_MAX;
            if large {
                self.push_data(current);
                self.flush_body().await?;
            }
            if !self.mark(current).await? {
                return Err(LaneError::Withdrawn);
            }
            let next = self.attachable();
            if !large {
                self.push_data(current);
            }
            let from = self.hand.out.commands.len();
            let slot = &self.hand.slots[current];
            self.session
                .end_of_data(current, slot.ends_in_crlf(), &mut self.hand.out.commands);
            if let Some(id) = next {
                let slot = &self.hand.slots[id];
                self.session
                    .begin(id, &slot.message, slot.bytes(), &mut self.hand.out.commands);
            }
            self.hand.out.push_commands(from);
            self.attached = next;
            let drained = self.drain().await;
            self.attached = None;
            drained?;
            match next {
                Some(id) if self.hand.slots[id].open => current = id,
                _ => return Ok(()),
            }
        }
    }

    fn push_data(&mut self, id: SlotId) {
        self.hand.out.push(Part::Prefix(id));
        self.hand.out.push(Part::Data(id));
    }

    /// Pulls the message whose envelope can go out with the body that is about to be written. One that cannot be attached
    /// stays in hand and goes right after the answer.
    fn attachable(&mut self) -> Option<SlotId> {
        if !self.session.pipelining() || !self.quota_left() || self.feed.closing() {
            return None;
        }
        self.hand.pull(self.feed).ok()?;
        let id = self.hand.waiting.take()?;
        if !self.prepare(id) {
            return None;
        }
        let now = self.feed.now();
        let slot = &self.hand.slots[id];
        if self.session.fits(slot.bytes()) && self.feed.may_attach(&slot.message, now) {
            return Some(id);
        }
        self.hand.waiting = Some(id);
        None
    }

    /// Asks for the mark while DATA is open, at most `DATA_HOLD_MAX`; `false` if the message was given back.
    async fn mark(&mut self, id: SlotId) -> Result<bool, LaneError> {
        let since = Instant::now();
        loop {
            let now = self.feed.now();
            match self.feed.mark(&self.hand.slots[id].message, now) {
                Mark::Marked => {
                    let slot = &mut self.hand.slots[id];
                    slot.state = SlotState::Marked;
                    slot.marked_at = now;
                    return Ok(true);
                }
                Mark::Hold { until } => {
                    let wait = until.since(now).max(Duration::from_micros(100));
                    if since.elapsed() + wait <= DATA_HOLD_MAX && !self.feed.closing() {
                        sleep(wait).await;
                        continue;
                    }
                }
                Mark::Withdrawn => {}
            }
            let slot = &mut self.hand.slots[id];
            self.feed.hand_back(&slot.message, HandBack::Withdrawn);
            slot.free();
            return Ok(false);
        }
    }

    /// Whole transactions in one write, each marked before it (RFC 3030).
    async fn window(&mut self, first: SlotId) -> Result<(), LaneError> {
        let mut marked = 0;
        let mut candidate = Some(first);
        while let Some(id) = candidate {
            // Nothing of this message is on the wire: a withdrawal costs nothing.
            let ready = if marked == 0 {
                self.mark(id).await?
            } else {
                self.mark_now(id)
            };
            if ready {
                marked += 1;
                let from = self.hand.out.commands.len();
                let slot = &self.hand.slots[id];
                let bytes = slot.bytes();
                let lacks_end = !slot.ends_in_crlf();
                self.session
                    .chunk(id, &slot.message, bytes, &mut self.hand.out.commands);
                self.hand.out.push_commands(from);
                self.hand.out.push(Part::Prefix(id));
                self.hand.out.push(Part::Body(id));
                if lacks_end {
                    let from = self.hand.out.commands.len();
                    self.hand.out.commands.extend_from_slice(b"\r\n");
                    self.hand.out.push_commands(from);
                }
            }
            candidate = None;
            while marked > 0 && marked < BDAT_WINDOW_MESSAGES && self.hand.waiting.is_none() && self.quota_left() {
                if self.feed.closing() || self.hand.pull(self.feed).is_err() {
                    break;
                }
                candidate = self.hand.waiting.take();
                if candidate.is_some_and(|id| self.prepare(id)) {
                    break;
                }
                candidate = None;
            }
        }
        self.drain().await
    }

    /// As [`Lane::mark`], but without waiting: who has no permit now is the next window's first.
    fn mark_now(&mut self, id: SlotId) -> bool {
        let now = self.feed.now();
        let slot = &mut self.hand.slots[id];
        match self.feed.mark(&slot.message, now) {
            Mark::Marked => {
                slot.state = SlotState::Marked;
                slot.marked_at = now;
                return true;
            }
            Mark::Hold { .. } => self.hand.waiting = Some(id),
            Mark::Withdrawn => {
                self.feed.hand_back(&slot.message, HandBack::Withdrawn);
                slot.free();
            }
        }
        false
    }

    /// Reads and applies replies until none is due and everything is written.
    async fn drain(&mut self) -> Result<(), LaneError> {
        loop {
            while self.session.expects().is_some() && self.reader.advance()? {
                self.apply()?;
            }
            if self.session.expects().is_none() {
                self.hand.out.recycle();
                if self.close_after_answer {
                    return Err(LaneError::Withdrawn);
                }
                return Ok(());
            }
            self.turn(false).await?;
        }
    }

    /// Writes a large body while DATA is open; a reply before the dot ends the session, with nothing handed over.
    async fn flush_body(&mut self) -> Result<(), LaneError> {
        match self.turn(true).await? {
            Turn::Read => {
                let reply = match self.reader.advance()? {
                    true => self.reader.reply().sample(crate::limits::REPLY_SAMPLE_BYTES),
                    false => String::new(),
                };
                Err(LaneError::Refused { reply })
            }
            Turn::Eof => Err(LaneError::Eof),
            Turn::Written => {
                self.hand.out.recycle();
                Ok(())
            }
        }
    }

    /// One turn of reading and writing within the time-out of what is due.
    async fn turn(&mut self, until_written: bool) -> Result<Turn, LaneError> {
        let mut since = Instant::now();
        let mut awaited = "";
        loop {
            let (step, limit) = self.due();
            if step != awaited {
                (awaited, since) = (step, Instant::now());
            }
            let written = self.hand.out.written();
            let tick = LANE_TICK
                .min(limit.saturating_sub(since.elapsed()))
                .max(Duration::from_millis(1));
            let Lane {
                hand,
                transport,
                reader,
                ..
            } = self;
            let io =
                std::future::poll_fn(|cx| poll_turn(transport, &mut hand.out, &hand.slots, reader, until_written, cx));
            match timeout(tick, io).await {
                Ok(Ok(Turn::Eof)) => return Err(LaneError::Eof),
                Ok(turn) => return Ok(turn?),
                Err(_) => {
                    if self.hand.out.written() > written {
                        since = Instant::now();
                    }
                    self.release_overdue();
                    if since.elapsed() >= limit {
                        return Err(LaneError::TimedOut {
                            step,
                            seconds: limit.as_secs(),
                        });
                    }
                    if self.feed.closing() {
                        let closing = *self.closing_since.get_or_insert_with(Instant::now);
                        if closing.elapsed() >= LANE_CLOSING_MAX || !self.any_marked() {
                            return Err(LaneError::Closing);
                        }
                    }
                }
            }
        }
    }

    fn any_marked(&self) -> bool {
        self.hand.slots.iter().any(|s| s.state == SlotState::Marked)
    }

    fn due(&self) -> (&'static str, Duration) {
        let times = &self.settings.timeouts;
        match self.session.expects() {
            _ if !self.hand.out.is_empty() => ("write", times.block),
            Some(Expect::Rset | Expect::Cancelled) => ("RSET", times.command),
            Some(Expect::Mail(_)) => ("MAIL", times.mail),
            Some(Expect::Rcpt(_)) => ("RCPT", times.rcpt),
            Some(Expect::Data(_)) => ("DATA", times.data),
            Some(Expect::Body(_) | Expect::Bdat(_)) | None => ("the message", times.answer),
        }
    }

    /// LA-4: what waits behind another message's answer for too long goes back.
    fn release_overdue(&mut self) {
        let now = self.feed.now();
        for id in [self.hand.waiting, self.attached].into_iter().flatten() {
            let slot = &mut self.hand.slots[id];
            if slot.state == SlotState::Held && now.since(slot.pulled_at) >= DATA_HOLD_MAX {
                self.feed.hand_back(&slot.message, HandBack::Withdrawn);
                slot.free();
                if self.attached.take_if(|a| *a == id).is_some() {
                    self.close_after_answer = true;
                }
                self.hand.waiting.take_if(|w| *w == id);
            }
        }
    }

    fn apply(&mut self) -> Result<(), LaneError> {
        let (expect, step) = self.session.on_reply(self.reader.reply());
        match step {
            Step::More => Ok(()),
            Step::Next(id) => {
                if let Some(after) = expect {
                    self.next_command(id, after);
                }
                Ok(())
            }
            Step::Open(id) => {
                self.hand.slots[id].open = true;
                Ok(())
            }
            Step::Refused { slot, ruling, cancel } => {
                if cancel {
                    let from = self.hand.out.commands.len();
                    self.hand.out.commands.extend_from_slice(b".\r\n");
                    self.hand.out.push_commands(from);
                }
                self.settle(slot, ruling)
            }
            Step::Answered { slot, ruling } => {
                // An answer before the end of its message: what is left of it must not follow.
                let early = self.hand.out.is_writing(slot);
                let reply = if early { ruling.sample.clone() } else { String::new() };
                self.settle(slot, ruling)?;
                if early {
                    Err(LaneError::Refused { reply })
                } else {
                    Ok(())
                }
            }
            Step::OutOfStep => Err(LaneError::OutOfStep),
        }
    }

    fn next_command(&mut self, id: SlotId, after: Expect) {
        let from = self.hand.out.commands.len();
        let slot = &self.hand.slots[id];
        self.session
            .next(id, after, &slot.message, slot.bytes(), &mut self.hand.out.commands);
        self.hand.out.push_commands(from);
    }

    /// Gives the provider's word to the feed; `Err` if the connection is of no more use.
    fn settle(&mut self, id: SlotId, ruling: Ruling) -> Result<(), LaneError> {
        let Ruling {
            verdict,
            out_of_step,
            sample,
        } = ruling;
        self.report_provider(&verdict, &sample);
        let state = self.hand.slots[id].state;
        let outcome = match verdict.message {
            ForMessage::Good => Some(Outcome::Accepted),
            ForMessage::Reject(class) => Some(Outcome::Rejected {
                class,
                reply: sample.clone(),
            }),
            ForMessage::Defer { after } => Some(Outcome::Deferred {
                after,
                reply: sample.clone(),
            }),
            ForMessage::Unharmed if state == SlotState::Marked && out_of_step => Some(Outcome::Unknown),
            ForMessage::Unharmed if state == SlotState::Marked => Some(Outcome::Deferred {
                after: None,
                reply: sample.clone(),
            }),
            ForMessage::Unharmed => None,
            ForMessage::Protocol if !self.session.pipelining() => Some(Outcome::Rejected {
                class: RejectClass::Protocol,
                reply: sample.clone(),
            }),
            ForMessage::Protocol => {
                self.avoid_pipelining = true;
                let marked = state == SlotState::Marked;
                marked.then(|| Outcome::Deferred {
                    after: Some(PROTOCOL_WAIT),
                    reply: sample.clone(),
                })
            }
        };
        match (outcome, state) {
            // Given back already while its envelope was out.
            (_, SlotState::Free) => {}
            (Some(outcome), _) => self.answer(id, outcome),
            (None, _) => {
                let slot = &mut self.hand.slots[id];
                self.feed.hand_back(&slot.message, HandBack::ConnectionLost);
                slot.free();
            }
        }
        if verdict.close {
            Err(LaneError::Refused { reply: sample })
        } else {
            Ok(())
        }
    }

    fn answer(&mut self, id: SlotId, outcome: Outcome) {
        let slot = &mut self.hand.slots[id];
        if slot.state == SlotState::Marked {
            let duration = self.feed.now().since(slot.marked_at);
            self.feed.report(LaneEvent::RoundTrip { duration });
        }
        self.answered += 1;
        self.feed.answer(&slot.message, outcome);
        slot.free();
    }

    fn report_provider(&mut self, verdict: &Verdict, sample: &str) {
        let reply = || sample.to_owned();
        let event = match verdict.provider {
            ForProvider::Nothing => return,
            ForProvider::Throttled => LaneEvent::Throttled { reply: reply() },
            ForProvider::TooManyConnections => LaneEvent::TooManyConnections { reply: reply() },
            ForProvider::PolicyRefused => LaneEvent::PolicyRefused { reply: reply() },
            ForProvider::SenderRefused => LaneEvent::SenderRefused { reply: reply() },
        };
        self.feed.report(event);
    }

    /// A polite end; whatever happens to it concerns no message.
    async fn quit(&mut self) {
        let from = self.hand.out.commands.len();
        self.hand.out.commands.extend_from_slice(b"QUIT\r\n");
        self.hand.out.push_commands(from);
        let Lane {
            hand,
            transport,
            reader,
            ..
        } = self;
        let farewell = std::future::poll_fn(|cx| poll_turn(transport, &mut hand.out, &hand.slots, reader, false, cx));
        if let Ok(Err(error)) = timeout(QUIT_MAX, farewell).await {
            tracing::debug!(%error, "relay did not answer QUIT");
        }
        self.hand.out.recycle();
    }
}
