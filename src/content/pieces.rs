//! A template cut into pieces: text, printed expressions and block tags, with the block depth of each.
//!
//! Owns no state. minijinja's own tokenizer does the cutting, so that strings, comments, raw blocks and whitespace
//! control mean here what they mean there. Invariants: PC-1 pieces are in source order and do not overlap; PC-2 what lies
//! between them (comments, raw markers, trimmed whitespace) prints nothing; PC-3 text pieces print as they are.

use std::ops::Range;

use minijinja::machinery::{Token, Tokenizer};
use minijinja::syntax::SyntaxConfig;

use crate::contacts::Schema;
use crate::content::problem::{Problems, suggestion};
use crate::ids::AttributeId;

/// Names that a template may use without a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BuiltIn {
    UnsubscribeUrl,
    ViewUrl,
    /// The address of the open pixel; written by the compiler, not for authors.
    OpenUrl,
    CampaignName,
}

/// What a printed expression is, when it is nothing but a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lone {
    Attribute(AttributeId),
    BuiltIn(BuiltIn),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PieceKind {
    Text,
    Print(Option<Lone>),
    Block,
}

#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub range: Range<usize>,
    pub kind: PieceKind,
    /// Blocks around the piece; an opening or closing tag counts as inside its own block.
    pub depth: usize,
    /// The output of the piece is captured by a `set` block, `filter`, `macro`, `call` or recursive loop.
    pub captured: bool,
}

/// One template, cut.
#[derive(Clone, Debug, Default)]
pub(super) struct Pieces {
    pub pieces: Vec<Piece>,
    /// Attributes that occur in any expression.
    pub attributes: Vec<AttributeId>,
    /// Tags of constructs that capture output, by offset.
    pub captures: Vec<usize>,
    /// A `set` or `macro` at any depth: its names must not leak into the next part.
    pub binds_names: bool,
    /// Names of built-in addresses that occur other than printed alone.
    pub uses_unsubscribe_text: bool,
    pub uses_view_text: bool,
    /// Names asked of the grid's cell, with their offsets.
    pub cell_names: Vec<(String, usize)>,
}

pub(super) const KNOWN_NAMES: [&str; 5] = ["contact", "campaign", "cell", "unsubscribe_url", "view_url"];

pub(super) fn syntax() -> SyntaxConfig {
    let mut builder = SyntaxConfig::builder();
    builder.keep_trailing_newline(true);
    builder.build().unwrap_or_default()
}

/// Cuts a template that minijinja has already accepted. Problems go to `problems`.
pub(super) fn cut(field: &str, source: &str, schema: &Schema, problems: &mut Problems) -> Pieces {
    let mut cutter = Cutter {
        field,
        source,
        schema,
        problems,
        out: Pieces::default(),
        open: Vec::new(),
        tag: Vec::new(),
        tag_start: 0,
    };
    let mut tokens = Tokenizer::new(source, field, false, syntax());
    let mut inside: Option<bool> = None;
    while let Ok(Some((token, span))) = tokens.next_token() {
        let (start, end) = (span.start_offset as usize, span.end_offset as usize);
        match token {
            Token::TemplateData(text) => cutter.text(text),
            Token::VariableStart | Token::BlockStart => {
                inside = Some(matches!(token, Token::BlockStart));
                cutter.tag_start = start;
                cutter.tag.clear();
            }
            Token::VariableEnd | Token::BlockEnd => match inside.take() {
                Some(true) => cutter.block(end),
                Some(false) => cutter.print(end),
                None => {}
            },
            token => cutter.tag.push((token, start)),
        }
    }
    cutter.out
}

struct Open {
    keyword: &'static str,
    captures: bool,
}

struct Cutter<'a> {
    field: &'a str,
    source: &'a str,
    schema: &'a Schema,
    problems: &'a mut Problems,
    out: Pieces,
    open: Vec<Open>,
    tag: Vec<(Token<'a>, usize)>,
    tag_start: usize,
}

/// Tags that open a block, with whether they capture its output.
const OPENING: [(&str, bool); 8] = [
    ("if", false),
    ("for", false),
    ("with", false),
    ("autoescape", false),
    ("filter", true),
    ("macro", true),
    ("call", true),
    ("set", true),
];

/// Tags that take in other templates: there are none to take in, and no file is ever read.
const REFUSED: [&str; 5] = ["include", "import", "from", "extends", "block"];

impl<'a> Cutter<'a> {
    fn push(&mut self, range: Range<usize>, kind: PieceKind, depth: usize) {
        let captured = self.open.iter().any(|o| o.captures);
        self.out.pieces.push(Piece { range, kind, depth, captured });
    }

    fn text(&mut self, text: &str) {
        if !text.is_empty() {
            // The tokenizer's span covers trimmed whitespace too; the text itself is a slice of the source.
            let start = text.as_ptr() as usize - self.source.as_ptr() as usize;
            self.push(start..start + text.len(), PieceKind::Text, self.open.len());
        }
    }

    fn print(&mut self, end: usize) {
        let lone = self.lone();
        self.names(lone);
        self.push(self.tag_start..end, PieceKind::Print(lone), self.open.len());
    }

    fn block(&mut self, end: usize) {
        self.names(None);
        let keyword = match self.tag.first() {
            Some((Token::Ident(keyword), _)) => *keyword,
            _ => "",
        };
        if REFUSED.contains(&keyword) {
            self.problems.at(
                "template_inheritance",
                (self.field, self.source, self.tag_start),
                format!("{keyword:?} is not available in a message"),
                "put the text into the message itself",
            );
        }
        self.out.binds_names |= matches!(keyword, "set" | "macro");
        let has = |wanted: &str| self.tag.iter().any(|(t, _)| matches!(t, Token::Ident(i) if *i == wanted));
        let assigns = self.tag.iter().any(|(t, _)| matches!(t, Token::Assign));
        let is_inline_set = keyword == "set"
            && assigns
            && !self.tag.iter().take_while(|(t, _)| !matches!(t, Token::Assign)).any(|(t, _)| matches!(t, Token::Pipe));
        let opens = OPENING.iter().find(|(k, _)| *k == keyword).filter(|_| !is_inline_set);
        if let Some((keyword, captures)) = opens {
            let captures = *captures || (*keyword == "for" && has("recursive"));
            if captures {
                self.out.captures.push(self.tag_start);
            }
            self.open.push(Open { keyword, captures });
        }
        let depth = self.open.len();
        self.push(self.tag_start..end, PieceKind::Block, depth);
        if let Some(name) = keyword.strip_prefix("end")
            && self.open.last().is_some_and(|o| o.keyword == name)
        {
            self.open.pop();
        }
    }

    /// The tag as a bare name, if that is all it is.
    fn lone(&self) -> Option<Lone> {
        match self.tag.as_slice() {
            [(Token::Ident("contact"), _), (Token::Dot, _), (Token::Ident(name), _)]
            | [
                (Token::Ident("contact"), _),
                (Token::BracketOpen, _),
                (Token::Str(name), _),
                (Token::BracketClose, _),
            ] => self.schema.by_name(name).map(|a| Lone::Attribute(a.id)),
            [(Token::Ident("campaign"), _), (Token::Dot, _), (Token::Ident("name"), _)] => {
                Some(Lone::BuiltIn(BuiltIn::CampaignName))
            }
            [(Token::Ident("unsubscribe_url"), _)] => Some(Lone::BuiltIn(BuiltIn::UnsubscribeUrl)),
            [(Token::Ident("view_url"), _)] => Some(Lone::BuiltIn(BuiltIn::ViewUrl)),
            [(Token::Ident("estafette_open_url"), _)] => Some(Lone::BuiltIn(BuiltIn::OpenUrl)),
            _ => None,
        }
    }

    /// Checks every use of `contact` and `campaign` in the tag, and notes attributes and built-ins.
    fn names(&mut self, lone: Option<Lone>) {
        let tag = std::mem::take(&mut self.tag);
        for (i, (token, offset)) in tag.iter().enumerate() {
            let Token::Ident(name) = token else { continue };
            if i > 0 && matches!(tag[i - 1].0, Token::Dot) {
                continue;
            }
            let member = match tag.get(i + 1..) {
                Some([(Token::Dot, _), (Token::Ident(name), at), ..]) => Some((*name, *at)),
                Some([(Token::BracketOpen, _), (Token::Str(name), at), (Token::BracketClose, _), ..]) => {
                    Some((*name, *at))
                }
                _ => None,
            };
            match (*name, member) {
                ("contact", Some((attribute, at))) => self.attribute(attribute, at),
                ("contact", None) => self.problems.at(
                    "bare_contact",
                    (self.field, self.source, *offset),
                    "\"contact\" stands without an attribute",
                    "write contact.name_of_attribute, as in {{ contact.first_name }}",
                ),
                ("campaign", member) if member.map(|m| m.0) != Some("name") => self.problems.at(
                    "unknown_name",
                    (self.field, self.source, *offset),
                    "a campaign has only \"campaign.name\"",
                    "write campaign.name",
                ),
                ("cell", Some((name, at))) => self.out.cell_names.push((name.to_owned(), at)),
                ("unsubscribe_url", _) if lone.is_none() => self.out.uses_unsubscribe_text = true,
                ("view_url", _) if lone.is_none() => self.out.uses_view_text = true,
                _ => {}
            }
        }
        self.tag = tag;
    }

    fn attribute(&mut self, name: &str, at: usize) {
        if let Some(attribute) = self.schema.by_name(name) {
            if !self.out.attributes.contains(&attribute.id) {
                self.out.attributes.push(attribute.id);
            }
            return;
        }
        let near = suggestion(name, self.schema.attributes().iter().map(|a| a.name.as_str()));
        let help = match near {
            Some(near) => format!("did you mean contact.{near}?"),
            None => "add the attribute to the contact base, or import a column of that name".to_owned(),
        };
        self.problems.at(
            "unknown_attribute",
            (self.field, self.source, at),
            format!("the contacts have no attribute {name:?}"),
            help,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(source: &str) -> (Pieces, Problems) {
        let mut problems = Problems::default();
        let schema =
            Schema::built_in().with("tags", crate::contacts::AttributeType::List, None).expect("a new attribute");
        let pieces = cut("html", source, &schema, &mut problems);
        (pieces, problems)
    }

    #[test]
    fn text_prints_and_blocks_are_told_apart_with_their_depth() {
        let source =
            "a {{- contact.email -}} b{# c #}{% if contact.tags %}x{% set y = 1 %}{% set z %}q{% endset %}{% endif %}";
        let (cut, problems) = pieces(source);
        assert!(problems.0.is_empty(), "no problems: {:?}", problems.0);
        let seen: Vec<_> = cut.pieces.iter().map(|p| (&source[p.range.clone()], p.depth, p.captured)).collect();
        assert_eq!(
            seen,
            [
                ("a", 0, false),
                ("{{- contact.email -}}", 0, false),
                ("b", 0, false),
                ("{% if contact.tags %}", 1, false),
                ("x", 1, false),
                ("{% set y = 1 %}", 1, false),
                ("{% set z %}", 2, true),
                ("q", 2, true),
                ("{% endset %}", 2, true),
                ("{% endif %}", 1, false),
            ],
            "pieces"
        );
        assert_eq!(cut.pieces[1].kind, PieceKind::Print(Some(Lone::Attribute(AttributeId::EMAIL))), "lone attribute");
        assert_eq!(cut.captures.len(), 1, "one captured construct");
        assert!(cut.binds_names, "a set binds");
    }

    #[test]
    fn unknown_attributes_have_a_place_and_a_suggestion() {
        let (_, problems) = pieces("ok\n  {{ contact.emial }}");
        assert_eq!(problems.0.len(), 1, "one problem");
        let p = &problems.0[0];
        assert_eq!((p.code, p.line, p.column), ("unknown_attribute", 2, 14), "code and place");
        assert_eq!(p.help, "did you mean contact.email?", "suggestion");
    }
}
