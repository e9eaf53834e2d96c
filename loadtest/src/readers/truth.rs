//! What simulated readers do, known beforehand: shares per variant, delays, and the machines among them.
//!
//! Owns no state. Invariants: 1. what a reader does follows from the seed, the address and the variant alone; 2. the shares are of the
//! mails that reached a mailbox, and they nest: who clicks has opened, who converts has clicked; 3. a truth that contradicts
//! itself is refused before anybody reads.

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use crate::options::is_share;
use crate::sink::latency::Latency;

/// Readers and machines of a run; a table of a scenario, or a TOML file of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Truth {
    pub seed: u64,
    /// The first whose `subject` a mail's subject begins with; mails of none are left unread.
    pub variants: Vec<Taste>,
    pub machines: Machines,
    pub delays: Delays,
}

/// What the readers of one variant do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Taste {
    /// Name of the variant in the engine's report, by which the accounts are compared.
    pub name: String,
    /// What its subjects begin with; nothing fits all.
    pub subject: String,
    /// Share that reaches a mailbox. The others bounce after the relay took them, which an event tells.
    pub delivered: f64,
    pub opens: f64,
    pub clicks: f64,
    pub converts: f64,
    /// Share that unsubscribes with one click (RFC 8058); of those who opened first.
    pub unsubscribes: f64,
    /// Share that complains; of those who opened last, so that few do both.
    pub complains: f64,
    /// Which link is clicked, as weights in the order of the mail; empty: all alike.
    pub links: Vec<f64>,
}

impl Default for Taste {
    fn default() -> Taste {
        Taste {
            name: String::new(),
            subject: String::new(),
            delivered: 1.0,
            opens: 0.0,
            clicks: 0.0,
            converts: 0.0,
            unsubscribes: 0.0,
            complains: 0.0,
            links: Vec::new(),
        }
    }
}

/// Machines that come with a mailbox; shares are of delivered mails, drawn apart from what its person does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Machines {
    /// A privacy proxy that loads the pixel at once, as Apple Mail's does.
    pub prefetch: f64,
    /// A scanner that follows every link at once.
    pub scanners: f64,
    /// A scanner that asks for the head of every link.
    pub heads: f64,
}

/// How long things take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delays {
    /// From the acceptance to the event that says delivered or bounced.
    pub delivery: Latency,
    /// From the acceptance to the opening; nobody opens in the first [`super::NOBODY_READS`].
    pub open: Latency,
    /// From the opening to the click, to the unsubscribe, to the complaint.
    pub click: Latency,
    /// From the click to the conversion.
    pub convert: Latency,
}

impl Default for Delays {
    fn default() -> Delays {
        let fixed = |ms| Latency::Fixed { ms };
        Delays {
            delivery: fixed(200.0),
            open: Latency::LogNormal { median_ms: 4_000.0, p99_ms: 12_000.0 },
            click: Latency::Uniform { from_ms: 300.0, to_ms: 2_000.0 },
            convert: Latency::Uniform { from_ms: 200.0, to_ms: 1_000.0 },
        }
    }
}

impl Default for Truth {
    fn default() -> Truth {
        Truth { seed: 1, variants: Vec::new(), machines: Machines::default(), delays: Delays::default() }
    }
}

impl Truth {
    /// Refuses shares that are none and those that do not nest.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.variants.is_empty(), "no variant: say what readers do");
        let machines = [self.machines.prefetch, self.machines.scanners, self.machines.heads];
        ensure!(machines.iter().all(|share| is_share(*share)), "shares of machines are from 0 to 1: {machines:?}");
        for taste in &self.variants {
            let name = &taste.name;
            let shares =
                [taste.delivered, taste.opens, taste.clicks, taste.converts, taste.unsubscribes, taste.complains];
            ensure!(shares.iter().all(|share| is_share(*share)), "{name:?}: shares are from 0 to 1: {shares:?}");
            ensure!(
                taste.converts <= taste.clicks && taste.clicks <= taste.opens,
                "{name:?}: who converts has clicked, and who clicks has opened"
            );
            ensure!(
                taste.unsubscribes <= taste.opens && taste.complains <= taste.opens,
                "{name:?}: who unsubscribes or complains has opened"
            );
            ensure!(taste.links.iter().all(|weight| *weight >= 0.0), "{name:?}: weights of links are not negative");
        }
        Ok(())
    }

    /// Whether anything is told by events and not over links.
    pub fn needs_events(&self) -> bool {
        self.variants.iter().any(|t| t.delivered < 1.0 || t.converts > 0.0 || t.complains > 0.0)
    }

    /// The variant that a mail belongs to.
    pub fn variant(&self, subject: &str) -> Option<usize> {
        self.variants.iter().position(|taste| subject.starts_with(&taste.subject))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truth_is_a_table_of_a_scenario() {
        let truth: Truth = toml::from_str(
            "seed = 3\n[[variants]]\nname = \"A\"\nsubject = \"News\"\nopens = 0.3\nclicks = 0.06\n\
             [machines]\nprefetch = 0.2\n[delays]\nopen = \"lognormal:3000,9000\"\nclick = 500\n",
        )
        .unwrap();
        truth.check().unwrap();
        assert_eq!((truth.variant("News from Paris"), truth.variant("Other")), (Some(0), None), "by the subject");
        assert_eq!(truth.variants[0].delivered, 1.0, "all are delivered unless told otherwise");
        assert!(!truth.needs_events(), "opens and clicks need no events");
        assert!(toml::from_str::<Truth>("[machines]\nscanner = 0.2\n").is_err(), "a word that is none");
    }

    #[test]
    fn contradictions_are_refused() {
        let of = |taste: Taste| Truth { variants: vec![taste], ..Truth::default() }.check();
        assert!(of(Taste { opens: 0.2, clicks: 0.3, ..Taste::default() }).is_err(), "clicks without opens");
        assert!(of(Taste { opens: 1.2, ..Taste::default() }).is_err(), "more than all");
        assert!(of(Taste { complains: 0.1, ..Taste::default() }).is_err(), "a complaint unseen");
        assert!(Truth::default().check().is_err(), "nobody");
        assert!(of(Taste { opens: 0.2, clicks: 0.1, converts: 0.05, ..Taste::default() }).is_ok());
    }
}
