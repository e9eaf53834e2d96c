//! The engine as the API sees it: five traits, one a subject, in types of their own that are also the wire's.
//!
//! Owns no state. Handlers know the engine through [`EnginePort`] only; the engine's adapter implements it, tests fake it.
//!
//! Invariants:
//! - PO-1 Methods that return a plain `Result` may block (disk, locks): handlers call them on a blocking thread. Those
//!   that return a future must not block the thread that polls them.
//! - PO-2 `Ok` from a method that changes something means that the change is durable, unless its docs say otherwise.
//! - PO-3 Every refusal carries a [`Code`] of the error table and words that name the input and the way out.
//! - PO-4 Pages are stable under concurrent writes: an entry present throughout appears exactly once.
//!
//! It must not know actix, HTTP, actors or the store.

mod audiences;
mod backups;
mod campaigns;
mod contacts;
mod events;
mod figures;
mod flows;
mod history;
mod operations;
mod report;
mod schedules;
mod sequences;
mod tracking;

use std::fmt;
use std::path::PathBuf;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::sync::oneshot;

pub use audiences::*;
pub use backups::*;
pub use campaigns::*;
pub use contacts::*;
pub use events::*;
pub use figures::*;
pub use flows::*;
pub use history::*;
pub use operations::*;
pub use report::*;
pub use schedules::*;
pub use sequences::*;
pub use tracking::*;

use crate::api::errors::Code;
use crate::clock::Timestamp;

/// A refusal or failure of an operation.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct PortError {
    pub code: Code,
    /// For people: names the input and what to do about it.
    pub message: String,
    /// For programs; `Null` if there is nothing to add.
    pub details: Json,
}

impl PortError {
    pub fn new(code: Code, message: impl Into<String>) -> PortError {
        PortError { code, message: message.into(), details: Json::Null }
    }

    #[must_use]
    pub fn with(mut self, details: Json) -> PortError {
        self.details = details;
        self
    }
}

pub type PortResult<T> = Result<T, PortError>;

/// A moment on the wire: RFC 3339 in UTC, with milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

impl From<Timestamp> for Time {
    fn from(at: Timestamp) -> Time {
        Time(at)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = String::deserialize(deserializer)?;
        let at: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Time(Timestamp(at.as_millisecond())))
    }
}

impl utoipa::PartialSchema for Time {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .format(Some(utoipa::openapi::SchemaFormat::KnownFormat(utoipa::openapi::KnownFormat::DateTime)))
            .description(Some("RFC 3339, UTC"))
            .into()
    }
}

impl utoipa::ToSchema for Time {}

/// What a path names: the number that the engine gave, or the unique name that the sender gave.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ref {
    Id(u32),
    Name(String),
}

impl Ref {
    /// Digits alone are an id, anything else is a name.
    pub fn parse(text: &str) -> Ref {
        match text.parse::<u32>() {
            Ok(id) if text.bytes().all(|b| b.is_ascii_digit()) => Ref::Id(id),
            _ => Ref::Name(text.to_owned()),
        }
    }
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ref::Id(id) => id.fmt(f),
            Ref::Name(name) => fmt::Debug::fmt(name, f),
        }
    }
}

/// A run: the latest one of a campaign, or one by its own id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RunRef {
    LatestOf(Ref),
    Run(u32),
}

/// Which part of a list is asked for. `after` is the position of the last entry that the client has, as the engine gave
/// it in [`Page::next`]; the API makes it opaque on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    pub after: Option<String>,
    /// 1 ..= `limits::PAGE_MAX`.
    pub limit: usize,
}

/// One page; `next` is the position to go on from, `None` at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// Cuts a page out of entries that are sorted by `position`; for lists that fit in memory.
    pub fn cut(sorted: impl IntoIterator<Item = T>, request: &PageRequest, position: impl Fn(&T) -> String) -> Page<T> {
        let mut rest = sorted
            .into_iter()
            .skip_while(|item| request.after.as_deref().is_some_and(|after| position(item).as_str() <= after));
        let items: Vec<T> = rest.by_ref().take(request.limit).collect();
        let next = if rest.next().is_some() { items.last().map(&position) } else { None };
        Page { items, next }
    }
}

/// Contacts, imports, lists, segments, consent, suppressions.
pub trait ContactsPort: Send + Sync {
    /// A fresh path on the data directory's file system, for an upload. The handler writes it and either hands it to
    /// [`ContactsPort::start_import`] or deletes it; leftovers are deleted at start.
    fn spool_path(&self) -> PortResult<PathBuf>;
    /// Takes over a complete spooled file. From `Ok` on the import survives crashes and resumes by itself. With `dry_run`
    /// nothing is written, and the answer is the finished report with the inferred columns.
    fn start_import(&self, options: ImportOptions, spooled: PathBuf) -> PortResult<ImportReport>;
    fn import(&self, id: u32) -> PortResult<ImportReport>;
    fn imports(&self, page: &PageRequest) -> PortResult<Page<ImportReport>>;
    /// The CSV of rejected rows, columns `line,column,reason,row`; grows while the import runs. `None`: none so far.
    fn import_rejected(&self, id: u32) -> PortResult<Option<PathBuf>>;

    fn attributes(&self) -> PortResult<Vec<AttributeView>>;
    fn add_attribute(&self, attribute: NewAttribute) -> PortResult<AttributeView>;

    fn contact(&self, key: &str) -> PortResult<ContactView>;
    /// Creates or replaces: attributes that `contact` does not name are removed, consent that it does not name stays.
    /// Answers whether it was created.
    fn put_contact(&self, key: &str, contact: ContactInput) -> PortResult<(ContactView, bool)>;
    /// Changes what `contact` names; an attribute set to null is removed.
    fn patch_contact(&self, key: &str, contact: ContactInput) -> PortResult<ContactView>;
    /// Erases profile and history, and keeps a salted suppression entry (A15).
    fn erase_contact(&self, key: &str) -> PortResult<()>;
    /// Everything that is held about the contact.
    fn export_contact(&self, key: &str) -> PortResult<Json>;

    fn lists(&self, page: &PageRequest) -> PortResult<Page<ListView>>;
    fn list(&self, name: &str) -> PortResult<ListView>;
    fn create_list(&self, list: NewList) -> PortResult<ListView>;
    fn delete_list(&self, name: &str) -> PortResult<()>;
    /// Adds and removes by key; unknown keys are counted, not refused.
    fn change_list(&self, name: &str, change: ListChange) -> PortResult<ListChanged>;
    /// Keys of the contacts of a list.
    fn list_contacts(&self, name: &str, page: &PageRequest) -> PortResult<Page<String>>;

    fn segments(&self, page: &PageRequest) -> PortResult<Page<SegmentView>>;
    fn segment(&self, name: &str) -> PortResult<SegmentView>;
    fn create_segment(&self, segment: NewSegment) -> PortResult<SegmentView>;
    fn update_segment(&self, name: &str, expression: &str) -> PortResult<SegmentView>;
    fn delete_segment(&self, name: &str) -> PortResult<()>;
    /// Counts an expression now. Changes nothing. `took_ms` is filled by the engine.
    fn preview_segment(&self, request: SegmentPreviewRequest) -> PortResult<SegmentPreview>;

    fn suppressions(&self, filter: &SuppressionFilter, page: &PageRequest) -> PortResult<Page<SuppressionView>>;
    /// All or nothing; one that is there already is counted as present.
    fn add_suppressions(&self, entries: Vec<NewSuppression>) -> PortResult<SuppressionsAdded>;
    fn remove_suppression(&self, id: u64) -> PortResult<()>;
}

/// Campaigns, runs, reports.
pub trait CampaignsPort: Send + Sync {
    /// Saves a draft, incomplete ones too; refuses only what cannot be read, and a name that is taken.
    fn create_campaign(&self, spec: SpecText) -> PortResult<CampaignView>;
    /// Reads and validates without saving: everything that would stop a start, and what is worth knowing.
    fn check_campaign(&self, spec: SpecText) -> PortResult<SpecCheck>;
    fn campaigns(&self, filter: &CampaignFilter, page: &PageRequest) -> PortResult<Page<CampaignSummary>>;
    fn campaign(&self, campaign: &Ref) -> PortResult<CampaignView>;
    /// A merge patch (RFC 7396) in JSON, or in TOML the keys to replace; a new version of the draft.
    fn patch_campaign(&self, campaign: &Ref, patch: SpecText) -> PortResult<CampaignView>;
    /// Start (or schedule), unschedule, pause, resume, stop. Pause and stop return when no new row can be marked; their counts are then exact but
    /// for messages on the wire, which [`ActionDone::in_flight`] counts.
    fn act(&self, campaign: &Ref, action: Action) -> PortResult<ActionDone>;
    /// Changes the schedule alone: a merge patch of `[schedule]`. What is scheduled is published anew.
    fn reschedule(&self, campaign: &Ref, patch: SpecText) -> PortResult<CampaignView>;
    /// What is planned over all campaigns; by default from now on, for 31 days.
    fn calendar(&self, from: Option<Time>, to: Option<Time>) -> PortResult<Calendar>;
    /// Changes a date of the calendar under the rules of what it dates.
    fn move_date(&self, request: MoveRequest) -> PortResult<CampaignView>;
    fn preview(&self, campaign: &Ref, request: PreviewRequest) -> PortResult<Preview>;
    /// Sends now, marked as a test, outside the ledger, inside the limits. Answers when the provider has.
    fn test_send(&self, campaign: &Ref, request: TestSendRequest) -> PortResult<Vec<TestSendResult>>;
    /// The audience as it would be entered now.
    fn audience(&self, campaign: &Ref) -> PortResult<AudienceView>;
    fn runs(&self, campaign: &Ref, page: &PageRequest) -> PortResult<Page<RunSummary>>;

    fn report(&self, run: &RunRef) -> PortResult<Report>;
    /// Contacts of one set (`accepted`, `skipped:no_address`, `rejected:hard_bounce`, `opened`, …), by row.
    fn run_contacts(&self, run: &RunRef, set: &str, page: &PageRequest) -> PortResult<Page<RunContact>>;
    /// A run over time, in parts of at least so many seconds; 0: as fine as it is remembered.
    fn timeline(&self, run: &RunRef, bucket_seconds: u32) -> PortResult<TimelineReport>;
    /// Two or more deliveries side by side.
    fn compare(&self, deliveries: &[Compared]) -> PortResult<Comparison>;
    /// The flow as `text`, `mermaid` or `json`.
    fn graph(&self, campaign: &Ref, format: &str) -> PortResult<GraphText>;
    /// How many contacts would be at which node at what time; sends nothing and changes nothing.
    fn dry_run(&self, campaign: &Ref, request: DryRunRequest) -> PortResult<DryRunView>;
    /// A person's choice of what the rest of a test gets; final.
    fn choose_winner(&self, campaign: &Ref, request: ChooseWinnerRequest) -> PortResult<TestReport>;
    /// Settles unknowns: by an operator only, by promise 2.
    fn settle(&self, run: &RunRef, request: SettleRequest) -> PortResult<Settled>;
}

/// What the public listener asks. All of it is on the hot path of a big campaign: nothing here blocks.
pub trait TrackingPort: Send + Sync {
    /// Checks a token of a link, pixel, unsubscribe or view URL and answers what it stands for. Refuses without saying why.
    /// `None` is also the answer for a token whose campaign's tracking has expired or whose link is not in its table.
    fn resolve(&self, purpose: TokenPurpose, token: &str, link: Option<LinkAsked<'_>>) -> Option<Tracked>;
    /// Records an open or click: queued in the order of the calls, and without waiting, so that one may be made under a lock.
    /// What is answered hears when the fact is written (safe from a kill), and is closed if it can't be; `Busy` is said at once.
    fn record(&self, event: TrackingEvent) -> PortResult<oneshot::Receiver<()>>;
    /// Unsubscribes the contact from the message's topic, or from all (`everything`). The future ends when the fact is
    /// durable and in force for every row not yet released. Repeating it is not an error.
    fn unsubscribe(&self, request: UnsubscribeRequest) -> BoxFuture<'static, PortResult<()>>;
    /// The mail as its contact got it, as a page of HTML. May block: called on a blocking thread.
    fn web_view(&self, tracked: &Tracked) -> PortResult<String>;
}

/// What comes back from outside.
pub trait EventsPort: Send + Sync {
    /// Takes events; answers for each, in order, whether it is new, or why it is refused. Durable when it returns.
    fn take_events(&self, events: Vec<NewEvent>) -> PortResult<Vec<PortResult<bool>>>;
    /// In the order of their names; at most `limits::EVENT_TYPES_MAX`.
    fn event_types(&self) -> PortResult<Vec<EventTypeView>>;
}

/// Connectors, health, figures.
pub trait OperationsPort: Send + Sync {
    fn connectors(&self) -> PortResult<Vec<ConnectorView>>;
    /// Connects, greets, authenticates; sends no message.
    fn test_connector(&self, name: &str) -> PortResult<ConnectorTest>;
    /// Never blocks for long; also while recovering.
    fn health(&self) -> Health;
    /// The live figures of running campaigns (and 15 minutes after), at most `limits::METRIC_CAMPAIGNS_MAX`; of several
    /// runs of a campaign the latest.
    fn campaign_series(&self) -> Vec<crate::metrics::CampaignSeries>;
    /// Everything else that is read at a scrape. May block for the disk.
    fn live_figures(&self) -> crate::metrics::Live;
}

/// Linked resends and saved messages.
pub trait HistoryPort: Send + Sync {
    /// Makes a campaign to a set of a run that has ended, linked to it, and starts it unless told otherwise.
    fn resend(&self, campaign: &Ref, request: ResendRequest) -> PortResult<ResendDone>;
    fn messages(&self, page: &PageRequest) -> PortResult<Page<SavedMessageSummary>>;
    fn message(&self, name: &str) -> PortResult<SavedMessageView>;
    /// Saves the first or next version; answers whether the name is new.
    fn put_message(&self, name: &str, message: SpecText) -> PortResult<(SavedMessageView, bool)>;
    /// Refused while a campaign may still start with it.
    fn delete_message(&self, name: &str) -> PortResult<()>;
}

/// All of it.
pub trait EnginePort:
    ContactsPort
    + AudiencesPort
    + CampaignsPort
    + EventsPort
    + SequencesPort
    + TrackingPort
    + OperationsPort
    + BackupsPort
    + HistoryPort
    + 'static
{
}

impl<
    T: ContactsPort
        + AudiencesPort
        + CampaignsPort
        + EventsPort
        + SequencesPort
        + TrackingPort
        + OperationsPort
        + BackupsPort
        + HistoryPort
        + 'static,
> EnginePort for T
{
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_on_where_the_last_one_ended() {
        let names = ["a", "b", "c", "d", "e"];
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = Page::cut(names, &PageRequest { after: after.clone(), limit: 2 }, |n| (*n).to_owned());
            seen.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, names, "each entry exactly once, in order");
        let exact = Page::cut(names, &PageRequest { after: None, limit: 5 }, |n| (*n).to_owned());
        assert_eq!(exact.next, None, "a full last page names no next one");
    }

    #[test]
    fn digits_are_an_id_and_all_else_is_a_name() {
        assert_eq!(Ref::parse("12"), Ref::Id(12));
        assert_eq!(Ref::parse("+12"), Ref::Name("+12".into()), "a sign makes it a name");
        assert_eq!(Ref::parse("99999999999"), Ref::Name("99999999999".into()), "too large for an id");
        assert_eq!(Ref::parse("spring"), Ref::Name("spring".into()));
    }

    #[test]
    fn time_is_rfc_3339_on_the_wire() {
        let time = Time(Timestamp(1_767_225_600_123));
        let text = serde_json::to_string(&time).unwrap();
        assert_eq!(text, "\"2026-01-01T00:00:00.123Z\"");
        assert_eq!(serde_json::from_str::<Time>(&text).unwrap(), time, "it reads back");
    }
}
