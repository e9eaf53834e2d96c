//! What bounds a grant, and the books over what is granted, claimed, marked and ended.
//!
//! Owns nothing of its own. Invariants: FQ-1, FQ-2 and FQ-5 of the parent.

use super::{BATCH_ROWS, DemandKey, FairQueue, Held};
use crate::channels::limits_table::{Scope, scopes_of};
use crate::ids::DeliveryId;
use crate::limits::GRANT_SHARE_MIN;

/// How far a grant may go.
pub(super) struct Room {
    pub(super) rows: u64,
    /// The bound that campaigns share.
    pub(super) shared: u64,
    /// A fair share is rounded up to this.
    pub(super) share_min: u64,
}

impl Room {
    /// Applies one bound: `free` rows of it are left, and less than `need` (or than what waits) is not worth a grant.
    fn narrow(&mut self, free: u64, need: u64, waiting: u64, bound: Held, reserved: &[Held]) -> Result<(), Held> {
        if free < need.min(waiting).clamp(1, BATCH_ROWS) || reserved.contains(&bound) {
            return Err(bound);
        }
        self.rows = self.rows.min(free);
        Ok(())
    }
}

impl FairQueue {
    /// How many rows this demand may be granted by every bound; its own scopes first, then those it shares with all.
    pub(super) fn room(
        &self,
        key: DemandKey,
        waiting: u64,
        unlimited_waits: bool,
        reserved: &[Held],
    ) -> Result<Room, Held> {
        let limited = self.is_limited(key);
        let mut room = Room { rows: u64::MAX, shared: self.credits, share_min: GRANT_SHARE_MIN as u64 };
        let scopes = scopes_of(key.class, key.delivery.run);
        for scope in scopes.iter().rev() {
            let Some(state) = self.scopes.get(scope) else { continue };
            if state.closed {
                return Err(Held::Closed(*scope));
            }
            let Some(max) = state.ahead_max else { continue };
            // Half a window at a time: a grant per freed permit would be a journal frame per message.
            room.narrow(
                max.saturating_sub(state.outstanding),
                max.div_ceil(2),
                waiting,
                Held::Limit(*scope),
                reserved,
            )?;
            room.shared = room.shared.min(max);
            room.share_min = 1;
        }
        if limited && unlimited_waits {
            let half = (self.credits / 2).saturating_sub(self.credits_limited);
            room.narrow(half, 1, waiting, Held::LimitedCredits, reserved)?;
        }
        if !limited {
            let max = self.ahead_max;
            // A quarter at a time, a batch where four fit.
            let need = max.div_ceil(4);
            room.narrow(max.saturating_sub(self.free_ahead), need, waiting, Held::Ahead, reserved)?;
            room.shared = room.shared.min(max);
        }
        let need = if limited { 1 } else { BATCH_ROWS };
        room.narrow(self.credits.saturating_sub(self.credits_out), need, waiting, Held::Credits, reserved)?;
        Ok(room)
    }

    /// Whether a class or campaign limit slows this demand below the connector.
    pub(super) fn is_limited(&self, key: DemandKey) -> bool {
        [Scope::Class(key.class), Scope::Campaign(key.delivery.run)]
            .iter()
            .any(|s| self.scopes.get(s).is_some_and(|s| s.ahead_max.is_some()))
    }

    /// Whether a demand waits that no class or campaign limits.
    pub(super) fn unlimited_waits(&self) -> bool {
        self.runs.iter().any(|(run, r)| {
            r.demands.iter().any(|((index, send, class), d)| {
                let key = DemandKey { delivery: DeliveryId { run: *run, index: *index }, send: *send, class: *class };
                d.waiting > 0 && !self.is_limited(key)
            })
        })
    }

    pub(super) fn unmark(&mut self, key: DemandKey, rows: usize) {
        let Some(out) = self.out.get_mut(&key) else { return };
        let n = out.ahead.min(rows as u64);
        out.ahead -= n;
        for scope in scopes_of(key.class, key.delivery.run) {
            if let Some(state) = self.scopes.get_mut(&scope) {
                state.outstanding = state.outstanding.saturating_sub(n);
            }
        }
        if !self.is_limited(key) {
            self.free_ahead -= n;
        }
        self.forget_if_done(key);
    }

    pub(super) fn credit_back(&mut self, key: DemandKey, rows: usize) {
        let Some(out) = self.out.get_mut(&key) else { return };
        let n = out.credits.min(rows as u64);
        out.credits -= n;
        self.credits_out = self.credits_out.saturating_sub(n);
        if self.is_limited(key) {
            self.credits_limited -= n;
        }
        self.forget_if_done(key);
    }

    fn forget_if_done(&mut self, key: DemandKey) {
        if self.out.get(&key).is_some_and(|o| o.ahead == 0 && o.credits == 0) {
            self.out.remove(&key);
        }
    }

    /// Sums by kind change hands when a scope becomes limited or unlimited.
    pub(super) fn recount(&mut self) {
        let (mut free_ahead, mut credits_limited) = (0, 0);
        for (key, out) in &self.out {
            if self.is_limited(*key) {
                credits_limited += out.credits;
            } else {
                free_ahead += out.ahead;
            }
        }
        self.free_ahead = free_ahead;
        self.credits_limited = credits_limited;
    }
}
