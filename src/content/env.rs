//! The minijinja environment of a message: which filters there are, how values print, and what bounds a render.
//!
//! The state owned here is per thread and lives for one render: bytes printed so far, language and zone of the contact.
//! Invariants: EN-1 no file, environment variable or clock can be reached; EN-2 a printed value holds no control character
//! but tab and line feed; EN-3 a render ends after `TEMPLATE_FUEL` instructions or `RENDER_BYTES_MAX` printed bytes.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};
use minijinja::{filters, functions, tests};

use crate::clock::Timestamp;
use crate::content::locale::Language;
use crate::content::pieces;
use crate::content::qp;
use crate::content::source::Missing;
use crate::limits;

pub(super) const FILTERS: [&str; 31] = [
    "abs",
    "bool",
    "capitalize",
    "count",
    "d",
    "date",
    "default",
    "e",
    "escape",
    "first",
    "float",
    "int",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "max",
    "min",
    "number",
    "replace",
    "reverse",
    "round",
    "safe",
    "sort",
    "split",
    "string",
    "title",
    "trim",
    "truncate",
    "upper",
];
pub(super) const TESTS: [&str; 20] = [
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "even",
    "false",
    "ge",
    "gt",
    "in",
    "le",
    "lower",
    "lt",
    "ne",
    "none",
    "number",
    "odd",
    "startingwith",
    "string",
    "true",
    "undefined",
];
pub(super) const FUNCTIONS: [&str; 1] = ["range"];

/// Bytes of one value made by a filter that can grow its input.
const FILTERED_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    static PRINTED: Cell<usize> = const { Cell::new(0) };
    static LANGUAGE: Cell<Language> = const { Cell::new(Language::En) };
    static ZONE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Sets the counters and the locale for the render that follows on this thread.
pub(super) fn begin(language: Language, zone: &str) {
    PRINTED.set(0);
    LANGUAGE.set(language);
    ZONE.with_borrow_mut(|z| {
        if z != zone {
            z.clear();
            z.push_str(zone);
        }
    });
}

/// An environment without templates. Templates named `….html` escape what they print.
pub(super) fn environment(missing: Missing) -> Environment<'static> {
    let mut env = Environment::empty();
    env.set_syntax(pieces::syntax());
    env.set_fuel(Some(limits::TEMPLATE_FUEL));
    env.set_debug(false);
    env.set_undefined_behavior(match missing {
        Missing::Empty => UndefinedBehavior::Lenient,
        Missing::Skip => UndefinedBehavior::SemiStrict,
    });
    env.set_auto_escape_callback(|name| if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None });
    env.set_formatter(print);
    add_filters(&mut env);
    add_tests(&mut env);
    env.add_function("range", functions::range);
    env
}

fn add_filters(env: &mut Environment<'static>) {
    env.add_filter("abs", filters::abs);
    env.add_filter("bool", filters::bool);
    env.add_filter("capitalize", filters::capitalize);
    env.add_filter("count", filters::length);
    env.add_filter("e", filters::escape);
    env.add_filter("escape", filters::escape);
    env.add_filter("first", filters::first);
    env.add_filter("float", filters::float);
    env.add_filter("int", filters::int);
    env.add_filter("last", filters::last);
    env.add_filter("length", filters::length);
    env.add_filter("list", filters::list);
    env.add_filter("lower", filters::lower);
    env.add_filter("max", filters::max);
    env.add_filter("min", filters::min);
    env.add_filter("reverse", filters::reverse);
    env.add_filter("round", filters::round);
    env.add_filter("safe", filters::safe);
    env.add_filter("sort", filters::sort);
    env.add_filter("split", filters::split);
    env.add_filter("string", filters::string);
    env.add_filter("title", filters::title);
    env.add_filter("trim", filters::trim);
    env.add_filter("upper", filters::upper);
    env.add_filter("default", default);
    env.add_filter("d", default);
    env.add_filter("date", date);
    env.add_filter("number", number);
    env.add_filter("replace", replace);
    env.add_filter("join", join);
    env.add_filter("truncate", truncate);
}

fn add_tests(env: &mut Environment<'static>) {
    env.add_test("defined", tests::is_defined);
    env.add_test("undefined", tests::is_undefined);
    env.add_test("none", tests::is_none);
    env.add_test("divisibleby", tests::is_divisibleby);
    env.add_test("startingwith", tests::is_startingwith);
    env.add_test("endingwith", tests::is_endingwith);
    env.add_test("eq", tests::is_eq);
    env.add_test("ne", tests::is_ne);
    env.add_test("lt", tests::is_lt);
    env.add_test("le", tests::is_le);
    env.add_test("gt", tests::is_gt);
    env.add_test("ge", tests::is_ge);
    env.add_test("in", tests::is_in);
    env.add_test("even", tests::is_even);
    env.add_test("odd", tests::is_odd);
    env.add_test("true", tests::is_true);
    env.add_test("false", tests::is_false);
    env.add_test("lower", tests::is_lower);
    env.add_test("number", tests::is_number);
    env.add_test("string", tests::is_string);
}

fn too_large() -> Error {
    Error::new(ErrorKind::WriteFailure, "the message prints more than its limit")
}

/// Counts what is printed against the limit.
fn count(bytes: usize) -> Result<(), Error> {
    let printed = PRINTED.get() + bytes;
    PRINTED.set(printed);
    if printed > limits::RENDER_BYTES_MAX { Err(too_large()) } else { Ok(()) }
}

/// How values print: nothing for undefined and none, whole numbers without a point, lists joined with commas.
fn print(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    if value.is_undefined() || value.is_none() {
        return Ok(());
    }
    let escape = matches!(state.auto_escape(), AutoEscape::Html) && !value.is_safe();
    if let Some(text) = value.as_str() {
        return write_text(out, text, escape);
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            for (i, item) in value.try_iter()?.enumerate() {
                if i > 0 {
                    write_text(out, ", ", false)?;
                }
                write_bounded(out, &item, escape)?;
            }
            Ok(())
        }
        _ => write_bounded(out, value, escape),
    }
}

fn write_bounded(out: &mut Output, value: &Value, escape: bool) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => write_text(out, text, escape),
        None => write_text(out, &bounded_text(value)?, escape),
    }
}

fn write_text(out: &mut Output, text: &str, escape: bool) -> Result<(), Error> {
    count(text.len())?;
    let mut rest = text;
    loop {
        let special = rest.bytes().position(|b| {
            b < b' ' && b != b'\t' && b != b'\n'
                || b == 0x7F
                || escape && matches!(b, b'&' | b'<' | b'>' | b'"' | b'\'')
        });
        let Some(at) = special else {
            return out.write_str(rest).map_err(Error::from);
        };
        out.write_str(&rest[..at]).map_err(Error::from)?;
        let byte = rest.as_bytes()[at];
        if byte > b' ' && byte != 0x7F {
            out.write_str(qp::entity(byte)).map_err(Error::from)?;
        }
        rest = &rest[at + 1..];
    }
}

/// A value as text, or an error if that is longer than a filter may make.
fn bounded_text(value: &Value) -> Result<String, Error> {
    struct Bounded(String);
    impl std::fmt::Write for Bounded {
        fn write_str(&mut self, s: &str) -> std::fmt::Result {
            if self.0.len() + s.len() > FILTERED_BYTES_MAX {
                return Err(std::fmt::Error);
            }
            self.0.push_str(s);
            Ok(())
        }
    }
    let mut text = Bounded(String::new());
    match value.as_str() {
        Some(s) => text.write_str(s),
        None if value.is_undefined() || value.is_none() => Ok(()),
        None => write!(text, "{value}"),
    }
    .map_err(|_| too_large())?;
    Ok(text.0)
}

/// `default`: also for empty text, which a contact base has more often than nothing at all.
fn default(value: &Value, other: Option<Value>) -> Value {
    let is_empty = value.is_undefined() || value.is_none() || value.as_str().is_some_and(is_blank);
    if is_empty { other.unwrap_or_else(|| Value::from("")) } else { value.clone() }
}

/// Text that `default` replaces.
pub(super) fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn replace(value: &Value, from: &str, to: &str) -> Result<String, Error> {
    let text = bounded_text(value)?;
    let count = if from.is_empty() { text.len() + 1 } else { text.matches(from).count() };
    if text.len() + count.saturating_mul(to.len()) > FILTERED_BYTES_MAX {
        return Err(too_large());
    }
    Ok(text.replace(from, to))
}

fn join(value: &Value, separator: Option<&str>) -> Result<String, Error> {
    if value.is_undefined() || value.is_none() {
        return Ok(String::new());
    }
    if value.as_str().is_some() {
        return bounded_text(value);
    }
    let mut out = String::new();
    for (i, item) in value.try_iter()?.enumerate() {
        if i > 0 {
            out.push_str(separator.unwrap_or(""));
        }
        out.push_str(&bounded_text(&item)?);
        if out.len() > FILTERED_BYTES_MAX {
            return Err(too_large());
        }
    }
    Ok(out)
}

/// `truncate(length=255, killwords=false, end="…")`, in characters.
fn truncate(value: &Value, args: Rest<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let text = bounded_text(value)?;
    let positional = |i: usize| args.get(i).filter(|v| !v.is_undefined()).cloned();
    let length = kwargs.get::<Option<usize>>("length")?.or(positional(0).and_then(|v| v.as_usize())).unwrap_or(255);
    let kill_words =
        kwargs.get::<Option<bool>>("killwords")?.unwrap_or_else(|| positional(1).is_some_and(|v| v.is_true()));
    let end = kwargs.get::<Option<String>>("end")?.or_else(|| positional(2).map(|v| v.to_string()));
    kwargs.assert_all_used()?;
    let end = end.unwrap_or_else(|| "…".to_owned());
    if text.chars().count() <= length {
        return Ok(text);
    }
    let kept: String = text.chars().take(length.saturating_sub(end.chars().count())).collect();
    let kept = match kept.rfind(' ') {
        Some(space) if !kill_words => &kept[..space],
        _ => kept.as_str(),
    };
    Ok(format!("{kept}{end}"))
}

/// `number` or `number(decimals)`, with the separators of the contact's language.
fn number(value: &Value, decimals: Option<usize>) -> Result<String, Error> {
    if value.is_undefined() || value.is_none() {
        return Ok(String::new());
    }
    let number = f64::try_from(value.clone())
        .ok()
        .or_else(|| value.as_str().and_then(|s| s.trim().parse().ok()))
        .filter(|n: &f64| n.is_finite())
        .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("{} is not a number", shown(value))))?;
    Ok(LANGUAGE.get().number(number, decimals))
}

/// `date`, `date("short" | "long" | "full" | "time")` or a `strftime` pattern, in the contact's language and zone (UTC
/// without one).
fn date(value: &Value, format: Option<&str>) -> Result<String, Error> {
    if value.is_undefined() || value.is_none() || value.as_str() == Some("") {
        return Ok(String::new());
    }
    let bad = || Error::new(ErrorKind::InvalidOperation, format!("{} is not a date", shown(value)));
    let text = bounded_text(value)?;
    let zoned = match text.parse::<jiff::Timestamp>() {
        Ok(instant) => instant.to_zoned(zone()),
        Err(_) => text
            .parse::<jiff::civil::Date>()
            .ok()
            .and_then(|d| d.to_zoned(jiff::tz::TimeZone::UTC).ok())
            .ok_or_else(bad)?,
    };
    let language = LANGUAGE.get();
    let day = zoned.date();
    match format.unwrap_or("long") {
        "short" => Ok(language.short_date(day)),
        "long" => Ok(language.long_date(day)),
        "full" => Ok(format!("{}, {}", language.day(day), language.long_date(day))),
        "time" => Ok(format!("{:02}:{:02}", zoned.hour(), zoned.minute())),
        pattern => {
            let names = pattern.replace("%B", language.month(day)).replace("%A", language.day(day));
            jiff::fmt::strtime::format(&names, &zoned).map_err(|_| {
                Error::new(
                    ErrorKind::InvalidOperation,
                    format!("{pattern:?} is not a date format: short, long, full, time or strftime"),
                )
            })
        }
    }
}

fn zone() -> jiff::tz::TimeZone {
    ZONE.with_borrow(|z| if z.is_empty() { None } else { jiff::tz::TimeZone::get(z).ok() })
        .unwrap_or(jiff::tz::TimeZone::UTC)
}

fn shown(value: &Value) -> String {
    bounded_text(value)
        .map_or_else(|_| "the value".to_owned(), |t| format!("{:?}", t.chars().take(40).collect::<String>()))
}

/// Appends a number as templates and bodies print it: whole ones without a point.
pub(super) fn push_number(out: &mut String, number: f64) {
    if number.fract() != 0.0 || number.abs() >= 1e15 {
        // Writing to a string does not fail.
        write!(out, "{number}").ok();
        return;
    }
    if number < 0.0 {
        out.push('-');
    }
    push_digits(out, number.abs() as u64, 1);
}

/// Appends at least so many decimal digits.
fn push_digits(out: &mut String, mut number: u64, at_least: usize) {
    let mut digits = [b'0'; 20];
    let mut from = digits.len();
    while number > 0 || digits.len() - from < at_least {
        from -= 1;
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend(digits[from..].iter().map(|digit| char::from(*digit)));
}

/// A time as templates see it; text, so that it sorts and compares.
pub(super) fn time_text(time: Timestamp) -> String {
    time.to_string()
}

/// Appends [`time_text`].
pub(super) fn push_time(out: &mut String, time: Timestamp) {
    let (seconds, millis) = (time.0.div_euclid(1_000), time.0.rem_euclid(1_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Whole seconds of the years 1970 to 9999: all others are rare.
    if millis != 0 || !(0..2_932_897).contains(&days) {
        out.push_str(&time_text(time));
        return;
    }
    let (year, month, day) = civil(days);
    let parts = [
        (year, 4, '-'),
        (month, 2, '-'),
        (day, 2, 'T'),
        (second / 3_600, 2, ':'),
        (second / 60 % 60, 2, ':'),
        (second % 60, 2, 'Z'),
    ];
    for (number, digits, after) in parts {
        push_digits(out, number.unsigned_abs(), digits);
        out.push(after);
    }
}

/// Year, month and day of the proleptic Gregorian calendar, of days since 1970-01-01 (H. Hinnant, "chrono-Compatible Low-Level
/// Date Algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod printing {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_and_times_are_those_of_the_engine(
            number in prop_oneof![any::<f64>(), (-2_000_000i64..2_000_000).prop_map(|n| n as f64 / 4.0), (any::<i32>()).prop_map(f64::from)],
            millis in prop_oneof![any::<i64>(), -100_000_000_000i64..5_000_000_000_000, (0i64..260_000_000_000).prop_map(|s| s * 1_000)],
        ) {
            let (mut printed, mut shown) = (String::new(), String::new());
            push_number(&mut printed, number);
            let whole = number.fract() == 0.0 && number.abs() < 1e15;
            let expected = if whole { Value::from(number as i64) } else { Value::from(number) };
            prop_assert_eq!(printed, if whole { expected.to_string() } else { format!("{number}") });
            push_time(&mut shown, Timestamp(millis));
            prop_assert_eq!(shown, time_text(Timestamp(millis)));
        }
    }
}
