//! Agents and address ranges that are known: who says itself, or is published, to be something else than a person's client.
//!
//! Owns no state but the compiled table. Invariants: KN-1 an agent that matches several rows is of the first kind in the order
//! of [`Known`]; KN-2 a range stands here only if whose it is has published it, and no person browses from it.
//!
//! Sources, looked at in 2026: agents of crawlers and previews are those that their operators document (Google "Google
//! crawlers", Bing "Which crawlers does Bing use", Apple "About Applebot", Meta "Web crawlers", Slack "Robots", LinkedIn,
//! X, Telegram, WhatsApp and Discord by the previews that they fetch). Gateways name themselves (Barracuda, Proofpoint URL
//! Defense, Mimecast, Cisco, Trend Micro TMES, Symantec/MessageLabs, FireEye/Trellix, Forcepoint, Sophos, Microsoft's
//! preview services). Image proxies: Gmail's `GoogleImageProxy`, `YahooMailProxy`, and those of other mail providers.
//! Ranges: Microsoft "Microsoft 365 URLs and IP address ranges", id 10 (Exchange Online Protection); Google's
//! `googlebot.json`; Bing's `bingbot.json`; Proofpoint "Support information" (networks of its services); Barracuda Campus,
//! Email Gateway Defense "IP analysis" (209.222.80.0/21).

use std::net::IpAddr;
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

/// What an agent is known as, the surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Known {
    /// A scanner of a mail gateway: it follows every link before the mail arrives.
    Scanner,
    /// A preview, a crawler, a browser without a screen.
    Robot,
    /// Fetches images for its provider's users when they open a mail; follows no links.
    ImageProxy,
    /// An HTTP library or tool: a script, whoever runs it.
    Tool,
}

/// Parts of agents, in any case.
const AGENTS: &[(&str, Known)] = &[
    ("barracuda", Known::Scanner),
    ("proofpoint", Known::Scanner),
    ("urldefense", Known::Scanner),
    ("mimecast", Known::Scanner),
    ("symantec", Known::Scanner),
    ("messagelabs", Known::Scanner),
    ("fireeye", Known::Scanner),
    ("trellix", Known::Scanner),
    ("trendmicro", Known::Scanner),
    ("trend micro", Known::Scanner),
    ("ironport", Known::Scanner),
    ("ciscosecureemail", Known::Scanner),
    ("forcepoint", Known::Scanner),
    ("sophos", Known::Scanner),
    ("safelinks", Known::Scanner),
    ("bingpreview", Known::Scanner),
    ("microsoftpreview", Known::Scanner),
    ("skypeuripreview", Known::Robot),
    ("slackbot", Known::Robot),
    ("slack-imgproxy", Known::Robot),
    ("telegrambot", Known::Robot),
    ("whatsapp/", Known::Robot),
    ("facebookexternalhit", Known::Robot),
    ("facebookexternalua", Known::Robot),
    ("meta-externalagent", Known::Robot),
    ("linkedinbot", Known::Robot),
    ("twitterbot", Known::Robot),
    ("discordbot", Known::Robot),
    ("snap url preview", Known::Robot),
    ("googlebot", Known::Robot),
    ("adsbot-google", Known::Robot),
    ("mediapartners-google", Known::Robot),
    ("google-safety", Known::Robot),
    ("bingbot", Known::Robot),
    ("msnbot", Known::Robot),
    ("yandexbot", Known::Robot),
    ("baiduspider", Known::Robot),
    ("duckduckbot", Known::Robot),
    ("applebot", Known::Robot),
    ("amazonbot", Known::Robot),
    ("petalbot", Known::Robot),
    ("ahrefsbot", Known::Robot),
    ("semrushbot", Known::Robot),
    ("mj12bot", Known::Robot),
    ("gptbot", Known::Robot),
    ("claudebot", Known::Robot),
    ("headlesschrome", Known::Robot),
    ("phantomjs", Known::Robot),
    ("googleimageproxy", Known::ImageProxy),
    ("yahoomailproxy", Known::ImageProxy),
    ("mailruimageproxy", Known::ImageProxy),
    ("yandeximageresizer", Known::ImageProxy),
    ("python-requests", Known::Tool),
    ("python-urllib", Known::Tool),
    ("python-httpx", Known::Tool),
    ("aiohttp", Known::Tool),
    ("go-http-client", Known::Tool),
    ("java/", Known::Tool),
    ("java-http-client", Known::Tool),
    ("okhttp", Known::Tool),
    ("apache-httpclient", Known::Tool),
    ("ahc/", Known::Tool),
    ("jetty", Known::Tool),
    ("libwww-perl", Known::Tool),
    ("lua-resty-http", Known::Tool),
    ("curl/", Known::Tool),
    ("wget/", Known::Tool),
    ("scrapy", Known::Tool),
    ("node-fetch", Known::Tool),
    ("axios/", Known::Tool),
    ("undici", Known::Tool),
    ("reqwest/", Known::Tool),
    ("guzzlehttp", Known::Tool),
    ("postmanruntime", Known::Tool),
];

/// Networks of IPv4: first address, bits.
const RANGES_V4: &[([u8; 4], u32)] = &[
    // Exchange Online Protection
    ([40, 92, 0, 0], 15),
    ([40, 107, 0, 0], 16),
    ([52, 100, 0, 0], 14),
    ([104, 47, 0, 0], 17),
    // Proofpoint
    ([67, 231, 144, 0], 20),
    ([208, 84, 64, 0], 22),
    ([208, 86, 200, 0], 22),
    ([91, 209, 104, 0], 24),
    // Barracuda
    ([209, 222, 80, 0], 21),
    // Googlebot; Gmail's image proxy has other networks
    ([66, 249, 64, 0], 20),
    // Bingbot
    ([40, 77, 167, 0], 24),
    ([157, 55, 39, 0], 24),
    ([207, 46, 13, 0], 24),
    ([52, 167, 144, 0], 24),
    ([13, 66, 139, 0], 24),
    ([13, 66, 144, 0], 24),
];

/// Networks of IPv6: their first 48 bits. Exchange Online Protection, Googlebot.
const RANGES_V6: &[[u16; 3]] = &[[0x2a01, 0x0111, 0xf400], [0x2a01, 0x0111, 0xf403], [0x2001, 0x4860, 0x4801]];

/// `None` if the table can't be built, which a test rules out.
static MATCHER: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let patterns = AGENTS.iter().map(|(part, _)| part);
    AhoCorasick::builder().ascii_case_insensitive(true).build(patterns).ok()
});

/// What the agent says that it is.
pub(super) fn agent(agent: &str) -> Option<Known> {
    let matcher = MATCHER.as_ref()?;
    matcher.find_overlapping_iter(agent).map(|found| AGENTS[found.pattern().as_usize()].1).min()
}

/// Whether the address is in a published range of scanners or crawlers.
pub(super) fn is_robots_range(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let bits = address.to_bits();
            RANGES_V4.iter().any(|(network, length)| (u32::from_be_bytes(*network) ^ bits) >> (32 - length) == 0)
        }
        IpAddr::V6(address) => {
            let segments = address.segments();
            RANGES_V6.iter().any(|network| segments.starts_with(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_in_any_case_and_in_lower_case_in_the_table() {
        for (part, kind) in AGENTS {
            assert_eq!(*part, part.to_ascii_lowercase(), "{part}: the table is in lower case");
            let found = agent(&format!("Mozilla/5.0 (x; {}1.0)", part.to_ascii_uppercase()));
            assert!(found.is_some_and(|found| found <= *kind), "{part} is found as {found:?}");
        }
    }

    #[test]
    fn the_surest_kind_counts() {
        assert_eq!(agent("python-requests/2.32 (Proofpoint URL Defense)"), Some(Known::Scanner));
        let gmail = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)";
        assert_eq!(agent(gmail), Some(Known::ImageProxy));
        for browser in [
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
            "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0; Pro)",
            "",
        ] {
            assert_eq!(agent(browser), None, "{browser} is a person's");
        }
    }

    #[test]
    fn ranges_begin_and_end_where_they_are_published() {
        let inside = ["40.93.1.1", "52.103.255.255", "104.47.0.9", "209.222.87.255", "67.231.159.1", "66.249.79.255"];
        for address in inside.into_iter().chain(["2a01:111:f400:7e::1", "2001:4860:4801:10::5"]) {
            assert!(is_robots_range(address.parse().unwrap()), "{address} is in a range");
        }
        // the last two: Gmail's image proxy, Google's own DNS
        for address in
            ["104.47.128.1", "209.222.88.0", "67.231.160.0", "66.249.84.1", "2001:4860:4860::8888", "2a01:111::1"]
        {
            assert!(!is_robots_range(address.parse().unwrap()), "{address} is in none");
        }
    }
}
