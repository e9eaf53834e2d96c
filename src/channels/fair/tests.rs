use proptest::prelude::*;

use super::*;
use crate::limits::{BATCHES_AHEAD, CREDITS_BATCHES_DEFAULT};

const CREDITS: usize = CREDITS_BATCHES_DEFAULT * BATCH_CONTACTS_MAX;

fn key(run: u32, class: u16) -> DemandKey {
    DemandKey { delivery: DeliveryId { run: RunId(run), index: 0 }, send: NodeId(1), class: ClassId(class) }
}

fn at(millis: u64) -> Monotonic {
    Monotonic(millis * 1_000_000)
}

fn grants(queue: &mut FairQueue, now: Monotonic) -> Vec<Grant> {
    let mut out = Vec::new();
    queue.grants(now, &mut out);
    out
}

/// Lanes that take claimed rows at a given pace, in the order in which they were granted.
#[derive(Default)]
struct Lanes {
    claimed: std::collections::VecDeque<(DemandKey, usize)>,
}

impl Lanes {
    fn claim(&mut self, queue: &mut FairQueue, now: Monotonic) -> Vec<Grant> {
        let grants = grants(queue, now);
        for grant in &grants {
            assert!(queue.claimed(grant.id, grant.rows), "a fresh grant is not void");
            self.claimed.push_back((grant.key, grant.rows));
        }
        grants
    }

    /// Marks, answers and durably ends up to `rows` rows; only of classes that `may` lets through.
    fn send(
        &mut self,
        queue: &mut FairQueue,
        mut rows: usize,
        may: impl Fn(DemandKey) -> bool,
    ) -> Vec<(DemandKey, usize)> {
        let mut sent = Vec::new();
        for (key, left) in &mut self.claimed {
            if !may(*key) {
                continue;
            }
            let n = rows.min(*left);
            *left -= n;
            rows -= n;
            queue.left(*key, n);
            queue.ended(*key, n);
            sent.push((*key, n));
        }
        self.claimed.retain(|(_, left)| *left > 0);
        sent
    }
}

#[test]
fn unlimited_four_batches_are_claimed_ahead() {
    let mut queue = FairQueue::new(CREDITS);
    queue.set_demand(key(1, 0), 1_000_000, 1);
    let first = grants(&mut queue, at(0));
    assert_eq!(first.iter().map(|g| g.rows).collect::<Vec<_>>(), vec![1_000; BATCHES_AHEAD], "whole batches");
    assert_eq!(queue.held(key(1, 0)), Some(Held::Ahead), "and it says why there is no more");
    queue.left(key(1, 0), 999);
    assert!(grants(&mut queue, at(0)).is_empty(), "no grant for part of a batch");
    queue.left(key(1, 0), 1);
    assert_eq!(grants(&mut queue, at(0)).len(), 1, "the next batch");
}

#[test]
fn credits_bound_what_is_not_durable() {
    let mut queue = FairQueue::new(CREDITS);
    queue.set_demand(key(1, 0), 1_000_000, 1);
    let mut claimed = 0;
    for _ in 0..20 {
        for grant in grants(&mut queue, at(0)) {
            queue.claimed(grant.id, grant.rows);
            queue.left(key(1, 0), grant.rows);
            claimed += grant.rows;
        }
    }
    assert_eq!(claimed, CREDITS, "marked and not ended: credits are used up");
    assert_eq!(queue.held(key(1, 0)), Some(Held::Credits), "and it says so");
    queue.ended(key(1, 0), 1_000);
    assert_eq!(grants(&mut queue, at(0)).len(), 1, "one batch ended, one more");
}

#[test]
fn unused_and_expired_grants_give_everything_back() {
    let mut queue = FairQueue::new(CREDITS);
    queue.set_demand(key(1, 0), 10_000, 1);
    let granted = grants(&mut queue, at(0));
    assert!(queue.claimed(granted[0].id, 10), "used in part");
    assert_eq!(queue.outstanding(Scope::Connector), 3_010, "the rest of it is free");
    queue.expire(at(2_000));
    assert_eq!((queue.outstanding(Scope::Connector), queue.credits_out()), (10, 10), "void ones are free");
    assert!(!queue.claimed(granted[1].id, 5), "nothing can be claimed on a void grant");
    queue.left(key(1, 0), 10);
    queue.ended(key(1, 0), 10);
    assert_eq!((queue.outstanding(Scope::Connector), queue.credits_out()), (0, 0), "all even");
}

#[test]
fn a_throttled_scope_holds_one_second_ahead() {
    let mut queue = FairQueue::new(CREDITS);
    queue.set_rate(Scope::Class(ClassId(1)), Some(50.0));
    queue.set_demand(key(1, 1), 100_000, 1);
    queue.set_demand(key(1, 0), 100_000, 1);
    let granted = grants(&mut queue, at(0));
    let of_class: usize = granted.iter().filter(|g| g.key.class == ClassId(1)).map(|g| g.rows).sum();
    assert_eq!(of_class, 50, "one second of 50 a second");
    let others: usize = granted.iter().filter(|g| g.key.class == ClassId(0)).map(|g| g.rows).sum();
    assert_eq!(others, 4_000, "the others have all that they would have alone");
    let held = queue.held_of(key(1, 0).delivery);
    assert_eq!(held, Some(Held::Limit(Scope::Class(ClassId(1)))), "the delivery is said to be limited by that class");
    queue.set_rate(Scope::Class(ClassId(1)), Some(10.0));
    assert_eq!(queue.above_bound(Scope::Class(ClassId(1))), 40, "after a slow-down these are to be withdrawn");
}

#[test]
fn closed_scopes_get_nothing_and_delay_nobody() {
    let mut queue = FairQueue::new(CREDITS);
    queue.set_demand(key(1, 1), 10, 1);
    queue.set_demand(key(2, 0), 10, 1);
    queue.set_closed(Scope::Class(ClassId(1)), true);
    assert_eq!(grants(&mut queue, at(0)).iter().map(|g| g.key).collect::<Vec<_>>(), vec![key(2, 0)], "the open one");
    assert_eq!(queue.held(key(1, 1)), Some(Held::Closed(Scope::Class(ClassId(1)))), "says why");
    queue.set_closed(Scope::Class(ClassId(1)), false);
    assert_eq!(grants(&mut queue, at(0)).len(), 1, "open again");
}

#[test]
fn a_small_demand_that_keeps_coming_does_not_starve_a_large_one() {
    let mut queue = FairQueue::new(CREDITS);
    let mut lanes = Lanes::default();
    queue.set_demand(key(1, 0), 10_000_000, 1);
    let (mut large, mut small) = (0, 0);
    for step in 0..3_000 {
        queue.set_demand(key(2, 0), 5, 1);
        for grant in lanes.claim(&mut queue, at(step)) {
            if grant.key == key(1, 0) { large += grant.rows } else { small += grant.rows }
        }
        lanes.send(&mut queue, 5, |_| true);
    }
    assert!(large >= small / 2, "large {large}, small {small}: the large one has its share");
}

#[test]
fn demands_behind_another_runs_limit_share_it_by_weight() {
    let mut queue = FairQueue::new(CREDITS);
    queue.set_rate(Scope::Connector, Some(100.0));
    queue.set_demand(key(1, 0), 1_000_000, 3);
    queue.set_demand(key(2, 0), 1_000_000, 1);
    let mut lanes = Lanes::default();
    let (mut first, mut second) = (0, 0);
    for step in 0..4_000 {
        for grant in lanes.claim(&mut queue, at(step)) {
            if grant.key == key(1, 0) { first += grant.rows } else { second += grant.rows }
        }
        assert!(queue.outstanding(Scope::Connector) <= 100, "one second of the connector's limit");
        lanes.send(&mut queue, 1, |_| true);
    }
    let share = f64::from(first as u32) / f64::from((first + second) as u32);
    assert!((0.70..0.80).contains(&share), "three to one, got {first} and {second}");
}

fn arm(run: u32, send: u32) -> DemandKey {
    DemandKey { send: NodeId(send), ..key(run, 0) }
}

/// The most that two sends of a run are apart at any time, in rows, with the first one counted `times` over.
fn furthest_apart(grants: &[Grant], [first, second]: [DemandKey; 2], times: u64) -> u64 {
    let (mut one, mut other, mut apart) = (0, 0, 0);
    for grant in grants {
        one += if grant.key == first { grant.rows as u64 * times } else { 0 };
        other += if grant.key == second { grant.rows as u64 } else { 0 };
        apart = apart.max(one.abs_diff(other));
    }
    apart
}

#[test]
fn the_arms_of_a_test_take_turns() {
    let mut queue = FairQueue::new(CREDITS);
    let arms = [arm(1, 1), arm(1, 2)];
    arms.iter().for_each(|key| queue.set_demand(*key, 80, 1));
    let granted = grants(&mut queue, at(0));
    let turns: Vec<(DemandKey, usize)> = granted.iter().map(|g| (g.key, g.rows)).collect();
    let expected: Vec<(DemandKey, usize)> = (0..10).flat_map(|_| arms.map(|key| (key, 8))).collect();
    assert_eq!(turns, expected, "eight of one, eight of the other, to the end");
    assert_eq!(furthest_apart(&granted, arms, 1), GRANT_TURN_MIN, "never further apart than a turn");

    let mut queue = FairQueue::new(CREDITS);
    queue.set_demand(arms[0], 80, 1);
    assert_eq!(grants(&mut queue, at(0)).len(), 1, "a send that waits alone gets all in one grant");

    let mut queue = FairQueue::new(CREDITS);
    queue.set_demand(arms[0], 80, 1);
    queue.set_demand(arms[1], 160, 1);
    let granted = grants(&mut queue, at(0));
    assert_eq!(granted.iter().map(|g| g.rows).sum::<usize>(), 240, "all of both");
    let apart = furthest_apart(&granted, arms, 2);
    assert!(apart <= 4 * GRANT_TURN_MIN, "an arm of twice the size goes out twice as fast: {apart} apart");
}

#[test]
fn a_campaign_with_many_arms_gets_no_more_than_its_weight() {
    let mut queue = FairQueue::new(CREDITS);
    let mut lanes = Lanes::default();
    (1..=10).for_each(|send| queue.set_demand(arm(1, send), 20_000, 1));
    queue.set_demand(key(2, 0), 200_000, 1);
    let (mut many, mut one) = (0, 0);
    for step in 0..100 {
        for grant in lanes.claim(&mut queue, at(step)) {
            if grant.key.delivery.run == RunId(1) { many += grant.rows } else { one += grant.rows }
        }
        lanes.send(&mut queue, 1_000, |_| true);
    }
    assert!(many + one >= 100_000, "the lanes are fed: {many} and {one}");
    assert!(many.abs_diff(one) <= 2 * BATCH_CONTACTS_MAX, "half each, got {many} and {one}");
}

proptest! {
    /// A campaign of a million cannot delay one of a hundred by more than a few batches, whenever it comes and however
    /// many large ones there are.
    #[test]
    fn a_small_campaign_waits_for_a_few_batches_at_most(
        large in 1u32..6, before in 0u64..300, pace in 50usize..3_000, weight in 1u32..10,
    ) {
        let mut queue = FairQueue::new(CREDITS);
        let mut lanes = Lanes::default();
        for run in 0..large {
            queue.set_demand(key(run, 0), 1_000_000, weight);
        }
        for step in 0..before {
            lanes.claim(&mut queue, at(step));
            lanes.send(&mut queue, pace, |_| true);
        }
        queue.set_demand(key(99, 0), 100, 1);
        let (mut sent_before, mut done, mut step) = (0, 0, before);
        while done < 100 {
            lanes.claim(&mut queue, at(step));
            for (k, rows) in lanes.send(&mut queue, pace, |_| true) {
                if k == key(99, 0) { done += rows } else { sent_before += rows }
            }
            step += 1;
            prop_assert!(step < before + 100_000, "it ends");
        }
        let bound = (BATCHES_AHEAD + 2) * BATCH_CONTACTS_MAX + pace;
        prop_assert!(sent_before <= bound, "{sent_before} rows of others went first, at most {bound}");
    }

    /// Bounds hold at every step, whatever is asked; a throttled class delays no other.
    #[test]
    fn bounds_hold_and_nothing_is_lost(
        rates in prop::collection::vec(prop::option::of(1u32..3_000), 3),
        steps in prop::collection::vec((0u32..4, 0u16..3, 0u64..5_000, 0usize..2_000, prop::bool::weighted(0.1)), 1..200),
    ) {
        let mut queue = FairQueue::new(CREDITS);
        let mut lanes = Lanes::default();
        for (class, rate) in rates.iter().enumerate() {
            queue.set_rate(Scope::Class(ClassId(class as u16)), rate.map(f64::from));
        }
        for (i, (run, class, waiting, pace, idle)) in steps.into_iter().enumerate() {
            queue.set_demand(key(run, class), waiting, 1 + run);
            if idle {
                grants(&mut queue, at(i as u64 * 400));
                queue.expire(at(i as u64 * 400 + 2_000));
            }
            lanes.claim(&mut queue, at(i as u64 * 400));
            prop_assert!(queue.credits_out() <= CREDITS as u64, "credits");
            for (class, rate) in rates.iter().enumerate() {
                if let Some(rate) = rate {
                    let held = queue.outstanding(Scope::Class(ClassId(class as u16)));
                    prop_assert!(held <= u64::from(*rate), "class {class} holds {held} of {rate}");
                }
            }
            lanes.send(&mut queue, pace, |_| true);
        }
        lanes.send(&mut queue, usize::MAX, |_| true);
        queue.expire(at(u64::from(u32::MAX)));
        prop_assert_eq!((queue.outstanding(Scope::Connector), queue.credits_out()), (0, 0), "everything came back");
    }

    /// While a throttled class stands still, the rest goes at full speed.
    #[test]
    fn a_stalled_class_delays_nobody(rate in 1u32..20_000, runs in 1u32..4) {
        let mut queue = FairQueue::new(CREDITS);
        let mut lanes = Lanes::default();
        queue.set_rate(Scope::Class(ClassId(1)), Some(f64::from(rate)));
        for run in 0..runs {
            queue.set_demand(key(run, 1), 1_000_000, 1);
            queue.set_demand(key(run, 0), 1_000_000, 1);
        }
        let mut sent = 0;
        for step in 0..50 {
            lanes.claim(&mut queue, at(step));
            sent += lanes.send(&mut queue, 1_000, |k| k.class == ClassId(0)).iter().map(|(_, n)| n).sum::<usize>();
        }
        prop_assert!(sent >= 49_000, "lanes for a thousand a step were fed {sent} in 50 steps");
    }
}
