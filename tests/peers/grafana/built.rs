//! Generated files are those of their code; rules have tests and a runbook; what texts name exists.

use std::collections::BTreeSet;
use std::process::Command;

use super::queries::boards;
use super::{INSTALL, Prometheus, files, folder, read};
use crate::support::{python, run};

/// Parses each dashboard with the SDK's own types, and asks that nothing is lost by it.
const PARSE: &str = r#"
import json, sys
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
register_default_plugins()
for path in sys.argv[1:]:
    text = open(path, encoding="utf-8").read()
    parsed = Dashboard.from_json(json.loads(text))
    again = JSONEncoder(sort_keys=True, indent=2).encode(parsed) + "\n"
    assert json.loads(again) == json.loads(text), f"{path} is not what the SDK's types make of it"
    assert parsed.uid and parsed.title and parsed.panels, path
"#;

#[test]
fn the_dashboards_are_what_their_code_builds() {
    let out = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(python());
    command.env("PYTHONDONTWRITEBYTECODE", "1").current_dir(folder()).args(["-m", "build"]).arg(out.path());
    run(&mut command, INSTALL);
    let committed = files("dashboards", "json");
    assert_eq!(std::fs::read_dir(out.path()).expect("a folder").count(), committed.len(), "a file for each module");
    for path in &committed {
        let built = read(&out.path().join(path.file_name().expect("a name")));
        assert!(built == read(path), "{} differs: (cd grafana && ../target/venv/bin/python -m build)", path.display());
    }
    run(Command::new(python()).arg("-c").arg(PARSE).args(&committed), INSTALL);
}

#[test]
fn the_sdk_is_the_one_that_is_asked_for() {
    let wanted = read(&folder().join("requirements.txt"));
    let wanted = wanted.lines().find_map(|line| line.strip_prefix("grafana-foundation-sdk==")).expect("a version");
    let script = "import importlib.metadata as m; print(m.version('grafana-foundation-sdk'))";
    assert_eq!(run(Command::new(python()).arg("-c").arg(script), INSTALL).trim(), wanted);
}

#[test]
fn promtool_likes_the_rules_and_every_alert_fires_when_it_must_and_only_then() {
    run(Command::new("promtool").arg("check").arg("rules").args(files("prometheus/rules", "yml")), INSTALL);
    let tests = files("prometheus/tests", "yml");
    run(Command::new("promtool").arg("test").arg("rules").args(&tests), INSTALL);
    let told: String = tests.iter().map(|path| read(path)).collect();
    let runbook = read(&folder().join("RUNBOOK.md"));
    let rules = Prometheus::start("127.0.0.1:1", "no key").rules();
    let alerts: Vec<_> = rules.iter().filter(|rule| rule["type"] == "alerting").collect();
    assert!(alerts.len() >= 25, "{} alerts", alerts.len());
    for alert in alerts {
        let name = alert["name"].as_str().expect("a name");
        // A test that expects it somewhere, beside a series on which it must not fire.
        let group = told
            .split("\n  # ")
            .find(|group| group.starts_with(&format!("{name}\n")) || group.starts_with(&format!("{name}:")));
        let group = group.unwrap_or_else(|| panic!("{name} has no test"));
        assert!(group.contains("exp_alerts:\n"), "{name} is not shown to fire");
        let quiet = group.contains("instance=\"good\"") || group.contains(&format!("alertname: {name}}}"));
        assert!(quiet, "{name} is not shown not to fire");
        assert!(runbook.contains(&format!("\n## {name}\n")), "{name} is not in the runbook");
        let url = alert["annotations"]["runbook_url"].as_str().unwrap_or_default();
        assert!(url.ends_with(&format!("/grafana/RUNBOOK.md#{}", name.to_lowercase())), "{name}: {url}");
        assert!(["page", "ticket"].contains(&alert["labels"]["severity"].as_str().unwrap_or_default()), "{alert}");
    }
    for entry in runbook.lines().filter_map(|line| line.strip_prefix("## ")) {
        assert!(rules.iter().any(|rule| rule["name"] == entry), "{entry} is in the runbook and is no alert");
    }
}

/// All that people read: descriptions of panels, annotations of alerts, the runbook.
fn texts() -> String {
    let described = boards().into_iter().map(|board| board.json.to_string().replace("\\n", " "));
    let written = ["RUNBOOK.md", "README.md"].map(|name| read(&folder().join(name)));
    let rules = files("prometheus/rules", "yml").iter().map(|path| read(path)).collect::<String>();
    described.chain(written).chain([rules]).collect()
}

#[test]
fn commands_and_entries_that_texts_name_exist() {
    let texts = texts();
    let mut commands = BTreeSet::new();
    for told in texts.split("`estafette ").skip(1).filter_map(|rest| rest.split('`').next()) {
        let verbs: Vec<&str> =
            told.split(' ').take_while(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-')).collect();
        let verbs = verbs.into_iter().filter(|word| !word.starts_with('-')).collect::<Vec<_>>();
        commands.insert(verbs.join(" "));
    }
    assert!(commands.len() > 10, "{commands:?}");
    for command in &commands {
        let output = Command::new(env!("CARGO_BIN_EXE_estafette")).args(command.split(' ')).arg("--help").output();
        let output = output.expect("the program runs");
        assert!(
            output.status.success(),
            "estafette {command} is no command: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let runbook = read(&folder().join("RUNBOOK.md"));
    let named = texts.split("Estafette").skip(1).map(|rest| rest.split(|c: char| !c.is_ascii_alphabetic()).next());
    for name in named.flatten().filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase())) {
        assert!(runbook.contains(&format!("\n## Estafette{name}\n")), "Estafette{name} is no entry of the runbook");
    }
}

#[test]
fn the_provisioned_places_are_those_of_the_compose_file() {
    let compose = read(&folder().join("compose.yaml"));
    let provider = read(&folder().join("provisioning/dashboards/estafette.yml"));
    let source = read(&folder().join("provisioning/datasources/prometheus.yml"));
    assert!(provider.contains("path: /etc/estafette/dashboards"), "{provider}");
    for wanted in [
        "./dashboards:/etc/estafette/dashboards:ro",
        "./provisioning:/etc/grafana/provisioning:ro",
        "./prometheus:/etc/prometheus:ro",
        "/etc/estafette/dashboards/overview.json",
        "--web.listen-address=127.0.0.1:9090",
    ] {
        assert!(compose.contains(wanted), "{wanted} in\n{compose}");
    }
    assert!(source.contains("url: http://127.0.0.1:9090"), "{source}");
    assert!(source.contains("timeInterval: 15s"), "the scrape interval, from which Grafana takes its own: {source}");
    // Its rules, and a key where it looks for one.
    let there = tempfile::tempdir().expect("a folder");
    let copy = |from: &std::path::Path, to: &str| std::fs::write(there.path().join(to), read(from)).expect("a copy");
    std::fs::create_dir(there.path().join("rules")).expect("a folder");
    copy(&folder().join("prometheus/prometheus.yml"), "prometheus.yml");
    for path in files("prometheus/rules", "yml") {
        copy(&path, &format!("rules/{}", path.file_name().expect("a name").to_string_lossy()));
    }
    std::fs::write(there.path().join("scrape.key"), "a key").expect("a key");
    run(Command::new("promtool").args(["check", "config"]).arg(there.path().join("prometheus.yml")), INSTALL);
}
