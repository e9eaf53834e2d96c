//! Who of the matched contacts gets the message, and why the others do not.
//!
//! Owns no state; pure functions over sets. The order in which reasons apply is fixed, so that counts add up: erased,
//! deactivated, no address, suppressed (in the order given), unsubscribed, not subscribed, missing attribute, duplicate address, had
//! enough (caps, in the order given). Duplicates are looked for among the rows that pass all before ([`candidates`]), so that a
//! contact who may not be written to never displaces one who may. Who had enough comes last: the address had enough, and is not
//! written to by way of a second contact.
//!
//! Invariants: AU-1 `eligible` and the skip sets are disjoint and their union is `matched`; AU-2 a reason appears once,
//! in ascending order, and never with an empty set; AU-3 `matched` = `final` + the sum of the skipped counts.
//!
//! What this module must not know: where the sets come from, campaigns, the ledger.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::AddressHash;
use crate::segments::skip::SkipReason;

/// Which of several contacts with one address gets the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SameAddress {
    /// The contact created last; of two created at once, the one with the higher row.
    #[default]
    Newest,
    /// The contact created first; of two created at once, the one with the lower row.
    Oldest,
    /// All of them: one address may get the message several times.
    Allow,
}

/// One cause of suppression, as the summary names it.
#[derive(Clone, Copy, Debug)]
pub struct SuppressedSet<'a> {
    /// Why, in the words of the suppression (`hard_bounce`, `complaint`, `manual`, …).
    pub cause: &'a str,
    /// [`SkipReason::Suppressed`] or [`SkipReason::SuppressedAddress`].
    pub reason: SkipReason,
    pub rows: &'a RoaringBitmap,
}

/// One attribute that the message uses.
#[derive(Clone, Copy, Debug)]
pub struct LackingSet<'a> {
    pub attribute: &'a str,
    /// Rows without a value for it; rows outside the audience do not matter.
    pub rows: &'a RoaringBitmap,
    /// Such a row is skipped; otherwise it is only counted.
    pub skip: bool,
}

/// What decides about an audience. Every set may hold rows outside `matched`; they do not matter.
#[derive(Clone, Copy, Debug)]
pub struct AudienceInput<'a> {
    pub matched: &'a RoaringBitmap,
    /// All contacts that exist; `None` when `matched` was evaluated at this moment, so that all exist.
    pub existing: Option<&'a RoaringBitmap>,
    pub active: &'a RoaringBitmap,
    /// Contacts with an address on the channel.
    pub reachable: &'a RoaringBitmap,
    /// Contacts with an address on any other channel, to say whom another channel would reach.
    pub reachable_elsewhere: Option<&'a RoaringBitmap>,
    /// `None`: the message needs no consent.
    pub subscribed: Option<&'a RoaringBitmap>,
    /// Contacts who withdrew their consent; heeded whether the message needs consent or not.
    pub unsubscribed: &'a RoaringBitmap,
    pub suppressed: &'a [SuppressedSet<'a>],
    /// Who had enough messages lately.
    pub reached: &'a [(SkipReason, RoaringBitmap)],
    pub lacking: &'a [LackingSet<'a>],
}

/// The counts a sender reads before the start, in contacts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudienceSummary {
    pub matched: u64,
    /// Of the matched: with an address on the channel, whatever else is said about them.
    pub reachable: u64,
    pub erased: u64,
    pub deactivated: u64,
    pub no_address: u64,
    /// Of `no_address`: with an address on another channel.
    pub only_other_channels: u64,
    /// By cause, in the order given; a row counts for the first cause only.
    pub suppressed: Vec<(String, u64)>,
    pub unsubscribed: u64,
    pub not_subscribed: u64,
    /// Skipped because an attribute is missing.
    pub missing_attribute: u64,
    pub duplicate_address: u64,
    /// Per attribute, of those who could get the message otherwise: how many lack it, skipped or not. A row may count
    /// for several attributes.
    pub lacking_attribute: Vec<(String, u64)>,
    #[serde(rename = "final")]
    pub final_count: u64,
    /// Had as many messages as a cap allows.
    #[serde(default)]
    pub frequency_cap: u64,
    /// Another campaign has written to them lately.
    #[serde(default)]
    pub recently_contacted: u64,
    /// Held out as the control group; cut from those who could be sent to.
    #[serde(default)]
    pub hold_out: u64,
}

/// The partition of the matched rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Eligibility {
    pub eligible: RoaringBitmap,
    /// Ascending by reason, never empty sets.
    pub skipped: Vec<(SkipReason, RoaringBitmap)>,
}

/// The rows that pass everything but the look for duplicate addresses: what [`duplicates`] is to be asked about.
pub fn candidates(input: &AudienceInput<'_>) -> RoaringBitmap {
    sieve(input).rest
}

/// The summary and the partition. `duplicates` are rows to skip, from [`duplicates`] over [`candidates`].
pub fn assess(input: &AudienceInput<'_>, duplicates: &RoaringBitmap) -> (AudienceSummary, Eligibility) {
    let mut sieve = sieve(input);
    sieve.summary.duplicate_address = sieve.take_in(SkipReason::DuplicateAddress, duplicates);
    for (reason, rows) in input.reached {
        let count = sieve.take_in(*reason, rows);
        match reason {
            SkipReason::RecentlyContacted => sieve.summary.recently_contacted += count,
            _ => sieve.summary.frequency_cap += count,
        }
    }
    sieve.summary.final_count = sieve.rest.len();
    sieve.skipped.sort_unstable_by_key(|(reason, _)| *reason);
    (sieve.summary, Eligibility { eligible: sieve.rest, skipped: sieve.skipped })
}

struct Sieve {
    rest: RoaringBitmap,
    skipped: Vec<(SkipReason, RoaringBitmap)>,
    summary: AudienceSummary,
}

impl Sieve {
    /// Moves the rows of `rest` that are in `set` to `reason`; how many.
    fn take_in(&mut self, reason: SkipReason, set: &RoaringBitmap) -> u64 {
        let taken = &self.rest & set;
        self.rest -= &taken;
        self.put(reason, taken)
    }

    /// Moves the rows of `rest` that are not in `set` to `reason`; how many.
    fn take_out(&mut self, reason: SkipReason, set: &RoaringBitmap) -> u64 {
        let taken = &self.rest - set;
        self.rest &= set;
        self.put(reason, taken)
    }

    fn put(&mut self, reason: SkipReason, taken: RoaringBitmap) -> u64 {
        let count = taken.len();
        if count > 0 {
            match self.skipped.iter_mut().find(|(present, _)| *present == reason) {
                Some((_, rows)) => *rows |= taken,
                None => self.skipped.push((reason, taken)),
            }
        }
        count
    }
}

fn sieve(input: &AudienceInput<'_>) -> Sieve {
    let mut sieve = Sieve { rest: input.matched.clone(), skipped: Vec::new(), summary: AudienceSummary::default() };
    sieve.summary.matched = input.matched.len();
    sieve.summary.reachable = input.matched.intersection_len(input.reachable);
    if let Some(existing) = input.existing {
        sieve.summary.erased = sieve.take_out(SkipReason::Erased, existing);
    }
    sieve.summary.deactivated = sieve.take_out(SkipReason::Deactivated, input.active);
    sieve.summary.no_address = sieve.take_out(SkipReason::NoAddress, input.reachable);
    let without_address = sieve.skipped.iter().find(|(reason, _)| *reason == SkipReason::NoAddress);
    if let (Some(elsewhere), Some((_, rows))) = (input.reachable_elsewhere, without_address) {
        sieve.summary.only_other_channels = rows.intersection_len(elsewhere);
    }
    for set in input.suppressed {
        let count = sieve.take_in(set.reason, set.rows);
        match sieve.summary.suppressed.iter_mut().find(|(cause, _)| cause == set.cause) {
            Some((_, known)) => *known += count,
            None => sieve.summary.suppressed.push((set.cause.to_owned(), count)),
        }
    }
    sieve.summary.unsubscribed = sieve.take_in(SkipReason::Unsubscribed, input.unsubscribed);
    if let Some(subscribed) = input.subscribed {
        sieve.summary.not_subscribed = sieve.take_out(SkipReason::NotSubscribed, subscribed);
    }
    sieve.summary.lacking_attribute = input
        .lacking
        .iter()
        .map(|lacking| (lacking.attribute.to_owned(), sieve.rest.intersection_len(lacking.rows)))
        .collect();
    for lacking in input.lacking.iter().filter(|l| l.skip) {
        sieve.summary.missing_attribute += sieve.take_in(SkipReason::MissingAttribute, lacking.rows);
    }
    sieve
}

/// The rows to skip so that every address is used once.
///
/// Looks only at rows of `rows` that are also in `shared`: the contacts, of the whole base, whose address another contact
/// has too. `key_of` answers the hash of a row's address, `created_of` when the contact was created; their first error ends
/// the search. Holds some 50 bytes per shared row meanwhile.
pub fn duplicates<E>(
    rows: &RoaringBitmap,
    shared: &RoaringBitmap,
    mut key_of: impl FnMut(u32) -> Result<Option<AddressHash>, E>,
    order: SameAddress,
    mut created_of: impl FnMut(u32) -> Result<Timestamp, E>,
) -> Result<RoaringBitmap, E> {
    let mut skip = RoaringBitmap::new();
    if order == SameAddress::Allow {
        return Ok(skip);
    }
    let mut kept: HashMap<AddressHash, (Timestamp, u32)> = HashMap::new();
    for row in rows & shared {
        let Some(address) = key_of(row)? else { continue };
        let challenger = (created_of(row)?, row);
        match kept.entry(address) {
            Entry::Vacant(entry) => {
                entry.insert(challenger);
            }
            Entry::Occupied(mut entry) => {
                let wins = match order {
                    SameAddress::Newest => challenger > *entry.get(),
                    SameAddress::Oldest | SameAddress::Allow => challenger < *entry.get(),
                };
                let loser = if wins { entry.insert(challenger) } else { challenger };
                skip.insert(loser.1);
            }
        }
    }
    Ok(skip)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    fn rows(max: u32) -> impl Strategy<Value = RoaringBitmap> {
        btree_set(0..max, 0..40).prop_map(|set| set.into_iter().collect())
    }

    fn address(number: u8) -> AddressHash {
        AddressHash([number; 16])
    }

    /// Rows 0..n with the given addresses (0 = none) and creation times.
    fn find(people: &[(u8, i64)], order: SameAddress) -> RoaringBitmap {
        let all: RoaringBitmap = (0..people.len() as u32).collect();
        let of = |row: u32| people[row as usize];
        let key = |row| Ok::<_, Infallible>((of(row).0 != 0).then(|| address(of(row).0)));
        let found = duplicates(&all, &all, key, order, |row| Ok(Timestamp(of(row).1)));
        found.expect("infallible")
    }

    #[test]
    fn newest_and_oldest_keep_one_and_ties_fall_to_the_row() {
        let people = [(1, 10), (1, 30), (1, 20), (2, 5), (0, 1), (0, 2), (3, 7), (3, 7)];
        assert_eq!(find(&people, SameAddress::Newest), [0, 2, 6].into_iter().collect(), "newest");
        assert_eq!(find(&people, SameAddress::Oldest), [1, 2, 7].into_iter().collect(), "oldest");
        assert_eq!(find(&people, SameAddress::Allow), RoaringBitmap::new(), "allow");
    }

    #[test]
    fn an_error_of_the_store_is_not_taken_for_no_duplicate() {
        let all: RoaringBitmap = (0..3).collect();
        let answer = duplicates(&all, &all, |_| Err("disk"), SameAddress::Newest, |_| Ok(Timestamp(0)));
        assert_eq!(answer, Err("disk"), "the error comes through");
    }

    #[test]
    fn a_summary_counts_each_row_once_and_names_the_first_reason() {
        let set = |r: std::ops::Range<u32>| r.collect::<RoaringBitmap>();
        let (matched, active, reachable) = (set(0..100), set(10..200), set(20..200));
        let (bounced, complained, subscribed) = (set(15..30), set(25..35), set(40..200));
        let (withdrawn, no_name, no_city) = (set(36..38), set(50..60), set(55..70));
        let input = AudienceInput {
            matched: &matched,
            existing: None,
            active: &active,
            reachable: &reachable,
            reachable_elsewhere: Some(&set(12..15)),
            subscribed: Some(&subscribed),
            unsubscribed: &withdrawn,
            reached: &[(SkipReason::FrequencyCap, set(40..42)), (SkipReason::RecentlyContacted, set(42..43))],
            suppressed: &[
                SuppressedSet { cause: "hard_bounce", reason: SkipReason::SuppressedAddress, rows: &bounced },
                SuppressedSet { cause: "complaint", reason: SkipReason::Suppressed, rows: &complained },
            ],
            lacking: &[
                LackingSet { attribute: "name", rows: &no_name, skip: true },
                LackingSet { attribute: "city", rows: &no_city, skip: false },
            ],
        };
        assert_eq!(candidates(&input), &set(40..50) | &set(60..100), "all but duplicates");
        let (summary, eligibility) = assess(&input, &set(90..95));
        let expected = AudienceSummary {
            matched: 100,
            reachable: 80,
            erased: 0,
            deactivated: 10,
            no_address: 10,
            only_other_channels: 3,
            suppressed: vec![("hard_bounce".to_owned(), 10), ("complaint".to_owned(), 5)],
            unsubscribed: 2,
            not_subscribed: 3,
            missing_attribute: 10,
            duplicate_address: 5,
            lacking_attribute: vec![("name".to_owned(), 10), ("city".to_owned(), 15)],
            final_count: 42,
            frequency_cap: 2,
            recently_contacted: 1,
            hold_out: 0,
        };
        assert_eq!(summary, expected, "summary");
        assert_eq!(eligibility.eligible.len(), 42, "eligible");
        let json = serde_json::to_value(&summary).expect("serialises");
        assert_eq!(json["final"], 42, "the name in the API is `final`");
    }

    proptest! {
        #[test]
        fn eligible_and_skipped_partition_the_matched(
            matched in rows(64), existing in rows(64), active in rows(64), reachable in rows(64), consent in rows(64),
            withdrawn in rows(64), suppressed in vec(rows(64), 0..4), reached in vec(rows(64), 0..3), lacking in vec((rows(64), any::<bool>()), 0..3),
            duplicate in rows(64), needs_consent in any::<bool>(), check_existing in any::<bool>(),
        ) {
            let suppressed: Vec<_> = suppressed.iter().enumerate().map(|(i, rows)| SuppressedSet {
                cause: "any",
                reason: if i % 2 == 0 { SkipReason::Suppressed } else { SkipReason::SuppressedAddress },
                rows,
            }).collect();
            let reached: Vec<_> =
                [SkipReason::FrequencyCap, SkipReason::RecentlyContacted].into_iter().zip(reached).collect();
            let lacking: Vec<_> =
                lacking.iter().map(|(rows, skip)| LackingSet { attribute: "a", rows, skip: *skip }).collect();
            let input = AudienceInput {
                matched: &matched,
                existing: check_existing.then_some(&existing),
                active: &active,
                reachable: &reachable,
                reachable_elsewhere: None,
                subscribed: needs_consent.then_some(&consent),
                unsubscribed: &withdrawn,
                suppressed: &suppressed,
                reached: &reached,
                lacking: &lacking,
            };
            let (summary, eligibility) = assess(&input, &duplicate);
            let mut union = eligibility.eligible.clone();
            let mut skipped = 0;
            for (reason, rows) in &eligibility.skipped {
                prop_assert!(!rows.is_empty(), "{reason} is empty");
                prop_assert!(union.is_disjoint(rows), "{reason} overlaps");
                union |= rows;
                skipped += rows.len();
            }
            prop_assert_eq!(&union, &matched, "the union is the matched");
            prop_assert_eq!(summary.matched, summary.final_count + skipped, "the counts add up");
            prop_assert_eq!(summary.final_count, eligibility.eligible.len(), "final");
            let named = summary.erased + summary.deactivated + summary.no_address + summary.unsubscribed
                + summary.frequency_cap + summary.recently_contacted
                + summary.not_subscribed + summary.missing_attribute + summary.duplicate_address
                + summary.suppressed.iter().map(|(_, n)| n).sum::<u64>();
            prop_assert_eq!(named, skipped, "every skipped row is named once in the summary");
            prop_assert!(eligibility.skipped.is_sorted_by(|a, b| a.0 < b.0), "ascending, once each");
            prop_assert_eq!(&eligibility.eligible | &candidates(&input), candidates(&input), "candidates hold the eligible");
        }

        #[test]
        fn after_the_duplicates_every_address_is_left_once(people in vec((0u8..6, 0i64..4), 0..40)) {
            for order in [SameAddress::Newest, SameAddress::Oldest] {
                let skip = find(&people, order);
                let mut used = std::collections::BTreeSet::new();
                for (row, (address, _)) in people.iter().enumerate() {
                    if *address == 0 {
                        prop_assert!(!skip.contains(row as u32), "no address, no duplicate");
                    } else if !skip.contains(row as u32) {
                        prop_assert!(used.insert(*address), "address {} is used twice", address);
                    }
                }
                let present: std::collections::BTreeSet<u8> = people.iter().map(|p| p.0).filter(|a| *a != 0).collect();
                prop_assert_eq!(used, present, "every address is used");
            }
        }
    }
}
