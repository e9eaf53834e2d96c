//! A chunk of parsed rows → the store, within one write transaction.
//!
//! Owns nothing but buffers. Rows are taken in the order of their keys, so that the database of keys is walked once, new
//! rows are appended to the records, and each container of the index is written once.

use heed::PutFlags;
use roaring::RoaringBitmap;

use crate::contacts::csv_import::rows::Chunk;
use crate::contacts::csv_import::{Duplicates, EmptyCells, ImportSpec, Plan, Progress};
use crate::contacts::record::{Record, RecordBuilder, Value};
use crate::contacts::schema::Schema;
use crate::contacts::writer::{Writer, row_from};
use crate::contacts::{ContactsError, StoreResult};
use crate::ids::{AttributeId, ContactRow};

/// How a row of the file is laid over a contact that is there.
pub(crate) struct Rules {
    duplicates: Duplicates,
    /// Attributes that an empty cell clears.
    clears: Vec<AttributeId>,
    /// The file says whether a contact is active.
    sets_active: bool,
    now: crate::clock::Timestamp,
}

impl Rules {
    pub(crate) fn new(spec: &ImportSpec, plan: &Plan, schema: &Schema) -> Rules {
        let planned = plan.columns.iter().filter_map(|c| schema.by_name(c.attribute.as_deref()?)).map(|a| a.id);
        let mut clears: Vec<AttributeId> = planned.collect();
        let sets_active = clears.contains(&AttributeId::ACTIVE);
        clears.retain(|id| *id != AttributeId::ACTIVE);
        if clears.contains(&AttributeId::EMAIL) {
            clears.push(AttributeId::EMAIL_DOMAIN);
        }
        if spec.empty_cells == EmptyCells::Keep {
            clears.clear();
        }
        Rules { duplicates: spec.duplicates, clears, sets_active, now: spec.now }
    }

    /// Lays what a row of the file says over `builder`.
    fn overlay(&self, builder: &mut RecordBuilder, row: Record<'_>) {
        for id in &self.clears {
            builder.remove(*id);
        }
        for (id, bytes) in row.raw_iter() {
            let kept = matches!(id, AttributeId::KEY | AttributeId::CREATED | AttributeId::UPDATED)
                || (id == AttributeId::ACTIVE && !self.sets_active);
            if !kept {
                builder.set_raw(id, bytes);
            }
        }
    }
}

/// What a chunk did.
pub(crate) struct Taken {
    /// Every contact that a row of the chunk names.
    pub(crate) rows: Vec<u32>,
    pub(crate) unsubscribed: RoaringBitmap,
}

/// What the rows of a chunk share, so that none is allocated for each.
#[derive(Default)]
struct Buffers {
    builder: RecordBuilder,
    old: Vec<u8>,
    new: Vec<u8>,
}

fn parse(bytes: &[u8]) -> Result<Record<'_>, ContactsError> {
    Record::parse(bytes).map_err(|_| ContactsError::Damaged { what: "parsed row" })
}

impl Writer<'_> {
    /// Takes the rows of a chunk. `seen` are the rows that earlier chunks of the import named; `progress` is counted up.
    pub(crate) fn take_chunk(
        &mut self,
        chunk: &mut Chunk,
        rules: &Rules,
        seen: &RoaringBitmap,
        progress: &mut Progress,
    ) -> Result<Taken, ContactsError> {
        let dbs = self.store.inner.dbs;
        let says_unsubscribed: RoaringBitmap = chunk.unsubscribed.iter().copied().collect();
        let mut taken = Taken { rows: Vec::with_capacity(chunk.ends.len()), unsubscribed: RoaringBitmap::new() };
        let mut buffers = Buffers::default();
        // Rows that became new contacts as they are: the index entries that the parser prepared hold for them.
        let mut as_parsed: Vec<Option<u32>> = vec![None; chunk.ends.len()];
        for group in chunk.by_key.chunk_by(|a, b| chunk.key(*a) == chunk.key(*b)) {
            let candidate = u32::try_from(self.next_row).map_err(|_| ContactsError::RowsExhausted)?;
            let candidate = candidate.to_le_bytes();
            let present = dbs
                .keys
                .get_or_put(&mut self.txn, chunk.key(group[0]).as_bytes(), &candidate)
                .or_store("write a key")?;
            let (row, created) = match present {
                Some(bytes) => (row_from(bytes)?, false),
                None => (self.take_row()?, true),
            };
            taken.rows.push(row.0);
            let repeats = group.len() as u64;
            let again = seen.contains(row.0);
            progress.merged += if again { repeats } else { repeats - 1 };
            // Opt-out wins: one row that says so is enough.
            if !says_unsubscribed.is_empty() && group.iter().any(|ordinal| says_unsubscribed.contains(*ordinal)) {
                taken.unsubscribed.insert(row.0);
            }
            let group = if rules.duplicates == Duplicates::Oldest { &group[..1] } else { group };
            if created {
                if group.len() == 1 {
                    as_parsed[group[0] as usize] = Some(row.0);
                }
                self.append_row(row, chunk, group, rules, &mut buffers)?;
                progress.created += 1;
                continue;
            }
            if again && rules.duplicates == Duplicates::Oldest {
                continue;
            }
            let changed = self.overlay_row(row, chunk, group, rules, &mut buffers)?;
            if !again {
                let count = if changed { &mut progress.updated } else { &mut progress.unchanged };
                *count += 1;
            }
        }
        if let Some(index) = &mut chunk.index {
            self.batch.absorb(index, &as_parsed);
        }
        progress.accepted = progress.created + progress.updated + progress.unchanged;
        taken.rows.sort_unstable();
        Ok(taken)
    }

    /// Writes a new contact. The index entries of a single row are the parser's, those of several are collected here.
    fn append_row(
        &mut self,
        row: ContactRow,
        chunk: &Chunk,
        group: &[u32],
        rules: &Rules,
        Buffers { builder, new, .. }: &mut Buffers,
    ) -> Result<(), ContactsError> {
        let Some((first, later)) = group.split_first() else {
            return Ok(());
        };
        let mut bytes = chunk.record(*first);
        if !later.is_empty() {
            builder.clear();
            builder.extend_raw(parse(bytes)?);
            for ordinal in later {
                rules.overlay(builder, parse(chunk.record(*ordinal))?);
            }
            new.clear();
            builder.write(new);
            self.batch.change(row.0, None, Some(parse(new)?));
            bytes = new;
        }
        // New rows are beyond all others.
        let records = self.store.inner.dbs.records;
        records.put_with_flags(&mut self.txn, PutFlags::APPEND, &row.0.to_be_bytes(), bytes).or_store("append a record")
    }

    /// Changes a contact that is there; answers whether its record is another one now.
    fn overlay_row(
        &mut self,
        row: ContactRow,
        chunk: &Chunk,
        group: &[u32],
        rules: &Rules,
        Buffers { builder, old, new }: &mut Buffers,
    ) -> Result<bool, ContactsError> {
        let records = self.store.inner.dbs.records;
        let damaged = || ContactsError::DamagedRecord { row: row.0 };
        let present = records.get(&self.txn, &row.0.to_be_bytes()).or_store("read a record")?;
        old.clear();
        old.extend_from_slice(present.ok_or_else(damaged)?);
        let before = Record::parse(old).map_err(|_| damaged())?;
        builder.clear();
        builder.extend_raw(before);
        for ordinal in group {
            rules.overlay(builder, parse(chunk.record(*ordinal))?);
        }
        new.clear();
        builder.write(new);
        if before.raw_iter().eq(parse(new)?.raw_iter()) {
            return Ok(false);
        }
        builder.set(AttributeId::UPDATED, Value::Time(rules.now));
        new.clear();
        builder.write(new);
        self.batch.change(row.0, Some(before), Some(parse(new)?));
        records.put(&mut self.txn, &row.0.to_be_bytes(), new).or_store("write a record")?;
        Ok(true)
    }
}
