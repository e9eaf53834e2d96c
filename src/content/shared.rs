//! A rendered message that shares its static text with all its copies: bytes of its own, and where spans of the compiled
//! message stand between them.
//!
//! Of a mail of ten kilobytes some two are its own. What waits in a lane is these two; the rest is put between them when it
//! is written, out of bytes that the processor has at hand because every copy uses them.
//!
//! Owns no message. Invariants: SH-1 cuts ascend in their place among the own bytes; SH-2 every cut lies within the shared bytes.

use std::sync::Arc;

/// A span of the shared bytes that stands before the byte `at` of the own ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    at: u32,
    from: u32,
    to: u32,
}

/// What a message shares; empty if its own bytes are all of it.
#[derive(Clone, Debug, Default)]
pub struct SharedSpans {
    bytes: Option<Arc<[u8]>>,
    cuts: Vec<Cut>,
    len: usize,
}

impl SharedSpans {
    pub fn is_empty(&self) -> bool {
        self.cuts.is_empty()
    }

    /// Bytes of all spans.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Keeps the buffers for the next message.
    pub fn clear(&mut self) {
        self.cuts.clear();
        self.len = 0;
    }

    /// Begins a message that shares these bytes.
    pub(super) fn begin(&mut self, bytes: &Arc<[u8]>) {
        self.clear();
        // The counter of the bytes is every lane's: it is left alone from one copy to the next.
        if !self.bytes.as_ref().is_some_and(|held| Arc::ptr_eq(held, bytes)) {
            self.bytes = Some(Arc::clone(bytes));
        }
    }

    /// The next span, which stands before the byte `at` of the own ones; `false` if it is too far for a cut.
    pub(super) fn push(&mut self, at: usize, from: usize, to: usize) -> bool {
        let (Ok(at), Ok(from), Ok(to)) = (u32::try_from(at), u32::try_from(from), u32::try_from(to)) else {
            return false;
        };
        if from == to {
            return true;
        }
        self.cuts.push(Cut { at, from, to });
        self.len += (to - from) as usize;
        true
    }

    /// Spans for tests: places among the own bytes, with what stands there.
    #[cfg(test)]
    pub fn of(spans: &[(usize, &str)]) -> SharedSpans {
        let text: String = spans.iter().map(|(_, span)| *span).collect();
        let mut shared = SharedSpans::default();
        shared.begin(&text.into_bytes().into());
        let mut from = 0;
        for (at, span) in spans {
            assert!(shared.push(*at, from, from + span.len()), "a span");
            from += span.len();
        }
        shared
    }

    /// Appends the whole message.
    pub fn write(&self, own: &[u8], out: &mut Vec<u8>) {
        out.reserve(own.len() + self.len);
        let shared = self.bytes.as_deref().unwrap_or(&[]);
        let mut written = 0;
        for cut in &self.cuts {
            let at = cut.at as usize;
            out.extend_from_slice(own.get(written..at).unwrap_or(&[]));
            out.extend_from_slice(shared.get(cut.from as usize..cut.to as usize).unwrap_or(&[]));
            written = at;
        }
        out.extend_from_slice(own.get(written..).unwrap_or(&[]));
    }

    /// Whether the whole message ends so.
    pub fn ends_with(&self, own: &[u8], end: &[u8]) -> bool {
        match self.cuts.last() {
            Some(cut) if cut.at as usize == own.len() => {
                let shared = self.bytes.as_deref().unwrap_or(&[]);
                shared.get(cut.from as usize..cut.to as usize).is_some_and(|span| span.ends_with(end))
            }
            _ => own.ends_with(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_stand_where_they_were_cut() {
        for (own, spans, whole) in [
            ("ab", &[(0, "x"), (1, "yy"), (1, "z"), (2, "\r\n")][..], "xayyzb\r\n"),
            ("ab\r\n", &[(0, "x")], "xab\r\n"),
            ("", &[(0, "only\r\n")], "only\r\n"),
            ("own\r\n", &[], "own\r\n"),
        ] {
            let shared = SharedSpans::of(spans);
            let mut out = Vec::new();
            shared.write(own.as_bytes(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), whole);
            assert_eq!(own.len() + shared.len(), whole.len(), "its length");
            assert!(shared.ends_with(own.as_bytes(), b"\r\n") && !shared.ends_with(own.as_bytes(), b"q"), "its end");
        }
    }

    #[test]
    fn what_is_no_span_is_refused() {
        let mut shared = SharedSpans::default();
        assert!(!shared.push(usize::MAX, 0, 1), "too far");
        assert!(shared.is_empty(), "no span");
        assert_eq!(shared.len(), 0, "nothing shared");
    }
}
