//! `estafette health`: whether a server is well, for people and for checks of containers. Needs no key. Owns no state.

use clap::{Args, ValueEnum};
use serde_json::Value as Json;

use super::args::Connection;
use super::client::{CallError, Client};
use super::{Exit, output};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Connectors {
    /// They don't count.
    #[default]
    None,
    /// Not well when no connector can be used.
    Any,
    /// Not well when one can't be used.
    All,
}

#[derive(Debug, Args)]
pub struct Health {
    /// Ask only whether the process works: it may be recovering, or out of space.
    #[arg(long, conflicts_with = "connectors")]
    pub alive: bool,
    /// Whether connectors count.
    #[arg(long, value_enum, default_value = "none")]
    pub connectors: Connectors,
}

/// The server's answer, whether it is well or not.
fn ask(connection: &Connection, options: &Health) -> anyhow::Result<(bool, Json)> {
    // The two paths need no key, and the client sends one.
    let client =
        Client::new(&connection.url, connection.api_key.as_deref().filter(|key| !key.is_empty()).or(Some("none")))?;
    let connectors = match options.connectors {
        Connectors::None => "none",
        Connectors::Any => "any",
        Connectors::All => "all",
    };
    let asked = match options.alive {
        true => client.get("/health", &[]),
        false => client.get("/ready", &[("connectors", connectors)]),
    };
    match asked {
        Ok(found) => Ok((true, found)),
        Err(CallError::Refused { body, .. }) if body.code == "not_ready" => Ok((false, body.details)),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn health(connection: &Connection, options: &Health, as_json: bool) -> anyhow::Result<Exit> {
    let (well, found) = ask(connection, options)?;
    if as_json {
        output::json(&found)?;
    } else {
        for line in lines(&found) {
            output::line(&line)?;
        }
        let verdict = match (well, options.alive) {
            (true, true) => "alive",
            (true, false) => "ready",
            (false, _) => "not ready",
        };
        output::line(&format!("{verdict} ({})", output::text(&found["state"])))?;
    }
    Ok(if well { Exit::Done } else { Exit::ProblemsFound })
}

/// A line a check.
fn lines(found: &Json) -> Vec<String> {
    let line = |check: &Json| {
        let subject = check["subject"].as_str().map_or(String::new(), |subject| format!(" {subject}"));
        let (name, state) = (output::text(&check["check"]), output::text(&check["state"]));
        format!("{state:8} {name}{subject}: {}", output::text(&check["message"]))
    };
    found["checks"].as_array().into_iter().flatten().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_is_a_line() {
        let found = serde_json::json!({"state": "degraded", "checks": [
            {"check": "disk", "subject": null, "state": "ok", "message": "there is room"},
            {"check": "connector", "subject": "relay", "state": "degraded", "message": "it is not used"},
        ]});
        assert_eq!(lines(&found), ["ok       disk: there is room", "degraded connector relay: it is not used"]);
    }
}
