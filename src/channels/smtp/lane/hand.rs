//! What a lane holds between two sessions, and how a session ends.
//!
//! Owns the message slots. Invariant: LH-1 [`Hand::give_back`] leaves nothing in hand. Must not know the dialogue.

use std::io;

use super::SLOTS;
use crate::channels::smtp::reply::ReplyError;
use crate::channels::smtp::session::SlotId;
use crate::channels::smtp::wire::{Outgoing, Slot, SlotState};
use crate::channels::{Feed, HandBack, Outcome, Pull};
use crate::clock::Monotonic;

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
    pub(super) slots: Vec<Slot>,
    pub(super) out: Outgoing,
    /// Pulled and not begun: the next to go.
    pub(super) waiting: Option<SlotId>,
}

impl Default for Hand {
    fn default() -> Hand {
        let slots = (0..SLOTS).map(|_| Slot::default()).collect();
        Hand { slots, out: Outgoing::default(), waiting: None }
    }
}

impl Hand {
    /// Pulls a message if there is none; `Err` is when to ask again.
    pub fn pull<F: Feed>(&mut self, feed: &mut F) -> Result<(), Option<Monotonic>> {
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
