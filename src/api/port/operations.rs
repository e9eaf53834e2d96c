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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    pub state: HealthState,
    /// One sentence each; empty when all is well.
    pub problems: Vec<String>,
    pub version: String,
    pub uptime_seconds: f64,
    /// How long recovery took at this start.
    pub recovery_seconds: Option<f64>,
}

impl Health {
    /// Whether requests and sends are served.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, HealthState::Ready | HealthState::Degraded)
    }
}
