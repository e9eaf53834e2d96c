//! The load-test harness: sinks, generators, peers, faults and reports, all from outside the engine.
//!
//! It drives Estafette as a user's client does: over its HTTP API, its configuration file and its process, and never
//! links it. Read [`sink`] (what receives), [`client`] (the ceiling), [`scenario`] (what is run, and which bars it must
//! keep), [`findings`] (what a driver hands over), [`report`], then the drivers.
//!
//! Invariants: 1. a figure is printed with the command, the machine and the parameters that made it; 2. a peer's figure
//! comes from the same run and the same sink; 3. every random choice comes from a seed that is printed.

pub mod api;
pub mod base;
pub mod bound;
pub mod client;
pub mod compare;
pub mod confine;
pub mod disk;
pub mod email;
pub mod fairness;
pub mod findings;
pub mod flow;
pub mod growth;
pub mod hist;
pub mod html;
pub mod import;
pub mod journal_use;
pub mod kill;
pub mod load;
pub mod message;
pub mod moments;
pub mod openloop;
pub mod options;
pub mod peer;
pub mod peers;
pub mod proc;
pub mod profile;
pub mod prometheus;
pub mod readers;
pub mod recovery;
pub mod report;
pub mod rng;
pub mod scenario;
pub mod scene;
pub mod server;
pub mod sink;
pub mod text;
pub mod tracking;
pub mod winner;
