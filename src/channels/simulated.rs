//! A connector whose outcomes are drawn from a seed: for rehearsals, tests and the simulation.
//!
//! Owns nothing that changes. Invariants: SI-1 what happens to a message depends only on the seed, its recipient and its
//! ticket; SI-2 [`draw`] is pure, so that a simulation with virtual time uses the very same outcomes; SI-3 a connection
//! that dies follows the contract: before the mark the message goes back, after it the outcome is unknown.
//!
//! Must not know anything but the contract.

use std::time::Duration;

use super::null::marked;
use super::{Feed, HandBack, LaneEvent, OutMessage, Outcome, Pull, RejectClass};
use crate::config::connectors::SimulatedSettings;

/// What happens to one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Accepted,
    Deferred,
    Rejected(RejectClass),
    /// The connection dies before the mark.
    LostBefore,
    /// The connection dies after the mark.
    LostAfter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    pub latency: Duration,
    pub fate: Fate,
}

/// The fate of a message, by seed, recipient and ticket.
pub fn draw(settings: &SimulatedSettings, recipient: &str, ticket: u64) -> Draw {
    let mut hash = settings.seed ^ 0x6573_7461_6665_7474;
    for byte in recipient.bytes() {
        hash = mix(hash ^ u64::from(byte));
    }
    hash = mix(hash ^ ticket);
    let share = (mix(hash ^ 1) >> 11) as f64 / (1u64 << 53) as f64;
    let span = settings.latency_max.saturating_sub(settings.latency_min);
    let latency = settings.latency_min + span.mul_f64((mix(hash ^ 2) >> 11) as f64 / (1u64 << 53) as f64);
    let table = [
        (settings.defer_share, Fate::Deferred),
        (settings.hard_bounce_share, Fate::Rejected(RejectClass::HardBounce)),
        (settings.soft_bounce_share, Fate::Rejected(RejectClass::SoftBounce)),
        (settings.policy_share, Fate::Rejected(RejectClass::Policy)),
        (settings.lost_before_share, Fate::LostBefore),
        (settings.lost_after_share, Fate::LostAfter),
    ];
    let mut below = 0.0;
    for (width, fate) in table {
        below += width;
        if share < below {
            return Draw { latency, fate };
        }
    }
    Draw { latency, fate: Fate::Accepted }
}

/// The finaliser of SplitMix64.
fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[derive(Clone, Debug)]
pub struct SimulatedConnector {
    settings: SimulatedSettings,
}

impl SimulatedConnector {
    pub fn new(settings: SimulatedSettings) -> SimulatedConnector {
        SimulatedConnector { settings }
    }

    pub fn settings(&self) -> &SimulatedSettings {
        &self.settings
    }

    pub async fn run_lane<F: Feed>(&self, feed: &mut F) {
        let mut message = OutMessage::default();
        feed.report(LaneEvent::Opened);
        while !feed.closing() {
            message.clear();
            match feed.pull(&mut message, feed.now()) {
                Pull::Idle { until } => feed.wait(until).await,
                Pull::Filled => self.send(feed, &message).await,
            }
        }
        feed.report(LaneEvent::Closed { reason: "done".to_owned() });
    }

    async fn send<F: Feed>(&self, feed: &mut F, message: &OutMessage) {
        let Draw { latency, fate } = draw(&self.settings, &message.recipient, message.ticket.0);
        if fate == Fate::LostBefore {
            feed.hand_back(message, HandBack::ConnectionLost);
            self.reconnect(feed).await;
            return;
        }
        if !marked(feed, message).await {
            feed.hand_back(message, HandBack::Withdrawn);
            return;
        }
        let marked_at = feed.now();
        if latency.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(latency).await;
        }
        feed.report(LaneEvent::RoundTrip { duration: feed.now().since(marked_at) });
        match fate {
            Fate::LostAfter => {
                feed.answer(message, Outcome::Unknown);
                self.reconnect(feed).await;
            }
            Fate::Deferred => {
                feed.answer(message, Outcome::Deferred { after: None, reply: "451 4.3.0 simulated".to_owned() });
            }
            Fate::Rejected(class) => {
                let reply = format!("550 5.0.0 simulated {}", class.name());
                feed.answer(message, Outcome::Rejected { class, reply });
            }
            Fate::Accepted | Fate::LostBefore => feed.answer(message, Outcome::Accepted),
        }
    }

    async fn reconnect<F: Feed>(&self, feed: &mut F) {
        feed.report(LaneEvent::Closed { reason: "simulated loss".to_owned() });
        tokio::time::sleep(self.settings.latency_max).await;
        feed.report(LaneEvent::Opened);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::connectors::{RateLimits, RetrySettings};

    fn settings() -> SimulatedSettings {
        SimulatedSettings {
            name: "s".into(),
            seed: 7,
            connections_max: 1,
            rate: RateLimits::default(),
            domains: Vec::new(),
            retry: RetrySettings::default(),
            credits_batches: 8,
            latency_min: Duration::from_millis(10),
            latency_max: Duration::from_millis(20),
            defer_share: 0.2,
            hard_bounce_share: 0.1,
            soft_bounce_share: 0.0,
            policy_share: 0.0,
            lost_before_share: 0.1,
            lost_after_share: 0.0,
            suppress_after_hard_bounces: 1,
        }
    }

    #[test]
    fn shares_come_out_and_repeat() {
        let settings = settings();
        let draws: Vec<Draw> = (0..20_000).map(|t| draw(&settings, "a@x.test", t)).collect();
        let share = |fate: Fate| draws.iter().filter(|d| d.fate == fate).count() as f64 / draws.len() as f64;
        for (fate, wanted) in
            [(Fate::Deferred, 0.2), (Fate::Accepted, 0.6), (Fate::LostBefore, 0.1), (Fate::LostAfter, 0.0)]
        {
            assert!((share(fate) - wanted).abs() < 0.02, "{fate:?}: {} for {wanted}", share(fate));
        }
        assert!(draws.iter().all(|d| (10..=20).contains(&d.latency.as_millis())), "latencies in range");
        assert_eq!(draws[77], draw(&settings, "a@x.test", 77), "the same again");
    }
}
