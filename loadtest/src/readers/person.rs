//! What becomes of one mail: who looks at it, when, and what they do. Pure.
//!
//! Owns no state. Invariants: 1. the same seed, address and variant give the same steps, whenever and in which order mails
//! come; 2. machines act first and people not before [`NOBODY_READS`], and never within that time after the machine of their
//! own mailbox, because then nobody could tell them apart.

use std::time::Duration;

use super::NOBODY_READS;
use super::letter::Letter;
use super::truth::{Taste, Truth};
use crate::rng::{Rng, unit_of};

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// An event: it reached the mailbox.
    Delivered,
    /// An event: it did not.
    Bounced,
    /// Loads the pixel as a privacy proxy does.
    Prefetch(String),
    /// Follows a link as a scanner does.
    Scan(String),
    /// Asks for a link's head.
    Head(String),
    Open(String),
    Click(String),
    /// An event of the shop.
    Converted,
    /// One click in the mail program.
    Unsubscribe(String),
    /// An event of the mailbox provider.
    Complained,
}

/// An act and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) act: Act,
    /// From the acceptance, or from the step before.
    pub(super) wait: Duration,
    pub(super) since: Since,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    Acceptance,
    /// From the acceptance too, and at least [`NOBODY_READS`] after the step before was done.
    AcceptanceAndQuiet,
    Before,
}

/// Who a mail's reader is to the web server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Face {
    pub(super) address: String,
    pub(super) agent: &'static str,
}

const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
];

/// The steps of one mail, in order.
pub(super) fn steps(truth: &Truth, variant: usize, recipient: &str, letter: &Letter) -> Vec<Step> {
    let Some(taste) = truth.variants.get(variant) else { return Vec::new() };
    let draw = |salt: u64| unit_of(truth.seed.wrapping_mul(31).wrapping_add(salt), recipient.as_bytes());
    let mut rng = Rng::salted(truth.seed, (draw(1) * (1u64 << 53) as f64) as u64);
    let step = |act, wait, since| Step { act, wait, since };
    let delivery = truth.delays.delivery.draw(&mut rng);
    if draw(2) >= taste.delivered {
        return vec![step(Act::Bounced, delivery, Since::Acceptance)];
    }
    let mut steps = machines(truth, letter, draw);
    if truth.needs_events() {
        steps.push(step(Act::Delivered, delivery, Since::Acceptance));
    }
    // One draw for all that nests; within those who open, both ends.
    let taken = draw(3);
    if taken >= taste.opens {
        return steps;
    }
    let open = truth.delays.open.draw(&mut rng).max(NOBODY_READS);
    steps.extend(letter.pixel.clone().map(|pixel| step(Act::Open(pixel), open, Since::AcceptanceAndQuiet)));
    if taken < taste.clicks
        && let Some(link) = choose(taste, letter, draw(4))
    {
        steps.push(step(Act::Click(link), truth.delays.click.draw(&mut rng), Since::Before));
        if taken < taste.converts {
            steps.push(step(Act::Converted, truth.delays.convert.draw(&mut rng), Since::Before));
        }
    }
    if taken < taste.unsubscribes
        && let Some(way) = letter.unsubscribe.clone()
    {
        steps.push(step(Act::Unsubscribe(way), truth.delays.click.draw(&mut rng), Since::Before));
    }
    if taken >= taste.opens - taste.complains {
        steps.push(step(Act::Complained, truth.delays.click.draw(&mut rng), Since::Before));
    }
    steps
}

fn machines(truth: &Truth, letter: &Letter, draw: impl Fn(u64) -> f64) -> Vec<Step> {
    let at_once = |act| Step { act, wait: Duration::ZERO, since: Since::Acceptance };
    let mut steps = Vec::new();
    if draw(5) < truth.machines.prefetch {
        steps.extend(letter.pixel.clone().map(|pixel| at_once(Act::Prefetch(pixel))));
    }
    if draw(6) < truth.machines.heads {
        steps.extend(letter.links.iter().map(|link| at_once(Act::Head(link.clone()))));
    } else if draw(7) < truth.machines.scanners {
        steps.extend(letter.links.iter().map(|link| at_once(Act::Scan(link.clone()))));
    }
    steps
}

/// The link that is clicked; those beyond the weights are not.
fn choose(taste: &Taste, letter: &Letter, draw: f64) -> Option<String> {
    let weight = |n: usize| if taste.links.is_empty() { 1.0 } else { taste.links.get(n).copied().unwrap_or(0.0) };
    let all: f64 = (0..letter.links.len()).map(weight).sum();
    let mut left = draw * all;
    for (n, link) in letter.links.iter().enumerate() {
        if left < weight(n) {
            return Some(link.clone());
        }
        left -= weight(n);
    }
    None
}

/// Address and agent of a reader. Networks differ, because many people of one network at once would be taken for a machine.
pub(super) fn face(seed: u64, recipient: &str) -> Face {
    let bits = (unit_of(seed ^ 0xface, recipient.as_bytes()) * (1u64 << 53) as f64) as u64;
    let [a, b, c, d, e, ..] = bits.to_le_bytes();
    let address = format!("{}.{b}.{c}.{}", 11 + u16::from(a) % 100, 1 + u16::from(d) % 254);
    Face { address, agent: AGENTS[usize::from(e) % AGENTS.len()] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readers::truth::Machines;

    fn letter() -> Letter {
        Letter {
            pixel: Some("p".to_owned()),
            links: ["a", "b", "c"].map(str::to_owned).to_vec(),
            unsubscribe: Some("u".to_owned()),
            ..Letter::default()
        }
    }

    fn all(truth: &Truth) -> Vec<Vec<Act>> {
        let name = |n: u32| format!("u{n}@example.test");
        let acts = |n| steps(truth, 0, &name(n), &letter()).into_iter().map(|step| step.act).collect();
        (0..20_000).map(acts).collect()
    }

    fn share(readers: &[Vec<Act>], of: impl Fn(&Act) -> bool) -> f64 {
        readers.iter().filter(|acts| acts.iter().any(&of)).count() as f64 / readers.len() as f64
    }

    #[test]
    fn shares_come_out_as_they_are_true_and_nest() {
        let taste = Taste {
            delivered: 0.9,
            opens: 0.4,
            clicks: 0.1,
            converts: 0.03,
            unsubscribes: 0.02,
            complains: 0.01,
            links: vec![3.0, 1.0],
            ..Taste::default()
        };
        let truth = Truth { variants: vec![taste], ..Truth::default() };
        let readers = all(&truth);
        let near = |found: f64, wanted: f64| assert!((found / wanted - 1.0).abs() < 0.12, "{found} for {wanted}");
        near(share(&readers, |a| *a == Act::Bounced), 0.1);
        near(share(&readers, |a| matches!(a, Act::Open(_))), 0.9 * 0.4);
        near(share(&readers, |a| matches!(a, Act::Click(_))), 0.9 * 0.1);
        near(share(&readers, |a| *a == Act::Converted), 0.9 * 0.03);
        near(share(&readers, |a| matches!(a, Act::Unsubscribe(_))), 0.9 * 0.02);
        near(share(&readers, |a| *a == Act::Complained), 0.9 * 0.01);
        near(share(&readers, |a| *a == Act::Click("a".to_owned())), 0.9 * 0.075);
        assert_eq!(share(&readers, |a| *a == Act::Click("c".to_owned())), 0.0, "beyond the weights");
        for acts in &readers {
            let has = |of: fn(&Act) -> bool| acts.iter().any(of);
            assert!(!has(|a| matches!(a, Act::Click(_))) || has(|a| matches!(a, Act::Open(_))), "{acts:?}");
            assert!(!has(|a| *a == Act::Converted) || has(|a| matches!(a, Act::Click(_))), "{acts:?}");
            assert!(!has(|a| *a == Act::Bounced) || acts.len() == 1, "who got nothing does nothing: {acts:?}");
        }
        assert_eq!(readers, all(&truth), "and again");
    }

    #[test]
    fn machines_come_first_and_apart_from_people() {
        let machines = Machines { prefetch: 0.3, scanners: 0.2, heads: 0.1 };
        let taste = Taste { opens: 0.5, clicks: 0.2, ..Taste::default() };
        let truth = Truth { variants: vec![taste], machines, ..Truth::default() };
        let readers = all(&truth);
        assert!((share(&readers, |a| matches!(a, Act::Prefetch(_))) - 0.3).abs() < 0.02);
        assert!((share(&readers, |a| matches!(a, Act::Scan(_))) - 0.18).abs() < 0.02, "of those without a head scan");
        assert!((share(&readers, |a| matches!(a, Act::Head(_))) - 0.1).abs() < 0.02);
        let opens = steps(&truth, 0, "x", &letter());
        for n in 0..2_000 {
            for step in steps(&truth, 0, &format!("u{n}"), &letter()) {
                if matches!(step.act, Act::Open(_)) {
                    assert!(step.wait >= NOBODY_READS && step.since == Since::AcceptanceAndQuiet, "{step:?}");
                }
            }
        }
        assert_eq!(opens, steps(&truth, 0, "x", &letter()), "the same steps");
    }

    #[test]
    fn faces_are_of_many_networks() {
        let mut networks: Vec<String> =
            (0..5_000).map(|n| face(1, &format!("u{n}")).address.rsplit_once('.').unwrap().0.to_owned()).collect();
        networks.sort();
        networks.dedup();
        assert!(networks.len() > 4_900, "{}", networks.len());
        assert_eq!(face(1, "a"), face(1, "a"));
    }
}
