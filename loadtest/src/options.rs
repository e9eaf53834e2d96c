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

/// A share as an option takes it.
pub fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if is_share(share) => Ok(share),
        _ => Err("a share is from 0 to 1, as 0.05".to_owned()),
    }
}

pub fn is_share(share: f64) -> bool {
    (0.0..=1.0).contains(&share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_parts_of_a_whole() {
        assert_eq!(["0", "0.25", "1"].map(share), [Ok(0.0), Ok(0.25), Ok(1.0)], "both ends included");
        for wrong in ["5", "-0.1", "NaN", "5%", ""] {
            assert!(share(wrong).is_err(), "{wrong:?} is none");
        }
    }
}
