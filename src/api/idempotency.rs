//! Answers that are kept for their `Idempotency-Key`, so that a repeated POST is answered and not repeated.
//!
//! Owns the folder `idempotency` of the data directory: a small file a key, written after the operation. Invariants: ID-1 one
//! key is in flight once; ID-2 an answer is given again only for the same route and body; ID-3 at most
//! `limits::IDEMPOTENCY_KEYS_MAX` answers are kept, for `limits::IDEMPOTENCY_KEPT`; ID-4 faults of the engine (5xx) are
//! not kept, so that they can be tried again. After a crash between an operation and its file the operation is tried
//! again, and finds what it has made: imports and campaigns carry the [`request_name`], durable with them; lists and segments
//! meet the unique names, and moves of a campaign meet its state.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::limits;

type Slot = [u8; 32];

/// An answer as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptAnswer {
    body_hash: String,
    at: Timestamp,
    pub status: u16,
    pub content_type: String,
    pub body: String,
}

/// What a key means for a request.
#[derive(Debug)]
pub enum Begin<'a> {
    /// First use: do it, then [`InFlight::finish`].
    First(InFlight<'a>),
    /// Answer this again.
    Again(KeptAnswer),
    /// The key was used with another body.
    Mismatch,
    /// The first request is not answered yet.
    Busy,
}

#[derive(Debug)]
pub struct Idempotency {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    in_flight: HashSet<Slot>,
    /// Oldest first.
    kept: VecDeque<(Timestamp, Slot)>,
}

/// A request under way; dropping it without an answer frees the key.
#[derive(Debug)]
pub struct InFlight<'a> {
    owner: &'a Idempotency,
    slot: Slot,
}

impl Idempotency {
    /// Opens the folder and reads what is kept there.
    pub fn open(folder: PathBuf) -> std::io::Result<Idempotency> {
        fs::create_dir_all(&folder)?;
        let mut kept = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let slot = path.file_name().and_then(|n| n.to_str()).and_then(|n| blake3::Hash::from_hex(n).ok());
            match (slot, read(&path)?) {
                (Some(slot), Some(answer)) => kept.push((answer.at, *slot.as_bytes())),
                // a file that a crash cut short, or none of ours
                _ => fs::remove_file(&path)?,
            }
        }
        kept.sort_unstable();
        Ok(Idempotency { folder, state: Mutex::new(State { in_flight: HashSet::new(), kept: kept.into() }) })
    }

    /// `route` is method and path; `body` hashes the body.
    pub fn begin(&self, route: &str, key: &str, body: blake3::Hash, now: Timestamp) -> std::io::Result<Begin<'_>> {
        let slot = slot(route, key);
        {
            let mut state = self.state.lock();
            self.forget(&mut state, now)?;
            if !state.in_flight.insert(slot) {
                return Ok(Begin::Busy);
            }
        }
        let flight = InFlight { owner: self, slot };
        Ok(match read(&self.path(&slot))? {
            None => Begin::First(flight),
            Some(answer) if answer.body_hash != body.to_hex().as_str() => Begin::Mismatch,
            Some(answer) => Begin::Again(answer),
        })
    }

    fn path(&self, slot: &Slot) -> PathBuf {
        self.folder.join(blake3::Hash::from_bytes(*slot).to_hex().as_str())
    }

    fn forget(&self, state: &mut State, now: Timestamp) -> std::io::Result<()> {
        while let Some((at, slot)) = state.kept.front() {
            let fresh = now.saturating_since(*at) < limits::IDEMPOTENCY_KEPT;
            if fresh && state.kept.len() <= limits::IDEMPOTENCY_KEYS_MAX {
                break;
            }
            match fs::remove_file(self.path(slot)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            state.kept.pop_front();
        }
        Ok(())
    }
}

impl InFlight<'_> {
    /// Keeps the answer. One that is too large, or a fault of ours, is not kept.
    pub fn finish(
        self,
        body: blake3::Hash,
        status: u16,
        content_type: &str,
        answer: &[u8],
        now: Timestamp,
    ) -> std::io::Result<()> {
        let Some(text) = std::str::from_utf8(answer).ok().filter(|t| t.len() <= limits::IDEMPOTENCY_ANSWER_BYTES_MAX)
        else {
            return Ok(());
        };
        if status >= 500 {
            return Ok(());
        }
        let kept = KeptAnswer {
            body_hash: body.to_hex().to_string(),
            at: now,
            status,
            content_type: content_type.to_owned(),
            body: text.to_owned(),
        };
        let mut file = tempfile::NamedTempFile::new_in(&self.owner.folder)?;
        file.write_all(&serde_json::to_vec(&kept)?)?;
        file.persist(self.owner.path(&self.slot)).map_err(|error| error.error)?;
        self.owner.state.lock().kept.push_back((now, self.slot));
        Ok(())
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.owner.state.lock().in_flight.remove(&self.slot);
    }
}

/// A name for a request with a key, to be kept with what the request makes. Another body is another request.
pub fn request_name(route: &str, key: &str, body: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&slot(route, key)).update(blake3::hash(body).as_bytes());
    hasher.finalize().to_hex().to_string()
}

fn slot(route: &str, key: &str) -> Slot {
    *blake3::Hasher::new().update(route.as_bytes()).update(&[0]).update(key.as_bytes()).finalize().as_bytes()
}

fn read(path: &std::path::Path) -> std::io::Result<Option<KeptAnswer>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: &str = "POST /v1/lists";

    fn begin<'a>(kept: &'a Idempotency, body: &str, at: i64) -> Begin<'a> {
        kept.begin(ROUTE, "key", blake3::hash(body.as_bytes()), Timestamp(at)).unwrap()
    }

    fn finish(flight: Begin<'_>, body: &str, status: u16, answer: &[u8], at: i64) {
        let Begin::First(flight) = flight else { panic!("not the first use: {flight:?}") };
        flight.finish(blake3::hash(body.as_bytes()), status, "application/json", answer, Timestamp(at)).unwrap();
    }

    #[test]
    fn an_answer_is_given_again_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Idempotency::open(folder.path().to_owned()).unwrap();
        finish(begin(&kept, "body", 1), "body", 201, b"{\"id\":1}", 1);
        let again = Idempotency::open(folder.path().to_owned()).unwrap();
        match begin(&again, "body", 2) {
            Begin::Again(answer) => assert_eq!((answer.status, answer.body.as_str()), (201, "{\"id\":1}")),
            other => panic!("{other:?}"),
        }
        assert!(matches!(begin(&again, "other", 2), Begin::Mismatch), "another body under the same key");
        let elsewhere = again.begin("POST /v1/segments", "key", blake3::hash(b"other"), Timestamp(2)).unwrap();
        assert!(matches!(elsewhere, Begin::First(_)), "a key belongs to its route");
    }

    #[test]
    fn a_key_is_in_flight_once_and_free_after_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Idempotency::open(folder.path().to_owned()).unwrap();
        let first = begin(&kept, "body", 1);
        assert!(matches!(begin(&kept, "body", 1), Begin::Busy));
        finish(first, "body", 503, b"{}", 1);
        assert!(matches!(begin(&kept, "body", 1), Begin::First(_)), "a fault is not kept");
    }

    #[test]
    fn answers_expire() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Idempotency::open(folder.path().to_owned()).unwrap();
        finish(begin(&kept, "body", 0), "body", 200, b"{}", 0);
        let day = i64::try_from(limits::IDEMPOTENCY_KEPT.as_millis()).unwrap();
        assert!(matches!(begin(&kept, "body", day - 1), Begin::Again(_)));
        assert!(matches!(begin(&kept, "body", day), Begin::First(_)), "after a day the key is new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "and its file is gone");
    }

    #[test]
    fn a_file_cut_short_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let name = blake3::Hash::from_bytes(slot(ROUTE, "key")).to_hex().to_string();
        fs::write(folder.path().join(name), "{\"status\":2").unwrap();
        let kept = Idempotency::open(folder.path().to_owned()).unwrap();
        assert!(matches!(begin(&kept, "body", 1), Begin::First(_)));
    }
}
