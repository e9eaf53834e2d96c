//! The books of the kill scenario: which campaigns there are, what was asked, what was acknowledged, what is wrong.
//!
//! Owns the campaigns and the imports. Invariants: 1. what was acknowledged is demanded later; what was cut off by the kill
//! may be there or not; 2. as many campaigns as wanted are unfinished when an engine begins to live, of every kind in turn.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::campaign::{Campaign, Script, Wanted};
use super::kinds::{Group, Kind, read_subject};
use super::tail::Tail;
use super::{FEW, KillOptions, KillResult, KindCount, MANY};
use crate::api::Api;
use crate::base::{self, Base, Columns};
use crate::message::SUBSCRIBE;
use crate::rng::Rng;

/// Rows of an import under fire.
pub const IMPORT_ROWS: u64 = 1_000;
/// At most this many imports in a scenario: each costs a file.
const IMPORTS_MAX: usize = 200;
/// Finished campaigns that are looked at again after a restart.
const FINISHED_LOOKED_AT: usize = 4;

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
    pub rng: Rng,
    pub actions: u64,
    pub problems: Vec<String>,
    record: Tail,
    folder: PathBuf,
    options: KillOptions,
    looked_at: usize,
}

impl Books {
    pub fn new(options: &KillOptions, folder: &Path, record: &Path) -> Books {
        Books {
            campaigns: Vec::new(),
            imports: Vec::new(),
            rng: Rng::salted(options.run.seed, 11),
            actions: 0,
            problems: Vec::new(),
            record: Tail::new(record),
            folder: folder.to_owned(),
            options: options.clone(),
            looked_at: 0,
        }
    }

    /// Everything that a restart must show, of all campaigns that are under way and some of the others.
    pub fn check_after_start(&mut self, api: &Api) {
        let finished: Vec<usize> = (0..self.campaigns.len()).filter(|at| self.campaigns[*at].finished).collect();
        let mut again = Vec::new();
        for step in 0..FINISHED_LOOKED_AT.min(finished.len()) {
            again.push(finished[(self.looked_at + step) % finished.len()]);
        }
        self.looked_at += FINISHED_LOOKED_AT;
        for (at, campaign) in self.campaigns.iter_mut().enumerate() {
            if !campaign.finished || again.contains(&at) {
                campaign.check(api, self.options.power, &mut self.problems);
            }
        }
    }

    /// The same of every campaign.
    pub fn check_all(&mut self, api: &Api) {
        for campaign in &mut self.campaigns {
            campaign.check(api, self.options.power, &mut self.problems);
        }
    }

    /// Unknown contacts of all campaigns, as the last checks saw them.
    pub fn unknown(&self) -> u64 {
        self.campaigns.iter().flat_map(|c| c.runs.values()).map(|run| run.unknown).sum()
    }

    /// Creates and starts campaigns until enough are unfinished. The kill is not armed yet.
    pub fn top_up(&mut self, api: &Api) -> anyhow::Result<()> {
        while self.campaigns.iter().filter(|c| !c.finished).count() < self.options.campaigns {
            let made = |kind: Kind| self.campaigns.iter().filter(|c| c.kind == kind).count();
            let open = |kind: Kind| self.campaigns.iter().filter(|c| c.kind == kind && !c.finished).count();
            let kinds = self.options.kinds.iter().copied();
            let kind = kinds.min_by_key(|kind| (open(*kind), made(*kind))).context("a kind of campaign")?;
            let wanted = self.wanted(kind, made(kind));
            let name = wanted.name.clone();
            let campaign = Campaign::make(api, wanted).with_context(|| format!("making {name}, {}", kind.name()))?;
            self.campaigns.push(campaign);
        }
        Ok(())
    }

    fn wanted(&self, kind: Kind, number: usize) -> Wanted<'static> {
        let name = format!("k{:04}", self.campaigns.len());
        let few = self.options.few;
        let slow = (number % 3 == 1).then_some((few / 3).max(1));
        let (group, batch, rate) = match kind {
            // Some are slow, so that they live through many kills; not many, because a rate begins exhausted at each start.
            Kind::Single => {
                let rate = (number % 3 == 1).then_some(400);
                (Group::of_base(MANY.prefix, self.options.contacts), MANY.batch, rate)
            }
            Kind::OneShot => {
                let prefix = format!("u{number}x");
                (Group { prefix, contacts: few, lines: true }, "", slow)
            }
            _ => (Group::of_base(FEW.prefix, few), FEW.batch, slow),
        };
        Wanted { kind, name, number, group, batch, rate }
    }

    /// Something is asked of a campaign that is under way, as only its kind is asked.
    pub fn act_on_kind(&mut self, api: &Api) -> anyhow::Result<()> {
        self.read_record()?;
        let asks = |campaign: &Campaign| !campaign.finished && !matches!(campaign.script, Script::None);
        let open: Vec<usize> = (0..self.campaigns.len()).filter(|at| asks(&self.campaigns[*at])).collect();
        match self.rng.pick(&open) {
            Some(at) => self.campaigns[*at].act(api, &mut self.rng),
            None => Ok(()),
        }
    }

    /// What readers got meanwhile.
    fn read_record(&mut self) -> anyhow::Result<()> {
        let mails = self.record.read().context("reading the sink's record")?;
        let names: BTreeMap<String, usize> =
            self.campaigns.iter().enumerate().map(|(at, campaign)| (campaign.name.clone(), at)).collect();
        for mail in mails {
            let Some((name, _, version)) = read_subject(&mail.subject) else { continue };
            if let Some(at) = names.get(name) {
                self.campaigns[*at].read(self.options.run.seed, version, &mail.message_id);
            }
        }
        Ok(())
    }

    pub fn pause_or_resume(&mut self, api: &Api, action: &str) -> anyhow::Result<()> {
        let open: Vec<&Campaign> = self.campaigns.iter().filter(|c| !c.finished).collect();
        match self.rng.pick(&open) {
            Some(campaign) => api.act(&campaign.id, action),
            None => Ok(()),
        }
    }

    pub fn glance(&mut self, api: &Api) -> anyhow::Result<()> {
        let Some(at) = self.campaigns.len().checked_sub(1) else {
            return Ok(());
        };
        let back = usize::try_from(self.rng.below(self.options.campaigns as u64 + 1)).unwrap_or(0).min(at);
        self.campaigns[at - back].glance(api, &mut self.problems)
    }

    pub fn upload(&mut self, api: &Api) -> anyhow::Result<()> {
        if self.imports.len() >= IMPORTS_MAX {
            return Ok(());
        }
        let batch = format!("import{}", self.imports.len());
        let prefix = format!("i{}x", self.imports.len());
        let file = self.folder.join("upload.csv");
        let seed = self.options.run.seed;
        let rows = Base { contacts: IMPORT_ROWS, seed, prefix: &prefix, batch: &batch, columns: Columns::Full };
        base::write_file(&rows, &file, |_| {}).context("writing the upload")?;
        self.imports.push(ImportAsked { batch, acknowledged: false });
        api.upload(&file, "key", Some(SUBSCRIBE))?;
        if let Some(last) = self.imports.last_mut() {
            last.acknowledged = true;
        }
        Ok(())
    }

    /// Does what each campaign waits for, and waits until every one is over.
    pub fn let_finish(&mut self, api: &Api, standstill: Duration) -> anyhow::Result<()> {
        let (mut moved_at, mut last_sum) = (Instant::now(), u64::MAX);
        loop {
            self.read_record()?;
            let (mut open, mut sum) = (Vec::new(), 0u64);
            for campaign in self.campaigns.iter_mut().filter(|c| !c.finished) {
                if let Some((words, moved)) = campaign.push(api, &mut self.rng)? {
                    open.push(words);
                    sum += moved;
                }
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
        for campaign in &self.campaigns {
            let count = result.kinds.entry(campaign.kind.name()).or_default();
            let accepted = campaign.runs.values().map(|run| run.accepted).sum::<u64>();
            count.add(&KindCount {
                campaigns: 1,
                runs: campaign.runs.len() as u64,
                accepted,
                acknowledged: campaign.acknowledged,
            });
        }
        result.imports_acknowledged = self.imports.iter().filter(|i| i.acknowledged).count() as u64;
        result.imports_cut_off = self.imports.iter().filter(|i| !i.acknowledged).count() as u64;
        result.problems.extend(self.problems);
    }
}
