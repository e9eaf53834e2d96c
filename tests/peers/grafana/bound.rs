//! However many campaigns there were: a scrape stays small, and `promtool` finds nothing to complain of.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use serde_json::json;

use super::INSTALL;
use crate::served::Served;
use crate::support::spawn;

/// The most samples of a scrape.
const SAMPLES: usize = 5_000;
const CAMPAIGNS: usize = 500;
/// Each has series of its own, used or not: campaigns get what they leave.
const CONNECTORS: usize = 20;

#[test]
fn after_five_hundred_campaigns_a_scrape_has_fewer_than_five_thousand_series() {
    let connector = |name: String| format!("[[connectors]]\nname = \"{name}\"\nkind = \"null\"\n");
    let others: String = (1..CONNECTORS).map(|number| connector(format!("other-{number}"))).collect();
    let served = Served::start(&format!("metrics_open = true\n{}{others}", connector("null".into())));
    served.people("few", 3, "x.test");
    let names: Vec<String> = (0..CAMPAIGNS).map(|number| format!("campaign {number:03}")).collect();
    for name in &names {
        // Half of them are tests, which have the most series.
        let half = json!({
            "kind": "ab_split", "variants": [{"name": "A", "subject": "One"}, {"name": "B", "subject": "Two"}],
            "test": {"sample": "70%", "decide_after": "24h", "window": "12h"},
        });
        served.campaign(name, "null", "few", &if name.ends_with(['1', '3', '5', '7', '9']) { half } else { json!({}) });
        served.act(name, "start").expect(200);
    }
    served.await_state(names[CAMPAIGNS - 2].as_str(), "finished");
    let text = served.http.get(format!("{}/metrics", served.api())).send().expect("an answer").text().expect("figures");
    let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    assert!(samples < SAMPLES, "{samples} samples");
    assert!(samples > SAMPLES / 2, "{samples} samples: campaigns are shown while there is room");
    assert!(text.contains("campaign=\"campaign 499\""), "the newest one is shown");
    complaints(&text);
    eprintln!(
        "{samples} samples in a scrape of {CAMPAIGNS} campaigns and {CONNECTORS} connectors; promtool says nothing of them"
    );
}

/// Fails if `promtool check metrics` says anything.
fn complaints(text: &str) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = spawn(&mut command, INSTALL);
    promtool.0.stdin.take().expect("its input").write_all(text.as_bytes()).expect("it reads");
    let mut said = String::new();
    promtool.0.stdout.take().expect("its output").read_to_string(&mut said).expect("its words");
    promtool.0.stderr.take().expect("its complaints").read_to_string(&mut said).expect("its complaints");
    let status = promtool.0.wait().expect("it ends");
    assert!(status.success() && said.trim().is_empty(), "{status}:\n{said}");
}
