//! The listeners: binds, builds the two applications, and stops them in order.
//!
//! Owns the running servers. Invariants: SV-1 a port that is taken is an error that names address and way out, before
//! anything else starts; SV-2 `stop` lets answers under way end, up to the given time.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::Method;
use actix_web::middleware::{Compress, from_fn};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, ResponseError, web};

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
}

impl Servers {
    pub fn none() -> Servers {
        Servers { handles: Vec::new() }
    }

    /// Refuses new connections, and ends when answers under way are out.
    pub async fn stop(self) {
        for handle in self.handles {
            handle.stop(true).await;
        }
    }

    /// Serves the API. Call within an actix system.
    pub fn serve_api(&mut self, bound: Bound, state: web::Data<ApiState>, drain: Duration) -> Result<(), ListenError> {
        let app = move || {
            App::new()
                .app_data(state.clone())
                .wrap(Compress::default())
                .wrap(from_fn(guard::idempotent))
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
        let app =
            move || App::new().app_data(state.clone()).wrap(from_fn(tracking::observe)).configure(tracking::configure);
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
