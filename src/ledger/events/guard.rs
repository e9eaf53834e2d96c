//! The guard of a run: too many hard bounces or complaints pause it, until a person has looked.
//!
//! A pure function over the run's sets. Rule: hard bounces ÷ attempted (accepted and rejected rows), and complaints ÷ accepted, each
//! once its denominator has reached the minimum. A resume begins to count anew: only what came since then counts, the minimum
//! included, so that the same events never pause a run twice.
//!
//! Must not know: the wall clock, who resumes.

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

pub use crate::campaigns::auto_pause::{GuardRule, WHOLE};
use crate::clock::Timestamp;
use crate::ids::RunId;
use crate::ledger::{RejectClass, Run, RunState};

/// What the rule reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardFigures {
    pub attempted: u64,
    pub hard_bounces: u64,
    pub accepted: u64,
    pub complaints: u64,
}

impl GuardFigures {
    pub fn of(run: &Run) -> GuardFigures {
        let mut sum = GuardFigures::default();
        for delivery in &run.deliveries {
            let counts = delivery.counts();
            let refused = delivery.rejected.get(&RejectClass::HardBounce);
            sum.hard_bounces += refused.map_or(0, RoaringBitmap::len);
            sum.attempted += counts.accepted + counts.rejected;
            sum.accepted += counts.accepted;
            for feedback in run.sends_with(delivery.id.index).filter_map(|send| run.feedback_of(send)) {
                let hard = &feedback.hard.rows;
                sum.hard_bounces += hard.len() - refused.map_or(0, |rows| rows.intersection_len(hard));
                sum.complaints += feedback.complained.rows.len();
            }
        }
        sum
    }

    /// What came since `earlier`.
    fn since(&self, earlier: &GuardFigures) -> GuardFigures {
        GuardFigures {
            attempted: self.attempted.saturating_sub(earlier.attempted),
            hard_bounces: self.hard_bounces.saturating_sub(earlier.hard_bounces),
            accepted: self.accepted.saturating_sub(earlier.accepted),
            complaints: self.complaints.saturating_sub(earlier.complaints),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseCause {
    HardBounces,
    Complaints,
}

impl PauseCause {
    pub const ALL: [PauseCause; 2] = [PauseCause::HardBounces, PauseCause::Complaints];

    pub fn name(self) -> &'static str {
        match self {
            PauseCause::HardBounces => "hard_bounces",
            PauseCause::Complaints => "complaints",
        }
    }
}

/// A run was paused by its guard: `counted` of `out_of` is more than `limit` hundredths of a per cent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoPaused {
    pub run: RunId,
    pub cause: PauseCause,
    pub counted: u64,
    pub out_of: u64,
    pub limit: u32,
    pub at: Timestamp,
}

impl AutoPaused {
    /// One sentence for people, with the numbers.
    pub fn reason(&self) -> String {
        let per_cent = |part: u64, whole: u64| part as f64 * 100.0 / whole.max(1) as f64;
        let (what, of) = match self.cause {
            PauseCause::HardBounces => ("hard bounces", "attempted"),
            PauseCause::Complaints => ("complaints", "accepted"),
        };
        format!(
            "paused by itself: {} {what} of {} {of} are {:.2} %, more than {} %; look into it, then resume",
            self.counted,
            self.out_of,
            per_cent(self.counted, self.out_of),
            per_cent(u64::from(self.limit), WHOLE)
        )
    }
}

/// What a run remembers of its guard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunGuard {
    /// The figures when a person last resumed after the guard had paused it.
    #[serde(default)]
    pub since: GuardFigures,
    /// Why it stands, while it does.
    #[serde(default)]
    pub paused: Option<AutoPaused>,
    /// How often it has paused the run.
    #[serde(default)]
    pub pauses: u32,
}

/// Whether the guard pauses the run now.
pub fn judge(run: &Run, rule: &GuardRule, at: Timestamp) -> Option<AutoPaused> {
    if run.state != RunState::Running || rule.hard_bounces.is_none() && rule.complaints.is_none() {
        return None;
    }
    let now = GuardFigures::of(run).since(&run.guard.since);
    let over = |cause, limit: Option<u32>, counted: u64, out_of: u64| {
        let limit = limit?;
        let too_many = u128::from(counted) * u128::from(WHOLE) > u128::from(out_of) * u128::from(limit);
        (out_of >= rule.minimum.max(1) && too_many).then_some(AutoPaused {
            run: run.id,
            cause,
            counted,
            out_of,
            limit,
            at,
        })
    };
    let complaints = over(PauseCause::Complaints, rule.complaints, now.complaints, now.accepted);
    complaints.or_else(|| over(PauseCause::HardBounces, rule.hard_bounces, now.hard_bounces, now.attempted))
}

impl Run {
    pub(crate) fn apply_auto_paused(&mut self, fact: &AutoPaused) {
        self.state = RunState::Paused;
        self.pauses.note(RunState::Paused, fact.at);
        self.reason = fact.reason();
        self.guard.pauses = self.guard.pauses.saturating_add(1);
        self.guard.paused = Some(fact.clone());
    }

    /// The run leaves a state; a resume after the guard's pause begins to count anew.
    pub(crate) fn note_resume(&mut self, to: RunState) {
        if self.guard.paused.is_some() && to == RunState::Running {
            self.guard.since = GuardFigures::of(self);
        }
        if to != RunState::Paused {
            self.guard.paused = None;
        }
    }
}
