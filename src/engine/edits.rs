//! Editing what runs, and extending what is finished, of every kind but sequences: the working copy comes into force.
//!
//! The words are those of sequences, and so are working copies and the way by which the run's actor hears of a version.
//! Whether a message is executed is asked under the book's lock, with the fact that puts the version into force; a claim is
//! made of the version in force, or not at all (`actors::campaign::claiming`). So of a publication and a first claim one is
//! the earlier, and every contact of a send gets what was published when its first row was claimed.
//!
//! Owns nothing.

use roaring::RoaringBitmap;

use crate::campaigns::editing::{self, Change, Standing};
use crate::campaigns::sequence::Lock;
use crate::campaigns::spec::MessageSpec;
use crate::campaigns::{self, CampaignSpec, Compiled, Kind, Problem, languages, lifecycle, parse};
use crate::clock::Timestamp;
use crate::engine::messages::with_saved_of;
use crate::engine::runs::{campaign_state, connector_of};
use crate::engine::sequences::{Published, SequenceError};
use crate::engine::{Engine, EngineError};
use crate::flow::{Graph, NodeId, NodeKind};
use crate::ids::{CampaignId, RunId};
use crate::ledger::edits::Edited;
use crate::ledger::facts::DeliveryEntered;
use crate::ledger::plans::Plan;
use crate::ledger::{Fact, RowSet, Run, State};

/// How a node of a run stands for who wants to change it.
pub fn lock_of(run: &Run, node: NodeId) -> Lock {
    let left = run.flow.left.get(&node).is_some_and(|exits| exits.values().any(|count| *count > 0));
    let executed = match run.graph.node(node).map(|n| &n.kind) {
        Some(NodeKind::Send { message, .. }) => left || run.has_claimed(crate::ids::MessageId(*message)),
        Some(NodeKind::Start) => true,
        // Whose sample was cut, or to which a decision was made, is under way even while everybody waits.
        Some(NodeKind::AbTest(_)) => left || run.flow.tests.contains_key(&node),
        Some(NodeKind::End { .. }) => run.positions.count(node) > 0,
        _ => left,
    };
    match executed {
        true => Lock::Executed,
        false if run.positions.count(node) > 0 => Lock::Current,
        false => Lock::Unreached,
    }
}

/// A working copy that can come into force.
struct Edition {
    fact: Edited,
    spec: CampaignSpec,
    published: CampaignSpec,
    change: Change,
}

/// Whether launches of a campaign are still to come: they are what its changes are for, and its runs are not edited.
pub(super) fn launches_ahead(state: &State, id: CampaignId) -> bool {
    state.plans.get(&id).is_some_and(Plan::is_open)
}

/// The messages of a spec by what they keep wherever they are moved to: those of nodes by the ids of these.
fn message_keys(spec: &CampaignSpec) -> Vec<String> {
    let key = |(path, _): (String, _)| {
        let place = path.strip_prefix("nodes.").and_then(|rest| rest.strip_suffix(".message"));
        let node = place.and_then(|place| spec.nodes.get(place.parse::<usize>().ok()?));
        node.and_then(|node| node.id.as_ref()).map_or(path, |id| format!("node {id}"))
    };
    languages::tables(spec).into_iter().map(key).collect()
}

/// A message of a list that names a saved one as the version in force does means the one that was pinned for that.
fn keep_pinned(spec: &mut CampaignSpec, published: &CampaignSpec) {
    let tables = languages::tables(published).into_iter().map(|(_, table)| table);
    let was: Vec<(String, &MessageSpec)> = message_keys(published).into_iter().zip(tables).collect();
    for (key, table) in message_keys(spec).into_iter().zip(languages::tables_mut(spec)) {
        let same = was.iter().find(|(of, was)| *of == key && was.saved == table.saved && was.saved.is_some());
        if let Some((_, was)) = same.filter(|_| table.saved_version.is_none())
            && let Some(version) = was.saved_version
        {
            *table = languages::resolved(was, version, table);
        }
    }
}

/// The working copy held against the run as it stands at this moment.
fn edition(state: &State, id: CampaignId, at: Timestamp) -> Result<Edition, EngineError> {
    let stands = campaign_state(state, id).ok_or(EngineError::NoCampaign { id })?;
    let campaign = state.campaigns.get(&id).ok_or(EngineError::NoCampaign { id })?;
    let copy = state.sequences.get(&id).and_then(|memory| memory.copy.as_ref());
    let run = state.latest_run(id);
    let is_live = run.is_some_and(|run| run.state.is_live());
    use lifecycle::State::{Finished, Paused, Running};
    if is_live && launches_ahead(state, id) {
        return Err(SequenceError::LaunchesAhead.into());
    }
    let (Some(run), Some(copy)) = (run, copy) else {
        return Err(match (run, stands) {
            (None, _) => SequenceError::NotASequence.into(),
            (_, Finished) => SequenceError::UseExtend.into(),
            (_, Running | Paused) => SequenceError::NoCopy.into(),
            _ => EngineError::NotEditable { state: stands },
        });
    };
    match (stands, copy.extends) {
        (Running | Paused, false) if is_live => {}
        (Finished, true) => {}
        (Finished, false) => return Err(SequenceError::UseExtend.into()),
        _ => return Err(EngineError::NotEditable { state: stands }),
    }
    let published = campaign.versions.get(&run.version).ok_or(EngineError::NoCampaign { id })?;
    let published = parse::from_stored(published)?;
    let mut spec = parse::from_stored(&copy.spec)?;
    keep_pinned(&mut spec, &published);
    let spec = editing::ordered(&published, &with_saved_of(state, &spec)?);
    let change = change_of(run, &published, &spec)?;
    let newest = campaign.newest().map_or(0, |(version, _)| version);
    let graph = change.graph.clone();
    let fact = Edited {
        campaign: id,
        run: run.id,
        from: run.version,
        version: newest + 1,
        spec: parse::to_stored(&spec),
        messages: change.messages.clone(),
        deliveries: graph.as_ref().map(|_| entered(run, &change.compiled)).unwrap_or_default(),
        graph,
        extends: copy.extends,
        at,
    };
    Ok(Edition { fact, spec, published, change })
}

/// What a version changes in a run, refused with all that it may not.
fn change_of(run: &Run, published: &CampaignSpec, spec: &CampaignSpec) -> Result<Change, EngineError> {
    let built = campaigns::compile(published)?;
    let standing = Standing {
        lock_of: &|node| lock_of(run, node),
        is_claimed: &|message| run.has_claimed(message),
        is_entered: &|index| run.delivery(index).is_some_and(|delivery| !delivery.audience.is_empty()),
        may_rebuild: built.graph == run.graph,
    };
    let change = editing::change(published, spec, &standing)?.map_err(SequenceError::Fixed)?;
    if change.messages.is_empty() && change.graph.is_none() {
        return Err(SequenceError::NothingChanged.into());
    }
    if change.graph.as_ref().is_some_and(|graph| run.moves_to(graph).is_none()) {
        return Err(SequenceError::Fixed(vec![editing::ways_apart()]).into());
    }
    Ok(change)
}

/// A delivery for each that the version has.
fn entered(run: &Run, compiled: &Compiled) -> Vec<DeliveryEntered> {
    let each = compiled.deliveries.iter().map(|plan| DeliveryEntered {
        channel: plan.channel,
        topic: plan.topic.clone(),
        connector: connector_of(compiled, plan.index).to_owned(),
        mode: plan.mode,
        audience: RowSet { space: run.space(), rows: RoaringBitmap::new() },
        skipped: Vec::new(),
        summary: None,
    });
    each.collect()
}

/// Whether a graph leads somebody who has ended on: otherwise a finished run would end at once.
fn leads_on(run: &Run, graph: &Graph) -> bool {
    run.moves_to(graph).is_some_and(|moves| !moves.is_empty())
}

impl Engine {
    /// Puts the working copy of a campaign that runs, or is finished, into force. Without `confirm` nothing is changed, and
    /// the refusal shows what it would change.
    pub fn publish_edit(&self, id: CampaignId, confirm: bool) -> Result<(RunId, Published), EngineError> {
        let found = edition(&self.book.read(), id, self.book.now());
        let Edition { fact, spec, published, change } = found.map_err(|error| self.with_problems(id, error))?;
        if fact.extends {
            let state = self.book.read();
            let onward =
                state.runs.get(&fact.run).zip(fact.graph.as_ref()).is_some_and(|(run, new)| leads_on(run, new));
            if !onward {
                return Err(SequenceError::NotExtended.into());
            }
        }
        let warnings = self.sound(id, &spec, &published)?;
        let mut shown =
            Published { at: fact.at, version: fact.version, steps: Vec::new(), warnings, changed: change.places };
        if !confirm {
            return Err(SequenceError::Unconfirmed(Box::new(shown)).into());
        }
        // Before it is in force, so that nothing but a restart can come between the version and its sends.
        let compiled = self.compile_spec(&spec)?;
        let legs = self.new_legs(fact.run, fact.version, &compiled)?;
        self.book.commit_durable_by::<EngineError>(|state| {
            let again = edition(state, id, self.book.now())?;
            if again.spec != spec || again.fact.run != fact.run || again.fact.version != fact.version {
                shown.changed = again.change.places;
                return Err(SequenceError::Unconfirmed(Box::new(shown.clone())).into());
            }
            shown.at = again.fact.at;
            Ok(Some(Fact::Edited(Box::new(again.fact))))
        })?;
        self.forget_tracked(fact.run);
        self.hand_over_legs(fact.run, fact.version, &compiled, legs)?;
        Ok((fact.run, shown))
    }

    /// Of a copy that does not compile, everything that is wrong with it.
    fn with_problems(&self, id: CampaignId, error: EngineError) -> EngineError {
        let EngineError::Compile(_) = &error else { return error };
        let spec = self.copy_spec(id).ok();
        let found = spec.map(|spec| self.problems(&spec, Some(id))).unwrap_or_default();
        let wrong: Vec<Problem> = found.into_iter().filter(Problem::blocks).collect();
        if wrong.is_empty() { error } else { SequenceError::Problems(wrong).into() }
    }

    /// Warnings of a version; refused if it has problems that the one in force has not: what was ahead when it started may
    /// be past by now, and stands in nobody's way.
    fn sound(
        &self,
        id: CampaignId,
        spec: &CampaignSpec,
        published: &CampaignSpec,
    ) -> Result<Vec<Problem>, EngineError> {
        let known = self.problems(published, Some(id));
        let is_known = |problem: &Problem| {
            known.iter().any(|other| other.code == problem.code && other.message == problem.message)
        };
        let new = self.problems(spec, Some(id)).into_iter().filter(|problem| !is_known(problem));
        let (wrong, warnings): (Vec<_>, Vec<_>) = new.partition(Problem::blocks);
        if !wrong.is_empty() {
            return Err(SequenceError::Problems(wrong).into());
        }
        for plan in &self.compile_spec(spec)?.messages {
            self.content(spec.name.as_deref().unwrap_or_default(), plan)?;
            if !self.lines.contains_key(&plan.connector) {
                return Err(EngineError::NoConnector { name: plan.connector.clone() });
            }
        }
        Ok(warnings)
    }

    /// All that stands in the way of a working copy's publication, and how it would be refused.
    pub fn edit_alerts(&self, id: CampaignId) -> Vec<Problem> {
        let found = edition(&self.book.read(), id, self.book.now());
        let found = found.and_then(|edition| self.sound(id, &edition.spec, &edition.published));
        match found.map_err(|error| self.with_problems(id, error)) {
            Ok(_) => Vec::new(),
            Err(EngineError::Sequence(SequenceError::Fixed(refusals))) => {
                let each = refusals.into_iter().map(|refusal| {
                    Problem::error(refusal.code, refusal.place.clone(), refusal.message, refusal.fix)
                        .of_node(&refusal.place)
                });
                each.collect()
            }
            Err(EngineError::Sequence(SequenceError::Problems(problems))) => problems,
            Err(EngineError::Sequence(SequenceError::NothingChanged)) => Vec::new(),
            Err(error) => vec![Problem::error("not_publishable", "", error.to_string(), way_out(&error))],
        }
    }

    /// Whether changes of a campaign's spec go into a working copy: it has a run that is under way, or is finished. While
    /// launches are still to come, those are what changes.
    pub fn is_edited_live(&self, id: CampaignId) -> bool {
        let state = self.book.read();
        let Some(run) = state.latest_run(id) else { return false };
        use lifecycle::State::{Finished, Paused, Running};
        match campaign_state(&state, id) {
            _ if run.sequence.is_some() => true,
            Some(Running | Paused) => run.state.is_live() && !launches_ahead(&state, id),
            stands => stands == Some(Finished),
        }
    }
}

/// What to do about a working copy that cannot come into force as the campaign stands.
fn way_out(error: &EngineError) -> &'static str {
    match error {
        EngineError::Sequence(SequenceError::LaunchesAhead) => "unschedule, or wait for the last launch; then publish",
        EngineError::Sequence(SequenceError::UseExtend) => "go on with extend, which keeps what the copy says",
        EngineError::Sequence(SequenceError::NotExtended) => "lead an end that contacts came to on to a new node",
        EngineError::NoConnector { .. } => "name a connector that is configured",
        EngineError::NotEditable { .. } => "nothing more of it is published: use a resend, or a campaign of its own",
        _ => "change in the working copy what the message names, then publish",
    }
}

/// Why a finished campaign of a kind is not extended; nothing if it is.
pub(super) fn not_extended(kind: Kind) -> Option<SequenceError> {
    let message = match kind {
        Kind::AbSplit => "the test of an A/B split is over",
        Kind::MultiSegment => "the cells of a grid have been sent",
        Kind::Single | Kind::Flow | Kind::Sequence => return None,
    };
    Some(SequenceError::NotExtendable { why: message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaigns::{Format, parse};

    #[test]
    fn a_node_that_is_moved_keeps_the_saved_message_that_was_pinned_for_it() {
        let spec = |nodes: [&str; 2]| {
            let text = format!("name = \"a\"\nkind = \"flow\"\n[audience]\nall = true\n{}{}", nodes[0], nodes[1]);
            parse(&text, Format::Toml).expect("a spec")
        };
        let node = |id: &str, more: &str| {
            format!("[[nodes]]\nid = \"{id}\"\nkind = \"send\"\nmessage = {{ saved = \"{id}\"{more} }}\n")
        };
        let pinned = |id: &str, version: u32| node(id, &format!(", saved_version = {version}, subject = \"{id}\""));
        let published = spec([&pinned("first", 3), &pinned("second", 5)]);
        let mut moved = spec([&node("second", ""), &node("first", "")]);
        keep_pinned(&mut moved, &published);
        let kept: Vec<_> = moved.nodes.iter().map(|node| node.message.saved_version).collect();
        assert_eq!(kept, [Some(5), Some(3)], "by the ids of the nodes");
        assert_eq!(moved.nodes[0].message.fields, published.nodes[1].message.fields, "with what it says");
    }
}
