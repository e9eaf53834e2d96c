//! Keys: made once, stored hashed, compared in constant time.
//!
//! Owns the file `admin.key` of the data directory. Invariants: KE-1 no key is stored or logged, only its BLAKE3 hash (a
//! key made here has 256 random bits, so a fast hash is enough); KE-2 a comparison takes the same time whatever the key.

use std::fs;
use std::io::Write;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

use crate::config::MetricsAccess;
use crate::limits;

const FILE: &str = "admin.key";
const MARK: &str = "blake3:";

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the admin key file {path}: {source}")]
    File {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "the admin key file {path} is damaged: delete it and start with ESTAFETTE_ADMIN_KEY set, or to get a new key"
    )]
    Damaged { path: String },
    #[error(
        "ESTAFETTE_ADMIN_KEY has {found} characters: use {} to {}",
        limits::KEY_SECRET_BYTES_MIN,
        limits::KEY_SECRET_BYTES_MAX
    )]
    Length { found: usize },
    #[error("the system's random source failed")]
    Random,
}

/// Hash of a key.
#[derive(Clone, Copy)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    pub fn of(key: &str) -> KeyHash {
        KeyHash(*blake3::hash(key.as_bytes()).as_bytes())
    }

    /// Tells keys apart without giving anything of them away.
    fn id(self) -> String {
        self.0.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }

    fn matches(self, key: &str) -> bool {
        bool::from(self.0.ct_eq(&KeyHash::of(key).0))
    }
}

/// The keys that the API listener knows.
#[derive(Clone)]
pub struct Keys {
    admin: KeyHash,
    scrape: Option<KeyHash>,
    metrics_open: bool,
}

impl Keys {
    pub fn new(admin: KeyHash, metrics: &MetricsAccess) -> Keys {
        let scrape = match metrics {
            MetricsAccess::ScrapeKey(key) => Some(KeyHash::of(key)),
            MetricsAccess::AdminKey | MetricsAccess::Open => None,
        };
        Keys { admin, scrape, metrics_open: *metrics == MetricsAccess::Open }
    }

    /// Id of the admin key, as records of who did something name it.
    pub fn admin_id(&self) -> String {
        self.admin.id()
    }

    pub fn allows_all(&self, key: &str) -> bool {
        key.len() <= limits::KEY_SECRET_BYTES_MAX && self.admin.matches(key)
    }

    /// `/metrics`, with or without a key.
    pub fn allows_metrics(&self, key: Option<&str>) -> bool {
        self.metrics_open || key.is_some_and(|key| self.allows_all(key) || self.is_scrape(key))
    }

    /// Whether it is the scrape key, which is known but allows `/metrics` only.
    pub fn is_scrape(&self, key: &str) -> bool {
        key.len() <= limits::KEY_SECRET_BYTES_MAX && self.scrape.is_some_and(|hash| hash.matches(key))
    }
}

/// The admin key of a start, checked and not yet stored.
pub struct AdminKey {
    pub hash: KeyHash,
    /// Made at this start, to be shown once.
    pub new: Option<String>,
    /// Whether the file does not say it yet.
    unsaved: bool,
}

impl AdminKey {
    /// `given`, or the stored one, or a new key. Changes nothing; the directory need not exist.
    pub fn prepare(directory: &Path, given: Option<&str>) -> Result<AdminKey, KeyError> {
        if let Some(key) = given {
            if !(limits::KEY_SECRET_BYTES_MIN..=limits::KEY_SECRET_BYTES_MAX).contains(&key.len()) {
                return Err(KeyError::Length { found: key.len() });
            }
            return Ok(AdminKey { hash: KeyHash::of(key), new: None, unsaved: true });
        }
        let path = directory.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let damaged = || KeyError::Damaged { path: path.display().to_string() };
                let hex = text.trim().strip_prefix(MARK);
                let hash = hex.and_then(|hex| blake3::Hash::from_hex(hex).ok()).ok_or_else(damaged)?;
                Ok(AdminKey { hash: KeyHash(*hash.as_bytes()), new: None, unsaved: false })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = new_key()?;
                Ok(AdminKey { hash: KeyHash::of(&key), new: Some(key), unsaved: true })
            }
            Err(source) => Err(KeyError::File { path: path.display().to_string(), source }),
        }
    }

    /// Makes it the directory's key. To be called when nothing can fail any more before it is shown: a new key that was
    /// stored and not shown is lost.
    pub fn store(&self, directory: &Path) -> Result<(), KeyError> {
        if self.unsaved { store(&directory.join(FILE), self.hash) } else { Ok(()) }
    }
}

/// A key of 256 random bits.
pub fn new_key() -> Result<String, KeyError> {
    let mut secret = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut secret).map_err(|_| KeyError::Random)?;
    Ok(format!("est_{}", URL_SAFE_NO_PAD.encode(secret)))
}

fn store(path: &Path, hash: KeyHash) -> Result<(), KeyError> {
    let failed = |source| KeyError::File { path: path.display().to_string(), source };
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
    writeln!(file, "{MARK}{}", blake3::Hash::from_bytes(hash.0).to_hex()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    let folder = fs::File::open(path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
    folder.sync_all().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a start that goes well.
    fn admin_key(directory: &Path, given: Option<&str>) -> Result<(KeyHash, Option<String>), KeyError> {
        let key = AdminKey::prepare(directory, given)?;
        key.store(directory)?;
        Ok((key.hash, key.new))
    }

    #[test]
    fn a_key_that_was_not_stored_is_made_anew_and_shown() {
        let root = tempfile::tempdir().unwrap();
        let missing = root.path().join("not made yet");
        let first = AdminKey::prepare(&missing, None).unwrap().new.expect("shown");
        let second =
            AdminKey::prepare(&missing, None).unwrap().new.expect("a failed start keeps no key, so it is shown");
        assert_ne!(first, second);
        assert!(!missing.exists(), "looking changes nothing");
    }

    #[test]
    fn a_key_is_made_once_and_known_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let (hash, shown) = admin_key(directory.path(), None).unwrap();
        let key = shown.expect("the first start shows the key");
        assert!(Keys::new(hash, &MetricsAccess::AdminKey).allows_all(&key));
        let (again, shown) = admin_key(directory.path(), None).unwrap();
        assert_eq!(shown, None, "it is never shown again");
        let keys = Keys::new(again, &MetricsAccess::AdminKey);
        assert!(keys.allows_all(&key), "the stored hash is of the same key");
        assert!(!keys.allows_all(&key[1..]), "a part of the key opens nothing");
        let stored = fs::read_to_string(directory.path().join(FILE)).unwrap();
        assert!(!stored.contains(&key), "the key itself is not stored");
    }

    #[test]
    fn a_given_key_replaces_the_stored_one() {
        let directory = tempfile::tempdir().unwrap();
        admin_key(directory.path(), None).unwrap();
        admin_key(directory.path(), Some("a key of the operator")).unwrap();
        let (hash, _) = admin_key(directory.path(), None).unwrap();
        assert!(Keys::new(hash, &MetricsAccess::AdminKey).allows_all("a key of the operator"));
        assert!(matches!(admin_key(directory.path(), Some("short")), Err(KeyError::Length { found: 5 })));
    }

    #[test]
    fn the_scrape_key_opens_metrics_only() {
        let keys = Keys::new(KeyHash::of("admin"), &MetricsAccess::ScrapeKey("scrape".into()));
        assert!(keys.allows_metrics(Some("scrape")) && keys.allows_metrics(Some("admin")));
        assert!(!keys.allows_all("scrape") && !keys.allows_metrics(None) && !keys.allows_metrics(Some("other")));
        assert!(Keys::new(KeyHash::of("admin"), &MetricsAccess::Open).allows_metrics(None));
    }

    #[test]
    fn a_damaged_file_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "blake3:xyz").unwrap();
        let error = admin_key(directory.path(), None).err().expect("damage is noticed").to_string();
        assert!(error.contains("delete it"), "{error}");
    }
}
