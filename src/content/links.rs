//! Where the links of a template are, which of them are tracked, and where each leads.
//!
//! Owns no state. Works on a *mask* of the template: the source with everything that is not text overwritten, so that
//! offsets stay and no expression is mistaken for markup. Invariants: LK-1 a tracked link has a static http(s) scheme and
//! host; LK-2 links are in source order and do not overlap; LK-3 a link is either wholly static or goes through
//! [`LinkKind::Expression`].

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::content::pieces::{PieceKind, Pieces};

/// Stands for a printed expression.
pub(super) const PRINT_MASK: u8 = 0x1A;
/// Stands for block tags, comments and trimmed whitespace.
pub(super) const BLOCK_MASK: u8 = 0x1B;

/// A link that goes through the redirect; the campaign's own table of destinations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackedLink {
    pub index: u16,
    /// Where it leads; with the expressions as written, for a link that has some.
    pub url: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Host, and port if any, in lower case: what a redirect with a rendered URL must match.
    pub host: String,
    pub kind: LinkKind,
    /// The link is invisible in the HTML (`display:none`, `hidden`): only machines follow it.
    pub hidden: bool,
}

impl TrackedLink {
    /// Whether a rendered URL may be redirected to: same scheme and host as the table's.
    pub fn allows(&self, url: &str) -> bool {
        match self.kind {
            LinkKind::Static => url == self.url,
            LinkKind::Expression => {
                split_url(url).is_some_and(|(scheme, host)| scheme == self.scheme && host == self.host)
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// One destination for everyone; the token is the contact's.
    Static,
    /// The path or query holds expressions; the rendered URL travels in the link, under its own MAC.
    Expression,
}

/// A link that is left as written, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UntrackedLink {
    pub field: String,
    pub line: u32,
    pub url: String,
    pub reason: &'static str,
}

/// A link as found in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundLink {
    pub range: Range<usize>,
    pub switched_off: bool,
    pub hidden: bool,
    /// In text: a block tag or trimmed space follows without a space, so that the address may go on.
    pub goes_on: bool,
}

/// The template with everything but its text overwritten.
pub(super) fn mask(source: &str, pieces: &Pieces) -> Vec<u8> {
    let mut mask = vec![BLOCK_MASK; source.len()];
    for piece in &pieces.pieces {
        match piece.kind {
            PieceKind::Text => mask[piece.range.clone()].copy_from_slice(&source.as_bytes()[piece.range.clone()]),
            PieceKind::Print(_) => mask[piece.range.clone()].fill(PRINT_MASK),
            PieceKind::Block => {}
        }
    }
    mask
}

pub(super) fn is_masked(mask: &[u8]) -> bool {
    mask.iter().any(|b| matches!(*b, PRINT_MASK | BLOCK_MASK))
}

/// The values of `href` in `a` and `area`, and in Outlook's `v:` shapes.
pub(super) fn find_in_html(mask: &[u8]) -> Vec<FoundLink> {
    let mut links = Vec::new();
    let mut at = 0;
    while let Some(open) = mask[at..].iter().position(|b| *b == b'<').map(|i| at + i) {
        if mask[open..].starts_with(b"<!--") {
            // Conditional comments are markup for Outlook: their content is scanned on; others are passed over.
            let is_conditional = mask[open + 4..].first() == Some(&b'[');
            at = if is_conditional { open + 4 } else { find(mask, open + 4, b"-->").unwrap_or(mask.len()) };
            continue;
        }
        let tag = Tag::read(mask, open);
        if tag.links() {
            links.extend(tag.href());
        }
        at = match tag.name.as_slice() {
            b"style" | b"script" if !tag.closing => find_closing(mask, tag.end, &tag.name),
            _ => tag.end,
        };
    }
    links
}

fn find(mask: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    mask.get(from..)?.windows(what.len()).position(|w| w.eq_ignore_ascii_case(what)).map(|i| from + i)
}

fn find_closing(mask: &[u8], from: usize, name: &[u8]) -> usize {
    find(mask, from, &[b"</", name].concat()).unwrap_or(mask.len())
}

/// One HTML tag: its name in lower case, and its attributes as (name, range of the value without quotes).
pub(super) struct Tag<'m> {
    mask: &'m [u8],
    pub name: Vec<u8>,
    pub closing: bool,
    pub attributes: Vec<(Vec<u8>, Range<usize>)>,
    /// Offset after the `>`.
    pub end: usize,
}

impl<'m> Tag<'m> {
    /// Reads the tag whose `<` stands at `open`, as the HTML standard's tokenizer does.
    pub fn read(mask: &'m [u8], open: usize) -> Tag<'m> {
        let mut at = open + 1;
        let closing = mask.get(at) == Some(&b'/');
        at += usize::from(closing);
        let name_end = run(mask, at, |b| b.is_ascii_alphanumeric() || matches!(b, b':' | b'-'));
        let mut tag =
            Tag { mask, name: mask[at..name_end].to_ascii_lowercase(), closing, attributes: Vec::new(), end: name_end };
        if tag.name.is_empty() {
            tag.end = tag.end.max(open + 1);
            return tag;
        }
        at = name_end;
        loop {
            at = run(mask, at, |b| b.is_ascii_whitespace() || matches!(b, b'/' | PRINT_MASK | BLOCK_MASK));
            match mask.get(at) {
                None => break,
                Some(b'>') => {
                    at += 1;
                    break;
                }
                Some(_) => at = tag.attribute(at),
            }
        }
        tag.end = at;
        tag
    }

    fn attribute(&mut self, start: usize) -> usize {
        let mask = self.mask;
        let name_end = run(mask, start + 1, |b| !b.is_ascii_whitespace() && !matches!(b, b'=' | b'>' | b'/'));
        let name = mask[start..name_end].to_ascii_lowercase();
        let after = run(mask, name_end, |b| b.is_ascii_whitespace());
        if mask.get(after) != Some(&b'=') {
            self.attributes.push((name, name_end..name_end));
            return name_end;
        }
        let value = run(mask, after + 1, |b| b.is_ascii_whitespace());
        match mask.get(value) {
            Some(quote @ (b'"' | b'\'')) => {
                let end = run(mask, value + 1, |b| b != *quote);
                self.attributes.push((name, value + 1..end));
                (end + 1).min(mask.len())
            }
            _ => {
                let end = run(mask, value, |b| !b.is_ascii_whitespace() && b != b'>');
                self.attributes.push((name, value..end));
                end.max(value)
            }
        }
    }

    pub fn value(&self, name: &[u8]) -> Option<Range<usize>> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, range)| range.clone())
    }

    fn links(&self) -> bool {
        !self.closing && (matches!(self.name.as_slice(), b"a" | b"area") || self.name.starts_with(b"v:"))
    }

    fn href(&self) -> Option<FoundLink> {
        let range = trimmed(self.mask, self.value(b"href")?);
        let text = |name: &[u8]| self.value(name).map(|r| self.mask[r].to_ascii_lowercase());
        let style: Vec<u8> =
            text(b"style").unwrap_or_default().into_iter().filter(|b| !b.is_ascii_whitespace()).collect();
        let hides = [b"display:none".as_slice(), b"visibility:hidden"];
        Some(FoundLink {
            range,
            switched_off: text(b"data-track").as_deref() == Some(b"off".as_slice()),
            hidden: self.value(b"hidden").is_some() || hides.iter().any(|h| find(&style, 0, h).is_some()),
            goes_on: false,
        })
    }
}

fn run(mask: &[u8], from: usize, keep: impl Fn(u8) -> bool) -> usize {
    let from = from.min(mask.len());
    from + mask[from..].iter().take_while(|b| keep(**b)).count()
}

fn trimmed(mask: &[u8], range: Range<usize>) -> Range<usize> {
    let value = &mask[range.clone()];
    let start = range.start + (value.len() - value.trim_ascii_start().len());
    start..start + value.trim_ascii().len()
}

/// The http(s) URLs in plain text. Punctuation at the end belongs to the sentence.
pub(super) fn find_in_text(mask: &[u8]) -> Vec<FoundLink> {
    let mut links = Vec::new();
    let mut at = 0;
    while let Some(start) = find(mask, at, b"http") {
        let rest = &mask[start..];
        let lower = rest[..rest.len().min(8)].to_ascii_lowercase();
        let inside_word = start > 0 && mask[start - 1].is_ascii_alphanumeric();
        if inside_word || !(lower.starts_with(b"http://") || lower.starts_with(b"https://")) {
            at = start + 4;
            continue;
        }
        let mut end = run(mask, start, |b| b > b' ' && !matches!(b, b'<' | b'>' | b'"' | 0x7F) || b == PRINT_MASK);
        let goes_on = mask.get(end) == Some(&BLOCK_MASK);
        while end > start && matches!(mask[end - 1], b'.' | b',' | b';' | b':' | b'!' | b'?' | b')' | b']' | b'\'') {
            end -= 1;
        }
        links.push(FoundLink { range: start..end, switched_off: false, hidden: false, goes_on });
        at = end.max(start + 4);
    }
    links
}

/// What a found link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Classified {
    Static {
        url: String,
        scheme: String,
        host: String,
    },
    Expression {
        scheme: String,
        host: String,
    },
    /// http(s) or nothing before an expression that decides the host.
    DynamicHost,
    Other(&'static str),
}

/// `text` is the value as written, entities undone; `mask` the same before that.
pub(super) fn classify(text: &str, mask: &[u8]) -> Classified {
    if !is_masked(mask) {
        return match split_url(text) {
            Some((scheme, host)) => Classified::Static { url: text.to_owned(), scheme, host },
            None if text.starts_with('#') || text.is_empty() => Classified::Other("an anchor within the message"),
            None => Classified::Other("not an http(s) address"),
        };
    }
    let prefix_end = mask.iter().position(|b| matches!(*b, PRINT_MASK | BLOCK_MASK)).unwrap_or(0);
    let prefix = String::from_utf8_lossy(&mask[..prefix_end]).into_owned();
    let lower = prefix.to_ascii_lowercase();
    let authority = lower.strip_prefix("http://").or_else(|| lower.strip_prefix("https://"));
    match authority {
        Some(authority) if authority.contains(['/', '?', '#']) => match split_url(&prefix) {
            Some((scheme, host)) => Classified::Expression { scheme, host },
            None => Classified::DynamicHost,
        },
        Some(_) => Classified::DynamicHost,
        None if "https://".starts_with(&lower) || "http://".starts_with(&lower) => Classified::DynamicHost,
        None => Classified::Other("not an http(s) address"),
    }
}

/// Scheme and host (with port) of an absolute http(s) URL, in lower case. Refuses user names, which are there to mislead.
pub(crate) fn split_url(url: &str) -> Option<(String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "http" && scheme != "https" {
        return None;
    }
    let host = rest.split(['/', '?', '#', '\\']).next().unwrap_or("").to_lowercase();
    let is_host = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']' | '_');
    let plain = !host.is_empty() && !host.starts_with(':') && host.chars().all(is_host);
    let clean = !url.chars().any(|c| c.is_control() || c.is_whitespace());
    (plain && clean).then_some((scheme, host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(source: &str) -> Vec<(&str, bool, bool)> {
        find_in_html(source.as_bytes())
            .into_iter()
            .map(|l| (&source[l.range.clone()], l.switched_off, l.hidden))
            .collect()
    }

    #[test]
    fn links_of_html_are_found_as_a_browser_would() {
        assert_eq!(
            html(r#"<a class=x href=" https://a.test/?x=1&amp;y=2 ">t</a>"#),
            [("https://a.test/?x=1&amp;y=2", false, false)]
        );
        assert_eq!(html("<A HREF='b' data-track=off>"), [("b", true, false)]);
        assert_eq!(html("<a href=c/d>x</a><area href=\"e\">"), [("c/d", false, false), ("e", false, false)]);
        assert_eq!(html("<!-- <a href=x> --><link href=y><style>a<a href=z></style><a href=w>"), [("w", false, false)]);
        assert_eq!(html("<!--[if mso]><v:roundrect href=\"m\"><![endif]-->"), [("m", false, false)]);
        assert_eq!(html("<a style='display: none' href=h>"), [("h", false, true)]);
        assert_eq!(html("a < b <a href"), [("", false, false)], "cut off");
    }

    #[test]
    fn links_of_text_end_before_punctuation() {
        let source = "See https://a.test/x?y=(1). Or (http://b.test), xhttps://no";
        let found: Vec<_> = find_in_text(source.as_bytes()).into_iter().map(|l| &source[l.range]).collect();
        assert_eq!(found, ["https://a.test/x?y=(1", "http://b.test"]);
    }

    #[test]
    fn hosts_are_static_or_refused() {
        let masked = |s: &str| s.replace('@', "\u{1a}").into_bytes();
        let kind = |s: &str| classify(s, &masked(s));
        assert!(matches!(kind("https://a.test/@"), Classified::Expression { .. }), "in the path");
        assert!(matches!(kind("https://a.test?q=@"), Classified::Expression { .. }), "in the query");
        assert_eq!(kind("https://a@.test/"), Classified::DynamicHost, "in the host");
        assert_eq!(kind("https://a.test@"), Classified::DynamicHost, "at the end of the host");
        assert_eq!(kind("@"), Classified::DynamicHost, "everything");
        assert_eq!(kind("mailto:@"), Classified::Other("not an http(s) address"));
        assert_eq!(split_url("https://good.test\\@evil.test/"), Some(("https".into(), "good.test".into())));
        assert_eq!(split_url("https://user@evil.test/"), None, "user names");
        assert_eq!(split_url("https://a.test/\r\nx"), None, "control characters");
    }

    #[test]
    fn a_rendered_url_must_keep_the_tables_host() {
        let link = TrackedLink {
            index: 0,
            url: "https://a.test/{{ x }}".into(),
            scheme: "https".into(),
            host: "a.test".into(),
            kind: LinkKind::Expression,
            hidden: false,
        };
        assert!(link.allows("https://A.test/1"), "same host");
        assert!(!link.allows("http://a.test/1"), "another scheme");
        assert!(!link.allows("https://a.test.evil/1"), "another host");
    }
}
