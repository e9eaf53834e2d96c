//! `estafette import`: uploads with a progress bar, then follows the import. Owns no state.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::blocking::Body;
use serde_json::{Value as Json, json};

use super::Exit;
use super::args::{Import, ImportCommand, ImportFile};
use super::client::Client;
use super::output;

pub(super) fn run(client: &Client, import: Import, json: bool) -> anyhow::Result<Exit> {
    match (import.command, import.file) {
        (Some(ImportCommand::List), _) => {
            let page = client.get_all("/v1/imports", &[])?;
            output::items(&page, &["id", "state", "file_name", "accepted", "merged", "rejected", "started_at"], json)?;
        }
        (Some(ImportCommand::Show { id }), _) => {
            output::record(&client.get(&format!("/v1/imports/{id}"), &[])?, json)?;
        }
        (Some(ImportCommand::Rejected { id }), _) if json => {
            let mut csv = Vec::new();
            client.download(&format!("/v1/imports/{id}/rejected"), &[], &mut csv)?;
            output::json(&rows(&csv)?)?;
        }
        (Some(ImportCommand::Rejected { id }), _) => {
            client.download(&format!("/v1/imports/{id}/rejected"), &[], &mut output::file())?;
        }
        (None, Some(file)) => return import_file(client, file, json),
        (None, None) => anyhow::bail!("name a CSV file, or one of: list, show, rejected"),
    }
    Ok(Exit::Done)
}

/// The rows of a CSV file as a page of objects.
fn rows(csv: &[u8]) -> anyhow::Result<Json> {
    let rows = csv::Reader::from_reader(csv).into_deserialize::<BTreeMap<String, String>>();
    let items = rows.collect::<Result<Vec<_>, _>>().context("the rejected rows cannot be read")?;
    Ok(json!({"items": items, "next_cursor": null}))
}

fn import_file(client: &Client, file: ImportFile, json: bool) -> anyhow::Result<Exit> {
    let wait = !file.no_wait;
    let report = upload(client, &file.file.clone(), query(file))?;
    let report = if wait { follow(client, report)? } else { report };
    print(&report, json)?;
    Ok(if report["state"] == "failed" { Exit::ProblemsFound } else { Exit::Done })
}

fn query(file: ImportFile) -> Vec<(&'static str, String)> {
    let name = file.file.file_name().map(|n| n.to_string_lossy().into_owned());
    let mut query = vec![("key", file.key)];
    let optional = [
        ("file_name", name),
        ("list", file.list),
        ("mapping", file.mapping),
        ("types", file.types),
        ("delimiter", file.delimiter),
        ("encoding", file.encoding),
        ("duplicates", file.duplicates),
        ("default_country", file.default_country),
    ];
    query.extend(optional.into_iter().filter_map(|(key, value)| value.map(|v| (key, v))));
    if !file.subscribe.is_empty() {
        query.push(("subscribe", file.subscribe.join(",")));
    }
    for (key, set) in [("resubscribe", file.resubscribe), ("dry_run", file.dry_run)] {
        if set {
            query.push((key, "true".to_owned()));
        }
    }
    query
}

/// Uploads a file; shows how far it is on a terminal.
pub(super) fn upload(client: &Client, path: &Path, query: Vec<(&'static str, String)>) -> anyhow::Result<Json> {
    upload_to(client, "/v1/imports", path, query)
}

pub(super) fn upload_to(
    client: &Client,
    route: &str,
    path: &Path,
    query: Vec<(&'static str, String)>,
) -> anyhow::Result<Json> {
    let file = File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
    let metadata = file.metadata().with_context(|| format!("{} cannot be read", path.display()))?;
    anyhow::ensure!(!metadata.is_dir(), "{} is a directory: name the CSV file in it", path.display());
    let bytes = metadata.len();
    let bar = bar(bytes, "upload");
    let body = Body::sized(bar.wrap_read(file), bytes);
    let report = client.upload(route, &query, body);
    bar.finish_and_clear();
    Ok(report?)
}

/// A bar over bytes; hidden if standard error is no terminal.
fn bar(bytes: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    let template = "{msg:8} [{bar:32}] {percent:>3} %  {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(what);
    bar
}

/// Waits until an import has ended.
pub(super) fn follow(client: &Client, mut report: Json) -> anyhow::Result<Json> {
    let id = report["id"].as_u64().unwrap_or(0);
    let bar = bar(report["bytes_total"].as_u64().unwrap_or(0), "import");
    while report["state"] == "running" {
        bar.set_position(report["bytes_done"].as_u64().unwrap_or(0));
        std::thread::sleep(Duration::from_millis(100));
        report = client.get(&format!("/v1/imports/{id}"), &[])?;
    }
    bar.finish_and_clear();
    Ok(report)
}

/// What was done, or would be.
fn headline(report: &Json) -> String {
    let count = |name: &str| output::grouped(report[name].as_u64().unwrap_or(0));
    let (accepted, rejected) = (count("accepted"), count("rejected"));
    if report["dry_run"] == true {
        return format!(
            "dry run, nothing was imported: {accepted} rows would be accepted or merged, {rejected} rejected"
        );
    }
    let (id, state, merged) = (&report["id"], output::text(&report["state"]), count("merged"));
    format!("import {id} {state}: {accepted} accepted, {merged} merged, {rejected} rejected")
}

fn print(report: &Json, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(report);
    }
    let id = &report["id"];
    output::line(&headline(report))?;
    for (reason, rows) in report["rejected_by"].as_object().into_iter().flatten() {
        output::line(&format!("  rejected, {reason}: {}", output::text(rows)))?;
    }
    if report["rejected"].as_u64().unwrap_or(0) > 0 && report["dry_run"] != true {
        output::line(&format!("  see them with: estafette import rejected {id}"))?;
    }
    if let Some(error) = report["error"].as_str() {
        output::line(&format!("  {}", output::clean(error)))?;
    }
    if report["dry_run"] == true || report["state"] == "running" {
        if let (Some(delimiter), Some(encoding)) = (report["delimiter"].as_str(), report["encoding"].as_str()) {
            output::line(&format!("  read as {encoding}, columns parted by {delimiter:?}"))?;
        }
        for column in report["columns"].as_array().into_iter().flatten() {
            let new = if column["new"] == true { " (new)" } else { "" };
            let attribute = column["attribute"].as_str().unwrap_or("left out");
            let (name, kind) = (output::text(&column["name"]), output::text(&column["type"]));
            output::line(&format!("  column {name} → {attribute}, {kind}{new}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_says_that_nothing_was_imported() {
        let report = json!({"id": 0, "state": "finished", "dry_run": true, "accepted": 12, "merged": 0, "rejected": 1});
        let line = headline(&report);
        assert!(line.contains("nothing was imported") && !line.contains("import 0"), "{line}");
        let report = json!({"id": 4, "state": "finished", "accepted": 12, "merged": 2, "rejected": 1});
        assert_eq!(headline(&report), "import 4 finished: 12 accepted, 2 merged, 1 rejected");
    }
}
