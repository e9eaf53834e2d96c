//! Rows of an upload and contacts of the base with the same address: what is forbidden for the one holds for the other.
//!
//! Owns pairs of rows, found at one moment: eight bytes for each row whose address a contact has.

use roaring::RoaringBitmap;

use crate::contacts::Reader;
use crate::contacts::one_shot::hashes::HashFile;
use crate::engine::uploads::UploadsError;

#[derive(Clone, Debug, Default)]
pub struct Twins(Vec<(u32, u32)>);

impl Twins {
    /// Looks every address of an upload up in the base.
    pub(super) fn find(hashes: &HashFile, base: &Reader) -> Result<Twins, UploadsError> {
        let (mut pairs, mut failed) = (Vec::new(), None);
        hashes.each(&mut |row, hash| {
            if failed.is_some() {
                return;
            }
            match base.rows_of_address(hash) {
                Ok(contacts) => pairs.extend(contacts.into_iter().map(|contact| (row, contact.0))),
                Err(error) => failed = Some(error),
            }
        })?;
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(Twins(pairs)),
        }
    }

    /// All contacts with an address of the upload.
    pub fn contacts(&self) -> RoaringBitmap {
        self.0.iter().map(|(_, contact)| *contact).collect()
    }

    /// Rows of the upload whose address one of these contacts has.
    pub fn of(&self, contacts: &RoaringBitmap) -> RoaringBitmap {
        if contacts.is_empty() {
            return RoaringBitmap::new();
        }
        self.0.iter().filter(|(_, contact)| contacts.contains(*contact)).map(|(row, _)| *row).collect()
    }
}
