//! A power loss on the directory of an engine that was killed: another boot of the kernel, and of what was never synced a
//! random part.
//!
//! Owns the boot id that the engines see. The engine is started through a shell that mounts a file of ours over the
//! kernel's boot id, in a mount namespace of the engine's own, so the engine runs unchanged.
//!
//! After `kill -9` the page cache holds everything. A power loss keeps what was synced, and of the rest any part. What is
//! taken here, by the formats that the engine's journal documents: 1. the newest segment behind its last durable frame:
//! kept, dropped, cut, garbled, or with a hole; 2. the slot that names what is durable, which is never synced: kept or
//! lost; 3. the mark file's bytes, which are never synced: any bytes. The frames up to the durable one, older segments,
//! snapshots and the contact store are synced before anyone relies on them, and stay.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::rng::Rng;

/// Bytes of a segment's header, and of a frame before its payload.
const SEGMENT_HEADER: usize = 64;
const FRAME_HEADER: usize = 25;
/// Where the records of the sync slot stand.
const SLOTS: [usize; 2] = [0, 4_096];
const SLOT_BYTES: usize = 32;
/// Offset of the mark file's bytes.
const MARKS_FROM: usize = 4_096;
/// Bytes that a disk writes at once.
const SECTOR: usize = 512;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What became of the unsynced end of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Damage {
    Kept,
    Dropped,
    Cut,
    Garbled,
    /// One sector never arrived, and later ones did.
    Hole,
}

const DAMAGES: [Damage; 5] = [Damage::Kept, Damage::Dropped, Damage::Cut, Damage::Garbled, Damage::Hole];

/// What was lost in all.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Losses {
    pub losses: u64,
    /// Of them, those that met an unsynced end.
    pub with_tail: u64,
    /// Bytes behind the last durable frame, over all losses.
    pub tail_bytes: u64,
    pub slots_lost: u64,
}

/// The machine's power.
#[derive(Debug)]
pub struct Power {
    boot: PathBuf,
    rng: Rng,
    pub losses: Losses,
}

impl Power {
    /// The boot id is a file in `folder`.
    pub fn new(folder: &Path, seed: u64) -> anyhow::Result<Power> {
        let mut power = Power { boot: folder.join("boot_id"), rng: Rng::salted(seed, 12), losses: Losses::default() };
        power.boot_again()?;
        Ok(power)
    }

    /// The lines through which an engine is started that sees the boot id of this power.
    pub fn boot_of_ours(&self) -> String {
        // `exec` throughout: the engine has the pid that is killed. Without root, a user namespace gives the right to mount.
        format!(
            "[ \"$(id -u)\" = 0 ] || user=-r\nexec unshare $user -m sh -c \
             'mount --bind \"$0\" {BOOT_ID} && exec \"$@\"' '{}' \"$0\" \"$@\"",
            self.boot.display(),
        )
    }

    /// The kernel's next boot has another id.
    fn boot_again(&mut self) -> anyhow::Result<()> {
        let (a, b) = (self.rng.below(u64::MAX), self.rng.below(u64::MAX));
        let hex = format!("{a:016x}{b:016x}");
        let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        fs::write(&self.boot, format!("{id}\n")).with_context(|| format!("writing {}", self.boot.display()))
    }

    /// The power fails; no engine may run on `data`.
    pub fn fail(&mut self, data: &Path) -> anyhow::Result<Damage> {
        self.boot_again()?;
        self.losses.losses += 1;
        let journal = data.join("journal");
        let Some(newest) = newest_segment(&journal)? else {
            return Ok(Damage::Kept);
        };
        let slot = journal.join("sync");
        let mut bytes = fs::read(&newest).with_context(|| format!("reading {}", newest.display()))?;
        let frames = frames(&bytes);
        let durable = frames.iter().map(|f| f.durable).max().unwrap_or(0).max(slot_says(&slot));
        let from = frames.iter().filter(|f| f.seq <= durable).map(|f| f.end).max().unwrap_or(SEGMENT_HEADER);
        let to = bytes.iter().rposition(|b| *b != 0).map_or(from, |at| (at + 1).max(from));
        let damage = DAMAGES[usize::try_from(self.rng.below(DAMAGES.len() as u64))?];
        if to > from {
            self.losses.with_tail += 1;
            self.losses.tail_bytes += (to - from) as u64;
            self.damage(&mut bytes[from..to], damage)?;
            fs::write(&newest, &bytes).with_context(|| format!("writing {}", newest.display()))?;
        }
        if self.rng.chance(0.5) && slot.exists() {
            self.losses.slots_lost += 1;
            fs::write(&slot, []).context("losing the sync slot")?;
        }
        self.garble_marks(&journal.join("marks"))?;
        Ok(damage)
    }

    fn damage(&mut self, tail: &mut [u8], damage: Damage) -> anyhow::Result<()> {
        let at = usize::try_from(self.rng.below(tail.len() as u64))?;
        match damage {
            Damage::Kept => {}
            Damage::Dropped => tail.fill(0),
            Damage::Cut => tail[at..].fill(0),
            Damage::Garbled => self.garble(&mut tail[at..])?,
            Damage::Hole => {
                let end = (at + SECTOR).min(tail.len());
                tail[at..end].fill(0);
            }
        }
        Ok(())
    }

    fn garble(&mut self, bytes: &mut [u8]) -> anyhow::Result<()> {
        for byte in bytes {
            *byte = u8::try_from(self.rng.below(256))?;
        }
        Ok(())
    }

    /// Each byte that was in use may say anything, a state that would be believed included.
    fn garble_marks(&mut self, path: &Path) -> anyhow::Result<()> {
        let Ok(mut bytes) = fs::read(path) else {
            return Ok(());
        };
        ensure!(bytes.len() > MARKS_FROM, "the mark file has {} bytes", bytes.len());
        for byte in &mut bytes[MARKS_FROM..] {
            *byte = u8::try_from(self.rng.below(12))?;
        }
        fs::write(path, bytes).context("garbling the mark file")
    }
}

/// A frame as the walk finds it: whole, because a kill leaves a prefix of what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    seq: u64,
    durable: u64,
    end: usize,
}

/// The frames of a segment, by their lengths and numbers; no checksum is needed to find what an engine wrote.
fn frames(bytes: &[u8]) -> Vec<Frame> {
    let Some(mut expected) = u64_at(bytes, 40) else {
        return Vec::new();
    };
    let (mut at, mut found) = (SEGMENT_HEADER, Vec::new());
    while let (Some(length), Some(seq), Some(durable)) =
        (u32_at(bytes, at), u64_at(bytes, at + 9), u64_at(bytes, at + 17))
    {
        let end = at + FRAME_HEADER + length as usize;
        if seq != expected || end > bytes.len() {
            break;
        }
        found.push(Frame { seq, durable, end });
        (at, expected) = (end, expected + 1);
    }
    found
}

fn newest_segment(journal: &Path) -> anyhow::Result<Option<PathBuf>> {
    let mut newest = None;
    let Ok(entries) = fs::read_dir(journal) else {
        return Ok(None);
    };
    for entry in entries {
        let path = entry.context("listing the journal")?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.starts_with("segment-") && name.len() == 24 {
            newest = newest.max(Some(path));
        }
    }
    Ok(newest)
}

/// The largest number that the sync slot names.
fn slot_says(path: &Path) -> u64 {
    let bytes = fs::read(path).unwrap_or_default();
    let record = |at: usize| {
        let record = bytes.get(at..at + SLOT_BYTES)?;
        record.starts_with(b"ESTAFSYN").then(|| u64_at(record, 8)).flatten()
    };
    SLOTS.iter().filter_map(|at| record(*at)).max().unwrap_or(0)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment whose frames have payloads of ten bytes, each naming the one before as durable.
    fn segment(first: u64, count: u64) -> Vec<u8> {
        let mut bytes = vec![0; SEGMENT_HEADER];
        bytes[40..48].copy_from_slice(&first.to_le_bytes());
        for seq in first..first + count {
            bytes.extend_from_slice(&10u32.to_le_bytes());
            bytes.extend_from_slice(&[1; 5]);
            bytes.extend_from_slice(&seq.to_le_bytes());
            bytes.extend_from_slice(&(seq - 1).to_le_bytes());
            bytes.extend_from_slice(&[7; 10]);
        }
        bytes.resize(bytes.len() + 500, 0);
        bytes
    }

    #[test]
    fn only_what_is_behind_the_last_durable_frame_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("journal");
        fs::create_dir(&journal).unwrap();
        let mut power = Power::new(folder.path(), 3).unwrap();
        let whole = segment(5, 6);
        let all = frames(&whole);
        assert_eq!((all.len(), all[5].seq, all[5].durable), (6, 10, 9), "all are found");
        let kept = all[4].end;
        let mut seen = Vec::new();
        for _ in 0..60 {
            let path = journal.join("segment-0000000000000002");
            fs::write(journal.join("segment-0000000000000001"), segment(1, 4)).unwrap();
            fs::write(&path, &whole).unwrap();
            fs::write(journal.join("marks"), vec![0; MARKS_FROM + 100]).unwrap();
            let damage = power.fail(folder.path()).unwrap();
            let bytes = fs::read(&path).unwrap();
            assert_eq!(bytes.len(), whole.len(), "the file keeps its length");
            assert_eq!(bytes[..kept], whole[..kept], "{damage:?}: what is durable stays");
            assert_eq!(bytes == whole, damage == Damage::Kept, "{damage:?} shows");
            assert_eq!(fs::read(journal.join("segment-0000000000000001")).unwrap(), segment(1, 4), "older ones stay");
            assert_ne!(fs::read(journal.join("marks")).unwrap(), vec![0; MARKS_FROM + 100], "marks are lost");
            seen.push(damage);
        }
        assert!(DAMAGES.iter().all(|d| seen.contains(d)), "every damage comes: {seen:?}");
        assert_eq!(power.losses.with_tail, 60, "each met a tail");
    }

    #[test]
    fn what_the_slot_names_is_durable_too() {
        let folder = tempfile::tempdir().unwrap();
        let slot = folder.path().join("sync");
        assert_eq!(slot_says(&slot), 0, "no slot says nothing");
        let mut bytes = vec![0; SLOTS[1] + SLOT_BYTES];
        for (at, says) in SLOTS.iter().zip([41u64, 42]) {
            bytes[*at..*at + 8].copy_from_slice(b"ESTAFSYN");
            bytes[*at + 8..*at + 16].copy_from_slice(&says.to_le_bytes());
        }
        fs::write(&slot, bytes).unwrap();
        assert_eq!(slot_says(&slot), 42, "the larger one");
    }

    #[test]
    fn a_boot_has_an_id_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut power = Power::new(folder.path(), 3).unwrap();
        let first = fs::read_to_string(folder.path().join("boot_id")).unwrap();
        power.boot_again().unwrap();
        let second = fs::read_to_string(folder.path().join("boot_id")).unwrap();
        assert_ne!(first, second, "another boot");
        assert_eq!(first.trim().len(), 36, "of the kernel's form: {first}");
    }
}
