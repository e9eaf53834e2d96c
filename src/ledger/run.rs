//! One execution of a campaign: its deliveries, what came back, and where it stands.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::flow::nodes::{Condition, Test, condition};
use crate::flow::{self, Exit, Graph, Move, NodeId, NodeKind};
use crate::ids::{CampaignId, Channel, DeliveryId, MessageId, RunId};
use crate::ledger::Violation;
use crate::ledger::delivery::{Counts, Delivery};
use crate::ledger::details::{Compared, Removed};
use crate::ledger::engagement::people;
use crate::ledger::events::{Feedback, RunGuard};
use crate::ledger::facts::{DeliveryEntered, RunStarted, Sample};
use crate::ledger::flowing::{Decided, FlowMemory, Joined, Looked, Moved, Scheduled, Shared};
use crate::ledger::pauses::Pauses;
use crate::ledger::plans::RunLaunch;
use crate::ledger::sequence::{Publication, SequenceRun};
use crate::ledger::timeline::Timeline;
use crate::ledger::tracking::MessageTracking;
use crate::ledger::watch::Watch;
use crate::limits::{SAMPLES_PER_CLASS, TEST_LOOKS_KEPT};
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
    #[serde(default)]
    pub flow: FlowMemory,
    /// Of a sequence only.
    #[serde(default)]
    pub sequence: Option<Box<SequenceRun>>,
    /// What happened when.
    #[serde(default)]
    pub timeline: Timeline,
    /// What came back, by send.
    #[serde(default)]
    pub feedback: BTreeMap<NodeId, Feedback>,
    #[serde(default)]
    pub guard: RunGuard,
    /// The launch of a schedule that began it.
    #[serde(default)]
    pub launch: Option<RunLaunch>,
    /// It was taken from a backup, and contacts of it may have been sent to since: it does not end before a person has looked.
    #[serde(default)]
    pub doubted: bool,
    /// Its details were removed: its sets are of nobody's rows.
    #[serde(default)]
    pub removed: Option<Removed>,
    #[serde(default)]
    pub pauses: Pauses,
    /// What its control group had done beside the others when its details were removed.
    #[serde(default)]
    pub compared_then: Vec<Compared>,
    /// When the first row was claimed for a message: its content is locked from then on.
    #[serde(default)]
    pub executed: BTreeMap<MessageId, Timestamp>,
    /// Versions that were put into force while it was under way, or after its end; the newest ones.
    #[serde(default)]
    pub publications: Vec<Publication>,
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
        let mut run_rows = fact.entrants.rows.clone();
        for delivery in &mut deliveries {
            delivery.hold_all();
            run_rows |= &delivery.pending;
        }
        let mut run = Run {
            id: fact.run,
            campaign: fact.campaign,
            version: fact.version,
            state: RunState::Running,
            reason: String::new(),
            graph: fact.graph.clone(),
            positions: flow::Positions::default(),
            deliveries,
            routes,
            messages: BTreeMap::new(),
            samples: BTreeMap::new(),
            started_at: fact.at,
            ended_at: None,
            flow: FlowMemory::default(),
            sequence: None,
            timeline: Timeline::default(),
            feedback: BTreeMap::new(),
            guard: RunGuard::default(),
            launch: None,
            doubted: false,
            removed: None,
            pauses: Pauses::default(),
            compared_then: Vec::new(),
            executed: BTreeMap::new(),
            publications: Vec::new(),
        };
        // Who is not eligible never walks: only a row that can get a message is anywhere in the flow.
        let hops = flow::enter(&run.graph, &mut run.positions, &run_rows);
        let hops = hops.map_err(|_| Violation::BadFlow { run: fact.run })?;
        run.arrived(hops)?;
        Ok(run)
    }

    /// Takes note of hops that were made: rows that came to a send may be claimed, and those that are final already go on.
    pub(super) fn arrived(&mut self, hops: Vec<Move>) -> Result<(), Violation> {
        for hop in hops {
            *self.flow.arrived.entry(hop.to).or_default() += hop.rows.len();
            let Some(NodeKind::Send { delivery, .. }) = self.graph.node(hop.to).map(|node| &node.kind) else {
                continue;
            };
            let (index, alone) = (usize::from(*delivery), self.graph.sends_of(*delivery).nth(1).is_none());
            let Some(delivery) = self.deliveries.get_mut(index) else {
                return Err(Violation::BadFlow { run: self.id });
            };
            let leaving = delivery.arrive(hop.to, &hop.rows, alone);
            self.leave_sends(index, &leaving)?;
        }
        Ok(())
    }

    /// Rows whose outcome is final leave the send that they stand at, whatever the outcome is. Rows that the flow has
    /// taken on before (an operator settled them) stay where they are.
    pub fn leave_sends(&mut self, delivery: usize, rows: &RoaringBitmap) -> Result<(), Violation> {
        if rows.is_empty() {
            return Ok(());
        }
        let send_of = |kind: &NodeKind| match kind {
            NodeKind::Send { delivery: d, parts_undelivered, .. } if usize::from(*d) == delivery => {
                Some(*parts_undelivered)
            }
            _ => None,
        };
        let sends: Vec<(NodeId, bool)> =
            self.graph.nodes().filter_map(|n| send_of(&n.kind).map(|parts| (n.id, parts))).collect();
        for (node, parts) in sends {
            let Some(here) = self.positions.at(node) else { continue };
            let mut leaving = here & rows;
            if leaving.is_empty() {
                continue;
            }
            if parts && let Some(delivery) = self.deliveries.get(delivery) {
                let undelivered = &leaving - &delivery.accepted;
                leaving -= &undelivered;
                self.hop(node, &Exit::UNDELIVERED, &undelivered)?;
            }
            self.hop(node, &Exit::NEXT, &leaving)?;
        }
        Ok(())
    }

    fn hop(&mut self, node: NodeId, exit: &Exit, rows: &RoaringBitmap) -> Result<(), Violation> {
        if rows.is_empty() {
            return Ok(());
        }
        let hops = flow::advance(&self.graph, &mut self.positions, node, exit, rows);
        let hops = hops.map_err(|_| Violation::BadFlow { run: self.id })?;
        self.flow.leave(node, exit, rows);
        self.arrived(hops)
    }

    /// Rows leave a node by its exits. Nothing has changed if it is refused.
    pub fn apply_moved(&mut self, fact: &Moved) -> Result<(), Violation> {
        let refused = Violation::BadFlow { run: self.id };
        let none = RoaringBitmap::new();
        let here = self.positions.at(fact.node).unwrap_or(&none);
        let mut all = RoaringBitmap::new();
        for (exit, rows) in &fact.exits {
            let twice = !all.is_disjoint(rows);
            if twice || !rows.is_subset(here) || self.graph.target(fact.node, exit).is_none() {
                return Err(refused);
            }
            all |= rows;
        }
        if let Some(NodeKind::AbTest(test)) = self.graph.node(fact.node).map(|n| &n.kind) {
            let memory = self.flow.tests.entry(fact.node).or_default();
            if memory.cut_at.is_none() {
                memory.cut_at = Some(fact.at);
                memory.paused_before_ms = self.pauses.total_ms(fact.at);
                memory.watch = Some(Watch::new(&self.graph, fact.node, test, fact.at));
            }
        }
        if let Some(NodeKind::Condition(Condition { test: Test::Unique(_) })) =
            self.graph.node(fact.node).map(|n| &n.kind)
        {
            let kept = self.flow.kept.entry(fact.node).or_default();
            for (_, rows) in fact.exits.iter().filter(|(exit, _)| *exit == condition::TRUE) {
                *kept |= rows;
            }
        }
        self.note_late(fact);
        for (exit, rows) in &fact.exits {
            self.hop(fact.node, exit, rows)?;
        }
        Ok(())
    }

    /// The assignment is what was journaled; the stream goes on behind it.
    pub fn apply_shared(&mut self, fact: &Shared) -> Result<(), Violation> {
        self.apply_moved(&fact.moved)?;
        self.flow.streams.insert(fact.moved.node, fact.stream.clone());
        Ok(())
    }

    pub fn apply_scheduled(&mut self, fact: &Scheduled) -> Result<(), Violation> {
        let none = RoaringBitmap::new();
        let here = self.positions.at(fact.node).unwrap_or(&none);
        // Who is due may get another time: a moment was missed, and the next one is waited for.
        let mut all = self.flow.scheduled(fact.node) - self.flow.due(fact.node, fact.at);
        for (_, rows) in &fact.due {
            if !all.is_disjoint(rows) || !rows.is_subset(here) {
                return Err(Violation::BadFlow { run: self.id });
            }
            all |= rows;
        }
        self.flow.schedule(fact);
        Ok(())
    }

    pub fn apply_joined(&mut self, fact: &Joined) -> Result<(), Violation> {
        let index = fact.delivery.index;
        let alone = self.graph.sends_of(index).nth(1).is_none();
        let there = self.positions.at(fact.node).is_some_and(|here| fact.rows.rows.is_subset(here));
        let place = usize::from(index);
        let Some(delivery) = self.deliveries.get_mut(place).filter(|_| there || fact.rows.rows.is_empty()) else {
            return Err(Violation::BadFlow { run: self.id });
        };
        let leaving = delivery.join(fact.node, &fact.rows.rows, &fact.skipped, alone)?;
        self.leave_sends(place, &leaving)
    }

    pub fn apply_looked(&mut self, fact: &Looked) -> Result<(), Violation> {
        let test = self.flow.tests.entry(fact.node).or_default();
        if test.decided.is_some() || test.looks.iter().any(|look| look.look >= fact.look) {
            return Err(Violation::BadFlow { run: self.id });
        }
        test.looks.push(fact.clone());
        if test.looks.len() > TEST_LOOKS_KEPT {
            test.looks.remove(0);
        }
        Ok(())
    }

    pub fn apply_decided(&mut self, fact: &Decided) -> Result<(), Violation> {
        let known = match self.graph.node(fact.node).map(|n| &n.kind) {
            Some(NodeKind::AbTest(test)) => fact.winner.as_ref().is_none_or(|exit| test.arm(exit).is_some()),
            _ => false,
        };
        let moved = self.flow.tests.get(&fact.node).map(|test| self.moved_by_pauses(test, fact.at));
        let test = self.flow.tests.entry(fact.node).or_default();
        if !known || test.decided.is_some() {
            return Err(Violation::BadFlow { run: self.id });
        }
        test.moved_ms = moved;
        test.decided = Some(fact.clone());
        Ok(())
    }

    /// Channel, topic and connector under which a message of this run goes out.
    pub fn route_of(&self, message: MessageId) -> Option<&Route> {
        let sends = |kind: &NodeKind| match kind {
            NodeKind::Send { delivery, message: sent, .. } if *sent == message.0 => Some(*delivery),
            _ => None,
        };
        let delivery = self.graph.nodes().find_map(|node| sends(&node.kind))?;
        self.routes.get(usize::from(delivery))
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

    /// Every delivery is finished, no row of the run can still arrive at one, and no test is to be looked at again.
    pub fn is_finished(&self) -> bool {
        self.has_sent_all() && !self.flow.tests.keys().any(|node| self.is_tested(*node))
    }

    /// Every delivery is finished, and no row of the run can still arrive at one.
    pub fn has_sent_all(&self) -> bool {
        let over = self.deliveries.iter().all(Delivery::is_finished) && self.positions.all_ended(&self.graph);
        over && !self.expects_contacts()
    }

    /// Whether a test is still to be looked at. That of one set ends with its last look or its decision, also where nobody
    /// waits for the winner because everybody was in the sample; that of a stream with a look at everybody who came.
    fn is_tested(&self, node: NodeId) -> bool {
        let Some(NodeKind::AbTest(test)) = self.graph.node(node).map(|n| &n.kind) else { return false };
        self.flow.tests.get(&node).is_some_and(|memory| {
            let over = || match test.continuing() {
                true => memory.unseen_until().is_none(),
                false => memory.looks.last().is_some_and(|look| test.is_deadline(look.look)),
            };
            memory.cut_at.is_some() && memory.decided.is_none() && !over()
        })
    }

    /// A finished run that has pending rows again runs again: in the same fact, or a crash could leave them for ever.
    pub fn reopen(&mut self) {
        if self.state == RunState::Finished {
            self.state = RunState::Running;
            "unknown contacts are sent again".clone_into(&mut self.reason);
            self.ended_at = None;
        }
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

    /// Rows of people who opened (or clicked) any message: see [`people`].
    pub fn engaged(&self, clicked: bool) -> RoaringBitmap {
        let each = self.messages.values().map(|message| if clicked { &message.clicked } else { &message.opened });
        each.fold(RoaringBitmap::new(), |all, sets| all | people(sets))
    }
}
