//! The state: the fold of all facts.
//!
//! [`State::apply`] is the only way to change it. What is derived (who may be sent to, what is due) is asked of it and not
//! stored beside it.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::{BatchId, CampaignId, DeliveryId, ImportId, RowSpace, RunId};
use crate::ledger::batch::BootId;
pub use crate::ledger::campaign::Campaign;
use crate::ledger::consent::{Consent, ConsentStatus};
use crate::ledger::days::ContactDays;
use crate::ledger::delivery::Delivery;
use crate::ledger::events::{EventMemory, EventsReceived, day_of};
use crate::ledger::facts::{Fact, ImportChunk, PinnedStarted, RunStarted, Settled, Suppressed, Unsubscribed};
use crate::ledger::handed::HandedOver;
use crate::ledger::links::Link;
use crate::ledger::plans::{Launched, Plan, Published};
use crate::ledger::restored::Restored;
use crate::ledger::run::{Run, RunState};
pub use crate::ledger::saved::{SavedMessage, SavedSegment};
use crate::ledger::sequence::SequenceMemory;
use crate::ledger::suppression::{Entry, SuppressReason, Suppression};
use crate::ledger::tracking::Tracked;
use crate::ledger::uploads::UploadInfo;
use crate::ledger::{RejectClass, Violation};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub consent: Consent,
    pub suppression: Suppression,
    pub lists: BTreeMap<String, List>,
    pub segments: BTreeMap<String, SavedSegment>,
    /// By import: chunks whose fact is applied.
    pub imports: BTreeMap<ImportId, u32>,
    pub campaigns: BTreeMap<CampaignId, Campaign>,
    pub runs: BTreeMap<RunId, Run>,
    pub next_campaign: u32,
    pub next_run: u32,
    pub next_batch: u64,
    #[serde(default)]
    pub next_list: u32,
    #[serde(default)]
    pub next_segment: u32,
    /// Rows of the base that were erased. Rows are never used again, so a later fact that names one (an import's chunk
    /// that was under way) means nobody; and the store is held against this set at start.
    #[serde(default)]
    pub erased: RoaringBitmap,
    #[serde(default)]
    pub handed_over: HandedOver,
    /// One-shot audiences; those that were removed too, while a run over them is known.
    #[serde(default)]
    pub uploads: BTreeMap<RowSpace, UploadInfo>,
    #[serde(default)]
    pub next_space: u32,
    /// Working copies and measured starts of sequences.
    #[serde(default)]
    pub sequences: BTreeMap<CampaignId, SequenceMemory>,
    #[serde(default)]
    pub events: EventMemory,
    #[serde(default)]
    pub days: ContactDays,
    /// Runs that are resends of others.
    #[serde(default)]
    pub links: BTreeMap<RunId, Link>,
    #[serde(default)]
    pub messages: BTreeMap<String, SavedMessage>,
    /// Published schedules.
    #[serde(default)]
    pub plans: BTreeMap<CampaignId, Plan>,
    /// The last backup that this state went on from.
    #[serde(default)]
    pub restored: Option<Restored>,
    /// Rows of the base that are never given out: see [`crate::ledger::restored`].
    #[serde(default)]
    pub rows_left_out: RoaringBitmap,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct List {
    pub rows: RoaringBitmap,
    pub source: String,
    pub created_at: Timestamp,
    /// Never given to another list.
    #[serde(default)]
    pub id: u32,
}

impl State {
    pub fn delivery(&self, id: DeliveryId) -> Result<&Delivery, Violation> {
        let run = self.runs.get(&id.run).ok_or(Violation::NoRun { run: id.run })?;
        run.delivery(id.index).ok_or(Violation::NoDelivery { delivery: id })
    }

    fn run_mut(&mut self, id: RunId) -> Result<&mut Run, Violation> {
        self.runs.get_mut(&id).ok_or(Violation::NoRun { run: id })
    }

    pub(super) fn delivery_mut(&mut self, id: DeliveryId) -> Result<&mut Delivery, Violation> {
        let run = self.runs.get_mut(&id.run).ok_or(Violation::NoRun { run: id.run })?;
        run.deliveries.get_mut(usize::from(id.index)).ok_or(Violation::NoDelivery { delivery: id })
    }

    /// The run of a campaign that started last.
    pub fn latest_run(&self, campaign: CampaignId) -> Option<&Run> {
        self.runs.values().rev().find(|run| run.campaign == campaign)
    }

    /// Applies one fact. `boot` is the kernel boot under which its frame was written. On an error nothing has changed.
    pub fn apply(&mut self, fact: &Fact, boot: BootId) -> Result<(), Violation> {
        self.has_details_for(fact)?;
        match fact {
            Fact::Claimed(claimed) => {
                self.delivery_mut(claimed.delivery)?.claim(claimed, boot)?;
                self.next_batch = self.next_batch.max(claimed.batch.0 + 1);
                self.run_mut(claimed.delivery.run)?.note_claim(claimed.message, claimed.at);
                Ok(())
            }
            Fact::Settled(settled) => self.apply_settled(settled),
            Fact::Returned(returned) => self.delivery_mut(returned.delivery)?.take_back(returned),
            Fact::Skipped { delivery, reason, rows, .. } => {
                self.delivery_mut(*delivery)?.skip(*reason, &rows.rows)?;
                self.leave_sends(*delivery, &rows.rows)
            }
            Fact::GivenUp { delivery, rows, .. } => {
                self.delivery_mut(*delivery)?.give_up(&rows.rows)?;
                self.leave_sends(*delivery, &rows.rows)
            }
            Fact::UnknownSettled { delivery, rows, resend, .. } => {
                self.delivery_mut(*delivery)?.settle_unknown(&rows.rows, *resend)?;
                if *resend && !rows.rows.is_empty() {
                    self.run_mut(delivery.run)?.reopen();
                }
                self.remember_settled_unknown(*delivery, &rows.rows, !*resend);
                Ok(())
            }
            Fact::RunStarted(started) => self.apply_run_started(started),
            Fact::PinnedStarted(fact) => self.apply_pinned_started(fact),
            Fact::RunMoved { run, to, reason, at } => self.apply_run_moved(*run, *to, reason, *at),
            Fact::Tracked(tracked) => self.apply_tracked(tracked),
            Fact::Unsubscribed(fact) => self.apply_unsubscribed(fact),
            Fact::Moved(fact) => self.run_mut(fact.run)?.apply_moved(fact),
            Fact::Shared(fact) => self.run_mut(fact.moved.run)?.apply_shared(fact),
            Fact::Scheduled(fact) => self.run_mut(fact.run)?.apply_scheduled(fact),
            Fact::Joined(fact) => self.run_mut(fact.delivery.run)?.apply_joined(fact),
            Fact::Looked(fact) => self.run_mut(fact.run)?.apply_looked(fact),
            Fact::Decided(fact) => self.run_mut(fact.run)?.apply_decided(fact),
            Fact::SequencePublished(fact) => self.apply_sequence_published(fact),
            Fact::Edited(fact) => self.apply_edited(fact),
            Fact::StepStarted(fact) => self.apply_step_started(fact),
            Fact::StepReleased(fact) => self.apply_step_released(fact),
            Fact::Entered(fact) => self.run_mut(fact.run)?.apply_entered(fact),
            Fact::Published(fact) => self.apply_published(fact),
            Fact::Launched(fact) => self.apply_launched(fact),
            Fact::LaunchSkipped(fact) => self.plan_mut(fact.campaign)?.skip(fact),
            Fact::PlanMoved(fact) => {
                if let Some(draft) = self.plan_mut(fact.campaign)?.move_to(fact) {
                    self.apply_campaign_saved(fact.campaign, &draft, fact.at);
                }
                Ok(())
            }
            Fact::TestSent { connector, domain, messages, at } => {
                self.handed_over.add(connector, domain.as_deref(), u64::from(*messages), *at);
                Ok(())
            }
            Fact::EventsReceived(fact) => self.apply_events(fact),
            Fact::AutoPaused(fact) => {
                self.run_mut(fact.run)?.apply_auto_paused(fact);
                Ok(())
            }
            Fact::Doubted(fact) => self.apply_doubted(fact),
            Fact::DetailsRemoved(fact) => self.apply_details_removed(fact),
            other => {
                self.apply_base(other);
                Ok(())
            }
        }
    }

    fn apply_tracked(&mut self, tracked: &Tracked) -> Result<(), Violation> {
        let run = self.run_mut(tracked.run)?;
        if run.removed.is_none() {
            run.count_tracked(tracked);
            self.remember_tracked(tracked);
        }
        Ok(())
    }

    /// Facts about the base: they always fit.
    fn apply_base(&mut self, fact: &Fact) {
        match fact {
            Fact::ConsentChanged(c) => {
                let rows = &c.rows.rows - &self.erased;
                self.consent.set(c.channel, &c.topic, c.status, &rows);
            }
            Fact::Suppressed(s) => self.apply_suppressed(s),
            Fact::SoftBouncesJudged(judged) => self.apply_soft_bounces(judged),
            Fact::Unsuppressed(u) => {
                self.suppression.remove(u.channel, u.reason, &u.rows.rows, &u.addresses);
                self.events.soft.forget(u.channel, &u.rows.rows);
            }
            Fact::ListCreated { name, source, at, rows } => {
                let rows = &rows.rows - &self.erased;
                self.list_or_new(name, source, *at).rows |= rows;
            }
            Fact::ListDeleted { name } => {
                self.lists.remove(name);
            }
            Fact::ListChanged { name, added, removed } => {
                if let Some(list) = self.lists.get_mut(name) {
                    list.rows |= &added.rows - &self.erased;
                    list.rows -= &removed.rows;
                }
            }
            Fact::ImportChunk(chunk) => self.apply_import_chunk(chunk),
            Fact::SegmentSaved { name, text, at } => self.apply_segment_saved(name, text, *at),
            Fact::SegmentDeleted { name } => {
                self.segments.remove(name);
            }
            Fact::MessageSaved { name, message, at } => self.apply_message_saved(name, message, *at),
            Fact::MessageDeleted { name } => {
                self.messages.remove(name);
            }
            Fact::ContactsErased { rows } => self.apply_erased(&rows.rows),
            Fact::EventsForgotten { name, before, .. } => self.events.forget_before(name, *before),
            Fact::CampaignSaved { campaign, spec, at } => self.apply_campaign_saved(*campaign, spec, *at),
            Fact::CampaignArchived { campaign, .. } => {
                if let Some(campaign) = self.campaigns.get_mut(campaign) {
                    campaign.archived = true;
                }
            }
            Fact::CampaignDeleted { campaign } => {
                self.campaigns.remove(campaign);
                self.sequences.remove(campaign);
                self.plans.remove(campaign);
            }
            Fact::AudienceUploaded(fact) => self.apply_uploaded(fact),
            Fact::AudienceRemoved(fact) => self.apply_upload_removed(fact),
            Fact::CopySaved(fact) => self.apply_copy_saved(fact),
            Fact::StartTested(fact) => self.apply_start_tested(fact),
            Fact::Restored(fact) => self.apply_restored(fact),
            _ => {}
        }
    }

    fn apply_suppressed(&mut self, fact: &Suppressed) {
        if fact.rows.space == RowSpace::BASE {
            self.suppression.add_rows(fact.channel, fact.reason, &(&fact.rows.rows - &self.erased), fact.at);
        }
        for address in &fact.addresses {
            self.suppression.add_address(fact.channel, *address, Entry { reason: fact.reason, at: fact.at });
        }
    }

    fn apply_events(&mut self, fact: &EventsReceived) -> Result<(), Violation> {
        for part in fact.feedback.iter().filter(|part| !self.lacks_details(part.delivery.run)) {
            self.runs.get(&part.delivery.run).ok_or(Violation::NoRun { run: part.delivery.run })?.fits(part)?;
        }
        for part in &fact.feedback {
            if self.lacks_details(part.delivery.run) {
                continue;
            }
            let unknown = self.unknown_of(part);
            let run = self.run_mut(part.delivery.run)?;
            let known = |run: &Run| run.feedback_of(part.send).map_or(0, |feedback| feedback.contacts(part.kind));
            let before = known(run);
            run.take_feedback(part);
            let new = known(run).saturating_sub(before);
            run.count_feedback(part, new, fact.at);
            self.remember_feedback(part, &unknown);
        }
        self.take_noted(fact);
        self.take_awaited(fact);
        for part in &fact.watched {
            if let Some(run) = self.runs.get_mut(&part.delivery.run).filter(|run| run.removed.is_none()) {
                run.count_reported(part);
            }
        }
        self.events.take(fact, &self.erased);
        fact.suppressed.iter().for_each(|suppressed| self.apply_suppressed(suppressed));
        Ok(())
    }

    fn apply_import_chunk(&mut self, chunk: &ImportChunk) {
        let next = self.imports.entry(chunk.import).or_default();
        if chunk.chunk < *next {
            return;
        }
        *next = chunk.chunk + 1;
        let rows = &chunk.rows.rows - &self.erased;
        let unsubscribed = &chunk.unsubscribed.rows - &self.erased;
        self.consent.import(chunk, &rows, &unsubscribed);
        if let Some(name) = &chunk.list {
            self.list_or_new(name, &chunk.import.to_string(), chunk.at).rows |= rows;
        }
    }

    fn list_or_new(&mut self, name: &str, source: &str, at: Timestamp) -> &mut List {
        let next = &mut self.next_list;
        self.lists.entry(name.to_owned()).or_insert_with(|| {
            *next = (*next).max(1);
            let id = *next;
            *next += 1;
            List { rows: RoaringBitmap::new(), source: source.to_owned(), created_at: at, id }
        })
    }

    fn apply_erased(&mut self, rows: &RoaringBitmap) {
        self.erased |= rows;
        self.consent.erase(rows);
        self.suppression.erase(rows);
        self.days.erase(rows);
        self.events.erase(rows);
        for list in self.lists.values_mut() {
            list.rows -= rows;
        }
        // Replies of relays quote addresses.
        let of_base = self.runs.values_mut().filter(|run| run.space() == RowSpace::BASE);
        for samples in of_base.flat_map(|run| run.samples.values_mut()) {
            samples.retain(|sample| !rows.contains(sample.row));
        }
    }

    fn apply_campaign_saved(&mut self, id: CampaignId, spec: &str, at: Timestamp) {
        self.next_campaign = self.next_campaign.max(id.0 + 1);
        let mut used: Vec<u32> = self.runs.values().filter(|r| r.campaign == id).map(|r| r.version).collect();
        used.extend(self.plans.get(&id).filter(|plan| plan.is_open()).map(|plan| plan.version));
        let (versions, name) = (BTreeMap::new(), None);
        let new = || Campaign { versions, archived: false, created_at: at, saved_at: at, name };
        let campaign = self.campaigns.entry(id).or_insert_with(new);
        let version = campaign.newest().map_or(1, |(newest, _)| newest + 1);
        campaign.versions.retain(|version, _| used.contains(version));
        campaign.put(version, spec);
        campaign.saved_at = at;
    }

    fn apply_run_started(&mut self, fact: &RunStarted) -> Result<(), Violation> {
        if self.runs.contains_key(&fact.run) {
            return Err(Violation::RunExists { run: fact.run });
        }
        let campaign = self.campaigns.get(&fact.campaign);
        if !campaign.is_some_and(|c| c.versions.contains_key(&fact.version)) {
            return Err(Violation::NoCampaign { campaign: fact.campaign });
        }
        let run = Run::start(fact)?;
        self.note_link(&run);
        self.next_run = self.next_run.max(fact.run.0 + 1);
        self.runs.insert(fact.run, run);
        Ok(())
    }

    /// The version and the run of it, or neither.
    fn apply_pinned_started(&mut self, fact: &PinnedStarted) -> Result<(), Violation> {
        let PinnedStarted { spec, started } = fact;
        let newest = self.campaigns.get(&started.campaign).and_then(Campaign::newest).map(|(version, _)| version);
        if newest.map(|version| version + 1) != Some(started.version) {
            return Err(Violation::NoCampaign { campaign: started.campaign });
        }
        if self.runs.contains_key(&started.run) {
            return Err(Violation::RunExists { run: started.run });
        }
        // What refuses the run now would leave the version behind.
        Run::start(started)?;
        self.apply_campaign_saved(started.campaign, spec, started.at);
        self.apply_run_started(started)
    }

    fn plan_mut(&mut self, campaign: CampaignId) -> Result<&mut Plan, Violation> {
        self.plans.get_mut(&campaign).ok_or(Violation::BadLaunch { campaign })
    }

    fn apply_published(&mut self, fact: &Published) -> Result<(), Violation> {
        let id = fact.campaign;
        let campaign = self.campaigns.get(&id).ok_or(Violation::NoCampaign { campaign: id })?;
        let newest = campaign.newest().map_or(0, |(newest, _)| newest);
        if fact.version != newest + u32::from(fact.spec.is_some()) {
            return Err(Violation::BadLaunch { campaign: id });
        }
        self.plans.entry(id).or_default().publish(fact);
        if let Some(spec) = &fact.spec {
            self.apply_campaign_saved(id, spec, fact.at);
        }
        Ok(())
    }

    fn apply_launched(&mut self, fact: &Launched) -> Result<(), Violation> {
        self.plan_mut(fact.started.campaign)?.admits(fact)?;
        self.apply_run_started(&fact.started)?;
        if let Some(run) = self.runs.get_mut(&fact.started.run) {
            run.launch = Some(fact.made.clone());
        }
        self.plan_mut(fact.started.campaign)?.launched(fact);
        Ok(())
    }

    fn apply_run_moved(&mut self, id: RunId, to: RunState, reason: &str, at: Timestamp) -> Result<(), Violation> {
        let run = self.runs.get_mut(&id).ok_or(Violation::NoRun { run: id })?;
        run.note_resume(to);
        run.pauses.note(to, at);
        run.state = to;
        run.doubted &= to == RunState::Paused;
        run.reason = reason.to_owned();
        run.ended_at = if to.is_live() { None } else { Some(at) };
        if !to.is_live() {
            run.compact();
            self.days.compact();
        }
        Ok(())
    }

    fn apply_settled(&mut self, fact: &Settled) -> Result<(), Violation> {
        let delivery = self.delivery_mut(fact.delivery)?;
        let way = delivery.batches.get(&fact.batch).map(|batch| (batch.connector.clone(), batch.domain.clone()));
        delivery.settle(fact)?;
        self.recall_events(fact);
        let delivery = self.delivery(fact.delivery)?;
        let (mut leaving, total) = fact.all_rows();
        let skipped: u64 = fact.skipped.iter().map(|(_, rows)| rows.len()).sum();
        leaving -= &delivery.pending;
        leaving -= &delivery.deferred;
        // Before the rows go on: who hears of an outcome later may already be somewhere else.
        if let Some(run) = self.runs.get_mut(&fact.delivery.run) {
            run.count_settled(fact);
            run.keep_samples(&fact.samples);
        }
        self.leave_sends(fact.delivery, &leaving)?;
        self.remember_settled(fact);
        if let Some((connector, domain)) = way {
            self.handed_over.add(&connector, domain.as_deref(), total - skipped, fact.at);
        }
        Ok(())
    }

    /// What came back before the rows were settled is applied now; soft bounces are remembered by their day.
    fn recall_events(&mut self, fact: &Settled) {
        let Some(run) = self.runs.get_mut(&fact.delivery.run) else { return };
        run.recall_feedback(fact.delivery.index, &fact.unknown);
        let Some(delivery) = run.delivery(fact.delivery.index).filter(|d| d.space == RowSpace::BASE) else { return };
        let Some(route) = run.routes.get(usize::from(delivery.id.index)) else { return };
        for (_, rows) in fact.rejected.iter().filter(|(class, _)| *class == RejectClass::SoftBounce) {
            self.events.soft.note(route.channel, day_of(fact.at), rows);
        }
    }

    pub(super) fn leave_sends(&mut self, delivery: DeliveryId, rows: &RoaringBitmap) -> Result<(), Violation> {
        let run = self.runs.get_mut(&delivery.run).ok_or(Violation::NoRun { run: delivery.run })?;
        run.leave_sends(usize::from(delivery.index), rows)
    }

    fn apply_unsubscribed(&mut self, fact: &Unsubscribed) -> Result<(), Violation> {
        if fact.rows.space == RowSpace::BASE {
            let rows = &fact.rows.rows - &self.erased;
            self.consent.set(fact.channel, &fact.topic, ConsentStatus::Unsubscribed, &rows);
        }
        let entry = Entry { reason: SuppressReason::Unsubscribed, at: fact.at };
        for address in &fact.addresses {
            self.suppression.add_address(Some(fact.channel), *address, entry);
        }
        let run = self.runs.get_mut(&fact.run).ok_or(Violation::NoRun { run: fact.run })?;
        if run.removed.is_none() {
            run.count_unsubscribed(fact.message, &fact.rows.rows, fact.at);
        }
        Ok(())
    }

    /// Full check of every delivery (LG-3).
    pub fn check(&self) -> Result<(), Violation> {
        self.runs.values().flat_map(|run| &run.deliveries).try_for_each(Delivery::check)
    }

    /// Claims that no frame has fully ended.
    pub fn open_batches(&self) -> impl Iterator<Item = (DeliveryId, BatchId)> {
        let deliveries = self.runs.values().flat_map(|run| &run.deliveries);
        deliveries.flat_map(|delivery| delivery.batches.keys().map(|batch| (delivery.id, *batch)))
    }
}
