//! The proof: a real Prometheus scrapes a real engine at work, and every panel, variable and rule gets an answer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Prometheus;
use super::queries::{Question, boards, compared, parse, with_ranges};
use super::scenario::{SCRAPE_KEY, Scenario};
use crate::support::{PATIENCE, await_some};

/// The values of a variable, as Grafana asks for them.
fn values(prometheus: &Prometheus, query: &str) -> Vec<String> {
    let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).expect("label_values");
    let (selector, label) = inner.rsplit_once(", ").expect("a series and a label");
    let selector = selector.replace("$instance", ".*");
    let found = prometheus.ask(&format!("label/{label}/values"), &[("match[]", selector)]);
    let found = found.unwrap_or_else(|error| panic!("{query}: {error}"));
    found.as_array().into_iter().flatten().filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

/// Asks again and again until nothing is left without an answer; what never has one, at the end. An error is one at once.
fn unanswered<T>(
    mut asked: Vec<T>,
    answers: impl Fn(&T) -> Result<usize, String>,
    name: impl Fn(&T) -> String,
) -> Vec<String> {
    let since = Instant::now();
    loop {
        let mut errors = Vec::new();
        asked.retain(|question| match answers(question) {
            Ok(numbers) => numbers == 0,
            Err(error) => {
                errors.push(format!("{}: {error}", name(question)));
                false
            }
        });
        assert_eq!(errors, Vec::<String>::new(), "Prometheus refuses");
        if asked.is_empty() || since.elapsed() > PATIENCE {
            return asked.iter().map(name).collect();
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn every_panel_every_variable_and_every_rule_has_an_answer_from_an_engine_at_work() {
    let scenario = Scenario::start();
    let target = scenario.target();
    let prometheus = Prometheus::start(&target, SCRAPE_KEY);
    // What happens before the first scrape is no increase.
    let scraped = "sum_over_time(up{job=\"estafette\"}[1m]) > 1";
    await_some("two scrapes", || prometheus.now(scraped).ok().filter(|targets| *targets == 1));
    scenario.play();

    let mut campaigns = Vec::new();
    for board in boards() {
        for (name, query) in board.variables() {
            let found = values(&prometheus, &query);
            match name.as_str() {
                "instance" => assert_eq!(found, std::slice::from_ref(&target), "{}: {query}", board.name),
                "connector" => assert_eq!(found, ["faulty", "inbox", "relay", "slow"], "{query}"),
                "campaign" => {
                    assert_eq!(found, ["faulty", "flow", "relayed", "slow", "split"], "{query}");
                    campaigns = found;
                }
                other => panic!("{}: nobody asks for {other}", board.name),
            }
        }
    }

    // As Grafana fills them in: the instance and the connectors by their regular expression, one campaign at a time.
    let questions: Vec<Question> = boards().iter().flat_map(|board| board.questions()).collect();
    assert!(questions.len() > 150, "{} questions", questions.len());
    let answers = |question: &Question| {
        let common = with_ranges(&question.expression)
            .replace("$instance", &target.replace('.', "\\\\."))
            .replace("$connector", ".*");
        let each = if common.contains("$campaign") { campaigns.clone() } else { vec![String::new()] };
        let mut numbers = 0;
        for campaign in each {
            let expression = common.replace("$campaign", &campaign);
            numbers += if question.instant { prometheus.now(&expression)? } else { prometheus.lately(&expression)? };
        }
        Ok(numbers)
    };
    let name = |question: &Question| format!("{} / {}: {}", question.board, question.panel, question.expression);
    let mut by_board: BTreeMap<String, usize> = BTreeMap::new();
    questions.iter().for_each(|question| *by_board.entry(question.board.clone()).or_default() += 1);
    assert_eq!(unanswered(questions, answers, name), Vec::<String>::new(), "panels that show nothing");
    // For who runs it with --nocapture, and for grafana/PROOF.txt.
    for (board, count) in &by_board {
        eprintln!("{board}: {count} queries of panels, each with an answer");
    }

    rules_are_evaluated(&prometheus);
    assert_eq!(scenario.served.report("slow")["state"], "running", "all this while something was sent");
}

fn rules_are_evaluated(prometheus: &Prometheus) {
    let rules = prometheus.rules();
    let mut asked = Vec::new();
    for rule in &rules {
        let (name, query) = (rule["name"].as_str().expect("a name"), rule["query"].as_str().expect("a query"));
        assert_eq!((&rule["health"], &rule["lastError"]), (&"ok".into(), &serde_json::Value::Null), "{rule}");
        if rule["type"] == "recording" {
            asked.push((name.to_owned(), name.to_owned()));
        } else {
            // Nothing is wrong, so an alert answers nothing; what it compares must be there.
            let parts = compared(&parse(query));
            assert!(!parts.is_empty(), "{name} compares something");
            asked.extend(parts.into_iter().map(|part| (name.to_owned(), part)));
        }
    }
    assert!(asked.len() > 50, "{}", asked.len());
    let unheard = unanswered(asked, |(_, part)| prometheus.now(part), |(name, part)| format!("{name}: {part}"));
    assert_eq!(unheard, Vec::<String>::new(), "rules over nothing");
    eprintln!("{} rules evaluated without an error; all that they compare or record is there", rules.len());
}
