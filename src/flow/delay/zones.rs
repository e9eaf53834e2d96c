//! Instants for sets of rows, each contact by the clocks of its own zone.
//!
//! Owns no state. A time is computed once per zone and never per contact. Invariant: the sets answered are a partition of
//! the rows that were asked for: a row without a zone goes by the default, one in two zones by the first.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use roaring::RoaringBitmap;

use crate::clock::Timestamp;

/// The contacts of one zone.
#[derive(Clone, Debug)]
pub struct ZoneSet {
    pub zone: TimeZone,
    pub rows: RoaringBitmap,
}

/// Which of `rows` are due when: `due` is asked once per zone in which some of them are.
pub fn by_zone(
    rows: &RoaringBitmap,
    zones: &[ZoneSet],
    default: &TimeZone,
    due: impl Fn(&TimeZone) -> Timestamp,
) -> BTreeMap<Timestamp, RoaringBitmap> {
    let mut times: BTreeMap<Timestamp, RoaringBitmap> = BTreeMap::new();
    let mut left = rows.clone();
    for ZoneSet { zone, rows } in zones {
        let here = &left & rows;
        if !here.is_empty() {
            left -= &here;
            *times.entry(due(zone)).or_default() |= here;
        }
    }
    if !left.is_empty() {
        *times.entry(due(default)).or_default() |= left;
    }
    times
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::civil::tests::{utc, zone};
    use super::super::{Delay, due};
    use super::*;
    use crate::flow::split::tests::assert_partition;

    fn set(zone_name: &str, rows: &[u32]) -> ZoneSet {
        ZoneSet { zone: zone(zone_name), rows: rows.iter().collect() }
    }

    #[test]
    fn each_contact_goes_by_its_own_clocks() {
        let zones = [
            set("Europe/Paris", &[1, 2, 3]),
            set("Europe/Madrid", &[4]),
            set("Asia/Kathmandu", &[5, 6]),
            set("America/New_York", &[7, 3]),
        ];
        let nine = Delay::Weekdays { days: super::super::DaySet::ALL, at: "09:00".parse().expect("a time") };
        let entered = utc("2026-11-06T08:30:00Z");
        let found = by_zone(&[2, 3, 4, 5, 7, 8, 9].iter().collect(), &zones, &zone("UTC"), |z| due(entered, z, &nine));
        let expected: BTreeMap<Timestamp, RoaringBitmap> = [
            ("2026-11-06T09:00:00Z", &[8, 9][..]),
            ("2026-11-06T14:00:00Z", &[7]),
            ("2026-11-07T03:15:00Z", &[5]),
            ("2026-11-07T08:00:00Z", &[2, 3, 4]),
        ]
        .into_iter()
        .map(|(at, rows)| (utc(at), rows.iter().collect()))
        .collect();
        assert_eq!(found, expected, "two zones with one time share a set; 3 is in two zones; 8 and 9 are in none");
    }

    proptest! {
        #[test]
        fn nobody_is_lost_and_nobody_is_due_twice(
            rows in proptest::collection::btree_set(0u32..200, 0..150),
            sets in proptest::collection::vec((0usize..4, proptest::collection::btree_set(0u32..200, 0..80)), 0..6),
        ) {
            let names = ["Europe/Paris", "Asia/Kathmandu", "Africa/Casablanca", "Australia/Lord_Howe"];
            let zones: Vec<ZoneSet> =
                sets.iter().map(|(at, rows)| ZoneSet { zone: zone(names[*at]), rows: rows.iter().collect() }).collect();
            let rows: RoaringBitmap = rows.into_iter().collect();
            let date = Delay::Date("2026-12-24T18:00".parse().expect("a date"));
            let found = by_zone(&rows, &zones, &TimeZone::UTC, |z| due(Timestamp(0), z, &date));
            let parts: Vec<RoaringBitmap> = found.into_values().collect();
            assert_partition(&rows, &parts);
            prop_assert!(parts.iter().all(|part| !part.is_empty()), "no time for nobody");
        }
    }
}
