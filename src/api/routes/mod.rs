//! Handlers of the API listener, one file a subject. They translate between HTTP and the port, and decide nothing.
//!
//! Own no state.

pub mod audiences;
pub mod backups;
pub mod campaigns;
pub mod contacts;
pub mod docs;
pub mod events;
pub mod figures;
pub mod flows;
pub mod history;
pub mod imports;
pub mod lists;
pub mod operations;
mod report_csv;
pub mod runs;
pub mod schedules;
pub mod segments;
pub mod sequences;
pub mod suppressions;
pub mod table;

use std::sync::Arc;

use actix_web::web;

use crate::api::port::EnginePort;
use crate::api::state::ApiState;

type State = web::Data<ApiState>;

/// The engine, for a closure that runs on a blocking thread.
fn engine(state: &State) -> Arc<dyn EnginePort> {
    Arc::clone(&state.port)
}

/// Registers all routes.
pub fn configure(config: &mut web::ServiceConfig) {
    imports::configure(config);
    contacts::configure(config);
    lists::configure(config);
    segments::configure(config);
    suppressions::configure(config);
    audiences::configure(config);
    campaigns::configure(config);
    events::configure(config);
    flows::configure(config);
    sequences::configure(config);
    history::configure(config);
    runs::configure(config);
    figures::configure(config);
    schedules::configure(config);
    operations::configure(config);
    backups::configure(config);
    docs::configure(config);
}
