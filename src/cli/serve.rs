//! `estafette serve`: opens the data directory, serves the listeners, drains on SIGTERM.
//!
//! Owns the running server. Invariants: SE-1 all ports are bound and the given key is checked before the engine starts, so
//! that a taken port changes nothing, and clicks that come during recovery wait for its end; the API listener says meanwhile
//! that it recovers; SE-2 a stop drains the engine first and the listeners last, so that reports can be read to the end, by
//! one deadline; SE-3 a new admin key is stored when nothing can fail any more before it is shown.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::web;
use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusHandle;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use super::args::Serve;
use super::host::{Host, OpenRequest, Opened};
use super::log::LogFormat;
use super::{Exit, log, output};
use crate::api::inbox::InboxState;
use crate::api::keys::{AdminKey, KeyHash};
use crate::api::recovering::Recovering;
use crate::api::server::{Bound, Servers, bind, write_address};
use crate::api::state::ApiState;
use crate::api::tracking::TrackingState;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::config::connectors::ConnectorSettings;
use crate::{limits, metrics};

pub(super) fn serve(host: &dyn Host, options: &Serve) -> anyhow::Result<Exit> {
    let format = if options.log_json { LogFormat::Json } else { options.log_format };
    log::start("info", format);
    log::hide_by(&options.data);
    let config = Config::load(options.config.as_deref())?;
    let recorder = metrics::install().context("metrics")?;
    let given = std::env::var("ESTAFETTE_ADMIN_KEY").ok();
    actix_web::rt::System::new().block_on(async {
        let mut running = Running::start(host, config, &options.data, options.restored, given.as_deref(), recorder)?;
        running.announce();
        tell_systemd(&[NotifyState::Ready, NotifyState::Status("serving")]);
        let why = running.until_stopped().await?;
        tell_systemd(&[NotifyState::Stopping, NotifyState::Status("draining: answers on the wire are awaited")]);
        tracing::info!(signal = why, "draining: no new batch, answers on the wire are awaited");
        running.stop().await?;
        tracing::info!("stopped");
        Ok(Exit::Done)
    })
}

/// Tells the service manager, if one listens, where the process stands.
fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager is not told");
    }
}

/// The recorder keeps every value of a histogram until somebody scrapes, or this folds it into its buckets.
fn keep_small(recorder: PrometheusHandle) {
    actix_web::rt::spawn(async move {
        loop {
            tokio::time::sleep(limits::METRICS_UPKEEP).await;
            recorder.run_upkeep();
        }
    });
}

/// All ports of a server, bound and not yet served.
struct Sockets {
    api: Bound,
    public: Bound,
    /// If a connector leads to the embedded inbox.
    inbox: Option<Bound>,
}

impl Sockets {
    fn bind(config: &Config) -> anyhow::Result<Sockets> {
        let server = &config.server;
        let has_inbox = config.connectors.iter().any(|c| matches!(c, ConnectorSettings::Inbox(_)));
        Ok(Sockets {
            api: bind("server.api_listen", server.api_listen)?,
            public: bind("server.public_listen", server.public_listen)?,
            inbox: has_inbox.then(|| bind("server.inbox_listen", server.inbox_listen)).transpose()?,
        })
    }
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
        let key = AdminKey::prepare(data, given_key)?;
        let sockets = Sockets::bind(&config)?;
        if config.server.public_url == format!("http://{}", config.server.public_listen) {
            config.server.public_url = format!("http://{}", sockets.public.address);
        }
        let recovering = Recovering::start(&sockets.api)?;
        tracing::info!(address = %sockets.api.address, "recovering: /health answers, everything else waits");
        let opened = host.open(OpenRequest { data, config: config.clone(), restored })?;
        drop(recovering);
        // The first start has made the secret just now.
        log::hide_by(data);
        let mut running = Running {
            opened,
            servers: Servers::none(),
            drain: config.server.drain_time_max,
            embedded_only: config.embedded_only,
            api_url: format!("http://{}", sockets.api.address),
            public_url: config.server.public_url.clone(),
            inbox_url: None,
            new_key: None,
        };
        write_address(data, "api.addr", sockets.api.address)?;
        write_address(data, "public.addr", sockets.public.address)?;
        running.listen(sockets, &config, key.hash, recorder, data)?;
        key.store(data)?;
        running.new_key = key.new;
        Ok(running)
    }

    fn listen(
        &mut self,
        sockets: Sockets,
        config: &Config,
        admin: KeyHash,
        recorder: PrometheusHandle,
        data: &Path,
    ) -> anyhow::Result<()> {
        let clock = Arc::new(SystemClock::new());
        keep_small(recorder.clone());
        let port = &self.opened.port;
        let tracking = TrackingState::new(Arc::clone(port), clock.clone(), config.server.trusted_proxies.clone())
            .with_ranges(config.tracking.clone());
        let state = ApiState::new(Arc::clone(port), config, admin, clock, Some(recorder), data)
            .with_context(|| format!("{}: answers for idempotency keys cannot be kept", data.display()))?;
        self.servers.serve_api(sockets.api, web::Data::new(state), self.drain)?;
        self.servers.serve_public(sockets.public, web::Data::new(tracking), self.drain)?;
        if let (Some(inbox), Some(view)) = (sockets.inbox, &self.opened.inbox) {
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

    /// Drains the engine, then ends the listeners, in `server.drain_seconds_max` together.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        let deadline = Instant::now() + self.drain;
        let drained = (self.opened.drain)(self.drain).await;
        let left = deadline.saturating_duration_since(Instant::now());
        self.servers.stop(left.max(limits::HTTP_CLOSE_MIN)).await;
        drained
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::Mutex;

    use super::*;
    use crate::engine::backup::Manifest;
    use crate::engine::check::Checked;

    /// A host whose recovery is what a test does in it; it never ends well.
    struct Host1<F: Fn(SocketAddr)>(F);

    impl<F: Fn(SocketAddr)> Host for Host1<F> {
        fn open(&self, request: OpenRequest<'_>) -> anyhow::Result<Opened> {
            (self.0)(request.config.server.api_listen);
            anyhow::bail!("the recovery failed")
        }

        fn check(&self, _: &Path) -> anyhow::Result<Checked> {
            anyhow::bail!("not asked for here")
        }

        fn check_journal(&self, _: &Path) -> anyhow::Result<Checked> {
            anyhow::bail!("not asked for here")
        }

        fn backup(&self, _: &Path, _: &Path) -> anyhow::Result<Manifest> {
            anyhow::bail!("not asked for here")
        }

        fn restore(&self, _: &Path, _: &Path, _: &dyn Fn(u64)) -> anyhow::Result<Manifest> {
            anyhow::bail!("not asked for here")
        }
    }

    fn start<F: Fn(SocketAddr)>(address: SocketAddr, recovery: F) -> anyhow::Error {
        let toml = format!(
            "[server]\napi_listen = \"{address}\"\npublic_listen = \"127.0.0.1:0\"\ninbox_listen = \"127.0.0.1:0\"\n"
        );
        start_in(tempfile::tempdir().unwrap().path(), &toml, None, recovery)
    }

    fn start_in<F: Fn(SocketAddr)>(data: &Path, toml: &str, key: Option<&str>, recovery: F) -> anyhow::Error {
        let config = Config::parse(toml, Path::new("test.toml")).unwrap();
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle();
        let started = actix_web::rt::System::new()
            .block_on(async { Running::start(&Host1(recovery), config, data, false, key, recorder) });
        started.err().unwrap()
    }

    fn free_address() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    fn get(address: SocketAddr, path: &str) -> (u16, serde_json::Value) {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    #[test]
    fn while_it_recovers_it_is_alive_and_not_ready() {
        let address = free_address();
        let seen = Mutex::new(Vec::new());
        let paths = ["/health", "/ready", "/v1/campaigns", "/metrics", "/nothing"];
        let error = start(address, |at| *seen.lock().unwrap() = paths.map(|path| get(at, path)).into());
        assert!(error.to_string().contains("the recovery failed"), "{error:#}");
        let seen = seen.into_inner().unwrap();
        assert_eq!((seen[0].0, &seen[0].1["state"]), (200, &"starting".into()), "alive: {}", seen[0].1);
        for (path, (status, body)) in paths.iter().zip(&seen).skip(1) {
            assert_eq!((*status, &body["code"]), (503, &"not_ready".into()), "{path}: {body}");
            assert!(body["message"].is_string() && body["link"].is_string(), "{path} is of the error table: {body}");
        }
        assert!(TcpListener::bind(address).is_ok(), "a recovery that fails leaves nobody listening");
    }

    #[test]
    fn a_taken_port_is_told_before_anything_is_opened() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = start(taken.local_addr().unwrap(), |_| panic!("the data directory was opened"));
        let text = format!("{error:#}");
        assert!(text.contains("server.api_listen") && text.contains("choose another port"), "{text}");
    }

    #[test]
    fn a_start_that_fails_keeps_no_key_that_nobody_saw() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let data = tempfile::tempdir().unwrap();
        let any = "api_listen = \"127.0.0.1:0\"\npublic_listen = \"127.0.0.1:0\"\n";
        let inbox = taken.local_addr().unwrap();
        let toml =
            format!("[server]\n{any}inbox_listen = \"{inbox}\"\n[[connectors]]\nname = \"inbox\"\nkind = \"inbox\"\n");
        let text = format!("{:#}", start_in(data.path(), &toml, None, |_| panic!("the data directory was opened")));
        assert!(text.contains("server.inbox_listen") && text.contains("choose another port"), "{text}");
        let toml = format!("[server]\n{any}inbox_listen = \"127.0.0.1:0\"\n");
        let error = start_in(data.path(), &toml, Some("short"), |_| panic!("the data directory was opened"));
        assert!(error.to_string().contains("ESTAFETTE_ADMIN_KEY"), "{error:#}");
        start_in(data.path(), &toml, None, |_| ());
        assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0, "the next start makes a key and shows it");
    }
}
