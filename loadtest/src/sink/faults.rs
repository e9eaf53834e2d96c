//! What the sink does wrong on purpose, and the dice that decide when.
//!
//! Owns the seeded streams. Invariants: 1. a permanent refusal depends on the recipient alone, so that a retry gets the
//! same answer, in the same words; 2. a temporary one is drawn anew per attempt, so that a retry can succeed; 3. a fault
//! whose share is 0 draws nothing.

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::replies::{Meaning, Provider};
use crate::options::share;
use crate::rng::{Rng, unit_of};

/// Apart from the draw that decides whether a recipient is refused at all.
const SAME_WORDS: u64 = 0x5a3e_3a3e;

/// Where a refusal is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Share of attempts answered with 451 (drawn anew per attempt)
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub fail_4xx: f64,
    /// Share of recipients answered with 550, always the same ones for one seed
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub fail_5xx: f64,
    /// Share of attempts answered with a refusal that is the sender's fault: authentication, content, reputation (drawn anew
    /// per attempt)
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub fail_policy: f64,
    /// Whose words refusals use
    #[arg(long, value_enum, default_value_t = Provider::Plain)]
    pub provider: Provider,
    /// Where 4xx and 5xx are spoken
    #[arg(long, value_enum, default_value_t = Stage::Dot)]
    pub fail_at: Stage,
    /// Share of messages that are accepted and recorded, and whose connection is then reset instead of a 250
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub drop_after_dot: f64,
    /// Share of messages whose connection is reset in answer to DATA, before a byte of the body
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub drop_before_body: f64,
    /// Share of messages in whose body the connection is closed
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub drop_in_body: f64,
    /// Accept at most this many messages in a second; beyond it MAIL is answered with the provider's words for slower (451,
    /// or 421 and the end of the connection)
    #[arg(long, value_name = "N")]
    pub throttle_per_second: Option<u64>,
    /// Read at most this many bytes a second from each connection
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub read_per_second: Option<u64>,
    /// Close every connection with 421 after this many messages
    #[arg(long = "421-after", value_name = "N")]
    #[serde(rename = "421_after")]
    pub close_after: Option<u64>,
    /// Seed of the faults
    #[arg(long, default_value_t = 1)]
    pub fault_seed: u64,
}

impl Faults {
    /// The arguments that give another process the same faults.
    pub fn to_args(&self) -> Vec<String> {
        let mut args = vec![
            format!("--fail-4xx={}", self.fail_4xx),
            format!("--fail-5xx={}", self.fail_5xx),
            format!("--fail-policy={}", self.fail_policy),
            format!("--provider={}", name_of(&self.provider)),
            format!("--fail-at={}", name_of(&self.fail_at)),
            format!("--drop-after-dot={}", self.drop_after_dot),
            format!("--drop-before-body={}", self.drop_before_body),
            format!("--drop-in-body={}", self.drop_in_body),
            format!("--fault-seed={}", self.fault_seed),
        ];
        args.extend(self.read_per_second.map(|n| format!("--read-per-second={n}")));
        args.extend(self.throttle_per_second.map(|n| format!("--throttle-per-second={n}")));
        args.extend(self.close_after.map(|n| format!("--421-after={n}")));
        args
    }
}

/// A value as it is written on the command line.
pub(super) fn name_of(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// A verdict on one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Temporary,
    Permanent,
    Policy,
}

impl Verdict {
    /// What is said, if it is a refusal.
    pub fn meaning(self) -> Option<Meaning> {
        match self {
            Verdict::Accept => None,
            Verdict::Temporary => Some(Meaning::Later),
            Verdict::Permanent => Some(Meaning::NoSuchUser),
            Verdict::Policy => Some(Meaning::Policy),
        }
    }
}

/// The faults with their dice.
#[derive(Debug)]
pub struct Dice {
    pub faults: Faults,
    temporary: Rng,
    stage: Rng,
    drop: Rng,
    words: Rng,
}

impl Dice {
    pub fn new(faults: Faults) -> Dice {
        let stream = |salt| Rng::salted(faults.fault_seed, salt);
        let (temporary, stage, drop, words) = (stream(1), stream(2), stream(3), stream(4));
        Dice { faults, temporary, stage, drop, words }
    }

    /// The words of a refusal.
    pub fn words(&mut self, meaning: Meaning, recipient: &[u8]) -> &'static str {
        let draw = match (self.faults.provider, meaning) {
            (Provider::Plain, _) => 0.0,
            (_, Meaning::NoSuchUser) => unit_of(self.faults.fault_seed ^ SAME_WORDS, recipient),
            _ => self.words.unit(),
        };
        self.faults.provider.reply(meaning, recipient, draw)
    }

    /// Whether this attempt's refusal, if any, is spoken at RCPT.
    pub fn refuses_at_rcpt(&mut self) -> bool {
        if self.faults.fail_4xx <= 0.0 && self.faults.fail_5xx <= 0.0 && self.faults.fail_policy <= 0.0 {
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
        if self.temporary.chance(self.faults.fail_4xx) {
            return Verdict::Temporary;
        }
        if self.temporary.chance(self.faults.fail_policy) { Verdict::Policy } else { Verdict::Accept }
    }

    pub fn drops_before_body(&mut self) -> bool {
        self.drop.chance(self.faults.drop_before_body)
    }

    pub fn drops_in_body(&mut self) -> bool {
        self.drop.chance(self.faults.drop_in_body)
    }

    pub fn drops_after_dot(&mut self) -> bool {
        self.drop.chance(self.faults.drop_after_dot)
    }

    /// Whether the recipient is of no use in any verdict, so that the session need not keep it.
    pub fn ignores_recipients(&self) -> bool {
        self.faults.fail_5xx <= 0.0 && matches!(self.faults.provider, Provider::Plain | Provider::Mixed)
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
    fn a_recipient_who_is_gone_is_told_so_in_the_same_words() {
        let mut dice = Dice::new(Faults { provider: Provider::Mixed, ..Faults::default() });
        let mut heard = std::collections::BTreeSet::new();
        for i in 0..60 {
            let name = format!("u{i}@example.test");
            let words = dice.words(Meaning::NoSuchUser, name.as_bytes());
            assert!((0..20).all(|_| dice.words(Meaning::NoSuchUser, name.as_bytes()) == words), "{name}");
            heard.insert(words);
        }
        assert!(heard.len() >= 4, "several providers' words: {heard:?}");
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
            fail_policy: 0.03125,
            provider: Provider::ByDomain,
            fail_at: Stage::Mixed,
            drop_after_dot: 0.125,
            drop_before_body: 0.25,
            drop_in_body: 0.0625,
            read_per_second: Some(4_000),
            throttle_per_second: Some(9),
            close_after: Some(7),
            fault_seed: 42,
        };
        let line = Line::parse_from(std::iter::once("x".to_owned()).chain(faults.to_args()));
        assert_eq!(line.faults, faults, "what one process passes, the other reads");
        let text = toml::to_string(&faults).unwrap();
        assert_eq!(toml::from_str::<Faults>(&text).unwrap(), faults, "and what a scenario says: {text}");
        assert!(toml::from_str::<Faults>("fail_4x = 1.0").is_err(), "a word that is none is refused");
    }
}
