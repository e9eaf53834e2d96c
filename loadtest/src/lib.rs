//! The load-test harness: sinks, generators, peers, faults and reports, all from outside the engine.
//!
//! It drives Estafette as a user's client does: over its HTTP API, its configuration file and its process, and never
//! links it. Read [`sink`] (what receives), [`client`] (the ceiling), then the rest.
//!
//! Invariants: 1. a figure is printed with the command, the machine and the parameters that made it; 2. a peer's figure
//! comes from the same run and the same sink; 3. every random choice comes from a seed that is printed.

pub mod api;
pub mod base;
pub mod client;
pub mod disk;
pub mod email;
pub mod fairness;
pub mod flow;
pub mod growth;
pub mod hist;
pub mod import;
pub mod kill;
pub mod message;
pub mod openloop;
pub mod options;
pub mod peer;
pub mod peers;
pub mod proc;
pub mod profile;
pub mod readers;
pub mod report;
pub mod rng;
pub mod scene;
pub mod server;
pub mod sink;
pub mod text;
pub mod tracking;
