//! The text part of a mail whose author wrote HTML only, and undoing of HTML entities.
//!
//! Owns no state. Works on the template, not on rendered mails: expressions and block tags stay where they are, so the
//! text is compiled once like any other. Block tags inside dropped markup are kept, so that blocks stay balanced.

use crate::content::links::{BLOCK_MASK, PRINT_MASK, Tag};
use crate::content::pieces::{Piece, PieceKind, Pieces};

/// Elements whose content is not for readers.
const DROPPED: [&[u8]; 5] = [b"head", b"style", b"script", b"title", b"noscript"];
/// Elements that begin a line.
const LINES: [&[u8]; 20] = [
    b"br",
    b"p",
    b"div",
    b"tr",
    b"table",
    b"ul",
    b"ol",
    b"li",
    b"h1",
    b"h2",
    b"h3",
    b"h4",
    b"h5",
    b"h6",
    b"hr",
    b"section",
    b"header",
    b"footer",
    b"blockquote",
    b"pre",
];
/// Elements with an empty line around them.
const PARAGRAPHS: [&[u8]; 10] = [b"p", b"table", b"ul", b"ol", b"h1", b"h2", b"h3", b"h4", b"h5", b"blockquote"];

/// Turns an HTML template into a text template.
pub(super) fn derive(source: &str, pieces: &Pieces, mask: &[u8]) -> String {
    let mut writer = Writer { source, pieces: &pieces.pieces, next_piece: 0, out: String::new(), gap: Gap::None };
    let mut href: Option<std::ops::Range<usize>> = None;
    let mut at = 0;
    while at < mask.len() {
        if mask[at] != b'<' {
            let end = at + mask[at..].iter().position(|b| *b == b'<').unwrap_or(mask.len() - at);
            writer.text(at..end, mask);
            at = end;
            continue;
        }
        if mask[at..].starts_with(b"<!--") {
            let end = position(mask, at + 4, b"-->").map_or(mask.len(), |e| e + 3);
            writer.drop(at..end);
            at = end;
            continue;
        }
        let tag = Tag::read(mask, at);
        let mut end = tag.end;
        if tag.name.is_empty() && !mask[at + 1..].starts_with(b"!") && !tag.closing {
            writer.text(at..at + 1, mask);
            at += 1;
            continue;
        }
        if tag.name.is_empty() {
            end = position(mask, at, b">").map_or(mask.len(), |e| e + 1);
        } else if DROPPED.contains(&tag.name.as_slice()) && !tag.closing {
            let close = [b"</".as_slice(), &tag.name].concat();
            end = position(mask, tag.end, &close).unwrap_or(mask.len());
        }
        writer.line(&tag.name);
        match (tag.name.as_slice(), tag.closing) {
            (b"a", false) => href = tag.value(b"href"),
            (b"a", true) => writer.href(href.take()),
            (b"li", false) => writer.out_words("- "),
            (b"img", false) => {
                if let Some(alt) = tag.value(b"alt") {
                    writer.text(alt, mask);
                }
            }
            _ => {}
        }
        writer.drop(at..end);
        at = end;
    }
    let end = writer.out.trim_end().len();
    writer.out.truncate(end);
    writer.out.push('\n');
    writer.out
}

fn position(mask: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    mask.get(from..)?.windows(what.len()).position(|w| w.eq_ignore_ascii_case(what)).map(|i| from + i)
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    None,
    Space,
    Line,
    Paragraph,
}

struct Writer<'a> {
    source: &'a str,
    pieces: &'a [Piece],
    /// First piece that has not been copied or dropped.
    next_piece: usize,
    out: String,
    gap: Gap,
}

impl Writer<'_> {
    fn line(&mut self, tag: &[u8]) {
        if PARAGRAPHS.contains(&tag) {
            self.gap = Gap::Paragraph;
        } else if LINES.contains(&tag) {
            self.gap = self.gap.max(Gap::Line);
        } else if matches!(tag, b"td" | b"th") {
            self.gap = self.gap.max(Gap::Space);
        }
    }

    fn close_gap(&mut self) {
        if !self.out.is_empty() {
            self.out.push_str(match self.gap {
                Gap::None => "",
                Gap::Space => " ",
                Gap::Line => "\n",
                Gap::Paragraph => "\n\n",
            });
        }
        self.gap = Gap::None;
    }

    fn out_words(&mut self, words: &str) {
        self.close_gap();
        self.out.push_str(words);
    }

    /// Copies a range between tags: words, expressions, block tags.
    fn text(&mut self, range: std::ops::Range<usize>, mask: &[u8]) {
        let mut at = range.start;
        while at < range.end {
            if matches!(mask[at], PRINT_MASK | BLOCK_MASK) {
                let end =
                    at + mask[at..range.end].iter().take_while(|b| matches!(**b, PRINT_MASK | BLOCK_MASK)).count();
                self.tags(end, true);
                at = end;
            } else {
                let end =
                    at + mask[at..range.end].iter().take_while(|b| !matches!(**b, PRINT_MASK | BLOCK_MASK)).count();
                self.words(&self.source[at..end]);
                at = end;
            }
        }
    }

    fn words(&mut self, text: &str) {
        let text = unescape(text);
        for (i, word) in text.split([' ', '\n', '\t', '\r']).enumerate() {
            if i > 0 {
                self.gap = self.gap.max(Gap::Space);
            }
            if !word.is_empty() {
                self.close_gap();
                // A literal brace pair would open a tag in the text template.
                self.out.push_str(&word.replace("{{", "{ {").replace("{%", "{ %").replace("{#", "{ #"));
            }
        }
    }

    /// Copies the tags before `end`: blocks always, printed expressions if wanted.
    fn tags(&mut self, end: usize, print: bool) {
        while let Some(piece) = self.pieces.get(self.next_piece).filter(|p| p.range.start < end) {
            self.next_piece += 1;
            match piece.kind {
                PieceKind::Block => self.out.push_str(bare(&self.source[piece.range.clone()]).as_str()),
                PieceKind::Print(_) if print => {
                    self.close_gap();
                    let tag = &self.source[piece.range.clone()];
                    self.out.push_str(&bare(tag));
                }
                _ => {}
            }
        }
    }

    fn drop(&mut self, range: std::ops::Range<usize>) {
        self.tags(range.end, false);
    }

    fn href(&mut self, range: Option<std::ops::Range<usize>>) {
        let Some(range) = range else { return };
        let url = unescape(self.source[range].trim());
        let shown = self.out.trim_end().ends_with(url.as_str());
        if !shown && !url.is_empty() && !url.starts_with('#') && !url.contains("{%") {
            self.out.push_str(&format!(" <{url}>"));
        }
    }
}

/// A tag without whitespace control: the text has gaps of its own.
fn bare(tag: &str) -> String {
    let (open, close) = (&tag[..2], &tag[tag.len() - 2..]);
    let inner = tag[2..tag.len() - 2].trim_matches(['-', '+']);
    format!("{open}{inner}{close}")
}

/// Undoes HTML entities.
pub(super) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        let end = tail.bytes().take(32).position(|b| b == b';');
        match end.map(|e| &tail[..=e]).filter(|entity| is_entity(entity)) {
            Some(entity) => {
                mail_parser::decoders::html::add_html_token(&mut out, entity.as_bytes(), false);
                rest = &tail[entity.len()..];
            }
            None => {
                out.push('&');
                rest = &tail[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn is_entity(entity: &str) -> bool {
    let inner = entity[1..entity.len() - 1].trim_start_matches('#');
    !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contacts::Schema;
    use crate::content::{links, pieces, problem::Problems};

    fn text(source: &str) -> String {
        let pieces = pieces::cut("html", source, &Schema::built_in(), &mut Problems::default());
        derive(source, &pieces, &links::mask(source, &pieces))
    }

    #[test]
    fn readers_of_text_see_the_words_the_links_and_the_expressions() {
        let html = "<html><head><title>t</title><style>p { x: y }</style></head><body><h1>Hi {{ contact.key }}!</h1>\
                    <p>One &amp; two<br>three <a href=\"https://a.test/?a=1&amp;b={{ contact.key }}\">offer</a>.</p>\
                    <ul>{% if contact.email %}<li>x</li>{% endif %}</ul><img src=q alt='A cat'></body></html>";
        let expected = "Hi {{ contact.key }}!\n\nOne & two\nthree offer <https://a.test/?a=1&b={{ contact.key }}>.\
                        {% if contact.email %}\n\n- x{% endif %}\n\nA cat\n";
        assert_eq!(text(html), expected);
    }

    #[test]
    fn blocks_in_dropped_markup_stay_balanced() {
        assert_eq!(text("<p {% if contact.key %}class=a{% endif %}>x</p>"), "{% if contact.key %}{% endif %}\n\nx\n");
        assert_eq!(text("a < b &unknown; &#233;&eacute;"), "a < b &unknown; éé\n");
    }
}
