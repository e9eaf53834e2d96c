//! A scene of a measurement: an engine on an empty data directory with a base imported, and campaigns run on it.
//!
//! Owns the directory and the engine. Invariants: 1. every campaign ends finished, balanced and complete, or the
//! measurement is an error; 2. CPU of a campaign is that of the whole engine process from before its start to after its
//! end, so that nothing it causes is left out.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::{Api, Import, Ledger};
use crate::base::{self, Base, Columns};
use crate::message::SUBSCRIBE;
use crate::moments::{Moment, Moments};
use crate::proc::{self, Cpu};
use crate::server::{Connectors, Server, ServerPlan};
use crate::text;

/// Time for an engine to get ready.
const READY: Duration = Duration::from_secs(60);
/// Time between two looks at a report.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// An engine with a base.
#[derive(Debug)]
pub struct Scene {
    pub server: Server,
    pub plan: ServerPlan,
    pub folder: TempDir,
}

/// One campaign, from its start to its end.
#[derive(Clone, Debug, Serialize)]
pub struct CampaignRun {
    pub messages: u64,
    /// From the start request until the report says finished.
    pub seconds: f64,
    /// Of the engine process over those seconds.
    pub cpu: Cpu,
    pub ledger: Ledger,
    /// What was seen on the way.
    #[serde(skip)]
    pub moments: Vec<Moment>,
}

impl CampaignRun {
    pub fn cpu_microseconds(&self) -> f64 {
        self.cpu.total() * 1e6 / self.messages.max(1) as f64
    }

    pub fn per_second(&self) -> f64 {
        self.messages as f64 / self.seconds.max(1e-9)
    }
}

/// One import, from the first byte sent to the report of its end.
#[derive(Clone, Debug, Serialize)]
pub struct ImportRun {
    pub rows: u64,
    pub bytes: u64,
    pub seconds: f64,
    pub rows_per_second: f64,
    pub cpu: Cpu,
    pub import: Import,
}

impl Scene {
    /// An engine on an empty data directory under `parent` (or the system's folder for temporary files).
    pub fn start(engine: &Path, parent: Option<&Path>, connectors: &Connectors) -> anyhow::Result<Scene> {
        let folder = match parent {
            Some(parent) => TempDir::new_in(parent),
            None => TempDir::new(),
        }
        .context("making a folder for the data")?;
        let plan = ServerPlan::new(engine, folder.path(), connectors)?;
        let server = plan.start(READY)?;
        Ok(Scene { server, plan, folder })
    }

    pub fn api(&self) -> &Api {
        self.server.api()
    }

    /// Generates a base and returns its file.
    pub fn generate(&self, base: &Base<'_>) -> anyhow::Result<PathBuf> {
        let file = self.folder.path().join(format!("{}.csv", base.batch));
        let bar = text::bar(base.contacts, "generating");
        base::write_file(base, &file, |rows| bar.set_position(rows))
            .with_context(|| format!("writing {}", file.display()))?;
        bar.finish_and_clear();
        Ok(file)
    }

    /// Declares the attributes of a base, with the indices that its use calls for.
    pub fn declare(&self, columns: Columns) -> anyhow::Result<()> {
        let attributes: &[_] = match columns {
            Columns::Full => &base::ATTRIBUTES,
            Columns::Ten => &base::INDEXED_OF_TEN,
        };
        for (name, kind, index) in attributes {
            self.api().add_attribute(name, kind, index)?;
        }
        Ok(())
    }

    /// Imports a file and waits for its end; a rejected row is an error.
    pub fn import(&self, file: &Path, rows: u64) -> anyhow::Result<ImportRun> {
        let bytes = file.metadata().with_context(|| format!("size of {}", file.display()))?.len();
        let bar = text::bar(rows, "importing");
        let cpu_before = self.cpu()?;
        let started = Instant::now();
        let id = self.api().upload(file, "key", Some(SUBSCRIBE))?;
        let seen = |import: &Import| bar.set_position(import.accepted + import.merged);
        let import = self.api().wait_for_import(&id, Duration::from_secs(3_600), seen)?;
        let seconds = started.elapsed().as_secs_f64();
        bar.finish_and_clear();
        ensure!(
            import.accepted + import.merged == rows && import.rejected == 0,
            "of {rows} rows {} were accepted, {} merged, {} rejected",
            import.accepted,
            import.merged,
            import.rejected
        );
        let cpu = self.cpu()?.since(cpu_before);
        Ok(ImportRun { rows, bytes, seconds, rows_per_second: rows as f64 / seconds, cpu, import })
    }

    /// Creates, starts and awaits a campaign that must reach `messages` contacts, all accepted.
    pub fn run_campaign(&self, spec: &Value, messages: u64, what: &'static str) -> anyhow::Result<CampaignRun> {
        let id = self.api().create_campaign(spec)?;
        let bar = text::bar(messages, what);
        let cpu_before = self.cpu()?;
        let started = Instant::now();
        self.api().act(&id, "start")?;
        let mut moments = Moments::new(started, self.server.pid());
        let ledger = self.await_end(&id, &bar, &mut moments)?;
        let seconds = started.elapsed().as_secs_f64();
        let cpu = self.cpu()?.since(cpu_before);
        let moments = moments.finish(ledger.accepted);
        bar.finish_and_clear();
        ensure!(ledger.holds(), "the ledger of campaign {id} does not balance: {ledger:?}");
        ensure!(ledger.accepted == messages, "campaign {id} ended with {ledger:?}, and not with {messages} accepted");
        Ok(CampaignRun { messages, seconds, cpu, ledger, moments })
    }

    fn await_end(&self, id: &str, bar: &ProgressBar, moments: &mut Moments) -> anyhow::Result<Ledger> {
        let (mut moved_at, mut last) = (Instant::now(), u64::MAX);
        loop {
            std::thread::sleep(LOOK_EVERY);
            let report = self.api().report(id)?;
            bar.set_position(report.ledger.accepted);
            moments.look(report.ledger.accepted);
            match report.state.as_str() {
                "finished" => return Ok(report.ledger),
                "running" => {}
                state => bail!("campaign {id} is {state}: {:?}", report.rest),
            }
            let left = report.ledger.audience - report.ledger.accepted;
            if left != last {
                (moved_at, last) = (Instant::now(), left);
            } else if moved_at.elapsed() > Duration::from_secs(60) {
                bail!("campaign {id} does not move: {:?}, {:?}", report.ledger, report.rest);
            }
        }
    }

    /// Ends the engine as an operator would and starts it again on the same data.
    pub fn restart(self) -> anyhow::Result<Scene> {
        self.server.terminate().context("ending the engine")?;
        let server = self.plan.start(READY)?;
        Ok(Scene { server, plan: self.plan, folder: self.folder })
    }

    /// Bytes that the data directory takes on disk.
    pub fn disk_bytes(&self) -> u64 {
        disk_bytes(&self.plan.data)
    }

    /// CPU of the engine so far.
    pub fn cpu(&self) -> anyhow::Result<Cpu> {
        proc::cpu_of(self.server.pid()).context("the engine has ended")
    }
}

/// The audience of everybody.
pub fn everybody() -> Value {
    json!({"all": true})
}

fn disk_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
            // Blocks are of 512 bytes whatever the file system's own are (stat(2)).
            Ok(meta) => meta.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
