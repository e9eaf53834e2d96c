//! For tests: a store and a book in a directory, as the engine would open them, without anything that sends.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use roaring::RoaringBitmap;

use crate::actors::book::Book;
use crate::campaigns::{self, Format, parse};
use crate::channels::connector::Connector;
use crate::clock::{ManualClock, Timestamp};
use crate::config::connectors::{ConnectorSettings, NullSettings, RateLimits, RetrySettings};
use crate::contacts::{ConsentStatus, ContactInput, Store};
use crate::engine::base::ConsentWish;
use crate::engine::{Engine, EngineError, EngineOptions, layout, recover};
use crate::ids::{AddressHash, Channel, ContactRow, RunId};
use crate::journal;
use crate::ledger::facts::Suppressed;
use crate::ledger::suppression::SuppressReason;
use crate::ledger::{Fact, RowSet, RunState};

pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);

pub(crate) struct TestBase {
    pub(crate) store: Store,
    pub(crate) book: Arc<Book>,
}

impl TestBase {
    pub(crate) fn open(directory: &Path) -> TestBase {
        // As a server's start does, before anything else is opened.
        std::fs::create_dir_all(directory).expect("a folder");
        layout::prepare(directory).expect("its layout");
        let options =
            journal::Options { mark_positions: 1, segment_bytes: 1 << 20, restored: true, ..Default::default() };
        let clock = Arc::new(ManualClock::at(NOW));
        let (recovered, store) =
            recover::open(directory, &options, clock, &|_| Default::default()).expect("journal and store open");
        TestBase { store, book: recovered.book }
    }

    /// A contact with this key and e-mail address.
    pub(crate) fn contact(&self, key: &str, email: &str) -> ContactRow {
        let json = serde_json::json!({"key": key, "email": email});
        let input: ContactInput = serde_json::from_value(json).expect("an input");
        self.store.upsert(&input, NOW).expect("a contact").row
    }

    pub(crate) fn hash(&self, channel: Channel, address: &str) -> AddressHash {
        self.store.address_hash(channel, address)
    }

    pub(crate) fn suppress(&self, channel: Option<Channel>, rows: &[ContactRow], addresses: Vec<AddressHash>) {
        let rows = RowSet::base(RoaringBitmap::from_iter(rows.iter().map(|row| row.0)));
        let fact = Suppressed { channel, reason: SuppressReason::Manual, rows, addresses, at: NOW };
        self.book.commit_durable(&Fact::Suppressed(fact)).expect("a fact");
    }
}

/// An engine at work, with a connector `relay` that accepts everything.
pub(crate) struct TestEngine {
    pub(crate) engine: Arc<Engine>,
    /// Arbiters belong to a system; it must outlive them.
    _system: actix_rt::SystemRunner,
}

impl TestEngine {
    pub(crate) fn open(directory: &Path) -> TestEngine {
        TestEngine::with_tracking_kept(directory, DAYS_30)
    }

    pub(crate) fn with_tracking_kept(directory: &Path, tracking_kept: Duration) -> TestEngine {
        TestEngine::try_open(directory, tracking_kept).expect("an engine")
    }

    /// Ends well, and opens the same directory again, as soon as the threads of this one have let it go.
    pub(crate) fn again(self) -> TestEngine {
        let TestEngine { engine, _system } = self;
        let (directory, kept) = (engine.options.directory.clone(), engine.options.tracking_kept);
        engine.drain(Duration::from_secs(60)).expect("it ends");
        drop((engine, _system));
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            match TestEngine::try_open(&directory, kept) {
                Ok(test) => return test,
                Err(error) => assert!(std::time::Instant::now() < deadline, "it does not open again: {error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn try_open(directory: &Path, tracking_kept: Duration) -> Result<TestEngine, EngineError> {
        let system = actix_rt::System::new();
        let settings = ConnectorSettings::Null(NullSettings {
            name: "relay".into(),
            connections_max: 2,
            rate: RateLimits::default(),
            domains: Vec::new(),
            retry: RetrySettings::default(),
            credits_batches: 8,
        });
        let options = EngineOptions {
            directory: directory.to_owned(),
            connectors: vec![settings.clone()],
            public_url: "http://127.0.0.1:1".into(),
            return_path_domain: None,
            unsubscribe_mailbox: None,
            lane_threads: 1,
            aggregate_only: false,
            soft_bounces: crate::config::SoftRule::default(),
            caps: Vec::new(),
            publish_grace: crate::limits::PUBLISH_GRACE,
            restored: true,
            rejected_rows_kept: DAYS_30,
            tracking_kept,
        };
        let connector = Connector::open(settings).expect("a connector");
        Ok(TestEngine { engine: Engine::open(options, vec![connector])?, _system: system })
    }

    pub(crate) fn contact(&self, key: &str) -> ContactRow {
        let input = serde_json::from_value(serde_json::json!({"key": key, "email": format!("{key}@x.test")}));
        let news = ConsentWish { channel: Channel::Email, topic: "news".into(), status: ConsentStatus::Subscribed };
        self.engine.put_contact(&input.expect("an input"), &[news], "test").expect("a contact").row
    }

    /// Starts a campaign to everybody; `more` are further keys of its spec.
    pub(crate) fn start(&self, more: serde_json::Value) -> RunId {
        let mut spec = serde_json::json!({
            "name": "spring", "audience": {"all": true},
            "message": {"channel": "email", "connector": "relay", "topic": "news", "from": "News <news@x.test>",
                "subject": "Hello", "html": "<p><a href=\"https://shop.test/a\">offer</a></p>"},
        });
        let (serde_json::Value::Object(all), serde_json::Value::Object(more)) = (&mut spec, more) else {
            panic!("two objects");
        };
        all.extend(more);
        let spec = campaigns::parse(&spec.to_string(), Format::Json).expect("it parses");
        let campaign = self.engine.save_campaign(None, &parse::to_stored(&spec)).expect("saved");
        self.engine.start(campaign).expect("started")
    }

    pub(crate) fn until_finished(&self, run: RunId) {
        self.until("the run finishes", |engine| engine.book.read().runs[&run].state == RunState::Finished);
    }

    /// Waits until `done` holds; what it looks at moves by itself.
    pub(crate) fn until(&self, what: &str, done: impl Fn(&Engine) -> bool) {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while !done(&self.engine) {
            assert!(std::time::Instant::now() < deadline, "in vain: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

const DAYS_30: Duration = Duration::from_secs(30 * 24 * 3_600);
