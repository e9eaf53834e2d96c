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
/// How often details of old runs, and events that are old, are looked for.
pub const DETAILS_SWEEP_PERIOD: Duration = Duration::from_secs(3_600);
/// Runs whose details one fact removes, and a few more where a family of resends is larger: the book is locked meanwhile,
/// for some ten milliseconds a million contacts.
pub const DETAILS_RUNS_AT_ONCE: usize = 4;
/// Contacts of runs, by delivery, after which a fact takes no further run: several large ones are several facts, and claims,
/// opens and clicks come in between.
pub const DETAILS_CONTACTS_AT_ONCE: u64 = 1_000_000;
