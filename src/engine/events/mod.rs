//! Events from outside: resolved to contacts and sends, sorted into sets, made durable, and what follows from them.
//!
//! Rules, each with its [`EventFault`] where it refuses:
//! - an `id` counts once; a repetition answers *duplicate* and changes nothing ([`crate::ledger::events::ids`] has the bound);
//! - a `message_id` (the Message-ID header, or the return path) carries a MAC: a forged one refuses the event, so that nobody is
//!   suppressed by it; it names run and contact, and what else the event names must agree with it;
//! - a `contact` with a `campaign` means the newest delivery that may have reached the contact, of the campaign's latest run that
//!   had begun when it happened; what happened before all of them is no conversion of it, and refused as such;
//! - a `contact` alone: bounces and complaints count for the address that the contact has now, conversions and events of one's own for the contact;
//! - an event may come before the outcome of its message is known, and after the end of its run; not before the message can have
//!   left;
//! - times are the event's own, for counting by days; what follows from it begins when it comes.
//!
//! Owns no state but what was looked at last. Must not know HTTP.

mod gather;
mod resolve;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::actors::book::CommitError;
use crate::clock::Timestamp;
use crate::config::connectors::ConnectorSettings;
use crate::contacts::one_shot::hashes::hash_of;
use crate::engine::{Engine, EngineError};
use crate::ids::{AddressHash, Channel};
use crate::journal::Want;
use crate::ledger::Fact;
use crate::ledger::events::{BounceClass, SoftBouncesJudged, day_of};
use crate::ledger::facts::Suppressed;
use crate::ledger::suppression::SuppressReason;
use crate::ledger::tracking::EventClass;
use crate::limits::EVENTS_PER_FACT;
use crate::metrics;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    Delivered,
    Bounced(BounceClass),
    Complained,
    Converted(EventClass),
    /// A type of the sender's own.
    Custom(String),
}

impl EventKind {
    /// The type as metrics name it.
    pub fn label(&self) -> &'static str {
        match self {
            EventKind::Delivered => "delivered",
            EventKind::Bounced(_) => "bounced",
            EventKind::Complained => "complained",
            EventKind::Converted(_) => "converted",
            EventKind::Custom(_) => "custom",
        }
    }

    /// The type under which contacts' behaviour is remembered.
    fn behaviour(&self) -> Option<&str> {
        match self {
            // What a machine did, or perhaps did, is no behaviour of the contact.
            EventKind::Converted(EventClass::Human) => Some("converted"),
            EventKind::Custom(name) => Some(name),
            EventKind::Delivered | EventKind::Bounced(_) | EventKind::Complained | EventKind::Converted(_) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub id: String,
    pub kind: EventKind,
    /// Key of the contact.
    pub contact: Option<String>,
    /// Message-ID of the mail, its return path, or the token of either.
    pub message_id: Option<String>,
    /// Name or number of a campaign.
    pub campaign: Option<String>,
    /// Of what the address was for; by default that of the message, or e-mail.
    pub channel: Option<Channel>,
    /// When it happened; by default now.
    pub at: Option<Timestamp>,
    /// Properties of which it is kept who had them.
    pub properties: Vec<(String, String)>,
    /// Currency and amount, in ten-thousandths, of a conversion.
    pub worth: Option<(String, i64)>,
}

/// Why an event is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventFault {
    #[error("the event names neither a contact nor a message_id")]
    NoSubject,
    #[error("a delivery is one of a message: name message_id, or contact and campaign")]
    NoMessage,
    #[error("message_id is not one of this server: it is forged, damaged or of another one")]
    ForeignMessage,
    #[error("no contact has the key {key:?}")]
    NoContact { key: String },
    #[error("there is no campaign {name:?}")]
    NoCampaign { name: String },
    #[error("the message belongs to another campaign than {name:?}")]
    OtherCampaign { name: String },
    #[error("the message went to another contact than {key:?}")]
    OtherContact { key: String },
    #[error("no message of this campaign can have reached the contact by then")]
    NotSent,
    #[error("the event says that it happens in the future: check the clock that made its time")]
    Future,
    #[error("the event is older than the 400 days for which events are taken")]
    TooOld,
    #[error("there are as many types of events as can be remembered; {name:?} is one more")]
    TooManyTypes { name: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    Accepted,
    Duplicate,
    Refused(EventFault),
}

impl Taken {
    fn label(&self) -> &'static str {
        match self {
            Taken::Accepted => "accepted",
            Taken::Duplicate => "duplicate",
            Taken::Refused(_) => "refused",
        }
    }
}

/// What was looked at last.
pub struct EventState {
    /// Number of the newest soft bounce that was looked at.
    soft_noted: AtomicU64,
}

impl Default for EventState {
    fn default() -> EventState {
        EventState { soft_noted: AtomicU64::new(u64::MAX) }
    }
}

/// Makes every series of a closed set of labels known with 0.
pub fn announce() {
    for kind in ["delivered", "bounced", "complained", "converted", "custom"] {
        for result in ["accepted", "duplicate", "refused"] {
            ::metrics::counter!(metrics::EVENTS_TOTAL.name, "type" => kind, "result" => result).increment(0);
        }
    }
    for class in BounceClass::ALL {
        ::metrics::counter!(metrics::BOUNCES_TOTAL.name, "class" => class.name()).increment(0);
    }
    ::metrics::counter!(metrics::COMPLAINTS_TOTAL.name).increment(0);
    for reason in [SuppressReason::HardBounce, SuppressReason::SoftBounces, SuppressReason::Complaint] {
        count_suppressed(reason, 0);
    }
}

/// Whom a suppression names: contacts, or addresses; a complaint names both.
fn named(part: &Suppressed) -> u64 {
    part.rows.rows.len().max(part.addresses.len() as u64)
}

fn count_suppressed(reason: SuppressReason, count: u64) {
    ::metrics::counter!(metrics::EVENT_SUPPRESSIONS_TOTAL.name, "reason" => reason.name()).increment(count);
}

fn count(events: &[Event], taken: &[Taken]) {
    for (event, taken) in events.iter().zip(taken) {
        let (kind, result) = (event.kind.label(), taken.label());
        ::metrics::counter!(metrics::EVENTS_TOTAL.name, "type" => kind, "result" => result).increment(1);
        match &event.kind {
            _ if *taken != Taken::Accepted => {}
            EventKind::Bounced(class) => {
                ::metrics::counter!(metrics::BOUNCES_TOTAL.name, "class" => class.name()).increment(1);
            }
            EventKind::Complained => ::metrics::counter!(metrics::COMPLAINTS_TOTAL.name).increment(1),
            EventKind::Delivered | EventKind::Converted(_) | EventKind::Custom(_) => {}
        }
    }
}

impl Engine {
    /// Takes events; answers one word for each, in their order. Durable and in force when it returns, duplicates too: the
    /// first of them may have been another request's, a moment ago. Blocks.
    pub fn take_events(&self, events: &[Event]) -> Result<Vec<Taken>, EngineError> {
        let mut taken = Vec::with_capacity(events.len());
        let mut names = resolve::Campaigns::default();
        for chunk in events.chunks(EVENTS_PER_FACT) {
            let resolved = self.resolve_events(chunk, &mut names)?;
            let (rules, now) = (self.hard_rules(), self.book.now());
            let (mut words, mut suppressed) = (Vec::new(), Vec::new());
            self.book.commit_by::<CommitError>(
                |state| {
                    let (fact, said) = gather::gather(state, chunk, resolved, &rules, now);
                    words = said;
                    let parts = fact.iter().flat_map(|fact| &fact.suppressed);
                    suppressed = parts.map(|part| (part.reason, named(part))).collect();
                    Ok(fact.map(|fact| Fact::EventsReceived(Box::new(fact))))
                },
                Want::idle(),
            )?;
            count(chunk, &words);
            suppressed.into_iter().for_each(|(reason, contacts)| count_suppressed(reason, contacts));
            taken.append(&mut words);
        }
        self.suppress_soft_bounces()?;
        self.book.journal().flush()?;
        Ok(taken)
    }

    /// After how many hard bounces each connector suppresses.
    fn hard_rules(&self) -> gather::HardRules {
        let rule = |settings: &ConnectorSettings| match settings {
            ConnectorSettings::Smtp(_) | ConnectorSettings::Simulated(_) => settings.suppress_after_hard_bounces(),
            // They refuse nothing themselves and have no such setting.
            ConnectorSettings::Inbox(_) | ConnectorSettings::Null(_) => gather::HARD_BOUNCES,
        };
        self.options.connectors.iter().map(|settings| (settings.name().to_owned(), rule(settings))).collect()
    }

    /// A look at what came in with the outcomes of messages.
    pub(super) fn look_at_bounces(&self) {
        if let Err(error) = self.suppress_soft_bounces() {
            tracing::warn!(%error, "soft bounces were not suppressed; it is tried again");
        }
    }

    /// Suppresses whom the rule on soft bounces names; what is to be done follows from the state, so that nothing is lost by a
    /// crash in between.
    pub fn suppress_soft_bounces(&self) -> Result<(), EngineError> {
        let rule = self.options.soft_bounces;
        // Read first: what is noted during the look is looked at the next time.
        let (noted, channels): (u64, Vec<Channel>) = {
            let state = self.book.read();
            (state.events.soft.noted(), state.events.soft.channels().collect())
        };
        if noted == self.events.soft_noted.load(Ordering::Acquire) {
            return Ok(());
        }
        let at = self.book.now();
        for channel in channels {
            let due = self.book.read().events.soft.due(channel, rule, day_of(at));
            if due.is_empty() {
                continue;
            }
            // Found before the book is held.
            let mut known: Vec<(u32, AddressHash)> = Vec::new();
            self.store.reader()?.records(due.iter(), |row, record| {
                known.extend(hash_of(&self.store, channel, record).map(|hash| (row, hash)));
                true
            })?;
            let mut suppressed = 0;
            self.book.commit_by::<CommitError>(
                |state| {
                    // Judged again: a person may just have taken one back.
                    let rows = state.events.soft.due(channel, rule, day_of(at)) & &due;
                    let dead = known.iter().filter(|(row, _)| rows.contains(*row)).map(|(_, hash)| *hash);
                    let addresses: Vec<AddressHash> = dead.collect::<BTreeSet<_>>().into_iter().collect();
                    let is_new = |hash: &&AddressHash| state.suppression.address_entry(Some(channel), **hash).is_none();
                    suppressed = addresses.iter().filter(is_new).count() as u64;
                    let judged = SoftBouncesJudged { channel, rows, addresses, at };
                    Ok((!judged.rows.is_empty()).then_some(Fact::SoftBouncesJudged(judged)))
                },
                Want::idle(),
            )?;
            count_suppressed(SuppressReason::SoftBounces, suppressed);
        }
        self.events.soft_noted.store(noted, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
