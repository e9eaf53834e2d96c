//! Publications of edits at any moment of a run: what is locked is refused, by the rules and by the ledger alike, and nobody
//! gets another content than that which was in force when the first row of a message was claimed.
//!
//! What is real: the rules of edits, what a spec compiles to, the fact and its fold.

use std::collections::BTreeMap;

use serde_json::json;

use estafette::campaigns::editing::{self, Change, Standing};
use estafette::campaigns::{CampaignSpec, Compiled, Format, Kind, MessageFields, compile, parse};
use estafette::engine::edits::lock_of;
use estafette::ids::{CampaignId, MessageId, RunId};
use estafette::ledger::batch::BootId;
use estafette::ledger::edits::Edited;
use estafette::ledger::facts::DeliveryEntered;
use estafette::ledger::{Fact, RowSet, Run};
use roaring::RoaringBitmap;

use crate::channel::Process;
use crate::rng::Rng;

/// What each message said when somebody was first mailed it.
#[derive(Default)]
pub(crate) struct Contents {
    in_force: Option<(String, Compiled)>,
    sent: BTreeMap<MessageId, MessageFields>,
    /// Edits that came into force, that were refused, and runs that were extended.
    pub(crate) taken: u64,
    pub(crate) refused: u64,
    pub(crate) extended: u64,
}

fn published(process: &Process, run: &Run) -> String {
    process.state.campaigns[&run.campaign].versions[&run.version].clone()
}

impl Contents {
    /// Whatever was mailed says what it said to the first.
    pub(crate) fn check(&mut self, process: &Process, id: RunId) {
        let run = &process.state.runs[&id];
        let text = published(process, run);
        if self.in_force.as_ref().is_none_or(|(known, _)| *known != text) {
            let compiled = compile(&parse(&text, Format::Json).expect("a spec")).expect("compiles");
            self.in_force = Some((text, compiled));
        }
        let Some((_, compiled)) = &self.in_force else { return };
        let mailed = process.mailed.iter().filter(|((of, ..), _)| *of == id);
        let mut messages: Vec<&MessageId> = Vec::new();
        for message in mailed.flat_map(|(_, messages)| messages) {
            if !messages.contains(&message) {
                messages.push(message);
            }
        }
        for message in messages {
            let now = &compiled.message(*message).expect("a message that was sent stays").fields;
            let first = self.sent.entry(*message).or_insert_with(|| now.clone());
            assert_eq!(first, now, "{message} says to all what it said to the first");
        }
    }

    /// Somebody publishes a change of any kind.
    pub(crate) fn edit(&mut self, process: &mut Process, id: RunId, rng: &mut Rng) {
        let run = &process.state.runs[&id];
        let old = parse(&published(process, run), Format::Json).expect("a spec");
        let mut new = old.clone();
        let said = json!(format!("S{}", rng.below(1_000_000)));
        let put = |fields: &mut MessageFields| drop(fields.insert("subject".to_owned(), said.clone()));
        match rng.below(4) {
            0 => put(&mut new.message.fields),
            1 if !new.variants.is_empty() => {
                let at = rng.below(new.variants.len() as u64) as usize;
                put(&mut new.variants[at].message.fields);
            }
            1 if !new.cells.is_empty() => put(&mut new.cells[0].message.fields),
            1 | 2 if new.kind() == Kind::Flow => {
                let sends = new.nodes.iter_mut().filter(|node| node.kind.as_deref() == Some("send"));
                let mut sends: Vec<_> = sends.collect();
                let at = rng.below(sends.len() as u64) as usize;
                put(&mut sends[at].message.fields);
            }
            2 if matches!(new.kind(), Kind::Single | Kind::AbSplit) => {
                new.follow_up.after = Some(format!("{}m", rng.between(1, 3_000)));
            }
            _ => put(&mut new.follow_up.message.fields),
        }
        if new.follow_up.after.is_none() {
            new.follow_up = old.follow_up.clone();
        }
        self.publish(process, id, (&old, &new), false, rng);
    }

    /// A finished single campaign goes on with a follow-up; answers whether it does.
    pub(crate) fn extend(&mut self, process: &mut Process, id: RunId, rng: &mut Rng) -> bool {
        let run = &process.state.runs[&id];
        let old = parse(&published(process, run), Format::Json).expect("a spec");
        if old.kind() != Kind::Single || old.follow_up.after.is_some() || run.positions.total() == 0 {
            return false;
        }
        let mut new = old.clone();
        new.follow_up.after = Some(format!("{}m", rng.between(1, 3_000)));
        let goes_on = self.publish(process, id, (&old, &new), true, rng);
        self.extended += u64::from(goes_on);
        goes_on
    }

    fn publish(
        &mut self,
        process: &mut Process,
        id: RunId,
        (old, new): (&CampaignSpec, &CampaignSpec),
        extends: bool,
        rng: &mut Rng,
    ) -> bool {
        let run = &process.state.runs[&id];
        let standing = Standing {
            lock_of: &|node| lock_of(run, node),
            is_claimed: &|message| run.has_claimed(message),
            is_entered: &|index| run.delivery(index).is_some_and(|delivery| !delivery.audience.is_empty()),
            may_rebuild: compile(old).expect("compiles").graph == run.graph,
        };
        let change = editing::change(old, new, &standing).expect("compiles");
        let change = match change {
            Ok(change) if change.graph.as_ref().is_none_or(|graph| run.moves_to(graph).is_some()) => change,
            Ok(_) => return false,
            Err(refused) => {
                assert!(refused.iter().all(|refusal| !refusal.message.is_empty() && !refusal.fix.is_empty()));
                self.refused += 1;
                let executed = refused.iter().any(|refusal| refusal.code == "executed_message");
                let messages = run.executed.keys().copied().collect();
                let fact = fact(run, new, (messages, None), extends, process);
                let fits = process.state.clone().apply(&fact, BootId::default());
                assert!(!executed || fits.is_err(), "what the rules lock, the ledger refuses");
                return false;
            }
        };
        let is_new = !change.messages.is_empty() || change.graph.is_some();
        if !is_new || (!extends && !run.state.is_live()) {
            return false;
        }
        let fact = fact(run, new, (change.messages.clone(), Some(&change)), extends, process);
        if rng.chance(0.5) {
            process.commit_durable(fact)
        } else {
            process.commit(fact)
        }
        self.taken += 1;
        true
    }
}

fn fact(
    run: &Run,
    spec: &CampaignSpec,
    (messages, change): (Vec<MessageId>, Option<&Change>),
    extends: bool,
    process: &Process,
) -> Fact {
    let entered = |compiled: &Compiled| -> Vec<DeliveryEntered> {
        let each = compiled.deliveries.iter().map(|plan| DeliveryEntered {
            channel: plan.channel,
            topic: plan.topic.clone(),
            connector: "relay".to_owned(),
            mode: plan.mode,
            audience: RowSet { space: run.space(), rows: RoaringBitmap::new() },
            skipped: Vec::new(),
            summary: None,
        });
        each.collect()
    };
    let graph = change.and_then(|change| change.graph.clone());
    let (newest, _) = process.state.campaigns[&CampaignId(1)].newest().expect("a version");
    Fact::Edited(Box::new(Edited {
        campaign: run.campaign,
        run: run.id,
        from: run.version,
        version: newest + 1,
        spec: spec.to_json(),
        messages,
        deliveries: change.filter(|_| graph.is_some()).map(|change| entered(&change.compiled)).unwrap_or_default(),
        graph,
        extends,
        at: process.now,
    }))
}
