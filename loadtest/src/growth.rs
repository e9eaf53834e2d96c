//! `loadtest growth`: cost and memory per contact, side by side from ten thousand to millions, engine alone.
//!
//! Owns the scenes, one after another. Invariant: each size starts from an empty data directory, so that no size profits
//! from the one before.

use clap::Args;
use serde::Serialize;

use crate::base::{Base, Columns};
use crate::message::reference_campaign;
use crate::options::RunOptions;
use crate::proc::{MachineWatch, MemoryWatch, PeakMemory};
use crate::report::Report;
use crate::scene::{Scene, everybody};
use crate::server::{Connectors, find_binary};
use crate::text::{cells, grouped, mebibytes, note, say, table};

#[derive(Args, Clone, Debug, Serialize)]
pub struct GrowthOptions {
    /// Sizes of the base
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000, 1_000_000, 2_000_000])]
    pub sizes: Vec<u64>,
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunOptions,
}

/// One size.
#[derive(Clone, Debug, Serialize)]
pub struct Size {
    pub contacts: u64,
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

pub fn run(options: &GrowthOptions) -> anyhow::Result<()> {
    let engine = find_binary(options.run.engine.as_deref())?;
    let watch = MachineWatch::start(&[]);
    let (mut sizes, mut ended) = (Vec::new(), 0.0);
    for contacts in &options.sizes {
        note(&format!("{} contacts", grouped(*contacts as f64)));
        let (size, cpu) = measure(&engine, options, *contacts)?;
        ended += cpu;
        sizes.push(size);
    }
    let report = Report::new(options.clone(), watch.finish(ended), sizes);
    say(&report.heading());
    say(&lines(&report.result));
    report.write(options.run.json.as_deref())
}

fn measure(engine: &std::path::Path, options: &GrowthOptions, contacts: u64) -> anyhow::Result<(Size, f64)> {
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
    let run = scene.run_campaign(&reference_campaign("growth", "null", &everybody())?, contacts, "engine to null")?;
    let memory = watch.finish();
    let cpu = import.cpu.total() + run.cpu.total();
    let size = Size {
        contacts,
        cpu_microseconds: run.cpu_microseconds(),
        per_second: run.per_second(),
        seconds: run.seconds,
        memory_before,
        memory,
        import_rows_per_second: import.rows_per_second,
        disk_bytes: scene.disk_bytes(),
    };
    Ok((size, cpu))
}

fn lines(sizes: &[Size]) -> String {
    let head = [
        "contacts",
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
            &format!("{:.2}", size.cpu_microseconds),
            &grouped(size.per_second),
            &mebibytes(size.memory_before.own),
            &mebibytes(size.memory.own),
            &mebibytes(size.memory.file),
            &grouped(size.import_rows_per_second),
            &mebibytes(size.disk_bytes),
        ])
    }));
    let mut text = table(&rows);
    let costs = || sizes.iter().map(|s| s.cpu_microseconds);
    let spread = costs().fold(0.0, f64::max) / costs().fold(f64::INFINITY, f64::min).max(1e-9);
    text.push_str(&format!(
        "\ncost per contact, dearest over cheapest size: {spread:.2} (bar: flat ± 20 %, i.e. ≤ 1.5)\n"
    ));
    text
}
