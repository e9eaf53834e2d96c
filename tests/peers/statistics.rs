//! The statistics of winners against scipy and statsmodels, and the command line against both.
//!
//! Cases are drawn here from a printed seed, extremes among them; Python computes each figure with functions or formulas of its
//! own, and the figures are compared here.

use std::process::Command;

use estafette::flow::winner::plan::Wanted;
use estafette::flow::winner::{
    Proportion, boundaries, fisher, holm, normal, plan, power, proportions, ratio, sequences,
};
use serde_json::{Value as Json, json};

use crate::support::{python, run};

const INSTALL: &str = "python3 -m venv target/venv && target/venv/bin/pip install scipy statsmodels";
const SEED: u64 = 20_261_122;
/// How far figures may be apart; of small chances, and of figures above 1, as a part of the figure.
const AGREEMENT: f64 = 1e-6;
/// Chances below this are compared as they are: both sides are at the end of what a double holds.
const SMALLEST_CHANCE: f64 = 1e-290;

/// Reads a list of cases, prints the list of their figures.
const REFERENCE: &str = r#"
import json, sys, warnings
import numpy as np
from scipy import optimize, stats
from scipy.integrate import simpson
from statsmodels.stats import multitest, proportion

warnings.simplefilter("ignore")

def pair(c):
    (x, n), (y, m), alpha = c["first"], c["second"], c["alpha"]
    z, p = proportion.proportions_ztest([y, x], [m, n])
    wilson = proportion.proportion_confint(y, m, alpha=alpha, method="wilson")
    newcombe = proportion.confint_proportions_2indep(y, m, x, n, method="newcomb", compare="diff", alpha=alpha)
    return {"z": z, "p": p, "wilson": list(wilson), "newcombe": list(newcombe)}

def fisher(c):
    (x, n), (y, m) = c["suspect"], c["other"]
    return {"p": stats.hypergeom.sf(x - 1, n + m, x + y, n)}

def holm(c):
    return {"adjusted": list(multitest.multipletests(c["p"], method="holm")[1])}

def ratio(c):
    observed, shares = np.array(c["observed"], float), np.array(c["shares"])
    result = stats.chisquare(observed, observed.sum() * shares / shares.sum())
    return {"chi_square": result.statistic, "p": result.pvalue}

def size(c):
    p, q, alpha = c["base"], c["base"] + c["lift"], c["alpha"]
    none, own = np.sqrt((p + q) * (1 - (p + q) / 2)), np.sqrt(p * (1 - p) + q * (1 - q))
    za, zb = stats.norm.isf(alpha / 2), stats.norm.isf(1 - c["power"])
    n = ((za * none + zb * own) / (q - p)) ** 2
    return {"contacts": int(np.ceil(n)), "exact": n,
            "power": stats.norm.cdf((abs(q - p) * np.sqrt(c["contacts"]) - za * none) / own)}

def sequence(c):
    (x, n), (y, m), alpha = c["first"], c["second"], c["alpha"]
    p, q, N = x / n, y / m, n + m
    rho = np.sqrt((-2 * np.log(alpha) + np.log(-2 * np.log(alpha) + 1)) / c["tuned_for"])
    variance = N * (p * (1 - p) / n + q * (1 - q) / m)
    half = lambda a: np.sqrt(variance) * np.sqrt(2 * (N * rho**2 + 1) / (N**2 * rho**2) * np.log(np.sqrt(N * rho**2 + 1) / a))
    # the least alpha that leaves out 0, found by search on its logarithm
    outside = lambda log_a: abs(q - p) - half(np.exp(log_a))
    log_p = 0.0 if outside(0.0) < 0 else optimize.brentq(outside, -1e5, 0.0, xtol=1e-12)
    return {"interval": [max(q - p - half(alpha), -1), min(q - p + half(alpha), 1)], "p": float(np.exp(log_p))}

def walk(times, bounds, drift=0.0, points=1601):
    """Chance of leaving the bounds at each look: Simpson's rule on even grids."""
    exits, grid, density = [], None, None
    before = 0.0
    for time, bound in zip(times, bounds):
        step, sd = time - before, np.sqrt(time - before)
        reach = min(bound, 10 * np.sqrt(time) + abs(drift) * time)
        new = np.linspace(-reach, reach, points)
        if grid is None:
            out = stats.norm.sf(bound, drift * step, sd) + stats.norm.cdf(-bound, drift * step, sd)
            density = stats.norm.pdf(new, drift * step, sd)
        else:
            means = grid + drift * step
            out = simpson(density * (stats.norm.sf(bound, means, sd) + stats.norm.cdf(-bound, means, sd)), x=grid)
            kernel = np.exp(-0.5 * ((new[:, None] - means[None, :]) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))
            density = simpson(kernel * density[None, :], x=grid, axis=1)
        exits.append(out)
        grid, before = new, time
    return exits

def classical(c):
    looks, alpha = c["looks"], c["alpha"]
    times = np.arange(1, looks + 1) / looks
    constant = optimize.brentq(lambda b: sum(walk(times, [b] * looks, points=401)) - alpha, 1.0, 6.0, xtol=1e-9)
    return {"boundaries": list(constant * np.sqrt(1 / times))}

def spending(c):
    times, alpha = c["fractions"], c["alpha"]
    bounds, spent = [], 0.0
    for k, time in enumerate(times):
        by_now = 4 * stats.norm.sf(stats.norm.isf(alpha / 4) / np.sqrt(time))
        target, spent = by_now - spent, by_now
        exit_now = lambda z: np.log(walk(times[: k + 1], bounds + [z * np.sqrt(time)], points=801)[-1]) - np.log(target)
        bounds.append(optimize.brentq(exit_now, 0.5, 12.0, xtol=1e-9) * np.sqrt(time))
    return {"boundaries": [b / np.sqrt(t) for b, t in zip(bounds, times)]}

def quantile(c):
    return {"z": stats.norm.isf(c["p"]), "tail": stats.norm.sf(c["x"])}

kinds = {f.__name__: f for f in (pair, fisher, holm, ratio, size, sequence, classical, spending, quantile)}
clean = lambda v: [clean(e) for e in v] if isinstance(v, list) else (None if np.isnan(v) else (v if isinstance(v, int) else float(v)))
cases = json.load(open(sys.argv[1]))
print(json.dumps([{k: clean(v) for k, v in kinds[c["kind"]](c).items()} for c in cases]))
"#;

/// Chance from a seed (splitmix64, Steele, Lea & Flood 2014).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Evenly over orders of magnitude.
    fn magnitude(&mut self, from: f64, to: f64) -> f64 {
        from * (to / from).powf(self.unit())
    }

    fn counts(&mut self) -> (u64, u64) {
        let contacts = self.magnitude(1.0, 5e6) as u64;
        let rate = match self.next() % 8 {
            0 => 0.0,
            1 => 1.0,
            2 => 0.001 * self.unit(),
            _ => self.unit(),
        };
        ((contacts as f64 * rate).round() as u64, contacts)
    }
}

fn of(counts: (u64, u64)) -> Proportion {
    Proportion::new("arm", counts.0, counts.1).expect("counts are right")
}

/// What Python says of each case.
fn reference(cases: &[Json]) -> Vec<Json> {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("cases.json");
    std::fs::write(&file, serde_json::to_vec(cases).expect("JSON")).expect("written");
    let printed = run(Command::new(python()).arg("-c").arg(REFERENCE).arg(&file), INSTALL);
    let figures: Vec<Json> = serde_json::from_str(&printed).expect("a list of figures");
    assert_eq!(figures.len(), cases.len(), "an answer to each case");
    figures
}

fn number(value: &Json, what: &str) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{what}: the reference has no number but {value}"))
}

fn agree(ours: f64, theirs: &Json, what: &str) {
    let theirs = number(theirs, what);
    assert!((ours - theirs).abs() <= AGREEMENT * theirs.abs().max(1.0), "{what}: {ours}, the reference says {theirs}");
}

/// Chances agree in their digits, however small they are.
fn agree_chance(ours: f64, theirs: &Json, what: &str) {
    agree(ours, theirs, what);
    let theirs = number(theirs, what);
    let close = (ours - theirs).abs() <= AGREEMENT * theirs || theirs < SMALLEST_CHANCE;
    assert!(close, "{what}: {ours:e}, the reference says {theirs:e}");
}

fn agree_all(ours: &[f64], theirs: &Json, what: &str) {
    let theirs = theirs.as_array().unwrap_or_else(|| panic!("{what}: no list but {theirs}"));
    assert_eq!(ours.len(), theirs.len(), "{what}: as many figures");
    ours.iter()
        .zip(theirs)
        .enumerate()
        .for_each(|(at, (one, other))| agree(*one, other, &format!("{what}, figure {at}")));
}

#[test]
fn rates_differences_and_intervals_are_those_of_statsmodels() {
    eprintln!("seed {SEED}");
    let mut chance = Chance(SEED);
    let extremes =
        [((0, 1), (0, 1)), ((1, 1), (0, 1)), ((0, 5_000_000), (1, 5_000_000)), ((1, 2), (2_500_000, 5_000_000))];
    let drawn: Vec<_> = extremes.into_iter().chain((0..400).map(|_| (chance.counts(), chance.counts()))).collect();
    let case = |(first, second): &((u64, u64), (u64, u64)), alpha: f64| json!({"kind": "pair", "first": first, "second": second, "alpha": alpha});
    let cases: Vec<Json> = drawn.iter().enumerate().map(|(i, pair)| case(pair, [0.05, 0.01, 0.2][i % 3])).collect();
    let mut without_spread = 0;
    for ((case, theirs), (first, second)) in cases.iter().zip(reference(&cases)).zip(drawn) {
        let critical = normal::two_sided_quantile(number(&case["alpha"], "alpha"));
        let test = proportions::two_proportion_z(of(first), of(second));
        if theirs["z"].is_null() {
            // nobody or everybody: statsmodels divides by 0
            assert_eq!((test.z, test.p), (0.0, 1.0), "{case}");
            without_spread += 1;
        } else {
            agree(test.z, &theirs["z"], &format!("z of {case}"));
            agree_chance(test.p, &theirs["p"], &format!("p of {case}"));
        }
        let wilson = of(second).wilson(critical);
        agree_all(&[wilson.low, wilson.high], &theirs["wilson"], &format!("Wilson of {case}"));
        let newcombe = proportions::newcombe(of(first), of(second), critical);
        agree_all(&[newcombe.low, newcombe.high], &theirs["newcombe"], &format!("Newcombe of {case}"));
    }
    assert!(without_spread < 40, "most cases have a z: {without_spread} have none");
}

#[test]
fn adjusted_and_exact_and_chi_square_chances_are_those_of_scipy() {
    eprintln!("seed {SEED}");
    let mut chance = Chance(SEED + 1);
    let mut cases = Vec::new();
    for _ in 0..100 {
        let p: Vec<f64> = (0..=chance.next() % 30).map(|_| chance.magnitude(1e-12, 1.0)).collect();
        cases.push(json!({"kind": "holm", "p": p}));
        let arms = 2 + chance.next() % 25;
        let shares: Vec<f64> = (0..arms).map(|_| chance.magnitude(0.5, 5.0)).collect();
        let size = chance.magnitude(1.0, 1e6);
        let observed: Vec<u64> =
            shares.iter().map(|s| 1 + (s * size + (size * s).sqrt() * 4.0 * (chance.unit() - 0.5)) as u64).collect();
        cases.push(json!({"kind": "ratio", "observed": observed, "shares": shares}));
        let (n, m) = (chance.magnitude(1.0, 1e6) as u64, chance.magnitude(1.0, 1e6) as u64);
        let (x, y) = ((chance.magnitude(1.0, 4e3) as u64).min(n), (chance.magnitude(1.0, 4e3) as u64).min(m) - 1);
        cases.push(json!({"kind": "fisher", "suspect": [x, n], "other": [y, m]}));
        cases.push(json!({"kind": "quantile", "p": chance.magnitude(1e-280, 1.0), "x": 36.0 * chance.unit() - 5.0}));
    }
    cases.push(json!({"kind": "ratio", "observed": [1_003_000, 997_000], "shares": [1.0, 1.0]}));
    cases.push(json!({"kind": "ratio", "observed": [0, 1_000_000], "shares": [1.0, 1e-3]}));
    let mut tails = 0;
    for (case, theirs) in cases.iter().zip(reference(&cases)) {
        let what = case.to_string();
        let list =
            |key: &str| -> Vec<f64> { case[key].as_array().expect("a list").iter().map(|v| number(v, key)).collect() };
        let counts = |key: &str| (list(key)[0] as u64, list(key)[1] as u64);
        match case["kind"].as_str() {
            Some("holm") => agree_all(&holm::adjust(&list("p")), &theirs["adjusted"], &what),
            Some("ratio") => {
                let observed: Vec<u64> = list("observed").into_iter().map(|n| n as u64).collect();
                let check = ratio(&observed, &list("shares")).expect("counts are right");
                agree(check.chi_square, &theirs["chi_square"], &what);
                agree_chance(check.p, &theirs["p"], &what);
            }
            Some("fisher") => {
                let (suspect, other) = (of(counts("suspect")), of(counts("other")));
                let p = fisher::p_higher(suspect, other);
                if suspect.compare(other).is_gt() {
                    agree_chance(p, &theirs["p"], &what);
                    tails += 1;
                } else {
                    assert_eq!(p, 1.0, "{what}: nothing is claimed at or below the share");
                }
            }
            _ => {
                agree(normal::upper_quantile(number(&case["p"], "p")), &theirs["z"], &what);
                agree_chance(normal::upper(number(&case["x"], "x")), &theirs["tail"], &what);
            }
        }
    }
    assert!(tails > 30, "tails that were compared: {tails}");
}

#[test]
fn sizes_and_sequences_are_those_of_their_formulas_in_python() {
    eprintln!("seed {SEED}");
    let mut chance = Chance(SEED + 2);
    let mut cases = Vec::new();
    for _ in 0..150 {
        let (base, lift) = (0.001 + 0.6 * chance.unit(), chance.magnitude(0.0005, 0.39));
        let (alpha, wanted) = (chance.magnitude(1e-5, 0.5), 0.5 + 0.49 * chance.unit());
        let contacts = chance.magnitude(10.0, 1e7) as u64;
        cases.push(
            json!({"kind": "size", "base": base, "lift": lift, "alpha": alpha, "power": wanted, "contacts": contacts}),
        );
        let (n, m) = (chance.magnitude(100.0, 1e7), chance.magnitude(100.0, 1e7));
        let rate = 0.02 + 0.9 * chance.unit();
        let counts = |n: f64, rate: f64| [(n * rate) as u64, n as u64];
        let (first, second) = (counts(n, rate), counts(m, rate * (0.9 + 0.15 * chance.unit())));
        let tuned_for = chance.magnitude(100.0, 1e6);
        cases.push(json!({"kind": "sequence", "first": first, "second": second, "alpha": alpha.min(0.3), "tuned_for": tuned_for}));
    }
    for (case, theirs) in cases.iter().zip(reference(&cases)) {
        let what = case.to_string();
        let given = |key: &str| number(&case[key], key);
        if case["kind"] == "size" {
            let (base, lift, alpha) = (given("base"), given("lift"), given("alpha"));
            let wanted = Wanted { base, lift, alpha, power: given("power"), arms: 2, looks: 1 };
            let planned = plan(&wanted).expect("a plan").contacts_per_arm as f64;
            let (exact, whole) = (number(&theirs["exact"], "exact"), number(&theirs["contacts"], "contacts"));
            // a size that is whole but for rounding may be rounded up on one side only
            let edge = (exact - exact.round()).abs() < 1e-6 * exact.max(1.0);
            assert!(planned == whole || (edge && (planned - exact).abs() <= 1.0), "{what}: {planned}, {theirs}");
            let found = power(base, base + lift, given("contacts") as u64, alpha).expect("a power");
            agree(found, &theirs["power"], &what);
        } else {
            let counts =
                |key: &str| of((case[key][0].as_u64().expect("events"), case[key][1].as_u64().expect("contacts")));
            let ours = sequences::sequence(counts("first"), counts("second"), given("alpha"), given("tuned_for"));
            agree_all(&[ours.interval.low, ours.interval.high], &theirs["interval"], &what);
            agree(ours.p, &theirs["p"], &what);
        }
    }
}

#[test]
fn boundaries_are_those_of_an_integration_with_scipy() {
    eprintln!("seed {SEED}");
    let mut chance = Chance(SEED + 3);
    let mut cases: Vec<Json> =
        (1..=20).map(|looks| json!({"kind": "classical", "looks": looks, "alpha": 0.05})).collect();
    for (looks, alpha) in [(2, 0.001), (5, 0.01), (5, 0.1), (5, 0.05 / 3.0), (10, 0.2), (20, 0.01)] {
        cases.push(json!({"kind": "classical", "looks": looks, "alpha": alpha}));
    }
    for looks in 1..=6 {
        let parts: Vec<f64> = (0..looks).map(|_| 0.3 + chance.unit()).collect();
        let whole: f64 = parts.iter().sum();
        let mut fractions: Vec<f64> = parts
            .iter()
            .scan(0.0, |t, p| {
                *t += p / whole;
                Some(*t)
            })
            .collect();
        fractions[looks - 1] = 1.0;
        let alpha = [0.05, 0.01, 0.1][looks % 3];
        cases.push(json!({"kind": "spending", "fractions": fractions, "alpha": alpha}));
    }
    for (case, theirs) in cases.iter().zip(reference(&cases)) {
        let alpha = number(&case["alpha"], "alpha");
        let ours = match case["looks"].as_u64() {
            Some(looks) => boundaries::obrien_fleming(u32::try_from(looks).expect("few looks"), alpha),
            None => {
                let fractions = case["fractions"].as_array().expect("fractions");
                boundaries::spending(&fractions.iter().map(|f| number(f, "fraction")).collect::<Vec<_>>(), alpha)
            }
        };
        agree_all(&ours, &theirs["boundaries"], &case.to_string());
    }
}

#[test]
fn the_command_line_prints_the_figures_of_statsmodels() {
    eprintln!("seed {SEED}");
    let mut chance = Chance(SEED + 4);
    for round in 0..6 {
        let arms: Vec<(u64, u64)> =
            (0..2 + round % 3).map(|_| ((120.0 + 60.0 * chance.unit()) as u64, 1_000)).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_estafette"));
        command.args(["winner", "judge", "--json"]);
        for (index, (events, contacts)) in arms.iter().enumerate() {
            command.arg("--arm").arg(format!("arm {index}={events}/{contacts}"));
        }
        let printed = run(&mut command, "cargo build");
        let document: Json = serde_json::from_str(&printed).expect("one JSON document");
        let places: Vec<(usize, usize)> =
            (0..arms.len()).flat_map(|a| (a + 1..arms.len()).map(move |b| (a, b))).collect();
        let mut cases: Vec<Json> = places
            .iter()
            .map(|(a, b)| json!({"kind": "pair", "first": arms[*a], "second": arms[*b], "alpha": 0.05}))
            .collect();
        let pairs = document["pairs"].as_array().expect("pairs");
        cases.push(json!({"kind": "holm", "p": pairs.iter().map(|pair| &pair["p"]).collect::<Vec<_>>()}));
        let theirs = reference(&cases);
        for (at, pair) in pairs.iter().enumerate() {
            let (ours, other) = (|key: &str| number(&pair[key], key), &theirs[at]);
            let second = places[at].1;
            assert_eq!(pair["second"], format!("arm {second}"), "pairs in order: {document}");
            agree(ours("z"), &other["z"], "z");
            agree_chance(ours("p"), &other["p"], "p");
            agree(ours("p_holm"), &theirs[pairs.len()]["adjusted"][at], "p by Holm");
            let figures = |value: &Json| {
                value.as_array().expect("an interval").iter().map(|v| number(v, "end")).collect::<Vec<_>>()
            };
            agree_all(&figures(&pair["diff_ci"]), &other["newcombe"], "Newcombe");
            agree_all(&figures(&document["arms"][second]["wilson"]), &other["wilson"], "Wilson");
        }
    }
}

#[test]
fn the_command_line_names_what_is_wrong_and_ends_with_the_code_for_usage() {
    for (arguments, named) in [
        (&["judge", "--arm", "A=5/4", "--arm", "B=1/4"][..], "A: 5 events of 4 contacts"),
        (&["judge", "--arm", "A=1/4"], "1 arms"),
        (&["judge", "--arm", "A=1/4", "--arm", "B=1/4", "--looks", "3", "--look", "4"], "look 4 is not one of the 3"),
        (&["plan", "--base", "NaN", "--lift", "0.1"], "rate NaN"),
        (&["plan", "--base", "0.2", "--lift", "0.9"], "rate 1.1"),
        (&["ratio", "--observed", "5"], "1 arms"),
        (&["ratio", "--observed", "5,6", "--expected", "1"], "1 expected shares for 2 arms"),
        (&["ratio", "--observed", "0,0"], "no contacts"),
    ] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_estafette")).arg("winner").args(arguments).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}: {said}");
        assert!(said.contains(named), "{arguments:?}: {said}");
    }
}
