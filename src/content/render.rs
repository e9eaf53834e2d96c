//! One compiled message for one contact, spliced: static spans are copied, variable parts rendered and encoded where they
//! stand, tokens written into their slots.
//!
//! The state owned here is a lane's scratch buffers and the current second's date line. Invariants: RN-1 the same message,
//! row, run and time give the same bytes, so that a retry carries the same Message-ID; RN-2 output is ASCII unless the
//! recipient's address is not; RN-3 no line starts with a dot; RN-4 after an error the output buffers are empty.

use std::sync::Arc;

use minijinja::ErrorKind;
use minijinja::machinery;

use crate::clock::Timestamp;
use crate::contacts::Record;
use crate::content::compile::{CompiledMessage, RESIDUAL};
use crate::content::context::Variables;
use crate::content::fields::RETURN_PATH_PREFIX;
use crate::content::locale::Language;
use crate::content::shared::SharedSpans;
use crate::content::source::Track;
use crate::content::splice::{Scratch, Splicer, Tokens};
use crate::content::tokens::{TokenId, TokenKeys};
use crate::content::{env, headers};
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
    /// If it is there, `body` gets the message's own bytes only, and this what it shares.
    pub shared: Option<&'a mut SharedSpans>,
    pub needs_8bit: bool,
    pub needs_smtputf8: bool,
    pub needs_dot_stuffing: bool,
}

impl<'a> Rendered<'a> {
    pub fn new(body: &'a mut Vec<u8>, return_path: &'a mut String) -> Rendered<'a> {
        let shared = None;
        Rendered { body, return_path, shared, needs_8bit: false, needs_smtputf8: false, needs_dot_stuffing: false }
    }

    /// For a message that shares its static text.
    pub fn sharing(self, shared: &'a mut SharedSpans) -> Rendered<'a> {
        Rendered { shared: Some(shared), ..self }
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

pub(super) fn skip(reason: SkipReason, sample: impl Into<String>) -> RenderSkip {
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
        if let Some(shared) = &mut out.shared {
            shared.begin(&self.message.shared);
        }
        (out.needs_8bit, out.needs_smtputf8, out.needs_dot_stuffing) = (false, false, false);
        let rendered = self.render_inner(record, who, out);
        if rendered.is_err() {
            out.body.clear();
            out.return_path.clear();
            if let Some(shared) = &mut out.shared {
                shared.clear();
            }
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
        self.scratch.steps = 0;
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
        let mut shared = out.shared.as_deref_mut();
        splicer.body(&message.text, body, shared.as_deref_mut())?;
        if let (Some(html), Some(middle)) = (&message.html, &message.skeleton.middle) {
            body.extend_from_slice(middle);
            splicer.body(html, body, shared.as_deref_mut())?;
        }
        let tail = &message.skeleton.tail;
        let end = message.shared.len();
        let at = body.len();
        if !shared.as_deref_mut().is_some_and(|shared| shared.push(at, end - tail.len(), end)) {
            body.extend_from_slice(tail);
        }
        if body.len() + shared.map_or(0, |shared| shared.len()) > limits::MESSAGE_BYTES_MAX {
            return Err(skip(SkipReason::TooLarge, "the message is larger than a message may be"));
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
