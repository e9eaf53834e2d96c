//! Specs from the texts of requests, and what is wrong with them, as the port tells it.
//!
//! Owns no state. Invariant: a refusal of a text lists everything that is wrong with it, as a check does.

use serde_json::json;

use crate::api::adapter::{Adapter, errors};
use crate::api::errors::Code;
use crate::api::port::{PortError, PortResult, ProblemView, SpecFormat, SpecText};
use crate::campaigns::{self, CampaignSpec, Format, Problem};
use crate::engine::names::{key_problem, source_of};
use crate::ids::CampaignId;

pub(super) fn format(format: SpecFormat) -> Format {
    match format {
        SpecFormat::Toml => Format::Toml,
        SpecFormat::Json => Format::Json,
    }
}

pub(super) fn invalid(error: &campaigns::SpecError) -> PortError {
    let details = json!({"line": error.line, "column": error.column});
    PortError::new(Code::InvalidSpec, error.to_string()).with(details)
}

pub(super) fn problem_view(problem: &Problem) -> ProblemView {
    ProblemView {
        code: problem.code.to_owned(),
        path: problem.path.clone(),
        node: problem.node.clone(),
        line: problem.line,
        column: problem.column,
        spec_line: problem.spec_line,
        spec_column: problem.spec_column,
        message: problem.message.clone(),
        fix: problem.fix.clone(),
    }
}

/// Of a refusal that names the first problem.
fn and_more(problems: usize) -> String {
    if problems > 1 { format!(" (and {} more: see details)", problems - 1) } else { String::new() }
}

/// The refusal of a text that cannot be read whole, with everything that is wrong in it.
fn unreadable(faults: &[Problem], problems: &[Problem]) -> PortError {
    let Some(first) = faults.first() else { return PortError::new(Code::InvalidSpec, "the spec cannot be read") };
    let (line, column) = (first.spec_line, first.spec_column);
    let list: Vec<_> = problems.iter().filter(|p| p.blocks()).map(errors::problem).collect();
    let place = line.map_or(String::new(), |line| format!("line {line}, column {}: ", column.unwrap_or(1)));
    let message = format!("{place}{}{}", first.message, and_more(list.len()));
    PortError::new(Code::InvalidSpec, message).with(json!({"line": line, "column": column, "problems": list}))
}

/// Refuses a patch that cannot be read. What it leaves unsaid, the spec says: only its own faults are told.
pub(super) fn readable_patch(patch: &SpecText) -> PortResult<()> {
    let faults = campaigns::read(&patch.text, format(patch.format)).faults;
    if faults.is_empty() { Ok(()) } else { Err(unreadable(&faults, &faults)) }
}

impl Adapter {
    /// The spec of a text; if it cannot be read whole, the refusal lists everything that is wrong with it.
    pub(super) fn readable(&self, spec: &SpecText) -> PortResult<CampaignSpec> {
        let reading = campaigns::read(&spec.text, format(spec.format));
        match &reading.spec {
            Some(parsed) if reading.faults.is_empty() => Ok(parsed.clone()),
            Some(parsed) => Err(unreadable(&reading.faults, &reading.with(self.engine.problems(parsed, None)))),
            None => Err(unreadable(&reading.faults, &reading.faults)),
        }
    }

    /// What is wrong with a spec that may be saved; refused, if it says what cannot be so. A draft may lack things, but what it
    /// says of contacts, and of what campaigns did to them, must be true of the base.
    pub(super) fn savable(&self, spec: &CampaignSpec, id: Option<CampaignId>) -> PortResult<Vec<Problem>> {
        let is_false = |code: &str| ["unknown_attribute", "unknown_campaign"].contains(&code);
        let problems = self.engine.problems(spec, id);
        let unread: Vec<_> = source_of(&spec.message.fields).faults.iter().map(key_problem).collect();
        if let Some(found) = unread.first().or_else(|| problems.iter().find(|p| is_false(p.code))) {
            let told = unread.iter().filter(|p| !problems.contains(p)).chain(&problems);
            let list: Vec<_> = told.filter(|p| p.blocks()).map(errors::problem).collect();
            let details = json!({"path": found.path, "line": found.line, "column": found.column, "fix": found.fix,
                "problems": list});
            let message = format!("{}: {}; {}{}", found.path, found.message, found.fix, and_more(list.len()));
            return Err(PortError::new(Code::InvalidSpec, message).with(details));
        }
        Ok(problems)
    }
}
