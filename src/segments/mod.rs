//! Segments: an expression over contacts, evaluated on indices to a set of rows; and what makes an audience of it.

pub mod audience;
pub mod check;
mod display;
pub mod error;
pub mod eval;
pub mod expression;
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
pub use check::check;
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
