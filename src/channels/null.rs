//! A connector that accepts everything and keeps nothing: what is left is the engine's own cost.
//!
//! Owns nothing. Must not know anything but the contract.

use super::{Feed, HandBack, LaneEvent, Mark, OutMessage, Outcome, Pull};
use crate::config::connectors::NullSettings;
use crate::limits::DATA_HOLD_MAX;

/// Messages after which a lane lets the others of its thread go on.
const TURN_MESSAGES: u32 = 64;

#[derive(Clone, Debug)]
pub struct NullConnector {
    settings: NullSettings,
}

impl NullConnector {
    pub fn new(settings: NullSettings) -> NullConnector {
        NullConnector { settings }
    }

    pub fn settings(&self) -> &NullSettings {
        &self.settings
    }

    pub async fn run_lane<F: Feed>(&self, feed: &mut F) {
        let mut message = OutMessage::default();
        let mut turn = 0;
        feed.report(LaneEvent::Opened);
        while !feed.closing() {
            message.clear();
            match feed.pull(&mut message, feed.now()) {
                Pull::Idle { until } => feed.wait(until).await,
                Pull::Filled => {
                    if marked(feed, &message).await {
                        feed.answer(&message, Outcome::Accepted);
                    } else {
                        feed.hand_back(&message, HandBack::Withdrawn);
                    }
                    turn += 1;
                    if turn % TURN_MESSAGES == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
        feed.report(LaneEvent::Closed { reason: "done".to_owned() });
    }
}

/// Asks for the mark of a message that nothing of has left, for at most `DATA_HOLD_MAX`.
pub(super) async fn marked<F: Feed>(feed: &mut F, message: &OutMessage) -> bool {
    let since = feed.now();
    loop {
        let now = feed.now();
        match feed.mark(message, now) {
            Mark::Marked => return true,
            Mark::Withdrawn => return false,
            Mark::Hold { until } => {
                if feed.closing() || until.since(since) > DATA_HOLD_MAX {
                    return false;
                }
                tokio::time::sleep(until.since(now)).await;
            }
        }
    }
}
