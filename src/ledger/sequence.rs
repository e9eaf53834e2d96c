//! What a run of a sequence remembers besides its flow: publications, steps that have started, who entered by which request.
//!
//! Invariants: SQ-1 a step starts once, and its working copy is closed by the same fact; SQ-2 a publication replaces the
//! graph and leaves every contact at a node that both graphs have, or takes it on from an end or a gate that the new one has not;
//! SQ-3 a contact enters once; a step is released once, before it starts; SQ-4 the deliveries of a run are never fewer, and one that somebody has entered never changes.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::campaigns::languages;
use crate::clock::Timestamp;
use crate::flow::{self, Exit, Graph, NodeId, NodeKind};
use crate::ids::{CampaignId, RunId};
use crate::ledger::Violation;
use crate::ledger::delivery::Delivery;
use crate::ledger::facts::{DeliveryEntered, RunStarted};
use crate::ledger::flowing::Moved;
use crate::ledger::rows::RowSet;
use crate::ledger::run::{Route, Run, RunState};
use crate::ledger::state::State;
use crate::limits;

/// A version of a sequence is in force: the first one makes its run, a later one replaces the graph of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SequencePublished {
    pub campaign: CampaignId,
    pub run: RunId,
    pub version: u32,
    /// The spec of the version, as it is stored.
    pub spec: String,
    pub graph: Graph,
    /// By index; those in which somebody is already are not looked at.
    pub deliveries: Vec<DeliveryEntered>,
    /// Contacts come by requests.
    pub by_request: bool,
    pub at: Timestamp,
}

/// A step has started: its gate is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepStarted {
    pub run: RunId,
    /// The gate.
    pub node: NodeId,
    /// For people.
    pub step: String,
    pub at: Timestamp,
}

/// A person decided about a step whose hour had passed by more than its limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReleased {
    pub run: RunId,
    /// The gate.
    pub node: NodeId,
    /// It does nothing to the contacts that come to it; otherwise it starts.
    pub skip: bool,
    pub at: Timestamp,
}

/// A working copy was opened, or its text replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopySaved {
    pub campaign: CampaignId,
    pub spec: String,
    /// A new copy: what was in another one is forgotten.
    pub opens: bool,
    /// The run was finished: the copy adds steps behind its ends.
    pub extends: bool,
    pub at: Timestamp,
}

/// Contacts came into a run: its cohort, or those of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entered {
    pub run: RunId,
    /// The version by which they enter: a cohort that was looked for by an older one is looked for again.
    pub version: u32,
    pub rows: RowSet,
    /// Name of the request, and a digest of the contacts that it names; none for the cohort.
    pub request: Option<(String, u64)>,
    /// Contacts that the request named and who were in the run already.
    pub already: u64,
    pub at: Timestamp,
}

/// How long the start of a sequence took when it was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartTested {
    pub campaign: CampaignId,
    pub contacts: u64,
    pub milliseconds: u64,
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkingCopy {
    /// As it is stored.
    pub spec: String,
    pub opened_at: Timestamp,
    pub saved_at: Timestamp,
    pub extends: bool,
    /// The step whose start closed it, and when.
    pub closed_by: Option<(String, Timestamp)>,
}

/// What a campaign has besides its versions and runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceMemory {
    pub copy: Option<WorkingCopy>,
    pub tested: Option<StartTested>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    pub version: u32,
    pub at: Timestamp,
}

/// What a request brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestDone {
    pub digest: u64,
    pub entered: u64,
    pub already: u64,
    pub at: Timestamp,
}

/// What a run of a sequence has besides its flow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SequenceRun {
    pub by_request: bool,
    pub publications: Vec<Publication>,
    /// When the cohort was fixed.
    pub cohort_at: Option<Timestamp>,
    /// Gates that are open, and since when.
    pub started: BTreeMap<NodeId, Timestamp>,
    /// By send (of the default language): who came after its step had started, and is skipped for it.
    pub late: BTreeMap<NodeId, RoaringBitmap>,
    pub requests: BTreeMap<String, RequestDone>,
    /// Gates that open although their hour has passed by more than their limit, because a person said so.
    #[serde(default)]
    pub released: BTreeMap<NodeId, Timestamp>,
    /// Of those, gates of steps that do nothing.
    #[serde(default)]
    pub skipped: BTreeSet<NodeId>,
}

impl SequenceRun {
    pub fn published_at(&self) -> Timestamp {
        self.publications.last().map_or(Timestamp(0), |last| last.at)
    }
}

impl Run {
    /// The gates that contacts come to first: those with no gate before them.
    pub fn first_gates(&self) -> Vec<NodeId> {
        let is_gate = |id: &NodeId| matches!(self.graph.node(*id).map(|n| &n.kind), Some(NodeKind::Step(_)));
        let gates = self.graph.nodes().map(|n| n.id).filter(is_gate);
        gates.filter(|gate| !self.graph.upstream(*gate).iter().any(is_gate)).collect()
    }

    /// When the first dated step starts; `None` if none is dated.
    pub fn first_start(&self) -> Option<Timestamp> {
        let gates = self.first_gates().into_iter();
        let starts = gates.filter_map(|gate| match self.graph.node(gate).map(|n| &n.kind) {
            Some(NodeKind::Step(step)) => Some(Timestamp(step.effective)),
            _ => None,
        });
        starts.min()
    }

    /// Whether contacts may still come in from outside: the cohort is not fixed, or requests are taken.
    pub fn expects_contacts(&self) -> bool {
        let Some(sequence) = &self.sequence else { return false };
        if sequence.by_request { sequence.started.is_empty() } else { sequence.cohort_at.is_none() }
    }

    /// Published, and its first step has not started yet.
    pub fn is_scheduled(&self) -> bool {
        let waits = self.sequence.as_ref().is_some_and(|s| !s.by_request && s.cohort_at.is_none());
        waits && self.state == RunState::Running
    }

    fn refused(&self) -> Violation {
        Violation::BadFlow { run: self.id }
    }

    pub(super) fn apply_published(&mut self, fact: &SequencePublished) -> Result<(), Violation> {
        let moves = self.taken_on(&fact.graph)?;
        self.adopt(&fact.graph, &fact.deliveries, moves)?;
        self.version = fact.version;
        self.remember_publication(fact);
        self.go_on();
        Ok(())
    }

    /// Replaces the graph, adds the deliveries that the run has not, and takes contacts on from where they cannot stay.
    pub(super) fn adopt(
        &mut self,
        graph: &Graph,
        deliveries: &[DeliveryEntered],
        moves: Vec<(NodeId, NodeId, RoaringBitmap)>,
    ) -> Result<(), Violation> {
        for (index, entered) in deliveries.iter().enumerate() {
            let route = Route {
                channel: entered.channel,
                topic: entered.topic.clone(),
                connector: entered.connector.clone(),
                audience: entered.summary.clone(),
            };
            match (self.deliveries.get_mut(index), self.routes.get_mut(index)) {
                (Some(delivery), Some(kept)) if delivery.audience.is_empty() => {
                    delivery.mode = entered.mode;
                    *kept = route;
                }
                (Some(_), Some(_)) => {}
                _ => {
                    let index = u16::try_from(index).unwrap_or(u16::MAX);
                    let id = crate::ids::DeliveryId { run: self.id, index };
                    let space = entered.audience.space;
                    self.deliveries.push(Delivery::enter(id, space, entered.mode, RoaringBitmap::new(), &[])?);
                    self.routes.push(route);
                }
            }
        }
        self.graph = graph.clone();
        for (from, to, rows) in moves {
            let hops = flow::step::relocate(&self.graph, &mut self.positions, from, to, &rows);
            let hops = hops.map_err(|_| Violation::BadFlow { run: self.id })?;
            self.arrived(hops)?;
        }
        Ok(())
    }

    /// A finished run that was extended runs again.
    pub(super) fn go_on(&mut self) {
        if self.state == RunState::Finished {
            self.state = RunState::Running;
            "extended".clone_into(&mut self.reason);
            self.ended_at = None;
        }
    }

    fn remember_publication(&mut self, fact: &SequencePublished) {
        let sequence = self.sequence.get_or_insert_default();
        sequence.by_request = fact.by_request;
        sequence.publications.push(Publication { version: fact.version, at: fact.at });
        let more = sequence.publications.len().saturating_sub(limits::PUBLICATIONS_KEPT_MAX);
        sequence.publications.drain(..more);
    }

    /// Who must go on from an end that leads somewhere in the new graph, or from the gate of a step that has no date any more.
    /// Refused if somebody is at another node that it has not.
    fn taken_on(&self, new: &Graph) -> Result<Vec<(NodeId, NodeId, RoaringBitmap)>, Violation> {
        let mut moves = Vec::new();
        for (node, rows) in self.positions.iter() {
            let is_end = matches!(self.graph.node(node).map(|n| &n.kind), Some(NodeKind::End { .. }));
            if !is_end {
                if new.node(node).is_none() {
                    moves.push((node, self.behind_cleared(node, new)?, rows.clone()));
                }
                continue;
            }
            let into = self.graph.edges().find(|(_, _, to)| *to == node);
            let (from, exit, _) = into.ok_or_else(|| self.refused())?;
            let target = new.target(from, exit).ok_or_else(|| self.refused())?;
            if target != node {
                moves.push((node, target, rows.clone()));
            }
        }
        Ok(moves)
    }

    /// What a step does whose date was cleared while contacts waited for it: they go on to it, as its requests do.
    fn behind_cleared(&self, gate: NodeId, new: &Graph) -> Result<NodeId, Violation> {
        let is_gate = matches!(self.graph.node(gate).map(|n| &n.kind), Some(NodeKind::Step(_)));
        let action = self.graph.target(gate, &Exit::NEXT).filter(|_| is_gate);
        let action = self.graph.send_of_all(action.ok_or_else(|| self.refused())?);
        // In several languages they are sorted first, whether they were by the version before or not.
        let entries = [languages::sort_of(action), action];
        entries.into_iter().find(|entry| new.node(*entry).is_some()).ok_or_else(|| self.refused())
    }

    pub(super) fn apply_entered(&mut self, fact: &Entered) -> Result<(), Violation> {
        let stale = fact.request.is_none() && (fact.version != self.version || !self.expects_contacts());
        if self.sequence.is_none() || stale {
            return Err(self.refused());
        }
        let hops = flow::enter(&self.graph, &mut self.positions, &fact.rows.rows).map_err(|_| self.refused())?;
        self.arrived(hops)?;
        if let Some(sequence) = &mut self.sequence {
            match &fact.request {
                None => sequence.cohort_at = Some(fact.at),
                Some((name, digest)) => {
                    let done = RequestDone {
                        digest: *digest,
                        entered: fact.rows.rows.len(),
                        already: fact.already,
                        at: fact.at,
                    };
                    sequence.requests.insert(name.clone(), done);
                    if sequence.requests.len() > limits::ENTER_REQUESTS_KEPT_MAX {
                        let oldest = sequence.requests.iter().min_by_key(|(_, done)| done.at);
                        if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                            sequence.requests.remove(&oldest);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn apply_step_started(&mut self, fact: &StepStarted) -> Result<(), Violation> {
        // A publication may have moved the start while it was about to be recorded.
        let is_due = match self.graph.node(fact.node).map(|n| &n.kind) {
            Some(NodeKind::Step(gate)) => gate.effective <= fact.at.0,
            _ => false,
        };
        let refused = self.refused();
        match &mut self.sequence {
            Some(sequence) if is_due && !sequence.started.contains_key(&fact.node) => {
                sequence.started.insert(fact.node, fact.at);
                Ok(())
            }
            _ => Err(refused),
        }
    }

    pub(super) fn apply_step_released(&mut self, fact: &StepReleased) -> Result<(), Violation> {
        let refused = self.refused();
        let is_gate = matches!(self.graph.node(fact.node).map(|n| &n.kind), Some(NodeKind::Step(_)));
        let Some(sequence) = self.sequence.as_mut().filter(|_| is_gate) else { return Err(refused) };
        if sequence.started.contains_key(&fact.node) || sequence.released.contains_key(&fact.node) {
            return Err(refused);
        }
        sequence.released.insert(fact.node, fact.at);
        if fact.skip {
            sequence.skipped.insert(fact.node);
        }
        Ok(())
    }

    /// Takes note of who leaves an open gate after the others, if the step skips those.
    pub(super) fn note_late(&mut self, fact: &Moved) {
        let Some(NodeKind::Step(gate)) = self.graph.node(fact.node).map(|n| &n.kind) else { return };
        let first = self.flow.left_by(fact.node, &Exit::NEXT) == 0;
        let target = self.graph.target(fact.node, &Exit::NEXT).map(|behind| self.graph.send_of_all(behind));
        let (Some(sequence), Some(send), false, true) = (&mut self.sequence, target, first, gate.skips_late) else {
            return;
        };
        for (_, rows) in &fact.exits {
            *sequence.late.entry(send).or_default() |= rows;
        }
    }
}

impl State {
    pub(super) fn apply_sequence_published(&mut self, fact: &SequencePublished) -> Result<(), Violation> {
        if !self.campaigns.contains_key(&fact.campaign) {
            return Err(Violation::NoCampaign { campaign: fact.campaign });
        }
        match self.runs.get_mut(&fact.run) {
            Some(run) => run.apply_published(fact)?,
            None => {
                let SequencePublished { run, campaign, version, graph, deliveries, at, .. } = fact.clone();
                let entrants = RowSet::default();
                let mut made = Run::start(&RunStarted { run, campaign, version, graph, deliveries, at, entrants })?;
                made.remember_publication(fact);
                self.next_run = self.next_run.max(run.0 + 1);
                self.runs.insert(run, made);
            }
        }
        let used: Vec<u32> = self.runs.values().filter(|r| r.campaign == fact.campaign).map(|r| r.version).collect();
        if let Some(campaign) = self.campaigns.get_mut(&fact.campaign) {
            campaign.put(fact.version, &fact.spec);
            campaign.versions.retain(|version, _| used.contains(version));
            campaign.saved_at = fact.at;
        }
        if let Some(memory) = self.sequences.get_mut(&fact.campaign) {
            memory.copy = None;
        }
        Ok(())
    }

    pub(super) fn apply_step_started(&mut self, fact: &StepStarted) -> Result<(), Violation> {
        let run = self.runs.get_mut(&fact.run).ok_or(Violation::NoRun { run: fact.run })?;
        run.apply_step_started(fact)?;
        let campaign = run.campaign;
        let copy = self.sequences.get_mut(&campaign).and_then(|memory| memory.copy.as_mut());
        if let Some(copy) = copy.filter(|copy| copy.closed_by.is_none()) {
            copy.closed_by = Some((fact.step.clone(), fact.at));
        }
        Ok(())
    }

    pub(super) fn apply_step_released(&mut self, fact: &StepReleased) -> Result<(), Violation> {
        let run = self.runs.get_mut(&fact.run).ok_or(Violation::NoRun { run: fact.run })?;
        run.apply_step_released(fact)
    }

    pub(super) fn apply_copy_saved(&mut self, fact: &CopySaved) {
        let memory = self.sequences.entry(fact.campaign).or_default();
        match &mut memory.copy {
            Some(copy) if !fact.opens => {
                copy.spec.clone_from(&fact.spec);
                copy.saved_at = fact.at;
            }
            copy => {
                *copy = Some(WorkingCopy {
                    spec: fact.spec.clone(),
                    opened_at: fact.at,
                    saved_at: fact.at,
                    extends: fact.extends,
                    closed_by: None,
                });
            }
        }
    }

    pub(super) fn apply_start_tested(&mut self, fact: &StartTested) {
        self.sequences.entry(fact.campaign).or_default().tested = Some(*fact);
    }
}
