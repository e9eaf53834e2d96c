//! Edits of a run that is under way, or finished, of every kind but a sequence: a later version of the spec is in force.
//!
//! A message is *executed* from its first claim on; whatever became of the rows, its content never changes again, so that every
//! retry of a row is the message that was claimed first. That is decided here, where claims are decided, too: of a publication
//! and a first claim one is the earlier fact, and the other sees it.
//!
//! Invariants: ED-1 a publication that changes an executed message is refused, with nothing changed; ED-2 it replaces the
//! version that it was made from, or is refused; ED-3 a graph that replaces another leaves every contact at a node that both
//! have, or takes it on from an end that leads on now; ED-4 the deliveries of a run are never fewer.

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::flow::{Graph, NodeId, NodeKind};
use crate::ids::{CampaignId, MessageId, RunId};
use crate::ledger::Violation;
use crate::ledger::campaign::Campaign;
use crate::ledger::facts::DeliveryEntered;
use crate::ledger::run::{Run, RunState};
use crate::ledger::sequence::Publication;
use crate::ledger::state::State;
use crate::limits;

/// A later version of a campaign is in force for its run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edited {
    pub campaign: CampaignId,
    pub run: RunId,
    /// The version that it was made from.
    pub from: u32,
    pub version: u32,
    /// The spec of the version, as it is stored.
    pub spec: String,
    /// Messages whose content is another.
    pub messages: Vec<MessageId>,
    /// The graph, if it is another.
    pub graph: Option<Graph>,
    /// By index, if the graph is another; those that the run has are not looked at.
    pub deliveries: Vec<DeliveryEntered>,
    /// The run was finished, and goes on.
    pub extends: bool,
    pub at: Timestamp,
}

impl Run {
    /// Whether a row was ever claimed for a message.
    pub fn has_claimed(&self, message: MessageId) -> bool {
        // What ran before first claims were remembered is known by what became of its rows.
        self.executed.contains_key(&message) || self.sends_of_message(message).any(|node| self.has_tried(node))
    }

    fn sends_of_message(&self, message: MessageId) -> impl Iterator<Item = NodeId> {
        let sends = move |kind: &NodeKind| matches!(kind, NodeKind::Send { message: of, .. } if *of == message.0);
        self.graph.nodes().filter(move |node| sends(&node.kind)).map(|node| node.id)
    }

    fn has_tried(&self, send: NodeId) -> bool {
        let Some(NodeKind::Send { delivery, .. }) = self.graph.node(send).map(|node| &node.kind) else { return false };
        let Some(delivery) = self.delivery(*delivery) else { return false };
        let own = delivery.assigned(send);
        let sets = [&delivery.claimed, &delivery.deferred, &delivery.accepted, &delivery.unknown];
        sets.into_iter().chain(delivery.rejected.values()).any(|rows| !rows.is_disjoint(own))
    }

    /// When a version was put into force last; none since the start.
    pub fn edited_at(&self) -> Option<Timestamp> {
        self.publications.last().map(|last| last.at)
    }

    pub(super) fn note_claim(&mut self, message: MessageId, at: Timestamp) {
        self.executed.entry(message).or_insert(at);
    }

    fn apply_edited(&mut self, fact: &Edited) -> Result<(), Violation> {
        let may = match self.state {
            RunState::Running | RunState::Paused => !fact.extends,
            RunState::Finished => fact.extends && fact.graph.is_some(),
            RunState::Stopping | RunState::Stopped => false,
        };
        let locked = fact.messages.iter().any(|message| self.has_claimed(*message));
        if !may || locked || self.version != fact.from || self.sequence.is_some() {
            return Err(Violation::BadEdit { run: self.id });
        }
        if let Some(graph) = &fact.graph {
            let moves = self.moves_to(graph).ok_or(Violation::BadEdit { run: self.id })?;
            self.adopt(graph, &fact.deliveries, moves)?;
        }
        self.version = fact.version;
        self.publications.push(Publication { version: fact.version, at: fact.at });
        let more = self.publications.len().saturating_sub(limits::PUBLICATIONS_KEPT_MAX);
        self.publications.drain(..more);
        if fact.extends {
            self.go_on();
        }
        Ok(())
    }

    /// Who goes on from an end because all ways to it lead to one other node now. `None` if somebody would be left at a node
    /// that the graph has not, or at an end whose ways lead apart.
    pub fn moves_to(&self, new: &Graph) -> Option<Vec<Taken>> {
        let mut moves = Vec::new();
        for (node, rows) in self.positions.iter() {
            let is_end = matches!(self.graph.node(node).map(|n| &n.kind), Some(NodeKind::End { .. }));
            if !is_end {
                new.node(node)?;
                continue;
            }
            self.on_from(node, rows, new, &mut moves)?;
        }
        Some(moves)
    }

    /// Takes on who is at an end: all by the one way that there is now, or each by the send of a delivery that it came from.
    fn on_from(&self, end: NodeId, rows: &RoaringBitmap, new: &Graph, moves: &mut Vec<Taken>) -> Option<()> {
        let mut ways: Vec<(NodeId, NodeId)> = Vec::new();
        for (from, exit, _) in self.graph.edges().filter(|(_, _, to)| *to == end) {
            let is_used = self.flow.left_by(from, exit) > 0 || self.graph.node(from).is_some_and(|n| n.kind.passes());
            if is_used {
                ways.push((from, new.target(from, exit)?));
            }
        }
        ways.sort_unstable();
        ways.dedup();
        let first = ways.first()?.1;
        if ways.iter().all(|(_, target)| *target == first) {
            if first != end {
                moves.push((end, first, rows.clone()));
            }
            return Some(());
        }
        let mut left = rows.clone();
        for (from, target) in &ways {
            let Some(NodeKind::Send { delivery, .. }) = self.graph.node(*from).map(|n| &n.kind) else { return None };
            let own = &left & self.delivery(*delivery)?.assigned(*from);
            left -= &own;
            if *target != end && !own.is_empty() {
                moves.push((end, *target, own));
            }
        }
        let apart = ways.windows(2).all(|pair| pair[0].0 != pair[1].0) && self.are_of_one_delivery(&ways);
        (apart && left.is_empty()).then_some(())
    }

    fn are_of_one_delivery(&self, ways: &[(NodeId, NodeId)]) -> bool {
        let mut of = ways.iter().map(|(from, _)| match self.graph.node(*from).map(|n| &n.kind) {
            Some(NodeKind::Send { delivery, .. }) => Some(*delivery),
            _ => None,
        });
        let first = of.next().flatten();
        first.is_some() && of.all(|delivery| delivery == first)
    }
}

/// Rows that go from a node to another.
pub type Taken = (NodeId, NodeId, RoaringBitmap);

impl State {
    pub(super) fn apply_edited(&mut self, fact: &Edited) -> Result<(), Violation> {
        let newest = self.campaigns.get(&fact.campaign).and_then(Campaign::newest).map(|(version, _)| version);
        let newest = newest.ok_or(Violation::NoCampaign { campaign: fact.campaign })?;
        let run = self.runs.get_mut(&fact.run).filter(|run| run.campaign == fact.campaign);
        let run = run.ok_or(Violation::NoRun { run: fact.run })?;
        if newest + 1 != fact.version {
            return Err(Violation::BadEdit { run: fact.run });
        }
        run.apply_edited(fact)?;
        // Launches that were to be as the run was are as it is now.
        if let Some(plan) = self.plans.get_mut(&fact.campaign).filter(|plan| plan.version == fact.from) {
            plan.version = fact.version;
            plan.draft = None;
        }
        let mut used: Vec<u32> =
            self.runs.values().filter(|r| r.campaign == fact.campaign).map(|r| r.version).collect();
        // Who has just read the run's version still finds it, until the next publication.
        used.push(fact.from);
        used.extend(self.plans.get(&fact.campaign).filter(|plan| plan.is_open()).map(|plan| plan.version));
        if let Some(campaign) = self.campaigns.get_mut(&fact.campaign) {
            campaign.versions.retain(|version, _| used.contains(version));
            campaign.put(fact.version, &fact.spec);
            campaign.saved_at = fact.at;
        }
        if let Some(memory) = self.sequences.get_mut(&fact.campaign) {
            memory.copy = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use roaring::RoaringBitmap;

    use super::*;
    use crate::campaigns::{Format, compile, parse};
    use crate::ids::{BatchId, Channel, DeliveryId};
    use crate::ledger::batch::BootId;
    use crate::ledger::facts::{Claimed, Returned, RunStarted};
    use crate::ledger::{Fact, Mode, Positions, RowSet, snapshot};

    const SPEC: &str = "name = \"a\"\n[audience]\nall = true\n[message]\nchannel = \"email\"\nconnector = \"r\"\n\
                        topic = \"t\"\nsubject = \"S\"\n[follow_up]\nafter = \"1h\"\n";
    const CAMPAIGN: CampaignId = CampaignId(1);
    const RUN: RunId = RunId(1);
    const FIRST: DeliveryId = DeliveryId { run: RUN, index: 0 };

    fn apply(state: &mut State, fact: &Fact) -> Result<(), Violation> {
        let again = Fact::decode(&fact.encode().expect("encodes")).expect("decodes");
        assert_eq!(again, *fact, "as it was written");
        state.apply(fact, BootId::default())
    }

    fn state() -> State {
        let compiled = compile(&parse(SPEC, Format::Toml).expect("a spec")).expect("compiles");
        let mut state = State::default();
        apply(&mut state, &Fact::CampaignSaved { campaign: CAMPAIGN, spec: "{1}".into(), at: Timestamp(0) })
            .expect("saved");
        let deliveries = compiled.deliveries.iter().map(|plan| DeliveryEntered {
            channel: Channel::Email,
            topic: "t".to_owned(),
            connector: "r".to_owned(),
            mode: Mode::Strict,
            audience: RowSet::base(if plan.on_arrival { RoaringBitmap::new() } else { (0..10).collect() }),
            skipped: Vec::new(),
            summary: None,
        });
        let started = RunStarted {
            run: RUN,
            campaign: CAMPAIGN,
            version: 1,
            graph: compiled.graph.clone(),
            deliveries: deliveries.collect(),
            at: Timestamp(0),
            entrants: RowSet::default(),
        };
        apply(&mut state, &Fact::RunStarted(Box::new(started))).expect("started");
        state
    }

    fn edited(from: u32, message: u16) -> Fact {
        Fact::Edited(Box::new(Edited {
            campaign: CAMPAIGN,
            run: RUN,
            from,
            version: from + 1,
            spec: format!("{{{}}}", from + 1),
            messages: vec![MessageId(message)],
            graph: None,
            deliveries: Vec::new(),
            extends: false,
            at: Timestamp(5),
        }))
    }

    fn claimed() -> Fact {
        Fact::Claimed(Claimed {
            batch: BatchId(1),
            delivery: FIRST,
            connector: "r".to_owned(),
            message: MessageId(0),
            rows: (0..4).collect(),
            positions: Positions::from_sorted(0..4),
            at: Timestamp(3),
            domain: None,
        })
    }

    #[test]
    fn of_an_edit_and_a_first_claim_the_earlier_wins() {
        let mut state = state();
        apply(&mut state, &edited(1, 0)).expect("nobody was sent it");
        assert_eq!(state.runs[&RUN].version, 2, "in force");
        assert_eq!(state.campaigns[&CAMPAIGN].newest(), Some((2, "{2}")), "and saved");
        apply(&mut state, &claimed()).expect("claimed");
        let before = snapshot::encode(&state).expect("bytes");
        assert_eq!(apply(&mut state, &edited(2, 0)), Err(Violation::BadEdit { run: RUN }), "executed");
        assert_eq!(apply(&mut state, &edited(1, 1)), Err(Violation::BadEdit { run: RUN }), "of another version");
        assert!(snapshot::encode(&state).expect("bytes") == before, "a refusal changes nothing");
        apply(&mut state, &edited(2, 1)).expect("the follow-up is unreached");
        let kept: Vec<u32> = state.campaigns[&CAMPAIGN].versions.keys().copied().collect();
        assert_eq!(kept, [2, 3], "the one before stays for who has just read its number; older ones are of no run");
        let read = snapshot::decode(&snapshot::encode(&state).expect("bytes")).expect("reads");
        assert_eq!(read, state, "a snapshot has all of it");
    }

    #[test]
    fn a_message_whose_claims_all_came_back_stays_executed() {
        let mut state = state();
        apply(&mut state, &claimed()).expect("claimed");
        let rows = (0..4).collect();
        let back = Fact::Returned(Returned { batch: BatchId(1), delivery: FIRST, rows, at: Timestamp(4) });
        apply(&mut state, &back).expect("returned");
        assert!(state.runs[&RUN].has_claimed(MessageId(0)), "it may have been rendered");
        assert_eq!(apply(&mut state, &edited(1, 0)), Err(Violation::BadEdit { run: RUN }), "locked");
    }

    #[test]
    fn a_finished_run_goes_on_only_by_an_extension_with_a_graph() {
        let mut state = state();
        let stopped = |to| Fact::RunMoved { run: RUN, to, reason: String::new(), at: Timestamp(6) };
        apply(&mut state, &stopped(RunState::Finished)).expect("finished");
        assert_eq!(apply(&mut state, &edited(1, 1)), Err(Violation::BadEdit { run: RUN }), "no edit");
        let Fact::Edited(mut fact) = edited(1, 1) else { panic!("an edit") };
        fact.extends = true;
        assert!(apply(&mut state, &Fact::Edited(fact.clone())).is_err(), "nobody would go on");
        fact.graph = Some(state.runs[&RUN].graph.clone());
        apply(&mut state, &Fact::Edited(fact)).expect("extended");
        assert_eq!(state.runs[&RUN].state, RunState::Running, "it runs again");
    }
}
