//! Saved segments, and counting an expression.

use crate::engine::Engine;
use crate::engine::base::BaseError;
use crate::engine::base::names::{self, Thing};
use crate::engine::glance::{Glance, Wanted};
use crate::ledger::Fact;
use crate::segments::{Evaluation, Expression, Problem, Scope, check, needing_tracking, parse};

impl Engine {
    /// Parses an expression and checks it against the schema: all faults at once.
    pub fn checked_expression(&self, text: &str) -> Result<Expression, BaseError> {
        let refuse = |faults| BaseError::Segment { text: text.to_owned(), faults };
        let expression = parse(text).map_err(|fault| refuse(vec![fault]))?;
        check(&expression, &self.store.schema(), Scope::Base).map_err(refuse)?;
        match needing_tracking(&expression) {
            faults if self.options.aggregate_only && !faults.is_empty() => Err(refuse(faults)),
            _ => Ok(expression),
        }
    }

    /// Who matches an expression now. Changes nothing.
    pub fn preview(&self, text: &str) -> Result<(Expression, Evaluation, Glance), BaseError> {
        let expression = self.checked_expression(text)?;
        let glance =
            Glance::new(&self.store, &self.book, &Wanted { expressions: vec![&expression], ..Wanted::default() })?;
        let found = glance.evaluate(&expression).map_err(BaseError::evaluating(text))?;
        Ok((expression, found, glance))
    }

    /// Saves a new segment. Answers its name as it is kept.
    pub fn create_segment(&self, name: &str, text: &str) -> Result<String, BaseError> {
        let name = names::valid("segment", name)?;
        self.save_segment(&name, text, true)?;
        Ok(name)
    }

    /// Gives a segment another expression; everything that refers to it means that from now on.
    pub fn update_segment(&self, name: &str, text: &str) -> Result<(), BaseError> {
        self.save_segment(name, text, false)
    }

    fn save_segment(&self, name: &str, text: &str, new: bool) -> Result<(), BaseError> {
        let stands = |exists: bool| match (new, exists) {
            (true, true) => Err(BaseError::SegmentExists { name: name.to_owned() }),
            (false, false) => Err(BaseError::NoSegment { name: name.to_owned() }),
            _ => Ok(()),
        };
        stands(self.book.read().segments.contains_key(name))?;
        let expression = self.checked_expression(text)?;
        let glance =
            Glance::new(&self.store, &self.book, &Wanted { draft: Some((name, &expression)), ..Wanted::default() })?;
        let checked = glance.check_draft(name).map_err(BaseError::evaluating(text));
        checked.map_err(|error| unwrapped(error, name))?;
        let at = self.book.now();
        self.book.commit_durable_by::<BaseError>(|state| {
            stands(state.segments.contains_key(name))?;
            Ok(Some(Fact::SegmentSaved { name: name.to_owned(), text: text.to_owned(), at }))
        })?;
        Ok(())
    }

    pub fn delete_segment(&self, name: &str) -> Result<(), BaseError> {
        let gone = || BaseError::NoSegment { name: name.to_owned() };
        if !self.book.read().segments.contains_key(name) {
            return Err(gone());
        }
        let by = self.users_of(Thing::Segment(name));
        if !by.is_empty() {
            return Err(BaseError::SegmentInUse { name: name.to_owned(), by });
        }
        self.book.commit_durable_by::<BaseError>(|state| {
            if !state.segments.contains_key(name) {
                return Err(gone());
            }
            Ok(Some(Fact::SegmentDeleted { name: name.to_owned() }))
        })?;
        Ok(())
    }
}

/// The draft is checked as `in segment NAME`; its own faults are what the person wrote.
fn unwrapped(error: BaseError, name: &str) -> BaseError {
    let BaseError::Segment { text, faults } = error else { return error };
    let faults = faults.into_iter().map(|fault| match fault.problem {
        Problem::InSegment { name: of, inner } if of == name => *inner,
        problem => crate::segments::SegmentError { span: fault.span, problem },
    });
    BaseError::Segment { text, faults: faults.collect() }
}
