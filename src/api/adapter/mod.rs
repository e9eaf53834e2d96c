//! The engine behind the API's port: translates between wire types and the engine's, and decides nothing.
//!
//! Owns no state but the handle. Every engine error becomes a row of the table of public errors here ([`errors`]).

mod audiences;
mod backups;
pub mod campaigns;
pub mod contacts;
mod dry_run;
mod edits;
pub mod errors;
mod events;
mod feedback;
mod figures;
mod flows;
mod grid;
mod health;
mod history;
pub mod operations;
mod properties;
pub mod reports;
mod schedules;
mod sequences;
mod series;
mod specs;
pub mod tracking;
mod verdicts;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::engine::Engine;

/// The engine as the API's handlers see it.
#[derive(Clone)]
pub struct Adapter {
    pub engine: Arc<Engine>,
}

impl Adapter {
    pub fn new(engine: Arc<Engine>) -> Adapter {
        Adapter { engine }
    }
}
