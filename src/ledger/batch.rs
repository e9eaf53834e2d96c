//! A claim that is not fully ended: which rows, and where their mark bytes are.

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::MessageId;
use crate::ledger::rows::Positions;

/// Kernel boot under which a claim was written; its mark bytes can be believed only under the same one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootId(pub [u8; 16]);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenBatch {
    pub connector: String,
    pub message: MessageId,
    /// All rows of the claim; with `positions`, the i-th row has the i-th position.
    pub rows: RoaringBitmap,
    pub positions: Positions,
    /// Rows of the claim that no frame has ended yet.
    pub open: RoaringBitmap,
    pub boot: BootId,
    pub claimed_at: Timestamp,
    /// Destination domain of all its rows, if it has limits of its own at the connector.
    #[serde(default)]
    pub domain: Option<String>,
}

impl OpenBatch {
    /// Each open row with the position of its mark byte.
    pub fn open_marks(&self) -> impl Iterator<Item = (u32, u32)> {
        self.rows.iter().zip(self.positions.iter()).filter(|(row, _)| self.open.contains(*row))
    }
}
