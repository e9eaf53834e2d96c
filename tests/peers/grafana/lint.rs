//! Rules of good dashboards, after those of Grafana's own linter, on the generated files.

use std::collections::{BTreeMap, BTreeSet};

use promql_parser::parser::Expr;
use serde_json::Value;

use super::queries::{Board, boards, matchers, parse, plain, selectors, text, walk};

/// What is wrong with the dashboards, by a rule that answers for one.
fn wrong(rule: impl Fn(&Board) -> Vec<String>) -> Vec<String> {
    boards().iter().flat_map(|board| rule(board).into_iter().map(|what| format!("{}: {what}", board.name))).collect()
}

fn panels_that(board: &Board, wrong: impl Fn(&Value) -> bool) -> Vec<String> {
    board.panels().into_iter().filter(|panel| wrong(panel)).map(|panel| text(&panel["title"])).collect()
}

#[test]
fn every_panel_says_what_it_shows_in_which_unit_and_what_to_do() {
    let none: [String; 0] = [];
    let advice = |panel: &Value| {
        let said = panel["description"].as_str().unwrap_or_default();
        !said.split_once("**If it looks bad:**").is_some_and(|(what, to_do)| what.len() > 10 && to_do.len() > 5)
    };
    assert_eq!(wrong(|board| panels_that(board, advice)), none, "no advice");
    let unit = |panel: &Value| panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default().is_empty();
    assert_eq!(wrong(|board| panels_that(board, unit)), none, "no unit");
    let untitled = |panel: &Value| panel["title"].as_str().unwrap_or_default().is_empty();
    assert_eq!(wrong(|board| panels_that(board, untitled)), none, "no title");
}

#[test]
fn panels_that_ask_the_same_say_the_same() {
    let mut said: BTreeMap<Vec<String>, (String, String)> = BTreeMap::new();
    for board in boards() {
        for panel in board.panels() {
            let targets = panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
            let asked: Vec<String> =
                std::iter::once(&panel["type"]).chain(targets.iter().map(|target| &target["expr"])).map(text).collect();
            let (title, words) = (text(&panel["title"]), text(&panel["description"]));
            let (place, first) =
                said.entry(asked).or_insert_with(|| (format!("{} / {title}", board.name), words.clone()));
            assert_eq!(*first, words, "{} / {title} and {place} are one panel with two descriptions", board.name);
        }
    }
}

#[test]
fn data_sources_are_the_variable_and_queries_ask_the_chosen_instances() {
    let none: [String; 0] = [];
    let source = |value: &Value| value["uid"] == "${datasource}" && value["type"] == "prometheus";
    let fixed = |panel: &Value| {
        let targets = panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
        targets.is_empty() || !source(&panel["datasource"]) || !targets.iter().all(|t| source(&t["datasource"]))
    };
    assert_eq!(wrong(|board| panels_that(board, fixed)), none, "a panel without queries, or with a source of its own");
    let elsewhere = |board: &Board| {
        let asks = board.questions().into_iter().filter(|question| {
            let parsed = parse(&plain(&question.expression));
            // Alerts are Prometheus' own series, over all instances.
            let all = selectors(&parsed).into_iter().filter(|selector| selector.name.as_deref() != Some("ALERTS"));
            all.into_iter().any(|selector| !matchers(selector).any(|m| m.name == "instance" && m.value == ".*"))
        });
        asks.map(|question| format!("{}: {}", question.panel, question.expression)).collect()
    };
    assert_eq!(wrong(elsewhere), none, "queries without the instance");
}

#[test]
fn counters_are_seen_through_rates_over_grafanas_interval() {
    let none: [String; 0] = [];
    let bare = |board: &Board| {
        let bad = board.questions().into_iter().filter(|question| {
            let parsed = parse(&plain(&question.expression));
            let (mut counters, mut under_rate) = (0, 0);
            let counts = |name: &Option<String>| {
                let name = name.as_deref().unwrap_or_default();
                ["_total", "_bucket", "_sum", "_count"].iter().any(|ending| name.ends_with(ending))
            };
            walk(&parsed, &mut |part| match part {
                Expr::VectorSelector(selector) if counts(&selector.name) => counters += 1,
                Expr::Call(call) if matches!(call.func.name, "rate" | "increase" | "irate") => under_rate += 1,
                _ => {}
            });
            let gauges = selectors(&parsed).iter().filter(|selector| !counts(&selector.name)).count();
            // Counters stand in range selectors only, and rates are taken of counters only.
            counters > 0 || under_rate > selectors(&parsed).len() - gauges
        });
        bad.map(|question| format!("{}: {}", question.panel, question.expression)).collect()
    };
    assert_eq!(wrong(bare), none, "a counter without a rate, or a rate of a gauge");
    let own_interval = |board: &Board| {
        let bad = board.questions().into_iter().filter(|question| {
            let mut ranges = question.expression.split('[').skip(1).filter_map(|rest| rest.split(']').next());
            // Complaints come hours after what they complain of.
            !ranges.all(|range| matches!(range, "$__rate_interval" | "$__range" | "6h"))
        });
        bad.map(|question| format!("{}: {}", question.panel, question.expression)).collect()
    };
    assert_eq!(wrong(own_interval), none, "ranges that do not follow the zoom");
}

#[test]
fn ids_are_unique_panels_do_not_overlap_and_links_lead_somewhere() {
    let boards = boards();
    let uids: BTreeSet<String> = boards.iter().map(|board| text(&board.json["uid"])).collect();
    assert_eq!(uids.len(), boards.len(), "uids are unique: {uids:?}");
    for board in &boards {
        let all = board.json["panels"].as_array().expect("panels");
        let ids: BTreeSet<u64> = all.iter().filter_map(|panel| panel["id"].as_u64()).collect();
        assert_eq!(ids.len(), all.len(), "{}: each panel has an id of its own", board.name);
        let mut taken = BTreeSet::new();
        for panel in all {
            let at = |side: &str| panel["gridPos"][side].as_u64().unwrap_or_default();
            assert!(at("x") + at("w") <= 24, "{}: {} is wider than the page", board.name, panel["title"]);
            for (x, y) in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
                assert!(taken.insert((x, y)), "{}: {} lies on another panel", board.name, panel["title"]);
            }
        }
        let links = board.json["links"].as_array().expect("links");
        assert_eq!(links.len(), boards.len() - 1, "{}: a link to each other dashboard", board.name);
        for link in links {
            let uid = link["url"].as_str().and_then(|url| url.strip_prefix("/d/")).expect("a dashboard's address");
            assert!(uids.contains(uid), "{}: {uid} is no dashboard", board.name);
            assert!(link["keepTime"] == true && link["includeVars"] == true, "{}: {link}", board.name);
        }
        let refresh = board.json["refresh"].as_str().unwrap_or_default();
        assert_eq!(refresh, "10s", "{}: it is alive", board.name);
    }
}

#[test]
fn variables_say_what_they_are_and_are_kept_fresh() {
    for board in boards() {
        let list = board.json["templating"]["list"].as_array().expect("variables");
        let names: Vec<String> = list.iter().map(|variable| text(&variable["name"])).collect();
        assert_eq!(names[..2], ["datasource", "instance"], "{}", board.name);
        for variable in list {
            assert!(variable["label"].is_string() && variable["description"].is_string(), "{}: {variable}", board.name);
            assert!(variable["type"] == "datasource" || variable["refresh"] == 2, "{}: {variable}", board.name);
        }
    }
}
