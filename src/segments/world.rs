//! What an expression is evaluated in: the indices, and what is known of lists, segments, consent and time.
//!
//! Owns no state. Invariants, kept by who implements it: WO-1 all answers are of one moment; WO-2 `now` does not move
//! during an evaluation.

use std::sync::Arc;

use jiff::tz::TimeZone;
use roaring::RoaringBitmap;

use crate::clock::Timestamp;
use crate::contacts::{AttributeSets, ContactsError, Schema};
use crate::ids::Channel;
use crate::segments::error::Untold;
use crate::segments::expression::Expression;
use crate::segments::history::{Engagement, Event};

/// What rows are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The contact base.
    #[default]
    Base,
    /// One uploaded file: its columns only; lists and segments do not reach it.
    OneShot,
}

pub trait World {
    fn sets(&self) -> &dyn AttributeSets;
    fn schema(&self) -> &Schema;
    fn now(&self) -> Timestamp;
    /// In whose days an expression counts that names no zone.
    fn zone(&self) -> &TimeZone;
    fn scope(&self) -> Scope {
        Scope::Base
    }
    /// The members of a list; `None` if there is no such list.
    fn list(&self, name: &str) -> Result<Option<Arc<RoaringBitmap>>, ContactsError>;
    /// The expression of a stored segment; `None` if there is no such segment.
    fn segment(&self, name: &str) -> Option<Arc<Expression>>;
    /// Contacts with a consent for the topic; an unknown topic has none.
    fn subscribed(&self, channel: Channel, topic: &str) -> Arc<RoaringBitmap>;
    /// Contacts who withdrew their consent for the topic.
    fn unsubscribed(&self, channel: Channel, topic: &str) -> Arc<RoaringBitmap>;
    /// Contacts suppressed everywhere, and with a channel also those suppressed on it; by contact or by address.
    fn suppressed(&self, channel: Option<Channel>) -> Arc<RoaringBitmap>;
    /// Contacts with an event of any run of a campaign; why not, if there is no campaign of this name, or it is not known
    /// of all its runs.
    fn history(&self, event: Event, campaign: &str) -> Result<Arc<RoaringBitmap>, Untold>;
    /// Contacts with an event of any campaign, on a channel or on any, today or on one of the `days` − 1 days before.
    fn recent(&self, event: Event, channel: Option<Channel>, days: u32) -> Arc<RoaringBitmap>;
    /// Contacts who opened or clicked at least so many different messages today or on one of the `days` − 1 days before.
    fn messages(&self, did: Engagement, least: u32, days: u32) -> Arc<RoaringBitmap>;
    /// Contacts with at least so many events of a type, ever or on the last days; nobody has one of a type that never came.
    fn did(&self, name: &str, least: u32, days: Option<u32>) -> Arc<RoaringBitmap>;
    /// Contacts with an event of a type that ever had a property of this value, as far as it is kept.
    fn did_with(&self, name: &str, property: &str, value: &str) -> Arc<RoaringBitmap>;
}
