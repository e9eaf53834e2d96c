//! Simulation: the pure core in virtual time, with seeded plans of faults.
//!
//! - [`rng`]: the source of chance, one stream a purpose.
//! - [`plan`]: virtual time, the queue of events, plans of faults.
//! - [`seeds`]: runs a scenario over many seeds and says how to replay the one that failed.

mod delivery;
mod plan;
mod rng;
mod seeds;
mod world;
