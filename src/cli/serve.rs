//! `estafette serve`: opens the data directory, serves the listeners, drains on SIGTERM.
//!
//! Owns the running server. Invariants: SE-1 the ports are bound before the engine starts, so that a taken port changes
//! nothing; SE-2 a stop drains the engine first and the listeners last, so that reports can be read to the end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::signal::unix::{SignalKind, signal};

use super::args::Serve;
use super::host::{Host, OpenRequest, Opened};
use super::{Exit, output, start_log};
use crate::api::inbox::InboxState;
use crate::api::keys::{KeyHash, admin_key};
use crate::api::server::{Bound, Servers, bind, write_address};
use crate::api::state::ApiState;
use crate::api::tracking::TrackingState;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::metrics;

pub(super) fn serve(host: &dyn Host, options: &Serve) -> anyhow::Result<Exit> {
    start_log("info", options.log_json);
    let config = Config::load(options.config.as_deref())?;
    let recorder = metrics::install().context("metrics")?;
    let given = std::env::var("ESTAFETTE_ADMIN_KEY").ok();
    actix_web::rt::System::new().block_on(async {
        let mut running = Running::start(host, config, &options.data, options.restored, given.as_deref(), recorder)?;
        running.announce();
        let why = running.until_stopped().await?;
        tracing::info!(signal = why, "draining: no new batch, answers on the wire are awaited");
        running.stop().await?;
        tracing::info!("stopped");
        Ok(Exit::Done)
    })
}

/// A server in this process.
pub(super) struct Running {
    opened: Opened,
    servers: Servers,
    drain: Duration,
    embedded_only: bool,
    pub(super) api_url: String,
    pub(super) public_url: String,
    pub(super) inbox_url: Option<String>,
    /// Made at this start, to be shown once.
    pub(super) new_key: Option<String>,
}

impl Running {
    /// Binds, opens, serves. Call within an actix system.
    pub(super) fn start(
        host: &dyn Host,
        mut config: Config,
        data: &Path,
        restored: bool,
        given_key: Option<&str>,
        recorder: PrometheusHandle,
    ) -> anyhow::Result<Running> {
        let api = bind("server.api_listen", config.server.api_listen)?;
        let public = bind("server.public_listen", config.server.public_listen)?;
        if config.server.public_url == format!("http://{}", config.server.public_listen) {
            config.server.public_url = format!("http://{}", public.address);
        }
        let (drain, embedded_only) = (config.server.drain_time_max, config.embedded_only);
        let opened = host.open(OpenRequest { data, config: config.clone(), restored })?;
        let (admin, new_key) = admin_key(data, given_key)?;
        let mut running = Running {
            opened,
            servers: Servers::none(),
            drain,
            embedded_only,
            api_url: format!("http://{}", api.address),
            public_url: config.server.public_url.clone(),
            inbox_url: None,
            new_key,
        };
        write_address(data, "api.addr", api.address)?;
        write_address(data, "public.addr", public.address)?;
        running.listen(api, public, &config, admin, recorder, data)?;
        Ok(running)
    }

    fn listen(
        &mut self,
        api: Bound,
        public: Bound,
        config: &Config,
        admin: KeyHash,
        recorder: PrometheusHandle,
        data: &Path,
    ) -> anyhow::Result<()> {
        let clock = Arc::new(SystemClock::new());
        let port = &self.opened.port;
        let tracking = TrackingState::new(Arc::clone(port), clock.clone(), config.server.trusted_proxies.clone());
        let state = ApiState::new(Arc::clone(port), config, admin, clock, Some(recorder), data)
            .with_context(|| format!("{}: answers for idempotency keys cannot be kept", data.display()))?;
        self.servers.serve_api(api, web::Data::new(state), self.drain)?;
        self.servers.serve_public(public, web::Data::new(tracking), self.drain)?;
        if let Some(view) = &self.opened.inbox {
            let inbox = bind("server.inbox_listen", config.server.inbox_listen)?;
            self.inbox_url = Some(format!("http://{}", inbox.address));
            self.servers.serve_inbox(inbox, web::Data::new(InboxState { view: Arc::clone(view) }))?;
        }
        Ok(())
    }

    /// Says where everything is; the key once.
    fn announce(&self) {
        output::note(&format!("API      {}  (docs: {}/docs)", self.api_url, self.api_url));
        output::note(&format!("tracking {}", self.public_url));
        if let Some(inbox) = &self.inbox_url {
            output::note(&format!("inbox    {inbox}"));
        }
        if self.embedded_only {
            output::note(
                "NOTHING LEAVES THIS MACHINE: no connector is configured, all mail goes to the embedded inbox",
            );
        }
        if let Some(key) = &self.new_key {
            output::note(&format!("admin key (shown once, stored hashed): {key}"));
        }
    }

    /// Waits for SIGTERM or SIGINT; an engine that fails is an error.
    async fn until_stopped(&mut self) -> anyhow::Result<&'static str> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => Ok("SIGTERM"),
            _ = interrupt.recv() => Ok("SIGINT"),
            error = &mut self.opened.failed => Err(error.context("the engine failed")),
        }
    }

    /// Drains the engine, then ends the listeners.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        let drained = (self.opened.drain)(self.drain).await;
        self.servers.stop().await;
        drained
    }
}
