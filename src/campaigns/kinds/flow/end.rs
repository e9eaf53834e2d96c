//! `kind = "start"`, where everybody enters; `kind = "end"` with `as = "success"` (success, abandon, failure, neutral), whose
//! rate is shown; `kind = "exit"`, which leaves the flow without having come to any of its ends.

use serde::Deserialize;

use super::assemble::Context;
use crate::flow::{EndKind, NodeKind};

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum As {
    Success,
    Abandon,
    Failure,
    #[default]
    Neutral,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    #[serde(rename = "as")]
    kind: Option<As>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct NoKeys {}

pub(super) fn start(context: &mut Context<'_>) -> Option<NodeKind> {
    context.read::<NoKeys>().map(|_| NodeKind::Start)
}

pub(super) fn exit(context: &mut Context<'_>) -> Option<NodeKind> {
    context.read::<NoKeys>().map(|_| NodeKind::End { kind: EndKind::Exit })
}

pub(super) fn end(context: &mut Context<'_>) -> Option<NodeKind> {
    let keys = context.read::<Keys>()?;
    let kind = match keys.kind.unwrap_or_default() {
        As::Success => EndKind::Success,
        As::Abandon => EndKind::Abandon,
        As::Failure => EndKind::Failure,
        As::Neutral => EndKind::Neutral,
    };
    Some(NodeKind::End { kind })
}
