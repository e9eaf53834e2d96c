//! Calculators for split tests, which need no server: what counts prove, how many contacts a test needs, whether a split
//! kept its shares. Owns no state; the statistics are those of [`crate::flow::winner`].

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};

use super::output::{self, clean, grouped};
use super::{Exit, output::note};
use crate::flow::winner::{
    Arm, GuardRail, Interval, Judgement, Looks, PairFinding, Plan, RatioCheck, Rules, Verdict, WinnerError, judge,
    plan, ratio,
};
use crate::limits;

#[derive(Debug, Subcommand)]
pub enum Winner {
    /// Say what the counts of a split test prove: rates, differences, and the verdict.
    #[command(after_help = JUDGE_HELP)]
    Judge(JudgeArgs),
    /// Say how many contacts a test needs to find a lift.
    #[command(after_help = PLAN_HELP)]
    Plan(PlanArgs),
    /// Say whether the sizes of the arms are what the split promised.
    #[command(after_help = RATIO_HELP)]
    Ratio(RatioArgs),
}

const JUDGE_HELP: &str = "Examples:
  estafette winner judge --arm A=120/1000 --arm B=150/1000
      one look at the end: is B better than A?
  estafette winner judge --arm A=120/1000 --arm B=150/1000 --looks 5 --look 3
      the third of five planned looks: the boundary is stricter, so that looking often errs no more often
  estafette winner judge --arm A=120/1000 --arm B=150/1000 --arm C=131/1000 --json
      three arms, every pair, p adjusted by Holm; for programs
  estafette winner judge --arm A=410/9000 --arm B=61/1000 --shares 9,1
      a split of 90 to 10
  estafette winner judge --arm A=120/1000 --arm B=150/1000 --complaints A=1 --complaints B=14
      an arm with significantly more complaints or unsubscribes cannot win

Differences are second minus first: a positive one means that the second arm of the pair is better. --arm counts contacts
(delivered, which on e-mail is accepted and not bounced; window over) and those of them with an event. Verdicts: proven; leading, not proven; no difference found (last
look, no pair differs); not enough data; sample broken (sizes are not as split, p < 0.0005).";

const PLAN_HELP: &str = "Examples:
  estafette winner plan --base 0.20 --lift 0.02
      from 20 % to 22 %: 6 510 contacts per arm
  estafette winner plan --base 0.03 --lift 0.003 --power 0.9 --arms 3 --looks 5 --json

The lift is absolute: 0.02 is two percentage points. With more than two arms alpha is divided by the number of pairs.";

const RATIO_HELP: &str = "Examples:
  estafette winner ratio --observed 1003000,997000
      half and half was promised: off by 0.15 points, and with two million contacts no accident
  estafette winner ratio --observed 9010,990 --expected 9,1 --json";

#[derive(Debug, Args)]
pub struct JudgeArgs {
    /// An arm: its name, contacts with an event, contacts. Give at least two.
    #[arg(long = "arm", value_name = "NAME=EVENTS/CONTACTS", required = true, value_parser = parse_arm)]
    arms: Vec<Arm>,
    /// Planned looks, after equal parts of the contacts: O'Brien-Fleming boundaries.
    #[arg(long, value_name = "N", requires = "look", conflicts_with_all = ["fractions", "open"])]
    looks: Option<u32>,
    /// Which of the planned looks this is, from 1.
    #[arg(long, value_name = "N", conflicts_with = "open")]
    look: Option<u32>,
    /// Planned looks after unequal parts of the contacts, as 0.3,0.5,1: Lan-DeMets spending.
    #[arg(long, value_name = "PART,…", value_delimiter = ',', requires = "look", conflicts_with = "open")]
    fractions: Vec<f64>,
    /// A split without a planned end, looked at whenever one likes: confidence sequences.
    #[arg(long)]
    open: bool,
    /// Contacts of two arms at which the sequence is narrowest; fixed before the test.
    #[arg(long, value_name = "CONTACTS", requires = "open", default_value_t = limits::WINNER_SEQUENCE_TUNED_FOR)]
    tuned_for: f64,
    /// Chance that any claim is wrong; intervals have confidence 1 - alpha.
    #[arg(long, default_value_t = limits::WINNER_ALPHA, allow_negative_numbers = true)]
    alpha: f64,
    /// Contacts that every arm needs before anything is claimed.
    #[arg(long, value_name = "N", default_value_t = limits::WINNER_DELIVERED_MIN)]
    min_delivered: u64,
    /// Contacts with an event that every arm needs before anything is claimed.
    #[arg(long, value_name = "N", default_value_t = limits::WINNER_EVENTS_MIN)]
    min_events: u64,
    /// Planned shares of the arms, in their order; equal by default.
    #[arg(long, alias = "expected", value_name = "SHARE,…", value_delimiter = ',', allow_negative_numbers = true)]
    shares: Vec<f64>,
    /// Complaints of an arm.
    #[arg(long, value_name = "NAME=N", value_parser = parse_count)]
    complaints: Vec<(String, u64)>,
    /// Unsubscribes of an arm.
    #[arg(long, value_name = "NAME=N", value_parser = parse_count)]
    unsubscribes: Vec<(String, u64)>,
}

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Rate that is expected without the change, as 0.20.
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    base: f64,
    /// Difference that is to be found, as 0.02: absolute.
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    lift: f64,
    /// Chance of finding it.
    #[arg(long, default_value_t = 0.8, allow_negative_numbers = true)]
    power: f64,
    /// Chance that any claim is wrong.
    #[arg(long, default_value_t = limits::WINNER_ALPHA, allow_negative_numbers = true)]
    alpha: f64,
    /// Arms of the test.
    #[arg(long, default_value_t = 2)]
    arms: u32,
    /// Planned looks.
    #[arg(long, default_value_t = 1)]
    looks: u32,
}

#[derive(Debug, Args)]
pub struct RatioArgs {
    /// Contacts of each arm.
    #[arg(long, value_name = "N,…", value_delimiter = ',', required = true)]
    observed: Vec<u64>,
    /// Planned shares; equal by default.
    #[arg(long, value_name = "SHARE,…", value_delimiter = ',', allow_negative_numbers = true)]
    expected: Vec<f64>,
}

/// The name may hold `=`: the counts are behind the last one.
fn parse_arm(text: &str) -> Result<Arm, String> {
    let shape = || format!("{text:?} is not NAME=EVENTS/CONTACTS, as A=120/1000");
    let (name, counts) = text.rsplit_once('=').ok_or_else(shape)?;
    let (events, contacts) = counts.split_once('/').ok_or_else(shape)?;
    if name.is_empty() {
        return Err(format!("{text:?} has no name before the '='"));
    }
    let number = |text: &str, what: &str| -> Result<u64, String> {
        text.trim().parse().map_err(|_| format!("{name}: {what} {text:?} is not a whole number from 0"))
    };
    let (events, contacts) = (number(events, "events")?, number(contacts, "contacts")?);
    if contacts == 0 {
        return Err(WinnerError::NoContacts { arm: name.to_owned() }.to_string());
    }
    if events > contacts {
        let arm = name.to_owned();
        return Err(WinnerError::MoreThanContacts { arm, what: "events", events, contacts }.to_string());
    }
    Ok(Arm::new(name, events, contacts))
}

fn parse_count(text: &str) -> Result<(String, u64), String> {
    let (name, count) = text.rsplit_once('=').ok_or_else(|| format!("{text:?} is not NAME=N, as A=3"))?;
    let count = count.trim().parse().map_err(|_| format!("{name}: {count:?} is not a whole number from 0"))?;
    Ok((name.to_owned(), count))
}

/// Runs a calculator. What cannot be computed is wrong usage: it names the input.
pub(super) fn run(command: Winner, as_json: bool) -> anyhow::Result<Exit> {
    let refused = match command {
        Winner::Judge(options) => match judged(options) {
            Ok(judgement) => return print_judgement(&judgement, as_json),
            Err(refused) => refused,
        },
        Winner::Plan(options) => match planned(&options) {
            Ok(plan) => return print_plan(&plan, as_json),
            Err(refused) => refused.to_string(),
        },
        Winner::Ratio(options) => {
            let shares = if options.expected.is_empty() { vec![1.0; options.observed.len()] } else { options.expected };
            match ratio(&options.observed, &shares) {
                Ok(check) => return print_ratio(&options.observed, &check, as_json),
                Err(refused) => refused.to_string(),
            }
        }
    };
    note(&format!("error: {}", clean(&refused)));
    Ok(Exit::Usage)
}

fn judged(options: JudgeArgs) -> Result<Judgement, String> {
    let mut arms = options.arms;
    if !options.shares.is_empty() {
        if options.shares.len() != arms.len() {
            let refused = WinnerError::Shares { expected: options.shares.len(), arms: arms.len() };
            return Err(format!("--shares: {refused}"));
        }
        arms.iter_mut().zip(&options.shares).for_each(|(arm, share)| arm.share = *share);
    }
    for (counts, option) in [(&options.complaints, "--complaints"), (&options.unsubscribes, "--unsubscribes")] {
        for (name, count) in counts {
            let arm = arms.iter_mut().find(|arm| arm.name == *name);
            let arm = arm.ok_or_else(|| format!("{option} {name}={count}: no --arm is named {name:?}"))?;
            if option == "--complaints" { arm.complaints = *count } else { arm.unsubscribes = *count }
        }
    }
    let looks = match (options.open, options.looks, options.look) {
        (true, ..) => Looks::Open { tuned_for: options.tuned_for },
        (false, None, Some(look)) if !options.fractions.is_empty() => {
            Looks::Fractions { look, fractions: options.fractions }
        }
        (false, Some(looks), Some(look)) => Looks::Planned { look, looks },
        (false, None, Some(look)) => return Err(format!("--look {look}: of how many? Give --looks too")),
        (false, looks, None) => Looks::Planned { look: looks.unwrap_or(1), looks: looks.unwrap_or(1) },
    };
    let rules =
        Rules { alpha: options.alpha, looks, min_contacts: options.min_delivered, min_events: options.min_events };
    judge(&arms, &rules).map_err(|refused| refused.to_string())
}

fn planned(options: &PlanArgs) -> Result<Plan, WinnerError> {
    let PlanArgs { base, lift, power, alpha, arms, looks } = *options;
    plan(&crate::flow::winner::plan::Wanted { base, lift, power, alpha, arms, looks })
}

fn print_judgement(judgement: &Judgement, as_json: bool) -> anyhow::Result<Exit> {
    if as_json {
        output::json(&judgement_json(judgement)?)?;
        return Ok(Exit::Done);
    }
    output::table(
        strings(["arm", "contacts", "events", "rate", "Wilson interval", "complaints", "unsubscribes", "remarks"]),
        judgement.arms.iter().map(arm_row).collect(),
    )?;
    output::line("")?;
    let header = strings(["pair", "difference", "Newcombe interval", "z", "p", "p (Holm)", "|z| needed", "verdict"]);
    output::table(header, judgement.pairs.iter().map(|pair| pair_row(pair, judgement)).collect())?;
    output::line("")?;
    if let Some(check) = &judgement.ratio {
        output::line(&ratio_sentence(check))?;
    }
    let confidence = 100.0 * (1.0 - judgement.rules.alpha);
    output::line(&format!("{}; intervals have {} % confidence", looks_sentence(judgement), short(confidence)))?;
    output::line(&format!("verdict: {}. {}", judgement.verdict.name(), clean(&reason(judgement))))?;
    Ok(Exit::Done)
}

/// The judgement with its rules spelled out, and a verdict a pair.
fn judgement_json(judgement: &Judgement) -> anyhow::Result<Json> {
    let mut document = serde_json::to_value(judgement)?;
    document["winner"] = json!(judgement.winner());
    document["reason"] = json!(reason(judgement));
    document["verdict_text"] = json!(judgement.verdict.name());
    if let Some(pairs) = document["pairs"].as_array_mut() {
        for (written, pair) in pairs.iter_mut().zip(&judgement.pairs) {
            written["verdict"] = json!(pair_verdict(pair, judgement));
        }
    }
    Ok(document)
}

/// The verdict of one pair: that of the test where the test claims nothing at all, else whether this pair differs.
fn pair_verdict(pair: &PairFinding, judgement: &Judgement) -> Verdict {
    match judgement.verdict {
        blocked @ (Verdict::SampleBroken | Verdict::NotEnoughData) => blocked,
        _ if pair.significant => Verdict::Proven,
        _ if pair.diff == 0.0 || judgement.rules.looks.is_last() => Verdict::NoDifferenceFound,
        _ => Verdict::LeadingNotProven,
    }
}

/// Why the verdict is what it is, in words and numbers.
fn reason(judgement: &Judgement) -> String {
    let rules = &judgement.rules;
    let leading = judgement.leader.as_ref().map(|leader| format!("{leader} leads"));
    let leading = leading.unwrap_or_else(|| format!("{} are exactly equal", judgement.tied.join(" and ")));
    match judgement.verdict {
        Verdict::Proven => format!("{} is better than every other arm that may win", judgement.winner().unwrap_or("-")),
        Verdict::LeadingNotProven => {
            format!("{leading}, and the boundary in force is not reached against every other arm")
        }
        Verdict::NoDifferenceFound if !judgement.tied.is_empty() => format!("{leading}: a person must choose"),
        Verdict::NoDifferenceFound => format!("{leading} by no more than chance would have it"),
        Verdict::NotEnoughData => {
            let short: Vec<&str> = judgement.arms.iter().filter(|arm| arm.short).map(|arm| arm.name.as_str()).collect();
            format!("{}: below {} contacts or {} events", short.join(", "), rules.min_contacts, rules.min_events)
        }
        Verdict::SampleBroken => "the sizes of the arms are not what the split promised: find out why first".to_owned(),
        Verdict::NoneMayWin => "each arm has significantly more complaints or unsubscribes than another".to_owned(),
    }
}

fn looks_sentence(judgement: &Judgement) -> String {
    match &judgement.rules.looks {
        Looks::Planned { looks: 1, .. } => "one look, at the end".to_owned(),
        Looks::Planned { look, looks } => format!("look {look} of {looks} (O'Brien-Fleming)"),
        Looks::Fractions { look, fractions } => format!("look {look} of {} (Lan-DeMets spending)", fractions.len()),
        Looks::Open { tuned_for } => {
            format!("open-ended (confidence sequence, tuned for {} contacts)", short(*tuned_for))
        }
    }
}

fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

/// A number with the digits that tell something.
fn short(number: f64) -> String {
    let text = format!("{number:.4}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn chance(p: f64) -> String {
    if p < 0.0001 { format!("{p:.1e}") } else { format!("{p:.4}") }
}

fn percent(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{:.2} %", 100.0 * rate))
}

fn between(interval: Interval, unit: &str) -> String {
    format!("{:.2} to {:.2} {unit}", 100.0 * interval.low, 100.0 * interval.high)
}

fn arm_row(arm: &crate::flow::winner::ArmFinding) -> Vec<String> {
    let guarded = arm.guarded.iter().map(|rail| match rail {
        GuardRail::Complaints => "too many complaints",
        GuardRail::Unsubscribes => "too many unsubscribes",
    });
    let remarks: Vec<&str> = arm.short.then_some("below the minimum").into_iter().chain(guarded).collect();
    vec![
        clean(&arm.name),
        grouped(arm.contacts),
        grouped(arm.events),
        percent(arm.rate),
        arm.wilson.map_or_else(|| "-".to_owned(), |interval| between(interval, "%")),
        grouped(arm.complaints),
        grouped(arm.unsubscribes),
        remarks.join(", "),
    ]
}

fn pair_row(pair: &PairFinding, judgement: &Judgement) -> Vec<String> {
    vec![
        clean(&format!("{} - {}", pair.second, pair.first)),
        format!("{:+.2} points", 100.0 * pair.diff),
        between(pair.diff_ci, "points"),
        format!("{:.3}", pair.z),
        chance(pair.p),
        chance(pair.p_holm),
        format!("{:.3}", pair.boundary),
        pair_verdict(pair, judgement).name().to_owned(),
    ]
}

fn print_plan(plan: &Plan, as_json: bool) -> anyhow::Result<Exit> {
    if as_json {
        output::json(&serde_json::to_value(plan)?)?;
        return Ok(Exit::Done);
    }
    let (each, all) = (grouped(plan.contacts_per_arm), grouped(plan.contacts_total));
    output::line(&format!("{each} contacts per arm, {all} in all"))?;
    output::line(&format!(
        "to tell {} % from {} % with power {} and alpha {}, {} arms, {} look{}",
        short(100.0 * plan.target),
        short(100.0 * plan.base),
        short(plan.power),
        short(plan.alpha),
        plan.arms,
        plan.looks,
        if plan.looks == 1 { "" } else { "s" },
    ))?;
    if plan.comparisons > 1 {
        let pairs = plan.comparisons;
        output::line(&format!("alpha is divided by {pairs} pairs: {:.2e} each", plan.alpha_per_comparison))?;
    }
    if plan.looks > 1 {
        output::line(&format!("{:.1} % of it are the price of the looks", 100.0 * (1.0 - 1.0 / plan.inflation)))?;
    }
    Ok(Exit::Done)
}

fn print_ratio(observed: &[u64], check: &RatioCheck, as_json: bool) -> anyhow::Result<Exit> {
    if as_json {
        let mut document = serde_json::to_value(check)?;
        document["observed"] = json!(observed);
        document["threshold"] = json!(limits::WINNER_RATIO_P);
        output::json(&document)?;
        return Ok(Exit::Done);
    }
    let rows = observed.iter().zip(&check.expected).enumerate().map(|(index, (observed, expected))| {
        vec![format!("{}", index + 1), grouped(*observed), format!("{expected:.1}")]
    });
    output::table(strings(["arm", "observed", "expected"]), rows.collect())?;
    output::line(&ratio_sentence(check))?;
    Ok(Exit::Done)
}

fn ratio_sentence(check: &RatioCheck) -> String {
    let verdict = if check.broken { "the sizes are not what the split promised" } else { "no sign of a broken split" };
    format!(
        "sample ratio: chi-square {:.3} with {} degree{} of freedom, p {}: {verdict}",
        check.chi_square,
        check.degrees,
        if check.degrees == 1 { "" } else { "s" },
        chance(check.p),
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::args::{Cli, Command};
    use super::*;

    fn options(line: &str) -> Result<JudgeArgs, String> {
        let words = ["estafette", "winner", "judge"].into_iter().chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|refused| refused.to_string())?;
        let Command::Winner(Winner::Judge(options)) = cli.command else { panic!("another command") };
        Ok(options)
    }

    fn judgement(line: &str) -> Result<Judgement, String> {
        judged(options(line)?)
    }

    #[test]
    fn the_examples_of_the_help_work() {
        let mut seen = 0;
        for help in [JUDGE_HELP, PLAN_HELP, RATIO_HELP] {
            for line in help.lines().filter(|line| line.trim_start().starts_with("estafette ")) {
                let cli =
                    Cli::try_parse_from(line.split_whitespace()).unwrap_or_else(|refused| panic!("{line}: {refused}"));
                let Command::Winner(command) = cli.command else { panic!("{line} is another command") };
                assert_eq!(run(command, true).expect("runs"), Exit::Done, "{line}");
                seen += 1;
            }
        }
        assert_eq!(seen, 9, "examples");
    }

    #[test]
    fn json_has_what_programs_ask_for() {
        let found = judgement("--arm A=120/1000 --arm B=150/1000 --looks 5 --look 3").expect("judged");
        let document = judgement_json(&found).expect("is JSON");
        assert_eq!(document["verdict"], "leading_not_proven");
        assert_eq!((&document["winner"], &document["leader"]), (&Json::Null, &json!("B")));
        assert_eq!(document["arms"][0]["rate"], 0.12);
        assert!(document["arms"][0]["wilson"].as_array().is_some_and(|interval| interval.len() == 2), "{document}");
        let pair = &document["pairs"][0];
        for key in ["z", "p", "diff", "p_holm", "boundary"] {
            assert!(pair[key].is_number(), "{key}: {pair}");
        }
        assert!(pair["diff_ci"].as_array().is_some_and(|interval| interval.len() == 2), "{pair}");
        assert_eq!(
            (&pair["first"], &pair["second"], &pair["verdict"]),
            (&json!("A"), &json!("B"), &json!("leading_not_proven"))
        );
    }

    #[test]
    fn wrong_input_is_named() {
        for (line, named) in [
            ("--arm A=1/0 --arm B=1/2", "A: no contacts"),
            ("--arm A=3/2 --arm B=1/2", "A: 3 events of 2 contacts"),
            ("--arm A=NaN/2 --arm B=1/2", "events \"NaN\""),
            ("--arm A=-1/2 --arm B=1/2", "events \"-1\""),
            ("--arm A=1 --arm B=1/2", "NAME=EVENTS/CONTACTS"),
            ("--arm =1/2 --arm B=1/2", "no name"),
            ("--arm A=1/2", "1 arms"),
            ("--arm A=1/2 --arm A=1/2", "arm \"A\" is named twice"),
            ("--arm A=1/2 --arm B=1/2 --looks 5 --look 6", "look 6 is not one of the 5"),
            ("--arm A=1/2 --arm B=1/2 --looks 5", "--look <N>"),
            ("--arm A=1/2 --arm B=1/2 --look 2", "--looks"),
            ("--arm A=1/2 --arm B=1/2 --looks 0 --look 0", "0 looks"),
            ("--arm A=1/2 --arm B=1/2 --alpha NaN", "alpha NaN"),
            ("--arm A=1/2 --arm B=1/2 --alpha -1", "alpha -1"),
            ("--arm A=1/2 --arm B=1/2 --shares 1,2,3", "3 expected shares for 2 arms"),
            ("--arm A=1/2 --arm B=1/2 --shares 1,0", "share 0 of B"),
            ("--arm A=1/2 --arm B=1/2 --complaints C=1", "no --arm is named \"C\""),
            ("--arm A=1/2 --arm B=1/2 --complaints B=3", "B: 3 complaints of 2"),
            ("--arm A=1/2 --arm B=1/2 --fractions 0.5,0.4,1 --look 1", "fraction 0.4 of look 2"),
            ("--arm A=1/2 --arm B=1/2 --open --tuned-for NaN", "tuned for NaN"),
            ("", "--arm"),
        ] {
            let refused = judgement(line).expect_err(line);
            assert!(refused.contains(named), "{line}: {refused}");
        }
    }

    #[test]
    fn names_may_hold_signs_and_counts_spread_over_options() {
        let found =
            judgement("--arm a=b=600/1000 --arm B=150/1000 --complaints a=b=50 --unsubscribes B=1").expect("judged");
        assert_eq!((found.arms[0].name.as_str(), found.arms[0].complaints, found.arms[1].unsubscribes), ("a=b", 50, 1));
        assert_eq!(found.arms[0].guarded, [GuardRail::Complaints], "a guard-rail");
        assert_eq!(reason(&found), "B leads, and the boundary in force is not reached against every other arm");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([short(95.0), short(99.5), short(20.0), short(0.05)], ["95", "99.5", "20", "0.05"]);
        assert_eq!([chance(0.04961), chance(2.2e-5)], ["0.0496", "2.2e-5"]);
    }
}
