//! The engine behind the API's port: translates between wire types and the engine's, and decides nothing.
//!
//! Owns no state but the handle. Every engine error becomes a row of the table of public errors here ([`errors`]).

pub mod campaigns;
pub mod contacts;
pub mod errors;
mod events;
mod feedback;
mod flows;
mod history;
pub mod operations;
pub mod reports;
mod schedules;
pub mod tracking;

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
