//! The engine as the API's port: wire types in and out, refusals as rows of the error table.
//!
//! Owns no state but the handle of the engine. It must not know actix or HTTP.

pub mod contacts;

use std::sync::Arc;

use crate::engine::Engine;

pub struct Adapter {
    pub engine: Arc<Engine>,
}
