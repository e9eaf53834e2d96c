//! Reads a journal in order: snapshot, then frames; and judges what does not validate.
//!
//! Owns no state and writes nothing: recovery and the offline check share it. The verdicts are the table in the folder's
//! documentation.

use std::path::{Path, PathBuf};

use super::boot::BootId;
use super::error::{Damage, JournalError};
use super::frame::{BadFrame, FRAME_HEADER, Scanner, Step, zeros_from};
use super::segment::{Header, Image, Listed, SEGMENT_HEADER};
use super::snapshot::Stored;

/// A frame as replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub seq: u64,
    pub kind: u8,
    pub payload: &'a [u8],
    /// The segment that holds it was written under the running kernel and is not poisoned: its marks may be read.
    pub same_boot: bool,
}

/// Folded state up to and including frame `seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot<'a> {
    pub seq: u64,
    pub state: &'a [u8],
    /// As [`Frame::same_boot`], for every claim that the state holds.
    pub same_boot: bool,
}

/// What a visitor gets: the snapshot first, if there is one, then every frame after it in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed<'a> {
    Snapshot(Snapshot<'a>),
    Frame(Frame<'a>),
}

/// Why a visitor refuses.
pub type VisitError = Box<dyn std::error::Error + Send + Sync>;

/// Folds what is replayed. What it got is void when the whole is refused later.
pub type Visit<'v> = dyn FnMut(Replayed<'_>) -> Result<(), VisitError> + 'v;

/// A tail that is cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    pub path: PathBuf,
    pub offset: u64,
    pub bytes: u64,
    /// By the definition in the folder's documentation; otherwise a power loss left garbage.
    pub incomplete: bool,
    pub what: Damage,
}

/// Whose page cache may be believed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trust {
    pub kernel: BootId,
    pub poisoned_through: u64,
}

impl Trust {
    pub(super) fn of(&self, boot: BootId, segment: u64) -> bool {
        boot.same(self.kernel) && segment > self.poisoned_through
    }
}

/// One segment as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub id: u64,
    pub path: PathBuf,
    pub first_seq: u64,
    pub frames: u64,
    /// Bytes up to the end of its last valid frame.
    pub bytes: u64,
    pub same_boot: bool,
}

/// A whole journal as read.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pub last_seq: u64,
    /// Given to the visitor.
    pub frames: u64,
    pub payload_bytes: u64,
    pub segments: Vec<Read>,
    pub tail: Option<TornTail>,
    /// Older than the snapshot.
    pub unneeded: Vec<PathBuf>,
}

/// What to read.
pub(super) struct Plan<'a> {
    pub folder: &'a Path,
    pub trust: Trust,
    /// What the sync slot says.
    pub slot: u64,
    pub snapshot: Option<Stored>,
    pub segments: &'a [Listed],
}

/// Reads everything that `plan` names.
pub(super) fn replay(plan: &Plan<'_>, visit: &mut Visit<'_>) -> Result<Replay, JournalError> {
    let base = plan.snapshot.as_ref().map_or(0, |s| s.seq);
    if let Some(stored) = &plan.snapshot {
        let same_boot = plan.trust.of(stored.boot, stored.segment);
        let given = Replayed::Snapshot(Snapshot { seq: stored.seq, state: stored.state(), same_boot });
        visit(given).map_err(|source| JournalError::Visit { seq: stored.seq, source })?;
    }
    let start = first_needed(plan, base)?;
    let mut replay = Replay { last_seq: base, ..Replay::default() };
    replay.unneeded = plan.segments[..start].iter().map(|listed| listed.path.clone()).collect();
    let mut durable = plan.slot.max(base);
    let needed = &plan.segments[start..];
    for (at, listed) in needed.iter().enumerate() {
        let image = Image::read(listed)?;
        let due = if at == 0 { image.header.first_seq } else { replay.last_seq + 1 };
        if image.header.first_seq != due {
            let what = Damage::Gap { after: replay.last_seq, found: image.header.first_seq };
            return Err(JournalError::damaged(&listed.path, 40, what));
        }
        if at == 0 {
            replay.last_seq = due.saturating_sub(1);
        }
        let newest = at + 1 == needed.len();
        read_segment(plan, &image, base, newest, &mut durable, &mut replay, visit)?;
    }
    if replay.last_seq < durable {
        let what = Damage::EndsEarly { last: replay.last_seq, durable };
        let (path, offset) = replay.segments.last().map_or((plan.folder, 0), |s| (s.path.as_path(), s.bytes));
        return Err(JournalError::damaged(path, offset, what));
    }
    Ok(replay)
}

/// Index of the segment that holds the frame after the snapshot. Those before it may have gone, in any order.
fn first_needed(plan: &Plan<'_>, base: u64) -> Result<usize, JournalError> {
    let mut start = None;
    for (at, listed) in plan.segments.iter().enumerate() {
        let header = read_header(listed)?;
        if header.first_seq > base + 1 {
            let what = Damage::Gap { after: base, found: header.first_seq };
            return start.ok_or_else(|| JournalError::damaged(&listed.path, 40, what));
        }
        start = Some(at);
    }
    match (start, &plan.snapshot) {
        (Some(start), _) => Ok(start),
        (None, None) => Ok(0),
        (None, Some(stored)) => Err(JournalError::damaged(&stored.path, 0, Damage::NoSegment)),
    }
}

pub(super) fn read_header(listed: &Listed) -> Result<Header, JournalError> {
    use std::io::Read as _;
    let path = &listed.path;
    let file = std::fs::File::open(path).map_err(|e| JournalError::io("open", path, e))?;
    let length = file.metadata().map_err(|e| JournalError::io("read", path, e))?.len();
    let mut head = Vec::with_capacity(SEGMENT_HEADER);
    file.take(SEGMENT_HEADER as u64).read_to_end(&mut head).map_err(|e| JournalError::io("read", path, e))?;
    Header::decode(&head, path, length)
}

fn read_segment(
    plan: &Plan<'_>,
    image: &Image,
    base: u64,
    newest: bool,
    durable: &mut u64,
    replay: &mut Replay,
    visit: &mut Visit<'_>,
) -> Result<(), JournalError> {
    let header = &image.header;
    let same_boot = plan.trust.of(header.boot, header.id);
    let mut scanner = Scanner::new(&image.bytes, header.id, SEGMENT_HEADER, image.zeros_from, header.first_seq);
    let mut frames = 0;
    let end = loop {
        match scanner.step() {
            Step::Frame(frame) => {
                frames += 1;
                replay.last_seq = frame.seq;
                *durable = (*durable).max(frame.durable);
                if frame.seq > base {
                    replay.frames += 1;
                    replay.payload_bytes += frame.payload.len() as u64;
                    let given = Frame { seq: frame.seq, kind: frame.kind, payload: frame.payload, same_boot };
                    visit(Replayed::Frame(given)).map_err(|source| JournalError::Visit { seq: frame.seq, source })?;
                }
            }
            Step::End { offset } => break offset,
            Step::Bad(bad) => {
                let (followers, named) = scanner.frames_after(&bad);
                *durable = (*durable).max(named);
                let case = Case { newest, trusted: same_boot, durable: *durable, followers };
                let incomplete =
                    judge(&bad, case).map_err(|what| JournalError::damaged(&image.path, bad.offset as u64, what))?;
                replay.tail = Some(TornTail {
                    path: image.path.clone(),
                    offset: bad.offset as u64,
                    bytes: (image.zeros_from - bad.offset) as u64,
                    incomplete,
                    what: bad.what,
                });
                break bad.offset;
            }
        }
    };
    replay.segments.push(Read {
        id: header.id,
        path: image.path.clone(),
        first_seq: header.first_seq,
        frames,
        bytes: end as u64,
        same_boot,
    });
    Ok(())
}

/// What is known about the place of a bad frame.
#[derive(Clone, Copy, Debug)]
struct Case {
    newest: bool,
    trusted: bool,
    /// The largest number known to have been durable.
    durable: u64,
    /// Valid frames behind it.
    followers: u64,
}

/// `Ok(incomplete)`: cut. `Err`: refuse.
fn judge(bad: &BadFrame, case: Case) -> Result<bool, Damage> {
    let incomplete = bad.reaches_zeros && case.followers == 0;
    if !case.newest || bad.expected <= case.durable {
        return Err(bad.what);
    }
    if !incomplete && case.trusted {
        return Err(bad.what);
    }
    Ok(incomplete)
}

/// Reads `bytes` as a segment file, trusted and not; for fuzzing. The number of valid frames before the first bad one.
pub fn fuzz_open(bytes: &[u8]) -> u64 {
    let Ok(header) = Header::decode(bytes, Path::new("fuzz"), bytes.len() as u64) else {
        return fuzz_frames(bytes, 1, 0, 1);
    };
    fuzz_frames(bytes, header.id, SEGMENT_HEADER, header.first_seq)
}

fn fuzz_frames(bytes: &[u8], segment: u64, offset: usize, first_seq: u64) -> u64 {
    let mut scanner = Scanner::new(bytes, segment, offset, zeros_from(bytes), first_seq);
    let mut frames = 0;
    loop {
        match scanner.step() {
            Step::Frame(frame) => {
                frames += 1;
                debug_assert!(
                    frame.end() <= bytes.len() && frame.end() >= frame.offset + FRAME_HEADER,
                    "inside the input"
                );
            }
            Step::End { .. } => return frames,
            Step::Bad(bad) => {
                let (followers, durable) = scanner.frames_after(&bad);
                let verdict = |trusted| judge(&bad, Case { newest: true, trusted, durable, followers });
                debug_assert!(verdict(true).is_err() || verdict(false).is_ok(), "distrust never refuses more");
                return frames;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(expected: u64, reaches_zeros: bool) -> BadFrame {
        BadFrame { offset: 64, what: Damage::FrameChecksum, expected, reaches_zeros }
    }

    #[test]
    fn the_verdicts_are_the_table_of_the_documentation() {
        let case = |newest, trusted, durable, followers| Case { newest, trusted, durable, followers };
        let table = [
            ("older segment", bad(9, true), case(false, false, 0, 0), Err(Damage::FrameChecksum)),
            ("known durable", bad(9, true), case(true, false, 9, 0), Err(Damage::FrameChecksum)),
            ("incomplete, trusted", bad(9, true), case(true, true, 8, 0), Ok(true)),
            ("incomplete, not trusted", bad(9, true), case(true, false, 8, 0), Ok(true)),
            ("a valid frame follows, trusted", bad(9, true), case(true, true, 8, 1), Err(Damage::FrameChecksum)),
            ("complete, trusted", bad(9, false), case(true, true, 8, 0), Err(Damage::FrameChecksum)),
            ("a valid frame follows, not trusted", bad(9, true), case(true, false, 8, 1), Ok(false)),
            ("complete, not trusted", bad(9, false), case(true, false, 8, 0), Ok(false)),
        ];
        for (name, bad, case, verdict) in table {
            assert_eq!(judge(&bad, case), verdict, "{name}");
        }
    }
}
