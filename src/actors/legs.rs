//! New sends for a run whose actor is on its way: a later version adds sends and changes those ahead.
//!
//! The engine puts them into the inbox, and the actor takes them in at its next look. Nothing is lost with them: after a
//! restart the actor begins with the sends of the version in force.

use std::sync::Arc;

use actix::Recipient;
use parking_lot::Mutex;

use crate::actors::decide::Classes;
use crate::actors::line::Line;
use crate::actors::{Join, Leave};
use crate::clock::Timestamp;
use crate::config::caps::Caps;
use crate::contacts::Store;
use crate::content::CompiledMessage;
use crate::flow::NodeId;
use crate::ids::{CampaignId, DeliveryId, MessageId, RowSpace};

/// A send of a run, as far as it is known outside its actor.
pub struct NewLeg {
    /// The version whose content it sends.
    pub version: u32,
    /// Whose rows are sent to, and where their records are.
    pub space: RowSpace,
    pub store: Store,
    pub delivery: DeliveryId,
    pub campaign: CampaignId,
    pub topic: String,
    pub send: NodeId,
    pub message: MessageId,
    pub compiled: Arc<CompiledMessage>,
    pub classes: Classes,
    pub caps: Arc<Caps>,
    pub weight: u32,
    pub send_until: Option<Timestamp>,
    pub line: Arc<Line>,
    pub channel: Recipient<Join>,
    pub leave: Recipient<Leave>,
}

/// Bounded by the sends of a version: each publication replaces what was not taken in.
pub type LegInbox = Mutex<Vec<NewLeg>>;
