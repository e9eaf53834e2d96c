//! What is judged, and by which rules. Owns no state.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{Proportion, WinnerError, boundaries, normal, sequences};
use crate::limits;

/// One variant of a test, in counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    pub name: String,
    /// Contacts whose message was delivered (on e-mail: accepted and not bounced) and whose window is over.
    pub contacts: u64,
    /// Those of them with at least one human event within their window.
    pub events: u64,
    pub complaints: u64,
    pub unsubscribes: u64,
    /// Part of the sample that the split gives to this arm, in any unit.
    pub share: f64,
    /// Accepted contacts whose window is over, bounced ones too: what the sizes of the sample are compared by. None: as many
    /// as `contacts`.
    #[serde(default)]
    pub sampled: Option<u64>,
}

impl Arm {
    /// An arm with an equal share and nothing to complain of.
    pub fn new(name: &str, events: u64, contacts: u64) -> Arm {
        Arm { name: name.to_owned(), contacts, events, complaints: 0, unsubscribes: 0, share: 1.0, sampled: None }
    }
}

/// When the counts are looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Looks {
    /// Look number `look` (from 1) of `looks` after equal parts of the planned contacts: classical O'Brien–Fleming.
    Planned { look: u32, looks: u32 },
    /// Look number `look` (from 1) of those after these parts of the planned contacts, rising to 1: Lan–DeMets spending.
    Fractions { look: u32, fractions: Vec<f64> },
    /// At any time, as often as one likes: confidence sequences, narrowest at this many contacts of two arms.
    Open { tuned_for: f64 },
}

impl Looks {
    /// One look, at the end.
    pub const ONCE: Looks = Looks::Planned { look: 1, looks: 1 };

    /// Whether no further look is planned.
    pub fn is_last(&self) -> bool {
        match self {
            Looks::Planned { look, looks } => look >= looks,
            Looks::Fractions { look, fractions } => *look as usize >= fractions.len(),
            Looks::Open { .. } => false,
        }
    }

    /// Standard errors that two arms must be apart now for a claim at `level`; `alpha` is that of the whole test.
    pub(super) fn boundary(&self, first: Proportion, second: Proportion, alpha: f64, level: f64) -> f64 {
        let (boundaries, look) = match self {
            Looks::Planned { look, looks: 1 } => (vec![normal::two_sided_quantile(level)], *look),
            Looks::Planned { look, looks } => (boundaries::obrien_fleming(*looks, level), *look),
            Looks::Fractions { look, fractions } => (boundaries::spending(fractions, level), *look),
            Looks::Open { tuned_for } => return sequences::boundary(first, second, alpha, *tuned_for, level),
        };
        // a look beyond the planned ones was refused; the last boundary is the one in force then
        let index = (look.max(1) as usize - 1).min(boundaries.len() - 1);
        boundaries[index]
    }

    fn check(&self) -> Result<(), WinnerError> {
        let (look, looks) = match self {
            Looks::Planned { look, looks } => (*look, u64::from(*looks)),
            Looks::Fractions { look, fractions } => (*look, fractions.len() as u64),
            Looks::Open { tuned_for } if tuned_for.is_finite() && *tuned_for >= 1.0 => return Ok(()),
            Looks::Open { tuned_for } => return Err(WinnerError::TunedFor { tuned_for: *tuned_for }),
        };
        if looks == 0 || looks > u64::from(limits::WINNER_LOOKS_MAX) {
            return Err(WinnerError::Looks { looks });
        }
        if look == 0 || u64::from(look) > looks {
            return Err(WinnerError::Look { look, looks: looks as u32 });
        }
        match self {
            Looks::Fractions { fractions, .. } => check_fractions(fractions),
            _ => Ok(()),
        }
    }
}

fn check_fractions(fractions: &[f64]) -> Result<(), WinnerError> {
    let mut before = 0.0;
    for (index, fraction) in fractions.iter().enumerate() {
        let last = index + 1 == fractions.len();
        // some tolerance: 0.03 - 0.02 is not 0.01 in binary
        let rises = *fraction - before >= limits::WINNER_LOOK_GAP_MIN * 0.999;
        if !rises || *fraction > 1.0 || last != (*fraction == 1.0) {
            return Err(WinnerError::Fraction { look: index + 1, fraction: *fraction });
        }
        before = *fraction;
    }
    Ok(())
}

/// How counts are judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// Chance that any claim is wrong, over all pairs and looks; intervals have confidence 1 - alpha.
    pub alpha: f64,
    pub looks: Looks,
    /// Delivered and matured contacts that every arm needs.
    pub min_contacts: u64,
    /// Events that every arm needs.
    pub min_events: u64,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            alpha: limits::WINNER_ALPHA,
            looks: Looks::ONCE,
            min_contacts: limits::WINNER_DELIVERED_MIN,
            min_events: limits::WINNER_EVENTS_MIN,
        }
    }
}

pub(super) fn check_alpha(alpha: f64) -> Result<(), WinnerError> {
    if (limits::WINNER_ALPHA_MIN..=0.5).contains(&alpha) { Ok(()) } else { Err(WinnerError::Alpha { alpha }) }
}

pub(super) fn check(arms: &[Arm], rules: &Rules) -> Result<(), WinnerError> {
    if arms.len() < 2 || arms.len() > limits::WINNER_ARMS_MAX {
        return Err(WinnerError::Arms { count: arms.len() });
    }
    let mut names = HashSet::new();
    for arm in arms {
        check_arm(arm)?;
        if !names.insert(arm.name.as_str()) {
            return Err(WinnerError::SameName { name: arm.name.clone() });
        }
    }
    check_alpha(rules.alpha)?;
    rules.looks.check()
}

fn check_arm(arm: &Arm) -> Result<(), WinnerError> {
    if arm.name.is_empty() || arm.name.len() > limits::NAME_BYTES_MAX {
        return Err(WinnerError::Name);
    }
    if arm.contacts > limits::WINNER_CONTACTS_MAX {
        return Err(WinnerError::TooManyContacts { arm: arm.name.clone(), contacts: arm.contacts });
    }
    for (what, events) in [("events", arm.events), ("complaints", arm.complaints), ("unsubscribes", arm.unsubscribes)] {
        if events > arm.contacts {
            return Err(WinnerError::MoreThanContacts { arm: arm.name.clone(), what, events, contacts: arm.contacts });
        }
    }
    if limits::WINNER_SHARE.contains(&arm.share) {
        return Ok(());
    }
    Err(WinnerError::Share { arm: arm.name.clone(), share: arm.share })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_input_is_named() {
        let arms = [Arm::new("A", 10, 100), Arm::new("B", 10, 100)];
        let refused = |arms: &[Arm], rules: &Rules| check(arms, rules).expect_err("refused").to_string();
        let rules = |looks: Looks| Rules { looks, ..Rules::default() };
        assert_eq!(check(&arms, &Rules::default()), Ok(()), "the defaults are right");
        assert!(refused(&arms[..1], &Rules::default()).starts_with("1 arms"), "one arm");
        assert!(refused(&vec![arms[0].clone(); 27], &Rules::default()).starts_with("27 arms"), "27 arms");
        assert_eq!(refused(&[arms[0].clone(), arms[0].clone()], &Rules::default()), "arm \"A\" is named twice");
        let complaints = Arm { complaints: 101, ..arms[1].clone() };
        assert!(
            refused(&[arms[0].clone(), complaints], &Rules::default()).starts_with("B: 101 complaints of 100"),
            "complaints"
        );
        let share = Arm { share: f64::NAN, ..arms[1].clone() };
        assert!(refused(&[arms[0].clone(), share], &Rules::default()).contains("share NaN of B"), "share");
        assert!(refused(&arms, &Rules { alpha: f64::NAN, ..Rules::default() }).starts_with("alpha NaN"), "alpha");
        for (looks, text) in [
            (Looks::Planned { look: 6, looks: 5 }, "look 6 is not one of the 5 planned"),
            (Looks::Planned { look: 0, looks: 5 }, "look 0 is not one"),
            (Looks::Planned { look: 1, looks: 21 }, "21 looks"),
            (Looks::Planned { look: 1, looks: 0 }, "0 looks"),
            (Looks::Fractions { look: 1, fractions: vec![] }, "0 looks"),
            (Looks::Fractions { look: 1, fractions: vec![0.5, 0.9] }, "fraction 0.9 of look 2"),
            (Looks::Fractions { look: 1, fractions: vec![0.5, 0.5, 1.0] }, "fraction 0.5 of look 2"),
            (Looks::Fractions { look: 1, fractions: vec![f64::NAN, 1.0] }, "fraction NaN of look 1"),
            (Looks::Open { tuned_for: f64::INFINITY }, "a sequence cannot be tuned"),
        ] {
            assert!(refused(&arms, &rules(looks.clone())).starts_with(text), "{looks:?}");
        }
        let fractions = Looks::Fractions { look: 2, fractions: vec![0.2, 0.3, 1.0] };
        assert_eq!(check(&arms, &rules(fractions)), Ok(()), "unequal parts");
    }
}
