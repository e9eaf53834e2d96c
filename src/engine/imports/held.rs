//! The imports of one moment, for a backup: no ticket changes and no upload goes while this lives.
//!
//! Owns the lock of the tickets. Every ticket is saved under it, before its upload goes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use parking_lot::MutexGuard;

use super::{Imports, Ticket, TicketState, ticket};
use crate::ids::ImportId;

/// Holds up every beginning and end of an import; not their chunks.
pub struct HeldImports<'i> {
    imports: &'i Imports,
    tickets: MutexGuard<'i, BTreeMap<ImportId, Ticket>>,
}

/// The upload of an unfinished import: it can be read though its name may go.
#[derive(Debug)]
pub struct OpenSpool {
    pub name: String,
    pub file: File,
}

impl Imports {
    pub fn hold(&self) -> HeldImports<'_> {
        HeldImports { imports: self, tickets: self.shared.tickets.lock() }
    }
}

impl HeldImports<'_> {
    /// Writes every ticket as it is saved.
    pub fn copy_tickets(&self, to: &Path) -> io::Result<()> {
        for id in self.tickets.keys() {
            ticket::copy(&self.imports.shared.reports, to, *id)?;
        }
        Ok(())
    }

    pub fn open_spools(&self) -> io::Result<Vec<OpenSpool>> {
        let unfinished = self.tickets.values().filter(|ticket| ticket.state == TicketState::Running);
        let open = |ticket: &Ticket| {
            let file = File::open(self.imports.shared.spool.join(&ticket.spool))?;
            Ok(OpenSpool { name: ticket.spool.clone(), file })
        };
        unfinished.map(open).collect()
    }
}
