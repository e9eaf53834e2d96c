//! One execution of a campaign: its deliveries, what came back, and where it stands.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::flow::{self, Exit, Graph, NodeId, NodeKind};
use crate::ids::{CampaignId, Channel, DeliveryId, MessageId, RunId};
use crate::ledger::Violation;
use crate::ledger::delivery::{Counts, Delivery};
use crate::ledger::facts::{DeliveryEntered, RunStarted, Sample};
use crate::ledger::tracking::MessageTracking;
use crate::limits::SAMPLES_PER_CLASS;
use crate::segments::audience::AudienceSummary;

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
    /// The audience as it was counted at the start.
    #[serde(default)]
    pub audience: Option<AudienceSummary>,
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
    /// Where the contacts of the run are; each at exactly one node.
    pub positions: flow::Positions,
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
            let DeliveryEntered { channel, topic, connector, mode, audience, skipped, summary } = entered;
            deliveries.push(Delivery::enter(id, audience.space, *mode, audience.rows.clone(), skipped)?);
            routes.push(Route {
                channel: *channel,
                topic: topic.clone(),
                connector: connector.clone(),
                audience: summary.clone(),
            });
        }
        let mut positions = flow::Positions::default();
        let mut run_rows = RoaringBitmap::new();
        for delivery in &deliveries {
            run_rows |= &delivery.audience;
        }
        flow::enter(&fact.graph, &mut positions, &run_rows).map_err(|_| Violation::BadFlow { run: fact.run })?;
        let mut run = Run {
            id: fact.run,
            campaign: fact.campaign,
            version: fact.version,
            state: RunState::Running,
            reason: String::new(),
            graph: fact.graph.clone(),
            positions,
            deliveries,
            routes,
            messages: BTreeMap::new(),
            samples: BTreeMap::new(),
            started_at: fact.at,
            ended_at: None,
        };
        for index in 0..run.deliveries.len() {
            let skipped = run.deliveries[index].skipped.values().fold(RoaringBitmap::new(), |all, rows| all | rows);
            run.leave_sends(index, &skipped)?;
        }
        Ok(run)
    }

    /// Rows whose outcome is final leave the send that they stand at, whatever the outcome is. Rows that the flow has
    /// taken on before (an operator settled them) stay where they are.
    pub fn leave_sends(&mut self, delivery: usize, rows: &RoaringBitmap) -> Result<(), Violation> {
        let sends_of =
            |kind: &NodeKind| matches!(kind, NodeKind::Send { delivery: d, .. } if usize::from(*d) == delivery);
        let sends: Vec<NodeId> = self.graph.nodes().filter(|n| sends_of(&n.kind)).map(|n| n.id).collect();
        for node in sends {
            let Some(here) = self.positions.at(node) else { continue };
            let leaving = here & rows;
            let moved = flow::advance(&self.graph, &mut self.positions, node, &Exit::NEXT, &leaving);
            moved.map_err(|_| Violation::BadFlow { run: self.id })?;
        }
        Ok(())
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
