//! Suppressions: entries as the client writes and reads them.
//!
//! A page's position is the entry itself: `r` scope reason day row, or `a` scope hash.

use crate::api::errors::Code;
use crate::api::port::{
    NewSuppression, Page, PageRequest, PortError, PortResult, SuppressionFilter, SuppressionView, SuppressionsAdded,
};
use crate::engine::Engine;
use crate::engine::base::{BaseError, Subject, SuppressionEntry, SuppressionFault, SuppressionId, SuppressionWish};
use crate::ids::{AddressHash, Channel};
use crate::ledger::suppression::{RowEntry, SuppressReason};

use super::groups::bad_cursor;
use super::people::channel;

fn refuse(text: String) -> PortError {
    PortError::new(Code::InvalidSuppression, text)
}

fn reason(name: &str) -> PortResult<SuppressReason> {
    let names = || SuppressReason::ALL.map(SuppressReason::name).join(", ");
    let wrong = || refuse(format!("{name:?} is not a reason; the reasons are {}", names()));
    SuppressReason::from_name(name).ok_or_else(wrong)
}

fn text(of: Option<&String>) -> Option<&str> {
    of.map(|t| t.trim()).filter(|t| !t.is_empty())
}

fn wish(index: usize, entry: &NewSuppression) -> PortResult<SuppressionWish> {
    let fault = |reason| PortError::from(BaseError::BadSuppression { index, reason });
    let at = |e: PortError| PortError { message: format!("entry {index}: {}", e.message), ..e };
    let channel = text(entry.channel.as_ref()).map(channel).transpose().map_err(|t| at(refuse(t)))?;
    let reason = match text(entry.reason.as_ref()) {
        None => SuppressReason::Manual,
        Some(name) => reason(name).map_err(at)?,
    };
    let subject = match (text(entry.contact.as_ref()), text(entry.address.as_ref()), text(entry.address_hash.as_ref()))
    {
        (Some(key), None, None) => Subject::Contact(key.to_owned()),
        (None, Some(_), None) if channel.is_none() => return Err(fault(SuppressionFault::NoChannel)),
        (None, Some(address), None) => Subject::Address(address.to_owned()),
        // An export names who has the address; the address is what counts.
        (_, None, Some(hash)) => Subject::Hash(hash_of(hash).ok_or_else(|| fault(SuppressionFault::Hash))?),
        _ => return Err(fault(SuppressionFault::Subject)),
    };
    Ok(SuppressionWish { subject, channel, reason })
}

pub(super) fn add(engine: &Engine, entries: Vec<NewSuppression>) -> PortResult<SuppressionsAdded> {
    let wishes: Vec<SuppressionWish> =
        entries.iter().enumerate().map(|(index, entry)| wish(index, entry)).collect::<PortResult<_>>()?;
    let (added, present) = engine.suppress(&wishes)?;
    Ok(SuppressionsAdded { added, present })
}

pub(super) fn page(
    engine: &Engine,
    filter: &SuppressionFilter,
    page: &PageRequest,
) -> PortResult<Page<SuppressionView>> {
    let after = match &page.after {
        None => None,
        Some(text) => Some(position_of(text).ok_or_else(bad_cursor)?),
    };
    let only_channel = filter.channel.as_deref().map(channel).transpose().map_err(refuse)?;
    let only_reason = filter.reason.as_deref().map(reason).transpose()?;
    let wanted = |channel: Option<Channel>, reason: SuppressReason| {
        only_channel.is_none_or(|only| channel.is_none_or(|c| c == only))
            && only_reason.is_none_or(|only| only == reason)
    };
    let mut entries = engine.suppressions(after, page.limit.saturating_add(1), wanted)?;
    let more = entries.len() > page.limit;
    entries.truncate(page.limit);
    let next = entries.last().filter(|_| more).map(|entry| position(entry.id));
    Ok(Page { items: entries.into_iter().map(view).collect(), next })
}

fn view(entry: SuppressionEntry) -> SuppressionView {
    SuppressionView {
        id: entry.number,
        channel: entry.channel.map(|c| c.name().to_owned()),
        reason: entry.reason.name().to_owned(),
        contact: entry.contact,
        address_hash: entry.address.map(hash_text),
        at: entry.at.into(),
    }
}

fn hash_text(hash: AddressHash) -> String {
    hash.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash_of(text: &str) -> Option<AddressHash> {
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(|number| AddressHash(number.to_be_bytes()))
}

fn position(id: SuppressionId) -> String {
    let scope = |channel: Option<Channel>| channel.map_or(0, |c| c as u8);
    match id {
        SuppressionId::Row(e) => format!("r {} {} {} {}", scope(e.channel), e.reason as u8, e.day, e.row),
        SuppressionId::Address(channel, address) => format!("a {} {}", scope(channel), hash_text(address)),
    }
}

fn position_of(text: &str) -> Option<SuppressionId> {
    let scope = |text: &str| match text.parse::<u8>().ok()? {
        0 => Some(None),
        n => Channel::ALL.into_iter().find(|c| *c as u8 == n).map(Some),
    };
    let mut words = text.split(' ');
    let id = match words.next()? {
        "r" => {
            let channel = scope(words.next()?)?;
            let reason: u8 = words.next()?.parse().ok()?;
            let reason = SuppressReason::ALL.into_iter().find(|r| *r as u8 == reason)?;
            let (day, row) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            SuppressionId::Row(RowEntry { channel, reason, day, row })
        }
        "a" => SuppressionId::Address(scope(words.next()?)?, hash_of(words.next()?)?),
        _ => return None,
    };
    words.next().is_none().then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_read_back() {
        let row = RowEntry { channel: Some(Channel::Sms), reason: SuppressReason::Complaint, day: -3, row: u32::MAX };
        for id in [SuppressionId::Row(row), SuppressionId::Address(None, AddressHash([0xA7; 16]))] {
            assert_eq!(position_of(&position(id)), Some(id), "{id:?}");
        }
        for bad in ["", "r", "r 0 1 2", "r 0 9 0 0", "a 9 00", "a 0 +f", "x", "r 0 1 2 3 4"] {
            assert_eq!(position_of(bad), None, "{bad:?} is no position");
        }
    }
}
