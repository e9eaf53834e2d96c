//! A report on a terminal: the machine, the tables, the bars with their verdicts.
//!
//! Owns no state. Invariant: a busy machine, an unfinished run and a missed bar cannot be overlooked.

use super::{Outcome, Report};
use crate::findings::Figure;
use crate::scenario::bars::Judgement;
use crate::text::{cells, grouped, short, table};

/// The whole report.
pub fn whole(report: &Report) -> String {
    let mut text = heading(report);
    for table_of in &report.found.tables {
        text.push_str(&format!("\n{}\n{}", table_of.title, table(&table_of.rows)));
    }
    if report.found.tables.is_empty() {
        text.push_str(&format!("\n{}", figures(&report.found.figures)));
    }
    for latency in &report.found.latencies {
        let each: Vec<String> =
            latency.percentiles.iter().map(|(p, s)| format!("p{} {:.2} ms", short(*p), s * 1e3)).collect();
        text.push_str(&format!("\n{} ({} times): {}\n", latency.name, grouped(latency.count as f64), each.join(", ")));
    }
    for remark in &report.found.remarks {
        text.push_str(&format!("\n{remark}"));
    }
    text.push_str(&format!("\n\n{}", bars(&report.bars)));
    match &report.outcome {
        Outcome::Complete => {}
        Outcome::OutOfTime { bound_seconds } => text.push_str(&format!(
            "\nOUT OF TIME after {bound_seconds} s: what stands above was found until then (--bound-seconds gives more)\n"
        )),
        Outcome::Interrupted => text.push_str("\nINTERRUPTED: what stands above was found until then\n"),
        Outcome::Failed { error } => text.push_str(&format!("\nFAILED: {error}\n")),
    }
    text
}

fn heading(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "{}: {}\n{} · {} cores · {:.0} GiB · Linux {} · revision {} · {:.0} s\n",
        report.asked.scenario,
        report.asked.about,
        machine.cpu,
        machine.cores,
        machine.memory_bytes as f64 / f64::from(1 << 30),
        machine.kernel,
        report.revision.as_deref().unwrap_or("unknown"),
        report.seconds
    );
    text.push_str(&busy(report).map(|busy| format!("NOTE: {busy}\n")).unwrap_or_default());
    text
}

/// The warning of a machine that did other things besides.
pub fn busy(report: &Report) -> Option<String> {
    let seen = report.found.disturbance.filter(|_| report.disturbed)?;
    Some(format!(
        "the machine was busy with something else: others took {:.2} cores, the hypervisor {:.2}. Compare ratios only.",
        seen.foreign_cores, seen.stolen_cores
    ))
}

/// Every figure with its spread.
pub fn figures(figures: &[Figure]) -> String {
    let mut rows = vec![cells(["figure", "median", "min–max", "unit", "samples"])];
    rows.extend(figures.iter().map(|figure| {
        let spread = figure.spread;
        let range = if figure.samples.len() > 1 { between(spread.min, spread.max) } else { String::new() };
        cells([&figure.name, &short(spread.median), &range, &figure.unit, &figure.samples.len().to_string()])
    }));
    table(&rows)
}

fn between(min: f64, max: f64) -> String {
    format!("{}–{}", short(min), short(max))
}

/// Bars, what was measured, and the verdicts.
pub fn bars(bars: &[Judgement]) -> String {
    let mut rows = vec![cells(["bar", "limit", "measured", "min–max", "verdict"])];
    rows.extend(bars.iter().map(|bar| {
        let unit = if bar.unit == "×" { String::new() } else { format!(" {}", bar.unit) };
        let measured = bar.measured.map(short).unwrap_or_else(|| "–".to_owned());
        let range = bar.spread.filter(|s| s.min < s.max).map(|s| between(s.min, s.max)).unwrap_or_default();
        cells([&bar.name, &format!("{}{unit}", bar.bar), &measured, &range, bar.verdict()])
    }));
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn verdicts_and_warnings_stand_in_the_text() {
        let text = whole(&sample(&[900.0, 950.0], true));
        assert!(text.contains("busy with something else"), "{text}");
        assert!(text.contains("rate   ≥ 1000 messages/s       925  900–950   MISSED"), "{text}");
        assert!(text.contains("twice"), "{text}");
        let mut late = sample(&[2_000.0], false);
        late.outcome = Outcome::OutOfTime { bound_seconds: 60 };
        let text = whole(&late);
        assert!(text.contains("OUT OF TIME after 60 s") && !text.contains("busy"), "{text}");
    }
}
