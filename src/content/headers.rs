//! Header values: folding, encoded words (RFC 2047), addresses and dates (RFC 5322).
//!
//! Owns no state. Invariants: HD-1 whatever the value, what is written is one header: no CR, LF or NUL but in folds that
//! are made here; HD-2 no line is longer than 76 characters, unless a single ASCII token (an address, a URL) is; HD-3 a
//! value decodes to itself, with control characters and runs of white space as one space and none at the ends.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::clock::Timestamp;

const LINE: usize = 76;
const WORD_START: &str = "=?UTF-8?B?";
const WORD_END: &str = "?=";

/// The value with control characters and runs of white space as one space, and none at the ends.
pub(super) fn collapse(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if c.is_control() || c.is_whitespace() && c != '\u{a0}' && c != '\u{202f}' {
            if !out.is_empty() && !out.ends_with(' ') {
                out.push(' ');
            }
        } else {
            out.push(c);
        }
    }
    out.truncate(out.trim_end_matches(' ').len());
    out
}

/// [`collapse`], which most values do not need.
fn collapsed(value: &str) -> Cow<'_, str> {
    let mut last = b' ';
    let is_plain = value.bytes().all(|byte| {
        let fits = (b' '..0x7F).contains(&byte) && !(byte == b' ' && last == b' ');
        last = byte;
        fits
    });
    if is_plain && (last != b' ' || value.is_empty()) { Cow::Borrowed(value) } else { Cow::Owned(collapse(value)) }
}

/// Appends `Name: value` and a line end.
pub(super) fn unstructured(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let value = collapsed(value);
    encode_text(out, name.len() + 2, &value);
    out.extend_from_slice(b"\r\n");
}

/// Appends collapsed text from `column` on; answers the column after it.
fn encode_text(out: &mut Vec<u8>, column: usize, value: &str) -> usize {
    let longest = value.split(' ').map(str::len).max().unwrap_or(0);
    if value.is_ascii() && !value.contains("=?") && longest < LINE - column.min(LINE / 2) {
        fold_words(out, column, value)
    } else {
        encoded_words(out, column, value)
    }
}

fn fold_words(out: &mut Vec<u8>, mut column: usize, value: &str) -> usize {
    for (i, word) in value.split(' ').enumerate() {
        if i > 0 {
            if column + 1 + word.len() > LINE {
                out.extend_from_slice(b"\r\n");
                column = 0;
            }
            out.push(b' ');
            column += 1;
        }
        out.extend_from_slice(word.as_bytes());
        column += word.len();
    }
    column
}

/// Encoded words of whole characters, at most 75 characters each, on lines of at most 76.
fn encoded_words(out: &mut Vec<u8>, mut column: usize, value: &str) -> usize {
    let mut rest = value;
    let mut first = true;
    while !rest.is_empty() {
        if !first {
            out.extend_from_slice(b"\r\n ");
            column = 1;
        }
        let room = LINE.saturating_sub(column + WORD_START.len() + WORD_END.len()).min(60);
        if room < 8 {
            first = false;
            continue;
        }
        let mut take = (room / 4 * 3).min(rest.len());
        while !rest.is_char_boundary(take) {
            take -= 1;
        }
        let encoded = STANDARD.encode(&rest[..take]);
        out.extend_from_slice(WORD_START.as_bytes());
        out.extend_from_slice(encoded.as_bytes());
        out.extend_from_slice(WORD_END.as_bytes());
        column += WORD_START.len() + encoded.len() + WORD_END.len();
        rest = &rest[take..];
        first = false;
    }
    column
}

/// Appends `Name: display <address>` and a line end. The address must have passed [`is_safe_address`].
pub(super) fn mailbox(out: &mut Vec<u8>, name: &str, display: &str, address: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let display = collapsed(display);
    let mut column = name.len() + 2;
    if display.is_empty() {
        if column + address.len() > LINE {
            out.extend_from_slice(b"\r\n ");
        }
        out.extend_from_slice(address.as_bytes());
        out.extend_from_slice(b"\r\n");
        return;
    }
    let is_plain = display
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b' ' | b'-' | b'_' | b'\'' | b'!' | b'&' | b'+'));
    let is_quotable = display.is_ascii() && display.len() < LINE / 2 && !display.contains("=?");
    column = if is_plain && display.len() < LINE / 2 {
        fold_words(out, column, &display)
    } else if is_quotable {
        let quoted = format!("\"{}\"", display.replace('\\', "\\\\").replace('"', "\\\""));
        out.extend_from_slice(quoted.as_bytes());
        column + quoted.len()
    } else {
        encoded_words(out, column, &display)
    };
    if column + 3 + address.len() > LINE {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b" <");
    out.extend_from_slice(address.as_bytes());
    out.extend_from_slice(b">\r\n");
}

/// Whether an address may stand in a header and an envelope as it is: one `@`, and nothing that ends a header, an
/// address or a command. Quoted local parts are refused: they are where parsers differ.
pub(super) fn is_safe_address(address: &str) -> bool {
    let Some((local, domain)) = address.rsplit_once('@') else {
        return false;
    };
    let is_common = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
    let are_common = local.bytes().all(is_common) && domain.bytes().all(|b| is_common(b) && b != b'_' && b != b'+');
    if are_common {
        return address.len() <= 254 && !local.is_empty() && !domain.is_empty();
    }
    let is_atom = |c: char| {
        c.is_ascii_alphanumeric()
            || "!#$%&'*+-/=?^_`{|}~.".contains(c)
            || !c.is_ascii() && !c.is_control() && !c.is_whitespace()
    };
    let is_domain = |c: char| {
        c.is_ascii_alphanumeric() || "-.".contains(c) || !c.is_ascii() && !c.is_control() && !c.is_whitespace()
    };
    let is_literal = domain.len() > 2 && domain.starts_with('[') && domain.ends_with(']');
    let literal_char = |c: char| c.is_ascii_alphanumeric() || ".:-".contains(c);
    address.len() <= 254
        && !local.is_empty()
        && !domain.is_empty()
        && local.chars().all(is_atom)
        && (domain.chars().all(is_domain) || is_literal && domain[1..domain.len() - 1].chars().all(literal_char))
}

/// The date of RFC 5322, in UTC: `Sun, 22 Nov 2026 01:23:17 +0000`.
pub(super) fn date(at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(time) => jiff::fmt::strtime::format("%a, %d %b %Y %H:%M:%S +0000", &time.to_zoned(jiff::tz::TimeZone::UTC))
            .unwrap_or_default(),
        Err(_) => date(Timestamp(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(f: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        f(&mut out);
        String::from_utf8(out).expect("headers are UTF-8")
    }

    proptest! {
        #[test]
        fn any_value_makes_one_header_that_decodes_to_itself(value in "(?s:.){0,80}|[ -~]{0,200}|=\\?UTF-8\\?Q\\?x\\?=") {
            let header = written(|out| unstructured(out, "Subject", &value));
            prop_assert!(header.split("\r\n").all(|l| l.len() <= 76 && !l.contains(['\r', '\n', '\0'])), "lines: {:?}", header);
            prop_assert!(header.split("\r\n").skip(1).all(|l| l.is_empty() || l.starts_with(' ')), "folds: {:?}", header);
            let mail = format!("{header}From: a@b.test\r\n\r\nx");
            let parsed = mail_parser::MessageParser::default().parse(mail.as_bytes()).expect("parses");
            prop_assert_eq!(parsed.subject().unwrap_or(""), collapse(&value), "{:?}", header);
            prop_assert_eq!(parsed.headers().len(), 2, "two headers");
            prop_assert_eq!(&*collapsed(&value), collapse(&value));
        }

        #[test]
        fn any_display_name_keeps_the_address(name in "(?s:.){0,60}|[ -~]{0,80}") {
            let header = written(|out| mailbox(out, "From", &name, "news@example.test"));
            prop_assert!(header.split("\r\n").all(|l| l.len() <= 76), "lines: {:?}", header);
            let mail = format!("{header}\r\nx");
            let parsed = mail_parser::MessageParser::default().parse(mail.as_bytes()).expect("parses");
            let from = parsed.from().and_then(|f| f.first()).expect("a sender");
            prop_assert_eq!(from.address(), Some("news@example.test"), "{:?}", header);
            prop_assert_eq!(from.name().unwrap_or(""), collapse(&name), "{:?}", header);
        }
    }

    #[test]
    fn addresses_that_could_break_out_are_refused() {
        for good in ["a@b.test", "o'neil+x@b.test", "ü@b.test", "a@[192.0.2.1]"] {
            assert!(is_safe_address(good), "{good}");
        }
        for bad in ["", "a", "@b", "a@", "a b@c", "a@b\r\nX: y", "a>@b", "\"a b\"@c", "a@b,c@d", "a@b>"] {
            assert!(!is_safe_address(bad), "{bad:?}");
        }
    }

    #[test]
    fn dates_are_those_of_mail() {
        assert_eq!(date(Timestamp(0)), "Thu, 01 Jan 1970 00:00:00 +0000");
    }
}
