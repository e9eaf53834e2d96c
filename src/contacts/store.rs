//! The contact store: an LMDB environment in a directory, its databases and its meta data.
//!
//! | database | key | value |
//! |---|---|---|
//! | `records` | row | `Record` bytes |
//! | `keys` | contact key | row |
//! | `addresses` | address hash | rows that have it |
//! | `index` | see `index_keys` | container |
//! | `versions` | attribute or channel | id of the last write transaction that changed one of its sets |
//! | `consents` | row, position | one entry of the history |
//! | `imports` | import, kind | progress of an import |
//! | `meta` | name | format, schema, next row, salt, last fact |
//!
//! Invariants: SO-1 a record and all index entries that follow from it change in one transaction; SO-2 a row is never
//! given out twice, erased ones included; SO-3 the schema in memory is at least as new as any snapshot's, and only grows;
//! SO-4 every commit is durable before it returns (LMDB's default; no NOSYNC, no WRITEMAP).
//!
//! The map is reserved at its full size at once: that is address space, neither memory nor disk, and spares the resize,
//! which LMDB allows only while no transaction is open. Must not know: consent rules, suppression, campaigns, HTTP.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use heed::types::Bytes;
use heed::{CommitOrAbort, Env, EnvOpenOptions, WithoutTls};
use parking_lot::{Mutex, RwLock};

use crate::contacts::backup::settle_versions;
use crate::contacts::cache::BitmapCache;
use crate::contacts::reader::Reader;
use crate::contacts::schema::{AttributeType, IndexKind, Schema};
use crate::contacts::writer::Writer;
use crate::contacts::{ContactsError, StoreResult};
use crate::ids::{AddressHash, AttributeId, Channel, RowSpace};
use crate::limits;

/// Version of the layout above; another one is refused.
const FORMAT: u32 = 1;
const DATABASES: u32 = 8;

pub(crate) type Db = heed::Database<'static, Bytes, Bytes>;

#[derive(Clone, Copy)]
pub(crate) struct Databases {
    pub(crate) records: Db,
    pub(crate) keys: Db,
    pub(crate) addresses: Db,
    pub(crate) index: Db,
    pub(crate) versions: Db,
    pub(crate) consents: Db,
    pub(crate) imports: Db,
    pub(crate) meta: Db,
}

pub(crate) struct Inner {
    pub(crate) env: Env<WithoutTls>,
    pub(crate) dbs: Databases,
    pub(crate) cache: Mutex<BitmapCache>,
    pub(crate) schema: RwLock<Arc<Schema>>,
    salt: [u8; 32],
    space: RowSpace,
    directory: PathBuf,
}

/// A contact base, or the rows of one uploaded file. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("directory", &self.inner.directory).field("space", &self.inner.space).finish()
    }
}

impl Store {
    /// Opens the store in `directory`, which is created if needed. Two openings of one directory at a time are an error.
    pub fn open(directory: &Path) -> Result<Store, ContactsError> {
        Store::open_space(directory, RowSpace::BASE, None)
    }

    /// Opens a store for another row space. `salt` is that of the contact base, so that address hashes compare; it takes
    /// effect when the store is new.
    pub fn open_space(directory: &Path, space: RowSpace, salt: Option<[u8; 32]>) -> Result<Store, ContactsError> {
        std::fs::create_dir_all(directory)
            .map_err(|source| ContactsError::Directory { path: directory.to_owned(), source })?;
        let map = if space == RowSpace::BASE { limits::STORE_MAP_BYTES } else { limits::ONE_SHOT_MAP_BYTES };
        let env = open_environment(directory, map)?;
        let dbs = create_databases(&env)?;
        let mut txn = env.write_txn().or_store("begin")?;
        let salt = prepare_meta(&dbs, &mut txn, salt)?;
        settle_versions(&dbs, &mut txn)?;
        let schema = match dbs.meta.get(&txn, b"schema").or_store("read the schema")? {
            Some(bytes) => serde_json::from_slice(bytes).map_err(|_| ContactsError::Damaged { what: "schema" })?,
            None => Schema::built_in(),
        };
        txn.commit().or_store("commit")?;
        Ok(Store {
            inner: Arc::new(Inner {
                env,
                dbs,
                cache: Mutex::default(),
                schema: RwLock::new(Arc::new(schema)),
                salt,
                space,
                directory: directory.to_owned(),
            }),
        })
    }

    pub fn space(&self) -> RowSpace {
        self.inner.space
    }

    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// The salt of address hashes; a secret of the installation.
    pub fn salt(&self) -> [u8; 32] {
        self.inner.salt
    }

    /// The hash of a normalised address.
    pub fn address_hash(&self, channel: Channel, normalised: &str) -> AddressHash {
        crate::contacts::addresses::address_hash(&self.inner.salt, channel, normalised)
    }

    pub fn schema(&self) -> Arc<Schema> {
        Arc::clone(&self.inner.schema.read())
    }

    /// A snapshot. Keep it short: pages that it may see are not reused meanwhile.
    pub fn reader(&self) -> Result<Reader, ContactsError> {
        Reader::new(self.clone())
    }

    /// The write transaction; waits for the present one. Nothing is written unless [`Writer::commit`] is called.
    pub fn writer(&self) -> Result<Writer<'_>, ContactsError> {
        Writer::new(self)
    }

    /// Adds an attribute; `index` of `None` takes the one that serves the type.
    pub fn add_attribute(
        &self,
        name: &str,
        kind: AttributeType,
        index: Option<IndexKind>,
    ) -> Result<AttributeId, ContactsError> {
        let mut writer = self.writer()?;
        let id = writer.add_attribute(name, kind, index)?;
        writer.commit()?;
        Ok(id)
    }

    /// Bytes of decoded index bitmaps in memory.
    pub fn cached_bytes(&self) -> usize {
        self.inner.cache.lock().bytes()
    }

    /// Bytes of the store's file.
    pub fn disk_bytes(&self) -> Result<u64, ContactsError> {
        self.inner.env.real_disk_size().or_store("file size")
    }
}

fn open_environment(directory: &Path, map_bytes: usize) -> Result<Env<WithoutTls>, ContactsError> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(map_bytes).max_readers(limits::STORE_READERS_MAX).max_dbs(DATABASES);
    // SAFETY: opening is unsafe because the map's file must change through LMDB alone. The file lies in the engine's data
    // directory, which the engine locks against a second process; nothing else in the engine opens it; LMDB's lock file is
    // in use (no NO_LOCK), and heed refuses to open one path twice in a process with other options.
    #[allow(unsafe_code, reason = "opening LMDB is one of the two places where the design allows it")]
    let env = unsafe { options.open(directory) };
    env.or_store("open")
}

fn create_databases(env: &Env<WithoutTls>) -> Result<Databases, ContactsError> {
    let txn = env.write_txn().or_store("begin")?;
    let made = env.create_databases_and_commit(txn, |opener, txn| {
        let names = ["records", "keys", "addresses", "index", "versions", "consents", "imports", "meta"];
        let mut made = Vec::with_capacity(names.len());
        for name in names {
            made.push(opener.create_database::<Bytes, Bytes>(txn, Some(name))?);
        }
        let made: [_; 8] = made.try_into().map_err(|_| heed::Error::Mdb(heed::MdbError::DbsFull))?;
        Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(made))
    });
    let Some([records, keys, addresses, index, versions, consents, imports, meta]) =
        made.or_store("open databases")?.commit()
    else {
        return Err(ContactsError::Damaged { what: "databases" });
    };
    Ok(Databases { records, keys, addresses, index, versions, consents, imports, meta })
}

/// Checks the format and makes the salt of a new store.
fn prepare_meta(dbs: &Databases, txn: &mut heed::RwTxn<'_>, salt: Option<[u8; 32]>) -> Result<[u8; 32], ContactsError> {
    match dbs.meta.get(txn, b"format").or_store("read meta data")? {
        Some(bytes) => {
            let found = bytes.try_into().map_or(0, u32::from_le_bytes);
            if found != FORMAT {
                return Err(ContactsError::Format { found, known: FORMAT });
            }
            let salt = dbs.meta.get(txn, b"salt").or_store("read meta data")?;
            salt.and_then(|s| s.try_into().ok()).ok_or(ContactsError::Damaged { what: "salt" })
        }
        None => {
            let salt = match salt {
                Some(salt) => salt,
                None => {
                    let mut salt = [0; 32];
                    aws_lc_rs::rand::fill(&mut salt).map_err(|_| ContactsError::NoRandomness)?;
                    salt
                }
            };
            dbs.meta.put(txn, b"format", &FORMAT.to_le_bytes()).or_store("write meta data")?;
            dbs.meta.put(txn, b"salt", &salt).or_store("write meta data")?;
            Ok(salt)
        }
    }
}

pub(crate) fn read_u64(db: &Db, txn: &heed::RoTxn<'_>, key: &[u8]) -> Result<u64, ContactsError> {
    match db.get(txn, key).or_store("read a number")? {
        Some(bytes) => {
            bytes.try_into().map(u64::from_le_bytes).map_err(|_| ContactsError::Damaged { what: "stored number" })
        }
        None => Ok(0),
    }
}
