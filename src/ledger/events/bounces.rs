//! Soft bounces over days: how often, and on how many days, mail to a contact came back for a passing reason.
//!
//! Owned by the state. Per channel and day a stack of sets (`levels[k]`: contacts with more than k that day). Invariants: SB-1 days
//! older than `limits::SOFT_BOUNCE_DAYS_MAX` before the newest are forgotten; SB-2 a day counts at most
//! `limits::SOFT_BOUNCES_PER_DAY_MAX` of a contact; SB-3 a message that arrived forgives what was before it.
//!
//! Must not know: the wall clock, who asks.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::count_again;
use crate::clock::Timestamp;
pub use crate::config::SoftRule;
use crate::ids::{AddressHash, Channel};
use crate::ledger::State;
use crate::ledger::suppression::{Entry, SuppressReason};
use crate::limits::{SOFT_BOUNCE_DAYS_MAX, SOFT_BOUNCES_MAX, SOFT_BOUNCES_PER_DAY_MAX};

type Days = BTreeMap<i32, Vec<RoaringBitmap>>;

/// Mail to these addresses came back too often for passing reasons: they are not sent to any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SoftBouncesJudged {
    pub channel: Channel,
    /// Contacts of the base that had the addresses. What was counted of them is settled: a new address begins anew.
    pub rows: RoaringBitmap,
    pub addresses: Vec<AddressHash>,
    pub at: Timestamp,
}

impl State {
    pub(in crate::ledger) fn apply_soft_bounces(&mut self, fact: &SoftBouncesJudged) {
        let entry = Entry { reason: SuppressReason::SoftBounces, at: fact.at };
        for address in &fact.addresses {
            self.suppression.add_address(Some(fact.channel), *address, entry);
        }
        self.events.soft.forget(Some(fact.channel), &fact.rows);
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SoftBounces {
    channels: BTreeMap<Channel, Days>,
    /// Grows with every bounce that was noted: who looked at this number has looked at the bounces.
    noted: u64,
}

impl SoftBounces {
    pub fn noted(&self) -> u64 {
        self.noted
    }

    pub fn channels(&self) -> impl Iterator<Item = Channel> {
        self.channels.keys().copied()
    }

    pub fn note(&mut self, channel: Channel, day: i32, rows: &RoaringBitmap) {
        if rows.is_empty() {
            return;
        }
        let days = self.channels.entry(channel).or_default();
        let newest = days.last_key_value().map_or(day, |(newest, _)| (*newest).max(day));
        let oldest = newest.saturating_sub(SOFT_BOUNCE_DAYS_MAX - 1);
        if day < oldest {
            return;
        }
        count_again(days.entry(day).or_default(), rows, SOFT_BOUNCES_PER_DAY_MAX);
        *days = days.split_off(&oldest);
        self.noted += 1;
    }

    /// A message arrived on `day`.
    pub fn heal(&mut self, channel: Channel, day: i32, rows: &RoaringBitmap) {
        let Some(days) = self.channels.get_mut(&channel) else { return };
        for (_, levels) in days.range_mut(..=day) {
            subtract(levels, rows);
        }
        days.retain(|_, levels| !levels.is_empty());
    }

    /// A person took a suppression back, or the contacts were erased: what was before counts no more.
    pub fn forget(&mut self, channel: Option<Channel>, rows: &RoaringBitmap) {
        for (of, days) in &mut self.channels {
            if channel.is_none_or(|only| only == *of) {
                days.values_mut().for_each(|levels| subtract(levels, rows));
                days.retain(|_, levels| !levels.is_empty());
            }
        }
    }

    /// Contacts that the rule suppresses on `today`.
    pub fn due(&self, channel: Channel, rule: SoftRule, today: i32) -> RoaringBitmap {
        let Some(days) = self.channels.get(&channel).filter(|_| rule.bounces > 0) else { return RoaringBitmap::new() };
        let within = i32::try_from(rule.within_days).unwrap_or(i32::MAX).clamp(1, SOFT_BOUNCE_DAYS_MAX);
        let (mut of_days, mut of_bounces) = (Vec::new(), Vec::new());
        for (_, levels) in days.range(today.saturating_sub(within - 1)..) {
            if let Some(any) = levels.first() {
                count_again(&mut of_days, any, SOFT_BOUNCES_MAX);
            }
            for level in levels {
                count_again(&mut of_bounces, level, SOFT_BOUNCES_MAX);
            }
        }
        let at_least = |levels: &[RoaringBitmap], least: u32| {
            let least = usize::try_from(least).unwrap_or(usize::MAX).clamp(1, SOFT_BOUNCES_MAX);
            levels.get(least - 1).cloned().unwrap_or_default()
        };
        at_least(&of_days, rule.days) & at_least(&of_bounces, rule.bounces)
    }
}

fn subtract(levels: &mut Vec<RoaringBitmap>, rows: &RoaringBitmap) {
    levels.iter_mut().for_each(|level| *level -= rows);
    levels.retain(|level| !level.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMAIL: Channel = Channel::Email;
    const RULE: SoftRule = SoftRule { bounces: 3, days: 2, within_days: 7 };

    fn rows(rows: &[u32]) -> RoaringBitmap {
        rows.iter().copied().collect()
    }

    #[test]
    fn only_enough_bounces_on_enough_days_within_the_window_suppress() {
        let mut soft = SoftBounces::default();
        for (day, row) in
            [(10, 1), (10, 1), (10, 1), (10, 2), (12, 2), (13, 2), (1, 3), (9, 3), (10, 3), (10, 4), (12, 4)]
        {
            soft.note(EMAIL, day, &rows(&[row]));
        }
        assert_eq!(soft.due(EMAIL, RULE, 13), rows(&[2]), "1 had one day, 3 only two in the window, 4 only two at all");
        assert_eq!(soft.due(EMAIL, RULE, 20), rows(&[]), "a week later nobody");
        assert_eq!(soft.due(Channel::Sms, RULE, 13), rows(&[]), "on this channel alone");
        assert_eq!(soft.due(EMAIL, SoftRule { bounces: 0, ..RULE }, 13), rows(&[]), "switched off");
    }

    #[test]
    fn what_arrives_forgives_and_order_does_not_matter() {
        let bounces = [(10, 2), (12, 2), (13, 2)];
        let (mut one, mut other) = (SoftBounces::default(), SoftBounces::default());
        bounces.iter().for_each(|(day, row)| one.note(EMAIL, *day, &rows(&[*row])));
        bounces.iter().rev().for_each(|(day, row)| other.note(EMAIL, *day, &rows(&[*row])));
        assert_eq!(one, other, "in any order");
        one.heal(EMAIL, 12, &rows(&[2]));
        assert_eq!(one.due(EMAIL, RULE, 13), rows(&[]), "one bounce since then");
        other.forget(Some(EMAIL), &rows(&[2]));
        other.note(EMAIL, 14, &rows(&[2]));
        assert_eq!(other.due(EMAIL, RULE, 14), rows(&[]), "a person gave it another chance");
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut soft = SoftBounces::default();
        for day in 0..1_000 {
            for _ in 0..40 {
                soft.note(EMAIL, day, &rows(&[7]));
            }
        }
        let days = &soft.channels[&EMAIL];
        assert!(days.len() <= SOFT_BOUNCE_DAYS_MAX as usize, "{} days", days.len());
        assert!(days.values().all(|levels| levels.len() <= SOFT_BOUNCES_PER_DAY_MAX), "levels of a day");
        soft.note(EMAIL, 3, &rows(&[7]));
        assert!(!soft.channels[&EMAIL].contains_key(&3), "what is too old is not taken in");
    }
}
