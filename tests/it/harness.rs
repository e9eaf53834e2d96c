//! A real engine over a temporary data directory.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use actix_rt::SystemRunner;
use estafette::api::adapter::Adapter;
use estafette::api::port::{ContactsPort, ImportOptions, ImportReport, ImportState, PageRequest};
use estafette::channels::connector::Connector;
use estafette::config::connectors::ConnectorSettings;
use estafette::engine::{Engine, EngineOptions};
use tempfile::TempDir;

/// Makes the connectors anew for every start.
pub type Connectors = fn() -> Vec<(ConnectorSettings, Connector)>;

/// An engine at work. Calls block, as on the API's blocking threads.
pub struct TestEngine {
    pub adapter: Adapter,
    connectors: Connectors,
    directory: TempDir,
    /// Arbiters belong to a system; it must outlive them.
    system: SystemRunner,
}

impl TestEngine {
    /// An engine that sends nothing.
    pub fn without_connectors() -> TestEngine {
        TestEngine::with(Vec::new)
    }

    pub fn with(connectors: Connectors) -> TestEngine {
        let directory = tempfile::tempdir().unwrap();
        TestEngine::open(directory, actix_rt::System::new(), connectors, false)
    }

    fn open(directory: TempDir, system: SystemRunner, connectors: Connectors, restored: bool) -> TestEngine {
        let (settings, built): (Vec<_>, Vec<_>) = connectors().into_iter().unzip();
        let options = EngineOptions {
            directory: directory.path().join("data"),
            connectors: settings,
            public_url: "http://127.0.0.1:1".to_owned(),
            return_path_domain: None,
            unsubscribe_mailbox: None,
            lane_threads: 1,
            aggregate_only: false,
            soft_bounces: estafette::config::SoftRule::default(),
            caps: Vec::new(),
            tracking_kept: std::time::Duration::from_secs(365 * 24 * 3_600),
            publish_grace: estafette::limits::PUBLISH_GRACE,
            restored,
            rejected_rows_kept: std::time::Duration::from_secs(30 * 24 * 3_600),
        };
        let engine = Engine::open(options, built).unwrap();
        TestEngine { adapter: Adapter { engine }, connectors, directory, system }
    }

    pub fn engine(&self) -> &Engine {
        &self.adapter.engine
    }

    /// The engine that a start after a kill at this moment finds: the directory is copied as it lies there, with the engine
    /// running, and the copy is opened. The first engine is then ended; nothing of its end reaches the copy.
    pub fn killed(self) -> TestEngine {
        let TestEngine { adapter, connectors, directory, system } = self;
        let copy = tempfile::tempdir().unwrap();
        image(&directory.path().join("data"), &copy.path().join("data"));
        adapter.engine.drain(Duration::from_secs(10)).unwrap();
        drop(adapter);
        TestEngine::open(copy, system, connectors, true)
    }

    /// Imports a file and waits for its end.
    pub fn import(&self, options: ImportOptions, text: &str) -> ImportReport {
        let path = self.adapter.spool_path().unwrap();
        fs::write(&path, text).unwrap();
        let id = self.adapter.start_import(options, path).unwrap().id;
        self.imported(id)
    }

    /// The report of an import that has ended.
    pub fn imported(&self, id: u32) -> ImportReport {
        let until = Instant::now() + Duration::from_secs(120);
        loop {
            let report = self.adapter.import(id).unwrap();
            if report.state != ImportState::Running {
                return report;
            }
            assert!(Instant::now() < until, "the import does not end: {report:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn image(of: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(of).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            image(&entry.path(), &target);
        } else if entry.file_name() != "lock.mdb" {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub fn page(after: Option<String>, limit: usize) -> PageRequest {
    PageRequest { after, limit }
}

pub fn import_options(key: &str) -> ImportOptions {
    ImportOptions { key: key.to_owned(), ..ImportOptions::default() }
}
