//! The messages of a campaign's parts, laid over its own, in each language.
//!
//! Owns no state. What several messages have in common is told once, where it is written.

use std::collections::BTreeSet;

use super::{Names, Problem};
use crate::campaigns::languages::{self, Others};
use crate::campaigns::spec::{CampaignSpec, Kind, MessageSpec};
use crate::ids::Channel;

/// Content of variants, cells, nodes and follow-up, laid over the message, in each language; what is wrong with the message
/// itself was said.
pub(super) fn problems(spec: &CampaignSpec, names: &dyn Names, found: &mut Vec<Problem>) {
    let channel = spec.message.channel.unwrap_or(Channel::Email);
    let is_flow = spec.kind() == Kind::Flow;
    let base = if is_flow { Vec::new() } else { names.message_problems(channel, &spec.message.fields) };
    let is_sent = |path: &str| match path.split('.').collect::<Vec<_>>().as_slice() {
        ["nodes", at, ..] => {
            is_flow && index(at).and_then(|at| spec.nodes.get(at)).is_some_and(|n| n.kind.as_deref() == Some("send"))
        }
        ["cells", at, ..] => index(at).and_then(|at| spec.cells.get(at)).is_some_and(|cell| cell.nothing != Some(true)),
        ["steps", ..] => false,
        ["follow_up", ..] => !is_flow,
        _ => true,
    };
    let whole = MessageSpec::default();
    let own = languages::laid_on(spec).into_iter().filter(|(path, _)| is_sent(path));
    let own = own.chain((!is_flow).then_some(("message".to_owned(), &whole)));
    for (path, own) in own {
        let (fields, others) = languages::laid_over(&spec.message, own);
        let keys: BTreeSet<String> = own.fields.keys().cloned().collect();
        let default = names.message_problems(channel, &fields);
        for problem in default.iter().filter(|problem| !base.contains(problem)) {
            push_new(with_node(placed(problem.clone(), &path, &keys, &spec.message), spec), found);
        }
        let said: Vec<Problem> = base.iter().chain(&default).cloned().collect();
        for problem in in_languages(names, channel, (&path, own), &others, &said) {
            push_new(with_node(problem, spec), found);
        }
    }
}

/// What is wrong with a message in its other languages, where it is written: in its own table, or else in the campaign's. What
/// was said of it in the default language is left out.
pub(super) fn in_languages(
    names: &dyn Names,
    channel: Channel,
    (path, own): (&str, &MessageSpec),
    others: &Others,
    said: &[Problem],
) -> Vec<Problem> {
    let mut found = Vec::new();
    for (tag, fields) in others.versions() {
        let wrong = names.message_problems(channel, fields);
        let table = if own.languages.contains_key(tag) { path } else { "message" };
        for problem in wrong.into_iter().filter(|problem| !said.contains(problem)) {
            let path = problem.path.replacen("message", &format!("{table}.languages.{tag}"), 1);
            found.push(Problem { path, ..problem });
        }
    }
    found
}

fn index(text: &str) -> Option<usize> {
    text.parse().ok()
}

/// With the id of the node that its path is about.
fn with_node(problem: Problem, spec: &CampaignSpec) -> Problem {
    let at = problem.path.strip_prefix("nodes.").and_then(|rest| rest.split('.').next()).and_then(index);
    let node = at.and_then(|at| spec.nodes.get(at)).and_then(|node| node.id.clone());
    Problem { node, ..problem }
}

/// A problem of a message that is laid over that of the campaign, where it is written: in its own table, unless only the
/// campaign's has the key.
pub(super) fn placed(problem: Problem, path: &str, own: &BTreeSet<String>, base: &MessageSpec) -> Problem {
    let key = problem.path.strip_prefix("message.").and_then(|rest| rest.split('.').next()).unwrap_or_default();
    if !own.contains(key) && base.to_keys().contains(key) {
        return problem;
    }
    Problem { path: problem.path.replacen("message", path, 1), ..problem }
}

/// What is wrong with what several messages have in common is told once.
pub(super) fn push_new(problem: Problem, found: &mut Vec<Problem>) {
    if !found.contains(&problem) {
        found.push(problem);
    }
}
