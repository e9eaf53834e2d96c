//! The HTTP surface: handlers, OpenAPI, the table of public errors, tracking endpoints, the inbox page.
//!
//! Two listeners that share nothing: the *API* (a key for everything but health) and the *public* one (tracking only).
//! Handlers know the engine through [`port::EnginePort`] and nothing else.
//!
//! Owns keys and kept answers (`keys`, `idempotency`) and the recent events that the machine rules look at
//! (`tracking::recent`). It must not know actors, the journal or the store.

pub mod adapter;
pub mod caller;
pub mod closing;
pub mod errors;
pub mod guard;
pub mod idempotency;
pub mod inbox;
pub mod keys;
pub mod port;
pub mod recovering;
pub mod reply;
pub mod routes;
pub mod server;
pub mod state;
pub mod tracking;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
