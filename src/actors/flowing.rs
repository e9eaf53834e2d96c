//! What the flow of a run does next, as functions over the run's state.
//!
//! Driven by the state alone: whoever rests at a node that sorts, waits or tests is looked at again until nobody can move,
//! so that a crash between two moves costs nothing. Each answer is one task; it becomes one fact.
//!
//! Must not know: actix, clocks, the journal, the base (what must be asked of it is a task for the engine).

use roaring::RoaringBitmap;

use crate::actors::{verdict, waiting};
use crate::clock::Timestamp;
use crate::flow::nodes::{AbTest, Split, Test, ab_test, condition, split};
pub use crate::flow::split::SplitError;
use crate::flow::split::{SplitKey, quotas, rank};
use crate::flow::{Exit, Node, NodeId, NodeKind};
use crate::ids::{DeliveryId, MessageId, RunId};
use crate::ledger::flowing::{ArmFigures, Decided, Moved};
use crate::ledger::tracking::EventClass;
use crate::ledger::{Fact, RowSet, Run, RunState};
use crate::segments::skip::SkipReason;

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Decided: to be recorded as it is.
    Record(Fact),
    /// Rows to be shared out, without asking anybody; may take long. See [`share_out`].
    Share { run: RunId, node: NodeId, rows: RoaringBitmap, shares: Shares },
    /// Rows to be sorted by expressions, in this order; who matches none leaves by `rest`.
    Sort { node: NodeId, rows: RoaringBitmap, by: Vec<(Exit, String)>, rest: Exit },
    /// Rows arrived at a send whose delivery is entered on arrival: who of them may be sent to?
    Join { delivery: DeliveryId, node: NodeId, rows: RoaringBitmap },
    /// Rows came to a delay by each contact's own clocks: in which zones are they? See [`waiting::by_clocks`].
    Clocks { run: RunId, node: NodeId, rows: RoaringBitmap },
    /// A test is to be looked at, with these figures. See [`verdict::look_at`].
    Look { run: RunId, node: NodeId, test: AbTest, look: u16, arms: Vec<ArmFigures> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shares {
    /// All rows by weight.
    Weights(Vec<(Exit, u32)>),
    /// So many rows each; the others go by the last exit, or stay.
    Counts(Vec<(Exit, u64)>, Option<Exit>),
}

/// The next task of a run; `None` when everybody waits for lanes, time or people.
pub fn next_task(run: &Run, now: Timestamp) -> Option<Task> {
    if run.state != RunState::Running {
        return None;
    }
    let resting = run.positions.iter().filter_map(|(id, rows)| run.graph.node(id).map(|node| (node, rows)));
    resting.filter_map(|(node, rows)| task_at(run, node, rows, now)).next().or_else(|| next_look(run, now))
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
        NodeKind::Split(split) => Some(split_task(run, node.id, split, rows)),
        NodeKind::Condition(condition) => Some(condition_task(run, node.id, &condition.test, rows, now)),
        NodeKind::Delay(delay) => waiting::delay_task(run, node.id, delay, rows, now),
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

/// A planned look that is due, or the decision that follows from the last one.
fn next_look(run: &Run, now: Timestamp) -> Option<Task> {
    for (node, memory) in &run.flow.tests {
        let Some(NodeKind::AbTest(test)) = run.graph.node(*node).map(|n| &n.kind) else { continue };
        let Some(cut_at) = memory.cut_at.filter(|_| memory.decided.is_none()) else { continue };
        let last = memory.looks.last().map_or(0, |look| look.look);
        let due =
            (last + 1..=test.looks).rev().find(|look| cut_at.0.saturating_add(test.look_after_ms(*look)) <= now.0);
        if let Some(look) = due {
            let arms = verdict::figures(run, *node, test);
            return Some(Task::Look { run: run.id, node: *node, test: test.clone(), look, arms });
        }
        if let Some(decided) = memory.looks.last().and_then(|look| verdict::follows(test, look, now)) {
            return Some(Task::Record(Fact::Decided(decided)));
        }
    }
    None
}

fn split_task(run: &Run, node: NodeId, split: &Split, rows: &RoaringBitmap) -> Task {
    match split {
        Split::Weights(shares) => {
            Task::Share { run: run.id, node, rows: rows.clone(), shares: Shares::Weights(shares.clone()) }
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
            Task::Sort { node, rows: rows.clone(), by: branches.clone(), rest: split::REMAINING }
        }
    }
}

fn condition_task(run: &Run, node: NodeId, test: &Test, rows: &RoaringBitmap, now: Timestamp) -> Task {
    let holds = match test {
        Test::Matches(expression) => {
            let by = vec![(condition::TRUE, expression.clone())];
            return Task::Sort { node, rows: rows.clone(), by, rest: condition::FALSE };
        }
        Test::Delivered(send) => delivered(run, *send),
        Test::Opened(send) => engaged(run, *send, false),
        Test::Clicked(send) => engaged(run, *send, true),
        Test::Unsubscribed => run.unsubscribed(),
    };
    let yes = rows & &holds;
    let no = rows - &holds;
    let exits = [(condition::TRUE, yes), (condition::FALSE, no)];
    moved(run, node, exits.into_iter().filter(|(_, rows)| !rows.is_empty()).collect(), now)
}

/// Message that a send node sends, and its delivery.
pub fn send_of(run: &Run, node: NodeId) -> Option<(u16, MessageId)> {
    match run.graph.node(node).map(|n| &n.kind) {
        Some(NodeKind::Send { delivery, message, .. }) => Some((*delivery, MessageId(*message))),
        _ => None,
    }
}

/// Rows of a send that were accepted and have not bounced so far: on e-mail that is what delivered means.
pub fn delivered(run: &Run, node: NodeId) -> RoaringBitmap {
    let delivery = send_of(run, node).and_then(|(index, _)| run.delivery(index));
    let mut rows = delivery.map_or_else(RoaringBitmap::new, |delivery| &delivery.accepted & delivery.assigned(node));
    if let Some(feedback) = run.feedback_of(node) {
        rows -= feedback.bounced();
    }
    rows
}

/// Rows that opened (or clicked) a send's message; machines' doing is left out.
pub fn engaged(run: &Run, node: NodeId, clicked: bool) -> RoaringBitmap {
    let tracking = send_of(run, node).and_then(|(_, message)| run.messages.get(&message));
    let Some(tracking) = tracking else { return RoaringBitmap::new() };
    let sets = if clicked { &tracking.clicked } else { &tracking.opened };
    let people = sets.rows.iter().filter(|(class, _)| **class != EventClass::Machine);
    people.fold(RoaringBitmap::new(), |all, (_, rows)| all | rows)
}

/// The move that shares rows out; exact, and the same whenever it is computed for the same rows.
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
    #[error("a run that is {state} sends nothing more")]
    Over { state: &'static str },
}

/// A person's choice for the first test of a run that is not decided.
pub fn by_person(run: &Run, winner: Option<&str>, by: &str, at: Timestamp) -> Result<Decided, NoChoice> {
    if !matches!(run.state, RunState::Running | RunState::Paused) {
        return Err(NoChoice::Over { state: run.state.name() });
    }
    let tests = run.graph.nodes().filter_map(|node| match &node.kind {
        NodeKind::AbTest(test) => Some((node.id, test, run.flow.tests.get(&node.id))),
        _ => None,
    });
    let mut refused = NoChoice::NoTest;
    for (node, test, memory) in tests {
        match memory.map(|memory| (memory.cut_at, &memory.decided)) {
            None | Some((None, _)) => refused = NoChoice::NotCut,
            Some((_, Some(decided))) => {
                let winner = decided.winner.as_ref().map_or("nobody", Exit::name).to_owned();
                refused = NoChoice::Decided { winner, by: decided.by.clone() };
            }
            Some((Some(_), None)) => {
                let arm = winner.map(|name| {
                    let arm = test.arms.iter().find(|arm| arm.exit.name() == name);
                    arm.map(|arm| arm.exit.clone()).ok_or_else(|| NoChoice::UnknownVariant {
                        name: name.to_owned(),
                        variants: test.arms.iter().map(|arm| arm.exit.name().to_owned()).collect(),
                    })
                });
                let winner = arm.transpose()?;
                let reason = "chosen by a person".to_owned();
                return Ok(Decided { run: run.id, node, winner, proven: false, by: by.to_owned(), reason, at });
            }
        }
    }
    Err(refused)
}
