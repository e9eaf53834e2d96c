use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::campaigns;
use crate::config::connectors::{DomainLimits, RateLimits, RetrySettings, SimulatedSettings};
use crate::contacts::ContactInput;
use crate::engine::{Engine, EngineOptions};
use crate::ids::{CampaignId, RunId};
use crate::ledger::consent::ConsentStatus;
use crate::ledger::facts::ConsentChanged;
use crate::ledger::{Fact, RowSet, RunState};

const CONNECTOR: &str = "relay";

fn connector(latency: Duration, rate: RateLimits, domains: Vec<DomainLimits>) -> SimulatedSettings {
    SimulatedSettings {
        name: CONNECTOR.to_owned(),
        seed: 1,
        connections_max: 8,
        rate,
        domains,
        retry: RetrySettings::default(),
        credits_batches: 8,
        latency_min: latency,
        latency_max: latency,
        defer_share: 0.0,
        hard_bounce_share: 0.0,
        soft_bounce_share: 0.0,
        policy_share: 0.0,
        lost_before_share: 0.0,
        lost_after_share: 0.0,
        suppress_after_hard_bounces: 0,
    }
}

fn open(directory: &std::path::Path, settings: &SimulatedSettings) -> Arc<Engine> {
    let settings = ConnectorSettings::Simulated(settings.clone());
    let options = EngineOptions {
        directory: directory.to_owned(),
        connectors: vec![settings.clone()],
        public_url: "http://127.0.0.1:8026".to_owned(),
        return_path_domain: None,
        unsubscribe_mailbox: None,
        lane_threads: 2,
        aggregate_only: false,
        soft_bounces: crate::config::SoftRule::default(),
        caps: Vec::new(),
        publish_grace: crate::limits::PUBLISH_GRACE,
        restored: false,
        rejected_rows_kept: Duration::from_secs(86_400),
        tracking_kept: Duration::from_secs(86_400),
    };
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        // The threads of an engine that has drained let go of the directory one after another.
        let connector = Connector::open(settings.clone()).expect("no network");
        match Engine::open(options.clone(), vec![connector]) {
            Ok(engine) => return engine,
            Err(error) => assert!(Instant::now() < until, "the engine opens: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn add_contacts(engine: &Engine, addresses: impl Iterator<Item = String>) {
    let mut rows = roaring::RoaringBitmap::new();
    for address in addresses {
        let contact = ContactInput { key: address.clone(), email: Some(Some(address)), ..ContactInput::default() };
        rows.insert(engine.store.upsert(&contact, engine.book.now()).expect("a contact").row.0);
    }
    let consent = ConsentChanged {
        channel: Channel::Email,
        topic: "news".to_owned(),
        status: ConsentStatus::Subscribed,
        rows: RowSet::base(rows),
        source: "test".to_owned(),
        at: engine.book.now(),
    };
    engine.book.commit_durable(&Fact::ConsentChanged(consent)).expect("consent");
}

fn start(engine: &Engine) -> (CampaignId, RunId) {
    let spec = campaigns::parse::parse(
        "name = \"c\"\nkind = \"single\"\n[audience]\nall = true\n[message]\nchannel = \"email\"\nconnector = \"relay\"\n\
         topic = \"news\"\nfrom = \"News <news@example.test>\"\nsubject = \"Hello\"\ntext = \"Hello\"\n",
        campaigns::parse::Format::Toml,
    )
    .expect("a spec");
    let campaign = engine.save_campaign(None, &campaigns::parse::to_stored(&spec)).expect("saved");
    (campaign, engine.start(campaign).expect("started"))
}

fn accepted(engine: &Engine, run: RunId) -> roaring::RoaringBitmap {
    engine.book.read().runs[&run].deliveries[0].accepted.clone()
}

fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !reached() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A domain that one connection may serve takes its messages one after another, and the others go past it.
#[test]
fn a_domain_keeps_to_its_connections_and_delays_no_other() {
    let _system = actix::System::new();
    let directory = tempfile::tempdir().expect("a folder");
    let latency = Duration::from_millis(20);
    let slow = DomainLimits { domain: "slow.test".to_owned(), rate: RateLimits::default(), connections_max: Some(1) };
    let engine = open(directory.path(), &connector(latency, RateLimits::default(), vec![slow]));
    let (slow_rows, all_rows) = (100, 200);
    let address = |n| if n < slow_rows { format!("c{n}@slow.test") } else { format!("c{n}@fast.test") };
    add_contacts(&engine, (0..all_rows).map(address));
    let began = Instant::now();
    let (_, run) = start(&engine);
    let fast: roaring::RoaringBitmap = (slow_rows..all_rows).collect();
    wait_until("the other domain is done", || fast.is_subset(&accepted(&engine, run)));
    let slow_done = accepted(&engine, run).len() - fast.len();
    assert!(slow_done < u64::from(slow_rows), "the others did not wait for the slow domain");
    wait_until("the run is finished", || engine.book.read().runs[&run].state == RunState::Finished);
    assert!(began.elapsed() >= latency * slow_rows, "one connection at a time: {:?} is too fast", began.elapsed());
    assert_eq!(accepted(&engine, run).len(), u64::from(all_rows), "everybody got it");
    engine.drain(Duration::from_secs(10)).expect("drained");
}

/// A process that ends in the middle of an hour hands on what it has used of it, by connector and by domain.
#[test]
fn hour_limits_hold_across_a_restart() {
    let _system = actix::System::new();
    let directory = tempfile::tempdir().expect("a folder");
    let hourly = |n| RateLimits { per_hour: Some(n), ..RateLimits::default() };
    let big = DomainLimits { domain: "big.test".to_owned(), rate: hourly(10), connections_max: None };
    let settings = connector(Duration::ZERO, hourly(70), vec![big]);
    let address = |n: u32| if n < 40 { format!("c{n}@big.test") } else { format!("c{n}@other.test") };

    let engine = open(directory.path(), &settings);
    add_contacts(&engine, (0..100).map(address));
    let (_, run) = start(&engine);
    wait_until("the hour is used up", || accepted(&engine, run).len() == 70);
    let of_big = |engine: &Engine| accepted(engine, run).range(0..40).count();
    assert_eq!(of_big(&engine), 10, "the domain has had its share");
    let began = Instant::now();
    engine.drain(Duration::from_secs(60)).expect("drained");
    assert!(began.elapsed() < Duration::from_secs(30), "lanes that wait for a limit end at once");
    assert_eq!(engine.lines[CONNECTOR].line.lanes_running(), 0, "and are struck off");
    drop(engine);

    let engine = open(directory.path(), &settings);
    assert_eq!(engine.book.read().runs[&run].state, RunState::Running, "the run goes on by itself");
    let line = &engine.lines[CONNECTOR].line;
    let now = line.clock.monotonic();
    let class = line.class_of("anybody@BIG.test");
    let taken = |scope| line.limits.with(|limits| limits.taken(scope, now).0);
    assert_eq!(taken(Scope::Connector), 70, "the connector's hour is used up");
    assert_eq!(taken(Scope::Class(class)), 10, "and the domain's");
    let refused = line.permit_test("me@other.test", now).expect_err("a test send counts too");
    assert_eq!(refused.scope, Scope::Connector, "the connector blocks");
    let idle = Instant::now();
    while idle.elapsed() < Duration::from_millis(500) {
        assert_eq!(accepted(&engine, run).len(), 70, "nothing more in this hour");
        std::thread::sleep(Duration::from_millis(20));
    }
    engine.drain(Duration::from_secs(10)).expect("drained");
}

/// What a crash leaves open counts as handed over at the restart, but for what provably never left.
#[test]
fn open_claims_of_a_crash_count() {
    use crate::ids::{BatchId, DeliveryId, MessageId, RowSpace};
    use crate::ledger::batch::BootId;
    use crate::ledger::facts::Claimed;
    use crate::ledger::recover::{MarkWord, facts_of};
    use crate::ledger::{Delivery, Mode, Positions};

    let (boot, now) = (BootId([1; 16]), Timestamp(1_700_000_000_000));
    let id = DeliveryId { run: RunId(1), index: 0 };
    let mut delivery = Delivery::enter(id, RowSpace::BASE, Mode::Strict, (0..10).collect(), &[]).expect("entered");
    let claimed = Claimed {
        batch: BatchId(1),
        delivery: id,
        connector: CONNECTOR.to_owned(),
        message: MessageId(0),
        rows: (0..10).collect(),
        positions: Positions(vec![(0, 10)]),
        at: now,
        domain: Some("big.test".to_owned()),
    };
    delivery.claim(&claimed, boot).expect("claimed");
    let batch = &delivery.batches[&BatchId(1)];
    let counted = |word: Option<&dyn Fn(u32) -> MarkWord>| -> u64 {
        let mut handed = HandedOver::default();
        for fact in facts_of(BatchId(1), id, batch, boot, word, &|_| None, now) {
            if let Fact::Settled(settled) = &fact {
                handed.add(CONNECTOR, batch.domain.as_deref(), settled.all_rows().1, settled.at);
            }
        }
        handed.recent(CONNECTOR, Some("big.test"), now).iter().map(|(_, count)| u64::from(*count)).sum()
    };
    assert_eq!(counted(None), 10, "without mark bytes every row of the claim may have gone out");
    let half = |position: u32| if position < 4 { MarkWord::Marked } else { MarkWord::NotHandedOver };
    assert_eq!(counted(Some(&half)), 4, "with them only what was marked");
}
