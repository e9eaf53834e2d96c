//! The release check: the last look at a claimed row before it is rendered (promise 4).
//!
//! Pure: everything that it looks at is handed in.

use crate::contacts::Record;
use crate::ids::{AddressHash, Channel};
use crate::ledger::State;
use crate::ledger::consent::ConsentStatus;
use crate::segments::skip::SkipReason;

/// What a release looks at besides the record.
pub struct Opted<'a> {
    pub state: &'a State,
    pub channel: Channel,
    /// Topic to be subscribed to; empty means that no consent is asked for.
    pub topic: &'a str,
}

/// Why the row must not be sent to now; `None` releases it.
pub fn refusal(
    opted: &Opted<'_>,
    row: u32,
    record: Option<&Record<'_>>,
    address: Option<AddressHash>,
) -> Option<SkipReason> {
    let Some(record) = record else { return Some(SkipReason::Erased) };
    if !record.is_active() {
        return Some(SkipReason::Deactivated);
    }
    if record.address(opted.channel).is_none() {
        return Some(SkipReason::NoAddress);
    }
    if let Some(reason) = opted_out(opted, row) {
        return Some(reason);
    }
    let suppression = &opted.state.suppression;
    address.and_then(|a| suppression.is_address_suppressed(opted.channel, a)).map(|_| SkipReason::SuppressedAddress)
}

/// The part that may change between stock and send: consent and suppression by row.
pub fn opted_out(opted: &Opted<'_>, row: u32) -> Option<SkipReason> {
    if !opted.topic.is_empty() {
        match opted.state.consent.status(opted.channel, opted.topic, row) {
            ConsentStatus::Subscribed => {}
            ConsentStatus::Unsubscribed => return Some(SkipReason::Unsubscribed),
            ConsentStatus::None => return Some(SkipReason::NotSubscribed),
        }
    }
    opted.state.suppression.is_row_suppressed(opted.channel, row).map(|_| SkipReason::Suppressed)
}
