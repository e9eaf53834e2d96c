//! The accounts of a load: the campaigns' ledgers against the sink's own count.
//!
//! Owns no state. Invariant: the sink's word stands: who it did not count was not mailed, whatever the ledger says.

use std::path::Path;

use anyhow::Context;

use super::{CPU, LOST, PROVIDER_SHARE, REFUSED_SHARE};
use crate::api::Ledger;
use crate::findings::{Findings, TWICE, UNKNOWN};
use crate::sink::record;
use crate::sink::stats::Counts;

/// What became of everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    pub accepted: u64,
    pub unknown: u64,
    pub lost: u64,
    pub twice: u64,
    /// Attempts at the sink, and of them those that it refused for the moment.
    pub attempts: u64,
    pub refused: u64,
}

impl Account {
    /// With a record, contacts are told apart by their addresses, which are of one step only; else counts are compared.
    pub fn of(ledgers: &[Ledger], sink: &Counts, record: Option<&Path>) -> anyhow::Result<Account> {
        let sum = |what: fn(&Ledger) -> u64| ledgers.iter().map(what).sum::<u64>();
        let (accepted, unknown) = (sum(|l| l.accepted), sum(|l| l.unknown));
        let told = sum(|l| l.rejected) + sum(|l| l.skipped);
        let (mails, people) = match record {
            None => (sink.accepted, sink.accepted.min(accepted + unknown)),
            Some(file) => {
                let mut to: Vec<String> =
                    record::read(file).context("reading the record")?.into_iter().map(|mail| mail.recipient).collect();
                let mails = to.len() as u64;
                to.sort_unstable();
                to.dedup();
                (mails, to.len() as u64)
            }
        };
        let refused = sink.refused_4xx + sink.throttled;
        Ok(Account {
            accepted,
            unknown,
            lost: sum(|l| l.audience).saturating_sub(people + told + unknown),
            twice: mails - people,
            attempts: sink.accepted + sink.refused_5xx + refused,
            refused,
        })
    }

    /// `limit`: what the sink lets through a second, and what it took.
    pub fn tell(&self, findings: &Findings, cpu_seconds: f64, limit: Option<(u64, f64)>) {
        findings.sample(&LOST, self.lost as f64);
        findings.sample(&TWICE, self.twice as f64);
        findings.sample(&UNKNOWN, self.unknown as f64);
        findings.sample(&CPU, cpu_seconds * 1e6 / self.accepted.max(1) as f64);
        findings.sample(&REFUSED_SHARE, self.refused as f64 / self.attempts.max(1) as f64);
        if let Some((limit, took)) = limit {
            findings.sample(&PROVIDER_SHARE, took / limit.max(1) as f64);
            findings.remark(format!("the sink lets {limit} messages a second through and took {took:.0}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::record::Recorder;

    fn ledger(accepted: u64, unknown: u64, rejected: u64) -> Ledger {
        let audience = accepted + unknown + rejected;
        Ledger { audience, accepted, unknown, rejected, balanced: true, ..Ledger::default() }
    }

    fn counts(accepted: u64) -> Counts {
        Counts { accepted, throttled: 5, ..Counts::default() }
    }

    #[test]
    fn counts_tell_losses_and_doubles_apart_as_far_as_they_can() {
        let of = |mails: u64| Account::of(&[ledger(90, 0, 10)], &counts(mails), None).unwrap();
        assert_eq!((of(90).lost, of(90).twice), (0, 0));
        assert_eq!((of(88).lost, of(88).twice), (2, 0), "accepted, says the ledger, and the sink has them not");
        assert_eq!((of(93).lost, of(93).twice), (0, 3));
        assert_eq!((of(90).attempts, of(90).refused), (95, 5));
    }

    #[test]
    fn a_record_sees_a_double_that_hides_a_loss() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("record");
        let mut recorder = Recorder::open(&file).unwrap();
        ["a", "b", "b"].iter().for_each(|to| recorder.add(to.as_bytes(), b"Subject: x\r\n\r\n"));
        recorder.flush().unwrap();
        let account = Account::of(&[ledger(3, 0, 0)], &counts(3), Some(&file)).unwrap();
        assert_eq!((account.lost, account.twice), (1, 1), "three mails for three people, and one has two");
    }
}
