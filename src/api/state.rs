//! What every handler of the API listener shares. Owns nothing but handles; made once by `server`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;

use crate::api::guard;
use crate::api::idempotency::Idempotency;
use crate::api::keys::{KeyHash, Keys};
use crate::api::port::EnginePort;
use crate::clock::Clock;
use crate::config::Config;
use crate::limits;

pub struct ApiState {
    pub port: Arc<dyn EnginePort>,
    pub keys: Keys,
    pub clock: Arc<dyn Clock>,
    /// None: nothing records (tests).
    pub recorder: Option<PrometheusHandle>,
    pub idempotency: Idempotency,
    pub uploads: Semaphore,
    pub upload_bytes_max: u64,
    pub one_shot_bytes_max: u64,
    pub request_time_max: Duration,
    /// Backups may be made below it only; none: anywhere.
    pub backup_folder: Option<PathBuf>,
}

impl ApiState {
    /// `directory` is the data directory, in which idempotency keys are kept.
    pub fn new(
        port: Arc<dyn EnginePort>,
        config: &Config,
        admin: KeyHash,
        clock: Arc<dyn Clock>,
        recorder: Option<PrometheusHandle>,
        directory: &Path,
    ) -> std::io::Result<ApiState> {
        guard::announce("api");
        Ok(ApiState {
            port,
            keys: Keys::new(admin, &config.server.metrics),
            clock,
            recorder,
            idempotency: Idempotency::open(directory.join("idempotency"))?,
            uploads: Semaphore::new(limits::UPLOADS_MAX),
            upload_bytes_max: config.server.upload_bytes_max,
            one_shot_bytes_max: config.data.one_shot_bytes_max,
            request_time_max: config.server.request_time_max,
            backup_folder: config.data.backup_folder.clone(),
        })
    }
}
