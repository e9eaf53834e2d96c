//! Runs that have ended take little memory: their sets are stored as runs of rows where that is shorter.
//!
//! Nothing is forgotten by it. The sets of a campaign to a list that was imported at once are a few bytes then,
//! whatever its size; sets of people who opened or clicked take what their rows take.

use roaring::RoaringBitmap;

use crate::ledger::Run;
use crate::ledger::delivery::Delivery;
use crate::ledger::tracking::EventSets;

impl Run {
    /// To be called when the run has ended. What comes later (a click, a settled unknown) may be stored at length
    /// again.
    pub(super) fn compact(&mut self) {
        self.positions.each_set(&mut shorten);
        self.deliveries.iter_mut().for_each(compact_delivery);
        for message in self.messages.values_mut() {
            compact_events(&mut message.opened);
            compact_events(&mut message.clicked);
            message.links.values_mut().for_each(compact_events);
            shorten(&mut message.unsubscribed);
            for day in message.days.values_mut() {
                shorten(&mut day.opened);
                shorten(&mut day.clicked);
            }
        }
        self.flow.kept.values_mut().for_each(shorten);
        self.flow.happened.values_mut().for_each(shorten);
        for feedback in self.feedback.values_mut() {
            let seen = [&mut feedback.delivered, &mut feedback.hard, &mut feedback.soft, &mut feedback.policy];
            seen.into_iter().for_each(|seen| shorten(&mut seen.rows));
            shorten(&mut feedback.complained.rows);
            compact_events(&mut feedback.converted);
        }
    }
}

fn compact_delivery(delivery: &mut Delivery) {
    let one = [
        &mut delivery.audience,
        &mut delivery.pending,
        &mut delivery.held,
        &mut delivery.claimed,
        &mut delivery.deferred,
        &mut delivery.accepted,
        &mut delivery.unknown,
        &mut delivery.vouched,
    ];
    one.into_iter().for_each(shorten);
    delivery.rejected.values_mut().for_each(shorten);
    delivery.skipped.values_mut().for_each(shorten);
    delivery.deferrals.iter_mut().for_each(shorten);
    delivery.unknowns.iter_mut().for_each(shorten);
    for send in delivery.sends.values_mut() {
        shorten(&mut send.assigned);
        shorten(&mut send.waiting);
    }
}

fn compact_events(sets: &mut EventSets) {
    sets.rows.values_mut().for_each(shorten);
}

fn shorten(rows: &mut RoaringBitmap) {
    rows.optimize();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaigns::{self, Format};
    use crate::clock::Timestamp;
    use crate::ids::{BatchId, CampaignId, Channel, DeliveryId, MessageId, RunId};
    use crate::ledger::batch::BootId;
    use crate::ledger::facts::{Claimed, DeliveryEntered, RunStarted, Settled};
    use crate::ledger::rows::Positions;
    use crate::ledger::{Fact, Mode, RowSet, RunState, State, snapshot};

    const SPEC: &str = "name = \"a\"\n[audience]\nall = true\n[message]\nchannel = \"email\"\nconnector = \"relay\"\ntopic = \"news\"\n\
                        from = \"a@x.test\"\nsubject = \"s\"\ntext = \"t\"\n";
    const PEOPLE: u32 = 200_000;

    fn apply(state: &mut State, fact: &Fact) {
        state.apply(fact, BootId::default()).expect("the fact fits");
    }

    /// One more campaign, to everybody; a few of its messages bounce or are unknown.
    fn sent(state: &mut State, number: u32) {
        let (campaign, run, at) = (CampaignId(number), RunId(number), Timestamp(i64::from(number)));
        let delivery = DeliveryId { run, index: 0 };
        let compiled =
            campaigns::compile(&campaigns::parse(SPEC, Format::Toml).expect("it parses")).expect("it compiles");
        apply(state, &Fact::CampaignSaved { campaign, spec: SPEC.into(), at });
        let entered = DeliveryEntered {
            channel: Channel::Email,
            topic: "news".into(),
            connector: "relay".into(),
            mode: Mode::Strict,
            audience: RowSet::base((0..PEOPLE).collect()),
            skipped: Vec::new(),
            summary: None,
        };
        let (graph, deliveries, entrants) = (compiled.graph, vec![entered], RowSet::default());
        let started = RunStarted { run, campaign, version: 1, graph, deliveries, at, entrants };
        apply(state, &Fact::RunStarted(Box::new(started)));
        let claimed = Claimed {
            batch: BatchId(u64::from(number)),
            delivery,
            connector: "relay".into(),
            message: MessageId(0),
            rows: (0..PEOPLE).collect(),
            positions: Positions::from_sorted(0..PEOPLE),
            at,
            domain: None,
        };
        apply(state, &Fact::Claimed(claimed));
        let mut settled = Settled::new(BatchId(u64::from(number)), delivery, at);
        settled.unknown = (0..PEOPLE).filter(|row| row % 20_000 == number % 20_000).collect();
        settled.accepted = &RoaringBitmap::from_iter(0..PEOPLE) - &settled.unknown;
        apply(state, &Fact::Settled(settled));
    }

    fn finished(state: &mut State, number: u32) {
        let (run, to) = (RunId(number), RunState::Finished);
        apply(state, &Fact::RunMoved { run, to, reason: String::new(), at: Timestamp(i64::from(number)) });
    }

    fn bytes(state: &State) -> usize {
        snapshot::encode(state).expect("it encodes").len()
    }

    #[test]
    fn five_hundred_finished_campaigns_take_little() {
        let mut state = State::default();
        sent(&mut state, 1);
        let running = bytes(&state);
        let before = state.runs[&RunId(1)].counts();
        finished(&mut state, 1);
        let one = bytes(&state);
        assert_eq!(state.runs[&RunId(1)].counts(), before, "nothing is forgotten");
        assert!(one * 10 < running, "{one} bytes, {running} while it ran");
        for number in 2..=500 {
            sent(&mut state, number);
            finished(&mut state, number);
        }
        state.check().expect("the sets still partition");
        let all = bytes(&state);
        assert!(all < 500 * 8 * 1_024, "{all} bytes for 500 campaigns to {PEOPLE} contacts");
        let again = snapshot::decode(&snapshot::encode(&state).expect("it encodes")).expect("it decodes");
        assert!(again == state, "and comes back the same");
    }

    #[test]
    fn an_ended_run_goes_on_when_an_unknown_is_settled() {
        let mut state = State::default();
        sent(&mut state, 1);
        finished(&mut state, 1);
        let delivery = DeliveryId { run: RunId(1), index: 0 };
        let rows = RowSet::base(state.runs[&RunId(1)].deliveries[0].unknown.clone());
        let count = rows.rows.len();
        apply(&mut state, &Fact::UnknownSettled { delivery, rows, resend: true, at: Timestamp(9) });
        let run = &state.runs[&RunId(1)];
        assert_eq!((run.counts().pending, run.counts().unknown, run.state), (count, 0, RunState::Running));
        run.deliveries[0].check().expect("balanced");
    }
}
