//! What is kept of an import beside the store: what was asked, and how it ended.
//!
//! One JSON file an import in `DIR/imports`, replaced as a whole and durable before the replacing call returns. The
//! progress of an import that runs is the store's; a ticket gets it when the import has ended.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::contacts::csv_import::{ImportSpec, Plan, Progress};
use crate::ids::{Channel, ImportId};

/// What the sender asked for, validated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImportRequest {
    /// How the file is read; its number and time are set when the import is taken over.
    pub spec: ImportSpec,
    /// The list that the rows join; made if there is none.
    pub list: Option<String>,
    /// Channels and topics to which every row consents.
    pub subscribe: Vec<(Channel, String)>,
    /// Whether *subscribed* may replace *unsubscribed*.
    pub resubscribe: bool,
    /// What the file is called in reports; never opened.
    pub file_name: Option<String>,
    /// Names the request, if its sender may send it again: the same name is the same import.
    #[serde(default)]
    pub request: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TicketState {
    /// Waits or runs; survives a crash.
    Running,
    Finished,
    Failed,
}

/// One import, from the moment that it was taken over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ticket {
    pub id: ImportId,
    pub request: ImportRequest,
    /// Name of the file in the spool.
    pub spool: String,
    pub spool_bytes: u64,
    pub plan: Option<Plan>,
    pub state: TicketState,
    /// The last known; exact once the import has ended.
    pub progress: Progress,
    /// Why it failed; or, while it runs, what it waits for.
    pub error: Option<String>,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

impl Ticket {
    fn path(folder: &Path, id: ImportId) -> PathBuf {
        folder.join(format!("{}.json", id.0))
    }

    /// Durable when it returns.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        let path = Ticket::path(folder, self.id);
        let draft = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        sync_folder(folder)
    }

    pub fn delete(&self, folder: &Path) -> io::Result<()> {
        delete_file(&Ticket::path(folder, self.id))?;
        sync_folder(folder)
    }

    /// All tickets of a folder. One that can't be read is an error: its import may be half done.
    pub fn load_all(folder: &Path) -> io::Result<BTreeMap<ImportId, Ticket>> {
        let mut tickets = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_none_or(|e| e != "json") {
                delete_file(&path)?;
                continue;
            }
            let ticket: Ticket = serde_json::from_slice(&fs::read(&path)?).map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{} can't be read: {error}", path.display()))
            })?;
            tickets.insert(ticket.id, ticket);
        }
        Ok(tickets)
    }
}

/// Copies the file of one ticket.
pub(super) fn copy(from: &Path, to: &Path, id: ImportId) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(Ticket::path(to, id))?;
    file.write_all(&fs::read(Ticket::path(from, id))?)
}

/// Makes a folder, unless it is there, that only its owner may read: what lies in it quotes people's data.
pub(super) fn private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o700))
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Deletes a file that may be gone already.
pub(super) fn delete_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
