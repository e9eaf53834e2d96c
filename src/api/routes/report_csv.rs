//! A report as a table: one measure a line, so that a spreadsheet or a program can pivot it. Owns no state.

use crate::api::port::{
    ComparedReport, Comparison, DeliveryReport, EventCounts, GridCounts, GridReport, Ledger, MessageReport, NodeReport,
    Report, Share, StepView, TestReport, TimeBucket, TimelineReport,
};

/// `section` is run, ledger, message, link, grid, cell, node, end, step or test; `item` is the number of the message (and link), the
/// node, the dimension of a grid (`name` is its value: a row or a column); a ledger without a delivery is the run's.
pub const HEADER: [&str; 6] = ["section", "delivery", "item", "name", "measure", "value"];

pub const TIMELINE_HEADER: [&str; 11] = [
    "start",
    "accepted",
    "rejected",
    "opened",
    "clicked",
    "unsubscribed",
    "bounced",
    "complained",
    "converted",
    "opens",
    "clicks",
];

/// Lines of one thing that is reported on.
struct Lines<'a> {
    rows: &'a mut Vec<Vec<String>>,
    section: &'static str,
    delivery: String,
    item: String,
    name: String,
}

impl Lines<'_> {
    fn add(&mut self, measure: impl Into<String>, value: impl ToString) {
        let (delivery, item, name) = (self.delivery.clone(), self.item.clone(), self.name.clone());
        self.rows.push(vec![self.section.to_owned(), delivery, item, name, measure.into(), value.to_string()]);
    }

    fn add_some(&mut self, measure: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.add(measure, value);
        }
    }

    fn events(&mut self, what: &str, counts: &EventCounts) {
        let EventCounts { unique, total, suspect, machine } = counts;
        for (of, count) in [("unique", unique), ("total", total), ("suspect", suspect), ("machine", machine)] {
            self.add(format!("{what}_{of}"), count);
        }
    }
}

/// Every figure of a report.
pub fn rows(report: &Report) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut run = lines(&mut rows, "run", "", report.run, &report.name);
    run.add("state", &report.state);
    run.add("started_at", report.started_at);
    run.add_some("finished_at", report.finished_at);
    run.add_some("details_removed_at", report.details_removed_at);
    ledger(&mut rows, "", &report.ledger);
    for delivery in &report.deliveries {
        of_delivery(&mut rows, delivery);
    }
    if let Some(grid) = &report.grid {
        of_grid(&mut rows, grid);
    }
    report.nodes.iter().for_each(|node| of_node(&mut rows, node));
    report.steps.iter().for_each(|step| of_step(&mut rows, step));
    report.tests.iter().for_each(|test| of_test(&mut rows, test));
    rows
}

fn lines<'a>(
    rows: &'a mut Vec<Vec<String>>,
    section: &'static str,
    delivery: &str,
    item: impl ToString,
    name: &str,
) -> Lines<'a> {
    Lines { rows, section, delivery: delivery.to_owned(), item: item.to_string(), name: name.to_owned() }
}

fn ledger(rows: &mut Vec<Vec<String>>, delivery: &str, ledger: &Ledger) {
    let mut lines = lines(rows, "ledger", delivery, "", "");
    for (set, count) in [
        ("audience", ledger.audience),
        ("pending", ledger.pending),
        ("claimed", ledger.claimed),
        ("deferred", ledger.deferred),
        ("accepted", ledger.accepted),
        ("rejected", ledger.rejected),
        ("skipped", ledger.skipped),
        ("unknown", ledger.unknown),
    ] {
        lines.add(set, count);
    }
    for (class, count) in &ledger.rejected_by {
        lines.add(format!("rejected:{class}"), count);
    }
    for (reason, count) in &ledger.skipped_by {
        lines.add(format!("skipped:{reason}"), count);
    }
}

fn of_delivery(rows: &mut Vec<Vec<String>>, delivery: &DeliveryReport) {
    let index = delivery.index.to_string();
    ledger(rows, &index, &delivery.ledger);
    for message in &delivery.messages {
        of_message(rows, &index, message);
    }
}

fn of_message(rows: &mut Vec<Vec<String>>, delivery: &str, message: &MessageReport) {
    let mut each = lines(rows, "message", delivery, message.message, &message.name);
    each.add("contacts", message.contacts);
    each.add("accepted", message.accepted);
    each.events("opened", &message.opened);
    each.events("clicked", &message.clicked);
    each.add("unsubscribed", message.unsubscribed);
    each.events("converted", &message.feedback.converted);
    each.add("complained_unique", message.feedback.complained.unique);
    each.add("bounced_hard_unique", message.feedback.bounced_hard.unique);
    each.add("bounced_soft_unique", message.feedback.bounced_soft.unique);
    each.add("bounced_policy_unique", message.feedback.bounced_policy.unique);
    for link in &message.links {
        let item = format!("{}:{}", message.message, link.index);
        lines(rows, "link", delivery, item, &link.url).events("clicked", &link.counts);
    }
}

fn of_grid(rows: &mut Vec<Vec<String>>, grid: &GridReport) {
    for total in &grid.totals {
        grid_counts(lines(rows, "grid", "", &total.dimension, &total.value), &total.counts);
    }
    for cell in &grid.cells {
        let place: Vec<String> = cell.place.iter().map(|(dimension, value)| format!("{dimension}={value}")).collect();
        grid_counts(lines(rows, "cell", "", cell.message, &place.join(" ")), &cell.counts);
    }
}

fn grid_counts(mut lines: Lines<'_>, counts: &GridCounts) {
    let GridCounts { contacts, accepted, opened, clicked, unsubscribed } = counts;
    lines.add("contacts", contacts);
    lines.add("accepted", accepted);
    lines.add("opened", opened);
    lines.add("clicked", clicked);
    lines.add("unsubscribed", unsubscribed);
}

fn of_node(rows: &mut Vec<Vec<String>>, node: &NodeReport) {
    let section = if node.end.is_some() { "end" } else { "node" };
    let mut lines = lines(rows, section, "", &node.id, &node.name);
    lines.add("kind", node.end.as_ref().unwrap_or(&node.kind));
    lines.add("contacts", node.contacts);
    lines.add("arrived", node.arrived);
    lines.add_some("rate", node.rate);
    for (exit, count) in &node.left {
        lines.add(format!("left:{exit}"), count);
    }
}

fn of_step(rows: &mut Vec<Vec<String>>, step: &StepView) {
    let mut lines = lines(rows, "step", "", &step.id, "");
    lines.add("kind", &step.kind);
    lines.add("lock", &step.lock);
    lines.add_some("planned", step.planned);
    lines.add_some("effective", step.effective);
    lines.add_some("started", step.started);
    lines.add("waiting", step.waiting);
    lines.add("reached", step.reached);
    lines.add("held", step.held);
    lines.add("skipped", step.skipped);
}

fn of_test(rows: &mut Vec<Vec<String>>, test: &TestReport) {
    for arm in &test.arms {
        let mut lines = lines(rows, "test", "", &test.node, &arm.name);
        for (measure, count) in [
            ("contacts", arm.contacts),
            ("accepted", arm.accepted),
            ("matured", arm.matured),
            ("bounced", arm.bounced),
            ("delivered", arm.delivered),
            ("events", arm.events),
            ("machine", arm.machine),
            ("suspect", arm.suspect),
            ("unsubscribed", arm.unsubscribed),
            ("complained", arm.complained),
            ("rejected", arm.rejected),
            ("skipped", arm.skipped),
            ("unknown", arm.unknown),
        ] {
            lines.add(measure, count);
        }
        lines.add_some("rate", arm.rate);
        lines.add_some("rate_low", arm.rate_interval.map(|[low, _]| low));
        lines.add_some("rate_high", arm.rate_interval.map(|[_, high]| high));
        lines.add_some("cannot_win", Some(arm.cannot_win.join(" ")).filter(|rails| !rails.is_empty()));
    }
    let mut lines = lines(rows, "test", "", &test.node, "");
    lines.add("winner_by", &test.winner_by);
    lines.add_some("verdict", test.verdict.as_ref());
    if let Some(effect) = &test.effect {
        lines.add("leader", &effect.leader);
        lines.add("difference", effect.difference);
        lines.add("difference_low", effect.interval[0]);
        lines.add("difference_high", effect.interval[1]);
        lines.add("p", effect.p);
        lines.add("p_holm", effect.p_holm);
    }
    lines.add_some("waits_for_person", test.waits_for_person.as_ref());
    if let Some(decision) = &test.decision {
        lines.add("winner", decision.winner.as_deref().unwrap_or("nobody"));
        lines.add("basis", &decision.basis);
        lines.add("reason", &decision.reason);
    }
}

/// A line for each part of time.
pub fn timeline_rows(report: &TimelineReport) -> Vec<Vec<String>> {
    let row = |bucket: &TimeBucket| {
        let TimeBucket {
            start,
            accepted,
            rejected,
            opened,
            clicked,
            unsubscribed,
            bounced,
            complained,
            converted,
            opens,
            clicks,
        } = bucket;
        let counts = [accepted, rejected, opened, clicked, unsubscribed, bounced, complained, converted, opens, clicks];
        std::iter::once(start.to_string()).chain(counts.map(ToString::to_string)).collect()
    };
    report.buckets.iter().map(row).collect()
}

/// Comparisons as a table: one measure a line, a column each delivery.
pub fn comparison_rows(comparison: &Comparison) -> Vec<Vec<String>> {
    let deliveries = &comparison.deliveries;
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, of: &dyn Fn(&ComparedReport) -> String| {
        rows.push(std::iter::once(name.to_owned()).chain(deliveries.iter().map(of)).collect());
    };
    row("campaign", &|d| d.name.clone());
    row("run", &|d| d.run.to_string());
    row("delivery", &|d| d.delivery.map_or_else(|| "all".to_owned(), |index| index.to_string()));
    row("state", &|d| d.state.clone());
    row("started_at", &|d| d.started_at.to_string());
    row("audience", &|d| d.audience.to_string());
    row("accepted", &|d| d.accepted.to_string());
    row("rejected", &|d| d.rejected.to_string());
    row("skipped", &|d| d.skipped.to_string());
    type Of = fn(&ComparedReport) -> Share;
    let shares: [(&str, Of); 6] = [
        ("opened", |d| d.opened),
        ("clicked", |d| d.clicked),
        ("converted", |d| d.converted),
        ("unsubscribed", |d| d.unsubscribed),
        ("complained", |d| d.complained),
        ("bounced", |d| d.bounced),
    ];
    for (name, share) in shares {
        row(name, &|d| share(d).contacts.to_string());
        row(&format!("{name}_rate"), &|d| share(d).rate.map(|rate| rate.to_string()).unwrap_or_default());
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::port::{ArmReport, EffectReport, GridCell, GridTotal};

    #[test]
    fn every_line_has_the_columns_of_the_header() {
        let counts = EventCounts { unique: 3, total: 5, suspect: 1, machine: 2 };
        let message = MessageReport { name: "B".into(), accepted: 9, clicked: counts, ..MessageReport::default() };
        let cannot_win = vec!["complaints".to_owned()];
        let arm = ArmReport { name: "B".into(), rate: Some(0.25), cannot_win, ..ArmReport::default() };
        let effect = EffectReport { leader: "B".into(), p: 0.01, ..EffectReport::default() };
        let test = TestReport { node: "n1".into(), arms: vec![arm], effect: Some(effect), ..TestReport::default() };
        let end = NodeReport { id: "n2".into(), end: Some("success".into()), rate: Some(0.5), ..NodeReport::default() };
        let mut found = Vec::new();
        of_delivery(&mut found, &DeliveryReport { messages: vec![message], ..DeliveryReport::default() });
        of_node(&mut found, &end);
        of_test(&mut found, &test);
        of_step(&mut found, &StepView { id: "hello".into(), reached: 7, ..StepView::default() });
        let counts = GridCounts { contacts: 7, clicked: 2, ..GridCounts::default() };
        let total = GridTotal { dimension: "country".into(), value: "FR".into(), counts };
        let place = [("age".to_owned(), "old".to_owned()), ("country".to_owned(), "FR".to_owned())].into();
        let cell = GridCell { place, message: 3, counts: total.counts.clone() };
        of_grid(&mut found, &GridReport { cells: vec![cell], totals: vec![total], ..GridReport::default() });
        assert!(found.iter().all(|row| row.len() == HEADER.len()), "{found:?}");
        let has = |row: [&str; 6]| assert!(found.iter().any(|found| *found == row), "{row:?} of {found:?}");
        has(["message", "0", "0", "B", "clicked_machine", "2"]);
        has(["grid", "", "country", "FR", "contacts", "7"]);
        has(["cell", "", "3", "age=old country=FR", "clicked", "2"]);
        has(["end", "", "n2", "", "rate", "0.5"]);
        has(["test", "", "n1", "B", "rate", "0.25"]);
        has(["test", "", "n1", "", "p", "0.01"]);
        has(["test", "", "n1", "B", "cannot_win", "complaints"]);
        has(["step", "", "hello", "", "reached", "7"]);
    }

    #[test]
    fn time_has_a_column_for_each_count() {
        let buckets = vec![TimeBucket { clicked: 4, ..TimeBucket::default() }];
        let rows = timeline_rows(&TimelineReport { buckets, ..TimelineReport::default() });
        assert_eq!((rows.len(), rows[0].len()), (1, TIMELINE_HEADER.len()), "{rows:?}");
        assert_eq!((TIMELINE_HEADER[4], rows[0][4].as_str()), ("clicked", "4"), "in its place");
    }
}
