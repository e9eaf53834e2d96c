//! The splicer: runs the ops of a part for one contact and writes spans, values, regions and links to where they stand.
//!
//! The state owned here is one render's scratch buffers. Invariant: SP-1 every region of the residual output is consumed once,
//! in the order of the ops.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::contacts::Record;
use crate::content::compile::{CompiledMessage, HeaderLine};
use crate::content::native::{Node, Printed, Turn, Walk};
use crate::content::program::{self, Item, Op, PLAIN_LINK, Part, PartKind, SlotKind};
use crate::content::render::{NOBODY, RenderSkip, SkipReason, skip};
use crate::content::shared::SharedSpans;
use crate::content::source::{Missing, Track};
use crate::content::tokens::{ReturnPathToken, TOKEN_CHARS, Token, TokenId, TokenKeys};
use crate::content::{context, headers, qp};
use crate::ids::AttributeId;
use crate::limits;

#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub residual: String,
    /// How far regions of the residual output are consumed.
    pub cursor: usize,
    pub text: String,
    pub url: String,
    pub value: String,
    /// Steps of native regions taken for this contact.
    pub steps: u64,
}

/// The tokens of one contact; those that the message does not use are not made.
pub(super) struct Tokens {
    pub link: Option<Token>,
    pub unsubscribe: Token,
    pub view: Option<Token>,
    pub return_path: ReturnPathToken,
}

impl Tokens {
    pub fn of(&self, kind: SlotKind) -> &[u8] {
        match kind {
            SlotKind::Link => self.link.as_ref().map_or(&[], |t| t.as_bytes().as_slice()),
            SlotKind::Unsubscribe => self.unsubscribe.as_bytes(),
            SlotKind::View => self.view.as_ref().map_or(&[], |t| t.as_bytes().as_slice()),
        }
    }
}

/// What the ops of a part are written to.
trait Sink {
    fn span(&mut self, span: &program::Span, tokens: &Tokens) -> Result<(), RenderSkip>;
    /// A value as it is.
    fn value(&mut self, text: &str);
    /// Output of the template engine, escaped as the part wants it.
    fn rendered(&mut self, text: &str);
    /// A finished link.
    fn link(&mut self, url: &str);
    /// Written so far.
    fn bytes(&self) -> usize;
}

/// A body, quoted-printable.
struct BodySink<'o> {
    out: &'o mut Vec<u8>,
    shared: Option<&'o mut SharedSpans>,
    column: usize,
    is_html: bool,
}

impl BodySink<'_> {
    /// Static bytes of a span: shared if that is worth a cut.
    fn fixed(&mut self, span: &program::Span, from: usize, to: usize) {
        let at = self.out.len();
        if to - from >= SHARED_BYTES_MIN
            && let Some(shared) = &mut self.shared
            && shared.push(at, span.shared_at + from, span.shared_at + to)
        {
            return;
        }
        self.out.extend_from_slice(span.encoded.get(from..to).unwrap_or(&[]));
    }
}

/// Below this a copy costs less than a cut.
const SHARED_BYTES_MIN: usize = 64;

impl Sink for BodySink<'_> {
    fn span(&mut self, span: &program::Span, tokens: &Tokens) -> Result<(), RenderSkip> {
        qp::soft_break(self.out, self.column);
        if self.bytes() + span.encoded.len() > limits::MESSAGE_BYTES_MAX {
            return Err(skip(SkipReason::TooLarge, "the message is larger than a message may be"));
        }
        let mut done = 0;
        for (at, kind) in &span.slots {
            self.fixed(span, done, *at);
            self.out.extend_from_slice(tokens.of(*kind));
            done = at + TOKEN_CHARS;
        }
        self.fixed(span, done, span.encoded.len());
        self.column = span.end_column;
        Ok(())
    }

    fn value(&mut self, text: &str) {
        self.column = if self.is_html {
            qp::encode_html(self.out, self.column, text)
        } else {
            qp::encode(self.out, self.column, text)
        };
    }

    fn rendered(&mut self, text: &str) {
        self.column = qp::encode(self.out, self.column, text);
    }

    fn link(&mut self, url: &str) {
        self.value(url);
    }

    fn bytes(&self) -> usize {
        self.out.len() + self.shared.as_ref().map_or(0, |shared| shared.len())
    }
}

/// A header value, as text.
struct TextSink<'o>(&'o mut String);

impl Sink for TextSink<'_> {
    fn span(&mut self, span: &program::Span, tokens: &Tokens) -> Result<(), RenderSkip> {
        for item in &span.items {
            match item {
                Item::Text(text) => self.0.push_str(text),
                Item::Slot(kind) => self.0.push_str(std::str::from_utf8(tokens.of(*kind)).unwrap_or("")),
            }
        }
        Ok(())
    }

    fn value(&mut self, text: &str) {
        self.0.push_str(text);
    }

    fn rendered(&mut self, text: &str) {
        self.0.push_str(text);
    }

    fn link(&mut self, url: &str) {
        self.0.push_str(url);
    }

    fn bytes(&self) -> usize {
        self.0.len()
    }
}

pub(super) struct Splicer<'a> {
    pub message: &'a CompiledMessage,
    pub keys: &'a TokenKeys,
    pub record: &'a Record<'a>,
    pub id: TokenId,
    pub tokens: &'a Tokens,
    pub scratch: &'a mut Scratch,
}

impl Splicer<'_> {
    pub fn headers(&mut self, out: &mut Vec<u8>, address: &str, date_line: &[u8]) -> Result<(), RenderSkip> {
        let message = self.message;
        for line in &message.header_lines {
            match line {
                HeaderLine::Static(bytes) => out.extend_from_slice(bytes),
                HeaderLine::Unstructured { name, part } => {
                    let value = self.text(part)?;
                    headers::unstructured(out, name, &value);
                    self.scratch.text = value;
                }
                HeaderLine::From { part } => {
                    let value = self.text(part)?;
                    headers::mailbox(out, "From", &value, &message.sender.address);
                    self.scratch.text = value;
                }
            }
        }
        headers::mailbox(out, "To", "", address);
        out.extend_from_slice(date_line);
        for part in ["Message-ID: <", self.tokens.return_path.as_str(), "@", message.sender.domain(), ">\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        let unsubscribe = self.tokens.unsubscribe.as_str();
        for part in ["List-Unsubscribe: <", &message.context.public_url, super::UNSUBSCRIBE_PATH, unsubscribe, ">"] {
            out.extend_from_slice(part.as_bytes());
        }
        if let Some(mailbox) = &message.context.unsubscribe_mailbox {
            for part in [",\r\n <mailto:", mailbox, "?subject=unsubscribe%20", unsubscribe, ">"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        out.extend_from_slice(b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n");
        Ok(())
    }

    /// A header's value; the scratch string goes out and must come back.
    fn text(&mut self, part: &Part) -> Result<String, RenderSkip> {
        let mut value = std::mem::take(&mut self.scratch.text);
        value.clear();
        self.part(part, &mut TextSink(&mut value))?;
        if value.len() > limits::TEXT_BYTES_MAX {
            return Err(skip(SkipReason::TooLarge, "a header is longer than a text may be"));
        }
        Ok(value)
    }

    /// A body; with `shared`, what is the same for all goes there.
    pub fn body(&mut self, part: &Part, out: &mut Vec<u8>, shared: Option<&mut SharedSpans>) -> Result<(), RenderSkip> {
        let mut sink = BodySink { out, shared, column: 0, is_html: part.kind == PartKind::Html };
        self.part(part, &mut sink)
    }

    fn part(&mut self, part: &Part, sink: &mut impl Sink) -> Result<(), RenderSkip> {
        let mut link: Option<u16> = None;
        for op in &part.ops {
            match op {
                Op::Span(id) => self.span(*id, link, sink)?,
                Op::Attribute(id) => self.attribute(*id, link, sink)?,
                Op::Region => self.region(link, sink)?,
                Op::Native(index) => self.native(*index, sink)?,
                Op::LinkBegin(index) => {
                    link = Some(*index);
                    self.scratch.url.clear();
                }
                Op::LinkEnd => self.end_link(link.take(), sink)?,
            }
        }
        Ok(())
    }

    fn span(&mut self, id: u16, link: Option<u16>, sink: &mut impl Sink) -> Result<(), RenderSkip> {
        let Some(span) = self.message.program.spans.get(usize::from(id)) else {
            return Ok(());
        };
        if link.is_some() {
            TextSink(&mut self.scratch.url).span(span, self.tokens)
        } else {
            sink.span(span, self.tokens)
        }
    }

    fn attribute(&mut self, id: AttributeId, link: Option<u16>, sink: &mut impl Sink) -> Result<(), RenderSkip> {
        let Some(value) = self.record.get(id) else {
            if self.message.missing == Missing::Skip {
                let name = self.message.schema.by_id(id).map_or("", |a| &a.name);
                return Err(skip(SkipReason::MissingAttribute, format!("the contact lacks {name:?}")));
            }
            return Ok(());
        };
        let text = context::printed(value, &mut self.scratch.value);
        match link {
            Some(_) => encode_for_url(&mut self.scratch.url, text),
            None => sink.value(text),
        }
        Ok(())
    }

    /// A region that needs no template engine.
    fn native(&mut self, index: u16, sink: &mut impl Sink) -> Result<(), RenderSkip> {
        let message = self.message;
        let Some(nodes) = message.program.natives.get(usize::from(index)) else { return Ok(()) };
        let (turns, steps) = (Vec::new(), self.scratch.steps);
        let mut walk = Walk { record: self.record, schema: &message.schema, missing: message.missing, turns, steps };
        let walked = self.nodes(nodes, &mut walk, sink);
        self.scratch.steps = walk.steps;
        walked
    }

    fn nodes(&mut self, nodes: &[Node], walk: &mut Walk<'_>, sink: &mut impl Sink) -> Result<(), RenderSkip> {
        for node in nodes {
            walk.step()?;
            match node {
                Node::Span(id) => self.span(*id, None, sink)?,
                Node::Print(Printed::Attribute(id)) => self.attribute(*id, None, sink)?,
                Node::Print(Printed::AttributeOr(id, other)) if walk.is_blank(*id) => sink.value(other),
                Node::Print(Printed::AttributeOr(id, _)) => self.attribute(*id, None, sink)?,
                Node::Print(Printed::Entry(level)) => sink.value(walk.entry(*level)),
                Node::Print(Printed::Text(text)) => sink.value(text),
                Node::If { when, then, otherwise } => {
                    let branch = if walk.holds(when)? { then } else { otherwise };
                    self.nodes(branch, walk, sink)?;
                }
                Node::For { list, body, otherwise } => {
                    let entries = walk.entries(*list)?;
                    if entries.is_empty() {
                        self.nodes(otherwise, walk, sink)?;
                    }
                    let count = entries.len();
                    for (index, entry) in entries.into_iter().enumerate() {
                        if sink.bytes() > limits::MESSAGE_BYTES_MAX {
                            return Err(skip(SkipReason::TooLarge, "the message is larger than a message may be"));
                        }
                        walk.turns.push(Turn { entry, index, is_last: index + 1 == count });
                        let turned = self.nodes(body, walk, sink);
                        walk.turns.pop();
                        turned?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The next region of the residual output: text, and markers of what was encoded before.
    fn region(&mut self, mut link: Option<u16>, sink: &mut impl Sink) -> Result<(), RenderSkip> {
        let residual = std::mem::take(&mut self.scratch.residual);
        let bytes = residual.as_bytes();
        let start = find(bytes, self.scratch.cursor, |b| b == program::REGION) + 1;
        let end = find(bytes, start, |b| b == program::REGION);
        self.scratch.cursor = end;
        let mut at = start.min(end);
        let mut result = Ok(());
        while at < end && result.is_ok() {
            let marker =
                find(&bytes[..end], at, |b| matches!(b, program::SPAN | program::LINK_BEGIN | program::LINK_END));
            if marker > at {
                let text = residual.get(at..marker).unwrap_or("");
                match link {
                    Some(_) => encode_for_url(&mut self.scratch.url, text),
                    None => sink.rendered(text),
                }
            }
            let id = || program::marker_id(bytes.get(marker + 1..).unwrap_or(&[]));
            at = marker + 1;
            match bytes.get(marker).filter(|_| marker < end) {
                Some(&program::SPAN) => {
                    at += program::ID_CHARS;
                    result = self.span(id(), link, sink);
                }
                Some(&program::LINK_BEGIN) => {
                    at += program::ID_CHARS;
                    link = Some(id());
                    self.scratch.url.clear();
                }
                Some(_) => result = self.end_link(link.take(), sink),
                None => {}
            }
        }
        self.scratch.residual = residual;
        result
    }

    fn end_link(&mut self, link: Option<u16>, sink: &mut impl Sink) -> Result<(), RenderSkip> {
        let Some(index) = link else { return Ok(()) };
        let url = std::mem::take(&mut self.scratch.url);
        if url.len() > limits::URL_BYTES_MAX {
            return Err(skip(SkipReason::UrlTooLong, format!("a link has {} bytes: {url}", url.len())));
        }
        if index == PLAIN_LINK {
            sink.link(&url);
        } else {
            let row = if self.message.track == Track::Aggregate { NOBODY } else { self.id.row };
            let token = self.keys.make_link_url(TokenId { row, ..self.id }, index, &url);
            let mut redirect = std::mem::take(&mut self.scratch.value);
            redirect.clear();
            for part in [&self.message.context.public_url, super::LINK_URL_PATH, token.as_str()] {
                redirect.push_str(part);
            }
            redirect.push_str(&format!("/{index}/"));
            URL_SAFE_NO_PAD.encode_string(&url, &mut redirect);
            sink.link(&redirect);
            self.scratch.value = redirect;
        }
        self.scratch.url = url;
        Ok(())
    }
}

fn find(bytes: &[u8], from: usize, wanted: impl Fn(u8) -> bool) -> usize {
    let from = from.min(bytes.len());
    bytes[from..].iter().position(|b| wanted(*b)).map_or(bytes.len(), |at| from + at)
}

/// Appends a value to a URL: percent-encoded but for unreserved characters (RFC 3986 2.3), and `/` in the path.
fn encode_for_url(url: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let in_path = !url.contains(['?', '#']);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') || byte == b'/' && in_path {
            url.push(char::from(byte));
        } else if byte >= b' ' && byte != 0x7F {
            url.push('%');
            url.push(char::from(HEX[usize::from(byte >> 4)]));
            url.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}
