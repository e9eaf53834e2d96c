//! Published schedules in virtual time: launches, steps of the clock in both directions, pauses, edits, and kills between any
//! two facts.
//!
//! What is real: the facts and their fold, what is due, what is done with it, what an edit makes of a plan. What is
//! simulated: the clock, the disk (a list of frames), the runs (they have nobody in them and end when they are told to).

use std::collections::BTreeSet;
use std::time::Duration;

use estafette::actors::launching::{self, Step, planned};
use estafette::campaigns::schedule::ScheduleFields;
use estafette::campaigns::{Format, compile, parse};
use estafette::clock::Timestamp;
use estafette::flow::Graph;
use estafette::ids::{CampaignId, RunId};
use estafette::ledger::batch::BootId;
use estafette::ledger::facts::RunStarted;
use estafette::ledger::plans::{Launched, PlanMoved, PlanState, Published, RunLaunch};
use estafette::ledger::{Fact, RunState, State, snapshot};

use crate::rng::Rng;
use crate::seeds::for_each_seed;

const CAMPAIGN: CampaignId = CampaignId(1);
const BOOT: BootId = BootId([7; 16]);
const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
/// 22 November 2026, in the morning.
const BEGIN: i64 = 1_795_334_400_000;

const SPEC: &str = r#"
name = "sim"
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

/// A schedule around `now`, not always one that can be published.
fn fields(rng: &mut Rng, now: i64) -> ScheduleFields {
    let zone = ["Europe/Paris", "America/New_York", "contact", "Australia/Lord_Howe"][rng.below(4) as usize];
    let words = ["day 02:30", "weekday 09:00", "hour", "15 minutes", "sunday and friday 17:00", "last day 23:59"];
    let ahead = |rng: &mut Rng| {
        let at = now + i64::try_from(rng.between(0, 5_000)).expect("small") * MINUTE - 600 * MINUTE;
        let at = jiff::Timestamp::from_millisecond(at).expect("a time").to_zoned(jiff::tz::TimeZone::UTC);
        format!("\"{}\"", at.datetime())
    };
    let mut text = match rng.below(3) {
        0 => format!("at = {}\n", ahead(rng)),
        1 => {
            let dates: BTreeSet<String> = (0..rng.between(2, 5)).map(|_| ahead(rng)).collect();
            format!("dates = [{}]\n", dates.into_iter().collect::<Vec<_>>().join(","))
        }
        _ => format!("every = \"{}\"\n", words[rng.below(6) as usize]),
    };
    text.push_str(&format!("zone = \"{zone}\"\n"));
    if rng.chance(0.6) {
        let late = ["1m", "2h", "1d", "4w"][rng.below(4) as usize];
        text.push_str(&format!("too_late = \"{late}\"\n"));
    }
    toml::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

struct World {
    state: State,
    frames: Vec<Vec<u8>>,
    /// Frames that no power loss takes.
    durable: usize,
    now: i64,
    safety: Duration,
    graph: Graph,
    /// By version, from 1; the first is a draft's.
    published: Vec<ScheduleFields>,
    last_published: i64,
    /// When the launches that were decided had been planned, in the order of their decisions; with the frame.
    decided: Vec<(usize, i64)>,
    /// Frames of launches.
    made: Vec<usize>,
    /// Nothing dies any more.
    quiet: bool,
}

impl World {
    fn new(rng: &mut Rng) -> World {
        let graph = compile(&parse(SPEC, Format::Toml).expect("a spec")).expect("compiles").graph;
        let safety = Duration::from_secs([0, 60, 300][rng.below(3) as usize]);
        let mut world = World {
            state: State::default(),
            frames: Vec::new(),
            durable: 0,
            now: BEGIN,
            safety,
            graph,
            published: Vec::new(),
            last_published: i64::MIN,
            decided: Vec::new(),
            made: Vec::new(),
            quiet: false,
        };
        world.commit(Fact::CampaignSaved { campaign: CAMPAIGN, spec: "{}".to_owned(), at: Timestamp(BEGIN) });
        while world.published.is_empty() {
            world.publish(rng);
        }
        world
    }

    fn commit(&mut self, fact: Fact) {
        if let Err(violation) = self.state.apply(&fact, BOOT) {
            panic!("the core made a fact that does not fit: {violation}: {fact:?}");
        }
        let frame = self.frames.len();
        self.frames.push(fact.encode().expect("encodes"));
        match &fact {
            Fact::Launched(fact) => {
                let (started, effective) = (fact.started.at, fact.made.effective);
                assert!(started >= effective, "made before its effective start");
                let earliest = Timestamp(self.last_published).plus(self.safety);
                assert!(effective >= earliest, "the safety time after the last publication");
                self.decided.push((frame, fact.made.launch.at.0));
                self.made.push(frame);
            }
            Fact::LaunchSkipped(fact) => self.decided.extend([(frame, fact.first.0), (frame, fact.last.0)]),
            Fact::Published(fact) => {
                self.last_published = fact.at.0;
                self.durable = self.frames.len();
            }
            // A person was told.
            Fact::PlanMoved(_) => self.durable = self.frames.len(),
            _ => {}
        }
    }

    fn publish(&mut self, rng: &mut Rng) {
        let fields = fields(rng, self.now);
        let open = self.state.plans.get(&CAMPAIGN).filter(|plan| plan.is_open());
        if open.is_none() && !self.published.is_empty() {
            return;
        }
        let now = Timestamp(self.now);
        let Ok(launch) = launching::first(&fields, open, now) else { return };
        let next = planned(launch, now, self.safety);
        let spec = (!self.published.is_empty()).then(|| "{}".to_owned());
        self.published.push(fields);
        let version = u32::try_from(self.published.len()).expect("small");
        self.commit(Fact::Published(Published { campaign: CAMPAIGN, version, spec, next, at: now, draft: None }));
    }

    /// One look at the plan, which a kill may cut short before the fact or after it. Answers whether there was anything.
    fn look(&mut self, rng: &mut Rng) -> bool {
        let now = Timestamp(self.now);
        if launching::due(&self.state, now).is_empty() {
            return false;
        }
        let plan = self.state.plans[&CAMPAIGN].clone();
        let fields = &self.published[plan.version as usize - 1];
        let schedule = launching::whole(fields).expect("it was published");
        let busy = launching::is_busy(&self.state, CAMPAIGN);
        let Some(step) = launching::next_step(CAMPAIGN, &plan, &schedule, self.safety, busy, now) else { return false };
        if !self.quiet && rng.chance(0.2) {
            // The process dies while the audience is evaluated.
            self.crash(false, rng);
            return true;
        }
        match step {
            Step::Skip(fact) => self.commit(Fact::LaunchSkipped(fact)),
            Step::Make { launch, next } => {
                let run = RunId(self.state.next_run.max(1));
                let graph = self.graph.clone();
                let version = plan.version;
                let (deliveries, entrants) = (Vec::new(), estafette::ledger::RowSet::default());
                let started = RunStarted { run, campaign: CAMPAIGN, version, graph, deliveries, at: now, entrants };
                let (launch, effective) = (launch.launch, launch.effective);
                let made = RunLaunch { launch, effective, default_zone: None, too_late_ms: None };
                self.commit(Fact::Launched(Box::new(Launched { started, made, next })));
            }
        }
        if !self.quiet && rng.chance(0.2) {
            self.crash(rng.chance(0.3), rng);
        }
        true
    }

    /// Answers whether there was one.
    fn end_a_run(&mut self) -> bool {
        let live = self.state.runs.values().find(|run| run.state.is_live()).map(|run| run.id);
        if let Some(run) = live {
            let at = Timestamp(self.now);
            self.commit(Fact::RunMoved { run, to: RunState::Finished, reason: String::new(), at });
        }
        live.is_some()
    }

    fn move_to(&mut self, to: PlanState) {
        if self.state.plans[&CAMPAIGN].is_open() {
            let at = Timestamp(self.now);
            self.commit(Fact::PlanMoved(PlanMoved { campaign: CAMPAIGN, to, reason: String::new(), at }));
        }
    }

    /// Dies. With the process goes what was not written, with the power perhaps all that was not synced.
    fn crash(&mut self, power: bool, rng: &mut Rng) {
        let bytes = |state: &State| snapshot::encode(state).expect("bytes");
        assert!(bytes(&self.folded()) == bytes(&self.state), "the fold of the facts is the state, byte for byte");
        let unsynced = self.frames.len() - self.durable;
        let most = if power { unsynced } else { unsynced.min(1) };
        self.frames.truncate(self.frames.len() - usize::try_from(rng.below(most as u64 + 1)).expect("small"));
        self.state = self.folded();
        let kept = self.frames.len();
        self.durable = kept;
        self.decided.retain(|(frame, _)| *frame < kept);
        self.made.retain(|frame| *frame < kept);
    }

    fn folded(&self) -> State {
        let mut state = State::default();
        for frame in &self.frames {
            state.apply(&Fact::decode(frame).expect("decodes"), BOOT).expect("fits");
        }
        state
    }

    fn check(&self) {
        // A skip of several names its first and its last, which may be one.
        let in_order = self.decided.windows(2).all(|pair| pair[0].1 <= pair[1].1);
        assert!(in_order, "launches are decided in order: {:?}", self.decided);
        let launches: Vec<_> = self.state.runs.values().filter_map(|run| run.launch.as_ref()).collect();
        let distinct: BTreeSet<i64> = launches.iter().map(|made| made.launch.at.0).collect();
        assert_eq!(distinct.len(), launches.len(), "no launch was made twice");
        let plan = &self.state.plans[&CAMPAIGN];
        let made = self.made.len() as u64;
        assert_eq!((launches.len() as u64, plan.made), (made, made), "one run a launch");
    }
}

/// Answers how many launches were made.
fn one(rng: &mut Rng) -> u64 {
    let mut world = World::new(rng);
    for _ in 0..rng.between(20, 150) {
        match rng.below(20) {
            0..=8 => drop(world.look(rng)),
            9..=12 => world.now += i64::try_from(rng.between(1, 600)).expect("small") * MINUTE,
            13 => world.now += i64::try_from(rng.between(1, 59_999)).expect("small"),
            14 => world.now += DAY,
            15 => world.now -= DAY,
            16 => world.publish(rng),
            17 => world.crash(rng.chance(0.5), rng),
            18 => drop(world.end_a_run()),
            _ if rng.chance(0.5) => world.move_to(PlanState::Paused),
            _ => world.move_to(PlanState::Active),
        }
        world.check();
    }
    world.move_to(PlanState::Active);
    world.quiet = true;
    // Quiet days: everything that falls due is decided, and nothing is left behind.
    for _ in 0..4 * 24 {
        for _ in 0..20_000 {
            let looked = world.look(rng);
            if !world.end_a_run() && !looked {
                break;
            }
        }
        let overdue = launching::due(&world.state, Timestamp(world.now));
        assert!(overdue.is_empty(), "overdue: {:?}", world.state.plans[&CAMPAIGN].next);
        world.check();
        world.now += 60 * MINUTE;
    }
    world.made.len() as u64
}

#[test]
fn no_launch_is_made_twice_and_none_is_left_whatever_the_clock_does_and_whatever_dies() {
    let mut made = 0;
    let ran = for_each_seed("schedules", 1_500, |_, rng| made += one(rng));
    assert!(made > ran, "launches were made: {made} in {ran} seeds");
}
