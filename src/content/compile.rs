//! From a [`MessageSource`] to a [`CompiledMessage`], or to the list of everything that is wrong with it.
//!
//! Owns no state. Invariant: CO-1 a message that compiles has rendered once for a contact that has every attribute, within
//! fuel and size.

use std::collections::BTreeSet;
use std::sync::Arc;

use minijinja::{Environment, Value};

use crate::contacts::Schema;
use crate::content::fields::{self, Sender};
use crate::content::linker::Linker;
use crate::content::links::{self, TrackedLink, UntrackedLink};
use crate::content::locale::Language;
use crate::content::pieces::{self, BuiltIn, Lone, PieceKind, Pieces};
use crate::content::probe;
use crate::content::problem::{ContentProblem, Problems, line_and_column};
use crate::content::program::{self, Op, Part, PartKind, Program, Urls};
use crate::content::skeleton::{self, Skeleton};
use crate::content::source::{CompileContext, Footer, MessageSource, Missing, Track};
use crate::content::{env, guard, headers, html_text, markup};
use crate::ids::AttributeId;

pub(super) const RESIDUAL: &str = "residual.html";

/// A header line: the same for everyone, or rendered.
#[derive(Clone, Debug)]
pub(super) enum HeaderLine {
    Static(Vec<u8>),
    Unstructured { name: String, part: Part },
    From { part: Part },
}

/// One message of a campaign, ready to be rendered for any contact. Immutable; shared by all lanes.
#[derive(Clone, Debug)]
pub struct CompiledMessage {
    pub(super) schema: Schema,
    pub(super) context: CompileContext,
    pub(super) program: Program,
    pub(super) header_lines: Vec<HeaderLine>,
    pub(super) text: Part,
    pub(super) html: Option<Part>,
    pub(super) skeleton: Skeleton,
    /// What every copy has: the encoded spans, and the end of the skeleton.
    pub(super) shared: Arc<[u8]>,
    pub(super) env: Environment<'static>,
    pub(super) residual_attributes: Vec<AttributeId>,
    pub(super) sender: Sender,
    pub(super) language: Language,
    pub(super) missing: Missing,
    pub(super) track: Track,
    attributes: Vec<AttributeId>,
    links: Vec<TrackedLink>,
    untracked: Vec<UntrackedLink>,
    slow: Vec<SlowRegion>,
}

/// A construct that captures its output and so is rendered as text for each contact, which is slower.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SlowRegion {
    pub field: String,
    pub line: u32,
    pub construct: String,
}

impl CompiledMessage {
    /// Attributes that the message uses anywhere; a contact that lacks one is counted in the audience summary.
    pub fn used_attributes(&self) -> &[AttributeId] {
        &self.attributes
    }

    /// Attributes without which the message is never rendered: those that it prints bare, outside of every block, if it
    /// skips who lacks a printed one. What lies in blocks and filters (`default(..)`) the renderer alone can tell.
    pub fn required_attributes(&self) -> Vec<AttributeId> {
        if self.missing != Missing::Skip {
            return Vec::new();
        }
        let headers = self.header_lines.iter().filter_map(|line| match line {
            HeaderLine::Static(_) => None,
            HeaderLine::Unstructured { part, .. } | HeaderLine::From { part } => Some(part),
        });
        let ops = headers.chain([&self.text]).chain(&self.html).flat_map(|part| &part.ops);
        let printed = ops.filter_map(|op| match op {
            Op::Attribute(id) => Some(*id),
            _ => None,
        });
        printed.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The campaign's table of destinations: position = index of the link.
    pub fn links(&self) -> &[TrackedLink] {
        &self.links
    }

    /// Whether it has an HTML body, and with it the picture that tells of an open.
    pub fn has_html(&self) -> bool {
        self.html.is_some()
    }

    /// Links that are left as written, each with the reason.
    pub fn untracked(&self) -> &[UntrackedLink] {
        &self.untracked
    }

    pub fn slow_regions(&self) -> &[SlowRegion] {
        &self.slow
    }
}

/// Compiles a message.
///
/// # Errors
/// Everything that is wrong with it, at most a hundred problems.
pub fn compile(
    source: &MessageSource,
    schema: &Schema,
    context: &CompileContext,
) -> Result<CompiledMessage, Vec<ContentProblem>> {
    let mut compiler = Compiler::new(source, schema, context);
    match compiler.compile() {
        Some(message) if compiler.problems.0.is_empty() => Ok(message),
        _ => Err(compiler.problems.0),
    }
}

struct Compiler<'a> {
    source: &'a MessageSource,
    schema: &'a Schema,
    context: &'a CompileContext,
    env: Environment<'static>,
    problems: Problems,
    program: Program,
    attributes: Vec<AttributeId>,
    linker: Linker,
    slow: Vec<SlowRegion>,
}

impl<'a> Compiler<'a> {
    fn new(source: &'a MessageSource, schema: &'a Schema, context: &'a CompileContext) -> Compiler<'a> {
        Compiler {
            source,
            schema,
            context,
            env: env::environment(source.missing),
            problems: Problems::default(),
            program: Program::default(),
            attributes: Vec::new(),
            linker: Linker::new(source.track),
            slow: Vec::new(),
        }
    }

    /// Answers `None`, or whatever, with problems.
    fn compile(&mut self) -> Option<CompiledMessage> {
        let checked = fields::check(self.source, self.context, &mut self.problems);
        let language = self.language();
        let html = self.html();
        let text = self.source.text.as_ref().map(|t| (t.replace("\r\n", "\n"), "text"));
        for (field, template) in self.templates(html.as_ref(), text.as_ref()) {
            if guard::check(&self.env, &field, &template, self.schema, &mut self.problems) {
                self.note(&field, &template);
            }
        }
        if !self.problems.0.is_empty() {
            return None;
        }
        let checked = checked?;
        let header_lines = self.header_lines(&checked);
        let (html, text) = self.bodies(html, text.map(|t| t.0), language)?;
        let text_part = self.part(PartKind::Text, "text", &text);
        let html_part = html.map(|(html, field)| self.part(PartKind::Html, field, &html));
        let skeleton = skeleton::build(html_part.is_some(), checked.files)?;
        let residual_attributes = self.finish_env()?;
        if !self.problems.0.is_empty() {
            return None;
        }
        let shared = self.program.share(&skeleton.tail);
        let message = CompiledMessage {
            shared,
            schema: self.schema.clone(),
            context: self.context.clone(),
            program: std::mem::take(&mut self.program),
            header_lines,
            text: text_part,
            html: html_part,
            skeleton,
            env: self.env.clone(),
            residual_attributes,
            sender: checked.sender,
            language,
            missing: self.source.missing,
            track: self.source.track,
            attributes: std::mem::take(&mut self.attributes),
            links: std::mem::take(&mut self.linker.links),
            untracked: std::mem::take(&mut self.linker.untracked),
            slow: std::mem::take(&mut self.slow),
        };
        probe::probe(&Arc::new(message.clone()), &mut self.problems);
        Some(message)
    }

    fn language(&mut self) -> Language {
        let Some(tag) = &self.source.language else {
            return Language::default();
        };
        Language::from_tag(tag).unwrap_or_else(|| {
            let help = "messages know en, fr, de, es, it, nl and pt";
            self.problems.field("unknown_language", "language", format!("language {tag:?} is not known"), help);
            Language::default()
        })
    }

    /// The HTML template and the field that it comes from.
    fn html(&mut self) -> Option<(String, &'static str)> {
        match (&self.source.html, &self.source.mjml) {
            (Some(html), None) => Some((html.replace("\r\n", "\n"), "html")),
            (None, Some(mjml)) => {
                let mjml = mjml.replace("\r\n", "\n");
                if !guard::check(&self.env, "mjml", &mjml, self.schema, &mut self.problems) {
                    return None;
                }
                let pieces = pieces::cut("mjml", &mjml, self.schema, &mut self.problems);
                markup::flatten_mjml(&mjml, &pieces, &mut self.problems).map(|html| (html, "mjml"))
            }
            (Some(_), Some(_)) => {
                self.problems.field("two_htmls", "mjml", "there are both html and mjml", "keep one of them");
                None
            }
            (None, None) => None,
        }
    }

    fn templates(
        &self,
        html: Option<&(String, &'static str)>,
        text: Option<&(String, &'static str)>,
    ) -> Vec<(String, String)> {
        let mut all =
            vec![("subject".to_owned(), self.source.subject.clone()), ("from".to_owned(), self.source.from.clone())];
        all.extend(self.source.headers.iter().map(|(name, value)| (format!("headers.{name}"), value.clone())));
        all.extend(self.source.preheader.iter().map(|p| ("preheader".to_owned(), p.clone())));
        all.extend(html.into_iter().chain(text).map(|(template, field)| ((*field).to_owned(), template.clone())));
        all
    }

    /// Notes attributes, problems and slow regions of a template that parses.
    fn note(&mut self, field: &str, template: &str) {
        let pieces = pieces::cut(field, template, self.schema, &mut self.problems);
        for id in &pieces.attributes {
            if !self.attributes.contains(id) {
                self.attributes.push(*id);
            }
        }
        for (name, at) in &pieces.cell_names {
            if !self.context.cell.contains_key(name) {
                self.unknown_cell_name(field, template, (name, *at));
            }
        }
        for offset in &pieces.captures {
            let construct = template[*offset..].split_inclusive("%}").next().unwrap_or("").to_owned();
            let (line, _) = line_and_column(template, *offset);
            self.slow.push(SlowRegion { field: field.to_owned(), line, construct });
        }
    }

    fn unknown_cell_name(&mut self, field: &str, template: &str, (name, at): (&str, usize)) {
        let known: Vec<&str> = self.context.cell.keys().map(String::as_str).collect();
        let help = if known.is_empty() {
            "only a campaign of the kind multi_segment has cells".to_owned()
        } else {
            format!("a cell has its name, and its place in each dimension: {}", known.join(", "))
        };
        let message = format!("a cell has no {name:?} here");
        self.problems.at("unknown_name", (field, template, at), message, help);
    }

    fn urls(&self) -> Urls<'a> {
        let (public_url, campaign_name) = (&self.context.public_url, &self.context.campaign_name);
        Urls { public_url, campaign_name, schema: self.schema }
    }

    fn header_part(&mut self, template: &str) -> Part {
        let pieces = pieces::cut("", template, self.schema, &mut Problems::default());
        self.program.add(PartKind::Header, template, &pieces, &[], &self.urls())
    }

    fn header_lines(&mut self, checked: &fields::Checked) -> Vec<HeaderLine> {
        let mut lines = Vec::new();
        let from = self.header_part(&checked.sender.name);
        lines.push(match from.static_text(&self.program.spans) {
            Some(name) => {
                HeaderLine::Static(written(|out| headers::mailbox(out, "From", &name, &checked.sender.address)))
            }
            None => HeaderLine::From { part: from },
        });
        let templates = std::iter::once(("Subject".to_owned(), self.source.subject.clone()));
        let source = self.source;
        let extra = source.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
        for (name, template) in templates.chain(extra) {
            let part = self.header_part(&template);
            lines.push(match part.static_text(&self.program.spans) {
                Some(value) => HeaderLine::Static(written(|out| headers::unstructured(out, &name, &value))),
                None => HeaderLine::Unstructured { name, part },
            });
        }
        lines.push(HeaderLine::Static(checked.static_headers.clone()));
        lines
    }

    /// The HTML with preheader, footer and pixel, and the text with footer.
    #[allow(clippy::type_complexity, reason = "two templates, one of them with its field")]
    fn bodies(
        &mut self,
        html: Option<(String, &'static str)>,
        text: Option<String>,
        language: Language,
    ) -> Option<(Option<(String, &'static str)>, String)> {
        let footer = self.source.footer == Footer::Auto;
        let mut html = html;
        if let Some((html, field)) = &mut html
            && footer
            && !has_unsubscribe(&self.cut(field, html))
        {
            *html = markup::before_body_end(html, &markup::html_footer(language));
        }
        let text = match (text, &html) {
            (Some(mut text), _) => {
                if footer && !has_unsubscribe(&self.cut("text", &text)) {
                    text.push_str(&markup::text_footer(language));
                }
                text
            }
            (None, Some((html, field))) => {
                let pieces = self.cut(field, html);
                html_text::derive(html, &pieces, &links::mask(html, &pieces))
            }
            (None, None) => {
                self.problems.field("no_body", "html", "the message has no body", "give html, mjml or text");
                return None;
            }
        };
        if !guard::check(&self.env, "text", &text, self.schema, &mut self.problems) {
            return None;
        }
        if let Some((html, _)) = &mut html {
            if let Some(preheader) = &self.source.preheader {
                let pieces = pieces::cut("preheader", preheader, self.schema, &mut Problems::default());
                *html = markup::after_body_start(html, &markup::preheader(preheader, &pieces));
            }
            if self.source.track != Track::Off {
                *html = markup::before_body_end(html, markup::PIXEL);
            }
        }
        Some((html, text))
    }

    fn cut(&self, field: &str, template: &str) -> Pieces {
        pieces::cut(field, template, self.schema, &mut Problems::default())
    }

    fn part(&mut self, kind: PartKind, field: &str, template: &str) -> Part {
        let pieces = self.cut(field, template);
        let edits = self.linker.edits(kind, (field, template), &pieces, &mut self.problems);
        let urls = self.urls();
        self.program.add(kind, template, &pieces, &edits, &urls)
    }

    /// Adds the residual template and what it prints; answers the attributes that it names.
    fn finish_env(&mut self) -> Option<Vec<AttributeId>> {
        if self.program.too_many_spans {
            self.problems.field(
                "too_many_pieces",
                "html",
                "the message has too many pieces of text",
                "use fewer expressions",
            );
            return None;
        }
        self.env.add_global("campaign", Value::from_pairs([("name", self.context.campaign_name.as_str())]));
        let cell = self.context.cell.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        self.env.add_global("cell", Value::from_pairs(cell));
        for (i, text) in self.program.captured_texts.iter().enumerate() {
            self.env.add_global(program::captured_name(i), Value::from_safe_string(text.clone()));
        }
        let residual = self.program.residual.clone();
        let attributes = self.cut("residual", &residual).attributes;
        if let Err(error) = self.env.add_template_owned(RESIDUAL, residual) {
            self.problems.field("syntax", "html", error.to_string(), "simplify the blocks of the message");
            return None;
        }
        Some(attributes)
    }
}

fn written(f: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    f(&mut out);
    out
}

fn has_unsubscribe(pieces: &Pieces) -> bool {
    pieces.uses_unsubscribe_text
        || pieces.pieces.iter().any(|p| p.kind == PieceKind::Print(Some(Lone::BuiltIn(BuiltIn::UnsubscribeUrl))))
}
