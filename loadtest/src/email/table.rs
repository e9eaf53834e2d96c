//! What the e-mail run says: the table of senders, the chart of their rounds, and the remarks.
//!
//! Owns nothing. Invariant: a rate stands beside the least and the most of its rounds, and a ratio is the median of the rounds' own.

use super::{EmailOptions, EmailResult, Round, each, over};
use crate::findings::{Axes, Findings, Scale};
use crate::peers::listmonk::run::Seen;
use crate::text::{cells, grouped, mebibytes, median};

const PER_ROUND: Axes = Axes { title: "Rate per round", x: "round", y: "messages a second", scale: Scale::Linear };

const HEAD: [&str; 7] = [
    "sender",
    "msg/s (median)",
    "min–max",
    "ratio (median of rounds)",
    "CPU µs/msg (user + system)",
    "sink CPU µs/msg",
    "bytes/msg",
];

/// Table, remarks and the chart of the rounds.
pub(super) fn tell(findings: &Findings, result: &EmailResult, options: &EmailOptions) {
    let mut rows = vec![cells(HEAD)];
    rows.push(row("estafette, SMTP", &result.engine, format!("{:.2}", result.ratio)));
    if !result.chunked.is_empty() {
        rows.push(row("estafette, SMTP with CHUNKING", &result.chunked, format!("{:.2}", result.chunked_ratio)));
    }
    rows.push(row("smtp-source -d", &result.peer, "1".to_owned()));
    rows.extend(ceiling_row(result));
    rows.push(row("estafette, null connector", &result.null, String::new()));
    rows.extend(listmonk_row(result));
    findings.table("Senders, to the same sink, alternating", rows);
    let senders = [("estafette", &result.engine), ("with CHUNKING", &result.chunked), ("smtp-source", &result.peer)];
    for (name, rounds) in senders.into_iter().filter(|(_, rounds)| !rounds.is_empty()) {
        findings.repetitions(&PER_ROUND, name, &rates(rounds));
    }
    remarks(findings, result, options);
}

fn remarks(findings: &Findings, result: &EmailResult, options: &EmailOptions) {
    findings.remark(format!(
        "{} contacts, {} rounds alternating, {} connections; peer: {}",
        options.contacts, options.rounds, options.connections, result.peer_command
    ));
    findings.remark(format!(
        "journal for a million messages: {:.1} MiB, {} fdatasync; CHUNKING (opt-in) sends four messages a round trip, and \
         leaves up to four a connection unknown at a kill, else one",
        result.journal.mebibytes(),
        grouped(result.journal.syncs())
    ));
    findings.remark(format!(
        "engine alone (null connector), CPU per message of smtp-source's: {:.4} = 1/{:.1} (goal ≤ 1/20)",
        result.null_cpu_share,
        1.0 / result.null_cpu_share.max(1e-9)
    ));
    findings.remark(format!(
        "memory of the engine: peak RssAnon + RssShmem {}, RssFile {}",
        mebibytes(result.memory.own),
        mebibytes(result.memory.file)
    ));
    if let Some(import) = &result.import {
        findings.remark(format!("import: {} rows, {} rows/s", import.rows, grouped(import.rows_per_second)));
    }
}

fn rates(rounds: &[Round]) -> Vec<f64> {
    each(rounds, |r| r.per_second)
}

/// The middle of the rounds' rates, and the least and the most of them; `None` without a round.
fn spread(rates: &[f64]) -> Option<(String, String)> {
    let (least, most) = (rates.iter().copied().reduce(f64::min)?, rates.iter().copied().reduce(f64::max)?);
    Some((grouped(median(rates)), format!("{}–{}", grouped(least), grouped(most))))
}

fn row(name: &str, rounds: &[Round], ratio: String) -> Vec<String> {
    let middle = |pick: fn(&Round) -> f64| format!("{:.1}", median(&each(rounds, pick)));
    let (rate, range) = spread(&rates(rounds)).unwrap_or_default();
    let (user, system) = (middle(|r| r.user_microseconds), middle(|r| r.system_microseconds));
    let cpu = format!("{} ({user} + {system})", middle(|r| r.cpu_microseconds));
    let bytes = grouped(median(&each(rounds, |r| r.bytes)));
    cells([name, &rate, &range, &ratio, &cpu, &middle(|r| r.sink_cpu_microseconds), &bytes])
}

fn listmonk_row(result: &EmailResult) -> Option<Vec<String>> {
    let rates_of: Vec<f64> = result.listmonk.iter().map(|seen| seen.sink.per_second).collect();
    let (rate, range) = spread(&rates_of)?;
    let ratio = format!("{:.2}", over(&rates_of, &rates(&result.peer)));
    let name = format!("listmonk {}", result.listmonk_version);
    let per_message = |seen: &Seen| seen.sink.counts.bytes as f64 / seen.sink.counts.accepted.max(1) as f64;
    let bytes = grouped(median(&result.listmonk.iter().map(per_message).collect::<Vec<_>>()));
    Some(cells([&name, &rate, &range, &ratio, "", "", &bytes]))
}

/// What the sink takes from a client that sends one message a round trip, and does nothing else.
fn ceiling_row(result: &EmailResult) -> Option<Vec<String>> {
    let rates_of: Vec<f64> = result.ceiling.iter().map(|client| client.per_second).collect();
    let (rate, range) = spread(&rates_of)?;
    let cpu = median(&result.ceiling.iter().map(|client| client.cpu_microseconds_per_message).collect::<Vec<_>>());
    let ratio = format!("{:.2}", over(&rates_of, &rates(&result.peer)));
    let name = "bare pipelined client, no CHUNKING";
    Some(cells([name, &rate, &range, &ratio, &format!("{cpu:.1}"), "", ""]))
}
