//! One compiled message for one contact, spliced: static spans are copied, variable parts rendered and encoded where they
//! stand, tokens written into their slots.
//!
//! The state owned here is a lane's scratch buffers and the current second's date line. Invariants: RN-1 the same message,
//! row, run and time give the same bytes, so that a retry carries the same Message-ID; RN-2 output is ASCII unless the
//! recipient's address is not; RN-3 no line starts with a dot; RN-4 after an error the output buffers are empty.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use minijinja::ErrorKind;
use minijinja::machinery;

use crate::clock::Timestamp;
use crate::content::compile::{CompiledMessage, HeaderLine, RESIDUAL};
use crate::content::context::{self, Variables};
use crate::content::fields::RETURN_PATH_PREFIX;
use crate::content::locale::Language;
use crate::content::program::{self, Item, Op, PLAIN_LINK, Part, PartKind, SlotKind};
use crate::content::source::{Missing, Track};
use crate::content::tokens::{ReturnPathToken, Token, TokenId, TokenKeys};
use crate::content::{env, headers, qp};
use crate::contacts::Record;
use crate::ids::{AttributeId, Channel, ContactRow, MessageId, RowSpace, RunId};
use crate::limits;

/// Row of the links of a message whose tracking is aggregate: nobody.
pub const NOBODY: ContactRow = ContactRow(u32::MAX);

/// For whom, and as what, a message is rendered.
#[derive(Clone, Copy, Debug)]
pub struct Recipient {
    pub space: RowSpace,
    pub run: RunId,
    pub message: MessageId,
    pub row: ContactRow,
    /// The `Date` of the message.
    pub sent_at: Timestamp,
}

impl Recipient {
    fn token_id(&self) -> TokenId {
        TokenId { space: self.space, run: self.run, message: self.message, row: self.row }
    }
}

/// Where a rendered message goes: buffers that a lane owns, and what its transport must know.
#[derive(Debug)]
pub struct Rendered<'a> {
    /// The whole message, CRLF line ends.
    pub body: &'a mut Vec<u8>,
    /// Envelope sender without angle brackets.
    pub return_path: &'a mut String,
    pub needs_8bit: bool,
    pub needs_smtputf8: bool,
    pub needs_dot_stuffing: bool,
}

impl<'a> Rendered<'a> {
    pub fn new(body: &'a mut Vec<u8>, return_path: &'a mut String) -> Rendered<'a> {
        Rendered { body, return_path, needs_8bit: false, needs_smtputf8: false, needs_dot_stuffing: false }
    }
}

/// Why a contact gets no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// An attribute that is printed is missing, and the message says `missing = "skip"`.
    MissingAttribute,
    /// An expression failed for this contact's values.
    RenderFailed,
    /// The template ran out of instructions.
    OutOfFuel,
    TooLarge,
    /// The contact's address is missing or cannot stand in a header.
    BadAddress,
    /// A link with this contact's values is longer than a URL may be.
    UrlTooLong,
}

/// A message that was not rendered, with a sample for the report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sample}")]
pub struct RenderSkip {
    pub reason: SkipReason,
    pub sample: String,
}

fn skip(reason: SkipReason, sample: impl Into<String>) -> RenderSkip {
    let mut sample: String = sample.into();
    if let Some((cut, _)) = sample.char_indices().nth(limits::REPLY_SAMPLE_BYTES) {
        sample.truncate(cut);
    }
    RenderSkip { reason, sample }
}

/// Renders one message for one contact after the other. One per lane thread and message.
#[derive(Debug)]
pub struct Renderer {
    message: Arc<CompiledMessage>,
    keys: TokenKeys,
    variables: Variables,
    uses_residual: bool,
    scratch: Scratch,
    date_second: i64,
    date_line: Vec<u8>,
}

#[derive(Debug, Default)]
struct Scratch {
    residual: String,
    /// How far regions of the residual output are consumed.
    cursor: usize,
    text: String,
    url: String,
    value: String,
}

/// The tokens of one contact; those that the message does not use are not made.
struct Tokens {
    link: Option<Token>,
    unsubscribe: Token,
    view: Option<Token>,
    return_path: ReturnPathToken,
}

impl Tokens {
    fn of(&self, kind: SlotKind) -> &[u8] {
        match kind {
            SlotKind::Link => self.link.as_ref().map_or(&[], |t| t.as_bytes().as_slice()),
            SlotKind::Unsubscribe => self.unsubscribe.as_bytes(),
            SlotKind::View => self.view.as_ref().map_or(&[], |t| t.as_bytes().as_slice()),
        }
    }
}

impl Renderer {
    pub fn new(message: Arc<CompiledMessage>, keys: TokenKeys) -> Renderer {
        let variables = Variables::new(&message.schema, &message.residual_attributes);
        let uses_residual = !message.program.residual.is_empty();
        let scratch = Scratch::default();
        Renderer { message, keys, variables, uses_residual, scratch, date_second: i64::MIN, date_line: Vec::new() }
    }

    pub fn message(&self) -> &Arc<CompiledMessage> {
        &self.message
    }

    /// Renders the message for one contact into `out`, whose buffers are cleared first.
    ///
    /// # Errors
    /// [`RenderSkip`]: this contact gets no message.
    pub fn render(&mut self, record: &Record<'_>, who: &Recipient, out: &mut Rendered<'_>) -> Result<(), RenderSkip> {
        out.body.clear();
        out.return_path.clear();
        (out.needs_8bit, out.needs_smtputf8, out.needs_dot_stuffing) = (false, false, false);
        let rendered = self.render_inner(record, who, out);
        if rendered.is_err() {
            out.body.clear();
            out.return_path.clear();
        }
        rendered
    }

    fn render_inner(&mut self, record: &Record<'_>, who: &Recipient, out: &mut Rendered<'_>) -> Result<(), RenderSkip> {
        let address = record.address(Channel::Email).unwrap_or("");
        if !headers::is_safe_address(address) {
            return Err(skip(SkipReason::BadAddress, format!("{address:?} is not an address that can be mailed")));
        }
        let tokens = self.tokens(who);
        if self.uses_residual {
            self.residual(record, &tokens)?;
        }
        self.date(who.sent_at);
        let message = &*self.message;
        self.scratch.cursor = 0;
        let mut splicer = Splicer {
            message,
            keys: &self.keys,
            record,
            id: who.token_id(),
            tokens: &tokens,
            scratch: &mut self.scratch,
        };
        let body = &mut *out.body;
        splicer.headers(body, address, &self.date_line)?;
        body.extend_from_slice(&message.skeleton.head);
        splicer.body(&message.text, body)?;
        if let (Some(html), Some(middle)) = (&message.html, &message.skeleton.middle) {
            body.extend_from_slice(middle);
            splicer.body(html, body)?;
        }
        body.extend_from_slice(&message.skeleton.tail);
        if body.len() > limits::MESSAGE_BYTES_MAX {
            return Err(skip(SkipReason::TooLarge, format!("the message has {} bytes", body.len())));
        }
        match &message.context.return_path_domain {
            Some(domain) => {
                for part in [RETURN_PATH_PREFIX, tokens.return_path.as_str(), "@", domain] {
                    out.return_path.push_str(part);
                }
            }
            None => out.return_path.push_str(&message.sender.address),
        }
        out.needs_smtputf8 = !address.is_ascii();
        out.needs_8bit = out.needs_smtputf8;
        Ok(())
    }

    fn tokens(&self, who: &Recipient) -> Tokens {
        let id = who.token_id();
        let uses = &self.message.program.uses;
        let link_id = if self.message.track == Track::Aggregate { TokenId { row: NOBODY, ..id } } else { id };
        Tokens {
            link: uses.link.then(|| self.keys.make_link(link_id)),
            unsubscribe: self.keys.make_unsubscribe(id),
            view: (uses.view || uses.view_text).then(|| self.keys.make_view(id)),
            return_path: self.keys.make_return_path(id),
        }
    }

    /// Renders the residual template into the scratch buffer.
    fn residual(&mut self, record: &Record<'_>, tokens: &Tokens) -> Result<(), RenderSkip> {
        let message = &*self.message;
        let language = record.text(AttributeId::LANGUAGE).and_then(Language::from_tag).unwrap_or(message.language);
        env::begin(language, record.text(AttributeId::ZONE).unwrap_or(""));
        self.variables.fill(record);
        let uses = &message.program.uses;
        if uses.unsubscribe_text || uses.view_text {
            let base = &message.context.public_url;
            let unsubscribe = format!("{base}{}{}", super::UNSUBSCRIBE_PATH, tokens.unsubscribe.as_str());
            let view = tokens.view.map(|t| format!("{base}{}{}", super::VIEW_PATH, t.as_str())).unwrap_or_default();
            self.variables.set_urls(&unsubscribe, &view);
        }
        self.scratch.residual.clear();
        let template = message.env.get_template(RESIDUAL).map_err(failed)?;
        let compiled = machinery::get_compiled_template(&template);
        let mut output = machinery::make_string_output(&mut self.scratch.residual);
        machinery::eval(
            &message.env,
            &compiled.instructions,
            self.variables.root(),
            &compiled.blocks,
            &mut output,
            compiled.initial_auto_escape.clone(),
        )
        .map_err(failed)?;
        Ok(())
    }

    /// The date line changes once a second.
    fn date(&mut self, at: Timestamp) {
        let second = at.0.div_euclid(1_000);
        if second != self.date_second {
            self.date_second = second;
            self.date_line.clear();
            self.date_line.extend_from_slice(format!("Date: {}\r\n", headers::date(at)).as_bytes());
        }
    }
}

fn failed(error: minijinja::Error) -> RenderSkip {
    let reason = match error.kind() {
        ErrorKind::OutOfFuel => SkipReason::OutOfFuel,
        ErrorKind::UndefinedError => SkipReason::MissingAttribute,
        ErrorKind::WriteFailure => SkipReason::TooLarge,
        _ => SkipReason::RenderFailed,
    };
    let detail = error.detail().map_or_else(|| error.kind().to_string(), |d| format!("{}: {d}", error.kind()));
    skip(reason, detail)
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
}

/// A body, quoted-printable.
struct BodySink<'o> {
    out: &'o mut Vec<u8>,
    column: usize,
    is_html: bool,
}

impl Sink for BodySink<'_> {
    fn span(&mut self, span: &program::Span, tokens: &Tokens) -> Result<(), RenderSkip> {
        qp::soft_break(self.out, self.column);
        let start = self.out.len();
        if start + span.encoded.len() > limits::MESSAGE_BYTES_MAX {
            return Err(skip(SkipReason::TooLarge, "the message is larger than a message may be"));
        }
        self.out.extend_from_slice(&span.encoded);
        for (at, kind) in &span.slots {
            let token = tokens.of(*kind);
            if let Some(slot) = self.out.get_mut(start + at..start + at + token.len()) {
                slot.copy_from_slice(token);
            }
        }
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
}

struct Splicer<'a> {
    message: &'a CompiledMessage,
    keys: &'a TokenKeys,
    record: &'a Record<'a>,
    id: TokenId,
    tokens: &'a Tokens,
    scratch: &'a mut Scratch,
}

impl Splicer<'_> {
    fn headers(&mut self, out: &mut Vec<u8>, address: &str, date_line: &[u8]) -> Result<(), RenderSkip> {
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

    fn body(&mut self, part: &Part, out: &mut Vec<u8>) -> Result<(), RenderSkip> {
        let mut sink = BodySink { out, column: 0, is_html: part.kind == PartKind::Html };
        self.part(part, &mut sink)
    }

    fn part(&mut self, part: &Part, sink: &mut impl Sink) -> Result<(), RenderSkip> {
        let mut link: Option<u16> = None;
        for op in &part.ops {
            match op {
                Op::Span(id) => self.span(*id, link, sink)?,
                Op::Attribute(id) => self.attribute(*id, link, sink)?,
                Op::Region => self.region(link, sink)?,
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
        let Some(span) = self.message.program.spans.get(usize::from(id)) else { return Ok(()) };
        if link.is_some() { TextSink(&mut self.scratch.url).span(span, self.tokens) } else { sink.span(span, self.tokens) }
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
            let marker = find(&bytes[..end], at, |b| matches!(b, program::SPAN | program::LINK_BEGIN | program::LINK_END));
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
