//! Rules of notes: nothing leads to one, and they are bounded; whatever else is said of nodes does not concern them.

use super::{GraphProblem, View, problem};
use crate::flow::nodes::NoteOn;
use crate::limits;

pub(super) fn nothing_leads_to_a_note(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    for edge in &view.parts.edges {
        let (from, to) = (view.called(edge.from), view.called(edge.to));
        if view.is_note(edge.to) {
            let message = format!("{from} leads into the note {to}, where nobody can be");
            found.push(problem("link_into_note", edge.to, message, "link to a node, and hang the note on it"));
        }
        if view.is_note(edge.from) {
            let message = format!("the note {from} leads to {to}, and nobody comes from a note");
            found.push(problem("link_from_note", edge.from, message, "remove the link; a note hangs on a node"));
        }
    }
}

pub(super) fn notes_are_bounded(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    let (count, max) = (view.parts.notes.len(), limits::FLOW_NOTES_MAX);
    if count > max {
        let message = format!("the flow has {count} notes, and {max} is the most");
        found.push(GraphProblem { code: "too_many_notes", node: None, message, fix: "remove some".to_owned() });
    }
    for note in &view.parts.notes {
        for fault in note.faults() {
            let message = format!("{}: {}", view.called(note.id), fault.message);
            found.push(problem(fault.code, note.id, message, fault.fix));
        }
    }
}

/// A warning: a note is only for people, and what it hung on may be gone.
pub(super) fn notes_hang_somewhere(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    for note in &view.parts.notes {
        let there = match &note.on {
            NoteOn::Flow => true,
            NoteOn::Node(id) => view.by_id.contains_key(id),
            NoteOn::Branch(id, exit) => view
                .by_id
                .get(id)
                .is_some_and(|node| node.kind.exits().contains(exit) || node.kind.optional_exits().contains(exit)),
        };
        if !there {
            let message = format!("the note {} hangs on a node or branch that is not there", view.called(note.id));
            found.push(problem("note_on_nothing", note.id, message, "name a node, or \"node.exit\""));
        }
    }
}
