//! `loadtest disk`: a full disk under a running campaign; it must stop, say why, and go on when there is space again.
//!
//! Owns the file system: a small tmpfs of its own, mounted for the scenario (needs root). Invariants that are checked: 1.
//! with no space left, sending stops and the report names the reason; 2. the ledger balances throughout and the engine
//! does not die; 3. when space returns, the campaign goes on by itself and ends complete; 4. nobody is mailed twice.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::{Api, Report as RunReport};
use crate::base::{self, Base, Columns};
use crate::findings::{Better, Findings, Measure, TWICE};
use crate::message::{SUBSCRIBE, small_campaign};
use crate::proc::MachineWatch;
use crate::scenario::drivers::{Drive, Extras};
use crate::server::{Connectors, ServerPlan, find_binary};
use crate::sink::SinkOptions;
use crate::sink::process::SinkProcess;
use crate::sink::record;

/// Time for each step that waits for the engine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes of the HTML of a draft: drafts are how a client makes the journal grow fast.
const DRAFT_BYTES: usize = 1_500_000;
/// Drafts that must suffice to reach the end of any preallocated segment.
const DRAFTS_MAX: usize = 200;

#[derive(Args, Clone, Debug, Serialize)]
pub struct DiskOptions {
    /// Contacts of the campaign
    #[arg(long, default_value_t = 6_000)]
    pub contacts: u64,
    /// Rate of the campaign, so that it outlasts the filling of the disk
    #[arg(long, default_value_t = 200)]
    pub per_second: u64,
    /// Size of the file system, MiB
    #[arg(long, default_value_t = 512)]
    pub mebibytes: u64,
    /// The engine's binary [default: `estafette` beside this program; build it with `cargo build --release`]
    #[arg(long, value_name = "FILE")]
    pub engine: Option<PathBuf>,
}

impl Default for DiskOptions {
    fn default() -> DiskOptions {
        DiskOptions { contacts: 6_000, per_second: 200, mebibytes: 512, engine: None }
    }
}

/// What happened.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DiskResult {
    /// What the report said while the disk was full.
    pub said: String,
    pub drafts_until_refused: usize,
    pub refusal: String,
    pub accepted_when_full: u64,
    pub seconds_to_resume: f64,
    pub accepted: u64,
    pub recorded: u64,
    pub twice: u64,
}

/// A tmpfs that is unmounted in the end.
#[derive(Debug)]
pub struct SmallDisk {
    pub path: PathBuf,
}

impl SmallDisk {
    pub fn mount(path: &Path, mebibytes: u64) -> anyhow::Result<SmallDisk> {
        fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
        let size = std::ffi::CString::new(format!("size={mebibytes}m")).context("option of the mount")?;
        mount("tmpfs", path, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, size.as_c_str())
            .context("mounting a tmpfs for the full disk: this needs root (CAP_SYS_ADMIN)")?;
        Ok(SmallDisk { path: path.to_owned() })
    }

    /// Takes all space that is left.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut file = File::options().create(true).append(true).open(self.filler()).context("opening the filler")?;
        for size in [1 << 20, 4_096] {
            let block = vec![0u8; size];
            loop {
                match file.write_all(&block) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("filling the disk"),
                }
            }
        }
        Ok(())
    }

    pub fn free(&self) -> anyhow::Result<()> {
        fs::remove_file(self.filler()).context("removing the filler")
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A failure leaves an empty tmpfs behind, which a reboot removes; there is nobody to tell in a drop.
        unmount(&self.path, UnmountFlags::DETACH).ok();
    }
}

const LOST: Measure =
    Measure::promise("lost", "contacts", Better::Lower, "of the audience and not in the sink's record");
const RESUME: Measure =
    Measure::new("resume", "s", Better::Lower, "from the moment there is space again until sending goes on");

impl Drive for DiskOptions {
    const MEASURES: &'static [Measure] = &[TWICE, LOST, RESUME];

    fn drive(&self, _: &Extras, findings: &Findings) -> anyhow::Result<()> {
        let engine = find_binary(self.engine.as_deref())?;
        let folder = tempfile::TempDir::new().context("making a folder")?;
        let record = folder.path().join("record");
        let sink = SinkProcess::start(&SinkOptions { record: Some(record.clone()), ..SinkOptions::default() })?;
        let watch = MachineWatch::start(&[sink.pid()]);
        let result = scenario(self, &engine, folder.path(), sink, &record)?;
        findings.disturbance(watch.finish(0.0));
        findings.sample(&TWICE, result.twice as f64);
        findings.sample(&LOST, self.contacts.saturating_sub(result.recorded - result.twice) as f64);
        findings.sample(&RESUME, result.seconds_to_resume);
        findings.remark(result.lines());
        findings.detail(&result);
        Ok(())
    }
}

/// Runs the scenario in `folder`; a broken invariant is an error.
pub fn scenario(
    options: &DiskOptions,
    engine: &Path,
    folder: &Path,
    sink: SinkProcess,
    record: &Path,
) -> anyhow::Result<DiskResult> {
    let connectors = Connectors { relay_port: Some(sink.address.port()), connections: 10, ..Connectors::default() };
    let disk = SmallDisk::mount(&folder.join("disk"), options.mebibytes)?;
    let mut plan = ServerPlan::new(engine, folder, &connectors)?;
    plan.data = disk.path.join("data");
    fs::create_dir(&plan.data).context("making the data directory")?;
    let server = plan.start(PATIENCE)?;
    let api = server.api();
    import(api, options, folder)?;
    let campaign =
        api.create_campaign(&small_campaign("disk", "relay", &json!({"all": true}), Some(options.per_second)))?;
    api.act(&campaign, "start")?;
    wait(api, &campaign, "the first messages", |r| r.ledger.accepted > 0)?;

    let mut result = DiskResult::default();
    disk.fill()?;
    write_until_refused(api, &mut result)?;
    let stalled = wait(api, &campaign, "the report to name the full disk", |r| names_space(r).is_some())?;
    result.said = names_space(&stalled).unwrap_or_default();
    result.accepted_when_full = stalled_count(api, &campaign)?;
    ensure!(result.accepted_when_full < options.contacts, "the campaign ended on a full disk");

    disk.free()?;
    let freed = Instant::now();
    let so_far = result.accepted_when_full;
    wait(api, &campaign, "the campaign to go on", |r| r.ledger.accepted > so_far)?;
    result.seconds_to_resume = freed.elapsed().as_secs_f64();
    let end = wait(api, &campaign, "the end of the campaign", |r| r.state == "finished")?;
    result.accepted = end.ledger.accepted;
    server.terminate()?;
    sink.finish()?;
    account(options, record, &mut result)?;
    Ok(result)
}

fn import(api: &Api, options: &DiskOptions, folder: &Path) -> anyhow::Result<()> {
    for (name, kind, index) in base::ATTRIBUTES {
        api.add_attribute(name, kind, index)?;
    }
    let file = folder.join("base.csv");
    let base = Base { contacts: options.contacts, seed: 1, prefix: "c", batch: "base", columns: Columns::Full };
    base::write_file(&base, &file, |_| {}).context("writing the base")?;
    let id = api.upload(&file, "key", Some(SUBSCRIBE))?;
    api.wait_for_import(&id, PATIENCE, |_| {}).map(drop)
}

/// Saves drafts until the engine has no room for another.
fn write_until_refused(api: &Api, result: &mut DiskResult) -> anyhow::Result<()> {
    for n in 0..DRAFTS_MAX {
        let html = format!("<p>{}</p>", "x".repeat(DRAFT_BYTES));
        let draft: Value = json!({"name": format!("draft-{n}"), "kind": "single", "message": {"html": html}});
        if let Err(error) = api.create_campaign(&draft) {
            result.drafts_until_refused = n;
            result.refusal = format!("{error:#}");
            return Ok(());
        }
    }
    bail!("{DRAFTS_MAX} drafts of {DRAFT_BYTES} bytes were saved on a full disk")
}

/// What the report says about space, if it does.
fn names_space(report: &RunReport) -> Option<String> {
    let text = serde_json::to_string(&report.rest).unwrap_or_default();
    let at = ["no_space", "disk", "space"].iter().find_map(|word| text.find(word))?;
    let from = text[..at].rfind('{').unwrap_or(0);
    Some(text[from..].chars().take(200).collect())
}

fn wait(api: &Api, campaign: &str, what: &str, until: impl Fn(&RunReport) -> bool) -> anyhow::Result<RunReport> {
    let started = Instant::now();
    loop {
        let report = api.report(campaign)?;
        ensure!(report.ledger.holds(), "the ledger does not balance: {:?}", report.ledger);
        if until(&report) {
            return Ok(report);
        }
        if started.elapsed() > PATIENCE {
            bail!("waited in vain for {what}: {} {:?} {:?}", report.state, report.ledger, report.rest);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The count at which accepted stands still: claims made before may still go out.
fn stalled_count(api: &Api, campaign: &str) -> anyhow::Result<u64> {
    let (started, mut last, mut since) = (Instant::now(), u64::MAX, Instant::now());
    loop {
        let accepted = api.report(campaign)?.ledger.accepted;
        if accepted != last {
            (last, since) = (accepted, Instant::now());
        }
        if since.elapsed() > Duration::from_secs(2) {
            return Ok(accepted);
        }
        ensure!(started.elapsed() < PATIENCE, "the campaign goes on sending on a full disk: {accepted}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn account(options: &DiskOptions, record: &Path, result: &mut DiskResult) -> anyhow::Result<()> {
    let mut recipients: Vec<String> =
        record::read(record).context("reading the record")?.into_iter().map(|m| m.recipient).collect();
    result.recorded = recipients.len() as u64;
    recipients.sort_unstable();
    recipients.dedup();
    result.twice = result.recorded - recipients.len() as u64;
    ensure!(result.twice == 0, "{} mails went twice", result.twice);
    let (accepted, recorded) = (result.accepted, result.recorded);
    ensure!(
        accepted == options.contacts && recorded == options.contacts,
        "of {} contacts {accepted} are accepted and {recorded} recorded",
        options.contacts
    );
    Ok(())
}

impl DiskResult {
    pub fn lines(&self) -> String {
        format!(
            "full disk: stopped at {} accepted; the report said: {}\ndraft {} was refused: {}\n\
             space again: sending went on after {:.1} s; {} accepted, {} recorded, {} twice",
            self.accepted_when_full,
            self.said,
            self.drafts_until_refused + 1,
            self.refusal,
            self.seconds_to_resume,
            self.accepted,
            self.recorded,
            self.twice
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_report_names_space_by_its_stall() {
        let report = |rest: Value| RunReport {
            state: "running".to_owned(),
            ledger: crate::api::Ledger::default(),
            rest: BTreeMap::from([("progress".to_owned(), rest)]),
        };
        let full = report(json!({"stall": {"reason": "disk_full", "message": "no space left"}}));
        assert!(names_space(&full).is_some_and(|s| s.contains("disk_full")), "{:?}", names_space(&full));
        assert_eq!(names_space(&report(json!({"stall": null}))), None, "no stall, no word of it");
    }
}
