//! Rate, time left, and why nothing moves, for the report, the live view and the metrics.
//!
//! Pure: the engine brings the counts of the ledger, what the channel last answered, and the time.
//!
//! Invariants:
//! 1. A running campaign with rows left that made no progress for `STALL_AFTER` always has a stall reason, and a campaign
//!    with nothing left never has one.
//! 2. Of several reasons the one is told that must go first before another can show (the order of [`StallReason::ALL`]).
//! 3. No time left is told where it would be a guess: held rows, a standstill, a campaign that is not running.
//!
//! What it must not know: actors, locks, how a limit is kept.

use std::time::Duration;

use serde::Serialize;

use super::lifecycle::State;
use crate::clock::{Monotonic, Timestamp};
use crate::limits::{RATE_RING_SECONDS, STALL_AFTER};

/// Seconds that the shown rate is measured over; the time left uses the whole ring, which is calmer.
const SHOWN_SECONDS: u64 = 10;
/// Below this much of measured time a rate would be noise.
const MEASURED_LEAST: Duration = Duration::from_millis(100);

/// Final outcomes per second over the last minute.
#[derive(Clone, Debug)]
pub struct RateRing {
    counts: [u64; RATE_RING_SECONDS],
    /// The second, since the clock's start, that the newest count belongs to.
    newest: u64,
    since: Monotonic,
    last: Monotonic,
}

impl RateRing {
    /// Begins to measure; also after a pause, so that the pause does not count as slowness.
    pub fn starting(now: Monotonic) -> RateRing {
        RateRing { counts: [0; RATE_RING_SECONDS], newest: second(now), since: now, last: now }
    }

    /// Rows got their final outcome.
    pub fn record(&mut self, now: Monotonic, rows: u64) {
        if rows == 0 {
            return;
        }
        let at = second(now).max(self.newest);
        for passed in self.newest + 1..=at.min(self.newest + RATE_RING_SECONDS as u64) {
            self.counts[place(passed)] = 0;
        }
        self.newest = at;
        self.counts[place(at)] = self.counts[place(at)].saturating_add(rows);
        self.last = self.last.max(now);
    }

    /// Rows per second over at most `seconds` whole ones and the one that runs, or since the start.
    pub fn rate(&self, now: Monotonic, seconds: u64) -> f64 {
        let running = second(now);
        let whole = seconds.min(RATE_RING_SECONDS as u64 - 1);
        let oldest = running.saturating_sub(whole);
        let kept_from = (self.newest + 1).saturating_sub(RATE_RING_SECONDS as u64);
        let sum: u64 = (oldest.max(kept_from)..=running.min(self.newest)).map(|s| self.counts[place(s)]).sum();
        let window = now.since(Monotonic(oldest * NANOS).max(self.since)).max(MEASURED_LEAST);
        sum as f64 / window.as_secs_f64()
    }

    /// How long ago the last progress was, or the start.
    pub fn idle(&self, now: Monotonic) -> Duration {
        now.since(self.last)
    }
}

const NANOS: u64 = 1_000_000_000;

fn second(at: Monotonic) -> u64 {
    at.0 / NANOS
}

fn place(second: u64) -> usize {
    (second % RATE_RING_SECONDS as u64) as usize
}

/// The ledger of a run, as far as progress is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All pending rows, the held ones included.
    pub pending: u64,
    /// Pending rows that may not be granted yet.
    pub held: u64,
    pub claimed: u64,
    pub deferred: u64,
}

/// Which limit said "not now".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitScope {
    Campaign,
    Connector,
    /// A destination domain with a limit of its own.
    Domain,
}

/// What the channel answered when the campaign last asked for a grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Granted, or not asked yet.
    #[default]
    Free,
    Limited(LimitScope),
    /// All credits of the connector wait for the disk.
    NoCredits,
    /// Other campaigns of the connector go first.
    OthersTurn,
}

/// Why a connector's circuit is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitOpen {
    /// It cannot be reached, or hangs up before it is ready.
    Unreachable,
    /// It refuses the sender: authentication, policy.
    SenderRefused,
}

/// Everything that progress is computed from.
#[derive(Clone, Copy, Debug)]
pub struct ProgressInput<'a> {
    pub state: State,
    pub now: Timestamp,
    pub monotonic: Monotonic,
    pub counts: Counts,
    /// Contacts of the flow on their way to an end, who wait in no delivery: for a time, an event or a decision.
    pub waiting: u64,
    pub ring: &'a RateRing,
    pub verdict: Verdict,
    /// Why the connector is not used for a while.
    pub circuit: Option<CircuitOpen>,
    /// Sessions that are ready for messages.
    pub lanes_ready: u32,
    /// The disk of the journal is full.
    pub journal_full: bool,
    /// When the last of the present deferrals is due.
    pub retries_until: Option<Timestamp>,
}

/// Why nothing moves, or moves slowly. The names are label values and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StallReason {
    Paused,
    Stopping,
    JournalFull,
    CircuitOpen,
    Unreachable,
    NoLane,
    RetryWait,
    Held,
    CampaignLimit,
    DomainLimit,
    ConnectorLimit,
    Credits,
    FairShare,
    Provider,
    NoGrant,
}

impl StallReason {
    /// In order of precedence.
    pub const ALL: [StallReason; 15] = [
        StallReason::Paused,
        StallReason::Stopping,
        StallReason::JournalFull,
        StallReason::CircuitOpen,
        StallReason::Unreachable,
        StallReason::NoLane,
        StallReason::RetryWait,
        StallReason::Held,
        StallReason::CampaignLimit,
        StallReason::DomainLimit,
        StallReason::ConnectorLimit,
        StallReason::Credits,
        StallReason::FairShare,
        StallReason::Provider,
        StallReason::NoGrant,
    ];

    pub fn name(self) -> &'static str {
        match self {
            StallReason::Paused => "paused",
            StallReason::Stopping => "stopping",
            StallReason::JournalFull => "journal_full",
            StallReason::CircuitOpen => "circuit_open",
            StallReason::Unreachable => "unreachable",
            StallReason::NoLane => "no_lane",
            StallReason::RetryWait => "retry_wait",
            StallReason::Held => "held",
            StallReason::CampaignLimit => "campaign_limit",
            StallReason::DomainLimit => "domain_limit",
            StallReason::ConnectorLimit => "connector_limit",
            StallReason::Credits => "credits",
            StallReason::FairShare => "fair_share",
            StallReason::Provider => "provider",
            StallReason::NoGrant => "no_grant",
        }
    }

    /// For people: what it means and what can be done.
    pub fn explain(self) -> &'static str {
        match self {
            StallReason::Paused => "the campaign is paused; resume it to go on",
            StallReason::Stopping => "the campaign is stopping; messages on the wire are still being answered",
            StallReason::JournalFull => "the data directory's disk is full; it goes on by itself when there is space",
            StallReason::CircuitOpen => "the provider refuses the sender; see the connector's last reply",
            StallReason::Unreachable => {
                "the provider cannot be reached; it is tried again by itself, see the connector's last problem"
            }
            StallReason::NoLane => "no connection to the provider is ready; see the connector",
            StallReason::RetryWait => "all that is left was deferred by the provider and waits for its next attempt",
            StallReason::Held => "all that is left waits for a decision, an event or a later date",
            StallReason::CampaignLimit => "the campaign's own limit of messages per second",
            StallReason::DomainLimit => "the limit of a destination domain",
            StallReason::ConnectorLimit => "the connector's limit",
            StallReason::Credits => "claims wait for the disk to make them durable",
            StallReason::FairShare => "other campaigns of the connector have their turn",
            StallReason::Provider => "messages were handed over and the provider's answers are awaited",
            StallReason::NoGrant => "the channel has not been asked, or has not answered",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Progress {
    /// Rows without a final outcome, the held ones included.
    pub remaining: u64,
    /// Final outcomes per second, over the last seconds.
    pub rate: f64,
    /// Time until nothing is left, at the rate of the last minute; deferrals count with their due times.
    pub eta: Option<Duration>,
    /// Why nothing moves.
    pub stall: Option<StallReason>,
    /// While it moves: what keeps it from moving faster.
    pub slowed_by: Option<StallReason>,
}

pub fn progress(input: &ProgressInput<'_>) -> Progress {
    let Counts { pending, claimed, deferred, .. } = input.counts;
    let remaining = pending + claimed + deferred;
    let stands = input.ring.idle(input.monotonic) >= STALL_AFTER;
    let reason = if remaining + input.waiting == 0 { None } else { reason(input) };
    let waits_for_people = matches!(reason, Some(StallReason::Paused | StallReason::Stopping));
    let stall = reason.filter(|_| stands || waits_for_people);
    let bounds = |r: &StallReason| !matches!(r, StallReason::Provider | StallReason::NoGrant);
    Progress {
        remaining,
        rate: if stands { 0.0 } else { input.ring.rate(input.monotonic, SHOWN_SECONDS) },
        eta: eta(input, remaining, stands),
        stall,
        slowed_by: if stall.is_none() { reason.filter(bounds) } else { None },
    }
}

/// The first reason that holds, in the order of [`StallReason::ALL`]; `None` if the state is one that does not send.
fn reason(input: &ProgressInput<'_>) -> Option<StallReason> {
    let Counts { pending, held, claimed, deferred } = input.counts;
    match input.state {
        State::Paused => return Some(StallReason::Paused),
        State::Stopping => return Some(StallReason::Stopping),
        State::Running => {}
        _ => return None,
    }
    let ready = pending.saturating_sub(held);
    let nothing_to_send = ready == 0 && claimed == 0;
    let (limited, scope) = match input.verdict {
        Verdict::Limited(scope) => (ready > 0, Some(scope)),
        _ => (false, None),
    };
    let holds = |reason: &StallReason| match reason {
        StallReason::Paused | StallReason::Stopping => false,
        StallReason::JournalFull => input.journal_full,
        StallReason::CircuitOpen => input.circuit == Some(CircuitOpen::SenderRefused),
        StallReason::Unreachable => input.circuit == Some(CircuitOpen::Unreachable),
        StallReason::NoLane => input.lanes_ready == 0 && !nothing_to_send,
        StallReason::RetryWait => nothing_to_send && deferred > 0,
        StallReason::Held => nothing_to_send && held + input.waiting > 0,
        StallReason::CampaignLimit => limited && scope == Some(LimitScope::Campaign),
        StallReason::DomainLimit => limited && scope == Some(LimitScope::Domain),
        StallReason::ConnectorLimit => limited && scope == Some(LimitScope::Connector),
        StallReason::Credits => ready > 0 && input.verdict == Verdict::NoCredits,
        StallReason::FairShare => ready > 0 && input.verdict == Verdict::OthersTurn,
        StallReason::Provider => claimed > 0,
        StallReason::NoGrant => ready > 0,
    };
    StallReason::ALL.into_iter().find(holds)
}

fn eta(input: &ProgressInput<'_>, remaining: u64, stands: bool) -> Option<Duration> {
    let Counts { held, deferred, .. } = input.counts;
    if input.state != State::Running || held + input.waiting > 0 {
        return None;
    }
    if remaining == 0 {
        return Some(Duration::ZERO);
    }
    let retries = if deferred > 0 { input.retries_until?.saturating_since(input.now) } else { Duration::ZERO };
    if remaining == deferred {
        return Some(retries);
    }
    let rate = input.ring.rate(input.monotonic, RATE_RING_SECONDS as u64);
    if stands || rate <= 0.0 {
        return None;
    }
    let sending = Duration::try_from_secs_f64((remaining - deferred) as f64 / rate).ok()?;
    Some(sending.max(retries))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REFUSED: Option<CircuitOpen> = Some(CircuitOpen::SenderRefused);

    fn at(millis: u64) -> Monotonic {
        Monotonic(millis * 1_000_000)
    }

    /// A ring that got `per_second` rows in each of `seconds`, a hundred a tick.
    fn steady(per_second: u64, seconds: u64) -> RateRing {
        let mut ring = RateRing::starting(at(0));
        for tick in 0..seconds * 10 {
            ring.record(at(tick * 100), per_second / 10);
        }
        ring
    }

    fn running<'a>(ring: &'a RateRing, now_millis: u64, counts: Counts) -> ProgressInput<'a> {
        ProgressInput {
            waiting: 0,
            state: State::Running,
            now: Timestamp(i64::try_from(now_millis).expect("small")),
            monotonic: at(now_millis),
            counts,
            ring,
            verdict: Verdict::Free,
            circuit: None,
            lanes_ready: 4,
            journal_full: false,
            retries_until: None,
        }
    }

    fn pending(pending: u64) -> Counts {
        Counts { pending, ..Counts::default() }
    }

    #[test]
    fn a_steady_rate_is_measured_and_gives_the_time_left() {
        for seconds in [1, 7, 59, 60, 61, 600] {
            let ring = steady(500, seconds);
            let answer = progress(&running(&ring, seconds * 1_000, pending(30_000)));
            assert!((answer.rate - 500.0).abs() < 1.0, "after {seconds} s: {}", answer.rate);
            let eta = answer.eta.expect("known").as_secs_f64();
            assert!((eta - 60.0).abs() < 0.5, "after {seconds} s: {eta}");
            assert_eq!((answer.stall, answer.slowed_by), (None, None), "moves");
        }
    }

    #[test]
    fn a_gap_longer_than_the_ring_leaves_nothing_behind() {
        let mut ring = steady(500, 60);
        ring.record(at(500_000), 10);
        assert!((ring.rate(at(500_000), 60) - 10.0 / 59.0).abs() < 0.01, "{}", ring.rate(at(500_000), 60));
        assert_eq!(steady(500, 60).rate(at(10_000_000), 60), 0.0, "long ago");
    }

    #[test]
    fn a_clock_that_does_not_move_and_a_count_of_the_past_do_no_harm() {
        let mut ring = RateRing::starting(at(5_000));
        ring.record(at(5_000), 100);
        assert_eq!(ring.rate(at(5_000), 10), 1_000.0, "measured over the least");
        ring.record(at(1_000), 7);
        assert_eq!(ring.idle(at(5_500)), Duration::from_millis(500), "progress never goes back");
        assert_eq!(ring.idle(at(0)), Duration::ZERO, "an earlier now");
    }

    type Change = fn(&mut ProgressInput<'_>);

    /// What makes each reason the one that is told, often with a later one beside it.
    const STANDSTILLS: [(Change, StallReason); 15] = [
        (|i| (i.state, i.circuit) = (State::Paused, REFUSED), StallReason::Paused),
        (|i| (i.state, i.journal_full) = (State::Stopping, true), StallReason::Stopping),
        (|i| (i.journal_full, i.circuit) = (true, REFUSED), StallReason::JournalFull),
        (|i| (i.circuit, i.lanes_ready) = (REFUSED, 0), StallReason::CircuitOpen),
        (|i| (i.circuit, i.lanes_ready) = (Some(CircuitOpen::Unreachable), 0), StallReason::Unreachable),
        (|i| (i.lanes_ready, i.verdict) = (0, Verdict::OthersTurn), StallReason::NoLane),
        (|i| (i.lanes_ready, i.counts) = (0, counts(5, 5, 0, 3)), StallReason::RetryWait),
        (|i| (i.lanes_ready, i.counts) = (0, counts(5, 5, 0, 0)), StallReason::Held),
        (|i| i.verdict = Verdict::Limited(LimitScope::Campaign), StallReason::CampaignLimit),
        (|i| i.verdict = Verdict::Limited(LimitScope::Domain), StallReason::DomainLimit),
        (|i| i.verdict = Verdict::Limited(LimitScope::Connector), StallReason::ConnectorLimit),
        (|i| i.verdict = Verdict::NoCredits, StallReason::Credits),
        (|i| i.verdict = Verdict::OthersTurn, StallReason::FairShare),
        (|i| i.counts = counts(0, 0, 3, 2), StallReason::Provider),
        (|_| (), StallReason::NoGrant),
    ];

    fn counts(pending: u64, held: u64, claimed: u64, deferred: u64) -> Counts {
        Counts { pending, held, claimed, deferred }
    }

    #[test]
    fn each_reason_shows_when_nothing_moves_and_the_earlier_one_wins() {
        assert_eq!(STANDSTILLS.map(|(_, reason)| reason), StallReason::ALL, "all reasons, in order");
        let ring = RateRing::starting(at(0));
        for (change, reason) in STANDSTILLS {
            let mut input = running(&ring, 60_000, counts(10, 0, 0, 0));
            change(&mut input);
            let answer = progress(&input);
            assert_eq!(answer.stall, Some(reason), "{}", reason.name());
            assert_eq!((answer.slowed_by, answer.rate), (None, 0.0), "{}: stands", reason.name());
            assert!(!reason.explain().is_empty(), "{}", reason.name());
        }
    }

    #[test]
    fn a_campaign_that_moves_says_what_slows_it() {
        let ring = steady(100, 20);
        let mut input = running(&ring, 20_000, pending(1_000));
        input.verdict = Verdict::Limited(LimitScope::Campaign);
        let answer = progress(&input);
        assert_eq!((answer.stall, answer.slowed_by), (None, Some(StallReason::CampaignLimit)));
        input.verdict = Verdict::Free;
        input.counts.claimed = 50;
        assert_eq!(progress(&input).slowed_by, None, "answers on their way are no brake");
        input.state = State::Paused;
        let paused = progress(&input);
        assert_eq!((paused.stall, paused.eta), (Some(StallReason::Paused), None), "a pause shows at once");
    }

    #[test]
    fn no_time_left_is_guessed() {
        let ring = steady(100, 20);
        let eta = |counts| progress(&running(&ring, 20_000, counts)).eta;
        assert_eq!(eta(counts(0, 0, 0, 0)), Some(Duration::ZERO), "nothing left");
        assert_eq!(eta(counts(10, 5, 0, 0)), None, "held rows");
        assert_eq!(eta(counts(0, 0, 0, 5)), None, "deferred, and nobody knows until when");
        let none = RateRing::starting(at(0));
        assert_eq!(progress(&running(&none, 1_000, pending(10))).eta, None, "nothing measured");
        assert_eq!(progress(&running(&ring, 40_000, pending(10))).eta, None, "a standstill");
    }

    #[test]
    fn deferrals_count_with_their_due_times() {
        let ring = steady(100, 20);
        let mut input = running(&ring, 20_000, Counts { pending: 1_000, held: 0, claimed: 0, deferred: 7 });
        input.retries_until = Some(Timestamp(20_000 + 3_600_000));
        assert_eq!(progress(&input).eta, Some(Duration::from_secs(3_600)), "the last retry is later than the rest");
        input.retries_until = Some(Timestamp(20_001));
        let eta = progress(&input).eta.expect("known").as_secs_f64();
        assert!((eta - 10.0).abs() < 0.2, "the rest is later: {eta}");
        input.counts.pending = 0;
        assert_eq!(progress(&input).eta, Some(Duration::from_millis(1)), "only deferrals");
    }

    proptest! {
        #[test]
        fn a_standstill_always_has_a_reason_and_an_end_never_has(
            pending in 0u64..5, held in 0u64..5, claimed in 0u64..3, deferred in 0u64..3, verdict in 0u8..6,
            circuit in prop_oneof![Just(None), Just(REFUSED), Just(Some(CircuitOpen::Unreachable))], lanes_ready in 0u32..2, journal_full in any::<bool>(),
            retries_until in prop::option::of(0i64..100_000), idle in 0u64..20_000,
        ) {
            let ring = steady(100, 20);
            let counts = Counts { pending, held: held.min(pending), claimed, deferred };
            let verdict = match verdict {
                0 => Verdict::Free,
                1 => Verdict::NoCredits,
                2 => Verdict::OthersTurn,
                3 => Verdict::Limited(LimitScope::Campaign),
                4 => Verdict::Limited(LimitScope::Connector),
                _ => Verdict::Limited(LimitScope::Domain),
            };
            let input = ProgressInput {
                waiting: 0,
                verdict, circuit, lanes_ready, journal_full, retries_until: retries_until.map(Timestamp),
                ..running(&ring, 20_000 + idle, counts)
            };
            let answer = progress(&input);
            let left = pending + claimed + deferred > 0;
            let stands = ring.idle(input.monotonic) >= STALL_AFTER;
            prop_assert_eq!(answer.stall.is_some(), left && stands, "{:?}", input);
            prop_assert!(answer.rate.is_finite() && answer.rate >= 0.0, "{}", answer.rate);
            prop_assert_eq!(answer.remaining, pending + claimed + deferred);
        }
    }
}
