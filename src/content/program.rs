//! A template turned into what is done per contact: static spans to copy, attributes to write, regions to render.
//!
//! Everything that is not a static span or a lone attribute goes, for all parts of the message together, into one
//! *residual template*. In it the static text inside blocks is replaced by a marker and an id, so that minijinja prints
//! a hundred bytes and the splicer expands the ids to bytes that were encoded once.
//!
//! Owns no state. Invariants: PG-1 markers are control characters that no value can print (the formatter drops them) and
//! no source may hold (the compiler refuses them); PG-2 regions stand in the residual template in the order in which the
//! ops of the parts name them; PG-3 nothing inside captured output is a marker.

use std::ops::Range;
use std::sync::Arc;

use crate::contacts::Schema;
use crate::content::html_text::unescape;
use crate::content::native;
use crate::content::pieces::{BuiltIn, Lone, Piece, PieceKind, Pieces};
use crate::content::qp;
use crate::content::tokens::TOKEN_CHARS;
use crate::ids::AttributeId;

/// Marker of a static span; four id characters follow.
pub(super) const SPAN: u8 = 1;
/// Marker of the start of a link with expressions; four id characters follow.
pub(super) const LINK_BEGIN: u8 = 2;
pub(super) const LINK_END: u8 = 3;
/// Stands before each region.
pub(super) const REGION: u8 = 4;
pub(super) const ID_CHARS: usize = 4;
/// Control characters 14 to 29 are the digits of an id.
const DIGIT_ZERO: u8 = 14;
/// Id of a link that is not tracked, but whose expressions are encoded for a URL all the same.
pub(super) const PLAIN_LINK: u16 = u16::MAX;
pub(super) const SPANS_MAX: usize = u16::MAX as usize;

/// A place in a static span into which a token is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotKind {
    Link,
    Unsubscribe,
    View,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Text(String),
    Slot(SlotKind),
}

/// Static text with token slots; for bodies also encoded, from column 0.
#[derive(Clone, Debug, Default)]
pub(super) struct Span {
    pub items: Vec<Item>,
    pub encoded: Vec<u8>,
    /// Where `encoded` stands among the bytes that all copies of the message share.
    pub shared_at: usize,
    pub end_column: usize,
    pub slots: Vec<(usize, SlotKind)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Span(u16),
    Attribute(AttributeId),
    Region,
    /// A region that needs no template engine.
    Native(u16),
    LinkBegin(u16),
    LinkEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartKind {
    Header,
    Text,
    Html,
}

#[derive(Clone, Debug)]
pub(super) struct Part {
    pub kind: PartKind,
    pub ops: Vec<Op>,
}

impl Part {
    /// The text of a part that is the same for everyone.
    pub fn static_text(&self, spans: &[Span]) -> Option<String> {
        let mut text = String::new();
        for op in &self.ops {
            let Op::Span(id) = op else { return None };
            for item in &spans.get(usize::from(*id))?.items {
                let Item::Text(t) = item else { return None };
                text.push_str(t);
            }
        }
        Some(text)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EditKind {
    /// A tracked link without expressions: replaced by the redirect's address.
    Static(u16),
    /// A link with expressions, tracked or [`PLAIN_LINK`].
    Expression(u16),
}

/// What becomes of a link. Edits are in source order and do not overlap.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    pub range: Range<usize>,
    pub kind: EditKind,
}

/// What all parts of a message share.
#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    pub spans: Vec<Span>,
    pub residual: String,
    /// Regions that need no template engine.
    pub natives: Vec<Vec<native::Node>>,
    /// Text inside captured output, printed through variables so that it is counted against the output's limit.
    pub captured_texts: Vec<String>,
    pub uses: Uses,
    pub too_many_spans: bool,
}

/// Which tokens and texts a message needs per contact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Uses {
    pub link: bool,
    pub view: bool,
    pub unsubscribe_text: bool,
    pub view_text: bool,
}

/// What the names of a template stand for: addresses of the public listener, the campaign, attributes.
#[derive(Clone, Debug)]
pub(super) struct Urls<'a> {
    pub public_url: &'a str,
    pub campaign_name: &'a str,
    pub schema: &'a Schema,
}

pub(super) fn captured_name(index: usize) -> String {
    format!("estafette_text_{index}")
}

impl Program {
    /// Adds one part of the message.
    pub fn add(&mut self, kind: PartKind, source: &str, pieces: &Pieces, edits: &[Edit], urls: &Urls<'_>) -> Part {
        self.uses.unsubscribe_text |= pieces.uses_unsubscribe_text;
        self.uses.view_text |= pieces.uses_view_text;
        let before = self.residual.len();
        let mut builder = Builder {
            program: self,
            kind,
            source,
            urls,
            ops: Vec::new(),
            items: Vec::new(),
            region: String::new(),
            may_be_native: !pieces.binds_names && pieces.captures.is_empty(),
            link: None,
            edits,
        };
        for piece in &pieces.pieces {
            builder.piece(piece);
        }
        builder.flush_items();
        builder.flush_region();
        let ops = builder.ops;
        if self.residual.len() > before {
            let scope = if pieces.binds_names { ("{% with %}", "{% endwith %}") } else { ("", "") };
            let escape =
                if kind == PartKind::Html { ("", "") } else { ("{% autoescape false %}", "{% endautoescape %}") };
            self.residual.insert_str(before, &format!("{}{}", escape.0, scope.0));
            self.residual.push_str(scope.1);
            self.residual.push_str(escape.1);
        }
        Part { kind, ops }
    }

    /// The encoded bytes of all spans, one after the other, with those of `tail` behind them.
    pub fn share(&mut self, tail: &[u8]) -> Arc<[u8]> {
        let mut shared = Vec::new();
        for span in &mut self.spans {
            span.shared_at = shared.len();
            shared.extend_from_slice(&span.encoded);
        }
        shared.extend_from_slice(tail);
        shared.into()
    }

    fn add_span(&mut self, items: Vec<Item>, encode: bool) -> u16 {
        let mut span = Span { items, ..Span::default() };
        for item in &span.items {
            match item {
                Item::Text(text) if encode => {
                    span.end_column = qp::encode(&mut span.encoded, span.end_column, text);
                }
                Item::Slot(kind) => {
                    self.uses.link |= *kind == SlotKind::Link;
                    self.uses.view |= *kind == SlotKind::View;
                    if encode {
                        span.end_column = qp::unbroken(&mut span.encoded, span.end_column, &[b'x'; TOKEN_CHARS]);
                        span.slots.push((span.encoded.len() - TOKEN_CHARS, *kind));
                    }
                }
                Item::Text(_) => {}
            }
        }
        if self.spans.len() >= SPANS_MAX {
            self.too_many_spans = true;
            return 0;
        }
        self.spans.push(span);
        u16::try_from(self.spans.len() - 1).unwrap_or(0)
    }
}

fn marker(kind: u8, id: u16) -> String {
    let digit = |shift: u32| char::from(DIGIT_ZERO + ((id >> shift) & 15) as u8);
    [char::from(kind), digit(12), digit(8), digit(4), digit(0)].iter().collect()
}

/// The id after a marker.
pub(super) fn marker_id(digits: &[u8]) -> u16 {
    digits.iter().take(ID_CHARS).fold(0, |id, d| (id << 4) | u16::from(d.wrapping_sub(DIGIT_ZERO) & 15))
}

struct Builder<'a> {
    program: &'a mut Program,
    kind: PartKind,
    source: &'a str,
    urls: &'a Urls<'a>,
    ops: Vec<Op>,
    /// Static text that is not yet a span.
    items: Vec<Item>,
    /// Residual text that is not yet a region.
    region: String,
    /// Nothing that one region binds is used in another.
    may_be_native: bool,
    /// The link with expressions that is open: its end, and whether it began inside a block.
    link: Option<(usize, bool)>,
    edits: &'a [Edit],
}

impl Builder<'_> {
    fn piece(&mut self, piece: &Piece) {
        if piece.captured {
            self.captured_piece(piece);
            return;
        }
        let in_block = piece.depth > 0;
        match piece.kind {
            PieceKind::Text => self.text(piece.range.clone(), in_block),
            PieceKind::Print(lone) => {
                self.open_link_at(piece.range.start, in_block);
                self.print(piece, lone, in_block);
                self.close_link_at(piece.range.end);
            }
            PieceKind::Block => {
                self.open_link_at(piece.range.start, piece.depth > 1);
                self.tag(piece);
                self.close_link_at(piece.range.end);
            }
        }
    }

    fn captured_piece(&mut self, piece: &Piece) {
        if piece.kind == PieceKind::Text {
            let name = captured_name(self.program.captured_texts.len());
            self.program.captured_texts.push(self.source[piece.range.clone()].to_owned());
            self.flush_items();
            self.region.push_str("{{ ");
            self.region.push_str(&name);
            self.region.push_str(" }}");
        } else {
            self.tag(piece);
        }
    }

    fn tag(&mut self, piece: &Piece) {
        self.flush_items();
        self.region.push_str(&self.source[piece.range.clone()]);
    }

    fn print(&mut self, piece: &Piece, lone: Option<Lone>, in_block: bool) {
        match lone {
            Some(Lone::Attribute(id)) if !in_block => {
                self.flush_items();
                self.flush_region();
                self.ops.push(Op::Attribute(id));
            }
            Some(Lone::BuiltIn(built_in))
                if self.link.is_none() && !(in_block && built_in == BuiltIn::CampaignName) =>
            {
                let items = self.built_in(built_in);
                self.static_items(items, in_block);
            }
            lone => {
                if let Some(Lone::BuiltIn(built_in)) = lone {
                    self.program.uses.unsubscribe_text |= built_in == BuiltIn::UnsubscribeUrl;
                    self.program.uses.view_text |= built_in == BuiltIn::ViewUrl;
                }
                self.tag(piece);
            }
        }
    }

    fn built_in(&self, built_in: BuiltIn) -> Vec<Item> {
        let url = |path: &str, slot: SlotKind, end: &str| {
            let mut items = vec![Item::Text(format!("{}{path}", self.urls.public_url)), Item::Slot(slot)];
            if !end.is_empty() {
                items.push(Item::Text(end.to_owned()));
            }
            items
        };
        match built_in {
            BuiltIn::UnsubscribeUrl => url(super::UNSUBSCRIBE_PATH, SlotKind::Unsubscribe, ""),
            BuiltIn::ViewUrl => url(super::VIEW_PATH, SlotKind::View, ""),
            BuiltIn::OpenUrl => url(super::OPEN_PATH, SlotKind::Link, super::OPEN_SUFFIX),
            BuiltIn::CampaignName => {
                let name = self.urls.campaign_name;
                vec![Item::Text(if self.kind == PartKind::Html { escape_html(name) } else { name.to_owned() })]
            }
        }
    }

    fn text(&mut self, range: Range<usize>, in_block: bool) {
        let mut at = range.start;
        while at < range.end {
            if let Some((end, _)) = self.link {
                let stop = end.min(range.end);
                self.link_text(at..stop, in_block);
                at = stop;
                self.close_link_at(at);
                continue;
            }
            let next = self.edits.first().filter(|e| e.range.start < range.end).cloned();
            let Some(edit) = next else {
                self.static_items(vec![Item::Text(self.source[at..range.end].to_owned())], in_block);
                return;
            };
            if edit.range.start > at {
                self.static_items(vec![Item::Text(self.source[at..edit.range.start].to_owned())], in_block);
            }
            at = edit.range.start.max(at);
            match edit.kind {
                EditKind::Static(index) => {
                    self.edits = &self.edits[1..];
                    let prefix = format!("{}{}", self.urls.public_url, super::LINK_PATH);
                    let items = vec![Item::Text(prefix), Item::Slot(SlotKind::Link), Item::Text(format!("/{index}"))];
                    self.static_items(items, in_block);
                    at = edit.range.end.min(range.end);
                }
                EditKind::Expression(_) => self.open_link_at(at, in_block),
            }
        }
    }

    /// Static text of a URL: kept as it is, without entities, for the MAC and the redirect.
    fn link_text(&mut self, range: Range<usize>, in_block: bool) {
        let text = &self.source[range];
        let text = if self.kind == PartKind::Html { unescape(text) } else { text.to_owned() };
        let id = self.program.add_span(vec![Item::Text(text)], false);
        if in_block {
            self.region.push_str(&marker(SPAN, id));
        } else {
            self.flush_region();
            self.ops.push(Op::Span(id));
        }
    }

    fn static_items(&mut self, mut items: Vec<Item>, in_block: bool) {
        if in_block {
            let id = self.program.add_span(items, self.kind != PartKind::Header);
            self.region.push_str(&marker(SPAN, id));
        } else {
            self.flush_region();
            self.items.append(&mut items);
        }
    }

    fn open_link_at(&mut self, at: usize, in_block: bool) {
        let Some(edit) = self.edits.first().filter(|e| self.link.is_none() && e.range.start <= at) else {
            return;
        };
        let EditKind::Expression(index) = edit.kind else { return };
        self.link = Some((edit.range.end, in_block));
        self.edits = &self.edits[1..];
        if in_block {
            self.region.push_str(&marker(LINK_BEGIN, index));
            if self.kind == PartKind::Html {
                self.region.push_str("{% autoescape false %}");
            }
        } else {
            self.flush_items();
            self.flush_region();
            self.ops.push(Op::LinkBegin(index));
        }
    }

    fn close_link_at(&mut self, at: usize) {
        let Some((_, in_block)) = self.link.filter(|(end, _)| at >= *end) else {
            return;
        };
        if in_block {
            if self.kind == PartKind::Html {
                self.region.push_str("{% endautoescape %}");
            }
            self.region.push(char::from(LINK_END));
        } else {
            self.flush_region();
            self.ops.push(Op::LinkEnd);
        }
        self.link = None;
    }

    fn flush_items(&mut self) {
        if !self.items.is_empty() {
            let items = std::mem::take(&mut self.items);
            let id = self.program.add_span(items, self.kind != PartKind::Header);
            self.ops.push(Op::Span(id));
        }
    }

    fn native(&mut self, region: &str) -> Option<u16> {
        if !self.may_be_native || self.link.is_some() {
            return None;
        }
        let index = u16::try_from(self.program.natives.len()).ok()?;
        let nodes = native::compile(region, self.urls.schema, self.urls.campaign_name)?;
        self.program.natives.push(nodes);
        Some(index)
    }

    fn flush_region(&mut self) {
        if self.region.is_empty() {
            return;
        }
        let region = std::mem::take(&mut self.region);
        if let Some(index) = self.native(&region) {
            self.ops.push(Op::Native(index));
            return;
        }
        self.program.residual.push(char::from(REGION));
        let in_html_link = self.link.is_some() && self.kind == PartKind::Html;
        if in_html_link {
            self.program.residual.push_str("{% autoescape false %}");
        }
        self.program.residual.push_str(&region);
        if in_html_link {
            self.program.residual.push_str("{% endautoescape %}");
        }
        self.ops.push(Op::Region);
    }
}

pub(super) fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' | '<' | '>' | '"' | '\'' => out.push_str(qp::entity(c as u8)),
            c => out.push(c),
        }
    }
    out
}
