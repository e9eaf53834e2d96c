//! `estafette audience`: one-shot CSV audiences. Owns no state.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::Value as Json;

use super::Exit;
use super::client::{Client, part};
use super::contacts::done;
use super::{imports, output};
use crate::contacts::one_shot::sample::sample;
use crate::ids::Channel;

#[derive(Debug, Subcommand)]
pub enum Audience {
    /// An example file to begin from, on standard output.
    Sample {
        /// email, sms, whatsapp, push, web_push, in_app.
        #[arg(long, default_value = "email")]
        channel: String,
    },
    /// Upload a file: a header line, ',' or ';', a column named email, phone or id; all others are variables of the message.
    Upload {
        file: PathBuf,
        /// The channel whose addresses the column `id` holds.
        #[arg(long, default_value = "email")]
        channel: String,
        /// What campaigns may call it, beside its id.
        #[arg(long)]
        name: Option<String>,
    },
    /// What is in an upload, and who of it could be sent to now.
    Show {
        /// Id or name.
        audience: String,
    },
    /// The invalid rows of an upload as CSV, each with its line and reason.
    Invalid { audience: String },
    #[command(alias = "ls")]
    List,
    /// Delete the rows of an upload; refused while an unfinished run is sent to them.
    Delete { audience: String },
}

/// Needs no server.
pub(super) fn print_sample(channel: &str) -> anyhow::Result<Exit> {
    let Some(text) = Channel::from_name(channel).and_then(sample) else {
        anyhow::bail!("{channel:?} must be email, sms, whatsapp, push, web_push or in_app");
    };
    output::raw(text.as_bytes())?;
    Ok(Exit::Done)
}

pub(super) fn run(client: &Client, command: Audience, json: bool) -> anyhow::Result<Exit> {
    let path = |named: &str| format!("/v1/audiences/{}", part(named));
    match command {
        Audience::Sample { channel } => return print_sample(&channel),
        Audience::Upload { file, channel, name } => {
            let mut query = vec![("channel", channel)];
            query.extend(name.map(|name| ("name", name)));
            print(&imports::upload_to(client, "/v1/audiences", &file, query)?, json)?;
        }
        Audience::Show { audience } => print(&client.get(&path(&audience), &[])?, json)?,
        Audience::Invalid { audience } => {
            let path = format!("{}/invalid.csv", path(&audience));
            client.download(&path, &[], &mut std::io::stdout().lock())?;
        }
        Audience::List => {
            let page = client.get_all("/v1/audiences", &[])?;
            let columns = ["id", "name", "channel", "total", "valid", "invalid", "duplicates", "uploaded_at"];
            output::items(&page, &columns, json)?;
        }
        Audience::Delete { audience } => {
            client.delete(&path(&audience))?;
            done(&format!("audience {audience} is deleted"), json)?;
        }
    }
    Ok(Exit::Done)
}

/// The summary that is read before a campaign is sent.
fn print(upload: &Json, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(upload);
    }
    for line in lines(upload) {
        output::line(&line)?;
    }
    Ok(())
}

fn lines(upload: &Json) -> Vec<String> {
    let count = |value: &Json| output::grouped(value.as_u64().unwrap_or(0));
    let of = |name: &str| count(&upload[name]);
    let (id, name) = (&upload["id"], output::text(&upload["name"]));
    let mut lines =
        vec![format!("audience {id}, {name}: {} rows for {}", of("total"), output::text(&upload["channel"]))];
    lines.push(format!("  valid {}, invalid {}, duplicates {}", of("valid"), of("invalid"), of("duplicates")));
    let mut each = |words: &str, counts: &Json| {
        for (what, n) in counts.as_object().into_iter().flatten() {
            lines.push(format!("  {words}{}: {}", output::clean(what), count(n)));
        }
    };
    each("reach by ", &upload["reach"]);
    each("invalid, ", &upload["invalid_by"]);
    each("left out, ", &upload["left_out"]);
    each("suppressed, ", &upload["suppressed"]);
    if upload["unsubscribed"].as_u64().unwrap_or(0) > 0 {
        lines.push(format!("  opted out as contacts: {}", of("unsubscribed")));
    }
    for column in upload["columns"].as_array().into_iter().flatten() {
        let name = output::text(&column["name"]);
        lines.push(match column["variable"].as_str() {
            Some(variable) => format!("  column {name}: {{{{ {} }}}}", output::clean(variable)),
            None => format!("  column {name} can't be used: {}", output::text(&column["unusable"])),
        });
    }
    if upload["invalid"].as_u64().unwrap_or(0) > 0 {
        lines.push(format!("  see the invalid rows with: estafette audience invalid {id}"));
    }
    lines
}

/// What a report says of the upload that its run was sent to.
pub(super) fn used(upload: &Json) -> String {
    let word = match (upload["consent_confirmed_by"].as_str(), upload["consent_confirmed_at"].as_str()) {
        (Some(by), Some(at)) => {
            let key = upload["consent_confirmed_key"].as_str().map_or(String::new(), |key| format!(" ({key})"));
            let via = upload["consent_confirmed_via"].as_str().map_or(String::new(), |via| format!(" by {via}"));
            let (by, at) = (output::clean(by), output::clean(at));
            format!("consent confirmed with key {by}{}{} at {at}", output::clean(&key), output::clean(&via))
        }
        _ => "consent not confirmed".to_owned(),
    };
    let gone = upload["removed_at"].as_str().map_or(String::new(), |at| format!("; its rows were deleted at {at}"));
    format!("one-shot audience {}, {}: {word}{gone}", upload["id"], output::text(&upload["name"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_summary_names_what_can_be_used_and_what_is_wrong() {
        let upload = json!({
            "id": 3, "name": "fair", "channel": "email", "total": 1_200, "valid": 1_199, "invalid": 1, "duplicates": 2,
            "reach": {"email": 1_190}, "invalid_by": {"email is empty": 1}, "left_out": {}, "unsubscribed": 4,
            "suppressed": {"address": 3},
            "columns": [
                {"name": "Prénom", "variable": "contact.pr_nom", "unusable": null},
                {"name": "created", "variable": null, "unusable": "the name means something else"},
            ],
        });
        let text = lines(&upload).join("\n");
        for part in
            ["audience 3, fair", "reach by email: 1 190", "{{ contact.pr_nom }}", "audience invalid 3", "created can't"]
        {
            let spaced = text.replace(['\u{202f}', '\u{a0}', ','], " ");
            assert!(text.contains(part) || spaced.contains(part), "{part:?} is in\n{text}");
        }
    }
}
