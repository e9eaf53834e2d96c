//! Options that every measurement of the engine takes.
//!
//! Owns nothing.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

#[derive(Args, Clone, Debug, Serialize)]
pub struct RunOptions {
    /// Seed of everything that is drawn: contacts, faults, moments
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The engine's binary [default: `estafette` beside this program; build it with `cargo build --release`]
    #[arg(long, value_name = "FILE")]
    pub engine: Option<PathBuf>,
    /// Folder for data directories [default: the system's for temporary files]
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

impl Default for RunOptions {
    fn default() -> RunOptions {
        RunOptions { seed: 1, engine: None, folder: None }
    }
}
