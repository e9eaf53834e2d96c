//! Flows for people: the nodes of a report, and dry runs. Owns no state.

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::{Map, Value as Json, json};

use super::client::Client;
use super::output;

#[derive(Debug, Args)]
pub struct DryRunArgs {
    pub campaign: String,
    /// When it would start (RFC 3339); by default now.
    #[arg(long)]
    pub at: Option<String>,
    /// A share of those who are asked, such as opened=20% or clicked=0.03; by default unknown, and counted both ways.
    /// Names: delivered, opened, clicked, unsubscribed, complained.
    #[arg(long, value_name = "NAME=SHARE")]
    pub assume: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ChooseArgs {
    pub campaign: String,
    /// Name of a variant.
    #[arg(required_unless_present = "nobody")]
    pub variant: Option<String>,
    /// The rest gets nothing.
    #[arg(long, conflicts_with = "variant")]
    pub nobody: bool,
    /// Id of the test's node, as the report has it; needed only where several tests wait for a winner.
    #[arg(long, value_name = "NODE")]
    pub test: Option<String>,
    /// Who decides; kept with the decision.
    #[arg(long)]
    pub by: Option<String>,
}

/// Rates that a dry run can assume.
const RATES: [&str; 5] = ["delivered", "opened", "clicked", "unsubscribed", "complained"];

/// Nodes of a run with their contacts, and what share came to each end; nothing for a flow that only sends.
pub(super) fn nodes(report: &Json) -> String {
    let nodes = report["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    let only_sends = nodes.iter().all(|node| matches!(node["kind"].as_str(), Some("start" | "send" | "end")));
    if only_sends && nodes.len() <= 3 {
        return String::new();
    }
    let count = |value: &Json| output::grouped(value.as_u64().unwrap_or(0));
    let mut lines = vec![format!("  {:<32}{:>12}{:>12}", "node", "arrived", "there now")];
    for node in nodes {
        let name = title(node);
        let left = node["left"].as_object().into_iter().flatten();
        let mut more: Vec<String> = left.map(|(exit, n)| format!("{} {}", output::clean(exit), count(n))).collect();
        if let (Some(end), Some(rate)) = (node["end"].as_str(), node["rate"].as_f64()) {
            more.push(format!("{end}, {:.2} % of those who entered", rate * 100.0));
        }
        // What is counted as delivered is not what the word says everywhere.
        let does = node["does"].as_str().unwrap_or_default();
        more.extend(does.contains("delivered").then(|| output::clean(does)));
        let (arrived, contacts) = (count(&node["arrived"]), count(&node["contacts"]));
        lines.push(format!("  {name:<32}{arrived:>12}{contacts:>12}  {}", more.join(", ")).trim_end().to_owned());
    }
    lines.join("\n")
}

fn title(node: &Json) -> String {
    let (id, name) = (output::text(&node["id"]), output::text(&node["name"]));
    if id == name { id } else { format!("{id} {name}") }
}

pub(super) fn dry_run(client: &Client, path: &str, options: &DryRunArgs, as_json: bool) -> anyhow::Result<()> {
    let mut rates = Map::new();
    for assumed in &options.assume {
        let (name, share) = share(assumed)?;
        rates.insert(name.to_owned(), json!(share));
    }
    let mut body = json!({ "rates": rates });
    if let Some(at) = &options.at {
        let is_time = serde_json::from_value::<crate::clock::Timestamp>(json!(at)).is_ok();
        ensure!(is_time, "--at {at:?} is no instant; write it as 2026-12-01T09:00:00Z");
        body["at"] = json!(at);
    }
    let found = client.post(path, &body)?;
    if as_json { output::json(&found) } else { print(&found) }
}

/// `opened=20%` or `opened=0.2`.
fn share(text: &str) -> anyhow::Result<(&str, f64)> {
    let Some((name, share)) = text.split_once('=') else { bail!("{text:?} is no NAME=SHARE, such as opened=20%") };
    if !RATES.contains(&name) {
        bail!("there is no rate {name:?}; the rates are {}", RATES.join(", "));
    }
    let (number, whole) = share.strip_suffix('%').map_or((share, 1.0), |number| (number, 100.0));
    let number: f64 = number.trim().parse().with_context(|| format!("{share:?} is no share, such as 20% or 0.2"))?;
    Ok((name, number / whole))
}

fn print(found: &Json) -> anyhow::Result<()> {
    let count = |value: &Json| {
        let (least, most) = (value["at_least"].as_u64().unwrap_or(0), value["at_most"].as_u64().unwrap_or(0));
        if least == most {
            output::grouped(most)
        } else {
            format!("{} to {}", output::grouped(least), output::grouped(most))
        }
    };
    let entered = output::grouped(found["entered"].as_u64().unwrap_or(0));
    output::line(&format!(
        "dry run, nothing is sent: {entered} contacts would enter at {}",
        output::text(&found["at"])
    ))?;
    for node in found["nodes"].as_array().into_iter().flatten() {
        let arrivals = node["arrivals"].as_array().map_or(&[][..], Vec::as_slice);
        let time = |arrival: Option<&Json>| arrival.map(|arrival| output::text(&arrival["at"])).unwrap_or_default();
        let when = match arrivals {
            [] => String::new(),
            [one] => format!("  at {}", time(Some(one))),
            [first, .., last] => format!("  {} to {}", time(Some(first)), time(Some(last))),
        };
        let messages = match &node["messages"] {
            Json::Null => String::new(),
            messages => format!("  messages: {}", count(messages)),
        };
        let does = output::text(&node["does"]);
        output::line(&format!("  {:<32}{:>24}{when}{messages}  ({does})", title(node), count(&node["contacts"])))?;
    }
    for assumed in found["assumptions"].as_array().into_iter().flatten() {
        output::line(&format!("  assumed: {}", output::text(assumed)))?;
    }
    if let Some(why) = found["stopped"].as_str() {
        output::line(&format!("  not looked at further: {}", output::clean(why)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage_or_a_fraction_of_a_known_rate() {
        assert_eq!(share("opened=20%").expect("a share"), ("opened", 0.2));
        assert_eq!(share("clicked=0.03").expect("a share"), ("clicked", 0.03));
        for wrong in ["opened", "opend=1%", "opened=much"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ends_are_shown_with_their_rates_and_plain_campaigns_without_nodes() {
        let plain = json!({"nodes": [{"kind": "start"}, {"kind": "send"}, {"kind": "end"}]});
        assert_eq!(nodes(&plain), "", "nothing to tell");
        let node = json!({"id": "happy", "name": "happy", "kind": "end", "end": "success", "rate": 0.25,
            "arrived": 500, "contacts": 500, "left": {}});
        let told = nodes(&json!({"nodes": [{"kind": "split", "id": "a", "name": "b", "left": {"x": 3}}, node]}));
        assert!(told.contains("success, 25.00 % of those who entered") && told.contains("x 3"), "{told}");
    }
}
