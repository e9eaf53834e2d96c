//! What readers did, by their own count, and how that compares with what the engine says.
//!
//! Owns no state. Invariants: 1. an act counts when its answer came, not when it was tried; 2. a comparison names every figure
//! that differs, and is silent only if all agree.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::prometheus::sum_with;

/// The readers' account of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Mails taken from the record.
    pub mails: u64,
    /// Bytes that no parser could read as a mail.
    pub unreadable: u64,
    /// A second copy of a message id for the same recipient: somebody was mailed twice.
    pub duplicates: u64,
    /// Mails whose subject fits no variant.
    pub unknown: u64,
    /// Requests to the tracking endpoints that were answered as they should be.
    pub requests: u64,
    /// Requests and events that were not.
    pub failed: u64,
    /// Some of the failures.
    pub failures: Vec<String>,
    pub variants: BTreeMap<String, VariantCount>,
}

/// One variant. People are counted once each, machines per request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariantCount {
    pub mails: u64,
    pub delivered: u64,
    pub bounced: u64,
    pub opened: u64,
    pub clicked: u64,
    pub converted: u64,
    pub unsubscribed: u64,
    pub complained: u64,
    pub machine_opens: u64,
    pub machine_clicks: u64,
    /// Clicks of people by the link's place in the mail, from 0.
    pub links: BTreeMap<u64, u64>,
}

impl Count {
    /// Every figure of a campaign's report that differs from what was done, in words; empty when all agree.
    ///
    /// Compared are accepted (mails), opens and clicks of people, their repetitions, machines' requests, clicks per link,
    /// unsubscribes, and, if events were sent, delivered, bounced, complained and converted.
    pub fn differences(&self, report: &Value, events: bool) -> Vec<String> {
        let mut found = Vec::new();
        let messages = messages(report);
        for (name, variant) in &self.variants {
            let Some(theirs) = messages.get(name.as_str()) else {
                found.push(format!("the report has no message {name:?}"));
                continue;
            };
            variant.compare(name, theirs, events, &mut found);
        }
        let known = |name: &str| self.variants.contains_key(name);
        found.extend(messages.keys().filter(|name| !known(name)).map(|name| format!("nobody read {name:?}")));
        if self.duplicates > 0 {
            found.push(format!("{} mails came twice", self.duplicates));
        }
        if self.failed > 0 {
            found.push(format!("{} requests failed: {:?}", self.failed, self.failures));
        }
        found
    }
}

impl Count {
    /// Every campaign-labelled figure of `/metrics` that differs from what was done, in words.
    pub fn differences_from_metrics(&self, metrics: &str) -> Vec<String> {
        let mut found = Vec::new();
        for (name, variant) in &self.variants {
            let mut check = |what: &str, series: &str, labels: &[(&str, &str)], ours: u64| {
                let labels: Vec<(&str, &str)> = labels.iter().copied().chain([("variant", name.as_str())]).collect();
                match sum_with(metrics, series, &labels) {
                    Some(theirs) if theirs == ours as f64 => {}
                    // Classes that never happened have no series.
                    None if ours == 0 => {}
                    theirs => found.push(format!(
                        "{name}: {what}: the metrics say {}, the readers did {ours}",
                        theirs.map_or("nothing".to_owned(), |theirs| theirs.to_string())
                    )),
                }
            };
            let people = |event| [("event", event), ("class", "human")];
            let machines = |event| [("event", event), ("class", "machine")];
            check("accepted", "estafette_campaign_message_contacts", &[("set", "accepted")], variant.mails);
            let unique = "estafette_campaign_message_unique_contacts";
            check("people who opened", unique, &people("open"), variant.opened);
            check("people who clicked", unique, &people("click"), variant.clicked);
            check("unsubscribed", unique, &people("unsubscribe"), variant.unsubscribed);
            let events = "estafette_campaign_message_events";
            check("opens of machines", events, &machines("open"), variant.machine_opens);
            check("clicks of machines", events, &machines("click"), variant.machine_clicks);
        }
        found
    }
}

/// Messages of all deliveries, by name; the same name in two deliveries is added up by [`total`].
fn messages(report: &Value) -> BTreeMap<&str, Vec<&Value>> {
    let mut by_name: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    let deliveries = report["deliveries"].as_array().map_or(&[][..], Vec::as_slice);
    for message in deliveries.iter().flat_map(|d| d["messages"].as_array().map_or(&[][..], Vec::as_slice)) {
        by_name.entry(message["name"].as_str().unwrap_or_default()).or_default().push(message);
    }
    by_name
}

fn total(messages: &[&Value], path: &str) -> u64 {
    messages.iter().filter_map(|message| message.pointer(path)?.as_u64()).sum()
}

impl VariantCount {
    fn compare(&self, name: &str, theirs: &[&Value], events: bool, found: &mut Vec<String>) {
        let mut check = |what: &str, path: &str, ours: u64| {
            let theirs = total(theirs, path);
            if theirs != ours {
                found.push(format!("{name}: {what}: the report says {theirs}, the readers did {ours}"));
            }
        };
        check("accepted", "/accepted", self.mails);
        check("people who opened", "/opened/unique", self.opened);
        check("opens of people", "/opened/total", self.opened);
        check("opens of machines", "/opened/machine", self.machine_opens);
        check("people who clicked", "/clicked/unique", self.clicked);
        check("clicks of people", "/clicked/total", self.clicked);
        check("clicks of machines", "/clicked/machine", self.machine_clicks);
        check("suspect clicks", "/clicked/suspect", 0);
        check("unsubscribed", "/unsubscribed", self.unsubscribed);
        if events {
            check("delivered", "/feedback/delivered/unique", self.delivered);
            check("bounced", "/feedback/bounced_hard/unique", self.bounced);
            check("complained", "/feedback/complained/unique", self.complained);
            check("converted", "/feedback/converted/unique", self.converted);
        }
        let mut links: BTreeMap<u64, u64> = BTreeMap::new();
        for link in theirs.iter().flat_map(|m| m["links"].as_array().map_or(&[][..], Vec::as_slice)) {
            *links.entry(link["index"].as_u64().unwrap_or(0)).or_default() += link["total"].as_u64().unwrap_or(0);
        }
        links.retain(|_, clicks| *clicks > 0);
        if links != self.links {
            found.push(format!("{name}: clicks by link: the report says {links:?}, the readers did {:?}", self.links));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn count() -> Count {
        let a = VariantCount {
            mails: 10,
            opened: 4,
            clicked: 2,
            machine_clicks: 6,
            links: BTreeMap::from([(1, 2)]),
            ..VariantCount::default()
        };
        Count { mails: 10, variants: BTreeMap::from([("A".to_owned(), a)]), ..Count::default() }
    }

    fn report(opened: u64) -> Value {
        json!({"deliveries": [{"messages": [{
            "name": "A", "accepted": 10, "unsubscribed": 0,
            "opened": {"unique": opened, "total": opened, "machine": 0, "suspect": 0},
            "clicked": {"unique": 2, "total": 2, "machine": 6, "suspect": 0},
            "links": [{"index": 0, "unique": 0, "total": 0}, {"index": 1, "unique": 2, "total": 2}],
        }]}]})
    }

    #[test]
    fn accounts_that_agree_are_silent_and_others_name_the_figure() {
        assert_eq!(count().differences(&report(4), false), Vec::<String>::new());
        let found = count().differences(&report(5), false);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("opened: the report says 5, the readers did 4"), "{found:?}");
        assert_eq!(count().differences(&report(4), true), Vec::<String>::new(), "no events on either side");
    }

    #[test]
    fn metrics_that_say_something_else_or_nothing_are_differences() {
        let line = |name: &str, labels: &str, n: u64| {
            format!("estafette_campaign_message_{name}{{campaign=\"c\",variant=\"A\",{labels}}} {n}\n")
        };
        let class = |event: &str, class: &str| format!("event=\"{event}\",class=\"{class}\"");
        let text = [
            line("contacts", "set=\"accepted\"", 10),
            line("unique_contacts", &class("open", "human"), 4),
            line("unique_contacts", &class("click", "human"), 2),
            line("events", &class("click", "machine"), 6),
        ];
        assert_eq!(count().differences_from_metrics(&text.concat()), Vec::<String>::new());
        let found = count().differences_from_metrics(&text[..3].concat());
        assert_eq!(found, ["A: clicks of machines: the metrics say nothing, the readers did 6"]);
        let wrong = text.concat().replace("} 4", "} 5");
        assert_eq!(count().differences_from_metrics(&wrong).len(), 1, "{wrong}");
    }

    #[test]
    fn a_missing_message_and_a_second_copy_are_differences() {
        let mut two = count();
        two.variants.insert("B".to_owned(), VariantCount::default());
        two.duplicates = 1;
        let found = two.differences(&report(4), false);
        assert!(found.iter().any(|f| f.contains("no message \"B\"")), "{found:?}");
        assert!(found.iter().any(|f| f.contains("came twice")), "{found:?}");
        assert_eq!(Count::default().differences(&report(4), false), ["nobody read \"A\""]);
    }
}
