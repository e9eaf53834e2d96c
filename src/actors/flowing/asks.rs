//! What a condition or split asks of contacts, and who answers: the run's own sets, all runs, or the base.
//!
//! What the run itself knows is answered here; the rest is handed on as a question. Must not know: the base, clocks.

use roaring::RoaringBitmap;

use super::{delivered, engaged, messages_of};
use crate::flow::nodes::condition::{Engaged, Test, Unique};
use crate::flow::split::sets;
use crate::flow::{Exit, NodeId};
use crate::ids::MessageId;
use crate::ledger::Run;
use crate::ledger::engagement::people;

/// A question about the contacts at a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Answered: these.
    Rows(RoaringBitmap),
    /// Who matches a segment expression.
    Expression(String),
    /// Who clicked one of these links of one of these messages of the run.
    Links { messages: Vec<MessageId>, links: Vec<String> },
    /// Who engaged with messages of any campaign.
    Engaged(Engaged),
    /// Who is the one to keep of all with the same address; `kept` went on before.
    Unique { unique: Unique, kept: RoaringBitmap },
}

/// The question of a test at a node.
pub fn of_test(run: &Run, node: NodeId, test: &Test) -> Ask {
    match test {
        Test::Matches(expression) => Ask::Expression(expression.clone()),
        Test::Delivered(send) => Ask::Rows(delivered(run, *send)),
        Test::Opened(send) => Ask::Rows(engaged(run, *send, false)),
        Test::Clicked(send) => Ask::Rows(engaged(run, *send, true)),
        Test::Unsubscribed => Ask::Rows(run.unsubscribed()),
        Test::UnsubscribedFrom(topics) => Ask::Rows(unsubscribed_from(run, topics)),
        Test::Complained => Ask::Rows(complained(run)),
        Test::ClickedLinks { send, links } => match messages_of(run, *send) {
            messages if messages.is_empty() => Ask::Rows(RoaringBitmap::new()),
            messages => Ask::Links { messages, links: links.clone() },
        },
        Test::Engaged(engaged) => Ask::Engaged(*engaged),
        Test::Unique(unique) => {
            Ask::Unique { unique: *unique, kept: run.flow.kept.get(&node).cloned().unwrap_or_default() }
        }
    }
}

/// Rows by the first question that each answers, and the others by `rest`; `None` if somebody else must be asked.
pub fn sorted(rows: &RoaringBitmap, by: &[(Exit, Ask)], rest: &Exit) -> Option<Vec<(Exit, RoaringBitmap)>> {
    let mut known = Vec::with_capacity(by.len());
    for (_, ask) in by {
        let Ask::Rows(rows) = ask else { return None };
        known.push(rows);
    }
    let parts = sets::in_order(rows, known);
    let exits = by.iter().map(|(exit, _)| exit).chain([rest]).cloned();
    Some(exits.zip(parts).filter(|(_, rows)| !rows.is_empty()).collect())
}

/// Rows that left one of these topics by a link of a message of this run.
fn unsubscribed_from(run: &Run, topics: &[String]) -> RoaringBitmap {
    let about = run.messages.iter().filter(|(id, _)| run.route_of(**id).is_some_and(|r| topics.contains(&r.topic)));
    about.fold(RoaringBitmap::new(), |all, (_, message)| all | &message.unsubscribed)
}

/// Rows with a complaint about any message of this run.
pub fn complained(run: &Run) -> RoaringBitmap {
    run.feedback.values().fold(RoaringBitmap::new(), |all, feedback| all | &feedback.complained.rows)
}

/// Rows that clicked one of these links of a message, people only.
pub fn clicked_links(run: &Run, message: MessageId, links: &[u16]) -> RoaringBitmap {
    let Some(tracking) = run.messages.get(&message) else { return RoaringBitmap::new() };
    let sets = links.iter().filter_map(|link| tracking.links.get(link));
    sets.fold(RoaringBitmap::new(), |all, sets| all | people(sets))
}
