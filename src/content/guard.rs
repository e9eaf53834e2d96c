//! Checks of a template before it is compiled: syntax, names of filters, tests and variables, and expressions that could
//! grow without bound.
//!
//! minijinja's fuel bounds instructions, not the memory of one instruction: `set a = a ~ a`, forty times, would need a
//! terabyte. What is printed is counted by the formatter; what is only bound to a name is bounded here, by the number of
//! operators that can grow a value. Owns no state.

use minijinja::machinery::{Token, Tokenizer};
use minijinja::{Environment, ErrorKind};

use crate::contacts::Schema;
use crate::content::env::{FILTERS, FUNCTIONS, TESTS};
use crate::content::pieces::{KNOWN_NAMES, syntax};
use crate::content::problem::{Problems, suggestion};

/// `~ + * [` in tags that bind a value: each can double it, so ten make at most a thousand values' length.
const BINDING_GROWTH_MAX: usize = 10;
/// The same in one tag that only prints.
const PRINT_GROWTH_MAX: usize = 32;

/// Whether the template parses, so that more can be said of it; what is wrong goes to `problems`.
pub(super) fn check(
    env: &Environment<'static>,
    field: &str,
    source: &str,
    schema: &Schema,
    problems: &mut Problems,
) -> bool {
    control_characters(field, source, problems);
    let undeclared = match env.template_from_named_str(field, source) {
        Ok(template) => template.undeclared_variables(false),
        Err(error) => {
            let offset = error.range().map_or_else(|| line_offset(source, error.line()), |r| r.start);
            let what = error.detail().unwrap_or("the template does not parse").to_owned();
            let message = if error.kind() == ErrorKind::SyntaxError { what } else { error.to_string() };
            problems.at(
                "syntax",
                (field, source, offset),
                message,
                "see the place named, and the tag that it belongs to",
            );
            return false;
        }
    };
    let mut growth = Growth::default();
    for (tag, is_block) in tags(source, field) {
        names(field, source, &tag, problems);
        variables(field, source, &tag, &undeclared, schema, problems);
        growth.tag(field, source, &tag, is_block, problems);
    }
    true
}

fn line_offset(source: &str, line: Option<usize>) -> usize {
    let line = line.unwrap_or(1).saturating_sub(1);
    source.split_inclusive('\n').take(line).map(str::len).sum()
}

fn control_characters(field: &str, source: &str, problems: &mut Problems) {
    let control = |c: char| c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r');
    if let Some((offset, c)) = source.char_indices().find(|(_, c)| control(*c)) {
        problems.at(
            "control_character",
            (field, source, offset),
            format!("the control character U+{:04X} cannot be sent", u32::from(c)),
            "remove it",
        );
    }
}

type Tag<'a> = Vec<(Token<'a>, usize)>;

/// The tags of a template, and whether each is a block tag.
fn tags<'a>(source: &'a str, field: &'a str) -> Vec<(Tag<'a>, bool)> {
    let mut tokens = Tokenizer::new(source, field, false, syntax());
    let mut tags = Vec::new();
    while let Ok(Some((token, span))) = tokens.next_token() {
        match token {
            Token::VariableStart => tags.push((Vec::new(), false)),
            Token::BlockStart => tags.push((Vec::new(), true)),
            Token::TemplateData(_) | Token::VariableEnd | Token::BlockEnd => {}
            token => {
                if let Some((tag, _)) = tags.last_mut() {
                    tag.push((token, span.start_offset as usize));
                }
            }
        }
    }
    tags
}

/// Filters and tests must exist: minijinja would say so only when the line is reached.
fn names(field: &str, source: &str, tag: &Tag<'_>, problems: &mut Problems) {
    for (i, (token, offset)) in tag.iter().enumerate() {
        let Token::Ident(name) = token else { continue };
        let previous = i.checked_sub(1).map(|p| &tag[p].0);
        let before = i.checked_sub(2).map(|p| &tag[p].0);
        let is_filter =
            matches!(previous, Some(Token::Pipe)) || i == 1 && matches!(previous, Some(Token::Ident("filter")));
        let is_test = match previous {
            Some(Token::Ident("is")) => *name != "not",
            Some(Token::Ident("not")) => matches!(before, Some(Token::Ident("is"))),
            _ => false,
        };
        let (what, known): (_, &[&str]) = match (is_filter, is_test) {
            (true, _) => ("filter", &FILTERS),
            (_, true) => ("test", &TESTS),
            _ => continue,
        };
        if !known.contains(name) {
            let help = match (suggestion(name, known.iter().copied()), *name) {
                (_, "urlencode") => "values in links are encoded for URLs without it".to_owned(),
                (Some(near), _) => format!("did you mean {near:?}?"),
                (None, _) => format!("there are: {}", known.join(", ")),
            };
            problems.at("unknown_filter", (field, source, *offset), format!("there is no {what} {name:?}"), help);
        }
    }
}

/// Names that nothing binds: a forgotten `contact.`, most often.
fn variables(
    field: &str,
    source: &str,
    tag: &Tag<'_>,
    undeclared: &std::collections::HashSet<String>,
    schema: &Schema,
    problems: &mut Problems,
) {
    for (i, (token, offset)) in tag.iter().enumerate() {
        let Token::Ident(name) = token else { continue };
        let is_member = i > 0 && matches!(tag[i - 1].0, Token::Dot | Token::Pipe);
        let known = KNOWN_NAMES.contains(name) || FUNCTIONS.contains(name) || *name == "estafette_open_url";
        if is_member || known || !undeclared.contains(*name) {
            continue;
        }
        let help = match suggestion(name, schema.attributes().iter().map(|a| a.name.as_str())) {
            Some(near) => format!("did you mean contact.{near}?"),
            None => format!("attributes are written contact.name; else there are {}", KNOWN_NAMES.join(", ")),
        };
        problems.at("unknown_name", (field, source, *offset), format!("{name:?} is not defined"), help);
    }
}

#[derive(Default)]
struct Growth {
    binding: usize,
    has_macro: bool,
}

impl Growth {
    fn tag(&mut self, field: &str, source: &str, tag: &Tag<'_>, is_block: bool, problems: &mut Problems) {
        let keyword = match tag.first() {
            Some((Token::Ident(keyword), _)) if is_block => *keyword,
            _ => "",
        };
        self.has_macro |= matches!(keyword, "macro" | "call");
        let mut operators = 0;
        let mut calls = false;
        for (i, (token, _)) in tag.iter().enumerate() {
            let after_value = i > 0
                && matches!(tag[i - 1].0, Token::Ident(_) | Token::ParenClose | Token::BracketClose | Token::Str(_));
            let after_pipe = i > 1 && matches!(tag[i - 2].0, Token::Pipe | Token::Ident("is"));
            match token {
                Token::Tilde | Token::Plus | Token::Mul | Token::Pow => operators += 1,
                Token::BracketOpen if !after_value => operators += 1,
                Token::ParenOpen if after_value && !after_pipe => {
                    calls |= !matches!(
                        tag[i - 1].0,
                        Token::Ident("range" | "in" | "and" | "or" | "not" | "if" | "else" | "elif")
                    );
                }
                _ => {}
            }
        }
        let offset = tag.first().map_or(0, |t| t.1);
        let binds = matches!(keyword, "set" | "with" | "for" | "macro" | "call" | "filter" | "do") || calls;
        if binds {
            self.binding += operators;
        }
        let limit = if self.has_macro { 0 } else { BINDING_GROWTH_MAX };
        if binds && operators > 0 && self.binding > limit || operators > PRINT_GROWTH_MAX {
            problems.at(
                "expression_too_large",
                (field, source, offset),
                "values are put together by too many operators (~ + * and lists) here",
                "print the parts one after the other instead; in a message with macros, pass values as they are",
            );
        }
    }
}
