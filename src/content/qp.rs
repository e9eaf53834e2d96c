//! Quoted-printable (RFC 2045 section 6.7), for text that is put together from spans.
//!
//! Owns no state: a column goes in and comes out. Invariants: QP-1 no line exceeds 76 characters, `=` of a soft break
//! included; QP-2 output is printable ASCII and CRLF; QP-3 no line starts with a dot and none ends with a space or tab;
//! QP-4 a span may follow any other: static spans are encoded from column 0, and what stands before one ends with a
//! break ([`soft_break`]); QP-5 what decodes is the text with every line end (CR, LF, CRLF) as CRLF, without control
//! characters other than tab.

/// Characters of one encoded line, without the `=` of a soft break.
const LINE: usize = 75;

/// 1 = may stand as it is, 2 = space or tab, 3 = line end, 0 = must be encoded, 4 = dropped.
const CLASS: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = match b as u8 {
            b'\t' | b' ' => 2,
            b'\r' | b'\n' => 3,
            b'=' => 0,
            0..=31 | 127 => 4,
            33..=126 => 1,
            _ => 0,
        };
        b += 1;
    }
    table
};

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Ends a span: after it, whatever comes next starts at column 0.
pub(super) fn soft_break(out: &mut Vec<u8>, column: usize) {
    if column > 0 {
        out.extend_from_slice(b"=\r\n");
    }
}

/// Appends `text` from `column` on; answers the column after it. A trailing space or tab is encoded, so that a line end
/// may follow.
pub(super) fn encode(out: &mut Vec<u8>, mut column: usize, text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let run = bytes[at..].iter().take_while(|b| CLASS[usize::from(**b)] == 1).count();
        if run > 0 {
            column = plain(out, column, &bytes[at..at + run]);
            at += run;
            continue;
        }
        let byte = bytes[at];
        at += 1;
        match CLASS[usize::from(byte)] {
            2 => {
                let at_line_end = bytes[at..].iter().find(|b| CLASS[usize::from(**b)] != 4);
                if at_line_end.is_none_or(|next| CLASS[usize::from(*next)] == 3) {
                    column = escaped(out, column, byte);
                } else {
                    column = plain(out, column, &[byte]);
                }
            }
            3 => {
                if byte == b'\r' && bytes.get(at) == Some(&b'\n') {
                    at += 1;
                }
                out.extend_from_slice(b"\r\n");
                column = 0;
            }
            0 => column = escaped(out, column, byte),
            _ => {}
        }
    }
    column
}

/// Appends text that may not be broken (a token): ASCII that needs no encoding, shorter than a line.
pub(super) fn unbroken(out: &mut Vec<u8>, column: usize, text: &[u8]) -> usize {
    let column = if column + text.len() > LINE {
        soft_break(out, column);
        0
    } else {
        column
    };
    out.extend_from_slice(text);
    column + text.len()
}

fn plain(out: &mut Vec<u8>, mut column: usize, mut run: &[u8]) -> usize {
    while !run.is_empty() {
        if column >= LINE {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
        if column == 0 && run[0] == b'.' {
            column = escaped(out, 0, b'.');
            run = &run[1..];
            continue;
        }
        let take = run.len().min(LINE - column);
        let (head, tail) = run.split_at(take);
        out.extend_from_slice(head);
        column += take;
        run = tail;
    }
    column
}

fn escaped(out: &mut Vec<u8>, mut column: usize, byte: u8) -> usize {
    if column + 3 > LINE {
        out.extend_from_slice(b"=\r\n");
        column = 0;
    }
    out.extend_from_slice(&[b'=', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    column + 3
}

/// Appends `text` as HTML text or a quoted attribute value, encoded. Entities may be broken between lines, which quoted-printable undoes.
pub(super) fn encode_html(out: &mut Vec<u8>, mut column: usize, text: &str) -> usize {
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
        let (head, tail) = rest.split_at(at);
        column = encode(out, column, head);
        column = plain(out, column, entity(tail.as_bytes()[0]).as_bytes());
        rest = &tail[1..];
    }
    encode(out, column, rest)
}

/// The entity of a character that HTML gives a meaning to; as minijinja writes them.
pub(super) fn entity(byte: u8) -> &'static str {
    match byte {
        b'&' => "&amp;",
        b'<' => "&lt;",
        b'>' => "&gt;",
        b'"' => "&quot;",
        _ => "&#x27;",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(encoded: &[u8]) -> String {
        let text = std::str::from_utf8(encoded).expect("ASCII");
        let mut out = Vec::new();
        let lines: Vec<&str> = text.split("\r\n").collect();
        for (i, line) in lines.iter().enumerate() {
            let (body, soft) = line.strip_suffix('=').map_or((*line, false), |b| (b, true));
            let b = body.as_bytes();
            let mut at = 0;
            while at < b.len() {
                if b[at] == b'=' {
                    out.push(u8::from_str_radix(&body[at + 1..at + 3], 16).expect("hex"));
                    at += 3;
                } else {
                    out.push(b[at]);
                    at += 1;
                }
            }
            if !soft && i + 1 < lines.len() {
                out.extend_from_slice(b"\r\n");
            }
        }
        String::from_utf8(out).expect("UTF-8")
    }

    fn canonical(text: &str) -> String {
        let lines = text.replace("\r\n", "\n").replace('\r', "\n");
        lines
            .chars()
            .filter(|c| *c == '\n' || *c == '\t' || !c.is_ascii_control())
            .collect::<String>()
            .replace('\n', "\r\n")
    }

    proptest! {
        #[test]
        fn spans_decode_to_their_texts_within_the_line_limits(
            spans in prop::collection::vec(("[ -~]{0,90}|(?s:.){0,40}|[.= \t\r\n]{0,9}", any::<bool>()), 0..6)
        ) {
            let (mut out, mut column, mut expected) = (Vec::new(), 0, String::new());
            for (text, is_dynamic) in &spans {
                // A CR that ends one span and a LF that begins the next are two line ends to both sides.
                column = encode(&mut out, column, text);
                expected.push_str(&canonical(text));
                if *is_dynamic {
                    soft_break(&mut out, column);
                    column = 0;
                }
            }
            prop_assert_eq!(decode(&out), expected, "decodes");
            for line in String::from_utf8(out).expect("ASCII").split("\r\n") {
                prop_assert!(line.len() <= 76, "length of {:?}", line);
                prop_assert!(!line.starts_with('.'), "dot: {:?}", line);
                prop_assert!(!line.ends_with([' ', '\t']), "trailing space: {:?}", line);
                prop_assert!(line.bytes().all(|b| b == b'\t' || (32..127).contains(&b)), "ASCII: {:?}", line);
            }
        }
    }

    #[test]
    fn html_is_escaped_and_a_token_is_never_broken() {
        let mut out = Vec::new();
        let column = encode_html(&mut out, 0, "a<b>&\"' é");
        assert_eq!(decode(&out), "a&lt;b&gt;&amp;&quot;&#x27; é", "escaped");
        assert!(column > 0, "within a line");
        let token = [b'x'; 41];
        let column = unbroken(&mut out, 40, &token);
        assert_eq!(column, 41, "moved to a line of its own");
        assert!(out.ends_with(&token), "in one piece");
    }
}
