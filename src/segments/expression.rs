//! The tree of a parsed expression.
//!
//! Owns no state. Invariants: EX-1 `And` and `Or` have two children at least and none of their own kind; EX-2 `Not` holds
//! no `Not`; the constructors keep both, so that [`Expression`]s that print alike are equal. Two expressions are equal if
//! their trees are, wherever they were written: spans do not count.

use crate::ids::Channel;
use crate::segments::error::Span;
use crate::segments::history::{Engagement, Event};

/// A part of an expression and where it was written.
#[derive(Clone, Debug)]
pub struct Expression {
    pub kind: Kind,
    pub span: Span,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Expression) -> bool {
        self.kind == other.kind
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Every contact that exists.
    Every,
    /// Contacts that are not deactivated.
    Active,
    Not(Box<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
    InList(String),
    InSegment(String),
    /// Contacts with a consent for the topic.
    Subscribed {
        channel: Channel,
        topic: String,
    },
    /// Contacts who withdrew theirs.
    Unsubscribed {
        channel: Channel,
        topic: String,
    },
    /// Contacts with an address on the channel.
    Reachable(Channel),
    /// Contacts suppressed everywhere, or also those suppressed on the channel.
    Suppressed(Option<Channel>),
    /// Contacts with an event of one campaign, in any of its runs.
    History {
        event: Event,
        /// By name.
        campaign: String,
    },
    /// Contacts with an event of any campaign today or in the `days` − 1 days before.
    Recent {
        event: Event,
        /// `None`: on any.
        channel: Option<Channel>,
        days: u32,
    },
    /// Contacts who opened or clicked so many different messages of all campaigns today or in the `days` − 1 days before.
    Messages {
        did: Engagement,
        least: u32,
        days: u32,
    },
    /// Contacts with events of a type that came from outside.
    Did {
        name: String,
        least: u32,
        /// Today or in the `days` − 1 days before; `None`: ever.
        days: Option<u32>,
    },
    /// Contacts with an event of a type that ever had a property of this value.
    DidWith {
        name: String,
        property: String,
        value: String,
    },
    Test(Test),
}

/// A question about one attribute.
#[derive(Clone, Debug)]
pub struct Test {
    pub attribute: Name,
    pub operator: Operator,
    pub zone: Zone,
    /// Where the zone was written; empty for the default.
    pub zone_span: Span,
}

impl PartialEq for Test {
    fn eq(&self, other: &Test) -> bool {
        self.attribute == other.attribute && self.operator == other.operator && self.zone == other.zone
    }
}

/// The name of an attribute and where it was written.
#[derive(Clone, Debug)]
pub struct Name {
    pub text: String,
    pub span: Span,
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.text == other.text
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Operator {
    Compare(Comparison, Literal),
    /// One of these; never empty.
    In(Vec<Literal>),
    /// From the first to the second, both included.
    Between(Literal, Literal),
    Match(TextMatch, String),
    Empty,
    /// A list with any, or all, of these entries; never empty.
    Has {
        all: bool,
        entries: Vec<String>,
    },
    /// An anniversary of the date is on one of these days; see [`crate::segments::anniversary`].
    Anniversary(Days),
}

/// Days counted from today in the zone of the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Days {
    /// The day after so many days; 0 is today.
    At(u32),
    /// So many days, today the first of them.
    Next(u32),
    /// So many days, today the last of them.
    Last(u32),
}

impl Days {
    /// First and last day, counted from today.
    pub fn bounds(self) -> (i64, i64) {
        match self {
            Days::At(days) => (i64::from(days), i64::from(days)),
            Days::Next(days) => (0, i64::from(days) - 1),
            Days::Last(days) => (1 - i64::from(days), 0),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    pub const ALL: [Comparison; 6] = [
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ];

    pub fn symbol(self) -> &'static str {
        match self {
            Comparison::Equal => "=",
            Comparison::NotEqual => "!=",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextMatch {
    Contains,
    StartsWith,
    EndsWith,
}

impl TextMatch {
    pub fn words(self) -> &'static str {
        match self {
            TextMatch::Contains => "contains",
            TextMatch::StartsWith => "starts with",
            TextMatch::EndsWith => "ends with",
        }
    }

    /// Whether `text` passes.
    pub fn holds(self, text: &str, wanted: &str) -> bool {
        match self {
            TextMatch::Contains => text.contains(wanted),
            TextMatch::StartsWith => text.starts_with(wanted),
            TextMatch::EndsWith => text.ends_with(wanted),
        }
    }
}

/// A value to compare with, and where it was written.
#[derive(Clone, Debug)]
pub struct Literal {
    pub value: LiteralValue,
    pub span: Span,
}

impl PartialEq for Literal {
    fn eq(&self, other: &Literal) -> bool {
        self.value == other.value
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum LiteralValue {
    Text(String),
    /// Always finite.
    Number(f64),
    Bool(bool),
    Moment(Moment),
}

impl LiteralValue {
    /// For messages.
    pub fn kind_name(&self) -> &'static str {
        match self {
            LiteralValue::Text(_) => "a text",
            LiteralValue::Number(_) => "a number",
            LiteralValue::Bool(_) => "true or false",
            LiteralValue::Moment(_) => "a date",
        }
    }
}

/// A point in time or a whole day, said absolutely or relative to now.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    pub anchor: Anchor,
    /// Added to the anchor one after the other.
    pub steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Anchor {
    /// The instant of the evaluation.
    Now,
    /// The day of that instant in the zone of the test.
    Today,
    /// A whole day in the zone of the test.
    Day(jiff::civil::Date),
    /// A time of day in the zone of the test.
    Local(jiff::civil::DateTime),
    /// An instant written with its offset; milliseconds.
    Instant(jiff::Timestamp),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Negative: back.
    pub count: i64,
    pub unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Minutes,
    Hours,
    Days,
    Weeks,
    Months,
    Years,
}

impl Unit {
    pub const ALL: [Unit; 6] = [Unit::Minutes, Unit::Hours, Unit::Days, Unit::Weeks, Unit::Months, Unit::Years];

    pub fn suffix(self) -> &'static str {
        match self {
            Unit::Minutes => "m",
            Unit::Hours => "h",
            Unit::Days => "d",
            Unit::Weeks => "w",
            Unit::Months => "mo",
            Unit::Years => "y",
        }
    }

    /// Counted on the calendar of a zone, and not in seconds.
    pub fn is_calendar(self) -> bool {
        !matches!(self, Unit::Minutes | Unit::Hours)
    }
}

/// In whose zone days begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Zone {
    /// That of the world the expression is evaluated in.
    #[default]
    Default,
    Named(String),
    /// Each contact's own; the default where a contact has none, or one that does not exist.
    Contact,
}

impl Expression {
    pub fn new(kind: Kind, span: Span) -> Expression {
        Expression { kind, span }
    }

    /// All of `parts`, of which there is one at least.
    pub fn and(parts: Vec<Expression>) -> Expression {
        Expression::join(parts, true)
    }

    /// Any of `parts`, of which there is one at least.
    pub fn or(parts: Vec<Expression>) -> Expression {
        Expression::join(parts, false)
    }

    /// The opposite; `not not x` is `x`.
    pub fn negate(inner: Expression, span: Span) -> Expression {
        match inner.kind {
            Kind::Not(innermost) => Expression { kind: innermost.kind, span },
            kind => Expression { kind: Kind::Not(Box::new(Expression { kind, span: inner.span })), span },
        }
    }

    fn join(parts: Vec<Expression>, and: bool) -> Expression {
        let mut flat = Vec::with_capacity(parts.len());
        let span = match (parts.first(), parts.last()) {
            (Some(first), Some(last)) => first.span.to(last.span),
            _ => Span::default(),
        };
        for part in parts {
            match part.kind {
                Kind::And(inner) if and => flat.extend(inner),
                Kind::Or(inner) if !and => flat.extend(inner),
                kind => flat.push(Expression { kind, span: part.span }),
            }
        }
        match flat.pop() {
            None => Expression { kind: Kind::Every, span },
            Some(only) if flat.is_empty() => only,
            Some(last) => {
                flat.push(last);
                Expression { kind: if and { Kind::And(flat) } else { Kind::Or(flat) }, span }
            }
        }
    }

    /// Visits every part, the whole first.
    pub fn walk<'e>(&'e self, visit: &mut dyn FnMut(&'e Expression)) {
        visit(self);
        match &self.kind {
            Kind::Not(inner) => inner.walk(visit),
            Kind::And(parts) | Kind::Or(parts) => parts.iter().for_each(|part| part.walk(visit)),
            _ => {}
        }
    }

    /// Names of the segments that the expression refers to itself, each once.
    pub fn segments(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.walk(&mut |part| {
            if let Kind::InSegment(name) = &part.kind
                && !names.contains(&name.as_str())
            {
                names.push(name);
            }
        });
        names
    }

    /// Names of the campaigns whose history the expression asks for itself, each once.
    pub fn campaigns(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.walk(&mut |part| {
            if let Kind::History { campaign, .. } = &part.kind
                && !names.contains(&campaign.as_str())
            {
                names.push(campaign);
            }
        });
        names
    }

    /// Names of the attributes that the expression asks for itself, each once.
    pub fn attributes(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.walk(&mut |part| {
            if let Kind::Test(test) = &part.kind
                && !names.contains(&test.attribute.text.as_str())
            {
                names.push(&test.attribute.text);
            }
        });
        names
    }
}
