//! Segments: an expression over contacts, evaluated on indices to a set of rows; and what makes an audience of it.
//!
//! ```text
//! country = "FR" and (age >= 18 or tags has "vip") and last_login < now - 30d and not in list "staff"
//! ```
//!
//! # Grammar
//!
//! Words of the language are read in any case; names of attributes as they are written. White space separates.
//!
//! ```text
//! segment    = or
//! or         = and { "or" and }
//! and        = unary { "and" unary }
//! unary      = "not" unary | "(" or ")" | condition
//! condition  = "every" | "all"                               everyone
//!            | "active"                                      not deactivated
//!            | "in" "list" text | "in" "segment" text
//!            | "subscribed" "to" topic | "unsubscribed" "from" topic
//!            | "reachable" "on" channel
//!            | "suppressed" [ "on" channel ]
//!            | event "(" text ")"                            of the campaign with this name
//!            | event "any" "campaign" [ "on" channel ] "in" "last" days
//!            | engagement "at" "least" number ( "message" | "messages" ) "in" "last" days
//!            | "did" text "with" ( attribute | text ) "=" ( text | digits | "true" | "false" )
//!            | "did" text [ "at" "least" number ( "time" | "times" ) ] [ "in" "last" days ]
//!            | "anniversary" "(" attribute ")" ( "is" "today" | relative ) [ zone ]
//!            | attribute [ operator [ zone ] ]               alone: a boolean that is true
//! operator   = ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) value
//!            | [ "not" ] "in" "(" value { "," value } ")"
//!            | [ "not" ] "between" value "and" value         both included
//!            | [ "not" ] ( "contains" | "starts" "with" | "ends" "with" ) text
//!            | [ "not" ] "has" text                          of a list
//!            | [ "not" ] "has" ( "any" | "all" ) "(" text { "," text } ")"
//!            | "is" [ "not" ] "empty"
//!            | relative                                      of a date
//! relative   = "in" [ "next" | "last" ] days
//! event      = "received" | "opened" | "clicked" | "delivered" | "bounced" | "unsubscribed" | "complained" | "converted"
//! engagement = "opened" | "clicked" | "engaged" "with"
//! days       = digits ( "d" | "w" )
//! zone       = "in" "zone" text | "in" "contact" "zone"
//! value      = text | [ "-" ] number | "true" | "false" | moment
//! moment     = ( "now" | "today" | date ) { ( "+" | "-" ) duration }
//! date       = YYYY-MM-DD [ "T" hh:mm [ ":" ss [ "." fraction ] ] [ "Z" | ( "+" | "-" ) hh:mm ] ]
//! duration   = digits ( "m" | "h" | "d" | "w" | "mo" | "y" )  minutes, hours, days, weeks, months, years
//! topic      = text, as in "email:news"
//! channel    = "email" | "sms" | "whatsapp" | "push" | "web_push" | "in_app" | "webhook", quoted or not
//! attribute  = letter { letter | digit | "_" } | "`" any "`"
//! text       = in double or single quotes, with \\ \" \' \n \r \t \u{…}
//! ```
//!
//! A word before an operator is an attribute, whatever it says; `and`, `or`, `not` and `in` need backticks to be one.
//!
//! # Meaning
//!
//! - **A missing value fails every comparison**, `!=` too; whatever says `not` is the opposite of the same without it, and so true
//!   for a missing value. `country != "FR"` finds those known to be elsewhere; `not country = "FR"` also those of whom
//!   nothing is known. `is empty` asks for missing values.
//! - **Text** is compared exactly: case and accents count. `has` looks for a whole entry of a list.
//! - **`today` and a date without a time are whole days**: `= today` is from its first instant to its last, `<= today` includes it,
//!   `> today` begins tomorrow. `now` and a date with a time are one millisecond.
//! - **Days begin in a zone**: the server's, `in zone "Europe/Paris"`, or `in contact zone`, each contact's own (the server's where a
//!   contact has none). Days, weeks, months and years follow that zone's calendar; minutes and hours are exact.
//! - **Relative days** count whole days from today: `in 7d` is the day in seven days, `in next 7d` today and the six days after it,
//!   `in last 7d` today and the six before.
//! - **An anniversary** is celebrated from one year after its date on; that of 29 February on 28 February in years without one.
//!   Dates are read in the server's zone; whose today it is, the comparison's zone says.
//! - **What campaigns did** is asked by name, over all runs of the campaign: `opened("spring") and not clicked("spring")`. *received*
//!   is what a provider accepted; what was never answered is not; *delivered* is what did not bounce since; opens, clicks and
//!   conversions of machines do not count. Of any campaign it is
//!   asked by UTC day, `received any campaign in last 7d`: today and the six days before; the events behind *clicked* are
//!   kept by campaign only. A campaign that does not exist is refused, when the expression is saved and when it is evaluated.
//! - **Engagement** counts different messages of all campaigns and channels: `engaged with at least 3 messages in last 30d` are those
//!   who opened or clicked three of them on the UTC days of the period.
//! - **What contacts did** are the events that come from outside, by their type: `did "purchase" at least 2 times in last 30d`,
//!   `did "login" and not did "login" in last 7d`. UTC days, today included; how often is kept by day for 92 days, when last for 366
//!   (or less: `[retention] event_days`).
//!   `did "purchase" with plan = "gold"` are those whose events of the type ever had this value, as far as values are kept.
//!   *converted* is the type of conversions, however they were reported. Nobody did what never came: a type need not be known.
//! - **`in segment`** writes the other segment out; one that contains itself is refused.
//! - An evaluation sees the contacts as they are at that moment: who starts to match is in the next answer.
//!
//! # Path
//!
//! text → [`parse`] → [`Expression`] → [`check()`] (types) → [`evaluate`] (plan, run) → rows → [`audience`]. Parsing knows no schema, so
//! a stored segment is parsed once; a schema only grows, so what passed a check stays right.
//!
//! Owns no state. Invariants: SE-1 no text makes a panic or an unbounded amount of work; SE-2 the answer is that of asking each
//! contact in turn; SE-3 records are read only where an index is lacking, of the rows that all else left, and that is reported.
//!
//! What this folder must not know: the store, campaigns, the ledger, actors.

pub mod anniversary;
pub mod audience;
pub mod check;
mod display;
pub mod error;
pub mod eval;
pub mod expression;
pub mod history;
mod lexer;
#[doc(hidden)]
pub mod memory;
mod moment;
#[cfg(test)]
mod oracle;
pub mod parser;
mod ranges;
pub mod skip;
pub mod world;

pub use audience::{AudienceInput, AudienceSummary, Eligibility, LackingSet, SameAddress, SuppressedSet};
pub use check::{check, needing_tracking};
pub use error::{EvaluateError, Problem, SegmentError, Span};
pub use eval::{Evaluation, ScanKind, ScanNote, evaluate, evaluate_within};
pub use expression::Expression;
pub use parser::parse;
pub use skip::SkipReason;
pub use world::{Scope, World};

/// Entry point of the fuzz targets: whatever the text, parsing, printing, checking and showing the error must not panic, and what
/// parses must survive the round trip through its canonical text.
pub fn fuzz_parse(text: &str) {
    match parse(text) {
        Ok(expression) => {
            let canonical = expression.to_string();
            // Canonical text may be longer than what it came from, and so beyond the limit of bytes.
            if canonical.len() <= crate::limits::SEGMENT_BYTES_MAX {
                assert_eq!(parse(&canonical).as_ref(), Ok(&expression), "{canonical}");
            }
            let faults = check(&expression, &crate::contacts::Schema::built_in(), Scope::OneShot).err();
            faults.unwrap_or_default().iter().for_each(|fault| assert!(!fault.render(text).is_empty(), "{fault}"));
        }
        Err(error) => assert!(error.render(text).contains('^'), "{error}"),
    }
}
