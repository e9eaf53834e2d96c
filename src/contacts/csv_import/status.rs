//! What the store keeps of an import: how the file is read, how far it has come, and the last chunk until its caller has
//! confirmed it.
//!
//! ```text
//! imports: import 's'  the spec, the plan and the paths, written once     import 'p'  progress
//!          import 'u'  the unconfirmed chunk: u32 number · u32 length, rows · unsubscribed rows (portable Roaring format)
//! ```

use std::path::PathBuf;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::contacts::csv_import::detect::Encoding;
use crate::contacts::csv_import::rejected::Reasons;
use crate::contacts::csv_import::{ImportError, ImportSpec, Plan};
use crate::contacts::store::Store;
use crate::contacts::writer::Writer;
use crate::contacts::{ContactsError, Reader, StoreResult, index_keys};
use crate::ids::ImportId;

/// How far an import has come. `rows = accepted + merged + rejected`, `accepted = created + updated + unchanged`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    pub chunks: u32,
    /// Rows of the file that were read, without the header.
    pub rows: u64,
    /// Rows that made or changed a contact, or found it as it is.
    pub accepted: u64,
    pub created: u64,
    pub updated: u64,
    pub unchanged: u64,
    /// Rows whose key an earlier row of the file has.
    pub merged: u64,
    pub rejected: u64,
    /// The rejected rows by column and reason.
    pub rejected_by: Reasons,
    pub finished: bool,
    /// Why the import was given up.
    pub failed: Option<String>,
    /// Position in the decoded text, and line, at which the next chunk begins.
    pub position: u64,
    pub line: u64,
    /// Bytes of the file of rejected rows.
    pub rejected_bytes: u64,
}

/// The part that is written once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) spec: ImportSpec,
    pub(crate) plan: Plan,
    pub(crate) spool: PathBuf,
    pub(crate) rejected: PathBuf,
    pub(crate) file_bytes: u64,
}

/// Everything about one import.
#[derive(Clone, Debug, Serialize)]
pub struct ImportStatus {
    pub spec: ImportSpec,
    pub plan: Plan,
    pub spool: PathBuf,
    pub rejected: PathBuf,
    pub file_bytes: u64,
    pub progress: Progress,
}

impl ImportStatus {
    /// Share of the file that is done, 0 ..= 1; an estimate where the file's encoding is not UTF-8.
    pub fn fraction(&self) -> f64 {
        if self.progress.finished {
            return 1.0;
        }
        let file_bytes = match self.plan.format.encoding {
            Encoding::Utf8 | Encoding::Latin1 => self.file_bytes,
            Encoding::Utf16Le | Encoding::Utf16Be => self.file_bytes / 2,
        };
        (self.progress.position as f64 / file_bytes.max(1) as f64).min(1.0)
    }
}

/// A chunk that was committed and not yet confirmed.
pub(crate) struct Unconfirmed {
    pub(crate) chunk: u32,
    pub(crate) rows: RoaringBitmap,
    pub(crate) unsubscribed: RoaringBitmap,
}

fn key(import: ImportId, kind: u8) -> [u8; 5] {
    let mut key = [kind; 5];
    key[..4].copy_from_slice(&import.0.to_be_bytes());
    key
}

const DAMAGED: ContactsError = ContactsError::Damaged { what: "import" };

impl Reader {
    pub fn import(&self, import: ImportId) -> Result<Option<ImportStatus>, ContactsError> {
        let Some(saved) = self.import_entry(&key(import, b's'))? else {
            return Ok(None);
        };
        let saved: Saved = serde_json::from_slice(saved).map_err(|_| DAMAGED)?;
        let progress = self.import_entry(&key(import, b'p'))?.ok_or(DAMAGED)?;
        let progress = serde_json::from_slice(progress).map_err(|_| DAMAGED)?;
        let Saved { spec, plan, spool, rejected, file_bytes } = saved;
        Ok(Some(ImportStatus { spec, plan, spool, rejected, file_bytes, progress }))
    }

    /// All imports that the store knows, by number.
    pub fn imports(&self) -> Result<Vec<ImportStatus>, ContactsError> {
        let mut out = Vec::new();
        for key in self.import_keys()? {
            if let Some((import, b"s")) = key.split_first_chunk().map(|(i, k)| (u32::from_be_bytes(*i), k)) {
                out.extend(self.import(ImportId(import))?);
            }
        }
        Ok(out)
    }

    pub(crate) fn unconfirmed(&self, import: ImportId) -> Result<Option<Unconfirmed>, ContactsError> {
        let Some(bytes) = self.import_entry(&key(import, b'u'))? else {
            return Ok(None);
        };
        let (chunk, rest) = bytes.split_first_chunk().ok_or(DAMAGED)?;
        let (length, rest) = rest.split_first_chunk().ok_or(DAMAGED)?;
        let (rows, unsubscribed) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or(DAMAGED)?;
        let bitmap = |bytes| RoaringBitmap::deserialize_from(bytes).map_err(|_| DAMAGED);
        Ok(Some(Unconfirmed {
            chunk: u32::from_le_bytes(*chunk),
            rows: bitmap(rows)?,
            unsubscribed: bitmap(unsubscribed)?,
        }))
    }

    /// The rows that an unfinished import has seen.
    pub(crate) fn rows_seen(&self, import: ImportId) -> Result<RoaringBitmap, ContactsError> {
        let mut prefix = Vec::new();
        index_keys::seen(import, &mut prefix);
        self.set(&prefix)
    }
}

impl Writer<'_> {
    pub(crate) fn save_import(&mut self, saved: &Saved) -> Result<(), ContactsError> {
        let bytes = serde_json::to_vec(saved).map_err(|_| DAMAGED)?;
        self.store
            .inner
            .dbs
            .imports
            .put(&mut self.txn, &key(saved.spec.import, b's'), &bytes)
            .or_store("write an import")
    }

    pub(crate) fn save_progress(&mut self, import: ImportId, progress: &Progress) -> Result<(), ContactsError> {
        let bytes = serde_json::to_vec(progress).map_err(|_| DAMAGED)?;
        self.store.inner.dbs.imports.put(&mut self.txn, &key(import, b'p'), &bytes).or_store("write progress")
    }

    pub(crate) fn save_unconfirmed(
        &mut self,
        import: ImportId,
        chunk: Option<&Unconfirmed>,
    ) -> Result<(), ContactsError> {
        let imports = self.store.inner.dbs.imports;
        let key = key(import, b'u');
        let Some(chunk) = chunk else {
            return imports.delete(&mut self.txn, &key).or_store("confirm a chunk").map(drop);
        };
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&chunk.chunk.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(chunk.rows.serialized_size()).unwrap_or(u32::MAX).to_le_bytes());
        chunk.rows.serialize_into(&mut bytes).map_err(|_| DAMAGED)?;
        chunk.unsubscribed.serialize_into(&mut bytes).map_err(|_| DAMAGED)?;
        imports.put(&mut self.txn, &key, &bytes).or_store("write a chunk")
    }

    /// Adds to the rows that the import has seen.
    pub(crate) fn save_seen(&mut self, import: ImportId, rows: &[u32]) -> Result<(), ContactsError> {
        let mut prefix = Vec::new();
        index_keys::seen(import, &mut prefix);
        self.batch.apply_set(&mut self.txn, &self.store.inner.dbs, &mut prefix, rows, &[], None)
    }

    /// Forgets which rows the import has seen.
    pub(crate) fn drop_seen(&mut self, import: ImportId) -> Result<(), ContactsError> {
        let (mut first, mut last) = (Vec::new(), Vec::new());
        index_keys::seen(import, &mut first);
        last.extend_from_slice(&first);
        last.extend_from_slice(&u16::MAX.to_be_bytes());
        let range = (std::ops::Bound::Included(&first[..]), std::ops::Bound::Included(&last[..]));
        self.store.inner.dbs.index.delete_range(&mut self.txn, &range).or_store("drop an import").map(drop)
    }
}

impl Store {
    /// Remembers that the import was given up, and why; it can still be resumed.
    pub fn fail_import(&self, import: ImportId, reason: &str) -> Result<(), ImportError> {
        let status = self.reader()?.import(import)?.ok_or(ImportError::NoSuchImport { import })?;
        let progress = Progress { failed: Some(reason.to_owned()), ..status.progress };
        Ok(self.write(|w| w.save_progress(import, &progress))?)
    }

    /// Forgets the import; its contacts and its files stay.
    pub fn forget_import(&self, import: ImportId) -> Result<(), ContactsError> {
        self.write(|w| {
            w.drop_seen(import)?;
            for kind in *b"spu" {
                w.store.inner.dbs.imports.delete(&mut w.txn, &key(import, kind)).or_store("forget an import")?;
            }
            Ok(())
        })
    }
}
