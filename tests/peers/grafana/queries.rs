//! What the dashboards ask, read out of their JSON; and expressions taken apart.

use promql_parser::label::Matcher;
use promql_parser::parser::{self, Expr, VectorSelector};
use serde_json::Value;

use super::{files, read};

/// One dashboard.
pub struct Board {
    pub name: String,
    pub json: Value,
}

/// A question of a panel.
#[derive(Clone, Debug)]
pub struct Question {
    pub board: String,
    pub panel: String,
    pub expression: String,
    /// Of now, and not over time.
    pub instant: bool,
}

pub fn boards() -> Vec<Board> {
    let paths = files("dashboards", "json");
    let board = |path: &std::path::PathBuf| Board {
        name: path.file_stem().expect("a name").to_string_lossy().into_owned(),
        json: serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
    };
    paths.iter().map(board).collect()
}

impl Board {
    /// Panels that show something: rows are not among them.
    pub fn panels(&self) -> Vec<&Value> {
        let panels = self.json["panels"].as_array().expect("panels").iter();
        panels.filter(|panel| panel["type"] != "row").collect()
    }

    pub fn questions(&self) -> Vec<Question> {
        let panels = self.panels().into_iter();
        let each = panels.flat_map(|panel| {
            let targets = panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default().iter();
            targets.map(move |target| Question {
                board: self.name.clone(),
                panel: text(&panel["title"]),
                expression: text(&target["expr"]),
                instant: target["instant"] == true,
            })
        });
        each.collect()
    }

    /// Name and query of the variables that Prometheus answers.
    pub fn variables(&self) -> Vec<(String, String)> {
        let all = self.json["templating"]["list"].as_array().expect("variables").iter();
        all.filter(|v| v["type"] == "query").map(|v| (text(&v["name"]), text(&v["query"]["query"]))).collect()
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}")).to_owned()
}

/// Grafana's own variables in an expression, at a scrape interval of a second.
pub fn with_ranges(expression: &str) -> String {
    expression.replace("$__rate_interval", "15s").replace("$__range", "5m")
}

/// An expression with every variable replaced by something that may stand there.
pub fn plain(expression: &str) -> String {
    ["$instance", "$connector", "$campaign"]
        .iter()
        .fold(with_ranges(expression), |text, variable| text.replace(variable, ".*"))
}

pub fn parse(expression: &str) -> Expr {
    parser::parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}"))
}

/// The parts of an expression, itself first.
pub fn walk<'e>(expression: &'e Expr, visit: &mut dyn FnMut(&'e Expr)) {
    visit(expression);
    match expression {
        Expr::Aggregate(aggregate) => {
            walk(&aggregate.expr, visit);
            if let Some(param) = &aggregate.param {
                walk(param, visit);
            }
        }
        Expr::Unary(unary) => walk(&unary.expr, visit),
        Expr::Binary(binary) => {
            walk(&binary.lhs, visit);
            walk(&binary.rhs, visit);
        }
        Expr::Paren(paren) => walk(&paren.expr, visit),
        Expr::Subquery(subquery) => walk(&subquery.expr, visit),
        Expr::Call(call) => call.args.args.iter().for_each(|arg| walk(arg, visit)),
        _ => {}
    }
}

/// The selectors of an expression.
pub fn selectors(expression: &Expr) -> Vec<&VectorSelector> {
    let mut found = Vec::new();
    walk(expression, &mut |part| match part {
        Expr::VectorSelector(selector) => found.push(selector),
        Expr::MatrixSelector(matrix) => found.push(&matrix.vs),
        _ => {}
    });
    found
}

pub fn matchers(selector: &VectorSelector) -> impl Iterator<Item = &Matcher> {
    selector.matchers.matchers.iter().chain(selector.matchers.or_matchers.iter().flatten())
}

/// What an alert compares, without its thresholds: each side of a comparison and of and, or, unless that is not a number
/// alone; what `absent` looks for.
pub fn compared(expression: &Expr) -> Vec<String> {
    match expression {
        Expr::Paren(paren) => compared(&paren.expr),
        Expr::Binary(binary) if binary.op.is_comparison_operator() || binary.op.is_set_operator() => {
            [&binary.lhs, &binary.rhs].into_iter().flat_map(|side| compared(side)).collect()
        }
        Expr::Call(call) if call.func.name == "absent" => call.args.args.iter().flat_map(|arg| compared(arg)).collect(),
        other if selectors(other).is_empty() => Vec::new(),
        other => vec![other.to_string()],
    }
}

#[test]
fn alerts_are_taken_apart_at_their_thresholds() {
    let parts = |expression: &str| compared(&parse(expression));
    assert_eq!(parts("sum(a) > 0.1"), ["sum(a)"]);
    assert_eq!(parts("2 * a / b < 3 * 4"), ["2 * a / b"]);
    assert_eq!(parts("(a > 1 or (b > 2 unless a)) and rate(c[5m]) > d"), ["a", "b", "a", "rate(c[5m])", "d"]);
    assert_eq!(parts("absent(up{job=\"x\"})"), ["up{job=\"x\"}"]);
}
