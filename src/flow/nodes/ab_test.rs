//! A/X test: a sample is shared out over the arms, the rest waits here and leaves by the winner's exit.
//!
//! Invariants: AB-1 who left by an arm never leaves by another (the journaled move is the assignment); AB-2 the rest leaves
//! only after a decision, and a decision is made once.

use serde::{Deserialize, Serialize};

use super::{Fault, exit_faults};
use crate::flow::graph::Exit;
use crate::limits;

/// What an arm is judged by: contacts of the arm with at least one such event, machines left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    Opens,
    #[default]
    Clicks,
    Conversions,
}

impl Metric {
    pub fn name(self) -> &'static str {
        match self {
            Metric::Opens => "opens",
            Metric::Clicks => "clicks",
            Metric::Conversions => "conversions",
        }
    }
}

/// What happens at the deadline when no arm is proven to be better.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotProven {
    /// The arm with the highest rate, labelled as not proven.
    #[default]
    Leader,
    /// A person chooses.
    Wait,
    /// The rest gets nothing.
    Nobody,
    /// This arm.
    Arm(Exit),
}

/// How many of the arriving contacts are tested on, all arms together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SampleSize {
    /// Hundredths of a per cent.
    Share(u32),
    Contacts(u64),
}

impl SampleSize {
    /// Contacts of the sample out of `eligible`, never more than there are.
    pub fn of(self, eligible: u64) -> u64 {
        match self {
            SampleSize::Share(basis) => {
                let exact = u128::from(eligible) * u128::from(basis) / 10_000;
                u64::try_from(exact).unwrap_or(eligible).min(eligible)
            }
            SampleSize::Contacts(count) => count.min(eligible),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arm {
    pub exit: Exit,
    /// Share of the sample beside the other arms.
    pub weight: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbTest {
    pub arms: Vec<Arm>,
    pub sample: SampleSize,
    pub metric: Metric,
    /// From the moment the sample was cut to the deadline.
    pub decide_after_seconds: u32,
    /// Planned looks, evenly spaced, the last at the deadline.
    pub looks: u16,
    pub not_proven: NotProven,
    /// Accepted contacts that each arm needs before anything is called proven.
    pub min_delivered: u64,
    /// Events that each arm needs before anything is called proven.
    pub min_events: u64,
    /// Events count for so long after each contact's own send, and a contact is judged when it is over; 0: no window.
    #[serde(default)]
    pub window_seconds: u32,
    /// With [`Metric::Conversions`]: the name of the conversion that counts; any if there is none.
    #[serde(default)]
    pub goal: Option<String>,
    /// The variants go out at moments of their own, and not side by side: nothing is looked at before every arm is mature.
    #[serde(default)]
    pub moments: bool,
    /// Contacts come over time, and all of them are tested on until there is a winner, whom those who come later get. There
    /// is no deadline: the test is looked at every so many seconds from its first contact on; 0: a test of one set.
    #[serde(default)]
    pub look_every_seconds: u32,
}

/// By which the rest leaves when nobody wins.
pub const REST: Exit = Exit(std::borrow::Cow::Borrowed("rest"));

impl AbTest {
    pub fn exits(&self) -> Vec<Exit> {
        self.arms.iter().map(|arm| arm.exit.clone()).collect()
    }

    pub fn arm(&self, exit: &Exit) -> Option<usize> {
        self.arms.iter().position(|arm| arm.exit == *exit)
    }

    /// A test of a stream, without an end of its own.
    pub fn continuing(&self) -> bool {
        self.look_every_seconds > 0
    }

    /// The look that is due now, if it comes after look `last`.
    pub fn look_due(&self, cut_at_ms: i64, last: u16, now_ms: i64) -> Option<u16> {
        if self.continuing() {
            let passed = now_ms.saturating_sub(cut_at_ms) / (i64::from(self.look_every_seconds) * 1_000);
            let look = u16::try_from(passed.max(0)).unwrap_or(u16::MAX);
            return (look > last).then_some(look);
        }
        let due = |look: &u16| cut_at_ms.saturating_add(self.look_after_ms(*look)) <= now_ms;
        (last.saturating_add(1)..=self.looks).rev().find(due)
    }

    /// Whether what is not proven at this look is settled by the setting.
    pub fn is_deadline(&self, look: u16) -> bool {
        !self.continuing() && look >= self.looks
    }

    /// Milliseconds after the cut at which look `number` (from 1) is planned.
    pub fn look_after_ms(&self, number: u16) -> i64 {
        let whole = i64::from(self.decide_after_seconds) * 1_000;
        whole * i64::from(number.min(self.looks)) / i64::from(self.looks.max(1))
    }

    pub fn faults(&self) -> Vec<Fault> {
        let mut found = self.faults_of_arms();
        if self.continuing() {
            self.faults_of_stream(&mut found);
        } else {
            self.faults_of_set(&mut found);
        }
        if self.goal.is_some() && self.metric != Metric::Conversions {
            let message = format!("the test names a goal and is decided by {}", self.metric.name());
            found.push(Fault::new("goal", message, "set test.winner_by = \"conversions\", or remove test.goal"));
        }
        if let Some(goal) = self.goal.as_deref().filter(|goal| self.metric == Metric::Conversions && !is_goal(goal)) {
            let message = format!("the goal {goal:?} is no type of events that a sender reports and a variant wins by");
            let fix = "name a type of events of your own, such as \"purchase\"; without a goal every conversion counts";
            found.push(Fault::new("goal", message, fix));
        }
        if let NotProven::Arm(exit) = &self.not_proven
            && self.arm(exit).is_none()
        {
            let message = format!("no variant is named {:?}, which is to be sent when nothing is proven", exit.name());
            found.push(Fault::new("unknown_variant", message, "name a variant in test.if_not_proven"));
        }
        found
    }

    fn faults_of_arms(&self) -> Vec<Fault> {
        let mut found = Vec::new();
        exit_faults(self.arms.iter().map(|arm| &arm.exit), &mut found);
        if !(2..=limits::WINNER_ARMS_MAX).contains(&self.arms.len()) {
            let message =
                format!("a test has 2 to {} variants, and this one {}", limits::WINNER_ARMS_MAX, self.arms.len());
            found.push(Fault::new("arms", message, "add a variant, or remove some"));
        }
        if self.arms.iter().any(|arm| arm.weight == 0) {
            found.push(Fault::new("arm_share", "a variant has no share of the sample", "give each a weight from 1"));
        }
        if self.arms.iter().any(|arm| arm.exit == REST) {
            let message = format!("a variant is named {:?}, as the exit of those who get nothing", REST.name());
            found.push(Fault::new("exit_twice", message, "choose another name"));
        }
        found
    }

    fn faults_of_stream(&self, found: &mut Vec<Fault>) {
        for (code, what, seconds) in [
            ("look_every", "the time between looks", self.look_every_seconds),
            ("window", "the window", self.window_seconds),
        ] {
            if !(1..=limits::WAIT_SECONDS_MAX).contains(&seconds) {
                let message = format!("{what} is {seconds} seconds, and 1 to {} may be", limits::WAIT_SECONDS_MAX);
                found.push(Fault::new(code, message, "set a length within these bounds"));
            }
        }
        if self.moments {
            let message = "contacts who come over time cannot be tested on moments";
            found.push(Fault::new("moments", message, "remove the moments, or test on one set"));
        }
    }

    fn faults_of_set(&self, found: &mut Vec<Fault>) {
        match self.sample {
            SampleSize::Share(basis) if basis == 0 || basis > 10_000 => {
                let message = "the sample must be more than 0 % and at most 100 %";
                found.push(Fault::new("sample", message, "set test.sample, such as \"20%\""));
            }
            SampleSize::Contacts(0) => {
                found.push(Fault::new("sample", "the sample is empty", "set test.sample, such as \"20%\""));
            }
            _ => {}
        }
        if !(1..=limits::WINNER_LOOKS_MAX).contains(&u32::from(self.looks)) {
            let message = format!("{} looks are planned, and 1 to {} may be", self.looks, limits::WINNER_LOOKS_MAX);
            found.push(Fault::new("looks", message, "set test.looks"));
        }
        if self.decide_after_seconds == 0 || self.decide_after_seconds > limits::WAIT_SECONDS_MAX {
            let message = format!("the decision must come 1 to {} seconds after the cut", limits::WAIT_SECONDS_MAX);
            found.push(Fault::new("decide_after", message, "set test.decide_after, such as \"4h\""));
        }
        if self.window_seconds > 0 && self.window_seconds >= self.decide_after_seconds {
            let message = format!(
                "events count for {} seconds after each contact's send, and the decision comes {} seconds after the cut: \
                 nobody's window would be over",
                self.window_seconds, self.decide_after_seconds
            );
            found.push(Fault::new("window", message, "set a shorter test.window, or a later test.decide_after"));
        }
    }
}

/// What messages' own links tell, and what providers do: nobody reports it as an event of a contact, or it is no gain.
const NO_GOALS: [&str; 6] = ["opened", "clicked", "unsubscribed", "delivered", "bounced", "complained"];

/// Whether events of this type can come, and a test can be won by them.
fn is_goal(name: &str) -> bool {
    let is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    begins && is_plain && name.len() <= limits::EVENT_TYPE_BYTES_MAX && !NO_GOALS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test() -> AbTest {
        let arm = |name: &'static str| Arm { exit: Exit(name.into()), weight: 1 };
        AbTest {
            arms: vec![arm("A"), arm("B")],
            sample: SampleSize::Share(2_000),
            metric: Metric::Clicks,
            decide_after_seconds: 240 * 60,
            looks: 4,
            not_proven: NotProven::Leader,
            min_delivered: 500,
            min_events: 40,
            window_seconds: 120 * 60,
            goal: None,
            moments: false,
            look_every_seconds: 0,
        }
    }

    #[test]
    fn a_sample_is_a_share_or_a_count_and_never_more_than_there_are() {
        assert_eq!(SampleSize::Share(2_000).of(1_000), 200, "20 %");
        assert_eq!(SampleSize::Share(10_000).of(u64::MAX), u64::MAX, "all of very many");
        assert_eq!(SampleSize::Contacts(50).of(20), 20, "fewer than wanted");
    }

    #[test]
    fn looks_are_evenly_spaced_and_the_last_is_the_deadline() {
        let at: Vec<i64> = (1..=5).map(|k| test().look_after_ms(k) / 60_000).collect();
        assert_eq!(at, [60, 120, 180, 240, 240]);
    }

    #[test]
    fn a_stream_is_looked_at_again_and_again_and_has_no_deadline() {
        let stream = AbTest { look_every_seconds: 3_600, decide_after_seconds: 0, looks: 0, ..test() };
        assert_eq!(stream.faults(), [], "sound");
        let due = |last, hours: i64| stream.look_due(0, last, hours * 3_600_000);
        assert_eq!([due(0, 0), due(0, 1), due(1, 1), due(1, 30)], [None, Some(1), None, Some(30)], "every hour");
        assert!(!stream.is_deadline(u16::MAX), "no look is the last");
        let once = test();
        let due = |last, minutes: i64| once.look_due(0, last, minutes * 60_000);
        assert_eq!(
            [due(0, 59), due(0, 60), due(0, 130), due(2, 130), due(2, 999)],
            [None, Some(1), Some(2), None, Some(4)]
        );
        assert!(once.is_deadline(4) && !once.is_deadline(3), "the last is");
        let broken = AbTest { window_seconds: 0, moments: true, ..stream };
        let codes: Vec<_> = broken.faults().into_iter().map(|f| f.code).collect();
        assert_eq!(codes, ["window", "moments"], "a stream needs a window, and no moments");
    }

    type Break = fn(&mut AbTest);

    #[test]
    fn each_fault_has_its_code() {
        assert_eq!(test().faults(), [], "sound");
        let cases: [(Break, &str); 14] = [
            (|t| drop(t.arms.pop()), "arms"),
            (|t| t.arms[1].exit = Exit("A".into()), "exit_twice"),
            (|t| t.arms[1].exit = Exit(" ".into()), "unnamed_exit"),
            (|t| t.arms[0].weight = 0, "arm_share"),
            (|t| t.sample = SampleSize::Share(10_001), "sample"),
            (|t| t.sample = SampleSize::Contacts(0), "sample"),
            (|t| t.looks = 0, "looks"),
            (
                |t| {
                    t.decide_after_seconds = 0;
                    t.window_seconds = 0;
                },
                "decide_after",
            ),
            (|t| t.window_seconds = t.decide_after_seconds, "window"),
            (|t| t.goal = Some("purchase".into()), "goal"),
            (|t| t.not_proven = NotProven::Arm(Exit("C".into())), "unknown_variant"),
            (|t| (t.metric, t.goal) = (Metric::Conversions, Some("complained".into())), "goal"),
            (|t| (t.metric, t.goal) = (Metric::Conversions, Some("my goal".into())), "goal"),
            (|t| (t.metric, t.goal) = (Metric::Conversions, Some(String::new())), "goal"),
        ];
        let goal = AbTest { metric: Metric::Conversions, goal: Some("Order.placed-2".into()), ..test() };
        assert_eq!(goal.faults(), [], "a type of the sender's own");
        for (break_it, code) in cases {
            let mut broken = test();
            break_it(&mut broken);
            let codes: Vec<_> = broken.faults().into_iter().map(|f| f.code).collect();
            assert_eq!(codes, [code], "{code}");
        }
    }
}
