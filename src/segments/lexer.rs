//! Text to tokens.
//!
//! Owns no state. Knows words, texts, numbers, spans of time and dates; which words mean something is the parser's
//! business. Invariant: LX-1 spans ascend, do not overlap, and lie on character borders.

use jiff::civil;

use crate::segments::error::{Hint, Problem, SegmentError, Span};
use crate::segments::expression::{Anchor, Unit};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Word(String),
    /// A name in backticks: never a keyword.
    Quoted(String),
    Text(String),
    Number(f64),
    Duration(i64, Unit),
    /// `Day`, `Local` or `Instant`.
    Date(Anchor),
    Symbol(&'static str),
    End,
}

impl Token {
    /// For messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Token::Word(word) => format!("`{word}`"),
            Token::Quoted(name) => format!("the name `{name}`"),
            Token::Text(_) => "a text".to_owned(),
            Token::Number(number) => format!("the number {number}"),
            Token::Duration(count, unit) => format!("the span of time {count}{}", unit.suffix()),
            Token::Date(_) => "a date".to_owned(),
            Token::Symbol(symbol) => format!("`{symbol}`"),
            Token::End => "the end".to_owned(),
        }
    }
}

const SYMBOLS: [&str; 11] = ["!=", "<=", ">=", "=", "<", ">", "(", ")", ",", "+", "-"];

/// The tokens of `text`, the last one [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, Span)>, SegmentError> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (token, end) = token(text, at, first)?;
        out.push((token, Span::new(at, end)));
        at = end;
    }
    out.push((Token::End, Span::new(text.len(), text.len())));
    Ok(out)
}

fn token(text: &str, at: usize, first: char) -> Result<(Token, usize), SegmentError> {
    let rest = &text[at..];
    if first == '"' || first == '\'' {
        return quoted(text, at, first).map(|(value, end)| (Token::Text(value), end));
    }
    if first == '`' {
        let Some(length) = rest[1..].find('`') else {
            return Err(SegmentError::new(Span::new(at, text.len()), Problem::OpenText { quote: '`' }));
        };
        return Ok((Token::Quoted(rest[1..=length].to_owned()), at + length + 2));
    }
    if first.is_ascii_digit() {
        return match date_length(rest) {
            Some(length) => date(&rest[..length], at).map(|token| (token, at + length)),
            None => number(rest, at),
        };
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let length = word_length(rest);
        return Ok((Token::Word(rest[..length].to_owned()), at + length));
    }
    if let Some(symbol) = SYMBOLS.into_iter().find(|s| rest.starts_with(s)) {
        return Ok((Token::Symbol(symbol), at + symbol.len()));
    }
    let hint = match first {
        '&' => Hint::some("write `and`"),
        '|' => Hint::some("write `or`"),
        '!' => Hint::some("write `not` or `!=`"),
        '“' | '”' | '„' | '«' | '»' | '‘' | '’' => Hint::some("write straight quotes"),
        _ => Hint::none(),
    };
    let expected = "an attribute, a value or an operator".to_owned();
    let problem = Problem::Expected { expected, found: format!("{first:?}"), hint };
    Err(SegmentError::new(Span::new(at, at + first.len_utf8()), problem))
}

fn word_length(rest: &str) -> usize {
    rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len())
}

/// A text in quotes that starts at `at`; its value and end.
fn quoted(text: &str, at: usize, quote: char) -> Result<(String, usize), SegmentError> {
    let mut value = String::new();
    let mut chars = text[at + 1..].char_indices();
    while let Some((offset, c)) = chars.next() {
        let here = at + 1 + offset;
        if c == quote {
            return Ok((value, here + 1));
        }
        if c != '\\' {
            value.push(c);
            continue;
        }
        let Some((_, escape)) = chars.next() else { break };
        match escape {
            '\\' | '"' | '\'' => value.push(escape),
            'n' => value.push('\n'),
            'r' => value.push('\r'),
            't' => value.push('\t'),
            'u' => match unicode_escape(&text[here + 2..]) {
                Some((c, length)) => {
                    value.push(c);
                    // Every character of the escape is one byte.
                    chars = text[at + 1..].char_indices();
                    let past = here + 2 + length - (at + 1);
                    while chars.offset() < past && chars.next().is_some() {}
                }
                None => return Err(bad_escape(here, escape)),
            },
            _ => return Err(bad_escape(here, escape)),
        }
    }
    Err(SegmentError::new(Span::new(at, text.len()), Problem::OpenText { quote }))
}

fn bad_escape(at: usize, escape: char) -> SegmentError {
    SegmentError::new(Span::new(at, at + 1 + escape.len_utf8()), Problem::BadEscape { escape })
}

/// `{1F600}` at the start of `rest`: the character and the bytes it took.
fn unicode_escape(rest: &str) -> Option<(char, usize)> {
    let (digits, _) = rest.strip_prefix('{')?.split_once('}')?;
    let valid = !digits.is_empty() && digits.len() <= 6 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let code = valid.then(|| u32::from_str_radix(digits, 16).ok()).flatten()?;
    Some((char::from_u32(code)?, digits.len() + 2))
}

/// Length of what looks like a date at the start of `rest`: `dddd-dd-dd`, and a time if `T` follows.
fn date_length(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let day = bytes.get(..10)?;
    let is_day = day.iter().enumerate().all(|(i, b)| if i == 4 || i == 7 { *b == b'-' } else { b.is_ascii_digit() });
    if !is_day {
        return None;
    }
    if !matches!(bytes.get(10), Some(b'T' | b't')) {
        return Some(10 + bytes[10..].iter().take_while(|b| b.is_ascii_alphanumeric()).count());
    }
    let digit = |b: &u8| b.is_ascii_digit() || matches!(b, b':' | b'.');
    let mut length = 11 + bytes[11..].iter().take_while(|b| digit(b)).count();
    // An offset has its sign right behind the time; a step (`+ 3h`) has a unit behind it.
    if matches!(bytes.get(length), Some(b'+' | b'-')) {
        let tail = &bytes[length + 1..];
        let offset = tail.iter().take_while(|b| digit(b)).count();
        if !tail.get(offset).is_some_and(u8::is_ascii_alphanumeric) && offset > 0 {
            length += 1 + offset;
        }
    }
    Some(length + bytes[length..].iter().take_while(|b| b.is_ascii_alphanumeric()).count())
}

fn date(text: &str, at: usize) -> Result<Token, SegmentError> {
    let bad = || SegmentError::new(Span::new(at, at + text.len()), Problem::BadDate { text: text.to_owned() });
    if text.len() == 10 {
        return text.parse::<civil::Date>().map(|day| Token::Date(Anchor::Day(day))).map_err(|_| bad());
    }
    let zoned = text[11..].contains(['Z', 'z', '+', '-']);
    let anchor = if zoned {
        let instant = text.parse::<jiff::Timestamp>().map_err(|_| bad())?;
        Anchor::Instant(jiff::Timestamp::from_millisecond(instant.as_millisecond()).map_err(|_| bad())?)
    } else {
        let local = text.parse::<civil::DateTime>().map_err(|_| bad())?;
        let millis = local.subsec_nanosecond() / 1_000_000 * 1_000_000;
        Anchor::Local(local.with().subsec_nanosecond(millis).build().map_err(|_| bad())?)
    };
    Ok(Token::Date(anchor))
}

/// A number, or a span of time if a unit is attached.
fn number(rest: &str, at: usize) -> Result<(Token, usize), SegmentError> {
    let bytes = rest.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut length = digits(0);
    let whole = length;
    if bytes.get(length) == Some(&b'.') && bytes.get(length + 1).is_some_and(u8::is_ascii_digit) {
        length += 1 + digits(length + 1);
    }
    if matches!(bytes.get(length), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
        let exponent = bytes.get(length + 1 + sign..).map_or(0, |_| digits(length + 1 + sign));
        if exponent > 0 {
            length += 1 + sign + exponent;
        }
    }
    let suffix = word_length(&rest[length..]);
    let all = &rest[..length + suffix];
    let span = Span::new(at, at + all.len());
    if suffix > 0 {
        let unit = Unit::ALL.into_iter().find(|u| u.suffix() == &all[length..]);
        let count = if length == whole { all[..length].parse::<i64>().ok() } else { None };
        return match (count, unit) {
            (Some(count), Some(unit)) => Ok((Token::Duration(count, unit), span.end)),
            _ => Err(SegmentError::new(span, Problem::BadDuration { text: all.to_owned() })),
        };
    }
    match all.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok((Token::Number(number), span.end)),
        _ => Err(SegmentError::new(span, Problem::BadNumber { text: all.to_owned() })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Token> {
        let found = tokens(text).unwrap_or_else(|e| panic!("{}", e.render(text)));
        found.into_iter().map(|(token, _)| token).collect()
    }

    #[test]
    fn every_kind_of_token_is_told_apart() {
        let word = |w: &str| Token::Word(w.to_owned());
        let found = kinds("a_1 >= 1.5e3 - 30d, 2mo 'x\\'\\u{e9}' `b c`");
        let expected = [
            word("a_1"),
            Token::Symbol(">="),
            Token::Number(1500.0),
            Token::Symbol("-"),
            Token::Duration(30, Unit::Days),
            Token::Symbol(","),
            Token::Duration(2, Unit::Months),
            Token::Text("x'é".to_owned()),
            Token::Quoted("b c".to_owned()),
            Token::End,
        ];
        assert_eq!(found, expected, "tokens");
    }

    #[test]
    fn dates_take_their_offset_but_not_a_step() {
        assert_eq!(kinds("2026-01-31-3d").len(), 4, "day, minus, span, end");
        assert_eq!(kinds("2026-01-31T10:00+01:00").len(), 2, "one instant");
        assert_eq!(kinds("2026-01-31T10:00:00-3h").len(), 4, "local time, minus, span");
        let Token::Date(Anchor::Instant(instant)) = &kinds("2026-01-31T10:00:00.1239+01:00")[0] else {
            panic!("an instant")
        };
        assert_eq!(instant.to_string(), "2026-01-31T09:00:00.123Z", "milliseconds, cut");
        assert_eq!(kinds("2026 - 1").len(), 4, "three tokens, no date");
    }

    #[test]
    fn faults_name_their_place() {
        let span = |text: &str| tokens(text).expect_err("refused").span;
        assert_eq!(span("a = \"open"), Span::new(4, 9), "open text");
        assert_eq!(span("a = '\\q'"), Span::new(5, 7), "bad escape");
        assert_eq!(span("a = 2026-02-30"), Span::new(4, 14), "no such day");
        assert_eq!(span("a = 30days"), Span::new(4, 10), "unknown unit");
        assert_eq!(span("a = 1e999"), Span::new(4, 9), "not finite");
        assert_eq!(span("a && b"), Span::new(2, 3), "wrong operator");
        assert_eq!(span("é = 1"), Span::new(0, 2), "a whole character");
        assert_eq!(span("a = '\\u{d800}'"), Span::new(5, 7), "no character");
    }
}
