//! `estafette campaign timeline` and `compare`: a run over time, deliveries side by side. Owns no state.

use clap::Args;
use serde_json::Value as Json;

use super::campaigns::run_path;
use super::client::{Client, part};
use super::{Exit, output};

#[derive(Debug, Args)]
pub struct TimelineArgs {
    pub campaign: String,
    /// Another run than the latest.
    #[arg(long)]
    pub run: Option<u32>,
    /// Length of each part, as 10s, 5m, 1h or 1d; by default as fine as it is remembered.
    #[arg(long)]
    pub bucket: Option<String>,
    #[arg(long, default_value = "text", value_parser = ["text", "csv"])]
    pub format: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  estafette campaign compare spring summer\n  \
        estafette campaign compare spring:0 spring:1          a campaign and its follow-up\n  \
        estafette campaign compare run/3 run/7 --format csv   runs by number\n\n\
        The deliveries were not drawn from one audience at one time: a difference says that they differ, not why.")]
pub struct CompareArgs {
    /// Campaigns (their latest runs), one delivery of a campaign as NAME:INDEX, or runs as run/NUMBER.
    #[arg(required = true, num_args = 2..)]
    pub deliveries: Vec<String>,
    #[arg(long, default_value = "text", value_parser = ["text", "csv"])]
    pub format: String,
}

/// Columns of a timeline.
const TIMES: [&str; 8] =
    ["start", "accepted", "opened", "clicked", "converted", "unsubscribed", "complained", "bounced"];

pub(super) fn timeline(client: &Client, options: &TimelineArgs, as_json: bool) -> anyhow::Result<Exit> {
    let path = run_path(&options.campaign, options.run, "report/timeline");
    let mut query: Vec<(&str, &str)> = options.bucket.iter().map(|bucket| ("bucket", bucket.as_str())).collect();
    if options.format == "csv" && !as_json {
        query.push(("format", "csv"));
        client.download(&path, &query, &mut output::file())?;
        return Ok(Exit::Done);
    }
    let found = client.get(&path, &query)?;
    if as_json {
        output::json(&found)?;
        return Ok(Exit::Done);
    }
    let seconds = found["bucket_seconds"].as_f64().unwrap_or(0.0);
    output::line(&format!("run {}, by {}; people only", found["run"], output::duration(seconds)))?;
    let buckets = found["buckets"].as_array().map_or(&[][..], Vec::as_slice);
    let rows = buckets.iter().map(|bucket| TIMES.map(|column| output::text(&bucket[column])).to_vec()).collect();
    output::table(TIMES.map(str::to_owned).to_vec(), rows)?;
    Ok(Exit::Done)
}

pub(super) fn compare(client: &Client, options: &CompareArgs, as_json: bool) -> anyhow::Result<Exit> {
    let runs = options.deliveries.iter().map(|name| run_of(client, name)).collect::<anyhow::Result<Vec<String>>>()?;
    let runs = runs.join(",");
    if options.format == "csv" && !as_json {
        let query = [("runs", runs.as_str()), ("format", "csv")];
        client.download("/v1/compare", &query, &mut output::file())?;
        return Ok(Exit::Done);
    }
    let found = client.get("/v1/compare", &[("runs", &runs)])?;
    if as_json {
        output::json(&found)?
    } else {
        print(&found)?
    }
    Ok(Exit::Done)
}

/// `NAME`, `NAME:DELIVERY` or `run/NUMBER[:DELIVERY]` as the API wants it.
fn run_of(client: &Client, name: &str) -> anyhow::Result<String> {
    if let Some(run) = name.strip_prefix("run/") {
        return Ok(run.to_owned());
    }
    let (campaign, delivery) = match name.rsplit_once(':') {
        Some((campaign, delivery)) if !delivery.is_empty() && delivery.bytes().all(|b| b.is_ascii_digit()) => {
            (campaign, Some(delivery))
        }
        _ => (name, None),
    };
    let found = client.get(&format!("/v1/campaigns/{}", part(campaign)), &[])?;
    let run = found["run"].as_u64().ok_or_else(|| anyhow::anyhow!("campaign {campaign:?} has not been started yet"))?;
    Ok(delivery.map_or_else(|| run.to_string(), |delivery| format!("{run}:{delivery}")))
}

fn percent(value: &Json) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |rate| format!("{:.2} %", rate * 100.0))
}

fn print(found: &Json) -> anyhow::Result<()> {
    let deliveries = found["deliveries"].as_array().map_or(&[][..], Vec::as_slice);
    let title = |delivery: &Json| {
        let name = output::text(&delivery["name"]);
        match delivery["delivery"].as_u64() {
            Some(index) => format!("{name} (run {}, delivery {index})", delivery["run"]),
            None => format!("{name} (run {})", delivery["run"]),
        }
    };
    let header = std::iter::once(String::new()).chain(deliveries.iter().map(title)).collect();
    let row = |name: &str, of: &dyn Fn(&Json) -> String| -> Vec<String> {
        std::iter::once(name.to_owned()).chain(deliveries.iter().map(of)).collect()
    };
    let mut rows = vec![row("started", &|d| output::text(&d["started_at"]))];
    for name in ["audience", "accepted", "rejected", "skipped"] {
        rows.push(row(name, &|d| output::grouped(d[name].as_u64().unwrap_or(0))));
    }
    for name in ["opened", "clicked", "converted", "unsubscribed", "complained", "bounced"] {
        let contacts = |d: &Json| output::grouped(d[name]["contacts"].as_u64().unwrap_or(0));
        rows.push(row(name, &|d| format!("{} ({})", contacts(d), percent(&d[name]["rate"]))));
    }
    output::table(header, rows)?;
    for difference in found["differences"].as_array().into_iter().flatten() {
        let place = difference["place"].as_u64().and_then(|place| usize::try_from(place).ok()).unwrap_or(0);
        let other = deliveries.get(place).map(title).unwrap_or_default();
        let points = |value: &Json| format!("{:+.2}", value.as_f64().unwrap_or(0.0) * 100.0);
        let (low, high) = (points(&difference["interval"][0]), points(&difference["interval"][1]));
        output::line(&format!(
            "{}: {other} is {} points off the first (from {low} to {high}), p = {:.4}",
            output::text(&difference["of"]),
            points(&difference["difference"]),
            difference["p"].as_f64().unwrap_or(1.0)
        ))?;
    }
    Ok(())
}
