//! What the HTTP sink does wrong on purpose, and the dice that decide when.
//!
//! Owns the seeded streams. Invariants: 1. a refusal that says something of the recipient (4xx but 408, 425, 429) depends on
//! the recipient alone, so that a retry gets the same answer; 2. all others are drawn anew per request; 3. a fault whose
//! share is 0 draws nothing.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::options::share;
use crate::rng::{Rng, unit_of};

/// Shares are of requests, 0.0 to 1.0.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpFaults {
    /// Status and share of requests answered with it: 429=0.05, several times or with commas
    #[arg(long = "status", value_delimiter = ',', value_name = "CODE=SHARE")]
    pub statuses: Vec<StatusShare>,
    /// Seconds of the Retry-After header of a 429 or 503
    #[arg(long, value_name = "SECONDS")]
    pub retry_after: Option<u64>,
    /// Accept at most this many requests in a second; beyond it 429
    #[arg(long, value_name = "N")]
    pub throttle_per_second: Option<u64>,
    /// Share of requests that are reset before anything is done: the connection in HTTP/1.1, the stream in HTTP/2
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub reset_before: f64,
    /// Share of requests that are accepted and recorded, and then reset instead of answered
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub reset_after: f64,
    /// Send GOAWAY (HTTP/1.1: Connection: close) after this many requests of a connection
    #[arg(long, value_name = "N")]
    pub goaway_after: Option<u64>,
    /// Streams that an HTTP/2 connection may have open at once
    #[arg(long, value_name = "N")]
    pub streams: Option<u32>,
    /// Seed of the faults
    #[arg(long, default_value_t = 1)]
    pub fault_seed: u64,
}

/// A status and the share of requests that get it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StatusShare {
    pub status: u16,
    pub share: f64,
}

impl fmt::Display for StatusShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.status, self.share)
    }
}

impl FromStr for StatusShare {
    type Err = String;

    fn from_str(text: &str) -> Result<StatusShare, String> {
        let refusal = || format!("{text:?} is no status and share: write 429=0.05, with a status from 400 to 599");
        let (status, share) = text.trim().split_once('=').ok_or_else(refusal)?;
        let (status, share) = (status.parse().map_err(|_| refusal())?, share.parse().map_err(|_| refusal())?);
        if (400..600).contains(&status) && (0.0..=1.0).contains(&share) {
            return Ok(StatusShare { status, share });
        }
        Err(refusal())
    }
}

impl TryFrom<String> for StatusShare {
    type Error = String;

    fn try_from(text: String) -> Result<StatusShare, String> {
        text.parse()
    }
}

impl From<StatusShare> for String {
    fn from(share: StatusShare) -> String {
        share.to_string()
    }
}

impl HttpFaults {
    /// The arguments that give another process the same faults.
    pub fn to_args(&self) -> Vec<String> {
        let mut args: Vec<String> = self.statuses.iter().map(|share| format!("--status={share}")).collect();
        args.push(format!("--reset-before={}", self.reset_before));
        args.push(format!("--reset-after={}", self.reset_after));
        args.push(format!("--fault-seed={}", self.fault_seed));
        args.extend(self.retry_after.map(|n| format!("--retry-after={n}")));
        args.extend(self.throttle_per_second.map(|n| format!("--throttle-per-second={n}")));
        args.extend(self.goaway_after.map(|n| format!("--goaway-after={n}")));
        args.extend(self.streams.map(|n| format!("--streams={n}")));
        args
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Accept,
    /// Accepted, and the answer is lost.
    AcceptAndReset,
    Reset,
    Throttled,
    Refuse(u16),
}

/// The faults with their dice.
#[derive(Debug)]
pub(super) struct HttpDice {
    pub(super) faults: HttpFaults,
    status: Rng,
    reset: Rng,
    second: Option<Instant>,
    used: u64,
}

impl HttpDice {
    pub(super) fn new(faults: HttpFaults) -> HttpDice {
        let (status, reset) = (Rng::salted(faults.fault_seed, 11), Rng::salted(faults.fault_seed, 12));
        HttpDice { faults, status, reset, second: None, used: 0 }
    }

    pub(super) fn fate(&mut self, recipient: &str) -> Fate {
        if self.reset.chance(self.faults.reset_before) {
            return Fate::Reset;
        }
        if self.throttled() {
            return Fate::Throttled;
        }
        if let Some(status) = self.refusal(recipient) {
            return Fate::Refuse(status);
        }
        if self.reset.chance(self.faults.reset_after) { Fate::AcceptAndReset } else { Fate::Accept }
    }

    /// The first status whose part of the draw is hit; recipients and moments have draws of their own.
    fn refusal(&mut self, recipient: &str) -> Option<u16> {
        let any = |of: fn(u16) -> bool| self.faults.statuses.iter().any(|share| of(share.status));
        let fixed = any(is_of_recipient).then(|| unit_of(self.faults.fault_seed, recipient.as_bytes()));
        let anew = any(|status| !is_of_recipient(status)).then(|| self.status.unit());
        let mut from = [0.0, 0.0];
        for StatusShare { status, share } in &self.faults.statuses {
            let of_recipient = is_of_recipient(*status);
            let from = &mut from[usize::from(of_recipient)];
            let draw = if of_recipient { fixed } else { anew };
            if draw.is_some_and(|draw| (*from..*from + share).contains(&draw)) {
                return Some(*status);
            }
            *from += share;
        }
        None
    }

    fn throttled(&mut self) -> bool {
        let Some(limit) = self.faults.throttle_per_second else {
            return false;
        };
        let now = Instant::now();
        if self.second.is_none_or(|at| now.duration_since(at) >= Duration::from_secs(1)) {
            self.second = Some(now);
            self.used = 0;
        }
        self.used += 1;
        self.used > limit
    }
}

/// Whether a status says something of the recipient and not of the moment or the sender's rate.
fn is_of_recipient(status: u16) -> bool {
    (400..500).contains(&status) && !matches!(status, 401 | 408 | 425 | 429)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(statuses: &[&str]) -> HttpFaults {
        HttpFaults { statuses: statuses.iter().map(|s| s.parse().unwrap()).collect(), ..HttpFaults::default() }
    }

    #[test]
    fn shares_come_out_and_who_is_gone_stays_gone() {
        let mut dice = HttpDice::new(faults(&["404=0.1", "410=0.1", "503=0.2", "429=0.1"]));
        let mut seen = std::collections::BTreeMap::new();
        for n in 0..20_000 {
            let name = format!("r{n}");
            let fate = dice.fate(&name);
            *seen.entry(format!("{fate:?}")).or_insert(0) += 1;
            if matches!(fate, Fate::Refuse(404 | 410)) {
                assert_eq!(
                    dice.fate(&name).is_gone(),
                    Some(fate),
                    "{name} is still gone, if it is not unlucky otherwise"
                );
            }
        }
        let near = |what: &str, wanted: f64| {
            let found = f64::from(seen[what]);
            assert!((found / wanted - 1.0).abs() < 0.1, "{what}: {found} for {wanted} of {seen:?}");
        };
        near("Refuse(404)", 2_000.0);
        near("Refuse(410)", 2_000.0);
        near("Refuse(503)", 20_000.0 * 0.2 * 0.8);
        near("Refuse(429)", 20_000.0 * 0.1 * 0.8);
    }

    impl Fate {
        fn is_gone(self) -> Option<Fate> {
            matches!(self, Fate::Refuse(404 | 410)).then_some(self)
        }
    }

    #[test]
    fn beyond_the_rate_it_is_too_many() {
        let mut dice = HttpDice::new(HttpFaults { throttle_per_second: Some(2), ..HttpFaults::default() });
        let fates: Vec<Fate> = (0..3).map(|_| dice.fate("r")).collect();
        assert_eq!(fates, [Fate::Accept, Fate::Accept, Fate::Throttled]);
    }

    #[test]
    fn statuses_are_written_and_read() {
        for text in ["429=0.05", "503=1"] {
            assert_eq!(text.parse::<StatusShare>().unwrap().to_string(), text);
        }
        for text in ["200=0.5", "429", "429=2", "x=0.1"] {
            assert!(text.parse::<StatusShare>().is_err(), "{text}");
        }
    }
}
