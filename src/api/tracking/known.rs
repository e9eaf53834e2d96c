//! Agents that are known: who says itself to be something else than a person's client.
//!
//! Owns no state but the compiled table. Invariants: KN-1 an agent that matches several rows is of the first kind in the order
//! of [`Known`]; KN-2 a row whose kind is [`Known::Robot`] or [`Known::ImageProxy`] has the page of who runs it as its
//! `source`, or, where the source says so, the operator whom the agent itself names; KN-3 no address stands here. Networks change, and which of them a
//! provider uses for what is for the operator to look up: `[tracking] machine_ranges` and `prefetch_ranges`.
//!
//! What this table cannot do: an agent is what the client says. Most scanners of mail gateways say that they are browsers, and
//! no maker documents what its scanner says. They are told by what they do (see `machine`): links in bursts, clicks before the
//! mail can have arrived, links that nobody sees. Apple Mail's privacy proxy says `Mozilla/5.0` and nothing else; Apple does
//! not document that, and `machine` takes it for what it looks like, an image fetched ahead.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

/// What an agent is known as, the surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Known {
    /// A preview, a crawler, a browser without a screen.
    Robot,
    /// Fetches images for its provider's users when they open a mail; follows no links.
    ImageProxy,
    /// Names the maker of a mail gateway. Senders report such agents, no maker documents them.
    Gateway,
    /// An HTTP library or tool: a script, whoever runs it.
    Tool,
}

struct Row {
    kind: Known,
    /// Where its operator says so; for gateways and tools whose name it is.
    #[cfg_attr(not(test), expect(dead_code, reason = "for who doubts a row; a test holds it to be there"))]
    source: &'static str,
    /// Parts of agents, in lower case.
    parts: &'static [&'static str],
}

const fn row(kind: Known, source: &'static str, parts: &'static [&'static str]) -> Row {
    Row { kind, source, parts }
}

const AGENTS: &[Row] = &[
    row(
        Known::Robot,
        "https://developers.google.com/crawling/docs/crawlers-fetchers/overview-google-crawlers",
        &["googlebot", "adsbot-google", "mediapartners-google", "google-safety"],
    ),
    row(
        Known::Robot,
        "https://www.bing.com/webmasters/help/which-crawlers-does-bing-use-8c184ec0",
        &["bingbot", "bingpreview", "msnbot", "microsoftpreview"],
    ),
    row(Known::Robot, "https://support.apple.com/en-us/119829", &["applebot"]),
    row(
        Known::Robot,
        "https://developers.facebook.com/docs/sharing/webmasters/web-crawlers",
        &["facebookexternalhit", "meta-externalagent"],
    ),
    row(Known::Robot, "https://api.slack.com/robots", &["slackbot", "slack-imgproxy"]),
    row(Known::Robot, "https://developers.snap.com/robots", &["snap url preview"]),
    row(Known::Robot, "https://developer.x.com/en/docs/x-for-websites/cards", &["twitterbot"]),
    row(Known::Robot, "http://www.linkedin.com (in the agent)", &["linkedinbot"]),
    row(Known::Robot, "https://discordapp.com (in the agent)", &["discordbot"]),
    row(Known::Robot, "https://telegram.org (the agent names it)", &["telegrambot"]),
    row(Known::Robot, "https://www.whatsapp.com (the agent names it)", &["whatsapp/"]),
    row(Known::Robot, "https://www.skype.com (the agent names it)", &["skypeuripreview"]),
    row(Known::Robot, "https://yandex.com/bots", &["yandexbot"]),
    row(Known::Robot, "http://www.baidu.com/search/spider.html", &["baiduspider"]),
    row(Known::Robot, "https://duckduckgo.com/duckduckbot.html", &["duckduckbot"]),
    row(Known::Robot, "https://developer.amazon.com/support/amazonbot", &["amazonbot"]),
    row(Known::Robot, "https://webmaster.petalsearch.com/site/petalbot", &["petalbot"]),
    row(Known::Robot, "https://ahrefs.com/robot", &["ahrefsbot"]),
    row(Known::Robot, "https://www.semrush.com/bot.html", &["semrushbot"]),
    row(Known::Robot, "https://mj12bot.com", &["mj12bot"]),
    row(Known::Robot, "https://platform.openai.com/docs/gptbot", &["gptbot"]),
    row(Known::Robot, "https://www.anthropic.com (in the agent)", &["claudebot"]),
    row(Known::Robot, "https://developer.chrome.com/docs/chromium/headless", &["headlesschrome"]),
    row(Known::Robot, "https://phantomjs.org", &["phantomjs"]),
    row(Known::ImageProxy, "https://support.google.com/webmasters/answer/1061943", &["googleimageproxy"]),
    row(Known::ImageProxy, "https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html", &["yahoomailproxy"]),
    row(Known::ImageProxy, "https://yandex.com/bots", &["yandeximageresizer"]),
    row(Known::ImageProxy, "https://www.hey.com/image-proxy", &["hey.com/imageproxy"]),
    row(Known::Gateway, "the maker's name", &["barracuda", "proofpoint", "mimecast", "ciscosecureemail"]),
    row(
        Known::Tool,
        "the library's or tool's own agent",
        &[
            "python-requests",
            "python-urllib",
            "python-httpx",
            "aiohttp",
            "go-http-client",
            "java/",
            "java-http-client",
            "okhttp",
            "apache-httpclient",
            "ahc/",
            "jetty",
            "libwww-perl",
            "lua-resty-http",
            "curl/",
            "wget/",
            "scrapy",
            "node-fetch",
            "axios/",
            "undici",
            "reqwest/",
            "guzzlehttp",
            "postmanruntime",
        ],
    ),
];

/// The automaton, and the kind of each of its patterns.
struct Matcher {
    automaton: AhoCorasick,
    kinds: Vec<Known>,
}

/// `None` if the table can't be built, which a test rules out.
static MATCHER: LazyLock<Option<Matcher>> = LazyLock::new(|| {
    let parts = AGENTS.iter().flat_map(|row| row.parts);
    let automaton = AhoCorasick::builder().ascii_case_insensitive(true).build(parts).ok()?;
    let kinds = AGENTS.iter().flat_map(|row| row.parts.iter().map(|_| row.kind)).collect();
    Some(Matcher { automaton, kinds })
});

/// What the agent says that it is.
pub(super) fn agent(agent: &str) -> Option<Known> {
    let matcher = MATCHER.as_ref()?;
    matcher
        .automaton
        .find_overlapping_iter(agent)
        .filter_map(|f| matcher.kinds.get(f.pattern().as_usize()))
        .min()
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_in_any_case_and_in_lower_case_in_the_table() {
        for row in AGENTS {
            for part in row.parts {
                assert_eq!(*part, part.to_ascii_lowercase(), "{part}: the table is in lower case");
                let found = agent(&format!("Mozilla/5.0 (x; {}1.0)", part.to_ascii_uppercase()));
                assert!(found.is_some_and(|found| found <= row.kind), "{part} is found as {found:?}");
            }
        }
    }

    #[test]
    fn whoever_counts_as_a_machine_for_its_agent_says_where_that_is_documented() {
        for row in AGENTS.iter().filter(|row| matches!(row.kind, Known::Robot | Known::ImageProxy)) {
            let is_page = row.source.starts_with("https://") || row.source.starts_with("http://");
            assert!(is_page, "{:?} cites {:?}", row.parts, row.source);
        }
    }

    #[test]
    fn the_surest_kind_counts() {
        assert_eq!(agent("python-requests/2.32 (Proofpoint URL Defense)"), Some(Known::Gateway));
        assert_eq!(agent("Mozilla/5.0 (compatible; bingbot/2.0) Proofpoint"), Some(Known::Robot));
        let gmail = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)";
        assert_eq!(agent(gmail), Some(Known::ImageProxy));
        assert_eq!(
            agent("hey.com/imageproxy Mozilla/5.0 (X11; Linux x86_64) Chrome/134.0.0.0"),
            Some(Known::ImageProxy)
        );
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
}
