//! Simulation: the pure core in virtual time, with seeded plans of faults.
//!
//! - [`rng`]: the source of chance, one stream a purpose.
//! - [`plan`]: virtual time, the queue of events, plans of faults.
//! - [`world`], [`delivery`]: a process around the real core, and one delivery through all that can happen to it.
//! - [`winner`]: split tests whose truth is known. [`windows`]: their counters against each contact's own times.
//! - [`channel`]: a process with one channel for runs of any shape.
//! - [`moves`]: what a run's flow does next, with a base that answers by rules.
//! - [`flows`]: every kind of campaign, its moves, tests and waits.
//! - [`edits`]: versions that are published while a run is under way, and extensions.
//! - [`timers`]: since when each contact rests at each delay.
//! - [`chains`]: one-shot audiences, control groups, resends of runs and of their resends.
//! - [`sequences`]: dated steps, edited while they run.
//! - [`schedules`]: launches of published schedules under steps of the clock.
//! - [`seeds`]: runs a scenario over many seeds and says how to replay the one that failed.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

mod chains;
mod channel;
mod delivery;
mod edits;
mod flows;
mod graphs;
mod moves;
mod plan;
mod rng;
mod schedules;
mod seeds;
mod sequences;
mod timers;
mod windows;
mod winner;
mod world;
