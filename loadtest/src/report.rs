//! Typed reports of a run: what was run, on what, with which parameters, and what came out.
//!
//! Owns no state. Invariant: a report names the command line, the revision and the machine, so that a figure is never
//! without them.

use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde::Serialize;

use crate::proc::{Disturbance, Machine};

/// The envelope of every report.
#[derive(Clone, Debug, Serialize)]
pub struct Report<P: Serialize, R: Serialize> {
    /// The command line, as typed.
    pub command: Vec<String>,
    /// `git describe --always --dirty`, if there is a repository.
    pub revision: Option<String>,
    pub machine: Machine,
    pub parameters: P,
    /// What others took of the machine while it was measured.
    pub disturbance: Disturbance,
    pub disturbed: bool,
    pub result: R,
}

impl<P: Serialize, R: Serialize> Report<P, R> {
    pub fn new(parameters: P, disturbance: Disturbance, result: R) -> Report<P, R> {
        Report {
            command: std::env::args().collect(),
            revision: revision(),
            machine: Machine::read(),
            parameters,
            disturbance,
            disturbed: disturbance.is_busy(),
            result,
        }
    }

    /// Writes the report, if a file was named.
    pub fn write(&self, file: Option<&Path>) -> anyhow::Result<()> {
        let Some(file) = file else { return Ok(()) };
        let mut text = serde_json::to_string_pretty(self).context("report as JSON")?;
        text.push('\n');
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
    }

    /// The lines that stand above every table.
    pub fn heading(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "{} · {} cores · {:.0} GiB · Linux {} · revision {}\n",
            machine.cpu,
            machine.cores,
            machine.memory_bytes as f64 / f64::from(1 << 30),
            machine.kernel,
            self.revision.as_deref().unwrap_or("unknown")
        );
        if self.disturbed {
            text.push_str(&format!(
                "NOTE: the machine was busy with something else: others took {:.2} cores, the hypervisor {:.2}. Compare ratios only.\n",
                self.disturbance.foreign_cores, self.disturbance.stolen_cores
            ));
        }
        text
    }
}

fn revision() -> Option<String> {
    let out = Command::new("git").args(["describe", "--always", "--dirty"]).output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    (out.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_where_it_comes_from() {
        let report =
            Report::new(serde_json::json!({"contacts": 5}), Disturbance { foreign_cores: 1.5, stolen_cores: 0.0 }, 7);
        assert!(
            report.disturbed && report.heading().contains("busy with something else"),
            "it says so: {}",
            report.heading()
        );
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("report.json");
        report.write(Some(&file)).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!(
            (read["result"].as_u64(), read["parameters"]["contacts"].as_u64()),
            (Some(7), Some(5)),
            "its fields"
        );
        assert!(read["machine"]["cores"].as_u64() > Some(0), "the machine is named");
    }
}
