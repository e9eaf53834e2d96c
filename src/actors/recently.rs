//! Who was accepted in the last seconds: a click that comes sooner than a mail can be read is a machine's.
//!
//! Owns bounded sets of rows by run and moment. Invariants: RA-1 what was accepted longer ago than
//! [`RECENT_ACCEPTED`] is not answered, and does not stay in the way of who asks; RA-2 reports of one run that come within
//! [`RECENT_ACCEPTED_STEP`] share one set, so that a look passes over dozens of sets and not over every report.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use roaring::RoaringBitmap;

use crate::clock::Timestamp;
use crate::ids::RunId;
use crate::limits::{RECENT_ACCEPTED, RECENT_ACCEPTED_STEP, RECENT_REPORTS_MAX};

#[derive(Debug, Default)]
pub struct Recently {
    /// In the order of their moments, but for what a clock that goes back does.
    sets: Mutex<VecDeque<(RunId, Timestamp, RoaringBitmap)>>,
}

fn before(at: Timestamp, by: Duration) -> Timestamp {
    Timestamp(at.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
}

impl Recently {
    pub fn note(&self, run: RunId, rows: &RoaringBitmap, at: Timestamp) {
        if rows.is_empty() {
            return;
        }
        let mut sets = self.sets.lock();
        let oldest = before(at, RECENT_ACCEPTED);
        while sets.len() >= RECENT_REPORTS_MAX || sets.front().is_some_and(|(_, at, _)| *at < oldest) {
            sets.pop_front();
        }
        let shared = before(at, RECENT_ACCEPTED_STEP);
        let mut last = sets.iter_mut().rev().take_while(|(_, since, _)| *since > shared && *since <= at);
        match last.find(|(of, ..)| *of == run) {
            Some((.., noted)) => *noted |= rows,
            None => sets.push_back((run, at, rows.clone())),
        }
    }

    /// When a row was accepted, to [`RECENT_ACCEPTED_STEP`], if that was in the last seconds.
    pub fn accepted_at(&self, run: RunId, row: u32, now: Timestamp) -> Option<Timestamp> {
        let oldest = before(now, RECENT_ACCEPTED);
        let sets = self.sets.lock();
        let mut fresh = sets.iter().rev().take_while(|(_, at, _)| *at >= oldest);
        fresh.find(|(of, _, rows)| *of == run && rows.contains(row)).map(|(_, at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: std::ops::Range<u32>) -> RoaringBitmap {
        rows.collect()
    }

    #[test]
    fn rows_are_known_for_some_seconds_and_no_longer() {
        let recently = Recently::default();
        recently.note(RunId(1), &rows(0..10), Timestamp(1_000));
        assert_eq!(recently.accepted_at(RunId(1), 3, Timestamp(1_500)), Some(Timestamp(1_000)));
        assert_eq!(recently.accepted_at(RunId(2), 3, Timestamp(1_500)), None, "another run's row");
        assert_eq!(recently.accepted_at(RunId(1), 30, Timestamp(1_500)), None, "another row");
        let later = Timestamp(1_000).plus(RECENT_ACCEPTED);
        assert!(recently.accepted_at(RunId(1), 3, later).is_some(), "at the end of the time");
        assert_eq!(
            recently.accepted_at(RunId(1), 3, Timestamp(later.0 + 1)),
            None,
            "after it, though nothing came since"
        );
    }

    #[test]
    fn many_reports_are_few_sets() {
        let recently = Recently::default();
        for report in 0..10_000u32 {
            let run = RunId(1 + report % 3);
            recently.note(run, &rows(report..report + 1), Timestamp(i64::from(report / 10)));
        }
        let held = recently.sets.lock().len();
        assert!(held <= 60, "a second of three runs: {held} sets");
        assert_eq!(recently.accepted_at(RunId(1), 0, Timestamp(999)), Some(Timestamp(0)), "and nobody is forgotten");
        let last = recently.accepted_at(RunId(1), 9_999, Timestamp(999)).unwrap();
        assert!(last.0 >= 900, "to the length of a step: {last:?}");
    }

    #[test]
    fn memory_is_bounded_though_every_report_is_of_another_run() {
        let recently = Recently::default();
        for run in 0..RECENT_REPORTS_MAX as u32 + 50 {
            recently.note(RunId(run), &rows(0..1), Timestamp(5));
        }
        assert_eq!(recently.sets.lock().len(), RECENT_REPORTS_MAX);
    }

    #[test]
    fn a_clock_that_goes_back_loses_no_row() {
        let recently = Recently::default();
        recently.note(RunId(1), &rows(0..1), Timestamp(90_000));
        recently.note(RunId(1), &rows(1..2), Timestamp(1_000));
        assert_eq!(recently.accepted_at(RunId(1), 1, Timestamp(1_200)), Some(Timestamp(1_000)));
    }
}
