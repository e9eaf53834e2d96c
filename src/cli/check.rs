//! `estafette check`: verifies a data directory offline, and prints what is wrong, where, and what to do. Owns no state.
//!
//! LMDB keeps no checksums and follows what its pages say: a page number beyond the file ends the process that reads it by
//! SIGBUS, a length beyond the page by SIGSEGV, a broken rule by SIGABRT. So the directory is read in a process of its own,
//! and such an end is a finding like any other. The journal is then read once more, here, so that no finding of it is lost.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use serde_json::{Value as Json, json};

use super::args::Check;
use super::host::Host;
use super::{Exit, output};
use crate::engine::check::{Checked, Finding, STORE_FIX, STORE_FOLDER};

/// Signals by which a process ends that reads what makes no sense: SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV.
const DAMAGE: [i32; 5] = [4, 6, 7, 8, 11];

pub(super) fn run(host: &dyn Host, options: &Check, as_json: bool) -> anyhow::Result<Exit> {
    anyhow::ensure!(options.data.is_dir(), "{} is not a directory", options.data.display());
    let checked = if options.here { host.check(&options.data)? } else { apart(host, &options.data)? };
    if as_json {
        let findings = checked.findings.iter().map(|f| json!({"place": f.place, "problem": f.problem, "fix": f.fix}));
        let findings: Vec<_> = findings.collect();
        output::json(&json!({"looked_at": checked.looked_at, "findings": findings}))?;
    } else {
        for line in &checked.looked_at {
            output::line(&output::clean(line))?;
        }
        for finding in &checked.findings {
            let (place, problem) = (output::clean(&finding.place), output::clean(&finding.problem));
            output::line(&format!("{place}: {problem}\n  → {}", finding.fix))?;
        }
        let verdict = if checked.findings.is_empty() { "all is well" } else { "something is wrong" };
        output::line(verdict)?;
    }
    Ok(if checked.findings.is_empty() { Exit::Done } else { Exit::ProblemsFound })
}

/// The findings of another process of this program.
fn apart(host: &dyn Host, data: &Path) -> anyhow::Result<Checked> {
    let program = std::env::current_exe().context("finding this program")?;
    let mut command = Command::new(program);
    command.args(["check", "--here", "--json", "--data"]).arg(data).stdin(Stdio::null()).stderr(Stdio::null());
    let ended = command.output().context("starting the process that reads the directory")?;
    match (ended.status.code(), ended.status.signal()) {
        (Some(0 | 6), _) => read(&ended.stdout).context("reading what the check found"),
        (None, Some(signal)) if DAMAGE.contains(&signal) => {
            let mut checked = host.check_journal(data)?;
            let place = data.join(STORE_FOLDER).display().to_string();
            let problem = format!("a page is damaged: reading it ended the process that did by signal {signal}");
            checked.findings.push(Finding { place, problem, fix: STORE_FIX.to_owned() });
            Ok(checked)
        }
        (None, signal) => anyhow::bail!("the check was ended by signal {}", signal.unwrap_or(0)),
        // It failed in order, and so it does here: with the words for it.
        _ => host.check(data),
    }
}

fn read(stdout: &[u8]) -> anyhow::Result<Checked> {
    let found: Json = serde_json::from_slice(stdout)?;
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let list = |name: &str| found[name].as_array().cloned().unwrap_or_default();
    let finding = |f: &Json| Finding { place: text(&f["place"]), problem: text(&f["problem"]), fix: text(&f["fix"]) };
    Ok(Checked {
        looked_at: list("looked_at").iter().map(text).collect(),
        findings: list("findings").iter().map(finding).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_other_process_prints_is_read_back() {
        let printed = json!({"looked_at": ["4 frames"], "findings": [{"place": "a", "problem": "b", "fix": "c"}]});
        let checked = read(printed.to_string().as_bytes()).unwrap();
        let finding = Finding { place: "a".into(), problem: "b".into(), fix: "c".into() };
        assert_eq!(checked, Checked { looked_at: vec!["4 frames".into()], findings: vec![finding] });
        assert!(read(b"{\"looked").is_err(), "half a document is none");
    }
}
