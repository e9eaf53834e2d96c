//! The control group: who of the eligible gets nothing, so that there is somebody to compare with.
//!
//! Owns no state. It is cut at the start of a run, by rank of a keyed hash, and so is exactly as large as asked for and
//! independent of every split of the run. The fact that starts the run says who is in it; it is never computed again. Held-out
//! contacts are skipped in every delivery that is entered at the start and never walk the flow, so that they get no later
//! message of the run either.

use roaring::RoaringBitmap;

use crate::engine::EngineError;
use crate::flow::NodeId;
use crate::flow::nodes::SampleSize;
use crate::flow::split::{SplitKey, rank};
use crate::ids::RunId;
use crate::segments::audience::{AudienceSummary, Eligibility};
use crate::segments::skip::SkipReason;

/// No node has this id, so that no split of a run has this key.
const NODE: NodeId = NodeId(u32::MAX);

/// The control group of a run that is being prepared: cut from the first delivery that is entered, and left out of all.
pub struct Group {
    run: RunId,
    size: Option<SampleSize>,
    rows: Option<RoaringBitmap>,
}

impl Group {
    pub fn new(run: RunId, size: Option<SampleSize>) -> Group {
        Group { run, size, rows: None }
    }

    /// Moves the group from the eligible of a delivery to the skipped.
    pub fn leave_out(
        &mut self,
        summary: &mut AudienceSummary,
        eligibility: &mut Eligibility,
    ) -> Result<(), EngineError> {
        let Some(size) = self.size else { return Ok(()) };
        let group = match self.rows.take() {
            Some(rows) => rows,
            None => {
                let held = size.of(eligibility.eligible.len());
                let sizes = [held, eligibility.eligible.len() - held];
                let parts = rank::cut(&SplitKey::new(self.run, NODE), &eligibility.eligible, &sizes)?;
                parts.into_iter().next().unwrap_or_default()
            }
        };
        let held = &group & &eligibility.eligible;
        self.rows = Some(group);
        if !held.is_empty() {
            (summary.hold_out, summary.final_count) = (held.len(), summary.final_count - held.len());
            eligibility.eligible -= &held;
            let at = eligibility.skipped.partition_point(|(reason, _)| *reason < SkipReason::HoldOut);
            eligibility.skipped.insert(at, (SkipReason::HoldOut, held));
        }
        Ok(())
    }
}

/// The group as it was left out of a delivery, if it was.
pub fn group_of(eligibility: &Eligibility) -> Option<&RoaringBitmap> {
    eligibility.skipped.iter().find(|(reason, _)| *reason == SkipReason::HoldOut).map(|(_, rows)| rows)
}

/// Counts the control group in a summary, for a look before the start.
pub fn count(size: SampleSize, summary: &mut AudienceSummary) {
    let held = size.of(summary.final_count);
    (summary.hold_out, summary.final_count) = (held, summary.final_count - held);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_out(run: u32, eligible: u32, size: SampleSize) -> (AudienceSummary, Eligibility) {
        let eligible: RoaringBitmap = (0..eligible).map(|row| row * 3).collect();
        let mut summary =
            AudienceSummary { matched: eligible.len(), final_count: eligible.len(), ..AudienceSummary::default() };
        let mut eligibility = Eligibility { eligible, skipped: Vec::new() };
        let mut group = Group::new(RunId(run), Some(size));
        group.leave_out(&mut summary, &mut eligibility).expect("it is cut");
        let mut again = Eligibility { eligible: eligibility.eligible.clone(), skipped: Vec::new() };
        group.leave_out(&mut summary.clone(), &mut again).expect("it is left out");
        assert_eq!(again.eligible, eligibility.eligible, "the same people in a second delivery");
        (summary, eligibility)
    }

    #[test]
    fn the_group_is_exact_random_and_the_same_for_a_run() {
        let (summary, eligibility) = held_out(1, 10_003, SampleSize::Share(1_000));
        let [(SkipReason::HoldOut, group)] = &eligibility.skipped[..] else { panic!("one group") };
        assert_eq!((group.len(), summary.hold_out, summary.final_count), (1_000, 1_000, 9_003), "a tenth, cut");
        assert!(group.is_disjoint(&eligibility.eligible), "nobody is in both");
        assert!((400..600).contains(&group.iter().filter(|row| *row < 15_000).count()), "from all over");
        assert_eq!(held_out(1, 10_003, SampleSize::Share(1_000)).1, eligibility, "the same run, the same group");
        assert_ne!(held_out(2, 10_003, SampleSize::Share(1_000)).1, eligibility, "another run, another");
    }

    #[test]
    fn more_than_there_are_is_all_and_nobody_is_no_group() {
        let (summary, eligibility) = held_out(1, 5, SampleSize::Contacts(50));
        assert_eq!((summary.hold_out, summary.final_count, eligibility.eligible.len()), (5, 0, 0), "all five");
        assert!(held_out(1, 0, SampleSize::Share(1_000)).1.skipped.is_empty(), "no empty set");
    }
}
