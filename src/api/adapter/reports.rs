//! Reports of runs: the ledger in numbers, what came back, how fast it goes, and who is in which set.
//!
//! Memory-flat: a report counts bitmaps, a page of contacts reads its own rows only.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde_json::json;

use crate::actors::decide::mode_name;
use crate::api::adapter::{audiences, feedback, flows, grid, history, schedules, sequences, verdicts};
use crate::api::errors::Code;
use crate::api::port::{
    AudienceView, DeliveryReport, EventCounts, Ledger, LinkCounts, MessageReport, Page, PageRequest, PortError,
    PortResult, Report, RunContact, SampleView, StallView,
};
use crate::campaigns::progress::{CircuitOpen, Counts, LimitScope, Progress, ProgressInput, Verdict, progress};
use crate::campaigns::{Compiled, SendPlan, parse};
use crate::channels::circuit::{CircuitState, OpenReason};
use crate::channels::fair::Held;
use crate::channels::limits_table::Scope;
use crate::clock::Clock;
use crate::engine::retention::must_know_details;
use crate::engine::runs::state_of;
use crate::engine::sequences::look;
use crate::engine::{Engine, EngineError};
use crate::flow::NodeKind;
use crate::ids::{AttributeId, Channel, ContactRow, RunId};
use crate::ledger::tracking::{EventClass, EventSets};
use crate::ledger::{Delivery, RejectClass, Run};
use crate::segments::audience::AudienceSummary;
use crate::segments::skip::SkipReason;

pub(super) fn ledger(delivery: &Delivery) -> Ledger {
    let rejected = delivery.rejected.iter().map(|(class, rows)| (class.name().to_owned(), rows.len()));
    let skipped = delivery.skipped.iter().map(|(reason, rows)| (reason.name().to_owned(), rows.len()));
    Ledger::of(delivery.counts(), rejected.collect(), skipped.collect())
}

pub(super) fn run_ledger(run: &Run) -> Ledger {
    let mut sum = Ledger { balanced: true, ..Ledger::default() };
    for delivery in &run.deliveries {
        sum.add(&ledger(delivery));
    }
    sum
}

pub(super) fn events(sets: &EventSets) -> EventCounts {
    EventCounts {
        unique: sets.unique(EventClass::Human),
        total: sets.total(EventClass::Human),
        suspect: sets.total(EventClass::Suspect),
        machine: sets.total(EventClass::Machine),
    }
}

/// Rate, time left and stall reason of a run, as of now.
pub fn progress_of(engine: &Engine, run: &Run) -> Progress {
    let counts = run.counts();
    let now = engine.clock.monotonic();
    let ring = engine.pulses.of(run.id, now);
    let (mut verdict, mut circuit, mut lanes_ready) = (Verdict::Free, None, 0u64);
    for (delivery, route) in run.deliveries.iter().zip(&run.routes) {
        let Some(wired) = engine.lines.get(&route.connector) else { continue };
        let line = &wired.line;
        let held = line.fair.lock().held_of(delivery.id);
        verdict = match held {
            Some(Held::Credits | Held::LimitedCredits) => Verdict::NoCredits,
            Some(Held::Limit(Scope::Campaign(_))) => Verdict::Limited(LimitScope::Campaign),
            Some(Held::Limit(Scope::Class(_))) => Verdict::Limited(LimitScope::Domain),
            Some(Held::Limit(Scope::Connector)) => Verdict::Limited(LimitScope::Connector),
            Some(Held::Ahead | Held::Closed(_)) | None => verdict,
        };
        // Of several connectors, the one whose refusal needs a person is told.
        circuit = match (circuit, open_of(line.circuit.lock().state())) {
            (Some(CircuitOpen::SenderRefused), _) | (_, None) => circuit,
            (_, found) => found,
        };
        lanes_ready += line.figures.open_connections.load(std::sync::atomic::Ordering::Relaxed);
    }
    progress(&ProgressInput {
        state: state_of(run),
        now: engine.book.now(),
        monotonic: now,
        counts: Counts {
            pending: counts.pending,
            held: counts.pending_held,
            claimed: counts.claimed,
            deferred: counts.deferred,
        },
        waiting: on_their_way(run),
        ring: &ring,
        verdict,
        circuit,
        lanes_ready: u32::try_from(lanes_ready).unwrap_or(u32::MAX),
        journal_full: !engine.book.has_space(),
        retries_until: run
            .deliveries
            .iter()
            .filter_map(|d| d.due.keys().last())
            .max()
            .map(|s| crate::clock::Timestamp(s * 1_000)),
    })
}

/// Contacts that are at no end, and in no delivery that still has to do with them: they wait in the flow.
fn on_their_way(run: &Run) -> u64 {
    let waits = |kind: &NodeKind| !matches!(kind, NodeKind::End { .. } | NodeKind::Send { .. });
    let at = run.positions.iter().filter(|(node, _)| run.graph.node(*node).is_some_and(|node| waits(&node.kind)));
    let held = |rows: &RoaringBitmap| run.deliveries.iter().map(|d| rows.intersection_len(&d.held)).sum::<u64>();
    at.map(|(_, rows)| rows.len().saturating_sub(held(rows))).sum()
}

/// A half-open circuit is not used either: one probe is out.
fn open_of(state: CircuitState) -> Option<CircuitOpen> {
    match state {
        CircuitState::Closed => None,
        CircuitState::Open { reason, .. } | CircuitState::HalfOpen { reason } => Some(match reason {
            OpenReason::Unreachable => CircuitOpen::Unreachable,
            OpenReason::SenderRefused => CircuitOpen::SenderRefused,
        }),
    }
}

pub(super) fn report(engine: &Engine, id: RunId) -> PortResult<Report> {
    let (campaign, version) = {
        let state = engine.book.read();
        let run = state.runs.get(&id).ok_or_else(|| no_run(id))?;
        (run.campaign, run.version)
    };
    let schedule = schedules::schedule_view(engine, campaign);
    let compiled = engine.compiled(campaign, Some(version)).map(|(_, compiled)| compiled).ok();
    // Rows of an upload that was removed have no names any more.
    let store = engine.store_of(engine.space_of_run(id)).ok();
    let state = engine.book.read();
    let run = state.runs.get(&id).ok_or_else(|| no_run(id))?;
    let spec =
        state.campaigns.get(&campaign).and_then(|c| c.newest()).and_then(|(_, text)| parse::from_stored(text).ok());
    let spec_in_force = look::spec_of(&state, campaign, run.version);
    let progress = progress_of(engine, run);
    let reader = store.map(|store| store.reader()).transpose().map_err(EngineError::from)?;
    let key_of = |row: u32| Some(reader.as_ref()?.record(ContactRow(row)).ok()??.key().to_owned());
    let samples = run.samples.iter().flat_map(|(class, kept)| {
        let view = |s: &crate::ledger::facts::Sample| SampleView {
            class: class.clone(),
            contact: key_of(s.row),
            text: s.text.clone(),
        };
        kept.iter().map(view).collect::<Vec<_>>()
    });
    let deliveries = deliveries(engine, run, compiled.as_ref());
    Ok(Report {
        campaign: campaign.0,
        name: spec.and_then(|s| s.name).unwrap_or_default(),
        run: id.0,
        state: state_of(run).name().to_owned(),
        mode: run.deliveries.first().map_or("strict", |d| mode_name(d.mode)).to_owned(),
        started_at: run.started_at.into(),
        finished_at: run.ended_at.map(Into::into),
        details_removed_at: run.details_removed_at().map(Into::into),
        ledger: run_ledger(run),
        grid: compiled.as_ref().and_then(|compiled| grid::grid(compiled, &deliveries)),
        deliveries,
        rate_per_second: progress.rate,
        eta_seconds: progress.eta.map(|eta| eta.as_secs_f64()),
        stall: progress.stall.or(progress.slowed_by).map(|reason| StallView {
            reason: reason.name().to_owned(),
            message: stall_message(run, reason.explain()),
            since: None,
        }),
        audience: run.routes.first().and_then(|route| {
            let summary = route.audience.as_ref()?;
            Some(audience_view(route.channel, Some(route.connector.clone()), summary))
        }),
        samples: samples.collect(),
        unsubscribe_latency_ms_max: engine.unsubscribe_latency_max().map(|max| max.as_secs_f64() * 1_000.0),
        entered: flows::entered(run),
        nodes: flows::nodes(run),
        tests: verdicts::tests(run, engine.book.now()),
        steps: sequences::steps_of(run, spec_in_force.as_ref(), engine.book.now()),
        launch: schedules::run_launch(run),
        schedule,
        linked_run: state.links.get(&id).map(|link| link.of.0),
        linked_set: state.links.get(&id).map(|link| link.set.clone()),
        resends: history::resends(&state, id),
        hold_out: history::hold_out(&state, run),
        upload: audiences::of_run(&state, run),
    })
}

fn stall_message(run: &Run, explained: &str) -> String {
    if run.reason.is_empty() { explained.to_owned() } else { format!("{explained} ({})", run.reason) }
}

fn no_run(id: RunId) -> PortError {
    PortError::new(Code::RunNotFound, format!("there is no {id}"))
}

fn deliveries(engine: &Engine, run: &Run, compiled: Option<&Compiled>) -> Vec<DeliveryReport> {
    // Steps of a sequence that send nothing have a delivery that nobody enters.
    let each = run.deliveries.iter().zip(&run.routes).enumerate();
    let is_send = |index: usize| run.graph.sends_of(u16::try_from(index).unwrap_or(u16::MAX)).next().is_some();
    let each = each.filter(|(index, (delivery, _))| is_send(*index) || !delivery.audience.is_empty());
    each.map(|(index, (delivery, route))| {
        let index = u16::try_from(index).unwrap_or(u16::MAX);
        let plan = compiled.and_then(|c| c.delivery(index));
        let sends = plan.map(|plan| plan.sends.clone()).unwrap_or_default();
        let messages = sends.iter().map(|send| message_report(engine, run, delivery, compiled, send));
        DeliveryReport {
            index,
            name: plan.map(|plan| plan.name.clone()).unwrap_or_default(),
            connector: route.connector.clone(),
            channel: route.channel.name().to_owned(),
            ledger: ledger(delivery),
            messages: messages.collect(),
            feedback: feedback::counts(&run.feedback_on(index)),
        }
    })
    .collect()
}

fn message_report(
    engine: &Engine,
    run: &Run,
    delivery: &Delivery,
    compiled: Option<&Compiled>,
    send: &SendPlan,
) -> MessageReport {
    let (id, rows) = (send.message, delivery.assigned(send.node));
    let none = crate::ledger::tracking::MessageTracking::default();
    let tracking = run.messages.get(&id).unwrap_or(&none);
    let message = compiled.and_then(|c| engine.message(c, id).ok());
    let links = message.iter().flat_map(|m| m.links()).map(|link| LinkCounts {
        index: link.index,
        url: link.url.clone(),
        counts: tracking.links.get(&link.index).map(events).unwrap_or_default(),
    });
    MessageReport {
        message: id.0,
        name: compiled.map(|c| name_of(c, id)).unwrap_or_default(),
        contacts: rows.len(),
        accepted: delivery.accepted.intersection_len(rows),
        opened: events(&tracking.opened),
        clicked: events(&tracking.clicked),
        unsubscribed: tracking.unsubscribed.len(),
        links: links.collect(),
        feedback: run.feedback_of(send.node).map(feedback::counts).unwrap_or_default(),
    }
}

fn name_of(compiled: &Compiled, message: crate::ids::MessageId) -> String {
    let own = compiled.message(message).map(|plan| plan.name.as_str()).filter(|name| !name.is_empty());
    own.unwrap_or(&compiled.name).to_owned()
}

pub(super) fn audience_view(channel: Channel, connector: Option<String>, summary: &AudienceSummary) -> AudienceView {
    let skipped = [
        ("erased", summary.erased),
        ("deactivated", summary.deactivated),
        ("no_address", summary.no_address),
        ("unsubscribed", summary.unsubscribed),
        ("not_subscribed", summary.not_subscribed),
        ("suppressed", summary.suppressed.iter().map(|(_, n)| *n).sum()),
        ("missing_attribute", summary.missing_attribute),
        ("duplicate_address", summary.duplicate_address),
        ("frequency_cap", summary.frequency_cap),
        ("recently_contacted", summary.recently_contacted),
        ("hold_out", summary.hold_out),
    ];
    AudienceView {
        channel: channel.name().to_owned(),
        connector,
        matched: summary.matched,
        reachable: summary.reachable,
        skipped: skipped.into_iter().filter(|(_, n)| *n > 0).map(|(name, n)| (name.to_owned(), n)).collect(),
        suppressed: summary.suppressed.iter().cloned().collect::<BTreeMap<_, _>>(),
        lacking_attribute: summary.lacking_attribute.iter().cloned().collect(),
        final_count: summary.final_count,
        took_ms: 0.0,
        cells: Vec::new(),
        without_cell: None,
        overlaps: Vec::new(),
    }
}

/// The rows of a named set, over one delivery.
fn rows_of(run: &Run, delivery: &Delivery, set: &str) -> Option<RoaringBitmap> {
    let union =
        |sets: &mut dyn Iterator<Item = &RoaringBitmap>| sets.fold(RoaringBitmap::new(), |all, rows| all | rows);
    let rows = match set {
        "audience" => delivery.audience.clone(),
        "pending" => delivery.pending.clone(),
        "claimed" => delivery.claimed.clone(),
        "deferred" => delivery.deferred.clone(),
        "accepted" => delivery.accepted.clone(),
        "unknown" => delivery.unknown.clone(),
        "rejected" => union(&mut delivery.rejected.values()),
        "skipped" => union(&mut delivery.skipped.values()),
        "opened" => run.engaged(false) & &delivery.audience,
        "clicked" => run.engaged(true) & &delivery.audience,
        "not_opened" => &delivery.accepted - run.engaged(false),
        "not_clicked" => &delivery.accepted - run.engaged(true),
        "unsubscribed" => run.unsubscribed() & &delivery.audience,
        set if feedback::SETS.contains(&set) => feedback::rows(&run.feedback_on(delivery.id.index), set)?,
        other => {
            let (kind, name) = other.split_once(':')?;
            match kind {
                "rejected" => delivery.rejected.get(&RejectClass::from_name(name)?).cloned().unwrap_or_default(),
                "skipped" => delivery.skipped.get(&SkipReason::from_name(name)?).cloned().unwrap_or_default(),
                _ => return None,
            }
        }
    };
    Some(rows)
}

fn invalid_set(set: &str) -> PortError {
    let mut sets: Vec<String> =
        ["audience", "pending", "claimed", "deferred", "accepted", "rejected", "skipped", "unknown"]
            .into_iter()
            .chain(["opened", "clicked", "not_opened", "not_clicked", "unsubscribed"])
            .chain(feedback::SETS)
            .map(str::to_owned)
            .collect();
    sets.extend(RejectClass::ALL.iter().map(|class| format!("rejected:{}", class.name())));
    sets.extend(SkipReason::ALL.iter().map(|reason| format!("skipped:{}", reason.name())));
    PortError::new(Code::InvalidSet, format!("there is no set {set:?}")).with(json!({"sets": sets}))
}

/// One page of a set; the position is `delivery:row`.
pub(super) fn contacts(engine: &Engine, id: RunId, set: &str, page: &PageRequest) -> PortResult<Page<RunContact>> {
    if engine.options.aggregate_only && matches!(set, "not_opened" | "not_clicked") {
        let message = format!("{set:?} is not known: this server keeps totals only, and nobody's opens and clicks");
        return Err(PortError::new(Code::InvalidSet, message));
    }
    let after = match &page.after {
        None => None,
        Some(text) => {
            let bad = || PortError::new(Code::InvalidCursor, "the cursor is not one of this list");
            let (delivery, row) = text.split_once(':').ok_or_else(bad)?;
            let number = |text: &str| text.parse::<u32>().map_err(|_| bad());
            Some((number(delivery)?, number(row)?))
        }
    };
    let store = engine.store_of(engine.space_of_run(id)).ok();
    let reader = store.map(|store| store.reader()).transpose().map_err(EngineError::from)?;
    let state = engine.book.read();
    let run = state.runs.get(&id).ok_or_else(|| no_run(id))?;
    must_know_details(run)?;
    let (opened, clicked, unsubscribed) = (run.engaged(false), run.engaged(true), run.unsubscribed());
    let mut items: Vec<RunContact> = Vec::new();
    let mut last = None;
    for (index, delivery) in run.deliveries.iter().enumerate() {
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let rows = rows_of(run, delivery, set).ok_or_else(|| invalid_set(set))?;
        let from = match after {
            Some((d, _)) if d > number => continue,
            Some((d, row)) if d == number => row.saturating_add(1),
            _ => 0,
        };
        for row in rows.range(from..) {
            if items.len() == page.limit {
                return Ok(Page { items, next: last });
            }
            let record = match &reader {
                Some(reader) => reader.record(ContactRow(row)).map_err(EngineError::from)?,
                None => None,
            };
            let (name, reason) = place(delivery, row);
            items.push(RunContact {
                contact: record.map(|r| r.key().to_owned()).unwrap_or_default(),
                address: record.and_then(|r| r.text(AttributeId::EMAIL)).map(str::to_owned),
                delivery: u16::try_from(index).unwrap_or(u16::MAX),
                set: name.to_owned(),
                reason,
                attempts: u32::try_from(delivery.attempts(row)).unwrap_or(u32::MAX),
                opened: opened.contains(row),
                clicked: clicked.contains(row),
                unsubscribed: unsubscribed.contains(row),
            });
            last = Some(format!("{number}:{row}"));
        }
    }
    Ok(Page { items, next: None })
}

fn place(delivery: &Delivery, row: u32) -> (&'static str, Option<String>) {
    let plain = [
        ("pending", &delivery.pending),
        ("claimed", &delivery.claimed),
        ("deferred", &delivery.deferred),
        ("accepted", &delivery.accepted),
        ("unknown", &delivery.unknown),
    ];
    if let Some((name, _)) = plain.into_iter().find(|(_, rows)| rows.contains(row)) {
        return (name, None);
    }
    if let Some((class, _)) = delivery.rejected.iter().find(|(_, rows)| rows.contains(row)) {
        return ("rejected", Some(class.name().to_owned()));
    }
    let skipped = delivery.skipped.iter().find(|(_, rows)| rows.contains(row));
    ("skipped", skipped.map(|(reason, _)| reason.name().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Monotonic;

    #[test]
    fn the_reason_of_an_open_circuit_is_passed_on() {
        let open = |reason| open_of(CircuitState::Open { until: Monotonic(1), reason });
        assert_eq!(open(OpenReason::Unreachable), Some(CircuitOpen::Unreachable), "nobody refused anything");
        assert_eq!(open(OpenReason::SenderRefused), Some(CircuitOpen::SenderRefused), "a refusal");
        let probing = open_of(CircuitState::HalfOpen { reason: OpenReason::Unreachable });
        assert_eq!(probing, Some(CircuitOpen::Unreachable), "a probe is out");
        assert_eq!(open_of(CircuitState::Closed), None, "in use");
    }
}
