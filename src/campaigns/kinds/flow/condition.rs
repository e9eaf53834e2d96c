//! `kind = "condition"`: two ways out, `true` and `false`; whoever comes is asked once.
//!
//! ```toml
//! segment = 'age >= 18'                                     # any segment expression
//! test = "delivered"; of = "welcome"                        # e-mail: accepted and not bounced so far
//! test = "opened"; of = "welcome"
//! test = "clicked"; of = "welcome"; links = ["https://…"]   # without links: any of them
//! test = "unsubscribed"; topics = ["news"]                  # through a link of this campaign; without topics: any
//! test = "complained"                                       # about any send of this campaign
//! test = "engaged"; did = "opened"; at_least = 3; within = "30d"   # opened, clicked, opened_or_clicked; all campaigns
//! test = "unique"; by = "email"; keep = "newest"            # email, phone; newest, oldest
//! ```

use serde::Deserialize;

use super::assemble::{Assembled, Context};
use crate::campaigns::spec::MessageFields;
use crate::flow::NodeKind;
use crate::flow::nodes::condition::{Did, Engaged, Keep, SameBy, Unique};
use crate::flow::nodes::{Condition, Test};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Asked {
    Matches,
    Delivered,
    Opened,
    Clicked,
    Unsubscribed,
    Complained,
    Engaged,
    Unique,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    test: Option<Asked>,
    segment: Option<String>,
    of: Option<String>,
    links: Option<Vec<String>>,
    topics: Option<Vec<String>>,
    did: Option<Did>,
    at_least: Option<u32>,
    within: Option<String>,
    by: Option<SameBy>,
    keep: Option<Keep>,
}

impl Keys {
    /// Keys that are there, and that a question does not have.
    fn beside(&self, asked: Asked) -> Vec<&'static str> {
        let given = [
            ("segment", self.segment.is_some()),
            ("of", self.of.is_some()),
            ("links", self.links.is_some()),
            ("topics", self.topics.is_some()),
            ("did", self.did.is_some()),
            ("at_least", self.at_least.is_some()),
            ("within", self.within.is_some()),
            ("by", self.by.is_some()),
            ("keep", self.keep.is_some()),
        ];
        let own: &[&str] = match asked {
            Asked::Matches => &["segment"],
            Asked::Delivered | Asked::Opened => &["of"],
            Asked::Clicked => &["of", "links"],
            Asked::Unsubscribed => &["topics"],
            Asked::Complained => &[],
            Asked::Engaged => &["did", "at_least", "within"],
            Asked::Unique => &["by", "keep"],
        };
        given.into_iter().filter(|(key, given)| *given && !own.contains(key)).map(|(key, _)| key).collect()
    }
}

pub(super) fn kind(context: &mut Context<'_>, made: &mut Assembled) -> Option<NodeKind> {
    let fields = context.node.fields.clone();
    let test = test(context, made, &fields, "")?;
    Some(NodeKind::Condition(Condition { test }))
}

/// A question; `place` is where its keys stand within the node.
pub(super) fn test(
    context: &mut Context<'_>,
    made: &mut Assembled,
    fields: &MessageFields,
    place: &str,
) -> Option<Test> {
    let keys = context.read_from::<Keys>(fields, place)?;
    let path = |key: &str| if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
    let Some(asked) = keys.test.or(keys.segment.is_some().then_some(Asked::Matches)) else {
        let message = "the condition asks nothing";
        context.refuse("no_test", &path("test"), message, "set segment to an expression, or test");
        return None;
    };
    let beside = keys.beside(asked);
    if !beside.is_empty() {
        let message = format!("this test has no {}", beside.join(" and no "));
        context.refuse("wrong_key", place, message, "remove the key, or set another test");
    }
    let test = asked_test(context, made, asked, keys, &path);
    test.filter(|_| beside.is_empty())
}

/// The question itself; `path` is that of a key within the node.
fn asked_test(
    context: &mut Context<'_>,
    made: &mut Assembled,
    asked: Asked,
    keys: Keys,
    path: &dyn Fn(&str) -> String,
) -> Option<Test> {
    match asked {
        Asked::Matches => {
            let expression = keys.segment.unwrap_or_default();
            if !expression.trim().is_empty() {
                let path = format!("nodes.{}.{}", context.at, path("segment"));
                made.expressions.push((context.at, path, expression.clone()));
            }
            Some(Test::Matches(expression))
        }
        Asked::Delivered => context.named(&path("of"), keys.of.as_deref()).map(Test::Delivered),
        Asked::Opened => context.named(&path("of"), keys.of.as_deref()).map(Test::Opened),
        Asked::Clicked => {
            let send = context.named(&path("of"), keys.of.as_deref())?;
            Some(match keys.links {
                Some(links) => Test::ClickedLinks { send, links },
                None => Test::Clicked(send),
            })
        }
        Asked::Unsubscribed => Some(keys.topics.map_or(Test::Unsubscribed, Test::UnsubscribedFrom)),
        Asked::Complained => Some(Test::Complained),
        Asked::Engaged => engaged(context, &keys, &path("within")),
        Asked::Unique => {
            Some(Test::Unique(Unique { by: keys.by.unwrap_or_default(), keep: keys.keep.unwrap_or_default() }))
        }
    }
}

/// The ledger keeps who did what by days.
fn engaged(context: &mut Context<'_>, keys: &Keys, path: &str) -> Option<Test> {
    const DAY: u32 = 86_400;
    let Some(within) = keys.within.as_deref() else {
        context.refuse("no_length", path, "the condition has no period", "set within, such as \"30d\"");
        return None;
    };
    let seconds = context.seconds(path, within)?;
    if seconds % DAY != 0 {
        context.refuse("bad_length", path, format!("{within:?} is not a number of whole days"), "set days or weeks");
        return None;
    }
    let (did, messages) = (keys.did.unwrap_or_default(), keys.at_least.unwrap_or(1));
    Some(Test::Engaged(Engaged { did, messages, within_days: seconds / DAY }))
}
