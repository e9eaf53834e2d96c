//! `estafette calendar` and `campaign schedule`. Owns no state.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value as Json, json};

use super::client::Client;
use super::{Exit, output};

/// Columns of the calendar.
const LISTED: [&str; 11] = [
    "campaign",
    "name",
    "step",
    "part",
    "date",
    "state",
    "planned",
    "effective_start",
    "local_time",
    "outcome",
    "reason",
];

/// A schedule on the command line; what is not said stays.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct When {
    /// A date and time such as 2026-12-01T18:00 (in --zone), or with an offset; several times for several launches.
    #[arg(long, value_name = "TIME", conflicts_with = "every")]
    pub at: Vec<String>,
    /// A recurrence such as "friday 17:00", or a cron line.
    #[arg(long, value_name = "WORDS")]
    pub every: Option<String>,
    /// The last moment of a recurrence.
    #[arg(long, value_name = "TIME", requires = "every")]
    pub until: Option<String>,
    /// An IANA zone, or "contact" for each contact's own local time.
    #[arg(long)]
    pub zone: Option<String>,
    /// A launch that is later than this is not made, such as 2h.
    #[arg(long, value_name = "TIME")]
    pub too_late: Option<String>,
}

#[derive(Debug, Args)]
pub struct CalendarArgs {
    /// An instant such as 2026-12-01T00:00:00Z; now by default.
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Not included; 31 days after --from by default.
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    #[command(subcommand)]
    pub command: Option<CalendarCommand>,
}

#[derive(Debug, Subcommand)]
pub enum CalendarCommand {
    /// Change a date under the rules of what it dates: of a launch, a cell, a variant, or a step of a sequence.
    Move {
        campaign: String,
        /// As the calendar lists it under date: schedule.at, cells.0.schedule.at, variants.1.at, or the id of a step.
        date: String,
        /// Written as in the spec.
        at: String,
        /// Of a step of what is published: confirm that the steps start when they then say.
        #[arg(long, short)]
        yes: bool,
    },
}

pub(super) fn calendar(client: &Client, asked: &CalendarArgs, as_json: bool) -> anyhow::Result<Exit> {
    if let Some(CalendarCommand::Move { campaign, date, at, yes }) = &asked.command {
        let body = json!({"campaign": campaign, "date": date, "at": at, "confirm": yes});
        super::campaigns::print_saved(&client.post("/v1/calendar/move", &body)?, as_json)?;
        return Ok(Exit::Done);
    }
    let query: Vec<(&str, &str)> = [("from", &asked.from), ("to", &asked.to)]
        .into_iter()
        .filter_map(|(name, value)| value.as_deref().map(|value| (name, value)))
        .collect();
    let found = client.get("/v1/calendar", &query)?;
    output::items(&found, &LISTED, as_json)?;
    if !as_json && found["more"] == true {
        output::line("there is more: ask for a shorter time")?;
    }
    Ok(Exit::Done)
}

/// The merge patch of `[schedule]`: a new way to say when replaces the one before.
fn patch(when: &When) -> Json {
    let mut fields = Map::new();
    if !when.at.is_empty() || when.every.is_some() {
        for name in ["at", "dates", "every", "until"] {
            fields.insert(name.to_owned(), Json::Null);
        }
    }
    match when.at.as_slice() {
        [] => {}
        [one] => drop(fields.insert("at".to_owned(), json!(one))),
        several => drop(fields.insert("dates".to_owned(), json!(several))),
    }
    let given = [("every", &when.every), ("until", &when.until), ("zone", &when.zone), ("too_late", &when.too_late)];
    for (name, value) in given {
        if let Some(value) = value {
            fields.insert(name.to_owned(), json!(value));
        }
    }
    Json::Object(fields)
}

pub(super) fn change(client: &Client, path: &str, when: &When, as_json: bool) -> anyhow::Result<()> {
    let made = client.send_text(Method::PATCH, path, "application/json", patch(when).to_string())?;
    if as_json {
        return output::json(&made);
    }
    if made["schedule"]["next"].is_null() {
        return output::line("the schedule is saved; `campaign start` publishes it");
    }
    print_planned(&made["schedule"])
}

/// When it starts, as it was planned and as it will be.
pub(super) fn print_planned(schedule: &Json) -> anyhow::Result<()> {
    let next = &schedule["next"];
    let (planned, effective) = (output::text(&next["planned"]), output::text(&next["effective_start"]));
    output::line(&format!("scheduled: planned for {planned}, starts at {effective}"))?;
    if let Some(local) = next["local_time"].as_str() {
        output::line(&format!("each contact gets it at {local} by the own clocks"))?;
    }
    let others = schedule["upcoming"].as_array().map_or(&[][..], Vec::as_slice);
    for launch in others.iter().skip(1) {
        output::line(&format!("  then {}", output::text(&launch["effective_start"])))?;
    }
    Ok(())
}

/// What a report says of the launch of its run, and of the schedule.
pub(super) fn told(report: &Json) -> Vec<String> {
    let mut lines = Vec::new();
    let launch = &report["launch"];
    if launch.is_object() {
        let (planned, effective) = (output::text(&launch["planned"]), output::text(&launch["effective_start"]));
        let late = launch["late_seconds"].as_f64().unwrap_or(0.0);
        lines.push(format!(
            "launched by its schedule: planned {planned}, due {effective}, begun {late:.1} s after that"
        ));
    }
    for done in report["schedule"]["history"].as_array().into_iter().flatten().filter(|d| d["outcome"] == "skipped") {
        let (count, planned) = (&done["count"], output::text(&done["planned"]));
        lines.push(format!("{count} launch(es) skipped, from {planned} on: {}", output::text(&done["message"])));
    }
    if let Some(next) = report["schedule"]["next"]["effective_start"].as_str() {
        lines.push(format!("next launch {next}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_way_to_say_when_replaces_the_one_before() {
        let none = || When { at: Vec::new(), every: None, until: None, zone: None, too_late: None };
        let dates = When { at: vec!["2026-12-01T18:00".into(), "2026-12-08T18:00".into()], ..none() };
        let expected =
            json!({"at": null, "dates": ["2026-12-01T18:00", "2026-12-08T18:00"], "every": null, "until": null});
        assert_eq!(patch(&dates), expected);
        assert_eq!(patch(&When { zone: Some("UTC".into()), ..none() }), json!({"zone": "UTC"}), "the date stays");
    }

    #[test]
    fn a_report_tells_what_was_skipped_and_what_is_next() {
        let report = json!({
            "launch": {"planned": "P", "effective_start": "E", "late_seconds": 0.25},
            "schedule": {
                "next": {"effective_start": "N"},
                "history": [
                    {"outcome": "made", "planned": "A", "count": 1},
                    {"outcome": "skipped", "planned": "B", "count": 3, "message": "why"},
                ],
            },
        });
        let told = told(&report);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(
            told[0].contains("planned P, due E") && told[1].contains("3 launch(es) skipped, from B on: why"),
            "{told:?}"
        );
        assert_eq!(told[2], "next launch N");
        assert_eq!(super::told(&json!({})), Vec::<String>::new(), "nothing of a run without a schedule");
    }
}
