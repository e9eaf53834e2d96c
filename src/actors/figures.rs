//! What actors, lanes and the book tell the recorder: per batch, per group of outcomes, per commit, never per message.
//!
//! Owns no state; the recorder's is process-wide. Invariant: FG-1 every label value comes from a closed set or is a
//! connector's name.

use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Histogram, counter, histogram};

use crate::ledger::events::PauseCause;
use crate::ledger::{Fact, RejectClass, State};
use crate::metrics::{
    ACTOR_REFUSALS_TOTAL, AUTO_PAUSES_TOTAL, BATCH_CLAIM_SECONDS, BATCH_CONTACTS, BATCH_SEND_SECONDS,
    CLAIMS_RETURNED_TOTAL, IMPORT_CHUNK_SECONDS, IMPORT_ROWS_TOTAL, JOURNAL_FRAMES_TOTAL, LAUNCHES_TOTAL,
    MESSAGES_TOTAL, REJECTIONS_TOTAL, RENDER_SKIPS_TOTAL, SEGMENT_EVALUATION_SECONDS, SNAPSHOT_SECONDS,
    UNSUBSCRIBE_SECONDS,
};
use crate::segments::skip::SkipReason;

/// Why claimed rows were taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakenBack {
    Timeout,
    Pause,
    Stop,
    Drain,
    /// A bound shrank or a circuit opened.
    Slowed,
    /// The message makes no sense any more (`send_until`).
    Late,
    /// The last process died with the claim open.
    Recovery,
}

impl TakenBack {
    const ALL: [TakenBack; 7] = [
        TakenBack::Timeout,
        TakenBack::Pause,
        TakenBack::Stop,
        TakenBack::Drain,
        TakenBack::Slowed,
        TakenBack::Late,
        TakenBack::Recovery,
    ];

    fn name(self) -> &'static str {
        match self {
            TakenBack::Timeout => "timeout",
            TakenBack::Pause => "pause",
            TakenBack::Stop => "stop",
            TakenBack::Drain => "drain",
            TakenBack::Slowed => "slowed",
            TakenBack::Late => "late",
            TakenBack::Recovery => "recovery",
        }
    }
}

/// Actors whose full mailboxes are counted.
const ACTORS: [&str; 3] = ["campaign", "channel", "tracker"];
const OUTCOMES: [&str; 5] = ["accepted", "rejected", "deferred", "unknown", "returned"];
const LAUNCHES: [&str; 3] = ["made", "too_late", "overtaken"];
const ROWS: [&str; 3] = ["accepted", "merged", "rejected"];

/// Makes every series of a closed set of labels known with 0, so that a rate is right from the first event on.
pub fn announce<'a>(connectors: impl Iterator<Item = &'a str>) {
    for connector in connectors {
        for outcome in OUTCOMES {
            counter!(MESSAGES_TOTAL.name, "connector" => connector.to_owned(), "outcome" => outcome).increment(0);
        }
        for metric in [&BATCH_CLAIM_SECONDS, &BATCH_SEND_SECONDS, &BATCH_CONTACTS] {
            known(&histogram!(metric.name, "connector" => connector.to_owned()));
        }
        for class in RejectClass::ALL {
            counter!(REJECTIONS_TOTAL.name, "connector" => connector.to_owned(), "class" => class.name()).increment(0);
        }
    }
    for metric in [&SNAPSHOT_SECONDS, &IMPORT_CHUNK_SECONDS, &SEGMENT_EVALUATION_SECONDS, &UNSUBSCRIBE_SECONDS] {
        known(&histogram!(metric.name));
    }
    for why in TakenBack::ALL {
        returned(why, 0);
    }
    for reason in SkipReason::ALL {
        counter!(RENDER_SKIPS_TOTAL.name, "reason" => reason.name()).increment(0);
    }
    for cause in PauseCause::ALL {
        counter!(AUTO_PAUSES_TOTAL.name, "cause" => cause.name()).increment(0);
    }
    for actor in ACTORS {
        counter!(ACTOR_REFUSALS_TOTAL.name, "actor" => actor).increment(0);
    }
    for outcome in LAUNCHES {
        launches(outcome, 0);
    }
    for result in ROWS {
        counter!(IMPORT_ROWS_TOTAL.name, "result" => result).increment(0);
    }
}

/// Registers a histogram with nothing in it: having been made is enough.
fn known(_: &Histogram) {}

/// A fact that is about to be applied: what it will add to the figures once it is committed.
pub struct Committing {
    kind: &'static str,
    /// The connector, and rows by outcome.
    outcomes: Option<(String, [u64; 5])>,
    classes: Vec<(RejectClass, u64)>,
    skips: Vec<(SkipReason, u64)>,
}

impl Committing {
    /// Looks before the fact is applied: afterwards its batch may be gone.
    pub fn new(state: &State, fact: &Fact) -> Committing {
        let mut made = Committing { kind: kind(fact), outcomes: None, classes: Vec::new(), skips: Vec::new() };
        let connector =
            |delivery, batch| state.delivery(delivery).ok()?.batches.get(&batch).map(|b| b.connector.clone());
        match fact {
            Fact::Settled(settled) => {
                made.classes = settled.rejected.iter().map(|(class, rows)| (*class, rows.len())).collect();
                made.skips = settled.skipped.iter().map(|(reason, rows)| (*reason, rows.len())).collect();
                let rejected = made.classes.iter().map(|(_, rows)| rows).sum();
                let deferred = settled.deferred.iter().map(|(_, rows)| rows.len()).sum();
                let rows = [settled.accepted.len(), rejected, deferred, settled.unknown.len(), 0];
                made.outcomes = connector(settled.delivery, settled.batch).map(|name| (name, rows));
            }
            Fact::Returned(back) => {
                made.outcomes = connector(back.delivery, back.batch).map(|name| (name, [0, 0, 0, 0, back.rows.len()]));
            }
            _ => {}
        }
        made
    }

    pub fn count(self) {
        counter!(JOURNAL_FRAMES_TOTAL.name, "kind" => self.kind).increment(1);
        for (reason, rows) in self.skips {
            counter!(RENDER_SKIPS_TOTAL.name, "reason" => reason.name()).increment(rows);
        }
        let Some((connector, rows)) = self.outcomes else { return };
        for (outcome, rows) in OUTCOMES.into_iter().zip(rows).filter(|(_, rows)| *rows > 0) {
            counter!(MESSAGES_TOTAL.name, "connector" => connector.clone(), "outcome" => outcome).increment(rows);
        }
        for (class, rows) in self.classes {
            counter!(REJECTIONS_TOTAL.name, "connector" => connector.clone(), "class" => class.name()).increment(rows);
        }
    }
}

fn kind(fact: &Fact) -> &'static str {
    match fact {
        Fact::ConsentChanged(_) => "consent_changed",
        Fact::Suppressed(_) => "suppressed",
        Fact::Unsuppressed(_) => "unsuppressed",
        Fact::ListCreated { .. } => "list_created",
        Fact::ListDeleted { .. } => "list_deleted",
        Fact::ListChanged { .. } => "list_changed",
        Fact::ImportChunk(_) => "import_chunk",
        Fact::SegmentSaved { .. } => "segment_saved",
        Fact::SegmentDeleted { .. } => "segment_deleted",
        Fact::ContactsErased { .. } => "contacts_erased",
        Fact::CampaignSaved { .. } => "campaign_saved",
        Fact::CampaignArchived { .. } => "campaign_archived",
        Fact::CampaignDeleted { .. } => "campaign_deleted",
        Fact::MessageSaved { .. } => "message_saved",
        Fact::MessageDeleted { .. } => "message_deleted",
        Fact::RunStarted(_) => "run_started",
        Fact::RunMoved { .. } => "run_moved",
        Fact::Claimed(_) => "claimed",
        Fact::Settled(_) => "settled",
        Fact::Returned(_) => "returned",
        Fact::Skipped { .. } => "skipped",
        Fact::GivenUp { .. } => "given_up",
        Fact::UnknownSettled { .. } => "unknown_settled",
        Fact::Tracked(_) => "tracked",
        Fact::Unsubscribed(_) => "unsubscribed",
        Fact::TestSent { .. } => "test_sent",
        Fact::AudienceUploaded(_) => "audience_uploaded",
        Fact::AudienceRemoved(_) => "audience_removed",
        Fact::DetailsRemoved(_) => "details_removed",
        Fact::EventsForgotten { .. } => "events_forgotten",
        Fact::Moved(_) => "moved",
        Fact::Scheduled(_) => "scheduled",
        Fact::Joined(_) => "joined",
        Fact::Looked(_) => "looked",
        Fact::Decided(_) => "decided",
        Fact::Shared(_) => "shared",
        Fact::SequencePublished(_) => "sequence_published",
        Fact::StepStarted(_) => "step_started",
        Fact::StepReleased(_) => "step_released",
        Fact::PinnedStarted(_) => "run_started",
        Fact::CopySaved(_) => "copy_saved",
        Fact::Entered(_) => "entered",
        Fact::StartTested(_) => "start_tested",
        Fact::EventsReceived(_) => "events_received",
        Fact::AutoPaused(_) => "auto_paused",
        Fact::Published(_) => "published",
        Fact::Launched(_) => "launched",
        Fact::LaunchSkipped(_) => "launch_skipped",
        Fact::PlanMoved(_) => "plan_moved",
        Fact::SoftBouncesJudged(_) => "soft_bounces_judged",
        Fact::Doubted(_) => "doubted",
        Fact::Restored(_) => "restored",
        Fact::Edited(_) => "edited",
    }
}

/// A claim of so many rows is durable, so long after its grant.
pub fn claimed(connector: &Arc<str>, rows: usize, took: Duration) {
    histogram!(BATCH_CLAIM_SECONDS.name, "connector" => Arc::clone(connector)).record(took.as_secs_f64());
    histogram!(BATCH_CONTACTS.name, "connector" => Arc::clone(connector)).record(rows as f64);
}

/// The last row of a batch has its outcome, so long after the claim.
pub fn sent(connector: &Arc<str>, took: Duration) {
    histogram!(BATCH_SEND_SECONDS.name, "connector" => Arc::clone(connector)).record(took.as_secs_f64());
}

pub fn returned(why: TakenBack, rows: u64) {
    counter!(CLAIMS_RETURNED_TOTAL.name, "reason" => why.name()).increment(rows);
}

/// A run was paused by its guard.
pub fn auto_paused(cause: PauseCause) {
    counter!(AUTO_PAUSES_TOTAL.name, "cause" => cause.name()).increment(1);
}

/// A full mailbox refused a message; the sender tries again, or loses nothing.
pub fn refused(actor: &'static str) {
    counter!(ACTOR_REFUSALS_TOTAL.name, "actor" => actor).increment(1);
}

/// Launches of schedules were made or skipped.
pub fn launches(outcome: &'static str, count: u64) {
    counter!(LAUNCHES_TOTAL.name, "outcome" => outcome).increment(count);
}

pub fn snapshot_written(took: Duration) {
    histogram!(SNAPSHOT_SECONDS.name).record(took.as_secs_f64());
}
