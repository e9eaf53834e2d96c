//! The engine behind its port, in one process: real journal, real store, no network.

#![allow(clippy::unwrap_used, reason = "a test that fails here should say so where it stands")]

mod base;
mod flows;
mod harness;
mod imports;
