//! The part of a test behind its attribute: operators, values, moments, zones.
//!
//! Owns no state; see the parent module for the invariants.

use super::{Parsed, Parser};
use crate::segments::error::Hint;
use crate::segments::expression::{Anchor, Comparison, Literal, LiteralValue, Moment, Operator, Step, TextMatch, Zone};
use crate::segments::lexer::Token;

impl Parser {
    /// The operator and its values, and whether a `not` stood inside it.
    pub(super) fn operator(&mut self) -> Parsed<(Operator, bool)> {
        if let Some(comparison) = Comparison::ALL.into_iter().find(|c| self.take_symbol(c.symbol())) {
            return Ok((Operator::Compare(comparison, self.value()?), false));
        }
        if self.take_word("is") {
            let negated = self.take_word("not");
            self.need_word("empty")?;
            return Ok((Operator::Empty, negated));
        }
        let negated = self.take_word("not");
        if self.is_word_at(0, "in") && (negated || self.is_symbol_at(1, "(")) {
            self.at += 1;
            return Ok((Operator::In(self.listed(Parser::value)?), negated));
        }
        if !negated && let Some(operator) = self.relative()? {
            return Ok((operator, false));
        }
        if self.take_word("between") {
            let low = self.value()?;
            self.need_word("and")?;
            return Ok((Operator::Between(low, self.value()?), negated));
        }
        if self.take_word("has") {
            return Ok((self.has()?, negated));
        }
        let how = if self.take_word("contains") {
            Some(TextMatch::Contains)
        } else if self.take_word("starts") {
            self.need_word("with")?;
            Some(TextMatch::StartsWith)
        } else if self.take_word("ends") {
            self.need_word("with")?;
            Some(TextMatch::EndsWith)
        } else {
            None
        };
        if let Some(how) = how {
            return Ok((Operator::Match(how, self.text("a text in quotes")?), negated));
        }
        if negated {
            return Err(self.expected("`in`, `between`, `contains`, `starts with`, `ends with` or `has`"));
        }
        let ends = matches!(self.peek(), Token::End | Token::Symbol(")"));
        if ends || self.is_word_at(0, "and") || self.is_word_at(0, "or") {
            let value = Literal { value: LiteralValue::Bool(true), span: self.last_span() };
            return Ok((Operator::Compare(Comparison::Equal, value), false));
        }
        Err(self.expected("an operator (= != < <= > >= in between contains `starts with` `ends with` has `is empty`)"))
    }

    fn has(&mut self) -> Parsed<Operator> {
        let (all, any) = (self.is_word_at(0, "all"), self.is_word_at(0, "any"));
        if !all && !any {
            return Ok(Operator::Has {
                all: false,
                entries: vec![self.text("an entry in quotes, `any (` or `all (`")?],
            });
        }
        self.at += 1;
        let entries = self.listed(|parser| parser.text("an entry in quotes"))?;
        Ok(Operator::Has { all: all && entries.len() > 1, entries })
    }

    /// `( item , item … )`, one item at least.
    fn listed<T>(&mut self, item: fn(&mut Parser) -> Parsed<T>) -> Parsed<Vec<T>> {
        self.need_symbol("(")?;
        let mut items = vec![item(self)?];
        while self.take_symbol(",") {
            items.push(item(self)?);
        }
        if self.take_symbol(")") { Ok(items) } else { Err(self.expected("`,` or `)`")) }
    }

    pub(super) fn zone(&mut self) -> Parsed<Zone> {
        if self.is_word_at(0, "in") && self.is_word_at(1, "contact") {
            self.at += 2;
            self.need_word("zone")?;
            return Ok(Zone::Contact);
        }
        if self.is_word_at(0, "in") && self.is_word_at(1, "zone") {
            self.at += 2;
            return Ok(Zone::Named(self.text("the name of a time zone in quotes")?));
        }
        Ok(Zone::Default)
    }

    fn value(&mut self) -> Parsed<Literal> {
        self.part()?;
        let start = self.span();
        let value = match self.next() {
            (Token::Text(text), _) => LiteralValue::Text(text),
            (Token::Number(number), _) => LiteralValue::Number(number),
            (Token::Symbol("-"), _) => match self.next() {
                (Token::Number(number), _) => LiteralValue::Number(-number),
                _ => {
                    self.at -= 1;
                    return Err(self.expected("a number"));
                }
            },
            (Token::Date(anchor), _) => self.moment(anchor)?,
            (Token::Word(word), _) if word.eq_ignore_ascii_case("now") => self.moment(Anchor::Now)?,
            (Token::Word(word), _) if word.eq_ignore_ascii_case("today") => self.moment(Anchor::Today)?,
            (Token::Word(word), _) if word.eq_ignore_ascii_case("true") => LiteralValue::Bool(true),
            (Token::Word(word), _) if word.eq_ignore_ascii_case("false") => LiteralValue::Bool(false),
            (token, _) => {
                self.at -= 1;
                let hint = match token {
                    Token::Word(word) => Hint::some(format!("write \"{word}\"")),
                    Token::Symbol("=") => Hint::some("one `=` compares"),
                    Token::Duration(count, unit) => Hint::some(format!("write now - {count}{}", unit.suffix())),
                    _ => Hint::none(),
                };
                return Err(self.expected_with("a value", hint));
            }
        };
        Ok(Literal { value, span: start.to(self.last_span()) })
    }

    fn moment(&mut self, anchor: Anchor) -> Parsed<LiteralValue> {
        let mut steps = Vec::new();
        loop {
            let sign = if self.take_symbol("-") {
                -1
            } else if self.take_symbol("+") {
                1
            } else {
                return Ok(LiteralValue::Moment(Moment { anchor, steps }));
            };
            self.part()?;
            let Token::Duration(count, unit) = *self.peek() else {
                return Err(self.expected("a span of time, as in 30d"));
            };
            self.at += 1;
            steps.push(Step { count: count * sign, unit });
        }
    }
}
