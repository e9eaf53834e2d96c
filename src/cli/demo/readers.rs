//! Readers of the demo: they take the mails out of the inbox, look at them as a mail program does, and open and click with a
//! taste that is known beforehand, over the real tracking endpoints.
//!
//! Owns its threads. What a reader does follows from seed, address and taste alone. Each reader has an address of its own
//! (the demo's server believes `X-Forwarded-For` from loopback), for a thousand people behind one address are a machine.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use mail_parser::MessageParser;
use serde_json::Value as Json;

use crate::cli::example_base::Random;
use crate::content::{LINK_PATH, OPEN_PATH};

/// What readers of a message do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taste {
    /// Words that the subject begins with.
    pub subject: &'static str,
    /// Share of its readers who open it.
    pub opens: f64,
    /// Share of its readers who click; they open first.
    pub clicks: f64,
}

/// What they did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    pub read: usize,
    pub opened: usize,
    pub clicked: usize,
}

const THREADS: usize = 4;
/// Nobody reads a mail in its first seconds; who does is taken for a machine.
const BEFORE_READING: Duration = Duration::from_millis(2_300);
const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// Reads every mail that the inbox holds now.
pub(super) fn read_all(inbox: &str, tastes: &[Taste], seed: u64) -> anyhow::Result<Done> {
    std::thread::sleep(BEFORE_READING);
    let mails = list(inbox)?;
    let next = AtomicUsize::new(0);
    let total = std::thread::scope(|scope| {
        let readers: Vec<_> =
            (0..THREADS).map(|_| scope.spawn(|| read_some(inbox, &mails, &next, tastes, seed))).collect();
        let mut total = Done::default();
        for reader in readers {
            let done = reader.join().map_err(|_| anyhow::anyhow!("a reader of the demo fell over"))??;
            total.read += done.read;
            total.opened += done.opened;
            total.clicked += done.clicked;
        }
        anyhow::Ok(total)
    })?;
    Ok(total)
}

fn client() -> anyhow::Result<reqwest::blocking::Client> {
    let builder = reqwest::blocking::Client::builder().redirect(reqwest::redirect::Policy::none());
    Ok(builder.user_agent(AGENT).timeout(Duration::from_secs(10)).build()?)
}

/// Id and recipient of each mail.
fn list(inbox: &str) -> anyhow::Result<Vec<(u64, String)>> {
    let http = client()?;
    let mut mails = Vec::new();
    loop {
        let url = format!("{inbox}/mails.json?offset={}", mails.len());
        let page: Json = http.get(&url).send().and_then(|answer| answer.json()).context("the inbox does not answer")?;
        let lines = page["mails"].as_array().map_or(&[][..], Vec::as_slice);
        if lines.is_empty() {
            return Ok(mails);
        }
        let line = |line: &Json| (line["id"].as_u64().unwrap_or(0), line["to"].as_str().unwrap_or("").to_owned());
        mails.extend(lines.iter().map(line));
    }
}

fn read_some(
    inbox: &str,
    mails: &[(u64, String)],
    next: &AtomicUsize,
    tastes: &[Taste],
    seed: u64,
) -> anyhow::Result<Done> {
    let http = client()?;
    let mut done = Done::default();
    while let Some((id, to)) = mails.get(next.fetch_add(1, Ordering::Relaxed)) {
        let mut chance = Chance::new(seed, to);
        let draw = chance.unit();
        // Who does nothing under any taste need not be given the mail.
        if tastes.iter().all(|taste| draw >= taste.opens.max(taste.clicks)) {
            done.read += 1;
            continue;
        }
        let source = http.get(format!("{inbox}/mails/{id}/source")).send()?.bytes()?;
        let Some(mail) = MessageParser::default().parse(&source[..]) else { continue };
        done.read += 1;
        let subject = mail.subject().unwrap_or_default();
        let Some(taste) = tastes.iter().find(|taste| subject.starts_with(taste.subject)) else { continue };
        let html = mail.body_html(0).unwrap_or_default();
        let address = chance.address();
        let visit = |url: &str| http.get(url).header("X-Forwarded-For", &address).send().map(drop);
        if let Some(pixel) = link(&html, OPEN_PATH).filter(|_| draw < taste.opens) {
            visit(pixel)?;
            done.opened += 1;
        }
        if let Some(offer) = link(&html, LINK_PATH).filter(|_| draw < taste.clicks) {
            visit(offer)?;
            done.clicked += 1;
        }
    }
    Ok(done)
}

/// The first address in the mail whose path begins so.
fn link<'h>(html: &'h str, path: &str) -> Option<&'h str> {
    let at = html.find(path)?;
    let start = html[..at].rfind('"')? + 1;
    let length = html[start..].find('"')?;
    html.get(start..start + length)
}

/// Chance by seed and reader, from an FNV-1a hash of the two.
struct Chance(Random);

impl Chance {
    fn new(seed: u64, reader: &str) -> Chance {
        let hash =
            reader.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        Chance(Random(hash ^ seed.rotate_left(32)))
    }

    fn next(&mut self) -> u64 {
        self.0.next()
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn address(&mut self) -> String {
        let [a, b, c, ..] = self.next().to_le_bytes();
        format!("10.{a}.{b}.{}", c.clamp(1, 254))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_link_of_a_kind_is_found() {
        let html = r#"<a href="http://h/c/T1/0">x</a><a href="http://h/c/T1/1">y</a><img src="http://h/o/T2">"#;
        assert_eq!(link(html, LINK_PATH), Some("http://h/c/T1/0"), "link");
        assert_eq!(link(html, OPEN_PATH), Some("http://h/o/T2"), "pixel");
        assert_eq!(link("no links", LINK_PATH), None, "none");
    }

    #[test]
    fn chance_depends_on_seed_and_reader_alone() {
        let draws = |seed, to| {
            let mut chance = Chance::new(seed, to);
            (chance.next(), chance.address())
        };
        assert_eq!(draws(1, "a@x"), draws(1, "a@x"), "the same");
        assert_ne!(draws(1, "a@x"), draws(2, "a@x"), "another seed");
        assert_ne!(draws(1, "a@x"), draws(1, "b@x"), "another reader");
        let mean: f64 = (0..1_000).map(|n| Chance::new(7, &format!("{n}@x")).unit()).sum::<f64>() / 1_000.0;
        assert!((mean - 0.5).abs() < 0.05, "evenly: {mean}");
    }
}
