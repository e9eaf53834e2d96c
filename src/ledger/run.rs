//! One execution of a campaign: its deliveries, what came back, and where it stands.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::flow::Graph;
use crate::ids::{CampaignId, Channel, DeliveryId, MessageId, RunId};
use crate::ledger::delivery::{Counts, Delivery};
use crate::ledger::facts::{DeliveryEntered, RunStarted, Sample};
use crate::ledger::tracking::MessageTracking;
use crate::ledger::Violation;
use crate::limits::SAMPLES_PER_CLASS;

/// Where a run stands. `campaigns::lifecycle` has the table of legal moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    Running,
    Paused,
    Stopping,
    Stopped,
    Finished,
}

impl RunState {
    pub fn name(self) -> &'static str {
        match self {
            RunState::Running => "running",
            RunState::Paused => "paused",
            RunState::Stopping => "stopping",
            RunState::Stopped => "stopped",
            RunState::Finished => "finished",
        }
    }

    /// The run may still send without anybody's doing.
    pub fn is_live(self) -> bool {
        matches!(self, RunState::Running | RunState::Paused | RunState::Stopping)
    }
}

/// What a delivery sends, and by what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    pub channel: Channel,
    pub topic: String,
    pub connector: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub id: RunId,
    pub campaign: CampaignId,
    pub version: u32,
    pub state: RunState,
    /// Why it stands where it stands, in words, if somebody or something moved it there.
    pub reason: String,
    pub graph: Graph,
    pub deliveries: Vec<Delivery>,
    pub routes: Vec<Route>,
    pub messages: BTreeMap<MessageId, MessageTracking>,
    pub samples: BTreeMap<String, Vec<Sample>>,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

impl Run {
    pub fn start(fact: &RunStarted) -> Result<Run, Violation> {
        let mut deliveries = Vec::with_capacity(fact.deliveries.len());
        let mut routes = Vec::with_capacity(fact.deliveries.len());
        for (index, entered) in fact.deliveries.iter().enumerate() {
            let id = DeliveryId { run: fact.run, index: u16::try_from(index).unwrap_or(u16::MAX) };
            let DeliveryEntered { channel, topic, connector, mode, audience, skipped } = entered;
            deliveries.push(Delivery::enter(id, audience.space, *mode, audience.rows.clone(), skipped)?);
            routes.push(Route { channel: *channel, topic: topic.clone(), connector: connector.clone() });
        }
        Ok(Run {
            id: fact.run,
            campaign: fact.campaign,
            version: fact.version,
            state: RunState::Running,
            reason: String::new(),
            graph: fact.graph.clone(),
            deliveries,
            routes,
            messages: BTreeMap::new(),
            samples: BTreeMap::new(),
            started_at: fact.at,
            ended_at: None,
        })
    }

    pub fn delivery(&self, index: u16) -> Option<&Delivery> {
        self.deliveries.get(usize::from(index))
    }

    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for delivery in &self.deliveries {
            sum.add(&delivery.counts());
        }
        sum
    }

    pub fn is_finished(&self) -> bool {
        self.deliveries.iter().all(Delivery::is_finished)
    }

    pub fn has_open_batches(&self) -> bool {
        self.deliveries.iter().any(|d| !d.batches.is_empty())
    }

    pub fn keep_samples(&mut self, samples: &[Sample]) {
        for sample in samples {
            let kept = self.samples.entry(sample.label.clone()).or_default();
            if kept.len() < SAMPLES_PER_CLASS {
                kept.push(sample.clone());
            }
        }
    }

    /// Rows with an opt-out through any message of this run.
    pub fn unsubscribed(&self) -> RoaringBitmap {
        self.messages.values().fold(RoaringBitmap::new(), |all, m| all | &m.unsubscribed)
    }

    /// Rows that opened (or clicked) any message, machines' doing left out.
    pub fn engaged(&self, clicked: bool) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        for message in self.messages.values() {
            let sets = if clicked { &message.clicked } else { &message.opened };
            for (class, rows) in &sets.rows {
                if *class != crate::ledger::tracking::EventClass::Machine {
                    all |= rows;
                }
            }
        }
        all
    }
}
