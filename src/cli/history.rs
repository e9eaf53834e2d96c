//! `estafette campaign resend` and `estafette message`. Owns no state.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::client::{Client, part};
use super::{Exit, output, report};

#[derive(Debug, Args)]
#[command(after_help = "Who got, or may still get, the message by an earlier resend is left out.\n\nExamples:\n  \
        estafette campaign resend spring --set not_opened --subject 'Did you see it?' --watch\n  \
        estafette campaign resend spring --set rejected:soft_bounce\n  \
        estafette campaign resend spring --set unknown --draft\n  \
        estafette campaign resend spring --set follow_up:rejected      # the follow-up's message, to whom it failed")]
pub struct ResendArgs {
    pub campaign: String,
    /// rejected, rejected:CLASS, unknown, skipped, skipped:REASON, not_opened (accepted and not opened), opened, not_clicked, clicked.
    #[arg(long)]
    pub set: String,
    /// Another run than the latest.
    #[arg(long)]
    pub run: Option<u32>,
    /// Name of the new campaign; by default the first one's and a number.
    #[arg(long)]
    pub name: Option<String>,
    /// What differs in the message: a file with its keys (TOML, or JSON by the file's name).
    #[arg(long, value_name = "FILE")]
    pub message: Option<PathBuf>,
    /// Another subject.
    #[arg(long)]
    pub subject: Option<String>,
    /// Only save it.
    #[arg(long)]
    pub draft: bool,
    /// Show the progress until the run has ended.
    #[arg(long)]
    pub watch: bool,
}

#[derive(Debug, Subcommand)]
pub enum Message {
    #[command(alias = "ls")]
    List,
    Show {
        name: String,
    },
    /// Save a message under a name, as its first or next version, from a file with the keys of [message] (TOML, or JSON by the
    /// file's name). Campaigns that have started keep theirs.
    Save {
        name: String,
        file: PathBuf,
    },
    Delete {
        name: String,
    },
}

pub(super) fn resend(client: &Client, options: &ResendArgs, as_json: bool) -> anyhow::Result<Exit> {
    let mut message = match &options.message {
        Some(file) => differing(file)?,
        None => json!({}),
    };
    if let Some(subject) = &options.subject {
        message["subject"] = json!(subject);
    }
    let none = message.as_object().is_none_or(serde_json::Map::is_empty);
    let body = json!({
        "set": options.set, "run": options.run, "name": options.name, "draft": options.draft,
        "message": if none { Json::Null } else { message },
    });
    let done = client.post(&format!("/v1/campaigns/{}/resend", part(&options.campaign)), &body)?;
    let name = output::text(&done["name"]);
    if as_json && !options.watch {
        output::json(&done)?;
    } else if !as_json {
        let count = |key: &str| output::grouped(done[key].as_u64().unwrap_or(0));
        output::line(&format!(
            "campaign {name} (id {}) is {}: a resend of run {} to {}, {} contacts, of whom {} are covered by an earlier resend",
            done["campaign"],
            output::text(&done["state"]),
            done["linked_run"],
            output::text(&done["linked_set"]),
            count("in_set"),
            count("covered"),
        ))?;
    }
    if options.watch && !options.draft {
        report::watch(client, &name, as_json)?;
    }
    Ok(Exit::Done)
}

/// What differs in the message, from a file: its `[message]` table, or bare keys.
fn differing(file: &Path) -> anyhow::Result<Json> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let value: Json = if is_json(file) {
        serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))?
    } else {
        toml::from_str(&text).with_context(|| format!("{} is not TOML", file.display()))?
    };
    Ok(value.get("message").filter(|inner| inner.is_object()).cloned().unwrap_or(value))
}

fn is_json(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

pub(super) fn message(client: &Client, command: Message, as_json: bool) -> anyhow::Result<Exit> {
    let path = |name: &str| format!("/v1/messages/{}", part(name));
    match command {
        Message::List => {
            let page = client.get_all("/v1/messages", &[])?;
            let columns = ["name", "channel", "default_language", "languages", "subject", "version", "updated_at"];
            output::items(&page, &columns, as_json)?;
        }
        Message::Show { name } => output::record(&client.get(&path(&name), &[])?, as_json)?,
        Message::Save { name, file } => {
            let text = std::fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
            let media_type = if is_json(&file) { "application/json" } else { "application/toml" };
            let saved = client.send_text(Method::PUT, &path(&name), media_type, text)?;
            if as_json {
                output::json(&saved)?;
            } else {
                let languages = output::text(&saved["languages"]);
                let languages = if languages.is_empty() { String::new() } else { format!(", languages: {languages}") };
                output::line(&format!(
                    "message {} is saved, version {}{languages}",
                    output::text(&saved["name"]),
                    saved["version"]
                ))?;
            }
        }
        Message::Delete { name } => {
            client.delete(&path(&name))?;
            super::contacts::done(&format!("message {name} is deleted"), as_json)?;
        }
    }
    Ok(Exit::Done)
}

/// What a report says of links between runs and of a control group; empty if there is nothing.
pub(super) fn links(report: &Json) -> String {
    let count = |value: &Json| output::grouped(value.as_u64().unwrap_or(0));
    let mut lines = Vec::new();
    if let Some(run) = report["linked_run"].as_u64() {
        lines.push(format!("  a resend of run {run}, to {}", output::text(&report["linked_set"])));
    }
    for resend in report["resends"].as_array().into_iter().flatten() {
        lines.push(format!(
            "  resent to {}: {} (run {}), {}, {} of {} accepted",
            output::text(&resend["set"]),
            output::text(&resend["name"]),
            resend["run"],
            output::text(&resend["state"]),
            count(&resend["accepted"]),
            count(&resend["audience"]),
        ));
    }
    let held = &report["hold_out"];
    if held["contacts"].is_u64() {
        lines.push(format!(
            "  control group: {} of {} eligible got nothing; compare them with the {} whose message was accepted",
            count(&held["contacts"]),
            count(&held["eligible"]),
            count(&held["compared_with"]),
        ));
        for event in held["behaviour"].as_array().into_iter().flatten() {
            let percent = |key: &str| event[key].as_f64().unwrap_or(0.0);
            lines.push(format!(
                "    {}: {:.2} % of the group, {:.2} % of the others",
                output::text(&event["event"]),
                percent("held_out_percent"),
                percent("sent_percent"),
            ));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_control_groups_are_told_and_nothing_else() {
        assert_eq!(links(&json!({"linked_run": null, "resends": [], "hold_out": null})), "", "nothing to tell");
        let report = json!({
            "linked_run": 3, "linked_set": "not_opened",
            "resends": [{"set": "rejected", "name": "a", "run": 5, "state": "finished", "accepted": 1, "audience": 2}],
            "hold_out": {"contacts": 10, "eligible": 100, "compared_with": 90},
        });
        let text = links(&report);
        assert!(text.contains("a resend of run 3, to not_opened"), "{text}");
        assert!(text.contains("resent to rejected: a (run 5), finished, 1 of 2 accepted"), "{text}");
        assert!(text.contains("control group: 10 of 100 eligible"), "{text}");
    }
}
