//! Wire types of connectors and health. Owns no state.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConnectorView {
    pub name: String,
    pub channel: String,
    /// `smtp`, `null`, `simulated`, `inbox`.
    pub kind: String,
    /// Where it sends to; no secrets.
    #[schema(example = "127.0.0.1:2525")]
    pub target: String,
    pub connections: u32,
    pub connections_max: u32,
    /// Configured limit; none: as fast as the provider takes it.
    pub messages_per_second: Option<f64>,
    /// `closed` (working), `open` (refused by the provider, not used), `half_open` (being tried).
    pub circuit: String,
    pub circuit_reason: Option<String>,
    pub credits_used: u64,
    pub credits_max: u64,
    /// Messages that wait for this connector.
    pub waiting: u64,
    /// Claimed and not handed over: what its lanes have before them. A limited connector holds a second of its limit at most.
    pub claimed_ahead: u64,
    /// Destination domains with limits of their own.
    pub domains: Vec<ConnectorDomain>,
}

/// A destination domain with limits of its own on a connector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConnectorDomain {
    #[schema(example = "gmail.com")]
    pub domain: String,
    /// None: as fast as the connector.
    pub messages_per_second: Option<f64>,
    /// Messages that wait for this domain.
    pub waiting: u64,
    /// Claimed and not handed over: at most a second of its limit.
    pub claimed_ahead: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConnectorTest {
    pub name: String,
    pub ok: bool,
    pub took_ms: f64,
    /// What happened, step by step: connect, greeting, TLS, authentication, extensions.
    pub steps: Vec<String>,
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// Recovery is under way.
    Starting,
    Ready,
    /// The engine works and something needs a person: a full disk, an open circuit.
    Degraded,
    /// SIGTERM was received.
    Draining,
    /// The journal failed: the process is about to end.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    Ok,
    /// Somebody should look; requests are served and what they change is durable.
    Degraded,
    /// The server is not ready because of it.
    Failed,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HealthCheck {
    /// `process`, `journal`, `disk`, or `connector` with its name in `subject`.
    pub check: String,
    pub subject: Option<String>,
    pub state: CheckState,
    /// For programs: `recovering`, `shutting_down` (process); `failed`, `no_space`, `stalled` (journal);
    /// `below_floor` (disk); `unreachable`, `sender_refused`, `being_tried` (connector). None when it is well.
    pub reason: Option<String>,
    /// For people.
    pub message: String,
    /// Disk: bytes that are free, and fewer than which stop campaigns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor_bytes: Option<u64>,
    /// Connector: messages that wait for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u64>,
}

impl HealthCheck {
    pub fn ok(check: &str, message: impl Into<String>) -> HealthCheck {
        HealthCheck {
            check: check.to_owned(),
            subject: None,
            state: CheckState::Ok,
            reason: None,
            message: message.into(),
            free_bytes: None,
            floor_bytes: None,
            waiting: None,
        }
    }

    pub fn bad(check: &str, state: CheckState, reason: &str, message: impl Into<String>) -> HealthCheck {
        HealthCheck { state, reason: Some(reason.to_owned()), ..HealthCheck::ok(check, message) }
    }
}

/// Whether connectors count for readiness. By default they don't: a server whose providers are down still takes
/// opt-outs, clicks and the commands of people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectorsCount {
    #[default]
    None,
    /// Not ready when no connector can be used.
    Any,
    /// Not ready when one can't be used.
    All,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    pub state: HealthState,
    /// What `/ready` answers by.
    pub ready: bool,
    /// One sentence each; empty when all is well.
    pub problems: Vec<String>,
    /// All that was looked at, well or not.
    pub checks: Vec<HealthCheck>,
    pub version: String,
    pub uptime_seconds: f64,
    /// How long recovery took at this start.
    pub recovery_seconds: Option<f64>,
}

impl Health {
    /// What follows from the checks of a process in this state.
    pub fn of(state: HealthState, checks: Vec<HealthCheck>) -> Health {
        let worst = checks.iter().map(|check| check.state).max().unwrap_or(CheckState::Ok);
        let state = if state == HealthState::Ready && worst != CheckState::Ok { HealthState::Degraded } else { state };
        let serves = matches!(state, HealthState::Ready | HealthState::Degraded);
        let bad = checks.iter().filter(|check| check.state != CheckState::Ok);
        Health {
            state,
            ready: serves && worst != CheckState::Failed,
            problems: bad.map(|check| check.message.clone()).collect(),
            checks,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: 0.0,
            recovery_seconds: None,
        }
    }

    /// Whether requests are served, what they change is durable, and as many connectors work as are asked for.
    pub fn is_ready(&self, connectors: ConnectorsCount) -> bool {
        let mut of_connectors = self.checks.iter().filter(|check| check.check == "connector").peekable();
        let usable = |check: &HealthCheck| check.state == CheckState::Ok;
        self.ready
            && match connectors {
                ConnectorsCount::None => true,
                ConnectorsCount::Any => of_connectors.peek().is_none() || of_connectors.any(usable),
                ConnectorsCount::All => of_connectors.all(usable),
            }
    }
}
