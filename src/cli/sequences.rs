//! `estafette campaign publish`, `edit`, `extend`, `enter`, `test-start`, and the steps of a sequence. Owns no state.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::campaigns::{print_saved, send_spec};
use super::client::{CallError, Client, part};
use super::{Exit, output};

#[derive(Debug, Subcommand)]
pub enum SequenceCommand {
    /// Put a sequence, or the working copy of any campaign that runs or is finished, into force. Shows planned and effective
    /// start of each step, or what would be changed, and exits with 6, unless --yes is said.
    Publish {
        campaign: String,
        /// Confirm that the steps start when they say.
        #[arg(long, short)]
        yes: bool,
    },
    /// Go on with a finished campaign for the same contacts: opens a working copy, and changes it by the file. Of a sequence
    /// that holds only the new steps, or all of them, the earlier ones as they were; of a flow all nodes, with new ones
    /// behind its ends; of a single campaign a [follow_up]. Others go on by campaign resend.
    Extend { campaign: String, file: Option<PathBuf> },
    /// Bring contacts into a sequence that is started by requests. Exit code 6 if a key has no contact.
    ///
    /// Requests are taken until the first dated step starts. A sequence without a dated step takes them without end, and never
    /// finishes by itself: `campaign stop` ends it.
    Enter(EnterArgs),
    /// Start a step that did not start in time (too_late) and is held back.
    StartStep { campaign: String, step: String },
    /// Have a step that is held back do nothing: its contacts go on without it.
    SkipStep { campaign: String, step: String },
    /// Measure how long the start takes: the least time between two steps. Nothing is started.
    TestStart { campaign: String },
}

#[derive(Debug, Args)]
pub struct EnterArgs {
    pub campaign: String,
    /// Keys of contacts.
    #[arg(required_unless_present = "file")]
    pub contacts: Vec<String>,
    /// A file with a key a line.
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// Names the request: said again, it enters nobody again.
    #[arg(long)]
    pub idempotency_key: String,
}

pub(super) fn run(client: &Client, command: SequenceCommand, as_json: bool) -> anyhow::Result<Exit> {
    let path = |name: &str, rest: &str| format!("/v1/campaigns/{}{rest}", part(name));
    match command {
        SequenceCommand::Publish { campaign, yes } => {
            return publish(client, &path(&campaign, "/publish"), yes, as_json);
        }
        SequenceCommand::Extend { campaign, file } => {
            let opened = client.post(&path(&campaign, "/extend"), &json!({}))?;
            match file {
                Some(file) => changed(client, &path(&campaign, ""), &file, as_json)?,
                None => print_view(&opened, as_json)?,
            }
        }
        SequenceCommand::StartStep { campaign, step } => {
            release(client, &path(&campaign, ""), &step, "start", as_json)?
        }
        SequenceCommand::SkipStep { campaign, step } => release(client, &path(&campaign, ""), &step, "skip", as_json)?,
        SequenceCommand::TestStart { campaign } => {
            output::record(&client.post(&path(&campaign, "/test-start"), &json!({}))?, as_json)?;
        }
        SequenceCommand::Enter(options) => {
            let done = enter(client, &path(&options.campaign, "/enter"), &options)?;
            output::record(&done, as_json)?;
            let unknown = done["unknown"].as_array().is_some_and(|keys| !keys.is_empty());
            return Ok(if unknown { Exit::ProblemsFound } else { Exit::Done });
        }
    }
    Ok(Exit::Done)
}

/// Without a file opens a working copy; with one changes the draft, or the working copy of what runs, which it opens.
pub(super) fn edit(client: &Client, campaign: &str, file: Option<&Path>, as_json: bool) -> anyhow::Result<()> {
    let path = format!("/v1/campaigns/{}", part(campaign));
    let Some(file) = file else {
        return print_view(&client.post(&format!("{path}/edit"), &json!({}))?, as_json);
    };
    match send_spec(client, Method::PATCH, &path, file) {
        Err(error) if refused_by(&error, "no_working_copy") => {
            client.post(&format!("{path}/edit"), &json!({}))?;
            changed(client, &path, file, as_json)
        }
        made => {
            let made = made?;
            match made["sequence"]["working_copy"].is_object() && !as_json {
                true => print_view(&made["sequence"], false),
                false => print_saved(&made, as_json),
            }
        }
    }
}

fn release(client: &Client, path: &str, step: &str, action: &str, as_json: bool) -> anyhow::Result<()> {
    let view = client.post(&format!("{path}/release-step"), &json!({"step": step, "action": action}))?;
    print_view(&view, as_json)
}

fn refused_by(error: &anyhow::Error, code: &str) -> bool {
    matches!(error.downcast_ref(), Some(CallError::Refused { body, .. }) if body.code == code)
}

fn changed(client: &Client, path: &str, file: &Path, as_json: bool) -> anyhow::Result<()> {
    let made = send_spec(client, Method::PATCH, path, file)?;
    if as_json {
        return output::json(&made);
    }
    print_view(&made["sequence"], false)
}

fn publish(client: &Client, path: &str, yes: bool, as_json: bool) -> anyhow::Result<Exit> {
    match client.post(path, &json!({"confirm": yes})) {
        Err(CallError::Refused { body, .. }) if body.code == "confirmation_needed" => {
            if as_json {
                output::json(&body.details)?;
            } else {
                output::line(&starts(&body.details))?;
                output::note("nothing is published yet: say --yes");
            }
            Ok(Exit::ProblemsFound)
        }
        done => {
            let done = done?;
            if as_json {
                output::json(&done)?;
            } else {
                let (state, version) = (output::text(&done["state"]), &done["version"]);
                output::line(&format!("published: version {version} is {state}"))?;
                output::line(&starts(&done))?;
            }
            Ok(Exit::Done)
        }
    }
}

/// Planned and effective start of each step.
pub(super) fn starts(shown: &Json) -> String {
    let changed: Vec<String> = shown["changed"].as_array().into_iter().flatten().map(output::text).collect();
    let mut lines = match changed.is_empty() {
        true => vec![format!("  {:<20}{:<28}{:<28}", "step", "planned", "effective")],
        false => vec![format!("  changes {}", changed.join(", "))],
    };
    for step in shown["steps"].as_array().into_iter().flatten() {
        let time = |name: &str| step[name].as_str().map_or("at once, by request".to_owned(), output::clean);
        let executed = if step["executed"] == true { "executed" } else { "" };
        let line =
            format!("  {:<20}{:<28}{:<28}{executed}", output::text(&step["id"]), time("planned"), time("effective"));
        lines.push(line.trim_end().to_owned());
    }
    for warning in shown["warnings"].as_array().into_iter().flatten() {
        lines.push(format!("  note: {}", output::text(&warning["message"])));
    }
    lines.join("\n")
}

/// The steps of a report or a campaign: when they start and started, and how many contacts came. Empty without steps.
pub(super) fn steps(steps: &Json) -> String {
    let steps = steps.as_array().map_or(&[][..], Vec::as_slice);
    if steps.is_empty() {
        return String::new();
    }
    let mut lines = vec![format!(
        "  {:<20}{:<14}{:<11}{:<26}{:<26}{:<26}{:>9}{:>9}",
        "step", "kind", "lock", "planned", "effective", "started", "waiting", "reached"
    )];
    for step in steps {
        let time = |name: &str| step[name].as_str().map_or("-".to_owned(), output::clean);
        lines.push(format!(
            "  {:<20}{:<14}{:<11}{:<26}{:<26}{:<26}{:>9}{:>9}",
            output::text(&step["id"]),
            output::text(&step["kind"]),
            output::text(&step["lock"]),
            time("planned"),
            time("effective"),
            time("started"),
            output::grouped(step["waiting"].as_u64().unwrap_or(0)),
            output::grouped(step["reached"].as_u64().unwrap_or(0)),
        ));
        if step["skipped"] == true {
            lines.push(format!("  {:<20}skipped by a person", ""));
        }
    }
    for step in steps.iter().filter(|step| step["held"] == true) {
        let id = output::text(&step["id"]);
        lines.push(format!(
            "  step {id} is held back: it could not start in time (too_late); start-step or skip-step it"
        ));
    }
    lines.join("\n")
}

/// What a stop did: its counts, and of a sequence the steps that it kept from starting or cut short.
pub(super) fn print_stopped(mut done: Json, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return output::json(&done);
    }
    let cancelled = done.as_object_mut().and_then(|all| all.remove("cancelled")).unwrap_or_default();
    output::record(&done, false)?;
    let cancelled = cancelled.as_array().map_or(&[][..], Vec::as_slice);
    if cancelled.is_empty() {
        return Ok(());
    }
    output::line(&format!("cancelled: {:<20}{:<28}{:>10}{:>10}", "step", "planned", "contacts", "sent"))?;
    for step in cancelled {
        let planned = step["planned"].as_str().map_or("-".to_owned(), output::clean);
        let count = |name: &str| output::grouped(step[name].as_u64().unwrap_or(0));
        let id = output::text(&step["id"]);
        output::line(&format!("           {id:<20}{planned:<28}{:>10}{:>10}", count("contacts"), count("sent")))?;
    }
    Ok(())
}

fn print_view(view: &Json, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return output::json(view);
    }
    output::line(&steps(&view["steps"]))?;
    let copy = &view["working_copy"];
    if let Some(step) = copy["closed_by"].as_str() {
        let step = output::clean(step);
        output::line(&format!("the working copy is closed: step {step} has started by the version before"))?;
    } else if copy["open"] == true {
        output::line("a working copy is open: change it with edit, put it into force with publish")?;
    }
    for alert in copy["alerts"].as_array().into_iter().flatten() {
        let (path, message) = (output::text(&alert["path"]), output::text(&alert["message"]));
        output::line(&format!("  {path}: {message}\n    → {}", output::text(&alert["fix"])))?;
    }
    Ok(())
}

fn enter(client: &Client, path: &str, options: &EnterArgs) -> anyhow::Result<Json> {
    let mut contacts = options.contacts.clone();
    if let Some(file) = &options.file {
        let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
        contacts.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
    }
    let body = json!({"contacts": contacts, "idempotency_key": options.idempotency_key});
    Ok(client.post(path, &body)?)
}
