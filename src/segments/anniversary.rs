//! Anniversaries: the day of a later year that is celebrated for a date.
//!
//! Owns no state. The first anniversary of a date is one year later. The rule for 29 February: in a year without one it is celebrated on 28 February, as `+ 1y` counts.
//! Invariant: AN-1 every date has exactly one anniversary in each year of the calendar.

use jiff::civil::Date;

use crate::limits::ANNIVERSARY_YEARS_MAX;

/// The anniversary of `date` in `year`; `None` for a year outside the calendar, −9999 to 9999.
pub fn in_year(date: Date, year: i16) -> Option<Date> {
    let first = Date::new(year, date.month(), 1).ok()?;
    Date::new(year, date.month(), date.day().min(first.days_in_month())).ok()
}

/// Whether `today` is an anniversary of `date`, the date itself and years before it included.
pub fn is_on(date: Date, today: Date) -> bool {
    in_year(date, today.year()) == Some(today)
}

/// The first anniversary of `date` that is not before `from`; `None` at the end of the calendar.
pub fn next(date: Date, from: Date) -> Option<Date> {
    in_year(date, from.year()).filter(|day| *day >= from).or_else(|| in_year(date, from.year().checked_add(1)?))
}

/// Full years from `date` to `today`, an age; negative before the date.
pub fn years(date: Date, today: Date) -> i16 {
    let reached = in_year(date, today.year()).is_none_or(|day| day <= today);
    today.year() - date.year() - i16::from(!reached)
}

/// Month and day of the dates whose anniversary is on `today`, to look them up in an index: one pair, or two on
/// 28 February of a year without a 29th.
pub fn origins(today: Date) -> Vec<(i8, i8)> {
    let mut found = vec![(today.month(), today.day())];
    if (today.month(), today.day()) == (2, 28) && !today.in_leap_year() {
        found.push((2, 29));
    }
    found
}

/// The dates, in spans of days, that have an anniversary on one of the days from `first` to `last`, counted from today: one span
/// for each year of age up to [`ANNIVERSARY_YEARS_MAX`], beyond which nothing is celebrated.
pub fn origin_spans(today: Date, (first, last): (i64, i64)) -> Vec<(Date, Date)> {
    let day = |days: i64| today.checked_add(jiff::Span::new().try_days(days).ok()?).ok();
    let (Some(first), Some(last)) = (day(first), day(last)) else { return Vec::new() };
    (1..=ANNIVERSARY_YEARS_MAX).filter_map(|age| Some((earliest(first, age)?, latest(last, age)?))).collect()
}

/// The first date whose anniversary `age` years later is on `day` or after it.
fn earliest(day: Date, age: i16) -> Option<Date> {
    let year = day.year().checked_sub(age)?;
    // 28 February is celebrated on the 28th in each year, so that a year without a 29th begins behind it.
    Date::new(year, day.month(), day.day()).or_else(|_| Date::new(year, 3, 1)).ok()
}

/// The last date whose anniversary `age` years later is on `day` or before it.
fn latest(day: Date, age: i16) -> Option<Date> {
    let year = day.year().checked_sub(age)?;
    let is_last = day.month() == 2 && day.day() == day.days_in_month();
    if is_last {
        return Date::new(year, 2, 1).and_then(|first| Date::new(year, 2, first.days_in_month())).ok();
    }
    Date::new(year, day.month(), day.day()).ok()
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_29th_of_february_is_celebrated_every_year() {
        let leap = date(2000, 2, 29);
        for (year, expected) in
            [(2001, date(2001, 2, 28)), (2004, date(2004, 2, 29)), (2100, date(2100, 2, 28)), (2400, date(2400, 2, 29))]
        {
            assert_eq!(in_year(leap, year), Some(expected), "{year}");
        }
        assert!(is_on(leap, date(2027, 2, 28)) && !is_on(leap, date(2028, 2, 28)), "on the 28th only without a 29th");
        assert_eq!(origins(date(2027, 2, 28)), [(2, 28), (2, 29)], "both are celebrated");
        assert_eq!(origins(date(2028, 2, 28)), [(2, 28)], "each has its day");
        assert_eq!(years(leap, date(2018, 2, 28)), 18, "of age on the day that is celebrated");
        assert_eq!(years(leap, date(2018, 2, 27)), 17, "and not before");
    }

    #[test]
    fn the_next_anniversary_may_be_today_or_in_a_year() {
        let birthday = date(1990, 11, 22);
        assert_eq!(next(birthday, date(2026, 11, 22)), Some(date(2026, 11, 22)), "today");
        assert_eq!(next(birthday, date(2026, 11, 23)), Some(date(2027, 11, 22)), "over for this year");
        assert_eq!(next(birthday, date(9999, 12, 1)), None, "the end of the calendar");
        assert_eq!(in_year(birthday, i16::MAX), None, "beyond it");
        assert_eq!((years(birthday, date(2026, 11, 21)), years(birthday, birthday)), (35, 0), "ages");
    }

    proptest! {
        #[test]
        fn spans_hold_exactly_the_dates_that_are_celebrated(
            year in 1990i16..2030, month in 1i8..=12, day in 26i8..=31, first in -40i64..40, length in 0i64..40,
            now_year in 2030i16..2040, now_month in 1i8..=4, now_day in 1i8..=31,
        ) {
            let (Ok(born), Ok(today)) = (Date::new(year, month, day), Date::new(now_year, now_month, now_day)) else {
                return Ok(());
            };
            let days: Vec<Date> =
                (first..=first + length).filter_map(|n| today.checked_add(jiff::Span::new().days(n)).ok()).collect();
            let expected = days.iter().any(|day| day.year() > born.year() && is_on(born, *day));
            let spans = origin_spans(today, (first, first + length));
            let found = spans.iter().any(|(low, high)| *low <= born && born <= *high);
            prop_assert_eq!(found, expected, "{} from {} on, {} days", born, days[0], days.len());
        }

        #[test]
        fn an_index_lookup_finds_exactly_those_who_celebrate(
            year in 1900i16..2030, month in 1i8..=12, day in 1i8..=31,
            now_year in 2000i16..2100, now_month in 1i8..=12, now_day in 1i8..=31,
        ) {
            let (Ok(born), Ok(today)) = (Date::new(year, month, day), Date::new(now_year, now_month, now_day)) else {
                return Ok(());
            };
            prop_assert_eq!(origins(today).contains(&(month, day)), is_on(born, today), "{} on {}", born, today);
            let next = next(born, today).expect("within the calendar");
            prop_assert!(is_on(born, next) && next >= today, "{next} is one");
            prop_assert!(next.year() - today.year() <= 1, "within a year");
        }
    }
}
