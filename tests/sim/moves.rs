//! What a run's flow does next, with a base that answers by rules on the row number.
//!
//! What is real: which task is next, shares, verdicts, what the state itself can answer. Expressions are `m3` (rows that three
//! divides), rows with the same remainder have one address, zones go by row number.

use std::collections::BTreeSet;

use roaring::RoaringBitmap;

use estafette::actors::flowing::{self, Ask, Task, asks};
use estafette::actors::{verdict, waiting};
use estafette::flow::delay::ZoneSet;
use estafette::ids::RunId;
use estafette::ledger::engagement::engaged;
use estafette::ledger::flowing::{Joined, Moved};
use estafette::ledger::{Fact, RowSet};
use estafette::segments::skip::SkipReason;

use crate::channel::Process;
use crate::rng::Rng;

/// Rows of the base.
pub(crate) const ROWS: u32 = 240;
/// Rows with the same remainder have one address.
const ADDRESSES: u32 = 180;

/// The base as expressions see it.
fn matches(expression: &str, row: u32) -> bool {
    expression.strip_prefix('m').and_then(|m| m.parse::<u32>().ok()).is_some_and(|m| row.is_multiple_of(m))
}

/// Which of several rows with one address is kept; nobody who was kept before is taken back.
fn unique(rows: &RoaringBitmap, kept: &RoaringBitmap) -> RoaringBitmap {
    let mut addresses: BTreeSet<u32> = kept.iter().map(|row| row % ADDRESSES).collect();
    rows.iter().filter(|row| addresses.insert(row % ADDRESSES)).collect()
}

/// One task of the flow; `false` if there is none.
pub(crate) fn step(process: &mut Process, id: RunId, rng: &mut Rng) -> bool {
    let (found, at) = (&process.state.runs[&id], process.now);
    let Some(task) = flowing::next_task(found, at) else { return false };
    let fact = match task {
        Task::Record(fact) => fact,
        Task::Share { run, node, rows, shares } => flowing::share_out(run, node, &rows, &shares, at).expect("shares"),
        Task::Sort { node, rows, by, rest } => {
            let mut left = rows;
            let mut exits = Vec::new();
            for (exit, ask) in by {
                let matching = answer(process, id, &ask, &left);
                left -= &matching;
                exits.push((exit, matching));
            }
            exits.push((rest, left));
            Fact::Moved(Moved { run: id, node, exits, at })
        }
        Task::Join { delivery, node, rows } => {
            let out: RoaringBitmap = rows.iter().filter(|_| rng.chance(0.1)).collect();
            let skipped = if out.is_empty() { Vec::new() } else { vec![(SkipReason::Unsubscribed, out)] };
            Fact::Joined(Joined { delivery, node, rows: RowSet { space: found.space(), rows }, skipped, at })
        }
        Task::Clocks { node, rows, .. } => {
            let zones = ["Europe/Paris", "Asia/Kathmandu", "Pacific/Auckland"].into_iter().zip(0u32..);
            let zones = zones.map(|(name, at)| ZoneSet {
                zone: jiff::tz::TimeZone::get(name).expect("a zone"),
                rows: (0..ROWS).filter(|row| row % 4 == at).collect(),
            });
            waiting::by_clocks(found, node, &rows, &zones.collect::<Vec<_>>(), at).expect("a fact")
        }
        Task::Look { run, node, test, look, looks, arms } => {
            verdict::look_at(run, node, &test, (look, looks), arms, at).expect("judged")
        }
        Task::Cohort { .. } | Task::SetAttribute { .. } => unreachable!("sequences have a world of their own"),
    };
    process.commit(fact);
    true
}

/// What the base, or the state as a whole, answers.
fn answer(process: &Process, id: RunId, ask: &Ask, rows: &RoaringBitmap) -> RoaringBitmap {
    match ask {
        Ask::Rows(known) => rows & known,
        Ask::Expression(expression) => rows.iter().filter(|row| matches(expression, *row)).collect(),
        Ask::Links { messages, .. } => {
            let run = &process.state.runs[&id];
            rows & messages.iter().fold(RoaringBitmap::new(), |all, m| all | asks::clicked_links(run, *m, &[0]))
        }
        Ask::Engaged(asked) => rows & engaged(&process.state, asked, process.now),
        Ask::Unique { kept, .. } => unique(rows, kept),
    }
}
