//! Segments: an expression over contacts, evaluated on indices to a set of rows; and what makes an audience of it.

pub mod audience;
pub mod check;
mod display;
pub mod error;
pub mod eval;
pub mod expression;
mod lexer;
mod moment;
pub mod parser;
mod ranges;
pub mod skip;
pub mod world;

pub use audience::{AudienceInput, AudienceSummary, Eligibility, LackingSet, SameAddress, SuppressedSet};
pub use check::check;
pub use eval::{Evaluation, ScanKind, ScanNote, evaluate, evaluate_within};
pub use error::{EvaluateError, Problem, SegmentError, Span};
pub use expression::Expression;
pub use parser::parse;
pub use skip::SkipReason;
pub use world::{Scope, World};
