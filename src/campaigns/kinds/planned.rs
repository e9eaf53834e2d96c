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
use crate::flow::nodes::delay::zone_named;
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

/// What is wrong with `[schedule]`, and with the schedules of cells.
pub(in crate::campaigns) fn problems(spec: &CampaignSpec, ahead: Ahead, found: &mut Vec<Problem>) {
    let problem =
        |path: String, error: &ScheduleError| Problem::error(error.code(), path, error.to_string(), error.fix());
    if spec.schedule != ScheduleFields::default() {
        let wrong = spec.schedule.resolve_from(ahead).err().unwrap_or_default();
        found.extend(wrong.iter().map(|error| problem("schedule".to_owned(), error)));
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
        if spec.schedule.every.is_some() || !spec.schedule.dates.is_empty() {
            let message = "a date of a cell is over at the second launch, and the campaign has several";
            found.push(Problem::error("cell_schedule", path, message, "remove the cell's schedule, or launch once"));
        }
    }
}
