//! What the sink does wrong on purpose, and the dice that decide when.
//!
//! Owns the seeded streams. Invariants: 1. a permanent refusal depends on the recipient alone, so that a retry gets the
//! same answer; 2. a temporary one is drawn anew per attempt, so that a retry can succeed; 3. a fault whose share is 0
//! draws nothing.

use clap::{Args, ValueEnum};

use crate::rng::{Rng, unit_of};

/// Where a refusal is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// In answer to RCPT.
    Rcpt,
    /// In answer to the final dot (or the last chunk).
    #[default]
    Dot,
    /// One half each, by the toss of a coin.
    Mixed,
}

/// Shares are of messages, 0.0 to 1.0.
#[derive(Args, Clone, Debug, Default)]
pub struct Faults {
    /// Share of attempts answered with 451 (drawn anew per attempt)
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub fail_4xx: f64,
    /// Share of recipients answered with 550, always the same ones for one seed
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub fail_5xx: f64,
    /// Where 4xx and 5xx are spoken
    #[arg(long, value_enum, default_value_t = Stage::Dot)]
    pub fail_at: Stage,
    /// Share of messages that are accepted and recorded, and whose connection is then reset instead of a 250
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub drop_after_dot: f64,
    /// Share of messages in whose body the connection is reset
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub drop_in_body: f64,
    /// Accept at most this many messages in a second; beyond it MAIL is answered with 451 4.7.1
    #[arg(long, value_name = "N")]
    pub throttle_per_second: Option<u64>,
    /// Close every connection with 421 after this many messages
    #[arg(long = "421-after", value_name = "N")]
    pub close_after: Option<u64>,
    /// Seed of the faults
    #[arg(long, default_value_t = 1)]
    pub fault_seed: u64,
}

impl Faults {
    /// The arguments that give another process the same faults.
    pub fn to_args(&self) -> Vec<String> {
        let stage = match self.fail_at {
            Stage::Rcpt => "rcpt",
            Stage::Dot => "dot",
            Stage::Mixed => "mixed",
        };
        let mut args = vec![
            format!("--fail-4xx={}", self.fail_4xx),
            format!("--fail-5xx={}", self.fail_5xx),
            format!("--fail-at={stage}"),
            format!("--drop-after-dot={}", self.drop_after_dot),
            format!("--drop-in-body={}", self.drop_in_body),
            format!("--fault-seed={}", self.fault_seed),
        ];
        args.extend(self.throttle_per_second.map(|n| format!("--throttle-per-second={n}")));
        args.extend(self.close_after.map(|n| format!("--421-after={n}")));
        args
    }
}

/// A verdict on one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Temporary,
    Permanent,
}

/// The faults with their dice.
#[derive(Debug)]
pub struct Dice {
    pub faults: Faults,
    temporary: Rng,
    stage: Rng,
    drop: Rng,
}

impl Dice {
    pub fn new(faults: Faults) -> Dice {
        let seed = faults.fault_seed;
        let (temporary, stage, drop) = (Rng::salted(seed, 1), Rng::salted(seed, 2), Rng::salted(seed, 3));
        Dice { faults, temporary, stage, drop }
    }

    /// Whether this attempt's refusal, if any, is spoken at RCPT.
    pub fn refuses_at_rcpt(&mut self) -> bool {
        if self.faults.fail_4xx <= 0.0 && self.faults.fail_5xx <= 0.0 {
            return false;
        }
        match self.faults.fail_at {
            Stage::Rcpt => true,
            Stage::Dot => false,
            Stage::Mixed => self.stage.chance(0.5),
        }
    }

    pub fn judge(&mut self, recipient: &[u8]) -> Verdict {
        if self.faults.fail_5xx > 0.0 && unit_of(self.faults.fault_seed, recipient) < self.faults.fail_5xx {
            return Verdict::Permanent;
        }
        if self.temporary.chance(self.faults.fail_4xx) { Verdict::Temporary } else { Verdict::Accept }
    }

    pub fn drops_in_body(&mut self) -> bool {
        self.drop.chance(self.faults.drop_in_body)
    }

    pub fn drops_after_dot(&mut self) -> bool {
        self.drop.chance(self.faults.drop_after_dot)
    }

    /// Whether the recipient is of no use in any verdict, so that the session need not keep it.
    pub fn ignores_recipients(&self) -> bool {
        self.faults.fail_5xx <= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permanent_refusal_is_the_same_at_every_attempt_and_a_temporary_one_is_not() {
        let mut dice = Dice::new(Faults { fail_4xx: 0.3, fail_5xx: 0.3, ..Faults::default() });
        let mut gone = 0;
        for i in 0..200 {
            let name = format!("u{i}@example.test");
            let verdicts: Vec<Verdict> = (0..40).map(|_| dice.judge(name.as_bytes())).collect();
            if verdicts[0] == Verdict::Permanent {
                gone += 1;
                assert!(verdicts.iter().all(|v| *v == Verdict::Permanent), "{name} was refused for good once");
            } else {
                assert!(verdicts.contains(&Verdict::Accept), "{name} is accepted in the end");
            }
        }
        assert!((30..90).contains(&gone), "about 30 % of 200 are gone: {gone}");
    }

    #[test]
    fn arguments_round_trip() {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            faults: Faults,
        }
        let faults = Faults {
            fail_4xx: 0.25,
            fail_5xx: 0.5,
            fail_at: Stage::Mixed,
            drop_after_dot: 0.125,
            drop_in_body: 0.0625,
            throttle_per_second: Some(9),
            close_after: Some(7),
            fault_seed: 42,
        };
        let line = Line::parse_from(std::iter::once("x".to_owned()).chain(faults.to_args()));
        assert_eq!(format!("{:?}", line.faults), format!("{faults:?}"), "what one process passes, the other reads");
    }
}
