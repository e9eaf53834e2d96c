//! Sequences in virtual time: publications, edits, extensions, requests, claims, outcomes, clocks that jump, and kills between
//! any two facts.
//!
//! What is real: the facts and their fold, what a sequence does next, which versions are refused and what they compile to.
//! What is simulated: the base, the provider, the disk (a list of frames).

use std::collections::BTreeSet;

use estafette::actors::flowing::{self, Task};
use estafette::actors::sequencing::{is_behind_skipped, is_drained, may_enter, may_release};
use estafette::campaigns::sequence::{Lock, alerts, plan};
use estafette::campaigns::spec::steps::StepSpec;
use estafette::campaigns::{CampaignSpec, Format, parse};
use estafette::clock::Timestamp;
use estafette::engine::sequences::look;
use estafette::engine::sequences::publish::publication;
use estafette::flow::{Exit, NodeKind};
use estafette::ids::{CampaignId, RunId};
use estafette::ledger::flowing::{Joined, Moved};
use estafette::ledger::sequence::{CopySaved, Entered, StepReleased};
use estafette::ledger::{Fact, RowSet, Run, RunState};
use estafette::segments::skip::SkipReason;
use roaring::RoaringBitmap;

use crate::channel::Process;
use crate::rng::Rng;
use crate::seeds::for_each_seed;

const CAMPAIGN: CampaignId = CampaignId(1);
const RUN: RunId = RunId(1);
const ROWS: u32 = 120;
const GRACE: std::time::Duration = std::time::Duration::from_secs(300);

const HEAD: &str = r#"
name = "sim"
kind = "sequence"
zone = "UTC"
[audience]
all = true
[message]
channel = "email"
connector = "relay"
topic = "news"
from = "a@b.test"
subject = "S"
text = "T"
"#;

fn text_of(at: Timestamp) -> String {
    at.to_string()
}

/// A step of a random kind behind the ones before, dated `at`; answers where the next may stand.
fn step(rng: &mut Rng, number: usize, after: &str, at: Option<Timestamp>) -> (String, Vec<String>) {
    let id = format!("s{number}");
    let limit = if rng.chance(0.3) { "too_late = \"30m\"\n" } else { "" };
    let at = at.map_or(String::new(), |at| format!("at = {:?}\n{limit}", text_of(at)));
    let after = if after.is_empty() { String::new() } else { format!("after = {after:?}\n") };
    let head = format!("[[steps]]\nid = \"{id}\"\n{after}{at}");
    match rng.below(6) {
        0 => {
            let by = [
                "by = \"weights\"\nbranches = [{ name = \"a\", weight = 1 }, { name = \"b\", weight = 2 }]\n",
                "by = \"at_most\"\nbranches = [{ name = \"a\", at_most = 20 }]\n",
                "by = \"segments\"\nbranches = [{ name = \"a\", segment = 'm3' }]\n",
            ];
            let which = rng.below(3) as usize;
            let other = if which == 0 { "b" } else { "remaining" };
            (format!("{head}kind = \"split\"\n{}", by[which]), vec![format!("{id}.a"), format!("{id}.{other}")])
        }
        1 => (format!("{head}kind = \"set_attribute\"\nattribute = \"x\"\nvalue = 1\n"), vec![id]),
        _ => {
            let late = if rng.chance(0.3) { "late = \"skip\"\n" } else { "" };
            let message = match rng.below(5) {
                0 => ", default_language = \"en\", languages = { de = { subject = \"d\" } }",
                1 => ", default_language = \"en\", languages = { de = { subject = \"d\" }, fr = { subject = \"f\" } }",
                _ => "",
            };
            (format!("{head}kind = \"send\"\n{late}message = {{ subject = \"{id}\"{message} }}\n"), vec![id])
        }
    }
}

struct World {
    process: Process,
    /// Contacts of the cohort, once it is fixed.
    cohort: Option<u64>,
    steps: usize,
    requests: u32,
    published: u32,
    /// Contacts whose entry was acknowledged.
    entered: RoaringBitmap,
    extended: u32,
}

impl World {
    fn new(rng: &mut Rng) -> World {
        let now = Timestamp(1_795_000_000_000);
        let by_request = rng.chance(0.3);
        let mut text = HEAD.to_owned();
        if by_request {
            text = text.replace("zone = ", "starter = \"api\"\nzone = ").replace("[audience]\nall = true\n", "");
        }
        let mut open = vec![String::new()];
        let mut at = now.0 + 1_000;
        let count = rng.between(1, 5) as usize;
        let mut undated = by_request;
        for number in 0..count {
            let pick = rng.below(open.len() as u64) as usize;
            let after = open.remove(pick);
            undated &= rng.chance(0.6);
            at += i64::try_from(rng.below(3) * 3_600_000).expect("small");
            let (written, exits) = step(rng, number, &after, (!undated).then_some(Timestamp(at)));
            text.push_str(&written);
            open.extend(exits);
        }
        let spec = parse(&text, Format::Toml).unwrap_or_else(|error| panic!("{error}: {text}"));
        let mut world = World {
            process: Process::new(now),
            cohort: None,
            steps: count,
            requests: 0,
            published: 0,
            entered: RoaringBitmap::new(),
            extended: 0,
        };
        world.process.commit(Fact::CampaignSaved { campaign: CAMPAIGN, spec: parse::to_stored(&spec), at: now });
        world.publish();
        world
    }

    fn run(&self) -> &Run {
        &self.process.state.runs[&RUN]
    }

    fn spec(&self) -> CampaignSpec {
        look::spec_of(&self.process.state, CAMPAIGN, self.run().version).expect("the version in force")
    }

    /// Publishes what there is, unless dates or locks forbid it. Answers whether it was.
    fn publish(&mut self) -> bool {
        let Ok((fact, spec, _)) = publication(&self.process.state, CAMPAIGN, self.process.now, GRACE) else {
            return false;
        };
        let started: BTreeSet<String> = match self.process.state.runs.get(&RUN) {
            Some(run) => {
                let locks = look::locks(run, &self.spec(), self.process.now).into_iter();
                locks.filter(|(_, lock)| *lock == Lock::Executed).map(|(id, _)| id).collect()
            }
            None => BTreeSet::new(),
        };
        let (plan, wrong) = plan::read(&spec);
        if !wrong.is_empty() || !alerts::alerts(&plan, self.process.now, &started).is_empty() {
            return false;
        }
        let before = self.process.state.runs.get(&RUN).cloned();
        self.process.commit_durable(Fact::SequencePublished(Box::new(fact)));
        self.published += 1;
        if let Some(before) = before {
            let after = self.run();
            assert_eq!(before.positions.total(), after.positions.total(), "nobody came or went");
            for (gate, at) in &before.sequence.as_ref().expect("a sequence").started {
                assert_eq!(before.graph.node(*gate), after.graph.node(*gate), "{gate} started at {at}");
            }
            for (old, new) in before.deliveries.iter().zip(&after.deliveries) {
                assert!(old.audience.is_empty() || old == new, "a delivery that was entered never changes");
            }
        }
        true
    }

    /// A person edits what runs, or extends what is finished: a random change, allowed or not.
    fn edit(&mut self, rng: &mut Rng) {
        let extends = self.run().state == RunState::Finished;
        if !extends && !matches!(self.run().state, RunState::Running | RunState::Paused) {
            return;
        }
        let (mut spec, at) = (self.spec(), self.process.now);
        let open = |spec: &CampaignSpec| parse::to_stored(spec);
        self.process.commit_durable(Fact::CopySaved(CopySaved {
            campaign: CAMPAIGN,
            spec: open(&spec),
            opens: true,
            extends,
            at,
        }));
        if rng.chance(0.2) {
            // Meanwhile it goes on.
            self.process.now.0 += i64::try_from(rng.between(1, 7_200_000)).expect("small");
            while self.step(rng) {}
        }
        let pick = rng.below(spec.steps.len() as u64) as usize;
        let later = Timestamp(self.process.now.0 + i64::try_from(rng.between(1_000, 7_200_000)).expect("small"));
        match rng.below(6) {
            0 => drop(spec.steps.remove(pick)),
            4 => {
                let message = &mut spec.steps[pick].message;
                message.default_language = Some("en".to_owned());
                if message.languages.remove("de").is_none() {
                    message.languages.insert("de".to_owned(), message.fields.clone());
                }
            }
            1 => drop(spec.message.fields.insert("subject".into(), format!("v{}", self.published).into())),
            2 => drop(spec.steps[pick].message.fields.insert("subject".into(), format!("v{}", self.published).into())),
            3 => spec.steps[pick].at = Some(estafette::campaigns::schedule::fields::TimeText(text_of(later))),
            _ => {
                let (plan, _) = plan::read(&spec);
                let free: Vec<(String, Option<Timestamp>)> = plan
                    .steps
                    .iter()
                    .flat_map(|step| {
                        let origins =
                            step.exits.iter().map(|exit| plan::Origin::Exit { step: step.place, exit: exit.clone() });
                        let free = origins.filter(|origin| plan.target(origin).is_none());
                        free.map(|origin| (plan.origin_name(&origin), step.planned)).collect::<Vec<_>>()
                    })
                    .collect();
                let (after, planned) = rng.pick(&free).cloned().unwrap_or_default();
                let date = planned.map_or(later, |planned| planned.max(later));
                let (text, _) = step(rng, self.steps, &after, Some(date));
                self.steps += 1;
                let added = parse(&text, Format::Toml).expect("a step").steps;
                spec.steps.extend(added.into_iter().map(|step| StepSpec { number: None, ..step }));
            }
        }
        let closed = self.process.state.sequences[&CAMPAIGN].copy.as_ref().is_none_or(|copy| copy.closed_by.is_some());
        if !closed {
            let at = self.process.now;
            self.process.commit_durable(Fact::CopySaved(CopySaved {
                campaign: CAMPAIGN,
                spec: open(&spec),
                opens: false,
                extends,
                at,
            }));
        }
        let published = self.publish();
        self.extended += u32::from(published && extends);
    }

    fn enter(&mut self, rng: &mut Rng) {
        if may_enter(self.run(), self.process.now).is_err() {
            return;
        }
        let wanted: RoaringBitmap = (0..rng.between(1, 20)).map(|_| rng.below(u64::from(ROWS)) as u32).collect();
        let inside = self.run().positions.iter().fold(RoaringBitmap::new(), |all, (_, rows)| all | (rows & &wanted));
        self.requests += 1;
        let request = Some((format!("r{}", self.requests), 0));
        let (rows, version, at) = (RowSet::base(&wanted - &inside), self.run().version, self.process.now);
        self.entered |= &rows.rows;
        self.process.commit_durable(Fact::Entered(Entered {
            run: RUN,
            version,
            rows,
            request,
            already: inside.len(),
            at,
        }));
    }

    fn step(&mut self, rng: &mut Rng) -> bool {
        let Some(task) = flowing::next_task(self.run(), self.process.now) else { return self.release(rng) };
        let at = self.process.now;
        let fact = match task {
            Task::Record(fact) => fact,
            Task::Share { run, node, rows, shares } => {
                flowing::share_out(run, node, &rows, &shares, at).expect("shares")
            }
            Task::Sort { node, rows, by, rest } => {
                let part = |of: u32| rows.iter().filter(|row| row % 3 == of).collect::<RoaringBitmap>();
                let mut exits: Vec<_> = (0..2).zip(&by).map(|(of, (exit, _))| (exit.clone(), part(of))).collect();
                let left = exits.iter().fold(rows.clone(), |left, (_, taken)| left - taken);
                exits.push((rest, left));
                exits.retain(|(_, rows)| !rows.is_empty());
                Fact::Moved(Moved { run: RUN, node, exits, at })
            }
            Task::Join { delivery, node, rows } => {
                let send = self.run().graph.send_of_all(node);
                let late = self.run().sequence.as_ref().and_then(|s| s.late.get(&send));
                let late = match is_behind_skipped(self.run(), node) {
                    true => rows.clone(),
                    false => late.map_or_else(RoaringBitmap::new, |late| late & &rows),
                };
                let out: RoaringBitmap = (&rows - &late).iter().filter(|_| rng.chance(0.1)).collect();
                let skipped = [(SkipReason::Late, late), (SkipReason::Unsubscribed, out)];
                let skipped = skipped.into_iter().filter(|(_, rows)| !rows.is_empty()).collect();
                Fact::Joined(Joined { delivery, node, rows: RowSet::base(rows), skipped, at })
            }
            Task::Clocks { node, .. } => panic!("{node}: a sequence has no delay by clocks"),
            Task::Cohort { run } => {
                let rows: RoaringBitmap = (0..rng.below(u64::from(ROWS)) as u32).collect();
                self.cohort = Some(rows.len());
                let version = self.run().version;
                Fact::Entered(Entered { run, version, rows: RowSet::base(rows), request: None, already: 0, at })
            }
            Task::SetAttribute { node, rows, .. } => {
                Fact::Moved(Moved { run: RUN, node, exits: vec![(Exit::NEXT, rows)], at })
            }
            Task::Look { .. } => unreachable!("a sequence has no tests"),
        };
        if let Fact::StepStarted(started) = &fact {
            assert!(is_drained(self.run(), started.node), "nobody before {} is pending or claimed", started.step);
            match self.run().graph.node(started.node).map(|n| &n.kind) {
                Some(NodeKind::Step(gate)) => {
                    assert!(gate.effective <= at.0, "never early");
                    let released = self.run().sequence.as_ref().is_some_and(|s| s.released.contains_key(&started.node));
                    assert!(released || !gate.is_too_late(at.0), "never late by itself");
                }
                other => panic!("{other:?}"),
            }
        }
        self.process.commit(fact);
        true
    }

    /// A person starts, or skips, a step that is held back. Answers whether there was one.
    fn release(&mut self, rng: &mut Rng) -> bool {
        let (run, at) = (self.run(), self.process.now);
        let skip = rng.chance(0.3);
        let gates = run.graph.nodes().filter(|node| matches!(node.kind, NodeKind::Step(_))).map(|node| node.id);
        let held: Vec<_> = gates
            .filter_map(|gate| {
                let skips = skip && may_release(run, gate, true, at).is_ok();
                may_release(run, gate, skips, at).is_ok().then_some((gate, skips))
            })
            .collect();
        if held.is_empty() {
            return false;
        }
        let Some((node, skip)) = rng.pick(&held).copied() else { return false };
        self.process.commit_durable(Fact::StepReleased(StepReleased { run: RUN, node, skip, at }));
        true
    }

    /// The process dies. A cohort that was fixed and not yet synced may be looked for anew.
    fn crash(&mut self, power: bool, rng: &mut Rng) {
        self.process.crash(power, rng);
        if self.run().expects_contacts() && self.run().positions.total() == 0 {
            self.cohort = None;
        }
    }

    fn check(&self) {
        let run = self.run();
        self.process.check(run);
        let inside = run.positions.iter().fold(RoaringBitmap::new(), |all, (_, rows)| all | rows);
        assert!(self.entered.is_subset(&inside), "whose entry was acknowledged is in");
        if let Some(cohort) = self.cohort {
            assert_eq!(run.positions.total(), cohort, "the cohort is what it was at its start");
        }
    }

    /// Everything that happens by itself, to the end; `false` if it waits for requests that never come.
    fn run_to_the_end(&mut self, rng: &mut Rng) -> bool {
        if self.run().state == RunState::Paused {
            self.process.move_to(RUN, RunState::Running);
        }
        for _ in 0..3_000 {
            while self.step(rng) {
                self.check();
            }
            self.process.claim(RUN, rng);
            self.process.hand_over(rng);
            if self.run().is_finished() {
                if self.run().state != RunState::Finished {
                    self.process.move_to(RUN, RunState::Finished);
                }
                self.process.sync();
                self.check();
                self.process.check_end(self.run());
                return true;
            }
            if self.run().expects_contacts() && self.run().first_start().is_none() {
                return false;
            }
            self.process.now.0 += 600_000;
        }
        panic!("it does not end: {:?} {:?}", self.run().counts(), self.run().positions);
    }
}

/// Answers how many versions were published, and how many of them were extensions.
fn one(rng: &mut Rng) -> (u32, u32) {
    let mut world = World::new(rng);
    assert_eq!(world.published, 1, "the draft is sound");
    for _ in 0..rng.between(20, 160) {
        match rng.below(22) {
            0..=6 => drop(world.step(rng)),
            7..=9 => world.process.claim(RUN, rng),
            10..=12 => world.process.hand_over(rng),
            13 => world.crash(false, rng),
            18 => world.crash(true, rng),
            19 => world.process.sync(),
            14 => world.process.now.0 += i64::try_from(rng.between(1, 3_600_000)).expect("small"),
            // The clock is set back.
            15 if rng.chance(0.2) => world.process.now.0 -= i64::try_from(rng.between(1, 600_000)).expect("small"),
            16 => world.edit(rng),
            17 => world.enter(rng),
            _ => match world.run().state {
                RunState::Running if rng.chance(0.2) => world.process.move_to(RUN, RunState::Paused),
                RunState::Running if world.run().is_finished() => world.process.move_to(RUN, RunState::Finished),
                RunState::Paused => world.process.move_to(RUN, RunState::Running),
                _ => {}
            },
        }
        world.check();
    }
    for _ in 0..3 {
        if world.run_to_the_end(rng) {
            world.crash(false, rng);
            world.edit(rng);
        }
    }
    (world.published, world.extended)
}

#[test]
fn sequences_keep_their_cohort_and_mail_nobody_twice_whatever_is_edited_or_dies() {
    let (mut published, mut extended) = (0, 0);
    let ran = for_each_seed("sequences", 1_500, |_, rng| {
        let (versions, extensions) = one(rng);
        published += u64::from(versions);
        extended += u64::from(extensions);
    });
    eprintln!("{published} versions of {ran} sequences, {extended} of them extensions");
    assert!(published > ran, "some edits were published: {published} of {ran} runs");
    assert!(extended > 0 || ran < 100, "some of them were extensions");
}
