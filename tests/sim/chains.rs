//! Chains of runs in virtual time: a first one to the base or to an upload, with a control group or without, then resends of it
//! and of its resends, some at the same time; kills and power losses between any two facts.
//!
//! What is real: the facts and their fold, who is in the control group, to whom a resend may go, what follows. What is
//! simulated: the base, the process and its channel ([`crate::channel`]).

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;

use estafette::actors::decide;
use estafette::actors::flowing;
use estafette::campaigns::{Format, compile, parse};
use estafette::clock::Timestamp;
use estafette::contacts::one_shot::UploadSummary;
use estafette::engine::hold_out::Group;
use estafette::engine::resend;
use estafette::flow::nodes::SampleSize;
use estafette::ids::{CampaignId, Channel, RowSpace, RunId};
use estafette::ledger::details::{DetailsRemoved, Needs};
use estafette::ledger::facts::{DeliveryEntered, RunStarted};
use estafette::ledger::links::{ResendSet, family};
use estafette::ledger::tracking::{EventClass, Tracked, TrackedKind, day_of};
use estafette::ledger::uploads::{AudienceRemoved, AudienceUploaded};
use estafette::ledger::{Fact, Mode, RowSet, RunState, snapshot};
use estafette::segments::audience::{AudienceSummary, Eligibility};
use estafette::segments::skip::SkipReason;

use crate::channel::Process;
use crate::moves;
use crate::rng::Rng;
use crate::seeds::for_each_seed;

const FIRST: RunId = RunId(1);
const ROWS: u32 = 120;
const UPLOAD: RowSpace = RowSpace(1);
const RESENDS_MAX: u32 = 4;

const MESSAGE: &str = r#"
[message]
channel = "email"
connector = "relay"
topic = "news"
from = "a@b.test"
subject = "S"
text = "T"
"#;
const SPLIT: &str = "[[variants]]\nsubject = \"1\"\n[[variants]]\nsubject = \"2\"\n\
                     [test]\nsample = \"40%\"\ndecide_after = \"30m\"\nif_not_proven = \"leader\"\n";

struct World {
    process: Process,
    space: RowSpace,
    /// The control group of the first run.
    held_out: RoaringBitmap,
    /// Which run each resend continues.
    parents: BTreeMap<RunId, RunId>,
}

fn first_spec(rng: &mut Rng, one_shot: bool) -> String {
    let kind = ["single", "single", "ab_split"][rng.below(3) as usize];
    let audience = if one_shot { "upload = \"1\"\nconsent_confirmed = true" } else { "all = true" };
    let message = if one_shot { MESSAGE.replace("topic = \"news\"\n", "") } else { MESSAGE.to_owned() };
    let mut text = format!("name = \"first\"\nkind = \"{kind}\"\n[audience]\n{audience}\n{message}");
    if kind == "ab_split" {
        text.push_str(SPLIT);
    }
    if rng.chance(0.4) {
        text.push_str("[follow_up]\non = \"not_opened\"\nafter = \"2h\"\n");
    }
    text
}

/// A summary of an upload of [`ROWS`] rows.
fn summary() -> UploadSummary {
    UploadSummary {
        bytes: 4_000,
        encoding: "UTF-8".to_owned(),
        delimiter: ',',
        total: u64::from(ROWS),
        valid: u64::from(ROWS),
        invalid: 0,
        invalid_by: Default::default(),
        left_out: Default::default(),
        addresses: Default::default(),
        columns: Vec::new(),
    }
}

impl World {
    fn new(rng: &mut Rng) -> World {
        let process = Process::new(Timestamp(1_795_000_000_000));
        let space = if rng.chance(0.4) { UPLOAD } else { RowSpace::BASE };
        let mut world = World { process, space, held_out: RoaringBitmap::new(), parents: BTreeMap::new() };
        let at = world.process.now;
        if space == UPLOAD {
            world.process.commit_durable(Fact::AudienceUploaded(Box::new(AudienceUploaded {
                space,
                name: "fair".to_owned(),
                channel: Channel::Email,
                summary: summary(),
                request: None,
                by: "admin".to_owned(),
                at,
            })));
        }
        let text = first_spec(rng, space == UPLOAD);
        let size = [None, Some(SampleSize::Share(2_000)), Some(SampleSize::Contacts(7))][rng.below(3) as usize];
        let no_address: RoaringBitmap = (0..11).collect();
        let mut eligibility = Eligibility {
            eligible: (0..ROWS).filter(|row| !no_address.contains(*row)).collect(),
            skipped: vec![(SkipReason::NoAddress, no_address)],
        };
        let before = eligibility.eligible.clone();
        let mut summary = AudienceSummary { final_count: before.len(), ..AudienceSummary::default() };
        Group::new(FIRST, size).leave_out(&mut summary, &mut eligibility).expect("a group");
        world.held_out = &before - &eligibility.eligible;
        let wanted = size.map_or(0, |size| size.of(before.len()));
        assert_eq!(world.held_out.len(), wanted, "the control group is exactly as large as asked for");
        world.start(FIRST, &text, (0..ROWS).collect(), &eligibility.skipped);
        world
    }

    fn start(&mut self, run: RunId, text: &str, audience: RoaringBitmap, skipped: &[(SkipReason, RoaringBitmap)]) {
        let spec = parse(text, Format::Toml).unwrap_or_else(|error| panic!("{error} in {text}"));
        let compiled = compile(&spec).unwrap_or_else(|error| panic!("{error} in {text}"));
        let (at, campaign) = (self.process.now, CampaignId(run.0));
        self.process.commit(Fact::CampaignSaved { campaign, spec: parse::to_stored(&spec), at });
        let deliveries = compiled.deliveries.iter().map(|plan| DeliveryEntered {
            channel: Channel::Email,
            topic: "news".to_owned(),
            connector: "relay".to_owned(),
            mode: Mode::Strict,
            audience: RowSet {
                space: self.space,
                rows: if plan.on_arrival { RoaringBitmap::new() } else { audience.clone() },
            },
            skipped: if plan.on_arrival { Vec::new() } else { skipped.to_vec() },
            summary: None,
        });
        let (version, deliveries, entrants) =
            (1, deliveries.collect(), RowSet { space: self.space, rows: RoaringBitmap::new() });
        let graph = compiled.graph.clone();
        let started = RunStarted { run, campaign, version, graph, deliveries, at, entrants };
        self.process.commit_durable(Fact::RunStarted(Box::new(started)));
    }

    fn live(&self) -> Vec<RunId> {
        self.process.state.runs.values().filter(|run| run.state.is_live()).map(|run| run.id).collect()
    }

    fn ended(&self) -> Vec<RunId> {
        self.process.state.runs.values().filter(|run| !run.state.is_live()).map(|run| run.id).collect()
    }

    /// A person sends to a set of an ended run again; sometimes another one does so between the look and the start.
    fn resend(&mut self, rng: &mut Rng) {
        let Some(of) = rng.pick(&self.ended()).copied() else { return };
        let names = ResendSet::names();
        let set = rng.pick(&names).expect("a set").clone();
        let found = resend::rows(&self.process.state, of, &set);
        if self.space != RowSpace::BASE {
            assert!(found.is_err(), "rows of an upload are not sent to again: {set}");
            return;
        }
        // An error: nobody of the first message is in it.
        let Ok((rows, seen)) = found else { return };
        if rows.is_empty() {
            return;
        }
        if rng.chance(0.3) && self.parents.len() < RESENDS_MAX as usize {
            self.begin_resend(of, &set, rows.clone(), rng);
            assert!(resend::is_still(&self.process.state, of, seen).is_err(), "another resend came between");
            return;
        }
        resend::is_still(&self.process.state, of, seen).expect("nobody came between");
        self.begin_resend(of, &set, rows, rng);
    }

    fn begin_resend(&mut self, of: RunId, set: &str, rows: RoaringBitmap, rng: &mut Rng) {
        let run = RunId(self.process.state.next_run);
        let text = format!("name = \"resend {}\"\n{MESSAGE}\n[resend]\nrun = {}\nset = \"{set}\"\n", run.0, of.0);
        let out: RoaringBitmap = rows.iter().filter(|_| rng.chance(0.1)).collect();
        let skipped = if out.is_empty() { Vec::new() } else { vec![(SkipReason::Unsubscribed, out)] };
        self.start(run, &text, rows, &skipped);
        self.parents.insert(run, of);
        let linked = self.process.state.links.get(&run).map(|link| link.of);
        assert_eq!(linked, Some(of), "the run knows what it continues");
    }

    /// What a person, a reader or the run's own actor does with one run.
    fn look(&mut self, run: RunId, rng: &mut Rng) {
        let (at, found) = (self.process.now, &self.process.state.runs[&run]);
        if let Some(fact) = decide::next_to_stop(found, at) {
            return self.process.commit(fact);
        }
        match found.state {
            RunState::Running if found.is_finished() => self.process.move_to(run, RunState::Finished),
            RunState::Running if rng.chance(0.05) => self.process.move_to(run, RunState::Paused),
            RunState::Running if rng.chance(0.01) => self.process.move_to(run, RunState::Stopping),
            RunState::Paused => self.process.move_to(run, RunState::Running),
            _ => {}
        }
    }

    fn person(&mut self, run: RunId) {
        if let Ok(decided) =
            flowing::by_person(&self.process.state.runs[&run], None, Some("A"), "ann", self.process.now)
        {
            self.process.commit_durable(Fact::Decided(decided));
        }
    }

    fn comes_back(&mut self, rng: &mut Rng) {
        let Some(((run, _, row), message)) = self.process.reader(rng) else { return };
        let kind = if rng.chance(0.5) { TrackedKind::Opened } else { TrackedKind::Clicked { link: 0 } };
        let (rows, class, at) = (RoaringBitmap::from_iter([row]), EventClass::Human, self.process.now);
        self.process.commit(Fact::Tracked(Tracked { run, message, kind, class, rows, total: 1, was: None, at }));
    }

    fn mailed(&self, run: RunId) -> RoaringBitmap {
        let of_run = self.process.mailed.range((run, 0, 0)..(RunId(run.0 + 1), 0, 0));
        of_run.map(|((.., row), _)| *row).collect()
    }

    fn ancestors(&self, run: RunId) -> BTreeSet<RunId> {
        std::iter::successors(Some(run), |run| self.parents.get(run).copied()).skip(1).collect()
    }

    fn check(&self) {
        self.process.state.check().expect("sound");
        for run in self.process.state.runs.values() {
            self.process.check(run);
            assert!(run.deliveries.iter().all(|delivery| delivery.space == self.space), "rows of one space");
        }
        assert!(self.mailed(FIRST).is_disjoint(&self.held_out), "the control group gets nothing, and no follow-up");
    }

    /// A contact gets the message again by one resend at most, unless it is a resend of that one.
    fn check_family(&self) {
        for one in self.parents.keys() {
            for other in self.parents.keys().filter(|other| *other > one) {
                if !self.ancestors(*other).contains(one) {
                    let both = self.mailed(*one) & self.mailed(*other);
                    assert!(both.is_empty(), "runs {one:?} and {other:?} went to the same: {both:?}");
                }
            }
        }
    }
}

/// What reports take of every run.
fn figures(world: &World) -> Vec<String> {
    let each = world.process.state.runs.values().map(|run| {
        let skipped: Vec<u64> =
            run.deliveries.iter().flat_map(|d| d.skipped.values()).map(RoaringBitmap::len).collect();
        let engaged = [false, true].map(|clicked| {
            let people = run.engaged(clicked);
            run.deliveries
                .iter()
                .map(|d| (d.accepted.intersection_len(&people), (&d.unknown - &people).len()))
                .collect()
        });
        let engaged: [Vec<(u64, u64)>; 2] = engaged;
        let at: Vec<_> = run.positions.iter().map(|(node, rows)| (node, rows.len())).collect();
        format!("{:?} {skipped:?} {engaged:?} {at:?}", run.counts())
    });
    each.collect()
}

/// Long after: details are removed, with a kill or a power loss between any two facts.
fn forget(world: &mut World, rng: &mut Rng) {
    let before = figures(world);
    world.process.now.0 += 100 * 86_400_000;
    let needs = Needs::default();
    for tick in 0.. {
        let now = world.process.now;
        let runs = world.process.state.removable(now, day_of(now), &needs, 1);
        let whole = runs.iter().all(|run| family(&world.process.state, *run).iter().all(|of| runs.contains(of)));
        assert!(whole, "a family at once: {runs:?}");
        if runs.is_empty() {
            break;
        }
        assert!(tick < 100, "it ends");
        world.process.commit(Fact::DetailsRemoved(DetailsRemoved { runs, at: now }));
        if tick < 10 && rng.chance(0.5) {
            world.process.crash(rng.chance(0.5), rng);
        } else {
            world.process.sync();
        }
        world.process.state.check().expect("sound");
        assert_eq!(figures(world), before, "no figure moves");
    }
    world.process.sync();
    world.process.crash(true, rng);
    let state = &world.process.state;
    assert!(state.runs.keys().all(|run| state.lacks_details(*run)), "all of them, and for good");
    assert_eq!(figures(world), before, "after a power loss");
    for run in state.runs.keys() {
        let refused = resend::rows(state, *run, "not_opened").expect_err("nobody is known");
        assert!(refused.to_string().contains("were removed"), "{refused}");
    }
    let bytes = snapshot::encode(state).expect("it encodes");
    assert!(snapshot::decode(&bytes).expect("it decodes") == *state, "a snapshot holds it");
}

/// Answers how many resends there were.
fn play(rng: &mut Rng) -> usize {
    let mut world = World::new(rng);
    for tick in 0..6_000u32 {
        let live = world.live();
        let may_resend = world.parents.len() < RESENDS_MAX as usize && tick < 400;
        if live.is_empty() && !may_resend {
            break;
        }
        let Some(run) = rng.pick(&live).copied() else {
            world.resend(rng);
            continue;
        };
        match rng.below(20) {
            0..=5 => drop(moves::step(&mut world.process, run, rng)),
            6..=8 => world.process.claim(run, rng),
            9..=12 => world.process.hand_over(rng),
            13 => world.comes_back(rng),
            14 if tick < 400 => world.process.crash(rng.chance(0.4), rng),
            15 => world.process.now.0 += i64::try_from(rng.between(1, 1_800_000)).expect("small"),
            16 => world.process.sync(),
            17 if may_resend => world.resend(rng),
            18 if rng.chance(0.1) => world.person(run),
            _ => world.look(run, rng),
        }
        world.check();
    }
    assert!(world.live().is_empty(), "every run ends: {:?}", world.live());
    world.process.sync();
    for run in world.process.state.runs.values() {
        world.process.check_end(run);
    }
    world.check_family();
    world.check();
    let forgets = rng.chance(0.5);
    if forgets {
        forget(&mut world, rng);
    }
    if world.space == UPLOAD {
        let (space, by, at) = (UPLOAD, "retention".to_owned(), world.process.now);
        assert!(world.process.state.needed_last(space).is_some(), "nobody needs it any more");
        world.process.commit_durable(Fact::AudienceRemoved(AudienceRemoved { space, by, at }));
    }
    world.process.crash(true, rng);
    if !forgets {
        world.check();
    }
    world.parents.len()
}

#[test]
fn chains_of_runs_go_to_nobody_twice_and_leave_the_control_group_alone() {
    let mut resends = 0;
    let ran = for_each_seed("chains", 800, |_, rng| resends += play(rng) as u64);
    eprintln!("{resends} resends in {ran} chains");
    assert!(resends > ran / 2, "there were resends: {resends} in {ran} chains");
}
