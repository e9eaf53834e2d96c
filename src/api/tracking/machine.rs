//! Who caused an open or click: a person, perhaps a machine, a machine. One table of rules, pure.
//!
//! Owns no state. Invariants: MR-1 the first rule that holds decides; MR-2 a rule looks only at the [`Hit`] and what was
//! [`Seen`] shortly before, so that each has its test; MR-3 no rule drops an event: it is counted in its class.
//! Why a rule holds is said beside it; `known` has the agents, with their sources, and the operator names ranges. Gmail's and
//! Yahoo's image proxies fetch when a person opens: their opens count, unless they come before anybody can have read the mail.

use std::net::IpAddr;
use std::time::Duration;

use crate::api::port::{EventClass, EventKind};
use crate::api::tracking::known::Known;
use crate::limits;

/// One request as the rules see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit<'a> {
    pub(super) head: bool,
    pub(super) agent: &'a str,
    /// What that agent is known as.
    pub(super) known: Option<Known>,
    pub(super) address: IpAddr,
    /// The address is in a range that the operator names.
    pub(super) range: Option<Range>,
    /// The client says itself that it only fetches ahead.
    pub(super) prefetch: bool,
    /// The link is one that no person can see.
    pub(super) hidden: bool,
    /// Time since the provider accepted the mail, if known.
    pub(super) since_accepted: Option<Duration>,
    pub(super) kind: EventKind,
}

/// What the operator says of an address: `[tracking]` in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Range {
    /// `machine_ranges`
    Machine,
    /// `prefetch_ranges`
    Prefetch,
}

/// What happened shortly before, this hit included.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Distinct links of this mail followed by this client within the burst window, counted up to [`limits::BURST_LINKS`].
    pub(super) links: usize,
    /// Contacts on whose behalf this address acted within the shared window, counted up to one above the limit.
    pub(super) contacts_of_address: usize,
    /// Contacts on whose behalf this agent acted from this network within the shared window.
    pub(super) contacts_of_agent: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) class: EventClass,
    pub(super) rule: Option<&'static str>,
}

struct Rule {
    name: &'static str,
    class: EventClass,
    holds: fn(&Hit<'_>, &Seen) -> bool,
}

/// Agents that fetch images ahead of any person, whole. Apple Mail's privacy proxy is seen to send exactly this; Apple does
/// not document it, and no browser or mail client sends so little.
const PREFETCH_AGENTS: &[&str] = &["mozilla/5.0"];

/// In order of precedence.
const RULES: &[Rule] = &[
    // a person's client never asks for the head alone
    Rule { name: "head", class: EventClass::Machine, holds: |hit, _| hit.head },
    Rule { name: "hidden_link", class: EventClass::Machine, holds: |hit, _| hit.hidden },
    Rule { name: "known_agent", class: EventClass::Machine, holds: |hit, _| hit.known == Some(Known::Robot) },
    Rule { name: "machine_range", class: EventClass::Machine, holds: |hit, _| hit.range == Some(Range::Machine) },
    Rule { name: "prefetch", class: EventClass::Machine, holds: |hit, _| hit.prefetch || is_prefetch_agent(hit) },
    // people browse from there as well: a click is anybody's
    Rule {
        name: "prefetch_range",
        class: EventClass::Machine,
        holds: |hit, _| hit.range == Some(Range::Prefetch) && !is_click(hit),
    },
    // an image proxy has no use for a page
    Rule { name: "proxy_click", class: EventClass::Machine, holds: |hit, _| is_image_proxy(hit) && is_click(hit) },
    // nobody follows three links in two seconds; scanners follow all
    Rule { name: "link_burst", class: EventClass::Machine, holds: |_, seen| seen.links >= limits::BURST_LINKS },
    Rule { name: "too_soon", class: EventClass::Machine, holds: |hit, _| is_click(hit) && is_at_once(hit) },
    // before anybody can have opened the mail the proxy fills its cache
    Rule { name: "proxy_prefetch", class: EventClass::Machine, holds: |hit, _| is_image_proxy(hit) && is_at_once(hit) },
    // the name alone is no proof, and a person's browser has no reason to carry it
    Rule { name: "gateway_agent", class: EventClass::Suspect, holds: |hit, _| hit.known == Some(Known::Gateway) },
    Rule { name: "tool_agent", class: EventClass::Suspect, holds: |hit, _| hit.known == Some(Known::Tool) },
    // all users of a provider share its image proxy: that says nothing
    Rule {
        name: "shared_address",
        class: EventClass::Suspect,
        holds: |hit, seen| seen.contacts_of_address > limits::SHARED_CONTACTS && !is_image_proxy(hit),
    },
    Rule {
        name: "shared_agent",
        class: EventClass::Suspect,
        holds: |hit, seen| seen.contacts_of_agent > limits::SHARED_CONTACTS && !is_image_proxy(hit),
    },
    // browsers and mail clients say who they are
    Rule { name: "no_agent", class: EventClass::Suspect, holds: |hit, _| hit.agent.trim().is_empty() },
];

/// The class of a hit, and the rule that decided.
pub(super) fn judge(hit: &Hit<'_>, seen: &Seen) -> Verdict {
    match RULES.iter().find(|rule| (rule.holds)(hit, seen)) {
        Some(rule) => Verdict { class: rule.class, rule: Some(rule.name) },
        None => Verdict { class: EventClass::Human, rule: None },
    }
}

/// Names of the rules, for the figures.
pub(super) fn rules() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|rule| rule.name)
}

fn is_image_proxy(hit: &Hit<'_>) -> bool {
    hit.known == Some(Known::ImageProxy)
}

fn is_click(hit: &Hit<'_>) -> bool {
    matches!(hit.kind, EventKind::Click { .. })
}

fn is_prefetch_agent(hit: &Hit<'_>) -> bool {
    hit.kind == EventKind::Open && PREFETCH_AGENTS.iter().any(|known| hit.agent.trim().eq_ignore_ascii_case(known))
}

/// Nobody has received yet what the provider took a moment ago.
fn is_at_once(hit: &Hit<'_>) -> bool {
    hit.since_accepted.is_some_and(|age| age <= limits::CLICK_TOO_SOON)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tracking::known;

    const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

    fn person() -> Hit<'static> {
        Hit {
            head: false,
            agent: BROWSER,
            known: None,
            address: "203.0.113.7".parse().unwrap(),
            range: None,
            prefetch: false,
            hidden: false,
            since_accepted: Some(Duration::from_secs(600)),
            kind: EventKind::Click { link: 0 },
        }
    }

    const GMAIL: &str = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)";

    fn by(agent: &'static str) -> Hit<'static> {
        Hit { agent, known: known::agent(agent), ..person() }
    }

    #[track_caller]
    fn check(hit: Hit<'_>, seen: Seen, rule: &'static str, class: EventClass) {
        assert_eq!(judge(&hit, &seen), Verdict { class, rule: Some(rule) });
    }

    #[test]
    fn a_person_is_a_person() {
        let human = Verdict { class: EventClass::Human, rule: None };
        assert_eq!(judge(&person(), &Seen { links: 2, contacts_of_address: 5, contacts_of_agent: 5 }), human);
        let open = Hit { kind: EventKind::Open, since_accepted: Some(Duration::ZERO), ..person() };
        assert_eq!(judge(&open, &Seen::default()), human, "a fast open is no sign: clients fetch on arrival");
        let proxy = Hit { kind: EventKind::Open, ..by(GMAIL) };
        let many = Seen { contacts_of_address: 9_999, contacts_of_agent: 9_999, links: 0 };
        assert_eq!(judge(&proxy, &many), human, "an image proxy fetches when a person opens, for all its users");
        assert_eq!(judge(&Hit { since_accepted: None, ..person() }, &Seen::default()), human);
    }

    #[test]
    fn head_is_a_machine() {
        check(Hit { head: true, ..person() }, Seen::default(), "head", EventClass::Machine);
    }

    #[test]
    fn a_hidden_link_is_a_machine() {
        check(Hit { hidden: true, ..person() }, Seen::default(), "hidden_link", EventClass::Machine);
    }

    #[test]
    fn known_agents_are_machines() {
        for agent in [
            "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
            "facebookexternalhit/1.1",
            "WhatsApp/2.24.1",
            "Mozilla/5.0 (compatible; bingbot/2.0)",
        ] {
            check(by(agent), Seen::default(), "known_agent", EventClass::Machine);
        }
    }

    #[test]
    fn an_agent_that_names_a_gateway_is_suspect() {
        for agent in ["BarracudaCentral/1.0", "Mozilla/5.0 (compatible; Proofpoint URL Defense)"] {
            check(by(agent), Seen::default(), "gateway_agent", EventClass::Suspect);
        }
    }

    #[test]
    fn tools_are_suspect() {
        for agent in ["curl/8.5.0", "python-requests/2.32.3", "Go-http-client/2.0", "Java/21.0.1"] {
            check(by(agent), Seen::default(), "tool_agent", EventClass::Suspect);
        }
    }

    #[test]
    fn an_image_proxy_that_follows_a_link_is_a_machine() {
        check(by(GMAIL), Seen::default(), "proxy_click", EventClass::Machine);
    }

    #[test]
    fn an_image_proxy_that_opens_at_once_is_a_machine() {
        let at_once = Hit { kind: EventKind::Open, since_accepted: Some(limits::CLICK_TOO_SOON), ..by(GMAIL) };
        check(at_once, Seen::default(), "proxy_prefetch", EventClass::Machine);
    }

    #[test]
    fn ranges_of_machines_are_machines_whatever_they_do() {
        let from = |kind| Hit { range: Some(Range::Machine), kind, ..person() };
        for kind in [EventKind::Open, EventKind::Click { link: 0 }] {
            check(from(kind), Seen::default(), "machine_range", EventClass::Machine);
        }
    }

    #[test]
    fn ranges_that_fetch_ahead_open_as_machines_and_click_as_people() {
        let from = |kind| Hit { range: Some(Range::Prefetch), kind, ..person() };
        check(from(EventKind::Open), Seen::default(), "prefetch_range", EventClass::Machine);
        let click = judge(&from(EventKind::Click { link: 0 }), &Seen::default());
        assert_eq!(click.class, EventClass::Human, "people browse from there, too");
    }

    #[test]
    fn a_prefetch_is_a_machine() {
        check(Hit { prefetch: true, ..person() }, Seen::default(), "prefetch", EventClass::Machine);
        let apple = Hit { kind: EventKind::Open, agent: "Mozilla/5.0", ..person() };
        check(apple, Seen::default(), "prefetch", EventClass::Machine);
    }

    #[test]
    fn three_links_in_two_seconds_are_a_machine() {
        check(person(), Seen { links: 3, ..Seen::default() }, "link_burst", EventClass::Machine);
    }

    #[test]
    fn a_click_right_after_acceptance_is_a_machine() {
        let soon = Hit { since_accepted: Some(limits::CLICK_TOO_SOON), ..person() };
        check(soon, Seen::default(), "too_soon", EventClass::Machine);
        let later = Hit { since_accepted: Some(limits::CLICK_TOO_SOON + Duration::from_millis(1)), ..person() };
        assert_eq!(judge(&later, &Seen::default()).class, EventClass::Human);
    }

    #[test]
    fn one_address_or_agent_over_many_contacts_is_suspect() {
        let many = limits::SHARED_CONTACTS + 1;
        check(person(), Seen { contacts_of_address: many, ..Seen::default() }, "shared_address", EventClass::Suspect);
        check(person(), Seen { contacts_of_agent: many, ..Seen::default() }, "shared_agent", EventClass::Suspect);
        let names: std::collections::BTreeSet<_> = rules().collect();
        assert_eq!(names.len(), RULES.len(), "each rule has a name of its own");
    }

    #[test]
    fn no_agent_is_suspect() {
        check(Hit { agent: " ", ..person() }, Seen::default(), "no_agent", EventClass::Suspect);
    }
}
