//! One life of an engine in the kill scenario: what is asked of it until it dies, and the books of what it acknowledged.
//!
//! Owns the books. Invariants: 1. what was acknowledged is demanded later; what was cut off by the kill may be there or
//! not; 2. a refusal before the kill is a problem, unless it is the legal answer to a campaign that has moved on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{KillOptions, KillResult};
use crate::api::{Api, Refusal};
use crate::base::{self, Base, Columns};
use crate::message::{SUBSCRIBE, small_campaign};
use crate::rng::Rng;
use crate::server::Server;

/// Rows of an import under fire.
pub const IMPORT_ROWS: u64 = 1_000;
/// At most this many imports in a scenario: each costs a file.
const IMPORTS_MAX: usize = 200;

/// How one engine lives and dies.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    pub length: Duration,
}

impl Life {
    pub fn draw(options: &KillOptions, rng: &mut Rng) -> Life {
        let span = options.life_ms_max.saturating_sub(options.life_ms_min);
        Life { length: Duration::from_micros((options.life_ms_min * 1_000) + rng.below(span * 1_000 + 1)) }
    }
}

/// A campaign and what is known of it.
#[derive(Clone, Debug)]
pub struct Campaign {
    pub name: String,
    pub id: String,
    finished: bool,
    accepted_seen: u64,
    unknown: u64,
}

/// An import that was asked for under fire.
#[derive(Clone, Debug)]
pub struct ImportAsked {
    pub batch: String,
    pub acknowledged: bool,
}

/// What was asked, and what the engine said.
#[derive(Debug)]
pub struct Books {
    pub campaigns: Vec<Campaign>,
    pub imports: Vec<ImportAsked>,
    folder: PathBuf,
    unfinished: usize,
    seed: u64,
    power: bool,
    rng: Rng,
    actions: u64,
    problems: Vec<String>,
}

impl Books {
    pub fn new(options: &KillOptions, folder: &Path) -> Books {
        Books {
            campaigns: Vec::new(),
            imports: Vec::new(),
            folder: folder.to_owned(),
            unfinished: options.campaigns,
            seed: options.run.seed,
            power: options.power,
            rng: Rng::salted(options.run.seed, 11),
            actions: 0,
            problems: Vec::new(),
        }
    }

    /// Every ledger balances, and nothing that was accepted is forgotten.
    pub fn check_after_start(&mut self, api: &Api) {
        for campaign in &mut self.campaigns {
            let name = &campaign.name;
            match api.report(&campaign.id) {
                Ok(report) => {
                    let ledger = report.ledger;
                    if !ledger.holds() {
                        self.problems.push(format!("{name}: the ledger does not balance after a restart: {ledger:?}"));
                    }
                    // An outcome that was shown before it was synced is forgotten with the power: then it is unknown.
                    let kept = if self.power { ledger.accepted + ledger.unknown } else { ledger.accepted };
                    campaign.unknown = ledger.unknown;
                    if kept < campaign.accepted_seen {
                        let (was, is) = (campaign.accepted_seen, ledger.accepted);
                        self.problems.push(format!("{name}: accepted went from {was} to {is} over a restart"));
                    }
                    campaign.accepted_seen = campaign.accepted_seen.max(ledger.accepted);
                    campaign.finished = report.state == "finished";
                }
                // A draft that was never started has no report.
                Err(error) if is_refusal(&error) && campaign.accepted_seen == 0 => {}
                Err(error) => self.problems.push(format!("{name}: no report after a restart: {error:#}")),
            }
        }
    }

    /// Unknown contacts of all campaigns, as the last check saw them.
    pub fn unknown(&self) -> u64 {
        self.campaigns.iter().map(|c| c.unknown).sum()
    }

    /// Creates and starts campaigns until enough are unfinished. The kill is not armed yet.
    pub fn top_up(&mut self, api: &Api) -> anyhow::Result<()> {
        while self.campaigns.iter().filter(|c| !c.finished).count() < self.unfinished {
            let name = format!("k{:04}", self.campaigns.len());
            // Every third is slow, so that some campaigns live through many kills.
            let rate = self.campaigns.len().is_multiple_of(3).then_some(400);
            let audience = json!({"segment": "batch = \"base\""});
            let id = api.create_campaign(&small_campaign(&name, "relay", &audience, rate))?;
            api.act(&id, "start")?;
            self.campaigns.push(Campaign { name, id, finished: false, accepted_seen: 0, unknown: 0 });
        }
        Ok(())
    }

    /// Acts on the engine until it is killed.
    pub fn live(&mut self, mut server: Server, life: Life) -> anyhow::Result<()> {
        let pid = i32::try_from(server.pid()).ok().and_then(Pid::from_raw).context("pid of the engine")?;
        let killed = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&killed);
        let killer = std::thread::spawn(move || {
            std::thread::sleep(life.length);
            flag.store(true, Ordering::SeqCst);
            kill_process(pid, Signal::KILL)
        });
        while !killed.load(Ordering::SeqCst) {
            if server.has_ended() && !killed.load(Ordering::SeqCst) {
                bail!("the engine died by itself, before the kill");
            }
            self.act(server.api(), &killed);
            std::thread::sleep(Duration::from_micros(self.rng.below(20_000)));
        }
        match killer.join() {
            Ok(sent) => sent.context("killing the engine")?,
            Err(_) => bail!("the killer's thread failed"),
        }
        server.kill()
    }

    fn act(&mut self, api: &Api, killed: &AtomicBool) {
        self.actions += 1;
        let done = match self.rng.below(10) {
            0..3 => self.act_on_one(api, "pause"),
            3..7 => self.act_on_one(api, "resume"),
            7 => self.upload(api),
            _ => self.look(api),
        };
        let Err(error) = done else { return };
        let legal = error.downcast_ref::<Refusal>().is_some_and(|r| r.status.as_u16() == 409);
        if !legal && !killed.load(Ordering::SeqCst) {
            self.problems.push(format!("refused before the kill: {error:#}"));
        }
    }

    fn act_on_one(&mut self, api: &Api, action: &str) -> anyhow::Result<()> {
        let open: Vec<&Campaign> = self.campaigns.iter().filter(|c| !c.finished).collect();
        match self.rng.pick(&open) {
            Some(campaign) => api.act(&campaign.id, action),
            None => Ok(()),
        }
    }

    fn look(&mut self, api: &Api) -> anyhow::Result<()> {
        let Some(at) = self.campaigns.len().checked_sub(1) else {
            return Ok(());
        };
        let back = usize::try_from(self.rng.below(4)).unwrap_or(0).min(at);
        let campaign = &mut self.campaigns[at - back];
        let report = api.report(&campaign.id)?;
        if !report.ledger.holds() {
            self.problems.push(format!("{}: the live ledger does not balance: {:?}", campaign.name, report.ledger));
        }
        campaign.accepted_seen = campaign.accepted_seen.max(report.ledger.accepted);
        Ok(())
    }

    fn upload(&mut self, api: &Api) -> anyhow::Result<()> {
        if self.imports.len() >= IMPORTS_MAX {
            return Ok(());
        }
        let batch = format!("import{}", self.imports.len());
        let prefix = format!("i{}x", self.imports.len());
        let file = self.folder.join("upload.csv");
        let rows =
            Base { contacts: IMPORT_ROWS, seed: self.seed, prefix: &prefix, batch: &batch, columns: Columns::Full };
        base::write_file(&rows, &file, |_| {}).context("writing the upload")?;
        self.imports.push(ImportAsked { batch, acknowledged: false });
        api.upload(&file, "key", Some(SUBSCRIBE))?;
        if let Some(last) = self.imports.last_mut() {
            last.acknowledged = true;
        }
        Ok(())
    }

    /// Resumes and starts whatever stands, and waits until every campaign is finished.
    pub fn let_finish(&mut self, api: &Api, standstill: Duration) -> anyhow::Result<()> {
        let (mut moved_at, mut last_sum) = (Instant::now(), u64::MAX);
        loop {
            let (mut open, mut sum) = (Vec::new(), 0u64);
            for campaign in self.campaigns.iter_mut().filter(|c| !c.finished) {
                let report = api.report(&campaign.id)?;
                let wake = match report.state.as_str() {
                    "finished" => {
                        campaign.finished = true;
                        continue;
                    }
                    "paused" => Some("resume"),
                    "draft" => Some("start"),
                    _ => None,
                };
                if let Some(action) = wake {
                    api.act(&campaign.id, action)?;
                }
                sum += report.ledger.accepted + report.ledger.rejected + report.ledger.unknown;
                open.push(format!(
                    "{} {} {:?} {:?}",
                    campaign.name,
                    report.state,
                    report.ledger,
                    report.rest.get("stall")
                ));
            }
            if open.is_empty() {
                return Ok(());
            }
            if sum != last_sum {
                (moved_at, last_sum) = (Instant::now(), sum);
            } else if moved_at.elapsed() > standstill {
                bail!("campaigns stand still after the last restart: {}", open.join("; "));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Hands the books over to the result.
    pub fn finish(self, result: &mut KillResult) {
        result.actions = self.actions;
        result.campaigns = self.campaigns.len() as u64;
        result.imports_acknowledged = self.imports.iter().filter(|i| i.acknowledged).count() as u64;
        result.imports_cut_off = self.imports.iter().filter(|i| !i.acknowledged).count() as u64;
        result.problems.extend(self.problems);
    }
}

fn is_refusal(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refusal>().is_some()
}
