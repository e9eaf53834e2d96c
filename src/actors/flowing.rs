//! What the flow of a run does next, as functions over the run's state.
//!
//! Driven by the state alone: whoever rests at a node that sorts, waits or tests is looked at again until nobody can move,
//! so that a crash between two moves costs nothing. Each answer is one task; it becomes one fact.
//!
//! Must not know: actix, clocks, the journal, the base (what must be asked of it is a task for the engine).

use roaring::RoaringBitmap;

use crate::actors::{sequencing, verdict, waiting};
use crate::clock::Timestamp;
use crate::flow::nodes::{AbTest, Split, Test, ab_test, condition, split};
pub use crate::flow::split::SplitError;
use crate::flow::split::{SplitKey, Stream, quotas, rank};
use crate::flow::winner::Looks;
use crate::flow::{Exit, Node, NodeId, NodeKind};
use crate::ids::{DeliveryId, MessageId, RunId};
use crate::ledger::engagement::people;
use crate::ledger::flowing::{ArmFigures, Decided, Moved, Shared, TestMemory};
use crate::ledger::{Fact, RowSet, Run, RunState};
use crate::limits::SPLIT_BLOCK_ROWS;
use crate::segments::skip::SkipReason;

pub mod asks;
#[cfg(test)]
mod tests;

pub use asks::Ask;

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Decided: to be recorded as it is.
    Record(Fact),
    /// Rows to be shared out, without asking anybody; may take long. See [`share_out`].
    Share { run: RunId, node: NodeId, rows: RoaringBitmap, shares: Shares },
    /// Rows to be sorted by questions, in this order; whom none fits leaves by `rest`.
    Sort { node: NodeId, rows: RoaringBitmap, by: Vec<(Exit, Ask)>, rest: Exit },
    /// Rows arrived at a send whose delivery is entered on arrival: who of them may be sent to?
    Join { delivery: DeliveryId, node: NodeId, rows: RoaringBitmap },
    /// The audience of a sequence is to be evaluated: its first step starts.
    Cohort { run: RunId },
    /// A field of these rows gets a value; then they go on.
    SetAttribute { node: NodeId, rows: RoaringBitmap, attribute: String, value: serde_json::Value },
    /// Rows came to a delay by each contact's own clocks: in which zones are they? See [`waiting::by_clocks`].
    Clocks { run: RunId, node: NodeId, rows: RoaringBitmap },
    /// A test is to be looked at, with these figures; `looks` is what look this is of the sample. See [`verdict::look_at`].
    Look { run: RunId, node: NodeId, test: AbTest, look: u16, looks: Looks, arms: Vec<ArmFigures> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shares {
    /// All rows by weight: they are all that ever come.
    Weights(Vec<(Exit, u32)>),
    /// All rows by weight, as the next entrants of a stream; the exits in the order of its weights.
    Stream(Vec<Exit>, Stream),
    /// So many rows each; the others go by the last exit, or stay.
    Counts(Vec<(Exit, u64)>, Option<Exit>),
}

/// The next task of a run; `None` when everybody waits for lanes, time or people.
pub fn next_task(run: &Run, now: Timestamp) -> Option<Task> {
    match run.state {
        RunState::Running => {}
        RunState::Paused => return next_in_pause(run, now),
        RunState::Stopping | RunState::Stopped | RunState::Finished => return None,
    }
    if let Some(task) = sequencing::next_task(run, now) {
        return Some(task);
    }
    let resting = run.positions.iter().filter_map(|(id, rows)| run.graph.node(id).map(|node| (node, rows)));
    resting.filter_map(|(node, rows)| task_at(run, node, rows, now)).next().or_else(|| next_look(run, now))
}

/// What was on the wire when a pause began is still answered in it: the waits of these contacts begin with the answer, and
/// not at the end of the pause. Whoever else could move waits for that.
fn next_in_pause(run: &Run, now: Timestamp) -> Option<Task> {
    let resting = run.positions.iter().filter_map(|(id, rows)| run.graph.node(id).map(|node| (node, rows)));
    let mut tasks = resting.filter_map(|(node, rows)| match &node.kind {
        NodeKind::Delay(delay) => waiting::timer(run, node.id, delay, rows, now),
        // Stands between a message and the wait for its follow-up.
        NodeKind::Condition(condition) if matches!(condition.test, Test::Delivered(_)) => task_at(run, node, rows, now),
        _ => None,
    });
    tasks.next()
}

fn task_at(run: &Run, node: &Node, rows: &RoaringBitmap, now: Timestamp) -> Option<Task> {
    match &node.kind {
        NodeKind::Start => None,
        NodeKind::End { .. } => without_message(run, rows, now),
        NodeKind::Send { delivery, .. } => {
            let joined = &run.delivery(*delivery)?.audience;
            let rows = rows - joined;
            let delivery = DeliveryId { run: run.id, index: *delivery };
            (!rows.is_empty()).then_some(Task::Join { delivery, node: node.id, rows })
        }
        NodeKind::AbTest(test) => test_task(run, node.id, test, rows, now),
        NodeKind::Split(split) => Some(split_task(run, node.id, split, rows, now)),
        NodeKind::Condition(condition) => {
            let by = vec![(condition::TRUE, asks::of_test(run, node.id, &condition.test))];
            Some(sort_task(run, node.id, rows, by, condition::FALSE, now))
        }
        NodeKind::Delay(delay) => waiting::delay_task(run, node.id, delay, rows, now),
        NodeKind::Step(_) => sequencing::gate_task(run, node.id, rows, now),
        NodeKind::SetAttribute(_) if sequencing::is_behind_skipped(run, node.id) => {
            Some(moved(run, node.id, vec![(Exit::NEXT, rows.clone())], now))
        }
        NodeKind::SetAttribute(set) => Some(sequencing::set_task(node.id, set, rows)),
    }
}

/// Who came to an end without having been at a send of a delivery that it entered at the start gets no message.
fn without_message(run: &Run, rows: &RoaringBitmap, now: Timestamp) -> Option<Task> {
    let waiting = run.deliveries.iter().filter(|delivery| !delivery.held.is_empty());
    waiting.map(|delivery| (delivery, rows & &delivery.held)).find(|(_, rows)| !rows.is_empty()).map(
        |(delivery, rows)| {
            let rows = RowSet { space: delivery.space, rows };
            let (delivery, reason) = (delivery.id, SkipReason::NoMessage);
            Task::Record(Fact::Skipped { delivery, reason, rows, at: now })
        },
    )
}

pub(super) fn moved(run: &Run, node: NodeId, exits: Vec<(Exit, RoaringBitmap)>, at: Timestamp) -> Task {
    Task::Record(Fact::Moved(Moved { run: run.id, node, exits, at }))
}

fn test_task(run: &Run, node: NodeId, test: &AbTest, rows: &RoaringBitmap, now: Timestamp) -> Option<Task> {
    let memory = run.flow.tests.get(&node);
    if test.continuing() && memory.is_none_or(|m| m.decided.is_none()) {
        // Everybody who comes is tested on until there is a winner.
        let shares = stream(run, node, test.arms.iter().map(|arm| (&arm.exit, arm.weight)))?;
        return Some(Task::Share { run: run.id, node, rows: rows.clone(), shares });
    }
    if memory.is_none_or(|m| m.cut_at.is_none()) {
        let sample = test.sample.of(rows.len());
        let weights: Vec<u32> = test.arms.iter().map(|arm| arm.weight).collect();
        // A test without arms or weights is no valid graph.
        let sizes = quotas(sample, &weights).ok()?;
        let counts = test.arms.iter().map(|arm| arm.exit.clone()).zip(sizes).collect();
        return Some(Task::Share { run: run.id, node, rows: rows.clone(), shares: Shares::Counts(counts, None) });
    }
    let decided = memory.and_then(|m| m.decided.as_ref())?;
    if let Some(winner) = &decided.winner {
        return Some(moved(run, node, vec![(winner.clone(), rows.clone())], now));
    }
    // Nobody won: who still waits for a message gets none, and everybody goes on.
    let waiting = run.deliveries.iter().find_map(|delivery| {
        let rows = rows & &delivery.held;
        (!rows.is_empty()).then_some((delivery, rows))
    });
    match waiting {
        Some((delivery, rows)) => Some(Task::Record(Fact::Skipped {
            delivery: delivery.id,
            reason: SkipReason::NoWinner,
            rows: RowSet { space: delivery.space, rows },
            at: now,
        })),
        None => Some(moved(run, node, vec![(ab_test::REST, rows.clone())], now)),
    }
}

/// The decision that follows from the last look, or the next planned one that is due: what is proven needs no other look.
fn next_look(run: &Run, now: Timestamp) -> Option<Task> {
    for (node, memory) in &run.flow.tests {
        let Some(NodeKind::AbTest(test)) = run.graph.node(*node).map(|n| &n.kind) else { continue };
        let Some(cut_at) = memory.cut_at.filter(|_| memory.decided.is_none()) else { continue };
        let last = memory.looks.last().map_or(0, |look| look.look);
        if let Some(decided) = memory.looks.last().and_then(|look| verdict::follows(test, look, now)) {
            return Some(Task::Record(Fact::Decided(decided)));
        }
        if test.continuing() && memory.unseen_until().is_none() && run.has_sent_all() {
            // Everybody who came was looked at.
            continue;
        }
        let from = cut_at.0.saturating_add(run.moved_by_pauses(memory, now));
        let closes = test.continuing() && is_closing(run, memory, now);
        let closing = closes.then(|| last.saturating_add(1));
        if let Some(look) = test.look_due(from, last, now.0).or(closing) {
            let arms = verdict::figures(run, *node, test, now);
            if closes || test.is_deadline(look) || verdict::may_look(run, *node, test, &arms) {
                let sample = test.arms.iter().map(|arm| run.flow.left_by(*node, &arm.exit)).sum();
                let looks = verdict::looks_of(test, look, sample, &arms, &memory.looks);
                return Some(Task::Look { run: run.id, node: *node, test: test.clone(), look, looks, arms });
            }
        }
    }
    None
}

/// Whether everybody who can come to a test of a stream has come and was sent to, and the last window is over: the look at
/// them is the last one, and the run ends with it.
fn is_closing(run: &Run, memory: &TestMemory, now: Timestamp) -> bool {
    memory.unseen_until().is_some_and(|end| end <= now) && run.has_sent_all()
}

/// Whether a decision follows from what is recorded: a run does not end between a look and what it has decided.
pub fn is_about_to_decide(run: &Run, now: Timestamp) -> bool {
    run.flow.tests.iter().any(|(node, memory)| match run.graph.node(*node).map(|n| &n.kind) {
        Some(NodeKind::AbTest(test)) if memory.decided.is_none() => {
            memory.looks.last().is_some_and(|look| verdict::follows(test, look, now).is_some())
        }
        _ => false,
    })
}

fn split_task(run: &Run, node: NodeId, split: &Split, rows: &RoaringBitmap, now: Timestamp) -> Task {
    match split {
        Split::Weights(shares) => {
            Task::Share { run: run.id, node, rows: rows.clone(), shares: by_weight(run, node, shares, rows.len()) }
        }
        Split::AtMost(limits) => {
            let mut left = rows.len();
            let counts = limits.iter().map(|(exit, limit)| {
                let count = limit.saturating_sub(run.flow.left_by(node, exit)).min(left);
                left -= count;
                (exit.clone(), count)
            });
            let shares = Shares::Counts(counts.collect(), Some(split::REMAINING));
            Task::Share { run: run.id, node, rows: rows.clone(), shares }
        }
        Split::Segments(branches) => {
            let by = branches.iter().map(|(exit, segment)| (exit.clone(), Ask::Expression(segment.clone())));
            sort_task(run, node, rows, by.collect(), split::REMAINING, now)
        }
        Split::Interactions(branches) => {
            let by = branches.iter().map(|(exit, test)| (exit.clone(), asks::of_test(run, node, test)));
            sort_task(run, node, rows, by.collect(), split::REMAINING, now)
        }
    }
}

/// A set that comes whole is ranked, and so is a large one that comes first; whoever comes over time takes the next slots of
/// a stream.
fn by_weight(run: &Run, node: NodeId, shares: &[(Exit, u32)], arriving: u64) -> Shares {
    let first = !run.flow.left.contains_key(&node);
    let many = usize::try_from(arriving).is_ok_and(|arriving| arriving >= SPLIT_BLOCK_ROWS);
    // Requests bring contacts one by one, whatever the graph says.
    let requested = run.sequence.as_ref().is_some_and(|sequence| sequence.by_request);
    if (!requested && run.graph.arrives_whole(node)) || (first && many) {
        return Shares::Weights(shares.to_vec());
    }
    // Weights that make no stream are refused by the graph's rules; ranking says what is wrong.
    let in_turn = stream(run, node, shares.iter().map(|(exit, weight)| (exit, *weight)));
    in_turn.unwrap_or_else(|| Shares::Weights(shares.to_vec()))
}

/// Shares of those who come next, behind those who came before; `None` for weights that make no stream.
fn stream<'e>(run: &Run, node: NodeId, shares: impl Iterator<Item = (&'e Exit, u32)>) -> Option<Shares> {
    let (exits, weights): (Vec<Exit>, Vec<u32>) = shares.map(|(exit, weight)| (exit.clone(), weight)).unzip();
    let began = run.flow.streams.get(&node).cloned();
    let stream = began.and_then(|mut stream| stream.change(&weights).ok().map(|()| stream));
    let stream = stream.map_or_else(|| Stream::new(&weights), Ok);
    stream.ok().map(|stream| Shares::Stream(exits, stream))
}

/// Sorted at once where the run itself knows the answers.
fn sort_task(run: &Run, node: NodeId, rows: &RoaringBitmap, by: Vec<(Exit, Ask)>, rest: Exit, now: Timestamp) -> Task {
    match asks::sorted(rows, &by, &rest) {
        Some(exits) => moved(run, node, exits, now),
        None => Task::Sort { node, rows: rows.clone(), by, rest },
    }
}

/// Message that a send node sends, and its delivery.
pub fn send_of(run: &Run, node: NodeId) -> Option<(u16, MessageId)> {
    match run.graph.node(node).map(|n| &n.kind) {
        Some(NodeKind::Send { delivery, message, .. }) => Some((*delivery, MessageId(*message))),
        _ => None,
    }
}

/// Rows of a send, in whichever language, that were accepted and have not bounced so far: on e-mail that is what delivered
/// means.
pub fn delivered(run: &Run, node: NodeId) -> RoaringBitmap {
    let each = run.graph.versions(node).map(|node| {
        let delivery = send_of(run, node).and_then(|(index, _)| run.delivery(index));
        let mut rows =
            delivery.map_or_else(RoaringBitmap::new, |delivery| &delivery.accepted & delivery.assigned(node));
        if let Some(feedback) = run.feedback_of(node) {
            rows -= feedback.bounced();
        }
        rows
    });
    each.fold(RoaringBitmap::new(), |all, rows| all | rows)
}

/// The messages of a send: in several languages, several.
pub fn messages_of(run: &Run, node: NodeId) -> Vec<MessageId> {
    run.graph.versions(node).filter_map(|node| send_of(run, node)).map(|(_, message)| message).collect()
}

/// Rows that opened (or clicked) a send's message; machines' doing is left out.
pub fn engaged(run: &Run, node: NodeId, clicked: bool) -> RoaringBitmap {
    let tracked = messages_of(run, node).into_iter().filter_map(|message| run.messages.get(&message));
    let each = tracked.map(|tracking| people(if clicked { &tracking.clicked } else { &tracking.opened }));
    each.fold(RoaringBitmap::new(), |all, rows| all | rows)
}

/// Rows with a conversion by a person that was reported about a send's message, in whichever language.
pub fn converted(run: &Run, node: NodeId) -> RoaringBitmap {
    let each = run.graph.versions(node).filter_map(|node| run.feedback_of(node));
    each.fold(RoaringBitmap::new(), |all, feedback| all | people(&feedback.converted))
}

/// Rows of which an event of the sender's own is known: about a send's message, in whichever language, or any since the run
/// began.
pub fn did(run: &Run, name: &str, of: Option<NodeId>) -> RoaringBitmap {
    let Some(send) = of else { return run.flow.happened.get(name).cloned().unwrap_or_default() };
    let each = run.graph.versions(send).filter_map(|node| run.feedback_of(node)?.custom.get(name));
    each.fold(RoaringBitmap::new(), |all, seen| all | &seen.rows)
}

/// The move that shares rows out: exact. It is computed once; what is journaled is the assignment.
pub fn share_out(
    run: RunId,
    node: NodeId,
    rows: &RoaringBitmap,
    shares: &Shares,
    at: Timestamp,
) -> Result<Fact, SplitError> {
    let key = SplitKey::new(run, node);
    let (exits, parts): (Vec<Option<Exit>>, Vec<RoaringBitmap>) = match shares {
        Shares::Weights(weights) => {
            let parts = rank::by_weights(&key, rows, &weights.iter().map(|(_, weight)| *weight).collect::<Vec<_>>())?;
            (weights.iter().map(|(exit, _)| Some(exit.clone())).collect(), parts)
        }
        Shares::Stream(exits, stream) => {
            let mut stream = stream.clone();
            let parts = stream.assign(&key, rows);
            let exits = exits.iter().cloned().zip(parts).filter(|(_, rows)| !rows.is_empty()).collect();
            return Ok(Fact::Shared(Box::new(Shared { moved: Moved { run, node, exits, at }, stream })));
        }
        Shares::Counts(counts, rest) => {
            let mut sizes: Vec<u64> = counts.iter().map(|(_, count)| *count).collect();
            let taken: u64 = sizes.iter().sum();
            sizes.push(rows.len().saturating_sub(taken));
            let exits = counts.iter().map(|(exit, _)| Some(exit.clone())).chain([rest.clone()]);
            (exits.collect(), rank::cut(&key, rows, &sizes)?)
        }
    };
    let pairs = exits.into_iter().zip(parts);
    let exits = pairs.filter_map(|(exit, rows)| exit.filter(|_| !rows.is_empty()).map(|exit| (exit, rows)));
    Ok(Fact::Moved(Moved { run, node, exits: exits.collect(), at }))
}

/// Why a person cannot choose.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoChoice {
    #[error("the run has no test")]
    NoTest,
    #[error("the winner is decided already: {winner}, by {by}")]
    Decided { winner: String, by: String },
    #[error("there is no variant {name:?}; the variants are {}", .variants.join(", "))]
    UnknownVariant { name: String, variants: Vec<String> },
    #[error("the sample has not been cut yet")]
    NotCut,
    #[error("the run has no test {name:?}; its tests are {}", .tests.join(", "))]
    UnknownTest { name: String, tests: Vec<String> },
    #[error("several tests wait for a winner: name one of {}", .tests.join(", "))]
    SeveralTests { tests: Vec<String> },
    #[error("a run that is {state} sends nothing more")]
    Over { state: &'static str },
}

/// A person's choice for a test of a run that is not decided: the one that is named, or the only one that it can mean. A
/// choice is final, so that nothing is guessed.
pub fn by_person(
    run: &Run,
    named: Option<&str>,
    winner: Option<&str>,
    by: &str,
    at: Timestamp,
) -> Result<Decided, NoChoice> {
    if !matches!(run.state, RunState::Running | RunState::Paused) {
        return Err(NoChoice::Over { state: run.state.name() });
    }
    let tests = run.graph.nodes().filter_map(|node| match &node.kind {
        NodeKind::AbTest(test) => Some((node.id, test)),
        _ => None,
    });
    let tests: Vec<(NodeId, &AbTest)> = tests.collect();
    let names = |tests: &[(NodeId, &AbTest)]| tests.iter().map(|(node, _)| run.graph.key(*node)).collect::<Vec<_>>();
    let meant: Vec<(NodeId, &AbTest)> = match named {
        None => tests.clone(),
        Some(name) => tests.iter().copied().filter(|(node, _)| run.graph.key(*node) == name).collect(),
    };
    if let Some(name) = named.filter(|_| meant.is_empty() && !tests.is_empty()) {
        return Err(NoChoice::UnknownTest { name: name.to_owned(), tests: names(&tests) });
    }
    let mut refused = NoChoice::NoTest;
    let mut open: Vec<(NodeId, &AbTest)> = Vec::new();
    for (node, test) in meant {
        match run.flow.tests.get(&node).map(|memory| (memory.cut_at, &memory.decided)) {
            None | Some((None, _)) => refused = NoChoice::NotCut,
            Some((_, Some(decided))) => {
                let winner = decided.winner.as_ref().map_or("nobody", Exit::name).to_owned();
                refused = NoChoice::Decided { winner, by: decided.by.clone() };
            }
            Some((Some(_), None)) => open.push((node, test)),
        }
    }
    let arm = |test: &AbTest, name: &str| test.arms.iter().find(|arm| arm.exit.name() == name).map(|a| a.exit.clone());
    let fitting = open.iter().copied().filter(|(_, test)| winner.is_none_or(|name| arm(test, name).is_some()));
    let (node, winner) = match (fitting.collect::<Vec<_>>().as_slice(), winner) {
        ([(node, test)], name) => (*node, name.and_then(|name| arm(test, name))),
        ([], Some(name)) if !open.is_empty() => {
            let arms = open.iter().flat_map(|(_, test)| test.arms.iter());
            let variants = arms.map(|arm| arm.exit.name().to_owned()).collect();
            return Err(NoChoice::UnknownVariant { name: name.to_owned(), variants });
        }
        ([], _) => return Err(refused),
        (several, _) => return Err(NoChoice::SeveralTests { tests: names(several) }),
    };
    let reason = "chosen by a person".to_owned();
    Ok(Decided { run: run.id, node, winner, proven: false, by: by.to_owned(), reason, at })
}
