//! `kind = "split"`: exactly one of
//!
//! ```toml
//! weights = { a = 50, b = 50 }                                          # shares of all who come; or "50%", 100 % in all
//! at_most = [{ exit = "a", contacts = 1000 }]                           # drawn at random; "remaining" takes the rest
//! segments = [{ exit = "a", segment = 'age < 30' }]                     # the first that fits; "remaining" the others
//! interactions = [{ exit = "a", test = "clicked", of = "welcome" }]     # the first that happened; tests as in a condition
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;

use super::assemble::{Assembled, Context};
use super::condition;
use super::shares::{self, Share, Shares};
use crate::campaigns::spec::MessageFields;
use crate::flow::nodes::{Split, Test};
use crate::flow::{Exit, NodeKind};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    weights: Option<BTreeMap<String, Share>>,
    at_most: Option<Vec<AtMost>>,
    segments: Option<Vec<Segment>>,
    interactions: Option<Vec<MessageFields>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AtMost {
    exit: String,
    contacts: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Segment {
    exit: String,
    segment: String,
}

pub(super) fn kind(context: &mut Context<'_>, made: &mut Assembled) -> Option<NodeKind> {
    let keys = context.read::<Keys>()?;
    let split = match (keys.weights, keys.at_most, keys.segments, keys.interactions) {
        (Some(weights), None, None, None) => {
            let Shares { weights, total } = shares::read(context, "weights", &weights)?;
            if let Some(total) = total.filter(|total| *total < shares::WHOLE) {
                let message = format!("the shares make {} in all: who gets the rest?", shares::percent_of(total));
                context.refuse(
                    "shares_total",
                    "weights",
                    message,
                    "make them 100% together, or write weights without %",
                );
                return None;
            }
            Split::Weights(weights.into_iter().map(|(exit, weight)| (Exit(exit.into()), weight)).collect())
        }
        (None, Some(limits), None, None) => {
            Split::AtMost(limits.into_iter().map(|limit| (Exit(limit.exit.into()), limit.contacts)).collect())
        }
        (None, None, Some(segments), None) => {
            for (place, segment) in segments.iter().enumerate().filter(|(_, s)| !s.segment.trim().is_empty()) {
                let path = format!("nodes.{}.segments.{place}.segment", context.at);
                made.expressions.push((context.at, path, segment.segment.clone()));
            }
            Split::Segments(segments.into_iter().map(|s| (Exit(s.exit.into()), s.segment)).collect())
        }
        (None, None, None, Some(interactions)) => Split::Interactions(all(context, made, interactions)?),
        _ => {
            let message = "a split has one way to sort";
            let fix = "set exactly one of weights, at_most, segments and interactions";
            context.refuse("split_by", "", message, fix);
            return None;
        }
    };
    Some(NodeKind::Split(split))
}

/// Each interaction with its exit; nothing, if one cannot be made.
fn all(context: &mut Context<'_>, made: &mut Assembled, interactions: Vec<MessageFields>) -> Option<Vec<(Exit, Test)>> {
    let each = interactions.into_iter().enumerate().map(|(place, mut fields)| {
        let path = format!("interactions.{place}");
        let exit = fields.remove("exit").and_then(|exit| exit.as_str().map(str::to_owned));
        if exit.is_none() {
            context.refuse("unnamed_exit", &path, "an interaction has no exit", "set exit = \"…\"");
        }
        let test = condition::test(context, made, &fields, &path);
        Some((Exit(exit?.into()), test?))
    });
    each.collect::<Vec<_>>().into_iter().collect()
}
