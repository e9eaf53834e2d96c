//! Simulation: the pure core in virtual time, with seeded plans of faults.
//!
//! - [`rng`]: the source of chance, one stream a purpose.
//! - [`plan`]: virtual time, the queue of events, plans of faults.
//! - [`world`], [`delivery`]: a process around the real core, and one delivery through all that can happen to it.
//! - [`winner`]: split tests whose truth is known. [`windows`]: their counters against each contact's own times.
//! - [`flows`]: every kind of campaign, its moves, tests and waits.
//! - [`timers`]: since when each contact rests at each delay.
//! - [`sequences`]: dated steps, edited while they run.
//! - [`schedules`]: launches of published schedules under steps of the clock.
//! - [`seeds`]: runs a scenario over many seeds and says how to replay the one that failed.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

mod delivery;
mod flows;
mod graphs;
mod plan;
mod rng;
mod schedules;
mod seeds;
mod sequences;
mod timers;
mod windows;
mod winner;
mod world;
