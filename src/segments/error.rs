//! What can be wrong with a segment expression, where, and how to show it.
//!
//! Owns no state. Invariant: ER-1 a span lies within the text that was parsed, on character borders.

use std::fmt;

use crate::clock::Timestamp;
use crate::contacts::ContactsError;
use crate::contacts::schema::AttributeType;

/// Bytes `start..end` of the text of an expression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub fn new(start: usize, end: usize) -> Span {
        Span { start, end }
    }

    /// From the start of `self` to the end of `last`.
    pub fn to(self, last: Span) -> Span {
        Span { start: self.start, end: last.end.max(self.start) }
    }
}

/// One fault of an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}, at byte {start}", start = .span.start)]
pub struct SegmentError {
    pub span: Span,
    pub problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("expected {expected}, found {found}{hint}")]
    Expected { expected: String, found: String, hint: Hint },
    #[error("the text is not closed: {quote} is missing")]
    OpenText { quote: char },
    #[error("\\{escape} is no escape: there are \\\\ \\\" \\' \\n \\r \\t \\u{{…}}")]
    BadEscape { escape: char },
    #[error("{text:?} is not a number")]
    BadNumber { text: String },
    #[error("{text:?} is not a date: write 2026-01-31, 2026-01-31T10:00:00 or 2026-01-31T10:00:00Z")]
    BadDate { text: String },
    #[error("{text:?} is not a span of time: the units are m, h, d, w, mo (months) and y, as in 30d")]
    BadDuration { text: String },
    #[error("{text:?} is not a channel and a topic: write \"email:news\"; the channels are {channels}")]
    BadTopic { text: String, channels: String },
    #[error("{name:?} is not a channel{hint}; the channels are {channels}")]
    UnknownChannel { name: String, hint: Hint, channels: String },
    #[error("the expression is longer than {max} bytes")]
    TooLong { max: usize },
    #[error("the expression is nested deeper than {max} levels, segments inside it included")]
    TooDeep { max: usize },
    #[error("the expression has more than {max} parts, segments inside it included")]
    TooLarge { max: usize },
    #[error("there is no attribute {name:?}{hint}")]
    UnknownAttribute { name: String, hint: Hint },
    #[error("attribute {name:?} is of type {kind}, for which {operator} does not work; it takes {takes}", kind = .kind.name())]
    WrongOperator { name: String, kind: AttributeType, operator: &'static str, takes: &'static str },
    #[error("attribute {name:?} is of type {kind} and cannot be compared with {value}{hint}", kind = .kind.name())]
    WrongType { name: String, kind: AttributeType, value: &'static str, hint: Hint },
    #[error("nothing is between {low} and {high}: the smaller one comes first")]
    EmptyBetween { low: String, high: String },
    #[error("{name:?} is not a time zone of the IANA database")]
    UnknownZone { name: String },
    #[error("a zone says when a date begins; this comparison has no date")]
    UselessZone,
    #[error("there is no list {name:?}")]
    UnknownList { name: String },
    #[error("there is no segment {name:?}")]
    UnknownSegment { name: String },
    #[error("there is no campaign {name:?}{hint}")]
    UnknownCampaign { name: String, hint: Hint },
    #[error(
        "who is behind the figures of campaign {name:?} is not known any more: the details of a run were removed on {at}, because their retention has passed"
    )]
    DetailsRemoved { name: String, at: Timestamp },
    #[error(
        "{event} cannot be asked: this server keeps totals only (tracking.aggregate_only), and nobody's opens and clicks"
    )]
    NeedsTracking { event: &'static str },
    #[error("{event} is kept by campaign and not by day: name one, as in {event}(\"spring\")")]
    NotByDay { event: &'static str },
    #[error("this must be from 1 to {max} days")]
    BadDays { max: u32 },
    #[error("this must be a whole number from 1 to {max}")]
    BadCount { max: u32 },
    #[error("the segment contains itself: {}", .path.join(" → "))]
    Cycle { path: Vec<String> },
    #[error("in segment {name:?}: {inner}")]
    InSegment { name: String, inner: Box<SegmentError> },
    #[error("{what} cannot be used over an uploaded one-shot audience")]
    NotInOneShot { what: &'static str },
}

/// Why the history of a campaign can't be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Untold {
    NoCampaign(Hint),
    /// When the details of one of its runs were removed.
    DetailsRemoved(Timestamp),
}

impl Untold {
    pub fn of(self, campaign: &str) -> Problem {
        let name = campaign.to_owned();
        match self {
            Untold::NoCampaign(hint) => Problem::UnknownCampaign { name, hint },
            Untold::DetailsRemoved(at) => Problem::DetailsRemoved { name, at },
        }
    }
}

/// A way out, shown after the fault; empty if none is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hint(pub Option<String>);

impl Hint {
    pub fn none() -> Hint {
        Hint(None)
    }

    pub fn some(text: impl Into<String>) -> Hint {
        Hint(Some(text.into()))
    }

    /// "did you mean" the nearest of `names`, if one is near.
    pub fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Hint {
        let lower = name.to_lowercase();
        let near = names
            .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
            .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
            .min();
        Hint(near.map(|(_, candidate)| format!("did you mean {candidate:?}?")))
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl SegmentError {
    pub fn new(span: Span, problem: Problem) -> SegmentError {
        SegmentError { span, problem }
    }

    /// A stable name of the kind of fault, for programs.
    pub fn code(&self) -> &'static str {
        match &self.problem {
            Problem::Expected { .. } | Problem::OpenText { .. } | Problem::BadEscape { .. } => "segment_syntax",
            Problem::BadNumber { .. } | Problem::BadDate { .. } | Problem::BadDuration { .. } => "segment_syntax",
            Problem::NotByDay { .. } | Problem::BadDays { .. } => "segment_bad_days",
            Problem::BadCount { .. } => "segment_bad_count",
            Problem::NeedsTracking { .. } => "segment_needs_tracking",
            Problem::UnknownCampaign { .. } => "segment_unknown_campaign",
            Problem::DetailsRemoved { .. } => "segment_details_removed",
            Problem::BadTopic { .. } | Problem::UnknownChannel { .. } => "segment_unknown_channel",
            Problem::TooLong { .. } | Problem::TooDeep { .. } | Problem::TooLarge { .. } => "segment_too_large",
            Problem::UnknownAttribute { .. } => "segment_unknown_attribute",
            Problem::WrongOperator { .. } | Problem::WrongType { .. } => "segment_wrong_type",
            Problem::EmptyBetween { .. } | Problem::UselessZone => "segment_wrong_type",
            Problem::UnknownZone { .. } => "segment_unknown_zone",
            Problem::UnknownList { .. } => "segment_unknown_list",
            Problem::UnknownSegment { .. } => "segment_unknown_segment",
            Problem::Cycle { .. } => "segment_cycle",
            Problem::InSegment { inner, .. } => inner.code(),
            Problem::NotInOneShot { .. } => "segment_not_in_one_shot",
        }
    }

    /// The fault with the line it is on and carets below the place:
    ///
    /// ```text
    /// there is no attribute "contry" (did you mean "country"?)
    ///   contry = "FR" and age >= 18
    ///   ^^^^^^
    /// ```
    /// A long line is cut around the place.
    pub fn render(&self, text: &str) -> String {
        const BEFORE: usize = 60;
        const AFTER: usize = 40;
        let start = floor(text, self.span.start.min(text.len()));
        let end = floor(text, self.span.end.clamp(start, text.len()));
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let end = end.min(line_end);
        let shown_start = floor(text, line_start.max(start.saturating_sub(BEFORE)));
        let shown_end = floor(text, line_end.min(end.saturating_add(AFTER)));
        let clean = |part: &str| part.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
        let head = if shown_start > line_start { "… " } else { "" };
        let tail = if shown_end < line_end { " …" } else { "" };
        let lead = head.chars().count() + text[shown_start..start].chars().count();
        let carets = text[start..end].chars().count().max(1);
        let line = clean(&text[shown_start..shown_end]);
        format!("{}\n  {head}{line}{tail}\n  {}{}", self.problem, " ".repeat(lead), "^".repeat(carets))
    }
}

/// The last character border of `text` at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

/// Why an evaluation gave no rows.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error("evaluating a segment")]
    Contacts(#[from] ContactsError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(start: usize, end: usize) -> SegmentError {
        SegmentError::new(Span::new(start, end), Problem::UselessZone)
    }

    #[test]
    fn carets_stand_below_the_place_also_after_wide_characters_and_lines() {
        let shown = error(10, 13).render("\"é\" = x\nab foo bar");
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[1], "  ab foo bar", "the line of the place");
        assert_eq!(lines[2], "   ^^^", "carets count characters from the line's start");
    }

    #[test]
    fn a_long_line_is_cut_and_any_span_renders() {
        let text = format!("{} oops {}", "é".repeat(500), "b".repeat(500));
        let at = text.find("oops").expect("it is there");
        let shown = error(at, at + 4).render(&text);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[1].chars().count() < 130, "cut: {}", lines[1]);
        let column = lines[2].find('^').expect("a caret");
        let below: String = lines[1].chars().skip(column).take(4).collect();
        assert_eq!(below, "oops", "the carets are below the word");
        for start in 0..12 {
            for end in 0..12 {
                assert!(error(start, end).render("é\n€ü").contains('^'), "{start}..{end}");
            }
        }
    }

    #[test]
    fn only_near_names_are_suggested() {
        let names = ["country", "age", "language"];
        let hint = |name| Hint::nearest(name, names.into_iter()).to_string();
        assert_eq!(hint("contry"), " (did you mean \"country\"?)", "one letter lacks");
        assert_eq!(hint("Age"), " (did you mean \"age\"?)", "case");
        assert_eq!(hint("zebra"), "", "nothing near");
    }
}
