//! One SMTP session over a [`Feed`]: pipelined DATA (body N and the envelope of N+1 in one write), BDAT windows, and the
//! plain dialogue for relays that offer neither.
//!
//! Owns the buffers and the messages in hand. Invariants: LA-1 every pulled message is given back exactly once, whatever
//! ends the session (giving it back); LA-2 the final dot (or any byte of a BDAT window) is written only after the
//! mark; LA-3 an envelope that cannot go on to its message ends the connection, never in a lone dot; LA-4 no message is
//! held longer than `DATA_HOLD_MAX` for anything but its own answer; LA-5 every wait has a time-out.
//!
//! Must not know campaigns, limits, or how the connection was made.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::connect::Connection;
use super::dkim::Signer;
use super::reply::ReplyReader;
use super::session::{Expect, Session, SlotId};
use super::transport::Transport;
use super::wire::{Part, SlotState, Turn, poll_turn};
use crate::channels::{Feed, HandBack, Mark, Outcome, RejectClass};
use crate::config::connectors::SmtpSettings;
use crate::limits::{BDAT_WINDOW_MESSAGES, BODY_AT_ONCE_BYTES_MAX, DATA_HOLD_MAX, SHARED_MESSAGE_BYTES_MAX};

/// Messages in hand: a BDAT window and the one that is next.
const SLOTS: usize = BDAT_WINDOW_MESSAGES + 1;

mod hand;
mod replies;
mod ticker;

pub use hand::{Ended, Hand, LaneError};
use ticker::Ticker;

/// See the module's docs.
pub struct Lane<'a, F: Feed> {
    feed: &'a mut F,
    hand: &'a mut Hand,
    settings: &'a SmtpSettings,
    signer: Option<&'a Signer>,
    transport: Transport,
    reader: ReplyReader,
    session: Session,
    ticker: Ticker,
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
            ticker: Ticker::default(),
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
        if error.is_some() {
            self.settle_refused();
        }
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
        Ended { error, answered: self.answered, avoid_pipelining: self.avoid_pipelining }
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
        self.settings.messages_per_connection_max.is_none_or(|max| self.session.started() < max)
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
        let Lane { feed, hand, transport, reader, .. } = self;
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
        let mut refusal = self.session.unsendable(&slot.message).map(|why| (RejectClass::Other, why.to_owned()));
        if refusal.is_none() && !slot.prepared {
            slot.prefix.clear();
            if self.signer.is_some() || slot.message.bytes() > SHARED_MESSAGE_BYTES_MAX {
                slot.message.put_together();
            }
            if let Some(signer) = self.signer {
                let signed = signer.sign(&slot.message.body, &mut slot.prefix);
                refusal = signed.err().map(|e| (RejectClass::Other, format!("DKIM: {e}")));
            }
            slot.stuff();
            slot.prepared = true;
        }
        if refusal.is_none() && !self.session.fits(slot.bytes()) {
            // RFC 1870 5: what is beyond the relay's fixed limit is not offered to it.
            let why = format!("the message has {} bytes, more than the SIZE that the relay announced", slot.bytes());
            refusal = Some((RejectClass::TooLarge, why));
        }
        let Some((class, reply)) = refusal else { return true };
        self.answer(id, Outcome::Rejected { class, reply });
        false
    }

    /// Sends the envelope alone; `true` if DATA is open.
    async fn open(&mut self, id: SlotId) -> Result<bool, LaneError> {
        let from = self.hand.out.commands.len();
        let slot = &self.hand.slots[id];
        self.session.begin(id, &slot.message, slot.bytes(), &mut self.hand.out.commands);
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
            self.session.end_of_data(current, slot.ends_in_crlf(), &mut self.hand.out.commands);
            if let Some(id) = next {
                let slot = &self.hand.slots[id];
                self.session.begin(id, &slot.message, slot.bytes(), &mut self.hand.out.commands);
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
        let mut since = None;
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
                    if since.get_or_insert_with(Instant::now).elapsed() + wait <= DATA_HOLD_MAX && !self.feed.closing()
                    {
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
            let ready = if marked == 0 { self.mark(id).await? } else { self.mark_now(id) };
            if ready {
                marked += 1;
                let from = self.hand.out.commands.len();
                let slot = &self.hand.slots[id];
                let bytes = slot.bytes();
                let lacks_end = !slot.ends_in_crlf();
                self.session.chunk(id, &slot.message, bytes, &mut self.hand.out.commands);
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
}
