//! Bounds of backups, restores and health. Owns no state.

use std::time::Duration;

/// Numbers of runs that a restored directory leaves out: the old server may have given them since the backup, and
/// mails name them. More than it starts between two backups.
pub const RESTORED_RUNS_GAP: u32 = 10_000;
/// The same of uploaded audiences.
pub const RESTORED_SPACES_GAP: u32 = 10_000;
/// Rows of contacts that it leaves out: more than an installation creates between two backups. They cost no memory, and
/// 250 restores one after the other leave rows for as many contacts again as a base can have.
pub const RESTORED_ROWS_GAP: u32 = 1 << 23;
/// A journal that has made nothing durable for so long, though something waits, stands still: the disk hangs.
pub const JOURNAL_STALL: Duration = Duration::from_secs(10);
/// Backups whose end a server remembers.
pub const BACKUPS_KEPT: usize = 20;
/// Bytes that a backup copies and hashes at a time.
pub const BACKUP_CHUNK_BYTES: usize = 1024 * 1024;
