//! After which parts of what a sample can tell a test is looked at.
//!
//! Equal times are not equal parts: windows are over late and all at once, or, where sending takes long, little by little. What is
//! known of a part is the contacts who are judged by then; the sample is the whole, and what is there at the deadline is all of
//! it. Looks at unequal parts are what Lan & DeMets's spending is for ([`super::boundaries::spending`]): they may depend on how
//! fast contacts are judged, and must not on what they show.
//!
//! Pure; owns no state.

use super::Looks;
use crate::limits::WINNER_LOOK_GAP_MIN;

/// The look at which `judged` contacts of the `sample` are judged, behind looks at which so many `earlier` were. At the
/// deadline (`is_last`) there is no more to come.
pub fn looks_after(earlier: &[u64], judged: u64, sample: u64, is_last: bool) -> Looks {
    let part = |judged: u64| judged as f64 / sample.max(1) as f64;
    let now = if is_last { 1.0 } else { part(judged) };
    let mut parts: Vec<f64> = Vec::new();
    for part in earlier.iter().map(|judged| part(*judged)).chain([now]) {
        let part = if part > 1.0 - WINNER_LOOK_GAP_MIN { 1.0 } else { part.max(WINNER_LOOK_GAP_MIN) };
        // A look that has seen nothing new is the one before.
        if part - parts.last().copied().unwrap_or(0.0) >= WINNER_LOOK_GAP_MIN {
            parts.push(part);
        }
    }
    let look = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    if parts.last() != Some(&1.0) {
        parts.push(1.0);
    }
    Looks::Fractions { look, fractions: parts }
}

#[cfg(test)]
mod tests {
    use super::super::{Arm, Rules, judge};
    use super::*;

    #[test]
    fn a_look_is_as_far_as_what_it_has_seen() {
        let fractions = |look, parts: &[f64]| Looks::Fractions { look, fractions: parts.to_vec() };
        let at = |earlier: &[u64], judged, is_last| looks_after(earlier, judged, 2_000, is_last);
        assert_eq!(at(&[], 200, false), fractions(1, &[0.1, 1.0]), "a tenth of the sample, whatever the hour");
        assert_eq!(at(&[200], 1_000, false), fractions(2, &[0.1, 0.5, 1.0]), "half of it");
        assert_eq!(at(&[], 2_000, false), fractions(1, &[1.0]), "all windows are over: there is no more to come");
        assert_eq!(at(&[2_000], 2_000, false), fractions(1, &[1.0]), "nothing new is no other look");
        assert_eq!(at(&[800, 802], 1_800, true), fractions(2, &[0.4, 1.0]), "the deadline has what there is");
        assert_eq!(at(&[], 0, false), fractions(1, &[WINNER_LOOK_GAP_MIN, 1.0]), "nothing yet");
    }

    #[test]
    fn boundaries_can_be_drawn_after_any_parts() {
        let arms = ["A", "B"].map(|name| Arm::new(name, 100, 1_000));
        for (earlier, judged, is_last) in [(&[][..], 6, false), (&[6], 1_990, false), (&[40, 1_970], 20, true)] {
            let looks = looks_after(earlier, judged, 2_000, is_last);
            let judged = judge(&arms, &Rules { looks: looks.clone(), ..Rules::default() });
            assert!(judged.is_ok(), "{looks:?}: {judged:?}");
        }
    }
}
