//! The reading half of a lane: replies to outcomes and events, with every time-out.
//!
//! Owns nothing of its own. Invariant: LR-1 a reply is applied before the next one is read. Must not know how commands
//! are put together.

use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Lane, LaneError};
use crate::channels::smtp::classify::{ForMessage, ForProvider, Verdict};
use crate::channels::smtp::session::{Expect, Ruling, SlotId, Step};
use crate::channels::smtp::wire::{SlotState, Turn, poll_turn};
use crate::channels::{Feed, HandBack, LaneEvent, Outcome, RejectClass};
use crate::limits::{DATA_HOLD_MAX, LANE_CLOSING_MAX, QUIT_MAX, REPLY_SAMPLE_BYTES};

/// Wait after a fault of the dialogue, before the message comes again without pipelining.
const PROTOCOL_WAIT: Duration = Duration::from_secs(60);

impl<F: Feed> Lane<'_, F> {
    /// Reads and applies replies until none is due and everything is written.
    pub(super) async fn drain(&mut self) -> Result<(), LaneError> {
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
    pub(super) async fn flush_body(&mut self) -> Result<(), LaneError> {
        match self.turn(true).await? {
            Turn::Read => {
                let reply = match self.reader.advance()? {
                    true => self.reader.reply().sample(REPLY_SAMPLE_BYTES),
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
        let mut awaited = self.due().0;
        loop {
            let (step, limit) = self.due();
            if step != awaited {
                (awaited, since) = (step, Instant::now());
            }
            let written = self.hand.out.written();
            if let Some(latest) = since.checked_add(limit) {
                self.ticker.wake_by(latest);
            }
            let Lane { hand, transport, reader, ticker, .. } = self;
            let io = std::future::poll_fn(|cx| {
                match poll_turn(transport, &mut hand.out, &hand.slots, reader, until_written, cx) {
                    Poll::Ready(turn) => Poll::Ready(Some(turn)),
                    Poll::Pending => ticker.poll(cx).map(|()| None),
                }
            });
            match io.await {
                Some(Ok(Turn::Eof)) => return Err(LaneError::Eof),
                Some(turn) => return Ok(turn?),
                None => {
                    if self.hand.out.written() > written {
                        since = Instant::now();
                    }
                    self.release_overdue();
                    if since.elapsed() >= limit {
                        return Err(LaneError::TimedOut { step, seconds: limit.as_secs() });
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
                if early { Err(LaneError::Refused { reply }) } else { Ok(()) }
            }
            Step::OutOfStep => Err(LaneError::OutOfStep),
        }
    }

    /// The connection broke, but some envelopes had their word: it counts, though the rest of their group has none.
    pub(super) fn settle_refused(&mut self) {
        for id in 0..self.hand.slots.len() {
            if let Some(ruling) = self.session.take_refusal(id)
                && let Err(error) = self.settle(id, ruling)
            {
                tracing::debug!(%error, "refused in a session that broke");
            }
        }
    }

    pub(super) fn next_command(&mut self, id: SlotId, after: Expect) {
        let from = self.hand.out.commands.len();
        let slot = &self.hand.slots[id];
        self.session.next(id, after, &slot.message, slot.bytes(), &mut self.hand.out.commands);
        self.hand.out.push_commands(from);
    }

    /// Gives the provider's word to the feed; `Err` if the connection is of no more use.
    fn settle(&mut self, id: SlotId, ruling: Ruling) -> Result<(), LaneError> {
        let Ruling { verdict, out_of_step, sample } = ruling;
        self.report_provider(&verdict, &sample);
        let state = self.hand.slots[id].state;
        let outcome = match verdict.message {
            ForMessage::Good => Some(Outcome::Accepted),
            ForMessage::Reject(class) => Some(Outcome::Rejected { class, reply: sample.clone() }),
            ForMessage::Defer { after } => Some(Outcome::Deferred { after, reply: sample.clone() }),
            ForMessage::Unharmed if state == SlotState::Marked && out_of_step => Some(Outcome::Unknown),
            ForMessage::Unharmed if state == SlotState::Marked => {
                Some(Outcome::Deferred { after: None, reply: sample.clone() })
            }
            ForMessage::Unharmed => None,
            ForMessage::Protocol if !self.session.pipelining() => {
                Some(Outcome::Rejected { class: RejectClass::Protocol, reply: sample.clone() })
            }
            ForMessage::Protocol => {
                self.avoid_pipelining = true;
                let marked = state == SlotState::Marked;
                marked.then(|| Outcome::Deferred { after: Some(PROTOCOL_WAIT), reply: sample.clone() })
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
        if verdict.close { Err(LaneError::Refused { reply: sample }) } else { Ok(()) }
    }

    pub(super) fn answer(&mut self, id: SlotId, outcome: Outcome) {
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
    pub(super) async fn quit(&mut self) {
        let from = self.hand.out.commands.len();
        self.hand.out.commands.extend_from_slice(b"QUIT\r\n");
        self.hand.out.push_commands(from);
        let Lane { hand, transport, reader, .. } = self;
        let farewell = std::future::poll_fn(|cx| poll_turn(transport, &mut hand.out, &hand.slots, reader, false, cx));
        if let Ok(Err(error)) = timeout(QUIT_MAX, farewell).await {
            tracing::debug!(%error, "relay did not answer QUIT");
        }
        self.hand.out.recycle();
    }
}
