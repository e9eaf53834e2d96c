//! The state as bytes and back.
//!
//! Format: one version byte, then rmp-serde of [`State`]. The journal frames, checksums and numbers it.

use crate::ledger::state::{Campaign, State};

/// Version of the encoding; raised when an old snapshot would be misread.
pub const VERSION: u8 = 1;

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("the snapshot is of version {found}, this engine reads {VERSION}")]
    Version { found: u8 },
    #[error("the snapshot is empty")]
    Empty,
    #[error("the snapshot can't be read")]
    Decode(#[from] rmp_serde::decode::Error),
    #[error("the snapshot can't be written")]
    Encode(#[from] rmp_serde::encode::Error),
}

pub fn encode(state: &State) -> Result<Vec<u8>, SnapshotError> {
    let mut bytes = vec![VERSION];
    rmp_serde::encode::write(&mut bytes, state)?;
    Ok(bytes)
}

pub fn decode(bytes: &[u8]) -> Result<State, SnapshotError> {
    match bytes.split_first() {
        None => Err(SnapshotError::Empty),
        Some((&VERSION, rest)) => {
            let mut state: State = rmp_serde::from_slice(rest)?;
            // Written before campaigns kept their names.
            state.campaigns.values_mut().filter(|campaign| campaign.name.is_none()).for_each(Campaign::note_name);
            Ok(state)
        }
        Some((found, _)) => Err(SnapshotError::Version { found: *found }),
    }
}
