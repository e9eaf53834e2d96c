//! Values of attributes as people and programs write them → typed values, or a typed reason why not.
//!
//! Stateless. Must not know JSON, CSV or the store.

use crate::clock::Timestamp;
use crate::contacts::addresses::{self, ValueError};
use crate::contacts::record::{RecordBuilder, Value};
use crate::contacts::schema::AttributeType;
use crate::ids::AttributeId;
use crate::limits;

/// Reads a date-time: RFC 3339, the same without offset (taken as UTC), with a space for the `T`, or a date alone (its
/// midnight UTC).
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    // The shapes are told apart before a parser runs: most cells of a file are none of them.
    if bytes.len() < 10 || bytes[4] != b'-' || bytes[7] != b'-' || !bytes[0].is_ascii_digit() {
        return None;
    }
    if bytes.len() == 10 {
        let date: jiff::civil::Date = text.parse().ok()?;
        return Some(Timestamp(
            date.at(0, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond(),
        ));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(Timestamp(time.as_millisecond()));
    }
    if text.contains('[') {
        return None;
    }
    let time: jiff::civil::DateTime = text.parse().ok()?;
    Some(Timestamp(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond()))
}

/// Reads a finite decimal number with a point.
pub fn parse_number(text: &str) -> Option<f64> {
    let first = *text.as_bytes().first()?;
    if !(first.is_ascii_digit() || matches!(first, b'-' | b'+' | b'.')) {
        return None;
    }
    text.parse::<f64>().ok().filter(|n| n.is_finite())
}

/// Reads a truth value: true/false, yes/no, 1/0, in any case.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" => Some(true),
        "0" => Some(false),
        _ if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("yes") => Some(true),
        _ if text.eq_ignore_ascii_case("false") || text.eq_ignore_ascii_case("no") => Some(false),
        _ => None,
    }
}

/// Text within its limit and without control characters, which are dropped. Empty text is no value.
pub fn set_text(builder: &mut RecordBuilder, id: AttributeId, text: &str) -> Result<(), ValueError> {
    if text.len() > limits::TEXT_BYTES_MAX {
        return Err(ValueError::TooLong { max: limits::TEXT_BYTES_MAX });
    }
    let text = addresses::strip_control(text);
    if !text.is_empty() {
        builder.set(id, Value::Text(&text));
    }
    Ok(())
}

/// A list within its limits; empty entries and repeated ones are dropped. An empty list is no value.
pub fn set_list<'t>(
    builder: &mut RecordBuilder,
    id: AttributeId,
    entries: impl Iterator<Item = &'t str>,
) -> Result<(), ValueError> {
    let mut kept: smallvec::SmallVec<[std::borrow::Cow<'t, str>; 8]> = smallvec::SmallVec::new();
    for entry in entries {
        if entry.len() > limits::TEXT_BYTES_MAX {
            return Err(ValueError::TooLong { max: limits::TEXT_BYTES_MAX });
        }
        let entry = addresses::strip_control(entry);
        if entry.is_empty() || kept.contains(&entry) {
            continue;
        }
        if kept.len() == limits::LIST_ENTRIES_MAX {
            return Err(ValueError::TooManyEntries { max: limits::LIST_ENTRIES_MAX });
        }
        kept.push(entry);
    }
    if !kept.is_empty() {
        builder.set_list(id, kept.iter().map(|e| &**e));
    }
    Ok(())
}

/// Sets an attribute of any type from one text, as a CSV cell has it. `list_separator` parts the entries of a list.
pub fn set_from_text(
    builder: &mut RecordBuilder,
    id: AttributeId,
    kind: AttributeType,
    text: &str,
    list_separator: char,
) -> Result<(), ValueError> {
    let wanted = |wanted| ValueError::Type { wanted };
    match kind {
        AttributeType::Text => return set_text(builder, id, text),
        AttributeType::List => return set_list(builder, id, text.split(list_separator).map(str::trim)),
        AttributeType::Number => builder.set(id, Value::Number(parse_number(text).ok_or(wanted("number"))?)),
        AttributeType::Boolean => {
            builder.set(id, Value::Bool(parse_bool(text).ok_or(wanted("boolean (true or false)"))?))
        }
        AttributeType::DateTime => {
            builder.set(id, Value::Time(parse_time(text).ok_or(wanted("date-time (YYYY-MM-DD or RFC 3339)"))?));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_all_stated_forms() {
        let day = Timestamp(1_709_164_800_000);
        for text in [
            "2024-02-29",
            "2024-02-29T00:00:00Z",
            "2024-02-29 00:00:00",
            "2024-02-29T01:00:00+01:00",
            "2024-02-29T00:00",
        ] {
            assert_eq!(parse_time(text), Some(day), "{text}");
        }
        for text in ["2023-02-29", "29.02.2024", "2024-02-29T25:00", "", "2024-2-29", "2024-02-29T00:00[Mars/Base]"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_and_booleans() {
        assert_eq!(parse_number("-1.5e3"), Some(-1500.0), "exponent");
        for text in ["NaN", "inf", "-inf", "1,5", "", "0x10", "1e999", "+-1"] {
            assert_eq!(parse_number(text), None, "{text}");
        }
        assert_eq!(
            (parse_bool("YES"), parse_bool("0"), parse_bool("maybe")),
            (Some(true), Some(false), None),
            "booleans"
        );
    }
}
