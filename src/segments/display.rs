//! The canonical text of an expression: parses back to an equal tree.
//!
//! Owns no state. Invariant: DI-1 `parse(&expression.to_string()) == expression` for every expression the parser makes.

use std::fmt::{self, Write};

use crate::segments::expression::{
    Anchor, Days, Expression, Kind, Literal, LiteralValue, Moment, Name, Operator, Step, Test, Zone,
};
use crate::segments::parser::is_reserved;

/// How tightly a part binds; a looser one inside a tighter one needs parentheses.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Level {
    Or,
    And,
    Unary,
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        expression(self, Level::Or, f)
    }
}

fn expression(part: &Expression, level: Level, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match &part.kind {
        Kind::Or(parts) => joined(parts, " or ", Level::Or, level, f),
        Kind::And(parts) => joined(parts, " and ", Level::And, level, f),
        Kind::Not(inner) => match &inner.kind {
            Kind::Test(asked) if !matches!(asked.operator, Operator::Compare(..) | Operator::Anniversary(_)) => {
                test(asked, true, f)
            }
            _ => {
                f.write_str("not ")?;
                expression(inner, Level::Unary, f)
            }
        },
        Kind::Every => f.write_str("every"),
        Kind::Active => f.write_str("active"),
        Kind::InList(name) => {
            f.write_str("in list ")?;
            text(name, f)
        }
        Kind::InSegment(name) => {
            f.write_str("in segment ")?;
            text(name, f)
        }
        Kind::Subscribed { channel, topic } => {
            f.write_str("subscribed to ")?;
            text(&format!("{channel}:{topic}"), f)
        }
        Kind::Unsubscribed { channel, topic } => {
            f.write_str("unsubscribed from ")?;
            text(&format!("{channel}:{topic}"), f)
        }
        Kind::Reachable(channel) => write!(f, "reachable on {channel}"),
        Kind::Suppressed(None) => f.write_str("suppressed"),
        Kind::Suppressed(Some(channel)) => write!(f, "suppressed on {channel}"),
        Kind::History { event, campaign } => {
            write!(f, "{}(", event.word())?;
            text(campaign, f)?;
            f.write_char(')')
        }
        Kind::Recent { event, channel, days } => {
            write!(f, "{} any campaign", event.word())?;
            if let Some(channel) = channel {
                write!(f, " on {channel}")?;
            }
            write!(f, " in last {days}d")
        }
        Kind::Messages { did, least, days } => {
            write!(f, "{} at least {least} messages in last {days}d", did.words())
        }
        Kind::Did { name, least, days } => {
            f.write_str("did ")?;
            text(name, f)?;
            if *least > 1 {
                write!(f, " at least {least} times")?;
            }
            days.map_or(Ok(()), |days| write!(f, " in last {days}d"))
        }
        Kind::DidWith { name, property, value } => {
            f.write_str("did ")?;
            text(name, f)?;
            f.write_str(" with ")?;
            text(property, f)?;
            f.write_str(" = ")?;
            text(value, f)
        }
        Kind::Test(asked) => test(asked, false, f),
    }
}

fn joined(parts: &[Expression], word: &str, own: Level, level: Level, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let open = own < level;
    if open {
        f.write_char('(')?;
    }
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(word)?;
        }
        expression(part, if own == Level::Or { Level::And } else { Level::Unary }, f)?;
    }
    if open {
        f.write_char(')')?;
    }
    Ok(())
}

fn test(test: &Test, negated: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let Operator::Anniversary(days) = test.operator {
        write!(f, "anniversary({}) ", test.attribute)?;
        match days {
            Days::At(0) => f.write_str("is today")?,
            Days::At(days) => write!(f, "in {days}d")?,
            Days::Next(days) => write!(f, "in next {days}d")?,
            Days::Last(days) => write!(f, "in last {days}d")?,
        }
        return zone(&test.zone, f);
    }
    write!(f, "{} ", test.attribute)?;
    if negated && test.operator != Operator::Empty {
        f.write_str("not ")?;
    }
    match &test.operator {
        Operator::Compare(comparison, literal) => write!(f, "{} {literal}", comparison.symbol())?,
        Operator::In(literals) => {
            f.write_str("in ")?;
            list(literals, |literal, f| write!(f, "{literal}"), f)?;
        }
        Operator::Between(low, high) => write!(f, "between {low} and {high}")?,
        Operator::Match(how, wanted) => {
            write!(f, "{} ", how.words())?;
            text(wanted, f)?;
        }
        Operator::Empty if negated => f.write_str("is not empty")?,
        Operator::Empty => f.write_str("is empty")?,
        Operator::Has { entries, .. } if entries.len() == 1 => {
            f.write_str("has ")?;
            entries.iter().try_for_each(|entry| text(entry, f))?;
        }
        Operator::Has { all, entries } => {
            f.write_str(if *all { "has all " } else { "has any " })?;
            list(entries, |entry, f| text(entry, f), f)?;
        }
        Operator::Anniversary(_) => {}
    }
    zone(&test.zone, f)
}

fn zone(zone: &Zone, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match zone {
        Zone::Default => Ok(()),
        Zone::Contact => f.write_str(" in contact zone"),
        Zone::Named(name) => {
            f.write_str(" in zone ")?;
            text(name, f)
        }
    }
}

fn list<T>(
    items: &[T],
    print: impl Fn(&T, &mut fmt::Formatter<'_>) -> fmt::Result,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    f.write_char('(')?;
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        print(item, f)?;
    }
    f.write_char(')')
}

fn text(value: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_char('"')?;
    for c in value.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = self.text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && self.text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !is_reserved(&self.text);
        if plain { f.write_str(&self.text) } else { write!(f, "`{}`", self.text) }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            LiteralValue::Text(value) => text(value, f),
            LiteralValue::Number(number) => write!(f, "{number}"),
            LiteralValue::Bool(value) => write!(f, "{value}"),
            LiteralValue::Moment(moment) => write!(f, "{moment}"),
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.anchor {
            Anchor::Now => f.write_str("now")?,
            Anchor::Today => f.write_str("today")?,
            Anchor::Day(day) => write!(f, "{day}")?,
            Anchor::Local(local) => write!(f, "{local}")?,
            Anchor::Instant(instant) => write!(f, "{instant}")?,
        }
        for Step { count, unit } in &self.steps {
            let sign = if *count < 0 { '-' } else { '+' };
            write!(f, " {sign} {}{}", count.unsigned_abs(), unit.suffix())?;
        }
        Ok(())
    }
}
