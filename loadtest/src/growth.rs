//! `loadtest growth`: cost and memory per contact, side by side from ten thousand to millions, engine alone.
//!
//! Owns the scenes, one after another. Invariants: 1. each size starts from an empty data directory, so that no size profits
//! from the one before; 2. no cost is told of fewer contacts than `CONTACTS_MIN`: a small base gets so many campaigns, and
//! what a process does once (buffers touched for the first time, threads begun) is in the first of them, which the median
//! leaves behind.

use clap::Args;
use serde::Serialize;

use crate::base::{Base, Columns};
use crate::findings::{Axes, Better, Findings, JudgedBy, Measure, Scale};
use crate::message::reference_campaign;
use crate::moments;
use crate::options::RunOptions;
use crate::proc::{MachineWatch, MemoryWatch, PeakMemory};
use crate::scenario::drivers::{Drive, Extras};
use crate::scene::{CampaignRun, Scene, everybody};
use crate::server::{Connectors, find_binary};
use crate::text::{cells, grouped, mebibytes, median, note};

#[derive(Args, Clone, Debug, Serialize)]
pub struct GrowthOptions {
    /// Sizes of the base
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000, 1_000_000, 2_000_000])]
    pub sizes: Vec<u64>,
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunOptions,
}

/// Contacts that each size reaches at least, over one campaign or several.
const CONTACTS_MIN: u64 = 100_000;

/// One size.
#[derive(Clone, Debug, Serialize)]
pub struct Size {
    pub contacts: u64,
    /// Campaigns to all of them, one after another.
    pub campaigns: usize,
    /// Median over the campaigns, as all that is told of them.
    pub cpu_microseconds: f64,
    pub per_second: f64,
    pub seconds: f64,
    /// Of the engine after the import, before the campaign.
    pub memory_before: PeakMemory,
    /// Peak over the campaign.
    pub memory: PeakMemory,
    pub import_rows_per_second: f64,
    pub disk_bytes: u64,
}

const SPREAD: Measure = Measure::promise(
    "growth_spread",
    "of the middle",
    Better::Lower,
    "how far the dearest and the cheapest size are from the middle between them: 0.2 is flat ± 20 %",
);
const COST: Measure =
    Measure::new("cpu", "µs/contact", Better::Lower, "CPU of the engine per contact, a sample for each size").of_each();
const RATE: Measure =
    Measure::new("rate", "contacts/s", Better::Higher, "contacts a second, a sample for each size").of_each();
const MEMORY: Measure = Measure {
    judged_by: JudgedBy::Worst,
    ..Measure::new("memory", "MiB", Better::Lower, "peak of RssAnon + RssShmem over a campaign, a sample for each size")
        .of_each()
};
const IMPORT: Measure =
    Measure::new("import_rate", "rows/s", Better::Higher, "rows a second of the import, a sample for each size")
        .of_each();
const COSTS: Axes =
    Axes { title: "CPU per contact by size of the base", x: "contacts", y: "µs a contact", scale: Scale::Logarithmic };
const MEMORIES: Axes = Axes { title: "Memory by size of the base", x: "contacts", y: "MiB", scale: Scale::Logarithmic };

impl Drive for GrowthOptions {
    const MEASURES: &'static [Measure] = &[SPREAD, COST, RATE, MEMORY, IMPORT];

    fn drive(&self, _: &Extras, findings: &Findings) -> anyhow::Result<()> {
        let engine = find_binary(self.run.engine.as_deref())?;
        let watch = MachineWatch::start(&[]);
        let (mut sizes, mut ended) = (Vec::new(), 0.0);
        for contacts in &self.sizes {
            note(&format!("{} contacts", grouped(*contacts as f64)));
            let (size, cpu) = measure(&engine, self, *contacts, findings)?;
            ended += cpu;
            findings.sample(&COST, size.cpu_microseconds);
            findings.sample(&RATE, size.per_second);
            findings.sample(&MEMORY, mib(size.memory.own));
            findings.sample(&IMPORT, size.import_rows_per_second);
            sizes.push(size);
            findings.detail(&sizes);
        }
        findings.sample(&SPREAD, spread(&sizes));
        findings.disturbance(watch.finish(ended));
        tell(findings, &sizes);
        Ok(())
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Half of the range of the costs over its middle.
fn spread(sizes: &[Size]) -> f64 {
    let costs = || sizes.iter().map(|size| size.cpu_microseconds);
    let (least, most) = (costs().fold(f64::INFINITY, f64::min), costs().fold(0.0, f64::max));
    (most - least) / (most + least).max(1e-9)
}

fn measure(
    engine: &std::path::Path,
    options: &GrowthOptions,
    contacts: u64,
    findings: &Findings,
) -> anyhow::Result<(Size, f64)> {
    let connectors = Connectors { null: true, ..Connectors::default() };
    let mut scene = Scene::start(engine, options.run.folder.as_deref(), &connectors)?;
    scene.declare(Columns::Full)?;
    let base = Base { contacts, seed: options.run.seed, prefix: "c", batch: "base", columns: Columns::Full };
    let import = scene.import(&scene.generate(&base)?, contacts)?;
    // A fresh process, so that the import's memory is not counted as the campaign's.
    scene = scene.restart()?;
    let before = MemoryWatch::start(scene.server.pid());
    std::thread::sleep(std::time::Duration::from_millis(200));
    let memory_before = before.finish();
    let watch = MemoryWatch::start(scene.server.pid());
    let mut runs = Vec::new();
    for turn in 0..CONTACTS_MIN.div_ceil(contacts.max(1)) {
        let spec = reference_campaign(&format!("growth-{turn}"), "null", &everybody())?;
        runs.push(scene.run_campaign(&spec, contacts, "engine to null")?);
    }
    let memory = watch.finish();
    let name = format!("{} contacts", grouped(contacts as f64));
    for run in &runs {
        findings.ledger(&name, &run.ledger);
    }
    if let [run] = runs.as_slice() {
        findings.line(&moments::RATE, &name, &moments::rates(&run.moments));
    }
    let cpu = import.cpu.total() + runs.iter().map(|run| run.cpu.total()).sum::<f64>();
    let middle = |of: fn(&CampaignRun) -> f64| median(&runs.iter().map(of).collect::<Vec<_>>());
    let size = Size {
        contacts,
        campaigns: runs.len(),
        cpu_microseconds: middle(CampaignRun::cpu_microseconds),
        per_second: middle(CampaignRun::per_second),
        seconds: middle(|run| run.seconds),
        memory_before,
        memory,
        import_rows_per_second: import.rows_per_second,
        disk_bytes: scene.disk_bytes(),
    };
    Ok((size, cpu))
}

fn tell(findings: &Findings, sizes: &[Size]) {
    let head = [
        "contacts",
        "campaigns",
        "CPU µs/contact",
        "contacts/s",
        "RssAnon+RssShmem idle",
        "peak",
        "RssFile",
        "import rows/s",
        "disk",
    ];
    let mut rows = vec![cells(head)];
    rows.extend(sizes.iter().map(|size| {
        cells([
            &grouped(size.contacts as f64),
            &size.campaigns.to_string(),
            &format!("{:.2}", size.cpu_microseconds),
            &grouped(size.per_second),
            &mebibytes(size.memory_before.own),
            &mebibytes(size.memory.own),
            &mebibytes(size.memory.file),
            &grouped(size.import_rows_per_second),
            &mebibytes(size.disk_bytes),
        ])
    }));
    findings.table("Cost and memory per size, each from an empty data directory", rows);
    let by_size = |value: fn(&Size) -> f64| sizes.iter().map(|s| (s.contacts as f64, value(s))).collect::<Vec<_>>();
    findings.line(&COSTS, "CPU per contact", &by_size(|s| s.cpu_microseconds));
    findings.line(&MEMORIES, "peak of RssAnon + RssShmem", &by_size(|s| mib(s.memory.own)));
    findings.line(&MEMORIES, "before the campaign", &by_size(|s| mib(s.memory_before.own)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_of_a_fifth_is_what_flat_means() {
        let size = |cpu_microseconds| Size {
            contacts: 1,
            campaigns: 1,
            cpu_microseconds,
            per_second: 1.0,
            seconds: 1.0,
            memory_before: PeakMemory::default(),
            memory: PeakMemory::default(),
            import_rows_per_second: 1.0,
            disk_bytes: 1,
        };
        assert!((spread(&[size(8.0), size(12.0), size(10.0)]) - 0.2).abs() < 1e-9, "10 ± 20 %");
        assert_eq!(spread(&[size(5.0)]), 0.0, "one size is flat");
    }
}
