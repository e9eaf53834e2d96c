//! `kind = "note"`: text of people, on a node, a branch, or the flow as a whole; nothing that a run does depends on it.
//!
//! ```toml
//! text = "Legal wants this wait"
//! author = "Ann"
//! date = 2026-11-22
//! on = "wait"                   # or "opened.true", a branch; by default the flow
//! ```

use serde::Deserialize;

use super::assemble::{Assembled, Context};
use super::ids;
use super::send::wait_of;
use crate::campaigns::spec::NodeSpec;
use crate::flow::nodes::delay::{HAPPENED, TIMED_OUT};
use crate::flow::nodes::{Note, NoteOn};
use crate::flow::{Exit, NodeId};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    text: String,
    author: String,
    date: String,
    on: Option<String>,
}

pub(super) fn add(context: &mut Context<'_>, id: NodeId, made: &mut Assembled) {
    let Some(keys) = context.read::<Keys>() else { return };
    let on = match keys.on.as_deref().map(|on| on.split_once('.').unwrap_or((on, ""))) {
        None => NoteOn::Flow,
        Some((node, "")) => NoteOn::Node(ids::of_text(node)),
        Some((node, exit)) => branch(context, node, exit),
    };
    made.parts.notes.push(Note { id, text: keys.text, author: keys.author, date: keys.date, on });
}

/// A branch of a node. Those of a send that waits for an open are of its wait.
fn branch(context: &Context<'_>, node: &str, exit: &str) -> NoteOn {
    let waits = |other: &&NodeSpec| other.id.as_deref() == Some(node) && other.fields.contains_key("split_on_open");
    match (context.spec.nodes.iter().find(waits), exit) {
        (Some(send), "opened") => NoteOn::Branch(wait_of(send), HAPPENED),
        (Some(send), "not_opened") => NoteOn::Branch(wait_of(send), TIMED_OUT),
        _ => NoteOn::Branch(ids::of_text(node), Exit(exit.to_owned().into())),
    }
}
