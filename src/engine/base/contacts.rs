//! One contact: written, changed, asked for its consent, erased.

use roaring::RoaringBitmap;

use crate::actors::book::CommitError;
use crate::clock::Timestamp;
use crate::contacts::one_shot::hashes::hash_of;
use crate::contacts::{
    AttributeSets, ConsentEntry, ConsentStatus, ContactInput, ContactsError, Reader, Record, Upserted, Value,
};
use crate::engine::Engine;
use crate::engine::base::BaseError;
use crate::engine::history;
use crate::ids::{AddressHash, Channel, ContactRow, RowSpace};
use crate::journal::Want;
use crate::ledger::facts::{ConsentChanged, Suppressed, Unsubscribed, Unsuppressed};
use crate::ledger::suppression::SuppressReason;
use crate::ledger::{Fact, RowSet};

/// A change of consent that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentWish {
    pub channel: Channel,
    pub topic: String,
    pub status: ConsentStatus,
}

/// A change of consent that is durable, and what the history of its contacts has to say of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Consented {
    pub rows: RoaringBitmap,
    pub entry: ConsentEntry,
}

impl Consented {
    pub fn of_change(fact: &ConsentChanged) -> Consented {
        let ConsentChanged { channel, topic, status, rows, source, at } = fact;
        let entry =
            ConsentEntry { channel: *channel, topic: topic.clone(), status: *status, source: source.clone(), at: *at };
        Consented { rows: rows.rows.clone(), entry }
    }

    pub fn of_opt_out(fact: &Unsubscribed) -> Consented {
        let Unsubscribed { channel, topic, rows, source, at, .. } = fact;
        let status = ConsentStatus::Unsubscribed;
        let entry = ConsentEntry { channel: *channel, topic: topic.clone(), status, source: source.clone(), at: *at };
        // Only contacts have histories.
        let rows = if rows.space == RowSpace::BASE { rows.rows.clone() } else { RoaringBitmap::new() };
        Consented { rows, entry }
    }

    /// What a replayed fact says of consent, if it does.
    pub fn of(fact: &Fact) -> Option<Consented> {
        match fact {
            Fact::ConsentChanged(changed) => Some(Consented::of_change(changed)),
            Fact::Unsubscribed(opted) => Some(Consented::of_opt_out(opted)),
            _ => None,
        }
    }
}

impl Engine {
    /// Creates the contact or replaces its fields, then its consent. Consent that is not named stays.
    ///
    /// The record comes first, because consent is a fact about a row. A crash in between leaves a contact without consent,
    /// whom nobody mails; the caller was told nothing and asks again.
    pub fn put_contact(
        &self,
        input: &ContactInput,
        wishes: &[ConsentWish],
        source: &str,
    ) -> Result<Upserted, BaseError> {
        let done = self.store.upsert(input, self.book.now())?;
        self.change_consent(done.row, wishes, source)?;
        Ok(done)
    }

    /// Changes the fields that are named, then its consent.
    pub fn patch_contact(
        &self,
        key: &str,
        input: &ContactInput,
        wishes: &[ConsentWish],
        source: &str,
    ) -> Result<Upserted, BaseError> {
        let row = self.row_of(key)?;
        let done = match self.store.patch(row, input, self.book.now()) {
            // Erased since.
            Err(ContactsError::NoSuchRow { .. }) => return Err(BaseError::NoContact { key: key.to_owned() }),
            done => done?,
        };
        self.change_consent(row, wishes, source)?;
        Ok(done)
    }

    pub fn row_of(&self, key: &str) -> Result<ContactRow, BaseError> {
        let row = self.store.reader()?.row_of_key(key.trim())?;
        row.ok_or_else(|| BaseError::NoContact { key: key.to_owned() })
    }

    /// Changes consent of one contact; what is so already is no change. In force and durable when it returns.
    pub fn change_consent(&self, row: ContactRow, wishes: &[ConsentWish], source: &str) -> Result<(), BaseError> {
        let notes = self.history.notes();
        let change = notes.begin();
        let mut changed = Vec::new();
        let committed = self.commit_consent(row, wishes, source, &mut changed);
        if changed.is_empty() {
            notes.done(change);
            return committed;
        }
        // One wait for all of them: the journal is durable in order.
        self.book.journal().flush().map_err(CommitError::from)?;
        let said: Vec<Consented> = changed.iter().map(Consented::of_change).collect();
        // What was made is told, even if a later wish failed.
        match history::note(&self.store, &said) {
            Ok(()) => notes.done(change),
            // The change is made and durable; its history follows.
            Err(error) => {
                tracing::warn!(%error, "a consent does not enter its contact's history at once");
                notes.note(change, said);
            }
        }
        committed
    }

    fn commit_consent(
        &self,
        row: ContactRow,
        wishes: &[ConsentWish],
        source: &str,
        changed: &mut Vec<ConsentChanged>,
    ) -> Result<(), BaseError> {
        let rows = RoaringBitmap::from_iter([row.0]);
        for wish in wishes {
            let at = self.book.now();
            if wish.status == ConsentStatus::Subscribed {
                self.take_back_opt_out(row, wish, at)?;
            }
            let mut fact = None;
            self.book.commit_by::<CommitError>(
                |state| {
                    if state.consent.status(wish.channel, &wish.topic, row.0) == wish.status {
                        return Ok(None);
                    }
                    let made = ConsentChanged {
                        channel: wish.channel,
                        topic: wish.topic.clone(),
                        status: wish.status,
                        rows: RowSet::base(rows.clone()),
                        source: source.to_owned(),
                        at,
                    };
                    fact = Some(made.clone());
                    Ok(Some(Fact::ConsentChanged(made)))
                },
                Want::idle(),
            )?;
            changed.extend(fact);
        }
        Ok(())
    }

    /// Whoever subscribes again after an opt-out of everything means it: the entry of the address goes. What is subscribed
    /// already is no new word.
    fn take_back_opt_out(&self, row: ContactRow, wish: &ConsentWish, at: Timestamp) -> Result<(), BaseError> {
        let reader = self.store.reader()?;
        let hash = reader.record(row)?.and_then(|record| hash_of(&self.store, wish.channel, record));
        let Some(hash) = hash else { return Ok(()) };
        let (channel, reason) = (Some(wish.channel), SuppressReason::Unsubscribed);
        self.book.commit_by::<CommitError>(
            |state| {
                let entry = state.suppression.address_entry(channel, hash).filter(|entry| entry.reason == reason);
                let is_new = state.consent.status(wish.channel, &wish.topic, row.0) != wish.status;
                let (rows, addresses, reason) = (RowSet::default(), vec![hash], Some(reason));
                let fact = Unsuppressed { channel, rows, addresses, at, reason };
                Ok((entry.is_some() && is_new).then_some(Fact::Unsuppressed(fact)))
            },
            Want::idle(),
        )?;
        Ok(())
    }

    /// Erases a contact: its record, history, consent, lists. What stays is the salted hash of each address it had, as a
    /// suppression, so that an import of an old file does not bring it back into the mail.
    ///
    /// The journal comes first, under the store's write transaction, so that no other writer gives the contact an address
    /// meanwhile: suppress the addresses, then forget the row, durable; only then does the store forget the record. A crash
    /// after the first fact leaves a contact who is not mailed and a caller who asks again; a crash after the second leaves
    /// a record that the next start erases ([`Engine::repair_base`]). The other order could lose the suppression.
    pub fn erase_contact(&self, key: &str) -> Result<(), BaseError> {
        let mut writer = self.store.writer()?;
        let unknown = || BaseError::NoContact { key: key.to_owned() };
        let row = writer.row_of_key(key.trim())?.ok_or_else(unknown)?;
        let reader = self.store.reader()?;
        let record = reader.record(row)?.ok_or_else(unknown)?;
        let at = self.book.now();
        for (channel, addresses) in addresses_of(&reader, record) {
            let fact = Suppressed {
                channel: Some(channel),
                reason: SuppressReason::Erased,
                rows: RowSet::default(),
                addresses,
                at,
            };
            self.book.commit(&Fact::Suppressed(fact), Want::idle())?;
        }
        drop(reader);
        let rows = RowSet::base(RoaringBitmap::from_iter([row.0]));
        self.book.commit_durable(&Fact::ContactsErased { rows })?;
        writer.erase(row)?;
        writer.commit()?;
        Ok(())
    }

    /// Brings the store up to what the journal says: erases records that were erased in the journal only. Harmless to repeat.
    pub fn repair_base(&self) -> Result<(), BaseError> {
        let erased = {
            let reader = self.store.reader()?;
            let universe = reader.universe()?;
            &self.book.read().erased & &*universe
        };
        if !erased.is_empty() {
            tracing::warn!(contacts = erased.len(), "erasing contacts whose erasure was cut short");
            self.store.write(|writer| erased.iter().try_for_each(|row| writer.erase(ContactRow(row)).map(drop)))?;
        }
        Ok(())
    }
}

/// The hashes of every address of a contact, by channel.
fn addresses_of(reader: &Reader, record: Record<'_>) -> Vec<(Channel, Vec<AddressHash>)> {
    let hash = |channel, text: &str| reader.store().address_hash(channel, text);
    let mut all = Vec::new();
    for channel in Channel::ALL {
        let hashes: Vec<AddressHash> = match record.get(channel.address_attribute()) {
            // Nobody else can get the key of an erased contact by its webhook address: it is the sender's own number.
            _ if channel == Channel::Webhook => continue,
            Some(Value::Text(text)) => vec![hash(channel, text)],
            Some(Value::List(list)) => list.iter().map(|text| hash(channel, text)).collect(),
            _ => continue,
        };
        if !hashes.is_empty() {
            all.push((channel, hashes));
        }
    }
    all
}

/// Days since the epoch → the moment that they begin.
pub(super) fn day(day: i32) -> Timestamp {
    Timestamp(i64::from(day) * 86_400_000)
}
