//! `estafette campaign` and `connector`. Owns no state.

use std::path::Path;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::args::{Campaign, Connector};
use super::client::{Client, part};
use super::{Exit, figures, flow, output, report, schedules, sequences};

/// Columns of the list of campaigns.
const LISTED: [&str; 9] =
    ["id", "name", "kind", "state", "next_start", "ledger/audience", "ledger/accepted", "ledger/unknown", "updated_at"];

pub(super) fn run(client: &Client, command: Campaign, as_json: bool) -> anyhow::Result<Exit> {
    let path = |name: &str, rest: &str| format!("/v1/campaigns/{}{rest}", part(name));
    let act = |name: &str, action: &str| -> anyhow::Result<Exit> {
        let done = client.post(&path(name, action), &json!({}))?;
        output::record(&done, as_json)?;
        Ok(Exit::Done)
    };
    match command {
        Campaign::List { state } => {
            let query: Vec<_> = state.iter().map(|s| ("state", s.as_str())).collect();
            let page = client.get_all("/v1/campaigns", &query)?;
            output::items(&page, &LISTED, as_json)?;
        }
        Campaign::Show { campaign } => output::record(&client.get(&path(&campaign, ""), &[])?, as_json)?,
        Campaign::Create { file } => {
            let made = send_spec(client, Method::POST, "/v1/campaigns", &file)?;
            print_saved(&made, as_json)?;
        }
        Campaign::Edit { campaign, file } => sequences::edit(client, &campaign, file.as_deref(), as_json)?,
        Campaign::Sequence(command) => return sequences::run(client, command, as_json),
        Campaign::Check { file } => return check(client, &file, as_json),
        Campaign::Audience { campaign } => audience(client, &path(&campaign, "/audience"), as_json)?,
        Campaign::Preview { campaign, contact, part: only } => {
            let found = client.post(&path(&campaign, "/preview"), &json!({"contact": contact}))?;
            print_preview(&found, only.as_deref(), as_json)?;
        }
        Campaign::TestSend { campaign, to, contact } => {
            let sent = client.post(&path(&campaign, "/test-send"), &json!({"to": to, "contact": contact}))?;
            output::items(&sent, &["to", "outcome", "reply"], as_json)?;
            return Ok(if all_accepted(&sent) { Exit::Done } else { Exit::ProblemsFound });
        }
        Campaign::Start { campaign, watch } => start(client, &campaign, watch, as_json)?,
        Campaign::Schedule { campaign, when } => {
            schedules::change(client, &path(&campaign, "/schedule"), &when, as_json)?
        }
        Campaign::Unschedule { campaign } => return act(&campaign, "/unschedule"),
        Campaign::Pause { campaign } => return act(&campaign, "/pause"),
        Campaign::Resume { campaign } => return act(&campaign, "/resume"),
        Campaign::Stop { campaign } => {
            let done = client.post(&path(&campaign, "/stop"), &json!({}))?;
            sequences::print_stopped(done, as_json)?;
        }
        Campaign::Archive { campaign } => return act(&campaign, "/archive"),
        Campaign::Watch { campaign } => report::watch(client, &campaign, as_json)?,
        Campaign::Report(options) => return report::run(client, &options, as_json),
        Campaign::Timeline(options) => return figures::timeline(client, &options, as_json),
        Campaign::Compare(options) => return figures::compare(client, &options, as_json),
        Campaign::Graph { campaign, format } => {
            print_graph(client, &path(&campaign, "/graph"), if as_json { "json" } else { &format })?;
        }
        Campaign::DryRun(options) => {
            flow::dry_run(client, &path(&options.campaign, "/dry-run"), &options, as_json)?;
        }
        Campaign::ChooseWinner(flow::ChooseArgs { campaign, variant, nobody: _, test, by }) => {
            let body = json!({"variant": variant, "test": test, "by": by});
            let test = client.post(&path(&campaign, "/choose-winner"), &body)?;
            print_test(&test, as_json)?;
        }
        Campaign::Resend(options) => return super::history::resend(client, &options, as_json),
        Campaign::Runs { campaign } => {
            let columns = ["id", "number", "state", "started_at", "finished_at", "ledger/audience", "ledger/accepted"];
            output::items(&client.get_all(&path(&campaign, "/runs"), &[])?, &columns, as_json)?;
        }
        Campaign::Contacts { campaign, set, run } => {
            let query = [("set", set.as_str()), ("format", if as_json { "ndjson" } else { "csv" })];
            client.download(&run_path(&campaign, run, "contacts"), &query, &mut output::file())?;
        }
        Campaign::Settle { campaign, settle_as, contacts, all, run } => {
            let body = json!({"as": settle_as, "contacts": contacts, "all": all});
            output::record(&client.post(&run_path(&campaign, run, "settle"), &body)?, as_json)?;
        }
    }
    Ok(Exit::Done)
}

fn audience(client: &Client, path: &str, as_json: bool) -> anyhow::Result<()> {
    output::record(&client.post(path, &json!({}))?, as_json)
}

fn start(client: &Client, campaign: &str, watch: bool, as_json: bool) -> anyhow::Result<()> {
    let started = client.post(&format!("/v1/campaigns/{}/start", part(campaign)), &json!({}))?;
    print_started(&started, watch, as_json)?;
    match watch {
        true if started["run"].is_null() && as_json => output::json(&started),
        true if started["run"].is_null() => output::line("it starts at its time: watch it then"),
        true => report::watch(client, campaign, as_json),
        false => Ok(()),
    }
}

/// A test send that was deferred or rejected did not arrive, whatever may become of it.
fn all_accepted(sent: &Json) -> bool {
    let items = sent["items"].as_array().map_or(&[][..], Vec::as_slice);
    !items.is_empty() && items.iter().all(|item| item["outcome"] == "accepted")
}

fn print_started(started: &Json, watched: bool, as_json: bool) -> anyhow::Result<()> {
    let nobody = started.pointer("/ledger/audience").and_then(Json::as_u64) == Some(0);
    if !as_json && nobody && started["entered"].as_u64().unwrap_or(0) == 0 {
        output::line("note: the audience is empty: nobody matches it now, and nothing is sent")?;
    }
    if !as_json && started["state"] == "scheduled" {
        return schedules::print_planned(&started["schedule"]);
    }
    if watched { Ok(()) } else { output::record(started, as_json) }
}

fn print_graph(client: &Client, path: &str, format: &str) -> anyhow::Result<()> {
    client.download(path, &[("format", format)], &mut output::file())
}

fn print_test(test: &Json, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return output::json(test);
    }
    output::line(&report::tests(&json!({"tests": [test]})))
}

/// The path of a run, or of the campaign's latest one.
pub(super) fn run_path(campaign: &str, run: Option<u32>, what: &str) -> String {
    match run {
        Some(run) => format!("/v1/runs/{run}/{what}"),
        None => format!("/v1/campaigns/{}/{what}", part(campaign)),
    }
}

pub(super) fn send_spec(client: &Client, method: Method, path: &str, file: &Path) -> anyhow::Result<Json> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let is_json = file.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
    let media_type = if is_json { "application/json" } else { "application/toml" };
    Ok(client.send_text(method, path, media_type, text)?)
}

fn print_problems(found: &Json, name: &str) -> anyhow::Result<usize> {
    let problems = found[name].as_array().map_or(&[][..], Vec::as_slice);
    for problem in problems {
        let told = output::problem(problem);
        output::line(&if name == "warnings" { told.replacen("  ", "  warning: ", 1) } else { told })?;
    }
    Ok(problems.len())
}

pub(super) fn print_saved(made: &Json, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return output::json(made);
    }
    let (name, id, version) = (output::text(&made["name"]), &made["id"], &made["version"]);
    output::line(&format!(
        "campaign {name} is saved as {} (id {id}, version {version})",
        output::text(&made["state"])
    ))?;
    let problems = print_problems(made, "problems")?;
    if problems > 0 {
        output::line(&format!("it cannot start before these {problems} are mended"))?;
    }
    print_problems(made, "warnings")?;
    Ok(())
}

fn check(client: &Client, file: &Path, as_json: bool) -> anyhow::Result<Exit> {
    let found = send_spec(client, Method::POST, "/v1/campaigns/check", file)?;
    let ready = found["ready"] == true;
    if as_json {
        output::json(&found)?;
    } else {
        output::line(if ready { "ready to start" } else { "cannot start:" })?;
        print_problems(&found, "problems")?;
        print_problems(&found, "warnings")?;
        for (name, words) in [("tracked_links", "tracked"), ("untracked_links", "not tracked")] {
            for link in found[name].as_array().into_iter().flatten() {
                output::line(&format!("  {words}: {}", output::text(link)))?;
            }
        }
    }
    Ok(if ready { Exit::Done } else { Exit::ProblemsFound })
}

fn print_preview(found: &Json, only: Option<&str>, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return output::json(found);
    }
    // As it is sent, a header may be encoded; who reads it all wants to read these.
    let readable = |name: &str| ["From", "To", "Subject"].contains(&name).then(|| &found[name.to_lowercase()]);
    let headers = |decode: bool| -> anyhow::Result<()> {
        for header in found["headers"].as_array().into_iter().flatten() {
            let name = output::text(&header["name"]);
            let decoded = readable(&name).filter(|value| decode && value.is_string());
            output::line(&format!("{name}: {}", output::text(decoded.unwrap_or(&header["value"]))))?;
        }
        Ok(())
    };
    match only {
        Some("headers") => headers(false),
        Some(name) => output::line(&output::text(&found[name])),
        None => {
            headers(true)?;
            output::line("")?;
            output::line(found["text"].as_str().map(output::clean).unwrap_or_default().as_str())?;
            let missing = output::text(&found["missing"]);
            if missing.is_empty() { Ok(()) } else { output::line(&format!("(the contact lacks: {missing})")) }
        }
    }
}

pub(super) fn connector(client: &Client, command: Connector, as_json: bool) -> anyhow::Result<Exit> {
    match command {
        Connector::List => {
            let page = client.get("/v1/connectors", &[])?;
            let columns =
                ["name", "kind", "target", "connections", "connections_max", "circuit", "waiting", "credits_used"];
            output::items(&page, &columns, as_json)?;
            Ok(Exit::Done)
        }
        Connector::Test { name } => {
            let tested = client.post(&format!("/v1/connectors/{}/test", part(&name)), &json!({}))?;
            output::record(&tested, as_json)?;
            Ok(if tested["ok"] == true { Exit::Done } else { Exit::ProblemsFound })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_send_is_done_only_if_every_mail_was_accepted() {
        let sent = |outcomes: &[&str]| {
            let items: Vec<_> = outcomes.iter().map(|o| json!({"to": "a@x.test", "outcome": o})).collect();
            json!({"items": items})
        };
        assert!(all_accepted(&sent(&["accepted", "accepted"])), "all of them");
        for outcomes in [&["accepted", "deferred"][..], &["rejected"], &["unknown"], &[]] {
            assert!(!all_accepted(&sent(outcomes)), "{outcomes:?}");
        }
    }
}
