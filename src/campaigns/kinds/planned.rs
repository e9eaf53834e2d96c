//! What `[schedule]` adds to a flow: with `zone = "contact"` everybody waits behind the start for the time of the launch by
//! the own clocks, and cells of a grid wait for dates of their own.
//!
//! Everything else of a schedule is no matter of the flow: it says when a run begins.

use std::collections::BTreeSet;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::START;
use crate::campaigns::instant;
use crate::campaigns::schedule::fields::Ahead;
use crate::campaigns::schedule::{Launch, ScheduleError, ScheduleFields};
use crate::campaigns::spec::{CampaignSpec, Kind};
use crate::campaigns::validate::Problem;
use crate::clock::Timestamp;
use crate::flow::delay;
use crate::flow::delay::civil::{instant as instant_of, is_skipped, local, repeated};
use crate::flow::nodes::delay::{known_zone, zone_named};
use crate::flow::nodes::{Delay, DelayZone};
use crate::flow::{Exit, GraphParts, NodeId, NodeKind};

/// Where everybody waits for the launch's time by the own clocks.
const LOCAL: NodeId = NodeId(4);
/// The same, where a node of that id sorts by language.
const LOCAL_BEFORE_LANGUAGES: NodeId = NodeId(5);

/// Whether contacts may begin one after the other: the sample of a test is cut from all at once, and a flow says itself
/// where it waits.
fn waits_at_the_start(kind: Kind) -> bool {
    matches!(kind, Kind::Single | Kind::MultiSegment)
}

/// Puts the wait for each contact's own time between the start and what follows it.
pub(in crate::campaigns) fn add(spec: &CampaignSpec, parts: &mut GraphParts) {
    if !spec.schedule.by_contact() {
        return;
    }
    let start = parts.nodes.iter().find(|node| node.kind.is_trigger()).map_or(START, |node| node.id);
    let Some(first) = parts.edges.iter_mut().find(|edge| edge.from == start && edge.exit == Exit::NEXT) else { return };
    let local = if parts.nodes.iter().any(|node| node.id == LOCAL) { LOCAL_BEFORE_LANGUAGES } else { LOCAL };
    let behind = std::mem::replace(&mut first.to, local);
    // Where people gave the ids, this node has one too.
    if let Some(key) = parts.keys.get(&start).map(|key| format!("{key}.local_time")) {
        parts.keys.insert(local, key);
    }
    parts.node(local, "local time", NodeKind::Delay(Delay::Launch));
    parts.edge(local, Exit::NEXT, behind);
}

/// The wait of a cell with a date of its own.
pub(super) fn of_cell(schedule: &ScheduleFields) -> Option<Delay> {
    let text = &schedule.at.as_ref()?.0;
    match (instant::parse(text), text.parse::<DateTime>(), schedule.zone.as_deref()) {
        (Ok(at), ..) => Some(Delay::Until(at.0)),
        (_, Ok(date), Some(zone)) => {
            Some(Delay::Clock { wait: delay::Delay::Date(date), zone: DelayZone::named(zone) })
        }
        // `problems` has refused it.
        _ => None,
    }
}

/// A date that a part of a campaign has of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct PartDate {
    /// The cell's place, or the variant.
    pub part: String,
    /// Where the date stands in the spec.
    pub path: String,
    pub launch: Launch,
}

/// The dates of cells with a schedule of their own, and the moments of variants, for a campaign that starts at `from`.
pub fn part_dates(spec: &CampaignSpec, from: Timestamp) -> Vec<PartDate> {
    let launch = |wait: Delay| match wait {
        Delay::Until(at) => Some(Launch::at(Timestamp(at))),
        Delay::Clock { wait: delay::Delay::Date(date), zone: DelayZone::Contact } => Some(Launch::local(date)),
        Delay::Clock { wait, zone: DelayZone::Contact } => {
            let local = delay::due(from, &TimeZone::UTC, &wait);
            let local = jiff::Timestamp::from_millisecond(local.0).ok()?.to_zoned(TimeZone::UTC).datetime();
            Some(Launch::local(local))
        }
        Delay::Clock { wait, zone: DelayZone::Named(name) } => {
            Some(Launch::at(delay::due(from, &zone_named(&name), &wait)))
        }
        _ => None,
    };
    let cells = spec.cells.iter().enumerate().filter(|_| spec.kind() == Kind::MultiSegment).filter_map(|(at, cell)| {
        let places = cell.at.iter().map(|(dimension, value)| format!("{dimension} = {value}")).collect::<Vec<_>>();
        let part = if places.is_empty() { "all".to_owned() } else { places.join(", ") };
        let launch = launch(of_cell(&cell.schedule)?)?;
        Some(PartDate { part, path: format!("cells.{at}.schedule.at"), launch })
    });
    let variants = (0..spec.variants.len()).filter(|_| spec.kind() == Kind::AbSplit).filter_map(|at| {
        let launch = launch(super::moments::delay(spec, at)?)?;
        Some(PartDate { part: super::ab_split::name_of(spec, at), path: format!("variants.{at}.at"), launch })
    });
    cells.chain(variants).collect()
}

/// A time that the clocks of a zone skip, or show twice: when it is, by the rule for all times.
pub(in crate::campaigns) fn clocks_change(date: DateTime, zone: &str) -> Option<(&'static str, String)> {
    let clocks = known_zone(zone)?;
    if is_skipped(date, &clocks) {
        let then = local(instant_of(date, &clocks), &clocks);
        return Some(("time_skipped", format!("the clocks of {zone} skip {date}: it is {then} that is meant")));
    }
    let second = repeated(date, &clocks)?;
    let first = instant_of(date, &clocks);
    Some(("time_twice", format!("the clocks of {zone} show {date} twice: the first is meant, {first}, not {second}")))
}

/// Warnings about dates at a change of clocks.
fn told_of_clocks(path: &str, schedule: &ScheduleFields, found: &mut Vec<Problem>) {
    let Some(zone) = schedule.zone.as_deref() else { return };
    for text in schedule.at.iter().chain(&schedule.dates) {
        let told = text.0.parse::<DateTime>().ok().and_then(|date| clocks_change(date, zone));
        found.extend(told.map(|(code, message)| {
            Problem::warning(code, path, message, "fine, or choose an hour that every day has once")
        }));
    }
}

/// What is wrong with `[schedule]`, and with the schedules of cells.
pub(in crate::campaigns) fn problems(spec: &CampaignSpec, ahead: Ahead, found: &mut Vec<Problem>) {
    let problem =
        |path: String, error: &ScheduleError| Problem::error(error.code(), path, error.to_string(), error.fix());
    if spec.schedule != ScheduleFields::default() {
        let wrong = spec.schedule.resolve_from(ahead).err().unwrap_or_default();
        found.extend(wrong.iter().map(|error| problem("schedule".to_owned(), error)));
        told_of_clocks("schedule", &spec.schedule, found);
    }
    let kind = spec.kind();
    if spec.schedule.by_contact() && !waits_at_the_start(kind) {
        let message =
            format!("a campaign of the kind {} has no local time: all of its contacts begin together", kind.name());
        let fix = "set a zone for all, such as \"Europe/Paris\"; a flow can have a delay with zone = \"contact\"";
        found.push(Problem::error("no_local_time", "schedule.zone", message, fix));
    }
    for (at, cell) in spec.cells.iter().enumerate().filter(|(_, cell)| cell.schedule != ScheduleFields::default()) {
        let path = format!("cells.{at}.schedule");
        let fields = &cell.schedule;
        let other = [
            ("dates", !fields.dates.is_empty()),
            ("every", fields.every.is_some()),
            ("until", fields.until.is_some()),
            ("default_zone", fields.default_zone.is_some()),
            ("too_late", fields.too_late.is_some()),
        ];
        let other: BTreeSet<&'static str> = other.into_iter().filter_map(|(name, set)| set.then_some(name)).collect();
        found.extend(other.iter().map(|field| problem(path.clone(), &ScheduleError::NotOfCells { field })));
        let date = ScheduleFields { at: fields.at.clone(), zone: fields.zone.clone(), ..ScheduleFields::default() };
        let wrong = date.resolve_from(ahead).err().unwrap_or_default();
        found.extend(wrong.iter().map(|error| problem(path.clone(), error)));
        told_of_clocks(&path, &date, found);
        if spec.schedule.every.is_some() || !spec.schedule.dates.is_empty() {
            let message = "a date of a cell is over at the second launch, and the campaign has several";
            found.push(Problem::error("cell_schedule", path, message, "remove the cell's schedule, or launch once"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaigns::schedule::TimeText;

    #[test]
    fn hours_at_a_change_of_clocks_are_told() {
        let told = |text: &str, zone: &str| clocks_change(text.parse().expect("a time"), zone).map(|(code, _)| code);
        for (text, zone, expected) in [
            ("2027-03-28T02:30", "Europe/Paris", Some("time_skipped")),
            ("2027-03-28T03:00", "Europe/Paris", None),
            ("2027-10-31T02:30", "Europe/Paris", Some("time_twice")),
            ("2027-03-28T02:30", "UTC", None),
            ("2027-03-28T02:30", "contact", None),
        ] {
            assert_eq!(told(text, zone), expected, "{text} in {zone}");
        }
        let (_, message) = clocks_change("2027-03-28T02:30".parse().expect("a time"), "Europe/Paris").expect("skipped");
        assert!(message.contains("2027-03-28T03:30"), "says when it is: {message}");
        let schedule = ScheduleFields {
            zone: Some("Europe/Paris".to_owned()),
            dates: ["2027-03-28T02:30", "2027-10-31T02:30", "2027-11-01T02:30"].map(|t| TimeText(t.to_owned())).into(),
            ..ScheduleFields::default()
        };
        let mut found = Vec::new();
        told_of_clocks("schedule", &schedule, &mut found);
        let codes: Vec<_> = found.iter().map(|problem| (problem.code, problem.blocks())).collect();
        assert_eq!(codes, [("time_skipped", false), ("time_twice", false)], "{found:?}");
    }
}
