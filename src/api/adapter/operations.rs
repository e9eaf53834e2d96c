//! Connectors, health and figures through the port.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::actors::line::Line;
use crate::api::adapter::{Adapter, health, reports, series};
use crate::api::errors::Code;
use crate::api::port::{ConnectorDomain, ConnectorTest, ConnectorView, Health, OperationsPort, PortError, PortResult};
use crate::campaigns::parse;
use crate::channels::circuit::{Circuit, CircuitState, OpenReason};
use crate::channels::limits_table::{ClassId, Scope};
use crate::clock::Timestamp;
use crate::engine::lines::Wired;
use crate::engine::runs::state_of;
use crate::ledger::tracking::EventClass;
use crate::ledger::{Run, State};
use crate::limits::{METRIC_CAMPAIGNS_AFTER, METRIC_CAMPAIGNS_MAX};
use crate::metrics::{CampaignSeries, Live};

fn circuit(wired: &Wired) -> (&'static str, Option<&'static str>) {
    let because = |reason| match reason {
        OpenReason::Unreachable => "unreachable",
        OpenReason::SenderRefused => "the provider refuses the sender",
    };
    match wired.line.circuit.lock().state() {
        CircuitState::Closed => ("closed", None),
        CircuitState::Open { reason, .. } => ("open", Some(because(reason))),
        CircuitState::HalfOpen { reason } => ("half_open", Some(because(reason))),
    }
}

fn view(name: &str, wired: &Wired) -> ConnectorView {
    let line = &wired.line;
    let (state, reason) = circuit(wired);
    let problem = line.figures.last_problem.lock().clone();
    let reason = reason.map(|r| if problem.is_empty() { r.to_owned() } else { format!("{r}: {problem}") });
    let (credits_used, waiting) = {
        let fair = line.fair.lock();
        (fair.credits_out(), fair.waiting())
    };
    ConnectorView {
        name: name.to_owned(),
        channel: wired.channel.name().to_owned(),
        kind: wired.settings.kind().to_owned(),
        target: wired.settings.target(),
        connections: u32::try_from(line.figures.open_connections.load(Ordering::Relaxed)).unwrap_or(u32::MAX),
        connections_max: u32::try_from(line.connections_max).unwrap_or(u32::MAX),
        messages_per_second: line.limits.with(|limits| limits.per_second(Scope::Connector)),
        circuit: state.to_owned(),
        circuit_reason: reason,
        credits_used,
        credits_max: line.credits,
        waiting,
        claimed_ahead: line.claimed_ahead(None),
        domains: domains(line),
    }
}

fn domains(line: &Line) -> Vec<ConnectorDomain> {
    let classes = line.domains.iter().zip((1..).map(ClassId));
    let domain = |(name, class): (&String, ClassId)| ConnectorDomain {
        domain: name.clone(),
        messages_per_second: line.limits.with(|limits| limits.per_second(Scope::Class(class))),
        waiting: line.fair.lock().waiting_in(class),
        claimed_ahead: line.claimed_ahead(Some(class)),
    };
    classes.map(domain).collect()
}

impl OperationsPort for Adapter {
    fn connectors(&self) -> PortResult<Vec<ConnectorView>> {
        Ok(self.engine.lines.iter().map(|(name, wired)| view(name, wired)).collect())
    }

    fn test_connector(&self, name: &str) -> PortResult<ConnectorTest> {
        let missing = || PortError::new(Code::ConnectorNotFound, format!("there is no connector {name:?}"));
        let line = std::sync::Arc::clone(&self.engine.lines.get(name).ok_or_else(missing)?.line);
        let began = Instant::now();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| PortError::new(Code::Internal, error.to_string()))?;
        let tested = runtime.block_on(line.connector.test());
        let took_ms = began.elapsed().as_secs_f64() * 1_000.0;
        let test = |ok, steps, error| ConnectorTest { name: name.to_owned(), ok, took_ms, steps, error };
        Ok(match tested {
            Ok(report) => {
                // Somebody has looked, and it works: what was closed for a fault is open again.
                line.circuit.lock().reset();
                line.class_circuits.lock().iter_mut().for_each(Circuit::reset);
                line.nudge();
                test(true, report.steps(), None)
            }
            Err(error) => test(false, Vec::new(), Some(error.to_string())),
        })
    }

    fn health(&self) -> Health {
        health::health(&self.engine)
    }

    fn live_figures(&self) -> Live {
        self.engine.figures()
    }

    fn campaign_series(&self) -> Vec<CampaignSeries> {
        let state = self.engine.book.read();
        let now = self.engine.book.now();
        let shown = |run: &&Run| run.state.is_live() || run.ended_at.is_some_and(|at| recent(at, now));
        let mut campaigns = BTreeSet::new();
        let latest = state.runs.values().rev().filter(|run| campaigns.insert(run.campaign));
        // The newest of those that are not over, then the newest of the others.
        let (mut runs, over): (Vec<&Run>, Vec<&Run>) = latest.filter(shown).partition(|run| run.state.is_live());
        runs.extend(over);
        runs.truncate(METRIC_CAMPAIGNS_MAX);
        runs.into_iter().map(|run| self.series(&state, run)).collect()
    }
}

fn recent(at: Timestamp, now: Timestamp) -> bool {
    now.saturating_since(at) < METRIC_CAMPAIGNS_AFTER
}

impl Adapter {
    fn series(&self, state: &State, run: &Run) -> CampaignSeries {
        let counts = run.counts();
        let progress = reports::progress_of(&self.engine, run);
        let spec = state.campaigns.get(&run.campaign).and_then(|c| c.newest());
        let spec = spec.and_then(|(_, text)| parse::from_stored(text).ok()).unwrap_or_default();
        let until = spec.send_until.filter(|_| run.state.is_live());
        let (name, now) = (spec.name.unwrap_or_default(), self.engine.book.now());
        let mut rejected = BTreeMap::new();
        let mut skipped = BTreeMap::new();
        for delivery in &run.deliveries {
            for (class, rows) in &delivery.rejected {
                *rejected.entry(class.name()).or_default() += rows.len();
            }
            for (reason, rows) in &delivery.skipped {
                *skipped.entry(reason.name()).or_default() += rows.len();
            }
        }
        let mut events = BTreeMap::new();
        let (mut opened, mut clicked, mut unsubscribed) = (0, 0, 0);
        for message in run.messages.values() {
            for class in EventClass::ALL {
                *events.entry(("open", class.name())).or_default() += message.opened.total(class);
                *events.entry(("click", class.name())).or_default() += message.clicked.total(class);
            }
            opened += message.opened.unique(EventClass::Human);
            clicked += message.clicked.unique(EventClass::Human);
            unsubscribed += message.unsubscribed.len();
        }
        CampaignSeries {
            id: run.campaign.0,
            name,
            state: state_of(run).name(),
            pending: counts.pending,
            claimed: counts.claimed,
            deferred: counts.deferred,
            accepted: counts.accepted,
            unknown: counts.unknown,
            rejected,
            skipped,
            audience: counts.audience,
            rate_per_second: progress.rate,
            eta_seconds: progress.eta.map(|eta| eta.as_secs_f64()),
            window_left_seconds: until.map(|until| (until.0 - now.0) as f64 / 1_000.0),
            stall: progress.stall.or(progress.slowed_by).map(|reason| reason.name()),
            opened_unique: opened,
            clicked_unique: clicked,
            unsubscribed,
            events,
            messages: series::messages(run),
            tests: series::tests(run, now),
            nodes: series::nodes(run),
            waiting: series::waiting(run),
        }
    }
}
