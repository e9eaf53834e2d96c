//! Campaigns whose truth is known, judged look by look: how often a difference is claimed that is not there, and how often
//! one is found that is.
//!
//! Seeds are fixed and printed: each figure is the same in every run. Bounds are those of the promise plus three standard
//! errors of the number of campaigns.

use estafette::flow::winner::plan::Wanted;
use estafette::flow::winner::{
    Arm, Decision, Looks, OnNotProven, Proportion, Rules, Verdict, decide, judge, looks_after, plan, proportions,
};

use crate::rng::Rng;

const SEED: u64 = 20_261_122;
const CAMPAIGNS: u32 = 1_000;
const ALPHA: f64 = 0.05;

/// A test that is looked at when this many contacts of each arm have matured.
struct Design<'a> {
    rates: &'a [f64],
    looks_at: Vec<u64>,
    looks: fn(u32, u32) -> Looks,
}

/// `count` looks after equal parts of the contacts.
fn equally(contacts: u64, count: u32) -> Vec<u64> {
    (1..=u64::from(count)).map(|look| (contacts * look).div_ceil(u64::from(count))).collect()
}

/// Runs one campaign to its end and answers the arm that was proven to win.
fn winner(design: &Design, rng: &mut Rng) -> Option<usize> {
    let mut arms: Vec<Arm> = (0..design.rates.len()).map(|index| Arm::new(&index.to_string(), 0, 0)).collect();
    let count = u32::try_from(design.looks_at.len()).expect("few looks");
    for (look, contacts) in (1..).zip(&design.looks_at) {
        for (arm, rate) in arms.iter_mut().zip(design.rates) {
            arm.events += (arm.contacts..*contacts).map(|_| u64::from(rng.chance(*rate))).sum::<u64>();
            arm.contacts = *contacts;
        }
        let rules = Rules { alpha: ALPHA, looks: (design.looks)(look, count), ..Rules::default() };
        let judgement = judge(&arms, &rules).expect("counts are right");
        match decide(&judgement, look == count, &OnNotProven::Wait) {
            Decision::Send { variant, proven, .. } => {
                assert!(proven, "only what is proven is sent: {judgement:?}");
                return Some(variant.parse().expect("the number of an arm"));
            }
            Decision::Continue => assert!(look < count, "the last look decides"),
            Decision::WaitForPerson(_) | Decision::SendNobody => assert_eq!(look, count, "not before the deadline"),
        }
    }
    None
}

/// Part of the campaigns in which a winner was proven that `counts`.
fn share(name: &str, design: &Design, counts: impl Fn(usize) -> bool) -> f64 {
    let mut rng = Rng::new(SEED).stream(name);
    let found = (0..CAMPAIGNS).filter(|_| winner(design, &mut rng).is_some_and(&counts)).count();
    let share = found as f64 / f64::from(CAMPAIGNS);
    eprintln!("{name}: {found} of {CAMPAIGNS} campaigns, seed {SEED}");
    share
}

/// Three standard errors of a share of the campaigns.
fn error(share: f64) -> f64 {
    3.0 * (share * (1.0 - share) / f64::from(CAMPAIGNS)).sqrt()
}

fn planned(look: u32, looks: u32) -> Looks {
    Looks::Planned { look, looks }
}

fn assert_claims_at_most_alpha(name: &str, design: &Design) {
    let wrong = share(name, design, |_| true);
    assert!(wrong <= ALPHA + error(ALPHA), "{name}: {wrong} of the campaigns claim a difference that is not there");
}

#[test]
fn equal_arms_are_told_apart_no_more_often_than_alpha() {
    let two = Design { rates: &[0.2, 0.2], looks_at: equally(2_500, 5), looks: planned };
    assert_claims_at_most_alpha("two arms, five looks", &two);
    let three = Design { rates: &[0.1; 3], looks_at: equally(2_400, 4), looks: planned };
    assert_claims_at_most_alpha("three arms, four looks", &three);
    let once = Design { rates: &[0.2, 0.2], looks_at: vec![2_000], looks: planned };
    assert_claims_at_most_alpha("two arms, one look", &once);
}

#[test]
fn unequal_and_open_looks_claim_no_more_either() {
    let fractions = |look, _| Looks::Fractions { look, fractions: vec![0.3, 0.4, 1.0] };
    let unequal = Design { rates: &[0.2, 0.2], looks_at: vec![750, 1_000, 2_500], looks: fractions };
    assert_claims_at_most_alpha("two arms, three unequal looks", &unequal);
    let open = |_, _| Looks::Open { tuned_for: 5_000.0 };
    let often = Design { rates: &[0.2, 0.2], looks_at: equally(3_000, 30), looks: open };
    assert_claims_at_most_alpha("two arms, thirty looks at an open split", &often);
    let arms = Design { rates: &[0.2; 4], looks_at: equally(2_000, 10), looks: open };
    assert_claims_at_most_alpha("four arms, ten looks at an open split", &arms);
}

/// The simulation can fail: a plain test at every look claims far too much.
#[test]
fn a_plain_test_at_every_look_would_break_the_bound() {
    let mut rng = Rng::new(SEED).stream("plain");
    let claims = |rng: &mut Rng| {
        let (mut one, mut two) = (0, 0);
        (1..=5u64).any(|look| {
            one += (0..500).filter(|_| rng.chance(0.2)).count() as u64;
            two += (0..500).filter(|_| rng.chance(0.2)).count() as u64;
            let of = |events| Proportion::new("arm", events, 500 * look).expect("counts are right");
            proportions::two_proportion_z(of(one), of(two)).p <= ALPHA
        })
    };
    let wrong = (0..CAMPAIGNS).filter(|_| claims(&mut rng)).count() as f64 / f64::from(CAMPAIGNS);
    eprintln!("a plain test at five looks: {wrong}, seed {SEED}");
    // 0.142 by Armitage, McPherson & Rowe 1969
    assert!((wrong - 0.142).abs() < error(0.142), "five plain looks claim {wrong}");
}

#[test]
fn the_planned_size_finds_the_lift_as_often_as_planned() {
    for (looks, lift) in [(1, 0.04), (5, 0.04), (3, 0.06)] {
        let wanted = Wanted { base: 0.2, lift, power: 0.8, alpha: ALPHA, arms: 2, looks };
        let size = plan(&wanted).expect("a plan").contacts_per_arm;
        let design = Design { rates: &[0.2, 0.2 + lift], looks_at: equally(size, looks), looks: planned };
        let name = format!("{looks} looks at a lift of {lift}, {size} contacts an arm");
        let found = share(&name, &design, |arm| arm == 1);
        assert!(found >= 0.8 - error(0.8), "{name}: found in {found} of the campaigns");
        assert!(found <= 0.8 + error(0.8) + 0.02, "{name}: found in {found}; the size is larger than it must be");
    }
}

/// Any pair at any look counts here, not only a winner that is ahead of all others.
#[test]
fn no_pair_of_several_equal_arms_is_told_apart_more_often_than_alpha() {
    let mut rng = Rng::new(SEED).stream("any pair");
    let claims = |rng: &mut Rng| {
        let mut arms: Vec<Arm> = (0..4).map(|index| Arm::new(&format!("arm {index}"), 0, 0)).collect();
        (1..=4).any(|look| {
            for arm in &mut arms {
                arm.events += (0..500).map(|_| u64::from(rng.chance(0.2))).sum::<u64>();
                arm.contacts += 500;
            }
            let rules = Rules { alpha: ALPHA, looks: planned(look, 4), ..Rules::default() };
            judge(&arms, &rules).expect("counts are right").pairs.iter().any(|pair| pair.significant)
        })
    };
    let wrong = (0..CAMPAIGNS).filter(|_| claims(&mut rng)).count();
    eprintln!("any of six pairs at four looks: {wrong} of {CAMPAIGNS} campaigns, seed {SEED}");
    let share = wrong as f64 / f64::from(CAMPAIGNS);
    assert!(share <= ALPHA + error(ALPHA), "{share} of the campaigns claim a difference that is not there");
}

/// Each of several pairs has the planned power, though alpha is shared by all.
#[test]
fn with_three_arms_the_better_one_is_found_against_each_other_one() {
    let wanted = Wanted { base: 0.2, lift: 0.05, power: 0.9, alpha: ALPHA, arms: 3, looks: 1 };
    let size = plan(&wanted).expect("a plan").contacts_per_arm;
    let design = Design { rates: &[0.2, 0.2, 0.25], looks_at: vec![size], looks: planned };
    let found = share("three arms, one of them better", &design, |arm| arm == 2);
    // both pairs at once: at least 1 - 2 · 0.1
    assert!(found >= 0.8 - error(0.8), "found in {found} of the campaigns");
}

/// How fast the contacts of each arm come to be judged: as many at each look, the last at the deadline.
struct Pace(Vec<Vec<u64>>);

/// Looks at equal times, and windows that are over late, all at once or little by little, of one arm before the other's, and
/// of those who bounced never.
fn pace(arms: usize, contacts: u64, rng: &mut Rng) -> Pace {
    let looks = rng.between(2, 6);
    let whole: Vec<u64> = (0..arms).map(|_| contacts - rng.below(contacts / 10)).collect();
    let mut judged = vec![0; arms];
    let each = (1..=looks).map(|look| {
        for (judged, whole) in judged.iter_mut().zip(&whole) {
            // Nothing, something, or nearly everything that is left.
            let part = [0, rng.below(40), rng.below(100)][rng.below(3) as usize];
            *judged = if look == looks { *whole } else { *judged + (*whole - *judged) * part / 100 };
        }
        judged.clone()
    });
    Pace(each.collect())
}

/// Runs one campaign of equal arms as the engine does, and answers whether a winner was proven.
fn claims(pace: &Pace, contacts: u64, rng: &mut Rng) -> bool {
    let arms = pace.0.first().map_or(0, Vec::len);
    let sample = contacts * arms as u64;
    let mut counted: Vec<Arm> = (0..arms).map(|index| Arm::new(&index.to_string(), 0, 0)).collect();
    let mut earlier = Vec::new();
    pace.0.iter().zip(1..).any(|(judged, look)| {
        for (arm, judged) in counted.iter_mut().zip(judged) {
            arm.events += (arm.contacts..*judged).map(|_| u64::from(rng.chance(0.2))).sum::<u64>();
            arm.contacts = *judged;
        }
        let is_last = look == pace.0.len();
        if !is_last && judged.contains(&0) {
            return false;
        }
        let now = judged.iter().sum();
        let looks = looks_after(&earlier, now, sample, is_last);
        earlier.push(now);
        let rules = Rules { alpha: ALPHA, looks, min_contacts: 100, min_events: 10 };
        // Who is judged when is no matter of the sample's sizes, which are held against those who were sent to.
        counted.iter_mut().for_each(|arm| arm.sampled = Some(contacts));
        matches!(judge(&counted, &rules).expect("counts are right").verdict, Verdict::Proven)
    })
}

/// A/A campaigns at whatever parts of the information their looks fall: boundaries are drawn by who is judged.
#[test]
fn equal_arms_that_are_judged_at_unequal_paces_are_told_apart_no_more_often_than_alpha() {
    const PACES: u32 = 25;
    const CONTACTS: u64 = 1_500;
    for arms in [2, 3] {
        let mut rng = Rng::new(SEED).stream(&format!("paces of {arms} arms"));
        let mut wrong = 0;
        let mut parts = 0;
        for _ in 0..PACES {
            let pace = pace(arms, CONTACTS, &mut rng);
            parts += pace.0.len();
            wrong += (0..CAMPAIGNS / PACES).filter(|_| claims(&pace, CONTACTS, &mut rng)).count();
        }
        eprintln!("{arms} arms, {PACES} paces, {parts} looks: {wrong} of {CAMPAIGNS} campaigns, seed {SEED}");
        let share = wrong as f64 / f64::from(CAMPAIGNS);
        assert!(share <= ALPHA + error(ALPHA), "{arms} arms: {share} claim a difference that is not there");
    }
}
