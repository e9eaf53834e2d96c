//! What the counts of a test prove. Owns no state.
//!
//! In this order:
//! 1. **Sample**: if the sizes of the arms (accepted contacts, bounced ones too) are not what the split promised, nothing is claimed ([`mod@super::ratio`]).
//! 2. **Guard-rails**: an arm with significantly more complaints or unsubscribes than another cannot win: Fisher's exact
//!    test of every pair, one-sided at alpha/2, Holm over all pairs and both rates. It does not pay for looking often: to
//!    stop a harmful arm too soon is the lesser harm.
//! 3. **Minimum**: an arm below the minimum of delivered contacts or events means that nothing is claimed.
//! 4. **Pairs**: every pair is compared. At planned looks the step-down procedure of Holm is applied to O'Brien–Fleming
//!    boundaries: the pair with the i-th largest |z| of m must reach the boundary, at this look, of a test at level
//!    alpha/(m - i + 1), and so must all before it (Maurer & Bretz, "Multiple testing in group sequential trials using
//!    graphical approaches", Statistics in Biopharmaceutical Research 5, 2013; Ye, Li, Liu & Yao, Statistics in Medicine
//!    32, 2013). With one look that is Holm's procedure itself. In an open-ended split the always-valid p of the
//!    confidence sequences goes through Holm's procedure.
//! 5. **Verdict**: *proven* is a leader that is ahead of every other arm that may win, each by a proven difference.
//!
//! Intervals are those of one look at one pair, with confidence 1 - alpha; `interval_at_boundary` pays for looks and pairs.

use serde::{Deserialize, Serialize};

use super::rules::check;
use super::{
    Arm, Interval, Looks, Proportion, RatioCheck, Rules, WinnerError, fisher, holm, normal, proportions, ratio,
    sequences,
};

/// What the counts say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The leader is better than every other arm that may win.
    Proven,
    /// There is a leader, and the boundary is not reached, or not against every other arm.
    LeadingNotProven,
    /// The last look is over and no pair differs, or the best arms are exactly equal.
    NoDifferenceFound,
    /// An arm is below the minimum.
    NotEnoughData,
    /// The sizes of the arms are not what the split promised.
    SampleBroken,
    /// Every arm has significantly more complaints or unsubscribes than another.
    NoneMayWin,
}

impl Verdict {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Proven => "proven",
            Verdict::LeadingNotProven => "leading, not proven",
            Verdict::NotEnoughData => "not enough data",
            Verdict::SampleBroken => "sample broken",
            // No arm is left to be better than another: the reason tells of the guard-rails.
            Verdict::NoDifferenceFound | Verdict::NoneMayWin => "no difference found",
        }
    }
}

/// Why an arm cannot win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardRail {
    Complaints,
    Unsubscribes,
}

impl GuardRail {
    pub fn name(self) -> &'static str {
        match self {
            GuardRail::Complaints => "complaints",
            GuardRail::Unsubscribes => "unsubscribes",
        }
    }
}

/// One arm, judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmFinding {
    pub name: String,
    pub contacts: u64,
    pub events: u64,
    pub complaints: u64,
    pub unsubscribes: u64,
    /// Events per contact; none without contacts.
    pub rate: Option<f64>,
    /// Wilson interval of the rate; none without contacts.
    pub wilson: Option<Interval>,
    /// Below the minimum of contacts or events.
    pub short: bool,
    /// Guard-rails that it broke.
    pub guarded: Vec<GuardRail>,
}

/// Always-valid figures of a pair, in an open-ended split.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SequenceFinding {
    /// Confidence sequence of the difference.
    pub interval: Interval,
    /// In standard errors with each arm's own variance.
    pub z: f64,
    /// Always-valid p.
    pub p: f64,
}

/// Two arms, compared: second minus first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairFinding {
    pub first: String,
    pub second: String,
    /// Rate of the second minus that of the first.
    pub diff: f64,
    /// Newcombe interval of the difference, confidence 1 - alpha, as if looked at once and at no other pair.
    pub diff_ci: Interval,
    /// The same at the boundary in force, which pays for looks and pairs (repeated confidence interval).
    pub interval_at_boundary: Interval,
    /// Pooled z of the difference.
    pub z: f64,
    /// Two-sided p of z.
    pub p: f64,
    /// Adjusted over all pairs; of the always-valid p in an open-ended split.
    pub p_holm: f64,
    /// Standard errors in force now for this pair: |z| must reach it (the sequence's z in an open-ended split).
    pub boundary: f64,
    /// The difference is proven.
    pub significant: bool,
    /// In an open-ended split only.
    pub sequence: Option<SequenceFinding>,
}

/// Everything that the counts say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    pub verdict: Verdict,
    /// The arm with the highest rate of those that may win; none if several are exactly equal.
    pub leader: Option<String>,
    /// The arms that are exactly equal at the top; empty if there is a leader.
    pub tied: Vec<String>,
    pub rules: Rules,
    /// None while there are no contacts.
    pub ratio: Option<RatioCheck>,
    pub arms: Vec<ArmFinding>,
    /// Every pair of arms with contacts, in the order of the arms.
    pub pairs: Vec<PairFinding>,
}

impl Judgement {
    pub fn arm(&self, name: &str) -> Option<&ArmFinding> {
        self.arms.iter().find(|arm| arm.name == name)
    }

    /// The arm that is proven to be the best.
    pub fn winner(&self) -> Option<&str> {
        if self.verdict == Verdict::Proven { self.leader.as_deref() } else { None }
    }
}

/// Judges the counts of 2 to 26 arms.
///
/// # Errors
/// Counts or rules that cannot be: each error names the input. An arm without contacts is no error: it is not enough data.
pub fn judge(arms: &[Arm], rules: &Rules) -> Result<Judgement, WinnerError> {
    check(arms, rules)?;
    let ratio = check_sizes(arms)?;
    let guarded = guard_rails(arms, rules.alpha);
    let findings: Vec<ArmFinding> =
        arms.iter().zip(guarded).map(|(arm, guarded)| arm_finding(arm, guarded, rules)).collect();
    let pairs = pair_findings(arms, rules);
    let best = best(arms, &findings);
    let broken = ratio.as_ref().is_some_and(|check| check.broken);
    let verdict = if broken { Verdict::SampleBroken } else { verdict(&findings, &pairs, &best, rules) };
    let (leader, tied) = match best.as_slice() {
        [one] => (Some(one.clone()), Vec::new()),
        _ => (None, best),
    };
    Ok(Judgement { verdict, leader, tied, rules: rules.clone(), ratio, arms: findings, pairs })
}

fn proportion(arm: &Arm, events: u64) -> Option<Proportion> {
    // the counts were checked; only contacts may be 0 here
    Proportion::new(&arm.name, events, arm.contacts).ok()
}

fn check_sizes(arms: &[Arm]) -> Result<Option<RatioCheck>, WinnerError> {
    let contacts: Vec<u64> = arms.iter().map(|arm| arm.sampled.unwrap_or(arm.contacts).max(arm.contacts)).collect();
    if contacts.iter().all(|contacts| *contacts == 0) {
        return Ok(None);
    }
    let shares: Vec<f64> = arms.iter().map(|arm| arm.share).collect();
    ratio(&contacts, &shares).map(Some)
}

/// Pairs of indices, first before second.
fn index_pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |first| (first + 1..count).map(move |second| (first, second)))
}

/// Guard-rails that each arm broke.
fn guard_rails(arms: &[Arm], alpha: f64) -> Vec<Vec<GuardRail>> {
    let mut suspects = Vec::new();
    let mut p = Vec::new();
    for rail in [GuardRail::Complaints, GuardRail::Unsubscribes] {
        let of = |index: usize| {
            let arm = &arms[index];
            let events = match rail {
                GuardRail::Complaints => arm.complaints,
                GuardRail::Unsubscribes => arm.unsubscribes,
            };
            proportion(arm, events)
        };
        for (first, second) in index_pairs(arms.len()) {
            let (Some(one), Some(two)) = (of(first), of(second)) else { continue };
            let (suspect, other, index) = if two.compare(one).is_gt() { (two, one, second) } else { (one, two, first) };
            suspects.push((index, rail));
            p.push(fisher::p_higher(suspect, other));
        }
    }
    let mut guarded = vec![Vec::new(); arms.len()];
    for ((index, rail), adjusted) in suspects.into_iter().zip(holm::adjust(&p)) {
        if adjusted <= 0.5 * alpha && !guarded[index].contains(&rail) {
            guarded[index].push(rail);
        }
    }
    guarded
}

fn arm_finding(arm: &Arm, guarded: Vec<GuardRail>, rules: &Rules) -> ArmFinding {
    let counted = proportion(arm, arm.events);
    let critical = normal::two_sided_quantile(rules.alpha);
    ArmFinding {
        name: arm.name.clone(),
        contacts: arm.contacts,
        events: arm.events,
        complaints: arm.complaints,
        unsubscribes: arm.unsubscribes,
        rate: counted.map(Proportion::rate),
        wilson: counted.map(|p| p.wilson(critical)),
        short: counted.is_none() || arm.contacts < rules.min_contacts || arm.events < rules.min_events,
        guarded,
    }
}

/// A pair before it is held against the others.
struct Compared<'a> {
    first: (&'a Arm, Proportion),
    second: (&'a Arm, Proportion),
    test: proportions::ZTest,
    sequence: Option<SequenceFinding>,
}

impl<'a> Compared<'a> {
    fn new(first: &'a Arm, second: &'a Arm, rules: &Rules) -> Option<Compared<'a>> {
        let (one, two) = (proportion(first, first.events)?, proportion(second, second.events)?);
        let sequence = match rules.looks {
            Looks::Open { tuned_for } => {
                let found = sequences::sequence(one, two, rules.alpha, tuned_for);
                Some(SequenceFinding { interval: found.interval, z: found.z, p: found.p })
            }
            Looks::Planned { .. } | Looks::Fractions { .. } => None,
        };
        let test = proportions::two_proportion_z(one, two);
        Some(Compared { first: (first, one), second: (second, two), test, sequence })
    }

    /// |z| and p of the test in force.
    fn in_force(&self) -> (f64, f64) {
        match &self.sequence {
            Some(sequence) => (sequence.z.abs(), sequence.p),
            None => (self.test.z.abs(), self.test.p),
        }
    }
}

/// Compares every pair, and steps down from the clearest difference until one is not proven.
fn pair_findings(arms: &[Arm], rules: &Rules) -> Vec<PairFinding> {
    let compared: Vec<Compared> =
        index_pairs(arms.len()).filter_map(|(a, b)| Compared::new(&arms[a], &arms[b], rules)).collect();
    let mut order: Vec<usize> = (0..compared.len()).collect();
    // |z| goes on where p has become 0; in a sequence p also depends on the contacts
    order.sort_by(|a, b| {
        let ((z, p), (other_z, other_p)) = (compared[*a].in_force(), compared[*b].in_force());
        p.total_cmp(&other_p).then(other_z.total_cmp(&z))
    });
    let mut in_force = vec![(0.0, false); compared.len()];
    let (mut open, mut level) = (true, rules.alpha);
    let mut last: Option<f64> = None;
    for (rank, index) in order.into_iter().enumerate() {
        let pair = &compared[index];
        if open {
            level = rules.alpha / (compared.len() - rank) as f64;
        }
        // once one is not proven, all that follow stay at its level
        let boundary = match last {
            Some(boundary) if pair.sequence.is_none() => boundary,
            _ => rules.looks.boundary(pair.first.1, pair.second.1, rules.alpha, level),
        };
        open = open && pair.in_force().0 >= boundary;
        last = if open { None } else { Some(boundary) };
        in_force[index] = (boundary, open);
    }
    let adjusted = holm::adjust(&compared.iter().map(|pair| pair.in_force().1).collect::<Vec<_>>());
    let found = compared.iter().zip(adjusted).zip(in_force);
    found.map(|((pair, p_holm), in_force)| pair_finding(pair, p_holm, in_force, rules.alpha)).collect()
}

fn pair_finding(pair: &Compared, p_holm: f64, (boundary, significant): (f64, bool), alpha: f64) -> PairFinding {
    let (first, second) = (pair.first.1, pair.second.1);
    PairFinding {
        first: pair.first.0.name.clone(),
        second: pair.second.0.name.clone(),
        diff: second.minus(first),
        diff_ci: proportions::newcombe(first, second, normal::two_sided_quantile(alpha)),
        interval_at_boundary: proportions::newcombe(first, second, boundary),
        z: pair.test.z,
        p: pair.test.p,
        p_holm,
        boundary,
        significant,
        sequence: pair.sequence,
    }
}

/// Names of the arms with the highest rate of those that may win.
fn best(arms: &[Arm], findings: &[ArmFinding]) -> Vec<String> {
    let mut best: Vec<(&str, Proportion)> = Vec::new();
    for (arm, finding) in arms.iter().zip(findings) {
        let Some(rate) = proportion(arm, arm.events).filter(|_| finding.guarded.is_empty()) else { continue };
        match best.first().map_or(std::cmp::Ordering::Greater, |(_, highest)| rate.compare(*highest)) {
            std::cmp::Ordering::Greater => best = vec![(&arm.name, rate)],
            std::cmp::Ordering::Equal => best.push((&arm.name, rate)),
            std::cmp::Ordering::Less => {}
        }
    }
    best.into_iter().map(|(name, _)| name.to_owned()).collect()
}

fn verdict(arms: &[ArmFinding], pairs: &[PairFinding], best: &[String], rules: &Rules) -> Verdict {
    if arms.iter().any(|arm| arm.short) {
        return Verdict::NotEnoughData;
    }
    let leader = match best {
        [] => return Verdict::NoneMayWin,
        [leader] => leader,
        _ => return Verdict::NoDifferenceFound,
    };
    let beaten = |other: &ArmFinding| {
        pairs.iter().any(|pair| {
            pair.significant
                && ((pair.first == *leader && pair.second == other.name)
                    || (pair.first == other.name && pair.second == *leader))
        })
    };
    let mut others = arms.iter().filter(|arm| arm.guarded.is_empty() && arm.name != *leader).peekable();
    if others.peek().is_some() && others.all(beaten) {
        return Verdict::Proven;
    }
    let found_none = rules.looks.is_last() && !pairs.iter().any(|pair| pair.significant);
    if found_none { Verdict::NoDifferenceFound } else { Verdict::LeadingNotProven }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn two(first: (u64, u64), second: (u64, u64)) -> [Arm; 2] {
        [Arm::new("A", first.0, first.1), Arm::new("B", second.0, second.1)]
    }

    fn at_look(look: u32, looks: u32) -> Rules {
        Rules { looks: Looks::Planned { look, looks }, ..Rules::default() }
    }

    fn judged(arms: &[Arm], rules: &Rules) -> Judgement {
        judge(arms, rules).expect("the counts are right")
    }

    #[test]
    fn one_look_proves_what_five_looks_do_not_yet() {
        let arms = two((120, 1_000), (150, 1_000));
        let once = judged(&arms, &Rules::default());
        assert_eq!((once.verdict, once.winner()), (Verdict::Proven, Some("B")), "z is 1.963, and 1.960 is enough");
        let pair = &once.pairs[0];
        assert!((pair.z - 1.963_0).abs() < 1e-3 && pair.p < 0.05 && pair.p == pair.p_holm, "{pair:?}");
        let third = judged(&arms, &at_look(3, 5));
        assert_eq!((third.verdict, third.leader.as_deref()), (Verdict::LeadingNotProven, Some("B")), "2.63 is needed");
        assert!((third.pairs[0].boundary - 2.040 * (5.0f64 / 3.0).sqrt()).abs() < 2e-3, "{:?}", third.pairs[0]);
        assert!(
            third.pairs[0].interval_at_boundary.low < 0.0 && once.pairs[0].interval_at_boundary.low > 0.0,
            "intervals agree"
        );
        let last = judged(&arms, &at_look(5, 5));
        assert_eq!(last.verdict, Verdict::NoDifferenceFound, "and at the last 2.04");
    }

    #[test]
    fn a_small_or_broken_sample_proves_nothing() {
        let clear = |events, contacts| judged(&two((100, 1_000), (events, contacts)), &Rules::default());
        assert_eq!(clear(300, 1_000).verdict, Verdict::Proven, "as it should be");
        assert_eq!(clear(300, 1_200).verdict, Verdict::SampleBroken, "1 000 against 1 200");
        let broken = clear(300, 1_200);
        assert!(
            broken.ratio.as_ref().is_some_and(|r| r.broken && r.p < 1e-4) && broken.winner().is_none(),
            "{broken:?}"
        );
        let few = judged(&two((10, 1_000), (39, 1_000)), &Rules::default());
        assert_eq!((few.verdict, few.arms[0].short, few.leader.as_deref()), (Verdict::NotEnoughData, true, Some("B")));
        let small = judged(&two((100, 499), (200, 499)), &Rules::default());
        assert_eq!(small.verdict, Verdict::NotEnoughData, "499 contacts");
        let none = judged(&two((0, 0), (0, 0)), &Rules::default());
        assert_eq!((none.verdict, none.ratio, none.pairs.len(), none.leader), (Verdict::NotEnoughData, None, 0, None));
        let uneven = [Arm { share: 9.0, ..Arm::new("A", 1_800, 9_000) }, Arm::new("B", 300, 1_000)];
        assert_eq!(judged(&uneven, &Rules::default()).verdict, Verdict::Proven, "shares as they were planned");
    }

    #[test]
    fn an_exact_tie_is_named() {
        let tied = judged(&two((100, 1_000), (110, 1_100)), &Rules::default());
        assert_eq!(
            (tied.verdict, tied.leader, tied.tied),
            (Verdict::NoDifferenceFound, None, vec!["A".into(), "B".into()])
        );
        let three = [Arm::new("A", 300, 1_000), Arm::new("B", 100, 1_000), Arm::new("C", 300, 1_000)];
        let tied = judged(&three, &Rules::default());
        assert_eq!(
            (tied.verdict, tied.tied),
            (Verdict::NoDifferenceFound, vec!["A".into(), "C".into()]),
            "though both beat B"
        );
    }

    #[test]
    fn with_three_arms_the_leader_must_beat_both() {
        let arms = [Arm::new("A", 200, 1_000), Arm::new("B", 260, 1_000), Arm::new("C", 280, 1_000)];
        let close = judged(&arms, &Rules::default());
        assert_eq!((close.verdict, close.leader.as_deref()), (Verdict::LeadingNotProven, Some("C")), "C beats A only");
        let proven: Vec<bool> = close.pairs.iter().map(|pair| pair.significant).collect();
        assert_eq!(proven, [true, true, false], "A-B, A-C, B-C");
        assert!(close.pairs[0].boundary < close.pairs[1].boundary, "the second clearest difference needs less");
        let far = [arms[0].clone(), arms[1].clone(), Arm::new("C", 340, 1_000)];
        assert_eq!(judged(&far, &Rules::default()).winner(), Some("C"), "beats both");
    }

    #[test]
    fn a_variant_that_annoys_cannot_win() {
        let mut arms = [Arm::new("A", 100, 1_000), Arm::new("B", 300, 1_000), Arm::new("C", 200, 1_000)];
        arms[1].complaints = 20;
        arms[1].unsubscribes = 50;
        let judgement = judged(&arms, &Rules::default());
        assert_eq!(judgement.arms[1].guarded, [GuardRail::Complaints, GuardRail::Unsubscribes], "both");
        assert_eq!(judgement.winner(), Some("C"), "proven among those that may win");
        let pair = judged(&arms[..2], &Rules::default());
        assert_eq!(
            (pair.verdict, pair.leader.as_deref()),
            (Verdict::LeadingNotProven, Some("A")),
            "nobody left to beat"
        );
        arms[1] = Arm { complaints: 3, ..Arm::new("B", 300, 1_000) };
        assert!(judged(&arms, &Rules::default()).arms[1].guarded.is_empty(), "three may be chance");
        arms[1].complaints = 20;
        arms[0].unsubscribes = 60;
        let none = judged(&arms[..2], &Rules::default());
        assert_eq!((none.verdict, none.leader), (Verdict::NoneMayWin, None), "each is worse in its way");
    }

    #[test]
    fn an_open_split_goes_by_its_sequence() {
        let open = Rules { looks: Looks::Open { tuned_for: 5_000.0 }, ..Rules::default() };
        let early = judged(&two((120, 1_000), (150, 1_000)), &open);
        assert_eq!(early.verdict, Verdict::LeadingNotProven, "a plain test would claim it");
        let pair = &early.pairs[0];
        assert!(pair.sequence.is_some_and(|s| s.p > 0.05 && s.p == pair.p_holm && s.interval.low < 0.0), "{pair:?}");
        let late = judged(&two((1_200, 10_000), (1_500, 10_000)), &open);
        assert_eq!(late.winner(), Some("B"), "enough by now");
    }

    #[test]
    fn unequal_looks_spend_what_they_may() {
        let rules =
            |look| Rules { looks: Looks::Fractions { look, fractions: vec![0.3, 0.5, 1.0] }, ..Rules::default() };
        let boundary = |look| judged(&two((120, 1_000), (150, 1_000)), &rules(look)).pairs[0].boundary;
        let (first, second, last) = (boundary(1), boundary(2), boundary(3));
        assert!(first > second && second > last && last > 1.96 && last < 2.1, "{first} {second} {last}");
    }

    #[test]
    fn a_judgement_survives_the_journal_and_json() {
        let open = Rules { looks: Looks::Open { tuned_for: 5_000.0 }, ..Rules::default() };
        for rules in [Rules::default(), at_look(2, 4), open] {
            let judgement = judged(&two((120, 1_000), (0, 0)), &rules);
            let full = judged(&two((120, 1_000), (151, 1_003)), &rules);
            for judgement in [judgement, full] {
                let packed = rmp_serde::to_vec(&judgement).expect("packs");
                assert_eq!(rmp_serde::from_slice::<Judgement>(&packed).expect("unpacks"), judgement, "MessagePack");
                let json = serde_json::to_value(&judgement).expect("is JSON");
                assert_eq!(serde_json::from_value::<Judgement>(json).expect("reads"), judgement, "JSON");
            }
        }
    }

    fn arms() -> impl Strategy<Value = Vec<Arm>> {
        let arm = (500u64..5_000, 0.02f64..0.98);
        prop::collection::vec(arm, 2..6).prop_map(|arms| {
            let named = arms.into_iter().enumerate();
            named
                .map(|(i, (n, rate))| Arm {
                    share: n as f64,
                    ..Arm::new(&format!("V{i}"), (n as f64 * rate) as u64, n)
                })
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn the_order_of_arms_does_not_matter(arms in arms(), look in 1u32..=3) {
            let rules = Rules { min_events: 0, ..at_look(look, 3) };
            let turned: Vec<Arm> = arms.iter().rev().cloned().collect();
            let (one, two) = (judged(&arms, &rules), judged(&turned, &rules));
            prop_assert_eq!((one.verdict, &one.leader), (two.verdict, &two.leader), "verdict and leader");
            for pair in &one.pairs {
                let other = two.pairs.iter().find(|p| p.first == pair.second && p.second == pair.first).expect("the pair");
                prop_assert_eq!((pair.z, pair.p_holm, pair.boundary, pair.significant), (-other.z, other.p_holm, other.boundary, other.significant));
            }
        }

        #[test]
        fn with_one_look_the_steps_are_holms(arms in arms(), alpha in 0.001f64..0.2) {
            let rules = Rules { alpha, min_events: 0, ..Rules::default() };
            for pair in judged(&arms, &rules).pairs {
                prop_assert!(pair.significant == (pair.p_holm <= alpha) || (pair.p_holm - alpha).abs() < 1e-9, "{pair:?}");
                prop_assert!(pair.significant == (pair.z.abs() >= pair.boundary), "{pair:?}");
                prop_assert!(pair.diff_ci.low <= pair.diff && pair.diff <= pair.diff_ci.high, "{pair:?}");
            }
        }

        #[test]
        fn what_is_proven_early_is_proven_with_fewer_looks_too(arms in arms(), look in 1u32..=4) {
            let rules = Rules { min_events: 0, ..at_look(look, 4) };
            let early = judged(&arms, &rules);
            let once = judged(&arms, &Rules { min_events: 0, ..Rules::default() });
            prop_assert!(early.winner().is_none() || once.winner() == early.winner(), "one look proves at least as much");
            prop_assert!(early.verdict != Verdict::Proven || early.pairs.iter().any(|p| p.significant), "by a pair");
        }
    }
}
