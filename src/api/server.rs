//! The listeners: binds, builds the two applications, and stops them in order.
//!
//! Owns the running servers. Invariants: SV-1 a port that is taken is an error that names address and way out, before
//! anything else starts; SV-2 `stop` lets answers under way end, up to one deadline for all listeners, and cuts off bodies
//! that are still on their way.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::Method;
use actix_web::middleware::{Compress, from_fn};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, ResponseError, web};
use futures_util::future::join_all;

use crate::api::closing::{self, Closing};
use crate::api::errors::Code;
use crate::api::inbox::{self, InboxState};
use crate::api::reply::{ApiError, configure_extractors};
use crate::api::routes::docs;
use crate::api::state::ApiState;
use crate::api::tracking::{self, TrackingState};
use crate::api::{guard, routes};
use crate::limits;

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "{key} = \"{address}\" cannot be used: {source}; another program may have it: choose another port, or 0 for a free one"
    )]
    Bind {
        key: &'static str,
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("the address file {path} cannot be written: {source}")]
    AddressFile {
        path: String,
        #[source]
        source: std::io::Error,
    },
}

/// A socket that is bound and not yet served.
pub struct Bound {
    listener: TcpListener,
    pub address: SocketAddr,
}

impl Bound {
    /// The same socket once more: whoever listens last gets the connections that nobody has taken.
    pub(super) fn duplicate(&self) -> std::io::Result<TcpListener> {
        self.listener.try_clone()
    }
}

/// Binds an address; `key` is the configuration key to name if that fails.
pub fn bind(key: &'static str, address: SocketAddr) -> Result<Bound, ListenError> {
    let failed = |source| ListenError::Bind { key, address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Bound { listener, address })
}

/// Writes the address in force to a file of the data directory, for programs that asked for port 0.
pub fn write_address(directory: &Path, name: &str, address: SocketAddr) -> Result<(), ListenError> {
    let path = directory.join(name);
    let failed = |source| ListenError::AddressFile { path: path.display().to_string(), source };
    let file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    std::fs::write(file.path(), format!("{address}\n")).map_err(failed)?;
    file.persist(&path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Starts a server with the settings that all have; a macro, because the type of an application cannot be written down.
macro_rules! serve {
    ($servers:expr, $key:literal, $bound:expr, $drain:expr, $app:expr) => {{
        let Bound { listener, address } = $bound;
        let server = HttpServer::new($app)
            .disable_signals()
            .max_connections(limits::HTTP_CONNECTIONS_MAX)
            .client_request_timeout(limits::HTTP_HEAD_MAX)
            .keep_alive(limits::HTTP_KEEP_ALIVE)
            .shutdown_timeout($drain.as_secs())
            .listen(listener)
            .map_err(|source| ListenError::Bind { key: $key, address, source })?
            .run();
        $servers.handles.push(server.handle());
        actix_web::rt::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, %address, "a listener ended");
            }
        });
        Ok(())
    }};
}

/// Running listeners.
pub struct Servers {
    handles: Vec<ServerHandle>,
    closing: Closing,
}

impl Servers {
    pub fn none() -> Servers {
        Servers { handles: Vec::new(), closing: Closing::default() }
    }

    /// Refuses new connections, and returns when answers under way are out, or after `longest`. All listeners at a time.
    pub async fn stop(self, longest: Duration) {
        self.closing.begin();
        let ends = join_all(self.handles.iter().map(|handle| handle.stop(true)));
        if tokio::time::timeout(longest, ends).await.is_err() {
            tracing::warn!("answers under way are cut off: the time for the shutdown has passed");
        }
    }

    /// Serves the API. Call within an actix system.
    pub fn serve_api(&mut self, bound: Bound, state: web::Data<ApiState>, drain: Duration) -> Result<(), ListenError> {
        let closing = self.closing.clone();
        let app = move || {
            App::new()
                .app_data(state.clone())
                .app_data(closing.clone())
                .wrap(Compress::default())
                .wrap(from_fn(guard::idempotent))
                .wrap(from_fn(closing::cut_off))
                .wrap(from_fn(guard::authorize))
                .wrap(from_fn(guard::observe))
                .configure(configure_extractors)
                .configure(routes::configure)
                .default_service(web::to(no_route))
        };
        serve!(self, "server.api_listen", bound, drain, app)
    }

    /// Serves the tracking endpoints. Call within an actix system.
    pub fn serve_public(
        &mut self,
        bound: Bound,
        state: web::Data<TrackingState>,
        drain: Duration,
    ) -> Result<(), ListenError> {
        let closing = self.closing.clone();
        let app = move || App::new().app_data(state.clone()).app_data(closing.clone()).configure(tracking::configure);
        serve!(self, "server.public_listen", bound, drain, app)
    }

    /// Serves the page of the embedded inbox. Call within an actix system.
    pub fn serve_inbox(&mut self, bound: Bound, state: web::Data<InboxState>) -> Result<(), ListenError> {
        let app = move || App::new().app_data(state.clone()).configure(inbox::configure);
        serve!(self, "server.inbox_listen", bound, Duration::from_secs(1), app)
    }
}

/// What no route takes: 405 if the path exists with another method, else 404.
pub(super) async fn no_route(request: HttpRequest) -> HttpResponse {
    let allowed = docs::methods_of(request.path());
    if allowed.is_empty() || allowed.contains(request.method()) {
        let message = format!("there is no {} {}", request.method(), request.path());
        return ApiError::new(Code::RouteNotFound, message).error_response();
    }
    let names = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    let message = format!("{} is not allowed here, but {names}", request.method());
    let mut response = ApiError::new(Code::MethodNotAllowed, message).error_response();
    if let Ok(value) = names.parse() {
        response.headers_mut().insert(actix_web::http::header::ALLOW, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::sync::Arc;

    use super::*;
    use crate::api::fake::Fake;
    use crate::api::keys::KeyHash;
    use crate::clock::{ManualClock, Timestamp};
    use crate::config::Config;

    const KEY: &str = "the-admin-key-of-tests";

    fn spools(engine: &Fake) -> usize {
        let files = std::fs::read_dir(engine.directory.path()).unwrap().flatten();
        files.filter(|file| file.file_name().to_string_lossy().starts_with("spool")).count()
    }

    #[actix_web::test]
    async fn a_stop_cuts_an_upload_that_stalls_and_says_so() {
        let engine = Fake::new();
        let config = Config::parse("", Path::new("test")).unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp(1_000)));
        let state =
            ApiState::new(engine.clone(), &config, KeyHash::of(KEY), clock, None, engine.directory.path()).unwrap();
        let bound = bind("server.api_listen", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = bound.address;
        let mut servers = Servers::none();
        servers.serve_api(bound, web::Data::new(state), Duration::from_secs(600)).unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let head = "POST /v1/imports?key=id HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n";
        write!(client, "{head}Authorization: Bearer {KEY}\r\n\r\nid\n1\n").unwrap();
        while spools(&engine) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let answer = std::thread::spawn(move || {
            let mut answer = String::new();
            client.read_to_string(&mut answer).map(|_| answer)
        });
        // Without the cut this would be the wait for the rest of the body.
        tokio::time::timeout(Duration::from_secs(60), servers.stop(Duration::from_secs(600))).await.unwrap();
        let answer = answer.join().unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"not_ready\""), "{answer}");
        assert_eq!(spools(&engine), 0, "its spool file is deleted");
        assert!(engine.imported.lock().is_empty(), "nothing was imported");
    }
}
