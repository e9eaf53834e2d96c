//! A dry run through the port.

use crate::api::adapter::Adapter;
use crate::api::errors::Code;
use crate::api::port::{
    ArrivalView, AssumedRates, CountView, DryRunNode, DryRunRequest, DryRunView, PortError, PortResult, Ref,
};
use crate::campaigns;
use crate::clock::Timestamp;
use crate::engine::dry_run::{DryRunError, local_launch};
use crate::flow::dry_run::{Assumed, Count, DryRun, LocalLaunch, Rates, Stopped};
use crate::flow::nodes::Delay;
use crate::flow::{Graph, NodeKind, describe};
use crate::limits;

fn millionths(name: &str, share: Option<f64>) -> PortResult<Option<u32>> {
    let Some(share) = share else { return Ok(None) };
    if !(0.0..=1.0).contains(&share) {
        let message = format!("rates.{name} is {share}, and must be from 0 to 1");
        return Err(PortError::new(Code::InvalidParameter, message));
    }
    Ok(Some((share * f64::from(limits::SPLIT_WEIGHT_MAX)).round() as u32))
}

fn rates(asked: &AssumedRates) -> PortResult<Rates> {
    Ok(Rates {
        delivered: millionths("delivered", asked.delivered)?,
        opened: millionths("opened", asked.opened)?,
        clicked: millionths("clicked", asked.clicked)?,
        unsubscribed: millionths("unsubscribed", asked.unsubscribed)?,
        complained: millionths("complained", asked.complained)?,
    })
}

fn view(count: Count) -> CountView {
    CountView { at_least: count.at_least, at_most: count.at_most }
}

fn nodes(graph: &Graph, found: &DryRun) -> Vec<DryRunNode> {
    let each = graph.in_reading_order().into_iter().map(|node| {
        let forecast = found.nodes.get(&node.id).cloned().unwrap_or_default();
        let arrivals = forecast.arrivals.iter();
        DryRunNode {
            id: graph.key(node.id),
            name: node.name.clone(),
            kind: node.kind.name().to_owned(),
            does: describe(graph, node),
            contacts: view(forecast.contacts),
            messages: matches!(node.kind, NodeKind::Send { .. }).then(|| view(forecast.messages)),
            arrivals: arrivals
                .map(|(at, count)| ArrivalView { at: Timestamp(*at).into(), contacts: view(*count) })
                .collect(),
        }
    });
    each.collect()
}

fn assumptions(asked: &AssumedRates, per_second: Option<u32>) -> Vec<String> {
    let pace = match per_second {
        Some(rate) => format!("{rate} messages are sent in a second"),
        None => "sending takes no time".to_owned(),
    };
    let mut words = vec![
        "contacts, lists and consents are those of now".to_owned(),
        "everybody who may be sent to is accepted".to_owned(),
        pace,
        "who opens or clicks does so at once".to_owned(),
    ];
    let all = [
        ("delivered", asked.delivered),
        ("opened", asked.opened),
        ("clicked", asked.clicked),
        ("unsubscribed", asked.unsubscribed),
        ("complained", asked.complained),
    ];
    for (name, share) in all {
        words.push(match share {
            Some(share) => format!("{:.2} % of those who are asked have {name}", share * 100.0),
            None => format!("who has {name} is unknown: counted on both ways"),
        });
    }
    words
}

/// What a flow that waits for a local time takes for granted besides.
fn clocks(graph: &Graph, launch: Option<&LocalLaunch>) -> Option<String> {
    let by_clocks = graph.nodes().any(|node| matches!(node.kind, NodeKind::Delay(Delay::Launch)));
    by_clocks.then(|| match launch {
        Some(launch) => format!(
            "it is launched for {} by each contact's own clocks, {} for those without a zone",
            launch.local,
            launch.default_zone.iana_name().unwrap_or("UTC")
        ),
        None => "its schedule has no launch ahead: started by hand, nobody waits for the own clocks".to_owned(),
    })
}

impl Adapter {
    pub(super) fn forecast(&self, campaign: &Ref, request: &DryRunRequest) -> PortResult<DryRunView> {
        let id = self.campaign_id(campaign)?;
        let rates = rates(&request.rates)?;
        let spec = self.spec(id)?;
        let problems = self.engine.problems(&spec, Some(id));
        let blocking: Vec<campaigns::Problem> = problems.into_iter().filter(campaigns::Problem::blocks).collect();
        if !blocking.is_empty() {
            return Err(super::errors::incomplete(&blocking));
        }
        let (_, compiled) = self.engine.compiled(id, None)?;
        let at = request.at.map_or_else(|| self.engine.book.now(), |at| at.0);
        // A launch by its schedule was published before; else a person starts it then.
        let by_hand = !spec.schedule.is_planned();
        let compiled = if by_hand { self.engine.dated_parts(compiled, at)? } else { compiled };
        let per_second = compiled.limits.messages_per_second;
        let assumed = Assumed { rates, per_second, launch: local_launch(&spec.schedule, at) };
        let mut assumptions = assumptions(&request.rates, per_second);
        assumptions.extend(clocks(&compiled.graph, assumed.launch.as_ref()));
        let (entered, found) = self.engine.dry_run(&compiled, &assumed, at).map_err(|error| match error {
            DryRunError::Engine(error) => PortError::from(*error),
            DryRunError::Split(error) => PortError::new(Code::Internal, format!("a split can't be made: {error}")),
        })?;
        assumptions.extend(found.held.iter().map(|gate| {
            let step = compiled.graph.node(*gate).map_or("", |node| node.name.as_str());
            format!("step {step} could not start within its limit (too_late): a person starts it then")
        }));
        if compiled.hold_out.is_some() {
            assumptions.push("the control group gets nothing; who is in it is drawn at the start".to_owned());
        }
        Ok(DryRunView {
            campaign: id.0,
            at: at.into(),
            entered,
            rates: request.rates,
            assumptions,
            nodes: nodes(&compiled.graph, &found),
            stopped: found.stopped.map(|why| match why {
                Stopped::Moves => format!("after {} moves: a cycle goes on", limits::DRY_RUN_MOVES_MAX),
                Stopped::Days => format!("after {} days", limits::DRY_RUN_DAYS_MAX),
            }),
        })
    }
}
