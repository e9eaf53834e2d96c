//! Metrics and labels of dashboards, rules and their tests against the engine's catalogue.

use std::collections::BTreeSet;

use estafette::metrics::{CATALOGUE, Kind, Metric};
use promql_parser::label::MatchOp;
use promql_parser::parser::{Expr, LabelModifier};

use super::Prometheus;
use super::queries::{boards, matchers, parse, plain, selectors, walk};

/// Labels that Prometheus adds to every series.
const ADDED: [&str; 2] = ["job", "instance"];
/// Series that Prometheus makes itself.
const OWN: [&str; 4] = ["up", "ALERTS", "scrape_duration_seconds", "scrape_samples_scraped"];

/// The row of the catalogue behind a series, and whether the series has the label `le`.
fn row(name: &str) -> Option<(&'static Metric, bool)> {
    CATALOGUE.iter().find_map(|metric| match metric.kind {
        Kind::Histogram => ["_bucket", "_sum", "_count"]
            .into_iter()
            .find(|suffix| name.strip_suffix(suffix) == Some(metric.name))
            .map(|suffix| (*metric, suffix == "_bucket")),
        _ => (metric.name == name).then_some((*metric, false)),
    })
}

/// What is wrong with the names of an expression. `recorded` are the names of recording rules.
fn unknown(expression: &str, recorded: &BTreeSet<String>) -> Vec<String> {
    let parsed = parse(expression);
    let mut wrong = Vec::new();
    let mut labels: BTreeSet<String> = ADDED.iter().map(|label| (*label).to_owned()).collect();
    let mut any_label = false;
    for selector in selectors(&parsed) {
        let name = selector.name.clone().unwrap_or_default();
        if OWN.contains(&name.as_str()) {
            any_label |= name == "ALERTS";
            continue;
        }
        if recorded.contains(&name) {
            labels.insert("connector".to_owned());
            continue;
        }
        let Some((metric, has_le)) = row(&name) else {
            wrong.push(format!("{name} is not in the catalogue"));
            continue;
        };
        let mut own: BTreeSet<String> = metric.labels.iter().map(|label| (*label).to_owned()).collect();
        own.extend(has_le.then(|| "le".to_owned()));
        for matcher in matchers(selector) {
            if !own.contains(&matcher.name) && !ADDED.contains(&matcher.name.as_str()) {
                wrong.push(format!("{name} has no label {}", matcher.name));
            }
            if matcher.op == MatchOp::NotEqual && matcher.value.is_empty() {
                wrong.push(format!("{name}: {} is never empty", matcher.name));
            }
        }
        labels.extend(own);
    }
    walk(&parsed, &mut |part| {
        if let Expr::Aggregate(aggregate) = part
            && let Some(LabelModifier::Include(by)) = &aggregate.modifier
        {
            let strange = by.labels.iter().filter(|label| !any_label && !labels.contains(*label));
            wrong.extend(strange.map(|label| format!("{label} is a label of no series there")));
        }
    });
    wrong.into_iter().map(|what| format!("{what}: {expression}")).collect()
}

#[test]
fn dashboards_ask_for_series_and_labels_that_the_engine_has() {
    let none = BTreeSet::new();
    let mut wrong = Vec::new();
    for board in boards() {
        for question in board.questions() {
            let found = unknown(&plain(&question.expression), &none).into_iter();
            wrong.extend(found.map(|what| format!("{} / {}: {what}", board.name, question.panel)));
        }
        for (name, query) in board.variables() {
            let inner =
                query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).expect("label_values");
            let (selector, label) = inner.rsplit_once(", ").expect("a series and a label");
            wrong.extend(unknown(&format!("sum by ({label}) ({})", plain(selector)), &none));
            assert!(!name.is_empty(), "{query}");
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// A Prometheus that scrapes nothing reads the rules as users' will.
#[test]
fn rules_ask_for_series_and_labels_that_the_engine_has() {
    let rules = Prometheus::start("127.0.0.1:1", "no key").rules();
    let recorded: BTreeSet<String> =
        rules.iter().filter(|rule| rule["type"] == "recording").map(|rule| rule["name"].to_string()).collect();
    let recorded: BTreeSet<String> = recorded.into_iter().map(|name| name.trim_matches('"').to_owned()).collect();
    assert!(recorded.len() >= 10, "{recorded:?}");
    let wrong: Vec<String> =
        rules.iter().flat_map(|rule| unknown(rule["query"].as_str().expect("a query"), &recorded)).collect();
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_wrong_name_is_found() {
    let none = BTreeSet::new();
    let found = |expression: &str| unknown(expression, &none).len();
    assert_eq!(found("sum by (connector, instance) (rate(estafette_messages_total{outcome=\"accepted\"}[1m]))"), 0);
    assert_eq!(found("histogram_quantile(0.9, sum by (le) (rate(estafette_round_trip_seconds_bucket[1m])))"), 0);
    assert_eq!(found("rate(estafette_message_total[1m])"), 1, "a name");
    assert_eq!(found("rate(estafette_messages_total{provider=\"x\"}[1m])"), 1, "a label");
    assert_eq!(found("sum by (reason) (rate(estafette_messages_total[1m]))"), 1, "a label to sum by");
    assert_eq!(found("estafette_round_trip_seconds"), 1, "a histogram has no series of its own name");
    assert_eq!(found("rate(estafette_round_trip_seconds_sum{le=\"1\"}[1m])"), 1, "le is of buckets");
}
