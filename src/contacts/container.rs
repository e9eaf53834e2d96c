//! One container of an index: up to 65 536 rows that share their high 16 bits, as the bytes of a store entry.
//!
//! ```text
//! u8 kind ('a' | 'b' | 'r', + 0x80: a text follows) · u16 cardinality − 1 · [u16 length, UTF-8] · payload
//! payload = the container of the portable Roaring format: a: n × u16 · b: 1 024 × u64 · r: u16 n, n × (u16 start, u16 length − 1)
//! ```
//! Integers are little endian. The text is the value that the container belongs to, where the key holds only its hash.
//!
//! Invariants: CO-1 a container is never empty: the entry is deleted instead; CO-2 the smallest of the three payloads is
//! written; CO-3 bytes that do not decode are an error, never a panic. Knows nothing of LMDB and of what the rows mean.

use std::io;

use roaring::RoaringBitmap;

/// 64-bit words of a container as a plain bitmap.
pub(crate) const WORDS: usize = 1_024;
/// Values of an array payload: beyond it a bitmap is smaller.
const ARRAY_MAX: usize = 4_096;
const HEAD_BYTES: usize = 3;
const HAS_TEXT: u8 = 0x80;
/// Cookies of <https://github.com/RoaringBitmap/RoaringFormatSpec>.
const COOKIE_NO_RUNS: u32 = 12_346;
const COOKIE_RUNS: u32 = 12_347;
/// With run containers, the format has offsets from this many containers on.
const OFFSETS_FROM: usize = 4;

/// A plain bitmap of 65 536 bits.
pub(crate) type Words = [u64; WORDS];

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an index container is damaged")]
pub(crate) struct BadContainer;

/// A parsed entry, read in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'a> {
    kind: u8,
    /// 1 ..= 65 536
    len: u32,
    pub(crate) text: Option<&'a str>,
    payload: &'a [u8],
}

impl<'a> Stored<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Stored<'a>, BadContainer> {
        let (head, rest) = bytes.split_at_checked(HEAD_BYTES).ok_or(BadContainer)?;
        let len = u32::from(u16::from_le_bytes([head[1], head[2]])) + 1;
        let (text, payload) = if head[0] & HAS_TEXT == 0 {
            (None, rest)
        } else {
            let (length, rest) = rest.split_at_checked(2).ok_or(BadContainer)?;
            let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
            let (text, rest) = rest.split_at_checked(length).ok_or(BadContainer)?;
            (Some(std::str::from_utf8(text).map_err(|_| BadContainer)?), rest)
        };
        let kind = head[0] & !HAS_TEXT;
        let fits = match kind {
            b'a' => payload.len() == len as usize * 2,
            b'b' => payload.len() == WORDS * 8,
            b'r' => {
                payload.len() >= 2 && payload.len() == 2 + 4 * usize::from(u16::from_le_bytes([payload[0], payload[1]]))
            }
            _ => false,
        };
        if fits { Ok(Stored { kind, len, text, payload }) } else { Err(BadContainer) }
    }

    /// The sorted values, if the payload is a short array (what a rare value has).
    fn short_array(&self, max: usize) -> Option<impl Iterator<Item = u16> + 'a> {
        let payload = self.payload;
        (self.kind == b'a' && self.len as usize <= max)
            .then(|| payload.chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]])))
    }

    pub(crate) fn contains(&self, low: u16) -> bool {
        let u16_at = |at: usize| self.payload.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]));
        match self.kind {
            b'a' => {
                let (mut from, mut to) = (0, self.payload.len() / 2);
                while from < to {
                    let middle = (from + to) / 2;
                    match u16_at(middle * 2).cmp(&low) {
                        std::cmp::Ordering::Equal => return true,
                        std::cmp::Ordering::Less => from = middle + 1,
                        std::cmp::Ordering::Greater => to = middle,
                    }
                }
                false
            }
            b'b' => self.payload.get(usize::from(low) / 8).is_some_and(|byte| byte & (1 << (low % 8)) != 0),
            _ => (2..self.payload.len())
                .step_by(4)
                .any(|at| u16_at(at) <= low && u32::from(low) <= u32::from(u16_at(at)) + u32::from(u16_at(at + 2))),
        }
    }

    /// Sets the bits of this container in `words`.
    pub(crate) fn or_into(&self, words: &mut Words) {
        match self.kind {
            b'a' => {
                for low in self.payload.chunks_exact(2) {
                    set(words, u16::from_le_bytes([low[0], low[1]]));
                }
            }
            b'b' => {
                for (word, bytes) in words.iter_mut().zip(self.payload.chunks_exact(8)) {
                    let mut eight = [0; 8];
                    eight.copy_from_slice(bytes);
                    *word |= u64::from_le_bytes(eight);
                }
            }
            _ => {
                for run in self.payload[2..].chunks_exact(4) {
                    let start = u16::from_le_bytes([run[0], run[1]]);
                    let end = start.saturating_add(u16::from_le_bytes([run[2], run[3]]));
                    set_range(words, start, end);
                }
            }
        }
    }
}

pub(crate) fn set(words: &mut Words, low: u16) {
    words[usize::from(low >> 6)] |= 1 << (low & 63);
}

pub(crate) fn unset(words: &mut Words, low: u16) {
    words[usize::from(low >> 6)] &= !(1 << (low & 63));
}

/// Sets `start ..= end`.
pub(crate) fn set_range(words: &mut Words, start: u16, end: u16) {
    if start > end {
        return;
    }
    let (first, last) = (usize::from(start >> 6), usize::from(end >> 6));
    let head = u64::MAX << (start & 63);
    let tail = u64::MAX >> (63 - (end & 63));
    if first == last {
        words[first] |= head & tail;
    } else {
        words[first] |= head;
        words[first + 1..last].fill(u64::MAX);
        words[last] |= tail;
    }
}

fn push_head(out: &mut Vec<u8>, kind: u8, len: u32, text: Option<&str>) {
    out.push(if text.is_some() { kind | HAS_TEXT } else { kind });
    out.extend_from_slice(&(u16::try_from(len - 1).unwrap_or(u16::MAX)).to_le_bytes());
    if let Some(text) = text {
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
    }
}

/// Writes `words` as an entry into `out` (cleared first); answers whether it has any row.
pub(crate) fn encode_words(words: &Words, text: Option<&str>, out: &mut Vec<u8>) -> bool {
    out.clear();
    let (mut len, mut runs, mut carry) = (0u32, 0usize, 0u64);
    for &word in words {
        len += word.count_ones();
        // A run starts at a set bit whose lower neighbour is clear.
        runs += (word & !((word << 1) | carry)).count_ones() as usize;
        carry = word >> 63;
    }
    if len == 0 {
        return false;
    }
    let plain = (len as usize * 2).min(WORDS * 8);
    if 2 + runs * 4 < plain {
        push_head(out, b'r', len, text);
        out.extend_from_slice(&u16::try_from(runs).unwrap_or(u16::MAX).to_le_bytes());
        push_runs(words, out);
    } else if len as usize <= ARRAY_MAX {
        push_head(out, b'a', len, text);
        for (i, &word) in words.iter().enumerate() {
            let mut rest = word;
            while rest != 0 {
                let low = (i as u32) * 64 + rest.trailing_zeros();
                out.extend_from_slice(&(low as u16).to_le_bytes());
                rest &= rest - 1;
            }
        }
    } else {
        push_head(out, b'b', len, text);
        for word in words {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
    true
}

fn push_runs(words: &Words, out: &mut Vec<u8>) {
    let mut open: Option<u32> = None;
    let mut close = |start: u32, end: u32| {
        out.extend_from_slice(&(start as u16).to_le_bytes());
        out.extend_from_slice(&((end - start) as u16).to_le_bytes());
    };
    for (i, &word) in words.iter().enumerate() {
        let base = i as u32 * 64;
        let mut at = 0u32;
        while at < 64 {
            let rest = if open.is_some() { !word >> at } else { word >> at };
            if rest == 0 {
                break;
            }
            at += rest.trailing_zeros();
            if at >= 64 {
                break;
            }
            match open.take() {
                Some(start) => close(start, base + at - 1),
                None => open = Some(base + at),
            }
        }
    }
    if let Some(start) = open {
        close(start, 65_535);
    }
}

/// Writes sorted distinct values as an entry into `out` (cleared first); answers whether there is any.
fn encode_sorted(lows: &[u16], text: Option<&str>, out: &mut Vec<u8>) -> bool {
    out.clear();
    let runs = lows.iter().enumerate().filter(|(i, low)| *i == 0 || lows[i - 1] + 1 != **low).count();
    let Ok(len) = u32::try_from(lows.len()) else {
        return false;
    };
    if len == 0 {
        return false;
    }
    if 2 + runs * 4 < lows.len() * 2 {
        push_head(out, b'r', len, text);
        out.extend_from_slice(&u16::try_from(runs).unwrap_or(u16::MAX).to_le_bytes());
        let mut start = lows[0];
        for (i, &low) in lows.iter().enumerate() {
            if lows.get(i + 1).is_none_or(|next| *next != low + 1) {
                out.extend_from_slice(&start.to_le_bytes());
                out.extend_from_slice(&(low - start).to_le_bytes());
                start = lows.get(i + 1).copied().unwrap_or(0);
            }
        }
    } else {
        push_head(out, b'a', len, text);
        for low in lows {
            out.extend_from_slice(&low.to_le_bytes());
        }
    }
    true
}

/// Buffers that edits of containers share.
pub(crate) struct Scratch {
    words: Box<Words>,
    lows: Vec<u16>,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch { words: Box::new([0; WORDS]), lows: Vec::new() }
    }
}

impl Scratch {
    /// Takes `remove` from the container `old` and adds `add` (both sorted; a row in both ends up in the container) and
    /// writes the entry into `out`; answers whether any row is left.
    pub(crate) fn edit(
        &mut self,
        old: Option<&[u8]>,
        add: &[u16],
        remove: &[u16],
        text: Option<&str>,
        out: &mut Vec<u8>,
    ) -> Result<bool, BadContainer> {
        let old = old.map(Stored::parse).transpose()?;
        let room = (ARRAY_MAX / 2).saturating_sub(add.len());
        match old {
            None if add.len() <= ARRAY_MAX => {
                self.lows.clear();
                self.lows.extend_from_slice(add);
                self.lows.dedup();
                return Ok(encode_sorted(&self.lows, text, out));
            }
            Some(stored) => {
                if let Some(present) = stored.short_array(room) {
                    self.lows.clear();
                    merge(present, add, remove, &mut self.lows);
                    return Ok(encode_sorted(&self.lows, text, out));
                }
            }
            None => {}
        }
        self.words.fill(0);
        if let Some(stored) = old {
            stored.or_into(&mut self.words);
        }
        for low in remove {
            unset(&mut self.words, *low);
        }
        for low in add {
            set(&mut self.words, *low);
        }
        Ok(encode_words(&self.words, text, out))
    }
}

fn merge(present: impl Iterator<Item = u16>, add: &[u16], remove: &[u16], out: &mut Vec<u16>) {
    let (mut add, mut remove) = (add.iter().copied().peekable(), remove.iter().copied().peekable());
    let push = |out: &mut Vec<u16>, low: u16| {
        if out.last() != Some(&low) {
            out.push(low);
        }
    };
    for low in present {
        while let Some(new) = add.next_if(|a| *a <= low) {
            push(out, new);
        }
        while remove.next_if(|r| *r < low).is_some() {}
        if remove.peek() != Some(&low) {
            push(out, low);
        }
    }
    for new in add {
        push(out, new);
    }
}

/// Puts containers together to a bitmap. They must come in ascending order of their high bits.
#[derive(Default)]
pub(crate) struct Assembler {
    heads: Vec<(u16, u32, bool, usize)>,
    payloads: Vec<u8>,
}

impl Assembler {
    pub(crate) fn push(&mut self, high: u16, stored: Stored<'_>) {
        self.heads.push((high, stored.len, stored.kind == b'r', stored.payload.len()));
        self.payloads.extend_from_slice(stored.payload);
    }

    /// The bitmap; the assembler is empty afterwards and keeps its buffers.
    pub(crate) fn finish(&mut self) -> Result<RoaringBitmap, BadContainer> {
        if self.heads.is_empty() {
            return Ok(RoaringBitmap::new());
        }
        let count = self.heads.len();
        let with_runs = self.heads.iter().any(|h| h.2);
        let mut out = Vec::with_capacity(16 + count * 9 + self.payloads.len());
        if with_runs {
            let more = u32::try_from(count - 1).map_err(|_| BadContainer)?;
            out.extend_from_slice(&(COOKIE_RUNS | (more << 16)).to_le_bytes());
            let flags = out.len();
            out.resize(flags + count.div_ceil(8), 0);
            for (i, head) in self.heads.iter().enumerate() {
                out[flags + i / 8] |= u8::from(head.2) << (i % 8);
            }
        } else {
            out.extend_from_slice(&COOKIE_NO_RUNS.to_le_bytes());
            out.extend_from_slice(&u32::try_from(count).map_err(|_| BadContainer)?.to_le_bytes());
        }
        for (high, len, _, _) in &self.heads {
            out.extend_from_slice(&high.to_le_bytes());
            out.extend_from_slice(&u16::try_from(len - 1).map_err(|_| BadContainer)?.to_le_bytes());
        }
        if !with_runs || count >= OFFSETS_FROM {
            let mut offset = out.len() + count * 4;
            for (_, _, _, bytes) in &self.heads {
                out.extend_from_slice(&u32::try_from(offset).map_err(|_| BadContainer)?.to_le_bytes());
                offset += bytes;
            }
        }
        out.extend_from_slice(&self.payloads);
        self.heads.clear();
        self.payloads.clear();
        RoaringBitmap::deserialize_from(&out[..]).map_err(|_: io::Error| BadContainer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lows() -> impl Strategy<Value = Vec<u16>> {
        prop_oneof![
            proptest::collection::vec(any::<u16>(), 0..50),
            proptest::collection::vec(any::<u16>(), 3_000..9_000),
            (any::<u16>(), 1u16..20_000).prop_map(|(start, n)| (start..start.saturating_add(n)).collect()),
            Just((0..=u16::MAX).collect()),
        ]
        .prop_map(|mut v| {
            v.sort_unstable();
            v.dedup();
            v
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn an_edit_is_the_same_as_on_a_plain_set(old in lows(), add in lows(), remove in lows(), text in proptest::option::of("[a-zé]{0,9}")) {
            let mut scratch = Scratch::default();
            let mut first = Vec::new();
            let any = scratch.edit(None, &old, &[], text.as_deref(), &mut first).expect("no old bytes");
            prop_assert_eq!(any, !old.is_empty(), "an empty container is said to be empty");
            let mut second = Vec::new();
            let any = scratch.edit(any.then_some(&first[..]), &add, &remove, text.as_deref(), &mut second).expect("own bytes parse");
            let mut want: std::collections::BTreeSet<u32> = old.iter().filter(|l| remove.binary_search(l).is_err()).map(|l| u32::from(*l)).collect();
            want.extend(add.iter().map(|l| u32::from(*l)));
            prop_assert_eq!(any, !want.is_empty());
            if any {
                let stored = Stored::parse(&second).expect("own bytes parse");
                prop_assert_eq!(stored.text, text.as_deref(), "the text is kept");
                let mut assembler = Assembler::default();
                assembler.push(0, stored);
                let got = assembler.finish().expect("assembles");
                prop_assert!(got.iter().eq(want.iter().copied()), "same rows: {} and {}", got.len(), want.len());
                for low in old.iter().chain(&add).chain(&remove).chain(&[0, u16::MAX]) {
                    prop_assert_eq!(stored.contains(*low), want.contains(&u32::from(*low)), "{} is in or not", low);
                }
            }
        }

        #[test]
        fn containers_of_all_kinds_assemble_in_any_number(parts in proptest::collection::vec(lows(), 1..7)) {
            let mut assembler = Assembler::default();
            let mut scratch = Scratch::default();
            let mut want = RoaringBitmap::new();
            let mut bytes = Vec::new();
            for (high, part) in parts.iter().enumerate() {
                if scratch.edit(None, part, &[], None, &mut bytes).expect("no old bytes") {
                    assembler.push(high as u16, Stored::parse(&bytes).expect("own bytes parse"));
                    want.extend(part.iter().map(|low| (high as u32) << 16 | u32::from(*low)));
                }
            }
            prop_assert_eq!(assembler.finish().expect("assembles"), want);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(stored) = Stored::parse(&bytes) {
                stored.or_into(&mut [0; WORDS]);
                let mut assembler = Assembler::default();
                assembler.push(3, stored);
                let _unused: Result<RoaringBitmap, BadContainer> = assembler.finish();
            }
        }
    }
}
