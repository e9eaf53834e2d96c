//! The release check: the last look at a claimed row before it is rendered (promise 4).
//!
//! Pure: everything that it looks at is handed in. A row of the contact base has a consent of its own; a row of an upload has
//! its sender's word, over which the opt-outs and suppressions of its address, and of contacts with its address, win.

use crate::contacts::Record;
use crate::ids::{AddressHash, Channel, ContactRow};
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

/// [`refusal`] of a row of an upload. `twins` are the contacts with its address.
pub fn refusal_of_upload(
    opted: &Opted<'_>,
    record: Option<&Record<'_>>,
    address: Option<AddressHash>,
    twins: &[ContactRow],
) -> Option<SkipReason> {
    if record.is_none() {
        return Some(SkipReason::Erased);
    }
    let Some(address) = address else { return Some(SkipReason::NoAddress) };
    let suppression = &opted.state.suppression;
    if suppression.is_address_suppressed(opted.channel, address).is_some() {
        return Some(SkipReason::SuppressedAddress);
    }
    if twins.iter().any(|twin| suppression.is_row_suppressed(opted.channel, twin.0).is_some()) {
        return Some(SkipReason::Suppressed);
    }
    // Under no topic, an opt-out of any topic counts.
    let mut topics =
        opted.state.consent.topics().filter(|(channel, topic, _)| {
            *channel == opted.channel && (opted.topic.is_empty() || *topic == opted.topic)
        });
    topics
        .any(|(_, _, sets)| twins.iter().any(|twin| sets.unsubscribed.contains(twin.0)))
        .then_some(SkipReason::Unsubscribed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::ids::AttributeId;
    use crate::ledger::consent::ConsentStatus;
    use crate::ledger::suppression::{Entry, SuppressReason};

    const ADDRESS: AddressHash = AddressHash([1; 16]);
    const TWIN: ContactRow = ContactRow(5);

    fn why(state: &State, topic: &str, twins: &[ContactRow]) -> Option<SkipReason> {
        let mut builder = crate::contacts::RecordBuilder::new();
        builder.set(AttributeId::EMAIL, crate::contacts::Value::Text("a@x.test"));
        let bytes = builder.to_bytes();
        let record = Record::parse(&bytes).expect("a record");
        let opted = Opted { state, channel: Channel::Email, topic };
        refusal_of_upload(&opted, Some(&record), Some(ADDRESS), twins)
    }

    #[test]
    fn a_row_of_an_upload_needs_no_consent_and_its_address_may_not_have_opted_out() {
        let mut state = State::default();
        assert_eq!(why(&state, "news", &[TWIN]), None, "nobody has said no");
        // The same number of the base is another person.
        let rows = roaring::RoaringBitmap::from_iter([TWIN.0]);
        state.consent.set(Channel::Email, "offers", ConsentStatus::Unsubscribed, &rows);
        assert_eq!(why(&state, "news", &[TWIN]), None, "another topic");
        assert_eq!(why(&state, "offers", &[TWIN]), Some(SkipReason::Unsubscribed), "this one");
        assert_eq!(why(&state, "", &[TWIN]), Some(SkipReason::Unsubscribed), "any, where the message has none");
        assert_eq!(why(&state, "offers", &[ContactRow(6)]), None, "somebody else's opt-out");
        state.suppression.add_rows(None, SuppressReason::Manual, &rows, Timestamp(0));
        assert_eq!(why(&state, "news", &[TWIN]), Some(SkipReason::Suppressed), "a contact with the address");
        let entry = Entry { reason: SuppressReason::Unsubscribed, at: Timestamp(0) };
        state.suppression.add_address(Some(Channel::Email), ADDRESS, entry);
        assert_eq!(why(&state, "news", &[]), Some(SkipReason::SuppressedAddress), "the address itself");
    }

    #[test]
    fn without_a_record_or_an_address_nothing_goes() {
        let state = State::default();
        let opted = Opted { state: &state, channel: Channel::Email, topic: "" };
        assert_eq!(refusal_of_upload(&opted, None, Some(ADDRESS), &[]), Some(SkipReason::Erased));
        let bytes = crate::contacts::RecordBuilder::new().to_bytes();
        let record = Record::parse(&bytes).expect("a record");
        assert_eq!(refusal_of_upload(&opted, Some(&record), None, &[]), Some(SkipReason::NoAddress));
    }
}
