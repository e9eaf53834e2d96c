//! Tokens to a tree, by recursive descent; the grammar is in the module's documentation.
//!
//! Owns no state. Invariants: PA-1 never panics, whatever the text; PA-2 depth, parts and bytes are bounded by `limits`
//! before anything recurses; PA-3 knows no schema: a word that is followed by an operator is an attribute.

use crate::ids::Channel;
use crate::limits;
use crate::segments::error::{Hint, Problem, SegmentError, Span};
use crate::segments::expression::{Comparison, Expression, Kind, Name, Test, Zone};
use crate::segments::lexer::{Token, tokens};

mod history;
mod operator;

type Parsed<T> = Result<T, SegmentError>;

/// Parses the text of a segment.
pub fn parse(text: &str) -> Result<Expression, SegmentError> {
    if text.len() > limits::SEGMENT_BYTES_MAX {
        let problem = Problem::TooLong { max: limits::SEGMENT_BYTES_MAX };
        return Err(SegmentError::new(Span::default(), problem));
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0, parts: 0 };
    let expression = parser.or()?;
    match parser.peek() {
        Token::End => Ok(expression),
        _ => Err(parser.expected("`and`, `or` or the end")),
    }
}

/// Whether a word cannot be an attribute without backticks.
pub(super) fn is_reserved(word: &str) -> bool {
    ["and", "or", "not", "in"].iter().any(|reserved| word.eq_ignore_ascii_case(reserved))
}

/// Channel and topic of `email:news`.
pub fn channel_topic(text: &str) -> Option<(Channel, &str)> {
    let (channel, topic) = text.split_once(':')?;
    let channel = Channel::from_name(channel)?;
    (!topic.is_empty()).then_some((channel, topic))
}

fn channel_names() -> String {
    Channel::ALL.map(Channel::name).join(", ")
}

struct Parser {
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
    parts: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> &Token {
        self.tokens.get(self.at + ahead).map_or(&Token::End, |(token, _)| token)
    }

    fn span(&self) -> Span {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(Span::default(), |(_, span)| *span)
    }

    /// The span of the token read last.
    fn last_span(&self) -> Span {
        self.at.checked_sub(1).and_then(|i| self.tokens.get(i)).map_or(Span::default(), |(_, span)| *span)
    }

    fn next(&mut self) -> (Token, Span) {
        let token = self.tokens.get(self.at).cloned().unwrap_or((Token::End, self.span()));
        self.at += 1;
        token
    }

    fn is_word_at(&self, ahead: usize, word: &str) -> bool {
        matches!(self.peek_at(ahead), Token::Word(found) if found.eq_ignore_ascii_case(word))
    }

    fn is_symbol_at(&self, ahead: usize, symbol: &str) -> bool {
        matches!(self.peek_at(ahead), Token::Symbol(found) if *found == symbol)
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word_at(0, word);
        self.at += usize::from(found);
        found
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = self.is_symbol_at(0, symbol);
        self.at += usize::from(found);
        found
    }

    fn need_word(&mut self, word: &'static str) -> Parsed<()> {
        if self.take_word(word) { Ok(()) } else { Err(self.expected(format!("`{word}`"))) }
    }

    fn need_symbol(&mut self, symbol: &'static str) -> Parsed<()> {
        if self.take_symbol(symbol) { Ok(()) } else { Err(self.expected(format!("`{symbol}`"))) }
    }

    fn expected(&self, expected: impl Into<String>) -> SegmentError {
        self.expected_with(expected, Hint::none())
    }

    fn expected_with(&self, expected: impl Into<String>, hint: Hint) -> SegmentError {
        let problem = Problem::Expected { expected: expected.into(), found: self.peek().describe(), hint };
        SegmentError::new(self.span(), problem)
    }

    /// Counts one part of the tree.
    fn part(&mut self) -> Parsed<()> {
        self.parts += 1;
        if self.parts > limits::SEGMENT_NODES_MAX {
            return Err(SegmentError::new(self.span(), Problem::TooLarge { max: limits::SEGMENT_NODES_MAX }));
        }
        Ok(())
    }

    fn deeper(&mut self, inner: fn(&mut Parser) -> Parsed<Expression>) -> Parsed<Expression> {
        self.depth += 1;
        if self.depth > limits::SEGMENT_DEPTH_MAX {
            return Err(SegmentError::new(self.span(), Problem::TooDeep { max: limits::SEGMENT_DEPTH_MAX }));
        }
        let expression = inner(self)?;
        self.depth -= 1;
        Ok(expression)
    }

    fn or(&mut self) -> Parsed<Expression> {
        let mut parts = vec![self.and()?];
        while self.take_word("or") {
            self.part()?;
            parts.push(self.and()?);
        }
        Ok(Expression::or(parts))
    }

    fn and(&mut self) -> Parsed<Expression> {
        let mut parts = vec![self.unary()?];
        while self.take_word("and") {
            self.part()?;
            parts.push(self.unary()?);
        }
        Ok(Expression::and(parts))
    }

    fn unary(&mut self) -> Parsed<Expression> {
        let start = self.span();
        if self.take_word("not") {
            self.part()?;
            let inner = self.deeper(Parser::unary)?;
            let span = start.to(inner.span);
            return Ok(Expression::negate(inner, span));
        }
        if self.take_symbol("(") {
            let mut inner = self.deeper(Parser::or)?;
            self.need_symbol(")")?;
            inner.span = start.to(self.last_span());
            return Ok(inner);
        }
        self.part()?;
        match self.keyword()? {
            Some(kind) => Ok(Expression::new(kind, start.to(self.last_span()))),
            None => self.test(start),
        }
    }

    /// A condition that starts with a word of its own; `None` if an attribute is meant.
    fn keyword(&mut self) -> Parsed<Option<Kind>> {
        if self.is_word_at(0, "in") {
            self.at += 1;
            return self.membership().map(Some);
        }
        if self.operator_follows() {
            return Ok(None);
        }
        if let Some(kind) = self.history()? {
            return Ok(Some(kind));
        }
        if let Some(kind) = self.anniversary()? {
            return Ok(Some(kind));
        }
        if self.take_word("every") || self.take_word("all") {
            return Ok(Some(Kind::Every));
        }
        if self.take_word("active") {
            return Ok(Some(Kind::Active));
        }
        if self.is_word_at(0, "subscribed") && self.is_word_at(1, "to") {
            self.at += 2;
            let (channel, topic) = self.topic()?;
            return Ok(Some(Kind::Subscribed { channel, topic }));
        }
        if self.is_word_at(0, "unsubscribed") && self.is_word_at(1, "from") {
            self.at += 2;
            let (channel, topic) = self.topic()?;
            return Ok(Some(Kind::Unsubscribed { channel, topic }));
        }
        if self.is_word_at(0, "reachable") && self.is_word_at(1, "on") {
            self.at += 2;
            return Ok(Some(Kind::Reachable(self.channel()?)));
        }
        if self.take_word("suppressed") {
            let channel = if self.take_word("on") { Some(self.channel()?) } else { None };
            return Ok(Some(Kind::Suppressed(channel)));
        }
        Ok(None)
    }

    fn membership(&mut self) -> Parsed<Kind> {
        if self.take_word("list") {
            return Ok(Kind::InList(self.text("the name of a list in quotes")?));
        }
        if self.take_word("segment") {
            return Ok(Kind::InSegment(self.text("the name of a segment in quotes")?));
        }
        Err(self.expected("`list` or `segment`"))
    }

    /// Whether the token after this one begins an operator, so that this one is an attribute, whatever it says.
    fn operator_follows(&self) -> bool {
        let symbol = Comparison::ALL.iter().any(|c| self.is_symbol_at(1, c.symbol()));
        let word = ["not", "between", "contains", "starts", "ends", "is", "has"].iter().any(|w| self.is_word_at(1, w));
        symbol || word || (self.is_word_at(1, "in") && self.is_symbol_at(2, "("))
    }

    fn text(&mut self, expected: &'static str) -> Parsed<String> {
        self.part()?;
        match self.peek() {
            Token::Text(text) => {
                let text = text.clone();
                self.at += 1;
                Ok(text)
            }
            Token::Word(word) => {
                let hint = Hint::some(format!("write \"{word}\""));
                Err(self.expected_with(expected, hint))
            }
            _ => Err(self.expected(expected)),
        }
    }

    fn topic(&mut self) -> Parsed<(Channel, String)> {
        let text = self.text("a channel and a topic in quotes, as in \"email:news\"")?;
        match channel_topic(&text) {
            Some((channel, topic)) => Ok((channel, topic.to_owned())),
            None => Err(SegmentError::new(self.last_span(), Problem::BadTopic { text, channels: channel_names() })),
        }
    }

    fn channel(&mut self) -> Parsed<Channel> {
        let name = match self.next() {
            (Token::Word(name) | Token::Text(name), _) => name,
            _ => {
                self.at -= 1;
                return Err(self.expected("a channel"));
            }
        };
        Channel::from_name(&name).ok_or_else(|| {
            let hint = Hint::nearest(&name, Channel::ALL.iter().map(|c| c.name()));
            SegmentError::new(self.last_span(), Problem::UnknownChannel { name, hint, channels: channel_names() })
        })
    }

    fn test(&mut self, start: Span) -> Parsed<Expression> {
        let text = match self.peek() {
            Token::Word(word) if !is_reserved(word) => word.clone(),
            Token::Quoted(name) => name.clone(),
            _ => return Err(self.expected("a condition")),
        };
        let attribute = Name { text, span: self.span() };
        self.at += 1;
        let (operator, negated) = self.operator()?;
        let zone_start = self.span();
        let zone = self.zone()?;
        let zone_span = if zone == Zone::Default { Span::default() } else { zone_start.to(self.last_span()) };
        let span = start.to(self.last_span());
        let test = Expression::new(Kind::Test(Test { attribute, operator, zone, zone_span }), span);
        Ok(if negated { Expression::negate(test, span) } else { test })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        let expression = parse(text).unwrap_or_else(|e| panic!("{}", e.render(text)));
        let shown = expression.to_string();
        let again = parse(&shown).unwrap_or_else(|e| panic!("{}", e.render(&shown)));
        assert_eq!(again, expression, "{shown} parses back to an equal tree");
        shown
    }

    #[test]
    fn every_form_parses_and_prints_canonically() {
        let cases = [
            ("country = 'FR'", "country = \"FR\""),
            ("a=1 AND b<=-2.5 Or c", "a = 1 and b <= -2.5 or c = true"),
            ("a = 1 and (b = 2 or not c = 3)", "a = 1 and (b = 2 or not c = 3)"),
            ("(a = 1 and b = 2) and (c = 3)", "a = 1 and b = 2 and c = 3"),
            ("not not a = 1", "a = 1"),
            ("not (a = 1 or b = 2)", "not (a = 1 or b = 2)"),
            ("not a in (1, 2)", "a not in (1, 2)"),
            ("a not between 1 and 2 and b != false", "a not between 1 and 2 and b != false"),
            (
                "n contains \"x\\\"\" or n not starts with 'y' or n ends with 'z'",
                "n contains \"x\\\"\" or n not starts with \"y\" or n ends with \"z\"",
            ),
            ("n is empty or n is not empty", "n is empty or n is not empty"),
            (
                "t has any ('a') and t has all ('a','b') and t not has 'c'",
                "t has \"a\" and t has all (\"a\", \"b\") and t not has \"c\"",
            ),
            ("l < now - 30d", "l < now - 30d"),
            ("l >= today+1mo-2h in zone \"Europe/Paris\"", "l >= today + 1mo - 2h in zone \"Europe/Paris\""),
            (
                "l between 2026-01-31 and 2026-02-01T10:00 in contact zone",
                "l between 2026-01-31 and 2026-02-01T10:00:00 in contact zone",
            ),
            ("l = 2026-01-31T10:00:00+01:00", "l = 2026-01-31T09:00:00Z"),
            (
                "in list \"x\" and not in list \"y\" and in segment \"z\"",
                "in list \"x\" and not in list \"y\" and in segment \"z\"",
            ),
            (
                "subscribed to \"email:news\" and unsubscribed from 'sms:a:b'",
                "subscribed to \"email:news\" and unsubscribed from \"sms:a:b\"",
            ),
            (
                "reachable on email and suppressed or suppressed on sms",
                "reachable on email and suppressed or suppressed on sms",
            ),
            ("every", "every"),
            ("ALL and Active", "every and active"),
            (
                "active = false or all = 3 or subscribed or `or` = 1",
                "active = false or all = 3 or subscribed = true or `or` = 1",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn faults_say_what_was_expected_and_where() {
        let cases = [
            ("", 0, 0, "a condition"),
            ("a =", 3, 3, "a value"),
            ("a == 1", 3, 4, "one `=` compares"),
            ("a = FR", 4, 6, "write \"FR\""),
            ("a = 1 b = 2", 6, 7, "`and`, `or` or the end"),
            ("(a = 1", 6, 6, "`)`"),
            ("a in (1 2)", 8, 9, "`,` or `)`"),
            ("a in ()", 6, 7, "a value"),
            ("a between 1", 11, 11, "`and`"),
            ("a is nothing", 5, 12, "`empty`"),
            ("a not = 1", 6, 7, "`in`"),
            ("in lists \"x\"", 3, 8, "`list` or `segment`"),
            ("subscribed to \"fax:news\"", 14, 24, "email:news"),
            ("reachable on emial", 13, 18, "did you mean \"email\"?"),
            ("a < now - 30", 10, 12, "a span of time"),
            ("a < 30d", 4, 7, "write now - 30d"),
            ("and", 0, 3, "a condition"),
            ("a \"x\"", 2, 5, "an operator"),
        ];
        for (text, start, end, part) in cases {
            let error = parse(text).expect_err(text);
            assert_eq!((error.span.start, error.span.end), (start, end), "{text}: {error}");
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn depth_parts_and_bytes_are_bounded() {
        let nested = |n: usize| format!("{}a = 1{}", "(".repeat(n), ")".repeat(n));
        assert!(parse(&nested(limits::SEGMENT_DEPTH_MAX)).is_ok(), "as deep as allowed");
        let problem = |text: &str| parse(text).expect_err("refused").problem;
        assert_eq!(
            problem(&nested(limits::SEGMENT_DEPTH_MAX + 1)),
            Problem::TooDeep { max: limits::SEGMENT_DEPTH_MAX }
        );
        assert_eq!(problem(&"not ".repeat(16_000)), Problem::TooDeep { max: limits::SEGMENT_DEPTH_MAX });
        let wide = format!("a in (1{})", ",1".repeat(limits::SEGMENT_NODES_MAX));
        assert_eq!(problem(&wide), Problem::TooLarge { max: limits::SEGMENT_NODES_MAX });
        let long = " ".repeat(limits::SEGMENT_BYTES_MAX + 1);
        assert_eq!(problem(&long), Problem::TooLong { max: limits::SEGMENT_BYTES_MAX });
    }
}
