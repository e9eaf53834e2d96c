//! Variants of a test that differ in the moment at which they go out.
//!
//! Each arm waits for its moment; the rest, once there is a winner, waits for the winning moment's next occurrence. What is
//! compared are equal windows after each contact's own send, so that the deadline must lie behind the last start and its
//! window.
//!
//! Owns no state; the clock is handed in.

use jiff::tz::TimeZone;

use crate::campaigns::schedule::Launch;
use crate::campaigns::spec::CampaignSpec;
use crate::campaigns::spec::kinds::seconds;
use crate::campaigns::validate::Problem;
use crate::clock::Timestamp;
use crate::flow::delay::{Delay as Wait, Moment};
use crate::flow::nodes::Delay;
use crate::flow::nodes::delay::{CONTACT_ZONE, DelayZone, known_zone};

const DAY_SECONDS: u32 = 24 * 3_600;
/// Events count for so long after each contact's own send, unless told otherwise: as long for a night as for a morning.
pub(super) const WINDOW_DEFAULT: u32 = DAY_SECONDS;
/// An hour that clocks may be put back by.
const CLOCK_CHANGE_SECONDS: u32 = 3_600;
/// From the easternmost zone to the westernmost.
const AROUND_THE_WORLD_SECONDS: u32 = 26 * 3_600;
/// What is left for the last messages to go out, in a deadline that nobody wrote.
const SENDING_SECONDS: u32 = 3_600;

/// Whether the variants are tested on their moments.
pub(super) fn tested(spec: &CampaignSpec) -> bool {
    spec.variants.iter().any(|variant| variant.at.is_some())
}

/// What an arm waits for; `None` if its variant has no moment, or none that can be read.
pub(super) fn delay(spec: &CampaignSpec, variant: usize) -> Option<Delay> {
    let moment: Moment = spec.variants.get(variant)?.at.as_deref()?.parse().ok()?;
    let zone = DelayZone::named(spec.test.zone.as_deref().unwrap_or("UTC"));
    Some(Delay::Clock { wait: Wait::Moment(moment), zone })
}

fn moments(spec: &CampaignSpec) -> Vec<Moment> {
    spec.variants.iter().filter_map(|variant| variant.at.as_deref()?.parse().ok()).collect()
}

fn window(spec: &CampaignSpec) -> u32 {
    spec.test.window.as_deref().and_then(seconds).unwrap_or(WINDOW_DEFAULT)
}

/// The deadline that follows from moments without dates, seconds after the cut: the longest wait for any of them, their
/// window, and some time to send.
pub(super) fn deadline_seconds(spec: &CampaignSpec) -> u32 {
    let waits = moments(spec).iter().map(longest_wait).max().unwrap_or(0);
    let zones = if is_of_contacts(spec) { AROUND_THE_WORLD_SECONDS } else { 0 };
    [waits, zones, window(spec), SENDING_SECONDS].into_iter().fold(0, u32::saturating_add)
}

fn is_of_contacts(spec: &CampaignSpec) -> bool {
    spec.test.zone.as_deref() == Some(CONTACT_ZONE)
}

/// The longest time between two occurrences.
fn longest_wait(moment: &Moment) -> u32 {
    let days: Vec<i8> = moment.days.iter().map(|day| day.to_monday_zero_offset()).collect();
    let next = |at: usize| days.get(at + 1).copied().unwrap_or_else(|| days.first().copied().unwrap_or(0) + 7);
    let gaps = days.iter().enumerate().map(|(at, day)| next(at) - day);
    u32::try_from(gaps.max().unwrap_or(7)).unwrap_or(7) * DAY_SECONDS + CLOCK_CHANGE_SECONDS
}

/// When the last contact of an arm starts, if the sample were cut now.
fn last_start(moment: &Moment, spec: &CampaignSpec, now: Timestamp) -> Timestamp {
    let zone = spec.test.zone.as_deref().filter(|name| *name != CONTACT_ZONE).and_then(known_zone);
    match (zone, moment.first) {
        (Some(zone), _) => moment.due(now, &zone),
        (None, Some(first)) if is_of_contacts(spec) => Launch::local(first).last(),
        (None, _) => {
            let at = moment.due(now, &TimeZone::UTC);
            Timestamp(at.0.saturating_add(i64::from(AROUND_THE_WORLD_SECONDS) * 1_000))
        }
    }
}

/// What is wrong with the moments of the variants.
pub(super) fn problems(spec: &CampaignSpec, now: Timestamp, found: &mut Vec<Problem>) {
    if !tested(spec) {
        if spec.test.zone.is_some() {
            let message = "test.zone is of moments, and no variant has one";
            found.push(Problem::warning("zone_unused", "test.zone", message, "remove it, or set `at` of each variant"));
        }
        return;
    }
    let before = found.len();
    for (at, variant) in spec.variants.iter().enumerate() {
        let path = format!("variants.{at}.at");
        match variant.at.as_deref().map(str::parse::<Moment>) {
            None => {
                let message = "other variants have a moment, and this one has none";
                found.push(Problem::error("moments_mixed", path, message, "set `at` of every variant, or of none"));
            }
            Some(Err(error)) => {
                let fix = "a time of day, with days of the week before it, or a date and time";
                found.push(Problem::error("bad_moment", path, error.to_string(), fix));
            }
            Some(Ok(moment)) => past(spec, &moment, now, path, found),
        }
    }
    match spec.test.zone.as_deref() {
        None => {
            let fix = "write an IANA name such as \"Europe/Paris\", or \"contact\" for each contact's own";
            found.push(Problem::error("no_zone", "test.zone", "the moments have no time zone", fix));
        }
        Some(name) if name != CONTACT_ZONE && known_zone(name).is_none() => {
            let message = format!("{name:?} is no time zone");
            let fix = "write an IANA name such as \"Europe/Paris\", or \"contact\" for each contact's own";
            found.push(Problem::error("unknown_zone", "test.zone", message, fix));
        }
        Some(_) => {}
    }
    if found.len() == before {
        deadline(spec, now, found);
    }
}

fn past(spec: &CampaignSpec, moment: &Moment, now: Timestamp, path: String, found: &mut Vec<Problem>) {
    let Some(first) = moment.first else { return };
    let zone = spec.test.zone.as_deref().and_then(known_zone).unwrap_or(TimeZone::UTC);
    if crate::flow::delay::civil::instant(first, &zone) < now {
        let message = format!("{first} has passed: it is {now}");
        found.push(Problem::error("past_moment", path, message, "set a date ahead, or days of the week"));
    }
}

/// A deadline before the last start and its window would compare a whole window with a part of one.
fn deadline(spec: &CampaignSpec, now: Timestamp, found: &mut Vec<Problem>) {
    const PATH: &str = "test.decide_after";
    let moments = moments(spec);
    let given = spec.test.decide_after.as_deref().and_then(seconds);
    if given.is_none() && moments.iter().any(|moment| moment.first.is_some()) {
        let fix = "set test.decide_after, from the start of the campaign to behind the last date and its window";
        found.push(Problem::error("no_deadline", PATH, "moments with a date need a deadline", fix));
        return;
    }
    let Some(given) = given else { return };
    let Some(last) = moments.iter().map(|moment| last_start(moment, spec, now)).max() else { return };
    let (deadline, window) = (now.0.saturating_add(i64::from(given) * 1_000), i64::from(window(spec)) * 1_000);
    if deadline < last.0.saturating_add(window) {
        let message = format!(
            "the last variant starts at {last}, and its contacts are judged {} seconds later: the deadline comes before",
            window / 1_000
        );
        found.push(Problem::error("deadline_early", PATH, message, "set a later deadline, or a shorter test.window"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaigns::{Format, compile, parse};
    use crate::flow::{GraphFormat, NodeId, NodeKind, render};

    /// 2026-11-03 is a Tuesday.
    const NOW: &str = "2026-11-03T12:00:00Z";

    fn now() -> Timestamp {
        Timestamp(NOW.parse::<jiff::Timestamp>().expect(NOW).as_millisecond())
    }

    fn spec(at: [&str; 2], test: &str) -> CampaignSpec {
        let variant = |at: &str| match at {
            "" => "[[variants]]\n".to_owned(),
            at => format!("[[variants]]\nat = \"{at}\"\n"),
        };
        let text = format!(
            "name = \"m\"\nkind = \"ab_split\"\n[audience]\nall = true\n[message]\nchannel = \"email\"\n\
             connector = \"relay\"\ntopic = \"news\"\nsubject = \"s\"\n{}{}[test]\n{test}\n",
            variant(at[0]),
            variant(at[1])
        );
        parse(&text, Format::Toml).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    fn codes(at: [&str; 2], test: &str) -> Vec<&'static str> {
        let mut found = Vec::new();
        problems(&spec(at, test), now(), &mut found);
        found.into_iter().map(|problem| problem.code).collect()
    }

    const PARIS: &str = "zone = \"Europe/Paris\"";

    #[test]
    fn each_fault_of_the_moments_has_its_code() {
        let none: [&str; 0] = [];
        assert_eq!(codes(["09:00", "18:00"], PARIS), none, "two times of day");
        assert_eq!(codes(["tuesday 09:00", "weekend 10:00"], "zone = \"contact\""), none, "each contact's own");
        let dated = ["2026-11-05T09:00", "2026-11-07T10:00"];
        for (at, test, code) in [
            (["09:00", ""], PARIS.to_owned(), "moments_mixed"),
            (["09:00", "soon"], PARIS.to_owned(), "bad_moment"),
            (["09:00", "18:00"], String::new(), "no_zone"),
            (["09:00", "18:00"], "zone = \"Mars/Base\"".to_owned(), "unknown_zone"),
            (["2026-11-02T09:00", "2026-11-07T10:00"], format!("{PARIS}\ndecide_after = \"9d\""), "past_moment"),
            (dated, PARIS.to_owned(), "no_deadline"),
            (dated, format!("{PARIS}\ndecide_after = \"4d\""), "deadline_early"),
            (["09:00", "18:00"], format!("{PARIS}\ndecide_after = \"1d\""), "deadline_early"),
            (["", ""], PARIS.to_owned(), "zone_unused"),
        ] {
            assert_eq!(codes(at, &test), [code], "{at:?} {test}");
        }
        // The last starts on Saturday at nine UTC, and four hours later everybody is judged: three days and 25 hours.
        assert_eq!(codes(dated, &format!("{PARIS}\ndecide_after = \"97h\"\nwindow = \"4h\"")), none, "just behind");
        let early = codes(dated, &format!("{PARIS}\ndecide_after = \"96h\"\nwindow = \"4h\""));
        assert_eq!(early, ["deadline_early"], "just before");
    }

    #[test]
    fn each_arm_waits_for_its_moment_and_nothing_is_looked_at_before_all_are_mature() {
        let spec = spec(["weekdays 09:00", "weekend 10:00"], PARIS);
        let compiled = compile(&spec).expect("compiles");
        let Some(NodeKind::AbTest(test)) = compiled.graph.node(NodeId(1)).map(|n| n.kind.clone()) else {
            panic!("no test")
        };
        assert!(test.moments && test.window_seconds == WINDOW_DEFAULT, "{test:?}");
        // Six days from Sunday to Saturday, and a clock put back; a day of window; an hour to send.
        assert_eq!(test.decide_after_seconds, 6 * DAY_SECONDS + 3_600 + DAY_SECONDS + 3_600, "it follows");
        let text = render(&compiled.graph, GraphFormat::Text, None);
        assert_eq!(text.matches("(wait until").count(), 2, "a wait per arm:\n{text}");
        let waits = compiled.graph.nodes().filter(|node| matches!(node.kind, NodeKind::Delay(_)));
        assert!(
            waits.into_iter().all(|node| compiled
                .graph
                .sends_of_branch(NodeId(1), &crate::flow::Exit("A".into()))
                .len()
                == 1
                && node.id.0 >= 40),
            "the sends lie behind them"
        );
    }
}
