//! `estafette events`: sends files of events, in portions, and shows what is remembered. Owns no state.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::client::Client;
use super::{Exit, output};
use crate::limits::REQUEST_BYTES_MAX;

#[derive(Debug, Subcommand)]
pub enum Events {
    /// Send events from a file: one JSON object a line, or an array in a file named .json; - is standard input. Exit code 6 if
    /// one is refused.
    #[command(after_help = EVENT_HELP)]
    Send { file: PathBuf },
    /// Types of events and how many contacts they are remembered of.
    Types,
}

const EVENT_HELP: &str = "A line:\n  {\"id\": \"e1\", \"type\": \"converted\", \"contact\": \"c000001\", \"campaign\": \"spring\"}\n\
    Types: delivered, bounced (class hard, soft or policy), complained, converted, or a name of your own.";

/// Events of one request: its answer comes within seconds.
const PORTION_EVENTS: u64 = 10_000;
const PORTION_BYTES: usize = REQUEST_BYTES_MAX / 2;
/// Refusals that are shown; those beyond are counted.
const SHOWN: usize = 20;

pub(super) fn run(client: &Client, command: &Events, as_json: bool) -> anyhow::Result<Exit> {
    match command {
        Events::Send { file } => {
            let taken = if file.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
                let text = std::fs::read_to_string(file).with_context(|| unreadable(file))?;
                client.send_text(Method::POST, "/v1/events", "application/json", text)?
            } else {
                send_lines(client, open(file)?, file)?
            };
            show(&taken, as_json)
        }
        Events::Types => {
            let types = client.get("/v1/events/types", &[])?;
            output::items(&types, &["type", "events", "contacts", "last_day"], as_json)?;
            Ok(Exit::Done)
        }
    }
}

fn unreadable(file: &Path) -> String {
    format!("{} cannot be read", file.display())
}

fn open(file: &Path) -> anyhow::Result<Box<dyn Read>> {
    if file == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    Ok(Box::new(std::fs::File::open(file).with_context(|| unreadable(file))?))
}

/// Sends one event a line; answers the sum of what the server said, with the lines of the file.
fn send_lines(client: &Client, input: Box<dyn Read>, file: &Path) -> anyhow::Result<Json> {
    let mut sum = Sum::default();
    let (mut portion, mut lines, mut first) = (String::new(), 0u64, 0u64);
    let mut input = BufReader::new(input);
    loop {
        let read = input.read_line(&mut portion).with_context(|| unreadable(file))?;
        lines += u64::from(read > 0);
        if read > 0 && lines - first < PORTION_EVENTS && portion.len() < PORTION_BYTES {
            continue;
        }
        if !portion.trim().is_empty() {
            let text = std::mem::take(&mut portion);
            let taken = client.send_text(Method::POST, "/v1/events", "application/x-ndjson", text)?;
            sum.add(&taken, first);
        }
        first = lines;
        if read == 0 {
            return Ok(sum.json());
        }
    }
}

#[derive(Default)]
struct Sum {
    counts: [u64; 3],
    results: Vec<Json>,
}

const COUNTS: [&str; 3] = ["accepted", "duplicate", "refused"];

impl Sum {
    fn add(&mut self, taken: &Json, lines_before: u64) {
        for (count, name) in self.counts.iter_mut().zip(COUNTS) {
            *count += taken[name].as_u64().unwrap_or(0);
        }
        for result in taken["results"].as_array().into_iter().flatten() {
            let mut result = result.clone();
            result["line"] = json!(result["line"].as_u64().unwrap_or(0) + lines_before);
            self.results.push(result);
        }
    }

    fn json(self) -> Json {
        let [accepted, duplicate, refused] = self.counts;
        json!({"accepted": accepted, "duplicate": duplicate, "refused": refused, "results": self.results})
    }
}

fn show(taken: &Json, as_json: bool) -> anyhow::Result<Exit> {
    let refused = taken["refused"].as_u64().unwrap_or(0);
    if as_json {
        output::json(taken)?;
    } else {
        let count = |name: &str| output::grouped(taken[name].as_u64().unwrap_or(0));
        output::line(&format!(
            "{} accepted, {} known already, {} refused",
            count("accepted"),
            count("duplicate"),
            count("refused")
        ))?;
        let results = taken["results"].as_array().into_iter().flatten();
        for result in results.filter(|result| result["result"] == "refused").take(SHOWN) {
            let (line, code) = (&result["line"], output::text(&result["code"]));
            let message = output::clean(result["message"].as_str().unwrap_or_default());
            output::line(&format!("  line {line}: {message} [{code}]"))?;
        }
        if refused > SHOWN as u64 {
            output::line(&format!("  and {} more (--json shows all)", refused - SHOWN as u64))?;
        }
    }
    Ok(if refused == 0 { Exit::Done } else { Exit::ProblemsFound })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_add_up_with_the_lines_of_the_file() {
        let mut sum = Sum::default();
        let portion = json!({"accepted": 1, "duplicate": 0, "refused": 1, "results": [{"line": 1}, {"line": 2}]});
        sum.add(&portion, 0);
        sum.add(&portion, 2);
        let sum = sum.json();
        assert_eq!((&sum["accepted"], &sum["refused"]), (&json!(2), &json!(2)));
        assert_eq!(sum["results"], json!([{"line": 1}, {"line": 2}, {"line": 3}, {"line": 4}]));
    }
}
