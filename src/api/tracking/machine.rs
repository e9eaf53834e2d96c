//! Who caused an open or click: a person, perhaps a machine, a machine. One table of rules, pure.
//!
//! Owns no state. Invariants: MR-1 the first rule that holds decides; MR-2 a rule looks only at the [`Hit`] and what was
//! [`Seen`] shortly before, so that each has its test; MR-3 no rule drops an event: it is counted in its class.
//! Sources for the rules are named beside them.

use std::net::IpAddr;
use std::time::Duration;

use crate::api::port::{EventClass, EventKind};
use crate::limits;

/// One request as the rules see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit<'a> {
    pub(super) head: bool,
    pub(super) agent: &'a str,
    pub(super) address: IpAddr,
    /// The client says itself that it only fetches ahead.
    pub(super) prefetch: bool,
    /// The link is one that no person can see.
    pub(super) hidden: bool,
    /// Time since the provider accepted the mail, if known.
    pub(super) since_accepted: Option<Duration>,
    pub(super) kind: EventKind,
}

/// What happened shortly before, this hit included.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Distinct links of this mail followed within the burst window.
    pub(super) links: usize,
    /// Contacts on whose behalf this address acted within the shared window.
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

/// Agents of mail-security gateways, link previewers and image proxies, lower case. Google's and Yahoo's image proxies
/// fetch when a person opens (their open counts, their click does not exist), so they are not here.
const AGENTS: &[&str] = &[
    "barracuda",
    "proofpoint",
    "mimecast",
    "symantec",
    "messagelabs",
    "fireeye",
    "trendmicro",
    "ironport",
    "safelinks",
    "bingpreview",
    "slackbot",
    "telegrambot",
    "whatsapp/",
    "facebookexternalhit",
    "linkedinbot",
    "twitterbot",
    "discordbot",
    "skypeuripreview",
    "googlebot",
    "bingbot",
    "yandexbot",
    "baiduspider",
    "applebot",
    "ahrefsbot",
    "semrushbot",
    "headlesschrome",
    "phantomjs",
    "python-requests",
    "python-urllib",
    "aiohttp",
    "go-http-client",
    "java/",
    "okhttp",
    "apache-httpclient",
    "libwww-perl",
    "curl/",
    "wget/",
    "scrapy",
    "node-fetch",
    "axios/",
];

/// Agents that fetch images ahead of any person: Apple Mail Privacy Protection sends exactly `Mozilla/5.0`.
const PREFETCH_AGENTS: &[&str] = &["mozilla/5.0"];

/// In order of precedence.
const RULES: &[Rule] = &[
    // a person's client never asks for the head alone
    Rule { name: "head", class: EventClass::Machine, holds: |hit, _| hit.head },
    Rule { name: "hidden_link", class: EventClass::Machine, holds: |hit, _| hit.hidden },
    Rule { name: "known_agent", class: EventClass::Machine, holds: |hit, _| is_known_agent(hit.agent) },
    Rule { name: "known_range", class: EventClass::Machine, holds: |hit, _| is_known_range(hit.address) },
    Rule { name: "prefetch", class: EventClass::Machine, holds: |hit, _| hit.prefetch || is_prefetch_agent(hit) },
    // nobody follows three links in two seconds; scanners follow all
    Rule { name: "link_burst", class: EventClass::Machine, holds: |_, seen| seen.links >= limits::BURST_LINKS },
    Rule { name: "too_soon", class: EventClass::Machine, holds: is_too_soon },
    Rule {
        name: "shared_address",
        class: EventClass::Suspect,
        holds: |_, seen| seen.contacts_of_address > limits::SHARED_CONTACTS,
    },
    Rule {
        name: "shared_agent",
        class: EventClass::Suspect,
        holds: |_, seen| seen.contacts_of_agent > limits::SHARED_CONTACTS,
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

fn is_known_agent(agent: &str) -> bool {
    let agent = agent.to_ascii_lowercase();
    AGENTS.iter().any(|known| agent.contains(known))
}

fn is_prefetch_agent(hit: &Hit<'_>) -> bool {
    hit.kind == EventKind::Open && PREFETCH_AGENTS.iter().any(|known| hit.agent.trim().eq_ignore_ascii_case(known))
}

/// Ranges from which mail scanners are known to follow links (Microsoft 365's Exchange Online Protection publishes
/// 40.92.0.0/15, 40.107.0.0/16, 52.100.0.0/14 and 104.47.0.0/17 as its own) and no person browses.
fn is_known_range(address: IpAddr) -> bool {
    const RANGES: &[([u8; 4], u32)] =
        &[([40, 92, 0, 0], 15), ([40, 107, 0, 0], 16), ([52, 100, 0, 0], 14), ([104, 47, 0, 0], 17)];
    let IpAddr::V4(address) = address else { return false };
    RANGES.iter().any(|(network, bits)| {
        let network = u32::from_be_bytes(*network);
        (network ^ address.to_bits()) >> (32 - bits) == 0
    })
}

fn is_too_soon(hit: &Hit<'_>, _: &Seen) -> bool {
    matches!(hit.kind, EventKind::Click { .. }) && hit.since_accepted.is_some_and(|age| age <= limits::CLICK_TOO_SOON)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

    fn person() -> Hit<'static> {
        Hit {
            head: false,
            agent: BROWSER,
            address: "203.0.113.7".parse().unwrap(),
            prefetch: false,
            hidden: false,
            since_accepted: Some(Duration::from_secs(600)),
            kind: EventKind::Click { link: 0 },
        }
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
        let proxy = Hit {
            kind: EventKind::Open,
            agent: "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
            ..person()
        };
        assert_eq!(judge(&proxy, &Seen::default()), human, "an image proxy fetches when a person opens");
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
        for agent in ["BarracudaCentral/1.0", "Mozilla/5.0 (compatible; Proofpoint URL Defense)", "curl/8.5.0"] {
            check(Hit { agent, ..person() }, Seen::default(), "known_agent", EventClass::Machine);
        }
    }

    #[test]
    fn known_ranges_are_machines() {
        for address in ["40.93.1.1", "52.103.255.255", "104.47.0.9"] {
            check(
                Hit { address: address.parse().unwrap(), ..person() },
                Seen::default(),
                "known_range",
                EventClass::Machine,
            );
        }
        let beside = Hit { address: "104.47.128.1".parse().unwrap(), ..person() };
        assert_eq!(judge(&beside, &Seen::default()).class, EventClass::Human, "the range ends there");
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
    }

    #[test]
    fn no_agent_is_suspect() {
        check(Hit { agent: " ", ..person() }, Seen::default(), "no_agent", EventClass::Suspect);
    }
}
