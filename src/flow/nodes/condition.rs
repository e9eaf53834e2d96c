//! Conditions: two exits, `true` and `false`, each contact sorted once, on arrival.
//!
//! Invariants: CO-1 what is asked holds or does not hold for every contact, so that each leaves by exactly one exit; CO-2 a
//! contact is asked once; what comes back afterwards changes nothing.
//!
//! Must not know: how a question is answered; expressions and same addresses are asked of the base, the rest of ledgers.

use serde::{Deserialize, Serialize};

use super::Fault;
use crate::flow::graph::{Exit, NodeId};
use crate::limits;

pub const TRUE: Exit = Exit(std::borrow::Cow::Borrowed("true"));
pub const FALSE: Exit = Exit(std::borrow::Cow::Borrowed("false"));

/// What is asked of the contacts that arrive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// A segment expression: profile, groups, personas, history.
    Matches(String),
    /// On e-mail: accepted, and not bounced so far.
    Delivered(NodeId),
    Opened(NodeId),
    /// Any link of the message.
    Clicked(NodeId),
    /// From any topic, through a link of this run.
    Unsubscribed,
    /// One of these links of the message, as they stand in it.
    ClickedLinks {
        send: NodeId,
        links: Vec<String>,
    },
    /// From one of these topics, through a link of this run.
    UnsubscribedFrom(Vec<String>),
    /// About any message of this run.
    Complained,
    /// With any messages of any campaign.
    Engaged(Engaged),
    /// Nobody else of the run that came here has the same address.
    Unique(Unique),
}

/// What a contact did with a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Did {
    Opened,
    Clicked,
    #[default]
    OpenedOrClicked,
}

impl Did {
    pub fn name(self) -> &'static str {
        match self {
            Did::Opened => "opened",
            Did::Clicked => "clicked",
            Did::OpenedOrClicked => "opened or clicked",
        }
    }
}

/// Recency and frequency: so many different messages within so many days, today included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engaged {
    pub did: Did,
    pub messages: u32,
    pub within_days: u32,
}

/// Which address must be a contact's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SameBy {
    #[default]
    Email,
    Phone,
}

/// Which contact of several is kept, by creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    #[default]
    Newest,
    Oldest,
}

/// One contact per normalised address goes on as true; who went on before is never taken back, and counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unique {
    pub by: SameBy,
    pub keep: Keep,
}

impl Test {
    /// The send whose message is asked about.
    pub fn send(&self) -> Option<NodeId> {
        match self {
            Test::Delivered(node)
            | Test::Opened(node)
            | Test::Clicked(node)
            | Test::ClickedLinks { send: node, .. } => Some(*node),
            Test::Matches(_)
            | Test::Unsubscribed
            | Test::UnsubscribedFrom(_)
            | Test::Complained
            | Test::Engaged(_)
            | Test::Unique(_) => None,
        }
    }

    /// Makes no sense before anything was sent.
    pub fn needs_a_send(&self) -> bool {
        !matches!(self, Test::Matches(_) | Test::Engaged(_) | Test::Unique(_))
    }

    /// What comes back takes its time: asked right behind the send, hardly anybody has it.
    pub fn needs_time(&self) -> bool {
        self.send().is_some()
    }

    pub fn name(&self) -> &'static str {
        match self {
            Test::Matches(_) => "matches",
            Test::Delivered(_) => "delivered",
            Test::Opened(_) => "opened",
            Test::Clicked(_) | Test::ClickedLinks { .. } => "clicked",
            Test::Unsubscribed | Test::UnsubscribedFrom(_) => "unsubscribed",
            Test::Complained => "complained",
            Test::Engaged(_) => "engaged",
            Test::Unique(_) => "unique",
        }
    }

    /// What stands behind the name in a graph, without the send.
    pub fn detail(&self) -> String {
        match self {
            Test::Matches(expression) => expression.clone(),
            Test::ClickedLinks { links, .. } => links.join(" or "),
            Test::UnsubscribedFrom(topics) => topics.join(" or "),
            Test::Engaged(engaged) => {
                let Engaged { did, messages, within_days } = engaged;
                format!("{} {messages} messages or more within {within_days} days", did.name())
            }
            Test::Unique(unique) => {
                let by = if unique.by == SameBy::Email { "e-mail" } else { "phone" };
                let keep = if unique.keep == Keep::Newest { "newest" } else { "oldest" };
                format!("by {by}, the {keep} is kept")
            }
            Test::Delivered(_) | Test::Opened(_) | Test::Clicked(_) | Test::Unsubscribed | Test::Complained => {
                String::new()
            }
        }
    }

    /// What is wrong with the question.
    pub fn faults(&self) -> Vec<Fault> {
        match self {
            Test::Matches(expression) if expression.trim().is_empty() => {
                vec![Fault::new("no_expression", "the condition asks nothing", "write an expression")]
            }
            Test::ClickedLinks { links, .. } if links.is_empty() => {
                vec![Fault::new("no_link", "no link is named", "name links, or leave them out to mean any")]
            }
            Test::UnsubscribedFrom(topics) if topics.is_empty() => {
                vec![Fault::new("no_topic", "no topic is named", "name topics, or leave them out to mean any")]
            }
            Test::Engaged(engaged) => engaged.faults(),
            _ => Vec::new(),
        }
    }
}

impl Engaged {
    fn faults(&self) -> Vec<Fault> {
        let mut found = Vec::new();
        if !(1..=limits::ENGAGED_MESSAGES_MAX).contains(&self.messages) {
            let message =
                format!("{} messages are asked for, and 1 to {} may be", self.messages, limits::ENGAGED_MESSAGES_MAX);
            found.push(Fault::new("engaged_messages", message, "set at_least within these bounds"));
        }
        if !(1..=limits::ENGAGED_DAYS_MAX).contains(&self.within_days) {
            let message =
                format!("{} days are looked back, and 1 to {} may be", self.within_days, limits::ENGAGED_DAYS_MAX);
            found.push(Fault::new("engaged_days", message, "set within, such as \"30d\""));
        }
        found
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    pub test: Test,
}

impl Condition {
    pub fn faults(&self) -> Vec<Fault> {
        self.test.faults()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_its_code() {
        let engaged = |messages, within_days| Test::Engaged(Engaged { did: Did::default(), messages, within_days });
        let send = NodeId(1);
        let cases = [
            (Test::Matches(" ".into()), vec!["no_expression"]),
            (Test::ClickedLinks { send, links: Vec::new() }, vec!["no_link"]),
            (Test::UnsubscribedFrom(Vec::new()), vec!["no_topic"]),
            (engaged(0, 30), vec!["engaged_messages"]),
            (engaged(limits::ENGAGED_MESSAGES_MAX + 1, 0), vec!["engaged_messages", "engaged_days"]),
            (engaged(2, 30), vec![]),
            (Test::Complained, vec![]),
            (Test::Unique(Unique::default()), vec![]),
        ];
        for (test, expected) in cases {
            let codes: Vec<_> = Condition { test: test.clone() }.faults().into_iter().map(|f| f.code).collect();
            assert_eq!(codes, expected, "{test:?}");
        }
    }

    #[test]
    fn what_is_asked_of_the_base_needs_no_send() {
        let engaged = Engaged { did: Did::Opened, messages: 1, within_days: 7 };
        for test in [Test::Matches("age > 3".into()), Test::Engaged(engaged), Test::Unique(Unique::default())] {
            assert!(!test.needs_a_send() && !test.needs_time(), "{test:?}");
        }
        for test in [Test::Unsubscribed, Test::UnsubscribedFrom(vec!["news".into()]), Test::Complained] {
            assert!(test.needs_a_send() && !test.needs_time(), "{test:?}");
        }
        let links = Test::ClickedLinks { send: NodeId(4), links: vec!["https://a.test".into()] };
        assert!(links.needs_a_send() && links.needs_time() && links.send() == Some(NodeId(4)), "{links:?}");
    }
}
