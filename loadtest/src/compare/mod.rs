//! `loadtest compare`: two reports of one scenario, and which figures changed by more than noise.
//!
//! Owns no state. Invariants: 1. a change is *proven* only against the spread of the repetitions and after the correction
//! for all figures that are compared; 2. figures that depend on the machine have no verdict if the machine was busy or is
//! another one; 3. a promise that was kept and is now broken is a regression, with no statistics about it; 4. where so few
//! repetitions can prove nothing it is said so, and not called noise; 5. samples of different sizes or steps are no repetitions.

pub mod noise;

use std::path::PathBuf;

use anyhow::{bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::findings::{Better, Figure, JudgedBy};
use crate::options::share;
use crate::report::{Outcome, Report};
use crate::text::{cells, say, short, table};

/// Probability below which a change is proven, all figures together.
const ALPHA: f64 = 0.05;
/// Parameters that change nothing that is measured.
const OF_THE_PLACE: [&str; 3] = ["engine", "folder", "quiet_seconds"];

#[derive(Args, Clone, Debug)]
pub struct CompareOptions {
    /// The report before
    pub before: PathBuf,
    /// The report after
    pub after: PathBuf,
    /// End with an error if a figure is proven to be worse
    #[arg(long)]
    pub assert: bool,
    /// A change of the median below this share is none, however sure it is
    #[arg(long, default_value_t = 0.02, value_name = "SHARE", value_parser = share)]
    pub least: f64,
}

/// What became of a figure.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Better,
    Worse,
    /// Within the noise: adjusted probability of what was seen.
    Noise(f64),
    /// Not proven, and it could not have been however far apart: what number of repetitions could.
    TooFew(usize),
    /// Sure, and too small to matter.
    Small,
    /// Why there is no verdict.
    None(&'static str),
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Verdict::Better => write!(f, "better"),
            Verdict::Worse => write!(f, "WORSE"),
            Verdict::Noise(p) => write!(f, "noise (p {})", short(*p)),
            Verdict::TooFew(needed) => write!(f, "not told from noise: take {needed} rounds of each"),
            Verdict::Small => write!(f, "too small to matter"),
            Verdict::None(why) => write!(f, "no verdict: {why}"),
        }
    }
}

/// One figure of both reports.
#[derive(Clone, Debug)]
pub struct Compared {
    pub name: String,
    pub before: Figure,
    pub after: Figure,
    pub verdict: Verdict,
}

/// Prints the comparison.
pub fn run(options: &CompareOptions) -> anyhow::Result<()> {
    let (before, after) = (Report::read(&options.before)?, Report::read(&options.after)?);
    let compared = compare(&before, &after, options.least)?;
    say(&lines(&before, &after, &compared));
    let worse: Vec<&str> =
        compared.iter().filter(|one| one.verdict == Verdict::Worse).map(|one| one.name.as_str()).collect();
    if options.assert && !worse.is_empty() {
        bail!("worse: {}", worse.join(", "));
    }
    Ok(())
}

/// Compares every figure that both have and that has a good direction.
pub fn compare(before: &Report, after: &Report, least: f64) -> anyhow::Result<Vec<Compared>> {
    let (one, other) = (&before.asked.scenario, &after.asked.scenario);
    ensure!(one == other, "one report is of the scenario {one}, and the other of {other}");
    for (report, name) in [(before, "before"), (after, "after")] {
        ensure!(
            report.outcome == Outcome::Complete,
            "the run {name} did not end well: its figures are not of a whole run"
        );
    }
    let figures: Vec<(&Figure, &Figure)> = before
        .found
        .figures
        .iter()
        .filter(|figure| figure.better != Better::Neither)
        .filter_map(|figure| Some((figure, after.figure(&figure.name)?)))
        .collect();
    let excuses: Vec<Option<&'static str>> = figures.iter().map(|(a, b)| excuse(before, after, a, b)).collect();
    let p: Vec<(f64, f64)> = figures.iter().map(|(a, b)| worse_and_better(a, b)).collect();
    // "Something is worse" and "something is better" are two families of as many hypotheses as figures are tested.
    let tested: Vec<usize> = (0..figures.len()).filter(|at| excuses[*at].is_none()).collect();
    let worse = noise::holm(&tested.iter().map(|at| p[*at].0).collect::<Vec<_>>());
    let better = noise::holm(&tested.iter().map(|at| p[*at].1).collect::<Vec<_>>());
    let verdict = |at: usize| {
        let (a, b) = figures[at];
        if broken(before, after, a) {
            return Verdict::Worse;
        }
        if let Some(why) = excuses[at] {
            return Verdict::None(why);
        }
        let place = tested.iter().position(|tested| *tested == at).unwrap_or_default();
        let (worse, better) = (worse[place], better[place]);
        let change = (b.spread.median / a.spread.median.abs().max(1e-12) - 1.0).abs();
        match (worse <= ALPHA, better <= ALPHA) {
            (false, false) if noise::least(a.samples.len(), b.samples.len()) * tested.len() as f64 > ALPHA => {
                Verdict::TooFew(noise::needed(tested.len(), ALPHA))
            }
            (false, false) => Verdict::Noise(worse.min(better)),
            _ if change < least => Verdict::Small,
            (true, _) => Verdict::Worse,
            (false, true) => Verdict::Better,
        }
    };
    let one = |at: usize| {
        let (a, b) = figures[at];
        Compared { name: a.name.clone(), before: a.clone(), after: b.clone(), verdict: verdict(at) }
    };
    Ok((0..figures.len()).map(one).collect())
}

/// Whether the figure's bar was kept before and is missed now, and it is a promise.
fn broken(before: &Report, after: &Report, figure: &Figure) -> bool {
    let kept = |report: &Report| report.bars.iter().find(|bar| bar.name == figure.name).map(|bar| bar.kept);
    figure.judged_by == JudgedBy::Worst && kept(before) == Some(true) && kept(after) == Some(false)
}

/// Why two figures cannot be compared.
fn excuse(before: &Report, after: &Report, a: &Figure, b: &Figure) -> Option<&'static str> {
    let (one, other) = (&before.machine, &after.machine);
    if !differences(before, after).is_empty() {
        return Some("other parameters");
    }
    if a.absolute && (before.disturbed || after.disturbed) {
        return Some("a machine was busy");
    }
    if a.absolute && (&one.cpu, one.cores) != (&other.cpu, other.cores) {
        return Some("another machine");
    }
    if !a.repeats || !b.repeats {
        return Some("a sample for each size or step, and no repetitions");
    }
    (a.samples.len().min(b.samples.len()) < 2).then_some("one sample")
}

/// Probabilities that chance alone made it as much worse, and as much better.
fn worse_and_better(a: &Figure, b: &Figure) -> (f64, f64) {
    let (greater, less) = (noise::greater(&a.samples, &b.samples), noise::greater(&b.samples, &a.samples));
    if a.better == Better::Higher { (less, greater) } else { (greater, less) }
}

/// Parameters and load that differ, as `name: before → after`.
fn differences(before: &Report, after: &Report) -> Vec<String> {
    let parts = |report: &Report| {
        let mut all = report.asked.parameters.as_object().cloned().unwrap_or_default();
        all.retain(|name, _| !OF_THE_PLACE.contains(&name.as_str()));
        all.insert("load".to_owned(), serde_json::to_value(&report.asked.load).unwrap_or_default());
        all.insert("sink".to_owned(), report.asked.sink.clone());
        all.insert("connector".to_owned(), report.asked.connector.clone());
        all
    };
    let (one, other) = (parts(before), parts(after));
    let mut names: Vec<&String> = one.keys().chain(other.keys()).collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .filter(|name| one.get(*name) != other.get(*name))
        .map(|name| {
            let said = |of: &serde_json::Map<String, Value>| of.get(name).map_or("–".to_owned(), Value::to_string);
            format!("{name}: {} → {}", said(&one), said(&other))
        })
        .collect()
}

fn lines(before: &Report, after: &Report, compared: &[Compared]) -> String {
    let revision = |report: &Report| report.revision.clone().unwrap_or_else(|| "unknown".to_owned());
    let mut text = format!(
        "{}: {} ({}) → {} ({})\n",
        before.asked.scenario,
        revision(before),
        before.started,
        revision(after),
        after.started
    );
    let mut notes = differences(before, after);
    for (report, name) in [(before, "before"), (after, "after")] {
        notes.extend(report.disturbed.then(|| format!("the machine was busy with something else {name}")));
    }
    text.extend(notes.iter().map(|note| format!("NOTE: {note}\n")));
    let cell = |figure: &Figure| {
        let spread = figure.spread;
        match figure.samples.len() {
            1 => short(spread.median),
            n => format!("{} ({}–{}, {n})", short(spread.median), short(spread.min), short(spread.max)),
        }
    };
    let mut rows = vec![cells(["figure", "before (min–max, samples)", "after", "change", "verdict"])];
    rows.extend(compared.iter().map(|one| {
        let change = match one.before.spread.median {
            0.0 => String::new(),
            was => format!("{:+.1} %", (one.after.spread.median / was - 1.0) * 100.0),
        };
        cells([&one.name, &cell(&one.before), &cell(&one.after), &change, &one.verdict.to_string()])
    }));
    text.push_str(&format!("\n{}", table(&rows)));
    text.push_str(&format!(
        "\nA change is proven by an exact Mann–Whitney test over the repetitions, corrected for {} figures \
         (Holm), at {ALPHA} for each direction.\n",
        compared.iter().filter(|one| !matches!(one.verdict, Verdict::None(_))).count()
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    fn verdict(before: &Report, after: &Report, name: &str) -> Verdict {
        let compared = compare(before, after, 0.02).unwrap();
        compared.into_iter().find(|one| one.name == name).map(|one| one.verdict).unwrap()
    }

    const BASE: [f64; 5] = [1_000.0, 1_010.0, 1_020.0, 1_030.0, 1_040.0];

    #[test]
    fn what_lies_apart_is_proven_and_what_overlaps_is_noise() {
        let before = sample(&BASE, false);
        let shifted = |by: f64| sample(&BASE.map(|x| x * by), false);
        assert_eq!(verdict(&before, &shifted(0.8), "rate"), Verdict::Worse);
        assert_eq!(verdict(&before, &shifted(1.2), "rate"), Verdict::Better);
        assert!(matches!(verdict(&before, &shifted(0.99), "rate"), Verdict::Noise(_)), "the ranges overlap");
        let close = BASE.map(|x| 1_000.0 + (x - 1_000.0) / 40.0);
        let (one, other) = (sample(&close, false), sample(&close.map(|x| x + 2.0), false));
        assert_eq!(verdict(&one, &other, "rate"), Verdict::Small, "sure, and a fifth of a percent");
    }

    #[test]
    fn too_few_rounds_are_not_called_noise() {
        let (before, after) = (sample(&BASE[..2], false), sample(&[10.0, 11.0], false));
        assert!(matches!(verdict(&before, &after, "rate"), Verdict::TooFew(3..)), "a tenth of the rate, twice");
        assert!(matches!(verdict(&sample(&BASE, false), &sample(&BASE, false), "rate"), Verdict::Noise(_)));
    }

    #[test]
    fn there_is_no_verdict_without_grounds() {
        let before = sample(&BASE, false);
        let busy = sample(&BASE.map(|x| x * 0.5), true);
        assert_eq!(verdict(&before, &busy, "rate"), Verdict::None("a machine was busy"));
        assert!(matches!(verdict(&before, &before, "twice"), Verdict::None(_)), "one sample");
        let mut other = sample(&BASE.map(|x| x * 0.5), false);
        other.asked.parameters["contacts"] = Value::from(6);
        assert_eq!(verdict(&before, &other, "rate"), Verdict::None("other parameters"));
        assert_eq!(differences(&before, &other), ["contacts: 5 → 6"]);
        other.asked.parameters["engine"] = Value::from("elsewhere");
        assert_eq!(differences(&before, &other).len(), 1, "where the engine lies changes nothing");
    }

    #[test]
    fn samples_of_several_sizes_are_no_repetitions() {
        let of_each = |values: &[f64; 5]| {
            let mut report = sample(values, false);
            report.found.figures.iter_mut().for_each(|figure| figure.repeats = false);
            report
        };
        let (before, after) = (of_each(&BASE), of_each(&BASE.map(|x| x * 0.5)));
        assert!(matches!(verdict(&before, &after, "rate"), Verdict::None(why) if why.contains("each size")));
        assert_eq!(verdict(&sample(&BASE, false), &sample(&BASE.map(|x| x * 0.5), false), "rate"), Verdict::Worse);
    }

    #[test]
    fn a_broken_promise_needs_no_statistics() {
        let before = sample(&BASE, true);
        let mut after = sample(&BASE, true);
        if let Some(bar) = after.bars.iter_mut().find(|bar| bar.name == "twice") {
            bar.kept = false;
        }
        assert_eq!(verdict(&before, &after, "twice"), Verdict::Worse);
        let text = lines(&before, &after, &compare(&before, &after, 0.02).unwrap());
        assert!(text.contains("WORSE") && text.contains("busy with something else before"), "{text}");
    }

    #[test]
    fn reports_that_do_not_belong_together_are_refused() {
        let before = sample(&BASE, false);
        let mut other = sample(&BASE, false);
        other.asked.scenario = "another".to_owned();
        assert!(compare(&before, &other, 0.02).is_err());
        let mut cut = sample(&BASE, false);
        cut.outcome = Outcome::OutOfTime { bound_seconds: 1 };
        assert!(compare(&before, &cut, 0.02).is_err(), "half a run");
    }
}
