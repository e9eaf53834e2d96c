//! Replies other than success, counted by what they say; added to per refused message, read by metrics.
//!
//! Owns its counters. Invariant: RF-1 every label comes from a closed set, whatever a provider writes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Values of the label `reply`: the class of the basic code. HTTP's are the same.
const REPLIES: [&str; 3] = ["4xx", "5xx", "none"];
/// Values of the label `about`: the subject of an enhanced status code (RFC 3463, section 3), from X.0 on; the last if there
/// is none.
const ABOUT: [&str; 9] =
    ["undefined", "address", "mailbox", "system", "network", "protocol", "content", "policy", "unsaid"];

#[derive(Debug, Default)]
pub struct Refusals([[AtomicU64; ABOUT.len()]; REPLIES.len()]);

impl Refusals {
    /// Counts a reply, as the lane gave it: `550 5.1.1 no such user`.
    pub fn count(&self, reply: &str) {
        let (class, about) = place(reply);
        self.0[class][about].fetch_add(1, Relaxed);
    }

    /// Every pair of labels with its count, 0 too, so that a rate is right from the first refusal on.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        let of =
            move |class: usize| move |about: usize| (REPLIES[class], ABOUT[about], self.0[class][about].load(Relaxed));
        // A reply that is none has no enhanced code either.
        let possible = |class: usize| if class == 2 { ABOUT.len() - 1..ABOUT.len() } else { 0..ABOUT.len() };
        (0..REPLIES.len()).flat_map(move |class| possible(class).map(of(class)))
    }
}

/// Places of the labels.
fn place(reply: &str) -> (usize, usize) {
    let unsaid = ABOUT.len() - 1;
    let mut words = reply.split(|c: char| c.is_whitespace() || c == '-');
    let code = words.next().filter(|word| word.len() == 3 && word.bytes().all(|b| b.is_ascii_digit()));
    let class = match code.and_then(|code| code.bytes().next()) {
        Some(b'4') => 0,
        Some(b'5') => 1,
        _ => return (2, unsaid),
    };
    let mut numbers = words.next().unwrap_or_default().splitn(3, '.');
    let parsed: [Option<usize>; 3] = std::array::from_fn(|_| numbers.next().and_then(|number| number.parse().ok()));
    match parsed {
        [Some(4 | 5), Some(subject), Some(_)] if subject < unsaid => (class, subject),
        _ => (class, unsaid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_told_apart_by_code_and_subject() {
        let told = |reply: &str| {
            let (class, about) = place(reply);
            (REPLIES[class], ABOUT[about])
        };
        for (reply, wanted) in [
            ("550 5.1.1 no such user", ("5xx", "address")),
            ("452-4.2.2 mailbox full", ("4xx", "mailbox")),
            ("421 4.7.0 try again later", ("4xx", "policy")),
            ("451 4.3.0 simulated", ("4xx", "system")),
            ("554 transaction failed", ("5xx", "unsaid")),
            ("550", ("5xx", "unsaid")),
            ("429 Too Many Requests", ("4xx", "unsaid")),
            ("550 5.77.1 a subject that nobody knows", ("5xx", "unsaid")),
            ("550 192.0.2.7 is blocked", ("5xx", "unsaid")),
            ("", ("none", "unsaid")),
            ("the message is too large for the relay", ("none", "unsaid")),
            ("12345 5.1.1", ("none", "unsaid")),
        ] {
            assert_eq!(told(reply), wanted, "{reply:?}");
        }
    }

    #[test]
    fn every_pair_is_there_from_the_start_once() {
        let refusals = Refusals::default();
        refusals.count("550 5.1.1 no such user");
        refusals.count("550 5.1.10 null MX");
        refusals.count("nothing");
        let each: Vec<_> = refusals.each().collect();
        assert_eq!(each.len(), 2 * ABOUT.len() + 1, "{each:?}");
        assert_eq!(each.iter().map(|(_, _, count)| count).sum::<u64>(), 3, "{each:?}");
        assert!(each.contains(&("5xx", "address", 2)) && each.contains(&("none", "unsaid", 1)), "{each:?}");
    }
}
