//! The bench of one lane thread for one connector: rows that were read ahead from claimed batches, the renderers, and the
//! outcomes that wait to be sent off. Shared by the lanes of that thread, never by two threads.
//!
//! Reading ahead is what makes a read transaction serve [`LANE_CHUNK_ROWS`] rows; the bench is shared by the lanes so
//! that a slow connection holds back no row but the one it is sending. The rows of a chunk are rendered together, too; what
//! forbids a send is looked at again when a lane pulls the row.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::actors::figures;
use crate::actors::lanes::batch::{LiveBatch, SendContext};
use crate::actors::lanes::queue::Admission;
use crate::actors::lanes::release::{self, Opted};
use crate::actors::line::Line;
use crate::actors::{LaneReport, Nudge, Outcomes, RowOutcome};
use crate::channels::limits_table::{Admitted, Asking, ClassId, Refusal, Scopes};
use crate::channels::{LaneEvent, OutMessage};
use crate::clock::Monotonic;
use crate::contacts::one_shot::hashes::hash_of;
use crate::contacts::{ContactsError, Reader, Record};
use crate::content::{CompiledMessage, Renderer};
use crate::ids::{AddressHash, BatchId, ContactRow, RowSpace};
use crate::limits::LANE_CHUNK_ROWS;
use crate::segments::skip::SkipReason;

mod rendering;

/// A row that was read and released, and that no lane has pulled.
pub struct Stocked {
    pub batch: Arc<LiveBatch>,
    pub index: usize,
    /// The limited scopes among its batch's, as of the last look; empty means that no permit is needed. Once a lane has the row
    /// they stay, so that what was counted is what is given back.
    pub scopes: Scopes,
    record: Vec<u8>,
    epoch: u64,
    /// Rendered with the rest of its chunk.
    message: Option<OutMessage>,
}

/// The address of a row of an upload, and the contacts that have it.
type Known = (Option<AddressHash>, Vec<ContactRow>);

fn twins_of(base: &Reader, context: &SendContext, record: Option<Record<'_>>) -> Result<Known, ContactsError> {
    let hash = record.and_then(|record| hash_of(base.store(), context.channel, record));
    let twins = hash.map_or_else(|| Ok(Vec::new()), |hash| base.rows_of_address(hash))?;
    Ok((hash, twins))
}

/// Outcomes of one batch that wait to be sent off.
struct Gathered {
    batch: Arc<LiveBatch>,
    accepted: Vec<u32>,
    others: Vec<(u32, RowOutcome)>,
}

pub struct Bench {
    line: Arc<Line>,
    stock: VecDeque<Stocked>,
    renderers: HashMap<usize, (Arc<CompiledMessage>, Renderer), RandomState>,
    gathered: HashMap<BatchId, Gathered, RandomState>,
    spare: Vec<Vec<u8>>,
    spare_messages: Vec<OutMessage>,
    /// Handed over since the last report of outcomes.
    bytes: u64,
    /// Of the limits whose scopes the rows in stock have.
    limits_version: u64,
    /// Outcomes of one batch that are reported without waiting for the timer.
    report_at: usize,
}

/// Of a row in stock, and its envelope if its scopes are limited.
type Place = (usize, Option<Admitted>);

/// What a look for the next row found.
#[allow(
    clippy::large_enum_variant,
    reason = "made for each message and taken apart at once: a box would cost an allocation a message"
)]
pub enum Found {
    /// `admitted`: an envelope is counted as open in the row's limited scopes.
    Row {
        row: Stocked,
        admitted: Option<Admitted>,
    },
    Nothing {
        until: Option<Monotonic>,
    },
}

impl Bench {
    /// `report_at`: outcomes of one batch that are reported without waiting for the timer.
    pub fn new(line: Arc<Line>, report_at: usize) -> Bench {
        let (stock, renderers, gathered) = (VecDeque::new(), HashMap::default(), HashMap::default());
        let (spare, spare_messages) = (Vec::new(), Vec::new());
        Bench { line, stock, renderers, gathered, spare, spare_messages, bytes: 0, limits_version: 0, report_at }
    }

    pub fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// The next row whose class has a permit soon and a lane left, and that may still be sent to. `lane` says what the asking
    /// lane has in hand, by class.
    pub fn next(&mut self, now: Monotonic, lane: &dyn Fn(ClassId) -> Asking) -> Found {
        loop {
            self.heed_limits();
            let (found, until) = self.admitted(now, lane);
            let taken = found.and_then(|(at, admitted)| self.stock.remove(at).map(|row| (row, admitted)));
            let (row, admitted) = match taken {
                Some(taken) => taken,
                None => match self.refill(now, lane) {
                    Ok(()) => continue,
                    Err(later) => {
                        let until = [until, later].into_iter().flatten().min();
                        return Found::Nothing { until };
                    }
                },
            };
            let first = lane(row.batch.class).first;
            if row.batch.is_withdrawn() {
                self.dismiss(&row, first, admitted);
                self.retire_row(row);
                continue;
            }
            if let Some(reason) = self.opted_out_since(&row) {
                self.dismiss(&row, first, admitted);
                self.skip(&row.batch, row.index, reason, String::new());
                self.retire_row(row);
                continue;
            }
            return Found::Row { row, admitted };
        }
    }

    /// A limit that came after rows were claimed holds them, too: a provider that asks for less means them first of all.
    fn heed_limits(&mut self) {
        let version = self.line.limits.version();
        if version != self.limits_version {
            self.limits_version = version;
            for row in &mut self.stock {
                row.scopes = self.line.limits.limited(&row.batch.scopes());
            }
        }
    }

    /// The place of the first row in stock that may be taken; else when to look again.
    fn admitted(&self, now: Monotonic, lane: &dyn Fn(ClassId) -> Asking) -> (Option<Place>, Option<Monotonic>) {
        let mut until: Option<Monotonic> = None;
        let mut refused: Vec<(crate::ids::DeliveryId, ClassId)> = Vec::new();
        for (at, row) in self.stock.iter().enumerate() {
            let scopes = &row.scopes;
            let class = (row.batch.context.delivery, row.batch.class);
            if scopes.is_empty() {
                return (Some((at, None)), until);
            }
            if refused.contains(&class) {
                continue;
            }
            match self.line.limits.with(|limits| limits.admit(scopes, lane(row.batch.class), now)) {
                Ok(admitted) => return (Some((at, Some(admitted))), until),
                Err(refusal) => {
                    refused.push(class);
                    if let Refusal::Until(later) = refusal {
                        until = Some(until.map_or(later, |u: Monotonic| u.min(later)));
                    }
                }
            }
        }
        (None, until)
    }

    /// The row that was let through is not sent: its envelope is not open, and if it was the lane's `first` of its class
    /// the class has a lane left.
    pub fn dismiss(&self, row: &Stocked, first: bool, admitted: Option<Admitted>) {
        if let Some(admitted) = admitted {
            self.line.limits.with(|limits| limits.dismiss(&row.scopes, first, admitted));
        }
    }

    fn opted_out_since(&self, row: &Stocked) -> Option<SkipReason> {
        if self.line.book.narrowed() == row.epoch {
            return None;
        }
        let context = &row.batch.context;
        let record = Record::parse(&row.record).ok();
        if context.space != RowSpace::BASE {
            return self.opted_out_by_address(context, record);
        }
        let address = record.and_then(|r| r.address(context.channel));
        let hash = address.map(|a| self.line.store.address_hash(context.channel, a));
        let state = self.line.book.read();
        let opted = Opted { state: &state, channel: context.channel, topic: &context.topic };
        release::refusal(&opted, row.batch.rows[row.index], record.as_ref(), hash)
    }

    /// A row of an upload has no consent of its own: its address and the contacts that have it decide.
    fn opted_out_by_address(&self, context: &SendContext, record: Option<Record<'_>>) -> Option<SkipReason> {
        let (hash, twins) = match self.line.store.reader().and_then(|base| twins_of(&base, context, record)) {
            Ok(known) => known,
            Err(error) => {
                tracing::error!(%error, connector = %self.line.name, "whether an address has opted out can't be read");
                return Some(SkipReason::RenderFailed);
            }
        };
        let state = self.line.book.read();
        let opted = Opted { state: &state, channel: context.channel, topic: &context.topic };
        release::refusal_of_upload(&opted, record.as_ref(), hash, &twins)
    }

    /// [`twins_of`] for the rows of a chunk; none for rows of the contact base.
    fn twins(&self, context: &SendContext, records: &[Option<Vec<u8>>]) -> Result<Vec<Known>, ContactsError> {
        if context.space == RowSpace::BASE {
            return Ok(Vec::new());
        }
        let base = self.line.store.reader()?;
        let parsed = records.iter().map(|bytes| bytes.as_deref().and_then(|b| Record::parse(b).ok()));
        parsed.map(|record| twins_of(&base, context, record)).collect()
    }

    /// Reads the next chunk; `Err` names the time at which a class may open.
    fn refill(&mut self, now: Monotonic, lane: &dyn Fn(ClassId) -> Asking) -> Result<(), Option<Monotonic>> {
        let limits = &self.line.limits;
        let admit = |batch: &LiveBatch| {
            let asked = limits.with(|table| table.worth_reading(&batch.scopes(), lane(batch.class), now));
            match asked {
                Ok(rows) => Admission::Open(usize::try_from(rows).unwrap_or(usize::MAX)),
                Err(Refusal::Until(at)) => Admission::Until(at),
                Err(Refusal::Lanes) => Admission::Closed,
            }
        };
        let chunk = match self.line.queue.take(LANE_CHUNK_ROWS, admit) {
            Ok(chunk) => chunk,
            Err(until) => {
                if self.line.queue.turned_empty() {
                    self.nudge();
                }
                return Err(until);
            }
        };
        self.stock_chunk(&chunk.batch, chunk.from, chunk.to);
        if self.line.queue.turned_short() {
            self.nudge();
        }
        Ok(())
    }

    fn nudge(&self) {
        // A refused nudge is no loss: the channel actor's timer follows.
        drop(self.line.nudge.try_send(Nudge));
    }

    fn stock_chunk(&mut self, batch: &Arc<LiveBatch>, from: usize, to: usize) {
        // The epoch is read before the sets: a change in between makes the row be looked at again.
        let epoch = self.line.book.narrowed();
        let context = Arc::clone(&batch.context);
        let rows = &batch.rows[from..to];
        let scopes = self.line.limits.limited(&batch.scopes());
        let mut records: Vec<Option<Vec<u8>>> = vec![None; rows.len()];
        let spare = &mut self.spare;
        let read = context.store.reader().and_then(|reader| {
            reader.records(rows.iter().copied(), |row, record| {
                if let Ok(at) = rows.binary_search(&row) {
                    let mut buffer = spare.pop().unwrap_or_default();
                    buffer.clear();
                    record.copy_to(&mut buffer);
                    records[at] = Some(buffer);
                }
                true
            })
        });
        let twins = match read.and_then(|()| self.twins(&context, &records)) {
            Ok(twins) => twins,
            Err(error) => {
                // They stay unmarked; their campaign takes them back when the claim is too old.
                tracing::error!(%error, connector = %self.line.name, "reading contacts failed: the rows are not sent now");
                return;
            }
        };
        let mut refused = Vec::new();
        let before = self.stock.len();
        let state = self.line.book.read();
        let opted = Opted { state: &state, channel: context.channel, topic: &context.topic };
        let hashed = state.suppression.address_count() > 0;
        for (offset, bytes) in records.into_iter().enumerate() {
            let index = from + offset;
            let record = bytes.as_deref().and_then(|b| Record::parse(b).ok());
            let address = record.filter(|_| hashed).and_then(|r| r.address(context.channel));
            let hash = address.map(|a| self.line.store.address_hash(context.channel, a));
            let refusal = match twins.get(offset) {
                Some((hash, twins)) => release::refusal_of_upload(&opted, record.as_ref(), *hash, twins),
                None => release::refusal(&opted, batch.rows[index], record.as_ref(), hash),
            };
            match refusal {
                Some(reason) => refused.push((index, reason)),
                None => {
                    let record = bytes.unwrap_or_default();
                    let (batch, scopes) = (Arc::clone(batch), scopes.clone());
                    self.stock.push_back(Stocked { batch, index, scopes, record, epoch, message: None });
                }
            }
        }
        drop(state);
        for (index, reason) in refused {
            self.skip(batch, index, reason, String::new());
        }
        self.render_ahead(before);
    }

    fn skip(&mut self, batch: &Arc<LiveBatch>, index: usize, reason: SkipReason, text: String) {
        if batch.try_end_unmarked(index) {
            self.gather(batch, index, RowOutcome::Skipped(reason, text));
        }
    }

    /// An unmarked row comes back: the next lane takes it.
    pub fn put_back(&mut self, mut row: Stocked) {
        row.scopes = self.line.limits.limited(&row.batch.scopes());
        self.stock.push_front(row);
    }

    /// The row is done with: its buffers are used again.
    pub fn retire_row(&mut self, row: Stocked) {
        if self.spare.len() < LANE_CHUNK_ROWS * 4 {
            self.spare.push(row.record);
        }
        if let Some(message) = row.message {
            self.keep_message(message);
        }
    }

    /// Notes an outcome in the mark file and gathers it for its campaign.
    pub fn answer(&mut self, batch: &Arc<LiveBatch>, index: usize, outcome: RowOutcome) {
        batch.note(index, &outcome);
        if let RowOutcome::Rejected(_, reply) | RowOutcome::Deferred(_, reply) = &outcome {
            self.line.figures.refusals.count(reply);
        }
        self.gather(batch, index, outcome);
    }

    /// A limit kept a lane waiting for so long.
    pub fn limited(&self, waited: Duration) {
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.line.figures.limit_wait_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// A message of so many bytes was handed over.
    pub fn handed_over(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    fn gather(&mut self, batch: &Arc<LiveBatch>, index: usize, outcome: RowOutcome) {
        let new = || Gathered { batch: Arc::clone(batch), accepted: Vec::new(), others: Vec::new() };
        let gathered = self.gathered.entry(batch.id).or_insert_with(new);
        let row = batch.rows[index];
        match outcome {
            RowOutcome::Accepted => gathered.accepted.push(row),
            other => gathered.others.push((row, other)),
        }
        if gathered.accepted.len() + gathered.others.len() >= self.report_at {
            self.flush_batch(batch.id);
        }
    }

    fn flush_batch(&mut self, id: BatchId) {
        let Some(gathered) = self.gathered.remove(&id) else { return };
        self.line.figures.message_bytes.fetch_add(std::mem::take(&mut self.bytes), Ordering::Relaxed);
        let Gathered { batch, accepted, others } = gathered;
        self.count_answers(&batch, &accepted, &others);
        let context = Arc::clone(&batch.context);
        let report = Outcomes { batch, accepted, others };
        match context.settler.try_send(report) {
            Ok(()) => {}
            Err(actix::prelude::SendError::Full(report)) => {
                figures::refused("campaign");
                let Outcomes { batch, accepted, others } = report;
                self.gathered.insert(id, Gathered { batch, accepted, others });
            }
            Err(actix::prelude::SendError::Closed(_)) => {
                let (campaign, run) = (context.campaign, context.delivery.run);
                tracing::error!(%campaign, %run, batch = %id, "the campaign's actor is gone: outcomes stay in the mark file until a restart");
            }
        }
    }

    /// For the circuits and for what may be claimed ahead: counted by the report, and again if a report must be sent again, which dilutes nothing.
    fn count_answers(&self, batch: &LiveBatch, accepted: &[u32], others: &[(u32, RowOutcome)]) {
        self.line.figures.done.fetch_add((accepted.len() + others.len()) as u64, Ordering::Relaxed);
        // A refusal for the moment is what the provider did not take.
        let rejected = others.iter().filter(|(_, outcome)| matches!(outcome, RowOutcome::Rejected(..))).count();
        self.line.figures.taken.fetch_add((accepted.len() + rejected) as u64, Ordering::Relaxed);
        let Some(counts) = self.line.class_answers.get(usize::from(batch.class.0)) else { return };
        let answered = others.iter().filter(|(_, outcome)| !matches!(outcome, RowOutcome::Skipped(..))).count();
        let refused = others
            .iter()
            .filter(|(_, o)| matches!(o, RowOutcome::Rejected(crate::ledger::RejectClass::Policy, _)))
            .count();
        counts.answers.fetch_add((accepted.len() + answered) as u64, Ordering::Relaxed);
        counts.refused.fetch_add(refused as u64, Ordering::Relaxed);
    }

    pub fn has_gathered(&self) -> bool {
        !self.gathered.is_empty()
    }

    /// Sends off what was gathered; called every few milliseconds. Answers whether something is left.
    pub fn flush(&mut self) -> bool {
        // Rows that were taken back while no lane was there to pull them would keep their batch alive.
        self.stock.retain(|row| !row.batch.is_withdrawn());
        let ids: Vec<BatchId> = self.gathered.keys().copied().collect();
        for id in ids {
            self.flush_batch(id);
        }
        !self.gathered.is_empty()
    }

    pub fn report(&self, event: LaneEvent) {
        let figures = &self.line.figures;
        match event {
            LaneEvent::RoundTrip { duration } => {
                figures.round_trips.record(duration);
                return;
            }
            LaneEvent::PolicyRefused { reply } => {
                *figures.last_problem.lock() = reply;
                return;
            }
            _ => {}
        }
        if self.line.reports.try_send(LaneReport { event }).is_err() {
            figures::refused("channel");
            tracing::debug!(connector = %self.line.name, "a lane's report was dropped: the channel actor is busy");
        }
    }
}

/// Renderers kept per thread and connector: one per message being sent.
const RENDERERS_MAX: usize = 64;
