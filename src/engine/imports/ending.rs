//! The end of imports: the report is kept, the upload goes, and after their time report and rejected rows go too.
//!
//! Owns nothing beside what [`Shared`] has. Must not know how an import is worked off.

use std::collections::BTreeMap;

use super::{ImportsError, Shared, Ticket, TicketState, in_folder, ticket};
use crate::clock::Timestamp;
use crate::ids::ImportId;
use crate::limits::IMPORT_REPORTS_MAX;

impl Shared {
    fn forget(&self, tickets: &mut BTreeMap<ImportId, Ticket>, import: ImportId) -> Result<(), ImportsError> {
        let Some(ticket) = tickets.get(&import) else { return Ok(()) };
        let path = self.rejected_path(import);
        ticket::delete_file(&path).map_err(in_folder(&path, "deleted"))?;
        ticket.delete(&self.reports).map_err(in_folder(&self.reports, "deleted"))?;
        tickets.remove(&import);
        Ok(())
    }

    pub(super) fn expire(&self, before: Timestamp) -> Result<usize, ImportsError> {
        let mut tickets = self.tickets.lock();
        let ended = |t: &Ticket| t.finished_at.is_some_and(|at| at < before);
        let old: Vec<ImportId> = tickets.values().filter(|t| ended(t)).map(|t| t.id).collect();
        for import in &old {
            self.forget(&mut tickets, *import)?;
        }
        Ok(old.len())
    }

    /// A rejected row quotes the file, and with it perhaps somebody who was erased since: it may not lie there for ever.
    pub(super) fn expire_old(&self) {
        let Some(kept) = self.kept.get() else { return };
        let kept = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
        if let Err(error) = self.expire(Timestamp(self.book.now().0.saturating_sub(kept))) {
            tracing::warn!(%error, "old reports and rejected rows were not deleted; it is tried again");
        }
    }

    /// The report is kept first, then the upload and the store's notes go: a crash in between repeats the last two.
    pub(super) fn end(&self, import: ImportId, error: Option<String>) -> bool {
        let now = self.book.now();
        loop {
            let mut tickets = self.tickets.lock();
            let Some(ticket) = tickets.get_mut(&import) else { return true };
            let mut ended = ticket.clone();
            ended.state = if error.is_some() { TicketState::Failed } else { TicketState::Finished };
            ended.error.clone_from(&error);
            ended.finished_at = Some(now);
            match ended.save(&self.reports) {
                Ok(()) => {
                    *ticket = ended;
                    self.drop_oldest(&mut tickets);
                    break;
                }
                Err(error) => {
                    tracing::error!(%import, %error, "the report of an import can't be written; it is tried again")
                }
            }
            drop(tickets);
            self.wait_for_space(import);
            if self.is_stopping() {
                return false;
            }
        }
        self.clean_up(import);
        true
    }

    fn clean_up(&self, import: ImportId) {
        let Some(ticket) = self.tickets.lock().get(&import).cloned() else { return };
        if let Err(error) = ticket::delete_file(&self.spool.join(&ticket.spool)) {
            tracing::warn!(%import, %error, "an upload can't be deleted; the next start tries again");
        }
        if let Err(error) = self.store.forget_import(import) {
            tracing::warn!(%import, %error, "the store keeps notes of an ended import; the next start tries again");
        }
        tracing::info!(%import, state = ?ticket.state, rows = ticket.progress.rows, "the import ended");
    }

    /// Keeps the reports of the newest imports only.
    fn drop_oldest(&self, tickets: &mut BTreeMap<ImportId, Ticket>) {
        while tickets.len() > IMPORT_REPORTS_MAX {
            let oldest = tickets.values().find(|t| t.state != TicketState::Running).map(|t| t.id);
            let Some(oldest) = oldest else { return };
            if let Err(error) = self.forget(tickets, oldest) {
                tracing::warn!(import = %oldest, %error, "an old report can't be deleted");
                return;
            }
        }
    }
}
