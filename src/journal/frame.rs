//! One frame: encode, and scan a segment for frames.
//!
//! Invariants: JN-F1 a frame validates only in the segment that it was written to, because its checksum is seeded with the
//! segment's id. JN-F2 the scanner borrows; it allocates nothing. The layout is in the folder's documentation.

use super::error::Damage;
use crate::limits::FRAME_BYTES_MAX;

/// Bytes of a frame before its payload.
pub(super) const FRAME_HEADER: usize = 25;

/// A valid frame, where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawFrame<'a> {
    /// Of its first byte in the segment.
    pub offset: usize,
    pub kind: u8,
    pub seq: u64,
    pub durable: u64,
    pub payload: &'a [u8],
}

impl RawFrame<'_> {
    pub(super) fn end(&self) -> usize {
        self.offset + FRAME_HEADER + self.payload.len()
    }
}

/// A frame that does not validate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadFrame {
    pub offset: usize,
    pub what: Damage,
    /// The number that a frame here must have.
    pub expected: u64,
    /// It reaches into the zeros at the segment's end.
    pub reaches_zeros: bool,
}

/// What stands at the scanner's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    Frame(RawFrame<'a>),
    /// Only zeros from here on.
    End {
        offset: usize,
    },
    Bad(BadFrame),
}

/// Appends a frame to `out`. The caller has checked the payload's length.
pub(super) fn encode(out: &mut Vec<u8>, segment: u64, kind: u8, seq: u64, durable: u64, payload: &[u8]) {
    let start = out.len();
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.push(kind);
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&durable.to_le_bytes());
    out.extend_from_slice(payload);
    let checksum = checksum(segment, &out[start..]);
    out[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
}

fn checksum(segment: u64, frame: &[u8]) -> u32 {
    let seeded = crc32c::crc32c(&segment.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(seeded, &frame[..4]), &frame[8..])
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(field)
}

pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(field)
}

/// Offset of the first byte of the run of zeros that lasts to the end.
pub(super) fn zeros_from(bytes: &[u8]) -> usize {
    const STRIDE: usize = 4096;
    const ZEROS: [u8; STRIDE] = [0; STRIDE];
    let mut end = bytes.len();
    while end > 0 {
        let start = end.saturating_sub(STRIDE);
        // One comparison of memory, fast in a build without optimisation, too: a start looks at every segment's zeros.
        if bytes[start..end] != ZEROS[..end - start] {
            return bytes[start..end].iter().rposition(|byte| *byte != 0).map_or(start, |at| start + at + 1);
        }
        end = start;
    }
    0
}

/// Walks over the frames of one segment.
pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    segment: u64,
    offset: usize,
    zeros_from: usize,
    next_seq: u64,
}

impl<'a> Scanner<'a> {
    /// `bytes` is the whole segment, `offset` where its first frame stands, `zeros_from` where its zeros begin.
    pub(super) fn new(bytes: &'a [u8], segment: u64, offset: usize, zeros_from: usize, first_seq: u64) -> Scanner<'a> {
        Scanner { bytes, segment, offset, zeros_from, next_seq: first_seq }
    }

    /// The next frame; at `End` and `Bad` the scanner stays where it is.
    pub(super) fn step(&mut self) -> Step<'a> {
        if self.offset >= self.zeros_from {
            return Step::End { offset: self.offset };
        }
        match decode(self.bytes, self.segment, self.offset) {
            Ok(frame) if frame.seq == self.next_seq => {
                self.offset = frame.end();
                self.next_seq = self.next_seq.saturating_add(1);
                Step::Frame(frame)
            }
            Ok(frame) => self.bad(Damage::FrameSequence { found: frame.seq, expected: self.next_seq }, false),
            Err(Undecodable { what, end }) => self.bad(what, end.is_some_and(|end| end > self.zeros_from)),
        }
    }

    fn bad(&self, what: Damage, reaches_zeros: bool) -> Step<'a> {
        Step::Bad(BadFrame { offset: self.offset, what, expected: self.next_seq, reaches_zeros })
    }

    /// The valid frames at any byte after `after`, whose numbers could stand there: `(how many, the largest durable number
    /// that one names)`.
    pub(super) fn frames_after(&self, after: &BadFrame) -> (u64, u64) {
        let (mut count, mut durable) = (0, 0);
        let mut offset = after.offset + 1;
        while offset + FRAME_HEADER <= self.zeros_from {
            let seq = u64_at(self.bytes, offset + 9);
            // Each frame before it takes at least a header, which bounds the numbers that can stand here.
            let most = after.expected.saturating_add(((offset - after.offset) / FRAME_HEADER) as u64);
            let possible = seq >= after.expected && seq <= most && u64_at(self.bytes, offset + 17) < seq;
            match if possible { decode(self.bytes, self.segment, offset).ok() } else { None } {
                Some(frame) => {
                    count += 1;
                    durable = durable.max(frame.durable);
                    offset = frame.end();
                }
                None => offset += 1,
            }
        }
        (count, durable)
    }
}

struct Undecodable {
    what: Damage,
    /// Where the frame would end, if its length is one that a writer writes.
    end: Option<usize>,
}

fn decode(bytes: &[u8], segment: u64, offset: usize) -> Result<RawFrame<'_>, Undecodable> {
    let rest = &bytes[offset..];
    if rest.len() < FRAME_HEADER {
        let what = Damage::FrameLength { found: rest.len() as u64 };
        return Err(Undecodable { what, end: None });
    }
    let length = u32_at(rest, 0) as usize;
    let size = FRAME_HEADER.saturating_add(length);
    if length > FRAME_BYTES_MAX || size > rest.len() {
        return Err(Undecodable { what: Damage::FrameLength { found: length as u64 }, end: None });
    }
    let frame = &rest[..size];
    if checksum(segment, frame) != u32_at(frame, 4) {
        return Err(Undecodable { what: Damage::FrameChecksum, end: Some(offset + size) });
    }
    Ok(RawFrame {
        offset,
        kind: frame[8],
        seq: u64_at(frame, 9),
        durable: u64_at(frame, 17),
        payload: &frame[FRAME_HEADER..],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment_of(payloads: &[Vec<u8>], zeros: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (i, payload) in payloads.iter().enumerate() {
            encode(&mut bytes, 7, 1, i as u64 + 1, 0, payload);
        }
        bytes.resize(bytes.len() + zeros, 0);
        bytes
    }

    fn scanner(bytes: &[u8], segment: u64) -> Scanner<'_> {
        Scanner::new(bytes, segment, 0, zeros_from(bytes), 1)
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_scanned(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
            let bytes = segment_of(&payloads, 300);
            let mut scanner = scanner(&bytes, 7);
            for payload in &payloads {
                match scanner.step() {
                    Step::Frame(frame) => prop_assert_eq!(frame.payload, &payload[..], "payloads come back in order"),
                    other => prop_assert!(false, "expected a frame, got {:?}", other),
                }
            }
            let ended = matches!(scanner.step(), Step::End { .. });
            prop_assert!(ended, "zeros end the segment");
        }

        #[test]
        fn zeros_from_agrees_with_the_naive_search(bytes in prop::collection::vec(prop_oneof![9 => Just(0u8), 1 => any::<u8>()], 0..9000)) {
            let naive = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
            prop_assert_eq!(zeros_from(&bytes), naive, "start of the trailing zeros");
        }

        #[test]
        fn any_bytes_are_scanned_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut scanner = scanner(&bytes, 7);
            if let Step::Bad(bad) = scanner.step() {
                let (count, _) = scanner.frames_after(&bad);
                prop_assert_eq!(count, 0, "random bytes hold no frame");
            }
        }
    }

    #[test]
    fn a_frame_of_another_segment_does_not_validate() {
        let bytes = segment_of(&[b"claimed".to_vec()], 64);
        let step = scanner(&bytes, 8).step();
        assert!(matches!(step, Step::Bad(BadFrame { what: Damage::FrameChecksum, .. })), "foreign frame gave {step:?}");
    }

    #[test]
    fn a_prefix_of_a_frame_reaches_into_the_zeros_and_a_complete_one_does_not() {
        let whole = segment_of(&[vec![9; 40]], 0);
        for cut in 1..whole.len() {
            let mut bytes = whole[..cut].to_vec();
            bytes.resize(whole.len() + 200, 0);
            match scanner(&bytes, 7).step() {
                Step::Bad(bad) => assert!(bad.reaches_zeros, "a frame cut at byte {cut} is incomplete"),
                Step::End { .. } => assert!(whole[..cut].iter().all(|b| *b == 0), "cut at {cut} left something"),
                Step::Frame(_) => panic!("a frame cut at byte {cut} validated"),
            }
        }
        let mut flipped = segment_of(&[vec![9; 40]], 200);
        flipped[30] ^= 1;
        match scanner(&flipped, 7).step() {
            Step::Bad(bad) => assert!(!bad.reaches_zeros, "a complete frame with a flipped byte is not incomplete"),
            other => panic!("a flipped frame gave {other:?}"),
        }
    }

    #[test]
    fn frames_after_a_bad_one_are_found_with_what_they_name() {
        let mut bytes = Vec::new();
        for seq in 1..=4 {
            encode(&mut bytes, 7, 1, seq, seq - 1, &[seq as u8; 10]);
        }
        bytes.resize(400, 0);
        bytes[12] ^= 0xff;
        let mut scanner = scanner(&bytes, 7);
        let Step::Bad(bad) = scanner.step() else { panic!("the first frame is damaged") };
        assert_eq!(scanner.frames_after(&bad), (3, 3), "three frames follow, the last names 3 as durable");
    }
}
