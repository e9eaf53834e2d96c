//! A flow that is written by hand: `[[nodes]]` become a graph, a delivery and a message per send.
//!
//! - [`ids`]: texts that people gave nodes, as numbers that every version of the campaign gives them again.
//! - `assemble`: nodes and links, whatever is wrong with them.
//! - `gaps`: what the rules of the graph say of a flow of which some nodes or links cannot be made.
//! - a file per kind of node: its keys, what it refuses of them, the node that they make.
//!
//! The whole audience enters the flow at the start; each send is a delivery of its own, entered on arrival: its own consent
//! check, ledger and scope of "one message per contact". Sends that name the same `delivery` share one.
//!
//! Invariants: FW-1 the number of a node follows from its text alone; FW-2 what `problems` finds nothing wrong with
//! compiles.

mod ab_test;
mod assemble;
mod condition;
mod delay;
mod end;
mod gaps;
pub mod ids;
mod links;
mod note;
mod send;
mod shares;
mod split;

use super::Built;
use crate::campaigns::compile::CompileError;
use crate::campaigns::spec::kinds::overlaid;
use crate::campaigns::spec::{CampaignSpec, Kind, MessageFields, MessageSpec};
use crate::campaigns::validate::{Names, Problem};
use crate::flow::GraphParts;
use crate::flow::validate as rules;
use assemble::{Assembled, assemble};

pub(in crate::campaigns) fn build(spec: &CampaignSpec) -> Result<Built, CompileError> {
    let mut found = Vec::new();
    let assembled = assemble(spec, &mut found);
    if let Some(problem) = found.into_iter().find(Problem::blocks) {
        return Err(CompileError::Nodes { path: problem.path, message: problem.message });
    }
    let Assembled { parts, sends, .. } = assembled;
    let (deliveries, messages) = send::plans(spec, &sends)?;
    Ok(Built { parts, deliveries, messages, lasts: Vec::new() })
}

/// What is wrong with `[[nodes]]`, all at once: each with the node's id and what to do.
pub(in crate::campaigns) fn problems(spec: &CampaignSpec, names: &dyn Names, found: &mut Vec<Problem>) {
    if spec.nodes.is_empty() {
        let fix = "add [[nodes]]: a start, sends, and an end";
        found.push(Problem::error("no_nodes", "nodes", "the flow has no nodes", fix));
        return;
    }
    let mut own = Vec::new();
    let assembled = assemble(spec, &mut own);
    found.append(&mut own);
    let rules = [(rules::problems(&assembled.parts), true), (rules::warnings(&assembled.parts), false)];
    for (broken, blocks) in rules {
        let news = broken.into_iter().filter(|problem| gaps::is_news(problem, &assembled));
        found.extend(news.map(|problem| assembled.problem(problem, blocks)));
    }
    for (at, path, expression) in &assembled.expressions {
        let problems = names.expression_problems(path, expression);
        found.extend(problems.into_iter().map(|problem| problem.of_node(assembled.key_at(*at))));
    }
    send::problems(spec, &assembled, names, found);
    delay::problems(&assembled, names.now(), found);
    links::problems(spec, &assembled, names, found);
}

/// Sends with their place in the spec: their messages are laid over the campaign's.
pub(in crate::campaigns) fn messages(spec: &CampaignSpec) -> impl Iterator<Item = (usize, &MessageSpec)> {
    let sends = spec.nodes.iter().enumerate().filter(|(_, node)| node.kind.as_deref() == Some("send"));
    sends.map(|(at, node)| (at, &node.message))
}

/// The content of every message of a campaign as a whole: of a flow its sends', else the campaign's own.
pub fn contents(spec: &CampaignSpec) -> Vec<MessageFields> {
    if spec.kind() != Kind::Flow {
        return vec![spec.message.fields.clone()];
    }
    messages(spec).map(|(_, own)| overlaid(&spec.message.fields, &own.fields)).collect()
}

/// The graph of a spec as far as it can be made, whatever is wrong with it.
pub(in crate::campaigns) fn parts(spec: &CampaignSpec) -> GraphParts {
    assemble(spec, &mut Vec::new()).parts
}

#[cfg(test)]
mod tests;
