//! Addresses in a line of the log, replaced by keyed hashes: `<address:5f0c…>`, `<phone:91ab…>`.
//!
//! Owns the process's key. Invariants: HI-1 what looks like an e-mail address or an international phone number is replaced, also
//! percent-encoded, quoted, or beyond ASCII; rather too much than too little; HI-2 one address is one word in all logs of a
//! data directory, and without its secret the word says nothing (BLAKE3 keyed with a key that is derived from `tokens.key`);
//! HI-3 before there is a key the word is `<address>`.

use std::borrow::Cow;
use std::path::Path;

use parking_lot::RwLock;

use crate::engine::root_key;

const CONTEXT: &str = "estafette 2026 addresses in logs";
/// Hexadecimal digits of a word: 48 bits tell ten million addresses apart but for a handful.
const DIGITS: usize = 12;
/// Digits of a phone number in its international form (E.164).
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;
/// Longest quoted local part that is looked for.
const QUOTED_MAX: usize = 70;

static KEY: RwLock<Option<Hider>> = RwLock::new(None);

/// Hashes addresses for logs.
#[derive(Clone, Copy)]
pub struct Hider([u8; 32]);

impl Hider {
    /// That of a data directory; `None` if it has no secret yet, or one that can't be read.
    pub fn of(data: &Path) -> Option<Hider> {
        let secret = std::fs::read(data.join(root_key::FILE)).ok()?;
        Some(Hider(blake3::derive_key(CONTEXT, &secret)))
    }

    /// The word for an address, as it stands in logs.
    pub fn word(&self, address: &str) -> String {
        let plain = address.trim().to_lowercase();
        let kind = if plain.contains('@') { "address" } else { "phone" };
        let hash = blake3::keyed_hash(&self.0, plain.as_bytes()).to_hex();
        format!("<{kind}:{}>", &hash.as_str()[..DIGITS])
    }
}

pub fn set(hider: Hider) {
    *KEY.write() = Some(hider);
}

/// The line without addresses.
pub fn hide(line: &str) -> Cow<'_, str> {
    hide_by(KEY.read().as_ref(), line)
}

fn hide_by<'l>(hider: Option<&Hider>, line: &'l str) -> Cow<'l, str> {
    if !line.contains(['@', '+']) && !line.contains("%40") {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len());
    let mut rest = 0;
    while let Some(found) = next(line, rest) {
        out.push_str(&line[rest..found.start]);
        let address = line[found.start..found.end].replace("%40", "@");
        match hider {
            Some(hider) => out.push_str(&hider.word(&address)),
            None => out.push_str(if address.contains('@') { "<address>" } else { "<phone>" }),
        }
        rest = found.end;
    }
    out.push_str(&line[rest..]);
    Cow::Owned(out)
}

struct Found {
    start: usize,
    end: usize,
}

/// The first address in `line[from..]`.
fn next(line: &str, from: usize) -> Option<Found> {
    let bytes = line.as_bytes();
    let mut at = from;
    while at < bytes.len() {
        let sign = match bytes[at] {
            b'@' => 1,
            b'%' if line[at..].starts_with("%40") => 3,
            b'+' => {
                if let Some(found) = phone(line, from, at) {
                    return Some(found);
                }
                at += 1;
                continue;
            }
            _ => {
                at += 1;
                continue;
            }
        };
        let (start, end) = (local_start(line, from, at), domain_end(line, at + sign));
        if start < at && end > at + sign {
            return Some(Found { start, end });
        }
        at += sign;
    }
    None
}

fn phone(line: &str, from: usize, plus: usize) -> Option<Found> {
    let before = line[from..plus].chars().next_back();
    if before.is_some_and(char::is_alphanumeric) {
        return None;
    }
    let digits = line[plus + 1..].bytes().take_while(u8::is_ascii_digit).count();
    let end = plus + 1 + digits;
    // It may be the beginning of a local part.
    let goes_on = line[end..].starts_with(|c: char| is_of_local(c) || c == '@');
    (PHONE_DIGITS.contains(&digits) && (!goes_on || ends_there(&line[end..]))).then_some(Found { start: plus, end })
}

/// Whether what follows a number is the end of a sentence or of a value, and no local part.
fn ends_there(rest: &str) -> bool {
    let run: String = rest.chars().take_while(|c| is_of_local(*c)).collect();
    !rest[run.len()..].starts_with('@')
}

fn is_of_local(c: char) -> bool {
    c.is_alphanumeric() || !c.is_ascii() || "!#$%&'*+-/=?^_`{|}~.".contains(c)
}

fn local_start(line: &str, from: usize, at: usize) -> usize {
    let before = &line[from..at];
    if let Some(inner) = before.strip_suffix('"') {
        // In JSON the quotes of a quoted local part are escaped.
        let inner = inner.strip_suffix('\\').unwrap_or(inner);
        let open = inner.rfind('"').filter(|open| inner.len() - open <= QUOTED_MAX);
        // With the backslash of the opening one, or the line would be no JSON any more.
        let with_escape = |open: usize| open - usize::from(before[..open].ends_with('\\'));
        return open.map_or(at, |open| from + with_escape(open));
    }
    let start = before.char_indices().rev().take_while(|(_, c)| is_of_local(*c)).last().map_or(at, |(i, _)| from + i);
    // A field of a log line in text form, as `address=anna@x.test`, is no part of it; nor is a quotation mark.
    let local = &line[start..at];
    let key = local.split_once('=').map_or("", |(key, _)| key);
    let is_key = !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'.');
    let start = if is_key { start + key.len() + 1 } else { start };
    // The letter of an escape, as in `\nanna@x.test`.
    let is_escape = line[from..start].ends_with('\\') && line[start..at].starts_with(['n', 'r', 't', 'b', 'f']);
    let start = start + usize::from(is_escape);
    start + line[start..at].bytes().take_while(|b| matches!(b, b'\'' | b'`')).count()
}

fn domain_end(line: &str, at: usize) -> usize {
    let rest = &line[at..];
    if rest.starts_with('[') {
        return rest.find(']').map_or(at, |end| at + end + 1);
    }
    let is_of_domain = |c: char| c.is_alphanumeric() || !c.is_ascii() || c == '-' || c == '.';
    let length: usize = rest.chars().take_while(|c| is_of_domain(*c)).map(char::len_utf8).sum();
    at + rest[..length].trim_end_matches(['.', '-']).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIDER: Hider = Hider([7; 32]);

    fn hidden(line: &str) -> String {
        hide_by(Some(&HIDER), line).into_owned()
    }

    #[test]
    fn addresses_are_hidden_wherever_they_stand() {
        let addresses = [
            "anna@x.test",
            "o'brien@x.test",
            "a.b+tag@mail.x.test",
            "ANNA@X.TEST",
            "josé@müller.test",
            "用户@例え.test",
            "x@[192.0.2.1]",
            "SRS0=ab=cd=x.test=anna@y.test",
            "\"john doe\"@x.test",
            "+491701234567",
            "+491701234567@sms.test",
        ];
        let frames: [fn(&str) -> String; 8] = [
            |a| format!("550 5.1.1 <{a}>: Recipient address rejected: no such user"),
            |a| format!("2026 WARN reply=550 {a} unknown connector=relay"),
            |a| format!("address={a}"),
            |a| format!("({a})."),
            |a| format!("to {a}, {a}; and mailto:{a}"),
            |a| format!("{a}\n"),
            |a| format!("RCPT TO:<{a}> NOTIFY=NEVER"),
            |a| serde_json::json!({"message": format!("no mailbox {a} here")}).to_string(),
        ];
        for address in addresses {
            for frame in frames {
                let line = frame(address);
                let shown = hidden(&line);
                let word = HIDER.word(address);
                assert!(!shown.contains(address) && !shown.contains('@'), "{line} is shown as {shown}");
                assert!(
                    shown.contains(&word) || address.starts_with('"'),
                    "{line} is shown as {shown}, without {word}"
                );
            }
        }
    }

    #[test]
    fn the_same_address_is_the_same_word_however_it_is_written() {
        assert_eq!(hidden("Anna@X.test"), HIDER.word("anna@x.test"));
        assert_eq!(hidden("anna%40x.test"), HIDER.word("anna@x.test"), "in a URL");
        assert_ne!(Hider([8; 32]).word("anna@x.test"), HIDER.word("anna@x.test"), "elsewhere it is another one");
        assert_eq!(
            hide_by(None, "to anna@x.test and +491701234567"),
            "to <address> and <phone>",
            "before there is a key"
        );
    }

    #[test]
    fn a_line_of_json_stays_one() {
        for text in ["a\nanna@x.test\tb", "a \"john doe\"@x.test b", "\\anna@x.test", "\"anna@x.test\""] {
            let line = serde_json::json!({ "message": text }).to_string();
            let shown = hidden(&line);
            let parsed: serde_json::Value =
                serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{error}: {shown}"));
            assert!(!parsed["message"].as_str().unwrap().contains('@'), "{shown}");
        }
        let word = HIDER.word("anna@x.test");
        assert!(
            hidden(&serde_json::json!("a\nanna@x.test").to_string()).contains(&word),
            "the escape is no part of it"
        );
    }

    #[test]
    fn what_is_no_address_stays() {
        for line in [
            "plain",
            "3 @ 12:00",
            "@decorated",
            "a @ b",
            "1e+10",
            "2026-01-01T00:00:00+00:00",
            "C++ 11",
            "x@",
            "100%4",
            "user+tag",
            "1+1234567x2",
        ] {
            assert_eq!(hidden(line), line);
        }
    }
}
