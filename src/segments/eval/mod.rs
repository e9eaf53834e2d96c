//! Evaluates an expression to a set of rows: check, compile to a plan, run the plan on the indices.
//!
//! Owns no state beyond one evaluation. The rows that still matter are threaded down as a *hint*, so that each part looks only
//! at what the parts before it left. Invariants: EV-1 a part's answer is a subset of its hint, and exact within it; EV-2 a
//! part with an empty hint reads nothing; EV-3 records are read only of rows that all cheaper parts have left.
//!
//! What this module must not know: where the indices are kept, how long it took.

mod compile;
mod plan;
mod run;
mod slices;

use std::sync::Arc;

use roaring::RoaringBitmap;
use serde::Serialize;

use self::compile::Compiler;
use self::run::Runner;
use crate::segments::error::EvaluateError;
use crate::segments::expression::Expression;
use crate::segments::world::World;

/// The rows that match, and what it took to find them.
#[derive(Clone, Debug)]
pub struct Evaluation {
    pub rows: Arc<RoaringBitmap>,
    pub notes: Vec<ScanNote>,
}

/// A part of the expression that no index answers at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ScanNote {
    /// Canonical text of the part.
    pub part: String,
    pub kind: ScanKind,
    /// Records, or values, that were looked at.
    pub visited: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScanKind {
    /// Records of contacts were read one by one: the attribute has no index.
    Records,
    /// All values that occur were compared, and their rows united.
    Values,
}

/// The contacts of the whole base that match.
pub fn evaluate(expression: &Expression, world: &dyn World) -> Result<Evaluation, EvaluateError> {
    run(expression, world, None)
}

/// The contacts of `within` that match; parts look at these only.
pub fn evaluate_within(
    expression: &Expression,
    world: &dyn World,
    within: &RoaringBitmap,
) -> Result<Evaluation, EvaluateError> {
    run(expression, world, Some(within))
}

fn run(
    expression: &Expression,
    world: &dyn World,
    within: Option<&RoaringBitmap>,
) -> Result<Evaluation, EvaluateError> {
    let universe = world.sets().universe()?;
    let plan = Compiler::new(world, Arc::clone(&universe)).compile(expression)?;
    let mut runner = Runner::new(world.sets(), universe);
    let rows = match within {
        None => runner.everywhere(&plan)?,
        Some(within) => runner.within(&plan, within)?,
    };
    Ok(Evaluation { rows, notes: runner.into_notes() })
}
