//! `estafette report` and the live progress of a run. Owns no state.

use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value as Json;

use super::campaigns::run_path;
use super::client::Client;
use super::{Exit, flow, output, sequences};

#[derive(Debug, Args)]
pub struct ReportArgs {
    pub campaign: String,
    /// Another run than the latest.
    #[arg(long)]
    pub run: Option<u32>,
    /// text, or csv: one measure a line.
    #[arg(long, default_value = "text", value_parser = ["text", "csv"])]
    pub format: String,
}

pub(super) fn run(client: &Client, options: &ReportArgs, json: bool) -> anyhow::Result<Exit> {
    let path = run_path(&options.campaign, options.run, "report");
    if options.format == "csv" && !json {
        client.download(&path, &[("format", "csv")], &mut output::file())?;
        return Ok(Exit::Done);
    }
    let report = client.get(&path, &[])?;
    if json {
        output::json(&report)?
    } else {
        print(&report)?
    }
    Ok(Exit::Done)
}

/// What it cannot tell any more.
fn removed(report: &Json) -> Option<String> {
    let at = report["details_removed_at"].as_str()?;
    Some(format!("details removed on {at}: the figures stay, and who is behind them is not known"))
}

/// The report for people.
pub(super) fn print(report: &Json) -> anyhow::Result<()> {
    let (name, run, state) = (output::text(&report["name"]), &report["run"], output::text(&report["state"]));
    output::line(&format!("{name}, run {run}: {state}, {} mode", output::text(&report["mode"])))?;
    output::line(&ledger(&report["ledger"]))?;
    if let Some(words) = pace(report) {
        output::line(&words)?;
    }
    if let Some(words) = removed(report) {
        output::line(&words)?;
    }
    if let Some(words) = audience(&report["audience"]) {
        output::line(&words)?;
    }
    for words in super::schedules::told(report) {
        output::line(&words)?;
    }
    if report["upload"].is_object() {
        output::line(&super::audiences::used(&report["upload"]))?;
    }
    let links = super::history::links(report);
    if !links.is_empty() {
        output::line(&links)?;
    }
    let deliveries = report["deliveries"].as_array().map_or(&[][..], Vec::as_slice);
    for delivery in deliveries {
        if deliveries.len() > 1 {
            output::line(&own_ledger(delivery))?;
        }
        for message in delivery["messages"].as_array().into_iter().flatten() {
            let counts = |what: &str| {
                let c = &message[what];
                let n = |name: &str| output::grouped(c[name].as_u64().unwrap_or(0));
                format!("{} ({} in all, {} suspect, {} machine)", n("unique"), n("total"), n("suspect"), n("machine"))
            };
            output::line(&format!("message {} ({})", message["message"], output::text(&message["name"])))?;
            output::line(&format!("  opened        {}", counts("opened")))?;
            output::line(&format!("  clicked       {}", counts("clicked")))?;
            output::line(&format!("  unsubscribed  {}", message["unsubscribed"]))?;
            for line in feedback(&message["feedback"]) {
                output::line(&line)?;
            }
            for link in message["links"].as_array().into_iter().flatten() {
                output::line(&format!("    {:>7}  {}", output::text(&link["unique"]), output::text(&link["url"])))?;
            }
        }
    }
    let grid = grid(&report["grid"]);
    if !grid.is_empty() {
        output::line(&grid)?;
    }
    let nodes = flow::nodes(report);
    if !nodes.is_empty() {
        output::line(&nodes)?;
    }
    let steps = sequences::steps(&report["steps"]);
    if !steps.is_empty() {
        output::line(&steps)?;
    }
    let tests = tests(report);
    if !tests.is_empty() {
        output::line(&tests)?;
    }
    for sample in report["samples"].as_array().into_iter().flatten() {
        output::line(&format!("  {}: {}", output::text(&sample["class"]), output::text(&sample["text"])))?;
    }
    Ok(())
}

/// A delivery of several: its ledger in a line, what is empty left out.
fn own_ledger(delivery: &Json) -> String {
    let count = |set: &str| delivery[set].as_u64().unwrap_or(0);
    let sets = ["pending", "claimed", "deferred", "accepted", "rejected", "skipped", "unknown"];
    let sets =
        sets.into_iter().filter(|set| count(set) > 0).map(|set| format!("{set} {}", output::grouped(count(set))));
    let parts: Vec<String> =
        std::iter::once(format!("audience {}", output::grouped(count("audience")))).chain(sets).collect();
    let name = output::clean(delivery["name"].as_str().unwrap_or_default());
    format!("delivery {} ({name}): {}", delivery["index"], parts.join(", "))
}

/// What came back on a message; a line each, of what there is.
fn feedback(feedback: &Json) -> Vec<String> {
    let count = |value: &Json| output::grouped(value.as_u64().unwrap_or(0));
    let line = |(name, label): (&str, &str)| {
        let counts = &feedback[name];
        let any = counts["total"].as_u64().unwrap_or(0) > 0 || counts["unique"].as_u64().unwrap_or(0) > 0;
        any.then(|| format!("  {label:<14}{} ({} in all)", count(&counts["unique"]), count(&counts["total"])))
    };
    let names = [
        ("delivered", "delivered"),
        ("bounced_hard", "bounced hard"),
        ("bounced_soft", "bounced soft"),
        ("bounced_policy", "refused later"),
        ("complained", "complained"),
        ("converted", "converted"),
    ];
    let mut lines: Vec<String> = names.into_iter().filter_map(line).collect();
    for (currency, amount) in feedback["converted_value"].as_object().into_iter().flatten() {
        let (amount, currency) = (output::text(amount), output::clean(currency));
        lines.push(format!("  {:<14}{}", "worth", format!("{amount} {currency}").trim_end()));
    }
    for (name, counts) in feedback["custom"].as_object().into_iter().flatten() {
        let (unique, total) = (count(&counts["unique"]), count(&counts["total"]));
        lines.push(format!("  {:<14}{unique} ({total} in all)", output::clean(name)));
    }
    lines
}

/// What each message brought, if there are several; a line each.
pub(super) fn messages(report: &Json) -> String {
    let deliveries = report["deliveries"].as_array().into_iter().flatten();
    let messages: Vec<&Json> = deliveries.flat_map(|d| d["messages"].as_array().into_iter().flatten()).collect();
    if messages.len() < 2 {
        return String::new();
    }
    let count = |value: &Json| output::grouped(value.as_u64().unwrap_or(0));
    let mut lines =
        vec![format!("  {:<32}{:>10}{:>10}{:>10}{:>10}", "message", "contacts", "accepted", "opened", "clicked")];
    for message in messages {
        let name = output::clean(message["name"].as_str().unwrap_or_default());
        let (opened, clicked) = (&message["opened"]["unique"], &message["clicked"]["unique"]);
        lines.push(format!(
            "  {name:<32}{:>10}{:>10}{:>10}{:>10}",
            count(&message["contacts"]),
            count(&message["accepted"]),
            count(opened),
            count(clicked)
        ));
    }
    lines.join("\n")
}

/// Rows and columns of a grid, a line each; empty without one.
fn grid(grid: &Json) -> String {
    let Some(totals) = grid["totals"].as_array().filter(|totals| !totals.is_empty()) else { return String::new() };
    let count = |value: &Json| output::grouped(value.as_u64().unwrap_or(0));
    let head = format!("  {:<32}{:>10}{:>10}{:>10}{:>10}", "grid", "contacts", "accepted", "opened", "clicked");
    let line = |total: &Json| {
        let name = format!("{} = {}", output::text(&total["dimension"]), output::text(&total["value"]));
        let [contacts, accepted, opened, clicked] =
            ["contacts", "accepted", "opened", "clicked"].map(|what| count(&total[what]));
        format!("  {name:<32}{contacts:>10}{accepted:>10}{opened:>10}{clicked:>10}")
    };
    std::iter::once(head).chain(totals.iter().map(line)).collect::<Vec<_>>().join("\n")
}

/// The tests of a run: arms, looks, what was decided and why. Empty without one.
pub(super) fn tests(report: &Json) -> String {
    let tests = report["tests"].as_array().map_or(&[][..], Vec::as_slice);
    let (over, several) = (is_over(report), tests.len() > 1);
    tests.iter().map(|one| test(one, over, several)).collect::<Vec<_>>().join("\n")
}

fn test(test: &Json, over: bool, of_several: bool) -> String {
    let count = |value: &Json| output::grouped(value.as_u64().unwrap_or(0));
    let mut lines = Vec::new();
    let window = test["window_seconds"].as_f64().filter(|seconds| *seconds > 0.0).map(output::duration);
    let window = window.map_or(String::new(), |window| format!(" within {window} of each contact's send"));
    let node = if of_several { format!(" {}", output::text(&test["node"])) } else { String::new() };
    lines.push(format!("  test{node} by {}{window}", output::text(&test["winner_by"])));
    for arm in test["arms"].as_array().into_iter().flatten() {
        let name = output::clean(arm["name"].as_str().unwrap_or_default());
        let rate = arm["rate"].as_f64().map_or("-".to_owned(), |rate| format!("{:.2} %", rate * 100.0));
        let mut line = format!(
            "  variant {name:<12}{:>10} accepted{:>10} delivered and matured{:>10} with events{rate:>10}",
            count(&arm["accepted"]),
            count(&arm["delivered"]),
            count(&arm["events"])
        );
        if let Some(share) = arm["machine_share"].as_f64().filter(|share| *share > 0.0) {
            line.push_str(&format!("  (machines: {:.0} % of all, never counted)", share * 100.0));
        }
        lines.push(line);
        let rails: Vec<String> = arm["cannot_win"].as_array().into_iter().flatten().map(output::text).collect();
        if !rails.is_empty() {
            lines.push(format!("    it cannot win: significantly more {} than another", rails.join(" and ")));
        }
    }
    if test["interleaved"] == false {
        lines.push("  the variants go out at moments of their own, not side by side".to_owned());
    }
    for look in test["looks"].as_array().into_iter().flatten() {
        lines.push(format!("  look {}: {}{}", look["look"], output::text(&look["verdict"]), effect(&look["effect"])));
    }
    let decision = &test["decision"];
    if let Some(reason) = decision["reason"].as_str() {
        let winner = decision["winner"].as_str().map_or("nobody".to_owned(), output::clean);
        let by = output::text(&decision["by"]);
        let label = if decision["proven"] == true || decision["winner"].is_null() { "" } else { " (not proven)" };
        lines.push(format!("  winner: {winner}{label}, decided by {by}: {}", output::clean(reason)));
    } else if let Some(why) = test["waits_for_person"].as_str() {
        lines.push(format!("  a person must choose (campaign choose-winner): {}", output::clean(why)));
    } else if over {
        lines.push("  nobody won: the run ended without a decision".to_owned());
    } else {
        let deadline = test["deadline"].as_str().map_or(String::new(), |at| format!(", until {}", output::clean(at)));
        let moved = test["paused_seconds"].as_f64().filter(|seconds| *seconds > 0.0).map(output::duration);
        let moved = moved.map_or(String::new(), |moved| format!(" (moved by {moved} of pauses)"));
        let waiting = count(&test["waiting"]);
        lines.push(format!("  not decided yet{deadline}{moved}: {waiting} contacts wait for the winner"));
    }
    lines.join("\n")
}

/// What a look rests on, in numbers; nothing without a leader.
fn effect(effect: &Json) -> String {
    let Some(difference) = effect["difference"].as_f64() else { return String::new() };
    let points = |value: &Json| format!("{:+.2}", value.as_f64().unwrap_or(0.0) * 100.0);
    format!(
        "; {} is {:+.2} points ahead of {} (from {} to {}), p = {:.4}",
        output::text(&effect["leader"]),
        difference * 100.0,
        output::text(&effect["other"]),
        points(&effect["interval"][0]),
        points(&effect["interval"][1]),
        effect["p_holm"].as_f64().unwrap_or(1.0)
    )
}

/// The ledger as lines, reasons indented, and whether it balances.
pub(super) fn ledger(ledger: &Json) -> String {
    let count = |value: &Json| format!("{:>12}", output::grouped(value.as_u64().unwrap_or(0)));
    let mut lines = vec![format!("  {:<14}{}", "audience", count(&ledger["audience"]))];
    for set in ["pending", "claimed", "deferred", "accepted", "rejected", "skipped", "unknown"] {
        lines.push(format!("  {set:<14}{}", count(&ledger[set])));
        let reasons = match set {
            "rejected" => &ledger["rejected_by"],
            "skipped" => &ledger["skipped_by"],
            _ => continue,
        };
        for (reason, contacts) in reasons.as_object().into_iter().flatten() {
            lines.push(format!("    {reason:<24}{}", count(contacts)));
        }
    }
    let balanced =
        if ledger["balanced"] == true { "balanced: the sets add up to the audience" } else { "NOT BALANCED" };
    lines.push(format!("  {balanced}"));
    lines.join("\n")
}

/// Who the campaign was for when it started; nothing if the run does not know.
fn audience(audience: &Json) -> Option<String> {
    let count = |value: &Json| output::grouped(value.as_u64().unwrap_or(0));
    audience["matched"].as_u64()?;
    let mut lines = vec![format!(
        "at the start: {} matched, {} with an address, {} to be sent to",
        count(&audience["matched"]),
        count(&audience["reachable"]),
        count(&audience["final"])
    )];
    for (attribute, contacts) in audience["lacking_attribute"].as_object().into_iter().flatten() {
        if contacts.as_u64() > Some(0) {
            lines.push(format!("  {} lack {}", count(contacts), output::clean(attribute)));
        }
    }
    Some(lines.join("\n"))
}

/// Rate, time left, and why it is slow; nothing once it has ended.
fn pace(report: &Json) -> Option<String> {
    if is_over(report) {
        return None;
    }
    let mut words = format!("{}/s", output::grouped(report["rate_per_second"].as_f64().unwrap_or(0.0) as u64));
    if let Some(eta) = report["eta_seconds"].as_f64() {
        words = format!("{words}, {} left", output::duration(eta));
    }
    match report["stall"]["message"].as_str() {
        Some(why) => Some(format!("{words}; {}", output::clean(why))),
        None => Some(words),
    }
}

pub(super) fn is_over(report: &Json) -> bool {
    matches!(report["state"].as_str(), Some("finished" | "stopped" | "archived"))
}

/// Shows a bar until the latest run has ended, then its report.
pub(super) fn watch(client: &Client, campaign: &str, json: bool) -> anyhow::Result<()> {
    let report = follow(client, campaign, |_| {})?;
    if json { output::json(&report) } else { print(&report) }
}

/// Follows the latest run to its end; `each` sees every report on the way.
pub(super) fn follow(client: &Client, campaign: &str, mut each: impl FnMut(&Json)) -> anyhow::Result<Json> {
    let bar = ProgressBar::new(0);
    if let Ok(style) =
        ProgressStyle::with_template("{prefix:8} [{bar:32}] {percent:>3} %  {human_pos}/{human_len}  {msg}")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    loop {
        let report = client.get(&run_path(campaign, None, "report"), &[])?;
        let of = |set: &str| report["ledger"][set].as_u64().unwrap_or(0);
        bar.set_length(of("audience"));
        bar.set_position(of("audience").saturating_sub(of("pending") + of("claimed") + of("deferred")));
        bar.set_prefix(output::text(&report["state"]));
        bar.set_message(pace(&report).unwrap_or_default());
        each(&report);
        if is_over(&report) {
            bar.finish_and_clear();
            return Ok(report);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_ledger_shows_sets_and_reasons() {
        let text = ledger(
            &json!({"audience": 1234, "accepted": 1200, "skipped": 34, "skipped_by": {"no_address": 34}, "balanced": true}),
        );
        assert!(text.contains("1 234") && text.contains("no_address") && text.contains("balanced:"), "{text}");
        assert!(ledger(&json!({"balanced": false})).contains("NOT BALANCED"));
    }

    #[test]
    fn the_audience_of_the_start_is_shown_if_it_is_known() {
        let known =
            json!({"matched": 1200, "reachable": 1100, "final": 1000, "lacking_attribute": {"name": 5, "city": 0}});
        let text = audience(&known).unwrap();
        assert_eq!(text, "at the start: 1 200 matched, 1 100 with an address, 1 000 to be sent to\n  5 lack name");
        assert_eq!(audience(&Json::Null), None, "runs of before have none");
    }

    #[test]
    fn a_grid_is_shown_by_row_and_column() {
        let totals = json!([{"dimension": "country", "value": "FR", "contacts": 1200, "accepted": 1100, "opened": 30, "clicked": 4}]);
        let text = grid(&json!({"totals": totals}));
        let shown: Vec<&str> = text.lines().nth(1).unwrap_or_default().split("  ").filter(|s| !s.is_empty()).collect();
        let shown: Vec<&str> = shown.into_iter().map(str::trim).collect();
        assert_eq!(shown, ["country = FR", "1 200", "1 100", "30", "4"], "{text}");
        assert_eq!(grid(&Json::Null), "", "other kinds have none");
    }

    #[test]
    fn each_of_several_deliveries_has_a_ledger_in_a_line() {
        let delivery =
            json!({"index": 1, "name": "follow-up", "audience": 1200, "accepted": 1100, "skipped": 100, "pending": 0});
        let expected = "delivery 1 (follow-up): audience 1 200, accepted 1 100, skipped 100";
        assert_eq!(own_ledger(&delivery).replace(['\u{202f}', '\u{a0}'], " "), expected);
    }

    #[test]
    fn pace_says_why_it_is_slow() {
        let running = json!({"state": "running", "rate_per_second": 500.0, "eta_seconds": 65.0, "stall": {"message": "the connector's limit"}});
        assert_eq!(pace(&running).unwrap(), "500/s, 1 min 05 s left; the connector's limit");
        assert_eq!(pace(&json!({"state": "finished"})), None);
    }
}
