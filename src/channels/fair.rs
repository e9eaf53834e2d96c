//! Who may claim next: weighted fair queueing over the campaigns of one connector, asked *before* anything is claimed.
//!
//! Owns, per connector: what campaigns wait with, the rows granted or claimed and not yet marked, and the credits. No
//! clock: the time is passed in. Start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996): each run has a tag that grows
//! by rows ÷ weight with every grant; the run with the smallest tag is next; a run that comes back starts at the present.
//!
//! Invariants:
//! - FQ-1 rows granted or claimed and unmarked in a limited scope ≤ max(1, rate × `CLAIM_AHEAD`): a throttled scope holds
//!   no more, and rows of scopes without a limit ≤ what [`FairQueue::set_ahead`] allows, at most `BATCHES_AHEAD` batches.
//! - FQ-2 credits out ≤ credits; rows of limited scopes hold at most half of them while others wait.
//! - FQ-3 between two grants of a waiting run any other run is granted at most its weight's share plus one batch.
//! - FQ-4 a grant that is not used within `GRANT_UNUSED_MAX` is void, and everything it held is free again.
//! - FQ-5 what is refused is passed over, never waited for: a demand that cannot be granted delays no other.
//! - FQ-6 while several sends of a delivery wait, each grant is one turn: a small part of what its send waits with; sends
//!   that wait with as much as each other are never further apart than a turn.
//!
//! Must not know bitmaps, the journal, lanes, or the limits' pacing (only their long-run rate).

use std::collections::{BTreeMap, HashMap};

use smallvec::SmallVec;

use super::limits_table::{ClassId, Scope, scopes_of};
use crate::clock::Monotonic;
use crate::flow::NodeId;
use crate::ids::{DeliveryId, RunId};
use crate::limits::{
    BATCH_CONTACTS_MAX, BATCHES_AHEAD, CLAIM_AHEAD, GRANT_TURN_MIN, GRANT_TURN_PARTS, GRANT_TURN_RARER_MAX,
    GRANT_UNUSED_MAX,
};

/// A queue of waiting rows: one send's rows of one destination class. The sends of a run take turns, so that the arms of a
/// test are interleaved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DemandKey {
    pub delivery: DeliveryId,
    /// The send node whose message the rows get.
    pub send: NodeId,
    pub class: ClassId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantId(pub u64);

/// The channel's word that `rows` rows may be claimed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub id: GrantId,
    pub key: DemandKey,
    pub rows: usize,
}

/// Why a demand gets no grant now; what reports say about a stall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Unanswered claims use up the connector's credits.
    Credits,
    /// Rows of limited scopes hold their half of the credits while others wait.
    LimitedCredits,
    /// Enough is claimed ahead of the lanes.
    Ahead,
    /// This scope's limit.
    Limit(Scope),
    /// Its scope is closed (circuit open, paused, draining).
    Closed(Scope),
}

#[derive(Clone, Debug)]
struct Demand {
    /// Rows that wait and are not granted.
    waiting: u64,
    /// Order within the run: rows granted so far, each counted as [`Turn::counts`] says.
    tag: u64,
}

/// How far one demand may go before the next of its run.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Most rows of a grant.
    rows: u64,
    /// So many rows of the tag are `per` rows granted.
    counts: u64,
    per: u64,
}

impl Turn {
    const BATCH: Turn = Turn { rows: BATCH_ROWS, counts: 1, per: 1 };
}

#[derive(Clone, Debug)]
struct Run {
    weight: u32,
    /// Virtual finish time of its last grant, in rows × `TAG_UNIT` ÷ weight.
    tag: u64,
    demands: BTreeMap<(u16, NodeId, ClassId), Demand>,
}

#[derive(Clone, Debug, Default)]
struct ScopeState {
    /// `None` is unlimited.
    ahead_max: Option<u64>,
    /// Granted or claimed, and not marked.
    outstanding: u64,
    closed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    key: DemandKey,
    rows: usize,
    expires: Monotonic,
}

mod bounds;

const BATCH_ROWS: u64 = BATCH_CONTACTS_MAX as u64;
/// Rows × unit ÷ weight stays exact enough for weights up to 10 000.
const TAG_UNIT: u64 = 1 << 16;
/// Heaviest campaign.
pub const WEIGHT_MAX: u32 = 10_000;

/// The fair queue of one connector. See the module's docs.
#[derive(Clone, Debug)]
pub struct FairQueue {
    runs: BTreeMap<RunId, Run>,
    scopes: HashMap<Scope, ScopeState>,
    grants: BTreeMap<GrantId, Open>,
    next_grant: u64,
    /// Virtual time: the start tag of the newest grant.
    virtual_time: u64,
    credits: u64,
    credits_out: u64,
    out: HashMap<DemandKey, Out>,
    /// Of `credits_out`, rows of demands with a limited scope below the connector.
    credits_limited: u64,
    /// Granted or claimed and unmarked rows of demands that no class or campaign limits.
    free_ahead: u64,
    /// Most of `free_ahead`.
    ahead_max: u64,
}

/// What one demand holds.
#[derive(Clone, Copy, Debug, Default)]
struct Out {
    /// Granted or claimed, and not marked.
    ahead: u64,
    /// Granted or claimed, and not durably ended.
    credits: u64,
}

impl FairQueue {
    /// `credits` in rows.
    pub fn new(credits: usize) -> FairQueue {
        FairQueue {
            runs: BTreeMap::new(),
            scopes: HashMap::new(),
            grants: BTreeMap::new(),
            next_grant: 1,
            virtual_time: 0,
            credits: credits as u64,
            credits_out: 0,
            out: HashMap::new(),
            credits_limited: 0,
            free_ahead: 0,
            ahead_max: (BATCHES_AHEAD * BATCH_CONTACTS_MAX) as u64,
        }
    }

    /// How many rows wait in this queue now, beside those granted or claimed. Zero removes the queue.
    pub fn set_demand(&mut self, key: DemandKey, waiting: u64, weight: u32) {
        let virtual_time = self.virtual_time;
        let run = self.runs.entry(key.delivery.run).or_insert_with(|| Run {
            weight: 1,
            tag: virtual_time,
            demands: BTreeMap::new(),
        });
        run.weight = weight.clamp(1, WEIGHT_MAX);
        let place = (key.delivery.index, key.send, key.class);
        if waiting == 0 {
            run.demands.remove(&place);
            return;
        }
        if run.demands.is_empty() {
            run.tag = run.tag.max(virtual_time);
        }
        let start = run.demands.values().map(|d| d.tag).min().unwrap_or(0);
        run.demands.entry(place).or_insert(Demand { waiting, tag: start }).waiting = waiting;
    }

    /// Forgets a run that waits for nothing more; what it has outstanding is still counted until it ends.
    pub fn remove_run(&mut self, run: RunId) {
        self.runs.remove(&run);
    }

    /// Long-run permits per second of a scope; `None` is unlimited.
    pub fn set_rate(&mut self, scope: Scope, per_second: Option<f64>) {
        let ahead_max = per_second.map(|rate| ((rate * CLAIM_AHEAD.as_secs_f64()) as u64).max(1));
        let state = self.scopes.entry(scope).or_default();
        let turned = state.ahead_max.is_some() != ahead_max.is_some();
        state.ahead_max = ahead_max;
        if turned {
            self.recount();
        }
    }

    /// Forgets a scope that nothing will be granted in any more.
    pub fn remove_scope(&mut self, scope: Scope) {
        if self.scopes.remove(&scope).is_some_and(|s| s.ahead_max.is_some()) {
            self.recount();
        }
    }

    /// Closes or opens a scope (circuit, pause, drain): a closed one is granted nothing.
    pub fn set_closed(&mut self, scope: Scope, closed: bool) {
        self.scopes.entry(scope).or_default().closed = closed;
    }

    /// Rows of this scope beyond what may be outstanding: to be withdrawn after a slow-down.
    pub fn above_bound(&self, scope: Scope) -> u64 {
        let Some(state) = self.scopes.get(&scope) else { return 0 };
        state.ahead_max.map_or(0, |max| state.outstanding.saturating_sub(max))
    }

    pub fn outstanding(&self, scope: Scope) -> u64 {
        self.scopes.get(&scope).map_or(0, |s| s.outstanding)
    }

    pub fn credits_out(&self) -> u64 {
        self.credits_out
    }

    /// Rows that may be claimed ahead of the lanes where no limit says so.
    pub fn set_ahead(&mut self, rows: u64) {
        self.ahead_max = rows.clamp(1, (BATCHES_AHEAD * BATCH_CONTACTS_MAX) as u64);
    }

    /// Rows that wait in one class.
    pub fn waiting_in(&self, class: ClassId) -> u64 {
        let demands = self.runs.values().flat_map(|run| &run.demands);
        demands.filter(|((_, _, of), _)| *of == class).map(|(_, demand)| demand.waiting).sum()
    }

    /// Rows that wait, over all demands.
    pub fn waiting(&self) -> u64 {
        self.runs.values().flat_map(|r| r.demands.values()).map(|d| d.waiting).sum()
    }

    /// Every grant that can be given now, in fair order.
    pub fn grants(&mut self, now: Monotonic, out: &mut Vec<Grant>) {
        while let Some(grant) = self.next(now) {
            out.push(grant);
        }
    }

    /// The campaign claimed `rows` of a grant (at most what was granted); the rest is free again. `false` if the grant is
    /// void: then nothing may be claimed on it.
    pub fn claimed(&mut self, id: GrantId, rows: usize) -> bool {
        let Some(open) = self.grants.remove(&id) else {
            return false;
        };
        let unused = open.rows.saturating_sub(rows);
        self.unmark(open.key, unused);
        self.credit_back(open.key, unused);
        true
    }

    /// Voids grants that nobody used in time.
    pub fn expire(&mut self, now: Monotonic) {
        let due: Vec<GrantId> = self.grants.iter().filter(|(_, g)| g.expires <= now).map(|(id, _)| *id).collect();
        for id in due {
            self.claimed(id, 0);
        }
    }

    /// When [`FairQueue::expire`] has something to do.
    pub fn expires_at(&self) -> Option<Monotonic> {
        self.grants.values().map(|g| g.expires).min()
    }

    /// Claimed rows that were marked, dropped at release, or taken back: no longer ahead of the lanes.
    pub fn left(&mut self, key: DemandKey, rows: usize) {
        self.unmark(key, rows);
    }

    /// Claimed rows whose ending frame is durable: their credits are free.
    pub fn ended(&mut self, key: DemandKey, rows: usize) {
        self.credit_back(key, rows);
    }

    /// Claims that recovery found unsettled hold credits until their ending frame is durable.
    pub fn restore_credits(&mut self, rows: usize) {
        self.credits_out += rows as u64;
    }

    /// Why this demand gets nothing now; `None` if a grant is possible.
    pub fn held(&self, key: DemandKey) -> Option<Held> {
        let run = self.runs.get(&key.delivery.run)?;
        let waiting = run.demands.get(&(key.delivery.index, key.send, key.class))?.waiting;
        self.room(key, waiting, self.unlimited_waits(), &[]).err()
    }

    /// What holds this delivery back now: a limit of any of its classes before anything else; `None` if nothing does.
    pub fn held_of(&self, delivery: DeliveryId) -> Option<Held> {
        let demands = self.runs.get(&delivery.run)?.demands.keys().filter(|(index, _, _)| *index == delivery.index);
        let held: SmallVec<[Held; 4]> = demands
            .filter_map(|(_, send, class)| self.held(DemandKey { delivery, send: *send, class: *class }))
            .collect();
        held.iter().find(|h| matches!(h, Held::Limit(_))).or(held.first()).copied()
    }

    fn next(&mut self, now: Monotonic) -> Option<Grant> {
        let weights: u64 = self.runs.values().filter(|r| !r.demands.is_empty()).map(|r| u64::from(r.weight)).sum();
        let unlimited_waits = self.unlimited_waits();
        let mut reserved: SmallVec<[Held; 8]> = SmallVec::new();
        for (start, _, key, waiting) in self.order() {
            match self.room(key, waiting, unlimited_waits, &reserved) {
                Ok(room) => {
                    let weight = self.runs.get(&key.delivery.run).map_or(1, |r| u64::from(r.weight));
                    let share = (room.shared * weight / weights.max(1)).max(room.share_min);
                    let turn = self.turn(key, waiting);
                    let rows = room.rows.min(share).min(waiting).min(turn.rows) as usize;
                    self.book(key, rows, start, turn);
                    let id = GrantId(self.next_grant);
                    self.next_grant += 1;
                    self.grants.insert(id, Open { key, rows, expires: now.plus(GRANT_UNUSED_MAX) });
                    return Some(Grant { id, key, rows });
                }
                // Who comes first and waits for a bound to free up keeps it from those behind, or small demands would
                // starve large ones.
                Err(held) => reserved.push(held),
            }
        }
        None
    }

    /// Every waiting demand: by the run's start tag, and within a run by rows already granted.
    fn order(&self) -> Vec<(u64, u64, DemandKey, u64)> {
        let mut order: Vec<(u64, u64, DemandKey, u64)> = Vec::new();
        for (run_id, run) in &self.runs {
            let start = run.tag.max(self.virtual_time);
            order.extend(run.demands.iter().filter(|(_, d)| d.waiting > 0).map(|((index, send, class), d)| {
                (
                    start,
                    d.tag,
                    DemandKey { delivery: DeliveryId { run: *run_id, index: *index }, send: *send, class: *class },
                    d.waiting,
                )
            }));
        }
        order.sort_unstable();
        order
    }

    /// A batch where one send waits; where several of a delivery do, a slice, so that the arms of a test go out side by
    /// side and not one after the other, in proportion to what they wait with.
    fn turn(&self, key: DemandKey, waiting: u64) -> Turn {
        let Some(run) = self.runs.get(&key.delivery.run) else { return Turn::BATCH };
        let index = key.delivery.index;
        let siblings = || run.demands.iter().filter(move |((of, _, _), demand)| *of == index && demand.waiting > 0);
        if siblings().all(|((_, send, _), _)| *send == key.send) {
            return Turn::BATCH;
        }
        let beside = siblings().filter(|((_, _, class), _)| *class == key.class);
        let largest = beside.map(|(_, demand)| demand.waiting).max().unwrap_or(waiting);
        Turn {
            rows: (waiting / GRANT_TURN_PARTS).clamp(GRANT_TURN_MIN, BATCH_ROWS),
            counts: largest.min(waiting.saturating_mul(GRANT_TURN_RARER_MAX)),
            per: waiting.max(1),
        }
    }

    fn book(&mut self, key: DemandKey, rows: usize, start: u64, turn: Turn) {
        let n = rows as u64;
        self.virtual_time = self.virtual_time.max(start);
        if let Some(run) = self.runs.get_mut(&key.delivery.run) {
            run.tag = start.saturating_add(n * TAG_UNIT / u64::from(run.weight));
            if let Some(demand) = run.demands.get_mut(&(key.delivery.index, key.send, key.class)) {
                demand.waiting -= n;
                demand.tag = demand.tag.saturating_add(n.saturating_mul(turn.counts) / turn.per);
            }
        }
        for scope in scopes_of(key.class, key.delivery.run) {
            self.scopes.entry(scope).or_default().outstanding += n;
        }
        let out = self.out.entry(key).or_default();
        out.ahead += n;
        out.credits += n;
        self.credits_out += n;
        if self.is_limited(key) {
            self.credits_limited += n;
        } else {
            self.free_ahead += n;
        }
    }
}

#[cfg(test)]
mod tests;
