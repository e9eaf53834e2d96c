//! Links and topics that questions name: they must be in the messages that are asked about.

use super::assemble::Assembled;
use crate::campaigns::spec::CampaignSpec;
use crate::campaigns::spec::kinds::overlaid;
use crate::campaigns::suggest::did_you_mean;
use crate::campaigns::validate::{Names, Problem};
use crate::flow::nodes::Test;

pub(super) fn problems(spec: &CampaignSpec, made: &Assembled, names: &dyn Names, found: &mut Vec<Problem>) {
    for node in &made.parts.nodes {
        let Some(at) = made.place(node.id) else { continue };
        for test in node.kind.tests() {
            let told = match test {
                Test::ClickedLinks { send, links } => {
                    let place = made.sends.iter().find(|other| other.node == *send).and_then(|s| spec.nodes.get(s.at));
                    let Some(fields) = place.map(|node| overlaid(&spec.message.fields, &node.message.fields)) else {
                        continue;
                    };
                    // A message that does not compile has problems of its own.
                    let Some(known) = names.links(&fields) else { continue };
                    links.iter().find(|link| !known.contains(link)).map(|link| {
                        let near = did_you_mean(link, known.iter().map(String::as_str));
                        let message = format!("the message has no tracked link {link:?}{near}");
                        let fix = format!("name one of: {}", known.join(", "));
                        Problem::error("unknown_link", format!("nodes.{at}"), message, fix)
                    })
                }
                Test::UnsubscribedFrom(topics) => {
                    let sent = |topic: &String| {
                        let own = made.sends.iter().filter_map(|s| spec.nodes.get(s.at));
                        let mut all = own.map(|node| node.message.topic.as_ref().or(spec.message.topic.as_ref()));
                        all.any(|other| other == Some(topic))
                    };
                    topics.iter().find(|topic| !sent(topic)).map(|topic| {
                        let message =
                            format!("no message of this flow is about the topic {topic:?}: nobody leaves it here");
                        let fix = "name topics of this flow's sends, or none to mean any";
                        Problem::warning("topic_not_sent", format!("nodes.{at}"), message, fix)
                    })
                }
                _ => None,
            };
            found.extend(told.map(|problem| problem.of_node(made.key_at(at))));
        }
    }
}
