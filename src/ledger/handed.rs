//! What was handed over in the last day, by connector and by destination domain with a limit of its own: what hour and day
//! limits resume from after a restart (promise 5).
//!
//! Part of the folded state. A row counts when it is settled, at the time of that fact: its mark was not later, so a
//! permit comes back no earlier than it may. Recovery settles what a crash left as facts of its own time; so every row of
//! an unsettled claim counts as handed over just now, but those whose mark byte says that they never were.
//!
//! Invariants: HO-1 for any window up to a day the counts of the minutes that touch it are not less than what was handed
//! over in it; HO-2 minutes are merged once they are older than an hour needs, and forgotten after a day, so a scope has
//! at most `MINUTES_MAX` counts; HO-3 a scope without a count is forgotten.
//!
//! Must not know which limits there are. Times are those of the facts: a wall clock that is set forward while the engine
//! is down lets permits come back early, one that is set back keeps them longer.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Minutes that are kept apart: an hour, and the longest merged stretch, so that no merged count reaches into an hour.
const APART: i64 = 60 + MERGED + 2;
/// Minutes that are merged into one count; a sixtieth of a day.
const MERGED: i64 = 24;
/// Minutes after which a count is forgotten: a day, and a merged stretch at each end.
const FORGOTTEN: i64 = 24 * 60 + 2 * MERGED;
/// Most counts of one scope (HO-2).
#[cfg(test)]
const MINUTES_MAX: usize = (APART + FORGOTTEN / MERGED + 4) as usize;

/// By minute since the epoch; a merged count stands at the last minute of its stretch.
type Minutes = BTreeMap<i64, u32>;

/// See the module's docs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOver {
    /// By connector and domain; an empty domain stands for all rows of the connector.
    scopes: BTreeMap<(String, String), Minutes>,
    /// The newest minute that was counted.
    newest: i64,
}

impl HandedOver {
    /// Counts `rows` that were handed over by a connector, at `at` or before.
    pub fn add(&mut self, connector: &str, domain: Option<&str>, rows: u64, at: Timestamp) {
        if rows == 0 {
            return;
        }
        let minute = at.minute_down();
        if minute > self.newest {
            self.newest = minute;
            self.tidy();
        }
        for domain in std::iter::once("").chain(domain) {
            let counts = self.scopes.entry((connector.to_owned(), domain.to_owned())).or_default();
            let count = counts.entry(minute).or_default();
            *count = count.saturating_add(u32::try_from(rows).unwrap_or(u32::MAX));
        }
    }

    /// Ages and counts of what was handed over in the last day, by a connector, or by it to one domain. No age is more
    /// than the true one.
    pub fn recent(&self, connector: &str, domain: Option<&str>, now: Timestamp) -> Vec<(Duration, u32)> {
        let key = (connector.to_owned(), domain.unwrap_or("").to_owned());
        let counts = self.scopes.get(&key).into_iter().flatten();
        let end_of = |minute: i64| Timestamp(minute.saturating_add(1).saturating_mul(60_000));
        counts.map(|(minute, count)| (now.saturating_since(end_of(*minute)), *count)).collect()
    }

    fn tidy(&mut self) {
        let (apart, forgotten) = (self.newest - APART, self.newest - FORGOTTEN);
        self.scopes.retain(|_, counts| {
            let old: Vec<i64> = counts.range(..apart).map(|(minute, _)| *minute).collect();
            for minute in old {
                let merged = minute - minute.rem_euclid(MERGED) + MERGED - 1;
                if merged == minute && minute >= forgotten {
                    continue;
                }
                let rows = counts.remove(&minute).unwrap_or(0);
                if merged >= forgotten {
                    let count = counts.entry(merged).or_default();
                    *count = count.saturating_add(rows);
                }
            }
            !counts.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(1_700_000_000_000 + seconds * 1_000)
    }

    fn within(handed: &HandedOver, domain: Option<&str>, now: Timestamp, window: u64) -> u64 {
        let recent = handed.recent("relay", domain, now);
        recent.iter().filter(|(age, _)| age.as_secs() < window).map(|(_, count)| u64::from(*count)).sum()
    }

    #[test]
    fn a_connector_counts_all_its_domains() {
        let mut handed = HandedOver::default();
        handed.add("relay", None, 5, at(0));
        handed.add("relay", Some("big.test"), 3, at(10));
        handed.add("other", Some("big.test"), 9, at(10));
        assert_eq!(within(&handed, None, at(60), 3_600), 8, "of the connector");
        assert_eq!(within(&handed, Some("big.test"), at(60), 3_600), 3, "of its domain");
        assert_eq!(within(&handed, Some("small.test"), at(60), 3_600), 0, "of a domain that had none");
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_counts_at_age_zero() {
        let mut handed = HandedOver::default();
        handed.add("relay", None, 5, at(86_400));
        assert_eq!(handed.recent("relay", None, at(0)), [(Duration::ZERO, 5)], "from the future: just now");
    }

    #[test]
    fn scopes_that_send_no_more_are_forgotten() {
        let mut handed = HandedOver::default();
        handed.add("gone", Some("big.test"), 5, at(0));
        handed.add("relay", None, 1, at(2 * 86_400));
        assert_eq!(handed.scopes.len(), 1, "two days later only the living one is left");
    }

    proptest! {
        #[test]
        fn no_window_is_counted_short_and_nothing_grows(
            steps in prop::collection::vec((0i64..4_000, 1u64..50), 1..300),
        ) {
            let (mut handed, mut seconds, mut all) = (HandedOver::default(), 0, Vec::new());
            for (pause, rows) in steps {
                seconds += pause;
                handed.add("relay", Some("big.test"), rows, at(seconds));
                all.push((seconds, rows));
                for window in [3_600u64, 86_400] {
                    let from = seconds - window as i64;
                    let truth: u64 = all.iter().filter(|(t, _)| *t > from).map(|(_, rows)| rows).sum();
                    let counted = within(&handed, Some("big.test"), at(seconds), window);
                    prop_assert!(counted >= truth, "{} counted of {} in {} s", counted, truth, window);
                    let slack: u64 = all.iter().filter(|(t, _)| *t > from - 60 * (MERGED + 1)).map(|(_, rows)| rows).sum();
                    prop_assert!(counted <= slack, "{} counted, at most {} are that young", counted, slack);
                }
                for counts in handed.scopes.values() {
                    prop_assert!(counts.len() <= MINUTES_MAX, "{} counts", counts.len());
                }
            }
        }
    }
}
