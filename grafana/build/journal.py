"""The journal, snapshots, recovery, the disk, the contact base and imports."""

from .common import (
    GREEN, JOURNAL, RED, YELLOW, Query, board, by, heat, lines, number, numbered, percentiles, quantile, rate, row, say,
    series, steps, words,
)
from .shared import journal_state, up_for


def build():
    made = board(JOURNAL, "The journal, snapshots, recovery, the disk, the contact base and imports.")
    for title, panels in [("Now", now()), ("Journal", journal()), ("Disk", disk()), ("Contacts and imports", contacts())]:
        made = made.with_row(row(title))
        for panel in panels:
            made = made.with_panel(panel)
    return numbered(made)


def now():
    return [
        journal_state(),
        number("Space", "none", say(
            "Whether campaigns wait because the disk is full.",
            "make space; they go on by themselves. Runbook: EstafetteDiskFull."),
            Query(by("", series("disk_full"), "max")), width=3, mappings=words(_0=("enough", GREEN), _1=("full", RED))),
        number("fsync", "s", say(
            "99 of 100 fsyncs of the chosen time were faster.",
            "above 100 ms the disk is the bottleneck of claims and opt-outs. Runbook: EstafetteFsyncSlow."),
            Query(quantile(0.99, "journal_fsync_seconds", "", window="$__range")), width=3, nothing="idle",
            thresholds=steps((None, GREEN), (0.02, YELLOW), (0.1, RED))),
        number("Last recovery", "s", say(
            "Time that recovery took at this start.",
            "it grows with the journal since the last snapshot; above a minute the disk is slow."),
            Query(by("", series("recovery_seconds"), "max")), width=3, thresholds=steps((None, GREEN), (30, YELLOW), (60, RED))),
        number("Unknown after it", "none", say(
            "Rows that recovery had to leave unknown at this start: handed over, and the answer was lost with the process.",
            "they are never sent again. `estafette report` of each campaign lists them; at most the credits in use."),
            Query(by("", series("recovered_unknown_contacts"))), width=3, thresholds=steps((None, GREEN), (1, YELLOW))),
        number("Snapshot", "s", say(
            "Age of the newest snapshot of this process; one is made after each 128 MiB of journal.",
            "old is harmless while little is written. Runbook: EstafetteSnapshotOld."),
            Query(by("", series("snapshot_age_seconds"), "max")), width=3, nothing="none yet"),
        number("Contacts", "short", say(
            "Contacts in the base.", "a number that you do not expect: `estafette import list` says what came in."),
            Query(by("", series("contacts"))), width=3),
        up_for(width=3),
    ]


def journal():
    return [
        heat("fsync", say(
            "Duration of each fdatasync of the journal. Every claim and every opt-out waits for one.",
            "a band at 10 ms and more is a disk without a write cache, or one that is shared: move the data directory to an "
            "SSD of its own. Runbook: EstafetteFsyncSlow."), "journal_fsync_seconds"),
        lines("fsync, percentiles", "s", say(
            "Half of the fsyncs are faster than the first line, 99 of 100 than the second.",
            "both high: the disk is slow by nature, move the data directory to an SSD. Only the second: somebody else writes to "
            "the disk now and then, find out who with `iotop`. Runbook: EstafetteFsyncSlow."),
            *percentiles("journal_fsync_seconds"), thresholds=steps((None, "transparent"), (0.1, RED))),
        lines("Facts, by kind", "cps", say(
            "Facts written, a second. A sending engine writes claimed and settled, one for a batch.",
            "many moved or tracked facts are a busy flow; many returned ones are claims that come back, see Channels."),
            Query(by("kind", rate("journal_frames_total")), "{{kind}}"), stacked=True),
        lines("Bytes written", "Bps", say(
            "Bytes of facts, a second.", "far more than some kilobytes for each thousand messages: look for many small "
            "batches, see Channels."),
            Query(by("", rate("journal_bytes_total")), "bytes")),
        lines("Facts of a commit", "short", say(
            "Facts that one fsync made durable: more at once is better use of the disk.",
            "1 all the time at a high rate: nothing waits for the disk, which is fine."),
            *percentiles("journal_commit_frames"), width=8),
        lines("Queue of the journal", "short", say(
            "Submissions that wait for the journal's thread, and the most that fit (dashed).",
            "near the limit everything waits for the disk. Runbook: EstafetteJournalQueue."),
            Query(by("", series("journal_waiting"), "max"), "waiting"),
            Query(by("", series("journal_waiting_limit"), "max"), "limit"), dashed="limit", width=8),
        lines("Full mailboxes", "cps", say(
            "Messages that an actor's full mailbox refused; senders try again, trackers answer anyway.",
            "tracker: see Tracking, events may be lost. campaign or channel: the CPU is busy. Runbook: "
            "EstafetteMailboxesFull."),
            Query(by("actor", rate("actor_refusals_total")), "{{actor}}"), width=8),
        lines("Snapshots", "s", say(
            "Mean time to write a snapshot, of those of the last minutes. One is made after each 128 MiB of journal.",
            "above some seconds: much state in memory, many live runs. Finished runs leave by the rules of retention."),
            Query(by("", rate("snapshot_seconds_sum")) + " / clamp_min(" + by("", rate("snapshot_seconds_count"))
                  + ", 1e-9)", "to write"), width=8),
        lines("Segments", "short", say(
            "Segments of 64 MiB on disk. A snapshot removes those it replaces.",
            "four are normal. More than six: snapshots fail, the log says why, or a backup that runs keeps them. Runbook: "
            "EstafetteSnapshotOld."),
            Query(by("", series("journal_segments"), "max"), "segments"), steps_drawn=True, width=8),
        lines("Standing still", "s", say(
            "How long the journal has made nothing durable though something waits.",
            "seconds: a disk that hangs; `/ready` says so, too. Runbook: EstafetteJournalStalled."),
            Query(by("", series("journal_stalled_seconds"), "max"), "stands still for"),
            thresholds=steps((None, "transparent"), (10, RED)), width=8),
    ]


def disk():
    return [
        number("Last backup", "s", say(
            "Time since the last backup that this process made.",
            "older than your rule says: `estafette backup DIR`, and look at the timer that should have done it."),
            Query("time() - " + by("", f"{series('backup_success_timestamp_seconds')} > 0", "max")), width=4, height=8,
            nothing="none by this process"),
        lines("Free space", "bytes", say(
            "Free space of the file system with the data directory, and its size (dashed).",
            "below 10 %: make space, or shorten retention. Runbook: EstafetteDiskLow."),
            Query(by("instance", series("disk_free_bytes"), "min"), "free {{instance}}"),
            Query(by("instance", series("disk_size_bytes"), "max"), "size {{instance}}"), dashed="size .*", width=10),
        lines("What the data takes", "bytes", say(
            "Bytes of the parts of the data directory.",
            "journal: snapshots fail; contacts: the base with its indexes, which does not shrink by itself; other: "
            "uploads and spools, which go by the rules of retention."),
            Query(by("part", series("storage_bytes")), "{{part}}"), stacked=True, width=10),
    ]


def contacts():
    return [
        lines("Imported rows", "cps", say(
            "Rows a second: accepted, merged into a contact, rejected.",
            "rejected: `estafette import rejected ID` has each row with its reason."),
            Query(by("result", rate("import_rows_total")), "{{result}}"), stacked=True),
        lines("Imports under way", "short", say(
            "Imports that have not ended.", "one that stays: `estafette import list`; a paused upload is ended at the "
            "next start."),
            Query(by("", series("imports_running")), "imports"), steps_drawn=True),
        lines("Chunk of an import", "s", say(
            "Time to parse and commit one chunk of an import: the middle one, and 99 of 100.",
            "climbing with the size of the base: memory is too small for the indexes, pages come from the disk."),
            *percentiles("import_chunk_seconds"), width=8),
        lines("Evaluation of a segment", "s", say(
            "Time to evaluate a segment expression: the middle one, and 99 of 100.",
            "slow ones look at attributes without an index: `estafette attribute list`."),
            *percentiles("segment_evaluation_seconds"), width=8),
        lines("Index cache", "bytes", say(
            "Decoded index bitmaps in memory.", "it is bounded; if memory is short, it is the first to look at."),
            Query(by("", series("index_cache_bytes")), "cache"), width=8),
    ]
