//! The API listener while the engine recovers: alive, not ready.
//!
//! Owns a server of its own on a thread of its own, because recovery blocks the thread that starts the engine; it listens on
//! the same socket as the real one, which takes over without a refused connection. Invariants: RV-1 `/health` is answered
//! with 200 and the state *starting*, everything else with 503 and a row of the error table; RV-2 when it is dropped it has
//! answered what it took in and no longer listens. It must not know the engine.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::http::{KeepAlive, Method};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, ResponseError, web};
use serde_json::json;

use crate::api::errors::Code;
use crate::api::port::{CheckState, Health, HealthCheck, HealthState, PortError};
use crate::api::reply::ApiError;
use crate::api::server::{Bound, ListenError};
use crate::limits;

pub struct Recovering {
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl Recovering {
    /// Answers on a bound socket until it is dropped. Returns when it listens.
    pub fn start(bound: &Bound) -> Result<Recovering, ListenError> {
        let address = bound.address;
        let failed = |source| ListenError::Bind { key: "server.api_listen", address, source };
        let listener = bound.duplicate().map_err(failed)?;
        let (tell, told) = crossbeam::channel::bounded(1);
        let serve = move || {
            let since = web::Data::new(Since(Instant::now()));
            let app = move || App::new().app_data(since.clone()).default_service(web::to(answer));
            let bound = HttpServer::new(app)
                .disable_signals()
                .workers(1)
                .max_connections(limits::HTTP_CONNECTIONS_MAX)
                .client_request_timeout(limits::HTTP_HEAD_MAX)
                // A kept connection would end in the change of servers: each answer closes its own.
                .keep_alive(KeepAlive::Disabled)
                .shutdown_timeout(CLOSING.as_secs())
                .listen(listener);
            actix_web::rt::System::new().block_on(async move {
                let server = match bound {
                    Ok(server) => server.run(),
                    Err(error) => {
                        tell.send(Err(error)).ok();
                        return;
                    }
                };
                tell.send(Ok(server.handle())).ok();
                if let Err(error) = server.await {
                    tracing::warn!(%error, %address, "health is not answered during recovery");
                }
            });
        };
        let thread = std::thread::Builder::new().name("recovering".to_owned()).spawn(serve).map_err(failed)?;
        let gone = |_| failed(std::io::Error::other("its thread ended"));
        let handle = told.recv().map_err(gone)?.map_err(failed)?;
        Ok(Recovering { handle, thread: Some(thread) })
    }
}

/// Longest wait for an answer under way.
const CLOSING: Duration = Duration::from_secs(1);

impl Drop for Recovering {
    fn drop(&mut self) {
        // The command is sent by the call; the future only tells the end, and so does the thread's.
        drop(self.handle.stop(true));
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the server of the recovery ended by a fault");
        }
    }
}

struct Since(Instant);

async fn answer(request: HttpRequest, since: web::Data<Since>) -> HttpResponse {
    let recovers = "the engine recovers from its journal";
    let check = HealthCheck::bad("process", CheckState::Failed, "recovering", recovers);
    let health =
        Health { uptime_seconds: since.0.elapsed().as_secs_f64(), ..Health::of(HealthState::Starting, vec![check]) };
    if request.path() == "/health" && matches!(*request.method(), Method::GET | Method::HEAD) {
        return HttpResponse::Ok().json(health);
    }
    let message = "the engine is recovering from its journal: try again in a moment; /health answers meanwhile";
    let details = json!({"state": health.state, "problems": health.problems, "checks": health.checks});
    ApiError(PortError::new(Code::NotReady, message).with(details)).error_response()
}
