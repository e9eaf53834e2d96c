//! `loadtest import`: rows a second of the CSV import, into an empty base and again as upserts, beside the bare reader.
//!
//! Owns the scene. Invariant: the peer, the `csv` crate reading the same file and doing nothing, runs in the same process
//! after the measured imports.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use crate::base::{Base, Columns};
use crate::findings::{Better, Findings, Measure};
use crate::options::RunOptions;
use crate::proc::{MachineWatch, MemoryWatch, PeakMemory};
use crate::scenario::drivers::{Drive, Extras};
use crate::scene::{ImportRun, Scene};
use crate::server::{Connectors, find_binary};
use crate::text::{cells, grouped, mebibytes};

#[derive(Args, Clone, Debug, Serialize)]
pub struct ImportOptions {
    /// Rows of the file
    #[arg(long, default_value_t = 1_000_000)]
    pub rows: u64,
    /// Times that all of it is measured, each from an empty data directory
    #[arg(long, default_value_t = 1)]
    pub rounds: u64,
    /// Contacts of a large base into which the file is upserted once, too; 0 leaves it out
    #[arg(long, default_value_t = 0, value_name = "CONTACTS")]
    pub large: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunOptions,
}

#[derive(Clone, Debug, Serialize)]
pub struct ImportResult {
    /// The file that the bar is for: ten columns, four attributes indexed.
    pub ten_columns: Imported,
    /// The same with an eleventh column, of phone numbers of nine countries, each of which is checked and indexed.
    pub with_phones: Imported,
    pub bare_rows_per_second: f64,
}

/// One file, imported twice by an engine of its own.
#[derive(Clone, Debug, Serialize)]
pub struct Imported {
    pub empty: ImportRun,
    pub upsert: ImportRun,
    pub memory: PeakMemory,
}

const RATE: Measure = Measure::new("rate", "rows/s", Better::Higher, "ten columns, four indexed, into an empty base");
const UPSERTS: Measure = Measure::new("upsert_rate", "rows/s", Better::Higher, "the same file again, as upserts");
const PHONES_RATE: Measure =
    Measure::new("phones_rate", "rows/s", Better::Higher, "with an eleventh column of phone numbers, each checked");
const BARE: Measure = Measure::new("bare_rate", "rows/s", Better::Neither, "the csv crate, reading and doing nothing");
const OF_BARE: Measure = Measure::ratio("of_bare", Better::Higher, "the import's rate over the bare reader's");
const LARGE_UPSERTS: Measure =
    Measure::new("large_upsert_rate", "rows/s", Better::Higher, "the same file as upserts into the large base");
const LARGE_RATE: Measure = Measure::new("large_rate", "rows/s", Better::Higher, "the import of the large base itself");
const MEMORY: Measure = Measure::new("memory", "MiB", Better::Lower, "peak of RssAnon + RssShmem over both imports");

impl Drive for ImportOptions {
    const MEASURES: &'static [Measure] =
        &[RATE, UPSERTS, PHONES_RATE, LARGE_RATE, LARGE_UPSERTS, BARE, OF_BARE, MEMORY];

    fn drive(&self, _: &Extras, findings: &Findings) -> anyhow::Result<()> {
        let watch = MachineWatch::start(&[]);
        let mut ended = 0.0;
        let mut results = Vec::new();
        for _ in 0..self.rounds.max(1) {
            let (ten_columns, bare_rows_per_second) = import(self, false)?;
            findings.sample(&RATE, ten_columns.empty.rows_per_second);
            findings.sample(&UPSERTS, ten_columns.upsert.rows_per_second);
            findings.sample(&BARE, bare_rows_per_second);
            findings.sample(&OF_BARE, ten_columns.empty.rows_per_second / bare_rows_per_second.max(1e-9));
            findings.sample(&MEMORY, ten_columns.memory.own as f64 / f64::from(1 << 20));
            let (with_phones, _) = import(self, true)?;
            findings.sample(&PHONES_RATE, with_phones.empty.rows_per_second);
            ended += ten_columns.cpu_seconds() + with_phones.cpu_seconds();
            results.push(ImportResult { ten_columns, with_phones, bare_rows_per_second });
        }
        let large = if self.large > 0 { Some(large(self)?) } else { None };
        if let Some((whole, upsert)) = &large {
            ended += whole.cpu.total() + upsert.cpu.total();
            findings.sample(&LARGE_RATE, whole.rows_per_second);
            findings.sample(&LARGE_UPSERTS, upsert.rows_per_second);
        }
        findings.disturbance(watch.finish(ended));
        findings.detail(&results);
        if let Some(last) = results.last() {
            tell(findings, last, large.as_ref());
        }
        Ok(())
    }
}

impl Imported {
    fn cpu_seconds(&self) -> f64 {
        self.empty.cpu.total() + self.upsert.cpu.total()
    }
}

/// Imports the file into an empty base and once more; answers the rate of reading it alone, too.
fn import(options: &ImportOptions, phones: bool) -> anyhow::Result<(Imported, f64)> {
    let engine = find_binary(options.run.engine.as_deref())?;
    let scene =
        Scene::start(&engine, options.run.folder.as_deref(), &Connectors { null: true, ..Connectors::default() })?;
    scene.declare(Columns::Ten)?;
    let base =
        Base { contacts: options.rows, seed: options.run.seed, prefix: "c", batch: "base", columns: Columns::Ten };
    let file = scene.generate(&base)?;
    let file = if phones { with_phones(&file)? } else { file };
    let memory = MemoryWatch::start(scene.server.pid());
    let empty = scene.import(&file, options.rows)?;
    let upsert = scene.import(&file, options.rows)?;
    let memory = memory.finish();
    let bare = options.rows as f64 / bare(&file)?;
    scene.server.terminate().context("ending the engine")?;
    Ok((Imported { empty, upsert, memory }, bare))
}

/// Imports a large base, and the file as upserts of its first contacts.
fn large(options: &ImportOptions) -> anyhow::Result<(ImportRun, ImportRun)> {
    let engine = find_binary(options.run.engine.as_deref())?;
    let connectors = Connectors { null: true, ..Connectors::default() };
    let scene = Scene::start(&engine, options.run.folder.as_deref(), &connectors)?;
    scene.declare(Columns::Ten)?;
    let base = |contacts: u64, seed: u64, batch: &'static str| {
        scene.generate(&Base { contacts, seed, prefix: "c", batch, columns: Columns::Ten })
    };
    let file = base(options.large, options.run.seed, "large")?;
    let whole = scene.import(&file, options.large)?;
    std::fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
    // Another seed: the same keys and addresses with other values, so that indices change.
    let rows = options.rows.min(options.large);
    let upsert = scene.import(&base(rows, options.run.seed + 1, "again")?, rows)?;
    scene.server.terminate().context("ending the engine")?;
    Ok((whole, upsert))
}

/// What mobile numbers of nine countries begin with; six digits follow.
const PHONES: [&str; 9] =
    ["+33612", "+4915112", "+447400", "+393201", "+34612", "+31612", "+12125", "+48512", "+5511961"];

/// The file with one column more, of which no two neighbours are of one country.
fn with_phones(file: &Path) -> anyhow::Result<PathBuf> {
    let with = file.with_extension("phones.csv");
    let mut lines = BufReader::new(File::open(file).with_context(|| format!("opening {}", file.display()))?).lines();
    let mut out = BufWriter::new(File::create(&with).with_context(|| format!("writing {}", with.display()))?);
    writeln!(out, "{},phone", lines.next().context("a header")??)?;
    for (i, line) in lines.enumerate() {
        writeln!(out, "{},{}{:06}", line?, PHONES[i % PHONES.len()], i % 1_000_000)?;
    }
    out.flush()?;
    Ok(with)
}

/// Seconds that the `csv` crate needs to read the file and do nothing with it.
fn bare(file: &Path) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut reader = csv::Reader::from_path(file).with_context(|| format!("opening {}", file.display()))?;
    let (mut record, mut rows) = (csv::ByteRecord::new(), 0u64);
    while reader.read_byte_record(&mut record)? {
        rows += std::hint::black_box(&record).len() as u64;
    }
    std::hint::black_box(rows);
    Ok(started.elapsed().as_secs_f64().max(1e-9))
}

/// The last round in words.
fn tell(findings: &Findings, result: &ImportResult, large: Option<&(ImportRun, ImportRun)>) {
    let row = |name: &str, run: &ImportRun| {
        let cpu = format!("{:.2}", run.cpu.total() * 1e6 / run.rows as f64);
        cells([name, &grouped(run.rows as f64), &grouped(run.rows_per_second), &cpu, &mebibytes(run.bytes)])
    };
    let mut rows = vec![
        cells(["import over the API", "rows", "rows/s", "CPU µs/row", "file"]),
        row("into an empty base", &result.ten_columns.empty),
        row("the same again, as upserts", &result.ten_columns.upsert),
        row("with phones, into an empty base", &result.with_phones.empty),
        row("with phones, as upserts", &result.with_phones.upsert),
        cells(["csv crate, reading only", "", &grouped(result.bare_rows_per_second), "", ""]),
    ];
    if let Some((whole, upsert)) = large {
        rows.push(row("the large base", whole));
        rows.push(row("upserts into the large base", upsert));
    }
    findings.table("Import over the API", rows);
    let memory = &result.ten_columns.memory;
    findings.remark(format!(
        "memory of the engine: peak RssAnon + RssShmem {}, RssFile {}",
        mebibytes(memory.own),
        mebibytes(memory.file)
    ));
}
