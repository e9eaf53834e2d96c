//! Facts: what the journal remembers, in the past tense.
//!
//! The encoding is rmp-serde of [`Fact`]; a variant or field is only ever added, never changed in meaning. `kind` repeats
//! the variant in the frame's header, so that tools can tell frames apart without decoding them.

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::flow::Graph;
use crate::ids::{AddressHash, BatchId, CampaignId, Channel, DeliveryId, ImportId, MessageId, RunId};
use crate::ledger::consent::ConsentStatus;
use crate::ledger::delivery::Mode;
use crate::ledger::details::DetailsRemoved;
use crate::ledger::edits::Edited;
use crate::ledger::events::{AutoPaused, EventsReceived, SoftBouncesJudged};
use crate::ledger::flowing::{Decided, Joined, Looked, Moved, Scheduled, Shared};
use crate::ledger::outcome::RejectClass;
use crate::ledger::plans::{LaunchSkipped, Launched, PlanMoved, Published};
use crate::ledger::restored::{Doubted, Restored};
use crate::ledger::rows::{Positions, RowSet};
use crate::ledger::run::RunState;
use crate::ledger::sequence::{CopySaved, Entered, SequencePublished, StartTested, StepReleased, StepStarted};
use crate::ledger::suppression::SuppressReason;
use crate::ledger::tracking::Tracked;
use crate::ledger::uploads::{AudienceRemoved, AudienceUploaded};
use crate::segments::audience::AudienceSummary;
use crate::segments::skip::SkipReason;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    ConsentChanged(ConsentChanged),
    Suppressed(Suppressed),
    Unsuppressed(Unsuppressed),
    ListCreated {
        name: String,
        source: String,
        at: Timestamp,
        /// Its first contacts.
        #[serde(default)]
        rows: RowSet,
    },
    ListDeleted {
        name: String,
    },
    ListChanged {
        name: String,
        added: RowSet,
        removed: RowSet,
    },
    ImportChunk(ImportChunk),
    SegmentSaved {
        name: String,
        text: String,
        at: Timestamp,
    },
    SegmentDeleted {
        name: String,
    },
    ContactsErased {
        rows: RowSet,
    },
    CampaignSaved {
        campaign: CampaignId,
        spec: String,
        at: Timestamp,
    },
    CampaignArchived {
        campaign: CampaignId,
        at: Timestamp,
    },
    CampaignDeleted {
        campaign: CampaignId,
    },
    RunStarted(Box<RunStarted>),
    RunMoved {
        run: RunId,
        to: RunState,
        reason: String,
        at: Timestamp,
    },
    Claimed(Claimed),
    Settled(Settled),
    Returned(Returned),
    /// pending · deferred → skipped.
    Skipped {
        delivery: DeliveryId,
        reason: SkipReason,
        rows: RowSet,
        at: Timestamp,
    },
    /// deferred → rejected(retry_deadline).
    GivenUp {
        delivery: DeliveryId,
        rows: RowSet,
        at: Timestamp,
    },
    /// unknown → pending (`resend`) · accepted, by an operator.
    UnknownSettled {
        delivery: DeliveryId,
        rows: RowSet,
        resend: bool,
        at: Timestamp,
    },
    Tracked(Tracked),
    Unsubscribed(Unsubscribed),
    Moved(Moved),
    Scheduled(Scheduled),
    Joined(Joined),
    Looked(Looked),
    Decided(Decided),
    Shared(Box<Shared>),
    SequencePublished(Box<SequencePublished>),
    StepStarted(StepStarted),
    StepReleased(StepReleased),
    /// A run has started with a version that was none before it: as one step, so that a kill leaves both or neither.
    PinnedStarted(Box<PinnedStarted>),
    CopySaved(CopySaved),
    Entered(Entered),
    StartTested(StartTested),
    /// A message was saved under a name, a new one or the next version.
    MessageSaved {
        name: String,
        /// As JSON.
        message: String,
        at: Timestamp,
    },
    MessageDeleted {
        name: String,
    },
    Published(Published),
    Launched(Box<Launched>),
    LaunchSkipped(LaunchSkipped),
    PlanMoved(PlanMoved),
    /// Messages outside any delivery (test sends) are about to be handed over: they count in the connector's limits.
    TestSent {
        connector: String,
        domain: Option<String>,
        messages: u32,
        at: Timestamp,
    },
    AudienceUploaded(Box<AudienceUploaded>),
    AudienceRemoved(AudienceRemoved),
    EventsReceived(Box<EventsReceived>),
    AutoPaused(AutoPaused),
    SoftBouncesJudged(SoftBouncesJudged),
    Doubted(Doubted),
    Restored(Restored),
    DetailsRemoved(DetailsRemoved),
    Edited(Box<Edited>),
    /// Who had an event of this type before this UTC day (since the epoch) and none since is forgotten in it.
    EventsForgotten {
        name: String,
        before: i32,
        at: Timestamp,
    },
}

impl Fact {
    /// The number of the variant, part of the on-disk format.
    pub fn kind(&self) -> u8 {
        match self {
            Fact::ConsentChanged(_) => 1,
            Fact::Suppressed(_) => 2,
            Fact::Unsuppressed(_) => 3,
            Fact::ListCreated { .. } => 4,
            Fact::ListDeleted { .. } => 5,
            Fact::ListChanged { .. } => 6,
            Fact::ImportChunk(_) => 7,
            Fact::SegmentSaved { .. } => 8,
            Fact::SegmentDeleted { .. } => 9,
            Fact::ContactsErased { .. } => 10,
            Fact::CampaignSaved { .. } => 11,
            Fact::CampaignArchived { .. } => 12,
            Fact::CampaignDeleted { .. } => 13,
            Fact::RunStarted(_) => 14,
            Fact::RunMoved { .. } => 15,
            Fact::Claimed(_) => 16,
            Fact::Settled(_) => 17,
            Fact::Returned(_) => 18,
            Fact::Skipped { .. } => 19,
            Fact::GivenUp { .. } => 20,
            Fact::UnknownSettled { .. } => 21,
            Fact::Tracked(_) => 22,
            Fact::Unsubscribed(_) => 23,
            Fact::Moved(_) => 32,
            Fact::Scheduled(_) => 33,
            Fact::Joined(_) => 34,
            Fact::Looked(_) => 35,
            Fact::Decided(_) => 36,
            Fact::Shared(_) => 42,
            Fact::SequencePublished(_) => 45,
            Fact::StepStarted(_) => 46,
            Fact::StepReleased(_) => 70,
            Fact::PinnedStarted(_) => 71,
            Fact::CopySaved(_) => 47,
            Fact::Entered(_) => 48,
            Fact::StartTested(_) => 49,
            Fact::Published(_) => 37,
            Fact::Launched(_) => 38,
            Fact::LaunchSkipped(_) => 39,
            Fact::PlanMoved(_) => 40,
            Fact::TestSent { .. } => 24,
            Fact::AudienceUploaded(_) => 61,
            Fact::AudienceRemoved(_) => 62,
            Fact::EventsReceived(_) => 51,
            Fact::AutoPaused(_) => 52,
            Fact::SoftBouncesJudged(_) => 73,
            Fact::MessageSaved { .. } => 56,
            Fact::MessageDeleted { .. } => 57,
            Fact::Doubted(_) => 77,
            Fact::Restored(_) => 78,
            Fact::DetailsRemoved(_) => 81,
            Fact::Edited(_) => 86,
            Fact::EventsForgotten { .. } => 87,
        }
    }

    pub fn encode(&self) -> Result<Vec<u8>, rmp_serde::encode::Error> {
        rmp_serde::to_vec(self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Fact, rmp_serde::decode::Error> {
        rmp_serde::from_slice(bytes)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConsentChanged {
    pub channel: Channel,
    pub topic: String,
    pub status: ConsentStatus,
    pub rows: RowSet,
    pub source: String,
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suppressed {
    /// One channel, or all of them.
    pub channel: Option<Channel>,
    pub reason: SuppressReason,
    pub rows: RowSet,
    pub addresses: Vec<AddressHash>,
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unsuppressed {
    pub channel: Option<Channel>,
    pub rows: RowSet,
    pub addresses: Vec<AddressHash>,
    pub at: Timestamp,
    /// One reason, or all of them; entries by address have one.
    #[serde(default)]
    pub reason: Option<SuppressReason>,
}

/// One chunk of an import: the list it fills and the consent it gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImportChunk {
    pub import: ImportId,
    pub chunk: u32,
    pub rows: RowSet,
    pub list: Option<String>,
    pub subscribe: Vec<(Channel, String)>,
    /// Rows that the file itself marks as unsubscribed.
    pub unsubscribed: RowSet,
    /// Whether *subscribed* may replace *unsubscribed*.
    pub resubscribe: bool,
    pub at: Timestamp,
    /// By topic: rows whose address has opted out under another key. They are not subscribed, but who is so already.
    #[serde(default)]
    pub opted_out: Vec<(Channel, String, RoaringBitmap)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    pub run: RunId,
    pub campaign: CampaignId,
    /// Version of the campaign's spec that this run executes.
    pub version: u32,
    pub graph: Graph,
    pub deliveries: Vec<DeliveryEntered>,
    pub at: Timestamp,
    /// Rows that enter the flow beside those of the deliveries, whose own deliveries they enter on arrival at a send.
    #[serde(default)]
    pub entrants: RowSet,
}

/// A run, and the spec that becomes the version which it executes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PinnedStarted {
    /// As it is stored.
    pub spec: String,
    pub started: RunStarted,
}

/// A delivery entered whole at the start of its run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeliveryEntered {
    pub channel: Channel,
    pub topic: String,
    pub connector: String,
    pub mode: Mode,
    pub audience: RowSet,
    pub skipped: Vec<(SkipReason, RoaringBitmap)>,
    /// The counts that the sender was shown.
    #[serde(default)]
    pub summary: Option<AudienceSummary>,
}

/// These rows are about to be handed over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claimed {
    pub batch: BatchId,
    pub delivery: DeliveryId,
    pub connector: String,
    pub message: MessageId,
    pub rows: RoaringBitmap,
    pub positions: Positions,
    pub at: Timestamp,
    /// Destination domain of all rows, if it has limits of its own at the connector.
    #[serde(default)]
    pub domain: Option<String>,
}

/// Outcomes of some rows of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    pub batch: BatchId,
    pub delivery: DeliveryId,
    pub accepted: RoaringBitmap,
    pub rejected: Vec<(RejectClass, RoaringBitmap)>,
    /// By the second from which the rows may be claimed again.
    pub deferred: Vec<(i64, RoaringBitmap)>,
    pub skipped: Vec<(SkipReason, RoaringBitmap)>,
    pub unknown: RoaringBitmap,
    pub samples: Vec<Sample>,
    pub at: Timestamp,
}

impl Settled {
    pub fn new(batch: BatchId, delivery: DeliveryId, at: Timestamp) -> Settled {
        Settled {
            batch,
            delivery,
            accepted: RoaringBitmap::new(),
            rejected: Vec::new(),
            deferred: Vec::new(),
            skipped: Vec::new(),
            unknown: RoaringBitmap::new(),
            samples: Vec::new(),
            at,
        }
    }

    pub fn reject(&mut self, class: RejectClass, row: u32) {
        insert(&mut self.rejected, class, row);
    }

    pub fn skip(&mut self, reason: SkipReason, row: u32) {
        insert(&mut self.skipped, reason, row);
    }

    /// A row that was deferred, with the second of its next attempt; without one its deadline has passed.
    pub fn defer(&mut self, row: u32, due: Option<i64>) {
        match due {
            Some(second) => insert(&mut self.deferred, second, row),
            None => self.reject(RejectClass::RetryDeadline, row),
        }
    }

    /// The union of all outcomes, and the sum of their sizes; they differ if a row has two outcomes.
    pub fn all_rows(&self) -> (RoaringBitmap, u64) {
        let mut rows = &self.accepted | &self.unknown;
        let mut total = self.accepted.len() + self.unknown.len();
        let others = self.rejected.iter().map(|(_, r)| r);
        let others = others.chain(self.deferred.iter().map(|(_, r)| r)).chain(self.skipped.iter().map(|(_, r)| r));
        for set in others {
            total += set.len();
            rows |= set;
        }
        (rows, total)
    }
}

fn insert<K: PartialEq>(sets: &mut Vec<(K, RoaringBitmap)>, key: K, row: u32) {
    match sets.iter_mut().find(|(present, _)| *present == key) {
        Some((_, rows)) => {
            rows.insert(row);
        }
        None => sets.push((key, RoaringBitmap::from_iter([row]))),
    }
}

/// A reply or error text kept for the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// `rejected:hard_bounce`, `deferred`, `skipped:render_failed`, …
    pub label: String,
    pub row: u32,
    pub text: String,
}

/// Claimed rows that were provably not handed over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Returned {
    pub batch: BatchId,
    pub delivery: DeliveryId,
    pub rows: RoaringBitmap,
    pub at: Timestamp,
}

/// A recipient's opt-out through a link of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unsubscribed {
    pub run: RunId,
    /// The message whose link was used.
    pub message: MessageId,
    pub rows: RowSet,
    pub channel: Channel,
    pub topic: String,
    pub source: String,
    pub at: Timestamp,
    /// The addresses of rows outside the contact base: there is no contact whose consent could say it.
    #[serde(default)]
    pub addresses: Vec<AddressHash>,
}
