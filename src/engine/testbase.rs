//! For tests: a store and a book in a directory, as the engine would open them, without anything that sends.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use roaring::RoaringBitmap;

use crate::actors::book::Book;
use crate::channels::connector::Connector;
use crate::clock::{ManualClock, Timestamp};
use crate::config::connectors::{ConnectorSettings, NullSettings, RateLimits, RetrySettings};
use crate::contacts::{ContactInput, Store};
use crate::engine::{Engine, EngineOptions, recover};
use crate::ids::{AddressHash, Channel, ContactRow};
use crate::journal;
use crate::ledger::facts::Suppressed;
use crate::ledger::suppression::SuppressReason;
use crate::ledger::{Fact, RowSet};

pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);

pub(crate) struct TestBase {
    pub(crate) store: Store,
    pub(crate) book: Arc<Book>,
}

impl TestBase {
    pub(crate) fn open(directory: &Path) -> TestBase {
        let options =
            journal::Options { mark_positions: 1, segment_bytes: 1 << 20, restored: true, ..Default::default() };
        let clock = Arc::new(ManualClock::at(NOW));
        let recovered = recover::open(directory, &options, clock).expect("the journal opens");
        let store = Store::open(&directory.join("contacts")).expect("the store opens");
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
            restored: true,
            rejected_rows_kept: DAYS_30,
        };
        let connector = Connector::open(settings).expect("a connector");
        TestEngine { engine: Engine::open(options, vec![connector]).expect("an engine"), _system: system }
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
